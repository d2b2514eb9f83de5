# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The servers and images of a cloud are known completely, or there is a problem and nothing else."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.instances import merge_instances
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.cloud import (
    CloudAnswer,
    ask,
    interpret,
    reason_of,
)
from ansible_collections.stackops.nova.tests.support import openstack_apis
from ansible_collections.stackops.nova.tests.support.openstack_apis import (
    Cloud,
    captured,
    cloud,
    write_clouds,
)
from ansible_collections.stackops.nova.tests.support.precaches import image
from ansible_collections.stackops.nova.tools.cache_tree import fingerprint

HOST, STATE, TASK = "OS-EXT-SRV-ATTR:host", "OS-EXT-STS:vm_state", "OS-EXT-STS:task_state"


def server(uuid: str, host: str | None = "vm", **more: Any) -> dict[str, Any]:
    """A server as nova lists it."""
    return {"id": uuid, HOST: host, STATE: "active", "image": {"id": f"image-{uuid}"}, **more}


def uuids(answer: CloudAnswer) -> dict[str, list[str]]:
    assert answer.problem == ""
    return {host: [record["uuid"] for record in records] for host, records in answer.instances.items()}


class TestServers:
    def test_each_host_has_its_own_servers(self) -> None:
        answer = interpret([server("1", "a"), server("2", "b"), server("3", "a")], [], [])
        assert uuids(answer) == {"a": ["1", "3"], "b": ["2"]}

    def test_soft_deleted_server_counts(self) -> None:
        answer = interpret([server("1")], [server("2", **{STATE: "soft-delete"})], [])
        assert uuids(answer) == {"vm": ["1", "2"]}

    @pytest.mark.parametrize(
        "more", [{HOST: None}, {TASK: "migrating"}, {STATE: "resized"}], ids=["no host", "migrating", "resized"]
    )
    def test_server_that_may_have_disks_on_another_host_counts_for_every_storage(self, more: dict[str, Any]) -> None:
        assert uuids(interpret([server("1"), {**server("2"), **more}], [], [])) == {"vm": ["1"], "": ["2"]}

    def test_only_server_of_a_cloud_may_be_moving(self) -> None:
        assert uuids(interpret([server("1", **{STATE: "resized"})], [], [])) == {"": ["1"]}

    @pytest.mark.parametrize("state", ["deleted", "shelved_offloaded"])
    def test_server_without_disks_does_not_count(self, state: str) -> None:
        assert uuids(interpret([server("1"), server("2", **{STATE: state})], [], [])) == {"vm": ["1"]}

    def test_cloud_without_servers_is_no_problem(self) -> None:
        assert interpret([], [], []) == CloudAnswer({}, (), "")

    def test_server_in_both_lists_counts_once(self) -> None:
        assert uuids(interpret([server("1"), server("1")], [server("1")], [])) == {"vm": ["1"]}

    def test_server_that_moved_between_two_pages_counts_for_every_storage(self) -> None:
        assert uuids(interpret([server("1", "a"), server("1", "b")], [], [])) == {"": ["1", "1"]}

    def test_server_with_a_uuid_as_well_is_understood_as_a_server(self) -> None:
        (record,) = interpret([{**server("1"), "uuid": "other", "host": "elsewhere"}], [], []).instances["vm"]
        assert (record["uuid"], record["image_ref"]) == ("1", "image-1")

    def test_server_is_reduced_to_what_a_cache_has_to_know(self) -> None:
        whole = server("1", adminPass="SECRET", user_data="SECRET", metadata={"key": "SECRET"})
        assert "SECRET" not in str(interpret([whole], [], []))

    def test_captured_servers_are_the_instances_of_their_host(self) -> None:
        servers, deleted = (captured(f"servers-detail{more}", "servers") for more in ("", "-deleted-true"))
        answer = interpret(servers, deleted, captured("images", "images"))
        assert set(answer.instances) == {"vm"}
        names = {instance.name for instance in merge_instances(answer.instances["vm"], [], None, "vm").all}
        gone = {one["OS-EXT-SRV-ATTR:instance_name"] for one in deleted if one["status"] == "DELETED"}
        assert names == {one["OS-EXT-SRV-ATTR:instance_name"] for one in servers + deleted} - gone
        assert gone
        assert {image["name"] for image in answer.images} == {one["name"] for one in captured("images", "images")}

    def test_text_that_utf8_cannot_hold_is_replaced(self) -> None:
        strange = {"OS-EXT-SRV-ATTR:instance_name": "name\ud800"}
        answer = interpret([server("1", **strange)], [], [{"id": "1", "name": "\udcff"}])
        json.dumps([dict(answer.instances), answer.images], ensure_ascii=False).encode()


class TestImages:
    def test_id_and_name_of_each_image_are_kept(self) -> None:
        images = [{"id": "1", "name": "{{ x }}", "size": 1}, {"id": "2", "name": None}, {"id": "3"}, {"id": "1"}]
        assert interpret([], [], images).images == (
            {"id": "1", "name": ""},
            {"id": "2", "name": ""},
            {"id": "3", "name": ""},
        )

    def test_name_that_is_not_text_is_a_problem(self) -> None:
        assert "the name of image 1 is not a text." in interpret([], [], [{"id": "1", "name": ["x"]}]).problem

    @pytest.mark.parametrize(
        ("more", "is_restorable"),
        [
            ({}, True),
            ({"os_hash_algo": "sha256", "os_hash_value": "0" * 64}, True),
            ({"os_hidden": True, "visibility": "private"}, True),
            ({"disk_format": "iso"}, True),
            ({"disk_format": "qcow2"}, True),
            ({"disk_format": "vmdk"}, False),
            ({"status": "queued"}, False),
            ({"container_format": "ova"}, False),
            ({"size": None}, False),
            ({"os_hash_algo": None, "os_hash_value": None}, False),
            ({"os_hash_algo": "md5", "os_hash_value": "0" * 32}, False),
            ({"os_hash_value": "0"}, False),
        ],
    )
    def test_image_by_which_the_base_file_can_be_proven_is_restorable(
        self, more: dict[str, Any], is_restorable: bool
    ) -> None:
        answer = interpret([], [], [image("1", **more), image("2")])
        assert answer.problem == ""
        assert answer.restorable == {fingerprint(each): each for each in (["1"] if is_restorable else []) + ["2"]}


class TestProblems:
    @pytest.mark.parametrize("number", [0, 1, 2])
    @pytest.mark.parametrize("item", [1, None, [], {}, {"id": None}, {"id": ""}, {"id": "x" * 256}, {"id": "a\nb"}])
    def test_entry_without_an_id_is_a_problem(self, number: int, item: Any) -> None:
        lists: list[list[Any]] = [[server("1")], [], []]
        lists[number].append(item)
        answer = interpret(*lists)
        assert f"the list of {'images' if number == 2 else 'servers'} has an entry without an id." in answer.problem
        assert (answer.instances, answer.images) == ({}, ())

    def test_server_that_cannot_be_understood_is_named(self) -> None:
        problem = interpret([server("1"), server("2", flavor="small")], [], []).problem
        assert "server 2 cannot be understood: its flavor is not a dictionary." in problem

    def test_id_has_at_most_255_characters(self) -> None:
        assert uuids(interpret([server("x" * 255)], [], [])) == {"vm": ["x" * 255]}
        assert interpret([server("x" * 256)], [], []).problem

    def test_reason_of_a_problem_is_one_line_of_at_most_500_characters(self) -> None:
        assert reason_of(ValueError("x" * 500)) == reason_of(ValueError("x" * 501)) == "x" * 500
        assert reason_of(ValueError(" no\n route. ")) == "no route"
        assert reason_of(ValueError()) == "ValueError"

    def test_server_of_a_cell_that_does_not_answer_is_named(self) -> None:
        # All that nova has of such a server, in its API guide.
        unknown = {"id": "2", "status": "UNKNOWN", "tenant_id": "x", "created": "2018-06-29T15:58:56Z", "links": []}
        problem = interpret([server("1"), unknown], [], []).problem
        assert "the database of the cell of server 2 does not answer, so nova has no details of it." in problem

    def test_servers_of_which_none_has_a_host_are_a_problem(self) -> None:
        problem = interpret([server("1", None), server("2", None)], [], []).problem
        assert "no server has a host, because the account probably lacks administrator's rights." in problem

    def test_problem_names_cloud_region_and_commands(self) -> None:
        assert interpret([{}], [], [], "my lab", "two").problem == (
            "Without the APIs of my lab, region two, it is not certain which files are in use: the list of servers has "
            "an entry without an id. Make `openstack --os-cloud 'my lab' --os-region-name two server list "
            "--all-projects --long` and `openstack --os-cloud 'my lab' --os-region-name two image list` work on the "
            "controller, with administrator's rights."
        )
        assert "`openstack image list`" in interpret([{}], [], []).problem
        assert "the default cloud" in interpret([{}], [], []).problem

    def test_hostile_name_is_escaped_in_a_problem(self) -> None:
        problem = interpret([server("1", flavor="\x1b[2J")], [], [], "\x1b[31m\n", "\u202e").problem
        assert problem.isprintable()


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=6,
)
texts = st.one_of(st.none(), st.sampled_from(["", "a", "b", "resized", "migrating", "deleted", "{{ 1 }}", "\ud800"]))
plausible = st.fixed_dictionaries(
    {"id": st.sampled_from("12345"), HOST: texts, STATE: texts},
    optional={
        TASK: texts,
        "image": st.one_of(st.just(""), st.fixed_dictionaries({"id": st.sampled_from(["one", "two"])})),
        "flavor": st.fixed_dictionaries({}, optional={"swap": st.integers(-1, 3), "ephemeral": st.integers(0, 3)}),
        "status": st.sampled_from(["ACTIVE", "UNKNOWN"]),
    },
)
items = st.lists(st.one_of(plausible, plausible, anything), max_size=5)


class TestAnyAnswer:
    @settings(suppress_health_check=[HealthCheck.too_slow])
    @given(servers=items, soft_deleted=items, images=items)
    def test_answer_is_complete_or_a_problem_and_nothing_else(
        self, servers: list[Any], soft_deleted: list[Any], images: list[Any]
    ) -> None:
        answer = interpret(servers, soft_deleted, images)
        if answer.problem:
            assert (answer.instances, answer.images) == ({}, ())
            assert answer.problem.isprintable()
            assert len(answer.problem) < 1500
            return
        assert {image["id"] for image in answer.images} == {image["id"] for image in images}
        json.dumps([dict(answer.instances), answer.images], ensure_ascii=False).encode()
        every_host = {record["uuid"] for record in answer.instances.get("", ())}
        for one in [*servers, *soft_deleted]:
            if one.get(STATE) in ("deleted", "shelved_offloaded") and not one.get(TASK):
                continue
            host = one.get(HOST) or ""
            known = every_host | {record["uuid"] for record in answer.instances.get(host.replace("\ud800", "?"), ())}
            assert one["id"] in known
            used = {
                record.get("image_ref")
                for records in answer.instances.values()
                for record in records
                if record["uuid"] == one["id"]
            }
            image = one.get("image") or {}
            assert image.get("id") in {*used, None}

    @settings(suppress_health_check=[HealthCheck.too_slow])
    @given(servers=st.lists(plausible, max_size=5))
    def test_records_are_understood_by_a_host_as_the_servers_are(self, servers: list[Mapping[str, Any]]) -> None:
        answer = interpret(servers, [], [])
        records = [record for records in answer.instances.values() for record in records]
        assert merge_instances(records, [], None, "vm").problems == ()


@pytest.fixture
def apis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with cloud() as running:
        use(monkeypatch, write_clouds(tmp_path, {"lab": running.url}))
        yield running


def use(monkeypatch: pytest.MonkeyPatch, clouds: Path) -> None:
    """Leave only this configuration to openstacksdk."""
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(clouds))
    monkeypatch.chdir(clouds.parent)
    monkeypatch.setenv("HOME", str(clouds.parent))
    for name in ("OS_CLOUD", "OS_REGION_NAME"):
        monkeypatch.delenv(name, raising=False)


class TestAsking:
    def test_every_page_of_every_list_is_read(self, apis: Cloud) -> None:
        answer = ask("lab", None)
        listed = [*captured("servers-detail", "servers"), *captured("servers-detail-deleted-true", "servers")]
        assert {record["uuid"] for record in answer.instances["vm"]} == {
            one["id"] for one in listed if one["status"] != "DELETED"
        }
        assert {image["id"] for image in answer.images} == {one["id"] for one in captured("images", "images")}
        assert apis.count("/auth/tokens") == 1
        # Five servers are three pages, two soft-deleted ones a page, four images two, no hidden ones a page.
        assert (apis.count("/servers/detail"), apis.count("image/v2/images")) == (4, 3)

    @pytest.mark.parametrize("items", [1, 3])
    def test_next_page_begins_behind_the_last_item_of_a_page_of_any_size(
        self, apis: Cloud, items: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(openstack_apis, "PAGE", items)
        answer = ask("lab", None)
        assert len(answer.images) == len(apis.images["lab"])
        assert len({record["uuid"] for record in answer.instances["vm"]}) == sum(
            one["status"] != "DELETED" for one in apis.servers["lab"]
        )

    def test_swap_of_a_flavor_is_known(self, apis: Cloud) -> None:
        # Nova embeds the flavor from microversion 2.47 on.
        assert {record.get("swap_mb") for record in ask("lab", "").instances["vm"]} >= {128}
        assert apis.requests

    def test_server_of_a_cell_that_does_not_answer_is_a_problem(self, apis: Cloud) -> None:
        # Nova leaves it out below microversion 2.69.
        apis.servers["lab"].append({"id": "lost", "status": "UNKNOWN", "tenant_id": "x"})
        assert "the database of the cell of server lost does not answer" in ask("lab", None).problem

    def test_hidden_and_community_images_are_known(self, apis: Cloud) -> None:
        apis.images["lab"][0].update(os_hidden=True, visibility="community")
        apis.images["lab"][1]["visibility"] = "community"
        assert len(ask("lab", None).images) == 4

    def test_cached_answers_of_openstacksdk_do_not_count(self, apis: Cloud, tmp_path: Path) -> None:
        clouds = json.loads((tmp_path / "clouds.yaml").read_text())
        cache = {"class": "dogpile.cache.dbm", "arguments": {"filename": str(tmp_path / "cache")}}
        expiry = {"compute.servers": 3600, "compute.servers.detail": 3600, "image.images": 3600}
        clouds["cache"] = {**cache, "expiration_time": 3600, "expiration": expiry}
        (tmp_path / "clouds.yaml").write_text(json.dumps(clouds))
        assert len(ask("lab", None).images) == 4
        apis.images["lab"].pop()
        assert len(ask("lab", None).images) == 3

    def test_each_region_has_its_own_servers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with cloud(regions=("one", "two")) as apis:
            use(monkeypatch, write_clouds(tmp_path, {"lab": apis.url}, region=None))
            apis.servers = {"one": [server("1", "a", status="ACTIVE")], "two": [server("2", "b", status="ACTIVE")]}
            apis.images["one"] = []
            assert uuids(ask("lab", "one")) == {"a": ["1"]}
            answer = ask("lab", "two")
            assert uuids(answer) == {"b": ["2"]}
            assert len(answer.images) == 4

    @pytest.mark.parametrize("more", [{}, {"regions": ["one", "two"]}, {"region_name": "one,two"}])
    def test_region_that_is_not_named_is_not_guessed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
    ) -> None:
        with cloud(regions=("one", "two")) as apis:
            use(monkeypatch, write_clouds(tmp_path, {"lab": apis.url}, region=None, **more))
            problem = ask("lab", None).problem
        assert "the cloud has several regions (one, two)" in problem
        assert "Set image_cache_openstack_region_name." in problem

    def test_region_of_clouds_yaml_is_taken(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with cloud(regions=("one", "two")) as apis:
            use(monkeypatch, write_clouds(tmp_path, {"lab": apis.url}, region="two"))
            apis.servers = {"one": [server("1", "a", status="ACTIVE")], "two": [server("2", "b", status="ACTIVE")]}
            assert uuids(ask("lab", None)) == {"b": ["2"]}

    def test_only_region_of_a_catalogue_need_not_be_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with cloud() as apis:
            use(monkeypatch, write_clouds(tmp_path, {"lab": apis.url}, region=None))
            assert ask(None, None).problem == ""

    def test_cloud_without_keystone_needs_no_region(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with cloud() as apis:
            endpoints = {
                "compute_endpoint_override": f"{apis.url}/lab/compute/v2.1",
                "image_endpoint_override": f"{apis.url}/lab/image/v2",
            }
            (tmp_path / "clouds.yaml").write_text(json.dumps({"clouds": {"lab": {"auth_type": "none", **endpoints}}}))
            use(monkeypatch, tmp_path / "clouds.yaml")
            answer = ask("lab", None)
        assert answer.problem == ""
        assert len(answer.images) == 4


# What goes wrong, in the answers to which path, and what of it the problem has to say.
TROUBLES = (
    ("401", "/auth/tokens", "the servers could not be listed: ", "401"),
    ("hang", "/auth/tokens", "the servers could not be listed: ", "timed out"),
    ("401", "/servers/detail", "the servers could not be listed: ", "401"),
    ("403", "/servers/detail", "the servers could not be listed: ", "HTTP 403: "),
    ("406", "/servers/detail", "the servers could not be listed: ", "HTTP 406: "),
    ("500", "/servers/detail", "the servers could not be listed: ", "500"),
    ("hang", "/servers/detail", "the servers could not be listed: ", "timed out"),
    ("rubbish", "/servers/detail", "the servers could not be listed: ", "Expecting value"),
    ("other json", "/servers/detail", "the servers could not be listed: ", "the answer has no list of servers."),
    ("list", "/servers/detail", "the servers could not be listed: ", "the answer has no list of servers."),
    ("number", "/servers/detail", "the servers could not be listed: ", "the answer has no list of servers."),
    ("half a page", "/servers/detail", "the servers could not be listed: ", "line 1 column 1000"),
    ("cut off", "/servers/detail", "the servers could not be listed: ", ""),
    ("in circles", "/servers/detail", "the servers could not be listed: ", "the pages are a loop"),
    ("no second page", "/servers/detail", "the servers could not be listed: ", "marker not found"),
    ("rubbish", "/images", "the images could not be listed: ", "Expecting value"),
    ("500", "/images", "the images could not be listed: ", "500"),
    ("hang", "/images", "the images could not be listed: ", "timed out"),
)


class TestTroubles:
    @pytest.mark.parametrize(("trouble", "troubled", "what", "reason"), TROUBLES)
    def test_api_that_does_not_answer_properly_is_a_problem(
        self, apis: Cloud, trouble: str, troubled: str, what: str, reason: str
    ) -> None:
        apis.trouble, apis.troubled = trouble, troubled
        start = time.monotonic()
        answer = ask("lab", None, request_seconds=0.5)
        assert time.monotonic() - start < 10
        assert (answer.instances, answer.images) == ({}, ())
        assert what in answer.problem
        assert reason in answer.problem
        assert "it is not certain which files are in use" in answer.problem
        assert "`openstack --os-cloud lab server list --all-projects --long`" in answer.problem

    def test_login_for_the_catalogue_that_fails_is_a_problem(self, apis: Cloud, tmp_path: Path) -> None:
        write_clouds(tmp_path, {"lab": apis.url}, region=None)
        apis.trouble, apis.troubled = "401", "/auth/tokens"
        problem = ask("lab", None).problem
        assert "they cannot be used: " in problem
        assert "401" in problem

    def test_soft_deleted_servers_that_are_not_listed_are_a_problem(self, apis: Cloud) -> None:
        apis.servers["lab"] = [{**server("1"), "status": "ACTIVE"}, {"status": "SOFT_DELETED", "id": 7}]
        assert "the list of servers has an entry without an id." in ask("lab", None).problem

    def test_last_entry_of_a_page_without_an_id_is_a_problem(self, apis: Cloud) -> None:
        apis.images["lab"][1]["id"] = None
        assert "the images could not be listed: " in ask("lab", None).problem

    def test_time_limit_of_clouds_yaml_counts(self, apis: Cloud, tmp_path: Path) -> None:
        write_clouds(tmp_path, {"lab": apis.url}, api_timeout=0.5)
        apis.trouble, apis.troubled = "hang", "/servers/detail"
        start = time.monotonic()
        assert "timed out" in ask("lab", None).problem
        assert time.monotonic() - start < 10

    def test_port_that_nobody_listens_on_is_a_problem(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        use(monkeypatch, write_clouds(tmp_path, {"lab": "http://127.0.0.1:9"}))
        assert "127.0.0.1" in ask("lab", None).problem

    @pytest.mark.usefixtures("apis")
    def test_cloud_or_region_that_does_not_exist_is_named(self) -> None:
        assert "Cloud nowhere was not found" in ask("nowhere", None).problem
        assert "Region nowhere" in ask("lab", "nowhere").problem

    def test_missing_openstacksdk_names_the_way_to_install_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "openstack", None)
        problem = ask("lab", None).problem
        assert f"openstacksdk cannot be imported on the controller, by {sys.executable}" in problem
        assert "Run `pip install openstacksdk` there." in problem
