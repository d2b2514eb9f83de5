# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SECURITY.md names a test for each promise, and each test that it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)((?:::\w+)*)`", PAGE)


def defined(tree: ast.AST) -> dict[str, ast.AST]:
    return {
        node.name: node
        for node in ast.iter_child_nodes(tree)
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name.lower().startswith("test")
    }


@pytest.mark.parametrize(("path", "names"), NAMED, ids=lambda part: part.rpartition("/")[2])
def test_each_test_that_the_page_names_exists(path: str, names: str) -> None:
    node: ast.AST = ast.parse((ROOT / path).read_text())
    for name in names.split("::")[1:]:
        node = defined(node)[name]


def test_each_promise_names_a_test() -> None:
    section = PAGE.partition("## What is promised")[2].partition("\n## ")[0]
    promises = [line for line in section.splitlines() if line.startswith("| ")][2:]
    assert len(promises) > 10
    assert [promise for promise in promises if not re.search(r"`tests/[\w/]+\.py", promise)] == []
