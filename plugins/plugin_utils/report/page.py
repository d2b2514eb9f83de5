# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the HTML pages have in common: their templates, their style, and how a value becomes fit to be seen.

Names come from guests and tenants. Nothing in a template can be shown unescaped: autoescape is on, and each value
goes through :func:`shown` first. The only Markup are assets of ours, blocks of JSON, and what the drawings' modules
compute; each page's policy lets no other style or script work.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.text import printable

from .strips import HEIGHT, draw_strip, draw_used
from .units import age_text, count_text, duration_text, size_text

__all__ = ["read_asset", "read_template", "sha256_source", "shown"]

_FOLDER = Path(__file__).parent
# How much of something long a page shows: a piece of a name, and all of a reason and its remedy. The JSON file has all.
_TEXT = 800


@functools.cache
def read_template(name: str) -> Template:
    """Return one of the templates beside this module."""
    environment = Environment(
        autoescape=True,
        finalize=shown,
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
    return environment.get_template(name)


def shown(value: Any) -> Any:
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


def read_asset(name: str) -> Markup:
    """Return a style or a script beside this module."""
    return Markup((_FOLDER / name).read_text(encoding="utf-8"))


def sha256_source(asset: str) -> str:
    """Name an asset in a page's Content-Security-Policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(asset.encode()).digest()).decode()
