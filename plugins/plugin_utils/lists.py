# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lists as the role's variables have them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def as_list(value: Iterable[Any]) -> list[Any]:
    """Return a list as a module takes one: a text with commas is one as well."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else list(value)
