# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Glance's records of images: the option ``images``."""

from __future__ import annotations

import re
from typing import Any, Iterable, Mapping, NamedTuple

from ..errors import ImageCacheError
from ..names import fingerprint
from ..text import printable

__all__ = ["KEPT_FORMATS", "ImageRecord", "is_restorable", "read_records", "why_not_usable"]

KEPT_FORMATS = ("raw", "iso", "ami", "aki", "ari")
"""The formats of images that nova caches as they are (``fetch_to_raw`` in ``nova/virt/images.py``)."""

_DIGITS = {"sha256": 64, "sha512": 128}
_HEX = re.compile("[0-9a-f]+")


class ImageRecord(NamedTuple):
    """What Glance says of an image; each is None where the record does not say it.

    :param image_id: the image, exactly as Glance spells it.
    :param size_bytes: the size of what Glance serves.
    :param virtual_bytes: the size of the disk in it, of a format that needs conversion.
    :param algorithm: of the checksum of what Glance serves: ``sha256`` or ``sha512``; None for any other one.
    """

    image_id: str
    disk_format: str | None
    container_format: str | None
    status: str | None
    size_bytes: int | None
    algorithm: str | None
    checksum: str | None
    image_name: str | None = None
    virtual_bytes: int | None = None


def read_records(images: Iterable[Mapping[str, Any]]) -> dict[str, ImageRecord]:
    """Read records of images.

    :param images: records as the Image API gives them, or as openstacksdk does.
    :return: them by the name of the image's base file.
    :raises ImageCacheError: one has no id, or a checksum that is none.
    """
    found = {}
    for image in images:
        image_id = image.get("id")
        if not isinstance(image_id, str) or not image_id:
            raise ImageCacheError("images has a record without an id. Set images: to Glance's own records.")
        algorithm = _text(image.get("os_hash_algo") or image.get("hash_algo"))
        checksum = str(image.get("os_hash_value") or image.get("hash_value") or "").strip().lower()
        if algorithm in _DIGITS and not (_HEX.fullmatch(checksum) and len(checksum) == _DIGITS[algorithm]):
            raise ImageCacheError(
                f"images: the record of {printable(image_id)} has a checksum that is not one of {algorithm}. Set "
                f"images: to Glance's own records."
            )
        found[fingerprint(image_id)] = ImageRecord(
            image_id=image_id,
            disk_format=_text(image.get("disk_format")),
            container_format=_text(image.get("container_format")),
            status=_text(image.get("status")),
            size_bytes=_size(image.get("size")),
            algorithm=algorithm if algorithm in _DIGITS else None,
            checksum=checksum if algorithm in _DIGITS else None,
            image_name=_text(image.get("name")),
            virtual_bytes=_size(image.get("virtual_size")),
        )
    return found


def why_not_usable(record: ImageRecord) -> str:
    """Say why a record does not say what bytes Glance serves to nova.

    :return: the end of a sentence; empty where it is.
    """
    # First, because an image that waits for its bytes has no checksum either.
    if record.status is not None and record.status != "active":
        return f"the image's status is {printable(record.status)} and not active"
    if record.algorithm is None:
        return "by Glance's record the image has no checksum by sha256 or sha512 (os_hash_algo)"
    if record.container_format is not None and record.container_format not in ("bare", record.disk_format):
        return f"the image is in a container of the format {printable(record.container_format)}"
    return ""


def is_restorable(record: ImageRecord) -> bool:
    """Tell whether a base file can be restored from what Glance serves, by all that the record says."""
    is_known = record.disk_format in KEPT_FORMATS or record.disk_format == "qcow2"
    return is_known and record.size_bytes is not None and not why_not_usable(record)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _size(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
