# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who holds a file at this moment: QEMU's image locks, and descriptors that are open on it."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from typing import Mapping, NamedTuple, Sequence, Tuple

from .errors import ImageCacheError, reason_of
from .files import is_locked_by_another, lock_request
from .text import printable

__all__ = ["FormerFileUser", "Inode", "OpenFiles", "find_open_files", "is_open_elsewhere", "qemu_holds"]

Inode = Tuple[int, int]
"""Device and inode number."""

# Python has the constant from 3.9 on; the number is Linux's, on every architecture.
_F_OFD_GETLK: int = getattr(fcntl, "F_OFD_GETLK", 36)
# Bytes 100 to 299 carry QEMU's permissions in use and permissions not shared (``RAW_LOCK_PERM_BASE``
# and ``RAW_LOCK_SHARED_BASE`` in ``block/file-posix.c``).
_QEMU_LOCKS = lock_request(100, 200)
_NO_INODE = (0, 0)
_DELETED = " (deleted)"
_BLOCK_DEVICES = "/sys/block"


class FormerFileUser(NamedTuple):
    """A process that has a file open which was in the directory, and has another name or none now.

    :param names: which of the files asked about it has open.
    :param links: what leads to each file that it has open (``/proc/PID/fd/N``), by the path that the kernel shows.
    :param process: its number.
    """

    names: set[str]
    links: Mapping[str, str]
    process: int


class OpenFiles(NamedTuple):
    """Which of the files asked about some process has open, and how many processes could not be seen.

    :param former_file_users: the processes that have a former file of the directory open.
    """

    names: set[str]
    hidden_processes: int
    former_file_users: Sequence[FormerFileUser] = ()


def qemu_holds(descriptor: int) -> bool:
    """Tell whether a QEMU process has the file in the chain of an open disk.

    QEMU 2.10 and later keeps open-file-description locks on every image of a chain. Asking for
    them takes no right to write and sets no lock.

    :param descriptor: the file, open for reading.
    :return: whether someone holds a lock on the bytes that QEMU uses.
    :raises OSError: the kernel or the file system cannot tell.
    """
    return is_locked_by_another(descriptor, _F_OFD_GETLK, _QEMU_LOCKS)


def find_open_files(
    names: Mapping[Inode, Sequence[str]], proc: str = "/proc", directory: str | None = None
) -> OpenFiles:
    """Find which files any process of this host has open, other than this one.

    :param names: the names of the files, by their inode.
    :param proc: where procfs is mounted.
    :param directory: where the files are, if it is also to be found who has a former one open.
    :return: the names of those that are open.
    :raises ImageCacheError: the processes cannot be listed.
    """
    found: set[str] = set()
    users: list[FormerFileUser] = []
    in_directory = "/" if directory is None else f"/{os.path.basename(directory)}/"
    hidden = 0
    wanted = {name for hard_links in names.values() for name in hard_links}
    own = str(os.getpid())
    try:
        processes = os.listdir(proc)
    except OSError as exc:
        raise ImageCacheError(
            f"{printable(proc)} cannot be read, so it is not certain which files are open: {reason_of(exc)}. "
            f"Mount it (mount -t proc proc {printable(proc)})."
        ) from exc
    for process in processes:
        if not process.isdecimal() or process == own:
            continue
        descriptor_path = f"{proc}/{process}/fd"
        try:
            descriptors = os.listdir(descriptor_path)
        except PermissionError:
            hidden += 1
            continue
        except OSError:
            continue  # it has ended
        is_hidden = False
        opened: set[str] = set()
        has_former_file = False
        for descriptor in descriptors:
            link = f"{descriptor_path}/{descriptor}"
            try:
                # By the last part of its path first: a path may be another one in a container,
                # and a stat() of every file in the system could wait for a dead server.
                path = os.readlink(link)
                name = path.rpartition("/")[2]
                is_wanted = name in wanted or (name.endswith(_DELETED) and name[: -len(_DELETED)] in wanted)
                if not is_wanted and (directory is None or in_directory not in path or not _is_in(directory, path)):
                    continue
                status = os.stat(link)
            except PermissionError:
                is_hidden = True
                continue
            except OSError:
                continue  # it was closed
            inode = (status.st_dev, status.st_ino)
            if inode in names:
                opened.update(names[inode])
            elif directory is not None and _is_in(directory, path):
                has_former_file = True
        found |= opened
        if has_former_file:
            users.append(FormerFileUser(opened, _links_of(descriptor_path), int(process)))
        hidden += is_hidden
    found.update(name for path in _loop_device_files() for name in names.get(_inode_of(path) or _NO_INODE, ()))
    return OpenFiles(found, hidden, tuple(users))


def _is_in(directory: str, path: str) -> bool:
    """Tell whether a file is in a directory, or was when it lost its name."""
    parent = os.path.dirname(path)
    try:
        return os.path.samefile(parent, directory)
    except OSError:  # the path is one of a container
        return os.path.basename(parent) == os.path.basename(directory)


def _links_of(descriptor_path: str) -> dict[str, str]:
    """Return the descriptor of each file that a process has open, by the file's path."""
    links = {}
    try:
        for descriptor in os.listdir(descriptor_path):
            link = f"{descriptor_path}/{descriptor}"
            links[os.readlink(link)] = link
    except OSError:
        pass  # it is ending, or closes files: what was read is true
    return links


def _loop_device_files() -> list[str]:
    """Return the files behind loop devices: the kernel has them open, and no process."""
    paths = []
    try:
        devices = os.listdir(_BLOCK_DEVICES)
    except OSError:
        return []  # without sysfs, as in some containers, nobody says
    for device in devices:
        if device.startswith("loop"):
            try:
                with open(f"{_BLOCK_DEVICES}/{device}/loop/backing_file", "rb") as stream:
                    paths.append(os.fsdecode(stream.read().rstrip(b"\n")))
            except OSError:
                continue  # nothing is attached
    return paths


def _inode_of(path: str) -> Inode | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_open_elsewhere(descriptor: int) -> bool | None:
    """Tell whether any other descriptor on this host is open on a file.

    The kernel is asked for a write lease (``fcntl(2)``, "Leases"), which it gives only where no
    other descriptor is open. Until this one is closed, nobody else gets the file open: who tries,
    waits.

    :param descriptor: the file, open once in this process, on a local file system: network file
        systems answer as they please.
    :return: None where the kernel cannot tell: another owner's file, a file system without leases.
    """
    try:
        # The default signal of a lease would end the process; this one is ignored by default.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError as exc:
        return True if exc.errno == errno.EAGAIN else None
    return False
