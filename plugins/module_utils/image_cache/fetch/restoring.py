# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restoring one base file after the other: find a source, look at its proof, put the bytes in place."""

from __future__ import annotations

import os
import stat
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Callable, Iterator, Mapping, NamedTuple, Sequence

from ..disk_references import DiskUse
from ..errors import ImageCacheError, or_as_root, reason_and_remedy, remedy_for_rights
from ..files import DIRECTORY_FLAGS, FILE_FLAGS
from ..hashing import RateLimiter, read_digests
from ..info_files import TIMESTAMP, held_lock, info_directory, read_info, save_info
from ..inode_flags import is_protected_by_flags
from ..inspection import Inspection
from ..lock_state import look_at_lock
from ..locks import acquire, open_locks_directory, release
from ..names import LOCKS_DIRECTORY, Kind, info_path, lock_name, parse_name, set_aside_name, set_aside_of
from ..obstacles import can_create_owned_by_nova
from ..open_files import Inode
from ..saved_checksums import read_saved_checksums
from ..text import printable, some_names
from .candidates import Candidate, State
from .disks import is_self_contained, made_at, read_content
from .place import Draft, copy_bytes, exchange, finish, is_same_content, new_draft, publish, shares_blocks
from .proof import Content, OpenFile, Proof, guests_of, why_unfit
from .records import KEPT_FORMATS, ImageRecord, why_not_usable
from .sources import open_again, users_of_inode

if TYPE_CHECKING:
    from .glance import Glance

__all__ = ["Given", "NotRestored", "Restored", "Restorer", "SetAside"]

_LOCK_WAIT_SECONDS = 30.0


class Given(NamedTuple):
    """What an operator gave, by the name of the base file.

    :param files: the path of a file that has its bytes.
    :param records: Glance's record of its image.
    :param known: the checksum that it must have, algorithm and value.
    :param unproven: the names for which the operator's word counts.
    :param glance: where Glance is; None where it is not to be asked.
    """

    files: Mapping[str, str]
    records: Mapping[str, ImageRecord]
    known: Mapping[str, tuple[str, str]]
    unproven: frozenset[str]
    glance: Glance | None = None


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


class SetAside(NamedTuple):
    """What has the name ``set_aside_as`` now: a former base file, or a copy of one that guests have open."""

    name: str
    set_aside_as: str
    instances: tuple[str, ...]
    size_bytes: int
    allocated_bytes: int


class _RefusalError(ImageCacheError):
    """Why a file is not restored, on purpose, and what a person can do."""


class _Source(NamedTuple):
    """A source that was chosen.

    :param kind: ``process``, ``file`` or ``glance``.
    :param path: where a person finds it.
    :param descriptor: the file, open for reading.
    :param proof: what it proves.
    :param guests: the directories of the instances that have it open.
    :param expected: the checksums that its bytes must have, by algorithm.
    """

    kind: str
    path: str
    descriptor: int
    proof: Proof
    guests: tuple[str, ...]
    expected: Mapping[str, str]


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
        self.set_aside: list[SetAside] = []
        self._settings, self._snapshot, self._plan, self._now = inspection[:4]
        self.given = given
        self._cache = cache
        self._rate_limiter = rate_limiter
        self._is_dry_run = is_dry_run
        self._read_disks = read_disks
        self._planned_bytes = 0

    def restore(self, candidate: Candidate) -> None:
        """Restore one file."""
        try:
            with ExitStack() as closing:
                self._restore(candidate, closing)
        except _RefusalError as exc:
            self.refused.append(self._not_restored(candidate, str(exc)))
        except ImageCacheError as exc:
            self.failed.append(self._not_restored(candidate, str(exc)))
        except OSError as exc:
            self.failed.append(self._not_restored(candidate, f"{reason_and_remedy(exc)}."))

    def _not_restored(self, candidate: Candidate, reason: str) -> NotRestored:
        path = printable(os.path.join(self._settings.cache_path, candidate.name))
        users = some_names(candidate.instances) or "no instance"
        guests = some_names(self.labels(candidate.last_guests))
        warning = f" Do not stop {guests} before that." if guests else ""
        return NotRestored(candidate, f"{path} was not restored (used by {users}). {reason}{warning}")

    def labels(self, directories: Sequence[str]) -> tuple[str, ...]:
        """Return what people call the instances of some directories."""
        owners = self._plan.usage.owners
        return tuple(sorted({owners.get(directory, directory) for directory in directories}))

    def _restore(self, candidate: Candidate, closing: ExitStack) -> None:
        started = time.monotonic()
        self._require_possible(candidate)
        if self._is_for_glance(candidate):
            self._fetch(candidate, closing, started)
            return
        source = self._choose_source(candidate, closing)
        self._require_fit(candidate, source, source.descriptor)
        now = self._open_former(candidate, closing)
        if now is not None:
            if source.kind == "process" and not self._is_one_generation(candidate, source):
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
            digests = self._require_checksums(candidate.name, source, source.descriptor)
            self._planned_bytes += read
            if candidate.inode is not None:
                self._note_set_aside(candidate, self._name_aside(candidate), needs_restart)
        else:
            with new_draft(self._cache, candidate.name) as draft:
                is_brought = source.kind == "file"
                read = copy_bytes(source.descriptor, draft, self._rate_limiter, punch_zeros=is_brought)
                _require_unchanged(source.descriptor, status)
                digests = self._require_checksums(candidate.name, source, draft.descriptor)
                self._require_fit(candidate, source, draft.descriptor)
                finish(draft, source.descriptor)
                allocated = os.fstat(draft.descriptor).st_blocks * 512
                if not self._put_in_place(candidate, draft, needs_restart):
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
                guests=self.labels(source.guests),
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

    def _is_for_glance(self, candidate: Candidate) -> bool:
        """Tell whether a file comes from Glance: where it is an image's, and nearer sources have nothing of it."""
        is_nearer = candidate.proven or candidate.name in self.given.files
        is_image = candidate.is_base_file and parse_name(candidate.name).kind is Kind.ORIGINAL
        return self.given.glance is not None and is_image and not is_nearer

    def _fetch(self, candidate: Candidate, closing: ExitStack, started: float) -> None:
        """Restore one file from Glance. In a dry run no connection is made."""
        # Here, so that a restore without Glance does not load what speaks HTTP.
        from .glance import fetch_image, image_url

        record, glance = self._provable_record(candidate), self.given.glance
        assert glance is not None
        algorithm, checksum, size = str(record.algorithm), str(record.checksum), int(record.size_bytes or 0)
        expected = {algorithm: checksum}
        self._require_size_fits(candidate, record)
        now = self._open_former(candidate, closing)
        if now is not None and (read_digests(now, expected, RateLimiter()) or {}) == expected:
            self.present.append(candidate.name)
            return
        self._require_space(size)
        needs_restart = self._users_now(candidate)
        read, allocated, seconds, digests = size, size, 0.0, dict(expected)
        if self._is_dry_run:
            self._planned_bytes += size
            if candidate.inode is not None:
                self._note_set_aside(candidate, self._name_aside(candidate), needs_restart)
        else:
            draft = closing.enter_context(new_draft(self._cache, candidate.name))
            read = fetch_image(glance, record, draft.descriptor, self._rate_limiter, None).read_bytes
            source = _Source(
                "glance", image_url(glance, record.image_id), draft.descriptor, Proof.CHECKSUM, (), expected
            )
            self._require_fit(candidate, source, draft.descriptor)
            if self._saved_checksums(candidate.name).keys() - expected.keys():
                digests = self._require_checksums(candidate.name, source, draft.descriptor)
            finish(draft, None)
            allocated = os.fstat(draft.descriptor).st_blocks * 512
            if not self._put_in_place(candidate, draft, needs_restart):
                return
            seconds = time.monotonic() - started
        self.restored.append(
            Restored(
                candidate=candidate,
                source="glance",
                source_path=image_url(glance, record.image_id),
                contacted=not self._is_dry_run,
                inode=None,
                proof=Proof.CHECKSUM,
                guests=(),
                needs_restart=needs_restart,
                read_bytes=read,
                size_bytes=size,
                allocated_bytes=allocated,
                seconds=seconds,
                algorithm=algorithm,
                checksum=checksum,
            )
        )
        if not self._is_dry_run:
            self._finish_placed(candidate, digests)

    def _provable_record(self, candidate: Candidate) -> ImageRecord:
        """Return the record of an image that Glance serves as nova caches it; refuse any other."""
        record = self.given.records.get(candidate.name)
        reason = _why_no_proof(record, candidate)
        if record is None or reason or record.size_bytes is None:
            reason = reason or "by Glance's record the image has no size"
            raise _RefusalError(
                f"No process of a guest on this host has it open, and nothing would prove what Glance sends: {reason}. "
                f"Set images: [Glance's record of it], or copy the base file to this host and set files: {{image id: "
                f"path}}."
            )
        return record

    def _require_size_fits(self, candidate: Candidate, record: ImageRecord) -> None:
        """Refuse an image that cannot fit what is built on it, before the first byte of it is read."""
        size = int(record.size_bytes or 0)
        # The size of the image in a qcow2 is known when that is here.
        content = Content("qcow2", size, 0) if record.disk_format == "qcow2" else Content("raw", size, size)
        reason = why_unfit(content, candidate.overlays, is_image=True)
        if reason:
            raise _RefusalError(
                f"The image {printable(record.image_id)} does not fit what is built on it: {reason}. Look at both "
                f"(openstack image show, qemu-img info -U)."
            )

    def _open_former(self, candidate: Candidate, closing: ExitStack) -> int | None:
        """Open the file that has the name now, until the end: no other file gets its number. None if there is none."""
        if candidate.inode is None:
            return None
        now = os.open(candidate.name, FILE_FLAGS, dir_fd=self._cache)
        closing.callback(os.close, now)
        if _inode_of(os.fstat(now)) != candidate.inode:
            raise ImageCacheError("Another file got its name meanwhile. Run it again with states: [replaced].")
        if is_protected_by_flags(now):
            raise _RefusalError(
                "The file that has the name now has the attribute immutable or append-only. Remove it (chattr -i -a)."
            )
        return now

    def _require_possible(self, candidate: Candidate) -> None:
        """Refuse what is known beforehand to fail, or is not certain."""
        if not candidate.is_base_file:
            raise _RefusalError(
                f"It is not a base file of the cache. Restore it from a backup (cp --sparse=always), or mount what "
                f"{printable(os.path.dirname(candidate.name))} is to lead to (mount)."
            )
        obstacles, locks_path = self._snapshot.obstacles, printable(self._settings.locks_path)
        if obstacles.everything:
            raise _RefusalError(obstacles.everything)
        if not can_create_owned_by_nova(self._settings.cache_path):
            raise _RefusalError(
                f"This user may make no file in {printable(self._settings.cache_path)} for nova. {remedy_for_rights()}."
            )
        if obstacles.new_locks and lock_name(candidate.name) not in obstacles.lock_files:
            raise _RefusalError(
                f"nova's lock file for it does not exist in {locks_path}, and cannot be made. Look at that directory "
                f"(ls -ld, lsattr -d) and at its file system (df)."
            )
        self._require_usable_lock(lock_name(candidate.name))
        if candidate.inode is None:
            self._require_free_name(candidate.name)
        if candidate.state is not State.MISSING and self._snapshot.problems:
            raise _RefusalError(
                f"It has a file of that name now, and it is not certain which disks need that. "
                f"{self._snapshot.problems[0]}"
            )

    def _require_usable_lock(self, name: str) -> None:
        path = self._settings.locks_path
        try:
            directory = os.open(path, DIRECTORY_FLAGS)
        except FileNotFoundError:
            return  # it is made
        try:
            if look_at_lock(directory, name).is_unusable:
                raise _RefusalError(
                    f"nova's lock file {printable(os.path.join(path, name))} cannot be used. Look at what it is and "
                    f"whom it belongs to (ls -l, lsattr)."
                )
        finally:
            os.close(directory)

    def _require_free_name(self, name: str) -> None:
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(os.stat(name, dir_fd=self._cache, follow_symlinks=False).st_mode):
                raise _RefusalError(
                    "What has its name is not a regular file. Look at it (ls -l), and move it away (mv)."
                )

    def _choose_source(self, candidate: Candidate, closing: ExitStack) -> _Source:
        if candidate.proven and candidate.rejected_guest and not self._known_checksums(candidate):
            file, reason = candidate.rejected_guest
            guests = some_names(self.labels(guests_of(file, candidate.overlays)))
            raise _RefusalError(
                f"Process {file.process} of {guests} has another file of that name open than other guests, and it "
                f"proves nothing: {reason}. So none of them can get the name. Make the disks of {guests} independent "
                f"of it with virsh blockpull, and run it again."
            )
        if candidate.proven:
            return self._choose_process(candidate, closing)
        if candidate.name in self.given.files:
            return self._open_given_file(candidate, closing)
        if candidate.rejected:
            file, reason = candidate.rejected[0]
            raise _RefusalError(
                f"Process {file.process} has a deleted file open that may be it, but that proves nothing: {reason}. "
                f"Look at the process (ls -l /proc/{file.process}/exe {file.path})."
            )
        if parse_name(candidate.name).kind is Kind.ORIGINAL:
            raise _RefusalError(
                f"No process of a guest on this host has it open. Copy the image to this host, and set files: "
                f"{{image id: path}} and images: [Glance's record of it]{or_as_root()}."
            )
        raise _RefusalError(
            f"No process of a guest on this host has it open, and it cannot be made of the image. Restore it from a "
            f"backup (cp --sparse=always){or_as_root()}."
        )

    def _choose_process(self, candidate: Candidate, closing: ExitStack) -> _Source:
        generations = self._generations(candidate, closing)
        if len(generations) > 1:
            guests = self.labels([guest for file in candidate.proven for guest in guests_of(file, candidate.overlays)])
            names, failure = self._copy_all_aside(candidate, generations)
            raise _RefusalError(
                f"Guests have different files of that name open ({some_names(guests)}), so none of them can get the "
                f"name. Copied aside: {some_names(names) or 'none'}{failure}. Make the disks of all but one "
                f"independent of it with virsh blockpull, and run it again."
            )
        [[file, *others]] = generations
        has_later_disk = self._has_later_disk(candidate, [file, *others])
        descriptor = open_again(file.descriptor)
        closing.callback(os.close, descriptor)
        expected = self._known_checksums(candidate)
        is_uncertain = has_later_disk or (not expected and self._is_named_by_few(candidate, [file, *others]))
        proof = Proof.PROCESS_AND_CHECKSUM if expected else Proof.UNPROVEN if is_uncertain else Proof.PROCESS
        return _Source("process", file.path, descriptor, proof, candidate.guests, expected)

    def _has_later_disk(self, candidate: Candidate, files: Sequence[OpenFile]) -> bool:
        """Tell whether a disk was made after a template lost its name: it is built on a later one. Refuse it then."""
        if candidate.inode is not None or parse_name(candidate.name).kind not in (Kind.SWAP, Kind.EPHEMERAL):
            return False
        lost_at = max(os.fstat(file.descriptor).st_ctime_ns for file in files)
        earlier = {each.instance for each in candidate.overlays if (made_at(each.disk) or 0) <= lost_at}
        later = {each.instance for each in candidate.overlays} - earlier - set(candidate.guests)
        if later and candidate.name not in self.given.unproven:
            guests = some_names(self.labels(candidate.guests))
            raise _RefusalError(
                f"The disks of {some_names(self.labels(sorted(later)))} were made after the file of {guests} had lost "
                f"its name, so they are built on a later one with other bytes. Make the disks of {guests} independent "
                f"of it with virsh blockpull. Or, if no later one was made, set unproven: [{candidate.name}]."
            )
        return bool(later)

    def _is_named_by_few(self, candidate: Candidate, files: Sequence[OpenFile]) -> bool:
        """Tell whether nothing but disks of some instances shows a file's name, and others need it. Refuse it then.

        A QEMU that its guest has taken over can name any base file in the header of its own disk.
        """
        others = set(candidate.instances) - set(self.labels(candidate.guests))
        if not others or not all(file.is_renamed for file in files):
            return False
        if candidate.name not in self.given.unproven:
            guests = some_names(self.labels(candidate.guests))
            raise _RefusalError(
                f"NFS renamed the file that the processes of {guests} have open, and nothing shows that the disks of "
                f"{some_names(sorted(others))} are built on the same one. Set known_checksums: {{image id: its "
                f"checksum}}. Or, if all are built on it, set unproven: [{candidate.name}]."
            )
        return True

    def _generations(self, candidate: Candidate, closing: ExitStack) -> list[list[OpenFile]]:
        """Sort the files that guests have open by their content."""
        by_inode: dict[Inode, list[OpenFile]] = {}
        for file in candidate.proven:
            by_inode.setdefault(file.inode, []).append(file)
        generations: list[tuple[int, list[OpenFile]]] = []
        for files in by_inode.values():
            descriptor = open_again(files[0].descriptor)
            closing.callback(os.close, descriptor)
            for first, same in generations:
                if is_same_content(first, descriptor):
                    same.extend(files)
                    break
            else:
                generations.append((descriptor, files))
        return [files for _descriptor, files in generations]

    def _copy_all_aside(
        self, candidate: Candidate, generations: Sequence[Sequence[OpenFile]]
    ) -> tuple[Sequence[str], str]:
        """Copy the files that guests have open under names of their own; return these, and why not all were copied."""
        names: list[str] = []
        for files in generations:
            try:
                names.append(self._copy_aside(candidate, files))
            except (ImageCacheError, OSError) as exc:
                reason = str(exc).rstrip(".") if isinstance(exc, ImageCacheError) else reason_and_remedy(exc)
                return names, f", but not all of them: {reason}"
        return names, ""

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
            guests = self.labels([guest for each in files for guest in guests_of(each, candidate.overlays)])
            self.set_aside.append(SetAside(candidate.name, name, guests, file.size_bytes, file.allocated_bytes))
            return name

    def _open_given_file(self, candidate: Candidate, closing: ExitStack) -> _Source:
        path = self.given.files[candidate.name]
        record = self.given.records.get(candidate.name)
        reason = _why_no_proof(record, candidate)
        if reason and candidate.name not in self.given.unproven:
            raise _RefusalError(
                f"Nothing proves that {printable(path)} has its bytes: {reason}. Set images: [Glance's record of it]. "
                f"Or, if you are certain, set unproven: [{candidate.name}]."
            )
        try:
            descriptor = os.open(path, FILE_FLAGS)
        except OSError as exc:
            raise _RefusalError(f"{printable(path)} of files cannot be opened: {reason_and_remedy(exc)}.") from exc
        closing.callback(os.close, descriptor)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _RefusalError(f"{printable(path)} is not a regular file. Set files: {{image id: path of an image}}.")
        if reason or record is None:
            return _Source("file", path, descriptor, Proof.UNPROVEN, (), self._known_checksums(candidate))
        if record.size_bytes is not None and record.size_bytes != status.st_size:
            raise _RefusalError(
                f"{printable(path)} has {status.st_size} bytes, and by Glance's record the image has "
                f"{record.size_bytes}. Copy the image anew (openstack image save)."
            )
        expected = {str(record.algorithm): str(record.checksum)}
        return _Source("file", path, descriptor, Proof.CHECKSUM, (), expected)

    def _known_checksums(self, candidate: Candidate) -> Mapping[str, str]:
        """Return the checksums that a base file must have: the image's own, or else those that were saved."""
        name = candidate.name
        record = self.given.records.get(name)
        if record is not None and not _why_no_proof(record, candidate):
            return {str(record.algorithm): str(record.checksum)}
        if name in self.given.known:
            algorithm, value = self.given.known[name]
            return {algorithm: value}
        return self._saved_checksums(name)

    def _saved_checksums(self, name: str) -> Mapping[str, str]:
        pattern = self._settings.image_info_filename_pattern
        with info_directory(pattern, self._settings.cache_path, self._cache) as directory:
            info = read_info(os.path.basename(info_path(pattern, name)), directory)
            return read_saved_checksums(info, name, "sha1", self._cache).digests

    def _require_fit(self, candidate: Candidate, source: _Source, descriptor: int) -> None:
        content = read_content(descriptor)
        reason = why_unfit(content, candidate.overlays, is_image=source.kind != "process")
        if not reason and source.kind != "process" and content.format == "qcow2" and _wants_qcow2(candidate):
            reason = "" if is_self_contained(descriptor) else "it needs other files, or is encrypted"
        if reason:
            raise _RefusalError(
                f"{printable(source.path)} does not fit what is built on it: {reason}. Look at both (qemu-img info -U)."
            )

    def _is_one_generation(self, candidate: Candidate, source: _Source) -> bool:
        """Tell whether no disk can be built on the file that has the name now, and refuse where none may be."""
        users = {*self._snapshot.backing.get(candidate.name, ()), *(each.instance for each in candidate.overlays)}
        others = users - set(source.guests)
        if others and candidate.name not in self.given.unproven:
            guests = some_names(self.labels(source.guests))
            raise _RefusalError(
                f"It is not certain which file the disks of {some_names(self.labels(sorted(others)))} are built on, "
                f"the one that has the name now or the former one of {guests}. Make the disks of {guests} independent "
                f"of the former one with virsh blockpull. Or, if all are built on the former one, set unproven: "
                f"[{candidate.name}]."
            )
        return not others

    def _has_name_already(self, name: str, descriptor: int) -> bool:
        """Tell whether the file that has the name has the right content."""
        now = os.open(name, FILE_FLAGS, dir_fd=self._cache)
        try:
            return is_same_content(now, descriptor)
        finally:
            os.close(now)

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
            raise _RefusalError(
                f"It takes {needed} bytes, and {max(0, free)} are free on the file system of "
                f"{printable(self._settings.cache_path)}. Free some space there (df)."
            )

    def _require_checksums(self, name: str, source: _Source, descriptor: int) -> dict[str, str]:
        """Compare a file with the checksums that it must have, and return what it has.

        A checksum that was saved of a worse file would call it corrupt, so it is taken as well.
        """
        if not source.expected:
            return {}
        os.lseek(descriptor, 0, os.SEEK_SET)
        algorithms = dict.fromkeys([*source.expected, *self._saved_checksums(name)])
        digests = read_digests(descriptor, algorithms, RateLimiter()) or {}
        for algorithm, value in source.expected.items():
            if digests[algorithm] != value:
                raise _RefusalError(
                    f"The {algorithm} of {printable(source.path)} is {digests[algorithm]} and not {value}. Compare it "
                    f"with Glance's record (openstack image show), and set files: {{image id: path of the right one}}."
                )
        return digests

    def _users_now(self, candidate: Candidate) -> tuple[str, ...]:
        """Return the instances whose processes have the file open that has the name now."""
        if candidate.inode is None:
            return ()
        disks = [(each.inode, each.disk, each.instance) for each in candidate.overlays]
        return self.labels(users_of_inode(candidate.inode, candidate.name, disks))

    def _name_aside(self, candidate: Candidate) -> str:
        """Return the name for a file that is set aside: the one that a killed run has given it, or a new one."""
        for entry in os.listdir(self._cache):
            if set_aside_of(entry) == (candidate.name, None):
                status = os.stat(entry, dir_fd=self._cache, follow_symlinks=False)
                if _inode_of(status) == candidate.inode:
                    return entry
        return set_aside_name(candidate.name, int(self._now))

    def _note_set_aside(self, candidate: Candidate, name: str, instances: tuple[str, ...]) -> None:
        [former] = [file for file in self._snapshot.files if file.name == candidate.name]
        self.set_aside.append(SetAside(candidate.name, name, instances, former.size_bytes, former.allocated_bytes))

    def _put_in_place(self, candidate: Candidate, draft: Draft, needs_restart: tuple[str, ...]) -> bool:
        """Give a draft its name, under nova's lock; False where a file has it meanwhile that is as good."""
        name = candidate.name
        while True:
            with self._lock(name):
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
                    self.present.append(name)
                    return False
                raise _RefusalError(
                    "Another file got its name meanwhile, and its bytes differ. Compare the two (cmp), and run it "
                    "again with states: [replaced]."
                )

    def _require_no_new_disk(self, name: str) -> None:
        """Refuse to replace a file on which nova has built a disk since the disks were read: copying takes long."""
        use = self._read_disks()
        if use.problems:
            raise ImageCacheError(f"It is no longer certain which disks need the file. {use.problems[0]}")
        new = set(use.backing.get(name, ())) - set(self._snapshot.backing.get(name, ()))
        if new:
            raise ImageCacheError(
                f"The disks of {some_names(self.labels(sorted(new)))} were built meanwhile on the file that has the "
                f"name now. Run it again with states: [replaced]."
            )

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """Hold nova's lock for a file."""
        locks = open_locks_directory(self._settings.instances_path, LOCKS_DIRECTORY)
        try:
            lock = acquire(locks, lock_name(name), _LOCK_WAIT_SECONDS)
            if lock is None:
                raise ImageCacheError(f"nova's lock on it could not be taken: {held_lock(lock_name(name))}.")
            try:
                yield
            finally:
                release(lock, remove_file=False)
        finally:
            os.close(locks)

    def _finish_placed(self, candidate: Candidate, digests: Mapping[str, str]) -> None:
        """Put a name on disk for good, and save the checksum."""
        try:
            os.fsync(self._cache)
            if digests and parse_name(candidate.name).kind in (Kind.ORIGINAL, Kind.RESIZED, Kind.SMALL):
                self._save_checksums(candidate.name, digests)
        except (OSError, ImageCacheError) as exc:
            reason = str(exc) if isinstance(exc, ImageCacheError) else reason_and_remedy(exc)
            path = printable(f"{self._settings.cache_path}/{candidate.name}")
            self.failed.append(
                NotRestored(
                    candidate,
                    f"{path} was restored, but its name or its checksum may not be saved: {reason}. Check it "
                    f"(checksum_base_images: true).",
                )
            )

    def _save_checksums(self, name: str, digests: Mapping[str, str]) -> None:
        facts: dict[str, object] = {}
        for algorithm, value in digests.items():
            facts.update({algorithm: value, algorithm + TIMESTAMP: self._now})
        pattern = self._settings.image_info_filename_pattern
        locks = open_locks_directory(self._settings.instances_path, LOCKS_DIRECTORY)
        try:
            with info_directory(pattern, self._settings.cache_path, self._cache) as directory:
                shared = self._snapshot.storage is None or self._snapshot.storage.shared
                save_info(pattern, name, facts, directory=directory, locks=locks, keep_lock_file=shared)
        finally:
            os.close(locks)


def _inode_of(status: os.stat_result) -> Inode:
    return status.st_dev, status.st_ino


def _wants_qcow2(candidate: Candidate) -> bool:
    return any(each.backing_format == "qcow2" for each in candidate.overlays)


def _is_kept_qcow2(image_format: str, candidate: Candidate) -> bool:
    """Tell whether nova has kept an image as it is, because it converts none (``force_raw_images = false``)."""
    return image_format == "qcow2" and _wants_qcow2(candidate)


def _why_no_proof(record: ImageRecord | None, candidate: Candidate) -> str:
    """Say why Glance's checksum of an image is not that of its base file."""
    if record is None:
        return "there is no record of the image"
    image_format = record.disk_format
    if image_format is None:
        return "by Glance's record the image has no disk_format, so nova may have converted it"
    if image_format not in KEPT_FORMATS and not _is_kept_qcow2(image_format, candidate):
        return f"nova converts images of the format {printable(image_format)}, and the base file has another checksum"
    return why_not_usable(record)


def _require_unchanged(descriptor: int, before: os.stat_result) -> None:
    after = os.fstat(descriptor)
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise ImageCacheError(
            "Its source was written to while it was copied. Look at what has it open (ls -l /proc/*/fd), and run it "
            "again."
        )
