# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random hosts that mix the states of public reports, as plain values: what is in the cache, and what uses it.

Written from the states that nova's operators reported, and not from the code: `checking.py` says what must follow.
"""

from __future__ import annotations

import random
import uuid
from typing import NamedTuple

from ansible_collections.stackops.nova.tools.cache_tree import fingerprint


class CacheFile(NamedTuple):
    """A file of the cache.

    :param image_id: the image that it comes from; empty for a template.
    :param over: the file of the cache that it is an overlay on; empty for a raw file.
    :param attribute: `i` for immutable, `a` for append-only, empty for neither.
    """

    name: str
    image_id: str
    is_old: bool
    over: str
    attribute: str


class Disk(NamedTuple):
    """An overlay in an instance directory.

    :param over: a file of the cache, another disk of the directory, or :data:`ELSEWHERE`.
    :param recorded: the format that `disk.info` gives; empty where it says nothing of this disk.
    """

    name: str
    over: str
    recorded: str


class Directory(NamedTuple):
    """An instance directory.

    :param domain: the name of the instance's domain, whose XML names its disks; empty for none.
    :param is_orphan: no source names the instance.
    :param leftovers: other files in it: what nova left there when it was interrupted.
    :param is_replaced: a guest runs on its only disk, and its base file was made anew meanwhile.
    """

    name: str
    uuid: str
    domain: str
    is_orphan: bool
    disks: tuple[Disk, ...]
    leftovers: tuple[str, ...]
    is_replaced: bool


class MixedHost(NamedTuple):
    """A host, and what its operator asks for.

    :param cache: its files; each is built on one that stands before it, or on none.
    :param source: where the instances are known from: `directories`, `instances` or `libvirt`.
    :param nova_path: by what disks name `instances_path`: `host`, or in a container `config` (nova.conf says it) or
        `domain` (libvirt's XML does).
    :param keep_images: entries of that option, and `kept_image_ids` what they mean.
    :param glance_images: Glance's records; empty for an operator who gives none.
    :param removes_at_most: `max_removals`.
    :param leaves_cached: `max_used_space`, as a number of files of one MiB.
    :param unknown: a state that must refuse the prune; empty for none.
    """

    cache: tuple[CacheFile, ...]
    directories: tuple[Directory, ...]
    source: str
    nova_path: str
    orphans: str
    keep_images: tuple[object, ...]
    kept_image_ids: frozenset[str]
    glance_images: tuple[object, ...]
    keep_files: tuple[str, ...]
    removes_at_most: int | None
    leaves_cached: int | None
    unknown: str


ELSEWHERE = "a raw template in another folder"
TRUNCATED = "a disk whose header ends inside itself"
OUTSIDE = "a qcow2 backing file in another folder"
LEFTOVERS = {
    "disk.info.tmp": b"",
    "disk.fallocate_test": b"\0",
    "disk.eph1.fallocate_test": b"\0",
    "disk.swap": b"",
    "disk.eph0.part": b"QFI\xfb",
}
_DISKS = ("disk", "disk.local", "disk.eph0", "disk.swap", "disk.rescue")


def random_host(seed: int) -> MixedHost:
    """Return the host of a seed, the same on every machine."""
    choose = random.Random(seed)
    cache = _cache(choose)
    source = choose.choice(["directories", "instances", "libvirt"])
    nova_path = choose.choice(["host", "host", "config", *(["domain"] if source == "libvirt" else [])])
    directories = tuple(_directory(choose, source, cache) for _number in range(choose.randint(1, 5)))
    directories = (_directory(choose, source, cache)._replace(is_orphan=False), *directories)
    if source == "libvirt":
        directories = tuple(_with_domain(choose, number, directory) for number, directory in enumerate(directories))
    images = [file.image_id for file in cache if file.image_id]
    kept_image = choose.choice(images)
    record = {"id": kept_image, "name": "an image"}
    keep_images, glance_images = choose.choice(
        [((), ())] * 3 + [((kept_image,), ()), ((kept_image.upper(),), ()), ((record,), ()), (("an image",), (record,))]
    )
    return MixedHost(
        cache,
        directories,
        source,
        nova_path,
        "protect" if source == "directories" else choose.choice(["protect", "ignore"]),
        keep_images,
        frozenset({kept_image} if keep_images else ()),
        glance_images,
        (choose.choice(cache).name,) if choose.random() < 0.2 else (),
        choose.randint(0, 3) if choose.random() < 0.1 else None,
        choose.randint(0, 6) if choose.random() < 0.15 else None,
        choose.choice([TRUNCATED, OUTSIDE]) if choose.random() < 0.06 else "",
    )


def _cache(choose: random.Random) -> tuple[CacheFile, ...]:
    files: list[CacheFile] = []
    for number in range(choose.randint(4, 9)):
        image_id = str(uuid.UUID(int=choose.getrandbits(128), version=4))
        suffix = choose.choice(["", "", "", "_10", "_sm"])
        name = fingerprint(image_id) + suffix
        if number and choose.random() < 0.25:
            image_id, name = "", choose.choice([f"swap_{512 << number}", f"ephemeral_{number}_0706d66"])
        is_overlay = files and choose.random() < 0.35
        files.append(
            CacheFile(
                name,
                image_id,
                choose.random() < 0.75,
                choose.choice(files).name if is_overlay else "",
                choose.choice("ia") if choose.random() < 0.1 else "",
            )
        )
    return tuple(files)


def _directory(choose: random.Random, source: str, cache: tuple[CacheFile, ...]) -> Directory:
    instance = str(uuid.UUID(int=choose.getrandbits(128), version=4))
    names = choose.sample(_DISKS, choose.randint(1, 3))
    disks = [
        Disk(
            name,
            ELSEWHERE if choose.random() < 0.06 else choose.choice(cache).name,
            choose.choice(["qcow2", "qcow2", "raw", ""]),
        )
        for name in names
    ]
    if choose.random() < 0.15:
        disks.append(Disk("disk.snap1", names[0], choose.choice(["qcow2", ""])))
    leftovers = [name for name in LEFTOVERS if choose.random() < 0.1 and name not in names]
    is_orphan = source != "directories" and choose.random() < 0.3
    # The guest that runs on it is qemu-io, which opens one disk; an immutable file cannot be deleted under it.
    may_be_replaced = len(disks) == 1 and any(file.name == disks[0].over and not file.attribute for file in cache)
    is_replaced = not is_orphan and may_be_replaced and choose.random() < 0.15
    return Directory(instance, instance, "", is_orphan, tuple(disks), tuple(leftovers), is_replaced)


def _with_domain(choose: random.Random, number: int, directory: Directory) -> Directory:
    """Let libvirt know an instance that is no orphan, whatever nova called its directory."""
    if directory.is_orphan:
        return directory
    name = f"instance-{number:08x}"
    directory_name = choose.choice(
        [directory.uuid, directory.uuid, f"{directory.uuid}_del", f"{directory.uuid}_resize", name]
    )
    return directory._replace(name=directory_name, domain=name)
