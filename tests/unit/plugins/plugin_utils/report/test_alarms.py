# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.plugin_utils.report.alarms import (
    Alarm,
    AlarmKind,
    Item,
    Level,
    fleet_alarms,
    grouped,
    meaning_of,
    storage_alarms,
)
from ansible_collections.stackops.nova.plugins.plugin_utils.report.html import render_html
from ansible_collections.stackops.nova.plugins.plugin_utils.report.prometheus import metrics_of, render_metrics
from ansible_collections.stackops.nova.plugins.plugin_utils.report.screen import fleet_screen
from ansible_collections.stackops.nova.plugins.plugin_utils.report.table import storage_page
from ansible_collections.stackops.nova.tests.support.fleets import (
    BASE,
    GIB,
    answer,
    done,
    fleet,
    orphan,
    silent,
    storage,
    troubled,
    troubled_answer,
    verified,
)

COMMAND = "ansible-playbook stackops.nova.restore"
COUNTS = st.integers(0, 3)


def test_fleet_in_trouble_has_each_kind_of_alarm_once_and_in_order() -> None:
    assert [alarm.kind for alarm in fleet_alarms(troubled("x"))] == list(AlarmKind)


def test_fleet_without_trouble_has_no_alarms() -> None:
    assert fleet_alarms(fleet(storage(answer(), "a"))) == []


@pytest.mark.parametrize(
    ("key", "found", "item"),
    [
        ("missing", {"backing_file": "/a", "instances": ["b", "c"]}, Item(("h",), "/a", ("b", "c"))),
        ("corrupt", {"name": "a", "used_by": ["b"]}, Item(("h",), "a", ("b",))),
        ("corrupt", {"name": "a", "used_by": []}, Item(("h",), "a", (), "no known instance")),
        (
            "orphans",
            orphan("a", allocated_bytes=3 * GIB, disks=1, why="Why."),
            Item(("h",), "a", error="3.0 GiB, 1 disk. Why."),
        ),
        ("orphans", orphan("a", allocated_bytes=None, disks=None, why="Why."), Item(("h",), "a", error="Why.")),
    ],
)
def test_item_names_its_host_its_file_and_the_instances(key: str, found: object, item: Item) -> None:
    assert storage_alarms([storage(answer(**{key: [found]}), "h")]) == [Alarm(AlarmKind(key), [item], 1)]


@pytest.mark.parametrize(
    ("name", "replaced", "kind"),
    [
        ("swap_512", False, AlarmKind.TEMPLATE),
        ("ephemeral_1_40d1d2c", False, AlarmKind.TEMPLATE),
        (BASE, True, AlarmKind.REPLACED),
        ("swap_512", True, AlarmKind.REPLACED),
        (BASE, False, AlarmKind.MISSING),
    ],
)
def test_missing_file_has_the_alarm_with_the_remedy(name: str, replaced: bool, kind: AlarmKind) -> None:
    lost = {"backing_file": f"/cache/{name}", "instances": ["guest"], "replaced": replaced}
    assert storage_alarms([storage(answer(missing=[lost]), "h")]) == [
        Alarm(kind, [Item(("h",), f"/cache/{name}", ("guest",))], 1)
    ]


@pytest.mark.parametrize(
    ("guests", "host", "replaced", "text"),
    [
        (["one"], "h", False, f"until one stops: do not stop it, and run {COMMAND} --limit h"),
        (["one", "two"], "", False, f"until one and two stop: do not stop them, and run {COMMAND}"),
        (["one"], "h", True, f"run {COMMAND} --limit h -e image_cache_restore_states=replaced"),
    ],
)
def test_file_that_guests_still_have_open_shows_until_when_and_what_to_type(
    guests: list[str], host: str, replaced: bool, text: str
) -> None:
    lost = missing_file(BASE, guests, replaced=replaced)
    [alarm] = storage_alarms([storage(answer(missing=[lost]), host)])
    assert alarm.items[0].more.startswith("recoverable until")
    assert alarm.items[0].more.endswith(f"{text}; also needed by a guest")


def test_screen_table_and_page_show_what_to_type() -> None:
    found = answer(missing=[missing_file(BASE, ["one"])])
    made = fleet(storage(found, "h"), storage(answer(), "i"))
    for shown in (fleet_screen(made), storage_page(found), render_html(made)):
        text = " ".join(shown.replace("!!", "").split())
        assert f"recoverable until one stops: do not stop it, and run {COMMAND}" in text


def in_glance(name: str, host: str = "h") -> dict[str, Any]:
    """A missing file that no guest has open, and whose image Glance has."""
    source = {"recoverable_from": "glance", "image_id": f"image-{name}", "recoverable_on": host}
    return {**missing_file(name), **source}


def test_file_that_glance_has_shows_what_to_type_on_screen_in_table_and_on_the_page() -> None:
    found = answer(missing=[in_glance("1")])
    made = fleet(storage(found, "h"), storage(answer(), "i"))
    for shown in (fleet_screen(made), storage_page(found, storage(found, "h")), render_html(made)):
        text = " ".join(shown.replace("!!", "").split())
        assert (
            f"recoverable from Glance (image image-1): run {COMMAND} --limit h -e "
            "image_cache_restore_from_glance=true; needed by a guest"
        ) in text


def test_file_that_glance_has_comes_behind_those_that_only_guests_have() -> None:
    files = [missing_file("1"), in_glance("2"), missing_file("3", ["one"])]
    [alarm] = storage_alarms([storage(answer(missing=files), "h")])
    assert [item.what for item in alarm.items] == ["/cache/3", "/cache/2", "/cache/1"]
    assert [item.what for item, _count in grouped(alarm.items)] == ["/cache/3", "/cache/2", "/cache/1"]


def test_hosts_that_lack_a_file_of_glance_are_one_item_apart_from_those_whose_guests_have_it() -> None:
    storages = [storage(answer(missing=[in_glance(BASE, host)]), host) for host in "ab"]
    storages.append(storage(answer(missing=[missing_file(BASE, ["one"])]), "c"))
    [(first, _one), (second, two)] = grouped(storage_alarms(storages)[0].items)
    assert (first.hosts, second.hosts, two) == (("c",), ("a", "b"), 2)
    assert f"recoverable from Glance (image image-{BASE}): run {COMMAND} --limit a,b -e" in second.more


def test_file_on_shared_storage_names_the_host_that_has_it() -> None:
    lost = {**missing_file(BASE, ["one"]), "recoverable_on": "i"}
    [alarm] = storage_alarms([storage(answer(missing=[lost]), "h", "i")])
    assert alarm.items[0].more.endswith("--limit i; also needed by a guest")


def test_file_that_can_be_restored_until_a_guest_stops_comes_first() -> None:
    files = [missing_file("1"), missing_file("2", ["one"]), missing_file("3")]
    [alarm] = storage_alarms([storage(answer(missing=files), "h")])
    assert [item.what for item in alarm.items] == ["/cache/2", "/cache/1", "/cache/3"]
    assert [item.what for item, _count in grouped(alarm.items)] == ["/cache/2", "/cache/1", "/cache/3"]


def test_hosts_that_can_restore_the_same_file_are_one_item_and_the_others_another() -> None:
    storages = [storage(answer(missing=[missing_file(BASE, [f"on {host}"])]), host) for host in "ab"]
    storages += [storage(answer(missing=[missing_file(BASE)]), host) for host in "cde"]
    [alarm] = storage_alarms(storages)
    [(first, two), (second, three)] = grouped(alarm.items)
    assert (first.hosts, two, second.hosts, three) == (("a", "b"), 2, ("c", "d", "e"), 3)
    assert first.more.startswith(
        "recoverable until on a and on b stop: do not stop them, and run ansible-playbook stackops.nova.restore "
        "--limit a,b"
    )


def test_many_hosts_that_can_restore_a_file_are_not_all_typed() -> None:
    storages = [storage(answer(missing=[missing_file(BASE, ["x"])]), f"compute-{number}") for number in range(6)]
    [(item, _count)] = grouped(storage_alarms(storages)[0].items)
    assert item.more.endswith("run ansible-playbook stackops.nova.restore; also needed by a guest")


def missing_file(name: str, guests: Sequence[str] = (), *, replaced: bool = False) -> dict[str, Any]:
    """A missing file that these guests still have open."""
    return {
        "backing_file": f"/cache/{name}",
        "instances": ["a guest"],
        "replaced": replaced,
        "recoverable_from": "process" if guests else None,
        "recoverable_until": list(guests),
    }


def test_missing_base_file_names_the_playbook_and_the_way_to_glance() -> None:
    advice = {kind: Alarm(kind, [], 1).advice for kind in (AlarmKind.MISSING, AlarmKind.TEMPLATE, AlarmKind.REPLACED)}
    assert "ansible-playbook stackops.nova.restore" in advice[AlarmKind.MISSING]
    assert "-e image_cache_restore_from_glance=true" in advice[AlarmKind.MISSING]
    assert "'A base file is gone'" in advice[AlarmKind.MISSING]
    assert "Take none from another host" in advice[AlarmKind.TEMPLATE]
    assert "Glance has none" in advice[AlarmKind.TEMPLATE]
    assert "another host" not in advice[AlarmKind.REPLACED]


def test_replaced_file_shows_what_the_next_hard_reboot_does_and_what_to_do_before() -> None:
    advice = Alarm(AlarmKind.REPLACED, [], 1).advice
    assert "the next hard reboot destroys a guest's file system" in advice
    assert "do not stop, reboot or migrate it" in advice
    assert "/proc/PID/fd" in advice


def test_missing_files_that_are_left_out_count_with_the_last_one_that_is_listed() -> None:
    lost = {"backing_file": f"/cache/{BASE}", "instances": ["guest"], "replaced": True}
    alarms = storage_alarms([storage(answer(missing=[lost]), "h", omitted={"missing": 7})])
    assert [(alarm.kind, len(alarm.items), alarm.count) for alarm in alarms] == [(AlarmKind.REPLACED, 1, 8)]


def test_failed_removal_names_its_error() -> None:
    failed = [{"name": "a", "error": "it is locked"}]
    alarms = storage_alarms([storage(answer(**done(failed=failed)), "h")])
    assert alarms == [Alarm(AlarmKind.FAILED, [Item(("h",), "a", error="it is locked")], 1)]


def test_item_of_a_shared_storage_counts_the_other_hosts() -> None:
    (alarm,) = storage_alarms([storage(answer(orphans=[orphan("a")]), "h", "i", "j")])
    assert alarm.items[0].where == "h and 2 more"


def test_host_without_an_answer_names_its_state_and_error() -> None:
    (alarm,) = fleet_alarms(fleet(silent=[silent("a", "failed", None)]))
    assert alarm == Alarm(AlarmKind.UNANSWERED, [Item(("a",), "failed")], 1)


@pytest.mark.parametrize(
    ("found", "state", "is_unanswered"),
    [
        ({"corrupt": [{"name": "a", "used_by": []}]}, "failed", False),
        ({"unknown_use": ["why"]}, "failed", False),
        ({}, "failed", True),
        ({"corrupt": [{"name": "a", "used_by": []}]}, "unreachable", True),
    ],
)
def test_host_that_failed_over_what_it_found_has_no_second_alarm(
    found: dict[str, Any], state: str, is_unanswered: bool
) -> None:
    made = fleet(storage(answer(**found), "h"))
    made["hosts"][0].update(state=state, error="It failed.")
    assert (AlarmKind.UNANSWERED in [alarm.kind for alarm in fleet_alarms(made)]) is is_unanswered


def test_problem_of_the_fleet_comes_first_and_has_no_host() -> None:
    first, *_others = fleet_alarms(troubled("x"))
    assert (first.kind, first.items) == (AlarmKind.PROBLEM, [Item((), "x")])


@given(st.lists(st.tuples(COUNTS, COUNTS, COUNTS), max_size=5))
def test_alarm_counts_every_item_and_every_omitted_one(storages: list[tuple[int, int, int]]) -> None:
    made = [
        storage(answer(orphans=[orphan("o")] * orphans, unknown_use=["u"] * refused), "h", omitted={"orphans": more})
        for orphans, refused, more in storages
    ]
    counts = {alarm.kind: (len(alarm.items), alarm.count) for alarm in storage_alarms(made)}
    orphans, refused, more = (sum(column) for column in zip(*storages, strict=True)) if storages else (0, 0, 0)
    expected = {AlarmKind.REFUSED: (refused, refused), AlarmKind.ORPHANS: (orphans, orphans + more)}
    assert counts == {kind: count for kind, count in expected.items() if count[1]}


@pytest.mark.parametrize("kind", list(AlarmKind))
def test_advice_of_each_kind_is_a_meaning_and_a_remedy_in_whole_sentences(kind: AlarmKind) -> None:
    alarm = Alarm(kind, [], 1)
    assert alarm.advice.startswith(f"{meaning_of(kind)} ")
    assert re.fullmatch(r"([A-Z]([^.]|\.\w)+\.( |$)){2,3}", alarm.advice)
    assert alarm.title
    assert alarm.level in Level


def test_table_page_and_metrics_have_one_wording() -> None:
    table = " ".join(storage_page(troubled_answer("x")).replace("!!", "").split())
    page = render_html(troubled("x"))
    seen = troubled("x")
    seen["storages"][0]["checksums"] = verified()
    metrics = render_metrics(metrics_of(seen, {}, set()))
    for kind in (AlarmKind.MISSING, AlarmKind.REPLACED, AlarmKind.CORRUPT, AlarmKind.FAILED, AlarmKind.ORPHANS):
        assert all(meaning_of(kind) in text for text in (table, page, metrics))
