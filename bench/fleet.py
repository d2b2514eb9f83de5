# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet on one machine: hosts that Ansible reaches over its local connection, each with a tree of its own."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

PLAYS = Path(__file__).parent / "plays"


class Run(NamedTuple):
    """What one ansible-playbook took.

    Seconds, of these of a processor (that of its forks and of what runs on the hosts, which are here, too), and the
    most memory that its main process, or a fork of it, held at a time, in bytes.
    """

    seconds: float
    processor_seconds: float
    peak_bytes: int


def medians(runs: Sequence[Run]) -> Run:
    """The median of each figure of several runs."""
    return Run(*map(statistics.median, zip(*runs, strict=True)))


def write_inventory(path: Path, instances_paths: list[str]) -> None:
    """An inventory of a host for each tree; as where hosts are real, nothing but its own result distinguishes them."""
    hosts = {
        f"host-{number:03}": {"instances_path": instances_path, "image_cache_instances_path": instances_path}
        for number, instances_path in enumerate(instances_paths)
    }
    everywhere = {
        "ansible_become": False,
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "interpreter": sys.executable,
        "image_cache_libvirt": False,
    }
    path.write_text(json.dumps({"compute": {"hosts": hosts, "vars": everywhere}}))


def run(inventory: Path, forks: int, playbook: str, *options: str) -> Run:
    """Run a play of this folder, or a playbook of the collection, on all hosts of an inventory."""
    name = playbook if "." in playbook else str(PLAYS / f"{playbook}.yml")
    command = ["ansible-playbook", "-i", str(inventory), "-f", str(forks), name, *options]
    with tempfile.TemporaryFile("w+") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, text=True)
        _pid, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)}\n{output.read()[-4000:]}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10)


def result_bytes(inventory: Path, module: str, *arguments: str) -> int:
    """The largest result that a module sends back from any of the hosts."""
    with tempfile.TemporaryDirectory() as directory:
        command = ["ansible", "-i", str(inventory), "all", "-m", module, "-a", " ".join(arguments), "-t", directory]
        subprocess.run(command, check=True, capture_output=True)
        return max(path.stat().st_size for path in Path(directory).iterdir())
