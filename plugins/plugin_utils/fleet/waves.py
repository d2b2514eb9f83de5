# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who fetches which image from whom, wave by wave: each host that has an image serves others of its site.

In the first wave one host of each site fetches an image from Glance, and in each following one every host that has it
serves ``fanout`` others, so that the number of copies doubles. Nothing is remembered between waves: the next one
follows from what the hosts had at first and from what came of all transfers so far. They end in every case, because
their number is limited.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median
from typing import NamedTuple

__all__ = [
    "Host",
    "Outcome",
    "Pace",
    "Result",
    "Transfer",
    "Trust",
    "foresee",
    "next_wave",
    "recipients",
    "slow_transfers",
    "why_left_out",
]

_WITNESSES = 2
_ACCUSERS = 2  # the word of one host about another does not leave that one out for all
_PEER_ATTEMPTS = 2  # so that a host whose own disk fails accuses no more sources than these
_OWN_ATTEMPTS = 4  # of a site, until each of its hosts tries Glance itself
_MOST_WAVES = 30  # more than any number of hosts takes in which some transfers fail; each fetches itself in a last one
_FEWEST_COMPARED = 3
_SLOW_SHARE = 4  # so many times slower than the median
_SHORT_SECONDS = 10.0  # what is over so soon delays nobody


@dataclass(frozen=True)
class Host:
    """What one host has and lacks before the first wave. Images are named by a text that tells two contents apart.

    :param name: its name in the inventory.
    :param site: where it is; only hosts of one site serve each other.
    :param storage: what its cache lies on; an image comes to a storage once.
    :param has: images that are in its cache.
    :param lacks: images that it is to get.
    :param from_file: those of these that it can take from a file that was brought.
    :param from_glance: those that it can fetch from Glance, and convert where that is necessary.
    :param takes_part: whether it still answers.
    """

    name: str
    site: str = ""
    storage: tuple[str, ...] = ()
    has: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()
    from_file: frozenset[str] = frozenset()
    from_glance: frozenset[str] = frozenset()
    takes_part: bool = True


@dataclass(frozen=True)
class Transfer:
    """One image on its way to one host.

    :param source: the host that serves it; empty for Glance or a file that was brought.
    """

    image: str
    host: str
    source: str = ""


class Outcome(StrEnum):
    """What came of a transfer."""

    DONE = "done"
    SLOW = "slow"  # done, but much slower than others
    DIFFERS = "differs"  # the host says that it is done, and reports another checksum than it must be
    FAILED = "failed"
    REFUSED = "refused"  # by the host that lacks the image, for a reason that no other source changes


@dataclass(frozen=True)
class Result:
    """What came of a transfer, and in which wave; the first one is 0."""

    wave: int
    transfer: Transfer
    outcome: Outcome


class Trust(StrEnum):
    """What is known of the checksum that an image must have on disk."""

    AGREED = "agreed"  # it is known, so bytes of another host can be compared with it
    OPEN = "open"  # two hosts have yet to fetch the image independently and to agree
    DISPUTED = "disputed"  # hosts agree on several, so each fetches the image itself


class Pace(NamedTuple):
    """How fast a transfer was."""

    read_bytes: int
    seconds: float


@dataclass
class _Wave:
    """The wave that is being planned."""

    fanout: int
    transfers: list[Transfer] = field(default_factory=list)
    load: Counter[str] = field(default_factory=Counter)
    suppliers: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    charges: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def add(self, image: str, host: str, source: str = "") -> None:
        self.transfers.append(Transfer(image, host, source))
        self.load[host] += 1
        if source:
            self.suppliers[host].add(source)
            self.charges[source].add(host)

    def free_slots(self, sources: Iterable[str]) -> list[str]:
        """Return each source once for each further host that it can serve, the least loaded one first."""
        free = {source: self.fanout - len(self.charges[source]) for source in sources}
        return [source for more in reversed(range(self.fanout)) for source in sorted(free) if free[source] > more]


@dataclass(frozen=True)
class _Past:
    """What the waves so far have come to."""

    left_out: Mapping[str, Result]
    avoided: Mapping[str, set[str]]
    settled: frozenset[tuple[str, str]]
    served: Mapping[tuple[str, str], list[str]]
    own: Mapping[tuple[str, str], list[Result]]
    failed_own: frozenset[tuple[str, str]]
    failed_peers: Counter[tuple[str, str]]


def next_wave(
    hosts: Sequence[Host], trust: Mapping[str, Trust], results: Sequence[Result], fanout: int, number: int
) -> tuple[Transfer, ...]:
    """Plan the next wave.

    :param hosts: all hosts, as they were before the first wave.
    :param trust: what is known of each image's checksum now.
    :param results: what came of all transfers so far.
    :param fanout: how many others a host serves in a wave, whatever number of images these get.
    :param number: its number; the first one is 0.
    :return: its transfers. None are left when each host has what it can get, or after so many waves that no more may
        follow.
    """
    if number > _MOST_WAVES:
        return ()
    past = _read_past(hosts, results)
    wave = _Wave(fanout)
    sources = _sources(hosts, past)
    pending: dict[tuple[str, str], list[Host]] = defaultdict(list)
    for image, host in recipients(hosts):
        if (host.name, image) not in past.settled:
            pending[host.site, image].append(host)
    is_last = number == _MOST_WAVES
    for (site, image), lacking in sorted(pending.items()):
        own = past.own.get((site, image), [])
        believed = Trust.DISPUTED if is_last else trust[image]
        _plan_image(wave, image, lacking, sources[site, image], past, own, believed)
    return tuple(wave.transfers)


def recipients(hosts: Sequence[Host]) -> list[tuple[str, Host]]:
    """Return who gets each image: of the hosts of a storage that lack it, the first by name that has the best source.

    :return: images and hosts, each image once for a storage.
    """
    chosen: dict[tuple[str, tuple[str, ...]], Host] = {}
    for host in sorted(hosts, key=lambda each: each.name):
        for image in host.lacks if host.takes_part else ():
            key = (image, host.storage or ("host", host.name))
            if key not in chosen or _means(host, image) > _means(chosen[key], image):
                chosen[key] = host
    return [(image, host) for (image, _storage), host in chosen.items()]


def why_left_out(results: Sequence[Result]) -> dict[str, Result]:
    """Return which hosts serve no image any more, each with the result that is why.

    A host that says of itself that it is slow, or has another file, is one. Of another one, two hosts have to say it.
    """
    found: dict[str, Result] = {}
    accusers: dict[str, set[str]] = defaultdict(set)
    for result in results:
        transfer = result.transfer
        if result.outcome in (Outcome.SLOW, Outcome.DIFFERS):
            found.setdefault(transfer.host, result)
        if _accuses(result):
            accusers[transfer.source].add(transfer.host)
            if len(accusers[transfer.source]) >= _ACCUSERS:
                found.setdefault(transfer.source, result)
    return found


def slow_transfers(paces: Mapping[Transfer, Pace]) -> frozenset[Transfer]:
    """Return which transfers were much slower than the others.

    :param paces: transfers that may be compared: of one wave, at one site, and all from hosts or none.
    """
    rates = {transfer: pace.read_bytes / pace.seconds for transfer, pace in paces.items() if pace.seconds > 0}
    if len(rates) < _FEWEST_COMPARED:
        return frozenset()
    limit = median(rates.values()) / _SLOW_SHARE
    return frozenset(
        transfer for transfer, rate in rates.items() if rate < limit and paces[transfer].seconds > _SHORT_SECONDS
    )


def foresee(hosts: Sequence[Host], trust: Mapping[str, Trust], fanout: int = 1) -> list[tuple[Transfer, ...]]:
    """Return the waves as they are if nothing fails."""
    waves: list[tuple[Transfer, ...]] = []
    results: list[Result] = []
    known = dict(trust)
    while wave := next_wave(hosts, known, results, fanout, len(waves)):
        results += [Result(len(waves), transfer, Outcome.DONE) for transfer in wave]
        waves.append(wave)
        witnesses = Counter(result.transfer.image for result in results if not result.transfer.source)
        for image, state in known.items():
            if state is Trust.OPEN and witnesses[image] >= _WITNESSES:
                known[image] = Trust.AGREED
    return waves


def _accuses(result: Result) -> bool:
    return bool(result.transfer.source) and result.outcome in (Outcome.SLOW, Outcome.FAILED)


def _means(host: Host, image: str) -> tuple[bool, bool]:
    """Return what a host has of its own to get an image: the better, the greater. A file is better than Glance."""
    return image in host.from_file, image in host.from_glance


def _read_past(hosts: Sequence[Host], results: Sequence[Result]) -> _Past:
    site_of = {host.name: host.site for host in hosts}
    settled, failed_own, failed_peers = set(), set(), Counter[tuple[str, str]]()
    served: dict[tuple[str, str], list[str]] = defaultdict(list)
    own: dict[tuple[str, str], list[Result]] = defaultdict(list)
    avoided: dict[str, set[str]] = defaultdict(set)
    for result in results:
        transfer = result.transfer
        key = (transfer.host, transfer.image)
        if _accuses(result):
            avoided[transfer.host].add(transfer.source)
        if not transfer.source:
            own[site_of[transfer.host], transfer.image].append(result)
        if result.outcome is not Outcome.FAILED:
            settled.add(key)
        elif transfer.source:
            failed_peers[key] += 1
        else:
            failed_own.add(key)
        if result.outcome is Outcome.DONE:
            served[site_of[transfer.host], transfer.image].append(transfer.host)
    return _Past(
        left_out=why_left_out(results),
        avoided=avoided,
        settled=frozenset(settled),
        served=served,
        own=own,
        failed_own=frozenset(failed_own),
        failed_peers=failed_peers,
    )


def _sources(hosts: Sequence[Host], past: _Past) -> dict[tuple[str, str], list[str]]:
    """Return the hosts that can serve each image at each site."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for host in hosts:
        for image in host.has:
            found[host.site, image].append(host.name)
    for key, names in past.served.items():
        found[key] += names
    silent = {host.name for host in hosts if not host.takes_part}
    for key, names in found.items():
        found[key] = [name for name in names if name not in past.left_out and name not in silent]
    return found


def _plan_image(
    wave: _Wave,
    image: str,
    lacking: Sequence[Host],
    sources: Sequence[str],
    past: _Past,
    own: Sequence[Result],
    trust: Trust,
) -> None:
    """Add to a wave the transfers of one image at one site.

    :param lacking: the hosts that are to get it.
    :param sources: the hosts that can serve it.
    :param own: what came of it where hosts of the site fetched it themselves.
    """
    waiting: list[Host] = []
    brought = 0
    for host in lacking:
        if image in host.from_file and (host.name, image) not in past.failed_own:
            wave.add(image, host.name)
            brought += 1
        else:
            waiting.append(host)
    can_fetch = [host for host in waiting if image in host.from_glance and (host.name, image) not in past.failed_own]
    usable = sources if trust is Trust.AGREED else []
    if trust is Trust.OPEN:
        witnesses = brought + sum(result.outcome is Outcome.DONE for result in own)
        wanted = max(0 if brought else 1, _WITNESSES - witnesses)
    else:
        wanted = 0 if usable or brought else 1
    seeds = {host.name for host in can_fetch} - past.left_out.keys()
    is_hopeless = bool(wanted) and (len(own) >= _OWN_ATTEMPTS or not seeds)
    if trust is Trust.DISPUTED or is_hopeless:
        for host in can_fetch:
            wave.add(image, host.name)
        return
    # Also a host that has failed with each of the sources: another one may fetch from them, and serve others then.
    exhausted = {
        host.name
        for host in waiting
        if past.failed_peers[host.name, image] >= _PEER_ATTEMPTS
        or (usable and past.avoided.get(host.name, set()).issuperset(usable))
    }
    for host in can_fetch:
        if host.name in exhausted:
            wave.add(image, host.name)
    rest = [host for host in waiting if host.name not in exhausted]
    order = sorted(rest, key=lambda host: (host.name in past.left_out, wave.load[host.name], host.name))
    for host in [host for host in order if host.name in seeds][:wanted]:
        wave.add(image, host.name)
    _serve(wave, image, order, usable, past.avoided)


def _serve(
    wave: _Wave, image: str, waiting: Sequence[Host], usable: Sequence[str], avoided: Mapping[str, set[str]]
) -> None:
    """Give each host a source, as far as there are any: one that serves it in this wave already, or else a free one.

    :param avoided: by the names of hosts, the sources with which they have failed.
    """
    known, slots = set(usable), wave.free_slots(usable)
    for host in waiting:
        failed = avoided.get(host.name, set())
        source = min(wave.suppliers[host.name] & known, default="")
        if not source and (source := next((slot for slot in slots if slot not in failed), "")):
            slots.remove(source)
        if source:
            wave.add(image, host.name, source)
