# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several nova-computes and several prunes on one tree, and what must hold after it."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ansible_collections.stackops.nova.plugins.module_utils.image_cache import apply, locks, snapshot
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.open_files import OpenFiles
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.prune import PruneResult
from ansible_collections.stackops.nova.tests.adversary.nova_compute import NovaCompute, Report
from ansible_collections.stackops.nova.tests.support.host import NAME, Host
from ansible_collections.stackops.nova.tests.support.processes import start_child

COMPUTES = 6
CLOCKS_DIFFER_SECONDS = 0.1
IN_DELETE = 0x200
# Two equal events, one after the other, become one: what comes between two deletions of a name has to be reported too.
IN_MOVED_TO_OR_CREATE = 0x180
IN_Q_OVERFLOW = 0x4000
INOTIFY_EVENT = struct.Struct("iIII")
INSPECTION_SECONDS = 0.04
# So that a missing guard matters soon: the prune is slow there, and nova is slow between look and use of a file.
DAWDLE_SECONDS = 0.2
LONG_INSPECTION_SECONDS = 0.4


class Passes(NamedTuple):
    """What one process of prunes did.

    :param removed: how often each file was removed, by what the results say.
    :param kept: how often a file was kept, by the reason.
    :param errors: why passes failed.
    """

    count: int
    removed: Counter[str]
    kept: Counter[str]
    errors: Counter[str]


class Outcome(NamedTuple):
    """The outcome of a stress test: `lost` is empty after a good one."""

    lost: list[str]
    operations: Counter[str]
    passes: Passes


def fight(root: Path, seconds: float, seed: int, without: str | None = None, orphans: str = "protect") -> Outcome:
    """Let them loose on an empty tree for some time, or until something is lost.

    :param orphans: the option of that name. With `ignore` there are some, and the prunes know nova's instances.
    :param without: what the prunes lack, of `SABOTAGES`.
    """
    host = Host(root)
    elsewhere = root / "elsewhere"
    elsewhere.mkdir()
    database = root / "database"
    database.mkdir()
    context = multiprocessing.get_context("fork")
    novas_end, prunes_end = context.Event(), context.Event()
    operator = Operator(host, database if orphans == "ignore" else None)
    deletions = _Deletions(host.cache_path)

    def compute(number: int) -> Report:
        inspection_seconds = INSPECTION_SECONDS if without is None else LONG_INSPECTION_SECONDS
        nova = NovaCompute(
            host,
            elsewhere,
            database,
            leaves_orphans=orphans == "ignore",
            inspection_seconds=inspection_seconds,
            seed=seed,
            number=number,
        )
        try:
            return nova.run(novas_end.is_set)
        finally:  # the time is over, or something is lost: then the others need not go on
            novas_end.set()

    def prune(checksums: bool) -> Passes:
        if without is not None:
            SABOTAGES[without]()
        return _prune_until(prunes_end.is_set, operator, checksums)

    novas = [start_child(lambda number=number: compute(number)) for number in range(COMPUTES)]
    prunes = [start_child(lambda checksums=checksums: prune(checksums)) for checksums in (False, True)]
    try:
        deadline = time.monotonic() + seconds
        while not novas_end.wait(0.1) and time.monotonic() < deadline:
            deletions.read()
        novas_end.set()
        reports = [finish() for finish in novas]
    finally:
        novas_end.set()
        prunes_end.set()
    passes = _sum([finish() for finish in prunes])
    deletions.read()
    expected = sum((report.unlinked for report in reports), passes.removed.copy())
    lost = [report.loss for report in reports if report.loss is not None]
    if not lost:
        lost = [*_check_disks(reports), *_compare(deletions.by_name, expected), *_check_last_pass(operator, reports)]
    return Outcome(lost, sum((report.operations for report in reports), Counter()), passes)


class Operator(NamedTuple):
    """An operator who prunes a host.

    :param database: where nova's instances are read, for a prune that ignores orphans; None for one that protects them.
    """

    host: Host
    database: Path | None

    def prune(self, **options: object) -> PruneResult:
        self.host.now = time.time()
        if self.database is not None:
            # An instance that is not yet in the database touches its base files later than this, so that they are too
            # young even for an age of nothing. The kernel's clock for files may be behind.
            self.host.now -= CLOCKS_DIFFER_SECONDS
            records = [{"uuid": uuid, "host": NAME} for uuid in os.listdir(self.database)]
            options = {**options, "orphans": "ignore", "instances": records, "instances_complete_for": [NAME]}
        return self.host.prune(**_NO_LIMITS, **options)


def _prune_until(is_over: Callable[[], bool], operator: Operator, checksums: bool) -> Passes:
    removed: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    count = 0
    while not is_over():
        result = operator.prune(checksum_base_images=checksums, checksum_interval_seconds=0)
        removed.update(result.done["removed"])
        kept.update(file["reason"] for file in result.done["kept"])
        if result.error is not None:
            errors[result.error] += 1
        reported = [*result.done["removed"], *(file["name"] for file in result.done["kept"] + result.done["failed"])]
        assert sorted(reported) == result.facts["removable"], result
        count += 1
    return Passes(count, removed, kept, errors)


_NO_LIMITS = {"remove_unused_original_minimum_age_seconds": 0, "remove_unused_resized_minimum_age_seconds": 0}


def _sum(parts: list[Passes]) -> Passes:
    return Passes(
        sum(part.count for part in parts),
        *(sum((part[field] for part in parts), Counter()) for field in range(1, len(Passes._fields))),
    )


def _check_disks(reports: list[Report]) -> list[str]:
    """Open every disk that is left, down to its base file."""
    lost = []
    for disk, download in (item for report in reports for item in report.disks.items()):
        check = subprocess.run(["qemu-img", "check", disk], capture_output=True, check=False, text=True)
        command = ["qemu-io", "-r", "-c", "read 0 1M", disk]
        read = subprocess.run(command, capture_output=True, check=False, text=True)
        if check.returncode or read.returncode or not download.is_there():
            lost.append(f"{disk}: {check.stderr}{read.stderr}")
    return lost


def _compare(deletions: Counter[str], expected: Counter[str]) -> list[str]:
    """The removals that the kernel saw must be those that the results, and nova, report."""
    return [
        f"{name} went {deletions[name]} times, and {expected[name]} times by what was said"
        for name in sorted({*deletions, *expected})
        if deletions[name] != expected[name]
    ]


def _check_last_pass(operator: Operator, reports: list[Report]) -> list[str]:
    """When all is quiet, what no disk needs is removed, and nothing else."""
    time.sleep(CLOCKS_DIFFER_SECONDS)
    result = operator.prune()
    needed = sorted({download.base.name for report in reports for download in report.disks.values()})
    left = [name for name in operator.host.cached() if not name.endswith(".info")]
    problems = [] if left == needed else [f"after a last pass there is {left}, and needed is {needed}"]
    return problems if result.error is None else [*problems, result.error]


class _Deletions:
    """What is removed from a directory, as `inotify(7)` reports it; info files and their drafts do not count."""

    def __init__(self, directory: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if libc.inotify_add_watch(self._descriptor, os.fsencode(directory), IN_DELETE | IN_MOVED_TO_OR_CREATE) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch")
        self.by_name: Counter[str] = Counter()

    def read(self) -> None:
        while True:
            try:
                events = os.read(self._descriptor, 1 << 16)
            except BlockingIOError:
                return
            while events:
                _watch, mask, _cookie, length = INOTIFY_EVENT.unpack_from(events)
                name = os.fsdecode(events[INOTIFY_EVENT.size :][:length].rstrip(b"\0"))
                events = events[INOTIFY_EVENT.size + length :]
                assert not mask & IN_Q_OVERFLOW
                if mask & IN_DELETE and not name.endswith((".info", ".info.new")):
                    self.by_name[name] += 1


def _remove_without_locks() -> None:
    def acquire(_directory: int, name: str, _wait_seconds: float) -> locks.Lock:
        return locks.Lock(-1, name, os.open(os.devnull, os.O_RDONLY))

    def look_again(place: apply.RemovalContext) -> tuple[apply.DiskUse, dict[str, set[str]]]:
        found = looked_again(place)
        time.sleep(DAWDLE_SECONDS)
        return found

    looked_again = apply._look_again
    apply.acquire = acquire
    apply._look_again = look_again


def _remove_without_looking_again() -> None:
    def take_locks(*arguments: object) -> object:
        time.sleep(DAWDLE_SECONDS)
        return took_locks(*arguments)

    took_locks = apply._take_locks
    apply._take_locks = take_locks
    apply._look_again = lambda _place: (apply._NO_USE, {})


def _remove_what_is_open() -> None:
    snapshot.qemu_holds = apply.qemu_holds = lambda _descriptor: False
    snapshot.find_open_files = lambda _names, **_where: OpenFiles(set(), 0)
    apply.is_open_elsewhere = lambda _descriptor: False


SABOTAGES = {
    "locks": _remove_without_locks,
    "a second look": _remove_without_looking_again,
    "holders": _remove_what_is_open,
}
