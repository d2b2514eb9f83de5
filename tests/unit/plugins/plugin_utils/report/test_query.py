# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.stackops.nova.plugins.plugin_utils.report import query
from ansible_collections.stackops.nova.plugins.plugin_utils.report.errors import ReportError
from ansible_collections.stackops.nova.plugins.plugin_utils.report.query import compile_query
from ansible_collections.stackops.nova.tests.support.fleets import BASE, answer, fleet, storage

FILES = [
    {"name": BASE, "state": "removable", "reasons": ["unused"], "allocated_bytes": 7},
    {"name": "swap_64", "state": "active", "reasons": ["backing"], "allocated_bytes": 8},
]
FLEET = fleet(storage(answer("a", files=FILES), "a"), storage(answer("b"), "b"))


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("hosts[?name=='b'].name", ["b"]),
        ("files[?state=='removable']", [{"host": "a", **FILES[0]}]),
        ("sum(files[].allocated_bytes)", 15),
        ("summary.storages", 2),
        ("nothing", None),
    ],
)
def test_query_selects_hosts_or_files(expression: str, result: object) -> None:
    assert compile_query(expression)(FLEET) == {"expression": expression, "result": result, "error": None}


@pytest.mark.parametrize("expression", ["hosts[?", "hosts[?name=='a'", "files[].{", "unknown(@)(", "`", "@@"])
def test_query_that_does_not_parse_is_refused_by_name(expression: str) -> None:
    with pytest.raises(ReportError, match="is not a JMESPath expression") as caught:
        compile_query(expression)
    assert repr(expression) in str(caught.value)


@pytest.mark.parametrize(
    "expression",
    [
        "sum(hosts)",
        "unknown(@)",
        "sort_by(hosts, &summary)",
        "hosts[::0]",
        "&name",
        "hosts[].{a: &b}",
        "floor(`1e999`)",
    ],
)
def test_query_that_cannot_be_applied_does_not_prevent_the_report(expression: str) -> None:
    selection = compile_query(expression)(FLEET)
    assert selection["result"] is None
    assert selection["error"]


def test_query_without_its_library_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "jmespath", None)
    with pytest.raises(ReportError, match="pip install jmespath"):
        compile_query("hosts")
