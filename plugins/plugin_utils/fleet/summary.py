# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fleet as the report shows it: plain data, made in one place."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from .answers import REFUSALS, AnswerState, HostAnswer
from .decision import StorageDecision
from .images import total_images
from .refusals import RefusalReason

__all__ = ["DONE", "LISTS", "HostOutcome", "summarise"]

_STATES = ("active", "removable", "too_young", "other")
_BYTES = (*_STATES, "corrupt")
_OMITTED = ("missing", "corrupt", "orphans", *REFUSALS)
DONE = ("removed", "kept", "failed", "reclaimed_bytes", "check_mode")
"""What a prune, or a dry run, says of itself."""
LISTS = ("files", "images")
"""What a storage has with some details only."""


@dataclass(frozen=True)
class HostOutcome:
    """One host at the end of the role.

    :param answer: what it answered last: its prune where there was one, else its look.
    :param was_pruned: whether a prune was asked for.
    :param prune_seconds: how long a prune took that was done, or refused; None for an audit, a dry run and a prune
        that did not end.
    :param look_seconds: how long the look took; None where it did not end.
    :param warnings: what it warned of beside what the report shows of it anyway.
    """

    answer: HostAnswer
    was_pruned: bool
    prune_seconds: float | None = None
    look_seconds: float | None = None
    warnings: tuple[str, ...] = ()


def summarise(
    hosts: Sequence[HostOutcome],
    storages: Sequence[StorageDecision],
    problems: Sequence[str],
    previous: Mapping[str, Any],
    check_mode: bool,
    now: float,
) -> dict[str, Any]:
    """Make the structure of a fleet's report.

    :param hosts: all hosts of the play.
    :param storages: the storages of those that answered.
    :param problems: sentences about the fleet as a whole.
    :param previous: the structure of an earlier run of the role in the same play, whose storages were not looked at
        again; empty if there was none.
    :param check_mode: whether the role runs in check mode. What a prune says of itself goes first.
    :param now: the time, in unix seconds.
    :return: plain data: names bare, sizes in bytes, times in unix seconds.
    """
    outcomes = {outcome.answer.name: outcome for outcome in hosts}
    found = {name: dict(outcome.answer.image_cache or {}) for name, outcome in outcomes.items()}
    # A role, block or task may have a check mode of its own, and it may differ by host.
    modes = {image_cache["check_mode"] for image_cache in found.values() if "check_mode" in image_cache}
    if modes == {True, False}:
        found = {name: _without_dry_run(image_cache) for name, image_cache in found.items()}
    described = [
        {**_storage(storage, found), **_run(storage, outcomes, found, check_mode, now)} for storage in storages
    ]
    storage_of = {name: storage for storage in described for name in storage["hosts"]}
    entries = [{**_host(outcome, storage_of.get(name)), "time": now} for name, outcome in outcomes.items()]
    seen = {_identity(storage) for storage in described}
    earlier = [storage for storage in previous.get("storages", ()) if _identity(storage) not in seen]
    described = [*earlier, *described]
    looked_at = {name for name, one in outcomes.items() if one.answer.state is not AnswerState.NOT_LOOKED_AT}
    entries = _merged_hosts(previous.get("hosts", ()), entries, looked_at)
    return {
        "generated": now,
        "check_mode": modes == {True} if modes else check_mode,
        "pruned": bool(previous.get("pruned")) or any(outcome.was_pruned for outcome in hosts),
        "problems": list(dict.fromkeys([*previous.get("problems", ()), *problems])),
        "summary": _summary(entries, described),
        "images": total_images(described),
        "storages": described,
        "hosts": entries,
    }


def _identity(storage: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what is the same when a storage is looked at again: hosts without a cache have no id."""
    return (storage["cache_path"], storage["id"] or tuple(storage["hosts"]))


def _without_dry_run(image_cache: Mapping[str, Any]) -> dict[str, Any]:
    """Return only what is so now, for a report that says of other hosts what was removed."""
    if not image_cache.get("check_mode"):
        return dict(image_cache)
    return {key: value for key, value in image_cache.items() if key not in (*DONE, "files")}


def _storage(storage: StorageDecision, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    image_cache = found[storage.pruner]
    own = [sentence for name in REFUSALS for sentence in image_cache[name]]
    refused = list(dict.fromkeys([*storage.refused, *own]))
    described = {
        "id": storage.id,
        **{name: image_cache["storage"][name] for name in ("filesystem", "shared", "free_bytes", "total_bytes")},
        "hosts": list(storage.members),
        "pruner": storage.pruner,
        "state": "refused" if refused else "pruned" if "removed" in image_cache else "audited",
        "refused": refused,
        **{name: image_cache[name] for name in ("cache_path", "summary", "policy", *_OMITTED)},
        "missing": _missing(storage, found),
        "checksums": image_cache.get("checksums"),
        "omitted": {name: image_cache.get("omitted", {}).get(name, 0) for name in _OMITTED},
        **{name: image_cache.get(name, []) for name in ("removed", "kept", "failed")},
        "reclaimed_bytes": image_cache.get("reclaimed_bytes", 0),
    }
    return {**described, **{name: image_cache[name] for name in LISTS if name in image_cache}}


def _run(
    storage: StorageDecision,
    outcomes: Mapping[str, HostOutcome],
    found: Mapping[str, Mapping[str, Any]],
    check_mode: bool,
    now: float,
) -> dict[str, Any]:
    """Return when and how a storage was looked at and pruned, and why it is refused, as metrics know it."""
    image_cache, pruner = found[storage.pruner], outcomes[storage.pruner]
    was_lost = pruner.answer.state in (AnswerState.FAILED, AnswerState.UNREACHABLE)
    own = {
        RefusalReason.UNKNOWN_USE: image_cache["unknown_use"],
        RefusalReason.UNKNOWN_DELETIONS: image_cache["unknown_deletions"],
        RefusalReason.LIMIT: image_cache["limit_exceeded"],
    }
    return {
        "time": now,
        "look_seconds": pruner.look_seconds,
        "prune_seconds": pruner.prune_seconds,
        "prune_unfinished": pruner.was_pruned and pruner.prune_seconds is None and was_lost and not check_mode,
        "verification_seconds": image_cache.get("seconds", {}).get("verification"),
        "reasons": sorted({*storage.reasons, *(reason.value for reason, sentences in own.items() if sentences)}),
        "opted_out": any(outcomes[name].answer.options.opted_out for name in storage.members),
        "mount_point": image_cache["storage"].get("mount_point"),
    }


def _missing(storage: StorageDecision, found: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what any member misses, and where a guest of any member still has it open, or Glance has it.

    What the pruner misses is told as it has it, and members may have the cache under other paths. A disk outside of the
    shared directory is seen by its own host alone, and so is on which file a guest runs.
    """
    pruner_misses = {
        posixpath.basename(each["backing_file"])
        for each in found[storage.pruner]["missing"]
        if not each.get("replaced")
    }
    missing_files: dict[tuple[str, bool], dict[str, Any]] = {}
    sources: dict[str, dict[str, Any]] = {}
    for member in dict.fromkeys([storage.pruner, *storage.members]):
        for missing in found[member]["missing"]:
            name, is_replaced = missing["backing_file"], bool(missing.get("replaced"))
            if is_replaced or member == storage.pruner or posixpath.basename(name) not in pruner_misses:
                known = missing_files.setdefault((name, is_replaced), {**missing, "instances": []})
                known["instances"] = list(dict.fromkeys([*known["instances"], *missing["instances"]]))
            if missing.get("recoverable_from"):
                source = {key: missing[key] for key in ("recoverable_from", "recoverable_until")}
                sources.setdefault(name, {**source, "recoverable_on": member})
    for name, is_replaced in missing_files:
        image_id = storage.in_glance.get(posixpath.basename(name))
        if image_id is not None and not is_replaced:
            from_glance = {"recoverable_from": "glance", "recoverable_until": [], "image_id": image_id}
            sources.setdefault(name, {**from_glance, "recoverable_on": storage.pruner})
    return [{**missing, **sources.get(name, {})} for (name, _is_replaced), missing in missing_files.items()]


def _host(outcome: HostOutcome, storage: Mapping[str, Any] | None) -> dict[str, Any]:
    answer = outcome.answer
    if storage is None:
        state = "unreachable" if answer.state is AnswerState.UNREACHABLE else "failed"
        if answer.state is AnswerState.NOT_LOOKED_AT:
            state = "unreachable"
    elif answer.state in (AnswerState.FAILED, AnswerState.UNREACHABLE) and storage["state"] != "refused":
        state = answer.state.value
    else:
        state = storage["state"]
    return {
        "name": answer.name,
        "host": answer.image_cache["host"] if answer.image_cache else None,
        "storage": storage["id"] if storage else None,
        "cache_path": storage["cache_path"] if storage else None,
        "state": state,
        "error": answer.error or None,
        "warnings": list(outcome.warnings),
        **{key: storage[key] if storage else None for key in ("free_bytes", "total_bytes", "summary")},
    }


def _merged_hosts(
    previous: Sequence[Mapping[str, Any]], entries: Sequence[dict[str, Any]], looked_at: Set[str]
) -> list[dict[str, Any]]:
    """Return the entries of an earlier run that this one has not replaced, and its own, in the order of the play.

    A host that this run has not looked at, as one of another batch, is as it was then.
    """
    names = {entry["name"] for entry in entries}
    merged = [dict(old) for old in previous if old["name"] not in names]
    for entry in entries:
        before = [dict(old) for old in previous if old["name"] == entry["name"]]
        if before and entry["name"] not in looked_at:
            merged += before
        else:
            merged += [old for old in before if old["cache_path"] not in (None, entry["cache_path"])]
            merged.append(entry)
    return merged


def _summary(hosts: Sequence[Mapping[str, Any]], storages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    summaries = [storage["summary"] for storage in storages]
    # One that failed over what it found has answered.
    without_answer = {
        host["name"]
        for host in hosts
        if host["state"] == "unreachable" or (host["state"] == "failed" and host["summary"] is None)
    }
    return {
        "hosts": len({host["name"] for host in hosts}),
        "hosts_without_answer": len(without_answer),
        "storages": len(storages),
        "storages_refused": sum(storage["state"] == "refused" for storage in storages),
        "files": {state: sum(summary[state] for summary in summaries) for state in _STATES},
        "bytes": {state: sum(summary["bytes"][state] for summary in summaries) for state in _BYTES},
        "cached_bytes": sum(summary["total"]["allocated_bytes"] for summary in summaries),
        "reclaimable_bytes": sum(summary["reclaimable_bytes"] for summary in summaries),
        "reclaimable_by_age": _summed_by_age(summaries),
        "minimum_age_seconds": _minimum_ages(storages),
        "precached": {
            key: sum(summary["precached"][key] for summary in summaries) for key in ("files", "allocated_bytes")
        },
        "removed": sum(len(storage["removed"]) for storage in storages),
        "reclaimed_bytes": sum(storage["reclaimed_bytes"] for storage in storages),
        "failed": sum(len(storage["failed"]) for storage in storages),
        **{
            name: sum(len(storage[name]) + storage["omitted"][name] for storage in storages)
            for name in ("missing", "corrupt", "orphans")
        },
    }


def _summed_by_age(summaries: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return what a prune of the fleet would free by minimum age, for the ages that every storage answers for."""
    answers = [summary["reclaimable_by_age"] for summary in summaries]
    common = set.intersection(*(set(answer) for answer in answers)) if answers else set()
    return {age: sum(answer[age] for answer in answers) for age in sorted(common, key=int)}


def _minimum_ages(storages: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Return the minimum ages that are set, of files as they were downloaded and of resized ones."""
    return {
        kind: sorted({storage["policy"][f"remove_unused_{kind}_minimum_age_seconds"] for storage in storages})
        for kind in ("original", "resized")
    }
