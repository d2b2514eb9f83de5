# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of a fleet an operator's JMESPath expression selects for the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from .errors import ReportError

try:
    import jmespath
except ImportError:
    jmespath = None

__all__ = ["compile_query"]

Selection = dict[str, Any]


def compile_query(expression: str) -> Callable[[Mapping[str, Any]], Selection]:
    """Parse a JMESPath expression.

    :param expression: what to apply to a fleet, which besides what ``report.json`` has then has ``files``: the entries
        of ``details: files`` of all storages, each with its storage's pruner as ``host``.
    :return: a function that takes a fleet and returns ``expression``, ``result`` and ``error``, which says why an
        expression that did parse could not be applied.
    :raises ReportError: the expression does not parse, or the library is not installed.
    """
    if jmespath is None:
        raise ReportError(
            "The report's query cannot be parsed. The Python library jmespath is not installed for this Ansible on the "
            "controller. Install it (pip install jmespath), or run without image_cache_report_query."
        )
    try:
        compiled = jmespath.compile(expression)
    except jmespath.exceptions.JMESPathError as exc:
        raise ReportError(
            f"The report's query {expression!r} is not a JMESPath expression. The parser reports: {exc}. "
            f"Correct image_cache_report_query."
        ) from exc

    def select(fleet: Mapping[str, Any]) -> Selection:
        files = [{"host": each["pruner"], **file} for each in fleet["storages"] for file in each.get("files", ())]
        try:
            result, error = compiled.search({**fleet, "files": files}), None
            json.dumps(result)  # a reference such as &name is not data
        except (jmespath.exceptions.JMESPathError, ArithmeticError, RecursionError, TypeError, ValueError) as exc:
            result, error = None, str(exc)
        return {"expression": expression, "result": result, "error": error}

    return select
