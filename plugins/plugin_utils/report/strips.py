# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The strips of the HTML page: where an image is, a column for each storage.

What uses it stands on the bottom, the more instances the higher. What could be removed hangs from the top.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

__all__ = ["HEIGHT", "draw_strip", "draw_used", "strip_of"]

HEIGHT = 12
_ABSENT = "."
_REMOVABLE = 4  # what is added to the level of a cell of which something could be removed
_HEIGHTS = (2, 5, 8, 12)
_HANGING = 6


def strip_of(images: Iterable[Mapping[str, Any] | None]) -> str:
    """Return a strip as text, which the page's script reads as well: a character for each storage.

    :param images: the image on each storage, as the modules return it; None where it is not.
    """
    return "".join(map(_cell, images))


def _cell(image: Mapping[str, Any] | None) -> str:
    if image is None:
        return _ABSENT
    level = sum(image["instances"] >= least for least in (1, 2, 10))
    return str(level + (_REMOVABLE if image["reclaimable_bytes"] else 0))


def draw_strip(strip: str) -> list[tuple[str, str]]:
    """Return the paths of a strip, each with its class: ``kept``, ``active`` or ``removable``."""
    paths = {"kept": "", "active": "", "removable": ""}
    start = 0
    for cell, run in groupby(strip):
        length = len(list(run))
        if cell != _ABSENT:
            removable, level = divmod(int(cell), _REMOVABLE)
            if level or not removable:
                paths["active" if level else "kept"] += f"M{start} {HEIGHT}v-{_HEIGHTS[level]}h{length}V{HEIGHT}z"
            if removable:
                paths["removable"] += f"M{start} 0v{_HANGING}h{length}V0z"
        start += length
    return [(name, path) for name, path in paths.items() if path]


def draw_used(percents: Iterable[float | None]) -> str:
    """Return the path of a strip that shows how full each storage is.

    :param percents: what is used of each, from 0 to 100; None where that is unknown.
    """
    return "".join(
        f"M{start} {HEIGHT}v-{round(percent * HEIGHT / 100, 1)}h1V{HEIGHT}z"
        for start, percent in enumerate(percents)
        if percent
    )
