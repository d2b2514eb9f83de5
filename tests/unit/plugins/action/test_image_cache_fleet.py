# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The decision is one value of one task, which never fails itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.action.image_cache_fleet import ActionModule
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import FleetOptions
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.play import LOOK, Walk
from ansible_collections.stackops.nova.tests.support.actions import action, task_vars
from ansible_collections.stackops.nova.tests.support.fleet_strategies import GIB, NFS, found


def decided(*, path: str = "", **hosts: tuple[dict[str, Any], FleetOptions] | None) -> dict[str, Any]:
    """What is decided for these hosts, each of which answered this and was looked at with these options."""
    plugin = action(ActionModule, {}, {}, basedir="/x/ansible_collections/stackops/nova/playbooks")
    walk = Walk.of(plugin._task).id
    variables = {
        name: {"image_cache_fleet_max_removal_percent": "many"}
        if looked is None
        else {LOOK: {"walk": walk, "image_cache": looked[0], "options": {**looked[1].to_plain(), "report_path": path}}}
        for name, looked in hosts.items()
    }
    result: dict[str, Any] = plugin.run(None, task_vars(variables))
    assert result["walk"] == walk
    assert not result["changed"]
    assert "failed" not in result
    return dict(json.loads(json.dumps(result)))


PRUNE = FleetOptions(prune=True)


def test_task_speaks_for_all_hosts_and_needs_no_connection() -> None:
    assert ActionModule.BYPASS_HOST_LOOP
    assert not ActionModule._requires_connection


def test_decision_names_each_storage_and_what_its_pruner_does() -> None:
    result = decided(a=(found("a"), PRUNE), b=(found("b", NFS), PRUNE))
    assert result["hosts"]["a"] == {"action": "prune", "options": {}, "reasons": []}
    assert result["hosts"]["b"]["action"] == "fail"
    [local, shared] = result["storages"]
    assert local == {
        "id": "ext4:a:8:1:/_base",
        "members": ["a"],
        "pruner": "a",
        "refused": [],
        "reasons": [],
        "in_glance": {},
    }
    assert shared["refused"] == result["hosts"]["b"]["reasons"]
    assert shared["reasons"] == ["members_missing"]
    assert result["problems"] == []


def test_limit_of_a_host_without_answer_that_cannot_be_read_fails_each_prune() -> None:
    result = decided(a=(found("a", cached=GIB, removable=GIB), PRUNE), b=None)
    assert result["hosts"]["a"]["action"] == "fail"
    assert "image_cache_fleet_max_removal_percent of b cannot be read" in result["problems"][0]


def test_report_that_cannot_be_written_fails_each_prune_before_it_begins(tmp_path: Path) -> None:
    for path, is_blocked in [("report", True), (str(tmp_path / "report"), False)]:
        result = decided(a=(found("a"), PRUNE), path=path)
        assert result["hosts"]["a"]["action"] == ("fail" if is_blocked else "prune")
        assert len(result["problems"]) == is_blocked


@pytest.mark.parametrize("cloud", ["no-such-cloud", ""])
def test_cloud_that_cannot_be_asked_is_a_refusal(cloud: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "clouds.yaml"))
    result = decided(a=(found("a"), FleetOptions(prune=True, asks_api=True, cloud=cloud)))
    assert result["hosts"]["a"]["action"] == "fail"
    assert result["storages"][0]["refused"] == result["hosts"]["a"]["reasons"]
