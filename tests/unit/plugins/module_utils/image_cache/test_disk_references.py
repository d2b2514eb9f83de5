# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the disks of all instances need is known, wherever they lie and however they name it."""

from __future__ import annotations

import json
import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.module_utils.image_cache import disk_references
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.disk_references import (
    DiskSources,
    stop_after_first_timeout,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.snapshot import Snapshot
from ansible_collections.stackops.nova.tests.support.constants import BASE, OTHER_BASE, OTHER_UUID, UUID
from ansible_collections.stackops.nova.tests.support.host import (
    DAY,
    OLD,
    Host,
    create_image,
    snapshot_of,
    states,
    warnings,
)
from ansible_collections.stackops.nova.tests.support.params import run_command
from ansible_collections.stackops.nova.tests.support.processes import (
    as_nobody,
    mount,
    needs_root,
    start_child,
    with_own_mounts,
)
from ansible_collections.stackops.nova.tools.cache_tree import overlay_bytes


class TestDisks:
    @pytest.mark.parametrize("disk", ["disk", "disk.eph0", "disk.swap", "disk.local", "disk.rescue", "disk_new"])
    @pytest.mark.parametrize("directory", [UUID, f"{UUID}_resize", f"{UUID}_del", "instance-00000001"])
    def test_every_disk_of_every_directory_needs_what_backs_it(self, host: Host, directory: str, disk: str) -> None:
        host.base(BASE)
        host.instance(directory, {disk: BASE})
        snapshot = snapshot_of(host)
        assert snapshot.backing == {BASE: [directory]}
        assert snapshot.instance_directories == (directory,)

    def test_chain_is_followed_to_its_end(self, host: Host) -> None:
        host.base("swap_1")
        create_image(host.cache_path / OTHER_BASE, over="swap_1", over_format="raw")
        create_image(host.cache_path / BASE, over=OTHER_BASE)
        host.overlay(UUID, host.cache_path / BASE, "qcow2")
        assert snapshot_of(host).backing == {BASE: [UUID], OTHER_BASE: [UUID], "swap_1": [UUID]}

    def test_chain_through_files_outside_of_the_cache_is_followed(self, host: Host) -> None:
        host.base(BASE)
        (host.instances_path / UUID).mkdir()
        create_image(host.instances_path / UUID / "snapshot", over=host.cache_path / BASE, over_format="raw")
        host.overlay(UUID, "snapshot", "qcow2")
        assert snapshot_of(host).backing == {BASE: [UUID]}

    def test_disks_of_thousands_of_directories_are_all_read(self, host: Host) -> None:
        sizes = range(1, 2001)
        for size in sizes:
            host.base(f"swap_{size}")
            host.disk(f"instance-{size:08x}", overlay_bytes(1 << 20, f"../_base/swap_{size}", "raw"))
        host.disk("instance-broken \udcff", b"QFI\xfb")
        snapshot = snapshot_of(host)
        assert snapshot.backing == {f"swap_{size}": [f"instance-{size:08x}"] for size in sizes}
        [problem] = snapshot.problems
        assert "instance-broken \\xff/disk" in problem

    def test_disk_that_was_moved_and_linked_counts(self, host: Host) -> None:
        host.base(BASE)
        disk = host.instance(UUID, {"disk": BASE}) / "disk"
        disk.rename(host.root / "moved")
        disk.symlink_to(host.root / "moved")
        assert snapshot_of(host).backing == {BASE: [UUID]}

    def test_instance_whose_disks_are_built_on_one_file_is_named_once(self, host: Host) -> None:
        host.base(BASE)
        host.instance(UUID, {"disk": BASE, "disk.eph0": BASE, "disk.swap": BASE})
        assert snapshot_of(host).backing == {BASE: [UUID]}

    def test_config_drive_on_which_a_guest_forged_a_header_stops_nothing(self, host: Host) -> None:
        host.base(BASE)
        host.disk(UUID, overlay_bytes(1 << 20, host.root / "secret", "qcow2"), "disk.config")
        snapshot = snapshot_of(host)
        assert (snapshot.backing, snapshot.problems) == ({}, ())

    @pytest.mark.parametrize("name", ["disk.info.tmp", "disk.fallocate_test", "disk.part"])
    def test_file_that_is_no_disk_protects_what_its_header_names_and_stops_nothing(self, host: Host, name: str) -> None:
        host.base(BASE)
        host.disk(UUID, b"", name)
        host.disk(OTHER_UUID, overlay_bytes(1 << 20, str(host.cache_path / BASE), "raw"), name)
        snapshot = snapshot_of(host)
        assert (snapshot.backing, snapshot.problems) == ({BASE: [OTHER_UUID]}, ())

    @pytest.mark.parametrize("lowest", [b"", b"QF", bytes(1 << 20)])
    def test_disk_that_is_recorded_as_raw_protects_the_whole_chain_that_its_header_names(
        self, host: Host, lowest: bytes
    ) -> None:
        host.base("swap_1", content=lowest, size=0)
        host.base(OTHER_BASE, content=overlay_bytes(1 << 20, str(host.cache_path / "swap_1"), "raw"))
        host.base(BASE, content=overlay_bytes(1 << 20, str(host.cache_path / OTHER_BASE), "qcow2"))
        disk = host.overlay(UUID, host.cache_path / BASE, "qcow2")
        (disk.parent / "disk.info").write_text(json.dumps({str(disk): "raw"}))
        snapshot = snapshot_of(host)
        assert snapshot.backing == {BASE: [UUID], OTHER_BASE: [UUID], "swap_1": [UUID]}
        assert snapshot.problems == ()

    def test_short_disk_with_a_time_in_the_future_is_a_problem(self, host: Host) -> None:
        """Such a file may be a disk that is being made, by the clock of another host."""
        disk = host.disk(UUID, b"")
        os.utime(disk, (time.time() + DAY, time.time() + DAY))
        [problem] = snapshot_of(host).problems
        assert str(disk) in problem
        assert "modification time is in the future" in problem

    def test_link_to_a_disk_that_is_not_mounted_is_a_problem(self, host: Host) -> None:
        disk = host.instance(UUID, {}) / "disk"
        disk.symlink_to(host.root / "not mounted" / "disk")
        [problem] = snapshot_of(host).problems
        assert str(disk) in problem


class TestExternalDisks:
    def test_disk_that_a_source_names_is_read(self, host: Host) -> None:
        base = host.base(BASE)
        disk = create_image(host.root / "disk", over=base, over_format="raw")
        snapshot = snapshot_of(host, (UUID, str(disk), "qcow2"))
        assert snapshot.backing == {BASE: [UUID]}
        assert snapshot.instance_directories == ()

    def test_disk_in_the_instances_path_that_a_source_names_by_another_name_is_read(self, host: Host) -> None:
        base = host.base(BASE)
        (host.instances_path / UUID).mkdir()
        disk = create_image(host.instances_path / UUID / "root.qcow2", over=base, over_format="raw")
        assert snapshot_of(host, (UUID, str(disk), "qcow2")).backing == {BASE: [UUID]}

    def test_raw_disk_that_a_source_names_needs_nothing(self, host: Host) -> None:
        disk = create_image(host.root / "disk", over=host.base(BASE), over_format="raw")
        assert snapshot_of(host, (UUID, str(disk), "raw")).backing == {}

    def test_disk_of_an_instance_directory_that_sources_give_two_formats_is_asked_itself(self, host: Host) -> None:
        disk = str(host.overlay(UUID, host.base(BASE)))
        assert snapshot_of(host, (UUID, disk, "raw"), (UUID, disk, "qcow2")).backing == {BASE: [UUID]}

    def test_disk_that_a_source_names_and_that_does_not_exist_stops_nothing(self, host: Host) -> None:
        snapshot = snapshot_of(host, (UUID, str(host.root / "gone"), "qcow2"))
        assert (snapshot.backing, snapshot.problems) == ({}, ())


class TestNamesOfABackingFile:
    """However a disk names it, a file of the cache is that file."""

    @pytest.mark.parametrize("name", ["../_base/{}", "../../instances/_base/{}", "file:../_base/{}", ".././_base//{}"])
    def test_name_relative_to_the_disk_leads_to_the_file(self, host: Host, name: str) -> None:
        host.base(BASE)
        host.overlay(UUID, name.format(BASE))
        assert snapshot_of(host).backing == {BASE: [UUID]}

    def test_name_through_a_link_to_the_instances_leads_to_the_file(self, host: Host) -> None:
        host.base(BASE)
        (host.root / "alias").symlink_to("instances")
        host.overlay(UUID, host.root / "alias" / "_base" / BASE)
        assert snapshot_of(host).backing == {BASE: [UUID]}

    def test_name_leads_to_the_file_where_the_instances_path_is_a_link(self, host: Host) -> None:
        host.base(BASE)
        (host.root / "alias").symlink_to("instances")
        host.overlay(UUID, host.cache_path / BASE)
        assert snapshot_of(host, instances_path=str(host.root / "alias")).backing == {BASE: [UUID]}

    def test_name_of_a_hard_link_leads_to_the_file(self, host: Host) -> None:
        (host.root / "alias").hardlink_to(host.base(BASE))
        host.overlay(UUID, host.root / "alias")
        assert snapshot_of(host).backing == {BASE: [UUID]}

    @pytest.mark.parametrize("needed", [BASE, OTHER_BASE])
    def test_each_name_of_a_file_with_two_names_in_the_cache_leads_to_that_name(self, host: Host, needed: str) -> None:
        (host.cache_path / OTHER_BASE).hardlink_to(host.base(BASE))
        (host.root / "alias").symlink_to("instances")
        host.overlay(UUID, host.root / "alias" / "_base" / needed)
        assert needed in snapshot_of(host).backing

    @needs_root
    def test_name_through_a_bind_mount_leads_to_the_file(self, host: Host) -> None:
        host.base(BASE)
        container = host.root / "container"
        container.mkdir()
        host.overlay(UUID, container / "_base" / BASE)

        def scan_with_a_bind_mount() -> Snapshot:
            mount("--bind", host.instances_path, container)
            return snapshot_of(host)

        assert with_own_mounts(scan_with_a_bind_mount).backing == {BASE: [UUID]}

    def test_name_as_a_container_sees_it_leads_to_the_file(self, host: Host) -> None:
        host.base(BASE)
        host.overlay(UUID, f"/var/lib/nova/of/a/container/_base/{BASE}")
        snapshot = snapshot_of(host)
        assert (snapshot.backing, snapshot.missing) == ({BASE: [UUID]}, {})

    def test_name_of_a_link_in_the_cache_leads_to_the_file(self, host: Host) -> None:
        (host.cache_path / "link").symlink_to(host.base(BASE))
        host.overlay(UUID, host.cache_path / "link")
        assert BASE in snapshot_of(host).backing


class TestMissingFile:
    def test_missing_file_is_named_by_the_path_in_the_disk(self, host: Host) -> None:
        host.instance(UUID, {"disk": BASE})
        host.instance(OTHER_UUID, {"disk": BASE})
        snapshot = snapshot_of(host)
        assert {path: sorted(users) for path, users in snapshot.missing.items()} == {
            str(host.cache_path / BASE): [UUID, OTHER_UUID]
        }
        assert snapshot.problems == ()

    def test_files_above_a_missing_one_are_needed_still(self, host: Host) -> None:
        host.base("gone")
        create_image(host.cache_path / BASE, over=host.base(OTHER_BASE), over_format="raw")
        (host.cache_path / OTHER_BASE).unlink()
        host.overlay(UUID, host.cache_path / BASE, "qcow2")
        snapshot = snapshot_of(host)
        assert snapshot.backing == {BASE: [UUID]}
        assert snapshot.missing == {str(host.cache_path / OTHER_BASE): [UUID]}


def test_disk_that_two_paths_give_two_formats_is_asked_itself(host: Host) -> None:
    host.base(BASE, age=OLD)
    host.overlay(UUID, host.cache_path / BASE)
    info = {f"/old/{UUID}/disk": "qcow2", f"/new/{UUID}/disk": "raw"}
    (host.instances_path / UUID / "disk.info").write_text(json.dumps(info))
    result = host.prune()
    assert states(result) == {BASE: "active: backing"}
    [warning] = warnings(result)
    assert "two formats" in warning


def test_disk_that_two_paths_give_one_format_has_that_format(host: Host) -> None:
    """A resize leaves the paths of before."""
    host.base(BASE)
    host.overlay(UUID, host.cache_path / BASE)
    info = {f"/old/{UUID}/disk": "qcow2", f"/new/{UUID}/disk": "qcow2", f"/new/{UUID}/disk.config": "raw"}
    (host.instances_path / UUID / "disk.info").write_text(json.dumps(info))
    result = host.audit()
    assert states(result) == {BASE: "active: backing"}
    assert warnings(result) == []


@pytest.mark.parametrize(("code", "asked"), [(124, ["first"]), (137, ["first"]), (0, ["first", "second"])])
def test_qemu_img_that_did_not_answer_is_asked_no_more(code: int, asked: list[str]) -> None:
    commands: list[str] = []

    def answer(command: list[str]) -> tuple[int, str, str]:
        commands.extend(command)
        return code, "", ""

    run = stop_after_first_timeout(answer)
    assert run(["first"]) == run(["second"]) == (code, "", "")
    assert commands == asked


@given(
    directory=st.text(st.characters(min_codepoint=32, max_codepoint=126)),
    disk=st.from_regex(r"\Adisk[.a-z0-9_-]{0,6}\Z"),
    image_format=st.sampled_from(["qcow2", "raw", "vmdk", ""]),
)
@settings(max_examples=200, deadline=None)
def test_disk_info_means_the_same_with_and_without_a_final_newline(
    tmp_path_factory: pytest.TempPathFactory, directory: str, disk: str, image_format: str
) -> None:
    """Nova writes no final newline, and a file without one is read in a quicker way."""
    text = json.dumps({f"{directory}/{disk}": image_format})
    assert formats_in(tmp_path_factory, text) == formats_in(tmp_path_factory, text + "\n") == {disk: image_format}


@given(st.binary(max_size=40).map(lambda middle: b'{"/i/disk' + middle + b'": "raw"}'))
@settings(max_examples=200, deadline=None)
def test_damaged_disk_info_means_the_same_with_and_without_a_final_newline(
    tmp_path_factory: pytest.TempPathFactory, text: bytes
) -> None:
    assert formats_in(tmp_path_factory, text) == formats_in(tmp_path_factory, text + b"\n")


def formats_in(tmp_path_factory: pytest.TempPathFactory, text: str | bytes) -> dict[str, str]:
    path = tmp_path_factory.mktemp("instance") / "disk.info"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    reader = disk_references.DiskReader(DiskSources("", frozenset(), {}, lambda _path: None, str, run_command, os.open))
    return reader._read_disk_info(str(path))


class TestDiskThatIsBeingMade:
    """`qemu-img create` and `cp` make an empty file first: for a moment, what a new disk needs cannot be known."""

    def test_empty_young_disk_is_waited_for(self, host: Host) -> None:
        host.base(BASE)
        image = overlay_bytes(1 << 20, str(host.cache_path / BASE), "raw")
        disk = host.disk(UUID, b"")
        finish = start_child(lambda: (time.sleep(0.1), disk.write_bytes(image)))
        snapshot = snapshot_of(host)
        finish()
        assert snapshot.problems == ()
        assert snapshot.backing == {BASE: [UUID]}

    def test_many_empty_young_disks_are_waited_for_less_than_a_second(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        naps: list[float] = []
        monkeypatch.setattr(time, "sleep", naps.append)
        for number in range(30):
            host.disk(f"instance-{number}", b"")
        assert len(snapshot_of(host).problems) == 30
        assert 0 < sum(naps) < 1

    def test_empty_old_disk_is_not_waited_for(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        naps: list[float] = []
        monkeypatch.setattr(time, "sleep", naps.append)
        os.utime(host.disk(UUID, b""), (0, 0))
        assert snapshot_of(host).problems == ()
        assert naps == []


@needs_root
class TestAsAnotherUser:
    def test_directory_that_cannot_be_read_is_a_problem(self, public_host: Host) -> None:
        public_host.base(BASE)
        path = public_host.instance(UUID, {"disk": BASE})
        path.chmod(0o700)
        [problem] = as_nobody(lambda: snapshot_of(public_host)).problems
        assert str(path) in problem
        assert "Permission denied" in problem

    def test_disk_that_cannot_be_read_is_a_problem(self, public_host: Host) -> None:
        disk = public_host.instance(UUID, {"disk": public_host.base(BASE)}) / "disk"
        disk.chmod(0o600)
        [problem] = as_nobody(lambda: snapshot_of(public_host)).problems
        assert str(disk) in problem

    def test_backing_file_that_cannot_be_looked_at_is_a_problem(self, public_host: Host) -> None:
        closed = public_host.root / "closed"
        closed.mkdir(mode=0o700)
        public_host.overlay(UUID, closed / "base")
        [problem] = as_nobody(lambda: snapshot_of(public_host)).problems
        assert problem.endswith(
            f"The backing file {closed}/base cannot be looked at: Permission denied. Run as root (become: true)."
        )
