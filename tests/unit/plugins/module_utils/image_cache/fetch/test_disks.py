# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is built on a base file, there or not, as the headers of real images say it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.backing_chain import open_image
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.disk_references import backing_file_resolver
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.disks import (
    DiskTools,
    find_overlays,
    is_self_contained,
    made_at,
    read_content,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.proof import Content, Overlay
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.snapshot import names_by_inode
from ansible_collections.stackops.nova.tests.support.constants import BASE, OTHER_BASE, OTHER_UUID, UUID
from ansible_collections.stackops.nova.tests.support.host import Host, create_image, qemu_img_create, snapshot_of
from ansible_collections.stackops.nova.tests.support.params import run_command

MIB = 1 << 20


def overlays_on(
    host: Host, users: Mapping[str, Iterable[str]], *external_disks: tuple[str, str, str]
) -> dict[str, list[Overlay]]:
    """What is built on the base files of these names, by the disks of these instances."""

    def name_of(path: str) -> str | None:
        return os.path.basename(path) if os.path.dirname(path) == str(host.cache_path) else None

    files = names_by_inode(snapshot_of(host).files)
    directories = [os.path.dirname(path) for _instance, path, _format in external_disks]
    tools = DiskTools(
        instances_path=str(host.instances_path),
        cache_path=str(host.cache_path),
        external_disks=external_disks,
        resolve=backing_file_resolver(str(host.cache_path), files, str(host.instances_path), directories),
        on_host=str,
        name_of=name_of,
        run_command=run_command,
        open_file=open_image,
    )
    return find_overlays(users, tools)


def overlay(disk: Path, instance: str, size: int = MIB, backing_format: str | None = "raw") -> Overlay:
    """What is known of an image that a disk, or what is below it, has in its chain."""
    status = disk.stat()
    return Overlay(str(disk), instance, (status.st_dev, status.st_ino), status.st_uid, backing_format, size)


class TestOverlays:
    def test_disk_is_found_with_what_its_header_says(self, host: Host) -> None:
        base = host.base(BASE)
        (host.instances_path / UUID).mkdir()
        disk = qemu_img_create(host.instances_path / UUID / "disk", "-f", "qcow2", "-b", base, "-F", "raw", size="3M")
        assert overlays_on(host, {BASE: [UUID]}) == {BASE: [overlay(disk, UUID, 3 * MIB)]}

    def test_disk_on_a_base_file_that_is_gone_is_found_by_the_name_in_its_header(self, host: Host) -> None:
        disk = host.overlay(UUID, host.cache_path / BASE, None)
        assert overlays_on(host, {BASE: [UUID]}) == {BASE: [overlay(disk, UUID, backing_format=None)]}

    def test_disk_that_names_a_base_file_by_another_path_is_found(self, host: Host) -> None:
        host.base(BASE)
        (host.root / "alias").symlink_to(host.cache_path)
        disk = host.overlay(UUID, host.root / "alias" / BASE)
        assert overlays_on(host, {BASE: [UUID]}) == {BASE: [overlay(disk, UUID)]}

    def test_disk_on_a_file_of_another_directory_that_is_gone_hides_no_other(self, host: Host) -> None:
        host.overlay(UUID, host.instances_path / "gone")
        disk = host.overlay(OTHER_UUID, host.base(BASE))
        assert overlays_on(host, {BASE: [UUID, OTHER_UUID]}) == {BASE: [overlay(disk, OTHER_UUID)]}

    def test_base_file_without_a_disk_on_it_has_no_overlay(self, host: Host) -> None:
        host.overlay(UUID, host.base(BASE))
        assert overlays_on(host, {OTHER_BASE: [UUID]}) == {OTHER_BASE: []}

    def test_image_in_the_middle_of_a_chain_counts_for_the_disk_on_top(self, host: Host) -> None:
        """A process has the disk open for writing, and the base file must fit the image that is directly on it."""
        lowest = host.base(OTHER_BASE)
        middle = qemu_img_create(host.cache_path / BASE, "-f", "qcow2", "-b", lowest, "-F", "raw", size="2M")
        (host.instances_path / UUID).mkdir()
        disk = qemu_img_create(host.instances_path / UUID / "disk", "-f", "qcow2", "-b", middle, "-F", "qcow2")
        assert overlays_on(host, {BASE: [UUID], OTHER_BASE: [UUID]}) == {
            BASE: [overlay(disk, UUID, backing_format="qcow2")],
            OTHER_BASE: [overlay(disk, UUID, 2 * MIB)],
        }

    def test_snapshot_between_a_disk_and_its_base_file_is_passed(self, host: Host) -> None:
        base = host.base(BASE)
        (host.instances_path / UUID).mkdir()
        snapshot = create_image(host.instances_path / UUID / "snapshot", over=base, over_format="raw")
        disk = create_image(host.instances_path / UUID / "disk", over=snapshot)
        assert overlays_on(host, {BASE: [UUID]}) == {BASE: [overlay(disk, UUID)]}

    def test_base_file_that_a_header_calls_raw_is_not_read(self, host: Host) -> None:
        """A guest wrote those bytes, and may have written the header of an overlay."""
        host.base(OTHER_BASE)
        forged = create_image(host.cache_path / BASE, over=host.cache_path / OTHER_BASE, over_format="raw")
        disk = host.overlay(UUID, forged)
        assert overlays_on(host, {BASE: [UUID], OTHER_BASE: [UUID]}) == {BASE: [overlay(disk, UUID)], OTHER_BASE: []}

    def test_chain_that_runs_in_a_circle_ends(self, host: Host) -> None:
        directory = host.instances_path / UUID
        directory.mkdir()
        create_image(directory / "snapshot", over=directory / "disk", unchecked=True)
        create_image(directory / "disk", over=directory / "snapshot", unchecked=True)
        assert overlays_on(host, {BASE: [UUID]}) == {BASE: []}

    def test_disk_that_stands_alone_is_built_on_nothing(self, host: Host) -> None:
        (host.instances_path / UUID).mkdir()
        create_image(host.instances_path / UUID / "disk")
        assert overlays_on(host, {BASE: [UUID]}) == {BASE: []}

    def test_disk_that_cannot_be_read_hides_no_other(self, host: Host) -> None:
        host.disk(UUID, b"QFI\xfb")
        gone = (UUID, str(host.root / "gone"), "qcow2")
        disk = host.overlay(OTHER_UUID, host.base(BASE))
        assert overlays_on(host, {BASE: [UUID, OTHER_UUID]}, gone) == {BASE: [overlay(disk, OTHER_UUID)]}

    def test_no_descriptor_is_left_open(self, host: Host) -> None:
        host.overlay(UUID, host.base(BASE))
        before = os.listdir("/proc/self/fd")
        overlays_on(host, {BASE: [UUID]})
        assert set(os.listdir("/proc/self/fd")) <= set(before)

    def test_disk_outside_of_the_instances_counts_for_its_instance_alone(self, host: Host) -> None:
        base = host.base(BASE)
        ours, other = (create_image(host.root / name, over=base, over_format="raw") for name in ("ours", "other"))
        external_disks = [(UUID, str(ours), "qcow2"), (OTHER_UUID, str(other), "qcow2")]
        assert overlays_on(host, {BASE: [UUID]}, *external_disks) == {BASE: [overlay(ours, UUID)]}

    def test_disk_outside_of_the_instances_without_a_format_is_asked_itself(self, host: Host) -> None:
        disk = create_image(host.root / "disk", over=host.base(BASE), over_format="raw")
        assert overlays_on(host, {BASE: [UUID]}, (UUID, str(disk), "")) == {BASE: [overlay(disk, UUID)]}

    def test_disk_outside_of_the_instances_that_is_raw_is_built_on_nothing(self, host: Host) -> None:
        disk = create_image(host.root / "disk", over=host.base(BASE), over_format="raw")
        assert overlays_on(host, {BASE: [UUID]}, (UUID, str(disk), "raw")) == {BASE: []}

    def test_size_that_a_disk_of_another_format_shows_is_not_known(self, host: Host) -> None:
        base = host.base(BASE)
        (host.instances_path / UUID).mkdir()
        qemu_img_create(host.instances_path / UUID / "disk", "-f", "qed", "-b", base, "-F", "raw")
        [found] = overlays_on(host, {BASE: [UUID]})[BASE]
        assert found.virtual_bytes is None


def content_of(path: Path) -> Content:
    with path.open("rb") as file:
        return read_content(file.fileno())


class TestContent:
    @pytest.mark.parametrize("start", [b"", b"x", b"QFI", bytes(4096)])
    def test_raw_image_shows_all_of_its_bytes(self, tmp_path: Path, start: bytes) -> None:
        path = tmp_path / "image"
        path.write_bytes(start)
        assert content_of(path) == Content("raw", len(start), len(start))

    def test_qcow2_image_shows_as_many_bytes_as_its_header_says(self, tmp_path: Path) -> None:
        path = qemu_img_create(tmp_path / "image", "-f", "qcow2", size="5G")
        assert content_of(path) == Content("qcow2", path.stat().st_size, 5 << 30)

    def test_image_of_another_format_is_neither_raw_nor_qcow2(self, tmp_path: Path) -> None:
        path = qemu_img_create(tmp_path / "image", "-f", "vmdk")
        assert content_of(path).format is None

    def test_qcow2_header_gives_the_size_although_nothing_follows(self, tmp_path: Path) -> None:
        path = qemu_img_create(tmp_path / "image", "-f", "qcow2", size="5G")
        os.truncate(path, 80)
        assert content_of(path) == Content("qcow2", 80, 5 << 30)

    @pytest.mark.parametrize("length", [4, 79])
    def test_qcow2_header_that_is_cut_off_gives_no_size(self, tmp_path: Path, length: int) -> None:
        path = qemu_img_create(tmp_path / "image", "-f", "qcow2", size="5G")
        os.truncate(path, length)
        assert content_of(path) == Content("qcow2", length, length)

    def test_size_is_the_files_and_not_that_of_what_was_read(self, tmp_path: Path) -> None:
        path = tmp_path / "image"
        path.touch()
        os.truncate(path, 3 * MIB)
        assert content_of(path) == Content("raw", 3 * MIB, 3 * MIB)


class TestSelfContained:
    def is_self_contained(self, path: Path) -> bool:
        with path.open("rb") as file:
            return is_self_contained(file.fileno())

    @pytest.mark.parametrize(
        "options",
        ["compat=0.10", "compat=1.1", "lazy_refcounts=on", "extended_l2=on", "compression_type=zstd"],
    )
    def test_image_without_other_files_is_self_contained(self, tmp_path: Path, options: str) -> None:
        assert self.is_self_contained(qemu_img_create(tmp_path / "image", "-f", "qcow2", "-o", options))

    def test_bytes_after_the_header_of_version_2_are_no_feature(self, tmp_path: Path) -> None:
        path = qemu_img_create(tmp_path / "image", "-f", "qcow2", "-o", "compat=0.10")
        self.set_feature(path, bit=63)
        assert self.is_self_contained(path)

    def test_image_that_was_in_use_when_its_host_went_down_is_self_contained(self, tmp_path: Path) -> None:
        path = qemu_img_create(tmp_path / "image", "-f", "qcow2")
        self.set_feature(path, bit=0)
        assert self.is_self_contained(path)

    def test_image_with_a_backing_file_is_not_self_contained(self, tmp_path: Path) -> None:
        base = create_image(tmp_path / "base")
        assert not self.is_self_contained(create_image(tmp_path / "image", over=base))

    @pytest.mark.parametrize("compat", ["0.10", "1.1"])
    def test_image_with_encryption_is_not_self_contained(self, tmp_path: Path, compat: str) -> None:
        path = tmp_path / "image"
        command = ["qemu-img", "create", "-q", "-f", "qcow2", "--object", "secret,id=key,data=secret"]
        options = f"compat={compat},encrypt.format=aes,encrypt.key-secret=key"
        subprocess.run([*command, "-o", options, str(path), "1M"], check=True)
        assert not self.is_self_contained(path)

    def test_image_with_its_data_in_another_file_is_not_self_contained(self, tmp_path: Path) -> None:
        options = f"data_file={tmp_path / 'data'}"
        assert not self.is_self_contained(qemu_img_create(tmp_path / "image", "-f", "qcow2", "-o", options))

    @pytest.mark.parametrize("bit", [1, 5, 63])
    def test_image_that_is_damaged_or_newer_than_this_code_is_not_self_contained(
        self, tmp_path: Path, bit: int
    ) -> None:
        path = qemu_img_create(tmp_path / "image", "-f", "qcow2")
        self.set_feature(path, bit)
        assert not self.is_self_contained(path)

    @pytest.mark.parametrize("version", [1, 4])
    def test_image_of_another_version_is_not_self_contained(self, tmp_path: Path, version: int) -> None:
        path = qemu_img_create(tmp_path / "image", "-f", "qcow2")
        with path.open("r+b") as file:
            file.seek(4)
            file.write(version.to_bytes(4, "big"))
        assert not self.is_self_contained(path)

    def test_image_whose_header_is_cut_off_is_not_self_contained(self, tmp_path: Path) -> None:
        path = qemu_img_create(tmp_path / "image", "-f", "qcow2")
        os.truncate(path, 79)
        assert not self.is_self_contained(path)

    def set_feature(self, path: Path, bit: int) -> None:
        """Set a bit of the incompatible features of an image of version 3."""
        with path.open("r+b") as file:
            file.seek(72)
            file.write((1 << bit).to_bytes(8, "big"))


class TestTimeOfMaking:
    def test_time_of_making_is_known_whatever_was_written_later(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.touch()
        asked = subprocess.run(["stat", "--format=%W", str(path)], check=True, capture_output=True, text=True)
        if asked.stdout.strip() in ("-", "0"):
            pytest.skip("takes a file system that keeps the time when a file was made")
        first = path.stat().st_mtime_ns
        time.sleep(0.05)  # the clock of a file system has ticks
        path.write_bytes(b"more")
        os.utime(path, (0, 0))
        assert made_at(str(path)) == first

    def test_file_that_does_not_exist_has_no_time_of_making(self, tmp_path: Path) -> None:
        assert made_at(str(tmp_path / "gone")) is None

    def test_file_system_that_keeps_none_gives_no_time_of_making(self) -> None:
        assert made_at("/proc/self/status") is None

    def test_python_without_ctypes_gives_no_time_of_making(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "ctypes", None)  # as where it was built without libffi
        assert made_at(str(tmp_path)) is None
