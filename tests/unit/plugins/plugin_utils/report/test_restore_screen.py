# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An operator in distress sees on one screen what comes back, what is lost, and what to type next."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.plugin_utils.report import restore_screen as restore_screen_module
from ansible_collections.stackops.nova.plugins.plugin_utils.report.restore_screen import restore_screen
from ansible_collections.stackops.nova.plugins.plugin_utils.report.text import columns, wrap
from ansible_collections.stackops.nova.tests.support.fleets import HOSTILE
from ansible_collections.stackops.nova.tests.support.restores import (
    NOT_OPEN,
    restorable,
    set_aside,
    shown_in_guide,
)

PAGE = Path(__file__).parents[5] / "docs/docsite/rst/restore.rst"
BASE = "97aaae8fdc4935bc47d03cf539a6213a1f2c6ad4"
NAMES = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=30), st.just("x" * 400), st.sampled_from("abc"))


def summary(*, check_mode: bool = False, hosts: int = 1, **more: Any) -> dict[str, Any]:
    """What is known of a restore."""
    empty: dict[str, Any] = {"restored": [], "lost": [], "set_aside": [], "unanswered": []}
    return {"check_mode": check_mode, "hosts": hosts, **empty, **more}


def lost_file(name: str, reason: str, host: str, *instances: str) -> dict[str, Any]:
    """A file that is not restored."""
    return {"host": host, "name": name, "state": "missing", "instances": list(instances), "reason": reason}


@st.composite
def summaries(draw: st.DrawFn) -> dict[str, Any]:
    def some(item: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(item, max_size=12))

    names = st.lists(NAMES, max_size=6)
    restored = some(
        st.builds(
            lambda host, name, guests, state, source: restorable(
                name, host=host, guests=guests, needs_restart=guests, state=state, source=source, source_path=name
            ),
            NAMES,
            NAMES,
            names,
            st.sampled_from(["missing", "replaced"]),
            st.sampled_from(["process", "file"]),
        )
    )
    lost = some(st.builds(lambda host, name, users: lost_file(name, name * 3, host, *users), NAMES, NAMES, names))
    aside = some(st.builds(lambda host, name: set_aside(name, host=host), NAMES, NAMES))
    unanswered = some(st.builds(lambda host, error: {"host": host, "error": error * 9}, NAMES, NAMES))
    return summary(
        check_mode=draw(st.booleans()),
        hosts=draw(st.integers(1, 10_000)),
        restored=restored,
        lost=lost,
        set_aside=aside,
        unanswered=unanswered,
    )


def test_dry_run_shows_what_would_be_restored_and_what_would_be_lost() -> None:
    process = restorable(BASE, host="cmp-103", guests=["instance-0000002a"])
    file = restorable("swap_512", host="cmp-104", source="file", source_path="/root/x", proof="checksum")
    lost = [lost_file("ephemeral_1", NOT_OPEN, f"cmp-{number}", f"instance-{number}") for number in range(5)]
    shown = restore_screen(
        summary(
            check_mode=True,
            hosts=9,
            restored=[process, file],
            lost=lost,
            unanswered=[{"host": "cmp-105", "error": "No route."}],
        )
    )
    assert shown.split("\n") == [
        "BASE FILES  9 hosts, 1 without an answer",
        "  WOULD BE RESTORED: 2 files, 2.0 GiB. Nothing was restored: this was a dry",
        "  run.",
        "",
        "WOULD BE RESTORED",
        f"- cmp-103: {BASE}: 1.0 GiB from QEMU of",
        "  instance-0000002a (/proc/42/fd/13). Proof: a guest has it open.",
        "- cmp-104: swap_512: 1.0 GiB from /root/x. Proof: its checksum is right.",
        "",
        "!! WOULD STILL BE LOST",
        "- 5 hosts (cmp-0, cmp-1, cmp-2 and 2 more): ephemeral_1, needed by instance-0,",
        "  instance-1, instance-2 and 2 more: No process has it open. Run it again.",
        "",
        "!! HOSTS WITHOUT AN ANSWER: what they need is unknown. Run again.",
        "- cmp-105: No route.",
        "",
        "Do not stop instance-0000002a and guest before that: these files are open",
        "there, and nowhere else.",
        "To restore these files: the same command without --check",
        "To restore an image from a file that you bring: image_cache_restore_files",
    ]


def test_screen_of_a_run_shows_what_was_replaced_and_who_runs_on_the_former_file() -> None:
    replaced = restorable(BASE, host="cmp-1", state="replaced", needs_restart=["instance-2"], proof="unproven")
    shown = restore_screen(summary(restored=[replaced], set_aside=[set_aside(BASE, host="cmp-1")]))
    text = " ".join(shown.split())
    assert "RESTORED: 1 file, 1.0 GiB." in text
    assert "dry" not in text
    assert "Proof: the operator's word, and no other. It was replaced. instance-2 still run on the file" in text
    assert f"SET ASIDE - cmp-1: {BASE}, needed by guest: .{BASE}.stackops-1 (1.0 GiB)" in text
    assert text.endswith("To see what is still missing: ansible-playbook stackops.nova.audit")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "There is nothing to restore."),
        (
            {"unanswered": [{"host": "a", "error": "x"}], "hosts": 2},
            "There is nothing to restore on the hosts that answered.",
        ),
    ],
)
def test_screen_without_anything_to_restore_is_one_sentence(more: dict[str, Any], words: str) -> None:
    assert words in restore_screen(summary(**more))


def test_screen_of_hosts_without_any_answer_leaves_open_what_can_be_restored() -> None:
    shown = restore_screen(summary(unanswered=[{"host": "a", "error": "x"}]))
    assert "What can be restored is unknown." in shown
    assert "nothing" not in shown


def test_items_beyond_the_screen_are_counted() -> None:
    restored = [restorable(f"{number}{BASE[4:]}", host="cmp-1") for number in range(1000, 1100)]
    lost = [lost_file(f"swap_{number}", f"Reason {'x' * number}.", "cmp-1") for number in range(50)]
    lines = restore_screen(summary(restored=restored, lost=lost)).split("\n")
    assert len(lines) <= 45
    shown = sum(line.startswith("- cmp-1: 1") for line in lines)
    assert f"  and {100 - shown} more" in lines
    shown = sum(line.startswith("- cmp-1: swap") for line in lines)
    assert f"  and {50 - shown} more" in lines


@pytest.mark.parametrize("section", ["restored", "lost", "set_aside", "unanswered"])
def test_items_beyond_the_screen_are_not_broken_into_lines(section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host may lack 100,000 files: the screen takes no longer than for a hundred."""
    broken: list[str] = []

    def wrap_and_note(text: str, *arguments: Any) -> list[str]:
        broken.append(text)
        return wrap(text, *arguments)

    def texts_broken_for(count: int) -> int:
        broken.clear()
        names = [f"swap_{number}" for number in range(count)]
        make = {
            "restored": lambda name: restorable(name, host="cmp-1"),
            "lost": lambda name: lost_file(name, f"Reason of {name}.", "cmp-1"),
            "set_aside": lambda name: {**set_aside(name), "host": "cmp-1"},
            "unanswered": lambda name: {"host": name, "error": f"Error {'x' * int(name[5:])}."},
        }[section]
        lines = restore_screen(summary(**{section: list(map(make, names))})).split("\n")
        shown = sum(line.startswith("- ") for line in lines)
        assert f"  and {count - shown} more" in lines
        return len(broken)

    monkeypatch.setattr(restore_screen_module, "wrap", wrap_and_note)
    assert texts_broken_for(100) == texts_broken_for(1000)


@given(summaries())
def test_any_restore_fits_on_one_screen(made: dict[str, Any]) -> None:
    lines = restore_screen(made).split("\n")
    assert len(lines) <= 45
    assert max(map(columns, lines)) <= 78
    assert "\x1b" not in "".join(lines)


@given(summaries())
def test_each_outcome_has_its_section(made: dict[str, Any]) -> None:
    shown = restore_screen(made)
    assert ("STILL BE LOST" in shown or "STILL LOST" in shown) or not made["lost"]
    assert ("HOSTS WITHOUT AN ANSWER" in shown) or not made["unanswered"]


def test_guide_shows_the_screen_of_a_dry_run() -> None:
    assert textwrap.indent(restore_screen(shown_in_guide()), "   ") in PAGE.read_text()
