# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text from hosts, guests and tenants, made safe for a terminal and broken into lines."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.text import printable

__all__ = ["columns", "cut", "some_names", "wrap"]

_NAMES = 3


def some_names(names: Sequence[str], count: int | None = None) -> str:
    """Return the first few names as part of a sentence: ``a``, ``a and b``, ``a, b, c and 4 more``.

    :param names: as many names as are known.
    :param count: how many there are, if not all of them are known.
    """
    shown = list(names[:_NAMES])
    more = (len(names) if count is None else count) - len(shown)
    last = [f"{more} more"] if more > 0 else shown[-1:]
    first = shown if more > 0 else shown[:-1]
    return " and ".join(filter(None, [", ".join(first), *last]))


def columns(text: str) -> int:
    """Return how many columns of a terminal a printable text takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def cut(text: str, width: int) -> str:
    """Return a printable text in at most this many columns, with an ellipsis in place of what does not fit."""
    text = printable(text)
    return text if columns(text) <= width else next(_pieces(text, width - 1), "") + "…"


def wrap(text: str, width: int, first: str = "", further: str | None = None) -> list[str]:
    """Break a text into lines at its spaces, and inside a word only where the word is wider than a line.

    :param text: any text. What a terminal does not show as one character is replaced by an escape.
    :param width: the most columns that a line takes.
    :param first: what the first line begins with, narrower than the width.
    :param further: what each further line begins with; spaces as wide as ``first`` if not given.
    :return: the lines, at least one.
    """
    further = " " * columns(first) if further is None else further
    lines, line, is_empty = [], first, True
    for word in printable(text).split(" "):
        for piece in _pieces(word, width - max(columns(first), columns(further))):
            addition = piece if is_empty else f" {piece}"
            if not is_empty and columns(line) + columns(addition) > width:
                lines.append(line)
                line, addition = further, piece
            line, is_empty = line + addition, False
    return [each.rstrip() for each in (*lines, line)]


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _pieces(word: str, width: int) -> Iterator[str]:
    """Cut a word into pieces of at most this width."""
    piece, used = "", 0
    for character in word:
        wide = _columns(character)
        if used + wide > width and piece:
            yield piece
            piece, used = "", 0
        piece, used = piece + character, used + wide
    if piece:
        yield piece
