# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An inventory's ``image_cache_prune: false`` wins over plays, roles and entry points; extra variables win over all."""

from __future__ import annotations

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import PRUNE, ComputeFleet, cached, names, role
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree

ALL = names("image-a", "image-b", "unused-a", "unused-b")


@pytest.fixture
def three(fleet: ComputeFleet) -> ComputeFleet:
    for name in "abc":
        fleet.add(name)
    return fleet


def sizes(fleet: ComputeFleet) -> dict[str, int]:
    return {name: len(fleet.cached(name)) for name in "abc"}


@pytest.mark.parametrize("host", ["a", "c"], ids=["first host", "last host"])
def test_host_that_is_opted_out_keeps_its_files_and_the_others_are_pruned(three: ComputeFleet, host: str) -> None:
    three.hosts[host]["image_cache_prune"] = False
    run = three.prune()
    assert run.status == 0, run.output
    assert sizes(three) == {name: 2 if name == host else 1 for name in "abc"}
    result = run.of(PRUNE)[host]
    assert (result["state"], result["removed"]) == ("audited", [])
    assert "image_cache_prune is false for this host in the inventory" in result["msg"]
    assert run.shown == {"a", "b", "c"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "play",
    [
        {"vars": {"image_cache_prune": True}, "tasks": [role()]},
        {"tasks": [role("prune", vars={"image_cache_prune": True})]},
        {"roles": [{"role": "stackops.nova.image_cache", "image_cache_prune": True}]},
    ],
    ids=["play", "entry point", "role"],
)
def test_inventory_wins_over_variables_of_plays_and_roles(three: ComputeFleet, play: dict[str, object]) -> None:
    three.hosts["b"]["image_cache_prune"] = False
    run = three.play(play)
    assert run.status == 0, run.output
    assert sizes(three) == {"a": 1, "b": 2, "c": 1}


@pytest.mark.slow
@pytest.mark.parametrize("value", ["no", "{{ keep_all | default(false) }}"])
def test_text_and_templates_of_the_inventory_opt_out_too(three: ComputeFleet, value: str) -> None:
    three.variables["image_cache_prune"] = value
    run = three.prune()
    assert (run.status, run.changed, sizes(three)) == (0, set(), dict.fromkeys("abc", 2)), run.output


def test_extra_variables_win_over_the_inventory(three: ComputeFleet) -> None:
    three.hosts["a"]["image_cache_prune"] = False
    run = three.prune(image_cache_prune=True)
    assert (run.status, sizes(three)) == (0, dict.fromkeys("abc", 1)), run.output


@pytest.mark.slow
def test_extra_variable_opts_all_hosts_out(three: ComputeFleet) -> None:
    run = three.prune(image_cache_prune=False)
    assert (run.status, run.changed, sizes(three)) == (0, set(), dict.fromkeys("abc", 2)), run.output


@pytest.mark.slow
def test_role_without_the_variable_looks_only(three: ComputeFleet) -> None:
    run = three.play({"tasks": [role()]})
    assert (run.status, run.changed, sizes(three)) == (0, set(), dict.fromkeys("abc", 2)), run.output
    assert run.shown == {"a", "b", "c"}


def test_audit_never_prunes(three: ComputeFleet) -> None:
    run = three.audit(image_cache_prune=True)
    assert (run.status, run.changed, sizes(three)) == (0, set(), dict.fromkeys("abc", 2)), run.output


@pytest.mark.parametrize("host", ["a", "b"])
def test_member_that_is_opted_out_keeps_the_shared_storage(fleet: ComputeFleet, shared: CacheTree, host: str) -> None:
    fleet.hosts[host]["image_cache_prune"] = False
    run = fleet.prune()
    assert (cached(shared), fleet.cached("c")) == (ALL, names("image-c")), run.output
    assert run.status != 0
    assert f"image_cache_prune is false in the inventory for {host}" in "".join(run.messages.values())


@pytest.mark.slow
def test_storage_whose_members_are_all_opted_out_is_kept_without_a_failure(
    fleet: ComputeFleet, shared: CacheTree
) -> None:
    for host in "ab":
        fleet.hosts[host]["image_cache_prune"] = False
    run = fleet.prune()
    assert (run.status, run.changed, cached(shared)) == (0, {"c"}, ALL), run.output
