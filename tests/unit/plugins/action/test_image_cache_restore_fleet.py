# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One task decides for all hosts and never fails, and one shows what came of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.action import image_cache_restore_fleet
from ansible_collections.stackops.nova.plugins.action.image_cache_restore_fleet import ActionModule
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.glance import GlanceList
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import GlanceOptions
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.play import LOOK, RESULT, SECOND_LOOK, Walk
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.restore import (
    RESTORE,
    RestoreDecision,
    merge_outcome,
)
from ansible_collections.stackops.nova.tests.support.actions import action, task_vars
from ansible_collections.stackops.nova.tests.support.precaches import image
from ansible_collections.stackops.nova.tests.support.restores import found, refused, restorable, result
from ansible_collections.stackops.nova.tools.cache_tree import fingerprint


class Run:
    """A run of the role."""

    def __init__(self, operation: str, *, check_mode: bool = False) -> None:
        self.plugin = action(ActionModule, {"operation": operation}, {}, check_mode=check_mode)
        self.walk = Walk.of(self.plugin._task).id

    def looked(self, **more: Any) -> dict[str, Any]:
        return {LOOK: {**result(**more), "walk": self.walk, "storage_group": ""}}

    def of(self, **hosts: dict[str, Any]) -> dict[str, Any]:
        return dict(json.loads(json.dumps(self.plugin.run(None, task_vars(hosts)))))


def test_task_speaks_for_all_hosts_and_needs_no_connection() -> None:
    assert ActionModule.BYPASS_HOST_LOOP
    assert not ActionModule._requires_connection


def test_decision_is_one_value_for_all_hosts_that_answered() -> None:
    run = Run("decide")
    made = run.of(
        a=run.looked(refused=[refused()]),
        b=run.looked(restored=[restorable()]),
        c={LOOK: {"walk": run.walk, "failed": True, "msg": "No space."}},
        d={LOOK: {**result(restored=[restorable()]), "walk": "old"}},
    )
    assert made == {
        "changed": False,
        "walk": run.walk,
        "hosts": {
            "a": {"names": [], "elsewhere": {"base": "b"}, "refused": {}},
            "b": {"names": ["base"], "elsewhere": {}, "refused": {}},
        },
    }


def test_glance_is_asked_for_the_lost_files_of_the_hosts_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = GlanceList((image("one"),), "http://glance")
    monkeypatch.setattr(image_cache_restore_fleet, "list_images", lambda _asked: listed)
    run = Run("find")
    lost = run.looked(refused=[refused(fingerprint("one"))])
    wanted = {LOOK: {**lost[LOOK], "glance": GlanceOptions(cloud="lab").to_plain()}}
    made = run.of(a=wanted, b=lost, c={LOOK: {**wanted[LOOK], "walk": "old"}})
    assert made["hosts"].keys() == {"a"}
    assert made["hosts"]["a"]["images"][fingerprint("one")]["id"] == "one"


def test_second_look_counts_where_there_is_one_of_this_run() -> None:
    run = Run("decide")
    again = run.looked(restored=[restorable(source="glance")])[LOOK]
    host = {**run.looked(refused=[refused()]), SECOND_LOOK: again}
    other = {**run.looked(refused=[refused()], storage="other"), SECOND_LOOK: {"skipped": True}}
    made = run.of(a=host, b=other)
    assert (made["hosts"]["a"]["names"], made["hosts"]["b"]["names"]) == (["base"], [])


def test_hosts_of_a_storage_group_are_one_storage() -> None:
    run = Run("decide")
    hosts = {name: run.looked(storage=name, restored=[restorable()]) for name in "ab"}
    for host in hosts.values():
        host[LOOK]["storage_group"] = "nfs"
    assert run.of(**hosts)["hosts"]["b"]["elsewhere"] == {"base": "a"}


@pytest.mark.parametrize("check_mode", [True, False])
def test_report_shows_what_came_of_each_host(check_mode: bool, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run("report", check_mode=check_mode)
    look = run.looked(restored=[restorable()])
    outcome = merge_outcome(found(restored=[restorable()]), RestoreDecision(("base",)), None)
    made = run.of(
        a={**look, RESULT: {"walk": run.walk, RESTORE: outcome}},
        b={LOOK: {"walk": run.walk, "unreachable": True, "msg": "No route."}},
        c={**look, RESULT: {"walk": run.walk, "failed": True, "msg": "Stopped."}},
        d={**look, RESULT: {"walk": "old", RESTORE: outcome}},
        e={},
    )
    assert (made["changed"], made["restore"]["check_mode"], made["restore"]["hosts"]) == (False, check_mode, 5)
    assert [(file["host"], file["name"]) for file in made["restore"]["restored"]] == [("a", "base")]
    errors = {host["host"]: host["error"] for host in made["restore"]["unanswered"]}
    assert (errors["b"], errors["c"]) == ("No route.", "Stopped.")
    assert errors["d"] == "Nothing was restored after the look."
    assert errors["e"].startswith("It was not looked at in this run")
    assert "\n".join(made["text"]) in capsys.readouterr().out


def test_hosts_of_batches_that_are_yet_to_come_are_not_counted() -> None:
    run = Run("report")
    variables = task_vars({"a": run.looked(), "b": {}}, batch=["a"])
    assert run.plugin.run(None, variables)["restore"]["hosts"] == 1


def test_run_without_any_look_has_nothing_to_report() -> None:
    made = Run("report").of(a={}, b={LOOK: {"walk": "of an earlier run"}})
    assert made["failed"]
    assert made["msg"].startswith("There is nothing to report: no host was looked at in this run of the role.")
