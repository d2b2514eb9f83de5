# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The documented play hands the metrics of an audit to the real Pushgateway, which shows what was written."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ansible_collections.stackops.nova.tests.support.compute_fleet import ComputeFleet, Run
from ansible_collections.stackops.nova.tests.support.monitoring import free_port, pushgateway

PAGE = Path(__file__).parents[2] / "docs/docsite/rst/monitoring.rst"
PLAY = re.compile(r"^\.\. code-block:: yaml\n   :caption: nightly_audit.yml\n\n((?:(?:   .*)?\n)+)", re.MULTILINE)
ADDRESS = "pushgateway.example.com:9091"

Series = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


class Nightly:
    """The play of the page, with an address on this machine in place of the one that it shows."""

    def __init__(self, root: Path) -> None:
        self.fleet = ComputeFleet(root)
        self.reports = root / "reports"
        self.port = free_port()
        [play] = PLAY.findall(PAGE.read_text())
        assert play.count(ADDRESS) == 1
        self._path = root / "nightly_audit.yml"
        self._path.write_text(textwrap.dedent(play).replace(ADDRESS, f"127.0.0.1:{self.port}"))

    def run(self, *arguments: str) -> Run:
        return self.fleet.run_playbook(str(self._path), *arguments, image_cache_report_path=str(self.reports))

    def push(self, *arguments: str) -> Series:
        """Run the play, and return what it wrote."""
        run = self.run(*arguments)
        assert run.status == 0, run.output
        return self.written()

    def written(self) -> Series:
        return series((self.reports / "image_cache.prom").read_text())

    def generated(self) -> float:
        return float(json.loads((self.reports / "report.json").read_text())["generated"])


@pytest.fixture
def nightly(tmp_path: Path) -> Nightly:
    return Nightly(tmp_path)


def series(text: str) -> Series:
    """Return the collection's series of a page of metrics, without the labels that the Pushgateway adds."""
    return {
        (
            sample.name,
            frozenset((key, value) for key, value in sample.labels.items() if key not in ("instance", "job")),
        ): (sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("nova_image_cache_")
    }


def shown(url: str) -> Series:
    """Return what Prometheus would scrape."""
    with urlopen(f"{url}/metrics") as answer:
        return series(answer.read().decode())


def value(found: Series, name: str, host: str = "") -> float:
    """Return the value of a metric, of a host or of the report."""
    [only] = [
        each for (metric, labels), each in found.items() if metric == name and (not host or ("host", host) in labels)
    ]
    return only


def hosts(found: Series) -> set[str]:
    return {text for _name, labels in found for key, text in labels if key == "host"}


def test_pushgateway_shows_what_was_written_with_the_time_of_each_hosts_answer(
    nightly: Nightly, tmp_path: Path
) -> None:
    for host in ("a", "b"):
        nightly.fleet.add(host)
    with pushgateway(tmp_path, nightly.port) as url:
        written = nightly.push()
        first = nightly.generated()
        assert shown(url) == written
        assert value(written, "nova_image_cache_report_timestamp_seconds") == first

        written = nightly.push("--limit", "b,localhost")
        assert shown(url) == written
        assert value(written, "nova_image_cache_report_timestamp_seconds") == nightly.generated() > first
        answered = {host: value(written, "nova_image_cache_host_answer_timestamp_seconds", host) for host in "ab"}
        assert answered == {"a": first, "b": nightly.generated()}


def test_host_that_left_the_inventory_is_gone_with_the_next_push(nightly: Nightly, tmp_path: Path) -> None:
    for host in ("a", "b"):
        nightly.fleet.add(host)
    with pushgateway(tmp_path, nightly.port) as url:
        assert hosts(nightly.push()) == hosts(shown(url)) == {"a", "b"}
        del nightly.fleet.hosts["b"]
        assert hosts(nightly.push()) == hosts(shown(url)) == {"a"}


def test_pushgateway_that_is_down_fails_the_play_after_the_metrics_are_written(nightly: Nightly) -> None:
    nightly.fleet.add("a")
    run = nightly.run()
    assert (run.status, run.failed) == (2, {"localhost"}), run.output
    assert "Connection refused" in run.messages["localhost"]
    assert run.of("Replace what it has of the former run")["localhost"]["url"].startswith("http://127.0.0.1:")
    assert value(nightly.written(), "nova_image_cache_report_timestamp_seconds") == nightly.generated()
