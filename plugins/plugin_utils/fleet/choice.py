# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which images are pre-cached: of all that Glance lists, those that a host asks for and that may be trusted.

Any project can give an image any name and any property, and an administrator's list has everybody's images. So names
and properties choose among public images and those of named owners only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.records import (
    read_records,
    why_not_usable,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.text import printable, some_names

from .glance import GlanceList, once_per_api
from .options import OptionsError, PrecacheOptions

__all__ = ["choose_for_hosts", "choose_images", "has_id", "record_of"]

# What a host has to know of an image. Its other properties stay on the controller.
_KEPT = (
    "id",
    "name",
    "status",
    "disk_format",
    "container_format",
    "size",
    "virtual_size",
    "os_hash_algo",
    "os_hash_value",
    "hash_algo",
    "hash_value",
)
# nova caches these two with the image that names them ("nokernel" names none).
_COMPANIONS = ("kernel_id", "ramdisk_id")
_NO_KERNEL = "nokernel"

Record = Mapping[str, Any]


def choose_for_hosts(
    asked: Mapping[str, PrecacheOptions], ask_glance: Callable[[PrecacheOptions], GlanceList]
) -> dict[str, Any]:
    """Choose the images of all hosts. Each API is asked once, and hosts that ask for the same share a choice.

    :param asked: what each host asks for, by its name.
    :param ask_glance: lists the images of one cloud and region.
    :return: plain data: ``choices``, each with ``images``, the ``endpoint`` of Glance (empty where none is asked) and
        the ``problem`` for which there are no images; and ``hosts``, the number of each host's choice.
    """
    ask_once = once_per_api(ask_glance)
    different: list[PrecacheOptions] = []
    hosts: dict[str, int] = {}
    for name, options in asked.items():
        if options not in different:
            different.append(options)
        hosts[name] = different.index(options)
    choices = []
    for options in different:
        listed = ask_once(options) if options.records is None else GlanceList(options.records)
        choices.append(_choice(options, listed))
    return {"choices": choices, "hosts": hosts}


def _choice(options: PrecacheOptions, listed: GlanceList) -> dict[str, Any]:
    try:
        images = [] if listed.problem else list(choose_images(listed.images, options))
    except OptionsError as exc:
        return {"images": [], "endpoint": "", "problem": str(exc)}
    return {"images": images, "endpoint": listed.endpoint, "problem": listed.problem}


def choose_images(images: Sequence[Any], asked: PrecacheOptions) -> tuple[dict[str, Any], ...]:
    """Choose the images that a host pre-caches.

    :param images: all images of the host's cloud and region, as Glance's ``/images`` lists them. What is not a record
        of an image with an id is no image.
    :param asked: what the host asks for.
    :return: a record for each, with what a host has to know of it: those that were named first, in that order. The
        kernel and the ramdisk of an image follow it.
    :raises OptionsError: an entry means no image or several, an image that was asked for may not be pre-cached, none
        is chosen, or they have more bytes than ``image_cache_precache_max_bytes``.
    """
    known = {image["id"]: image for image in images if has_id(image)}
    candidates = [image for image in known.values() if not image.get("os_hidden") and not _why_not(image, asked)]
    chosen: dict[str, Record] = {}
    for entry in asked.images:
        for image in _with_companions(_find(entry, known, candidates, asked), known, asked):
            chosen.setdefault(image["id"], image)
    if asked.properties:
        for image in sorted(candidates, key=lambda each: str(each["id"])):
            if all(image.get(key) == value for key, value in asked.properties.items()):
                for each in _with_companions(image, known, asked):
                    chosen.setdefault(each["id"], each)
    if not chosen:
        raise OptionsError(_nothing_chosen(asked, len(candidates)))
    _refuse_too_many_bytes(list(chosen.values()), asked)
    return tuple(record_of(image) for image in chosen.values())


def record_of(image: Record) -> dict[str, Any]:
    """Return what a host has to know of an image that Glance lists."""
    return {key: _as_utf8(image[key]) for key in _KEPT if key in image}


def _find(entry: str, known: Mapping[str, Record], candidates: Sequence[Record], asked: PrecacheOptions) -> Record:
    """Return the image that an entry means: the one with exactly this id, or else with exactly this name."""
    if entry in known:
        reason = _why_not(known[entry], asked)
        if reason:
            raise OptionsError(
                f"Image {printable(entry)} cannot be pre-cached: {reason}. Correct that, or remove it from "
                f"image_cache_precache_images."
            )
        return known[entry]
    named = [image for image in candidates if image.get("name") == entry]
    if len(named) == 1:
        return named[0]
    if named:
        raise OptionsError(
            f"image_cache_precache_images has {printable(entry)!r}, which is the name of {len(named)} images "
            f"({_ids(named)}). Set image_cache_precache_images to the id of the one that you mean."
        )
    others = [image for image in known.values() if image.get("name") == entry]
    if others:
        reason = "it is hidden" if others[0].get("os_hidden") else _why_not(others[0], asked)
        raise OptionsError(
            f"image_cache_precache_images has {printable(entry)!r}, and no image of that name can be pre-cached "
            f"({_ids(others)}; of the first: {reason}). Set image_cache_precache_images to the id "
            f"of one that can, or correct that."
        )
    raise OptionsError(
        f"image_cache_precache_images has {printable(entry)!r}, and Glance lists no image with exactly this id or "
        f"name. Correct it, as `openstack image list` spells it. If it is another project's, use an account that may "
        f"see it."
    )


def _with_companions(image: Record, known: Mapping[str, Record], asked: PrecacheOptions) -> Iterator[Record]:
    """Return an image, and its kernel and ramdisk, which nova caches beside it."""
    yield image
    for key in _COMPANIONS:
        companion = image.get(key)
        if not isinstance(companion, str) or companion in ("", _NO_KERNEL):
            continue
        reason = _why_not(known[companion], asked) if companion in known else "Glance does not list it"
        if reason:
            raise OptionsError(
                f"Image {printable(image['id'])} cannot be pre-cached: its {key} is {printable(companion)}, and that "
                f"cannot be: {reason}. Correct that, or remove the image from image_cache_precache_images."
            )
        yield known[companion]


def _why_not(image: Record, asked: PrecacheOptions) -> str:
    """Say why an image may not be pre-cached: the end of a sentence; empty if it may be."""
    owner = image.get("owner")
    is_trusted = image.get("visibility") == "public" or (isinstance(owner, str) and owner in asked.owners)
    if asked.records is None and not is_trusted:  # records in the variables are the operator's own
        project = printable(owner) if isinstance(owner, str) else "unknown"
        return f"it is neither public nor of a project in image_cache_precache_owners (its project is {project})"
    if image.get("status") != "active":
        return f"its status is {printable(str(image.get('status')))} and not active"
    if not isinstance(image.get("name"), (str, type(None))):
        return "its name is not text"
    size = image.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        return "Glance's record of it has no size"
    try:
        record = next(iter(read_records([image]).values()))
    except ImageCacheError:
        return "Glance's record of it has a checksum that is none"
    return why_not_usable(record)


def _refuse_too_many_bytes(chosen: Sequence[Record], asked: PrecacheOptions) -> None:
    size = sum(image["size"] for image in chosen)
    if asked.max_bytes is not None and size > asked.max_bytes:
        largest = max(chosen, key=lambda image: int(image["size"]))
        raise OptionsError(
            f"Nothing was pre-cached: the {len(chosen)} images that were chosen have {size} bytes, and "
            f"image_cache_precache_max_bytes is {asked.max_bytes}. The largest is {printable(largest['id'])} with "
            f"{largest['size']} bytes. Choose fewer images, or raise image_cache_precache_max_bytes."
        )


def _nothing_chosen(asked: PrecacheOptions, candidates: int) -> str:
    if not asked.properties:
        return (
            "Nothing was pre-cached: no image was asked for. Set image_cache_precache_images to ids or names, or "
            "image_cache_precache_properties."
        )
    wanted = ", ".join(f"{printable(key)}={printable(value)}" for key, value in asked.properties.items())
    return (
        f"Nothing was pre-cached: of the {candidates} images that may be, none has {wanted}. Set the property on an "
        f"image (`openstack image set --property`), or correct image_cache_precache_properties. For images of a "
        f"project, add it to image_cache_precache_owners."
    )


def has_id(image: Any) -> bool:
    """Tell whether what Glance lists is a record of an image with an id."""
    image_id = image.get("id") if isinstance(image, Mapping) else None
    return isinstance(image_id, str) and image_id.isprintable() and 0 < len(image_id) <= 255


def _ids(images: Sequence[Record]) -> str:
    return some_names(sorted(image["id"] for image in images))


def _as_utf8(value: Any) -> Any:
    """Replace in a text what JSON can escape and UTF-8 cannot hold: it would stop the text on its way to a host."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
