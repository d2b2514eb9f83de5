# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""On a host without a cache nothing is made, nothing is removed, and it is said why there is nothing to do."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import ComputeFleet, names, picture
from ansible_collections.stackops.nova.tests.support.processes import mount, with_own_mounts
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree


@pytest.mark.slow
@pytest.mark.parametrize("images_type", ["rbd", "lvm"])
def test_host_whose_disks_are_not_files_has_nothing_to_prune_and_a_reason(
    fleet: ComputeFleet, images_type: str
) -> None:
    fleet.add("other")
    tree = fleet.add("a")
    for path in [*tree.cache_path.iterdir()]:
        path.unlink()
    tree.cache_path.rmdir()
    configuration = fleet.root / "nova.conf"
    configuration.write_text(
        f"[DEFAULT]\ninstances_path = {tree.instances_path}\n[libvirt]\nimages_type = {images_type}\n"
    )
    del fleet.hosts["a"]["image_cache_instances_path"]
    fleet.hosts["a"]["image_cache_config_file"] = str(configuration)
    before = picture(tree.root)
    run = fleet.prune(image_cache_report_view="storages")
    assert (run.status, run.changed, picture(tree.root)) == (0, {"other"}, before), run.output
    assert "There is no such directory, so there is nothing to do." in run.text
    assert "images_type" in run.text
    assert run.of("Prune the image cache")["a"]["removed"] == []


def test_host_whose_instances_are_not_mounted_fails_and_the_others_go_on(fleet: ComputeFleet, tmp_path: Path) -> None:
    fleet.add("other")
    mount_point = tmp_path / "not mounted"
    fleet.add("a", image_cache_instances_path=str(mount_point))
    run = fleet.prune()
    assert (run.failed, run.changed, mount_point.exists()) == ({"a"}, {"other"}, False), run.output
    assert f"instances_path {mount_point} does not exist on this host" in run.messages["a"]
    assert fleet.cached("other") == names("image-other")


def test_empty_mount_point_stays_empty(fleet: ComputeFleet, tmp_path: Path) -> None:
    mount_point = tmp_path / "nothing mounted"
    mount_point.mkdir()
    fleet.add("a", image_cache_instances_path=str(mount_point))
    run = fleet.prune()
    assert (run.status, run.changed, list(mount_point.iterdir())) == (0, set(), []), run.output
    assert "or what lies there is not mounted" in " ".join(run.text.split())


class Metrics:
    """What the audits of a fleet write into a folder."""

    def __init__(self, fleet: ComputeFleet, folder: Path) -> None:
        self._fleet = fleet
        self.folder = folder

    def after_audit(self) -> list[str]:
        """Audit, and return what the metrics say, without the times that each run renews."""
        run = self._fleet.audit(image_cache_report_path=str(self.folder))
        assert run.status == 0, run.output
        text = (self.folder / "image_cache.prom").read_text()
        return [line for line in text.splitlines() if "report_timestamp" not in line and "answer_timestamp" not in line]


def found(tree: CacheTree, value: int) -> str:
    return f'nova_image_cache_cache_found{{host="a",cache_path="{tree.cache_path}"}} {value}'


@pytest.mark.slow
def test_metrics_of_a_host_whose_cache_is_gone_are_kept(fleet: ComputeFleet, tmp_path: Path) -> None:
    tree = fleet.add("a")
    metrics = Metrics(fleet, tmp_path / "report")
    before = metrics.after_audit()
    mounted = tree.instances_path.rename(tmp_path / "elsewhere")
    tree.instances_path.mkdir()
    assert metrics.after_audit() == [line.replace(found(tree, 1), found(tree, 0)) for line in before]
    tree.instances_path.rmdir()
    mounted.rename(tree.instances_path)
    assert found(tree, 1) in metrics.after_audit()


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes the rights of root")
def test_metrics_of_a_host_with_a_bare_cache_below_its_lost_mount_are_kept(fleet: ComputeFleet, tmp_path: Path) -> None:
    tree = fleet.add("a")
    disk = tree.instances_path.rename(tmp_path / "disk")
    tree.cache_path.mkdir(parents=True)
    metrics = Metrics(fleet, tmp_path / "report")

    def lose_the_mount() -> None:
        mount("--bind", disk, tree.instances_path)
        before = metrics.after_audit()
        subprocess.run(["umount", tree.instances_path], check=True)
        for _night in range(2):
            assert metrics.after_audit() == [line.replace(found(tree, 1), found(tree, 0)) for line in before]
        mount("--bind", disk, tree.instances_path)
        for path in tree.cache_path.iterdir():
            path.unlink()
        emptied = metrics.after_audit()
        assert found(tree, 1) in emptied
        assert all(line.endswith(" 0") for line in emptied if line.startswith("nova_image_cache_files{"))

    with_own_mounts(lose_the_mount)
