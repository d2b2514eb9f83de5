# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parts of a page of plain text: each has a heading and items, and as many of these as there is room for.

Names come from guests and tenants. Each line goes through :func:`printable`, so that none of them reaches a terminal
as a control character.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.text import printable

from .alarms import Item, grouped
from .text import some_names, wrap

__all__ = ["LINES", "WIDTH", "Section", "cut_lines", "item_lines", "merged_section", "page"]

WIDTH = 78
LINES = 45
_ITEM_LINES = 6
_FEWEST_LINES = 2 + _ITEM_LINES + 1  # of each section: its heading, an item, and how many more there are


def page(head: Sequence[str], sections: Sequence[Section], advice: Sequence[str]) -> str:
    """Return a page of at most 45 lines of at most 78 columns, without a line break after the last one.

    :param head: its first lines.
    :param sections: its parts. Those without an item are left out.
    :param advice: its last lines.
    """
    shown = [section for section in sections if section.items]
    lines: list[str] = []
    for number, section in enumerate(shown, 1):
        reserved = sum(min(later.height, _FEWEST_LINES) for later in shown[number:])
        lines += section.lines(LINES - len(head) - len(advice) - len(lines) - reserved)
    return "\n".join(printable(line).rstrip() for line in [*head, *lines, *advice])


@dataclass(frozen=True)
class Section:
    """A part of the page.

    :param title: its heading.
    :param items: the lines of each thing that it lists; of as many as may have room.
    :param counts: for how many things each of them stands, and each of the others.
    """

    title: str
    items: Sequence[Sequence[str]]
    counts: Sequence[int]

    @property
    def height(self) -> int:
        """How many lines it takes with all of its items. The heading takes two."""
        return 2 + sum(map(len, self.items))

    def lines(self, room: int) -> list[str]:
        """Return it in at most this many lines, but for its first item, which is always there."""
        shown = 1
        while shown < len(self.items) and self._height_of(shown + 1) <= room:
            shown += 1
        more = sum(self.counts[shown:])
        rest = [f"  and {more} more"] if more else []
        return ["", self.title, *(line for item in self.items[:shown] for line in item), *rest]

    def _height_of(self, shown: int) -> int:
        return 2 + sum(map(len, self.items[:shown])) + (shown < len(self.counts))


def merged_section(
    title: str, things: Iterable[Mapping[str, Any]], to_item: Callable[[Mapping[str, Any]], Item]
) -> Section:
    """Make a section in which the same thing on different hosts is one item."""
    groups = grouped([to_item(thing) for thing in things])
    items = []
    for item, _count in groups[:LINES]:
        users = some_names(item.instances)
        what = f"{item.what}, needed by {users}" if users else item.what
        items.append(item_lines(item.hosts, what, item.error))
    return Section(title, items, [count for _item_, count in groups])


def item_lines(hosts: Sequence[str], what: str, more: str) -> Sequence[str]:
    """Return the lines of one item: on which hosts, what, and more about it. Each may be empty."""
    where = some_names(hosts) if len(hosts) <= 3 else f"{len(hosts)} hosts ({some_names(hosts)})"
    lines = wrap(": ".join(filter(None, [where, what, more])), WIDTH, "- ", "  ")
    return cut_lines(lines, _ITEM_LINES)


def cut_lines(lines: Sequence[str], most: int) -> Sequence[str]:
    """Return at most this many lines, with an ellipsis in place of the last one where there are more."""
    return lines if len(lines) <= most else [*lines[: most - 1], "  …"]
