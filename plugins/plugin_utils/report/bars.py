# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The bars of the HTML page: how the space of a disk or a cache divides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Part", "divide"]

# A part that is not empty can be seen, in percent of the width.
_THINNEST = 1.0


@dataclass(frozen=True)
class Part:
    """One part of a bar, its place and width in percent."""

    state: str
    start: float
    width: float


def divide(size: Mapping[str, int], whole: int, elsewhere: int = 0) -> list[Part]:
    """Divide a bar. What is left of its width is free.

    :param size: bytes by state, and ``corrupt``. A corrupt file has a state as well, and is nearly always in use: it
        is not drawn twice.
    :param whole: the bytes that the bar's full width stands for, or more if the parts are larger.
    :param elsewhere: bytes outside the cache, which come first.
    """
    shares = {"elsewhere": elsewhere, "corrupt": size["corrupt"]}
    drawn = size["corrupt"]
    for state in ("active", "too_young", "removable"):
        shares[state] = max(0, size[state] - drawn)
        drawn -= size[state] - shares[state]
    whole = max(whole, sum(shares.values()))
    widths = {state: max(100 * share / whole, _THINNEST) for state, share in shares.items() if share}
    # Thin parts were made wider, so all of them are narrowed until they fit.
    scale = min(1.0, 100 / max(1.0, sum(widths.values())))
    parts, start = [], 0.0
    for state, width in widths.items():
        parts.append(Part(state, round(start, 2), round(width * scale, 2)))
        start += width * scale
    return parts
