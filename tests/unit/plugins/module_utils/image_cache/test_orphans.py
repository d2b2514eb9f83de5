# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An operator sees what the directories hold that belong to no known instance, and nothing outside of them counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache import orphans as tested
from ansible_collections.stackops.nova.tests.support.constants import BASE, IMAGE, OTHER_BASE, OTHER_UUID, UUID
from ansible_collections.stackops.nova.tests.support.host import HOUR, NAME, OLD, Host, create_image, orphans, picture
from ansible_collections.stackops.nova.tests.support.processes import mount, needs_root, with_own_mounts
from ansible_collections.stackops.nova.tests.support.run_module import collections_path

KIB = 1024
LOOK_FOR_SERVER = "Look for the server (openstack server show)."
NO_UUID = f"No source lists an instance of this UUID. {LOOK_FOR_SERVER}"


def listed(host: Host, *records: dict[str, Any], **given: Any) -> list[dict[str, Any]]:
    """What an audit says of the orphans of a host on which these instances are known, and one without disks."""
    known = [{"uuid": "known", "host": NAME}, *records]
    result: list[dict[str, Any]] = host.audit(instances=known, **given).facts["orphans"]
    return result


def filled(path: Path, kib: int) -> Path:
    path.write_bytes(b"x" * kib * KIB)
    return path


def taken(*files: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in files)


def lost(host: Host, name: str = UUID, kib: int = 64) -> Path:
    """A directory with a raw disk of so much data."""
    host.disk(name, b"x" * kib * KIB)
    return host.instances_path / name


class TestContents:
    def test_orphan_is_shown_with_what_it_holds(self, host: Host) -> None:
        host.base(BASE, age=OLD)
        host.base(OTHER_BASE, age=OLD)
        host.instance(UUID, {"disk": BASE, "disk.swap": OTHER_BASE})
        directory = host.instances_path / UUID
        filled(directory / "console.log", 8)
        files = [directory / name for name in sorted(os.listdir(directory))]
        for number, file in enumerate(files):
            os.utime(file, (host.now, host.now - OLD - number))
        (orphan,) = listed(host)
        assert orphan == {
            "directory": UUID,
            "allocated_bytes": taken(*files),
            "newest_mtime": pytest.approx(host.now - OLD, abs=0.001),
            "disks": 2,
            "backed_by": [BASE, OTHER_BASE],
            "why": NO_UUID,
        }

    def test_hole_in_a_disk_takes_no_space(self, host: Host) -> None:
        disk = lost(host) / "disk"
        os.truncate(disk, 1 << 40)
        (orphan,) = listed(host)
        assert orphan["allocated_bytes"] == taken(disk) < 1 << 20

    def test_whole_chain_in_the_cache_backs_an_orphan(self, host: Host) -> None:
        lowest = host.base(OTHER_BASE, age=OLD)
        middle = create_image(host.cache_path / BASE, over=lowest, over_format="raw")
        create_image(lost(host) / "disk", over=middle)
        (orphan,) = listed(host)
        assert orphan["backed_by"] == [BASE, OTHER_BASE]

    def test_folder_of_a_ploop_disk_counts(self, host: Host) -> None:
        folder = host.instances_path / UUID / "disk"
        folder.mkdir(parents=True)
        files = [filled(folder / "root.hds", 256), filled(folder / "disk.2", 4)]
        (orphan,) = listed(host)
        assert (orphan["allocated_bytes"], orphan["disks"]) == (taken(*files), 1)

    def test_target_of_a_link_does_not_count(self, host: Host) -> None:
        directory = lost(host)
        elsewhere = host.root / "elsewhere"
        elsewhere.mkdir()
        outside = filled(elsewhere / "large", 512)
        (directory / "folder").symlink_to(elsewhere)
        (directory / "console.log").symlink_to(outside)
        (orphan,) = listed(host)
        assert orphan["allocated_bytes"] == taken(directory / "disk")

    def test_orphan_that_is_a_link_is_listed_and_not_looked_into(self, host: Host) -> None:
        lost(host).rename(host.root / "elsewhere")
        (host.instances_path / UUID).symlink_to(host.root / "elsewhere")
        (orphan,) = listed(host)
        assert orphan["directory"] == UUID
        assert (orphan["allocated_bytes"], orphan["newest_mtime"], orphan["disks"]) == (None, None, None)

    def test_sockets_and_pipes_do_not_count(self, host: Host) -> None:
        directory = lost(host)
        os.mkfifo(directory / "console.pipe")
        (orphan,) = listed(host)
        assert orphan["allocated_bytes"] == taken(directory / "disk")

    @needs_root
    def test_file_system_that_is_mounted_in_an_orphan_does_not_count(self, host: Host) -> None:
        directory = lost(host)
        (directory / "mounted").mkdir()

        def audit_with_a_mount() -> list[dict[str, Any]]:
            mount("-t", "tmpfs", "tmpfs", directory / "mounted")
            filled(directory / "mounted" / "file", 64)
            return listed(host)

        (orphan,) = with_own_mounts(audit_with_a_mount)
        assert orphan["allocated_bytes"] == taken(directory / "disk")

    @needs_root
    def test_folder_that_is_mounted_in_an_orphan_on_a_file_system_of_its_own_does_not_count(self, host: Host) -> None:
        elsewhere = host.root / "elsewhere"
        elsewhere.mkdir()
        filled(elsewhere / "file", 64)
        directory = host.instances_path / UUID
        directory.mkdir()

        def audit_with_mounts() -> tuple[list[dict[str, Any]], int]:
            mount("-t", "tmpfs", "tmpfs", directory)
            (directory / "mounted").mkdir()
            mount("--bind", elsewhere, directory / "mounted")
            disk = filled(directory / "disk", 4)
            return listed(host), taken(disk)

        (orphan,), taken_by_disk = with_own_mounts(audit_with_mounts)
        assert orphan["allocated_bytes"] == taken_by_disk

    def test_folders_below_the_third_level_do_not_count(self, host: Host) -> None:
        directory = lost(host)
        (directory / "2" / "3" / "4").mkdir(parents=True)
        counted = [directory / "disk", filled(directory / "2" / "file", 4), filled(directory / "2" / "3" / "file", 4)]
        filled(directory / "2" / "3" / "4" / "file", 128)
        (orphan,) = listed(host)
        assert orphan["allocated_bytes"] == taken(*counted)

    def test_work_on_one_directory_is_bounded(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        directory = lost(host, kib=4)
        for number in range(20):
            filled(directory / f"file{number}", 4)
        monkeypatch.setattr(tested, "_MOST_ENTRIES", 10)
        (orphan,) = listed(host)
        assert orphan["allocated_bytes"] == 10 * taken(directory / "disk")

    def test_directories_after_the_bound_are_listed_with_unknown_contents(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = [f"{number:036}" for number in range(5)]
        for name in names:
            lost(host, name, kib=4)
        monkeypatch.setattr(tested, "_MOST_DIRECTORIES", 3)
        found = listed(host)
        assert [orphan["directory"] for orphan in found] == names
        assert [orphan["allocated_bytes"] is None for orphan in found] == [False, False, False, True, True]

    @pytest.mark.parametrize(
        ("shared", "complete", "is_looked_into"),
        [
            pytest.param(True, [], False, id="other host is unknown"),
            pytest.param(True, ["other"], True, id="other host is known"),
            pytest.param(False, [], True, id="storage is not shared"),
        ],
    )
    def test_directories_that_may_be_of_another_host_are_not_looked_into(
        self, host: Host, shared: bool, complete: list[str], is_looked_into: bool
    ) -> None:
        lost(host)
        host.compute_nodes({"other": host.now})
        (orphan,) = listed(host, shared_storage=shared, instances_complete_for=complete)
        assert (orphan["allocated_bytes"] is not None) is is_looked_into

    def test_file_and_folder_that_vanish_meanwhile_do_not_stop_it(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        directory = lost(host)
        (directory / "folder").mkdir()
        filled(directory / "folder" / "file", 4)
        opened = os.open

        def vanishes(path: Any, flags: int, **more: Any) -> int:
            if path == "folder":
                raise FileNotFoundError(path)
            return opened(path, flags, **more)

        monkeypatch.setattr(tested.os, "open", vanishes)
        (orphan,) = listed(host)
        assert orphan["allocated_bytes"] == taken(directory / "disk")

    def test_audit_with_orphans_leaves_nothing_open(self, host: Host) -> None:
        (lost(host) / "folder").mkdir()
        before = os.listdir("/proc/self/fd")
        listed(host)
        assert os.listdir("/proc/self/fd") == before

    def test_audit_with_orphans_writes_nothing(self, host: Host) -> None:
        lost(host)
        before = picture(host.root)
        listed(host)
        assert picture(host.root) == before


class TestOrder:
    def test_largest_orphan_is_first(self, host: Host) -> None:
        for name, kib in (("a", 4), ("b", 64), ("c", 16), ("d", 4)):
            lost(host, name, kib)
        found = listed(host)
        assert [orphan["directory"] for orphan in found] == ["b", "c", "a", "d"]

    def test_summary_has_the_sum_of_all(self, host: Host) -> None:
        disks = [lost(host, f"{number:036}") / "disk" for number in range(30)]
        facts = host.audit(instances=[], instances_complete_for=[NAME], details="summary").facts
        assert facts["summary"]["orphans"] == {"directories": 30, "allocated_bytes": taken(*disks)}
        assert len(facts["orphans"]) + facts["omitted"]["orphans"] == 30


class TestWhy:
    @pytest.mark.parametrize(
        ("directory", "why"),
        [
            (OTHER_UUID, NO_UUID),
            ("instance-0000000b", "No source lists an instance of this name. Look for the domain (virsh list --all)."),
            (
                f"{OTHER_UUID}_resize",
                f"A resize or a migration made this directory, and no source lists the instance. {LOOK_FOR_SERVER}",
            ),
            (
                f"{UUID}_resize",
                "A resize or a migration left this directory behind: the instance is known, and not being resized. "
                "See the server's events (openstack server event list).",
            ),
            (f"{UUID}_del", f"nova renamed this directory to delete it, and has not finished. {LOOK_FOR_SERVER}"),
            (f"{OTHER_UUID}_del", f"nova renamed this directory to delete it, and has not finished. {LOOK_FOR_SERVER}"),
        ],
    )
    def test_orphan_has_the_reason_why_it_counts_as_one(self, host: Host, directory: str, why: str) -> None:
        lost(host, directory)
        host.disk(UUID, b"x" * KIB)
        (orphan,) = listed(host, {"uuid": UUID, "host": NAME, "vm_state": "active"})
        assert (orphan["directory"], orphan["why"]) == (directory, why)


class TestCost:
    def test_host_without_orphans_does_not_even_load_what_measures_them(self, host: Host) -> None:
        host.base(BASE)
        host.instance(UUID, {"disk": BASE})
        code = (
            "import json, sys\n"
            "from ansible_collections.stackops.nova.plugins.module_utils.image_cache.audit import audit\n"
            "options = json.loads(sys.argv[1])\n"
            "facts = audit(options, float(sys.argv[2]), None).facts\n"
            "assert facts['summary']['active'] == 1 and facts['orphans'] == []\n"
            "assert not [name for name in sys.modules if name.endswith(('.orphans', '.images_result', '.images'))]\n"
        )
        options = host.options(instances=[{"uuid": UUID, "image_ref": IMAGE, "host": NAME}], details="summary")
        subprocess.run(
            [sys.executable, "-c", code, json.dumps(options), str(host.now)],
            check=True,
            env={**os.environ, "PYTHONPATH": collections_path()},
        )


def test_orphans_are_never_removed(host: Host) -> None:
    directory = lost(host)
    result = host.prune(instances=[{"uuid": "known", "host": NAME}], orphans="ignore")
    assert (result.error, orphans(result)) == (None, [UUID])
    assert sorted(os.listdir(directory)) == ["disk"]


@pytest.mark.parametrize("name", ["\x1b[31m", "new\nline", "{{ 7*7 }}", "x" * 255, os.fsdecode(b"\xff\xfe")])
def test_name_of_an_orphan_is_shown_on_one_line(host: Host, name: str) -> None:
    lost(host, name)
    for details in ("summary", "names"):
        (orphan,) = listed(host, details=details)
        assert orphan["directory"].isprintable()
        assert orphan["allocated_bytes"] > 0


def test_orphan_of_an_hour_ago_has_the_time_of_its_last_write(host: Host) -> None:
    disk = lost(host) / "disk"
    os.utime(disk, (host.now, host.now - HOUR))
    (orphan,) = listed(host)
    assert orphan["newest_mtime"] == pytest.approx(host.now - HOUR, abs=0.001)
