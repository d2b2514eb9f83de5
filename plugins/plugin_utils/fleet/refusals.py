# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why a storage must not be pruned: a sentence for people, and a reason of a small set for metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

from .answers import AnswerState, HostAnswer
from .options import SPACE_TARGETS, variable_of
from .storages import Fleet, Storage, space_targets

__all__ = ["RefusalReason", "refusals"]

_INSTEAD = (
    "If it needs nothing of this storage any more, name it in image_cache_exempt_storage_users. If it never shared it, "
    "set image_cache_storage_group for the hosts that do."
)


class RefusalReason(StrEnum):
    """Why nothing is removed, as metrics know it."""

    UNKNOWN_USE = "unknown_use"
    UNKNOWN_DELETIONS = "unknown_deletions"
    MEMBERS_MISSING = "members_missing"
    LIMIT = "limit"
    FLEET_LIMIT = "fleet_limit"
    OPTED_OUT = "opted_out"


def refusals(storage: Storage, fleet: Fleet, storages: Sequence[Storage]) -> dict[str, RefusalReason]:
    """Return why a storage must not be pruned.

    :param storage: the storage.
    :param fleet: all hosts of the play.
    :param storages: all storages of the fleet, itself among them.
    :return: sentences in three parts, each with its reason; empty if it may be pruned.
    """
    unknown_use = [*_of_the_apis(storage, fleet), *_images_without_id(storage, fleet)]
    found = {
        **dict.fromkeys(unknown_use, RefusalReason.UNKNOWN_USE),
        **dict.fromkeys(_unknown_members(storage, fleet), RefusalReason.MEMBERS_MISSING),
        **dict.fromkeys(_same_files_elsewhere(storage, storages), RefusalReason.UNKNOWN_USE),
        **dict.fromkeys(_disagreements_about_pruning(storage), RefusalReason.OPTED_OUT),
    }
    if len(storage.members) > 1:
        found |= dict.fromkeys(_contradictions(storage), RefusalReason.UNKNOWN_USE)
        found |= dict.fromkeys(_of_members_limits(storage), RefusalReason.LIMIT)
        found |= dict.fromkeys(_different_image_lists(storage), RefusalReason.UNKNOWN_DELETIONS)
    if len(storage.members) > 1 or storage.neighbours:
        problems = [
            f"On {host.name}: {problem}"
            for host in _with_neighbours(storage)
            for problem in host.for_members.get("problems", ())
        ]
        unknown_use = [*_of_neighbours(storage), *_unlisted_instances(storage), *problems]
        found |= dict.fromkeys(unknown_use, RefusalReason.UNKNOWN_USE)
    return found


def _with_neighbours(storage: Storage) -> tuple[HostAnswer, ...]:
    """Return all hosts that are known to have disks on the instances of a storage."""
    return (*storage.members, *storage.neighbours)


def _of_the_apis(storage: Storage, fleet: Fleet) -> Iterator[str]:
    for key in sorted(storage.all_clouds):
        cloud = fleet.clouds[key]
        if cloud.problem:
            yield cloud.problem
            continue
        for host in _with_neighbours(storage):
            options = host.options
            is_known = host.names & cloud.instances.keys() or fleet.unclaimed(cloud)
            if (
                (options.cloud, options.region) == key
                and not options.libvirt
                and not is_known
                and _has_files_in_use(host)
            ):
                yield (
                    f"The Compute API of {_cloud_name(key)} lists no server of {host.name} (nova's name "
                    f"{host.nova_name}), and files are in use there. Set image_cache_host to nova's name of it, or "
                    "image_cache_openstack_region_name to its region."
                )


def _images_without_id(storage: Storage, fleet: Fleet) -> Iterator[str]:
    """Yield the images that a member keeps by a name that its cloud's Image API has not."""
    for host in storage.members:
        key = (host.options.cloud, host.options.region)
        if host.options.keep_image_names and not fleet.clouds[key].problem:
            for name in fleet.images_kept_by_name(host)[1]:
                yield (
                    f"image_cache_keep_images of {host.name} has {name!r}, which is no image's id, and the Image API "
                    f"of {_cloud_name(key)} has no image of that name: it would keep nothing. Correct "
                    "image_cache_keep_images, or give the id there."
                )


def _unknown_members(storage: Storage, fleet: Fleet) -> Iterator[str]:
    """Yield why not all hosts are known that use the storage."""
    for host in _absent(storage, fleet):
        shares = "shares" if storage.group else "may share"
        if host.image_cache is not None or (host.state is AnswerState.NOT_LOOKED_AT and not host.in_batch):
            yield (
                f"{host.name} {shares} this storage and is not in this batch of the play. Run the play without serial, "
                f"or with all hosts of the storage in one batch."
            )
        else:
            yield (
                f"{host.name} {shares} this storage and did not answer, so what it needs is unknown. Run the play on "
                f"it as well. {_INSTEAD}"
            )
    yield from _too_few_members(storage, fleet)
    yield from _outside_their_group(storage, fleet)
    if storage.group or storage.is_one_machine:
        return
    yield from (_unknown_user(user, storage) for user in _strangers(storage, fleet))
    if storage.is_on_network and not storage.is_registered and not _has_declared_members(storage):
        yield (
            f"The storage of {storage.names} is shared, and nova keeps no record there (compute_nodes) of who uses "
            "it, so a host that shares it may be missing from the inventory. Set image_cache_storage_group to the "
            "group of the hosts that share it, or image_cache_storage_members to their names or number."
        )


def _absent(storage: Storage, fleet: Fleet) -> list[HostAnswer]:
    """Return the hosts that share the storage, or may, and whose use of it is unknown."""
    without_answer = fleet.without_answer
    if storage.group:
        in_play = {host.name for host in fleet.hosts}
        missing = [
            HostAnswer(name, AnswerState.UNREACHABLE)
            for name in storage.group
            if name not in in_play and name not in fleet.exempt
        ]
        return [host for host in without_answer if host.name in storage.group] + missing
    if not storage.is_on_network:
        # One machine under several names: all of them see the same.
        return [host for host in without_answer if host.names & storage.nova_names and host.image_cache is None]
    others = [host for host in without_answer if host.name not in fleet.group_of]
    if _has_declared_members(storage):
        return []  # those that are missing are named by what was declared
    return [] if storage.is_registered and not _strangers(storage, fleet) else others


def _strangers(storage: Storage, fleet: Fleet) -> list[str]:
    """Return the users of a storage, by nova's names, of whose instances nothing is known."""
    hosts = _with_neighbours(storage)
    known = fleet.exempt.union(
        (host.nova_name for host in hosts), *(host.options.instances_complete_for for host in hosts)
    )
    return sorted(storage.users - known)


def _unknown_user(user: str, storage: Storage) -> str:
    if user not in storage.future_users:
        return (
            f"Host {user} used this storage within the last 24 hours, and no host of this play that answered is known "
            f"to nova by that name. Run the play on it as well. {_INSTEAD}"
        )
    return (
        f"nova's record (compute_nodes) has host {user} with a time in the future, because a clock is or was wrong. So "
        f"it counts as a user of this storage, and no host of this play that answered is known to nova by that name. "
        f"Set the clocks right, and run the play on it as well. {_INSTEAD}"
    )


def _outside_their_group(storage: Storage, fleet: Fleet) -> Iterator[str]:
    """Yield the hosts that name a group without being in it, unless all do: then it is set for the whole play."""
    if len({host.options.storage_group for host in fleet.hosts}) == 1:
        return
    of_members = {host.options.storage_group for host in storage.members}
    for host in fleet.hosts:
        group = host.options.storage_group
        is_outside = group and host.name not in fleet.groups.get(group, ())
        if is_outside and (host in storage.members or group in of_members):
            yield (
                f"image_cache_storage_group of {host.name} is {group}, and the host is not in that group, so it is "
                f"unclear which storage it uses. Add {host.name} to that group of the inventory, or remove the "
                f"variable."
            )


def _has_declared_members(storage: Storage) -> bool:
    return any(host.options.storage_members is not None for host in storage.members)


def _too_few_members(storage: Storage, fleet: Fleet) -> Iterator[str]:
    """Yield what is missing where the operator said which hosts share the storage, or how many.

    One machine under two names of the inventory is one host. Without a cache there is nothing to share.
    """
    if storage.id is None:
        return
    hosts = _with_neighbours(storage)
    known = fleet.exempt.union(*(host.names for host in hosts))
    count = len({host.nova_name for host in hosts})
    for declared in dict.fromkeys(host.options.storage_members for host in storage.members):
        if isinstance(declared, int) and count < declared:
            yield (
                f"image_cache_storage_members says that {declared} hosts share this storage, and {count} answered "
                f"({_names(hosts)}). Run the play on all of them, without --limit or job slicing."
            )
        # A variable of the whole play may name the members of another storage.
        is_meant = storage.is_on_network or not known.isdisjoint(declared if isinstance(declared, tuple) else ())
        if isinstance(declared, tuple) and is_meant and (missing := sorted(set(declared) - known)):
            yield (
                f"image_cache_storage_members names {', '.join(missing)}, which did not answer in this play. Run the "
                "play on all members, without --limit or job slicing, or correct image_cache_storage_members."
            )


def _same_files_elsewhere(storage: Storage, storages: Sequence[Storage]) -> Iterator[str]:
    """Yield a host of each other storage with the same files: hosts may mount one from several addresses."""
    for other in storages:
        is_other = other is not storage and not (storage.group and other.group)
        if is_other and _have_files_in_common(storage.samples, other.samples):
            yield (
                f"{other.members[0].name} sees the same files as {storage.members[0].name}, under another storage id "
                f"(here {storage.id}), so they share this storage. Set image_cache_storage_group for the hosts that "
                "share it."
            )


def _have_files_in_common(samples: Iterable[frozenset[int]], others: Iterable[frozenset[int]]) -> bool:
    """Tell whether two storages are one: most of the files sampled in one are in the other's sample.

    One file alone may have the same name and inode on two storages that were filled alike.
    """
    return any(2 * len(one & other) > min(len(one), len(other)) for one in samples for other in others)


def _disagreements_about_pruning(storage: Storage) -> Iterator[str]:
    opted_out = [host.name for host in storage.members if host.options.opted_out]
    asked = [host.name for host in storage.members if host.options.prune]
    others = [host.name for host in storage.members if not host.options.prune and not host.options.opted_out]
    if opted_out and asked:
        yield (
            f"image_cache_prune is false in the inventory for {', '.join(opted_out)}, which shares this storage with "
            f"{', '.join(asked)}. What one member keeps is kept for all. Remove image_cache_prune there, or prune none "
            f"of them."
        )
    if others and asked:
        yield (
            f"image_cache_prune is true for {', '.join(asked)} and not for {', '.join(others)}, which share this "
            "storage. Set image_cache_prune to the same value for all of them."
        )


def _contradictions(storage: Storage) -> Iterator[str]:
    """Yield what cannot be if all members see the same cache, and what they disagree about."""
    first, first_found = storage.members[0], storage.found[0]
    seen: dict[frozenset[int], HostAnswer] = {}
    for host, found in zip(storage.members, storage.found, strict=True):
        # Files may come and go between two looks, so it is enough that two hosts have seen one file in common.
        sample = frozenset(host.for_members.get("sample_ids", ()))
        other = next((one for of_one, one in seen.items() if of_one != sample and of_one.isdisjoint(sample)), None)
        if found["for_members"]:
            seen.setdefault(sample, host)
        if storage.is_one_machine:
            yield from _one_machine_disagreements(host, found, first, first_found)
        elif not found["exists"]:
            yield (
                f"{host.name} shares this storage and has no directory {found['cache_path']}, so it may be looking at "
                f"another one. Mount the storage at {found['cache_path']}."
            )
        elif found["for_members"] is None and storage.group:
            yield _looked_at_alone(host)
        elif found["for_members"] is None:
            others = _names(one for one in storage.members if one is not host)
            yield (
                f"{host.name} has the same storage id as {others}, on a disk of its own: they may be clones with one "
                "/etc/machine-id. Give each its own, or set image_cache_storage_group for the hosts that share a "
                "storage."
            )
        elif other:
            yield (
                f"{host.name} and {other.name} share this storage and have different files in {found['cache_path']}, "
                "so it is not mounted on both. Mount it, or correct image_cache_storage_group."
            )
        elif found["cache_path"] != first_found["cache_path"]:
            yield (
                f"{host.name} has this storage at {found['cache_path']} and {first.name} at "
                f"{first_found['cache_path']}. nova needs one instances_path on all hosts that share it. Mount it at "
                "one path, and set image_cache_instances_path to that."
            )
        elif first_found["for_members"]:
            yield from _policy_disagreements(host.name, found, first.name, first_found)


def _of_neighbours(storage: Storage) -> Iterator[str]:
    """Yield the hosts on the same instances that did not say what they use, or that have another path for them."""
    first = storage.members[0]
    for host in _with_neighbours(storage) if storage.neighbours else ():
        if not host.for_members:
            yield _looked_at_alone(host)
        elif host.instances_path != first.instances_path:
            yield (
                f"{host.name} has the instances of this storage at {host.instances_path} and {first.name} at "
                f"{first.instances_path}. nova needs one instances_path on all hosts that share it. Mount it at one "
                "path, and set image_cache_instances_path to that."
            )


def _looked_at_alone(host: HostAnswer) -> str:
    return (
        f"{host.name} was looked at without knowing that it shares its storage, because its image_cache_storage_group "
        "is not set. Set image_cache_storage_group in the variables of the group."
    )


def _one_machine_disagreements(
    host: HostAnswer, found: Mapping[str, Any], first: HostAnswer, first_found: Mapping[str, Any]
) -> Iterator[str]:
    where = f"{first.name} and {host.name} are one machine under two names of the inventory"
    if found["cache_path"] != first_found["cache_path"]:
        paths = f"{first_found['cache_path']} and {found['cache_path']}"
        yield f"{where}, with caches at {paths}. Set image_cache_instances_path to one path for both."
    elif host.options.records_digest != first.options.records_digest:
        yield f"{where}, and image_cache_instances differs. Set the same for both, or remove one from the inventory."
    else:
        yield from _policy_disagreements(host.name, found, first.name, first_found)


def _policy_disagreements(
    name: str, found: Mapping[str, Any], first_name: str, first_found: Mapping[str, Any]
) -> Iterator[str]:
    """Yield the options by which one of these hosts would prune and another one would not."""
    for option in dict.fromkeys((*found["policy"], *first_found["policy"])):
        value, first_value = found["policy"].get(option), first_found["policy"].get(option)
        if value != first_value:
            yield (
                f"{name} and {first_name} share this storage and disagree about {variable_of(option)} ({value} and "
                f"{first_value}). Set {variable_of(option)} to the same value for both."
            )


def _of_members_limits(storage: Storage) -> Iterator[str]:
    having = [host for host in storage.members if host.options.limits.keys() & set(SPACE_TARGETS)]
    if having and not space_targets(storage.members):
        yield (
            f"{_names(having)} share this storage and have space targets of different kinds, so none holds for "
            "all. Set image_cache_max_used_space or image_cache_min_free_space for all of them."
        )


def _different_image_lists(storage: Storage) -> Iterator[str]:
    """Yield that members have different lists of Glance's images, where it matters which images were deleted."""
    policies = [found["policy"] for found in storage.found]
    if not any(
        policy["remove_only_deleted_images"] or policy["remove_deleted_images_minimum_age_seconds"] is not None
        for policy in policies
    ):
        return
    first = storage.members[0]
    for host in storage.members:
        if _image_list(host) != _image_list(first):
            yield (
                f"{host.name} and {first.name} share this storage and have different lists of Glance's images, so "
                "other images count as deleted. Set image_cache_glance_images to the same list for both, or "
                "image_cache_instance_source to openstack."
            )


def _image_list(host: HostAnswer) -> tuple[bool, str]:
    """Return what tells the list of a host from others. That of the Image API takes precedence over a given one."""
    return (True, "") if host.options.asks_api else (False, host.options.images_digest)


def _unlisted_instances(storage: Storage) -> Iterator[str]:
    """Yield members whose instances only their directories name, where such directories protect nothing."""
    ignoring = any(host.options.ignores_orphans for host in storage.members)
    for host in _with_neighbours(storage):
        options = host.options
        has_source = options.libvirt or options.asks_api or options.records_digest
        if ignoring and not has_source:
            yield (
                f"No source lists the instances of {host.name}, and orphans is ignore, so its guests would count as "
                "orphans. Set image_cache_libvirt or image_cache_instances for it, or image_cache_orphans to protect."
            )


def _has_files_in_use(host: HostAnswer) -> bool:
    return host.image_cache is not None and host.image_cache["summary"]["active"] > 0


def _cloud_name(key: tuple[str, str]) -> str:
    name, region = key
    return f"{name or 'the default cloud'}{f' in region {region}' if region else ''}"


def _names(hosts: Iterable[HostAnswer]) -> str:
    return ", ".join(host.name for host in hosts)
