# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real programs that watch a fleet, on this machine: node exporter, Pushgateway, Prometheus, Alertmanager.

And who is notified.
"""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

RULES = Path(__file__).parents[2] / "extensions/monitoring/nova_image_cache.rules"
_TIME_LIMIT_SECONDS = 60


def wait_until(is_so: Callable[[], Any], what: str, seconds: float = _TIME_LIMIT_SECONDS) -> Any:
    """Wait until something is so, for some seconds at most, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := is_so():
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what} did not happen within {seconds} s")


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


class Receiver:
    """Whom Alertmanager notifies.

    :ivar notifications: the alerts of each notification, the last one last: their name, host and status.
    """

    def __init__(self) -> None:
        self.notifications: list[set[tuple[str, str, str]]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                alerts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["alerts"]
                receiver.notifications.append(
                    {(one["labels"]["alertname"], one["labels"].get("host", ""), one["status"]) for one in alerts}
                )
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **query: str) -> Any:
        with urlopen(f"{self.url}/api/v1/{path}?{urlencode(query)}") as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[Mapping[str, Any]]:
        """Return the series of an expression now."""
        return list(self.get("query", query=expression)["result"])

    def value(self, expression: str) -> float | None:
        series = self.query(expression)
        return float(series[0]["value"][1]) if series else None


class Watch(Prometheus):
    """Prometheus, which reads a textfile folder every second, and its Alertmanager, which notifies a receiver."""

    def __init__(self, url: str, receiver: Receiver) -> None:
        super().__init__(url)
        self.receiver = receiver

    def firing(self) -> set[tuple[str, str]]:
        """Return the name and host of each alert that fires."""
        return {
            (alert["labels"]["alertname"], alert["labels"].get("host", ""))
            for alert in self.get("alerts")["alerts"]
            if alert["state"] == "firing"
        }

    def wait_for_report(self, folder: Path) -> None:
        """Wait until a folder's report was scraped, and the rules were evaluated on it."""
        written = json.loads((folder / "report.json").read_text())["generated"]
        wait_until(lambda: self.value("nova_image_cache_report_timestamp_seconds") == written, "a scrape of the report")
        for _round in range(2):  # the first may have begun before
            last = self._evaluated()
            wait_until(lambda last=last: self._evaluated() != last, "an evaluation of the rules")

    def _evaluated(self) -> str:
        [group] = self.get("rules")["groups"]
        return str(group["lastEvaluation"])


@contextmanager
def watched(root: Path, folder: Path) -> Iterator[Watch]:
    """Watch a textfile folder with the alerts of the collection."""
    node_port, alertmanager_port, port = free_port(), free_port(), free_port()
    receiver = Receiver()
    alertmanager = {
        "route": {"receiver": "us", "group_wait": "1s", "group_interval": "1s", "repeat_interval": "1h"},
        "receivers": [{"name": "us", "webhook_configs": [{"url": receiver.url, "send_resolved": True}]}],
    }
    prometheus = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "node", "static_configs": [{"targets": [f"127.0.0.1:{node_port}"]}]}],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager_port}"]}]}]},
    }
    for name, settings in (("alertmanager.yml", alertmanager), ("prometheus.yml", prometheus)):
        (root / name).write_text(yaml.safe_dump(settings))
    commands = [
        exporter_command(node_port, folder),
        [
            "prometheus-alertmanager",
            f"--config.file={root / 'alertmanager.yml'}",
            f"--storage.path={root / 'alertmanager'}",
            "--cluster.listen-address=",
            f"--web.listen-address=127.0.0.1:{alertmanager_port}",
        ],
        prometheus_command(port, root),
    ]
    try:
        with running(root / "watch.log", commands):
            for each in (alertmanager_port, port):
                wait_for_start(f"http://127.0.0.1:{each}/-/ready")
            watch = Watch(f"http://127.0.0.1:{port}", receiver)
            wait_until(lambda: watch.query("up == 1"), "the first scrape")
            yield watch
    finally:
        receiver.stop()


def exporter_command(port: int, folder: Path) -> list[str]:
    """Return the command of a node exporter that shows a textfile folder, and nothing of its machine."""
    return [
        "prometheus-node-exporter",
        "--collector.disable-defaults",
        "--collector.textfile",
        f"--collector.textfile.directory={folder}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]


def prometheus_command(port: int, root: Path) -> list[str]:
    """Return the command of a Prometheus with the ``prometheus.yml`` of a folder, where it also keeps its data."""
    return [
        "prometheus",
        f"--config.file={root / 'prometheus.yml'}",
        f"--storage.tsdb.path={root / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]


@contextmanager
def pushgateway(root: Path, port: int) -> Iterator[str]:
    """Run a Pushgateway that remembers nothing of a former one, and give its address."""
    url = f"http://127.0.0.1:{port}"
    command = ["prometheus-pushgateway", f"--web.listen-address=127.0.0.1:{port}", "--persistence.file="]
    with running(root / "pushgateway.log", [command]):
        wait_for_start(f"{url}/-/ready")
        yield url


@contextmanager
def running(log_path: Path, commands: Sequence[Sequence[str]]) -> Iterator[Sequence[subprocess.Popen[bytes]]]:
    """Run programs side by side, which write into one log."""
    programs: list[subprocess.Popen[bytes]] = []
    with log_path.open("wb") as log:
        try:
            for command in commands:
                programs.append(subprocess.Popen(command, stdout=log, stderr=log))
            yield programs
        finally:
            for program in programs:
                program.terminate()
            for program in programs:
                program.wait()


def wait_for_start(url: str) -> None:
    """Wait until a program answers at the address that says whether it is ready."""
    wait_until(lambda: _is_ready(url), "the start of a program")


def _is_ready(url: str) -> bool:
    try:
        with urlopen(url) as answer:
            return bool(answer.status == 200)
    except (URLError, ConnectionError):
        return False
