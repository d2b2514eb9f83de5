# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A prune in which one system call fails, or at which it dies, by `strace -e inject`; and what must hold after it."""

from __future__ import annotations

import functools
import json
import re
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.stackops.nova.plugins.module_utils.image_cache import hashing, snapshot
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.open_files import find_open_files
from ansible_collections.stackops.nova.tests.support.host import DAY, Host
from ansible_collections.stackops.nova.tests.support.processes import in_a_child
from ansible_collections.stackops.nova.tests.support.strace import Call, calls_about, traced

CALLS = (
    "openat",
    "read",
    "pread64",
    "readv",
    "write",
    "newfstatat",
    "statfs",
    "getdents64",
    "fcntl",
    "linkat",
    "fchmod",
    "fchown",
    "unlinkat",
    "renameat",
    "fsync",
    "utimensat",
)
KILL = "KILL"
FAULTS = ("EIO", "EACCES", "ENOENT", "ESTALE", "ENOSPC", "EROFS", KILL)

USED, USED_TOO, YOUNG = (f"{digit * 40}" for digit in "abc")
UNUSED = ["1" * 40, "2" * 40 + ".part", "ephemeral_1_0706d66", "swap_1"]
INSTANCES = ("9b29f995-642c-4e6b-a0bb-6fcc0f7fc924", "374bb3d3-6ec9-4e2c-a69f-289ba09f7e1e")
IMAGE = "7a1b7f0c-6f3e-4f6e-9a3b-0d8a2b1c4d5e"


class Answer(NamedTuple):
    """What a pass said: its result, or the error of ours that it ended with, or neither where it was killed.

    :param crash: an error that is none of ours.
    """

    done: dict[str, Any] | None = None
    error: str | None = None
    warnings: tuple[str, ...] = ()
    crash: str | None = None


class Row(NamedTuple):
    """A fault and what came of it.

    :param call: the call that failed, None where it was none on the tree.
    :param wrong: what must not be.
    """

    call: Call | None
    fault: str
    outcome: str
    wrong: list[str]


def trace(root: Path) -> Iterator[Call]:
    """The calls that a pass makes on a tree, in their order."""
    with _Pass(root / "dry") as one:
        one.run([f"--trace={','.join(CALLS)}"])
        yield from one.calls()


def inject(root: Path, call: Call, fault: str) -> Row:
    """Let one call of a pass fail, see what it says and what it did, and let another pass follow."""
    with _Pass(root / "fault") as one:
        how = "signal=KILL" if fault == KILL else f"error={fault}"
        answer = one.run([f"--trace={call.name}", f"--inject={call.name}:{how}:when={call.number}"])
        # Another call than was meant if what a pass reads has changed: a pass reads the mounts of this machine.
        hit = next((one_call for one_call in one.calls() if one_call.number == call.number), None)
        gone = one.gone()
        # An info file is removed after its base file, so it is left if its removal fails or the pass dies in between.
        info = f"{UNUSED[0]}.info"
        is_info = hit is not None and (hit.name, hit.target) == ("unlinkat", f"instances/_base/{info}")
        left = {info} if fault == KILL or is_info else set()
        wrong = [*_check(answer, gone, fault), *one.check_untouched(), *one.check_next(_EXPECTED | left)]
    must_name = hit is not None and fault not in ("ENOENT", KILL) and not wrong and not _says_all_is_well(answer)
    if must_name and not _names(hit, answer):
        wrong.append(f"nothing that was said names {hit.target}")
    return Row(hit, fault, _outcome(answer, gone).replace(str(root), ""), wrong)


def _says_all_is_well(answer: Answer) -> bool:
    return answer.error is None and not answer.warnings and answer.done["removed"] == UNUSED


def _names(call: Call, answer: Answer) -> bool:
    """Return whether an answer names what a call was about: the file itself, or the base file that it belongs to."""
    entries = [answer.done["kept"], answer.done["failed"]] if answer.done else []
    said = json.dumps([answer.error, answer.warnings, entries])
    directory, _slash, name = call.target.rpartition("/")
    base_file = re.sub(r"^\.?(nova-(hash-|info-)?)?|(\.info|\.sha1|\.new)+$", "", name)
    a_lock = call.target == "instances/locks" and "nova-" in said
    an_info_file = call.target == "instances/_base" and "info file" in said
    return call.target in said or (directory != "" and base_file in said) or a_lock or an_info_file


def _check(answer: Answer, gone: list[str], fault: str) -> list[str]:
    if not set(gone) <= set(UNUSED):
        return [f"more files were removed than were planned: {gone}"]
    if answer.crash is not None:
        return [f"the pass crashed, and {gone} were removed"]
    if answer == Answer():
        return [] if fault == KILL else ["the pass ended without a word"]
    if answer.done is None:
        return [f"the pass failed, and {gone} were removed: {answer.error}"] if gone else []
    wrong = []
    if answer.done["removed"] != gone:
        wrong.append(f"{answer.done['removed']} are reported as removed, and {gone} were removed")
    reported = {*gone, *(file["name"] for file in answer.done["kept"] + answer.done["failed"])}
    if fault != "ENOENT" and not reported >= set(UNUSED) and answer.error is None:  # a missing file needs no report
        wrong.append(f"the result has no reason why {sorted(set(UNUSED) - reported)} were kept")
    return wrong


def _outcome(answer: Answer, gone: list[str]) -> str:
    count = f"{len(gone)} of {len(UNUSED)} removed"
    if answer.crash is not None:
        return f"crashed, {count}: {answer.crash}"
    if answer == Answer():
        return f"killed, {count}"
    if answer.done is None:
        return f"refused, {count}: {answer.error}"
    kept = "".join(f"; {file['name']}: {file['reason']}" for file in answer.done["kept"])
    said = "".join(f"; {sentence}" for sentence in (answer.error, *answer.warnings) if sentence)
    return f"{count}{kept}{said}"


class _Pass:
    """A host with something of everything, and a pass on it in a process that strace watches."""

    def __init__(self, root: Path) -> None:
        _warm_up()
        self._root = root
        self._log = root / "strace"
        self._host = _make_host(root)
        self._before = self._pictures()

    def __enter__(self) -> _Pass:
        return self

    def __exit__(self, *_exception: object) -> None:
        shutil.rmtree(self._root)

    def run(self, options: list[str]) -> Answer:
        with traced(lambda: _prune(self._host), [f"--output={self._log}", *options]) as child:
            try:
                return child.answer.recv()
            except EOFError:
                return Answer()

    def calls(self) -> Iterator[Call]:
        return calls_about(self._log, CALLS, self._root)

    def gone(self) -> list[str]:
        return sorted(name for name in UNUSED if not (self._host.cache_path / name).exists())

    def check_untouched(self) -> list[str]:
        """What the plan has nothing to do with is as it was; a base file in use may have been touched."""
        now = self._pictures()
        return [f"{name} is not as it was" for name in self._before if now.get(name) != self._before[name]]

    def check_next(self, expected: set[str]) -> list[str]:
        """Another pass, in which nothing fails, finishes all: of the cache, only what is expected is left."""
        answer = in_a_child(lambda: _prune(self._host))
        if answer.error is not None or answer.warnings or answer.done is None:
            return [f"the next pass: {answer}"]
        wrong = []
        if self.gone() != UNUSED:
            wrong.append(f"the next pass left {sorted(set(UNUSED) - set(self.gone()))}")
        for name in (USED, USED_TOO):
            facts = json.loads((self._host.cache_path / f"{name}.info").read_text())
            if facts["sha1-timestamp"] != self._host.now:
                wrong.append(f"the next pass did not verify {name}")
        left = [name for name in self._host.cached() if name not in expected]
        # A lock file may be left, as it is where another process may wait on it.
        left += [path.name for path in self._host.locks_path.iterdir() if path.stat().st_size > 0]
        return [*wrong, f"after the next pass there is {left}"] if left else wrong

    def _pictures(self) -> dict[str, object]:
        """All files but those that a pass may write or remove."""
        found = {}
        for path in self._host.root.rglob("*"):
            is_ours = path.name in UNUSED or path.suffix in (".info", ".new", ".sha1") or path.parent.name == "locks"
            if path.is_file() and path != self._log and not (is_ours and path.name != "disk.info"):
                found[str(path)] = (path.stat().st_ino, path.read_bytes())
        return found


_OPTIONS = {"libvirt": True, "checksum_base_images": True, "checksum_interval_seconds": 0, "details": "names"}
_EXPECTED = {USED, USED_TOO, YOUNG, f"{USED}.info", f"{USED_TOO}.info"}


def _make_host(root: Path) -> Host:
    host = Host(root)
    for name in (USED, USED_TOO, *UNUSED):
        host.base(name, age=3 * DAY, size=64 * 1024, content=name.encode())
    host.base(YOUNG)
    host.instance(INSTANCES[0], {"disk": USED})
    host.instance(INSTANCES[1], {"disk": USED_TOO})
    host.instance(f"{INSTANCES[1]}_resize", {"disk": USED_TOO})
    host.domain_xml(INSTANCES[0], "instance-00000001", IMAGE)
    host.domain_xml(INSTANCES[1], "instance-00000002", IMAGE)
    host.compute_nodes({"vm": host.now})
    host.lock_file(USED)
    host.lock_file(UNUSED[0])
    for name in (USED, UNUSED[0]):
        (host.cache_path / f"{name}.info").write_text(json.dumps({"other": 1}))
    return host


@functools.cache
def _warm_up() -> None:
    """Load what a pass loads, so that no pass does it again."""
    with tempfile.TemporaryDirectory() as root:
        _make_host(Path(root)).prune(**_OPTIONS)


def _prune(host: Host) -> Answer:
    """A pass whose calls are the same ones each time: in one thread, without the processes of this machine.

    For a process of its own: what is changed here is not restored.
    """
    hashing.thread_count = lambda _items: 1
    hashing.run_at_idle_priority = lambda work, _run_command: work()
    snapshot.find_open_files = lambda names, directory: find_open_files(
        names, str(host.root / "proc"), directory=directory
    )
    (host.root / "proc").mkdir(exist_ok=True)
    try:
        result = host.prune(**_OPTIONS)
    except ImageCacheError as exc:
        return Answer(error=str(exc))
    except Exception:
        return Answer(crash=traceback.format_exc(limit=-2))
    return Answer(result.done, result.error, tuple(result.warnings))
