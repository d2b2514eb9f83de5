# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.plugin_utils.report_html import render_html
from ansible_collections.stackops.nova.tests.support.fleets import (
    BASE,
    GIB,
    HOSTILE,
    answer,
    audited,
    done,
    fleet_of,
    pruned,
    troubled,
    unreachable,
)


class Page(HTMLParser):
    """What a browser would see: the tags, the text, and what is in the tags that hold no markup."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.inside: dict[str, str] = {}
        self._tag = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._tag = tag

    def handle_endtag(self, _tag: str) -> None:
        self._tag = ""

    def handle_data(self, data: str) -> None:
        if self._tag in ("style", "script"):
            self.inside[self._tag] = data
        else:
            self.text.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    def structure(self) -> Counter[tuple[str, frozenset[tuple[str, str | None]]]]:
        return Counter((tag, frozenset(attributes.items())) for tag, attributes in self.tags)


def selection_of(name: str) -> dict[str, Any]:
    return {"expression": name, "result": [{name: name, "list": [name], "none": None}], "error": name}


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_changes_the_page(name: str, check_mode: bool) -> None:
    """Whatever things are called, the page has the tags and attributes that it has with harmless names."""
    harmless = Page(render_html(troubled("name", check_mode=check_mode), selection_of("name")))
    hostile = Page(render_html(troubled(name, check_mode=check_mode), selection_of(name)))
    assert hostile.structure() == harmless.structure()
    assert hostile.inside == harmless.inside


@settings(max_examples=50)
@given(st.text(st.characters() | st.sampled_from("<>&\"'{}%#/\\-!"), min_size=1))
def test_neither_does_any_other(name: str) -> None:
    harmless = Page(render_html(troubled("name"), selection_of("name")))
    assert Page(render_html(troubled(name), selection_of(name))).structure() == harmless.structure()


@settings(max_examples=50)
@given(st.text(st.characters()))
def test_only_what_can_be_seen_is_shown(name: str) -> None:
    page = render_html(troubled(name), selection_of(name))
    page.encode("utf-8")
    assert all(character == "\n" or character.isprintable() for character in page)


def test_a_name_is_shown_as_it_is() -> None:
    page = Page(render_html(troubled("<b>&amp; {{ 7*7 }}")))
    assert "1<b>&amp; {{ 7*7 }}" in page.text
    assert "49" not in page.words


def test_what_turns_text_around_is_shown_as_an_escape() -> None:
    assert "1\\u202egnp.exe" in Page(render_html(troubled("\u202egnp.exe"))).text


def test_a_long_name_is_cut() -> None:
    page = Page(render_html(troubled("x" * 10_000)))
    assert max(map(len, page.text)) < 1000


class TestPolicy:
    """The page asks for nothing, and runs nothing but its own script."""

    page = Page(render_html(troubled("name"), selection_of("name")))

    def test_no_network_no_inline_handlers_no_other_scripts(self) -> None:
        policies = [
            tag["content"] for name, tag in self.page.tags if tag.get("http-equiv") == "Content-Security-Policy"
        ]
        assert policies == [
            f"default-src 'none'; style-src '{self.digest('style')}'; script-src '{self.digest('script')}'; "
            f"base-uri 'none'; form-action 'none'"
        ]

    def digest(self, tag: str) -> str:
        return "sha256-" + base64.b64encode(hashlib.sha256(self.page.inside[tag].encode()).digest()).decode()

    def test_it_has_one_style_and_one_script(self) -> None:
        names = [name for name, _attributes in self.page.tags]
        assert (names.count("style"), names.count("script")) == (1, 1)

    def test_it_needs_nothing_else(self) -> None:
        assert not {"link", "img", "iframe", "object", "embed", "form", "base"} & {
            name for name, _attributes in self.page.tags
        }
        for _name, attributes in self.page.tags:
            assert not {"src", "style", "action", "srcset"} & set(attributes)
            assert not [name for name in attributes if name.startswith("on")]
            assert attributes.get("href", "#").startswith("#")
        assert not re.search(r"@import|url\((?!#)|fetch|import\(|XMLHttp", "".join(self.page.inside.values()))

    def test_links_lead_somewhere(self) -> None:
        ids = [attributes["id"] for _name, attributes in self.page.tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        named = [value for _name, tag in self.page.tags for key, value in tag.items() if key == "aria-labelledby"]
        links = [tag["href"][1:] for _name, tag in self.page.tags if "href" in tag]
        assert {*named, *links} <= set(ids)


class TestContents:
    def test_what_needs_a_person_comes_first_and_the_worst_above_all(self) -> None:
        words = Page(render_html(troubled("name"))).words
        places = [
            words.index(text)
            for text in (
                "Critical Missing backing files 1",
                "Critical Corrupt base files 1",
                "Warning Removals that failed 1",
                "Warning Refusals 1",
                "Warning Hosts without answer 2",
                "Note Orphans 1",
                "The fleet Freed",
                "Disk space by host",
            )
        ]
        assert places == sorted(places)

    def test_a_fleet_in_good_health_says_so(self) -> None:
        words = Page(render_html(fleet_of({"a": audited(answer())}))).words
        assert "Nothing does. No file is missing" in words

    @pytest.mark.parametrize(
        ("fleet", "expected"),
        [
            (fleet_of({"a": audited(answer())}), ["Audit of 1 host", "A prune would free 30 GiB 3 files unused"]),
            (
                fleet_of({"a": pruned(answer(**done(BASE)))}, check_mode=True),
                [
                    "Dry run of 1 host",
                    "Would be freed 10 GiB 1 file",
                    "a Rehearsed",
                    f"Would go a 1 file, 10 GiB {BASE}",
                ],
            ),
            (
                fleet_of({"a": pruned(answer(**done(BASE)))}),
                ["Prune of 1 host", "Freed 10 GiB 1 file", "a Pruned", f"Went a 1 file, 10 GiB {BASE}"],
            ),
        ],
    )
    def test_it_says_what_was_done_and_what_only_would_be(self, fleet: dict[str, Any], expected: list[str]) -> None:
        words = Page(render_html(fleet)).words
        assert [text for text in expected if text not in words] == []

    def test_the_numbers_of_a_bar_are_there_as_text(self) -> None:
        words = Page(render_html(fleet_of({"a": audited(answer())}))).words
        assert "a Audited 90 GiB 40 GiB 20 GiB 30 GiB 1.0 GiB 30 GiB 20 GiB" in words

    def test_a_host_without_answer_is_in_the_table_first(self) -> None:
        page = Page(render_html(fleet_of({"a": audited(answer()), "b": unreachable()})))
        table = page.words.partition("Disk free")[2]
        assert table.index("b Unreachable not known") < table.index("a Audited")

    @pytest.mark.parametrize("trouble", ["missing", "corrupt"])
    def test_so_is_one_whose_guests_are_in_trouble(self, trouble: str) -> None:
        lost = {"missing": [{"backing_file": BASE, "instances": ["c"]}], "corrupt": [{"name": BASE, "used_by": ["c"]}]}
        hosts = {"a": audited(answer("a")), "b": audited(answer("b", **{trouble: lost[trouble]}))}
        table = Page(render_html(fleet_of(hosts))).words.partition("Disk free")[2]
        assert table.index("b Audited") < table.index("a Audited")

    def test_what_went_is_told_with_its_size_and_the_reason(self) -> None:
        file = {"name": BASE, "state": "removable", "reasons": ["unknown"], "allocated_bytes": 3 * GIB}
        fleet = fleet_of({"a": pruned(answer("a", **done(BASE, files=[file])))})
        assert f"{BASE} 3.0 GiB, unknown" in Page(render_html(fleet)).words

    def test_what_is_left_out_is_counted(self) -> None:
        orphans = [f"orphan-{number}" for number in range(60)]
        words = Page(render_html(fleet_of({"a": audited(answer(orphans=orphans))}))).words
        assert "Orphans 60" in words
        assert "44 more a orphan-6" in words
        assert "and 10 more, in report.json" in words

    def test_a_query_that_selects_values_is_a_list(self) -> None:
        selection = {"expression": "hosts[].name", "result": ["a", "b"], "error": None}
        assert "By the query hosts[].name : 2 results." in Page(render_html(troubled("x"), selection)).words


def bars(fleet: dict[str, Any]) -> list[list[tuple[str, float, float]]]:
    """The parts of each bar, that of the fleet first."""
    found: list[list[tuple[str, float, float]]] = []
    for tag, attributes in Page(render_html(fleet)).tags:
        if tag == "svg" and (attributes["class"] or "").startswith("bar"):
            found.append([])
        elif tag == "rect" and (attributes.get("x") or "").endswith("%"):
            found[-1].append((attributes["class"], float(attributes["x"][:-1]), float(attributes["width"][:-1])))
    return found


class TestBars:
    def test_hosts_have_one_scale_and_no_byte_is_drawn_twice(self) -> None:
        small = answer("b")
        small["summary"]["bytes"] = {"active": 9 * GIB, "removable": 0, "too_young": 0, "other": 0, "corrupt": 0}
        small["summary"]["total"]["allocated_bytes"] = 9 * GIB
        fleet, large_bar, small_bar = bars(fleet_of({"a": audited(answer("a")), "b": audited(small)}))
        assert [(state, round(width)) for state, _start, width in large_bar] == [
            ("corrupt", 1), ("active", 43), ("too_young", 22), ("removable", 33),
        ]  # fmt: skip
        assert small_bar == [("active", 0.0, 10.0)]
        assert len(fleet) == 4

    @settings(max_examples=50)
    @given(st.dictionaries(st.sampled_from(["active", "removable", "too_young", "corrupt"]), st.integers(0, 1 << 62)))
    def test_no_bar_leaves_its_frame(self, size: dict[str, int]) -> None:
        image_cache = answer()
        size = {**dict.fromkeys(("active", "removable", "too_young", "other", "corrupt"), 0), **size}
        image_cache["summary"]["bytes"] = size
        image_cache["summary"]["total"]["allocated_bytes"] = size["active"] + size["removable"] + size["too_young"]
        for parts in bars(fleet_of({"a": audited(image_cache)})):
            for _state, start, width in parts:
                assert start >= 0
                assert width > 0
                assert start + width <= 100.05


def test_a_thousand_hosts_fit() -> None:
    fleet = fleet_of({f"compute-{number}": pruned(answer(str(number), **done(BASE))) for number in range(1000)})
    assert len(render_html(fleet).encode()) < 2 << 20
