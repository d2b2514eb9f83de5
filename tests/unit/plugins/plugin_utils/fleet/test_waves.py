# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every host gets what it lacks in few waves, from a host that has it, and Glance serves few copies."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.waves import (
    Host,
    Outcome,
    Pace,
    Result,
    Transfer,
    Trust,
    foresee,
    next_wave,
    recipients,
    slow_transfers,
    why_left_out,
)

ONE, TWO = "one", "two"
AGREED = {ONE: Trust.AGREED, TWO: Trust.AGREED}
OPEN = {ONE: Trust.OPEN, TWO: Trust.OPEN}
DISPUTED = {ONE: Trust.DISPUTED, TWO: Trust.DISPUTED}
HAVE = (Outcome.DONE, Outcome.SLOW, Outcome.DIFFERS)
LIMIT = 1000

Play = list[tuple[Transfer, ...]]
Judge = Callable[[int, Transfer], Outcome]


def lacking(name: str, *images: str, site: str = "", **more: frozenset[str]) -> Host:
    """A host that lacks images and can fetch them from Glance."""
    wanted = frozenset(images or (ONE,))
    return Host(name, site, ("disk", name), lacks=wanted, **{"from_glance": wanted, **more})


def having(name: str, *images: str, site: str = "") -> Host:
    return Host(name, site, ("disk", name), has=frozenset(images or (ONE,)))


def many(number: int, **more: str) -> list[Host]:
    return [lacking(f"h{index:03}", **more) for index in range(number)]


def run(hosts: Sequence[Host], trust: dict[str, Trust], judge: Judge, fanout: int = 1) -> tuple[Play, list[Result]]:
    """Play all waves; ``judge`` says what comes of each transfer."""
    waves: Play = []
    results: list[Result] = []
    while wave := next_wave(hosts, trust, results, fanout, len(waves)):
        assert len(waves) < LIMIT
        results += [Result(len(waves), transfer, judge(len(waves), transfer)) for transfer in wave]
        waves.append(wave)
        for image, state in trust.items():
            own = sum(one.transfer.image == image and not one.transfer.source for one in results)
            if state is Trust.OPEN and own >= 2:
                trust = {**trust, image: Trust.AGREED}
    return waves, results


def wave_of(
    hosts: Sequence[Host],
    trust: dict[str, Trust] | None = None,
    results: Sequence[Result] = (),
    fanout: int = 1,
    number: int = 0,
) -> tuple[Transfer, ...]:
    return next_wave(hosts, AGREED if trust is None else trust, results, fanout, number)


def came_of(outcome: Outcome, image: str, *names: str, source: str = "") -> list[Result]:
    """What came of an image on some hosts in the first wave."""
    return [Result(0, Transfer(image, name, source), outcome) for name in names]


def from_glance(wave: Sequence[Transfer]) -> list[str]:
    return [transfer.host for transfer in wave if not transfer.source]


def all_done(_wave: int, _transfer: Transfer) -> Outcome:
    return Outcome.DONE


@pytest.mark.parametrize("number", [1, 2, 3, 8, 9, 100, 800])
def test_copies_double_in_each_wave_and_glance_serves_one(number: int) -> None:
    waves = foresee(many(number), AGREED)
    assert len(waves) == 1 + math.ceil(math.log2(number))
    assert sum(len(from_glance(wave)) for wave in waves) == 1


def test_fanout_of_three_takes_fewer_waves() -> None:
    assert [len(wave) for wave in foresee(many(64), AGREED, fanout=3)] == [1, 3, 12, 48]


@pytest.mark.parametrize(("fanout", "served"), [(1, "a"), (2, "ab"), (3, "abc"), (4, "abcd")])
def test_source_serves_as_many_hosts_as_the_fanout_whatever_images_they_get(fanout: int, served: str) -> None:
    hosts = [having("s", ONE, TWO), lacking("a"), lacking("b"), lacking("c", TWO), lacking("d", TWO)]
    assert [transfer.host for transfer in wave_of(hosts, fanout=fanout)] == list(served)


def test_source_of_two_images_serves_both_to_one_host_in_one_wave() -> None:
    wave = wave_of([having("s", ONE, TWO), lacking("a", ONE, TWO)])
    assert wave == (Transfer(ONE, "a", "s"), Transfer(TWO, "a", "s"))


def test_two_images_of_a_host_come_from_the_sources_that_have_them() -> None:
    wave = wave_of([having("s", ONE), having("t", TWO), lacking("a", ONE, TWO)])
    assert wave == (Transfer(ONE, "a", "s"), Transfer(TWO, "a", "t"))


def test_source_that_serves_nobody_yet_comes_before_one_that_does() -> None:
    wave = wave_of([having("busy", ONE, TWO), having("idle", TWO), lacking("a"), lacking("b", TWO)], fanout=2)
    assert wave == (Transfer(ONE, "a", "busy"), Transfer(TWO, "b", "idle"))


NFS = ("nfs", "server:/cache")
WITH_FILE, WITH_GLANCE = {"from_file": frozenset({ONE})}, {"from_glance": frozenset({ONE})}


@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [
        ({}, WITH_GLANCE, "b"),
        (WITH_GLANCE, WITH_FILE, "b"),
        (WITH_FILE, WITH_GLANCE, "a"),
        (WITH_GLANCE, WITH_GLANCE, "a"),
        ({}, {}, "a"),
        (WITH_FILE | {"takes_part": False}, {}, "b"),
    ],
)
def test_host_with_the_best_means_of_its_own_gets_the_image_of_a_storage(
    first: dict[str, Any], second: dict[str, Any], chosen: str
) -> None:
    sharing = [
        Host(name, storage=NFS, lacks=frozenset({ONE}), **means) for name, means in (("a", first), ("b", second))
    ]
    for hosts in (sharing, sharing[::-1]):
        assert [(image, host.name) for image, host in recipients(hosts)] == [(ONE, chosen)]


def test_hosts_whose_storages_are_unknown_get_an_image_each() -> None:
    hosts = [Host(name, lacks=frozenset({ONE})) for name in "ab"]
    assert [host.name for _image, host in recipients(hosts)] == ["a", "b"]


def test_two_hosts_fetch_an_image_that_is_converted() -> None:
    waves = foresee(many(8), OPEN)
    assert [from_glance(wave) for wave in waves] == [["h000", "h001"], [], []]


def test_host_that_has_the_image_already_spares_glance() -> None:
    waves = foresee([having("old"), *many(3)], AGREED)
    assert [from_glance(wave) for wave in waves] == [[], []]
    assert waves[0] == (Transfer(ONE, "h000", "old"),)


def test_converted_image_is_fetched_by_two_although_a_host_has_it() -> None:
    waves = foresee([having("old"), *many(5)], OPEN)
    assert [len(wave) for wave in waves] == [2, 3]
    assert len(from_glance(waves[0])) == 2


def test_each_site_fetches_for_itself() -> None:
    hosts = [lacking(f"{site}{number}", site=site) for site in "ab" for number in range(4)]
    waves = foresee(hosts, AGREED)
    assert from_glance(waves[0]) == ["a0", "b0"]
    assert all(not transfer.source or transfer.source[0] == transfer.host[0] for wave in waves for transfer in wave)


def test_each_site_converts_for_itself() -> None:
    waves = foresee([lacking(f"{site}{number}", site=site) for site in "ab" for number in range(4)], OPEN)
    assert [from_glance(wave) for wave in waves] == [["a0", "a1", "b0", "b1"], []]


def test_several_images_are_fetched_by_different_hosts_in_no_more_waves() -> None:
    hosts = [lacking(f"h{number:02}", ONE, TWO) for number in range(16)]
    waves = foresee(hosts, AGREED)
    assert len(set(from_glance(waves[0]))) == 2
    assert len(waves) == 5


def test_file_that_was_brought_to_one_host_reaches_the_others_of_its_site() -> None:
    hosts = [lacking(f"h{number}", from_glance=frozenset()) for number in range(3)]
    brought = lacking("with-file", from_glance=frozenset(), from_file=frozenset({ONE}))
    waves = foresee([*hosts, brought], AGREED)
    assert waves[0] == (Transfer(ONE, "with-file"),)
    assert {transfer.host for wave in waves[1:] for transfer in wave} == {"h0", "h1", "h2"}


def with_file(*names: str) -> list[Host]:
    return [lacking(name, from_file=frozenset({ONE}), from_glance=frozenset()) for name in names]


@pytest.mark.parametrize(
    ("names", "trust", "fetch"),
    [("f", AGREED, []), ("f", OPEN, ["h000"]), ("fg", OPEN, []), ("fgi", OPEN, [])],
)
def test_glance_serves_only_what_files_that_were_brought_leave_open(
    names: str, trust: dict[str, Trust], fetch: list[str]
) -> None:
    assert from_glance(wave_of([*many(3), *with_file(*names)], trust)) == [*names, *fetch]


def test_file_that_was_brought_is_a_witness_beside_one_that_is_still_read() -> None:
    done = came_of(Outcome.DONE, ONE, "f")
    assert wave_of([*many(3), *with_file("f", "g")], OPEN, done) == (Transfer(ONE, "g"),)


def test_host_whose_file_fails_is_served_by_others() -> None:
    def file_fails(_wave: int, transfer: Transfer) -> Outcome:
        return Outcome.DONE if transfer.source or transfer.host != "f" else Outcome.FAILED

    waves, _results = run([lacking("a"), *with_file("f")], AGREED, file_fails)
    assert waves == [(Transfer(ONE, "f"),), (Transfer(ONE, "a"),), (Transfer(ONE, "f", "a"),)]


def test_host_that_cannot_convert_is_served_by_others() -> None:
    hosts = [lacking("a", from_glance=frozenset()), lacking("b"), lacking("c")]
    waves = foresee(hosts, OPEN)
    assert [from_glance(wave) for wave in waves] == [["b", "c"], []]


def test_nobody_is_served_where_only_one_host_can_convert() -> None:
    hosts = [lacking("a", from_glance=frozenset()), lacking("b")]
    assert foresee(hosts, OPEN) == [(Transfer(ONE, "b"),)]


def test_charges_of_a_failed_source_get_another_one_and_glance_at_last() -> None:
    hosts = [having("bad"), having("worse"), lacking("a")]

    def fails(_wave: int, transfer: Transfer) -> Outcome:
        return Outcome.FAILED if transfer.source else Outcome.DONE

    waves, _results = run(hosts, AGREED, fails)
    assert [wave[0].source for wave in waves] == ["bad", "worse", ""]


def test_one_host_alone_leaves_no_other_one_out_for_all() -> None:
    hosts = [having("good"), lacking("a"), lacking("b")]

    def a_says_that_it_fails(_wave: int, transfer: Transfer) -> Outcome:
        return Outcome.FAILED if transfer.host == "a" and transfer.source else Outcome.DONE

    waves, results = run(hosts, AGREED, a_says_that_it_fails)
    assert why_left_out(results) == {}
    assert set(waves[1]) == {Transfer(ONE, "a"), Transfer(ONE, "b", "good")}


def test_source_with_which_two_hosts_fail_is_left_out_for_all() -> None:
    hosts = [having("bad"), *many(3)]

    def bad_fails(_wave: int, transfer: Transfer) -> Outcome:
        return Outcome.FAILED if transfer.source == "bad" else Outcome.DONE

    waves, results = run(hosts, AGREED, bad_fails)
    assert set(why_left_out(results)) == {"bad"}
    assert sum(transfer.source == "bad" for wave in waves for transfer in wave) == 2
    assert sum(len(from_glance(wave)) for wave in waves) == 1


def test_host_that_answers_no_more_neither_serves_nor_is_served() -> None:
    hosts = [*many(2), Host("gone", "", has=frozenset({TWO}), lacks=frozenset({ONE}), takes_part=False)]
    hosts.append(lacking("other", TWO))
    results = [Result(0, Transfer(ONE, "gone"), Outcome.DONE)]
    assert wave_of(hosts, AGREED, results, number=1) == (Transfer(ONE, "h000"), Transfer(TWO, "other"))


def test_host_whose_own_disk_fails_accuses_two_sources_at_most() -> None:
    hosts = [*(having(f"good{number}") for number in range(8)), lacking("broken")]
    waves, results = run(hosts, AGREED, lambda _wave, _transfer: Outcome.FAILED)
    assert len({transfer.source for wave in waves for transfer in wave if transfer.source}) == 2
    assert why_left_out(results) == {}


def test_image_that_a_host_refuses_is_its_own_matter() -> None:
    hosts = [having("good"), lacking("full"), lacking("other")]

    def refuses(_wave: int, transfer: Transfer) -> Outcome:
        return Outcome.REFUSED if transfer.host == "full" else Outcome.DONE

    waves, results = run(hosts, AGREED, refuses)
    assert sorted(transfer.host for wave in waves for transfer in wave) == ["full", "other"]
    assert why_left_out(results) == {}


def test_seed_that_fails_is_replaced_and_served_itself() -> None:
    def first_fails(wave: int, _transfer: Transfer) -> Outcome:
        return Outcome.FAILED if wave == 0 else Outcome.DONE

    waves, _results = run(many(4), AGREED, first_fails)
    assert [from_glance(wave) for wave in waves[:3]] == [["h000"], ["h001"], []]
    assert any(transfer.host == "h000" and transfer.source for wave in waves for transfer in wave)


def test_each_host_tries_glance_itself_after_four_that_failed() -> None:
    waves, _results = run(many(20), AGREED, lambda _wave, _transfer: Outcome.FAILED)
    assert [len(from_glance(wave)) for wave in waves] == [1, 1, 1, 1, 16]


@pytest.mark.parametrize("failed", [4, 5])
def test_hosts_all_try_glance_where_as_many_have_failed(failed: int) -> None:
    hosts = many(8)
    results = came_of(Outcome.FAILED, ONE, *(host.name for host in hosts[:failed]))
    assert from_glance(wave_of(hosts, AGREED, results)) == [host.name for host in hosts[failed:]]


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.REFUSED, Outcome.SLOW])
def test_two_more_hosts_convert_where_two_have_not_or_are_slow(outcome: Outcome) -> None:
    assert from_glance(wave_of(many(5), OPEN, came_of(outcome, ONE, "h000", "h001"))) == ["h002", "h003"]


def test_slow_transfers_leave_their_hosts_out_and_a_source_that_two_found_slow() -> None:
    slow = [Result(wave, Transfer(ONE, name, "source"), Outcome.SLOW) for wave, name in enumerate("ab")]
    assert why_left_out(slow[:1]) == {"a": slow[0]}
    assert why_left_out(slow) == {"a": slow[0], "b": slow[1], "source": slow[1]}


def test_host_that_fails_with_two_images_of_a_source_has_one_word() -> None:
    results = [*came_of(Outcome.FAILED, ONE, "a", source="s"), *came_of(Outcome.FAILED, TWO, "a", source="s")]
    assert why_left_out(results) == {}


def test_hosts_that_fail_with_glance_accuse_nobody() -> None:
    assert why_left_out(came_of(Outcome.FAILED, ONE, *"abc")) == {}


def test_host_that_is_left_out_is_served_after_the_others() -> None:
    hosts = [having("good"), lacking("a", ONE, TWO), lacking("b")]
    assert wave_of(hosts, AGREED, came_of(Outcome.DIFFERS, TWO, "a")) == (Transfer(ONE, "b", "good"),)


def test_hosts_that_are_all_left_out_fetch_an_image_all_themselves() -> None:
    old = Host("old", "", ("disk", "old"), has=frozenset({ONE}), lacks=frozenset({TWO}))
    hosts = [old, lacking("a", ONE, TWO), lacking("b", ONE, TWO)]
    assert from_glance(wave_of(hosts, AGREED, came_of(Outcome.DIFFERS, TWO, "old", "a", "b"))) == ["a", "b"]


def paces(*seconds: float) -> dict[Transfer, Pace]:
    return {Transfer(ONE, f"h{number}", "s"): Pace(1000, each) for number, each in enumerate(seconds)}


@pytest.mark.parametrize(
    ("seconds", "slow"),
    [
        ((20, 20, 81), ["h2"]),
        ((20, 20, 100), ["h2"]),
        ((20, 20, 20, 100), ["h3"]),
        ((20, 20, 80), []),
        ((20, 20, 79), []),
        ((20, 200), []),  # nobody knows which of two is as usual
        ((), []),
        ((1, 1, 9), []),  # it delayed nobody
        ((1, 1, 10), []),
        ((1, 1, 10.5), ["h2"]),
        ((100, 100, 100), []),
        ((0, 20, 20, 100), ["h3"]),  # a clock may not have moved
        ((0.0, 20.0, 20.0, 100.0), ["h3"]),
        ((-1, -1, 20, 20, 100), ["h4"]),  # a host can say anything
    ],
)
def test_transfer_is_slow_by_comparison_with_the_others(seconds: tuple[float, ...], slow: list[str]) -> None:
    assert sorted(transfer.host for transfer in slow_transfers(paces(*seconds))) == slow


def test_host_whose_checksum_differs_serves_nobody() -> None:
    def liar(_wave: int, transfer: Transfer) -> Outcome:
        return Outcome.DIFFERS if transfer.host == "h000" else Outcome.DONE

    waves, _results = run(many(9), AGREED, liar)
    assert all(transfer.source != "h000" for wave in waves for transfer in wave)


def test_third_host_fetches_where_two_do_not_agree() -> None:
    results = [Result(0, Transfer(ONE, name), Outcome.DONE) for name in ("h000", "h001")]
    assert wave_of(many(9), OPEN, results) == (Transfer(ONE, "h002"),)


def test_disputed_image_comes_from_glance_to_each_host() -> None:
    wave = wave_of([having("old"), *many(5)], DISPUTED)
    assert len(from_glance(wave)) == len(wave) == 5


def test_disputed_image_comes_to_no_host_without_glance() -> None:
    hosts = [*many(3), lacking("x", from_glance=frozenset())]
    assert [from_glance(wave) for wave in foresee(hosts, DISPUTED)] == [["h000", "h001", "h002"]]


@st.composite
def fleets(draw: st.DrawFn) -> list[Host]:
    """Hosts of up to three sites, some of which share storages, have images, or cannot reach Glance."""
    hosts = []
    for number in range(draw(st.integers(1, 24))):
        images = draw(st.lists(st.sampled_from([ONE, TWO]), unique=True))
        lacks = frozenset(draw(st.lists(st.sampled_from(images), unique=True)) if images else [])
        own = frozenset(image for image in lacks if draw(st.integers(0, 4)))
        hosts.append(
            Host(
                name=f"h{number:02}",
                site=draw(st.sampled_from("abc")),
                storage=draw(st.sampled_from([(), ("disk", str(number)), ("nfs", draw(st.sampled_from("xy")))])),
                has=frozenset(images) - lacks,
                lacks=lacks,
                from_glance=own,
                from_file=frozenset(image for image in lacks if not draw(st.integers(0, 6))),
            )
        )
    return hosts


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[Host], int, Play, list[Result]]:
    """A fleet, its fanout, and waves in which anything may come of a transfer."""
    hosts, fanout = draw(fleets()), draw(st.integers(1, 3))
    trust = {image: draw(st.sampled_from(list(Trust))) for image in (ONE, TWO)}
    outcomes = draw(st.sampled_from([list(Outcome), [Outcome.DONE], [Outcome.DONE] * 4 + list(Outcome)]))
    waves, results = run(hosts, trust, lambda _wave, _transfer: draw(st.sampled_from(outcomes)), fanout)
    return hosts, fanout, waves, results


@settings(max_examples=150, deadline=None)
@given(stories())
def test_nobody_serves_before_it_has_the_image_or_after_it_was_left_out(
    story: tuple[list[Host], int, Play, list[Result]],
) -> None:
    hosts, _fanout, waves, results = story
    has = {(host.name, image) for host in hosts for image in host.has}
    for number, wave in enumerate(waves):
        left_out = why_left_out([result for result in results if result.wave < number])
        for transfer in wave:
            assert not transfer.source or (transfer.source, transfer.image) in has
            assert transfer.source not in left_out
        has |= {
            (result.transfer.host, result.transfer.image)
            for result in results
            if result.wave == number and result.outcome in HAVE
        }


@settings(max_examples=150, deadline=None)
@given(stories())
def test_no_host_serves_more_others_in_a_wave_than_the_fanout(
    story: tuple[list[Host], int, Play, list[Result]],
) -> None:
    _hosts, fanout, waves, _results = story
    for wave in waves:
        charges = defaultdict(set)
        for transfer in wave:
            charges[transfer.source].add(transfer.host)
        assert all(len(served) <= fanout for source, served in charges.items() if source)


@settings(max_examples=150, deadline=None)
@given(stories())
def test_hosts_of_different_sites_never_serve_each_other(story: tuple[list[Host], int, Play, list[Result]]) -> None:
    hosts, _fanout, waves, _results = story
    site = {host.name: host.site for host in hosts}
    assert all(site[each.source] == site[each.host] for wave in waves for each in wave if each.source)


@settings(max_examples=150, deadline=None)
@given(stories())
def test_image_comes_to_a_storage_once(story: tuple[list[Host], int, Play, list[Result]]) -> None:
    hosts, _fanout, waves, results = story
    storage = {host.name: host.storage or ("host", host.name) for host in hosts}
    came = Counter(
        (storage[result.transfer.host], result.transfer.image) for result in results if result.outcome in HAVE
    )
    assert set(came.values()) <= {1}
    for wave in waves:
        assert set(Counter((storage[each.host], each.image) for each in wave).values()) <= {1}


@settings(max_examples=150, deadline=None)
@given(stories())
def test_host_that_can_reach_glance_is_served_or_has_tried_it(
    story: tuple[list[Host], int, Play, list[Result]],
) -> None:
    hosts, _fanout, _waves, results = story
    settled = {(one.transfer.host, one.transfer.image) for one in results if one.outcome is not Outcome.FAILED}
    tried = {(one.transfer.host, one.transfer.image) for one in results if not one.transfer.source}
    for image, host in recipients(hosts):
        if image in host.from_glance:
            assert (host.name, image) in settled | tried


def _pair(result: Result) -> tuple[str, str]:
    return result.transfer.host, result.transfer.source


@settings(max_examples=150, deadline=None)
@given(stories())
def test_charge_of_a_failed_source_is_moved_to_another_one(
    story: tuple[list[Host], int, Play, list[Result]],
) -> None:
    _hosts, _fanout, _waves, results = story
    failed = [one for one in results if one.outcome is Outcome.FAILED]
    tried = Counter((one.transfer.host, one.transfer.image, one.transfer.source) for one in failed)
    assert set(tried.values()) <= {1}
    of_peers = Counter((host, image) for host, image, source in tried if source)
    assert max(of_peers.values(), default=0) <= 2
    with_source = Counter(
        (wave, host, source) for wave, host, source in {(one.wave, *_pair(one)) for one in failed} if source
    )
    assert set(Counter((host, source) for _wave, host, source in with_source).values()) <= {1}


@settings(max_examples=150, deadline=None)
@given(stories())
def test_waves_end_soon_whatever_fails(story: tuple[list[Host], int, Play, list[Result]]) -> None:
    _hosts, _fanout, waves, _results = story
    assert len(waves) <= 31


@settings(max_examples=50, deadline=None)
@given(fleets(), st.sampled_from(list(Trust)), st.integers(1, 3))
def test_waves_end_where_no_host_says_what_came_of_them(hosts: list[Host], trust: Trust, fanout: int) -> None:
    number = 0
    while next_wave(hosts, {ONE: trust, TWO: trust}, [], fanout, number):
        number += 1
        assert number <= 31


def test_waves_end_where_nothing_is_heard_of_a_host() -> None:
    assert [number for number in range(100) if wave_of(many(1), number=number)] == list(range(31))


def test_waves_end_where_each_host_that_is_served_is_left_out() -> None:
    hosts = [having("good"), *many(200)]

    def differs(_wave: int, _transfer: Transfer) -> Outcome:
        return Outcome.DIFFERS

    waves, results = run(hosts, AGREED, differs)
    assert len(waves) == 31
    assert len({result.transfer.host for result in results}) == 200


@settings(max_examples=100, deadline=None)
@given(fleets(), st.integers(1, 3))
def test_plan_that_is_foreseen_is_the_one_that_happens_if_nothing_fails(hosts: list[Host], fanout: int) -> None:
    assert run(hosts, dict(AGREED), all_done, fanout)[0] == foresee(hosts, AGREED, fanout)


@settings(max_examples=100, deadline=None)
@given(fleets(), st.randoms())
def test_plan_does_not_depend_on_the_order_of_hosts(hosts: list[Host], shuffler: Random) -> None:
    other = list(hosts)
    shuffler.shuffle(other)
    assert foresee(hosts, AGREED) == foresee(other, AGREED)
