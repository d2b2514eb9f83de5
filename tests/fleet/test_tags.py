# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asked-for work is done, or the play fails and says what is missing: never green without the work."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import ComputeFleet, Run, cached, names, role
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree

ALL = names("image-a", "image-b", "unused-a", "unused-b")
USED = names("image-a", "image-b")

Prune = Callable[..., Run]


@pytest.fixture(params=["playbook", "role"])
def prune(request: pytest.FixtureRequest, fleet: ComputeFleet) -> Prune:
    """Prunes with the playbook, which imports the role's tasks, or with the role, which includes them."""
    return fleet.prune if request.param == "playbook" else partial(fleet.play, {"tasks": [role("prune")]})


@pytest.mark.slow
def test_tag_of_the_role_does_all(shared: CacheTree, prune: Prune) -> None:
    run = prune("--tags", "image_cache")
    assert (run.status, run.changed, cached(shared)) == (0, {"a", "c"}, USED), run.output
    assert run.shown == {"a (+1)", "c"}


@pytest.mark.slow
def test_tag_of_the_audit_looks_and_shows_nothing(shared: CacheTree, prune: Prune) -> None:
    run = prune("--tags", "image_cache_audit")
    assert (run.status, run.changed, cached(shared)) == (0, set(), ALL), run.output
    assert "IMAGE CACHE" not in run.output


@pytest.mark.slow
def test_tags_of_audit_and_report_show_and_remove_nothing(shared: CacheTree, prune: Prune) -> None:
    run = prune("--tags", "image_cache_audit,image_cache_report")
    assert (run.status, run.changed, cached(shared)) == (0, set(), ALL), run.output
    assert run.shown == {"a (+1)", "c"}


def test_tags_of_audit_and_prune_are_as_careful_as_no_tag(shared: CacheTree, prune: Prune) -> None:
    run = prune("--tags", "image_cache_audit,image_cache_prune")
    assert (run.status, run.changed, cached(shared)) == (0, {"a", "c"}, USED), run.output
    assert "IMAGE CACHE" not in run.output


@pytest.mark.parametrize(
    "arguments",
    [("--tags", "image_cache_prune"), ("--skip-tags", "image_cache_audit")],
    ids=["prune alone", "without audit"],
)
def test_prune_without_an_audit_fails_and_names_the_tag(
    fleet: ComputeFleet, shared: CacheTree, prune: Prune, arguments: tuple[str, str]
) -> None:
    run = prune(*arguments)
    assert (run.status != 0, cached(shared), len(fleet.cached("c"))) == (True, ALL, 2), run.output
    assert "image_cache_audit" in run.messages["a"]


@pytest.mark.slow
def test_report_without_an_audit_fails_and_names_the_tag(shared: CacheTree, prune: Prune) -> None:
    run = prune("--tags", "image_cache_report")
    assert (run.status != 0, cached(shared)) == (True, ALL), run.output
    assert "image_cache_audit" in "".join(run.messages.values())


@pytest.mark.slow
def test_skipped_prune_removes_nothing_and_shows_all(shared: CacheTree, prune: Prune) -> None:
    run = prune("--skip-tags", "image_cache_prune")
    assert (run.status, run.changed, cached(shared)) == (0, set(), ALL), run.output
    assert run.shown == {"a (+1)", "c"}


@pytest.mark.slow
def test_skipped_report_prunes_all_the_same_and_fails_who_is_refused(
    fleet: ComputeFleet, shared: CacheTree, prune: Prune
) -> None:
    fleet.hosts["b"]["image_cache_prune"] = False
    run = prune("--skip-tags", "image_cache_report")
    assert (run.failed, run.changed, cached(shared)) == ({"a"}, {"c"}, ALL), run.output


@pytest.mark.slow
@pytest.mark.parametrize("task", ["Prune the image cache", "Report on the image cache"])
def test_start_at_a_task_behind_the_look_is_no_green_play(shared: CacheTree, prune: Prune, task: str) -> None:
    run = prune("--start-at-task", task)
    assert (run.status != 0, run.changed, cached(shared)) == (True, set(), ALL), run.output


@pytest.mark.slow
def test_start_at_the_look_does_all(shared: CacheTree, prune: Prune) -> None:
    run = prune("--start-at-task", "Look at the image cache")
    assert (run.status, run.changed, cached(shared)) == (0, {"a", "c"}, USED), run.output
