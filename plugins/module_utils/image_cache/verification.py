# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Verification: are base files still what they were? Nothing here decides what is removed, or repairs anything.

What nova did until 2019 (``_verify_checksum`` in Icehouse's ``imagecache.py``), under the same lock
and with the same saved facts, but a good result is stamped and a bad one never is.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Mapping, NamedTuple, Optional, Sequence, Tuple

from .backing_chain import RunCommand
from .cache_directory import open_cache
from .errors import AS_ROOT, ImageCacheError, or_as_root, reason_and_remedy, remedy_for_rights
from .files import DIRECTORY_FLAGS, FILE_FLAGS
from .info_files import (
    INFO_KINDS,
    TIMESTAMP,
    held_lock,
    info_directory,
    info_lock_name,
    read_info,
    read_timestamp,
    remove_essex_checksum,
    save_info,
    why_essex_checksum_cannot_be_removed,
    why_info_cannot_be_saved,
)
from .inspection import Inspection
from .lock_state import is_locked, look_at_lock
from .locks import acquire, open_locks_directory, release
from .names import LOCKS_DIRECTORY, info_path, lock_name
from .obstacles import can_create_owned_by_nova
from .plan import Plan, Reason, State
from .progress import Log, ProgressLog, silent
from .saved_checksums import ATTEMPT, SavedChecksums, is_recent, least_recently_verified_first, read_saved_checksums
from .settings import ChecksumSettings, Settings
from .snapshot import CacheFile, Snapshot
from .text import printable
from .verification_result import ChecksumReason, FileVerification, Verification, VerificationState, sum_up

if TYPE_CHECKING:
    from .hashing import RateLimiter

__all__ = ["VerificationContext", "state_without_reading", "verify_files"]

_Reading = Tuple[FileVerification, Optional[Mapping[str, str]]]


class VerificationContext(NamedTuple):
    """What every file of a pass has in common.

    :param info: what :func:`info_files.info_directory` gives; None where there is no such directory.
    :param locks: descriptor of the lock files' directory; None where there is none, or none can be used.
    :param may_save: whether locks are taken and results saved.
    :param is_dry_run: whether it is said what would be saved.
    :param keep_lock_files: leave lock files, because other hosts may wait on them.
    :param first: the files that are begun at once, and so have the whole of the time.
    :param existing_locks: the names of the lock files that exist, where no more can be made; else None.
    """

    settings: Settings
    now: float
    rate_limiter: RateLimiter
    cache: int
    info: int | None
    locks: int | None
    may_save: bool
    is_dry_run: bool
    keep_lock_files: bool
    first: frozenset[str]
    existing_locks: frozenset[str] | None


def verify_files(
    inspection: Inspection,
    run_command: RunCommand,
    *,
    removed: frozenset[str] = frozenset(),
    may_save: bool = False,
    is_dry_run: bool = False,
    log: Log = silent,
) -> Verification:
    """Verify the files in scope, those first that were verified longest ago, as far as the time allows.

    :param inspection: the pass.
    :param run_command: how ``ionice`` is run.
    :param removed: names of files that are gone.
    :param may_save: save missing checksums and stamp good ones, under nova's locks. Without it
        nothing is written, not even a lock file.
    :param is_dry_run: say what a pass that may save would save. Exclusive with ``may_save``.
    :param log: where a line is written each minute.
    :return: what was found out.
    :raises ImageCacheError: the cache cannot be opened.
    """
    settings, snapshot, plan, now = inspection.settings, inspection.snapshot, inspection.plan, inspection.now
    files = _in_scope(plan, settings.checksums, removed)
    cache = open_cache(settings)
    if cache is None:
        return sum_up([], {}, inspection, "")
    with ExitStack() as opened:
        opened.callback(os.close, cache)
        locks, problem = _open_locks(settings, may_save, is_dry_run)
        if locks is not None:
            opened.callback(os.close, locks)
        may_save = may_save and locks is not None
        is_dry_run = is_dry_run and not problem
        try:
            info = opened.enter_context(
                info_directory(settings.image_info_filename_pattern, settings.cache_path, cache)
            )
        except OSError as exc:
            path = os.path.dirname(settings.image_info_filename_pattern)
            unreadable = [
                _unreadable(file, f"its info file in {printable(path)}: {reason_and_remedy(exc)}") for file in files
            ]
            return sum_up(unreadable, {}, inspection, problem)
        checked, records, due = _select_files_to_read(files, settings, now, may_save or is_dry_run, cache, info)
        if due:
            # Here, so that a pass in which all are trusted does not pay for hashes and threads.
            from .hashing import RateLimiter, map_in_threads, run_at_idle_priority, thread_count

            checksums = settings.checksums
            context = VerificationContext(
                settings=settings,
                now=now,
                rate_limiter=RateLimiter(checksums.max_rate, checksums.time_budget_seconds),
                cache=cache,
                info=info,
                locks=locks,
                may_save=may_save,
                is_dry_run=is_dry_run,
                keep_lock_files=snapshot.storage is None or snapshot.storage.shared,
                first=frozenset(file.name for file in due[: thread_count(len(due))]),
                existing_locks=_existing_locks(snapshot, plan, removed),
            )
            progress_log = ProgressLog(log, f"Verification of {printable(settings.cache_path)}", due)
            done: list[CacheFile] = []

            def verify_one(file: CacheFile) -> FileVerification:
                result = _verify(file, records[file.name], context)
                done.append(file)
                progress_log.note(done)
                return result

            checked += run_at_idle_priority(lambda: map_in_threads(verify_one, due), run_command)
    return sum_up(checked, records, inspection, problem, is_dry_run)


def state_without_reading(
    record: SavedChecksums, is_known: bool, settings: ChecksumSettings, now: float, may_save: bool
) -> VerificationState | None:
    """Say what is known of a file without reading it.

    :param is_known: whether its checksum was given.
    :param may_save: whether its checksum is saved, or in a dry run would be.
    :return: its result, None where it must be read.
    """
    if settings.algorithm in record.digests and is_recent(record.verified_at, settings.interval_seconds, now):
        return VerificationState.TRUSTED
    if not record.digests and not is_known and not may_save:
        return VerificationState.UNVERIFIED
    return None


def _in_scope(plan: Plan, settings: ChecksumSettings, removed: frozenset[str]) -> list[CacheFile]:
    active, not_deleted = State.ACTIVE, (Reason.NOT_DELETED,)  # what Glance has is kept, and nothing uses it
    return [
        verdict.file
        for verdict in plan.verdicts
        if (settings.all_files or (verdict.state is active and verdict.reasons != not_deleted))
        and verdict.file.kind in INFO_KINDS
        and verdict.file.name not in removed
    ]


def _open_locks(settings: Settings, may_save: bool, is_dry_run: bool) -> tuple[int | None, str]:
    """Open the directory of nova's locks; where it cannot be used, say why: nothing is saved then."""
    locks = f"nova's lock directory {printable(settings.locks_path)}"
    try:
        if may_save:
            return open_locks_directory(settings.instances_path, LOCKS_DIRECTORY), ""
        return os.open(settings.locks_path, DIRECTORY_FLAGS), ""
    except OSError as exc:
        if not may_save and isinstance(exc, FileNotFoundError):
            if is_dry_run and not can_create_owned_by_nova(settings.instances_path):
                return None, f"{locks} cannot be made by this user. {remedy_for_rights()}"
            return None, ""
        return None, f"{locks} cannot be used: {reason_and_remedy(exc)}"


def _existing_locks(snapshot: Snapshot, plan: Plan, removed: frozenset[str]) -> frozenset[str] | None:
    """Return the lock files that exist if no other can be made, not even in the room of what was removed."""
    obstacles = snapshot.obstacles
    freed = sum(file.allocated_bytes for file in plan.removals if file.name in removed)
    needed = obstacles.bytes_for_locks
    has_room = not obstacles.new_locks or (needed is not None and freed >= needed)
    return None if has_room else obstacles.lock_files


def _select_files_to_read(
    files: Sequence[CacheFile], settings: Settings, now: float, may_save: bool, cache: int, directory: int | None
) -> tuple[list[FileVerification], dict[str, SavedChecksums], list[CacheFile]]:
    """Read what is saved about the files; give what needs no reading, what is saved of the others, and what is due.

    No lock is taken for that: our own writes are never seen half done. One of an old nova's may be;
    then the file is read again under its lock before anything is made of it.
    """
    checksums = settings.checksums
    pattern = os.path.basename(settings.image_info_filename_pattern)
    algorithm, interval_seconds, trusted = checksums.algorithm, checksums.interval_seconds, VerificationState.TRUSTED
    checked = []
    records = {}
    due = []
    for file in files:
        info_file = info_path(pattern, file.name)
        # The quickest way to what state_without_reading() would say of most files on most days.
        if directory is not None:
            time = read_timestamp(info_file, directory, algorithm)
            if time is not None and abs(now - time) < interval_seconds:
                checked.append(FileVerification(file, trusted, None, None, time))
                continue
        try:
            record = read_saved_checksums(read_info(info_file, directory), file.name, algorithm, cache)
        except OSError as exc:
            checked.append(_unreadable(file, f"its info file: {reason_and_remedy(exc)}"))
            continue
        records[file.name] = record
        state = state_without_reading(record, file.name in checksums.known, checksums, now, may_save)
        if state is None:
            due.append(file)
        else:
            checked.append(FileVerification(file, state, verified_at=record.verified_at))
    return checked, records, least_recently_verified_first(due, records)


def _verify(file: CacheFile, record: SavedChecksums, context: VerificationContext) -> FileVerification:
    """Verify one file under its lock, or where nothing may be saved, while nobody holds that."""
    if context.rate_limiter.is_expired():
        left = FileVerification(file, VerificationState.DEFERRED, verified_at=record.verified_at)
        return _with_first_saving(left, record, context)
    locked = FileVerification(file, VerificationState.SKIPPED, ChecksumReason.LOCKED, verified_at=record.verified_at)
    lock_file = lock_name("hash-" + file.name)
    save_error = ""
    try:
        if context.locks is not None and context.may_save:
            why = _why_no_lock(file, context)
            if why:
                return _compare(file, record, context)._replace(save_error=why)
            lock = acquire(context.locks, lock_file, wait_seconds=0)
            if lock is None:
                return locked
            try:
                return _verify_locked(file, context, context.locks)
            finally:
                release(lock, remove_file=not context.keep_lock_files)
        if context.locks is not None and is_locked(context.locks, lock_file):
            return locked
    except OSError as exc:
        save_error = f"its lock {lock_file} cannot be used: {reason_and_remedy(exc)}"
    checked = _compare(file, record, context)._replace(save_error=save_error)
    return checked if save_error else _with_first_saving(checked, record, context)


def _with_first_saving(
    checked: FileVerification, record: SavedChecksums, context: VerificationContext
) -> FileVerification:
    """Add to the result of a dry run whether a prune would save a first checksum, or why it could not."""
    file = checked.file
    can_be_good = checked.state in (VerificationState.OK, VerificationState.UNVERIFIED, VerificationState.DEFERRED)
    is_first = context.settings.checksums.algorithm not in record.digests
    if not context.is_dry_run or not can_be_good or not (is_first or record.is_essex):
        return checked
    try:
        why = (
            _why_no_lock(file, context)
            or why_info_cannot_be_saved(context.settings.image_info_filename_pattern, file.name, context.info)
            or (record.is_essex and _why_essex_stays(file, context))
            or _why_not_taken(file, context)
        )
    except OSError as exc:
        why = f"its info file or its lock: {reason_and_remedy(exc)}"
    return checked._replace(save_error=why, is_first_saving=is_first and not why)


def _why_essex_stays(file: CacheFile, context: VerificationContext) -> str:
    return why_essex_checksum_cannot_be_removed(file.name, context.settings.cache_path, context.cache)


def _why_no_lock(file: CacheFile, context: VerificationContext) -> str:
    """Say why a lock file that is missing cannot be made; empty where none is missing, or all can be made."""
    for lock_file in (lock_name("hash-" + file.name), info_lock_name(file.name)):
        if context.existing_locks is not None and lock_file not in context.existing_locks:
            reason = f"its lock {lock_file} cannot be made in {printable(context.settings.locks_path)}"
            is_refused = os.geteuid() != 0 and not can_create_owned_by_nova(context.settings.locks_path)
            remedy = AS_ROOT if is_refused else "Check its space (df, df -i), mount and attributes (lsattr -d)"
            return f"{reason}. {remedy}"
    return ""


def _why_not_taken(file: CacheFile, context: VerificationContext) -> str:
    """Say why one of the locks of a file cannot be taken, as far as its lock file shows it."""
    for lock_file in (lock_name("hash-" + file.name), info_lock_name(file.name)):
        if context.locks is not None:
            state = look_at_lock(context.locks, lock_file)
            if state.is_held:
                return held_lock(lock_file)
            if state.is_unusable:
                return f"its lock {lock_file} cannot be used. Look at it (ls -l, lsattr){or_as_root()}"
    return ""


def _verify_locked(file: CacheFile, context: VerificationContext, locks: int) -> FileVerification:
    """Verify one file, and save the result."""
    # Another host may have verified it since, or an old nova may just have been writing.
    settings = context.settings
    try:
        pattern = os.path.basename(settings.image_info_filename_pattern)
        info = read_info(info_path(pattern, file.name), context.info)
        record = read_saved_checksums(info, file.name, settings.checksums.algorithm, context.cache)
        if record.damaged is not None and is_locked(locks, info_lock_name(file.name)):
            return FileVerification(file, VerificationState.SKIPPED, ChecksumReason.LOCKED)
    except OSError as exc:
        return _unreadable(file, f"its info file: {reason_and_remedy(exc)}")
    state = state_without_reading(
        record, file.name in settings.checksums.known, settings.checksums, context.now, may_save=True
    )
    if state is not None:
        return FileVerification(file, state, verified_at=record.verified_at)
    try:
        if record.is_essex:
            _save(file, {"sha1": record.digests["sha1"]}, context, locks)
            remove_essex_checksum(file.name, context.cache)
    except (OSError, ImageCacheError) as exc:
        return _compare(file, record, context)._replace(save_error=_why(exc))
    checked, digests = _read_whole(file, record, context, to_save=True)
    facts = _facts(checked, digests, settings.checksums, context.now)
    if not facts:
        return checked
    try:
        _save(file, facts, context, locks)
    except (OSError, ImageCacheError) as exc:
        return checked._replace(save_error=_why(exc))
    algorithm = settings.checksums.algorithm
    checked = checked._replace(is_first_saving=algorithm in facts and algorithm not in record.digests)
    return checked._replace(verified_at=context.now) if checked.state is VerificationState.UNVERIFIED else checked


def _facts(
    checked: FileVerification, digests: Mapping[str, str] | None, settings: ChecksumSettings, now: float
) -> dict[str, Any]:
    """Return what is to be saved after a file was read."""
    algorithm = settings.algorithm
    if digests is not None and checked.state in (VerificationState.OK, VerificationState.UNVERIFIED):
        return {algorithm: digests[algorithm], algorithm + TIMESTAMP: now}
    # Without a limit everything is read each time, and no file can be in another's way. One that was
    # begun late has had no turn: it is the first one next time.
    had_its_turn = (
        checked.exceeds_budget
        or checked.state is VerificationState.CORRUPT
        or checked.reason in (ChecksumReason.CHANGED, ChecksumReason.UNREADABLE)
    )
    return {algorithm + ATTEMPT: now} if had_its_turn and settings.time_budget_seconds is not None else {}


def _save(file: CacheFile, facts: Mapping[str, Any], context: VerificationContext, locks: int) -> None:
    pattern = context.settings.image_info_filename_pattern
    save_info(pattern, file.name, facts, directory=context.info, locks=locks, keep_lock_file=context.keep_lock_files)


def _compare(file: CacheFile, record: SavedChecksums, context: VerificationContext) -> FileVerification:
    """Verify one file, and save nothing."""
    return _read_whole(file, record, context, to_save=False)[0]


def _read_whole(file: CacheFile, record: SavedChecksums, context: VerificationContext, *, to_save: bool) -> _Reading:
    """Read a file, and compare its checksums with what they must be; give these too, if it was read to its end.

    Where there is nothing to compare with and nothing to save, it is only opened.
    """
    from .hashing import read_digests

    settings = context.settings.checksums
    expected, reason = _expected(file.name, record, settings)
    checked = FileVerification(file, VerificationState.SKIPPED, verified_at=record.verified_at)
    try:
        descriptor = os.open(file.name, FILE_FLAGS, dir_fd=context.cache)
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode) or before.st_ino != file.inode:
                return checked._replace(reason=ChecksumReason.REPLACED), None
            if not expected and not to_save:
                return checked._replace(state=VerificationState.UNVERIFIED), None
            digests = read_digests(descriptor, {settings.algorithm, *expected}, context.rate_limiter)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if digests is None:
            return checked._replace(state=VerificationState.DEFERRED, exceeds_budget=file.name in context.first), None
        if not os.path.samestat(os.stat(file.name, dir_fd=context.cache, follow_symlinks=False), after):
            return checked._replace(reason=ChecksumReason.REPLACED), None
    except FileNotFoundError:
        return checked._replace(reason=ChecksumReason.GONE), None
    except BlockingIOError:  # a prune is about to remove it
        return checked._replace(reason=ChecksumReason.LOCKED), None
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            return checked._replace(reason=ChecksumReason.REPLACED), None
        return _unreadable(file, reason_and_remedy(exc))._replace(verified_at=record.verified_at), None
    differences = [
        f"its {algorithm} is {digests[algorithm]} and not {value}"
        for algorithm, value in expected.items()
        if digests[algorithm] != value
    ]
    # A good one may have been touched meanwhile: nova does that whenever it builds on a file.
    is_touched = before.st_mtime_ns != after.st_mtime_ns
    if before.st_size != after.st_size or (is_touched and (differences or not expected)):
        return checked._replace(reason=ChecksumReason.CHANGED), None
    checked = checked._replace(read_bytes=after.st_size)
    if differences:
        return checked._replace(
            state=VerificationState.CORRUPT, reason=reason, detail=" and ".join(differences)
        ), digests
    if expected:
        return checked._replace(state=VerificationState.OK, verified_at=context.now), digests
    return checked._replace(state=VerificationState.UNVERIFIED), digests


def _expected(
    name: str, record: SavedChecksums, settings: ChecksumSettings
) -> tuple[Mapping[str, str], ChecksumReason]:
    """Return what a file's checksums must be, by algorithm.

    A known one is the image's own and needs no other. Without one of the wanted algorithm, those
    of others do: a new algorithm must not bless what is corrupt already.
    """
    if name in settings.known:
        algorithm, value = settings.known[name]
        return {algorithm: value}, ChecksumReason.KNOWN
    if settings.algorithm in record.digests:
        return {settings.algorithm: record.digests[settings.algorithm]}, ChecksumReason.SAVED
    return record.digests, ChecksumReason.SAVED


def _unreadable(file: CacheFile, detail: str) -> FileVerification:
    return FileVerification(file, VerificationState.SKIPPED, ChecksumReason.UNREADABLE, detail=detail)


def _why(exc: OSError | ImageCacheError) -> str:
    return str(exc) if isinstance(exc, ImageCacheError) else f"its info file: {reason_and_remedy(exc)}"
