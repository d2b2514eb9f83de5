# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file that others write is read whole or not at all, and nobody is waited for; the kernel says who has locked it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.files import (
    DIRECTORY_FLAGS,
    FILE_FLAGS,
    is_locked_by_another,
    lock_request,
    read_small_file,
)
from ansible_collections.stackops.nova.tests.support.processes import in_a_child


class TestReading:
    @pytest.mark.parametrize("size", [0, 1, 99, 100])
    def test_file_within_the_limit_is_read_whole(self, tmp_path: Path, size: int) -> None:
        content = os.urandom(size)
        (tmp_path / "file").write_bytes(content)
        assert read_small_file(str(tmp_path / "file"), 100) == content

    def test_larger_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"x" * 101)
        with pytest.raises(ValueError, match="it has more than 100 bytes"):
            read_small_file(str(tmp_path / "file"), 100)

    @pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["FIFO", "directory"])
    def test_other_than_file_is_refused_at_once(self, tmp_path: Path, make: Callable[[Path], None]) -> None:
        make(tmp_path / "other")
        with pytest.raises(ValueError, match="it is not a regular file"):
            read_small_file(str(tmp_path / "other"), 100)

    def test_link_is_followed_only_if_the_flags_say_so(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"content")
        (tmp_path / "link").symlink_to("file")
        directory = os.open(tmp_path, DIRECTORY_FLAGS)
        try:
            assert read_small_file("link", 100, directory=directory) == b"content"
            with pytest.raises(OSError, match="symbolic link"):
                read_small_file("link", 100, FILE_FLAGS, directory)
        finally:
            os.close(directory)


class TestLocks:
    @pytest.mark.parametrize(
        ("start", "length", "is_locked"), [(0, 0, True), (15, 1, True), (0, 10, False), (20, 0, False)]
    )
    def test_lock_of_another_process_counts_where_the_ranges_meet(
        self, tmp_path: Path, start: int, length: int, is_locked: bool
    ) -> None:
        path = tmp_path / "file"
        path.touch()
        with path.open("r+b") as held, path.open("rb") as file:
            fcntl.lockf(held, fcntl.LOCK_EX, 10, 10)
            request = lock_request(start, length)
            assert in_a_child(lambda: is_locked_by_another(file.fileno(), fcntl.F_GETLK, request)) is is_locked
            assert not is_locked_by_another(file.fileno(), fcntl.F_GETLK, request)  # it is this process's own
