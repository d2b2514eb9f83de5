# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The policy: what is in use, what may go, and why. A pure function of values."""

from __future__ import annotations

import heapq
import math
import os.path
from enum import Enum
from operator import attrgetter
from typing import Iterable, Iterator, Mapping, NamedTuple, Sequence

from .instances import Instances
from .names import Kind, fingerprint, is_of_image, lock_name, with_plain_members
from .nova_paths import is_in_instance_directory
from .obstacles import Obstacles, unremovable_sentence
from .overlays import protected_files
from .settings import Settings
from .snapshot import CacheFile, Snapshot
from .text import printable, some_names

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
    "age_seconds",
    "exceeded_limits",
    "make_plan",
    "select_removals",
    "used_by",
]

_DAY_SECONDS = 24 * 3600
_CLOCK_TOLERANCE_SECONDS = 60  # by how much the clocks of hosts and storage may differ without a word
_USER_SECONDS = _DAY_SECONDS  # for how long nova counts a host as a user: ``nova/virt/storage_users.py``


@with_plain_members
class State(str, Enum):
    """What is to be done with a file."""

    ACTIVE = "active"
    REMOVABLE = "removable"
    TOO_YOUNG = "too_young"
    OTHER = "other"


@with_plain_members
class Reason(str, Enum):
    """Why a file has its state."""

    INSTANCE = "instance"
    BACKING = "backing"
    ORPHAN = "orphan"
    QEMU = "qemu"
    OPEN = "open"
    KEEP_IMAGES = "keep_images"
    KEEP_FILES = "keep_files"
    OVERLAY = "overlay"
    NOT_DELETED = "not_deleted"
    PRECACHED = "precached"
    UNUSED = "unused"
    DELETED = "deleted"
    UNKNOWN = "unknown"


@with_plain_members
class KeptReason(str, Enum):
    """Why a removable file stays."""

    UNKNOWN_USE = "unknown_use"
    UNKNOWN_DELETIONS = "unknown_deletions"
    LIMIT_EXCEEDED = "limit_exceeded"
    UNREMOVABLE = "unremovable"
    REMOVAL_DISABLED = "removal_disabled"
    OVERLAY = "overlay"
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
    """What the instances of nova use.

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

    :param image_id: the image that it comes from, None where no instance names it.
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
    :param guests: the instances whose processes certainly have the former file open, so that it can be restored.
    """

    backing_file: str
    instances: tuple[str, ...]
    named: str = ""
    replaced: bool = False
    guests: tuple[str, ...] = ()


class Plan(NamedTuple):
    """What a pass does.

    :param verdicts: one for each entry of the cache directory.
    :param recognised: the files that count as the cache's: all but those that are never touched.
    :param unused: the files that nothing needs but, at most, other files of the cache: each is removable at some age.
        They are in the order in which their removal is wanted: least recently used first.
    :param removals: the files to remove: an overlay before the file that it is built on, else in that order.
    :param kept: the removable files that stay.
    :param deleted: the names of those whose image Glance no longer has, where that matters for their removal.
    :param unknown_use: sentences; while there is one, nothing is removed.
    :param unknown_deletions: likewise, where it matters and is not certain which images Glance no longer has.
    :param limit_exceeded: likewise, where more would be removed than the limits allow.
    :param unremovable: sentences about the files that are kept because they cannot be removed.
    :param blocked_by: why none of them can be; empty where some can, or none is to be removed.
    :param unlisted_instances: those of them that say that instances were not given.
    :param users: the hosts that nova saw using this storage within 24 hours.
    :param instances: the instances that it was made for.
    :param future_users: those of them whose time is in the future, because a clock is or was wrong.
    :param warnings: sentences for the operator that stop nothing.
    :param overlays: the cache files that a file of the cache is directly built on, by its name.
    :param ignored_orphans: the orphans whose use of a file to remove is ignored, by the file's name.
    """

    verdicts: tuple[Verdict, ...]
    recognised: Sequence[CacheFile]
    unused: Sequence[CacheFile]
    removals: tuple[CacheFile, ...]
    kept: tuple[Kept, ...]
    usage: Usage
    missing: tuple[Missing, ...]
    unknown_use: tuple[str, ...]
    unlisted_instances: tuple[str, ...]
    users: tuple[str, ...]
    instances: Instances
    overlays: Mapping[str, tuple[str, ...]]
    ignored_orphans: Mapping[str, frozenset[str]]
    deleted: frozenset[str] = frozenset()
    unknown_deletions: tuple[str, ...] = ()
    limit_exceeded: tuple[str, ...] = ()
    unremovable: tuple[str, ...] = ()
    blocked_by: str = ""
    future_users: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def make_plan(snapshot: Snapshot, instances: Instances, settings: Settings, now: float) -> Plan:
    """Decide about every file of the cache.

    :param snapshot: what was found on the host.
    :param instances: which instances there are.
    :param settings: the options.
    :param now: the time, in unix seconds.
    :return: the plan.
    """
    usage = _find_usage(snapshot, instances, settings)
    judged = tuple(_judge(file, snapshot, usage, settings, now) for file in snapshot.files)
    verdicts = _with_overlays(judged, snapshot.overlays)
    users = _recent_users(snapshot, now)
    obstacles = snapshot.obstacles
    recognised = [verdict.file for verdict in judged if verdict.state is not State.OTHER]
    unused = _in_order_of_removal([verdict.file for verdict in judged if verdict.removable_in is not None], obstacles)
    names = {verdict.file.name for verdict in verdicts if verdict.state is State.REMOVABLE}
    removable = [file for file in unused if file.name in names]
    removals, kept, causes = select_removals(removable, recognised, snapshot, settings)
    unlisted_instances = _unlisted_instances(users, snapshot, instances, settings, now)
    unknown_use = (
        *sorted(snapshot.problems),
        *instances.problems,
        *unlisted_instances,
    )
    unknown_deletions = _unknown_deletions(judged, settings) if snapshot.exists else ()
    limit_exceeded = () if unknown_deletions else _limit_sentences(removals, recognised, settings)
    if unknown_use or unknown_deletions:
        reason = KeptReason.UNKNOWN_USE if unknown_use else KeptReason.UNKNOWN_DELETIONS
        removals, kept, causes = [], [Kept(file.name, reason) for file in removable], {}
    elif limit_exceeded:
        kept.extend(Kept(file.name, KeptReason.LIMIT_EXCEEDED) for file in removals)
        removals = []
    return Plan(
        verdicts=verdicts,
        recognised=recognised,
        unused=unused,
        removals=tuple(removals),
        kept=tuple(kept),
        usage=usage,
        missing=_missing(snapshot, usage, settings),
        unknown_use=unknown_use,
        unlisted_instances=unlisted_instances,
        users=users,
        instances=instances,
        overlays=snapshot.overlays,
        ignored_orphans={
            file.name: usage.orphans.intersection(snapshot.backing[file.name])
            for file in removals
            if file.name in snapshot.backing
        },
        deleted=frozenset(verdict.file.name for verdict in judged if Reason.DELETED in verdict.reasons),
        unknown_deletions=unknown_deletions,
        limit_exceeded=limit_exceeded,
        unremovable=tuple(unremovable_sentence(names, settings.cache_path, why) for why, names in causes.items()),
        blocked_by=obstacles.everything if causes else "",
        future_users=tuple(host for host in users if _is_in_future(snapshot.storage_users[host], now)),
        warnings=(
            *_of_unknown_users(usage, snapshot, instances, settings),
            *_of_times_in_future(verdicts, now),
            *_of_unknown_size(snapshot, settings),
        ),
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
    by_source = () if file.kind is Kind.PARTIAL else usage.instances.get(file.key, ())
    return tuple(sorted({*by_disk, *by_source}))


def _find_usage(snapshot: Snapshot, instances: Instances, settings: Settings) -> Usage:
    owners: dict[str, str] = {}
    local: dict[str, list[str]] = {}
    remote: dict[str, list[str]] = {}
    templates: dict[str, list[str]] = {}
    for instance in instances.all:
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
    by_key = {key: tuple(labels) for key, labels in templates.items()}
    for image_id, use in images.items():
        # By the id too, for it is a kernel's name.
        by_key[image_id] = by_key[fingerprint(image_id)] = use.instances
    image_ids = {}
    given = (*settings.keep_images, *(settings.glance_images or ()))
    # Glance's database may find an id in either case, and nova caches the image by the spelling that the server has.
    for spelling, image_id in (*zip(images, images), *((one.upper(), one) for one in given), *zip(given, given)):
        image_ids[spelling] = image_ids[fingerprint(spelling)] = image_id
    orphans = _find_orphans(owners, snapshot, instances, settings)
    return Usage(owners, frozenset(orphans), images, by_key, image_ids)


def _find_orphans(owners: dict[str, str], snapshot: Snapshot, instances: Instances, settings: Settings) -> set[str]:
    """Return the directories that belong to no known instance, and add those to the owners that a domain XML names."""
    orphans = {name for name in snapshot.instance_directories if instances.has_source and name not in owners}
    if instances.earlier_directories is not None:
        orphans &= instances.earlier_directories
    if orphans:
        named = _directories_in_domains(instances, settings)
        owners.update({name: named[name] for name in orphans & named.keys()})
        orphans -= named.keys()
    if not settings.protect_orphans and _unknown_users(snapshot, instances):
        orphans.clear()  # any of them may be a guest of such a host
    return orphans


def _directories_in_domains(instances: Instances, settings: Settings) -> dict[str, str]:
    """Return the instance of each directory whose disks a domain XML names, whatever the directory is called."""
    return {
        os.path.basename(os.path.dirname(path)): instance.label
        for instance in instances.all
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
    is_deleted = settings.needs_glance_images and _is_deleted(file.key, image_id, settings)
    if settings.remove_only_deleted_images and not is_deleted:
        return Verdict(file, State.ACTIVE, (Reason.NOT_DELETED,), image_id, None)
    if _is_precached(file.name, snapshot, settings, now):
        return Verdict(file, State.ACTIVE, (Reason.PRECACHED,), image_id, None)
    seconds_left = _minimum_age(kind, is_deleted, settings) - age_seconds(file, now)
    state = State.TOO_YOUNG if seconds_left > 0 else State.REMOVABLE
    if is_deleted and settings.glance_images is not None:
        reason = Reason.DELETED
    else:
        reason = Reason.UNUSED if image_id is not None or not is_of_image(file.key) else Reason.UNKNOWN
    return Verdict(file, state, (reason,), image_id, max(0, math.ceil(seconds_left)))


def _is_precached(name: str, snapshot: Snapshot, settings: Settings, now: float) -> bool:
    """Tell whether a file was pre-cached lately. A time in the future, by a clock that was wrong, does not count."""
    precached_at = snapshot.precached_at.get(name)
    return precached_at is not None and -_CLOCK_TOLERANCE_SECONDS < now - precached_at < settings.keep_precached_seconds


def _is_deleted(key: str, image_id: str | None, settings: Settings) -> bool:
    """Tell whether Glance no longer has the image of a file. While its list is not known, any image may be such."""
    return is_of_image(key) and (settings.glance_images is None or image_id not in settings.glance_images)


def _minimum_age(kind: Kind, is_deleted: bool, settings: Settings) -> int:
    if kind is Kind.RESIZED or kind is Kind.SMALL:
        usual = settings.remove_unused_resized_minimum_age_seconds
    else:
        usual = settings.remove_unused_original_minimum_age_seconds
    own = settings.remove_deleted_images_minimum_age_seconds
    if own is None or not is_deleted:
        return usual
    # Without the list nothing is removed. What counts as removable then is what may be with any list.
    return own if settings.glance_images is not None else min(own, usual)


def _unknown_deletions(judged: Sequence[Verdict], settings: Settings) -> tuple[str, ...]:
    if not settings.needs_glance_images:
        return ()
    # Here, so that a pass without these options does not pay for it.
    from .images import why_deletions_are_unknown

    cached = {
        verdict.file.key: verdict.image_id
        for verdict in judged
        if verdict.state is not State.OTHER and is_of_image(verdict.file.key)
    }
    problem = why_deletions_are_unknown(cached, settings)
    return (problem,) if problem else ()


def age_seconds(file: CacheFile, now: float) -> float:
    """Return how many seconds ago a file was last used, by its modification time."""
    return now - file.mtime_ns / 1_000_000_000


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


def _unknown_users(snapshot: Snapshot, instances: Instances) -> tuple[str, ...]:
    """Return the hosts that ever used these instances, by nova's record, and whose own are unknown."""
    return tuple(sorted(snapshot.storage_users.keys() - instances.hosts))


def _recent_users(snapshot: Snapshot, now: float) -> tuple[str, ...]:
    return tuple(sorted(host for host, seen in snapshot.storage_users.items() if now - seen < _USER_SECONDS))


def _is_in_future(time: float, now: float) -> bool:
    return time - now > _CLOCK_TOLERANCE_SECONDS


def _of_unknown_users(usage: Usage, snapshot: Snapshot, instances: Instances, settings: Settings) -> tuple[str, ...]:
    """Say why no directory counts as an orphan, although orphans are to be ignored."""
    users = _unknown_users(snapshot, instances)
    # Of shared storage, one host that was told of no other knows its own instances alone.
    is_alone = snapshot.storage is not None and snapshot.storage.shared and not instances.complete_for
    has_unknown = instances.has_source and not usage.owners.keys() >= set(snapshot.instance_directories)
    if settings.protect_orphans or not users or not has_unknown or is_alone:
        return ()
    return (
        f"No directory counts as an orphan: nova's record (compute_nodes) names {some_names(users)}, whose instances "
        f"are unknown. Add them to instances, and the hosts to instances_complete_for. Name hosts that are gone in "
        f"instances_complete_for alone (image_cache_exempt_storage_users of the role).",
    )


def _of_times_in_future(verdicts: Sequence[Verdict], now: float) -> tuple[str, ...]:
    """Say which unused files are young because they are from the future."""
    names = sorted(
        verdict.file.name
        for verdict in verdicts
        if verdict.state is State.TOO_YOUNG and _is_in_future(verdict.file.mtime_ns / 1_000_000_000, now)
    )
    if not names:
        return ()
    return (
        f"Unused files have modification times in the future ({some_names(names)}), by a clock that is or was wrong. "
        f"They are kept as young until then. Set the clocks of the hosts and the storage right, and touch the files "
        f"(touch).",
    )


def _of_unknown_size(snapshot: Snapshot, settings: Settings) -> tuple[str, ...]:
    """Say which space targets are ignored."""
    storage = snapshot.storage
    if storage is None or storage.total_bytes is not None:
        return ()
    ignored = ["min_free_space"] if settings.min_free_space is not None else []
    if not isinstance(settings.max_used_space, (int, type(None))):
        ignored.append("max_used_space")
    return tuple(
        f"{name} is ignored for {printable(settings.cache_path)}: its file system ({printable(storage.filesystem)}) "
        f"reports no size. Set max_used_space to bytes instead."
        for name in ignored
    )


def _unlisted_host(host: str, seen: float, now: float) -> str:
    if not _is_in_future(seen, now):
        return (
            f"Host {printable(host)} used this storage within the last 24 hours, and its instances are unknown. Add "
            f"them to instances, and the host to instances_complete_for. If that is nova's name of this host, give it "
            f"as host."
        )
    return (
        f"nova's record (compute_nodes) has host {printable(host)} with a time in the future, "
        f"{(seen - now) / _DAY_SECONDS:.6g} days ahead of this host's clock, because a clock is or was wrong. So it "
        f"counts as a user of this storage, and its instances are unknown. Set the clocks right. Add its instances to "
        f"instances, and the host to instances_complete_for. Add a host that is gone to instances_complete_for alone."
    )


def _unlisted_instances(
    users: Sequence[str], snapshot: Snapshot, instances: Instances, settings: Settings, now: float
) -> tuple[str, ...]:
    sentences = [
        _unlisted_host(host, snapshot.storage_users[host], now) for host in users if host not in instances.hosts
    ]
    is_empty = instances.has_source and not instances.all and not instances.problems
    # What backs a leftover is protected then. On shared storage, the role itself names all hosts.
    is_local = snapshot.storage is not None and not snapshot.storage.shared
    is_confirmed = is_local and settings.protect_orphans and settings.host in instances.complete_for
    if is_empty and snapshot.instance_directories and not is_confirmed:
        sentences.append(
            f"No source listed any instance, but {len(snapshot.instance_directories)} directories hold disks, "
            f"{some_names(snapshot.instance_directories)} among them. If the sources are wrong, correct instances, "
            f"libvirt and libvirt_config_path. If the host has no instances, these are orphans: set libvirt: false and "
            f"give no instances. Or, on a local disk and with orphans: protect, name this host "
            f"({printable(settings.host)}) in instances_complete_for."
        )
    return tuple(sentences)


def _with_overlays(verdicts: tuple[Verdict, ...], overlays: Mapping[str, tuple[str, ...]]) -> tuple[Verdict, ...]:
    """Count files as in use that nothing else protects and on which a file that is not removable is built."""
    if not overlays:
        return verdicts
    kept = [verdict.file.name for verdict in verdicts if verdict.state is not State.REMOVABLE]
    protected = protected_files(overlays, kept)
    return tuple(
        verdict._replace(state=State.ACTIVE, reasons=(Reason.OVERLAY,), removable_in=None)
        if verdict.file.name in protected and verdict.state in (State.REMOVABLE, State.TOO_YOUNG)
        else verdict
        for verdict in verdicts
    )


def _in_order_of_removal(files: Iterable[CacheFile], obstacles: Obstacles) -> list[CacheFile]:
    """Sort files least recently used first.

    Where no lock file can be made now, the files that have one are removed before the others: that may make room.
    """
    in_order = sorted(files, key=attrgetter("mtime_ns", "name"))
    if obstacles.new_locks:
        in_order.sort(key=lambda file: _needs_new_lock(file, obstacles))
    return in_order


def select_removals(
    removable: Sequence[CacheFile], recognised: Sequence[CacheFile], snapshot: Snapshot, settings: Settings
) -> tuple[list[CacheFile], list[Kept], dict[str, list[str]]]:
    """Select the files to remove in one pass: an overlay before the file under it, else in the order given.

    A file is considered once all that is built on it is selected. What is left then is kept with its overlay.

    :param removable: the removable files, in the order in which they are wanted.
    :param recognised: all files of the cache.
    :return: the files to remove, those to keep, and the names of the ones that cannot be removed by the reason.
    """
    bytes_to_free = _bytes_to_free(recognised, snapshot, settings)
    if bytes_to_free == math.inf and _nothing_keeps_any(snapshot, settings):
        return list(removable), [], {}  # as below, without a look at each of some ten thousand files
    removals: list[CacheFile] = []
    kept: list[Kept] = []
    causes: dict[str, list[str]] = {}
    freed_bytes = 0
    order = _RemovalOrder(removable, snapshot.overlays)
    for file in order:
        reason = _why_kept(file, snapshot, settings, freed_bytes >= bytes_to_free)
        cause = _why_unremovable(file, snapshot.obstacles, freed_bytes) if reason is None else ""
        if cause:
            reason = KeptReason.UNREMOVABLE
            causes.setdefault(cause, []).append(file.name)
        if reason is not None:
            kept.append(Kept(file.name, reason))
            continue
        removals.append(file)
        order.selected(file)
        freed_bytes += file.allocated_bytes
    reason = KeptReason.OVERLAY if settings.remove_unused_base_images else KeptReason.REMOVAL_DISABLED
    kept.extend(Kept(file.name, reason) for file in order.left())
    return removals, kept, causes


def _bytes_to_free(recognised: Sequence[CacheFile], snapshot: Snapshot, settings: Settings) -> float:
    """Return how many bytes removals must free until the space targets are met; infinity where there is none.

    Where the file system reports no size, it is unknown how much is free and what a share of it is: these are no
    targets there.
    """
    if settings.max_used_space is None and settings.min_free_space is None:
        return math.inf
    # Here, so that a pass without a target does not pay for it.
    from .space import target_bytes

    storage = snapshot.storage
    total_bytes, free_bytes = (storage.total_bytes, storage.free_bytes) if storage else (None, None)
    wanted = []
    most = target_bytes(settings.max_used_space, total_bytes)
    if most is not None:
        wanted.append(sum(file.allocated_bytes for file in recognised) - most)
    least = target_bytes(settings.min_free_space, total_bytes)
    if least is not None and free_bytes is not None:
        wanted.append(least - free_bytes)
    return max(wanted, default=math.inf)


def _nothing_keeps_any(snapshot: Snapshot, settings: Settings) -> bool:
    """Tell whether every removable file can be removed, in any order."""
    obstacles = snapshot.obstacles
    in_the_way = obstacles.everything or obstacles.files or obstacles.new_locks or snapshot.locked or snapshot.overlays
    return settings.remove_unused_base_images and not in_the_way


def _needs_new_lock(file: CacheFile, obstacles: Obstacles) -> bool:
    return bool(obstacles.new_locks) and lock_name(file.name) not in obstacles.lock_files


def _why_unremovable(file: CacheFile, obstacles: Obstacles, freed_bytes: int) -> str:
    cause = obstacles.everything or obstacles.files.get(file.name, "")
    if cause or not _needs_new_lock(file, obstacles):
        return cause
    needed = obstacles.bytes_for_locks
    return "" if needed is not None and freed_bytes >= needed else obstacles.new_locks


class _RemovalOrder:
    """Gives removable files one after the other: each once all that is built on it was selected.

    :param files: the removable files, in the order in which they are wanted.
    :param overlays: see :class:`Plan`.
    """

    def __init__(self, files: Sequence[CacheFile], overlays: Mapping[str, tuple[str, ...]]) -> None:
        self._files = files
        self._ranks = {file.name: rank for rank, file in enumerate(files)} if overlays else {}
        self._overlays = overlays
        self._built_on_it = [0] * len(files)
        for file in files if overlays else ():
            for name in overlays.get(file.name, ()):
                if name in self._ranks:
                    self._built_on_it[self._ranks[name]] += 1
        self._ready = [rank for rank, count in enumerate(self._built_on_it) if count == 0]  # a heap: it is sorted

    def __iter__(self) -> Iterator[CacheFile]:
        if not self._overlays:
            yield from self._files
            return
        while self._ready:
            yield self._files[heapq.heappop(self._ready)]

    def selected(self, file: CacheFile) -> None:
        """Take note that a file is to be removed: what it is built on may follow."""
        for name in self._overlays.get(file.name, ()):
            rank = self._ranks.get(name)
            if rank is not None:
                self._built_on_it[rank] -= 1
                if self._built_on_it[rank] == 0:
                    heapq.heappush(self._ready, rank)

    def left(self) -> list[CacheFile]:
        """Return the files on which something is built that was not selected."""
        return [file for file, count in zip(self._files, self._built_on_it) if count]


def _why_kept(file: CacheFile, snapshot: Snapshot, settings: Settings, space_target_met: bool) -> KeptReason | None:
    if not settings.remove_unused_base_images:
        return KeptReason.REMOVAL_DISABLED
    if file.name in snapshot.locked:
        return KeptReason.LOCKED
    if space_target_met:
        return KeptReason.SPACE_TARGET_MET
    return None


def exceeded_limits(removals: int, files: int, settings: Settings) -> list[str]:
    """Return the limits that so many removals from a cache of so many files exceed, with their values."""
    exceeded = []
    if settings.max_removals is not None and removals > settings.max_removals:
        exceeded.append(f"max_removals ({settings.max_removals})")
    if settings.max_removal_percent is not None and removals * 100 > files * settings.max_removal_percent:
        exceeded.append(f"max_removal_percent ({settings.max_removal_percent})")
    return exceeded


def _limit_sentences(
    removals: Sequence[CacheFile], recognised: Sequence[CacheFile], settings: Settings
) -> tuple[str, ...]:
    return tuple(
        f"{len(removals)} of {len(recognised)} files would be removed "
        f"({some_names([file.name for file in removals])}), which is more than {limit} allows. If this is expected, "
        f"raise {limit.partition(' ')[0]}. Otherwise the list of instances is probably incomplete."
        for limit in exceeded_limits(len(removals), len(recognised), settings)
    )
