# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What real processes have open, deleted or not, is seen as the kernel has it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.proof import OpenFile
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.sources import (
    former_files_of,
    open_again,
    users_of_inode,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.open_files import is_open_elsewhere
from ansible_collections.stackops.nova.tests.support.constants import BASE, OTHER_BASE, OTHER_UUID, UUID
from ansible_collections.stackops.nova.tests.support.processes import NOBODY, as_nobody, needs_root, start_child

CONTENT = b"a base file"


@contextmanager
def process_with(*files: IO[Any], users: tuple[int, int] | None = None) -> Iterator[int]:
    """The number of a process that has these files open, as this one has them no more.

    :param users: its real and its effective user, if not this one's.
    """
    command = ["sleep", "600"]
    numbers = [file.fileno() for file in files]
    become = None if users is None else partial(os.setreuid, *users)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=numbers, preexec_fn=become) as process:
        for file in files:
            file.close()
        try:
            yield process.pid
        finally:
            process.kill()


def inode(path: Path) -> tuple[int, int]:
    return path.stat().st_dev, path.stat().st_ino


class TestDeletedFiles:
    @pytest.fixture
    def base(self, tmp_path: Path) -> Path:
        path = tmp_path / BASE
        path.write_bytes(CONTENT)
        return path

    def found(self, process: int, cache: Path, closing: ExitStack) -> list[tuple[str, OpenFile]]:
        """The deleted files of two names that a process has open."""

        def name_of(path: str) -> str | None:
            directory, name = os.path.split(path)
            return name if directory == str(cache) and name in (BASE, OTHER_BASE, "swap_1") else None

        return former_files_of(process, {BASE, OTHER_BASE}, name_of, {}, {"disk"}, closing)

    def test_deleted_file_is_found_with_all_that_the_kernel_says(self, base: Path) -> None:
        os.truncate(base, 1 << 20)
        status = base.stat()
        with process_with(base.open("rb")) as process, ExitStack() as closing:
            base.unlink()
            [(name, found)] = self.found(process, base.parent, closing)
            assert os.fstat(found.descriptor).st_ino == status.st_ino
            assert Path(found.path).stat().st_ino == status.st_ino
        assert name == BASE
        assert found == OpenFile(
            process=process,
            number=file_number(found),
            descriptor=found.descriptor,
            users=frozenset([os.geteuid()]),
            written=frozenset(),
            inode=(status.st_dev, status.st_ino),
            mode=status.st_mode,
            links=0,
            owner=status.st_uid,
            size_bytes=1 << 20,
            allocated_bytes=status.st_blocks * 512,
        )

    def test_bytes_can_be_read_when_the_process_has_ended(self, base: Path) -> None:
        with ExitStack() as closing:
            with process_with(base.open("rb")) as process:
                base.unlink()
                [(_name, found)] = self.found(process, base.parent, closing)
            descriptor = open_again(found.descriptor)
            closing.callback(os.close, descriptor)
            assert os.read(descriptor, 100) == CONTENT

    def test_descriptors_are_closed_in_the_end(self, base: Path) -> None:
        before = os.listdir("/proc/self/fd")
        with process_with(base.open("rb")) as process, ExitStack() as closing:
            base.unlink()
            self.found(process, base.parent, closing)
        assert set(os.listdir("/proc/self/fd")) <= set(before)

    def test_every_deleted_file_of_a_process_is_found(self, base: Path) -> None:
        other = base.with_name(OTHER_BASE)
        other.touch()
        with process_with(base.open("rb"), other.open("rb")) as process:
            base.unlink()
            other.unlink()
            with ExitStack() as closing:
                names = {name for name, _file in self.found(process, base.parent, closing)}
        assert names == {BASE, OTHER_BASE}

    def test_file_that_still_has_its_name_is_not_found(self, base: Path) -> None:
        with process_with(base.open("rb")) as process, ExitStack() as closing:
            assert self.found(process, base.parent, closing) == []

    def test_deleted_file_that_has_another_name_somewhere_is_found_with_its_links(self, base: Path) -> None:
        with process_with(base.open("rb")) as process, ExitStack() as closing:
            base.with_name("backup").hardlink_to(base)
            base.unlink()
            assert [found.links for _name, found in self.found(process, base.parent, closing)] == [1]

    def test_deleted_file_of_another_directory_is_not_found(self, tmp_path: Path, base: Path) -> None:
        with process_with(base.open("rb")) as process, ExitStack() as closing:
            base.unlink()
            assert self.found(process, tmp_path / "cache", closing) == []

    def test_deleted_file_of_another_name_is_not_found(self, tmp_path: Path) -> None:
        path = tmp_path / "swap_1"
        path.touch()
        with process_with(path.open("rb")) as process, ExitStack() as closing:
            path.unlink()
            assert self.found(process, tmp_path, closing) == []

    @pytest.mark.parametrize(("mode", "is_written"), [("rb", False), ("r+b", True), ("wb", True), ("ab", True)])
    def test_disk_counts_when_it_is_open_for_writing(
        self, tmp_path: Path, base: Path, mode: str, is_written: bool
    ) -> None:
        disk = tmp_path / "disk"
        disk.touch()
        with process_with(base.open("rb"), disk.open(mode)) as process:
            base.unlink()
            with ExitStack() as closing:
                [(_name, found)] = self.found(process, base.parent, closing)
        assert found.written == ({inode(disk)} if is_written else set())

    def test_other_file_than_a_disk_that_is_written_does_not_count(self, tmp_path: Path, base: Path) -> None:
        with process_with(base.open("rb"), (tmp_path / "log").open("wb")) as process:
            base.unlink()
            with ExitStack() as closing:
                [(_name, found)] = self.found(process, base.parent, closing)
        assert found.written == set()

    @needs_root
    def test_user_and_owner_are_those_of_process_and_file(self, base: Path) -> None:
        os.chown(base, NOBODY, NOBODY)
        with process_with(base.open("rb"), users=(NOBODY, NOBODY)) as process, ExitStack() as closing:
            base.unlink()
            [(_name, found)] = self.found(process, base.parent, closing)
        assert (found.users, found.owner) == ({NOBODY}, NOBODY)

    @needs_root
    @pytest.mark.parametrize("users", [(NOBODY, 0), (0, NOBODY)])
    def test_process_with_the_rights_of_two_users_has_both(self, base: Path, users: tuple[int, int]) -> None:
        with process_with(base.open("rb"), users=users) as process, ExitStack() as closing:
            base.unlink()
            [(_name, found)] = self.found(process, base.parent, closing)
        assert found.users == {0, NOBODY}

    def test_file_whose_file_system_does_not_answer_hides_no_other(
        self, base: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Any user can mount a file system where not even root may look."""
        look, former = os.fstat, base.stat().st_ino

        def look_elsewhere(descriptor: int) -> os.stat_result:
            status = look(descriptor)
            if status.st_ino == former:
                raise PermissionError
            return status

        forged, real = base.open("rb"), base.with_name(OTHER_BASE).open("w+b")
        with process_with(forged, real) as process, ExitStack() as closing:
            base.unlink()
            base.with_name(OTHER_BASE).unlink()
            monkeypatch.setattr(os, "fstat", look_elsewhere)
            assert [name for name, _file in self.found(process, base.parent, closing)] == [OTHER_BASE]

    def test_process_that_has_ended_has_no_deleted_file(self, base: Path) -> None:
        with process_with(base.open("rb")) as process:
            base.unlink()
        with ExitStack() as closing:
            assert self.found(process, base.parent, closing) == []

    @needs_root
    def test_process_that_this_user_may_not_look_into_has_no_deleted_file(self, base: Path) -> None:
        with process_with(base.open("rb")) as process, ExitStack() as closing:
            base.unlink()

            def found_and_left_open() -> tuple[list[tuple[str, OpenFile]], bool]:
                before = os.listdir("/proc/self/fd")
                return self.found(process, base.parent, closing), not set(os.listdir("/proc/self/fd")) <= set(before)

            assert as_nobody(found_and_left_open) == ([], False)


def test_file_that_another_process_is_about_to_remove_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / BASE
    path.touch()
    with path.open("rb") as file:
        descriptor = os.open(path, os.O_PATH)
        assert is_open_elsewhere(file.fileno()) is False
        finish = start_child(lambda: open_again(descriptor))
        time.sleep(0.2)
    with pytest.raises(BlockingIOError):
        finish()
    os.close(descriptor)


def file_number(found: OpenFile) -> int:
    """The last part of the path where a person finds the file."""
    return int(os.path.basename(found.path))


class TestUsersOfAFile:
    @pytest.fixture
    def base(self, tmp_path: Path) -> Path:
        path = tmp_path / BASE
        path.touch()
        return path

    @pytest.fixture
    def disks(self, tmp_path: Path) -> dict[str, Path]:
        """The disks of two instances."""
        paths = {}
        for instance in (UUID, OTHER_UUID):
            paths[instance] = tmp_path / instance / "disk"
            paths[instance].parent.mkdir()
            paths[instance].touch()
        return paths

    def users(self, base: Path, disks: dict[str, Path]) -> list[str]:
        return users_of_inode(inode(base), BASE, [(inode(path), str(path), each) for each, path in disks.items()])

    def test_instances_whose_processes_have_the_file_and_their_disk_open_are_found(
        self, base: Path, disks: dict[str, Path]
    ) -> None:
        with process_with(base.open("rb"), disks[OTHER_UUID].open("rb")):
            assert self.users(base, disks) == [OTHER_UUID]
            with process_with(base.open("rb"), disks[UUID].open("rb")):
                assert self.users(base, disks) == sorted([UUID, OTHER_UUID])

    def test_process_without_the_file_is_no_user(self, base: Path, disks: dict[str, Path]) -> None:
        with process_with(disks[UUID].open("rb")):
            assert self.users(base, disks) == []

    def test_process_without_a_disk_is_no_instances(self, base: Path, disks: dict[str, Path]) -> None:
        with process_with(base.open("rb")):
            assert self.users(base, disks) == []

    def test_former_file_of_the_name_is_another_one(self, base: Path, disks: dict[str, Path]) -> None:
        with process_with(base.open("rb"), disks[UUID].open("rb")):
            base.rename(base.with_name("former"))
            base.touch()
            assert self.users(base, disks) == []

    @pytest.mark.parametrize("name", ["a", "0", f"{BASE}_sm"])
    def test_files_of_other_names_are_not_looked_at(self, base: Path, disks: dict[str, Path], name: str) -> None:
        """Files of other names may be on storage that does not answer."""
        other = base.with_name(name)
        other.hardlink_to(base)
        with process_with(other.open("rb"), disks[UUID].open("rb")):
            assert self.users(base, disks) == []

    def test_disk_that_is_not_built_on_the_file_is_no_instances(self, base: Path, disks: dict[str, Path]) -> None:
        other = disks.pop(UUID)
        with process_with(base.open("rb"), other.open("rb")):
            assert self.users(base, disks) == []

    @needs_root
    def test_process_that_this_user_may_not_look_into_is_passed(self, base: Path, disks: dict[str, Path]) -> None:
        numbers = inode(base), inode(disks[UUID])
        with process_with(base.open("rb"), disks[UUID].open("rb")):
            found = as_nobody(lambda: users_of_inode(numbers[0], BASE, [(numbers[1], str(disks[UUID]), UUID)]))
        assert found == []
