# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the bytes of a base file come from: a process of this host, or a file that an operator brought."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from typing import AbstractSet, Callable, Iterable, Iterator, Mapping

from ..files import DIRECTORY_FLAGS, FILE_FLAGS, FILE_OR_LINK_FLAGS
from ..open_files import Inode
from .proof import OpenFile

__all__ = ["former_files_of", "open_again", "users_of_inode"]

_DELETED = " (deleted)"


def former_files_of(
    process: int,
    names: AbstractSet[str],
    name_of: Callable[[str], str | None],
    renamed: Mapping[str, Inode],
    disk_names: AbstractSet[str],
    closing: ExitStack,
    proc: str = "/proc",
) -> list[tuple[str, OpenFile]]:
    """Find the deleted files that a process has open under one of some names, or that NFS has renamed instead.

    What the link says is only where to look: any local user can forge it, who mounts a directory over the cache. A file
    of another directory is none of the cache, whatever it is called.

    :param process: its number.
    :param names: the names that the files had.
    :param name_of: returns the name of the base file that a path leads to, as the process has it; None where to none.
    :param renamed: the files of the cache that NFS has renamed, by the names that it gave them.
    :param disk_names: the last part of the paths of disks; of other files, nothing is asked of the kernel.
    :param closing: closes the descriptors of the files, which keep them alive until then.
    :param proc: where procfs is mounted.
    :return: each file with the name that it had; empty where NFS has renamed it. Of a process that ends meanwhile, what
        was seen is true.
    """
    found: list[tuple[str, int, int]] = []
    written: set[Inode] = set()
    users: frozenset[int] = frozenset()
    try:
        with _Process(process, proc) as one:
            users = one.users()
            for number, path in one.links():
                name = os.path.basename(path)
                with suppress(FileNotFoundError):  # it was closed
                    if name.endswith(_DELETED) and name[: -len(_DELETED)] in names:
                        if name_of(path[: -len(_DELETED)]) is not None:
                            descriptor = one.open_file(number)
                            closing.callback(os.close, descriptor)
                            found.append((name[: -len(_DELETED)], number, descriptor))
                    elif name in renamed:
                        descriptor = one.open_file(number)
                        closing.callback(os.close, descriptor)
                        found.append((name, number, descriptor))
                    if (name in disk_names or name in renamed) and one.may_write(number):
                        written.add(one.inode(number))
    except OSError:
        pass  # it ended, or this user may not look into it
    files = []
    for name, number, descriptor in found:
        try:
            status = os.fstat(descriptor)
        except OSError:
            continue  # its file system does not answer
        inode = (status.st_dev, status.st_ino)
        is_renamed = name in renamed
        if is_renamed and inode != renamed[name]:
            continue  # it is in another directory
        files.append(
            (
                "" if is_renamed else name,
                OpenFile(
                    process=process,
                    number=number,
                    descriptor=descriptor,
                    users=users,
                    written=frozenset(written),
                    inode=inode,
                    mode=status.st_mode,
                    links=status.st_nlink,
                    owner=status.st_uid,
                    size_bytes=status.st_size,
                    allocated_bytes=status.st_blocks * 512,
                    is_renamed=is_renamed,
                ),
            )
        )
    return files


def users_of_inode(inode: Inode, name: str, disks: Iterable[tuple[Inode, str, str]], proc: str = "/proc") -> list[str]:
    """Find the instances whose processes have a certain file open.

    :param inode: the file.
    :param name: the file's name.
    :param disks: the inode, path and instance of each disk that is built on it.
    :param proc: where procfs is mounted.
    :return: the instances, sorted.
    """
    by_inode = {disk: instance for disk, _path, instance in disks}
    disk_names = {os.path.basename(path) for _disk, path, _instance in disks}
    found: set[str] = set()
    for process in os.listdir(proc):
        if not process.isdecimal():
            continue
        opened: set[Inode] = set()
        try:
            with _Process(int(process), proc) as one:
                for number, path in one.links():
                    last = os.path.basename(path)
                    if last == name or last in disk_names:
                        with suppress(FileNotFoundError):  # it was closed
                            opened.add(one.inode(number))
        except OSError:
            pass  # it ended, or this user may not look into it: what was seen is true
        if inode in opened:
            found.update(by_inode[each] for each in opened & by_inode.keys())
    return sorted(found)


class _Process:
    """A look into one process. Its directory is opened once: the number may be another process's a moment later."""

    def __init__(self, process: int, proc: str) -> None:
        self._closing = ExitStack()
        try:
            self._directory = self._open(f"{proc}/{process}")
            self._descriptors = self._open("fd", self._directory)
            self._details = self._open("fdinfo", self._directory)
        except OSError:
            self._closing.close()
            raise

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._closing.close()

    def _open(self, path: str, directory: int | None = None) -> int:
        descriptor = os.open(path, DIRECTORY_FLAGS, dir_fd=directory)
        self._closing.callback(os.close, descriptor)
        return descriptor

    def users(self) -> frozenset[int]:
        """Its real, effective, saved and file-system user, as this host numbers them."""
        [line] = [line for line in self._read("status", self._directory).splitlines() if line.startswith("Uid:")]
        return frozenset(map(int, line.split()[1:]))

    def links(self) -> Iterator[tuple[int, str]]:
        """The number of each of its descriptors, and what procfs says that it leads to."""
        for number in os.listdir(self._descriptors):
            with suppress(FileNotFoundError):  # it was closed
                yield int(number), os.readlink(number, dir_fd=self._descriptors)

    def may_write(self, number: int) -> bool:
        [line] = [line for line in self._read(str(number), self._details).splitlines() if line.startswith("flags:")]
        return int(line.split()[1], 8) & os.O_ACCMODE in (os.O_WRONLY, os.O_RDWR)

    def inode(self, number: int) -> Inode:
        status = os.stat(str(number), dir_fd=self._descriptors)
        return status.st_dev, status.st_ino

    def open_file(self, number: int) -> int:
        """Open a file by a descriptor of the process, whatever it is, and do nothing with it."""
        return os.open(str(number), os.O_PATH, dir_fd=self._descriptors)

    def _read(self, path: str, directory: int) -> str:
        descriptor = os.open(path, FILE_FLAGS, dir_fd=directory)
        try:
            return os.read(descriptor, 65536).decode("utf-8", "replace")
        finally:
            os.close(descriptor)


def open_again(descriptor: int) -> int:
    """Open a regular file for reading, by a descriptor that was opened with ``O_PATH``.

    :raises OSError: it cannot be opened.
    """
    return os.open(f"/proc/self/fd/{descriptor}", FILE_OR_LINK_FLAGS)
