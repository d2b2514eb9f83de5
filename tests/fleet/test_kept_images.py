# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An image that any member keeps is kept, whichever way it is named; an entry that keeps nothing stops the host."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import ComputeFleet, cached, names
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree

USED = names("image-a", "image-b")
ALL = USED | names("unused-a", "unused-b")
LISTED = [{"id": "unused-a", "name": "warm", "status": "active"}, {"id": "image-b", "name": "cold"}]


@pytest.mark.slow
@pytest.mark.parametrize(
    "entry", ["warm", "unused-a", {"id": "unused-a", "name": "another"}], ids=["name", "id", "record"]
)
def test_image_that_a_member_keeps_by_its_own_list_is_kept_by_the_pruner(
    fleet: ComputeFleet, shared: CacheTree, entry: Any
) -> None:
    fleet.hosts["b"].update(image_cache_keep_images=[entry], image_cache_glance_images=LISTED)
    run = fleet.prune()
    assert (run.status, cached(shared)) == (0, USED | names("unused-a")), run.output


def test_name_that_no_list_has_stops_the_storage(fleet: ComputeFleet, shared: CacheTree) -> None:
    fleet.hosts["b"]["image_cache_keep_images"] = ["warm"]
    run = fleet.prune()
    assert (run.failed, run.changed, cached(shared)) == ({"a", "b"}, {"c"}, ALL), run.output
    assert "keep_images has 'warm', which is no image's id" in run.messages["b"]
    assert "b shares this storage and did not answer" in run.messages["a"]
