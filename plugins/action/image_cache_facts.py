# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the module as Ansible itself would, without looking for garbage on the controller meanwhile."""

from __future__ import annotations

import gc
from typing import Any

from ansible.plugins.action.normal import ActionModule as NormalActionModule


class ActionModule(NormalActionModule):
    """The process that this runs in ends with the task."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        # Ansible packs a module by way of the syntax trees of all its files, each a cycle: looking through all objects
        # for those takes as long as the audit on the host.
        gc.disable()
        result: dict[str, Any] = super().run(tmp, task_vars)
        return result
