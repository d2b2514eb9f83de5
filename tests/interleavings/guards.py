# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What protects a file while a prune removes others: each guard, how it is taken out, and what goes wrong then."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import NamedTuple

from ansible_collections.stackops.nova.plugins.module_utils.image_cache import (
    apply,
    audit,
    locks,
    open_files,
)
from ansible_collections.stackops.nova.tests.interleavings import moments, operations
from ansible_collections.stackops.nova.tests.interleavings.operations import CACHED, Nova
from ansible_collections.stackops.nova.tests.interleavings.trial import Step, after
from ansible_collections.stackops.nova.tests.support.editing import edited


class Guard(NamedTuple):
    """A protection.

    :param mode: of the prune in which it alone protects: on storage that is not shared, nobody opens a file while the
        prune has a lease on it.
    :param steps: what happens beside the prune.
    :param take_out: does that in the process of a prune.
    :param needs_leases: whether the file system must report that another process has a file open.
    """

    mode: str
    steps: list[Step]
    take_out: Callable[[], None]
    needs_leases: bool = False


def _without_lock() -> None:
    apply.acquire = lambda directory, name, _seconds: locks.Lock(directory, name, _locked_lock_file(directory, name))


def _locked_lock_file(directory: int, name: str) -> int:
    """Show the moment at which the lock would have been taken, and give it back."""
    lock = locks.acquire(directory, name, 1.0)
    locks.release(lock, remove_file=False)
    return os.open(os.devnull, os.O_RDONLY)


def _without_second_look() -> None:
    apply._look_again = lambda _place: (apply._NO_USE, {})


def _without_new_directories() -> None:
    apply._came_into_use = lambda file, _use, built_on_it, _plan: (
        apply.KeptReason.OVERLAY if built_on_it.get(file.name) else None
    )


def _without_qemu_locks() -> None:
    apply.qemu_holds = lambda _descriptor: False


def _without_lease() -> None:
    apply.is_open_elsewhere = lambda _descriptor: False


def put_another_in_place(nova: Nova) -> None:
    """Somebody restores a base file with its time, as `rsync --times` and `cp --preserve` do."""
    base = nova.host.cache_path / CACHED
    if base.exists():
        draft = nova.host.root / "restored"
        draft.write_bytes(b"restored".ljust(1 << 16, b"\0"))
        shutil.copystat(base, draft)
        draft.replace(base)
        nova.note(made=CACHED, removed=CACHED)


def move_cache(nova: Nova) -> None:
    """An operator moves the cache to a larger disk, and leaves a link."""
    cache, elsewhere = nova.host.cache_path, nova.host.root / "larger"
    if not cache.is_symlink():
        names = [path.name for path in cache.iterdir()]
        shutil.copytree(cache, elsewhere)
        cache.rename(nova.host.root / "former")
        cache.symlink_to(elsewhere)
        for name in names:
            nova.note(made=name)


def remove_lock_file(nova: Nova) -> None:
    """nova's own pass, of another host too, removes the lock file after it dealt with a base file."""
    (nova.host.locks_path / f"nova-{CACHED}").unlink(missing_ok=True)


GUARDS = {
    "nova's lock": Guard(
        "shared storage", [(moments.file_is_about_to_be_removed, operations.spawn_on_cached_image)], _without_lock
    ),
    "the lock file is the one that others find": Guard(
        "shared storage",
        [
            (after("open", moments.LOCKED.target, 2), remove_lock_file),
            (moments.file_is_about_to_be_removed, operations.spawn_on_cached_image),
        ],
        edited(locks.acquire, " and _is_current(directory, name, descriptor)", ""),
    ),
    "a second look at the disks": Guard(
        "plain", [(moments.last_lock_is_taken, operations.migrate_cold)], _without_second_look
    ),
    "directories that are newer than the list of instances": Guard(
        "libvirt, orphans ignored",
        [(moments.all_domains_are_read, operations.migrate_cold)],
        edited(audit.inspect_and_plan, "instance_directory_names(settings)", "None"),
    ),
    "directories that are newer than the plan": Guard(
        "libvirt, orphans ignored", [(moments.last_lock_is_taken, operations.migrate_cold)], _without_new_directories
    ),
    "the time of last use": Guard(
        "plain",
        [(moments.last_lock_is_taken, operations.cache_image)],
        edited(apply._remove, "status.st_mtime_ns != file.mtime_ns", "False"),
    ),
    "QEMU's locks": Guard(
        "shared storage", [(moments.last_lock_is_taken, operations.start_guest_elsewhere)], _without_qemu_locks
    ),
    "leases": Guard(
        "plain", [(moments.last_lock_is_taken, operations.open_download)], _without_lease, needs_leases=True
    ),
    "open files of processes": Guard(
        "shared storage",
        [(moments.disk_is_read, operations.open_download)],
        edited(open_files.find_open_files, "found |= opened", ""),
    ),
    "the inode": Guard(
        "plain",
        [(moments.last_lock_is_taken, put_another_in_place)],
        edited(apply._remove, ".st_ino != file.inode", " is None"),
    ),
    "the inode of the name, after all else": Guard(
        "plain",
        [(moments.QEMU_is_asked_again, put_another_in_place)],
        edited(apply._remove, "os.stat(file.name, dir_fd=context.cache, follow_symlinks=False).st_ino", "file.inode"),
    ),
    "the cache directory's descriptor": Guard(
        "shared storage",
        [(moments.file_is_about_to_be_removed, move_cache)],
        edited(
            apply._remove,
            "os.unlink(file.name, dir_fd=context.cache)",
            "os.unlink(os.path.join(context.settings.cache_path, file.name))",
        ),
    ),
}
