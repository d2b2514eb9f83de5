# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The commands that the page gives for an alert resolve that alert: they write the metrics, too."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from docutils.nodes import fully_normalize_name, make_id
from prometheus_client.parser import text_string_to_metric_families

from ansible_collections.stackops.nova.tests.support.compute_fleet import (
    DAY,
    UNREACHABLE,
    ComputeFleet,
    Run,
)
from ansible_collections.stackops.nova.tests.support.host import can_set_attributes
from ansible_collections.stackops.nova.tools.cache_tree import fingerprint

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs/docsite/rst"
RULES = yaml.safe_load((ROOT / "extensions/monitoring/nova_image_cache.rules").read_text())
HEADINGS = {
    rule["alert"]: rule["annotations"]["runbook_url"].partition("#")[2]
    for group in RULES["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
SECTION = re.compile(r"^(\S.*)\n~{3,}\n((?:(?!^\S.*\n[~\-=]{3,}\n).*\n)+)", re.MULTILINE)
COMMAND = re.compile(r"^   [$#] (.*)$", re.MULTILINE)
CONTINUED = re.compile(r" *\\\n *")
NIGHTLY = "systemctl start image-cache.service"
FOLDER = "/var/lib/image-cache"
USED, UNUSED = fingerprint("image-a"), fingerprint("unused-a")
INSTANCE = "6f5d4e3c-1b2a-4c3d-8e9f-0a1b2c3d4e5f"


def commands(alert: str) -> list[str]:
    """Return the commands under an alert's heading, each in one line."""
    sections = {
        make_id(fully_normalize_name(heading)): CONTINUED.sub(" ", text)
        for heading, text in SECTION.findall((PAGES / "monitoring.rst").read_text())
    }
    return COMMAND.findall(sections[HEADINGS[alert]])


def resolving(alert: str) -> list[str]:
    """Return those of them that audit, prune or start the nightly run; a dry run looks only, and so does a restore."""
    return [
        command
        for command in commands(alert)
        if command == NIGHTLY
        or (re.search(r"^ansible-playbook stackops\.nova\.(audit|prune) ", command) and "--check" not in command)
    ]


@pytest.mark.parametrize("alert", HEADINGS)
def test_each_command_that_resolves_an_alert_writes_the_metrics_of_the_nightly_runs(alert: str) -> None:
    assert resolving(alert)
    for command in resolving(alert):
        assert command == NIGHTLY or f"-e image_cache_report_path={FOLDER}" in command


def test_nightly_run_and_the_rulebook_write_the_metrics_that_the_commands_write() -> None:
    text = (PAGES / "every_night.rst").read_text()
    files = dict(re.findall(r"   :caption: \S*?([\w.-]+\.\w+)\n\n((?:(?:   .*)?\n)+)", text))
    assert "--extra-vars @night.yml" in files["image-cache.service"]
    assert yaml.safe_load(files["night.yml"])["image_cache_report_path"] == FOLDER
    [rule] = yaml.safe_load(files["rulebook.yml"])[0]["rules"]
    assert rule["action"]["run_playbook"]["extra_vars"]["image_cache_report_path"] == FOLDER


class Operator:
    """A person who has the commands of the page before them, and a fleet of one host, ``a``."""

    def __init__(self, root: Path) -> None:
        self.fleet = ComputeFleet(root)
        self.tree = self.fleet.add("a")
        self.reports = root / "reports"

    def type(self, command: str) -> Run:
        """Run a command of the page on this fleet."""
        program, playbook, *arguments = shlex.split(command.replace(FOLDER, str(self.reports)))
        assert program == "ansible-playbook"
        place = arguments.index("-i")
        del arguments[place : place + 2]
        return self.fleet.run_playbook(playbook, *(text.replace("compute-7", "a") for text in arguments))

    def night(self, playbook: str, **variables: object) -> None:
        self.fleet.run_playbook(playbook, **{"image_cache_report_path": str(self.reports), **variables})

    def value(self, metric: str) -> float:
        """Return the largest value of the host's series of a metric."""
        families = text_string_to_metric_families((self.reports / "image_cache.prom").read_text())
        samples = [sample for family in families for sample in family.samples]
        return max(each.value for each in samples if each.name == f"nova_image_cache_{metric}")


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    operator = Operator(tmp_path)
    yield operator
    subprocess.run(["chattr", "-i", str(operator.tree.cache_path / UNUSED)], check=False, capture_output=True)


def lose_a_file(operator: Operator) -> Callable[[], object]:
    operator.tree.instance(INSTANCE, {"disk": USED})
    (operator.tree.cache_path / USED).unlink()
    operator.night("stackops.nova.audit")
    return lambda: operator.tree.base(USED, age=3 * DAY, content=b"used")


def rot(operator: Operator) -> Callable[[], object]:
    verifying = {"image_cache_checksum_base_images": True}
    operator.night("stackops.nova.prune", **verifying)
    path = operator.tree.cache_path / USED
    good = path.read_bytes()
    path.write_bytes(bytes(len(good)))
    operator.night("stackops.nova.audit", **verifying, image_cache_checksum_interval_seconds=0)
    return lambda: path.write_bytes(good)


def be_silent(operator: Operator) -> Callable[[], object]:
    operator.night("stackops.nova.audit")
    hidden = operator.tree.cache_path.rename(operator.fleet.root / "elsewhere")
    operator.night("stackops.nova.audit")
    return lambda: hidden.rename(operator.tree.cache_path)


def exceed_a_limit(operator: Operator) -> Callable[[], object]:
    operator.night("stackops.nova.prune", image_cache_max_removals=0)
    return lambda: None


def hold_a_file(operator: Operator) -> Callable[[], object]:
    if not can_set_attributes(operator.fleet.root):
        pytest.skip("takes a file system with attributes, and CAP_LINUX_IMMUTABLE")
    path = str(operator.tree.cache_path / UNUSED)
    subprocess.run(["chattr", "+i", path], check=True)
    operator.night("stackops.nova.prune")
    return lambda: subprocess.run(["chattr", "-i", path], check=True)


def have_something_to_reclaim(operator: Operator) -> Callable[[], object]:
    operator.night("stackops.nova.audit")
    return lambda: None


def leave_an_orphan(operator: Operator) -> Callable[[], object]:
    orphan = operator.tree.instance(INSTANCE, {"disk": USED})
    operator.night("stackops.nova.audit")
    return lambda: orphan.rename(operator.fleet.root / "elsewhere")


@pytest.mark.parametrize(
    ("alert", "metric", "healthy", "break_and_return_repair"),
    [
        ("NovaImageCacheBaseFileMissing", "missing_files", 0, lose_a_file),
        ("NovaImageCacheBaseFileCorrupt", "corrupt_files", 0, rot),
        ("NovaImageCacheHostSilent", "cache_found", 1, be_silent),
        ("NovaImageCacheRemovalRefused", "removal_refused", 0, exceed_a_limit),
        ("NovaImageCacheRemovalFailed", "failed_removals", 0, hold_a_file),
        ("NovaImageCacheReclaimableOnFullDisk", "reclaimable_bytes", 0, have_something_to_reclaim),
        ("NovaImageCacheOrphans", "orphan_directories", 0, leave_an_orphan),
    ],
)
def test_metric_of_an_alert_is_healthy_once_its_commands_have_run_on_a_repaired_host(
    operator: Operator,
    alert: str,
    metric: str,
    healthy: float,
    break_and_return_repair: Callable[[Operator], Callable[[], object]],
) -> None:
    repair = break_and_return_repair(operator)
    assert operator.value(metric) != healthy
    repair()
    for command in resolving(alert):
        run = operator.type(command)
        assert run.status == 0, run.output
    assert operator.value(metric) == healthy


def test_host_whose_cache_is_gone_for_good_is_forgotten_as_the_page_says(operator: Operator) -> None:
    be_silent(operator)
    [command] = [each for each in commands("NovaImageCacheHostSilent") if each.startswith("sed ")]
    here = command.replace(FOLDER, str(operator.reports)).replace("compute-7", "a")
    subprocess.run(shlex.split(here), check=True)
    for command in resolving("NovaImageCacheHostSilent"):
        assert operator.type(command).status == 0
    metrics = (operator.reports / "image_cache.prom").read_text()
    assert "cache_found{" not in metrics
    assert 'nova_image_cache_files{host="a",' in metrics


def test_silent_host_has_answered_once_it_is_asked_as_the_page_says(operator: Operator) -> None:
    operator.fleet.hosts["a"] |= UNREACHABLE
    operator.fleet.add("b")
    operator.night("stackops.nova.audit")
    metrics = operator.reports / "image_cache.prom"
    assert 'nova_image_cache_host_answered{host="a"} 0' in metrics.read_text()
    del operator.fleet.hosts["a"]["ansible_remote_tmp"]
    for command in resolving("NovaImageCacheHostSilent"):
        assert operator.type(command).status == 0
    assert 'nova_image_cache_host_answered{host="a"} 1' in metrics.read_text()
