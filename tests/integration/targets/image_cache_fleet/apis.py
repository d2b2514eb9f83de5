# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""With the APIs as a source, they are asked once for all hosts; while they do not answer properly, nothing goes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cloud import Cloud, captured, cloud
from fleet import DAY, UNREACHABLE, Fleet, Run, cached, names

from ansible_collections.stackops.nova.tests.unit import scenes
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree

LISTED = [server["image"]["id"] for server in captured("servers-detail", "servers")]
DELETED = {
    server["status"]: server["image"]["id"] for server in captured("servers-detail-deleted-true", "servers")[::-1]
}
SOFT_DELETED = DELETED["SOFT_DELETED"]


class CloudFleet(Fleet):
    """The compute host of the captured answers, `vm`, and another one, where no server is."""

    def __init__(self, root: Path, apis: Cloud) -> None:
        super().__init__(root)
        self.apis = apis
        secrets = {"username": "admin", "password": "secret", "project_name": "admin"}
        domains = {"user_domain_name": "Default", "project_domain_name": "Default"}
        auth = {"auth_url": f"{apis.url}/identity/v3", **secrets, **domains}
        (root / "clouds.yaml").write_text(json.dumps({"clouds": {"lab": {"auth": auth, "region_name": "lab"}}}))
        self.environment = {"OS_CLIENT_CONFIG_FILE": str(root / "clouds.yaml")}
        self.trees = {name: self.add(name) for name in ("vm", "other")}
        for tree in self.trees.values():
            tree.base("swap_128", age=3 * DAY)
            for image in {*LISTED, SOFT_DELETED}:
                tree.base(next(iter(names(image))), age=3 * DAY)
        self.hosts["vm"]["image_cache_host"] = "vm"

    def prune(self, *arguments: str, **more: Any) -> Run:
        source = {"image_cache_instance_source": "openstack", "image_cache_openstack_cloud": "lab"}
        return self.run(*arguments, **source, **more)

    def cached(self) -> dict[str, set[str]]:
        return {name: cached(tree) for name, tree in self.trees.items()}


@pytest.fixture
def apis() -> Iterator[Cloud]:
    with cloud() as running:
        yield running


@pytest.fixture
def fleet(tmp_path: Path, apis: Cloud) -> CloudFleet:
    return CloudFleet(tmp_path, apis)


class TestAnswers:
    def test_each_host_keeps_what_its_servers_need_and_no_more(self, fleet: CloudFleet, apis: Cloud) -> None:
        run = fleet.prune(image_cache_details="files")
        assert run.status == 0, run.output
        # The swap template is that of a soft-deleted server's flavor.
        assert fleet.cached() == {
            "vm": {*names("image-vm", *LISTED, SOFT_DELETED), "swap_128"},
            "other": names("image-other"),
        }
        # Three servers are two pages, and the soft-deleted ones a list of their own.
        assert apis.count("/identity/v3/auth/tokens") == 3
        assert apis.count("/servers/detail") - apis.count("marker=") + apis.count("images?marker=") == 2
        assert apis.count("SOFT_DELETED") == 1

    def test_later_batches_use_what_the_first_was_told(self, fleet: CloudFleet, apis: Cloud) -> None:
        source = {"image_cache_instance_source": "openstack", "image_cache_openstack_cloud": "lab"}
        run = fleet.run(play={"serial": 1}, **source)
        assert (run.status, run.changed) == (0, {"vm", "other"})
        assert len(fleet.cached()["vm"]) > len(fleet.cached()["other"]) == 1
        assert apis.count("/identity/v3/auth/tokens") == 3

    def test_a_dry_run_asks_too(self, fleet: CloudFleet) -> None:
        before = fleet.cached()
        run = fleet.prune("--check")
        assert (run.status, run.changed, fleet.cached()) == (0, {"vm", "other"}, before)

    def test_a_host_that_cannot_be_reached_stops_nothing_else(self, fleet: CloudFleet) -> None:
        fleet.hosts["vm"].update(UNREACHABLE)
        run = fleet.prune()
        assert (run.failed, run.unreachable, run.changed) == (set(), {"vm"}, {"other"})

    def test_a_host_by_another_name_than_novas_keeps_what_it_needs(self, fleet: CloudFleet) -> None:
        fleet.hosts["vm.example.org"] = {**fleet.hosts.pop("vm"), "image_cache_host": "vm.example.org"}
        run = fleet.prune()
        assert run.status == 0, run.output
        assert fleet.cached() == {
            "vm": {*names("image-vm", *LISTED, SOFT_DELETED), "swap_128"},
            "other": {*names("image-other", *LISTED, SOFT_DELETED), "swap_128"},
        }

    def test_hosts_with_different_sources_do_not_go_on_without_them(self, fleet: CloudFleet) -> None:
        before = fleet.cached()["vm"]
        source = {"image_cache_instance_source": "openstack", "image_cache_openstack_cloud": "lab"}
        # The first host asks for all, or does not.
        fleet.hosts = {"other": fleet.hosts["other"], "vm": {**fleet.hosts["vm"], **source}}
        run = fleet.run()
        assert (run.failed, run.changed, fleet.cached()["vm"]) == ({"vm"}, {"other"}, before)
        assert "image_cache_instance_source is the same for all hosts" in run.messages["vm"]


class TestBadAnswers:
    """Each ends in a message, and all caches are as they were."""

    TROUBLES = (
        ("401", "/auth/tokens", "401"),
        ("401", "/servers/detail", "401"),
        ("403", "/servers/detail", "403"),
        ("500", "/servers/detail", "500"),
        ("rubbish", "/servers/detail", "Expecting value"),
        ("other json", "/servers/detail", "servers"),
        ("half a page", "/servers/detail", "line 1 column 1000"),
        ("cut off", "/servers/detail", ""),
        ("in circles", "/servers/detail", "loop"),
        ("no second page", "/servers/detail", "404"),
        ("rubbish", "/images", "Expecting value"),
    )

    @pytest.mark.parametrize(("trouble", "troubled", "word"), TROUBLES)
    def test_nothing_is_removed_and_it_is_said_what_to_do(
        self, fleet: CloudFleet, apis: Cloud, trouble: str, troubled: str, word: str
    ) -> None:
        before = fleet.cached()
        apis.trouble, apis.troubled = trouble, troubled
        run = fleet.prune()
        assert (run.failed, run.changed) == ({"vm", "other"}, set()), run.output
        assert fleet.cached() == before
        for message in run.messages.values():
            assert f"The {'Image' if troubled == '/images' else 'Compute'} API did not tell" in message
            assert "nothing is removed" in message
            assert "openstack server list --all-projects" in message
            assert word in message

    def test_an_audit_fails_too(self, fleet: CloudFleet, apis: Cloud) -> None:
        apis.trouble, apis.troubled = "500", "/servers/detail"
        assert fleet.prune("--tags", "audit").failed == {"vm", "other"}

    def test_where_nobody_listens(self, fleet: CloudFleet) -> None:
        before = fleet.cached()
        clouds = fleet.root / "clouds.yaml"
        clouds.write_text(clouds.read_text().replace(fleet.apis.url, "http://127.0.0.1:9"))
        run = fleet.prune()
        assert (run.failed, fleet.cached()) == ({"vm", "other"}, before)
        assert "127.0.0.1" in run.messages["vm"]

    def test_a_cloud_that_is_not_in_the_configuration(self, fleet: CloudFleet) -> None:
        before = fleet.cached()
        run = fleet.run(image_cache_instance_source="openstack", image_cache_openstack_cloud="lob")
        assert (run.failed, fleet.cached()) == ({"vm", "other"}, before)
        assert "lob" in run.messages["vm"]


def test_whoever_does_not_use_it_does_not_need_the_collection(fleet: CloudFleet, tmp_path: Path) -> None:
    collections = tmp_path / "collections/ansible_collections/stackops"
    collections.mkdir(parents=True)
    (collections / "nova").symlink_to(Path(scenes.__file__).parents[2])
    for variable in ("ANSIBLE_COLLECTIONS_PATH", "PYTHONPATH"):
        fleet.environment[variable] = str(tmp_path / "collections")
    before = fleet.cached()
    without = fleet.prune()
    assert without.status != 0
    assert "openstack.cloud" in without.output
    assert fleet.cached() == before
    assert fleet.run().status == 0
    assert cached(CacheTree(fleet.root / "vm")) == names("image-vm")
