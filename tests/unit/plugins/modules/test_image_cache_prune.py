# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module from its options to its result; what is in the result is tested where it is made."""

from __future__ import annotations

import pytest

from ansible_collections.stackops.nova.tests.support.constants import BASE, UUID
from ansible_collections.stackops.nova.tests.support.host import OLD, Host, picture
from ansible_collections.stackops.nova.tests.support.run_module import run_module

UNUSED = "02c9f7e7130413742a28a31ba97617e9a56811be"


@pytest.fixture
def cache(host: Host) -> Host:
    for name in (BASE, UNUSED, "swap_64"):
        host.base(name, age=OLD)
    host.instance(UUID, {"disk": BASE})
    return host


def test_check_mode_is_the_dry_run_and_the_difference_shows_it(cache: Host) -> None:
    before = picture(cache.root)
    run = run_module("image_cache_prune", cache.options(), "--check", "--diff")
    assert picture(cache.root) == before
    assert run.result["changed"] is True
    assert run.result["image_cache"]["removed"] == [UNUSED, "swap_64"]
    assert run.result["image_cache"]["check_mode"] is True
    assert [line for line in run.diff.splitlines() if line.startswith("-")][1:] == [
        f"-{UNUSED} {1 << 20} unknown",
        f"-swap_64 {1 << 20} unused",
    ]


def test_run_removes_what_the_dry_run_lists_and_a_second_run_nothing(cache: Host) -> None:
    first = run_module("image_cache_prune", cache.options())
    assert first.result["changed"] is True
    assert first.result["image_cache"]["removed"] == [UNUSED, "swap_64"]
    assert first.result["image_cache"]["active"] == [BASE]
    assert first.result["image_cache"]["check_mode"] is False
    assert first.diff == ""
    assert cache.cached() == [BASE]

    second = run_module("image_cache_prune", cache.options())
    assert second.result["changed"] is False
    assert second.result["image_cache"]["removed"] == []


def test_unknown_use_fails_the_task_with_the_cause(cache: Host) -> None:
    cache.disk("broken", b"QFI\xfb")
    run = run_module("image_cache_prune", cache.options())
    assert run.failed
    assert str(cache.instances_path / "broken" / "disk") in run.result["msg"]
    assert run.result["image_cache"]["removed"] == []
    assert run.result["image_cache"]["kept"] == [
        {"name": name, "reason": "unknown_use"} for name in (UNUSED, "swap_64")
    ]
    assert run.result["image_cache"]["unknown_use"] != []
    assert cache.cached() == [UNUSED, BASE, "swap_64"]


def test_failed_removal_fails_the_task_with_the_whole_result(cache: Host) -> None:
    (cache.cache_path / f"{UNUSED}.info").mkdir()
    run = run_module("image_cache_prune", cache.options())
    assert run.failed
    assert UNUSED in run.result["msg"]
    assert run.result["changed"] is True
    assert run.result["image_cache"]["removed"] == [UNUSED, "swap_64"]
    assert [failure["name"] for failure in run.result["image_cache"]["failed"]] == [UNUSED]


def test_invalid_option_fails_the_task(cache: Host) -> None:
    run = run_module("image_cache_prune", cache.options(image_cache_subdirectory_name="../_base"))
    assert run.failed
    assert "image_cache_subdirectory_name" in run.result["msg"]
    assert "../_base" in run.result["msg"]
    assert "Traceback" not in run.errors
