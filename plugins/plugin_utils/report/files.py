# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The three files of the report. Each is replaced as a whole, once all of them are written."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from typing import Any

from .errors import ReportError
from .html import render_html
from .prometheus import render_prometheus
from .query import compile_query

__all__ = ["check_report", "write_report"]


def check_report(folder: str, query: str | None) -> None:
    """Check that a report can be written, before the work begins that it is about. Makes the folder.

    :param folder: where the report is to be written, an absolute path.
    :param query: a JMESPath expression, None for none.
    :raises ReportError: the query does not parse, or the folder cannot be written.
    """
    if query:
        compile_query(query)
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as exc:
        raise _cannot_write(folder, exc) from exc


def write_report(folder: str, fleet: Mapping[str, Any], query: str | None) -> list[str]:
    """Write ``report.json``, ``report.html`` and ``image_cache.prom``.

    :param folder: where to write, an absolute path. It is made if it does not exist.
    :param fleet: the fleet, plain data.
    :param query: a JMESPath expression that selects a part of the fleet for a section of its own, None for none.
    :return: the names of the files, sorted.
    :raises ReportError: the query does not parse, or the files cannot be written.
    """
    selection = compile_query(query)(fleet) if query else None
    texts = {
        "image_cache.prom": render_prometheus(fleet),
        "report.html": render_html(fleet, selection),
        "report.json": _json(fleet if selection is None else {**fleet, "selection": selection}),
    }
    try:
        os.makedirs(folder, exist_ok=True)
        _replace({os.path.join(folder, name): text for name, text in texts.items()})
    except OSError as exc:
        raise _cannot_write(folder, exc) from exc
    return sorted(texts)


def _cannot_write(folder: str, exc: OSError) -> ReportError:
    return ReportError(
        f"The report cannot be written into {folder} on the controller. The cause is: {exc.strerror or exc}. "
        f"Let the user who runs Ansible write there, or set another folder (image_cache_report_path)."
    )


def _json(fleet: Mapping[str, Any]) -> str:
    return json.dumps(fleet, indent=1, sort_keys=True) + "\n"


def _replace(texts: Mapping[str, str]) -> None:
    """Write each file beside its place and then move all of them there, so that a reader never sees a part of one.

    :param texts: what to write, by path.
    """
    parts = {path: f"{path}.{secrets.token_hex(8)}.part" for path in texts}
    try:
        for path, part in parts.items():
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "w", encoding="utf-8") as stream:
                stream.write(texts[path])
                stream.flush()
                os.fsync(stream.fileno())
        for path, part in parts.items():
            os.replace(part, path)
    except BaseException:
        for part in parts.values():
            with contextlib.suppress(OSError):
                os.unlink(part)
        raise
