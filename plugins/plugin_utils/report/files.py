# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of a report: a page, its data and the metrics. Each is replaced as a whole, once all of them are written.

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
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any, NamedTuple

from .errors import ReportError
from .html import render_html
from .precache_html import render_precache_html
from .prometheus import Metrics, Parsed, metrics_of, metrics_with_precache, parse_metrics, render_metrics
from .query import compile_query

__all__ = ["Written", "check_report", "write_precache_report", "write_report"]

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
    pages = {
        _named("report", slice_name, "html"): render_html(fleet, selection),
        _named("report", slice_name, "json"): _json(fleet if selection is None else {**fleet, "selection": selection}),
    }
    return _write(folder, pages, slice_name, fleet["generated"], lambda former: metrics_of(fleet, former, inventory))


def write_precache_report(
    folder: str, precache: Mapping[str, Any], inventory: Set[str] = frozenset(), slice_name: str = ""
) -> Written:
    """Write ``precache.json`` and ``precache.html``, and what a pre-cache did into ``image_cache.prom``.

    The page of the last audit or prune stays. A dry run has no metrics.

    :param folder: as for :func:`write_report`.
    :param precache: what :func:`summarise_precache` returns.
    :param inventory: as for :func:`write_report`.
    :param slice_name: as for :func:`write_report`.
    :return: what was written.
    :raises ReportError: the files cannot be written.
    """
    pages = {
        _named("precache", slice_name, "html"): render_precache_html(precache),
        _named("precache", slice_name, "json"): _json(precache),
    }
    if precache["check_mode"]:
        return _write(folder, pages)
    return _write(
        folder,
        pages,
        slice_name,
        precache["generated"],
        lambda former: metrics_with_precache(precache, former, inventory),
    )


def _named(name: str, slice_name: str, suffix: str) -> str:
    return f"{name}_{slice_name}.{suffix}" if slice_name else f"{name}.{suffix}"


def _write(
    folder: str,
    pages: Mapping[str, str],
    slice_name: str = "",
    generated: float = 0.0,
    continue_metrics: Callable[[Metrics], Metrics] | None = None,
) -> Written:
    """Write pages, and the metrics that follow the former ones, if there are any.

    :param pages: texts by the names of the files.
    :param generated: the time of the report, in unix seconds.
    :param continue_metrics: makes the metrics of the former ones.
    """
    texts, warning = dict(pages), ""
    try:
        os.makedirs(folder, exist_ok=True)
        with _locked(folder):
            if continue_metrics:
                name = _named("image_cache", slice_name, "prom")
                # One that began its report later may have written it before.
                former, warning = _read_former(os.path.join(folder, name), max(generated, time.time()))
                texts[name] = render_metrics(continue_metrics(former.metrics), slice_name)
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
