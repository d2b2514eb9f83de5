# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import pytest
from ansible_collections.stackops.nova.plugins.plugin_utils.report.units import age_text, duration_text, size_text
from hypothesis import given
from hypothesis import strategies as st

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
MINUTE, HOUR, DAY = 60, 3600, 86400
UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
SECONDS = {"d": DAY, "h": HOUR, "m": MINUTE, "s": 1}


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (9 * KIB + 900, "9.9 KiB"),
        (9 * KIB + 1000, "10 KiB"),
        (999 * KIB, "999 KiB"),
        (1000 * KIB, "1.0 MiB"),
        (1023 * MIB, "1.0 GiB"),
        (int(15.3 * GIB), "15 GiB"),
        (1024 * GIB, "1.0 TiB"),
        (5000 * TIB, "4.9 PiB"),
        (1 << 62, "4.0 EiB"),
        (5000 << 60, "5000 EiB"),
    ],
)
def test_size_has_at_most_three_digits_and_the_largest_unit(size: int, text: str) -> None:
    assert size_text(size) == text


def bytes_of(text: str) -> float:
    number, unit = text.split()
    return float(number) * 1024 ** UNITS.index(unit)


@given(st.integers(0, 1 << 63))
def test_size_differs_from_its_text_by_at_most_five_percent(size: int) -> None:
    text = size_text(size)
    assert re.fullmatch(r"(\d\.\d|\d{1,3}) \w+", text)
    assert bytes_of(text) == pytest.approx(size, rel=0.051)


@given(st.integers(0, 1 << 63), st.integers(0, 1 << 63))
def test_larger_size_never_has_a_smaller_text(one: int, other: int) -> None:
    small, large = sorted((one, other))
    assert bytes_of(size_text(small)) <= bytes_of(size_text(large))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.9, "0s"),
        (59, "59s"),
        (3599, "59m 59s"),
        (3605, "1h"),
        (12_000, "3h 20m"),
        (86_399, "23h 59m"),
        (3 * DAY + 4 * HOUR, "3d 4h"),
        (400 * DAY, "400d"),
    ],
)
def test_duration_has_its_largest_unit_and_the_one_below(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@given(st.integers(0, 1 << 40))
def test_duration_is_never_longer_than_the_time_and_less_than_one_unit_shorter(seconds: int) -> None:
    parts = duration_text(seconds).split()
    shown = sum(int(part[:-1]) * SECONDS[part[-1]] for part in parts)
    largest = SECONDS[parts[0][-1]]
    assert 0 <= seconds - shown < max(1, largest // 24)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s ago"), (40.5 * DAY, "40d ago"), (2.4 * HOUR, "2h ago"), (-0.1, "in future"), (-5, "in future")],
)
def test_age_has_its_largest_unit_only(seconds: float, text: str) -> None:
    assert age_text(seconds) == text
