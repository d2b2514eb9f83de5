# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A machine under several names of the inventory is one: what any of its names keeps is kept."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import ComputeFleet, names
from ansible_collections.stackops.nova.tools.cache_tree import fingerprint

DAY = 86400


@pytest.fixture
def machine(fleet: ComputeFleet) -> ComputeFleet:
    """One machine with three unused files, under the names a, a2 and a3."""
    tree = fleet.add("a")
    for image in ("one", "two"):
        tree.base(fingerprint(image), age=3 * DAY, content=b"x" * 8192)
    fleet.add_name("a2", "a")
    fleet.add_name("a3", "a")
    return fleet


def test_machine_is_pruned_once(machine: ComputeFleet) -> None:
    run = machine.prune()
    assert (run.status, run.changed, machine.cached("a")) == (0, {"a"}, names("image-a")), run.output
    assert run.shown == {"a (+2)"}
    assert run.reported["fleet"]["summary"]["removed"] == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("a", {"image_cache_keep_images": ["one"], "image_cache_glance_images": ["one"]}),
        ("a2", {"image_cache_keep_files": [fingerprint("one")]}),
        ("a3", {"image_cache_keep_images": ["one"], "image_cache_glance_images": ["one"]}),
    ],
    ids=["first", "second", "last"],
)
def test_file_that_one_name_keeps_is_kept(machine: ComputeFleet, name: str, variables: dict[str, Any]) -> None:
    machine.hosts[name].update(variables)
    run = machine.prune()
    assert (run.status, machine.cached("a")) == (0, names("image-a", "one")), run.output


def test_instances_that_one_name_was_given_are_refused_or_protected(machine: ComputeFleet) -> None:
    machine.hosts["a3"]["image_cache_instances"] = [{"uuid": "x", "image_ref": "one", "host": "nova-a"}]
    run = machine.prune()
    assert names("one") <= machine.cached("a"), run.output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("a", {"image_cache_remove_unused_original_minimum_age_seconds": 30 * DAY}),
        ("a3", {"image_cache_remove_unused_original_minimum_age_seconds": 30 * DAY}),
        ("a3", {"image_cache_remove_unused_base_images": False}),
        ("a2", {"image_cache_orphans": "ignore"}),
    ],
    ids=["age of the first", "age of the last", "removal", "orphans"],
)
def test_disagreement_of_two_names_is_refused(machine: ComputeFleet, name: str, variables: dict[str, Any]) -> None:
    machine.hosts[name].update(variables)
    run = machine.prune()
    assert (run.failed, len(machine.cached("a"))) == ({"a"}, 4), run.output
    assert f"disagree about {next(iter(variables))}" in run.messages["a"]


@pytest.mark.slow
def test_limit_of_one_name_counts(machine: ComputeFleet) -> None:
    machine.hosts["a3"]["image_cache_max_removals"] = 1
    run = machine.prune()
    assert (run.status != 0, len(machine.cached("a"))) == (True, 4), run.output


def test_name_that_is_opted_out_keeps_the_machine(machine: ComputeFleet) -> None:
    machine.hosts["a2"]["image_cache_prune"] = False
    run = machine.prune()
    assert (run.status != 0, len(machine.cached("a"))) == (True, 4), run.output
    assert "image_cache_prune is false in the inventory for a2" in run.messages["a"]
