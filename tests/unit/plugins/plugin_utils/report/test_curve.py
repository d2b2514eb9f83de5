# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The curve has a point for each age that is known, and marks those that are set."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.plugin_utils.report.curve import Curve, curve_of

HOUR, DAY = 3600, 86400


def curve(freed: dict[int, int], original: tuple[int, ...] = (DAY,), resized: tuple[int, ...] = (HOUR,)) -> Curve:
    made = curve_of(summary(freed, original, resized))
    assert made is not None
    return made


def summary(freed: dict[int, int], original: tuple[int, ...] = (), resized: tuple[int, ...] = ()) -> dict[str, Any]:
    return {
        "reclaimable_by_age": {str(age): size for age, size in freed.items()},
        "minimum_age_seconds": {"original": list(original), "resized": list(resized)},
    }


def test_older_ages_are_further_right_and_more_bytes_higher() -> None:
    points = curve({HOUR: 30, DAY: 10, 28 * DAY: 0}).points
    assert [point.age for point in points] == [HOUR, DAY, 28 * DAY]
    assert points[0].x < points[1].x < points[2].x
    assert points[0].y < points[1].y < points[2].y == curve({HOUR: 1, DAY: 0}).bottom


def test_time_has_a_logarithmic_axis() -> None:
    first, second, third = curve({100: 3, 1000: 2, 10000: 1}, (), ()).points
    assert second.x - first.x == pytest.approx(third.x - second.x, abs=0.02)


@pytest.mark.parametrize("freed", [{}, {HOUR: 5}])
def test_fewer_than_two_ages_have_no_curve(freed: dict[int, int]) -> None:
    assert curve_of(summary(freed)) is None


def test_ages_that_are_set_are_marked_with_the_files_they_are_set_for() -> None:
    made = curve({HOUR: 3, DAY: 2})
    assert [(mark.age, mark.kinds) for mark in made.marks] == [(HOUR, "resized files"), (DAY, "original files")]
    assert [point.kinds for point in made.points] == ["resized files", "original files"]
    assert [mark.kinds for mark in curve({HOUR: 3, DAY: 2}, (DAY,), (DAY,)).marks] == ["all files"]


def test_age_that_not_all_storages_answer_for_is_marked_without_a_point() -> None:
    made = curve({HOUR: 3, DAY: 2}, (3 * DAY,), ())
    assert [point.age for point in made.points] == [HOUR, DAY]
    assert [mark.age for mark in made.marks] == [3 * DAY]


def test_label_that_would_cover_one_of_a_set_age_is_left_out() -> None:
    points = curve({HOUR: 9, DAY: 8, DAY + HOUR: 7, 28 * DAY: 1}, (DAY + HOUR,), ()).points
    assert [point.has_label for point in points] == [True, False, True, True]


@given(st.dictionaries(st.integers(0, 1 << 62), st.integers(0, 1 << 70), min_size=2), st.integers(0, 1 << 62))
def test_curve_stays_within_its_frame(freed: dict[int, int], age: int) -> None:
    made = curve(freed, (age,))
    for point in made.points:
        assert 0 <= point.x <= 100
        assert 0 <= point.y <= made.bottom
    assert all(0 <= mark.x <= 100 for mark in made.marks)
