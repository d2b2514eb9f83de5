# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The attributes of a file that ``chattr`` sets and that keep even root from removing it."""

from __future__ import annotations

import errno
import fcntl
import struct
import sys

from .files import IOCTL_READ

__all__ = ["is_protected_by_flags"]

# _IOR('f', 1, long) of linux/fs.h.
_FS_IOC_GETFLAGS = IOCTL_READ | struct.calcsize("l") << 16 | ord("f") << 8 | 1
_ANSWER_BYTES = struct.calcsize("l")
# Of the answer's bytes, the one with these flags. The kernel writes an int, whatever the number of the request says.
_LOWEST_BYTE = 0 if sys.byteorder == "little" else struct.calcsize("i") - 1
_IMMUTABLE_OR_APPEND_ONLY = 0x10 | 0x20
_NOT_SUPPORTED = (errno.ENOTTY, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def is_protected_by_flags(descriptor: int) -> bool | None:
    """Tell whether a file is immutable or append-only (``chattr(1)``, ``ioctl_iflags(2)``).

    :param descriptor: a file or directory, open for reading.
    :return: None where the file system has no such attributes.
    :raises OSError: the kernel does not answer.
    """
    try:
        answer = bytearray(_ANSWER_BYTES)  # filled in place, which takes Python half as long as a copy
        fcntl.ioctl(descriptor, _FS_IOC_GETFLAGS, answer)
    except OSError as exc:
        if exc.errno in _NOT_SUPPORTED:
            return None
        raise
    return bool(answer[_LOWEST_BYTE] & _IMMUTABLE_OR_APPEND_ONLY)
