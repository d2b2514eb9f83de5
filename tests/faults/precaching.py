# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A pre-caching of two images in which one system call fails, or at which it dies; and what must hold after it."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.module import FetchResult
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.names import is_draft
from ansible_collections.stackops.nova.tests.faults.injection import KILL, Row
from ansible_collections.stackops.nova.tests.support.constants import BASE, IMAGE, OTHER_BASE, OTHER_IMAGE
from ansible_collections.stackops.nova.tests.support.file_systems import on_file_system
from ansible_collections.stackops.nova.tests.support.host import Host
from ansible_collections.stackops.nova.tests.support.image_server import ImageServer, Request, image
from ansible_collections.stackops.nova.tests.support.precaches import image as record
from ansible_collections.stackops.nova.tests.support.processes import in_a_child
from ansible_collections.stackops.nova.tests.support.strace import Call, calls_about, traced

# What images are looked at, written, proven and put in place with.
CALLS = (
    "openat",
    "newfstatat",
    "fstatfs",
    "getdents64",
    "fcntl",
    "ioctl",
    "ftruncate",
    "lseek",
    "read",
    "pread64",
    "write",
    "pwrite64",
    "fchown",
    "fchmod",
    "fsync",
    "linkat",
    "renameat",
    "unlinkat",
    "utimensat",
)
FAULTS = ("EIO", "ENOSPC", KILL)
# What pre-caching imports when it comes to it: here, so that each run makes the same calls.
for _room in ("fetching", "glance"):
    importlib.import_module(f"ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.{_room}")

SOURCES = ("file", "glance", "glance, converted")
Choose = Callable[[list[Call]], list[Call]]
_KIB = 1 << 10
_SIZE = 256 * _KIB
_NAMES = {IMAGE: BASE, OTHER_IMAGE: OTHER_BASE}
_FILE_SYSTEM_BYTES = 64 << 20


def rows(root: Path, source: str, fault: str, choose: Choose = list, edit: Callable[[], object] = dict) -> list[Row]:
    """Let each call of a pre-caching fail, on a file system in memory.

    :param root: an empty directory.
    :param source: where the images come from, of `SOURCES`.
    :param fault: of `FAULTS`.
    :param choose: picks some of the calls.
    :param edit: is done first, in the process that pre-caches.
    """

    def run(path: Path) -> list[Row]:
        edit()
        scene = Scene(path, source)
        return [scene.inject(call, fault) for call in choose(scene.trace())]

    return on_file_system("tmpfs", root, run, size=_FILE_SYSTEM_BYTES)


class Scene:
    """A host with an empty cache, and two images that it can have: of a file that was brought, or of a server.

    :param path: the root of a file system of its own.
    """

    def __init__(self, path: Path, source: str) -> None:
        self.host = Host(path)
        self._source = source
        self._log = path.parent / "strace"  # not on the file system whose space counts
        self._contents = {
            each: bytes([number]) * 64 * _KIB + os.urandom(128 * _KIB) for number, each in enumerate(_NAMES)
        }
        self._contents = {each: content.ljust(_SIZE, b"\0") for each, content in self._contents.items()}
        self._served = {each: self._as_served(content) for each, content in self._contents.items()}
        disk_format = "qcow2" if source == "glance, converted" else "raw"
        self._options: dict[str, Any] = {
            "images": [record(each, served, disk_format=disk_format) for each, served in self._served.items()],
            "min_free_space": 0,
        }
        if source == "file":
            self._options["files"] = {each: str(path.parent / each) for each in _NAMES}
            for each, served in self._served.items():
                (path.parent / each).write_bytes(served)

    def _as_served(self, content: bytes) -> bytes:
        if self._source != "glance, converted":
            return content
        raw, qcow2 = self._log.with_name("raw"), self._log.with_name("qcow2")
        raw.write_bytes(content)
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(qcow2)], check=True)
        return qcow2.read_bytes()

    def precache(self) -> FetchResult | str:
        """Pre-cache the images; a text where that is refused."""

        def serve(request: Request) -> Iterator[bytes]:
            return image(self._served[request.path.split("/")[3]])(request)

        options = dict(self._options)
        with ExitStack() as closing:
            if self._source != "file":
                options["glance"] = {"endpoint": closing.enter_context(ImageServer(serve)).origin}
            try:
                return self.host.precache(**options)
            except ImageCacheError as exc:
                return str(exc)

    def trace(self) -> list[Call]:
        """The calls on the tree that a pre-caching makes, in their order."""
        self._run(f"--trace={','.join(CALLS)}")
        calls = list(calls_about(self._log, CALLS, self.host.root))
        assert [self._state(each) for each in _NAMES] == ["whole", "whole"]
        return calls

    def inject(self, call: Call, fault: str) -> Row:
        """Let one call fail, see what is said and what is there, and let another run follow."""
        for path in [*self.host.cache_path.iterdir(), *self.host.locks_path.iterdir()]:
            path.unlink()
        unnamed_bytes = self._unnamed_bytes()
        how = "signal=KILL" if fault == KILL else f"error={fault}"
        answer = self._run(f"--trace={call.name}", f"--inject={call.name}:{how}:when={call.number}")
        states = {each: self._state(each) for each in _NAMES}
        wrong = [*self._wrong_of_files(states, fault), *self._wrong_of_answer(states, answer, fault)]
        if self._unnamed_bytes() != unnamed_bytes:
            wrong.append("space is lost")
        outcome = f"{[*states.values()]}: {answer if isinstance(answer, str | None) else answer.error}"
        return Row(call, fault, outcome.replace(str(self.host.root), ""), [*wrong, *self._wrong_of_next()])

    def _run(self, *options: str) -> FetchResult | str | None:
        """Pre-cache in a process that strace watches; None where it was killed."""
        with traced(self.precache, [f"--output={self._log}", *options]) as child:
            try:
                return child.answer.recv()
            except EOFError:
                return None

    def _state(self, image_id: str) -> str:
        """What is under the name of an image: all of its bytes, nothing, or what must not be."""
        try:
            content = (self.host.cache_path / _NAMES[image_id]).read_bytes()
        except FileNotFoundError:
            return "nothing"
        return "whole" if content == self._contents[image_id] else "broken"

    def _unnamed_bytes(self) -> int:
        """How much space is used that no name leads to."""
        space = os.statvfs(self.host.root)
        blocks = {status.st_ino: status.st_blocks for status in map(os.lstat, self.host.root.rglob("*"))}
        return (space.f_blocks - space.f_bfree) * space.f_frsize - sum(blocks.values()) * 512

    def _wrong_of_files(self, states: dict[str, str], fault: str) -> Iterator[str]:
        if "broken" in states.values():
            yield f"the files are {states}"
        known = {name for base in _NAMES.values() for name in (base, f"{base}.info")}
        drafts = {f".{base}.info.new" for base in _NAMES.values()}
        left = [name for name in self.host.cached() if name not in known]
        if fault != KILL and left:
            yield f"{left} is left"
        unknown = [name for name in left if name not in drafts and not is_draft(name)]
        if unknown:
            yield f"a second run does not know {unknown}"
        for base in _NAMES.values():
            info = self.host.cache_path / f"{base}.info"
            if info.exists() and "precached_at" not in json.loads(info.read_text()):
                yield f"{info.name} is not whole"

    def _wrong_of_answer(self, states: dict[str, str], answer: FetchResult | str | None, fault: str) -> Iterator[str]:
        if answer is None:
            if fault != KILL:
                yield "it ended without a word"
        elif isinstance(answer, str):
            if "whole" in states.values():
                yield f"it failed, and the files are {states}: {answer}"
        else:
            fetched = {each["image_id"] for each in answer.done["fetched"]}
            lacking = answer.done["failed"] + answer.done["refused"]
            if fetched != {each for each in states if states[each] == "whole"}:
                yield f"it says that {fetched} were fetched, and the files are {states}"
            if fetched | {each["image_id"] for each in lacking} != set(_NAMES):
                yield f"it says nothing of an image: {answer.done}"
            if any(each["image_id"] not in each.get("error", each.get("reason")) for each in lacking):
                yield f"a sentence names no image: {lacking}"
            if not fetched and len(answer.done["refused"]) < len(_NAMES):
                yield f"the other image was not fetched: {answer.done}"

    def _wrong_of_next(self) -> Iterator[str]:
        """Another run, in which nothing fails, finishes all."""
        answer = in_a_child(self.precache)
        if isinstance(answer, str) or answer.error or answer.warnings:
            yield f"the next run: {answer}"
        if [self._state(each) for each in _NAMES] != ["whole", "whole"]:
            yield "the next run did not fetch all"
        expected = sorted(name for base in _NAMES.values() for name in (base, f"{base}.info"))
        if self.host.cached() != expected:
            yield f"after the next run there is {self.host.cached()}"
