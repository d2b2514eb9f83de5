# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report shows what this run found and did, and fails where there is nothing to show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible import constants

from ansible_collections.stackops.nova.plugins.action.image_cache_report import ActionModule
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import FleetOptions
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.play import DECISION, LOOK, REPORT, Walk
from ansible_collections.stackops.nova.tests.support.actions import action, task_vars
from ansible_collections.stackops.nova.tests.support.fleet_strategies import found
from ansible_collections.stackops.nova.tests.support.fleets import image


class Run:
    """The end of a run of the role in which the hosts answered this."""

    def __init__(self, *, check_mode: bool = False) -> None:
        self.plugin = action(ActionModule, {}, {}, check_mode=check_mode)
        self.walk = Walk.of(self.plugin._task)

    def looked(self, nova_name: str, **options: Any) -> dict[str, Any]:
        plain = FleetOptions(**options).to_plain()
        return {LOOK: {"walk": self.walk.id, "image_cache": found(nova_name), "options": plain}}

    def report(self, **hosts: dict[str, Any]) -> dict[str, Any]:
        return dict(json.loads(json.dumps(self.plugin.run(None, task_vars(hosts)))))


def test_task_speaks_for_all_hosts_and_needs_no_connection() -> None:
    assert ActionModule.BYPASS_HOST_LOOP
    assert not ActionModule._requires_connection


def test_run_without_any_look_has_nothing_to_report() -> None:
    result = Run().report(a={}, b={LOOK: {"walk": "of an earlier run", "image_cache": found()}})
    assert result["failed"]
    assert result["msg"].startswith("There is nothing to report: no image cache was looked at in this run of the role.")
    assert "image_cache_audit" in result["msg"]


def test_hosts_that_did_not_answer_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(check_mode=True)
    result = run.report(a=run.looked("a"), b={LOOK: {"walk": run.walk.id, "unreachable": True, "msg": "No route."}})
    assert [(host["name"], host["state"]) for host in result["fleet"]["hosts"]] == [
        ("a", "audited"),
        ("b", "unreachable"),
    ]
    assert (result["fleet"]["check_mode"], result["changed"], result["play"]) == (True, False, run.walk.play)
    assert "files" not in result
    assert "\n".join(result["text"]) in capsys.readouterr().out


def test_host_alone_without_an_answer_is_shown_with_the_reason() -> None:
    run = Run()
    result = run.report(a={LOOK: {"walk": run.walk.id, "failed": True, "msg": "No route."}})
    assert result["text"] == ["!! HOSTS WITHOUT AN ANSWER", "!! - a: No route."]


def test_fleet_in_which_no_host_answered_is_shown_with_the_reasons() -> None:
    run = Run()
    dead = {LOOK: {"walk": run.walk.id, "unreachable": True, "msg": "No route."}}
    text = run.report(a=dead, b=dead)["text"]
    assert text[0] == "IMAGE CACHES  2 hosts, 2 without an answer, 0 storages"
    assert "!!            - a and b: No route." in text


@pytest.mark.parametrize(
    ("hosts", "options", "heading"),
    [
        ("a", {}, "IMAGE CACHE  a:"),
        ("a", {"report_view": "fleet"}, "IMAGE CACHES  1 host"),
        ("a", {"report_view": "hosts"}, "IMAGE CACHES  1 host"),
        ("ab", {}, "IMAGE CACHES  2 hosts"),
        ("ab", {"report_view": "storages"}, "IMAGE CACHE  a:"),
        ("ab", {"report_view": "files"}, "IMAGE CACHE  a:"),
    ],
)
def test_view_decides_what_is_shown(hosts: str, options: dict[str, str], heading: str) -> None:
    run = Run()
    text = run.report(**{name: run.looked(name, **options) for name in hosts})["text"]
    assert text[0].startswith(heading)


def test_decision_of_this_run_names_storages_and_problems() -> None:
    run = Run()
    refused = {"id": "x", "members": ["a"], "pruner": "a", "refused": ["b did not answer."]}
    decision = {"walk": run.walk.id, "storages": [refused], "problems": ["Too much."]}
    result = run.report(a={**run.looked("a"), DECISION: decision})
    assert result["fleet"]["problems"] == ["Too much."]
    assert result["fleet"]["storages"][0]["refused"] == ["b did not answer."]
    old = run.report(a={**run.looked("a"), DECISION: {**decision, "walk": "old"}})
    assert old["fleet"]["problems"] == old["fleet"]["storages"][0]["refused"] == []


def test_earlier_run_of_the_same_play_is_reported_with_this_one() -> None:
    run = Run()
    earlier = run.report(a=run.looked("a"), b={})
    hosts = {"a": {REPORT: {"play": run.walk.play, "fleet": earlier["fleet"]}}, "b": run.looked("b")}
    assert [storage["pruner"] for storage in run.report(**hosts)["fleet"]["storages"]] == ["a", "b"]
    hosts["a"][REPORT]["play"] = "another"
    assert [storage["pruner"] for storage in run.report(**hosts)["fleet"]["storages"]] == ["b"]


@pytest.mark.parametrize(
    ("callback", "shown"), [("default", True), ("ansible.posix.json", False), ("json", False), ("jsonl", False)]
)
def test_callback_for_programs_gets_the_report_as_a_value_alone(
    callback: str, shown: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANSIBLE_STDOUT_CALLBACK", callback)
    assert constants.config.get_config_value("DEFAULT_STDOUT_CALLBACK") == callback
    run = Run()
    assert run.report(a=run.looked("a"))["text"]
    assert bool(capsys.readouterr().out) is shown


@pytest.mark.parametrize("is_written", [True, False])
def test_files_and_images_are_kept_where_a_report_is_written(tmp_path: Path, is_written: bool) -> None:
    run = Run()
    looked = run.looked("a", **({"report_path": str(tmp_path)} if is_written else {}))
    looked[LOOK]["image_cache"].update(files=[], images=[image(1)])
    fleet = run.report(a=looked)["fleet"]
    assert ({"files", "images"} <= set(fleet["storages"][0])) is is_written
    assert bool(fleet["images"]) is is_written


def test_report_is_written_where_a_host_wants_it(tmp_path: Path) -> None:
    run = Run()
    result = run.report(a=run.looked("a"), b=run.looked("b", report_path=str(tmp_path / "report")))
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == sorted(
        Path(path).name for path in result["files"]
    )
    assert json.loads((tmp_path / "report/report.json").read_text())["hosts"] == result["fleet"]["hosts"]


def test_report_that_cannot_be_written_fails_and_is_shown(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = Run()
    result = run.report(a=run.looked("a", report_path=str(tmp_path / "file/report")))
    assert result["failed"]
    assert str(tmp_path / "file") in result["msg"]
    assert result["fleet"]["hosts"]
