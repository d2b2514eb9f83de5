# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The documented rulebook, in the real ansible-rulebook: an alert prunes the host that it names, and no other."""

from __future__ import annotations

import json
import os
import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import DAY, ComputeFleet
from ansible_collections.stackops.nova.tests.support.monitoring import free_port, wait_until
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree, fingerprint

PAGE = Path(__file__).parents[2] / "docs/docsite/rst/every_night.rst"
FILE = re.compile(
    r"^\.\. code-block:: yaml\n   :caption: /etc/image-cache/(\w+\.yml)\n\n((?:(?:   .*)?\n)+)", re.MULTILINE
)
TOKEN = "a-secret-of-the-test"
ALL_PLAYBOOKS_SECONDS = 400  # one after the other, on a machine that has other work


class Rulebook:
    """A running rulebook."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self.log = log

    def send(self, labels: Any, *, status: str = "firing", token: str = TOKEN) -> int:
        """Send what Alertmanager does, and return the status of the answer."""
        payload = {"status": status, "commonLabels": labels, "alerts": [{"status": status, "labels": labels}]}
        request = Request(
            f"http://127.0.0.1:{self.port}/endpoint",
            data=json.dumps(payload).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        try:
            with urlopen(request) as answer:
                return int(answer.status)
        except HTTPError as refused:
            return refused.code


def alert(**labels: Any) -> dict[str, Any]:
    return {"alertname": "NovaImageCacheReclaimableOnFullDisk", "severity": "warning", **labels}


@pytest.fixture
def fleet(tmp_path: Path) -> ComputeFleet:
    fleet = ComputeFleet(tmp_path)
    for name in ("a", "b", "c"):
        fleet.add(name, image_cache_max_removal_percent=60)
    fleet.add("unlimited")
    fleet.add("shared", image_cache_max_removal_percent=60, image_cache_storage_group="rack")
    fleet.groups["rack"] = ["shared"]
    return fleet


@pytest.fixture
def rulebook(fleet: ComputeFleet) -> Iterator[Rulebook]:
    files = {name: textwrap.dedent(text) for name, text in FILE.findall(PAGE.read_text())}
    port = free_port()
    for name in ("rulebook.yml", "prune_alerted.yml"):
        text = files[name].replace("5000", str(port)).replace("/var/lib/image-cache", str(fleet.root / "reports"))
        (fleet.root / name).write_text(text)
    inventory = fleet.write_inventory()
    log = fleet.root / "rulebook.log"
    command = ["ansible-rulebook", "--rulebook", "rulebook.yml", "--inventory", str(inventory), "--env-vars", "TOKEN"]
    with log.open("wb") as output:
        running = subprocess.Popen(
            [*command, "--verbose"],
            cwd=fleet.root,
            stdout=output,
            stderr=output,
            env={**os.environ, "TOKEN": TOKEN, "ANSIBLE_LOCALHOST_WARNING": "0"},
        )
    rulebook = Rulebook(port, log)
    try:
        wait_until(lambda: _listens(rulebook), "the start of the rulebook")
        yield rulebook
    finally:
        running.terminate()
        running.wait()


def _listens(rulebook: Rulebook) -> bool:
    try:
        return rulebook.send({}, token="none") == 401
    except OSError:
        return False


def test_alert_prunes_the_host_that_it_names_and_no_other(fleet: ComputeFleet, rulebook: Rulebook) -> None:
    before = {name: fleet.cached(name) for name in fleet.hosts}
    unused = {name: {fingerprint(f"unused-{name}")} for name in fleet.hosts}
    assert rulebook.send(alert(host="b"), token="a wrong one") == 401
    for labels in (
        alert(),
        alert(host=""),
        alert(host=None),
        alert(host=["b"]),
        alert(host="nobody"),
        alert(host="all"),
        alert(host="b,c"),
        alert(host="compute"),
        alert(host="*"),
        alert(host="b:c"),
        alert(host="{{ groups['compute'][1] }}"),
        alert(host="unlimited"),
        alert(host="shared"),
        {"alertname": "NovaImageCacheBaseFileCorrupt", "host": "b"},
        {},
    ):
        assert rulebook.send(labels) == 200
    assert rulebook.send(alert(host="b"), status="resolved") == 200
    assert rulebook.send(alert(host="a")) == 200
    wait_until(lambda: fleet.cached("a") == before["a"] - unused["a"], "the prune of a", ALL_PLAYBOOKS_SECONDS)
    # All that came before it is done: one action at a time.
    assert {name: fleet.cached(name) for name in fleet.hosts if name != "a"} == {
        name: files for name, files in before.items() if name != "a"
    }, rulebook.log.read_text()

    metrics = fleet.root / "reports" / "image_cache.prom"
    wait_until(metrics.exists, "the report of that prune")
    pruned = [line for line in metrics.read_text().splitlines() if line.startswith("nova_image_cache_removed_files{")]
    assert [re.sub(r"{host=\"(\w+)\".*}", r" \1", line) for line in pruned] == ["nova_image_cache_removed_files a 1"]

    CacheTree(fleet.root / "a").base(fingerprint("unused-again"), age=3 * DAY, content=b"unused")
    rulebook.send(alert(host="a"))
    rulebook.send(alert(host="c"))
    wait_until(lambda: fleet.cached("c") == before["c"] - unused["c"], "the prune of c", ALL_PLAYBOOKS_SECONDS)
    assert fingerprint("unused-again") in fleet.cached("a"), "the host of an alert is pruned once in six hours"
