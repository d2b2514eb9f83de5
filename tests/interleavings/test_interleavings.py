# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever nova does at whatever moment of a prune: every disk opens after it, and what the result says is true.

A sample; all of them: `./test interleavings`.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.tests.interleavings.guards import GUARDS, Guard
from ansible_collections.stackops.nova.tests.interleavings.moments import MOMENTS
from ansible_collections.stackops.nova.tests.interleavings.operations import OPERATIONS, UNUSED
from ansible_collections.stackops.nova.tests.interleavings.trial import (
    MODES,
    PRECACHE,
    after,
    attempt,
    disks,
    has_leases,
    make_host,
    points,
)
from ansible_collections.stackops.nova.tests.support.host import opens


@pytest.mark.parametrize("mode", MODES)
def test_prune_that_nothing_disturbs_removes_all_unused_files(tmp_path: Path, mode: str) -> None:
    trial = attempt(tmp_path / "host", mode, [])
    assert (trial.removed, trial.error, trial.wrong) == (sorted(UNUSED), None, [])


def test_every_disk_opens_before_a_prune(tmp_path: Path) -> None:
    found = list(disks(make_host(tmp_path)))
    assert len(found) == 5
    assert [disk for disk in found if not opens(disk)] == []


@pytest.mark.parametrize("number", range(len(MODES)), ids=MODES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_operation_of_nova_at_any_moment_costs_no_disk(tmp_path: Path, operation: str, number: int) -> None:
    """Each operation at each moment, in one of the modes; with its number the pairs of the others shift."""
    first = list(OPERATIONS).index(operation) + number
    for moment in list(MOMENTS)[first % len(MODES) :: len(MODES)]:
        trial = attempt(tmp_path / "host", list(MODES)[number], [(MOMENTS[moment], OPERATIONS[operation])])
        assert trial.wrong == [], moment


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operation_of_nova_at_any_moment_of_a_precache_harms_neither(tmp_path: Path, operation: str) -> None:
    moments = list(points(tmp_path / "host", PRECACHE))
    for call, occurrence in random.Random(operation).sample(moments, 5):
        trial = attempt(tmp_path / "host", PRECACHE, [(after(*call, occurrence), OPERATIONS[operation])])
        assert trial.wrong == [], (call, occurrence)


@pytest.mark.parametrize("guard", GUARDS.values(), ids=GUARDS)
class TestGuard:
    """Each protection: where it alone protects, what happens with it and without it."""

    def attempt(self, tmp_path: Path, guard: Guard, is_out: bool) -> list[str]:
        if guard.needs_leases and not has_leases(tmp_path):
            pytest.skip("this file system does not report which process has a file open")
        trial = attempt(tmp_path / "host", guard.mode, guard.steps, guard.take_out if is_out else None)
        assert trial.all_reached
        return trial.wrong

    def test_guard_protects_at_its_moment(self, tmp_path: Path, guard: Guard) -> None:
        assert self.attempt(tmp_path, guard, is_out=False) == []

    def test_prune_without_the_guard_goes_wrong_at_its_moment(self, tmp_path: Path, guard: Guard) -> None:
        assert self.attempt(tmp_path, guard, is_out=True) != []
