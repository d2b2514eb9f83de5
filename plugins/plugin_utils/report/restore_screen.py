# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A restore on one screen: what comes back and from where, what is still lost and why, and what to type next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .alarms import Item
from .sections import LINES, WIDTH, Section, cut_lines, item_lines, merged_section, page
from .text import some_names, wrap
from .units import count_text, size_text

__all__ = ["restore_screen"]

_WARNING_LINES = 2

_PROOFS = {
    "process": "a guest has it open",
    "process_and_checksum": "a guest has it open, and its checksum is right",
    "checksum": "its checksum is right",
    "agreed": "its checksum is the one that other hosts agree on",
    "unproven": "the operator's word, and no other",
}

File = Mapping[str, Any]


def restore_screen(restore: Mapping[str, Any]) -> str:
    """Return a restore as a page of plain text.

    :param restore: what :func:`summarise_restore` returns.
    :return: at most 45 lines of at most 78 columns, without a line break after the last one.
    """
    return page(_head(restore), _sections(restore), _advice(restore))


def _head(restore: Mapping[str, Any]) -> list[str]:
    parts = [count_text(restore["hosts"], "host")]
    if restore["unanswered"]:
        parts.append(f"{len(restore['unanswered'])} without an answer")
    lines = wrap(", ".join(parts), WIDTH, "BASE FILES  ")
    if restore["unanswered"] and len(restore["unanswered"]) == restore["hosts"]:
        return [*lines, "  What can be restored is unknown."]
    if not restore["restored"] and not restore["lost"]:
        where = " on the hosts that answered" if restore["unanswered"] else ""
        return [*lines, f"  There is nothing to restore{where}."]
    count = count_text(len(restore["restored"]), "file")
    size = size_text(sum(file["allocated_bytes"] for file in restore["restored"]))
    text = f"WOULD BE RESTORED: {count}, {size}. Nothing was restored: this was a dry run."
    lines += wrap(text if restore["check_mode"] else f"RESTORED: {count}, {size}.", WIDTH, "  ")
    return lines


def _sections(restore: Mapping[str, Any]) -> list[Section]:
    is_dry = restore["check_mode"]
    return [
        Section(
            "WOULD BE RESTORED" if is_dry else "RESTORED",
            [item_lines([file["host"]], file["name"], _restored(file)) for file in restore["restored"][:LINES]],
            [1] * len(restore["restored"]),
        ),
        merged_section("!! WOULD STILL BE LOST" if is_dry else "!! STILL LOST", restore["lost"], _lost),
        merged_section(
            "!! HOSTS WITHOUT AN ANSWER: what they need is unknown. Run again.",
            restore["unanswered"],
            lambda host: Item((host["host"],), "", error=host["error"]),
        ),
        merged_section("WOULD BE SET ASIDE" if is_dry else "SET ASIDE", restore["set_aside"], _set_aside),
    ]


def _restored(file: File) -> str:
    if file["source"] == "process":
        source = f"QEMU of {some_names(file['guests'])} ({file['source_path']})"
    else:
        source = str(file["source_path"])
    text = f"{size_text(file['allocated_bytes'])} from {source}. "
    if file["contacted"]:
        text += f"Proof: {_PROOFS.get(file['proof'], file['proof'])}."
    else:
        what = "the checksum that other hosts agree on" if file["source"] == "peer" else "the image's checksum"
        text += f"It was not contacted: what it sends is compared with {what}."
    if file["state"] != "missing":
        text += f" It was {file['state']}."
    if file["needs_restart"]:
        text += f" {some_names(file['needs_restart'])} still run on the file that is set aside."
    return text


def _lost(file: File) -> Item:
    state = "" if file["state"] == "missing" else f" ({file['state']})"
    return Item((file["host"],), f"{file['name']}{state}", tuple(file["instances"]), file["reason"])


def _set_aside(file: File) -> Item:
    text = f"{file['set_aside_as']} ({size_text(file['allocated_bytes'])})"
    return Item((file["host"],), file["name"], tuple(file["instances"]), text)


def _advice(restore: Mapping[str, Any]) -> list[str]:
    """Say what to type next."""
    lines: list[str] = []
    guests = list(dict.fromkeys(guest for file in restore["restored"] for guest in file["guests"]))
    if restore["check_mode"] and guests:
        warning = f"Do not stop {some_names(guests)} before that: these files are open there, and nowhere else."
        lines += cut_lines(wrap(warning, WIDTH), _WARNING_LINES)
    if restore["check_mode"] and restore["restored"]:
        lines.append("To restore these files: the same command without --check")
    if not restore["check_mode"] and restore["restored"]:
        lines.append("To see what is still missing: ansible-playbook stackops.nova.audit")
    if restore["lost"]:
        lines.append("To restore an image from a file that you bring: image_cache_restore_files")
    return ["", *lines] if lines else []
