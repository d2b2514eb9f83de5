# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time and is not for use from elsewhere.
"""The policy: what is in use, what may go, and why. A pure function of values."""

from __future__ import annotations

import math
import os.path
from enum import Enum
from typing import NamedTuple, Sequence

from .instances import Inventory
from .layout import Kind, fingerprint, printable, some_names
from .nova_paths import is_in_instance_directory
from .scan import CacheFile, Snapshot
from .settings import Settings

__all__ = [
    "ImageUse",
    "Kept",
    "KeptReason",
    "Missing",
    "Plan",
    "Reason",
    "State",
    "Usage",
    "Verdict",
    "make_plan",
    "used_by",
]

_USER_SECONDS = 24 * 3600  # for how long nova counts a host as a user: ``nova/virt/storage_users.py``


class State(str, Enum):
    """What is to be done with a file."""

    ACTIVE = "active"
    REMOVABLE = "removable"
    TOO_YOUNG = "too_young"
    OTHER = "other"


class Reason(str, Enum):
    """Why a file has its state."""

    INSTANCE = "instance"
    BACKING = "backing"
    ORPHAN = "orphan"
    QEMU = "qemu"
    OPEN = "open"
    KEEP_IMAGES = "keep_images"
    KEEP_FILES = "keep_files"
    UNUSED = "unused"
    UNKNOWN = "unknown"


class KeptReason(str, Enum):
    """Why a removable file stays."""

    UNKNOWN_USE = "unknown_use"
    REMOVAL_DISABLED = "removal_disabled"
    LOCKED = "locked"
    SPACE_TARGET_MET = "space_target_met"
    HELD = "held"
    OPEN = "open"
    IN_USE = "in_use"
    TOUCHED = "touched"
    REPLACED = "replaced"
    GONE = "gone"


class ImageUse(NamedTuple):
    """How many instances use an image, on this host and on others, and which."""

    local: int
    remote: int
    instances: tuple[str, ...]


class Usage(NamedTuple):
    """What the inventory says of use.

    :param owners: the instance of each directory.
    :param orphans: the directories with disks that belong to none.
    :param images: how often each image is used, by its id.
    :param instances: the instances that use an image or a template, by its key.
    :param image_ids: the images that are known, by their key.
    """

    owners: dict[str, str]
    orphans: frozenset[str]
    images: dict[str, ImageUse]
    instances: dict[str, tuple[str, ...]]
    image_ids: dict[str, str]


class Verdict(NamedTuple):
    """What the policy says of one file.

    :param image_id: the image that it comes from, None where no inventory names it.
    :param removable_in: seconds until it is old enough, for a file that is not in use.
    """

    file: CacheFile
    state: State
    reasons: tuple[Reason, ...]
    image_id: str | None
    removable_in: int | None


class Kept(NamedTuple):
    """A removable file that stays."""

    name: str
    reason: KeptReason


class Missing(NamedTuple):
    """A file that disks need and that does not exist, or is another one now than the one that their guests have open.

    :param backing_file: its path on this host.
    :param named: its path as the disks name it, where that is another one: nova may be in a container.
    :param replaced: whether there is another file of that name now.
    """

    backing_file: str
    instances: tuple[str, ...]
    named: str = ""
    replaced: bool = False


class Plan(NamedTuple):
    """What a pass does.

    :param verdicts: one for each entry of the cache directory.
    :param removals: the files to remove, least recently used first.
    :param kept: the removable files that stay.
    :param unknown_use: sentences; while there is one, nothing is removed.
    :param unlisted_instances: those of them that say that instances were not given.
    :param users: the hosts that nova saw using this storage within 24 hours.
    :param inventory: the instances that it was made for.
    """

    verdicts: tuple[Verdict, ...]
    removals: tuple[CacheFile, ...]
    kept: tuple[Kept, ...]
    usage: Usage
    missing: tuple[Missing, ...]
    unknown_use: tuple[str, ...]
    unlisted_instances: tuple[str, ...]
    users: tuple[str, ...]
    inventory: Inventory


def make_plan(snapshot: Snapshot, inventory: Inventory, settings: Settings, now: float) -> Plan:
    """Decide about every file of the cache.

    :param snapshot: what was found on the host.
    :param inventory: which instances there are.
    :param settings: the options.
    :param now: the time, in unix seconds.
    :return: the plan.
    """
    usage = _find_usage(snapshot, inventory, settings)
    verdicts = tuple(_judge(file, snapshot, usage, settings, now) for file in snapshot.files)
    users = _recent_users(snapshot, now)
    removable = sorted(
        (verdict.file for verdict in verdicts if verdict.state is State.REMOVABLE),
        key=lambda file: (file.mtime_ns, file.name),
    )
    removals, kept = _choose(removable, verdicts, snapshot, settings)
    unlisted_instances = _unlisted_instances(users, snapshot, inventory, settings)
    unknown_use = (
        *sorted(snapshot.problems),
        *inventory.problems,
        *unlisted_instances,
        *_brakes(removals, verdicts, settings),
    )
    if unknown_use:
        removals, kept = [], [Kept(file.name, KeptReason.UNKNOWN_USE) for file in removable]
    return Plan(
        verdicts=verdicts,
        removals=tuple(removals),
        kept=tuple(kept),
        usage=usage,
        missing=_missing(snapshot, usage, settings),
        unknown_use=unknown_use,
        unlisted_instances=unlisted_instances,
        users=users,
        inventory=inventory,
    )


def _missing(snapshot: Snapshot, usage: Usage, settings: Settings) -> tuple[Missing, ...]:
    users: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    for named, directories in sorted(snapshot.missing.items()):
        path = snapshot.paths_on_host.get(named, named)
        users.setdefault(path, []).extend(directories)
        if named != path:
            names[path] = named
    missing = [Missing(path, _owners(directories, usage), names.get(path, "")) for path, directories in users.items()]
    for name, directories in snapshot.replaced.items():
        missing.append(Missing(os.path.join(settings.cache_path, name), _owners(directories, usage), replaced=True))
    return tuple(sorted(missing))


def used_by(file: CacheFile, snapshot: Snapshot, usage: Usage) -> tuple[str, ...]:
    """Return the instances that need a file: by their disks, or by their image or flavor."""
    by_disk = _owners(snapshot.backing.get(file.name, ()), usage)
    by_inventory = () if file.kind is Kind.PARTIAL else usage.instances.get(file.key, ())
    return tuple(sorted({*by_disk, *by_inventory}))


def _find_usage(snapshot: Snapshot, inventory: Inventory, settings: Settings) -> Usage:
    owners: dict[str, str] = {}
    local: dict[str, list[str]] = {}
    remote: dict[str, list[str]] = {}
    templates: dict[str, list[str]] = {}
    for instance in inventory.instances:
        label = instance.label
        for directory in instance.directories:
            owners[directory] = label
        users = local if instance.host == settings.host else remote
        for image_id in instance.image_ids:
            users.setdefault(image_id, []).append(label)
        for size in instance.swap_mb:
            templates.setdefault(f"swap_{size}", []).append(label)
        for size in instance.ephemeral_gb:
            templates.setdefault(f"ephemeral_{size}", []).append(label)
    images = {}
    for image_id in sorted({*local, *remote}):
        here, elsewhere = local.get(image_id, []), remote.get(image_id, [])
        images[image_id] = ImageUse(len(here), len(elsewhere), tuple(sorted(here + elsewhere)))
    instances = {key: tuple(labels) for key, labels in templates.items()}
    for image_id, use in images.items():
        # By the id too, for it is a kernel's name.
        instances[image_id] = instances[fingerprint(image_id)] = use.instances
    image_ids = {}
    for image_id in (*images, *settings.keep_images, *(settings.glance_images or ())):
        image_ids[image_id] = image_ids[fingerprint(image_id)] = image_id
    orphans = {name for name in snapshot.instance_directories if inventory.asked and name not in owners}
    if orphans:
        named = _directories_in_domains(inventory, settings)
        owners.update({name: named[name] for name in orphans & named.keys()})
        orphans -= named.keys()
    return Usage(owners, frozenset(orphans), images, instances, image_ids)


def _directories_in_domains(inventory: Inventory, settings: Settings) -> dict[str, str]:
    """Return the instance of each directory whose disks a domain XML names, whatever the directory is called."""
    return {
        os.path.basename(os.path.dirname(path)): instance.label
        for instance in inventory.instances
        for path, _format in instance.disks
        if is_in_instance_directory(path, settings.instances_path)
    }


def _judge(file: CacheFile, snapshot: Snapshot, usage: Usage, settings: Settings, now: float) -> Verdict:
    kind = file.kind
    image_id = usage.image_ids.get(file.key)
    if kind is Kind.OTHER or (kind is Kind.KERNEL and not settings.remove_unused_kernels):
        return Verdict(file, State.OTHER, (), image_id, None)
    reasons = _reasons_for_use(file, image_id, snapshot, usage, settings)
    if reasons:
        return Verdict(file, State.ACTIVE, tuple(reasons), image_id, None)
    if kind is Kind.RESIZED or kind is Kind.SMALL:
        limit = settings.remove_unused_resized_minimum_age_seconds
    else:
        limit = settings.remove_unused_original_minimum_age_seconds
    seconds_left = limit - (now - file.mtime_ns / 1_000_000_000)
    state = State.TOO_YOUNG if seconds_left > 0 else State.REMOVABLE
    is_known = image_id is not None or kind is Kind.SWAP or kind is Kind.EPHEMERAL
    reason = Reason.UNUSED if is_known else Reason.UNKNOWN
    return Verdict(file, state, (reason,), image_id, max(0, math.ceil(seconds_left)))


def _reasons_for_use(
    file: CacheFile, image_id: str | None, snapshot: Snapshot, usage: Usage, settings: Settings
) -> list[Reason]:
    name = file.name
    reasons = []
    if file.kind is not Kind.PARTIAL:
        if file.key in usage.instances:
            reasons.append(Reason.INSTANCE)
        if image_id in settings.keep_images:
            reasons.append(Reason.KEEP_IMAGES)
    if name in settings.keep_files:
        reasons.append(Reason.KEEP_FILES)
    directories = snapshot.backing.get(name)
    if directories is not None:
        orphans = usage.orphans.intersection(directories) if usage.orphans else ()
        if len(orphans) < len(directories):
            reasons.append(Reason.BACKING)
        if orphans and settings.protect_orphans:
            reasons.append(Reason.ORPHAN)
    if name in snapshot.held_by_qemu:
        reasons.append(Reason.QEMU)
    if name in snapshot.opened:
        reasons.append(Reason.OPEN)
    return reasons


def _owners(directories: Sequence[str], usage: Usage) -> tuple[str, ...]:
    return tuple(sorted({usage.owners.get(directory, directory) for directory in directories}))


def _recent_users(snapshot: Snapshot, now: float) -> tuple[str, ...]:
    return tuple(sorted(host for host, seen in snapshot.storage_users.items() if now - seen < _USER_SECONDS))


def _unlisted_instances(
    users: Sequence[str], snapshot: Snapshot, inventory: Inventory, settings: Settings
) -> tuple[str, ...]:
    sentences = [
        f"nova saw host {printable(host)} use this storage within the last 24 hours, and its instances are not among "
        f"those given: add them to instances, and the host to instance_hosts. Or, if that is nova's name for this one, "
        f"give it as host."
        for host in users
        if host not in inventory.hosts
    ]
    is_empty = inventory.asked and not inventory.instances and not inventory.problems
    # What backs a leftover is protected then. On shared storage, the role itself names all hosts.
    is_local = snapshot.store is not None and not snapshot.store.shared
    is_confirmed = is_local and settings.protect_orphans and settings.host in inventory.complete_for
    if is_empty and snapshot.instance_directories and not is_confirmed:
        sentences.append(
            f"No source listed any instance, but {len(snapshot.instance_directories)} directories hold disks, "
            f"{some_names(snapshot.instance_directories)} among them. Either the sources are wrong: check instances, "
            f"libvirt and libvirt_config_path. Or the host has no instances, and these are leftovers: set "
            f"libvirt: false and give no instances; or, on a local disk and with orphans: protect, name this host "
            f"({printable(settings.host)}) in instance_hosts."
        )
    return tuple(sentences)


def _choose(
    removable: Sequence[CacheFile], verdicts: Sequence[Verdict], snapshot: Snapshot, settings: Settings
) -> tuple[list[CacheFile], list[Kept]]:
    """Choose from the removable files, least recently used first, what goes in this pass."""
    removals: list[CacheFile] = []
    kept: list[Kept] = []
    used = sum(verdict.file.allocated_bytes for verdict in verdicts if verdict.state is not State.OTHER)
    free = snapshot.store.free_bytes if snapshot.store else 0
    for file in removable:
        if not settings.remove_unused_base_images:
            kept.append(Kept(file.name, KeptReason.REMOVAL_DISABLED))
        elif file.name in snapshot.locked:
            kept.append(Kept(file.name, KeptReason.LOCKED))
        elif _space_target_met(settings, used, free):
            kept.append(Kept(file.name, KeptReason.SPACE_TARGET_MET))
        else:
            removals.append(file)
            used -= file.allocated_bytes
            free += file.allocated_bytes
    return removals, kept


def _space_target_met(settings: Settings, used: int, free: int) -> bool:
    if settings.max_used_space is None and settings.min_free_space is None:
        return False
    return (settings.max_used_space is None or used <= settings.max_used_space) and (
        settings.min_free_space is None or free >= settings.min_free_space
    )


def _brakes(removals: Sequence[CacheFile], verdicts: Sequence[Verdict], settings: Settings) -> list[str]:
    count = len(removals)
    files = sum(1 for verdict in verdicts if verdict.state is not State.OTHER)
    exceeded = []
    if settings.max_removals is not None and count > settings.max_removals:
        exceeded.append(f"max_removals ({settings.max_removals})")
    if settings.max_removal_percent is not None and count * 100 > files * settings.max_removal_percent:
        exceeded.append(f"max_removal_percent ({settings.max_removal_percent})")
    return [
        f"{count} of {files} files would be removed ({some_names([file.name for file in removals])}), which is more "
        f"than {limit} allows. If that is right, raise the limit; if not, the inventory is incomplete."
        for limit in exceeded
    ]
