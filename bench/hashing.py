# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One process of the benchmark: hashes files as verification does, and prints its figures as JSON."""

from __future__ import annotations

import json
import os
import resource
import sys
import time

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.hashing import (
    RateLimiter,
    map_in_threads,
    read_digests,
)


def digest(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        digests = read_digests(descriptor, ["sha1"], RateLimiter())
    finally:
        os.close(descriptor)
    if digests is None:
        raise SystemExit("There is no limit, so nothing is given up.")
    return digests["sha1"]


def main() -> None:
    started = time.perf_counter()
    map_in_threads(digest, sys.argv[1:])
    seconds = time.perf_counter() - started
    json.dump({"seconds": seconds, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}, sys.stdout)


if __name__ == "__main__":
    main()
