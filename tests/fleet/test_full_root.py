# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host whose root file system takes nothing more is pruned by the play that the guide shows, and only by that."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.stackops.nova.tests.support.compute_fleet import ComputeFleet, names
from ansible_collections.stackops.nova.tests.support.processes import needs_root

pytestmark = needs_root

GUIDE = Path(__file__).parents[2] / "docs/docsite/rst/guide.rst"
# The shell of the host: it sees the root, /tmp and /var/tmp as they are, and can write to none of them, only to the
# instances and to a /dev/shm of its own.
SHELL = """#!/bin/sh
exec unshare --mount /bin/sh -c '
    set -e
    for directory in / /tmp /var/tmp; do
        mount --bind $directory $directory
        mount -o remount,bind,ro $directory
    done
    mount --bind {writable} {writable}
    mount -o remount,bind,rw {writable}
    mount -t tmpfs none /dev/shm
    cd /
    exec /bin/sh "$@"
' sh "$@"
"""
LINES_OF_THE_GUIDE = {"environment", "vars"}


@pytest.fixture
def full(fleet: ComputeFleet) -> ComputeFleet:
    """A fleet of one host. What Ansible would write to by itself is on its root file system."""
    tree = fleet.add("a")
    shell = fleet.root / "shell"
    shell.write_text(SHELL.format(writable=tree.root))
    shell.chmod(0o755)
    fleet.variables.update(ansible_shell_executable=str(shell), ansible_remote_tmp="/var/tmp/ansible")
    return fleet


def play_of_the_guide() -> dict[str, Any]:
    block = re.search(r":caption: prune_full_hosts.yml\n\n((?:   .*\n)+)", GUIDE.read_text())
    assert block is not None
    (play,) = yaml.safe_load(textwrap.dedent(block[1]))
    return {**play, "become": False}


def test_play_of_the_guide_prunes_on_a_full_root(full: ComputeFleet) -> None:
    run = full.play(play_of_the_guide())
    assert (run.status, run.changed, full.cached("a")) == (0, {"a"}, names("image-a")), run.output


@pytest.mark.slow
@pytest.mark.parametrize("left_out", sorted(LINES_OF_THE_GUIDE))
def test_play_without_the_lines_of_the_guide_fails_before_any_module_starts(full: ComputeFleet, left_out: str) -> None:
    play = {keyword: value for keyword, value in play_of_the_guide().items() if keyword != left_out}
    run = full.play(play)
    assert (run.failed | run.unreachable, run.changed) == ({"a"}, set()), run.output
    assert len(full.cached("a")) == 2
    assert "temporary directory" in run.output
