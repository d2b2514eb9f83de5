# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.plugin_utils.report.bars import Part, divide

STATES = ("corrupt", "active", "too_young", "removable")
SIZES = st.fixed_dictionaries(dict.fromkeys(STATES, st.integers(0, 1 << 62)))


def test_corrupt_bytes_are_taken_from_the_bytes_in_use() -> None:
    size = {"corrupt": 10, "active": 40, "too_young": 20, "removable": 30}
    assert divide(size, 90) == [
        Part("corrupt", 0.0, 11.11),
        Part("active", 11.11, 33.33),
        Part("too_young", 44.44, 22.22),
        Part("removable", 66.67, 33.33),
    ]


def test_bar_of_an_empty_fleet_has_no_parts() -> None:
    assert divide(dict.fromkeys(STATES, 0), 0) == []


@given(SIZES)
def test_parts_fit_into_the_bar_in_order_and_each_can_be_seen(size: dict[str, int]) -> None:
    parts = divide(size, size["active"] + size["too_young"] + size["removable"])
    assert [part.state for part in parts] == [state for state in STATES if state in {part.state for part in parts}]
    assert all(part.width >= 0.9 for part in parts)
    assert all(one.start + one.width <= other.start + 0.02 for one, other in itertools.pairwise(parts))
    assert not parts or parts[-1].start + parts[-1].width <= 100.05
