# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is saved about the checksums of a base file, in its info file or where Essex left it."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Mapping, NamedTuple, Sequence

from .info_files import DIGITS, TIMESTAMP, Info, read_legacy_sha1_file

if TYPE_CHECKING:
    from .snapshot import CacheFile

__all__ = ["ATTEMPT", "SavedChecksums", "is_recent", "least_recently_verified_first", "read_saved_checksums"]

_DIGESTS = {algorithm: re.compile(f"[0-9a-f]{{{digits}}}") for algorithm, digits in DIGITS.items()}
# When a file was last read without a result, so that in a run with little time it comes after the others.
ATTEMPT = "-attempt"


class SavedChecksums(NamedTuple):
    """What is saved about a file.

    :param digests: its checksums by algorithm, in lowercase hex.
    :param verified_at: when that of the wanted algorithm was saved or verified last, in unix
        seconds; None where it never was or nobody knows.
    :param attempted_at: when the file was last read without a result, in unix seconds.
    :param damaged: why its info file cannot be understood, None where it can.
    :param is_essex: its checksum still lies where Essex left it.
    """

    digests: Mapping[str, str]
    verified_at: float | None = None
    attempted_at: float | None = None
    damaged: str | None = None
    is_essex: bool = False


def read_saved_checksums(info: Info, name: str, algorithm: str, cache: int) -> SavedChecksums:
    """Put together what is saved about a file, in its info file or where Essex left it.

    :param info: what its info file has.
    :param name: the file.
    :param algorithm: the wanted algorithm.
    :param cache: descriptor of the cache directory.
    :return: its checksums and when they were looked at.
    :raises OSError: the file where Essex left a checksum is there and cannot be read.
    """
    digests = {
        algorithm: str(info.fields[algorithm]).strip().lower()
        for algorithm in _DIGESTS
        if _is_checksum(algorithm, info.fields.get(algorithm))
    }
    essex = None if "sha1" in digests else read_legacy_sha1_file(name, cache)
    is_essex = _is_checksum("sha1", essex)
    if is_essex:
        digests["sha1"] = str(essex).lower()
    return SavedChecksums(
        digests=digests,
        verified_at=_verified_at(info, algorithm),
        attempted_at=_time(info.fields.get(algorithm + ATTEMPT)),
        damaged=info.damaged,
        is_essex=is_essex,
    )


def _verified_at(info: Info, algorithm: str) -> float | None:
    if not _is_checksum(algorithm, info.fields.get(algorithm)):
        return None
    return _time(info.fields.get(algorithm + TIMESTAMP))


def _is_checksum(algorithm: str, value: object) -> bool:
    return isinstance(value, str) and _DIGESTS[algorithm].fullmatch(value.strip().lower()) is not None


def _time(value: object) -> float | None:
    """Return a saved time, None where it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def is_recent(time: float | None, interval_seconds: int, now: float) -> bool:
    """Tell whether a file that was verified at a time (unix seconds, None for never) need not be read again."""
    # A time in the future, by a clock that was wrong, must not be trusted until it comes.
    return time is not None and abs(now - time) < interval_seconds


def least_recently_verified_first(files: Sequence[CacheFile], records: Mapping[str, SavedChecksums]) -> list[CacheFile]:
    """Sort files by when they were last verified, or read without a result, those that never were first.

    :param files: the files.
    :param records: what is saved about each, by its name.
    """

    def last_looked_at(file: CacheFile) -> tuple[float, str]:
        record = records[file.name]
        times = [time for time in (record.verified_at, record.attempted_at) if time is not None]
        return (max(times, default=-math.inf), file.name)

    return sorted(files, key=last_looked_at)
