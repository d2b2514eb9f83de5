# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever fails while a base file is restored, and wherever the restore dies: the file is whole or not there, the
space is free again, the other files are restored, and the next run finishes all."""

from __future__ import annotations

import os
import shutil
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import dropwhile
from multiprocessing import get_context
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache import snapshot
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch import place, placing, restoring
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.module import FetchResult
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.names import is_draft, set_aside_of
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.open_files import find_open_files
from ansible_collections.stackops.nova.tests.interleavings.operations import NEW, Nova
from ansible_collections.stackops.nova.tests.support.file_systems import on_file_system, without_nameless_files
from ansible_collections.stackops.nova.tests.support.guests import needs_qemu, running_guest
from ansible_collections.stackops.nova.tests.support.host import Host, create_image, opens
from ansible_collections.stackops.nova.tests.support.processes import in_a_child, start_child
from ansible_collections.stackops.nova.tests.support.strace import Call, calls_about, traced
from ansible_collections.stackops.nova.tools.cache_tree import fingerprint

pytestmark = needs_qemu

# What a file is put in place with.
CALLS = (
    "openat",
    "fcntl",
    "ioctl",
    "ftruncate",
    "lseek",
    "copy_file_range",
    "pread64",
    "pwrite64",
    "fsetxattr",
    "fchown",
    "fchmod",
    "fsync",
    "linkat",
    "renameat",
    "unlinkat",
)
KILL = "KILL"
FAULTS = ("EIO", "ENOSPC", "EACCES", KILL)
# Names of its own: other audits take what has a mount of its own to be seen from a container.
UUID, OTHER_UUID = str(uuid.uuid4()), str(uuid.uuid4())
BASE, OTHER_BASE = fingerprint(UUID), fingerprint(OTHER_UUID)
CONTENTS = {BASE: os.urandom(200_000), OTHER_BASE: os.urandom(200_000)}
SIZE = 1 << 20
OTHER = b"another".ljust(SIZE, b"\0")


class NovaOfTheScene(Nova):
    """nova, which makes what it is given of an image.

    :param made: the bytes.
    """

    def __init__(self, host: Host, blocked: Callable[[], None], running: ExitStack, made: bytes) -> None:
        super().__init__(host, blocked, running)
        self._made = made

    def fetch(self, name: str) -> None:
        draft = self.host.cache_path / f"{name}.part"
        draft.write_bytes(self._made)
        draft.rename(self.host.cache_path / name)


class Scene:
    """A host with two missing base files that two guests have open, and whatever a restore may leave there."""

    def __init__(self, path: Path, is_replaced: bool, closing: ExitStack) -> None:
        self.host = Host(path)
        self.is_replaced = is_replaced
        self._log = path.parent / "strace"  # not on the file system whose space counts
        proc = path / "proc"
        proc.mkdir()
        for name, instance in ((BASE, UUID), (OTHER_BASE, OTHER_UUID)):
            base = self.host.base(name, content=CONTENTS[name], size=SIZE)
            (self.host.instances_path / instance).mkdir()
            disk = create_image(self.host.instances_path / instance / "disk", over=base, over_format="raw")
            guest = closing.enter_context(running_guest(disk, base))
            (proc / str(guest.pid)).symlink_to(f"/proc/{guest.pid}")
        # Without the processes of this machine, the calls are the same ones each time.
        snapshot.find_open_files = lambda names, directory: find_open_files(names, str(proc), directory=directory)
        restoring.users_of_inode = lambda *_arguments: []
        self.reset()
        self.restore()  # so that all is loaded
        self.reset()

    def reset(self) -> None:
        """Lose the base files again."""
        for path in self.host.cache_path.iterdir():
            path.unlink()
        shutil.rmtree(self.host.instances_path / NEW, ignore_errors=True)
        for name in CONTENTS if self.is_replaced else ():
            self.host.base(name, content=OTHER)
        self._log.write_text("")

    def restore(self) -> FetchResult | str:
        try:
            return self.host.restore(states=["missing", "replaced"])
        except ImageCacheError as exc:
            return str(exc)

    def run(self, *options: str) -> FetchResult | str | None:
        """Restore in a process that strace watches; None where it was killed."""
        with traced(self.restore, [f"--output={self._log}", *options]) as child:
            try:
                return child.answer.recv()
            except EOFError:
                return None

    def run_beside(self, call: Call, operation: Callable[[NovaOfTheScene], None], made: bytes) -> FetchResult | str:
        """Restore, and have nova do something whole after a call, or until it waits for the restore."""
        options = [f"--trace={call.name}", f"--inject={call.name}:signal=STOP:when={call.number}"]
        with traced(self.restore, options) as child:
            for line in child.log:
                if line.startswith("--- stopped by SIGSTOP"):
                    finish = self._begin(operation, made)
                    os.kill(child.process, signal.SIGCONT)
                    finish()
            return child.answer.recv()

    def _begin(self, operation: Callable[[NovaOfTheScene], None], made: bytes) -> Callable[[], object]:
        """Come back when an operation is over or waits; what comes back waits until it is over."""
        may_go_on = get_context("fork").Event()

        def run() -> None:
            try:
                with ExitStack() as closing:
                    operation(NovaOfTheScene(self.host, may_go_on.set, closing, made))
            finally:
                may_go_on.set()

        finish = start_child(run)
        may_go_on.wait()
        return finish

    def calls(self) -> Iterator[Call]:
        """What was done in the cache directory and to nova's locks since the first draft was made."""
        calls = calls_about(self._log, CALLS, self.host.root)
        since_first_draft = dropwhile(lambda call: not call.target.startswith("instances/_base/."), calls)
        return (call for call in since_first_draft if call.target.startswith(("instances/_base", "instances/locks")))

    def free(self) -> tuple[int, int]:
        space = os.statvfs(self.host.root)
        return space.f_bfree, space.f_ffree

    def state(self, name: str) -> str:
        """What is under a name: the right bytes, the other file that was there before, nothing, or what must not be."""
        try:
            content = (self.host.cache_path / name).read_bytes()
        except FileNotFoundError:
            return "nothing"
        if content == CONTENTS[name].ljust(SIZE, b"\0"):
            return "whole"
        return "other" if content == OTHER else "broken"


def wrong_after(scene: Scene, fault: str, answer: FetchResult | str | None, free: tuple[int, int]) -> Iterator[str]:
    """What must not be after a fault, and after the run that follows it."""
    states = {name: scene.state(name) for name in CONTENTS}
    unrestored = "other" if scene.is_replaced else "nothing"
    if set(states.values()) - {"whole", unrestored}:
        yield f"the files are {states}"
    unknown = [name for name in scene.host.cached() if name not in CONTENTS and not is_ours(name)]
    if unknown:
        yield f"a second run does not know {unknown}"
    if fault != KILL and any(is_draft(name) for name in scene.host.cached()):
        yield "a draft is left"
    if answer is None:
        if fault != KILL:
            yield "it ended without a word"
    elif isinstance(answer, FetchResult):
        done = answer.done
        if {file["name"] for file in done["restored"]} != {name for name in states if states[name] == "whole"}:
            yield f"it says that {done['restored']} were restored, and the files are {states}"
        reported = {file["name"] for kind in ("restored", "failed", "refused") for file in done[kind]}
        if reported != set(CONTENTS):
            yield f"the result has nothing of {set(CONTENTS) - reported}"
        if "whole" not in states.values():
            yield f"the other file was not restored: {done}"
    if "whole" not in states.values() and not scene.is_replaced and scene.free() < free:
        yield "space is lost"
    again = in_a_child(scene.restore)
    if [scene.state(name) for name in CONTENTS] != ["whole", "whole"] or again.error:
        yield f"the next run: {again}"
    left = [name for name in scene.host.cached() if name not in CONTENTS and set_aside_of(name) is None]
    if left:
        yield f"after the next run there is {left}"
    if scene.is_replaced and len(scene.host.cached()) != 4:
        yield f"each file is set aside once: {scene.host.cached()}"


def is_ours(name: str) -> bool:
    return is_draft(name) or set_aside_of(name) is not None


def all_faults(path: Path, fault: str, is_replaced: bool, edit: Callable[[], object] = dict) -> list[str]:
    """Let each call with which the first file is put in place fail; return what went wrong."""
    edit()
    found = []
    with ExitStack() as closing:
        scene = Scene(path, is_replaced, closing)
        scene.run(f"--trace={','.join(CALLS)}")
        calls = list(scene.calls())
        names = {call.name for call in calls}
        assert {"openat", "ioctl", "copy_file_range", "fchown", "fsync", "linkat"} <= names
        assert is_replaced == ("renameat" in names)
        for call in calls:
            scene.reset()
            free = scene.free()
            how = "signal=KILL" if fault == KILL else f"error={fault}"
            answer = scene.run(f"--trace={call.name}", f"--inject={call.name}:{how}:when={call.number}")
            found += [f"{call}: {wrong}" for wrong in wrong_after(scene, fault, answer, free)]
    return found


@pytest.mark.parametrize("is_replaced", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_each_call_may_fail_and_no_file_is_broken(tmp_path: Path, fault: str, is_replaced: bool) -> None:
    found = on_file_system("tmpfs", tmp_path, lambda path: all_faults(path, fault, is_replaced), size=64 << 20)
    assert found == []


@pytest.mark.parametrize("fault", ["EIO", KILL])
def test_draft_with_a_private_name_is_removed_by_the_next_run(tmp_path: Path, fault: str) -> None:
    def run(path: Path) -> list[str]:
        return all_faults(path, fault, False, without_nameless_files)

    found = on_file_system("tmpfs", tmp_path, run, size=64 << 20)
    # Its space is free again after the next run. While a draft cannot be removed, it is left.
    assert [wrong for wrong in found if "space is lost" not in wrong and "unlinkat" not in wrong] == []


def test_name_comes_after_the_bytes_and_is_synced(tmp_path: Path) -> None:
    def run(path: Path) -> list[str]:
        with ExitStack() as closing:
            scene = Scene(path, False, closing)
            scene.run(f"--trace={','.join(CALLS)}")
            calls = [call for call in scene.calls() if call.name in ("copy_file_range", "fsync", "linkat")]
            return [f"{call.name} {'directory' if call.target.endswith('_base') else 'file'}" for call in calls]

    one = ["copy_file_range file", "fsync file", "linkat file", "fsync directory"]
    calls = on_file_system("tmpfs", tmp_path, run, size=64 << 20)
    assert [call for number, call in enumerate(calls) if call not in calls[number - 1 : number]] == one * 2


def cache_image(nova: NovaOfTheScene) -> None:
    if not (nova.host.cache_path / BASE).exists():
        nova.fetch(BASE)


def spawn(nova: NovaOfTheScene) -> None:
    nova.path(NEW).mkdir()
    nova.make_disk(nova.path(NEW) / "disk", BASE)


def wrong_beside(scene: Scene, made: bytes, answer: FetchResult | str) -> Iterator[str]:
    """What must not be after nova has made the file while it was restored."""
    states = {name: scene.state(name) for name in CONTENTS}
    if states[OTHER_BASE] != "whole" or states[BASE] not in ("whole", "other" if made == OTHER else "whole"):
        yield f"the files are {states}"
    if not isinstance(answer, FetchResult):
        yield answer
        return
    refused = [file["name"] for file in answer.done["refused"]]
    if refused != ([BASE] if states[BASE] == "other" else []) or answer.done["failed"]:
        yield f"it says {answer}"
    if scene.host.cached() != sorted(CONTENTS):
        yield f"there is {scene.host.cached()}"
    disk = scene.host.instances_path / NEW / "disk"
    if disk.exists() and not opens(disk):
        yield "the disk of nova's new guest does not open"


@pytest.mark.parametrize("operation", [cache_image, spawn])
@pytest.mark.parametrize("is_same", [True, False], ids=["same bytes", "other bytes"])
def test_nova_that_makes_the_file_after_any_call_and_the_restore_harm_neither(
    tmp_path: Path, operation: Callable[[NovaOfTheScene], None], is_same: bool
) -> None:
    made = CONTENTS[BASE].ljust(SIZE, b"\0") if is_same else OTHER

    def run(path: Path) -> tuple[list[str], set[str]]:
        found, states = [], set()
        with ExitStack() as closing:
            scene = Scene(path, False, closing)
            scene.run(f"--trace={','.join(CALLS)}")
            for call in list(scene.calls()):
                scene.reset()
                answer = scene.run_beside(call, operation, made)
                states.add(scene.state(BASE))
                found += [f"{call}: {wrong}" for wrong in wrong_beside(scene, made, answer)]
        return found, states

    found, states = on_file_system("tmpfs", tmp_path, run, size=64 << 20)
    assert found == []
    assert states == ({"whole"} if is_same else {"whole", "other"})


def publish_before_it_is_whole() -> None:
    """As nova does: the name comes first."""
    new_draft = place.new_draft

    def new_draft_with_name(cache: int, name: str) -> object:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=cache))
        return new_draft(cache, name)

    restoring.new_draft = new_draft_with_name


def rename_before_the_other_is_ready() -> None:
    """As a simple exchange does: for a moment, no file has the name."""

    def exchange(draft: place.Draft, name: str, _expected: object, aside: str) -> None:
        os.rename(name, aside, src_dir_fd=draft.cache, dst_dir_fd=draft.cache)
        place.publish(draft, name)

    placing.exchange = exchange


@pytest.mark.parametrize(
    ("edit", "is_replaced"), [(publish_before_it_is_whole, False), (rename_before_the_other_is_ready, True)]
)
def test_careless_restore_is_found_out(tmp_path: Path, edit: Callable[[], object], is_replaced: bool) -> None:
    def run(path: Path) -> list[str]:
        try:
            return all_faults(path, KILL, is_replaced, edit)
        except AssertionError as exc:
            return [str(exc)]

    assert on_file_system("tmpfs", tmp_path, run, size=64 << 20) != []
