# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which host fetches which image, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.peers import is_path
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.precaching import NO_QEMU_IMG, NO_SOURCE
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.text import printable

from .answers import AnswerState, FileAnswer, FileOutcome, Found, find_mismatch, read_result

__all__ = [
    "OUTCOMES",
    "PARTS",
    "PRECACHE",
    "SOURCES",
    "VANISHED",
    "PrecacheDecision",
    "awaits_peer",
    "common_storage",
    "decide_precache",
    "merge_precache_outcome",
    "parse_precache_answer",
    "read_by_source",
    "summarise_precache",
]

PRECACHE = "image_cache_precache"
"""The name of the module's structure."""

_IMAGE = {"name": str, "image_id": str}
_FOUND = {
    "cache_path": str,
    "host": str,
    "storage_id": (str, None),
    "shared_storage": (bool, None),
    "fetched": [
        {
            **_IMAGE,
            **dict.fromkeys(("source", "proof"), str),
            **dict.fromkeys(("read_bytes", "size_bytes", "allocated_bytes"), int),
            **dict.fromkeys(("algorithm", "checksum"), (str, None)),
            "seconds": (float, int),
        }
    ],
    "present": [_IMAGE],
    "refused": [{**_IMAGE, "reason": str}],
    "failed": [{**_IMAGE, "error": str}],
}
PARTS = ("fetched", "present", "refused", "failed")
_SEPARATE_PARTS = ("fetched", "present", "refused")  # one that is fetched or present may have failed to be marked
_REASONS = {"refused": "reason", "failed": "error"}
SOURCES = ("glance", "peer", "file")
"""Where images come from."""
OUTCOMES = (*PARTS, "elsewhere")
"""What may come of an image on a host."""
VANISHED = "The module's result does not mention it. Run the play again for the host (--limit) with -vvv, and see why."

Image = Mapping[str, Any]


@dataclass(frozen=True)
class PrecacheDecision:
    """What one host does.

    :param image_ids: the images that it fetches.
    :param elsewhere: the host that fetches an image in its place, by the image's id.
    """

    image_ids: tuple[str, ...] = ()
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """Return it as plain data, for the task's result."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> PrecacheDecision:
        """Read what :meth:`to_plain` made."""
        return cls(tuple(plain["image_ids"]), plain["elsewhere"])


def parse_precache_answer(name: str, result: Mapping[str, Any], group: str = "") -> FileAnswer:
    """Understand what ``image_cache_precache`` returned on a host.

    :param name: the host's name in the inventory.
    :param result: the registered result.
    :param group: the storage group that the host is in; empty for none.
    :return: the answer. One that cannot be understood is a failed one that says where it is wrong.
    """
    state, error, found = read_result(name, result, PRECACHE, _find_problem)
    return FileAnswer(name, state, found, error, group)


def _find_problem(found: Any) -> str:
    """Return where a structure is not what the module returns; empty if it is."""
    problem = find_mismatch(found, _FOUND, PRECACHE)
    if problem:
        return problem
    if not is_path(found["cache_path"]):
        return f"{PRECACHE}.cache_path is not an absolute path"
    seen: set[str] = set()
    for part in _SEPARATE_PARTS:
        for image in found[part]:
            if image["image_id"] in seen:
                return f"{PRECACHE} has the image {printable(image['image_id'])} twice"
            seen.add(image["image_id"])
    return ""


def decide_precache(answers: Sequence[FileAnswer], uses_peers: bool = False) -> dict[str, PrecacheDecision]:
    """Decide which host fetches which image.

    Of the hosts of a storage that can fetch an image, the first by name does. Each image comes to a storage once. That
    one host fetches what it can, so that what the others would fetch does not take the space that it has counted.

    :param answers: what the hosts found in check mode.
    :param uses_peers: whether hosts serve each other. Then a host also counts that cannot fetch the image itself, and
        one that shares its storage with nobody is given each image, whatever another one says of its own storage.
    :return: what each host does that answered.
    """
    by_name = sorted(answers, key=lambda each: each.name)
    able = [(answer, image) for answer in by_name for image in _listed(answer, "fetched")]
    if uses_peers:
        able += [(answer, image) for answer in by_name for image in _listed(answer, "refused") if awaits_peer(image)]
    storages = {answer.name: common_storage(answer) if uses_peers else answer.storage for answer in answers}
    fetchers: dict[tuple[tuple[str, ...], str], str] = {}
    for answer, image in able:
        fetchers.setdefault((storages[answer.name], image["image_id"]), answer.name)
    return {
        answer.name: _decide_for_host(answer, storages[answer.name], fetchers)
        for answer in answers
        if answer.found is not None
    }


def common_storage(answer: FileAnswer) -> tuple[str, ...]:
    """Return what tells a storage from others that several hosts may have; the host itself where it says that none has.

    A host that lies about its storage gets nothing in the place of one whose storage is its own.
    """
    is_own = not answer.group and (answer.found or {}).get("shared_storage") is False
    return ("host", answer.name) if is_own else answer.storage


def awaits_peer(refused: Image) -> bool:
    """Tell whether a host refuses an image only because it has no source of its own, or cannot convert it."""
    return str(refused["reason"]).endswith((NO_QEMU_IMG, NO_SOURCE))


def _decide_for_host(
    answer: FileAnswer, storage: tuple[str, ...], fetchers: Mapping[tuple[tuple[str, ...], str], str]
) -> PrecacheDecision:
    absent = [image["image_id"] for part in ("fetched", "refused", "failed") for image in _listed(answer, part)]
    fetched_by = {image_id: fetchers[storage, image_id] for image_id in absent if (storage, image_id) in fetchers}
    return PrecacheDecision(
        image_ids=tuple(image_id for image_id, host in fetched_by.items() if host == answer.name),
        elsewhere={image_id: host for image_id, host in fetched_by.items() if host != answer.name},
    )


def _listed(answer: FileAnswer, part: str) -> Sequence[Image]:
    images: Sequence[Image] = (answer.found or {}).get(part, ())
    return images


def merge_precache_outcome(
    look: Found, decision: PrecacheDecision, acted: Found | None, error: str = ""
) -> dict[str, Any]:
    """Return what came of all images that a host was asked for.

    :param look: what it found in check mode.
    :param decision: what it was to do.
    :param acted: what it returned then; None in a dry run, where it is not asked again, and where it has failed.
    :param error: why it has failed; empty otherwise.
    :return: ``fetched``, ``present``, ``refused`` and ``failed`` as the module has them, and ``elsewhere``: the ids of
        the images that other hosts fetch for the storage, and of these hosts.
    """
    ids = frozenset(decision.image_ids)
    if acted is None and not error:
        done = {part: [image for image in look[part] if image["image_id"] in ids] for part in PARTS}
    else:
        done = {part: list(acted[part]) if acted else [] for part in PARTS}
        mentioned = {image["image_id"] for images in done.values() for image in images}
        done["failed"] += [
            {**{key: image[key] for key in _IMAGE}, "error": VANISHED if acted else error}
            for image in look["fetched"]
            if image["image_id"] in ids - mentioned
        ]
    settled = ids | decision.elsewhere.keys()
    others = {part: [image for image in look[part] if image["image_id"] not in settled] for part in PARTS}
    return {
        "fetched": done["fetched"],
        **{part: [*done[part], *others[part]] for part in ("present", "refused", "failed")},
        "elsewhere": dict(decision.elsewhere),
    }


def summarise_precache(
    outcomes: Sequence[FileOutcome],
    names: Mapping[str, str],
    check_mode: bool,
    now: float = 0.0,
    previous: Sequence[Mapping[str, Any]] = (),
    waves: Mapping[str, Any] | None = None,
    previous_waves: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Make the structure that the report shows.

    :param outcomes: all hosts of the play, without those of other batches.
    :param names: the names of the images by their ids, where they have one.
    :param check_mode: whether nothing was fetched.
    :param now: the time, in unix seconds.
    :param previous: the ``outcomes`` of an earlier batch of the play.
    :param waves: the ``number`` of waves, the ``seconds`` that each took, and the hosts that were ``left_out``; None
        where hosts serve nobody.
    :param previous_waves: the ``waves`` of an earlier batch of the play.
    :return: plain data: ``hosts`` is their number. Each of ``images`` has how many hosts have it, got it, share it with
        the host that did, and were refused it or failed. Each item of ``fetched``, ``lacking`` and ``unanswered`` has
        the host's name as ``host``. ``outcomes`` has what came of each image on each host, and ``read_bytes`` how
        much came from each source. ``waves`` is None, or has their ``number``, the ``seconds`` of each, and as
        ``left_out`` the hosts that served others no more, and why.
    """
    rows = _merged_rows(previous, _rows(outcomes, names))
    on_hosts = [(row["name"], image) for row in rows for image in row["images"]]
    images: dict[str, dict[str, Any]] = {}
    for _host, image in on_hosts:
        counted = images.setdefault(
            image["image_id"],
            {**{key: image[key] for key in ("image_id", "image_name")}, **dict.fromkeys(OUTCOMES, 0)},
        )
        counted[image["outcome"]] += 1
    fetched = [{"host": host, **image} for host, image in on_hosts if image["outcome"] == "fetched"]
    return {
        "generated": now,
        "check_mode": check_mode,
        "hosts": len(rows),
        "images": sorted(images.values(), key=lambda image: (image["image_name"], image["image_id"])),
        "fetched": fetched,
        "read_bytes": read_by_source(fetched),
        "waves": _with_earlier(waves, previous_waves),
        "lacking": [{"host": host, **image} for host, image in on_hosts if "reason" in image],
        "unanswered": [{"host": row["name"], "error": row["error"]} for row in rows if row["error"]],
        "outcomes": rows,
    }


def _with_earlier(waves: Mapping[str, Any] | None, previous: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the waves of this batch behind those of earlier ones."""
    if waves is None or previous is None:
        return None if waves is None and previous is None else dict(waves or previous or {})
    return {key: previous[key] + waves[key] for key in ("number", "seconds", "left_out")}


def read_by_source(fetched: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return how much was read of each source."""
    read = dict.fromkeys(SOURCES, 0)
    for image in fetched:
        if image["source"] in read:  # a host can say anything
            read[image["source"]] += image["read_bytes"]
    return read


def _rows(outcomes: Sequence[FileOutcome], names: Mapping[str, str]) -> list[dict[str, Any]]:
    sharing: dict[tuple[str, ...], list[str]] = {}
    for outcome in outcomes:
        sharing.setdefault(outcome.answer.storage, []).append(outcome.answer.name)
    rows = []
    for outcome in outcomes:
        answer = outcome.answer
        error = "" if outcome.result is not None else answer.error or "Nothing was pre-cached after the look."
        rows.append(
            {
                "name": answer.name,
                "cache_path": answer.found["cache_path"] if answer.found else None,
                "storage_hosts": sorted(sharing[answer.storage]),
                "error": error,
                "was_looked_at": answer.state is not AnswerState.NOT_LOOKED_AT,
                "images": [
                    {**image, "image_name": names.get(image["image_id"], "")} for image in _images(outcome.result or {})
                ],
            }
        )
    return rows


def _images(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield each image that a host was asked for, with what came of it and, where it is not there, why."""
    for part in result and PARTS:
        for image in result[part]:
            reason = {"reason": image[_REASONS[part]]} if part in _REASONS else {}
            yield {**{key: value for key, value in image.items() if key != "error"}, **reason, "outcome": part}
    for image_id, host in result.get("elsewhere", {}).items():
        yield {"image_id": image_id, "fetched_by": host, "outcome": "elsewhere"}


def _merged_rows(previous: Sequence[Mapping[str, Any]], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of earlier batches and those of this one. A host of an earlier batch is as it was then."""
    known = {row["name"]: dict(row) for row in previous}
    known.update({row["name"]: row for row in rows if row["was_looked_at"] or row["name"] not in known})
    return list(known.values())
