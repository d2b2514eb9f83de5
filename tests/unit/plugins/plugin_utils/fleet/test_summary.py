# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A report shows each storage once and each host of the play, in the state that it is in now."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.answers import REFUSALS, AnswerState, HostAnswer
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.decision import StorageDecision, decide, undecided
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.storages import Fleet
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.summary import HostOutcome, summarise
from ansible_collections.stackops.nova.tests.support.fleet_strategies import (
    GIB,
    HOSTILE,
    NFS,
    answer,
    fleets,
    found,
    silent,
)
from ansible_collections.stackops.nova.tests.support.fleets import image, orphan

FILE = {"name": "x", "state": "removable", "reasons": [], "allocated_bytes": 1}


def report(
    *hosts: HostAnswer,
    storages: Sequence[StorageDecision] | None = None,
    problems: Sequence[str] = (),
    previous: Mapping[str, Any] | None = None,
    check_mode: bool = False,
) -> dict[str, Any]:
    """The report of these hosts, of which those that answered were pruned where that was asked for."""
    return summarise(
        [HostOutcome(host, host.options.prune) for host in hosts],
        undecided(Fleet(hosts, {}, {})) if storages is None else storages,
        problems,
        previous or {},
        check_mode,
        7.5,
    )


def audited(name: str = "a", storage: str | None = None, **more: Any) -> HostAnswer:
    return answer(name, storage, options={"prune": False}, **more)


def pruned(name: str = "a", storage: str | None = None, **more: Any) -> HostAnswer:
    done = {"removed": ["x"], "kept": [], "failed": [], "reclaimed_bytes": GIB, "check_mode": False}
    return answer(name, storage, **{**done, **more})


def states(fleet: Mapping[str, Any]) -> dict[str, str]:
    return {host["name"]: host["state"] for host in fleet["hosts"]}


class TestHosts:
    def test_host_that_was_looked_at_is_audited(self) -> None:
        fleet = report(audited(nova_name="nova-a"))
        assert fleet["hosts"] == [
            {
                "name": "a",
                "host": "nova-a",
                "storage": "ext4:nova-a:8:1:/_base",
                "cache_path": "/nova/_base",
                "state": "audited",
                "error": None,
                "warnings": [],
                "free_bytes": 20 * GIB,
                "total_bytes": 500 * GIB,
                "summary": found()["summary"],
                "time": 7.5,
            }
        ]
        assert (fleet["pruned"], fleet["generated"], fleet["check_mode"]) == (False, 7.5, False)

    def test_host_that_pruned_is_pruned(self) -> None:
        fleet = report(pruned())
        assert states(fleet) == {"a": "pruned"}
        assert (fleet["storages"][0]["removed"], fleet["pruned"]) == (["x"], True)

    @pytest.mark.parametrize(
        ("state", "shown"),
        [
            (AnswerState.FAILED, "failed"),
            (AnswerState.UNREACHABLE, "unreachable"),
            (AnswerState.NOT_LOOKED_AT, "unreachable"),
        ],
    )
    def test_host_without_answer_is_shown_with_its_reason(self, state: AnswerState, shown: str) -> None:
        fleet = report(silent("a", state), audited("b"))
        assert fleet["hosts"][0] == {
            "name": "a",
            "state": shown,
            "error": "No route to host",
            "warnings": [],
            "time": 7.5,
            **dict.fromkeys(("host", "storage", "cache_path", "free_bytes", "total_bytes", "summary")),
        }
        assert (fleet["summary"]["hosts"], fleet["summary"]["hosts_without_answer"]) == (2, 1)

    def test_host_has_its_warnings(self) -> None:
        outcome = HostOutcome(audited("a"), was_pruned=False, warnings=("One.", "Other."))
        fleet = summarise([outcome], [], [], {}, check_mode=False, now=7.5)
        assert fleet["hosts"][0]["warnings"] == ["One.", "Other."]

    @pytest.mark.parametrize("state", [AnswerState.FAILED, AnswerState.UNREACHABLE])
    def test_prune_that_failed_keeps_what_was_found_before(self, state: AnswerState) -> None:
        fleet = report(answer("a", state=state, cached=5))
        assert states(fleet) == {"a": state.value}
        assert fleet["summary"]["cached_bytes"] == 5
        assert fleet["summary"]["hosts_without_answer"] == (state is AnswerState.UNREACHABLE)

    @pytest.mark.parametrize("key", ["unknown_use", "unknown_deletions", "limit_exceeded"])
    def test_refusal_of_the_module_is_shown_with_its_reasons(self, key: str) -> None:
        fleet = report(pruned(removed=[], state=AnswerState.FAILED, **{key: ["A disk cannot be read."]}))
        assert states(fleet) == {"a": "refused"}
        assert fleet["storages"][0]["refused"] == ["A disk cannot be read."]
        assert fleet["summary"]["storages_refused"] == 1
        assert fleet["summary"]["hosts_without_answer"] == 0


class TestStorages:
    def test_shared_storage_counts_once_and_as_its_pruner_reports_it(self) -> None:
        decided = [StorageDecision(NFS, ("a", "b"), "b"), StorageDecision("c", ("c",), "c")]
        hosts = [audited("a", NFS, cached=9), pruned("b", NFS, cached=2), audited("c", cached=3)]
        fleet = report(*hosts, storages=decided)
        assert [(storage["hosts"], storage["pruner"]) for storage in fleet["storages"]] == [
            (["a", "b"], "b"),
            (["c"], "c"),
        ]
        assert states(fleet) == {"a": "pruned", "b": "pruned", "c": "audited"}
        assert fleet["summary"]["cached_bytes"] == 5

    def test_refusal_of_the_fleet_comes_before_those_of_the_module(self) -> None:
        decided = [StorageDecision("x", ("a",), "a", ("First.", "Both."))]
        host = pruned(unknown_use=["Both.", "Second."], limit_exceeded=["Third."])
        assert report(host, storages=decided)["storages"][0]["refused"] == ["First.", "Both.", "Second.", "Third."]

    def test_storage_has_all_that_its_pruner_found(self) -> None:
        lists = {
            **{name: [f"one of {name}"] for name in REFUSALS},
            "orphans": [orphan("lost")],
        }
        missing, corrupt = [{"backing_file": "m", "instances": []}], [{"name": "c", "used_by": []}]
        done = {"kept": [{"name": "k", "reason": "young"}], "failed": [{"name": "f", "error": "No."}]}
        listed = {"files": [FILE], "images": [image(1)]}
        [storage] = report(pruned(missing=missing, corrupt=corrupt, **listed, **lists, **done))["storages"]
        assert storage == {
            "id": "ext4:a:8:1:/_base",
            "filesystem": "ext4",
            "shared": False,
            "free_bytes": 20 * GIB,
            "total_bytes": 500 * GIB,
            "hosts": ["a"],
            "pruner": "a",
            "state": "refused",
            "refused": ["one of unknown_use", "one of unknown_deletions", "one of limit_exceeded"],
            "cache_path": "/nova/_base",
            "summary": found()["summary"],
            "policy": found()["policy"],
            "missing": missing,
            "corrupt": corrupt,
            **lists,
            "checksums": None,
            "omitted": dict.fromkeys(("missing", "corrupt", "orphans", *REFUSALS), 0),
            "removed": ["x"],
            **done,
            "reclaimed_bytes": GIB,
            **listed,
            "time": 7.5,
            "look_seconds": None,
            "prune_seconds": None,
            "prune_unfinished": False,
            "verification_seconds": None,
            "reasons": ["limit", "unknown_deletions", "unknown_use"],
            "opted_out": False,
            "mount_point": None,
        }

    def test_storage_that_was_looked_at_has_nothing_removed(self) -> None:
        [storage] = report(audited())["storages"]
        assert {name: storage[name] for name in ("removed", "kept", "failed", "reclaimed_bytes")} == {
            "removed": [],
            "kept": [],
            "failed": [],
            "reclaimed_bytes": 0,
        }
        assert not {"files", "images"} & set(storage)

    def test_omitted_items_are_counted(self) -> None:
        omitted = {"missing": 5, "corrupt": 6, "orphans": 7, **dict.fromkeys(REFUSALS, 8)}
        fleet = report(audited(orphans=[orphan("one")], omitted=omitted))
        assert fleet["storages"][0]["omitted"] == omitted
        assert {name: fleet["summary"][name] for name in ("missing", "corrupt", "orphans")} == {
            "missing": 5,
            "corrupt": 6,
            "orphans": 8,
        }

    def test_space_by_age_is_summed_for_the_ages_that_each_storage_answers_for(self) -> None:
        hosts = [
            audited(name, policy={"remove_unused_original_minimum_age_seconds": age}, storage=f"ext4:{name}/_base")
            for name, age in (("a", 90000), ("b", 9))
        ]
        for host, age in zip(hosts, ("90000", "9"), strict=True):
            host.image_cache["summary"]["reclaimable_by_age"] = {age: 1, "86400": 20, "3600": 300}  # type: ignore[index]
        summary = report(*hosts)["summary"]
        assert list(summary["reclaimable_by_age"].items()) == [("3600", 600), ("86400", 40)]
        assert summary["minimum_age_seconds"] == {"original": [9, 90000], "resized": [3600]}

    def test_fleet_without_an_answer_has_no_ages(self) -> None:
        summary = report(silent("a"))["summary"]
        assert summary["reclaimable_by_age"] == {}
        assert summary["minimum_age_seconds"] == {"original": [], "resized": []}

    def test_images_of_a_shared_storage_count_once(self) -> None:
        decided = [StorageDecision("x", ("a", "b"), "b", ()), StorageDecision("y", ("c",), "c", ())]
        hosts = [audited(name, images=[image(1, gib=3, instances=2)]) for name in "abc"]
        [total] = report(*hosts, storages=decided)["images"]
        assert (total["hosts"], total["storages"], total["instances"]) == (3, 2, 4)
        assert total["allocated_bytes"] == 6 * GIB

    def test_reasons_of_the_fleet_and_of_the_host_are_merged(self) -> None:
        storages = [StorageDecision("x", ("a",), "a", ("Too much.",), ("fleet_limit", "members_missing"))]
        [storage] = report(pruned(unknown_use=["It is unknown."]), storages=storages)["storages"]
        assert storage["reasons"] == ["fleet_limit", "members_missing", "unknown_use"]

    def test_storage_with_a_member_that_opted_out_has_opted_out(self) -> None:
        member = answer("a", NFS, options={"opted_out": True})
        [storage] = report(member, audited("b", NFS))["storages"]
        assert storage["opted_out"]

    @pytest.mark.parametrize("state", [AnswerState.FAILED, AnswerState.UNREACHABLE, AnswerState.ANSWERED])
    @pytest.mark.parametrize("check_mode", [False, True])
    @pytest.mark.parametrize("prune_seconds", [None, 20.0])
    def test_prune_that_lost_its_host_is_unfinished(
        self, state: AnswerState, check_mode: bool, prune_seconds: float | None
    ) -> None:
        host = answer("a", state=state, options={"prune": True})
        outcome = HostOutcome(host, was_pruned=True, prune_seconds=prune_seconds)
        seen = summarise([outcome], undecided(Fleet((host,), {}, {})), (), {}, check_mode, 7.5)
        is_lost = state is not AnswerState.ANSWERED and prune_seconds is None and not check_mode
        assert seen["storages"][0]["prune_unfinished"] == is_lost

    def test_audit_that_failed_is_no_unfinished_prune(self) -> None:
        [storage] = report(audited(state=AnswerState.FAILED))["storages"]
        assert not storage["prune_unfinished"]

    def test_figures_of_the_fleet_are_sums(self) -> None:
        failed = [{"name": "f", "error": "No."}]
        hosts = [pruned(name, cached=5, removable=3, failed=failed) for name in "ab"]
        for host in hosts:
            assert host.image_cache is not None
            host.image_cache["summary"]["precached"] = {"files": 2, "allocated_bytes": 7}
        assert report(*hosts)["summary"] == {
            "hosts": 2,
            "hosts_without_answer": 0,
            "storages": 2,
            "storages_refused": 0,
            "files": {"active": 0, "removable": 2, "too_young": 0, "other": 0},
            "bytes": {"active": 0, "removable": 6, "too_young": 0, "other": 0, "corrupt": 0},
            "reclaimable_by_age": {"3600": 6, "86400": 6, "604800": 0, "2419200": 0},
            "minimum_age_seconds": {"original": [86400], "resized": [3600]},
            "precached": {"files": 4, "allocated_bytes": 14},
            "cached_bytes": 10,
            "reclaimable_bytes": 6,
            "removed": 2,
            "reclaimed_bytes": 2 * GIB,
            "failed": 2,
            "missing": 0,
            "corrupt": 0,
            "orphans": 0,
        }


class TestCheckMode:
    @pytest.mark.parametrize("check_mode", [True, False])
    def test_prune_reports_itself_whether_it_was_a_dry_run(self, check_mode: bool) -> None:
        assert report(pruned(check_mode=check_mode))["check_mode"] is check_mode
        fleet = report(audited(), check_mode=check_mode)
        assert fleet["check_mode"] is check_mode

    def test_dry_run_beside_real_prunes_is_shown_as_an_audit(self) -> None:
        fleet = report(pruned("a", check_mode=True, files=[FILE]), pruned("b"), audited("c"))
        assert states(fleet) == {"a": "audited", "b": "pruned", "c": "audited"}
        assert (fleet["check_mode"], fleet["summary"]["removed"], fleet["summary"]["reclaimed_bytes"]) == (
            False,
            1,
            GIB,
        )
        assert "files" not in fleet["storages"][0]

    def test_dry_runs_alone_are_shown_as_prunes(self) -> None:
        fleet = report(pruned("a", check_mode=True), audited("b"))
        assert states(fleet) == {"a": "pruned", "b": "audited"}


class TestEarlierRuns:
    def test_storage_of_an_earlier_run_is_kept_in_the_report(self) -> None:
        earlier = report(pruned("a", cached=2), problems=["First.", "Both."])
        fleet = report(audited("b", cached=3), previous=earlier, problems=["Both.", "Second."])
        assert states(fleet) == {"a": "pruned", "b": "audited"}
        assert [storage["pruner"] for storage in fleet["storages"]] == ["a", "b"]
        assert (fleet["summary"]["cached_bytes"], fleet["summary"]["hosts"]) == (5, 2)
        assert fleet["problems"] == ["First.", "Both.", "Second."]
        assert fleet["pruned"]
        assert not report(audited("b"), previous=report(audited("a")))["pruned"]

    def test_storage_that_is_looked_at_again_replaces_its_earlier_entry(self) -> None:
        fleet = report(audited("a", cached=3), previous=report(pruned("a", cached=2)))
        assert (states(fleet), len(fleet["storages"]), fleet["summary"]["cached_bytes"]) == ({"a": "audited"}, 1, 3)

    def test_another_cache_path_of_a_host_is_another_entry(self) -> None:
        earlier = report(audited("a", cached=2))
        fleet = report(audited("a", cached=3, cache_path="/other/_base"), previous=earlier)
        assert [host["cache_path"] for host in fleet["hosts"]] == ["/nova/_base", "/other/_base"]
        assert [storage["cache_path"] for storage in fleet["storages"]] == ["/nova/_base", "/other/_base"]
        assert (fleet["summary"]["hosts"], fleet["summary"]["cached_bytes"]) == (1, 5)

    def test_hosts_without_a_cache_are_distinguished_by_their_names(self) -> None:
        fleet = report(audited("b", ""), previous=report(audited("a", "")))
        assert [storage["hosts"] for storage in fleet["storages"]] == [["a"], ["b"]]
        assert len(report(audited("a", ""), previous=report(audited("a", "")))["storages"]) == 1

    def test_host_that_answered_in_an_earlier_batch_is_as_it_was_then(self) -> None:
        earlier = report(audited("a"), silent("b", AnswerState.NOT_LOOKED_AT))
        fleet = report(silent("a", AnswerState.NOT_LOOKED_AT), audited("b"), previous=earlier)
        assert states(fleet) == {"a": "audited", "b": "audited"}

    def test_caches_of_several_hosts_stay_with_their_hosts(self) -> None:
        earlier = json.loads(json.dumps(report(audited("host-a"), audited("host-b"), silent("host-c"))))
        later = [audited(name, cache_path="/other/_base") for name in ("host-a", "host-b")]
        fleet = report(*later, silent("host-c"), previous=earlier)
        assert [(host["name"], host["cache_path"]) for host in fleet["hosts"]] == [
            ("host-a", "/nova/_base"),
            ("host-a", "/other/_base"),
            ("host-b", "/nova/_base"),
            ("host-b", "/other/_base"),
            ("host-c", None),
        ]

    def test_host_that_answered_and_is_then_lost_is_shown_as_both(self) -> None:
        fleet = report(silent("a"), previous=report(audited("a")))
        assert [host["state"] for host in fleet["hosts"]] == ["audited", "unreachable"]
        assert fleet["summary"]["hosts_without_answer"] == 1

    def test_host_that_is_lost_in_a_later_run_is_without_answer(self) -> None:
        assert states(report(silent("a"), previous=report(silent("a"))))["a"] == "unreachable"

    def test_host_that_never_answered_is_shown_once(self) -> None:
        assert [host["name"] for host in report(silent("a"), previous=report(silent("a")))["hosts"]] == ["a"]


class TestText:
    @pytest.mark.parametrize("text", HOSTILE)
    def test_text_of_hosts_is_shown_unchanged(self, text: str) -> None:
        host = pruned(nova_name=text, removed=[text], orphans=[orphan(text)], unknown_use=[text])
        fleet = json.loads(json.dumps(report(host, problems=[text])))
        [storage] = fleet["storages"]
        assert storage["removed"] == storage["refused"] == fleet["problems"] == [text]
        assert storage["orphans"] == [orphan(text)]
        assert fleet["hosts"][0]["host"] == text


@given(fleets())
def test_report_of_any_fleet_has_each_host_once_and_is_json(whole: Fleet) -> None:
    decision = decide(whole)
    fleet = report(*whole.hosts, storages=decision.storages, problems=decision.problems)
    json.dumps(fleet)
    assert [host["name"] for host in fleet["hosts"]] == [host.name for host in whole.hosts]
    without_answer = {host.name for host in whole.hosts if host.image_cache is None or not host.in_batch}
    assert without_answer <= {name for name, state in states(fleet).items() if state in ("failed", "unreachable")}


LOST = {"backing_file": "/_base/x", "instances": ["i"], "recoverable_from": None, "recoverable_until": []}
HELD = {**LOST, "recoverable_from": "process", "recoverable_until": ["i"]}


class TestMissingFiles:
    @pytest.mark.parametrize(
        ("first", "second", "where"), [(LOST, HELD, "b"), (HELD, LOST, "a"), (HELD, HELD, "a"), (LOST, LOST, None)]
    )
    def test_missing_file_names_the_member_whose_guest_still_has_it(
        self, first: dict[str, Any], second: dict[str, Any], where: str | None
    ) -> None:
        fleet = report(audited("a", NFS, missing=[first]), audited("b", NFS, missing=[second]))
        [missing] = fleet["storages"][0]["missing"]
        assert missing.get("recoverable_on") == where
        assert missing["recoverable_until"] == (["i"] if where else [])

    def test_file_that_only_another_member_misses_is_shown(self) -> None:
        """The disk of a domain of b lies outside of the directory that both share."""
        fleet = report(audited("a", NFS), audited("b", NFS, missing=[HELD]))
        assert fleet["storages"][0]["missing"] == [{**HELD, "recoverable_on": "b"}]
        assert fleet["summary"]["missing"] == 1

    def test_file_that_members_have_under_other_paths_is_shown_once(self) -> None:
        elsewhere = {**LOST, "backing_file": "/other/_base/x"}
        hosts = [audited("a", NFS, missing=[LOST]), audited("b", NFS, missing=[elsewhere])]
        for pruner, shown in (("a", "/_base/x"), ("b", "/other/_base/x")):
            fleet = report(*hosts, storages=[StorageDecision("x", ("a", "b"), pruner, ())])
            assert [each["backing_file"] for each in fleet["storages"][0]["missing"]] == [shown]

    def test_file_that_was_replaced_under_guests_of_any_member_is_shown_with_all_of_them(self) -> None:
        one, other = ({**HELD, "replaced": True, "instances": [name]} for name in ("i", "j"))
        fleet = report(audited("a", NFS), audited("b", NFS, missing=[one]), audited("c", NFS, missing=[other]))
        [missing] = fleet["storages"][0]["missing"]
        assert (missing["instances"], missing["recoverable_on"]) == (["i", "j"], "b")
        assert fleet["summary"]["missing"] == 1

    @pytest.mark.parametrize(
        ("members", "source", "where", "image_id"),
        [
            ([[LOST], [LOST]], "glance", "a", "an image"),
            ([[LOST], [HELD]], "process", "b", None),
            ([[{**LOST, "backing_file": "/_base/y"}], []], None, None, None),
        ],
    )
    def test_missing_file_comes_from_glance_where_no_guest_has_it(
        self, members: list[list[dict[str, Any]]], source: str | None, where: str | None, image_id: str | None
    ) -> None:
        hosts = [audited(name, NFS, missing=found) for name, found in zip("ab", members, strict=True)]
        [storage] = undecided(Fleet(tuple(hosts), {}, {}))
        fleet = report(*hosts, storages=[replace(storage, in_glance={"x": "an image"})])
        [missing] = fleet["storages"][0]["missing"]
        assert (missing["recoverable_from"], missing.get("recoverable_on")) == (source, where)
        assert missing.get("image_id") == image_id

    def test_replaced_file_never_comes_from_glance(self) -> None:
        hosts = [audited("a", NFS, missing=[{**LOST, "replaced": True}])]
        [storage] = undecided(Fleet(tuple(hosts), {}, {}))
        fleet = report(*hosts, storages=[replace(storage, in_glance={"x": "an image"})])
        assert fleet["storages"][0]["missing"][0]["recoverable_from"] is None
