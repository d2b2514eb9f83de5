# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compute hosts that have processes, mounts and a name of their own, as containers have, on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from ansible_collections.stackops.nova.tests.support.compute_fleet import ComputeFleet
from ansible_collections.stackops.nova.tests.support.monitoring import wait_until
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree

__all__ = ["NOVA", "Machine"]

NOVA = 64060
"""The user and the group that the files of nova belong to."""

_NAMESPACES = ("--mount", "--pid", "--uts")
# Gets the host's name, and the directory of instances. The first process of a host is the one that it ends with.
_BOOT = """
hostname "$1"
mount -t tmpfs -o mode=755 tmpfs /var/lib
mkdir -p /var/lib/nova/instances
mount --bind "$2" /var/lib/nova/instances
echo up
exec sleep infinity
"""
# Ansible starts each module with it.
_INTERPRETER = '#!/bin/sh\nexec nsenter --target {process} {namespaces} {python} "$@"\n'


class Machine:
    """A host of a fleet, with nova's directory at its usual place.

    :ivar tree: what is in that directory, as everybody sees it.
    """

    def __init__(self, fleet: ComputeFleet, name: str) -> None:
        self.tree = CacheTree(fleet.root / name)
        for path in (self.tree.instances_path, self.tree.cache_path, self.tree.locks_path):
            os.chown(path, NOVA, NOVA)
        self._name = name
        self._interpreter = fleet.root / f"python-{name}"
        fleet.hosts[name] = {"ansible_python_interpreter": str(self._interpreter)}

    def start(self) -> None:
        """Start it, with the files of nova that it had."""
        unshare = ["unshare", *_NAMESPACES, "--mount-proc", "--fork", "--kill-child"]
        boot = ["sh", "-euc", _BOOT, "sh", self._name, str(self.tree.instances_path)]
        self._process = subprocess.Popen([*unshare, *boot], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "up\n"
        number = self._process.pid
        [self._first] = map(int, Path(f"/proc/{number}/task/{number}/children").read_text().split())
        self._interpreter.write_text(
            _INTERPRETER.format(process=self._first, namespaces=" ".join(_NAMESPACES), python=sys.executable)
        )
        self._interpreter.chmod(0o755)

    def kill(self) -> None:
        """Kill all of its processes at once."""
        if self._process.poll() is None:
            os.kill(self._first, signal.SIGKILL)
        self._process.communicate()

    def wait_until_writing(self, size: int) -> None:
        """Wait until one of its processes has so many bytes in a file of the cache that has no name yet."""
        wait_until(lambda: any(map(size.__le__, self._unnamed_sizes())), "a write", seconds=120)

    def _unnamed_sizes(self) -> list[int]:
        own, found = os.readlink(f"/proc/{self._first}/ns/pid"), []
        device = self.tree.cache_path.stat().st_dev
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(process / "ns/pid") == own:
                    files = [link.stat() for link in (process / "fd").iterdir()]
                    found += [file.st_blocks * 512 for file in files if (file.st_dev, file.st_nlink) == (device, 0)]
            except OSError:
                continue  # it ended, or closed one
        return found
