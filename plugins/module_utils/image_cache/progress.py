# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long the parts of a pass take, and how far a long one is. Both use a clock that nobody sets."""

from __future__ import annotations

import threading
import time
from typing import Callable, Sequence

from .snapshot import CacheFile

__all__ = ["Log", "ProgressLog", "Stopwatch", "silent"]

_INTERVAL_SECONDS = 60.0

Log = Callable[[str], None]


def silent(line: str) -> None:
    """Log nothing: what writes nothing on a host leaves no lines there, either."""


class ProgressLog:
    """Logs how many files are done, a line a minute. Work that takes less than a minute logs nothing.

    :param log: takes a line, as ``AnsibleModule.log`` does for the host's journal.
    :param work: what is done, and where.
    :param planned: the files that it is done to.
    """

    def __init__(self, log: Log, work: str, planned: Sequence[CacheFile]) -> None:
        self._log = log
        self._work = work
        self._planned = planned
        self._next = time.monotonic() + _INTERVAL_SECONDS
        self._lock = threading.Lock()

    def note(self, done: Sequence[CacheFile]) -> None:
        """Log how far it is, if the last line was long enough ago. Threads may call it at the same time.

        :param done: the files that are done so far.
        """
        now = time.monotonic()
        with self._lock:
            if now < self._next:
                return
            self._next = now + _INTERVAL_SECONDS
        percent = 100 * _bytes(done) // max(1, _bytes(self._planned))
        self._log(f"{self._work}: {len(done)} of {len(self._planned)} files are done, {percent} % of their bytes.")


def _bytes(files: Sequence[CacheFile]) -> int:
    return sum(file.size_bytes for file in files)


class Stopwatch:
    """Measures the parts of a pass, one after the other."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def lap(self) -> float:
        """Return the seconds since the last lap, or since the start."""
        last, self._last = self._last, time.monotonic()
        return round(self._last - last, 3)
