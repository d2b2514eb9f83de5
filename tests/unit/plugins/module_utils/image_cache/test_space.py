# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Space targets are read as Ansible reads bytes, and as percentages of a file system."""

from __future__ import annotations

import pytest
from ansible.module_utils.common.text.formatters import human_to_bytes
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.space import (
    Share,
    SpaceTarget,
    read_space_target,
    target_bytes,
)

GIB = 1 << 30


@pytest.mark.parametrize(
    ("value", "target"),
    [
        (0, 0),
        (7, 7),
        (-7, -7),
        ("7", 7),
        ("1" + "0" * 39, 10**39),
        (" 100G ", 100 * GIB),
        ("100g", 100 * GIB),
        ("100 GB", 100 * GIB),
        ("100GiB", 100 * GIB),
        ("1.5K", 1536),
        ("12B", 12),
        (1.5, 2),
        ("15%", Share(15)),
        ("0.5 %", Share(0.5)),
        ("0%", Share(0)),
        ("100%", Share(100)),
    ],
    ids=repr,
)
def test_value_that_is_valid_is_bytes_or_a_share(value: object, target: SpaceTarget) -> None:
    assert read_space_target("min_free_space", value) == target


@pytest.mark.parametrize(
    "value",
    [
        *["", "G", "%", "-1", "-1%", "101%", "100.01%", "1 0", "100Gb", "100BB", "1X", "15%%", "15 percent", "1e9"],
        *["9" * 41, "\u0661%", "\x1b[31m", True, [], {}, None, float("inf")],
    ],
    ids=repr,
)
def test_other_value_is_refused_with_the_name_of_its_option(value: object) -> None:
    message = r"^min_free_space is '.*', which is neither a number of bytes nor"
    with pytest.raises(ImageCacheError, match=message) as why:
        read_space_target("min_free_space", value)
    assert "\x1b" not in str(why.value)


@given(st.integers(0, 9999), st.integers(0, 99), st.sampled_from(["", " "]), st.sampled_from("BKMGTPE"), st.booleans())
def test_bytes_are_those_that_ansible_reads(whole: int, part: int, space: str, unit: str, with_b: bool) -> None:
    text = f"{whole}.{part}{space}{unit}{'B' if with_b and unit != 'B' else ''}"
    expected = human_to_bytes(text)
    assert read_space_target("max_used_space", text) == pytest.approx(expected, rel=1e-12, abs=1)


@pytest.mark.parametrize(
    ("target", "total_bytes", "size"),
    [
        (None, 200, None),
        (7, 200, 7),
        (7, None, 7),
        (Share(15), 200, 30),
        (Share(15), 210, 31.5),
        (Share(0), 200, 0),
        (Share(100), 200, 200),
        (Share(15), None, None),
    ],
)
def test_share_is_of_the_size_of_the_file_system(
    target: SpaceTarget | None, total_bytes: int | None, size: float | None
) -> None:
    assert target_bytes(target, total_bytes) == size
