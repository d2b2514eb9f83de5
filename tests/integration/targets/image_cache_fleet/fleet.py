# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet of hosts on this machine, each with a tree of its own or a shared one, and what its operator does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.stackops.nova.tools.cache_tree import CacheTree, fingerprint

DAY = 86400
# A connection that cannot make its temporary directory is an unreachable host.
UNREACHABLE = {"ansible_remote_tmp": "/dev/null/nowhere"}

_FATAL = re.compile(r"^fatal: \[([\w-]+)\]: (?:FAILED|UNREACHABLE)! => (.*)$", re.MULTILINE)
_RECAP = re.compile(r"^([\w-]+) +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", re.MULTILINE)


class Run(NamedTuple):
    """What a play did: the hosts that changed, failed and were unreachable, and the messages of those that failed."""

    status: int
    changed: set[str]
    failed: set[str]
    unreachable: set[str]
    messages: dict[str, str]
    output: str


class Fleet:
    """Compute hosts, each with an unused image in its cache, and one that an instance of it uses."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment: dict[str, str] = {}
        self.hosts: dict[str, dict[str, Any]] = {}
        self.groups: dict[str, list[str]] = {}

    def add(self, name: str, tree: CacheTree | None = None, **variables: Any) -> CacheTree:
        """A host with a tree of its own, or with the instances of another one and a libvirt of its own."""
        own = CacheTree(self.root / name)
        shared = tree or own
        # Libvirt alone knows of it: there is no disk that would tell a neighbour.
        own.domain_xml(f"uuid-{name}", f"instance-{name}", f"image-{name}")
        shared.base(fingerprint(f"image-{name}"), age=3 * DAY, content=b"used")
        shared.base(fingerprint(f"unused-{name}"), age=3 * DAY, content=b"unused")
        self.hosts[name] = {
            "image_cache_instances_path": str(shared.instances_path),
            "image_cache_libvirt_config_path": str(own.libvirt_path),
            "image_cache_host": f"nova-{name}",
            **variables,
        }
        return shared

    def share(self, *names: str) -> None:
        self.groups[f"sharing_{names[0]}"] = list(names)

    def run(self, *arguments: str, play: dict[str, Any] | None = None, **variables: Any) -> Run:
        """Run the prune on all of them, or a play of one's own with the role."""
        inventory = self.root / "hosts.json"
        groups = {
            group: {"hosts": dict.fromkeys(names), "vars": {"image_cache_storage_group": group}}
            for group, names in self.groups.items()
        }
        everywhere = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        compute = {"compute": {"hosts": self.hosts, "vars": everywhere}}
        inventory.write_text(json.dumps({"all": {"children": {**compute, **groups}}}))
        playbook = "stackops.nova.prune"
        if play is not None:
            playbook = str(self.root / "play.json")
            role = {"role": "stackops.nova.image_cache", "vars": {"image_cache_prune": True}}
            whole = {"hosts": "compute", "gather_facts": False, "roles": [role], **play}
            Path(playbook).write_text(json.dumps([whole]))
        command = [playbook, "--inventory", str(inventory), "--extra-vars", json.dumps(variables), *arguments]
        done = subprocess.run(
            ["ansible-playbook", *command],
            capture_output=True,
            check=False,
            encoding="utf-8",
            env={
                **os.environ,
                "ANSIBLE_HOME": str(self.root / "home"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_STDOUT_CALLBACK": "default",
                **self.environment,
            },
        )
        recap = {name: [int(number) for number in numbers] for name, *numbers in _RECAP.findall(done.stdout)}
        return Run(
            done.returncode,
            *({name for name, numbers in recap.items() if numbers[column]} for column in (0, 2, 1)),
            {name: json.loads(result)["msg"] for name, result in _FATAL.findall(done.stdout)},
            done.stdout + done.stderr,
        )


def cached(tree: CacheTree) -> set[str]:
    return {path.name for path in tree.cache_path.iterdir()}


def names(*images: str) -> set[str]:
    return {fingerprint(image) for image in images}


def picture(root: Path) -> dict[str, tuple[int, ...]]:
    """All that is under a directory, with everything by which a write could be told."""
    found = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        found[str(path)] = (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return found
