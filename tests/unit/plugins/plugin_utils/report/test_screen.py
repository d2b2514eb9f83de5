# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.plugin_utils.report.alarms import AlarmKind
from ansible_collections.stackops.nova.plugins.plugin_utils.report.screen import fleet_screen
from ansible_collections.stackops.nova.plugins.plugin_utils.report.text import columns
from ansible_collections.stackops.nova.tests.support.fleets import (
    BASE,
    GIB,
    HOSTILE,
    answer,
    done,
    fleet,
    orphan,
    shown_in_readme,
    silent,
    storage,
    troubled,
)

README = Path(__file__).parents[5] / "README.md"
CACHE = "/var/lib/nova/instances/_base"
NAMES = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=30), st.just("x" * 400))


def host(name: str, free_gib: int = 100, reclaimable_gib: int = 30, *others: str, **more: Any) -> dict[str, Any]:
    """A storage of 500 GiB with so much free space, of which a prune would free so much."""
    found = answer(name, **more)
    found["storage"]["free_bytes"] = free_gib * GIB
    found["summary"]["reclaimable_bytes"] = reclaimable_gib * GIB
    return storage(found, name, *others)


def missing(instance: str) -> list[dict[str, Any]]:
    return [{"backing_file": f"{CACHE}/{BASE}", "instances": [instance], "replaced": False}]


def names_in_table(screen: str) -> list[str]:
    """The hosts of the table, in order."""
    lines = screen.split("\n")
    heads = [number for number, line in enumerate(lines) if line.endswith("HOST")]
    if not heads:
        return []
    rows = lines[heads[0] + 1 :]
    return [line[40:] for line in rows[: rows.index("")] if not line.startswith("  and ")]


def unwrapped(screen: str) -> str:
    return " ".join(screen.replace("!!", "").split())


def test_screen_of_a_healthy_fleet() -> None:
    assert fleet_screen(fleet(host("cmp-1", 20), host("cmp-2", 100, 10), host("cmp-3", 400, 0))).split("\n") == [
        "IMAGE CACHES  3 hosts, 3 storages",
        "  270 GiB cached: 120 GiB in use, 60 GiB too young, 90 GiB removable",
        "  A PRUNE WOULD FREE: 40 GiB.",
        "",
        "Nothing needs a person: no file is missing or known to be corrupt, nothing is",
        "refused, every host answered.",
        "",
        " FREE               CACHED   REMOVABLE  HOST",
        "  4 %     20 GiB    90 GiB      30 GiB  cmp-1",
        " 20 %    100 GiB    90 GiB      10 GiB  cmp-2",
        " 80 %    400 GiB    90 GiB         0 B  cmp-3",
        "",
        "To free space: ansible-playbook stackops.nova.prune, first with --check",
        "To see more: the same command with",
        "  --limit HOST                          one host in full",
        "  -e image_cache_report_view=storages   every storage in full",
    ]


def test_screen_of_a_fleet_in_trouble() -> None:
    screen = fleet_screen(
        fleet(
            host("cmp-1", 20, missing=missing("instance-00000001")),
            host("cmp-2", 30, 0, "cmp-4", "cmp-5", unknown_use=["cmp-9 is unknown. Set image_cache_storage_group."]),
            silent=[silent("cmp-3", error="No route to host")],
        )
    )
    assert screen.split("\n") == [
        "IMAGE CACHES  5 hosts, 1 without an answer, 2 storages, 1 refused",
        "  180 GiB cached: 80 GiB in use, 40 GiB too young, 60 GiB removable",
        "  A PRUNE WOULD FREE: 30 GiB.",
        "",
        "!! NEEDS A PERSON",
        "!! MISSING    Disks need these files, and the files do not exist. Restore them",
        "!!            first, because the instances cannot start without them: run",
        "!!            ansible-playbook stackops.nova.restore with --limit for these",
        "!!            hosts, and with --check before. With -e",
        "!!            image_cache_restore_from_glance=true it asks Glance too (page 'A",
        "!!            base file is gone').",
        f"!!            - cmp-1: {BASE}:",
        "!!              instance-00000001",
        "!! REFUSED    Nothing may be removed here. Each reason says what to do. The",
        "!!            role's variables begin with image_cache_.",
        "!!            - cmp-2, cmp-4 and cmp-5: cmp-9 is unknown. Set",
        "!!              image_cache_storage_group.",
        "!! UNANSWERED These hosts failed or could not be reached. Correct the cause,",
        "!!            and run again.",
        "!!            - cmp-3: No route to host",
        "",
        " FREE               CACHED   REMOVABLE  HOST",
        "  4 %     20 GiB    90 GiB      30 GiB  cmp-1",
        "  6 %     30 GiB    90 GiB         0 B  cmp-2 (+2, refused)",
        "",
        "To free space: ansible-playbook stackops.nova.prune, first with --check",
        "To see more: the same command with",
        "  --limit HOST                          one host in full",
        "  -e image_cache_report_view=storages   every storage in full",
    ]


def test_readme_shows_the_screen_of_a_fleet() -> None:
    assert textwrap.dedent(fleet_screen(shown_in_readme())) in README.read_text()


@pytest.mark.parametrize(
    ("check_mode", "numbers", "column", "advice"),
    [
        (
            False,
            "  REMOVED: 3 files, 30 GiB.",
            "FREED",
            "To see more: ansible-playbook stackops.nova.audit with",
        ),
        (
            True,
            "  WOULD BE REMOVED: 3 files, 30 GiB. Dry run: nothing was removed.",
            "WOULD FREE",
            "To remove these files: the same command without --check",
        ),
    ],
)
def test_prune_and_dry_run_show_what_was_or_would_be_removed(
    check_mode: bool, numbers: str, column: str, advice: str
) -> None:
    lines = fleet_screen(fleet(host("a", **done("x", "y", "z")), host("b"), check_mode=check_mode)).split("\n")
    assert lines[2] == numbers
    assert f"{column:>10}  HOST" in lines[7]
    assert "    30 GiB  a" in lines[8]
    assert lines[11] == advice


def test_fullest_hosts_come_first_and_of_those_the_ones_with_the_most_to_free() -> None:
    made = [host("much", 300), host("little", 25, 1), host("little-and-more", 26, 5), host("least", 2, 0)]
    assert names_in_table(fleet_screen(fleet(*made))) == ["least", "little-and-more", "little", "much"]


def test_host_whose_file_system_reports_no_size_comes_last() -> None:
    unknown = {**host("unknown"), "free_bytes": None, "total_bytes": None}
    assert names_in_table(fleet_screen(fleet(unknown, host("known", 499)))) == ["known", "unknown"]


def test_storages_that_have_no_line_are_counted_with_what_a_prune_would_free() -> None:
    screen = fleet_screen(fleet(*(host(f"cmp-{number:03}", number) for number in range(500))))
    assert names_in_table(screen) == [f"cmp-{number:03}" for number in range(20)]
    assert "\n  and 480 more storages: 14 TiB\n" in screen
    assert "\n  -e image_cache_report_view=hosts      every host, a line each\n" in screen


def test_view_of_hosts_has_a_line_for_each_host() -> None:
    made = fleet(
        *(host(f"cmp-{number:03}", number) for number in range(98)),
        host("one", 400, 0, "two", unknown_use=["why"]),
        silent=[silent("dead")],
    )
    expected = [f"cmp-{number:03}" for number in range(98)]
    assert names_in_table(fleet_screen(made, every_host=True)) == [
        *expected, "one (refused)", "two (refused)", "dead (unreachable)",
    ]  # fmt: skip


def test_same_missing_file_on_forty_hosts_is_one_item_with_forty_hosts() -> None:
    made = [host(f"cmp-{number}", missing=missing(f"instance-{number}")) for number in range(40)]
    screen = fleet_screen(fleet(*made))
    assert screen.count(BASE) == 1
    assert "- 40 hosts (cmp-0, cmp-1, cmp-2 and 37 more):" in screen
    assert "instance-0, instance-1, instance-2 and 37 more" in unwrapped(screen)


def test_command_that_restores_is_whole_however_long_the_names_of_hosts_are() -> None:
    made = [
        host(
            f"compute-{number:04}.cell-1.region-1.cloud.example.net",
            missing=[
                {
                    **missing(f"instance-0000{number:04x}")[0],
                    "recoverable_from": "process",
                    "recoverable_until": [f"instance-0000{number:04x}"],
                }
            ],
        )
        for number in range(8)
    ]
    assert "and 5 more stop: do not stop them, and run ansible-playbook stackops.nova.restore" in unwrapped(
        fleet_screen(fleet(*made))
    )


def test_hosts_that_failed_alike_are_one_item_without_what_differs() -> None:
    error = "ssh: connect to host {} port 22: Connection timed out at 12:00:0{}"
    dead = [silent(f"cmp-{number}", error=error.format(f"cmp-{number}", number)) for number in range(9)]
    assert (
        "- 9 hosts (cmp-0, cmp-1, cmp-2 and 6 more): ssh: connect to host … port 22: Connection timed out at 12:00:…"
    ) in unwrapped(fleet_screen(fleet(silent=dead)))


def test_hosts_that_exceed_the_same_limit_are_one_item() -> None:
    sentence = "{} of 9 files would be removed ({}), which is more than max_removals (1) allows. Raise max_removals."
    names = [BASE, f"{BASE}_2147483648"]
    made = [host(f"cmp-{number}", unknown_use=[sentence.format(number, names[number % 2])]) for number in range(2, 9)]
    assert (
        "- 7 hosts (cmp-2, cmp-3, cmp-4 and 4 more): … of 9 files would be removed (…), which is more than "
        "max_removals (1) allows. Raise max_removals."
    ) in unwrapped(fleet_screen(fleet(*made)))


def test_refusals_that_name_other_hosts_stay_apart() -> None:
    made = [host(f"nfs-{number}1", unknown_use=[f"nfs-{number}2 did not answer."]) for number in range(3)]
    screen = fleet_screen(fleet(*made))
    assert [f"- nfs-{number}1: nfs-{number}2 did not answer." in screen for number in range(3)] == [True] * 3


def test_same_missing_file_of_caches_with_other_paths_is_one_item() -> None:
    made = []
    for number in range(4):
        cache = f"/var/lib/nova/instances/_base_10.0.0.{number}"
        lost = {"backing_file": f"{cache}/{BASE}", "instances": [f"i-{number}"], "replaced": False}
        made.append({**host(f"cmp-{number}", missing=[lost]), "cache_path": cache})
    assert f"- 4 hosts (cmp-0, cmp-1, cmp-2 and 1 more): {BASE}: i-0, i-1," in unwrapped(fleet_screen(fleet(*made)))


def test_things_without_a_line_are_counted_with_their_hosts() -> None:
    made = [host(f"cmp-{number}", orphans=[orphan(f"orphan-{number}")]) for number in range(9)]
    assert "!!            and 4 more, on cmp-5, cmp-6, cmp-7 and 1 more\n" in fleet_screen(fleet(*made))


def test_other_warnings_are_counted_and_the_same_of_several_hosts_is_one() -> None:
    made = fleet(*(host(f"cmp-{number}") for number in range(60)))
    for number, each in enumerate(made["hosts"]):
        each["warnings"] = [f"The open files of {number} processes could not be read."]
    made["hosts"][3]["warnings"] += [
        "A disk is damaged. " + "It is long. " * 30,
        "An option is ignored.",
        "Another is, too.",
    ]
    screen = fleet_screen(made)
    assert screen[screen.index("\n\nOTHER") : screen.index("\n\n FREE")].strip().split("\n") == [
        "OTHER WARNINGS: 63, on cmp-0, cmp-1, cmp-2 and 57 more",
        "- 60 hosts (cmp-0, cmp-1, cmp-2 and 57 more): The open files of … processes",
        "  could not be read.",
        "- cmp-3: A disk is damaged. It is long. It is long. It is long. It is long. It",
        "  is long. It is long. It is long. It is long. It is long. It is long. It is",
        "  long. It is long. It is long. It is long. It is long. It is long. It is …",
        "- cmp-3: An option is ignored.",
        "  and 1 more",
    ]
    assert "\nNothing needs a person: " in screen
    assert len(screen.split("\n")) <= 45


def test_things_that_a_host_left_out_of_its_answer_are_counted_with_the_host() -> None:
    made = [host("cmp-1", missing=missing("i-1")), host("cmp-2")]
    made[0]["omitted"].update(missing=3, orphans=2)
    screen = fleet_screen(fleet(*made))
    assert "\n!!            and 3 more, on cmp-1\n" in screen
    assert "\n!!            and 2 more, on cmp-1\n" in screen


def test_number_of_more_hosts_is_whole_however_long_their_names_are() -> None:
    made = [host(f"compute-of-the-rack-{number:02}", orphans=[orphan(f"orphan-{number}")]) for number in range(20)]
    made[0]["omitted"]["orphans"] = 100
    screen = fleet_screen(fleet(*made))
    [line] = [line for line in screen.split("\n") if line.startswith("!!            and ")]
    assert line.endswith(" more")
    assert "…" not in line


def test_warning_takes_no_room_of_an_alarm() -> None:
    made = fleet(
        host("cmp-1", missing=missing("i-1")),
        host("cmp-2", unknown_use=["cmp-9 is unknown. " + "It is long. " * 20]),
        *(host(f"cmp-{number}") for number in range(3, 20)),
    )
    without = fleet_screen(made)
    for each in made["hosts"]:
        each["warnings"] = ["A disk is damaged. " + "It is long. " * 60]
    screen = fleet_screen(made)
    alarms = without[without.index("!! NEEDS") : without.index("\n\n FREE")]
    assert alarms in screen
    assert "\nOTHER WARNINGS: 19, on cmp-1, cmp-2, cmp-3 and 16 more\n" in screen
    assert len(screen.split("\n")) <= 45


def test_same_warning_of_hosts_whose_names_are_parts_of_it_is_one() -> None:
    made = fleet(host("a"), host("b"))
    for each in made["hosts"]:
        each["warnings"] = ["A disk is damaged."]
    assert "\nOTHER WARNINGS: 2, on a and b\n- a and b: A disk is damaged.\n" in fleet_screen(made)


def test_fleet_without_any_answer_has_no_numbers() -> None:
    assert fleet_screen(fleet(silent=[silent("a"), silent("b")])).split("\n") == [
        "IMAGE CACHES  2 hosts, 2 without an answer, 0 storages",
        "",
        "!! NEEDS A PERSON",
        "!! UNANSWERED These hosts failed or could not be reached. Correct the cause,",
        "!!            and run again.",
        "!!            - a and b: ssh: No route to host",
        "",
        "To see more: the same command with",
        "  --limit HOST                          one host in full",
    ]


def test_view_of_hosts_shows_the_whole_name() -> None:
    name = "compute-rack-with-a-long-name-17.region-one.example.org"
    screen = fleet_screen(fleet(host(name)), every_host=True)
    assert name in "".join(screen.split())


def test_things_that_have_no_line_are_counted() -> None:
    screen = fleet_screen(fleet(host("a", orphans=[orphan(f"orphan-{number}") for number in range(9)]), host("b")))
    assert screen.count("orphan-") == 5
    assert "!!            and 4 more, on a\n" in screen


@given(NAMES, st.integers(0, 30), st.booleans())
def test_each_kind_of_alarm_has_a_line_in_any_fleet(name: str, more_hosts: int, every_host: bool) -> None:
    made = troubled(name)
    made["storages"] += [host(f"{number}{name}") for number in range(more_hosts)]
    lines = fleet_screen(made, every_host).split("\n")
    for kind in AlarmKind:
        assert sum(line.startswith(f"!! {kind.value.upper()} ") for line in lines) == 1


@given(NAMES, st.integers(0, 30), st.integers(0, 9))
def test_screen_has_45_lines_at_most_and_each_fits_78_columns(name: str, more_hosts: int, warnings: int) -> None:
    made = troubled(name)
    made["hosts"][0]["warnings"] = [f"{name} {'x' * number}" for number in range(warnings)]
    made["storages"] += [host(f"{number}{name}") for number in range(more_hosts)]
    screen = fleet_screen(made)
    lines = screen.split("\n")
    assert len(lines) <= 45
    assert max(map(columns, lines)) <= 78
    assert all(character.isprintable() for line in lines for character in line)
    assert names_in_table(screen), "the table has lines however much needs a person"
