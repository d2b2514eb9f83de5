# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: image_cache_fleet
short_description: Put together what the image cache modules said on all hosts of a play
version_added: 0.1.0
description:
  - Makes one structure from the results of a whole play, for a report or for a task that looks at the fleet. Each store
    counts once, however many hosts share it.
  - The audit must be registered as C(__image_cache_audit) and the prune as C(__image_cache_pruned), as the role
    P(stackops.nova.image_cache#role) does. Of a host that has neither, its C(ansible_facts.image_cache) is taken.
  - A host that did not answer, or whose answer cannot be understood, is in the result with the reason.
positional: hostvars
author:
  - stackops.nova contributors (@stackops)
options:
  _input:
    description: The names of all hosts of the play, which is C(ansible_play_hosts_all).
    type: list
    elements: str
    required: true
  hostvars:
    description: The variable of that name.
    type: dict
    required: true
  play_hosts:
    description:
      - The hosts that are still in the play, which is the variable C(ansible_play_hosts). Of the others, those without
        a result are taken for unreachable, and of these, for hosts whose turn is yet to come.
      - All hosts if not given.
    type: list
    elements: str
  stores:
    description:
      - What P(stackops.nova.image_cache_stores#filter) returns.
      - Each host that is in none of them is a store of its own.
    type: list
    elements: dict
    default: []
  check_mode:
    description:
      - Whether the play runs in check mode, so that nothing was removed. What a prune says of itself goes first.
    type: bool
    default: false
  now:
    description: The time of the report, in unix seconds. Now, if not given.
    type: float
seealso:
  - module: stackops.nova.image_cache_report
  - plugin: stackops.nova.image_cache_stores
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Say how much the whole fleet could free
  ansible.builtin.debug:
    msg: "{{ fleet.summary.reclaimable_bytes | human_readable }} on {{ fleet.summary.stores }} stores"
  vars:
    fleet: "{{ ansible_play_hosts_all | stackops.nova.image_cache_fleet(hostvars) }}"
  run_once: true
"""

RETURN = r"""
_value:
  description: The fleet. Names are bare file names, sizes bytes, times unix seconds.
  type: dict
  contains:
    generated:
      description: The time of the report.
      type: float
    check_mode:
      description: Whether nothing was removed because the play ran in check mode.
      type: bool
    pruned:
      description: Whether the play was to prune, and not only to look.
      type: bool
    summary:
      description: The fleet in numbers.
      type: dict
      contains:
        hosts:
          description: How many hosts the play has.
          type: int
        hosts_without_answer:
          description: How many of them failed or could not be reached.
          type: int
        stores:
          description: How many stores the hosts have whose answer is known.
          type: int
        stores_refused:
          description: On how many of them nothing may be removed.
          type: int
        files:
          description: How many files are C(active), C(removable), C(too_young) and C(other).
          type: dict
        bytes:
          description: How much space they take, and how much of it is C(corrupt).
          type: dict
        cached_bytes:
          description: How much space all cache files take.
          type: int
        reclaimable_bytes:
          description: How much a prune could free.
          type: int
        removed:
          description: How many files were removed, in check mode would be.
          type: int
        reclaimed_bytes:
          description: How much space they took.
          type: int
        failed:
          description: How many files could not be removed.
          type: int
        missing:
          description: How many files do not exist and back disks.
          type: int
        corrupt:
          description: How many base files are not what they were.
          type: int
        orphans:
          description: How many directories hold disks and belong to no known instance.
          type: int
    stores:
      description:
        - One entry for each store, with what the modules return as C(cache_path), C(summary), C(missing), C(corrupt),
          C(orphans), C(unknown_use), C(checksums), C(omitted), C(removed), C(kept), C(failed), C(reclaimed_bytes) and,
          with C(details=files) or from a prune, C(files).
      type: list
      elements: dict
      contains:
        id:
          description: What tells it from other stores, V(none) if there is no cache.
          type: str
        filesystem:
          description: The type of the file system.
          type: str
        shared:
          description: Whether it is a network or cluster file system.
          type: bool
        hosts:
          description: The hosts that share it.
          type: list
          elements: str
        pruner:
          description: The host whose result this is.
          type: str
        state:
          description:
            - V(audited), V(pruned), V(refused) if nothing may be removed, or V(waits) if hosts that share it are yet
              to come.
          type: str
        refused:
          description: Why nothing may be removed, a sentence each.
          type: list
          elements: str
        free_bytes:
          description: How much space is free there.
          type: int
        total_bytes:
          description: How large it is.
          type: int
    hosts:
      description: One entry for each host.
      type: list
      elements: dict
      contains:
        name:
          description: Its name in the inventory.
          type: str
        host:
          description: The name by which nova knows it, V(none) if it did not answer.
          type: str
        store:
          description: The C(id) of its store.
          type: str
        state:
          description: That of its store, or V(failed), V(unreachable), or V(waits) if its turn is yet to come.
          type: str
        error:
          description: What went wrong, V(none) if nothing did.
          type: str
        free_bytes:
          description: How much space is free on its store.
          type: int
        total_bytes:
          description: How large its store is.
          type: int
        summary:
          description: The C(summary) of its store, V(none) if it did not answer.
          type: dict
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ansible.errors import AnsibleFilterError

_STATES = ("active", "removable", "too_young", "other")
_BYTES = (*_STATES, "corrupt")

# What the modules return, as far as it is used: a host that answers otherwise must not spoil the report of the others.
_MAYBE_TEXT = (str, None)
_MAYBE_COUNT = (int, None)
_FOUND = {
    "cache_path": str,
    "host": str,
    "store": {
        "id": _MAYBE_TEXT,
        "filesystem": _MAYBE_TEXT,
        "shared": (bool, None),
        "free_bytes": _MAYBE_COUNT,
        "total_bytes": _MAYBE_COUNT,
    },
    "summary": {
        **dict.fromkeys(_STATES, int),
        "total": {"files": int, "allocated_bytes": int},
        "reclaimable_bytes": int,
        "bytes": dict.fromkeys(_BYTES, int),
    },
    "missing": [{"backing_file": str, "instances": [str]}],
    "corrupt": [{"name": str, "used_by": [str]}],
    "orphans": [str],
    "unknown_use": [str],
}
_OMITTED = dict.fromkeys(("missing", "corrupt", "orphans", "unknown_use"), int)
_FILES = [{"name": str, "state": str, "reasons": [str], "allocated_bytes": int}]
_DONE = {
    "removed": [str],
    "kept": [{"name": str, "reason": str}],
    "failed": [{"name": str, "error": str}],
    "reclaimed_bytes": int,
}


class FilterModule:
    """The filter, for Ansible."""

    def filters(self) -> dict[str, Callable[..., dict[str, Any]]]:
        return {"image_cache_fleet": image_cache_fleet}


def image_cache_fleet(
    hosts: Sequence[str],
    hostvars: Mapping[str, Any],
    play_hosts: Sequence[str] | None = None,
    stores: Sequence[Mapping[str, Any]] = (),
    check_mode: bool = False,
    now: float | None = None,
) -> dict[str, Any]:
    """Put together what the image cache modules said on all hosts of a play."""
    if not isinstance(hostvars, Mapping):
        raise AnsibleFilterError("image_cache_fleet takes the variable hostvars as its first argument.")
    in_play = frozenset(hosts if play_hosts is None else play_hosts)
    answers = {name: _answer(hostvars[name], name in in_play) for name in hosts}
    # A role, block or task may have a check mode of its own, and it may differ by host.
    rehearsed = {_is_rehearsed(answer) for answer in answers.values()} - {None}
    if rehearsed == {True, False}:
        answers = {name: _without_rehearsal(answer) for name, answer in answers.items()}
    shared = {name for store in stores for name in store["hosts"]}
    groups = [*stores, *({"hosts": [name]} for name in hosts if name not in shared)]
    described = [store for group in groups for store in _store(group, answers)]
    store_of = {name: store for store in described for name in store["hosts"]}
    entries = [_host(name, answers[name], store_of.get(name)) for name in hosts]
    return {
        "generated": time.time() if now is None else now,
        "check_mode": rehearsed == {True} if rehearsed else check_mode,
        "pruned": any(answer.was_pruned for answer in answers.values()),
        "summary": _summary(entries, described),
        "stores": described,
        "hosts": entries,
    }


class _Answer(NamedTuple):
    """What a host said.

    :param image_cache: the structure of the modules, None if there is none.
    :param state: ``failed``, ``unreachable`` or ``waits`` if something went wrong or is yet to come, else None.
    :param error: what went wrong.
    :param was_pruned: whether a prune was tried, or kept by the fleet's brake.
    :param brake: why the fleet's brake keeps its prune.
    """

    image_cache: Mapping[str, Any] | None
    state: str | None = None
    error: str | None = None
    was_pruned: bool = False
    brake: str = ""


def _answer(variables: Mapping[str, Any], in_play: bool) -> _Answer:
    audit = variables.get("__image_cache_audit") or {}
    prune = variables.get("__image_cache_pruned") or {}
    was_pruned = bool(prune) and not prune.get("skipped")
    brake = variables.get("__image_cache_brake") or ""
    state = error = None
    for result in (audit, prune):
        # The role lets a prune that failed go on, and then only its message tells.
        if result.get("unreachable") or result.get("failed") or (result is prune and was_pruned and "msg" in prune):
            state = "unreachable" if result.get("unreachable") else "failed"
            error = str(result.get("msg", ""))
    # What Ansible has cached of a host whose audit went wrong is of an earlier run.
    audit_went_wrong = audit.get("unreachable") or audit.get("failed")
    facts = (audit if audit_went_wrong else variables).get("ansible_facts") or {}
    image_cache = prune.get("image_cache") or facts.get("image_cache")
    if image_cache is None:
        if state is None and not in_play:
            state, error = "unreachable", "It failed or could not be reached before its cache was looked at."
        return _Answer(None, state or "waits", error, was_pruned)
    problem = _mismatch(image_cache, _FOUND, "image_cache")
    for key, shape in {"removed": _DONE, "omitted": {"omitted": _OMITTED}, "files": {"files": _FILES}}.items():
        if problem is None and key in image_cache:
            problem = _mismatch(image_cache, shape, "image_cache")
    if problem is not None:
        return _Answer(None, "failed", f"Its answer cannot be understood: {problem}.", was_pruned)
    return _Answer(image_cache, state, error, was_pruned or bool(brake), str(brake))


def _is_rehearsed(answer: _Answer) -> bool | None:
    """Tell whether a prune removed nothing because of check mode; None where there was none."""
    return None if answer.image_cache is None else answer.image_cache.get("check_mode")


def _without_rehearsal(answer: _Answer) -> _Answer:
    """Return only what is so now, for a report that tells of other hosts what went."""
    if answer.image_cache is None or not _is_rehearsed(answer):
        return answer
    return answer._replace(image_cache={key: answer.image_cache[key] for key in answer.image_cache if key not in _DONE})


def _mismatch(value: Any, shape: Any, path: str) -> str | None:
    """Say where a value is not of its shape, None if it is."""
    if isinstance(shape, tuple):
        return None if value is None else _mismatch(value, shape[0], path)
    if isinstance(shape, dict):
        if not isinstance(value, Mapping):
            return f"{path} is no dictionary"
        parts = ((value.get(key), inner, f"{path}.{key}") for key, inner in shape.items())
    elif isinstance(shape, list):
        if not isinstance(value, Sequence) or isinstance(value, str):
            return f"{path} is no list"
        parts = ((item, shape[0], f"{path}[]") for item in value)
    elif shape is int:
        is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        return None if is_count else f"{path} is no number"
    else:
        return None if isinstance(value, shape) else f"{path} is not of the type {shape.__name__}"
    return next((problem for part in parts if (problem := _mismatch(*part)) is not None), None)


def _store(group: Mapping[str, Any], answers: Mapping[str, _Answer]) -> list[dict[str, Any]]:
    """Describe a store by what its pruner said, or else the first of its hosts that answered; nothing if none did."""
    hosts = list(group["hosts"])
    spoke = [name for name in hosts if name in answers and answers[name].image_cache is not None]
    if not spoke:
        return []
    pruner = group.get("pruner") if group.get("pruner") in spoke else spoke[0]
    image_cache = answers[pruner].image_cache
    own = (*image_cache["unknown_use"], *image_cache.get("limit_exceeded", ()))
    refused = [*group.get("refused", ()), *own, *filter(None, [answers[pruner].brake])]
    described = {
        "id": group.get("id", image_cache["store"]["id"]),
        "filesystem": image_cache["store"]["filesystem"],
        "shared": image_cache["store"]["shared"],
        "hosts": hosts,
        "pruner": pruner,
        "state": _state(group, refused, image_cache),
        "refused": refused,
        "free_bytes": image_cache["store"]["free_bytes"],
        "total_bytes": image_cache["store"]["total_bytes"],
        **{name: image_cache[name] for name in ("cache_path", "summary", *_OMITTED)},
        "checksums": image_cache.get("checksums"),
        "omitted": {name: image_cache.get("omitted", {}).get(name, 0) for name in _OMITTED},
        **{name: image_cache.get(name, []) for name in ("removed", "kept", "failed")},
        "reclaimed_bytes": image_cache.get("reclaimed_bytes", 0),
    }
    if "files" in image_cache:
        described["files"] = image_cache["files"]
    return [described]


def _state(group: Mapping[str, Any], refused: Sequence[str], image_cache: Mapping[str, Any]) -> str:
    if group.get("state") == "waits":
        return "waits"
    if refused:
        return "refused"
    return "pruned" if "removed" in image_cache else "audited"


def _host(name: str, answer: _Answer, store: Mapping[str, Any] | None) -> dict[str, Any]:
    state = answer.state
    if store is not None and (state is None or (state == "failed" and store["state"] == "refused")):
        state = store["state"]
    return {
        "name": name,
        "host": answer.image_cache["host"] if answer.image_cache else None,
        "store": store["id"] if store else None,
        "state": state,
        "error": answer.error,
        **{key: store[key] if store else None for key in ("free_bytes", "total_bytes", "summary")},
    }


def _summary(hosts: Sequence[Mapping[str, Any]], stores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    summaries = [store["summary"] for store in stores]
    return {
        "hosts": len(hosts),
        "hosts_without_answer": sum(host["state"] in ("failed", "unreachable") for host in hosts),
        "stores": len(stores),
        "stores_refused": sum(store["state"] == "refused" for store in stores),
        "files": {state: sum(summary[state] for summary in summaries) for state in _STATES},
        "bytes": {state: sum(summary["bytes"][state] for summary in summaries) for state in _BYTES},
        "cached_bytes": sum(summary["total"]["allocated_bytes"] for summary in summaries),
        "reclaimable_bytes": sum(summary["reclaimable_bytes"] for summary in summaries),
        "removed": sum(len(store["removed"]) for store in stores),
        "reclaimed_bytes": sum(store["reclaimed_bytes"] for store in stores),
        "failed": sum(len(store["failed"]) for store in stores),
        **{
            name: sum(len(store[name]) + store["omitted"][name] for store in stores)
            for name in ("missing", "corrupt", "orphans")
        },
    }
