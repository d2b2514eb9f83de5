# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a file of the cache gets its bytes and its name, beside a running nova.

nova opens ``<name>.part`` without O_EXCL and truncates it, unlinks it by name when it fails, and renames it without a
look (``nova/virt/images.py``). So a draft has no name at all until it is whole. Where a file system cannot do that,
it has a private one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Callable, Iterator, NamedTuple

from ..files import IOCTL_READ, IOCTL_WRITE
from ..hashing import RateLimiter
from ..names import draft_name, is_draft

if TYPE_CHECKING:
    from ..open_files import Inode

__all__ = [
    "Draft",
    "copy_bytes",
    "exchange",
    "finish",
    "is_same_content",
    "new_draft",
    "origin_of",
    "publish",
    "remove_left_drafts",
    "shares_blocks",
    "write_without_zeros",
]

_FICLONE = IOCTL_WRITE | 4 << 16 | 0x94 << 8 | 9  # linux/fs.h
# XFS_IOC_FSGEOMETRY_V1, and where its answer has the flags (xfs_fs.h).
_XFS_GEOMETRY_BYTES = 112
_XFS_GEOMETRY = IOCTL_READ | _XFS_GEOMETRY_BYTES << 16 | ord("X") << 8 | 100
_XFS_FLAGS = struct.Struct("I")
_XFS_FLAGS_OFFSET = 92
_XFS_REFLINK = 1 << 20
# Not in every build of Python.
_copy_in_kernel: Callable[[int, int, int, int, int], int] | None = getattr(os, "copy_file_range", None)
# OpenZFS answers EAGAIN while the source is not on disk yet.
_CANNOT_CLONE = (
    errno.EAGAIN,
    errno.EOPNOTSUPP,
    errno.EXDEV,
    errno.EINVAL,
    errno.ENOTTY,
    errno.ENOSYS,
    errno.EPERM,
    errno.ETXTBSY,
)
_CANNOT_COPY_IN_KERNEL = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM)
_NO_NAMELESS_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)
_CHUNK_BYTES = 8 << 20
_BLOCK_BYTES = 1 << 20
_HOLE_BYTES = 64 << 10
# Of bytearray, because that compares itself with a memoryview as memory, and not item by item.
_ZEROS = bytearray(_HOLE_BYTES)
_MODE = 0o644
_COPY_OF = "user.stackops.copy_of"


class Draft(NamedTuple):
    """A file of the cache before it has its name.

    :param cache: descriptor of the cache directory.
    :param descriptor: the file, open for reading and writing.
    :param private_name: the name that it has where the file system gives no file without one; else empty.
    """

    cache: int
    descriptor: int
    private_name: str


@contextmanager
def new_draft(cache: int, name: str) -> Iterator[Draft]:
    """Make a file of the cache without a name, for as long as the block lasts.

    :param cache: descriptor of the cache directory.
    :param name: the name that it is to have.
    :return: the draft. Whatever happens, nothing of it is left but the name that :func:`publish` gave it.
    :raises OSError: it cannot be made.
    """
    private_name = ""
    try:
        descriptor = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=cache)
    except OSError as exc:
        if exc.errno not in _NO_NAMELESS_FILES:
            raise
        private_name = draft_name(name)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(private_name, flags, 0o600, dir_fd=cache)
    try:
        with suppress(OSError):  # for remove_left_drafts(): while this process lives, the draft is not a leftover
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield Draft(cache, descriptor, private_name)
    finally:
        if private_name:
            with suppress(OSError):
                os.unlink(private_name, dir_fd=cache)
        os.close(descriptor)


def remove_left_drafts(cache: int) -> None:
    """Remove the drafts with a private name that killed runs have left, as far as this user may.

    :param cache: descriptor of the cache directory.
    :raises OSError: the directory cannot be listed.
    """
    for name in os.listdir(cache):
        if is_draft(name):
            with suppress(OSError):  # another run writes it, or has just removed it
                descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=cache)
                try:
                    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(name, dir_fd=cache)
                finally:
                    os.close(descriptor)


def copy_bytes(source: int, draft: Draft, rate_limiter: RateLimiter, punch_zeros: bool = False) -> int:
    """Give a draft the content of a file, with its holes.

    :param source: the file, open for reading.
    :param rate_limiter: how fast.
    :param punch_zeros: make holes of zeros, too, because the file may have been brought without its holes.
    :return: how many bytes were read: none where the two share their blocks now.
    :raises OSError: it cannot be read or written, or became smaller meanwhile.
    """
    try:
        fcntl.ioctl(draft.descriptor, _FICLONE, source)
        return 0
    except OSError as exc:
        if exc.errno not in _CANNOT_CLONE:
            raise
    size = os.fstat(source).st_size
    os.ftruncate(draft.descriptor, size)
    read = 0
    for start, end in _data_ranges(source, size):
        read += end - start
        while start < end:
            copy_range = _copy_without_zeros if punch_zeros else _copy_range
            count = copy_range(source, draft.descriptor, start, min(end - start, _CHUNK_BYTES))
            if count == 0:
                raise OSError(errno.EIO, "the file ended before its size")
            start += count
            rate_limiter.throttle(count)
    return read


def _data_ranges(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Return where a file has data: the first byte of each range, and the one after its last."""
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno == errno.ENXIO:
                return  # nothing but a hole follows
            raise
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, min(end, size)


def _copy_range(source: int, target: int, start: int, count: int) -> int:
    """Copy a range of bytes to the same place of another file; return how many were copied."""
    if _copy_in_kernel is not None:
        try:
            return _copy_in_kernel(source, target, count, start, start)
        except OSError as exc:
            if exc.errno not in _CANNOT_COPY_IN_KERNEL:
                raise
    block = os.pread(source, min(count, _BLOCK_BYTES), start)
    return os.pwrite(target, block, start) if block else 0


def _copy_without_zeros(source: int, target: int, start: int, count: int) -> int:
    """Do as :func:`_copy_range`, and leave out zeros."""
    block = os.pread(source, min(count, _BLOCK_BYTES), start)
    write_without_zeros(target, memoryview(block), start)
    return len(block)


def write_without_zeros(target: int, block: memoryview, start: int) -> int:
    """Write bytes to a file that has a hole there, and leave out zeros.

    :param target: the file, open for writing.
    :param block: the bytes. Zeros become holes in pieces of 64 KiB from its beginning.
    :param start: the offset of the first of them in the file.
    :return: how many were written.
    :raises OSError: they cannot be written.
    """
    count = 0
    for offset in range(0, len(block), _HOLE_BYTES):
        part = block[offset : offset + _HOLE_BYTES]
        if _ZEROS[: len(part)] != part:
            count += len(part)
            while part:
                written = os.pwrite(target, part, start + offset)
                part, offset = part[written:], offset + written
    return count


def shares_blocks(cache: int, filesystem: str) -> bool:
    """Tell whether two files of the cache can share their blocks, found without trying.

    :param cache: descriptor of the cache directory.
    :param filesystem: the type of its file system, as the kernel names it.
    """
    if filesystem != "xfs":
        return filesystem == "btrfs"
    try:
        geometry = fcntl.ioctl(cache, _XFS_GEOMETRY, bytes(_XFS_GEOMETRY_BYTES))
    except OSError:
        return False
    return bool(_XFS_FLAGS.unpack_from(geometry, _XFS_FLAGS_OFFSET)[0] & _XFS_REFLINK)


def is_same_content(first: int, second: int) -> bool:
    """Compare two files whole.

    :param first: one, open for reading; likewise ``second``.
    :raises OSError: one cannot be read.
    """
    size = os.fstat(first).st_size
    if size != os.fstat(second).st_size:
        return False
    for offset in range(0, size, _BLOCK_BYTES):
        if os.pread(first, _BLOCK_BYTES, offset) != os.pread(second, _BLOCK_BYTES, offset):
            return False
    return True


def finish(draft: Draft, source: int | None) -> None:
    """Put a draft on disk for good, as nova's own file: owner and group of the cache directory, mode 0644.

    :param source: descriptor of the file that it is a copy of, for :func:`origin_of`; None for a copy of no file.
    :raises OSError: it cannot be written or given away.
    """
    if source is not None:
        with suppress(OSError):  # not every file system has attributes
            os.setxattr(draft.descriptor, _COPY_OF, origin_of(source))
    owner = os.fstat(draft.cache)
    os.fchown(draft.descriptor, owner.st_uid, owner.st_gid)
    os.fchmod(draft.descriptor, _MODE)
    os.fsync(draft.descriptor)


def origin_of(descriptor: int) -> bytes:
    """Return what tells the file that a file is a restored copy of, or the file itself where it is none.

    A guest goes on with the deleted file that its base file was restored from. Its base file was not replaced then.

    :param descriptor: the file, however it was opened.
    """
    try:
        return os.getxattr(f"/proc/self/fd/{descriptor}", _COPY_OF)
    except OSError:  # it has no such attribute
        status = os.fstat(descriptor)
        # A later file of the same number has another time.
        return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_ctime_ns}".encode()


def publish(draft: Draft, name: str) -> None:
    """Give a draft a name, if no file has it. It is the descriptor that gets it, whatever is under other names by now.

    :raises FileExistsError: there is a file of that name.
    :raises OSError: it cannot get the name.
    """
    os.link(f"/proc/self/fd/{draft.descriptor}", name, dst_dir_fd=draft.cache, follow_symlinks=True)


def exchange(draft: Draft, name: str, expected: Inode, aside: str) -> None:
    """Give a draft the name of another file, which gets another name first. At each moment, one of the two has it.

    :param name: the name.
    :param expected: the file that has it now.
    :param aside: the other name for that file.
    :raises OSError: one of them cannot get its name. The file that had it still has it.
    """
    is_new = False
    with suppress(FileExistsError):  # a killed run has set it aside already
        os.link(name, aside, src_dir_fd=draft.cache, dst_dir_fd=draft.cache, follow_symlinks=False)
        is_new = True
    private_name = draft.private_name or draft_name(name)
    try:
        if _inode_of(aside, draft.cache) != expected:
            raise OSError(errno.ESTALE, "another file has got its name meanwhile")
        if not draft.private_name:
            publish(draft, private_name)
        os.rename(private_name, name, src_dir_fd=draft.cache, dst_dir_fd=draft.cache)
    except OSError:
        for ours in (private_name, aside) if is_new else (private_name,):
            with suppress(OSError):
                os.unlink(ours, dir_fd=draft.cache)
        raise


def _inode_of(name: str, cache: int) -> Inode:
    status = os.stat(name, dir_fd=cache, follow_symlinks=False)
    return status.st_dev, status.st_ino
