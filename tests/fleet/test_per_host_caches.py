# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts with a cache of their own on shared instances (nova's ``_base_$my_ip``) prune each its own."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import (
    DAY,
    PRUNE,
    UNREACHABLE,
    ComputeFleet,
    cached,
    names,
)
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree, fingerprint

ALL = {name: names(f"image-{name}", f"unused-{name}") for name in "ab"}
USED = {name: names(f"image-{name}") for name in "ab"}


def cache_of(tree: CacheTree, host: str) -> CacheTree:
    """The instances of a tree, with the cache that a host has there."""
    own = CacheTree(tree.root)
    own.cache_path = own.instances_path / f"_base_{host}"
    own.cache_path.mkdir(exist_ok=True)
    return own


@pytest.fixture
def caches(fleet: ComputeFleet) -> Mapping[str, CacheTree]:
    """The caches of hosts a and b beside each other. Each host has a guest with a disk on its cache."""
    tree = CacheTree(fleet.root / "storage")
    caches = {name: cache_of(tree, name) for name in "ab"}
    for name, own in caches.items():
        variables = {"image_cache_subdirectory_name": own.cache_path.name, "image_cache_shared_storage": True}
        fleet.add(name, own, **variables)
        own.instance(f"uuid-{name}", {"disk": fingerprint(f"image-{name}")})
    tree.compute_nodes({f"nova-{name}": tree.now for name in "ab"})
    return caches


def left(caches: Mapping[str, CacheTree]) -> dict[str, set[str]]:
    return {name: cached(own) for name, own in caches.items()}


def test_each_host_prunes_its_own_cache_as_its_dry_run_lists(
    fleet: ComputeFleet, caches: Mapping[str, CacheTree]
) -> None:
    dry = fleet.prune("--check")
    assert (dry.status, dry.changed, left(caches)) == (0, {"a", "b"}, ALL), dry.output
    run = fleet.prune()
    assert (run.status, run.changed, left(caches)) == (0, {"a", "b"}, USED), run.output
    listed, removed = ({host: one["removed"] for host, one in each.of(PRUNE).items()} for each in (dry, run))
    assert listed == removed == {name: [*names(f"unused-{name}")] for name in "ab"}


@pytest.mark.slow
@pytest.mark.usefixtures("caches")
def test_guests_of_another_host_are_no_orphans(fleet: ComputeFleet) -> None:
    for run in (fleet.audit(), fleet.prune("--check")):
        storages = run.reported["fleet"]["storages"]
        assert [(one["hosts"], one["orphans"], one["refused"]) for one in storages] == [
            (["a"], [], []),
            (["b"], [], []),
        ], run.output


def test_file_under_a_guest_that_moved_to_another_host_is_kept(
    fleet: ComputeFleet, caches: Mapping[str, CacheTree]
) -> None:
    caches["a"].instance("uuid-b", {"disk": fingerprint("unused-a")})
    run = fleet.prune()
    assert (run.status, left(caches)) == (0, {"a": ALL["a"], "b": USED["b"]}), run.output


@pytest.mark.slow
def test_hosts_of_a_storage_group_prune_each_its_own_cache(
    fleet: ComputeFleet, caches: Mapping[str, CacheTree]
) -> None:
    (caches["a"].instances_path / "compute_nodes").unlink()
    fleet.share("a", "b")
    run = fleet.prune()
    assert (run.status, run.changed, left(caches)) == (0, {"a", "b"}, USED), run.output


@pytest.mark.slow
def test_host_that_has_no_cache_yet_refuses_nothing(fleet: ComputeFleet, caches: Mapping[str, CacheTree]) -> None:
    fleet.hosts["b"]["image_cache_subdirectory_name"] = "_base_new"
    run = fleet.prune()
    assert (run.status, left(caches)) == (0, {"a": USED["a"], "b": ALL["b"]}), run.output
    assert run.of(PRUNE)["a"]["image_cache"]["orphans"] == []


@pytest.mark.slow
def test_host_that_does_not_answer_keeps_all_caches(fleet: ComputeFleet, caches: Mapping[str, CacheTree]) -> None:
    fleet.hosts["b"].update(UNREACHABLE)
    run = fleet.prune()
    assert (run.failed, left(caches)) == ({"a"}, ALL), run.output
    assert "Host nova-b used this storage within the last 24 hours" in run.messages["a"]


@pytest.mark.slow
@pytest.mark.parametrize(("users", "is_known"), [(["a", "b"], True), (["a", "b", "retired"], False)])
def test_ignored_orphans_keep_their_files_until_the_instances_of_every_registered_host_are_known(
    fleet: ComputeFleet, caches: Mapping[str, CacheTree], users: list[str], is_known: bool
) -> None:
    tree = caches["a"]
    tree.compute_nodes({f"nova-{name}": tree.now - 400 * DAY * (name == "retired") for name in users})
    tree.instance("uuid-of-nobody", {"disk": fingerprint("unused-a")})
    run = fleet.prune(image_cache_orphans="ignore")
    assert (run.status, cached(tree)) == (0, USED["a"] if is_known else ALL["a"]), run.output
    assert ("nova-retired" in run.output) is not is_known
