# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The dashboard is one that Grafana knows, and each of its queries finds series among ours."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from ansible_collections.stackops.nova.plugins.plugin_utils.report.prometheus import (
    metrics_of,
    metrics_with_precache,
    render_metrics,
)
from ansible_collections.stackops.nova.tests.support.fleets import (
    answer,
    done,
    fleet,
    storage,
    troubled_answer,
    verified,
)
from ansible_collections.stackops.nova.tests.support.monitoring import Watch, wait_until, watched
from ansible_collections.stackops.nova.tests.support.precaches import of_each_outcome

FILE = Path(__file__).parents[2] / "extensions/monitoring/nova_image_cache.json"
DASHBOARD = json.loads(FILE.read_text())
QUERIES = {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}


def as_grafana_knows_it(dashboard: dict[str, Any]) -> Any:
    """Read the dashboard by the types that Grafana publishes, and write it again. What they do not have is left out."""
    register_default_plugins()
    return json.loads(json.dumps(Dashboard.from_json(copy.deepcopy(dashboard)), cls=JSONEncoder))


def unknown(ours: Any, grafanas: Any) -> list[Any]:
    """Return what of ours is not the same in Grafana's."""
    if isinstance(ours, dict):
        return [
            found
            for key, value in ours.items()
            for found in ([key] if key not in grafanas else unknown(value, grafanas[key]))
        ]
    if isinstance(ours, list):
        return [found for pair in zip(ours, grafanas, strict=True) for found in unknown(*pair)]
    return [] if ours == grafanas else [ours]


def test_dashboard_has_nothing_that_the_schema_of_grafana_does_not_know() -> None:
    assert unknown(DASHBOARD, as_grafana_knows_it(DASHBOARD)) == []
    misspelt = copy.deepcopy(DASHBOARD)
    misspelt["panels"][0]["fieldConfig"]["defaults"]["units"] = "s"
    assert unknown(misspelt, as_grafana_knows_it(misspelt)) == ["units"]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    """A fleet with something of each sort, as Prometheus has scraped it."""
    root = tmp_path_factory.mktemp("watch")
    (root / "textfiles").mkdir()
    bad = troubled_answer("a") | {"checksums": verified()}
    seen = fleet(storage(bad, "a"), storage(answer("b", checksums=verified(), **done()), "b"))
    for one in (seen, *seen["storages"], *seen["hosts"]):
        one["generated" if one is seen else "time"] = time.time()
    precache = {**of_each_outcome(""), "generated": time.time()}
    metrics = metrics_with_precache(precache, metrics_of(seen, {}, set()), {"a", "b"})
    (root / "textfiles" / "image_cache.prom").write_text(render_metrics(metrics))
    with watched(root, root / "textfiles") as watch:
        wait_until(lambda: watch.query("nova_image_cache_host_info"), "a scrape of the sample")
        yield watch


@pytest.mark.parametrize("name", QUERIES)
def test_query_of_the_dashboard_returns_series(sample: Watch, name: str) -> None:
    assert sample.query(QUERIES[name])
