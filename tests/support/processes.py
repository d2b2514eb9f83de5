# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real processes that run beside a pass, and a pass in a process of its own."""

from __future__ import annotations

import codecs
import ctypes
import importlib
import multiprocessing
import os
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PROMPT = b"qemu-io> "
NOBODY = 65534

_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes the rights of root")


def _has_fuse() -> bool:
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return os.geteuid() == 0


needs_fuse = pytest.mark.skipif(not _has_fuse(), reason="takes /dev/fuse and the rights of root")

# Takes the name of a lock and a folder, and says so when it has the lock; ends when its input ends.
LOCKER = """
import sys
from oslo_concurrency import lockutils

for line in sys.stdin:
    verb, name, folder = line.rstrip("\\n").split(" ", 2)
    if verb == "take":
        lock = lockutils.external_lock(name, lock_file_prefix="nova", lock_path=folder)
        lock.acquire()
    else:
        lock.release()
    print("done", flush=True)
"""


@contextmanager
def guest(disk: Path) -> Iterator[None]:
    """QEMU with a disk open, as it has for a running guest."""
    command = ["qemu-io", "-r", str(disk)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        # The prompt comes once the disk is open.
        try:
            assert process.stdout.read(len(PROMPT)) == PROMPT
            yield
        finally:
            process.kill()


@contextmanager
def reader(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has a file open, and is not QEMU."""
    with path.open("rb") as file, subprocess.Popen(["sleep", "600"], stdin=file) as process:
        file.close()
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def shell(script: str, *arguments: object, prefix: tuple[str, ...] = ()) -> Iterator[None]:
    """A shell that opens files, says so, and keeps them open.

    :param arguments: what the script has as `$1` and so on.
    :param prefix: a command that runs it, as another user or in namespaces of its own.
    """
    command = [*prefix, "bash", "-epc", f"{script}\necho ready\nexec sleep 600", "bash", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


class NovaCompute:
    """A process that takes external locks as nova-compute does, with oslo.concurrency."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def begin_to_take(self, name: str, locks: Path) -> None:
        """Ask for a lock; come back as soon as the process has the lock file open."""
        self._say(f"take {name} {locks}")
        wait_until(lambda: has_open(self._process.pid, locks / f"nova-{name}"))

    def wait_until_taken(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "done\n"

    def take(self, name: str, locks: Path) -> None:
        self._say(f"take {name} {locks}")
        self.wait_until_taken()

    def release(self) -> None:
        self._say("release - -")
        self.wait_until_taken()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


@contextmanager
def nova_compute() -> Iterator[NovaCompute]:
    command = [sys.executable, "-c", LOCKER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield NovaCompute(process)
        finally:
            process.kill()


def has_open(process: int, path: Path) -> bool:
    descriptors = Path(f"/proc/{process}/fd")
    return any(descriptor.exists() and descriptor.samefile(path) for descriptor in descriptors.iterdir())


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def start_child(body: Callable[[], Any]) -> Callable[[], Any]:
    """Run `body` in a process of its own, beside this one; what comes back waits for its result."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def run() -> None:
        try:
            sender.send((body(), None))
        except BaseException as exc:
            sender.send((None, exc))

    child = context.Process(target=run)
    child.start()
    sender.close()

    def finish() -> Any:
        result, error = receiver.recv()
        child.join()
        if error is not None:
            raise error
        return result

    return finish


def in_a_child(body: Callable[[], Any]) -> Any:
    """Run `body` in a process of its own, so that what it does to itself ends with it."""
    return start_child(body)()


def as_nobody(body: Callable[[], Any]) -> Any:
    """Run `body` as a user who may do nothing special."""
    return as_user(NOBODY, body)


def as_user(user: int, body: Callable[[], Any]) -> Any:
    """Run `body` as a user, alone in a group of the same number."""

    def drop_and_run() -> Any:
        # Python's own library may be out of the user's reach.
        codecs.lookup("ascii")
        for module in ("domain_xml", "hashing", "images", "info_files", "nova_conf", "qemu_img", "verification"):
            importlib.import_module(f"ansible_collections.stackops.nova.plugins.module_utils.image_cache.{module}")
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        return body()

    return in_a_child(drop_and_run)


def whenever(event: str, act: Callable[..., object]) -> None:
    """From now on do something each time before this process raises an audit event of Python, such as `os.link`.

    So what another process may do between two system calls happens just there. It cannot be undone: for a child.

    :param act: takes the arguments of the event.
    """

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        if name == event:
            act(*arguments)

    sys.addaudithook(hook)


def with_own_mounts(body: Callable[[], Any]) -> Any:
    """Run `body` where it may mount what it likes and nobody else sees it."""

    def unshare_and_run() -> Any:
        _unshare(_CLONE_NEWNS)
        mount("--make-rprivate", "/")
        return body()

    return in_a_child(unshare_and_run)


def with_own_network(body: Callable[[], Any]) -> Any:
    """Run `body` where the loopback is the only interface, down, and nobody else sees what it sets up."""

    def unshare_and_run() -> Any:
        _unshare(_CLONE_NEWNET)
        return body()

    return in_a_child(unshare_and_run)


def _unshare(namespaces: int) -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(namespaces) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


@contextmanager
def opened_in(directory: Path) -> Iterator[Callable[[], set[str]]]:
    """Have the kernel report which files of a directory were opened, changed, made or removed since it was asked."""
    libc = ctypes.CDLL(None, use_errno=True)
    inotify = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert libc.inotify_add_watch(inotify, os.fsencode(directory), 0x00000FFF) > 0
    event = struct.Struct("iIII")

    def ask() -> set[str]:
        names = set()
        while True:
            try:
                data = os.read(inotify, 1 << 16)
            except BlockingIOError:
                return names
            while data:
                length = event.unpack_from(data)[3]
                names.add(data[event.size : event.size + length].rstrip(b"\0").decode() or "the folder itself")
                data = data[event.size + length :]

    try:
        yield ask
    finally:
        os.close(inotify)


def make_socket(path: Path) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o600)


@contextmanager
def mount_silent_fuse(path: Path) -> Iterator[None]:
    """Mount a file system whose server never answers. Every look at the path hangs until the server ends."""
    server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"silent", os.fsencode(path), b"fuse.silent", 0, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), "mount")
    try:
        yield
    finally:
        os.close(server)


def mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)
