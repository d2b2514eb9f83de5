# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each source of instances is read, or has a problem. A problem means that not all instances are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.domain_xml import parse_domain
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.instance_records import parse_record, to_records
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.instances import (
    Instance,
    Instances,
    merge_instances,
)
from ansible_collections.stackops.nova.tests.support import captures
from ansible_collections.stackops.nova.tests.support.constants import IMAGE, UUID
from ansible_collections.stackops.nova.tests.support.domains import nova_domain

NAME = "instance-00000002"
KERNEL = "5f2a7c3e-0c33-4a0f-8a9e-7b1d2c3e4f50"
RAMDISK = "0d9c8b7a-1111-4222-8333-444455556666"
ROOT = captures.CAPTURED_ROOT

PLAIN = {
    "uuid": UUID,
    "name": NAME,
    "host": "vm",
    "image_ref": IMAGE,
    "kernel_id": KERNEL,
    "ramdisk_id": RAMDISK,
    "vm_state": "active",
    "task_state": None,
    "swap_mb": 64,
    "ephemeral_gb": 1,
}
API = {
    "id": UUID,
    "name": "my server",
    "image": {"id": IMAGE, "links": []},
    "flavor": {"original_name": "m1.small", "swap": 64, "ephemeral": 1},
    "OS-EXT-SRV-ATTR:host": "vm",
    "OS-EXT-SRV-ATTR:hostname": "my-server",
    "OS-EXT-SRV-ATTR:instance_name": NAME,
    "OS-EXT-SRV-ATTR:kernel_id": KERNEL,
    "OS-EXT-SRV-ATTR:ramdisk_id": RAMDISK,
    "OS-EXT-STS:vm_state": "active",
    "OS-EXT-STS:task_state": None,
}
# As openstacksdk renames it for openstack.cloud.server_info.
SDK = {
    "id": UUID,
    "name": "my server",
    "hostname": "my-server",
    "image": {"id": IMAGE, "name": None},
    "flavor": {"id": "m1.small", "swap": 64, "ephemeral": 1},
    "compute_host": "vm",
    "hypervisor_hostname": "vm.example.org",
    "instance_name": NAME,
    "kernel_id": KERNEL,
    "ramdisk_id": RAMDISK,
    "vm_state": "active",
    "task_state": None,
}
SOURCES = {"plain": PLAIN, "API": API, "SDK": SDK}
UNDERSTOOD = Instance(
    uuid=UUID,
    name=NAME,
    host="vm",
    image_ids=(IMAGE, KERNEL, RAMDISK),
    swap_mb=(64,),
    ephemeral_gb=(1,),
    resizing=False,
)
STATE = {"plain": "vm_state", "API": "OS-EXT-STS:vm_state", "SDK": "vm_state"}
TASK = {"plain": "task_state", "API": "OS-EXT-STS:task_state", "SDK": "task_state"}

every_source = pytest.mark.parametrize("source", SOURCES)


class TestRecord:
    @every_source
    def test_record_of_each_source_is_the_same_instance(self, source: str) -> None:
        assert parse_record(SOURCES[source]) == UNDERSTOOD

    def test_uuid_is_enough(self) -> None:
        assert parse_record({"uuid": UUID}) == Instance(uuid=UUID, name="", host="")

    def test_id_is_enough(self) -> None:
        assert parse_record({"id": UUID, "name": "my server"}) == Instance(uuid=UUID, name="", host="")

    @pytest.mark.parametrize("image", ["", None, {}, {"id": None}], ids=repr)
    def test_boot_from_volume_uses_no_image(self, image: Any) -> None:
        server = parse_record({**API, "image": image})
        assert server is not None
        assert server.image_ids == (KERNEL, RAMDISK)

    def test_empty_fields_use_nothing(self) -> None:
        record = {**PLAIN, "image_ref": "", "kernel_id": "", "ramdisk_id": None, "swap_mb": 0, "ephemeral_gb": None}
        assert parse_record(record) == UNDERSTOOD._replace(image_ids=(), swap_mb=(), ephemeral_gb=())

    def test_image_that_is_its_own_kernel_counts_once(self) -> None:
        record = parse_record({**PLAIN, "kernel_id": IMAGE, "ramdisk_id": ""})
        assert record is not None
        assert record.image_ids == (IMAGE,)

    @pytest.mark.parametrize(("swap", "sizes"), [(64, (64,)), ("64", (64,)), ("", ()), (0, ()), ("0", ()), (None, ())])
    def test_size_is_a_number_or_its_text(self, swap: Any, sizes: tuple[int, ...]) -> None:
        server = parse_record({**API, "flavor": {"swap": swap}})
        assert server is not None
        assert server.swap_mb == sizes

    @every_source
    @pytest.mark.parametrize("state", ["deleted", "shelved_offloaded"])
    def test_instance_without_disks_on_any_host_does_not_count(self, source: str, state: str) -> None:
        assert parse_record({**SOURCES[source], STATE[source]: state}) is None

    @every_source
    @pytest.mark.parametrize(
        "state", ["active", "building", "stopped", "rescued", "shelved", "soft-delete", "error", ""]
    )
    def test_instance_in_any_other_state_counts(self, source: str, state: str) -> None:
        assert parse_record({**SOURCES[source], STATE[source]: state, TASK[source]: "spawning"}) == UNDERSTOOD

    @pytest.mark.parametrize(
        ("record", "complaint"),
        [
            pytest.param({}, "it has neither a uuid nor an id", id="empty"),
            pytest.param({"name": NAME, "image_ref": IMAGE}, "it has neither a uuid nor an id", id="no uuid"),
            pytest.param({"uuid": "", "id": None}, "it has neither a uuid nor an id", id="empty uuid"),
            pytest.param({"uuid": 7}, "its uuid is not a string", id="uuid of another type"),
            pytest.param({"id": [UUID]}, "its id is not a string", id="id of another type"),
            pytest.param(UUID, "it is not a dictionary", id="text"),
            pytest.param(None, "it is not a dictionary", id="nothing"),
            pytest.param([PLAIN], "it is not a dictionary", id="list"),
            pytest.param({**PLAIN, "image_ref": {"id": IMAGE}}, "its image_ref is not a string", id="image of the API"),
            pytest.param({**PLAIN, "host": 1}, "its host is not a string", id="host"),
            pytest.param({**PLAIN, "vm_state": 1}, "its vm_state is not a string", id="state"),
            pytest.param({**PLAIN, "swap_mb": "64M"}, "its swap_mb is not a whole number", id="size with a unit"),
            pytest.param({**PLAIN, "swap_mb": [64]}, "its swap_mb is not a whole number", id="list of sizes"),
            pytest.param({**PLAIN, "swap_mb": True}, "its swap_mb is not a whole number", id="true for a size"),
            pytest.param({**PLAIN, "swap_mb": 1.9}, "its swap_mb is not a whole number", id="part of a size"),
            pytest.param({**PLAIN, "swap_mb": -64}, "its swap_mb is not a whole number", id="negative size"),
            pytest.param({**PLAIN, "swap_mb": "1_0"}, "its swap_mb is not a whole number", id="size as Python has it"),
            pytest.param({**PLAIN, "swap_mb": "٣"}, "its swap_mb is not a whole number", id="size in other digits"),
            pytest.param({**PLAIN, "swap_mb": 10**30}, "its swap_mb is not a whole number", id="size beyond all"),
            pytest.param({**PLAIN, "swap_mb": "9" * 9999}, "its swap_mb is not a whole number", id="size without end"),
            pytest.param({**PLAIN, "ephemeral_gb": float("nan")}, "its ephemeral_gb is not a whole number", id="NaN"),
            pytest.param(
                {**PLAIN, "ephemeral_gb": float("inf")}, "its ephemeral_gb is not a whole number", id="infinity"
            ),
            pytest.param({**API, "image": IMAGE}, "its image is not a dictionary", id="image as text"),
            pytest.param({**API, "image": {"id": 1}}, "its id is not a string", id="image id"),
            pytest.param({**API, "flavor": "m1.small"}, "its flavor is not a dictionary", id="flavor as text"),
            pytest.param({**API, "OS-EXT-SRV-ATTR:host": 1}, "its OS-EXT-SRV-ATTR:host is not a string", id="API host"),
        ],
    )
    def test_invalid_record_is_refused_with_the_reason(self, record: Any, complaint: str) -> None:
        with pytest.raises(ImageCacheError, match=complaint):
            parse_record(record)


class TestDirectories:
    """An instance's directories are called after its uuid or its name; while it is resized, with `_resize` too."""

    @pytest.mark.parametrize("task", ["resize_prep", "resize_migrating", "resize_migrated", "resize_finish"])
    @every_source
    def test_instance_that_is_being_resized_has_two_more_directories(self, source: str, task: str) -> None:
        record = parse_record({**SOURCES[source], TASK[source]: task})
        assert record is not None
        assert record.directories == (UUID, NAME, f"{UUID}_resize", f"{NAME}_resize")

    @every_source
    def test_instance_whose_resize_waits_to_be_confirmed_has_two_more_directories(self, source: str) -> None:
        record = parse_record({**SOURCES[source], STATE[source]: "resized"})
        assert record is not None
        assert record.directories == (UUID, NAME, f"{UUID}_resize", f"{NAME}_resize")

    @every_source
    @pytest.mark.parametrize("task", [None, "", "resize_reverting", "rebooting"])
    def test_instance_in_another_state_has_no_more_directories(self, source: str, task: str | None) -> None:
        record = parse_record({**SOURCES[source], TASK[source]: task})
        assert record is not None
        assert record.directories == (UUID, NAME)

    def test_instance_of_unknown_state_may_have_the_directories_of_a_resize(self) -> None:
        record = parse_record({"uuid": UUID})
        assert record is not None
        assert record.directories == (UUID, f"{UUID}_resize")
        assert parse_domain(nova_domain(), "vm").directories == (UUID, NAME, f"{UUID}_resize", f"{NAME}_resize")

    @pytest.mark.parametrize(("name", "label"), [(NAME, NAME), ("", UUID)])
    def test_instance_is_shown_by_its_name_or_else_its_uuid(self, name: str, label: str) -> None:
        assert Instance(uuid=UUID, name=name, host="vm").label == label


class TestCapturedServers:
    def test_server_with_swap_is_read(self) -> None:
        servers = {server["name"]: parse_record(server) for server in captures.servers("steady")}
        assert servers["swap"] == Instance(
            uuid=UUID, name=NAME, host="vm", image_ids=(IMAGE,), swap_mb=(64,), resizing=False
        )

    def test_server_with_two_ephemeral_disks_has_their_sum(self) -> None:
        servers = {server["name"]: parse_record(server) for server in captures.servers("rescue")}
        assert servers["eph2"] == Instance(
            uuid="a9d7be4f-13f0-4438-8395-3c95d7e07770",
            name="instance-00000008",
            host="vm",
            image_ids=("f8cda50a-d7cd-4ebb-a55c-a081ab800866",),
            ephemeral_gb=(3,),
            resizing=False,
        )

    def test_two_servers_wait_for_their_resize_to_be_confirmed(self) -> None:
        servers = [parse_record(server) for server in captures.servers("resize-pending")]
        assert {server.name for server in servers if server and server.resizing} == {NAME, "instance-00000001"}

    def test_offloaded_server_is_on_no_host(self) -> None:
        servers = {server["name"]: parse_record(server) for server in captures.servers("shelved")}
        assert [name for name, server in servers.items() if server is None] == ["disk1"]

    def test_deleted_servers_count_only_where_they_can_be_restored(self) -> None:
        answer = captures.servers("soft-deleted", "servers-detail-deleted-true.json")
        servers = {server["name"]: parse_record(server) for server in answer}
        assert {name: server is not None for name, server in servers.items()} == {
            "soft": True,
            "lineph": True,
            "doomed2": False,
            "doomed": False,
        }


class TestMergeInstances:
    def test_no_source_means_that_nobody_was_asked(self) -> None:
        assert merge_instances(None, [], None, "vm") == Instances(has_source=False, hosts=frozenset({"vm"}))

    def test_empty_list_is_a_source_and_complete_for_no_host(self) -> None:
        assert merge_instances([], [], None, "vm") == Instances(has_source=True)

    def test_given_instances_are_complete_for_their_hosts_and_for_those_named(self) -> None:
        records = [{"uuid": "a", "host": "one"}, {"uuid": "b", "host": "two"}, {"uuid": "c"}]
        assert merge_instances(records, ["three"], None, "vm").hosts == {"one", "two", "three"}

    def test_domains_are_complete_for_this_host(self, tmp_path: Path) -> None:
        assert merge_instances(None, [], str(tmp_path), "vm") == Instances(has_source=True, hosts=frozenset({"vm"}))

    def test_instance_of_two_sources_is_one(self, tmp_path: Path) -> None:
        devices = "<disk><driver type='qcow2'/><source file='/d'/></disk>"
        metadata = '<nova:root type="image" uuid="snapshot"/><nova:flavor><nova:swap>32</nova:swap></nova:flavor>'
        (tmp_path / "one.xml").write_bytes(nova_domain(metadata=metadata, devices=devices))
        (tmp_path / "two.xml").write_bytes(nova_domain(name="other", uuid="other"))
        instances = merge_instances([PLAIN], [], str(tmp_path), "vm")
        assert instances.problems == ()
        assert {instance.uuid: instance for instance in instances.all} == {
            UUID: UNDERSTOOD._replace(
                image_ids=(IMAGE, KERNEL, RAMDISK, "snapshot"), swap_mb=(64, 32), disks=(("/d", "qcow2"),)
            ),
            "other": Instance("other", "other", "vm"),
        }

    def test_field_that_one_source_leaves_out_comes_from_another(self, tmp_path: Path) -> None:
        (tmp_path / "one.xml").write_bytes(nova_domain())
        (united,) = merge_instances([{"uuid": UUID, "vm_state": "active"}], [], str(tmp_path), "vm").all
        assert united == Instance(UUID, NAME, "vm", resizing=False)
        (united,) = merge_instances(
            [{"uuid": UUID, "name": NAME}, {"uuid": UUID, "vm_state": "active"}], [], None, "vm"
        ).all
        assert united == Instance(UUID, NAME, "", resizing=False)

    def test_deleted_instance_is_left_out_without_a_problem(self) -> None:
        assert merge_instances([{**PLAIN, "vm_state": "deleted"}], ["vm"], None, "vm").all == ()
        assert merge_instances([{**PLAIN, "vm_state": "deleted"}], ["vm"], None, "vm").problems == ()

    def test_record_that_cannot_be_understood_is_named_and_the_others_are_kept(self) -> None:
        instances = merge_instances([PLAIN, {"name": NAME}, 7], [], None, "vm")
        assert instances.all == (UNDERSTOOD,)
        assert instances.problems == (
            "instances[1] cannot be understood: it has neither a uuid nor an id. Correct instances[1], or take the "
            "record from the Compute API again.",
            "instances[2] cannot be understood: it is not a dictionary. Correct instances[2], or take the record from "
            "the Compute API again.",
        )


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters()))
keys = st.one_of(st.sampled_from(sorted({*PLAIN, *API, *SDK, "swap", "ephemeral"})), st.text(max_size=3))
anything = st.recursive(scalars, lambda inner: st.one_of(st.lists(inner), st.dictionaries(keys, inner)), max_leaves=20)
records = st.builds(
    lambda source, changes: {**source, **changes}, st.sampled_from([PLAIN, API, SDK]), st.dictionaries(keys, anything)
)


@given(st.one_of(anything, records))
@example({"uuid": "x", "swap_mb": float("inf")})
def test_any_record_is_understood_or_refused(record: Any) -> None:
    try:
        instance = parse_record(record)
    except ImageCacheError:
        return
    assert instance is None or instance.uuid in (record.get("uuid"), record.get("id"))


@given(st.lists(st.one_of(anything, records), max_size=4))
def test_any_list_is_merged_without_an_error(given_instances: list[Any]) -> None:
    instances = merge_instances(given_instances, [], None, "vm")
    assert len(instances.all) + len(instances.problems) <= len(given_instances)


texts = st.text(min_size=1)
sizes = st.lists(st.integers(1, 10**18 - 1), max_size=3, unique=True).map(tuple)


@given(
    st.builds(
        Instance,
        uuid=texts,
        name=st.text(),
        host=st.text(),
        image_ids=st.lists(texts, max_size=4, unique=True).map(tuple),
        swap_mb=sizes,
        ephemeral_gb=sizes,
        resizing=st.sampled_from([None, True, False]),
        disks=st.just(()),
    )
)
def test_any_instance_survives_being_written_as_records(instance: Instance) -> None:
    assert merge_instances(to_records(instance), [], None, "vm").all == (instance,)
