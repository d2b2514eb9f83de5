# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Four containers with networks and disks of their own are pre-cached and get missing files back, whatever dies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import ComputeFleet, Run
from ansible_collections.stackops.nova.tests.support.containers import (
    CA_CERT,
    INSTANCES,
    NOVA,
    Changes,
    Container,
    Containers,
    containers,
    whole,
)
from ansible_collections.stackops.nova.tests.support.image_service import ImageService, image_service
from ansible_collections.stackops.nova.tests.support.processes import needs_root, start_child
from ansible_collections.stackops.nova.tools.cache_tree import fingerprint

pytestmark = needs_root

LARGE_BYTES = 64 << 20
# Sixteen seconds for a large image.
SLOW = "4M"
NOTHING = Changes(gone=[], new=[], changed=[], touched=[])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    with containers(tmp_path_factory.mktemp("containers"), 4) as running:
        yield running


@pytest.fixture(scope="module")
def service(made: Containers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageService]:
    """Keystone and Glance in the network of the containers, where nothing of theirs is on the loopback."""
    with image_service(tmp_path_factory.mktemp("cloud"), made.address) as running:
        yield running


@pytest.fixture(autouse=True)
def hosts(made: Containers, service: ImageService) -> list[Container]:
    """Four hosts without instances, which trust the certificate of Glance."""
    for container in made.hosts:
        container.reset()
        container.bring(service.ca_cert, CA_CERT)
    return made.hosts


@pytest.fixture
def fleet(fleet: ComputeFleet, made: Containers) -> ComputeFleet:
    made.add_to(fleet)
    return fleet


@pytest.fixture
def large(service: ImageService, tmp_path: Path) -> dict[str, Any]:
    """An image that takes a while."""
    path = tmp_path / "large.raw"
    path.write_bytes(os.urandom(LARGE_BYTES))
    return service.upload(path)


def precache(fleet: ComputeFleet, *images: dict[str, Any], check: bool = False, **variables: Any) -> Run:
    """Pre-cache images on all hosts at once."""
    wanted = [image["id"] for image in images]
    arguments = ["--check"] if check else []
    return fleet.run_playbook(
        "stackops.nova.precache", "--forks=4", *arguments, image_cache_precache_images=wanted, **variables
    )


def restore(fleet: ComputeFleet, *arguments: str) -> Run:
    """Restore on all hosts at once."""
    return fleet.restore("--forks=4", *arguments, image_cache_restore_from_glance=True)


def fetched(run: Run) -> set[tuple[str, str]]:
    """Which image comes to which host, by the report."""
    report = next(iter(run.of("Report on the pre-caching").values()))["precache"]
    return {(image["host"], image["image_id"]) for image in report["fetched"]}


def restored(run: Run) -> set[tuple[str, str, str]]:
    """Which file comes back on which host and from where, by the report."""
    report = next(iter(run.of("Report on the restore").values()))["restore"]
    return {(file["host"], file["name"], file["source"]) for file in report["restored"]}


def test_four_containers_get_what_the_dry_run_lists_byte_for_byte(
    fleet: ComputeFleet, hosts: list[Container], service: ImageService, raw: Path, qcow2: Path
) -> None:
    images = [service.upload(raw), service.upload(qcow2, "qcow2")]
    content = {fingerprint(image["id"]): raw.read_bytes() for image in images}
    for host in hosts:
        host.remember_files()
    dry = precache(fleet, *images, check=True)
    assert (dry.status, dry.changed) == (0, {host.name for host in hosts}), dry.output
    assert fetched(dry) == {(host.name, image["id"]) for host in hosts for image in images}
    assert [host.changes() for host in hosts] == [NOTHING] * 4
    assert [service.downloads(image["id"]) for image in images] == [[], []]

    run = precache(fleet, *images)
    assert (run.status, run.changed, fetched(run)) == (0, dry.changed, fetched(dry)), run.output
    assert [service.downloads(image["id"]) for image in images] == [[0] * 4, [0] * 4]
    files = {f"{INSTANCES}/_base/{name}{suffix}" for name in content for suffix in ("", ".info")}
    locks = {f"{INSTANCES}/locks/nova-{name}" for name in content}
    for host in hosts:
        assert host.content() == whole(content)
        changes = host.changes()
        assert (changes.gone, changes.changed, files <= set(changes.new)) == ([], [], True), changes
        assert set(changes.new) <= files | locks
        assert set(changes.touched) <= {f"{INSTANCES}/_base", f"{INSTANCES}/locks"}
    again = precache(fleet, *images)
    assert (again.status, again.changed) == (0, set()), again.output


def test_container_that_is_killed_in_the_middle_has_nothing_half_done_and_stops_no_other(
    fleet: ComputeFleet, hosts: list[Container], service: ImageService, raw: Path, large: dict[str, Any]
) -> None:
    small = service.upload(raw)
    had = {fingerprint(small["id"]): raw.read_bytes()}
    content = {**had, fingerprint(large["id"]): service.stored(large["id"]).read_bytes()}
    killed, *others = hosts
    fleet.hosts[killed.name]["image_cache_precache_max_rate"] = SLOW
    before = [host.nameless_bytes() for host in hosts]
    finish = start_child(lambda: precache(fleet, small, large))
    try:
        killed.wait_until_writing(LARGE_BYTES // 4)
    finally:
        killed.kill()
        run = finish()
    assert (run.unreachable, run.failed) == ({killed.name}, set()), run.output
    assert killed.content() == whole(had)
    assert [host.content() for host in others] == [whole(content)] * 3
    assert [host.nameless_bytes() for host in hosts] == before

    killed.start()
    again = precache(fleet, small, large)
    assert (again.status, again.changed) == (0, {killed.name}), again.output
    assert [host.content() for host in hosts] == [whole(content)] * 4
    assert [host.nameless_bytes() for host in hosts] == before


def test_disk_that_fills_in_the_middle_keeps_what_it_had_and_stops_no_other(
    fleet: ComputeFleet, hosts: list[Container], service: ImageService, raw: Path, large: dict[str, Any]
) -> None:
    small = service.upload(raw)
    had = {fingerprint(small["id"]): raw.read_bytes()}
    content = {**had, fingerprint(large["id"]): service.stored(large["id"]).read_bytes()}
    full, *others = hosts
    fleet.hosts[full.name]["image_cache_precache_max_rate"] = SLOW
    before = [host.nameless_bytes() for host in hosts]
    finish = start_child(lambda: precache(fleet, small, large))
    try:
        full.wait_until_writing(LARGE_BYTES // 4)
        filling = full.fill_disk()
    finally:
        run = finish()
    assert (run.failed, run.unreachable) == ({full.name}, set()), run.output
    assert "No space left on device. Free some space (df)" in run.messages[full.name]
    assert full.content() == whole(had)
    assert [host.content() for host in others] == [whole(content)] * 3
    assert [host.nameless_bytes() for host in hosts] == before

    filling.unlink()
    again = precache(fleet, small, large)
    assert (again.status, again.changed) == (0, {full.name}), again.output
    assert [host.content() for host in hosts] == [whole(content)] * 4
    assert [host.nameless_bytes() for host in hosts] == before


def test_glance_that_dies_in_the_middle_leaves_nothing_half_done_and_stops_no_other_image(
    fleet: ComputeFleet, hosts: list[Container], service: ImageService, raw: Path, large: dict[str, Any]
) -> None:
    small, brought = service.upload(raw), service.upload(raw)
    content = {fingerprint(image["id"]): raw.read_bytes() for image in (small, brought)}
    images = (small, large, brought)
    for host in hosts:
        host.bring(raw, "/root/brought.raw")
    given = {"image_cache_precache_files": {brought["id"]: "/root/brought.raw"}}
    before = [host.nameless_bytes() for host in hosts]
    finish = start_child(lambda: precache(fleet, *images, image_cache_precache_max_rate=SLOW, **given))
    try:
        for host in hosts:
            host.wait_until_writing(LARGE_BYTES // 4)
    finally:
        service.kill_glance()
        run = finish()
        service.start_glance()
    assert (run.failed, run.unreachable) == ({host.name for host in hosts}, set()), run.output
    assert all("The connection failed: Connection refused" in run.messages[host.name] for host in hosts), run.messages
    assert [host.content() for host in hosts] == [whole(content)] * 4
    assert [host.nameless_bytes() for host in hosts] == before

    again = precache(fleet, *images, **given)
    content[fingerprint(large["id"])] = service.stored(large["id"]).read_bytes()
    assert (again.status, again.changed) == (0, run.failed), again.output
    assert [host.content() for host in hosts] == [whole(content)] * 4
    assert [host.nameless_bytes() for host in hosts] == before


def test_four_containers_get_back_what_the_dry_run_lists_byte_for_byte(
    fleet: ComputeFleet, hosts: list[Container], service: ImageService, raw: Path
) -> None:
    image = service.upload(raw)
    base = fingerprint(image["id"])
    lost = {host.name: {base: raw.read_bytes(), "swap_4": os.urandom(4 << 20)} for host in hosts}
    for host in hosts:
        for name, content in lost[host.name].items():
            (host.cache_path / name).write_bytes(content)
            os.chown(host.cache_path / name, NOVA, NOVA)
        host.add_disk("stopped/disk", base)
        host.add_disk("running/disk.swap", "swap_4")
        host.start_guest("running/disk.swap")
        for name in lost[host.name]:
            (host.cache_path / name).unlink()
        host.remember_files()
    dry = restore(fleet, "--check")
    assert (dry.status, dry.changed) == (0, {host.name for host in hosts}), dry.output
    assert restored(dry) == {
        each for host in hosts for each in [(host.name, base, "glance"), (host.name, "swap_4", "process")]
    }
    assert [host.changes() for host in hosts] == [NOTHING] * 4
    assert service.downloads(image["id"]) == []

    run = restore(fleet)
    assert (run.status, run.changed, restored(run)) == (0, dry.changed, restored(dry)), run.output
    for host in hosts:
        assert host.content() == whole(lost[host.name])
        changes = host.changes()
        assert (changes.gone, changes.changed) == ([], [])
    again = restore(fleet)
    assert (again.status, again.changed) == (0, set()), again.output
