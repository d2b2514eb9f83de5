# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a disk image is backed by, read from its first bytes.

The qcow2 header is read here, by QEMU's ``docs/interop/qcow2.txt`` and with the limits that
QEMU's ``block/qcow2.c`` sets. No process is started, but for the one fallback: an image in another
format, or with a feature that the header alone does not explain, is shown to ``qemu-img info``.
All of it is hostile input: a guest writes its raw disks, a tenant uploads images.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import stat
import struct
from typing import Callable, List, NamedTuple, Optional, Tuple

from .errors import ImageCacheError, reason_and_remedy
from .files import FILE_FLAGS, FILE_OR_LINK_FLAGS
from .text import printable

__all__ = [
    "QEMU_IMG_HUNG",
    "Chain",
    "Image",
    "NoImageError",
    "OpenImage",
    "OutsideError",
    "Resolver",
    "RunCommand",
    "backing_path",
    "follow_chain",
    "open_image",
    "probe_format",
    "read_backing_name",
    "read_image",
]

RunCommand = Callable[[List[str]], Tuple[int, str, str]]
"""Runs a command (a list of arguments) and returns its exit status, standard output and standard error."""

Resolver = Callable[[str], Optional[str]]
"""Finds a named backing file on this host: its path here, or None where there is no such file."""

OpenImage = Callable[[str], int]
"""Opens an image for reading, waiting for nobody, and returns its descriptor; it raises OSError."""

_QCOW2_MAGIC = b"QFI\xfb"
# Formats that can have a backing or data file and that the header reader does not know.
_OTHER_MAGICS = (
    b"QED\0",
    b"KDMV",
    b"COWD",
    b"vhdxfile",
    b"conectix",
    b"cxsparse",
    b"WithoutFreeSpace",
    b"WithouFreSpacExt",
)
_FIXED = struct.Struct(">4sIQII")
_V3 = struct.Struct(">QQQII")
_V3_OFFSET = 72
_EXTENSION = struct.Struct(">II")
_EXTENSION_END = 0
_EXTENSION_BACKING_FORMAT = 0xE2792ACA
_BACKING_NAME_LIMIT = 1023
_BACKING_FORMAT_LIMIT = 15
# Incompatible features under which the backing name still says all: dirty, corrupt, compression
# type, extended L2 entries. An external data file (bit 2) and unknown bits are for qemu-img.
_PLAIN_FEATURES = 0b11011
_LARGEST_CLUSTER = 1 << 21
_FIRST_READ = 1024
_SHORTEST_IMAGE = 4
# What opening or reading says of a FIFO, a directory, a socket, and of a link to anything but an image.
_NOT_A_FILE = (errno.ESPIPE, errno.EISDIR, errno.ENXIO, errno.ELOOP, errno.EINVAL)
# As QEMU's vmdk_probe() has it.
_VMDK_DESCRIPTOR = rb"(?:#[^\n]*\n| +\r?\n)*version=[123]\r?\n"
_PROTOCOL = "[^/]*?:"
_SEE_WHAT = "Look at what it is (ls -l). If no instance needs it, move it away (mv)."
_CHECK = "Check it with qemu-img info -U."
QEMU_IMG_HUNG = (124, 137)
"""What ``timeout`` exits with, under which ``qemu-img`` is run."""


class NoImageError(ImageCacheError):
    """A file whose first bytes are those of no image: it names no other file."""


class OutsideError(ImageCacheError):
    """A backing file that lies where none is followed: what it needs itself is unknown.

    :param path: where it is on this host.
    """

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path


class Image(NamedTuple):
    """What an image says of itself: the names in it, as they stand there, and the backing file's format."""

    backing_file: str | None
    backing_format: str | None
    data_file: str | None


class Chain(NamedTuple):
    """All files under an image, and the one that should be there and is not.

    :param is_incomplete: whether the missing one may have needed further files.
    """

    files: tuple[str, ...]
    missing: str | None
    is_incomplete: bool = False


_STANDALONE = Image(None, None, None)
_NO_CHAIN = Chain((), None)


def open_image(path: str) -> int:
    """Open an image, wherever its path leads; see :data:`OpenImage`."""
    try:
        return os.open(path, FILE_FLAGS)
    except OSError as exc:
        if exc.errno != errno.ELOOP:
            raise
    # There are devices, such as a watchdog, that do something as soon as they are opened.
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
        raise OSError(errno.EINVAL, "it is a link to what is not a regular file")
    return os.open(path, FILE_OR_LINK_FLAGS)


def read_image(
    path: str, image_format: str | None, run_command: RunCommand, open_file: OpenImage = open_image
) -> Image:
    """Read what an image is backed by.

    :param path: the image.
    :param image_format: its format where something trustworthy says it (``disk.info``, or the
        overlay above it), else None: then the first bytes decide, as they do for QEMU.
    :param run_command: how to ask ``qemu-img`` where the header is not enough.
    :param open_file: how to open it.
    :return: its backing file, if it has one. A raw image has none, whatever is written in it.
    :raises FileNotFoundError: there is no such file.
    :raises NoImageError: it is too short for an image, or should be a qcow2 image and does not begin like one.
    :raises ImageCacheError: it is there and cannot be read or understood.
    """
    if image_format == "raw":
        return _STANDALONE
    try:
        descriptor = open_file(path)
        try:
            start = os.pread(descriptor, _FIRST_READ, 0)
            if start[:4] == _QCOW2_MAGIC:
                image = _read_qcow2(start, descriptor)
                return image if image is not None else _ask_qemu_img(path, _qcow_format(start), run_command)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ImageCacheError(
                    f"{printable(path)} is not a regular file, so what backs it is unknown. {_SEE_WHAT}"
                )
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as exc:
        if exc.errno == errno.ESPIPE:
            raise ImageCacheError(f"{printable(path)} cannot be read: it is not a regular file. {_SEE_WHAT}") from exc
        raise ImageCacheError(f"{printable(path)} cannot be read: {reason_and_remedy(exc)}.") from exc
    except ValueError as exc:
        raise ImageCacheError(f"{printable(path)} is not a valid qcow2 image: {exc}. {_CHECK}") from exc
    if image_format == "qcow2":
        raise NoImageError(f"{printable(path)} should be a qcow2 image and does not begin like one. {_CHECK}")
    if len(start) < _SHORTEST_IMAGE:
        raise _too_short(path, start)
    if image_format is not None or _is_of_another_format(start):
        return _ask_qemu_img(path, image_format, run_command)
    return _STANDALONE


def read_backing_name(path: str, open_file: OpenImage = open_image) -> str | None:
    """Read which backing file a qcow2 header names, in a file that something says is no qcow2 image.

    A guest may have written that header on its raw disk. So nothing but the name is read, no process is
    started, and what QEMU would refuse is not refused here.

    :param path: the file.
    :param open_file: how to open it.
    :return: the name as it stands there, None where it names none.
    :raises FileNotFoundError: there is no such file.
    :raises NoImageError: it is too short to hold the first bytes of an image.
    :raises ImageCacheError: it cannot be read, or ends inside its header, which no guest can bring about.
    """
    try:
        descriptor = open_file(path)
        try:
            start = os.pread(descriptor, _FIRST_READ, 0)
            if len(start) < _SHORTEST_IMAGE:
                raise _too_short(path, start)
            if start[:4] != _QCOW2_MAGIC:
                return None
            if len(start) < _header_length(start):
                raise ImageCacheError(
                    f"{printable(path)} is not a valid qcow2 image: its header ends after {len(start)} bytes. {_CHECK}"
                )
            _magic, _version, offset, length, _cluster_bits = _FIXED.unpack_from(start)
            end = offset + length
            if offset == 0 or length > _BACKING_NAME_LIMIT or end > _LARGEST_CLUSTER:
                return None
            name = start[offset:end] if end <= len(start) else os.pread(descriptor, length, offset)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as exc:
        if exc.errno in _NOT_A_FILE:
            return None
        raise ImageCacheError(f"{printable(path)} cannot be read: {reason_and_remedy(exc)}.") from exc
    return os.fsdecode(name.partition(b"\0")[0]) or None


def backing_path(path: str, name: str) -> str:
    """Return the path that a name in an image's header stands for.

    :param path: the image.
    :param name: the backing or data file's name as it stands in the header.
    :return: the path: a relative name counts from the image's own directory, as in QEMU.
    :raises ImageCacheError: the name is not that of a file (``json:``, ``nbd:`` and their like).
    """
    if name.startswith("/"):
        return name
    if name.startswith("file:"):
        name = name[len("file:") :]
    elif re.match(_PROTOCOL, name):  # the rest of it may hold a password
        raise ImageCacheError(
            f"{printable(path)} is backed by '{printable(name.partition(':')[0][:20])}:…', which is not a file's name, "
            f"so what it uses of the cache is unknown. Rebase it on a file with qemu-img rebase."
        )
    return os.path.join(os.path.dirname(path), name)


def follow_chain(
    path: str, image_format: str | None, resolve: Resolver, run_command: RunCommand, open_file: OpenImage = open_image
) -> Chain:
    """Find every file that an image needs, down the whole chain.

    :param path: the image.
    :param image_format: see :func:`read_image`.
    :param resolve: where a backing file is on this host; it raises ImageCacheError for a file that
        it cannot answer for.
    :param run_command: see :func:`read_image`.
    :param open_file: likewise.
    :return: the backing and data files, as ``resolve`` named them. A chain that runs in a circle
        ends where it meets itself: QEMU could not open it, and all files in it are known.
    :raises FileNotFoundError: the image itself is gone.
    :raises NoImageError: see :func:`read_image`; raised about the image itself alone.
    :raises ImageCacheError: something in the chain cannot be understood.
    """
    image = read_image(path, image_format, run_command, open_file)
    if image is _STANDALONE:
        return _NO_CHAIN
    files: list[str] = []
    missing = None
    while True:
        if image.data_file is not None:
            named = backing_path(path, image.data_file)
            try:
                data_file = resolve(named)
                if data_file is None:
                    missing = missing or named
                else:
                    files.append(data_file)
            except OutsideError:
                pass  # it is raw, and needs nothing
        if image.backing_file is None:
            return Chain(tuple(files), missing)
        named = backing_path(path, image.backing_file)
        try:
            below = resolve(named)
        except OutsideError as exc:
            # On a word that a guest may have written, no file elsewhere is opened.
            is_probed = image.backing_format is None and image_format is not None and not files
            if image.backing_format == "raw" or (is_probed and _begins_raw(exc.path, open_file)):
                return Chain(tuple(files), missing)
            raise
        if below is None:
            return Chain(tuple(files), named, is_incomplete=image.backing_format != "raw")
        if below in files:
            return Chain(tuple(files), missing)
        files.append(below)
        if image.backing_format == "raw":
            return Chain(tuple(files), missing)
        path = below
        try:
            image = read_image(path, image.backing_format, run_command, open_file)
        except FileNotFoundError:
            return Chain(tuple(files[:-1]), path, is_incomplete=True)
        except NoImageError as exc:
            raise ImageCacheError(str(exc)) from exc


def _too_short(path: str, start: bytes) -> NoImageError:
    return NoImageError(f"{printable(path)} is too short to be a disk image ({len(start)} bytes). {_CHECK}")


def _is_of_another_format(start: bytes) -> bool:
    return start.startswith(_OTHER_MAGICS) or re.match(_VMDK_DESCRIPTOR, start) is not None


def probe_format(start: bytes) -> str | None:
    """Return the format of an image by its first bytes, as QEMU finds it where no format is said.

    :param start: at least its first 1024 bytes.
    :return: ``qcow2`` or ``raw``; None for another one.
    """
    if start[:4] == _QCOW2_MAGIC:
        return "qcow2"
    return None if _is_of_another_format(start) else "raw"


def _begins_raw(path: str, open_file: OpenImage) -> bool:
    """Tell whether a regular file is a raw image by its first bytes, as QEMU does where no format is said."""
    try:
        # A device may do something as soon as it is opened.
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        descriptor = open_file(path)
        try:
            start = os.pread(descriptor, _FIRST_READ, 0)
        finally:
            os.close(descriptor)
    except OSError:
        return False
    return probe_format(start) == "raw"


def _header_length(start: bytes) -> int:
    """Return how long a qcow2 header is at least, by as much of it as there is."""
    is_v3 = start[4:8] == b"\0\0\0\3"
    return _V3_OFFSET + _V3.size if is_v3 else _V3_OFFSET


def _read_qcow2(start: bytes, descriptor: int) -> Image | None:
    """Return what the header says, None where it takes qemu-img to tell; ValueError where it lies."""
    if len(start) < _V3_OFFSET:
        raise ValueError(f"its header ends after {len(start)} bytes")
    _magic, version, name_offset, name_length, cluster_bits = _FIXED.unpack_from(start)
    extensions_offset = _V3_OFFSET
    if version == 3:
        if len(start) < _V3_OFFSET + _V3.size:
            raise ValueError(f"its header ends after {len(start)} bytes")
        features, _compatible, _autoclear, _refcount_order, extensions_offset = _V3.unpack_from(start, _V3_OFFSET)
        if features & ~_PLAIN_FEATURES:
            return None
    elif version == 1:
        return None
    elif version != 2:
        raise ValueError(f"its version is {version}")
    if not 9 <= cluster_bits <= 21:
        raise ValueError(f"its clusters have 2^{cluster_bits} bytes")
    cluster_size = 1 << cluster_bits
    if version == 3 and not _V3_OFFSET + _V3.size <= extensions_offset <= cluster_size:
        raise ValueError(f"its header is {extensions_offset} bytes long")
    if name_offset == 0:
        return _STANDALONE
    end = name_offset + name_length
    if name_length > _BACKING_NAME_LIMIT or end > cluster_size:
        raise ValueError(f"its backing file's name has {name_length} bytes and stands at {name_offset}")
    header = start if end <= len(start) else os.pread(descriptor, end, 0)
    if len(header) < end:
        raise ValueError(f"its backing file's name ends at {end}, the file at {len(header)}")
    if name_length == 0:
        return _STANDALONE
    name = os.fsdecode(header[name_offset:end])
    if "\0" in name:
        raise ValueError("its backing file's name has a NUL byte in it")
    return Image(name, _backing_format(header[extensions_offset:name_offset]), None)


def _qcow_format(start: bytes) -> str:
    return "qcow" if _FIXED.unpack_from(start)[1] == 1 else "qcow2"


# Disks that one qemu-img made have the same extensions, so most of them are parsed once.
@functools.lru_cache(maxsize=8)
def _backing_format(extensions: bytes) -> str | None:
    backing_format = None
    offset, end = 0, len(extensions)
    while offset + _EXTENSION.size <= end:
        kind, length = _EXTENSION.unpack_from(extensions, offset)
        offset += _EXTENSION.size
        if kind == _EXTENSION_END:
            break
        if length > end - offset:
            raise ValueError(f"one of its header extensions is {length} bytes long")
        if kind == _EXTENSION_BACKING_FORMAT:
            if length > _BACKING_FORMAT_LIMIT:
                raise ValueError(f"its backing file's format has a name of {length} bytes")
            name = extensions[offset : offset + length].partition(b"\0")[0]
            backing_format = name.decode("ascii", "replace") or None  # of several, the last counts
        offset += (length + 7) & ~7
    return backing_format


def _ask_qemu_img(path: str, image_format: str | None, run_command: RunCommand) -> Image:
    # Here, so that a pass whose headers say all does not pay for it.
    from .qemu_img import read_image_by_qemu_img

    return read_image_by_qemu_img(path, image_format, run_command)
