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

from .holders import is_open_elsewhere, qemu_holds
from .layout import LOCKS_DIRECTORY, info_path, lock_name, printable
from .locks import acquire, open_locks_directory, release
from .plan import Kept, KeptReason, Plan, State
from .scan import CacheFile, open_cache
from .settings import Settings

__all__ = ["Failure", "Outcome", "apply_plan", "rehearse_plan"]

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


def rehearse_plan(plan: Plan, settings: Settings) -> Outcome:
    """Tell what :func:`apply_plan` would do, and do nothing."""
    obstacle = _obstacle(settings) if plan.removals else None
    if obstacle is not None:
        return _nothing_removed(plan, obstacle)
    return Outcome(plan.removals, plan.kept, (), ())


def apply_plan(plan: Plan, settings: Settings, shared: bool) -> Outcome:
    """Mark the files that are in use as used now, and remove those that the plan says.

    :param plan: what to do.
    :param settings: the options that it was made from.
    :param shared: whether other hosts may have the same files; then lock files stay, because
        nobody can tell whether another host waits on them.
    :return: what was done. An error on one file is recorded against it, and the rest goes on.
    :raises ImageCacheError: the cache cannot be opened any more; nothing was done.
    """
    cache = open_cache(settings)
    if cache is None:
        return Outcome((), tuple(Kept(file.name, KeptReason.GONE) for file in plan.removals), (), ())
    try:
        active = [verdict.file.name for verdict in plan.verdicts if verdict.state is State.ACTIVE]
        warnings = _mark_used(cache, active)
        if not plan.removals:
            return Outcome((), plan.kept, (), warnings)
        obstacle = _obstacle(settings)
        if obstacle is not None:
            return _nothing_removed(plan, obstacle)._replace(warnings=warnings)
        try:
            locks = open_locks_directory(settings.instances_path, LOCKS_DIRECTORY)
        except OSError as exc:
            return _nothing_removed(plan, _without_locks(settings, exc.strerror or str(exc)))._replace(
                warnings=warnings
            )
        try:
            return _remove_all(plan, _Place(cache, locks, settings, shared), warnings)
        finally:
            os.close(locks)
    finally:
        os.close(cache)


class _Place(NamedTuple):
    """Where files are removed: descriptors of the cache and of the locks, and how."""

    cache: int
    locks: int
    settings: Settings
    shared: bool


def _obstacle(settings: Settings) -> str | None:
    """Say what stands in the way of any removal, as far as can be told without trying."""
    if not os.access(settings.cache_path, os.W_OK | os.X_OK):
        return f"{printable(settings.cache_path)} may not be written by this user"
    if not os.path.lexists(settings.locks_path) and not os.access(settings.instances_path, os.W_OK | os.X_OK):
        return _without_locks(settings, "this user may not make that directory")
    return None


def _without_locks(settings: Settings, reason: str) -> str:
    path = printable(settings.locks_path)
    return f"nova's locks in {path} cannot be used, and nothing is removed without them: {reason}"


def _nothing_removed(plan: Plan, reason: str) -> Outcome:
    return Outcome((), plan.kept, tuple(Failure(file.name, reason) for file in plan.removals), ())


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


def _remove_all(plan: Plan, place: _Place, warnings: tuple[str, ...]) -> Outcome:
    removed: list[CacheFile] = []
    kept = list(plan.kept)
    failed: list[Failure] = []
    for file in plan.removals:
        try:
            reason, info_error = _remove_locked(file, place)
        except OSError as exc:
            failed.append(Failure(file.name, f"it could not be removed: {exc.strerror}"))
            continue
        if reason is not None:
            kept.append(Kept(file.name, reason))
            continue
        removed.append(file)
        if info_error is not None:
            failed.append(Failure(file.name, f"it was removed, but its info file was not: {info_error}"))
    return Outcome(tuple(removed), tuple(kept), tuple(failed), warnings)


def _remove_locked(file: CacheFile, place: _Place) -> tuple[KeptReason | None, str | None]:
    """Remove one file and its info file under its lock.

    :return: why it stayed, None where it went; and why its info file stayed, None where it did not.
    """
    lock = acquire(place.locks, lock_name(file.name), _LOCK_WAIT_SECONDS)
    if lock is None:
        return KeptReason.LOCKED, None
    is_gone = False
    try:
        reason = _remove(file, place)
        is_gone = reason is None or reason is KeptReason.GONE
        if reason is not None:
            return reason, None
        try:
            with suppress(FileNotFoundError):
                os.unlink(info_path(place.settings.image_info_filename_pattern, file.name))
        except OSError as exc:
            return None, exc.strerror
        return None, None
    finally:
        release(lock, remove_file=is_gone and not place.shared)


def _remove(file: CacheFile, place: _Place) -> KeptReason | None:
    try:
        descriptor = os.open(file.name, _FILE_FLAGS, dir_fd=place.cache)
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
        if not place.shared and is_open_elsewhere(descriptor):
            return KeptReason.OPEN
        if os.stat(file.name, dir_fd=place.cache, follow_symlinks=False).st_ino != file.inode:
            return KeptReason.REPLACED
        os.unlink(file.name, dir_fd=place.cache)
    finally:
        os.close(descriptor)
    return None
