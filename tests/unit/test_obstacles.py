# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What would make a removal fail is known to the dry run: attributes, read-only mounts, full file systems, rights."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.prune import PruneResult
from ansible_collections.stackops.nova.tests.support.constants import BASE, OTHER_BASE, UUID
from ansible_collections.stackops.nova.tests.support.host import OLD, Host, attribute, create_image, warnings
from ansible_collections.stackops.nova.tests.support.processes import (
    NOBODY,
    as_nobody,
    mount,
    needs_root,
    with_own_mounts,
)
from ansible_collections.stackops.nova.tools.cache_tree import fingerprint

FIRST = fingerprint("first")
LAST = fingerprint("last")


def pruned(host: Host, **options: Any) -> PruneResult:
    """A prune that did what its dry run listed, failed where that one failed, and warned of the same."""
    dry_run = host.prune(check_mode=True, **options)
    result = host.prune(**options)
    assert result.done == dry_run.done
    assert result.error == dry_run.error
    assert set(warnings(dry_run)) <= set(warnings(result))
    assert [name for name in result.done["removed"] if name in host.cached()] == []
    return result


def kept(result: PruneResult) -> dict[str, str]:
    return {kept["name"]: kept["reason"] for kept in result.done["kept"]}


def why_kept_alone(result: PruneResult) -> str:
    """Why one of three unused files could not be removed, where both others were and the task did not fail."""
    assert result.error is None
    assert result.done["removed"] == sorted([FIRST, LAST])
    assert kept(result) == {BASE: "unremovable"}
    [sentence] = result.facts["unremovable"]
    assert f"cannot be removed ({BASE})" in sentence
    return str(sentence)


@pytest.fixture
def unused(host: Host) -> Host:
    """Three files that nothing uses, the last one used first."""
    for days, name in enumerate((LAST, BASE, FIRST)):
        host.base(name, age=OLD + days * 3600)
        host.lock_file(name)
    return host


@pytest.mark.usefixtures("attributes")
@pytest.mark.parametrize("flag", ["i", "a"])
class TestAttributes:
    def test_file_with_attribute_is_kept_and_named(self, unused: Host, flag: str) -> None:
        with attribute(unused.cache_path / BASE, flag):
            result = pruned(unused)
        sentence = why_kept_alone(result)
        assert "chattr -i -a" in sentence
        assert sentence in warnings(result)

    def test_file_in_use_with_attribute_is_no_obstacle(self, unused: Host, flag: str) -> None:
        unused.instance(UUID, {"disk": BASE})
        with attribute(unused.cache_path / BASE, flag):
            result = pruned(unused)
        assert result.facts["unremovable"] == []
        assert kept(result) == {}

    def test_cache_directory_with_attribute_lets_nothing_be_removed(self, unused: Host, flag: str) -> None:
        with attribute(unused.cache_path, flag):
            result = pruned(unused)
        assert kept(result) == dict.fromkeys([FIRST, BASE, LAST], "unremovable")
        assert f"{unused.cache_path} has the attribute immutable or append-only." in str(result.error)
        assert result.facts["summary"]["reclaimable_bytes"] == 0

    def test_locks_directory_with_attribute_keeps_files_without_lock_file(self, unused: Host, flag: str) -> None:
        (unused.locks_path / f"nova-{BASE}").unlink()
        with attribute(unused.locks_path, flag):
            result = pruned(unused)
        assert result.error is None
        assert result.done["removed"] == sorted([FIRST, LAST])
        assert kept(result) == {BASE: "unremovable"}
        assert f"{unused.locks_path} has the attribute" in result.facts["unremovable"][0]
        assert unused.locks() == sorted([f"nova-{FIRST}", f"nova-{LAST}"])

    def test_lock_file_with_attribute_keeps_its_base_file(self, unused: Host, flag: str) -> None:
        with attribute(unused.locks_path / f"nova-{BASE}", flag):
            result = pruned(unused)
        assert result.error is None
        assert kept(result) == {BASE: "unremovable"}
        assert result.facts["unremovable"][0].endswith(
            f"Their lock files in {unused.locks_path} have the attribute immutable or append-only, or may not be "
            "written by this user. Remove it (chattr -i -a)."
        )

    def test_overlay_with_attribute_keeps_its_base(self, host: Host, flag: str) -> None:
        host.base(OTHER_BASE, age=OLD)
        path = create_image(host.cache_path / BASE, over=host.cache_path / OTHER_BASE, over_format="raw")
        os.utime(path, (host.now - OLD, host.now - OLD))
        with attribute(path, flag):
            result = pruned(host)
        assert kept(result) == {BASE: "unremovable", OTHER_BASE: "overlay"}
        assert host.cached() == sorted([BASE, OTHER_BASE])

    def test_file_that_cannot_be_removed_counts_for_no_limit_and_no_space(self, unused: Host, flag: str) -> None:
        path = unused.base(BASE, content=b"x" * (1 << 20), age=2 * OLD)
        other = unused.base(FIRST, content=b"x" * (1 << 20), age=OLD + 3600)
        used = sum(file.stat().st_blocks * 512 for file in (path, other))
        with attribute(path, flag):
            result = pruned(unused, max_used_space=used - 1, max_removals=1)
        assert result.done["removed"] == [FIRST]
        assert kept(result) == {BASE: "unremovable", LAST: "space_target_met"}


@pytest.mark.usefixtures("attributes")
@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_essex_checksum_with_attribute_is_known_to_the_dry_run(host: Host, algorithm: str) -> None:
    base = host.base(BASE, age=OLD)
    host.instance(UUID, {"disk": BASE})
    essex = host.cache_path / f"{BASE}.sha1"
    essex.write_text(hashlib.sha1(base.read_bytes()).hexdigest())
    options: dict[str, Any] = {"checksum_base_images": True, "checksum_algorithm": algorithm}
    with attribute(essex, "i"):
        dry_run = host.prune(check_mode=True, **options)
        run = host.prune(**options)
    assert not dry_run.changed
    assert not run.changed
    for result in (dry_run, run):
        assert any("What verification found of 1 base file could not be saved" in text for text in warnings(result))
    assert any(f"{essex} has the attribute immutable or append-only. Remove it" in text for text in warnings(dry_run))


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir], ids=["FIFO", "directory"])
def test_something_else_in_place_of_lock_file_keeps_its_base_file(unused: Host, make: Callable[[Path], None]) -> None:
    lock_file = unused.locks_path / f"nova-{BASE}"
    lock_file.unlink()
    make(lock_file)
    sentence = why_kept_alone(pruned(unused))
    assert f"lock files in {unused.locks_path} is not a regular file" in sentence


@needs_root
class TestReadOnlyMount:
    @pytest.mark.parametrize("part", ["root", "cache_path"])
    def test_read_only_cache_lets_nothing_be_removed(self, unused: Host, part: str) -> None:
        path = getattr(unused, part)

        def prune() -> PruneResult:
            mount("--bind", path, path)
            mount("-o", "remount,ro,bind", path)
            return pruned(unused)

        result = with_own_mounts(prune)
        assert kept(result) == dict.fromkeys([FIRST, BASE, LAST], "unremovable")
        assert f"{unused.cache_path} is on a read-only mount." in str(result.error)
        assert len(unused.cached()) == 3

    def test_read_only_locks_let_nothing_be_removed(self, unused: Host) -> None:
        def prune() -> PruneResult:
            mount("--bind", unused.locks_path, unused.locks_path)
            mount("-o", "remount,ro,bind", unused.locks_path)
            return pruned(unused)

        result = with_own_mounts(prune)
        assert kept(result) == dict.fromkeys([FIRST, BASE, LAST], "unremovable")
        assert f"nova's lock directory {unused.locks_path} is on a read-only mount" in str(result.error)


def fill_blocks(directory: Path) -> None:
    """Write until not one block is free."""
    with ExitStack() as opened:
        fillers = [opened.enter_context((directory / f"filler{number}").open("wb", buffering=0)) for number in range(3)]
        for size, filler in zip((1 << 20, 4096, 512), fillers, strict=True):
            with suppress(OSError):
                while True:
                    filler.write(bytes(size))
                    os.fsync(filler.fileno())


def fill_inodes(directory: Path) -> None:
    """Make files until not one inode is left."""
    (directory / "fillers").mkdir()
    with suppress(OSError):
        for number in count():
            (directory / "fillers" / str(number)).touch()


FULL = {
    "xfs without blocks": (["mkfs.xfs", "-q"], fill_blocks),
    "ext4 without inodes": (["mkfs.ext4", "-q", "-N", "640"], fill_inodes),
    "ext4 without blocks": (["mkfs.ext4", "-q", "-m", "0"], fill_blocks),
}


def prune_full(host: Host, kind: str, make: Callable[[Host], None]) -> tuple[PruneResult, list[str]]:
    """Prune a cache on a file system that is full, in mounts of a process of its own."""
    command, fill = FULL[kind]
    if shutil.which(command[0]) is None:
        pytest.skip(f"takes {command[0]}")
    image = host.root / "image"
    with image.open("wb") as file:
        file.truncate(320 << 20)
    subprocess.run([*command, str(image)], check=True)
    directory = host.root / "mounted"
    directory.mkdir()

    def prune() -> tuple[PruneResult, list[str]]:
        mount("-o", "loop", image, directory)
        try:
            full = Host(directory, now=host.now)
            make(full)
            fill(directory)
            return pruned(full), full.cached()
        finally:
            subprocess.run(["umount", str(directory)], check=True)

    return with_own_mounts(prune)


@needs_root
class TestFullFileSystem:
    """No new lock file can be made until something is removed whose lock file exists."""

    @pytest.mark.parametrize("kind", ["xfs without blocks", "ext4 without inodes"])
    def test_files_without_lock_file_are_kept_and_the_dry_run_knows_it(self, host: Host, kind: str) -> None:
        def make(full: Host) -> None:
            for name in (BASE, OTHER_BASE):
                full.base(name, content=b"x" * (4 << 20), age=OLD)

        result, cached = prune_full(host, kind, make)
        assert result.error is None
        assert kept(result) == dict.fromkeys([BASE, OTHER_BASE], "unremovable")
        assert cached == [BASE, OTHER_BASE]
        [sentence] = result.facts["unremovable"]
        assert "too full to make one" in sentence

    @pytest.mark.parametrize("kind", FULL)
    def test_files_with_lock_file_are_removed_first_and_make_room_for_the_others(self, host: Host, kind: str) -> None:
        names = [fingerprint(str(number)) for number in range(300)]

        def make(full: Host) -> None:
            for name in names:
                full.base(name, content=b"x" * 8192, age=2 * OLD)
            full.base(BASE, content=b"x" * (4 << 20), age=OLD)
            full.lock_file(BASE)

        result, cached = prune_full(host, kind, make)
        assert result.error is None
        assert result.done["removed"] == sorted([*names, BASE])
        assert result.done["failed"] == []
        assert cached == []

    def test_file_with_lock_file_that_frees_too_little_leaves_the_others(self, host: Host) -> None:
        def make(full: Host) -> None:
            full.base(OTHER_BASE, content=b"x" * (4 << 20), age=2 * OLD)
            full.base(BASE, content=b"x" * 4096, size=4096, age=OLD)
            full.lock_file(BASE)

        result, cached = prune_full(host, "xfs without blocks", make)
        assert result.done["removed"] == [BASE]
        assert kept(result) == {OTHER_BASE: "unremovable"}
        assert cached == [OTHER_BASE]


@needs_root
class TestFileSystemWithoutSize:
    """A tmpfs without a limit reports 0 blocks, of which 0 are free."""

    def prune(self, host: Host, options: str = "size=0", fill: bool = False, **more: Any) -> PruneResult:
        """Prune four unused files there, of which the two used last have a lock file."""

        def prune() -> PruneResult:
            mount("-t", "tmpfs", "-o", options, "tmpfs", host.root)
            unlimited = Host(host.root, now=host.now)
            for days, name in enumerate((LAST, BASE, FIRST, OTHER_BASE)):
                unlimited.base(name, content=bytes(4096), age=OLD + days * 3600)
            unlimited.lock_file(LAST)
            unlimited.lock_file(BASE)
            if fill:
                fill_inodes(host.root)
            return pruned(unlimited, **more)

        return with_own_mounts(prune)

    def test_files_without_lock_file_are_removed(self, host: Host) -> None:
        result = self.prune(host)
        assert result.done["removed"] == sorted([FIRST, BASE, LAST, OTHER_BASE])
        assert result.facts["unremovable"] == []
        assert (result.facts["storage"]["free_bytes"], result.facts["storage"]["total_bytes"]) == (None, None)

    def test_files_with_lock_file_make_room_where_no_inode_is_left(self, host: Host) -> None:
        result = self.prune(host, "size=0,nr_inodes=50", fill=True)
        assert result.done["removed"] == sorted([FIRST, BASE, LAST, OTHER_BASE])

    def test_target_of_free_space_is_ignored_with_a_warning(self, host: Host) -> None:
        result = self.prune(host, min_free_space=1 << 40, max_used_space=2 * 4096)
        assert result.done["removed"] == sorted([OTHER_BASE, FIRST])
        [sentence] = warnings(result)
        assert sentence.startswith(f"min_free_space is ignored for {host.cache_path}: its file system (tmpfs)")


@needs_root
class TestRights:
    """Another user's files, folders and locks."""

    @pytest.fixture
    def nobodys(self, public_host: Host) -> Host:
        for name in (FIRST, BASE, LAST):
            os.chown(public_host.base(name, age=OLD), NOBODY, NOBODY)
            os.chown(public_host.lock_file(name), NOBODY, NOBODY)
        for path in (public_host.cache_path, public_host.locks_path):
            os.chown(path, NOBODY, NOBODY)
        return public_host

    def test_file_of_another_user_in_a_sticky_cache_is_kept(self, nobodys: Host) -> None:
        os.chown(nobodys.cache_path, 0, 0)
        nobodys.cache_path.chmod(0o1777)
        os.chown(nobodys.cache_path / BASE, 0, 0)
        result = as_nobody(lambda: pruned(nobodys))
        assert result.done["removed"] == sorted([FIRST, LAST])
        assert kept(result) == {BASE: "unremovable"}
        assert "sticky" in result.facts["unremovable"][0]

    def test_lock_file_of_another_user_keeps_its_base_file(self, nobodys: Host) -> None:
        os.chown(nobodys.locks_path / f"nova-{BASE}", 0, 0)
        result = as_nobody(lambda: pruned(nobodys))
        assert kept(result) == {BASE: "unremovable"}
        assert result.facts["unremovable"][0].endswith("Remove it (chattr -i -a), or run as root (become: true).")

    def test_locks_directory_of_another_user_keeps_files_without_lock_file(self, nobodys: Host) -> None:
        (nobodys.locks_path / f"nova-{BASE}").unlink()
        os.chown(nobodys.locks_path, 0, 0)
        nobodys.locks_path.chmod(0o777)
        result = as_nobody(lambda: pruned(nobodys))
        assert kept(result) == {BASE: "unremovable"}
        assert "this user may make none" in result.facts["unremovable"][0]

    def test_cache_that_may_not_be_written_lets_nothing_be_removed(self, nobodys: Host) -> None:
        os.chown(nobodys.cache_path, 0, 0)
        result = as_nobody(lambda: pruned(nobodys))
        assert kept(result) == dict.fromkeys([FIRST, BASE, LAST], "unremovable")
        assert "may not be written by this user. Run as root (become: true)." in str(result.error)


@pytest.mark.usefixtures("attributes")
def test_look_leaves_nothing_open_and_writes_nothing(unused: Host) -> None:
    before = os.listdir("/proc/self/fd")
    times = [path.stat().st_ctime_ns for path in (unused.cache_path, unused.locks_path, unused.cache_path / BASE)]
    with attribute(unused.locks_path, "a"):
        unused.audit()
    assert os.listdir("/proc/self/fd") == before
    assert [path.stat().st_ctime_ns for path in (unused.cache_path, unused.cache_path / BASE)] == [times[0], times[2]]
