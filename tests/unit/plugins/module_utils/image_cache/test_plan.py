# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The policy: a file in use is kept, an old one is removed, and unknown use keeps every file."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.instances import Instance, Instances
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.names import fingerprint, lock_name, parse_name
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.obstacles import Obstacles
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.plan import (
    ImageUse,
    Kept,
    KeptReason,
    Missing,
    Plan,
    make_plan,
    used_by,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.settings import Settings, make_settings
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.snapshot import CacheFile, Snapshot
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.storage import Storage
from ansible_collections.stackops.nova.tests.support.constants import BASE, IMAGE, OTHER_BASE, OTHER_IMAGE

HOUR = 3600
DAY = 24 * HOUR
NOW = 1_795_334_208.5

KERNEL = "5f2a7c3e-0c33-4a0f-8a9e-7b1d2c3e4f50"

GUEST = Instance(uuid="uuid-1", name="instance-1", host="here", image_ids=(IMAGE,), resizing=False)


def cached(name: str, *, age: float = 7 * DAY, size: int = 1000) -> CacheFile:
    """A file of the cache, last used so many seconds ago."""
    kind, key = parse_name(name)
    return CacheFile(name, kind, key, 1, size, size, round((NOW - age) * 1e9))


def found(*files: CacheFile, free: int = 0, **more: Any) -> Snapshot:
    """What lies on the host."""
    more.setdefault(
        "instance_directories", tuple({name: None for names in more.get("backing", {}).values() for name in names})
    )
    return Snapshot(exists=True, storage=Storage("id", "ext4", False, free, 10**6), files=files, **more)


def known(*instances: Instance, **more: Any) -> Instances:
    """Instances that are complete for this host."""
    return Instances(**{"has_source": True, "all": instances, "hosts": frozenset({"here"}), **more})


NOBODY_ASKED = Instances(has_source=False, hosts=frozenset({"here"}))


def options(**given_options: Any) -> Settings:
    hostname = os.fsdecode(b"here")  # equal to what an instance has, and another object
    return make_settings({"instances_path": "/instances", **given_options}, {}, hostname)


def decide(snapshot: Snapshot, instances: Instances = NOBODY_ASKED, **given_options: Any) -> Plan:
    return make_plan(snapshot, instances, options(**given_options), NOW)


def said(plan: Plan) -> dict[str, str]:
    """The state of each file, and every reason for it."""
    return {
        verdict.file.name: ": ".join(
            filter(None, [verdict.state.value, ", ".join(reason.value for reason in verdict.reasons)])
        )
        for verdict in plan.verdicts
    }


def removed(plan: Plan) -> list[str]:
    return [file.name for file in plan.removals]


class TestInstances:
    """An image that an instance uses keeps every file that was made of it, here and on other hosts."""

    FILES = (cached(BASE), cached(f"{BASE}_10"), cached(f"{BASE}_sm"), cached(IMAGE), cached(OTHER_BASE))

    @pytest.mark.parametrize("host", ["here", "there", ""])
    def test_every_file_of_the_image_of_an_instance_is_in_use(self, host: str) -> None:
        plan = decide(found(*self.FILES), known(GUEST._replace(host=host)), remove_unused_kernels=True)
        assert said(plan) == {
            BASE: "active: instance",
            f"{BASE}_10": "active: instance",
            f"{BASE}_sm": "active: instance",
            IMAGE: "active: instance",
            OTHER_BASE: "removable: unknown",
        }
        assert removed(plan) == [OTHER_BASE]

    def test_kernel_and_ramdisk_of_an_instance_are_in_use(self) -> None:
        guest = GUEST._replace(image_ids=(IMAGE, KERNEL))
        plan = decide(found(cached(KERNEL), cached(fingerprint(KERNEL))), known(guest), remove_unused_kernels=True)
        assert said(plan) == {KERNEL: "active: instance", fingerprint(KERNEL): "active: instance"}

    def test_templates_of_the_flavor_of_an_instance_are_in_use(self) -> None:
        names = ["swap_64", "swap_640", "swap_6", "ephemeral_1_0706d66", "ephemeral_1_abcdefg", "ephemeral_10_0706d66"]
        guest = GUEST._replace(swap_mb=(64,), ephemeral_gb=(1,))
        plan = decide(found(*map(cached, names)), known(guest))
        assert said(plan) == {
            "swap_64": "active: instance",
            "swap_640": "removable: unused",
            "swap_6": "removable: unused",
            "ephemeral_1_0706d66": "active: instance",
            "ephemeral_1_abcdefg": "active: instance",
            "ephemeral_10_0706d66": "removable: unused",
        }

    def test_instances_are_counted_by_image_and_host(self) -> None:
        guests = [
            GUEST,
            Instance("uuid-2", "", "here", image_ids=(IMAGE, KERNEL)),
            Instance("uuid-3", "instance-3", "there", image_ids=(IMAGE,)),
            Instance("uuid-4", "instance-4", "elsewhere", image_ids=(IMAGE,)),
        ]
        assert decide(found(), known(*guests)).usage.images == {
            IMAGE: ImageUse(local=2, remote=2, instances=("instance-1", "instance-3", "instance-4", "uuid-2")),
            KERNEL: ImageUse(local=1, remote=0, instances=("uuid-2",)),
        }

    def test_file_of_keep_files_is_kept_by_its_name_alone(self) -> None:
        names = [f"{BASE}.part", f"{BASE}_10", "swap_64"]
        plan = decide(found(*map(cached, names), cached(BASE)), keep_files=names)
        assert said(plan) == {**dict.fromkeys(names, "active: keep_files"), BASE: "removable: unknown"}

    def test_interrupted_download_is_in_use_by_no_instance(self) -> None:
        plan = decide(found(cached(f"{BASE}.part")), known(GUEST), keep_images=[IMAGE])
        assert said(plan) == {f"{BASE}.part": "removable: unused"}


class TestBackingFiles:
    SNAPSHOT = found(cached(BASE), cached("swap_64"), backing={BASE: ["uuid-1"]})

    def test_file_that_a_disk_of_an_instance_needs_is_in_use(self) -> None:
        guest = GUEST._replace(image_ids=())
        assert said(decide(self.SNAPSHOT, known(guest))) == {BASE: "active: backing", "swap_64": "removable: unused"}

    def test_each_directory_is_an_instance_where_nobody_was_asked(self) -> None:
        plan = decide(self.SNAPSHOT)
        assert said(plan) == {BASE: "active: backing", "swap_64": "removable: unused"}
        assert plan.usage.orphans == frozenset()

    @pytest.mark.parametrize("directory", ["uuid-1", "instance-1"])
    def test_directory_belongs_to_an_instance_by_uuid_or_name(self, directory: str) -> None:
        snapshot = found(cached(BASE), backing={BASE: [directory]})
        plan = decide(snapshot, known(GUEST._replace(image_ids=())))
        assert plan.usage.orphans == frozenset()
        assert used_by(snapshot.files[0], snapshot, plan.usage) == ("instance-1",)

    @pytest.mark.parametrize(("resizing", "state"), [(True, "backing"), (None, "backing"), (False, "orphan")])
    def test_old_disks_of_a_resize_belong_to_the_instance_until_it_ends(
        self, resizing: bool | None, state: str
    ) -> None:
        snapshot = found(cached(BASE), backing={BASE: ["uuid-1_resize"]})
        assert said(decide(snapshot, known(GUEST._replace(image_ids=(), resizing=resizing)))) == {
            BASE: f"active: {state}"
        }

    def test_file_has_every_reason_for_its_use(self) -> None:
        snapshot = found(
            cached(BASE), backing={BASE: ["uuid-1", "lost"]}, held_by_qemu=frozenset({BASE}), opened=frozenset({BASE})
        )
        plan = decide(snapshot, known(GUEST), keep_images=[IMAGE], keep_files=[BASE])
        assert said(plan) == {BASE: "active: instance, keep_images, keep_files, backing, orphan, qemu, open"}

    def test_missing_file_is_named_with_its_users(self) -> None:
        plan = decide(found(missing={"/b": ["uuid-1", "lost"], "/a": ["uuid-1", "instance-1"]}), known(GUEST))
        assert plan.missing == (Missing("/a", ("instance-1",)), Missing("/b", ("instance-1", "lost")))

    def test_missing_file_has_both_paths_where_nova_names_it_by_another_one(self) -> None:
        snapshot = found(missing={"/b": ["uuid-1"], "/y": ["uuid-1"]}, paths_on_host={"/b": "/a", "/y": "/z"})
        assert decide(snapshot, known(GUEST)).missing == (
            Missing("/a", ("instance-1",), "/b"),
            Missing("/z", ("instance-1",), "/y"),
        )


class TestOrphans:
    """A directory with disks that belongs to no known instance."""

    LOST = found(cached(BASE), backing={BASE: ["lost"]})

    def test_orphan_protects_its_backing_file_by_default(self) -> None:
        plan = decide(self.LOST, known(GUEST._replace(image_ids=())))
        assert said(plan) == {BASE: "active: orphan"}
        assert plan.usage.orphans == {"lost"}

    def test_ignored_orphan_is_reported_and_protects_nothing(self) -> None:
        plan = decide(self.LOST, known(GUEST._replace(image_ids=())), orphans="ignore")
        assert said(plan) == {BASE: "removable: unknown"}
        assert plan.usage.orphans == {"lost"}

    @pytest.mark.parametrize("orphans", ["protect", "ignore"])
    def test_directory_newer_than_the_list_of_instances_is_no_orphan(self, orphans: str) -> None:
        guest = known(GUEST._replace(image_ids=()), earlier_directories=frozenset({"uuid-1"}))
        plan = decide(self.LOST, guest, orphans=orphans)
        assert said(plan) == {BASE: "active: backing"}
        assert plan.usage.orphans == frozenset()

    def test_file_that_an_orphan_and_an_instance_need_is_in_use_either_way(self) -> None:
        snapshot = found(cached(BASE), backing={BASE: ["lost", "uuid-1"]})
        guest = known(GUEST._replace(image_ids=()))
        assert said(decide(snapshot, guest)) == {BASE: "active: backing, orphan"}
        assert said(decide(snapshot, guest, orphans="ignore")) == {BASE: "active: backing"}

    def test_orphan_whose_disks_need_nothing_is_reported_too(self) -> None:
        assert decide(found(instance_directories=("lost",)), known(GUEST)).usage.orphans == {"lost"}


class TestProcesses:
    @pytest.mark.parametrize("instances", [NOBODY_ASKED, known(GUEST)], ids=["nobody asked", "asked"])
    @pytest.mark.parametrize(("holder", "reason"), [("held_by_qemu", "qemu"), ("opened", "open")])
    @pytest.mark.parametrize("name", [OTHER_BASE, "swap_64", f"{BASE}.converted"])
    def test_file_that_a_process_has_open_is_in_use_although_no_instance_needs_it(
        self, instances: Instances, holder: str, reason: str, name: str
    ) -> None:
        assert said(decide(found(cached(name), **{holder: frozenset({name})}), instances)) == {
            name: f"active: {reason}"
        }

    def test_locked_file_is_removable_and_kept(self) -> None:
        plan = decide(found(cached(BASE), cached("swap_64"), locked=frozenset({BASE})))
        assert said(plan) == {BASE: "removable: unknown", "swap_64": "removable: unused"}
        assert removed(plan) == ["swap_64"]
        assert plan.kept == (Kept(BASE, KeptReason.LOCKED),)


class TestKeepImages:
    def test_every_file_of_a_kept_image_is_in_use(self) -> None:
        names = [BASE, f"{BASE}_10", f"{BASE}_sm", IMAGE]
        plan = decide(found(*map(cached, names), cached(OTHER_BASE)), keep_images=[IMAGE], remove_unused_kernels=True)
        assert said(plan) == {**dict.fromkeys(names, "active: keep_images"), OTHER_BASE: "removable: unknown"}


AGE_LIMITS = {
    BASE: DAY,
    f"{BASE}_10": HOUR,
    f"{BASE}_sm": HOUR,
    "swap_64": DAY,
    "ephemeral_1_0706d66": DAY,
    IMAGE: DAY,
    f"{BASE}.part": DAY,
    f"{BASE}_10.part": DAY,
}


class TestAge:
    """Nova's two limits: a resized copy is removed after an hour, everything else after a day."""

    @pytest.mark.parametrize(("name", "limit"), AGE_LIMITS.items())
    def test_file_as_old_as_its_limit_is_removed(self, name: str, limit: int) -> None:
        plan = decide(found(cached(name, age=limit)), remove_unused_kernels=True)
        assert plan.verdicts[0].removable_in == 0
        assert removed(plan) == [name]

    def test_file_older_than_its_limit_is_removable_at_once(self) -> None:
        assert decide(found(cached(BASE, age=9 * DAY))).verdicts[0].removable_in == 0

    @pytest.mark.parametrize("early", [0.01, 0.5, 0.99])
    @pytest.mark.parametrize(("name", "limit"), AGE_LIMITS.items())
    def test_file_younger_than_its_limit_is_too_young(self, name: str, limit: int, early: float) -> None:
        plan = decide(found(cached(name, age=limit - early)), remove_unused_kernels=True)
        assert said(plan)[name].startswith("too_young")
        assert plan.verdicts[0].removable_in == 1
        assert removed(plan) == []

    @pytest.mark.parametrize(
        ("name", "limit"),
        [(BASE, 10), ("swap_64", 10), (f"{BASE}.part", 10), (f"{BASE}_10", 20), (f"{BASE}_sm", 20)],
    )
    def test_age_limits_of_the_options_count(self, name: str, limit: int) -> None:
        ages = {"remove_unused_original_minimum_age_seconds": 10, "remove_unused_resized_minimum_age_seconds": 20}
        assert removed(decide(found(cached(name, age=limit)), **ages)) == [name]
        assert removed(decide(found(cached(name, age=limit - 1)), **ages)) == []

    def test_file_that_was_used_now_is_removed_where_the_age_is_zero(self) -> None:
        plan = decide(found(cached(BASE, age=0)), remove_unused_original_minimum_age_seconds=0)
        assert removed(plan) == [BASE]

    def test_file_from_the_future_is_too_young(self) -> None:
        plan = decide(found(cached(BASE, age=-DAY)))
        assert plan.verdicts[0].removable_in == 2 * DAY

    def test_unused_file_from_the_future_is_reported_with_its_name(self) -> None:
        files = [cached(BASE, age=-DAY), cached("swap_64", age=-60), cached(OTHER_BASE, age=-60.25)]
        (warning,) = decide(found(*files)).warnings
        assert warning.startswith("Unused files have modification times in the future (")
        assert BASE in warning
        assert OTHER_BASE in warning
        assert decide(found(cached("swap_64", age=-60))).warnings == ()
        assert decide(found(cached(BASE, age=-DAY)), remove_unused_original_minimum_age_seconds=0).warnings != ()

    def test_file_from_the_future_that_is_in_use_is_not_reported(self) -> None:
        assert decide(found(cached(fingerprint(IMAGE), age=-DAY)), known(GUEST)).warnings == ()

    def test_file_in_use_has_no_time_of_removal(self) -> None:
        assert decide(found(cached(BASE)), known(GUEST)).verdicts[0].removable_in is None


class TestReasonForRemoval:
    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            (BASE, "unknown"),
            (f"{BASE}_sm", "unknown"),
            (f"{BASE}.part", "unknown"),
            (fingerprint(IMAGE) + "_10", "unknown"),
            ("swap_64", "unused"),
            ("ephemeral_1_0706d66", "unused"),
        ],
    )
    def test_file_of_an_image_that_nothing_names_is_unknown(self, name: str, reason: str) -> None:
        plan = decide(found(cached(name)))
        assert said(plan) == {name: f"removable: {reason}"}
        assert plan.verdicts[0].image_id is None

    @pytest.mark.parametrize("name", [BASE, f"{BASE}_sm", f"{BASE}.part", IMAGE])
    def test_file_of_an_image_that_glance_names_is_unused(self, name: str) -> None:
        plan = decide(found(cached(name)), glance_images=[IMAGE], remove_unused_kernels=True)
        assert said(plan) == {name: "removable: unused"}
        assert plan.verdicts[0].image_id == IMAGE


class TestDeletedImages:
    """What Glance no longer has, where the options ask for it; the list must be one to rely on."""

    NAMES = (BASE, f"{BASE}_10", f"{BASE}_sm", f"{BASE}.part", IMAGE)
    LISTED = cached(fingerprint("listed"))

    def decide(self, *files: CacheFile, instances: Instances = NOBODY_ASKED, **given: Any) -> Plan:
        """Of two images in the cache, Glance has one at least."""
        listed = {"glance_images": ["listed"], "remove_unused_kernels": True, **given}
        return decide(found(self.LISTED, *files), instances, **listed)

    @pytest.mark.parametrize("name", NAMES)
    def test_file_of_an_image_that_glance_has_is_kept(self, name: str) -> None:
        plan = self.decide(cached(name), glance_images=["listed", IMAGE], remove_only_deleted_images=True)
        assert said(plan)[name] == "active: not_deleted"
        assert {verdict.removable_in for verdict in plan.verdicts} == {None}
        assert (removed(plan), plan.unused) == ([], [])

    @pytest.mark.parametrize("name", NAMES)
    def test_file_of_an_image_that_glance_no_longer_has_is_removed(self, name: str) -> None:
        plan = self.decide(cached(name), remove_only_deleted_images=True)
        assert said(plan)[name] == "removable: deleted"
        assert removed(plan) == [name]

    @pytest.mark.parametrize("name", ["swap_64", "ephemeral_1_0706d66"])
    def test_template_comes_from_no_image_and_is_kept(self, name: str) -> None:
        plan = self.decide(cached(name), remove_only_deleted_images=True)
        assert said(plan)[name] == "active: not_deleted"
        assert name in removed(self.decide(cached(name), remove_deleted_images_minimum_age_seconds=0))

    def test_kernel_is_left_alone_unless_asked_for(self) -> None:
        plan = self.decide(cached(IMAGE), remove_only_deleted_images=True, remove_unused_kernels=False)
        assert said(plan)[IMAGE] == "other"

    @pytest.mark.parametrize("options", [{}, {"remove_deleted_images_minimum_age_seconds": 0}], ids=str)
    def test_file_in_use_is_kept_whatever_glance_has(self, options: dict[str, Any]) -> None:
        options = {"remove_only_deleted_images": True, **options}
        uses: list[tuple[dict[str, Any], str]] = [
            ({"instances": known(GUEST)}, "instance"),
            ({"keep_images": [IMAGE]}, "keep_images"),
            ({"keep_files": [BASE]}, "keep_files"),
        ]
        for use, reason in uses:
            plan = self.decide(cached(BASE), **options, **use)
            assert (said(plan)[BASE], removed(plan)) == (f"active: {reason}", [])
        snapshot = found(self.LISTED, cached(BASE), backing={BASE: ["uuid-1"]})
        assert removed(decide(snapshot, glance_images=["listed"], **options)) == []

    def test_file_is_kept_with_the_file_of_a_listed_image_that_is_built_on_it(self) -> None:
        snapshot = found(self.LISTED, cached(BASE), overlays={self.LISTED.name: (BASE,)})
        plan = decide(snapshot, glance_images=["listed"], remove_only_deleted_images=True)
        assert (said(plan)[BASE], removed(plan)) == ("active: overlay", [])

    @pytest.mark.parametrize("only", [True, False])
    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("own", [10, 40 * DAY])
    def test_age_of_deleted_images_is_counted_from_the_last_use(self, name: str, own: int, only: bool) -> None:
        ages = {"remove_deleted_images_minimum_age_seconds": own, "remove_only_deleted_images": only}
        (young,) = self.decide(cached(name, age=own - 0.5), **ages).verdicts[1:]
        assert (young.state.value, young.reasons[0].value, young.removable_in) == ("too_young", "deleted", 1)
        assert name in removed(self.decide(cached(name, age=own), **ages))

    def test_age_of_deleted_images_is_not_that_of_others(self) -> None:
        files = [cached("swap_64", age=DAY - 1), cached(f"{self.LISTED.name}_10", age=HOUR - 1)]
        assert removed(self.decide(*files, remove_deleted_images_minimum_age_seconds=0)) == [self.LISTED.name]

    def test_unused_file_is_as_ever_without_these_options(self) -> None:
        plan = self.decide(cached(BASE))
        assert said(plan) == {self.LISTED.name: "removable: unused", BASE: "removable: unknown"}
        assert (plan.deleted, plan.unknown_deletions) == (frozenset(), ())


BOTH = "remove_only_deleted_images and remove_deleted_images_minimum_age_seconds"
WHOLE_LIST = "Set glance_images to all images of this host's cloud and region, hidden ones included"


class TestGlanceImages:
    """Without a list to rely on, no file is removed."""

    @pytest.mark.parametrize(
        ("given", "names"),
        [
            ({"remove_only_deleted_images": True}, "remove_only_deleted_images"),
            ({"remove_deleted_images_minimum_age_seconds": 0}, "remove_deleted_images_minimum_age_seconds"),
            ({"remove_only_deleted_images": True, "remove_deleted_images_minimum_age_seconds": DAY}, BOTH),
        ],
        ids=str,
    )
    @pytest.mark.parametrize(
        ("listed", "why"),
        [
            (None, "glance_images is not given"),
            ([], "glance_images is empty, so every cached image would count as deleted"),
        ],
    )
    def test_list_is_needed(self, given: dict[str, Any], names: str, listed: list[str] | None, why: str) -> None:
        plan = decide(found(cached(BASE), cached("swap_64")), glance_images=listed, **given)
        assert plan.unknown_deletions == (f"{names} cannot be used: {why}. {WHOLE_LIST}, or remove {names}.",)
        assert removed(plan) == []
        assert {kept.reason for kept in plan.kept} <= {KeptReason.UNKNOWN_DELETIONS}

    @pytest.mark.parametrize(
        ("files", "knows"),
        [
            ([fingerprint("1"), fingerprint("2")], True),
            ([fingerprint("1"), fingerprint("3")], True),
            ([fingerprint("3")], False),
            ([fingerprint("1"), fingerprint("3"), fingerprint("4")], False),
            ([fingerprint("1"), fingerprint("2"), fingerprint("3"), fingerprint("4")], True),
            ([fingerprint("1"), fingerprint("3"), f"{fingerprint('3')}_10", f"{fingerprint('3')}.part"], True),
            ([fingerprint("1"), f"{fingerprint('3')}_10", f"{fingerprint('4')}_sm"], False),
            ([fingerprint("1"), fingerprint("3"), "swap_1", "swap_2", "README", IMAGE], True),
            (["swap_1"], True),
        ],
    )
    @pytest.mark.parametrize("is_used", [False, True])
    def test_list_must_have_half_of_the_cached_images_used_ones_included(
        self, files: list[str], knows: bool, is_used: bool
    ) -> None:
        guests = [GUEST._replace(image_ids=("3", "4"))] if is_used else []
        plan = decide(
            found(*map(cached, files)), known(*guests), glance_images=["1", "2"], remove_only_deleted_images=True
        )
        assert bool(plan.unknown_deletions) is not knows

    def test_list_of_another_cloud_is_refused_with_its_numbers_and_the_ways_out(self) -> None:
        files = [cached(fingerprint(image)) for image in ("1", "3", "4")]
        plan = decide(found(*files), glance_images=["1"], remove_only_deleted_images=True)
        assert plan.unknown_deletions == (
            "remove_only_deleted_images cannot be used: glance_images has 1 of the 3 cached images, fewer than half "
            f"(not that of {min(map(fingerprint, '34'))}). It is probably the list of another cloud or region, or "
            "lacks hidden images or those of other projects. "
            f"{WHOLE_LIST}. If the list is right, remove remove_only_deleted_images for one prune, and add the same "
            "list to keep_images.",
        )
        assert removed(plan) == []
        way_out = decide(found(*files), glance_images=["1"], keep_images=["1"])
        assert sorted(removed(way_out)) == sorted(map(fingerprint, "34"))

    def test_unknown_use_is_the_first_reason(self) -> None:
        plan = decide(found(cached(BASE), problems=("A disk.",)), remove_only_deleted_images=True)
        assert plan.kept == (Kept(BASE, KeptReason.UNKNOWN_USE),)
        assert plan.unknown_deletions != ()

    def test_removals_that_nobody_knows_exceed_no_limit(self) -> None:
        plan = decide(found(cached(BASE)), remove_only_deleted_images=True, max_removals=0)
        assert (plan.unknown_deletions != (), plan.limit_exceeded) == (True, ())

    def test_host_without_a_cache_needs_no_list(self) -> None:
        assert decide(Snapshot(exists=False), remove_only_deleted_images=True).unknown_deletions == ()


class TestOther:
    @pytest.mark.parametrize("name", ["README", f"{BASE}.info", f"{BASE}.sha1", BASE.upper(), f"{BASE}_x", "swap_"])
    def test_file_that_nova_does_not_make_is_left_alone(self, name: str) -> None:
        plan = decide(found(cached(name)))
        assert said(plan) == {name: "other"}
        assert (plan.removals, plan.kept) == ((), ())

    def test_directory_with_the_name_of_a_base_file_is_left_alone(self) -> None:
        directory = cached(BASE)._replace(kind=parse_name("").kind, key="")
        assert said(decide(found(directory), known(GUEST))) == {BASE: "other"}

    def test_kernels_are_left_alone_unless_asked_for(self) -> None:
        assert said(decide(found(cached(KERNEL)))) == {KERNEL: "other"}
        assert said(decide(found(cached(KERNEL)), remove_unused_kernels=True)) == {KERNEL: "removable: unknown"}


class TestStorageUsers:
    """`compute_nodes` names the hosts that used the storage; a host whose instances are unknown may use any file."""

    def seen(self, host: str, ago: float, instances: Instances) -> Plan:
        return decide(found(cached(BASE), storage_users={host: NOW - ago}), instances)

    @pytest.mark.parametrize("ago", [0, DAY - 1, -60])
    def test_host_of_the_last_day_with_unknown_instances_is_unknown_use(self, ago: float) -> None:
        plan = self.seen("there", ago, known(GUEST))
        (sentence,) = plan.unknown_use
        assert "Host there used this storage within the last 24 hours, and its instances are unknown" in sentence
        assert plan.users == ("there",)
        assert removed(plan) == []
        assert plan.kept == ()

    @pytest.mark.parametrize("ago", [-61, -4000 * DAY, -1e300])
    def test_host_with_a_time_in_the_future_is_a_user_and_reported_as_from_the_future(self, ago: float) -> None:
        plan = self.seen("there", ago, known(GUEST))
        (sentence,) = plan.unknown_use
        assert sentence.startswith("nova's record (compute_nodes) has host there with a time in the future, ")
        assert f"{-ago / DAY:.6g} days ahead of this host's clock" in sentence
        assert "within the last 24 hours" not in sentence
        assert (plan.users, plan.future_users) == (("there",), ("there",))

    def test_host_with_a_time_in_the_future_is_ignored_by_no_option(self) -> None:
        snapshot = found(cached(BASE), storage_users={"there": NOW + DAY})
        assert decide(snapshot, known(GUEST), orphans="ignore").unknown_use != ()
        assert decide(snapshot, known(GUEST, hosts=frozenset({"here", "there"}))).unknown_use == ()

    @pytest.mark.parametrize("ago", [2 * DAY, 4000 * DAY])
    def test_no_directory_is_an_orphan_while_the_instances_of_a_registered_host_are_unknown(self, ago: float) -> None:
        snapshot = found(
            cached(OTHER_BASE),
            instance_directories=("nobodys",),
            backing={OTHER_BASE: ("nobodys",)},
            storage_users={"here": NOW, "there": NOW - ago},
        )
        plan = decide(snapshot, known(GUEST), orphans="ignore")
        assert (plan.usage.orphans, removed(plan), plan.unknown_use) == (frozenset(), [], ())
        (warning,) = plan.warnings
        assert warning.startswith("No directory counts as an orphan: nova's record (compute_nodes) names there, ")
        both = known(GUEST, hosts=frozenset({"here", "there"}))
        assert removed(decide(snapshot, both, orphans="ignore")) == [OTHER_BASE]
        assert decide(snapshot, both, orphans="ignore").warnings == ()
        assert decide(snapshot, known(GUEST)).usage.orphans == {"nobodys"}

    @pytest.mark.parametrize(
        ("is_shared", "source", "orphans", "is_warned"),
        [
            (False, known(GUEST), "ignore", True),
            (False, known(GUEST), "protect", False),
            (False, NOBODY_ASKED, "ignore", False),
            (False, known(GUEST, Instance("uuid-9", "nobodys", "here")), "ignore", False),
            (True, known(GUEST), "ignore", False),
            (True, known(GUEST, complete_for=frozenset({"here"})), "ignore", True),
        ],
    )
    def test_host_whose_instances_are_unknown_is_named_where_a_directory_would_count_as_an_orphan(
        self, is_shared: bool, source: Instances, orphans: str, is_warned: bool
    ) -> None:
        directories = {"uuid-1": None, "nobodys": None}
        snapshot = found(instance_directories=directories, storage_users={"there": NOW - 9 * DAY})
        snapshot = snapshot._replace(storage=Storage("id", "nfs4", is_shared, 0, 10**6))
        plan = decide(snapshot, source, orphans=orphans)
        assert ["there" in warning for warning in plan.warnings] == [True] * is_warned

    def test_host_whose_instances_are_unknown_is_not_named_where_each_directory_is_of_a_known_instance(self) -> None:
        directories = dict.fromkeys(GUEST.directories)
        snapshot = found(instance_directories=directories, storage_users={"there": NOW - 9 * DAY})
        assert decide(snapshot, known(GUEST), orphans="ignore").warnings == ()

    @pytest.mark.parametrize("ago", [DAY, 9 * DAY])
    def test_host_that_was_last_seen_more_than_a_day_ago_is_no_user(self, ago: float) -> None:
        plan = self.seen("there", ago, known(GUEST))
        assert (plan.unknown_use, plan.users) == ((), ())

    def test_host_whose_instances_are_complete_is_no_unknown_use(self) -> None:
        plan = self.seen("there", 0, known(GUEST, hosts=frozenset({"here", "there"})))
        assert (plan.unknown_use, plan.users) == ((), ("there",))

    def test_host_itself_is_no_unknown_use_where_nobody_was_asked(self) -> None:
        assert self.seen("here", 0, NOBODY_ASKED).unknown_use == ()

    def test_host_itself_is_unknown_use_where_the_instances_of_others_were_given(self) -> None:
        assert self.seen("here", 0, known(GUEST, hosts=frozenset({"there"}))).unknown_use != ()


class TestUnknownUse:
    SNAPSHOT = found(cached(BASE), cached("swap_64"), cached(OTHER_BASE, age=0))

    @pytest.mark.parametrize(
        ("snapshot", "instances"),
        [
            pytest.param(SNAPSHOT._replace(problems=("A disk.",)), known(), id="a disk that cannot be read"),
            pytest.param(SNAPSHOT, known(problems=("A disk.",)), id="an instance that cannot be understood"),
        ],
    )
    def test_unknown_use_keeps_every_file_and_has_its_cause(self, snapshot: Snapshot, instances: Instances) -> None:
        plan = decide(snapshot, instances)
        assert plan.unknown_use == ("A disk.",)
        assert plan.removals == ()
        assert plan.kept == (Kept(BASE, KeptReason.UNKNOWN_USE), Kept("swap_64", KeptReason.UNKNOWN_USE))

    def test_disks_without_any_instance_are_unknown_use(self) -> None:
        snapshot = found(cached(BASE), instance_directories=("one", "two"))
        (sentence,) = decide(snapshot, known()).unknown_use
        assert sentence.startswith("No source listed any instance, but 2 directories hold disks, one, two among them")
        assert decide(snapshot, known(problems=("A problem.",))).unknown_use == ("A problem.",)
        assert decide(snapshot, known(GUEST)).unknown_use == ()
        assert decide(snapshot, NOBODY_ASKED).unknown_use == ()
        assert decide(found(cached(BASE)), known()).unknown_use == ()

    def test_every_cause_of_unknown_use_is_named(self) -> None:
        snapshot = self.SNAPSHOT._replace(problems=("One.", "Two."), storage_users={"there": NOW, "yonder": NOW})
        plan = decide(snapshot, known(problems=("Three.",)), max_removals=0)
        assert plan.unknown_use[:3] == ("One.", "Two.", "Three.")
        assert [word in " ".join(plan.unknown_use[3:]) for word in ("there", "yonder")] == [True] * 2
        assert "max_removals (0)" in " ".join(plan.limit_exceeded)
        assert {kept.reason for kept in plan.kept} == {KeptReason.UNKNOWN_USE}


class TestLimits:
    FILES = (cached("swap_1"), cached("swap_2"), cached("swap_3"), cached(BASE, age=0), cached("README"))

    @pytest.mark.parametrize(
        ("limit", "is_exceeded"),
        [
            ({"max_removals": 4}, False),
            ({"max_removals": 3}, False),
            ({"max_removals": 2}, True),
            ({"max_removals": 0}, True),
            ({"max_removal_percent": 100}, False),
            ({"max_removal_percent": 75}, False),
            ({"max_removal_percent": 74}, True),
            ({"max_removal_percent": 0}, True),
            ({"max_removals": 3, "max_removal_percent": 74}, True),
            ({"max_removals": 2, "max_used_space": 2000}, False),
        ],
        ids=str,
    )
    def test_prune_over_the_limit_removes_nothing(self, limit: dict[str, int], is_exceeded: bool) -> None:
        plan = decide(found(*self.FILES), **limit)
        assert bool(plan.limit_exceeded) == is_exceeded
        assert plan.unknown_use == ()
        assert (removed(plan) == []) == is_exceeded
        assert (KeptReason.LIMIT_EXCEEDED in {kept.reason for kept in plan.kept}) == is_exceeded

    def test_exceeded_limit_names_the_files_and_the_option(self) -> None:
        (sentence,) = decide(found(*self.FILES), max_removals=1).limit_exceeded
        assert sentence == (
            "3 of 4 files would be removed (swap_1, swap_2, swap_3), which is more than max_removals (1) allows. If "
            "this is expected, raise max_removals. Otherwise the list of instances is probably incomplete."
        )

    def test_percentage_counts_files_in_use_among_all(self) -> None:
        snapshot = found(*self.FILES, held_by_qemu=frozenset({BASE}))
        assert decide(snapshot, max_removal_percent=75).limit_exceeded == ()

    def test_removal_of_every_file_exceeds_99_percent(self) -> None:
        assert removed(decide(found(cached("swap_1")), max_removal_percent=99)) == []

    @pytest.mark.parametrize("limit", ["max_removals", "max_removal_percent"])
    def test_prune_without_removable_files_exceeds_no_limit(self, limit: str) -> None:
        assert decide(found(cached(BASE, age=0)), **{limit: 0}).limit_exceeded == ()

    def test_file_that_is_kept_for_another_reason_keeps_that_reason(self) -> None:
        plan = decide(found(*self.FILES, locked=frozenset({"swap_2"})), max_removals=1)
        assert {kept.name: kept.reason.value for kept in plan.kept} == {
            "swap_1": "limit_exceeded",
            "swap_2": "locked",
            "swap_3": "limit_exceeded",
        }


class TestSpaceTargets:
    """Least recently used first, and no more than it takes."""

    FILES = (
        cached("swap_1", age=5 * DAY, size=100),
        cached("swap_2", age=7 * DAY, size=200),
        cached("swap_3", age=6 * DAY, size=300),
        cached(BASE, age=0, size=400),
        cached("README", size=10_000),
    )

    @pytest.mark.parametrize(
        ("target", "goes"),
        [
            ({}, ["swap_2", "swap_3", "swap_1"]),
            ({"max_used_space": 1000}, []),
            ({"max_used_space": 999}, ["swap_2"]),
            ({"max_used_space": 800}, ["swap_2"]),
            ({"max_used_space": 799}, ["swap_2", "swap_3"]),
            ({"max_used_space": 0}, ["swap_2", "swap_3", "swap_1"]),
            ({"min_free_space": 50}, []),
            ({"min_free_space": 51}, ["swap_2"]),
            ({"min_free_space": 251}, ["swap_2", "swap_3"]),
            ({"min_free_space": 550}, ["swap_2", "swap_3"]),
            ({"min_free_space": 551}, ["swap_2", "swap_3", "swap_1"]),
            ({"min_free_space": 10**9}, ["swap_2", "swap_3", "swap_1"]),
            ({"max_used_space": 1000, "min_free_space": 251}, ["swap_2", "swap_3"]),
            ({"max_used_space": 800, "min_free_space": 50}, ["swap_2"]),
        ],
        ids=str,
    )
    def test_removals_end_where_the_space_target_is_met(self, target: dict[str, int], goes: list[str]) -> None:
        plan = decide(found(*self.FILES, free=50), **target)
        assert removed(plan) == goes
        assert plan.kept == tuple(
            Kept(name, KeptReason.SPACE_TARGET_MET) for name in ["swap_2", "swap_3", "swap_1"] if name not in goes
        )
        assert plan.warnings == ()

    def test_files_in_use_count_as_used_space(self) -> None:
        assert removed(decide(found(*self.FILES, held_by_qemu=frozenset({BASE})), max_used_space=800)) == ["swap_2"]

    def test_locked_file_is_passed_over(self) -> None:
        plan = decide(found(*self.FILES, locked=frozenset({"swap_2"})), max_used_space=999)
        assert removed(plan) == ["swap_3"]
        assert plan.kept == (Kept("swap_2", KeptReason.LOCKED), Kept("swap_1", KeptReason.SPACE_TARGET_MET))

    @pytest.mark.parametrize(
        ("target", "goes"),
        [
            ({"max_used_space": "10%"}, []),
            ({"max_used_space": "9.99%"}, ["swap_2"]),
            ({"max_used_space": "0 %"}, ["swap_2", "swap_3", "swap_1"]),
            ({"min_free_space": "0.5%"}, []),
            ({"min_free_space": "0.51%"}, ["swap_2"]),
            ({"min_free_space": "100%"}, ["swap_2", "swap_3", "swap_1"]),
            ({"max_used_space": "10%", "min_free_space": 251}, ["swap_2", "swap_3"]),
        ],
        ids=str,
    )
    def test_percentage_is_of_the_whole_file_system(self, target: dict[str, Any], goes: list[str]) -> None:
        snapshot = found(*self.FILES)._replace(storage=Storage("id", "ext4", False, 50, 10_000))
        assert (removed(decide(snapshot, **target)), decide(snapshot, **target).warnings) == (goes, ())

    @pytest.mark.parametrize(
        ("target", "ignored", "goes"),
        [
            ({"min_free_space": 0}, ["min_free_space"], ["swap_2", "swap_3", "swap_1"]),
            ({"min_free_space": "0%"}, ["min_free_space"], ["swap_2", "swap_3", "swap_1"]),
            ({"max_used_space": "100%"}, ["max_used_space"], ["swap_2", "swap_3", "swap_1"]),
            ({"min_free_space": 51, "max_used_space": 800}, ["min_free_space"], ["swap_2"]),
            (
                {"min_free_space": 51, "max_used_space": "1%"},
                ["min_free_space", "max_used_space"],
                ["swap_2", "swap_3", "swap_1"],
            ),
            ({"max_used_space": 800}, [], ["swap_2"]),
        ],
        ids=str,
    )
    def test_target_that_needs_a_size_is_ignored_with_a_warning_where_none_is_reported(
        self, target: dict[str, Any], ignored: list[str], goes: list[str]
    ) -> None:
        snapshot = found(*self.FILES)._replace(storage=Storage("id", "tmpfs", False, None, None))
        plan = decide(snapshot, **target)
        assert removed(plan) == goes
        assert list(plan.warnings) == [
            f"{name} is ignored for /instances/_base: its file system (tmpfs) reports no size. Set max_used_space to "
            "bytes instead."
            for name in ignored
        ]

    def test_files_of_the_same_age_are_removed_in_the_order_of_their_names(self) -> None:
        assert removed(decide(found(cached("swap_2"), cached("swap_1")))) == ["swap_1", "swap_2"]


class TestObstacles:
    """A file that cannot be removed is kept, and the plan says why."""

    FILES = (cached("swap_1", age=8 * DAY, size=100), cached("swap_2", age=9 * DAY, size=100))
    FULL = Obstacles(new_locks="Full.", lock_files=frozenset({lock_name("swap_1")}))

    @pytest.mark.parametrize(
        ("bytes_for_locks", "goes"), [(1, ["swap_1", "swap_2"]), (100, ["swap_1", "swap_2"]), (101, ["swap_1"])]
    )
    def test_file_without_a_lock_is_removed_once_others_have_made_room_for_the_lock(
        self, bytes_for_locks: int, goes: list[str]
    ) -> None:
        obstacles = self.FULL._replace(bytes_for_locks=bytes_for_locks)
        plan = decide(found(*self.FILES, obstacles=obstacles))
        assert removed(plan) == goes
        assert {kept.reason for kept in plan.kept} <= {KeptReason.UNREMOVABLE}

    def test_file_without_a_lock_is_kept_where_removals_make_no_room(self) -> None:
        plan = decide(found(*self.FILES, obstacles=self.FULL))
        assert (removed(plan), plan.kept) == (["swap_1"], (Kept("swap_2", KeptReason.UNREMOVABLE),))
        assert plan.unremovable == ("1 unused file in /instances/_base cannot be removed (swap_2). Full.",)
        assert plan.blocked_by == ""

    def test_no_room_is_made_where_no_file_has_a_lock(self) -> None:
        obstacles = Obstacles(new_locks="Full.", bytes_for_locks=1)
        assert removed(decide(found(*self.FILES, obstacles=obstacles))) == []

    def test_file_that_cannot_be_removed_does_not_stop_the_others(self) -> None:
        plan = decide(found(*self.FILES, obstacles=Obstacles(files={"swap_2": "Immutable."})))
        assert (removed(plan), plan.kept) == (["swap_1"], (Kept("swap_2", KeptReason.UNREMOVABLE),))

    def test_cache_that_cannot_be_written_blocks_all_removals_and_matters_to_nothing_else(self) -> None:
        obstacles = Obstacles(everything="Read-only.", files={"swap_2": "Immutable."})
        plan = decide(found(*self.FILES, obstacles=obstacles))
        assert (removed(plan), plan.blocked_by) == ([], "Read-only.")
        assert plan.unremovable == (
            "2 unused files in /instances/_base cannot be removed (swap_2, swap_1). Read-only.",
        )
        assert decide(found(cached(BASE, age=0), obstacles=obstacles)).blocked_by == ""


def test_disabled_removal_keeps_every_file_with_that_reason() -> None:
    plan = decide(found(cached(BASE), cached("swap_64", age=0)), remove_unused_base_images=False)
    assert said(plan) == {BASE: "removable: unknown", "swap_64": "too_young: unused"}
    assert plan.removals == ()
    assert plan.kept == (Kept(BASE, KeptReason.REMOVAL_DISABLED),)
    assert plan.unknown_use == ()


def test_host_without_a_cache_has_an_empty_plan() -> None:
    plan = decide(Snapshot(exists=False), known(GUEST))
    assert (plan.verdicts, plan.removals, plan.kept, plan.missing, plan.unknown_use) == ((), (), (), (), ())


class TestUsedBy:
    SNAPSHOT = found(backing={BASE: ["lost", "uuid-2"]})
    GUESTS = known(GUEST, Instance("uuid-2", "instance-2", "here", swap_mb=(64,)))

    @pytest.mark.parametrize(
        ("name", "users"),
        [
            (BASE, ("instance-1", "instance-2", "lost")),
            (f"{BASE}_10", ("instance-1",)),
            (f"{BASE}.part", ()),
            ("swap_64", ("instance-2",)),
        ],
    )
    def test_users_of_a_file_are_those_of_its_disks_and_of_its_image(self, name: str, users: tuple[str, ...]) -> None:
        usage = decide(self.SNAPSHOT, self.GUESTS).usage
        assert used_by(cached(name), self.SNAPSHOT, usage) == users


# From here on, a host as it may be: few names, so that they meet.
IMAGES = [IMAGE, OTHER_IMAGE, KERNEL]
NAMES = [form.format(fingerprint(image)) for image in IMAGES for form in ("{}", "{}_10", "{}_sm", "{}.part")]
NAMES += [*IMAGES, "swap_32", "swap_64", "ephemeral_1_0706d66", "ephemeral_2_0706d66", "README"]
DIRECTORIES = ["uuid-1", "uuid-2", "instance-1", "uuid-1_resize", "lost"]

some_names = st.frozensets(st.sampled_from(NAMES), max_size=4)
some_images = st.lists(st.sampled_from(IMAGES), max_size=2, unique=True)
cache_files = st.builds(
    cached,
    st.sampled_from(NAMES),
    age=st.sampled_from([-5, 0, HOUR - 1, HOUR, DAY - 1, DAY, 9 * DAY]),
    size=st.integers(0, 9),
)
disk_uses = st.dictionaries(
    st.sampled_from(NAMES), st.lists(st.sampled_from(DIRECTORIES), min_size=1, max_size=3, unique=True), max_size=4
)
troubles = st.lists(st.sampled_from(["A problem."]), max_size=1).map(tuple)
snapshots = st.builds(
    lambda files, **more: found(*files, **more),
    files=st.lists(cache_files, max_size=15, unique_by=lambda file: file.name),
    free=st.integers(0, 50),
    backing=disk_uses,
    held_by_qemu=some_names,
    opened=some_names,
    locked=some_names,
    storage_users=st.dictionaries(st.sampled_from(["here", "there"]), st.sampled_from([NOW, NOW - DAY]), max_size=2),
    problems=st.one_of(st.just(()), st.just(()), troubles),
)
guests = st.builds(
    Instance,
    uuid=st.sampled_from(["uuid-1", "uuid-2", "uuid-3"]),
    name=st.sampled_from(["", "instance-1"]),
    host=st.sampled_from(["here", "there", ""]),
    image_ids=some_images.map(tuple),
    swap_mb=st.sampled_from([(), (32,), (64,)]),
    ephemeral_gb=st.sampled_from([(), (1,), (3,)]),
    resizing=st.sampled_from([True, False, None]),
)
instance_sources = st.one_of(
    st.just(NOBODY_ASKED),
    st.builds(
        lambda instances, **more: known(*instances, **more),
        st.lists(guests, max_size=3),
        hosts=st.frozensets(st.sampled_from(["here", "there"])),
        problems=st.one_of(st.just(()), st.just(()), troubles),
    ),
)
policies = st.fixed_dictionaries(
    {},
    optional={
        "orphans": st.sampled_from(["protect", "ignore"]),
        "keep_images": some_images,
        "keep_files": some_names.map(list),
        "glance_images": some_images,
        "remove_unused_kernels": st.booleans(),
        "remove_unused_base_images": st.sampled_from([True, True, False]),
        "remove_unused_original_minimum_age_seconds": st.sampled_from([0, HOUR, DAY]),
        "remove_unused_resized_minimum_age_seconds": st.sampled_from([0, HOUR, DAY]),
        "remove_only_deleted_images": st.booleans(),
        "remove_deleted_images_minimum_age_seconds": st.sampled_from([0, HOUR, DAY]),
    },
)
space_targets = st.fixed_dictionaries(
    {}, optional={"max_used_space": st.integers(0, 60), "min_free_space": st.integers(0, 60)}
)
removal_limits = st.fixed_dictionaries(
    {}, optional={"max_removals": st.integers(0, 5), "max_removal_percent": st.integers(0, 100)}
)


def is_needed(name: str, snapshot: Snapshot, instances: Instances, policy: Settings) -> bool:
    """Whether a file is in use: worked out from its name, one user after the other."""
    if name in snapshot.held_by_qemu | snapshot.opened | policy.keep_files:
        return True
    owned = {directory for instance in instances.all for directory in instance.directories}
    are_all_known = instances.has_source and snapshot.storage_users.keys() <= instances.hosts
    for directory in snapshot.backing.get(name, ()):
        if policy.protect_orphans or not are_all_known or directory in owned:
            return True
    wanted = set(policy.keep_images)
    templates = set()
    for instance in instances.all:
        wanted.update(instance.image_ids)
        templates.update(f"swap_{size}" for size in instance.swap_mb)
        templates.update(f"ephemeral_{size}" for size in instance.ephemeral_gb)
    images = {
        name for image in wanted for name in (image, *(f"{fingerprint(image)}{end}" for end in ("", "_10", "_sm")))
    }
    return name in images or name in templates or name.rpartition("_")[0] in templates


def is_candidate(name: str, policy: Settings) -> bool:
    return name != "README" and (policy.remove_unused_kernels or name not in IMAGES)


IMAGE_OF = {name: image for image in IMAGES for name in (image, fingerprint(image))}


def is_deleted(name: str, policy: Settings) -> bool:
    """Whether Glance lacks the image that a file comes from, or may lack it."""
    image = IMAGE_OF.get(name) or IMAGE_OF.get(name[:40])
    return image is not None and (policy.glance_images is None or image not in policy.glance_images)


def may_be_removed(name: str, policy: Settings) -> bool:
    """Whether the options allow it for an image such as that of a file."""
    return is_candidate(name, policy) and (not policy.remove_only_deleted_images or is_deleted(name, policy))


def is_old(file: CacheFile, policy: Settings) -> bool:
    resized = file.name.endswith(("_10", "_sm"))
    limit = (
        policy.remove_unused_resized_minimum_age_seconds
        if resized
        else policy.remove_unused_original_minimum_age_seconds
    )
    own = policy.remove_deleted_images_minimum_age_seconds
    if own is not None and is_deleted(file.name, policy):
        limit = own if policy.glance_images is not None else min(own, limit)
    return NOW - file.mtime_ns / 1e9 >= limit


def removable(plan: Plan) -> set[str]:
    return {name for name, state in said(plan).items() if state.startswith("removable")}


@hypothesis_settings(max_examples=300)
@given(snapshots, instance_sources, policies, space_targets, removal_limits)
def test_file_that_is_removed_is_old_and_not_in_use(
    snapshot: Snapshot,
    instances: Instances,
    policy: dict[str, Any],
    space: dict[str, int],
    removal_limit: dict[str, int],
) -> None:
    plan = decide(snapshot, instances, **policy, **space, **removal_limit)
    policy_settings = options(**policy)
    for file in plan.removals:
        assert may_be_removed(file.name, policy_settings)
        assert is_old(file, policy_settings)
        assert file.name not in snapshot.locked
        assert not is_needed(file.name, snapshot, instances, policy_settings)


@hypothesis_settings(max_examples=300)
@given(snapshots, instance_sources, policies)
def test_file_that_is_old_and_not_in_use_is_removable(
    snapshot: Snapshot, instances: Instances, policy: dict[str, Any]
) -> None:
    policy_settings = options(**policy)
    assert removable(decide(snapshot, instances, **policy)) == {
        file.name
        for file in snapshot.files
        if may_be_removed(file.name, policy_settings)
        and is_old(file, policy_settings)
        and not is_needed(file.name, snapshot, instances, policy_settings)
    }


@hypothesis_settings(max_examples=300)
@given(snapshots, instance_sources, policies, space_targets, removal_limits)
def test_each_removable_file_is_removed_or_kept_for_a_reason(
    snapshot: Snapshot,
    instances: Instances,
    policy: dict[str, Any],
    space: dict[str, int],
    removal_limit: dict[str, int],
) -> None:
    plan = decide(snapshot, instances, **policy, **space, **removal_limit)
    assert len(plan.verdicts) == len(snapshot.files)
    assert sorted(removed(plan) + [kept.name for kept in plan.kept]) == sorted(removable(plan))
    if plan.unknown_use:
        assert plan.removals == ()
        assert {kept.reason for kept in plan.kept} <= {KeptReason.UNKNOWN_USE}
    elif plan.unknown_deletions:
        assert plan.removals == ()
        assert {kept.reason for kept in plan.kept} <= {KeptReason.UNKNOWN_DELETIONS}
    if snapshot.problems or instances.problems:
        assert plan.unknown_use
    if removal_limit:
        assert len(plan.removals) <= removal_limit.get("max_removals", 99)


@hypothesis_settings(max_examples=300)
@given(snapshots, policies, space_targets)
def test_space_target_removes_no_more_than_needed_and_the_oldest_first(
    snapshot: Snapshot, policy: dict[str, Any], space: dict[str, int]
) -> None:
    snapshot = snapshot._replace(problems=(), storage_users={})
    plan = decide(snapshot, **{**policy, "remove_unused_base_images": True}, **space)
    assume(not plan.unknown_deletions)
    candidates = [file for file in snapshot.files if file.name in removable(plan) - snapshot.locked]
    candidates.sort(key=lambda file: (file.mtime_ns, file.name))
    count = len(plan.removals)
    assert list(plan.removals) == candidates[:count]

    def is_enough(removals: list[CacheFile]) -> bool:
        cache = [file for file in snapshot.files if is_candidate(file.name, options(**policy))]
        gone = sum(file.allocated_bytes for file in removals)
        used = sum(file.allocated_bytes for file in cache) - gone
        assert snapshot.storage is not None
        return used <= space.get("max_used_space", 10**9) and snapshot.storage.free_bytes + gone >= space.get(
            "min_free_space", 0
        )

    if space:
        assert count == len(candidates) or is_enough(candidates[:count])
        assert count == 0 or not is_enough(candidates[: count - 1])
    else:
        assert count == len(candidates)


@hypothesis_settings(max_examples=300)
@given(snapshots, instance_sources, policies, guests, disk_uses)
def test_additional_user_never_costs_a_file(
    snapshot: Snapshot, instances: Instances, policy: dict[str, Any], guest: Instance, uses: dict[str, list[str]]
) -> None:
    assume(instances.has_source)
    before = decide(snapshot, instances, **policy)
    more_instances = instances._replace(all=(*instances.all, guest))
    assert removable(decide(snapshot, more_instances, **policy)) <= removable(before)

    names = {*snapshot.backing, *uses}
    backing = {name: [*snapshot.backing.get(name, []), *uses.get(name, [])] for name in names}
    more_disks = snapshot._replace(backing=backing, instance_directories=tuple(DIRECTORIES))
    assert removable(decide(more_disks, instances, **policy)) <= removable(before)
    if not before.unknown_use:
        assert set(removed(decide(snapshot, more_instances, **policy))) <= set(removed(before))
        assert set(removed(decide(more_disks, instances, **policy))) <= set(removed(before))


@hypothesis_settings(max_examples=300)
@given(snapshots, instance_sources, policies, some_images)
def test_images_that_glance_has_never_cost_a_file_where_only_deleted_ones_are_removed(
    snapshot: Snapshot, instances: Instances, policy: dict[str, Any], more: list[str]
) -> None:
    usual = {name: value for name, value in policy.items() if name != "remove_deleted_images_minimum_age_seconds"}
    before = decide(snapshot, instances, **{**policy, "remove_only_deleted_images": True})
    if usual == policy:
        every = decide(snapshot, instances, **{**policy, "remove_only_deleted_images": False})
        assert set(removed(before)) <= set(removed(every))
    if removed(before):
        listed = [*policy["glance_images"], *more]
        after = decide(snapshot, instances, **{**policy, "glance_images": listed, "remove_only_deleted_images": True})
        assert set(removed(after)) <= set(removed(before))


@hypothesis_settings(max_examples=300)
@given(snapshots, instance_sources, policies)
def test_file_is_removed_only_by_a_list_that_has_half_of_the_cached_images(
    snapshot: Snapshot, instances: Instances, policy: dict[str, Any]
) -> None:
    policy = {"remove_only_deleted_images": True, **policy}
    assume(options(**policy).needs_glance_images)
    plan = decide(snapshot, instances, **policy)
    of_images = {file.key for file in snapshot.files if is_candidate(file.name, options(**policy))} & IMAGE_OF.keys()
    known_keys = {key for key in of_images if IMAGE_OF[key] in policy.get("glance_images", ())}
    is_reliable = bool(policy.get("glance_images")) and 2 * len(known_keys) >= len(of_images)
    assert bool(plan.unknown_deletions) is not is_reliable
    assert is_reliable or plan.removals == ()


overlays = st.dictionaries(
    st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True).map(tuple), max_size=8
).map(lambda found: {name: tuple(each for each in below if each != name) for name, below in found.items()})


@hypothesis_settings(max_examples=300)
@given(snapshots, overlays, instance_sources, policies, space_targets, removal_limits)
def test_file_that_is_kept_keeps_all_that_it_is_built_on(
    snapshot: Snapshot,
    built: dict[str, tuple[str, ...]],
    instances: Instances,
    policy: dict[str, Any],
    space: dict[str, int],
    limits: dict[str, int],
) -> None:
    plan = decide(snapshot._replace(overlays=built), instances, **policy, **space, **limits)
    order = removed(plan)
    for file in snapshot.files:
        for name in built.get(file.name, ()):
            if name in order:
                assert file.name in order
                assert order.index(file.name) < order.index(name)
    assert sorted(order + [kept.name for kept in plan.kept]) == sorted(removable(plan))


@hypothesis_settings(max_examples=300)
@given(snapshots, overlays, instance_sources, policies)
def test_overlays_only_ever_protect(
    snapshot: Snapshot, built: dict[str, tuple[str, ...]], instances: Instances, policy: dict[str, Any]
) -> None:
    before, after = (decide(found, instances, **policy) for found in (snapshot, snapshot._replace(overlays=built)))
    protected = removable(before) - removable(after)
    assert removable(after) <= removable(before)
    assert set(removed(after)) <= set(removed(before))
    assert all(said(after)[name] == "active: overlay" for name in protected)


def test_order_of_removal_is_by_last_use_where_nothing_is_built_on_anything() -> None:
    plan = decide(found(cached("swap_1", age=8 * DAY), cached("swap_2", age=9 * DAY), overlays={"swap_3": ("swap_4",)}))
    assert removed(plan) == ["swap_2", "swap_1"]


def test_base_is_removed_after_all_that_is_built_on_it_though_it_was_used_before() -> None:
    files = [cached(f"swap_{number}", age=age * DAY) for number, age in enumerate((9, 3, 4, 5))]
    built = {"swap_1": ("swap_0",), "swap_2": ("swap_0", "swap_9"), "README": ("swap_9",)}
    assert removed(decide(found(*files, overlays=built))) == ["swap_3", "swap_2", "swap_1", "swap_0"]
    plan = decide(found(*files, overlays=built, locked=frozenset({"swap_2"})))
    assert removed(plan) == ["swap_3", "swap_1"]
    assert plan.kept == (Kept("swap_2", KeptReason.LOCKED), Kept("swap_0", KeptReason.OVERLAY))


def test_disabled_removal_is_the_reason_of_a_base_too() -> None:
    snapshot = found(cached("swap_1"), cached("swap_2"), overlays={"swap_1": ("swap_2",)})
    plan = decide(snapshot, remove_unused_base_images=False)
    assert {kept.reason for kept in plan.kept} == {KeptReason.REMOVAL_DISABLED}


def test_use_by_orphans_is_ignored_for_the_files_to_remove_alone() -> None:
    snapshot = found(cached("swap_1"), cached("swap_2"), backing={"swap_1": ["lost"], "swap_2": ["lost", "uuid-1"]})
    plan = decide(snapshot, known(GUEST), orphans="ignore")
    assert removed(plan) == ["swap_1"]
    assert plan.ignored_orphans == {"swap_1": {"lost"}}
