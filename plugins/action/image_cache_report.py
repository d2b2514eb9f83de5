# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on the controller alone: no host is asked for anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.stackops.nova.plugins.plugin_utils.report.errors import ReportError
from ansible_collections.stackops.nova.plugins.plugin_utils.report.files import check_report, write_report


class ActionModule(ActionBase):
    """Writes the report of a fleet, or checks that it could."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, options = self.validate_argument_spec(
            {"path": {"type": "str", "required": True}, "query": {"type": "str"}, "fleet": {"type": "dict"}}
        )
        _refuse_a_path_in_a_collection(options["path"], self._loader.get_basedir())
        folder = self._loader.path_dwim(options["path"])
        files: list[str] = []
        try:
            if options["fleet"] is None:
                check_report(folder, options["query"])
            else:
                files = write_report(folder, _in_new_words(options["fleet"]), options["query"])
        except ReportError as exc:
            raise AnsibleActionFail(str(exc)) from exc
        return {**result, "changed": False, "path": folder, "files": files}


def _refuse_a_path_in_a_collection(path: str, playbook_folder: str) -> None:
    """Ansible takes a relative path from the playbook, and so a report would become part of a collection."""
    if not path.startswith(("/", "~")) and PurePath(playbook_folder).match("ansible_collections/*/*/playbooks"):
        raise AnsibleActionFail(
            f"The report's folder {path} is relative, and the playbook that it is relative to lies in a collection. "
            f"Give an absolute path, such as -e image_cache_report_path=$PWD/{path}."
        )


def _in_new_words(fleet: Mapping[str, Any]) -> dict[str, Any]:
    """Rename what the filter image_cache_fleet still calls by older names, until its successor makes the fleet."""
    if "stores" not in fleet:
        return dict(fleet)
    renamed = {"stores": "storages", "stores_refused": "storages_refused", "store": "storage"}
    entries = {
        key: [
            {renamed.get(name, name): "audited" if value == "waits" else value for name, value in entry.items()}
            for entry in fleet[key]
        ]
        for key in ("stores", "hosts")
    }
    return {
        **{key: value for key, value in fleet.items() if key != "stores"},
        "summary": {renamed.get(name, name): value for name, value in fleet["summary"].items()},
        "storages": entries["stores"],
        "hosts": entries["hosts"],
        "problems": [],
    }
