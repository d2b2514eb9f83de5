# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Prometheus reads is true: each value is what was found last, with the time at which that was."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.answers import FileOutcome
from ansible_collections.stackops.nova.plugins.plugin_utils.report.prometheus import (
    Series,
    metrics_of,
    metrics_with_precache,
    parse_metrics,
    render_metrics,
)
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
    verified,
)
from ansible_collections.stackops.nova.tests.support.precaches import (
    failed,
    fetched,
    of_each_outcome,
    outcome,
    precached,
    present,
    refused,
)
from ansible_collections.stackops.nova.tests.support.precaches import silent as silent_in_precache

HOUR = 3600
PATH = answer()["cache_path"]
CORRUPT = [{"name": BASE, "used_by": []}]
MISSING = [{"backing_file": BASE, "instances": ["i"], "replaced": False}]
HELD = {"recoverable_from": "process", "recoverable_until": ["i"]}


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


class Folder:
    """The metrics file of a folder, into which one run after the other writes."""

    def __init__(self, *inventory: str) -> None:
        self.inventory = set(inventory)
        self.text = ""

    def write(self, seen: dict[str, Any], at: float = NOW) -> Folder:
        """Write the report of a run at a time."""
        for one in (seen, *seen["storages"], *seen["hosts"]):
            one["generated" if one is seen else "time"] = at
        former = parse_metrics(self.text, at)
        assert former.damaged_lines == []
        self.text = render_metrics(metrics_of(seen, former.metrics, self.inventory))
        return self

    def write_precache(self, precache: dict[str, Any], at: float) -> Folder:
        """Write what a pre-cache did at a time."""
        former = parse_metrics(self.text, at)
        self.text = render_metrics(metrics_with_precache({**precache, "generated": at}, former.metrics, self.inventory))
        return self

    def images(self, host: str) -> dict[str, float | None]:
        """Return what came of the images of the last pre-cache."""
        outcomes = ("fetched", "present", "refused", "failed")
        return {each: self.value("precache_images", host, outcome=each) for each in outcomes}

    def value(self, name: str, host: str | None = None, **labels: str) -> float | None:
        """Return the value of a series; None where there is none."""
        if host is not None:
            labels["host"] = host
            labels |= {} if name.startswith("host_") else {"cache_path": PATH}
        return series(self.text).get((f"nova_image_cache_{name}", frozenset(labels.items())))

    def hosts(self) -> set[str]:
        return {dict(labels)["host"] for _name, labels in series(self.text) if labels}


def written(seen: dict[str, Any], *inventory: str) -> Folder:
    return Folder(*inventory).write(seen)


def test_metrics_have_the_numbers_of_each_host() -> None:
    folder = written(fleet(storage(answer("a", checksums=verified()), "a"), silent=[silent("b")]))
    assert folder.value("report_timestamp_seconds") == NOW
    assert folder.value("host_answered", "a") == 1
    assert folder.value("host_answered", "b") == 0
    assert folder.value("host_answer_timestamp_seconds", "a") == NOW
    assert folder.value("files", "a", state="removable") == 3
    assert folder.value("allocated_bytes", "a", state="active") == 40 * GIB
    assert folder.value("corrupt_bytes", "a") == GIB
    assert folder.value("reclaimable_bytes", "a") == 30 * GIB
    assert folder.value("filesystem_free_bytes", "a") == 20 * GIB
    assert folder.value("filesystem_size_bytes", "a") == 500 * GIB
    assert folder.value("audit_timestamp_seconds", "a") == NOW
    assert folder.value("audit_duration_seconds", "a") == 1.5
    assert folder.value("verification_timestamp_seconds", "a") == NOW
    assert folder.value("verification_duration_seconds", "a") == 60.5
    assert folder.value("oldest_verification_timestamp_seconds", "a") == NOW - 2 * HOUR


def test_prune_is_shown_as_what_it_did_and_left() -> None:
    folder = written(fleet(storage(answer("a", **done(BASE)), "a")))
    assert folder.value("removed_files", "a") == 1
    assert folder.value("reclaimed_bytes", "a") == 10 * GIB
    assert folder.value("failed_removals", "a") == 0
    assert folder.value("prune_timestamp_seconds", "a") == NOW
    assert folder.value("prune_duration_seconds", "a") == 20.5
    assert folder.value("reclaimable_bytes", "a") == 20 * GIB
    assert folder.value("files", "a", state="removable") == 2
    assert folder.value("allocated_bytes", "a", state="removable") == 20 * GIB


def test_host_is_known_by_the_name_that_nova_has_for_it() -> None:
    seen = fleet(storage(answer("nova-a"), "a"))
    seen["hosts"][0]["host"] = "nova-a"
    labels = {"nova_host": "nova-a", "storage": answer("nova-a")["storage"]["id"], "mountpoint": "/var/lib/nova"}
    assert written(seen).value("host_info", "a", cache_path=PATH, **labels) == 1


def test_alarms_have_metrics() -> None:
    seen = troubled("x")
    seen["storages"][0]["checksums"] = verified()
    folder = written(seen)
    assert folder.value("missing_files", "1x") == 2
    for name in ("replaced_files", "corrupt_files", "orphan_directories", "failed_removals"):
        assert folder.value(name, "1x") == 1
    assert folder.value("removal_refused", "2x", operation="prune", reason="unknown_use") == 1
    assert folder.value("removal_refused", "2x", operation="audit", reason="unknown_use") == 1
    assert folder.value("host_answered", "5x") == 0


@pytest.mark.parametrize(
    ("missing", "count"),
    [
        ([], 0),
        ([{"recoverable_from": None}, HELD], 1),
        ([{**HELD, "recoverable_from": "glance"}, HELD], 2),
        ([{**HELD, "replaced": True}], 0),
        ([{}], None),
    ],
)
def test_missing_files_that_can_be_restored_are_counted_where_that_is_known(
    missing: list[dict[str, Any]], count: int | None
) -> None:
    found = [{"backing_file": BASE, "instances": ["i"], "replaced": False, **each} for each in missing]
    assert written(fleet(storage(answer("a", missing=found), "a"))).value("recoverable_files", "a") == count


def with_precached(name: str, files: int, gib: int, *more_hosts: str) -> dict[str, Any]:
    """A storage on which a prune keeps so many unused files because they were pre-cached."""
    found = answer(name)
    found["summary"]["precached"] = {"files": files, "allocated_bytes": gib * GIB}
    return storage(found, name, *more_hosts)


def test_unused_files_that_are_kept_as_pre_cached_are_counted_once_on_shared_storage() -> None:
    folder = written(fleet(with_precached("a", 3, 7, "b"), storage(answer("c"), "c")))
    assert (folder.value("unused_precached_files", "a"), folder.value("unused_precached_bytes", "a")) == (3, 7 * GIB)
    assert folder.value("unused_precached_files", "b") is None
    assert (folder.value("unused_precached_files", "c"), folder.value("unused_precached_bytes", "c")) == (0, 0)


class TestValuesOfFormerRuns:
    def test_audit_without_verification_resolves_no_corrupt_file(self) -> None:
        folder = Folder("a").write(fleet(storage(answer("a", checksums=verified(), corrupt=CORRUPT), "a")))
        folder.write(fleet(storage(answer("a"), "a")), NOW + HOUR)
        assert folder.value("corrupt_files", "a") == 1
        assert folder.value("verification_timestamp_seconds", "a") == NOW
        assert folder.value("audit_timestamp_seconds", "a") == NOW + HOUR

    def test_repaired_file_is_resolved_by_the_next_verification(self) -> None:
        folder = Folder("a").write(fleet(storage(answer("a", checksums=verified(), corrupt=CORRUPT), "a")))
        folder.write(fleet(storage(answer("a", checksums=verified()), "a")), NOW + HOUR)
        assert folder.value("corrupt_files", "a") == 0

    @pytest.mark.parametrize("unread", ["deferred_files", "skipped_files"])
    def test_verification_that_left_a_file_unread_resolves_no_corrupt_file(self, unread: str) -> None:
        folder = Folder("a").write(fleet(storage(answer("a", checksums=verified(), corrupt=CORRUPT), "a")))
        folder.write(fleet(storage(answer("a", checksums=verified(**{unread: 1})), "a")), NOW + HOUR)
        assert folder.value("corrupt_files", "a") == 1
        assert folder.value(unread, "a") == 1

    def test_unverified_storage_has_no_corrupt_files_rather_than_none(self) -> None:
        assert written(fleet(storage(answer("a"), "a"))).value("corrupt_files", "a") is None

    def test_audit_after_a_prune_keeps_what_the_prune_did(self) -> None:
        folder = Folder("a").write(fleet(storage(answer("a", **done(BASE)), "a")))
        folder.write(fleet(storage(answer("a"), "a")), NOW + HOUR)
        assert folder.value("removed_files", "a") == 1
        assert folder.value("reclaimed_bytes", "a") == 10 * GIB
        assert folder.value("prune_timestamp_seconds", "a") == NOW

    def test_audit_after_a_prune_that_did_not_end_keeps_that(self) -> None:
        folder = Folder("a").write(fleet(storage(answer("a", **done(BASE)), "a")))
        assert folder.value("prune_unfinished", "a") == 0
        folder.write(fleet(storage(answer("a"), "a", prune_unfinished=True)), NOW + HOUR)
        folder.write(fleet(storage(answer("a"), "a")), NOW + 2 * HOUR)
        assert folder.value("prune_unfinished", "a") == 1
        assert folder.value("prune_timestamp_seconds", "a") == NOW
        folder.write(fleet(storage(answer("a", **done(BASE)), "a")), NOW + 3 * HOUR)
        assert folder.value("prune_unfinished", "a") == 0

    def test_dry_run_is_no_prune(self) -> None:
        dry = storage(answer("a", **done(BASE)), "a", prune_seconds=None)
        folder = written(fleet(dry, check_mode=True))
        assert folder.value("removed_files", "a") is None
        assert folder.value("reclaimable_bytes", "a") == 30 * GIB

    def test_hosts_that_a_limit_left_out_keep_their_values_and_times(self) -> None:
        folder = Folder("a", "b").write(fleet(storage(answer("a"), "a"), storage(answer("b", missing=MISSING), "b")))
        folder.write(fleet(storage(answer("a"), "a")), NOW + HOUR)
        assert folder.value("missing_files", "b") == 1
        assert folder.value("audit_timestamp_seconds", "b") == NOW
        assert folder.value("host_answer_timestamp_seconds", "b") == NOW
        assert folder.value("audit_timestamp_seconds", "a") == NOW + HOUR

    def test_unreachable_host_keeps_its_values_and_is_shown_as_silent(self) -> None:
        folder = Folder("a", "b").write(fleet(storage(answer("a"), "a"), storage(answer("b", missing=MISSING), "b")))
        folder.write(fleet(storage(answer("a"), "a"), silent=[silent("b")]), NOW + HOUR)
        assert folder.value("host_answered", "b") == 0
        assert folder.value("host_answer_timestamp_seconds", "b") == NOW
        assert folder.value("missing_files", "b") == 1

    def test_host_that_left_the_inventory_is_forgotten(self) -> None:
        folder = Folder("a", "b").write(fleet(storage(answer("a"), "a"), storage(answer("b"), "b")))
        folder.inventory = {"a"}
        folder.write(fleet(storage(answer("a"), "a")), NOW + HOUR)
        assert folder.hosts() == {"a"}

    def test_former_cache_of_a_host_that_answered_is_forgotten(self) -> None:
        folder = Folder("a").write(fleet(storage(answer("a", cache_path="/former/_base"), "a")))
        folder.write(fleet(storage(answer("a"), "a")), NOW + HOUR)
        assert "/former/_base" not in folder.text

    def test_storage_with_a_new_id_continues_the_one_at_its_path(self) -> None:
        folder = Folder("a").write(fleet(storage(answer("a", **done(BASE)), "a")))
        folder.write(fleet(storage(answer("a"), "a", id="ext4:a:8:17:/_base")), NOW + HOUR)
        assert folder.value("removed_files", "a") == 1


class TestRefusals:
    def test_audit_reports_that_it_is_not_certain_which_images_were_deleted(self) -> None:
        folder = written(fleet(storage(answer("a"), "a", reasons=["unknown_deletions"])))
        assert folder.value("removal_refused", "a", operation="audit", reason="unknown_deletions") == 1

    @pytest.mark.parametrize(("exceeded", "count"), [(["Too many."], 1), ([], 0)])
    def test_refused_prune_resolves_no_failed_removal(self, exceeded: list[str], count: int) -> None:
        failed = [{"name": BASE, "error": "Input/output error"}]
        folder = Folder("a").write(fleet(storage(answer("a", **done(failed=failed)), "a")))
        folder.write(fleet(storage(answer("a", limit_exceeded=exceeded, **done()), "a")), NOW + HOUR)
        assert folder.value("failed_removals", "a") == count

    def test_file_that_cannot_be_removed_is_a_failed_removal_and_a_locked_one_is_not(self) -> None:
        kept = [{"name": BASE, "reason": "unremovable"}, {"name": f"{BASE}_20", "reason": "locked"}]
        folder = written(fleet(storage(answer("a", **done(kept=kept)), "a")))
        assert folder.value("failed_removals", "a") == 1

    def test_limit_is_another_reason_than_unknown_use(self) -> None:
        folder = written(fleet(storage(answer("a", limit_exceeded=["Too many."], **done()), "a")))
        assert folder.value("removal_refused", "a", operation="prune", reason="limit") == 1
        for reason in ("unknown_use", "fleet_limit", "members_missing", "opted_out"):
            assert folder.value("removal_refused", "a", operation="prune", reason=reason) == 0

    def test_audit_keeps_why_the_last_prune_was_refused(self) -> None:
        folder = Folder("a").write(fleet(storage(answer("a", limit_exceeded=["Too many."], **done()), "a")))
        folder.write(fleet(storage(answer("a"), "a")), NOW + HOUR)
        assert folder.value("removal_refused", "a", operation="prune", reason="limit") == 1
        assert folder.value("removal_refused", "a", operation="audit", reason="unknown_use") == 0

    def test_opting_out_replaces_why_the_last_prune_was_refused(self) -> None:
        folder = Folder("a").write(fleet(storage(answer("a", limit_exceeded=["Too many."], **done()), "a")))
        folder.write(fleet(storage(answer("a"), "a", opted_out=True)), NOW + HOUR)
        assert folder.value("removal_refused", "a", operation="prune", reason="limit") == 0
        assert folder.value("removal_refused", "a", operation="prune", reason="opted_out") == 1


class TestPrecache:
    """Each host of these has its cache at the same path as those of audits."""

    ALL: ClassVar = {
        "fetched": [fetched("one")],
        "present": [present("two"), present("three")],
        "refused": [refused("four")],
    }

    def done(self, *outcomes: FileOutcome) -> dict[str, Any]:
        made = precached(*outcomes)
        for row in made["outcomes"]:
            row["cache_path"] = row["cache_path"] and PATH
        return made

    def test_images_are_counted_by_what_came_of_them(self) -> None:
        folder = Folder("a", "b").write_precache(self.done(outcome("a", **self.ALL), silent_in_precache("b")), NOW)
        assert folder.images("a") == {"fetched": 1, "present": 2, "refused": 1, "failed": 0}
        assert folder.value("precache_timestamp_seconds", "a") == NOW
        assert folder.hosts() == {"a"}

    def test_bytes_are_counted_by_where_they_came_from(self) -> None:
        got = [fetched("one", source="peer", read_bytes=5)]
        member = outcome("b", "nfs", elsewhere="a", fetched=[fetched("one")])
        folder = Folder("a", "b").write_precache(self.done(outcome("a", "nfs", fetched=got), member), NOW)
        read = {
            source: folder.value("precache_read_bytes", "a", source=source) for source in ("glance", "peer", "file")
        }
        assert read == {"glance": 0, "peer": 5, "file": 0}

    def test_audit_keeps_what_the_last_pre_cache_did(self) -> None:
        audited = fleet(storage(answer("a"), "a"), storage(answer("b"), "b"))
        folder = Folder("a", "b").write(audited)
        folder.write_precache(self.done(outcome("a", **self.ALL)), NOW + HOUR)
        folder.write(fleet(storage(answer("a"), "a"), storage(answer("b"), "b")), NOW + 2 * HOUR)
        assert folder.images("a") == {"fetched": 1, "present": 2, "refused": 1, "failed": 0}
        assert folder.value("precache_timestamp_seconds", "a") == NOW + HOUR
        assert folder.value("precache_timestamp_seconds", "b") is None

    def test_pre_cache_leaves_all_that_it_did_not_look_at_with_its_time(self) -> None:
        folder = Folder("a").write(fleet(storage(answer("a", checksums=verified(), **done(BASE)), "a")))
        before = series(folder.text)
        folder.write_precache(self.done(outcome("a", **self.ALL)), NOW + HOUR)
        assert {key: value for key, value in series(folder.text).items() if "precache_" not in key[0]} == before

    def test_host_that_did_not_answer_keeps_what_its_last_pre_cache_did(self) -> None:
        folder = Folder("a", "b")
        folder.write_precache(self.done(outcome("a", **self.ALL), outcome("b", failed=[failed("one")])), NOW)
        folder.write_precache(self.done(outcome("a", **self.ALL), silent_in_precache("b")), NOW + HOUR)
        assert (folder.images("b")["failed"], folder.value("precache_timestamp_seconds", "b")) == (1, NOW)
        assert folder.value("precache_timestamp_seconds", "a") == NOW + HOUR

    def test_host_that_left_the_inventory_is_forgotten(self) -> None:
        folder = Folder("a", "b")
        folder.write_precache(self.done(outcome("a", **self.ALL), outcome("b", **self.ALL)), NOW)
        folder.inventory = {"a"}
        folder.write_precache(self.done(outcome("a", **self.ALL)), NOW + HOUR)
        assert folder.hosts() == {"a"}

    def test_storage_counts_once_under_the_name_that_audits_show(self) -> None:
        folder = Folder("a", "b", "c").write(fleet(storage(answer("x"), "a", "b", "c")))
        one, other = outcome("b", "nfs", **self.ALL), outcome("c", "nfs", elsewhere="b", **self.ALL)
        folder.write_precache(self.done(one, other), NOW + HOUR)
        assert folder.images("a") == {"fetched": 1, "present": 2, "refused": 1, "failed": 0}
        assert folder.value("precache_timestamp_seconds", "b") is None
        folder.write(fleet(storage(answer("x"), "b", "c"), silent=[silent("a")]), NOW + 2 * HOUR)
        assert folder.images("a")["fetched"] == 1

    def test_image_that_one_host_of_a_storage_fetched_is_refused_on_none(self) -> None:
        hosts = [outcome("a", "nfs", refused=[refused("one")]), outcome("b", "nfs", fetched=[fetched("one")])]
        folder = Folder("a", "b").write_precache(self.done(*hosts), NOW)
        assert folder.images("a") == {"fetched": 1, "present": 0, "refused": 0, "failed": 0}

    def test_image_that_a_lost_host_was_to_fetch_has_failed(self) -> None:
        lost = silent_in_precache("a")
        folder = Folder("a", "b").write_precache(
            self.done(lost, outcome("b", "nfs", elsewhere="a", fetched=[fetched("one")])), NOW
        )
        assert folder.images("b") == {"fetched": 0, "present": 0, "refused": 0, "failed": 1}

    def test_cloned_hosts_with_one_id_have_series_of_their_own(self) -> None:
        clones = [storage(answer(name), name, id="clone") for name in "ab"]
        folder = Folder("a", "b").write(fleet(*clones))
        folder.write_precache(self.done(outcome("a", **self.ALL), outcome("b", failed=[failed("one")])), NOW + HOUR)
        assert (folder.images("a")["fetched"], folder.images("b")["failed"]) == (1, 1)


class TestSharedStorage:
    def test_storage_counts_once_under_its_first_name(self) -> None:
        folder = written(fleet(storage(answer("x"), "c", "a"), storage(answer("y"), "b")))
        hosts = {dict(labels)["host"] for name, labels in series(folder.text) if name == "nova_image_cache_files"}
        assert hosts == {"a", "b"}
        assert '{host="c",cache_path=' in folder.text

    def test_storage_keeps_its_name_while_the_first_member_is_silent(self) -> None:
        folder = Folder("a", "b").write(fleet(storage(answer("x", **done(BASE)), "a", "b")))
        folder.write(fleet(storage(answer("x"), "b"), silent=[silent("a")]), NOW + HOUR)
        assert folder.value("audit_timestamp_seconds", "a") == NOW + HOUR
        assert folder.value("removed_files", "a") == 1
        assert folder.value("audit_timestamp_seconds", "b") is None

    def test_storage_whose_first_member_left_the_inventory_is_shown_under_the_next(self) -> None:
        folder = Folder("a", "b", "c").write(
            fleet(storage(answer("x", **done(BASE)), "a", "b"), storage(answer("c"), "c"))
        )
        folder.inventory = {"b", "c"}
        folder.write(fleet(storage(answer("c"), "c")), NOW + HOUR)
        assert folder.value("removed_files", "b") == 1
        assert folder.hosts() == {"b", "c"}

    def test_host_that_moved_to_a_storage_of_its_own_leaves_the_shared_one_to_the_others(self) -> None:
        folder = Folder("a", "b").write(fleet(storage(answer("x", missing=MISSING), "a", "b")))
        folder.write(fleet(storage(answer("a"), "a")), NOW + HOUR)
        assert folder.value("missing_files", "b") == 1
        assert folder.value("missing_files", "a") == 0

    def test_storages_of_cloned_hosts_with_one_id_are_two_series(self) -> None:
        folder = Folder("a", "b")
        for at in (NOW, NOW + HOUR):
            folder.write(fleet(storage(answer("x"), "a"), storage(answer("x"), "b")), at)
        assert folder.value("files", "a", state="active") == folder.value("files", "b", state="active") == 4

    def test_member_of_an_earlier_batch_still_names_the_storage(self) -> None:
        folder = Folder("a", "b").write(fleet(storage(answer("x", **done(BASE)), "a", "b")))
        seen = fleet(storage(answer("x"), "a", "b"))
        seen["storages"][0]["hosts"].remove("a")  # as of the next batch, in which it was not looked at
        folder.write(seen, NOW + HOUR)
        assert folder.value("audit_timestamp_seconds", "a") == NOW + HOUR
        assert folder.value("removed_files", "a") == 1

    @pytest.mark.parametrize(("reasons", "count"), [(["members_missing"], 1), ([], 0)])
    def test_guest_of_a_member_that_was_not_asked_may_still_run_on_a_former_file(
        self, reasons: list[str], count: int
    ) -> None:
        lost = [{**MISSING[0], **HELD, "replaced": is_replaced} for is_replaced in (True, False)]
        folder = Folder("a", "b").write(fleet(storage(answer("x", missing=lost), "a", "b")))
        seen = answer("x", missing=[{**MISSING[0], "recoverable_from": None}])
        folder.write(fleet(storage(seen, "a", reasons=reasons)), NOW + HOUR)
        assert folder.value("replaced_files", "a") == folder.value("recoverable_files", "a") == count

    @pytest.mark.parametrize(("reasons", "count"), [(["members_missing"], 1), ([], 0)])
    def test_file_that_a_member_misses_that_was_not_asked_is_still_missing(
        self, reasons: list[str], count: int
    ) -> None:
        folder = Folder("a", "b").write(fleet(storage(answer("x", missing=MISSING), "a", "b")))
        folder.write(fleet(storage(answer("x", missing=[]), "a", reasons=reasons)), NOW + HOUR)
        assert folder.value("missing_files", "a") == count

    def test_two_caches_of_one_host_are_two_series(self) -> None:
        other = storage(answer("a", cache_path="/other/_base"), "a", id="another")
        seen = fleet(storage(answer("a"), "a"), other)
        assert len([key for key in series(written(seen).text) if key[0] == "nova_image_cache_missing_files"]) == 2


class TestFormerFile:
    @given(st.dictionaries(st.text(), st.floats(0, 1e15), max_size=5))
    def test_written_metrics_are_read_again(self, values: dict[str, float]) -> None:
        metrics = {Series("host_answered", (name.encode("utf-8", "ignore").decode(),)): values[name] for name in values}
        parsed = parse_metrics(render_metrics(metrics, "a-slice"), NOW)
        assert (parsed.metrics, parsed.damaged_lines) == (metrics, [])

    @pytest.mark.parametrize(
        "line",
        [
            "nova_image_cache_host_answered 1",
            'nova_image_cache_host_answered{host="a"}',
            'nova_image_cache_host_answered{host="a"} one',
            'nova_image_cache_host_answered{host="a"} NaN',
            'nova_image_cache_host_answered{host="a"} +Inf',
            'nova_image_cache_host_answered{host="a"} -1',
            'nova_image_cache_host_answered{host="a"} 1e300',
            'nova_image_cache_host_answered{host="a"} 1 1800000000000',
            'nova_image_cache_host_answered{host="a" 1',
            'nova_image_cache_host_answered{host="a\\t"} 1',
            'nova_image_cache_host_answered{host="a",x="y"} 1',
            'nova_image_cache_host_answered{x="a"} 1',
            f'nova_image_cache_host_answer_timestamp_seconds{{host="a"}} {NOW + HOUR}',
            'nova_image_cache_unheard_of{host="a"} 1',
            'node_load1{host="a"} 1',
            "\x00",
        ],
    )
    def test_line_that_was_never_written_is_named_and_the_others_count(self, line: str) -> None:
        good = 'nova_image_cache_host_answered{host="b"} 1'
        parsed = parse_metrics(f"{good}\n{line}\n", NOW)
        assert (parsed.metrics, parsed.damaged_lines) == ({Series("host_answered", ("b",)): 1}, [2])

    @given(st.text())
    def test_any_text_can_be_read(self, text: str) -> None:
        parse_metrics(text, NOW)


def test_slice_is_a_label_of_all_series() -> None:
    text = render_metrics(metrics_of(troubled("x"), {}, set()), "2")
    assert all(dict(labels)["slice"] == "2" for _name, labels in series(text))


@pytest.mark.parametrize("seconds", [-3600.0, -1e300, 1e300])
def test_metrics_of_a_host_with_any_clock_are_read_again(seconds: float) -> None:
    seen = storage(answer("a", checksums=verified(oldest_verification_seconds=seconds)), "a")
    folder = written(fleet({**seen, "verification_seconds": seconds}))
    assert parse_metrics(folder.text, NOW).damaged_lines == []
    assert folder.value("oldest_verification_timestamp_seconds", "a") == (NOW if seconds < 0 else None)


def test_host_without_a_cache_has_no_metrics_of_a_file_system() -> None:
    nothing = answer()
    nothing["storage"].update(id=None, free_bytes=None, total_bytes=None, filesystem=None, shared=None)
    assert "None" not in written(fleet(storage(nothing, "a", mount_point=None))).text


def without_cache(*hosts: str) -> dict[str, Any]:
    """A storage that was to be one, of a host whose directory does not exist; all its numbers are 0."""
    made = answer(**{"exists": False, **done(), "checksums": verified()})
    made["storage"].update(id=None, free_bytes=None, total_bytes=None, filesystem=None, shared=None)
    made["summary"].update(dict.fromkeys(("active", "removable", "too_young", "other", "reclaimable_bytes"), 0))
    return storage(made, *hosts, mount_point=None)


def below_the_mount(*hosts: str, mount_point: str | None = "/", **more: Any) -> dict[str, Any]:
    """A storage of a host on which an empty directory of its root has the path of the cache."""
    made = answer(**{**done(), "checksums": verified(), **more})
    made["storage"].update(id="ext4:root:8:1:/var/lib/nova/instances/_base")
    made["summary"].update(dict.fromkeys(("active", "removable", "too_young", "other", "reclaimable_bytes"), 0))
    return storage(made, *hosts, mount_point=mount_point)


@pytest.mark.parametrize("without_mount", [without_cache, below_the_mount])
def test_cache_that_is_not_mounted_any_more_keeps_its_values_and_their_time(
    without_mount: Callable[[str], dict[str, Any]],
) -> None:
    bad = storage(answer("a", missing=MISSING, corrupt=CORRUPT, checksums=verified(), **done(BASE)), "a")
    folder = written(fleet(bad), "a")
    assert folder.value("cache_found", "a") == 1
    before = series(folder.text)
    for at in (NOW + HOUR, NOW + 2 * HOUR):
        folder.write(fleet(without_mount("a")), at)
        assert folder.value("cache_found", "a") == 0
        assert (folder.value("host_answered", "a"), folder.value("host_answer_timestamp_seconds", "a")) == (1, at)
        changed = {name for (name, labels), value in series(folder.text).items() if before[name, labels] != value}
        assert changed == {
            f"nova_image_cache_{name}"
            for name in ("report_timestamp_seconds", "host_answer_timestamp_seconds", "cache_found")
        }
        assert series(folder.text).keys() == before.keys()
    folder.write(fleet(storage(answer("a"), "a")), NOW + 3 * HOUR)
    assert (folder.value("cache_found", "a"), folder.value("missing_files", "a")) == (1, 0)
    assert folder.value("audit_timestamp_seconds", "a") == NOW + 3 * HOUR


@pytest.mark.parametrize(
    "seen",
    [
        storage(answer("a"), "a"),
        storage(answer("a"), "a", mount_point="/"),
        below_the_mount("a", mount_point="/var/lib/nova"),
        below_the_mount("a", mount_point="/var/lib/nova/instances"),
        below_the_mount("a", mount_point=None),
    ],
    ids=["the same", "the same elsewhere", "another in its place", "another below it", "unknown"],
)
def test_cache_on_a_file_system_in_the_place_of_the_former_one_is_what_it_is(seen: dict[str, Any]) -> None:
    folder = written(fleet(storage(answer("a", missing=MISSING), "a")), "a").write(fleet(seen), NOW + HOUR)
    assert (folder.value("cache_found", "a"), folder.value("missing_files", "a")) == (1, 0)
    assert folder.value("audit_timestamp_seconds", "a") == NOW + HOUR


def test_file_that_a_disk_misses_below_a_lost_mount_is_missing_until_the_mount_is_back() -> None:
    folder = written(fleet(storage(answer("a"), "a")), "a")
    for missing, count in ((MISSING, 1), ([], 1)):
        folder.write(fleet(below_the_mount("a", missing=missing)), NOW + HOUR)
        assert (folder.value("missing_files", "a"), folder.value("audit_timestamp_seconds", "a")) == (count, NOW)
    folder.write(fleet(storage(answer("a"), "a")), NOW + 2 * HOUR)
    assert folder.value("missing_files", "a") == 0


@pytest.mark.parametrize("without_mount", [without_cache, below_the_mount])
def test_cache_that_another_host_still_has_is_shown_as_that_host_found_it(
    without_mount: Callable[[str], dict[str, Any]],
) -> None:
    shared = answer("ab")
    folder = written(fleet(storage(shared, "a", "b")), "a", "b")
    folder.write(fleet(without_mount("a"), storage(answer("ab", missing=MISSING), "b")), NOW + HOUR)
    assert (folder.value("cache_found", "a"), folder.value("cache_found", "b")) == (0, 1)
    assert (folder.value("missing_files", "a"), folder.value("missing_files", "b")) == (1, None)
    assert folder.value("audit_timestamp_seconds", "a") == NOW + HOUR


@pytest.mark.parametrize("without_mount", [without_cache, below_the_mount])
def test_storage_group_whose_first_member_lost_the_mount_keeps_its_values(
    without_mount: Callable[..., dict[str, Any]],
) -> None:
    group = {"id": "group:g:_base"}
    folder = written(fleet({**storage(answer("a", missing=MISSING), "a", "b"), **group}), "a", "b")
    folder.write(fleet({**without_mount("a", "b"), **group}), NOW + HOUR)
    assert [folder.value("cache_found", host) for host in ("a", "b")] == [0, 0]
    assert (folder.value("missing_files", "a"), folder.value("audit_timestamp_seconds", "a")) == (1, NOW)


def test_host_that_never_had_a_cache_has_not_lost_one() -> None:
    folder = written(fleet(without_cache("a")), "a").write(fleet(without_cache("a")), NOW + HOUR)
    assert (folder.value("cache_found", "a"), folder.value("missing_files", "a")) == (None, 0)
    assert folder.value("audit_timestamp_seconds", "a") == NOW + HOUR


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_name_adds_and_removes_no_series(name: str) -> None:
    hostile, harmless = (
        series(Folder(*(f"{n}{each}" for n in range(7))).write(troubled(each)).write(troubled(each), NOW + 1).text)
        for each in (name, "name")
    )
    assert sorted(metric for metric, _labels in hostile) == sorted(metric for metric, _labels in harmless)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_host_name_of_any_characters_is_kept_in_its_label(name: str) -> None:
    assert f"1{name}" in written(troubled(name)).hosts()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="takes promtool, which ./test monitoring installs")
def test_promtool_finds_nothing_to_correct() -> None:
    seen = troubled("x")
    seen["storages"][0]["checksums"] = verified()
    text = written(seen, "1x").write_precache(of_each_outcome("x"), NOW + HOUR).text
    assert "nova_image_cache_precache_images" in text
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False, encoding="utf-8"
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_names_of_metrics_follow_the_conventions_of_prometheus() -> None:
    text = written(troubled("x")).write_precache(of_each_outcome("x"), NOW + HOUR).text
    names = re.findall(r"^# TYPE (\S+) gauge$", text, re.MULTILINE)
    assert len(names) == len(set(names))
    assert names == re.findall(r"^# HELP (\S+) ", text, re.MULTILINE)
    for name in names:
        assert re.fullmatch(r"nova_image_cache(_[a-z]+)+", name)
        assert not name.endswith(("_total", "_count", "_sum", "_bucket", "_gib", "_percent"))
    assert text.endswith("\n")
