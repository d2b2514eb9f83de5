# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No guest ever loses its disk, however busy nova is, and with every limit at zero."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.stackops.nova.tests.adversary.stress import SABOTAGES, fight


@pytest.mark.parametrize("orphans", ["protect", pytest.param("ignore", marks=pytest.mark.slow)])
def test_adversary_loses_no_file_and_every_removal_is_reported(tmp_path: Path, orphans: str) -> None:
    outcome = fight(tmp_path, seconds=30, seed=1, orphans=orphans)
    assert outcome.lost == []
    # An idle machine does ten times as much.
    assert outcome.operations.total() > 250
    assert outcome.passes.removed.total() > 25


@pytest.mark.slow
@pytest.mark.parametrize("without", SABOTAGES)
def test_prune_that_lacks_a_guard_is_found_out(tmp_path: Path, without: str) -> None:
    """A loss takes seconds; so much time is for a machine that does other work besides."""
    assert fight(tmp_path, seconds=180, seed=1, without=without).lost != []
