# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""With the APIs as a source, they are asked once for all hosts; while they do not answer properly, nothing goes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fleet import DAY, UNREACHABLE, Fleet, Run, cached, names

from ansible_collections.stackops.nova.tests.support import captures
from ansible_collections.stackops.nova.tests.support.openstack_apis import Cloud, captured, cloud, write_clouds
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
        write_clouds(root, {"lab": apis.url})
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
        assert "image_cache_instance_source of vm is openstack, and the APIs were not asked" in run.messages["vm"]


# What goes wrong, in the answers to which path, and what of it the message has to say.
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
    ("nobody listens", "", "127.0.0.1"),
    ("no such cloud", "", "no such cloud"),
)


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """What the role makes of each trouble, all asked for in one run."""
    root = tmp_path_factory.mktemp("troubles")
    fleet = Fleet(root)
    fleet.environment = {"OS_CLIENT_CONFIG_FILE": str(root / "clouds.yaml")}
    fleet.add("host")
    said = "PROBLEM {{ hostvars['localhost'].__image_cache_cloud.problem }} END"
    role = {"name": "stackops.nova.image_cache", "tasks_from": "openstack"}
    ask = [{"ansible.builtin.include_role": role}, {"ansible.builtin.debug": {"msg": said}}]
    (root / "ask.yml").write_text(json.dumps(ask))
    with ExitStack() as running:
        urls = {
            f"{trouble} {path}": running.enter_context(cloud(trouble, path)).url
            for trouble, path, _word in TROUBLES[:-2]
        }
        urls["nobody listens "] = "http://127.0.0.1:9"
        write_clouds(root, urls)
        each = {"loop": [f"{trouble} {path}" for trouble, path, _word in TROUBLES]}
        options = {"vars": {"image_cache_openstack_cloud": "{{ item }}"}, **each}
        play = {"roles": [], "tasks": [{"ansible.builtin.include_tasks": str(root / "ask.yml"), **options}]}
        run = fleet.run(play=play)
    found = re.findall(r"PROBLEM (.*) END", run.output)
    assert len(found) == len(TROUBLES), run.output
    return {(trouble, path): problem for (trouble, path, _word), problem in zip(TROUBLES, found, strict=True)}


class TestBadAnswers:
    """Each ends in a message, and all caches are as they were."""

    @pytest.mark.parametrize(("trouble", "troubled", "word"), TROUBLES)
    def test_it_is_said_what_is_wrong_and_what_to_do(
        self, problems: dict[tuple[str, str], str], trouble: str, troubled: str, word: str
    ) -> None:
        message = problems[trouble, troubled]
        assert f"The {'Image' if troubled == '/images' else 'Compute'} API did not tell" in message
        assert "nothing is removed" in message
        assert "openstack server list --all-projects" in message
        assert word in message

    def test_then_nothing_is_removed_and_each_host_fails(self, fleet: CloudFleet, apis: Cloud) -> None:
        before = fleet.cached()
        apis.trouble, apis.troubled = "no second page", "/servers/detail"
        run = fleet.prune()
        assert (run.failed, run.changed) == ({"vm", "other"}, set()), run.output
        assert fleet.cached() == before
        assert all("The Compute API did not tell the servers" in message for message in run.messages.values())

    def test_then_an_audit_fails_too_and_says_so_once(self, fleet: CloudFleet, apis: Cloud) -> None:
        apis.trouble, apis.troubled = "no second page", "/servers/detail"
        run = fleet.prune("--tags", "audit")
        assert run.status != 0
        assert ["The Compute API did not tell the servers" in message for message in run.messages.values()] == [True]


def test_whoever_does_not_use_it_does_not_need_the_collection(fleet: CloudFleet, tmp_path: Path) -> None:
    collections = tmp_path / "collections/ansible_collections/stackops"
    collections.mkdir(parents=True)
    (collections / "nova").symlink_to(Path(captures.__file__).parents[2])
    for variable in ("ANSIBLE_COLLECTIONS_PATH", "PYTHONPATH"):
        fleet.environment[variable] = str(tmp_path / "collections")
    before = fleet.cached()
    without = fleet.prune()
    assert without.status != 0
    assert "openstack.cloud" in without.output
    assert fleet.cached() == before
    assert fleet.run().status == 0
    assert cached(CacheTree(fleet.root / "vm")) == names("image-vm")
