# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A function in a process of its own that strace watches, and what its system calls are about."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import re
import signal
import subprocess
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, NamedTuple

PR_SET_PTRACER = 0x59616D61


# What is read or written may look like a name.
_DATA_CALLS = ("read", "pread64", "readv", "write", "pwrite64")


class Call(NamedTuple):
    """A system call.

    :param name: which.
    :param number: how many of that name there were before it, and it.
    :param target: what it is about, as `target` returns it.
    """

    name: str
    number: int
    target: str


class Traced(NamedTuple):
    """A process that strace watches.

    :param process: its number.
    :param log: what strace writes, unless an option sends that to a file.
    :param answer: receives what the function returned; EOFError where the process was killed.
    """

    process: int
    log: IO[str]
    answer: Connection


@contextmanager
def traced(body: Callable[[], Any], options: list[str]) -> Iterator[Traced]:
    """Run `body` under strace with these options, its first system call included."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def run() -> None:
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_long(-1))  # some kernels let only a parent trace
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        sender.send("ready")
        signal.sigwait([signal.SIGUSR1])
        sender.send(body())

    child = context.Process(target=run)
    child.start()
    sender.close()
    assert receiver.recv() == "ready"
    command = ["strace", "--decode-fds=path", "--string-limit=256", f"--attach={child.pid}", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as strace:
        assert "attached" in strace.stderr.readline()
        os.kill(child.pid, signal.SIGUSR1)
        try:
            yield Traced(child.pid, strace.stderr, receiver)
        finally:
            child.kill()
            child.join()
            strace.communicate()


def calls_about(log: Path, names: Collection[str], root: Path) -> Iterator[Call]:
    """The calls about anything under `root` that strace has written down, in their order.

    :param names: the calls that strace traced.
    """
    counts: dict[str, int] = {}
    for line in log.read_text(errors="replace").splitlines():
        name, bracket, arguments = line.partition("(")
        if bracket and name in names:
            counts[name] = counts.get(name, 0) + 1
            about = target(arguments.partition(">")[0] + ">" if name in _DATA_CALLS else arguments, root)
            if about is not None:
                yield Call(name, counts[name], about)


def target(arguments: str, root: Path) -> str | None:
    """What a call is about, from `root` on: an absolute path, or that of its first descriptor with the name after it.

    :param arguments: of the call, as strace writes them.
    :return: None where it is about nothing under `root`.
    """
    prefix = re.escape(f"{root}/")
    path = re.match(rf'[^"]*"{prefix}([^"]*)"', arguments)
    if path is not None:
        return path[1]
    at = re.search(rf'<{prefix}([^>]*)>(?:\(deleted\))?(?:, "([^"/]+)"[,)])?', arguments)
    if at is None:
        return None
    return re.sub(r"/\.(nova-.*)\.[0-9a-f]{16}$", r"/\1", "/".join(filter(None, at.groups())))
