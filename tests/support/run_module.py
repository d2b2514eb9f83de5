# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A module as its users run it: by the `ansible` command, in processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import ansible_collections


class ModuleRun(NamedTuple):
    """What the command said: the module's result, the difference that `--diff` shows, and what is on standard error."""

    failed: bool
    result: dict[str, Any]
    diff: str
    errors: str


def run_module(name: str, options: dict[str, Any], *flags: str) -> ModuleRun:
    """Run a module of this collection on this host.

    :param options: the module's options, without those that are None.
    :param flags: `--check`, `--diff`.
    """
    done = run_ansible(name, options, *flags)
    diff, separator, text = done.stdout.partition("localhost | ")
    state, _arrow, document = text.partition(" => ")
    assert separator, done.stderr
    return ModuleRun(state == "FAILED!", json.loads(document), diff, done.stderr)


def run_ansible(name: str, options: dict[str, Any], *flags: str) -> subprocess.CompletedProcess[str]:
    """Run a module; the parameters are those of `run_module`, and what comes back is all that was shown."""
    given = {option: value for option, value in options.items() if value is not None}
    command = ["localhost", "--inventory", "localhost,", "--connection", "local", *flags]
    command += ["--module-name", f"stackops.nova.{name}", "--args", json.dumps(given)]
    with tempfile.TemporaryDirectory() as home:
        return subprocess.run(
            [sys.executable, "-m", "ansible", "adhoc", *command],
            capture_output=True,
            check=False,
            encoding="utf-8",
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": collections_path(),
                "ANSIBLE_HOME": home,
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
                "ANSIBLE_REMOTE_TMP": f"{home}/tmp",
            },
        )


def collections_path() -> str:
    """Where Ansible finds the collection that is tested."""
    return os.pathsep.join(str(Path(path).parent) for path in ansible_collections.__path__)
