# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which missing base files come from other hosts: those of which two have the same, and neither Glance nor this host.

Other hosts say what checksum their file has. One of them may lie, so two must agree, and none may agree on another.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.peers import is_checksum
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.names import Kind, parse_name
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.text import some_names

from .answers import FileAnswer, find_mismatch, read_result
from .options import PeerOptions
from .peers import Checksum, Witness, agreed_checksums, believed_allocation, identities
from .restore import RESTORE, decide_restore

__all__ = ["Owner", "agree_on_lost_files", "files_lost_to_peers", "parse_checksums"]

_KINDS = (Kind.ORIGINAL, Kind.RESIZED, Kind.SMALL)
_MOST_SOURCES = 4
_MOST_LOST_FILES = 100  # of a host, so that none can have the others read all that they have
_NOBODY_HAS_IT = (
    "No other host of the play has this base file either. Run the play on more hosts (--limit), or set "
    "image_cache_restore_files to a copy of it."
)
_AT_OTHER_SITES = (
    "Only hosts of other sites have this base file. Set image_cache_site, or bring a copy and set "
    "image_cache_restore_files."
)
_CHECKSUMS = {
    "checksums": [{"name": str, "algorithm": str, "checksum": str, "size_bytes": int, "allocated_bytes": int}]
}


@dataclass(frozen=True)
class Owner:
    """A host that was asked for the checksums of lost files.

    :param answer: what it found at first.
    :param options: where it is, and how others reach it.
    :param checksums: what the module returned of each file that it has.
    :param error: why it returned nothing; empty if it did.
    """

    answer: FileAnswer
    options: PeerOptions
    checksums: Sequence[Mapping[str, Any]]
    error: str = ""


def files_lost_to_peers(answers: Sequence[FileAnswer], in_glance: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return which missing base files, of those that come from images, neither a host of a storage nor Glance has.

    :param answers: what the hosts found in check mode.
    :param in_glance: what was found in Glance, as :func:`find_in_glance` returns it.
    :return: the files' names by the names of the hosts that need them, at most 100 for each.
    """
    decisions = decide_restore(answers)
    lost = {
        answer.name: [
            file["name"]
            for file in answer.found["refused"]
            if file["state"] == "missing"
            and parse_name(file["name"]).kind in _KINDS
            and file["name"] not in decisions[answer.name].elsewhere
            and file["name"] not in in_glance.get(answer.name, {}).get("images", {})
        ]
        for answer in answers
        if answer.found is not None
    }
    return {host: names[:_MOST_LOST_FILES] for host, names in lost.items() if names}


def parse_checksums(name: str, result: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], str]:
    """Understand the checksums that a host returned.

    A file without content, as a machine leaves it that lost its power, is none to restore from.

    :param name: the host's name in the inventory.
    :param result: the registered result.
    :return: one of each file that it has, and why there are none; empty if it answered.
    """
    _state, error, found = read_result(name, result, RESTORE, _find_problem)
    if found is None:
        return [], error
    return [file for file in found["checksums"] if file["size_bytes"]], ""


def _find_problem(found: Any) -> str:
    problem = find_mismatch(found, _CHECKSUMS, RESTORE)
    if problem:
        return problem
    names = [file["name"] for file in found["checksums"]]
    if len(set(names)) != len(names):
        return f"{RESTORE}.checksums has a file twice"
    if all(is_checksum(file["algorithm"], file["checksum"]) for file in found["checksums"]):
        return ""
    return f"a checksum of {RESTORE} is none"


def agree_on_lost_files(
    lost: Mapping[str, Sequence[str]], owners: Sequence[Owner]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Find other hosts from which lost base files can be restored.

    :param lost: the names of lost base files by the names of the hosts that need them.
    :param owners: all hosts that were asked.
    :return: plain data by the names of these hosts: ``peers``, the module's option; and ``remarks``, why no other host
        can serve a file, by its name.
    """
    by_name = {owner.answer.name: owner for owner in owners}
    having: dict[str, list[tuple[Owner, Checksum, int]]] = {}
    silent = _not_asked(sorted(owner.answer.name for owner in owners if owner.error))
    for owner in sorted(owners, key=lambda each: each.answer.name):
        for file in owner.checksums:
            checksum = Checksum(file["algorithm"], file["checksum"], file["size_bytes"])
            having.setdefault(file["name"], []).append((owner, checksum, file["allocated_bytes"]))
    found = {}
    for number, (host, names) in enumerate(sorted(lost.items())):
        peers: dict[str, Any] = {}
        remarks: dict[str, str] = {}
        for name in names if host in by_name else ():
            others = [each for each in having.get(name, ()) if each[0].answer.storage != by_name[host].answer.storage]
            agreed = agreed_checksums(_witness(owner, checksum) for owner, checksum, _allocated in others)
            near = [
                (owner, allocated)
                for owner, checksum, allocated in others
                if agreed == [checksum] and owner.options.site == by_name[host].options.site
            ]
            if not near:
                remarks[name] = _why_not(others, len(agreed)) + silent
                continue
            [right] = agreed
            turn = number % len(near)  # so that not all hosts ask the same one first
            peers[name] = {
                "hosts": [_place(owner, name) for owner, _allocated in [*near[turn:], *near[:turn]][:_MOST_SOURCES]],
                "size_bytes": right.size_bytes,
                "allocated_bytes": believed_allocation(
                    right, [allocated for _owner, checksum, allocated in others if checksum == right]
                ),
                "algorithm": right.algorithm,
                "checksum": right.digest,
            }
        found[host] = {"peers": peers, "remarks": remarks}
    return found


def _witness(owner: Owner, checksum: Checksum) -> Witness:
    found = owner.answer.found or {}
    same = identities(owner.options.known_by, found["host"], owner.answer.storage, found["shared_storage"])
    return Witness(owner.answer.name, same, checksum)


def _place(owner: Owner, name: str) -> dict[str, str]:
    path = posixpath.join((owner.answer.found or {})["cache_path"], name)
    return {"host": owner.options.address, "path": path}


def _not_asked(hosts: Sequence[str]) -> str:
    """Say which hosts may have a file that no two others have; empty for none."""
    if not hosts:
        return ""
    return f" Nothing is known of {some_names(hosts)}. See why there was no answer, and run the play again (--limit)."


def _why_not(having: Iterable[tuple[Owner, Checksum, int]], agreed: int) -> str:
    """Say why no other host can serve a file, with the names of those that have it."""
    hosts: dict[Checksum, list[str]] = {}
    for owner, checksum, _allocated in having:
        hosts.setdefault(checksum, []).append(owner.answer.name)
    if not hosts:
        return _NOBODY_HAS_IT
    if agreed == 1:
        return _AT_OTHER_SITES
    said = "; ".join(
        f"on {some_names(names)} it has the {checksum.algorithm} {checksum.digest}"
        for checksum, names in sorted(hosts.items())
    )
    if agreed:
        return f"Other hosts disagree on what it must be: {said}. Set image_cache_restore_files to a right copy."
    return (
        f"No two other hosts of different storages have the same file: {said}. Set image_cache_restore_files to a "
        f"right copy."
    )
