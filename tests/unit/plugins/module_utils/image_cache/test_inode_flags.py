# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a file is immutable or append-only is read from its attributes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.inode_flags import is_protected_by_flags
from ansible_collections.stackops.nova.tests.support.host import attribute


def asked(path: Path | str) -> bool | None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return is_protected_by_flags(descriptor)
    finally:
        os.close(descriptor)


@pytest.mark.usefixtures("attributes")
@pytest.mark.parametrize("kind", ["file", "directory"])
@pytest.mark.parametrize(("flag", "is_protected"), [("i", True), ("a", True), ("d", False)])
def test_attribute_that_hinders_removal_is_seen(tmp_path: Path, kind: str, flag: str, is_protected: bool) -> None:
    path = tmp_path / kind
    path.mkdir() if kind == "directory" else path.touch()
    assert asked(path) is False
    with attribute(path, flag):
        assert asked(path) is is_protected


def test_file_system_without_attributes_has_no_answer() -> None:
    assert asked("/proc/self/status") is None


def test_file_whose_attributes_cannot_be_read_is_not_taken_for_one_without(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_PATH)
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            is_protected_by_flags(descriptor)
    finally:
        os.close(descriptor)
