# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pre-caching in waves: what hosts found and did becomes the next wave, and what each host does in it.

What a host says of a file that it has counts as a witness, never as a proof: a file from another host is compared with
Glance's checksum, or where images are converted with the one that two hosts agree on.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.peers import is_checksum
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.precaching import NO_SOURCE
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.records import (
    KEPT_FORMATS,
    ImageRecord,
    read_records,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.names import fingerprint

from .answers import AnswerState, FileAnswer, Found
from .options import PeerOptions
from .peers import Checksum, Witness, agreed_checksums, believed_allocation, identities
from .precache import (
    PARTS,
    VANISHED,
    PrecacheDecision,
    common_storage,
    merge_precache_outcome,
    parse_precache_answer,
)
from .waves import Host, Outcome, Pace, Result, Transfer, Trust, foresee, next_wave, slow_transfers, why_left_out

__all__ = [
    "Attempt",
    "Member",
    "Order",
    "WavePlan",
    "merge_waves",
    "outcomes_of_attempts",
    "plan_wave",
    "read_attempts",
]

_OWN_SOURCES = ("glance", "file")
_PLACE = ("cache_path", "host", "storage_id", "shared_storage")
_WITHOUT_PEER = "Also, no host of its site could serve it. Look why on the others, or set image_cache_site."
_NO_TURN = "The play ended before its turn in the waves. See the first failure of the play, and run it again (--limit)."

Image = Mapping[str, Any]


@dataclass(frozen=True)
class Attempt:
    """What a host did to get one image in one wave. Plain values: the result of a task carries them.

    :param wave: the number of the wave; the first one is 0.
    :param image_id: the image.
    :param source: the host that was to serve it; empty for Glance or a file.
    :param parts: what the module listed of the image, by the name of the list.
    :param place: what tells the host and its storage from others, as the module said it then; empty where it did not.
    :param no_answer: why the host did not answer; empty where it did.
    :param unreachable: whether it was not reached.
    """

    wave: int
    image_id: str
    source: str
    parts: Mapping[str, Sequence[Image]]
    place: Mapping[str, Any] = field(default_factory=dict)
    no_answer: str = ""
    unreachable: bool = False

    def to_plain(self) -> dict[str, Any]:
        """Return it as plain data, for the task's result."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_plain` made."""
        return cls(**plain)

    @property
    def fetched(self) -> Image | None:
        """What was fetched; None if nothing was."""
        return next(iter(self.parts.get("fetched", ())), None)


@dataclass(frozen=True)
class Member:
    """One host of the walk, as far as waves have to know it.

    :param answer: what it found in check mode.
    :param decision: what it is to get.
    :param options: where it is, and how others reach it.
    :param images: Glance's records of the images that are chosen for it.
    :param attempts: what it did in the waves so far.
    """

    answer: FileAnswer
    decision: PrecacheDecision
    options: PeerOptions
    images: Sequence[Image]
    attempts: tuple[Attempt, ...] = ()


@dataclass
class Order:
    """What one host does in a wave.

    :param own: ids of the images that it takes from Glance or a file.
    :param peers: the module's option: the base files that it takes from other hosts.
    :param sources: the hosts that serve these, by the ids of the images.
    """

    own: list[str] = field(default_factory=list)
    peers: dict[str, dict[str, Any]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class WavePlan:
    """What is decided before a wave.

    :param orders: what each host does that does anything.
    :param number: how many waves there will be if nothing fails, or were and are with this one.
    :param problems: why an image is not as it must be on a host, or reached it from nowhere, by both.
    :param left_out: which hosts serve nobody any more, and why.
    :param expected: in a dry run, what each host would fetch.
    """

    orders: Mapping[str, Order]
    number: int
    problems: Mapping[str, Mapping[str, str]]
    left_out: Sequence[Mapping[str, str]]
    expected: Mapping[str, Sequence[Image]] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """Return it as plain data, for the task's result."""
        return asdict(self)


@dataclass(frozen=True)
class _Content:
    """An image as its file must be: what Glance serves, and whether it is converted. Clouds may differ in an id."""

    record: ImageRecord
    is_converted: bool

    @property
    def key(self) -> str:
        """Tells it from others."""
        return f"{self.record.image_id} {self.record.algorithm} {self.record.checksum} {self.is_converted}"

    @property
    def as_served(self) -> Checksum:
        """The file as Glance serves it."""
        return Checksum(str(self.record.algorithm), str(self.record.checksum), self.record.size_bytes or 0)


@dataclass(frozen=True)
class _Fleet:
    """All members, and what follows from what they say.

    :param results: what came of all transfers so far, each with the attempt that it is read from.
    """

    members: Mapping[str, Member]
    contents: Mapping[str, _Content]
    keys: Mapping[tuple[str, str], str]
    hosts: Sequence[Host]
    agreed: Mapping[str, Sequence[Checksum]]
    results: Mapping[Result, Attempt]

    @property
    def trust(self) -> dict[str, Trust]:
        kinds = {0: Trust.OPEN, 1: Trust.AGREED}
        return {key: kinds.get(len(self.agreed[key]), Trust.DISPUTED) for key in self.contents}


def read_attempts(host: str, result: Mapping[str, Any], sources: Mapping[str, str], wave: int) -> list[Attempt]:
    """Understand what came of some images in a wave.

    :param host: the host's name in the inventory.
    :param result: what the module returned.
    :param sources: the hosts that were to serve them, by their ids; empty for Glance or a file.
    :param wave: the number of the wave.
    :return: an attempt for each image, also where the answer does not mention it or cannot be understood.
    """
    answer = parse_precache_answer(host, result)
    found: Found = answer.found or {}
    error = answer.error if not found else _why_not_understood(host, found)
    attempts = []
    for image_id, source in sources.items():
        listed = {part: [each for each in found.get(part, ()) if each["image_id"] == image_id] for part in PARTS}
        parts = {part: images for part, images in listed.items() if images and not error}
        if not parts:
            name = fingerprint(image_id)
            parts = {"failed": [{"name": name, "image_id": image_id, "error": error or VANISHED}]}
        place = {key: found[key] for key in _PLACE} if found else {}
        attempts.append(Attempt(wave, image_id, source, parts, place, error, bool(result.get("unreachable"))))
    return attempts


def _why_not_understood(host: str, found: Found) -> str:
    if all(is_checksum(image["algorithm"], image["checksum"]) for image in found["fetched"]):
        return ""
    return (
        f"Its answer cannot be understood: a checksum of what it fetched is none. See what replaces Python or its "
        f"output on {host}."
    )


def plan_wave(members: Sequence[Member], is_dry_run: bool, number: int = 0) -> WavePlan:
    """Plan the next wave, or in a dry run find out what all of them would come to.

    :param members: the hosts that take part.
    :param is_dry_run: whether nothing is to be fetched.
    :param number: the number of the wave; the first one is 0.
    """
    fleet = _read_fleet(members)
    fanout = min((member.options.fanout for member in members), default=1)
    if is_dry_run:
        waves = foresee(fleet.hosts, fleet.trust, fanout)
        expected = _expected(fleet, [transfer for wave in waves for transfer in wave])
        return WavePlan({}, len(waves), {}, (), expected)
    wave = next_wave(fleet.hosts, fleet.trust, tuple(fleet.results), fanout, number)
    return WavePlan(
        orders=_orders(fleet, wave),
        number=number + bool(wave),
        problems=_differing(fleet),
        left_out=_left_out(fleet),
    )


def outcomes_of_attempts(members: Sequence[Member]) -> dict[str, dict[str, Any]]:
    """Return what came of all images on each host, where the play ended between waves.

    :param members: the hosts that were in a wave.
    """
    problems = _differing(_read_fleet(members))
    return {
        member.answer.name: merge_waves(
            member.answer.found or {},
            member.decision,
            member.attempts,
            problems.get(member.answer.name, {}),
            has_ended=False,
        )
        for member in members
    }


def merge_waves(
    look: Found,
    decision: PrecacheDecision,
    attempts: Sequence[Attempt],
    problems: Mapping[str, str],
    expected: Sequence[Image] | None = None,
    has_ended: bool = True,
) -> dict[str, Any]:
    """Return what came of all images that a host was asked for, as :func:`merge_precache_outcome` does.

    :param look: what it found in check mode.
    :param decision: what it was to get.
    :param attempts: what it did in all waves.
    :param problems: why an image is not as it must be on it, by the image's id.
    :param expected: in a dry run, what it would fetch; None otherwise.
    :param has_ended: whether all waves were gone through.
    """
    acted: dict[str, list[Any]] = {part: [] for part in PARTS}
    last = {attempt.image_id: attempt for attempt in attempts}
    refused = {image["image_id"]: image for image in look["refused"]}
    found = {image["image_id"]: image for image in (*look["fetched"], *look["refused"])}
    would = {image["image_id"]: image for image in expected or ()}
    for image_id in decision.image_ids:
        image = {key: found[image_id][key] for key in ("name", "image_id")}
        if image_id in would:
            acted["fetched"].append(would[image_id])
        elif image_id in problems:
            acted["failed"].append({**image, "error": problems[image_id]})
        elif image_id in last:
            for part in PARTS:
                acted[part] += last[image_id].parts.get(part, ())
        elif not has_ended:
            acted["failed"].append({**image, "error": _NO_TURN})
        elif image_id in refused:
            acted["refused"].append({**image, "reason": f"{refused[image_id]['reason']} {_WITHOUT_PEER}"})
    return merge_precache_outcome(look, decision, acted)


def _read_fleet(members: Sequence[Member]) -> _Fleet:
    contents: dict[str, _Content] = {}
    keys: dict[tuple[str, str], str] = {}
    hosts = []
    kept = _kept_as_served(members)
    for member in members:
        host, own = _host(member, kept)
        hosts.append(host)
        contents.update({content.key: content for content in own.values()})
        keys.update({(member.answer.name, image_id): content.key for image_id, content in own.items()})
    by_name = {member.answer.name: member for member in members}
    agreed = {key: _agreed(key, content, by_name, keys) for key, content in contents.items()}
    return _Fleet(by_name, contents, keys, hosts, agreed, _results(by_name, keys, agreed))


def _kept_as_served(members: Sequence[Member]) -> frozenset[str]:
    """Return the images that no host would convert, by their ids: of those that some host can fetch."""
    fetched = [image for member in members for image in (member.answer.found or {}).get("fetched", ())]
    converted = {image["image_id"] for image in fetched if image["checksum"] is None}
    return frozenset({image["image_id"] for image in fetched} - converted)


def _host(member: Member, kept: Set[str]) -> tuple[Host, dict[str, _Content]]:
    """Return what a host has and lacks, and how the file of each image that it lacks must be on it.

    :param kept: the images that hosts keep as Glance serves them.
    """
    found, ids = member.answer.found or {}, frozenset(member.decision.image_ids)
    records = {record.image_id: record for record in read_records(member.images).values()}
    own: dict[str, _Content] = {}
    groups: dict[str, set[str]] = defaultdict(set)
    for part in ("fetched", "present", "refused"):
        for image in found.get(part, ()):
            image_id = image["image_id"]
            record = records.get(image_id)
            if record is None:
                continue
            if part == "present":
                # It does not say whether it was converted. What it serves is compared anyway.
                groups["has"].update(_Content(record, is_converted).key for is_converted in (False, True))
            elif image_id in ids:
                own[image_id] = _Content(record, _is_converted(part, image, record, kept))
                key = own[image_id].key
                groups["lacks"].add(key)
                if part == "fetched":
                    groups[f"from_{image['source']}"].add(key)
    host = Host(
        member.answer.name,
        member.options.site,
        common_storage(member.answer),
        **{name: frozenset(groups[name]) for name in ("has", "lacks", "from_file", "from_glance")},
        takes_part=not any(attempt.unreachable for attempt in member.attempts),
    )
    return host, own


def _is_converted(part: str, image: Image, record: ImageRecord, kept: Set[str]) -> bool:
    """Tell whether the file of an image that a host lacks is another one there than Glance serves."""
    if record.disk_format in KEPT_FORMATS:
        return False
    if part == "fetched":
        return image["checksum"] is None
    # Without a source it does not say so, and is taken to do what the others do.
    return not (image["reason"].endswith(NO_SOURCE) and record.image_id in kept)


def _agreed(
    key: str, content: _Content, members: Mapping[str, Member], keys: Mapping[tuple[str, str], str]
) -> list[Checksum]:
    """Return the checksums that hosts agree on; of an image that is kept as it is served, Glance's own."""
    if not content.is_converted:
        return [content.as_served]
    return agreed_checksums(
        Witness(name, _identities(member, attempt), _checksum(attempt.fetched))
        for name, member in members.items()
        for attempt in member.attempts
        if keys.get((name, attempt.image_id)) == key
        and not attempt.source
        and attempt.fetched is not None
        and attempt.fetched["source"] in _OWN_SOURCES
    )


def _identities(member: Member, attempt: Attempt) -> frozenset[tuple[str, ...]]:
    """Return what tells a host from others that has fetched an image: its cache may not have been there at first."""
    place = FileAnswer(member.answer.name, AnswerState.ANSWERED, attempt.place, group=member.answer.group)
    return identities(member.options.known_by, attempt.place["host"], place.storage, attempt.place["shared_storage"])


def _checksum(image: Image) -> Checksum:
    return Checksum(str(image["algorithm"]), str(image["checksum"]), int(image["size_bytes"]))


def _results(
    members: Mapping[str, Member], keys: Mapping[tuple[str, str], str], agreed: Mapping[str, Sequence[Checksum]]
) -> dict[Result, Attempt]:
    """Return what came of all transfers, with what is known now of the checksums, in the order of waves and hosts."""
    made = [
        (attempt, Transfer(keys[name, attempt.image_id], name, attempt.source))
        for name, member in members.items()
        for attempt in member.attempts
    ]
    made.sort(key=lambda each: (each[0].wave, each[1].host))
    compared: dict[tuple[int, str, bool], dict[Transfer, Pace]] = defaultdict(dict)
    for attempt, transfer in made:
        if attempt.fetched is not None:
            site = members[transfer.host].options.site
            pace = Pace(attempt.fetched["read_bytes"], attempt.fetched["seconds"])
            compared[attempt.wave, site, bool(transfer.source)][transfer] = pace
    slow = {(wave, transfer) for (wave, _site, _peer), paces in compared.items() for transfer in slow_transfers(paces)}
    results = {}
    for attempt, transfer in made:
        outcome = _outcome(attempt, agreed[transfer.image], (attempt.wave, transfer) in slow)
        results[Result(attempt.wave, transfer, outcome)] = attempt
    return results


def _outcome(attempt: Attempt, agreed: Sequence[Checksum], is_slow: bool) -> Outcome:
    if attempt.fetched is not None:
        if agreed and _checksum(attempt.fetched) not in agreed:
            return Outcome.DIFFERS
        return Outcome.SLOW if is_slow else Outcome.DONE
    if attempt.parts.get("present"):
        return Outcome.DONE
    if attempt.no_answer:
        # What a host serves may have ended the module, and another one serves something else.
        return Outcome.FAILED if attempt.source and not attempt.unreachable else Outcome.REFUSED
    return Outcome.REFUSED if attempt.parts.get("refused") else Outcome.FAILED


def _orders(fleet: _Fleet, wave: Sequence[Transfer]) -> dict[str, Order]:
    orders: dict[str, Order] = defaultdict(Order)
    allocated = _allocated(fleet)
    for transfer in wave:
        image_id = fleet.contents[transfer.image].record.image_id
        if not transfer.source:
            orders[transfer.host].own.append(image_id)
            continue
        [checksum] = fleet.agreed[transfer.image]
        source = fleet.members[transfer.source]
        name = fingerprint(image_id)
        path = posixpath.join((source.answer.found or {})["cache_path"], name)
        orders[transfer.host].sources[image_id] = transfer.source
        orders[transfer.host].peers[name] = {
            "hosts": [{"host": source.options.address, "path": path}],
            "size_bytes": checksum.size_bytes,
            "algorithm": checksum.algorithm,
            "checksum": checksum.digest,
            "allocated_bytes": believed_allocation(checksum, allocated[transfer.image]),
        }
    return dict(orders)


def _allocated(fleet: _Fleet) -> dict[str, list[int]]:
    """Return what the file of each image takes on the disks of those that have fetched it, by their own words."""
    said: dict[str, list[int]] = defaultdict(list)
    for result, attempt in fleet.results.items():
        if attempt.fetched is not None and result.outcome is not Outcome.DIFFERS:
            said[result.transfer.image].append(attempt.fetched["allocated_bytes"])
    return said


def _differing(fleet: _Fleet) -> dict[str, dict[str, str]]:
    """Return on which hosts the file of an image is not what it must be, by their own words."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for result, attempt in fleet.results.items():
        if result.outcome is Outcome.DIFFERS:
            content, host = fleet.contents[result.transfer.image], result.transfer.host
            image_id = content.record.image_id
            theirs, ours = _checksum(attempt.fetched or {}), fleet.agreed[result.transfer.image]
            who = "other hosts agree on" if content.is_converted else "by Glance's record it is"
            found[host][image_id] = (
                f"The image {image_id} is not what it must be on this host. It reports {theirs.size_bytes} bytes with "
                f"the {theirs.algorithm} {theirs.digest}, and {who} {' and '.join(each.digest for each in ours)}. "
                f"Look at its memory and disks (dmesg), remove the file while no guest uses it, and run the play again."
            )
    return dict(found)


def _left_out(fleet: _Fleet) -> list[dict[str, str]]:
    reasons = []
    for host, result in sorted(why_left_out(tuple(fleet.results)).items()):
        transfer, attempt = result.transfer, fleet.results[result]
        if result.outcome is Outcome.DIFFERS:
            reason = "it reports another checksum than the image must have"
        elif result.outcome is Outcome.SLOW:
            pace = attempt.fetched or {}
            other = f"to {transfer.host}" if host == transfer.source else f"from {transfer.source or 'Glance'}"
            reason = f"it was much slower than others: {pace['read_bytes']} bytes in {pace['seconds']:.0f} s {other}"
        else:
            error = next((image["error"] for image in attempt.parts.get("failed", ())), attempt.no_answer)
            reason = f"it could not serve {transfer.host} and another host: {error}"
        reasons.append({"host": host, "image_id": fleet.contents[transfer.image].record.image_id, "reason": reason})
    return reasons


def _expected(fleet: _Fleet, transfers: Sequence[Transfer]) -> dict[str, list[dict[str, Any]]]:
    """Return what each host would fetch, as it said itself, or where it cannot fetch as another one said."""
    said = {
        (name, image["image_id"]): image
        for name, member in fleet.members.items()
        for image in (member.answer.found or {}).get("fetched", ())
    }
    by_key = {fleet.keys[key]: image for key, image in said.items() if key in fleet.keys}
    expected: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for transfer in transfers:
        content = fleet.contents[transfer.image]
        image_id = content.record.image_id
        image = said.get((transfer.host, image_id)) or by_key.get(transfer.image) or _as_recorded(content)
        from_peer: dict[str, Any] = {}
        if transfer.source:
            source = fleet.members[transfer.source]
            path = posixpath.join((source.answer.found or {})["cache_path"], fingerprint(image_id))
            from_peer = {
                "source": "peer",
                "source_path": f"{source.options.address}:{path}",
                "proof": "agreed",
                "contacted": False,
                "read_bytes": image["size_bytes"],
            }
        expected[transfer.host].append({**image, **from_peer})
    return dict(expected)


def _as_recorded(content: _Content) -> dict[str, Any]:
    """Return an image that no host can fetch itself, and that some have, as Glance's record has it."""
    image_id, served = content.record.image_id, content.as_served
    return {
        "name": fingerprint(image_id),
        "image_id": image_id,
        "size_bytes": served.size_bytes,
        "allocated_bytes": served.size_bytes,
        "seconds": 0.0,
        "algorithm": served.algorithm,
        "checksum": None,
    }
