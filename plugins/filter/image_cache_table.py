# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: image_cache_table
short_description: Say in plain text what is in an image cache, what goes, and why
version_added: 0.1.0
description:
  - Makes a table for people from what the image cache modules return.
  - What needs a person comes first, then the cache in numbers, then what goes and what stays, with the reasons, and
    last how much disk space comes back.
  - The more C(details) the modules were asked for, the more it says; with C(files), all. What a prune removes, or in
    check mode would, is listed with its size and the reason in any case.
  - The largest files of a section come first, and of more than 20 the rest is counted. No line is longer than 100
    columns, but for one with a long path.
positional: store
author:
  - stackops.nova contributors (@stackops)
options:
  _input:
    description: What either of the image cache modules returned as C(image_cache).
    type: dict
    required: true
  store:
    description:
      - What P(stackops.nova.image_cache_fleet#filter) says of the store, if the table is to name the hosts that share
        it, and to refuse it for what only the whole play knows.
    type: dict
seealso:
  - module: stackops.nova.image_cache_facts
  - module: stackops.nova.image_cache_prune
"""

EXAMPLES = r"""
- name: Audit the image cache
  stackops.nova.image_cache_facts:
    details: files

- name: Show what is in it
  ansible.builtin.debug:
    msg: "{{ (ansible_facts['image_cache'] | stackops.nova.image_cache_table).splitlines() }}"

- name: Remove unused base images
  stackops.nova.image_cache_prune:
    details: files
  register: pruned

- name: Show what went, or with --check what would go
  ansible.builtin.debug:
    msg: "{{ (pruned.image_cache | stackops.nova.image_cache_table).splitlines() }}"
"""

RETURN = r"""
_value:
  description: The table, as lines without a line break after the last one.
  type: str
"""

import textwrap
from typing import Any, Callable, Iterable, Mapping, NamedTuple, Sequence

from ansible.errors import AnsibleFilterError

_WIDTH = 100
_ROWS = 20
_NAMES = 3

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

_KEPT = {
    "unknown_use": "removal is refused",
    "limit_exceeded": "a limit was exceeded",
    "unremovable": "it cannot be removed",
    "removal_disabled": "remove_unused_base_images is off",
    "overlay": "a file that is kept is built on it",
    "locked": "nova or another prune holds its lock",
    "space_target_met": "enough space without it",
    "in_use": "a disk needs it meanwhile",
    "held": "QEMU has opened it meanwhile",
    "open": "a process has it open",
    "touched": "used meanwhile",
    "replaced": "another file has taken its place",
    "gone": "somebody else has removed it",
}


class FilterModule:
    """The filter, for Ansible."""

    def filters(self) -> dict[str, Callable[..., str]]:
        return {"image_cache_table": image_cache_table}


def image_cache_table(image_cache: Mapping[str, Any], store: Mapping[str, Any] | None = None) -> str:
    """Say in plain text what is in an image cache, what goes, and why."""
    if not isinstance(image_cache, Mapping) or "summary" not in image_cache:
        raise AnsibleFilterError("image_cache_table takes the image_cache that the image cache modules return.")
    dry_run = image_cache.get("check_mode", False)
    report = _Report(
        image_cache,
        {file["name"]: file for file in image_cache.get("files", ())},
        "unused, old enough" if "removed" not in image_cache else "would go" if dry_run else "went",
        [*image_cache["unknown_use"], *image_cache.get("limit_exceeded", ())] if store is None else store["refused"],
    )
    lines = [f"IMAGE CACHE  {image_cache['host']}:{image_cache['cache_path']}"]
    if store is not None and len(store["hosts"]) > 1:
        lines += _wrap(", ".join(store["hosts"]), "SHARED BY    ")
    lines += _alarms(report)
    if image_cache["exists"]:
        lines += _numbers(report)
        lines += _sections(report)
        lines += _unlisted(report)
        lines += ["", _space_back(report, dry_run)]
    else:
        lines += ["", "There is no such directory, so there is nothing to do."]
    return "\n".join(line.rstrip() for line in lines)


class _Report(NamedTuple):
    """What the parts of the table are made from.

    :param files: the entries of ``details: files`` by name: of all files, those that a prune is about, or none.
    :param fate: what becomes of the files that are removed.
    :param refused: why nothing may be removed, a sentence each.
    """

    image_cache: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]
    fate: str
    refused: Sequence[str]

    @property
    def is_audit(self) -> bool:
        return "removed" not in self.image_cache

    def names(self, state: str) -> list[str]:
        return list(self.image_cache.get(state, ()))

    @property
    def removed(self) -> list[str]:
        return self.names("removable" if self.is_audit else "removed")

    @property
    def staying(self) -> list[str]:
        """What is removable and stays, as far as it is known by name."""
        if self.is_audit:
            return []
        stayed = [stayed["name"] for stayed in (*self.image_cache["kept"], *self.image_cache["failed"])]
        return sorted({*stayed, *self.names("removable")}.difference(self.removed))


def _alarms(report: _Report) -> list[str]:
    image_cache = report.image_cache
    omitted = image_cache.get("omitted", {})
    missing, orphans = image_cache["missing"], image_cache["orphans"]
    alarms = []
    if missing:
        alarms.append(
            "MISSING  Files that do not exist and back disks. Restore them before anything else, from another host's "
            "cache or from Glance: without them, the instances behind them cannot start."
        )
        texts = [f"{_path(lost['backing_file'], image_cache)}: {_some(lost['instances'])}" for lost in missing]
        alarms += _cut(texts, omitted.get("missing", 0))
    corrupt = image_cache.get("corrupt", [])
    if corrupt:
        alarms.append(
            "CORRUPT  Base files that are not what they were. Compare them with another host's, and restore them "
            "before what uses them starts again."
        )
        texts = [f"{file['name']}: {_some(file['used_by']) or 'no known instance'}" for file in corrupt]
        alarms += _cut(texts, omitted.get("corrupt", 0))
    if report.refused:
        alarms.append("REFUSED  Nothing may be removed:")
        alarms += _cut(report.refused, omitted.get("unknown_use", 0) + omitted.get("limit_exceeded", 0))
    elif image_cache.get("failed"):
        alarms.append("FAILED   Not all that should have gone could be removed:")
        alarms += _cut([f"{failure['name']}: {failure['error']}" for failure in image_cache["failed"]], 0)
    if orphans:
        count = len(orphans) + omitted.get("orphans", 0)
        alarms.append(
            f"ORPHANS  {_some(orphans, count)} {'has' if count == 1 else 'have'} disks and "
            f"{'belongs' if count == 1 else 'belong'} to no known instance."
        )
    if not alarms:
        return []
    lines = ["", "!! NEEDS A PERSON"]
    for alarm in alarms:
        lines += _wrap(alarm, "!! ", " " * (11 if alarm.startswith(" ") else 9))
    return lines


def _path(path: str, image_cache: Mapping[str, Any]) -> str:
    """Shorten what is in the cache to its name."""
    folder, _slash, name = path.rpartition("/")
    return name if folder == image_cache["cache_path"] else path


def _numbers(report: _Report) -> list[str]:
    summary = report.image_cache["summary"]
    space = summary["bytes"]
    rows: list[tuple[str, int, int | None]] = [
        ("in use", summary["active"], space["active"]),
        ("unused, too young", summary["too_young"], space["too_young"]),
    ]
    if report.is_audit:
        rows.append((report.fate, summary["removable"], space["removable"]))
    else:
        reclaimed = report.image_cache["reclaimed_bytes"]
        rows.append((f"unused, {report.fate}", len(report.removed), reclaimed))
        staying = summary["removable"] - len(report.removed)
        if staying > 0:
            rows.append(("unused, stays", staying, space["removable"] - reclaimed))
    rows.append(("all", summary["total"]["files"], summary["total"]["allocated_bytes"]))
    rows.append(("other, never touched", summary["other"], None))
    lines = ["", f"{'FOUND':<24}{'FILES':>8}{'ON DISK':>12}"]
    lines += [f"  {label:<22}{count:>8}{'' if size is None else _size(size):>12}" for label, count, size in rows]
    lines += _wrap(_storage(report.image_cache), "  ")
    if report.image_cache.get("checksums"):
        lines += _wrap(_verified(report.image_cache["checksums"]), "  ")
    return lines


def _verified(checksums: Mapping[str, Any]) -> str:
    oldest = checksums["oldest_verification_seconds"]
    age = "some were never verified" if oldest is None else f"the oldest verification was {_age(oldest)}"
    return (
        f"{checksums['verified_files']} files, {_size(checksums['verified_bytes'])}, were verified now, "
        f"{checksums['trusted_files']} lately, {checksums['left_files']} are left; {age}"
    )


def _storage(image_cache: Mapping[str, Any]) -> str:
    store = image_cache["store"]
    shared = ", shared" if store["shared"] else ""
    free, total = _size(store["free_bytes"]), _size(store["total_bytes"])
    text = f"{free} of {total} are free there ({store['filesystem']}{shared})"
    if store["users"] in ([], [image_cache["host"]]):
        return text
    count = len(store["users"]) + image_cache.get("omitted", {}).get("users", 0)
    return f"{text}; nova saw {_some(store['users'], count)} use it"


def _sections(report: _Report) -> list[str]:
    kept = {kept["name"]: kept["reason"] for kept in report.image_cache.get("kept", ())}
    reasons = {
        name: _KEPT.get(kept[name], str(kept[name])) if name in kept else "could not be removed"
        for name in report.staying
    }
    fate = report.fate.upper()
    title = fate if report.is_audit else f"UNUSED, {fate}"
    lines = _section(title, report.removed, report.files, {})
    if not report.is_audit and not report.removed:
        lines = ["", f"{fate}: nothing"]
    lines += _section("UNUSED, BUT STAYS", report.staying, report.files, reasons)
    lines += _section("STAYS, TOO YOUNG", report.names("too_young"), report.files, {})
    lines += _section("STAYS, IN USE", report.names("active"), report.files, {})
    return lines


def _unlisted(report: _Report) -> list[str]:
    """Say how to see the files that a summary only counts."""
    summary = report.image_cache["summary"]
    counted = summary["active"] + summary["too_young"] + (summary["removable"] if report.is_audit else 0)
    if "active" in report.image_cache or not counted:
        return []
    which = "each file" if report.is_audit else "each file that stays"
    return ["", f"To list {which}: details: files, or with the role -e image_cache_details=files"]


def _section(
    title: str, names: Sequence[str], files: Mapping[str, Mapping[str, Any]], reasons: Mapping[str, str]
) -> list[str]:
    """List files, the largest first.

    :param files: what is known of files; only the names are shown where it lacks any of them.
    :param reasons: why each is here, where its entry does not say it.
    """
    if not names:
        return []
    if not files.keys() >= set(names):
        files = {}
    total = f", {_space(names, files)}" if files else ""
    lines = ["", f"{title}: {len(names)} {'file' if len(names) == 1 else 'files'}{total}"]
    if files:
        lines.append(f"{'ON DISK':>11}  {'LAST USED':>9}  FILE")
    in_order = sorted(names, key=lambda name: (-files[name]["allocated_bytes"] if files else 0, name))
    for name in in_order[:_ROWS]:
        if files:
            lines += _row(files[name], reasons.get(name))
        else:
            lines += _wrap(f"{name}: {reasons[name]}" if name in reasons else name, "  ", "  ")
    rest = in_order[_ROWS:]
    if rest:
        lines.append(f"  and {len(rest)} more" + (f", {_space(rest, files)}" if files else ""))
    return lines


def _row(file: Mapping[str, Any], reason: str | None) -> list[str]:
    prefix = f"{_size(file['allocated_bytes']):>11}  {_age(file['age_seconds']):>9}  "
    text = "; ".join([*([reason] if reason else _reasons(file)), _what(file)])
    line = f"{prefix}{file['name']}: {text}"
    if len(line) <= _WIDTH:
        return [line]
    return _wrap(file["name"], prefix) + _wrap(text, " " * len(prefix))


def _what(file: Mapping[str, Any]) -> str:
    kind = _KINDS.get(file["kind"], str(file["kind"]))
    if file["kind"] in _TEMPLATES:
        return kind
    if file["image_id"]:
        text = f"{kind} {file['image_id']}"
    else:
        text = f"{kind} an unknown image" if kind.endswith(" of") else f"unknown {kind}"
    if file["in_glance"] is False:
        return f"{text}, not in Glance"
    may_come_back = file["in_glance"] and file["state"] == "removable" and file["kind"] != "partial"
    return f"{text}, in Glance" if may_come_back else text


def _reasons(file: Mapping[str, Any]) -> list[str]:
    users = _some(file["used_by"])
    orphans = f"the {'orphan' if len(file['used_by']) == 1 else 'orphans'} {users}"
    reasons = set(file["reasons"])
    if file["state"] != "active":
        age = "unused" if file["state"] == "removable" else f"removable in {_duration(file['removable_in_seconds'])}"
        # With orphans: ignore, what they need counts as unused.
        return [age, f"needed by none but {orphans}"] if users else [age]
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
    if "qemu" in reasons:
        words.append("QEMU has it open")
    if "open" in reasons:
        words.append("a process has it open")
    if "keep_images" in reasons:
        words.append("keep_images names its image")
    if "keep_files" in reasons:
        words.append("keep_files names it")
    if "overlay" in reasons:
        words.append("a file that is kept is built on it")
    return words


def _space_back(report: _Report, dry_run: bool) -> str:
    summary = report.image_cache["summary"]
    if report.is_audit:
        text = f"A PRUNE WOULD FREE: {_size(summary['reclaimable_bytes'])}"
    else:
        text = "DISK THAT WOULD COME BACK" if dry_run else "DISK BACK"
        text += f": {_size(report.image_cache['reclaimed_bytes'])}"
    text += f" of {_size(summary['total']['allocated_bytes'])}."
    if report.refused:
        return f"{text} Removal is refused: the reasons are at the top."
    return f"{text} Nothing was removed: this was a dry run." if dry_run else text


def _cut(texts: Sequence[str], omitted: int) -> list[str]:
    """Make a list of texts, of which a long one is counted at its end."""
    more = max(0, len(texts) - _ROWS) + omitted
    return [f"         - {text}" for text in texts[:_ROWS]] + ([f"         and {more} more"] if more else [])


def _some(names: Sequence[str], count: int | None = None) -> str:
    """Name the first few of what there are."""
    shown = list(names[:_NAMES])
    more = (len(names) if count is None else count) - len(shown)
    if more > 0:
        return f"{', '.join(shown)} and {more} more"
    return " and ".join([", ".join(shown[:-1]), *shown[-1:]] if len(shown) > 1 else shown)


def _wrap(text: str, prefix: str, indent: str = "") -> list[str]:
    """Break a text into lines that begin where the prefix ends, the further ones behind an indent."""
    further = (prefix if prefix.startswith("!") else " " * len(prefix)) + indent
    return textwrap.wrap(
        text, _WIDTH, initial_indent=prefix, subsequent_indent=further, break_on_hyphens=False, expand_tabs=False
    )


def _space(names: Iterable[str], files: Mapping[str, Mapping[str, Any]]) -> str:
    return _size(sum(files[name]["allocated_bytes"] for name in names))


def _size(size: int) -> str:
    value = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1000:
            return f"{value:.1f} {unit}" if value else "0 KiB"
    return f"{value / 1024:.1f} TiB"


def _age(seconds: float) -> str:
    return f"{_units(seconds)[0]} ago" if seconds >= 0 else "in future"


def _duration(seconds: float) -> str:
    return " ".join(_units(seconds))


def _units(seconds: float) -> list[str]:
    """Give a time in its largest unit and the one below."""
    left = int(seconds)
    units = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, length)
        units.append(f"{count}{unit}" if count else "")
    largest = next((index for index, text in enumerate(units) if text), None)
    return ["0s"] if largest is None else list(filter(None, units[largest : largest + 2]))
