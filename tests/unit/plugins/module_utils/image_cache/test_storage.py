# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The storage of a cache is described as the system's own tools describe it, and its users as nova recorded them."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.storage import (
    Storage,
    find_storage,
    is_shared,
    may_hang,
    read_storage_users,
)
from ansible_collections.stackops.nova.tests.support.processes import mount, needs_root, with_own_mounts


def as_df_has_it(path: str) -> tuple[str, int]:
    done = subprocess.run(["df", "--block-size=1", "--output=fstype,size", path], check=True, capture_output=True)
    filesystem, size = done.stdout.split()[-2:]
    return filesystem.decode(), int(size)


class TestFindStorage:
    @pytest.mark.parametrize("path", ["/", "/dev", "/dev/shm", "/tmp"])
    def test_file_system_and_size_agree_with_df(self, path: str) -> None:
        storage = find_storage(path)
        assert (storage.filesystem, storage.total_bytes) == as_df_has_it(path)

    def test_file_system_that_reports_no_size_has_none(self) -> None:
        storage = find_storage("/proc")
        assert (storage.filesystem, storage.free_bytes, storage.total_bytes) == ("proc", None, None)

    def test_free_bytes_are_those_of_an_ordinary_user(self, tmp_path: Path) -> None:
        done = subprocess.run(["df", "--block-size=1", "--output=avail", tmp_path], check=True, capture_output=True)
        assert find_storage(str(tmp_path)).free_bytes == pytest.approx(int(done.stdout.split()[-1]), abs=1 << 28)

    def test_two_paths_to_one_directory_are_one_storage(self, tmp_path: Path) -> None:
        cache = tmp_path / "instances" / "_base"
        cache.mkdir(parents=True)
        (tmp_path / "alias").symlink_to("instances")
        assert find_storage(str(tmp_path / "alias" / "_base")).id == find_storage(str(cache)).id

    def test_two_directories_are_two_storages(self, tmp_path: Path) -> None:
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
        assert find_storage(str(tmp_path / "one")).id != find_storage(str(tmp_path / "other")).id

    def test_local_disk_is_not_shared(self, tmp_path: Path) -> None:
        assert not find_storage(str(tmp_path)).shared

    def test_name_that_mountinfo_escapes_is_understood(self, tmp_path: Path) -> None:
        path = tmp_path / "with space\tand\\more"
        path.mkdir()
        assert find_storage(str(path)).id.endswith("/with space\tand\\more")


@pytest.mark.parametrize("filesystem", ["nfs", "nfs4", "ceph", "glusterfs", "ocfs2", "fuse.glusterfs", "fuse"])
def test_file_system_of_a_network_or_process_is_shared(filesystem: str) -> None:
    assert is_shared(filesystem)


@pytest.mark.parametrize("filesystem", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuseblk"])
def test_file_system_of_a_local_disk_is_not_shared(filesystem: str) -> None:
    assert not is_shared(filesystem)


@needs_root
class TestFindStorageUnderAMount:
    @pytest.mark.parametrize(
        "name", ["plain", "with space", "tab\tbed", "back\\slash", "new\nline", "carriage\rreturn"]
    )
    def test_mount_is_found_whatever_its_name(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        path.mkdir()

        def look() -> tuple[Storage, tuple[str, int]]:
            mount("-t", "tmpfs", "-o", "size=1M", "tmpfs", path)
            return find_storage(str(path)), as_df_has_it(str(path))

        storage, (filesystem, size) = with_own_mounts(look)
        assert (storage.filesystem, storage.total_bytes) == (filesystem, size) == ("tmpfs", 1 << 20)

    def test_later_of_two_mounts_at_one_place_counts(self, tmp_path: Path) -> None:
        def look() -> Storage:
            mount("-t", "tmpfs", "-o", "size=1M", "tmpfs", tmp_path)
            mount("-t", "ramfs", "ramfs", tmp_path)
            return find_storage(str(tmp_path))

        assert with_own_mounts(look).filesystem == "ramfs"

    def test_bind_mount_is_the_storage_that_it_shows(self, tmp_path: Path) -> None:
        cache, container = tmp_path / "cache", tmp_path / "container"
        cache.mkdir()
        container.mkdir()

        def look() -> tuple[str, str]:
            mount("--bind", cache, container)
            return find_storage(str(cache)).id, find_storage(str(container)).id

        here, there = with_own_mounts(look)
        assert here == there

    def test_subdirectory_of_a_bind_mount_is_the_storage_that_it_shows(self, tmp_path: Path) -> None:
        (tmp_path / "instances" / "_base").mkdir(parents=True)
        (tmp_path / "container").mkdir()

        def look() -> tuple[str, str]:
            mount("--bind", tmp_path / "instances", tmp_path / "container")
            return (
                find_storage(str(tmp_path / "instances" / "_base")).id,
                find_storage(str(tmp_path / "container" / "_base")).id,
            )

        here, there = with_own_mounts(look)
        assert here == there

    def test_local_disk_of_a_host_without_a_machine_id_has_the_name_of_the_host(self, tmp_path: Path) -> None:
        unreadable = tmp_path / "machine-id"
        unreadable.write_bytes(b"\xff")

        def look() -> str:
            mount("--bind", unreadable, "/etc/machine-id")
            return find_storage(str(tmp_path)).id

        assert f":{os.uname().nodename}:" in with_own_mounts(look)


class TestReadStorageUsers:
    def test_hosts_and_their_times_are_read(self, tmp_path: Path) -> None:
        (tmp_path / "compute_nodes").write_text('{"vm": 1795311540.1, "other": 1795000000}')
        assert read_storage_users(str(tmp_path), shared=True) == {"vm": 1795311540.1, "other": 1795000000.0}

    def test_missing_record_names_no_host(self, tmp_path: Path) -> None:
        assert read_storage_users(str(tmp_path), shared=True) == {}

    @pytest.mark.parametrize("text", ["", "\n"])
    def test_empty_file_names_no_host_on_a_local_disk_and_may_lack_hosts_on_shared_storage(
        self, tmp_path: Path, text: str
    ) -> None:
        (tmp_path / "compute_nodes").write_text(text)
        assert read_storage_users(str(tmp_path), shared=False) == {}
        with pytest.raises(ImageCacheError, match="it is empty, perhaps because another host writes it now"):
            read_storage_users(str(tmp_path), shared=True)

    @pytest.mark.parametrize(
        "text",
        [
            "vm",
            '"vm"',
            "null",
            "[]",
            '["vm"]',
            '{"vm": null}',
            '{"vm": "today"}',
            '{"vm": [1]}',
            '{"vm": true}',
            '{"vm": "1795311540.1"}',
            pytest.param('{"vm": ' + (4 << 20) * "9", id="four million digits"),
            '{"vm": {}}',
            '{"vm": NaN}',
            pytest.param('{"vm": 1' + 400 * "0" + "}", id="a number beyond all floats"),
            '{"vm": 1',
            b'{"v\xffm": 1}',
            pytest.param(100000 * "[", id="deeply nested"),
            pytest.param('{"vm": 1}' + (5 << 20) * " ", id="five megabytes"),
        ],
    )
    def test_record_that_cannot_be_understood_is_named(self, tmp_path: Path, text: str | bytes) -> None:
        path = tmp_path / "compute_nodes"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        with pytest.raises(ImageCacheError) as error:
            read_storage_users(str(tmp_path), shared=True)
        assert str(path) in str(error.value)

    def test_directory_in_place_of_the_record_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "compute_nodes").mkdir()
        with pytest.raises(ImageCacheError, match=r"compute_nodes.*it is not a regular file"):
            read_storage_users(str(tmp_path), shared=True)

    def test_fifo_in_place_of_the_record_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "compute_nodes")
        with pytest.raises(ImageCacheError, match="compute_nodes"):
            read_storage_users(str(tmp_path), shared=True)

    def test_fifo_with_a_writer_in_place_of_the_record_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "compute_nodes")
        writer = os.open(tmp_path / "compute_nodes", os.O_RDWR)
        with pytest.raises(ImageCacheError, match="compute_nodes"):
            read_storage_users(str(tmp_path), shared=True)
        os.close(writer)

    def test_socket_in_place_of_the_record_is_named(self, tmp_path: Path) -> None:
        os.mknod(tmp_path / "compute_nodes", stat.S_IFSOCK | 0o600)
        with pytest.raises(ImageCacheError, match="compute_nodes"):
            read_storage_users(str(tmp_path), shared=True)


LOCAL = (
    "25 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw",
    "26 25 0:22 / /proc rw - proc proc rw",
    "27 26 0:30 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw,fd=29",
    "28 25 0:31 / /run/docker\\040overlay rw master:2 - overlay overlay rw,lowerdir=/a",
    "29 25 0:32 / /sys/fs/fuse/connections rw - fusectl fusectl rw",
)


class TestMayHang:
    """Only what another machine has to answer for can hang."""

    def mounts(self, tmp_path: Path, *lines: str) -> str:
        path = tmp_path / "mountinfo"
        path.write_text("".join(f"{line}\n" for line in lines))
        return str(path)

    def test_local_disks_answer(self, tmp_path: Path) -> None:
        assert not may_hang(self.mounts(tmp_path, *LOCAL))

    @pytest.mark.parametrize(
        "line",
        [
            "40 25 0:50 / /mnt/nova rw shared:9 - nfs4 10.0.0.1:/nova rw,hard",
            "40 25 0:50 / /mnt/ceph rw - ceph 10.0.0.1:/ rw",
            "40 25 0:50 / /mnt/fuse rw - fuse.sshfs host:/ rw",
            "40 25 0:50 / /net rw - autofs /etc/auto.net rw,fd=7",
        ],
    )
    def test_storage_of_another_machine_may_hang(self, tmp_path: Path, line: str) -> None:
        assert may_hang(self.mounts(tmp_path, *LOCAL[:2], line, *LOCAL[2:]))

    @pytest.mark.parametrize("lines", [["garbage"], ["1 2 - autofs auto rw"]])
    def test_table_that_cannot_be_understood_may_hide_one(self, tmp_path: Path, lines: list[str]) -> None:
        assert may_hang(self.mounts(tmp_path, *lines))
        assert may_hang(str(tmp_path / "none"))
