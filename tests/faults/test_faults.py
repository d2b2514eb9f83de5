# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A pass in which any call fails, or that dies, reports what it did, did no more than its plan, and can be repeated."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache import apply
from ansible_collections.stackops.nova.tests.faults.injection import (
    CALLS,
    FAULTS,
    KILL,
    UNUSED,
    USED,
    USED_TOO,
    Call,
    inject,
    trace,
)


@pytest.fixture
def calls(tmp_path: Path) -> list[Call]:
    return list(trace(tmp_path))


@pytest.mark.parametrize("name", CALLS)
def test_sample_of_all_faults_breaks_no_promise(tmp_path: Path, calls: list[Call], name: str) -> None:
    """`./test faults` tries all faults."""
    faults = [(call, fault) for call in calls if call.name == name for fault in FAULTS]
    rows = [inject(tmp_path, *fault) for fault in random.Random(name).sample(faults, 7)]
    assert [row for row in rows if row.wrong] == []
    assert any(row.call is not None for row in rows)


def removal(calls: list[Call]) -> Call:
    [call] = [call for call in calls if (call.name, call.target) == ("unlinkat", f"instances/_base/{UNUSED[0]}")]
    return call


def test_each_removal_is_tried(calls: list[Call]) -> None:
    tried = [call.target for call in calls if call.name == "unlinkat" and call.target.startswith("instances/_base/")]
    assert {f"instances/_base/{name}" for name in UNUSED} <= set(tried)


def test_kept_file_that_is_reported_as_removed_is_found_out(
    tmp_path: Path, calls: list[Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply, "_remove", lambda _file, _place: None)
    assert "are reported as removed" in inject(tmp_path, removal(calls), "EIO").wrong[0]


def test_removed_file_that_is_not_reported_is_found_out(
    tmp_path: Path, calls: list[Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = apply._remove

    def remove_and_keep_quiet(file: apply.CacheFile, place: apply.RemovalContext) -> apply.KeptReason:
        return remove(file, place) or apply.KeptReason.GONE

    monkeypatch.setattr(apply, "_remove", remove_and_keep_quiet)
    assert "are reported as removed" in inject(tmp_path, removal(calls), "EIO").wrong[0]


def test_pass_that_removes_a_file_in_use_is_found_out(
    tmp_path: Path, calls: list[Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove_all(_file: apply.CacheFile, place: apply.RemovalContext) -> None:
        Path(place.settings.cache_path, USED).unlink(missing_ok=True)

    monkeypatch.setattr(apply, "_remove", remove_all)
    assert any(USED in wrong for wrong in inject(tmp_path, removal(calls), KILL).wrong)


def test_info_file_is_synced_before_and_after_it_takes_its_name(calls: list[Call]) -> None:
    drafts = [f"instances/_base/.{name}.info.new" for name in (USED, USED_TOO)]
    written = [(call.name, call.target) for call in calls if call.name in ("write", "fsync", "renameat")]
    assert written == [
        step
        for draft in drafts
        for step in (("write", draft), ("fsync", draft), ("renameat", draft), ("fsync", "instances/_base"))
    ]


def test_info_file_that_is_not_synced_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: None if os.path.isdir(f"/proc/self/fd/{file}") else fsync(file))
    with pytest.raises(AssertionError):
        test_info_file_is_synced_before_and_after_it_takes_its_name(list(trace(tmp_path)))
