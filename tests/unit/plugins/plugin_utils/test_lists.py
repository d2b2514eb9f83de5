# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A list of the role's is a list however it is written."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.common.validation import check_type_list
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.plugin_utils.lists import as_list


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("one", ["one"]),
        ("one,two", ["one", "two"]),
        (" one , two words ", ["one", "two words"]),
        (["one, two", " three "], ["one, two", " three "]),
        (("one", 2), ["one", 2]),
        ({"one": 1, "two": 2}, ["one", "two"]),
        ([], []),
    ],
)
def test_a_text_is_taken_apart_and_anything_else_left_as_it_is(value: Any, expected: list[Any]) -> None:
    assert as_list(value) == expected


def test_what_is_done_to_it_is_not_done_to_the_variable() -> None:
    variable = ["one"]
    as_list(variable).append("two")
    assert variable == ["one"]


@given(st.text(st.characters() | st.sampled_from(", \n")))
def test_a_text_has_the_parts_that_a_module_sees_without_the_space_around_them(text: str) -> None:
    assert as_list(text) == [part.strip() for part in check_type_list(text)]
