# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which hosts share a storage, which of them prunes it, and what that one has to know of the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.images import find_images, read_glance_images
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.names import (
    fingerprint,
    is_of_image,
    parse_name,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.space import read_space_target, target_bytes

from .answers import AnswerState, HostAnswer
from .cloud import CloudAnswer
from .options import LIMITS, SPACE_TARGETS, as_records

__all__ = ["Clouds", "Fleet", "Storage", "group_into_storages", "hand_off", "space_targets", "storage_id"]

Clouds = Mapping[tuple[str, str], CloudAnswer]


@dataclass(frozen=True)
class Fleet:
    """All hosts of a play, as far as they are known.

    :param hosts: their answers, in the order of the play.
    :param groups: the hosts of each group of the inventory.
    :param clouds: the answers of the APIs, by name of the cloud and region.
    """

    hosts: tuple[HostAnswer, ...]
    groups: Mapping[str, Sequence[str]]
    clouds: Clouds

    @cached_property
    def exempt(self) -> frozenset[str]:
        """The hosts that need nothing of any storage, by all their names. A host's word counts for all of them."""
        named = frozenset(name for host in self.hosts for name in host.options.exempt_storage_users)
        return named.union(*(host.names for host in self.hosts if host.names & named))

    @cached_property
    def without_answer(self) -> tuple[HostAnswer, ...]:
        """The hosts whose use of a storage is unknown, and matters."""
        return tuple(
            host
            for host in self.hosts
            if (host.image_cache is None or not host.in_batch) and host.name not in self.exempt
        )

    @cached_property
    def group_of(self) -> Mapping[str, str]:
        """The storage group of each host that is in one. It is enough that one host names it."""
        group_of: dict[str, str] = {}
        for group in dict.fromkeys(host.options.storage_group for host in self.hosts):
            for name in self.groups.get(group, ()):
                group_of.setdefault(name, group)
        for host in self.hosts:
            if host.name in self.groups.get(host.options.storage_group, ()):
                group_of[host.name] = host.options.storage_group
        return group_of

    def images_kept_by_name(self, host: HostAnswer) -> tuple[list[str], list[str]]:
        """Return the ids of the images that a host keeps by their names in its cloud, and the names that it lacks."""
        options = host.options
        if not options.keep_image_names:
            return [], []
        return find_images(
            options.keep_image_names, read_glance_images(self.clouds[options.cloud, options.region].images)
        )

    def unclaimed(self, cloud: CloudAnswer) -> list[str]:
        """Return the compute hosts of an API that are none of the inventory, by any name."""
        claimed = {"", *self.groups.get("all", ())}.union(*(host.names for host in self.hosts))
        return sorted(set(cloud.instances) - claimed)


@dataclass(frozen=True)
class Storage:
    """What a cache lies on.

    :param id: what tells it from other storages; None if there is no cache.
    :param members: the hosts of the batch that use it and answered, in the order of the play.
    :param group: the hosts that share it by the operator's word; empty without such a word.
    :param neighbours: the hosts of the batch that answered with another cache directory on the same instances.
    :param listed: the names of what an API's images are cached under, where its members, who looked without that list,
        remove only what the API no longer has; None elsewhere.
    """

    id: str | None
    members: tuple[HostAnswer, ...]
    group: tuple[str, ...] = ()
    neighbours: tuple[HostAnswer, ...] = ()
    listed: frozenset[str] | None = None

    @property
    def found(self) -> tuple[Mapping[str, Any], ...]:
        """What the modules found on each member."""
        return tuple(host.image_cache or {} for host in self.members)

    @property
    def is_on_network(self) -> bool:
        """Whether its file system is one that several hosts can mount, or was declared to be."""
        return any(found["storage"]["shared"] for found in self.found)

    @property
    def is_one_machine(self) -> bool:
        """Whether its members are one machine under several names of the inventory."""
        return len(self.nova_names) == 1 and not self.group and not self.is_on_network

    @property
    def nova_names(self) -> frozenset[str]:
        """Nova's names of its members."""
        return frozenset(host.nova_name for host in self.members)

    @property
    def names(self) -> str:
        """Its members, for a sentence."""
        return ", ".join(host.name for host in self.members)

    @property
    def users(self) -> frozenset[str]:
        """The hosts that nova saw use its instances lately, by nova's names."""
        return frozenset(user for found in self.found for user in (found["for_members"] or found["storage"])["users"])

    @property
    def future_users(self) -> frozenset[str]:
        """Those of them that nova's record has with a time in the future, because a clock is or was wrong."""
        return frozenset(user for host in self.members for user in host.for_members.get("future_users", ()))

    @property
    def is_registered(self) -> bool:
        """Whether nova writes down who uses it: then each of its hosts is named there."""
        return self.nova_names <= self.users

    @property
    def samples(self) -> frozenset[frozenset[int]]:
        """The ids of a few of its files, as each member saw them; empty if it has none."""
        return frozenset(frozenset(host.for_members.get("sample_ids", ())) for host in self.members) - {frozenset()}

    @property
    def pruner(self) -> HostAnswer:
        """The one member that prunes it, or shows it: the first that answered without a failure."""
        return next((host for host in self.members if host.state is AnswerState.ANSWERED), self.members[0])

    @property
    def needs_hand_off(self) -> bool:
        """Whether its pruner, looking alone, does not see all that matters."""
        return len(self.members) > 1 or bool(self.neighbours) or bool(self.clouds)

    @property
    def cached_bytes(self) -> int:
        """How much space its cache takes."""
        return int(self._shown["summary"]["total"]["allocated_bytes"])

    @property
    def reclaimable_bytes(self) -> int:
        """How much a prune frees at most.

        A member that looked alone does not know the instances of the others, and counts as removable what they use. So
        only what all of them count as removable is.
        """
        if not self.needs_hand_off:
            return int(self._shown["summary"]["reclaimable_bytes"])
        if not all("files" in found for found in self.found):
            return int(self._shown["summary"]["bytes"]["removable"])
        removable = [
            {
                file["name"]: file["allocated_bytes"]
                for file in found["files"]
                if file["state"] == "removable" and self._may_be_removed(file["name"])
            }
            for found in self.found
        ]
        return sum(size for name, size in removable[0].items() if all(name in of_one for of_one in removable))

    def _may_be_removed(self, name: str) -> bool:
        """Return whether a removable file stays so once the host has the API's list of images."""
        key = parse_name(name).key
        return self.listed is None or (is_of_image(key) and key not in self.listed)

    @property
    def total_bytes(self) -> int | None:
        """How large its file system is; None if it reports no size."""
        size: int | None = self._shown["storage"]["total_bytes"]
        return size

    @property
    def _shown(self) -> Mapping[str, Any]:
        return self.pruner.image_cache or {}

    @property
    def clouds(self) -> frozenset[tuple[str, str]]:
        """The clouds and regions that know instances of its members."""
        return _clouds_of(self.members)

    @property
    def all_clouds(self) -> frozenset[tuple[str, str]]:
        """The clouds and regions that know instances of its members and neighbours."""
        return self.clouds | _clouds_of(self.neighbours)


def _clouds_of(hosts: Iterable[HostAnswer]) -> frozenset[tuple[str, str]]:
    return frozenset((host.options.cloud, host.options.region) for host in hosts if host.options.asks_api)


def storage_id(host: HostAnswer, group: str) -> str | None:
    """Return what tells the storage of a host from others.

    :param host: a host that answered.
    :param group: its storage group; empty if it is in none.
    :return: ``group:NAME:DIRECTORY`` with the name of the cache directory, or what the host's file system says; None
        without a cache.
    """
    if group:
        return f"group:{group}:{host.cache_name}"
    return None if host.image_cache is None else host.image_cache["storage"]["id"]


def group_into_storages(fleet: Fleet) -> list[Storage]:
    """Group the hosts of the batch that answered by the storage that their caches lie on.

    :param fleet: all hosts of the play.
    :return: each storage once, in the order of the hosts. A host without a cache has a storage of its own.
    """
    group_of = fleet.group_of
    members: dict[tuple[str, str], list[HostAnswer]] = {}
    for host in fleet.hosts:
        if host.image_cache is not None and host.in_batch:
            identity = storage_id(host, group_of.get(host.name, ""))
            key = ("host", host.name) if identity is None else ("storage", identity)
            members.setdefault(key, []).append(host)
    sharing: dict[tuple[str, str], list[HostAnswer]] = {}
    for hosts in members.values():
        for host in hosts:
            for place in _instances_of(host, group_of):
                sharing.setdefault(place, []).append(host)
    return [
        Storage(
            id=identity if kind == "storage" else None,
            members=tuple(hosts),
            group=tuple(fleet.groups.get(group_of.get(hosts[0].name, ""), ())),
            neighbours=_neighbours(hosts, sharing, group_of) if kind == "storage" else (),
            listed=_listed(hosts, fleet),
        )
        for (kind, identity), hosts in members.items()
    ]


def _listed(members: Sequence[HostAnswer], fleet: Fleet) -> frozenset[str] | None:
    clouds = _clouds_of(members)
    if not clouds or not all((host.image_cache or {})["policy"]["remove_only_deleted_images"] for host in members):
        return None
    ids = frozenset[str]().union(*(read_glance_images(fleet.clouds[key].images).ids for key in clouds))
    # As the modules find them: nova may have cached an image by its id in upper case.
    return ids.union(map(fingerprint, ids), (fingerprint(image_id.upper()) for image_id in ids))


def _instances_of(host: HostAnswer, group_of: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return what tells the instances of a host from others, by its file system and its group; empty if not shared."""
    by_group = [("group", group_of[host.name])] if host.name in group_of else []
    instances_id = (host.image_cache or {})["storage"].get("instances_id")
    return [("id", instances_id), *by_group] if host.for_members and instances_id else by_group


def _neighbours(
    members: Sequence[HostAnswer], sharing: Mapping[tuple[str, str], Sequence[HostAnswer]], group_of: Mapping[str, str]
) -> tuple[HostAnswer, ...]:
    """Return the hosts that share the instances of a storage's members and have other cache directories there."""
    names = {host.name for host in members}
    found = {
        host.name: host
        for member in members
        for place in _instances_of(member, group_of)
        for host in sharing[place]
        if host.cache_name != member.cache_name and host.name not in names
    }
    return tuple(found.values())


def hand_off(storage: Storage, fleet: Fleet) -> dict[str, Any]:
    """Return the options by which a storage's pruner looks and prunes for all members.

    :param storage: one that is not refused.
    :param fleet: all hosts of the play.
    :return: options of the modules: what any member keeps or holds is kept, the instances of all are counted, and the
        strictest of all limits counts. The instances of neighbours are there without their images, which use another
        cache. The options replace the pruner's own, but ``instances`` are added to them. Empty where the pruner knows
        all by itself.
    """
    pruner = storage.pruner
    others = [host for host in storage.members if host is not pruner]
    exempt = fleet.exempt.union(
        *(host.options.instances_complete_for for host in (*storage.members, *storage.neighbours))
    )
    complete = storage.nova_names.union(exempt, (host.nova_name for host in storage.neighbours))
    if not storage.needs_hand_off:
        # Another host may have named an exempt one that nova saw here.
        own = {*pruner.options.instances_complete_for, *pruner.options.exempt_storage_users}
        return {"instances_complete_for": sorted(complete)} if storage.users & exempt - own else {}
    options: dict[str, Any] = {
        "instances_complete_for": sorted(complete),
        "keep_files": _united(
            [host.options.keep_files for host in storage.members]
            + [host.for_members.get(key, ()) for host in others for key in ("keep_files", "held")]
        ),
        "keep_images": as_records(
            _united(
                [host.options.keep_images for host in storage.members]
                + [fleet.images_kept_by_name(host)[0] for host in storage.members]
                + [host.for_members.get("keep_images", ()) for host in others]
            )
        ),
        **_strictest_limits(storage),
    }
    # One machine sees all its own instances by any of its names; an empty list would make orphans of them.
    if not storage.is_one_machine or storage.clouds:
        options["instances"] = [
            *_given_instances(others, pruner.options.records_digest),
            *(record for host in others for record in host.for_members.get("instances", ())),
            *(
                record
                for key in sorted(storage.clouds)
                for record in _servers(storage, fleet, fleet.clouds[key], complete)
            ),
            *_instances_of_neighbours(storage, fleet),
        ]
    if storage.clouds:
        options["glance_images"] = [image for key in sorted(storage.clouds) for image in fleet.clouds[key].images]
    return options


def _given_instances(members: Iterable[HostAnswer], known_digest: str) -> list[Mapping[str, Any]]:
    """Return the instances that the operator gave these hosts, where they are others than the known ones."""
    by_digest = {host.options.records_digest: host.options.instances or () for host in members}
    return [record for digest, records in by_digest.items() if digest != known_digest for record in records]


def _servers(
    storage: Storage, fleet: Fleet, cloud: CloudAnswer, complete: frozenset[str]
) -> Iterator[Mapping[str, Any]]:
    """Yield the servers of an API that may have disks on a storage, as plain records."""
    names = {"", *complete, *storage.users}.difference(*(host.names for host in storage.neighbours))
    names.update(*(host.names for host in storage.members))
    # A member that the API does not know has no servers, or another name there: then they are among these.
    if not all(host.names & cloud.instances.keys() for host in storage.members):
        names.update(fleet.unclaimed(cloud))
    for name in sorted(names):
        yield from cloud.instances.get(name, ())


def _instances_of_neighbours(storage: Storage, fleet: Fleet) -> Iterator[dict[str, str]]:
    """Yield the instances of a storage's neighbours, as far as they name directories."""
    known: set[tuple[str, str]] = set()
    records = [
        *_given_instances(storage.neighbours, storage.pruner.options.records_digest),
        *(record for host in storage.neighbours for record in host.for_members.get("instances", ())),
        *(
            record
            for key in sorted(_clouds_of(storage.neighbours))
            for record in _servers_of_neighbours(storage, fleet, fleet.clouds[key])
        ),
    ]
    for record in records:
        identity = (str(record.get("uuid", "")), str(record.get("name", "")))
        if identity not in known:
            known.add(identity)
            yield {"uuid": identity[0], "name": identity[1]}


def _servers_of_neighbours(storage: Storage, fleet: Fleet, cloud: CloudAnswer) -> Iterator[Mapping[str, Any]]:
    """Yield the servers of an API that may be on a storage's neighbours, as plain records."""
    names = frozenset({""}).union(*(host.names for host in storage.neighbours))
    if not all(host.names & cloud.instances.keys() for host in storage.neighbours):
        names = names.union(fleet.unclaimed(cloud))
    for name in sorted(names):
        yield from cloud.instances.get(name, ())


def _united(lists: Iterable[Iterable[Any]]) -> list[Any]:
    """Return each item once. Images may be dictionaries, which no set takes."""
    items: list[Any] = []
    for item in (item for items_of_one in lists for item in items_of_one):
        if item not in items:
            items.append(item)
    return items


def _strictest_limits(storage: Storage) -> dict[str, int | str | None]:
    """Return the limits of all members: the smallest ones, and of the space targets those that remove least.

    A prune goes on until all its targets are met, so a target that not all members with targets have would remove more.
    Such a target of the pruner's own is None.
    """
    limits = [host.options.limits for host in storage.members]
    strictest: dict[str, int | str | None] = {
        name: min(int(own[name]) for own in limits if name in own)
        for name in LIMITS
        if any(name in own for own in limits)
    }
    strictest.update(dict.fromkeys(storage.pruner.options.limits.keys() & set(SPACE_TARGETS)))
    for name in space_targets(storage.members):
        strictest[name] = _loosest(name, [own[name] for own in limits if name in own], storage.total_bytes)
    return strictest


def _loosest(name: str, targets: Sequence[int | str], total_bytes: int | None) -> int | str:
    """Return the one of several space targets of a kind that removes least.

    Percentages are compared with bytes by the size of the file system. Where it reports none, the modules ignore them,
    and the bytes count.
    """
    sizes = {target: target_bytes(read_space_target(name, target), total_bytes) for target in targets}
    known = {target: size for target, size in sizes.items() if size is not None}
    if not known:
        return targets[0]
    choose = max if name == "max_used_space" else min
    return choose(known, key=lambda target: known[target])


def space_targets(members: Sequence[HostAnswer]) -> list[str]:
    """Return the space targets that all those members have that have any."""
    sets = [own for host in members if (own := host.options.limits.keys() & set(SPACE_TARGETS))]
    return sorted(frozenset.intersection(*map(frozenset, sets))) if sets else []
