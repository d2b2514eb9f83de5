# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One process of the benchmark: audits a tree, or only reads what an audit must, and prints its figures as JSON."""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.argspec import argument_spec
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.audit import audit

NOT_INSTANCES = ("_base", "locks")


def floor(instances_path: str) -> None:
    """What nobody can do without: one scandir, open, pread and close an overlay, one stat a base file."""
    for name in os.listdir(instances_path):
        if name not in NOT_INSTANCES:
            directory = f"{instances_path}/{name}"
            with os.scandir(directory) as entries:
                for _entry in entries:
                    pass
            descriptor = os.open(f"{directory}/disk", os.O_RDONLY)
            os.pread(descriptor, 1024, 0)
            os.close(descriptor)
    cache_path = f"{instances_path}/_base"
    for name in os.listdir(cache_path):
        os.stat(f"{cache_path}/{name}")


def whole(instances_path: str, **options: object) -> None:
    params = {name: option.get("default") for name, option in argument_spec().items()}
    params.update(instances_path=instances_path, libvirt=False, **options)
    facts = audit(params, time.time(), _no_command).facts
    if facts["summary"]["removable"] == 0 or facts["unknown_use"]:
        raise SystemExit(f"This is not the tree of the benchmark: {facts}")


def trusted(instances_path: str) -> None:
    """An audit with verification, of a cache in which every checksum was verified lately."""
    whole(instances_path, checksum_base_images=True, checksum_interval_seconds=24 * 3600)


def _no_command(command: list[str]) -> tuple[int, str, str]:
    raise SystemExit(f"An audit of plain overlays must not run {command}")


def seconds(function: Callable[[str], None], path: str) -> float:
    started = time.perf_counter()
    function(path)
    return time.perf_counter() - started


def main() -> None:
    what, path, runs = sys.argv[1], sys.argv[2], int(sys.argv[3])
    figures: dict[str, list[float]] = {"audit": [], "floor": [], "trusted": []}
    for _run in range(runs):
        if what == "both":
            figures["floor"].append(seconds(floor, path))
        if what == "trusted":
            figures["trusted"].append(seconds(trusted, path))
        figures["audit"].append(seconds(whole, path))
    result = {name: statistics.median(values) for name, values in figures.items() if values}
    result["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
