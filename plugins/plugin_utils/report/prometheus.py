# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet as Prometheus text, for the node exporter's textfile collector.

The format is https://prometheus.io/docs/instrumenting/exposition_formats/, the names follow
https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .alarms import AlarmKind, meaning_of, storage_alarms

__all__ = ["render_prometheus"]

_PREFIX = "nova_image_cache_"
_STATES = ("active", "removable", "too_young", "other")
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

Labels = Mapping[str, str]
Sample = tuple[Labels, float]


def render_prometheus(fleet: Mapping[str, Any]) -> str:
    """Return the fleet's metrics, all of them gauges.

    A storage that several hosts share has one series of each metric, under the first of their names: so a sum over
    hosts counts it once. ``host_storage`` shows which hosts share one.

    :param fleet: the fleet as ``report.json`` has it.
    """
    return "".join(
        f"# HELP {_PREFIX}{name} {text}\n# TYPE {_PREFIX}{name} gauge\n" + "".join(_lines(name, samples))
        for name, text, samples in _metrics(fleet)
    )


def _metrics(fleet: Mapping[str, Any]) -> Iterator[tuple[str, str, Iterable[Sample]]]:
    storages = [({"host": min(storage["hosts"])}, storage) for storage in fleet["storages"]]
    # In check mode nothing was removed, whatever the dry run says would be.
    was_done = not fleet["check_mode"]

    yield "report_timestamp_seconds", "Time of the report.", [({}, fleet["generated"])]
    yield (
        "host_answered",
        "Whether the host could be reached and did not fail.",
        [({"host": host["name"]}, host["state"] not in ("failed", "unreachable")) for host in fleet["hosts"]],
    )
    yield (
        "host_storage",
        "Always 1. Which storage a host uses.",
        [
            ({"host": host["name"], "storage": host["storage"]}, 1)
            for host in fleet["hosts"]
            if host["storage"] is not None
        ],
    )
    yield (
        "files",
        "Files by state.",
        [({**labels, "state": state}, storage["summary"][state]) for labels, storage in storages for state in _STATES],
    )
    yield (
        "allocated_bytes",
        "Space that the files take, by state.",
        [
            ({**labels, "state": state}, storage["summary"]["bytes"][state])
            for labels, storage in storages
            for state in _STATES
        ],
    )
    yield (
        "corrupt_bytes",
        "Space that corrupt files take, which are counted in their state as well.",
        [(labels, storage["summary"]["bytes"]["corrupt"]) for labels, storage in storages],
    )
    yield (
        "reclaimable_bytes",
        "Space that a prune could free, as it was found.",
        [(labels, storage["summary"]["reclaimable_bytes"]) for labels, storage in storages],
    )
    counts = [
        (labels, {alarm.kind: alarm.count for alarm in storage_alarms([storage])}) for labels, storage in storages
    ]
    for name, *kinds in (
        ("missing_files", AlarmKind.MISSING, AlarmKind.TEMPLATE),
        ("replaced_files", AlarmKind.REPLACED),
        ("corrupt_files", AlarmKind.CORRUPT),
        ("orphan_directories", AlarmKind.ORPHANS),
    ):
        yield (
            name,
            meaning_of(kinds[0]),
            [(labels, sum(count.get(kind, 0) for kind in kinds)) for labels, count in counts],
        )
    yield (
        "removal_refused",
        meaning_of(AlarmKind.REFUSED),
        [(labels, storage["state"] == "refused") for labels, storage in storages],
    )
    yield (
        "removed_files",
        "Files removed by this run.",
        [(labels, len(storage["removed"]) * was_done) for labels, storage in storages],
    )
    yield (
        "reclaimed_bytes",
        "Space freed by this run.",
        [(labels, storage["reclaimed_bytes"] * was_done) for labels, storage in storages],
    )
    yield (
        "failed_removals",
        meaning_of(AlarmKind.FAILED),
        [(labels, len(storage["failed"])) for labels, storage in storages],
    )
    for name, key, text in (
        ("filesystem_free_bytes", "free_bytes", "Space that was free on the storage's file system before the run."),
        ("filesystem_size_bytes", "total_bytes", "Size of the storage's file system."),
    ):
        yield name, text, [(labels, storage[key]) for labels, storage in storages if storage[key] is not None]


def _lines(name: str, samples: Iterable[Sample]) -> Iterator[str]:
    for labels, value in samples:
        pairs = ",".join(f'{key}="{_label(text)}"' for key, text in labels.items())
        yield f"{_PREFIX}{name}{{{pairs}}} {value + 0}\n" if pairs else f"{_PREFIX}{name} {value + 0}\n"


def _label(text: str) -> str:
    """Escape a label's value; what is not valid Unicode is shown by its number."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").translate(_ESCAPES)
