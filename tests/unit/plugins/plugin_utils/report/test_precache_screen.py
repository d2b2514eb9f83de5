# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One screen shows which images are on how many hosts, what is not there and why, and what to type next."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.precache import read_by_source
from ansible_collections.stackops.nova.plugins.plugin_utils.report.precache_screen import precache_screen
from ansible_collections.stackops.nova.plugins.plugin_utils.report.text import columns
from ansible_collections.stackops.nova.tests.support.fleets import HOSTILE
from ansible_collections.stackops.nova.tests.support.precaches import FULL, GIB, fetched, present

NAMES = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=30), st.just("x" * 400), st.sampled_from("abc"))


def summary(*, check_mode: bool = False, hosts: int = 1, **more: Any) -> dict[str, Any]:
    """What is known of a run."""
    empty: dict[str, Any] = {"images": [], "fetched": [], "lacking": [], "unanswered": [], "waves": None}
    read = {"read_bytes": read_by_source(more.get("fetched", ()))}
    return {"check_mode": check_mode, "hosts": hosts, **empty, **read, **more}


def image(image_id: str = "one", **counts: int) -> dict[str, Any]:
    """An image of the fleet."""
    zero = dict.fromkeys(("fetched", "present", "refused", "failed", "elsewhere"), 0)
    return {"image_id": image_id, "image_name": f"image {image_id}", **zero, **counts}


@st.composite
def summaries(draw: st.DrawFn) -> dict[str, Any]:
    def some(item: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(item, max_size=12))

    counts = st.integers(0, 10_000)
    images = st.builds(
        lambda name, one, two, three: {**image(name, fetched=one, present=two, failed=three), "image_name": name},
        NAMES,
        counts,
        counts,
        counts,
    )
    got = st.builds(lambda host, name: {"host": host, **fetched("id"), "image_name": name}, NAMES, NAMES)
    lacking = st.builds(
        lambda host, name: {"host": host, **present("id"), "image_name": name, "reason": name * 3}, NAMES, NAMES
    )
    return summary(
        check_mode=draw(st.booleans()),
        hosts=draw(st.integers(1, 10_000)),
        images=some(images),
        fetched=some(got),
        lacking=some(lacking),
        waves=draw(st.none() | st.just(waves(*draw(st.lists(NAMES, max_size=12)), seconds=(1.0,) * 30))),
        unanswered=some(st.builds(lambda host, error: {"host": host, "error": error * 9}, NAMES, NAMES)),
    )


def test_dry_run_shows_what_a_run_would_fetch_and_that_it_did_not() -> None:
    shown = precache_screen(
        summary(
            check_mode=True,
            hosts=3,
            images=[image("one", fetched=2, elsewhere=1), image("two", present=3)],
            fetched=[{"host": host, **fetched()} for host in "ab"],
        )
    )
    assert shown.splitlines() == [
        "PRE-CACHE  3 hosts, 2 images",
        "  WOULD BE FETCHED: 2 files, 2.0 GiB on disk, 2.0 GiB from Glance. Nothing was",
        "  fetched: this was a dry run.",
        "",
        "IMAGES",
        "- image one (one): would be fetched by 2 hosts, would be shared with 1 host",
        "- image two (two): present on 3 hosts",
        "",
        "To fetch these images: the same command without --check",
    ]


def test_run_shows_what_it_fetched_and_how_long_nova_keeps_it() -> None:
    shown = precache_screen(
        summary(images=[image(fetched=1)], fetched=[{"host": "a", **fetched(source="file", allocated_bytes=GIB)}])
    )
    assert "FETCHED: 1 file, 1.0 GiB on disk, 0 B from Glance." in shown
    assert "- image one (one): fetched by 1 host" in shown
    assert "run it twice a day" in shown


def waves(*left_out: str, seconds: tuple[float, ...] = ()) -> dict[str, Any]:
    hosts = [{"host": host, "image_id": "one", "reason": "it reports another checksum"} for host in left_out]
    return {"number": 3, "seconds": list(seconds), "left_out": hosts}


def test_waves_are_shown_with_their_times_and_what_came_from_where() -> None:
    got = [{"host": "a", **fetched()}, *({"host": host, **fetched(source="peer")} for host in "bcd")]
    shown = precache_screen(
        summary(images=[image(fetched=4)], fetched=got, waves=waves("d", seconds=(75.2, 60.0, 130.0)))
    )
    text = " ".join(shown.split())
    assert "1.0 GiB from Glance, 3.0 GiB from other hosts, in 3 waves (1m 15s, 1m, 2m 10s)." in text
    assert "LEFT OUT" in shown
    assert "- d: one: it reports another checksum" in shown


def test_dry_run_of_waves_says_how_many_there_would_be() -> None:
    got = [{"host": "b", **fetched(source="peer")}]
    shown = precache_screen(summary(check_mode=True, images=[image(fetched=1)], fetched=got, waves=waves()))
    assert "0 B from Glance, 1.0 GiB from other hosts, in 3 waves. Nothing was fetched" in " ".join(shown.split())
    assert "LEFT OUT" not in shown


def test_fleet_that_has_all_images_is_shown_in_a_few_lines() -> None:
    assert precache_screen(summary(hosts=9, images=[image(present=9)])).splitlines() == [
        "PRE-CACHE  9 hosts, 1 image",
        "  All images are present. Nothing was fetched.",
        "",
        "IMAGES",
        "- image one (one): present on 9 hosts",
    ]


def test_same_refusal_of_many_hosts_is_one_item_with_its_reason() -> None:
    lacking = [
        {"host": f"cmp-{number}", **present(), "image_name": "image one", "reason": FULL} for number in range(40)
    ]
    shown = precache_screen(summary(hosts=40, images=[image(refused=40)], lacking=lacking))
    assert "!! NOT PRE-CACHED" in shown
    assert " ".join(shown.split()).count("It needs 2147483648 bytes") == 1
    assert "40 hosts (cmp-0, cmp-1, cmp-" in shown
    assert "All images are present" not in shown


def test_one_cause_for_all_hosts_without_an_answer_is_one_item() -> None:
    unanswered = [{"host": f"cmp-{number}", "error": "Glance is down. Start it."} for number in range(40)]
    shown = precache_screen(summary(hosts=40, unanswered=unanswered))
    assert shown.count("Glance is down.") == 1
    assert "40 without an answer" in shown


@given(summaries())
def test_page_fits_a_screen_whatever_the_names_are(made: dict[str, Any]) -> None:
    lines = precache_screen(made).split("\n")
    assert len(lines) <= 45
    assert all(line.isprintable() and columns(line) <= 78 for line in lines)
