# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host that did not answer stops the prune of its own storage, by name, and of no other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import (
    FAILING,
    UNREACHABLE,
    ComputeFleet,
    Run,
    cached,
    names,
    role,
)
from ansible_collections.stackops.nova.tests.support.processes import mount_silent_fuse, needs_fuse, with_own_mounts
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree

ALL = names("image-a", "image-b", "unused-a", "unused-b")


@needs_fuse
def test_host_whose_storage_hangs_fails_in_time_and_the_others_go_on(fleet: ComputeFleet) -> None:
    hanging = fleet.add("a", image_cache_storage_timeout_seconds=1)
    fleet.add("c")

    def prune() -> Run:
        with mount_silent_fuse(hanging.instances_path):
            return fleet.prune()

    run = with_own_mounts(prune)
    assert (run.failed, run.changed, fleet.cached("c")) == ({"a"}, {"c"}, names("image-c")), run.output
    assert f"The storage of {hanging.instances_path} does not answer" in run.messages["a"]
    assert cached(hanging) == names("image-a", "unused-a")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("without_answer", "status"), [((), 0), ((FAILING,), 2), ((UNREACHABLE,), 4), ((FAILING, UNREACHABLE), 4)]
)
def test_exit_code_is_that_of_the_worst_host_and_the_others_are_done(
    fleet: ComputeFleet, without_answer: Sequence[Mapping[str, str]], status: int
) -> None:
    fleet.add("a")
    for number, variables in enumerate(without_answer):
        fleet.add(f"b{number}")
        fleet.hosts[f"b{number}"].update(variables)
    run = fleet.prune()
    assert (run.status, fleet.cached("a")) == (status, names("image-a")), run.output


@pytest.mark.slow
def test_inventory_that_cannot_be_read_ends_the_run_with_the_setting_of_the_documented_unit(
    fleet: ComputeFleet, tmp_path: Path
) -> None:
    fleet.add("a")
    broken = tmp_path / "broken.yml"
    broken.write_text("all: [")
    assert fleet.audit("--inventory", str(broken)).status == 0
    fleet.environment["ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED"] = "1"
    run = fleet.audit("--inventory", str(broken))
    assert (run.status, run.recap) == (1, {}), run.output


def test_storage_is_kept_until_the_operator_exempts_its_member_without_answer(fleet: ComputeFleet) -> None:
    storages = [fleet.add_pair("a", "unreachable"), fleet.add_pair("b", "failed")]
    before = [cached(tree) for tree in storages]
    fleet.add("alone")
    fleet.hosts["unreachable"].update(UNREACHABLE)
    fleet.hosts["failed"].update(FAILING)
    run = fleet.prune()
    assert run.status != 0
    assert run.failed | run.unreachable == {"a", "unreachable", "b", "failed"}, run.output
    assert run.changed == {"alone"}
    for name, other in (("a", "unreachable"), ("b", "failed")):
        assert f"{other} shares this storage and did not answer" in run.messages[name]
        assert "image_cache_exempt_storage_users" in run.messages[name]
    assert [cached(tree) for tree in storages] == before
    hosts = {host["name"]: host["state"] for host in run.reported["fleet"]["hosts"]}
    assert hosts == {
        "a": "refused",
        "unreachable": "unreachable",
        "b": "refused",
        "failed": "failed",
        "alone": "pruned",
    }

    # By the inventory's or nova's name.
    run = fleet.prune(image_cache_exempt_storage_users=["unreachable", "nova-failed"])
    assert (run.failed | run.unreachable, run.changed) == ({"unreachable", "failed"}, {"a", "b"}), run.output
    assert [cached(tree) for tree in storages] == [names("image-a"), names("image-b")]


def test_host_that_nova_registered_and_the_inventory_lacks_keeps_the_storage(fleet: ComputeFleet) -> None:
    tree = fleet.add("c")
    fleet.add("d", tree)
    for host in "cd":
        fleet.hosts[host]["image_cache_shared_storage"] = True
    tree.compute_nodes({f"nova-{name}": tree.now for name in "cdx"})
    run = fleet.prune()
    assert (run.failed, run.changed) == ({"c"}, set()), run.output
    assert "Host nova-x used this storage within the last 24 hours" in run.messages["c"]
    run = fleet.prune(image_cache_exempt_storage_users="nova-x")
    assert (run.status, cached(tree)) == (0, names("image-c", "image-d")), run.output


@pytest.mark.slow
def test_group_may_exempt_its_member_that_is_gone(fleet: ComputeFleet) -> None:
    tree = fleet.add_pair("d", "gone")
    fleet.hosts["gone"].update(UNREACHABLE)
    fleet.hosts["d"]["image_cache_exempt_storage_users"] = ["gone"]
    run = fleet.prune()
    assert run.changed == {"d"}, run.output
    assert cached(tree) == names("image-d")


@pytest.mark.slow
def test_member_outside_the_limit_of_the_play_keeps_its_storage(fleet: ComputeFleet, shared: CacheTree) -> None:
    run = fleet.prune("--limit", "a,c")
    assert run.failed == {"a"}, run.output
    assert run.messages["a"].startswith("Nothing was removed from this storage. b shares this storage")
    assert "a (refused)" in run.shown
    assert (cached(shared), fleet.cached("c")) == (ALL, names("image-c"))


@pytest.mark.slow
def test_limit_to_hosts_of_other_storages_prunes_these(fleet: ComputeFleet, shared: CacheTree) -> None:
    run = fleet.prune("--limit", "c")
    assert (run.status, run.changed) == (0, {"c"}), run.output
    assert cached(shared) == ALL


def test_fact_cache_of_yesterday_is_no_answer(fleet: ComputeFleet, shared: CacheTree) -> None:
    fleet.environment.update(ANSIBLE_CACHE_PLUGIN="jsonfile", ANSIBLE_CACHE_PLUGIN_CONNECTION=str(fleet.root / "facts"))
    assert fleet.audit().status == 0
    fleet.hosts["b"].update(UNREACHABLE)
    report = fleet.root / "report"
    run = fleet.play({"ignore_unreachable": True, "tasks": [role("prune")]}, image_cache_report_path=str(report))
    assert (run.changed, cached(shared)) == ({"c"}, ALL), run.output
    assert "b shares this storage and did not answer" in run.messages["a"]
    hosts = {host["name"]: host["state"] for host in json.loads((report / "report.json").read_text())["hosts"]}
    assert hosts == {"a": "refused", "b": "unreachable", "c": "pruned"}
    assert "b" in (report / "report.html").read_text()


@pytest.mark.slow
def test_host_that_failed_before_the_role_is_in_the_report_as_without_answer(
    fleet: ComputeFleet, shared: CacheTree
) -> None:
    fail = {"name": "Fail", "ansible.builtin.fail": {"msg": "no"}, "when": "inventory_hostname == 'c'"}
    run = fleet.play({"tasks": [fail, role("audit")]})
    assert {host["name"]: host["state"] for host in run.reported["fleet"]["hosts"]}["c"] != "audited"
    assert run.reported["fleet"]["summary"]["hosts_without_answer"] == 1
    assert cached(shared) == ALL


def test_template_that_cannot_be_resolved_stops_the_storage_although_errors_are_ignored(
    fleet: ComputeFleet, shared: CacheTree
) -> None:
    fleet.hosts["b"]["image_cache_keep_files"] = "{{ not_there }}"
    run = fleet.play({"ignore_errors": True, "tasks": [role("prune")]})
    assert (run.changed, cached(shared)) == ({"c"}, ALL), run.output
    assert "not_there" in run.messages["b"]
    assert "b shares this storage and did not answer" in run.messages["a"]


def test_any_errors_fatal_still_shows_those_that_answered(fleet: ComputeFleet, shared: CacheTree) -> None:
    fleet.hosts["c"].update(FAILING)
    run = fleet.play({"any_errors_fatal": True, "tasks": [role("prune")]})
    assert run.status != 0
    assert run.shown == {"a (+1)"}, run.output
    assert cached(shared) == ALL
    assert run.reported["fleet"]["summary"]["hosts_without_answer"] == 1
