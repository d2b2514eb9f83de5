# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether other processes hold nova's external locks. Nothing is created or locked."""

from __future__ import annotations

import fcntl
import os
import stat
from typing import NamedTuple

from .files import FILE_FLAGS, is_locked_by_another, lock_request
from .inode_flags import is_protected_by_flags

__all__ = ["LockState", "is_locked", "look_at_lock"]

_WHOLE_FILE = lock_request()


class LockState(NamedTuple):
    """What a lock file shows: whether another process holds the lock, whether this one could not take it, and whether
    that is because something else, such as a FIFO, is in the place of the file."""

    is_held: bool
    is_unusable: bool
    is_other_than_file: bool = False


_FREE = LockState(False, False)


def is_locked(directory: int, name: str) -> bool:
    """Tell whether another process holds a lock now. Nothing is created or locked.

    :param directory: descriptor of the lock files' directory.
    :param name: the lock file's name.
    :return: False also where there is no such lock file: it has not been used yet.
    :raises OSError: the lock file is there and cannot be asked.
    """
    return look_at_lock(directory, name).is_held


def look_at_lock(directory: int, name: str, is_file: bool = False) -> LockState:
    """Look at a lock file. Nothing is created or locked.

    The other parameters and the errors are those of :func:`is_locked`.

    :param is_file: whether a listing of the directory said that it is a regular file.
    """
    try:
        descriptor = os.open(name, FILE_FLAGS, dir_fd=directory)
    except FileNotFoundError:
        return _FREE
    except BlockingIOError:  # its holder is making sure that nobody waits
        return LockState(True, False)
    try:
        if not is_file and not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return LockState(False, True, True)
        is_held = is_locked_by_another(descriptor, fcntl.F_GETLK, _WHOLE_FILE)
        is_flagged = bool(is_protected_by_flags(descriptor))
    finally:
        os.close(descriptor)
    is_unusable = is_flagged or not (os.geteuid() == 0 or os.access(name, os.R_OK | os.W_OK, dir_fd=directory))
    return LockState(is_held, is_unusable) if is_held or is_unusable else _FREE
