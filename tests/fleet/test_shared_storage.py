# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A storage that several hosts share is pruned once, with what all of them use, or not at all."""

from __future__ import annotations

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import (
    DAY,
    LOOK,
    PRUNE,
    ComputeFleet,
    cached,
    names,
    picture,
    role,
)
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree, fingerprint

ALL = names("image-a", "image-b", "unused-a", "unused-b")
USED = names("image-a", "image-b")


def test_storage_is_pruned_once_with_the_instances_of_all_as_the_dry_run_lists(
    fleet: ComputeFleet, shared: CacheTree
) -> None:
    trees = (shared.root, fleet.root / "b", fleet.root / "c")
    before = [picture(tree) for tree in trees]
    dry = fleet.prune("--check", "--diff")
    assert (dry.status, dry.changed) == (0, {"a", "c"}), dry.output
    assert {line[1:41] for line in dry.output.splitlines() if line.startswith("-") and line[1:41].isalnum()} == (
        names("unused-a", "unused-b", "unused-c")
    )
    assert [picture(tree) for tree in trees] == before
    run = fleet.prune()
    assert (run.status, run.changed) == (0, {"a", "c"}), run.output
    assert (cached(shared), fleet.cached("c")) == (USED, names("image-c"))
    results = run.of(PRUNE)
    assert {host: results[host]["state"] for host in "abc"} == {"a": "pruned", "b": "audited", "c": "pruned"}
    listed = {host: set(result["removed"]) for host, result in dry.of(PRUNE).items()}
    assert listed == {host: set(result["removed"]) for host, result in results.items()}
    assert set(results["a"]["removed"]) == names("unused-a", "unused-b")
    assert (results["a"]["reclaimed_bytes"], results["a"]["refused"]) == (8192, [])
    again = fleet.prune()
    assert (again.status, again.changed, cached(shared)) == (0, set(), USED)


@pytest.mark.slow
def test_storage_is_shown_once_without_warnings_of_what_another_member_knows(
    fleet: ComputeFleet, shared: CacheTree
) -> None:
    shared.compute_nodes({f"nova-{name}": shared.now for name in "ab"})
    for run in (fleet.audit(), fleet.prune("--check")):
        assert run.shown == {"a (+1)", "c"}, run.output
        assert "Nothing may be removed" not in run.output
    assert {len(found["removed"]) for found in run.reported["fleet"]["storages"]} == {1, 2}


@pytest.mark.usefixtures("shared")
def test_role_publishes_its_result_and_nothing_else(fleet: ComputeFleet) -> None:
    show = {"name": "Show", "ansible.builtin.debug": {"msg": "{{ image_cache_result }}"}}
    facts = {"name": "Facts", "ansible.builtin.debug": {"msg": "FACTS {{ ansible_facts | length }}"}}
    # The result is no unknown variable of the role when it runs again.
    run = fleet.play({"tasks": [role("prune"), show, facts, role("audit")]})
    assert run.status == 0, run.output
    shown = run.of("Show")
    assert {host: set(shown[host]["msg"]["removed"]) for host in "abc"} == {
        "a": names("unused-a", "unused-b"),
        "b": set(),
        "c": names("unused-c"),
    }
    assert {result["msg"] for result in run.of("Facts").values()} == {"FACTS 0"}


def test_members_that_contradict_each_other_are_named_and_nothing_is_removed(fleet: ComputeFleet) -> None:
    storages = [fleet.add_pair(*pair) for pair in ("ab", "cd", "ef", "gh")]
    before = [cached(tree) for tree in storages]
    fleet.add("i")
    fleet.add("j")
    fleet.share("i", "j")
    (fleet.root / "elsewhere").symlink_to(storages[0].instances_path)
    (fleet.root / "empty").mkdir()
    fleet.hosts["b"]["image_cache_instances_path"] = str(fleet.root / "elsewhere")
    fleet.hosts["d"]["image_cache_instances_path"] = str(fleet.root / "empty")
    (fleet.root / "f" / "libvirt" / "broken.xml").write_text("<domain>")
    fleet.hosts["h"]["image_cache_remove_unused_base_images"] = False
    run = fleet.prune()
    assert (run.failed, run.changed) == (set("acegi"), set()), run.output
    assert f"b has this storage at {fleet.root}/elsewhere/_base and a at" in run.messages["a"]
    assert f"d shares this storage and has no directory {fleet.root}/empty/_base" in run.messages["c"]
    assert "On f: " in run.messages["e"]
    assert "broken.xml" in run.messages["e"]
    assert "h and g share this storage and disagree about image_cache_remove_unused_base_images" in run.messages["g"]
    assert "j and i share this storage and have different files" in run.messages["i"]
    assert [cached(tree) for tree in storages] == before
    assert [len(fleet.cached(host)) for host in "ij"] == [2, 2]


@pytest.mark.slow
def test_options_of_the_modules_in_a_play_are_not_used(fleet: ComputeFleet, shared: CacheTree) -> None:
    nobody = {"instances": [], "instances_complete_for": ["nova-a", "nova-b", "nova-c"], "libvirt": False}
    modules = [f"stackops.nova.image_cache_{module}" for module in ("facts", "prune")]
    defaults = dict.fromkeys([*modules, "group/stackops.nova.image_cache"], nobody)
    run = fleet.play({"module_defaults": defaults, "tasks": [role("prune")]})
    assert (run.status, cached(shared), fleet.cached("c")) == (0, USED, names("image-c")), run.output


@pytest.mark.slow
def test_task_with_run_once_before_the_role_mixes_no_answers_up(fleet: ComputeFleet, shared: CacheTree) -> None:
    once = {"name": "Once", "ansible.builtin.set_fact": {"something": 1}, "run_once": True}
    run = fleet.play({"pre_tasks": [once], "tasks": [role("prune")]})
    assert (run.status, run.changed) == (0, {"a", "c"}), run.output
    assert (cached(shared), fleet.cached("c")) == (USED, names("image-c"))


@pytest.mark.slow
def test_condition_that_leaves_out_the_first_host_of_the_play_changes_nothing_else(
    fleet: ComputeFleet, shared: CacheTree
) -> None:
    fleet.hosts = {name: fleet.hosts[name] for name in "cab"}
    run = fleet.play({"tasks": [role("prune", when="inventory_hostname != 'c'")]})
    assert (run.status, run.changed, cached(shared)) == (0, {"a"}, USED), run.output
    assert len(fleet.cached("c")) == 2
    assert run.shown == {"a (+1)"}


def test_condition_that_leaves_out_a_member_refuses_its_storage(fleet: ComputeFleet, shared: CacheTree) -> None:
    run = fleet.play({"tasks": [role("prune", when="inventory_hostname != 'b'")]})
    assert (run.failed, run.changed, cached(shared)) == ({"a"}, {"c"}, ALL), run.output
    assert "b shares this storage and did not answer" in run.messages["a"]


@pytest.mark.slow
def test_member_that_is_only_looked_at_keeps_the_storage(fleet: ComputeFleet, shared: CacheTree) -> None:
    for host in "ac":
        fleet.hosts[host]["image_cache_prune"] = True
    run = fleet.play({"tasks": [role()]})
    assert (run.failed, run.changed, cached(shared)) == ({"a"}, {"c"}, ALL), run.output
    assert "image_cache_prune is true for a and not for b" in run.messages["a"]


def test_instances_that_differ_by_member_are_all_protected(fleet: ComputeFleet, shared: CacheTree) -> None:
    given = "{{ [{'uuid': 'x' ~ inventory_hostname, 'image_ref': 'unused-' ~ inventory_hostname, 'host': 'nova-b'}] }}"
    run = fleet.play({"vars": {"image_cache_instances": given}, "tasks": [role("prune")]})
    assert (run.status, cached(shared)) == (0, ALL), run.output


@pytest.mark.slow
def test_variables_of_a_play_count_for_each_member(fleet: ComputeFleet, shared: CacheTree) -> None:
    for host in "ab":
        fleet.hosts[host]["image_cache_instances"] = [{"uuid": "old", "image_ref": "old", "host": "nova-b"}]
        fleet.hosts[host]["image_cache_keep_files"] = []
    given = [{"uuid": "given", "image_ref": "unused-a", "host": "nova-b"}]
    keep = f"{{{{ ['{fingerprint('unused-b')}'] if inventory_hostname == 'b' else [] }}}}"
    play_variables = {"image_cache_instances": given, "image_cache_keep_files": keep}
    run = fleet.play({"vars": play_variables, "tasks": [role("prune")]})
    assert (run.status, cached(shared)) == (0, ALL), run.output


@pytest.mark.slow
def test_two_instances_paths_of_a_host_are_both_pruned_and_reported(fleet: ComputeFleet) -> None:
    first = fleet.add("a")
    second = CacheTree(fleet.root / "second")
    second.base(fingerprint("unused-second"), age=3 * DAY)
    paths = [str(first.instances_path), str(second.instances_path)]
    loop = {
        "loop": paths,
        "loop_control": {"loop_var": "path"},
        "vars": {"image_cache_instances_path": "{{ path }}"},
    }
    run = fleet.play({"tasks": [role("prune", "include_role", **loop)]})
    assert run.status == 0, run.output
    assert (cached(first), cached(second)) == (names("image-a"), set())
    assert len(run.reported["fleet"]["storages"]) == 2
    assert run.reported["fleet"]["summary"]["removed"] == 2


def test_second_run_of_the_role_in_a_play_uses_its_own_answers(fleet: ComputeFleet, shared: CacheTree) -> None:
    dry = role("prune", check_mode=True)
    limited = role("prune", vars={"image_cache_fleet_max_removal_percent": 1})
    run = fleet.play({"tasks": [dry, limited]})
    assert (run.failed, cached(shared)) == ({"a", "c"}, ALL), run.output
    assert len(run.of(LOOK)) == 3
