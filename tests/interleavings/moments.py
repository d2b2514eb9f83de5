# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Moments of a prune that mean the same on every file system: each knows from the calls so far whether it has come."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.stackops.nova.tests.interleavings.operations import ACTIVE, CACHED, NAMES
from ansible_collections.stackops.nova.tests.interleavings.trial import Call, Moment, after

CACHE = "instances/_base"
FILE = f"{CACHE}/{CACHED}"
LOCKED = Call("setlk", f"instances/locks/nova-{CACHED}")


def once_locked(name: str, target: str) -> Moment:
    """Just after a call about a path came, with the lock of the file to remove held."""

    def is_now(calls: Sequence[Call]) -> bool:
        return calls[-1] == (name, target) and LOCKED in calls

    return is_now


def all_domains_are_read(calls: Sequence[Call]) -> bool:
    opened = {call.target for call in calls if call.name == "open"}
    return opened >= {f"libvirt/{name}.xml" for name in NAMES.values()}


def cache_is_being_listed(calls: Sequence[Call]) -> bool:
    return calls[-1] == ("pread", FILE)


def last_lock_is_taken(calls: Sequence[Call]) -> bool:
    """The file to remove was used last of all, so its lock is the last one of the batch."""
    return calls[-1] == ("stat", LOCKED.target) and LOCKED in calls


def first_file_is_removed(calls: Sequence[Call]) -> bool:
    return calls[-1].name == "unlink" and calls[-1].target.startswith(f"{CACHE}/")


disk_is_read = after("open", f"instances/{ACTIVE}/disk")
all_disks_are_read = after("open", "instances/compute_nodes")
disk_is_read_again = once_locked("open", f"instances/{ACTIVE}/disk")
file_is_opened_again = once_locked("open", FILE)
QEMU_is_asked_again = once_locked("ofd_getlk", FILE)
lease_was_taken = once_locked("setlease", FILE)
file_is_about_to_be_removed = once_locked("stat", FILE)
file_is_removed = after("unlink", FILE)

MOMENTS: dict[str, Moment] = {
    "all domains are read": all_domains_are_read,
    "the cache is being listed": cache_is_being_listed,
    "a disk is read": disk_is_read,
    "all disks are read": all_disks_are_read,
    "the last lock is taken": last_lock_is_taken,
    "a disk is read again": disk_is_read_again,
    "the first file is removed": first_file_is_removed,
    "the file is opened again": file_is_opened_again,
    "QEMU is asked again": QEMU_is_asked_again,
    "the file is about to be removed": file_is_about_to_be_removed,
    "the file is removed": file_is_removed,
}
