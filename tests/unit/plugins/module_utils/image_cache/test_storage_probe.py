# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Storage that does not answer fails the pass in time, by the name of the path."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.storage_probe import (
    require_answer,
    unanswered_path,
)
from ansible_collections.stackops.nova.tests.support.host import Host, picture
from ansible_collections.stackops.nova.tests.support.processes import (
    mount_silent_fuse,
    needs_fuse,
    with_own_mounts,
)
from ansible_collections.stackops.nova.tests.support.run_module import collections_path


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


LONG = 600  # no test waits for it
ENOUGH = 5  # for what answers, however busy the machine


def hanging_at(path: str, say: Callable[[], object] = lambda: None) -> Callable[[str], None]:
    """A look that never ends at one path."""

    def look(looked_at: str) -> None:
        if looked_at == path:
            say()
            time.sleep(LONG)

    return look


class TestPaths:
    def test_paths_that_answer_are_no_reason_to_fail(self, tmp_path: Path) -> None:
        assert unanswered_path([str(tmp_path), "/", str(tmp_path / "none")], LONG) is None
        assert unanswered_path([], LONG) is None
        require_answer([str(tmp_path / "none")], LONG)

    @pytest.mark.parametrize(("path", "seconds"), [("one", 0.2), ("three", ENOUGH)])
    def test_first_path_that_does_not_answer_is_named_when_the_time_is_over(self, path: str, seconds: float) -> None:
        begin = time.monotonic()
        assert unanswered_path(["one", "two", "three"], seconds, hanging_at(path)) == path
        assert seconds <= time.monotonic() - begin < LONG

    def test_error_of_a_path_is_an_answer(self) -> None:
        def look(path: str) -> None:
            raise PermissionError(path)

        assert unanswered_path(["one", "two"], LONG, look) is None

    def test_look_that_ends_early_is_no_answer(self) -> None:
        def look(path: str) -> None:
            if path == "two":
                os.kill(os.getpid(), signal.SIGKILL)

        with pytest.raises(ImageCacheError, match="ended early"):
            unanswered_path(["one", "two"], LONG, look)


class TestProcess:
    def test_process_that_hangs_is_killed(self, tmp_path: Path) -> None:
        said = tmp_path / "pid"
        assert unanswered_path(["one"], ENOUGH, hanging_at("one", lambda: said.write_text(str(os.getpid())))) == "one"
        _pid, status = os.waitpid(int(said.read_text()), 0)
        assert os.WTERMSIG(status) == signal.SIGKILL

    def test_process_that_answers_leaves_none_behind(self, tmp_path: Path) -> None:
        said = tmp_path / "pid"
        assert unanswered_path(["one"], LONG, lambda _path: said.write_text(str(os.getpid()))) is None
        with pytest.raises(ChildProcessError):
            os.waitpid(int(said.read_text()), 0)

    def test_process_holds_none_of_the_files_for_which_ansible_would_wait(self, tmp_path: Path) -> None:
        said = tmp_path / "open"

        def look(_path: str) -> None:
            said.write_text("".join(f"{os.fstat(number).st_ino}\n" for number in range(256) if is_open(number)))

        reader, writer = os.pipe()
        assert unanswered_path(["one"], LONG, look) is None
        inherited = {os.fstat(descriptor).st_ino for descriptor in (reader, writer)}
        os.close(reader)
        os.close(writer)
        [own_pipe] = said.read_text().split()
        assert int(own_pipe) not in inherited

    def test_buffered_output_is_written_once(self, tmp_path: Path) -> None:
        code = (
            "import sys\n"
            f"from {unanswered_path.__module__} import unanswered_path\n"
            "sys.stdout.write('once')\n"
            f"unanswered_path([{str(tmp_path)!r}], 600)\n"
        )
        environment = {**os.environ, "PYTHONPATH": collections_path()}
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, timeout=LONG, env=environment
        )
        assert done.stdout == b"once"


@needs_fuse
class TestFileServerThatNeverAnswers:
    """A real mount, whose server takes requests and never answers, as a dead NFS server does."""

    @pytest.mark.parametrize(
        ("where", "seconds", "operation"),
        [
            ("instances", 1, Host.audit),
            ("instances", 1, partial(Host.prune, check_mode=True)),
            ("instances", 1, Host.prune),
            ("instances/_base", ENOUGH, Host.audit),
            ("instances/locks", ENOUGH, Host.audit),
        ],
        ids=["audit", "dry run", "prune", "cache", "locks"],
    )
    def test_pass_fails_in_time_and_names_the_path(
        self, host: Host, where: str, seconds: int, operation: Callable[..., object]
    ) -> None:
        path = host.root / where
        before = picture(host.root)

        def run() -> str:
            with mount_silent_fuse(path), pytest.raises(ImageCacheError) as error:
                operation(host, storage_timeout_seconds=seconds)
            return str(error.value)

        message = with_own_mounts(run)
        assert message.startswith(
            f"The storage of {path} does not answer: a look at it had not ended after {seconds} s "
            "(storage_timeout_seconds). Nothing was removed on this host, and other hosts go on."
        )
        assert picture(host.root) == before


@pytest.mark.parametrize("seconds", [0, -1, 86401, 1 << 70])
def test_invalid_time_limit_is_refused(host: Host, seconds: int) -> None:
    with pytest.raises(ImageCacheError, match="storage_timeout_seconds must be from 1 to 86400 seconds"):
        host.audit(storage_timeout_seconds=seconds)
