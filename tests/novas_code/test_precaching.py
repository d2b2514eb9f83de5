# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An image is pre-cached while nova's own code fetches it: the file is whole, and neither of the two fails."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch import fetching, saving
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.module import FetchResult
from ansible_collections.stackops.nova.tests.support.constants import BASE, IMAGE
from ansible_collections.stackops.nova.tests.support.host import Host, opens
from ansible_collections.stackops.nova.tests.support.precaches import image
from ansible_collections.stackops.nova.tests.support.processes import has_open, wait_until

PYTHON = os.environ["NOVA_PYTHON"]
SECONDS = 120

# Before which of its steps nova waits; at first it has not begun.
NOT_BEGUN = "not begun"
STEPS = (NOT_BEGUN, "download", "go on with the download", "convert", "rename")
# Before which call of a pre-caching nova goes on; at last, when the pre-caching is over.
LOCKING, LOCKED, SAVING, OVER = "hold_novas_lock", "publish", "save_info", "over"
MOMENTS = ("new_draft", "make_raw", "finish", LOCKING, LOCKED, SAVING, OVER)


class Nova:
    """A process with nova's own code that does one operation after another.

    :param operation: of `stepwise.OPERATIONS`.
    """

    def __init__(self, process: subprocess.Popen[str], operation: str, lock: Path) -> None:
        self._process = process
        self._operation = operation
        self._lock = lock
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.strip())

    def _say(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text)
        self._process.stdin.flush()

    def go_to(self, step: str) -> None:
        """Begin, and stop before a step."""
        if step != NOT_BEGUN:
            self._say(f"{self._operation}\n")
            while (reached := self._lines.get(timeout=SECONDS)) != step:
                assert reached in STEPS
                self._say("\n")

    def go_on(self, step: str) -> None:
        """Go on from before a step, and stop no more."""
        begin = f"{self._operation}\n" if step == NOT_BEGUN else ""
        self._say(begin + "\n" * len(STEPS))

    def wait_for_lock(self) -> None:
        wait_until(lambda: has_open(self._process.pid, self._lock))

    def finish(self) -> None:
        """Wait for the end."""
        while (line := self._lines.get(timeout=SECONDS)) != "done":
            assert line in STEPS, line


@contextmanager
def nova_of(host: Host, operation: str) -> Iterator[Nova]:
    command = [PYTHON, str(Path(__file__).with_name("stepwise.py")), str(host.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Nova(process, operation, host.locks_path / f"nova-{BASE}")
        finally:
            process.kill()


def precaching_of(host: Host) -> Callable[[], FetchResult]:
    """Pre-caches the image that nova fetches."""
    path = host.root / "image.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "2M"], check=True)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -q -P 1 0 2M", str(path)], check=True)
    record = image(IMAGE, path.read_bytes(), disk_format="qcow2")
    return lambda: host.precache(images=[record], files={IMAGE: str(path)}, min_free_space=0)


def before(moment: str, act: Callable[[], object], patch: pytest.MonkeyPatch) -> None:
    """Do something just before a pre-caching calls a function for the first time."""
    module = saving if moment == SAVING else fetching
    function = getattr(module, moment)
    is_over = False

    def act_and_call(*arguments: Any, **options: Any) -> Any:
        nonlocal is_over
        if not is_over:
            is_over = True
            act()
        return function(*arguments, **options)

    patch.setattr(module, moment, act_and_call)


def empty(host: Host) -> None:
    """Leave no file in the cache, and no server."""
    for path in host.cache_path.iterdir():
        path.unlink()
    for path in host.instances_path.glob("*-*"):
        shutil.rmtree(path)


@pytest.mark.parametrize("operation", ["cache_image", "spawn"])
def test_image_that_nova_fetches_at_the_same_time_is_whole(
    tmp_path: Path, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(tmp_path)
    precache = precaching_of(host)
    takes_lock = operation == "spawn"
    with nova_of(host, operation) as nova:
        nova.go_on(NOT_BEGUN)
        nova.finish()
        made_by_nova = (host.cache_path / BASE).read_bytes()
        for step in STEPS:
            for moment in MOMENTS:
                has_lock = takes_lock and step != NOT_BEGUN
                if has_lock and MOMENTS.index(moment) > MOMENTS.index(LOCKING):
                    continue  # a pre-caching does not come that far before nova goes on
                empty(host)
                nova.go_to(step)

                def go_on(step: str = step, moment: str = moment, has_lock: bool = has_lock) -> None:
                    nova.go_on(step)
                    if takes_lock and moment == LOCKED:
                        nova.wait_for_lock()
                    elif not (has_lock and moment == LOCKING):
                        nova.finish()

                with monkeypatch.context() as patch:
                    if moment != OVER:
                        before(moment, go_on, patch)
                    result = precache()
                if moment == OVER:
                    go_on()
                elif takes_lock and (moment == LOCKED or (has_lock and moment == LOCKING)):
                    nova.finish()

                at = f"nova before {step!r} until {moment!r}"
                assert result.error is None, at
                assert [each["name"] for each in result.done["fetched"] + result.done["present"]] == [BASE], at
                assert (host.cache_path / BASE).read_bytes() == made_by_nova, at
                assert host.cached() == [BASE, f"{BASE}.info"], at
                assert all(map(opens, host.instances_path.glob("*/disk"))), at
                assert len(list(host.instances_path.glob("*/disk"))) == takes_lock, at
                assert precache().done["present"] != [], at
