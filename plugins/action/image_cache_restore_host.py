# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds what one host can restore, or restores the base files that were decided for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.stackops.nova.plugins.action.image_cache_host import ActionModule as HostActionModule
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet import play
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import (
    HostOptions,
    OptionsError,
    read_restore_options,
)
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.restore import (
    RESTORE,
    RestoreDecision,
    merge_outcome,
    parse_restore_answer,
    reasons_to_fail,
)

_MODULE = "stackops.nova.image_cache_restore"
_SHOWN_REASONS = 10  # Ansible shows a message whole; the result has all reasons


class ActionModule(HostActionModule):
    """Runs the module on the host with the options that the role's variables give."""

    _tasks = play.RESTORE_TASKS

    def _look(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        self._refuse_plays_that_cannot_be_decided()
        host, options = task_vars["inventory_hostname"], self._options(task_vars)
        result = self._run_module(_MODULE, options.module, task_vars, check_mode=True)
        # What it refuses another host may restore. Until that is decided, it is no failure.
        if result.get("failed") and RESTORE in result:
            result.update(failed=False)
            result.pop("msg", None)
            result.pop("exception", None)
        group = options.fleet.storage_group
        is_member = host in task_vars["groups"].get(group, ())
        return {**result, "changed": False, "storage_group": group if is_member else ""}

    def _act(self, walk: play.Walk, task_vars: dict[str, Any]) -> dict[str, Any]:
        host, look = task_vars["inventory_hostname"], task_vars.get(play.LOOK)
        decided = play.find_registered(task_vars, play.DECISION, lambda result: play.is_of(result, walk))
        if not isinstance(look, Mapping) or not play.is_of(look, walk) or not decided:
            raise OptionsError(_NOT_LOOKED_AT)
        found = parse_restore_answer(host, look).found
        if found is None or host not in decided["hosts"]:
            raise OptionsError(_LOOK_FAILED)
        decision = RestoreDecision.from_plain(decided["hosts"][host])
        if decision.names and not self._task.check_mode:
            options = {**self._options(task_vars).module, "names": list(decision.names)}
            result = self._run_module(_MODULE, options, task_vars, check_mode=False)
            answer = parse_restore_answer(host, result)
            outcome = merge_outcome(found, decision, answer.found, answer.error)
        else:
            result, outcome = {}, merge_outcome(found, decision, None)  # the look was the dry run
        done = {"changed": bool(outcome["restored"] or outcome["set_aside"]), RESTORE: outcome}
        reasons = reasons_to_fail(outcome)
        if result.get("unreachable"):
            return {**done, "unreachable": True, "msg": result["msg"]}
        if reasons:
            return {**done, "failed": True, "msg": _failure(reasons)}
        return done

    def _options(self, task_vars: dict[str, Any]) -> HostOptions:
        variables = play.set_variables(task_vars, self._templar.template)
        return read_restore_options(variables, task_vars["groups"], task_vars["inventory_hostname"])


def _failure(reasons: Sequence[str]) -> str:
    lines = [f"Not restored: {len(reasons)}.", *reasons[:_SHOWN_REASONS]]
    more = len(reasons) - _SHOWN_REASONS
    if more > 0:
        lines.append(f"and {more} more")
    return "\n".join(lines)


_NOT_LOOKED_AT = (
    "Nothing was restored: it was not looked for what can be restored in this run of the role. Run the play without "
    "--skip-tags, --tags, --step and --start-at-task."
)

_LOOK_FAILED = (
    "Nothing was restored: the look at this host failed. See the message of the task "
    f"{play.RESTORE_TASKS[0]!r}, and run the play again."
)
