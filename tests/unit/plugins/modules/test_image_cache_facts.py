# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module from its options to its result; what is in the result is tested where it is made."""

from __future__ import annotations

import json
import os

import pytest

from ansible_collections.stackops.nova.tests.support.constants import BASE, IMAGE, UUID
from ansible_collections.stackops.nova.tests.support.host import OLD, Host, picture
from ansible_collections.stackops.nova.tests.support.run_module import run_module


def test_module_takes_options_and_returns_facts(host: Host) -> None:
    host.base(BASE, age=OLD)
    host.base("swap_64", age=OLD)
    host.instance(UUID, {"disk": BASE})
    before = picture(host.root)
    options = host.options(instances=[{"uuid": UUID, "name": "instance-0000000a", "image_ref": IMAGE, "host": "vm"}])

    run = run_module("image_cache_facts", options)

    assert not run.failed
    assert run.result.keys() == {"changed", "ansible_facts"}
    assert run.result["changed"] is False
    facts = run.result["ansible_facts"]["image_cache"]
    assert (facts["active"], facts["removable"]) == ([BASE], ["swap_64"])
    assert facts["used_images"] == {
        IMAGE: {"image_name": None, "local": 1, "remote": 0, "instances": ["instance-0000000a"]}
    }
    assert picture(host.root) == before


def test_missing_backing_file_is_the_first_warning(host: Host) -> None:
    host.instance(UUID, {"disk": BASE})
    host.disk("broken", b"QFI\xfb")
    run = run_module("image_cache_facts", host.options())
    said = "".join(run.errors.split())  # older releases break the lines, and paths too
    assert said.index(str(host.cache_path / BASE)) < said.index(str(host.instances_path / "broken"))
    assert not run.failed


def test_names_that_are_not_text_do_not_break_the_result(host: Host) -> None:
    for name in (b"\xff\n", "снимок".encode()):
        (host.cache_path / os.fsdecode(name)).touch()
        host.overlay(os.fsdecode(b"of " + name), b"../_base/gone " + name)
    run = run_module("image_cache_facts", host.options())
    facts = run.result["ansible_facts"]["image_cache"]
    assert facts["other"] == ["\\xff\\n", "снимок"]
    assert sorted(lost["instances"] for lost in facts["missing"]) == [["of \\xff\\n"], ["of снимок"]]


def test_summary_of_many_files_stays_small(host: Host) -> None:
    for number in range(1, 2001):
        host.base(f"swap_{number}", size=1, age=number)
        host.overlay(f"{UUID}-{number}", f"/no/such/{number}")
    run = run_module("image_cache_facts", host.options(details="summary"))
    facts = run.result["ansible_facts"]["image_cache"]
    assert facts["summary"]["total"]["files"] == 2000
    assert len(facts["missing"]) + facts["omitted"]["missing"] == 2000
    assert len(json.dumps(run.result)) < 4096


def test_invalid_option_fails_the_task(host: Host) -> None:
    run = run_module("image_cache_facts", host.options(instances_path="/no/such/path"))
    assert run.failed
    assert "/no/such/path" in run.result["msg"]
    assert "Traceback" not in run.errors


@pytest.mark.parametrize("module", ["image_cache_facts", "image_cache_prune"])
def test_warnings_that_are_not_to_be_shown_are_in_the_result(host: Host, module: str) -> None:
    host.instance(UUID, {"disk": BASE})
    run = run_module(module, {**host.options(), "warn": False})
    assert str(host.cache_path / BASE) in run.result["host_warnings"][0]
    assert str(host.cache_path / BASE) not in "".join(run.errors.split())
    assert "host_warnings" not in run_module(module, host.options()).result
