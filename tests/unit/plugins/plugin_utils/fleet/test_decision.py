# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each storage is pruned by one host at most, and asked-for work is done or fails with its reasons."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.answers import AnswerState, HostAnswer
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.cloud import CloudAnswer
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.decision import (
    Action,
    FleetDecision,
    HostDecision,
    StorageDecision,
    decide,
    undecided,
)
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.refusals import refusals
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.storages import (
    Fleet,
    group_into_storages,
    hand_off,
)
from ansible_collections.stackops.nova.tests.support.fleet_strategies import (
    GIB,
    HOSTILE,
    NFS,
    answer,
    cloud,
    fleet,
    fleets,
    registered,
    silent,
)
from ansible_collections.stackops.nova.tools.cache_tree import fingerprint

AUDIT = {"prune": False}


def sharing(name: str, *, options: dict[str, Any] | None = None, **more: Any) -> HostAnswer:
    """One of the hosts a and b, which share a storage."""
    return answer(name, NFS, use=registered("a", "b"), options=options, **more)


def restorable(*images: str) -> CloudAnswer:
    """What an API answers that has these images, all of them with the bytes of their base files."""
    return replace(cloud(images=images), restorable={fingerprint(image): image for image in images})


def missing(*names: str) -> list[dict[str, Any]]:
    """Missing files that no guest has open."""
    nobody = {"instances": ["i"], "recoverable_from": None, "recoverable_until": []}
    return [{"backing_file": f"/_base/{name}", **nobody} for name in names]


def actions(decision: FleetDecision) -> dict[str, str]:
    return {name: host.action.value for name, host in decision.hosts.items()}


class TestMissingFiles:
    LOST = missing(fingerprint("one"), f"{fingerprint('one')}_sm", "swap_512", fingerprint("deleted"))
    ASKED: ClassVar = {**AUDIT, "asks_api": True}

    def test_base_file_of_an_image_that_glance_has_can_come_from_there(self) -> None:
        hosts = [answer("a", options=self.ASKED, missing=self.LOST), answer("b", options=self.ASKED)]
        decided = decide(fleet(*hosts, clouds={("", ""): restorable("one", "two")})).storages
        assert [storage.in_glance for storage in decided] == [{fingerprint("one"): "one"}, {}]

    def test_image_of_another_cloud_restores_nothing(self) -> None:
        host = answer("a", options={**self.ASKED, "cloud": "a"}, missing=self.LOST)
        clouds = {("a", ""): restorable("two"), ("b", ""): restorable("one")}
        assert decide(fleet(host, clouds=clouds)).storages[0].in_glance == {}

    def test_host_that_asks_no_api_has_nothing_from_glance(self) -> None:
        host = answer("a", options=AUDIT, missing=self.LOST)
        assert decide(fleet(host, clouds={("", ""): restorable("one")})).storages[0].in_glance == {}

    def test_source_survives_the_way_through_a_result(self) -> None:
        host = answer("a", options=self.ASKED, missing=self.LOST)
        [decided] = decide(fleet(host, clouds={("", ""): restorable("one")})).storages
        assert StorageDecision.from_plain(json.loads(json.dumps(asdict(decided)))) == decided


class TestActions:
    def test_exceeded_limit_of_the_fleet_is_a_reason_of_each_storage_to_be_pruned(self) -> None:
        host = answer("a", cached=GIB, removable=GIB, options={"fleet_max_removal_percent": 0.0})
        decided = decide(fleet(host, answer("b", options=AUDIT))).storages
        assert [storage.reasons for storage in decided] == [("fleet_limit",), ()]

    def test_storage_without_all_of_its_members_has_that_reason(self) -> None:
        [storage] = decide(fleet(sharing("a"))).storages
        assert storage.reasons == ("members_missing",)

    def test_member_that_opted_out_is_a_reason_of_its_own(self) -> None:
        [storage] = decide(fleet(sharing("a"), sharing("b", options={"prune": False, "opted_out": True}))).storages
        assert storage.reasons == ("opted_out",)

    def test_api_that_does_not_answer_leaves_the_use_unknown(self) -> None:
        host = answer("a", options={"asks_api": True, "cloud": "x"})
        [storage] = decide(fleet(host, clouds={("x", ""): cloud(problem="No.")})).storages
        assert storage.reasons == ("unknown_use",)

    def test_space_targets_of_different_kinds_are_a_limit(self) -> None:
        limits = {"a": {"max_used_space": 1}, "b": {"min_free_space": 1}}
        [storage] = decide(fleet(*(sharing(name, options={"limits": limits[name]}) for name in "ab"))).storages
        assert storage.reasons == ("limit",)

    def test_host_with_a_disk_of_its_own_prunes_it(self) -> None:
        decision = decide(fleet(answer("a"), answer("b")))
        assert decision.hosts == {name: HostDecision(Action.PRUNE) for name in "ab"}
        assert decision.storages == tuple(StorageDecision(f"ext4:{name}:8:1:/_base", (name,), name) for name in "ab")
        assert decision.problems == ()

    def test_host_that_was_only_looked_at_does_nothing_more(self) -> None:
        assert decide(fleet(answer("a", options=AUDIT))).hosts == {}

    def test_shared_storage_is_pruned_by_one_member_with_its_hand_off(self) -> None:
        whole = fleet(sharing("a"), sharing("b"))
        decision = decide(whole)
        [storage] = group_into_storages(whole)
        assert decision.hosts == {"a": HostDecision(Action.PRUNE, hand_off(storage, whole))}
        assert decision.storages == (StorageDecision(NFS, ("a", "b"), "a"),)

    def test_shared_storage_is_looked_at_again_by_one_member_with_its_hand_off(self) -> None:
        whole = fleet(*(sharing(name, options=AUDIT) for name in "ab"))
        [storage] = group_into_storages(whole)
        assert decide(whole).hosts == {"a": HostDecision(Action.LOOK, hand_off(storage, whole))}

    def test_refused_storage_of_an_audit_is_not_looked_at_again(self) -> None:
        decision = decide(
            fleet(
                sharing("a", options=AUDIT), sharing("b", options=AUDIT), silent("c"), answer("d", NFS, options=AUDIT)
            )
        )
        assert decision.hosts == {}
        assert decision.storages[0].refused

    def test_refused_storage_fails_its_pruner_with_its_reasons(self) -> None:
        decision = decide(fleet(answer("a", NFS), answer("b")))
        [shared, local] = decision.storages
        assert decision.hosts == {
            "a": HostDecision(Action.FAIL, reasons=shared.refused),
            "b": HostDecision(Action.PRUNE),
        }
        assert len(shared.refused) == 1
        assert local.refused == ()

    def test_storage_whose_pruner_failed_its_look_is_left_to_that_failure(self) -> None:
        failed = answer("a", state=AnswerState.FAILED, cached=9 * GIB, removable=9 * GIB)
        decision = decide(fleet(failed, answer("b", options={"fleet_max_removal_percent": 0.0})))
        assert decision.hosts == {"b": HostDecision(Action.PRUNE)}
        assert [storage.pruner for storage in decision.storages] == ["a", "b"]

    def test_hosts_without_answer_do_nothing(self) -> None:
        assert decide(fleet(silent("a"))) == FleetDecision((), {})


class TestProblems:
    def test_limit_of_the_fleet_fails_each_prune_and_no_audit(self) -> None:
        hosts = [
            answer("a", cached=10 * GIB, removable=10 * GIB),
            answer("b", options={**AUDIT, "fleet_max_removal_percent": 5.0}),
        ]
        decision = decide(fleet(*hosts))
        assert actions(decision) == {"a": "fail"}
        assert decision.problems == decision.hosts["a"].reasons
        assert decision.problems[0].startswith("Nothing was removed: 10.0 of 10.0 GiB")
        assert decision.storages[0].refused == ()

    def test_limit_of_a_host_that_did_not_answer_counts(self) -> None:
        hosts = [answer("a", cached=GIB, removable=GIB), silent("b", fleet_max_removal_percent=5.0)]
        assert actions(decide(fleet(*hosts))) == {"a": "fail"}

    def test_limit_counts_what_is_pruned_and_not_what_is_refused_or_looked_at(self) -> None:
        hosts = [
            answer("a", cached=10 * GIB, removable=GIB, options={"fleet_max_removal_percent": 10.0}),
            answer("b", options=AUDIT, removable=10 * GIB),
            answer("c", NFS, removable=10 * GIB),
        ]
        assert actions(decide(fleet(*hosts))) == {"a": "prune", "c": "fail"}

    def test_limit_that_cannot_be_read_fails_each_prune_and_no_audit(self) -> None:
        decision = decide(fleet(answer("a"), answer("b", options=AUDIT)), unreadable_limits=["Unknown."])
        assert decision.hosts == {"a": HostDecision(Action.FAIL, reasons=("Unknown.",))}
        assert decision.problems == ("Unknown.",)
        assert decide(fleet(answer("a", options=AUDIT)), unreadable_limits=["Unknown."]).problems == ()

    def test_limit_that_cannot_be_read_hides_the_known_ones(self) -> None:
        host = answer("a", cached=GIB, removable=GIB, options={"fleet_max_removal_percent": 0.0})
        assert decide(fleet(host), unreadable_limits=["Unknown."]).problems == ("Unknown.",)

    def test_report_that_cannot_be_written_fails_each_prune_and_one_audit(self) -> None:
        hosts = [answer("a"), answer("b", options=AUDIT), answer("c", options=AUDIT)]
        decision = decide(fleet(*hosts), blocked=["No report."])
        assert decision.hosts == {name: HostDecision(Action.FAIL, reasons=("No report.",)) for name in "ab"}
        assert decision.problems == ("No report.",)

    def test_report_that_cannot_be_written_keeps_a_storage_from_being_looked_at_again(self) -> None:
        hosts = [answer("c", options=AUDIT), *(sharing(name, options=AUDIT) for name in "ab")]
        assert actions(decide(fleet(*hosts), blocked=["No report."])) == {"c": "fail"}

    def test_reasons_of_a_storage_come_before_those_of_the_fleet(self) -> None:
        reasons = decide(fleet(answer("a", NFS)), blocked=["No report."]).hosts["a"].reasons
        assert (len(reasons), reasons[1]) == (2, "No report.")

    def test_cloud_that_does_not_answer_fails_one_audit_of_its_hosts(self) -> None:
        hosts = [
            answer(name, options={**AUDIT, "asks_api": True, "cloud": key})
            for name, key in zip("abcd", "1122", strict=True)
        ]
        clouds = {(key, ""): cloud(f"Cloud {key} is down.") for key in "12"}
        decision = decide(fleet(*hosts, clouds=clouds))
        assert {name: host.reasons for name, host in decision.hosts.items()} == {
            "a": ("Cloud 1 is down.",),
            "c": ("Cloud 2 is down.",),
        }
        assert all(storage.refused for storage in decision.storages)

    def test_cloud_that_answers_lets_each_host_look_again(self) -> None:
        host = answer("a", options={**AUDIT, "asks_api": True})
        assert actions(decide(fleet(host, clouds={("", ""): cloud(a=["1"])}))) == {"a": "look"}


class TestPlain:
    @pytest.mark.parametrize("text", HOSTILE)
    def test_decision_is_the_same_after_its_way_through_json(self, text: str) -> None:
        for host in (
            HostDecision(Action.PRUNE, {"keep_files": [text]}),
            HostDecision(Action.FAIL, reasons=(text, "b")),
            HostDecision(Action.LOOK),
        ):
            assert HostDecision.from_plain(json.loads(json.dumps(host.to_plain()))) == host
        storage = StorageDecision(None, (text, "b"), text, (text,))
        assert StorageDecision.from_plain(json.loads(json.dumps(asdict(storage)))) == storage

    def test_storages_about_which_nothing_was_decided_have_no_reasons(self) -> None:
        assert undecided(fleet(answer("a", NFS), answer("b"), silent("c"))) == [
            StorageDecision(NFS, ("a",), "a"),
            StorageDecision("ext4:b:8:1:/_base", ("b",), "b"),
        ]


@hypothesis_settings(max_examples=300)
@given(fleets())
def test_storage_is_pruned_by_one_member_at_most_or_its_prune_fails(whole: Fleet) -> None:
    decision = decide(whole)
    storages = group_into_storages(whole)
    for storage in storages:
        acting = {host.name: decision.hosts[host.name] for host in storage.members if host.name in decision.hosts}
        assert set(acting) <= {storage.pruner.name}
        refused = refusals(storage, whole, storages)
        is_asked = any(host.options.prune for host in storage.members)
        if storage.pruner.state is not AnswerState.ANSWERED:
            assert acting == {}
        elif is_asked:
            [host] = acting.values()
            assert host.action is (Action.FAIL if refused or decision.problems else Action.PRUNE)
            assert host.reasons == ((*refused, *decision.problems) if host.action is Action.FAIL else ())
            assert host.options == (hand_off(storage, whole) if host.action is Action.PRUNE else {})
        else:
            assert all(host.action is not Action.PRUNE for host in acting.values())
    assert set(decision.hosts) <= {storage.pruner.name for storage in storages}
