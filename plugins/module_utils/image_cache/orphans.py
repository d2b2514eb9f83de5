# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the directories hold that belong to no known instance, so that an operator can decide. Nothing is removed."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from typing import NamedTuple

from .disk_references import is_disk_name
from .files import DIRECTORY_FLAGS
from .plan import Plan, Usage
from .settings import Settings
from .snapshot import Snapshot

__all__ = ["Orphan", "inspect_orphans"]

_MOST_DIRECTORIES = 1000
_MOST_ENTRIES = 1000
_MOST_LEVELS = 3
# nova renames a directory so before it resizes, or migrates, or deletes (``nova/virt/libvirt/driver.py``).
_RESIZE = "_resize"
_DELETE = "_del"
_LOOK_FOR_SERVER = "Look for the server (openstack server show)."
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Orphan(NamedTuple):
    """A directory that holds disks and belongs to no known instance.

    :param allocated_bytes: the space that its files take; None where that is not known.
    :param newest_mtime: when one of them was last written, in unix seconds; None where that is not known.
    :param disks: how many disks it holds; None where that is not known.
    :param backed_by: the cache files that the disks need, sorted.
    :param why: why it counts as an orphan, and where to look.
    """

    directory: str
    allocated_bytes: int | None
    newest_mtime: float | None
    disks: int | None
    backed_by: tuple[str, ...]
    why: str


class _Contents(NamedTuple):
    allocated_bytes: int | None = None
    newest_mtime: float | None = None
    disks: int | None = None


def inspect_orphans(snapshot: Snapshot, plan: Plan, settings: Settings) -> tuple[Orphan, ...]:
    """Look at what the orphans of a plan hold.

    A directory that is a link, one that cannot be read, and those after the first thousand are not looked into. Where
    instances of hosts that share the storage are unknown, most orphans are theirs, and none is looked into.

    :return: the orphans: the one that takes the most space first, else by name.
    """
    orphans = plan.usage.orphans
    is_shared = snapshot.storage is not None and snapshot.storage.shared
    most = 0 if is_shared and not plan.instances.hosts.issuperset(plan.users) else _MOST_DIRECTORIES
    backed_by: dict[str, list[str]] = {}
    for name, directories in sorted(snapshot.backing.items()):
        for directory in orphans.intersection(directories):
            backed_by.setdefault(directory, []).append(name)
    found = []
    for number, directory in enumerate(sorted(orphans)):
        contents = _Contents()
        if number < most:
            with suppress(OSError):
                contents = _look_into(f"{settings.instances_path}/{directory}")
        found.append(Orphan(directory, *contents, tuple(backed_by.get(directory, ())), _why(directory, plan.usage)))
    return tuple(sorted(found, key=lambda orphan: (-(orphan.allocated_bytes or 0), orphan.directory)))


def _look_into(path: str) -> _Contents:
    directory = os.open(path, DIRECTORY_FLAGS)
    try:
        tally = _Tally(os.fstat(directory).st_dev)
        tally.add(directory)
        newest_mtime = None if tally.newest_ns is None else tally.newest_ns / 1_000_000_000
        return _Contents(tally.allocated_bytes, newest_mtime, tally.disks)
    finally:
        os.close(directory)


class _Tally:
    """Sums up the files of a directory, and of the folders in it, which lie on the same file system."""

    def __init__(self, device: int) -> None:
        self.allocated_bytes = 0
        self.newest_ns: int | None = None
        self.disks = 0
        self._device = device
        self._entries_left = _MOST_ENTRIES

    def add(self, directory: int, levels: int = _MOST_LEVELS) -> None:
        with os.scandir(directory) as entries:
            for entry in entries:
                if self._entries_left == 0:
                    return
                self._entries_left -= 1
                with suppress(OSError):  # it is gone meanwhile, or another user's folder
                    self._add_entry(entry, directory, levels)

    def _add_entry(self, entry: os.DirEntry[str], directory: int, levels: int) -> None:
        if levels == _MOST_LEVELS and is_disk_name(entry.name):
            self.disks += 1
        status = entry.stat(follow_symlinks=False)
        if status.st_dev != self._device:
            return
        if stat.S_ISREG(status.st_mode):
            self.allocated_bytes += status.st_blocks * 512
            self.newest_ns = max(self.newest_ns or 0, status.st_mtime_ns)
        elif stat.S_ISDIR(status.st_mode) and levels > 1:
            folder = os.open(entry.name, DIRECTORY_FLAGS, dir_fd=directory)
            try:
                self.add(folder, levels - 1)
            finally:
                os.close(folder)


def _why(directory: str, usage: Usage) -> str:
    if directory.endswith(_DELETE):
        return f"nova renamed this directory to delete it, and has not finished. {_LOOK_FOR_SERVER}"
    if directory.endswith(_RESIZE):
        if directory[: -len(_RESIZE)] in usage.owners:
            return (
                "A resize or a migration left this directory behind: the instance is known, and not being resized. See "
                "the server's events (openstack server event list)."
            )
        return f"A resize or a migration made this directory, and no source lists the instance. {_LOOK_FOR_SERVER}"
    if _UUID.fullmatch(directory):
        return f"No source lists an instance of this UUID. {_LOOK_FOR_SERVER}"
    return "No source lists an instance of this name. Look for the domain (virsh list --all)."
