# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a host runs qemu-img: by its path or a command, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.converter import find_converter


def test_host_without_qemu_img_has_no_converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_converter(None, tmp_path.stat()) is None


def test_command_may_have_arguments(tmp_path: Path) -> None:
    found = find_converter("env -- qemu-img", tmp_path.stat())
    assert found is not None
    assert found.command[1:] == ("--", "qemu-img")


@pytest.mark.parametrize("command", ["no-such-command", "'", "''", "/etc/passwd"])
def test_option_that_is_no_command_is_refused(tmp_path: Path, command: str) -> None:
    with pytest.raises(ImageCacheError, match="qemu_img"):
        find_converter(command, tmp_path.stat())
