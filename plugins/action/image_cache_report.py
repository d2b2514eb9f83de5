# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Shows, on the controller, what was found and done, and writes the report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible import constants
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet import play
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.answers import AnswerState
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.decision import StorageDecision
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import OptionsError
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.summary import HostOutcome, summarise
from ansible_collections.stackops.nova.plugins.plugin_utils.report.errors import ReportError
from ansible_collections.stackops.nova.plugins.plugin_utils.report.files import write_report
from ansible_collections.stackops.nova.plugins.plugin_utils.report.table import fleet_pages

_CALLBACKS_FOR_PROGRAMS = ("json", "jsonl")


class ActionModule(ActionBase): type: ignore[misc]  # ansible-core has no types# type: ignore[misc]  # ansible-core has no types
 type: ignore[misc]  # ansible-core has no types  """Speaks for all hosts at once."""

 type: ignore[misc]  # ansible-core has no types  BYPASS_HOST_LOOP = True
 type: ignore[misc]  # ansible-core has no types  _requires_connection = False

 type: ignore[misc]  # ansible-core has no types  def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
 type: ignore[misc]  # ansible-core has no types      super().run(tmp, task_vars)
 type: ignore[misc]  # ansible-core has no types      variables = task_vars or {}
 type: ignore[misc]  # ansible-core has no types      walk = play.Walk.of(self._task)
 type: ignore[misc]  # ansible-core has no types      outcomes = play.read_outcomes(variables, walk)
 type: ignore[misc]  # ansible-core has no types      if all(outcome.answer.state is AnswerState.NOT_LOOKED_AT for outcome in outcomes):
 type: ignore[misc]  # ansible-core has no types          return {"failed": True, "msg": _NOTHING_TO_REPORT}
 type: ignore[misc]  # ansible-core has no types      decision = play.find_registered(variables, play.DECISION, lambda result: result.get("walk") == walk.walk)
 type: ignore[misc]  # ansible-core has no types      previous = play.find_registered(variables, play.REPORT, lambda result: result.get("play") == walk.play)
 type: ignore[misc]  # ansible-core has no types      storages = [StorageDecision.from_plain(storage) for storage in decision.get("storages", ())]
 type: ignore[misc]  # ansible-core has no types      fleet = summarise(
 type: ignore[misc]  # ansible-core has no types          outcomes,
 type: ignore[misc]  # ansible-core has no types          storages,
 type: ignore[misc]  # ansible-core has no types          decision.get("problems", ()),
 type: ignore[misc]  # ansible-core has no types          previous.get("fleet", {}),
 type: ignore[misc]  # ansible-core has no types          check_mode=self._task.check_mode,
 type: ignore[misc]  # ansible-core has no types          now=time.time(),
 type: ignore[misc]  # ansible-core has no types      )
 type: ignore[misc]  # ansible-core has no types      text = _pages(fleet, storages, outcomes)
 type: ignore[misc]  # ansible-core has no types      if constants.DEFAULT_STDOUT_CALLBACK.rpartition(".")[2] not in _CALLBACKS_FOR_PROGRAMS:
 type: ignore[misc]  # ansible-core has no types          Display().display(text)
 type: ignore[misc]  # ansible-core has no types      result = {"changed": False, "play": walk.play, "fleet": fleet, "text": text.splitlines()}
 type: ignore[misc]  # ansible-core has no types      path, query = play.report_wishes([outcome.answer for outcome in outcomes])
 type: ignore[misc]  # ansible-core has no types      if not path:
 type: ignore[misc]  # ansible-core has no types          return result
 type: ignore[misc]  # ansible-core has no types      try:
 type: ignore[misc]  # ansible-core has no types          return {**result, "files": write_report(play.report_folder(path, self._loader), fleet, query or None)}
 type: ignore[misc]  # ansible-core has no types      except (OptionsError, ReportError) as exc:
 type: ignore[misc]  # ansible-core has no types          return {**result, "failed": True, "msg": str(exc)}


_NOTHING_TO_REPORT = (
 type: ignore[misc]  # ansible-core has no types  "There is nothing to report: no image cache was looked at in this run of the role. Do not skip the tag "
 type: ignore[misc]  # ansible-core has no types  "image_cache_audit, and see why the hosts failed."
)


def _pages(fleet: Mapping[str, Any], storages: Sequence[StorageDecision], outcomes: Sequence[HostOutcome]) -> str:
 type: ignore[misc]  # ansible-core has no types  """Return the page of each storage of this run, below what is to be said of the fleet."""
 type: ignore[misc]  # ansible-core has no types  found = {outcome.answer.name: outcome.answer.image_cache or {} for outcome in outcomes}
 type: ignore[misc]  # ansible-core has no types  described = {storage["pruner"]: storage for storage in fleet["storages"]}
 type: ignore[misc]  # ansible-core has no types  shown = ((found[storage.pruner], described[storage.pruner]) for storage in storages)
 type: ignore[misc]  # ansible-core has no types  return fleet_pages(fleet["problems"], shown) or "There is no image cache to show: no host answered."
