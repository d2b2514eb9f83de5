# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A prune that is stopped after a system call, where an operation of nova's runs whole; and what must hold after it.

In the mode `PRECACHE`, two images are pre-cached instead: one that the cache has, and one that nova may fetch.

Where a prune stops is found while it runs and by what a call is about, never by its number in another run: file
systems give the entries of a directory in different orders. An operation whose moment never comes runs after the prune,
and the same must hold.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.stackops.nova.plugins.module_utils.image_cache import hashing, open_files, snapshot
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.open_files import is_open_elsewhere
from ansible_collections.stackops.nova.tests.interleavings.operations import (
    ACTIVE,
    BOTTOM,
    CACHED,
    DISK_ELSEWHERE,
    NAMES,
    PROCESSES,
    RESCUE,
    RESCUED,
    RESIZED,
    TOP,
    UNKNOWN_TO_CACHE,
    UNUSED,
    USED,
    USED_TOO,
    YOUNG,
    Done,
    Nova,
    content_of,
    migrate_cold,
)
from ansible_collections.stackops.nova.tests.support.constants import IMAGE, OTHER_IMAGE
from ansible_collections.stackops.nova.tests.support.host import DAY, HOUR, Host, create_image, opens
from ansible_collections.stackops.nova.tests.support.precaches import image
from ansible_collections.stackops.nova.tests.support.strace import target, traced

# Calls that a prune makes on every file system, each about a path of the tree. Each has one name here, whatever the C
# library and the machine call it.
CALLS = {
    "openat": "open",
    "stat": "stat",
    "lstat": "stat",
    "newfstatat": "stat",
    "fstatat64": "stat",
    "fcntl": "fcntl",
    "fcntl64": "fcntl",
    "pread64": "pread",
    "mkdir": "mkdir",
    "mkdirat": "mkdir",
    "link": "link",
    "linkat": "link",
    "unlink": "unlink",
    "unlinkat": "unlink",
    "rename": "rename",
    "renameat": "rename",
    "renameat2": "rename",
    "utimensat": "utime",
}
STAMP_BYTES = 64
LEASE_SECONDS = 0.5


class Call(NamedTuple):
    """A system call of a prune.

    :param name: what it does.
    :param target: what it is about, from the tree's root on.
    """

    name: str
    target: str


Moment = Callable[[Sequence[Call]], bool]
"""Tells from the calls so far whether now is the moment."""
Operation = Callable[[Nova], None]
Step = tuple[Moment, Operation]
Stamps = dict[str, bytes]

SHARED = "shared storage"
MODES: dict[str, dict[str, Any]] = {
    "plain": {},
    "libvirt, orphans ignored": {"libvirt": True, "orphans": "ignore"},
    "checksums": {"checksum_base_images": True, "checksum_interval_seconds": 0, "checksum_scope": "all"},
    SHARED: {"shared_storage": True},
    "space target": {"max_used_space": 0},
}
PRECACHE = "precache"


class Trial(NamedTuple):
    """What came of a prune and of the operations beside it.

    :param calls: the prune's calls, in their order.
    :param removed: what its result says that it removed.
    :param error: why it failed or refused, if it did.
    :param all_reached: whether each operation had its moment during the prune.
    :param wrong: what must not be.
    """

    calls: list[Call]
    removed: list[str]
    error: str | None
    all_reached: bool
    wrong: list[str]


def after(name: str, path: str, occurrence: int = 1) -> Moment:
    """Just after a call about a path came for the n-th time."""

    def is_now(calls: Sequence[Call]) -> bool:
        return calls[-1] == (name, path) and calls.count(calls[-1]) == occurrence

    return is_now


def attempt(
    root: Path, mode: str, steps: Sequence[Step], sabotage: Callable[[], None] | None = None, **options: Any
) -> Trial:
    """Prune a host, and do each step once its moment has come.

    :param sabotage: is done first, in the process of the prune.
    :param options: of the prune, besides those of the mode.
    """
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    host = make_host(root)
    cache = os.open(host.cache_path, os.O_RDONLY)
    before = _stamps(cache)
    calls: list[Call] = []
    waiting = list(steps)
    begun: list[_Beside] = []

    def look(call: Call) -> None:
        calls.append(call)
        for step in list(waiting):
            moment, operation = step
            if moment(calls):
                waiting.remove(step)
                begun.append(_Beside(host, operation, calls))

    with ExitStack() as running:
        running.callback(os.close, cache)
        try:
            operate = _precache if mode == PRECACHE else partial(_prune, options={**MODES[mode], **options})
            answer = _stepwise(host, operate, sabotage, look)
            all_reached = not waiting
            begun += [_Beside(host, operation, calls) for _moment, operation in waiting]
        finally:
            for one in begun:
                running.callback(one.end)
        done = [one.wait() for one in begun]
        wrong = [*_check(host, answer, calls, (before, _stamps(cache)), begun, done, mode == SHARED)]
        if mode == PRECACHE:
            wrong += _check_precached(host, answer, done)
    return Trial(calls, answer.removed, answer.error, all_reached, wrong)


def _check(
    host: Host,
    answer: Answer,
    calls: Sequence[Call],
    stamps: tuple[Stamps, Stamps],
    begun: Sequence[_Beside],
    done: Sequence[Done | str],
    is_shared: bool,
) -> Iterator[str]:
    failures = [one for one in done if isinstance(one, str)]
    if failures or answer.crash is not None:
        yield from filter(None, [*failures, answer.crash])
        return
    tells_who_has_it_open = not is_shared and has_leases(host.root)
    yield from _check_result(host, answer, stamps, [one for one in done if isinstance(one, Done)])
    for one in begun:
        yield from _check_protected(answer, one.at_once, calls[one.begun_after :], tells_who_has_it_open)
    if not any(one.operation is migrate_cold and _is_after_last_look(calls[: one.begun_after]) for one in begun):
        yield from _check_disks(host)


def _is_after_last_look(calls: Sequence[Call]) -> bool:
    """Tell whether the disks were read again before the last of these calls."""
    locks = [number for number, call in enumerate(calls) if call.name == "setlk"]
    return bool(locks) and ("open", f"instances/{ACTIVE}/disk") in calls[locks[-1] : -1]


def points(root: Path, mode: str) -> Iterator[tuple[Call, int]]:
    """The calls of a prune that nothing disturbs, and how many of each there were until then."""
    counts: Counter[Call] = Counter()
    for call in attempt(root, mode, []).calls:
        counts[call] += 1
        yield call, counts[call]


class Answer(NamedTuple):
    """What a prune says: what it removed, and why it failed; a crash is an error that is not for the operator."""

    removed: list[str]
    error: str | None = None
    crash: str | None = None


def make_host(root: Path) -> Host:
    """A host with unused files of every kind, and guests: one that is resized, one that is rescued."""
    host = Host(root)
    for number, name in enumerate((USED, USED_TOO, RESCUE, *UNUSED)):
        host.base(name, age=3 * DAY + number * HOUR, size=64 * 1024, content=f"at first: {name}".encode())
    host.base(YOUNG)
    create_image(host.cache_path / TOP, over=host.cache_path / BOTTOM, over_format="raw")
    os.utime(host.cache_path / TOP, (host.now - 4 * DAY, host.now - 4 * DAY))
    for directory, disks in {
        ACTIVE: {"disk": USED},
        RESIZED: {"disk": USED_TOO},
        f"{RESIZED}_resize": {"disk": USED_TOO},
        RESCUED: {"disk": USED, "disk.rescue": RESCUE},
    }.items():
        host.instance(directory, disks, virtual_size=1 << 20)
    for uuid, name in NAMES.items():
        host.domain_xml(uuid, name, None)
    host.compute_nodes({"vm": host.now})
    host.lock_file(CACHED)
    (root / PROCESSES).mkdir()
    create_image(root / DISK_ELSEWHERE, over=host.cache_path / CACHED, over_format="raw")
    return host


def has_leases(directory: Path) -> bool:
    """Whether the file system reports that another process has a file open."""
    path = directory / "probe"
    path.touch()
    with path.open("rb") as one, path.open("rb"):
        answer = is_open_elsewhere(one.fileno())
    path.unlink()
    return answer is True


def _stepwise(
    host: Host,
    operate: Callable[[Host], Answer],
    sabotage: Callable[[], None] | None,
    look: Callable[[Call], None],
) -> Answer:
    """Prune or pre-cache, and stop after each call to let `look` look at it."""

    def run() -> Answer:
        if sabotage is not None:
            sabotage()
        return operate(host)

    names = ",".join(f"?{name}" for name in CALLS)
    with traced(run, [f"--trace={names}", f"--inject={names}:signal=STOP"]) as child:
        for line in child.log:
            call = _parse(line, host.root)
            if call is not None:
                last = call
            elif line.startswith("--- stopped by SIGSTOP"):
                if last.target:
                    look(last)
                os.kill(child.process, signal.SIGCONT)
        return child.answer.recv()


def _parse(line: str, root: Path) -> Call | None:
    name, bracket, arguments = line.partition("(")
    if not bracket or name not in CALLS:
        return None
    operation = CALLS[name]
    if operation == "fcntl":
        command = re.search(r"\bF_(OFD_GETLK|GETLK|SETLK|SETLEASE)\b", arguments)
        if command is None:
            return Call("other", "")
        operation = command[1].lower()
    if operation == "pread":  # what is read may look like a name
        arguments = arguments.partition(">")[0] + ">"
    if operation == "stat" and '""' in arguments:  # of a descriptor: some C libraries call that otherwise
        return Call("other", "")
    return Call(operation, target(arguments, root) or "")


def _prune(host: Host, options: dict[str, Any]) -> Answer:
    """A prune in one thread, which sees the processes of this trial only. For a process of its own."""
    hashing.thread_count = lambda _items: 1
    hashing.run_at_idle_priority = lambda work, _run_command: work()
    processes = host.root / PROCESSES
    snapshot.find_open_files = lambda names, directory: open_files.find_open_files(
        names, str(processes), directory=directory
    )
    try:
        result = host.prune(**options)
    except ImageCacheError as exc:
        return Answer([], error=str(exc))
    except Exception:
        return Answer([], crash=traceback.format_exc(limit=-3))
    return Answer(result.done["removed"], result.error)


def _precache(host: Host) -> Answer:
    """Pre-cache an image that the cache has, and one that it has not, from files that an operator brought."""
    contents = {IMAGE: (host.cache_path / CACHED).read_bytes(), OTHER_IMAGE: content_of(UNKNOWN_TO_CACHE)}
    files = {image_id: str(host.root / image_id) for image_id in contents}
    for image_id, content in contents.items():
        Path(files[image_id]).write_bytes(content)
    records = [image(image_id, content) for image_id, content in contents.items()]
    try:
        return Answer([], host.precache(images=records, files=files, min_free_space=0).error)
    except Exception:
        return Answer([], crash=traceback.format_exc(limit=-3))


def _check_precached(host: Host, answer: Answer, done: Sequence[Done | str]) -> Iterator[str]:
    """The image is whole, and the only thing that may fail is to mark as used what nova has removed meanwhile."""
    is_removed = any(isinstance(one, Done) and CACHED in one.removed for one in done)
    if answer.error is not None and not (is_removed and "was removed meanwhile" in answer.error):
        yield answer.error
    if (host.cache_path / UNKNOWN_TO_CACHE).read_bytes() != content_of(UNKNOWN_TO_CACHE):
        yield "the file that was pre-cached is not what nova makes of the image"


class _Beside:
    """An operation in a process of its own; it runs whole, or until it waits for the prune: for a lock or a lease.

    :param calls: the prune's calls so far.
    """

    def __init__(self, host: Host, operation: Operation, calls: Sequence[Call]) -> None:
        self.operation = operation
        self.begun_after = len(calls)
        context = multiprocessing.get_context("fork")
        self._connection, others = context.Pipe()

        def run() -> None:
            with ExitStack() as running:
                nova = Nova(host, lambda: others.send((False, nova.done)), running)
                try:
                    operation(nova)
                    others.send((True, nova.done))
                except Exception:
                    others.send((True, traceback.format_exc(limit=-3)))
                others.recv()

        self._process = context.Process(target=run)
        self._process.start()
        others.close()
        self._is_over, self._done = False, Done()
        # A process that opens a file on which the prune has a lease waits, and nothing reports that.
        if not _has_lease(calls) or self._connection.poll(LEASE_SECONDS):
            self._is_over, self._done = self._connection.recv()
        self.at_once = self._done if isinstance(self._done, Done) else Done()

    def wait(self) -> Done | str:
        """Return what the operation did; a text where nova itself failed."""
        while not self._is_over:
            self._is_over, self._done = self._connection.recv()
        return self._done

    def end(self) -> None:
        """Stop what the operation has started."""
        self._connection.send(None)
        self._process.join()


def _has_lease(calls: Sequence[Call]) -> bool:
    """Tell whether a file is leased: from that call on to the next one about another file."""
    return bool(calls) and Call("setlease", calls[-1].target) in calls


def _stamps(cache: int) -> Stamps:
    """The first bytes of each file of the cache, by its descriptor: its path may lead elsewhere by now."""
    directory = Path(f"/proc/self/fd/{cache}")
    return {path.name: _stamp(path) for path in directory.iterdir() if path.suffix != ".info"}


def _stamp(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(STAMP_BYTES)


def _check_result(host: Host, answer: Answer, stamps: tuple[Stamps, Stamps], done: Sequence[Done]) -> Iterator[str]:
    """What the result says was removed is what was removed, and nothing else."""
    before, left = stamps
    gone = {name for name, stamp in before.items() if left.get(name) != stamp}
    by_nova, made, freed = (
        {name for one in done for name in names(one)}
        for names in (lambda one: one.removed, lambda one: one.made, lambda one: one.freed)
    )
    if gone - by_nova != set(answer.removed):
        yield f"the result says that {answer.removed} were removed, and {sorted(gone - by_nova)} are gone"
    if not gone <= {*UNUSED, *by_nova, *freed}:
        yield f"files in use are gone: {sorted(gone - set(UNUSED))}"
    lost = sorted(name for name in made if not (host.cache_path / name).exists())
    if lost:
        yield f"files that were made meanwhile are gone: {lost}"


def _check_protected(answer: Answer, done: Done, later: Sequence[Call], has_leases: bool) -> Iterator[str]:
    """A file that was touched or opened before the prune looked at it the last time is kept."""
    for name in answer.removed:
        is_looked_at = ("open", f"instances/_base/{name}") in later
        is_known_to_be_open = ("open", PROCESSES) in later or (has_leases and is_looked_at)
        if is_looked_at and name in done.touched:
            yield f"{name} was removed, and had been touched before the prune looked at it"
        if is_looked_at and name in done.held:
            yield f"{name} was removed, and QEMU had it open before the prune looked at it"
        if is_known_to_be_open and name in done.opened:
            yield f"{name} was removed, and a process had it open before the prune looked for that"


def _check_disks(host: Host) -> list[str]:
    """QEMU opens every chain: those of the beginning, and those that nova made meanwhile."""
    return [f"{disk.relative_to(host.root)} does not open" for disk in sorted(disks(host)) if not opens(disk)]


def disks(host: Host) -> Iterator[Path]:
    return (path for path in host.instances_path.glob("*-*/disk*") if path.name != "disk.info")
