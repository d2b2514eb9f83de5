# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All rows of the HTML page's tables as one block of JSON, from which its script draws what the page does not show.

2,000 hosts with 200 images each are 400,000 cells, and the page is to stay under 5 MB. So a row is a list, and a cell
one or two numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .bars import Part
from .rows import ImageRow, StorageRow, Tables
from .units import age_text

__all__ = ["page_data"]

_STATES = ("elsewhere", "corrupt", "active", "too_young", "removable")
_MIB = 1 << 20
_KINDS = 3


def page_data(tables: Tables, shown: Any) -> str:
    """Return the block, safe inside of a ``script`` element.

    :param tables: the rows.
    :param shown: makes a text fit to be seen.
    """
    place = {id(storage): index for index, storage in enumerate(tables.storages)}
    labels = list(dict.fromkeys((host.state, host.label) for host in tables.hosts))
    fingerprints = [image.fingerprint for image in tables.images]
    block = {
        "parts": _STATES,
        "states": labels,
        "storages": [[shown(storage.name), *_storage(storage)] for storage in tables.storages],
        "hosts": [
            [
                shown(host.name),
                labels.index((host.state, host.label)),
                -1 if host.storage is None else place[id(host.storage)],
            ]
            for host in tables.hosts
        ],
        "images": [[shown(image.name), shown(image.note), *_image(image)] for image in tables.images],
        "cells": [_cells(storage, fingerprints) for storage in tables.storages],
    }
    text = json.dumps(block, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _storage(storage: StorageRow) -> list[Any]:
    size = storage.size
    used = None if storage.used is None else round(storage.used, 2)
    return [
        storage.note, used, storage.free, storage.freed, storage.cached,
        size["active"], size["too_young"], size["removable"], _parts(storage.parts),
    ]  # fmt: skip


def _image(image: ImageRow) -> list[Any]:
    age, text = (None, "") if image.age is None else (round(image.age), age_text(image.age))
    return [image.instances, image.hosts, image.cached, image.freed, age, text, image.strip, _parts(image.parts)]


def _parts(parts: Sequence[Part]) -> list[list[float]]:
    return [[_STATES.index(part.state), part.start, part.width] for part in parts]


def _cells(storage: StorageRow, fingerprints: Sequence[str]) -> list[int] | None:
    """Return the images of a storage as numbers; None where it was not asked for them.

    A number below zero skips as many images. Any other is three times the size in MiB, and in the remainder: 0, nothing
    could be removed, and the number of instances follows; 1, all could be removed, and no instance uses it; 2, the
    instances follow, and the MiB that could be removed.
    """
    if storage.images is None:
        return None
    numbers: list[int] = []
    missing = 0
    for fingerprint in fingerprints:
        image = storage.images.get(fingerprint)
        if image is None:
            missing += 1
            continue
        if missing:
            numbers.append(-missing)
            missing = 0
        numbers += _numbers(image)
    return numbers


def _numbers(image: Mapping[str, Any]) -> Iterator[int]:
    size, freed = (-(-image[key] // _MIB) for key in ("allocated_bytes", "reclaimable_bytes"))
    instances = image["instances"]
    kind = 0 if not freed else 1 if freed == size and not instances else 2
    yield _KINDS * size + kind
    if kind != 1:
        yield instances
    if kind == 2:
        yield freed
