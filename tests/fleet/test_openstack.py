# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""With the APIs as a source they are asked once for all hosts; until they answer properly, nothing is removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import (
    DAY,
    UNREACHABLE,
    ComputeFleet,
    Run,
    cached,
    names,
)
from ansible_collections.stackops.nova.tests.support.openstack_apis import Cloud, captured, cloud, write_clouds

LISTED = [server["image"]["id"] for server in captured("servers-detail", "servers")]
DELETED = {
    server["status"]: server["image"]["id"] for server in captured("servers-detail-deleted-true", "servers")[::-1]
}
SOFT_DELETED = DELETED["SOFT_DELETED"]
NEEDED = {*names(*LISTED, SOFT_DELETED), "swap_128"}
SOURCE = {"image_cache_instance_source": "openstack", "image_cache_openstack_cloud": "lab"}


class CloudFleet(ComputeFleet):
    """The compute host of the captured answers, `vm`, and another one, where no server is."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.environment = {"OS_CLIENT_CONFIG_FILE": str(root / "clouds.yaml")}
        self.trees = {name: self.add(name) for name in ("vm", "other")}
        for tree in self.trees.values():
            tree.base("swap_128", age=3 * DAY)
            for image in {*LISTED, SOFT_DELETED}:
                tree.base(next(iter(names(image))), age=3 * DAY)
        self.hosts["vm"]["image_cache_host"] = "vm"

    def prune_by_api(self, *arguments: str) -> Run:
        return self.prune(*arguments, **SOURCE)

    def contents(self) -> dict[str, set[str]]:
        return {name: cached(tree) for name, tree in self.trees.items()}


@pytest.fixture
def apis(tmp_path: Path) -> Iterator[Cloud]:
    with cloud() as running:
        write_clouds(tmp_path, {"lab": running.url})
        yield running


@pytest.fixture
def compute(tmp_path: Path) -> CloudFleet:
    return CloudFleet(tmp_path)


def test_each_host_keeps_what_its_servers_need_and_nothing_else(compute: CloudFleet, apis: Cloud) -> None:
    before = compute.contents()
    dry = compute.prune_by_api("--check")
    assert (dry.status, dry.changed, compute.contents()) == (0, {"vm", "other"}, before), dry.output
    apis.requests.clear()
    run = compute.prune_by_api()
    assert run.status == 0, run.output
    # The swap template is that of a soft-deleted server's flavor.
    assert compute.contents() == {"vm": {*names("image-vm"), *NEEDED}, "other": names("image-other")}
    assert apis.count("/auth/tokens") == 1


@pytest.mark.slow
def test_host_that_is_unreachable_stops_no_other(compute: CloudFleet, apis: Cloud) -> None:
    compute.hosts["vm"].update(UNREACHABLE)
    run = compute.prune_by_api()
    assert (run.failed, run.unreachable, run.changed) == (set(), {"vm"}, {"other"}), run.output
    assert apis.requests


@pytest.mark.slow
def test_host_by_another_name_than_novas_keeps_what_it_needs(compute: CloudFleet, apis: Cloud) -> None:
    compute.hosts["vm.example.org"] = {**compute.hosts.pop("vm"), "image_cache_host": "vm.example.org"}
    run = compute.prune_by_api()
    assert run.status == 0, run.output
    assert compute.contents()["vm"] == {*names("image-vm"), *NEEDED}
    assert apis.requests


@pytest.mark.slow
def test_source_of_one_host_is_asked_whatever_the_first_host_has(compute: CloudFleet, apis: Cloud) -> None:
    compute.hosts = {"other": compute.hosts["other"], "vm": {**compute.hosts["vm"], **SOURCE}}
    run = compute.prune()
    assert run.status == 0, run.output
    assert compute.contents()["vm"] == {*names("image-vm"), *NEEDED}
    assert apis.count("/auth/tokens") == 1


def test_answer_that_is_incomplete_keeps_every_file_and_fails_each_host(compute: CloudFleet, apis: Cloud) -> None:
    before = compute.contents()
    apis.trouble, apis.troubled = "no second page", "/servers/detail"
    run = compute.prune_by_api()
    assert (run.failed, run.changed, compute.contents()) == ({"vm", "other"}, set(), before), run.output
    assert all("files are in use: the servers could not be listed" in message for message in run.messages.values())
    audit = compute.audit(**SOURCE)
    assert audit.status != 0
    assert len([host for host, message in audit.messages.items() if "could not be listed" in message]) == 1


def test_two_regions_of_a_play_have_servers_of_their_own(compute: CloudFleet, tmp_path: Path) -> None:
    with cloud(regions=("one", "two")) as apis:
        write_clouds(tmp_path, {"lab": apis.url}, region=None)
        apis.servers["two"] = []
        compute.hosts["vm"].update(image_cache_openstack_region_name="one")
        compute.hosts["other"].update(image_cache_openstack_region_name="two", image_cache_host="vm")
        run = compute.prune_by_api()
        assert run.status == 0, run.output
        assert compute.contents()["vm"] == {*names("image-vm"), *NEEDED}
        assert compute.contents()["other"] == names("image-other")
        assert apis.count("/auth/tokens") == 2


@pytest.mark.slow
def test_missing_openstacksdk_names_the_way_to_install_it(compute: CloudFleet, apis: Cloud, tmp_path: Path) -> None:
    (tmp_path / "hidden" / "openstack").mkdir(parents=True)
    (tmp_path / "hidden" / "openstack" / "__init__.py").write_text("raise ImportError('hidden')")
    before = compute.contents()
    compute.environment["PYTHONPATH"] = str(tmp_path / "hidden")
    run = compute.prune_by_api()
    assert compute.contents() == before, run.output
    assert "pip install openstacksdk" in run.messages["vm"]
    assert compute.prune().status == 0
    assert apis.requests == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["{{ 7919 * 7919 }}", "\x1b[31mred"])
def test_hostile_name_of_an_image_is_never_evaluated(compute: CloudFleet, apis: Cloud, name: str) -> None:
    apis.images["lab"][0]["name"] = name
    for server in apis.servers["lab"]:
        server["OS-EXT-SRV-ATTR:instance_name"] = name
    run = compute.prune_by_api("--check", "-v")
    assert run.status == 0, run.output
    assert "62710561" not in run.output
    assert "\x1b[31m" not in run.output
