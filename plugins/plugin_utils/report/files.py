# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The three files of the report. Each is replaced as a whole, once all of them are written.

The metrics continue those of the file that is replaced, which is the only memory that a report has.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping, Set
from typing import Any, NamedTuple

from .errors import ReportError
from .html import render_html
from .prometheus import Parsed, metrics_of, parse_metrics, render_metrics
from .query import compile_query

__all__ = ["Written", "check_report", "write_report"]

_METRICS_BYTES = 256 * 1024 * 1024
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


class Written(NamedTuple):
    """What was written.

    :param names: the names of the files, sorted.
    :param warning: what of the former metrics could not be read, and so is lost; empty if nothing is.
    """

    names: list[str]
    warning: str


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


def write_report(
    folder: str,
    fleet: Mapping[str, Any],
    query: str | None,
    inventory: Set[str] = frozenset(),
    slice_name: str = "",
) -> Written:
    """Write ``report.json``, ``report.html`` and ``image_cache.prom``.

    :param folder: where to write, an absolute path. It is made if it does not exist.
    :param fleet: the fleet, plain data.
    :param query: a JMESPath expression that selects a part of the fleet for a section of its own, None for none.
    :param inventory: the hosts whose former metrics are kept if this run did not answer for them.
    :param slice_name: the slice of the hosts that it is about, as part of the files' names; empty for all.
    :return: what was written.
    :raises ReportError: the query does not parse, or the files cannot be written.
    """
    selection = compile_query(query)(fleet) if query else None
    page, data = render_html(fleet, selection), _json(fleet if selection is None else {**fleet, "selection": selection})
    names = {name: f"{name}_{slice_name}" if slice_name else name for name in ("image_cache", "report")}
    metrics_name = f"{names['image_cache']}.prom"
    try:
        os.makedirs(folder, exist_ok=True)
        with _locked(folder):
            # One that began its report later may have written it before.
            now = max(fleet["generated"], time.time())
            former, warning = _read_former(os.path.join(folder, metrics_name), now)
            texts = {
                metrics_name: render_metrics(metrics_of(fleet, former.metrics, inventory), slice_name),
                f"{names['report']}.html": page,
                f"{names['report']}.json": data,
            }
            _replace({os.path.join(folder, name): text for name, text in texts.items()})
    except OSError as exc:
        raise _cannot_write(folder, exc) from exc
    return Written(sorted(texts), warning)


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Let runs that end at the same time continue each other's metrics, and not the same former ones."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: then the last one counts
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read_former(path: str, now: float) -> tuple[Parsed, str]:
    """Read the metrics of former runs, and say what of them is lost. None of it stops a run."""
    try:
        descriptor = os.open(path, _FILE_FLAGS)
        with open(descriptor, encoding="utf-8", errors="replace", newline="\n") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return Parsed({}, []), _lost(path, "it is not a regular file")
            text = stream.read(_METRICS_BYTES + 1)
    except FileNotFoundError:
        return Parsed({}, []), ""
    except OSError as exc:
        return Parsed({}, []), _lost(path, exc.strerror or str(exc))
    if len(text) > _METRICS_BYTES:
        return Parsed({}, []), _lost(path, f"it has more than {_METRICS_BYTES >> 20} MiB")
    parsed = parse_metrics(text, now)
    lines = parsed.damaged_lines
    return parsed, _lost(path, f"damaged lines: {len(lines)}, from line {lines[0]}") if lines else ""


def _lost(path: str, why: str) -> str:
    return (
        f"The former metrics in {path} cannot be read in full: {why}. What they said of hosts that this run did not "
        f"ask is lost, and alerts about them may have resolved. Run an audit of all hosts, with checksum_base_images "
        f"where base files are verified."
    )


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
                if path.endswith(".prom"):  # whatever the umask: the exporter runs as another user
                    os.fchmod(stream.fileno(), 0o644)
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
