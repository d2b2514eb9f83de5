# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A process that does to an instance tree what nova-compute does, with the same locks and in the same order.

What it imitates, from nova's Zed release and its present one, and from what was captured on a real host
(`tests/support/fixtures/nova-zed/README.md`):

* a disk: `Image.cache` and `Qcow2.create_image` in `nova/virt/libvirt/imagebackend.py`. The base file is looked for
  without its lock, fetched under it, its mtime set without it, and the overlay made under it again. nova that finds
  the base file gone before it has built on it fails that build, which is done again;
* a fetch: `fetch_to_raw` in `nova/virt/images.py`. To `.part`, renamed; what is not raw is converted to `.converted`;
* pre-caching: `LibvirtDriver.cache_image` in `nova/virt/libvirt/driver.py`, which fetches without the lock;
* a resize on the same host: `migrate_disk_and_power_off`, `_cleanup_resize` and `finish_revert_migration` there. The
  directory is renamed to `_resize`, its disks but for swap are copied back; then `_resize` is removed or renamed back;
* deletion: `delete_instance_files` there. The directory is renamed to `_del`, and then removed;
* soft deletion: `soft_delete` in `nova/virt/libvirt/driver.py`. Nothing touches the files until the instance is
  restored, or reclaimed as any other is deleted;
* a rescue: a disk over another image beside the instance's own;
* a nova-compute that is killed while it fetches, and the `qemu-img convert` that lives on without it;
* its database, as a folder with a name for each instance, from before the instance has files until they are gone;
* an evacuation while the host is down: another host has the instance then, and its directory here is an orphan's;
* beside nova: a guest whose disk lies outside of the tree, so that QEMU's lock alone shows what it needs.

What it does not: other image types than qcow2, volumes, snapshots, other hosts, unshelving, nova's own removals.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from oslo_concurrency import lockutils

from ansible_collections.stackops.nova.tests.support.host import create_image
from ansible_collections.stackops.nova.tests.support.processes import guest
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree, fingerprint, overlay_bytes

STAMP_BYTES = 16
BASE_BYTES = 256 * 1024
MOST_INSTANCES = 2

Fetch = Callable[[Path], None]


class Loss(Exception):
    """What must never happen."""


class BuildFailed(Exception):
    """The base file was removed before anything was built on it."""


class Download(NamedTuple):
    """A base file, and what distinguishes this download of it from any other."""

    base: Path
    stamp: bytes

    def is_there(self) -> bool:
        try:
            return self.base.read_bytes()[:STAMP_BYTES] == self.stamp
        except FileNotFoundError:
            return False


class Report(NamedTuple):
    """What a process did.

    :param operations: how often it did what.
    :param unlinked: the cache's files that it removed itself, by name.
    :param disks: what each of its disks is built on.
    :param loss: what it lost, None where it lost nothing.
    """

    operations: Counter[str]
    unlinked: Counter[str]
    disks: dict[Path, Download]
    loss: str | None


class NovaCompute:
    """One imitation of nova-compute.

    :param elsewhere: where it puts what lies outside of the tree.
    :param database: a folder for the names of the instances that nova knows.
    :param leaves_orphans: whether instances are evacuated, whose directories need no base file any more.
    :param inspection_seconds: for how long it inspects a base file at most, before and after it sets its mtime.
    :param seed: with its number, what it chooses to do.
    :param number: what keeps its instances apart from those of others.
    """

    def __init__(
        self,
        tree: CacheTree,
        elsewhere: Path,
        database: Path,
        *,
        leaves_orphans: bool,
        inspection_seconds: float,
        seed: int,
        number: int,
    ) -> None:
        self._tree = tree
        self._elsewhere = elsewhere
        self._database = database
        self._leaves_orphans = leaves_orphans
        self._inspection_seconds = inspection_seconds
        self._number = number
        self._random = random.Random(f"{seed}/{number}")
        self._operations: Counter[str] = Counter()
        self._unlinked: Counter[str] = Counter()
        self._disks: dict[Path, Download] = {}
        self._instances: list[Path] = []
        self._soft_deleted: list[Path] = []
        self._made = 0

    def run(self, is_over: Callable[[], bool]) -> Report:
        """Do one thing after the other until it is over, or something is lost."""
        weights = {
            self.build: 30,
            self.delete: 18,
            self.soft_delete: 8,
            self.resize: 10,
            self.rescue: 8,
            self.start: 8,
            self.start_elsewhere: 6,
            self.precache: 6,
            self.die_while_downloading: 3,
            self.die_while_converting: 3,
            self.evacuate: 6 if self._leaves_orphans else 0,
        }
        loss = None
        try:
            while not is_over():
                [operation] = self._random.choices(list(weights), list(weights.values()))
                try:
                    operation()
                    self._operations[operation.__name__] += 1
                except BuildFailed:
                    self._operations["failed builds"] += 1
                self._look_at_all_disks()
        except Loss as exc:
            loss = str(exc)
        return Report(self._operations, self._unlinked, self._disks, loss)

    def build(self) -> None:
        if len(self._instances) >= MOST_INSTANCES:
            self.delete()
        instance = self._new_directory()
        self._instances.append(instance)
        (self._database / instance.name).touch()
        try:
            instance.mkdir()
            self._make_disk(instance / "disk", *self._choose_image())
            if self._random.random() < 0.3:
                self._make_disk(instance / "disk.swap", "swap_1", self._make_swap)
        except BuildFailed:
            self._instances.remove(instance)
            self._delete_files(instance)
            raise

    def delete(self) -> None:
        if self._instances:
            instance = self._random.choice(self._instances)
            self._instances.remove(instance)
            self._delete_files(instance)

    def evacuate(self) -> None:
        if self._instances:
            instance = self._instances.pop()
            for disk in self._disks_in(instance):
                del self._disks[disk]
            (self._database / instance.name).unlink()

    def soft_delete(self) -> None:
        if self._soft_deleted:
            instance = self._soft_deleted.pop()
            if self._random.random() < 0.5:
                self._instances.append(instance)
                return
            self._delete_files(instance)
        if self._instances:
            self._soft_deleted.append(self._instances.pop())

    def resize(self) -> None:
        if not self._instances:
            return
        instance = self._random.choice(self._instances)
        old = Path(f"{instance}_resize")
        self._rename(instance, old)
        instance.mkdir()
        for disk in self._disks_in(old):
            if disk.name != "disk.swap":
                subprocess.run(["cp", "-r", disk, instance / disk.name], check=True)
                self._disks[instance / disk.name] = self._disks[disk]
        shutil.copy(old / "disk.info", instance / "disk.info")
        self._pause(0.02)
        self._look_at_all_disks()
        if self._random.random() < 0.5:
            self._remove_tree(old)
        else:
            self._remove_tree(instance)
            self._rename(old, instance)

    def rescue(self) -> None:
        if not self._instances:
            return
        disk = self._random.choice(self._instances) / "disk.rescue"
        self._make_disk(disk, *self._choose_image())
        self._pause(0.02)
        self._look_at(disk)
        del self._disks[disk]
        disk.unlink()

    def start(self) -> None:
        if not self._disks:
            return
        disk = self._random.choice(list(self._disks))
        try:
            with guest(disk):
                self._pause(0.03)
        except AssertionError as exc:
            raise Loss(f"{disk} cannot be opened") from exc

    def start_elsewhere(self) -> None:
        disk = self._elsewhere / self._new_directory().name
        name, fetch = self._choose_image()
        base = self._get_base(name, fetch)
        with ExitStack() as running:
            with self._lock(name):
                download = self._create_overlay(disk, base)
                running.enter_context(guest(disk))
            for _look in range(4):
                self._pause(0.05)
                if not download.is_there():
                    raise Loss(f"{name} went while QEMU had it open")
        disk.unlink()

    def precache(self) -> None:
        name, fetch = self._own_image()
        base = self._tree.cache_path / name
        # Without the lock, what has been written and is not open has no protection but its age.
        with self._unless_gone():
            if base.exists():
                os.utime(base)
            else:
                fetch(base)

    def die_while_downloading(self) -> None:
        part = self._tree.cache_path / f"{fingerprint(f'dead-{self._number}')}.part"

        def download() -> int:
            stream = part.open("wb")
            stream.write(b"half of it")
            stream.flush()
            return stream.fileno()

        self._die_at(part.stem, download)

    def die_while_converting(self) -> None:
        part = self._tree.cache_path / f"{fingerprint(f'dead-{self._number}')}.part"
        image = self._image_with_data()

        def convert() -> int:
            process = self._convert(shutil.copy(image, part), "-r", "4M")
            # Before it has both files open, nobody can know that it will need them.
            files = {str(part), str(part.with_suffix(".converted"))}
            while process.poll() is None and not files.issubset(_links(Path(f"/proc/{process.pid}/fd"))):
                time.sleep(0.001)
            return process.pid

        qemu_img = self._die_at(part.stem, convert)
        # Nobody holds nova's lock any more, and qemu-img goes on.
        files = Path(f"/proc/{qemu_img}/fd")
        while descriptors := _links(files):
            lost = [file for file in descriptors if file.startswith(f"{part.parent}/") and file.endswith(" (deleted)")]
            if lost:
                raise Loss(f"{lost} went while qemu-img wrote")
            time.sleep(0.01)

    def _die_at(self, name: str, fetch: Callable[[], int]) -> int:
        """Begin to fetch under the lock, in a process that is killed then; return what it wrote."""
        reader, writer = os.pipe()
        nova = os.fork()
        if nova == 0:
            with self._lock(name):
                os.write(writer, b"%d\n" % fetch())
                time.sleep(600)
        os.close(writer)
        with open(reader, encoding="ascii") as stream:
            written = int(stream.readline())
        self._pause(0.03)
        os.kill(nova, signal.SIGKILL)
        os.waitpid(nova, 0)
        return written

    def _look_at_all_disks(self) -> None:
        for disk in self._disks:
            self._look_at(disk)

    def _look_at(self, disk: Path) -> None:
        if not self._disks[disk].is_there():
            raise Loss(f"{disk} has lost {self._disks[disk].base.name}")

    def _make_disk(self, disk: Path, name: str, fetch: Fetch) -> None:
        disk_info = disk.with_name("disk.info")
        formats = json.loads(disk_info.read_text()) if disk_info.exists() else {}
        # After a change of images_type, nova leaves the former format there under a disk that became an overlay.
        recorded = "raw" if self._random.random() < 0.2 else "qcow2"
        disk_info.write_text(json.dumps({**formats, str(disk): recorded}))
        base = self._get_base(name, fetch)
        with self._lock(name):
            self._disks[disk] = self._create_overlay(disk, base)

    def _get_base(self, name: str, fetch: Fetch) -> Path:
        base = self._tree.cache_path / name
        if not base.exists():
            with self._lock(name):
                if not base.exists():
                    try:
                        fetch(base)
                    except FileNotFoundError as exc:
                        raise Loss(f"{exc.filename} went while it was fetched under nova's lock") from exc
        with self._unless_gone():
            self._pause(self._inspection_seconds)
            os.utime(base)
            self._pause(self._inspection_seconds)
        return base

    def _create_overlay(self, disk: Path, base: Path) -> Download:
        with self._unless_gone():
            download = Download(base, base.read_bytes()[:STAMP_BYTES])
            create_image(disk, over=base, over_format="raw")
        if not download.is_there():
            raise Loss(f"{base.name} went while {disk} was built on it under nova's lock")
        return download

    @contextmanager
    def _unless_gone(self) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, subprocess.CalledProcessError) as exc:
            raise BuildFailed from exc

    def _fetch_raw(self, base: Path) -> None:
        part = Path(f"{base}.part")
        with part.open("wb") as stream:
            stream.write(self._new_stamp())
            stream.flush()
            self._pause(0.02)
            stream.truncate(BASE_BYTES)
            if os.fstat(stream.fileno()).st_nlink == 0:
                raise Loss(f"{part.name} went while it was written")
        part.rename(base)

    def _fetch_qcow2(self, base: Path) -> None:
        part = Path(f"{base}.part")
        part.write_bytes(overlay_bytes(BASE_BYTES, None, None))
        if self._convert(part).wait() != 0:
            raise FileNotFoundError(0, "", str(part))
        part.unlink()
        self._unlinked[part.name] += 1
        converted = part.with_suffix(".converted")
        with converted.open("r+b") as stream:
            stream.write(self._new_stamp())
        converted.rename(base)

    def _make_swap(self, base: Path) -> None:
        base.write_bytes(self._new_stamp().ljust(BASE_BYTES, b"\0"))

    def _convert(self, part: Path, *options: str) -> subprocess.Popen[bytes]:
        command = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", *options, part, part.with_suffix(".converted")]
        return subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def _image_with_data(self) -> Path:
        """An image that it takes `qemu-img` some time to convert."""
        path = self._elsewhere / f"image-{self._number}"
        if not path.exists():
            create_image(path)
            subprocess.run(["qemu-io", "-c", "write -P 1 0 1M", path], check=True, stdout=subprocess.DEVNULL)
        return path

    def _choose_image(self) -> tuple[str, Fetch]:
        number = self._random.randrange(9)
        if number == 8:
            return self._own_image()
        return fingerprint(f"image-{number}"), self._fetch_qcow2 if number % 3 == 0 else self._fetch_raw

    def _own_image(self) -> tuple[str, Fetch]:
        """An image that only this process fetches: pre-caching would get into the way of others."""
        return fingerprint(f"own-{self._number}"), self._fetch_raw if self._number % 2 else self._fetch_qcow2

    def _new_stamp(self) -> bytes:
        return self._random.randbytes(STAMP_BYTES)

    def _new_directory(self) -> Path:
        self._made += 1
        return self._tree.instances_path / f"{self._number:08x}-0000-4000-8000-{self._made:012x}"

    def _disks_in(self, instance: Path) -> list[Path]:
        return [disk for disk in self._disks if disk.parent == instance]

    def _rename(self, old: Path, new: Path) -> None:
        old.rename(new)
        for disk in self._disks_in(old):
            self._disks[new / disk.name] = self._disks.pop(disk)

    def _delete_files(self, instance: Path) -> None:
        deleted = Path(f"{instance}_del")
        self._rename(instance, deleted)
        self._pause(0.01)
        self._remove_tree(deleted)
        (self._database / instance.name).unlink()

    def _remove_tree(self, directory: Path) -> None:
        self._look_at_all_disks()
        for disk in self._disks_in(directory):
            del self._disks[disk]
        shutil.rmtree(directory)

    def _lock(self, name: str) -> AbstractContextManager[object]:
        return lockutils.lock(name, lock_file_prefix="nova-", external=True, lock_path=str(self._tree.locks_path))

    def _pause(self, longest_seconds: float) -> None:
        time.sleep(self._random.uniform(0, longest_seconds))


def _links(directory: Path) -> list[str]:
    """What the descriptors of a process are open on; nothing once it has ended."""
    links = []
    try:
        for link in directory.iterdir():
            links.append(os.readlink(link))
    except OSError:
        return []
    return links
