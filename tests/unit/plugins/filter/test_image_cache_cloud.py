# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the APIs say becomes what each host is told; what they do not say properly stops every prune."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.filter.image_cache_cloud import FilterModule, image_cache_cloud
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.instances import collect
from ansible_collections.stackops.nova.tests.support import captures

NONE: dict[str, Any] = {"resources": []}
NO_IMAGES: dict[str, Any] = {"images": []}


def server(uuid: str, host: str | None = "vm", **more: Any) -> dict[str, Any]:
    """A server as openstacksdk names its parts."""
    return {"id": uuid, "compute_host": host, "image": {"id": f"image-{uuid}"}, "vm_state": "active", **more}


def told(*servers: Any, soft_deleted: Any = (), images: Any = ()) -> dict[str, Any]:
    return image_cache_cloud({"resources": list(servers)}, {"resources": list(soft_deleted)}, {"images": list(images)})


def uuids(answer: dict[str, Any]) -> dict[str, list[str]]:
    return {host: [record["uuid"] for record in records] for host, records in answer["instances"].items()}


class TestInstances:
    def test_the_filter_is_known_by_its_name(self) -> None:
        assert FilterModule().filters() == {"image_cache_cloud": image_cache_cloud}

    def test_each_host_has_its_own(self) -> None:
        assert uuids(told(server("1", "a"), server("2", "b"), server("3", "a"))) == {"a": ["1", "3"], "b": ["2"]}

    def test_soft_deleted_ones_count(self) -> None:
        answer = told(server("1"), soft_deleted=[server("2", vm_state="soft-delete")])
        assert uuids(answer) == {"vm": ["1", "2"]}

    @pytest.mark.parametrize(
        "more",
        [{"host": None}, {"task_state": "migrating"}, {"vm_state": "resized"}],
        ids=["nowhere", "moving", "both"],
    )
    def test_one_that_may_have_disks_elsewhere_counts_everywhere(self, more: dict[str, Any]) -> None:
        assert uuids(told(server("1"), server("2", **more))) == {"vm": ["1"], "": ["2"]}

    @pytest.mark.parametrize("state", ["deleted", "shelved_offloaded"])
    def test_one_without_disks_does_not_count(self, state: str) -> None:
        assert uuids(told(server("1"), server("2", vm_state=state))) == {"vm": ["1"]}

    def test_a_cloud_without_servers_is_one(self) -> None:
        assert told() == {"instances": {}, "images": [], "problem": ""}

    def test_the_captured_answers_are_understood(self) -> None:
        api = captures.CAPTURES / "soft-deleted" / "api"
        servers, deleted = (
            json.loads((api / f"servers-detail{more}.json").read_text())["servers"] for more in ("", "-deleted-true")
        )
        answer = image_cache_cloud({"resources": servers}, {"resources": deleted}, NO_IMAGES)
        assert answer["problem"] == ""
        records = [record for records in answer["instances"].values() for record in records]
        names = {instance.name for instance in collect(records, [], None, "vm").instances}
        gone = {one["OS-EXT-SRV-ATTR:instance_name"] for one in deleted if one["status"] == "DELETED"}
        assert names == {one["OS-EXT-SRV-ATTR:instance_name"] for one in servers + deleted} - gone
        assert gone


class TestImages:
    def test_their_ids_are_kept(self) -> None:
        assert told(images=[{"id": "one", "name": "x"}, {"id": "other"}])["images"] == ["one", "other"]


class TestProblems:
    """None of these may be taken for a cloud without instances."""

    @pytest.mark.parametrize("what", ["servers", "soft-deleted servers", "images"])
    @pytest.mark.parametrize(
        ("result", "reason"),
        [
            ({"msg": "HttpException: 401: Unauthorized"}, "401: Unauthorized"),
            (
                {"msg": "MODULE FAILURE", "module_stderr": "Traceback (most recent ...\n  x\nJSONDecodeError: 1"},
                "Decode",
            ),
            (
                {"msg": "Task failed: Module failed: 'servers'", "exception": "(traceback unavailable)"},
                ": 'servers'. So it is not known",
            ),
            ({}, "there was no answer"),
            ({"skipped": True}, "there was no answer"),
            ({"resources": None, "images": None, "msg": "x"}, "x"),
            ({"resources": "text", "images": "text"}, "there was no answer"),
            ({"resources": [1], "images": [1]}, "without an id"),
            ({"resources": [{}], "images": [{"id": None}]}, "without an id"),
        ],
    )
    def test_an_answer_that_is_none_is_told(self, what: str, result: dict[str, Any], reason: str) -> None:
        results = {
            "servers": {"resources": [server("1")]},
            "soft-deleted servers": NONE,
            "images": NO_IMAGES,
            what: result,
        }
        answer = image_cache_cloud(*results.values())
        assert answer["instances"] == {}
        assert what in answer["problem"]
        assert reason in answer["problem"]
        assert "nothing is removed" in answer["problem"]
        assert "image_cache_openstack_cloud" in answer["problem"]

    def test_a_server_that_cannot_be_understood_is_named(self) -> None:
        problem = told(server("1"), server("2", flavor="small"))["problem"]
        assert "server 2 cannot be understood: its flavor is not a dictionary." in problem

    def test_a_server_in_a_cell_that_is_down_is_named(self) -> None:
        unknown = {
            "id": "2",
            "status": "UNKNOWN",
            "compute_host": None,
            "vm_state": None,
            "flavor": None,
            "image": None,
        }
        problem = told(server("1"), unknown)["problem"]
        assert "cannot reach the cell of server 2" in problem
        assert "nothing is removed" in problem

    def test_an_account_that_is_not_told_the_hosts_may_not_see_all_servers(self) -> None:
        assert "names the host of no server" in told(server("1", None))["problem"]


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)
results = st.dictionaries(st.sampled_from(["resources", "images", "msg", "exception", "module_stderr"]), anything)


# The first text that is drawn makes Hypothesis's tables of Unicode, which takes a second or two.
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(results, results, results)
def test_any_answer_is_understood_or_a_problem(servers: Any, soft_deleted: Any, images: Any) -> None:
    answer = image_cache_cloud(servers, soft_deleted, images)
    lists = (servers.get("resources"), soft_deleted.get("resources"), images.get("images"))
    assert answer["problem"] or all(isinstance(found, list) for found in lists)
    assert not answer["problem"] or (answer["instances"], answer["images"]) == ({}, [])
