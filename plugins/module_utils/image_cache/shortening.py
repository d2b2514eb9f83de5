# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A result that stays small: lists that are cut, and how much was left out of each."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["first_items", "shorten_lists"]

# A summary is under 4 KiB of JSON. How much of it each list may take, what is more important first.
_SUMMARY_BYTES = 4000
_LIST_BYTES = {
    "unknown_use": 900,
    "missing": 700,
    "unknown_deletions": 600,
    "corrupt": 500,
    "limit_exceeded": 400,
    "unremovable": 400,
    "orphans": 400,
    "set_aside": 300,
    "users": 400,
}
_LEAST_LIST_BYTES = 300


def shorten_lists(facts: dict[str, Any]) -> dict[str, Any]:
    """Cut the lists so that the whole stays small, and say how much is left out of each."""
    lists = {name: facts["storage"][name] if name == "users" else facts[name] for name in _LIST_BYTES}
    shown = {**facts, **dict.fromkeys(lists, ()), "storage": {**facts["storage"], "users": ()}, "for_members": None}
    shown["omitted"] = dict.fromkeys(lists, 0)
    spare = _SUMMARY_BYTES - _json_bytes(shown) - _LEAST_LIST_BYTES * sum(map(bool, lists.values()))
    facts["omitted"] = {}
    for name, items in lists.items():
        limit = min(_LIST_BYTES[name], _LEAST_LIST_BYTES + max(spare, 0))
        first = first_items(items, limit)
        (facts["storage"] if name == "users" else facts)[name] = first
        facts["omitted"][name] = len(items) - len(first)
        spare -= max(0, _json_bytes(first) - _LEAST_LIST_BYTES)
    return facts


def first_items(items: list[Any], limit: int) -> list[Any]:
    """Return as many items as fit in so many bytes of JSON, and one at least, if need be shortened."""
    shown = [_brief(item, limit) for item in items[:1]]
    used = sum(_json_bytes(item) for item in shown)
    for item in items[1:]:
        used += _json_bytes(item)
        if used > limit:
            break
        shown.append(item)
    return shown


def _brief(item: Any, limit: int) -> Any:
    if _json_bytes(item) <= limit:
        return item
    if isinstance(item, dict):
        # The short values first: what they leave is for the long ones.
        spare = limit - sum(_json_bytes(key) for key in item)
        shown = {}
        for number, key in enumerate(sorted(item, key=lambda key: _json_bytes(item[key]))):
            shown[key] = _brief(item[key], spare // (len(item) - number))
            spare -= _json_bytes(shown[key])
        return {key: shown[key] for key in item}
    if isinstance(item, list):
        return first_items(item, limit)
    while _json_bytes(item) > limit:
        item = item[: len(item) * 3 // 4] + "…"
    return item


def _json_bytes(item: Any) -> int:
    return len(json.dumps(item)) + len(", ")
