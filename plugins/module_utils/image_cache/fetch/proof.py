# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why bytes may be put under a base file's name: pure functions of values.

A base file with wrong content corrupts every guest on it in silence. What each source proves:

=========  ==============================================================================================
process    A guest's process has this very inode open, and its disk, open for writing, is built on the name.
file       Its bytes have the checksum that Glance's record of the image has.
agreed     They have the checksum that the controller gave, from Glance or from other hosts that agree.
unproven   The operator's word for this one file, where the other proof is missing.
=========  ==============================================================================================

Any local user can make a descriptor that looks like a deleted base file: a user namespace and a bind mount on the
cache's path suffice. So a process proves something only if it is certain that it is a guest's.
"""

from __future__ import annotations

import stat
from enum import Enum
from typing import AbstractSet, Mapping, NamedTuple, Sequence

from ..open_files import Inode

__all__ = [
    "CacheDirectory",
    "Content",
    "OpenFile",
    "Overlay",
    "Proof",
    "former_names",
    "guests_of",
    "why_ambiguous",
    "why_not_a_guests",
    "why_unfit",
]


class Proof(str, Enum):
    """Why a file's content may be believed."""

    PROCESS = "process"
    CHECKSUM = "checksum"
    PROCESS_AND_CHECKSUM = "process_and_checksum"
    AGREED = "agreed"
    UNPROVEN = "unproven"


class Overlay(NamedTuple):
    """An image that is directly built on a base file, as its own header says, and the disk on top of it.

    :param disk: the disk's path; mostly it is the overlay itself.
    :param instance: the directory, or the uuid, of the disk's instance.
    :param inode: the disk's.
    :param owner: the disk's, a user number.
    :param backing_format: the format that the header names for the base file; None where it names none.
    :param virtual_bytes: the size of the image that the overlay shows; None where its header does not say it.
    """

    disk: str
    instance: str
    inode: Inode
    owner: int
    backing_format: str | None
    virtual_bytes: int | None


class OpenFile(NamedTuple):
    """A deleted file that a process has open, and what the kernel says of both.

    :param process: the process's number.
    :param number: the descriptor's number in that process.
    :param descriptor: a descriptor of our own on the file, which keeps it alive (``O_PATH``).
    :param users: the process's real, effective, saved and file-system user.
    :param written: the files with a disk's name, or one of NFS, that the process has open for writing.
    :param inode: the file's; also ``mode``, ``links``, ``owner`` (a user number), ``size_bytes``, ``allocated_bytes``.
    :param is_renamed: whether NFS has given it another name instead of deleting it.
    """

    process: int
    number: int
    descriptor: int
    users: frozenset[int]
    written: frozenset[Inode]
    inode: Inode
    mode: int
    links: int
    owner: int
    size_bytes: int
    allocated_bytes: int
    is_renamed: bool = False

    @property
    def path(self) -> str:
        """Where a person finds it."""
        return f"/proc/{self.process}/fd/{self.number}"


class CacheDirectory(NamedTuple):
    """What a file of the cache has in common with its directory: the device, and mostly the owner (a user number)."""

    device: int
    owner: int


class Content(NamedTuple):
    """What a file's first bytes say.

    :param format: ``raw``, ``qcow2``, or None for another one.
    :param size_bytes: the file's size.
    :param virtual_bytes: the size of the image in it: of a raw one, the file's.
    """

    format: str | None
    size_bytes: int
    virtual_bytes: int


def why_not_a_guests(file: OpenFile, overlays: Sequence[Overlay], cache: CacheDirectory) -> str:
    """Say why a file that a process has open is not certainly the base file of a guest.

    :param file: the file, open under the base file's former name.
    :param overlays: the overlays that are built on the base file.
    :param cache: the cache directory.
    :return: the end of a sentence; empty where it is certain.
    """
    if not stat.S_ISREG(file.mode):
        return "what it has open is not a regular file"
    if file.inode[0] != cache.device:
        return "the file that it has open is on another file system than the cache"
    if file.links > (1 if file.is_renamed else 0):
        return "the file that it has open still has a name somewhere"
    owners = {overlay.owner for overlay in overlays}
    if len(file.users) != 1 or not file.users <= owners:
        return "it runs as a user who owns no disk that is built on the base file"
    if not guests_of(file, overlays):
        return "it has no disk open for writing that is built on the base file"
    if file.owner not in (cache.owner, *file.users):
        return "the file that it has open belongs neither to the owner of the cache nor to the guest's user"
    if file.is_renamed and file.inode in file.written:
        return "it has the file open for writing, and a guest only reads its base file"
    return ""


def former_names(file: OpenFile, overlays: Mapping[str, Sequence[Overlay]], opened: AbstractSet[str]) -> list[str]:
    """Return which base files one may have been that NFS has renamed, by the disks that its process has open.

    :param file: the file.
    :param overlays: what is built on each base file that is missing or was replaced, by its name.
    :param opened: the base files that the process has open under their names.
    :return: the names of those that its disks are built on, and that it does not have open, sorted.
    """
    return sorted(name for name, some in overlays.items() if name not in opened and guests_of(file, some))


def why_ambiguous(file: OpenFile, renamed: AbstractSet[Inode], names: Sequence[str]) -> str:
    """Say why it is not certain which base file one was that NFS has renamed: only the guest's disks can show that.

    :param file: the file.
    :param renamed: all files that NFS has renamed and that the same process has open.
    :param names: what :func:`former_names` returned.
    :return: the end of a sentence; empty where it is certain, or the file has not been renamed.
    """
    if not file.is_renamed:
        return ""
    if len(renamed) > 1:
        return f"it has {len(renamed)} files open that NFS renamed, and nothing shows which of them was the base file"
    if len(names) > 1:
        return (
            f"the file that it has open was renamed by NFS, and may be any of {len(names)} that its disks are built on"
        )
    return ""


def guests_of(file: OpenFile, overlays: Sequence[Overlay]) -> tuple[str, ...]:
    """Return the instances whose own disks, built on the base file, the process has open for writing."""
    return tuple(
        sorted({each.instance for each in overlays if each.inode in file.written and file.users == {each.owner}})
    )


def why_unfit(content: Content, overlays: Sequence[Overlay], is_image: bool = False) -> str:
    """Say why a file does not fit the overlays that are built on it.

    QEMU reads it in the format that an overlay's header names. Where that names none, QEMU looks at the first bytes,
    and what a guest wrote there must not make it open other files.

    :param content: what the file's first bytes say.
    :param overlays: what is built on it.
    :param is_image: whether it is an image as Glance serves it. One that begins like another format is converted or
        refused by nova, whatever its record says, so it was never under a disk that reads it as raw.
    :return: the end of a sentence; empty where it fits all of them.
    """
    for overlay in overlays:
        wanted = overlay.backing_format or "raw"
        if wanted not in ("raw", "qcow2"):
            return f"the disk of {overlay.instance} names another format for it than raw or qcow2"
        is_read_as_raw = overlay.backing_format == "raw" and not is_image
        if content.format != wanted and not is_read_as_raw:
            return f"its first bytes are not those of a {wanted} image, as the disk of {overlay.instance} needs it"
        size = content.virtual_bytes if wanted == "qcow2" else content.size_bytes
        if overlay.virtual_bytes is not None and size > overlay.virtual_bytes:
            return (
                f"it has {size} bytes, and the disk of {overlay.instance}, which is built on it, has "
                f"{overlay.virtual_bytes}"
            )
    return ""
