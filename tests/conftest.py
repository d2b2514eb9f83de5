# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A token that is in no file, log or list of processes after the test."""
    # This file is loaded before pytest-ansible has made the collection known.
    from ansible_collections.stackops.nova.tests.support.tokens import all_that_is_shown, watched_token

    for name, value in all_that_is_shown(tmp_path).items():
        monkeypatch.setenv(name, value)
    with watched_token(tmp_path) as watched:
        yield watched
