# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A change to what users get needs a changelog fragment, once there is a release."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

CHECK = Path(__file__).parents[1] / "changelog.sh"
MODULE = "plugins/modules/image_cache_facts.py"
ROLE = "roles/image_cache/tasks/main.yml"
FRAGMENT = "changelogs/fragments/1-something.yml"


class Repository:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit(MODULE, ROLE, "README.md")

    def git(self, *command: str) -> None:
        identity = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.com"]
        subprocess.run(["git", *identity, *command], cwd=self.path, check=True, capture_output=True)

    def commit(self, *files: str) -> None:
        for file in files:
            path = self.path / file
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as stream:
                stream.write("another line\n")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "Change something")

    def release(self) -> None:
        self.git("tag", "0.1.0")

    def check(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [CHECK, self.path], env={**os.environ, **environment}, check=False, capture_output=True, text=True
        )


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_change_before_the_first_release_needs_no_fragment(repository: Repository) -> None:
    assert repository.check().returncode == 0


@pytest.mark.parametrize("file", [MODULE, ROLE])
def test_change_after_a_release_without_a_fragment_is_refused_by_name(repository: Repository, file: str) -> None:
    repository.release()
    repository.commit(file)
    done = repository.check()
    assert done.returncode == 1
    assert file in done.stderr


def test_change_with_a_fragment_passes(repository: Repository) -> None:
    repository.release()
    repository.commit(MODULE, FRAGMENT)
    assert repository.check().returncode == 0


def test_change_that_users_do_not_get_needs_no_fragment(repository: Repository) -> None:
    repository.release()
    repository.commit("README.md", "tests/unit/test_something.py")
    assert repository.check().returncode == 0


def test_pull_request_is_compared_with_the_branch_it_goes_to(repository: Repository) -> None:
    """An earlier change's fragment does not count for this one."""
    repository.release()
    repository.commit(MODULE, FRAGMENT)
    repository.git("checkout", "--quiet", "-b", "topic")
    repository.commit(ROLE)
    assert repository.check().returncode == 0
    assert repository.check(CHANGELOG_BASE="main").returncode == 1
