# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each store is pruned once, for all of its hosts, and not while one of them may need what nobody has told."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.filter.image_cache_stores import FilterModule, image_cache_stores
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.instances import collect
from ansible_collections.stackops.nova.tests.support.host import Host as RealHost

NFS = "nfs4:filer:/instances:/_base"


def use(*instances: str, **more: Any) -> dict[str, Any]:
    """What a host on shared storage says for the others."""
    records = [{"uuid": uuid} for uuid in instances]
    handed_on = {
        "held": [],
        "problems": [],
        "users": [],
        "marks": [1, 2, 3],
        "keep_images": [],
        "keep_files": [],
        "given": 0,
        "policy": {},
    }
    return {"instances": records, **handed_on, **more}


def audited(audit: dict[str, Any]) -> dict[str, Any]:
    """What is known of a host that was audited in this run."""
    found = {"image_cache": audit}
    return {"ansible_facts": found, "__image_cache_audit": {"ansible_facts": found}}


def facts(
    nova_name: str, store: str | None = NFS, shared_use: Any = None, path: str = "/nova/_base", now: float = 1.5
) -> dict[str, Any]:
    """What an audit found, as far as it matters here."""
    on_network = store is not None and store.startswith("nfs")
    return {
        "cache_path": path,
        "exists": store is not None,
        "now": now,
        "host": nova_name,
        "store": {"id": store, "filesystem": "fs", "shared": on_network, "users": []},
        "shared_use": use(f"uuid-{nova_name}") if on_network and shared_use is None else shared_use,
    }


def local(nova_name: str) -> dict[str, Any]:
    return facts(nova_name, f"ext4:{nova_name}:8:1:/_base")


class Play:
    """A play over some hosts, of which some have answered."""

    def __init__(self, **audits: dict[str, Any] | None) -> None:
        self.hosts = list(audits)
        self.alive = list(audits)
        self.batch = list(audits)
        self.groups: dict[str, list[str]] = {}
        self.hostvars: dict[str, dict[str, Any]] = {
            # No two audits end at the same time.
            name: {} if audit is None else audited({**audit, "now": audit["now"] + number})
            for number, (name, audit) in enumerate(audits.items())
        }

    def lose(self, *names: str) -> Play:
        self.alive = [name for name in self.alive if name not in names]
        self.batch = [name for name in self.batch if name not in names]
        return self

    def group(self, name: str, *hosts: str) -> Play:
        self.groups[name] = list(hosts)
        for host in hosts:
            if host in self.hostvars:
                self.hostvars[host]["image_cache_storage_group"] = name
        return self

    def stores(self, **options: Any) -> list[dict[str, Any]]:
        return image_cache_stores(
            self.hosts, self.hostvars, alive=self.alive, batch=self.batch, groups=self.groups, **options
        )

    def store(self, **options: Any) -> dict[str, Any]:
        [store] = self.stores(**options)
        return store


def uuids(store: dict[str, Any]) -> list[str]:
    return [instance["uuid"] for instance in store["told"]["a"]["instances"]]


def said(stores: list[dict[str, Any]]) -> dict[str, str]:
    return {" ".join(store["hosts"]): f"{store['state']} by {store['pruner']}" for store in stores}


class TestWhoShares:
    def test_the_filter_is_known_by_its_name(self) -> None:
        assert FilterModule().filters() == {"image_cache_stores": image_cache_stores}

    def test_a_local_disk_is_its_hosts_alone_which_knows_all(self) -> None:
        stores = Play(a=local("a"), b=local("b")).stores()
        assert said(stores) == {"a": "audited by a", "b": "audited by b"}
        assert [store["told"] for store in stores] == [{}, {}]
        assert [store["shared"] for store in stores] == [False, False]

    def test_hosts_with_the_same_network_file_system_share_it(self) -> None:
        other = facts("c", "nfs4:filer:/elsewhere:/_base", use("uuid-c", marks=[4, 5]))
        assert said(Play(a=facts("a"), b=facts("b"), c=other).stores()) == {
            "a b": "audited by a",
            "c": "audited by c",
        }

    def test_a_group_says_it_where_ids_do_not(self) -> None:
        play = Play(a=facts("a", "ext4:1", use()), b=facts("b", "nfs4:2", use()), c=local("c")).group("disk", "a", "b")
        assert said(play.stores()) == {"a b": "audited by a", "c": "audited by c"}
        assert play.stores()[0]["id"] == "group:disk"

    def test_it_is_enough_that_one_of_them_names_the_group(self) -> None:
        play = Play(b=facts("b", "ext4:2", use()), a=facts("a", "ext4:1", use())).group("disk", "a", "b")
        del play.hostvars["b"]["image_cache_storage_group"]
        assert said(play.stores()) == {"b a": "audited by b"}

    def test_a_group_says_it_where_ids_say_too_much(self) -> None:
        play = Play(a=facts("a"), b=facts("b")).group("one", "a").group("other", "b")
        assert said(play.stores()) == {"a": "audited by a", "b": "audited by b"}

    def test_a_group_of_the_play_is_for_its_members_only(self) -> None:
        play = Play(a=local("a"), b=local("b"))
        play.groups["disk"] = ["a"]
        assert [store["id"] for store in play.stores(storage_group="disk")] == ["group:disk", "ext4:b:8:1:/_base"]

    def test_without_a_cache_there_is_nothing_to_share(self) -> None:
        stores = Play(a=facts("a", None), b=facts("b", None)).stores()
        assert said(stores) == {"a": "audited by a", "b": "audited by b"}
        assert [store["id"] for store in stores] == [None, None]

    def test_one_machine_under_two_names_is_pruned_once(self) -> None:
        assert said(Play(a=local("vm"), alias=local("vm")).stores()) == {"a alias": "audited by a"}

    def test_one_audit_for_two_hosts_is_an_error_of_ansible(self) -> None:
        """As ansible-core 2.21 has it after a task with run_once."""
        play = Play(a=local("a"), b=local("b"))
        play.hostvars["b"] = play.hostvars["a"]
        with pytest.raises(AnsibleFilterError, match="gives a and b one and the same audit"):
            play.stores()

    def test_clones_with_one_machine_id_are_told_apart(self) -> None:
        store = Play(a=facts("a", "ext4:clone"), b=facts("b", "ext4:clone")).store()
        assert store["state"] == "refused"
        assert "b has the same store id as a, on a disk of its own" in store["refused"][1]
        assert "/etc/machine-id" in store["refused"][1]

    @pytest.mark.parametrize("hosts", ["a", None, {"a": 1}])
    def test_what_is_no_list_is_refused(self, hosts: Any) -> None:
        with pytest.raises(AnsibleFilterError, match="ansible_play_hosts_all"):
            image_cache_stores(hosts, {}, alive=[], batch=[], groups={})


class TestWhatThePrunerIsTold:
    def test_files_to_keep_that_a_host_names_as_text_are_those_of_a_list(self) -> None:
        play = Play(a=facts("a"), b=facts("b"))
        play.hostvars["b"]["image_cache_keep_files"] = "x, y"
        assert play.store()["told"]["a"]["keep_files"] == ["x", "y"]

    def test_a_variable_that_cannot_be_told_is_refused_and_not_left_out(self) -> None:
        """ansible-core 2.18 gives a template that leads to something undefined as its text."""
        play = Play(a=facts("a"), b=facts("b"))
        play.hostvars["b"]["image_cache_keep_files"] = "{{ not_there }}"
        with pytest.raises(AnsibleFilterError, match="image_cache_keep_files of host b"):
            play.stores()

    def test_the_instances_of_the_others(self) -> None:
        told = Play(a=facts("nova-a"), b=facts("nova-b"), c=facts("nova-c")).store()["told"]
        assert told["a"]["instances"] == [{"uuid": "uuid-nova-b"}, {"uuid": "uuid-nova-c"}]
        assert told["a"]["instance_hosts"] == ["nova-a", "nova-b", "nova-c"]
        assert "glance_images" not in told["a"]

    def test_the_files_that_they_hold(self) -> None:
        play = Play(a=facts("a", shared_use=use(held=["own"])), b=facts("b", shared_use=use(held=["y", "x"])))
        assert play.store(keep_files=["z"])["told"]["a"]["keep_files"] == ["x", "y", "z"]

    def test_the_others_learn_only_who_it_is(self) -> None:
        told = Play(a=facts("a"), b=facts("b", now=6.25)).store()["told"]
        assert told["b"] == {"audited_at": 7.25, "state": "audited", "pruner": "a", "refused": []}

    def test_the_images_that_they_keep(self) -> None:
        play = Play(a=facts("a", shared_use=use(keep_images=["own"])), b=facts("b", shared_use=use(keep_images=["x"])))
        assert play.store()["told"]["a"]["keep_images"] == ["x"]

    def test_what_the_operator_gave_is_told_once(self) -> None:
        given = [{"uuid": "given"}]
        play = Play(a=facts("a", shared_use=use()), b=facts("b", shared_use=use()))
        assert uuids(play.store(instances=given)) == ["given"]
        play.hostvars["b"]["image_cache_instances"] = [{"uuid": "given for b"}]
        assert uuids(play.store(instances=given)) == ["given", "given for b"]

    def test_of_a_server_that_the_operator_gave_it_is_told_what_it_needs_and_no_more(self) -> None:
        server = {"id": "1", "image": {"id": "i"}, "flavor": {"swap": 64}, "compute_host": "b", "adminPass": "secret"}
        play = Play(a=facts("a", shared_use=use()), b=facts("b", shared_use=use()))
        [told] = play.store(instances=[server])["told"]["a"]["instances"]
        assert told == {"uuid": "1", "name": "", "host": "b", "image_ref": "i", "swap_mb": 64}
        with pytest.raises(AnsibleFilterError, match=r"image_cache_instances cannot be understood: it has neither"):
            play.store(instances=[{"adminPass": "secret"}])

    def test_it_is_what_the_module_takes(self, host: RealHost) -> None:
        base = host.base("swap_64", age=1 << 20)
        host.domain_xml("uuid-b", "instance-b", "image-b", swap=64)
        audits = {
            name: host.audit(libvirt=True, shared_storage=True, host=name, **more).facts
            for name, more in {"a": {"libvirt_config_path": str(host.locks_path)}, "b": {}}.items()
        }
        told = Play(**audits).store()["told"]["a"]
        options = {name: told[name] for name in ("instances", "instance_hosts", "keep_files")}
        assert "swap_64" not in host.prune(host="a", check_mode=True, **options).done["removed"]
        assert host.prune(host="a", check_mode=True).done["removed"] == [base.name]


class TestTheCloud:
    def cloud(self, problem: str = "") -> dict[str, Any]:
        by_host = {"a": ["1"], "b": ["2"], "c": ["3"], "": ["0"]}
        return {"instances": by_host, "images": ["image"], "problem": problem}

    def test_a_host_is_told_of_its_own_stores_instances(self) -> None:
        told = Play(a=local("a"), b=local("b")).stores(cloud=self.cloud())
        assert told[0]["told"]["a"]["instances"] == ["0", "1"]
        assert told[1]["told"]["b"]["instances"] == ["0", "2"]
        assert told[0]["told"]["a"]["glance_images"] == ["image"]

    def test_servers_of_a_host_that_no_host_is_known_by_may_be_those_of_one_that_the_api_does_not_know(self) -> None:
        cloud = {**self.cloud(), "instances": {"a": ["1"], "B": ["2"], "c": ["3"], "": ["0"]}}
        play = Play(a=local("a"), b=local("b.example.org"))
        play.groups["all"] = ["a", "b", "c"]
        told = {
            name: instances["instances"]
            for store in play.stores(cloud=cloud)
            for name, instances in store["told"].items()
        }
        assert told == {"a": ["0", "1"], "b": ["0", "2"]}

    def test_of_shared_storage_of_all_its_hosts(self) -> None:
        audits = {name: facts(name, shared_use=use(users=["a", "b", "c"])) for name in "ab"}
        told = Play(**audits).store(cloud=self.cloud(), ignore_storage_users=["c"])["told"]
        assert told["a"]["instances"] == ["0", "1", "2", "3"]
        assert told["a"]["instance_hosts"] == ["a", "b", "c"]

    def test_where_the_apis_failed_every_store_is_refused(self) -> None:
        stores = Play(a=local("a"), b=local("b")).stores(cloud=self.cloud("The API is down."))
        assert [(store["state"], store["refused"]) for store in stores] == [("refused", ["The API is down."])] * 2
        assert stores[0]["told"]["a"]["refused"] == ["The API is down."]
        assert "instances" not in stores[0]["told"]["a"]


class TestRefusals:
    """Each by name, with what to do."""

    def reason(self, play: Play, **options: Any) -> str:
        store = play.store(**options)
        assert store["state"] == "refused"
        assert store["told"][store["pruner"]]["refused"] == store["refused"]
        assert "instances" not in store["told"][store["pruner"]]
        [reason] = store["refused"]
        return reason

    def test_a_host_that_did_not_answer_may_share(self) -> None:
        reason = self.reason(Play(a=facts("a"), b=None).lose("b"))
        assert "b may share this storage and could not be audited" in reason
        assert "image_cache_ignore_storage_users" in reason
        assert "image_cache_storage_group" in reason

    def test_an_old_audit_of_it_does_not_count(self) -> None:
        assert "b may share" in self.reason(Play(a=facts("a"), b=facts("b")).lose("b"))

    @pytest.mark.parametrize("audit", [{"unreachable": True}, {"failed": True, "msg": "No."}, {"skipped": True}, None])
    def test_nor_does_one_that_ansible_has_cached_of_a_host_that_a_play_goes_on_with(self, audit: Any) -> None:
        play = Play(a=facts("a"), b=facts("b"))
        play.hostvars["b"]["__image_cache_audit"] = audit
        assert "b may share" in self.reason(play)

    @pytest.mark.parametrize("name", ["b", "nova-b"])
    def test_unless_the_operator_vouches_for_it(self, name: str) -> None:
        play = Play(a=facts("a"), b=None).lose("b")
        play.hostvars["b"]["image_cache_host"] = "nova-b"
        assert said(play.stores(ignore_storage_users=[name])) == {"a": "audited by a"}

    def test_a_local_disk_is_not_shared_by_it(self) -> None:
        assert said(Play(a=local("a"), b=None).lose("b").stores()) == {"a": "audited by a"}

    def test_where_nova_registers_the_users_it_would_have_named_it(self) -> None:
        play = Play(a=facts("a", shared_use=use(users=["a"])), b=None).lose("b")
        assert said(play.stores()) == {"a": "audited by a"}

    def test_that_some_hosts_are_registered_is_no_proof(self) -> None:
        audits = {name: facts(name, shared_use=use(users=["a"])) for name in "ab"}
        assert "c may share" in self.reason(Play(**audits, c=None).lose("c"))

    def test_a_host_of_another_group_does_not_share(self) -> None:
        play = Play(a=facts("a"), b=None).lose("b").group("elsewhere", "b")
        assert said(play.stores()) == {"a": "audited by a"}

    def test_of_a_group_each_host_must_have_answered(self) -> None:
        play = Play(a=facts("a", "ext4:1", use()), b=None, c=None).lose("b", "c").group("disk", "a", "b", "absent")
        store = play.store()
        assert [reason.split()[:2] for reason in store["refused"]] == [["b", "shares"], ["absent", "shares"]]
        play.hostvars["b"]["image_cache_host"] = "nova-b"
        for names in (["b", "absent"], ["nova-b", "absent"]):
            assert said(play.stores(ignore_storage_users=names)) == {"a": "audited by a"}

    @pytest.mark.parametrize("where", [{}, {"store": "ext4:1"}])
    def test_a_user_that_is_not_in_the_play_is_named(self, where: dict[str, str]) -> None:
        audits = {name: facts(name, shared_use=use(users=["a", "b", "gone"]), **where) for name in "ab"}
        play = Play(**audits)
        if where:
            play.group("disk", "a", "b")
        assert "nova saw host gone" in self.reason(play)
        assert play.store(ignore_storage_users=["gone"])["state"] == "audited"
        assert play.store(instance_hosts=["gone"])["state"] == "audited"

    def test_a_limit_may_leave_out_a_host_where_nova_does_not_name_it(self) -> None:
        reason = self.reason(Play(a=facts("a")), limit="a")
        assert "the play is limited to a, so a host that shares it may be left out" in reason
        registered = Play(a=facts("a", shared_use=use(users=["a"])))
        for play in (registered, Play(a=facts("a")).group("disk", "a"), Play(a=local("a"))):
            assert play.store(limit="a")["state"] == "audited"

    def test_a_host_that_names_a_group_without_being_in_it_is_named(self) -> None:
        play = Play(a=local("a"), b=local("b")).group("disk", "a")
        play.hostvars["b"]["image_cache_storage_group"] = "disk"
        assert said(play.stores()) == {"a": "audited by a", "b": "audited by b"}  # as for the whole play
        play = Play(a=local("a"), b=local("b"))
        play.groups["disk"] = ["x", "y"]
        play.hostvars["b"]["image_cache_storage_group"] = "disk"
        _alone, store = play.stores()
        assert store["refused"] == [
            "b has disk as its image_cache_storage_group, and is not in that group: add it there, or take the variable "
            "from it."
        ]
        assert store["told"]["b"]["state"] == "refused"
        play = Play(a=local("a"), b=local("b"), c=local("c")).group("disk", "a")
        play.hostvars["b"]["image_cache_storage_group"] = "disk"
        assert [store["state"] for store in play.stores()] == ["refused", "refused", "audited"]
        # The role passes on the variable of whichever host is the first.
        assert said(Play(a=local("a"), b=local("b")).group("disk", "a").stores(storage_group="disk")) == {
            "a": "audited by a",
            "b": "audited by b",
        }

    def test_hosts_that_would_not_prune_alike_are_named(self) -> None:
        audits = {
            name: facts(name, shared_use=use(policy={"orphans": kept})) for name, kept in {"a": "x", "b": "y"}.items()
        }
        assert "b and a share this storage, and disagree about orphans (y and x)" in self.reason(Play(**audits))

    def test_instances_that_were_given_to_a_host_and_are_not_seen_here_are_told(self) -> None:
        one, two = ([{"uuid": uuid}] for uuid in "12")
        of_one, of_two = (collect(given, (), None, "").given for given in (one, two))
        play = Play(a=facts("a", shared_use=use(given=of_one)), b=facts("b", shared_use=use(given=of_two)))
        assert "image_cache_instances is not the same" in self.reason(play, instances=one)
        play.hostvars["b"]["image_cache_instances"] = two
        assert play.store(instances=one)["state"] == "audited"
        # As many lists as numbers, and another one: a play's variables go before those of the inventory.
        play.hostvars["b"]["image_cache_instances"] = [{"uuid": "3"}]
        assert "image_cache_instances is not the same" in self.reason(play, instances=one)

    def test_it_is_enough_that_the_host_that_prunes_was_given_the_same(self) -> None:
        given = collect([{"uuid": "1"}], (), None, "").given
        play = Play(a=facts("a", shared_use=use(given=given)), b=facts("b", shared_use=use(given=given)))
        assert play.store(instances=[{"uuid": "old"}])["state"] == "audited"

    def test_a_host_that_was_given_none_has_none_that_could_be_lost(self) -> None:
        given = collect([{"uuid": "1"}], (), None, "").given
        play = Play(a=facts("a", shared_use=use(given=given)), b=facts("b", shared_use=use()))
        play.hostvars["a"]["image_cache_instances"] = [{"uuid": "1"}]
        assert play.store(instances=[{"uuid": "1"}])["state"] == "audited"

    def test_whoever_says_that_a_host_is_gone_says_it_for_all(self) -> None:
        play = Play(a=local("a"), b=facts("b"), gone=None)
        assert play.stores()[1]["state"] == "refused"
        play.hostvars["b"]["image_cache_ignore_storage_users"] = ["gone"]
        assert play.stores()[1]["state"] == "audited"

    def test_a_host_whose_instances_only_the_api_knows_is_named_if_nobody_asked_it(self) -> None:
        play = Play(a=facts("a"), b=facts("b"))
        play.hostvars["b"]["image_cache_instance_source"] = "openstack"
        assert "image_cache_instance_source of b is openstack, and the APIs were not asked" in self.reason(play)

    def test_files_stay_that_only_another_hosts_play_keeps(self) -> None:
        play = Play(a=facts("a"), b=facts("b", shared_use=use(keep_files=["swap_64"])))
        assert play.store()["told"]["a"]["keep_files"] == ["swap_64"]

    def test_hosts_that_see_one_cache_at_several_addresses_are_named(self) -> None:
        play = Play(a=facts("a"), b=facts("b", "nfs4:10.0.0.1:/instances:/_base"))
        assert [store["refused"][0].split(",")[0] for store in play.stores()] == [
            "b sees the same files as a",
            "a sees the same files as b",
        ]
        assert {store["state"] for store in play.group("one", "a").group("other", "b").stores()} == {"audited"}

    def test_a_host_whose_use_is_unknown_is_named(self) -> None:
        problem = use(problems=["The domain XML x.xml cannot be read."])
        reason = self.reason(Play(a=facts("a"), b=facts("b", shared_use=problem)))
        assert reason == "On b: The domain XML x.xml cannot be read."

    def test_two_hosts_that_see_different_files_are_named(self) -> None:
        reason = self.reason(Play(a=facts("a"), b=facts("b", shared_use=use(marks=[4, 5]))))
        assert reason.startswith("b and a should share this storage, and have different files in /nova/_base")

    @pytest.mark.parametrize(
        ("one", "other"), [([], []), ([1, 2, 3], [3, 4, 5]), ([1], [1, 2, 3])], ids=["empty", "one went", "some came"]
    )
    def test_a_cache_that_changes_meanwhile_is_the_same(self, one: list[int], other: list[int]) -> None:
        play = Play(a=facts("a", shared_use=use(marks=one)), b=facts("b", shared_use=use(marks=other)))
        assert play.store()["state"] == "audited"

    def test_a_host_with_another_path_is_named(self) -> None:
        reason = self.reason(Play(a=facts("a"), b=facts("b", path="/other/_base")))
        assert "b has this storage at /other/_base and a at /nova/_base" in reason

    def test_a_host_of_the_group_where_it_is_not_mounted_is_named(self) -> None:
        play = Play(a=facts("a", "ext4:1", use()), b=facts("b", None)).group("disk", "a", "b")
        assert "b should share this storage, and has no /nova/_base: is it mounted there?" in self.reason(play)


class TestBatches:
    """With `serial`, a store waits for the batch with the last of its hosts, and is pruned once."""

    def play(self, **audits: Any) -> Play:
        play = Play(**audits)
        play.batch = ["a"]
        return play

    def test_it_waits_while_a_later_host_may_share_it(self) -> None:
        store = self.play(a=facts("a"), b=None).store()
        assert (store["state"], store["pruner"], store["waits_for"]) == ("waits", None, ["b"])
        assert store["refused"] == []
        assert store["told"]["a"]["state"] == "waits"

    def test_an_older_audit_of_a_later_host_does_not_count(self) -> None:
        assert self.play(a=facts("a"), b=facts("b")).store()["hosts"] == ["a"]

    def test_the_batch_with_the_last_of_them_prunes_it(self) -> None:
        play = self.play(a=facts("a"), b=facts("b"))
        play.batch = ["b"]
        store = play.store()
        assert (store["state"], store["pruner"], store["hosts"]) == ("audited", "b", ["a", "b"])
        assert store["told"]["b"]["instances"] == [{"uuid": "uuid-a"}]
        assert list(store["told"]) == ["b"]

    def test_a_local_disk_waits_for_nobody(self) -> None:
        assert said(self.play(a=local("a"), b=None).stores()) == {"a": "audited by a"}

    def test_nor_does_a_group_that_is_complete(self) -> None:
        play = self.play(a=facts("a", "ext4:1", use()), b=facts("b", "ext4:2", use()), c=None).group("disk", "a", "b")
        play.batch = ["a", "b"]
        assert said(play.stores()) == {"a b": "audited by a"}

    def test_nor_a_store_all_of_whose_users_are_here(self) -> None:
        assert said(self.play(a=facts("a", shared_use=use(users=["a"])), b=None).stores()) == {"a": "audited by a"}

    def test_a_user_who_may_come_later_is_waited_for(self) -> None:
        store = self.play(a=facts("a", shared_use=use(users=["a", "nova-b"])), b=None).store()
        assert (store["state"], store["waits_for"]) == ("waits", ["b"])

    def test_a_host_that_failed_refuses_it_at_once(self) -> None:
        assert self.play(a=facts("a"), b=None, c=None).lose("b").store()["state"] == "refused"

    @pytest.mark.parametrize(
        "left",
        [{"__image_cache_pruned": {"image_cache": {}}}, {"__image_cache_store": {"pruner": "a", "state": "audited"}}],
    )
    def test_what_an_earlier_batch_has_pruned_is_not_pruned_again(self, left: dict[str, Any]) -> None:
        play = self.play(a=facts("a"), b=facts("b"))
        play.batch = ["b"]
        play.hostvars["a"].update(left)
        store = play.store()
        assert (store["state"], store["pruner"]) == ("audited", "a")
        assert store["told"]["b"]["pruner"] == "a"
        assert "instances" not in store["told"]["b"]

    def test_a_store_that_waited_for_a_host_without_it_says_what_to_do(self) -> None:
        play = self.play(a=facts("a"), b=local("b"))
        play.batch = ["b"]
        play.hostvars["a"]["__image_cache_store"] = {"state": "waits", "pruner": None}
        store, _other = play.stores()
        assert store["state"] == "refused"
        assert "without serial" in store["refused"][0]


names = st.sampled_from(["a", "b", "c", "d", "e"])
audits = st.one_of(
    st.none(),
    st.builds(
        lambda nova_name, store, **more: facts(nova_name, store, use(f"uuid-{nova_name}", **more)),
        names,
        st.sampled_from([NFS, "nfs4:other", "ext4:1", None]),
        users=st.lists(names, max_size=3),
        marks=st.lists(st.integers(1, 4), max_size=3),
        held=st.lists(st.sampled_from(["x", "y"]), max_size=2),
        problems=st.lists(st.just("A problem."), max_size=1),
    ),
)


@st.composite
def plays(draw: st.DrawFn) -> Play:
    play = Play(**draw(st.dictionaries(names, audits, min_size=1)))
    size = draw(st.integers(1, len(play.hosts)))
    start = draw(st.integers(0, len(play.hosts) - size))
    play.batch = play.hosts[start : start + size]
    play.lose(*draw(st.sets(st.sampled_from(play.hosts))))
    if draw(st.booleans()):
        play.group("disk", *sorted(draw(st.sets(names))))
    return play


@hypothesis_settings(max_examples=400)
@given(plays(), st.sets(names))
def test_whatever_the_fleet_is_like(play: Play, ignored: set[str]) -> None:
    stores = play.stores(ignore_storage_users=sorted(ignored))
    hosts = [name for store in stores for name in store["hosts"]]
    assert len(hosts) == len(set(hosts))
    assert set(hosts) <= set(play.alive)
    last = max((play.hosts.index(name) for name in play.batch), default=-1)
    aliases = [{name, play.hostvars[name]["ansible_facts"]["image_cache"]["host"]} for name in hosts]
    vouched = ignored.union(*(alias for alias in aliases if alias & ignored))
    for name in play.hosts[: last + 1]:
        answered = name in play.alive and "ansible_facts" in play.hostvars[name]
        assert (name in hosts) == answered
    for store in stores:
        assert store["pruner"] in [None, *store["hosts"]]
        assert (store["state"] == "refused") == bool(store["refused"])
        assert (store["state"] == "waits") == (store["pruner"] is None)
        tellings = store["told"].values()
        for told in tellings:
            assert (told["state"], told["pruner"]) == (store["state"], store["pruner"])
        prunes = [told for told in tellings if "instances" in told]
        if store["state"] != "audited":
            assert prunes == []
            continue
        covered = {name: play.hostvars[name]["ansible_facts"]["image_cache"] for name in store["hosts"]}
        group = play.groups.get("disk", []) if store["id"] == "group:disk" else []
        assert set(group) - vouched <= set(covered)
        for audit in covered.values():
            assert len(covered) == 1 or not audit["shared_use"]["problems"]
        for told in prunes:
            others = [audit["shared_use"] for name, audit in covered.items() if name != store["pruner"]]
            assert all(record in told["instances"] for other in others for record in other["instances"])
            assert {name for other in others for name in other["held"]} <= set(told["keep_files"])
            assert set(told["instance_hosts"]) == {audit["host"] for audit in covered.values()} | vouched
