# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A base file that is missing comes back from a real Glance, proven by the checksum that Glance has of it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import ComputeFleet
from ansible_collections.stackops.nova.tests.support.constants import UUID
from ansible_collections.stackops.nova.tests.support.host import Host, opens, qemu_img_create
from ansible_collections.stackops.nova.tests.support.image_service import Auth, ImageService
from ansible_collections.stackops.nova.tests.support.processes import needs_root
from ansible_collections.stackops.nova.tests.support.run_module import ModuleRun, run_module
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree, fingerprint

pytestmark = needs_root

PART = "image_cache_restore"


@pytest.fixture
def image(service: ImageService, raw: Path) -> dict[str, Any]:
    return service.upload(raw)


@pytest.fixture
def disk(host: Host, image: dict[str, Any], raw: Path) -> Path:
    """The disk of a server on a host, whose base file is gone."""
    return disk_without_base(host, image, raw)


def disk_without_base(tree: CacheTree, image: dict[str, Any], raw: Path) -> Path:
    base = tree.base(fingerprint(image["id"]), content=raw.read_bytes())
    (tree.instances_path / UUID).mkdir()
    disk = qemu_img_create(tree.instances_path / UUID / "disk", "-f", "qcow2", "-b", base, "-F", "raw", size="16M")
    base.unlink()
    return disk


def restore(host: Host, service: ImageService, reader: Auth, image: dict[str, Any], *flags: str) -> ModuleRun:
    glance = {
        "endpoint": service.endpoint,
        "token": service.connect(reader).auth_token,
        "ca_cert": str(service.ca_cert),
    }
    return run_module("image_cache_restore", {**host.options(), "images": [image], "glance": glance}, *flags)


def test_missing_raw_base_file_comes_back_from_glance(
    host: Host, service: ImageService, reader: Auth, image: dict[str, Any], disk: Path
) -> None:
    base = host.cache_path / fingerprint(image["id"])
    dry = restore(host, service, reader, image, "--check")
    assert (dry.failed, base.exists(), service.downloads(image["id"])) == (False, False, []), dry.result
    run = restore(host, service, reader, image)
    assert not run.failed, run.result
    offers = [
        [(file["name"], file["image_id"], file["source"], file["proof"]) for file in each.result[PART]["restored"]]
        for each in (dry, run)
    ]
    assert offers == [[(base.name, image["id"], "glance", "checksum")]] * 2
    assert hashlib.sha512(base.read_bytes()).hexdigest() == image["os_hash_value"]
    assert opens(disk)


def test_base_file_is_not_restored_from_bytes_that_rot_in_the_store(
    host: Host, service: ImageService, reader: Auth, image: dict[str, Any], disk: Path
) -> None:
    service.damage(image["id"])
    before = host.cached()
    run = restore(host, service, reader, image)
    [failed] = run.result[PART]["failed"]
    assert (run.failed, host.cached()) == (True, before)
    assert "with other bytes than its record says" in failed["error"]
    assert not opens(disk)


def test_playbook_restores_what_was_saved_from_glance_as_its_dry_run_shows(
    fleet: ComputeFleet, service: ImageService, reader: Auth, image: dict[str, Any], raw: Path
) -> None:
    tree = fleet.add("a")
    disk, base = disk_without_base(tree, image, raw), tree.cache_path / fingerprint(image["id"])
    saved = fleet.root / "saved.raw"
    saved.write_bytes(service.connect(reader).image.get(f"/images/{image['id']}/file").content)
    given = {"image_cache_restore_files": {image["id"]: str(saved)}, "image_cache_glance_images": [image]}
    dry = fleet.restore("--check", **given)
    assert (dry.status, dry.changed, base.exists()) == (0, {"a"}, False), dry.output
    run = fleet.restore(**given)
    assert (run.status, run.changed) == (0, {"a"}), run.output
    [restored] = run.of("Report on the restore")["a"]["restore"]["restored"]
    assert (restored["name"], restored["proof"]) == (base.name, "checksum")
    assert hashlib.sha512(base.read_bytes()).hexdigest() == image["os_hash_value"]
    assert opens(disk)
