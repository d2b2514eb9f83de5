# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One process of the benchmark: writes the metrics of a fleet, as the role does, and prints its figures as JSON.

Usage: metrics.py PATH HOSTS. Each host has a storage of its own, was verified and pruned, and answered.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from ansible_collections.stackops.nova.plugins.plugin_utils.report.prometheus import (
    metrics_of,
    parse_metrics,
    render_metrics,
)
from ansible_collections.stackops.nova.tests.support.fleets import BASE, answer, done, fleet, storage, verified


def main() -> None:
    path, names = Path(sys.argv[1]), [f"compute-{number:05}" for number in range(int(sys.argv[2]))]
    found = fleet(*(storage(answer(name, checksums=verified(), **done(BASE)), name) for name in names))
    started, worked = time.perf_counter(), time.process_time()
    former = parse_metrics(path.read_text() if path.exists() else "", found["generated"])
    metrics = metrics_of(found, former.metrics, set(names))
    written = path.write_text(render_metrics(metrics))
    figures = {
        "series": len(metrics),
        "bytes": written,
        "seconds": time.perf_counter() - started,
        "processor_seconds": time.process_time() - worked,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    json.dump(figures, sys.stdout)


if __name__ == "__main__":
    main()
