# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads which images a host is asked to have, finds which it lacks, or fetches those that were decided for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
    RESULT,
    OptionsError,
    PrecacheOptions,
    read_precache_options,
)
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.precache import (
    PRECACHE,
    PrecacheDecision,
    merge_precache_outcome,
    parse_precache_answer,
)
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.precache_waves import (
    Attempt,
    Order,
    merge_waves,
    read_attempts,
)

_MODULE = "stackops.nova.image_cache_precache"


class ActionModule(HostActionModule):
    """Runs the module on the host with the options that the role's variables give."""

    _tasks = play.PRECACHE_TASKS

    def _perform(self, operation: str, walk: play.Walk, task_vars: dict[str, Any]) -> dict[str, Any]:
        if operation == "read":
            return self._read(task_vars)
        if operation == "look":
            return self._look_for_images(walk, task_vars)
        if operation == "wave":
            return self._take_part(walk, task_vars)
        return self._act(walk, task_vars)

    def _read(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        self._refuse_plays_that_cannot_be_decided()
        variables = play.set_variables(task_vars, self._templar.template)
        _module, asked = read_precache_options(variables, task_vars["groups"], task_vars["inventory_hostname"])
        peer = play.peer_options(task_vars, variables, self._templar.template)
        return {"changed": False, "asked": asked.to_plain(), **({"peer": peer.to_plain()} if peer else {})}

    def _look_for_images(self, walk: play.Walk, task_vars: dict[str, Any]) -> dict[str, Any]:
        host, is_dry_run = task_vars["inventory_hostname"], self._task.check_mode
        module, asked = self._options(task_vars)
        choice = _choice_for(host, walk, task_vars)
        images = {**module, "images": choice["images"]}
        result: dict[str, Any] = {}
        if not is_dry_run:
            # Without a source nothing is fetched. It marks the images that are there as used.
            result = self._run_module(_MODULE, {**images, "files": {}}, task_vars, check_mode=False)
        is_settled = result.get("unreachable") or (PRECACHE in result and not result.get("failed"))
        if not is_settled:
            glance = module_option(asked, GlanceAccess(choice["endpoint"], None)) if choice["endpoint"] else {}
            result = self._run_module(_MODULE, {**images, **glance}, task_vars, check_mode=True)
        # What it refuses another host may fetch. Until that is decided, it is no failure.
        if result.get("failed") and PRECACHE in result:
            result.update(failed=False)
            result.pop("msg", None)
            result.pop("exception", None)
        is_member = host in task_vars["groups"].get(asked.storage_group, ())
        return {**result, "changed": False, "storage_group": asked.storage_group if is_member else ""}

    def _act(self, walk: play.Walk, task_vars: dict[str, Any]) -> dict[str, Any]:
        found, decision = self._decision(walk, task_vars)
        asked = task_vars.get(play.ASKED)
        if isinstance(asked, Mapping) and "peer" in asked and play.is_of(asked, walk):
            return {"changed": False, "more": True}  # it is done in waves
        result: dict[str, Any] = {}
        if decision.image_ids and not self._task.check_mode:
            wanted = [image for image in found["fetched"] if image["image_id"] in decision.image_ids]
            result = self._fetch(wanted, _choice_for(task_vars["inventory_hostname"], walk, task_vars), task_vars)
            answer = parse_precache_answer(task_vars["inventory_hostname"], result)
            outcome = merge_precache_outcome(found, decision, answer.found, answer.error)
        else:
            outcome = merge_precache_outcome(found, decision, None)  # the look was the dry run
        return _done(outcome, str(result["msg"]) if result.get("unreachable") else "")

    def _take_part(self, walk: play.Walk, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Do what a wave has for the host; when none is left, return what came of all of them."""
        host = task_vars["inventory_hostname"]
        found, decision = self._decision(walk, task_vars)
        wave = play.find_registered(task_vars, play.WAVE, lambda result: play.is_of(result, walk))
        if not wave:
            raise OptionsError(_NOT_LOOKED_AT)
        former = task_vars.get(RESULT)
        plain = former.get("attempts", ()) if isinstance(former, Mapping) and play.is_of(former, walk) else ()
        attempts = [Attempt.from_plain(each) for each in plain]
        if not wave["more"]:
            plan = json.loads(wave["plan"])
            problems, expected = plan["problems"].get(host, {}), plan["expected"].get(host, ())
            outcome = merge_waves(found, decision, attempts, problems, expected)
            return _done(outcome, next((each.no_answer for each in attempts if each.unreachable), ""))
        # What was fetched is a change of the last task, whose result the role's is.
        done: dict[str, Any] = {"changed": False, "more": True, "attempts": list(plain)}
        if host in wave["busy"]:
            order = Order(**json.loads(wave["plan"])["orders"][host])
            try:
                new = self._obey(order, wave["wave"], walk, task_vars)
            except OptionsError as exc:
                return {**done, "more": False, "failed": True, "msg": str(exc)}
            done["attempts"] += [attempt.to_plain() for attempt in new]
        return done

    def _obey(self, order: Order, wave: int, walk: play.Walk, task_vars: dict[str, Any]) -> list[Attempt]:
        """Fetch what a wave has for the host: from its own sources, and then from other hosts."""
        host = task_vars["inventory_hostname"]
        choice = _choice_for(host, walk, task_vars)
        look = parse_precache_answer(host, task_vars[play.LOOK]).found or {}
        attempts = []
        if order.own:
            wanted = [image for image in look["fetched"] if image["image_id"] in order.own]
            result = self._fetch(wanted, choice, task_vars)
            attempts += read_attempts(host, result, dict.fromkeys(order.own, ""), wave)
        if order.sources and not any(attempt.unreachable for attempt in attempts):
            module, _asked = self._options(task_vars)
            images = [image for image in choice["images"] if image["id"] in order.sources]
            options = {**module, "images": images, "files": {}, "peers": order.peers}
            result = self._run_module(_MODULE, options, task_vars, check_mode=False)
            attempts += read_attempts(host, result, order.sources, wave)
        return attempts

    def _decision(self, walk: play.Walk, task_vars: dict[str, Any]) -> tuple[Found, PrecacheDecision]:
        """Return what the host found, and what was decided for it."""
        host, look = task_vars["inventory_hostname"], task_vars.get(play.LOOK)
        decided = play.find_registered(task_vars, play.DECISION, lambda result: play.is_of(result, walk))
        if not isinstance(look, Mapping) or not play.is_of(look, walk) or not decided:
            raise OptionsError(_NOT_LOOKED_AT)
        found = parse_precache_answer(host, look).found
        if found is None or host not in decided["hosts"]:
            raise OptionsError(_LOOK_FAILED)
        return found, PrecacheDecision.from_plain(decided["hosts"][host])

    def _fetch(
        self, wanted: list[Mapping[str, Any]], choice: Mapping[str, Any], task_vars: dict[str, Any]
    ) -> dict[str, Any]:
        """Run the module for some images, with a token of its own where one of them comes from Glance."""
        module, asked = self._options(task_vars)
        ids = {image["image_id"] for image in wanted}
        options = {**module, "images": [image for image in choice["images"] if image["id"] in ids]}
        if all(image["source"] == "file" for image in wanted):
            return self._run_module(_MODULE, options, task_vars, check_mode=False)
        return run_with_token(
            asked, lambda glance: self._run_module(_MODULE, {**options, **glance}, task_vars, check_mode=False)
        )

    def _options(self, task_vars: dict[str, Any]) -> tuple[Mapping[str, Any], PrecacheOptions]:
        variables = play.set_variables(task_vars, self._templar.template)
        return read_precache_options(variables, task_vars["groups"], task_vars["inventory_hostname"])


def _done(outcome: Mapping[str, Any], unreachable: str) -> dict[str, Any]:
    """Return the result of a host: what came of its images, and whether that is a failure."""
    done: dict[str, Any] = {"changed": bool(outcome["fetched"]), PRECACHE: outcome}
    reasons = reasons_to_fail(outcome)
    if unreachable:
        return {**done, "unreachable": True, "msg": unreachable}
    if reasons:
        return {**done, "failed": True, "msg": "\n".join([f"Not pre-cached: {len(reasons)}.", *reasons])}
    return done


def _choice_for(host: str, walk: play.Walk, task_vars: dict[str, Any]) -> Mapping[str, Any]:
    """Return the images that were chosen for a host, and the endpoint of Glance.

    :raises OptionsError: none were chosen, and why.
    """
    made = play.find_registered(task_vars, play.CHOICE, lambda result: play.is_of(result, walk))
    if not made or host not in made["hosts"]:
        raise OptionsError(_NOT_LOOKED_AT)
    choice: Mapping[str, Any] = made["choices"][made["hosts"][host]]
    if choice["problem"]:
        raise OptionsError(choice["problem"])
    return choice


_NOT_LOOKED_AT = (
    "Nothing was pre-cached: it was not looked for which images are present in this run of the role. Run the play "
    "without --skip-tags, --tags, --step and --start-at-task."
)

_LOOK_FAILED = (
    "Nothing was pre-cached: the look at this host failed. See the message of the task "
    f"{play.PRECACHE_TASKS[2]!r}, and run the play again."
)
