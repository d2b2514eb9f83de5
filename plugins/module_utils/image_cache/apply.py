# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Carries a plan out. Each removal looks at its file again, under nova's lock, and then decides nothing anew."""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import Callable, Mapping, NamedTuple, Sequence

from .cache_directory import open_cache
from .disk_references import DiskUse, backing_file_resolver
from .errors import ImageCacheError, reason_and_remedy
from .files import FILE_FLAGS
from .locks import Lock, acquire, open_locks_directory, release
from .names import LOCKS_DIRECTORY, info_path, lock_name
from .open_files import is_open_elsewhere, qemu_holds
from .overlays import overlays_now
from .plan import Kept, KeptReason, Plan, Reason, State
from .progress import Log, ProgressLog, silent
from .settings import Settings
from .snapshot import CacheFile, names_by_inode
from .text import printable

__all__ = ["Failure", "Outcome", "apply_plan", "dry_run"]

_LOCK_WAIT_SECONDS = 1.0  # for all locks of a batch together
_BATCH = 256  # each lock takes a descriptor, and nova waits for it
_NO_USES = frozenset([Reason.NOT_DELETED, Reason.PRECACHED])  # what keeps a file that nobody uses
_NO_USE = DiskUse([], {}, {}, [], [], [])
_NO_ORPHANS: frozenset[str] = frozenset()


class Failure(NamedTuple):
    """A file that should have gone and could not, and why."""

    name: str
    error: str


class Outcome(NamedTuple):
    """What was done.

    :param removed: the files that this pass removed.
    :param kept: the removable files that stayed.
    :param failed: the files whose removal failed; they may still be there.
    :param warnings: sentences for the operator.
    """

    removed: tuple[CacheFile, ...]
    kept: tuple[Kept, ...]
    failed: tuple[Failure, ...]
    warnings: tuple[str, ...]


def dry_run(plan: Plan) -> Outcome:
    """Tell what :func:`apply_plan` would do, and do nothing."""
    return Outcome(plan.removals, plan.kept, (), ())


def apply_plan(
    plan: Plan, settings: Settings, shared: bool, read_disks: Callable[[], DiskUse], log: Log = silent
) -> Outcome:
    """Mark the files that are in use as used now, and remove those that the plan says.

    :param plan: what to do.
    :param settings: the options that it was made from.
    :param shared: whether other hosts may have the same files: then this host's kernel cannot say who has one open.
    :param read_disks: looks at all disks again; it may raise ImageCacheError.
    :param log: where a line is written each minute.
    :return: what was done. An error on one file is recorded against it, and the rest goes on.
    :raises ImageCacheError: the cache cannot be opened any more; nothing was done.
    """
    cache = open_cache(settings)
    if cache is None:
        return Outcome((), tuple(Kept(file.name, KeptReason.GONE) for file in plan.removals), (), ())
    try:
        outcome = _remove_planned(plan, cache, settings, shared, read_disks, log)
        # Afterwards: a hard link of a file in use has its mtime as well, and may go.
        active = [
            verdict.file.name
            for verdict in plan.verdicts
            if verdict.state is State.ACTIVE and not _NO_USES.issuperset(verdict.reasons)
        ]
        return outcome._replace(warnings=_mark_used(cache, active))
    finally:
        os.close(cache)


def _remove_planned(
    plan: Plan, cache: int, settings: Settings, shared: bool, read_disks: Callable[[], DiskUse], log: Log
) -> Outcome:
    if not plan.removals:
        return Outcome((), plan.kept, (), ())
    try:
        locks = open_locks_directory(settings.instances_path, LOCKS_DIRECTORY)
    except OSError as exc:
        path = printable(settings.locks_path)
        return _nothing_removed(plan, f"nova's lock directory {path} cannot be used: {reason_and_remedy(exc)}")
    try:
        progress_log = ProgressLog(log, f"Prune of {printable(settings.cache_path)}", plan.removals)
        return _remove_all(plan, RemovalContext(plan, cache, locks, settings, shared, read_disks, progress_log))
    finally:
        os.close(locks)


class Progress(NamedTuple):
    """What has become of the files so far."""

    removed: list[CacheFile]
    kept: list[Kept]
    failed: list[Failure]


class RemovalContext(NamedTuple):
    """Where files are removed: descriptors of the cache and of the locks, and how."""

    plan: Plan
    cache: int
    locks: int
    settings: Settings
    shared: bool
    read_disks: Callable[[], DiskUse]
    progress_log: ProgressLog


def _nothing_removed(plan: Plan, reason: str) -> Outcome:
    return Outcome((), plan.kept, tuple(Failure(file.name, reason) for file in plan.removals), ())


def _mark_used(cache: int, names: list[str]) -> tuple[str, ...]:
    """Set the mtime of files in use to now, as nova does: age counts from the last known use."""
    failures: list[tuple[str, OSError]] = []
    for name in names:
        try:
            os.utime(name, dir_fd=cache, follow_symlinks=False)
        except FileNotFoundError:
            continue
        except OSError as exc:
            failures.append((name, exc))
    if not failures:
        return ()
    name, first = failures[0]
    warning = (
        f"The time of last use could not be set on {len(failures)} files in use. Their age counts from an earlier use. "
        f"The first is {name}: {reason_and_remedy(first)}."
    )
    return (warning,)


def _remove_all(plan: Plan, context: RemovalContext) -> Outcome:
    progress = Progress([], list(plan.kept), [])
    done = 0
    while done < len(plan.removals):
        done += _remove_batch(plan.removals[done : done + _BATCH], context, progress)
    return Outcome(tuple(progress.removed), tuple(progress.kept), tuple(progress.failed), ())


def _remove_batch(files: Sequence[CacheFile], context: RemovalContext, progress: Progress) -> int:
    """Take the locks of some files, look at all disks again, and remove those that still nothing needs.

    nova makes an overlay under the lock of its base file. So what the disks need cannot grow unseen
    between this look and the removal.

    :return: how many of the files were dealt with: fewer where there is no room for more lock files yet.
    """
    locks, files, count = _take_locks(files, context, progress)
    try:
        use, built_on_it = _look_again(context) if files else (_NO_USE, {})
        for file in files:
            if use.problems:
                problem = use.problems[0].rstrip(".")  # what quotes the reason ends the sentence
                error = f"it was kept because it is no longer certain which files are in use: {problem}"
                progress.failed.append(Failure(file.name, error))
                continue
            try:
                reason = _came_into_use(file, use, built_on_it, context.plan) or _remove(file, context)
            except OSError as exc:
                progress.failed.append(Failure(file.name, f"it could not be removed: {reason_and_remedy(exc)}"))
                continue
            if reason is None or reason is KeptReason.GONE:
                for name in context.plan.overlays.get(file.name, ()):
                    built_on_it.get(name, set()).discard(file.name)
            if reason is not None:
                progress.kept.append(Kept(file.name, reason))
                continue
            progress.removed.append(file)
            context.progress_log.note(progress.removed)
            try:
                _remove_info(file, context)
            except OSError as exc:
                error = f"it was removed, but its info file was not: {reason_and_remedy(exc)}"
                progress.failed.append(Failure(file.name, error))
    finally:
        for lock in locks.values():
            # The lock file stays. Who opens it while it goes gets a lock that the next newcomer cannot see.
            release(lock, remove_file=False)
    return count


def _take_locks(
    files: Sequence[CacheFile], context: RemovalContext, progress: Progress
) -> tuple[dict[str, Lock], Sequence[CacheFile], int]:
    """Return the locks that could be taken, by name, the files that they are for, and how many files were tried.

    On a full file system the lock files of a batch wait until the removals before them have made room.
    """
    locks: dict[str, Lock] = {}
    ours: list[CacheFile] = []
    deadline = time.monotonic() + _LOCK_WAIT_SECONDS
    for number, file in enumerate(files):
        name = lock_name(file.name)
        try:
            # One lock for a file and its partial downloads: a second descriptor, closed, would give up the first's.
            lock = locks.get(name) or acquire(context.locks, name, max(0.0, deadline - time.monotonic()))
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EDQUOT) and ours:
                return locks, ours, number
            path = printable(f"{context.settings.locks_path}/{name}")
            progress.failed.append(
                Failure(file.name, f"nova's lock {path} could not be taken: {reason_and_remedy(exc)}")
            )
            continue
        if lock is None:
            progress.kept.append(Kept(file.name, KeptReason.LOCKED))
            continue
        locks[name] = lock
        ours.append(file)
    return locks, ours, len(files)


def _look_again(context: RemovalContext) -> tuple[DiskUse, dict[str, set[str]]]:
    """Return what the disks need now, and the overlays that now are directly built on each file of the cache."""
    plan, cache_path = context.plan, context.settings.cache_path
    files = [verdict.file for verdict in plan.verdicts]
    resolve = backing_file_resolver(cache_path, names_by_inode(files), context.settings.instances_path)
    built_on_it: dict[str, set[str]] = {}
    try:
        use = context.read_disks()
        inodes = {file.name: file.inode for file in files}
        overlays = overlays_now(context.cache, cache_path, inodes, plan.overlays, resolve)
    except ImageCacheError as exc:
        return _NO_USE._replace(problems=[str(exc)]), {}
    except OSError as exc:
        problem = f"The cache directory {printable(cache_path)} cannot be listed: {reason_and_remedy(exc)}."
        return _NO_USE._replace(problems=[problem]), {}
    for overlay, names in overlays.items():
        for name in names:
            built_on_it.setdefault(name, set()).add(overlay)
    return use, built_on_it


def _came_into_use(file: CacheFile, use: DiskUse, built_on_it: Mapping[str, set[str]], plan: Plan) -> KeptReason | None:
    """Say why a file is needed after all: by a disk whose use the plan does not ignore, or by an overlay."""
    if not plan.ignored_orphans.get(file.name, _NO_ORPHANS).issuperset(use.backing.get(file.name, ())):
        return KeptReason.IN_USE
    return KeptReason.OVERLAY if built_on_it.get(file.name) else None


def _remove_info(file: CacheFile, context: RemovalContext) -> None:
    # Here, so that a prune that removes nothing does not pay for it.
    from .info_files import info_directory, remove_info

    pattern = context.settings.image_info_filename_pattern
    with info_directory(pattern, context.settings.cache_path, context.cache) as directory:
        remove_info(info_path(os.path.basename(pattern), file.name), directory)


def _remove(file: CacheFile, context: RemovalContext) -> KeptReason | None:
    try:
        descriptor = os.open(file.name, FILE_FLAGS, dir_fd=context.cache)
    except FileNotFoundError:
        return KeptReason.GONE
    except BlockingIOError:  # another pass is looking at it in the same way
        return KeptReason.OPEN
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENXIO):  # a link, a socket
            return KeptReason.REPLACED
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_ino != file.inode:
            return KeptReason.REPLACED
        if status.st_mtime_ns != file.mtime_ns:
            return KeptReason.TOUCHED
        if qemu_holds(descriptor):
            return KeptReason.HELD
        # A network file system answers as if the file were open where it has no delegation for it.
        if not context.shared and is_open_elsewhere(descriptor):
            return KeptReason.OPEN
        if os.stat(file.name, dir_fd=context.cache, follow_symlinks=False).st_ino != file.inode:
            return KeptReason.REPLACED
        os.unlink(file.name, dir_fd=context.cache)
    except FileNotFoundError:
        return KeptReason.GONE
    finally:
        os.close(descriptor)
    return None
