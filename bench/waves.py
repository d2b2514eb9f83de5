# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Simulates waves of a large fleet with the plan that the role uses, and prints one table: `./test waves`.

Nothing is transferred: each transfer takes the time that its line needs for the bytes. A wave ends with its last
transfer. Every figure is reproducible, because the random numbers are.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.waves import (
    Host,
    Outcome,
    Pace,
    Result,
    Transfer,
    Trust,
    next_wave,
    slow_transfers,
)

IMAGE = "image"
BYTES = 10 << 30
GIGABIT = 10**9 / 8
GLANCE_CONCURRENCY = 8
GLANCE_RATE = 10 * GIGABIT / GLANCE_CONCURRENCY
SEED = 19


@dataclass(frozen=True)
class Scenario:
    """A fleet, and what goes wrong in it: shares of its hosts, but for ``cut``, a share of the transfers.

    :param spread: how much the lines of hosts differ, as a share of their speed.
    :param slow: hosts whose line has a tenth of the speed.
    :param lying: hosts that serve other bytes than they have.
    :param full: hosts that can write nothing.
    :param forks: how many transfers Ansible runs at a time; 0 for all of a wave.
    """

    name: str
    sites: int = 1
    is_converted: bool = False
    spread: float = 0.0
    slow: float = 0.0
    lying: float = 0.0
    full: float = 0.0
    cut: float = 0.0
    forks: int = 0


@dataclass
class Fleet:
    """The hosts of a scenario, and which of them are not as they should be."""

    hosts: list[Host]
    rates: dict[str, float] = field(default_factory=dict)
    lying: frozenset[str] = frozenset()
    full: frozenset[str] = frozenset()


@dataclass
class Run:
    """What came of a scenario."""

    waves: int = 0
    seconds: float = 0.0
    from_glance: int = 0
    lacking: int = 0


TROUBLE = {"spread": 0.3, "lying": 0.002, "full": 0.002, "cut": 0.01}
SCENARIOS = (
    Scenario("one site, all is well"),
    Scenario("lines differ", spread=0.3),
    Scenario("and hosts fail and lie", **TROUBLE),
    Scenario("and the image is converted", is_converted=True, **TROUBLE),
    Scenario("the same at 20 sites", sites=20, is_converted=True, **TROUBLE),
    Scenario("and 1 line in 50 is ten times slower", sites=20, is_converted=True, slow=0.02, **TROUBLE),
    Scenario("one site, all is well, 500 forks", forks=500),
    Scenario("hosts fail and lie, 500 forks", forks=500, **TROUBLE),
)


def build(scenario: Scenario, number: int, dice: random.Random) -> Fleet:
    names = [f"host-{index:05}" for index in range(number)]
    image = frozenset({IMAGE})
    hosts = [
        Host(name, f"site-{index % scenario.sites}", ("disk", name), lacks=image, from_glance=image)
        for index, name in enumerate(names)
    ]
    fleet = Fleet(hosts)
    for name in names:
        rate = GIGABIT * (1 + dice.uniform(-scenario.spread, scenario.spread))
        fleet.rates[name] = rate / 10 if dice.random() < scenario.slow else rate
    fleet.lying = frozenset(name for name in names if dice.random() < scenario.lying)
    fleet.full = frozenset(name for name in names if dice.random() < scenario.full)
    return fleet


def simulate(scenario: Scenario, number: int, dice: random.Random) -> Run:
    fleet = build(scenario, number, dice)
    site_of = {host.name: host.site for host in fleet.hosts}
    results: list[Result] = []
    run = Run()
    witnesses = 0
    while True:
        trust = Trust.OPEN if scenario.is_converted and witnesses < 2 else Trust.AGREED
        wave = next_wave(fleet.hosts, {IMAGE: trust}, results, fanout=1, number=run.waves)
        if not wave:
            break
        came: dict[Transfer, Outcome] = {}
        seconds: dict[Transfer, float] = {}
        compared: dict[tuple[str, bool], dict[Transfer, Pace]] = defaultdict(dict)
        for transfer in wave:
            came[transfer], seconds[transfer] = play(transfer, fleet, scenario, dice)
            if came[transfer] is Outcome.DONE:
                group = (site_of[transfer.host], bool(transfer.source))
                compared[group][transfer] = Pace(BYTES, seconds[transfer])
        slow = frozenset().union(*(slow_transfers(paces) for paces in compared.values()))
        results += [
            Result(run.waves, transfer, Outcome.SLOW if transfer in slow else outcome)
            for transfer, outcome in came.items()
        ]
        own = [transfer for transfer in wave if not transfer.source]
        witnesses += sum(came[transfer] is Outcome.DONE for transfer in own)
        run.from_glance += len(own)
        run.waves += 1
        run.seconds += wave_seconds(seconds, scenario.forks or len(wave))
    done = Counter(result.transfer.host for result in results if result.outcome in (Outcome.DONE, Outcome.SLOW))
    if set(done.values()) != {1}:
        raise SystemExit("A host got the image twice.")
    run.lacking = number - len(done)
    return run


def play(transfer: Transfer, fleet: Fleet, scenario: Scenario, dice: random.Random) -> tuple[Outcome, float]:
    """Return what comes of a transfer, and how long it takes."""
    there = fleet.rates[transfer.source] if transfer.source else GLANCE_RATE
    seconds = BYTES / min(there, fleet.rates[transfer.host])
    if transfer.host in fleet.full:
        return Outcome.FAILED, 0.0
    if dice.random() < scenario.cut:
        return Outcome.FAILED, seconds * dice.random()
    return (Outcome.FAILED if transfer.source in fleet.lying else Outcome.DONE), seconds


def wave_seconds(seconds: dict[Transfer, float], forks: int) -> float:
    """Return how long a wave takes: each fork takes the next transfer, and Glance serves some at a time."""
    own = [each for transfer, each in seconds.items() if not transfer.source]
    others = [each for transfer, each in seconds.items() if transfer.source]
    return max(makespan(own, min(forks, GLANCE_CONCURRENCY)), makespan([*own, *others], forks))


def makespan(seconds: Sequence[float], workers: int) -> float:
    free = [0.0] * min(workers, len(seconds))
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free, default=0.0)


def best_seconds(scenario: Scenario, number: int) -> float:
    """Return how long the best plan takes if all lines have their usual speed and nothing fails.

    Copies that are whole before they are passed on double at most, and no more transfers than forks run at a time.
    """
    in_site, first = math.ceil(number / scenario.sites), 2 if scenario.is_converted else 1
    doublings = math.ceil(math.log2(in_site / first)) if in_site > first else 0
    copies = 1 + doublings
    if scenario.forks:
        have, copies = first * scenario.sites, 1
        while have < number:
            have, copies = have + min(have, scenario.forks), copies + 1
    return copies * BYTES / GIGABIT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=10_000)
    number = parser.parse_args().hosts
    alone = math.ceil(number / GLANCE_CONCURRENCY) * BYTES / min(GIGABIT, GLANCE_RATE)
    print(f"{number:,} hosts, an image of 10 GiB, lines of 1 Gbit/s, Glance's of 10 Gbit/s")
    print(f"From Glance alone: {number:,} copies, {alone / 3600:.1f} h, {GLANCE_CONCURRENCY} hosts at a time")
    print()
    print(f"{'':38}{'copies of':>10}{'':7}{'':9}{'best':>9}{'times':>7}{'hosts':>9}")
    print(f"{'':38}{'Glance':>10}{'waves':>7}{'time':>9}{'possible':>9}{'best':>7}{'without':>9}")
    for scenario in SCENARIOS:
        run = simulate(scenario, number, random.Random(SEED))
        best = best_seconds(scenario, number)
        print(
            f"{scenario.name:38}{run.from_glance:>10}{run.waves:>7}{run.seconds / 60:>7.0f} m{best / 60:>7.0f} m"
            f"{run.seconds / best:>7.1f}{run.lacking:>9}"
        )


if __name__ == "__main__":
    main()
