# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet as Prometheus text, for the node exporter's textfile collector.

The format is https://prometheus.io/docs/instrumenting/exposition_formats/, the names follow
https://prometheus.io/docs/practices/naming/.

A run looks at some hosts and at some of what there is to know. What it did not look at keeps its last value and its
own time: the former file is read, and :func:`carry_forward` takes over what this run did not answer.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set
from enum import Enum, auto
from typing import Any, NamedTuple

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.precache import SOURCES, read_by_source
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.refusals import RefusalReason

from .alarms import AlarmKind, meaning_of, storage_alarms

__all__ = [
    "Metrics",
    "Parsed",
    "Series",
    "carry_forward",
    "metrics_of",
    "metrics_with_precache",
    "parse_metrics",
    "render_metrics",
]

_PREFIX = "nova_image_cache_"
_STATES = ("active", "removable", "too_young", "other")
_AUDIT_REASONS = (RefusalReason.UNKNOWN_USE, RefusalReason.UNKNOWN_DELETIONS, RefusalReason.MEMBERS_MISSING)
_OUTCOMES = ("fetched", "present", "refused", "failed")
_ANY_HOST = ("fetched", "present", "failed", "refused", "elsewhere")  # of a storage's hosts, the first of these counts
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_UNESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}
_LINE = re.compile(rf"{_PREFIX}([a-z_]+)(?:\{{(.*)\}})? (\S+)")
_LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\["\\n])*)"(?:,|$)')
_ESCAPE = re.compile(r"\\.")
_LARGEST = float(1 << 63)


class _Part(Enum):
    """What a run writes as a whole or not at all, of the report, of a host or of a storage."""

    REPORT = auto()
    STATE = auto()
    ANSWER = auto()
    INFO = auto()
    FOUND = auto()
    AUDIT = auto()
    VERIFICATION = auto()
    PRUNE = auto()
    PRUNE_REFUSAL = auto()
    PRUNE_END = auto()
    PRECACHE = auto()


class _Metric(NamedTuple):
    """
    :param part: what it is written with.
    :param labels: the labels of each of its series, in this order.
    :param text: what it is, a sentence.
    """

    part: _Part
    labels: tuple[str, ...]
    text: str


_HOST = ("host",)
_STORAGE = ("host", "cache_path")
_METRICS = {
    "report_timestamp_seconds": _Metric(_Part.REPORT, (), "Time of the last report of an audit or a prune."),
    "host_answered": _Metric(
        _Part.STATE, _HOST, "Whether the host could be reached and did not fail, when it was asked last."
    ),
    "host_answer_timestamp_seconds": _Metric(_Part.ANSWER, _HOST, "Time of the host's last answer."),
    "host_info": _Metric(
        _Part.INFO,
        (*_STORAGE, "mountpoint", "nova_host", "storage"),
        "Always 1. What nova calls the host, and which storage it uses.",
    ),
    "cache_found": _Metric(
        _Part.FOUND,
        _STORAGE,
        "Whether the last look found the cache that a look has found before: it is there, and mounted.",
    ),
    "audit_timestamp_seconds": _Metric(_Part.AUDIT, _STORAGE, "Time of the last look at the storage."),
    "audit_duration_seconds": _Metric(_Part.AUDIT, _STORAGE, "How long that took."),
    "files": _Metric(_Part.AUDIT, (*_STORAGE, "state"), "Files by state."),
    "allocated_bytes": _Metric(_Part.AUDIT, (*_STORAGE, "state"), "Space that the files take, by state."),
    "reclaimable_bytes": _Metric(_Part.AUDIT, _STORAGE, "Space that a prune could free."),
    "unused_precached_files": _Metric(
        _Part.AUDIT, _STORAGE, "Files that no disk uses, and that a prune keeps because they were pre-cached."
    ),
    "unused_precached_bytes": _Metric(
        _Part.AUDIT,
        _STORAGE,
        "Space that files take which no disk uses, and which a prune keeps because they were pre-cached.",
    ),
    "missing_files": _Metric(_Part.AUDIT, _STORAGE, meaning_of(AlarmKind.MISSING)),
    "recoverable_files": _Metric(
        _Part.AUDIT,
        _STORAGE,
        "Missing files that can be restored: a running guest has them open until it stops, or Glance has the image.",
    ),
    "replaced_files": _Metric(_Part.AUDIT, _STORAGE, meaning_of(AlarmKind.REPLACED)),
    "orphan_directories": _Metric(_Part.AUDIT, _STORAGE, meaning_of(AlarmKind.ORPHANS)),
    "filesystem_free_bytes": _Metric(
        _Part.AUDIT, _STORAGE, "Space that was free on the storage's file system before the run."
    ),
    "filesystem_size_bytes": _Metric(_Part.AUDIT, _STORAGE, "Size of the storage's file system."),
    "verification_timestamp_seconds": _Metric(_Part.VERIFICATION, _STORAGE, "Time of the last verification."),
    "verification_duration_seconds": _Metric(_Part.VERIFICATION, _STORAGE, "How long that took."),
    "oldest_verification_timestamp_seconds": _Metric(
        _Part.VERIFICATION, _STORAGE, "Time since which each file was verified; without it, some file never was."
    ),
    "deferred_files": _Metric(_Part.VERIFICATION, _STORAGE, "Files that the last verification had no time for."),
    "skipped_files": _Metric(_Part.VERIFICATION, _STORAGE, "Files that the last verification could not read."),
    "corrupt_files": _Metric(_Part.VERIFICATION, _STORAGE, meaning_of(AlarmKind.CORRUPT)),
    "corrupt_bytes": _Metric(
        _Part.VERIFICATION, _STORAGE, "Space that corrupt files take, which are counted in their state as well."
    ),
    "prune_timestamp_seconds": _Metric(_Part.PRUNE, _STORAGE, "Time of the last prune, dry runs not counted."),
    "prune_duration_seconds": _Metric(_Part.PRUNE, _STORAGE, "How long that took."),
    "removed_files": _Metric(_Part.PRUNE, _STORAGE, "Files that the last prune removed."),
    "reclaimed_bytes": _Metric(_Part.PRUNE, _STORAGE, "Space that the last prune freed."),
    "failed_removals": _Metric(_Part.PRUNE, _STORAGE, meaning_of(AlarmKind.FAILED)),
    "prune_unfinished": _Metric(
        _Part.PRUNE_END, _STORAGE, "Whether the last prune failed, or lost the host, before its end."
    ),
    "precache_timestamp_seconds": _Metric(
        _Part.PRECACHE, _STORAGE, "Time of the last pre-cache, dry runs not counted."
    ),
    "precache_images": _Metric(
        _Part.PRECACHE, (*_STORAGE, "outcome"), "Images that the last pre-cache was asked for, by what came of them."
    ),
    "precache_read_bytes": _Metric(
        _Part.PRECACHE, (*_STORAGE, "source"), "What the last pre-cache read, by where it came from."
    ),
    "removal_refused": _Metric(
        _Part.AUDIT,
        (*_STORAGE, "operation", "reason"),
        "Whether nothing may be removed for this reason, as the last audit or prune found.",
    ),
}

_UNREAD = (("deferred_files",), ("skipped_files",))
_UNASKED = (("removal_refused", "audit", RefusalReason.MEMBERS_MISSING.value),)
_UNTRIED = tuple(("removal_refused", "prune", reason.value) for reason in RefusalReason)
# What does not fall while any of these is not 0: a file that was not read may be the one that was corrupt, a guest that
# misses a file or has one open may run on a host that did not answer, and a refused prune tried to remove nothing.
_CAUSES_NOT_TO_SEE: Mapping[str, tuple[tuple[str, ...], ...]] = {
    **dict.fromkeys(("corrupt_files", "corrupt_bytes"), _UNREAD),
    **dict.fromkeys(("missing_files", "replaced_files", "recoverable_files"), _UNASKED),
    "failed_removals": _UNTRIED,
}


class Series(NamedTuple):
    """What a value belongs to.

    :param name: the metric's name, without the prefix.
    :param labels: the values of its labels, in the order of the metric's own.
    """

    name: str
    labels: tuple[str, ...]

    @property
    def host(self) -> str:
        """The host under which it is shown; empty for the whole report."""
        return self.labels[0] if self.labels else ""

    @property
    def storage(self) -> tuple[str, ...]:
        """What tells one storage from another; empty for what belongs to a host or the report."""
        labels = _METRICS[self.name].labels
        return self.labels[:2] if labels[:2] == _STORAGE and self.name != "host_info" else ()

    @property
    def cell(self) -> tuple[Any, ...]:
        """What is replaced as a whole by a run that looked at it."""
        part = _METRICS[self.name].part
        if self.name == "removal_refused" and self.labels[2] == "prune":
            part = _Part.PRUNE_REFUSAL
        return (part, self.storage or self.host)


Metrics = Mapping[Series, float]


class Parsed(NamedTuple):
    """What a former file has.

    :param metrics: what could be understood of it.
    :param damaged_lines: the numbers of the lines that could not.
    """

    metrics: dict[Series, float]
    damaged_lines: list[int]


def metrics_of(fleet: Mapping[str, Any], former: Metrics, inventory: Set[str]) -> dict[Series, float]:
    """Return what is known of a fleet, all of it gauges: what this run answered, and what a former one did.

    A storage that several hosts share has one series of each metric, under the first of their names: so a sum over
    hosts counts it once. ``host_info`` shows which hosts share one.

    A host whose cache is not mounted any more keeps what is known of that cache: what it found there is none, or the
    directory below the mount. Files that disks miss there are missing all the same.

    :param fleet: the fleet as ``report.json`` has it.
    :param former: what the former file has.
    :param inventory: the hosts of the inventory. What is known of others is left out.
    """
    lost = _lost_caches(fleet, former)
    lost_storages = [each for each in fleet["storages"] if _is_lost(each, lost.keys())]
    fleet = {**fleet, "storages": [each for each in fleet["storages"] if not _is_lost(each, lost.keys())]}
    answered = {host["name"] for host in fleet["hosts"] if host["cache_path"] is not None} - {
        host for host, _path in lost
    }
    members: dict[str | None, set[str]] = {}
    for host, _cache_path, _mountpoint, _nova_host, storage_id in _labels_of("host_info", former):
        if host in inventory - answered:
            members.setdefault(storage_id, set()).add(host)
    for answer in fleet["hosts"]:
        members.setdefault(answer["storage"], set()).add(answer["name"])
    # Hosts without a cache have no id, and cloned hosts have one id for two storages: these keep their first name.
    ambiguous = {"", None}.union(
        storage_id for storage_id, count in Counter(each["id"] for each in fleet["storages"]).items() if count > 1
    )
    shown_under = {each: min(hosts) for each, hosts in members.items() if each not in ambiguous}
    metrics = dict(_answered(fleet, shown_under, lost.keys()))
    merged = carry_forward(_moved(former, shown_under), metrics, inventory, answered)
    for storage in lost_storages:  # what lies below a mount may lack more, and proves nothing else
        cache = (storage["pruner"], storage["cache_path"])
        missing = Series("missing_files", (shown_under.get(lost[cache], cache[0]), cache[1]))
        merged[missing] = max(merged.get(missing, 0), _missing_count(_alarm_counts(storage)))
    return merged


def metrics_with_precache(precache: Mapping[str, Any], former: Metrics, inventory: Set[str]) -> dict[Series, float]:
    """Return the former metrics with what a pre-cache did. It looks at nothing else, so all else keeps its time.

    An image that any host of a storage fetched or has is there for all of them.

    :param precache: what :func:`summarise_precache` returns.
    :param former: what the former file has.
    :param inventory: the hosts of the inventory. What is known of others is left out.
    """
    shown_under = _names_of_storages(former)
    came_of: dict[tuple[str, str], dict[str, str]] = {}
    read: Counter[tuple[str, str, str]] = Counter()
    for host in precache["outcomes"]:
        if not host["error"]:
            own = (shown_under(host), host["cache_path"])
            images = came_of.setdefault(own, {})
            fetched = (image for image in host["images"] if image["outcome"] == "fetched")
            read.update({(*own, source): size for source, size in read_by_source(fetched).items()})
            for image in host["images"]:
                known = images.setdefault(image["image_id"], image["outcome"])
                images[image["image_id"]] = min(known, image["outcome"], key=_ANY_HOST.index)
    metrics: dict[Series, float] = {}
    for storage, images in came_of.items():
        # Of what another host was to fetch that gave no answer, no host has said that it is there.
        counts = Counter("failed" if outcome == "elsewhere" else outcome for outcome in images.values())
        metrics[Series("precache_timestamp_seconds", storage)] = precache["generated"]
        metrics.update({Series("precache_images", (*storage, outcome)): counts[outcome] for outcome in _OUTCOMES})
        metrics.update(
            {Series("precache_read_bytes", (*storage, source)): read[*storage, source] for source in SOURCES}
        )
    # What belongs to no host is the time of the last report of an audit or a prune.
    return carry_forward(former, metrics, inventory | {""}, frozenset())


def _names_of_storages(former: Metrics) -> Callable[[Mapping[str, Any]], str]:
    """Return what finds the name under which the former metrics have the storage of a host of a pre-cache."""
    audited = set(_labels_of("audit_timestamp_seconds", former))
    id_of = {labels[:2]: (labels[4], labels[1]) for labels in _labels_of("host_info", former) if labels[4]}
    named = {id_of[storage]: storage[0] for storage in sorted(audited & id_of.keys(), reverse=True)}

    def shown_under(host: Mapping[str, Any]) -> str:
        path, hosts = host["cache_path"], host["storage_hosts"]
        known = [name for name in (host["name"], *hosts) if (name, path) in audited]
        known += [named[id_of[name, path]] for name in hosts if id_of.get((name, path)) in named]
        return str([*known, *hosts][0])

    return shown_under


def carry_forward(former: Metrics, metrics: Metrics, inventory: Set[str], answered: Set[str]) -> dict[Series, float]:
    """Return the metrics of this run with those former ones that it did not answer for.

    :param former: what the former file has, each storage under the host that it is shown under now.
    :param metrics: what this run found and did.
    :param inventory: the hosts of the inventory.
    :param answered: the hosts that answered this run.
    """
    cells = {series.cell for series in metrics}
    storages = {series.storage for series in metrics}
    merged = dict(metrics)
    for series, value in former.items():
        is_gone = series.host in answered and series.storage not in storages
        if series.host in inventory and not is_gone and series.cell not in cells:
            merged[series] = value
    for series in metrics:
        causes = (Series(name, (*series.labels, *more)) for name, *more in _CAUSES_NOT_TO_SEE.get(series.name, ()))
        if any(metrics.get(cause) for cause in causes):
            merged[series] = max(metrics[series], former.get(series, 0))
    return merged


def _labels_of(name: str, metrics: Metrics) -> Iterator[tuple[str, ...]]:
    return (series.labels for series in metrics if series.name == name)


def _lost_caches(fleet: Mapping[str, Any], former: Metrics) -> dict[tuple[str, str], str]:
    """Return the host and path of each cache that is not mounted any more, and its storage as a former run found it.

    Its directory does not exist now, or it is another one: that which the mount had covered.
    """
    had = {
        (host, path): (mount_point, storage)
        for host, path, mount_point, _nova_host, storage in _labels_of("host_info", former)
        if storage
    }
    storages = _storages_of_hosts(fleet)
    lost = {}
    for host in fleet["hosts"]:
        cache = (host["name"], host["cache_path"])
        mount_point, storage = had.get(cache, ("", ""))
        now = storages.get((host["name"], host["storage"]))
        is_gone = host["storage"] is None or (now is not None and now["filesystem"] is None)
        # What a group of hosts is called does not change with what is mounted.
        may_be_another = host["storage"] != storage or storage.startswith("group:")
        is_another = may_be_another and now is not None and _is_below(mount_point, now["mount_point"])
        if cache in had and (is_gone or is_another):
            lost[cache] = storage
    return lost


def _storages_of_hosts(fleet: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Return each storage by the name of each of its hosts and its own id."""
    return {(host, each["id"]): each for each in fleet["storages"] for host in each["hosts"]}


def _is_below(path: str, directory: str | None) -> bool:
    return bool(directory) and path != directory and path.startswith(f"{str(directory).rstrip('/')}/")


def _is_lost(storage: Mapping[str, Any], lost: Set[tuple[str, str]]) -> bool:
    return {(host, storage["cache_path"]) for host in storage["hosts"]} <= lost


def _moved(former: Metrics, shown_under: Mapping[str | None, str]) -> dict[Series, float]:
    """Return the former metrics with each storage under the host that it is shown under now."""
    storage_of: dict[tuple[str, ...], str] = {
        (host, cache_path): storage_id
        for host, cache_path, _mountpoint, _nova_host, storage_id in _labels_of("host_info", former)
    }
    moved = {}
    for series, value in former.items():
        host = shown_under.get(storage_of.get(series.storage, ""), series.host) if series.storage else series.host
        moved[Series(series.name, (host, *series.labels[1:]) if series.labels else ())] = value
    return moved


def _answered(
    fleet: Mapping[str, Any], shown_under: Mapping[str | None, str], lost: Set[tuple[str, str]]
) -> Iterator[tuple[Series, float]]:
    """Yield what this run found and did."""
    yield Series("report_timestamp_seconds", ()), fleet["generated"]
    storages = _storages_of_hosts(fleet)
    for host in fleet["hosts"]:
        name = host["name"]
        yield Series("host_answered", (name,)), host["state"] not in ("failed", "unreachable")
        if host["cache_path"] is not None:
            yield Series("host_answer_timestamp_seconds", (name,)), host["time"]
            cache = (name, host["cache_path"])
            if host["storage"] is not None or cache in lost:
                yield Series("cache_found", cache), cache not in lost
            if cache in lost:
                continue
            storage = storages.get((name, host["storage"]), {})
            named = (host["cache_path"], storage.get("mount_point") or "", host["host"] or "", host["storage"] or "")
            yield Series("host_info", (name, *named)), 1
    for storage in fleet["storages"]:
        labels = (shown_under.get(storage["id"], min(storage["hosts"])), storage["cache_path"])
        for metric, value, *more in _of_storage(storage):
            if value is not None and 0 <= value < _LARGEST:  # a host may say anything of its clock
                yield Series(metric, (*labels, *more)), value


def _of_storage(storage: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Yield a metric's name, its value and the values of its further labels; None for what is not known."""
    time, summary, was_pruned = storage["time"], storage["summary"], storage["prune_seconds"] is not None
    # The summary is what was found before anything was removed.
    removed_files = len(storage["removed"]) if was_pruned else 0
    reclaimed_bytes = storage["reclaimed_bytes"] if was_pruned else 0
    yield "audit_timestamp_seconds", time
    yield "audit_duration_seconds", storage["look_seconds"]
    for state in _STATES:
        is_removable = state == "removable"
        yield "files", max(0, summary[state] - removed_files * is_removable), state
        yield "allocated_bytes", max(0, summary["bytes"][state] - reclaimed_bytes * is_removable), state
    yield "reclaimable_bytes", max(0, summary["reclaimable_bytes"] - reclaimed_bytes)
    yield "unused_precached_files", summary["precached"]["files"]
    yield "unused_precached_bytes", summary["precached"]["allocated_bytes"]
    count = _alarm_counts(storage)
    yield "missing_files", _missing_count(count)
    missing = [found for found in storage["missing"] if not found.get("replaced")]
    if all("recoverable_from" in found for found in missing):
        yield "recoverable_files", sum(found["recoverable_from"] is not None for found in missing)
    yield "replaced_files", count.get(AlarmKind.REPLACED, 0)
    yield "orphan_directories", count.get(AlarmKind.ORPHANS, 0)
    yield "filesystem_free_bytes", storage["free_bytes"]
    yield "filesystem_size_bytes", storage["total_bytes"]
    for reason in _AUDIT_REASONS:
        yield "removal_refused", reason in storage["reasons"], "audit", reason.value
    if checksums := storage["checksums"]:
        oldest = checksums["oldest_verification_seconds"]
        yield "verification_timestamp_seconds", time
        yield "verification_duration_seconds", storage["verification_seconds"]
        yield "oldest_verification_timestamp_seconds", None if oldest is None else time - max(0, oldest)
        yield "deferred_files", checksums["deferred_files"]
        yield "skipped_files", checksums["skipped_files"]
        yield "corrupt_files", count.get(AlarmKind.CORRUPT, 0)
        yield "corrupt_bytes", summary["bytes"]["corrupt"]
    if was_pruned:
        yield "prune_timestamp_seconds", time
        yield "prune_duration_seconds", storage["prune_seconds"]
        yield "removed_files", removed_files
        yield "reclaimed_bytes", reclaimed_bytes
        unremovable = sum(kept["reason"] == "unremovable" for kept in storage["kept"])  # known before it was tried
        yield "failed_removals", len(storage["failed"]) + unremovable
    if was_pruned or storage["prune_unfinished"] or storage["opted_out"]:
        yield "prune_unfinished", storage["prune_unfinished"]
    if was_pruned or storage["opted_out"]:
        reasons = storage["reasons"] if was_pruned else [RefusalReason.OPTED_OUT]
        for reason in RefusalReason:
            yield "removal_refused", reason in reasons, "prune", reason.value


def _alarm_counts(storage: Mapping[str, Any]) -> dict[AlarmKind, int]:
    return {alarm.kind: alarm.count for alarm in storage_alarms([storage])}


def _missing_count(count: Mapping[AlarmKind, int]) -> int:
    return count.get(AlarmKind.MISSING, 0) + count.get(AlarmKind.TEMPLATE, 0)


def render_metrics(metrics: Metrics, slice_name: str = "") -> str:
    """Return metrics as Prometheus text.

    :param slice_name: the value of the label ``slice`` of all series; empty for none.
    """
    lines: dict[str, list[str]] = {name: [] for name in _METRICS}
    further = [("slice", slice_name)] if slice_name else []
    for series, value in metrics.items():
        named = [*zip(_METRICS[series.name].labels, series.labels, strict=True), *further]
        pairs = ",".join(f'{key}="{_escaped(text)}"' for key, text in named)
        lines[series.name].append(f"{_PREFIX}{series.name}{f'{{{pairs}}}' if pairs else ''} {value + 0}\n")
    return "".join(
        f"# HELP {_PREFIX}{name} {_METRICS[name].text}\n# TYPE {_PREFIX}{name} gauge\n" + "".join(sorted(of_name))
        for name, of_name in lines.items()
        if of_name
    )


def parse_metrics(text: str, now: float) -> Parsed:
    """Read what :func:`render_metrics` wrote. Anybody may have changed it since.

    :param text: the file's text.
    :param now: the time, in unix seconds. No time can be later.
    """
    parsed = Parsed({}, [])
    for number, line in enumerate(text.split("\n"), 1):
        if line and not line.startswith("#"):
            sample = _sample(line, now)
            if sample is None:
                parsed.damaged_lines.append(number)
            else:
                parsed.metrics[sample[0]] = sample[1]
    return parsed


def _sample(line: str, now: float) -> tuple[Series, float] | None:
    """Understand a line of a former file; None if it is not one that was written."""
    match = _LINE.fullmatch(line)
    metric = _METRICS.get(match[1]) if match else None
    if match is None or metric is None:
        return None
    labels, end = {}, 0
    for label in _LABEL.finditer(match[2] or ""):
        if label.start() != end:
            return None
        labels[label[1]] = _ESCAPE.sub(_unescaped, label[2]) if "\\" in label[2] else label[2]
        end = label.end()
    labels.pop("slice", None)
    try:
        value = float(match[3])
    except ValueError:
        return None
    is_time = match[1].endswith("_timestamp_seconds")
    is_valid = math.isfinite(value) and 0 <= value < _LARGEST and not (is_time and value > now)
    if end != len(match[2] or "") or tuple(labels) != metric.labels or not is_valid:
        return None
    return Series(match[1], tuple(labels.values())), int(value) if value.is_integer() else value


def _unescaped(escape: re.Match[str]) -> str:
    return _UNESCAPES[escape[0]]


def _escaped(text: str) -> str:
    """Escape a label's value; what is not valid Unicode is shown by its number."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").translate(_ESCAPES)
