# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Scenes of a real compute host, rebuilt as real trees out of the captures in fixtures/nova-zed."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

CAPTURES = Path(__file__).parent / "fixtures" / "nova-zed"
CAPTURED_ROOT = "/var/lib/nova/instances"
NAMES = (
    "steady",
    "resize-pending",
    "soft-deleted",
    "shelved",
    "interrupted-download",
    "rescue",
    "before-removal",
    "after-removal",
)

# Base files are sparse; this much of each is real, so that a removal frees a number of bytes that is not 0.
ALLOCATED_AT_MOST = 64 * 1024


@dataclass(frozen=True)
class Entry:
    """One line of the captured listing."""

    path: str
    is_directory: bool
    size: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int


@dataclass(frozen=True)
class Scene:
    """A rebuilt scene, and what the APIs said while it was captured."""

    instances_path: Path
    libvirt_path: Path
    servers: list[dict[str, Any]]
    servers_deleted: list[dict[str, Any]]
    images: list[dict[str, Any]]
    captured_at: float


def build(name: str, root: Path) -> Scene:
    """Rebuild the scene `name` under `root`."""
    capture = CAPTURES / name
    instances_path = root / "instances"
    libvirt_path = root / "libvirt"

    entries = listing(name)
    for entry in entries:
        path = instances_path / entry.path
        if entry.is_directory:
            path.mkdir(parents=True)
        elif path.name.startswith("disk") and path.name != "disk.info":
            _disk(path, entry, capture, instances_path)
        elif path.name == "disk.info":
            _copy(capture / "instances" / entry.path, path, instances_path)
        elif entry.path == "compute_nodes":
            _copy(capture / entry.path, path, instances_path)
        else:
            _sparse(path, entry.size)

    # Directories last and from the inside out: whatever is made in one changes its time.
    for entry in reversed(entries):
        path = instances_path / entry.path
        path.chmod(entry.mode)
        if os.geteuid() == 0:
            os.chown(path, entry.uid, entry.gid)
        os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))

    libvirt_path.mkdir()
    for definition in (capture / "libvirt").glob("*.xml"):
        _copy(definition, libvirt_path / definition.name, instances_path)

    return Scene(
        instances_path=instances_path,
        libvirt_path=libvirt_path,
        servers=_servers(capture / "api" / "servers-detail.json"),
        servers_deleted=_servers(capture / "api" / "servers-detail-deleted-true.json"),
        images=json.loads((capture / "api" / "images.json").read_text())["images"],
        captured_at=_captured_at(capture / "captured-at.txt"),
    )


def listing(name: str) -> list[Entry]:
    """What lay in the instances directory, parents before their children."""
    entries = []
    for line in (CAPTURES / name / "find-stat.tsv").read_text().splitlines():
        path, kind, size, _blocks, _links, mode, _user, _group, uid, gid, mtime, _atime, _ctime = line.split("\t")
        seconds, fraction = mtime.split(".")
        entries.append(
            Entry(
                path=path,
                is_directory=kind == "d",
                size=int(size),
                mode=int(mode, 8),
                uid=int(uid),
                gid=int(gid),
                mtime_ns=int(seconds) * 10**9 + int(fraction[:9]),
            )
        )
    return sorted(entries, key=lambda entry: entry.path)


def _disk(path: Path, entry: Entry, capture: Path, instances_path: Path) -> None:
    info = json.loads((capture / "qemu-img-info" / f"{path.parent.name}.{path.name}.json").read_text())
    if info["format"] == "raw":
        _sparse(path, entry.size)
        return
    backing = info["backing-filename"].replace(CAPTURED_ROOT, str(instances_path))
    chain = ["-u", "-f", "qcow2", "-b", backing, "-F", info["backing-filename-format"]]
    subprocess.run(["qemu-img", "create", "-q", *chain, str(path), str(info["virtual-size"])], check=True)


def _sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)
        if size:
            os.posix_fallocate(file.fileno(), 0, min(size, ALLOCATED_AT_MOST))


def _copy(captured: Path, path: Path, instances_path: Path) -> None:
    path.write_text(captured.read_text().replace(CAPTURED_ROOT, str(instances_path)))


def _servers(answer: Path) -> list[dict[str, Any]]:
    return json.loads(answer.read_text())["servers"] if answer.exists() else []


def _captured_at(stamp: Path) -> float:
    whole, fraction = stamp.read_text().strip().removesuffix("Z").split(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction}")


def servers(scene: str, answer: str = "servers-detail.json") -> list[dict[str, Any]]:
    """What an API answered when asked for the servers of a scene."""
    return json.loads((CAPTURES / scene / "api" / answer).read_text())["servers"]
