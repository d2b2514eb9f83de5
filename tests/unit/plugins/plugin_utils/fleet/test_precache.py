# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each image comes to a storage once, and what came of each is somewhere in the result, once."""

from __future__ import annotations

import json
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
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.precache import (
    PRECACHE,
    PrecacheDecision,
    decide_precache,
    merge_precache_outcome,
    parse_precache_answer,
    summarise_precache,
)
from ansible_collections.stackops.nova.tests.support.precaches import (
    FULL,
    GIB,
    answer,
    failed,
    fetched,
    found,
    present,
    refused,
    result,
)

PARTS = ("fetched", "present", "refused", "failed")
MAKE: dict[str, Any] = {"fetched": fetched, "present": present, "refused": refused, "failed": failed}


@st.composite
def answers(draw: st.DrawFn) -> list[FileAnswer]:
    """What some hosts found, on storages that some of them share."""
    made = []
    for name in draw(st.lists(st.sampled_from("abcdef"), unique=True, max_size=6)):
        if draw(st.booleans()) and draw(st.booleans()):
            made.append(FileAnswer(name, AnswerState.UNREACHABLE, error="No route."))
            continue
        parts: dict[str, list[Any]] = {part: [] for part in PARTS}
        for image_id in ("one", "two", "three"):
            part = draw(st.sampled_from(PARTS))
            parts[part].append(MAKE[part](image_id))
        storage = draw(st.sampled_from(["x", "y", None]))
        made.append(answer(name, storage, shared=True, **parts))
    return made


def ids(images: list[dict[str, Any]]) -> list[str]:
    return [image["image_id"] for image in images]


class TestDecision:
    def test_hosts_with_storages_of_their_own_fetch_for_themselves(self) -> None:
        made = decide_precache([answer(name, name, fetched=[fetched()], host=name) for name in "ab"])
        assert made == {name: PrecacheDecision(("one",)) for name in "ab"}

    def test_first_host_by_name_fetches_for_all_that_share_its_storage(self) -> None:
        made = decide_precache([answer(name, shared=True, fetched=[fetched()]) for name in "cab"])
        assert made["a"] == PrecacheDecision(("one",))
        assert made["b"] == made["c"] == PrecacheDecision((), {"one": "a"})

    def test_hosts_of_a_storage_group_are_one_storage(self) -> None:
        made = decide_precache([answer(name, name, group="nfs", fetched=[fetched()]) for name in "ab"])
        assert made["b"] == PrecacheDecision((), {"one": "a"})

    def test_host_that_can_fetch_does_for_one_that_cannot(self) -> None:
        hosts = [answer("a", shared=True, refused=[refused()]), answer("b", shared=True, fetched=[fetched()])]
        assert decide_precache(hosts)["a"] == PrecacheDecision((), {"one": "b"})

    @given(answers())
    def test_each_image_is_fetched_once_for_each_storage_that_can_have_it(self, made: list[FileAnswer]) -> None:
        decisions = decide_precache(made)
        assert decisions.keys() == {each.name for each in made if each.found is not None}
        by_storage: dict[Any, list[str]] = {}
        wanted: dict[Any, set[str]] = {}
        for each in made:
            if each.found is not None:
                by_storage.setdefault(each.storage, []).extend(decisions[each.name].image_ids)
                wanted.setdefault(each.storage, set()).update(ids(each.found["fetched"]))
        assert {storage: sorted(images) for storage, images in by_storage.items()} == {
            storage: sorted(images) for storage, images in wanted.items()
        }

    @given(answers())
    def test_host_fetches_only_what_its_look_offered_and_leaves_the_rest_to_a_host_that_does(
        self, made: list[FileAnswer]
    ) -> None:
        decisions = decide_precache(made)
        for each in made:
            if each.found is not None:
                decision = decisions[each.name]
                assert set(decision.image_ids) <= set(ids(each.found["fetched"]))
                assert all(image in decisions[host].image_ids for image, host in decision.elsewhere.items())

    def test_decision_is_plain_data_in_a_result(self) -> None:
        decision = PrecacheDecision(("one",), {"two": "b"})
        assert decision.to_plain() == {"image_ids": ("one",), "elsewhere": {"two": "b"}}
        assert PrecacheDecision.from_plain({"image_ids": ["one"], "elsewhere": {"two": "b"}}) == decision

    @given(answers())
    def test_decision_survives_the_way_through_a_result(self, made: list[FileAnswer]) -> None:
        for decision in decide_precache(made).values():
            assert PrecacheDecision.from_plain(json.loads(json.dumps(decision.to_plain()))) == decision


class TestOutcome:
    @given(answers())
    def test_each_image_of_a_look_is_somewhere_once(self, made: list[FileAnswer]) -> None:
        decisions = decide_precache(made)
        for each in made:
            if each.found is not None:
                outcome = merge_precache_outcome(each.found, decisions[each.name], None)
                all_ids = [image for part in PARTS for image in ids(outcome[part])]
                assert sorted([*all_ids, *outcome["elsewhere"]]) == ["one", "three", "two"]

    def test_run_counts_what_it_did_and_not_what_was_expected(self) -> None:
        look = found(fetched=[fetched("one"), fetched("two")], present=[present("three")])
        acted = found(fetched=[fetched("one")], failed=[failed("two")])
        outcome = merge_precache_outcome(look, PrecacheDecision(("one", "two")), acted)
        assert {part: ids(outcome[part]) for part in PARTS} == {
            "fetched": ["one"],
            "present": ["three"],
            "refused": [],
            "failed": ["two"],
        }

    def test_image_that_another_host_fetches_is_not_refused_here(self) -> None:
        look = found(fetched=[fetched("one")], refused=[refused("two"), refused("three")])
        outcome = merge_precache_outcome(look, PrecacheDecision(("one",), {"two": "b"}), None)
        assert (ids(outcome["fetched"]), ids(outcome["refused"])) == (["one"], ["three"])

    def test_image_that_came_meanwhile_is_present(self) -> None:
        look, acted = found(fetched=[fetched()]), found(present=[present()])
        outcome = merge_precache_outcome(look, PrecacheDecision(("one",)), acted)
        assert (ids(outcome["present"]), reasons_to_fail(outcome)) == (["one"], [])

    def test_module_without_an_answer_fails_each_image_with_its_error(self) -> None:
        look = found(fetched=[fetched("one"), fetched("two")])
        outcome = merge_precache_outcome(look, PrecacheDecision(("one",), {"two": "b"}), None, "Killed.")
        assert (outcome["failed"], outcome["elsewhere"]) == ([failed("one", "Killed.")], {"two": "b"})

    def test_image_that_the_module_fetched_unasked_is_not_taken_for_lost(self) -> None:
        look = found(fetched=[fetched("one"), fetched("two")])
        acted = found(fetched=[fetched("one"), fetched("two")])
        outcome = merge_precache_outcome(look, PrecacheDecision(("one",), {"two": "b"}), acted)
        assert (ids(outcome["fetched"]), outcome["failed"]) == (["one", "two"], [])

    def test_image_that_the_module_does_not_mention_is_not_taken_for_there(self) -> None:
        outcome = merge_precache_outcome(found(fetched=[fetched()]), PrecacheDecision(("one",)), found())
        assert "does not mention it" in reasons_to_fail(outcome)[0]

    def test_refused_and_failed_images_are_reasons_to_fail(self) -> None:
        look = found(refused=[refused("one", "No.")], failed=[failed("two", "Cut.")])
        assert reasons_to_fail(merge_precache_outcome(look, PrecacheDecision(), None)) == ["No.", "Cut."]


class TestAnswers:
    def test_answer_is_understood(self) -> None:
        made = result(fetched=[fetched()], present=[present("two")])
        assert parse_precache_answer("a", made, "nfs") == FileAnswer(
            "a", AnswerState.ANSWERED, made[PRECACHE], "", "nfs"
        )

    @pytest.mark.parametrize(
        "more",
        [
            {"fetched": "x"},
            {"fetched": [{}]},
            {"fetched": [fetched(read_bytes=-1)]},
            {"present": ["one"]},
            {"refused": [present()]},
            {"failed": [present()]},
            {"cache_path": None},
        ],
    )
    def test_answer_of_another_shape_is_a_failure_with_the_key(self, more: dict[str, Any]) -> None:
        read = parse_precache_answer("a", result(**more))
        assert (read.state, read.found) == (AnswerState.FAILED, None)
        assert "Its answer cannot be understood: image_cache_precache" in read.error


def test_summary_counts_hosts_for_each_image() -> None:
    looked = found(fetched=[fetched("one"), fetched("two")], present=[present("three")])
    decisions = {"a": PrecacheDecision(("one", "two")), "b": PrecacheDecision((), {"one": "a", "two": "a"})}
    done = [
        FileOutcome(answer(name), merge_precache_outcome(looked, decision, None))
        for name, decision in decisions.items()
    ]
    full = found(refused=[refused("one")], failed=[failed("two", "Cut.")])
    done.append(FileOutcome(answer("c"), merge_precache_outcome(full, PrecacheDecision(), None)))
    done.append(FileOutcome(FileAnswer("d", AnswerState.UNREACHABLE, error="No route."), None))
    done.append(FileOutcome(answer("e"), None))
    made = summarise_precache(done, {"one": "zebra", "two": "ape"}, check_mode=True)
    assert (made["hosts"], made["check_mode"], made["generated"]) == (5, True, 0)
    assert [(each["image_name"], each["image_id"]) for each in made["images"]] == [
        ("", "three"),
        ("ape", "two"),
        ("zebra", "one"),
    ]
    zebra = made["images"][2]
    assert {part: zebra[part] for part in (*PARTS, "elsewhere")} == {
        "fetched": 1,
        "present": 0,
        "refused": 1,
        "failed": 0,
        "elsewhere": 1,
    }
    assert sum(each["read_bytes"] for each in made["fetched"]) == 2 * GIB
    assert [(each["host"], each["image_name"], each["reason"]) for each in made["lacking"]] == [
        ("c", "zebra", FULL),
        ("c", "ape", "Cut."),
    ]
    assert made["unanswered"] == [
        {"host": "d", "error": "No route."},
        {"host": "e", "error": "Nothing was pre-cached after the look."},
    ]


def outcomes(*hosts: str, **more: Any) -> list[FileOutcome]:
    """Hosts, each with a storage of its own, that were asked for an image and found this."""
    return [
        FileOutcome(
            answer(host, f"disk-{host}"), merge_precache_outcome(found(**more), PrecacheDecision(("one",)), None)
        )
        for host in hosts
    ]


def test_summary_has_what_came_of_each_image_on_each_host() -> None:
    look = found(fetched=[fetched("one")], present=[present("two")], refused=[refused("three")])
    done = [
        FileOutcome(answer(name, "nfs", shared=True), merge_precache_outcome(look, decision, None))
        for name, decision in {"b": PrecacheDecision(("one",)), "a": PrecacheDecision((), {"one": "b"})}.items()
    ]
    done.append(FileOutcome(FileAnswer("c", AnswerState.FAILED, error="It failed."), None))
    made = summarise_precache(done, {"one": "ape"}, check_mode=False, now=7.5)
    assert made["generated"] == 7.5
    assert [(row["name"], row["storage_hosts"], row["cache_path"], row["error"]) for row in made["outcomes"]] == [
        ("b", ["a", "b"], "/nova/_base", ""),
        ("a", ["a", "b"], "/nova/_base", ""),
        ("c", ["c"], None, "It failed."),
    ]
    first, second, third = (
        {image["image_id"]: (image["outcome"], image["image_name"]) for image in row["images"]}
        for row in made["outcomes"]
    )
    assert first == {"one": ("fetched", "ape"), "two": ("present", ""), "three": ("refused", "")}
    assert second == {"one": ("elsewhere", "ape"), "two": ("present", ""), "three": ("refused", "")}
    assert third == {}
    [image] = made["fetched"]
    assert image == {"host": "b", **fetched("one"), "image_name": "ape", "outcome": "fetched"}


def test_hosts_of_an_earlier_batch_are_kept_in_the_summary_unchanged() -> None:
    first = summarise_precache(outcomes("a", "b", fetched=[fetched()]), {}, check_mode=False)
    lost = FileOutcome(FileAnswer("a", AnswerState.NOT_LOOKED_AT, error="It was not looked at."), None)
    both = summarise_precache(
        [lost, *outcomes("c", present=[present()])], {}, check_mode=False, previous=first["outcomes"]
    )
    assert (both["hosts"], both["unanswered"]) == (3, [])
    assert [row["name"] for row in both["outcomes"]] == ["a", "b", "c"]
    assert [(each["fetched"], each["present"]) for each in both["images"]] == [(2, 1)]


def test_host_that_is_lost_in_a_later_run_is_shown_without_an_answer() -> None:
    first = summarise_precache(outcomes("a", fetched=[fetched()]), {}, check_mode=False)
    lost = FileOutcome(FileAnswer("a", AnswerState.UNREACHABLE, error="No route."), None)
    second = summarise_precache([lost], {}, check_mode=False, previous=first["outcomes"])
    assert (second["fetched"], second["unanswered"]) == ([], [{"host": "a", "error": "No route."}])


def test_host_that_is_looked_at_again_replaces_what_came_of_it_before() -> None:
    first = summarise_precache(outcomes("a", fetched=[fetched()]), {}, check_mode=False)
    again = outcomes("a", present=[present()])
    second = summarise_precache(again, {}, check_mode=False, previous=first["outcomes"])
    assert (second["hosts"], second["fetched"], second["images"][0]["present"]) == (1, [], 1)
