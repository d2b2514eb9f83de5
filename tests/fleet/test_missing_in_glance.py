# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A missing base file that Glance still has is reported as recoverable from there, and only where Glance was asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import ComputeFleet
from ansible_collections.stackops.nova.tests.support.openstack_apis import Cloud, cloud, write_clouds
from ansible_collections.stackops.nova.tests.support.precaches import image
from ansible_collections.stackops.nova.tools.cache_tree import fingerprint

API = {"image_cache_instance_source": "openstack", "image_cache_openstack_cloud": "lab"}
LOST, CONVERTED, OTHER = "a lost image", "a converted image", "an image that only nova converts"


@pytest.fixture
def compute(fleet: ComputeFleet, tmp_path: Path) -> ComputeFleet:
    """Three hosts: the guest of each needs a file that does not exist, of a raw, a converted and a vmdk image."""
    fleet.environment = {"OS_CLIENT_CONFIG_FILE": str(tmp_path / "clouds.yaml")}
    fleet.variables = {"image_cache_report_path": str(tmp_path / "report")}
    for name, each in (("a", LOST), ("b", CONVERTED), ("c", OTHER)):
        fleet.add(name).instance(f"instance-{name}", {"disk": fingerprint(each)})
    return fleet


@pytest.fixture
def apis(tmp_path: Path) -> Iterator[Cloud]:
    with cloud() as running:
        running.images["lab"] = [image(LOST), image(CONVERTED, disk_format="qcow2"), image(OTHER, disk_format="vmdk")]
        write_clouds(tmp_path, {"lab": running.url})
        yield running


def sources(tmp_path: Path) -> dict[str, Any]:
    """Where each missing file can be restored from, by its name, as report.json has it."""
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    found = [missing for storage in report["storages"] for missing in storage["missing"]]
    return {Path(missing["backing_file"]).name: missing["recoverable_from"] for missing in found}


@pytest.mark.usefixtures("apis")
def test_file_of_an_image_that_glance_lists_is_recoverable_from_there(compute: ComputeFleet, tmp_path: Path) -> None:
    run = compute.audit(**API, image_cache_report_view="storages")
    assert run.status == 0, run.output
    assert sources(tmp_path) == {
        fingerprint(LOST): "glance",
        fingerprint(CONVERTED): "glance",
        fingerprint(OTHER): None,
    }
    remedy = f"recoverable from Glance (image {LOST}): run ansible-playbook stackops.nova.restore --limit a"
    for text in (run.text, (tmp_path / "report" / "report.html").read_text()):
        assert f"{remedy} -e image_cache_restore_from_glance=true" in " ".join(text.replace("!!", "").split())
    metrics = (tmp_path / "report" / "image_cache.prom").read_text()
    counts = [
        line.split()[-1] for line in metrics.splitlines() if line.startswith("nova_image_cache_recoverable_files")
    ]
    assert counts == ["1", "1", "0"]


@pytest.mark.slow
def test_file_has_no_source_where_no_api_was_asked(compute: ComputeFleet, apis: Cloud, tmp_path: Path) -> None:
    run = compute.audit()
    assert run.status == 0, run.output
    assert set(sources(tmp_path).values()) == {None}
    assert apis.requests == []
