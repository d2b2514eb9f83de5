# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host is looked at in check mode, and restores what was decided for it in this run, and that only."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from ansible import context
from ansible.errors import AnsibleConnectionFailure
from ansible.utils.context_objects import CLIArgs

from ansible_collections.stackops.nova.plugins.action.image_cache_restore_host import ActionModule
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet import glance
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.glance import GlanceAccess
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import GlanceOptions
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.play import CHOICE, DECISION, LOOK, Walk
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.restore import RESTORE, RestoreDecision
from ansible_collections.stackops.nova.tests.support.actions import action, task_vars
from ansible_collections.stackops.nova.tests.support.restores import (
    NOT_OPEN,
    failed,
    found,
    refused,
    restorable,
    result,
    set_aside,
)

MODULE = "stackops.nova.image_cache_restore"
DEFAULTS: dict[str, Any] = {"instances_complete_for": [], "images": []}


class Host:
    """A host on which the module returns this, and what it was given there."""

    def __init__(self, returned: dict[str, Any] | Exception | None = None, **keywords: Any) -> None:
        self.returned = result() if returned is None else returned
        self.calls: list[tuple[str, dict[str, Any], bool]] = []
        self.keywords = keywords

    def run(self, operation: str, variables: dict[str, Any], registered: dict[str, Any]) -> dict[str, Any]:
        self.plugin = action(ActionModule, {"operation": operation}, variables, **self.keywords)
        self.plugin._execute_module = self._execute
        walk = Walk.of(self.plugin._task).id
        own = {name: {"walk": walk, **one} for name, one in registered.items()}
        return dict(self.plugin.run(None, {**task_vars({"a": own, "b": {}}), **variables}))

    def look(self, **variables: Any) -> dict[str, Any]:
        return self.run("look", variables, {})

    def act(self, decision: RestoreDecision | None, look: dict[str, Any], **variables: Any) -> dict[str, Any]:
        hosts = {} if decision is None else {"a": decision.to_plain()}
        return self.run("act", variables, {LOOK: look, DECISION: {"hosts": hosts}})

    def _execute(self, *, module_name: str, module_args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        assert task_vars["inventory_hostname"] == "a"
        self.calls.append((module_name, module_args, self.plugin._task.check_mode))
        if isinstance(self.returned, Exception):
            raise self.returned
        return dict(self.returned)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = context.CLIARGS
    yield
    context.CLIARGS = before
    gc.enable()


class TestLook:
    def test_host_is_looked_at_in_check_mode_with_the_options_of_its_variables(self) -> None:
        host = Host({**result(restored=[restorable()]), "changed": True, "invocation": {}})
        record = {"id": "x", "os_hash_algo": "sha512"}
        looked = host.look(
            image_cache_config_file="/etc/nova/nova.conf",
            image_cache_restore_states="missing,replaced",
            image_cache_restore_files={"x": "/root/x"},
            image_cache_glance_images=["y", record],
        )
        [(module, options, check_mode)] = host.calls
        assert (module, check_mode) == (MODULE, True)
        assert options == {
            **DEFAULTS,
            "config_file": ["/etc/nova/nova.conf"],
            "glance_images": ["y", record],
            "images": [record],
            "states": ["missing", "replaced"],
            "files": {"x": "/root/x"},
        }
        assert looked == {
            RESTORE: found(restored=[restorable()]),
            "changed": False,
            "storage_group": "",
            "walk": Walk.of(host.plugin._task).id,
        }

    def test_look_has_the_storage_group_of_its_host(self) -> None:
        assert Host().look(image_cache_storage_group="all")["storage_group"] == "all"

    def test_refusal_is_no_failure_before_it_is_decided_whether_another_host_restores_the_file(self) -> None:
        looked = Host({**result(refused=[refused()]), "failed": True, "msg": "1 file.", "exception": "x"}).look()
        assert looked["failed"] is False
        assert "msg" not in looked
        assert "exception" not in looked

    def test_failure_without_an_answer_fails_the_look(self) -> None:
        looked = Host({"failed": True, "msg": "No space."}).look()
        assert (looked["failed"], looked["msg"]) == (True, "No space.")

    def test_host_that_cannot_be_reached_is_unreachable(self) -> None:
        assert Host(AnsibleConnectionFailure("No route.")).look()["unreachable"]

    def test_invalid_variable_fails_before_the_host_is_reached(self) -> None:
        host = Host()
        assert "no variable image_cache_restore_file." in host.look(image_cache_restore_file={})["msg"]
        assert host.calls == []

    @pytest.mark.parametrize("start", ["Restore base files", "Report on*", "stackops.nova.image_cache : Decide *"])
    def test_start_behind_the_look_is_refused(self, start: str) -> None:
        context.CLIARGS = CLIArgs({"start_at_task": start})
        message = Host().look()["msg"]
        assert f"--start-at-task {start} begins behind the look" in message
        assert "Start at 'Look for base files to restore'" in message

    def test_strategy_without_a_moment_for_all_hosts_is_refused(self) -> None:
        host = Host(strategy="free")
        assert "under the strategy free there is no moment" in host.look()["msg"]
        assert host.calls == []


GLANCE = {"image_cache_restore_from_glance": True, "image_cache_glance_timeout": 5}
ONE = {"id": "one", "size": 5}
IN_GLANCE = {"a": {"images": {"one": ONE}, "endpoint": "http://glance", "remarks": {"two": "It is not listed."}}}


class TestSecondLook:
    LOOKED = result(refused=[refused("one"), refused("two"), refused("three")])

    def look_again(self, host: Host, hosts: dict[str, Any]) -> dict[str, Any]:
        return host.run("look_again", GLANCE, {LOOK: self.LOOKED, CHOICE: {"hosts": hosts}})

    def test_look_returns_where_glance_is_if_it_is_to_be_asked(self) -> None:
        looked = Host().look(**GLANCE, image_cache_openstack_cloud="lab", image_cache_openstack_region_name="x")
        options = GlanceOptions(cloud="lab", region="x", glance={"timeout": 5})
        assert GlanceOptions.from_plain(looked["glance"]) == options
        assert "glance" not in Host().look(image_cache_restore_from_glance=False)

    def test_missing_file_is_looked_for_in_check_mode_with_its_record_and_without_a_token(self) -> None:
        host = Host(result(restored=[restorable("one", source="glance", contacted=False)]))
        looked = self.look_again(host, IN_GLANCE)
        [(_module, options, check_mode)] = host.calls
        assert check_mode
        assert options == {
            **DEFAULTS,
            "names": ["one"],
            "states": ["missing"],
            "images": [ONE],
            "glance": {"timeout": 5, "endpoint": "http://glance"},
        }
        assert looked[RESTORE]["restored"] == [restorable("one", source="glance", contacted=False)]
        remarked = refused("two", f"{NOT_OPEN} It is not listed.")
        assert looked[RESTORE]["refused"] == [remarked, refused("three")]

    def test_host_without_a_missing_file_is_not_looked_at_again(self) -> None:
        host = Host()
        assert self.look_again(host, {})[RESTORE] == self.LOOKED[RESTORE]
        assert host.calls == []

    def test_second_look_that_fails_leaves_the_first_with_the_reason(self) -> None:
        looked = self.look_again(Host({"failed": True, "msg": "Killed."}), IN_GLANCE)
        assert looked[RESTORE]["refused"][0] == refused("one", f"{NOT_OPEN} Killed.")
        assert not looked.get("failed")


class TestAct:
    LOOKED = result(restored=[restorable("one"), restorable("two")], refused=[refused("three")])

    def test_host_restores_what_was_decided_with_its_options(self) -> None:
        host = Host({**result(restored=[restorable("one")]), "changed": True})
        done = host.act(
            RestoreDecision(("one",), {"two": "b", "three": "b"}), self.LOOKED, image_cache_restore_max_rate=5
        )
        assert host.calls == [(MODULE, {**DEFAULTS, "max_rate": 5, "names": ["one"]}, False)]
        assert (done["changed"], done.get("failed")) == (True, None)
        assert done[RESTORE]["restored"] == [restorable("one")]
        assert done[RESTORE]["elsewhere"] == {"two": "b", "three": "b"}

    def test_host_restores_what_a_process_has_first_and_fetches_the_rest_with_a_token(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(glance, "log_in", lambda *_arguments: GlanceAccess("http://glance", "secret"))
        host = Host(result(restored=[restorable("near")], failed=[failed("one", "The token secret is wrong.")]))
        look = result(restored=[restorable("near"), restorable("one", source="glance")])
        decision = {"hosts": {"a": RestoreDecision(("one", "near")).to_plain()}}
        done = host.run("act", GLANCE, {LOOK: look, DECISION: decision, CHOICE: {"hosts": IN_GLANCE}})
        (_near, near, _is_dry), (_far, far, check_mode) = host.calls
        assert (near["names"], "glance" in near) == (["near"], False)
        assert (far["names"], far["states"], far["images"], check_mode) == (["one"], ["missing"], [ONE], False)
        assert far["glance"] == {"timeout": 5, "endpoint": "http://glance", "token": "secret"}
        assert "The token (the token) is wrong." in done["msg"]

    def test_file_that_a_process_has_comes_back_where_there_is_no_token(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def log_in(*_arguments: object) -> GlanceAccess:
            raise ImageCacheError("No token.")

        monkeypatch.setattr(glance, "log_in", log_in)
        host = Host(result(restored=[restorable("near")]))
        look = result(restored=[restorable("near"), restorable("one", source="glance")])
        decision = {"hosts": {"a": RestoreDecision(("one", "near")).to_plain()}}
        done = host.run("act", GLANCE, {LOOK: look, DECISION: decision, CHOICE: {"hosts": IN_GLANCE}})
        assert done[RESTORE]["restored"] == [restorable("near")]
        assert done[RESTORE]["failed"] == [failed("one", "No token.")]

    def test_dry_run_is_the_look_and_runs_nothing_again(self) -> None:
        host = Host(check_mode=True)
        done = host.act(RestoreDecision(("one", "two"), {"three": "b"}), self.LOOKED)
        assert host.calls == []
        assert (done["changed"], done.get("failed")) == (True, None)
        assert done[RESTORE]["restored"] == [restorable("one"), restorable("two")]

    def test_host_without_a_file_to_restore_runs_nothing(self) -> None:
        host = Host()
        done = host.act(RestoreDecision((), {"one": "b", "two": "b", "three": "b"}), self.LOOKED)
        assert host.calls == []
        assert (done["changed"], done.get("failed")) == (False, None)

    @pytest.mark.parametrize("check_mode", [True, False])
    def test_file_that_nobody_restores_fails_the_host_with_the_reason(self, check_mode: bool) -> None:
        host = Host(result(restored=[restorable("one"), restorable("two")]), check_mode=check_mode)
        done = host.act(RestoreDecision(("one", "two")), self.LOOKED)
        assert (done["failed"], done["changed"]) == (True, True)
        assert done["msg"] == f"Not restored: 1.\n{refused('three')['reason']}"

    def test_message_has_the_first_ten_reasons_and_the_number_of_the_others(self) -> None:
        look = result(refused=[refused(f"swap_{number}") for number in range(12)])
        done = Host(check_mode=True).act(RestoreDecision(), look)
        first, *reasons, last = done["msg"].split("\n")
        assert first == "Not restored: 12."
        assert reasons == [each["reason"] for each in done[RESTORE]["refused"][:10]]
        assert last == "and 2 more"
        assert len(done[RESTORE]["refused"]) == 12

    def test_copies_that_are_set_aside_are_a_change(self) -> None:
        look = result(refused=[refused()], set_aside=[set_aside()])
        done = Host({**look, "failed": True, "msg": "1 file."}).act(RestoreDecision(("base",)), look)
        assert (done["changed"], done["failed"]) == (True, True)

    def test_restore_that_ends_without_an_answer_fails_with_each_file(self) -> None:
        done = Host({"failed": True, "msg": "Killed."}).act(
            RestoreDecision(("one", "two"), {"three": "b"}), self.LOOKED
        )
        lost = [f"/nova/_base/{name} was not restored (used by guest). Killed." for name in ("one", "two")]
        assert done["msg"].split("\n") == ["Not restored: 2.", *lost]
        assert not done["changed"]

    def test_host_that_is_lost_meanwhile_is_unreachable_and_reported(self) -> None:
        host = Host(AnsibleConnectionFailure("No route."))
        done = host.act(RestoreDecision(("one",), {"two": "b", "three": "b"}), self.LOOKED)
        assert (done["unreachable"], done["msg"]) == (True, "No route.")
        assert [file["name"] for file in done[RESTORE]["failed"]] == ["one"]

    @pytest.mark.parametrize(
        "registered",
        [
            {},
            {LOOK: result()},
            {DECISION: {"hosts": {"a": RestoreDecision().to_plain()}}},
            {LOOK: {**result(), "walk": "old"}, DECISION: {"hosts": {"a": RestoreDecision().to_plain()}}},
            {LOOK: result(), DECISION: {"walk": "old", "hosts": {"a": RestoreDecision().to_plain()}}},
        ],
    )
    def test_host_without_a_look_and_a_decision_of_this_run_restores_nothing(self, registered: dict[str, Any]) -> None:
        host = Host()
        done = host.run("act", {}, registered)
        assert done["msg"].startswith("Nothing was restored: it was not looked for what can be restored in this run")
        assert host.calls == []

    @pytest.mark.parametrize("look", [{"failed": True, "msg": "No space."}, {RESTORE: {"restored": "x"}}])
    def test_host_whose_look_failed_restores_nothing(self, look: dict[str, Any]) -> None:
        host = Host()
        assert host.act(RestoreDecision(("one",)), look)["msg"].startswith(
            "Nothing was restored: the look at this host failed."
        )
        assert host.calls == []

    def test_host_that_was_not_decided_about_restores_nothing(self) -> None:
        host = Host()
        assert "the look at this host failed" in host.act(None, self.LOOKED)["msg"]
        assert host.calls == []
