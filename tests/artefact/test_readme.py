# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the README prints runs as it is printed: from what is published, where nothing else is installed.

Its plays and commands run on the sample compute host of `tools/compute_host.sh`, under nova's own paths.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from ansible_collections.stackops.nova.tools.docs import INVENTORY

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]
# The largest of the sample's unused files are young, so that a prune stays within the share that the README allows.
KEEP = "touch /var/lib/nova/instances/_base/c88caa2f53bba855b6b96bb9c5cf6b34ba5fa1a1*\n"
# These are run elsewhere: ./run by test_run_command.py, ./test by the user who runs this test.
ELSEWHERE = ("./run", "./test")


class Block(NamedTuple):
    language: str
    text: str


def blocks(page: str) -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)]


README = [
    block
    for block in blocks((ROOT / "README.md").read_text())
    # What a fleet's screen looks like is compared with the code by test_screen.py.
    if block.language != "console" and not block.text.startswith(ELSEWHERE)
]
# Of the role's own page the plays alone: it also shows an inventory, and commands that need Galaxy.
README += [
    block for block in blocks((ROOT / "roles/image_cache/README.md").read_text()) if "hosts: compute\n" in block.text
]


@pytest.fixture(scope="module")
def installed(empty_environment: Run, tarball: Path) -> Run:
    done = empty_environment("ansible-galaxy", "collection", "install", "--offline", tarball)
    assert done.returncode == 0, done.stderr
    return empty_environment


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A fresh clone, with an inventory that has the sample host in the group `compute`."""
    clone = tmp_path / "nova"
    shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(".git", ".run", "collections", "__pycache__"))
    (clone / "inventory").write_text(INVENTORY)
    return clone


def on_compute_host(run: Run, script: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run(ROOT / "tools/compute_host.sh", "sh", "-euc", script, cwd=cwd)


@pytest.mark.parametrize("block", README, ids=[block.text.split("\n", 1)[0] for block in README])
def test_each_block_runs_as_printed(installed: Run, checkout: Path, block: Block) -> None:
    assert block.language in ("shell", "yaml"), "a block without a language cannot be tried"
    script = block.text
    if block.language == "yaml":
        (checkout / "play.yml").write_text(block.text)
        script = "ansible-playbook play.yml -i inventory"
    done = on_compute_host(installed, KEEP + script, checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    if "ansible-playbook" in script:
        recap = re.search(r"^compute-1 +: ok=(\d+) ", done.stdout, re.MULTILINE)
        assert recap is not None, done.stdout
        assert int(recap[1]) > 0


def test_installation_of_the_readme_gives_what_is_published(
    empty_environment: Run, tarball: Path, checkout: Path, tmp_path: Path
) -> None:
    """From a clone into an empty home, whatever was tried in the clone before."""
    (checkout / "report").mkdir()
    (checkout / "report/report.json").touch()
    home = tmp_path / "home"
    home.mkdir()
    done = empty_environment("ansible-galaxy", "collection", "install", ".", cwd=checkout, HOME=str(home))
    assert done.returncode == 0, done.stderr
    installed = home / ".ansible/collections/ansible_collections/stackops/nova"
    files = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    with tarfile.open(tarball) as archive:
        assert files == {member.name for member in archive if member.isfile()}
