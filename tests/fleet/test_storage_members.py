# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Shared storage of which nova keeps no record is pruned only where the operator says who shares it."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import UNREACHABLE, ComputeFleet, cached, names
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree

ALL = names("image-a", "image-b", "unused-a", "unused-b")
USED = names("image-a", "image-b")


@pytest.fixture
def unregistered(fleet: ComputeFleet) -> CacheTree:
    """The storage of hosts a and b, on a network file system by the word of the operator. Host c has its own disk."""
    tree = fleet.add("a", image_cache_shared_storage=True)
    fleet.add("b", tree, image_cache_shared_storage=True)
    fleet.add("c")
    return tree


def test_storage_without_a_record_of_its_users_is_refused(fleet: ComputeFleet, unregistered: CacheTree) -> None:
    run = fleet.prune()
    assert (run.failed, run.changed, cached(unregistered)) == ({"a"}, {"c"}, ALL), run.output
    assert "nova keeps no record there (compute_nodes)" in run.messages["a"]
    assert "image_cache_storage_group" in run.messages["a"]
    assert "image_cache_storage_members" in run.messages["a"]


@pytest.mark.slow
@pytest.mark.parametrize("members", ["2", ["a", "nova-b"], "a, b"])
def test_members_that_are_all_there_are_enough(fleet: ComputeFleet, unregistered: CacheTree, members: Any) -> None:
    for host in "ab":
        fleet.hosts[host]["image_cache_storage_members"] = members
    run = fleet.prune()
    assert (run.status, cached(unregistered)) == (0, USED), run.output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("host", "members", "word"),
    [("a", 3, "that 3 hosts share this storage"), ("b", ["a", "b", "gone"], "names gone")],
    ids=["number", "names"],
)
def test_fewer_hosts_than_declared_are_refused(
    fleet: ComputeFleet, unregistered: CacheTree, host: str, members: Any, word: str
) -> None:
    fleet.hosts[host]["image_cache_storage_members"] = members
    run = fleet.prune()
    assert (run.failed, run.changed, cached(unregistered)) == ({"a"}, {"c"}, ALL), run.output
    assert f"image_cache_storage_members {'says ' if isinstance(members, int) else ''}{word}" in run.messages["a"]


def test_slice_of_a_storage_group_is_refused_by_the_number_of_members(fleet: ComputeFleet, shared: CacheTree) -> None:
    # AWX puts only the hosts of the slice into the groups.
    fleet.groups["sharing_a"] = ["a"]
    del fleet.hosts["b"]
    fleet.hosts["a"].update(image_cache_storage_members=2, image_cache_shared_storage=True)
    run = fleet.prune()
    assert (run.failed, run.changed, cached(shared)) == ({"a"}, {"c"}, ALL), run.output
    assert "without --limit or job slicing" in run.messages["a"]


@pytest.mark.slow
def test_member_that_is_declared_and_does_not_answer_is_refused(fleet: ComputeFleet, unregistered: CacheTree) -> None:
    fleet.hosts["b"].update(UNREACHABLE)
    run = fleet.prune(image_cache_storage_members=["a", "b"])
    assert (run.failed, run.changed, cached(unregistered)) == ({"a"}, {"c"}, ALL), run.output


@pytest.mark.slow
def test_record_of_nova_is_enough(fleet: ComputeFleet, unregistered: CacheTree) -> None:
    unregistered.compute_nodes({f"nova-{name}": unregistered.now for name in "ab"})
    run = fleet.prune()
    assert (run.status, cached(unregistered)) == (0, USED), run.output


@pytest.mark.slow
@pytest.mark.parametrize("value", [True, [""]])
def test_members_that_are_no_names_or_number_are_refused(
    fleet: ComputeFleet, unregistered: CacheTree, value: Any
) -> None:
    fleet.hosts["a"]["image_cache_storage_members"] = value
    run = fleet.prune()
    assert "a" in run.failed, run.output
    assert "image_cache_storage_members" in run.messages["a"]
    assert cached(unregistered) == ALL
