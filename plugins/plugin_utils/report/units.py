# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bytes, numbers, ages and durations as people read them."""

from __future__ import annotations

__all__ = ["age_text", "count_text", "duration_text", "size_text"]

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_SECONDS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def size_text(size: int) -> str:
    """Return a size with two or three digits: ``0 B``, ``1.2 GiB``, ``20 GiB``, ``999 KiB``.

    :param size: bytes, zero or more.
    """
    amount = float(size)
    unit = 0
    while amount >= 999.5 and unit < len(_BYTES) - 1:
        amount /= 1024
        unit += 1
    has_fraction = unit > 0 and amount < 9.95
    return f"{amount:.{1 if has_fraction else 0}f} {_BYTES[unit]}"


def count_text(number: int, one: str, many: str | None = None) -> str:
    """Return a number of things: ``1 host``, ``1,200 hosts``.

    :param number: how many.
    :param one: the word for one of them.
    :param many: the word for several; ``one`` with an s if not given.
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def age_text(seconds: float) -> str:
    """Return how long ago something was, in its largest unit: ``40d ago``, ``59s ago``, ``in future``.

    :param seconds: the age, negative if the time is yet to come.
    """
    return f"{_parts(seconds)[0]} ago" if seconds >= 0 else "in future"


def duration_text(seconds: float) -> str:
    """Return a duration in its largest unit and the one below: ``3h 20m``, ``10d``, ``0s``.

    :param seconds: the duration, zero or more. A part of a second is left out.
    """
    return " ".join(_parts(seconds))


def _parts(seconds: float) -> list[str]:
    rest = int(seconds)
    parts = []
    for unit, length in _SECONDS:
        count, rest = divmod(rest, length)
        parts.append(f"{count}{unit}" if count else "")
    largest = next((index for index, text in enumerate(parts) if text), None)
    return ["0s"] if largest is None else [text for text in parts[largest : largest + 2] if text]
