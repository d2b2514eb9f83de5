# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.plugin_utils.report.alarms import fleet_alarms
from ansible_collections.stackops.nova.plugins.plugin_utils.report.html import render_html
from ansible_collections.stackops.nova.tests.support.fleets import (
    BASE,
    GIB,
    HOSTILE,
    answer,
    done,
    fleet,
    image,
    of_images,
    orphan,
    silent,
    storage,
    troubled,
)


class Page(HTMLParser):
    """What a browser would see: the tags, the text, and what is in the tags that hold no markup."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.inside: dict[str, str] = {}
        self.data: dict[str, Any] = {}
        self._tag = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._tag = "json" if dict(attrs).get("type") == "application/json" else tag

    def handle_endtag(self, _tag: str) -> None:
        self._tag = ""

    def handle_data(self, data: str) -> None:
        if self._tag in ("style", "script"):
            self.inside[self._tag] = data
        elif self._tag == "json":
            self.data = json.loads(data)
        else:
            self.text.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    def structure(self) -> Counter[tuple[str, frozenset[tuple[str, str | None]]]]:
        return Counter((tag, frozenset(attributes.items())) for tag, attributes in self.tags)


def shape(data: Any) -> Any:
    """What a block of JSON has in the place of each text: names, and nothing that comes from one."""
    if isinstance(data, dict):
        return {key: shape(value) for key, value in data.items()}
    if isinstance(data, list):
        return [shape(value) for value in data]
    return type(data)


def selection_of(name: str) -> dict[str, Any]:
    return {"expression": name, "result": [{name: name, "list": [name], "none": None}], "error": name}


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_name_does_not_change_the_tags_of_the_page(name: str, check_mode: bool) -> None:
    """Whatever things are called, the page has the tags and attributes that it has with harmless names."""
    harmless = Page(render_html(troubled("name", check_mode=check_mode), selection_of("name")))
    hostile = Page(render_html(troubled(name, check_mode=check_mode), selection_of(name)))
    assert hostile.structure() == harmless.structure()
    assert hostile.inside == harmless.inside
    assert shape(hostile.data) == shape(harmless.data)


@settings(max_examples=50)
@given(st.text(st.characters() | st.sampled_from("<>&\"'{}%#/\\-!"), min_size=1))
def test_any_name_does_not_change_the_tags_of_the_page(name: str) -> None:
    harmless = Page(render_html(troubled("name"), selection_of("name")))
    assert Page(render_html(troubled(name), selection_of(name))).structure() == harmless.structure()


@settings(max_examples=50)
@given(st.text(st.characters()))
def test_unprintable_characters_are_not_in_the_page(name: str) -> None:
    page = render_html(troubled(name), selection_of(name))
    page.encode("utf-8")
    assert all(character == "\n" or character.isprintable() for character in page)


def test_markup_in_a_name_is_shown_as_text() -> None:
    page = Page(render_html(troubled("<b>&amp; {{ 7*7 }}")))
    assert "1<b>&amp; {{ 7*7 }}" in page.text
    assert "49" not in page.words


def test_direction_override_in_a_name_is_shown_as_an_escape() -> None:
    assert "1\\u202egnp.exe" in Page(render_html(troubled("\u202egnp.exe"))).text


def test_long_name_is_shortened() -> None:
    page = Page(render_html(troubled("x" * 10_000)))
    assert max(map(len, page.text)) < 1000


class TestPolicy:
    """The page asks for nothing, and runs nothing but its own script."""

    page = Page(render_html(troubled("name"), selection_of("name")))

    def test_policy_of_the_page_allows_its_own_style_and_script_only(self) -> None:
        policies = [
            tag["content"] for name, tag in self.page.tags if tag.get("http-equiv") == "Content-Security-Policy"
        ]
        assert policies == [
            f"default-src 'none'; style-src '{self.digest('style')}'; script-src '{self.digest('script')}'; "
            f"base-uri 'none'; form-action 'none'"
        ]

    def digest(self, tag: str) -> str:
        return "sha256-" + base64.b64encode(hashlib.sha256(self.page.inside[tag].encode()).digest()).decode()

    def test_page_has_one_style_one_script_and_a_block_of_data(self) -> None:
        names = [name for name, _attributes in self.page.tags]
        scripts = [attributes for name, attributes in self.page.tags if name == "script"]
        assert names.count("style") == 1
        assert scripts == [{"type": "application/json"}, {}]

    def test_page_refers_to_no_other_resource(self) -> None:
        assert not {"link", "img", "iframe", "object", "embed", "form", "base"} & {
            name for name, _attributes in self.page.tags
        }
        for _name, attributes in self.page.tags:
            assert not {"src", "style", "action", "srcset"} & set(attributes)
            assert not [name for name in attributes if name.startswith("on")]
            assert attributes.get("href", "#").startswith("#")
        assert not re.search(r"@import|url\((?!#)|\bfetch\b|import\(|XMLHttp", "".join(self.page.inside.values()))

    def test_links_of_the_page_lead_to_its_sections(self) -> None:
        ids = [attributes["id"] for _name, attributes in self.page.tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        named = [value for _name, tag in self.page.tags for key, value in tag.items() if key == "aria-labelledby"]
        links = [tag["href"][1:] for _name, tag in self.page.tags if "href" in tag]
        assert {*named, *links} <= set(ids)


class TestContents:
    def test_alarms_come_first_and_the_worst_above_the_others(self) -> None:
        words = Page(render_html(troubled("name"))).words
        places = [
            words.index(text)
            for text in (
                "Warning Problems of the fleet 1",
                "Critical Missing files 1",
                "Critical Corrupt files 1",
                "Warning Failed removals 1",
                "Warning Refused 1",
                "Warning Hosts without an answer 2",
                "Note Orphans 1",
                "The fleet Freed",
                "The fullest disks first.",
            )
        ]
        assert places == sorted(places)

    def test_fleet_without_alarms_shows_that_nothing_needs_a_person(self) -> None:
        words = Page(render_html(fleet(storage(answer(), "a")))).words
        assert "Nothing does. No file is missing" in words

    @pytest.mark.parametrize(
        ("seen", "expected"),
        [
            (fleet(storage(answer(), "a")), ["Audit of 1 host", "A prune would free 30 GiB 3 files removable"]),
            (
                fleet(storage(answer(**done(BASE)), "a"), check_mode=True),
                [
                    "Dry run of 1 host",
                    "Would be freed 10 GiB 1 file",
                    "a Dry run",
                    f"Would be removed a 1 file, 10 GiB {BASE}",
                ],
            ),
            (
                fleet(storage(answer(**done(BASE)), "a")),
                ["Prune of 1 host", "Freed 10 GiB 1 file", "a Pruned", f"Removed a 1 file, 10 GiB {BASE}"],
            ),
        ],
    )
    def test_page_distinguishes_audit_dry_run_and_prune(self, seen: dict[str, Any], expected: list[str]) -> None:
        words = Page(render_html(seen)).words
        assert [text for text in expected if text not in words] == []

    def test_numbers_of_a_bar_are_in_the_page_as_text(self) -> None:
        words = Page(render_html(fleet(storage(answer(), "a")))).words
        assert "a Audited 96 % full 20 GiB 30 GiB 90 GiB 40 GiB 20 GiB 30 GiB" in words

    def test_fullest_host_is_first_in_the_table_and_one_without_an_answer_last(self) -> None:
        storages = [storage(answer("a"), "a", free_bytes=9 * GIB), storage(answer("b"), "b", free_bytes=GIB)]
        table = Page(render_html(fleet(*storages, silent=[silent("c")]))).words.partition("The fullest disks first.")[2]
        assert (
            table.index("b Audited 100 % full") < table.index("a Audited 98 % full") < table.index("c Unreachable not")
        )

    def test_fullest_disk_is_shown_with_what_a_prune_would_free_of_it(self) -> None:
        words = Page(render_html(fleet(storage(answer("a"), "a"), silent=[silent("c")]))).words
        assert "Fullest disk 96 % a: 20 GiB free, 30 GiB removable" in words

    def test_fleet_without_an_answer_has_a_page(self) -> None:
        words = Page(render_html(fleet(silent=[silent("a")]))).words
        assert "a Unreachable not known" in words
        assert "Images There are none." in words

    def test_removed_file_is_shown_with_its_size_and_reason(self) -> None:
        file = {"name": BASE, "state": "removable", "reasons": ["unknown"], "allocated_bytes": 3 * GIB}
        page = Page(render_html(fleet(storage(answer("a", **done(BASE, files=[file])), "a"))))
        assert f"{BASE} 3.0 GiB, unknown" in page.words

    def test_items_that_are_not_shown_are_counted(self) -> None:
        orphans = [orphan(f"orphan-{number}") for number in range(60)]
        words = Page(render_html(fleet(storage(answer(orphans=orphans), "a")))).words
        assert "Orphans 60" in words
        assert "44 more a orphan-6" in words
        assert "and 10 more, in report.json" in words

    def test_query_that_selects_values_is_shown_as_a_list(self) -> None:
        selection = {"expression": "hosts[].name", "result": ["a", "b"], "error": None}
        assert "By the query hosts[].name : 2 results." in Page(render_html(troubled("x"), selection)).words


def bars(seen: dict[str, Any]) -> list[list[tuple[str, float, float]]]:
    """The parts of each bar, that of the fleet first."""
    found: list[list[tuple[str, float, float]]] = []
    for tag, attributes in Page(render_html(seen)).tags:
        if tag == "svg" and (attributes["class"] or "").startswith("bar"):
            found.append([])
        elif tag == "rect" and (attributes.get("x") or "").endswith("%"):
            found[-1].append((attributes["class"], float(attributes["x"][:-1]), float(attributes["width"][:-1])))
    return found


class TestBars:
    def test_bar_of_a_host_is_its_disk_and_draws_no_byte_twice(self) -> None:
        whole, disk = bars(fleet(storage(answer("a"), "a")))
        # Of 500 GiB, 390 are outside of the cache and 20 free.
        assert [(state, round(width)) for state, _start, width in disk] == [
            ("elsewhere", 78), ("corrupt", 1), ("active", 8), ("too_young", 4), ("removable", 6),
        ]  # fmt: skip
        assert [(state, round(width)) for state, _start, width in whole] == [
            ("corrupt", 1), ("active", 43), ("too_young", 22), ("removable", 33),
        ]  # fmt: skip

    def test_host_with_a_file_system_without_size_has_the_bar_of_its_cache(self) -> None:
        _whole, of_cache = bars(fleet(storage(answer("a"), "a", free_bytes=None, total_bytes=None)))
        assert of_cache[0][0] == "corrupt"
        assert round(of_cache[-1][1] + of_cache[-1][2]) == 100

    @settings(max_examples=50)
    @given(st.dictionaries(st.sampled_from(["active", "removable", "too_young", "corrupt"]), st.integers(0, 1 << 62)))
    def test_parts_of_a_bar_stay_within_its_frame(self, size: dict[str, int]) -> None:
        image_cache = answer()
        size = {**dict.fromkeys(("active", "removable", "too_young", "other", "corrupt"), 0), **size}
        image_cache["summary"]["bytes"] = size
        image_cache["summary"]["total"]["allocated_bytes"] = size["active"] + size["removable"] + size["too_young"]
        for parts in bars(fleet(storage(image_cache, "a"))):
            for _state, start, width in parts:
                assert start >= 0
                assert width > 0
                assert start + width <= 100.05


class TestImages:
    used = image(1, gib=4, instances=3)
    unused = image("old", gib=8, removable_gib=8, in_glance=False)

    def test_images_are_shown_with_where_they_are_and_what_uses_them(self) -> None:
        storages = [
            storage(answer("a", images=[self.used, self.unused]), "a"),
            storage(answer("b", images=[self.used]), "b", free_bytes=GIB),
        ]
        words = Page(render_html(fleet(*storages))).words
        images = words.partition("The most popular images first.")[2]
        assert (
            f"image-1 b 4.0 GiB, 3 instances a 4.0 GiB, 3 instances {self.used['image_id']} 8.0 GiB 6 2 0 B 1d ago"
            in images
        )
        assert (
            f"image-old a 8.0 GiB, 8.0 GiB removable {self.unused['image_id']}, not in Glance 8.0 GiB 0 1 8.0 GiB"
            in images
        )
        assert "b image-1 4.0 GiB, 3 instances Audited" in words

    def test_image_without_a_name_is_shown_by_what_is_known(self) -> None:
        images = [image(1, image_name=None), image(2, image_name=None, image_id=None, newest_mtime=None)]
        words = Page(render_html(fleet(storage(answer("a", images=images), "a")))).words
        assert f"{images[0]['image_id']} a 10 GiB {images[0]['fingerprint']} 10 GiB 0 1" in words
        assert f"{images[1]['fingerprint']} a 10 GiB unknown image 10 GiB 0 1 0 B \u2013" in words

    def test_storages_that_gave_no_list_of_images_are_counted(self) -> None:
        storages = [storage(answer("a", images=[self.used]), "a"), storage(answer("b"), "b")]
        assert "1 storage of 2 gave no list of images" in Page(render_html(fleet(*storages))).words
        assert "gave no list" not in Page(render_html(fleet(storages[0]))).words

    def test_rows_beyond_the_first_are_in_the_data_of_the_page(self) -> None:
        page = Page(render_html(of_images(120, 60)))
        rows = [attributes for name, attributes in page.tags if name == "tr" and attributes]
        assert len(rows) == 100 + 50 + 2
        assert (len(page.data["hosts"]), len(page.data["images"])) == (120, 60)
        assert "The first 100 of 120 hosts." in page.words
        assert "The first 50 of 60 images." in page.words


class TestAges:
    def test_bytes_that_other_ages_would_free_are_in_a_table(self) -> None:
        words = Page(render_html(fleet(storage(answer("a"), "a")))).words
        assert (
            "Minimum age A prune would free Set for 1h 30 GiB resized files 1d 30 GiB original files 7d 12 GiB" in words
        )

    def test_fleet_without_an_answer_has_no_curve(self) -> None:
        assert "Minimum age" not in Page(render_html(fleet(silent=[silent("a")]))).words


def test_page_of_2000_hosts_with_200_images_is_smaller_than_5_megabytes() -> None:
    assert len(render_html(of_images(2000, 200)).encode()) < 5_000_000


def test_remedies_are_shown_to_their_last_word() -> None:
    seen = troubled("x")
    words = Page(render_html(seen)).words
    assert [alarm.advice for alarm in fleet_alarms(seen) if alarm.advice not in words] == []


def test_reason_of_600_characters_is_shown_to_its_last_word() -> None:
    reason = f"{'It is not certain which files are in use. ' * 14}Set image_cache_storage_members."
    assert reason in Page(render_html(fleet(storage(answer("a", unknown_use=[reason]), "a")))).words


def test_problem_of_the_fleet_is_shown_as_a_sentence_above_all_else() -> None:
    seen = fleet(storage(answer(), "a"), problems=["The Image API did not answer. It timed out. Try again."])
    words = Page(render_html(seen)).words
    assert "The Image API did not answer. It timed out. Try again." in words[: words.index("The fleet A prune")]
    assert "Nothing does." not in words


def test_shared_storage_is_shown_with_each_of_its_hosts_and_once_by_itself() -> None:
    page = Page(render_html(fleet(storage(answer("a"), "a", "b", "c", id="nfs4:x"))))
    assert page.words.count("storage shared with 2 hosts") == 3
    assert "nfs4:x 90 GiB cached, shared by 3 hosts, seen and pruned from a a, b, c" in page.words


def test_bytes_that_are_kept_as_pre_cached_are_shown_for_the_fleet_and_for_each_host() -> None:
    found = answer("a")
    found["summary"]["precached"] = {"files": 3, "allocated_bytes": 12 * GIB}
    words = Page(render_html(fleet(storage(found, "a", "b", id="nfs4:x"), storage(answer("c"), "c")))).words
    assert words.count("storage shared with 1 host, 12 GiB kept as pre-cached") == 2
    assert "Kept as pre-cached 12 GiB 3 unused files" in words
    assert "pre-cached" not in Page(render_html(fleet(storage(answer("c"), "c")))).words
