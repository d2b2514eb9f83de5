# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Chooses images, decides which host fetches which, on the controller, and shows what came of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet import play
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.answers import AnswerState
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.choice import choose_for_hosts
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.glance import list_images
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import OptionsError, PrecacheOptions
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.precache import (
    PRECACHE,
    decide_precache,
    parse_precache_answer,
    summarise_precache,
)
from ansible_collections.stackops.nova.plugins.plugin_utils.report.errors import ReportError
from ansible_collections.stackops.nova.plugins.plugin_utils.report.files import check_report, write_precache_report
from ansible_collections.stackops.nova.plugins.plugin_utils.report.precache_screen import precache_screen


class ActionModule(ActionBase):
    """Speaks for all hosts at once. Choosing and deciding never fail, which would fail the whole batch."""

    BYPASS_HOST_LOOP = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        variables = task_vars or {}
        walk = play.Walk.of(self._task)
        operation = self._task.args.get("operation")
        asked = _asked(variables, walk)
        if operation == "choose":
            problem = self._report_problem(asked)
            if problem:
                refused = {"images": [], "endpoint": "", "problem": problem}
                return {"changed": False, "walk": walk.id, "choices": [refused], "hosts": dict.fromkeys(asked, 0)}
            return {"changed": False, "walk": walk.id, **choose_for_hosts(asked, list_images)}
        if operation == "decide":
            decisions = decide_precache(play.read_file_answers(variables, walk, parse_precache_answer))
            plain = {name: decision.to_plain() for name, decision in decisions.items()}
            return {"changed": False, "walk": walk.id, "hosts": plain}
        outcomes = play.read_file_outcomes(variables, walk, parse_precache_answer, PRECACHE)
        if all(outcome.answer.state is AnswerState.NOT_LOOKED_AT for outcome in outcomes):
            return {"failed": True, "msg": _NOTHING_TO_REPORT}
        previous = play.newest_report(variables, walk, play.PRECACHE_REPORT, "precache")
        summary = summarise_precache(
            outcomes,
            _names(variables, walk),
            check_mode=self._task.check_mode,
            now=time.time(),
            previous=previous.get("outcomes", ()),
        )
        text = precache_screen(summary)
        play.show(text)
        path, _query, slice_name = play.precache_report_wishes(asked.values())
        result = {
            "changed": False,
            "play": walk.play,
            "precache": summary if path else {**summary, "outcomes": []},
            "text": text.splitlines(),
        }
        if not path:
            return result
        try:
            folder = play.report_folder(path, self._loader)
            written = write_precache_report(folder, summary, play.inventory_hosts(variables), slice_name)
        except (OptionsError, ReportError) as exc:
            return {**result, "failed": True, "msg": str(exc)}
        warnings = {"warnings": [written.warning]} if written.warning else {}
        return {**result, "files": written.names, **warnings}

    def _report_problem(self, asked: Mapping[str, PrecacheOptions]) -> str:
        """Say why the report cannot be written, before anything is fetched; empty if it can, or none is asked for."""
        path = play.precache_report_wishes(asked.values()).path
        try:
            if path:
                check_report(play.report_folder(path, self._loader), None)
        except (OptionsError, ReportError) as exc:
            return str(exc)
        return ""


def _asked(variables: Mapping[str, Any], walk: play.Walk) -> dict[str, PrecacheOptions]:
    """Return what each host of this walk asks for."""
    read = {name: play.registered(variables, name, play.ASKED) for name in variables["ansible_play_hosts_all"]}
    return {
        name: PrecacheOptions.from_plain(result["asked"])
        for name, result in read.items()
        if play.is_of(result, walk) and "asked" in result
    }


def _names(variables: Mapping[str, Any], walk: play.Walk) -> dict[str, str]:
    """Return the names of the chosen images by their ids."""
    made = play.find_registered(variables, play.CHOICE, lambda result: play.is_of(result, walk))
    images = [image for choice in made.get("choices", ()) for image in choice["images"]]
    return {image["id"]: image.get("name") or "" for image in images}


_NOTHING_TO_REPORT = (
    "There is nothing to report: no host was looked at in this run of the role. Run the play without --skip-tags, "
    "--tags, --step and --start-at-task. If hosts failed, see why in the tasks "
    f"{play.PRECACHE_TASKS[0]!r} and {play.PRECACHE_TASKS[2]!r}."
)
