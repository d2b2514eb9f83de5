# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A sample cache, with one of everything. Usage: python -m tools.sample_cache DIRECTORY

It prints the module options with which to audit and prune it.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

from .cache_tree import GIB, CacheTree, fingerprint, overlay_bytes

HOST = "compute-1"

UBUNTU = "0b0a3c9f-6f6e-4f0e-8b1a-5d2c7f1e9a01"
DEBIAN = "1c7d2e40-93b5-4c56-9d0f-aa3b60c4e802"
ROCKY = "2a94f6d1-0c38-4b7d-8e25-c1f09d7b3603"
FEDORA = "3e5b8a72-d4c6-4f19-b803-7f6e21a05d04"
ALPINE = "4f10c7e5-b2a9-4d83-9c64-08d5e3f7ba05"
SNAPSHOT = "5d83e1b6-47f0-4a2c-8ed9-b6c2904f1e06"
LOST = "6c2f9d04-e8b1-4573-a0c6-f19e5b8d2707"
KERNEL = "7b61a8c3-5f2d-4e90-b7a4-2d0c6e94f308"
DELETED = "8a05d7f2-1e6b-4c38-95f1-e4b7a3c80909"
BROUGHT = "9b7e24c5-6d18-4f3a-b0e7-52c8f1a6d40a"

GLANCE_IMAGES = [UBUNTU, DEBIAN, ROCKY, FEDORA, ALPINE]

MINUTE, HOUR, DAY = 60, 3600, 86400


def lay_out(root: Path | str, *, now: float | None = None) -> CacheTree:
    """Make the instance directories, cache and domain XML of a compute host; a few MiB on disk."""
    tree = CacheTree(root, now=time.time() if now is None else now)

    def base(name: str, *, size: int, kib: int, age: float) -> str:
        tree.base(name, size=size, age=age, content=random.Random(name).randbytes(kib << 10))
        tree.lock_file(name)
        return name

    def instance(
        number: int, image_id: str | None, disks: dict[str, str | Path | None], swap: int = 0, ephemeral: int = 0
    ) -> Path:
        uuid = f"{number:08x}-aaaa-4bbb-8ccc-0000000000{number:02x}"
        tree.domain_xml(uuid, f"instance-{number:08x}", image_id, swap, ephemeral)
        return tree.instance(uuid, disks)

    # In use: by two instances, with swap and ephemeral disks, and by an image's name alone.
    ubuntu = base(fingerprint(UBUNTU), size=GIB // 2, kib=640, age=2 * HOUR)
    base(f"{fingerprint(UBUNTU)}_{2 * GIB}", size=2 * GIB, kib=256, age=9 * DAY)
    debian = base(fingerprint(DEBIAN), size=GIB // 2, kib=384, age=30 * DAY)
    swap = base("swap_512", size=GIB // 2, kib=4, age=30 * DAY)
    ephemeral = base("ephemeral_1_40d1d2c", size=GIB, kib=132, age=30 * DAY)
    instance(1, UBUNTU, {"disk": ubuntu})
    instance(2, UBUNTU, {"disk": ubuntu})
    instance(3, DEBIAN, {"disk": debian, "disk.swap": swap, "disk.eph0": ephemeral}, swap=512, ephemeral=1)

    # In use, though only the disk says so: unshelved from a snapshot that is gone, on a chain two deep.
    whole = base(fingerprint(DELETED), size=GIB, kib=512, age=60 * DAY)
    resized = f"{fingerprint(DELETED)}_{4 * GIB}"
    overlay = overlay_bytes(4 * GIB, str(tree.cache_path / whole), "raw")
    tree.base(resized, size=len(overlay), age=60 * DAY, content=overlay)
    unshelved = instance(4, SNAPSHOT, {"disk": None})
    (unshelved / "disk").write_bytes(overlay_bytes(4 * GIB, str(tree.cache_path / resized), "qcow2"))

    # What needs a person: a disk without its backing file, and disks that nobody knows.
    instance(5, LOST, {"disk": fingerprint(LOST)})
    orphaned = base(fingerprint(ROCKY), size=GIB, kib=320, age=15 * DAY)
    tree.instance("00000006-aaaa-4bbb-8ccc-000000000006", {"disk": orphaned})

    # Unused: old enough.
    base(fingerprint(FEDORA), size=GIB, kib=1536, age=41 * DAY)
    base(f"{fingerprint(FEDORA)}_{2 * GIB}", size=2 * GIB, kib=768, age=3 * DAY + 4 * HOUR)
    base(fingerprint("an image that Glance has no more"), size=GIB, kib=896, age=200 * DAY)
    base("swap_1024", size=GIB, kib=4, age=12 * DAY)
    base("ephemeral_2_40d1d2c", size=2 * GIB, kib=132, age=8 * DAY + 6 * HOUR)
    base(f"{fingerprint(ALPINE)}.part", size=64 << 20, kib=448, age=2 * DAY)

    # Unused: too young.
    base(fingerprint(ALPINE), size=GIB // 4, kib=192, age=5 * HOUR + 20 * MINUTE)
    base(f"{fingerprint(ALPINE)}_{2 * GIB}", size=2 * GIB, kib=64, age=25 * MINUTE)

    # Nothing to do with it: a kernel, while remove_unused_kernels is off, and saved facts.
    tree.base(KERNEL, size=8 << 20, age=300 * DAY)
    (tree.cache_path / f"{fingerprint(FEDORA)}.info").write_text("{}")

    tree.compute_nodes({HOST: tree.now - 10 * MINUTE})
    return tree


def lay_out_rack(root: Path | str, *hosts: str) -> CacheTree:
    """Make a storage that several compute hosts share, each with a libvirt of its own in a directory of its name."""
    tree = CacheTree(root)
    for number, host in enumerate(hosts, 16):
        uuid = f"{number:08x}-aaaa-4bbb-8ccc-0000000000{number:02x}"
        name = fingerprint(GLANCE_IMAGES[number % 2])
        tree.base(name, size=GIB, age=4 * DAY, content=random.Random(name).randbytes(512 << 10))
        tree.instance(uuid, {"disk": name})
        own = CacheTree(Path(root) / host)
        own.instances_path = tree.instances_path
        own.domain_xml(uuid, f"instance-{number:08x}", GLANCE_IMAGES[number % 2])
    tree.base(fingerprint(ROCKY), size=GIB, age=21 * DAY, content=random.Random(ROCKY).randbytes(2 << 20))
    tree.base("swap_2048", size=2 * GIB, age=9 * DAY, content=random.Random("swap").randbytes(4 << 10))
    tree.compute_nodes(dict.fromkeys(hosts, tree.now - 10 * MINUTE))
    return tree


def lay_out_brought(path: Path | str) -> None:
    """Make a raw image that an operator brought to a host; what Glance calls it is ``debian-13``."""
    image = Path(path)
    image.parent.mkdir(parents=True)
    image.write_bytes(random.Random(BROUGHT).randbytes(1536 << 10))
    os.truncate(image, 64 << 20)


def options(tree: CacheTree) -> dict[str, str]:
    """The modules' options for the sample."""
    return {
        "instances_path": str(tree.instances_path),
        "libvirt_config_path": str(tree.libvirt_path),
        "host": HOST,
        "glance_images": ",".join(GLANCE_IMAGES),
    }


if __name__ == "__main__":
    for name, value in options(lay_out(sys.argv[1])).items():
        print(f"{name}={value}")
