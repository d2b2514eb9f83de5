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

from ansible_collections.stackops.nova.plugins.plugin_utils.report.prometheus import render_prometheus
from ansible_collections.stackops.nova.tests.support.fleets import (
    BASE,
    GIB,
    HOSTILE,
    NOW,
    answer,
    done,
    fleet,
    silent,
    storage,
    troubled,
)


def series(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Parse it strictly, and return each series' value."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.type == "gauge"
        assert family.documentation.endswith(".")
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, "this series occurs twice"
            assert sample.timestamp is None, "the textfile collector refuses times"
            found[key] = sample.value
    return found


def value(seen: dict[str, Any], name: str, **labels: str) -> float:
    return series(render_prometheus(seen))[f"nova_image_cache_{name}", frozenset(labels.items())]


def test_metrics_have_the_numbers_of_each_host() -> None:
    seen = fleet(storage(answer("a", **done(BASE)), "a"), silent=[silent("b")])
    assert value(seen, "report_timestamp_seconds") == NOW
    assert value(seen, "host_answered", host="a") == 1
    assert value(seen, "host_answered", host="b") == 0
    assert value(seen, "files", host="a", state="removable") == 3
    assert value(seen, "allocated_bytes", host="a", state="active") == 40 * GIB
    assert value(seen, "corrupt_bytes", host="a") == GIB
    assert value(seen, "reclaimable_bytes", host="a") == 30 * GIB
    assert value(seen, "removed_files", host="a") == 1
    assert value(seen, "reclaimed_bytes", host="a") == 10 * GIB
    assert value(seen, "filesystem_free_bytes", host="a") == 20 * GIB
    assert value(seen, "filesystem_size_bytes", host="a") == 500 * GIB


def test_alarms_have_metrics() -> None:
    seen = troubled("x")
    assert value(seen, "missing_files", host="1x") == 2
    for name in ("replaced_files", "corrupt_files", "orphan_directories", "failed_removals"):
        assert value(seen, name, host="1x") == 1
    assert value(seen, "removal_refused", host="2x") == 1
    assert value(seen, "host_answered", host="5x") == 0


def test_dry_run_has_removed_nothing() -> None:
    seen = fleet(storage(answer(**done(BASE)), "a"), check_mode=True)
    assert value(seen, "removed_files", host="a") == 0
    assert value(seen, "reclaimed_bytes", host="a") == 0


def test_shared_storage_counts_once_under_its_first_name() -> None:
    seen = fleet(storage(answer("x"), "c", "a"), storage(answer("y"), "b"))
    found = series(render_prometheus(seen))
    hosts = {dict(labels)["host"] for name, labels in found if name == "nova_image_cache_files"}
    assert hosts == {"a", "b"}
    assert value(seen, "host_storage", host="c", storage=answer("x")["storage"]["id"]) == 1


def test_host_without_a_cache_has_no_metrics_of_a_file_system() -> None:
    nothing = answer()
    nothing["storage"].update(id=None, free_bytes=None, total_bytes=None, filesystem=None, shared=None)
    assert "None" not in render_prometheus(fleet(storage(nothing, "a")))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_name_neither_adds_nor_removes_a_series(name: str) -> None:
    hostile, harmless = (series(render_prometheus(troubled(each))) for each in (name, "name"))
    assert sorted(metric for metric, _labels in hostile) == sorted(metric for metric, _labels in harmless)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_host_name_of_any_characters_is_kept_in_its_label(name: str) -> None:
    answered = {dict(labels).get("host") for _metric, labels in series(render_prometheus(troubled(name)))}
    assert f"1{name}" in answered


def test_names_of_metrics_follow_the_conventions_of_prometheus() -> None:
    text = render_prometheus(troubled("x"))
    names = re.findall(r"^# TYPE (\S+) gauge$", text, re.MULTILINE)
    assert len(names) == len(set(names))
    assert names == re.findall(r"^# HELP (\S+) ", text, re.MULTILINE)
    for name in names:
        assert re.fullmatch(r"nova_image_cache(_[a-z]+)+", name)
        assert not name.endswith(("_total", "_count", "_sum", "_bucket", "_info", "_gib", "_percent"))
    assert text.endswith("\n")
    assert "storage" not in text.replace("storage", "")
