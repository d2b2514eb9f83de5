# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restoring one base file after the other: its bytes are copied from the source that was chosen, and get its name."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from typing import Callable, Mapping, NamedTuple, Sequence

from ..disk_references import DiskUse
from ..errors import ImageCacheError, RefusalError, explain, merged, reason_and_remedy
from ..files import FILE_FLAGS
from ..hashing import RateLimiter, read_digests
from ..inode_flags import is_protected_by_flags
from ..inspection import Inspection
from ..names import set_aside_name, set_aside_of
from ..text import printable, some_names
from .candidates import Candidate, labels
from .choosing import Chooser, Given
from .place import copy_bytes, finish, is_same_content, new_draft, publish, shares_blocks
from .placing import Placer, SetAside
from .proof import OpenFile, Proof, guests_of
from .remote import Arrived, Offer, RemoteSources
from .sources import open_again, users_of_inode

__all__ = ["NotRestored", "Restored", "Restorer"]


class Restored(NamedTuple):
    """A file that was put in place, or in a dry run would be: as the module documents ``restored``."""

    candidate: Candidate
    source: str
    source_path: str
    contacted: bool
    inode: int | None
    proof: Proof
    guests: tuple[str, ...]
    needs_restart: tuple[str, ...]
    read_bytes: int
    size_bytes: int
    allocated_bytes: int
    seconds: float
    algorithm: str | None
    checksum: str | None


class NotRestored(NamedTuple):
    """A file that was not restored, or not with all that belongs to it, and why."""

    candidate: Candidate
    reason: str


class Restorer:
    """Restores files of one cache, and takes note of what comes of each.

    :param inspection: the pass.
    :param given: what an operator gave.
    :param cache: descriptor of the cache directory.
    :param rate_limiter: how fast to copy.
    :param is_dry_run: find sources and proofs, and write nothing.
    :param read_disks: looks at all disks again; it may raise ImageCacheError.
    """

    def __init__(
        self,
        inspection: Inspection,
        given: Given,
        cache: int,
        rate_limiter: RateLimiter,
        is_dry_run: bool,
        read_disks: Callable[[], DiskUse],
    ) -> None:
        self.restored: list[Restored] = []
        self.present: list[str] = []
        self.refused: list[NotRestored] = []
        self.failed: list[NotRestored] = []
        self._settings, self._snapshot, self._plan, self._now = inspection[:4]
        self.given = given
        self._cache = cache
        self._rate_limiter = rate_limiter
        self._is_dry_run = is_dry_run
        self._chooser = Chooser(inspection, given, cache)
        self._placer = Placer(inspection, cache, read_disks)
        self._planned_bytes = 0
        self._remote = RemoteSources(self._settings, given, cache, self._chooser, rate_limiter, self._require_space)

    @property
    def set_aside(self) -> list[SetAside]:
        """What has another name now than that of a base file, or in a dry run would have."""
        return self._placer.set_aside

    def restore(self, candidate: Candidate) -> None:
        """Restore one file."""
        try:
            with ExitStack() as closing:
                self._restore(candidate, closing)
        except RefusalError as exc:
            self.refused.append(self._not_restored(candidate, str(exc)))
        except ImageCacheError as exc:
            self.failed.append(self._not_restored(candidate, str(exc)))
        except OSError as exc:
            self.failed.append(self._not_restored(candidate, f"{reason_and_remedy(exc)}."))

    def _not_restored(self, candidate: Candidate, reason: str) -> NotRestored:
        path = printable(os.path.join(self._settings.cache_path, candidate.name))
        users = some_names(candidate.instances) or "no instance"
        guests = some_names(labels(self._plan, candidate.last_guests))
        warning = f" Do not stop {guests} before that." if guests else ""
        return NotRestored(candidate, f"{path} was not restored (used by {users}). {reason}{warning}")

    def _restore(self, candidate: Candidate, closing: ExitStack) -> None:
        started = time.monotonic()
        self._chooser.require_possible(candidate)
        elsewhere = self._remote.sources(candidate)
        if elsewhere:
            self._fetch(candidate, elsewhere, closing, started)
            return
        generations = self._chooser.generations(candidate, closing)
        if len(generations) > 1:
            raise RefusalError(self._copy_all_aside(candidate, generations))
        source = self._chooser.choose(candidate, generations[0] if generations else [], closing)
        self._chooser.require_fit(candidate, source, source.descriptor)
        now = self._open_former(candidate, closing)
        if now is not None:
            if source.kind == "process" and not self._chooser.is_one_generation(candidate, source):
                source = source._replace(proof=Proof.UNPROVEN)
            if is_same_content(now, source.descriptor):
                self.present.append(candidate.name)
                return
        status = os.fstat(source.descriptor)
        allocated = status.st_blocks * 512
        read = self._new_bytes(status)
        self._require_space(read)
        needs_restart = self._users_now(candidate)
        if self._is_dry_run:
            digests = self._chooser.require_checksums(candidate.name, source, source.descriptor)
            self._planned_bytes += read
            self._placer.plan(candidate, needs_restart)
        else:
            with new_draft(self._cache, candidate.name) as draft:
                is_brought = source.kind == "file"
                read = copy_bytes(source.descriptor, draft, self._rate_limiter, punch_zeros=is_brought)
                _require_unchanged(source.descriptor, status)
                digests = self._chooser.require_checksums(candidate.name, source, draft.descriptor)
                self._chooser.require_fit(candidate, source, draft.descriptor)
                finish(draft, source.descriptor)
                allocated = os.fstat(draft.descriptor).st_blocks * 512
                if not self._placer.put_in_place(candidate, draft, needs_restart):
                    self.present.append(candidate.name)
                    return
        algorithm = next(iter(digests), None)
        self.restored.append(
            Restored(
                candidate=candidate,
                source=source.kind,
                source_path=source.path,
                contacted=True,
                inode=status.st_ino,
                proof=source.proof,
                guests=labels(self._plan, source.guests),
                needs_restart=needs_restart,
                read_bytes=read,
                size_bytes=status.st_size,
                allocated_bytes=allocated,
                seconds=0.0 if self._is_dry_run else time.monotonic() - started,
                algorithm=algorithm,
                checksum=None if algorithm is None else digests[algorithm],
            )
        )
        if not self._is_dry_run:
            self._finish_placed(candidate, digests)

    def _fetch(
        self,
        candidate: Candidate,
        sources: Sequence[Callable[[Candidate], Offer]],
        closing: ExitStack,
        started: float,
    ) -> None:
        """Restore one file from the first source elsewhere that brings it. In a dry run no connection is made.

        :param sources: the best first.
        """
        now = self._open_former(candidate, closing)
        failures: list[ImageCacheError] = []
        for look_at in sources:
            try:
                offer = look_at(candidate)
                if now is not None and offer.expected and _has_digests(now, offer.expected):
                    self.present.append(candidate.name)
                    return
                self._require_space(offer.needed_bytes)
                needs_restart = self._users_now(candidate)
                if self._is_dry_run:
                    self._planned_bytes += offer.allocated_bytes
                    self._placer.plan(candidate, needs_restart)
                    self.restored.append(self._offered(candidate, offer, needs_restart))
                    return
                with ExitStack() as attempt:
                    arrived = offer.fetch(attempt)
                    closing.enter_context(attempt.pop_all())
            except ImageCacheError as exc:
                failures.append(exc)
                continue
            self._place(candidate, offer, arrived, now, needs_restart, started)
            return
        raise merged(failures)

    def _offered(self, candidate: Candidate, offer: Offer, needs_restart: tuple[str, ...]) -> Restored:
        return Restored(
            candidate=candidate,
            source=offer.kind,
            source_path=offer.path,
            contacted=not self._is_dry_run,
            inode=None,
            proof=offer.proof,
            guests=(),
            needs_restart=needs_restart,
            read_bytes=offer.read_bytes,
            size_bytes=offer.size_bytes,
            allocated_bytes=offer.allocated_bytes,
            seconds=0.0,
            algorithm=offer.algorithm,
            checksum=offer.checksum,
        )

    def _place(
        self,
        candidate: Candidate,
        offer: Offer,
        arrived: Arrived,
        now: int | None,
        needs_restart: tuple[str, ...],
        started: float,
    ) -> None:
        """Give what was fetched its name."""
        draft = arrived.draft
        if now is not None and not offer.expected and is_same_content(now, draft.descriptor):
            self.present.append(candidate.name)
            return
        finish(draft, None)
        if not self._placer.put_in_place(candidate, draft, needs_restart):
            self.present.append(candidate.name)
            return
        status = os.fstat(draft.descriptor)
        self.restored.append(
            self._offered(candidate, offer, needs_restart)._replace(
                source_path=arrived.path,
                read_bytes=arrived.read_bytes,
                size_bytes=status.st_size,
                allocated_bytes=status.st_blocks * 512,
                seconds=time.monotonic() - started,
                checksum=arrived.digests[offer.algorithm],
            )
        )
        self._finish_placed(candidate, arrived.digests)

    def _open_former(self, candidate: Candidate, closing: ExitStack) -> int | None:
        """Open the file that has the name now, until the end: no other file gets its number. None if there is none."""
        if candidate.inode is None:
            return None
        now = os.open(candidate.name, FILE_FLAGS, dir_fd=self._cache)
        closing.callback(os.close, now)
        status = os.fstat(now)
        if (status.st_dev, status.st_ino) != candidate.inode:
            raise ImageCacheError("Another file got its name meanwhile. Run it again with states: [replaced].")
        if is_protected_by_flags(now):
            raise RefusalError(
                "The file that has the name now has the attribute immutable or append-only. Remove it (chattr -i -a)."
            )
        return now

    def _copy_all_aside(self, candidate: Candidate, generations: Sequence[Sequence[OpenFile]]) -> str:
        """Copy the files that guests have open under names of their own, and say why none of them gets the name."""
        guests = labels(
            self._plan, [guest for file in candidate.proven for guest in guests_of(file, candidate.overlays)]
        )
        names: list[str] = []
        failure = ""
        try:
            for files in generations:
                names.append(self._copy_aside(candidate, files))
        except (ImageCacheError, OSError) as exc:
            reason = explain(exc).rstrip(".")
            failure = f", but not all of them: {reason}"
        return (
            f"Guests have different files of that name open ({some_names(guests)}), so none of them can get the "
            f"name. Copied aside: {some_names(names) or 'none'}{failure}. Make the disks of all but one "
            f"independent of it with virsh blockpull, and run it again."
        )

    def _copy_aside(self, candidate: Candidate, files: Sequence[OpenFile]) -> str:
        """Copy a file that guests have open under a name of its own, unless an earlier run has done so."""
        file = files[0]
        with ExitStack() as closing:
            descriptor = open_again(file.descriptor)
            closing.callback(os.close, descriptor)
            status = os.fstat(descriptor)
            for entry in os.listdir(self._cache):
                if set_aside_of(entry) == (candidate.name, file.inode[1]):
                    earlier = os.stat(entry, dir_fd=self._cache, follow_symlinks=False)
                    if (earlier.st_size, earlier.st_mtime_ns) == (status.st_size, status.st_mtime_ns):
                        return entry
            name = set_aside_name(candidate.name, int(self._now), file.inode[1])
            needed = self._new_bytes(status)
            self._require_space(needed)
            self._planned_bytes += needed if self._is_dry_run else 0
            if not self._is_dry_run:
                draft = closing.enter_context(new_draft(self._cache, candidate.name))
                copy_bytes(descriptor, draft, self._rate_limiter)
                _require_unchanged(descriptor, status)
                os.utime(draft.descriptor, ns=(status.st_mtime_ns, status.st_mtime_ns))
                finish(draft, descriptor)
                publish(draft, name)
                os.fsync(self._cache)
            guests = labels(self._plan, [guest for each in files for guest in guests_of(each, candidate.overlays)])
            self.set_aside.append(SetAside(candidate.name, name, guests, file.size_bytes, file.allocated_bytes))
            return name

    def _new_bytes(self, source: os.stat_result) -> int:
        """Return how many bytes are read of a source, and how much space that takes at most."""
        storage = self._snapshot.storage
        takes_none = (
            storage is not None
            and source.st_dev == os.fstat(self._cache).st_dev
            and shares_blocks(self._cache, storage.filesystem)
        )
        return 0 if takes_none else source.st_blocks * 512

    def _require_space(self, needed: int) -> None:
        space = os.fstatvfs(self._cache)
        free = (space.f_bfree if os.geteuid() == 0 else space.f_bavail) * space.f_frsize - self._planned_bytes
        if space.f_blocks and needed > free:
            raise RefusalError(
                f"It takes {needed} bytes, and {max(0, free)} are free on the file system of "
                f"{printable(self._settings.cache_path)}. Free some space there (df)."
            )

    def _users_now(self, candidate: Candidate) -> tuple[str, ...]:
        """Return the instances whose processes have the file open that has the name now."""
        if candidate.inode is None:
            return ()
        disks = [(each.inode, each.disk, each.instance) for each in candidate.overlays]
        return labels(self._plan, users_of_inode(candidate.inode, candidate.name, disks))

    def _finish_placed(self, candidate: Candidate, digests: Mapping[str, str]) -> None:
        """Put a name on disk for good, and save the checksum."""
        try:
            self._placer.save(candidate, digests)
        except (OSError, ImageCacheError) as exc:
            path = printable(f"{self._settings.cache_path}/{candidate.name}")
            self.failed.append(
                NotRestored(
                    candidate,
                    f"{path} was restored, but its name or its checksum may not be saved: {explain(exc)}. Check it "
                    f"(checksum_base_images: true).",
                )
            )


def _has_digests(descriptor: int, expected: Mapping[str, str]) -> bool:
    return (read_digests(descriptor, expected, RateLimiter()) or {}) == expected


def _require_unchanged(descriptor: int, before: os.stat_result) -> None:
    after = os.fstat(descriptor)
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise ImageCacheError(
            "Its source was written to while it was copied. Look at what has it open (ls -l /proc/*/fd), and run it "
            "again."
        )
