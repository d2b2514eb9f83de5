# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time and is not for use from elsewhere.
"""A fleet as one HTML page that needs nothing else: no network, and no script to be read.

Names come from guests and tenants. Nothing in the template can be shown unescaped: autoescape is on, and each value
goes through :func:`_shown` first. The two assets of ours are the only Markup, and the page's policy allows no others.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.layout import printable

__all__ = ["render_html"]

_FOLDER = Path(__file__).parent
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
# How much of something long the page shows. The JSON file has all.
_TEXT = 240
_ITEMS = 50
_ITEMS_OPEN = 6
_NAMES = 200
_ROWS = 1000
# A part of a bar that is not empty can be seen, in percent of the width.
_THINNEST = 1.0

_STATES = {
    "audited": "Audited",
    "pruned": "Pruned",
    "refused": "Refused",
    "failed": "Failed",
    "unreachable": "Unreachable",
    "waits": "Waits",
}
# What needs a person comes first in the table as well.
_ORDER = {
    state: place for place, state in enumerate(["failed", "unreachable", "refused", "waits", "pruned", "audited"])
}


def render_html(fleet: Mapping[str, Any], selection: Mapping[str, Any] | None = None) -> str:
    """Return the page.

    :param fleet: what the filter ``image_cache_fleet`` returns.
    :param selection: what a query selected from it, with its ``expression``, ``result`` and ``error``.
    """
    style, script = (_asset(name) for name in ("report.css", "report.js"))
    widest = max((store["summary"]["total"]["allocated_bytes"] for store in fleet["stores"]), default=0)
    return _template().render(
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        fleet=fleet,
        summary=fleet["summary"],
        mode=_mode(fleet),
        generated=datetime.fromtimestamp(fleet["generated"], tz=timezone.utc),
        alarms=[alarm for alarm in _alarms(fleet) if alarm.count],
        fleet_parts=_parts(fleet["summary"]["bytes"], fleet["summary"]["cached_bytes"]),
        rows=sorted(_rows(fleet, widest), key=lambda row: (row.place, row.name)),
        shared=[store for store in fleet["stores"] if len(store["hosts"]) > 1],
        gone=[_Gone.of(store) for store in fleet["stores"] if store["removed"]],
        selection=None if selection is None else _Selection.of(selection),
        items_open=_ITEMS_OPEN,
        names_shown=_NAMES,
    )


@functools.lru_cache(maxsize=None)
def _template() -> Template:
    environment = Environment(
        autoescape=True,
        finalize=_shown,
        loader=FileSystemLoader(_FOLDER),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(size=_size, count=_count)
    return environment.get_template("report.html.j2")


class _Mode(NamedTuple):
    """The words that differ between an audit, a dry run and a prune."""

    name: str
    sentence: str
    freed: str
    went: str


def _mode(fleet: Mapping[str, Any]) -> _Mode:
    if not fleet["pruned"]:
        return _Mode("Audit", "Nothing was removed: this run only looked.", "A prune would free", "")
    if fleet["check_mode"]:
        return _Mode("Dry run", "Nothing was removed: this run only rehearsed a prune.", "Would be freed", "Would go")
    return _Mode("Prune", "The figures are those found before anything was removed.", "Freed", "Went")


class _Alarm(NamedTuple):
    """Something that needs a person.

    :param level: how bad it is: ``critical``, ``warning`` or ``note``.
    :param items: where, what and more about it, for as many as are shown.
    :param count: how many there are.
    """

    level: str
    title: str
    advice: str
    items: Sequence[tuple[str, str, str]]
    count: int
    names: bool


def _alarms(fleet: Mapping[str, Any]) -> Iterator[_Alarm]:
    """Tell what may need a person, the worst first."""
    stores = fleet["stores"]
    yield _alarm(
        "critical",
        "Missing backing files",
        "Disks are built on these files, and the files do not exist. Restore them before anything else, from "
        "another host's cache or from Glance: the instances cannot start without them.",
        [(_where(store), lost["backing_file"], _some(lost["instances"])) for store, lost in _each(stores, "missing")],
        omitted=_omitted(stores, "missing"),
    )
    yield _alarm(
        "critical",
        "Corrupt base files",
        "They are not what they were. Compare them with another host's, and restore them before what uses them "
        "starts again.",
        [
            (_where(store), file["name"], _some(file["used_by"]) or "no known instance")
            for store, file in _each(stores, "corrupt")
        ],
        omitted=_omitted(stores, "corrupt"),
    )
    yield _alarm(
        "warning",
        "Removals that failed",
        "The files are there still. The next run tries again.",
        [(_where(store), failure["name"], failure["error"]) for store, failure in _each(stores, "failed")],
    )
    yield _alarm(
        "warning",
        "Refusals",
        "Not all that uses these caches is known, so nothing is removed from them.",
        [(_where(store), reason, "") for store, reason in _each(stores, "refused")],
        omitted=_omitted(stores, "unknown_use"),
        names=False,
    )
    yield _alarm(
        "warning",
        "Hosts without answer",
        "They failed or could not be reached.",
        [
            (host["name"], _STATES[host["state"]], host["error"] or "")
            for host in fleet["hosts"]
            if host["state"] in ("failed", "unreachable")
        ],
        names=False,
    )
    yield _alarm(
        "note",
        "Orphans",
        "These directories hold disks and belong to no known instance. Look whether they may go, or whether "
        "an instance was forgotten.",
        [(_where(store), name, "") for store, name in _each(stores, "orphans")],
        omitted=_omitted(stores, "orphans"),
    )


def _alarm(
    level: str, title: str, advice: str, items: Sequence[tuple[str, str, str]], omitted: int = 0, names: bool = True
) -> _Alarm:
    return _Alarm(level, title, advice, items[:_ITEMS], len(items) + omitted, names)


def _omitted(stores: Sequence[Mapping[str, Any]], key: str) -> int:
    return sum(store["omitted"][key] for store in stores)


def _each(stores: Sequence[Mapping[str, Any]], key: str) -> Iterator[tuple[Mapping[str, Any], Any]]:
    return ((store, item) for store in stores for item in store[key])


def _where(store: Mapping[str, Any]) -> str:
    more = len(store["hosts"]) - 1
    return f"{store['pruner']} and {more} more" if more else store["pruner"]


class _Part(NamedTuple):
    """One part of a bar, its place and width in percent."""

    state: str
    start: float
    width: float


class _Row(NamedTuple):
    """One host in the table."""

    place: int
    name: str
    state: str
    label: str
    alike: int
    size: Mapping[str, int] | None
    cached: int
    freed: int
    free: int | None
    parts: Sequence[_Part]


def _rows(fleet: Mapping[str, Any], widest: int) -> Iterator[_Row]:
    store_of = {name: store for store in fleet["stores"] for name in store["hosts"]}
    key = "reclaimed_bytes" if fleet["pruned"] else "reclaimable_bytes"
    for host in fleet["hosts"]:
        store = store_of.get(host["name"])
        size = None if store is None else store["summary"]["bytes"]
        needs_a_person = store is not None and (store["missing"] or store["corrupt"])
        yield _Row(
            place=min(_ORDER[host["state"]], _ORDER["refused"] if needs_a_person else len(_ORDER)),
            name=host["name"],
            state=host["state"],
            label="Rehearsed" if host["state"] == "pruned" and fleet["check_mode"] else _STATES[host["state"]],
            alike=len(store["hosts"]) - 1 if store else 0,
            size=size,
            cached=store["summary"]["total"]["allocated_bytes"] if store else 0,
            freed=(store if fleet["pruned"] else store["summary"])[key] if store else 0,
            free=host["free_bytes"],
            parts=_parts(size, widest) if size else (),
        )


def _parts(size: Mapping[str, int], whole: int) -> list[_Part]:
    """Divide a bar. A corrupt file has a state as well, and is nearly always in use: it is not to be drawn twice."""
    shares = {"corrupt": size["corrupt"]}
    drawn = size["corrupt"]
    for state in ("active", "too_young", "removable"):
        shares[state] = max(0, size[state] - drawn)
        drawn -= size[state] - shares[state]
    widths = {state: max(100 * share / whole, _THINNEST) for state, share in shares.items() if share and whole}
    # Thin parts were made wider: what is too much is taken from all.
    scale = min(1.0, 100 / max(1.0, sum(widths.values())))
    parts, start = [], 0.0
    for state, width in widths.items():
        parts.append(_Part(state, round(start, 2), round(width * scale, 2)))
        start += width * scale
    return parts


class _Gone(NamedTuple):
    """What was removed from a store.

    :param files: the entries of those that are shown, in the order of their names.
    """

    host: str
    count: int
    freed: int
    files: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, store: Mapping[str, Any]) -> _Gone:
        known = {file["name"]: file for file in store.get("files", ())}
        files = [known.get(name, {"name": name}) for name in store["removed"][:_NAMES]]
        return cls(store["pruner"], len(store["removed"]), store["reclaimed_bytes"], files)


class _Selection(NamedTuple):
    """What the query selected: as a table if it is a list of things, else as a list of values."""

    expression: str
    error: str | None
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    count: int

    @classmethod
    def of(cls, selection: Mapping[str, Any]) -> _Selection:
        result = selection["result"]
        items = result if isinstance(result, list) else [] if result is None else [result]
        shown = items[:_ROWS]
        columns: Sequence[str] = ()
        if shown and all(isinstance(item, Mapping) for item in shown):
            columns = list(dict.fromkeys(key for item in shown for key, value in item.items() if _is_plain(value)))
            rows = [[item.get(column) for column in columns] for item in shown]
        else:
            rows = [[item] for item in shown]
        return cls(selection["expression"], selection["error"], columns, rows, len(items))


def _is_plain(value: Any) -> bool:
    return not isinstance(value, (Mapping, list)) or (isinstance(value, list) and not any(map(_is_nested, value)))


def _is_nested(value: Any) -> bool:
    return isinstance(value, (Mapping, list))


def _shown(value: Any) -> Any:
    """Make a value fit to be seen: no control or direction characters, and not longer than a person reads."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        value = ", ".join(map(str, value))
    text = str(value)
    return printable(text if len(text) <= _TEXT else text[:_TEXT] + "…")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def _size(number: int) -> str:
    """Say a number of bytes with three digits, 1.2 GiB."""
    unit = 0
    amount = float(number)
    while amount >= 999.5 and unit < len(_UNITS) - 1:
        amount /= 1024
        unit += 1
    return f"{amount:.0f} {_UNITS[unit]}" if unit == 0 or amount >= 9.95 else f"{amount:.1f} {_UNITS[unit]}"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _asset(name: str) -> Markup:
    return Markup((_FOLDER / name).read_text(encoding="utf-8"))


def _hash(asset: str) -> str:
    """Name an asset in the page's Content-Security-Policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(asset.encode()).digest()).decode()
