# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was pre-cached is kept for a while, and what nobody uses is removed afterwards."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.prune import PruneResult
from ansible_collections.stackops.nova.tests.support.constants import BASE, OTHER_BASE, UUID
from ansible_collections.stackops.nova.tests.support.host import DAY, OLD, Host, picture, states

WEEK = 7 * DAY


def precached(host: Host, ago: float, name: str = BASE, **fields: Any) -> Path:
    """An unused file that was pre-cached so many seconds ago, and its info file."""
    host.base(name, age=OLD + WEEK)
    path = host.cache_path / f"{name}.info"
    path.write_text(json.dumps({"precached_at": host.now - ago, **fields}))
    return path


def pruned(host: Host, **options: Any) -> PruneResult:
    """A prune that did what its dry run listed, which wrote nothing."""
    before = picture(host.root)
    dry_run = host.prune(check_mode=True, **options)
    assert picture(host.root) == before
    result = host.prune(**options)
    assert result.done == dry_run.done
    return result


@pytest.mark.parametrize("fields", [{}, {"sha512": "0" * 128, "sha512-timestamp": 1.0, "image_id": "image"}])
def test_unused_file_is_kept_for_a_week_after_it_was_precached(host: Host, fields: dict[str, Any]) -> None:
    info = precached(host, WEEK - DAY, **fields)
    result = pruned(host)
    assert states(result)[BASE] == "active: precached"
    assert (result.done["removed"], info.exists()) == ([], True)


def test_unused_file_is_removed_with_its_info_file_a_week_after_it_was_precached(host: Host) -> None:
    precached(host, WEEK + 1)
    assert pruned(host).done["removed"] == [BASE]
    assert host.cached() == []


def test_option_sets_how_long_a_precached_file_is_kept(host: Host) -> None:
    precached(host, DAY)
    assert host.prune(check_mode=True, keep_precached_seconds=DAY + 1).done["removed"] == []
    assert host.prune(check_mode=True, keep_precached_seconds=DAY).done["removed"] == [BASE]
    assert host.prune(check_mode=True, keep_precached_seconds=0).done["removed"] == [BASE]


def test_prune_does_not_mark_a_precached_file_as_used(host: Host) -> None:
    precached(host, DAY)
    before = (host.cache_path / BASE).stat().st_mtime_ns
    pruned(host)
    assert (host.cache_path / BASE).stat().st_mtime_ns == before


def test_precached_file_with_a_user_is_in_use_for_its_user(host: Host) -> None:
    precached(host, DAY)
    host.instance(UUID, {"disk": BASE})
    assert states(pruned(host))[BASE] == "active: backing"


def test_resized_copy_of_a_precached_file_is_not_kept(host: Host) -> None:
    precached(host, DAY)
    precached(host, DAY, f"{BASE}_10737418240")
    assert pruned(host).done["removed"] == [f"{BASE}_10737418240"]


def test_audit_counts_the_precached_files(host: Host) -> None:
    precached(host, DAY)
    host.base(OTHER_BASE, age=OLD)
    facts = host.audit().facts
    allocated = (host.cache_path / BASE).stat().st_blocks * 512
    assert facts["summary"]["precached"] == {"files": 1, "allocated_bytes": allocated}
    assert facts["summary"]["active"] == 1


def test_precached_file_is_freed_at_no_age(host: Host) -> None:
    precached(host, DAY)
    os.utime(host.cache_path / BASE)
    assert set(host.audit().facts["summary"]["reclaimable_by_age"].values()) == {0}


def test_info_file_at_the_path_of_the_pattern_keeps_its_file(host: Host) -> None:
    info = precached(host, DAY)
    (host.instances_path / "info").mkdir()
    info.rename(host.instances_path / "info" / f"{BASE}.json")
    pattern = "$instances_path/info/%(image)s.json"
    assert pruned(host, image_info_filename_pattern=pattern).done["removed"] == []


@pytest.mark.parametrize("value", ["text", None, True, [], {}, 10**400, float("nan"), -1])
def test_invalid_time_of_precaching_keeps_nothing(host: Host, value: object) -> None:
    precached(host, 0, precached_at=value)
    assert pruned(host).done["removed"] == [BASE]


def test_time_of_precaching_in_the_future_keeps_nothing(host: Host) -> None:
    precached(host, -DAY)
    assert pruned(host).done["removed"] == [BASE]


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_text('["precached_at"]'),
        lambda path: path.write_text('{"precached_at": 1'),
        lambda path: path.write_text('{"precached_at": ' + "[" * 5000),
        lambda path: path.write_bytes(b'"precached_at"\xff'),
        lambda path: path.write_bytes(b'{"precached_at": 1}'.ljust(1 << 20)),
        Path.touch,
    ],
)
def test_damaged_info_file_keeps_nothing(host: Host, make: Callable[[Path], object]) -> None:
    host.base(BASE, age=OLD)
    make(host.cache_path / f"{BASE}.info")
    assert host.prune(check_mode=True).done["removed"] == [BASE]


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_something_else_in_place_of_the_info_file_keeps_nothing(host: Host, make: Callable[[Path], object]) -> None:
    host.base(BASE, age=OLD)
    make(host.cache_path / f"{BASE}.info")
    assert host.prune(check_mode=True).done["removed"] == [BASE]
