# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nova's external locks, taken and given back as oslo.concurrency does it.

A lock is a POSIX record lock (``lockf``) on the whole of a file in ``<instances_path>/locks``:
``lockutils.external_lock`` of oslo.concurrency, by way of ``fasteners.InterProcessLock``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from contextlib import suppress
from typing import NamedTuple

from .files import DIRECTORY_FLAGS
from .open_files import is_open_elsewhere

__all__ = ["Lock", "acquire", "open_locks_directory", "release"]

_POLL_SECONDS = 0.02
_WRITE_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Lock(NamedTuple):
    """A lock that this process holds: the lock file's directory, name and descriptor."""

    directory: int
    name: str
    descriptor: int


def open_locks_directory(instances_path: str, name: str) -> int:
    """Open the directory of the lock files; where nova has not made it yet, make it as nova's own.

    :param instances_path: the directory above, whose owner it gets.
    :param name: its name.
    :return: a descriptor, for the caller to close.
    :raises OSError: it cannot be made or opened, or is a link.
    """
    path = os.path.join(instances_path, name)
    is_new = False
    with suppress(FileExistsError):
        os.mkdir(path, 0o755)
        is_new = True
    directory = os.open(path, DIRECTORY_FLAGS)
    if is_new:
        try:
            # By its descriptor: under its name there may be something else by now, such as a link.
            owner = os.stat(instances_path)
            os.fchmod(directory, 0o755)
            os.fchown(directory, owner.st_uid, owner.st_gid)
        except OSError:
            os.close(directory)
            with suppress(OSError):
                os.rmdir(path)  # nova could make no lock file in it
            raise
    return directory


def acquire(directory: int, name: str, wait_seconds: float) -> Lock | None:
    """Take a lock, and wait a little while another process holds it.

    A lock file that does not exist yet is made: empty, mode 0644, with the owner and group of its
    directory, for nova must be able to open it for writing.

    :param directory: descriptor of the lock files' directory.
    :param name: the lock file's name.
    :param wait_seconds: for how long to try.
    :return: the lock, None where somebody else kept it for all that time.
    :raises OSError: the lock file cannot be made, opened or locked, or is not a regular file.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        # Its holder is making sure that nobody waits, or has removed the lock file just now.
        with suppress(BlockingIOError, FileNotFoundError):
            descriptor = _open(directory, name)
            try:
                _refuse_other_than_file(os.fstat(descriptor))
                if _lock(descriptor) and _is_current(directory, name, descriptor):
                    return Lock(directory, name, descriptor)
            except OSError:
                os.close(descriptor)
                raise
            os.close(descriptor)
        if time.monotonic() >= deadline:
            return None
        time.sleep(_POLL_SECONDS)


def release(lock: Lock, remove_file: bool) -> None:
    """Give a lock back.

    :param lock: what :func:`acquire` returned.
    :param remove_file: remove the lock file too, if that can be done and it is certain that nobody
        waits on it: a waiter that gets the lock on a removed file and a newcomer with a fresh one
        would both hold "the" lock. Otherwise it stays; it is empty.
    """
    try:
        if remove_file and is_open_elsewhere(lock.descriptor) is False:
            with suppress(OSError):
                os.unlink(lock.name, dir_fd=lock.directory)
    finally:
        os.close(lock.descriptor)


def _open(directory: int, name: str) -> int:
    try:
        return os.open(name, _WRITE_FLAGS, dir_fd=directory)
    except FileNotFoundError:
        pass
    # Under another name until the owner is right: nova could not open root's file meanwhile.
    draft = f".{name}.{os.urandom(8).hex()}"
    descriptor = os.open(draft, _WRITE_FLAGS | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=directory)
    try:
        owner = os.fstat(directory)
        os.fchmod(descriptor, 0o644)
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
        os.link(draft, name, src_dir_fd=directory, dst_dir_fd=directory)
    except FileExistsError:
        os.close(descriptor)
        return os.open(name, _WRITE_FLAGS, dir_fd=directory)
    except OSError:
        os.close(descriptor)
        raise
    finally:
        os.unlink(draft, dir_fd=directory)
    return descriptor


def _refuse_other_than_file(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):  # nova would wait for a FIFO without end
        raise OSError(errno.EINVAL, "it is not a regular file")


def _lock(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        if exc.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def _is_current(directory: int, name: str, descriptor: int) -> bool:
    """Tell whether the locked file still is the one that others find: its last holder may have removed it."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(status, os.fstat(descriptor))
