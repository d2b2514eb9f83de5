# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An image is found by each way to name it, and an entry that means no image is reported."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.images import (
    GlanceImages,
    find_images,
    read_glance_images,
    unknown_image,
)
from ansible_collections.stackops.nova.tests.support.host import Host

ONE, TWO = "0b0a3c9f-6f6e-4f0e-8b1a-5d2c7f1e9a01", "1b0a3c9f-6f6e-4f0e-8b1a-5d2c7f1e9a01"
LISTED = read_glance_images([{"id": ONE, "name": "Ubuntu 24.04", "status": "active"}, {"id": TWO, "name": "copy"}])


class TestGlanceImages:
    def test_list_may_be_of_ids_and_of_records(self) -> None:
        images = read_glance_images([ONE.upper(), {"id": TWO, "name": "a"}, {"id": "3", "name": None}])
        assert images == GlanceImages(frozenset({ONE, TWO, "3"}), {"a": frozenset({TWO})}, {TWO: "a"})

    @pytest.mark.parametrize("record", [{}, {"name": "a"}, {"id": None}, {"id": 7}, 7, None, ""])
    def test_record_without_an_id_is_refused(self, record: Any) -> None:
        with pytest.raises(ImageCacheError, match="glance_images has a record without an id"):
            read_glance_images([record])


class TestFinding:
    @pytest.mark.parametrize(
        "entry", [ONE, ONE.upper(), "Ubuntu 24.04", {"id": ONE.upper(), "name": "whatever", "size": 1}]
    )
    def test_image_is_found_by_its_id_its_name_and_its_record(self, entry: object) -> None:
        assert find_images([entry], LISTED) == ([ONE], [])

    def test_id_needs_no_list(self) -> None:
        assert find_images([ONE.upper(), {"id": TWO}], None) == ([ONE, TWO], [])

    def test_name_of_several_images_means_all_of_them(self) -> None:
        copies = read_glance_images([{"id": ONE, "name": "copy"}, {"id": TWO, "name": "copy"}])
        assert find_images(["copy"], copies) == ([ONE, TWO], [])

    def test_name_that_looks_like_another_id_means_both(self) -> None:
        images = read_glance_images([{"id": ONE, "name": TWO}])
        assert find_images([TWO], images) == ([ONE, TWO], [])

    def test_id_of_another_form_is_one_if_it_is_listed(self) -> None:
        assert find_images(["17"], read_glance_images(["17"])) == (["17"], [])

    @pytest.mark.parametrize("listed", [None, LISTED])
    @pytest.mark.parametrize("name", ["ubuntu 24.04", "Ubuntu", "", ONE[:-1], f"{ONE}0", f" {ONE}"])
    def test_entry_that_means_no_image_is_reported(self, name: str, listed: GlanceImages | None) -> None:
        assert find_images([name], listed) == ([], [name])

    def test_record_without_an_id_is_refused(self) -> None:
        with pytest.raises(ImageCacheError, match="keep_images has a record without an id"):
            find_images([{"name": "copy"}], LISTED)


names = st.sampled_from(["a", "b", "{{ 1 }}", "\x1b[31m", ONE])
ids = st.uuids().map(str)
records = st.lists(st.fixed_dictionaries({"id": ids}, optional={"name": names}), max_size=5)


@given(records, st.lists(st.one_of(ids, ids.map(str.upper), names), max_size=5), st.data())
def test_every_image_that_is_meant_is_found_and_nothing_is_taken_in_silence(
    listed: list[dict[str, str]], others: list[str], data: st.DataObject
) -> None:
    mine = data.draw(st.lists(st.sampled_from(listed), max_size=3)) if listed else []
    found, unknown = find_images([*mine, *others], read_glance_images(listed))
    meant = {record["id"] for record in mine}
    meant |= {record["id"] for record in listed if record.get("name") in others}
    is_id = {other: other.lower() for other in others if other.count("-") == 4}
    assert set(found) == meant | set(is_id.values())
    assert set(unknown) == {other for other in others if other not in is_id} - {record.get("name") for record in listed}


class TestOptions:
    """What the modules make of it."""

    def test_image_is_kept_by_its_name(self, host: Host) -> None:
        record = {"id": ONE, "name": "warm"}
        kept = host.audit(keep_images=["warm"], glance_images=[record], shared_storage=True)
        assert kept.facts["for_members"]["keep_images"] == [ONE]

    @pytest.mark.parametrize(
        ("listed", "why"), [(None, "without glance_images no name is known"), ([ONE], "no image of glance_images has")]
    )
    def test_name_that_keeps_nothing_is_refused(self, host: Host, listed: list[str] | None, why: str) -> None:
        with pytest.raises(ImageCacheError, match=f"keep_images has 'warm', which is no image's id, and {why}"):
            host.prune(keep_images=["warm"], glance_images=listed)

    def test_text_of_an_entry_is_shown_as_it_can_be(self) -> None:
        assert "\x1b" not in unknown_image("\x1b[31m", is_listed=True)
