# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each storage has one pruner, and that one knows what every member needs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.names import fingerprint
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.space import read_space_target, target_bytes
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.answers import AnswerState, HostAnswer
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.cloud import CloudAnswer
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import LIMITS, SPACE_TARGETS
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.storages import (
    Fleet,
    Storage,
    group_into_storages,
    hand_off,
    space_targets,
    storage_id,
)
from ansible_collections.stackops.nova.tests.support.fleet_strategies import (
    GIB,
    HOSTILE,
    NEIGHBOUR,
    NFS,
    answer,
    cloud,
    fleet,
    fleets,
    found,
    registered,
    silent,
)
from ansible_collections.stackops.nova.tests.support.host import Host as RealHost


def members(whole: Fleet) -> list[str]:
    return [storage.names for storage in group_into_storages(whole)]


def only(whole: Fleet) -> Storage:
    [storage] = group_into_storages(whole)
    return storage


def handed(*hosts: HostAnswer, **more: Any) -> dict[str, Any]:
    """What the pruner of the one storage of these hosts is given."""
    whole = fleet(*hosts, **more)
    return hand_off(only(whole), whole)


def uuids(options: dict[str, Any]) -> list[str]:
    return [record["uuid"] for record in options["instances"]]


def images(*ids: str) -> list[dict[str, str]]:
    """These images as the API lists them."""
    return [{"id": image_id, "name": f"name of {image_id}"} for image_id in ids]


def file(name: str, size: int, state: str = "removable") -> dict[str, Any]:
    return {"name": name, "state": state, "reasons": [], "allocated_bytes": size}


class TestMembers:
    def test_local_disk_has_one_member(self) -> None:
        assert members(fleet(answer("a"), answer("b"))) == ["a", "b"]

    def test_hosts_with_one_network_file_system_share_it(self) -> None:
        assert members(fleet(answer("a", NFS), answer("c", "nfs4:elsewhere"), answer("b", NFS))) == ["a, b", "c"]

    def test_hosts_of_a_group_share_a_storage_whatever_their_ids(self) -> None:
        hosts = [answer(name, options={"storage_group": "disk"}) for name in "ab"]
        whole = fleet(*hosts, answer("c"), groups={"disk": ["a", "b"]})
        assert members(whole) == ["a, b", "c"]
        shared, alone = group_into_storages(whole)
        assert (shared.id, shared.group) == ("group:disk:_base", ("a", "b"))
        assert (alone.id, alone.group) == ("ext4:c:8:1:/_base", ())

    def test_group_that_one_member_names_holds_for_all_members(self) -> None:
        whole = fleet(answer("b"), answer("a", options={"storage_group": "disk"}), groups={"disk": ["a", "b"]})
        assert members(whole) == ["b, a"]

    def test_group_splits_hosts_with_one_storage_id(self) -> None:
        hosts = [answer(name, NFS, options={"storage_group": f"of_{name}"}) for name in "ab"]
        assert members(fleet(*hosts, groups={"of_a": ["a"], "of_b": ["b"]})) == ["a", "b"]

    def test_group_that_a_host_names_itself_counts_before_that_of_another_host(self) -> None:
        groups = {"large": ["a", "b"], "small": ["b"]}
        hosts = [answer("a", options={"storage_group": "large"}), answer("b", options={"storage_group": "small"})]
        for order in (hosts, hosts[::-1]):
            assert sorted(members(fleet(*order, groups=groups))) == ["a", "b"]

    def test_group_counts_for_its_members_alone(self) -> None:
        hosts = [answer(name, options={"storage_group": "disk"}) for name in "ab"]
        ids = [storage.id for storage in group_into_storages(fleet(*hosts, groups={"disk": ["a"]}))]
        assert ids == ["group:disk:_base", "ext4:b:8:1:/_base"]

    def test_hosts_without_a_cache_share_nothing(self) -> None:
        storages = group_into_storages(fleet(answer("a", ""), answer("b", "")))
        assert [(storage.names, storage.id) for storage in storages] == [("a", None), ("b", None)]

    def test_one_machine_under_two_names_is_one_storage(self) -> None:
        assert members(fleet(answer("a"), answer("alias", nova_name="a"))) == ["a, alias"]

    def test_host_that_did_not_answer_or_is_in_another_batch_is_no_member(self) -> None:
        assert members(fleet(answer("a", NFS), silent("b"), answer("c", NFS, in_batch=False))) == ["a"]

    def test_storage_id_is_that_of_the_group_or_of_the_file_system(self) -> None:
        assert storage_id(answer("a", NFS), "disk") == "group:disk:_base"
        assert storage_id(answer("a", NFS), "") == NFS
        assert storage_id(answer("b", NEIGHBOUR), "disk") == "group:disk:_base_b"
        assert storage_id(silent("a"), "") is storage_id(answer("a", ""), "") is None


class TestNeighbours:
    """Hosts with caches of their own on shared instances, as with nova's ``_base_$my_ip``."""

    def of_each(self, *hosts: HostAnswer, **more: Any) -> dict[str, list[str]]:
        whole = fleet(*hosts, **more)
        return {storage.names: [host.name for host in storage.neighbours] for storage in group_into_storages(whole)}

    def test_hosts_with_other_caches_on_the_same_instances_are_neighbours(self) -> None:
        hosts = [answer("a", NFS), answer("b", NEIGHBOUR), answer("c", NFS), answer("d", "nfs4:filer:/other:/_base_d")]
        assert self.of_each(*hosts) == {"a, c": ["b"], "b": ["a", "c"], "d": []}

    def test_hosts_of_a_group_with_caches_of_their_own_are_neighbours_whatever_their_ids(self) -> None:
        hosts = [
            answer(name, f"nfs4:{name}:/x:/_base_{name}", options={"storage_group": "disk"}) for name in ("a", "b")
        ]
        assert self.of_each(*hosts, groups={"disk": ["a", "b"]}) == {"a": ["b"], "b": ["a"]}

    def test_host_that_has_no_cache_yet_is_a_neighbour(self) -> None:
        storage = {**found("b", "")["storage"], "instances_id": "nfs4:filer:/instances:"}
        hosts = [answer("a", NFS), answer("b", "", use={}, storage=storage, cache_path="/nova/_base_b")]
        assert self.of_each(*hosts) == {"a": ["b"], "b": []}

    def test_host_with_the_same_cache_under_another_id_is_no_neighbour(self) -> None:
        hosts = [answer("a", NFS, options={"storage_group": "disk"}), answer("b", NFS)]
        assert self.of_each(*hosts, groups={"disk": ["a"]}) == {"a": [], "b": []}

    def test_clouds_of_neighbours_are_asked_too(self) -> None:
        asks = [{"asks_api": True, "region": region} for region in ("north", "south")]
        hosts = [answer("a", NFS, options=asks[0]), answer("b", NEIGHBOUR, options=asks[1])]
        storage = group_into_storages(fleet(*hosts))[0]
        assert (storage.clouds, storage.all_clouds) == ({("", "north")}, {("", "north"), ("", "south")})

    def test_caches_on_local_disks_have_no_neighbours(self) -> None:
        hosts = [answer("a", "ext4:1:/_base"), answer("b", "ext4:1:/_base_b")]
        assert self.of_each(*hosts) == {"a": [], "b": []}

    def test_silent_host_and_one_in_another_batch_are_no_neighbours(self) -> None:
        assert self.of_each(answer("a", NFS), silent("b"), answer("c", NEIGHBOUR, in_batch=False)) == {"a": []}

    def test_pruner_is_given_the_instances_of_neighbours_without_their_images(self) -> None:
        record = {"uuid": "1", "name": "instance-1", "image_ref": "image", "swap_mb": 64, "host": "b"}
        given = {"uuid": "2", "name": "instance-2", "kernel_id": "kernel"}
        options = {"instances_complete_for": ("y",), "records_digest": "2", "instances": (given,)}
        neighbour = answer("b", NEIGHBOUR, use={"instances": [record, record]}, options=options)
        whole = fleet(answer("a", NFS), neighbour)
        assert hand_off(group_into_storages(whole)[0], whole) == {
            "instances_complete_for": ["a", "b", "y"],
            "keep_files": [],
            "keep_images": [],
            "instances": [{"uuid": "2", "name": "instance-2"}, {"uuid": "1", "name": "instance-1"}],
        }

    def test_files_and_limits_of_neighbours_are_of_another_cache(self) -> None:
        own = {"keep_files": ("x",), "keep_images": ("y",), "limits": {"max_removals": 1}}
        neighbour = answer("b", NEIGHBOUR, use={"held": ["z"], "keep_files": ["x"]}, options=own)
        whole = fleet(answer("a", NFS), neighbour)
        options = hand_off(group_into_storages(whole)[0], whole)
        assert (options["keep_files"], options["keep_images"], "max_removals" in options) == ([], [], False)

    def test_servers_of_neighbours_are_handed_off_without_their_images(self) -> None:
        servers = {name: ({"uuid": name, "name": f"of {name}", "image_ref": name},) for name in ("", "a", "b", "z")}
        clouds = {("", ""): CloudAnswer(servers, ({"id": "i", "name": ""},), "")}
        hosts = [answer("a", NFS, options={"asks_api": True}), answer("b", NEIGHBOUR, options={"asks_api": True})]
        whole = fleet(*hosts, clouds=clouds)
        options = hand_off(group_into_storages(whole)[0], whole)
        images = {record["uuid"]: record.get("image_ref") for record in reversed(options["instances"])}
        assert images == {"uuid-b": None, "": "", "a": "a", "b": None}

    def test_servers_of_a_neighbour_that_the_api_does_not_know_may_be_on_any_unclaimed_host(self) -> None:
        clouds = {("", ""): cloud(a=["1"], z=["2"], c=["3"])}
        hosts = [answer("a", NFS), answer("b", NEIGHBOUR, options={"asks_api": True}), answer("c")]
        whole = fleet(*hosts, clouds=clouds)
        options = hand_off(group_into_storages(whole)[0], whole)
        assert uuids(options) == ["uuid-b", "2"]
        assert "glance_images" not in options


class TestFleet:
    def test_host_that_one_host_exempts_is_exempt_by_all_its_names(self) -> None:
        whole = fleet(answer("a", options={"exempt_storage_users": ("nova-b",)}), silent("b", host="nova-b"))
        assert whole.exempt == {"b", "nova-b"}
        assert whole.without_answer == ()

    def test_host_without_answer_is_one_that_is_silent_or_in_another_batch(self) -> None:
        whole = fleet(answer("a"), silent("b"), answer("c", in_batch=False))
        assert [host.name for host in whole.without_answer] == ["b", "c"]

    def test_unclaimed_server_hosts_are_those_of_no_host_of_the_inventory(self) -> None:
        whole = fleet(answer("a", nova_name="nova-a"), groups={"all": ["a", "b"]})
        assert whole.unclaimed(cloud(a=["1"], **{"nova-a": ["2"]}, b=["3"], z=["4"], c=["5"], anywhere=["6"])) == [
            "c",
            "z",
        ]
        assert Fleet((), {}, {}).unclaimed(cloud(a=["1"])) == ["a"]


class TestStorage:
    def test_local_disk_of_one_host_is_not_shared(self) -> None:
        storage = only(fleet(answer("a")))
        assert (storage.is_on_network, storage.needs_hand_off) == (False, False)

    def test_network_file_system_is_shared_even_with_one_member(self) -> None:
        storage = only(fleet(answer("a", NFS)))
        assert storage.is_on_network
        assert not storage.is_one_machine
        assert not storage.needs_hand_off

    def test_one_machine_is_one_name_of_nova_on_a_local_disk_without_a_group(self) -> None:
        assert only(fleet(answer("a"), answer("alias", nova_name="a"))).is_one_machine
        assert not only(fleet(answer("a", NFS), answer("alias", NFS, nova_name="a"))).is_one_machine
        assert not only(fleet(answer("a", "ext4:1"), answer("b", "ext4:1"))).is_one_machine
        in_group = answer("a", options={"storage_group": "disk"})
        assert not only(fleet(in_group, groups={"disk": ["a"]})).is_one_machine

    def test_users_are_those_that_any_member_saw(self) -> None:
        storage = only(fleet(answer("a", NFS, use=registered("a", "x")), answer("b", NFS, use=registered("b"))))
        assert storage.users == {"a", "b", "x"}
        assert storage.is_registered
        assert only(fleet(answer("a", NFS, use=registered("a")))).is_registered
        assert not only(fleet(answer("a", NFS, use=registered("b")))).is_registered
        ahead = [answer(name, NFS, use={"future_users": [user]}) for name, user in ("ax", "by")]
        assert only(fleet(*ahead)).future_users == {"x", "y"}
        local = found("a")
        assert only(fleet(answer("a", storage={**local["storage"], "users": ["y"]}))).users == {"y"}

    def test_pruner_is_the_first_member_that_answered_without_a_failure(self) -> None:
        failed = answer("a", NFS, state=AnswerState.FAILED)
        assert only(fleet(failed, answer("b", NFS), answer("c", NFS))).pruner.name == "b"
        assert only(fleet(failed, answer("b", NFS, state=AnswerState.FAILED))).pruner.name == "a"

    def test_samples_are_those_that_any_member_saw(self) -> None:
        samples = {"a": [1], "b": [1, 2], "c": []}
        hosts = [answer(name, NFS, use={"sample_ids": sample}) for name, sample in samples.items()]
        assert only(fleet(*hosts)).samples == {frozenset({1}), frozenset({1, 2})}
        assert only(fleet(answer("a"))).samples == frozenset()
        assert only(fleet(*hosts[:2])).samples == {frozenset({1}), frozenset({1, 2})}

    def test_bytes_of_a_storage_are_those_that_its_pruner_reports(self) -> None:
        storage = only(fleet(answer("a", cached=3, removable=2)))
        assert (storage.cached_bytes, storage.reclaimable_bytes) == (3, 2)

    def test_reclaimable_bytes_of_one_host_are_those_that_its_limits_leave(self) -> None:
        summary = {**found("a", cached=9, removable=5)["summary"], "reclaimable_bytes": 1}
        assert only(fleet(answer("a", summary=summary))).reclaimable_bytes == 1
        shared = [answer(name, NFS, summary=summary) for name in "ab"]
        assert only(fleet(*shared)).reclaimable_bytes == 5

    def test_reclaimable_bytes_are_of_deleted_images_alone_where_no_others_are_removed(self) -> None:
        sizes = {fingerprint("listed"): 1, f"{fingerprint('listed')}_10": 2, fingerprint("deleted"): 4, "swap_1": 8}
        sizes |= {"swap_2.part": 16, fingerprint("LISTED"): 32}
        files = [{"name": name, "state": "removable", "reasons": [], "allocated_bytes": n} for name, n in sizes.items()]
        clouds = {("", ""): cloud(a=["1"], images=["listed"])}
        for only_deleted, reclaimable in ((False, 63), (True, 4)):
            policy = {"remove_only_deleted_images": only_deleted}
            asking = answer("a", files=files, policy=policy, options={"asks_api": True})
            assert only(fleet(asking, clouds=clouds)).reclaimable_bytes == reclaimable

    def test_reclaimable_bytes_are_those_that_all_members_count_as_removable(self) -> None:
        young = file("w", 7, "too_young")
        one = answer("a", NFS, files=[file("x", 2), file("y", 3), file("z", 5, "active"), young], removable=99)
        other = answer("b", NFS, files=[file("x", 2), file("y", 3, "active"), file("z", 5), young], removable=99)
        assert only(fleet(one, other)).reclaimable_bytes == 2
        assert only(fleet(one, answer("b", NFS, removable=7))).reclaimable_bytes == 99


class TestHandOff:
    def test_host_alone_with_its_storage_knows_all(self) -> None:
        assert handed(answer("a", options={"keep_files": ("x",), "instances_complete_for": ("z",)})) == {}
        assert handed(answer("a", NFS, use=registered("a", "z"), options={"exempt_storage_users": ("z",)})) == {}

    def test_host_alone_with_its_storage_is_given_whom_another_host_exempts(self) -> None:
        whole = fleet(answer("a", NFS, use=registered("a", "z")), answer("b", options={"exempt_storage_users": ("z",)}))
        shared, local = group_into_storages(whole)
        assert hand_off(shared, whole) == {"instances_complete_for": ["a", "z"]}
        assert hand_off(local, whole) == {}

    def test_pruner_is_given_the_instances_of_the_others(self) -> None:
        options = handed(*(answer(name, NFS, nova_name=f"nova-{name}") for name in "abc"))
        assert options == {
            "instances_complete_for": ["nova-a", "nova-b", "nova-c"],
            "keep_files": [],
            "keep_images": [],
            "instances": [{"uuid": "uuid-nova-b"}, {"uuid": "uuid-nova-c"}],
        }

    def test_pruner_is_given_the_instances_of_a_member_before_it(self) -> None:
        assert uuids(handed(answer("a", NFS, state=AnswerState.FAILED), answer("b", NFS))) == ["uuid-a"]

    def test_pruner_keeps_what_any_member_keeps_or_holds(self) -> None:
        options = handed(
            answer("a", NFS, use={"held": ["own"]}, options={"keep_files": ("k",), "keep_images": ("i",)}),
            answer("b", NFS, use={"held": ["y", "k"], "keep_files": ["z"], "keep_images": ["j"]}),
            answer("c", NFS, options={"keep_files": ("x",), "keep_images": ("i", "l")}),
        )
        assert options["keep_files"] == ["k", "x", "z", "y"]
        assert [image["id"] for image in options["keep_images"]] == ["i", "l", "j"]

    def test_pruner_keeps_what_a_member_names_by_the_names_of_its_own_cloud(self) -> None:
        options = {"asks_api": True, "region": "north", "keep_image_names": ("name of i",)}
        hosts = (answer("a", NFS), answer("b", NFS, options=options))
        clouds = {("", "north"): cloud(images=["i", "j"], b=["1"])}
        assert handed(*hosts, clouds=clouds)["keep_images"] == [{"id": "i"}]

    def test_instances_are_complete_for_members_and_for_those_that_any_of_them_names(self) -> None:
        options = handed(
            answer("a", NFS, nova_name="nova-a", options={"instances_complete_for": ("y",)}),
            answer("b", NFS, options={"instances_complete_for": ("z",), "exempt_storage_users": ("gone",)}),
        )
        assert options["instances_complete_for"] == ["b", "gone", "nova-a", "y", "z"]

    def test_instances_that_the_operator_gave_other_members_are_handed_off_once(self) -> None:
        for known, other in (("one", "two"), ("two", "one")):
            hosts = [
                answer(
                    name,
                    NFS,
                    use={"instances": []},
                    options={"records_digest": f"of {uuid}", "instances": ({"uuid": uuid},)},
                )
                for name, uuid in {"a": known, "b": known, "c": other, "d": other}.items()
            ]
            assert uuids(handed(*hosts)) == [other]

    def test_one_machine_under_two_names_knows_its_instances(self) -> None:
        options = handed(
            answer("a", options={"limits": {"max_removals": 5}}),
            answer("alias", nova_name="a", options={"keep_files": ("x",), "limits": {"max_removals": 3}}),
        )
        assert options == {"instances_complete_for": ["a"], "keep_files": ["x"], "keep_images": [], "max_removals": 3}

    def test_clones_of_one_machine_are_given_each_others_instances(self) -> None:
        assert handed(answer("a", "ext4:1"), answer("b", "ext4:1"))["instances"] == []

    def test_module_takes_what_is_handed_off(self, host: RealHost) -> None:
        base = host.base("swap_64", age=1 << 20)
        host.domain_xml("uuid-b", "instance-b", "image-b", swap=64)
        hosts = [
            HostAnswer(
                name,
                AnswerState.ANSWERED,
                image_cache=host.audit(libvirt=True, shared_storage=True, host=name, **more).facts,
            )
            for name, more in {"a": {"libvirt_config_path": str(host.locks_path)}, "b": {}}.items()
        ]
        options = handed(*hosts)
        assert "swap_64" not in host.prune(host="a", check_mode=True, **options).done["removed"]
        assert host.prune(host="a", check_mode=True).done["removed"] == [base.name]


class TestLimits:
    @pytest.mark.parametrize(
        ("of_a", "of_b", "strictest"),
        [
            ({}, {}, {}),
            ({"max_removals": 5}, {}, {"max_removals": 5}),
            ({}, {"max_removals": 0}, {"max_removals": 0}),
            ({"max_removals": 5}, {"max_removals": 4}, {"max_removals": 4}),
            ({"max_removal_percent": 4}, {"max_removals": 5}, {"max_removal_percent": 4, "max_removals": 5}),
            ({"max_removal_percent": 4}, {"max_removal_percent": 5}, {"max_removal_percent": 4}),
            ({"max_used_space": 4}, {"max_used_space": 5}, {"max_used_space": 5}),
            ({"min_free_space": 4}, {"min_free_space": 5}, {"min_free_space": 4}),
            ({"max_used_space": 4}, {}, {"max_used_space": 4}),
            ({"max_used_space": 4}, {"min_free_space": 5}, {}),
            ({"max_used_space": 4, "min_free_space": 6}, {"min_free_space": 5}, {"min_free_space": 5}),
            # The storage of these hosts has 500 GiB.
            ({"max_used_space": "10%"}, {"max_used_space": "9%"}, {"max_used_space": "10%"}),
            ({"max_used_space": "10%"}, {"max_used_space": 50 * GIB + 1}, {"max_used_space": 50 * GIB + 1}),
            ({"max_used_space": "10%"}, {"max_used_space": 50 * GIB - 1}, {"max_used_space": "10%"}),
            ({"min_free_space": "10%"}, {"min_free_space": "9%"}, {"min_free_space": "9%"}),
            ({"min_free_space": "10%"}, {"min_free_space": 50 * GIB + 1}, {"min_free_space": "10%"}),
            ({"min_free_space": "10%"}, {"min_free_space": 50 * GIB - 1}, {"min_free_space": 50 * GIB - 1}),
            ({"max_used_space": "10%"}, {"min_free_space": "10%"}, {}),
        ],
    )
    def test_limit_of_a_storage_is_the_strictest_of_any_member(
        self, of_a: dict[str, Any], of_b: dict[str, Any], strictest: dict[str, Any]
    ) -> None:
        hosts = [answer(name, NFS, options={"limits": own}) for name, own in {"a": of_a, "b": of_b}.items()]
        for order in (hosts, hosts[::-1]):
            options = handed(*order)
            given = {name: options[name] for name in (*LIMITS, *SPACE_TARGETS) if name in options}
            assert {name: limit for name, limit in given.items() if limit is not None} == strictest
            assert given.keys() >= order[0].options.limits.keys()  # what the pruner has alone is taken from it

    @pytest.mark.parametrize(
        ("targets", "loosest"), [(["99%", 4, 5], 5), ([4, "99%"], 4), (["99%", "98%"], "99%"), (["98%"], "98%")]
    )
    def test_percentage_of_an_unknown_size_is_no_target_beside_bytes(
        self, targets: list[int | str], loosest: int | str
    ) -> None:
        hosts = [
            answer(f"host-{number}", NFS, options={"limits": {"max_used_space": target}})
            for number, target in enumerate(targets)
        ]
        for host in hosts:
            assert host.image_cache is not None
            host.image_cache["storage"].update(free_bytes=None, total_bytes=None)
        assert handed(*hosts, answer("other", NFS))["max_used_space"] == loosest

    def test_space_targets_of_members_are_those_that_all_with_any_have(self) -> None:
        both, one, none = (
            answer("a", options={"limits": own})
            for own in ({"max_used_space": 1, "min_free_space": 1}, {"max_used_space": 1}, {"max_removals": 1})
        )
        assert space_targets([]) == space_targets([none]) == []
        assert space_targets([both, none]) == ["max_used_space", "min_free_space"]
        assert space_targets([both, none, one]) == ["max_used_space"]


class TestCloud:
    KEY = ("", "")

    def test_pruner_is_given_the_servers_of_its_own_storage(self) -> None:
        options = {"asks_api": True}
        clouds = {self.KEY: cloud(a=["1"], b=["2"], c=["3"], anywhere=["0"], images=["image"])}
        whole = fleet(answer("a", options=options), answer("b", options=options), answer("c"), clouds=clouds)
        handed_off = [hand_off(storage, whole) for storage in group_into_storages(whole)]
        assert [uuids(options) for options in handed_off[:2]] == [["0", "1"], ["0", "2"]]
        assert handed_off[2] == {}
        assert handed_off[0]["instances_complete_for"] == ["a"]

    def test_servers_that_the_api_has_under_the_inventory_name_of_a_host_are_handed_off(self) -> None:
        clouds = {self.KEY: cloud(a=["1"], b=["2"])}
        options = handed(answer("a", nova_name="nova-a", options={"asks_api": True}), clouds=clouds)
        assert uuids(options) == ["1"]

    def test_images_of_glance_are_handed_off_with_their_names(self) -> None:
        options = handed(answer("a", options={"asks_api": True}), clouds={self.KEY: cloud(images=["i", "j"])})
        assert options["glance_images"] == images("i", "j")

    def test_hosts_of_two_clouds_have_the_servers_and_images_of_their_own(self) -> None:
        hosts = [
            answer("a", options={"asks_api": True, "cloud": "one", "region": "r"}),
            answer("b", options={"asks_api": True, "cloud": "two"}),
        ]
        clouds = {
            ("one", "r"): cloud(a=["1"], b=["x"], images=["i"]),
            ("two", ""): cloud(b=["2"], a=["x"], images=["j"]),
        }
        whole = fleet(*hosts, clouds=clouds)
        first, second = (hand_off(storage, whole) for storage in group_into_storages(whole))
        assert (uuids(first), first["glance_images"]) == (["1"], images("i"))
        assert (uuids(second), second["glance_images"]) == (["2"], images("j"))

    def test_storage_of_two_clouds_has_the_servers_and_images_of_both(self) -> None:
        hosts = [answer(name, NFS, options={"asks_api": True, "cloud": name}) for name in "ab"]
        clouds = {("a", ""): cloud(a=["1"], images=["i"]), ("b", ""): cloud(b=["2"], images=["j"])}
        options = handed(*hosts, clouds=clouds)
        assert (uuids(options), options["glance_images"]) == (["uuid-b", "1", "2"], images("i", "j"))

    def test_servers_of_hosts_that_share_the_storage_without_being_members_are_handed_off(self) -> None:
        options = handed(
            answer("a", NFS, use=registered("a", "u"), options={"asks_api": True, "exempt_storage_users": ("e",)}),
            clouds={self.KEY: cloud(a=["1"], u=["2"], e=["3"], z=["4"], anywhere=["0"])},
        )
        assert uuids(options) == ["0", "1", "3", "2"]

    def test_servers_of_unclaimed_hosts_are_those_of_a_host_that_the_api_does_not_know(self) -> None:
        hosts = [answer(name, options={"asks_api": True}) for name in ("a", "b.example.org")]
        clouds = {self.KEY: cloud(a=["1"], B=["2"], c=["3"], anywhere=["0"])}
        whole = fleet(*hosts, groups={"all": ["a", "b.example.org", "c"]}, clouds=clouds)
        assert [uuids(hand_off(storage, whole)) for storage in group_into_storages(whole)] == [["0", "1"], ["0", "2"]]

    def test_one_machine_under_two_names_is_given_the_servers_of_the_api(self) -> None:
        hosts = [answer("a", options={"asks_api": True}), answer("alias", nova_name="a", options={"asks_api": True})]
        assert uuids(handed(*hosts, clouds={self.KEY: cloud(a=["1"])})) == ["1"]


class TestText:
    @pytest.mark.parametrize("text", HOSTILE)
    def test_text_of_hosts_and_apis_is_handed_off_unchanged(self, text: str) -> None:
        record = {"uuid": text, "name": text}
        hosts = [
            answer("a", NFS, options={"asks_api": True}),
            answer("b", NFS, use={"held": [text], "instances": [record], "keep_images": [text]}),
        ]
        clouds = {("", ""): CloudAnswer({"a": (record,)}, ({"id": text, "name": text},), "")}
        options = handed(*hosts, clouds=clouds)
        assert options["keep_files"] == [text]
        assert options["glance_images"] == [{"id": text, "name": text}]
        assert options["keep_images"] == [{"id": text}]
        assert options["instances"] == [record, record]


def in_bytes(target: int | str, storage: Storage) -> float:
    size = target_bytes(read_space_target("", target), storage.total_bytes)
    assert size is not None
    return size


@hypothesis_settings(max_examples=300)
@given(fleets())
def test_every_member_is_in_one_storage_and_its_use_in_the_hand_off(whole: Fleet) -> None:
    storages = group_into_storages(whole)
    names = [host.name for storage in storages for host in storage.members]
    assert sorted(names) == sorted(host.name for host in whole.hosts if host.image_cache is not None and host.in_batch)
    assert len({storage.id for storage in storages} - {None}) == sum(storage.id is not None for storage in storages)
    for storage in storages:
        assert storage.pruner in storage.members
        options = hand_off(storage, whole)
        if not storage.needs_hand_off:
            assert set(options) <= {"instances_complete_for"}
            continue
        assert storage.nova_names | whole.exempt <= set(options["instances_complete_for"])
        for host in storage.members:
            assert set(host.options.keep_files) <= set(options["keep_files"])
            kept = {image["id"] for image in options["keep_images"]}
            assert {*host.options.keep_images, *whole.images_kept_by_name(host)[0]} <= kept
            for name in LIMITS:
                assert name not in host.options.limits or options[name] <= host.options.limits[name]
            own = host.options.limits
            if options.get("max_used_space") is not None and "max_used_space" in own:
                assert in_bytes(options["max_used_space"], storage) >= in_bytes(own["max_used_space"], storage)
            if options.get("min_free_space") is not None and "min_free_space" in own:
                assert in_bytes(options["min_free_space"], storage) <= in_bytes(own["min_free_space"], storage)
            if host.options.asks_api:
                servers = whole.clouds[host.options.cloud, host.options.region].instances
                assert all(record in options["instances"] for name in host.names for record in servers.get(name, ()))
                assert all(record in options["instances"] for record in servers.get("", ()))
            if host is storage.pruner:
                continue
            use = host.for_members
            assert {*use.get("held", ()), *use.get("keep_files", ())} <= set(options["keep_files"])
            assert kept >= set(use.get("keep_images", ()))
            if not storage.is_one_machine:
                assert all(record in options["instances"] for record in use.get("instances", ()))
        for host in storage.neighbours:
            assert host.nova_name in options["instances_complete_for"]
            assert {record["uuid"] for record in host.for_members.get("instances", ())} <= set(uuids(options))
