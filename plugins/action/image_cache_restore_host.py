# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds what one host can restore, or restores the base files that were decided for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.stackops.nova.plugins.action.image_cache_host import ActionModule as HostActionModule
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet import play
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.answers import Found, reasons_to_fail
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.glance import (
    GlanceAccess,
    module_option,
    run_with_token,
)
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import (
    GlanceOptions,
    HostOptions,
    OptionsError,
    read_restore_options,
)
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.restore import (
    RESTORE,
    RestoreDecision,
    merge_looks,
    merge_outcome,
    merge_results,
    parse_restore_answer,
    with_remarks,
)

_MODULE = "stackops.nova.image_cache_restore"
_SHOWN_REASONS = 10  # Ansible shows a message whole; the result has all reasons


class ActionModule(HostActionModule):
    """Runs the module on the host with the options that the role's variables give."""

    _tasks = play.RESTORE_TASKS

    def _perform(self, operation: str, walk: play.Walk, task_vars: dict[str, Any]) -> dict[str, Any]:
        if operation == "look_again":
            return self._look_again(walk, task_vars)
        if operation == "checksums":
            return self._read_checksums(walk, task_vars)
        return super()._perform(operation, walk, task_vars)

    def _look(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        self._refuse_plays_that_cannot_be_decided()
        host, template = task_vars["inventory_hostname"], self._templar.template
        variables = play.set_variables(task_vars, template)
        options, asked = read_restore_options(variables, task_vars["groups"], host)
        served = play.peer_options(task_vars, variables, template)
        result = self._run_module(_MODULE, options.module, task_vars, check_mode=True)
        # What it refuses another host may restore. Until that is decided, it is no failure.
        if result.get("failed") and RESTORE in result:
            result.update(failed=False)
            result.pop("msg", None)
            result.pop("exception", None)
        group = options.fleet.storage_group
        is_member = host in task_vars["groups"].get(group, ())
        glance = {"glance": asked.to_plain()} if asked else {}
        peer = {"peer": served.to_plain()} if served else {}
        return {**result, **glance, **peer, "changed": False, "storage_group": group if is_member else ""}

    def _read_checksums(self, walk: play.Walk, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Read the checksums of what others have lost."""
        made = play.find_registered(task_vars, play.CHOICE, lambda result: play.is_of(result, walk))
        names = sorted({name for names in made.get("lost", {}).values() for name in names})
        if not names:
            return {"changed": False}
        options, _asked = self._options(task_vars)
        result = self._run_module(_MODULE, {**options.module, "checksums_of": names}, task_vars, check_mode=True)
        # Its own files were looked at already. What it does not say of others' is no failure of it.
        result.pop("exception", None)
        return {**result, "changed": False, "failed": False}

    def _look_again(self, walk: play.Walk, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Find what of the lost files can be restored from Glance or other hosts, without a connection to these."""
        host, look = task_vars["inventory_hostname"], self._look_of(walk, task_vars)
        found = parse_restore_answer(host, look).found
        choice, agreed = _choice_for(host, walk, task_vars), _agreed_for(host, walk, task_vars)
        if found is None or not (choice or agreed):
            return dict(look)
        remarks = _merged_remarks(choice, agreed)
        images, peers = (choice or {}).get("images", {}), (agreed or {}).get("peers", {})
        for names, sources in ((images, self._glance_sources(choice, task_vars)), (peers, {"peers": peers})):
            if not names:
                continue
            options, _asked = self._options(task_vars)
            only = {**_only(names), **({"images": list(images.values())} if names is images else {})}
            result = self._run_module(_MODULE, {**options.module, **only, **sources}, task_vars, check_mode=True)
            answer = parse_restore_answer(host, result)
            if answer.found is None:
                remarks = {**remarks, **dict.fromkeys(names, answer.error)}
            else:
                found = merge_looks(found, answer.found, names.keys())
        return {**look, RESTORE: with_remarks(found, remarks)}

    def _glance_sources(self, choice: Mapping[str, Any] | None, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the module's option for Glance, without a token."""
        _options, asked = self._options(task_vars)
        return module_option(asked, GlanceAccess(choice["endpoint"], None)) if choice and asked else {}

    def _act(self, walk: play.Walk, task_vars: dict[str, Any]) -> dict[str, Any]:
        host, look = task_vars["inventory_hostname"], self._look_of(walk, task_vars)
        decided = play.find_registered(task_vars, play.DECISION, lambda result: play.is_of(result, walk))
        if not decided:
            raise OptionsError(_NOT_LOOKED_AT)
        if decided.get("problem"):
            raise OptionsError(decided["problem"])
        found = parse_restore_answer(host, look).found
        if found is None or host not in decided["hosts"]:
            raise OptionsError(_LOOK_FAILED)
        decision = RestoreDecision.from_plain(decided["hosts"][host])
        results: list[dict[str, Any]] = []
        if self._task.check_mode:
            outcome = merge_outcome(found, decision, None)  # the look was the dry run
        else:
            results = self._restore(decision.names, found, walk, task_vars)
            answers = [parse_restore_answer(host, result) for result in results]
            error = next((answer.error for answer in answers if answer.found is None), "")
            acted = merge_results([answer.found for answer in answers if answer.found is not None])
            outcome = merge_outcome(found, decision, acted, error)
        done = {"changed": bool(outcome["restored"] or outcome["set_aside"]), RESTORE: outcome}
        reasons = reasons_to_fail(outcome)
        unreachable = next((result for result in results if result.get("unreachable")), None)
        if unreachable:
            return {**done, "unreachable": True, "msg": unreachable["msg"]}
        if reasons:
            return {**done, "failed": True, "msg": _failure(reasons)}
        return done

    def _restore(
        self, names: Sequence[str], found: Found, walk: play.Walk, task_vars: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Run the module: first without Glance, because what a process still has is gone when its guest stops.

        :return: its results.
        """
        source_of = {file["name"]: file["source"] for file in found["restored"]}
        near = [name for name in names if source_of.get(name) not in ("glance", "peer")]
        of_peers = [name for name in names if source_of.get(name) == "peer"]
        far = [name for name in names if source_of.get(name) == "glance"]
        host = task_vars["inventory_hostname"]
        choice, agreed = _choice_for(host, walk, task_vars), _agreed_for(host, walk, task_vars)
        results: list[dict[str, Any]] = []
        if not names:
            return results
        options, asked = self._options(task_vars)
        if near:
            results.append(self._run_module(_MODULE, {**options.module, "names": near}, task_vars, check_mode=False))
        if of_peers and agreed and _is_reachable(results):
            peers = {name: agreed["peers"][name] for name in of_peers}
            given = {**options.module, **_only(of_peers), "peers": peers}
            results.append(self._run_module(_MODULE, given, task_vars, check_mode=False))
        if far and choice is not None and asked is not None and _is_reachable(results):
            of_glance = {**options.module, **_only(far), "images": [choice["images"][name] for name in far]}
            results.append(
                run_with_token(
                    asked,
                    lambda glance: self._run_module(_MODULE, {**of_glance, **glance}, task_vars, check_mode=False),
                )
            )
        return results

    def _look_of(self, walk: play.Walk, task_vars: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the last look at the host in this run of the role."""
        look = play.last_look(task_vars, task_vars["inventory_hostname"], walk)
        if not play.is_of(look, walk):
            raise OptionsError(_NOT_LOOKED_AT)
        return look

    def _options(self, task_vars: dict[str, Any]) -> tuple[HostOptions, GlanceOptions | None]:
        variables = play.set_variables(task_vars, self._templar.template)
        return read_restore_options(variables, task_vars["groups"], task_vars["inventory_hostname"])


def _failure(reasons: Sequence[str]) -> str:
    lines = [f"Not restored: {len(reasons)}.", *reasons[:_SHOWN_REASONS]]
    more = len(reasons) - _SHOWN_REASONS
    if more > 0:
        lines.append(f"and {more} more")
    return "\n".join(lines)


def _choice_for(host: str, walk: play.Walk, task_vars: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what was found in Glance for a host; None where it was not asked for anything."""
    made = play.find_registered(task_vars, play.CHOICE, lambda result: play.is_of(result, walk))
    choice: Mapping[str, Any] | None = made.get("hosts", {}).get(host)
    return choice


def _agreed_for(host: str, walk: play.Walk, task_vars: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what other hosts have of what a host has lost; None where it has lost nothing, or they were not asked."""
    look = task_vars.get(play.LOOK)
    if not isinstance(look, Mapping) or "peer" not in look:
        return None
    made = play.find_registered(task_vars, play.AGREED, lambda result: play.is_of(result, walk))
    agreed: Mapping[str, Any] | None = made.get("hosts", {}).get(host)
    return agreed


def _merged_remarks(*parts: Mapping[str, Any] | None) -> dict[str, str]:
    """Return why files are not to be had, from several sources, by their names."""
    remarks: dict[str, str] = {}
    for part in parts:
        for name, remark in (part or {}).get("remarks", {}).items():
            remarks[name] = f"{remarks[name]} {remark}" if name in remarks else remark
    return remarks


def _only(names: Iterable[str]) -> dict[str, Any]:
    """Return the options of the module for some missing files, and no others."""
    return {"names": list(names), "states": ["missing"]}


def _is_reachable(results: Sequence[Mapping[str, Any]]) -> bool:
    return not any(result.get("unreachable") for result in results)


_NOT_LOOKED_AT = (
    "Nothing was restored: it was not looked for what can be restored in this run of the role. Run the play without "
    "--skip-tags, --tags, --step and --start-at-task."
)

_LOOK_FAILED = (
    "Nothing was restored: the look at this host failed. See the message of the task "
    f"{play.RESTORE_TASKS[0]!r}, and run the play again."
)
