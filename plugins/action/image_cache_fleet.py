# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decides, on the controller, what each host of the play does with its image cache."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet import play
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.cloud import ask
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.decision import decide
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import OptionsError
from ansible_collections.stackops.nova.plugins.plugin_utils.report.errors import ReportError
from ansible_collections.stackops.nova.plugins.plugin_utils.report.files import check_report


class ActionModule(ActionBase): type: ignore[misc]  # ansible-core has no types# type: ignore[misc]  # ansible-core has no types
 type: ignore[misc]  # ansible-core has no types  """Reads the answers of all hosts once. It never fails, which would fail the whole batch: refusals are values."""

 type: ignore[misc]  # ansible-core has no types  BYPASS_HOST_LOOP = True
 type: ignore[misc]  # ansible-core has no types  _requires_connection = False

 type: ignore[misc]  # ansible-core has no types  def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
 type: ignore[misc]  # ansible-core has no types      super().run(tmp, task_vars)
 type: ignore[misc]  # ansible-core has no types      walk = play.Walk.of(self._task)
 type: ignore[misc]  # ansible-core has no types      fleet, unreadable_limits = play.read_fleet(
 type: ignore[misc]  # ansible-core has no types          task_vars or {}, walk, lambda cloud, region: ask(cloud or None, region or None)
 type: ignore[misc]  # ansible-core has no types      )
 type: ignore[misc]  # ansible-core has no types      blocked = []
 type: ignore[misc]  # ansible-core has no types      path, query = play.report_wishes(fleet.hosts)
 type: ignore[misc]  # ansible-core has no types      if path:
 type: ignore[misc]  # ansible-core has no types          try:
 type: ignore[misc]  # ansible-core has no types              check_report(play.report_folder(path, self._loader), query or None)
 type: ignore[misc]  # ansible-core has no types          except (OptionsError, ReportError) as exc:
 type: ignore[misc]  # ansible-core has no types              blocked.append(str(exc))
 type: ignore[misc]  # ansible-core has no types      decision = decide(fleet, blocked, unreadable_limits)
 type: ignore[misc]  # ansible-core has no types      return {
 type: ignore[misc]  # ansible-core has no types          "changed": False,
 type: ignore[misc]  # ansible-core has no types          "walk": walk.walk,
 type: ignore[misc]  # ansible-core has no types          "storages": [asdict(storage) for storage in decision.storages],
 type: ignore[misc]  # ansible-core has no types          "hosts": {name: host.to_plain() for name, host in decision.hosts.items()},
 type: ignore[misc]  # ansible-core has no types          "problems": list(decision.problems),
 type: ignore[misc]  # ansible-core has no types      }
