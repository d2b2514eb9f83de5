# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A strip shows for each storage whether an image is there, how many instances use it, and what could be removed."""

from __future__ import annotations

import pytest

from ansible_collections.stackops.nova.plugins.plugin_utils.report.strips import draw_strip, draw_used, strip_of
from ansible_collections.stackops.nova.tests.support.fleets import image


@pytest.mark.parametrize(
    ("instances", "removable", "cell"),
    [(0, 0, "0"), (1, 0, "1"), (2, 0, "2"), (9, 0, "2"), (10, 0, "3"), (0, 1, "4"), (12, 1, "7")],
)
def test_cell_has_a_level_for_its_instances_and_for_what_could_be_removed(
    instances: int, removable: int, cell: str
) -> None:
    assert strip_of([image(1, instances=instances, removable_gib=removable)]) == cell


def test_storage_without_the_image_has_an_empty_column() -> None:
    assert strip_of([None, image(1), None]) == ".0."
    assert draw_strip("..") == []


def test_neighbours_of_the_same_level_are_drawn_as_one() -> None:
    assert draw_strip("00.33") == [("kept", "M0 12v-2h2V12z"), ("active", "M3 12v-12h2V12z")]


def test_removable_part_hangs_from_the_top_above_the_used_part() -> None:
    assert draw_strip("45") == [("active", "M1 12v-5h1V12z"), ("removable", "M0 0v6h1V0zM1 0v6h1V0z")]


def test_fullness_is_drawn_for_each_storage_with_a_known_size() -> None:
    assert draw_used([100, None, 50]) == "M0 12v-12.0h1V12zM2 12v-6.0h1V12z"
