# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""With ``--step`` the operator answers for each task: what was refused is not done, and nothing is done without it."""

from __future__ import annotations

import re

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import (
    DECIDE,
    LOOK,
    PRUNE,
    REPORT,
    ComputeFleet,
    Run,
    cached,
    names,
)
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree

ALL = names("image-a", "image-b", "unused-a", "unused-b")
TASKS = [LOOK, DECIDE, PRUNE, REPORT]


def run_in_steps(fleet: ComputeFleet, refused: str) -> Run:
    """Run the playbook, and answer no at one task and yes at the others."""
    run = fleet.run_playbook(
        "stackops.nova.prune", "--step", answers="".join("n\n" if task == refused else "y\n" for task in TASKS)
    )
    prompts = re.findall(r"Perform task: TASK: (?:\S+ : )?(.+?) \(N\)o", run.output)
    asked = list(dict.fromkeys(prompts))  # the answer repeats the question
    assert asked == TASKS[: len(asked)], run.output
    assert refused in ("", *asked), run.output
    return run


@pytest.mark.slow
def test_play_does_everything_where_the_operator_agrees_to_all(fleet: ComputeFleet, shared: CacheTree) -> None:
    run = run_in_steps(fleet, refused="")
    assert (run.status, run.changed, cached(shared)) == (0, {"a", "c"}, names("image-a", "image-b")), run.output


@pytest.mark.parametrize("refused", [LOOK, DECIDE])
def test_nothing_is_pruned_without_the_look_or_the_decision(
    fleet: ComputeFleet, shared: CacheTree, refused: str
) -> None:
    run = run_in_steps(fleet, refused)
    assert (run.status != 0, run.changed, cached(shared)) == (True, set(), ALL), run.output
    assert "image_cache_audit" in run.messages["c"]


@pytest.mark.slow
def test_refused_prune_removes_nothing_and_shows_all(fleet: ComputeFleet, shared: CacheTree) -> None:
    run = run_in_steps(fleet, refused=PRUNE)
    assert (run.status, run.changed, cached(shared)) == (0, set(), ALL), run.output
    assert run.shown == {"a (+1)", "c"}


@pytest.mark.slow
def test_refused_report_prunes_all_the_same(fleet: ComputeFleet, shared: CacheTree) -> None:
    run = run_in_steps(fleet, refused=REPORT)
    assert (run.status, run.changed, cached(shared)) == (0, {"a", "c"}, names("image-a", "image-b")), run.output
