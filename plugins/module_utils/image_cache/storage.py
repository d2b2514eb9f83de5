# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The storage that a cache lies on: what is mounted there, and which hosts nova saw using it."""

from __future__ import annotations

import json
import math
import os
import re
from typing import NamedTuple

from .errors import ImageCacheError, reason_of
from .files import read_small_file
from .text import printable

__all__ = ["Storage", "find_storage", "is_shared", "may_hang", "read_storage_users"]

_MOUNTS = "/proc/self/mountinfo"
_USERS_FILE = "compute_nodes"
_USERS_SIZE_LIMIT = 4 * 1024 * 1024
# Network and cluster file systems: other hosts may have the same files mounted.
_SHARED = frozenset(
    [
        "9p",
        "acfs",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "pvfs2",
        "smb3",
        "smbfs",
        "virtiofs",
    ]
)
_OCTAL_ESCAPE = r"\\([0-7]{3})"


class Storage(NamedTuple):
    """Where a directory lies. ``id`` is equal for two hosts only if they see the same directory.

    ``mount_point`` is where its file system is mounted on this host. The bytes are None where the file system reports
    no size.
    """

    id: str
    filesystem: str
    shared: bool
    free_bytes: int | None
    total_bytes: int | None
    mount_point: str = "/"


def find_storage(path: str, shared: bool | None = None) -> Storage:
    """Describe the file system under a directory.

    :param path: the directory.
    :param shared: whether other hosts may have its files, as the operator says; None where its type says it.
    :return: its storage. A network or cluster file system is known by its type, source and path, a
        local one by the machine and the device as well.
    :raises ImageCacheError: the mounts of this host cannot be read.
    """
    device = filesystem = source = location = place = ""
    try:
        real_path = os.path.realpath(path)
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape", newline="\n") as stream:
            longest = -1
            for line in stream:
                mount, _dash, origin = line.partition(" - ")
                _id, _parent, mount_device, root, mount_point = [_unescape(field) for field in mount.split(" ", 5)[:5]]
                below = _path_below(real_path, mount_point)
                if below is not None and len(mount_point) >= longest:
                    longest = len(mount_point)
                    place = mount_point
                    device = mount_device
                    filesystem, source = (_unescape(field) for field in origin.split(" ")[:2])
                    location = os.path.normpath(root + "/" + below) if root != "/" else "/" + below
        space = os.statvfs(real_path)
    except (OSError, ValueError) as exc:
        raise ImageCacheError(
            f"What is mounted at {printable(path)} cannot be found out: {reason_of(exc)}. Look at {printable(path)} "
            f"(stat -f) and at {_MOUNTS}."
        ) from exc
    is_shared_by_type = is_shared(filesystem)
    owner = source if is_shared_by_type else f"{_machine_id()}:{device}"
    return Storage(
        id=f"{filesystem}:{owner}:{location}",
        filesystem=filesystem,
        shared=is_shared_by_type if shared is None else shared,
        free_bytes=space.f_bavail * space.f_frsize if space.f_blocks else None,
        total_bytes=space.f_blocks * space.f_frsize or None,
        mount_point=place,
    )


def is_shared(filesystem: str) -> bool:
    """Tell whether other hosts may have the files of such a file system too.

    :param filesystem: its type, as the kernel names it. FUSE has a name of its own only where its server gives one,
        and may be anything; ``fuseblk`` is on a local disk.
    """
    return filesystem in _SHARED or filesystem == "fuse" or filesystem.startswith("fuse.")


def may_hang(mounts: str = _MOUNTS) -> bool:
    """Tell whether a file system is mounted anywhere on this host that another machine has to answer for.

    Any, and not that of a path: links lead from one to another, and to follow them may hang already. Without such a
    mount, a pass need not pay for a process that looks first.

    :param mounts: the kernel's table of mounts (``proc_pid_mountinfo(5)``).
    """
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape", newline="\n") as stream:
            return any(_may_hang(*line.split(" - ", 1)) for line in stream)
    except (OSError, TypeError, IndexError):  # nobody knows
        return True


def _may_hang(mount: str, origin: str) -> bool:
    filesystem = origin.split(" ", 1)[0]
    if filesystem == "autofs":
        return not mount.split(" ")[4].startswith("/proc/")  # every systemd mounts one there, for the kernel's own
    return is_shared(filesystem)


def read_storage_users(instances_path: str, shared: bool) -> dict[str, float]:
    """Read which hosts nova saw using this storage (``nova/virt/storage_users.py``).

    :param instances_path: the directory with the ``compute_nodes`` file.
    :param shared: whether other hosts write the file too. nova truncates it before it writes it. So an empty one may
        lack hosts there, and on a local disk it has none.
    :return: the time of each host's last use, in unix seconds; empty where nova keeps no such file.
    :raises ImageCacheError: the file is there and cannot be read or understood.
    """
    path = os.path.join(instances_path, _USERS_FILE)
    try:
        text = read_small_file(path, _USERS_SIZE_LIMIT)
        if not text.strip():
            if shared:
                raise ValueError("it is empty, perhaps because another host writes it now")
            return {}
        # Whole numbers as floats too: of millions of digits, int() would take minutes.
        users: dict[str, float] = json.loads(text, parse_int=float)
        if not all(isinstance(seen, float) and math.isfinite(seen) for seen in users.values()):
            raise ValueError("a time in it is not a number")
        return users
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as exc:
        raise ImageCacheError(
            f"{printable(path)}, where nova records which hosts use this storage, cannot be understood: "
            f"{reason_of(exc)}. Run it again after nova's next pass, which writes {_USERS_FILE} anew. If no nova uses "
            f"this storage any more, remove the file."
        ) from exc


def _path_below(path: str, mount_point: str) -> str | None:
    if path == mount_point:
        return ""
    prefix = mount_point.rstrip("/") + "/"
    return path[len(prefix) :] if path.startswith(prefix) else None


def _unescape(field: str) -> str:
    return re.sub(_OCTAL_ESCAPE, lambda match: chr(int(match[1], 8)), field) if "\\" in field else field


def _machine_id() -> str:
    try:
        with open("/etc/machine-id", encoding="ascii") as stream:
            return stream.read(64).strip() or os.uname().nodename
    except (OSError, ValueError):
        return os.uname().nodename
