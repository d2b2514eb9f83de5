# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A restore on one screen: what comes back and from where, what is still lost and why, and what to type next.

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
from .units import count_text, size_text

__all__ = ["restore_screen"]

_WIDTH = 78
_LINES = 45
_ITEM_LINES = 6
_FEWEST_LINES = 2 + _ITEM_LINES + 1  # of each section: its heading, an item, and how many more there are
_WARNING_LINES = 2

_PROOFS = {
    "process": "a guest has it open",
    "process_and_checksum": "a guest has it open, and its checksum is right",
    "checksum": "its checksum is right",
    "unproven": "the operator's word, and no other",
}

File = Mapping[str, Any]


def restore_screen(restore: Mapping[str, Any]) -> str:
    """Return a restore as a page of plain text.

    :param restore: what :func:`summarise_restore` returns.
    :return: at most 45 lines of at most 78 columns, without a line break after the last one.
    """
    head, advice = _head(restore), _advice(restore)
    sections = [section for section in _sections(restore) if section.items]
    lines: list[str] = []
    for number, section in enumerate(sections, 1):
        reserved = sum(min(later.height, _FEWEST_LINES) for later in sections[number:])
        lines += section.lines(_LINES - len(head) - len(advice) - len(lines) - reserved)
    return "\n".join(printable(line).rstrip() for line in [*head, *lines, *advice])


def _head(restore: Mapping[str, Any]) -> list[str]:
    parts = [count_text(restore["hosts"], "host")]
    if restore["unanswered"]:
        parts.append(f"{len(restore['unanswered'])} without an answer")
    lines = wrap(", ".join(parts), _WIDTH, "BASE FILES  ")
    if restore["unanswered"] and len(restore["unanswered"]) == restore["hosts"]:
        return [*lines, "  What can be restored is unknown."]
    if not restore["restored"] and not restore["lost"]:
        where = " on the hosts that answered" if restore["unanswered"] else ""
        return [*lines, f"  There is nothing to restore{where}."]
    count = count_text(len(restore["restored"]), "file")
    size = size_text(sum(file["allocated_bytes"] for file in restore["restored"]))
    text = f"WOULD BE RESTORED: {count}, {size}. Nothing was restored: this was a dry run."
    lines += wrap(text if restore["check_mode"] else f"RESTORED: {count}, {size}.", _WIDTH, "  ")
    return lines


@dataclass(frozen=True)
class _Section:
    """A part of the page.

    :param title: its heading.
    :param items: the lines of each thing that it lists.
    :param counts: for how many things each of those stands.
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
        return 2 + sum(map(len, self.items[:shown])) + (shown < len(self.items))


def _sections(restore: Mapping[str, Any]) -> list[_Section]:
    is_dry = restore["check_mode"]
    return [
        _Section(
            "WOULD BE RESTORED" if is_dry else "RESTORED",
            [_item([file["host"]], file["name"], _restored(file)) for file in restore["restored"]],
            [1] * len(restore["restored"]),
        ),
        _merged("!! WOULD STILL BE LOST" if is_dry else "!! STILL LOST", restore["lost"], _lost),
        _merged(
            "!! HOSTS WITHOUT AN ANSWER: what they need is unknown. Run again.",
            restore["unanswered"],
            lambda host: Item((host["host"],), "", error=host["error"]),
        ),
        _merged("WOULD BE SET ASIDE" if is_dry else "SET ASIDE", restore["set_aside"], _set_aside),
    ]


def _merged(title: str, things: Iterable[File], to_item: Callable[[File], Item]) -> _Section:
    """Make a section in which the same thing on different hosts is one item."""
    groups = grouped([to_item(thing) for thing in things])
    items = []
    for item, _count in groups:
        users = some_names(item.instances)
        what = f"{item.what}, needed by {users}" if users else item.what
        items.append(_item(item.hosts, what, item.error))
    return _Section(title, items, [count for _item_, count in groups])


def _item(hosts: Sequence[str], what: str, more: str) -> Sequence[str]:
    where = some_names(hosts) if len(hosts) <= 3 else f"{len(hosts)} hosts ({some_names(hosts)})"
    lines = wrap(": ".join(filter(None, [where, what, more])), _WIDTH, "- ", "  ")
    return _cut(lines, _ITEM_LINES)


def _cut(lines: Sequence[str], most: int) -> Sequence[str]:
    return lines if len(lines) <= most else [*lines[: most - 1], "  …"]


def _restored(file: File) -> str:
    if file["source"] == "process":
        source = f"QEMU of {some_names(file['guests'])} ({file['source_path']})"
    else:
        source = str(file["source_path"])
    text = f"{size_text(file['allocated_bytes'])} from {source}. Proof: {_PROOFS.get(file['proof'], file['proof'])}."
    if file["state"] != "missing":
        text += f" It was {file['state']}."
    if file["needs_restart"]:
        text += f" {some_names(file['needs_restart'])} still run on the file that is set aside."
    return text


def _lost(file: File) -> Item:
    state = "" if file["state"] == "missing" else f" ({file['state']})"
    return Item((file["host"],), f"{file['name']}{state}", tuple(file["instances"]), file["reason"])


def _set_aside(file: File) -> Item:
    text = f"{file['set_aside_as']} ({size_text(file['allocated_bytes'])})"
    return Item((file["host"],), file["name"], tuple(file["instances"]), text)


def _advice(restore: Mapping[str, Any]) -> list[str]:
    """Say what to type next."""
    lines: list[str] = []
    guests = list(dict.fromkeys(guest for file in restore["restored"] for guest in file["guests"]))
    if restore["check_mode"] and guests:
        warning = f"Do not stop {some_names(guests)} before that: these files are open there, and nowhere else."
        lines += _cut(wrap(warning, _WIDTH), _WARNING_LINES)
    if restore["check_mode"] and restore["restored"]:
        lines.append("To restore these files: the same command without --check")
    if not restore["check_mode"] and restore["restored"]:
        lines.append("To see what is still missing: ansible-playbook stackops.nova.audit")
    if restore["lost"]:
        lines.append("To restore an image from a file that you bring: image_cache_restore_files")
    return ["", *lines] if lines else []
