# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An audit reports a real cache as it is, and leaves no trace."""

from __future__ import annotations

import gc
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.storage import find_storage, may_hang
from ansible_collections.stackops.nova.tests.support.constants import (
    BASE,
    IMAGE,
    OTHER_BASE,
    OTHER_IMAGE,
    OTHER_UUID,
    UUID,
)
from ansible_collections.stackops.nova.tests.support.host import (
    DAY,
    HOUR,
    NAME,
    OLD,
    Host,
    create_image,
    orphans,
    picture,
    states,
    users,
    warnings,
)
from ansible_collections.stackops.nova.tests.support.processes import guest, nova_compute, reader
from ansible_collections.stackops.nova.tools.cache_tree import fingerprint


class TestUse:
    def test_guest_that_no_source_lists_uses_its_whole_chain(self, host: Host) -> None:
        lowest = host.base(OTHER_BASE, age=OLD)
        middle = create_image(host.cache_path / BASE, over=lowest, over_format="raw")
        disk = create_image(host.root / "disk", over=middle)
        os.utime(middle, (host.now - OLD, host.now - OLD))
        with guest(disk):
            while_it_runs = states(host.audit())
        assert while_it_runs == {BASE: "active: open, qemu", OTHER_BASE: "active: open, qemu"}
        assert states(host.audit()) == {BASE: "removable: unknown", OTHER_BASE: "removable: unknown"}

    def test_process_that_writes_on_after_nova_died_uses_its_download(self, host: Host) -> None:
        part = host.base(f"{BASE}.converted", age=OLD)
        with reader(part):
            assert states(host.audit()) == {part.name: "active: open"}

    def test_instance_is_shown_by_the_name_that_nova_has_for_it(self, host: Host) -> None:
        host.base(BASE)
        host.instance(UUID, {"disk": BASE})
        host.instance(OTHER_UUID, {"disk": BASE})
        host.domain_xml(UUID, "instance-0000000a", IMAGE)
        result = host.audit(libvirt=True)
        assert states(result) == {BASE: "active: backing, instance, orphan"}
        assert users(result) == {BASE: [OTHER_UUID, "instance-0000000a"]}
        assert orphans(result) == [OTHER_UUID]

    def test_file_that_a_container_names_by_another_path_is_in_use(self, host: Host) -> None:
        host.base(BASE, age=OLD)
        host.overlay(UUID, f"/var/lib/nova/instances/no/such/_base/{BASE}")
        result = host.audit()
        assert states(result) == {BASE: "active: backing"}
        assert result.facts["missing"] == []
        assert warnings(result) == []

    def test_file_that_is_named_through_a_link_is_in_use(self, host: Host) -> None:
        host.base(BASE, age=OLD)
        (host.root / "alias").symlink_to("instances")
        host.overlay(UUID, host.root / "alias" / "_base" / BASE)
        assert states(host.audit()) == {BASE: "active: backing"}
        assert states(host.audit(instances_path=str(host.root / "alias"))) == {BASE: "active: backing"}

    def test_base_file_of_a_disk_outside_of_the_instances_path_is_in_use(self, host: Host) -> None:
        disk = create_image(host.root / "disk", over=host.base(BASE, age=OLD), over_format="raw")
        definition = host.domain_xml(UUID, "instance-0000000a", None)
        definition.write_text(definition.read_text().replace(str(host.instances_path / UUID / "disk"), str(disk)))
        result = host.audit(libvirt=True)
        assert states(result) == {BASE: "active: backing"}
        assert users(result) == {BASE: ["instance-0000000a"]}


class TestMissingBackingFile:
    def test_missing_file_is_reported_with_the_instances_that_need_it(self, host: Host) -> None:
        host.instance(UUID, {"disk": BASE})
        host.instance(OTHER_UUID, {"disk": BASE})
        host.domain_xml(UUID, "instance-0000000a", IMAGE)
        result = host.audit(libvirt=True)
        lost = str(host.cache_path / BASE)
        assert result.facts["missing"] == [
            {
                "backing_file": lost,
                "named": lost,
                "image_id": IMAGE,
                "image_name": None,
                "instances": [OTHER_UUID, "instance-0000000a"],
                "replaced": False,
                "recoverable_from": None,
                "recoverable_until": [],
            }
        ]
        assert result.facts["unknown_use"] == []
        [warning] = warnings(result)
        assert lost in warning
        assert "instance-0000000a" in warning

    def test_missing_file_is_the_first_warning(self, host: Host) -> None:
        host.instance(UUID, {"disk": BASE})
        host.disk(OTHER_UUID, b"QFI\xfb")
        result = host.audit()
        assert len(warnings(result)) == 2
        assert str(host.cache_path / BASE) in warnings(result)[0]


class TestReclaimableBytes:
    def test_reclaimable_bytes_are_those_of_the_removable_files(self, host: Host) -> None:
        content = b"\1" * (1 << 16)
        host.base(BASE, age=OLD, content=content)
        host.base(OTHER_BASE, age=HOUR, content=content)
        summary = host.audit().facts["summary"]
        assert (summary["removable"], summary["too_young"]) == (1, 1)
        assert summary["reclaimable_bytes"] == (host.cache_path / BASE).stat().st_blocks * 512 > 0
        assert summary["total"] == {"files": 2, "allocated_bytes": 2 * summary["reclaimable_bytes"]}

    def test_reclaimable_bytes_leave_out_files_that_nova_has_locked(self, host: Host) -> None:
        host.base(BASE, age=OLD, content=b"\1" * (1 << 16))
        with nova_compute() as nova:
            nova.take(BASE, host.locks_path)
            result = host.audit()
        assert states(result) == {BASE: "removable: unknown"}
        assert result.facts["summary"]["reclaimable_bytes"] == 0


class TestHostWithoutCache:
    def test_host_without_a_cache_has_an_empty_result_and_no_warning(self, host: Host) -> None:
        host.cache_path.rmdir()
        result = host.audit()
        assert result.facts["exists"] is False
        assert result.facts["cache_path"] == str(host.cache_path)
        assert result.facts["storage"] == {
            "id": None,
            "instances_id": find_storage(str(host.instances_path)).id,
            "filesystem": None,
            "mount_point": None,
            "shared": None,
            "users": [],
            "free_bytes": None,
            "total_bytes": None,
        }
        assert result.facts["summary"]["total"] == {"files": 0, "allocated_bytes": 0}
        assert warnings(result) == []
        assert result.facts["for_members"] is None

    def test_host_without_a_cache_hands_its_instances_to_the_other_members(self, host: Host) -> None:
        host.cache_path.rmdir()
        host.domain_xml("uuid-1", "instance-1", "image-1")
        facts = host.audit(libvirt=True, shared_storage=True).facts
        assert [record["uuid"] for record in facts["for_members"]["instances"]] == ["uuid-1"]


class TestStorage:
    def test_hosts_that_used_the_storage_within_a_day_are_named(self, host: Host) -> None:
        host.compute_nodes({"other": host.now - HOUR, NAME: host.now, "gone": host.now - DAY - 1})
        facts = host.audit().facts
        assert facts["storage"]["users"] == ["other", NAME]
        [sentence] = facts["unknown_use"]
        assert "other" in sentence

    def test_storage_id_does_not_depend_on_the_path_that_was_given(self, host: Host) -> None:
        (host.root / "alias").symlink_to("instances")
        alias = host.audit(instances_path=str(host.root / "alias")).facts
        assert alias["storage"]["id"] == host.audit().facts["storage"]["id"]
        assert alias["cache_path"] != host.audit().facts["cache_path"]


class TestSharedStorage:
    """What another host, which prunes the same storage, cannot see of this one."""

    def use(self, host: Host, **given: Any) -> Any:
        return host.audit(libvirt=True, shared_storage=True, **given).facts["for_members"]

    def test_local_disk_has_nothing_for_other_members(self, host: Host) -> None:
        host.domain_xml(UUID, "instance-0000000a", IMAGE)
        facts = host.audit(libvirt=True).facts
        assert (facts["storage"]["shared"], facts["for_members"]) == (False, None)
        assert host.audit(shared_storage=True).facts["storage"]["shared"] is True

    def test_instances_of_libvirt_are_handed_to_the_other_members(self, host: Host) -> None:
        host.domain_xml(UUID, "instance-0000000a", IMAGE, swap=64, ephemeral=1)
        host.domain_xml(OTHER_UUID, "instance-0000000b", None)
        given = {"uuid": "given", "image_ref": OTHER_IMAGE, "host": "other"}
        here = {"host": NAME}
        assert self.use(host, instances=[given])["instances"] == [
            {"uuid": UUID, "name": "instance-0000000a", **here, "image_ref": IMAGE, "swap_mb": 64, "ephemeral_gb": 1},
            {"uuid": OTHER_UUID, "name": "instance-0000000b", **here},
        ]

    def test_instances_that_were_handed_over_protect_the_same_files_there(self, host: Host) -> None:
        host.base(BASE, age=OLD)
        host.base("swap_64", age=OLD)
        host.base("swap_128", age=OLD)
        host.domain_xml(UUID, "instance-0000000a", IMAGE, swap=64)
        elsewhere = host.audit(host="elsewhere", instances=self.use(host)["instances"])
        assert states(elsewhere) == {
            BASE: "active: instance",
            "swap_64": "active: instance",
            "swap_128": "removable: unused",
        }

    def test_files_that_processes_hold_are_handed_to_the_other_members(self, host: Host) -> None:
        disk = create_image(host.root / "disk", over=host.base(BASE, age=OLD), over_format="raw")
        opened = host.base(OTHER_BASE, age=OLD)
        host.base("swap_64", age=OLD)
        host.instance(OTHER_UUID, {"disk": "swap_64"})
        host.domain_xml(OTHER_UUID, "instance-0000000b", None)
        with guest(disk), reader(opened):
            assert self.use(host)["held"] == [BASE, OTHER_BASE]
        assert self.use(host)["held"] == []

    def test_files_under_disks_that_no_other_host_looks_for_are_handed_to_the_other_members(self, host: Host) -> None:
        disk = create_image(host.root / "disk", over=host.base(BASE, age=OLD), over_format="raw")
        definition = host.domain_xml(UUID, "instance-0000000a", None)
        definition.write_text(definition.read_text().replace(str(host.instances_path / UUID / "disk"), str(disk)))
        held = self.use(host)["held"]
        assert held == [BASE]
        assert states(host.audit(libvirt=False, keep_files=held)) == {BASE: "active: keep_files"}

    def test_problems_are_handed_to_the_other_members(self, host: Host) -> None:
        host.disk(UUID, b"QFI\xfb")
        (host.libvirt_path / "broken.xml").write_text("<domain>")
        disk, record, domain = self.use(host, instances=["not one"])["problems"]
        assert UUID in disk
        assert "instances[0]" in record
        assert "broken.xml" in domain

    def test_sample_of_files_distinguishes_one_cache_from_another(self, host: Host, tmp_path: Path) -> None:
        names = [BASE, OTHER_BASE, "swap_64", "swap_128"]
        other = Host(tmp_path / "other")
        assert self.use(host)["sample_ids"] == self.use(other)["sample_ids"] == []
        for name in names:
            host.base(name)
            other.base(name)
        sample = set(self.use(host)["sample_ids"])
        assert len(sample) == 4
        assert sample.isdisjoint(self.use(other)["sample_ids"])
        os.utime(host.cache_path / BASE)
        (host.cache_path / OTHER_BASE).unlink()
        host.base("0" * 40)
        assert sample & set(self.use(host)["sample_ids"]) != set()

    def test_cache_is_the_same_after_a_prune_of_all_old_files(self, host: Host) -> None:
        old = [fingerprint(f"old-{number}") for number in range(10)]
        for name in old:
            host.base(name, age=10 * DAY)
        host.base("f" * 40, age=DAY)
        sample = set(self.use(host)["sample_ids"])
        for name in old:
            (host.cache_path / name).unlink()
        assert sample & set(self.use(host)["sample_ids"]) != set()

    def test_every_user_of_the_storage_is_named(self, host: Host) -> None:
        names = [f"compute-{number:04}" for number in range(100)]
        host.compute_nodes(dict.fromkeys(names, host.now))
        facts = host.audit(details="summary", libvirt=True, shared_storage=True).facts
        assert len(facts["storage"]["users"]) < 100
        assert facts["for_members"]["users"] == names

    def test_unknown_use_that_other_members_can_resolve_is_no_warning(self, host: Host) -> None:
        host.compute_nodes({"compute-9": host.now})
        shared, alone = (host.audit(libvirt=True, shared_storage=shared) for shared in (True, False))
        assert shared.facts["unknown_use"] == alone.facts["unknown_use"] != []
        assert [len(warnings(result)) for result in (shared, alone)] == [0, 1]

    def test_policy_of_the_host_is_in_the_result(self, host: Host) -> None:
        nova = {"remove_unused_original_minimum_age_seconds": 86400, "remove_unused_resized_minimum_age_seconds": 3600}
        other = {"remove_unused_base_images": True, "remove_unused_kernels": False, "orphans": "protect"}
        deleted = {"remove_only_deleted_images": False, "remove_deleted_images_minimum_age_seconds": None}
        policy = {**nova, **deleted, **other}
        assert host.audit(shared_storage=True).facts["policy"] == policy
        changed = {option: not value if isinstance(value, bool) else 5 for option, value in policy.items()}
        changed["orphans"] = "ignore"
        facts = host.audit(shared_storage=True, keep_images=["b", "a"], glance_images=["a", "b"], **changed).facts
        assert (facts["policy"], facts["for_members"]["keep_images"]) == (changed, ["a", "b"])

    def test_unknown_user_of_the_storage_is_no_problem_for_the_other_members(self, host: Host) -> None:
        host.compute_nodes({"other": host.now})
        facts = host.audit(libvirt=True, shared_storage=True).facts
        assert len(facts["unknown_use"]) == 1
        assert facts["for_members"]["problems"] == []


class TestStrangeNames:
    NAMES = (
        b"new\nline",
        b"not UTF-8 \xff\xfe",
        "снимок".encode(),
        b"\x1b[31mred",
        b"tab\t",
        b"{{ lookup('pipe', 'id') }}",
    )

    def test_result_with_strange_names_survives_json(self, host: Host) -> None:
        instances, cache = os.fsencode(host.instances_path), os.fsencode(host.cache_path)
        for name in self.NAMES:
            with open(os.path.join(cache, name), "wb"):
                pass
            os.mkdir(os.path.join(instances, name))
            host.overlay(os.fsdecode(name), b"../_base/gone " + name)
        result = host.audit(instances=[], instances_complete_for=[NAME])
        text = json.dumps(result.facts, ensure_ascii=False).encode()
        assert json.loads(text) == result.facts
        shown = ["new\\nline", "not UTF-8 \\xff\\xfe", "снимок", "\\x1b[31mred", "tab\\t", "{{ lookup('pipe', 'id') }}"]
        assert result.facts["other"] == sorted(shown)
        assert orphans(result) == sorted(shown)
        assert len(result.facts["missing"]) == len(self.NAMES)
        assert all(warning.isprintable() for warning in warnings(result))


class TestTraces:
    @pytest.mark.parametrize("was_enabled", [True, False])
    def test_audit_leaves_the_garbage_collector_as_it_was(self, host: Host, was_enabled: bool) -> None:
        enabled_before = gc.isenabled()
        try:
            gc.enable() if was_enabled else gc.disable()
            host.audit()
            assert gc.isenabled() is was_enabled
            host.instances_path.rename(host.root / "elsewhere")
            with pytest.raises(ImageCacheError):
                host.audit()
            assert gc.isenabled() is was_enabled
        finally:
            gc.enable() if enabled_before else gc.disable()

    def test_audit_writes_nothing(self, host: Host) -> None:
        for name, age in ((BASE, OLD), (OTHER_BASE, OLD), (fingerprint("young"), HOUR), ("swap_64", OLD)):
            host.base(name, age=age, content=b"content")
        (host.cache_path / f"{OTHER_BASE}.info").write_text("{}")
        host.instance(UUID, {"disk": BASE, "disk.swap": "swap_64"})
        host.instance(OTHER_UUID, {"disk": "gone"})
        host.domain_xml(UUID, "instance-0000000a", IMAGE)
        host.compute_nodes({NAME: host.now})
        host.lock_file(BASE)
        before = picture(host.root)
        time.sleep(0.01)  # for two times of change to differ
        result = host.audit(libvirt=True)
        assert picture(host.root) == before
        assert {state.split(":")[0] for state in states(result).values()} == {
            "active",
            "removable",
            "too_young",
            "other",
        }

    def test_audit_makes_no_locks_directory(self, host: Host) -> None:
        host.base(BASE, age=OLD)
        host.locks_path.rmdir()
        before = picture(host.root)
        host.audit()
        assert picture(host.root) == before


def test_audit_of_a_host_with_local_disks_alone_starts_no_process(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    if may_hang():
        pytest.skip("a network or FUSE file system is mounted on this machine")
    monkeypatch.delattr(os, "fork")
    host.base(BASE)
    assert states(host.audit()) == {BASE: "too_young: unknown"}
