# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Doing one work in several processes, where there is enough of it."""

from __future__ import annotations

import json
import os
from typing import Any, Callable, NamedTuple, Sequence

from .errors import ImageCacheError

__all__ = ["map_in_processes"]

_ITEMS_WORTH_A_PROCESS = 500
_MOST_PROCESSES = 8


class _Worker(NamedTuple):
    pid: int
    pipe: int


def map_in_processes(work: Callable[[Sequence[str]], Any], items: Sequence[str]) -> list[Any]:
    """Do a work on a list of names, in parts: one by this process, the others by forked ones.

    Reading many small files waits for system calls, or for a file server, and Python's threads do
    not help with the first.

    :param work: takes some of the names and returns plain data, as JSON can hold it.
    :param items: the names.
    :return: what it returned for each part, as plain data.
    :raises ImageCacheError: a process ended before its work was done.
    """
    count = min(len(os.sched_getaffinity(0)), _MOST_PROCESSES, len(items) // _ITEMS_WORTH_A_PROCESS)
    if count < 2:
        return [work(items)]
    own, workers = [items[::count]], []
    for number in range(1, count):
        part = items[number::count]
        try:
            workers.append(_start(work, part))
        except OSError:  # no more processes are to be had
            own.append(part)
    try:
        results = [work(part) for part in own]
    finally:
        answers = [_finish(worker) for worker in workers]
    try:
        return results + [json.loads(answer) for answer in answers]
    except ValueError as exc:
        raise ImageCacheError(
            "A process that read a part of the disks ended early, perhaps because memory was short. Look at the "
            "kernel's log (dmesg), and run it again."
        ) from exc


def _start(work: Callable[[Sequence[str]], Any], items: Sequence[str]) -> _Worker:
    pipe, answer_pipe = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(pipe)
        os.close(answer_pipe)
        raise
    if pid != 0:
        os.close(answer_pipe)
        return _Worker(pid, pipe)
    try:
        with open(answer_pipe, "w", encoding="ascii") as stream:
            stream.write(json.dumps(work(items)))  # json.dump() would do it in Python, piece by piece
    finally:
        # Nothing of the parent's, such as its buffered output, is to be finished twice.
        os._exit(0)


def _finish(worker: _Worker) -> bytes:
    with open(worker.pipe, "rb") as stream:
        answer = stream.read()
    os.waitpid(worker.pid, 0)
    return answer
