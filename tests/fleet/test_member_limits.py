# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every limit of every member counts, and the fleet's limit is the strictest of all hosts."""

from __future__ import annotations

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import UNREACHABLE, ComputeFleet, cached, names
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree

ALL = names("image-a", "image-b", "unused-a", "unused-b")
USED = names("image-a", "image-b")


@pytest.mark.parametrize(
    ("host", "variable", "value"),
    [
        ("a", "image_cache_max_removals", 1),
        ("b", "image_cache_max_removals", 1),
        ("b", "image_cache_max_removal_percent", 10),
    ],
    ids=["pruner", "other member", "percent of the other member"],
)
def test_limit_of_a_member_keeps_the_storage(
    fleet: ComputeFleet, shared: CacheTree, host: str, variable: str, value: int
) -> None:
    fleet.hosts[host][variable] = value
    run = fleet.prune()
    assert (run.failed, run.changed, cached(shared)) == ({"a"}, {"c"}, ALL), run.output
    assert variable.removeprefix("image_cache_") in run.messages["a"]


def test_space_target_of_a_member_that_does_not_prune_counts(fleet: ComputeFleet, shared: CacheTree) -> None:
    fleet.hosts["b"]["image_cache_max_used_space"] = "1T"
    run = fleet.prune()
    assert (run.status, run.changed, cached(shared)) == (0, {"c"}, ALL), run.output


@pytest.mark.slow
def test_stricter_of_two_space_targets_counts(fleet: ComputeFleet, shared: CacheTree) -> None:
    fleet.hosts["a"]["image_cache_max_used_space"] = "1K"
    fleet.hosts["b"]["image_cache_max_used_space"] = "1T"
    run = fleet.prune()
    assert (run.status, cached(shared)) == (0, ALL), run.output


@pytest.mark.slow
def test_space_targets_of_different_kinds_are_refused(fleet: ComputeFleet, shared: CacheTree) -> None:
    fleet.hosts["a"]["image_cache_max_used_space"] = "1K"
    fleet.hosts["b"]["image_cache_min_free_space"] = "1K"
    run = fleet.prune()
    assert (run.failed, cached(shared)) == ({"a"}, ALL), run.output
    assert "space targets of different kinds" in run.messages["a"]


@pytest.mark.slow
def test_space_target_that_the_pruner_has_alone_removes_nothing_more(fleet: ComputeFleet, shared: CacheTree) -> None:
    fleet.hosts["a"].update(image_cache_max_used_space=0, image_cache_min_free_space="0%")
    fleet.hosts["b"]["image_cache_min_free_space"] = 0
    for arguments in (["--check"], []):
        run = fleet.prune(*arguments)
        assert (run.status, run.changed, cached(shared)) == (0, {"c"}, ALL), run.output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("of_a", "of_b", "is_pruned"),
    [("0%", "100%", False), ("0%", "0%", True), ("0%", "1T", False), ("100%", "1K", False), ("0%", 0, True)],
)
def test_percentage_of_one_member_is_compared_with_bytes_of_another(
    fleet: ComputeFleet, shared: CacheTree, of_a: str, of_b: str | int, is_pruned: bool
) -> None:
    fleet.hosts["a"]["image_cache_max_used_space"] = of_a
    fleet.hosts["b"]["image_cache_max_used_space"] = of_b
    run = fleet.prune()
    assert (run.status, cached(shared)) == (0, USED if is_pruned else ALL), run.output


@pytest.mark.slow
def test_value_that_is_no_space_target_is_refused(fleet: ComputeFleet, shared: CacheTree) -> None:
    fleet.hosts["a"]["image_cache_min_free_space"] = "15 percent"
    run = fleet.prune()
    assert "a" in run.failed
    assert cached(shared) == ALL
    assert "which is neither a number of bytes nor a percentage of the file system" in run.messages["a"]


def test_more_than_the_limit_of_the_fleet_is_not_removed(fleet: ComputeFleet, shared: CacheTree) -> None:
    run = fleet.prune(image_cache_fleet_max_removal_percent=49)
    assert run.failed == {"a", "c"}, run.output
    assert "50 %" in run.messages["a"]
    assert "image_cache_fleet_max_removal_percent" in run.messages["c"]
    assert (cached(shared), len(fleet.cached("c"))) == (ALL, 2)
    dry = fleet.prune("--check", image_cache_fleet_max_removal_percent=49)
    assert dry.failed == {"a", "c"}


@pytest.mark.slow
def test_limit_of_the_fleet_itself_may_be_removed(fleet: ComputeFleet, shared: CacheTree) -> None:
    run = fleet.prune(image_cache_fleet_max_removal_percent=50)
    assert (run.status, cached(shared)) == (0, USED), run.output


@pytest.mark.slow
@pytest.mark.parametrize("host", ["b", "c"])
def test_limit_of_the_fleet_counts_whichever_host_sets_it(fleet: ComputeFleet, shared: CacheTree, host: str) -> None:
    fleet.hosts[host]["image_cache_fleet_max_removal_percent"] = 49
    run = fleet.prune()
    assert (run.failed, cached(shared)) == ({"a", "c"}, ALL), run.output


@pytest.mark.slow
def test_limit_of_the_fleet_counts_although_its_host_did_not_answer(fleet: ComputeFleet, shared: CacheTree) -> None:
    fleet.hosts["c"].update(image_cache_fleet_max_removal_percent=1, **UNREACHABLE)
    run = fleet.prune()
    assert (run.changed, cached(shared)) == (set(), ALL), run.output
