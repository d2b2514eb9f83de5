# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What would make a removal fail, found without trying, so that a dry run knows it too."""

from __future__ import annotations

import os
import stat
from types import MappingProxyType
from typing import Mapping, NamedTuple

from .errors import AS_ROOT, reason_and_remedy, remedy_for_rights
from .inode_flags import is_protected_by_flags
from .text import printable, some_names

__all__ = [
    "Obstacles",
    "can_create_owned_by_nova",
    "is_others_in_sticky_directory",
    "unremovable_sentence",
    "why_locks_cannot_be_made",
    "why_nothing_can_be_removed",
]

FLAGGED_FILE = (
    "They have the attribute immutable or append-only. Remove it (chattr -i -a), or name the files in keep_files."
)
STICKY_FILE = f"They belong to another user, and the cache directory is sticky. {AS_ROOT}."
# Enough for the lock files of a batch, with what a file system sets aside for new inodes and directory blocks.
_ROOM_FOR_LOCKS_BYTES = 1 << 20


class Obstacles(NamedTuple):
    """What is known to stand in the way of removals. A reason is one sentence or two: why, and what to do.

    :param everything: why no file can be removed; empty where files can be.
    :param files: why a file cannot be removed, by its name.
    :param new_locks: why no lock file can be made now; empty where one can.
    :param bytes_for_locks: how many bytes removals must free before lock files can be made, at least one; None where
        that does not help.
    :param lock_files: the names of the lock files that exist.
    """

    everything: str = ""
    files: Mapping[str, str] = MappingProxyType({})
    new_locks: str = ""
    bytes_for_locks: int | None = None
    lock_files: frozenset[str] = frozenset()


def why_nothing_can_be_removed(directory: int, path: str, locks_path: str) -> str:
    """Say why no file of the cache can be removed, as far as it lies in directories and mounts.

    :param directory: descriptor of the cache directory.
    :param path: its path.
    :param locks_path: the directory of nova's locks, there or not.
    :return: the reason, empty where there is none.
    :raises OSError: the kernel does not answer.
    """
    if os.fstatvfs(directory).f_flag & os.ST_RDONLY:
        return (
            f"{printable(path)} is on a read-only mount. Look at the kernel's log (dmesg), then mount it for writing "
            f"(mount -o remount,rw)."
        )
    if is_protected_by_flags(directory):
        return (
            f"{printable(path)} has the attribute immutable or append-only. "
            f"Remove it with chattr -i -a {printable(path)}."
        )
    if not os.access(path, os.W_OK | os.X_OK):
        return f"{printable(path)} may not be written by this user. {remedy_for_rights()}."
    try:
        if os.statvfs(locks_path).f_flag & os.ST_RDONLY:
            return (
                f"nova's lock directory {printable(locks_path)} is on a read-only mount, and nothing is removed "
                f"without locks. Mount it for writing (mount -o remount,rw)."
            )
    except FileNotFoundError:
        if not can_create_owned_by_nova(os.path.dirname(locks_path)):
            return (
                f"nova's lock directory {printable(locks_path)} does not exist, and this user may not make it. "
                f"{remedy_for_rights()}."
            )
    except OSError as exc:
        return f"nova's locks in {printable(locks_path)} cannot be listed: {reason_and_remedy(exc)}."
    return ""


def why_locks_cannot_be_made(
    locks: int | None, locks_path: str, instances_path: str, device: int
) -> tuple[str, int | None]:
    """Say why no new lock file can be made, and how many bytes removals must free before one can.

    :param locks: descriptor of the directory of nova's locks; None where it does not exist yet.
    :param locks_path: its path.
    :param instances_path: the directory above.
    :param device: the device number of the cache.
    :return: the reason, empty where there is none; None in place of the bytes where removals do not help.
    :raises OSError: the kernel does not answer.
    """
    path = printable(locks_path)
    if locks is not None and is_protected_by_flags(locks):
        reason = (
            f"They have no lock file, and {path} has the attribute immutable or append-only. Remove it (chattr -i -a)."
        )
        return reason, None
    if locks is not None and not can_create_owned_by_nova(locks_path):
        reason = f"They have no lock file, and this user may make none in {path} for nova. {remedy_for_rights()}."
        return reason, None
    where = locks_path if locks is not None else instances_path
    space = os.statvfs(where)
    is_root = os.geteuid() == 0
    # Some file systems count no blocks or no inodes: a tmpfs without a limit, or what a process serves (FUSE).
    free_bytes = (space.f_bfree if is_root else space.f_bavail) * space.f_frsize
    missing_bytes = _ROOM_FOR_LOCKS_BYTES - free_bytes if space.f_blocks else 0
    has_inode = space.f_files == 0 or (space.f_ffree if is_root else space.f_favail) > 0
    if missing_bytes <= 0 and has_inode:
        return "", None
    reason = (
        f"They have no lock file, and the file system of {path} is too full to make one. "
        f"Free {_ROOM_FOR_LOCKS_BYTES >> 20} MiB or some inodes there, and run it again."
    )
    is_same = os.stat(where).st_dev == device
    return reason, max(1, missing_bytes) if is_same else None


def can_create_owned_by_nova(directory: str) -> bool:
    """Tell whether this user may make an entry in a directory that belongs to its owner, as nova needs it."""
    try:
        owner = os.stat(directory)
    except OSError:
        return False
    is_ours = owner.st_uid == os.geteuid() and owner.st_gid in (os.getegid(), *os.getgroups())
    return (is_ours or os.geteuid() == 0) and os.access(directory, os.W_OK | os.X_OK)


def is_others_in_sticky_directory(file: os.stat_result, directory: os.stat_result) -> bool:
    """Tell whether a file is in a sticky directory and neither of them belongs to this user."""
    return bool(directory.st_mode & stat.S_ISVTX) and os.geteuid() not in (0, directory.st_uid, file.st_uid)


def unremovable_sentence(names: list[str], cache_path: str, why: str) -> str:
    """Say which files cannot be removed, why, and what to do."""
    what = "unused file" if len(names) == 1 else "unused files"
    return f"{len(names)} {what} in {printable(cache_path)} cannot be removed ({some_names(names)}). {why}"
