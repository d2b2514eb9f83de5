# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What would make a removal fail is found without trying, and the reason says what to do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.obstacles import (
    can_create_owned_by_nova,
    is_others_in_sticky_directory,
    unremovable_sentence,
    why_locks_cannot_be_made,
    why_nothing_can_be_removed,
)
from ansible_collections.stackops.nova.tests.support.host import Host, attribute
from ansible_collections.stackops.nova.tests.support.processes import (
    NOBODY,
    as_nobody,
    as_user,
    mount,
    needs_root,
    with_own_mounts,
)

MIB = 1 << 20
SOMEBODY = 12345


def with_opened(path: Path, ask: Callable[[int], Any]) -> Any:
    """What is answered about a directory that is open."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return ask(descriptor)
    finally:
        os.close(descriptor)


def why_nothing(host: Host) -> str:
    return str(
        with_opened(
            host.cache_path,
            lambda cache: why_nothing_can_be_removed(cache, str(host.cache_path), str(host.locks_path)),
        )
    )


def why_no_locks(host: Host) -> tuple[str, int | None]:
    paths = str(host.locks_path), str(host.instances_path), host.cache_path.stat().st_dev
    if not host.locks_path.exists():
        return why_locks_cannot_be_made(None, *paths)
    answer: tuple[str, int | None] = with_opened(host.locks_path, lambda locks: why_locks_cannot_be_made(locks, *paths))
    return answer


def mounted_read_only(path: Path) -> None:
    mount("--bind", path, path)
    mount("-o", "remount,ro,bind", path)


class TestWhyNothingCanBeRemoved:
    def test_usual_cache_has_no_obstacle(self, host: Host) -> None:
        assert why_nothing(host) == ""

    def test_missing_locks_directory_is_no_obstacle(self, host: Host) -> None:
        host.locks_path.rmdir()
        assert why_nothing(host) == ""

    @needs_root
    def test_read_only_mount_of_cache_is_named(self, host: Host) -> None:
        def ask() -> str:
            mounted_read_only(host.cache_path)
            return why_nothing(host)

        assert with_own_mounts(ask) == (
            f"{host.cache_path} is on a read-only mount. Look at the kernel's log (dmesg), then mount it for writing "
            "(mount -o remount,rw)."
        )

    @needs_root
    def test_read_only_mount_of_locks_is_named(self, host: Host) -> None:
        def ask() -> str:
            mounted_read_only(host.locks_path)
            return why_nothing(host)

        assert with_own_mounts(ask) == (
            f"nova's lock directory {host.locks_path} is on a read-only mount, and nothing is removed without locks. "
            "Mount it for writing (mount -o remount,rw)."
        )

    @pytest.mark.usefixtures("attributes")
    @pytest.mark.parametrize("flag", ["i", "a"])
    def test_attribute_of_cache_is_named_with_the_command_that_removes_it(self, host: Host, flag: str) -> None:
        with attribute(host.cache_path, flag):
            reason = why_nothing(host)
        assert reason == (
            f"{host.cache_path} has the attribute immutable or append-only. "
            f"Remove it with chattr -i -a {host.cache_path}."
        )

    @needs_root
    @pytest.mark.parametrize("mode", [0o555, 0o644], ids=oct)
    def test_cache_that_this_user_may_not_write_or_enter_asks_for_root(self, public_host: Host, mode: int) -> None:
        os.chown(public_host.cache_path, NOBODY, NOBODY)
        public_host.cache_path.chmod(mode)
        assert why_nothing(public_host) == ""  # for root
        reason = as_nobody(lambda: why_nothing(public_host))
        assert reason == f"{public_host.cache_path} may not be written by this user. Run as root (become: true)."

    @needs_root
    def test_root_without_rights_is_not_asked_for_root(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "access", lambda *_path_and_mode: False)
        assert why_nothing(host) == (
            f"{host.cache_path} may not be written by this user. "
            "Check the NFS export (root_squash) and root's capabilities (/proc/self/status)."
        )

    def test_locks_directory_that_cannot_be_reached_is_named(self, host: Host) -> None:
        host.locks_path.rmdir()
        host.locks_path.symlink_to(host.locks_path)
        assert why_nothing(host).startswith(f"nova's locks in {host.locks_path} cannot be listed: ")


class TestWhyLocksCannotBeMade:
    def test_usual_locks_directory_has_no_obstacle(self, host: Host) -> None:
        assert why_no_locks(host) == ("", None)

    def test_locks_directory_yet_to_be_made_has_no_obstacle(self, host: Host) -> None:
        host.locks_path.rmdir()
        assert why_no_locks(host) == ("", None)

    @pytest.mark.usefixtures("attributes")
    @pytest.mark.parametrize("flag", ["i", "a"])
    def test_attribute_of_locks_directory_is_named_and_space_does_not_help(self, host: Host, flag: str) -> None:
        with attribute(host.locks_path, flag):
            reason, bytes_needed = why_no_locks(host)
        assert f"{host.locks_path} has the attribute immutable or append-only. Remove it (chattr -i -a)." in reason
        assert bytes_needed is None

    @needs_root
    def test_locks_directory_of_another_user_asks_for_root(self, public_host: Host) -> None:
        public_host.locks_path.chmod(0o777)
        reason, bytes_needed = as_nobody(lambda: why_no_locks(public_host))
        assert f"this user may make none in {public_host.locks_path} for nova. Run as root" in reason
        assert bytes_needed is None

    @staticmethod
    def ask_on_tmpfs(host: Host, options: str, used: int, place: str = "root") -> tuple[str, int | None]:
        """What is answered where a part of the host is a tmpfs of which so many bytes are used."""

        def ask() -> tuple[str, int | None]:
            path = getattr(host, place)
            mount("-t", "tmpfs", "-o", options, "tmpfs", path)
            there = Host(host.root)
            (path / "filler").write_bytes(bytes(used))
            return why_no_locks(there)

        answer: tuple[str, int | None] = with_own_mounts(ask)
        return answer

    @needs_root
    def test_one_mebibyte_is_room_enough(self, host: Host) -> None:
        assert self.ask_on_tmpfs(host, "size=2M", MIB) == ("", None)

    @needs_root
    def test_bytes_missing_of_one_mebibyte_are_what_removals_must_free(self, host: Host) -> None:
        reason, bytes_needed = self.ask_on_tmpfs(host, "size=2M", MIB + MIB // 8)
        assert f"the file system of {host.locks_path} is too full to make one. Free 1 MiB or some inodes" in reason
        assert bytes_needed == MIB // 8

    @needs_root
    def test_locks_on_another_file_system_gain_nothing_from_removals(self, host: Host) -> None:
        reason, bytes_needed = self.ask_on_tmpfs(host, "size=2M", 2 * MIB, place="locks_path")
        assert "too full" in reason
        assert bytes_needed is None

    @needs_root
    @pytest.mark.parametrize("size", ["2M", "0"], ids=["size", "no size"])
    def test_any_removal_helps_where_only_inodes_are_missing(self, host: Host, size: str) -> None:
        # The root, instances, _base, locks, libvirt and the filler.
        reason, bytes_needed = self.ask_on_tmpfs(host, f"size={size},nr_inodes=6", 4096)
        assert "too full" in reason
        assert bytes_needed == 1

    @needs_root
    @pytest.mark.parametrize("options", ["size=0", "size=2M,nr_inodes=0"], ids=["blocks", "inodes"])
    def test_file_system_that_counts_none_is_not_full(self, host: Host, options: str) -> None:
        assert self.ask_on_tmpfs(host, options, 4096) == ("", None)


@needs_root
class TestCanCreateOwnedByNova:
    def test_root_may_create_for_any_owner(self, host: Host) -> None:
        os.chown(host.locks_path, SOMEBODY, SOMEBODY)
        assert can_create_owned_by_nova(str(host.locks_path))

    def test_owner_may_create_for_itself(self, public_host: Host) -> None:
        os.chown(public_host.locks_path, SOMEBODY, SOMEBODY)
        assert as_user(SOMEBODY, lambda: can_create_owned_by_nova(str(public_host.locks_path)))

    @pytest.mark.parametrize(("user", "group", "mode"), [(0, 0, 0o777), (SOMEBODY, 0, 0o777), (SOMEBODY, SOMEBODY, 0)])
    def test_user_may_not_create_for_another_owner_or_group_or_without_rights(
        self, public_host: Host, user: int, group: int, mode: int
    ) -> None:
        os.chown(public_host.locks_path, user, group)
        public_host.locks_path.chmod(mode)
        assert not as_user(SOMEBODY, lambda: can_create_owned_by_nova(str(public_host.locks_path)))

    def test_missing_directory_takes_no_entry(self, host: Host) -> None:
        assert not can_create_owned_by_nova(str(host.root / "missing"))


@needs_root
@pytest.mark.parametrize(
    ("mode", "owner_of_file", "owner_of_directory", "user", "is_protected"),
    [
        pytest.param(0o1777, 0, 0, SOMEBODY, True, id="of another user"),
        pytest.param(0o1777, SOMEBODY, 0, SOMEBODY, False, id="own file"),
        pytest.param(0o1777, 0, SOMEBODY, SOMEBODY, False, id="own directory"),
        pytest.param(0o1777, SOMEBODY, SOMEBODY, 0, False, id="root"),
        pytest.param(0o0777, 0, 0, SOMEBODY, False, id="not sticky"),
    ],
)
def test_sticky_directory_protects_files_of_other_users(
    tmp_path: Path, mode: int, owner_of_file: int, owner_of_directory: int, user: int, is_protected: bool
) -> None:
    directory = tmp_path / "directory"
    directory.mkdir()
    directory.chmod(mode)
    file = directory / "file"
    file.touch()
    os.chown(file, owner_of_file, 0)
    os.chown(directory, owner_of_directory, 0)
    file_status, directory_status = file.stat(), directory.stat()
    assert as_user(user, lambda: is_others_in_sticky_directory(file_status, directory_status)) is is_protected


def test_sentence_counts_and_names_files_before_the_reason() -> None:
    assert unremovable_sentence(["a"], "/cache", "They are locked.") == (
        "1 unused file in /cache cannot be removed (a). They are locked."
    )
    assert unremovable_sentence(["a", "b"], "/cache", "They are locked.") == (
        "2 unused files in /cache cannot be removed (a, b). They are locked."
    )
