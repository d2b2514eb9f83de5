# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A base file that a host has lost comes back from another one, if two of them have the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import (
    UNREACHABLE,
    ComputeFleet,
    Run,
    picture,
    role,
)
from ansible_collections.stackops.nova.tests.support.processes import needs_root
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree, fingerprint

pytestmark = needs_root

IMAGE = "11111111-6166-4aa7-bb6c-7ceae4a8201c"
NAME = fingerprint(IMAGE)
CONTENT = b"the operating system".ljust(1 << 20, b"\0")
OTHER = b"something else".ljust(1 << 20, b"\0")
RESTORE, REPORT, CHECKSUMS = "Restore base files", "Report on the restore", "Ask other hosts"
PEER = """#!/bin/sh
# It gets: -- HOST COMMAND
echo "$2" >>{root}/served
exec sh -c "$3"
"""


@pytest.fixture
def compute(fleet: ComputeFleet, tmp_path: Path) -> ComputeFleet:
    fleet.variables = {"image_cache_use_peers": True, "image_cache_peer_command": [str(tmp_path / "peer")]}
    (tmp_path / "peer").write_text(PEER.format(root=tmp_path))
    (tmp_path / "peer").chmod(0o755)
    (tmp_path / "served").touch()
    return fleet


def lose(tree: CacheTree) -> None:
    """Make the disk of a stopped guest, and lose the base file that it is built on."""
    disk = tree.instance("guest", {"disk": None}) / "disk"
    base = tree.base(NAME, content=CONTENT)
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "raw", str(disk)]
    subprocess.run(command, check=True)
    base.unlink()


def served(fleet: ComputeFleet) -> list[str]:
    return (fleet.root / "served").read_text().split()


def text_of(run: Run) -> str:
    lines = next(one["result"]["text"] for one in reversed(run.results) if one["task"].endswith(REPORT))
    return " ".join(" ".join(lines).split())


def test_lost_file_comes_from_another_host_and_the_dry_run_says_so(compute: ComputeFleet) -> None:
    tree = compute.add("a")
    lose(tree)
    for name in "bc":
        compute.add(name).base(NAME, content=CONTENT)
    before = picture(compute.root / "a")
    dry = compute.restore("--check")
    assert (dry.status, dry.changed, picture(compute.root / "a")) == (0, {"a"}, before), dry.output
    assert "WOULD BE RESTORED: 1 file" in text_of(dry)
    assert "compared with the checksum that other hosts agree on" in text_of(dry)
    assert served(compute) == []

    run = compute.restore()
    assert (run.status, run.changed) == (0, {"a"}), run.output
    assert (tree.cache_path / NAME).read_bytes() == CONTENT
    assert run.of(RESTORE)["a"]["image_cache_restore"]["restored"][0]["proof"] == "agreed"
    assert served(compute) == ["b"]


def test_one_host_alone_is_not_believed(compute: ComputeFleet) -> None:
    tree = compute.add("a")
    lose(tree)
    compute.add("b").base(NAME, content=OTHER)
    compute.add("c").base(NAME, content=CONTENT)
    run = compute.restore()
    assert run.failed == {"a"}, run.output
    assert "No two other hosts of different storages have the same" in run.messages["a"]
    assert not (tree.cache_path / NAME).exists()
    assert served(compute) == []


@pytest.mark.slow
def test_two_hosts_outvote_no_third_one_but_it_serves_nothing(compute: ComputeFleet) -> None:
    tree = compute.add("a")
    lose(tree)
    compute.add("b").base(NAME, content=OTHER)
    for name in "cd":
        compute.add(name).base(NAME, content=CONTENT)
    run = compute.restore()
    assert run.status == 0, run.output
    assert (tree.cache_path / NAME).read_bytes() == CONTENT
    assert "b" not in served(compute)


@pytest.mark.slow
def test_two_names_of_one_machine_are_one_witness(compute: ComputeFleet) -> None:
    tree = compute.add("a")
    lose(tree)
    compute.add("b").base(NAME, content=OTHER)
    compute.add_name("b-again", of="b")
    run = compute.restore()
    assert run.failed == {"a"}, run.output
    assert not (tree.cache_path / NAME).exists()


@pytest.mark.slow
def test_no_host_is_asked_again_where_nothing_is_lost(compute: ComputeFleet) -> None:
    compute.add("a")
    compute.add("b")
    run = compute.restore()
    assert run.status == 0, run.output
    assert [one["host"] for one in run.results if one["task"].endswith(CHECKSUMS)] == ["a"]  # for all


@pytest.mark.slow
def test_hosts_that_do_not_serve_each_other_run_no_further_task(compute: ComputeFleet) -> None:
    lose(compute.add("a"))
    for name in "bc":
        compute.add(name).base(NAME, content=CONTENT)
    run = compute.restore(image_cache_use_peers=False)
    assert run.failed == {"a"}, run.output
    assert [one["host"] for one in run.results if one["task"].endswith(CHECKSUMS)] == ["a"]  # for all
    assert served(compute) == []


@pytest.mark.slow
def test_hosts_of_which_some_do_not_serve_others_are_refused(compute: ComputeFleet) -> None:
    lose(compute.add("a"))
    compute.add("b", image_cache_use_peers=False)
    compute.add("c").base(NAME, content=CONTENT)
    run = compute.restore()
    assert run.failed == set("abc"), run.output
    assert "image_cache_use_peers is true for a, c, and not for b" in run.messages["a"]
    assert served(compute) == []


@pytest.mark.slow
def test_hosts_that_could_not_be_asked_are_named(compute: ComputeFleet) -> None:
    lose(compute.add("a"))
    for name in "bc":
        compute.add(name).base(NAME, content=CONTENT)
    compute.hosts["c"].update(UNREACHABLE)
    run = compute.restore()
    assert (run.failed, run.unreachable) == ({"a"}, {"c"}), run.output
    assert "No two other hosts of different storages have the same" in run.messages["a"]
    assert "Nothing is known of c" in run.messages["a"]


def test_cache_path_of_a_host_that_lies_is_given_to_no_other_one(compute: ComputeFleet) -> None:
    tree = compute.add("a")
    lose(tree)
    for name in "bcd":
        compute.add(name).base(NAME, content=CONTENT)
    path = compute.root / "lying-python"
    path.write_text(f'#!/bin/sh\n{sys.executable} "$@" | sed \'s|"cache_path": "[^"]*|&\\\\n|g\'\n')
    path.chmod(0o755)
    compute.hosts["b"]["ansible_python_interpreter"] = str(path)
    run = compute.restore()
    assert "a" not in run.failed, run.output
    assert (tree.cache_path / NAME).read_bytes() == CONTENT
    assert served(compute) == ["c"]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["Ask other hosts", "Look what can be restored from elsewhere"])
def test_start_behind_the_look_is_no_green_play(compute: ComputeFleet, task: str) -> None:
    lose(compute.add("a"))
    for run in (
        compute.restore("--start-at-task", task),
        compute.play({"tasks": [role("restore")]}, "--start-at-task", task),
    ):
        assert run.status != 0, run.output
