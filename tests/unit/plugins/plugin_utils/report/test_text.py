# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.stackops.nova.plugins.plugin_utils.report.text import columns, some_names, wrap
from ansible_collections.stackops.nova.tests.support.fleets import HOSTILE
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("names", "count", "text"),
    [
        ([], None, ""),
        (["a"], None, "a"),
        (["a", "b"], None, "a and b"),
        (["a", "b", "c"], None, "a, b and c"),
        (["a", "b", "c", "d"], None, "a, b, c and 1 more"),
        (["a"], 5, "a and 4 more"),
        ([], 5, "5 more"),
    ],
)
def test_some_names_counts_the_names_that_it_leaves_out(names: list[str], count: int | None, text: str) -> None:
    assert some_names(names, count) == text


@pytest.mark.parametrize(
    ("text", "width"), [("", 0), ("abc", 3), ("\u4e2d\u6587", 4), ("e\u0301", 1), ("\U0001f4a9", 2)]
)
def test_columns_counts_wide_and_combining_characters(text: str, width: int) -> None:
    assert columns(text) == width


def test_wrap_breaks_at_spaces_and_indents_further_lines() -> None:
    assert wrap("one two three four", 12, "- ", "   ") == ["- one two", "   three", "   four"]


def test_wrap_without_further_prefix_indents_as_wide_as_the_first() -> None:
    assert wrap("one two three", 11, "SEE  ") == ["SEE  one", "     two", "     three"]


def test_wrap_cuts_a_word_that_is_wider_than_a_line() -> None:
    assert wrap("a 123456789 b", 6, "> ", "  ") == ["> a", "  1234", "  5678", "  9 b"]


def test_wrap_of_an_empty_text_is_its_prefix() -> None:
    assert wrap("", 10, "- ") == ["-"]


@pytest.mark.parametrize("text", HOSTILE)
def test_wrap_of_hostile_text_is_printable(text: str) -> None:
    assert all(line.isprintable() for line in wrap(text, 40, "!! "))


@given(st.text(st.characters()), st.integers(10, 100), st.sampled_from(["", "- ", "!! "]))
def test_wrap_keeps_the_width_and_every_word(text: str, width: int, prefix: str) -> None:
    lines = wrap(text, width, prefix)
    assert all(columns(line) <= width and line.isprintable() for line in lines)
    assert all(line.startswith(" " * len(prefix)) or not line for line in lines[1:])
    kept = "".join(line[len(prefix) :] for line in lines).replace(" ", "")
    assert kept == "".join(wrap(text, 1_000_000)).replace(" ", "")
