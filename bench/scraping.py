# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Has the real node exporter and Prometheus scrape a textfile folder once, and prints the figures as JSON.

Prometheus drops the series that the documentation shows how to drop.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import textwrap
from pathlib import Path

import yaml

from ansible_collections.stackops.nova.tests.support.monitoring import (
    Prometheus,
    exporter_command,
    free_port,
    prometheus_command,
    running,
    wait_for_start,
    wait_until,
)

PAGE = Path(__file__).parents[1] / "docs/docsite/rst/at_scale.rst"
DROPPED = re.compile(r"^\.\. code-block:: yaml\n   :caption: prometheus.yml, .*\n\n((?:(?:   .*)?\n)+)", re.MULTILINE)
INTERVAL = "15s"  # longer than a scrape takes, and short enough to wait for one


def main() -> None:
    missing = [name for name in ("prometheus", "prometheus-node-exporter") if shutil.which(name) is None]
    if missing:
        raise SystemExit(f"Missing packages, by Debian's names: {' '.join(missing)}")
    [dropped] = DROPPED.findall(PAGE.read_text())
    with tempfile.TemporaryDirectory() as folder:
        root, node_port, port = Path(folder), free_port(), free_port()
        job = {
            "job_name": "node",
            "static_configs": [{"targets": [f"127.0.0.1:{node_port}"]}],
            **yaml.safe_load(textwrap.dedent(dropped)),
        }
        settings = {"global": {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL}, "scrape_configs": [job]}
        (root / "prometheus.yml").write_text(yaml.safe_dump(settings))
        commands = [exporter_command(node_port, Path(sys.argv[1])), prometheus_command(port, root)]
        with running(root / "log", commands) as programs:
            wait_for_start(f"http://127.0.0.1:{port}/-/ready")
            scraper = Prometheus(f"http://127.0.0.1:{port}")
            wait_until(lambda: scraper.query("scrape_samples_scraped > 1000"), "a scrape of all series")
            figures = {
                "seconds": scraper.value("scrape_duration_seconds"),
                "kept_series": scraper.value('count({__name__=~"nova_image_cache_.+"})'),
                "processor_seconds": sum(processor_seconds(program.pid) for program in programs),
                "exporter_peak_bytes": peak_bytes(programs[0].pid),
                "prometheus_peak_bytes": peak_bytes(programs[1].pid),
            }
    json.dump(figures, sys.stdout)


def processor_seconds(pid: int) -> float:
    """How long a running program has had a processor, since it began."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_bytes(pid: int) -> int:
    """The most memory that a running program has held."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[0]) * 1024


if __name__ == "__main__":
    main()
