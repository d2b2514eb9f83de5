# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Running guests: real QEMU processes that have a disk open for writing, and all that it is built on for reading."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.tests.support.processes import has_open

needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-system-x86_64") is None, reason="takes qemu-system-x86_64 (Debian: qemu-system-x86)"
)

# QEMU greets on its monitor when all files are open.
QEMU = ["qemu-system-x86_64", "-machine", "none", "-nodefaults", "-display", "none", "-S", "-qmp", "stdio"]


def by_name(disk: Path, _base: Path, _closing: ExitStack) -> list[str]:
    return [*QEMU, "-blockdev", json.dumps({"driver": "qcow2", "node-name": "disk", "file": file_node(disk)})]


def with_direct_io(disk: Path, _base: Path, _closing: ExitStack) -> list[str]:
    """As nova has it: `cache='none'`."""
    node = {"driver": "qcow2", "node-name": "disk", "file": file_node(disk), "cache": {"direct": True}}
    return [*QEMU, "-blockdev", json.dumps(node)]


def by_descriptor(disk: Path, base: Path, closing: ExitStack) -> list[str]:
    """As libvirt may have it: the files are opened by someone else, and QEMU knows them as `/dev/fdset/N`."""
    command = [*QEMU]
    for number, (path, flags) in enumerate([(disk, os.O_RDWR), (base, os.O_RDONLY)], 1):
        descriptor = os.open(path, flags)
        os.set_inheritable(descriptor, True)
        closing.callback(os.close, descriptor)
        command += ["-add-fd", f"fd={descriptor},set={number}"]
    below = {"driver": "raw", "node-name": "base", "read-only": True, "file": file_node("/dev/fdset/2")}
    top = {"driver": "qcow2", "node-name": "disk", "file": file_node("/dev/fdset/1"), "backing": "base"}
    return [*command, "-blockdev", json.dumps(below), "-blockdev", json.dumps(top)]


def by_nbd(disk: Path, _base: Path, closing: ExitStack) -> list[str]:
    folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))  # a socket's path must be short
    pid_file = str(folder / "pid")  # written when all files are open, unlike the socket
    command = ["qemu-nbd", "--persistent", "--socket", str(folder / "socket"), "--pid-file", pid_file]
    script = '(while [ ! -e "$0" ]; do sleep 0.01; done; echo listening) & exec "$@"'
    return ["sh", "-c", script, pid_file, *command, "--format", "qcow2", str(disk)]


def by_storage_daemon(disk: Path, _base: Path, _closing: ExitStack) -> list[str]:
    node = {"driver": "qcow2", "node-name": "disk", "file": file_node(disk)}
    monitor = ["--chardev", "stdio,id=monitor", "--monitor", "chardev=monitor"]
    return ["qemu-storage-daemon", "--blockdev", json.dumps(node), *monitor]


WAYS = (by_name, with_direct_io, by_descriptor, by_nbd, by_storage_daemon)


def file_node(path: Path | str) -> dict[str, str]:
    return {"driver": "file", "filename": str(path)}


def renamed_by_nfs(base: Path, number: int = 1) -> Path:
    """What becomes of a file that is deleted on NFS while a process has it open: where it is now."""
    return base.rename(base.with_name(f".nfs{base.stat().st_ino:016x}{number:08x}"))


@contextmanager
def running_guest(
    disk: Path,
    base: Path,
    how: Callable[[Path, Path, ExitStack], list[str]] = by_name,
    user: int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A guest with a disk open that is built on a base file, for as long as the block lasts, or until it is killed.

    :param user: the number of the user that it runs as, if not this one.
    """
    with ExitStack() as closing:
        command = how(disk, base, closing)
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() != b"", f"{command[0]} ended with {process.wait()}"
            assert has_open(process.pid, disk)
            assert has_open(process.pid, base)
            yield process
        finally:
            process.kill()
            process.wait()
