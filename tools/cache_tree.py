# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nova instance trees, made to order: for a sample cache, for tests, for benchmarks."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

QCOW2_MAGIC = b"QFI\xfb"
BACKING_FORMAT_EXTENSION = 0xE2792ACA
CLUSTER_BITS = 16
CLUSTER_SIZE = 1 << CLUSTER_BITS
L1_ENTRY_COVERS = CLUSTER_SIZE * (CLUSTER_SIZE // 8)

GIB = 1 << 30

DOMAIN = """\
<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <metadata>
    <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">
      <nova:name>{name}</nova:name>
      <nova:flavor name="sample">
        <nova:swap>{swap}</nova:swap>
        <nova:ephemeral>{ephemeral}</nova:ephemeral>
      </nova:flavor>
      {root}
    </nova:instance>
  </metadata>
  <os>
    <type arch='x86_64'>hvm</type>
  </os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none'/>
      <source file={disk}/>
      <target dev='vda' bus='virtio'/>
    </disk>
  </devices>
</domain>
"""


def fingerprint(image_id: str) -> str:
    """The name nova gives to the base file of an image."""
    return hashlib.sha1(image_id.encode(), usedforsecurity=False).hexdigest()


def overlay_bytes(
    virtual_size: int, backing_file: bytes | str | None, backing_format: str | None, version: int = 3
) -> bytes:
    """An empty qcow2 image: header, refcounts and L1 table, no data."""
    backing = os.fsencode(backing_file) if backing_file is not None else b""
    l1_entries = -(-virtual_size // L1_ENTRY_COVERS)
    l1_clusters = max(1, -(-l1_entries * 8 // CLUSTER_SIZE))
    refcount_table, refcount_block, l1_table = (CLUSTER_SIZE, 2 * CLUSTER_SIZE, 3 * CLUSTER_SIZE)
    header_length = 72 if version == 2 else 104

    extensions = b""
    if backing and backing_format:
        name = backing_format.encode()
        extensions += struct.pack(">II", BACKING_FORMAT_EXTENSION, len(name)) + name + bytes(-len(name) % 8)
    extensions += bytes(8)

    header = struct.pack(
        ">4sIQIIQIIQQIIQ",
        QCOW2_MAGIC,
        version,
        header_length + len(extensions) if backing else 0,
        len(backing),
        CLUSTER_BITS,
        virtual_size,
        0,
        l1_entries,
        l1_table,
        refcount_table,
        1,
        0,
        0,
    )
    if version == 3:
        header += struct.pack(">QQQII", 0, 0, 0, 4, header_length)

    image = bytearray(l1_table + 8 * l1_entries)
    head = header + extensions + backing
    image[: len(head)] = head
    struct.pack_into(">Q", image, refcount_table, refcount_block)
    in_use = 3 + l1_clusters
    struct.pack_into(f">{in_use}H", image, refcount_block, *[1] * in_use)
    return bytes(image)


class CacheTree:
    """`instances/` and `libvirt/` of a compute host under `root`; each method makes one thing and returns its path."""

    def __init__(self, root: Path | str, *, now: float | None = None) -> None:
        self.root = Path(root)
        self.now = time.time() if now is None else now
        self.instances_path = self.root / "instances"
        self.cache_path = self.instances_path / "_base"
        self.locks_path = self.instances_path / "locks"
        self.libvirt_path = self.root / "libvirt"
        for path in (self.cache_path, self.locks_path, self.libvirt_path):
            path.mkdir(parents=True, exist_ok=True)

    def base(self, name: str, *, size: int = 1 << 20, age: float = 0, content: bytes = b"") -> Path:
        """A raw file in the cache, sparse behind its content, last used `age` seconds ago."""
        path = self.cache_path / name
        path.write_bytes(content)
        os.truncate(path, max(size, len(content)))
        os.utime(path, (self.now - age, self.now - age))
        return path

    def instance(
        self, directory: str, disks: Mapping[str, str | Path | None], *, disk_info: bool = True, virtual_size: int = GIB
    ) -> Path:
        """An instance directory with one overlay for each disk: over a base file's name, over a path, over nothing."""
        path = self.instances_path / directory
        path.mkdir(exist_ok=True)
        for disk, backing in disks.items():
            backing_path = None if backing is None else str(self.cache_path / backing)
            _write_sparse(path / disk, overlay_bytes(virtual_size, backing_path, "raw"))
        if disk_info:
            # While a resize waits for its confirmation, nova leaves the paths of the old disks as they were.
            written_for = self.instances_path / directory.removesuffix("_resize")
            (path / "disk.info").write_text(json.dumps({str(written_for / disk): "qcow2" for disk in disks}))
        return path

    def domain_xml(self, uuid: str, name: str, image_id: str | None, swap: int = 0, ephemeral: int = 0) -> Path:
        """A persistent domain definition; without an image the instance boots from a volume."""
        path = self.libvirt_path / f"{name}.xml"
        path.write_text(
            DOMAIN.format(
                uuid=uuid,
                name=escape(name),
                swap=swap,
                ephemeral=ephemeral,
                root="" if image_id is None else f'<nova:root type="image" uuid={quoteattr(image_id)}/>',
                disk=quoteattr(str(self.instances_path / uuid / "disk")),
            )
        )
        return path

    def compute_nodes(self, users: Mapping[str, float]) -> Path:
        """The hosts that use this storage, and when each was last seen."""
        path = self.instances_path / "compute_nodes"
        path.write_text(json.dumps(dict(users)))
        return path

    def lock_file(self, name: str) -> Path:
        """The lock file that nova leaves behind for a cache file."""
        path = self.locks_path / f"nova-{name}"
        path.touch(0o644)
        return path


def _write_sparse(path: Path, data: bytes, block: int = 4096) -> None:
    with path.open("wb") as file:
        for start in range(0, len(data), block):
            piece = data[start : start + block]
            if piece.strip(b"\0"):
                file.seek(start)
                file.write(piece)
        file.truncate(len(data))
