# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What needs a person: each kind of alarm, its one wording, and where a fleet has it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.names import Kind as FileKind
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.names import parse_name

from .text import some_names

__all__ = ["Alarm", "Item", "Kind", "Level", "fleet_alarms", "meaning_of", "storage_alarms"]

Storage = Mapping[str, Any]

_TEMPLATES = (FileKind.SWAP, FileKind.EPHEMERAL)


class Level(StrEnum):
    """How bad an alarm is."""

    CRITICAL = "critical"
    WARNING = "warning"
    NOTE = "note"


class Kind(StrEnum):
    """What is wrong, the worst first."""

    PROBLEM = "problem"
    MISSING = "missing"
    TEMPLATE = "template"
    REPLACED = "replaced"
    CORRUPT = "corrupt"
    FAILED = "failed"
    REFUSED = "refused"
    UNANSWERED = "unanswered"
    ORPHANS = "orphans"


@dataclass(frozen=True)
class _Wording:
    """
    :param title: a few words, as a heading.
    :param meaning: what is so, a sentence.
    :param remedy: what to do, a sentence or two.
    """

    level: Level
    title: str
    meaning: str
    remedy: str


_WORDINGS = {
    Kind.PROBLEM: _Wording(
        Level.WARNING,
        "Problems of the fleet",
        "These problems concern more than one host.",
        "Each says what to do.",
    ),
    Kind.MISSING: _Wording(
        Level.CRITICAL,
        "Missing files",
        "Disks need these files, and the files do not exist.",
        "Restore them first, from another host's cache or from Glance: the instances cannot start without them.",
    ),
    Kind.TEMPLATE: _Wording(
        Level.CRITICAL,
        "Missing templates",
        "Disks need these swap or ephemeral templates, and the templates do not exist.",
        "Take none from another host, which would destroy the file system: each host makes its own, and Glance has "
        "none. While a guest still runs, copy the file from /proc/PID/fd of its QEMU, otherwise restore it from a "
        "backup.",
    ),
    Kind.REPLACED: _Wording(
        Level.CRITICAL,
        "Replaced files",
        "These base files were replaced while guests run on the former ones.",
        "If the bytes differ, the next hard reboot destroys a guest's file system: do not stop, reboot or migrate it "
        "before they are compared. Copy the former file from /proc/PID/fd of its QEMU, or make its disks independent "
        "of it with virsh blockpull.",
    ),
    Kind.CORRUPT: _Wording(
        Level.CRITICAL,
        "Corrupt files",
        "The contents of these base files do not match their checksums.",
        "Compare them with another host's, and restore them before an instance that uses them starts again.",
    ),
    Kind.FAILED: _Wording(
        Level.WARNING,
        "Failed removals",
        "These files could not be removed.",
        "Correct the cause. The next prune tries again.",
    ),
    Kind.REFUSED: _Wording(
        Level.WARNING,
        "Refused",
        "Nothing may be removed here.",
        "Each reason says what to do.",
    ),
    Kind.UNANSWERED: _Wording(
        Level.WARNING,
        "Hosts without an answer",
        "These hosts failed or could not be reached.",
        "Correct the cause, and run again.",
    ),
    Kind.ORPHANS: _Wording(
        Level.NOTE,
        "Orphans",
        "These directories hold disks and belong to no known instance.",
        "Check whether they can be deleted, or whether the list of instances is incomplete.",
    ),
}


@dataclass(frozen=True)
class Item:
    """One thing that is wrong.

    :param where: the host, empty for the whole fleet.
    :param what: the file, the directory or a sentence.
    :param more: the instances concerned, or what went wrong. May be empty.
    """

    where: str
    what: str
    more: str = ""


@dataclass(frozen=True)
class Alarm:
    """All that is wrong in one way.

    :param items: each one that is known by name.
    :param count: how many there are.
    """

    kind: Kind
    items: Sequence[Item]
    count: int

    @property
    def level(self) -> Level:
        return _WORDINGS[self.kind].level

    @property
    def title(self) -> str:
        return _WORDINGS[self.kind].title

    @property
    def advice(self) -> str:
        """What is so, and what to do."""
        return f"{_WORDINGS[self.kind].meaning} {_WORDINGS[self.kind].remedy}"


def meaning_of(kind: Kind) -> str:
    """Return the sentence that says what is so, without the remedy."""
    return _WORDINGS[kind].meaning


def fleet_alarms(fleet: Mapping[str, Any]) -> list[Alarm]:
    """Return what needs a person: the problems of the whole fleet, and then by kind, the worst first.

    :param fleet: the fleet as ``report.json`` has it.
    """
    unanswered = [
        Item(host["name"], host["state"], host["error"] or "")
        for host in fleet["hosts"]
        if host["state"] in ("failed", "unreachable")
    ]
    alarms = [
        _alarm(Kind.PROBLEM, [Item("", sentence) for sentence in fleet["problems"]]),
        *storage_alarms(fleet["storages"]),
        _alarm(Kind.UNANSWERED, unanswered),
    ]
    order = list(Kind)
    return sorted((alarm for alarm in alarms if alarm.count), key=lambda alarm: order.index(alarm.kind))


def storage_alarms(storages: Sequence[Storage]) -> list[Alarm]:
    """Return what needs a person on these storages, by kind, the worst first.

    :param storages: of each, ``hosts``, ``pruner``, ``missing``, ``corrupt``, ``failed``, ``refused``, ``orphans`` and
        ``omitted`` as the fleet has them.
    """
    alarms = [
        *_alarms_of_missing(storages),
        *(
            _alarm(
                kind,
                list(_items(storages, kind, item)),
                sum(storage["omitted"].get(omitted, 0) for storage in storages),
            )
            for kind, omitted, item in _OF_STORAGES
        ),
    ]
    return [alarm for alarm in alarms if alarm.count]


def _alarms_of_missing(storages: Sequence[Storage]) -> list[Alarm]:
    """Divide what the modules return as ``missing`` by what to do about it.

    Those that are left out of a list count with its last entry: of which kind they are is not known.
    """
    items: dict[Kind, list[Item]] = {Kind.MISSING: [], Kind.TEMPLATE: [], Kind.REPLACED: []}
    omitted: Counter[Kind] = Counter()
    for storage in storages:
        kind = Kind.MISSING
        for found in storage["missing"]:
            kind = _kind_of_missing(found)
            items[kind].append(Item(_where(storage), found["backing_file"], some_names(found["instances"])))
        omitted[kind] += storage["omitted"].get("missing", 0)
    return [_alarm(kind, found, omitted[kind]) for kind, found in items.items()]


def _kind_of_missing(missing: Mapping[str, Any]) -> Kind:
    if missing.get("replaced"):
        return Kind.REPLACED
    name = parse_name(os.path.basename(missing["backing_file"]))
    return Kind.TEMPLATE if name.kind in _TEMPLATES else Kind.MISSING


def _alarm(kind: Kind, items: Sequence[Item], omitted: int = 0) -> Alarm:
    return Alarm(kind, items, len(items) + omitted)


def _items(storages: Sequence[Storage], kind: Kind, item: Callable[[str, Any], Item]) -> Iterator[Item]:
    return (item(_where(storage), found) for storage in storages for found in storage[kind.value])


def _where(storage: Storage) -> str:
    more = len(storage["hosts"]) - 1
    return f"{storage['pruner']} and {more} more" if more > 0 else str(storage["pruner"])


def _corrupt(where: str, file: Mapping[str, Any]) -> Item:
    return Item(where, file["name"], some_names(file["used_by"]) or "no known instance")


def _failed(where: str, failure: Mapping[str, Any]) -> Item:
    return Item(where, failure["name"], failure["error"])


# Each other kind that a storage has, under which key the storage says how many it leaves out, and how an item is read.
_OF_STORAGES: tuple[tuple[Kind, str, Callable[[str, Any], Item]], ...] = (
    (Kind.CORRUPT, "corrupt", _corrupt),
    (Kind.FAILED, "failed", _failed),
    (Kind.REFUSED, "unknown_use", Item),
    (Kind.ORPHANS, "orphans", Item),
)
