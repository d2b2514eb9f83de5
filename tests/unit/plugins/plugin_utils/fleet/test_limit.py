# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A wrong inventory does not empty a fleet: a prune of too large a share of it is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.limit import fleet_limit_exceeded, strictest_limit
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.storages import Storage
from ansible_collections.stackops.nova.tests.support.fleet_strategies import GIB, answer


def storage(name: str, cached: int, removable: int) -> Storage:
    return Storage(id=name, members=(answer(name, cached=cached, removable=removable),))


FULL, HALF, EMPTY = storage("a", 60 * GIB, 30 * GIB), storage("b", 40 * GIB, 0), storage("c", 0, 0)


@pytest.mark.parametrize(
    ("limits", "strictest"),
    [([], None), ([None], None), ([None, 0.0, 5.0], 0.0), ([7.0, 5.0], 5.0), ([5.0, None, 7.0], 5.0)],
)
def test_limit_of_a_fleet_is_the_smallest_of_any_host(limits: list[float | None], strictest: float | None) -> None:
    assert strictest_limit(limits) == strictest


def test_fleet_without_a_limit_may_lose_any_share() -> None:
    assert fleet_limit_exceeded([FULL], [FULL], None) == ""


@pytest.mark.parametrize("limit", [30, 30.0, 100])
def test_share_up_to_the_limit_is_allowed(limit: float) -> None:
    assert fleet_limit_exceeded([FULL, HALF], [FULL, HALF], limit) == ""


@pytest.mark.parametrize(("limit", "shown"), [(29.9, "29.9"), (29.0, "29"), (0.0, "0")])
def test_share_beyond_the_limit_is_refused_with_figures(limit: float, shown: str) -> None:
    assert fleet_limit_exceeded([FULL, HALF], [FULL, HALF], limit) == (
        "Nothing was removed: 30.0 of 100.0 GiB (30 %) in the caches of the fleet could be removed, which is more than "
        f"image_cache_fleet_max_removal_percent ({shown}). If this is expected, raise "
        "image_cache_fleet_max_removal_percent. Otherwise the list of instances is probably incomplete."
    )


@pytest.mark.parametrize(
    ("removable", "cached", "shown"), [(15, 26, "1.5 of 2.6 GiB (58 %)"), (4, 5, "0.4 of 0.5 GiB (80 %)")]
)
def test_figures_of_a_refusal_are_rounded(removable: int, cached: int, shown: str) -> None:
    uneven = storage("a", cached * GIB // 10, removable * GIB // 10)
    assert fleet_limit_exceeded([uneven], [uneven], 50).startswith(f"Nothing was removed: {shown}")


def test_storage_that_is_not_pruned_loses_nothing_and_counts_as_cached() -> None:
    assert fleet_limit_exceeded([FULL, HALF], [HALF], 0) == ""
    assert fleet_limit_exceeded([FULL, HALF], [FULL], 30) == ""


@pytest.mark.parametrize("storages", [[], [EMPTY]])
def test_empty_caches_are_no_reason_to_refuse(storages: list[Storage]) -> None:
    assert fleet_limit_exceeded(storages, storages, 0) == ""


def test_host_that_reports_more_removable_than_cached_bytes_is_refused() -> None:
    lying = storage("a", 0, GIB)
    assert fleet_limit_exceeded([lying], [lying], 100).startswith("Nothing was removed: 1.0 of 0.0 GiB (100 %)")


sizes = st.integers(0, 1 << 50)


@given(st.lists(st.tuples(sizes, sizes).map(sorted), max_size=5), st.integers(0, 100))
def test_limit_is_a_share_of_the_bytes_of_all_caches(caches: list[list[int]], limit: int) -> None:
    storages = [storage(str(number), cached, removable) for number, (removable, cached) in enumerate(caches)]
    removable, cached = (sum(column) for column in zip(*caches, strict=True)) if caches else (0, 0)
    assert (fleet_limit_exceeded(storages, storages, limit) != "") == (removable * 100 > cached * limit)
