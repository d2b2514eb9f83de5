# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A mixed host on disk: real images, and what QEMU can open of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.stackops.nova.tests.mixed_hosts.generator import (
    ELSEWHERE,
    LEFTOVERS,
    OUTSIDE,
    TRUNCATED,
    CacheFile,
    Directory,
    Disk,
    MixedHost,
)
from ansible_collections.stackops.nova.tests.support.host import (
    NAME,
    OLD,
    Host,
    attribute,
    can_set_attributes,
    create_image,
    domain,
    format_of,
    opens,
)
from ansible_collections.stackops.nova.tests.support.processes import guest

MIB = 1 << 20


class BuiltHost(NamedTuple):
    """A mixed host on disk.

    :param options: of the modules, as its operator gives them.
    :param nova_path: how nova and the disks name `instances_path`.
    """

    host: Host
    options: dict[str, Any]
    nova_path: Path

    @contextmanager
    def in_container(self) -> Iterator[None]:
        """While this lasts, `instances_path` is where nova and the disks have it."""
        if self.nova_path == self.host.instances_path:
            yield
            return
        self.nova_path.symlink_to(self.host.instances_path)
        try:
            yield
        finally:
            self.nova_path.unlink()

    def opened(self, images: Iterable[str]) -> set[str]:
        """The images, by their paths below `instances_path`, whose whole chains QEMU opens."""
        with self.in_container():
            return {image for image in images if opens(self.host.instances_path / image)}


@contextmanager
def built(mixed: MixedHost, root: Path) -> Iterator[BuiltHost]:
    """Lay a mixed host out below an empty folder."""
    host = Host(root)
    nova_path = host.instances_path if mixed.nova_path == "host" else root / "container" / "instances"
    nova_path.parent.mkdir(exist_ok=True)
    elsewhere = root / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "template").write_bytes(bytes(MIB))
    create_image(elsewhere / "image", over=elsewhere / "template", over_format="raw")
    with ExitStack() as until_the_end:
        for file in mixed.cache:
            _add_cache_file(host, file)
        for directory in mixed.directories:
            _add_directory(host, directory, nova_path, elsewhere)
        for directory in mixed.directories:
            if directory.is_replaced:
                until_the_end.enter_context(_running_on_a_former_file(host, directory, nova_path))
        if mixed.unknown:
            _add_unknown(host, mixed, elsewhere)
        for file in mixed.cache:
            if file.attribute:
                until_the_end.enter_context(attribute(host.cache_path / file.name, file.attribute))
        yield BuiltHost(host, _options(host, mixed, nova_path), nova_path)


def as_far_as_possible(mixed: MixedHost, root: Path) -> MixedHost:
    """Leave out the attributes if this user, or the file system of a folder, has none."""
    if can_set_attributes(root):
        return mixed
    return mixed._replace(cache=tuple(file._replace(attribute="") for file in mixed.cache))


def _options(host: Host, mixed: MixedHost, nova_path: Path) -> dict[str, Any]:
    options: dict[str, Any] = {
        "orphans": mixed.orphans,
        "keep_images": list(mixed.keep_images),
        "keep_files": list(mixed.keep_files),
        "glance_images": list(mixed.glance_images) or None,
        "max_removals": mixed.removes_at_most,
        "max_used_space": None if mixed.leaves_cached is None else mixed.leaves_cached * MIB,
        "libvirt": mixed.source == "libvirt",
    }
    if mixed.source == "instances":
        known = [directory.uuid for directory in mixed.directories if not directory.is_orphan]
        options["instances"] = [{"uuid": uuid, "host": NAME} for uuid in known]
    if mixed.nova_path == "config":
        config = host.root / "nova.conf"
        config.write_text(f"[DEFAULT]\ninstances_path = {nova_path}\n")
        options["config_file"] = [str(config)]
    return options


def _add_cache_file(host: Host, file: CacheFile) -> None:
    path = host.cache_path / file.name
    if file.over:
        create_image(path, over=host.cache_path / file.over, over_format=format_of(host.cache_path / file.over))
    else:
        path.write_bytes(os.urandom(4096).ljust(MIB, b"\1"))
    age = OLD if file.is_old else 0
    os.utime(path, (host.now - age, host.now - age))


def _add_directory(host: Host, directory: Directory, nova_path: Path, elsewhere: Path) -> None:
    path = host.instances_path / directory.name
    path.mkdir()
    for disk in directory.disks:
        _add_disk(host, path, disk, directory, nova_path, elsewhere)
    recorded = {f"{nova_path}/{directory.uuid}/{disk.name}": disk.recorded for disk in directory.disks if disk.recorded}
    (path / "disk.info").write_text(json.dumps(recorded))
    for name in directory.leftovers:
        (path / name).write_bytes(LEFTOVERS[name])
    _grow_old(host, path)
    if directory.domain:
        domain(
            host,
            directory.uuid,
            {nova_path / directory.name / disk.name: "qcow2" for disk in directory.disks},
            directory.domain,
        )


def _add_disk(host: Host, path: Path, disk: Disk, directory: Directory, nova_path: Path, elsewhere: Path) -> None:
    if disk.over == ELSEWHERE:
        over = named = elsewhere / "template"
    elif any(other.name == disk.over for other in directory.disks):
        over, named = path / disk.over, nova_path / directory.name / disk.over
    else:
        over, named = host.cache_path / disk.over, nova_path / "_base" / disk.over
    create_image(path / disk.name, over=named, over_format=format_of(over), unchecked=True)


def _add_unknown(host: Host, mixed: MixedHost, elsewhere: Path) -> None:
    path = host.instances_path / mixed.directories[0].name
    if mixed.unknown == TRUNCATED:
        (path / "disk.eph9").write_bytes(b"QFI\xfb\0\0\0\3")
    elif mixed.unknown == OUTSIDE:
        create_image(path / "disk.eph9", over=elsewhere / "image", over_format="qcow2")
    _grow_old(host, path)


@contextmanager
def _running_on_a_former_file(host: Host, directory: Directory, nova_path: Path) -> Iterator[None]:
    """A guest whose base file is deleted, and made again with other bytes."""
    base = host.cache_path / directory.disks[0].over
    content, status = base.read_bytes(), base.stat()
    with ExitStack() as running:
        with BuiltHost(host, {}, nova_path).in_container():
            running.enter_context(guest(host.instances_path / directory.name / directory.disks[0].name))
        base.unlink()
        base.write_bytes(content)
        os.utime(base, ns=(status.st_atime_ns, status.st_mtime_ns))
        yield


def _grow_old(host: Host, directory: Path) -> None:
    for path in directory.iterdir():
        os.utime(path, (host.now - OLD, host.now - OLD))
