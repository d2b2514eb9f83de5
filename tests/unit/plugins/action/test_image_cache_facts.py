# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module's run is Ansible's own, but for the search for garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from ansible.plugins.action.normal import ActionModule as NormalActionModule

from ansible_collections.stackops.nova.plugins.action.image_cache_facts import ActionModule


@pytest.fixture
def _as_before() -> Iterator[None]:
    yield
    gc.enable()


@pytest.mark.usefixtures("_as_before")
def test_garbage_collector_is_paused_while_the_module_is_packed_and_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_action: NormalActionModule, tmp: str | None, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        return {"collects": gc.isenabled(), "tmp": tmp, "task_vars": task_vars}

    monkeypatch.setattr(NormalActionModule, "run", run)
    action = object.__new__(ActionModule)
    assert action.run("folder", {"a": 1}) == {"collects": False, "tmp": "folder", "task_vars": {"a": 1}}
