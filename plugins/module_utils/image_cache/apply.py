# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time and is not for use from elsewhere.
"""Carries a plan out. Each removal looks at its file again, under nova's lock, and then decides nothing anew."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import NamedTuple

from .errors import ImageCacheError
from .holders import is_open_elsewhere, qemu_holds
from .layout import LOCKS_DIRECTORY, info_path, lock_name, printable
from .locks import acquire, open_locks_directory, release
from .plan import Kept, KeptReason, Plan, State
from .scan import CacheFile, open_cache
from .settings import Settings

__all__ = ["Failure", "Outcome", "apply_plan"]

_LOCK_WAIT_SECONDS = 1.0
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


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


def apply_plan(plan: Plan, settings: Settings, shared: bool) -> Outcome:
    """Mark the files that are in use as used now, and remove those that the plan says.

    :param plan: what to do.
    :param settings: the options that it was made from.
    :param shared: whether other hosts may have the same files; then lock files stay, because
        nobody can tell whether another host waits on them.
    :return: what was done. An error on one file is recorded against it, and the rest goes on.
    :raises ImageCacheError: nothing could be begun: the cache or nova's locks cannot be opened.
    """
    cache = open_cache(settings)
    if cache is None:
        return Outcome((), tuple(Kept(file.name, KeptReason.GONE) for file in plan.removals), (), ())
    try:
        active = [verdict.file.name for verdict in plan.verdicts if verdict.state is State.ACTIVE]
        warnings = _mark_used(cache, active)
        if not plan.removals:
            return Outcome((), plan.kept, (), warnings)
        try:
            locks = open_locks_directory(settings.instances_path, LOCKS_DIRECTORY)
        except OSError as exc:
            raise ImageCacheError(
                f"nova's locks in {printable(settings.locks_path)} cannot be used, and nothing was removed without "
                f"them: {exc.strerror}."
            ) from exc
        try:
            return _remove_all(plan, cache, locks, settings, shared, warnings)
        finally:
            os.close(locks)
    finally:
        os.close(cache)


def _mark_used(cache: int, names: list[str]) -> tuple[str, ...]:
    """Set the mtime of files in use to now, as nova does: age counts from the last known use."""
    failures = []
    for name in names:
        try:
            os.utime(name, dir_fd=cache, follow_symlinks=False)
        except FileNotFoundError:
            continue
        except OSError as exc:
            failures.append(f"{name}: {exc.strerror}")
    if not failures:
        return ()
    warning = (
        f"The time of last use could not be set on {len(failures)} files in use, such as {failures[0]}. "
        f"Their age counts from an earlier use."
    )
    return (warning,)


def _remove_all(
    plan: Plan, cache: int, locks: int, settings: Settings, shared: bool, warnings: tuple[str, ...]
) -> Outcome:
    removed: list[CacheFile] = []
    kept = list(plan.kept)
    failed: list[Failure] = []
    for file in plan.removals:
        try:
            reason = _remove_locked(file, cache, locks, keep_lock_file=shared)
        except OSError as exc:
            failed.append(Failure(file.name, f"it could not be removed: {exc.strerror}"))
            continue
        if reason is not None:
            kept.append(Kept(file.name, reason))
            continue
        removed.append(file)
        try:
            _remove_info(info_path(settings.image_info_filename_pattern, file.name))
        except OSError as exc:
            failed.append(Failure(file.name, f"it was removed, but its info file was not: {exc.strerror}"))
    return Outcome(tuple(removed), tuple(kept), tuple(failed), warnings)


def _remove_locked(file: CacheFile, cache: int, locks: int, keep_lock_file: bool) -> KeptReason | None:
    """Remove one file under its lock; return why not, where it stayed."""
    lock = acquire(locks, lock_name(file.name), _LOCK_WAIT_SECONDS)
    if lock is None:
        return KeptReason.LOCKED
    gone = False
    try:
        reason = _remove(file, cache)
        gone = reason is None
        return reason
    finally:
        release(lock, remove_file=gone and not keep_lock_file)


def _remove(file: CacheFile, cache: int) -> KeptReason | None:
    try:
        descriptor = os.open(file.name, _FILE_FLAGS, dir_fd=cache)
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
        if is_open_elsewhere(descriptor):
            return KeptReason.OPEN
        if os.stat(file.name, dir_fd=cache, follow_symlinks=False).st_ino != file.inode:
            return KeptReason.REPLACED
        os.unlink(file.name, dir_fd=cache)
    finally:
        os.close(descriptor)
    return None


def _remove_info(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
