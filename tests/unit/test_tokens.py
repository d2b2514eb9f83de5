# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A token that is seen where it must not be fails the test that uses it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.tests.support.tokens import watched_token, without_token


def write(token: str, root: Path) -> None:
    (root / "folder").mkdir()
    (root / "folder" / "log").write_text(f"X-Auth-Token: {token}")


def give_as_argument(token: str, _root: Path) -> None:
    subprocess.run(["sh", "-c", "sleep 1", token], check=True)


def give_in_environment(token: str, _root: Path) -> None:
    subprocess.run(["sleep", "1"], check=True, env={"OS_TOKEN": token})


@pytest.mark.parametrize("leak", [write, give_as_argument, give_in_environment])
def test_token_that_is_seen_is_found(tmp_path: Path, leak: Callable[[str, Path], None]) -> None:
    with pytest.raises(AssertionError), watched_token(tmp_path) as token:
        leak(token, tmp_path)


def test_token_that_is_not_seen_is_no_failure(tmp_path: Path) -> None:
    with watched_token(tmp_path) as token:
        (tmp_path / "log").write_text(token[:-1])
        time.sleep(0.1)


def test_token_in_a_result_is_found() -> None:
    with pytest.raises(AssertionError):
        without_token("secret", lambda: {"msg": "the secret"})
    assert without_token("secret", lambda: "nothing") == "nothing"


def test_token_in_an_error_is_found() -> None:
    def fail() -> None:
        raise ValueError("the secret")

    with pytest.raises(AssertionError):
        without_token("secret", fail)
