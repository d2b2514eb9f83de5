# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report is written on the controller, whole, and where the operator wants it."""

from __future__ import annotations

import json
import re

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import (
    LOOK,
    UNREACHABLE,
    ComputeFleet,
    cached,
    names,
    role,
)
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree


def test_report_is_never_written_into_the_collection(fleet: ComputeFleet) -> None:
    tree = fleet.add("a")
    run = fleet.prune(image_cache_report_path="report")
    assert "-e image_cache_report_path=$PWD/report" in run.messages["a"], run.output
    assert len(cached(tree)) == 2


@pytest.mark.slow
def test_report_may_be_written_into_the_home_of_the_user(fleet: ComputeFleet) -> None:
    fleet.add("a")
    fleet.environment["HOME"] = str(fleet.root)
    run = fleet.prune(image_cache_report_path="~/report")
    assert run.status == 0, run.output
    assert (fleet.root / "report" / "report.json").exists()


@pytest.mark.slow
def test_path_that_the_first_host_does_not_have_is_used(fleet: ComputeFleet, shared: CacheTree) -> None:
    report = fleet.root / "report"
    fleet.hosts["c"]["image_cache_report_path"] = str(report)
    run = fleet.prune()
    assert (run.status, cached(shared)) == (0, names("image-a", "image-b")), run.output
    written = json.loads((report / "report.json").read_text())
    assert written["summary"]["removed"] == 3
    assert {host["name"] for host in written["hosts"]} == {"a", "b", "c"}


@pytest.mark.slow
def test_path_of_a_host_that_did_not_answer_is_used(fleet: ComputeFleet, shared: CacheTree) -> None:
    report = fleet.root / "report"
    fleet.hosts["c"].update(image_cache_report_path=str(report), **UNREACHABLE)
    run = fleet.prune()
    assert cached(shared) == names("image-a", "image-b"), run.output
    hosts = {host["name"]: host["state"] for host in json.loads((report / "report.json").read_text())["hosts"]}
    assert hosts == {"a": "pruned", "b": "pruned", "c": "unreachable"}


@pytest.mark.slow
def test_report_of_a_relative_path_lies_beside_the_playbook(fleet: ComputeFleet) -> None:
    fleet.add("a")
    run = fleet.play({"tasks": [role("audit")]}, image_cache_report_path="there")
    assert run.status == 0, run.output
    assert (fleet.root / "there" / "report.html").exists()


def test_path_that_cannot_be_written_fails_before_anything_is_removed(fleet: ComputeFleet) -> None:
    fleet.add("a")
    (fleet.root / "file").write_text("")
    run = fleet.prune(image_cache_report_path=str(fleet.root / "file" / "report"))
    assert (run.status != 0, len(fleet.cached("a"))) == (True, 2), run.output
    assert "report" in run.messages["a"]


@pytest.mark.slow
def test_cache_with_a_corrupt_file_is_shown_although_the_host_fails(fleet: ComputeFleet) -> None:
    tree = fleet.add("a")
    (used,) = names("image-a")
    (tree.cache_path / f"{used}.info").write_text(json.dumps({"sha1": "0" * 40}))
    run = fleet.audit(image_cache_checksum_base_images=True, image_cache_fail_on_corrupt=True)
    assert run.status != 0
    assert "IMAGE CACHE  nova-a:" in run.text, run.output
    assert run.reported["fleet"]["summary"]["corrupt"] == 1


def test_report_has_the_images_of_all_hosts_and_a_play_without_one_keeps_none(fleet: ComputeFleet) -> None:
    for name in "ab":
        fleet.add(name)
    report = fleet.root / "report"
    run = fleet.audit(image_cache_report_path=str(report))
    assert run.status == 0, run.output
    images = json.loads((report / "report.json").read_text())["images"]
    assert sorted((image["hosts"], image["instances"], bool(image["reclaimable_bytes"])) for image in images) == [
        *[(1, 0, True)] * 2,
        *[(1, 1, False)] * 2,
    ]
    page = (report / "report.html").read_text()
    assert all((image["image_id"] or image["fingerprint"]) in page for image in images)
    run = fleet.audit()
    assert run.reported["fleet"]["images"] == []
    assert not any("images" in result.get("image_cache", {}) for result in run.of(LOOK).values())


@pytest.mark.slow
def test_audit_of_other_hosts_resolves_nothing_that_a_verification_found(fleet: ComputeFleet) -> None:
    for name in "ab":
        fleet.add(name)
    [used] = names("image-a")
    (fleet.root / "a/instances/_base" / f"{used}.info").write_text(json.dumps({"sha1": "0" * 40}))
    fleet.variables["image_cache_report_path"] = str(fleet.root / "report")
    verified = fleet.audit(image_cache_checksum_base_images=True)
    audited = fleet.audit()
    limited = fleet.audit("--limit", "b")
    assert [verified.status, audited.status, limited.status] == [0, 0, 0], limited.output
    text = (fleet.root / "report/image_cache.prom").read_text()
    assert re.search(r'corrupt_files\{host="a",[^\n]+\} 1$', text, re.MULTILINE)
    assert re.search(r'audit_timestamp_seconds\{host="a",[^\n]+\} ', text)


@pytest.mark.slow
def test_damaged_metrics_of_former_runs_are_warned_about_and_stop_no_run(fleet: ComputeFleet) -> None:
    fleet.add("a")
    (fleet.root / "report").mkdir()
    (fleet.root / "report/image_cache.prom").write_text("half of a li")
    run = fleet.prune(image_cache_report_path=str(fleet.root / "report"))
    assert run.status == 0, run.output
    assert "cannot be read in full" in " ".join(run.output.split())  # ansible-core 2.18 wraps its warnings
    assert (fleet.root / "report/image_cache.prom").read_text().startswith("# HELP ")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["--check"]], ids=["prune", "dry run"])
@pytest.mark.parametrize("is_rescued", [False, True], ids=["failed", "rescued"])
def test_report_says_what_is_removed_where_another_host_is_refused(
    fleet: ComputeFleet, is_rescued: bool, arguments: list[str]
) -> None:
    for name in ("a", "b"):
        fleet.add(name)
    fleet.add("c", image_cache_max_removals=0)
    rescue = [{"name": "Go on", "ansible.builtin.meta": "noop"}]
    task = {"name": "Prune", "block": [role(how="include_role")], "rescue": rescue} if is_rescued else role()
    report = fleet.root / "report"
    run = fleet.play({"tasks": [task]}, *arguments, image_cache_prune=True, image_cache_report_path=str(report))
    written = json.loads((report / "report.json").read_text())
    states = {one["pruner"]: (one["state"], len(one["removed"])) for one in written["storages"]}
    assert states == {"a": ("pruned", 1), "b": ("pruned", 1), "c": ("refused", 0)}, run.output
    assert written["summary"]["removed"] == 2
