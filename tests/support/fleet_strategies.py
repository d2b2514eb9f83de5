# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts and fleets as the decision sees them, for its tests: plain values, and strategies that make them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.answers import (
    AnswerState,
    HostAnswer,
    parse_image_cache,
)
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.cloud import CloudAnswer
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import FleetOptions
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.storages import Fleet

GIB = 1 << 30
NFS = "nfs4:filer:/instances:/_base"
NEIGHBOUR = "nfs4:filer:/instances:/_base_b"  # another cache beside the same instances
# What a guest, a tenant or a host could call something. None of it may be resolved or changed.
HOSTILE = ("{{ lookup('pipe', 'touch /tmp/pwned') }}", "{% raw %}", "<script>", "\x1b[31m", "'\"$()`", "a b", "")


def found(nova_name: str = "a", storage_id: str | None = None, **more: Any) -> dict[str, Any]:
    """What the modules return for a host, by default with a cache on a disk of its own.

    :param nova_name: nova's name for it.
    :param storage_id: the storage's id, which starts with ``nfs`` for a shared one; empty for no cache.
    :param more: keys of the structure; those of ``for_members`` and ``policy`` by ``use`` and ``policy``.
    """
    identity = f"ext4:{nova_name}:8:1:/_base" if storage_id is None else storage_id or None
    is_shared = identity is not None and identity.startswith("nfs")
    instances_id, _slash, directory = (identity or "").rpartition("/")
    use, policy = more.pop("use", {} if is_shared else None), more.pop("policy", {})
    cached, removable = more.pop("cached", 0), more.pop("removable", 0)
    answered = {
        "cache_path": f"/nova/{directory if directory.startswith('_base') else '_base'}",
        "exists": identity is not None,
        "now": 1.5,
        "host": nova_name,
        "storage": {
            "id": identity,
            "instances_id": instances_id or identity,
            "filesystem": None if identity is None else identity.partition(":")[0],
            "shared": None if identity is None else is_shared,
            "users": [],
            "free_bytes": 20 * GIB,
            "total_bytes": 500 * GIB,
        },
        "summary": {
            "active": 0,
            "removable": 1 if removable else 0,
            "too_young": 0,
            "other": 0,
            "total": {"files": 1 if cached else 0, "allocated_bytes": cached},
            "reclaimable_bytes": removable,
            "reclaimable_by_age": {"3600": removable, "86400": removable, "604800": 0, "2419200": 0},
            "bytes": {"active": 0, "removable": removable, "too_young": 0, "other": 0, "corrupt": 0},
            "precached": {"files": 0, "allocated_bytes": 0},
            "orphans": {"directories": 0, "allocated_bytes": 0},
        },
        "missing": [],
        "corrupt": [],
        "orphans": [],
        "unknown_use": [],
        "unknown_deletions": [],
        "limit_exceeded": [],
        "checksums": None,
        "policy": {
            "remove_unused_base_images": True,
            "remove_unused_original_minimum_age_seconds": 86400,
            "remove_unused_resized_minimum_age_seconds": 3600,
            "remove_unused_kernels": False,
            "remove_only_deleted_images": False,
            "remove_deleted_images_minimum_age_seconds": None,
            "orphans": "protect",
            **policy,
        },
        "for_members": None if use is None else for_members(nova_name, **use),
        **more,
    }
    # Of each text and number its own, as after a way over the network.
    copied: dict[str, Any] = json.loads(json.dumps(answered))
    return copied


def for_members(nova_name: str, **more: Any) -> dict[str, Any]:
    """What a host on shared storage reports for the other members."""
    return {
        "instances": [{"uuid": f"uuid-{nova_name}"}],
        "held": [],
        "problems": [],
        "users": [],
        "future_users": [],
        "sample_ids": [1, 2, 3],
        "keep_images": [],
        "keep_files": [],
        **more,
    }


def registered(*users: str, **more: Any) -> dict[str, Any]:
    """What a host reports of a shared storage in which nova keeps a record of its users."""
    return {"users": list(users), **more}


def answer(
    name: str = "a",
    storage_id: str | None = None,
    *,
    nova_name: str | None = None,
    options: Mapping[str, Any] | None = None,
    state: AnswerState = AnswerState.ANSWERED,
    in_batch: bool = True,
    **more: Any,
) -> HostAnswer:
    """One host that answered. Its prune is asked for, unless an option says otherwise.

    :param options: fields of its :class:`FleetOptions`.
    :param more: what was found, as in :func:`found`.
    """
    image_cache = found(name if nova_name is None else nova_name, storage_id, **more)
    assert parse_image_cache(image_cache) == ""
    return HostAnswer(name, state, FleetOptions(**{"prune": True, **(options or {})}), image_cache, "", in_batch)


def silent(
    name: str, state: AnswerState = AnswerState.UNREACHABLE, *, in_batch: bool = True, **options: Any
) -> HostAnswer:
    """One host that did not answer."""
    return HostAnswer(name, state, FleetOptions(**options), None, "No route to host", in_batch)


def fleet(
    *hosts: HostAnswer,
    groups: Mapping[str, Sequence[str]] | None = None,
    clouds: Mapping[tuple[str, str], CloudAnswer] | None = None,
) -> Fleet:
    """A fleet of these hosts, all of which are in the inventory."""
    return Fleet(hosts, {"all": [host.name for host in hosts], **(groups or {})}, clouds or {})


def cloud(problem: str = "", images: Sequence[str] = (), **hosts: Sequence[str]) -> CloudAnswer:
    """What an API answers: the uuids of the servers of each host; ``anywhere`` are those that may be on any."""
    instances = {
        "" if host == "anywhere" else host: tuple({"uuid": uuid} for uuid in uuids) for host, uuids in hosts.items()
    }
    return CloudAnswer(instances, tuple({"id": image, "name": f"name of {image}"} for image in images), problem)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(HOSTILE),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = ("a", "b", "c", "d", "e")
names = st.sampled_from(NAMES)
numbers = st.integers(0, 100)
space_targets = st.one_of(numbers.map(lambda number: number * GIB), numbers.map(lambda number: f"{number}%"))
limits = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(["max_removals", "max_removal_percent"], numbers),
        **dict.fromkeys(["max_used_space", "min_free_space"], space_targets),
    },
)
texts = st.sampled_from(["x", "y", *HOSTILE])
uses = st.fixed_dictionaries(
    {
        "instances": st.lists(texts.map(lambda uuid: {"uuid": uuid}), max_size=2),
        "held": st.lists(texts, max_size=2),
        "problems": st.lists(st.just("A domain cannot be read."), max_size=1),
        "users": st.one_of(st.just(list(NAMES)), st.lists(names, max_size=3)),
        "sample_ids": st.one_of(st.just([1, 2, 3]), st.lists(st.integers(1, 4), max_size=3)),
        "keep_images": st.lists(texts, max_size=2),
        "keep_files": st.lists(texts, max_size=2),
    }
)
fleet_options = st.builds(
    FleetOptions,
    prune=st.booleans(),
    opted_out=st.sampled_from([False, False, False, True]),
    host=st.sampled_from(["", "a"]),
    asks_api=st.booleans(),
    cloud=st.sampled_from(["", "one"]),
    libvirt=st.booleans(),
    ignores_orphans=st.booleans(),
    storage_group=st.sampled_from(["", "", "disk"]),
    storage_members=st.one_of(st.none(), st.integers(1, 5), st.lists(names, min_size=1).map(tuple)),
    exempt_storage_users=st.lists(names, max_size=1).map(tuple),
    instances_complete_for=st.lists(names, max_size=1).map(tuple),
    fleet_max_removal_percent=st.one_of(st.none(), st.floats(0, 100)),
    limits=limits,
    keep_images=st.lists(texts, max_size=2).map(tuple),
    keep_image_names=st.lists(st.sampled_from(["a name", "another name"]), max_size=1).map(tuple),
    keep_files=st.lists(texts, max_size=2).map(tuple),
    report_path=texts,
    images_digest=st.sampled_from(["", "1", "2"]),
    records_digest=st.sampled_from(["", "1", "2"]),
    instances=st.one_of(st.none(), st.lists(texts.map(lambda uuid: {"uuid": uuid}), max_size=1).map(tuple)),
).map(lambda options: options if options.asks_api else replace(options, keep_image_names=()))


@st.composite
def answers(draw: st.DrawFn, name: str) -> HostAnswer:
    """A host that answered, or did not. Most are alike, so that they can share a storage."""
    options = draw(fleet_options) if draw(st.integers(0, 2)) == 0 else FleetOptions(prune=True, limits=draw(limits))
    in_batch = draw(st.integers(0, 9)) > 0
    if draw(st.integers(0, 5)) == 0:
        state = draw(st.sampled_from([AnswerState.FAILED, AnswerState.UNREACHABLE, AnswerState.NOT_LOOKED_AT]))
        return HostAnswer(name, state, options, None, "No route to host", in_batch)
    storage = draw(st.sampled_from([NFS, NFS, NFS, NEIGHBOUR, "nfs4:other", "ext4:1", None, ""]))
    nova_name = draw(st.sampled_from([name, name, name, "a"]))
    size = draw(st.integers(0, 1 << 40))
    more: dict[str, Any] = {"use": draw(uses)} if storage in (NFS, NEIGHBOUR, "nfs4:other") else {}
    image_cache = found(nova_name, storage, cached=size, removable=draw(st.integers(0, 1 << 40)), **more)
    assert parse_image_cache(image_cache) == ""
    state = draw(st.sampled_from([AnswerState.ANSWERED, AnswerState.ANSWERED, AnswerState.FAILED]))
    return HostAnswer(name, state, options, image_cache, "", in_batch)


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    """A fleet of up to five hosts, with groups and clouds."""
    members = draw(st.lists(names, min_size=1, unique=True))
    hosts = tuple(draw(answers(name)) for name in members)
    groups = {"all": members, "disk": sorted(draw(st.sets(names)))}
    if draw(st.booleans()):
        groups.pop("disk")
    clouds = {
        key: CloudAnswer(
            {name: ({"uuid": f"{name} of {key}"},) for name in draw(st.sets(st.sampled_from(["", *NAMES, "f"])))},
            ({"id": "image", "name": "a name"},),
            draw(st.sampled_from(["", "", "", "The APIs do not answer."])),
        )
        for key in {(host.options.cloud, host.options.region) for host in hosts if host.options.asks_api}
    }
    return Fleet(hosts, groups, clouds)
