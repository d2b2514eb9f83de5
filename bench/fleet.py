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
SAMPLE_SECONDS = 0.05


class Run(NamedTuple):
    """What one ansible-playbook took.

    Seconds, of these of a processor (that of its forks and of what runs on the hosts, which are here, too), and the
    most memory that it and its forks held at a time, in bytes.
    """

    seconds: float
    processor_seconds: float
    peak_bytes: int


def medians(runs: Sequence[Run]) -> Run:
    """The median of each figure of several runs."""
    return Run(*map(statistics.median, zip(*runs, strict=True)))


def write_inventory(path: Path, instances_paths: list[str]) -> None:
    """An inventory of a host for each tree; as where hosts are real, nothing but its own result tells them apart."""
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
        peak = 0
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            peak = max(peak, _controller_bytes(process.pid))
            time.sleep(SAMPLE_SECONDS)
        seconds = time.perf_counter() - started
        _pid, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)}\n{output.read()[-4000:]}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, peak)


def result_bytes(inventory: Path, module: str, *arguments: str) -> int:
    """The largest result that a module sends back from any of the hosts."""
    with tempfile.TemporaryDirectory() as directory:
        command = ["ansible", "-i", str(inventory), "all", "-m", module, "-a", " ".join(arguments), "-t", directory]
        subprocess.run(command, check=True, capture_output=True)
        return max(path.stat().st_size for path in Path(directory).iterdir())


def _controller_bytes(main: int) -> int:
    """Memory of the main process and its forks, a page that several share counted once.

    What a fork starts in turn, over the local connection, is a host's and not the controller's.
    """
    processes = [main, *_forks(main)]
    return sum(_proportional_bytes(process) for process in processes)


def _forks(process: int) -> list[int]:
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    image = _image(process)
    return [int(child) for child in children if _image(int(child)) == image]


def _image(process: int) -> bytes:
    """How the process was started: a fork says what its parent says, until it starts something else."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def _proportional_bytes(process: int) -> int:
    try:
        with open(f"/proc/{process}/smaps_rollup", encoding="ascii") as stream:
            return sum(int(line.split()[1]) << 10 for line in stream if line.startswith("Pss:"))
    except OSError:
        return 0  # it has ended
