# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""States of a compute host that public bug reports and operators' posts describe, on real trees with real disks.

Each one is audited, dry-run and pruned: a chain that QEMU could open before the prune opens afterwards, and what
the dry run listed is what was removed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.prune import PruneResult
from ansible_collections.stackops.nova.tests.support.constants import BASE, OTHER_BASE, OTHER_UUID, UUID
from ansible_collections.stackops.nova.tests.support.host import (
    OLD,
    Host,
    create_image,
    domain,
    opens,
    orphans,
    picture,
    states,
    warnings,
)
from ansible_collections.stackops.nova.tests.support.processes import guest, reader
from ansible_collections.stackops.nova.tools.cache_tree import overlay_bytes

UNUSED = "02c9f7e7130413742a28a31ba97617e9a56811be"
NAME = "instance-0000000a"


@pytest.fixture
def host(host: Host) -> Host:
    """A host with one file that nothing uses: it is removed unless the pass is refused."""
    host.base(UNUSED, age=OLD)
    return host


def disk_info(host: Host, directory: str, formats: Mapping[str, str]) -> None:
    path = host.instances_path / directory
    (path / "disk.info").write_text(json.dumps({f"{path}/{disk}": kind for disk, kind in formats.items()}))


def directory_of(host: Host, name: str) -> Path:
    path = host.instances_path / name
    path.mkdir(exist_ok=True)
    return path


def age(path: Path, seconds: float = OLD) -> Path:
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - seconds))
    return path


def template(host: Host, name: str, **backing: Any) -> Path:
    """A qcow2 file of the cache, old enough to be removed."""
    return age(create_image(host.cache_path / name, **backing))


def opened_by_qemu(host: Host) -> set[str]:
    """The disks whose whole chains QEMU can open now."""
    return {str(path) for path in host.root.rglob("disk*") if path.is_file() and opens(path)}


def prune(host: Host, **options: Any) -> PruneResult:
    """Audit, dry-run and prune a host, and hold both promises against it."""
    opened = opened_by_qemu(host)
    before = picture(host.root)
    audited = host.audit(**options).facts
    dry_run = host.prune(check_mode=True, **options)
    assert picture(host.root) == before
    result = host.prune(**options)
    assert dry_run.done["removed"] == result.done["removed"]
    assert dry_run.facts["unknown_use"] == result.facts["unknown_use"] == audited["unknown_use"]
    assert opened_by_qemu(host) >= opened
    return result


def served(host: Host, **options: Any) -> PruneResult:
    """Prune a host on which nothing stops the unused file from being removed, and nothing else is."""
    result = prune(host, **options)
    assert result.error is None
    assert result.facts["unknown_use"] == []
    assert result.done["removed"] == [UNUSED]
    return result


def refused(host: Host, **options: Any) -> str:
    """Prune a host on which nothing may be removed; why."""
    result = prune(host, **options)
    assert result.done["removed"] == []
    [reason] = result.facts["unknown_use"]
    return reason


class TestHeaderOfADiskThatIsSaidToBeRaw:
    """nova leaves `raw` in disk.info under a disk that has become an overlay."""

    @pytest.mark.parametrize("disk", ["disk", "disk.rescue", "disk.swap", "disk.eph0"])
    @pytest.mark.parametrize("xml", [None, "qcow2", "raw"])
    @pytest.mark.parametrize("depth", [1, 2])
    def test_base_files_that_the_header_names_are_kept(
        self, host: Host, disk: str, xml: str | None, depth: int
    ) -> None:
        host.base(OTHER_BASE, age=OLD)
        lowest = host.cache_path / OTHER_BASE
        top = lowest if depth == 1 else template(host, BASE, over=lowest, over_format="raw")
        path = directory_of(host, UUID) / disk
        create_image(path, over=top, over_format="raw" if depth == 1 else "qcow2")
        disk_info(host, UUID, {disk: "raw"})
        if xml is not None:
            domain(host, UUID, {path: xml})
        result = served(host, libvirt=xml is not None)
        assert states(result)[OTHER_BASE] == "active: backing"
        assert states(result)[top.name] == "active: backing"

    def test_base_file_behind_the_path_of_a_container_is_kept(self, host: Host) -> None:
        host.base(BASE, age=OLD)
        host.overlay(UUID, f"/path/in/a/container/_base/{BASE}")
        disk_info(host, UUID, {"disk": "raw"})
        served(host)

    @pytest.mark.parametrize(
        "content",
        [
            pytest.param(overlay_bytes(1 << 20, "/etc/passwd", "qcow2"), id="name elsewhere"),
            pytest.param(overlay_bytes(1 << 20, "../gone/disk", "qcow2"), id="name of nothing"),
            pytest.param(overlay_bytes(1 << 20, 'json:{"driver": "nbd"}', None), id="name of no file"),
            pytest.param(overlay_bytes(1 << 20, "/" + "x" * 1022, None), id="longest name"),
            pytest.param(b"QFI\xfb" + b"\xff" * 4096, id="magic and nonsense"),
            pytest.param(b"KDMV" + b"\xff" * 4096, id="magic of another format"),
        ],
    )
    def test_header_that_a_guest_forged_stops_nothing(self, host: Host, content: bytes) -> None:
        host.disk(UUID, content)
        disk_info(host, UUID, {"disk": "raw"})
        assert served(host).facts["missing"] == []

    def test_circle_of_base_files_below_the_disk_ends(self, host: Host) -> None:
        for name, below in ((BASE, OTHER_BASE), (OTHER_BASE, BASE)):
            (host.cache_path / name).write_bytes(overlay_bytes(1 << 20, below, "qcow2"))
            age(host.cache_path / name)
        host.overlay(UUID, host.cache_path / BASE)
        disk_info(host, UUID, {"disk": "raw"})
        served(host)

    @pytest.mark.parametrize("content", [b"", b"QFI\xfb", b"a qcow2 image once"], ids=["empty", "cut", "raw"])
    def test_base_file_below_the_disk_that_is_no_image_is_kept(self, host: Host, content: bytes) -> None:
        age(host.base(BASE, size=0, content=content))
        host.overlay(UUID, host.cache_path / BASE)
        disk_info(host, UUID, {"disk": "raw"})
        assert "active" in states(prune(host))[BASE]

    def test_link_to_a_disk_that_is_not_mounted_is_refused(self, host: Host) -> None:
        (directory_of(host, UUID) / "disk").symlink_to(host.root / "not mounted")
        disk_info(host, UUID, {"disk": "raw"})
        assert "not mounted" in refused(host)

    def test_domain_xml_that_says_raw_wins_over_disk_info(self, host: Host) -> None:
        path = host.disk(UUID, overlay_bytes(1 << 20, "nbd://a/guest/wrote", None))
        disk_info(host, UUID, {"disk": "qcow2"})
        domain(host, UUID, {path: "raw"})
        served(host, libvirt=True)

    def test_domain_xml_that_says_qcow2_wins_over_disk_info(self, host: Host) -> None:
        path = host.overlay(UUID, "../gone/disk", "qcow2")
        disk_info(host, UUID, {"disk": "raw"})
        domain(host, UUID, {path: "qcow2"})
        assert "gone/disk" in refused(host, libvirt=True)

    def test_disk_info_decides_where_two_domains_disagree(self, host: Host) -> None:
        path = host.overlay(UUID, "../gone/disk", "qcow2")
        disk_info(host, UUID, {"disk": "raw"})
        domain(host, UUID, {path: "qcow2"})
        domain(host, OTHER_UUID, {path: "raw"}, name="instance-0000000b")
        served(host, libvirt=True)


SHORT = {
    "disk.info.tmp": b"",
    "disk.fallocate_test": b"\0",
    "disk.eph0.fallocate_test": b"\0",
    "disk.swap": b"",
    "disk.eph0": b"QFI",
    "disk.rescue.part": b"",
    "disk.part": b"QFI\xfb",
    "disk.converted": b"QFI\xfb\0\0\0\3",
}


class TestFileThatIsTooShortForAnImage:
    @pytest.mark.parametrize("name", SHORT)
    def test_old_short_file_beside_a_healthy_disk_stops_nothing(self, host: Host, name: str) -> None:
        host.base(BASE, age=OLD)
        host.instance(UUID, {"disk": BASE})
        age(host.disk(UUID, SHORT[name], name))
        result = served(host)
        assert [name in warning for warning in warnings(result)] == [True] * (name in ("disk.swap", "disk.eph0"))

    @pytest.mark.parametrize("recorded", ["raw", "qcow2", "vmdk"])
    def test_old_disk_of_a_known_format_is_warned_of(self, host: Host, recorded: str) -> None:
        age(host.disk(UUID, b"", "disk.swap"))
        disk_info(host, UUID, {"disk.swap": recorded})
        [warning] = warnings(served(host))
        assert f"{UUID}/disk.swap" in warning

    @pytest.mark.parametrize("recorded", [{}, {"disk.swap": "raw"}])
    def test_young_disk_is_unknown_use(self, host: Host, recorded: dict[str, str]) -> None:
        host.disk(UUID, b"", "disk.swap")
        disk_info(host, UUID, recorded)
        assert "disk.swap is too short to be a disk image (0 bytes)" in refused(host)

    def test_disk_from_the_future_is_young_and_reported_as_from_the_future(self, host: Host) -> None:
        age(host.disk(UUID, b"", "disk.swap"), -OLD)
        refusal = refused(host)
        assert f"{UUID}/disk.swap is too short to be a disk image (0 bytes)" in refusal
        assert "Its modification time is in the future, so it may be a disk that is being made." in refusal

    @pytest.mark.parametrize("name", ["disk.info.tmp", "disk.fallocate_test", "disk.part"])
    def test_young_file_that_is_no_disk_by_its_name_stops_nothing(self, host: Host, name: str) -> None:
        host.disk(UUID, b"", name)
        served(host)

    @pytest.mark.parametrize("recorded", [{}, {"disk": "raw"}, {"disk": "qcow2"}])
    @pytest.mark.parametrize("length", [4, 71, 103])
    def test_header_that_ends_inside_itself_is_unknown_use(
        self, host: Host, recorded: dict[str, str], length: int
    ) -> None:
        age(host.disk(UUID, overlay_bytes(1 << 20, host.cache_path / BASE, "raw")[:length]))
        disk_info(host, UUID, recorded)
        assert f"its header ends after {length} bytes" in refused(host)

    def test_old_disk_without_a_magic_names_nothing(self, host: Host) -> None:
        age(host.disk(UUID, bytes(4096)))
        disk_info(host, UUID, {"disk": "qcow2"})
        [warning] = warnings(served(host))
        assert f"{UUID}/disk should be a qcow2 image and does not begin like one" in warning

    @pytest.mark.parametrize("name", ["disk.part", "disk.info.tmp", "disk.eph0.fallocate_test", "disk.converted"])
    @pytest.mark.parametrize("orphans", ["protect", "ignore"])
    def test_base_file_that_a_file_of_another_name_names_is_kept(self, host: Host, name: str, orphans: str) -> None:
        host.base(BASE, age=OLD)
        create_image(directory_of(host, UUID) / name, over=host.cache_path / BASE, over_format="raw")
        served(host, orphans=orphans)

    def test_short_base_file_under_a_disk_is_unknown_use(self, host: Host) -> None:
        age(host.base(BASE, size=0))
        age(host.overlay(UUID, host.cache_path / BASE, "qcow2"))
        assert f"{BASE} should be a qcow2 image" in refused(host)


class TestDirectoryThatADomainNames:
    @pytest.mark.parametrize("directory", [f"{UUID}_del", f"{UUID}_resize", "instance-00000001", "moved by hand"])
    @pytest.mark.parametrize("orphans", ["protect", "ignore"])
    def test_directory_that_a_domain_names_belongs_to_its_instance(
        self, host: Host, directory: str, orphans: str
    ) -> None:
        host.base(BASE, age=OLD)
        path = host.instance(directory, {"disk": BASE}) / "disk"
        domain(host, UUID, {path: "qcow2"}, name="instance-0000000a")
        records = [{"uuid": UUID, "name": NAME, "vm_state": "active", "host": "vm"}]
        result = served(host, libvirt=True, instances=records, orphans=orphans)
        assert result.facts["orphans"] == []
        assert states(result)[BASE] == "active: backing"
        [base] = [file for file in result.facts["files"] if file["name"] == BASE]
        assert base["used_by"] == [NAME]

    def test_another_directory_is_still_an_orphan(self, host: Host) -> None:
        host.base(BASE, age=OLD)
        path = host.instance(UUID, {"disk": BASE}) / "disk"
        host.instance(f"{UUID}_del", {"disk": BASE})
        domain(host, UUID, {path: "qcow2"})
        assert orphans(served(host, libvirt=True)) == [f"{UUID}_del"]


class TestBaseFileThatWasReplacedUnderAGuest:
    def replace(self, host: Host) -> None:
        (host.cache_path / BASE).unlink()
        host.base(BASE, content=b"other bytes")

    def test_replaced_file_is_reported_with_the_guest_and_stops_nothing(self, host: Host) -> None:
        base = host.base(BASE)
        disk = create_image(directory_of(host, UUID) / "disk", over=base, over_format="raw")
        create_image(directory_of(host, OTHER_UUID) / "disk", over=base, over_format="raw")
        with guest(disk):
            self.replace(host)
            result = served(host)
        path = str(base)
        assert result.facts["missing"] == [
            {
                "backing_file": path,
                "named": path,
                "image_id": None,
                "image_name": None,
                "instances": [UUID],
                "replaced": True,
                "recoverable_from": None,
                "recoverable_until": [],
            },
        ]
        [warning] = warnings(result)
        assert f"{path} was replaced while {UUID} run" in warning
        assert "virsh blockpull" in warning

    @pytest.mark.parametrize("aside", [f"{BASE}.bad", ".aside"])
    def test_former_file_that_was_renamed_is_reported_too(self, host: Host, aside: str) -> None:
        base = host.base(BASE)
        disk = create_image(directory_of(host, UUID) / "disk", over=base, over_format="raw")
        with guest(disk):
            base.rename(host.cache_path / aside)
            host.base(BASE, content=b"other bytes")
            [missing] = served(host).facts["missing"]
        assert (missing["instances"], missing["replaced"]) == ([UUID], True)

    def test_only_the_replaced_file_of_a_chain_is_reported(self, host: Host) -> None:
        lowest = host.base(OTHER_BASE)
        template(host, BASE, over=lowest, over_format="raw")
        disk = create_image(directory_of(host, UUID) / "disk", over=host.cache_path / BASE)
        with guest(disk):
            lowest.unlink()
            host.base(OTHER_BASE)
            [missing] = served(host).facts["missing"]
        assert missing["backing_file"] == str(lowest)

    def test_reader_of_a_former_file_that_is_no_guest_is_not_reported(self, host: Host) -> None:
        create_image(directory_of(host, UUID) / "disk", over=host.base(BASE), over_format="raw")
        with reader(host.cache_path / BASE):
            self.replace(host)
            assert served(host).facts["missing"] == []

    def test_guest_is_named_as_nova_names_it(self, host: Host) -> None:
        base = host.base(BASE)
        disk = create_image(directory_of(host, UUID) / "disk", over=base, over_format="raw")
        domain(host, UUID, {disk: "qcow2"})
        with guest(disk):
            self.replace(host)
            [missing] = served(host, libvirt=True).facts["missing"]
        assert missing["instances"] == [NAME]

    def test_guest_whose_disk_is_elsewhere_is_named(self, host: Host) -> None:
        base = host.base(BASE)
        disk = create_image(host.root / "disk.qcow2", over=base, over_format="raw")
        domain(host, UUID, {disk: "qcow2"})
        with guest(disk):
            self.replace(host)
            [missing] = served(host, libvirt=True).facts["missing"]
        assert (missing["instances"], missing["replaced"]) == ([NAME], True)

    def test_guest_with_a_disk_of_the_same_name_elsewhere_is_not_reported(self, host: Host, tmp_path: Path) -> None:
        cache = tmp_path / "elsewhere" / "_base"
        cache.mkdir(parents=True)
        base = cache / BASE
        shutil.copy(host.base(OTHER_BASE), base)
        directory = tmp_path / "elsewhere" / UUID
        directory.mkdir()
        create_image(directory_of(host, UUID) / "disk", over=host.base(BASE), over_format="raw")
        with guest(create_image(directory / "disk", over=base, over_format="raw")):
            shutil.rmtree(cache)
            assert served(host).facts["missing"] == []

    def test_guest_that_is_off_is_not_reported(self, host: Host) -> None:
        create_image(directory_of(host, UUID) / "disk", over=host.base(BASE), over_format="raw")
        self.replace(host)
        assert served(host).facts["missing"] == []

    def test_base_file_that_was_replaced_in_another_folder_is_not_reported(self, host: Host) -> None:
        host.base(BASE)
        other = host.root / "other" / "_base" / BASE
        other.parent.mkdir(parents=True)
        shutil.copy(host.cache_path / BASE, other)
        disk = create_image(directory_of(host, UUID) / "disk", over=other, over_format="raw")
        with guest(disk):
            other.unlink()
            assert served(host).facts["missing"] == []

    def test_base_file_that_is_gone_is_missing_and_not_replaced(self, host: Host) -> None:
        base = host.base(BASE)
        disk = create_image(directory_of(host, UUID) / "disk", over=base, over_format="raw")
        with guest(disk):
            base.unlink()
            [missing] = served(host).facts["missing"]
        assert (missing["backing_file"], missing["replaced"]) == (str(base), False)


class TestPathsOfAContainer:
    """Kolla: nova's instances_path is that path in the container only, and another one on the host."""

    @pytest.fixture
    def inside(self, host: Host) -> Path:
        """The path that nova knows."""
        return host.root / "container" / "nova" / "instances"

    @contextmanager
    def container(self, host: Host, inside: Path) -> Iterator[None]:
        """While this lasts, paths lead where they lead in the container."""
        inside.parent.mkdir(parents=True)
        inside.symlink_to(host.instances_path)
        yield
        shutil.rmtree(host.root / "container")

    def snapshot(self, host: Host, inside: Path) -> Path:
        """A disk over a base file, and a snapshot over that disk, both as nova and libvirt make them in there."""
        host.base(BASE, age=OLD)
        directory_of(host, UUID)
        with self.container(host, inside):
            create_image(inside / UUID / "disk", over=inside / "_base" / BASE, over_format="raw")
            create_image(inside / UUID / "disk.snap1", over=inside / UUID / "disk")
        return host.instances_path / UUID / "disk.snap1"

    def options(self, host: Host, inside: Path, source: str) -> dict[str, Any]:
        if source == "nova.conf":
            conf = host.root / "nova.conf"
            conf.write_text(f"[DEFAULT]\ninstances_path = {inside}/\n")
            return {"config_file": str(conf)}
        domain(host, UUID, {inside / UUID / "disk.snap1": "qcow2"})
        return {"libvirt": True}

    @pytest.mark.parametrize("source", ["nova.conf", "domain XML"])
    def test_healthy_guest_is_healthy(self, host: Host, inside: Path, source: str) -> None:
        self.snapshot(host, inside)
        result = served(host, **self.options(host, inside, source))
        assert result.facts["missing"] == []
        assert states(result)[BASE] == "active: backing"
        with self.container(host, inside):
            assert str(host.instances_path / UUID / "disk.snap1") in opened_by_qemu(host)

    def test_default_path_of_nova_is_known_without_its_configuration(self, host: Host) -> None:
        if os.path.lexists("/var/lib/nova/instances"):
            pytest.skip("this machine has nova's default path")
        host.base(BASE, age=OLD)
        host.instance(UUID, {"disk": BASE})
        snapshot = overlay_bytes(1 << 30, f"/var/lib/nova/instances/{UUID}/disk", "qcow2")
        host.disk(UUID, snapshot, "disk.snap1")
        assert served(host).facts["missing"] == []

    @pytest.mark.parametrize("source", ["nova.conf", "domain XML"])
    def test_missing_file_is_named_by_both_paths(self, host: Host, inside: Path, source: str) -> None:
        self.snapshot(host, inside)
        (host.cache_path / BASE).unlink()
        result = served(host, **self.options(host, inside, source))
        [missing] = result.facts["missing"]
        assert missing["backing_file"] == str(host.cache_path / BASE)
        assert missing["named"] == str(inside / "_base" / BASE)
        [warning] = warnings(result)
        assert f"{host.cache_path / BASE} ({inside / '_base' / BASE} to nova) does not exist" in warning

    def test_missing_disk_is_named_by_both_paths_in_the_reason(self, host: Host, inside: Path) -> None:
        self.snapshot(host, inside)
        (host.instances_path / UUID / "disk").unlink()
        reason = refused(host, **self.options(host, inside, "nova.conf"))
        assert f"needs {host.instances_path}/{UUID}/disk ({inside}/{UUID}/disk), which is not there" in reason

    def test_disk_that_a_domain_names_by_the_path_of_the_container_is_read_once(self, host: Host, inside: Path) -> None:
        self.snapshot(host, inside)
        options = self.options(host, inside, "domain XML")
        result = served(host, **options, shared_storage=True)
        assert result.facts["orphans"] == []
        assert result.facts["for_members"]["held"] == []  # what disks need that only this host can see

    @pytest.mark.parametrize("source", ["nova.conf", "domain XML"])
    def test_path_that_exists_on_the_host_is_read_literally(self, host: Host, inside: Path, source: str) -> None:
        """The path is another nova's. To look for its disks under ours would lose what they need of our cache."""
        host.base(BASE, age=OLD)
        host.base("swap_64", age=OLD)
        (inside / UUID).mkdir(parents=True)
        host.instance(UUID, {"disk": "swap_64"})
        create_image(inside / UUID / "disk", over=host.cache_path / BASE, over_format="raw")
        domain(host, UUID, {inside / UUID / "disk": "qcow2"})
        options = {**self.options(host, inside, "nova.conf"), "libvirt": True} if source == "nova.conf" else {}
        served(host, **{"libvirt": True, **options})

    def test_missing_file_of_another_instances_path_is_named_as_it_is(self, host: Host, inside: Path) -> None:
        inside.mkdir(parents=True)
        host.overlay(UUID, inside / "_base" / BASE)
        [missing] = served(host, **self.options(host, inside, "nova.conf")).facts["missing"]
        assert missing["backing_file"] == missing["named"] == str(inside / "_base" / BASE)

    def test_link_to_the_instances_is_no_other_path(self, host: Host, inside: Path) -> None:
        self.snapshot(host, inside)
        options = self.options(host, inside, "domain XML")
        inside.parent.mkdir(parents=True)
        inside.symlink_to(host.instances_path)
        result = served(host, **options, shared_storage=True)
        assert result.facts["for_members"]["held"] == []


class TestDrainedHost:
    @pytest.mark.parametrize("names", [["disk.info"], ["disk.info", "disk.info.tmp"], ["disk.fallocate_test"]])
    def test_directory_without_a_disk_stops_nothing(self, host: Host, names: list[str]) -> None:
        for name in names:
            host.disk(UUID, b"{}", name)
        result = served(host, libvirt=True)
        assert result.facts["orphans"] == []

    def add_orphan(self, host: Host) -> None:
        host.base(BASE, age=OLD)
        host.instance(f"{UUID}_resize", {"disk": BASE})

    def test_reason_names_the_remedies_where_orphans_hold_disks(self, host: Host) -> None:
        self.add_orphan(host)
        reason = refused(host, libvirt=True)
        for words in (f"1 directories hold disks, {UUID}_resize", "libvirt: false", "instances_complete_for"):
            assert words in reason

    def test_libvirt_false_is_a_remedy(self, host: Host) -> None:
        self.add_orphan(host)
        assert states(served(host, libvirt=False))[BASE] == "active: backing"

    def test_instances_complete_for_is_a_remedy(self, host: Host) -> None:
        self.add_orphan(host)
        result = served(host, libvirt=True, instances_complete_for=["vm"])
        assert states(result)[BASE] == "active: orphan"

    @pytest.mark.parametrize(
        "options",
        [{"instances_complete_for": ["other"]}, {"orphans": "ignore"}, {"shared_storage": True}],
        ids=["another host", "orphans ignored", "shared storage"],
    )
    def test_instances_complete_for_is_no_remedy_where_it_could_cost_a_disk(
        self, host: Host, options: dict[str, Any]
    ) -> None:
        self.add_orphan(host)
        assert "No source listed any instance" in refused(
            host, **{"libvirt": True, "instances_complete_for": ["vm"], **options}
        )


class TestBackingFileOutsideOfTheCache:
    @pytest.fixture
    def folder(self, host: Host) -> Path:
        path = host.root / "templates"
        path.mkdir()
        return path

    @pytest.mark.parametrize("place", ["instance", "elsewhere"])
    def test_raw_backing_file_stops_nothing(self, host: Host, folder: Path, place: str) -> None:
        (folder / "image").write_bytes(bytes(1 << 20))
        path = (directory_of(host, UUID) if place == "instance" else host.root) / "disk"
        create_image(path, over=folder / "image", over_format="raw")
        domain(host, UUID, {path: "qcow2"})
        assert served(host, libvirt=True).facts["missing"] == []

    def test_raw_backing_file_at_the_end_of_a_chain_stops_nothing(self, host: Host, folder: Path) -> None:
        (folder / "image").write_bytes(bytes(1 << 20))
        template(host, BASE, over=folder / "image", over_format="raw")
        create_image(directory_of(host, UUID) / "disk", over=host.cache_path / BASE)
        assert states(served(host))[BASE] == "active: backing"

    def test_raw_data_file_stops_nothing(self, host: Host, folder: Path) -> None:
        path = directory_of(host, UUID) / "disk"
        options = f"data_file={folder}/data,data_file_raw=on"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, "1M"], check=True)
        served(host)

    def test_raw_backing_file_whose_format_no_header_gives_stops_nothing(self, host: Host, folder: Path) -> None:
        (folder / "image").write_bytes(bytes(1 << 20))
        host.overlay(UUID, folder / "image", None)
        disk_info(host, UUID, {"disk": "qcow2"})
        served(host)

    @pytest.mark.parametrize("backing_format", ["qcow2", None])
    @pytest.mark.parametrize("recorded", [{}, {"disk": "qcow2"}])
    def test_qcow2_backing_file_is_unknown_use(
        self, host: Host, folder: Path, backing_format: str | None, recorded: dict[str, str]
    ) -> None:
        host.base(BASE, age=OLD)
        create_image(folder / "image", over=host.cache_path / BASE, over_format="raw")
        host.overlay(UUID, folder / "image", backing_format)
        disk_info(host, UUID, recorded)
        assert "is outside of" in refused(host)

    def test_qcow2_backing_file_whose_chain_is_read_stops_nothing(self, host: Host, folder: Path) -> None:
        host.base(BASE, age=OLD)
        create_image(folder / "image", over=host.cache_path / BASE, over_format="raw")
        create_image(folder / "disk", over=folder / "image")
        domain(host, UUID, {folder / "disk": "qcow2"})
        assert states(served(host, libvirt=True))[BASE] == "active: backing"

    def test_name_without_a_format_on_a_disk_of_no_known_format_is_not_followed(self, host: Host, folder: Path) -> None:
        (folder / "image").write_bytes(bytes(1 << 20))
        host.overlay(UUID, folder / "image", None)
        assert "is outside of" in refused(host)

    def test_name_without_a_format_in_a_base_file_is_not_followed(self, host: Host, folder: Path) -> None:
        """A tenant may have uploaded the image of the base file."""
        (folder / "image").write_bytes(bytes(1 << 20))
        (host.cache_path / BASE).write_bytes(overlay_bytes(1 << 20, os.fsencode(folder / "image"), None))
        host.overlay(UUID, host.cache_path / BASE, "qcow2")
        disk_info(host, UUID, {"disk": "qcow2"})
        assert "is outside of" in refused(host)

    def test_device_as_backing_file_is_not_opened(self, host: Host) -> None:
        host.overlay(UUID, "/dev/null", None)
        disk_info(host, UUID, {"disk": "qcow2"})
        assert "is outside of" in refused(host)


class TestPloop:
    def disk(self, host: Host) -> Path:
        path = directory_of(host, UUID) / "disk"
        path.mkdir()
        return path

    @pytest.mark.parametrize("recorded", [{}, {"disk": "ploop"}, {"disk": "raw"}])
    def test_directory_of_a_ploop_disk_names_nothing(self, host: Host, recorded: dict[str, str]) -> None:
        path = self.disk(host)
        (path / "root.hds").write_bytes(bytes(4096))
        (path / "DiskDescriptor.xml").write_text("<Parallels_disk_image/>")
        disk_info(host, UUID, recorded)
        served(host)

    def test_any_other_directory_is_unknown_use(self, host: Host) -> None:
        self.disk(host)
        assert "Is a directory" in refused(host)

    def test_link_to_a_directory_of_a_ploop_disk_is_unknown_use(self, host: Host) -> None:
        (host.root / "ploop").mkdir()
        (host.root / "ploop" / "root.hds").touch()
        (directory_of(host, UUID) / "disk").symlink_to(host.root / "ploop")
        assert "is a link" in refused(host)


@pytest.mark.parametrize("name", ["swap_128", "ephemeral_1_0706d66"])
def test_missing_template_is_not_to_be_taken_from_another_host(host: Host, name: str) -> None:
    host.overlay(UUID, host.cache_path / name)
    [warning] = [text for text in host.audit().warnings if name in text]
    assert "Take none from another host" in warning
    assert "or from Glance" not in warning
