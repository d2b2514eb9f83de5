# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts with processes and mounts of their own are pre-cached, with nova's directory where it usually is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import ComputeFleet, Run, cached, names, picture
from ansible_collections.stackops.nova.tests.support.image_service import ImageService
from ansible_collections.stackops.nova.tests.support.machines import NOVA, Machine
from ansible_collections.stackops.nova.tests.support.processes import needs_root, start_child
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree, fingerprint

pytestmark = needs_root

HOSTS = "abcd"
LARGE_BYTES = 64 << 20


@pytest.fixture
def start(fleet: ComputeFleet) -> Iterator[Callable[[str], Machine]]:
    """Starts a host of the fleet, which ends with the test."""
    with ExitStack() as ending:

        def start_machine(name: str) -> Machine:
            machine = Machine(fleet, name)
            machine.start()
            ending.callback(machine.kill)
            return machine

        yield start_machine


def precache(fleet: ComputeFleet, *images: dict[str, Any], check: bool = False) -> Run:
    wanted = [image["id"] for image in images]
    arguments = ["--check"] if check else []
    return fleet.run_playbook("stackops.nova.precache", *arguments, image_cache_precache_images=wanted)


def images_in(tree: CacheTree) -> set[str]:
    """The files of a cache, without the facts that are saved of them."""
    return {name for name in cached(tree) if not name.endswith(".info")}


def test_four_hosts_get_what_the_dry_run_lists(
    fleet: ComputeFleet, start: Callable[[str], Machine], service: ImageService, raw: Path, qcow2: Path
) -> None:
    trees = [start(name).tree for name in HOSTS]
    images = [service.upload(raw), service.upload(qcow2, "qcow2")]
    before = [picture(tree.root) for tree in trees]
    dry = precache(fleet, *images, check=True)
    assert (dry.status, dry.changed, [picture(tree.root) for tree in trees]) == (0, set(HOSTS), before), dry.output

    run = precache(fleet, *images)
    assert (run.status, run.changed) == (0, set(HOSTS)), run.output
    for tree in trees:
        assert images_in(tree) == names(*(image["id"] for image in images))
        for image in images:
            base = tree.cache_path / fingerprint(image["id"])
            status = base.stat()
            assert base.read_bytes() == raw.read_bytes()
            assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (NOVA, NOVA, 0o644)
    assert precache(fleet, *images).changed == set()


def test_host_that_is_killed_in_the_middle_has_nothing_half_done_and_stops_no_other(
    fleet: ComputeFleet, start: Callable[[str], Machine], service: ImageService, tmp_path: Path
) -> None:
    (tmp_path / "large.raw").write_bytes(os.urandom(LARGE_BYTES))
    image = service.upload(tmp_path / "large.raw")
    killed, other = start("a"), start("b")
    # A second for a quarter of the image.
    fleet.hosts["a"]["image_cache_precache_max_rate"] = "16M"
    finish = start_child(lambda: precache(fleet, image))
    try:
        killed.wait_until_writing(LARGE_BYTES // 4)
    finally:
        killed.kill()
        run = finish()
    assert run.failed | run.unreachable == {"a"}, run.output
    assert (images_in(killed.tree), images_in(other.tree)) == (set(), names(image["id"])), run.output

    killed.start()
    again = precache(fleet, image)
    assert (again.status, again.changed) == (0, {"a"}), again.output
    for machine in (killed, other):
        base = machine.tree.cache_path / fingerprint(image["id"])
        assert base.read_bytes() == service.stored(image["id"]).read_bytes()
