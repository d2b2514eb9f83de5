# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An image of the fleet is counted on each host that has it, and its bytes once for each storage."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.images import total_images
from ansible_collections.stackops.nova.tests.support.fleets import GIB, NOW, image


def storage(*hosts: str, images: list[dict[str, Any]] | None) -> dict[str, Any]:
    return {"hosts": list(hosts)} if images is None else {"hosts": list(hosts), "images": images}


def test_image_on_two_hosts_is_one_with_their_sums() -> None:
    [total] = total_images(
        [
            storage("a", images=[image(1, gib=3, instances=2, removable_gib=1)]),
            storage("b", images=[image(1, gib=4, instances=5, files=2, newest_mtime=NOW)]),
        ]
    )
    assert total == {
        **image(1, gib=7, instances=7, removable_gib=1, files=3, newest_mtime=NOW),
        "hosts": 2,
        "storages": 2,
    }


def test_image_of_a_shared_storage_is_on_each_host_and_its_bytes_count_once() -> None:
    [total] = total_images([storage("a", "b", "c", images=[image(1, gib=3, instances=2)])])
    assert (total["hosts"], total["storages"]) == (3, 1)
    assert (total["allocated_bytes"], total["instances"]) == (3 * GIB, 2)


def test_host_with_two_caches_is_one_host() -> None:
    [total] = total_images([storage("a", images=[image(1)]), storage("a", images=[image(1)])])
    assert (total["hosts"], total["storages"]) == (1, 2)


def test_image_that_is_used_where_it_is_not_cached_counts_with_its_instances() -> None:
    [total] = total_images([storage("a", images=[image(1, gib=0, files=0, instances=3)])])
    assert (total["hosts"], total["storages"], total["instances"]) == (0, 0, 3)


def test_most_popular_image_comes_first() -> None:
    storages = [
        storage("a", images=[image("large", gib=9), image("everywhere", gib=1), image("used", gib=1, instances=1)]),
        storage("b", images=[image("everywhere", gib=1)]),
    ]
    names = [total["image_name"] for total in total_images(storages)]
    assert names == ["image-used", "image-everywhere", "image-large"]


@pytest.mark.parametrize("more", [{"instances": 2}, {"gib": 2}], ids=str)
@pytest.mark.parametrize("numbers", [(1, 2), (2, 1)])
def test_images_on_as_many_hosts_are_ordered_by_instances_and_bytes(
    numbers: tuple[int, int], more: dict[str, int]
) -> None:
    less, larger = numbers
    images = [image(less, gib=1, instances=1), image(larger, **{"gib": 1, "instances": 1, **more})]
    assert [total["image_name"] for total in total_images([storage("a", images=images)])] == [
        f"image-{larger}",
        f"image-{less}",
    ]


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [(None, None, None), (False, None, False), (None, False, False), (False, True, True), (None, True, True)],
)
def test_image_that_one_cloud_has_is_in_glance(here: bool | None, there: bool | None, expected: bool | None) -> None:
    storages = [storage(name, images=[image(1, in_glance=known)]) for name, known in (("a", here), ("b", there))]
    assert total_images(storages)[0]["in_glance"] is expected


def test_name_that_one_host_knows_is_the_name() -> None:
    unknown = image(1, image_id=None, image_name=None, newest_mtime=None)
    [total] = total_images([storage("a", images=[unknown]), storage("b", images=[image(1)])])
    assert (total["image_id"], total["image_name"]) == (image(1)["image_id"], "image-1")
    assert total["newest_mtime"] == NOW - 86400


def test_storage_that_was_not_asked_for_images_has_none() -> None:
    assert total_images([storage("a", images=None), storage("b", images=[])]) == []


def test_unknown_fields_of_an_image_are_left_out() -> None:
    [total] = total_images([storage("a", images=[image(1, hosts=1000, more="x")])])
    assert "more" not in total
    assert total["hosts"] == 1


@given(st.lists(st.lists(st.integers(0, 4), unique=True), max_size=5))
def test_no_byte_and_no_instance_is_lost_or_counted_twice(caches: list[list[int]]) -> None:
    images = [image(number, gib=number + 1, instances=number) for numbers in caches for number in numbers]
    storages = [
        storage(f"host-{index}", images=[image(number, gib=number + 1, instances=number) for number in numbers])
        for index, numbers in enumerate(caches)
    ]
    totals = total_images(storages)
    for key in ("allocated_bytes", "instances", "files"):
        assert sum(total[key] for total in totals) == sum(each[key] for each in images)
    assert sum(total["hosts"] for total in totals) == len(images)
