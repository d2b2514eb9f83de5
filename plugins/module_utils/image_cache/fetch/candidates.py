# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which base files can be restored: what is built on each, and which processes certainly have it open."""

from __future__ import annotations

import os
from contextlib import ExitStack
from enum import Enum
from typing import Iterable, NamedTuple, Sequence

from ..backing_chain import RunCommand
from ..cache_directory import open_cache
from ..disk_references import backing_file_resolver, make_open, split_disks
from ..files import FILE_FLAGS
from ..names import Kind, is_nfs_name, parse_name
from ..open_files import Inode
from ..plan import Missing, Plan, used_by
from ..settings import Settings
from ..snapshot import CacheFile, Snapshot, names_by_inode
from .disks import CacheName, DiskTools, find_overlays
from .place import origin_of
from .proof import CacheDirectory, OpenFile, Overlay, former_names, guests_of, why_ambiguous, why_not_a_guests
from .sources import former_files_of

__all__ = ["Candidate", "State", "find_candidates", "labels", "look_at_former_files"]


class State(str, Enum):
    """What is wrong with a base file."""

    MISSING = "missing"
    REPLACED = "replaced"
    CORRUPT = "corrupt"


class Candidate(NamedTuple):
    """A file that disks need, and what is known of it.

    :param name: its name in the cache; its path where it is not a base file of the cache.
    :param instances: those that need it.
    :param is_base_file: whether it is one of the cache.
    :param inode: the file that has its name now; None where it is missing.
    :param overlays: what is built on it.
    :param proven: the files that guests certainly have open under its former name.
    :param rejected: the files of that name that other processes have open, each with the reason why it proves nothing.
    """

    name: str
    state: State
    instances: tuple[str, ...]
    is_base_file: bool
    inode: Inode | None = None
    overlays: Sequence[Overlay] = ()
    proven: Sequence[OpenFile] = ()
    rejected: Sequence[tuple[OpenFile, str]] = ()

    @property
    def rejected_guest(self) -> tuple[OpenFile, str] | None:
        """A file that proves nothing although a guest has it open, and that is none of the proven ones."""
        proven = {file.inode for file in self.proven}
        others = (each for each in self.rejected if each[0].inode not in proven and guests_of(each[0], self.overlays))
        return next(others, None)

    @property
    def guests(self) -> tuple[str, ...]:
        """The directories of the instances whose processes have it open."""
        return tuple(sorted({guest for file in self.proven for guest in guests_of(file, self.overlays)}))

    @property
    def last_guests(self) -> tuple[str, ...]:
        """The directories of the instances with which a file of that name may end, whatever it proves."""
        files = [*self.proven, *(file for file, _reason in self.rejected)]
        return tuple(sorted({guest for file in files for guest in guests_of(file, self.overlays)}))


def labels(plan: Plan, directories: Iterable[str]) -> tuple[str, ...]:
    """Return what people call the instances of some directories, sorted."""
    return tuple(sorted({plan.usage.owners.get(directory, directory) for directory in directories}))


def look_at_former_files(plan: Plan, snapshot: Snapshot, settings: Settings, run_command: RunCommand) -> Plan:
    """Name, for each file that is missing or was replaced, the guests that still have it open.

    :param plan: what was decided.
    :return: the same, with the guests in ``missing``. Guests that have different files open under one name are left
        out, because none of these files can be given the name. So are files that were restored, because what their
        guests have open is the same.
    """
    name_of = _namer(settings.cache_path)
    missing = []
    with ExitStack() as closing:
        found = find_candidates(plan.missing, (), plan, snapshot, settings, run_command, closing)
        candidates = {candidate.name: candidate for candidate in found}
        cache = open_cache(settings)
        if cache is None:
            return plan
        closing.callback(os.close, cache)
        for lost in plan.missing:
            candidate = candidates.get(name_of(lost.backing_file) or lost.backing_file)
            if candidate is None:  # its directory became another one meanwhile
                missing.append(lost)
                continue
            guests = labels(plan, candidate.guests)
            origins = {origin_of(file.descriptor) for file in candidate.proven}
            if lost.replaced and guests == lost.instances and origins == _origins_now(cache, candidate.name):
                continue
            has_one = len(origins) == 1 and not candidate.rejected_guest
            missing.append(lost._replace(guests=guests if has_one else ()))
    return plan._replace(missing=tuple(missing))


def _origins_now(cache: int, name: str) -> set[bytes]:
    """Return the origin of the file that has a name now; empty where there is none."""
    try:
        descriptor = os.open(name, FILE_FLAGS, dir_fd=cache)
    except OSError:
        return set()
    try:
        return {origin_of(descriptor)}
    finally:
        os.close(descriptor)


def find_candidates(
    missing: Iterable[Missing],
    corrupt: Iterable[CacheFile],
    plan: Plan,
    snapshot: Snapshot,
    settings: Settings,
    run_command: RunCommand,
    closing: ExitStack,
) -> list[Candidate]:
    """Find what is known of files that are missing, were replaced, or are corrupt.

    :param missing: the files that are missing or were replaced.
    :param corrupt: the files whose checksum is wrong.
    :param plan: the plan of the pass.
    :param snapshot: what was found on the host.
    :param settings: the options.
    :param run_command: how ``qemu-img`` is run where a header is not enough.
    :param closing: closes the descriptors of what processes have open.
    :return: each file once. Where one is of two kinds, it is the first of them in their order.
    """
    name_of = _namer(settings.cache_path)
    inodes = {file.name: (file.device, file.inode) for file in snapshot.files}
    found: dict[str, Candidate] = {}
    for lost in missing:
        name = name_of(lost.backing_file)
        state = State.REPLACED if lost.replaced else State.MISSING
        key = name or lost.backing_file
        inode = inodes.get(key) if lost.replaced else None
        found.setdefault(key, Candidate(key, state, lost.instances, name is not None, inode))
    for each in corrupt:
        users = used_by(each, snapshot, plan.usage)
        found.setdefault(each.name, Candidate(each.name, State.CORRUPT, users, True, inodes[each.name]))
    cache = open_cache(settings) if found else None
    if cache is None:
        return list(found.values())
    closing.callback(os.close, cache)
    wanted = {name for name, candidate in found.items() if candidate.is_base_file}
    # All that are missing, also where few are wanted: a file that NFS has renamed may have been any of them.
    lost_names = {name_of(lost.backing_file) for lost in plan.missing}
    directories: dict[str, list[str]] = {name: [] for name in sorted({*wanted, *filter(None, lost_names)})}
    for name in directories:
        directories[name].extend(snapshot.backing.get(name, ()))
    for named, some in snapshot.missing.items():
        directories.get(name_of(snapshot.paths_on_host.get(named, named)) or "", []).extend(some)
    formats_and_external = split_disks(snapshot.external_disks, settings.instances_path)
    tools = DiskTools(
        instances_path=settings.instances_path,
        cache_path=settings.cache_path,
        external_disks=snapshot.external_disks,
        resolve=backing_file_resolver(
            settings.cache_path,
            names_by_inode(snapshot.files),
            settings.instances_path,
            [os.path.dirname(path) for _instance, path, _format in formats_and_external[1]],
            settings.on_host,
        ),
        on_host=settings.on_host,
        name_of=name_of,
        run_command=run_command,
        open_file=make_open(settings.cache_path, cache),
    )
    overlays = find_overlays(directories, tools)
    status = os.fstat(cache)
    directory = CacheDirectory(status.st_dev, status.st_uid)
    disk_names = {os.path.basename(each.disk) for some in overlays.values() for each in some}
    proven: dict[str, list[OpenFile]] = {}
    rejected: dict[str, list[tuple[OpenFile, str]]] = {}
    kept: dict[Inode, int] = {}
    renamed = {file.name: (file.device, file.inode) for file in snapshot.files if is_nfs_name(file.name)}

    def name_in_process(path: str) -> str | None:
        return name_of(settings.on_host(path))

    for user in snapshot.former_file_users:
        # Closed at once: any user can have more such files open than this process may.
        with ExitStack() as opened:
            files = former_files_of(user.process, wanted, name_in_process, renamed, disk_names, opened)
            renamed_inodes = {file.inode for _name, file in files if file.is_renamed}
            for former_name, file in files:
                names = [former_name] if former_name else former_names(file, overlays, user.names)
                ambiguous = why_ambiguous(file, renamed_inodes, names)
                for name in wanted.intersection(names):
                    reason = why_not_a_guests(file, overlays[name], directory) or ambiguous
                    reason = reason or _keep_open(file, kept, closing)
                    if reason:
                        rejected.setdefault(name, []).append((file, reason))
                    else:
                        proven.setdefault(name, []).append(file._replace(descriptor=kept[file.inode]))
    return [
        candidate._replace(
            overlays=overlays.get(name, ()), proven=proven.get(name, ()), rejected=rejected.get(name, ())
        )
        for name, candidate in found.items()
    ]


def _keep_open(file: OpenFile, kept: dict[Inode, int], closing: ExitStack) -> str:
    """Keep one descriptor of a file; say why that cannot be done, empty where it can."""
    if file.inode not in kept:
        try:
            kept[file.inode] = os.dup(file.descriptor)
        except OSError:
            return "guests have more files open than this process may (ulimit -n)"
        closing.callback(os.close, kept[file.inode])
    return ""


def _namer(cache_path: str) -> CacheName:
    """Make the function that returns the name of the base file that a path leads to."""

    def name_of(path: str) -> str | None:
        directory, name = os.path.split(path)
        if parse_name(name).kind in (Kind.OTHER, Kind.PARTIAL):
            return None
        try:
            return name if directory == cache_path or os.path.samefile(directory, cache_path) else None
        except OSError:
            return None

    return name_of
