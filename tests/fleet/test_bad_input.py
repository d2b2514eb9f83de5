# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever a variable holds or a host is, a sentence says what is wrong, and nothing is removed on a wrong basis."""

from __future__ import annotations

import subprocess

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import (
    FAILING,
    ComputeFleet,
    cached,
    names,
    role,
)
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree, fingerprint

ALL = names("image-a", "image-b", "unused-a", "unused-b")
USED = names("image-a", "image-b")

# A variable, an invalid value, and what the message has to say.
INVALID = (
    ("image_cache_keep_flies", ["x"], "has no variable image_cache_keep_flies"),
    ("image_cache_instances_paht", "/somewhere", "If the variable is your own, registered"),
    ("image_cache_keep_images", None, "image_cache_keep_images is null"),
    ("image_cache_keep_files", {"a": 1}, "image_cache_keep_files is {'a': 1} and must be a list"),
    ("image_cache_instance_source", "nova", "image_cache_instance_source"),
    ("image_cache_instance_source", "provided", "Set image_cache_instances."),
    ("image_cache_instances", [{"name": "x"}], "image_cache_instances[0] cannot be understood"),
    ("image_cache_instances", "text", "image_cache_instances[0] cannot be understood"),
    ("image_cache_storage_group", "shraing", "The inventory has no such group"),
    ("image_cache_storage_group", ["a"], "image_cache_storage_group is list"),
    ("image_cache_prune", "perhaps", "which is neither true nor false"),
    ("image_cache_max_removals", "many", "image_cache_max_removals is 'many'"),
    ("image_cache_fleet_max_removal_percent", 101, "image_cache_fleet_max_removal_percent is 101"),
    ("image_cache_fleet_max_removal_percent", "nan", "image_cache_fleet_max_removal_percent is 'nan'"),
    ("image_cache_keep_files", "{{ 1 // 0 }}", "image_cache_keep_files"),
    ("image_cache_remove_unused_original_minimum_age_seconds", "2026-01-01", "minimum_age_seconds"),
)


def test_invalid_variable_of_a_host_stops_that_host_only(fleet: ComputeFleet) -> None:
    for number, (variable, value, _words) in enumerate(INVALID):
        fleet.add(f"host{number}", **{variable: value})
    fleet.add("good")
    task = role("prune")
    task["ansible.builtin.import_role"]["rolespec_validate"] = False
    # A limit that cannot be read stops the whole fleet, so its hosts are in a play of their own.
    limits = {f"host{number}" for number, row in enumerate(INVALID) if "fleet_max" in row[0]}
    run = fleet.play({"hosts": ":".join(["compute", *(f"!{host}" for host in sorted(limits))]), "tasks": [task]})
    assert run.changed == {"good"}, run.output
    stopped = fleet.play({"hosts": ",".join([*sorted(limits), "good"]), "tasks": [task]})
    for number, (variable, value, words) in enumerate(INVALID):
        host = f"host{number}"
        said = (stopped if host in limits else run).messages.get(host, "")
        assert words in said, (variable, value, said)
        assert "Traceback" not in said
        assert len(fleet.cached(host)) == 2


@pytest.mark.slow
def test_limit_of_the_fleet_that_cannot_be_read_stops_the_fleet(fleet: ComputeFleet, shared: CacheTree) -> None:
    fleet.hosts["b"]["image_cache_fleet_max_removal_percent"] = "{{ 1 // 0 }}"
    run = fleet.prune()
    assert (run.status != 0, run.changed, cached(shared)) == (True, set(), ALL), run.output


def test_list_as_text_protects_in_a_prune_as_in_an_audit(fleet: ComputeFleet, shared: CacheTree) -> None:
    run = fleet.prune(image_cache_keep_images="unused-a,unused-c", image_cache_glance_images="unused-a,unused-c")
    assert (run.status, cached(shared)) == (0, USED | names("unused-a")), run.output
    assert len(fleet.cached("c")) == 2


def test_text_of_a_vault_protects_what_it_names(fleet: ComputeFleet, shared: CacheTree) -> None:
    password, variables = fleet.root / "password", fleet.root / "variables.yml"
    password.write_text("secret")
    command = ["ansible-vault", "encrypt_string", "--vault-password-file", str(password), "unused-a"]
    vaulted = subprocess.run(command, capture_output=True, check=True, encoding="utf-8").stdout
    variables.write_text("image_cache_keep_images:\n  - " + vaulted.strip().replace("\n", "\n    ") + "\n")
    fleet.variables["image_cache_glance_images"] = ["unused-a"]
    run = fleet.prune("--extra-vars", f"@{variables}", "--vault-password-file", str(password))
    assert (run.status, cached(shared)) == (0, USED | names("unused-a")), run.output


@pytest.mark.slow
def test_storage_group_that_is_null_stops_its_hosts(fleet: ComputeFleet, shared: CacheTree) -> None:
    for host in "ab":
        fleet.hosts[host]["image_cache_storage_group"] = None
    run = fleet.prune()
    assert run.failed >= {"a", "b"}, run.output
    assert cached(shared) == ALL


@pytest.mark.slow
def test_storage_group_that_differs_by_host_in_the_play_is_checked(fleet: ComputeFleet) -> None:
    tree = fleet.add("a")
    fleet.add("b")
    group = "{{ (inventory_hostname == 'a') | ternary('shraing', 'compute') }}"
    run = fleet.play({"vars": {"image_cache_storage_group": group}, "tasks": [role("prune")]})
    assert "shraing" in run.messages["a"], run.output
    assert len(cached(tree)) == 2


def test_host_names_with_special_characters_are_pruned_or_refused_in_words(fleet: ComputeFleet) -> None:
    trees = {}
    for number, name in enumerate(["my host", "a{b}c", 'quote"d', "it's", "plain"]):
        trees[name] = fleet.add(f"special{number}")
        fleet.hosts[name] = fleet.hosts.pop(f"special{number}")
    run = fleet.prune()
    assert run.changed >= {"plain"}, run.output
    assert "Traceback" not in run.output
    for name, tree in trees.items():
        assert len(cached(tree)) == 1 or name in run.messages


@pytest.mark.slow
def test_host_without_python_fails_by_itself(fleet: ComputeFleet, shared: CacheTree) -> None:
    fleet.hosts["c"]["ansible_python_interpreter"] = "/no/such/python"
    run = fleet.prune()
    assert (run.failed | run.unreachable, run.changed, cached(shared)) == ({"c"}, {"a"}, USED), run.output
    (error,) = [host["error"] for host in run.reported["fleet"]["hosts"] if host["name"] == "c"]
    assert "/no/such/python" in error


@pytest.mark.slow
def test_directory_that_does_not_exist_is_reported_with_its_path(fleet: ComputeFleet, shared: CacheTree) -> None:
    fleet.hosts["c"].update(FAILING)
    run = fleet.prune()
    assert (run.failed, run.changed, cached(shared)) == ({"c"}, {"a"}, USED), run.output
    assert "/no/such/path" in run.messages["c"]


@pytest.mark.slow
def test_module_result_that_is_not_ours_is_no_answer(fleet: ComputeFleet, shared: CacheTree) -> None:
    liar = fleet.root / "liar"
    liar.write_text('#!/bin/sh\ncat > /dev/null\necho \'{"image_cache": {"exists": "perhaps"}, "changed": false}\'\n')
    liar.chmod(0o755)
    fleet.hosts["b"]["ansible_python_interpreter"] = str(liar)
    run = fleet.prune()
    assert (run.changed, cached(shared)) == ({"c"}, ALL), run.output
    assert "b shares this storage" in run.messages["a"]


def test_nova_keeps_a_file_that_only_an_unlisted_name_uses(fleet: ComputeFleet) -> None:
    tree = fleet.add("a")
    tree.instance("unlisted", {"disk": fingerprint("unused-a")})
    run = fleet.prune()
    assert (run.status, len(fleet.cached("a"))) == (0, 2), run.output
