# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is built on a base file that is to be restored: the overlays, as their own headers say."""

from __future__ import annotations

import os
import struct
from typing import Callable, Iterable, Iterator, Mapping, NamedTuple, Optional, Sequence

from ..backing_chain import OpenImage, Resolver, RunCommand, backing_path, probe_format, read_image
from ..disk_references import DiskReader, DiskSources, ExternalDisk, split_disks
from ..errors import ImageCacheError
from .proof import Content, Overlay

__all__ = [
    "CacheName",
    "DiskTools",
    "find_overlays",
    "is_self_contained",
    "made_at",
    "read_content",
    "why_not_self_contained",
]

CacheName = Callable[[str], Optional[str]]
"""Returns the name of the base file that a path on this host leads to, None where it leads to none."""

_FIRST_READ = 1024
# Up to the incompatible features of version 3 (QEMU's docs/interop/qcow2.txt).
_HEADER = struct.Struct(">4sIQIIQIIQQIIQQ")
# statx(2); Python has no function for it before 3.15.
_AT_FDCWD, _STATX_BTIME, _STATX_BYTES, _BTIME_OFFSET = -100, 0x800, 256, 80
_DATA_FILE = 0b100
_KNOWN_FEATURES = 0b11001  # dirty, compression type, extended L2 entries


class DiskTools(NamedTuple):
    """How disks are found and read, the same for all of a pass.

    :param instances_path: where the instances are.
    :param cache_path: the cache directory.
    :param external_disks: see :func:`snapshot.take_snapshot`.
    :param resolve: where a named backing file is on this host.
    :param on_host: where a path that nova wrote leads on this host, there or not.
    :param name_of: see :data:`CacheName`.
    :param run_command: how ``qemu-img`` is run where a header is not enough.
    :param open_file: how an image is opened.
    """

    instances_path: str
    cache_path: str
    external_disks: Sequence[ExternalDisk]
    resolve: Resolver
    on_host: Callable[[str], str]
    name_of: CacheName
    run_command: RunCommand
    open_file: OpenImage


def find_overlays(users: Mapping[str, Iterable[str]], tools: DiskTools) -> dict[str, list[Overlay]]:
    """Find the overlays that are directly built on some base files, there or not.

    A disk that cannot be read, or vanishes, is left out: it proves nothing.

    :param users: the directories, or instances of external disks, that need each base file, by its name.
    :param tools: how disks are read.
    :return: the overlays by the base file's name.
    """
    found: dict[str, list[Overlay]] = {name: [] for name in users}
    for disk, image_format, instance in _disks_of({each for some in users.values() for each in some}, tools):
        try:
            status = os.stat(disk)
            for overlay, backing_format, name in _layers(disk, image_format, tools):
                if name in found:
                    inode = (status.st_dev, status.st_ino)
                    size = _virtual_bytes(overlay, tools.open_file)
                    found[name].append(Overlay(disk, instance, inode, status.st_uid, backing_format, size))
        except (OSError, ImageCacheError):
            continue
    return found


class _DiskLister(DiskReader):
    """Lists the disks that the reader of an audit would read: without those that are raw."""

    def __init__(self, sources: DiskSources) -> None:
        super().__init__(sources)
        self.disks: list[tuple[str, str | None, str]] = []

    def read_disk(self, path: str, image_format: str | None, instance: str) -> None:
        self.disks.append((path, image_format, instance))


def _disks_of(instances: set[str], tools: DiskTools) -> list[tuple[str, str | None, str]]:
    """Return the path, format and instance of each disk of some instances."""
    formats, external_disks = split_disks(tools.external_disks, tools.instances_path)
    lister = _DiskLister(
        DiskSources(
            cache_path=tools.cache_path,
            cached=frozenset(),
            formats=formats,
            resolve=tools.resolve,
            on_host=tools.on_host,
            run_command=tools.run_command,
            open_file=tools.open_file,
        )
    )
    for instance in sorted(instances):
        lister.read_directory(os.path.join(tools.instances_path, instance), instance)
    for instance, path, image_format in external_disks:
        if instance in instances:
            lister.read_disk(path, image_format or None, instance)
    return lister.disks


def _layers(path: str, image_format: str | None, tools: DiskTools) -> Iterator[tuple[str, str | None, str]]:
    """Go down a disk's chain: each overlay on a base file, the format that its header names, and the base's name."""
    seen: set[str] = set()
    while path not in seen:
        seen.add(path)
        image = read_image(path, image_format, tools.run_command, tools.open_file)
        if image.backing_file is None:
            return
        named = os.path.normpath(backing_path(path, image.backing_file))
        below = tools.resolve(named)
        # By the path first: what has been found under it may be a download that got its name just now.
        name = tools.name_of(tools.on_host(named)) or (None if below is None else tools.name_of(below))
        if name is not None:
            yield path, image.backing_format, name
        if below is None:
            return
        path, image_format = below, image.backing_format


def _virtual_bytes(path: str, open_file: OpenImage) -> int | None:
    descriptor = open_file(path)
    try:
        content = read_content(descriptor)
    finally:
        os.close(descriptor)
    return content.virtual_bytes if content.format == "qcow2" else None


def read_content(descriptor: int) -> Content:
    """Look at what a file's first bytes say.

    :param descriptor: the file, open for reading.
    :raises OSError: it cannot be read.
    """
    size = os.fstat(descriptor).st_size
    start = os.pread(descriptor, _FIRST_READ, 0)
    image_format = probe_format(start)
    virtual = _HEADER.unpack_from(start)[5] if image_format == "qcow2" and len(start) >= _HEADER.size else size
    return Content(image_format, size, virtual)


def is_self_contained(descriptor: int) -> bool:
    """Tell whether a qcow2 image needs nothing but its own bytes; see :func:`why_not_self_contained`."""
    return not why_not_self_contained(descriptor)


def why_not_self_contained(descriptor: int) -> str:
    """Say why a qcow2 image has a backing file, a data file, encryption or a feature that is unknown.

    :param descriptor: the image, open for reading.
    :return: the end of a sentence; empty where it has none of these, and its header is one that QEMU takes.
    :raises OSError: it cannot be read.
    """
    start = os.pread(descriptor, _HEADER.size, 0)
    if len(start) < _HEADER.size:
        return "its header is not whole"
    header = _HEADER.unpack(start)
    version, backing_offset, cluster_bits, virtual_bytes, encryption = (header[number] for number in (1, 2, 4, 5, 6))
    features = header[-1] if version > 2 else 0
    if version not in (2, 3) or not 9 <= cluster_bits <= 21 or not 0 < virtual_bytes < 1 << 63:
        return "its header is not one of a qcow2 image that can be used"
    if backing_offset:
        return "it has a backing file"
    if encryption:
        return "it is encrypted"
    if features & _DATA_FILE:
        return "its data is in an external file"
    if features & ~_KNOWN_FEATURES:
        return "it has incompatible features that are unknown, or is marked as corrupt"
    return ""


def made_at(path: str) -> int | None:
    """Return when a file was made, in unix nanoseconds; None where the file system or the C library does not tell."""
    try:
        # Here, so that a pass that restores no template does not pay for it.
        import ctypes

        answer = ctypes.create_string_buffer(_STATX_BYTES)
        failed = ctypes.CDLL(None).statx(_AT_FDCWD, os.fsencode(path), 0, _STATX_BTIME, answer)
    except (ImportError, AttributeError):  # Python without libffi, glibc before 2.28
        return None
    [mask] = struct.unpack_from("I", answer)
    if failed or not mask & _STATX_BTIME:
        return None
    seconds, nanoseconds = struct.unpack_from("qI", answer, _BTIME_OFFSET)
    return int(seconds) * 10**9 + int(nanoseconds)
