# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet of compute hosts on this machine, each with a real tree, and the plays that its operator runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from ansible_collections.stackops.nova.tools.cache_tree import CacheTree, fingerprint

__all__ = ["DAY", "FAILING", "UNREACHABLE", "ComputeFleet", "Run", "cached", "names", "picture", "role"]

DAY = 86400
# A connection that cannot make its temporary directory is that of an unreachable host.
UNREACHABLE = {"ansible_remote_tmp": "/dev/null/nowhere"}
FAILING = {"image_cache_instances_path": "/no/such/path"}
LOOK = "Look at the image cache"
DECIDE = "Decide for the fleet"
PRUNE = "Prune the image cache"
REPORT = "Report on the image cache"

_ROLE = "stackops.nova.image_cache"
_COLLECTIONS = Path(__file__).parents[4]
_TIME_LIMIT = 600
# Settings of the user who runs the tests, which must not matter.
_SETTINGS = ("ANSIBLE_", "OS_", "PYTHON")


@dataclass(frozen=True)
class Run:
    """What a playbook did.

    :param status: the status of ``ansible-playbook``.
    :param output: all that it showed.
    :param results: each result of a task: ``status``, ``host``, ``task``, ``result``.
    :param recap: the numbers at the end, by host.
    """

    status: int
    output: str
    results: Sequence[Mapping[str, Any]]
    recap: Mapping[str, Mapping[str, int]]

    @property
    def changed(self) -> set[str]:
        """The hosts with a change."""
        return self._with("changed")

    @property
    def failed(self) -> set[str]:
        """The hosts with a failure, also one that was rescued or ignored."""
        return self._with("failures") | {one["host"] for one in self.results if one["status"] == "ignored"}

    @property
    def unreachable(self) -> set[str]:
        """The hosts that were not reached."""
        return self._with("unreachable")

    @property
    def messages(self) -> dict[str, str]:
        """What each host that failed or was not reached said, in order."""
        found: dict[str, list[str]] = {}
        for one in self.results:
            if one["status"] in ("failed", "ignored", "unreachable"):
                found.setdefault(one["host"], []).append(str(one["result"].get("msg")))
        return {host: "\n".join(texts) for host, texts in found.items()}

    @property
    def text(self) -> str:
        """What the report shows, of the last one."""
        return "\n".join(self.reported.get("text", ()))

    @property
    def shown(self) -> set[str]:
        """What the table on the screen of a fleet shows: each storage's pruner, and in parentheses what is special."""
        lines = iter(self.reported.get("text", ()))
        if not any(line.endswith("HOST") for line in lines):
            return set()
        return {line[40:] for line in takewhile(bool, lines)}

    @property
    def reported(self) -> Mapping[str, Any]:
        """The result of the last report; empty without one."""
        return next((one["result"] for one in reversed(self.results) if one["task"].endswith(REPORT)), {})

    def of(self, task: str) -> dict[str, Mapping[str, Any]]:
        """Return the last result of a task by host."""
        return {one["host"]: one["result"] for one in self.results if one["task"].endswith(task)}

    def _with(self, number: str) -> set[str]:
        return {host for host, numbers in self.recap.items() if numbers[number]}


class ComputeFleet:
    """Compute hosts, each with an unused image in its cache, and one that an instance of it uses.

    :ivar hosts: the variables of each host in the inventory.
    :ivar groups: the hosts of each storage group; its name is their ``image_cache_storage_group``.
    :ivar variables: the inventory's variables of all hosts.
    :ivar environment: what the environment of ``ansible-playbook`` has besides.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment: dict[str, str] = {}
        self.hosts: dict[str, dict[str, Any]] = {}
        self.groups: dict[str, list[str]] = {}
        self.variables: dict[str, Any] = {}

    def add(self, name: str, tree: CacheTree | None = None, **variables: Any) -> CacheTree:
        """Add a host with a tree of its own, or with the instances of another one and a libvirt of its own."""
        own = CacheTree(self.root / name)
        shared = tree or own
        # Libvirt alone knows of it: there is no disk that another host sees.
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

    def add_name(self, name: str, of: str, **variables: Any) -> None:
        """Add another name of a machine that the inventory has already."""
        self.hosts[name] = {**self.hosts[of], **variables}

    def add_pair(self, one: str, other: str) -> CacheTree:
        """Add two hosts that share a storage, and say so."""
        tree = self.add(one)
        self.add(other, tree)
        self.share(one, other)
        return tree

    def share(self, *hosts: str) -> None:
        self.groups[f"sharing_{hosts[0]}"] = list(hosts)

    def cached(self, host: str) -> set[str]:
        """Return what is in the cache of a host with a tree of its own."""
        return cached(CacheTree(self.root / host))

    def prune(self, *arguments: str, **variables: Any) -> Run:
        """Run the collection's playbook that prunes, with extra variables."""
        return self.run_playbook("stackops.nova.prune", *arguments, **variables)

    def audit(self, *arguments: str, **variables: Any) -> Run:
        """Run the collection's playbook that looks only, with extra variables."""
        return self.run_playbook("stackops.nova.audit", *arguments, **variables)

    def restore(self, *arguments: str, **variables: Any) -> Run:
        """Run the collection's playbook that restores base files, with extra variables."""
        return self.run_playbook("stackops.nova.restore", *arguments, **variables)

    def play(self, play: Mapping[str, Any] | Sequence[Mapping[str, Any]], *arguments: str, **variables: Any) -> Run:
        """Run a play of one's own, or several. What is not given is as in the collection's playbooks."""
        plays = [play] if isinstance(play, Mapping) else play
        path = self.root / "play.json"
        default = {"hosts": "compute", "gather_facts": False}
        path.write_text(json.dumps([{**default, **one} for one in plays]))
        return self.run_playbook(str(path), *arguments, **variables)

    def run_playbook(self, playbook: str, *arguments: str, answers: str = "", **variables: Any) -> Run:
        """Run a playbook on this fleet.

        :param playbook: its name or path.
        :param arguments: more arguments of ``ansible-playbook``.
        :param answers: what the operator types, as with ``--step``.
        :param variables: extra variables.
        """
        # Each run has a record of its own, so that a fixture can search all of them.
        inventory, record = self.write_inventory(), self.root / f"record-{uuid.uuid4().hex}.json"
        extra = ["--extra-vars", json.dumps(variables)] if variables else []
        done = subprocess.run(
            ["ansible-playbook", playbook, "--inventory", str(inventory), "--forks", self._forks, *extra, *arguments],
            capture_output=True,
            check=False,
            cwd=self.root,
            encoding="utf-8",
            input=answers,
            timeout=_TIME_LIMIT,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)},
                "ANSIBLE_COLLECTIONS_PATH": str(_COLLECTIONS),
                "ANSIBLE_HOME": str(self.root / "home"),
                "ANSIBLE_LOCAL_TEMP": str(self.root / "home" / "tmp"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_RETRY_FILES_ENABLED": "0",
                "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callbacks"),
                "ANSIBLE_CALLBACKS_ENABLED": "recorder",
                "RECORDER_FILE": str(record),
                "LC_ALL": "C.UTF-8",
                **self.environment,
            },
        )
        recorded = json.loads(record.read_text()) if record.exists() else {"results": [], "recap": {}}
        return Run(done.returncode, done.stdout + done.stderr, recorded["results"], recorded["recap"])

    def write_inventory(self) -> Path:
        """Write the inventory as it is now, and return its path."""
        path = self.root / "hosts.json"
        path.write_text(json.dumps(self._inventory()))
        return path

    @property
    def _forks(self) -> str:
        """One where hosts share a storage: their machine is one, and sees which files the other one's look has open."""
        paths = [variables.get("image_cache_instances_path") for variables in self.hosts.values()]
        return "1" if len(set(paths)) < len(paths) else "3"

    def _inventory(self) -> dict[str, Any]:
        everywhere = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "ansible_become": False,
            "ansible_remote_tmp": str(self.root / "remote_tmp"),
            **self.variables,
        }
        groups = {
            group: {"hosts": dict.fromkeys(hosts), "vars": {"image_cache_storage_group": group}}
            for group, hosts in self.groups.items()
        }
        return {"all": {"children": {"compute": {"hosts": self.hosts, "vars": everywhere}, **groups}}}


def role(entry_point: str = "main", how: str = "import_role", **keywords: Any) -> dict[str, Any]:
    """Return a task that runs the role.

    :param entry_point: the tasks that it begins with.
    :param how: ``import_role`` or ``include_role``.
    :param keywords: what the task has besides.
    """
    return {"name": "Role", f"ansible.builtin.{how}": {"name": _ROLE, "tasks_from": entry_point}, **keywords}


def cached(tree: CacheTree) -> set[str]:
    return {path.name for path in tree.cache_path.iterdir()}


def names(*images: str) -> set[str]:
    return {fingerprint(image) for image in images}


def picture(root: Path) -> dict[str, tuple[int, ...]]:
    """Return all that is under a directory, with everything that a write would change."""
    found = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        found[str(path)] = (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return found
