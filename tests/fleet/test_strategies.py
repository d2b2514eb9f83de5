# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plays in which no moment exists at which all hosts have answered are refused with one sentence."""

from __future__ import annotations

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import ComputeFleet, cached, names, role
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree

ALL = names("image-a", "image-b", "unused-a", "unused-b")


@pytest.mark.parametrize("strategy", ["free", "ansible.builtin.host_pinned"])
def test_strategy_without_a_barrier_is_refused(fleet: ComputeFleet, shared: CacheTree, strategy: str) -> None:
    run = fleet.play({"strategy": strategy, "tasks": [role("prune")]})
    assert run.status != 0
    assert f"under the strategy {strategy}" in run.output, run.output
    assert "Remove strategy from the play." in run.output
    assert "Traceback" not in run.output
    assert (cached(shared), len(fleet.cached("c"))) == (ALL, 2)


@pytest.mark.parametrize("how", ["import_role", "include_role"])
def test_run_once_is_refused(fleet: ComputeFleet, shared: CacheTree, how: str) -> None:
    run = fleet.play({"tasks": [role("prune", how, run_once=True)]})
    assert run.status != 0, run.output
    assert "Remove run_once" in run.output
    assert (cached(shared), len(fleet.cached("c"))) == (ALL, 2)


def test_serial_that_divides_a_storage_refuses_it(fleet: ComputeFleet, shared: CacheTree) -> None:
    run = fleet.play({"serial": 1, "tasks": [role("prune")]})
    assert run.status != 0
    assert "Run the play without serial, or with all hosts of the storage in one batch." in run.messages["a"]
    assert cached(shared) == ALL


@pytest.mark.slow
def test_serial_with_all_hosts_of_the_storage_in_a_batch_prunes_it(fleet: ComputeFleet, shared: CacheTree) -> None:
    run = fleet.play({"serial": 2, "tasks": [role("prune")]})
    assert (run.status, run.changed) == (0, {"a", "c"}), run.output
    assert cached(shared) == names("image-a", "image-b")
    # The last report has what earlier batches removed.
    assert run.reported["fleet"]["summary"]["removed"] == 3


@pytest.mark.slow
def test_undeclared_storage_that_serial_divides_is_refused(fleet: ComputeFleet) -> None:
    tree = fleet.add("a", image_cache_shared_storage=True)
    fleet.add("b", tree, image_cache_shared_storage=True)
    tree.compute_nodes({f"nova-{name}": tree.now for name in "ab"})
    run = fleet.play({"serial": 1, "ignore_errors": True, "tasks": [role("prune")]})
    assert (run.changed, cached(tree)) == (set(), ALL), run.output
    assert "is not in this batch of the play" in run.messages["a"]
