# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that others write: how they are opened and read, and how the kernel is asked who has locked one."""

from __future__ import annotations

import fcntl
import os
import stat
import struct

__all__ = [
    "DIRECTORY_FLAGS",
    "FILE_FLAGS",
    "FILE_OR_LINK_FLAGS",
    "IOCTL_READ",
    "IOCTL_WRITE",
    "is_locked_by_another",
    "lock_request",
    "read_small_file",
]

FILE_OR_LINK_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
"""Opens a file wherever its path leads. Without O_NONBLOCK, a FIFO in its place would hold the pass up."""

FILE_FLAGS = FILE_OR_LINK_FLAGS | os.O_NOFOLLOW
"""Opens a file, and no link in its place."""

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Opens a directory, and no link in its place."""

_IS_OTHER_LAYOUT = os.uname().machine.startswith(("alpha", "mips", "ppc", "sparc"))
IOCTL_WRITE, IOCTL_READ = (1 << 31, 1 << 30) if _IS_OTHER_LAYOUT else (1 << 30, 1 << 31)
"""The direction of the data in an ioctl's number (``asm/ioctl.h``): to the kernel, from the kernel."""

_FLOCK = struct.Struct("hhqqi")
_NO_LOCK = struct.pack("h", fcntl.F_UNLCK)


def read_small_file(path: str, limit: int, flags: int = FILE_OR_LINK_FLAGS, directory: int | None = None) -> bytes:
    """Read a file whole.

    :param path: the file.
    :param limit: how many bytes it may have.
    :param flags: how it is opened.
    :param directory: descriptor of the directory that a relative path counts from; None for the working directory.
    :return: its bytes.
    :raises OSError: it cannot be opened or read.
    :raises ValueError: it is not a regular file, or has more bytes.
    """
    descriptor = os.open(path, flags, dir_fd=directory)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is not a regular file")
        data = b""
        while len(data) <= limit:
            more = os.read(descriptor, limit + 1 - len(data))
            if not more:
                return data
            data += more
    finally:
        os.close(descriptor)
    raise ValueError(f"it has more than {limit} bytes")


def lock_request(start: int = 0, length: int = 0) -> bytes:
    """Return what the kernel is asked about a range of bytes (``struct flock`` of ``fcntl(2)``).

    :param start: the first byte.
    :param length: how many there are; 0 for all from there.
    """
    return _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)


def is_locked_by_another(descriptor: int, command: int, request: bytes) -> bool:
    """Tell whether somebody else holds a lock on a range of bytes. It takes no right to write, and sets no lock.

    :param descriptor: the file, open for reading.
    :param command: ``F_GETLK``, or ``F_OFD_GETLK`` where this process's own locks count as well.
    :param request: what :func:`lock_request` returned.
    :raises OSError: the kernel or the file system cannot tell.
    """
    return not fcntl.fcntl(descriptor, command, request).startswith(_NO_LOCK)
