# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checksums of this host's own files, for a controller that looks whether other hosts have the same ones."""

from __future__ import annotations

import os
import stat
from typing import Iterable, NamedTuple

from ..errors import reason_and_remedy
from ..files import FILE_FLAGS
from ..hashing import RateLimiter, read_digests

__all__ = ["ALGORITHM", "Checksum", "read_checksums"]

ALGORITHM = "sha256"


class Checksum(NamedTuple):
    """A file of the cache: its size, what it takes, and its checksum by :data:`ALGORITHM`."""

    name: str
    size_bytes: int
    allocated_bytes: int
    checksum: str


def read_checksums(names: Iterable[str], cache: int, rate_limiter: RateLimiter) -> tuple[list[Checksum], list[str]]:
    """Read files of the cache.

    :param names: their names. One that is not there, is not a regular file, or is written to, is left out.
    :param cache: descriptor of the cache directory.
    :param rate_limiter: how fast.
    :return: the checksums, and why some files could not be read.
    """
    found, problems = [], []
    for name in dict.fromkeys(names):
        try:
            checksum = _read(name, cache, rate_limiter)
        except FileNotFoundError:
            continue
        except OSError as exc:
            problems.append(f"The checksum of {name} was not taken: {reason_and_remedy(exc)}.")
            continue
        if checksum is not None:
            found.append(checksum)
    return found, problems


def _read(name: str, cache: int, rate_limiter: RateLimiter) -> Checksum | None:
    """Read a file; None where it is not a regular one, or is written to."""
    if not stat.S_ISREG(os.stat(name, dir_fd=cache, follow_symlinks=False).st_mode):
        return None
    descriptor = os.open(name, FILE_FLAGS, dir_fd=cache)
    try:
        before = os.fstat(descriptor)
        digests = read_digests(descriptor, [ALGORITHM], rate_limiter) or {}
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(before.st_mode) or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        return None
    return Checksum(name, after.st_size, after.st_blocks * 512, digests[ALGORITHM])
