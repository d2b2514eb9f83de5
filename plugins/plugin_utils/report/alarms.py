# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What needs a person: each kind of alarm, its one wording, and where a fleet has it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.names import Kind, parse_name

from .text import some_names
from .units import count_text, size_text

__all__ = [
    "Alarm",
    "AlarmKind",
    "Item",
    "Level",
    "Recoverable",
    "fleet_alarms",
    "grouped",
    "meaning_of",
    "other_warnings",
    "storage_alarms",
]

Storage = Mapping[str, Any]

_MOST_LIMITED = 5
# What the same cause has otherwise on each host: addresses and times; counts, and names of files in the cache. A number
# in a name is another thing there: a refusal names the host to care for.
_NUMBERS = r"\d+"
_COUNTS = r"\b[0-9a-f]{40}(?:_\w+)?\b|(?<![\w.-])\d+(?![\w.-])"
_TEMPLATES = (Kind.SWAP, Kind.EPHEMERAL)


class Level(StrEnum):
    """How bad an alarm is."""

    CRITICAL = "critical"
    WARNING = "warning"
    NOTE = "note"


class AlarmKind(StrEnum):
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
    AlarmKind.PROBLEM: _Wording(
        Level.WARNING,
        "Problems of the fleet",
        "These problems concern more than one host.",
        "Each says what to do.",
    ),
    AlarmKind.MISSING: _Wording(
        Level.CRITICAL,
        "Missing files",
        "Disks need these files, and the files do not exist.",
        "Restore them first, because the instances cannot start without them: run ansible-playbook "
        "stackops.nova.restore with --limit for these hosts, and with --check before. With -e "
        "image_cache_restore_from_glance=true it asks Glance too (page 'A base file is gone').",
    ),
    AlarmKind.TEMPLATE: _Wording(
        Level.CRITICAL,
        "Missing templates",
        "Disks need these swap or ephemeral templates, and the templates do not exist.",
        "Take none from another host, which would destroy the file system: each host makes its own, and Glance has "
        "none. While a guest still runs, copy the file from /proc/PID/fd of its QEMU, otherwise restore it from a "
        "backup.",
    ),
    AlarmKind.REPLACED: _Wording(
        Level.CRITICAL,
        "Replaced files",
        "These base files were replaced while guests run on the former ones.",
        "If the bytes differ, the next hard reboot destroys a guest's file system: do not stop, reboot or migrate it "
        "before they are compared. Copy the former file from /proc/PID/fd of its QEMU, or make its disks independent "
        "of it with virsh blockpull.",
    ),
    AlarmKind.CORRUPT: _Wording(
        Level.CRITICAL,
        "Corrupt files",
        "The contents of these base files do not match their checksums.",
        "Compare them with another host's, and restore them before an instance that uses them starts again.",
    ),
    AlarmKind.FAILED: _Wording(
        Level.WARNING,
        "Failed removals",
        "These files could not be removed.",
        "Correct the cause. The next prune tries again.",
    ),
    AlarmKind.REFUSED: _Wording(
        Level.WARNING,
        "Refused",
        "Nothing may be removed here.",
        "Each reason says what to do. The role's variables begin with image_cache_.",
    ),
    AlarmKind.UNANSWERED: _Wording(
        Level.WARNING,
        "Hosts without an answer",
        "These hosts failed or could not be reached.",
        "Correct the cause, and run again.",
    ),
    AlarmKind.ORPHANS: _Wording(
        Level.NOTE,
        "Orphans",
        "These directories hold disks and belong to no known instance.",
        "Check whether they can be deleted, or whether the list of instances is incomplete.",
    ),
}


@dataclass(frozen=True)
class Recoverable:
    """A base file that guests still have open, or that Glance has.

    :param hosts: where it can be restored; empty where that is not to be named.
    :param guests: the guests that have it open.
    :param is_replaced: whether another file has its name now.
    :param image_id: the image that Glance has; empty where guests have the file.
    """

    hosts: tuple[str, ...]
    guests: tuple[str, ...]
    is_replaced: bool = False
    image_id: str = ""

    @property
    def text(self) -> str:
        """Say until when, and what to type."""
        is_one = len(self.guests) == 1
        command = "ansible-playbook stackops.nova.restore"
        if 0 < len(self.hosts) <= _MOST_LIMITED:
            command += f" --limit {','.join(self.hosts)}"
        if self.is_replaced:
            command += " -e image_cache_restore_states=replaced"
        if self.image_id:
            return (
                f"recoverable from Glance (image {self.image_id}): run {command} -e "
                f"image_cache_restore_from_glance=true"
            )
        return (
            f"recoverable until {some_names(self.guests)} {'stops' if is_one else 'stop'}: do not stop "
            f"{'it' if is_one else 'them'}, and run {command}"
        )


@dataclass(frozen=True)
class Item:
    """One thing that is wrong.

    :param hosts: where, the pruner of a storage first; none for the whole fleet.
    :param what: the file, the directory or a sentence.
    :param instances: the instances concerned.
    :param error: what went wrong, or more about it. May be empty.
    :param recoverable: how a file can be restored that guests or Glance still have; None where none has.
    """

    hosts: tuple[str, ...]
    what: str
    instances: tuple[str, ...] = ()
    error: str = ""
    recoverable: Recoverable | None = None

    @property
    def where(self) -> str:
        """Name the host, and count the others that share its storage."""
        others = len(self.hosts) - 1
        return f"{self.hosts[0]} and {others} more" if others > 0 else "".join(self.hosts)

    @property
    def more(self) -> str:
        """Name the instances concerned, or say what went wrong. May be empty.

        How it can be restored comes first, because a narrow screen cuts off the end.
        """
        if self.recoverable is None:
            return some_names(self.instances) or self.error
        guests = self.recoverable.guests
        others = [name for name in self.instances if name not in guests]
        also = "also " if guests else ""
        return "; ".join([self.recoverable.text, *([f"{also}needed by {some_names(others)}"] if others else [])])

    @property
    def urgency(self) -> int:
        """Sort what can be restored until a guest stops first, and last what cannot be restored."""
        if self.recoverable is None:
            return 2
        return 1 if self.recoverable.image_id else 0


@dataclass(frozen=True)
class Alarm:
    """All that is wrong in one way.

    :param items: each one that is known by name.
    :param count: how many there are.
    :param others_on: the hosts of those that are not known by name.
    """

    kind: AlarmKind
    items: Sequence[Item]
    count: int
    others_on: tuple[str, ...] = ()

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


def meaning_of(kind: AlarmKind) -> str:
    """Return the sentence that says what is so, without the remedy."""
    return _WORDINGS[kind].meaning


def fleet_alarms(fleet: Mapping[str, Any]) -> list[Alarm]:
    """Return what needs a person: the problems of the whole fleet, and then by kind, the worst first.

    :param fleet: the fleet as ``report.json`` has it.
    """
    # A host that failed over what it found has an alarm for that.
    in_trouble = {
        (name, storage["cache_path"])
        for storage in fleet["storages"]
        if storage["corrupt"] or storage["failed"] or storage["refused"]
        for name in storage["hosts"]
    }
    unanswered = [
        Item((host["name"],), host["state"], error=host["error"] or "")
        for host in fleet["hosts"]
        if host["state"] == "unreachable"
        or (host["state"] == "failed" and (host["name"], host["cache_path"]) not in in_trouble)
    ]
    alarms = [
        _alarm(AlarmKind.PROBLEM, [Item((), sentence) for sentence in fleet["problems"]]),
        *storage_alarms(fleet["storages"]),
        _alarm(AlarmKind.UNANSWERED, unanswered),
    ]
    order = list(AlarmKind)
    return sorted((alarm for alarm in alarms if alarm.count), key=lambda alarm: order.index(alarm.kind))


def grouped(items: Sequence[Item], *, are_sentences: bool = False) -> list[tuple[Item, int]]:
    """Merge the items that are about the same thing on different hosts.

    :param items: what is wrong.
    :param are_sentences: whether what is wrong is a whole sentence in each, and not the name of a thing.
    :return: each thing with all of its hosts and instances, and how many items it stands for. What can be restored
        until a guest stops comes first, then what can be restored from Glance, then what most hosts have. An ellipsis
        stands for what differs from host to host in a reason.
    """
    groups: dict[tuple[object, ...], list[tuple[Item, list[str]]]] = {}
    for item in items:
        name, reason, varying = _parts(item, are_sentences)
        hosts = [re.escape(host) for host in sorted(item.hosts, key=len, reverse=True) if host]
        # Every second piece is one that may vary.
        pieces = re.split(f"({'|'.join([*hosts, varying])})", reason)
        groups.setdefault((item.urgency, name, *pieces[::2]), []).append((item, pieces))
    merged = []
    for group in groups.values():
        same = [item for item, _pieces in group]
        reason = "".join(
            found[0] if len(set(found)) == 1 else "…"
            for found in zip(*(pieces for _item, pieces in group), strict=True)
        )
        merged.append(
            (
                Item(
                    tuple(dict.fromkeys(host for item in same for host in item.hosts)),
                    reason if are_sentences else same[0].what,
                    tuple(dict.fromkeys(instance for item in same for instance in item.instances)),
                    "" if are_sentences else reason,
                    _merged_recoverable([item.recoverable for item in same if item.recoverable]),
                ),
                len(group),
            )
        )
    return sorted(merged, key=lambda one: (one[0].urgency, -len(one[0].hosts)))


def other_warnings(fleet: Mapping[str, Any]) -> list[tuple[Item, int]]:
    """Return what hosts warned of beside what the alarms and the pages show, merged as :func:`grouped` does.

    :param fleet: the fleet as ``report.json`` has it.
    :return: each warning with all of its hosts, and how many these are.
    """
    hosts: dict[str, list[str]] = {}
    for host in fleet["hosts"]:
        for text in host["warnings"]:
            hosts.setdefault(text, []).append(host["name"])
    items = [Item(tuple(names), text) for text, names in hosts.items()]
    return [(item, len(item.hosts)) for item, _number in grouped(items, are_sentences=True)]


def _merged_recoverable(several: Sequence[Recoverable]) -> Recoverable | None:
    if not several:
        return None
    return Recoverable(
        tuple(dict.fromkeys(host for one in several for host in one.hosts)),
        tuple(dict.fromkeys(guest for one in several for guest in one.guests)),
        several[0].is_replaced,
        several[0].image_id,
    )


def _parts(item: Item, is_sentence: bool) -> tuple[str, str, str]:
    """Return the name of what an item is about, its reason, and a pattern of what may vary in that by host."""
    if is_sentence:
        return "", item.what, _COUNTS
    name = os.path.basename(item.what)
    # Each host may have the same file in a cache of another path.
    return item.what if parse_name(name).kind is Kind.OTHER else name, item.error, _NUMBERS


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
                [(storage["pruner"], storage["omitted"].get(omitted, 0)) for storage in storages],
            )
            for kind, omitted, item in _OF_STORAGES
        ),
    ]
    return [alarm for alarm in alarms if alarm.count]


def _alarms_of_missing(storages: Sequence[Storage]) -> list[Alarm]:
    """Divide what the modules return as ``missing`` by what to do about it.

    Those that are left out of a list count with its last entry: of which kind they are is not known.
    """
    items: dict[AlarmKind, list[Item]] = {AlarmKind.MISSING: [], AlarmKind.TEMPLATE: [], AlarmKind.REPLACED: []}
    omitted: dict[AlarmKind, list[tuple[str, int]]] = {kind: [] for kind in items}
    for storage in storages:
        kind = AlarmKind.MISSING
        for found in storage["missing"]:
            kind = _kind_of_missing(found)
            items[kind].append(
                Item(
                    _hosts(storage),
                    found["backing_file"],
                    tuple(found["instances"]),
                    recoverable=_recoverable(found, storage["pruner"]),
                )
            )
        omitted[kind].append((storage["pruner"], storage["omitted"].get("missing", 0)))
    # What can be restored now, and cannot when a guest stops, comes first.
    return [_alarm(kind, sorted(found, key=lambda item: item.urgency), omitted[kind]) for kind, found in items.items()]


def _recoverable(missing: Mapping[str, Any], pruner: str) -> Recoverable | None:
    if not missing.get("recoverable_from"):
        return None
    host = missing.get("recoverable_on", pruner)
    return Recoverable(
        (host,) if host else (),
        tuple(missing["recoverable_until"] or ()),
        is_replaced=bool(missing.get("replaced")),
        image_id=(missing.get("image_id") or "") if missing["recoverable_from"] == "glance" else "",
    )


def _kind_of_missing(missing: Mapping[str, Any]) -> AlarmKind:
    if missing.get("replaced"):
        return AlarmKind.REPLACED
    name = parse_name(os.path.basename(missing["backing_file"]))
    return AlarmKind.TEMPLATE if name.kind in _TEMPLATES else AlarmKind.MISSING


def _alarm(kind: AlarmKind, items: Sequence[Item], omitted: Sequence[tuple[str, int]] = ()) -> Alarm:
    """Make an alarm of these items, and of so many more on each host."""
    count = len(items) + sum(number for _host, number in omitted)
    return Alarm(kind, items, count, tuple(dict.fromkeys(host for host, number in omitted if number)))


def _items(
    storages: Sequence[Storage], kind: AlarmKind, item: Callable[[tuple[str, ...], Any], Item]
) -> Iterator[Item]:
    return (item(_hosts(storage), found) for storage in storages for found in storage[kind.value])


def _hosts(storage: Storage) -> tuple[str, ...]:
    return tuple(dict.fromkeys([storage["pruner"], *storage["hosts"]]))


def _corrupt(hosts: tuple[str, ...], file: Mapping[str, Any]) -> Item:
    return Item(hosts, file["name"], tuple(file["used_by"]), "" if file["used_by"] else "no known instance")


def _failed(hosts: tuple[str, ...], failure: Mapping[str, Any]) -> Item:
    return Item(hosts, failure["name"], error=failure["error"])


def _orphan(hosts: tuple[str, ...], orphan: Mapping[str, Any]) -> Item:
    size, disks = orphan["allocated_bytes"], orphan["disks"]
    held = "" if size is None or disks is None else f"{size_text(size)}, {count_text(disks, 'disk')}. "
    return Item(hosts, orphan["directory"], error=held + orphan["why"])


# Each other kind that a storage has, under which key the storage says how many it leaves out, and how an item is read.
_OF_STORAGES: tuple[tuple[AlarmKind, str, Callable[[tuple[str, ...], Any], Item]], ...] = (
    (AlarmKind.CORRUPT, "corrupt", _corrupt),
    (AlarmKind.FAILED, "failed", _failed),
    (AlarmKind.REFUSED, "unknown_use", Item),
    (AlarmKind.ORPHANS, "orphans", _orphan),
)
