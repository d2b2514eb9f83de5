# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Chooses images, decides which host fetches which, on the controller, and shows what came of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.text import some_names
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet import play
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.answers import (
    AnswerState,
    FileOutcome,
)
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.choice import choose_for_hosts
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.glance import list_images
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import OptionsError, PrecacheOptions
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.precache import (
    PRECACHE,
    decide_precache,
    parse_precache_answer,
    summarise_precache,
)
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.precache_waves import (
    outcomes_of_attempts,
    plan_wave,
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
        if operation == "plan":
            return {"changed": False, "walk": walk.id, **self._plan(variables, walk)}
        read = _read(variables, walk)
        asked = {name: PrecacheOptions.from_plain(result["asked"]) for name, result in read.items()}
        if operation == "choose":
            problem = self._report_problem(asked) or _peer_problem(read)
            if problem:
                refused = {"images": [], "endpoint": "", "problem": problem}
                return {"changed": False, "walk": walk.id, "choices": [refused], "hosts": dict.fromkeys(asked, 0)}
            return {"changed": False, "walk": walk.id, **choose_for_hosts(asked, list_images)}
        if operation == "decide":
            answers = play.read_file_answers(variables, walk, parse_precache_answer)
            decisions = decide_precache(answers, uses_peers=_use_peers(read))
            plain = {name: decision.to_plain() for name, decision in decisions.items()}
            return {"changed": False, "walk": walk.id, "hosts": plain}
        outcomes = play.read_file_outcomes(variables, walk, parse_precache_answer, PRECACHE)
        if _use_peers(read):
            outcomes = _with_attempts(outcomes, variables, walk)
        if all(outcome.answer.state is AnswerState.NOT_LOOKED_AT for outcome in outcomes):
            return {"failed": True, "msg": _NOTHING_TO_REPORT}
        previous = play.newest_report(variables, walk, play.PRECACHE_REPORT, "precache")
        summary = summarise_precache(
            outcomes,
            _names(variables, walk),
            check_mode=self._task.check_mode,
            now=time.time(),
            previous=previous.get("outcomes", ()),
            waves=_waves(variables, walk) if _use_peers(read) else None,
            previous_waves=previous.get("waves") if previous.get("outcomes") else None,
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

    def _plan(self, variables: Mapping[str, Any], walk: play.Walk) -> dict[str, Any]:
        """Plan the next wave, and take note of when the last one began and ended."""
        former, now = _last_plan(variables, walk), time.time()
        seconds = [*former["seconds"], round(now - former["began"], 3)] if former else []
        plan = plan_wave(play.read_members(variables, walk), self._task.check_mode, len(seconds))
        return {
            "wave": len(seconds),
            "more": bool(plan.orders),
            "began": now,
            "seconds": seconds,
            "busy": list(plan.orders),
            "own": [host for host, order in plan.orders.items() if order.own],
            # As a text: ansible-core 2.18 templates all of a value of which a task's keyword uses a part.
            "plan": json.dumps(plan.to_plain()),
        }

    def _report_problem(self, asked: Mapping[str, PrecacheOptions]) -> str:
        """Say why the report cannot be written, before anything is fetched; empty if it can, or none is asked for."""
        path = play.precache_report_wishes(asked.values()).path
        try:
            if path:
                check_report(play.report_folder(path, self._loader), None)
        except (OptionsError, ReportError) as exc:
            return str(exc)
        return ""


def _read(variables: Mapping[str, Any], walk: play.Walk) -> dict[str, Mapping[str, Any]]:
    """Return what was read of each host of this walk."""
    read = {name: play.registered(variables, name, play.ASKED) for name in variables["ansible_play_hosts_all"]}
    return {name: result for name, result in read.items() if play.is_of(result, walk) and "asked" in result}


def _use_peers(read: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether hosts serve each other, by what was read of them."""
    return any("peer" in result for result in read.values())


def _last_plan(variables: Mapping[str, Any], walk: play.Walk) -> Mapping[str, Any] | None:
    """Return the last plan of a wave; None before the first one."""
    return play.find_registered(variables, play.WAVE, lambda result: play.is_of(result, walk)) or None


def _waves(variables: Mapping[str, Any], walk: play.Walk) -> dict[str, Any] | None:
    """Return what the report shows of the waves; None where there was none."""
    last = _last_plan(variables, walk)
    if last is None:
        return None
    plan = json.loads(last["plan"])
    return {"number": plan["number"], "seconds": list(last["seconds"]), "left_out": plan["left_out"]}


def _with_attempts(outcomes: Sequence[FileOutcome], variables: Mapping[str, Any], walk: play.Walk) -> list[FileOutcome]:
    """Return what came of each host, where the play ended between waves by what it did until then."""
    known = outcomes_of_attempts(play.read_members(variables, walk, having="attempts"))
    return [
        replace(outcome, result=known[outcome.answer.name]) if outcome.answer.name in known else outcome
        for outcome in outcomes
    ]


def _peer_problem(read: Mapping[str, Mapping[str, Any]]) -> str:
    """Say why hosts cannot serve each other; empty if they can, or are not asked to."""
    serving, others = play.hosts_by_peers(read)
    if not serving or not others:
        return ""
    return (
        f"Nothing was pre-cached: image_cache_use_peers is true for {some_names(serving)}, and not for "
        f"{some_names(others)}, and the waves are those of all hosts. Set image_cache_use_peers for all hosts of the "
        f"play, or run it for each part (--limit)."
    )


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
