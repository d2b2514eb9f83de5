# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role promises to whoever has many hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fleet import UNREACHABLE, Fleet, cached, names, picture

from ansible_collections.stackops.nova.tools.cache_tree import CacheTree

FAILING = {"image_cache_instances_path": "/no/such/path"}
ALL = names("image-a", "image-b", "unused-a", "unused-b")
USED = names("image-a", "image-b")


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
    def test_it_is_pruned_once_with_the_instances_of_all(self, fleet: Fleet, shared: CacheTree) -> None:
        run = fleet.run()
        assert run.status == 0, run.output
        assert run.changed == {"a", "c"}
        assert cached(shared) == USED
        assert alone(fleet) == names("image-c")

    def test_a_dry_run_says_the_same_and_writes_nothing(self, fleet: Fleet, shared: CacheTree) -> None:
        before = [picture(tree) for tree in (shared.root, fleet.root / "b", fleet.root / "c")]
        run = fleet.run("--check", "--diff")
        assert (run.status, run.changed) == (0, {"a", "c"})
        assert {line[1:41] for line in run.output.splitlines() if line.startswith("-") and line[1:41].isalnum()} == (
            names("unused-a", "unused-b", "unused-c")
        )
        assert [picture(tree) for tree in (shared.root, fleet.root / "b", fleet.root / "c")] == before

    def test_a_second_run_changes_nothing(self, fleet: Fleet, shared: CacheTree) -> None:
        fleet.run()
        run = fleet.run()
        assert (run.status, run.changed, cached(shared)) == (0, set(), USED)


class TestAHostThatDoesNotAnswer:
    """Its store is refused, by name; the others are pruned all the same."""

    @pytest.mark.parametrize("trouble", [UNREACHABLE, FAILING], ids=["unreachable", "failed"])
    def test_its_store_is_left_alone(self, fleet: Fleet, shared: CacheTree, trouble: dict[str, Any]) -> None:
        fleet.hosts["b"].update(trouble)
        run = fleet.run()
        assert run.status != 0
        assert run.failed | run.unreachable == {"a", "b"}
        assert "b shares this storage and could not be audited" in run.messages["a"]
        assert "image_cache_ignore_storage_users" in run.messages["a"]
        assert cached(shared) == ALL
        assert alone(fleet) == names("image-c")

    @pytest.mark.parametrize("name", ["b", "nova-b"])
    def test_unless_the_operator_says_that_it_is_gone(self, fleet: Fleet, shared: CacheTree, name: str) -> None:
        fleet.hosts["b"].update(UNREACHABLE)
        run = fleet.run(image_cache_ignore_storage_users=[name])
        assert (run.failed, run.unreachable) == (set(), {"b"})
        assert cached(shared) == names("image-a")

    def test_nor_may_it_be_left_out_of_the_play(self, fleet: Fleet, shared: CacheTree) -> None:
        run = fleet.run("--limit", "a,c")
        assert run.failed == {"a"}
        assert "b shares this storage" in run.messages["a"]
        assert "not in this play" in run.messages["a"]
        assert cached(shared) == ALL
        assert alone(fleet) == names("image-c")

    def test_a_limit_to_others_is_no_matter(self, fleet: Fleet, shared: CacheTree) -> None:
        run = fleet.run("--limit", "c")
        assert (run.status, run.changed) == (0, {"c"})
        assert cached(shared) == ALL

    def test_one_that_nova_saw_there_is_named(self, fleet: Fleet, shared: CacheTree) -> None:
        shared.compute_nodes({"nova-a": shared.now, "nova-b": shared.now, "nova-x": shared.now})
        run = fleet.run()
        assert run.failed == {"a"}
        assert "nova saw host nova-x use this storage" in run.messages["a"]
        assert cached(shared) == ALL
        assert fleet.run(image_cache_ignore_storage_users=["nova-x"]).status == 0
        assert cached(shared) == USED

    def test_one_whose_use_is_not_known_is_named(self, fleet: Fleet, shared: CacheTree) -> None:
        (fleet.root / "b" / "libvirt" / "broken.xml").write_text("<domain>")
        run = fleet.run()
        assert run.failed == {"a"}
        assert "On b: " in run.messages["a"]
        assert "broken.xml" in run.messages["a"]
        assert cached(shared) == ALL


class TestHostsThatContradictEachOther:
    def test_other_files_in_what_should_be_one_store(self, fleet: Fleet) -> None:
        trees = [fleet.add("a"), fleet.add("b")]
        fleet.share("a", "b")
        run = fleet.run()
        assert run.failed == {"a"}
        assert "b and a should share this storage, and have different files" in run.messages["a"]
        assert [len(cached(tree)) for tree in trees] == [2, 2]

    def test_another_instances_path(self, fleet: Fleet, shared: CacheTree) -> None:
        (fleet.root / "elsewhere").symlink_to(shared.instances_path)
        fleet.hosts["b"]["image_cache_instances_path"] = str(fleet.root / "elsewhere")
        run = fleet.run()
        assert run.failed == {"a"}
        assert f"b has this storage at {fleet.root}/elsewhere/_base and a at" in run.messages["a"]
        assert cached(shared) == ALL

    def test_a_store_that_is_not_mounted_on_one(self, fleet: Fleet, shared: CacheTree) -> None:
        (fleet.root / "empty").mkdir()
        fleet.hosts["b"]["image_cache_instances_path"] = str(fleet.root / "empty")
        run = fleet.run()
        assert run.failed == {"a"}
        assert f"b should share this storage, and has no {fleet.root}/empty/_base" in run.messages["a"]
        assert cached(shared) == ALL


class TestAPlayThatGoesOn:
    def test_where_it_cannot_be_found_out_who_shares_nothing_goes(self, fleet: Fleet, shared: CacheTree) -> None:
        fleet.hosts["b"]["image_cache_keep_files"] = "{{ not_there }}"
        run = fleet.run(play={"ignore_errors": True})
        assert run.changed == set()
        assert "It was not found out who shares this storage" in run.messages["c"]
        assert (cached(shared), len(alone(fleet))) == (ALL, 2)

    def test_what_is_cached_of_a_host_that_was_not_reached_does_not_count(
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


class TestBatches:
    def test_a_store_waits_for_the_last_of_its_hosts(self, fleet: Fleet, shared: CacheTree) -> None:
        run = fleet.run(play={"serial": 1})
        assert run.status == 0, run.output
        assert run.changed == {"b", "c"}
        assert cached(shared) == USED
        assert alone(fleet) == names("image-c")

    def test_a_host_that_failed_earlier_still_counts(self, fleet: Fleet, shared: CacheTree) -> None:
        fleet.hosts = {name: fleet.hosts[name] for name in "cab"}
        fleet.hosts["a"].update(UNREACHABLE)
        run = fleet.run(play={"serial": 2})
        assert (run.failed, run.unreachable) == ({"b"}, {"a"})
        assert "a shares this storage" in run.messages["b"]
        assert cached(shared) == ALL

    def test_it_does_not_matter_how_many_at_a_time(self, fleet: Fleet, shared: CacheTree) -> None:
        assert fleet.run("--forks", "1").status == 0
        assert cached(shared) == USED

    def test_the_role_may_run_twice_in_a_playbook(self, fleet: Fleet, shared: CacheTree) -> None:
        """What one play found out is not taken for what the next has to know."""
        first = {"hosts": "compute", "gather_facts": False, "roles": [{"role": "stackops.nova.image_cache"}]}
        fleet.run(play=first)
        fleet.hosts["c"].update(UNREACHABLE)
        run = fleet.run(play={"hosts": "compute"})
        assert (run.failed, run.unreachable, cached(shared)) == (set(), {"c"}, USED)


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

    def test_its_share_does(self, fleet: Fleet, shared: CacheTree) -> None:
        assert fleet.run(image_cache_fleet_max_removal_percent=50).status == 0
        assert cached(shared) == USED


class TestWhereInstancesComeFrom:
    def test_provided_ones_must_be_there(self, fleet: Fleet, shared: CacheTree) -> None:
        run = fleet.run(image_cache_instance_source="provided")
        assert run.failed == {"a", "b", "c"}
        assert "image_cache_instances" in run.messages["a"]
        assert cached(shared) == ALL

    def test_and_are_enough(self, fleet: Fleet, shared: CacheTree) -> None:
        given = [{"uuid": "given", "image_ref": "unused-a", "host": "nova-b"}]
        run = fleet.run(image_cache_instance_source="provided", image_cache_instances=given, image_cache_libvirt=False)
        assert run.status == 0, run.output
        assert cached(shared) == names("unused-a")

    def test_another_source_than_there_is(self, fleet: Fleet, shared: CacheTree) -> None:
        run = fleet.run(image_cache_instance_source="nova")
        assert run.failed == {"a", "b", "c"}
        assert "openstack" in run.messages["a"]
        assert cached(shared) == ALL

    def test_a_group_that_does_not_exist(self, fleet: Fleet, shared: CacheTree) -> None:
        fleet.hosts["c"]["image_cache_storage_group"] = "shraing"
        run = fleet.run()
        assert run.failed == {"c"}
        assert "shraing" in run.messages["c"]
        assert cached(shared) == USED
