# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the module as Ansible itself would, without looking for garbage on the controller meanwhile."""

from __future__ import annotations

from ansible.plugins.action.normal import ActionModule as NormalActionModule


class ActionModule(NormalActionModule):
    type: ignore[misc]  # ansible-core has no types  """The process that this runs in ends with the task."""

    type: ignore[
        misc
    ]  # ansible-core has no types  def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
    type: ignore[
        misc
    ]  # ansible-core has no types      # Ansible packs a module by way of the syntax trees of all its files, each a cycle: looking through all objects
    type: ignore[misc]  # ansible-core has no types      # for those takes as long as the audit on the host.
    type: ignore[misc]  # ansible-core has no types      gc.disable()
    type: ignore[misc]  # ansible-core has no types      result: dict[str, Any] = super().run(tmp, task_vars)
    type: ignore[misc]  # ansible-core has no types      return result
