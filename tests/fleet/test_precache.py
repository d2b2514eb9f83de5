# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Chosen images come into the caches of a fleet, a dry run says so before, and the token is seen nowhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import (
    UNREACHABLE,
    ComputeFleet,
    Run,
    cached,
    names,
    picture,
    role,
)
from ansible_collections.stackops.nova.tests.support.openstack_apis import Cloud, cloud, write_clouds
from ansible_collections.stackops.nova.tests.support.precaches import image
from ansible_collections.stackops.nova.tests.support.processes import needs_root
from ansible_collections.stackops.nova.tests.support.tokens import all_that_is_shown
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree, fingerprint

pytestmark = needs_root

ONE, TWO = "11111111-6166-4aa7-bb6c-7ceae4a8201c", "22222222-6166-4aa7-bb6c-7ceae4a8201c"
CONTENT = {ONE: b"the operating system" * 5000, TWO: b"another one" * 5000}
REPORT = "Report on the pre-caching"


@pytest.fixture
def apis(tmp_path: Path, token: str) -> Iterator[Cloud]:
    with cloud() as running:
        running.roles, running.token = ["reader"], token
        running.files = CONTENT
        running.images["lab"] = [image(each, content, name=f"image-{each[0]}") for each, content in CONTENT.items()]
        write_clouds(tmp_path, {"lab": running.url})
        yield running


@pytest.fixture
def compute(fleet: ComputeFleet, tmp_path: Path) -> ComputeFleet:
    fleet.environment = {"OS_CLIENT_CONFIG_FILE": str(tmp_path / "clouds.yaml"), **all_that_is_shown(tmp_path)}
    fleet.variables = {"image_cache_openstack_cloud": "lab", "image_cache_min_free_space": "0%"}
    return fleet


def precache(fleet: ComputeFleet, *arguments: str, **variables: Any) -> Run:
    """Run the playbook that pre-caches."""
    return fleet.run_playbook("stackops.nova.precache", *arguments, **variables)


def text_of(run: Run) -> str:
    """What the report on the pre-caching shows."""
    lines = next(one["result"]["text"] for one in reversed(run.results) if one["task"].endswith(REPORT))
    return " ".join(" ".join(lines).split())


def content(tree: CacheTree, image_id: str) -> bytes:
    return (tree.cache_path / fingerprint(image_id)).read_bytes()


def test_named_images_are_fetched_once_and_are_present_afterwards(compute: ComputeFleet, apis: Cloud) -> None:
    trees = [compute.add(name) for name in "ab"]
    wanted = {"image_cache_precache_images": [ONE, "image-2"]}
    before = picture(compute.root / "a")
    dry = precache(compute, "--check", **wanted)
    assert (dry.status, dry.changed, picture(compute.root / "a")) == (0, {"a", "b"}, before), dry.output
    assert "WOULD BE FETCHED: 4 files" in text_of(dry)
    assert apis.count("/file") == 0

    run = precache(compute, **wanted)
    assert (run.status, run.changed) == (0, {"a", "b"}), run.output
    assert all(content(tree, each) == CONTENT[each] for tree in trees for each in CONTENT)
    assert "FETCHED: 4 files" in text_of(run)
    assert apis.count("/file") == 4

    again = precache(compute, **wanted)
    assert (again.status, again.changed) == (0, set()), again.output
    assert "All images are present" in text_of(again)
    assert apis.count("/file") == 4


def test_property_chooses_public_images_only(compute: ComputeFleet, apis: Cloud) -> None:
    tree = compute.add("a")
    for each in apis.images["lab"]:
        each["precache"] = "yes"
    apis.images["lab"][1].update(visibility="private", owner="tenant")
    run = precache(compute, image_cache_precache_properties={"precache": "yes"})
    assert run.status == 0, run.output
    assert names(ONE) <= cached(tree)
    assert not names(TWO) & cached(tree)


@pytest.mark.slow
def test_hosts_that_share_a_storage_fetch_an_image_once(compute: ComputeFleet, shared: CacheTree, apis: Cloud) -> None:
    run = precache(compute, image_cache_precache_images=[ONE])
    assert (run.status, run.changed) == (0, {"a", "c"}), run.output
    assert content(shared, ONE) == CONTENT[ONE]
    assert run.of("Pre-cache images")["b"]["image_cache_precache"]["elsewhere"] == {ONE: "a"}
    assert apis.count("/file") == 2


def test_token_of_an_administrator_reaches_no_host(compute: ComputeFleet, apis: Cloud) -> None:
    tree = compute.add("a")
    apis.roles = ["admin"]
    run = precache(compute, image_cache_precache_images=[ONE])
    assert run.failed == {"a"}
    assert "its token has the role admin" in run.messages["a"]
    assert not names(ONE) & cached(tree)
    assert precache(compute, image_cache_precache_images=[ONE], image_cache_allow_admin_token=True).status == 0


def test_image_that_fails_leaves_nothing_and_the_others_go_on(compute: ComputeFleet, apis: Cloud) -> None:
    tree = compute.add("a")
    before = cached(tree)
    apis.files = {**CONTENT, ONE: CONTENT[ONE][:-1] + b"!"}
    run = precache(compute, image_cache_precache_images=[ONE, TWO])
    assert run.failed == {"a"}, run.output
    assert ONE in run.messages["a"]
    gained = {name for name in cached(tree) - before if not name.endswith(".info")}
    assert gained == names(TWO)


@pytest.mark.slow
def test_host_that_is_unreachable_stops_no_other(compute: ComputeFleet, apis: Cloud) -> None:
    tree = compute.add("a")
    compute.add("b", **UNREACHABLE)
    run = precache(compute, image_cache_precache_images=[ONE])
    assert (run.failed, run.unreachable) == (set(), {"b"}), run.output
    assert content(tree, ONE) == CONTENT[ONE]
    assert apis.count("/auth/tokens") == 2  # for the list, and for the one host


@pytest.mark.slow
def test_image_comes_from_a_file_where_no_api_is_asked(compute: ComputeFleet, apis: Cloud, tmp_path: Path) -> None:
    tree = compute.add("a")
    (tmp_path / "brought").write_bytes(CONTENT[ONE])
    run = precache(
        compute,
        image_cache_precache_source="files",
        image_cache_precache_images=[ONE],
        image_cache_precache_files={ONE: str(tmp_path / "brought")},
        image_cache_glance_images=[image(ONE, CONTENT[ONE])],
    )
    assert run.status == 0, run.output
    assert content(tree, ONE) == CONTENT[ONE]
    assert apis.requests == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["{{ 7919 * 7919 }}", "\x1b[31mred"])
def test_hostile_name_of_an_image_is_never_evaluated(compute: ComputeFleet, apis: Cloud, name: str) -> None:
    tree = compute.add("a")
    apis.images["lab"][0]["name"] = name
    run = precache(compute, "-v", image_cache_precache_images=[ONE])
    assert run.status == 0, run.output
    assert "62710561" not in run.output
    assert "\x1b[31m" not in run.output
    assert content(tree, ONE) == CONTENT[ONE]


def report_of(folder: Path) -> dict[str, dict[str, str]]:
    """What came of each image on each host, as precache.json has it."""
    rows = json.loads((folder / "precache.json").read_text())["outcomes"]
    return {row["name"]: {image["image_id"]: image["outcome"] for image in row["images"]} for row in rows}


@pytest.mark.slow
def test_report_shows_what_would_be_fetched_and_then_what_was(
    compute: ComputeFleet, apis: Cloud, tmp_path: Path
) -> None:
    compute.add("a")
    compute.add("b", **UNREACHABLE)
    folder = tmp_path / "report"
    wanted = {"image_cache_precache_images": [ONE, TWO], "image_cache_report_path": str(folder)}
    assert compute.audit(image_cache_report_path=str(folder)).failed == set()
    audited = {name: (folder / name).read_bytes() for name in ("image_cache.prom", "report.html", "report.json")}
    apis.files = {**CONTENT, TWO: CONTENT[TWO][:-1] + b"!"}

    assert precache(compute, "--check", **wanted).unreachable == {"b"}
    assert report_of(folder) == {"a": {ONE: "fetched", TWO: "fetched"}, "b": {}}
    assert "Would be fetched" in (folder / "precache.html").read_text()
    assert all((folder / name).read_bytes() == before for name, before in audited.items())

    run = precache(compute, **wanted)
    assert (run.failed, run.unreachable) == ({"a"}, {"b"}), run.output
    assert report_of(folder) == {"a": {ONE: "fetched", TWO: "failed"}, "b": {}}
    page = (folder / "precache.html").read_text()
    assert all(text in page for text in ("Not pre-cached", "image-2", "Hosts without an answer"))
    series = dict(line.rsplit(" ", 1) for line in (folder / "image_cache.prom").read_text().splitlines())
    counts = {
        outcome: [value for name, value in series.items() if 'precache_images{host="a"' in name and outcome in name]
        for outcome in ("fetched", "present", "refused", "failed")
    }
    assert counts == {"fetched": ["1"], "present": ["0"], "refused": ["0"], "failed": ["1"]}

    audit = compute.audit(image_cache_report_path=str(folder))
    assert audit.failed == set(), audit.output
    metrics = (folder / "image_cache.prom").read_text()
    assert 'outcome="failed"} 1' in metrics
    [precached] = [line for line in metrics.splitlines() if line.startswith("nova_image_cache_unused_precached_files{")]
    assert precached.endswith(" 1")


@pytest.mark.slow
@pytest.mark.usefixtures("apis")
def test_report_of_batches_has_all_of_their_hosts(compute: ComputeFleet, tmp_path: Path) -> None:
    for name in "abc":
        compute.add(name)
    play = {"serial": 1, "tasks": [role("precache")]}
    run = compute.play(play, image_cache_precache_images=[ONE], image_cache_report_path=str(tmp_path / "report"))
    assert run.status == 0, run.output
    assert report_of(tmp_path / "report") == {name: {ONE: "fetched"} for name in "abc"}
    assert "without an answer" not in run.output


@pytest.mark.slow
def test_report_that_cannot_be_written_is_known_before_anything_is_fetched(
    compute: ComputeFleet, apis: Cloud, tmp_path: Path
) -> None:
    tree = compute.add("a")
    (tmp_path / "file").touch()
    run = precache(compute, image_cache_precache_images=[ONE], image_cache_report_path=str(tmp_path / "file"))
    assert run.failed == {"a"}, run.output
    assert "set another folder (image_cache_report_path)" in run.messages["a"]
    assert not names(ONE) & cached(tree)
    assert apis.requests == []
