# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which images are meant: by their ids, by their names, or by Glance's own records.

An image's id is a UUID, which Glance writes in lower case (``glance/api/v2/images.py``); the name of a base file is
made from it. A name says nothing without Glance's list, and several images may have one.
"""

from __future__ import annotations

import re
from typing import Iterable, Mapping, NamedTuple

from .errors import ImageCacheError
from .text import printable

__all__ = ["GlanceImages", "find_images", "read_glance_images", "unknown_image"]

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class GlanceImages(NamedTuple):
    """The images that Glance has.

    :param ids: their ids.
    :param by_name: the ids of those that have a name, by it.
    :param names: the names of these, by their ids.
    """

    ids: frozenset[str]
    by_name: Mapping[str, frozenset[str]]
    names: Mapping[str, str]


def read_glance_images(records: Iterable[object]) -> GlanceImages:
    """Read a list of images.

    :param records: ids, or Glance's records, each with ``id`` and perhaps ``name``.
    :return: the images.
    :raises ImageCacheError: one is neither.
    """
    by_name: dict[str, set[str]] = {}
    names: dict[str, str] = {}
    ids = set()
    for record in records:
        image_id = _id("glance_images", record)
        ids.add(image_id)
        name = record.get("name") if isinstance(record, Mapping) else None
        if isinstance(name, str) and name:
            by_name.setdefault(name, set()).add(image_id)
            names[image_id] = name
    return GlanceImages(frozenset(ids), {name: frozenset(found) for name, found in by_name.items()}, names)


def find_images(wanted: Iterable[object], glance_images: GlanceImages | None) -> tuple[list[str], list[str]]:
    """Find the images that are meant.

    :param wanted: ids in upper or lower case, names, and Glance's records.
    :param glance_images: the images that Glance has; None where that is not known.
    :return: the ids, and the names that no image is known to have, both in their order.
    :raises ImageCacheError: a record has no id.
    """
    ids: dict[str, None] = {}
    unknown: dict[str, None] = {}
    for entry in wanted:
        if isinstance(entry, Mapping):
            ids[_id("keep_images", entry)] = None
            continue
        text = str(entry)
        known = glance_images.by_name.get(text, frozenset()) if glance_images else frozenset()
        if _UUID.fullmatch(text.lower()):
            known |= {text.lower()}
        elif glance_images is not None and text in glance_images.ids:
            known |= {text}
        ids.update(dict.fromkeys(sorted(known)))
        if not known:
            unknown[text] = None
    return list(ids), list(unknown)


def unknown_image(name: str, is_listed: bool) -> str:
    """Say that an entry of ``keep_images`` keeps nothing.

    :param name: the entry.
    :param is_listed: whether Glance's images are known.
    :return: what is wrong, and what to do.
    """
    why = "no image of glance_images has that name" if is_listed else "without glance_images no name is known"
    return (
        f"keep_images has {printable(name)!r}, which is no image's id, and {why}: it would keep nothing. Give the id, "
        f"or Glance's records, with their names, as glance_images."
    )


def _id(option: str, record: object) -> str:
    image_id = record.get("id") if isinstance(record, Mapping) else record
    if not isinstance(image_id, str) or not image_id:
        raise ImageCacheError(f"{option} has a record without an id. Set {option} to ids, or to Glance's records.")
    return image_id.lower() if _UUID.fullmatch(image_id.lower()) else image_id
