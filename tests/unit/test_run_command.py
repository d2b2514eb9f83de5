# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command ./run, for real. It gets ansible-core from the package index, where .run/ has none yet."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.tools.cache_tree import CacheTree, fingerprint
from ansible_collections.stackops.nova.tools.sample_cache import ALPINE, FEDORA, LOST, lay_out, options

ROOT = Path(__file__).parents[2]
UNUSED = {
    fingerprint(FEDORA),
    f"{fingerprint(FEDORA)}_{2 << 30}",
    fingerprint("an image that Glance has no more"),
    f"{fingerprint(ALPINE)}.part",
    "swap_1024",
    "ephemeral_2_40d1d2c",
}


def run(*arguments: str, cwd: Path | str = "/") -> subprocess.CompletedProcess[str]:
    """Run ./run, and let no other test do so meanwhile: all share one `.run`."""
    environment = {name: value for name, value in os.environ.items() if name != "LC_ALL"}
    with (ROOT / "run").open() as command:
        fcntl.flock(command, fcntl.LOCK_EX)
        return subprocess.run(
            [ROOT / "run", *arguments],
            cwd=cwd,
            env={**environment, "ANSIBLE_STDOUT_CALLBACK": "none.of.these"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


def names(table: str, title: str) -> set[str]:
    """The files in one section of the table."""
    section = re.search(rf"^{title}: .*\n((?:.+\n)*)", table, re.MULTILINE)
    return set() if section is None else set(re.findall(r"^ .*B .* ago  ([^:\n]+)", section[1], re.MULTILINE))


def listing(tree: CacheTree) -> dict[str, int]:
    """Everything under the instances path, with its mtime."""
    return {str(path): path.stat().st_mtime_ns for path in tree.instances_path.rglob("*")}


@pytest.fixture
def tree(tmp_path: Path) -> CacheTree:
    return lay_out(tmp_path / "a cache")


def arguments_for(tree: CacheTree) -> list[str]:
    given = options(tree)
    return [given.pop("instances_path"), *(f"{name}={value}" for name, value in given.items())]


def test_sample_is_audited_and_pruned():
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    assert names(done.stdout, "REMOVED") == UNUSED
    assert "prune        6 files removed, the same ones\nprune again  0 files removed, changed=0\n" in done.stdout
    cache = ROOT / ".run/sample/instances/_base"
    assert f"!!          - {fingerprint(LOST)}: instance-00000005\n" in done.stdout
    assert len(names(done.stdout, "IN USE")) == 8
    assert len(names(done.stdout, "TOO YOUNG")) == 2
    assert not UNUSED & {path.name for path in cache.iterdir()}
    diff = (ROOT / ".run/log").read_text()
    assert set(re.findall(r"^-(\S+) \d+ \w+$", diff, re.MULTILINE)) == UNUSED
    assert re.search(r"\nFREED: 3\.\d MiB of 6\.\d MiB\.\n$", done.stdout)
    assert all(len(line) <= 100 for line in done.stdout.splitlines() if str(cache) not in line)


def test_named_cache_is_pruned_only_with_the_option(tree: CacheTree):
    """Nothing is touched without --prune, and what the dry run listed is removed with it."""
    before = listing(tree)
    dry_run = run(*arguments_for(tree))
    assert dry_run.returncode == 0, dry_run.stderr
    assert listing(tree) == before
    assert names(dry_run.stdout, "WOULD BE REMOVED") == UNUSED

    prune = run("--prune", *arguments_for(tree))
    assert prune.returncode == 0, prune.stderr
    assert names(prune.stdout, "REMOVED") == UNUSED
    gone = {Path(path) for path in before.keys() - listing(tree).keys()}
    facts = f"{fingerprint(FEDORA)}.info"
    assert {path.name for path in gone if path.parent == tree.cache_path} == {*UNUSED, facts}

    again = run(*arguments_for(tree), "--prune")
    assert again.returncode == 0, again.stderr
    assert "\nREMOVED: nothing\n" in again.stdout


def test_refused_prune_fails_and_shows_its_reason(tree: CacheTree):
    """A path is relative to where the user is."""
    before = listing(tree)
    done = run("instances", "--prune", "host=compute-1", "libvirt_config_path=nowhere", cwd=tree.root)
    assert done.returncode == 1
    # Lines break where there is room, also within a long path.
    shown = "".join(word for word in done.stdout.split() if word != "!!")
    assert f"-libvirt_config_path{tree.root}/nowherecannotbe".replace(" ", "") in shown
    assert "WOULD BE FREED: 0 B of 6." in done.stdout
    assert listing(tree) == before


def test_unknown_option_is_refused_with_the_known_ones(tree: CacheTree):
    done = run(str(tree.instances_path), "libvirtt=false")
    assert done.returncode == 1
    assert "libvirtt. Supported parameters include: " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["/no/such/directory"], "There is no directory /no/such/directory."),
        (["--prune"], "--prune needs the PATH whose image cache is meant."),
        (["--purge", "/tmp"], "Unknown option: --purge"),
        (["/tmp", "libvirt"], "Neither an option nor OPTION=VALUE: libvirt"),
        (["", "--prune"], "An argument is empty."),
    ],
)
def test_wrong_usage_is_refused_in_one_line(arguments: list[str], error: str):
    done = run(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{error}\nSee ./run --help.\n")


def test_help_shows_the_usage():
    done = run("--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: ./run\n")
