# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which images are meant: by their ids, by their names, or by Glance's own records.

An image's id is a UUID, which Glance writes in lower case (``glance/api/v2/images.py``); the name of a base file is
made from it. A name says nothing without Glance's list, and several images may have one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Iterable, Mapping, NamedTuple

from .errors import ImageCacheError
from .text import printable

if TYPE_CHECKING:
    from .settings import Settings

__all__ = ["GlanceImages", "find_images", "read_glance_images", "unknown_image", "why_deletions_are_unknown"]

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_WHOLE_LIST = "Set glance_images to all images of this host's cloud and region, hidden ones included"


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


def why_deletions_are_unknown(cached: Mapping[str, str | None], settings: Settings) -> str:
    """Say why it cannot be relied on that Glance no longer has the images that its list lacks.

    A list of another cloud or region knows hardly any of the cached images, and one that lacks those that are hidden or
    of other projects knows too few. Images in use count like the others: a list without them is as incomplete.

    :param cached: the images that have a file in the cache, by their key; the id is None where no source names it.
    :param settings: options of which one at least needs the list.
    :return: what is wrong, why, and what to do; empty if nothing is.
    """
    names = ["remove_only_deleted_images"] if settings.remove_only_deleted_images else []
    if settings.remove_deleted_images_minimum_age_seconds is not None:
        names.append("remove_deleted_images_minimum_age_seconds")
    options = " and ".join(names)
    if settings.glance_images is None:
        return f"{options} cannot be used: glance_images is not given. {_WHOLE_LIST}, or remove {options}."
    if not settings.glance_images:
        return (
            f"{options} cannot be used: glance_images is empty, so every cached image would count as deleted. "
            f"{_WHOLE_LIST}, or remove {options}."
        )
    unknown = sorted(key for key, image_id in cached.items() if image_id not in settings.glance_images)
    known = len(cached) - len(unknown)
    if known * 2 >= len(cached):
        return ""
    return (
        f"{options} cannot be used: glance_images has {known} of the {len(cached)} cached images, fewer than half "
        f"(not that of {unknown[0]}). It is probably the list of another cloud or region, or lacks hidden images or "
        f"those of other projects. {_WHOLE_LIST}. If the list is right, remove {options} for one prune, and add the "
        f"same list to keep_images."
    )


def _id(option: str, record: object) -> str:
    image_id = record.get("id") if isinstance(record, Mapping) else record
    if not isinstance(image_id, str) or not image_id:
        raise ImageCacheError(f"{option} has a record without an id. Set {option} to ids, or to Glance's records.")
    return image_id.lower() if _UUID.fullmatch(image_id.lower()) else image_id
