# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A compute host for a test, and what its operator does there."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.argspec import settings_from_params
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.audit import (
    AuditResult,
    audit,
    inspect_and_plan,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.disk_references import DiskUse
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.module import FetchResult
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.plan import Plan
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.precache import precache
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.prune import PruneResult, prune
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.restore import restore
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.settings import Settings
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.snapshot import Snapshot, take_snapshot
from ansible_collections.stackops.nova.tests.support.params import (
    PRECACHE_DEFAULTS,
    RESTORE_DEFAULTS,
    params,
    run_command,
)
from ansible_collections.stackops.nova.tests.support.tokens import without_token
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree, overlay_bytes

HOUR = 3600
DAY = 24 * HOUR
OLD = 3 * DAY  # older than any limit
NAME = "vm"

DOMAIN = """\
<domain type='kvm'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <devices>{disks}</devices>
</domain>
"""
DISK = "<disk type='file' device='disk'><driver name='qemu' type='{image_format}'/><source file='{path}'/></disk>"


class Host(CacheTree):
    """A tree whose instances are known by their disks alone, unless an option says otherwise."""

    def options(self, **given: Any) -> dict[str, Any]:
        ours = {
            "instances_path": str(self.instances_path),
            "libvirt_config_path": str(self.libvirt_path),
            "libvirt": False,
            "host": NAME,
            "details": "files",
        }
        return params(**{**ours, **given})

    def audit(self, **given: Any) -> AuditResult:
        return audit(self.options(**given), self.now, run_command)

    def plan(self, **given: Any) -> tuple[Plan, Settings]:
        inspection = inspect_and_plan(self.options(**given), self.now, run_command)
        return inspection.plan, inspection.settings

    def prune(self, *, check_mode: bool = False, **given: Any) -> PruneResult:
        return prune(self.options(**given), self.now, run_command, check_mode)

    def restore(self, *, check_mode: bool = False, **given: Any) -> FetchResult:
        own = {name: given.pop(name, default) for name, default in RESTORE_DEFAULTS.items()}
        options = {**self.options(**given), **own}
        return without_token(_token_of(own), lambda: restore(options, self.now, run_command, check_mode))

    def precache(self, *, check_mode: bool = False, **given: Any) -> FetchResult:
        own = {name: given.pop(name, default) for name, default in {**PRECACHE_DEFAULTS, "images": []}.items()}
        options = {**self.options(**given), **own}
        return without_token(_token_of(own), lambda: precache(options, self.now, check_mode))

    def cached(self) -> list[str]:
        return sorted(os.listdir(self.cache_path))

    def locks(self) -> list[str]:
        return sorted(os.listdir(self.locks_path))

    def disk(self, directory: str, content: bytes, name: str = "disk") -> Path:
        """An instance directory with a disk of these bytes, and no word about its format."""
        path = self.instances_path / directory
        path.mkdir(exist_ok=True)
        (path / name).write_bytes(content)
        return path / name

    def overlay(self, directory: str, backing_file: bytes | str | Path, backing_format: str | None = "raw") -> Path:
        """A disk over whatever name, there or not."""
        return self.disk(directory, overlay_bytes(1 << 20, os.fsencode(backing_file), backing_format))


def _token_of(options: Mapping[str, Any]) -> str | None:
    return (options["glance"] or {}).get("token")


def qemu_img_create(path: Path, *arguments: object, size: str = "1M") -> Path:
    """An image as the real `qemu-img create` makes it."""
    subprocess.run(["qemu-img", "create", "-q", *map(str, arguments), str(path), size], check=True)
    return path


def create_image(
    path: Path, *, over: Path | str | None = None, over_format: str = "qcow2", unchecked: bool = False
) -> Path:
    """A qcow2 image as `qemu-img` makes it; unchecked over a file that need not be there under that name."""
    backing = [] if over is None else ["-b", str(over), "-F", over_format]
    return qemu_img_create(path, *(["-u"] if unchecked else []), "-f", "qcow2", *backing)


def qcow2_of(directory: Path, content: bytes, *options: str) -> bytes:
    """A qcow2 image with this content, as `qemu-img` makes it of a file in a directory."""
    raw, image = directory / "raw", directory / "qcow2"
    raw.write_bytes(content)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, str(raw), str(image)], check=True)
    return image.read_bytes()


def format_of(path: Path) -> str:
    """The format of an image by its first bytes."""
    with path.open("rb") as file:
        return "qcow2" if file.read(4) == b"QFI\xfb" else "raw"


def opens(disk: Path) -> bool:
    """Whether QEMU opens a disk with all that it is built on."""
    command = ["qemu-img", "info", "-U", "--backing-chain", str(disk)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def domain(host: Host, uuid: str, disks: Mapping[Path | str, str], name: str = "instance-0000000a") -> None:
    """The persistent XML of an instance whose disks have these formats."""
    text = "".join(DISK.format(path=path, image_format=image_format) for path, image_format in disks.items())
    (host.libvirt_path / f"{name}.xml").write_text(DOMAIN.format(name=name, uuid=uuid, disks=text))


@contextmanager
def attribute(path: Path, flag: str) -> Iterator[None]:
    """A file or directory with an attribute that `chattr` sets."""
    subprocess.run(["chattr", f"+{flag}", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["chattr", f"-{flag}", str(path)], check=True)


def can_set_attributes(directory: Path) -> bool:
    """Whether this user may set attributes of files there: the file system has to have them, and root may lack
    CAP_LINUX_IMMUTABLE."""
    probe = directory / "probe"
    probe.touch()
    try:
        with attribute(probe, "i"):
            return True
    except subprocess.CalledProcessError:
        return False
    finally:
        probe.unlink()


def snapshot_of(host: Host, *external_disks: tuple[str, str, str], **options: Any) -> Snapshot:
    """What a pass finds on a host, and on disks that a source of instances names."""
    return take_snapshot(settings_from_params(host.options(**options)), external_disks, run_command)


def states(result: AuditResult | PruneResult) -> dict[str, str]:
    """What was said of each file: its state and every reason."""
    return {file["name"]: f"{file['state']}: {', '.join(file['reasons'])}" for file in result.facts["files"]}


def users(result: AuditResult | PruneResult) -> dict[str, list[str]]:
    return {file["name"]: file["used_by"] for file in result.facts["files"]}


def orphans(result: AuditResult | PruneResult) -> list[str]:
    """The directories that count as orphans, by name."""
    return sorted(orphan["directory"] for orphan in result.facts["orphans"])


def warnings(result: AuditResult | PruneResult) -> list[str]:
    """The warnings, without the one that each user gets who may not look into every process."""
    return [warning for warning in result.warnings if not warning.startswith("The open files of")]


def picture(root: Path) -> dict[str, tuple[object, ...]]:
    """All that is under `root`, with everything that a write would change."""
    return {str(path): _details(path) for path in [root, *root.rglob("*")]}


def _details(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    content = path.read_bytes() if stat.S_ISREG(status.st_mode) and status.st_size < 1 << 20 else None
    return (
        status.st_ino,
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        content,
    )


def nothing_new() -> DiskUse:
    """No disk has come to need anything since the plan was made."""
    return DiskUse([], {}, {}, [], [], [])
