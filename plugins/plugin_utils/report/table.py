# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A storage as a page of plain text.

Names come from guests and tenants. Each line goes through :func:`printable`, so that none of them reaches a terminal
as a control character.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.text import printable

from .alarms import Alarm, AlarmKind, Item, fleet_alarms, grouped, other_warnings, storage_alarms
from .text import columns, some_names, wrap
from .units import age_text, count_text, duration_text, size_text

__all__ = ["fleet_pages", "storage_page"]

_WIDTH = 78
_ROWS = 20
_LABEL = 26

_KINDS = {
    "original": "image",
    "resized": "resized copy of",
    "small": "small copy of",
    "swap": "swap template",
    "ephemeral": "ephemeral disk template",
    "kernel": "kernel or ramdisk",
    "partial": "interrupted download of",
}
_TEMPLATES = ("swap", "ephemeral")
_REFUSALS = ("unknown_use", "unknown_deletions", "limit_exceeded")
_OF_THE_FLEET = (AlarmKind.PROBLEM, AlarmKind.UNANSWERED)

_KEPT = {
    "unknown_use": "removal is refused",
    "unknown_deletions": "removal is refused",
    "limit_exceeded": "a limit was exceeded",
    "unremovable": "it cannot be removed",
    "overlay": "a file that is kept is built on it",
    "removal_disabled": "remove_unused_base_images is off",
    "locked": "nova or another prune holds its lock",
    "space_target_met": "there is enough space without its removal",
    "in_use": "a disk uses it since the audit",
    "held": "QEMU has opened it since the audit",
    "open": "a process has it open",
    "touched": "used since the audit",
    "replaced": "another file has taken its place",
    "gone": "another process has removed it",
}

File = Mapping[str, Any]


def fleet_pages(
    fleet: Mapping[str, Any],
    storages: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]],
    every_file: bool = False,
) -> str:
    """Return what no storage's page has, the problems of a fleet and its hosts without an answer, and then each page.

    Other warnings of the hosts come last.

    :param fleet: the fleet as ``report.json`` has it.
    :param storages: for each storage, what the modules returned as ``image_cache`` on its pruner, and its entry of the
        fleet's ``storages``.
    :param every_file: whether each file has a line, and not only the largest ones of each state.
    :return: lines of at most 78 columns, without a line break after the last one. Empty if there is nothing to show.
    """
    pages = [_fleet_alarm(alarm) for alarm in fleet_alarms(fleet) if alarm.kind in _OF_THE_FLEET]
    pages += [storage_page(image_cache, storage, every_file) for image_cache, storage in storages]
    warnings = other_warnings(fleet)
    if warnings:
        lines = [line for item, _number in warnings for line in wrap(_where_and_what(item), _WIDTH, "- ", "  ")]
        pages.append(_joined(["OTHER WARNINGS", *lines]))
    return "\n\n".join(pages)


def _fleet_alarm(alarm: Alarm) -> str:
    lines = [f"!! {alarm.title.upper()}"]
    for item, _number in grouped(alarm.items, are_sentences=alarm.kind is AlarmKind.REFUSED):
        lines += wrap(_where_and_what(item), _WIDTH, "!! - ", "!!   ")
    return _joined(lines)


def _where_and_what(item: Item) -> str:
    return f"{', '.join(item.hosts)}: {item.error or item.what}" if item.hosts else item.what


def storage_page(
    image_cache: Mapping[str, Any], storage: Mapping[str, Any] | None = None, every_file: bool = False
) -> str:
    """Return what is in an image cache, what is removed or could be, and why.

    :param image_cache: what the modules return under this name.
    :param storage: the storage's entry of the fleet, with ``hosts``, ``refused`` and ``missing``. Without it, the host
        is taken to use the storage alone.
    :param every_file: whether each file has a line, and not only the largest ones of each state.
    :return: lines of at most 78 columns, without a line break after the last one.
    """
    page = _Page(
        image_cache,
        {file["name"]: file for file in image_cache.get("files", ())},
        [image_cache["host"]] if storage is None else storage["hosts"],
        [sentence for name in _REFUSALS for sentence in image_cache.get(name, ())]
        if storage is None
        else storage["refused"],
        image_cache["missing"] if storage is None else storage["missing"],
        None if every_file else _ROWS,
    )
    lines = wrap(f"{image_cache['host']}:{image_cache['cache_path']}", _WIDTH, "IMAGE CACHE  ")
    if len(page.hosts) > 1:
        lines += wrap(", ".join(page.hosts), _WIDTH, "SHARED BY    ")
    lines += _alarms(page)
    if image_cache["exists"]:
        lines += [
            *_numbers(page),
            *_sections(page),
            *_set_aside(page),
            *_unlisted(page),
            "",
            *wrap(_space(page), _WIDTH),
        ]
    else:
        lines += ["", *wrap(_NO_CACHE, _WIDTH)]
    return _joined(lines)


_NO_CACHE = (
    "There is no such directory, so there is nothing to do. nova makes it with the first disk that it builds on an "
    "image. Where images_type is rbd or lvm there may never be one; otherwise, if guests run here, the path is another "
    "one, or what lies there is not mounted."
)


def _joined(lines: Iterable[str]) -> str:
    return "\n".join(printable(line).rstrip() for line in lines)


@dataclass(frozen=True)
class _Page:
    """What the parts of the page are made from.

    :param files: the entries of ``details: files`` by name: of all files, those that a prune is about, or none.
    :param hosts: the hosts that share the storage.
    :param refused: why nothing may be removed, a sentence each.
    :param missing: the missing files, and where they can be restored from.
    :param rows: how many files of each state are listed; None for all.
    """

    image_cache: Mapping[str, Any]
    files: Mapping[str, File]
    hosts: Sequence[str]
    refused: Sequence[str]
    missing: Sequence[Mapping[str, Any]]
    rows: int | None

    @property
    def is_audit(self) -> bool:
        return "removed" not in self.image_cache

    @property
    def is_dry_run(self) -> bool:
        return bool(self.image_cache.get("check_mode", False))

    @property
    def fate(self) -> str:
        """What becomes of the files that are removable."""
        if self.is_audit:
            return "removable"
        return "would be removed" if self.is_dry_run else "removed"

    def names(self, state: str) -> list[str]:
        return list(self.image_cache.get(state, ()))

    @property
    def removed(self) -> list[str]:
        return self.names("removable" if self.is_audit else "removed")

    @property
    def kept(self) -> list[str]:
        """What is removable and not removed, as far as it is known by name."""
        if self.is_audit:
            return []
        kept = [each["name"] for each in (*self.image_cache["kept"], *self.image_cache["failed"])]
        return sorted({*kept, *self.names("removable")}.difference(self.removed))


def _alarms(page: _Page) -> list[str]:
    omitted = page.image_cache.get("omitted", {})
    found = {key: page.image_cache.get(key, ()) for key in ("corrupt", "failed", "orphans")}
    alarms = storage_alarms(
        [{**found, "missing": page.missing, "refused": page.refused, "hosts": [], "pruner": "", "omitted": omitted}]
    )
    lines = ["", "!! NEEDS A PERSON"] if alarms else []
    for alarm in alarms:
        lines += wrap(alarm.advice, _WIDTH, f"!! {alarm.kind.value.upper():<9}", f"!! {'':<9}")
        for text in _items(alarm, page.image_cache["cache_path"]):
            lines += wrap(text, _WIDTH, f"!! {'':<9}- ", f"!! {'':<11}")
    return lines


def _items(alarm: Alarm, cache_path: str) -> list[str]:
    """Name what an alarm is about, and count what is not shown."""
    more = alarm.count - len(alarm.items[:_ROWS])
    return [_item(item, cache_path) for item in alarm.items[:_ROWS]] + ([f"and {more} more"] if more else [])


def _item(item: Item, cache_path: str) -> str:
    folder, _slash, name = item.what.rpartition("/")
    # A missing file comes with its path, of which the page's heading has the beginning.
    what = name if folder == cache_path else item.what
    return f"{what}: {item.more}" if item.more else what


def _numbers(page: _Page) -> list[str]:
    summary = page.image_cache["summary"]
    space = summary["bytes"]
    rows: list[tuple[str, int, int | None]] = [
        ("in use", summary["active"], space["active"]),
        ("unused, too young", summary["too_young"], space["too_young"]),
    ]
    if page.is_audit:
        rows.append(("unused, removable", summary["removable"], space["removable"]))
    else:
        reclaimed = page.image_cache["reclaimed_bytes"]
        rows.append((f"unused, {page.fate}", len(page.removed), reclaimed))
        kept = summary["removable"] - len(page.removed)
        if kept > 0:
            rows.append(("unused, kept", kept, space["removable"] - reclaimed))
    rows.append(("all", summary["total"]["files"], summary["total"]["allocated_bytes"]))
    rows.append(("other, never removed", summary["other"], None))
    orphans = summary["orphans"]
    if orphans["directories"]:
        rows.append(("orphans (directories)", orphans["directories"], orphans["allocated_bytes"]))
    lines = ["", f"{'FOUND':<{_LABEL}}{'FILES':>8}{'ON DISK':>12}"]
    for label, count, size in rows:
        lines.append(f"{f'  {label}':<{_LABEL}}{count:>8}{'' if size is None else size_text(size):>12}")
    lines += wrap(_file_system(page.image_cache), _WIDTH, "  ")
    if page.image_cache.get("checksums"):
        lines += wrap(_verified(page.image_cache["checksums"]), _WIDTH, "  ")
    return lines


def _verified(checksums: Mapping[str, Any]) -> str:
    oldest = checksums["oldest_verification_seconds"]
    age = "some were never verified" if oldest is None else f"the oldest verification was {age_text(oldest)}"
    return (
        f"{checksums['verified_files']} files, {size_text(checksums['verified_bytes'])}, were verified now, "
        f"{checksums['trusted_files']} lately, {checksums['deferred_files']} are deferred; {age}"
    )


def _file_system(image_cache: Mapping[str, Any]) -> str:
    # The modules' own name for the storage.
    storage = image_cache["storage"]
    shared = ", shared" if storage["shared"] else ""
    text = f"the file system there reports no size ({storage['filesystem']}{shared})"
    free, total = storage["free_bytes"], storage["total_bytes"]
    if free is not None and total is not None:
        text = f"{size_text(free)} of {size_text(total)} are free there ({storage['filesystem']}{shared})"
    if storage["users"] in ([], [image_cache["host"]]):
        return text
    count = len(storage["users"]) + image_cache.get("omitted", {}).get("users", 0)
    return f"{text}; nova saw {some_names(storage['users'], count)} use it"


def _sections(page: _Page) -> list[str]:
    kept = {each["name"]: each["reason"] for each in page.image_cache.get("kept", ())}
    reasons = {
        name: _KEPT.get(kept[name], str(kept[name])) if name in kept else "could not be removed" for name in page.kept
    }
    title = page.fate.upper()
    lines = _section(title, page.removed, page, {})
    if not page.is_audit and not page.removed:
        lines = ["", f"{title}: nothing"]
    lines += _section("KEPT", page.kept, page, reasons)
    lines += _section("TOO YOUNG", page.names("too_young"), page, {})
    lines += _section("IN USE", page.names("active"), page, {})
    return lines


def _set_aside(page: _Page) -> list[str]:
    """List the former base files that a restore has set aside, which no prune removes."""
    files = page.image_cache.get("set_aside", ())
    if not files:
        return []
    count = len(files) + page.image_cache.get("omitted", {}).get("set_aside", 0)
    lines = ["", f"SET ASIDE BY A RESTORE: {count_text(count, 'file')}. Remove one with rm when nobody needs it."]
    for file in files[: page.rows]:
        lines += wrap(str(file["name"]), _WIDTH, f"{size_text(file['allocated_bytes']):>11}  ")
    more = count - len(files[: page.rows])
    return [*lines, f"  and {more} more"] if more else lines


def _unlisted(page: _Page) -> list[str]:
    """Say how to see the files that a summary only counts."""
    summary = page.image_cache["summary"]
    counted = summary["active"] + summary["too_young"] + (summary["removable"] if page.is_audit else 0)
    if "active" in page.image_cache or not counted:
        return []
    which = "each file" if page.is_audit else "the other files"
    return ["", *wrap(f"To list {which}: details: files, or with the role -e image_cache_details=files", _WIDTH)]


def _section(title: str, names: Sequence[str], page: _Page, reasons: Mapping[str, str]) -> list[str]:
    """List files, the largest first. Only the names are shown where the page lacks what is known of any of them.

    :param reasons: why each is here, where its entry does not say it.
    """
    if not names:
        return []
    files = page.files if page.files.keys() >= set(names) else {}
    total = f", {_size_of(names, files)}" if files else ""
    lines = ["", f"{title}: {len(names)} {'file' if len(names) == 1 else 'files'}{total}"]
    if files:
        lines.append(f"{'ON DISK':>11}  {'LAST USED':>9}  FILE")
    in_order = sorted(names, key=lambda name: (-files[name]["allocated_bytes"] if files else 0, name))
    for name in in_order[: page.rows]:
        if files:
            lines += _row(files[name], reasons.get(name))
        else:
            lines += wrap(f"{name}: {reasons[name]}" if name in reasons else name, _WIDTH, "  ", "    ")
    rest = in_order[page.rows :] if page.rows is not None else []
    if rest:
        lines.append(f"  and {len(rest)} more" + (f", {_size_of(rest, files)}" if files else ""))
    return lines


def _row(file: File, reason: str | None) -> list[str]:
    prefix = f"{size_text(file['allocated_bytes']):>11}  {age_text(file['age_seconds']):>9}  "
    text = "; ".join([*([reason] if reason else _reasons(file)), _what(file)])
    line = printable(f"{prefix}{file['name']}: {text}")
    if columns(line) <= _WIDTH:
        return [line]
    return [*wrap(file["name"], _WIDTH, prefix), *wrap(text, _WIDTH, " " * len(prefix))]


def _what(file: File) -> str:
    kind = _KINDS.get(file["kind"], str(file["kind"]))
    if file["kind"] in _TEMPLATES:
        return kind
    if file["image_id"]:
        text = f"{kind} {file['image_id']}" + (f" ({file['image_name']})" if file["image_name"] else "")
    else:
        text = f"{kind} an unknown image" if kind.endswith(" of") else f"unknown {kind}"
    if file["in_glance"] is False:
        return f"{text}, not in Glance"
    may_come_back = file["in_glance"] and file["state"] == "removable" and file["kind"] != "partial"
    return f"{text}, in Glance" if may_come_back else text


def _reasons(file: File) -> list[str]:
    users = some_names(file["used_by"])
    orphans = f"the {'orphan' if len(file['used_by']) == 1 else 'orphans'} {users}"
    reasons = set(file["reasons"])
    if file["state"] != "active":
        is_removable = file["state"] == "removable"
        age = "unused" if is_removable else f"removable in {duration_text(file['removable_in_seconds'])}"
        # With orphans: ignore, what they use counts as unused.
        return [age, f"used only by {orphans}"] if users else [age]
    words = []
    ways = reasons & {"instance", "backing", "orphan"}
    if ways == {"instance"}:
        words.append(f"in the flavor of {users}" if file["kind"] in _TEMPLATES else f"its image is used by {users}")
    elif ways == {"backing"}:
        words.append(f"backs disks of {users}")
    elif ways == {"orphan"}:
        words.append(f"backs disks of {orphans}")
    elif ways:
        words.append(f"used by {users}" + (", an orphan among them" if "orphan" in ways else ""))
    if "overlay" in reasons:
        words.append("a file that is kept is built on it")
    if "qemu" in reasons:
        words.append("QEMU has it open")
    if "open" in reasons:
        words.append("a process has it open")
    if "keep_images" in reasons:
        words.append("keep_images names its image")
    if "keep_files" in reasons:
        words.append("keep_files names it")
    if "not_deleted" in reasons:
        words.append("remove_only_deleted_images keeps it")
    if "precached" in reasons:
        words.append("it was pre-cached")
    return words


def _space(page: _Page) -> str:
    summary = page.image_cache["summary"]
    if page.is_audit:
        text = f"A PRUNE WOULD FREE: {size_text(summary['reclaimable_bytes'])}"
    else:
        text = "WOULD BE FREED" if page.is_dry_run else "FREED"
        text += f": {size_text(page.image_cache['reclaimed_bytes'])}"
    text += f" of {size_text(summary['total']['allocated_bytes'])}."
    if page.refused:
        return f"{text} Removal is refused: the reasons are at the top."
    return f"{text} Nothing was removed: this was a dry run." if page.is_dry_run else text


def _size_of(names: Iterable[str], files: Mapping[str, File]) -> str:
    return size_text(sum(files[name]["allocated_bytes"] for name in names))
