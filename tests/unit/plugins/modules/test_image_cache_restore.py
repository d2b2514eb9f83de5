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
from ansible_collections.stackops.nova.tests.support.peers import HONEST
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


def test_refused_file_fails_the_task_with_the_whole_result(host: Host, disk: Path) -> None:
    (host.cache_path / BASE).unlink()
    run = run_module("image_cache_restore", host.options())
    assert disk.exists()
    assert run.failed
    assert str(host.cache_path / BASE) in run.result["msg"]
    [refused] = run.result["image_cache_restore"]["refused"]
    assert refused["instances"] == [UUID]


def test_invalid_option_fails_the_task(host: Host) -> None:
    run = run_module("image_cache_restore", {**host.options(), "files": {IMAGE: "relative"}})
    assert run.failed
    assert "files" in run.result["msg"]
    assert "Traceback" not in run.errors


def test_file_that_one_host_reads_is_what_another_one_takes(host: Host, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Host(tmp_path / "other")
    theirs = other.base(BASE, content=b"content")
    read = run_module("image_cache_restore", {**other.options(), "checksums_of": [BASE]})
    [checksum] = read.result["image_cache_restore"]["checksums"]
    assert not read.result["changed"]

    (host.instances_path / UUID).mkdir()
    base = host.cache_path / BASE
    create_image(host.instances_path / UUID / "disk", over=base, over_format="raw", unchecked=True)
    given = {key: checksum[key] for key in ("size_bytes", "allocated_bytes", "algorithm", "checksum")}
    peers = {BASE: {"hosts": [{"host": "other", "path": str(theirs)}], **given}}
    run = run_module("image_cache_restore", {**host.options(), "peers": peers, "peer_command": HONEST})
    [restored] = run.result["image_cache_restore"]["restored"]
    assert (restored["source"], restored["proof"]) == ("peer", "agreed")
    assert base.read_bytes() == theirs.read_bytes()


def test_host_that_is_an_option_fails_the_task(host: Host) -> None:
    peers = {BASE: {"hosts": [{"host": "-oProxyCommand=id", "path": "/x"}], "size_bytes": 1}}
    peers[BASE].update(algorithm="sha256", checksum="0" * 64)
    run = run_module("image_cache_restore", {**host.options(), "peers": peers})
    assert run.failed
    assert "is not the name or the address of a host" in run.result["msg"]
    assert "Traceback" not in run.errors
