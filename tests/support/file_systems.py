# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""File systems of a test's own: made on a loop device or in memory, seen by the test alone, gone with it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.tests.support.processes import mount, with_own_mounts

_MAKERS = {
    "ext4": ["mkfs.ext4", "-q"],
    "xfs without reflinks": ["mkfs.xfs", "-q", "-m", "reflink=0"],
    "xfs": ["mkfs.xfs", "-q", "-m", "reflink=1"],
    "btrfs": ["mkfs.btrfs", "-q"],
}
FILE_SYSTEMS = (*_MAKERS, "tmpfs", "overlayfs")
WITH_REFLINKS = ("xfs", "btrfs")
_BYTES = 512 << 20


def on_file_system(kind: str, root: Path, body: Callable[[Path], Any], size: int = _BYTES) -> Any:
    """Run `body` with the path of a new file system that other processes do not see.

    :param root: an empty directory for what it takes.
    :param size: how many bytes it has, if it lies on a loop device or in memory.
    :return: what `body` returned, from a process of its own.
    """
    maker = _MAKERS.get(kind)
    if os.geteuid() != 0:
        pytest.skip("mounting takes the rights of root")
    if maker is not None and (shutil.which(maker[0]) is None or not os.path.exists("/dev/loop-control")):
        pytest.skip(f"takes {maker[0]} and loop devices")

    def mount_and_run() -> Any:
        path = root / "mounted"
        path.mkdir()
        if maker is not None:
            image = root / "image"
            image.touch()
            os.truncate(image, size)
            subprocess.run([*maker, str(image)], check=True)
            mount("-o", "loop", image, path)
        elif kind == "tmpfs":
            mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", path)
        else:
            # Neither layer may be an overlayfs itself, as /tmp is in some containers.
            layers = root / "layers"
            layers.mkdir()
            mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", layers)
            for name in ("lower", "upper", "work"):
                (layers / name).mkdir()
            options = f"lowerdir={layers}/lower,upperdir={layers}/upper,workdir={layers}/work"
            mount("-t", "overlay", "-o", options, "overlay", path)
        return body(path)

    return with_own_mounts(mount_and_run)


def without_nameless_files() -> None:
    """From now on have file systems act like NFS and FUSE, which have none. It cannot be undone: for a child."""
    open_file = os.open

    def open_named(path: str, flags: int, *arguments: int, **options: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "no nameless files")
        return open_file(path, flags, *arguments, **options)

    os.open = open_named
