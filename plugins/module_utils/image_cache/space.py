# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Space targets: a number of bytes, or a share of the file system."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import NamedTuple, Union

from .errors import ImageCacheError
from .text import printable

__all__ = ["Share", "SpaceTarget", "read_space_target", "target_bytes"]

_UNITS = "BKMGTPE"
_LONGEST = 40  # no target needs more characters
# As Ansible writes bytes, where a small b would mean bits.
_BYTES = re.compile(rf"(?P<number>[0-9]+(?:\.[0-9]+)?) *(?:(?P<unit>[{_UNITS}{_UNITS.lower()}])(?:(?<![Bb])i?B)?)?")
_SHARE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?) *%")


class Share(NamedTuple):
    """A part of the file system's size, in percent of it."""

    percent: float


SpaceTarget = Union[int, Share]


def read_space_target(option: str, value: object) -> SpaceTarget:
    """Read a space target.

    :param option: its name, for the message.
    :param value: bytes, with or without a unit of 1024 (``100G``), or a percentage (``15%``).
    :return: bytes, or a share.
    :raises ImageCacheError: it is neither.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = str(value).strip()
    if len(text) <= _LONGEST:
        share = _SHARE.fullmatch(text)
        if share and Decimal(share["number"]) <= 100:
            return Share(float(share["number"]))
        size = _BYTES.fullmatch(text)
        if size:
            return round(Decimal(size["number"]) * (1 << 10 * _UNITS.index((size["unit"] or "B").upper())))
    raise ImageCacheError(
        f"{option} is '{printable(text[:_LONGEST])}', which is neither a number of bytes nor a percentage of the file "
        f"system. Set {option} to bytes, with or without a unit (100G), or to at most 100 percent (15%)."
    )


def target_bytes(target: SpaceTarget | None, total_bytes: int | None) -> float | None:
    """Return how many bytes a space target is.

    :param target: the target; None where none is set.
    :param total_bytes: the size of the file system; None if it reports none.
    :return: bytes; None without a target, and for a share of an unknown size.
    """
    if target is None or isinstance(target, int):
        return target
    return None if total_bytes is None else total_bytes * target.percent / 100
