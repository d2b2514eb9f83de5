# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rows of the HTML page's tables: its hosts, the fullest first, and its images, the most popular first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .bars import Part, divide
from .strips import strip_of
from .units import count_text, size_text

__all__ = ["COLUMNS", "Cell", "HostRow", "ImageRow", "StorageRow", "Tables", "make_tables"]

COLUMNS = 200
"""How many storages a strip has at most."""

_SIZES = ("active", "too_young", "removable")


@dataclass(frozen=True)
class StorageRow:
    """What the hosts of a storage have in common.

    :param name: its pruner.
    :param others: how many hosts share it with that one.
    :param used: how full its file system is, in percent; None where that is unknown.
    :param free: bytes that are free; None where that is unknown.
    :param freed: bytes that a prune would free, or has freed.
    :param cached: bytes of the cache.
    :param precached: bytes of it that a prune keeps only because they were pre-cached.
    :param size: bytes of the cache by state.
    :param parts: the bar of its file system, or of its cache where the file system has no size.
    :param images: what it has of each image, by fingerprint, as the modules return it; None where it was not asked.
    """

    name: str
    others: int
    used: float | None
    free: int | None
    freed: int
    cached: int
    precached: int
    size: Mapping[str, int]
    parts: Sequence[Part]
    images: Mapping[str, Mapping[str, Any]] | None

    @property
    def note(self) -> str:
        """What is to be known of each of its hosts beside the figures. May be empty."""
        shared = f"storage shared with {count_text(self.others, 'host')}" if self.others else ""
        precached = f"{size_text(self.precached)} kept as pre-cached" if self.precached else ""
        return ", ".join(filter(None, [shared, precached]))

    def order(self) -> tuple[bool, float, int, str]:
        """Sort the fullest first, among them those where most can be freed, and last what has no size."""
        return (self.used is None, -(self.used or 0), -self.freed, self.name)


@dataclass(frozen=True)
class HostRow:
    """A host in the table.

    :param state: its state, and ``label``, the words for it.
    :param storage: its storage; None where it did not answer.
    """

    name: str
    state: str
    label: str
    storage: StorageRow | None

    def order(self) -> tuple[bool, float, int, str]:
        """Sort as storages, and last those that did not answer."""
        place = (True, 1, 0, "") if self.storage is None else self.storage.order()
        return (*place[:3], self.name)


@dataclass(frozen=True)
class ImageRow:
    """An image in the table.

    :param name: its name, or what else is known of it.
    :param note: what the name leaves open.
    :param freed: bytes of it that a prune would free, or was to free.
    :param age: seconds since it was last used; None where it is not cached.
    :param parts: its bar, on one scale with the others'.
    :param strip: where it is, a column for each storage; see :mod:`.strips`.
    """

    fingerprint: str
    name: str
    note: str
    instances: int
    hosts: int
    cached: int
    freed: int
    age: float | None
    parts: Sequence[Part]
    strip: str


@dataclass(frozen=True)
class Cell:
    """An image on a storage.

    :param name: the name of the image for a storage, and of the storage for an image.
    """

    name: str
    cached: int
    freed: int
    instances: int


@dataclass(frozen=True)
class Tables:
    """
    :param storages: the fullest first.
    :param hosts: the fullest first, each with its storage.
    :param images: the most popular first.
    """

    storages: Sequence[StorageRow]
    hosts: Sequence[HostRow]
    images: Sequence[ImageRow]

    def images_on(self, host: HostRow) -> list[Cell]:
        """Return what images take space on a host, the largest first."""
        found = (host.storage.images if host.storage else None) or {}
        cells = _cells((image.name, found.get(image.fingerprint)) for image in self.images)
        return sorted(cells, key=lambda cell: (-cell.cached, -cell.instances))

    def storages_with(self, image: ImageRow) -> list[Cell]:
        """Return which storages have an image, that with most instances of it first."""
        cells = _cells((storage.name, (storage.images or {}).get(image.fingerprint)) for storage in self.storages)
        return sorted(cells, key=lambda cell: (-cell.instances, -cell.cached))


def make_tables(fleet: Mapping[str, Any]) -> Tables:
    """Make the rows of a fleet.

    :param fleet: the fleet as ``report.json`` has it.
    """
    storages = [_storage(storage, fleet) for storage in fleet["storages"]]
    # A host may have several caches.
    of_host = {
        (name, storage["cache_path"]): row
        for storage, row in zip(fleet["storages"], storages, strict=True)
        for name in storage["hosts"]
    }
    hosts = [
        HostRow(host["name"], host["state"], _label(host, fleet), of_host.get((host["name"], host["cache_path"])))
        for host in fleet["hosts"]
    ]
    storages.sort(key=StorageRow.order)
    widest = max((image["allocated_bytes"] for image in fleet["images"]), default=0)
    images = [_image(image, storages[:COLUMNS], widest, fleet["generated"]) for image in fleet["images"]]
    return Tables(storages, sorted(hosts, key=HostRow.order), images)


def _storage(storage: Mapping[str, Any], fleet: Mapping[str, Any]) -> StorageRow:
    summary = storage["summary"]
    free, total = storage["free_bytes"], storage["total_bytes"]
    cached = summary["total"]["allocated_bytes"]
    has_size = free is not None and bool(total)
    elsewhere = max(0, total - free - cached) if has_size else 0
    return StorageRow(
        name=storage["pruner"],
        others=len(storage["hosts"]) - 1,
        used=100 * max(0, total - free) / total if has_size else None,
        free=free,
        freed=storage["reclaimed_bytes"] if fleet["pruned"] else summary["reclaimable_bytes"],
        cached=cached,
        precached=summary["precached"]["allocated_bytes"],
        size={state: summary["bytes"][state] for state in _SIZES},
        parts=divide(summary["bytes"], total or cached, elsewhere),
        images={image["fingerprint"]: image for image in storage["images"]} if "images" in storage else None,
    )


def _label(host: Mapping[str, Any], fleet: Mapping[str, Any]) -> str:
    return "Dry run" if host["state"] == "pruned" and fleet["check_mode"] else str(host["state"]).capitalize()


def _image(image: Mapping[str, Any], storages: Sequence[StorageRow], widest: int, now: float) -> ImageRow:
    names = [image[key] for key in ("image_name", "image_id", "fingerprint") if image[key]]
    notes = names[1:2] if image["image_name"] or image["image_id"] else ["unknown image"]
    if image["in_glance"] is False:
        notes.append("not in Glance")
    freed = image["reclaimable_bytes"]
    size = {"active": image["allocated_bytes"] - freed, "removable": freed, "too_young": 0, "corrupt": 0}
    return ImageRow(
        fingerprint=image["fingerprint"],
        name=names[0] if names else "",
        note=", ".join(notes),
        instances=image["instances"],
        hosts=image["hosts"],
        cached=image["allocated_bytes"],
        freed=freed,
        age=None if image["newest_mtime"] is None else now - image["newest_mtime"],
        parts=divide(size, widest),
        strip=strip_of((storage.images or {}).get(image["fingerprint"]) for storage in storages),
    )


def _cells(images: Iterable[tuple[str, Mapping[str, Any] | None]]) -> list[Cell]:
    return [
        Cell(name, image["allocated_bytes"], image["reclaimable_bytes"], image["instances"])
        for name, image in images
        if image is not None
    ]
