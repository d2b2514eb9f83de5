# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A restored file gets its name, under nova's lock, and its checksum is saved; the former file is set aside."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Callable, Mapping, NamedTuple

from ..disk_references import DiskUse
from ..errors import ImageCacheError, RefusalError
from ..files import FILE_FLAGS
from ..inspection import Inspection
from ..names import Kind, parse_name, set_aside_name, set_aside_of
from ..text import some_names
from .candidates import Candidate, labels
from .novas_lock import hold_novas_lock
from .place import Draft, exchange, is_same_content, publish
from .saving import checksum_facts, save_facts

__all__ = ["Placer", "SetAside"]


class SetAside(NamedTuple):
    """What has the name ``set_aside_as`` now: a former base file, or a copy of one that guests have open."""

    name: str
    set_aside_as: str
    instances: tuple[str, ...]
    size_bytes: int
    allocated_bytes: int


class Placer:
    """Gives restored files of one cache their names, and takes note of what was set aside.

    :param inspection: the pass.
    :param cache: descriptor of the cache directory.
    :param read_disks: looks at all disks again; it may raise ImageCacheError.
    """

    def __init__(self, inspection: Inspection, cache: int, read_disks: Callable[[], DiskUse]) -> None:
        self.set_aside: list[SetAside] = []
        self._settings, self._snapshot, self._plan, self._now = inspection[:4]
        self._cache = cache
        self._read_disks = read_disks

    def put_in_place(self, candidate: Candidate, draft: Draft, needs_restart: tuple[str, ...]) -> bool:
        """Give a draft its name, and the file that has it now another one.

        :param candidate: the file that is restored.
        :param draft: its bytes.
        :param needs_restart: the instances that have the file open that has the name now.
        :return: False where a file has the name meanwhile that is as good.
        :raises ImageCacheError: another one has it, or it is no longer certain which disks need the file.
        :raises OSError: one of the two cannot get its name.
        """
        name = candidate.name
        while True:
            with hold_novas_lock(self._settings, name):
                if candidate.inode is not None:
                    self._require_no_new_disk(name)
                    aside = self._name_aside(candidate)
                    exchange(draft, name, candidate.inode, aside)
                    self._note_set_aside(candidate, aside, needs_restart)
                    return True
                with suppress(FileExistsError):
                    publish(draft, name)
                    return True
            # Without nova's lock, because it may take long to compare them.
            with suppress(FileNotFoundError):  # it is gone again
                if self._has_name_already(name, draft.descriptor):
                    return False
                raise RefusalError(
                    "Another file got its name meanwhile, and its bytes differ. Compare the two (cmp), and run it "
                    "again with states: [replaced]."
                )

    def plan(self, candidate: Candidate, needs_restart: tuple[str, ...]) -> None:
        """Take note, in a dry run, of what :meth:`put_in_place` would set aside."""
        if candidate.inode is not None:
            self._note_set_aside(candidate, self._name_aside(candidate), needs_restart)

    def _has_name_already(self, name: str, descriptor: int) -> bool:
        """Tell whether the file that has the name has the right content."""
        now = os.open(name, FILE_FLAGS, dir_fd=self._cache)
        try:
            return is_same_content(now, descriptor)
        finally:
            os.close(now)

    def _require_no_new_disk(self, name: str) -> None:
        """Refuse to replace a file on which nova has built a disk since the disks were read: copying takes long."""
        use = self._read_disks()
        if use.problems:
            raise ImageCacheError(f"It is no longer certain which disks need the file. {use.problems[0]}")
        new = set(use.backing.get(name, ())) - set(self._snapshot.backing.get(name, ()))
        if new:
            raise ImageCacheError(
                f"The disks of {some_names(labels(self._plan, new))} were built meanwhile on the file that has the "
                f"name now. Run it again with states: [replaced]."
            )

    def _name_aside(self, candidate: Candidate) -> str:
        """Return the name for a file that is set aside: the one that a killed run has given it, or a new one."""
        for entry in os.listdir(self._cache):
            if set_aside_of(entry) == (candidate.name, None):
                status = os.stat(entry, dir_fd=self._cache, follow_symlinks=False)
                if (status.st_dev, status.st_ino) == candidate.inode:
                    return entry
        return set_aside_name(candidate.name, int(self._now))

    def _note_set_aside(self, candidate: Candidate, name: str, instances: tuple[str, ...]) -> None:
        [former] = [file for file in self._snapshot.files if file.name == candidate.name]
        self.set_aside.append(SetAside(candidate.name, name, instances, former.size_bytes, former.allocated_bytes))

    def save(self, candidate: Candidate, digests: Mapping[str, str]) -> None:
        """Put a name on disk for good, and save the checksums of its file.

        :param digests: them, by algorithm.
        :raises ImageCacheError: nova's lock on them is held.
        :raises OSError: they cannot be written.
        """
        os.fsync(self._cache)
        if digests and parse_name(candidate.name).kind in (Kind.ORIGINAL, Kind.RESIZED, Kind.SMALL):
            shared = self._snapshot.storage is None or self._snapshot.storage.shared
            save_facts(self._settings, self._cache, candidate.name, checksum_facts(digests, self._now), shared)
