# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The containers that Molecule's scenarios run on, each with a disk of its own and in a network with the others."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha512
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.stackops.nova.tests.support.compute_fleet import ComputeFleet
from ansible_collections.stackops.nova.tests.support.monitoring import wait_until

__all__ = [
    "CA_CERT",
    "INSTANCES",
    "NOVA",
    "Changes",
    "Container",
    "Containers",
    "containers",
    "exchange_ssh_keys",
    "whole",
]

NOVA = 64060
"""The user and the group that the files of nova belong to."""
INSTANCES = "/var/lib/nova/instances"
"""Where a container has its disk."""
CachedFile = tuple[str, int, int, int]
"""Of a file its sha512, owner, group and mode."""
CA_CERT = "/etc/ssl/glance.pem"
"""Where a container has the certificate of Glance."""

# The links that pytest-ansible makes lead nowhere in a container.
_ROOT = Path(__file__).resolve().parents[2]
_MOLECULE = _ROOT / "extensions/molecule"
_BEFORE = "/tmp/before"
_LIST_FILES = "python3 -B /collection/extensions/molecule/files.py"
_SSH_FOLDER = "/var/lib/nova/.ssh"
_HOST_KEY = "/etc/ssh/key_for_others"
_SSHD_PROCESS = "/run/sshd_for_others.pid"


@dataclass(frozen=True)
class Changes:
    """How the files of a container differ from what they were: all but the kernel's and the connection's.

    :ivar gone: the paths that were there.
    :ivar new: the paths that were not there.
    :ivar changed: the paths with other content, owner or mode.
    :ivar touched: the paths with other times alone.
    """

    gone: list[str]
    new: list[str]
    changed: list[str]
    touched: list[str]


class Container:
    """A compute host.

    :ivar address: its address in the network.
    :ivar cache_path: its cache, as this machine sees it, also while the container is down.
    """

    def __init__(self, name: str, address: str, podman: str, storage: Path) -> None:
        self.name = name
        self.address = address
        self.cache_path = storage / "_base"
        self._podman = podman.split()
        self._storage = storage

    def reset(self) -> None:
        """Make it a host without instances, on which nothing runs."""
        self._call("restart", "--time=0", self.name)
        for path in self._storage.iterdir():
            if path.name != "lost+found":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in (self._storage, self.cache_path, self._storage / "locks"):
            path.mkdir(exist_ok=True)
            os.chown(path, NOVA, NOVA)

    def run(self, *command: str, user: str = "root") -> str:
        """Run a command in it; return its output."""
        return self._call("exec", f"--user={user}", self.name, *command)

    def bring(self, path: Path, target: str) -> None:
        """Copy a file into it, to a path."""
        self._call("cp", str(path), f"{self.name}:{target}")

    def kill(self) -> None:
        """Kill all of its processes at once."""
        self._call("kill", self.name)

    def start(self) -> None:
        """Start it, with all files that it had."""
        self._call("start", self.name)

    def remember_files(self) -> None:
        """Note all of its files, for :meth:`changes`."""
        self.run("sh", "-c", f"{_LIST_FILES} >{_BEFORE}")

    def changes(self) -> Changes:
        """Return how its files differ from what was noted."""
        return Changes(**json.loads(self.run("sh", "-c", f"{_LIST_FILES} {_BEFORE}")))

    def cached(self) -> set[str]:
        """The names in its cache, but for the facts that are saved of the files."""
        return {path.name for path in self.cache_path.iterdir() if path.suffix != ".info"}

    def content(self) -> dict[str, CachedFile]:
        """What its cache has, byte for byte. A file that is half done is another one."""
        found = {}
        for name in self.cached():
            path = self.cache_path / name
            status = path.stat()
            digest = sha512(path.read_bytes()).hexdigest()
            found[name] = (digest, status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
        return found

    def nameless_bytes(self) -> int:
        """How much of its disk is taken by all but the files that have a name: folders, and files that are deleted."""
        subprocess.run(["sync", "--file-system", self._storage], check=True)
        status = os.statvfs(self._storage)
        files = [path.stat() for path in self._storage.rglob("*")]
        named = sum(file.st_blocks * 512 for file in files if stat.S_ISREG(file.st_mode))
        return (status.f_blocks - status.f_bfree) * status.f_frsize - named

    def start_sshd(self, instead: str = "") -> None:
        """Let others log in that have a key of the user nova.

        :param instead: a script that is run whatever they ask for; empty to do what they ask for.
        """
        forced = [f"-oForceCommand={instead}"] if instead else []
        self.run("/usr/sbin/sshd", "-f", "/dev/null", "-h", _HOST_KEY, f"-oPidFile={_SSHD_PROCESS}", *forced)

    def stop_sshd(self) -> None:
        """Let nobody log in as nova any more, and end the sessions of those that have."""
        self.run("sh", "-c", f"kill $(cat {_SSHD_PROCESS}) && pkill -KILL -u nova")

    def add_disk(self, path: str, base: str) -> None:
        """Make a disk of a server, at a path below that of the instances, which is built on a raw file of the cache."""
        disk = f"{INSTANCES}/{path}"
        self.run("mkdir", "-p", str(Path(disk).parent), user="nova")
        backing = f"{INSTANCES}/_base/{base}"
        self.run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", backing, disk, user="nova")

    def start_guest(self, path: str) -> None:
        """Have QEMU open a disk, as a user of its own, to whom libvirt gives it."""
        disk = f"{INSTANCES}/{path}"
        self.run("chown", "libvirt-qemu", disk)
        how = ["--fork", "--persistent", "--socket=/tmp/guest", "--pid-file=/tmp/guest.pid", "--format=qcow2"]
        self.run("qemu-nbd", *how, disk, user="libvirt-qemu")

    def fill_disk(self) -> Path:
        """Have another process take all that is free; return the file that it wrote."""
        self.run("sh", "-c", f"! cat /dev/zero >{INSTANCES}/filling 2>/dev/null")
        return self._storage / "filling"

    def wait_until_writing(self, size: int) -> None:
        """Wait until a process has a file of so many bytes open on its disk."""
        wait_until(lambda: any(map(size.__le__, self._open_sizes())), f"a write on {self.name}", seconds=120)

    def _open_sizes(self) -> list[int]:
        device, found = self._storage.stat().st_dev, []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                files = [link.stat() for link in (process / "fd").iterdir()]
            except OSError:
                continue  # it ended, or closed one
            found += [file.st_blocks * 512 for file in files if file.st_dev == device]
        return found

    def _call(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._podman, *arguments], capture_output=True, check=False, env=_environment(), text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@dataclass(frozen=True)
class Containers:
    """The containers, and how a controller reaches them.

    :ivar hosts: the containers.
    :ivar address: this machine's address in their network.
    :ivar variables: those of an inventory.
    :ivar environment: what ``ansible-playbook`` needs.
    """

    hosts: list[Container]
    address: str
    variables: dict[str, Any]
    environment: dict[str, str]

    def add_to(self, fleet: ComputeFleet) -> None:
        """Make them the hosts of a fleet, which trust the certificate that was brought to each."""
        fleet.hosts = {host.name: {} for host in self.hosts}
        fleet.variables |= {**self.variables, "image_cache_glance_ca_cert": CA_CERT}
        fleet.environment |= self.environment


def whole(content: Mapping[str, bytes]) -> dict[str, CachedFile]:
    """What a cache with nothing but these files, by their names, has under the names that nova reads."""
    return {name: (sha512(data).hexdigest(), NOVA, NOVA, 0o644) for name, data in content.items()}


def exchange_ssh_keys(hosts: Sequence[Container], folder: Path) -> None:
    """Let the user nova of each host log in to each, as operators do for resizes.

    :param folder: an empty folder.
    """
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "id_ed25519")], check=True)
    (folder / "id_ed25519.pub").rename(folder / "authorized_keys")
    make_key = f"usermod --password '*' nova && ssh-keygen -q -t ed25519 -N '' -f {_HOST_KEY} && cat {_HOST_KEY}.pub"
    known = [f"{host.address} {host.run('sh', '-ec', make_key)}" for host in hosts]
    (folder / "known_hosts").write_text("".join(known))
    for host in hosts:
        host.bring(folder, _SSH_FOLDER)
        host.run("sh", "-ec", f"chown -R nova:nova {_SSH_FOLDER} && chmod -R go= {_SSH_FOLDER}")


@contextmanager
def containers(root: Path, number: int) -> Iterator[Containers]:
    """Run so many containers for as long as they are needed.

    :param root: an empty folder.
    """
    description = root / "description.json"
    names = [f"compute-{index + 1}" for index in range(number)]
    try:
        _play("tests/glance/create.yml", description=str(description), names=names)
        made = json.loads(description.read_text())
        group = yaml.safe_load((_MOLECULE / "inventory/group_vars/compute.yml").read_text())
        yield Containers(
            [
                Container(name, made["addresses"][name], made["podman"], Path(made["work"]) / "instances" / name)
                for name in names
            ],
            made["address"],
            {
                **{name: value for name, value in group.items() if name.startswith("ansible_")},
                **{name: made[name] for name in ("podman", "work")},
                "ansible_become": True,
                "ansible_connection": "ssh",
                "ansible_host_key_checking": False,
                "ansible_pipelining": True,
            },
            {"CONTAINERS_CONF": _environment()["CONTAINERS_CONF"]},
        )
    finally:
        _play("extensions/molecule/default/destroy.yml")


def _play(playbook: str, **variables: Any) -> None:
    command = ["ansible-playbook", _ROOT / playbook, "--inventory", _MOLECULE / "inventory"]
    done = subprocess.run(
        [*command, "--extra-vars", json.dumps(variables)],
        capture_output=True,
        check=False,
        env=_environment(),
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _environment() -> dict[str, str]:
    return {**os.environ, "CONTAINERS_CONF": str(_MOLECULE / "containers.conf")}
