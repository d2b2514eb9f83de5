# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fleets that the tests begin with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# This file is loaded before pytest-ansible has made the collection known, so it is imported later.
if TYPE_CHECKING:
    from ansible_collections.stackops.nova.tests.support.compute_fleet import ComputeFleet
    from ansible_collections.stackops.nova.tools.cache_tree import CacheTree


@pytest.fixture
def fleet(tmp_path: Path) -> ComputeFleet:
    """A fleet without hosts."""
    from ansible_collections.stackops.nova.tests.support.compute_fleet import ComputeFleet

    return ComputeFleet(tmp_path)


@pytest.fixture
def shared(fleet: ComputeFleet) -> CacheTree:
    """The storage of hosts a and b. Host c has a storage of its own."""
    tree = fleet.add_pair("a", "b")
    fleet.add("c")
    return tree
