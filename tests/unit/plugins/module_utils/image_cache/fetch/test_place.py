# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a file gets its bytes and its name: on real files, and on file systems of the test's own."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch import place
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.place import (
    Draft,
    copy_bytes,
    exchange,
    finish,
    is_same_content,
    new_draft,
    origin_of,
    publish,
    remove_left_drafts,
    shares_blocks,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.hashing import RateLimiter
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.names import draft_name, set_aside_name
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.storage import find_storage
from ansible_collections.stackops.nova.tests.support.constants import BASE
from ansible_collections.stackops.nova.tests.support.file_systems import FILE_SYSTEMS, WITH_REFLINKS, on_file_system
from ansible_collections.stackops.nova.tests.support.processes import (
    NOBODY,
    as_nobody,
    needs_root,
    start_child,
    wait_until,
)

MIB = 1 << 20


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "_base"
    path.mkdir()
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def nameless_files_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on NFS and FUSE."""
    open_file = os.open

    def open_named(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "no nameless files")
        return open_file(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", open_named)


def source_of(path: Path, *parts: tuple[int, bytes], size: int = 8 * MIB) -> int:
    """A sparse file with some data, open for reading."""
    with path.open("wb") as file:
        for offset, data in parts:
            file.seek(offset)
            file.write(data)
        file.truncate(size)
    return os.open(path, os.O_RDONLY)


def copied(source: int, cache: int) -> tuple[int, bool, int]:
    """Copy a file: how much was read, whether the copy has its bytes, and the blocks that the copy takes."""
    with new_draft(cache, BASE) as draft:
        read = copy_bytes(source, draft, RateLimiter())
        finish(draft, source)
        return read, is_same_content(source, draft.descriptor), os.fstat(draft.descriptor).st_blocks * 512


@pytest.mark.parametrize("kind", FILE_SYSTEMS)
@pytest.mark.parametrize(
    "parts",
    [
        [],
        [(0, b"x" * MIB)],
        [(MIB, b"x" * MIB), (5 * MIB, b"y" * 4096)],
        [(8 * MIB - 1, b"z")],
    ],
)
def test_copy_has_all_bytes_and_all_holes(tmp_path: Path, kind: str, parts: list[tuple[int, bytes]]) -> None:
    def run(path: Path) -> tuple[int, bool, int]:
        (path / "_base").mkdir()
        return copied(source_of(path / "source", *parts), os.open(path / "_base", os.O_RDONLY))

    read, is_same, allocated = on_file_system(kind, tmp_path, run)
    data = sum(len(part) for _offset, part in parts)
    assert is_same
    assert allocated <= data + 256 * 1024
    if kind in WITH_REFLINKS:
        assert read == 0
    else:
        assert data <= read <= data + 128 * 1024


@pytest.mark.parametrize(
    "parts",
    [[(0, bytes(8 * MIB))], [(100, b"x" * 70_000), (6 * MIB, b"end"), (7 * MIB, bytes(MIB))], [(0, b"x" * 8 * MIB)]],
)
def test_zeros_of_a_file_that_was_brought_become_holes(
    tmp_path: Path, cache: int, parts: list[tuple[int, bytes]]
) -> None:
    source = source_of(tmp_path / "source", (0, bytes(8 * MIB)), *parts)
    with new_draft(cache, BASE) as draft:
        copy_bytes(source, draft, RateLimiter(), punch_zeros=True)
        assert is_same_content(source, draft.descriptor)
        data = sum(len(part) for _offset, part in parts if part.strip(b"\0"))
        assert os.fstat(draft.descriptor).st_blocks * 512 <= data + 256 * 1024


def test_data_behind_a_hole_of_a_file_that_was_brought_gets_into_its_place(tmp_path: Path, cache: int) -> None:
    source = source_of(tmp_path / "source", (49 * 4096, os.urandom(300_000)))
    with new_draft(cache, BASE) as draft:
        copy_bytes(source, draft, RateLimiter(), punch_zeros=True)
        assert is_same_content(source, draft.descriptor)


def test_bytes_that_the_kernel_writes_in_parts_are_all_written(
    tmp_path: Path, cache: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwrite
    source = source_of(tmp_path / "source", (49 * 4096, os.urandom(300_000)))
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: write(descriptor, data[:50_000], offset))
    with new_draft(cache, BASE) as draft:
        copy_bytes(source, draft, RateLimiter(), punch_zeros=True)
        assert is_same_content(source, draft.descriptor)


def test_copy_keeps_to_its_rate(tmp_path: Path) -> None:
    def copy_slowly(path: Path) -> float:
        source, cache = source_of(path / "source", (0, os.urandom(2 * MIB))), os.open(path, os.O_RDONLY)
        started = time.monotonic()
        with new_draft(cache, BASE) as draft:
            copy_bytes(source, draft, RateLimiter(10 * MIB))
        return time.monotonic() - started

    assert on_file_system("tmpfs", tmp_path, copy_slowly) >= 0.19


@pytest.mark.parametrize(("first", "second"), [(b"", b"x"), (b"x", b"xy"), (b"xy", b"x"), (b"x", b"y"), (b"y", b"x")])
def test_files_with_other_bytes_or_other_sizes_differ(tmp_path: Path, first: bytes, second: bytes) -> None:
    paths = [tmp_path / "first", tmp_path / "second"]
    for path, content in zip(paths, (first, second), strict=True):
        path.write_bytes(content)
    assert not is_same_content(*(os.open(path, os.O_RDONLY) for path in paths))


@pytest.mark.parametrize("kind", FILE_SYSTEMS)
def test_file_system_is_known_to_share_blocks_without_a_trial(tmp_path: Path, kind: str) -> None:
    def run(path: Path) -> bool:
        return shares_blocks(os.open(path, os.O_RDONLY), find_storage(str(path)).filesystem)

    assert on_file_system(kind, tmp_path, run) == (kind in WITH_REFLINKS)


def test_name_of_a_file_system_that_does_not_answer_as_such_shares_nothing() -> None:
    """An overlayfs on XFS may have the name of XFS."""
    assert not shares_blocks(os.open("/proc", os.O_RDONLY), "xfs")


@pytest.mark.parametrize("error", [errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, None])
def test_bytes_are_read_and_written_where_the_kernel_cannot_copy(
    tmp_path: Path, cache: int, monkeypatch: pytest.MonkeyPatch, error: int | None
) -> None:
    def refuse(*_arguments: int) -> int:
        raise OSError(error, "cannot")

    monkeypatch.setattr(place, "_copy_in_kernel", None if error is None else refuse)
    source = source_of(tmp_path / "source", (3, os.urandom(3 * MIB)), (6 * MIB, b"end"))
    _read, is_same, allocated = copied(source, cache)
    assert is_same
    assert allocated < 4 * MIB


def test_other_error_of_the_kernel_is_reported(tmp_path: Path, cache: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: int) -> int:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(place, "_copy_in_kernel", refuse)
    with pytest.raises(OSError, match="broken"):
        copied(source_of(tmp_path / "source", (0, b"x")), cache)


def test_draft_that_cannot_be_written_is_an_error(tmp_path: Path, cache: int) -> None:
    path = tmp_path / "draft"
    path.touch()
    draft = Draft(cache, os.open(path, os.O_RDONLY), "")
    with pytest.raises(OSError, match="Bad file descriptor"):
        copy_bytes(source_of(tmp_path / "source", (0, b"x")), draft, RateLimiter())


def test_source_whose_disk_fails_is_an_error(tmp_path: Path, cache: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: int) -> int:
        raise OSError(errno.EIO, "broken")

    source = source_of(tmp_path / "source", (0, b"x"))
    monkeypatch.setattr(os, "lseek", fail)
    with new_draft(cache, BASE) as draft, pytest.raises(OSError, match="broken"):
        copy_bytes(source, draft, RateLimiter())


def test_disk_that_fails_gets_no_draft_with_a_name(tmp_path: Path, cache: int, monkeypatch: pytest.MonkeyPatch) -> None:
    open_file = os.open

    def fail(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EIO, "broken")
        return open_file(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(OSError, match="broken"), new_draft(cache, BASE):
        pass
    assert os.listdir(tmp_path / "_base") == []


@needs_root
def test_user_who_may_make_no_file_in_the_cache_gets_an_error(tmp_path: Path, cache: int) -> None:
    def make() -> None:
        with new_draft(cache, BASE):
            pass

    with pytest.raises(PermissionError):
        as_nobody(make)
    assert os.listdir(tmp_path / "_base") == []


def test_file_that_shrinks_while_it_is_copied_is_an_error(
    tmp_path: Path, cache: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(tmp_path / "source", (0, b"x" * MIB), size=MIB)
    monkeypatch.setattr(place, "_copy_in_kernel", lambda *_arguments: 0)
    with pytest.raises(OSError, match="ended before its size"):
        copied(source, cache)


def test_draft_is_seen_by_nobody_before_it_has_its_name_and_is_gone_without_one(tmp_path: Path, cache: int) -> None:
    with new_draft(cache, BASE) as draft:
        os.write(draft.descriptor, b"bytes")
        assert os.listdir(tmp_path / "_base") == []
    assert os.listdir(tmp_path / "_base") == []


@pytest.mark.parametrize("has_a_name", [False, True])
def test_draft_can_be_read_by_no_other_user(cache: int, has_a_name: bool, request: pytest.FixtureRequest) -> None:
    if has_a_name:
        request.getfixturevalue("nameless_files_are_unknown")
    with new_draft(cache, BASE) as draft:
        assert stat.S_IMODE(os.fstat(draft.descriptor).st_mode) == 0o600


@pytest.mark.usefixtures("nameless_files_are_unknown")
def test_draft_with_a_private_name_is_gone_in_the_end_whatever_happens(tmp_path: Path, cache: int) -> None:
    with new_draft(cache, BASE) as draft:
        assert os.listdir(tmp_path / "_base") == [draft.private_name]
    assert os.listdir(tmp_path / "_base") == []
    with new_draft(cache, BASE) as draft:
        os.write(draft.descriptor, b"bytes")
        publish(draft, BASE)
    assert os.listdir(tmp_path / "_base") == [BASE]
    assert (tmp_path / "_base" / BASE).read_bytes() == b"bytes"


def test_no_descriptor_is_left_open(tmp_path: Path, cache: int) -> None:
    before = os.listdir("/proc/self/fd")
    with new_draft(cache, BASE):
        pass
    (tmp_path / "_base" / draft_name(BASE)).touch()
    remove_left_drafts(cache)
    assert set(os.listdir("/proc/self/fd")) <= set(before)


def test_taken_name_is_kept_by_the_file_that_has_it(tmp_path: Path, cache: int) -> None:
    path = tmp_path / "_base" / BASE
    path.write_bytes(b"nova's")
    with new_draft(cache, BASE) as draft, pytest.raises(FileExistsError):
        publish(draft, BASE)
    assert path.read_bytes() == b"nova's"


@needs_root
def test_file_gets_the_owner_of_the_cache_and_a_mode_that_qemu_can_read(tmp_path: Path, cache: int) -> None:
    os.chown(tmp_path / "_base", NOBODY, NOBODY)
    source = source_of(tmp_path / "source")
    with new_draft(cache, BASE) as draft:
        finish(draft, source)
        publish(draft, BASE)
    status = (tmp_path / "_base" / BASE).stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (NOBODY, NOBODY, 0o644)


def test_copy_has_the_origin_of_its_source_and_no_other_file_has(tmp_path: Path, cache: int) -> None:
    source, other = source_of(tmp_path / "source"), source_of(tmp_path / "other")
    with new_draft(cache, BASE) as copy, new_draft(cache, BASE) as copy_of_copy:
        finish(copy, source)
        finish(copy_of_copy, copy.descriptor)
        assert origin_of(copy.descriptor) == origin_of(copy_of_copy.descriptor) == origin_of(source)
    assert origin_of(other) != origin_of(source)
    by_path = os.open(tmp_path / "source", os.O_PATH)
    assert origin_of(by_path) == origin_of(source)


class TestExchange:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "_base" / BASE
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"former")
        return path

    def inode(self, path: Path) -> tuple[int, int]:
        return path.stat().st_dev, path.stat().st_ino

    @pytest.mark.parametrize("has_names", [False, True])
    def test_new_file_gets_the_name_and_the_former_one_another(
        self, cache: int, path: Path, has_names: bool, request: pytest.FixtureRequest
    ) -> None:
        if has_names:
            request.getfixturevalue("nameless_files_are_unknown")
        aside = set_aside_name(BASE, 1)
        with new_draft(cache, BASE) as draft:
            os.write(draft.descriptor, b"new")
            exchange(draft, BASE, self.inode(path), aside)
        assert path.read_bytes() == b"new"
        assert path.with_name(aside).read_bytes() == b"former"
        assert sorted(os.listdir(path.parent)) == sorted([BASE, aside])

    def test_former_file_that_a_killed_run_has_set_aside_keeps_that_name(self, cache: int, path: Path) -> None:
        aside = set_aside_name(BASE, 1)
        os.link(path, path.with_name(aside))
        with new_draft(cache, BASE) as draft:
            exchange(draft, BASE, self.inode(path), aside)
        assert path.with_name(aside).read_bytes() == b"former"
        assert path.read_bytes() == b""

    def test_file_that_a_killed_run_set_aside_is_kept_where_another_file_has_the_name(
        self, cache: int, path: Path
    ) -> None:
        aside = set_aside_name(BASE, 1)
        path.with_name(aside).write_bytes(b"set aside")
        with new_draft(cache, BASE) as draft, pytest.raises(OSError, match="another file has got its name"):
            exchange(draft, BASE, self.inode(path), aside)
        assert path.with_name(aside).read_bytes() == b"set aside"
        assert path.read_bytes() == b"former"

    def test_link_to_the_expected_file_keeps_the_name(self, cache: int, path: Path) -> None:
        former = path.rename(path.with_name("elsewhere"))
        path.symlink_to(former)
        with new_draft(cache, BASE) as draft, pytest.raises(OSError, match="another file has got its name"):
            exchange(draft, BASE, self.inode(former), set_aside_name(BASE, 1))
        assert path.is_symlink()
        assert sorted(os.listdir(path.parent)) == sorted([BASE, "elsewhere"])

    def test_other_file_than_the_expected_one_keeps_its_name(self, cache: int, path: Path) -> None:
        with new_draft(cache, BASE) as draft, pytest.raises(OSError, match="another file has got its name"):
            exchange(draft, BASE, (0, 0), set_aside_name(BASE, 1))
        assert os.listdir(path.parent) == [BASE]
        assert path.read_bytes() == b"former"


class TestLeftDrafts:
    def test_drafts_of_killed_runs_are_removed_and_nothing_else(self, tmp_path: Path, cache: int) -> None:
        directory = tmp_path / "_base"
        others = {BASE, f"{BASE}.part", set_aside_name(BASE, 1), ".hidden"}
        for name in (*others, draft_name(BASE), draft_name("swap_1")):
            (directory / name).touch()
        remove_left_drafts(cache)
        assert set(os.listdir(directory)) == others

    @pytest.mark.usefixtures("nameless_files_are_unknown")
    def test_draft_of_a_run_that_is_at_work_is_kept(self, tmp_path: Path, cache: int) -> None:
        stop = tmp_path / "stop"

        def work() -> None:
            with new_draft(cache, BASE):
                wait_until(stop.exists)

        finish_work = start_child(work)
        wait_until(lambda: os.listdir(tmp_path / "_base") != [])
        remove_left_drafts(cache)
        left = os.listdir(tmp_path / "_base")
        stop.touch()
        finish_work()
        assert len(left) == 1

    @pytest.mark.usefixtures("time_limit")
    def test_other_thing_with_the_name_of_a_draft_stops_nothing(self, tmp_path: Path, cache: int) -> None:
        os.mkfifo(tmp_path / "_base" / draft_name(BASE))
        (tmp_path / "_base" / draft_name(BASE)).mkdir()
        remove_left_drafts(cache)
