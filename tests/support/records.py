# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Glance's records of images, as the Image API gives them."""

from __future__ import annotations

from hashlib import sha512
from typing import Any

from ansible_collections.stackops.nova.tests.support.constants import IMAGE


def record(content: bytes, image_id: str = IMAGE, **given: Any) -> dict[str, Any]:
    """An image with this content, active and raw."""
    return {
        "id": image_id,
        "status": "active",
        "container_format": "bare",
        "disk_format": "raw",
        "size": len(content),
        "os_hash_algo": "sha512",
        "os_hash_value": sha512(content).hexdigest(),
        **given,
    }
