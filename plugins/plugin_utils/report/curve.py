# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The curve of the HTML page: what a prune would free, by minimum age. Time has a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Curve", "Mark", "Point", "curve_of"]

_LEFT, _RIGHT = 5.0, 83.0  # each label begins at its point, so the last one needs room
_TOP, _BOTTOM = 30.0, 84.0
_NEAREST = 16.0  # two labels that are nearer than this, in percent of the width, overlap on a phone
_KINDS = {"original": "original files", "resized": "resized files"}


@dataclass(frozen=True)
class Point:
    """What one age would free.

    :param age: the minimum age, in seconds.
    :param freed: bytes.
    :param kinds: the files that have this age set, may be empty.
    :param x: its place, in percent from the left.
    :param y: its place, in percent from the top.
    :param has_label: whether its label overlaps none that matters more.
    """

    age: int
    freed: int
    kinds: str
    x: float
    y: float
    has_label: bool


@dataclass(frozen=True)
class Mark:
    """An age that is set.

    :param kinds: the files that it is set for.
    :param x: its place, in percent from the left.
    :param has_room: whether its label has room on the right.
    """

    age: int
    kinds: str
    x: float
    has_room: bool


@dataclass(frozen=True)
class Curve:
    """
    :param points: lowest age first.
    :param marks: the ages that are set, also one that not all storages answer for.
    :param bottom: where nothing is freed, in percent from the top.
    """

    points: Sequence[Point]
    marks: Sequence[Mark]
    bottom: float

    @property
    def area(self) -> str:
        """The outline of what is below the curve, in percent."""
        corners = [f"{point.x},{point.y}" for point in self.points]
        return f"{self.points[0].x},{self.bottom} {' '.join(corners)} {self.points[-1].x},{self.bottom}"


def curve_of(summary: Mapping[str, Any]) -> Curve | None:
    """Return the curve of a fleet; None where there are not two ages to draw it through.

    :param summary: the fleet's, of which ``reclaimable_by_age`` and ``minimum_age_seconds`` are drawn.
    """
    freed = {int(age): size for age, size in summary["reclaimable_by_age"].items()}
    if len(freed) < 2:
        return None
    set_for = _set_ages(summary["minimum_age_seconds"])
    place = _axis([*freed, *set_for])
    most = max(freed.values()) or 1
    labelled: list[int] = []
    for age in sorted(freed, key=lambda age: (age not in set_for, age)):
        if all(abs(place(age) - place(other)) >= _NEAREST for other in labelled):
            labelled.append(age)
    points = [
        Point(
            age,
            size,
            set_for.get(age, ""),
            place(age),
            round(_BOTTOM - (_BOTTOM - _TOP) * size / most, 2),
            age in labelled,
        )
        for age, size in sorted(freed.items())
    ]
    marks = [Mark(age, kinds, place(age), place(age) < 50) for age, kinds in set_for.items()]
    return Curve(points, marks, _BOTTOM)


def _set_ages(ages: Mapping[str, Sequence[int]]) -> dict[int, str]:
    """Return for which files each age is set, lowest age first."""
    kinds: dict[int, list[str]] = {}
    for kind, name in _KINDS.items():
        for age in ages[kind]:
            kinds.setdefault(age, []).append(name)
    return {age: "all files" if len(names) == len(_KINDS) else names[0] for age, names in sorted(kinds.items())}


def _axis(ages: Sequence[int]) -> Callable[[int], float]:
    # An age of no seconds has no logarithm.
    logarithms = {age: math.log(max(age, 1)) for age in ages}
    low, high = min(logarithms.values()), max(logarithms.values())
    width = (_RIGHT - _LEFT) / ((high - low) or 1)
    return lambda age: round(_LEFT + (logarithms[age] - low) * width, 2)
