# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What nova-compute, QEMU and an operator do to an instance tree: whole operations, with nova's locks, in its order.

After nova's `imagebackend.py` (`Image.cache`, `Qcow2.create_image`), `driver.py` (`migrate_disk_and_power_off`,
`finish_migration`, `rescue`, `delete_instance_files`, `cache_image`) and `imagecache.py` in `nova/virt/libvirt`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from oslo_concurrency import lockutils

from ansible_collections.stackops.nova.tests.support.constants import BASE, OTHER_BASE
from ansible_collections.stackops.nova.tests.support.host import DAY, Host, create_image
from ansible_collections.stackops.nova.tests.support.processes import guest, reader
from ansible_collections.stackops.nova.tools.cache_tree import overlay_bytes

ACTIVE, RESIZED, RESCUED, NEW = (f"{digit * 8}-0000-4000-8000-{digit * 12}" for digit in "abcd")
NAMES = {ACTIVE: "instance-0000000a", RESIZED: "instance-0000000b", RESCUED: "instance-0000000c"}
NEW_NAME = "instance-0000000d"

USED, USED_TOO, RESCUE, YOUNG = (digit * 40 for digit in "abcd")
CACHED, UNKNOWN_TO_CACHE = BASE, OTHER_BASE
DOWNLOAD = "2" * 40 + ".part"
SMALLER = f"{'3' * 40}_1048576"
TOP, BOTTOM = "4" * 40, "5" * 40
TEMPLATE, SWAP = "ephemeral_1_0706d66", "swap_1"
UNUSED = (CACHED, DOWNLOAD, SMALLER, TOP, BOTTOM, TEMPLATE, SWAP)

PROCESSES = "proc"  # the processes that a prune sees, as links
DISK_ELSEWHERE = "elsewhere.qcow2"


Process = TypeVar("Process")


def content_of(name: str) -> bytes:
    """What nova makes of the image of a base file."""
    return f"made by nova: {name}".encode().ljust(1 << 16, b"\0")


class Done(NamedTuple):
    """What an operation did to the cache.

    :param touched: the base files that it found and whose mtime it set.
    :param held: those that QEMU has open for it.
    :param opened: those that another process has open for it.
    :param made: those that it made.
    :param removed: those that it removed.
    :param freed: those that no disk needs any more.
    """

    touched: frozenset[str] = frozenset()
    held: frozenset[str] = frozenset()
    opened: frozenset[str] = frozenset()
    made: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    freed: frozenset[str] = frozenset()


class Nova:
    """One operation's hands.

    :param blocked: is called before it waits for a lock that somebody holds.
    :param running: ends the guests and the readers that it starts.
    """

    def __init__(self, host: Host, blocked: Callable[[], None], running: ExitStack) -> None:
        self.host = host
        self.done = Done()
        self._blocked = blocked
        self._running = running

    def path(self, directory: str) -> Path:
        return self.host.instances_path / directory

    def note(self, **names: str) -> None:
        """Note a file's name under a field of `Done`."""
        self.done = self.done._replace(**{field: getattr(self.done, field) | {name} for field, name in names.items()})

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        lock = lockutils.external_lock(name, lock_file_prefix="nova", lock_path=str(self.host.locks_path))
        if not lock.acquire(blocking=False):
            self._blocked()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def fetch(self, name: str) -> None:
        draft = self.host.cache_path / f"{name}.part"
        draft.write_bytes(content_of(name))
        draft.rename(self.host.cache_path / name)
        self.note(made=name)

    def make_disk(self, disk: Path, name: str) -> None:
        """Build a disk on a base file; if that was removed meanwhile, the build is done again."""
        base = self.host.cache_path / name
        while True:
            if not base.exists():
                with self.lock(name):
                    if not base.exists():
                        self.fetch(name)
            try:
                os.utime(base)
                self.note(touched=name)
                with self.lock(name):
                    create_image(disk, over=base, over_format="raw")
                return
            except (FileNotFoundError, subprocess.CalledProcessError):
                if base.exists():
                    raise

    def write_disk_info(self, directory: str, *disks: str) -> None:
        path = self.path(directory)
        (path / "disk.info").write_text(json.dumps({str(path / disk): "qcow2" for disk in disks}))

    def hold(self, process: AbstractContextManager[Process]) -> Process:
        return self._running.enter_context(process)


def spawn_on_cached_image(nova: Nova) -> None:
    nova.path(NEW).mkdir()
    nova.make_disk(nova.path(NEW) / "disk", CACHED)
    nova.make_disk(nova.path(NEW) / "disk.swap", SWAP)
    nova.write_disk_info(NEW, "disk", "disk.swap")
    nova.host.domain_xml(NEW, NEW_NAME, None)


def spawn_new_image(nova: Nova) -> None:
    nova.path(NEW).mkdir()
    nova.make_disk(nova.path(NEW) / "disk", UNKNOWN_TO_CACHE)
    nova.write_disk_info(NEW, "disk")
    nova.host.domain_xml(NEW, NEW_NAME, None)


def resize(nova: Nova) -> None:
    old = nova.path(f"{ACTIVE}_resize")
    nova.path(ACTIVE).rename(old)
    nova.path(ACTIVE).mkdir()
    for name in ("disk", "disk.info"):
        shutil.copy(old / name, nova.path(ACTIVE) / name)


def revert_resize(nova: Nova) -> None:
    shutil.rmtree(nova.path(RESIZED))
    nova.path(f"{RESIZED}_resize").rename(nova.path(RESIZED))


def rescue(nova: Nova) -> None:
    nova.make_disk(nova.path(ACTIVE) / "disk.rescue", CACHED)


def end_rescue(nova: Nova) -> None:
    (nova.path(RESCUED) / "disk.rescue").unlink()
    nova.note(freed=RESCUE)


def migrate_live(nova: Nova) -> None:
    """Disks are made on the target as for a spawn (`pre_live_migration`), and the domain comes at the end."""
    nova.path(NEW).mkdir()
    for disk, base in (("disk", CACHED), ("disk.eph0", TEMPLATE)):
        nova.make_disk(nova.path(NEW) / disk, base)
    nova.write_disk_info(NEW, "disk", "disk.eph0")
    nova.host.domain_xml(NEW, NEW_NAME, None)


def migrate_cold(nova: Nova) -> None:
    """Disks are copied from the source: without a lock, and a base file that is there is not touched.

    So only a look at the disks shows what they need. A disk that comes between the last look and a removal is the one
    thing that a prune cannot know of, as nova's own pass cannot.
    """
    nova.path(NEW).mkdir()
    for disk, base in (("disk", CACHED), ("disk.eph0", TEMPLATE)):
        (nova.path(NEW) / disk).write_bytes(overlay_bytes(1 << 20, str(nova.host.cache_path / base), "raw"))
        if not (nova.host.cache_path / base).exists():
            with nova.lock(base):
                nova.fetch(base)
    nova.write_disk_info(NEW, "disk", "disk.eph0")
    nova.host.domain_xml(NEW, NEW_NAME, None)


def delete(nova: Nova) -> None:
    (nova.host.libvirt_path / f"{NAMES[ACTIVE]}.xml").unlink()
    deleted = nova.path(f"{ACTIVE}_del")
    nova.path(ACTIVE).rename(deleted)
    shutil.rmtree(deleted)


def cache_image(nova: Nova) -> None:
    try:
        os.utime(nova.host.cache_path / CACHED)
        nova.note(touched=CACHED)
    except FileNotFoundError:
        nova.fetch(CACHED)


def novas_own_pass(nova: Nova) -> None:
    """nova's pass touches the files in use, and removes old ones: here one file, and its lock file."""
    for name in (USED, USED_TOO, RESCUE):
        os.utime(nova.host.cache_path / name)
    with nova.lock(CACHED):
        base = nova.host.cache_path / CACHED
        try:
            if nova.host.now - base.stat().st_mtime > DAY:
                base.unlink()
                nova.note(removed=CACHED)
        except FileNotFoundError:
            return
    (nova.host.locks_path / f"nova-{CACHED}").unlink(missing_ok=True)


def start_guest_elsewhere(nova: Nova) -> None:
    """No disk in the tree shows which base file it needs; QEMU's lock does."""
    if (nova.host.cache_path / CACHED).exists():
        nova.hold(guest(nova.host.root / DISK_ELSEWHERE))
        nova.note(held=CACHED)


def open_download(nova: Nova) -> None:
    """Somebody copies an interrupted download aside: no QEMU, and so without QEMU's locks."""
    if (nova.host.cache_path / DOWNLOAD).exists():
        process = nova.hold(reader(nova.host.cache_path / DOWNLOAD))
        (nova.host.root / PROCESSES / str(process.pid)).symlink_to(f"/proc/{process.pid}")
        nova.note(opened=DOWNLOAD)


OPERATIONS = {
    operation.__name__: operation
    for operation in (
        spawn_on_cached_image,
        spawn_new_image,
        resize,
        revert_resize,
        rescue,
        end_rescue,
        migrate_live,
        migrate_cold,
        delete,
        cache_image,
        novas_own_pass,
        start_guest_elsewhere,
        open_download,
    )
}
