# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cache files that are built on other cache files: a file that is kept keeps what it is built on.

Users upload images, so a header in the cache is hostile input. It can only ever protect the files that it names:
nothing that is written there is followed outside of the cache, and a header that makes no sense names nothing.
"""

from __future__ import annotations

import os
import re
import struct
from contextlib import suppress
from typing import Iterable, Mapping

from .backing_chain import Resolver, backing_path
from .errors import ImageCacheError
from .files import FILE_FLAGS
from .names import Kind, parse_name

__all__ = ["SMALLEST_OVERLAY", "overlays_now", "protected_files", "read_overlay_backing_name", "resolve_overlays"]

SMALLEST_OVERLAY = 1024
"""In bytes: with the smallest clusters, QEMU's header, refcounts and L1 table take more."""

# Magic, version, offset and length of the backing file's name: the same in all versions of qcow and qcow2.
_HEADER = struct.Struct(">4sIQI")
_MAGIC = b"QFI\xfb"
_NAME_LIMIT = 1023
_HEADER_LIMIT = 1 << 21  # the largest cluster: the name lies in the first one
# What may stand around a file's name in "json:{...}" and in a URL.
_AROUND_NAMES = r"""[/\\"':,;{}\[\]()?&=\s]+"""


def read_overlay_backing_name(descriptor: int) -> str | None:
    """Read the name of the backing file out of a qcow2 header (QEMU's ``docs/interop/qcow2.txt``).

    :param descriptor: a file, open for reading.
    :return: the name as it stands there; None where the file is not an overlay.
    :raises OSError: it cannot be read.
    """
    start = os.pread(descriptor, _HEADER.size, 0)
    if not start.startswith(_MAGIC) or len(start) < _HEADER.size:
        return None
    _magic, _version, offset, length = _HEADER.unpack(start)
    if not 0 < length <= _NAME_LIMIT or not 0 < offset < _HEADER_LIMIT:
        return None
    name = os.pread(descriptor, length, offset)
    return None if b"\0" in name else os.fsdecode(name) or None


def resolve_overlays(
    backing_names: Mapping[str, str], cache_path: str, names: Iterable[str], resolve: Resolver
) -> dict[str, tuple[str, ...]]:
    """Find the cache files that overlays in the cache are directly built on.

    :param backing_names: what :func:`read_overlay_backing_name` found, by the overlay's file name.
    :param cache_path: the cache directory: a relative name counts from there.
    :param names: the names of the cache's files.
    :param resolve: see :func:`disk_references.backing_file_resolver`.
    :return: the names of the cache files under each overlay that has any: one, but for a name that is none of a file.
    """
    known = frozenset(names) if backing_names else frozenset()
    found = {}
    for overlay, name in backing_names.items():
        below = tuple(sorted(_named_files(name, f"{cache_path}/{overlay}", cache_path, known, resolve) - {overlay}))
        if below:
            found[overlay] = below
    return found


def _named_files(name: str, overlay_path: str, cache_path: str, names: frozenset[str], resolve: Resolver) -> set[str]:
    base = name.rpartition("/")[2]
    if base in names:  # under whatever path: a container has another one
        return {base}
    try:
        path = backing_path(overlay_path, name)
    except ImageCacheError:  # json:, nbd: and their like
        return names.intersection(re.split(_AROUND_NAMES, name))  # type: ignore[return-value]
    with suppress(ImageCacheError):  # it lies outside, and hides nothing of the cache that could be found out
        located = resolve(path)
        if located is not None and os.path.dirname(located) == cache_path:
            return {os.path.basename(located)}
    return set()


def protected_files(overlays: Mapping[str, tuple[str, ...]], kept: Iterable[str]) -> set[str]:
    """Return all files that files which are kept are built on, down their chains.

    :param overlays: what :func:`resolve_overlays` returned.
    :param kept: the names of the files that are kept.
    :return: the names of the files under them. A chain that runs in a circle ends where it meets itself.
    """
    protected: set[str] = set()
    waiting = [name for overlay in kept for name in overlays.get(overlay, ())] if overlays else []
    while waiting:
        name = waiting.pop()
        if name not in protected:
            protected.add(name)
            waiting.extend(overlays.get(name, ()))
    return protected


def overlays_now(
    cache: int,
    cache_path: str,
    inodes: Mapping[str, int],
    overlays: Mapping[str, tuple[str, ...]],
    resolve: Resolver,
) -> dict[str, tuple[str, ...]]:
    """Return which overlays the cache has at this moment. Only files that are new, or others than before, are read.

    :param cache: descriptor of the cache directory.
    :param cache_path: its path.
    :param inodes: the inode number of each file when it was read last, by name.
    :param overlays: what was found then.
    :param resolve: see :func:`resolve_overlays`.
    :return: as :func:`resolve_overlays`.
    :raises OSError: the directory cannot be listed, or a new file in it cannot be read.
    """
    current = {}
    backing_names = {}
    with os.scandir(cache) as entries:
        for entry in entries:
            name = entry.name
            if inodes.get(name) == entry.inode():
                if name in overlays:
                    current[name] = overlays[name]
            elif entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    if parse_name(name).kind is Kind.OTHER and entry.stat().st_size < SMALLEST_OVERLAY:
                        continue
                    descriptor = os.open(name, FILE_FLAGS, dir_fd=cache)
                    try:
                        backing_name = read_overlay_backing_name(descriptor)
                    finally:
                        os.close(descriptor)
                    if backing_name is not None:
                        backing_names[name] = backing_name
    current.update(resolve_overlays(backing_names, cache_path, inodes, resolve))
    return current
