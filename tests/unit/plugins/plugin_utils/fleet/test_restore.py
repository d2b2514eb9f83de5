# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each base file of a storage is restored once, by the host with the best proof. A missing one has its reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.answers import (
    AnswerState,
    FileAnswer,
    FileOutcome,
    reasons_to_fail,
)
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.restore import (
    RESTORE,
    RestoreDecision,
    decide_restore,
    merge_looks,
    merge_outcome,
    merge_results,
    parse_restore_answer,
    summarise_restore,
    with_remarks,
)
from ansible_collections.stackops.nova.tests.support.fleet_strategies import HOSTILE, json_values
from ansible_collections.stackops.nova.tests.support.restores import (
    FULL,
    NOT_OPEN,
    answer,
    failed,
    found,
    refused,
    restorable,
    result,
    set_aside,
)

NAMES = st.sampled_from(["base", "swap_1", "ephemeral_1", *HOSTILE])
PROOFS = st.sampled_from(["process", "process_and_checksum", "checksum", "unproven", "a proof of tomorrow"])
STATES = st.sampled_from(["missing", "replaced", "corrupt"])


@st.composite
def restorables(draw: st.DrawFn, name: str) -> dict[str, Any]:
    return restorable(
        name,
        proof=draw(PROOFS),
        state=draw(STATES),
        inode=draw(st.integers(1, 2)),
        source=draw(st.sampled_from(["process", "file"])),
    )


@st.composite
def answers(draw: st.DrawFn) -> list[FileAnswer]:
    """Hosts on two storages, each of which can restore some files, refuses others, and fails with the rest."""
    made = []
    for name in draw(st.lists(st.sampled_from("abcde"), unique=True)):
        if draw(st.booleans()):
            lists: dict[str, list[Any]] = {"restored": [], "refused": [], "failed": [], "set_aside": []}
            for file in draw(st.lists(NAMES, unique=True, max_size=4)):
                kind = draw(st.sampled_from(["restored", "refused", "failed", "set_aside"]))
                if kind == "restored":
                    lists[kind].append(draw(restorables(file)))
                elif kind == "set_aside":
                    lists["refused"].append(refused(file))
                    lists[kind].append(set_aside(file))
                else:
                    lists[kind].append(refused(file) if kind == "refused" else failed(file))
            storage = draw(st.sampled_from(["one", "two", None]))
            made.append(answer(name, storage, shared=draw(st.booleans()), **lists))
        else:
            made.append(FileAnswer(name, AnswerState.UNREACHABLE, error="No route."))
    return made


def outcomes(made: list[FileAnswer]) -> dict[str, dict[str, Any]]:
    """What a dry run shows of each host that answered."""
    decisions = decide_restore(made)
    return {one.name: merge_outcome(one.found, decisions[one.name], None) for one in made if one.found is not None}


def names(files: list[Mapping[str, Any]]) -> list[str]:
    return [file["name"] for file in files]


class TestDecision:
    def test_host_alone_restores_all_that_it_can(self) -> None:
        host = answer(restored=[restorable("one"), restorable("two")], refused=[refused("three")])
        assert decide_restore([host]) == {"a": RestoreDecision(names=("one", "two"))}

    def test_hosts_with_storages_of_their_own_restore_a_file_each(self) -> None:
        hosts = [answer(name, f"disk of {name}", restored=[restorable()]) for name in "ab"]
        assert decide_restore(hosts) == {name: RestoreDecision(names=("base",)) for name in "ab"}

    def test_clones_with_one_machine_id_restore_the_files_of_their_own_disks(self) -> None:
        clones = [answer(name, restored=[restorable()], host=f"nova-{name}") for name in "ab"]
        assert decide_restore(clones) == {name: RestoreDecision(names=("base",)) for name in "ab"}

    def test_hosts_that_mount_one_storage_share_it_under_all_their_names(self) -> None:
        hosts = [answer(name, shared=True, restored=[restorable()], host=f"nova-{name}") for name in "ab"]
        assert decide_restore(hosts)["b"].elsewhere == {"base": "a"}

    def test_answer_with_very_many_files_is_decided_in_time_that_grows_with_their_number(self) -> None:
        looked_up = 0

        class Name(str):
            __slots__ = ()

            def __hash__(self) -> int:
                nonlocal looked_up
                looked_up += 1
                return super().__hash__()

        host = answer(restored=[restorable(f"swap_{number}") for number in range(300)])
        assert host.found is not None
        for file in host.found["restored"]:
            file["name"] = Name(file["name"])
        assert len(decide_restore([host])["a"].names) == 300
        assert looked_up < 50 * 300

    def test_hosts_without_a_cache_share_nothing(self) -> None:
        hosts = [answer(name, None, restored=[restorable()]) for name in "ab"]
        assert decide_restore(hosts) == {name: RestoreDecision(names=("base",)) for name in "ab"}

    @pytest.mark.parametrize(
        ("proofs", "chosen"),
        [
            (("process", "process"), "a"),
            (("process", "process_and_checksum"), "b"),
            (("process", "checksum"), "b"),
            (("checksum", "process_and_checksum"), "b"),
            (("unproven", "process"), "b"),
            (("a proof of tomorrow", "unproven"), "b"),
        ],
    )
    def test_first_host_with_the_strongest_proof_restores_a_shared_file(
        self, proofs: tuple[str, str], chosen: str
    ) -> None:
        hosts = [answer(name, restored=[restorable(proof=proof)]) for name, proof in zip("ab", proofs, strict=True)]
        for order in (hosts, hosts[::-1]):
            decisions = decide_restore(order)
            assert decisions[chosen] == RestoreDecision(names=("base",))
            assert [decision.elsewhere for name, decision in decisions.items() if name != chosen] == [{"base": chosen}]

    def test_host_without_a_source_leaves_the_file_to_the_member_that_has_one(self) -> None:
        hosts = [answer("a", refused=[refused()]), answer("b", restored=[restorable()]), answer("c", failed=[failed()])]
        decisions = decide_restore(hosts)
        assert decisions["b"].names == ("base",)
        assert decisions["a"] == decisions["c"] == RestoreDecision(elsewhere={"base": "b"})

    def test_hosts_of_a_storage_group_share_what_has_the_same_directory(self) -> None:
        hosts = [answer(name, f"disk of {name}", group="nfs", restored=[restorable()]) for name in "ab"]
        assert decide_restore(hosts)["b"].elsewhere == {"base": "a"}
        other = answer("b", group="nfs", restored=[restorable()], cache_path="/nova/_base_b")
        assert decide_restore([hosts[0], other])["b"].names == ("base",)

    def test_host_without_an_answer_does_nothing(self) -> None:
        silent = FileAnswer("b", AnswerState.FAILED, error="No space.")
        assert decide_restore([answer("a", restored=[restorable()]), silent]).keys() == {"a"}

    @pytest.mark.parametrize(
        ("first", "second", "is_refused"),
        [
            ((1, "process"), (2, "process"), True),
            ((1, "process"), (1, "process"), False),
            ((1, "process_and_checksum"), (2, "process"), True),
            ((1, "process_and_checksum"), (1, "process"), False),
            ((1, "process_and_checksum"), (2, "process_and_checksum"), False),
        ],
    )
    def test_processes_with_different_files_under_a_name_restore_neither(
        self, first: tuple[int, str], second: tuple[int, str], is_refused: bool
    ) -> None:
        hosts = [
            answer(name, restored=[restorable(inode=inode, proof=proof)])
            for name, (inode, proof) in (("a", first), ("b", second))
        ]
        decisions = decide_restore(hosts)
        assert decisions["a"].names == (() if is_refused else ("base",))
        assert decisions["b"].names == ()
        for decision in decisions.values() if is_refused else ():
            assert decision.refused["base"].startswith("Processes on a, b have different files open under this name")

    def test_file_that_an_operator_brought_to_two_hosts_has_two_inodes_and_is_restored(self) -> None:
        hosts = [
            answer(name, restored=[restorable(inode=inode, source="file", proof="unproven")])
            for inode, name in enumerate("ab", 1)
        ]
        assert decide_restore(hosts)["a"].names == ("base",)

    @pytest.mark.parametrize("state", ["replaced", "corrupt"])
    @pytest.mark.parametrize(
        ("proof", "hosts", "shared", "is_refused"),
        [
            ("process", "a", False, False),
            ("process", "a", True, True),
            ("process", "ab", False, True),
            ("unproven", "a", True, True),
            ("checksum", "ab", True, False),
            ("process_and_checksum", "ab", True, False),
        ],
    )
    def test_file_that_other_hosts_may_use_is_replaced_only_by_bytes_that_are_right_for_all(
        self, state: str, proof: str, hosts: str, shared: bool, is_refused: bool
    ) -> None:
        made = [answer("a", restored=[restorable(state=state, proof=proof)], shared=shared)]
        made += [answer(name, shared=shared) for name in hosts[1:]]
        decision = decide_restore(made)["a"]
        assert decision.names == (() if is_refused else ("base",))
        assert ("base" in decision.refused) is is_refused

    def test_copies_are_set_aside_by_the_host_whose_guests_differ(self) -> None:
        hosts = [answer("a", refused=[refused()], set_aside=[set_aside()]), answer("b", refused=[refused()])]
        decisions = decide_restore(hosts)
        assert (decisions["a"].names, decisions["b"].names) == (("base",), ())

    @pytest.mark.parametrize("proof", ["process", "process_and_checksum"])
    def test_file_that_differs_by_guest_on_one_host_is_restored_by_none(self, proof: str) -> None:
        aside = answer("a", refused=[refused()], set_aside=[set_aside()])
        decisions = decide_restore([aside, answer("b", restored=[restorable(proof=proof)])])
        assert decisions["a"] == RestoreDecision(names=("base",))
        assert decisions["b"].names == ()
        assert decisions["b"].refused["base"].startswith("Processes on a, b have different files open")

    def test_former_file_is_set_aside_only_by_the_host_that_replaces_it(self) -> None:
        replaced = restorable(state="replaced", proof="checksum")
        hosts = [answer(name, restored=[replaced], set_aside=[set_aside()]) for name in "ab"]
        decisions = decide_restore(hosts)
        assert decisions["a"] == RestoreDecision(names=("base",))
        assert decisions["b"] == RestoreDecision(elsewhere={"base": "a"})

    @given(answers())
    def test_file_of_a_storage_is_restored_by_one_host_at_most(self, made: list[FileAnswer]) -> None:
        decisions = decide_restore(made)
        storage = {one.name: one.storage for one in made}
        own = {one.name: set(names(one.found["restored"])) for one in made if one.found is not None}
        restored = Counter(
            (storage[host], name) for host, one in decisions.items() for name in one.names if name in own[host]
        )
        assert set(restored.values()) <= {1}

    @given(answers())
    def test_host_is_asked_for_nothing_that_its_look_did_not_offer(self, made: list[FileAnswer]) -> None:
        offered = {
            one.name: {*names(one.found["restored"]), *names(one.found["set_aside"])}
            for one in made
            if one.found is not None
        }
        for host, decision in decide_restore(made).items():
            assert set(decision.names) <= offered[host]

    @given(answers())
    def test_file_is_left_only_to_a_host_of_the_storage_that_restores_it(self, made: list[FileAnswer]) -> None:
        decisions = decide_restore(made)
        storage = {one.name: one.storage for one in made}
        for host, decision in decisions.items():
            for name, other in decision.elsewhere.items():
                assert other != host
                assert storage[other] == storage[host]
                assert name in decisions[other].names

    @given(answers())
    def test_proof_for_all_guests_is_never_passed_over(self, made: list[FileAnswer]) -> None:
        decisions = decide_restore(made)
        proofs = {
            (one.name, file["name"]): file["proof"]
            for one in made
            if one.found is not None
            for file in one.found["restored"]
        }
        for host, decision in decisions.items():
            for name, other in decision.elsewhere.items():
                if proofs.get((host, name)) in ("checksum", "process_and_checksum"):
                    assert proofs[other, name] in ("checksum", "process_and_checksum")

    @given(answers())
    def test_order_of_the_hosts_changes_nothing(self, made: list[FileAnswer]) -> None:
        assert decide_restore(made) == decide_restore(made[::-1])

    def test_decision_in_a_result_is_plain_and_is_read_again(self) -> None:
        decision = RestoreDecision(("one",), {"two": "b"}, {"three": "Two are open."})
        plain = json.loads(json.dumps(decision.to_plain()))
        assert plain == {"names": ["one"], "elsewhere": {"two": "b"}, "refused": {"three": "Two are open."}}
        assert RestoreDecision.from_plain(plain) == decision

    @given(answers())
    def test_decision_survives_the_way_through_a_result(self, made: list[FileAnswer]) -> None:
        for decision in decide_restore(made).values():
            assert RestoreDecision.from_plain(json.loads(json.dumps(decision.to_plain()))) == decision


class TestOutcome:
    @given(answers())
    def test_each_file_of_a_look_is_somewhere_once(self, made: list[FileAnswer]) -> None:
        shown = outcomes(made)
        for one in made:
            if one.found is not None:
                looked = [name for key in ("restored", "refused", "failed") for name in names(one.found[key])]
                outcome = shown[one.name]
                ended = [name for key in ("restored", "refused", "failed") for name in names(outcome[key])]
                assert sorted([*ended, *outcome["elsewhere"]]) == sorted(looked)

    @given(answers())
    def test_host_fails_in_a_dry_run_where_a_file_of_its_storage_stays_missing(self, made: list[FileAnswer]) -> None:
        shown = outcomes(made)
        restored = {(one.storage, name) for one in made if one.found for name in names(shown[one.name]["restored"])}
        for one in made:
            if one.found is not None:
                needed = {name for key in ("restored", "refused", "failed") for name in names(one.found[key])}
                is_lost = any((one.storage, name) not in restored for name in needed)
                assert bool(reasons_to_fail(shown[one.name])) is is_lost

    def test_run_has_what_the_module_did_and_what_was_not_asked_of_it(self) -> None:
        look = found(
            restored=[restorable("one"), restorable("two"), restorable("three")],
            refused=[refused("four"), refused("five")],
            failed=[failed("six")],
            present=["seven"],
        )
        decision = RestoreDecision(("one", "two"), {"four": "b"}, {"three": "Two are open."})
        acted = found(restored=[restorable("one", seconds=1.5)], failed=[failed("two")], present=["eight"])
        outcome = merge_outcome(look, decision, acted)
        assert outcome == {
            "restored": [restorable("one", seconds=1.5)],
            "present": ["eight", "seven"],
            "refused": [refused("three", "Two are open."), refused("five")],
            "failed": [failed("two"), failed("six")],
            "set_aside": [],
            "elsewhere": {"four": "b"},
        }
        assert reasons_to_fail(outcome) == [
            "/nova/_base/three was not restored (used by guest). Two are open.",
            f"/nova/_base/five was not restored (used by guest). {NOT_OPEN}",
            f"/nova/_base/two was not restored (used by guest). {FULL}",
            f"/nova/_base/six was not restored (used by guest). {FULL}",
        ]

    def test_run_without_an_answer_has_failed_with_each_of_its_files(self) -> None:
        look = found(restored=[restorable("one")], refused=[refused("two")], set_aside=[set_aside("two")])
        outcome = merge_outcome(look, RestoreDecision(("one", "two")), None, "No route.")
        assert outcome["failed"] == [failed("one", "No route."), failed("two", "No route.")]
        assert (outcome["restored"], outcome["refused"], outcome["set_aside"]) == ([], [], [])

    def test_run_whose_answer_leaves_a_file_out_has_failed_with_it(self) -> None:
        look = found(restored=[restorable("one"), restorable("two")], refused=[refused("three")])
        outcome = merge_outcome(look, RestoreDecision(("one", "two", "three")), found(restored=[restorable("one")]))
        assert (names(outcome["restored"]), names(outcome["failed"])) == (["one"], ["two", "three"])
        assert (
            "/nova/_base/two was not restored (used by guest). The host did not find it again"
            in (reasons_to_fail(outcome)[0])
        )

    def test_file_that_was_restored_without_being_asked_for_has_not_failed(self) -> None:
        both = found(restored=[restorable("one"), restorable("two")])
        outcome = merge_outcome(both, RestoreDecision(("one",), {"two": "b"}), both)
        assert (names(outcome["restored"]), outcome["failed"]) == (["one", "two"], [])

    def test_run_that_fails_over_what_it_refused_has_its_own_answer(self) -> None:
        look = found(restored=[restorable()])
        outcome = merge_outcome(look, RestoreDecision(("base",)), found(refused=[refused()]), "1 was refused.")
        assert (outcome["refused"], outcome["failed"]) == ([refused()], [])

    def test_part_without_an_answer_has_failed_with_its_files_only(self) -> None:
        look = found(restored=[restorable("one"), restorable("two", source="glance")])
        acted = merge_results([found(restored=[restorable("one")])])
        outcome = merge_outcome(look, RestoreDecision(("one", "two")), acted, "No token.")
        assert (names(outcome["restored"]), outcome["failed"]) == (["one"], [failed("two", "No token.")])

    def test_parts_of_a_run_are_one_result(self) -> None:
        merged = merge_results([found(restored=[restorable("one")], present=["x"]), found(refused=[refused("two")])])
        assert merged == {
            "restored": [restorable("one")],
            "present": ["x"],
            "refused": [refused("two")],
            "failed": [],
            "set_aside": [],
        }

    def test_run_of_which_no_part_was_answered_is_no_result(self) -> None:
        assert merge_results([]) is None

    def test_host_to_which_nothing_is_missing_does_not_fail(self) -> None:
        assert reasons_to_fail(merge_outcome(found(), RestoreDecision(), None)) == []


class TestSecondLook:
    def test_files_that_were_asked_about_again_are_as_they_were_found_then(self) -> None:
        first = found(restored=[restorable("one")], refused=[refused("two"), refused("three")], present=["four"])
        second = found(restored=[restorable("two", source="glance")])
        merged = merge_looks(first, second, {"two", "four"})
        assert merged == found(
            restored=[restorable("one"), restorable("two", source="glance")], refused=[refused("three")]
        )

    def test_remark_comes_after_the_reason_of_its_file_only(self) -> None:
        remarked = with_remarks(found(refused=[refused("one"), refused("two")]), {"two": "Glance is down."})
        assert remarked == found(refused=[refused("one"), refused("two", f"{NOT_OPEN} Glance is down.")])


class TestAnswer:
    def test_result_of_the_module_is_understood(self) -> None:
        made = result(restored=[restorable()], refused=[refused()], failed=[failed()], set_aside=[set_aside()])
        read = parse_restore_answer("a", made, "nfs")
        assert read == FileAnswer("a", AnswerState.ANSWERED, made[RESTORE], "", "nfs")

    def test_host_that_could_not_be_reached_has_its_reason(self) -> None:
        read = parse_restore_answer("a", {"unreachable": True, "msg": "No route."})
        assert (read.state, read.found, read.error) == (AnswerState.UNREACHABLE, None, "No route.")

    @pytest.mark.parametrize(
        ("more", "where"),
        [
            ({"restored": [{**restorable(), "inode": -1}]}, "image_cache_restore.restored[].inode is not a count"),
            ({"restored": [{**restorable(), "guests": "x"}]}, "image_cache_restore.restored[].guests is not a list"),
            ({"restored": [{**restorable(), "contacted": 1}]}, "contacted is not of the type bool"),
            ({"refused": [failed()]}, "image_cache_restore.refused[].reason is not of the type str"),
            ({"failed": [refused()]}, "image_cache_restore.failed[].error is not of the type str"),
            ({"set_aside": ["x"]}, "image_cache_restore.set_aside[] is not a dictionary"),
            ({"present": [1]}, "image_cache_restore.present[] is not of the type str"),
            ({"storage_id": 1}, "image_cache_restore.storage_id is not of the type str"),
        ],
    )
    def test_answer_of_another_shape_is_a_failure_with_the_key(self, more: dict[str, Any], where: str) -> None:
        read = parse_restore_answer("a", result(**more))
        assert (read.state, read.found) == (AnswerState.FAILED, None)
        assert where in read.error

    @given(json_values)
    def test_any_answer_is_understood_or_a_failure(self, value: Any) -> None:
        for made in ({RESTORE: value}, {RESTORE: {**found(), "restored": value}}):
            read = parse_restore_answer("a", made)
            assert (read.found is None) is (read.state is AnswerState.FAILED)


@pytest.mark.parametrize(("instances", "users"), [(["a (copy)"], "a (copy)"), ([], "no instance")])
def test_reason_of_the_fleet_reads_as_one_of_a_host_and_differs_by_no_host(instances: list[str], users: str) -> None:
    looked = found(restored=[restorable(instances=instances)])
    done = merge_outcome(looked, RestoreDecision(refused={"base": "Two are open."}), None)
    assert reasons_to_fail(done) == [f"/nova/_base/base was not restored (used by {users}). Two are open."]
    host = FileAnswer("a", AnswerState.ANSWERED, looked)
    assert [lost["reason"] for lost in summarise_restore([FileOutcome(host, done)], True)["lost"]] == ["Two are open."]


def test_summary_has_what_a_process_has_first_and_each_host_with_its_files() -> None:
    done = merge_outcome(
        found(
            restored=[restorable("one", source="file"), restorable("two")],
            refused=[refused("three")],
            failed=[failed("four")],
            set_aside=[set_aside("two")],
        ),
        RestoreDecision(("one", "two")),
        None,
    )
    silent = FileAnswer("b", AnswerState.UNREACHABLE, error="No route.")
    summary = summarise_restore(
        [FileOutcome(answer("a"), done), FileOutcome(silent, None), FileOutcome(answer("c"), None)], True
    )
    assert (summary["check_mode"], summary["hosts"]) == (True, 3)
    assert summary["restored"] == [
        {"host": "a", **restorable("two")},
        {"host": "a", **restorable("one", source="file")},
    ]
    assert [(lost["name"], lost["reason"]) for lost in summary["lost"]] == [
        ("three", NOT_OPEN),
        ("four", FULL),
    ]
    assert summary["set_aside"] == [{"host": "a", **set_aside("two")}]
    assert summary["unanswered"] == [
        {"host": "b", "error": "No route."},
        {"host": "c", "error": "Nothing was restored after the look."},
    ]
