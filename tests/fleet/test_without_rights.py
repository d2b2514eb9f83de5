# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A play whose operator forgot `become` fails on each host, removes nothing, and says what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import ComputeFleet, names
from ansible_collections.stackops.nova.tests.support.processes import NOBODY

AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


def _python_of_nobody() -> str | None:
    """The tests' own Python may lie where other users cannot go, as below /root."""
    for path in (sys.executable, "/usr/bin/python3"):
        command = [*AS_NOBODY, "/bin/sh", "-c", 'exec "$0" -c "import json"', path]
        if subprocess.run(command, cwd="/", capture_output=True, check=False).returncode == 0:
            return path
    return None


PYTHON = _python_of_nobody() if os.geteuid() == 0 and shutil.which("setpriv") else None
pytestmark = pytest.mark.skipif(PYTHON is None, reason="takes root, setpriv and a Python that other users can run")


@pytest.fixture
def unprivileged() -> Iterator[ComputeFleet]:
    """A fleet of two hosts, to whose trees each user can look. On the first one, Ansible is such a user."""
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        fleet = ComputeFleet(Path(root))
        shell = fleet.root / "shell"
        shell.write_text(f'#!/bin/sh\ncd /\nexec {" ".join(AS_NOBODY)} /bin/sh "$@"\n')
        shell.chmod(0o755)
        fleet.add(
            "a",
            ansible_shell_executable=str(shell),
            ansible_python_interpreter=PYTHON,
            ansible_pipelining=True,
            ansible_remote_tmp=tempfile.gettempdir(),
        )
        fleet.add("b")
        yield fleet


@pytest.mark.slow
@pytest.mark.parametrize("hidden", ["libvirt", "instances/_base", "instances/locks", "instances"])
def test_host_without_become_fails_with_the_remedy_and_the_others_go_on(
    unprivileged: ComputeFleet, hidden: str
) -> None:
    directory = unprivileged.root / "a" / hidden
    directory.mkdir(exist_ok=True)
    directory.chmod(0o700)
    run = unprivileged.prune()
    assert (run.failed, run.changed) == ({"a"}, {"b"}), run.output
    assert unprivileged.cached("a") == names("image-a", "unused-a")
    assert str(directory) in run.messages["a"]
    assert "Permission denied. Run as root (become: true)." in run.messages["a"]


def test_host_that_can_be_read_and_not_written_fails_with_the_remedy(unprivileged: ComputeFleet) -> None:
    run = unprivileged.prune()
    assert (run.failed, run.changed) == ({"a"}, {"b"}), run.output
    assert "may not be written by this user. Run as root (become: true)." in run.messages["a"]
