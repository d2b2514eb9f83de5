# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file from elsewhere, from Glance or another host: hashed while it comes, with holes for zeros, and never slow."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle
from typing import Callable, NamedTuple, Protocol

from .place import write_without_zeros

__all__ = ["LEAST_BYTES_PER_SECOND", "LowestRate", "Stream", "Transfer", "write_stream"]

LEAST_BYTES_PER_SECOND = 10 * 1024
_BLOCK_BYTES = 1 << 20
_BLOCKS = 4  # one is filled while the others are hashed
# After how many written bytes it is asked whether there is still space.
_SPACE_BYTES = 64 << 20


class Transfer(NamedTuple):
    """How much was read, in bytes, and how long that took, in seconds."""

    read_bytes: int
    seconds: float


class Stream(Protocol):
    """Bytes in their order. What either method raises ends the transfer."""

    def read_into(self, block: memoryview) -> None:
        """Fill a block with the bytes that follow."""

    def require_end(self) -> None:
        """Look whether more bytes follow, which is an error."""


def write_stream(
    stream: Stream,
    size: int,
    algorithm: str,
    descriptor: int,
    require_space: Callable[[int], None] | None = None,
) -> str:
    """Write all bytes of a stream into a file; return their checksum.

    Hashing takes the longest, so another thread does that. Python's lock is free meanwhile.

    :param size: how many there are.
    :param algorithm: of the checksum, as :mod:`hashlib` names it.
    :param descriptor: the file, open for writing. Afterwards it has these bytes alone, and holes where they are zeros.
    :param require_space: refuses so many bytes where there is no room for them, asked again while they come; None
        where there is room for all.
    :raises OSError: they cannot be written.
    """
    os.ftruncate(descriptor, 0)
    digest = hashlib.new(algorithm)
    blocks = [memoryview(bytearray(_BLOCK_BYTES)) for _number in range(_BLOCKS)]
    hashed: deque[Future[None]] = deque()
    written = 0
    with ThreadPoolExecutor(max_workers=1) as hasher:
        for start, block in zip(range(0, size, _BLOCK_BYTES), cycle(blocks)):
            if len(hashed) == _BLOCKS:
                hashed.popleft().result()
            part = block[: size - start]
            stream.read_into(part)
            hashed.append(hasher.submit(digest.update, part))
            written += write_without_zeros(descriptor, part, start)
            if require_space is not None and written >= _SPACE_BYTES:
                require_space(min(_SPACE_BYTES, size - start - len(part)))
                written = 0
    stream.require_end()
    os.ftruncate(descriptor, size)
    return digest.hexdigest()


class LowestRate:
    """Tells whether a source is too slow: over each stretch of waiting it has to bring enough.

    Only the time of waiting for the source counts: a limit of our own, or a slow disk, is not its fault.

    :param seconds: how long a stretch is.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.restart()

    def restart(self) -> None:
        """Begin a new stretch."""
        self._waited_seconds = 0.0
        self._came = 0

    @property
    def left_seconds(self) -> float:
        """How long it may wait until the stretch is over."""
        return max(0.0, self._seconds - self._waited_seconds)

    def is_too_slow(self, waited_seconds: float, count: int) -> bool:
        """Take note of the bytes that came after some waiting, and tell whether that is too few."""
        self._waited_seconds += waited_seconds
        self._came += count
        if self._waited_seconds < self._seconds:
            return False
        is_too_slow = self._came < LEAST_BYTES_PER_SECOND * self._waited_seconds
        self.restart()
        return is_too_slow
