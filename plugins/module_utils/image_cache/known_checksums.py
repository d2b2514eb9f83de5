# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What checksums the operator, or Glance, knows of images: the option ``known_checksums``."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Mapping

from .errors import ImageCacheError
from .names import fingerprint
from .text import printable

__all__ = ["parse_known_checksums"]

# Where a checksum stands: in a plain entry, in an image of the Image API, and in one of openstack.cloud.image_info.
_KEYS = (("algorithm", "value"), ("os_hash_algo", "os_hash_value"), ("hash_algo", "hash_value"))
_NOT_KNOWN_BY_SIZE = ("shake_128", "shake_256")
_HEX = re.compile("[0-9a-f]+")
_REMEDY = "Correct that entry, or remove it from known_checksums."


def parse_known_checksums(given: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Make the option ``known_checksums`` into what the files of the cache are compared with.

    :param given: an entry for each image id. One that says a ``disk_format`` other than ``raw`` is
        left out, for nova converts such an image, as is one without a checksum: Glance has none of
        an image that it did not take in itself.
    :return: algorithm and lowercase hex value by the name of the image's original in the cache.
    :raises ImageCacheError: an entry cannot be understood.
    """
    known = {}
    for image_id, entry in given.items():
        checksum = _parse_entry(str(image_id), entry)
        if checksum is not None:
            known[fingerprint(str(image_id))] = checksum
    return known


def _parse_entry(image_id: str, entry: Any) -> tuple[str, str] | None:
    if not isinstance(entry, Mapping):
        raise ImageCacheError(
            f"known_checksums: the entry of image {printable(image_id)} is not a dictionary. {_REMEDY}"
        )
    pair = next(((entry[first], entry.get(second)) for first, second in _KEYS if first in entry), None)
    if pair is None:
        raise ImageCacheError(
            f"known_checksums: the entry of image {printable(image_id)} has neither algorithm and value nor "
            f"os_hash_algo and os_hash_value. {_REMEDY}"
        )
    if pair == (None, None) or entry.get("disk_format") not in (None, "raw"):
        return None
    algorithm, value = (str(part).strip().lower() for part in pair)
    if algorithm not in hashlib.algorithms_available or algorithm in _NOT_KNOWN_BY_SIZE:
        raise ImageCacheError(
            f"known_checksums: image {printable(image_id)} has a checksum by {printable(algorithm)}, which this host's "
            f"Python does not know. Remove the image from known_checksums."
        )
    if not _HEX.fullmatch(value) or len(value) != 2 * hashlib.new(algorithm).digest_size:
        raise ImageCacheError(
            f"known_checksums: '{printable(value)}' of image {printable(image_id)} is no {algorithm} in hexadecimal. "
            f"{_REMEDY}"
        )
    return algorithm, value
