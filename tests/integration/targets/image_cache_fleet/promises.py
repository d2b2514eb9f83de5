# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role promises to whoever has many hosts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from fleet import UNREACHABLE, Fleet, cached, names, picture

from ansible_collections.stackops.nova.tools.cache_tree import CacheTree, fingerprint

FAILING = {"image_cache_instances_path": "/no/such/path"}
ALL = names("image-a", "image-b", "unused-a", "unused-b")
USED = names("image-a", "image-b")
LOOK = {"ansible.builtin.import_role": {"name": "stackops.nova.image_cache", "tasks_from": "look"}}


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


@pytest.fixture
def shared(fleet: Fleet) -> CacheTree:
    """The storage of hosts a and b. Host c is alone."""
    tree = fleet.add("a")
    fleet.add("b", tree)
    fleet.add("c")
    fleet.share("a", "b")
    return tree


def alone(fleet: Fleet) -> set[str]:
    """What host c has in its cache."""
    return cached(CacheTree(fleet.root / "c"))


class TestSharedStorage:
    def test_it_is_pruned_once_with_the_instances_of_all_and_as_the_dry_run_says(
        self, fleet: Fleet, shared: CacheTree
    ) -> None:
        trees = (shared.root, fleet.root / "b", fleet.root / "c")
        before = [picture(tree) for tree in trees]
        dry = fleet.run("--check", "--diff", "--forks", "1")
        assert (dry.status, dry.changed) == (0, {"a", "c"}), dry.output
        assert {line[1:41] for line in dry.output.splitlines() if line.startswith("-") and line[1:41].isalnum()} == (
            names("unused-a", "unused-b", "unused-c")
        )
        assert [picture(tree) for tree in trees] == before
        run = fleet.run()
        assert (run.status, run.changed) == (0, {"a", "c"}), run.output
        assert (cached(shared), alone(fleet)) == (USED, names("image-c"))
        again = fleet.run()
        assert (again.status, again.changed, cached(shared)) == (0, set(), USED)

    def test_it_is_shown_once_and_nobody_is_warned_of_what_the_other_host_knows(
        self, fleet: Fleet, shared: CacheTree
    ) -> None:
        shared.compute_nodes({f"nova-{name}": shared.now for name in "ab"})
        for arguments in (("--tags", "report"), ("--check",)):
            output = fleet.run(*arguments).output
            assert "SHARED BY    a, b" in output, output
            assert (output.count("IMAGE CACHE  nova-a:"), output.count("IMAGE CACHE  nova-b:")) == (1, 0)
            assert "Nothing may be removed" not in output
        assert output.count(": unused; unknown image") == 3  # a file of each host would go
        assert output.count("To list each file that stays:") == 2


def test_a_name_that_looks_like_a_template_is_shown_and_not_evaluated(fleet: Fleet) -> None:
    tree = fleet.add("a")
    fleet.add("b")
    tree.instance("{{ 7919 * 7919 }}", {"disk": fingerprint("image-a")})
    output = fleet.run("--check").output
    assert "{{ 7919 * 7919 }}" in output
    assert "62710561" not in output


def pair(fleet: Fleet, one: str, other: str) -> tuple[CacheTree, set[str]]:
    """Two more hosts with one storage, and what is in its cache."""
    tree = fleet.add(one)
    fleet.add(other, tree)
    fleet.share(one, other)
    return tree, cached(tree)


class TestAHostThatDoesNotAnswer:
    """Its store is refused, by name; the others are pruned all the same."""

    def test_its_store_is_left_alone_unless_the_operator_says_that_it_is_gone(self, fleet: Fleet) -> None:
        stores = [pair(fleet, "a", "unreachable"), pair(fleet, "b", "failed"), pair(fleet, "c", "d")]
        fleet.add("alone")
        fleet.hosts["unreachable"].update(UNREACHABLE)
        fleet.hosts["failed"].update(FAILING)
        registered = stores[2][0]
        registered.compute_nodes({f"nova-{name}": registered.now for name in "cdx"})
        run = fleet.run()
        assert run.status != 0
        assert run.failed | run.unreachable == {"a", "unreachable", "b", "failed", "c"}
        assert run.changed == {"alone"}
        for name, other in (("a", "unreachable"), ("b", "failed")):
            assert f"{other} shares this storage and could not be audited" in run.messages[name]
            assert "image_cache_ignore_storage_users" in run.messages[name]
        assert "nova saw host nova-x use this storage" in run.messages["c"]
        assert all(cached(tree) == whole for tree, whole in stores)

        # By the inventory's or nova's name.
        run = fleet.run(image_cache_ignore_storage_users=["unreachable", "nova-failed", "nova-x"])
        assert (run.failed | run.unreachable, run.changed) == ({"unreachable", "failed"}, {"a", "b", "c"})
        assert [cached(tree) for tree, _whole in stores] == [
            names("image-a"),
            names("image-b"),
            names("image-c", "image-d"),
        ]

    def test_nor_may_it_be_left_out_of_the_play(self, fleet: Fleet, shared: CacheTree) -> None:
        run = fleet.run("--limit", "a,c")
        assert run.failed == {"a"}
        assert run.messages["a"].startswith("Nothing was removed from this storage. b shares this storage")
        assert "not in this play" in run.messages["a"]
        assert "REFUSED  Nothing may be removed:" in run.output
        assert cached(shared) == ALL
        assert alone(fleet) == names("image-c")

    def test_a_limit_to_others_is_no_matter(self, fleet: Fleet, shared: CacheTree) -> None:
        run = fleet.run("--limit", "c")
        assert (run.status, run.changed) == (0, {"c"})
        assert cached(shared) == ALL


class TestHostsThatDoNotFitTogether:
    def test_they_are_named_and_their_store_is_left_alone(self, fleet: Fleet) -> None:
        stores = [pair(fleet, *both) for both in ("ab", "cd", "ef", "gh")]
        own = fleet.add("i"), fleet.add("j")
        fleet.share("i", "j")
        (fleet.root / "elsewhere").symlink_to(stores[0][0].instances_path)
        (fleet.root / "empty").mkdir()
        fleet.hosts["b"]["image_cache_instances_path"] = str(fleet.root / "elsewhere")
        fleet.hosts["d"]["image_cache_instances_path"] = str(fleet.root / "empty")
        (fleet.root / "f" / "libvirt" / "broken.xml").write_text("<domain>")
        fleet.hosts["h"]["image_cache_remove_unused_base_images"] = False
        run = fleet.run()
        assert (run.failed, run.changed) == (set("acegi"), set()), run.output
        assert f"b has this storage at {fleet.root}/elsewhere/_base and a at" in run.messages["a"]
        assert f"d should share this storage, and has no {fleet.root}/empty/_base" in run.messages["c"]
        assert "On f: " in run.messages["e"]
        assert "broken.xml" in run.messages["e"]
        assert "h and g share this storage, and disagree about remove_unused_base_images" in run.messages["g"]
        assert "j and i should share this storage, and have different files" in run.messages["i"]
        assert all(cached(tree) == whole for tree, whole in stores)
        assert [len(cached(tree)) for tree in own] == [2, 2]


class TestAPlayThatGoesOn:
    def test_where_it_cannot_be_found_out_who_shares_nothing_goes(self, fleet: Fleet, shared: CacheTree) -> None:
        run = fleet.run(play={"ignore_errors": True, "vars": {"ansible_limit": "{{ 1 // 0 }}"}})
        assert run.changed == set()
        assert "It was not found out who shares this storage" in run.messages["c"]
        assert (cached(shared), len(alone(fleet))) == (ALL, 2)

    def test_a_host_without_an_audit_stops_at_least_its_storage(self, fleet: Fleet, shared: CacheTree) -> None:
        fleet.hosts["b"]["image_cache_keep_files"] = "{{ not_there }}"
        run = fleet.run(play={"ignore_errors": True})
        assert run.changed <= {"c"}
        assert "not_there" in run.output
        assert cached(shared) == ALL

    def test_an_earlier_audit_of_a_host_that_was_not_reached_now_does_not_count(
        self, fleet: Fleet, shared: CacheTree
    ) -> None:
        cache = {"ANSIBLE_CACHE_PLUGIN": "jsonfile", "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(fleet.root / "facts")}
        fleet.environment.update(cache)
        fleet.run("--tags", "audit")
        fleet.hosts["b"].update(UNREACHABLE)
        run = fleet.run(play={"ignore_unreachable": True})
        assert run.changed == {"c"}
        assert "b shares this storage" in run.messages["a"]
        assert cached(shared) == ALL


# A host whose clock goes back between the audit and the prune.
AN_HOUR_BACK_EACH_TIME = """#!/bin/sh
echo >> {count}
exec {python} -c '
import sys, time
real, hours = time.time, len(open("{count}").read())
time.time = lambda: real() - 3600 * hours
sys.argv = sys.argv[1:]
exec(compile((open(sys.argv[0]) if sys.argv[0:] else sys.stdin).read(), "module", "exec"))
' "$@"
"""
ONCE = {"ansible.builtin.set_fact": {"something": 1}, "run_once": True}


class TestAPlayWithOtherTasks:
    """ansible-core 2.21 mixes up what hosts say after a task with run_once; others do not."""

    def test_no_host_is_pruned_by_what_another_one_said(self, fleet: Fleet, shared: CacheTree) -> None:
        run = fleet.run(play={"pre_tasks": [ONCE]})
        if run.status == 0:
            assert (run.changed, cached(shared), alone(fleet)) == ({"a", "c"}, USED, names("image-c"))
        else:
            assert "one and the same audit" in run.output
            assert (run.changed, cached(shared), len(alone(fleet))) == (set(), ALL, 2)

    def test_there_is_a_way_to_have_both(self, fleet: Fleet, shared: CacheTree) -> None:
        first = {"ansible.builtin.set_fact": {"anything": 1}}
        run = fleet.run(play={"pre_tasks": [first, ONCE]})
        assert (run.status, run.changed, cached(shared)) == (0, {"a", "c"}, USED), run.output


class TestDryRuns:
    """A role's own check mode counts, not what was said on the command line."""

    @pytest.mark.parametrize(("argument", "is_dry"), [("--diff", True), ("--check", False)])
    def test_the_report_says_what_was_done(self, fleet: Fleet, shared: CacheTree, argument: str, is_dry: bool) -> None:
        report = fleet.root / "report"
        run = fleet.run(argument, play={"check_mode": is_dry}, image_cache_report_path=str(report))
        assert (run.status, cached(shared)) == (0, ALL if is_dry else USED), run.output
        assert json.loads((report / "report.json").read_text())["check_mode"] is is_dry
        assert ("\nWOULD BE REMOVED: " in run.output, "\nREMOVED: " in run.output) == (is_dry, not is_dry)

    def test_a_clock_that_is_set_back_hides_no_prune(self, fleet: Fleet, shared: CacheTree) -> None:
        interpreter = fleet.root / "python"
        interpreter.write_text(AN_HOUR_BACK_EACH_TIME.format(count=fleet.root / "count", python=sys.executable))
        interpreter.chmod(0o755)
        for variables in fleet.hosts.values():
            variables["ansible_python_interpreter"] = str(interpreter)
        report = fleet.root / "report"
        run = fleet.run(image_cache_report_path=str(report))
        assert (run.status, cached(shared)) == (0, USED), run.output
        assert json.loads((report / "report.json").read_text())["summary"]["removed"] == 3
        assert "A PRUNE WOULD FREE" not in run.output

    @pytest.mark.parametrize("serial", [None, 1])
    def test_a_look_after_a_prune_reports_what_there_is_now(
        self, fleet: Fleet, shared: CacheTree, serial: int | None
    ) -> None:
        report = fleet.root / "report"
        play = {"post_tasks": [LOOK], **({"serial": serial} if serial else {})}
        run = fleet.run(play=play, image_cache_report_path=str(report))
        assert (run.status, cached(shared)) == (0, USED), run.output
        found = json.loads((report / "report.json").read_text())
        assert (found["pruned"], found["summary"]["removed"], found["summary"]["stores"]) == (False, 0, 2)

    @pytest.mark.usefixtures("shared")
    def test_the_last_report_has_what_earlier_batches_removed(self, fleet: Fleet) -> None:
        report = fleet.root / "report"
        fleet.run(play={"serial": 1}, image_cache_report_path=str(report))
        assert json.loads((report / "report.json").read_text())["summary"]["removed"] == 3

    def test_a_cache_with_a_corrupt_file_is_shown_where_the_play_goes_on(self, fleet: Fleet) -> None:
        tree = fleet.add("a")
        (used,) = names("image-a")
        (tree.cache_path / f"{used}.info").write_text(json.dumps({"sha1": "0" * 40}))
        options = {"image_cache_checksum_base_images": True, "image_cache_fail_on_corrupt": True}
        run = fleet.run(play={"ignore_errors": True, "roles": [], "tasks": [LOOK]}, **options)
        assert "IMAGE CACHE  nova-a:" in run.output, run.output

    def test_hosts_that_do_not_all_prune_are_told_so(self, fleet: Fleet, shared: CacheTree) -> None:
        fleet.hosts = {name: fleet.hosts[name] for name in "cab"}
        for host in "ab":
            fleet.hosts[host]["image_cache_prune"] = True
        run = fleet.run(play={"roles": ["stackops.nova.image_cache"]})
        assert (run.failed, cached(shared)) == ({"a", "b"}, ALL), run.output
        assert "Give image_cache_prune the same value for all hosts" in run.messages["b"]

    def test_the_brake_of_an_earlier_role_does_not_count(self, fleet: Fleet, shared: CacheTree) -> None:
        fleet.hosts = {name: fleet.hosts[name] for name in "cab"}
        for host in "ab":
            fleet.hosts[host]["image_cache_prune"] = True
        role = "stackops.nova.image_cache"
        rehearsal = {"role": role, "check_mode": True, "vars": {"image_cache_prune": True}}
        prune = {"role": role, "vars": {"image_cache_fleet_max_removal_percent": 1}}
        run = fleet.run(play={"roles": [rehearsal, prune]})
        assert (run.failed, cached(shared)) == ({"a", "b"}, ALL), run.output


class TestBatches:
    def test_a_store_waits_for_the_last_of_its_hosts_and_one_that_failed_earlier_still_counts(
        self, fleet: Fleet, shared: CacheTree
    ) -> None:
        other, whole = pair(fleet, "d", "e")
        fleet.hosts = {name: fleet.hosts[name] for name in "adceb"}
        fleet.hosts["d"].update(UNREACHABLE)
        run = fleet.run(play={"serial": 2})
        assert (run.failed, run.unreachable, run.changed) == ({"e"}, {"d"}, {"b", "c"}), run.output
        assert "d shares this storage" in run.messages["e"]
        assert cached(other) == whole
        assert (cached(shared), alone(fleet)) == (USED, names("image-c"))

    def test_one_that_waited_in_vain_is_told_of(self, fleet: Fleet) -> None:
        tree = fleet.add("a")
        fleet.add("b", tree)
        fleet.add("c")
        for host in "ab":
            fleet.hosts[host]["image_cache_shared_storage"] = True
        run = fleet.run(play={"serial": [2, 1]})
        assert run.failed == {"c"}, run.output
        assert "Nothing was removed from the storage of a, b. Its hosts were in earlier batches" in run.messages["c"]
        assert cached(tree) == ALL


def test_no_report_is_written_into_the_collection(fleet: Fleet) -> None:
    tree = fleet.add("a")
    run = fleet.run(image_cache_report_path="report")
    assert "-e image_cache_report_path=$PWD/report" in run.messages["a"]
    assert len(cached(tree)) == 2


def test_a_report_may_go_to_the_home_of_whoever_runs_it(fleet: Fleet) -> None:
    fleet.add("a")
    fleet.environment["HOME"] = str(fleet.root)
    run = fleet.run(image_cache_report_path="~/report")
    assert run.status == 0, run.output
    assert (fleet.root / "report" / "report.json").exists()


class TestTags:
    def test_an_audit_removes_and_shows_nothing(self, fleet: Fleet, shared: CacheTree) -> None:
        run = fleet.run("--tags", "audit")
        assert (run.status, run.changed, cached(shared)) == (0, set(), ALL)
        assert "IMAGE CACHE" not in run.output

    def test_a_report_shows_and_removes_nothing(self, fleet: Fleet, shared: CacheTree) -> None:
        run = fleet.run("--tags", "report")
        assert (run.status, run.changed, cached(shared)) == (0, set(), ALL)
        assert "IMAGE CACHE  nova-c:" in run.output

    def test_a_prune_is_as_careful_as_without_a_tag(self, fleet: Fleet, shared: CacheTree) -> None:
        run = fleet.run("--tags", "prune")
        assert (run.status, run.changed, cached(shared)) == (0, {"a", "c"}, USED)
        assert "IMAGE CACHE" not in run.output

    def test_without_prune_there_is_none(self, fleet: Fleet, shared: CacheTree) -> None:
        run = fleet.run("--skip-tags", "prune")
        assert (run.changed, cached(shared)) == (set(), ALL)

    def test_without_an_audit_nothing_is_pruned(self, fleet: Fleet, shared: CacheTree) -> None:
        run = fleet.run("--skip-tags", "audit")
        assert (run.changed, cached(shared)) == (set(), ALL)


class TestTheBrake:
    def test_more_than_its_share_of_the_fleet_does_not_go(self, fleet: Fleet, shared: CacheTree) -> None:
        run = fleet.run(image_cache_fleet_max_removal_percent=49)
        assert run.failed == {"a", "c"}
        assert "50 %" in run.messages["a"]
        assert "image_cache_fleet_max_removal_percent (49" in run.messages["c"]
        assert cached(shared) == ALL
        assert len(alone(fleet)) == 2

    def test_a_smaller_share_that_any_host_sets_counts(self, fleet: Fleet, shared: CacheTree) -> None:
        fleet.hosts["c"]["image_cache_fleet_max_removal_percent"] = 49
        run = fleet.run()
        assert (run.failed, cached(shared)) == ({"a", "c"}, ALL), run.output

    def test_its_share_does(self, fleet: Fleet, shared: CacheTree) -> None:
        assert fleet.run(image_cache_fleet_max_removal_percent=50).status == 0
        assert cached(shared) == USED


class TestWhereInstancesComeFrom:
    def test_variables_that_cannot_be_meant_are_refused(self, fleet: Fleet, shared: CacheTree) -> None:
        fleet.hosts["a"]["image_cache_instance_source"] = "provided"
        fleet.hosts["b"]["image_cache_instance_source"] = "nova"
        fleet.hosts["c"]["image_cache_storage_group"] = "shraing"
        misspelt = fleet.add("d")
        fleet.hosts["d"]["image_cache_keep_flies"] = ["unused-d"]
        fleet.add("e")
        run = fleet.run()
        assert (run.failed, run.changed) == ({"a", "b", "c", "d"}, {"e"}), run.output
        assert "There must be image_cache_instances" in run.messages["a"]
        assert "openstack" in run.messages["b"]  # said by Ansible, from the role's arguments
        assert "no group of the inventory for image_cache_storage_group: shraing" in run.messages["c"]
        assert "has no variable image_cache_keep_flies. Is it misspelt?" in run.messages["d"]
        assert (cached(shared), len(alone(fleet)), len(cached(misspelt))) == (ALL, 2, 2)

    def test_a_group_without_a_value_is_not_as_good_as_none(self, fleet: Fleet, shared: CacheTree) -> None:
        for host in "ab":
            fleet.hosts[host]["image_cache_storage_group"] = None
        run = fleet.run()
        assert run.failed >= {"a", "b"}, run.output
        assert cached(shared) == ALL

    def test_a_list_as_text_protects_in_a_prune_as_in_an_audit(self, fleet: Fleet, shared: CacheTree) -> None:
        run = fleet.run(image_cache_keep_images="unused-a,unused-c")
        assert run.status == 0, run.output
        assert cached(shared) == USED | names("unused-a")
        assert len(alone(fleet)) == 2

    def test_nor_is_an_audit_made_with_them(self, fleet: Fleet) -> None:
        fleet.add("a")
        fleet.add("b")
        fleet.hosts["a"]["image_cache_instances_paht"] = "/somewhere"
        fleet.hosts["b"]["image_cache_instance_source"] = "nova"
        run = fleet.run(play={"roles": [], "tasks": [LOOK]})
        assert "has no variable image_cache_instances_paht" in run.messages["a"]
        assert "It must be libvirt, openstack or provided, and image_cache_instance_source is nova" in run.messages["b"]
        assert "There is no image cache to show: no host of this batch answered" in run.output

    def test_nor_what_only_the_play_makes_different_by_host(self, fleet: Fleet) -> None:
        tree = fleet.add("a")
        fleet.add("b")
        group = "{{ (inventory_hostname == 'a') | ternary('shraing', 'compute') }}"
        run = fleet.run(play={"vars": {"image_cache_storage_group": group}})
        assert "shraing" in run.messages["a"]
        assert len(cached(tree)) == 2

    def test_options_that_a_play_has_for_the_modules_do_not_come_between(self, fleet: Fleet, shared: CacheTree) -> None:
        nobody = {"instances": [], "instance_hosts": ["nova-a", "nova-b", "nova-c"], "libvirt": False}
        modules = [f"stackops.nova.image_cache_{module}" for module in ("facts", "prune")]
        for names_of_the_modules in (modules, ["group/stackops.nova.image_cache"]):
            run = fleet.run("--check", play={"module_defaults": dict.fromkeys(names_of_the_modules, nobody)})
            assert run.status == 0, run.output
            run = fleet.run(play={"module_defaults": dict.fromkeys(names_of_the_modules, nobody)})
            assert (run.status, cached(shared), alone(fleet)) == (0, USED, names("image-c")), run.output

    def test_what_a_play_says_besides_the_inventory_counts_where_storage_is_shared(
        self, fleet: Fleet, shared: CacheTree
    ) -> None:
        for host in "ab":
            fleet.hosts[host]["image_cache_instances"] = [{"uuid": "old", "image_ref": "old", "host": "nova-b"}]
            fleet.hosts[host]["image_cache_keep_files"] = []
        given = [{"uuid": "given", "image_ref": "unused-a", "host": "nova-b"}]
        (kept,) = names("unused-b")
        keep = f"{{{{ ['{kept}'] if inventory_hostname == 'b' else [] }}}}"
        run = fleet.run(play={"vars": {"image_cache_instances": given, "image_cache_keep_files": keep}})
        assert (run.status, cached(shared)) == (0, ALL), run.output

    def test_what_another_host_needs_stays_if_nobody_found_out_who_shares(
        self, fleet: Fleet, shared: CacheTree
    ) -> None:
        fleet.hosts = {name: fleet.hosts[name] for name in "cab"}
        role = {"role": "stackops.nova.image_cache", "vars": {"image_cache_prune": True}}
        roles = [{**role, "check_mode": True}, {**role, "when": "inventory_hostname != 'c'"}]
        run = fleet.run(play={"roles": roles})
        assert (run.failed, cached(shared)) == ({"a", "b"}, ALL), run.output
        assert "a condition (when) of the role" in run.messages["b"]

    def test_nor_is_that_kept_from_whoever_applies_the_role_once(self, fleet: Fleet, shared: CacheTree) -> None:
        fleet.hosts = {name: fleet.hosts[name] for name in "cab"}
        role = {"role": "stackops.nova.image_cache", "vars": {"image_cache_prune": True}}
        run = fleet.run(play={"roles": [{**role, "when": "inventory_hostname != 'c'"}]})
        assert (run.failed, cached(shared)) == ({"a", "b"}, ALL), run.output
        assert "a condition (when) of the role" in run.messages["b"]

    def test_instances_that_are_not_alike_although_their_ids_are_stop_their_storage(
        self, fleet: Fleet, shared: CacheTree
    ) -> None:
        given = "{{ [{'uuid': 'x', 'image_ref': 'unused-' ~ inventory_hostname, 'host': 'nova-b'}] }}"
        run = fleet.run(play={"vars": {"image_cache_instances": given}})
        assert (run.failed, cached(shared)) == ({"a"}, ALL), run.output
        assert "image_cache_instances is not the same" in run.messages["a"]

    def test_a_group_may_say_which_of_its_hosts_is_gone(self, fleet: Fleet) -> None:
        fleet.add("c")
        other, _whole = pair(fleet, "d", "gone")
        fleet.hosts["gone"].update(UNREACHABLE)
        fleet.hosts["d"]["image_cache_ignore_storage_users"] = ["gone"]
        assert "d" in fleet.run().changed
        assert cached(other) == names("image-d")

    def test_nothing_that_a_server_has_besides_is_shown(self, fleet: Fleet, shared: CacheTree) -> None:
        given = [{"uuid": "given", "image_ref": "unused-a", "host": "nova-b", "adminPass": "SEKRIT"}]
        run = fleet.run("-v", image_cache_instances=given)
        assert run.status == 0, run.output
        assert cached(shared) == USED | names("unused-a")
        assert "SEKRIT" not in run.output

    def test_provided_ones_are_enough(self, fleet: Fleet, shared: CacheTree) -> None:
        given = [{"uuid": "given", "image_ref": "unused-a", "host": "nova-b"}]
        run = fleet.run(image_cache_instance_source="provided", image_cache_instances=given, image_cache_libvirt=False)
        assert run.status == 0, run.output
        assert cached(shared) == names("unused-a")
