# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One complete list, the operator's or that of the Image API, decides which images Glance no longer has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import DAY, ComputeFleet, cached, names
from ansible_collections.stackops.nova.tests.support.openstack_apis import Cloud, captured, cloud, write_clouds
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree

USED = names("image-a", "image-b")
ALL = USED | names("unused-a", "unused-b")
ONLY = {"image_cache_remove_only_deleted_images": True}
LISTED = ["image-a", "unused-a", {"id": "image-c", "name": "another"}]
API = {"image_cache_instance_source": "openstack", "image_cache_openstack_cloud": "lab"}


def test_dry_run_and_prune_remove_only_what_a_given_list_lacks(fleet: ComputeFleet, shared: CacheTree) -> None:
    for arguments, left in ((["--check"], ALL), ([], USED | names("unused-a"))):
        run = fleet.prune(*arguments, image_cache_glance_images=LISTED, **ONLY)
        assert (run.status, run.changed, cached(shared)) == (0, {"a", "c"}, left), run.output
    assert fleet.cached("c") == names("image-c")


@pytest.mark.slow
def test_deleted_images_have_an_age_of_their_own(fleet: ComputeFleet, shared: CacheTree) -> None:
    variables = {"image_cache_glance_images": LISTED, "image_cache_remove_deleted_images_minimum_age_seconds": 9 * DAY}
    run = fleet.prune(**variables)
    assert (run.status, cached(shared)) == (0, USED | names("unused-b")), run.output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("listed", "why"),
    [
        ({}, "glance_images is not given"),
        ({"image_cache_glance_images": []}, "glance_images is empty"),
        ({"image_cache_glance_images": ["image-a"]}, "glance_images has 1 of the 4 cached images, fewer than half"),
    ],
)
def test_list_that_cannot_be_relied_on_prunes_nothing_and_fails(
    fleet: ComputeFleet, shared: CacheTree, listed: dict[str, Any], why: str
) -> None:
    for arguments in (["--check"], []):
        run = fleet.prune(*arguments, **ONLY, **listed)
        assert (run.failed, run.changed, cached(shared)) == ({"a", "c"}, set(), ALL), run.output
        assert why in run.messages["a"]
        assert run.of("Prune the image cache")["a"]["state"] == "refused"
        assert "2 refused" in run.text


@pytest.mark.slow
@pytest.mark.parametrize("option", ["remove_only_deleted_images", "remove_deleted_images_minimum_age_seconds"])
def test_members_that_disagree_about_deleted_images_are_refused(
    fleet: ComputeFleet, shared: CacheTree, option: str
) -> None:
    fleet.variables["image_cache_glance_images"] = LISTED
    fleet.hosts["b"][f"image_cache_{option}"] = 1
    run = fleet.prune()
    assert (run.failed, run.changed, cached(shared)) == ({"a"}, {"c"}, ALL), run.output
    assert f"disagree about image_cache_{option}" in run.messages["a"]


def test_members_with_different_lists_are_refused(fleet: ComputeFleet, shared: CacheTree) -> None:
    fleet.variables.update(ONLY, image_cache_glance_images=LISTED)
    fleet.hosts["b"]["image_cache_glance_images"] = [*LISTED, "unused-b"]
    run = fleet.prune()
    assert (run.failed, run.changed, cached(shared)) == ({"a"}, {"c"}, ALL), run.output
    assert "have different lists of Glance's images" in run.messages["a"]


class TestImageApi:
    """The API's list is that of the host's cloud and region, with hidden images in it."""

    IMAGES = tuple(image["id"] for image in captured("images", "images"))

    @pytest.fixture
    def apis(self, tmp_path: Path) -> Iterator[Cloud]:
        with cloud() as running:
            write_clouds(tmp_path, {"lab": running.url})
            yield running

    @pytest.fixture
    def tree(self, fleet: ComputeFleet) -> CacheTree:
        """A host that has all images of Glance in its cache, and one that was deleted there."""
        fleet.environment = {"OS_CLIENT_CONFIG_FILE": str(fleet.root / "clouds.yaml")}
        tree = fleet.add("other")
        for image in self.IMAGES:
            tree.base(next(iter(names(image))), age=3 * DAY)
        tree.base("swap_128", age=3 * DAY)
        return tree

    def test_prune_removes_only_images_that_the_api_lacks(
        self, fleet: ComputeFleet, tree: CacheTree, apis: Cloud
    ) -> None:
        apis.images["lab"][0].update(os_hidden=True, visibility="community")
        before = cached(tree)
        for arguments, gone in ((["--check"], set()), ([], names("unused-other"))):
            run = fleet.prune(*arguments, **API, **ONLY)
            assert (run.status, run.changed, before - cached(tree)) == (0, {"other"}, gone), run.output
        assert "cannot be used" not in run.output

    @pytest.mark.parametrize("others", [[], ["idle"]], ids=["one host", "two hosts"])
    def test_limit_of_the_fleet_counts_only_what_the_api_lacks(
        self, fleet: ComputeFleet, tree: CacheTree, apis: Cloud, others: list[str]
    ) -> None:
        for name in others:
            fleet.add(name)
            apis.images["lab"].append({**apis.images["lab"][0], "id": f"image-{name}"})
        before = cached(tree)
        tree.base(next(iter(names("warm"))), age=3 * DAY, content=b"x" * 50_000)
        apis.images["lab"].append({**apis.images["lab"][0], "id": "warm"})
        refused = fleet.prune(**API, image_cache_fleet_max_removal_percent=15)
        assert (refused.failed, cached(tree)) == ({"other", *others}, before | names("warm")), refused.output
        run = fleet.prune(**API, **ONLY, image_cache_fleet_max_removal_percent=15)
        assert (run.status, before - cached(tree)) == (0, names("unused-other")), run.output

    def test_list_of_another_region_removes_nothing(self, fleet: ComputeFleet, tree: CacheTree, apis: Cloud) -> None:
        apis.images["lab"] = [{**image, "id": f"{number}"} for number, image in enumerate(apis.images["lab"])]
        before = cached(tree)
        run = fleet.prune(**API, **ONLY)
        assert (run.failed, cached(tree)) == ({"other"}, before), run.output
        assert "glance_images has 0 of the 6 cached images" in run.messages["other"]

    def test_empty_list_removes_nothing(self, fleet: ComputeFleet, tree: CacheTree, apis: Cloud) -> None:
        apis.images["lab"] = []
        before = cached(tree)
        run = fleet.prune(**API, **ONLY)
        assert (run.failed, cached(tree)) == ({"other"}, before), run.output
        assert "glance_images is empty" in run.messages["other"]

    def test_audit_shows_what_a_prune_would_remove(self, fleet: ComputeFleet, tree: CacheTree, apis: Cloud) -> None:
        tree.base(next(iter(names("warm"))), age=3 * DAY)
        apis.images["lab"].append({**apis.images["lab"][0], "id": "warm"})
        run = fleet.audit(**API, **ONLY, image_cache_details="files")
        assert run.status == 0, run.output
        assert "unused; unknown image, not in Glance" in " ".join(run.text.split())
        assert "remove_only_deleted_images keeps it" in " ".join(run.text.split())
        assert (run.changed, apis.count("/auth/tokens")) == (set(), 1)
