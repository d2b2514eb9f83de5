# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Our locks and nova's are the same locks: every test that needs a second holder has a real oslo.concurrency as one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.lock_state import is_locked
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.locks import (
    acquire,
    open_locks_directory,
    release,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.open_files import is_open_elsewhere
from ansible_collections.stackops.nova.tests.support.constants import BASE
from ansible_collections.stackops.nova.tests.support.host import Host
from ansible_collections.stackops.nova.tests.support.processes import (
    NovaCompute,
    as_nobody,
    in_a_child,
    make_socket,
    needs_root,
    nova_compute,
    reader,
    wait_until,
    whenever,
)

LOCK = "nova-058d6f6126b0846e3d5636640cfbb53cf70a86a6"
NOVA = 64060


@pytest.fixture(scope="module")
def nova() -> Iterator[NovaCompute]:
    with nova_compute() as process:
        yield process


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    path = tmp_path / "locks"
    path.mkdir()
    return path


@pytest.fixture
def directory(locks: Path) -> Iterator[int]:
    descriptor = os.open(locks, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


# Exchanges the two as soon as there are two.
SWAP_ONCE_IT_IS_THERE = """
import ctypes, os, sys

os.chdir(sys.argv[1])
libc = ctypes.CDLL(None)
while True:
    libc.renameat2(-100, b"locks", -100, b"link", 2)
    while os.path.islink("locks"):
        pass
"""


class TestSideBySideWithNova:
    def test_lock_that_nova_holds_is_seen_and_not_waited_for_forever(
        self, nova: NovaCompute, locks: Path, directory: int
    ) -> None:
        nova.take(BASE, locks)
        assert is_locked(directory, LOCK)
        start = time.monotonic()
        assert acquire(directory, LOCK, wait_seconds=0.3) is None
        assert 0.3 <= time.monotonic() - start < 10
        nova.release()
        assert not is_locked(directory, LOCK)

    def test_lock_that_nova_releases_in_time_is_taken(self, nova: NovaCompute, locks: Path, directory: int) -> None:
        nova.take(BASE, locks)
        threading.Timer(0.1, nova.release).start()
        lock = acquire(directory, LOCK, wait_seconds=10)
        assert lock is not None
        release(lock, remove_file=False)

    def test_nova_waits_while_we_hold_its_lock(self, nova: NovaCompute, locks: Path, directory: int) -> None:
        lock = acquire(directory, LOCK, wait_seconds=0)
        assert lock is not None
        nova.begin_to_take(BASE, locks)
        assert in_a_child(lambda: is_locked(directory, LOCK))
        release(lock, remove_file=False)
        nova.wait_until_taken()
        assert is_locked(directory, LOCK)
        nova.release()

    def test_nova_can_take_a_lock_whose_file_we_made(self, nova: NovaCompute, locks: Path, directory: int) -> None:
        lock = acquire(directory, LOCK, wait_seconds=0)
        assert lock is not None
        release(lock, remove_file=False)
        assert os.listdir(locks) == [LOCK]
        nova.take(BASE, locks)
        assert acquire(directory, LOCK, wait_seconds=0) is None
        nova.release()

    def test_lock_on_a_file_that_nova_removed_is_taken_on_the_new_one(
        self, nova: NovaCompute, locks: Path, directory: int
    ) -> None:
        nova.take(BASE, locks)

        def remove_and_release() -> None:
            (locks / LOCK).unlink()
            nova.release()

        threading.Timer(0.1, remove_and_release).start()
        lock = acquire(directory, LOCK, wait_seconds=10)
        assert lock is not None
        assert os.fstat(lock.descriptor).st_ino == (locks / LOCK).stat().st_ino
        assert in_a_child(lambda: acquire(directory, LOCK, wait_seconds=0)) is None
        release(lock, remove_file=False)


class TestLockFile:
    @pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
    def test_new_lock_file_is_empty_and_belongs_to_the_owner_of_its_folder(
        self, locks: Path, directory: int, umask: int
    ) -> None:
        if os.geteuid() == 0:
            os.chown(locks, NOVA, NOVA)

        def make() -> None:
            os.umask(umask)
            lock = acquire(directory, LOCK, wait_seconds=0)
            assert lock is not None
            release(lock, remove_file=False)

        in_a_child(make)
        made, owner = (locks / LOCK).stat(), locks.stat()
        assert (made.st_uid, made.st_gid) == (owner.st_uid, owner.st_gid)
        assert (made.st_mode, made.st_size) == (0o100644, 0)
        assert os.listdir(locks) == [LOCK]

    def test_lock_file_that_nova_makes_at_the_same_moment_is_used(self, locks: Path, directory: int) -> None:
        def acquire_meanwhile() -> int:
            whenever("os.link", lambda *_paths: (locks / LOCK).touch(mode=0o640))
            lock = acquire(directory, LOCK, wait_seconds=0)
            assert lock is not None
            return os.fstat(lock.descriptor).st_ino

        assert in_a_child(acquire_meanwhile) == (locks / LOCK).stat().st_ino
        assert os.listdir(locks) == [LOCK]
        assert (locks / LOCK).stat().st_mode == 0o100640

    def test_lock_file_that_is_removed_while_it_is_locked_is_made_anew(self, locks: Path, directory: int) -> None:
        removed = []

        def remove_once(*_lock: object) -> None:
            if not removed:
                removed.append((locks / LOCK).stat().st_ino)
                (locks / LOCK).unlink()

        def acquire_meanwhile() -> bool:
            whenever("fcntl.lockf", remove_once)
            lock = acquire(directory, LOCK, wait_seconds=10)
            assert lock is not None
            return os.path.samestat(os.fstat(lock.descriptor), (locks / LOCK).stat())

        assert in_a_child(acquire_meanwhile)

    @needs_root
    def test_lock_file_that_could_not_belong_to_the_owner_of_its_folder_is_not_made(self, public_host: Host) -> None:
        locks = public_host.locks_path
        locks.chmod(0o777)
        directory = os.open(locks, os.O_RDONLY | os.O_DIRECTORY)
        with pytest.raises(PermissionError):
            as_nobody(lambda: acquire(directory, LOCK, wait_seconds=0))
        os.close(directory)
        assert os.listdir(locks) == []

    def test_lock_file_that_nova_made_is_left_as_it_is(self, locks: Path, directory: int) -> None:
        (locks / LOCK).write_text("nova's")
        (locks / LOCK).chmod(0o600)
        before = (locks / LOCK).stat()
        lock = acquire(directory, LOCK, wait_seconds=0)
        assert lock is not None
        release(lock, remove_file=False)
        assert (locks / LOCK).stat() == before

    def test_asking_for_a_lock_makes_no_lock_file(self, locks: Path, directory: int) -> None:
        assert not is_locked(directory, LOCK)
        assert os.listdir(locks) == []

    def test_lock_file_that_nobody_else_has_open_is_removed_with_the_lock(self, locks: Path, directory: int) -> None:
        lock = acquire(directory, LOCK, wait_seconds=0)
        assert lock is not None
        release(lock, remove_file=True)
        assert os.listdir(locks) == []

    def test_lock_file_that_nova_waits_on_is_kept(self, nova: NovaCompute, locks: Path, directory: int) -> None:
        lock = acquire(directory, LOCK, wait_seconds=0)
        assert lock is not None
        nova.begin_to_take(BASE, locks)
        release(lock, remove_file=True)
        nova.wait_until_taken()
        assert acquire(directory, LOCK, wait_seconds=0) is None
        nova.release()

    def test_lock_file_that_another_process_has_open_is_kept(self, locks: Path, directory: int) -> None:
        lock = acquire(directory, LOCK, wait_seconds=0)
        assert lock is not None
        with reader(locks / LOCK):
            release(lock, remove_file=True)
        assert os.listdir(locks) == [LOCK]

    def test_lock_file_that_is_already_gone_is_no_error(self, locks: Path, directory: int) -> None:
        lock = acquire(directory, LOCK, wait_seconds=0)
        assert lock is not None
        (locks / LOCK).unlink()
        release(lock, remove_file=True)
        assert os.listdir(locks) == []

    def test_link_in_place_of_the_lock_file_is_refused(self, tmp_path: Path, locks: Path, directory: int) -> None:
        (locks / LOCK).symlink_to(tmp_path / "target")
        for target_exists in (False, True):
            if target_exists:
                (tmp_path / "target").touch()
            with pytest.raises(OSError, match="symbolic link"):
                acquire(directory, LOCK, wait_seconds=0)
            with pytest.raises(OSError, match="symbolic link"):
                is_locked(directory, LOCK)
            assert (tmp_path / "target").exists() == target_exists
        assert os.listdir(locks) == [LOCK]

    @pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, make_socket], ids=["FIFO", "directory", "socket"])
    def test_other_thing_in_place_of_the_lock_file_is_refused(
        self, locks: Path, directory: int, make: Callable[..., None]
    ) -> None:
        make(locks / LOCK)
        before = (locks / LOCK).lstat()
        with pytest.raises(OSError, match=r"not a regular file|Is a directory|No such device"):
            acquire(directory, LOCK, wait_seconds=0)
        with suppress(OSError):
            assert not is_locked(directory, LOCK)  # and a FIFO is not waited for
        assert (locks / LOCK).lstat() == before


class TestLeaseOfAnotherPass:
    """Before a pass removes a lock file it asks for a lease, and a process that opens it without waiting is refused."""

    def test_lock_file_under_a_lease_counts_as_locked(self, directory: int) -> None:
        lock = acquire(directory, LOCK, wait_seconds=0)
        assert lock is not None
        assert is_open_elsewhere(lock.descriptor) is False
        assert in_a_child(lambda: is_locked(directory, LOCK))
        assert in_a_child(lambda: acquire(directory, LOCK, wait_seconds=0.1)) is None
        os.close(lock.descriptor)
        assert not is_locked(directory, LOCK)


class TestLocksDirectory:
    def test_existing_locks_directory_is_opened_unchanged(self, tmp_path: Path, locks: Path) -> None:
        before = locks.stat()
        os.close(open_locks_directory(str(tmp_path), "locks"))
        assert locks.stat() == before

    @needs_root
    def test_new_locks_directory_has_the_owner_of_the_directory_above(self, tmp_path: Path) -> None:
        os.chown(tmp_path, NOVA, NOVA)
        os.close(open_locks_directory(str(tmp_path), "locks"))
        made = (tmp_path / "locks").stat()
        assert (made.st_uid, made.st_gid, made.st_mode) == (NOVA, NOVA, 0o040755)

    @needs_root
    def test_locks_directory_that_could_not_have_that_owner_is_not_left_behind(self, public_host: Host) -> None:
        public_host.locks_path.rmdir()
        public_host.instances_path.chmod(0o777)
        with pytest.raises(PermissionError):
            as_nobody(lambda: open_locks_directory(str(public_host.instances_path), "locks"))
        assert not public_host.locks_path.exists()

    def test_link_in_place_of_the_locks_directory_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "locks").symlink_to("elsewhere")
        with pytest.raises(NotADirectoryError):
            open_locks_directory(str(tmp_path), "locks")

    @needs_root
    def test_link_that_replaces_the_new_locks_directory_at_once_leads_nowhere(self, tmp_path: Path) -> None:
        canary = tmp_path / "canary"
        canary.mkdir(mode=0o700)
        os.chown(tmp_path, NOVA, NOVA)
        (tmp_path / "link").symlink_to("canary")
        swapped = 0
        with subprocess.Popen([sys.executable, "-c", SWAP_ONCE_IT_IS_THERE, tmp_path]) as swapper:
            try:
                while swapped < 5:
                    try:
                        os.close(open_locks_directory(str(tmp_path), "locks"))
                    except NotADirectoryError:
                        swapped += 1
                    wait_until((tmp_path / "locks").is_symlink)
                    (tmp_path / "link").rmdir()
                    (tmp_path / "locks").rename(tmp_path / "link")
                    assert (canary.stat().st_mode, canary.stat().st_uid) == (0o040700, 0)
            finally:
                swapper.kill()
