# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A wrong inventory does not empty a fleet: a prune of too much of it is refused."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.filter.image_cache_brake import FilterModule, image_cache_brake

GIB = 1 << 30


def host(cached: int, reclaimable: int) -> dict[str, Any]:
    summary = {"total": {"allocated_bytes": cached}, "reclaimable_bytes": reclaimable}
    return {"ansible_facts": {"image_cache": {"summary": summary}}}


def store(name: str, state: str = "audited") -> dict[str, Any]:
    return {"hosts": [name, "another"], "pruner": None if state == "waits" else name, "state": state}


HOSTVARS: dict[str, dict[str, Any]] = {
    "a": host(60 * GIB, 30 * GIB),
    "b": host(40 * GIB, 0),
    "empty": host(0, 0),
    "another": {},
}


def test_the_filter_is_known_by_its_name() -> None:
    assert FilterModule().filters() == {"image_cache_brake": image_cache_brake}


def test_without_a_limit_any_share_may_go() -> None:
    assert image_cache_brake([store("a")], HOSTVARS) == ""


@pytest.mark.parametrize("limit", [30, 30.0, "30", 100])
def test_up_to_the_limit_it_may(limit: Any) -> None:
    assert image_cache_brake([store("a"), store("b")], HOSTVARS, max_removal_percent=limit) == ""


@pytest.mark.parametrize("limit", [29.9, "29", 0])
def test_beyond_it_the_figures_are_told(limit: Any) -> None:
    sentence = image_cache_brake([store("a"), store("b")], HOSTVARS, max_removal_percent=limit)
    assert sentence.startswith("30.0 of 100.0 GiB (30 %)")
    assert f"image_cache_fleet_max_removal_percent ({limit})" in sentence


def test_an_audit_that_failed_over_a_corrupt_file_counts_and_not_an_earlier_one() -> None:
    failed = {"failed": True, **host(60 * GIB, 30 * GIB)}
    hostvars = {**HOSTVARS, "a": {**host(60 * GIB, 0), "__image_cache_audit": failed}}
    assert image_cache_brake([store("a")], hostvars, max_removal_percent=49).startswith("30.0 of 60.0 GiB")


@pytest.mark.parametrize("state", ["refused", "waits"])
def test_a_store_that_is_not_pruned_loses_nothing_and_counts_as_cached(state: str) -> None:
    stores = [store("a", state), store("b")]
    assert image_cache_brake(stores, HOSTVARS, max_removal_percent=0) == ""


def test_empty_caches_are_no_reason() -> None:
    assert image_cache_brake([store("empty")], HOSTVARS, max_removal_percent=0) == ""
    assert image_cache_brake([], HOSTVARS, max_removal_percent=0) == ""


@pytest.mark.parametrize("limit", [None, 90])
def test_the_smallest_limit_of_any_host_counts(limit: float | None) -> None:
    hostvars = {**HOSTVARS, "another": {"image_cache_fleet_max_removal_percent": "29"}}
    assert "(29)" in image_cache_brake([store("a"), store("b")], hostvars, max_removal_percent=limit)
    assert image_cache_brake([store("a"), store("b")], hostvars, max_removal_percent=30) != ""


@pytest.mark.parametrize("value", ["{{ not_there }}", [], {}])
def test_a_limit_that_is_no_number_is_an_error(value: Any) -> None:
    hostvars = {**HOSTVARS, "another": {"image_cache_fleet_max_removal_percent": value}}
    with pytest.raises(AnsibleFilterError, match="must be a number of percent"):
        image_cache_brake([store("a")], hostvars, max_removal_percent=90)


sizes = st.integers(0, 1 << 50)


@given(st.lists(st.tuples(sizes, sizes).map(sorted), max_size=5), st.integers(0, 100))
def test_it_is_the_share_of_all_bytes(caches: list[list[int]], limit: int) -> None:
    hostvars = {str(number): host(cached, freed) for number, (freed, cached) in enumerate(caches)}
    stores = [store(name) for name in hostvars]
    refused = image_cache_brake(stores, {**hostvars, "another": {}}, max_removal_percent=limit) != ""
    freed, cached = (sum(column) for column in zip(*caches, strict=True)) if caches else (0, 0)
    assert refused == (freed * 100 > cached * limit)
