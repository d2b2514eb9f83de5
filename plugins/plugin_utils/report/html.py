# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet as one HTML page that needs nothing else: no network, and no script to be read.

Names come from guests and tenants. Nothing in the template can be shown unescaped: autoescape is on, and each value
goes through :func:`_shown` first. The only Markup are the two assets of ours, the block of JSON, and what the drawings'
modules compute; the page's policy lets no other style or script work.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.text import printable

from .alarms import fleet_alarms
from .bars import divide
from .curve import curve_of
from .data import page_data
from .rows import COLUMNS, make_tables
from .strips import HEIGHT, draw_strip, draw_used
from .units import age_text, count_text, duration_text, size_text

__all__ = ["render_html"]

_FOLDER = Path(__file__).parent
# How much of something long the page shows. The JSON file has all.
_TEXT = 240
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
    style, script = (_asset(name) for name in ("report.css", "report.js"))
    storages = fleet["storages"]
    tables = make_tables(fleet)
    return _template().render(
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
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
        data=Markup(page_data(tables, _shown)),
        shared=[storage for storage in storages if len(storage["hosts"]) > 1],
        removals=[_Removal.of(storage) for storage in storages if storage["removed"]],
        selection=None if selection is None else _Selection.of(selection),
        items_shown=_ITEMS,
        items_open=_ITEMS_OPEN,
        names_shown=_NAMES,
    )


@functools.cache
def _template() -> Template:
    environment = Environment(
        autoescape=True,
        finalize=_shown,
        loader=FileSystemLoader(_FOLDER),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(
        age=age_text,
        count=count_text,
        drawn=Markup,
        duration=duration_text,
        size=size_text,
        strip=draw_strip,
        used=draw_used,
    )
    environment.globals.update(strip_height=HEIGHT)
    return environment.get_template("report.html.j2")


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


def _asset(name: str) -> Markup:
    return Markup((_FOLDER / name).read_text(encoding="utf-8"))


def _hash(asset: str) -> str:
    """Name an asset in the page's Content-Security-Policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(asset.encode()).digest()).decode()
