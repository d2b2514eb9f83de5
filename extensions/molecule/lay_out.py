# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lays out the instances of the compute host that it is started on. Needs cache_tree.py, and qemu-img.

Image ids are plain words; the base file of `ubuntu` is named by the SHA-1 of that word.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from cache_tree import GIB, CacheTree, fingerprint

MINUTE, DAY = 60, 86400
STORAGE = Path("/var/lib/nova/instances")
DOMAINS = Path("/etc/libvirt/qemu")
KERNEL = "0a8f7c0e-53f4-4b0e-8c63-2f6b5d0c7a01"
RAMDISK = "1b9e6d1f-64a5-4c1f-9d74-3a7c6e1d8b02"
OLD_KERNEL = "2cad5e20-75b6-4d20-ae85-4b8d7f2e9c03"


class ComputeHost(CacheTree):
    """Disks come from qemu-img, and files belong to whom nova and libvirt give them."""

    def __init__(self) -> None:
        super().__init__(STORAGE.parent)
        self.libvirt_path = DOMAINS

    def image(self, image_id: str, *, age: float = 30 * DAY) -> str:
        return self.cached(fingerprint(image_id), age=age)

    def cached(self, name: str, *, age: float = 30 * DAY) -> str:
        self.base(name, age=age, content=name.encode())
        self.lock_file(name)
        return name

    def disk(self, path: Path | str, backing: str, backing_format: str = "raw") -> None:
        """An overlay over a file of the cache, which need not be there yet."""
        path = self.instances_path / path
        path.parent.mkdir(exist_ok=True)
        command = ["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", backing_format]
        subprocess.run([*command, "-b", str(self.cache_path / backing), str(path), str(GIB)], check=True)

    def give_to_nova(self) -> None:
        for path in [self.instances_path, *self.instances_path.rglob("*")]:
            # Once a guest has started on a base file it is libvirt's, also when the guest is gone.
            owner = "libvirt-qemu" if path.parent == self.cache_path and not path.suffix else "nova"
            shutil.chown(path, owner, owner) if not path.is_symlink() else None


def empty() -> None:
    for folder in (STORAGE, DOMAINS):
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def first_of_two() -> None:
    """The storage of compute-1 and compute-2, and what compute-1 knows of it."""
    empty()
    host = ComputeHost()
    host.disk("here/disk", host.image("ubuntu"))
    host.disk("there/disk", host.image("debian"))
    host.disk("nobody/disk", host.image("alpine"))
    for image_id in ("being-built-there", "held-there", "locked-there", "unused"):
        host.image(image_id)
    host.image("young", age=5 * MINUTE)
    host.cached(f"{fingerprint('unused')}_{GIB}")
    host.cached("swap_512")
    (host.cache_path / f"{fingerprint('unused')}.info").write_text("{}")
    host.compute_nodes({"compute-1": time.time(), "compute-2": time.time()})
    host.domain_xml("here", "instance-00000001", "ubuntu")
    host.give_to_nova()


def second_of_two() -> None:
    """What only compute-2 knows: its instances, one of which has no disk yet, and a disk outside of nova's storage."""
    host = ComputeHost()
    host.domain_xml("there", "instance-00000002", "debian")
    host.domain_xml("being-built", "instance-00000003", "being-built-there")
    host.disk("/srv/rescued", fingerprint("held-there"))


def alone() -> None:
    """Kernels, a resized swap disk, two ephemeral disks, a chain of three files, interrupted downloads."""
    empty()
    host = ComputeHost()
    whole, resized = host.image("centos"), f"{fingerprint('centos')}_{GIB}"
    host.disk(f"_base/{resized}", whole)
    os.utime(host.cache_path / resized, (time.time() - 30 * DAY,) * 2)
    host.disk("one/disk", resized, "qcow2")
    host.disk("one/disk.swap", host.cached("swap_32"))
    host.disk("one/disk.eph0", host.cached("ephemeral_1_0706d66"))
    host.disk("one/disk.eph1", host.cached("ephemeral_2_0706d66"))
    host.domain_xml("one", "instance-00000004", "centos", swap=64, ephemeral=3)
    for name in ("swap_64", "swap_256", "ephemeral_5_0706d66", KERNEL, RAMDISK, OLD_KERNEL):
        host.cached(name)
    host.image("unused")
    for suffix in (".part", ".converted"):
        host.base(fingerprint("interrupted") + suffix, age=30 * DAY)
    host.lock_file(fingerprint("interrupted"))
    host.base("README", age=30 * DAY)
    (host.cache_path / fingerprint("a-link")).symlink_to(whole)
    host.give_to_nova()


def unknown() -> None:
    """A disk that says it is a qcow2 image and is none."""
    empty()
    host = ComputeHost()
    host.image("unused")
    host.disk("rubbish/disk", host.image("ubuntu"))
    (host.instances_path / "rubbish/disk").write_bytes(b"QFI\xfb" + b"rubbish" * 10_000)
    host.domain_xml("rubbish", "instance-00000005", "ubuntu")
    host.give_to_nova()


{"compute-1": first_of_two, "compute-2": second_of_two, "compute-3": alone, "compute-4": unknown}[
    socket.gethostname()
]()
