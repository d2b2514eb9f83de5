# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet as one HTML page that needs nothing else: no network, and no script to be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from .alarms import fleet_alarms
from .bars import divide
from .curve import curve_of
from .data import page_data
from .page import read_asset, read_template, sha256_source, shown
from .rows import COLUMNS, make_tables

__all__ = ["render_html"]

# How much of something long the page shows. The JSON file has all.
_ITEMS = 50
_ITEMS_OPEN = 6
_NAMES = 200
_ROWS = 1000
# Of the tables, without the script; it draws more of them, as many at a time.
_HOST_ROWS = 100
_IMAGE_ROWS = 50
_CELLS = 8


def render_html(fleet: Mapping[str, Any], selection: Mapping[str, Any] | None = None) -> str:
    """Return the page.

    :param fleet: the fleet as ``report.json`` has it.
    :param selection: what a query selected from it, with its ``expression``, ``result`` and ``error``.
    """
    style, script = (read_asset(name) for name in ("report.css", "report.js"))
    storages = fleet["storages"]
    tables = make_tables(fleet)
    return read_template("report.html.j2").render(
        style=style,
        style_hash=sha256_source(style),
        script=script,
        script_hash=sha256_source(script),
        fleet=fleet,
        summary=fleet["summary"],
        mode=_mode(fleet),
        generated=datetime.fromtimestamp(fleet["generated"], tz=UTC),
        alarms=fleet_alarms(fleet),
        fleet_parts=divide(fleet["summary"]["bytes"], fleet["summary"]["cached_bytes"]),
        tables=tables,
        columns=tables.storages[:COLUMNS],
        hosts=[(host, tables.images_on(host)) for host in tables.hosts[:_HOST_ROWS]],
        images=[(image, tables.storages_with(image)) for image in tables.images[:_IMAGE_ROWS]],
        cells_shown=_CELLS,
        unasked=sum(storage.images is None for storage in tables.storages),
        curve=curve_of(fleet["summary"]),
        data=Markup(page_data(tables, shown)),
        shared=[storage for storage in storages if len(storage["hosts"]) > 1],
        removals=[_Removal.of(storage) for storage in storages if storage["removed"]],
        selection=None if selection is None else _Selection.of(selection),
        items_shown=_ITEMS,
        items_open=_ITEMS_OPEN,
        names_shown=_NAMES,
    )


@dataclass(frozen=True)
class _Mode:
    """The words that differ between an audit, a dry run and a prune."""

    name: str
    sentence: str
    freed: str
    planned: str
    verb: str
    removed: str


def _mode(fleet: Mapping[str, Any]) -> _Mode:
    if not fleet["pruned"]:
        return _Mode(
            "Audit",
            "Nothing was removed: this run only looked.",
            "A prune would free",
            "A prune would free",
            "removable",
            "",
        )
    if fleet["check_mode"]:
        return _Mode(
            "Dry run",
            "Nothing was removed: this was a dry run.",
            "Would be freed",
            "Would be freed",
            "to be freed",
            "Would be removed",
        )
    return _Mode(
        "Prune",
        "The figures are those found before anything was removed.",
        "Freed",
        "Was to be freed",
        "freed",
        "Removed",
    )


@dataclass(frozen=True)
class _Removal:
    """What was removed from a storage.

    :param files: the entries of those that are shown, in the order of their names.
    """

    host: str
    count: int
    freed: int
    files: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, storage: Mapping[str, Any]) -> _Removal:
        known = {file["name"]: file for file in storage.get("files", ())}
        files = [known.get(name, {"name": name}) for name in storage["removed"][:_NAMES]]
        return cls(storage["pruner"], len(storage["removed"]), storage["reclaimed_bytes"], files)


@dataclass(frozen=True)
class _Selection:
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
