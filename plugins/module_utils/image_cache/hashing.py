# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading whole files for their checksums, without being in anybody's way."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Callable, Iterable, Sequence, TypeVar

if TYPE_CHECKING:
    from .backing_chain import RunCommand

__all__ = ["RateLimiter", "map_in_threads", "read_digests", "run_at_idle_priority", "thread_count"]

_BLOCK_BYTES = 256 * 1024
_MOST_THREADS = 4

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class RateLimiter:
    """How fast, and for how long, all threads together may read.

    :param bytes_per_second: the most on average; None without a limit.
    :param seconds: for how long from now; None without a limit.
    """

    def __init__(self, bytes_per_second: int | None = None, seconds: float | None = None) -> None:
        self._bytes_per_second = bytes_per_second
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._next = time.monotonic()
        self._lock = threading.Lock()

    def is_expired(self) -> bool:
        """Tell whether the time is used up."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def throttle(self, count: int) -> None:
        """Say that so many bytes were read, and wait until the next may be, or until the time is used up."""
        if self._bytes_per_second is None:
            return
        with self._lock:
            self._next = max(self._next, time.monotonic()) + count / self._bytes_per_second
            until = self._next if self._deadline is None else min(self._next, self._deadline)
        time.sleep(max(0.0, until - time.monotonic()))


def read_digests(descriptor: int, algorithms: Iterable[str], rate_limiter: RateLimiter) -> dict[str, str] | None:
    """Read a file to its end, once, and hash what is read.

    :param descriptor: the file, open for reading, at its beginning.
    :param algorithms: names that :mod:`hashlib` knows.
    :param rate_limiter: how fast and how long.
    :return: the hex digest of each algorithm; None where the time was used up before the end.
    :raises OSError: it cannot be read.
    """
    # What guests use of the file stays in the page cache: POSIX_FADV_DONTNEED would throw that out
    # too. NOREUSE only keeps this reading from counting as use, so that it throws out nothing else.
    for advice in (os.POSIX_FADV_SEQUENTIAL, os.POSIX_FADV_NOREUSE):
        with suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, advice)
    hashes = {algorithm: hashlib.new(algorithm) for algorithm in algorithms}
    block = bytearray(_BLOCK_BYTES)
    view = memoryview(block)
    while True:
        if rate_limiter.is_expired():
            return None
        count = os.readv(descriptor, [block])
        if count == 0:
            return {algorithm: digest.hexdigest() for algorithm, digest in hashes.items()}
        for digest in hashes.values():
            digest.update(view[:count])
        rate_limiter.throttle(count)


def run_at_idle_priority(work: Callable[[], Answer], run_command: RunCommand) -> Answer:
    """Do a work where it has the last turn for processor and disk.

    On Linux both priorities are a thread's own, and the threads that it starts inherit them: this
    process goes on afterwards as before.

    :param work: what to do.
    :param run_command: how ``ionice`` is run; a host without it does without.
    :return: what it returned.
    """

    # Here, so that what hashes nothing does not pay for it.
    from concurrent.futures import ThreadPoolExecutor

    def yield_to_others() -> None:
        os.setpriority(os.PRIO_PROCESS, 0, 19)
        with suppress(OSError):
            run_command(["ionice", "-c", "3", "-p", str(threading.get_native_id())])

    with ThreadPoolExecutor(max_workers=1, initializer=yield_to_others) as leader:
        return leader.submit(work).result()


def map_in_threads(work: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer]:
    """Do a work on each of the items, in their order, several at a time.

    Python's threads do for this: reading and hashing run outside of its global lock.

    :return: what it returned for each.
    """
    # Here, so that what hashes nothing does not pay for it.
    from concurrent.futures import ThreadPoolExecutor

    threads = thread_count(len(items))
    if threads < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(max_workers=threads) as pool:
        return list(pool.map(work, items))


def thread_count(items: int) -> int:
    """Return how many of so many items :func:`map_in_threads` does at a time."""
    return min(len(os.sched_getaffinity(0)), _MOST_THREADS, items)
