# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The images of a fleet: on how many hosts each is cached, who uses it, and what of it could be removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["total_images"]

_IDENTITY = ("fingerprint", "image_id", "image_name", "in_glance", "newest_mtime")
_SUMS = ("files", "allocated_bytes", "reclaimable_bytes", "instances")


def total_images(storages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each image of the fleet once, the most popular one first.

    Most popular is what most instances use, then what most hosts have, then what takes most space.

    :param storages: the storages of the fleet, those that were asked for it with ``images`` as the modules return
        them. What hosts share is one storage, so it counts once.
    :return: of each image what the modules return, summed, and the number of ``hosts`` and of ``storages`` that have
        files of it. ``image_id``, ``image_name`` and ``in_glance`` are None where no host knows them. An image is
        ``in_glance`` if any of the clouds has it.
    """
    totals: dict[str, dict[str, Any]] = {}
    hosts: dict[str, set[str]] = {}
    for storage in storages:
        for image in storage.get("images", ()):
            fingerprint = image["fingerprint"]
            total = totals.setdefault(
                fingerprint, dict.fromkeys(_IDENTITY) | dict.fromkeys((*_SUMS, "hosts", "storages"), 0)
            )
            total["fingerprint"] = fingerprint
            for key in ("image_id", "image_name"):
                total[key] = total[key] or image[key]
            for key in ("in_glance", "newest_mtime"):
                total[key] = max((one[key] for one in (total, image) if one[key] is not None), default=None)
            for key in _SUMS:
                total[key] += image[key]
            if image["files"]:
                total["storages"] += 1
                hosts.setdefault(fingerprint, set()).update(storage["hosts"])
    for fingerprint, total in totals.items():
        total["hosts"] = len(hosts.get(fingerprint, ()))
    return sorted(totals.values(), key=_popularity)


def _popularity(image: Mapping[str, Any]) -> tuple[int, int, int, str]:
    return (-image["instances"], -image["hosts"], -image["allocated_bytes"], image["fingerprint"])
