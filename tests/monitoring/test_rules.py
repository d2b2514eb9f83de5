# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each alert fires in its state, and is silent where all is well: on series that our own code wrote, in promtool."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from docutils.nodes import fully_normalize_name, make_id

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.refusals import RefusalReason
from ansible_collections.stackops.nova.plugins.plugin_utils.report.prometheus import metrics_of, render_metrics
from ansible_collections.stackops.nova.tests.support.fleets import (
    BASE,
    GIB,
    answer,
    done,
    fleet,
    orphan,
    silent,
    storage,
    verified,
)

ROOT = Path(__file__).parents[2]
RULES = ROOT / "extensions/monitoring/nova_image_cache.rules"
PAGE = ROOT / "docs/docsite/rst/monitoring.rst"
MINUTE, HOUR, DAY = 60, 3600, 86400
STEP = 5 * MINUTE  # how often promtool gives a sample, and Prometheus still sees the last one
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
PATH = answer()["cache_path"]


def report(
    *seen: Mapping[str, Any], hosts: Sequence[Mapping[str, Any]] = (), at: float = 0.0, slice_name: str = ""
) -> str:
    """Return the metrics of these storages, written at a time; promtool's clock begins at 0."""
    whole = fleet(*seen, silent=hosts)
    for one in (whole, *whole["storages"], *whole["hosts"]):
        one["generated" if one is whole else "time"] = at
    return render_metrics(metrics_of(whole, {}, set()), slice_name)


def cache(*, full: bool = False, **more: Any) -> dict[str, Any]:
    """A cache with nothing wrong, verified and pruned, of whose file system 4 % or 40 % are free."""
    keys = {key: more.pop(key) for key in ("prune_seconds", "prune_unfinished", "reasons", "opted_out") if key in more}
    made = answer("cmp-1", **{"checksums": verified(), **done(), **more})
    made["storage"]["free_bytes"] = (20 if full else 200) * GIB
    return storage(made, "cmp-1", **keys)


def node(available_percent: int, mountpoint: str = "/var/lib/nova", instance: str = "cmp-1:9100") -> str:
    """What the host's own node exporter says of its file system."""
    labels = f'{{device="/dev/vdb",fstype="xfs",instance="{instance}",job="node",mountpoint="{mountpoint}"}}'
    return f"node_filesystem_size_bytes{labels} 1000\nnode_filesystem_avail_bytes{labels} {available_percent * 10}\n"


def fires(tmp_path: Path, name: str, text: str, at: float, ends: Mapping[str, float] | None = None) -> bool:
    """Return whether an alert fires. The parameters are those of :func:`shown_alert`."""
    return shown_alert(tmp_path, name, text, at, ends) != ""


def shown_alert(tmp_path: Path, name: str, text: str, at: float, ends: Mapping[str, float] | None = None) -> str:
    """Return what promtool shows of an alert that fires; empty if it does not.

    :param text: the metrics, scraped from the beginning.
    :param at: when, in seconds.
    :param ends: parts of the text, and when each is scraped the last time; all of it until then if not given.
    """
    series = [
        {"series": line.rpartition(" ")[0], "values": f"{line.rpartition(' ')[2]}x{int(end // STEP)}"}
        for part, end in (ends or {text: at}).items()
        for line in part.splitlines()
        if not line.startswith("#")
    ]
    # promtool shows what it got where it expected nothing.
    checks = [{"eval_time": f"{int(at)}s", "alertname": name, "exp_alerts": []}]
    case = {"interval": f"{STEP}s", "input_series": series, "alert_rule_test": checks}
    whole = {"rule_files": [str(RULES)], "evaluation_interval": f"{STEP}s", "tests": [case]}
    (tmp_path / "case.yml").write_text(yaml.safe_dump(whole))
    command = ["promtool", "test", "rules", str(tmp_path / "case.yml")]
    ran = subprocess.run(command, capture_output=True, check=False, encoding="utf-8")
    if ran.returncode == 0:
        return ""
    shown = ran.stdout + ran.stderr
    assert f'alertname="{name}"' in shown, shown
    return shown


def missing(*, replaced: bool) -> list[dict[str, Any]]:
    return [{"backing_file": f"{PATH}/{BASE}", "instances": ["instance-1"], "replaced": replaced}]


CORRUPT = [{"name": BASE, "used_by": ["instance-1"]}]
FAILED = [{"name": BASE, "error": "Input/output error"}]
HEALTHY = report(cache())
FULL = report(cache(full=True))
UNANSWERED = re.sub(r"^(\w+host_answered\S+) 1$", r"\1 0", HEALTHY, flags=re.MULTILINE)
LOST = re.sub(r"^(\w+cache_found\S+) 1$", r"\1 0", HEALTHY, flags=re.MULTILINE)
A_GIB, MORE = (
    re.sub(r"^(\w+reclaimable_bytes\S+) \S+$", rf"\1 {size}", FULL, flags=re.MULTILINE) for size in (GIB, GIB + 1)
)
OPTED_OUT = report(cache(opted_out=True, prune_seconds=None))
MISSING, REPLACED, CORRUPTED, STALE, ABSENT, SILENT, REFUSED, UNREMOVED, RECLAIMABLE, ORPHANS = ALERTS
FIRES = [
    (MISSING, report(cache(missing=missing(replaced=False))), STEP),
    (REPLACED, report(cache(missing=missing(replaced=True))), STEP),
    (CORRUPTED, report(cache(corrupt=CORRUPT)), STEP),
    (STALE, HEALTHY, 36 * HOUR + STEP),
    (ABSENT, "", HOUR + STEP),
    (SILENT, report(hosts=[silent("cmp-1")]), HOUR + STEP),
    (SILENT, report(hosts=[silent("cmp-1")]), 36 * HOUR),
    (SILENT, LOST, HOUR + STEP),
    (REFUSED, report(cache(unknown_use=["It is unknown."])), DAY + STEP),
    (REFUSED, report(cache(reasons=["fleet_limit"])), DAY + STEP),
    (REFUSED, report(cache(reasons=["members_missing"], prune_seconds=None)), DAY + STEP),
    (UNREMOVED, report(cache(**done(failed=FAILED))), STEP),
    (UNREMOVED, report(cache(**done(kept=[{"name": BASE, "reason": "unremovable"}]))), STEP),
    (UNREMOVED, report(cache(prune_seconds=None, prune_unfinished=True)), STEP),
    (RECLAIMABLE, FULL, HOUR + STEP),
    (RECLAIMABLE, MORE, HOUR + STEP),
    (RECLAIMABLE, HEALTHY + node(9), HOUR + STEP),
    (RECLAIMABLE, HEALTHY + node(9, instance="cmp-1"), HOUR + STEP),
    (RECLAIMABLE, FULL + node(50, "/boot"), HOUR + STEP),
    (ORPHANS, report(cache(orphans=[orphan("a")])), 7 * DAY + STEP),
]
IS_SILENT = [
    *((name, HEALTHY, 7 * DAY + STEP) for name in ALERTS if name != STALE),
    (MISSING, report(cache(missing=missing(replaced=True))), STEP),
    (REPLACED, report(cache(missing=missing(replaced=False))), STEP),
    (CORRUPTED, report(cache(checksums=None)), STEP),
    (STALE, HEALTHY, 36 * HOUR),
    (ABSENT, "", HOUR - STEP),
    (ABSENT, HEALTHY, 2 * HOUR),
    (SILENT, report(hosts=[silent("cmp-1")]), HOUR - STEP),
    (SILENT, LOST, HOUR - STEP),
    (SILENT, UNANSWERED, 36 * HOUR),  # its last answer is not yet two days old
    (SILENT, report(hosts=[silent("cmp-1")]), 36 * HOUR + STEP),
    (SILENT, HEALTHY, 4 * DAY),  # the whole report is stale, and each host with it
    (REFUSED, report(cache(reasons=["limit"])), DAY - STEP),
    (REFUSED, OPTED_OUT, DAY + STEP),
    (RECLAIMABLE, FULL, HOUR - STEP),
    (RECLAIMABLE, A_GIB, HOUR + STEP),
    (RECLAIMABLE, HEALTHY + node(10), HOUR + STEP),
    (RECLAIMABLE, HEALTHY + node(9, "/boot"), HOUR + STEP),
    (RECLAIMABLE, HEALTHY + node(9, instance="cmp-10:9100"), HOUR + STEP),
    (RECLAIMABLE, FULL + node(10), HOUR + STEP),
    (RECLAIMABLE, report(cache(full=True, **done(BASE, BASE, BASE))), HOUR + STEP),
    (ORPHANS, report(cache(orphans=[orphan("a")])), 7 * DAY - STEP),
]


@pytest.mark.parametrize(("name", "text", "at"), FIRES)
def test_alert_fires_in_its_state(tmp_path: Path, name: str, text: str, at: float) -> None:
    assert fires(tmp_path, name, text, at)


@pytest.mark.parametrize(("name", "text", "at"), IS_SILENT)
def test_alert_is_silent_in_the_healthy_counterpart_of_its_state(
    tmp_path: Path, name: str, text: str, at: float
) -> None:
    assert not fires(tmp_path, name, text, at)


@pytest.mark.parametrize(("gone_since", "is_absent"), [(2 * HOUR, True), (3 * DAY, True), (0, False)])
def test_slice_whose_file_is_scraped_no_more_is_absent_beside_another(
    tmp_path: Path, gone_since: float, is_absent: bool
) -> None:
    first, second = (report(cache(), slice_name=number) for number in "12")
    ends = {first: 4 * DAY - gone_since, second: 4 * DAY}
    assert fires(tmp_path, ABSENT, first + second, 4 * DAY, ends) is is_absent


@pytest.mark.parametrize(("age", "is_silent"), [(49 * HOUR + STEP, True), (49 * HOUR, False)])
def test_host_is_silent_an_hour_after_two_days_without_an_answer(tmp_path: Path, age: float, is_silent: bool) -> None:
    text = re.sub(r"^(\w+report_timestamp_seconds) \S+", rf"\1 {3 * DAY}", HEALTHY, flags=re.MULTILINE)
    text = re.sub(r"^(\w+host_answer_timestamp_seconds\S+) \S+", rf"\1 {3 * DAY - age}", text, flags=re.MULTILINE)
    assert fires(tmp_path, SILENT, text, 3 * DAY) is is_silent


def test_each_alert_has_a_state_in_which_it_fires() -> None:
    assert {name for name, _text, _at in FIRES} == set(ALERTS)
    assert len(ALERTS) <= 10


@pytest.mark.parametrize(
    ("recoverable_from", "more"),
    [
        (None, ""),
        (
            "process",
            "; 1 of them can be restored from Glance, or from guests until these stop: do not stop guests there, and "
            "run ansible-playbook stackops.nova.restore, first with --check, and with -e "
            "image_cache_restore_from_glance=true where Glance has them",
        ),
    ],
)
def test_alert_about_a_missing_file_shows_how_long_it_can_be_restored_and_what_to_type(
    tmp_path: Path, recoverable_from: str | None, more: str
) -> None:
    held = {"recoverable_from": recoverable_from, "recoverable_until": ["instance-1"]}
    found = [{**missing(replaced=False)[0], **held}]
    sentence = f"1 base files that disks need do not exist in {PATH} of cmp-1{more}."
    assert sentence in shown_alert(tmp_path, MISSING, report(cache(missing=found)), STEP)


@pytest.mark.parametrize("name", ALERTS)
def test_alert_has_a_severity_a_sentence_and_a_heading_of_the_docs(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"] in [{"severity": severity} for severity in ("critical", "warning", "info")]
    assert set(rule["annotations"]) == {"summary", "runbook_url"}
    assert re.fullmatch(r"[A-Z{][^\n]+\.", rule["annotations"]["summary"])
    page, _hash, place = rule["annotations"]["runbook_url"].partition("#")
    assert page == "https://git.example.com/stackops/stackops.nova/docsite/monitoring.html"
    headings = re.findall(r"^(\S.*)\n[=\-~^]{3,}$", PAGE.read_text(), re.MULTILINE)
    assert place in {make_id(fully_normalize_name(heading)) for heading in headings}


@pytest.mark.parametrize("reason", RefusalReason)
def test_page_has_a_remedy_for_each_reason_of_a_refusal(reason: RefusalReason) -> None:
    assert f"   * - ``{reason.value}``\n     - " in PAGE.read_text()
