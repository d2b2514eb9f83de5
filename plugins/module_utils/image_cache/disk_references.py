# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the disks of all instances need: every ``disk*`` of every instance directory, down its whole chain."""

from __future__ import annotations

import errno
import json
import os
import re
import time
from types import MappingProxyType
from typing import AbstractSet, Callable, Dict, Iterable, List, Mapping, NamedTuple, Sequence, Tuple

from .backing_chain import (
    QEMU_IMG_HUNG,
    Chain,
    NoImageError,
    OpenImage,
    OutsideError,
    Resolver,
    RunCommand,
    follow_chain,
    open_image,
    read_backing_name,
)
from .errors import ImageCacheError, reason_and_remedy, reason_of
from .files import FILE_FLAGS
from .names import Kind, parse_name
from .nova_paths import is_in_instance_directory
from .open_files import Inode
from .text import printable
from .workers import map_in_processes

__all__ = [
    "DiskReader",
    "DiskSources",
    "DiskUse",
    "ExternalDisk",
    "backing_file_resolver",
    "find_disk_use",
    "is_disk_name",
    "make_open",
    "merge_disk_use",
    "split_disks",
    "stop_after_first_timeout",
]

_DISK_PREFIX = "disk"
_DISK_INFO = "disk.info"
_DISK_INFO_LIMIT = 65536
# What nova writes for an instance with one disk, which needs no parser of JSON: a third of the time that reading takes.
_PLAIN_DISK_INFO = re.compile(rb'\{"[ !#-\[\]-~]*/(?P<disk>[ !#-.0-\[\]-~]*)": "(?P<format>[0-9A-Za-z_-]*)"\}')
_CONFIG_DRIVE = "disk.config"
# What begins like a disk's name and is none: nova's own temporary files, and downloads.
_NOT_DISK_SUFFIXES = (".part", ".converted", ".fallocate_test")
_PLOOP_IMAGE = "root.hds"
_NO_FORMATS: Mapping[str, str] = MappingProxyType({})
# A disk that is being made or copied is no image yet. That takes milliseconds; 0.3 s are waited for all such disks.
_NEW_SECONDS = 10
_PAUSES = 10
_PAUSE_SECONDS = 0.03
# What stat() says of a name that no file can have.
_NO_SUCH_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)

Users = Dict[str, List[str]]
ExternalDisk = Tuple[str, str, str]
"""An instance's uuid, the path of one of its disks, and the disk's format (empty where unknown)."""


class DiskUse(NamedTuple):
    """What disks need.

    :param directories: the directories that hold disks; ``disk.info`` and the like are none.
    :param backing: the directories whose disks need a cache file, by its name.
    :param missing: the directories whose disks need a file that does not exist, by its path as they name it.
    :param problems: sentences; while there is one, it is unknown what the disks need.
    :param warnings: sentences for the operator that stop nothing.
    :param vanished: the directories that were gone when their turn came, or lost a disk at that moment.
    """

    directories: list[str]
    backing: Users
    missing: Users
    problems: list[str]
    warnings: list[str]
    vanished: list[str]


class DiskSources(NamedTuple):
    """What a disk's chain is found by, the same for all disks of a pass.

    :param cache_path: the cache directory.
    :param cached: the names of the cache's files.
    :param formats: the format of disks in instance directories, by their path, where domain XML says it.
    :param resolve: see :func:`backing_file_resolver`.
    :param on_host: where a path that nova wrote leads on this host.
    :param run_command: how ``qemu-img`` is run where a header is not enough.
    :param open_file: see :func:`make_open`.
    """

    cache_path: str
    cached: AbstractSet[str]
    formats: Mapping[str, str]
    resolve: Resolver
    on_host: Callable[[str], str]
    run_command: RunCommand
    open_file: OpenImage


def find_disk_use(
    instances_path: str, directories: Sequence[str], external_disks: Iterable[ExternalDisk], sources: DiskSources
) -> DiskUse:
    """Follow every disk's chain.

    :param directories: names of the instance directories.
    :param external_disks: disks under other names, or in other places, that a source of instances names.
    :return: what the disks need. A disk that vanishes meanwhile is left out.
    :raises ImageCacheError: a process that did a part of the work ended early.
    """

    def read(names: Sequence[str]) -> DiskUse:
        reader = DiskReader(sources)
        for name in names:
            reader.read_directory(f"{instances_path}/{name}", name)
        return reader.found

    parts = [DiskUse(*part) for part in map_in_processes(read, directories)]
    elsewhere = DiskReader(sources)
    for instance, path, image_format in external_disks:
        elsewhere.read_disk(path, image_format or None, instance)
    return merge_disk_use([*parts, elsewhere.found])


def is_disk_name(name: str) -> bool:
    """Tell whether a file of an instance directory is a disk, as far as its name says it."""
    return name.startswith(_DISK_PREFIX) and not name.startswith(_DISK_INFO) and not name.endswith(_NOT_DISK_SUFFIXES)


def split_disks(disks: Iterable[ExternalDisk], instances_path: str) -> tuple[dict[str, str], list[ExternalDisk]]:
    """Sort the disks that a source of instances names.

    :return: the format of each disk that is in an instance directory and so is read anyway, by its path, where
        one is said and no two say different ones; and all other disks.
    """
    formats: dict[str, str] = {}
    external = []
    for disk in disks:
        _instance, path, image_format = disk
        if not is_in_instance_directory(path, instances_path):
            external.append(disk)
        elif formats.setdefault(path, image_format) != image_format:
            formats[path] = ""
    return formats, external


def backing_file_resolver(
    cache_path: str,
    files: Mapping[Inode, Sequence[str]],
    instances_path: str,
    other_directories: Iterable[str] = (),
    on_host: Callable[[str], str] = str,
) -> Resolver:
    """Make the function that finds a named backing file on this host.

    :param cache_path: the cache directory.
    :param files: the names of the cache's files, by their inode.
    :param instances_path: the directory above: a file outside of it is not answered for,
    :param other_directories: unless it is in one of these, as the snapshots of a volume are.
    :param on_host: where a path that nova wrote leads on this host.
    :return: the function. A file of the cache is found under whatever path leads to it, and by its
        name alone where a path does not exist here: that is how a container, or another host, sees it.
        It raises OutsideError for a file that is not answered for.
    """
    prefix = cache_path + "/"
    start = len(prefix)
    names = {name for hard_links in files.values() for name in hard_links}
    elsewhere = {os.path.realpath(directory) for directory in other_directories}

    def resolve(path: str) -> str | None:
        if path.startswith(prefix) and path[start:] in names:
            return path
        try:
            # It raises too, where a link is replaced by a file meanwhile.
            real_path = os.path.realpath(on_host(path))
            status = os.stat(real_path)
        except OSError as exc:
            if os.path.basename(path) in names:
                return prefix + os.path.basename(path)
            if exc.errno in _NO_SUCH_FILE:
                return None
            raise ImageCacheError(
                f"The backing file {printable(path)} cannot be looked at: {reason_and_remedy(exc)}."
            ) from exc
        hard_links = files.get((status.st_dev, status.st_ino))
        if hard_links is not None:
            name = os.path.basename(real_path)
            return prefix + (name if name in hard_links else hard_links[0])
        is_inside = real_path.startswith(os.path.realpath(instances_path) + "/")
        if not is_inside and os.path.dirname(real_path) not in elsewhere:
            raise OutsideError(
                f"The backing file {printable(path)} is outside of {printable(instances_path)}: "
                f"it is not followed, and what is under it is unknown. If it is raw, write that into the disk with "
                f"qemu-img rebase -u -F raw. Otherwise rebase the disk on a file that is not outside (qemu-img "
                f"rebase).",
                real_path,
            )
        return real_path

    return resolve


def make_open(cache_path: str, cache: int) -> OpenImage:
    """Make the function that opens images: those of the cache in that very directory, and following no link.

    :param cache_path: the cache directory.
    :param cache: a descriptor of it. Under its path there may be a link to somewhere else a moment later.
    """
    prefix = cache_path + "/"
    start = len(prefix)

    def open_file(path: str) -> int:
        if path.startswith(prefix):
            return os.open(path[start:], FILE_FLAGS, dir_fd=cache)
        return open_image(path)

    return open_file


def stop_after_first_timeout(run_command: RunCommand) -> RunCommand:
    """Make ``qemu-img`` be asked no more once it did not answer: a thousand such images would take a day."""
    hung: list[tuple[int, str, str]] = []

    def run(command: list[str]) -> tuple[int, str, str]:
        if hung:
            return hung[0]
        answer = run_command(command)
        if answer[0] in QEMU_IMG_HUNG:
            hung.append(answer)
        return answer

    return run


class DiskReader:
    """Reads disks, one after the other, and gathers what they need."""

    def __init__(self, sources: DiskSources) -> None:
        self.found = DiskUse([], {}, {}, [], [], [])
        self._sources = sources
        self._cache_prefix = sources.cache_path + "/"
        self._pauses_left = _PAUSES

    def read_directory(self, path: str, name: str) -> None:
        try:
            entries = [entry for entry in os.listdir(path) if entry.startswith(_DISK_PREFIX)]
        except (FileNotFoundError, NotADirectoryError):
            self.found.vanished.append(name)
            return
        except OSError as exc:
            self.found.problems.append(
                f"The instance directory {printable(path)} cannot be read: {reason_and_remedy(exc)}."
            )
            return
        if not entries:
            return
        recorded: Mapping[str, str] = _NO_FORMATS
        if _DISK_INFO in entries:
            entries.remove(_DISK_INFO)
            recorded = self._read_disk_info(f"{path}/{_DISK_INFO}")
        holds_disks = False
        for entry in entries:
            file = f"{path}/{entry}"
            image_format = self._sources.formats.get(file) or recorded.get(entry)
            if image_format is None and not is_disk_name(entry):
                self._read_other_file(file, name)
                continue
            holds_disks = True
            # A guest may write on its config drive, which is raw and not in disk.info.
            if entry.startswith(_CONFIG_DRIVE):
                continue
            if image_format == "raw":
                self._read_raw_disk(file, name)
            else:
                self.read_disk(file, image_format, name)
        if holds_disks:
            self.found.directories.append(name)

    def read_disk(self, path: str, image_format: str | None, instance: str) -> None:
        """Read an image's whole chain; what cannot be read or understood is a problem."""
        try:
            chain = self._follow_chain(path, image_format)
        except (FileNotFoundError, ImageCacheError) as exc:
            self._note(exc, path, instance)
            return
        for file in chain.files:
            if file.startswith(self._cache_prefix):
                _add(self.found.backing, file[len(self._cache_prefix) :], instance)
        if chain.missing is not None:
            missing = os.path.normpath(chain.missing)
            _add(self.found.missing, missing, instance)
            is_cache_file = parse_name(os.path.basename(missing)).kind is not Kind.OTHER
            if chain.is_incomplete and not is_cache_file:
                here = self._sources.on_host(missing)
                both = printable(missing) if here == missing else f"{printable(here)} ({printable(missing)})"
                self.found.problems.append(
                    f"{printable(path)} needs {both}, which is not there, or not mounted, so what is under it is "
                    f"unknown. Mount or restore {printable(here)}."
                )

    def _read_raw_disk(self, path: str, instance: str) -> None:
        """Read a disk that is said to be raw.

        nova leaves that word in ``disk.info`` under a disk that has become an overlay: ``disk.rescue`` or
        ``disk.swap`` after ``images_type`` was changed. So the cache files that its header names are needed, and
        nothing else that is in it counts: a guest may have written it.
        """
        try:
            while True:
                try:
                    return self._protect_named(path, instance)
                except ImageCacheError:
                    if not self._may_try_again(path):
                        raise
        except (FileNotFoundError, ImageCacheError) as exc:
            self._note(exc, path, instance)

    def _read_other_file(self, path: str, instance: str) -> None:
        """Read a file that is no disk: what its header names is needed, and whatever else is in it stops nothing."""
        try:
            self._protect_named(path, instance)
        except (FileNotFoundError, ImageCacheError):
            return  # what cannot be read is no image

    def _protect_named(self, path: str, instance: str) -> None:
        """Protect the cache file that a header names, and those that are named below it."""
        named: set[str] = set()
        name = self._cached_name_in(path)
        while name is not None and name not in named:
            named.add(name)
            _add(self.found.backing, name, instance)
            try:
                name = self._cached_name_in(self._cache_prefix + name)
            except (FileNotFoundError, NoImageError):
                return

    def _cached_name_in(self, path: str) -> str | None:
        """Return the cache file that a header names, by the last part of the path: the rest may lead anywhere."""
        name = os.path.basename(read_backing_name(path, self._sources.open_file) or "")
        return name if name in self._sources.cached else None

    def _note(self, exc: FileNotFoundError | ImageCacheError, path: str, instance: str) -> None:
        """Note why a disk's chain is not known, if it is unknown at all."""
        if isinstance(exc, FileNotFoundError):
            if os.path.islink(path):
                self.found.problems.append(
                    f"{printable(path)} is a link to a disk that is not there, or not mounted. If its instance is "
                    f"gone, remove {printable(path)}. Otherwise mount the disk."
                )
            else:
                self.found.vanished.append(instance)
        elif isinstance(exc, NoImageError) and _is_in_future(path):
            self.found.problems.append(
                f"{exc} Its modification time is in the future, so it may be a disk that is being made. Set the clocks "
                f"of the hosts and the storage right, then touch the file (touch)."
            )
        elif isinstance(exc, NoImageError) and not _is_new(path):
            self.found.warnings.append(f"{exc} It names no base file, and nothing is refused because of it.")
        elif not _is_ploop(path):
            disk = printable(path)
            self.found.problems.append(str(exc) if disk in str(exc) else f"{disk}: {exc}")

    def _follow_chain(self, path: str, image_format: str | None) -> Chain:
        sources = self._sources
        while True:
            try:
                return follow_chain(path, image_format, sources.resolve, sources.run_command, sources.open_file)
            except ImageCacheError:
                if not self._may_try_again(path):
                    raise

    def _may_try_again(self, path: str) -> bool:
        """Wait for a moment if a disk is just being made, and tell whether to read it again."""
        if self._pauses_left == 0 or not _is_new(path):
            return False
        self._pauses_left -= 1
        time.sleep(_PAUSE_SECONDS)
        return True

    def _read_disk_info(self, path: str) -> dict[str, str]:
        """Return the format of each disk by its name, as nova recorded it.

        Only the last part of a path counts: in a ``_resize`` directory the rest is out of date.
        """
        try:
            descriptor = open_image(path)
            try:
                text = os.read(descriptor, _DISK_INFO_LIMIT)
            finally:
                os.close(descriptor)
            plain = _PLAIN_DISK_INFO.fullmatch(text)
            if plain is not None:
                return {plain["disk"].decode(): plain["format"].decode()}
            recorded = json.loads(text.decode())
            formats = {disk.rpartition("/")[2]: str(image_format) for disk, image_format in recorded.items()}
            if len(formats) != len(recorded):
                for disk, image_format in recorded.items():
                    if formats[disk.rpartition("/")[2]] != image_format:
                        raise ValueError("it gives one disk two formats")
            return formats
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, RecursionError) as exc:
            self.found.warnings.append(
                f"{printable(path)} cannot be understood: {reason_of(exc)}. The disks' own headers say what they are. "
                f"Correct {printable(path)}."
            )
            return {}


def _is_ploop(path: str) -> bool:
    """Tell whether there is a ploop disk of Virtuozzo: a directory, whose images are built on no file of the cache."""
    return os.path.isdir(path) and not os.path.islink(path) and os.path.lexists(f"{path}/{_PLOOP_IMAGE}")


def _is_new(path: str) -> bool:
    """Tell whether a file may still be in the making. One from the future is young, by a clock that is wrong."""
    try:
        return time.time() - os.stat(path).st_mtime < _NEW_SECONDS
    except OSError:
        return False


def _is_in_future(path: str) -> bool:
    try:
        return os.stat(path).st_mtime - time.time() > _NEW_SECONDS
    except OSError:
        return False


def _add(users: Users, name: str, directory: str) -> None:
    directories = users.get(name)
    if directories is None:
        users[name] = [directory]
    elif directories[-1] != directory:
        directories.append(directory)


def merge_disk_use(parts: Sequence[DiskUse]) -> DiskUse:
    """Put together what several readings found.

    :param parts: what each found, at least one.
    :return: a value of its own, unless there is one alone.
    """
    if len(parts) == 1:
        return parts[0]
    whole = DiskUse([], {}, {}, [], [], [])
    for part in parts:
        whole.directories.extend(part.directories)
        whole.problems.extend(part.problems)
        whole.warnings.extend(part.warnings)
        whole.vanished.extend(part.vanished)
        for users, more in ((whole.backing, part.backing), (whole.missing, part.missing)):
            for name, directories in more.items():
                users.setdefault(name, []).extend(directories)
    return whole
