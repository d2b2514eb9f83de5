# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host is looked at with its own options, and does what was decided for it in this run or fails."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from ansible import context
from ansible.errors import AnsibleConnectionFailure
from ansible.utils.context_objects import CLIArgs

from ansible_collections.stackops.nova.plugins.action.image_cache_host import ActionModule
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.decision import Action, HostDecision
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import FleetOptions
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.play import DECISION, ENTRY_POINT, LOOK, Walk
from ansible_collections.stackops.nova.tests.support.actions import action, task_vars
from ansible_collections.stackops.nova.tests.support.fleet_strategies import NFS, found

AUDIT, PRUNE = "stackops.nova.image_cache_facts", "stackops.nova.image_cache_prune"
CACHE = found()
API = {"image_cache_instance_source": "openstack"}
ONLY_DELETED = {"image_cache_remove_only_deleted_images": True}


@dataclass(frozen=True)
class Event:
    """What ansible-core has of an error since 2.19, and what has that."""

    msg: str


@dataclass(frozen=True)
class Summary:
    event: Event


class Host:
    """A host on which the modules return this, and what they were given there."""

    def __init__(self, result: dict[str, Any] | Exception | None = None, **keywords: Any) -> None:
        self.result = {"changed": False, "image_cache": CACHE} if result is None else result
        self.calls: list[tuple[str, dict[str, Any], bool]] = []
        self.operation = "look"
        self.keywords = keywords

    def run(self, variables: dict[str, Any], operation: str = "look", *, decided: HostDecision | None = None,
            look: dict[str, Any] | None = None, walk: str | None = None, hosts: tuple[str, ...] = ("a",),
            own: dict[str, Any] | None = None) -> dict[str, Any]:  # fmt: skip
        plugin = action(ActionModule, {"operation": operation}, variables, **self.keywords)
        plugin._execute_module = self._execute
        self.plugin = plugin
        of_run = Walk.of(plugin._task).id if walk is None else walk
        hostvars = {name: dict(own or {}) for name in hosts}
        if look is not None:
            look = variables[LOOK] = {"walk": of_run, **look}
            plain = {} if decided is None else {"a": decided.to_plain()}
            hostvars["a"][DECISION] = {"walk": of_run, "hosts": plain}
        return dict(plugin.run(None, {**task_vars(hostvars), **variables}))

    def act(self, decided: HostDecision | None, look: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        looked = {"image_cache": CACHE, "options": {}, "would_change": False, **(look or {})}
        return self.run(more.pop("variables", {}), "act", decided=decided, look=looked, **more)

    def _execute(self, *, module_name: str, module_args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        assert task_vars["inventory_hostname"] == "a"
        assert module_args.pop("warn") is False
        self.calls.append((module_name, module_args, self.plugin._task.check_mode))
        if isinstance(self.result, Exception):
            raise self.result
        return dict(self.result)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = context.CLIARGS
    yield
    context.CLIARGS = before
    gc.enable()


class TestLook:
    def test_host_is_audited_where_no_prune_is_asked_for(self) -> None:
        host = Host({"ansible_facts": {"image_cache": CACHE}, "invocation": {}, "diff": []})
        result = host.run({"image_cache_keep_files": ["x"]})
        assert host.calls == [(AUDIT, {"instances_complete_for": [], "keep_files": ["x"]}, True)]
        assert 0 <= result.pop("look_seconds") < 60
        assert result == {
            "image_cache": CACHE,
            "changed": False,
            "would_change": False,
            "options": {"keep_files": ("x",)},
            "walk": Walk.of(host.plugin._task).id,
        }
        assert not gc.isenabled()

    @pytest.mark.parametrize("variables", [{"image_cache_prune": True}, {ENTRY_POINT: "prune"}])
    def test_host_is_pruned_in_check_mode_where_its_prune_is_asked_for(self, variables: dict[str, Any]) -> None:
        host = Host({"changed": True, "image_cache": CACHE})
        result = host.run(variables)
        assert host.calls == [(PRUNE, {"instances_complete_for": []}, True)]
        assert (result["changed"], result["would_change"], result["options"]) == (False, True, {"prune": True})

    def test_host_that_the_inventory_keeps_from_being_pruned_is_audited(self) -> None:
        host = Host()
        result = host.run({"image_cache_prune": True}, own={"image_cache_prune": False})
        assert [name for name, _options, _check_mode in host.calls] == [AUDIT]
        assert result["options"] == {"opted_out": True}

    def test_failure_over_what_was_found_is_left_to_the_task_that_acts(self) -> None:
        result = Host({"failed": True, "msg": "One is corrupt.", "image_cache": CACHE}).run({})
        assert (result["failed"], result["failure"]) == (False, "One is corrupt.")
        assert "msg" not in result

    def test_failure_without_an_answer_fails_the_look(self) -> None:
        result = Host({"failed": True, "msg": "No space."}).run({})
        assert (result["failed"], result["msg"]) == (True, "No space.")
        assert "failure" not in result

    def test_warnings_of_several_hosts_are_kept_and_announced_in_the_same_words(self) -> None:
        def announced(text: str) -> list[str]:
            result = Host({"image_cache": CACHE, "host_warnings": [text], "warnings": ["Of Ansible."]}).run(
                {}, hosts=("a", "b")
            )
            assert result["host_warnings"] == [text]
            return list(result["warnings"])

        assert announced("One.") == announced("Other.")
        assert announced("One.")[0] == "Of Ansible."

    def test_errors_of_several_hosts_are_announced_in_the_same_words(self) -> None:
        def announced(text: str, *hosts: str) -> str:
            failed = {"failed": True, "msg": text, "exception": Summary(Event(text))}
            result = Host(failed).run({}, hosts=hosts)
            assert result["msg"] == text
            return str(result["exception"].event.msg)

        assert announced("One.", "a", "b") == announced("Other.", "a", "b") != "One."
        assert announced("One.", "a") == "One."

    def test_warnings_of_a_host_that_is_alone_are_shown(self) -> None:
        result = Host({"image_cache": CACHE, "host_warnings": ["One."]}).run({})
        assert result["warnings"] == result["host_warnings"] == ["One."]

    def test_host_that_cannot_be_reached_is_unreachable(self) -> None:
        result = Host(AnsibleConnectionFailure("No route.")).run({})
        assert result["unreachable"]
        assert "No route." in result["msg"]

    @pytest.mark.parametrize(
        ("image_cache", "groups", "is_kept"),
        [(CACHE, False, False), (found("a", NFS), False, True), (CACHE, True, True), ([], False, False)],
    )
    def test_given_instances_are_kept_for_a_host_that_shares_its_storage(
        self, image_cache: Any, groups: bool, is_kept: bool
    ) -> None:
        variables: dict[str, Any] = {"image_cache_instances": [{"uuid": "1"}]}
        if groups:
            variables |= {"image_cache_storage_group": "all"}
        result = Host({"image_cache": image_cache}).run(variables, hosts=("a", "b"))
        assert ("instances" in result["options"]) is is_kept
        assert result["options"]["records_digest"]

    @pytest.mark.parametrize(
        ("variables", "image_cache", "hosts", "is_kept"),
        [
            ({}, CACHE, ("a", "b"), False),
            ({"image_cache_report_view": "fleet"}, CACHE, ("a", "b"), False),
            ({"image_cache_report_view": "storages"}, CACHE, ("a", "b"), True),
            ({"image_cache_report_view": "files"}, CACHE, ("a", "b"), True),
            ({"image_cache_report_path": "r"}, CACHE, ("a", "b"), True),
            ({}, CACHE, ("a",), True),
            ({}, found("a", NFS), ("a", "b"), True),
            (API, CACHE, ("a", "b"), False),
            (ONLY_DELETED, CACHE, ("a", "b"), False),
            ({**API, **ONLY_DELETED}, CACHE, ("a", "b"), True),
        ],
    )
    def test_entries_of_files_are_kept_only_where_something_reads_them(
        self, variables: dict[str, Any], image_cache: dict[str, Any], hosts: tuple[str, ...], is_kept: bool
    ) -> None:
        host = Host({"image_cache": {**image_cache, "files": [{"name": "x"}]}})
        result = host.run({"image_cache_prune": True, **variables}, hosts=hosts)
        assert ("files" in result["image_cache"]) is is_kept

    def test_differences_are_kept_where_they_were_asked_for(self) -> None:
        for diff in (True, False):
            result = Host({"image_cache": CACHE, "diff": ["x"]}, diff=diff).run({})
            assert ("diff" in result) is diff

    def test_invalid_variable_fails_before_the_host_is_reached(self) -> None:
        host = Host()
        result = host.run({"image_cache_max_removal": 1})
        assert (result["failed"], result["walk"]) == (True, Walk.of(host.plugin._task).id)
        assert "no variable image_cache_max_removal" in result["msg"]
        assert host.calls == []

    @pytest.mark.parametrize("strategy", ["free", "host_pinned", "ansible.builtin.free"])
    def test_strategy_without_a_moment_for_all_hosts_is_refused(self, strategy: str) -> None:
        host = Host(strategy=strategy)
        assert f"under the strategy {strategy} there is no moment" in host.run({})["msg"]
        assert host.calls == []

    def test_task_that_runs_once_is_refused(self) -> None:
        host = Host(run_once=True)
        assert "with run_once the role looks at one host" in host.run({})["msg"]
        assert host.calls == []

    def test_start_behind_the_look_is_refused(self) -> None:
        context.CLIARGS = CLIArgs({"start_at_task": "Report*"})
        host = Host()
        assert "--start-at-task Report* begins behind the look" in host.run({})["msg"]
        assert host.calls == []


class TestAct:
    def test_pruner_prunes_with_its_options_and_its_hand_off(self) -> None:
        done = {**CACHE, "removed": ["x"], "reclaimed_bytes": 5}
        host = Host({"changed": True, "image_cache": done})
        given = {"keep_files": ["z"], "instances": [{"uuid": "2"}]}
        variables = {"image_cache_instances": [{"uuid": "1"}], "image_cache_max_removals": 3}
        result = host.act(HostDecision(Action.PRUNE, given), variables=variables)
        [(name, options, check_mode)] = host.calls
        assert (name, check_mode) == (PRUNE, False)
        assert [record["uuid"] for record in options["instances"]] == ["2", "1"]
        assert (options["keep_files"], options["max_removals"], options["instances_complete_for"]) == (["z"], 3, [])
        assert (result["changed"], result["state"], result["removed"], result["reclaimed_bytes"]) == (
            True,
            "pruned",
            ["x"],
            5,
        )
        assert result["refused"] == []
        assert 0 <= result["prune_seconds"] < 60

    @pytest.mark.parametrize("check_mode", [True, False])
    def test_refused_prune_is_done_unless_it_was_a_dry_run(self, check_mode: bool) -> None:
        result = Host(check_mode=check_mode).act(HostDecision(Action.FAIL, reasons=("No.",)))
        assert ("prune_seconds" in result) is not check_mode

    def test_prune_that_crashed_is_not_done(self) -> None:
        result = Host({"failed": True, "msg": "Killed."}).act(HostDecision(Action.PRUNE))
        assert "prune_seconds" not in result

    def test_dry_run_of_a_shared_storage_is_one_with_its_hand_off(self) -> None:
        host = Host(check_mode=True)
        host.act(HostDecision(Action.PRUNE, {"keep_files": ["z"]}))
        assert host.calls == [(PRUNE, {"instances_complete_for": [], "keep_files": ["z"]}, True)]

    @pytest.mark.parametrize("failure", ["", "One is corrupt."])
    def test_dry_run_of_a_host_alone_is_the_look(self, failure: str) -> None:
        host = Host(check_mode=True)
        found_before = {**CACHE, "removed": ["x"], "reclaimed_bytes": 5}
        look = {"image_cache": found_before, "would_change": True, "failure": failure, "diff": ["d"]}
        result = host.act(HostDecision(Action.PRUNE), look)
        assert host.calls == []
        assert (result["changed"], result["removed"], result["diff"]) == (True, ["x"], ["d"])
        assert (result.get("failed"), result.get("msg")) == ((True, failure) if failure else (None, None))
        assert "image_cache" not in result

    def test_prune_that_the_module_refuses_is_refused_with_all_reasons(self) -> None:
        refused = {**CACHE, "unknown_use": ["u"], "unknown_deletions": ["d"], "limit_exceeded": ["l"]}
        result = Host({"failed": True, "image_cache": refused}).act(HostDecision(Action.PRUNE))
        assert (result["state"], result["refused"], result["removed"]) == ("refused", ["u", "d", "l"], [])

    def test_prune_that_is_refused_as_its_look_was_repeats_nothing_that_was_found(self) -> None:
        refused = {**CACHE, "unknown_use": ["u"]}
        failed = {"failed": True, "msg": "No.", "image_cache": refused, "host_warnings": ["w"]}
        look = {"image_cache": refused, "host_warnings": ["w"]}
        result = Host(failed).act(HostDecision(Action.PRUNE), look)
        assert (result["msg"], result["state"], result["refused"]) == ("No.", "refused", ["u"])
        assert "image_cache" not in result
        assert "host_warnings" not in result
        other = Host({**failed, "host_warnings": ["v"]}).act(HostDecision(Action.PRUNE), look)
        assert other["host_warnings"] == ["v"]
        assert Host(failed).act(HostDecision(Action.PRUNE))["image_cache"] == refused
        of_storage = HostDecision(Action.PRUNE, {"keep_files": []})
        assert Host(failed).act(of_storage, {"image_cache": refused})["image_cache"] == refused

    def test_pruner_of_an_audit_looks_again_with_its_hand_off(self) -> None:
        host = Host({"ansible_facts": {"image_cache": {**CACHE, "unknown_use": ["u"]}}})
        result = host.act(HostDecision(Action.LOOK, {"instances": []}))
        assert host.calls == [(AUDIT, {"instances_complete_for": [], "instances": []}, False)]
        assert (result["state"], result["refused"]) == ("audited", [])

    @pytest.mark.parametrize(
        ("reasons", "message"),
        [
            (
                ("b did not answer.", "c neither."),
                "Nothing was removed from this storage. b did not answer. c neither.",
            ),
            (("Nothing was removed: too much.",), "Nothing was removed: too much."),
        ],
    )
    def test_refused_storage_fails_with_its_reasons(self, reasons: tuple[str, ...], message: str) -> None:
        host = Host()
        result = host.act(HostDecision(Action.FAIL, reasons=reasons))
        assert host.calls == []
        assert (result["failed"], result["msg"], result["state"]) == (True, message, "refused")
        assert (result["refused"], result["removed"], result["changed"]) == (list(reasons), [], False)

    def test_host_without_a_decision_of_its_own_does_nothing_more(self) -> None:
        host = Host()
        result = host.act(None)
        assert host.calls == []
        assert (result["changed"], result["state"], result["removed"], result["refused"]) == (False, "audited", [], [])
        assert "failed" not in result
        assert "msg" not in result

    @pytest.mark.parametrize(("options", "fails"), [({}, True), ({"prune": True}, False)])
    def test_audit_alone_fails_over_what_it_found(self, options: dict[str, Any], fails: bool) -> None:
        result = Host().act(None, {"failure": "One is corrupt.", "options": options})
        assert (result.get("failed"), result.get("msg")) == ((True, "One is corrupt.") if fails else (None, None))

    def test_host_that_was_kept_from_being_pruned_reports_it(self) -> None:
        result = Host().act(None, {"options": FleetOptions(opted_out=True).to_plain()})
        assert result["msg"] == (
            "It was only looked at: image_cache_prune is false for this host in the inventory. For a prune, remove "
            "image_cache_prune there."
        )

    @pytest.mark.parametrize("look", [None, "skipped", {"walk": "of an earlier run"}, {}])
    def test_host_without_a_look_of_this_run_is_not_pruned(self, look: Any) -> None:
        host = Host()
        result = host.run({LOOK: look} if look is not None else {}, "act")
        assert result["msg"].startswith("Nothing was pruned: the image cache was not looked at in this run of the role")
        assert "image_cache_audit" in result["msg"]
        assert host.calls == []

    def test_host_whose_look_failed_is_not_pruned(self) -> None:
        host = Host()
        result = host.run({}, "act", look={"failed": True}, decided=HostDecision(Action.PRUNE))
        assert result["msg"].startswith("Nothing was done: the look at this host failed")
        assert host.calls == []

    def test_host_without_a_decision_of_this_run_is_not_pruned(self) -> None:
        host = Host()
        plugin = action(ActionModule, {"operation": "act"}, {})
        plugin._execute_module = host._execute
        walk = Walk.of(plugin._task).id
        old = {DECISION: {"walk": "old", "hosts": {"a": HostDecision(Action.PRUNE).to_plain()}}}
        result = plugin.run(None, {**task_vars({"a": old}), LOOK: {"walk": walk, "image_cache": CACHE}})
        assert (result["failed"], host.calls) == (True, [])
        assert result["msg"].startswith("Nothing was pruned")
