# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A pre-cache as one HTML page: which images are on which hosts, what was fetched, and what is not there and why.

It needs nothing else: no network and no script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .alarms import Item, grouped
from .bars import Part
from .page import read_asset, read_template, sha256_source
from .text import some_names
from .units import count_text, duration_text, size_text

__all__ = ["render_precache_html"]

# How much of something long the page shows. The JSON file has all.
_ITEMS = 50
_ITEMS_OPEN = 6
_HOST_ROWS = 200
_IMAGE_ROWS = 100
_CELLS = 25
# In the order of the columns and of the bars, and what each is called once it is done.
_DONE = {"present": "Present", "fetched": "Fetched", "elsewhere": "Shared", "failed": "Failed", "refused": "Refused"}
_SOURCES = {"glance": "Glance", "peer": "another host"}
_PLANNED = {
    "present": "Present",
    "fetched": "Would be fetched",
    "elsewhere": "Would be shared",
    "failed": "Would fail",
    "refused": "Would be refused",
}


def render_precache_html(precache: Mapping[str, Any]) -> str:
    """Return the page.

    :param precache: what :func:`summarise_precache` returns.
    """
    style = read_asset("report.css")
    words = _PLANNED if precache["check_mode"] else _DONE
    fetched = precache["fetched"]
    hosts = _hosts_by_outcome(precache)
    rows = sorted(precache["outcomes"], key=_order)
    return read_template("precache.html.j2").render(
        style=style,
        style_hash=sha256_source(style),
        precache=precache,
        generated=datetime.fromtimestamp(precache["generated"], tz=UTC),
        words=words,
        lacking=[
            item
            for item, _count in grouped(
                [Item((image["host"],), _name(image), error=image["reason"]) for image in precache["lacking"]]
            )
        ],
        unanswered=[
            item
            for item, _count in grouped(
                [Item((one["host"],), "", error=one["error"]) for one in precache["unanswered"]]
            )
        ],
        written=sum(image["allocated_bytes"] for image in fetched),
        waves=precache["waves"] and _Waves.of(precache["waves"]),
        present=sum(image["present"] for image in precache["images"]),
        incomplete=len({image["host"] for image in precache["lacking"]}),
        images=[_ImageRow.of(image, hosts[image["image_id"]], words) for image in precache["images"][:_IMAGE_ROWS]],
        hosts=[_HostRow.of(row, precache["images"], words) for row in rows[:_HOST_ROWS]],
        items_shown=_ITEMS,
        items_open=_ITEMS_OPEN,
        cells_shown=_CELLS,
    )


def _hosts_by_outcome(precache: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
    """Return the names of the hosts by image and by what came of it."""
    hosts: dict[str, dict[str, list[str]]] = {}
    for row in precache["outcomes"]:
        for image in row["images"]:
            hosts.setdefault(image["image_id"], {}).setdefault(image["outcome"], []).append(row["name"])
    return hosts


def _order(row: Mapping[str, Any]) -> tuple[bool, bool, str]:
    """Sort the hosts without an answer first, then those that lack an image."""
    return (not row["error"], not _is_lacking(row), row["name"])


def _is_lacking(row: Mapping[str, Any]) -> bool:
    return any("reason" in image for image in row["images"])


@dataclass(frozen=True)
class _Waves:
    """How hosts served each other.

    :param number: how many waves there were, or would be.
    :param times: how long each took, in words.
    :param left_out: the hosts that served others no more, and why.
    """

    number: int
    times: Sequence[str]
    left_out: Sequence[Item]

    @classmethod
    def of(cls, waves: Mapping[str, Any]) -> _Waves:
        return cls(
            waves["number"],
            [duration_text(seconds) for seconds in waves["seconds"]],
            [Item((host["host"],), host["image_id"], error=host["reason"]) for host in waves["left_out"]],
        )


@dataclass(frozen=True)
class _ImageRow:
    """An image.

    :param note: its id, where its name is shown.
    :param counts: on how many hosts it has each outcome.
    :param parts: a bar of these.
    :param hosts: each outcome that any host has, and the names of these hosts.
    """

    name: str
    note: str
    counts: Mapping[str, int]
    parts: Sequence[Part]
    hosts: Sequence[tuple[str, str]]

    @classmethod
    def of(cls, image: Mapping[str, Any], hosts: Mapping[str, Sequence[str]], words: Mapping[str, str]) -> _ImageRow:
        whole = sum(image[outcome] for outcome in words)
        parts, start = [], 0.0
        for outcome in words:
            width = 100 * image[outcome] / whole
            parts.append(Part(outcome, round(start, 2), round(width, 2)))
            start += width
        return cls(
            name=image["image_name"] or image["image_id"],
            note=image["image_id"] if image["image_name"] else "",
            counts={outcome: image[outcome] for outcome in words},
            parts=[part for part in parts if part.width],
            hosts=[(words[outcome], some_names(hosts[outcome])) for outcome in words if outcome in hosts],
        )


@dataclass(frozen=True)
class _HostRow:
    """A host.

    :param note: what is to be known beside the figures. May be empty.
    :param state: its state, and ``label``, the words for it.
    :param counts: how many images have each outcome.
    :param parts: a bar with a part for each image, in the order of the images.
    :param written: bytes of disk that the fetched images take.
    :param images: the name of each image, and what came of it.
    """

    name: str
    note: str
    state: str
    label: str
    counts: Mapping[str, int]
    parts: Sequence[Part]
    written: int
    images: Sequence[tuple[str, str]]

    @classmethod
    def of(cls, row: Mapping[str, Any], images: Sequence[Mapping[str, Any]], words: Mapping[str, str]) -> _HostRow:
        found = {image["image_id"]: image for image in row["images"]}
        width = 100 / max(1, len(images))
        is_planned = words is _PLANNED and any(image["outcome"] != "present" for image in row["images"])
        if row["error"]:
            state, label = "unreachable", "No answer"
        elif _is_lacking(row):
            state, label = "incomplete", "Incomplete"
        else:
            state, label = "complete", "Would be complete" if is_planned else "Complete"
        others = len(row["storage_hosts"]) - 1
        return cls(
            name=row["name"],
            note=f"storage shared with {count_text(others, 'host')}" if others else "",
            state=state,
            label=label,
            counts={outcome: sum(image["outcome"] == outcome for image in row["images"]) for outcome in words},
            parts=[
                Part(found[image["image_id"]]["outcome"], round(number * width, 2), round(width, 2))
                for number, image in enumerate(images)
                if image["image_id"] in found
            ],
            written=sum(image["allocated_bytes"] for image in row["images"] if image["outcome"] == "fetched"),
            images=[
                (_name(found[image["image_id"]]), _came_of(found[image["image_id"]], words))
                for image in images
                if image["image_id"] in found
            ],
        )


def _name(image: Mapping[str, Any]) -> str:
    return f"{image['image_name']} ({image['image_id']})" if image["image_name"] else str(image["image_id"])


def _came_of(image: Mapping[str, Any], words: Mapping[str, str]) -> str:
    """Say what came of an image on a host."""
    outcome = words[image["outcome"]].lower()
    if image["outcome"] == "fetched":
        source = _SOURCES.get(image["source"], "a file on the host")
        return f"{outcome} from {source}, {size_text(image['allocated_bytes'])}"
    if image["outcome"] == "elsewhere":
        return f"{outcome} with {image['fetched_by']}"
    return f"{outcome}: {image['reason']}" if "reason" in image else outcome
