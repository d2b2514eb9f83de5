# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two runs that overlap, as a nightly one and somebody's own, remove each file once, and neither fails."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import (
    DAY,
    PRUNE,
    ComputeFleet,
    Run,
    cached,
    names,
)
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree, fingerprint

UNUSED = [f"image-{number}" for number in range(40)]


def of_another_operator(fleet: ComputeFleet, root: Path) -> ComputeFleet:
    """The same hosts, for a controller of its own."""
    root.mkdir()
    other = ComputeFleet(root)
    other.hosts, other.groups, other.variables = fleet.hosts, fleet.groups, dict(fleet.variables)
    return other


def removed(run: Run) -> list[str]:
    return [name for result in run.of(PRUNE).values() for name in result["removed"]]


@pytest.mark.slow
@pytest.mark.parametrize("is_shared", [False, True])
def test_runs_that_overlap_remove_each_file_once_and_both_succeed(
    fleet: ComputeFleet, tmp_path: Path, is_shared: bool
) -> None:
    tree: CacheTree = fleet.add_pair("a", "b") if is_shared else fleet.add("a")
    for image in UNUSED:
        tree.base(fingerprint(image), age=3 * DAY, content=b"unused")
    unused = cached(tree) - names("image-a", "image-b")
    fleets = [fleet, of_another_operator(fleet, tmp_path / "other")]
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda one: one.prune(), fleets))
    # What one run has open while it looks, the other keeps.
    runs.append(fleet.prune())
    assert [run.status for run in runs] == [0, 0, 0], "\n".join(run.output for run in runs)
    assert sorted(name for run in runs for name in removed(run)) == sorted(unused)
    assert cached(tree) & unused == set()


def test_metrics_of_runs_that_overlap_have_the_hosts_of_both(fleet: ComputeFleet, tmp_path: Path) -> None:
    fleet.variables["image_cache_report_path"] = str(tmp_path / "report")
    for name in "ab":
        fleet.add(name)
    fleets = [fleet, of_another_operator(fleet, tmp_path / "other")]
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda one, name: one.audit("--limit", name), fleets, "ab"))
    assert [run.status for run in runs] == [0, 0], "\n".join(run.output for run in runs)
    text = (tmp_path / "report/image_cache.prom").read_text()
    assert all(f'nova_image_cache_host_answered{{host="{name}"}} 1' in text for name in "ab")
