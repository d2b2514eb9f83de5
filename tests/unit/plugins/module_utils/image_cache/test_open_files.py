# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes that have a file open are found: real ones, QEMU with a disk open and others."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.open_files import (
    Inode,
    OpenFiles,
    find_open_files,
    is_open_elsewhere,
    qemu_holds,
)
from ansible_collections.stackops.nova.tests.support.constants import BASE
from ansible_collections.stackops.nova.tests.support.host import Host, create_image
from ansible_collections.stackops.nova.tests.support.processes import (
    as_nobody,
    guest,
    in_a_child,
    mount,
    needs_root,
    reader,
    with_own_mounts,
)


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def held(path: Path) -> bool:
    with opened(path) as descriptor:
        return qemu_holds(descriptor)


def inodes(*paths: Path) -> dict[Inode, list[str]]:
    return {(path.stat().st_dev, path.stat().st_ino): [path.name] for path in paths}


def find(*paths: Path) -> set[str]:
    return find_open_files(inodes(*paths)).names


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / BASE
    path.write_bytes(bytes(4096))
    return path


class TestQemuHolds:
    def test_every_file_of_a_guests_chain_is_held_until_the_guest_ends(self, tmp_path: Path) -> None:
        lowest = tmp_path / "lowest"
        lowest.write_bytes(bytes(1 << 20))
        chain = [lowest, create_image(tmp_path / "middle", over=lowest, over_format="raw")]
        chain.append(create_image(tmp_path / "disk", over="middle"))
        with guest(chain[-1]):
            assert [held(file) for file in chain] == [True, True, True]
        assert [held(file) for file in chain] == [False, False, False]

    def test_file_that_another_program_reads_is_not_held_by_qemu(self, base: Path) -> None:
        with reader(base):
            assert not held(base)

    def test_lock_on_other_bytes_is_not_one_of_qemu(self, base: Path) -> None:
        with base.open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX, 100)
            assert in_a_child(lambda: held(base)) is False

    def test_asking_for_locks_of_qemu_takes_none(self, tmp_path: Path, base: Path) -> None:
        disk = create_image(tmp_path / "disk", over=base, over_format="raw")
        with opened(base) as descriptor:
            assert not qemu_holds(descriptor)
            with guest(disk):
                assert qemu_holds(descriptor)


class TestFindOpenFiles:
    def test_file_that_another_process_has_open_is_found(self, tmp_path: Path, base: Path) -> None:
        other = tmp_path / "other"
        other.touch()
        with reader(base):
            assert find(base, other) == {BASE}
        assert find(base, other) == set()

    def test_file_that_this_process_alone_has_open_is_not_found(self, base: Path) -> None:
        with opened(base):
            assert find(base) == set()

    def test_other_open_file_of_the_same_name_is_not_found(self, tmp_path: Path, base: Path) -> None:
        namesake = tmp_path / "elsewhere" / BASE
        namesake.parent.mkdir()
        namesake.touch()
        with reader(namesake):
            assert find(base) == set()

    def test_open_file_that_was_removed_and_put_back_is_found(self, tmp_path: Path, base: Path) -> None:
        spare = tmp_path / "spare"
        with reader(base):
            spare.hardlink_to(base)
            base.unlink()
            spare.rename(base)
            assert find(base) == {BASE}

    def test_open_file_with_two_names_is_found_under_both(self, tmp_path: Path, base: Path) -> None:
        other = tmp_path / "other"
        other.hardlink_to(base)
        with reader(other):
            assert find_open_files({(base.stat().st_dev, base.stat().st_ino): [BASE, "other"]}).names == {BASE, "other"}

    def test_file_that_is_open_under_another_path_is_found(self, tmp_path: Path, base: Path) -> None:
        (tmp_path / "alias").symlink_to(tmp_path)
        with reader(tmp_path / "alias" / BASE):
            assert find(base) == {BASE}

    @needs_root
    def test_file_that_is_open_in_another_mount_is_found(self, tmp_path: Path) -> None:
        cache, container = tmp_path / "cache", tmp_path / "container"
        cache.mkdir()
        container.mkdir()
        (cache / BASE).touch()

        def open_in_a_container() -> set[str]:
            mount("--bind", cache, container)
            with reader(container / BASE):
                return find(cache / BASE)

        assert with_own_mounts(open_in_a_container) == {BASE}

    @needs_root
    def test_file_behind_a_loop_device_is_found_although_no_process_has_it_open(self, base: Path) -> None:
        attach = ["losetup", "--find", "--show", "--read-only", str(base)]
        device = subprocess.run(attach, check=True, capture_output=True, text=True).stdout.strip()
        try:
            assert find(base) == {BASE}
        finally:
            subprocess.run(["losetup", "--detach", device], check=True)

    @needs_root
    def test_processes_that_cannot_be_looked_into_are_counted(self, base: Path) -> None:
        files = inodes(base)
        hidden_from_nobody = as_nobody(lambda: find_open_files(files)).hidden_processes
        assert hidden_from_nobody > find_open_files(files).hidden_processes

    def test_file_that_is_closed_meanwhile_is_not_found(self, tmp_path: Path, base: Path) -> None:
        (tmp_path / "proc/1/fd").mkdir(parents=True)
        (tmp_path / "proc/1/fd/3").symlink_to(tmp_path / "closed" / BASE)
        assert find_open_files(inodes(base), proc=str(tmp_path / "proc")) == OpenFiles(set(), 0)

    @needs_root
    def test_process_whose_file_may_not_be_looked_at_is_counted(self, public_host: Host) -> None:
        base, descriptors = public_host.base(BASE), public_host.root / "proc/1/fd"
        descriptors.mkdir(parents=True)
        for number in "34":
            (descriptors / number).symlink_to(base)
        files = inodes(base)
        public_host.cache_path.chmod(0o700)
        found = as_nobody(lambda: find_open_files(files, proc=str(public_host.root / "proc")))
        assert found == OpenFiles(set(), 1)

    def test_missing_list_of_processes_is_an_error(self, tmp_path: Path, base: Path) -> None:
        with pytest.raises(ImageCacheError, match="it is not certain which files are open"):
            find_open_files(inodes(base), proc=str(tmp_path / "proc"))


class TestIsOpenElsewhere:
    @pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR])
    def test_file_is_open_elsewhere_while_another_process_has_it_open(self, base: Path, flags: int) -> None:
        with opened(base, flags) as descriptor:
            with reader(base):
                assert is_open_elsewhere(descriptor) is True
            assert is_open_elsewhere(descriptor) is False

    def test_file_that_is_open_under_another_name_is_open_elsewhere(self, tmp_path: Path, base: Path) -> None:
        other_name = tmp_path / "other"
        other_name.hardlink_to(base)
        with opened(base) as descriptor, reader(other_name):
            assert is_open_elsewhere(descriptor) is True

    @needs_root
    def test_file_of_another_owner_has_no_answer(self, base: Path) -> None:
        with opened(base) as descriptor:
            assert as_nobody(lambda: is_open_elsewhere(descriptor)) is None

    def test_process_that_opens_the_file_during_the_question_waits(self, base: Path) -> None:
        with opened(base) as descriptor:
            assert is_open_elsewhere(descriptor) is False
            newcomer = subprocess.Popen(["cat", str(base)], stdout=subprocess.DEVNULL)
            with pytest.raises(subprocess.TimeoutExpired):
                newcomer.wait(0.3)
        assert newcomer.wait(5) == 0
