# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names from disks, guests and APIs, made safe for messages and results."""

from __future__ import annotations

from typing import Iterable, Sequence

__all__ = ["printable", "printable_names", "shortened", "some_names"]

_NAMES_SHOWN = 5


def printable(text: str) -> str:
    """Make a name safe for messages and results.

    :param text: a name as the file system or a guest gave it: undecodable bytes as lone
        surrogates, control characters and all.
    :return: text that is valid Unicode on one line, with what was not shown as an escape.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def printable_names(names: Iterable[str]) -> list[str]:
    """Return names as results list them: each printable, sorted."""
    return sorted(map(printable, names))


def shortened(text: str, length: int) -> str:
    """Return a text with no more characters than these: what is left out is shown as one."""
    return text if len(text) <= length else text[: length - 1] + "…"


def some_names(names: Sequence[str]) -> str:
    """Return the first few names as part of a sentence."""
    shown = ", ".join(printable(name) for name in names[:_NAMES_SHOWN])
    more = len(names) - _NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
