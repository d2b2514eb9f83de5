# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time and is not for use from elsewhere.
"""Verification: are base files still what they were? Nothing here decides what is removed, or repairs anything.

What nova did until 2019 (``_verify_checksum`` in Icehouse's ``imagecache.py``), under the same lock
and with the same stored facts, but a good result is stamped and a bad one never is.
"""

from __future__ import annotations

import errno
import math
import os
import re
import stat
from contextlib import ExitStack
from enum import Enum
from typing import TYPE_CHECKING, Any, Mapping, NamedTuple, Optional, Sequence, Tuple

from .disks import RunCommand
from .errors import AS_ROOT, ImageCacheError, reason_of
from .info_files import (
    DIGITS,
    INFO_KINDS,
    TIMESTAMP,
    Info,
    info_directory,
    info_lock_name,
    read_essex_checksum,
    read_info,
    read_timestamp,
    remove_essex_checksum,
    store_facts,
    why_essex_checksum_cannot_be_removed,
    why_facts_cannot_be_stored,
)
from .layout import LOCKS_DIRECTORY, info_path, lock_name, printable, some_names
from .locks import acquire, is_locked, look_at_lock, open_locks_directory, release
from .obstacles import can_create_owned_by_nova
from .plan import Plan, State, used_by
from .scan import CacheFile, Snapshot, open_cache
from .settings import ChecksumSettings, Settings

if TYPE_CHECKING:
    from .hashing import Pace

__all__ = ["Checked", "Checksum", "ChecksumReason", "Record", "Verification", "judge", "order", "verify_files"]

Reading = Tuple["Checked", Optional[Mapping[str, str]]]

_DIGESTS = {algorithm: re.compile(f"[0-9a-f]{{{digits}}}") for algorithm, digits in DIGITS.items()}
# When a file was last read in vain: so that it lets the others go first in a run with little time.
_ATTEMPT = "-attempt"
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOCKS_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Checksum(str, Enum):
    """What verification says of a file."""

    UNVERIFIED = "unverified"
    TRUSTED = "trusted"
    OK = "ok"
    CORRUPT = "corrupt"
    SKIPPED = "skipped"
    LEFT = "left"


class ChecksumReason(str, Enum):
    """Why a file is corrupt or was skipped."""

    STORED = "stored"
    KNOWN = "known"
    LOCKED = "locked"
    CHANGED = "changed"
    REPLACED = "replaced"
    GONE = "gone"
    UNREADABLE = "unreadable"


class Record(NamedTuple):
    """What is stored about a file.

    :param stored: its checksums by algorithm, in lowercase hex.
    :param verified_at: when that of the wanted algorithm was stored or verified last, in unix
        seconds; None where it never was or nobody knows.
    :param attempted_at: when the file was read last in vain, in unix seconds.
    :param damaged: why its info file cannot be understood, None where it can.
    :param is_essex: its checksum still lies where Essex left it.
    """

    stored: Mapping[str, str]
    verified_at: float | None = None
    attempted_at: float | None = None
    damaged: str | None = None
    is_essex: bool = False


class Checked(NamedTuple):
    """The result for one file.

    :param read_bytes: its size where it was read to its end, else None.
    :param verified_at: as in :class:`Record`, after this pass.
    :param detail: what is wrong with a corrupt file, or why one cannot be read; else empty.
    :param unstored: why the result could not be stored, empty where it could or need not be.
    :param had_all_time: whether a file that was left had the whole of the time and needs more.
    :param is_first_saving: whether a checksum of the wanted algorithm was saved and none was there before; in a dry
        run, whether a prune would do so, if it has the time.
    """

    file: CacheFile
    state: Checksum
    reason: ChecksumReason | None = None
    read_bytes: int | None = None
    verified_at: float | None = None
    detail: str = ""
    unstored: str = ""
    had_all_time: bool = False
    is_first_saving: bool = False


class Verification(NamedTuple):
    """What a pass found out.

    :param by_name: the result for each file in scope.
    :param corrupt: the corrupt files.
    :param summary: the pass in numbers, as plain data.
    :param alarms: a sentence for each corrupt file.
    :param warnings: other sentences for the operator.
    :param saved: the files whose checksum was saved for the first time, or in a dry run would be, in the order in
        which they are verified.
    """

    by_name: Mapping[str, Checked]
    corrupt: Sequence[CacheFile]
    summary: dict[str, Any]
    alarms: Sequence[str]
    warnings: Sequence[str]
    saved: Sequence[CacheFile] = ()


class _Pass(NamedTuple):
    """What every file of a pass has in common.

    :param info: what :func:`info_files.info_directory` gives; None where there is no such directory.
    :param locks: descriptor of the lock files' directory; None where there is none, or none can be used.
    :param may_store: whether locks are taken and results stored.
    :param is_dry_run: whether it is said what would be stored.
    :param keep_lock_files: leave lock files, because other hosts may wait on them.
    :param first: the files that are begun at once, and so have the whole of the time.
    :param existing_locks: the names of the lock files that exist, where no more can be made; else None.
    """

    settings: Settings
    now: float
    pace: Pace
    cache: int
    info: int | None
    locks: int | None
    may_store: bool
    is_dry_run: bool
    keep_lock_files: bool
    first: frozenset[str]
    existing_locks: frozenset[str] | None


def verify_files(
    *,
    snapshot: Snapshot,
    plan: Plan,
    settings: Settings,
    now: float,
    run_command: RunCommand,
    removed: frozenset[str] = frozenset(),
    may_store: bool = False,
    is_dry_run: bool = False,
) -> Verification:
    """Verify the files in scope, those first that were verified longest ago, as far as the time allows.

    :param snapshot: what was found on the host.
    :param plan: what was decided about it.
    :param settings: the options.
    :param now: the time of the pass, in unix seconds.
    :param run_command: how ``ionice`` is run.
    :param removed: names of files that are gone.
    :param may_store: store missing checksums and stamp good ones, under nova's locks. Without it
        nothing is written, not even a lock file.
    :param is_dry_run: say what a pass that may store would save. Exclusive with ``may_store``.
    :return: what was found out.
    :raises ImageCacheError: the cache cannot be opened.
    """
    files = _in_scope(plan, settings.checksums, removed)
    cache = open_cache(settings)
    if cache is None:
        return _sum_up([], {}, snapshot, plan, settings, now, "")
    with ExitStack() as opened:
        opened.callback(os.close, cache)
        locks, problem = _open_locks(settings, may_store, is_dry_run)
        if locks is not None:
            opened.callback(os.close, locks)
        may_store = may_store and locks is not None
        is_dry_run = is_dry_run and not problem
        try:
            info = opened.enter_context(
                info_directory(settings.image_info_filename_pattern, settings.cache_path, cache)
            )
        except OSError as exc:
            path = os.path.dirname(settings.image_info_filename_pattern)
            unreadable = [_unreadable(file, f"its info file in {printable(path)}: {reason_of(exc)}") for file in files]
            return _sum_up(unreadable, {}, snapshot, plan, settings, now, problem)
        checked, records, due = _sort_out(files, settings, now, may_store or is_dry_run, cache, info)
        if due:
            # Here, so that a pass in which all are trusted does not pay for hashes and threads.
            from .hashing import Pace, in_background, on_all_cores, thread_count

            checksums = settings.checksums
            work = _Pass(
                settings=settings,
                now=now,
                pace=Pace(checksums.max_rate, checksums.time_budget_seconds),
                cache=cache,
                info=info,
                locks=locks,
                may_store=may_store,
                is_dry_run=is_dry_run,
                keep_lock_files=snapshot.store is None or snapshot.store.shared,
                first=frozenset(file.name for file in due[: thread_count(len(due))]),
                existing_locks=_existing_locks(snapshot, plan, removed),
            )
            checked += in_background(
                lambda: on_all_cores(lambda file: _verify(file, records[file.name], work), due), run_command
            )
    return _sum_up(checked, records, snapshot, plan, settings, now, problem, is_dry_run)


def judge(record: Record, is_known: bool, settings: ChecksumSettings, now: float, may_store: bool) -> Checksum | None:
    """Say what is known of a file without reading it.

    :param is_known: whether its checksum was given.
    :param may_store: whether its checksum is stored, or in a dry run would be.
    :return: its result, None where it must be read.
    """
    if settings.algorithm in record.stored and _is_recent(record.verified_at, settings.interval_seconds, now):
        return Checksum.TRUSTED
    if not record.stored and not is_known and not may_store:
        return Checksum.UNVERIFIED
    return None


def order(files: Sequence[CacheFile], records: Mapping[str, Record]) -> list[CacheFile]:
    """Sort files by when they were last verified, or read in vain, those that never were first."""

    def last_looked_at(file: CacheFile) -> tuple[float, str]:
        record = records[file.name]
        times = [time for time in (record.verified_at, record.attempted_at) if time is not None]
        return (max(times, default=-math.inf), file.name)

    return sorted(files, key=last_looked_at)


def _in_scope(plan: Plan, settings: ChecksumSettings, removed: frozenset[str]) -> list[CacheFile]:
    active = State.ACTIVE
    return [
        verdict.file
        for verdict in plan.verdicts
        if (verdict.state is active or settings.all_files)
        and verdict.file.kind in INFO_KINDS
        and verdict.file.name not in removed
    ]


def _open_locks(settings: Settings, may_store: bool, is_dry_run: bool) -> tuple[int | None, str]:
    """Open the directory of nova's locks; where it cannot be used, say why: nothing is stored then."""
    try:
        if may_store:
            return open_locks_directory(settings.instances_path, LOCKS_DIRECTORY), ""
        return os.open(settings.locks_path, _LOCKS_FLAGS), ""
    except OSError as exc:
        if not may_store and isinstance(exc, FileNotFoundError):
            if is_dry_run and not can_create_owned_by_nova(settings.instances_path):
                return None, f"nova's locks in {printable(settings.locks_path)} cannot be made by this user. {AS_ROOT}"
            return None, ""
        return None, f"nova's locks in {printable(settings.locks_path)} cannot be used: {reason_of(exc)}"


def _existing_locks(snapshot: Snapshot, plan: Plan, removed: frozenset[str]) -> frozenset[str] | None:
    """Return the lock files that exist if no other can be made, not even in the room of what was removed."""
    obstacles = snapshot.obstacles
    freed = sum(file.allocated_bytes for file in plan.removals if file.name in removed)
    needed = obstacles.bytes_for_locks
    has_room = not obstacles.new_locks or (needed is not None and bool(removed) and freed >= needed)
    return None if has_room else obstacles.lock_files


def _sort_out(
    files: Sequence[CacheFile], settings: Settings, now: float, may_store: bool, cache: int, directory: int | None
) -> tuple[list[Checked], dict[str, Record], list[CacheFile]]:
    """Read what is stored about the files; give what needs no reading, what is stored of the others, and what is due.

    No lock is taken for that: our own writes are never seen half done. One of an old nova's may be;
    then the file is read again under its lock before anything is made of it.
    """
    checksums = settings.checksums
    pattern = os.path.basename(settings.image_info_filename_pattern)
    algorithm, interval_seconds, trusted = checksums.algorithm, checksums.interval_seconds, Checksum.TRUSTED
    checked = []
    records = {}
    due = []
    for file in files:
        info_file = info_path(pattern, file.name)
        # The quickest way to what judge() would say of most files on most days.
        if directory is not None:
            time = read_timestamp(info_file, directory, algorithm)
            if time is not None and abs(now - time) < interval_seconds:
                checked.append(Checked(file, trusted, None, None, time))
                continue
        try:
            record = _make_record(read_info(info_file, directory), file.name, settings, cache)
        except OSError as exc:
            checked.append(_unreadable(file, f"its info file: {reason_of(exc)}"))
            continue
        records[file.name] = record
        state = judge(record, file.name in checksums.known, checksums, now, may_store)
        if state is None:
            due.append(file)
        else:
            checked.append(Checked(file, state, verified_at=record.verified_at))
    return checked, records, order(due, records)


def _make_record(info: Info, name: str, settings: Settings, cache: int) -> Record:
    """Put together what is stored about a file, in its info file or where Essex left it."""
    algorithm = settings.checksums.algorithm
    stored = {
        algorithm: str(info.fields[algorithm]).strip().lower()
        for algorithm in _DIGESTS
        if _is_checksum(algorithm, info.fields.get(algorithm))
    }
    essex = None if "sha1" in stored else read_essex_checksum(name, cache)
    is_essex = _is_checksum("sha1", essex)
    if is_essex:
        stored["sha1"] = str(essex).lower()
    return Record(
        stored=stored,
        verified_at=_verified_at(info, algorithm),
        attempted_at=_time(info.fields.get(algorithm + _ATTEMPT)),
        damaged=info.damaged,
        is_essex=is_essex,
    )


def _verified_at(info: Info, algorithm: str) -> float | None:
    if not _is_checksum(algorithm, info.fields.get(algorithm)):
        return None
    return _time(info.fields.get(algorithm + TIMESTAMP))


def _is_checksum(algorithm: str, value: object) -> bool:
    return isinstance(value, str) and _DIGESTS[algorithm].fullmatch(value.strip().lower()) is not None


def _time(value: object) -> float | None:
    """Return a stored time, None where it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _is_recent(time: float | None, interval_seconds: int, now: float) -> bool:
    # A time in the future, by a clock that was wrong, must not be trusted until it comes.
    return time is not None and abs(now - time) < interval_seconds


def _verify(file: CacheFile, record: Record, work: _Pass) -> Checked:
    """Verify one file under its lock, or where nothing may be stored, while nobody holds that."""
    if work.pace.is_over():
        left = Checked(file, Checksum.LEFT, verified_at=record.verified_at)
        return _with_first_saving(left, record, work)
    locked = Checked(file, Checksum.SKIPPED, ChecksumReason.LOCKED, verified_at=record.verified_at)
    lock_file = lock_name("hash-" + file.name)
    unstored = ""
    try:
        if work.locks is not None and work.may_store:
            why = _why_no_lock(file, work)
            if why:
                return _compare(file, record, work)._replace(unstored=why)
            lock = acquire(work.locks, lock_file, wait_seconds=0)
            if lock is None:
                return locked
            try:
                return _verify_locked(file, work, work.locks)
            finally:
                release(lock, remove_file=not work.keep_lock_files)
        if work.locks is not None and is_locked(work.locks, lock_file):
            return locked
    except OSError as exc:
        unstored = f"its lock {lock_file} cannot be used: {reason_of(exc)}"
    checked = _compare(file, record, work)._replace(unstored=unstored)
    return checked if unstored else _with_first_saving(checked, record, work)


def _with_first_saving(checked: Checked, record: Record, work: _Pass) -> Checked:
    """Add to the result of a dry run whether a prune would save a first checksum, or why it could not."""
    file = checked.file
    can_be_good = checked.state in (Checksum.OK, Checksum.UNVERIFIED, Checksum.LEFT)
    is_first = work.settings.checksums.algorithm not in record.stored
    if not work.is_dry_run or not can_be_good or not (is_first or record.is_essex):
        return checked
    try:
        why = (
            _why_no_lock(file, work)
            or why_facts_cannot_be_stored(work.settings.image_info_filename_pattern, file.name, work.info)
            or (record.is_essex and _why_essex_stays(file, work))
            or _why_not_taken(file, work)
        )
    except OSError as exc:
        why = f"its info file or its lock: {reason_of(exc)}"
    return checked._replace(unstored=why, is_first_saving=is_first and not why)


def _why_essex_stays(file: CacheFile, work: _Pass) -> str:
    return why_essex_checksum_cannot_be_removed(file.name, work.settings.cache_path, work.cache)


def _why_no_lock(file: CacheFile, work: _Pass) -> str:
    """Say why a lock file that is missing cannot be made; empty where none is missing, or all can be made."""
    for lock_file in (lock_name("hash-" + file.name), info_lock_name(file.name)):
        if work.existing_locks is not None and lock_file not in work.existing_locks:
            reason = f"its lock {lock_file} cannot be made in {printable(work.settings.locks_path)}"
            is_refused = os.geteuid() != 0 and not can_create_owned_by_nova(work.settings.locks_path)
            return f"{reason}. {AS_ROOT}" if is_refused else reason
    return ""


def _why_not_taken(file: CacheFile, work: _Pass) -> str:
    """Say why one of the locks of a file cannot be taken, as far as its lock file shows it."""
    for lock_file in (lock_name("hash-" + file.name), info_lock_name(file.name)):
        if work.locks is not None:
            state = look_at_lock(work.locks, lock_file)
            if state.is_held:
                return f"somebody else keeps the lock {lock_file}"
            if state.is_unusable:
                return f"its lock {lock_file} cannot be used"
    return ""


def _verify_locked(file: CacheFile, work: _Pass, locks: int) -> Checked:
    """Verify one file, and store the result."""
    # Another host may have verified it since, or an old nova may just have been writing.
    settings = work.settings
    try:
        pattern = os.path.basename(settings.image_info_filename_pattern)
        info = read_info(info_path(pattern, file.name), work.info)
        record = _make_record(info, file.name, settings, work.cache)
        if record.damaged is not None and is_locked(locks, info_lock_name(file.name)):
            return Checked(file, Checksum.SKIPPED, ChecksumReason.LOCKED)
    except OSError as exc:
        return _unreadable(file, f"its info file: {reason_of(exc)}")
    state = judge(record, file.name in settings.checksums.known, settings.checksums, work.now, may_store=True)
    if state is not None:
        return Checked(file, state, verified_at=record.verified_at)
    try:
        if record.is_essex:
            _store(file, {"sha1": record.stored["sha1"]}, work, locks)
            remove_essex_checksum(file.name, work.cache)
    except (OSError, ImageCacheError) as exc:
        return _compare(file, record, work)._replace(unstored=_why(exc))
    checked, digests = _read_whole(file, record, work, to_store=True)
    facts = _facts(checked, digests, settings.checksums, work.now)
    if not facts:
        return checked
    try:
        _store(file, facts, work, locks)
    except (OSError, ImageCacheError) as exc:
        return checked._replace(unstored=_why(exc))
    algorithm = settings.checksums.algorithm
    checked = checked._replace(is_first_saving=algorithm in facts and algorithm not in record.stored)
    return checked._replace(verified_at=work.now) if checked.state is Checksum.UNVERIFIED else checked


def _facts(
    checked: Checked, digests: Mapping[str, str] | None, settings: ChecksumSettings, now: float
) -> dict[str, Any]:
    """Return what is to be stored after a file was read."""
    algorithm = settings.algorithm
    if digests is not None and checked.state in (Checksum.OK, Checksum.UNVERIFIED):
        return {algorithm: digests[algorithm], algorithm + TIMESTAMP: now}
    # Without a limit everything is read each time, and no file can be in another's way. One that was
    # begun late has had no turn: it is the first one next time.
    had_its_turn = (
        checked.had_all_time
        or checked.state is Checksum.CORRUPT
        or checked.reason in (ChecksumReason.CHANGED, ChecksumReason.UNREADABLE)
    )
    return {algorithm + _ATTEMPT: now} if had_its_turn and settings.time_budget_seconds is not None else {}


def _store(file: CacheFile, facts: Mapping[str, Any], work: _Pass, locks: int) -> None:
    pattern = work.settings.image_info_filename_pattern
    store_facts(pattern, file.name, facts, directory=work.info, locks=locks, keep_lock_file=work.keep_lock_files)


def _compare(file: CacheFile, record: Record, work: _Pass) -> Checked:
    """Verify one file, and store nothing."""
    return _read_whole(file, record, work, to_store=False)[0]


def _read_whole(file: CacheFile, record: Record, work: _Pass, *, to_store: bool) -> Reading:
    """Read a file, and compare its checksums with what they must be; give these too, if it was read to its end.

    Where there is nothing to compare with and nothing to store, it is only opened.
    """
    from .hashing import read_digests

    settings = work.settings.checksums
    expected, reason = _expected(file.name, record, settings)
    checked = Checked(file, Checksum.SKIPPED, verified_at=record.verified_at)
    try:
        descriptor = os.open(file.name, _FILE_FLAGS, dir_fd=work.cache)
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode) or before.st_ino != file.inode:
                return checked._replace(reason=ChecksumReason.REPLACED), None
            if not expected and not to_store:
                return checked._replace(state=Checksum.UNVERIFIED), None
            digests = read_digests(descriptor, {settings.algorithm, *expected}, work.pace)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if digests is None:
            return checked._replace(state=Checksum.LEFT, had_all_time=file.name in work.first), None
        if not os.path.samestat(os.stat(file.name, dir_fd=work.cache, follow_symlinks=False), after):
            return checked._replace(reason=ChecksumReason.REPLACED), None
    except FileNotFoundError:
        return checked._replace(reason=ChecksumReason.GONE), None
    except BlockingIOError:  # a prune is about to remove it
        return checked._replace(reason=ChecksumReason.LOCKED), None
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            return checked._replace(reason=ChecksumReason.REPLACED), None
        return _unreadable(file, reason_of(exc))._replace(verified_at=record.verified_at), None
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
        return checked._replace(state=Checksum.CORRUPT, reason=reason, detail=" and ".join(differences)), digests
    if expected:
        return checked._replace(state=Checksum.OK, verified_at=work.now), digests
    return checked._replace(state=Checksum.UNVERIFIED), digests


def _expected(name: str, record: Record, settings: ChecksumSettings) -> tuple[Mapping[str, str], ChecksumReason]:
    """Return what a file's checksums must be, by algorithm.

    A known one is the image's own and needs no other. Without one of the wanted algorithm, those
    of others do: a new algorithm must not bless what is corrupt already.
    """
    if name in settings.known:
        algorithm, value = settings.known[name]
        return {algorithm: value}, ChecksumReason.KNOWN
    if settings.algorithm in record.stored:
        return {settings.algorithm: record.stored[settings.algorithm]}, ChecksumReason.STORED
    return record.stored, ChecksumReason.STORED


def _unreadable(file: CacheFile, detail: str) -> Checked:
    return Checked(file, Checksum.SKIPPED, ChecksumReason.UNREADABLE, detail=detail)


def _why(exc: OSError | ImageCacheError) -> str:
    return str(exc) if isinstance(exc, ImageCacheError) else f"its info file: {reason_of(exc)}"


def _sum_up(
    checked: Sequence[Checked],
    records: Mapping[str, Record],
    snapshot: Snapshot,
    plan: Plan,
    settings: Settings,
    now: float,
    problem: str,
    is_dry_run: bool = False,
) -> Verification:
    by_state: dict[Checksum, list[Checked]] = {state: [] for state in Checksum}
    for result in sorted(checked, key=lambda result: result.file.name):
        by_state[result.state].append(result)
    read = [result.read_bytes for result in checked if result.read_bytes is not None]
    times = [result.verified_at for result in checked if result.verified_at is not None]
    is_complete = len(times) == len(checked) and times
    first_saved = [result.file for result in checked if result.is_first_saving]
    saved = order(first_saved, records) if first_saved else []
    warnings = _warnings(by_state, records, problem)
    if saved and is_dry_run and settings.checksums.time_budget_seconds is not None:
        warnings.append(_budget_warning(len(saved)))
    return Verification(
        by_name={result.file.name: result for result in checked},
        corrupt=[result.file for result in by_state[Checksum.CORRUPT]],
        summary={
            "algorithm": settings.checksums.algorithm,
            "verified_files": len(read),
            "verified_bytes": sum(read),
            "trusted_files": len(by_state[Checksum.TRUSTED]),
            "unverified_files": len(by_state[Checksum.UNVERIFIED]),
            "skipped_files": len(by_state[Checksum.SKIPPED]),
            "left_files": len(by_state[Checksum.LEFT]),
            "left_bytes": sum(result.file.size_bytes for result in by_state[Checksum.LEFT]),
            "oldest_verification_seconds": max(0.0, now - min(times)) if is_complete else None,
        },
        alarms=[_alarm(result, snapshot, plan) for result in by_state[Checksum.CORRUPT]],
        warnings=warnings,
        saved=saved,
    )


def _alarm(result: Checked, snapshot: Snapshot, plan: Plan) -> str:
    users = used_by(result.file, snapshot, plan.usage)
    source = "known_checksums says" if result.reason is ChecksumReason.KNOWN else "was stored"
    return (
        f"The base file {printable(result.file.name)} is corrupt: {result.detail}, as {source}. "
        f"{f'It is used by {some_names(users)}' if users else 'No known instance uses it'}. "
        f"Nothing was done about it: compare it with another host's, and restore it from there or from Glance, "
        f"before what uses it starts again."
    )


def _warnings(by_state: Mapping[Checksum, Sequence[Checked]], records: Mapping[str, Record], problem: str) -> list[str]:
    sentences = []
    if problem:
        sentences.append(f"Checksums were compared without nova's locks, and not stored: {problem}.")
    checked = [result for results in by_state.values() for result in results]
    unstored = [(result.file.name, result.unstored) for result in checked if result.unstored]
    if unstored:
        sentences.append(
            f"What verification found of {_count(unstored)} could not be stored, and they are read again next time; "
            f"{_first(unstored)}."
        )
    unreadable = [
        (result.file.name, result.detail)
        for result in by_state[Checksum.SKIPPED]
        if result.reason is ChecksumReason.UNREADABLE
    ]
    if unreadable:
        sentences.append(f"{_count(unreadable)} could not be read and verified; {_first(unreadable)}.")
    damaged = [(name, record.damaged) for name, record in sorted(records.items()) if record.damaged is not None]
    if damaged:
        sentences.append(
            f"The info files of {_count(damaged)} are damaged and count as empty; {_first(damaged)}. A prune with "
            f"checksum_base_images writes them anew."
        )
    too_large = [result.file.name for result in by_state[Checksum.LEFT] if result.had_all_time]
    if too_large:
        sentences.append(
            f"checksum_time_budget_seconds, or checksum_max_rate, is too small to read {some_names(too_large)} to the "
            f"end: no run verifies such a file. Give it more in a run now and then."
        )
    return sentences


def _budget_warning(count: int) -> str:
    return (
        f"checksum_time_budget_seconds decides how many of the {count} checksums in saved_checksums a prune saves. It "
        f"saves them in that order. For all of them at once, leave the option out."
    )


def _count(items: Sequence[object]) -> str:
    return f"{len(items)} base {'file' if len(items) == 1 else 'files'}"


def _first(items: Sequence[tuple[str, str]]) -> str:
    name, why = items[0]
    return f"of {printable(name)}: {why}" if len(items) == 1 else f"of {printable(name)}, first of them: {why}"
