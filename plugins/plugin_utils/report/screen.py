# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet on one screen: its numbers, what needs a person, and the hosts whose disks fill up.

Names come from guests and tenants. Each line goes through :func:`printable`, so that none of them reaches a terminal
as a control character.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.text import printable

from .alarms import Alarm, AlarmKind, Item, fleet_alarms, grouped, other_warnings
from .sections import Section, item_lines
from .text import columns, cut, some_names, wrap
from .units import count_text, size_text

__all__ = ["fleet_screen"]

_WIDTH = 78
_LINES = 45
_FEWEST_ROWS = 5
_MOST_ROWS = 20
_MOST_ITEMS = 5
_ITEM_LINES = 7
_MOST_WARNINGS = 2
_WARNING_LINES = 3
_NAME_WIDTH = 38  # what the other columns leave
_LABEL = f"!! {'':<11}"
_COLUMNS = "{free:<16}{cached:>10}  {freed:>10}  {name}"


def fleet_screen(fleet: Mapping[str, Any], every_host: bool = False) -> str:
    """Return a fleet as a page of plain text.

    :param fleet: the fleet as ``report.json`` has it.
    :param every_host: whether each host has a line, and not only the storages with the least free space.
    :return: lines of at most 78 columns, without a line break after the last one. Without ``every_host`` there are at
        most 45.
    """
    head = _head(fleet)
    rows = sorted(_rows_of_hosts(fleet) if every_host else _rows_of_storages(fleet), key=_Row.order)
    advice = _advice(fleet, len(rows) > _MOST_ROWS and not every_host)
    # The heading of the table has two lines, and so has the number of the rows that are left out.
    room = _LINES - len(head) - len(advice) - 4
    beside = room - min(len(rows), _FEWEST_ROWS)
    alarms = _alarms(fleet, beside - len(_warnings(fleet, 0)))
    alarms += _warnings(fleet, beside - len(alarms))
    shown = rows if every_host else rows[: min(_MOST_ROWS, room - len(alarms))]
    table = ["", _table_head(fleet)] if shown else []
    for row in shown:
        table += row.lines(may_wrap=every_host)
    if len(shown) < len(rows):
        rest = sum(row.freed for row in rows[len(shown) :])
        table.append(f"  and {count_text(len(rows) - len(shown), 'more storage')}: {size_text(rest)}")
    return "\n".join(printable(line).rstrip() for line in [*head, *alarms, *table, *advice])


def _head(fleet: Mapping[str, Any]) -> list[str]:
    summary = fleet["summary"]
    parts = [count_text(summary["hosts"], "host")]
    if summary["hosts_without_answer"]:
        parts.append(f"{summary['hosts_without_answer']} without an answer")
    parts.append(count_text(summary["storages"], "storage"))
    if summary["storages_refused"]:
        parts.append(f"{summary['storages_refused']} refused")
    space = summary["bytes"]
    were = "were " if _is_done(fleet) else ""
    cached = (
        f"{size_text(summary['cached_bytes'])} {were}cached: {size_text(space['active'])} in use, "
        f"{size_text(space['too_young'])} too young, {size_text(space['removable'])} removable"
    )
    lines = wrap(", ".join(parts), _WIDTH, "IMAGE CACHES  ")
    if not fleet["storages"]:
        return lines
    lines += wrap(cached, _WIDTH, "  ")
    if fleet["pruned"]:
        done = f"{count_text(summary['removed'], 'file')}, {size_text(summary['reclaimed_bytes'])}"
        text = f"WOULD BE REMOVED: {done}. Dry run: nothing was removed."
        lines += wrap(text if fleet["check_mode"] else f"REMOVED: {done}.", _WIDTH, "  ")
    else:
        lines += wrap(f"A PRUNE WOULD FREE: {size_text(summary['reclaimable_bytes'])}.", _WIDTH, "  ")
    return lines


def _is_done(fleet: Mapping[str, Any]) -> bool:
    """Return whether files were removed, or were to be: what the caches had is from before that."""
    return bool(fleet["pruned"]) and not fleet["check_mode"]


def _table_head(fleet: Mapping[str, Any]) -> str:
    free, freed = " FREE", "REMOVABLE"
    if fleet["pruned"]:
        free, freed = (" FREE BEFORE", "FREED") if _is_done(fleet) else (free, "WOULD FREE")
    return _COLUMNS.format(free=free, cached="CACHED", freed=freed, name="HOST")


@dataclass(frozen=True)
class _Row:
    """A line of the table.

    :param free: free and total bytes of the file system; None where they are unknown.
    :param cached: bytes of the cache; None for a host that did not answer.
    :param freed: bytes that a prune would free, or has freed.
    :param note: what is special about it, may be empty.
    """

    name: str
    free: tuple[int, int] | None
    cached: int | None
    freed: int
    note: str

    def order(self) -> tuple[bool, int, int, str]:
        """Sort the fullest first, among them those where most can be freed, and last what has no numbers."""
        return (self.cached is None, 100 if self.free is None else _percent(*self.free), -self.freed, self.name)

    def lines(self, may_wrap: bool) -> list[str]:
        """Return it in columns. The name is the last one because it may be long: it is cut if it must not wrap."""
        free = ""
        if self.free:
            free = f"{_percent(*self.free):>3} % {size_text(self.free[0]):>10}"
        cached = "" if self.cached is None else size_text(self.cached)
        freed = "" if self.cached is None else size_text(self.freed)
        note = f" ({self.note})" if self.note else ""
        numbers = _COLUMNS.format(free=free, cached=cached, freed=freed, name="")
        name = self.name if may_wrap else cut(self.name, _NAME_WIDTH - len(note))
        return wrap(name + note, _WIDTH, numbers)


def _percent(free: int, total: int) -> int:
    return 100 * free // max(1, total)


def _rows_of_storages(fleet: Mapping[str, Any]) -> Iterator[_Row]:
    for storage in fleet["storages"]:
        others = len(storage["hosts"]) - 1
        notes = [f"+{others}"] if others > 0 else []
        notes += ["refused"] if storage["state"] == "refused" else []
        notes += ["no cache"] if storage["id"] is None else []
        yield _row(str(storage["pruner"]), storage, fleet, ", ".join(notes))


def _rows_of_hosts(fleet: Mapping[str, Any]) -> Iterator[_Row]:
    storages = {(name, storage["cache_path"]): storage for storage in fleet["storages"] for name in storage["hosts"]}
    for host in fleet["hosts"]:
        storage = storages.get((host["name"], host["cache_path"]))
        note = "" if host["state"] in ("audited", "pruned") else str(host["state"])
        if storage is None:
            yield _Row(host["name"], None, None, 0, note)
        else:
            yield _row(host["name"], storage, fleet, note)


def _row(name: str, storage: Mapping[str, Any], fleet: Mapping[str, Any], note: str) -> _Row:
    free, total = storage["free_bytes"], storage["total_bytes"]
    return _Row(
        name=name,
        free=None if free is None or total is None else (free, total),
        cached=storage["summary"]["total"]["allocated_bytes"],
        freed=storage["reclaimed_bytes"] if fleet["pruned"] else storage["summary"]["reclaimable_bytes"],
        note=note,
    )


_ALL_IS_WELL = (
    "Nothing needs a person: no file is missing or known to be corrupt, nothing is refused, every host answered."
)


def _alarms(fleet: Mapping[str, Any], room: int) -> list[str]:
    """Show what needs a person, the worst first, in as many lines as there is room for.

    Each kind of alarm has one line at least. The worst ones get their advice and one item first, and what room is left
    is divided among them.
    """
    blocks = [_Block.of(alarm, fleet) for alarm in fleet_alarms(fleet)]
    if not blocks:
        return ["", *wrap(_ALL_IS_WELL, _WIDTH)]
    room -= 2
    used = len(blocks)
    shown = [0] * len(blocks)
    for index, block in enumerate(blocks):
        if used - 1 + block.height(1) > room:
            break  # no alarm takes the room of a worse one
        used += block.height(1) - 1
        shown[index] = 1
    for number in range(2, _MOST_ITEMS + 1):
        for index, block in enumerate(blocks):
            growth = block.height(number) - block.height(number - 1)
            if shown[index] == number - 1 and number <= len(block.items) and used + growth <= room:
                shown[index] = number
                used += growth
    lines = ["", "!! NEEDS A PERSON"]
    for block, number in zip(blocks, shown, strict=True):
        lines += block.lines(number)
    return lines


def _warnings(fleet: Mapping[str, Any], room: int) -> list[str]:
    """Show what else hosts warned of, that of most hosts first, in as many lines as there is room for, or in two."""
    groups = other_warnings(fleet)
    if not groups:
        return []
    counts = [number for _item, number in groups]
    hosts = _hosts_of(item for item, _number in groups)
    title = _with_names(f"OTHER WARNINGS: {sum(counts)}, on ", hosts)
    items = [_beginning(item_lines(item.hosts, item.what, "")) for item, _number in groups[: _MOST_WARNINGS + 1]]
    # Beside the items, it has a blank line, the title, and the number of those that are left out.
    if room < 3 + len(items[0]):
        return ["", title]
    return Section(title, items, counts).lines(min(room, 3 + _MOST_WARNINGS * _WARNING_LINES))


def _beginning(lines: Sequence[str]) -> Sequence[str]:
    if len(lines) <= _WARNING_LINES:
        return lines
    return [*lines[: _WARNING_LINES - 1], cut(f"{lines[_WARNING_LINES - 1]} …", _WIDTH)]


@dataclass(frozen=True)
class _Block:
    """An alarm as lines.

    :param brief: it in one line.
    :param advice: what is so, and what to do.
    :param items: the lines of each thing that is wrong, those on most hosts first.
    :param hosts: where each of those is.
    :param merged: for how many things each of those stands.
    :param count: how many things are wrong in all.
    :param others_on: where those are that no item stands for.
    """

    brief: str
    advice: Sequence[str]
    items: Sequence[Sequence[str]]
    hosts: Sequence[Sequence[str]]
    merged: Sequence[int]
    count: int
    others_on: Sequence[str]

    @classmethod
    def of(cls, alarm: Alarm, fleet: Mapping[str, Any]) -> _Block:
        label = f"!! {alarm.kind.value.upper():<11}"
        groups = grouped(alarm.items, are_sentences=alarm.kind is AlarmKind.REFUSED)
        hosts = _hosts_of(alarm.items)
        others = f" and {len(hosts) - 1} more" if len(hosts) > 1 else ""
        where = f", on {cut(hosts[0], _NAME_WIDTH)}{others}" if hosts else ""
        caches = {storage["cache_path"] for storage in fleet["storages"]}
        return cls(
            brief=cut(f"{label}{alarm.count}{where}", _WIDTH),
            advice=wrap(alarm.advice, _WIDTH, label, _LABEL),
            items=[_item_lines(alarm.kind, item, caches) for item, _number in groups],
            hosts=[item.hosts for item, _number in groups],
            merged=[number for _item, number in groups],
            count=alarm.count,
            others_on=alarm.others_on,
        )

    def more(self, number: int) -> int:
        """Return how many things are not shown if this many items are."""
        return self.count - sum(self.merged[:number])

    def height(self, number: int) -> int:
        """Return how many lines it takes with this many items."""
        return len(self.lines(number))

    def lines(self, number: int) -> list[str]:
        """Return it with this many items, or in one line with none."""
        if number == 0:
            return [self.brief]
        lines = [*self.advice, *(line for item in self.items[:number] for line in item)]
        if not self.more(number):
            return lines
        unshown = [*self.hosts[number:], self.others_on]
        hosts = tuple(dict.fromkeys(host for hosts in unshown for host in hosts if host))
        rest = f"{_LABEL}and {self.more(number)} more"
        return [*lines, _with_names(f"{rest}, on ", hosts) if hosts else rest]


def _with_names(text: str, names: Sequence[str]) -> str:
    """Return a line of a text and as many names as have room, so that how many more there are is not cut off."""
    lines = [text + some_names(names[:number], len(names)) for number in (3, 2)]
    return next(
        (line for line in lines if columns(printable(line)) <= _WIDTH),
        cut(text + some_names(names[:1], len(names)), _WIDTH),
    )


def _hosts_of(items: Iterable[Item]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(host for item in items for host in item.hosts if host))


def _item_lines(kind: AlarmKind, item: Item, caches: set[str]) -> list[str]:
    folder, _slash, name = item.what.rpartition("/")
    text = name if folder in caches else item.what
    if kind is AlarmKind.UNANSWERED:
        text = item.error or item.what
    elif item.more:
        text = f"{text}: {item.more}"
    hosts = [host for host in item.hosts if host]
    if len(hosts) > 3:
        text = f"{len(hosts)} hosts ({some_names(hosts)}): {text}"
    elif hosts:
        text = f"{some_names(hosts)}: {text}"
    lines = wrap(text, _WIDTH, f"{_LABEL}- ", f"{_LABEL}  ")
    return lines if len(lines) <= _ITEM_LINES else [*lines[: _ITEM_LINES - 1], f"{_LABEL}  …"]


def _advice(fleet: Mapping[str, Any], has_more: bool) -> list[str]:
    """Say what to type next."""
    lines = [""]
    summary = fleet["summary"]
    if any(missing.get("recoverable_from") for storage in fleet["storages"] for missing in storage["missing"]):
        lines.append("To restore files: ansible-playbook stackops.nova.restore, first with --check")
    if not fleet["pruned"] and summary["reclaimable_bytes"]:
        lines.append("To free space: ansible-playbook stackops.nova.prune, first with --check")
    elif fleet["pruned"] and fleet["check_mode"] and summary["removed"] and not fleet["problems"]:
        lines.append("To remove these files: the same command without --check")
    # With the command of a prune, they would prune again.
    command = "ansible-playbook stackops.nova.audit" if _is_done(fleet) else "the same command"
    arguments = {"--limit HOST": "one host in full"}
    if has_more:
        arguments["-e image_cache_report_view=hosts"] = "every host, a line each"
    if len(fleet["storages"]) > 1:
        arguments["-e image_cache_report_view=storages"] = "every storage in full"
    lines.append(f"To see more: {command} with")
    return [*lines, *(f"  {argument:<38}{shown}" for argument, shown in arguments.items())]
