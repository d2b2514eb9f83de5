# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Looks at one host's image cache, or does what was decided for it."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible import context
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet import play
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.answers import REFUSALS, WARNINGS
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.decision import Action, HostDecision
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import OptionsError, read_options

_AUDIT = "stackops.nova.image_cache_facts"
_PRUNE = "stackops.nova.image_cache_prune"
# Both return what they warn of with their result then, and Ansible does not show it beside the report.
_QUIET = {"warn": False}
_STRATEGIES_WITHOUT_BARRIER = ("free", "host_pinned")


class ActionModule(ActionBase):
    """Runs a module on the host with the options that the role's variables give."""

    _tasks: Sequence[str] = play.TASKS

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        # This process ends with the task. Ansible packs a module by way of the syntax trees of all its files, each a
        # cycle: collecting garbage meanwhile takes as long as the audit on the host.
        gc.disable()
        variables = task_vars or {}
        walk = play.Walk.of(self._task)
        try:
            return {**self._perform(str(self._task.args.get("operation")), walk, variables), "walk": walk.id}
        except OptionsError as exc:
            return {"failed": True, "msg": str(exc), "walk": walk.id}

    def _perform(self, operation: str, walk: play.Walk, task_vars: dict[str, Any]) -> dict[str, Any]:
        return self._look(task_vars) if operation == "look" else self._act(walk, task_vars)

    def _look(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        self._refuse_plays_that_cannot_be_decided()
        variables = play.set_variables(task_vars, self._templar.template)
        options = read_options(variables, task_vars["groups"], task_vars["inventory_hostname"])
        is_opted_out = play.is_opted_out(task_vars, self._templar.template)
        is_asked = play.is_prune_asked(task_vars, options.fleet, variables)
        fleet_options = replace(options.fleet, prune=is_asked and not is_opted_out, opted_out=is_opted_out)
        began = time.monotonic()
        if fleet_options.prune:
            result = self._run_module(_PRUNE, {**options.module, **_QUIET}, task_vars, check_mode=True)
        else:
            result = self._run_module(_AUDIT, {**options.module, **_QUIET}, task_vars, check_mode=True)
        self._leave_to_the_screen(result, task_vars)
        result[play.LOOK_SECONDS] = _seconds_since(began)
        shares = options.module.get("shared_storage") or _is_shared(result)
        if not shares:
            fleet_options = replace(fleet_options, instances=None)
            # Only by their entries, the fleet's limit can leave out files whose image the Image API has.
            is_listed_later = options.fleet.asks_api and options.module.get("remove_only_deleted_images")
            if not (options.fleet.shows_files or is_listed_later) and len(task_vars["ansible_play_hosts_all"]) > 1:
                _forget_files(result)
        # What it found may be a reason to fail for the task that acts. Until then it stays in the play.
        if result.get("failed") and "image_cache" in result:
            result.update(failed=False, failure=str(result.pop("msg", "")))
            result.pop("exception", None)  # ansible-core shows it as an error
        would_change = bool(result.get("changed"))
        return {**result, "changed": False, "would_change": would_change, "options": fleet_options.to_plain()}

    def _refuse_plays_that_cannot_be_decided(self) -> None:
        strategy = play.strategy_of(self._task)
        if strategy.rpartition(".")[2] in _STRATEGIES_WITHOUT_BARRIER:
            raise OptionsError(
                f"Nothing was done: under the strategy {strategy} there is no moment at which all hosts have "
                "answered, and only then it is known who shares a storage. Remove strategy from the play."
            )
        if play.runs_once(self._task):
            raise OptionsError(
                "Nothing was done: with run_once the role looks at one host, and not at those that may share its "
                "storage. Remove run_once, or run the play on one host (--limit)."
            )
        start = str(context.CLIARGS.get("start_at_task") or "")
        if play.starts_behind_the_look(start, self._tasks):
            raise OptionsError(
                f"Nothing was done: --start-at-task {start} begins behind the look at the image cache, which the rest "
                f"needs. Start at {self._tasks[0]!r}, or choose parts by --tags."
            )

    def _act(self, walk: play.Walk, task_vars: dict[str, Any]) -> dict[str, Any]:
        look = task_vars.get(play.LOOK)
        if not isinstance(look, Mapping) or not play.is_of(look, walk):
            raise OptionsError(_NOT_LOOKED_AT)
        if "image_cache" not in look:
            raise OptionsError(_LOOK_FAILED)
        found = play.find_registered(task_vars, play.DECISION, lambda result: play.is_of(result, walk))
        if not found:
            raise OptionsError(_NOT_LOOKED_AT)
        plain = found["hosts"].get(task_vars["inventory_hostname"])
        if plain is None:
            return _only_looked_at(look)
        decision = HostDecision.from_plain(plain)
        if decision.action is Action.FAIL:
            # In check mode nothing is refused, but shown as it would be.
            return {**_failure(decision.reasons), **({} if self._task.check_mode else {play.PRUNE_SECONDS: 0.0})}
        hand_off = decision.options
        if decision.action is Action.PRUNE and self._task.check_mode and not hand_off:
            return _known_dry_run(look)
        options = read_options(
            play.set_variables(task_vars, self._templar.template), task_vars["groups"], task_vars["inventory_hostname"]
        )
        module_options = {**options.module, **_QUIET, **hand_off}
        if "instances" in hand_off:
            module_options["instances"] = [*hand_off["instances"], *options.module.get("instances", ())]
        is_prune = decision.action is Action.PRUNE
        check_mode = self._task.check_mode
        began = time.monotonic()
        result = self._run_module(_PRUNE if is_prune else _AUDIT, module_options, task_vars, check_mode=check_mode)
        self._leave_to_the_screen(result, task_vars)
        if is_prune and not check_mode and "image_cache" in result:
            result[play.PRUNE_SECONDS] = _seconds_since(began)
        done = {**result, **_done(result, "pruned" if is_prune else "audited")}
        if done["state"] == "refused" and not hand_off and _is_as_before(look, result):
            # Ansible shows the whole result of a host that failed.
            del done["image_cache"]
            if done.get(WARNINGS) == look.get(WARNINGS):
                done.pop(WARNINGS, None)
        return done

    def _leave_to_the_screen(self, result: dict[str, Any], task_vars: Mapping[str, Any]) -> None:
        """Say the same on all hosts where a screen follows: Ansible shows each warning and error once, without a host.

        What a host warns of stays in the result, and why it failed is its ``msg``, which Ansible shows with the host.
        """
        is_due = play.is_screen_due(self._task, task_vars["ansible_play_hosts_all"])
        if result.get(WARNINGS):
            shown = [_WARNINGS_FOLLOW] if is_due else result[WARNINGS]
            result["warnings"] = [*result.get("warnings", ()), *shown]
        # Since ansible-core 2.19, with eight lines about the task.
        error: Any = result.get("exception")
        if is_due and hasattr(error, "event"):
            result["exception"] = replace(error, event=replace(error.event, msg=_REASONS_FOLLOW))

    def _run_module(
        self, name: str, options: Mapping[str, Any], task_vars: dict[str, Any], check_mode: bool
    ) -> dict[str, Any]:
        """Run a module, and return what has to be kept of its result."""
        self._task.check_mode = check_mode
        try:
            result: dict[str, Any] = self._execute_module(
                module_name=name, module_args=dict(options), task_vars=task_vars
            )
        except AnsibleConnectionFailure as exc:
            return {"unreachable": True, "msg": str(exc), "changed": False}
        facts = result.pop("ansible_facts", None)
        if isinstance(facts, Mapping) and "image_cache" in facts:
            result["image_cache"] = facts["image_cache"]
        result.pop("invocation", None)  # the controller keeps it for each host, and nobody reads it
        if not self._task.diff:
            result.pop("diff", None)
        return result


_NOT_LOOKED_AT = (
    "Nothing was pruned: the image cache was not looked at in this run of the role, so it is not certain which files "
    "are in use. Run the play without --skip-tags, --tags, --step and --start-at-task, "
    "or choose the tag image_cache_audit too."
)

_LOOK_FAILED = (
    "Nothing was done: the look at this host failed, so it is not certain which files are in use. See the message of "
    f"the task {play.TASKS[0]!r}, and run the play again."
)


# It is the same for all hosts, so that Ansible shows it once.
_WARNINGS_FOLLOW = (
    "There are warnings about image caches. The report at the end shows what they are about, once for all hosts. "
    "If the play ends before it, run it with --limit for one host, or with -v, which shows the host_warnings of each."
)

_REASONS_FOLLOW = "A host failed. Its own line says why. To see that host alone, run the play with --limit for it."


def _seconds_since(began: float) -> float:
    return round(time.monotonic() - began, 3)


def _is_shared(result: Mapping[str, Any]) -> bool:
    image_cache = result.get("image_cache")
    return isinstance(image_cache, Mapping) and image_cache.get("for_members") is not None


def _is_as_before(look: Mapping[str, Any], result: Mapping[str, Any]) -> bool:
    """Return whether a host found again what it found when it was looked at, as far as a person has to know it."""
    return all(
        look["image_cache"].get(key) == result["image_cache"].get(key) for key in (*REFUSALS, "missing", "corrupt")
    )


def _forget_files(result: Mapping[str, Any]) -> None:
    """Leave out what of a local cache only a report or a page reads: the controller keeps results until it ends."""
    image_cache = result.get("image_cache")
    if isinstance(image_cache, dict):
        image_cache.pop("files", None)


def _failure(reasons: Sequence[str]) -> dict[str, Any]:
    text = " ".join(reasons)
    if not text.startswith("Nothing was "):
        text = f"Nothing was removed from this storage. {text}"
    return {"failed": True, "msg": text, "changed": False, "state": "refused", "refused": list(reasons), "removed": []}


def _only_looked_at(look: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {"changed": False, "state": "audited", "removed": [], "refused": []}
    # Why a dry run fails concerns the member that prunes. An audit fails over corrupt files alone.
    if look.get("failure") and not look["options"].get("prune"):
        return {**result, "failed": True, "msg": look["failure"]}
    if look["options"].get("opted_out"):
        result["msg"] = (
            "It was only looked at: image_cache_prune is false for this host in the inventory. For a prune, remove "
            "image_cache_prune there."
        )
    return result


def _known_dry_run(look: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the look, which was a dry run, found already."""
    result = {"changed": look["would_change"], **_done(look, "pruned")}
    if look.get("failure"):
        result.update(failed=True, msg=look["failure"])
    if "diff" in look:
        result["diff"] = look["diff"]
    return result


def _done(result: Mapping[str, Any], state: str) -> dict[str, Any]:
    """Return what was done, for ``image_cache_result``."""
    image_cache = result.get("image_cache")
    found = image_cache if isinstance(image_cache, Mapping) else {}
    reasons = [sentence for name in REFUSALS for sentence in found.get(name, ())]
    refused = reasons if state == "pruned" else []
    return {
        "state": "refused" if refused else state,
        "removed": list(found.get("removed", ())),
        "saved_checksums": list(found.get("saved_checksums", ())),
        "reclaimed_bytes": found.get("reclaimed_bytes", 0),
        "refused": refused,
    }
