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


class ActionModule(ActionBase):
    """Reads the answers of all hosts once. It never fails, which would fail the whole batch: refusals are values."""

    BYPASS_HOST_LOOP = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        walk = play.Walk.of(self._task)
        fleet, unreadable_limits = play.read_fleet(
            task_vars or {}, walk, lambda cloud, region: ask(cloud or None, region or None)
        )
        blocked = []
        wishes = play.report_wishes(fleet.hosts)
        if wishes.path:
            try:
                check_report(play.report_folder(wishes.path, self._loader), wishes.query or None)
            except (OptionsError, ReportError) as exc:
                blocked.append(str(exc))
        decision = decide(fleet, blocked, unreadable_limits)
        return {
            "changed": False,
            "walk": walk.id,
            "storages": [asdict(storage) for storage in decision.storages],
            "hosts": {name: host.to_plain() for name, host in decision.hosts.items()},
            "problems": list(decision.problems),
        }
