# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All mutants of a file: those of Cosmic Ray's operators, and the file without each of its statements."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator
from typing import Any, NamedTuple

import parso.python.tree
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Example, Operator
from cosmic_ray.plugins import get_operator, operator_names

# Enumerations and None are equal to nothing but themselves, and flags have no bit in common. Whether equal texts and
# numbers are one object is up to Python.
_THE_SAME = {
    "core/ReplaceComparisonOperator_Is_Eq",
    "core/ReplaceComparisonOperator_IsNot_NotEq",
    "core/ReplaceComparisonOperator_Eq_Is",
    "core/ReplaceComparisonOperator_NotEq_IsNot",
    "core/ReplaceBinaryOperator_BitOr_Add",
    "core/ReplaceBinaryOperator_BitOr_BitXor",
}


class Mutant(NamedTuple):
    """A file with one change.

    :param function: where the change is, empty outside of any.
    :param after: the line above it.
    :param line: what stood there; of several lines, all in one.
    :param becomes: what stands there now.
    :param code: the whole file.
    """

    function: str
    after: str
    line: str
    becomes: str
    code: str


class RemoveStatement(Operator):
    """Takes a statement out of a function."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        if node.type == "simple_stmt" and parso.tree.search_ancestor(node, "funcdef"):
            statement = node.children[0]
            if statement.type not in ("string", "import_from") and statement.get_code(include_prefix=False) != "pass":
                yield statement.start_pos, statement.end_pos

    def mutate(self, node: Any, _index: int) -> Any:
        statement = node.children[0]
        node.children[0] = parso.python.tree.Keyword("pass", statement.start_pos, statement.get_first_leaf().prefix)
        return node

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (Example("def f():\n    g()\n", "def f():\n    pass\n"),)


def mutants(source: str) -> Iterator[Mutant]:
    """Make all mutants of a file, but for annotations, which nobody evaluates, and for values that become writable."""
    tree, lines = ast.parse(source), ["", *source.splitlines()]
    unevaluated = list(_annotations(tree))
    for operator in _operators():
        positions = [position for node in ast_nodes(get_ast(source)) for position in operator.mutation_positions(node)]
        for number, (start, end) in enumerate(positions):
            if not any(first <= start and end <= last for first, last in unevaluated):
                code = mutate_code(source, operator, number)
                if "@dataclass(frozen=False)" in code:
                    continue
                yield Mutant(_function(tree, start[0]), lines[start[0] - 1].strip(), *_difference(source, code), code)


def _operators() -> list[Operator]:
    classes = [get_operator(name) for name in operator_names() if name not in _THE_SAME]
    return [RemoveStatement(), *(operator() for operator in classes if not operator.arguments())]


def _annotations(tree: ast.Module) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    for node in ast.walk(tree):
        annotation = getattr(node, "annotation", None) or getattr(node, "returns", None)
        if annotation is not None:
            yield (
                (annotation.lineno, annotation.col_offset),
                (annotation.end_lineno, annotation.end_col_offset),
            )


def _function(tree: ast.Module, line: int) -> str:
    around = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.lineno <= line <= node.end_lineno
    ]
    return around[-1].name if around else ""


def _difference(source: str, code: str) -> tuple[str, str]:
    lines = list(difflib.unified_diff(source.splitlines(), code.splitlines(), n=0, lineterm=""))[3:]
    return tuple(" ".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")
