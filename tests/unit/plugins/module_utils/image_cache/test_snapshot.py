# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that is on a host is seen, and nothing is seen that is not there."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.argspec import settings_from_params
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.names import Kind
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.open_files import is_open_elsewhere
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.snapshot import Snapshot, read_disks
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.storage import find_storage
from ansible_collections.stackops.nova.tests.support.constants import BASE, OTHER_BASE, OTHER_UUID, UUID
from ansible_collections.stackops.nova.tests.support.host import HOUR, Host, create_image, snapshot_of
from ansible_collections.stackops.nova.tests.support.params import run_command
from ansible_collections.stackops.nova.tests.support.processes import (
    as_nobody,
    guest,
    in_a_child,
    mount,
    needs_root,
    nova_compute,
    reader,
    start_child,
    whenever,
    with_own_mounts,
)


@contextmanager
def renaming(one: Path, other: Path) -> Iterator[None]:
    """Another process, which renames a directory and back again all the time."""
    script = (
        "import os, sys, time\n"
        "while True:\n"
        "    for names in (sys.argv[1:], sys.argv[:0:-1]):\n"
        "        os.rename(*names)\n"
        "        time.sleep(0.0003)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(one), str(other)]) as process:
        try:
            yield
        finally:
            process.kill()


class TestCache:
    def test_each_file_is_listed_with_size_inode_and_time(self, host: Host) -> None:
        path = host.base(BASE, size=3 << 20, age=HOUR, content=b"\1" * 8192)
        [file] = snapshot_of(host).files
        assert (file.name, file.kind, file.key) == (BASE, Kind.ORIGINAL, BASE)
        assert (file.size_bytes, file.allocated_bytes) == (3 << 20, path.stat().st_blocks * 512)
        assert (file.inode, file.mtime_ns) == (path.stat().st_ino, path.stat().st_mtime_ns)

    def test_entry_that_is_not_a_regular_file_is_no_cache_file_whatever_its_name(self, host: Host) -> None:
        (host.cache_path / BASE).mkdir()
        (host.cache_path / "swap_1").symlink_to(host.base("elsewhere"))
        (host.cache_path / "swap_2").symlink_to("nowhere")
        os.mkfifo(host.cache_path / "swap_3")
        os.mknod(host.cache_path / "swap_4", stat.S_IFSOCK | 0o600)
        snapshot = snapshot_of(host)
        assert {file.name: file.kind for file in snapshot.files} == dict.fromkeys(
            [BASE, "elsewhere", "swap_1", "swap_2", "swap_3", "swap_4"], Kind.OTHER
        )
        assert snapshot.problems == ()

    def test_missing_cache_directory_is_no_error(self, host: Host) -> None:
        host.cache_path.rmdir()
        storage = find_storage(str(host.instances_path))
        snapshot = snapshot_of(host)
        assert snapshot.instances_storage is not None
        assert snapshot.instances_storage.id == storage.id
        assert snapshot._replace(instances_storage=None) == Snapshot(exists=False)

    def test_missing_instances_path_is_refused(self, host: Host) -> None:
        with pytest.raises(ImageCacheError, match=r"instances_path /no/such/path does not exist"):
            snapshot_of(host, instances_path="/no/such/path")

    @pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
    def test_link_in_place_of_the_cache_directory_is_refused(self, host: Host, target: str) -> None:
        (host.root / "elsewhere").mkdir()
        host.cache_path.rmdir()
        host.cache_path.symlink_to(host.root / target)
        with pytest.raises(ImageCacheError, match=rf"cache directory {host.cache_path} is a link"):
            snapshot_of(host)

    def test_file_in_place_of_the_instances_path_is_refused(self, host: Host) -> None:
        path = host.base(BASE)
        with pytest.raises(ImageCacheError, match=f"instances_path {path} does not exist on this host"):
            snapshot_of(host, instances_path=str(path))

    def test_file_that_is_removed_meanwhile_is_left_out(self, host: Host) -> None:
        host.base(OTHER_BASE)
        path = host.base(BASE)

        def look_meanwhile() -> list[str]:
            whenever("open", lambda name, *_how: name == BASE and path.unlink(missing_ok=True))
            return [file.name for file in snapshot_of(host).files]

        assert in_a_child(look_meanwhile) == [OTHER_BASE]

    def test_disks_are_not_read_without_the_cache_directory(self, host: Host) -> None:
        settings = settings_from_params(host.options())
        host.cache_path.rmdir()
        with pytest.raises(ImageCacheError, match=f"{host.cache_path} was removed or unmounted while it was read"):
            read_disks(settings, {}, (), run_command)

    @needs_root
    def test_shared_cache_without_the_instances_beside_it_is_a_problem(self, host: Host) -> None:
        def look_at_a_mounted_cache() -> Snapshot:
            mount("-t", "tmpfs", "tmpfs", host.cache_path)
            return snapshot_of(host, shared_storage=True)

        [problem] = with_own_mounts(look_at_a_mounted_cache).problems
        assert problem.startswith(f"{host.cache_path} is shared with other hosts (tmpfs), and the instances beside it")

    def test_file_in_place_of_the_cache_directory_is_refused(self, host: Host) -> None:
        host.cache_path.rmdir()
        host.cache_path.touch()
        with pytest.raises(ImageCacheError, match=rf"cache directory {host.cache_path} is .* not a directory"):
            snapshot_of(host)


class TestProcessesAndLocks:
    def test_files_that_a_guest_holds_and_a_process_reads_are_known(self, host: Host) -> None:
        disk = create_image(host.root / "disk", over=host.base(BASE), over_format="raw")
        with guest(disk), reader(host.base("swap_64")):
            snapshot = snapshot_of(host)
        assert snapshot.held_by_qemu == {BASE}
        assert snapshot.opened == {BASE, "swap_64"}

    def test_lock_of_nova_on_an_idle_file_is_seen(self, host: Host) -> None:
        for name in (BASE, "swap_64", f"{OTHER_BASE}.part"):
            host.base(name)
        host.lock_file("swap_64")
        with nova_compute() as nova:
            nova.take(OTHER_BASE, host.locks_path)
            assert snapshot_of(host).locked == {f"{OTHER_BASE}.part"}
        assert snapshot_of(host).locked == frozenset()

    def test_host_without_a_locks_directory_has_no_locked_file(self, host: Host) -> None:
        host.base(BASE)
        host.locks_path.rmdir()
        snapshot = snapshot_of(host)
        assert (snapshot.locked, snapshot.problems) == (frozenset(), ())

    def test_locks_directory_that_is_a_link_is_a_problem(self, host: Host) -> None:
        host.base(BASE)
        host.locks_path.rmdir()
        host.locks_path.symlink_to(host.root)
        [problem] = snapshot_of(host).problems
        assert str(host.locks_path) in problem

    def test_lock_file_that_is_a_link_is_a_problem(self, host: Host) -> None:
        host.base(BASE)
        (host.locks_path / f"nova-{BASE}").symlink_to("/etc/passwd")
        [problem] = snapshot_of(host).problems
        assert f"nova-{BASE}" in problem


class TestBesideAPrune:
    """A prune asks for a lease before a removal, and a process that opens the file without waiting is refused."""

    def test_base_file_under_the_lease_of_a_prune_is_no_problem(self, host: Host) -> None:
        with host.base(BASE).open("rb") as file:
            assert is_open_elsewhere(file.fileno()) is False
            taken = start_child(lambda: snapshot_of(host))
            time.sleep(0.2)
        snapshot = taken()
        assert snapshot.problems == ()
        assert [file.name for file in snapshot.files] == [BASE]

    def test_lock_file_under_the_lease_of_a_prune_is_no_problem(self, host: Host) -> None:
        host.base(BASE)
        with host.lock_file(BASE).open("rb") as file:
            assert is_open_elsewhere(file.fileno()) is False
            taken = start_child(lambda: snapshot_of(host))
            time.sleep(0.2)
        assert taken().problems == ()


class TestInstanceDirectories:
    def test_other_files_and_directories_are_passed_over(self, host: Host) -> None:
        host.base(BASE)
        (host.instances_path / UUID).mkdir()
        (host.instances_path / UUID / "console.log").touch()
        (host.instances_path / ".directio.test.1").touch()
        for directory in ("locks", "lost+found", "snapshots"):
            host.instance(directory, {"disk": BASE})
        snapshot = snapshot_of(host)
        assert (snapshot.backing, snapshot.instance_directories, snapshot.problems) == ({}, (), ())

    def test_directory_that_was_moved_and_linked_counts(self, host: Host) -> None:
        host.base(BASE)
        host.instance(UUID, {"disk": BASE}).rename(host.root / "moved")
        (host.instances_path / UUID).symlink_to(host.root / "moved")
        assert snapshot_of(host).backing == {BASE: [UUID]}

    def test_link_to_a_directory_that_is_not_mounted_is_a_problem(self, host: Host) -> None:
        (host.instances_path / UUID).symlink_to(host.root / "not mounted" / UUID)
        [problem] = snapshot_of(host).problems
        assert str(host.instances_path / UUID) in problem

    def test_link_to_itself_is_named_and_hides_no_other_disk(self, host: Host) -> None:
        host.base(BASE)
        host.instance(UUID, {"disk": BASE})
        (host.instances_path / OTHER_UUID).symlink_to(OTHER_UUID)
        snapshot = snapshot_of(host)
        assert snapshot.backing == {BASE: [UUID]}
        [problem] = snapshot.problems
        assert str(host.instances_path / OTHER_UUID) in problem


@needs_root
class TestAsAnotherUser:
    def test_cache_that_may_not_be_opened_is_an_error(self, public_host: Host) -> None:
        public_host.cache_path.chmod(0o700)
        with pytest.raises(ImageCacheError, match=f"{public_host.cache_path} cannot be opened: Permission denied"):
            as_nobody(lambda: snapshot_of(public_host))

    def test_instances_path_that_cannot_be_listed_is_a_problem(self, public_host: Host) -> None:
        public_host.instances_path.chmod(0o711)
        problems = as_nobody(lambda: snapshot_of(public_host)).problems
        path = public_host.instances_path
        assert f"instances_path {path} cannot be read: Permission denied. Run as root (become: true)." in problems

    def test_base_file_that_cannot_be_read_is_a_problem(self, public_host: Host) -> None:
        public_host.base(BASE).chmod(0o600)
        [problem] = as_nobody(lambda: snapshot_of(public_host)).problems
        assert str(public_host.cache_path / BASE) in problem

    def test_open_files_that_cannot_be_seen_are_a_warning(self, public_host: Host) -> None:
        [warning] = as_nobody(lambda: snapshot_of(public_host)).warnings
        assert "root" in warning


class TestDirectoriesThatAreRenamed:
    """nova renames a directory to _resize, and back, while the directories are listed."""

    def test_base_file_of_a_directory_that_is_renamed_is_never_unused(self, host: Host) -> None:
        host.base(BASE)
        for number in range(50):
            host.instance(f"{number:08x}-0000-4000-8000-000000000000", {"disk": None})
        directory = host.instance(UUID, {"disk": BASE})
        with renaming(directory, directory.with_name(UUID + "_resize")):
            snapshots = [snapshot_of(host) for _pass in range(200)]
        assert all(BASE in snapshot.backing or snapshot.problems for snapshot in snapshots)
        assert any(BASE in snapshot.backing for snapshot in snapshots)

    def test_directories_that_never_stop_changing_are_a_problem(self, host: Host) -> None:
        def make_another(path: object) -> None:
            if path == str(host.instances_path):
                host.instance(f"{len(os.listdir(path)):08x}", {"disk": None})

        def look_meanwhile() -> Snapshot:
            whenever("os.scandir", make_another)
            return snapshot_of(host)

        assert in_a_child(look_meanwhile).problems == (
            f"{host.instances_path} changes faster than it can be read. Run it again when fewer instances come and go "
            f"in {host.instances_path}.",
        )
