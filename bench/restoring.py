# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One process of the benchmark: restores the one base file that a tree misses, and prints its figures as JSON."""

from __future__ import annotations

import json
import resource
import sys
import time

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.argspec import restore_argument_spec
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.restore import restore


def main() -> None:
    params = {name: option.get("default") for name, option in restore_argument_spec().items()}
    params.update(instances_path=sys.argv[1], libvirt=False)
    started = time.perf_counter()
    result = restore(params, time.time(), _no_command, check_mode=False)
    seconds = time.perf_counter() - started
    [restored] = result.done["restored"]
    figures = {
        "seconds": seconds,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "source": restored["source_path"],
        "read_bytes": restored["read_bytes"],
    }
    json.dump(figures, sys.stdout)


def _no_command(command: list[str]) -> tuple[int, str, str]:
    raise SystemExit(f"A restore of a plain overlay must not run {command}")


if __name__ == "__main__":
    main()
