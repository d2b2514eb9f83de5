# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from ansible_collections.stackops.nova.plugins.plugin_utils.report_prometheus import render_prometheus
from ansible_collections.stackops.nova.tests.support.fleets import (
    BASE,
    GIB,
    HOSTILE,
    NOW,
    answer,
    audited,
    done,
    fleet_of,
    pruned,
    troubled,
    unreachable,
)


def series(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Parse it strictly, and return each series' value."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.type == "gauge"
        assert family.documentation.endswith(".")
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, "a series stands there twice"
            assert sample.timestamp is None, "the textfile collector refuses times"
            found[key] = sample.value
    return found


def value(fleet: dict[str, Any], name: str, **labels: str) -> float:
    return series(render_prometheus(fleet))[f"nova_image_cache_{name}", frozenset(labels.items())]


def test_a_fleet_in_numbers() -> None:
    fleet = fleet_of({"a": pruned(answer("a", **done(BASE))), "b": unreachable()})
    assert value(fleet, "report_timestamp_seconds") == NOW
    assert value(fleet, "host_answered", host="a") == 1
    assert value(fleet, "host_answered", host="b") == 0
    assert value(fleet, "files", host="a", state="removable") == 3
    assert value(fleet, "allocated_bytes", host="a", state="active") == 40 * GIB
    assert value(fleet, "corrupt_bytes", host="a") == GIB
    assert value(fleet, "reclaimable_bytes", host="a") == 30 * GIB
    assert value(fleet, "removed_files", host="a") == 1
    assert value(fleet, "reclaimed_bytes", host="a") == 10 * GIB
    assert value(fleet, "filesystem_free_bytes", host="a") == 20 * GIB
    assert value(fleet, "filesystem_size_bytes", host="a") == 500 * GIB


def test_what_needs_a_person_can_be_alerted_on() -> None:
    fleet = troubled("x")
    for name in ("missing_files", "corrupt_files", "orphan_directories", "failed_removals"):
        assert value(fleet, name, host="1x") == 1
    assert value(fleet, "removal_refused", host="2x") == 1
    assert value(fleet, "host_answered", host="5x") == 0


def test_a_dry_run_removed_nothing() -> None:
    fleet = fleet_of({"a": pruned(answer(**done(BASE)))}, check_mode=True)
    assert value(fleet, "removed_files", host="a") == 0
    assert value(fleet, "reclaimed_bytes", host="a") == 0


def test_a_shared_store_counts_once_under_one_name() -> None:
    fleet = fleet_of({name: audited(answer("x")) for name in "cab"}, stores=[{"hosts": ["c", "a"], "pruner": "c"}])
    found = series(render_prometheus(fleet))
    hosts = {dict(labels)["host"] for name, labels in found if name == "nova_image_cache_files"}
    assert hosts == {"a", "b"}
    assert value(fleet, "host_store", host="c", store=answer("x")["store"]["id"]) == 1


def test_a_host_whose_turn_is_yet_to_come_has_no_series() -> None:
    assert 'host="a"' not in render_prometheus(fleet_of({"a": {}}))


def test_a_host_without_a_cache_has_no_file_system() -> None:
    nothing = answer()
    nothing["store"].update(id=None, free_bytes=None, total_bytes=None, filesystem=None, shared=None)
    assert "None" not in render_prometheus(fleet_of({"a": audited(nothing)}))


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_makes_or_breaks_a_series(name: str) -> None:
    hostile, harmless = (series(render_prometheus(troubled(each))) for each in (name, "name"))
    assert sorted(metric for metric, _labels in hostile) == sorted(metric for metric, _labels in harmless)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_names_are_kept_as_they_are(name: str) -> None:
    answered = {dict(labels).get("host") for _metric, labels in series(render_prometheus(troubled(name)))}
    assert f"1{name}" in answered


def test_it_keeps_to_the_naming_conventions() -> None:
    text = render_prometheus(troubled("x"))
    names = re.findall(r"^# TYPE (\S+) gauge$", text, re.MULTILINE)
    assert len(names) == len(set(names))
    assert names == re.findall(r"^# HELP (\S+) ", text, re.MULTILINE)
    for name in names:
        assert re.fullmatch(r"nova_image_cache(_[a-z]+)+", name)
        assert not name.endswith(("_total", "_count", "_sum", "_bucket", "_info", "_gib", "_percent"))
    assert text.endswith("\n")
