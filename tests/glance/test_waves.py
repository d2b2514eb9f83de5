# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Eight containers of one site serve each other by ssh: Glance serves few copies, and a liar poisons nobody."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from hashlib import sha512
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import ComputeFleet, Run
from ansible_collections.stackops.nova.tests.support.containers import INSTANCES, NOVA, Container, whole
from ansible_collections.stackops.nova.tests.support.edge_site import EdgeSite, edge_site
from ansible_collections.stackops.nova.tests.support.image_service import ImageService
from ansible_collections.stackops.nova.tests.support.peers import lying_python_script
from ansible_collections.stackops.nova.tests.support.processes import needs_root, start_child
from ansible_collections.stackops.nova.tools.cache_tree import fingerprint

pytestmark = needs_root

LARGE_BYTES = 64 << 20
# Sixteen seconds for a large image.
SLOW = "4M"
OTHER, LYING_PYTHON = "/srv/other", "/usr/local/bin/lying-python"
SERVES_OTHER = f"cat {OTHER}"
ALLOWS_NO_CAT = "echo cat is not allowed >&2; exit 9"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeSite]:
    with edge_site(tmp_path_factory.mktemp("site"), 8) as running:
        yield running


@pytest.fixture(scope="module")
def service(site: EdgeSite) -> ImageService:
    return site.service


@pytest.fixture
def fleet(site: EdgeSite, tmp_path: Path) -> ComputeFleet:
    root = tmp_path / "fleet"
    root.mkdir()
    return site.fleet(root)


@pytest.fixture
def other(raw: Path, tmp_path: Path) -> Path:
    """A file that differs from the image in its last byte."""
    path = tmp_path / "other"
    path.write_bytes(raw.read_bytes()[:-1] + b"!")
    return path


def report(run: Run) -> Mapping[str, Any]:
    return next(iter(run.of("Report on the pre-caching").values()))["precache"]


def text_of(run: Run) -> str:
    """What the operator reads, in one line."""
    return " ".join(" ".join(next(iter(run.of("Report on the pre-caching").values()))["text"]).split())


def left_out(run: Run) -> dict[str, str]:
    """Why which hosts served nobody any more, by the report."""
    return {each["host"]: each["reason"] for each in report(run)["waves"]["left_out"]}


def sources(run: Run) -> set[str]:
    """The addresses of the hosts that served others, by the report."""
    fetched = report(run)["fetched"]
    return {each["source_path"].partition(":")[0] for each in fetched if each["source"] == "peer"}


def report_another_checksum(fleet: ComputeFleet, host: Container, other: Path) -> None:
    """Have a host report the checksum of a file that it does not have."""
    program = other.with_name("lying-python")
    program.write_text(lying_python_script("/usr/bin/python3", sha512(other.read_bytes()).hexdigest()))
    program.chmod(0o755)
    host.bring(program, LYING_PYTHON)
    fleet.hosts[host.name]["ansible_python_interpreter"] = LYING_PYTHON


def test_glance_serves_a_raw_image_once_and_a_converted_one_twice(
    site: EdgeSite, fleet: ComputeFleet, service: ImageService, raw: Path, qcow2: Path
) -> None:
    hosts = site.begin()
    size = raw.stat().st_size
    image, converted = service.upload(raw), service.upload(qcow2, "qcow2")
    dry = site.precache(fleet, image, "--check")
    assert (dry.status, dry.changed, site.served_copies(image)) == (0, {host.name for host in hosts}, 0), dry.output
    assert "from other hosts, in 4 waves. Nothing was fetched" in text_of(dry)
    assert [host.content() for host in hosts] == [{}] * 8

    run = site.precache(fleet, image)
    assert (run.status, run.changed) == (0, dry.changed), run.output
    assert (service.downloads(image["id"]), site.served_copies(image)) == ([0], 1)
    content = {fingerprint(image["id"]): raw.read_bytes()}
    assert [host.content() for host in hosts] == [whole(content)] * 8
    waves = report(run)["waves"]
    assert (waves["number"], len(waves["seconds"]), waves["left_out"]) == (4, 4, [])
    assert report(run)["read_bytes"] == {"file": 0, "glance": size, "peer": 7 * size}
    assert sources(run) == {host.address for host in hosts[:4]}

    run = site.precache(fleet, converted)
    assert (run.status, run.changed) == (0, dry.changed), run.output
    assert (service.downloads(converted["id"]), site.served_copies(converted)) == ([0, 0], 2)
    content[fingerprint(converted["id"])] = raw.read_bytes()
    assert [host.content() for host in hosts] == [whole(content)] * 8
    assert {each["checksum"] for each in report(run)["fetched"]} == {sha512(raw.read_bytes()).hexdigest()}
    assert (report(run)["waves"]["number"], report(run)["waves"]["left_out"]) == (3, [])
    assert "in 3 waves" in text_of(run)


def test_hosts_that_serve_nobody_any_more_are_named_and_all_others_get_the_image(
    site: EdgeSite, fleet: ComputeFleet, service: ImageService, tmp_path: Path
) -> None:
    """The sshd of the first host ends in the middle of a transfer, and the second one allows no cat."""
    stopped, silent, *_others = hosts = site.begin({1: ALLOWS_NO_CAT})
    path = tmp_path / "large.raw"
    path.write_bytes(os.urandom(LARGE_BYTES))
    image = service.upload(path)
    fleet.hosts[silent.name]["image_cache_precache_max_rate"] = SLOW
    finish = start_child(lambda: site.precache(fleet, image))
    try:
        silent.wait_until_writing(LARGE_BYTES // 4)
        stopped.stop_sshd()
    finally:
        run = finish()
    assert (run.status, run.failed, run.unreachable) == (0, set(), set()), run.output
    content = whole({fingerprint(image["id"]): path.read_bytes()})
    assert [host.content() for host in hosts] == [content] * 8
    reasons = left_out(run)
    assert reasons.keys() == {stopped.name, silent.name}
    assert "it could not serve" in reasons[stopped.name]
    assert "it says: cat is not allowed" in reasons[silent.name]
    assert (service.downloads(image["id"]), site.served_copies(image)) == ([0] * 3, 3)
    waves = report(run)["waves"]
    assert waves["number"] == len(waves["seconds"])
    text = text_of(run)
    assert "192 MiB from Glance, 320 MiB from other hosts, in" in text
    assert f"LEFT OUT: these hosts served others no more. See what is wrong with them. - {stopped.name}" in text


def test_hosts_that_serve_or_report_other_bytes_of_a_raw_image_get_nothing_into_other_caches(
    site: EdgeSite, fleet: ComputeFleet, service: ImageService, raw: Path, other: Path
) -> None:
    """The first one serves other bytes, the second one reports another checksum, and the third one does both."""
    serves, reports, does_both, *_honest = hosts = site.begin({0: SERVES_OTHER, 2: SERVES_OTHER})
    for host in (serves, does_both):
        host.bring(other, OTHER)
    for host in (reports, does_both):
        report_another_checksum(fleet, host, other)
    image = service.upload(raw)
    run = site.precache(fleet, image)
    assert (run.failed, run.unreachable) == ({reports.name, does_both.name}, set()), run.output
    assert "by Glance's record it is" in run.messages[reports.name]
    content = whole({fingerprint(image["id"]): raw.read_bytes()})
    assert [host.content() for host in hosts] == [content] * 8
    reasons = left_out(run)
    assert reasons.keys() == {serves.name, reports.name, does_both.name}
    assert "their sha512 is" in reasons[serves.name]
    assert "it reports another checksum" in reasons[reports.name]
    assert not {host.address for host in (serves, reports, does_both)} & sources(run)
    assert service.downloads(image["id"]) == [0] * 4


def test_one_of_the_hosts_that_convert_gets_nothing_into_other_caches(
    site: EdgeSite, fleet: ComputeFleet, service: ImageService, raw: Path, qcow2: Path, other: Path
) -> None:
    """The first of those that convert reports and serves other bytes, a later one serves, and another reports them."""
    does_both, converts, serves, reports, *_honest = hosts = site.begin({0: SERVES_OTHER, 2: SERVES_OTHER})
    for host in (does_both, serves):
        host.bring(other, OTHER)
    for host in (does_both, reports):
        report_another_checksum(fleet, host, other)
    image = service.upload(qcow2, "qcow2")
    run = site.precache(fleet, image)
    assert (run.failed, run.unreachable) == ({does_both.name, reports.name}, set()), run.output
    assert "other hosts agree on" in run.messages[does_both.name]
    content = whole({fingerprint(image["id"]): raw.read_bytes()})
    assert [host.content() for host in hosts] == [content] * 8
    assert left_out(run).keys() == {does_both.name, serves.name, reports.name}
    assert converts.address in sources(run)
    assert not {host.address for host in (does_both, serves, reports)} & sources(run)
    assert service.downloads(image["id"]) == [0] * 3


def test_file_that_glance_has_no_more_is_restored_from_one_of_two_hosts_that_agree(
    site: EdgeSite, fleet: ComputeFleet, service: ImageService, raw: Path, other: Path
) -> None:
    """A host that serves other bytes comes first, and one that has another file is outvoted."""
    serves, honest, lacks, differs, *_without = site.begin({0: SERVES_OTHER})
    serves.bring(other, OTHER)
    image = service.upload(raw)
    base = fingerprint(image["id"])
    for host, path in ((serves, raw), (honest, raw), (lacks, raw), (differs, other)):
        (host.cache_path / base).write_bytes(path.read_bytes())
        os.chown(host.cache_path / base, NOVA, NOVA)
    lacks.add_disk("stopped/disk", base)
    (lacks.cache_path / base).unlink()
    service.delete(image["id"])
    run = fleet.restore("--forks=4", image_cache_restore_from_glance=True)
    assert (run.status, run.changed) == (0, {lacks.name}), run.output
    assert lacks.content() == whole({base: raw.read_bytes()})
    [restored] = next(iter(run.of("Report on the restore").values()))["restore"]["restored"]
    assert (restored["host"], restored["source"], restored["proof"]) == (lacks.name, "peer", "agreed")
    assert restored["source_path"] == f"{honest.address}:{INSTANCES}/_base/{base}"
    assert service.downloads(image["id"]) == []
