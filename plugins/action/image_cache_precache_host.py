# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads which images a host is asked to have, finds which it lacks, or fetches those that were decided for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.stackops.nova.plugins.action.image_cache_host import ActionModule as HostActionModule
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet import play
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.answers import reasons_to_fail
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.glance import (
    GlanceAccess,
    module_option,
    run_with_token,
)
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import (
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

_MODULE = "stackops.nova.image_cache_precache"


class ActionModule(HostActionModule):
    """Runs the module on the host with the options that the role's variables give."""

    _tasks = play.PRECACHE_TASKS

    def _perform(self, operation: str, walk: play.Walk, task_vars: dict[str, Any]) -> dict[str, Any]:
        if operation == "read":
            return self._read(task_vars)
        if operation == "look":
            return self._look_for_images(walk, task_vars)
        return self._act(walk, task_vars)

    def _read(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        self._refuse_plays_that_cannot_be_decided()
        _module, asked = self._options(task_vars)
        return {"changed": False, "asked": asked.to_plain()}

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
        host, look = task_vars["inventory_hostname"], task_vars.get(play.LOOK)
        decided = play.find_registered(task_vars, play.DECISION, lambda result: play.is_of(result, walk))
        if not isinstance(look, Mapping) or not play.is_of(look, walk) or not decided:
            raise OptionsError(_NOT_LOOKED_AT)
        found = parse_precache_answer(host, look).found
        if found is None or host not in decided["hosts"]:
            raise OptionsError(_LOOK_FAILED)
        decision = PrecacheDecision.from_plain(decided["hosts"][host])
        if decision.image_ids and not self._task.check_mode:
            wanted = [image for image in found["fetched"] if image["image_id"] in decision.image_ids]
            result = self._fetch(wanted, _choice_for(host, walk, task_vars), task_vars)
            answer = parse_precache_answer(host, result)
            outcome = merge_precache_outcome(found, decision, answer.found, answer.error)
        else:
            result, outcome = {}, merge_precache_outcome(found, decision, None)  # the look was the dry run
        done: dict[str, Any] = {"changed": bool(outcome["fetched"]), PRECACHE: outcome}
        reasons = reasons_to_fail(outcome)
        if result.get("unreachable"):
            return {**done, "unreachable": True, "msg": result["msg"]}
        if reasons:
            return {**done, "failed": True, "msg": "\n".join([f"Not pre-cached: {len(reasons)}.", *reasons])}
        return done

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
