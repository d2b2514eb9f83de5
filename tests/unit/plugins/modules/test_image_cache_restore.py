# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module from its options to its result; what is in the result is tested where it is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.stackops.nova.tests.support.constants import BASE, IMAGE, UUID
from ansible_collections.stackops.nova.tests.support.guests import needs_qemu, running_guest
from ansible_collections.stackops.nova.tests.support.host import Host, create_image, opens, picture
from ansible_collections.stackops.nova.tests.support.run_module import run_module

pytestmark = needs_qemu


@pytest.fixture
def disk(host: Host) -> Path:
    base = host.base(BASE)
    (host.instances_path / UUID).mkdir()
    return create_image(host.instances_path / UUID / "disk", over=base, over_format="raw")


def test_check_mode_shows_what_would_be_restored_and_a_run_does_so(host: Host, disk: Path) -> None:
    base = host.cache_path / BASE
    with running_guest(disk, base):
        base.unlink()
        before = picture(host.root)
        dry = run_module("image_cache_restore", host.options(), "--check")
        assert picture(host.root) == before
        run = run_module("image_cache_restore", host.options())
        second = run_module("image_cache_restore", host.options())
    assert [file["name"] for file in dry.result["image_cache_restore"]["restored"]] == [BASE]
    assert [file["name"] for file in run.result["image_cache_restore"]["restored"]] == [BASE]
    assert (dry.result["changed"], run.result["changed"], second.result["changed"]) == (True, True, False)
    assert (dry.failed, run.failed, second.failed) == (False, False, False)
    assert opens(disk)


def test_what_is_refused_fails_the_task_with_the_whole_result(host: Host, disk: Path) -> None:
    (host.cache_path / BASE).unlink()
    run = run_module("image_cache_restore", host.options())
    assert disk.exists()
    assert run.failed
    assert str(host.cache_path / BASE) in run.result["msg"]
    [refused] = run.result["image_cache_restore"]["refused"]
    assert refused["instances"] == [UUID]


def test_option_that_cannot_be_meant_fails_the_task(host: Host) -> None:
    run = run_module("image_cache_restore", {**host.options(), "files": {IMAGE: "relative"}})
    assert run.failed
    assert "files" in run.result["msg"]
    assert "Traceback" not in run.errors
