# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import textwrap
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.plugin_utils.report.table import fleet_pages, storage_page
from ansible_collections.stackops.nova.tests.support.fleets import (
    BASE,
    HOSTILE,
    answer,
    done,
    fleet,
    full_disk,
    orphan,
    silent,
    storage,
    sum_of_orphans,
    troubled_answer,
)

GUIDE = Path(__file__).parents[5] / "docs/docsite/rst/guide.rst"
UBUNTU = "e2e2a53bdd3e68dd8f2a43c6a0f4f5dd1e4c8b77"
UBUNTU_ID = "0b0a3c9f-6f6e-4f0e-8b1a-5d2c7f1e9a01"
FEDORA = "c88caa2f53bba855b6b96bb9c5cf6b34ba5fa1a1"
FEDORA_ID = "3e5b8a72-d4c6-4f19-b803-7f6e21a05d04"
UNKNOWN = "4f0a5f2a9a1f3f2f9d1c0b8e7a6d5c4b3a291807"
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
MINUTE, HOUR, DAY = 60, 3600, 86400


def file(name: str, state: str, *reasons: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "original",
        "image_id": None,
        "image_name": None,
        "in_glance": None,
        "state": state,
        "reasons": list(reasons),
        "size_bytes": 5 * GIB,
        "allocated_bytes": GIB,
        "mtime": 0.0,
        "age_seconds": 40.5 * DAY,
        "removable_in_seconds": None if state in ("active", "other") else 0,
        "used_by": [],
        **more,
    }


def audit(*files: dict[str, Any], details: str = "files", **more: Any) -> dict[str, Any]:
    """What the modules would return for these files."""
    recognised = [each for each in files if each["state"] != "other"]
    by_state = {
        state: [each["name"] for each in files if each["state"] == state]
        for state in ("active", "removable", "too_young", "other")
    }
    removable = sum(each["allocated_bytes"] for each in files if each["state"] == "removable")
    image_cache: dict[str, Any] = {
        "cache_path": "/var/lib/nova/instances/_base",
        "exists": True,
        "now": 1_800_000_000.0,
        "host": "compute-1",
        "storage": {
            "id": "ext4:machine:8:1:/var/lib/nova/instances/_base",
            "filesystem": "ext4",
            "shared": False,
            "users": ["compute-1"],
            "free_bytes": 20 * GIB,
            "total_bytes": 500 * GIB,
        },
        "summary": {
            **{state: len(names) for state, names in by_state.items()},
            "total": {"files": len(recognised), "allocated_bytes": sum(each["allocated_bytes"] for each in recognised)},
            "reclaimable_bytes": 0 if more.get("unknown_use") else removable,
            "bytes": {
                state: sum(each["allocated_bytes"] for each in files if each["state"] == state) for state in by_state
            },
            "orphans": sum_of_orphans(more.get("orphans", ())),
        },
        "missing": [],
        "orphans": [],
        "unknown_use": [],
    }
    if details == "summary":
        image_cache["omitted"] = {"missing": 0, "orphans": 0, "unknown_use": 0, "users": 0}
    else:
        image_cache.update(by_state)
    if details == "files":
        image_cache["files"] = list(files)
    return {**image_cache, **more}


def pruned(removed: list[str], reclaimed_bytes: int, **more: Any) -> dict[str, Any]:
    """What a prune adds."""
    return {"removed": removed, "kept": [], "failed": [], "reclaimed_bytes": reclaimed_bytes, **more}


FILES = [
    file(
        UBUNTU, "active", "backing", "instance", image_id=UBUNTU_ID, in_glance=True, age_seconds=2.4 * HOUR,
        allocated_bytes=int(2.2 * GIB), used_by=["instance-00000001", "instance-00000002"],
    ),
    file(
        f"{UBUNTU}_21474836480", "active", "instance", kind="resized", image_id=UBUNTU_ID, in_glance=True,
        allocated_bytes=3 * GIB, used_by=[f"instance-0000000{n}" for n in range(1, 8)],
    ),
    file(UNKNOWN, "active", "backing", "qemu", in_glance=False, used_by=["instance-00000004"]),
    file("swap_512", "active", "instance", kind="swap", allocated_bytes=4 * KIB, used_by=["instance-00000003"]),
    file(
        FEDORA, "removable", "unused", image_id=FEDORA_ID, in_glance=True, allocated_bytes=int(4.4 * GIB),
    ),
    file("1" * 40, "removable", "unknown", in_glance=False, age_seconds=200 * DAY),
    file(f"{FEDORA}_sm", "removable", "unused", kind="small", image_id=FEDORA_ID, allocated_bytes=700 * MIB),
    file("swap_1024", "removable", "unused", kind="swap", allocated_bytes=8 * KIB),
    file("ephemeral_20_40d1d2c", "removable", "unused", kind="ephemeral", allocated_bytes=132 * KIB),
    file(f"{UBUNTU}.part", "removable", "unused", kind="partial", image_id=UBUNTU_ID, in_glance=True),
    file("2" * 40, "too_young", "unknown", age_seconds=20 * HOUR + 40 * MINUTE, removable_in_seconds=12_000),
    file(
        "ephemeral_1_40d1d2c", "too_young", "unused", kind="ephemeral", age_seconds=-5, removable_in_seconds=10 * DAY,
    ),
    file("7b61a8c3-5f2d-4e90-b7a4-2d0c6e94f308", "other", kind="kernel"),
]  # fmt: skip


def removable(*but: str) -> list[str]:
    return sorted(each["name"] for each in FILES if each["state"] == "removable" and each["name"] not in but)


def taken(names: list[str]) -> int:
    return sum(each["allocated_bytes"] for each in FILES if each["name"] in names)


def test_dry_run_lists_what_would_be_removed_and_what_is_kept() -> None:
    """One of everything, but for failures."""
    image_cache = audit(
        *FILES,
        missing=[{"backing_file": "/var/lib/nova/instances/_base/" + "9" * 40, "instances": ["instance-00000009"]}],
        orphans=[orphan("0d4c7fd2-3c52-4a3e-b0f1-8f0a55a1e0c9")],
    )
    result = pruned(
        removable("swap_1024"),
        taken(removable("swap_1024")),
        kept=[{"name": "swap_1024", "reason": "locked"}],
    )
    table = """\
IMAGE CACHE  compute-1:/var/lib/nova/instances/_base

!! NEEDS A PERSON
!! MISSING  Disks need these files, and the files do not exist. Restore them
!!          first, because the instances cannot start without them: run
!!          ansible-playbook stackops.nova.restore with --limit for these
!!          hosts, and with --check before. With -e
!!          image_cache_restore_from_glance=true it asks Glance too (page 'A
!!          base file is gone').
!!          - 9999999999999999999999999999999999999999: instance-00000009
!! ORPHANS  These directories hold disks and belong to no known instance.
!!          Check whether they can be deleted, or whether the list of
!!          instances is incomplete.
!!          - 0d4c7fd2-3c52-4a3e-b0f1-8f0a55a1e0c9: 3.0 GiB, 2 disks. No
!!            source lists an instance of this UUID.

FOUND                        FILES     ON DISK
  in use                         4     6.2 GiB
  unused, too young              2     2.0 GiB
  unused, would be removed       5     7.1 GiB
  unused, kept                   1     8.0 KiB
  all                           12      15 GiB
  other, never removed           1
  orphans (directories)          1     3.0 GiB
  20 GiB of 500 GiB are free there (ext4)

WOULD BE REMOVED: 5 files, 7.1 GiB
    ON DISK  LAST USED  FILE
    4.4 GiB    40d ago  c88caa2f53bba855b6b96bb9c5cf6b34ba5fa1a1
                        unused; image 3e5b8a72-d4c6-4f19-b803-7f6e21a05d04, in
                        Glance
    1.0 GiB   200d ago  1111111111111111111111111111111111111111
                        unused; unknown image, not in Glance
    1.0 GiB    40d ago  e2e2a53bdd3e68dd8f2a43c6a0f4f5dd1e4c8b77.part
                        unused; interrupted download of
                        0b0a3c9f-6f6e-4f0e-8b1a-5d2c7f1e9a01
    700 MiB    40d ago  c88caa2f53bba855b6b96bb9c5cf6b34ba5fa1a1_sm
                        unused; small copy of
                        3e5b8a72-d4c6-4f19-b803-7f6e21a05d04
    132 KiB    40d ago  ephemeral_20_40d1d2c: unused; ephemeral disk template

KEPT: 1 file, 8.0 KiB
    ON DISK  LAST USED  FILE
    8.0 KiB    40d ago  swap_1024
                        nova or another prune holds its lock; swap template

TOO YOUNG: 2 files, 2.0 GiB
    ON DISK  LAST USED  FILE
    1.0 GiB    20h ago  2222222222222222222222222222222222222222
                        removable in 3h 20m; unknown image
    1.0 GiB  in future  ephemeral_1_40d1d2c
                        removable in 10d; ephemeral disk template

IN USE: 4 files, 6.2 GiB
    ON DISK  LAST USED  FILE
    3.0 GiB    40d ago  e2e2a53bdd3e68dd8f2a43c6a0f4f5dd1e4c8b77_21474836480
                        its image is used by instance-00000001,
                        instance-00000002, instance-00000003 and 4 more;
                        resized copy of 0b0a3c9f-6f6e-4f0e-8b1a-5d2c7f1e9a01
    2.2 GiB     2h ago  e2e2a53bdd3e68dd8f2a43c6a0f4f5dd1e4c8b77
                        used by instance-00000001 and instance-00000002; image
                        0b0a3c9f-6f6e-4f0e-8b1a-5d2c7f1e9a01
    1.0 GiB    40d ago  4f0a5f2a9a1f3f2f9d1c0b8e7a6d5c4b3a291807
                        backs disks of instance-00000004; QEMU has it open;
                        unknown image, not in Glance
    4.0 KiB    40d ago  swap_512
                        in the flavor of instance-00000003; swap template

WOULD BE FREED: 7.1 GiB of 15 GiB. Nothing was removed: this was a dry run."""
    assert storage_page({**image_cache, **result, "check_mode": True}) == table


def test_prune_lists_what_was_removed() -> None:
    table = """\
IMAGE CACHE  compute-1:/var/lib/nova/instances/_base

FOUND                        FILES     ON DISK
  in use                         0         0 B
  unused, too young              0         0 B
  unused, removed                1     1.0 GiB
  all                            1     1.0 GiB
  other, never removed           0
  20 GiB of 500 GiB are free there (ext4)

REMOVED: 1 file, 1.0 GiB
    ON DISK  LAST USED  FILE
    1.0 GiB    40d ago  c88caa2f53bba855b6b96bb9c5cf6b34ba5fa1a1
                        unused; image 3e5b8a72-d4c6-4f19-b803-7f6e21a05d04

FREED: 1.0 GiB of 1.0 GiB."""
    image_cache = audit(file(FEDORA, "removable", "unused", image_id=FEDORA_ID))
    assert storage_page({**image_cache, **pruned([FEDORA], GIB)}) == table


def test_guide_shows_the_pages_of_a_full_disk() -> None:
    shown = storage_page(full_disk(check_mode=True)), storage_page(full_disk(check_mode=False)).partition("\n\n")[2]
    for page in (shown[0], shown[1][shown[1].index("REMOVED:") :]):
        assert textwrap.indent(page, "   ") in GUIDE.read_text()


def test_prune_without_removable_files_removes_nothing() -> None:
    table = """\
IMAGE CACHE  compute-1:/var/lib/nova/instances/_base

FOUND                        FILES     ON DISK
  in use                         0         0 B
  unused, too young              0         0 B
  unused, removed                0         0 B
  all                            0         0 B
  other, never removed           0
  20 GiB of 500 GiB are free there (ext4)

REMOVED: nothing

FREED: 0 B of 0 B."""
    assert storage_page({**audit(), **pruned([], 0)}) == table


def test_file_system_without_a_size_is_shown_as_one_that_reports_none() -> None:
    storage = {**audit()["storage"], "filesystem": "tmpfs", "free_bytes": None, "total_bytes": None}
    assert "  the file system there reports no size (tmpfs)\n" in storage_page(audit(storage=storage))


def test_audit_shows_what_a_prune_would_free() -> None:
    table = """\
IMAGE CACHE  compute-1:/var/lib/nova/instances/_base

FOUND                        FILES     ON DISK
  in use                         1     1.0 GiB
  unused, too young              0         0 B
  unused, removable              1     1.0 GiB
  all                            2     2.0 GiB
  other, never removed           0
  20 GiB of 500 GiB are free there (nfs4, shared); nova saw compute-1 and
  compute-2 use it

REMOVABLE: 1 file, 1.0 GiB
    ON DISK  LAST USED  FILE
    1.0 GiB    40d ago  c88caa2f53bba855b6b96bb9c5cf6b34ba5fa1a1
                        unused; image 3e5b8a72-d4c6-4f19-b803-7f6e21a05d04

IN USE: 1 file, 1.0 GiB
    ON DISK  LAST USED  FILE
    1.0 GiB    40d ago  4f0a5f2a9a1f3f2f9d1c0b8e7a6d5c4b3a291807
                        a process has it open; keep_images names its image;
                        image 0b0a3c9f-6f6e-4f0e-8b1a-5d2c7f1e9a01 (Ubuntu
                        24.04), not in Glance

A PRUNE WOULD FREE: 1.0 GiB of 2.0 GiB."""
    image_cache = audit(
        file(FEDORA, "removable", "unused", image_id=FEDORA_ID),
        file(UNKNOWN, "active", "keep_images", "open", image_id=UBUNTU_ID, image_name="Ubuntu 24.04", in_glance=False),
    )
    storage = {**image_cache["storage"], "filesystem": "nfs4", "shared": True, "users": ["compute-1", "compute-2"]}
    assert storage_page({**image_cache, "storage": storage}) == table


def test_refused_prune_shows_its_reasons_first() -> None:
    table = """\
IMAGE CACHE  compute-1:/var/lib/nova/instances/_base

!! NEEDS A PERSON
!! REFUSED  Nothing may be removed here. Each reason says what to do. The
!!          role's variables begin with image_cache_.
!!          - libvirt_config_path /etc/libvirt/qemu cannot be read, so the
!!            instances are unknown: Permission denied. Set
!!            libvirt_config_path to the directory where libvirt keeps its
!!            domains, or set libvirt: false.
!!          - Host compute-2 used this storage within the last 24 hours.

FOUND                        FILES     ON DISK
  in use                         0         0 B
  unused, too young              0         0 B
  unused, removed                0         0 B
  unused, kept                   1     1.0 GiB
  all                            1     1.0 GiB
  other, never removed           0
  20 GiB of 500 GiB are free there (ext4)

REMOVED: nothing

KEPT: 1 file, 1.0 GiB
    ON DISK  LAST USED  FILE
    1.0 GiB    40d ago  swap_1024: removal is refused; swap template

FREED: 0 B of 1.0 GiB. Removal is refused: the reasons are at the top."""
    reasons = [
        "libvirt_config_path /etc/libvirt/qemu cannot be read, so the instances are unknown: Permission denied. "
        "Set libvirt_config_path to the directory where libvirt keeps its domains, or set libvirt: false.",
        "Host compute-2 used this storage within the last 24 hours.",
    ]
    image_cache = audit(file("swap_1024", "removable", "unused", kind="swap"), unknown_use=reasons)
    result = pruned(
        [],
        0,
        kept=[{"name": "swap_1024", "reason": "unknown_use"}],
    )
    assert storage_page({**image_cache, **result}) == table


def test_corrupt_files_are_shown_with_the_instances_that_use_them() -> None:
    checksums = {
        "algorithm": "sha1",
        "verified_files": 3,
        "verified_bytes": 5 * GIB,
        "trusted_files": 40,
        "unverified_files": 0,
        "skipped_files": 0,
        "deferred_files": 12,
        "deferred_bytes": 80 * GIB,
        "oldest_verification_seconds": 5 * 86400.0,
    }
    corrupt = [{"name": "swap_1", "used_by": ["vm-1", "vm-2"]}, {"name": "swap_2", "used_by": []}]
    table = storage_page(audit(corrupt=corrupt, checksums=checksums))
    assert table.splitlines()[2:10] == [
        "!! NEEDS A PERSON",
        "!! CORRUPT  The contents of these base files do not match their checksums.",
        "!!          Compare them with another host's, and restore them before an",
        "!!          instance that uses them starts again.",
        "!!          - swap_1: vm-1 and vm-2",
        "!!          - swap_2: no known instance",
        "",
        "FOUND                        FILES     ON DISK",
    ]
    assert (
        "  3 files, 5.0 GiB, were verified now, 40 lately, 12 are deferred; the oldest\n  verification was 5d ago"
        in table
    )
    checksums["oldest_verification_seconds"] = None
    assert "12 are deferred; some were\n  never verified" in storage_page(audit(checksums=checksums))


def test_failed_removals_are_shown_with_their_error() -> None:
    table = """\
IMAGE CACHE  compute-1:/var/lib/nova/instances/_base

!! NEEDS A PERSON
!! FAILED   These files could not be removed. Correct the cause. The next
!!          prune tries again.
!!          - swap_512: it could not be removed: Operation not permitted

FOUND                        FILES     ON DISK
  in use                         0         0 B
  unused, too young              0         0 B
  unused, removed                0         0 B
  unused, kept                   1     1.0 GiB
  all                            1     1.0 GiB
  other, never removed           0
  20 GiB of 500 GiB are free there (ext4)

REMOVED: nothing

KEPT: 1 file
  swap_512: could not be removed

FREED: 0 B of 1.0 GiB."""
    image_cache = audit(file("swap_512", "removable", "unused", kind="swap"), details="names")
    failures = [{"name": "swap_512", "error": "it could not be removed: Operation not permitted"}]
    result = pruned([], 0, failed=failures)
    assert storage_page({**image_cache, **result}) == table


def test_files_of_ignored_orphans_name_the_orphans() -> None:
    table = """\
IMAGE CACHE  compute-1:/var/lib/nova/instances/_base

!! NEEDS A PERSON
!! ORPHANS  These directories hold disks and belong to no known instance.
!!          Check whether they can be deleted, or whether the list of
!!          instances is incomplete.
!!          - 0d4c7fd2: 3.0 GiB, 2 disks. Why.
!!          - 1e5d80e3: 3.0 GiB, 2 disks. Why.

FOUND                        FILES     ON DISK
  in use                         2     2.0 GiB
  unused, too young              0         0 B
  unused, removable              1     1.0 GiB
  all                            3     3.0 GiB
  other, never removed           0
  orphans (directories)          2     6.0 GiB
  20 GiB of 500 GiB are free there (ext4)

REMOVABLE: 1 file, 1.0 GiB
    ON DISK  LAST USED  FILE
    1.0 GiB    40d ago  e2e2a53bdd3e68dd8f2a43c6a0f4f5dd1e4c8b77
                        unused; used only by the orphan 0d4c7fd2; image
                        0b0a3c9f-6f6e-4f0e-8b1a-5d2c7f1e9a01

IN USE: 2 files, 2.0 GiB
    ON DISK  LAST USED  FILE
    1.0 GiB    40d ago  c88caa2f53bba855b6b96bb9c5cf6b34ba5fa1a1
                        used by 0d4c7fd2 and instance-00000001, an orphan
                        among them; unknown image
    1.0 GiB    40d ago  swap_512
                        backs disks of the orphans 0d4c7fd2 and 1e5d80e3; swap
                        template

A PRUNE WOULD FREE: 1.0 GiB of 3.0 GiB."""
    image_cache = audit(
        file(UBUNTU, "removable", "unused", used_by=["0d4c7fd2"], image_id=UBUNTU_ID),
        file(FEDORA, "active", "backing", "orphan", used_by=["0d4c7fd2", "instance-00000001"]),
        file("swap_512", "active", "orphan", used_by=["0d4c7fd2", "1e5d80e3"], kind="swap"),
        orphans=[orphan("0d4c7fd2", why="Why."), orphan("1e5d80e3", why="Why.")],
    )
    assert storage_page(image_cache) == table


def test_details_names_lists_names_without_sizes() -> None:
    table = """\
IMAGE CACHE  compute-1:/var/lib/nova/instances/_base

FOUND                        FILES     ON DISK
  in use                         4     6.2 GiB
  unused, too young              2     2.0 GiB
  unused, would be removed       5     7.1 GiB
  unused, kept                   1     8.0 KiB
  all                           12      15 GiB
  other, never removed           1
  20 GiB of 500 GiB are free there (ext4)

WOULD BE REMOVED: 5 files
  1111111111111111111111111111111111111111
  c88caa2f53bba855b6b96bb9c5cf6b34ba5fa1a1
  c88caa2f53bba855b6b96bb9c5cf6b34ba5fa1a1_sm
  e2e2a53bdd3e68dd8f2a43c6a0f4f5dd1e4c8b77.part
  ephemeral_20_40d1d2c

KEPT: 1 file
  swap_1024: there is enough space without its removal

TOO YOUNG: 2 files
  2222222222222222222222222222222222222222
  ephemeral_1_40d1d2c

IN USE: 4 files
  4f0a5f2a9a1f3f2f9d1c0b8e7a6d5c4b3a291807
  e2e2a53bdd3e68dd8f2a43c6a0f4f5dd1e4c8b77
  e2e2a53bdd3e68dd8f2a43c6a0f4f5dd1e4c8b77_21474836480
  swap_512

WOULD BE FREED: 7.1 GiB of 15 GiB. Nothing was removed: this was a dry run."""
    image_cache = audit(*FILES, details="names")
    gone = removable("swap_1024")
    result = pruned(gone, taken(gone), kept=[{"name": "swap_1024", "reason": "space_target_met"}])
    assert storage_page({**image_cache, **result, "check_mode": True}) == table


def test_details_summary_counts_files() -> None:
    table = """\
IMAGE CACHE  compute-1:/var/lib/nova/instances/_base

!! NEEDS A PERSON
!! MISSING  Disks need these files, and the files do not exist. Restore them
!!          first, because the instances cannot start without them: run
!!          ansible-playbook stackops.nova.restore with --limit for these
!!          hosts, and with --check before. With -e
!!          image_cache_restore_from_glance=true it asks Glance too (page 'A
!!          base file is gone').
!!          - /srv/a: one and two
!!          - and 7 more
!! ORPHANS  These directories hold disks and belong to no known instance.
!!          Check whether they can be deleted, or whether the list of
!!          instances is incomplete.
!!          - a: Why.
!!          - and 300 more

FOUND                        FILES     ON DISK
  in use                         4     6.2 GiB
  unused, too young              2     2.0 GiB
  unused, removable              6     7.1 GiB
  all                           12      15 GiB
  other, never removed           1
  orphans (directories)        301      90 GiB
  20 GiB of 500 GiB are free there (ext4)

To list each file: details: files, or with the role -e
image_cache_details=files

A PRUNE WOULD FREE: 7.1 GiB of 15 GiB."""
    image_cache = audit(
        *FILES,
        details="summary",
        missing=[{"backing_file": "/srv/a", "instances": ["one", "two"]}],
        orphans=[orphan("a", allocated_bytes=None, disks=None, why="Why.")],
        omitted={"missing": 7, "orphans": 300, "unknown_use": 0, "users": 0},
    )
    image_cache["summary"]["orphans"] = {"directories": 301, "allocated_bytes": 90 * GIB}
    assert storage_page(image_cache) == table


def test_prune_with_details_summary_lists_what_was_removed() -> None:
    """A prune has the entries of what was removable, with any details."""
    files = [each for each in FILES if each["state"] == "removable"]
    result = pruned(removable(), taken(removable()), files=files)
    lines = storage_page({**audit(*FILES, details="summary"), **result}).splitlines()
    assert lines[lines.index("REMOVED: 6 files, 7.1 GiB") + 1 :] == [
        "    ON DISK  LAST USED  FILE",
        f"    4.4 GiB    40d ago  {FEDORA}",
        f"                        unused; image {FEDORA_ID}, in",
        "                        Glance",
        f"    1.0 GiB   200d ago  {'1' * 40}",
        "                        unused; unknown image, not in Glance",
        f"    1.0 GiB    40d ago  {UBUNTU}.part",
        "                        unused; interrupted download of",
        f"                        {UBUNTU_ID}",
        f"    700 MiB    40d ago  {FEDORA}_sm",
        "                        unused; small copy of",
        f"                        {FEDORA_ID}",
        "    132 KiB    40d ago  ephemeral_20_40d1d2c: unused; ephemeral disk template",
        "    8.0 KiB    40d ago  swap_1024: unused; swap template",
        "",
        "To list the other files: details: files, or with the role -e",
        "image_cache_details=files",
        "",
        "FREED: 7.1 GiB of 15 GiB.",
    ]
    kept = [{"name": name, "reason": "locked"} for name in removable()]
    result = pruned([], 0, kept=kept, files=files)
    lines = storage_page({**audit(*files, details="summary"), **result}).splitlines()
    assert lines[lines.index("    8.0 KiB    40d ago  swap_1024") + 1] == (
        "                        nova or another prune holds its lock; swap template"
    )
    assert not any(line.startswith("To list") for line in lines)


def test_shared_storage_names_its_hosts_and_refusals() -> None:
    refused = ["c shares this storage and could not be audited."]
    storage = {"hosts": ["a", "b"], "refused": refused, "missing": []}
    lines = storage_page(audit(*FILES), storage=storage).splitlines()
    assert lines[1] == "SHARED BY    a, b"
    assert lines[4:7] == [
        "!! REFUSED  Nothing may be removed here. Each reason says what to do. The",
        "!!          role's variables begin with image_cache_.",
        f"!!          - {refused[0]}",
    ]
    assert lines[-2:] == ["A PRUNE WOULD FREE: 7.1 GiB of 15 GiB. Removal is refused: the reasons are at", "the top."]


def test_unknown_use_of_one_host_is_not_shown_once_the_fleet_knows_it() -> None:
    image_cache = audit(*FILES, unknown_use=["Host b used this storage"])
    lines = storage_page(image_cache, storage={"hosts": ["a", "b"], "refused": [], "missing": []}).splitlines()
    assert not any("REFUSED" in line or "refused" in line for line in lines)


def test_host_without_a_cache_has_nothing_to_do() -> None:
    storage = {"id": None, "filesystem": None, "shared": None, "users": [], "free_bytes": None, "total_bytes": None}
    assert (
        storage_page({**audit(exists=False, storage=storage), **pruned([], 0)})
        == """\
IMAGE CACHE  compute-1:/var/lib/nova/instances/_base

There is no such directory, so there is nothing to do. nova makes it with the
first disk that it builds on an image. Where images_type is rbd or lvm there
may never be one; otherwise, if guests run here, the path is another one, or
what lies there is not mounted."""
    )


def test_long_section_shows_the_largest_files_and_counts_the_others() -> None:
    files = [file(f"{n:040x}", "removable", "unused", allocated_bytes=n * 100 * MIB) for n in range(1, 501)]
    lines = storage_page({**audit(*files), **pruned([each["name"] for each in files], 1)}).splitlines()
    section = lines[lines.index("REMOVED: 500 files, 12 TiB") + 2 : -2]
    assert section[:2] == [
        f"     49 GiB    40d ago  {500:040x}",
        "                        unused; unknown image",
    ]
    assert section[38] == f"     47 GiB    40d ago  {481:040x}"
    assert section[40:] == ["  and 480 more, 11 TiB"]


def test_long_list_of_an_alarm_is_counted() -> None:
    missing = [{"backing_file": f"/srv/{n}", "instances": ["one"]} for n in range(30)]
    lines = storage_page(audit(missing=missing, unknown_use=["why"] * 25)).splitlines()
    assert "!!          - and 10 more" in lines
    assert "!!          - and 5 more" in lines


def width_of(line: str) -> int:
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in line
    )


def hostile_page(name: str, **more: Any) -> str:
    """The page of a storage on which all that has a name has this one."""
    files = [
        file(name, "removable", "unused", image_id=name, image_name=name, in_glance=True),
        file(f"2{name}", "active", "backing", "instance", kind=name, used_by=[name] * 3),
        file(f"3{name}", "too_young", "unused", removable_in_seconds=5, used_by=[name]),
    ]
    image_cache = {
        **troubled_answer(name),
        "active": [f"2{name}"],
        "too_young": [f"3{name}"],
        "removable": [name],
        "files": files,
        "cache_path": name,
        "unknown_use": [name],
        **more,
    }
    image_cache["storage"].update(filesystem=name, users=[name, name], shared=True)
    return storage_page(image_cache, storage(image_cache, f"1{name}", f"2{name}"))


@pytest.mark.parametrize("removed", [[], ["kept"]])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_name_reaches_the_page_as_printable_text_of_78_columns(name: str, removed: list[str]) -> None:
    page = hostile_page(name, removed=removed)
    page.encode()
    assert page.splitlines() == page.split("\n")
    assert all(line.isprintable() for line in page.split("\n"))
    assert max(map(width_of, page.splitlines())) <= 78


@settings(max_examples=100)
@given(st.text(st.characters(), min_size=1))
def test_any_name_fits_78_columns_and_is_printable(name: str) -> None:
    lines = hostile_page(name).split("\n")
    assert all(line.isprintable() and width_of(line) <= 78 for line in lines)


def test_template_in_a_name_is_shown_as_it_is() -> None:
    assert "{{ 7*7 }}{% raw %}{#" in hostile_page("{{ 7*7 }}{% raw %}{#")


def test_numbers_of_any_size_fit_78_columns() -> None:
    image_cache = audit(file("swap_1", "removable", "unused", kind="swap", allocated_bytes=1 << 62, age_seconds=1e12))
    image_cache["summary"].update(active=10**15, too_young=10**15, other=10**15)
    assert max(map(len, storage_page(image_cache).splitlines())) <= 78


def test_long_names_fill_78_columns() -> None:
    long = "x" * 255
    image_cache = audit(
        file("1" * 40 + "_" + "1" * 200, "active", "backing", "instance", kind="resized", used_by=[long] * 3),
        file("2" * 40, "removable", "unused", image_id=long),
        missing=[{"backing_file": "/" + long * 4, "instances": [long]}],
        orphans=[orphan(long)] * 30,
        unknown_use=[long],
    )
    result = pruned([], 0, kept=[{"name": "2" * 40, "reason": "unknown_use"}])
    for table in (storage_page(image_cache), storage_page({**image_cache, **result})):
        assert max(map(len, table.splitlines())) == 78


def test_fleet_shows_its_problems_and_then_each_storage() -> None:
    first, second = answer("a"), answer("b", **done(BASE))
    problem = (
        "The Image API did not answer. It timed out after 10 seconds. Try again, or set image_cache_glance: false."
    )
    storages = [storage(first, "a"), storage(second, "b")]
    text = fleet_pages(fleet(*storages, problems=[problem]), zip((first, second), storages, strict=True))
    assert text.startswith(
        "!! PROBLEMS OF THE FLEET\n"
        "!! - The Image API did not answer. It timed out after 10 seconds. Try again,\n"
        "!!   or set image_cache_glance: false.\n"
        "\n"
        "IMAGE CACHE  a:/var/lib/nova/instances/_base\n"
    )
    assert "\n\nIMAGE CACHE  b:/var/lib/nova/instances/_base\n" in text


def test_pages_of_a_fleet_begin_with_the_hosts_that_have_none() -> None:
    found = answer("a")
    dead = [
        silent("b", error="ssh: No route to host"),
        silent("c", error="ssh: No route to host"),
        silent("d", "failed"),
    ]
    text = fleet_pages(fleet(storage(found, "a"), silent=dead), [(found, storage(found, "a"))])
    assert text.startswith(
        "!! HOSTS WITHOUT AN ANSWER\n"
        "!! - b, c: ssh: No route to host\n"
        "!! - d: ssh: No route to host\n"
        "\n"
        "IMAGE CACHE  a:/var/lib/nova/instances/_base\n"
    )


def test_pages_of_a_fleet_end_with_every_other_warning_to_its_last_word() -> None:
    found = answer("a")
    made = fleet(storage(found, "cmp-1", "cmp-2"))
    for each in made["hosts"]:
        each["warnings"] = ["A disk is damaged. " + "It is long. " * 60 + "Remove it."]
    text = fleet_pages(made, [(found, made["storages"][0])])
    warnings = text[text.index("\n\nOTHER WARNINGS\n- cmp-1, cmp-2: A disk is damaged. ") :]
    assert warnings.endswith("Remove it.")
    assert max(map(len, warnings.split("\n"))) <= 78


def test_fleet_without_storages_and_problems_shows_nothing() -> None:
    assert fleet_pages(fleet(), []) == ""


def test_files_that_a_restore_has_set_aside_are_listed_with_their_size() -> None:
    files = [{"name": f".{BASE}.stackops-{number}", "size_bytes": GIB, "allocated_bytes": GIB} for number in range(21)]
    page = storage_page(answer(set_aside=files, omitted={"set_aside": 2}))
    assert "SET ASIDE BY A RESTORE: 23 files. Remove one with rm when nobody needs it.\n" in page
    assert f"    1.0 GiB  .{BASE}.stackops-19\n  and 3 more" in page
    assert "SET ASIDE" not in storage_page(answer())
