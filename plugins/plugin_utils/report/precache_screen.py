# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pre-caching on one screen: which images are on how many hosts, what is not and why, and what to type next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .alarms import Item
from .sections import WIDTH, Section, item_lines, merged_section, page
from .text import wrap
from .units import count_text, duration_text, size_text

__all__ = ["precache_screen"]


def precache_screen(precache: Mapping[str, Any]) -> str:
    """Return what came of pre-caching as a page of plain text.

    :param precache: what :func:`summarise_precache` returns.
    :return: at most 45 lines of at most 78 columns, without a line break after the last one.
    """
    is_dry = precache["check_mode"]
    images = [item_lines((), _name(image), _on_hosts(image, is_dry)) for image in precache["images"]]
    sections = [
        merged_section(
            "!! WOULD NOT BE PRE-CACHED" if is_dry else "!! NOT PRE-CACHED",
            precache["lacking"],
            lambda image: Item((image["host"],), _name(image), error=image["reason"]),
        ),
        merged_section(
            "!! HOSTS WITHOUT AN ANSWER: which images they have is unknown. Run again.",
            precache["unanswered"],
            lambda host: Item((host["host"],), "", error=host["error"]),
        ),
        merged_section(
            "! LEFT OUT: these hosts served others no more. See what is wrong with them.",
            (precache["waves"] or {}).get("left_out", ()),
            lambda host: Item((host["host"],), host["image_id"], error=host["reason"]),
        ),
        Section("IMAGES", images, [1] * len(images)),
    ]
    return page(_head(precache), sections, _advice(precache))


def _head(precache: Mapping[str, Any]) -> list[str]:
    parts = [count_text(precache["hosts"], "host"), count_text(len(precache["images"]), "image")]
    if precache["unanswered"]:
        parts.append(f"{len(precache['unanswered'])} without an answer")
    lines = wrap(", ".join(parts), WIDTH, "PRE-CACHE  ")
    if not precache["images"]:
        return lines
    if not precache["fetched"]:
        there = "Nothing else was" if precache["lacking"] else "All images are present. Nothing was"
        return [*lines, *wrap(f"{there} fetched.", WIDTH, "  ")]
    count = count_text(len(precache["fetched"]), "file")
    written = size_text(sum(image["allocated_bytes"] for image in precache["fetched"]))
    read, waves = precache["read_bytes"], precache["waves"]
    text = f"{count}, {written} on disk, {size_text(read['glance'])} from Glance"
    if waves:
        text += f", {size_text(read['peer'])} from other hosts, in {count_text(waves['number'], 'wave')}"
        times = [duration_text(seconds) for seconds in waves["seconds"]]
        text += f" ({', '.join(times)})" if times else ""
    if precache["check_mode"]:
        return [*lines, *wrap(f"WOULD BE FETCHED: {text}. Nothing was fetched: this was a dry run.", WIDTH, "  ")]
    return [*lines, *wrap(f"FETCHED: {text}.", WIDTH, "  ")]


def _name(image: Mapping[str, Any]) -> str:
    return f"{image['image_name']} ({image['image_id']})" if image["image_name"] else str(image["image_id"])


def _on_hosts(image: Mapping[str, Any], is_dry: bool) -> str:
    """Say on how many hosts an image is, and what came of it on the others."""
    would = "would be " if is_dry else ""
    counts = {
        "present": "present on {}",
        "fetched": f"{would}fetched by {{}}",
        "elsewhere": f"{would}shared with {{}}",
        "refused": f"{would}refused by {{}}",
        "failed": f"{would.replace('be ', '')}failed on {{}}" if is_dry else "failed on {}",
    }
    return ", ".join(text.format(count_text(image[part], "host")) for part, text in counts.items() if image[part])


def _advice(precache: Mapping[str, Any]) -> list[str]:
    """Say what to type next."""
    if precache["check_mode"] and precache["fetched"]:
        return ["", "To fetch these images: the same command without --check"]
    if not precache["check_mode"] and precache["fetched"]:
        return ["", "nova removes what is unused for a day: run it twice a day to keep them."]
    return []
