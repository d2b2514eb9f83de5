# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A variable that is omitted is not set."""

from __future__ import annotations

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import ComputeFleet, cached, names, role
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree

USED = names("image-a", "image-b")
VARIABLES = (
    "image_cache_prune",
    "image_cache_keep_images",
    "image_cache_keep_files",
    "image_cache_max_removals",
    "image_cache_fleet_max_removal_percent",
    "image_cache_instances",
    "image_cache_instance_source",
    "image_cache_openstack_cloud",
    "image_cache_openstack_region_name",
    "image_cache_storage_members",
    "image_cache_exempt_storage_users",
    "image_cache_max_used_space",
    "image_cache_details",
    "image_cache_orphans",
    "image_cache_report_path",
    "image_cache_report_query",
)
OMITTED = dict.fromkeys(VARIABLES, "{{ not_defined | default(omit) }}")


@pytest.mark.slow
@pytest.mark.parametrize("where", ["inventory", "play", "role"])
def test_omitted_variables_are_not_set(fleet: ComputeFleet, shared: CacheTree, where: str) -> None:
    task = role("prune")
    task["ansible.builtin.import_role"]["rolespec_validate"] = False
    play = {"tasks": [task]}
    if where == "inventory":
        fleet.variables.update(OMITTED)
    elif where == "play":
        play["vars"] = OMITTED
    else:
        task["vars"] = OMITTED
    run = fleet.play(play)
    assert (run.status, run.changed, cached(shared)) == (0, {"a", "c"}, USED), run.output


def test_omitted_variable_falls_back_to_its_default(fleet: ComputeFleet) -> None:
    tree = fleet.add("a")
    tree.base("other_name", age=0)
    fleet.hosts["a"]["image_cache_remove_unused_original_minimum_age_seconds"] = "{{ nothing | default(omit) }}"
    run = fleet.prune()
    assert (run.status, fleet.cached("a")) == (0, {*names("image-a"), "other_name"}), run.output
