# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds lost base files in Glance, decides which host restores which, on the controller, and shows what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.text import some_names
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet import play
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.answers import AnswerState
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.glance import list_images
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import GlanceOptions
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.restore import (
    RESTORE,
    decide_restore,
    parse_restore_answer,
    summarise_restore,
)
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.restore_from_glance import (
    find_in_glance,
    lost_files,
)
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.restore_from_peers import (
    agree_on_lost_files,
    files_lost_to_peers,
)
from ansible_collections.stackops.nova.plugins.plugin_utils.report.restore_screen import restore_screen


class ActionModule(ActionBase):
    """Speaks for all hosts at once. A decision never fails, which would fail the whole batch."""

    BYPASS_HOST_LOOP = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        variables = task_vars or {}
        walk = play.Walk.of(self._task)
        operation = self._task.args.get("operation")
        if operation == "find":
            answers = play.read_file_answers(variables, walk, parse_restore_answer)
            looks = _looks(variables, walk)
            found = find_in_glance(lost_files(answers), _asked(looks), list_images)
            problem = _peer_problem(looks)
            asks = not problem and any("peer" in look for look in looks.values())
            lost = files_lost_to_peers(answers, found) if asks else {}
            plain = {"hosts": found, "lost": lost, "asks_peers": bool(lost), "problem": problem}
            return {"changed": False, "walk": walk.id, **plain}
        if operation == "agree":
            choice = play.find_registered(variables, play.CHOICE, lambda result: play.is_of(result, walk))
            agreed = agree_on_lost_files(choice.get("lost", {}), play.read_owners(variables, walk))
            return {"changed": False, "walk": walk.id, "hosts": agreed}
        if operation == "decide":
            decisions = decide_restore(play.read_file_answers(variables, walk, parse_restore_answer))
            choice = play.find_registered(variables, play.CHOICE, lambda result: play.is_of(result, walk))
            hosts = {name: decision.to_plain() for name, decision in decisions.items()}
            refused = {"problem": choice["problem"]} if choice.get("problem") else {}
            return {"changed": False, "walk": walk.id, "hosts": hosts, **refused}
        outcomes = play.read_file_outcomes(variables, walk, parse_restore_answer, RESTORE)
        if all(outcome.answer.state is AnswerState.NOT_LOOKED_AT for outcome in outcomes):
            return {"failed": True, "msg": _NOTHING_TO_REPORT}
        summary = summarise_restore(outcomes, check_mode=self._task.check_mode)
        text = restore_screen(summary)
        play.show(text)
        return {"changed": False, "restore": summary, "text": text.splitlines()}


def _looks(variables: Mapping[str, Any], walk: play.Walk) -> dict[str, Mapping[str, Any]]:
    """Return the looks at the hosts of this batch."""
    looks = {name: play.registered(variables, name, play.LOOK) for name in variables["ansible_play_batch"]}
    return {name: look for name, look in looks.items() if play.is_of(look, walk)}


def _peer_problem(looks: Mapping[str, Mapping[str, Any]]) -> str:
    """Say why hosts cannot serve each other; empty if they can, or are not asked to."""
    read = {name: look for name, look in looks.items() if "storage_group" in look}  # others have no options
    serving, others = play.hosts_by_peers(read)
    if not serving or not others:
        return ""
    return (
        f"Nothing was restored: image_cache_use_peers is true for {some_names(serving)}, and not for "
        f"{some_names(others)}. Set image_cache_use_peers for all hosts of the play, or run it for each part (--limit)."
    )


def _asked(looks: Mapping[str, Mapping[str, Any]]) -> dict[str, GlanceOptions]:
    """Return where Glance is for the hosts that ask for it."""
    return {name: GlanceOptions.from_plain(look["glance"]) for name, look in looks.items() if look.get("glance")}


_NOTHING_TO_REPORT = (
    "There is nothing to report: no host was looked at in this run of the role. Run the play without --skip-tags, "
    "--tags, --step and --start-at-task. If hosts failed, see why in the task "
    f"{play.RESTORE_TASKS[0]!r}."
)
