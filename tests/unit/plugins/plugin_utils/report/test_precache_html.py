# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One page shows which images are on which hosts, what was fetched, and what is not there and why."""

from __future__ import annotations

import re
from html import unescape

import pytest

from ansible_collections.stackops.nova.plugins.plugin_utils.report.precache_html import render_precache_html
from ansible_collections.stackops.nova.tests.support.fleets import HOSTILE
from ansible_collections.stackops.nova.tests.support.precaches import (
    FULL,
    fetched,
    of_each_outcome,
    outcome,
    precached,
    present,
    refused,
    silent,
)


def words(page: str) -> str:
    """What a person reads on a page."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def rows(page: str, table: str) -> list[str]:
    """The words of each row of a table."""
    [body] = re.findall(rf'class="rows {table} unsorted">.*?<tbody[^>]*>(.*?)</tbody>', page, re.DOTALL)
    return [words(row) for row in re.findall(r"<tr.*?</tr>", body, re.DOTALL)]


def test_each_image_has_its_hosts_by_what_came_of_it_there() -> None:
    page = render_precache_html(of_each_outcome("x"))
    four, two, one, three = rows(page, "images")
    assert four == "four Failed 1x 0 0 0 1 0"
    assert two == "two Present 1x, 2x and 3x 3 0 0 0 0"
    assert one == "x Present 3x Fetched 1x Shared 2x one 1 1 1 0 0"
    assert three == "x Refused 1x three 0 0 0 0 1"


def test_each_host_has_its_images_and_those_that_need_a_person_come_first() -> None:
    silent_host, first, second, third = rows(render_precache_html(of_each_outcome("x")), "hosts")
    assert silent_host == "4x No answer not known" + 6 * " \N{EN DASH}"
    assert first == (
        "1x four failed: x two present x (one) fetched from Glance, 1.0 GiB x (three) refused: x "
        "storage shared with 1 host Incomplete 1 1 0 1 1 1.0 GiB"
    )
    assert second == "2x two present x (one) shared with 1x storage shared with 1 host Complete 1 0 1 0 0 0 B"
    assert third == "3x two present x (one) present Complete 2 0 0 0 0 0 B"


def test_waves_are_shown_with_their_times_and_who_was_left_out() -> None:
    made = precached(outcome("a", fetched=[fetched("one", source="peer")]))
    left_out = [{"host": "b", "image_id": "one", "reason": "it reports another checksum"}]
    waves = {"number": 2, "seconds": [75.0, 60.0], "left_out": left_out}
    text = words(render_precache_html({**made, "waves": waves}))
    assert "Waves 2 1m 15s, 1m" in text
    assert "0 B from Glance, 1.0 GiB from other hosts" in text
    assert "Hosts that served others no more" in text
    assert "it reports another checksum" in text
    assert "Nothing does." not in text
    assert "fetched from another host" in text


def test_page_of_hosts_that_serve_nobody_has_no_word_of_waves() -> None:
    text = words(render_precache_html(precached(outcome("a", fetched=[fetched("one")]))))
    assert not any(word in text for word in ("Waves", "other hosts", "served others"))


def test_bar_of_a_host_has_a_part_for_each_image_in_the_order_of_the_images() -> None:
    page = render_precache_html(of_each_outcome("x"))
    [drawn] = [svg for svg in re.findall(r'<svg class="bar".*?</svg>', page) if svg.count("<rect") == 4]
    assert re.findall(r'class="(\w+)" x="([\d.]+)%"', drawn) == [
        ("failed", "0.0"),
        ("present", "25.0"),
        ("fetched", "50.0"),
        ("refused", "75.0"),
    ]


def test_dry_run_is_worded_as_one() -> None:
    shown = words(render_precache_html(of_each_outcome("x", check_mode=True)))
    assert "Nothing was fetched: this was a dry run." in shown
    assert "Would not be pre-cached 2" in shown
    assert "Would be fetched 1.0 GiB 1 file, 1.0 GiB from Glance" in shown
    assert "would be fetched from Glance, 1.0 GiB" in shown
    assert "would be refused: x" in shown
    assert "Would be complete" in shown


def test_same_reason_on_many_hosts_is_one_item() -> None:
    shown = words(render_precache_html(precached(*(outcome(f"c{n}", refused=[refused()]) for n in range(5)))))
    assert f"Not pre-cached 5 Each reason says what to do. c0 and 4 more one {FULL}" in shown


def test_run_in_which_all_is_present_needs_no_person() -> None:
    shown = words(render_precache_html(precached(outcome(present=[present()]))))
    assert "Nothing does. No image was refused or failed, and each host answered." in shown


def test_run_without_an_answer_has_a_page() -> None:
    assert "No image was looked for." in words(render_precache_html(precached(silent("a"))))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_name_is_shown_and_changes_nothing_else(name: str) -> None:
    hostile, harmless = (
        re.findall(r"<[a-z/!][^>]*>", render_precache_html(of_each_outcome(each))) for each in (name, "name")
    )
    assert hostile == harmless


def test_page_loads_nothing_and_runs_no_script() -> None:
    page = render_precache_html(of_each_outcome("x"))
    assert "default-src 'none'; style-src 'sha256-" in page
    assert not re.search(r"<script|<link|<img|src=|url\((?!#)", page)


def test_page_of_2000_hosts_with_100_images_is_smaller_than_5_megabytes() -> None:
    found = {"fetched": [fetched("one")], "present": [present(f"image-{n}") for n in range(99)]}
    assert len(render_precache_html(precached(*(outcome(f"c{n:04}", **found) for n in range(2000))))) < 5_000_000
