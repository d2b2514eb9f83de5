# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook pre-caches images of a real Glance on four hosts: those that a dry run lists, and only trusted ones."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import ComputeFleet, Run, cached, names, picture
from ansible_collections.stackops.nova.tests.support.image_service import ImageService
from ansible_collections.stackops.nova.tests.support.processes import needs_root
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree

pytestmark = needs_root

HOSTS = "abcd"
REPORT = "Report on the pre-caching"


@pytest.fixture
def trees(fleet: ComputeFleet) -> list[CacheTree]:
    """The trees of four hosts."""
    return [fleet.add(name) for name in HOSTS]


@pytest.fixture
def label(tmp_path: Path) -> str:
    """A text that only this test gives to images."""
    return tmp_path.name


@pytest.fixture(scope="session")
def tenant(service: ImageService) -> str:
    """Another project, by its id."""
    service.add_user("tenant", "member")
    return service.project_id("tenant")


def precache(fleet: ComputeFleet, *arguments: str, **variables: Any) -> Run:
    return fleet.run_playbook("stackops.nova.precache", *arguments, **variables)


def offers(run: Run) -> list[tuple[str, ...]]:
    """Which image comes to which host, from where and under which name, by the report."""
    fetched = run.of(REPORT)[HOSTS[0]]["precache"]["fetched"]
    keys = ("host", "image_id", "image_name", "name", "source", "proof", "algorithm")
    return sorted(tuple(image[key] for key in keys) for image in fetched)


def base(tree: CacheTree, image: dict[str, Any]) -> Path:
    [name] = names(image["id"])
    return tree.cache_path / name


def gained(tree: CacheTree, before: set[str]) -> set[str]:
    """The files that have come into a cache, without the facts that are saved of them."""
    return {name for name in cached(tree) - before if not name.endswith(".info")}


@pytest.mark.parametrize("way", ["id", "name", "property"])
def test_chosen_images_come_to_four_hosts_as_the_dry_run_lists_them(
    fleet: ComputeFleet, trees: list[CacheTree], service: ImageService, raw: Path, qcow2: Path, label: str, way: str
) -> None:
    one = service.upload(raw, name=f"{label} one", precache=label)
    two = service.upload(qcow2, "qcow2", name=f"{label} two", precache=label)
    service.upload(raw, name=f"{label} three")
    wanted: dict[str, dict[str, Any]] = {
        "id": {"image_cache_precache_images": [one["id"], two["id"]]},
        "name": {"image_cache_precache_images": [one["name"], two["name"]]},
        "property": {"image_cache_precache_properties": {"precache": label}},
    }
    before, names_before = picture(fleet.root / "a"), [cached(tree) for tree in trees]

    dry = precache(fleet, "--check", **wanted[way])
    assert (dry.status, dry.changed, picture(fleet.root / "a")) == (0, set(HOSTS), before), dry.output
    assert service.downloads(one["id"]) == service.downloads(two["id"]) == []

    run = precache(fleet, **wanted[way])
    assert (run.status, run.changed) == (0, set(HOSTS)), run.output
    assert offers(run) == offers(dry)
    assert len(offers(run)) == 8
    for tree, had in zip(trees, names_before, strict=True):
        assert gained(tree, had) == names(one["id"], two["id"])
        assert base(tree, one).read_bytes() == service.stored(one["id"]).read_bytes()
        compared = ["qemu-img", "compare", "-f", "raw", "-F", "qcow2", base(tree, two), service.stored(two["id"])]
        subprocess.run(compared, check=True, capture_output=True)
    assert service.downloads(one["id"]) == service.downloads(two["id"]) == [0] * 4

    again = precache(fleet, **wanted[way])
    assert (again.status, again.changed) == (0, set()), again.output
    assert service.downloads(one["id"]) == [0] * 4


def test_name_of_two_images_is_refused_with_their_ids(
    fleet: ComputeFleet, trees: list[CacheTree], service: ImageService, raw: Path, label: str
) -> None:
    both = [service.upload(raw, name=label) for _number in range(2)]
    before = [cached(tree) for tree in trees]
    for arguments in (["--check"], []):
        run = precache(fleet, *arguments, image_cache_precache_images=[label])
        assert run.failed == set(HOSTS), run.output
        for host in HOSTS:
            assert f"{label!r}, which is the name of 2 images" in run.messages[host]
            assert all(image["id"] in run.messages[host] for image in both)
    assert [cached(tree) for tree in trees] == before


def test_image_of_another_project_is_chosen_only_where_the_project_is_named(
    fleet: ComputeFleet, service: ImageService, tenant: str, raw: Path, label: str
) -> None:
    tree = fleet.add("a")
    before = cached(tree)
    trusted = service.upload(raw, name=label, precache=label)
    # Glance lists it to everybody, and has its name and its property from the project that made it.
    foreign = service.upload(raw, name=label, precache=label, visibility="community", owner=tenant)
    by_property: dict[str, Any] = {"image_cache_precache_properties": {"precache": label}}

    by_id = precache(fleet, image_cache_precache_images=[foreign["id"]])
    assert by_id.failed == {"a"}, by_id.output
    assert (
        f"neither public nor of a project in image_cache_precache_owners (its project is {tenant})"
        in by_id.messages["a"]
    )
    assert gained(tree, before) == set()

    alone = precache(fleet, image_cache_precache_images=[label], **by_property)
    assert (alone.status, gained(tree, before)) == (0, names(trusted["id"])), alone.output

    named = precache(fleet, image_cache_precache_owners=[tenant], **by_property)
    assert (named.status, gained(tree, before)) == (0, names(trusted["id"], foreign["id"])), named.output


def test_image_that_is_deactivated_after_it_was_chosen_fails_alone(
    fleet: ComputeFleet, service: ImageService, raw: Path, label: str
) -> None:
    tree = fleet.add("a")
    before = cached(tree)
    one, two = (service.upload(raw, name=f"{label} {number}", precache=label) for number in (1, 2))
    service.deactivate(one["id"])
    run = precache(fleet, image_cache_precache_properties={"precache": label})
    assert (run.status, gained(tree, before)) == (0, names(two["id"])), run.output
    named = precache(fleet, image_cache_precache_images=[one["id"]])
    assert named.failed == {"a"}, named.output
    assert "its status is deactivated and not active" in named.messages["a"]
