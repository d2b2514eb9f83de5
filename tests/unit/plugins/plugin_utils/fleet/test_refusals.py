# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A storage is not pruned while one of its hosts may need what is unknown, each reason by name and with its remedy."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.answers import AnswerState, HostAnswer
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import variable_of
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.refusals import refusals
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.storages import Fleet, group_into_storages
from ansible_collections.stackops.nova.tests.support.fleet_strategies import (
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

EXEMPT = (
    "If it needs nothing of this storage any more, name it in image_cache_exempt_storage_users. If it never shared it, "
    "set image_cache_storage_group for the hosts that do."
)
UNREGISTERED = "The storage of {} is shared, and nova keeps no record there (compute_nodes) of who uses it"


def all_reasons(*hosts: HostAnswer, **more: Any) -> dict[str, list[str]]:
    """Why each storage must not be pruned, by its members."""
    whole = fleet(*hosts, **more)
    storages = group_into_storages(whole)
    return {storage.names: list(refusals(storage, whole, storages)) for storage in storages}


def reasons(*hosts: HostAnswer, **more: Any) -> list[str]:
    """Why the first storage must not be pruned."""
    return next(iter(all_reasons(*hosts, **more).values()))


def registering(name: str, *users: str, options: dict[str, Any] | None = None, **use: Any) -> HostAnswer:
    """A host on shared storage in which nova keeps a record of these users."""
    return answer(name, NFS, use=registered(*users, **use), options=options)


def pair(**use: Any) -> tuple[HostAnswer, HostAnswer]:
    """Two hosts on one shared storage; the second one reports this besides."""
    return registering("a", "a", "b"), registering("b", "a", "b", **use)


def grouped(*names: str, storage: str | None = NFS, **options: Any) -> list[HostAnswer]:
    return [answer(name, storage, options={"storage_group": "disk", **options}) for name in names]


class TestUnknownMembers:
    def test_storage_all_of_whose_hosts_answered_is_not_refused(self) -> None:
        assert reasons(*pair()) == []
        assert reasons(answer("a")) == reasons(registering("a", "a")) == []

    @pytest.mark.parametrize("state", [AnswerState.UNREACHABLE, AnswerState.FAILED, AnswerState.NOT_LOOKED_AT])
    def test_host_that_did_not_answer_may_share_a_network_file_system(self, state: AnswerState) -> None:
        said = reasons(answer("a", NFS), silent("b", state))
        assert said[0] == (
            "b may share this storage and did not answer, so what it needs is unknown. Run the play on it as well. "
            + EXEMPT
        )
        assert said[1].startswith(UNREGISTERED.format("a"))
        assert len(said) == 2

    def test_host_that_failed_in_an_earlier_batch_did_not_answer(self) -> None:
        (reason, _unregistered) = reasons(answer("a", NFS), silent("b", AnswerState.FAILED, in_batch=False))
        assert reason.startswith("b may share this storage and did not answer")

    @pytest.mark.parametrize(
        "host", [silent("b", AnswerState.NOT_LOOKED_AT, in_batch=False), answer("b", NFS, in_batch=False)]
    )
    def test_host_of_another_batch_is_named_with_serial(self, host: HostAnswer) -> None:
        assert reasons(answer("a", NFS), host)[0] == (
            "b may share this storage and is not in this batch of the play. Run the play without serial, or with all "
            "hosts of the storage in one batch."
        )

    def test_host_that_failed_in_another_batch_did_not_answer(self) -> None:
        assert (
            "b may share this storage and did not answer" in reasons(answer("a", NFS), silent("b", in_batch=False))[0]
        )

    @pytest.mark.parametrize("name", ["b", "nova-b"])
    def test_exempt_host_is_not_missed(self, name: str) -> None:
        members = {"storage_members": 1, "exempt_storage_users": (name,)}
        assert reasons(answer("a", NFS, options=members), silent("b", host="nova-b")) == []

    def test_local_disk_is_not_shared_by_a_host_that_did_not_answer(self) -> None:
        assert reasons(answer("a"), silent("b")) == reasons(answer("a"), silent("b", host="nova-b")) == []

    def test_another_name_of_a_machine_that_did_not_answer_may_keep_images(self) -> None:
        for host in (silent("alias", host="a"), silent("nova-a")):
            nova_name = host.nova_name or host.name
            assert "may share this storage and did not answer" in reasons(answer("x", nova_name=nova_name), host)[0]

    def test_machine_in_another_batch_on_a_local_disk_is_not_missed(self) -> None:
        assert reasons(answer("a"), answer("alias", nova_name="a", in_batch=False)) == []

    def test_record_of_nova_that_is_complete_would_name_a_host_that_did_not_answer(self) -> None:
        assert reasons(registering("a", "a"), silent("b")) == []

    def test_record_of_nova_with_a_part_of_the_members_proves_nothing(self) -> None:
        said = reasons(registering("a", "a"), registering("b", "a"), silent("c"))
        assert [sentence.partition(" ")[0] for sentence in said] == ["c", "The"]

    def test_record_of_nova_that_names_a_stranger_proves_nothing_of_the_others(self) -> None:
        said = reasons(registering("a", "a", "x"), silent("b"))
        assert [sentence[:10] for sentence in said] == ["b may shar", "Host x use"]

    def test_user_that_is_not_in_the_play_is_named(self) -> None:
        said = reasons(registering("a", "a", "gone"))
        assert said == [
            "Host gone used this storage within the last 24 hours, and no host of this play that answered is known to "
            f"nova by that name. Run the play on it as well. {EXEMPT}"
        ]

    @pytest.mark.parametrize("variable", ["exempt_storage_users", "instances_complete_for"])
    def test_user_whose_instances_are_given_or_not_needed_is_none_unknown(self, variable: str) -> None:
        assert reasons(registering("a", "a", "gone", options={variable: ("gone",)})) == []

    def test_host_that_any_host_exempts_is_exempt_for_all_storages(self) -> None:
        assert reasons(registering("a", "a", "gone"), answer("b", options={"exempt_storage_users": ("gone",)})) == []

    def test_shared_storage_without_a_record_is_always_refused(self) -> None:
        for hosts in ([answer("a", NFS)], [answer("a", NFS), answer("b", NFS)]):
            [reason] = reasons(*hosts)
            assert reason == UNREGISTERED.format(", ".join(host.name for host in hosts)) + (
                ", so a host that shares it may be missing from the inventory. Set image_cache_storage_group to the "
                "group of the hosts that share it, or image_cache_storage_members to their names or number."
            )

    @pytest.mark.parametrize("members", [2, ("a", "nova-b")])
    def test_shared_storage_without_a_record_is_pruned_where_its_members_are_declared(self, members: Any) -> None:
        hosts = [answer("a", NFS, options={"storage_members": members}), answer("b", NFS, nova_name="nova-b")]
        assert reasons(*hosts) == reasons(*hosts[::-1]) == []
        assert reasons(*hosts, silent("c")) == []

    def test_shared_storage_without_a_record_is_pruned_where_its_group_is_set(self) -> None:
        assert reasons(*grouped("a", "b"), groups={"disk": ["a", "b"]}) == []


class TestDeclaredMembers:
    @pytest.mark.parametrize("storage", [NFS, "ext4:1"])
    def test_fewer_members_than_declared_are_refused(self, storage: str) -> None:
        assert reasons(answer("a", storage, options={"storage_members": 2})) == [
            "image_cache_storage_members says that 2 hosts share this storage, and 1 answered (a). Run the play on all "
            "of them, without --limit or job slicing."
        ]

    def test_more_members_than_declared_are_not_refused(self) -> None:
        assert reasons(*(answer(name, NFS, options={"storage_members": 1}) for name in "ab")) == []

    def test_names_that_did_not_answer_are_refused(self) -> None:
        host = answer("a", NFS, options={"storage_members": ("c", "a", "b")})
        assert reasons(host, silent("b")) == [
            "image_cache_storage_members names b, c, which did not answer in this play. Run the play on all members, "
            "without --limit or job slicing, or correct image_cache_storage_members."
        ]

    def test_declared_members_of_another_storage_are_not_missed_on_a_local_disk(self) -> None:
        hosts = [answer("a", options={"storage_members": ("b", "c")}), answer("b", NFS), answer("c", NFS)]
        assert reasons(*hosts) == []

    def test_declared_members_are_those_of_the_shared_storage_also_if_none_of_them_answered(self) -> None:
        (reason,) = reasons(answer("a", NFS, options={"storage_members": ("b", "c")}))
        assert reason.startswith("image_cache_storage_members names b, c, which did not answer in this play.")

    def test_declared_member_that_is_exempt_is_not_missed(self) -> None:
        options = {"storage_members": ("a", "b"), "exempt_storage_users": ("b",)}
        assert reasons(answer("a", NFS, options=options)) == []

    def test_one_machine_under_two_names_is_one_member(self) -> None:
        hosts = [answer(name, NFS, nova_name="a", options={"storage_members": 2}) for name in ("a", "alias")]
        assert "2 hosts share this storage, and 1 answered (a, alias)" in reasons(*hosts)[0]

    def test_each_member_may_declare(self) -> None:
        hosts = [answer("a", NFS, options={"storage_members": 2}), answer("b", NFS, options={"storage_members": 3})]
        assert [sentence[:55] for sentence in reasons(*hosts)] == [
            "image_cache_storage_members says that 3 hosts share thi"
        ]

    def test_host_without_a_cache_has_no_members_to_miss(self) -> None:
        assert reasons(answer("a", "", options={"storage_members": 2})) == []


class TestGroups:
    def test_each_host_of_a_group_must_have_answered(self) -> None:
        said = reasons(*grouped("a"), silent("b"), groups={"disk": ["a", "b", "absent"]})
        assert [sentence.split(" and ")[0] for sentence in said] == [
            "b shares this storage",
            "absent shares this storage",
        ]
        assert "absent shares this storage and did not answer, so what it needs is unknown. Run the play" in said[1]

    @pytest.mark.parametrize("names", [("b", "absent"), ("nova-b", "absent")])
    def test_exempt_hosts_of_a_group_are_not_missed(self, names: tuple[str, ...]) -> None:
        hosts = grouped("a", exempt_storage_users=names)
        assert reasons(*hosts, silent("b", host="nova-b"), groups={"disk": ["a", "b", "absent"]}) == []

    def test_host_of_a_group_that_is_in_another_batch_is_named_with_serial(self) -> None:
        other = answer("b", NFS, in_batch=False)
        assert (
            "b shares this storage and is not in this batch"
            in reasons(*grouped("a"), other, groups={"disk": ["a", "b"]})[0]
        )

    def test_host_of_another_group_does_not_share(self) -> None:
        groups = {"disk": ["a"], "other": ["b"]}
        host = answer("a", NFS, use=registered(), options={"storage_group": "", "storage_members": None})
        said = reasons(host, silent("b", storage_group="other"), groups=groups)
        assert [sentence[:11] for sentence in said] == ["The storage"]
        assert reasons(*grouped("a"), silent("b"), groups=groups) == []

    def test_host_that_names_a_group_without_being_in_it_is_named(self) -> None:
        said = all_reasons(*grouped("a", "b", storage=None), answer("c"), groups={"disk": ["a", "x"]})
        sentence = (
            "image_cache_storage_group of b is disk, and the host is not in that group, so it is unclear which storage "
            "it uses. Add b to that group of the inventory, or remove the variable."
        )
        assert sentence in said["a"]
        assert said["c"] == []

    def test_member_that_names_a_group_without_being_in_it_is_named(self) -> None:
        hosts = [registering("a", "a", options={"storage_group": "disk"}), answer("b")]
        assert "image_cache_storage_group of a is disk" in reasons(*hosts, groups={"disk": ["x"]})[0]
        assert all_reasons(*hosts, groups={"disk": ["x"]})["b"] == []

    def test_group_that_is_set_for_the_whole_play_counts_for_its_members(self) -> None:
        said = all_reasons(*grouped("a", "b", storage=None), groups={"disk": ["a"]})
        assert said == {"a": [], "b": []}

    def test_host_outside_of_the_group_that_the_whole_play_names_is_none_of_its_members(self) -> None:
        said = all_reasons(*grouped("a", "b"), groups={"disk": ["a"]})
        assert not any("is not in that group" in reason for reasons in said.values() for reason in reasons)

    def test_member_that_was_looked_at_without_its_group_is_named_in_any_order(self) -> None:
        hosts = [*grouped("a"), answer("b", "ext4:1")]
        for order in (hosts, hosts[::-1]):
            assert reasons(*order, groups={"disk": ["a", "b"]}) == [
                "b was looked at without knowing that it shares its storage, because its image_cache_storage_group is "
                "not set. Set image_cache_storage_group in the variables of the group."
            ]

    def test_host_where_the_storage_is_not_mounted_is_named(self) -> None:
        hosts = [*grouped("a"), answer("b", "", options={"storage_group": "disk"})]
        assert reasons(*hosts, groups={"disk": ["a", "b"]}) == [
            "b shares this storage and has no directory /nova/_base, so it may be looking at another one. Mount the "
            "storage at /nova/_base."
        ]


class TestContradictions:
    def test_clones_with_one_machine_id_are_named(self) -> None:
        said = reasons(answer("a", "ext4:1"), answer("b", "ext4:1"), answer("c", "ext4:1"))
        assert (
            "b has the same storage id as a, c, on a disk of its own: they may be clones with one /etc/machine-id. "
            "Give each its own, or set image_cache_storage_group for the hosts that share a storage."
        ) in said

    def test_hosts_with_different_files_are_named(self) -> None:
        assert reasons(*pair(sample_ids=[4, 5])) == [
            "b and a share this storage and have different files in /nova/_base, so it is not mounted on both. Mount "
            "it, or correct image_cache_storage_group."
        ]

    @pytest.mark.parametrize("sample_ids", [[1, 2, 3], [3, 4, 5], [1]])
    def test_cache_that_changes_between_two_looks_is_the_same(self, sample_ids: list[int]) -> None:
        assert reasons(*pair(sample_ids=sample_ids)) == []

    def test_two_empty_caches_are_the_same_and_an_empty_one_is_another(self) -> None:
        empty = registering("b", "a", "b", sample_ids=[])
        assert reasons(registering("a", "a", "b", sample_ids=[]), empty) == []
        assert len(reasons(registering("a", "a", "b"), empty)) == 1

    def test_hosts_are_compared_with_each_other_and_not_with_the_first_alone(self) -> None:
        seen = {"a": [1], "b": [1, 2], "c": [2]}
        for order in (["a", "b", "c"], ["b", "a", "c"], ["c", "a", "b"]):
            hosts = [registering(name, "a", "b", "c", sample_ids=seen[name]) for name in order]
            [reason] = reasons(*hosts)
            assert {"a", "c"} == set(reason.partition(" share")[0].split(" and "))

    @pytest.mark.parametrize("path", ["/instances/_base", "/other/_base"])
    def test_host_with_another_path_is_named(self, path: str) -> None:
        other = answer("b", NFS, use=registered("a", "b"), cache_path=path)
        assert reasons(registering("a", "a", "b"), other) == [
            f"b has this storage at {path} and a at /nova/_base. nova needs one instances_path on all hosts that share "
            "it. Mount it at one path, and set image_cache_instances_path to that."
        ]

    @pytest.mark.parametrize("option", sorted(found()["policy"]))
    def test_hosts_with_different_policies_are_named(self, option: str) -> None:
        value = found()["policy"][option]
        other = "ignore" if option == "orphans" else not value if isinstance(value, bool) else (value or 0) + 1
        hosts = [registering("a", "a", "b"), answer("b", NFS, use=registered("a", "b"), policy={option: other})]
        assert reasons(*hosts) == [
            f"b and a share this storage and disagree about {variable_of(option)} ({other} and {value}). Set "
            f"{variable_of(option)} to the same value for both."
        ]

    def test_policy_that_one_host_alone_has_is_a_disagreement_in_any_order(self) -> None:
        hosts = [registering("a", "a", "b"), answer("b", NFS, use=registered("a", "b"), policy={"added_later": 1})]
        assert "about image_cache_added_later (1 and None)" in reasons(*hosts)[0]
        assert "about image_cache_added_later (None and 1)" in reasons(*hosts[::-1])[0]

    def test_use_that_a_member_cannot_report_is_named(self) -> None:
        assert reasons(*pair(problems=["The domain XML x.xml cannot be read."])) == [
            "On b: The domain XML x.xml cannot be read."
        ]

    def test_problem_of_a_host_alone_is_its_own(self) -> None:
        assert reasons(registering("a", "a", problems=["The domain XML x.xml cannot be read."])) == []

    @pytest.mark.parametrize("storages", [(NFS, "nfs4:10.0.0.1:/instances"), ("nfs4:10.0.0.1:/instances", NFS)])
    def test_hosts_that_see_one_cache_under_two_ids_are_named(self, storages: tuple[str, str]) -> None:
        hosts = [answer(name, id_, use=registered(name)) for name, id_ in zip("ab", storages, strict=True)]
        said = all_reasons(*hosts)
        assert said["a"] == [
            f"b sees the same files as a, under another storage id (here {storages[0]}), so they share this storage. "
            "Set image_cache_storage_group for the hosts that share it."
        ]
        assert said["b"][0].startswith("a sees the same files as b")

    def test_hosts_that_see_one_cache_under_two_ids_are_named_by_the_first(self) -> None:
        hosts = [answer("c", "nfs4:c", use=registered("c")), *pair()]
        assert "a sees the same files as c" in all_reasons(*hosts)["c"][0]

    def test_same_files_that_another_member_than_the_first_sees_are_noticed(self) -> None:
        hosts = [*pair(sample_ids=[3, 4]), answer("c", "nfs4:c", use=registered("c", sample_ids=[3, 4]))]
        assert "c sees the same files as a" in reasons(*hosts)[0]

    @pytest.mark.parametrize(
        ("sample_ids", "is_one"), [([3, 4], True), ([3, 4, 9], True), ([3, 8], False), ([4, 8, 9], False)]
    )
    def test_most_of_the_files_in_common_make_two_ids_one_storage(self, sample_ids: list[int], is_one: bool) -> None:
        here = answer("a", NFS, use=registered("a", sample_ids=[2, 3, 4]))
        there = answer("b", "nfs4:b", use=registered("b", sample_ids=sample_ids))
        assert [bool(said) for said in all_reasons(here, there).values()] == [is_one, is_one]

    def test_half_of_the_files_in_common_make_no_one_storage(self) -> None:
        here = answer("a", NFS, use=registered("a", sample_ids=[1, 2, 3, 4, 5, 6]))
        there = answer("b", "nfs4:b", use=registered("b", sample_ids=[4, 5, 6, 7, 8, 9]))
        assert not any(all_reasons(here, there).values())

    def test_other_files_or_none_under_another_id_are_another_storage(self) -> None:
        for sample in ([4], []):
            other = answer("b", "nfs4:b", use=registered("b", sample_ids=sample))
            hosts = [registering("a", "a", sample_ids=[]), other]
            assert all_reasons(*hosts) == {"a": [], "b": []}
        hosts = [registering("a", "a"), answer("b", "nfs4:b", use=registered("b", sample_ids=[4]))]
        assert all_reasons(*hosts) == {"a": [], "b": []}

    def test_same_files_in_two_groups_are_the_operators_word(self) -> None:
        hosts = [answer(name, NFS, options={"storage_group": f"of_{name}"}) for name in "ab"]
        assert all_reasons(*hosts, groups={"of_a": ["a"], "of_b": ["b"]}) == {"a": [], "b": []}
        assert all_reasons(hosts[0], registering("b", "b"), groups={"of_a": ["a"]})["a"] != []


class TestOneMachine:
    def machine(self, options: dict[str, Any] | None = None, **more: Any) -> list[str]:
        return reasons(answer("a"), answer("alias", nova_name="a", options=options, **more))

    def test_one_machine_under_two_names_that_agree_is_not_refused(self) -> None:
        assert self.machine() == []

    @pytest.mark.parametrize("path", ["/instances/_base", "/other/_base"])
    def test_one_machine_with_two_paths_is_named(self, path: str) -> None:
        host = answer("alias", "ext4:a:8:1:/_base", nova_name="a", cache_path=path)
        assert reasons(answer("a"), host) == [
            "a and alias are one machine under two names of the inventory, with caches at /nova/_base and "
            f"{path}. Set image_cache_instances_path to one path for both."
        ]

    def test_one_machine_that_was_given_the_same_instances_twice_is_one(self) -> None:
        one, other = ("".join(parts) for parts in (["ab", "cd"], ["a", "bcd"]))
        hosts = [
            answer("a", options={"records_digest": one}),
            answer("alias", "ext4:a:8:1:/_base", nova_name="a", options={"records_digest": other}),
        ]
        assert reasons(*hosts) == []

    def test_one_machine_with_two_lists_of_instances_is_named_in_any_order(self) -> None:
        hosts = [answer("a"), answer("alias", "ext4:a:8:1:/_base", nova_name="a", options={"records_digest": "1"})]
        for order in (hosts, hosts[::-1]):
            assert reasons(*order) == [
                f"{order[0].name} and {order[1].name} are one machine under two names of the inventory, and "
                "image_cache_instances differs. Set the same for both, or remove one from the inventory."
            ]

    def test_one_machine_with_two_policies_is_named(self) -> None:
        assert self.machine(policy={"orphans": "ignore"}) == [
            "alias and a share this storage and disagree about image_cache_orphans (ignore and protect). Set "
            "image_cache_orphans to the same value for both."
        ]


class TestDisagreements:
    def test_member_that_the_inventory_keeps_from_being_pruned_keeps_the_storage(self) -> None:
        hosts = [
            registering("a", "a", "b", "c"),
            registering("b", "a", "b", "c", options={"prune": False, "opted_out": True}),
            registering("c", "a", "b", "c"),
        ]
        for order in (hosts, hosts[::-1]):
            [reason] = reasons(*order)
            assert reason.startswith(
                "image_cache_prune is false in the inventory for b, which shares this storage with "
            )
            assert reason.endswith(
                "What one member keeps is kept for all. Remove image_cache_prune there, or prune none of them."
            )
        assert reasons(*hosts)[0].count("with a, c. What") == 1

    def test_member_whose_prune_is_not_asked_for_keeps_the_storage(self) -> None:
        hosts = [registering("a", "a", "b"), registering("b", "a", "b", options={"prune": False})]
        assert reasons(*hosts) == [
            "image_cache_prune is true for a and not for b, which share this storage. Set image_cache_prune to the "
            "same value for all of them."
        ]

    @pytest.mark.parametrize("options", [{"prune": False}, {"prune": False, "opted_out": True}])
    def test_storage_whose_prune_nobody_asks_for_has_no_disagreement(self, options: dict[str, Any]) -> None:
        assert reasons(*(registering(name, "a", "b", options=options) for name in "ab")) == []

    def test_members_with_space_targets_of_different_kinds_are_named(self) -> None:
        limits = {"a": {"max_used_space": 1}, "b": {"min_free_space": 1}, "c": {"max_removals": 1}}
        hosts = [registering(name, "a", "b", "c", options={"limits": own}) for name, own in limits.items()]
        assert reasons(*hosts) == [
            "a, b share this storage and have space targets of different kinds, so none holds for all. Set "
            "image_cache_max_used_space or image_cache_min_free_space for all of them."
        ]
        assert reasons(registering("a", "a", "c", options={"limits": limits["a"]}), registering("c", "a", "c")) == []

    @pytest.mark.parametrize(
        "policy", [{"remove_only_deleted_images": True}, {"remove_deleted_images_minimum_age_seconds": 0}], ids=str
    )
    @pytest.mark.parametrize(
        ("lists", "is_refused"),
        [
            (({}, {}), False),
            (({"images_digest": "1"}, {"images_digest": "1"}), False),
            (({"images_digest": "1"}, {"images_digest": "2"}), True),
            (({"images_digest": "1"}, {}), True),
            (({"asks_api": True}, {}), True),
            (({"asks_api": True}, {"images_digest": "1"}), True),
            (({"asks_api": True, "images_digest": "1"}, {"asks_api": True, "images_digest": "2"}), False),
        ],
        ids=str,
    )
    def test_members_with_different_lists_of_images_are_named_where_deleted_images_matter(
        self, policy: dict[str, Any], lists: tuple[dict[str, Any], ...], is_refused: bool
    ) -> None:
        def members(policy: dict[str, Any]) -> list[HostAnswer]:
            use = registered("a", "b")
            return [
                answer(name, NFS, use=use, policy=policy, options=own) for name, own in zip("ab", lists, strict=True)
            ]

        clouds = {("", ""): cloud(a=["1"], b=["2"], images=["image"])}
        assert reasons(*members({}), clouds=clouds) == []
        said = reasons(*members(policy), clouds=clouds)
        assert bool(said) is is_refused
        for reason in said:
            assert reason == (
                "b and a share this storage and have different lists of Glance's images, so other images count as "
                "deleted. Set image_cache_glance_images to the same list for both, or image_cache_instance_source to "
                "openstack."
            )

    @pytest.mark.parametrize("source", [{"libvirt": True}, {"asks_api": True}, {"records_digest": "1"}])
    def test_member_with_a_source_of_instances_may_ignore_orphans(self, source: dict[str, Any]) -> None:
        options = {"libvirt": False, "ignores_orphans": True}
        hosts = [registering("a", "a", "b"), registering("b", "a", "b", options={**options, **source})]
        clouds = {("", ""): cloud(b=["1"])}
        assert reasons(*hosts, clouds=clouds) == []
        assert reasons(hosts[0], registering("b", "a", "b", options=options)) == [
            "No source lists the instances of b, and orphans is ignore, so its guests would count as orphans. Set "
            "image_cache_libvirt or image_cache_instances for it, or image_cache_orphans to protect."
        ]

    def test_member_whose_orphans_another_member_ignores_needs_a_source(self) -> None:
        hosts = [
            registering("a", "a", "b", options={"ignores_orphans": True}),
            registering("b", "a", "b", options={"libvirt": False}),
        ]
        assert [sentence[:43] for sentence in reasons(*hosts)] == ["No source lists the instances of b, and orp"]
        assert reasons(registering("a", "a", options={"libvirt": False, "ignores_orphans": True})) == []


class TestApis:
    OPTIONS: ClassVar = {"asks_api": True, "libvirt": False, "cloud": "one", "region": "north"}
    KEY = ("one", "north")

    def in_use(self, **more: Any) -> HostAnswer:
        summary = {**found()["summary"], "active": 1}
        return answer("a", nova_name="nova-a", options={**self.OPTIONS, **more}, summary=summary)

    def test_storages_of_a_cloud_that_does_not_answer_are_refused(self) -> None:
        hosts = [answer("a", options={"asks_api": True}), answer("b")]
        assert all_reasons(*hosts, clouds={("", ""): cloud("It is down.", a=["1"])}) == {"a": ["It is down."], "b": []}

    def test_problem_of_an_api_hides_the_rest_of_its_answer(self) -> None:
        assert reasons(self.in_use(), clouds={self.KEY: cloud("It is down.")}) == ["It is down."]

    def test_image_that_a_member_keeps_by_a_name_that_its_api_lacks_is_named(self) -> None:
        options = {"asks_api": True, "keep_image_names": ("name of i", "warm")}
        hosts = [registering("a", "a", "b"), registering("b", "a", "b", options=options)]
        assert reasons(*hosts, clouds={("", ""): cloud(images=["i"], a=[], b=[])}) == [
            "image_cache_keep_images of b has 'warm', which is no image's id, and the Image API of the default cloud "
            "has no image of that name: it would keep nothing. Correct image_cache_keep_images, or give the id there."
        ]

    def test_each_of_several_apis_with_a_problem_is_reported(self) -> None:
        hosts = [
            answer(name, NFS, use=registered("a", "b"), options={"asks_api": True, "region": region})
            for name, region in zip("ab", ("north", "south"), strict=True)
        ]
        clouds = {("", "north"): cloud("North is down."), ("", "south"): cloud("South is down.")}
        assert reasons(*hosts, clouds=clouds) == ["North is down.", "South is down."]

    def test_host_with_files_in_use_that_no_api_knows_is_named(self) -> None:
        assert reasons(self.in_use(), clouds={self.KEY: cloud()}) == [
            "The Compute API of one in region north lists no server of a (nova's name nova-a), and files are in use "
            "there. Set image_cache_host to nova's name of it, or image_cache_openstack_region_name to its region."
        ]
        assert "of the default cloud lists" in reasons(self.in_use(cloud="", region=""), clouds={("", ""): cloud()})[0]

    @pytest.mark.parametrize("known", [{"nova-a": ["1"]}, {"a": ["1"]}, {"unclaimed": ["1"]}])
    def test_host_that_an_api_may_know_is_not_refused(self, known: dict[str, list[str]]) -> None:
        assert reasons(self.in_use(), clouds={self.KEY: cloud(**known)}) == []

    def test_host_whose_libvirt_is_read_or_with_no_file_in_use_is_not_refused(self) -> None:
        clouds = {self.KEY: cloud()}
        assert reasons(self.in_use(libvirt=True), clouds=clouds) == []
        assert reasons(answer("a", options=self.OPTIONS), clouds=clouds) == []

    def test_cloud_of_one_member_is_not_that_of_another(self) -> None:
        summary = {**found()["summary"], "active": 1}
        hosts = [
            answer(name, NFS, use=registered("a", "b"), summary=summary, options={**self.OPTIONS, "cloud": name})
            for name in "ab"
        ]
        clouds = {("a", "north"): cloud(a=["1"]), ("b", "north"): cloud(b=["2"])}
        assert reasons(*hosts, clouds=clouds) == []


class TestTimesInTheFuture:
    def test_host_with_a_time_in_the_future_is_a_user_and_reported_as_from_the_future(self) -> None:
        (reason,) = reasons(registering("a", "a", "z", future_users=["z"]))
        assert reason.startswith(
            "nova's record (compute_nodes) has host z with a time in the future, because a clock is or was wrong. So "
            "it counts as a user of this storage, and no host of this play that answered is known to nova by that name."
        )


class TestNeighbours:
    """Hosts with caches of their own on shared instances."""

    def beside(self, name: str = "b", *, options: dict[str, Any] | None = None, **use: Any) -> HostAnswer:
        return answer(name, NEIGHBOUR, use=registered("a", "b", **{"sample_ids": [7], **use}), options=options)

    def test_hosts_that_answered_with_caches_of_their_own_are_not_refused(self) -> None:
        hosts = (registering("a", "a", "b"), self.beside(options={"prune": False}, sample_ids=[7]))
        assert all_reasons(*hosts) == {"a": [], "b": []}

    def test_user_of_the_instances_that_did_not_answer_is_a_stranger(self) -> None:
        (reason,) = reasons(registering("a", "a", "b", "z"), self.beside())
        assert reason.startswith("Host z used this storage within the last 24 hours")

    def test_neighbours_count_among_declared_members(self) -> None:
        for declared in (2, ("a", "b")):
            assert reasons(registering("a", "a", options={"storage_members": declared}), self.beside()) == []
        said = reasons(registering("a", "a", "b", options={"storage_members": 3}), self.beside())
        assert said == [
            "image_cache_storage_members says that 3 hosts share this storage, and 2 answered (a, b). Run the play on "
            "all of them, without --limit or job slicing."
        ]

    def test_problem_of_a_neighbour_refuses_because_its_instances_are_unknown(self) -> None:
        assert reasons(registering("a", "a", "b"), self.beside(problems=["A domain cannot be read."])) == [
            "On b: A domain cannot be read."
        ]

    def test_neighbour_without_a_source_of_instances_is_refused_where_orphans_are_ignored(self) -> None:
        neighbour = self.beside(options={"libvirt": False})
        assert reasons(registering("a", "a", "b"), neighbour) == []
        (reason,) = reasons(registering("a", "a", "b", options={"ignores_orphans": True}), neighbour)
        assert reason.startswith("No source lists the instances of b, and orphans is ignore")

    @pytest.mark.parametrize("path", ["/elsewhere", "/somewhere"])
    def test_neighbour_that_sees_the_instances_at_another_path_is_refused(self, path: str) -> None:
        other = answer("b", NEIGHBOUR, use=registered("a", "b", sample_ids=[7]), cache_path=f"{path}/_base_b")
        assert reasons(registering("a", "a", "b"), other) == [
            f"b has the instances of this storage at {path} and a at /nova. nova needs one instances_path on all "
            "hosts that share it. Mount it at one path, and set image_cache_instances_path to that."
        ]

    def test_neighbour_at_another_path_is_compared_with_the_first_member(self) -> None:
        use = registered("a", "b", "c", sample_ids=[7])
        other = answer("b", NEIGHBOUR, use=use, cache_path="/elsewhere/_base_b")
        said = reasons(registering("a", "a", "b", "c"), answer("c", NFS, use=registered("a", "b", "c")), other)
        assert [reason.partition(". ")[0] for reason in said] == [
            "b has the instances of this storage at /elsewhere and a at /nova"
        ]

    def test_neighbour_that_was_looked_at_without_its_group_is_named_on_both(self) -> None:
        hosts = [self.beside(options={"storage_group": "disk"}), answer("d", "ext4:1")]
        expected = [
            "d was looked at without knowing that it shares its storage, because its image_cache_storage_group is not "
            "set. Set image_cache_storage_group in the variables of the group."
        ]
        assert all_reasons(*hosts, groups={"disk": ["b", "d"]}) == {"b": expected, "d": expected}

    def test_api_of_a_neighbour_that_does_not_answer_refuses(self) -> None:
        neighbour = self.beside(options={"asks_api": True})
        assert reasons(registering("a", "a", "b"), neighbour, clouds={("", ""): cloud("It is down.")}) == [
            "It is down."
        ]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_hosts_is_shown_unchanged(text: str) -> None:
    assert reasons(*pair(problems=[text])) == [f"On b: {text}"]
    assert f"Host {text} used" in reasons(registering("a", "a", text))[0]


@hypothesis_settings(max_examples=300)
@given(fleets(), st.randoms(use_true_random=False))
def test_refusals_do_not_depend_on_the_order_of_the_hosts(whole: Fleet, random: Any) -> None:
    shuffled = list(whole.hosts)
    random.shuffle(shuffled)
    refused = []
    for hosts in (whole.hosts, tuple(shuffled)):
        ordered = Fleet(hosts, whole.groups, whole.clouds)
        storages = group_into_storages(ordered)
        refused.append(
            {
                frozenset(host.name for host in storage.members): bool(refusals(storage, ordered, storages))
                for storage in storages
            }
        )
    assert refused[0] == refused[1]


@hypothesis_settings(max_examples=300)
@given(fleets())
def test_storage_with_an_unknown_member_is_refused(whole: Fleet) -> None:
    storages = group_into_storages(whole)
    for storage in storages:
        if refusals(storage, whole, storages):
            continue
        hosts = (*storage.members, *storage.neighbours)
        nova_names = {host.nova_name for host in hosts}
        names = frozenset().union(*(host.names for host in hosts))
        known = names.union(whole.exempt, *(host.options.instances_complete_for for host in hosts))
        assert set(storage.group) <= names | whole.exempt
        assert not storage.neighbours or not any(host.for_members.get("problems") for host in hosts)
        if storage.is_on_network and not storage.group:
            assert storage.users <= known
            assert storage.is_registered or any(host.options.storage_members is not None for host in storage.members)
        for host in storage.members:
            declared = host.options.storage_members
            if isinstance(declared, tuple) and storage.id is not None:
                # On a local disk, a list in which no host of this storage is may be that of another one.
                is_meant = storage.is_on_network or not set(declared).isdisjoint(names | whole.exempt)
                assert not is_meant or set(declared) <= names | whole.exempt
            assert not isinstance(declared, int) or storage.id is None or declared <= len(nova_names)
            assert len(storage.members) == 1 or not host.for_members.get("problems")
            assert not host.options.asks_api or not whole.clouds[host.options.cloud, host.options.region].problem
        assert len({host.options.prune for host in storage.members}) == 1
