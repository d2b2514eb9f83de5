# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One process of the benchmark: fetches an image into a new file, and prints its figures as JSON."""

from __future__ import annotations

import json
import os
import resource
import sys

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.glance import fetch_image, read_glance
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.records import ImageRecord
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.hashing import RateLimiter


def main() -> None:
    endpoint, target, size, checksum = sys.argv[1:]
    record = ImageRecord("image", "raw", "bare", "active", int(size), "sha512", checksum)
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    transfer = fetch_image(read_glance({"endpoint": endpoint}), record, descriptor, RateLimiter(), None)
    figures = {
        "seconds": transfer.seconds,
        "allocated_bytes": os.fstat(descriptor).st_blocks * 512,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    json.dump(figures, sys.stdout)


if __name__ == "__main__":
    main()
