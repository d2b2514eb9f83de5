# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What proves that a process is a guest's, and what fits the disks: values in, a reason out."""

from __future__ import annotations

import stat
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.proof import (
    CacheDirectory,
    Content,
    OpenFile,
    Overlay,
    former_names,
    guests_of,
    why_ambiguous,
    why_not_a_guests,
    why_unfit,
)

NOVA, QEMU, OTHER = 162, 64055, 1000
DEVICE = 65024
CACHE = CacheDirectory(device=int("65024"), owner=NOVA)  # an object of its own, as the kernel's answers are
DISK = (DEVICE, 50)
OVERLAY = Overlay("/i/a/disk", "a", DISK, QEMU, "raw", 1000)
FILE = OpenFile(
    process=7,
    number=8,
    descriptor=-1,
    users=frozenset([QEMU]),
    written=frozenset([DISK]),
    inode=(DEVICE, 60),
    mode=stat.S_IFREG | 0o644,
    links=0,
    owner=QEMU,
    size_bytes=1000,
    allocated_bytes=0,
)
RENAMED = FILE._replace(is_renamed=True, links=1)


@pytest.mark.parametrize("owner", [NOVA, QEMU])
def test_deleted_file_of_a_guest_is_proven_whether_novas_or_qemus(owner: int) -> None:
    assert why_not_a_guests(FILE._replace(owner=owner), [OVERLAY], CACHE) == ""
    assert guests_of(FILE, [OVERLAY]) == ("a",)


def test_process_of_one_of_several_users_who_own_disks_on_the_file_is_a_guests() -> None:
    assert why_not_a_guests(FILE, [OVERLAY, OVERLAY._replace(instance="b", owner=OTHER)], CACHE) == ""


def test_process_of_two_users_is_no_guests_though_both_own_disks_on_the_file() -> None:
    file = FILE._replace(users=frozenset([QEMU, OTHER]))
    overlays = [OVERLAY, OVERLAY._replace(instance="b", owner=OTHER, inode=(DEVICE, 51))]
    assert why_not_a_guests(file, overlays, CACHE).startswith("it runs as a user")


@pytest.mark.parametrize("users", [[], [OTHER], [QEMU, OTHER]])
def test_process_is_no_guests_unless_the_owner_of_the_disk_is_its_only_user(users: list[int]) -> None:
    assert guests_of(FILE._replace(users=frozenset(users)), [OVERLAY]) == ()


def test_person_finds_the_file_among_those_of_its_process() -> None:
    assert FILE.path == "/proc/7/fd/8"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mode": stat.S_IFIFO | 0o644}, "not a regular file"),
        ({"mode": stat.S_IFBLK | 0o644}, "not a regular file"),
        ({"inode": (DEVICE - 1, 60)}, "another file system"),
        ({"inode": (DEVICE + 1, 60)}, "another file system"),
        ({"links": 1}, "still has a name"),
        ({"users": frozenset([OTHER])}, "runs as a user"),
        ({"users": frozenset([QEMU, OTHER])}, "runs as a user"),
        ({"users": frozenset()}, "runs as a user"),
        ({"written": frozenset()}, "no disk open for writing"),
        ({"written": frozenset([(DEVICE, 51)])}, "no disk open for writing"),
        ({"owner": OTHER}, "belongs neither"),
        ({"owner": 0}, "belongs neither"),
    ],
)
def test_process_that_lacks_one_condition_proves_nothing(change: dict[str, Any], reason: str) -> None:
    assert reason in why_not_a_guests(FILE._replace(**change), [OVERLAY], CACHE)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"links": 2}, "still has a name"),
        ({"written": frozenset([DISK, FILE.inode])}, "open for writing, and"),
    ],
)
def test_file_that_nfs_renamed_has_that_one_name_and_is_only_read(change: dict[str, Any], reason: str) -> None:
    why = why_not_a_guests(RENAMED._replace(**change), [OVERLAY], CACHE)
    assert reason in why
    assert bool(reason) == bool(why)


class TestFormerNameOfARenamedFile:
    def test_missing_base_file_of_the_guests_own_disk_is_the_former_name(self) -> None:
        others = OVERLAY._replace(instance="b", inode=(1, 51))
        overlays = {"missing": [OVERLAY, others], "of another guest": [others], "open": [OVERLAY]}
        assert former_names(RENAMED, overlays, {"open"}) == ["missing"]

    @pytest.mark.parametrize(
        ("file", "renamed", "names", "reason"),
        [
            (RENAMED, {RENAMED.inode}, ["a"], ""),
            (RENAMED, {RENAMED.inode, (1, 61)}, ["a"], "it has 2 files open"),
            (RENAMED, {RENAMED.inode}, ["a", "b"], "may be any of 2 that"),
            (FILE, {RENAMED.inode, (1, 61)}, ["a"], ""),
        ],
    )
    def test_two_renamed_files_or_two_names_are_ambiguous(
        self, file: OpenFile, renamed: set[tuple[int, int]], names: list[str], reason: str
    ) -> None:
        why = why_ambiguous(file, renamed, names)
        assert reason in why
        assert bool(reason) == bool(why)


def test_file_without_an_overlay_on_it_is_not_proven() -> None:
    assert why_not_a_guests(FILE, [], CACHE) != ""


def test_disk_of_another_user_does_not_count_as_the_guests_own() -> None:
    others = OVERLAY._replace(instance="b", owner=OTHER, inode=(DEVICE, 51))
    file = FILE._replace(users=frozenset([OTHER]))
    assert why_not_a_guests(file, [OVERLAY, others], CACHE) != ""
    assert guests_of(FILE._replace(written=frozenset([DISK, (DEVICE, 51)])), [OVERLAY, others]) == ("a",)


@pytest.mark.parametrize(
    ("content", "backing_format", "virtual_bytes", "reason"),
    [
        (Content("raw", 1000, 1000), "raw", 1000, ""),
        (Content("raw", 1000, 1000), None, 1000, ""),
        (Content("raw", 1000, 1000), "raw", None, ""),
        (Content("raw", 999, 999), "raw", 1000, ""),
        (Content("raw", 1001, 1001), "raw", 1000, "it has 1001 bytes"),
        (Content("qcow2", 1000, 9999), "raw", 1000, ""),  # it is data
        (Content("qcow2", 1000, 1000), None, 1000, "not those of a raw image"),
        (Content(None, 1000, 1000), None, 1000, "not those of a raw image"),
        (Content(None, 1000, 1000), "raw", 1000, ""),
        (Content("qcow2", 5000, 1000), "qcow2", 1000, ""),
        (Content("qcow2", 500, 1001), "qcow2", 1000, "it has 1001 bytes"),
        (Content("raw", 500, 500), "qcow2", 1000, "not those of a qcow2 image"),
        (Content("raw", 500, 500), "vmdk", 1000, "another format"),
    ],
)
def test_file_that_does_not_fit_the_disk_on_it_is_refused(
    content: Content, backing_format: str | None, virtual_bytes: int | None, reason: str
) -> None:
    read = None if backing_format is None else backing_format.encode().decode()  # an object of its own, as in a header
    overlay = OVERLAY._replace(backing_format=read, virtual_bytes=virtual_bytes)
    said = why_unfit(content, [overlay])
    assert reason in said
    assert bool(reason) == bool(said)


def test_file_that_does_not_fit_every_disk_on_it_is_refused() -> None:
    small = OVERLAY._replace(instance="small", virtual_bytes=999)
    assert "small" in why_unfit(Content("raw", 1000, 1000), [OVERLAY, small])
    assert why_unfit(Content("raw", 1000, 1000), []) == ""
