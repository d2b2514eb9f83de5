# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Shows, on the controller, what was found and done, and writes the report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet import play
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.answers import AnswerState
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.decision import StorageDecision, undecided
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import OptionsError
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.storages import Fleet
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.summary import LISTS, HostOutcome, summarise
from ansible_collections.stackops.nova.plugins.plugin_utils.report.errors import ReportError
from ansible_collections.stackops.nova.plugins.plugin_utils.report.files import write_report
from ansible_collections.stackops.nova.plugins.plugin_utils.report.screen import fleet_screen
from ansible_collections.stackops.nova.plugins.plugin_utils.report.table import fleet_pages


class ActionModule(ActionBase):
    """Speaks for all hosts at once."""

    BYPASS_HOST_LOOP = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        variables = task_vars or {}
        walk = play.Walk.of(self._task)
        outcomes = play.read_outcomes(variables, walk)
        answers = [outcome.answer for outcome in outcomes]
        if all(answer.state is AnswerState.NOT_LOOKED_AT for answer in answers):
            return {"failed": True, "msg": _NOTHING_TO_REPORT}
        decision = play.find_registered(variables, play.DECISION, lambda result: play.is_of(result, walk))
        previous = play.newest_report(variables, walk, play.REPORT, "fleet")
        storages = (
            [StorageDecision.from_plain(storage) for storage in decision["storages"]]
            if decision
            else undecided(Fleet(tuple(answers), variables["groups"], {}))
        )
        fleet = summarise(
            outcomes,
            storages,
            decision.get("problems", ()),
            previous,
            check_mode=self._task.check_mode,
            now=time.time(),
        )
        text = _screen(play.report_view(answers), fleet, storages, outcomes)
        play.show(text)
        path, query, slice_name = play.report_wishes(answers)
        result = {
            "changed": False,
            "play": walk.play,
            "fleet": fleet if path else _without_lists(fleet),
            "text": text.splitlines(),
        }
        if not path:
            return result
        try:
            written = write_report(
                play.report_folder(path, self._loader),
                fleet,
                query or None,
                play.inventory_hosts(variables),
                slice_name,
            )
        except (OptionsError, ReportError) as exc:
            return {**result, "failed": True, "msg": str(exc)}
        warnings = {"warnings": [written.warning]} if written.warning else {}
        return {**result, "files": written.names, **warnings}


def _without_lists(fleet: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the controller keeps for each host until the play ends, without what only a written report shows."""
    storages = [{key: value for key, value in storage.items() if key not in LISTS} for storage in fleet["storages"]]
    return {**fleet, "images": [], "storages": storages}


_NOTHING_TO_REPORT = (
    "There is nothing to report: no image cache was looked at in this run of the role. Run the play without "
    "--skip-tags, --tags, --step and --start-at-task, or choose the tag image_cache_audit too. If hosts failed, see "
    f"why in the task {play.TASKS[0]!r}."
)


def _screen(
    view: str, fleet: Mapping[str, Any], storages: Sequence[StorageDecision], outcomes: Sequence[HostOutcome]
) -> str:
    """Return what the view shows. Without one, a host that is alone gets its full page."""
    if view in ("fleet", "hosts") or (not view and len(fleet["hosts"]) > 1):
        return fleet_screen(fleet, every_host=view == "hosts")
    found = {outcome.answer.name: outcome.answer.image_cache or {} for outcome in outcomes}
    described = {storage["pruner"]: storage for storage in fleet["storages"]}
    shown = ((found[storage.pruner], described[storage.pruner]) for storage in storages)
    return fleet_pages(fleet, shown, every_file=view == "files")
