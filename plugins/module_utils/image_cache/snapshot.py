# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that a pass reads from the host, once, as one value. Nothing is decided or written."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from types import MappingProxyType
from typing import Callable, Iterable, Mapping, NamedTuple, Sequence

from .backing_chain import OpenImage, RunCommand
from .cache_directory import open_cache
from .disk_references import (
    DiskSources,
    DiskUse,
    ExternalDisk,
    backing_file_resolver,
    find_disk_use,
    make_open,
    merge_disk_use,
    split_disks,
    stop_after_first_timeout,
)
from .errors import AS_ROOT, ImageCacheError, or_as_root, reason_and_remedy, reason_of
from .files import DIRECTORY_FLAGS, FILE_FLAGS
from .inode_flags import is_protected_by_flags
from .lock_state import LockState, look_at_lock
from .names import LOCKS_DIRECTORY, Kind, lock_name, parse_name
from .obstacles import (
    FLAGGED_FILE,
    STICKY_FILE,
    Obstacles,
    is_others_in_sticky_directory,
    why_locks_cannot_be_made,
    why_nothing_can_be_removed,
)
from .open_files import FormerFileUser, Inode, find_open_files, qemu_holds
from .overlays import SMALLEST_OVERLAY, read_overlay_backing_name, resolve_overlays
from .settings import Settings
from .storage import Storage, find_storage, read_storage_users
from .text import printable

__all__ = [
    "CacheFile",
    "Snapshot",
    "instance_directory_names",
    "names_by_inode",
    "read_disks",
    "take_snapshot",
]

_MOST_LISTINGS = 20
_NOT_INSTANCES = (LOCKS_DIRECTORY, "lost+found", "snapshots")

Problem = Callable[[str], None]


class CacheFile(NamedTuple):
    """One entry of the cache directory. Sizes are bytes; ``key`` is :class:`names.CacheName`'s."""

    name: str
    kind: Kind
    key: str
    inode: int
    size_bytes: int
    allocated_bytes: int
    mtime_ns: int
    device: int = 0


class Snapshot(NamedTuple):
    """What was found on the host.

    :param exists: whether there is a cache directory; without one the rest is empty but ``instances_storage``.
    :param files: every entry of the cache directory.
    :param held_by_qemu: names of the files on which QEMU holds its lock.
    :param opened: names of the files that a process of this host has open.
    :param locked: names of the files that are in none of these uses, and whose external lock somebody holds.
    :param instance_directories: the directories that hold disks.
    :param backing: the directories whose disks need a cache file, by its name.
    :param missing: the directories whose disks need a file that does not exist, by its path as they name it.
    :param paths_on_host: where such a file would be on this host, where that is another path.
    :param replaced: the directories whose running guests have a former base file open, by the name that another
        file has now.
    :param storage_users: when each host was last seen using this storage, in unix seconds.
    :param problems: sentences; while there is one, it is unknown what is in use.
    :param warnings: sentences for the operator that stop nothing.
    :param external_disks: the disks that were looked at besides.
    :param overlays: the cache files that a file of the cache is directly built on, by its name.
    :param obstacles: what is known to stand in the way of removals.
    :param former_file_users: the processes that have a former file of the cache directory open.
    :param precached_at: when files were last pre-cached, in unix seconds, by their names: of those that nothing needs.
    :param instances_storage: the storage of ``instances_path``, on which other hosts may have caches of their own.
    """

    exists: bool
    storage: Storage | None = None
    files: tuple[CacheFile, ...] = ()
    held_by_qemu: frozenset[str] = frozenset()
    opened: frozenset[str] = frozenset()
    locked: frozenset[str] = frozenset()
    instance_directories: tuple[str, ...] = ()
    backing: Mapping[str, Sequence[str]] = MappingProxyType({})
    missing: Mapping[str, Sequence[str]] = MappingProxyType({})
    storage_users: Mapping[str, float] = MappingProxyType({})
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    external_disks: tuple[ExternalDisk, ...] = ()
    paths_on_host: Mapping[str, str] = MappingProxyType({})
    replaced: Mapping[str, Sequence[str]] = MappingProxyType({})
    overlays: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    obstacles: Obstacles = Obstacles()
    instances_storage: Storage | None = None
    former_file_users: tuple[FormerFileUser, ...] = ()
    precached_at: Mapping[str, float] = MappingProxyType({})


def take_snapshot(settings: Settings, external_disks: Sequence[ExternalDisk], run_command: RunCommand) -> Snapshot:
    """Look at the cache, the disks of all instances, and who holds what.

    The cache is listed before the disks are looked at: a base file that nova makes meanwhile is not
    in the list, and one that it builds on meanwhile has another mtime when it is looked at again.

    :param settings: the options.
    :param external_disks: disks that a source of instances names: also those outside of ``instances_path`` are read.
    :param run_command: how ``qemu-img`` is run where a header is not enough.
    :return: the snapshot.
    :raises ImageCacheError: the cache directory or the host's mounts cannot be read at all.
    """
    cache = open_cache(settings)
    if cache is None:
        return Snapshot(exists=False, instances_storage=find_storage(settings.instances_path, settings.shared_storage))
    problems: list[str] = []
    warnings: list[str] = []
    try:
        files, held, busy, backing_names, fixed = _list_cache(cache, settings.cache_path, problems.append)
        device = os.fstat(cache).st_dev
        blocked = why_nothing_can_be_removed(cache, settings.cache_path, settings.locks_path)
        is_mounted = device != os.stat("..", dir_fd=cache).st_dev
    except OSError as exc:
        raise ImageCacheError(
            f"The cache directory {printable(settings.cache_path)} cannot be listed: {reason_and_remedy(exc)}."
        ) from exc
    finally:
        os.close(cache)
    by_inode = names_by_inode(files)
    disk_use = read_disks(settings, by_inode, external_disks, run_command)
    open_files = find_open_files(by_inode, directory=settings.cache_path)
    # A lock only matters to a file that nothing else protects.
    opened = open_files.names | busy
    in_use = {*disk_use.backing, *held, *opened}
    idle = [file for file in files if file.kind is not Kind.OTHER and file.name not in in_use]
    if open_files.hidden_processes:
        warnings.append(
            f"The open files of {open_files.hidden_processes} processes could not be read. QEMU's own locks were seen. "
            f"{AS_ROOT} with all its capabilities."
        )
    storage = find_storage(settings.cache_path, settings.shared_storage)
    instances_storage = find_storage(settings.instances_path, settings.shared_storage)
    try:
        users = read_storage_users(settings.instances_path, instances_storage.shared)
    except ImageCacheError as exc:
        users = {}
        problems.append(str(exc))
    if storage.shared and is_mounted:
        problems.append(
            f"{printable(settings.cache_path)} is shared with other hosts ({storage.filesystem}), and the instances "
            f"beside it are not, so what other hosts' disks need of it cannot be seen here. If no other host uses it, "
            f"set shared_storage: false. Otherwise prune it where all instances can be seen."
        )
    locks = _look_at_locks(settings, idle, device, problems.append)
    return Snapshot(
        exists=True,
        storage=storage,
        instances_storage=instances_storage,
        files=tuple(files),
        held_by_qemu=frozenset(held),
        opened=frozenset(opened),
        locked=frozenset(locks.held),
        instance_directories=tuple(disk_use.directories),
        backing=disk_use.backing,
        missing=disk_use.missing,
        storage_users=users,
        problems=(*problems, *disk_use.problems),
        warnings=(*disk_use.warnings, *warnings),
        external_disks=tuple(external_disks),
        paths_on_host={path: settings.on_host(path) for path in disk_use.missing},
        former_file_users=tuple(open_files.former_file_users),
        replaced=_find_replaced(
            open_files.former_file_users, disk_use.backing, external_disks, settings.instances_path
        ),
        overlays=resolve_overlays(
            backing_names,
            settings.cache_path,
            [file.name for file in files],
            backing_file_resolver(settings.cache_path, by_inode, settings.instances_path, on_host=settings.on_host),
        ),
        obstacles=Obstacles(
            everything=blocked,
            files={**locks.unusable, **fixed},
            new_locks=locks.new_locks,
            bytes_for_locks=locks.bytes_for_locks,
            lock_files=frozenset(locks.existing),
        ),
        precached_at={},  # read once it is known what is unused
    )


def _find_replaced(
    users: Iterable[FormerFileUser],
    backing: Mapping[str, Sequence[str]],
    external_disks: Sequence[ExternalDisk],
    instances_path: str,
) -> dict[str, list[str]]:
    """Find whose QEMU runs on a former base file: it has one open, and not the one that its disk names now.

    :return: the directories of these guests, by the base file's name.
    """
    replaced: dict[str, list[str]] = {}
    directories_in_use = {directory for directories in backing.values() for directory in directories}
    for user in users:
        guests = set()
        for path, link in user.links.items():
            # In a container, the path is another one; the file is the same.
            directory, name = os.path.split(path)
            guest = os.path.basename(directory)
            if guest in directories_in_use and _is_same_file(link, os.path.join(instances_path, guest, name)):
                guests.add(guest)
        for instance, path, _format in external_disks:
            if path in user.links and _is_same_file(user.links[path], path):
                guests.add(instance)
        for name, directories in backing.items():
            if name not in user.names:
                found = guests.intersection(directories)
                if found:
                    replaced.setdefault(name, []).extend(sorted(found))
    return replaced


def _is_same_file(first: str, second: str) -> bool:
    try:
        return os.path.samefile(first, second)
    except OSError:  # one was closed, or is not there
        return False


def read_disks(
    settings: Settings,
    names: Mapping[Inode, Sequence[str]],
    external_disks: Sequence[ExternalDisk],
    run_command: RunCommand,
) -> DiskUse:
    """Read what all disks need of the cache at this moment.

    nova renames instance directories (to ``_resize`` and back). So the directories are listed again,
    until each one that is there has been read.

    :param names: what :func:`names_by_inode` makes of the cache's files.
    :param external_disks: see :func:`take_snapshot`.
    :return: what the disks need.
    :raises ImageCacheError: the cache directory is gone, or something else is in its place.
    """
    cache = open_cache(settings)
    if cache is None:
        raise ImageCacheError(
            f"The cache directory {printable(settings.cache_path)} was removed or unmounted while it was read. Look at "
            f"its mount (mount), and run it again."
        )
    try:
        open_file = make_open(settings.cache_path, cache)
        return _read_disks(settings, names, external_disks, stop_after_first_timeout(run_command), open_file)
    finally:
        os.close(cache)


def _read_disks(
    settings: Settings,
    names: Mapping[Inode, Sequence[str]],
    external_disks: Sequence[ExternalDisk],
    run_command: RunCommand,
    open_file: OpenImage,
) -> DiskUse:
    formats, external_disks = split_disks(external_disks, settings.instances_path)
    elsewhere = [os.path.dirname(path) for _instance, path, _format in external_disks]
    resolve = backing_file_resolver(settings.cache_path, names, settings.instances_path, elsewhere, settings.on_host)
    cached = {name for hard_links in names.values() for name in hard_links}
    sources = DiskSources(settings.cache_path, cached, formats, resolve, settings.on_host, run_command, open_file)
    problems: list[str] = []
    parts: list[DiskUse] = []
    read: dict[str, int] = {}
    for _listing in range(_MOST_LISTINGS):
        entries, is_settled = _list_instance_directories(settings, problems.append)
        unread = {name: inode for name, inode in entries.items() if read.get(name) != inode} if read else entries
        if parts and not unread:
            if is_settled:
                break
            continue
        parts.append(find_disk_use(settings.instances_path, list(unread), () if parts else external_disks, sources))
        read.update(unread)
        for name in parts[-1].vanished:
            read.pop(name, None)
    else:
        path = printable(settings.instances_path)
        problems.append(
            f"{path} changes faster than it can be read. Run it again when fewer instances come and go in {path}."
        )
    whole = merge_disk_use(parts)
    return whole._replace(problems=[*dict.fromkeys(problems), *whole.problems])


class _Listing(NamedTuple):
    """The cache directory: its files, what QEMU holds, what another pass has in hand, what overlays name, and why
    files cannot be removed."""

    files: list[CacheFile]
    held: set[str]
    busy: set[str]
    backing_names: dict[str, str]
    fixed: dict[str, str]


def _list_cache(cache: int, path: str, problem: Problem) -> _Listing:
    files: list[CacheFile] = []
    held: set[str] = set()
    busy: set[str] = set()
    backing_names: dict[str, str] = {}
    fixed: dict[str, str] = {}
    directory = os.fstat(cache)
    device = directory.st_dev
    has_flags = is_protected_by_flags(cache) is not None
    with os.scandir(cache) as entries:
        for entry in entries:
            name = entry.name
            kind, key = parse_name(name)
            try:
                if kind is Kind.OTHER or not entry.is_file(follow_symlinks=False):
                    kind, key = Kind.OTHER, ""
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode) and status.st_size >= SMALLEST_OVERLAY:
                        _read_other(name, cache, backing_names)
                else:
                    descriptor = os.open(name, FILE_FLAGS, dir_fd=cache)
                    try:
                        status = os.fstat(descriptor)
                        if qemu_holds(descriptor):
                            held.add(name)
                        backing_name = read_overlay_backing_name(descriptor)
                        if backing_name is not None:
                            backing_names[name] = backing_name
                        if has_flags and is_protected_by_flags(descriptor):
                            fixed[name] = FLAGGED_FILE
                        elif directory.st_mode & stat.S_ISVTX and is_others_in_sticky_directory(status, directory):
                            fixed[name] = STICKY_FILE
                    finally:
                        os.close(descriptor)
            except FileNotFoundError:
                continue
            except BlockingIOError:  # another pass makes sure that nobody has it open
                busy.add(name)
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
            except OSError as exc:
                problem(
                    f"{path}/{printable(name)} cannot be looked at, so it is not certain whether QEMU holds it: "
                    f"{reason_and_remedy(exc)}."
                )
                continue
            files.append(
                CacheFile(
                    name,
                    kind,
                    key,
                    status.st_ino,
                    status.st_size,
                    status.st_blocks * 512,
                    status.st_mtime_ns,
                    device if status.st_dev == device else status.st_dev,  # one number for all, not one each
                )
            )
    return _Listing(files, held, busy, backing_names, fixed)


def _read_other(name: str, cache: int, backing_names: dict[str, str]) -> None:
    """Read what a file with a name of no cache file is built on, as far as this user may."""
    with suppress(OSError):
        descriptor = os.open(name, FILE_FLAGS, dir_fd=cache)
        try:
            backing_name = read_overlay_backing_name(descriptor)
        finally:
            os.close(descriptor)
        if backing_name is not None:
            backing_names[name] = backing_name


def names_by_inode(files: Iterable[CacheFile]) -> dict[Inode, list[str]]:
    """Return the names of cache files by their device and inode number: hard links have several."""
    names: dict[Inode, list[str]] = {}
    for file in files:
        if file.kind is not Kind.OTHER:
            names.setdefault((file.device, file.inode), []).append(file.name)
    return names


class _Locks(NamedTuple):
    """nova's locks: the files whose lock somebody holds, why the lock of a file cannot be taken, the lock files that
    exist, and what :func:`obstacles.why_locks_cannot_be_made` says."""

    held: set[str]
    unusable: dict[str, str]
    existing: set[str]
    new_locks: str = ""
    bytes_for_locks: int | None = None


def _look_at_locks(settings: Settings, files: Iterable[CacheFile], device: int, problem: Problem) -> _Locks:
    path = settings.locks_path
    found = _Locks(set(), {}, set())
    directory = None
    try:
        with suppress(FileNotFoundError):
            directory = os.open(path, DIRECTORY_FLAGS)
        new_locks, needed = why_locks_cannot_be_made(directory, path, settings.instances_path, device)
        found = found._replace(new_locks=new_locks, bytes_for_locks=needed)
    except OSError as exc:
        problem(f"nova's locks in {printable(path)} cannot be looked at: {reason_and_remedy(exc)}.")
    if directory is None:
        return found
    try:
        with os.scandir(directory) as entries:
            is_file = {entry.name: entry.is_file(follow_symlinks=False) for entry in entries}
        found.existing.update(is_file)
        for file in files:
            lock = lock_name(file.name)
            if lock in is_file:
                try:
                    state = look_at_lock(directory, lock, is_file[lock])
                except OSError as exc:
                    problem(
                        f"nova's lock {printable(os.path.join(path, lock))} cannot be looked at: "
                        f"{reason_and_remedy(exc)}."
                    )
                    continue
                if state.is_held:
                    found.held.add(file.name)
                if state.is_unusable:
                    found.unusable[file.name] = _why_unusable(state, path)
    except OSError as exc:
        problem(f"nova's locks in {printable(path)} cannot be listed: {reason_and_remedy(exc)}.")
    finally:
        os.close(directory)
    return found


def _why_unusable(state: LockState, path: str) -> str:
    if state.is_other_than_file:
        return (
            f"What is in the place of their lock files in {printable(path)} is not a regular file, and nova cannot "
            f"lock it either. Look at it (ls -l), and remove it (rm)."
        )
    return (
        f"Their lock files in {printable(path)} have the attribute immutable or append-only, or may not be written by "
        f"this user. Remove it (chattr -i -a){or_as_root()}."
    )


def instance_directory_names(settings: Settings) -> frozenset[str]:
    """Return the names of all that is in ``instances_path`` now; empty where it cannot be read.

    :param settings: the options.
    :return: the names, of files too. That it cannot be read is reported when the disks are read.
    """
    try:
        return frozenset(os.listdir(settings.instances_path))
    except OSError:
        return frozenset()


def _list_instance_directories(settings: Settings, problem: Problem) -> tuple[dict[str, int], bool]:
    """Return the inode of each by its name, and whether nothing was renamed, made or removed meanwhile.

    A listing that runs beside a rename may miss a directory under both of its names.
    """
    excluded = {settings.image_cache_subdirectory_name, *_NOT_INSTANCES}
    found: dict[str, int] = {}
    is_settled = True
    try:
        before = os.stat(settings.instances_path).st_mtime_ns
        with os.scandir(settings.instances_path) as entries:
            for entry in entries:
                if entry.name not in excluded and (
                    entry.is_dir(follow_symlinks=False) or _leads_to_directory(entry, problem)
                ):
                    found[entry.name] = entry.inode()
        is_settled = os.stat(settings.instances_path).st_mtime_ns == before
    except OSError as exc:
        problem(f"instances_path {printable(settings.instances_path)} cannot be read: {reason_and_remedy(exc)}.")
    return found, is_settled


def _leads_to_directory(entry: os.DirEntry[str], problem: Problem) -> bool:
    """Tell whether a link leads to a directory: an instance may have been moved to another disk."""
    if not entry.is_symlink():
        return False
    try:
        return stat.S_ISDIR(os.stat(entry.path).st_mode)
    except OSError as exc:
        path = printable(entry.path)
        problem(
            f"{path} is a link that leads nowhere: {reason_of(exc)}. If its instance is gone, remove {path}. "
            f"Otherwise mount the disk that it leads to."
        )
        return False
