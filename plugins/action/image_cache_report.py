# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on the controller alone: no host is asked for anything."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import PurePath
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.stackops.nova.plugins.plugin_utils.report_html import render_html
from ansible_collections.stackops.nova.plugins.plugin_utils.report_prometheus import render_prometheus
from ansible_collections.stackops.nova.plugins.plugin_utils.report_selection import compile_query


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
        select = compile_query(options["query"]) if options["query"] else None
        fleet = options["fleet"]
        files = {}
        if fleet is not None:
            selection = select(fleet) if select else None
            files = {
                "report.json": _json(fleet if selection is None else {**fleet, "selection": selection}),
                "report.html": render_html(fleet, selection),
                "image_cache.prom": render_prometheus(fleet),
            }
        try:
            os.makedirs(folder, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
            for name, text in files.items():
                _write(os.path.join(folder, name), text)
        except OSError as exc:
            raise AnsibleActionFail(
                f"The report cannot be written into {folder} on the controller: {exc.strerror}. Make it a folder that "
                f"the user who runs Ansible may write to, or give another one (image_cache_report_path)."
            ) from exc
        return {**result, "changed": False, "path": folder, "files": sorted(files)}


def _refuse_a_path_in_a_collection(path: str, playbook_folder: str) -> None:
    """Ansible takes a relative path from the playbook, and so a report would become part of a collection."""
    if not path.startswith(("/", "~")) and PurePath(playbook_folder).match("ansible_collections/*/*/playbooks"):
        raise AnsibleActionFail(
            f"The report's folder {path} is relative, and the playbook that it is relative to lies in a collection. "
            f"Give an absolute path, such as -e image_cache_report_path=$PWD/{path}."
        )


def _json(fleet: dict[str, Any]) -> str:
    return json.dumps(fleet, indent=1, sort_keys=True) + "\n"


def _write(path: str, text: str) -> None:
    """Put a file in its place as a whole: who reads it meanwhile sees the old one."""
    part = f"{path}.{os.getpid()}.part"
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
