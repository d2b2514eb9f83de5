# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a name means: cache files, fingerprints, lock files and info files.

Nothing here touches a disk. The names are those of nova's libvirt image cache
(``nova/virt/imagecache.py``, ``nova/virt/libvirt/imagecache.py`` and ``imagebackend.py``).
"""

from __future__ import annotations

import hashlib
import os
import re
from enum import Enum
from typing import NamedTuple, Type, TypeVar

__all__ = [
    "LOCKS_DIRECTORY",
    "CacheName",
    "Kind",
    "draft_name",
    "fingerprint",
    "info_path",
    "is_draft",
    "is_nfs_name",
    "is_of_image",
    "lock_name",
    "parse_name",
    "set_aside_name",
    "set_aside_of",
    "with_plain_members",
]

LOCKS_DIRECTORY = "locks"
_TEMPLATE_PREFIXES = ("swap_", "ephemeral_")
_PARTIAL_SUFFIXES = (".part", ".converted")
_NAME = re.compile(
    "(?P<original>[0-9a-f]{40})(?:(?P<resized>_[0-9]+)|(?P<small>_sm))?"
    "|(?P<swap>swap_[0-9]+)"
    "|(?P<ephemeral>ephemeral_[0-9]+_[0-9A-Za-z]{7})"
    "|(?P<kernel>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
)

_NOVAS_LENGTH = 40
_SET_ASIDE = ".stackops-"
# Compiled when they are needed, which is where there are hidden files only.
_SET_ASIDE_NAME = r"\.(?P<name>.+)\.stackops-[0-9]+(?:\.(?P<inode>[0-9]+))?"
_NFS_NAME = r"\.nfs[0-9a-f]{24}"
_DRAFT_NAME = r"\..+\.stackops-draft\.[0-9a-f]{32}"


_Enumeration = TypeVar("_Enumeration", bound=Type[Enum])


def with_plain_members(enumeration: _Enumeration) -> _Enumeration:
    """Make the members of an enumeration plain attributes of its class, as Python 3.12 does by itself.

    Earlier ones call a function for each use of a member. An audit needs some twenty of them for each file.
    """
    for member in enumeration:
        type.__setattr__(enumeration, member.name, member)
    return enumeration


@with_plain_members
class Kind(str, Enum):
    """What a directory entry of the cache is, by its name."""

    ORIGINAL = "original"
    RESIZED = "resized"
    SMALL = "small"
    SWAP = "swap"
    EPHEMERAL = "ephemeral"
    KERNEL = "kernel"
    PARTIAL = "partial"
    OTHER = "other"


_KINDS: dict[str, Kind] = {kind.value: kind for kind in Kind}


class CacheName(NamedTuple):
    """A parsed name: its kind, and the key of what it is made from.

    The key is an image's fingerprint, a kernel's image id, or a template's name and size
    (``swap_64``, ``ephemeral_2``); it is empty for what is none of nova's.
    """

    kind: Kind
    key: str


_OTHER = CacheName(Kind.OTHER, "")


def fingerprint(image_id: str) -> str:
    """Return the name under which nova caches an image: the hex SHA-1 of its id.

    :param image_id: Glance's image id.
    :return: 40 lowercase hex digits (``get_cache_fname`` in ``nova/virt/imagecache.py``).
    """
    return hashlib.sha1(image_id.encode("utf-8", "surrogatepass")).hexdigest()


def parse_name(name: str) -> CacheName:
    """Tell what a directory entry of the cache is.

    :param name: a bare file name, as ``os.scandir`` gives it.
    :return: its kind and key; everything that nova does not make there is :attr:`Kind.OTHER`.
    """
    match = _NAME.fullmatch(name)
    if match is not None:
        kind = _KINDS[match.lastgroup or ""]
        if kind is Kind.ORIGINAL or kind is Kind.SWAP or kind is Kind.KERNEL:
            return CacheName(kind, name)
        return CacheName(kind, name.rpartition("_")[0])
    if name.endswith(_PARTIAL_SUFFIXES):
        whole = parse_name(_without_partial_suffix(name))
        if whole.kind not in (Kind.OTHER, Kind.KERNEL, Kind.PARTIAL):
            return CacheName(Kind.PARTIAL, whole.key)
    return _OTHER


def is_of_image(key: str) -> bool:
    """Tell whether cache files of a key come from an image. nova makes templates itself, interrupted ones as well.

    :param key: what :func:`parse_name` returns.
    """
    return bool(key) and not key.startswith(_TEMPLATE_PREFIXES)


def lock_name(name: str) -> str:
    """Return the name of the external lock under which nova makes and removes a cache file.

    :param name: a cache file's name; a partial download is made under the lock of the whole file.
    :return: the lock file's name (``nova.utils.synchronized`` puts ``nova-`` before it).
    """
    return "nova-" + _without_partial_suffix(name)


def info_path(pattern: str, name: str) -> str:
    """Return where the saved facts about a base file lie.

    :param pattern: ``image_info_filename_pattern``, without references, with one ``%(image)s``.
    :param name: a cache file's name.
    :return: the info file's absolute path (``get_info_filename`` in Icehouse's ``imagecache.py``).
    """
    return pattern.replace("%(image)s", name)


def set_aside_name(name: str, time: int, inode: int | None = None) -> str:
    """Return the name under which a file of the cache is set aside.

    nova counts any name of 40 characters as an image of its own, and removes it
    (``_list_base_images`` in ``nova/virt/libvirt/imagecache.py``). The name never has as many.

    :param name: the cache file's name.
    :param time: when, in unix seconds.
    :param inode: which of several files of that name it is a copy of; None where it is the file itself.
    """
    suffix = "" if inode is None else f".{inode}"
    aside = f".{name}{_SET_ASIDE}{time}{suffix}"
    return aside if len(aside) != _NOVAS_LENGTH else f".{name}{_SET_ASIDE}0{time}{suffix}"


def set_aside_of(name: str) -> tuple[str, int | None] | None:
    """Return the name of the cache file that was set aside under a name, and the inode that it is a copy of.

    :param name: a bare file name.
    :return: None where nothing was set aside under it. The inode is None where it is the file itself.
    """
    match = re.fullmatch(_SET_ASIDE_NAME, name)
    if match is None or parse_name(match["name"]).kind in (Kind.OTHER, Kind.PARTIAL):
        return None
    return match["name"], None if match["inode"] is None else int(match["inode"])


def draft_name(name: str) -> str:
    """Return a private name for a file of the cache that is being written, on a file system that needs one."""
    return f".{name}{_SET_ASIDE}draft.{os.urandom(16).hex()}"


def is_draft(name: str) -> bool:
    """Tell whether a name is one that :func:`draft_name` gave."""
    return re.fullmatch(_DRAFT_NAME, name) is not None


def is_nfs_name(name: str) -> bool:
    """Tell whether a name is one that NFS gives a file which is deleted while a process of this host has it open.

    The file keeps it until the process closes it (``nfs_sillyrename`` in the kernel's ``fs/nfs/unlink.c``).
    """
    return re.fullmatch(_NFS_NAME, name) is not None


def _without_partial_suffix(name: str) -> str:
    for suffix in _PARTIAL_SUFFIXES:
        if name.endswith(suffix):
            return name[: -len(suffix)]
    return name
