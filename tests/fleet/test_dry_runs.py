# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A dry run lists what a run removes, writes nothing, and is what the role's own check mode says."""

from __future__ import annotations

import json
import sys

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import (
    PRUNE,
    ComputeFleet,
    cached,
    names,
    picture,
    role,
)
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree

ALL = names("image-a", "image-b", "unused-a", "unused-b")
USED = names("image-a", "image-b")

# A host whose clock goes back each time that it is asked.
AN_HOUR_BACK_EACH_TIME = """#!/bin/sh
echo >> {count}
exec {python} -c '
import sys, time
real, hours = time.time, len(open("{count}").read())
time.time = lambda: real() - 3600 * hours
sys.argv = sys.argv[1:]
exec(compile((open(sys.argv[0]) if sys.argv[0:] else sys.stdin).read(), "module", "exec"))
' "$@"
"""


@pytest.mark.slow
@pytest.mark.parametrize(("argument", "is_dry"), [("--diff", True), ("--check", False)])
def test_check_mode_of_the_play_counts_and_not_that_of_the_command_line(
    fleet: ComputeFleet, shared: CacheTree, argument: str, is_dry: bool
) -> None:
    report = fleet.root / "report"
    play = {"check_mode": is_dry, "tasks": [role("prune")]}
    run = fleet.play(play, argument, image_cache_report_path=str(report))
    assert (run.status, cached(shared)) == (0, ALL if is_dry else USED), run.output
    assert ("WOULD BE REMOVED" in run.text) is is_dry
    if (report / "report.json").exists():
        assert json.loads((report / "report.json").read_text())["check_mode"] is is_dry


def test_dry_run_writes_nothing_on_any_host(fleet: ComputeFleet, shared: CacheTree) -> None:
    trees = [fleet.root / name for name in "abc"]
    before = [picture(tree) for tree in trees]
    run = fleet.prune("--check", image_cache_checksum_base_images=True)
    assert run.status == 0, run.output
    assert [picture(tree) for tree in trees] == before
    assert cached(shared) == ALL


@pytest.mark.slow
def test_host_that_shares_no_storage_is_done_after_one_look(fleet: ComputeFleet) -> None:
    fleet.add("a")
    count = fleet.root / "count"
    interpreter = fleet.root / "python"
    interpreter.write_text(f'#!/bin/sh\necho >> {count}\nexec {sys.executable} "$@"\n')
    interpreter.chmod(0o755)
    fleet.hosts["a"]["ansible_python_interpreter"] = str(interpreter)
    run = fleet.prune("--check")
    assert (run.status, run.changed) == (0, {"a"}), run.output
    dry = len(count.read_text())
    assert set(run.of(PRUNE)["a"]["removed"]) == names("unused-a")
    fleet.prune()
    assert len(count.read_text()) == 3 * dry


def test_dry_run_of_a_refused_storage_fails_as_the_prune_does(fleet: ComputeFleet, shared: CacheTree) -> None:
    fleet.hosts["b"]["image_cache_remove_unused_base_images"] = False
    dry, run = fleet.prune("--check"), fleet.prune()
    assert (dry.failed, run.failed, cached(shared)) == ({"a"}, {"a"}, ALL), run.output
    assert dry.messages == run.messages


@pytest.mark.slow
def test_clock_that_is_set_back_hides_no_prune(fleet: ComputeFleet, shared: CacheTree) -> None:
    interpreter = fleet.root / "python"
    interpreter.write_text(AN_HOUR_BACK_EACH_TIME.format(count=fleet.root / "count", python=sys.executable))
    interpreter.chmod(0o755)
    for variables in fleet.hosts.values():
        variables["ansible_python_interpreter"] = str(interpreter)
    run = fleet.prune()
    assert (run.status, cached(shared)) == (0, USED), run.output
    assert run.reported["fleet"]["summary"]["removed"] == 3
    assert "WOULD BE" not in run.text


def test_look_after_a_prune_reports_what_there_is_now(fleet: ComputeFleet, shared: CacheTree) -> None:
    run = fleet.play({"tasks": [role("prune"), role("audit")]})
    assert (run.status, cached(shared)) == (0, USED), run.output
    summary = run.reported["fleet"]["summary"]
    assert (summary["storages"], summary["reclaimable_bytes"]) == (2, 0)


@pytest.mark.slow
def test_prune_of_one_host_and_dry_run_of_another_are_distinguished(fleet: ComputeFleet) -> None:
    fleet.add("a")
    fleet.add("b")
    run = fleet.play({"tasks": [role("prune", check_mode="{{ inventory_hostname == 'b' }}")]})
    assert (run.status, len(fleet.cached("a")), len(fleet.cached("b"))) == (0, 1, 2), run.output
    states = {storage["pruner"]: storage["removed"] for storage in run.reported["fleet"]["storages"]}
    assert set(states["a"]) == names("unused-a")
    assert run.reported["fleet"]["summary"]["removed"] == 1


def test_dry_run_lists_the_checksums_that_the_prune_saves(fleet: ComputeFleet, shared: CacheTree) -> None:
    variables = {"image_cache_checksum_base_images": True}
    dry = fleet.prune("--check", "--diff", **variables)
    expected = [str(shared.cache_path / name) for name in sorted(USED)]
    assert dry.of(PRUNE)["a"]["saved_checksums"] == expected, dry.output
    assert f"+{min(USED)} sha1 saved" in dry.output
    assert not list(shared.cache_path.glob("*.info"))
    run = fleet.prune(**variables)
    assert run.of(PRUNE)["a"]["saved_checksums"] == expected, run.output
    assert sorted(path.name for path in shared.cache_path.glob("*.info")) == [f"{name}.info" for name in sorted(USED)]
    assert run.changed == dry.changed
    # Nothing is left to remove or to save.
    again = fleet.prune("--check", **variables)
    assert (again.changed, again.of(PRUNE)["a"]["saved_checksums"]) == (set(), []), again.output


@pytest.mark.slow
def test_first_checksum_alone_is_a_change_of_a_host(fleet: ComputeFleet) -> None:
    fleet.add("a")
    variables = {"image_cache_checksum_base_images": True, "image_cache_remove_unused_base_images": False}
    for argument in ("--check", "--diff"):
        run = fleet.prune(argument, **variables)
        assert (run.status, run.changed) == (0, {"a"}), run.output
    assert fleet.prune(**variables).changed == set()


@pytest.mark.slow
def test_prune_that_is_refused_is_not_shown_as_a_dry_run(fleet: ComputeFleet, shared: CacheTree) -> None:
    run = fleet.prune(image_cache_fleet_max_removal_percent=0)
    assert (run.failed, cached(shared)) == ({"a", "c"}, ALL), run.output
    assert "REMOVED: 0 files, 0 B." in run.text
    assert "dry run" not in run.text
    assert "without --check" not in run.text


@pytest.mark.slow
def test_dry_run_counts_no_file_of_a_storage_that_the_prune_refuses(fleet: ComputeFleet, shared: CacheTree) -> None:
    fleet.hosts["b"]["image_cache_remove_unused_base_images"] = False
    dry, run = fleet.prune("--check"), fleet.prune()
    assert (dry.failed, run.failed, cached(shared)) == ({"a"}, {"a"}, ALL), run.output
    assert dry.reported["fleet"]["summary"]["removed"] == run.reported["fleet"]["summary"]["removed"] == 1
