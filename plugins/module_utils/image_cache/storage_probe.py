# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the storage answers at all. On a dead NFS server ``stat`` never returns, and no signal handler helps."""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from typing import Callable, NoReturn, Sequence

from .errors import ImageCacheError
from .text import printable

__all__ = ["require_answer", "unanswered_path"]

_DESCRIPTORS = "/proc/self/fd"
_ANSWER = b"."


def require_answer(paths: Sequence[str], seconds: float) -> None:
    """Fail where the storage of a path does not answer.

    :param paths: what the pass looks at first. A path that does not exist is an answer.
    :param seconds: the time limit for all of them together.
    :raises ImageCacheError: one does not answer in time.
    """
    path = unanswered_path(paths, seconds)
    if path is not None:
        raise ImageCacheError(
            f"The storage of {printable(path)} does not answer: a look at it had not ended after {seconds:g} s "
            f"(storage_timeout_seconds). Nothing was removed on this host, and other hosts go on. Check whether the "
            f"server of this file system answers, and the kernel's log (dmesg). Then run it again."
        )


def _look(path: str) -> None:
    """Ask the storage itself: NFS may answer ``stat`` from a cache for a minute, and ``statvfs`` never."""
    os.stat(path)
    os.statvfs(path)


def unanswered_path(paths: Sequence[str], seconds: float, look: Callable[[str], object] = _look) -> str | None:
    """Look at paths in a process of its own, one after the other.

    A process that hangs in the kernel ends when the storage answers again. It is killed and not waited for, and it
    holds none of this process's files: Ansible would wait until these are closed.

    :param paths: what is looked at.
    :param seconds: the time limit for all of them together.
    :param look: how a path is looked at. Whatever OSError it raises is an answer.
    :return: the first path that does not answer in time; None if all do, or no process is to be had.
    :raises ImageCacheError: the process ended early.
    """
    answers, pipe = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(answers)
        os.close(pipe)
        return None
    if pid == 0:
        _answer(paths, pipe, look)
    os.close(pipe)
    try:
        count, is_over = _count_answers(answers, seconds)
    finally:
        os.close(answers)
    if is_over:
        os.kill(pid, signal.SIGKILL)
        return paths[count] if count < len(paths) else None
    os.waitpid(pid, 0)
    if count < len(paths):
        raise ImageCacheError(
            "The process that looks whether the storage answers ended early, perhaps because memory was short. Look at "
            "the kernel's log (dmesg), and run it again."
        )
    return None


def _answer(paths: Sequence[str], pipe: int, look: Callable[[str], object]) -> NoReturn:
    """Write to a pipe after each look, and end. Nothing of the parent's, such as its buffered output, is finished."""
    try:
        for descriptor in _open_descriptors():
            if descriptor != pipe:
                with suppress(OSError):  # the one by which they were listed is closed
                    os.close(descriptor)
        for path in paths:
            with suppress(OSError):
                look(path)
            os.write(pipe, _ANSWER)
    finally:
        os._exit(0)


def _open_descriptors() -> list[int]:
    try:
        return [int(name) for name in os.listdir(_DESCRIPTORS)]
    except OSError:  # the pass is refused where /proc is not mounted, and says so
        return []


def _count_answers(pipe: int, seconds: float) -> tuple[int, bool]:
    """Return how many answers came before the other end was closed, and whether the time was over before that."""
    deadline = time.monotonic() + seconds
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    count = 0
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        answers = os.read(pipe, select.PIPE_BUF)
        if not answers:
            return count, False
        count += len(answers)
    return count, True
