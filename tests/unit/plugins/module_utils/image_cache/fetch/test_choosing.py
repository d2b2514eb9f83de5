# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An image is converted where disks show that nova did it, and nowhere else."""

from __future__ import annotations

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.candidates import Candidate, State
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.choosing import becomes_raw
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.proof import Overlay
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.records import read_records
from ansible_collections.stackops.nova.tests.support.constants import BASE, IMAGE, UUID


@pytest.mark.parametrize(
    ("disk_format", "backing_formats", "is_converted"),
    [
        ("qcow2", ["raw"], True),
        ("qcow2", ["raw", "raw"], True),
        ("qcow2", [None], True),
        ("qcow2", ["qcow2"], False),
        ("qcow2", ["raw", "qcow2"], False),
        ("qcow2", [], False),
        ("raw", ["raw"], False),
        ("vmdk", ["raw"], False),
    ],
)
def test_image_is_converted_if_all_disks_read_the_base_file_as_raw(
    disk_format: str, backing_formats: list[str | None], is_converted: bool
) -> None:
    record = next(iter(read_records([{"id": IMAGE, "disk_format": disk_format}]).values()))
    overlays = [Overlay(f"/disk{number}", UUID, (1, number), 0, each, 1) for number, each in enumerate(backing_formats)]
    candidate = Candidate(BASE, State.MISSING, (UUID,), True, None, overlays)
    assert becomes_raw(record, candidate) is is_converted
