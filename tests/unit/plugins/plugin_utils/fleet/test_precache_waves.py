# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What hosts say becomes the next wave, and a host's word about its own file is never enough."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.precaching import NO_QEMU_IMG, NO_SOURCE
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.answers import FileAnswer
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import PeerOptions
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.precache import (
    PRECACHE,
    decide_precache,
    parse_precache_answer,
)
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.precache_waves import (
    Attempt,
    Member,
    WavePlan,
    merge_waves,
    outcomes_of_attempts,
    plan_wave,
    read_attempts,
)
from ansible_collections.stackops.nova.tests.support.precaches import (
    FULL,
    answer,
    failed,
    fetched,
    found,
    image,
    present,
    refused,
)
from ansible_collections.stackops.nova.tools.cache_tree import fingerprint

NAME = fingerprint("one")
RAW = image("one", os_hash_value="0" * 128)
QCOW2 = image("one", disk_format="qcow2", os_hash_value="0" * 128)
GOOD, BAD = "a" * 128, "b" * 128
KEPT = fetched("one", size_bytes=RAW["size"], seconds=1.0)
CONVERTED = fetched("one", checksum=None)


def answers_of(
    *names: str, part: str = "fetched", file: dict[str, Any] | None = None, disk: str = ""
) -> list[FileAnswer]:
    return [answer(name, disk or f"disk-{name}", host=f"nova-{name}", **{part: [file or KEPT]}) for name in names]


def members(answers: Sequence[FileAnswer], record: dict[str, Any] | None = None, site: str = "") -> list[Member]:
    """Hosts that have not done anything yet."""
    decisions = decide_precache(answers, uses_peers=True)
    return [
        Member(
            each,
            decisions[each.name],
            PeerOptions(site, f"{each.name}.example", 1, (f"{each.name}.example",)),
            [record or RAW],
        )
        for each in answers
        if each.found is not None
    ]


def after(member: Member, source: str = "", wave: int = 0, **parts: Any) -> Member:
    """A host after a wave, with what the module listed of the image then."""
    said = member.answer.found or {}
    place = {key: said[key] for key in ("cache_path", "host", "storage_id", "shared_storage")}
    attempt = Attempt(wave, "one", source, {part: [file] for part, file in parts.items()}, place)
    return replace(member, attempts=(*member.attempts, attempt))


def on_storage(member: Member, storage: str, shared: bool) -> Member:
    """A host that says in its last attempt what its cache lies on."""
    *earlier, last = member.attempts
    place = {**last.place, "storage_id": storage, "shared_storage": shared}
    return replace(member, attempts=(*earlier, replace(last, place=place)))


def converted(digest: str = GOOD, **more: Any) -> dict[str, Any]:
    return fetched("one", checksum=digest, seconds=1.0, **more)


def orders(plan: WavePlan) -> dict[str, str]:
    """Who fetches from where; empty for Glance."""
    return {host: order.sources.get("one", "") for host, order in plan.orders.items()}


def test_first_host_fetches_and_serves_the_second_with_glances_checksum() -> None:
    fleet = members(answers_of("a", "b"))
    assert orders(plan_wave(fleet, False)) == {"a": ""}
    plan = plan_wave([after(fleet[0], fetched=KEPT), fleet[1]], False)
    assert plan.orders["b"].peers == {
        NAME: {
            "hosts": [{"host": "a.example", "path": f"/nova/_base/{NAME}"}],
            "size_bytes": RAW["size"],
            "allocated_bytes": KEPT["allocated_bytes"],
            "algorithm": "sha512",
            "checksum": "0" * 128,
        }
    }


def test_converted_image_is_served_with_what_two_agree_on() -> None:
    fleet = members(answers_of(*"abc", file=CONVERTED), QCOW2)
    assert orders(plan_wave(fleet, False)) == {"a": "", "b": ""}
    agreeing = [after(fleet[0], fetched=converted()), after(fleet[1], fetched=converted()), fleet[2]]
    [peer] = plan_wave(agreeing, False).orders["c"].peers.values()
    assert (peer["checksum"], peer["size_bytes"]) == (GOOD, converted()["size_bytes"])


def test_one_of_two_that_convert_is_outvoted_and_named() -> None:
    fleet = members(answers_of(*"abcd", file=CONVERTED), QCOW2)
    fleet[0] = after(fleet[0], fetched=converted(BAD, allocated_bytes=900))
    fleet[1] = after(fleet[1], fetched=converted(allocated_bytes=200))
    assert orders(plan_wave(fleet, False)) == {"c": ""}
    fleet[2] = after(fleet[2], wave=1, fetched=converted(allocated_bytes=100))
    plan = plan_wave(fleet, False)
    assert orders(plan) == {"d": "b"}
    assert [peer["allocated_bytes"] for peer in plan.orders["d"].peers.values()] == [100]
    assert "other hosts agree on" in plan.problems["a"]["one"]
    fleet[3] = after(fleet[3], "b", wave=2, fetched=converted(source="peer"))
    end = plan_wave(fleet, False)
    assert end.orders == {}
    assert [(host["host"], host["reason"][:19]) for host in end.left_out] == [("a", "it reports another ")]


@pytest.mark.parametrize(("source", "said"), [("", "peer"), ("a", "glance")], ids=["by its word", "by the plan"])
def test_what_came_from_a_peer_is_no_witness(source: str, said: str) -> None:
    fleet = members(answers_of(*"abc", file=CONVERTED), QCOW2)
    liar = after(fleet[1], source, fetched=converted(BAD, source=said))
    assert orders(plan_wave([after(fleet[0], fetched=converted(BAD)), liar, fleet[2]], False)) == {"c": ""}


def test_third_host_converts_where_one_of_two_fails() -> None:
    fleet = members(answers_of(*"abc", file=CONVERTED), QCOW2)
    done = [after(fleet[0], fetched=converted()), after(fleet[1], failed=failed("one")), fleet[2]]
    assert orders(plan_wave(done, False)) == {"c": ""}


def test_image_on_which_two_pairs_disagree_is_converted_by_each_host() -> None:
    fleet = members(answers_of(*"abcdef", file=CONVERTED), QCOW2)
    pairs = [after(each, fetched=converted(GOOD if each.answer.name in "ab" else BAD)) for each in fleet[:4]]
    plan = plan_wave([*pairs, *fleet[4:]], False)
    assert (orders(plan), plan.problems) == ({"e": "", "f": ""}, {})


@pytest.mark.parametrize("same", ["address", "host", "storage_id"])
def test_one_machine_twice_is_no_second_witness(same: str) -> None:
    fleet = [after(each, fetched=converted(BAD)) for each in members(answers_of(*"ab", file=CONVERTED), QCOW2)]
    other = fleet[1]
    if same == "address":
        other = replace(other, options=fleet[0].options)
    else:
        place = {**other.attempts[0].place, "host": "x", same: fleet[0].attempts[0].place[same]}
        own = {"shared_storage": True} if same == "storage_id" else {}
        attempts = [replace(each.attempts[0], place={**each.attempts[0].place, **own}) for each in fleet[:1]]
        fleet[0] = replace(fleet[0], attempts=tuple(attempts))
        other = replace(other, attempts=(replace(other.attempts[0], place={**place, **own}),))
    third = members(answers_of("c", file=CONVERTED), QCOW2)
    assert orders(plan_wave([fleet[0], other, *third], False)) == {"c": ""}
    if same != "storage_id":
        assert orders(plan_wave([*fleet, *third], False)) == {"c": "a"}


def test_host_without_a_cache_at_first_is_told_from_others_by_what_it_says_then() -> None:
    fleet = members([answer(name, None, host=f"nova-{name}", fetched=[CONVERTED]) for name in "abc"], QCOW2)
    done = [on_storage(after(each, fetched=converted()), f"disk-{each.answer.name}", False) for each in fleet[:2]]
    assert orders(plan_wave([*done, fleet[2]], False)) == {"c": "a"}


def test_hosts_of_one_storage_group_are_one_witness_and_those_of_two_are_two() -> None:
    def convert(*groups: str) -> dict[str, str]:
        sharing = [
            answer(name, None, group=group, host=f"nova-{name}", fetched=[CONVERTED])
            for name, group in zip("ab", groups, strict=True)
        ]
        fleet = members([*sharing, *answers_of("c", file=CONVERTED)], QCOW2)
        done = [on_storage(after(each, fetched=converted()), f"nfs-{each.answer.name}", True) for each in fleet[:2]]
        return orders(plan_wave([*done, fleet[2]], False))

    assert convert("one", "two") == {"c": "a"}
    assert convert("one", "one") == {"c": ""}


def test_host_that_reports_another_checksum_than_glances_is_named() -> None:
    fleet = members(answers_of("a", "b"))
    plan = plan_wave([after(fleet[0], fetched={**KEPT, "checksum": BAD}), fleet[1]], False)
    assert orders(plan) == {"b": ""}
    assert "by Glance's record it is " + "0" * 128 in plan.problems["a"]["one"]


def test_images_of_two_clouds_with_one_id_are_two() -> None:
    other = image("one", os_hash_value="1" * 128)
    fleet = [*members(answers_of("a")), *members(answers_of("b"), other)]
    assert orders(plan_wave(fleet, False)) == {"a": "", "b": ""}
    assert orders(plan_wave([after(fleet[0], fetched=KEPT), fleet[1]], False)) == {"b": ""}


def test_hosts_that_convert_images_of_two_clouds_with_one_id_are_no_witnesses_of_each_other() -> None:
    other = image("one", disk_format="qcow2", os_hash_value="1" * 128)
    clouds = {"a": QCOW2, "b": other, "c": QCOW2, "d": other}
    fleet = [member for name, record in clouds.items() for member in members(answers_of(name, file=CONVERTED), record)]
    done = [after(each, fetched=converted()) for each in fleet[:2]]
    assert orders(plan_wave([*done, *fleet[2:]], False)) == {"c": "", "d": ""}


@pytest.mark.parametrize("reason", [NO_QEMU_IMG, NO_SOURCE])
def test_host_without_means_of_its_own_is_served(reason: str) -> None:
    kolla = answers_of("a", part="refused", file=refused("one", f"It was not pre-cached. {reason}"))
    fleet = members([*kolla, *answers_of("b", "c", file=CONVERTED)], QCOW2)
    assert orders(plan_wave(fleet, False)) == {"b": "", "c": ""}
    agreeing = [fleet[0], *(after(each, fetched=converted()) for each in fleet[1:])]
    assert orders(plan_wave(agreeing, False)) == {"a": "b"}


def test_host_that_refuses_for_another_reason_is_not_asked() -> None:
    fleet = members([*answers_of("a", part="refused", file=refused("one", FULL)), *answers_of("b")])
    assert orders(plan_wave(fleet, False)) == {"b": ""}


def test_host_that_has_the_image_serves_it() -> None:
    fleet = members([*answers_of("a", part="present", file=present("one")), *answers_of("b")])
    assert orders(plan_wave(fleet, False)) == {"b": "a"}


def test_host_that_has_a_converted_image_serves_it_when_two_others_agree() -> None:
    fleet = members([*answers_of("a", part="present", file=present("one")), *answers_of(*"bcd", file=CONVERTED)], QCOW2)
    done = [fleet[0], *(after(each, fetched=converted()) for each in fleet[1:3]), fleet[3]]
    assert orders(plan_wave(done, False)) == {"d": "a"}


def test_host_that_has_got_the_image_meanwhile_serves_it() -> None:
    fleet = members(answers_of("a", "b"))
    assert orders(plan_wave([after(fleet[0], present=present("one")), fleet[1]], False)) == {"b": "a"}


def test_host_that_can_take_one_image_only_from_glance_takes_another_one_from_a_host() -> None:
    two = fetched("two", size_bytes=RAW["size"])
    both = [
        answer("a", "disk-a", host="nova-a", present=[present("two")]),
        answer("b", "disk-b", host="nova-b", fetched=[KEPT, two]),
    ]
    fleet = [replace(each, images=[RAW, image("two", os_hash_value="0" * 128)]) for each in members(both)]
    order = plan_wave(fleet, False).orders["b"]
    assert (order.own, order.sources, [*order.peers]) == (["one"], {"two": "a"}, [fingerprint("two")])


def test_image_that_was_not_chosen_keeps_no_host_from_another_one() -> None:
    [said] = answers_of("a")
    other = answer("a", "disk-a", host="nova-a", fetched=[fetched("stranger"), KEPT])
    assert orders(plan_wave(members([other]), False)) == orders(plan_wave(members([said]), False)) == {"a": ""}


def test_smallest_fanout_of_all_hosts_counts() -> None:
    fleet = members([*answers_of("s", part="present", file=present("one")), *answers_of(*"abc")])
    fleet = [replace(each, options=replace(each.options, fanout=3)) for each in fleet]
    assert orders(plan_wave(fleet, False)) == dict.fromkeys("abc", "s")
    fleet[3] = replace(fleet[3], options=replace(fleet[3].options, fanout=2))
    assert orders(plan_wave(fleet, False)) == dict.fromkeys("ab", "s")


def test_plan_counts_the_waves_that_were_with_the_one_that_comes() -> None:
    fleet = members(answers_of("a", "b", "c"))
    assert plan_wave(fleet, False).number == 1
    fleet[0] = after(fleet[0], fetched=KEPT)
    assert plan_wave(fleet, False, 1).number == 2
    done = [after(each, wave=1, fetched=KEPT) for each in fleet[1:]]
    assert plan_wave([fleet[0], *done], False, 2).number == 2


def test_plan_and_attempts_survive_the_way_through_results_of_tasks() -> None:
    [member] = members(answers_of("a"))
    plan = json.loads(json.dumps(plan_wave([member], False).to_plain()))
    assert plan["orders"] == {"a": {"own": ["one"], "peers": {}, "sources": {}}}
    [attempt] = after(member, fetched=KEPT).attempts
    assert Attempt.from_plain(json.loads(json.dumps(attempt.to_plain()))) == attempt


def test_hosts_of_one_storage_get_an_image_once() -> None:
    shared = [answer(name, "nfs", shared=True, host=f"nova-{name}", fetched=[KEPT]) for name in "ab"]
    assert orders(plan_wave(members(shared), False)) == {"a": ""}


def test_failed_source_is_left_out_and_named_with_the_reason() -> None:
    fleet = members([*answers_of("a", part="present", file=present("one")), *answers_of("b", "c")])
    tried = after(fleet[1], "a", failed=failed("one", "Its bytes are wrong."))
    plan = plan_wave([fleet[0], tried, fleet[2]], False)
    assert (orders(plan), plan.left_out) == ({"b": "", "c": "a"}, [])
    also = after(fleet[2], "a", wave=1, failed=failed("one", "Its bytes are wrong."))
    ended = plan_wave([fleet[0], after(tried, wave=1, fetched=KEPT), also], False)
    assert orders(ended) == {"c": "b"}
    reason = "it could not serve c and another host: Its bytes are wrong."
    assert ended.left_out == [{"host": "a", "image_id": "one", "reason": reason}]


def test_host_that_does_not_answer_accuses_nobody() -> None:
    fleet = members([*answers_of("a", part="present", file=present("one")), *answers_of("b", "c")])
    lost = Attempt(0, "one", "a", {"failed": [failed("one", "No route")]}, no_answer="No route", unreachable=True)
    fleet[1] = replace(fleet[1], attempts=(lost,))
    plan = plan_wave(fleet, False)
    assert (orders(plan), plan.left_out) == ({"c": "a"}, [])
    fleet[2] = replace(fleet[2], attempts=(replace(lost, wave=1),))
    assert plan_wave(fleet, False).left_out == []


def crashed(source: str = "") -> Attempt:
    return Attempt(0, "one", source, {"failed": [failed("one", "It crashed.")]}, no_answer="It crashed.")


def test_host_whose_module_ended_while_another_one_served_it_gets_another_source() -> None:
    fleet = members([*answers_of("s", "t", part="present", file=present("one")), *answers_of("a")])
    assert orders(plan_wave([*fleet[:2], replace(fleet[2], attempts=(crashed("s"),))], False)) == {"a": "t"}


def test_host_whose_module_ended_without_another_one_is_not_asked_again() -> None:
    fleet = members(answers_of("a", "b"))
    fleet[0] = replace(fleet[0], attempts=(crashed(),))
    assert orders(plan_wave(fleet, False)) == {"b": ""}
    assert orders(plan_wave([fleet[0], after(fleet[1], wave=1, fetched=KEPT)], False)) == {}


def test_host_that_refuses_an_image_in_a_wave_is_not_asked_again() -> None:
    fleet = members(answers_of("a", "b"))
    fleet[0] = after(fleet[0], refused=refused("one", FULL))
    assert orders(plan_wave(fleet, False)) == {"b": ""}
    assert orders(plan_wave([fleet[0], after(fleet[1], wave=1, fetched=KEPT)], False)) == {}


def test_second_host_that_a_source_fails_is_the_one_of_the_later_wave() -> None:
    fleet = members([*answers_of("s", part="present", file=present("one")), *answers_of("a", "b")])
    later = after(fleet[1], "s", wave=1, failed=failed("one", "Wrong."))
    plan = plan_wave([fleet[0], later, after(fleet[2], "s", failed=failed("one", "Wrong."))], False)
    assert [host["reason"] for host in plan.left_out] == ["it could not serve a and another host: Wrong."]


def test_plan_does_not_depend_on_the_order_of_members() -> None:
    fleet = members([*answers_of("s", part="present", file=present("one")), *answers_of(*"abc")])
    tried = [after(each, "s", failed=failed("one", f"{each.answer.name} failed.")) for each in fleet[1:3]]
    plans = [plan_wave(each, False) for each in ([fleet[0], *tried, fleet[3]], [fleet[3], *tried[::-1], fleet[0]])]
    assert plans[0].left_out == plans[1].left_out
    assert plans[0].left_out[0]["reason"] == "it could not serve b and another host: b failed."


def test_unreachable_host_gets_nothing_to_do_any_more() -> None:
    records = [RAW, image("two", os_hash_value="0" * 128)]
    both = [answer("a", "disk-a", host="nova-a", fetched=[KEPT, fetched("two", size_bytes=RAW["size"])])]
    [member] = [replace(each, images=records) for each in members(both)]
    lost = Attempt(0, "one", "", {"failed": [failed("one", "No route")]}, no_answer="No route", unreachable=True)
    assert set(plan_wave([member], False).orders) == {"a"}
    assert plan_wave([replace(member, attempts=(lost,))], False, 1).orders == {}


def slow_one_of(sources: str, hosts: str, slow: str, wave: int = 0) -> list[Member]:
    """Hosts of which each got the image from a source, or from Glance where there are none, and one in 500 seconds."""
    fleet = members([*answers_of(*sources, part="present", file=present("one")), *answers_of(*hosts)])
    seconds = {name: 500.0 if name == slow else 20.0 for name in hosts}
    served_by = dict(zip(hosts, sources or [""] * len(hosts), strict=True))
    done = [
        after(each, served_by[each.answer.name], wave, fetched={**KEPT, "seconds": seconds[each.answer.name]})
        for each in fleet[len(sources) :]
    ]
    return [*fleet[: len(sources)], *done]


@pytest.mark.parametrize(
    ("sources", "hosts", "slow", "where"),
    [("stuv", "abcd", "a", "from s"), ("stuv", "abcz", "z", "from v"), ("", "abcd", "b", "from Glance")],
)
def test_slow_host_is_left_out_with_both_numbers(sources: str, hosts: str, slow: str, where: str) -> None:
    left_out = plan_wave(slow_one_of(sources, hosts, slow), False).left_out
    assert [host["host"] for host in left_out] == [slow]
    assert left_out[0]["reason"] == f"it was much slower than others: 1073741824 bytes in 500 s {where}"


@pytest.mark.parametrize(("site", "other"), [("far", {}), ("", {"wave": 1}), ("", {"source": ""})])
def test_transfer_is_not_slow_by_those_of_another_wave_or_site_or_from_glance(site: str, other: dict[str, Any]) -> None:
    *others, last = slow_one_of("stuv", "abcd", "d")
    attempts = tuple(replace(attempt, **other) for attempt in last.attempts)
    alone = replace(last, options=replace(last.options, site=site), attempts=attempts)
    assert plan_wave([*others, alone], False).left_out == []


def test_source_that_two_hosts_find_slow_is_left_out_with_the_host_that_it_served() -> None:
    first = slow_one_of("stuv", "abcd", "a")
    second = [replace(each, attempts=()) for each in slow_one_of("", "efgh", "e")]
    second = [
        after(each, source, 1, fetched={**KEPT, "seconds": 500.0 if source == "s" else 20.0})
        for each, source in zip(second, "stuv", strict=True)
    ]
    left_out = {host["host"]: host["reason"] for host in plan_wave([*first, *second], False).left_out}
    assert [*left_out] == ["a", "e", "s"]
    assert left_out["s"].endswith("in 500 s to e")


def test_dry_run_says_who_would_serve_whom() -> None:
    fleet = members(answers_of("a", "b"))
    plan = plan_wave(fleet, True)
    assert (plan.orders, plan.number) == ({}, 2)
    assert [file["source"] for file in (*plan.expected["a"], *plan.expected["b"])] == ["glance", "peer"]
    [file] = plan.expected["b"]
    assert (file["source_path"], file["contacted"]) == (f"a.example:/nova/_base/{NAME}", False)


def test_dry_run_shows_what_another_host_says_of_an_image_that_one_cannot_fetch() -> None:
    alone = answers_of("b", part="refused", file=refused("one", NO_SOURCE))
    assert plan_wave(members([*answers_of("a"), *alone]), True).expected["b"] == [
        {
            **KEPT,
            "source": "peer",
            "source_path": f"a.example:/nova/_base/{NAME}",
            "proof": "agreed",
            "contacted": False,
            "read_bytes": RAW["size"],
        }
    ]


def test_dry_run_shows_what_glance_says_of_an_image_that_no_host_can_fetch() -> None:
    alone = answers_of("b", part="refused", file=refused("one", NO_SOURCE))
    plan = plan_wave(members([*answers_of("a", part="present", file=present("one")), *alone]), True)
    assert plan.expected["b"] == [
        {
            "name": NAME,
            "image_id": "one",
            "source": "peer",
            "source_path": f"a.example:/nova/_base/{NAME}",
            "proof": "agreed",
            "contacted": False,
            "read_bytes": RAW["size"],
            "size_bytes": RAW["size"],
            "allocated_bytes": RAW["size"],
            "seconds": 0.0,
            "algorithm": "sha512",
            "checksum": None,
        }
    ]


def test_dry_run_shows_the_size_of_a_qcow2_image_as_hosts_keep_it() -> None:
    other = image("one", disk_format="qcow2", os_hash_value="1" * 128, virtual_size=10 * QCOW2["size"])
    alone = answers_of("b", part="refused", file=refused("one", NO_SOURCE))
    of_other_cloud = members([*answers_of("a", part="present", file=present("one")), *alone], other)
    fleet = [*of_other_cloud, *members(answers_of("c", file=fetched("one", size_bytes=QCOW2["size"])), QCOW2)]
    [file] = plan_wave(fleet, True).expected["b"]
    assert (file["size_bytes"], file["allocated_bytes"], file["read_bytes"]) == (QCOW2["size"],) * 3


def outcome(member: Member, **problems: str) -> dict[str, Any]:
    return merge_waves(member.answer.found or {}, member.decision, member.attempts, problems)


def test_outcome_is_that_of_the_last_attempt() -> None:
    [member] = members(answers_of("a"))
    tried = after(after(member, "b", failed=failed("one")), wave=1, fetched=KEPT)
    assert (outcome(tried)["fetched"], outcome(tried)["failed"]) == ([KEPT], [])


def test_outcome_of_a_dry_run_is_what_the_waves_would_bring() -> None:
    [member] = members(answers_of("a"))
    from_peer = {**KEPT, "source": "peer"}
    merged = merge_waves(member.answer.found or {}, member.decision, (), {}, [from_peer])
    assert (merged["fetched"], merged["failed"]) == ([from_peer], [])


def test_image_that_came_up_in_no_wave_is_a_failure() -> None:
    [member] = members(answers_of("a"))
    assert "does not mention it" in outcome(member)["failed"][0]["error"]


def test_file_that_is_not_what_it_must_be_is_a_failure() -> None:
    [member] = members(answers_of("a"))
    result = outcome(after(member, fetched=KEPT), one="It differs.")
    assert result["fetched"] == []
    assert [file["error"] for file in result["failed"]] == ["It differs."]


def test_host_that_nobody_could_serve_says_so() -> None:
    [member] = members(answers_of("a", part="refused", file=refused("one", NO_SOURCE)))
    [file] = outcome(member)["refused"]
    assert file["reason"].startswith(NO_SOURCE)
    assert "no host of its site could serve it" in file["reason"]


def test_host_whose_play_ended_between_waves_is_reported_by_what_it_did() -> None:
    fleet = members(answers_of("a", "b", "c"))
    done = [after(fleet[0], fetched=KEPT), after(fleet[1], fetched={**KEPT, "checksum": BAD}), fleet[2]]
    outcomes = outcomes_of_attempts(done)
    assert outcomes["a"]["fetched"] == [KEPT]
    assert "is not what it must be on this host" in outcomes["b"]["failed"][0]["error"]
    assert "The play ended before its turn" in outcomes["c"]["failed"][0]["error"]


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (found(fetched=[KEPT], present=[present("one")]), "has the image one twice"),
        (found(fetched=[KEPT, KEPT]), "has the image one twice"),
        (found(cache_path="relative"), "cache_path is not an absolute path"),
        (found(cache_path="/nova/_base\n/other"), "cache_path is not an absolute path"),
    ],
)
def test_answer_that_cannot_be_true_leaves_only_its_host_out(bad: dict[str, Any], problem: str) -> None:
    answers = [parse_precache_answer("a", {PRECACHE: bad}), *answers_of("b")]
    assert problem in answers[0].error
    fleet = members(answers)
    assert orders(plan_wave(fleet, False)) == {"b": ""}


@pytest.mark.parametrize("checksum", ["", "0" * 127, "0" * 127 + "G", None, "$(reboot)"])
def test_checksum_that_is_none_is_no_attempt_that_counts(checksum: str | None) -> None:
    result = {PRECACHE: found(fetched=[{**KEPT, "checksum": checksum}])}
    [attempt] = read_attempts("a", result, {"one": ""}, 0)
    assert attempt.fetched is None
    assert "Its answer cannot be understood" in attempt.parts["failed"][0]["error"]


def test_image_that_an_answer_does_not_mention_has_failed() -> None:
    [one, two] = read_attempts("a", {PRECACHE: found(fetched=[KEPT])}, {"one": "", "two": "b"}, 0)
    assert one.fetched == KEPT
    assert "does not mention it" in two.parts["failed"][0]["error"]


def test_image_whose_id_comes_before_another_one_is_not_taken_for_it() -> None:
    [one, two] = read_attempts("a", {PRECACHE: found(fetched=[fetched("two")])}, {"one": "b", "two": ""}, 0)
    assert (one.fetched, two.fetched) == (None, fetched("two"))


def test_attempt_has_what_the_host_says_of_itself_or_why_it_says_nothing() -> None:
    place = {"cache_path": "/nova/_base", "host": "nova-host", "storage_id": "disk", "shared_storage": False}
    assert read_attempts("a", {PRECACHE: found(fetched=[KEPT])}, {"one": ""}, 3) == [
        Attempt(3, "one", "", {"fetched": [KEPT]}, place)
    ]
    assert read_attempts("a", {"unreachable": True, "msg": "No route"}, {"one": "b"}, 0) == [
        Attempt(0, "one", "b", {"failed": [failed("one", "No route")]}, {}, "No route", unreachable=True)
    ]


def test_host_that_copies_the_storage_of_another_one_gets_nothing_in_its_place() -> None:
    answers = [answer(name, "disk", host="nova", fetched=[KEPT]) for name in ("a", "victim")]
    fleet = members(answers)
    assert all(member.decision.image_ids == ("one",) for member in fleet)
    assert orders(plan_wave([after(fleet[0], fetched=KEPT), fleet[1]], False)) == {"victim": "a"}


def test_image_that_hosts_keep_as_qcow2_comes_from_a_host_that_has_it() -> None:
    kept = fetched("one", size_bytes=QCOW2["size"], seconds=1.0)
    fleet = members([*answers_of("a", part="present", file=present("one")), *answers_of("b", file=kept)], QCOW2)
    plan = plan_wave(fleet, False)
    assert orders(plan) == {"b": "a"}
    assert [peer["checksum"] for peer in plan.orders["b"].peers.values()] == ["0" * 128]


def test_host_without_a_source_takes_a_qcow2_image_as_the_others_keep_it() -> None:
    kept = fetched("one", size_bytes=QCOW2["size"], seconds=1.0)
    alone = answers_of("a", part="refused", file=refused("one", NO_SOURCE))
    fleet = members([*alone, *answers_of("b", file=kept)], QCOW2)
    assert orders(plan_wave(fleet, False)) == {"b": ""}
    assert orders(plan_wave([fleet[0], after(fleet[1], fetched=kept)], False, 1)) == {"a": "b"}


def test_host_that_cannot_convert_takes_no_qcow2_image_as_others_keep_it() -> None:
    kept = fetched("one", size_bytes=QCOW2["size"], seconds=1.0)
    alone = answers_of("a", part="refused", file=refused("one", f"It was not pre-cached. {NO_QEMU_IMG}"))
    fleet = members([*alone, *answers_of("b", file=kept)], QCOW2)
    assert orders(plan_wave([fleet[0], after(fleet[1], fetched=kept)], False, 1)) == {}


def test_host_without_a_source_takes_a_raw_image_of_which_nobody_says_more() -> None:
    alone = answers_of("a", part="refused", file=refused("one", NO_SOURCE))
    fleet = members([*alone, *answers_of("b", part="present", file=present("one"))])
    assert orders(plan_wave(fleet, False)) == {"a": "b"}


images_said = st.lists(
    st.sampled_from([KEPT, CONVERTED, fetched("two"), fetched("stranger"), fetched("one", source="nowhere")]),
    max_size=3,
)


@st.composite
def answers_of_anybody(draw: st.DrawFn) -> list[FileAnswer]:
    """What hosts say at first, of which some is not true."""
    answers = []
    for name in draw(st.sampled_from(["a", "ab", "abcdef"])):
        said = found(
            draw(st.sampled_from([None, "nfs", f"disk-{name}"])),
            shared=draw(st.booleans()),
            host=draw(st.sampled_from(["nova", f"nova-{name}"])),
            fetched=draw(images_said),
            present=draw(st.lists(st.sampled_from([present("one"), present("two"), present("other")]), max_size=2)),
            refused=draw(st.lists(st.sampled_from([refused("one", NO_SOURCE), refused("two", FULL)]), max_size=2)),
        )
        answers.append(parse_precache_answer(name, {PRECACHE: said}))
    return answers


def results_of_anything(image_ids: Sequence[str]) -> st.SearchStrategy[dict[str, Any]]:
    """What a module may return of images, or does not."""
    of_one = st.sampled_from([{}, *({part: 1} for part in ("fetched", "present", "refused", "failed"))])

    def build(parts: Sequence[dict[str, int]], digest: str, source: str, seconds: float) -> dict[str, Any]:
        made = {"fetched": converted(digest, source=source), "present": present(), "refused": refused()}
        made.update(fetched={**made["fetched"], "seconds": seconds}, failed=failed("one"))
        listed: dict[str, list[dict[str, Any]]] = {part: [] for part in made}
        for image_id, part in zip(image_ids, parts, strict=True):
            for name in part:
                listed[name].append({**made[name], "image_id": image_id})
        return {PRECACHE: found(**listed)}

    answered = st.builds(
        build,
        st.lists(of_one, min_size=len(image_ids), max_size=len(image_ids)),
        st.sampled_from([GOOD, BAD, "0" * 128, "none"]),
        st.sampled_from(["glance", "peer", "file", "moon"]),
        st.sampled_from([0.0, 1.0, 1e300]),
    )
    return st.one_of(answered, st.sampled_from([{"unreachable": True}, {"failed": True, "msg": "x"}, {}]))


@settings(max_examples=150, deadline=None)
@given(answers_of_anybody(), st.data())
def test_waves_end_and_raise_nothing_whatever_hosts_say(answers: list[FileAnswer], data: st.DataObject) -> None:
    record = data.draw(st.sampled_from([RAW, QCOW2]))
    fleet = [
        replace(each, images=[record, image("two", disk_format="qcow2", os_hash_value="0" * 128)])
        for each in members(answers, record)
    ]
    plan_wave(fleet, True)
    number = 0
    while (plan := plan_wave(fleet, False, number)).orders:
        for index, member in enumerate(fleet):
            order = plan.orders.get(member.answer.name)
            if order is None or not data.draw(st.integers(0, 9)):
                continue  # nothing is heard of it
            sources = {**dict.fromkeys(order.own, ""), **order.sources}
            result = data.draw(results_of_anything(list(sources)))
            made = [
                Attempt.from_plain(each.to_plain())
                for each in read_attempts(member.answer.name, result, sources, number)
            ]
            fleet[index] = replace(member, attempts=(*member.attempts, *made))
        number += 1
        assert number <= 31
    outcomes_of_attempts(fleet)
    for member in fleet:
        merge_waves(
            member.answer.found or {}, member.decision, member.attempts, plan.problems.get(member.answer.name, {})
        )
