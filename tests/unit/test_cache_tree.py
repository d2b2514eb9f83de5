# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The made-up trees must be what nova and QEMU would have made, or every test on them proves nothing."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.tests.support.constants import BASE, UUID
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree, fingerprint, overlay_bytes

IMAGE_ID = "131d062c-6166-4aa7-bb6c-7ceae4a8201c"


def qemu_img_info(path: Path) -> dict[str, Any]:
    done = subprocess.run(["qemu-img", "info", "--output=json", path], check=True, capture_output=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(("version", "compat"), [(2, "0.10"), (3, "1.1")])
@pytest.mark.parametrize("virtual_size", [512, 1 << 30, (1 << 30) + 512, 5 << 40])
@pytest.mark.parametrize("backed", [False, True])
def test_overlay_is_clean_for_qemu(tmp_path: Path, version: int, compat: str, virtual_size: int, backed: bool) -> None:
    base = CacheTree(tmp_path).base(BASE)
    disk = tmp_path / "disk"
    disk.write_bytes(overlay_bytes(virtual_size, str(base) if backed else None, "raw" if backed else None, version))

    subprocess.run(["qemu-img", "check", "-q", disk], check=True)
    info = qemu_img_info(disk)
    assert (info["format"], info["virtual-size"]) == ("qcow2", virtual_size)
    assert info["format-specific"]["data"]["compat"] == compat
    assert info.get("backing-filename") == (str(base) if backed else None)
    assert info.get("backing-filename-format") == ("raw" if backed else None)


def test_overlay_can_be_written_by_qemu(tmp_path: Path) -> None:
    tree = CacheTree(tmp_path)
    tree.base(BASE, content=b"base")
    disk = tree.instance(UUID, {"disk": BASE}) / "disk"
    subprocess.run(["qemu-io", "-c", "write -P 7 64k 64k", "-c", "read -P 7 64k 64k", disk], check=True, timeout=30)
    subprocess.run(["qemu-img", "check", "-q", disk], check=True)


def test_instance_directory_is_like_novas(tmp_path: Path) -> None:
    tree = CacheTree(tmp_path)
    directory = tree.instance(UUID, {"disk": BASE, "disk.swap": "swap_64", "disk.local": None})
    assert {disk: qemu_img_info(directory / disk).get("backing-filename") for disk in ("disk", "disk.swap")} == {
        "disk": str(tree.cache_path / BASE),
        "disk.swap": str(tree.cache_path / "swap_64"),
    }
    assert "backing-filename" not in qemu_img_info(directory / "disk.local")
    assert json.loads((directory / "disk.info").read_text()) == {
        str(directory / "disk"): "qcow2",
        str(directory / "disk.swap"): "qcow2",
        str(directory / "disk.local"): "qcow2",
    }


def test_disk_info_of_a_pending_resize_names_the_directory_of_before(tmp_path: Path) -> None:
    tree = CacheTree(tmp_path)
    directory = tree.instance(f"{UUID}_resize", {"disk": BASE})
    assert json.loads((directory / "disk.info").read_text()) == {str(tree.instances_path / UUID / "disk"): "qcow2"}


def test_base_file_has_its_size_and_age(tmp_path: Path) -> None:
    path = CacheTree(tmp_path, now=1_000_000).base("swap_64", size=64 << 20, age=3600, content=b"swap")
    assert path == tmp_path / "instances" / "_base" / "swap_64"
    stat = path.stat()
    assert (stat.st_size, stat.st_mtime) == (64 << 20, 996_400)
    assert stat.st_blocks * 512 <= 1 << 20


def test_fingerprint_is_novas() -> None:
    assert fingerprint(IMAGE_ID) == BASE
