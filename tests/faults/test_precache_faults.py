# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever fails while images are pre-cached, and wherever the run dies: each file is whole or not there, the space is
free again, the other image is there, and the next run finishes all."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache import precache as door
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch import fetching, place
from ansible_collections.stackops.nova.tests.faults.injection import KILL, Row
from ansible_collections.stackops.nova.tests.faults.precaching import FAULTS, SOURCES, rows
from ansible_collections.stackops.nova.tests.support.file_systems import without_nameless_files
from ansible_collections.stackops.nova.tests.support.strace import Call


def a_sample(calls: list[Call]) -> list[Call]:
    assert {"openat", "fcntl", "fchown", "fsync", "linkat"} <= {call.name for call in calls}
    return random.Random(0).sample(calls, 6)


def in_the_cache(name: str) -> Callable[[list[Call]], list[Call]]:
    """The first and the last call of that name about the cache directory itself."""

    def choose(calls: list[Call]) -> list[Call]:
        of_name = [call for call in calls if (call.name, call.target) == (name, "instances/_base")]
        return [of_name[0], of_name[-1]]

    return choose


def wrong(found: list[Row]) -> list[Row]:
    return [row for row in found if row.wrong]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("fault", FAULTS)
def test_sample_of_all_faults_breaks_no_file(tmp_path: Path, source: str, fault: str) -> None:
    """`./test faults` tries all faults."""
    assert wrong(rows(tmp_path, source, fault, a_sample)) == []


def test_cache_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    first, last = rows(tmp_path, "file", "EIO", in_the_cache("getdents64"))
    assert "The cache directory /instances/_base cannot be read: Input/output error. Check the storage" in first.outcome
    assert [*first.wrong, *last.wrong] == []


def test_space_that_cannot_be_found_out_at_the_end_hides_no_result(tmp_path: Path) -> None:
    _first, last = rows(tmp_path, "file", "EIO", in_the_cache("fstatfs"))
    assert last.outcome == "['whole', 'whole']: None"
    assert last.wrong == []


@pytest.mark.parametrize("fault", ["EIO", KILL])
def test_draft_with_a_private_name_is_removed_by_the_next_run(tmp_path: Path, fault: str) -> None:
    def choose(calls: list[Call]) -> list[Call]:
        # While a draft cannot be removed, it is left.
        return [call for call in a_sample(calls) if call.name != "unlinkat"]

    found = rows(tmp_path, "glance, converted", fault, choose, without_nameless_files)
    assert wrong(found) == []


def publish_before_it_is_whole() -> None:
    """As nova does: the name comes first."""
    new_draft = place.new_draft

    def new_draft_with_name(cache: int, name: str) -> object:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=cache))
        return new_draft(cache, name)

    fetching.new_draft = new_draft_with_name


def leave_drafts() -> None:
    """As a program that removes them only at its end, which a killed run does not reach."""
    without_nameless_files()
    door.remove_left_drafts = lambda _cache: None


@pytest.mark.parametrize("edit", [publish_before_it_is_whole, leave_drafts])
def test_careless_precache_is_found_out(tmp_path: Path, edit: Callable[[], object]) -> None:
    try:
        found = rows(tmp_path, "file", KILL, lambda calls: [call for call in calls if call.name == "fchmod"], edit)
    except AssertionError:  # already where nothing fails
        return
    assert wrong(found) != []
