# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The promises to a user on real caches: eight scenes of one compute host, each seen from three sides.

The tables say for every base file what must come out when the audit knows

* the disks alone,
* the disks and the host's domain XML,
* the disks, the usual server list of the Nova API, and the images that Glance still has.

They were derived by hand from the captures, not from what the product answers. Unused files are old at 120 seconds,
as they were for nova's own removal between the last two captures.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.audit import audit
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.prune import prune
from ansible_collections.stackops.nova.tests.support import captures
from ansible_collections.stackops.nova.tests.support.params import params, run_command

MINIMUM_AGE = 120
HOST = "vm"

# Base files, called after their image.
LAB_RAW = "97aaae8fdc4935bc47d03cf539a6213a1f2c6ad4"
LAB_QCOW2 = "058d6f6126b0846e3d5636640cfbb53cf70a86a6"
LAB_SPARSE = "c039bc75510309cb034779588b4eeb2429a14453"
LAB_GONE = "c56330a2a9b19a6959805994c6b506abf0d163e4"
PRECACHED = "2c842cdb2ac7c795eb0769b5ec0f29996c56b003"
DISK1_SHELVED = "8c01e6eaac9d52a96a0a7e70fbe0a2345e430f85"
BIG_RAW = "284c96e87bfb34c8759b04a5822097e2dc43391f"
BIG_QCOW2 = "02c9f7e7130413742a28a31ba97617e9a56811be"
EPHEMERAL_1 = "ephemeral_1_0706d66"
EPHEMERAL_2 = "ephemeral_2_0706d66"

IMAGE = {
    LAB_RAW: "f8cda50a-d7cd-4ebb-a55c-a081ab800866",
    LAB_QCOW2: "131d062c-6166-4aa7-bb6c-7ceae4a8201c",
    LAB_SPARSE: "aa3fd82f-f02a-4c9b-a2a5-571c5ebfce32",
    LAB_GONE: "76fa97ac-319d-436a-b306-d33dbf85a376",
    PRECACHED: "49565675-a9d3-456f-a77c-22167bbb00c1",
    DISK1_SHELVED: "daebba21-301d-45de-9b6d-9a25aeb11bc7",
    BIG_RAW: "881f2e76-1fbc-40a7-9c3a-fce2f13284c9",
    BIG_QCOW2: "7db1cde1-11e2-48df-b784-0981a798b147",
}

# Instances: the directory is the UUID.
PLAIN, PLAIN_UUID = "instance-00000001", "b38dfd14-56ca-498e-a719-33ff1449d100"
SWAP, SWAP_UUID = "instance-00000002", "9b29f995-642c-4e6b-a0bb-6fcc0f7fc924"
EPH = "instance-00000003"
DISK1 = "instance-00000004"
LINEPH, LINEPH_UUID = "instance-00000007", "7099ad51-3f1e-4ce0-821f-2243d0bf0b33"
EPH2, EPH2_UUID = "instance-00000008", "a9d7be4f-13f0-4438-8395-3c95d7e07770"
SOFT, SOFT_UUID = "instance-00000009", "e695b8f4-f1b8-4e2b-8093-473cf4c710e1"

# Verdicts: the state, and every reason for it.
BACKING = "active: backing"
INSTANCE = "active: instance"
IN_USE = "active: backing, instance"
ORPHAN = "active: orphan"
BACKING_AND_ORPHAN = "active: backing, orphan"
IN_USE_AND_ORPHAN = "active: backing, instance, orphan"
UNUSED = "removable: unused"
UNKNOWN = "removable: unknown"
UNUSED_YOUNG = "too_young: unused"
UNKNOWN_YOUNG = "too_young: unknown"

DISKS, XML, API = "disks alone", "domain XML", "API"
SIDES = (DISKS, XML, API)


@dataclass(frozen=True)
class Truth:
    """What is so in a scene; whatever a side is not listed for is empty there."""

    files: dict[str, tuple[str, str, str]]
    images_known: dict[str, set[str]]
    orphans: dict[str, list[str]] = field(default_factory=dict)
    missing: dict[str, dict[str, list[str]]] = field(default_factory=dict)


# The second ephemeral disk of `eph2` (1 + 2 GB) shows in no list: the flavor says 3. Its disk is the only witness.
TRUTH = {
    "steady": Truth(
        # Nothing is 120 seconds old yet.
        files={
            # (disks alone, domain XML, API), as everywhere below
            LAB_RAW: (BACKING, IN_USE, IN_USE),
            LAB_QCOW2: (BACKING, IN_USE, IN_USE),
            LAB_SPARSE: (BACKING, IN_USE, IN_USE),
            LAB_GONE: (UNKNOWN_YOUNG, UNKNOWN_YOUNG, UNUSED_YOUNG),
            EPHEMERAL_1: (BACKING, IN_USE, IN_USE),
            EPHEMERAL_2: (UNUSED_YOUNG, UNUSED_YOUNG, UNUSED_YOUNG),
            "swap_64": (BACKING, IN_USE, IN_USE),
            "swap_128": (UNUSED_YOUNG, UNUSED_YOUNG, UNUSED_YOUNG),
        },
        images_known={XML: {LAB_RAW, LAB_QCOW2, LAB_SPARSE}, API: {LAB_RAW, LAB_QCOW2, LAB_SPARSE, LAB_GONE}},
    ),
    "resize-pending": Truth(
        # `swap` went from 64 to 32 MB and may go back: its old disk waits in the `_resize` directory.
        files={
            LAB_RAW: (BACKING, IN_USE, IN_USE),
            LAB_QCOW2: (BACKING, IN_USE, IN_USE),
            LAB_SPARSE: (BACKING, IN_USE, IN_USE),
            LAB_GONE: (UNKNOWN, UNKNOWN, UNUSED),
            EPHEMERAL_1: (BACKING, IN_USE, IN_USE),
            EPHEMERAL_2: (BACKING, BACKING, BACKING),
            "swap_32": (BACKING, IN_USE, IN_USE),
            "swap_64": (BACKING, BACKING, BACKING),
            "swap_128": (UNUSED, UNUSED, UNUSED),
        },
        images_known={XML: {LAB_RAW, LAB_QCOW2, LAB_SPARSE}, API: {LAB_RAW, LAB_QCOW2, LAB_SPARSE, LAB_GONE}},
    ),
    "soft-deleted": Truth(
        # The usual server list leaves out `lineph` and `soft`, though both can still be restored.
        files={
            LAB_RAW: (BACKING, IN_USE, IN_USE),
            LAB_QCOW2: (BACKING, IN_USE, IN_USE),
            LAB_SPARSE: (BACKING, IN_USE, IN_USE_AND_ORPHAN),
            LAB_GONE: (BACKING, IN_USE, ORPHAN),
            EPHEMERAL_1: (BACKING, IN_USE, IN_USE_AND_ORPHAN),
            EPHEMERAL_2: (BACKING, IN_USE, BACKING_AND_ORPHAN),
            "swap_32": (UNUSED, UNUSED, UNUSED),
            "swap_64": (BACKING, IN_USE, IN_USE),
            "swap_128": (BACKING, IN_USE, ORPHAN),
        },
        images_known={XML: {LAB_RAW, LAB_QCOW2, LAB_SPARSE, LAB_GONE}, API: {LAB_RAW, LAB_QCOW2, LAB_SPARSE, LAB_GONE}},
        orphans={API: [LINEPH_UUID, SOFT_UUID]},
    ),
    "shelved": Truth(
        # `disk1` is offloaded and has left the host; `swap` is shelved and has not.
        files={
            LAB_RAW: (BACKING, IN_USE, IN_USE),
            LAB_QCOW2: (BACKING, IN_USE, IN_USE),
            LAB_SPARSE: (BACKING, IN_USE, IN_USE),
            LAB_GONE: (UNKNOWN, UNKNOWN, UNUSED),
            EPHEMERAL_1: (BACKING, IN_USE, IN_USE),
            EPHEMERAL_2: (BACKING, BACKING, BACKING),
            "swap_32": (UNUSED, UNUSED, UNUSED),
            "swap_64": (BACKING, IN_USE, IN_USE),
            "swap_128": (UNUSED, UNUSED, UNUSED),
        },
        images_known={XML: {LAB_RAW, LAB_QCOW2, LAB_SPARSE}, API: {LAB_RAW, LAB_QCOW2, LAB_SPARSE, LAB_GONE}},
    ),
    "interrupted-download": Truth(
        # Back from the shelf, `disk1` has its old base again, but its domain still names the snapshot that is gone.
        # An unfinished download is nobody's disk, even where an instance waits in ERROR for that image.
        files={
            LAB_RAW: (BACKING, IN_USE, IN_USE),
            LAB_QCOW2: (BACKING, IN_USE, IN_USE),
            LAB_SPARSE: (BACKING, IN_USE, IN_USE),
            LAB_GONE: (UNKNOWN, UNKNOWN, UNUSED),
            DISK1_SHELVED: (UNKNOWN, INSTANCE, UNKNOWN),
            f"{BIG_RAW}.part": (UNKNOWN_YOUNG, UNKNOWN_YOUNG, UNUSED_YOUNG),
            f"{BIG_QCOW2}.part": (UNKNOWN_YOUNG, UNKNOWN_YOUNG, UNUSED_YOUNG),
            f"{BIG_QCOW2}.converted": (UNKNOWN_YOUNG, UNKNOWN_YOUNG, UNUSED_YOUNG),
            EPHEMERAL_1: (BACKING, IN_USE, IN_USE),
            EPHEMERAL_2: (BACKING, BACKING, BACKING),
            "swap_32": (UNUSED, UNUSED, UNUSED),
            "swap_64": (BACKING, IN_USE, IN_USE),
            "swap_128": (UNUSED, UNUSED, UNUSED),
        },
        images_known={
            XML: {LAB_RAW, LAB_QCOW2, LAB_SPARSE, DISK1_SHELVED},
            API: {LAB_RAW, LAB_QCOW2, LAB_SPARSE, LAB_GONE, BIG_RAW, BIG_QCOW2},
        },
        # The two interrupted builds have a directory with a disk.info and no disk: they hold nothing.
    ),
    "rescue": Truth(
        # `plain` runs from disk.rescue, over an image that no list gives to it.
        files={
            LAB_RAW: (BACKING, IN_USE, IN_USE),
            LAB_QCOW2: (BACKING, IN_USE, IN_USE),
            LAB_SPARSE: (BACKING, IN_USE, IN_USE),
            LAB_GONE: (BACKING, BACKING, BACKING),
            DISK1_SHELVED: (UNKNOWN, INSTANCE, UNKNOWN),
            f"{BIG_QCOW2}.part": (UNKNOWN, UNKNOWN, UNUSED),
            f"{BIG_QCOW2}.converted": (UNKNOWN, UNKNOWN, UNUSED),
            EPHEMERAL_1: (BACKING, IN_USE, IN_USE),
            EPHEMERAL_2: (BACKING, BACKING, BACKING),
            "swap_32": (UNUSED, UNUSED, UNUSED),
            "swap_64": (BACKING, IN_USE, IN_USE),
            "swap_128": (UNUSED, UNUSED, UNUSED),
        },
        images_known={
            XML: {LAB_RAW, LAB_QCOW2, LAB_SPARSE, DISK1_SHELVED},
            API: {LAB_RAW, LAB_QCOW2, LAB_SPARSE, LAB_GONE, BIG_QCOW2},
        },
    ),
    "before-removal": Truth(
        # `swap` has its 32 MB for good now; nova touched swap_64 a minute ago, believing the old size.
        files={
            LAB_RAW: (BACKING, IN_USE, IN_USE),
            LAB_QCOW2: (BACKING, IN_USE, IN_USE),
            LAB_SPARSE: (BACKING, IN_USE, IN_USE),
            LAB_GONE: (BACKING, BACKING, BACKING),
            PRECACHED: (UNKNOWN, UNKNOWN, UNUSED),
            DISK1_SHELVED: (UNKNOWN, INSTANCE, UNKNOWN),
            f"{BIG_QCOW2}.part": (UNKNOWN, UNKNOWN, UNUSED),
            f"{BIG_QCOW2}.converted": (UNKNOWN, UNKNOWN, UNUSED),
            EPHEMERAL_1: (BACKING, IN_USE, IN_USE),
            EPHEMERAL_2: (BACKING, BACKING, BACKING),
            "swap_32": (BACKING, IN_USE, IN_USE),
            "swap_64": (UNUSED_YOUNG, UNUSED_YOUNG, UNUSED_YOUNG),
            "swap_128": (UNUSED, UNUSED, UNUSED),
        },
        images_known={
            XML: {LAB_RAW, LAB_QCOW2, LAB_SPARSE, DISK1_SHELVED},
            API: {LAB_RAW, LAB_QCOW2, LAB_SPARSE, LAB_GONE, PRECACHED, BIG_QCOW2},
        },
    ),
    "after-removal": Truth(
        # Nova has removed three files under running guests. None of the three can be booted again.
        files={
            LAB_RAW: (BACKING, IN_USE, IN_USE),
            LAB_QCOW2: (BACKING, IN_USE, IN_USE),
            LAB_SPARSE: (BACKING, IN_USE, IN_USE),
            f"{BIG_QCOW2}.part": (UNKNOWN, UNKNOWN, UNUSED),
            f"{BIG_QCOW2}.converted": (UNKNOWN, UNKNOWN, UNUSED),
            EPHEMERAL_1: (BACKING, IN_USE, IN_USE),
            "swap_64": (UNUSED_YOUNG, UNUSED_YOUNG, UNUSED_YOUNG),
        },
        images_known={XML: {LAB_RAW, LAB_QCOW2, LAB_SPARSE}, API: {LAB_RAW, LAB_QCOW2, LAB_SPARSE, BIG_QCOW2}},
        missing={
            DISKS: {LAB_GONE: [PLAIN_UUID], EPHEMERAL_2: [EPH2_UUID], "swap_32": [SWAP_UUID]},
            XML: {LAB_GONE: [PLAIN], EPHEMERAL_2: [EPH2], "swap_32": [SWAP]},
            API: {LAB_GONE: [PLAIN], EPHEMERAL_2: [EPH2], "swap_32": [SWAP]},
        },
    ),
}

every_scene = pytest.mark.parametrize("name", captures.NAMES)
every_side = pytest.mark.parametrize("side", SIDES)


def options(scene: captures.Scene, side: str, **more: Any) -> dict[str, Any]:
    """The options of a user who has this side to look from."""
    source: dict[str, dict[str, Any]] = {
        DISKS: {"libvirt": False},
        XML: {"libvirt_config_path": str(scene.libvirt_path)},
        API: {
            "libvirt": False,
            "instances": scene.servers,
            "instances_complete_for": [HOST],
            "glance_images": scene.images,
        },
    }
    given = {
        "instances_path": str(scene.instances_path),
        "host": HOST,
        "remove_unused_original_minimum_age_seconds": MINIMUM_AGE,
        "remove_unused_resized_minimum_age_seconds": MINIMUM_AGE,
        "details": "files",
        **source[side],
    }
    return params(**{**given, **more})


def facts_of(scene: captures.Scene, side: str, **more: Any) -> dict[str, Any]:
    return audit(options(scene, side, **more), scene.captured_at, run_command).facts


def verdicts(facts: dict[str, Any]) -> dict[str, str]:
    return {file["name"]: f"{file['state']}: {', '.join(sorted(file['reasons']))}" for file in facts["files"]}


def users_of(facts: dict[str, Any]) -> dict[str, list[str]]:
    return {file["name"]: file["used_by"] for file in facts["files"]}


def names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def tree(root: Path) -> dict[str, tuple[int, ...]]:
    """Everything under `root`, with all that a write would change."""
    return {
        str(path.relative_to(root)): (
            stat.st_ino,
            stat.st_mode,
            stat.st_uid,
            stat.st_gid,
            stat.st_size,
            stat.st_mtime_ns,
            stat.st_ctime_ns,
        )
        for path in [root, *root.rglob("*")]
        for stat in [path.lstat()]
    }


LookAt = Callable[[str], captures.Scene]


@pytest.fixture(scope="module")
def look_at(tmp_path_factory: pytest.TempPathFactory) -> LookAt:
    """Scenes that are only looked at: each is built once."""
    return functools.cache(lambda name: captures.build(name, tmp_path_factory.mktemp(name)))


class TestAudit:
    @every_scene
    @every_side
    def test_each_file_gets_its_state_and_every_reason(self, look_at: LookAt, name: str, side: str) -> None:
        truth = {file: verdict[SIDES.index(side)] for file, verdict in TRUTH[name].files.items()}
        facts = facts_of(look_at(name), side)
        assert verdicts(facts) == truth
        states = [verdict.split(":")[0] for verdict in truth.values()]
        for state in ("active", "removable", "too_young", "other"):
            assert facts["summary"][state] == states.count(state)
        assert facts["summary"]["total"]["files"] == len(truth)

    @every_scene
    @every_side
    def test_image_is_named_where_a_source_names_it(self, look_at: LookAt, name: str, side: str) -> None:
        truth = {
            file: IMAGE[file.split(".")[0]]
            for file in TRUTH[name].files
            if file.split(".")[0] in TRUTH[name].images_known.get(side, set())
        }
        facts = facts_of(look_at(name), side)
        assert {file["name"]: file["image_id"] for file in facts["files"] if file["image_id"]} == truth

    @every_scene
    @every_side
    def test_orphans_and_missing_files_are_reported(self, look_at: LookAt, name: str, side: str) -> None:
        scene = look_at(name)
        facts = facts_of(scene, side)
        cache = scene.instances_path / "_base"
        truth = TRUTH[name].missing.get(side, {})
        assert {entry["backing_file"]: entry["instances"] for entry in facts["missing"]} == {
            str(cache / file): instances for file, instances in truth.items()
        }
        assert sorted(orphan["directory"] for orphan in facts["orphans"]) == TRUTH[name].orphans.get(side, [])
        assert facts["unknown_use"] == []

    @every_scene
    @every_side
    def test_audit_writes_nothing(self, look_at: LookAt, name: str, side: str) -> None:
        scene = look_at(name)
        before = tree(scene.instances_path.parent)
        facts_of(scene, side)
        assert tree(scene.instances_path.parent) == before

    def test_young_file_has_the_time_until_it_is_old_enough(self, look_at: LookAt) -> None:
        facts = facts_of(look_at("steady"), API)
        waiting = {
            file["name"]: file["removable_in_seconds"] for file in facts["files"] if file["state"] == "too_young"
        }
        assert waiting == {
            LAB_GONE: pytest.approx(14.7, abs=1),
            EPHEMERAL_2: pytest.approx(15.2, abs=1),
            "swap_128": pytest.approx(15.6, abs=1),
        }

    def test_images_are_counted_by_their_users(self, look_at: LookAt) -> None:
        facts = facts_of(look_at("steady"), API)
        assert facts["used_images"] == {
            IMAGE[LAB_RAW]: {"image_name": "lab-raw", "local": 2, "remote": 0, "instances": [PLAIN, EPH]},
            IMAGE[LAB_QCOW2]: {"image_name": "lab-qcow2", "local": 1, "remote": 0, "instances": [SWAP]},
            IMAGE[LAB_SPARSE]: {"image_name": "lab-sparse", "local": 1, "remote": 0, "instances": [DISK1]},
        }
        assert facts["image_popularity"] == {IMAGE[LAB_RAW]: 2, IMAGE[LAB_QCOW2]: 1, IMAGE[LAB_SPARSE]: 1}

    def test_offloaded_server_uses_nothing(self, look_at: LookAt) -> None:
        facts = facts_of(look_at("shelved"), API)
        assert facts["used_images"] == {
            IMAGE[LAB_RAW]: {"image_name": "lab-raw", "local": 3, "remote": 0, "instances": [PLAIN, EPH, EPH2]},
            IMAGE[LAB_QCOW2]: {"image_name": "lab-qcow2", "local": 1, "remote": 0, "instances": [SWAP]},
            IMAGE[LAB_SPARSE]: {"image_name": "lab-sparse", "local": 1, "remote": 0, "instances": [LINEPH]},
        }

    def test_images_are_listed_with_the_names_that_glance_has(self, look_at: LookAt) -> None:
        facts = facts_of(look_at("steady"), API)
        listed = {image["fingerprint"]: (image["image_name"], image["instances"]) for image in facts["images"]}
        assert listed == {
            LAB_RAW: ("lab-raw", 2),
            LAB_QCOW2: ("lab-qcow2", 1),
            LAB_SPARSE: ("lab-sparse", 1),
            LAB_GONE: ("lab-gone", 0),
        }

    def test_file_shows_whether_glance_still_has_its_image(self, look_at: LookAt) -> None:
        facts = facts_of(look_at("interrupted-download"), XML, glance_images=[IMAGE[LAB_SPARSE]])
        in_glance = {file["name"]: file["in_glance"] for file in facts["files"]}
        assert in_glance[LAB_SPARSE] is True
        assert in_glance[DISK1_SHELVED] is False


class TestResizePending:
    @every_side
    def test_old_and_new_disks_protect_both_swap_templates(self, tmp_path: Path, side: str) -> None:
        scene = captures.build("resize-pending", tmp_path)
        result = prune(options(scene, side, orphans="ignore"), scene.captured_at + 130, run_command, False)
        assert "swap_128" in result.done["removed"]
        assert names_in(scene.instances_path / "_base") >= {"swap_32", "swap_64"}

    def test_old_disks_of_a_resize_belong_to_the_instance(self, look_at: LookAt) -> None:
        facts = facts_of(look_at("resize-pending"), API)
        assert users_of(facts)["swap_64"] == [SWAP]
        assert users_of(facts)["swap_32"] == [SWAP]


class TestSoftDeleted:
    def test_list_with_deleted_servers_leaves_no_orphan(self, look_at: LookAt) -> None:
        scene = look_at("soft-deleted")
        facts = facts_of(scene, API, instances=scene.servers + scene.servers_deleted)
        assert facts["orphans"] == []
        assert verdicts(facts) == {
            LAB_RAW: IN_USE,
            LAB_QCOW2: IN_USE,
            LAB_SPARSE: IN_USE,
            LAB_GONE: IN_USE,
            EPHEMERAL_1: IN_USE,
            EPHEMERAL_2: IN_USE,
            "swap_32": UNUSED,
            "swap_64": IN_USE,
            "swap_128": IN_USE,
        }

    def test_servers_that_are_deleted_for_good_use_nothing(self, look_at: LookAt) -> None:
        scene = look_at("soft-deleted")
        facts = facts_of(scene, API, instances=scene.servers + scene.servers_deleted)
        assert facts["used_images"] == {
            IMAGE[LAB_RAW]: {"image_name": "lab-raw", "local": 3, "remote": 0, "instances": [PLAIN, EPH, EPH2]},
            IMAGE[LAB_QCOW2]: {"image_name": "lab-qcow2", "local": 1, "remote": 0, "instances": [SWAP]},
            IMAGE[LAB_SPARSE]: {"image_name": "lab-sparse", "local": 2, "remote": 0, "instances": [DISK1, LINEPH]},
            IMAGE[LAB_GONE]: {"image_name": "lab-gone", "local": 1, "remote": 0, "instances": [SOFT]},
        }

    def test_ignored_orphans_make_their_files_unused(self, look_at: LookAt) -> None:
        scene = look_at("soft-deleted")
        facts = facts_of(scene, API, orphans="ignore")
        assert sorted(orphan["directory"] for orphan in facts["orphans"]) == [LINEPH_UUID, SOFT_UUID]
        assert verdicts(facts) == {
            LAB_RAW: IN_USE,
            LAB_QCOW2: IN_USE,
            LAB_SPARSE: IN_USE,
            LAB_GONE: UNUSED_YOUNG,
            EPHEMERAL_1: IN_USE,
            EPHEMERAL_2: BACKING,
            "swap_32": UNUSED,
            "swap_64": IN_USE,
            "swap_128": UNUSED_YOUNG,
        }


# What is unused in `before-removal` 130 seconds after the capture: all of it is old by then.
UNUSED_WHEN_OLD = [f"{BIG_QCOW2}.converted", f"{BIG_QCOW2}.part", PRECACHED, DISK1_SHELVED, "swap_128", "swap_64"]
# A domain that names an image is believed, so its XML keeps the file that the unshelve left.
REMOVED = {
    DISKS: UNUSED_WHEN_OLD,
    XML: [name for name in UNUSED_WHEN_OLD if name != DISK1_SHELVED],
    API: UNUSED_WHEN_OLD,
}
REMAINING = {LAB_RAW, LAB_QCOW2, LAB_SPARSE, LAB_GONE, EPHEMERAL_1, EPHEMERAL_2, "swap_32"}
# Nova removed these from under running guests.
ENDANGERED = {LAB_GONE: PLAIN_UUID, EPHEMERAL_2: EPH2_UUID, "swap_32": SWAP_UUID}


class TestPruneBeforeNova:
    @pytest.fixture
    def scene(self, tmp_path: Path) -> captures.Scene:
        return captures.build("before-removal", tmp_path)

    @pytest.fixture
    def now(self, scene: captures.Scene) -> float:
        return scene.captured_at + 130

    def test_disks_alone_name_the_users_of_files_that_nova_removed(self, scene: captures.Scene, now: float) -> None:
        facts = audit(options(scene, DISKS), now, run_command).facts
        assert {file: users_of(facts)[file] for file in ENDANGERED} == {
            file: [directory] for file, directory in ENDANGERED.items()
        }

    @every_side
    def test_prune_removes_what_is_unused_and_nothing_else(self, scene: captures.Scene, now: float, side: str) -> None:
        cache = scene.instances_path / "_base"
        allocated = {path.name: path.stat().st_blocks * 512 for path in cache.iterdir()}

        result = prune(options(scene, side), now, run_command, False)

        freed = sum(allocated[name] for name in REMOVED[side])
        assert freed > 0
        assert result.done == {
            "removed": REMOVED[side],
            "kept": [],
            "failed": [],
            "reclaimed_bytes": freed,
            "saved_checksums": [],
        }
        assert result.error is None
        assert result.facts["unknown_use"] == []
        assert result.facts["summary"]["reclaimable_bytes"] == freed
        assert names_in(cache) == REMAINING | (set(UNUSED_WHEN_OLD) - set(REMOVED[side]))

    @every_side
    def test_dry_run_has_the_result_of_the_prune_and_writes_nothing(
        self, scene: captures.Scene, now: float, side: str
    ) -> None:
        before = tree(scene.instances_path.parent)
        dry_run = prune(options(scene, side), now, run_command, True)
        assert tree(scene.instances_path.parent) == before
        assert dry_run.done["removed"] == REMOVED[side]

        run = prune(options(scene, side), now, run_command, False)
        assert run.done == dry_run.done
        assert run.diff == dry_run.diff
        assert run.facts["files"] == dry_run.facts["files"]

    @every_side
    def test_second_run_removes_nothing(self, scene: captures.Scene, now: float, side: str) -> None:
        prune(options(scene, side), now, run_command, False)
        names = names_in(scene.instances_path / "_base")
        again = prune(options(scene, side), now, run_command, False)
        assert not again.changed
        assert again.done == {"removed": [], "kept": [], "failed": [], "reclaimed_bytes": 0, "saved_checksums": []}
        assert names_in(scene.instances_path / "_base") == names

    def test_lock_files_are_kept_for_a_process_that_is_about_to_open_one(
        self, scene: captures.Scene, now: float
    ) -> None:
        before = names_in(scene.instances_path / "locks")
        prune(options(scene, API), now, run_command, False)
        assert names_in(scene.instances_path / "locks") >= before

    def test_files_in_use_are_marked_as_used_now(self, scene: captures.Scene, now: float) -> None:
        prune(options(scene, API), now, run_command, False)
        last_used = {path.name: path.stat().st_mtime for path in (scene.instances_path / "_base").iterdir()}
        assert last_used == {name: pytest.approx(time.time(), abs=10) for name in REMAINING}

    def test_prune_changes_nothing_outside_of_cache_and_locks(self, scene: captures.Scene, now: float) -> None:
        def elsewhere() -> dict[str, tuple[int, ...]]:
            return {
                path: stat
                for path, stat in tree(scene.instances_path).items()
                if path.split("/")[0] not in ("_base", "locks")
            }

        before = elsewhere()
        prune(options(scene, API), now, run_command, False)
        assert elsewhere() == before

    @every_side
    def test_young_cache_is_left_whole_with_the_ages_of_nova(
        self, scene: captures.Scene, now: float, side: str
    ) -> None:
        names = names_in(scene.instances_path / "_base")
        result = prune(
            options(
                scene,
                side,
                remove_unused_original_minimum_age_seconds=None,
                remove_unused_resized_minimum_age_seconds=None,
            ),
            now,
            run_command,
            False,
        )
        assert result.done["removed"] == []
        assert names_in(scene.instances_path / "_base") == names


ELSEWHERE = {
    "uuid": "6d0a8ad5-7f0c-4b0e-9b5c-0d3a1c1d7b11",
    "name": "instance-000000ff",
    "image_ref": IMAGE[LAB_RAW],
    "host": "other",
    "vm_state": "active",
}


class TestAnotherHostMayUseTheStorage:
    """`compute_nodes` says that `vm` was here a moment ago; the given instances are those of another host."""

    @pytest.mark.parametrize("host", ["vm", "other"])
    @pytest.mark.parametrize("check_mode", [False, True])
    def test_unknown_instances_of_another_host_keep_every_file(
        self, tmp_path: Path, host: str, check_mode: bool
    ) -> None:
        scene = captures.build("before-removal", tmp_path)
        before = names_in(scene.instances_path / "_base")
        result = prune(
            options(scene, API, host=host, instances=[ELSEWHERE], instances_complete_for=[]),
            scene.captured_at + 130,
            run_command,
            check_mode,
        )
        assert any("vm" in reason for reason in result.facts["unknown_use"])
        assert result.facts["summary"]["reclaimable_bytes"] == 0
        assert result.error is not None
        assert result.done["removed"] == []
        assert result.done["kept"] == [{"name": name, "reason": "unknown_use"} for name in UNUSED_WHEN_OLD]
        assert names_in(scene.instances_path / "_base") == before

    def test_host_without_instances_can_be_declared_complete(self, tmp_path: Path) -> None:
        scene = captures.build("before-removal", tmp_path)
        result = prune(
            options(scene, API, host="other", instances=[ELSEWHERE], instances_complete_for=[HOST]),
            scene.captured_at + 130,
            run_command,
            False,
        )
        assert result.facts["unknown_use"] == []
        assert result.done["removed"] == UNUSED_WHEN_OLD

    def test_host_that_was_last_seen_a_day_ago_counts_no_more(self, tmp_path: Path) -> None:
        scene = captures.build("before-removal", tmp_path)
        result = audit(
            options(scene, API, host="other", instances=[ELSEWHERE], instances_complete_for=[]),
            scene.captured_at + 86400,
            run_command,
        )
        assert result.facts["unknown_use"] == []


@every_scene
def test_rebuilt_scene_is_what_was_captured(tmp_path: Path, name: str) -> None:
    root = captures.build(name, tmp_path).instances_path
    listing = captures.listing(name)
    assert {str(path.relative_to(root)) for path in root.rglob("*")} == {entry.path for entry in listing if entry.path}
    for entry in listing:
        stat = (root / entry.path).lstat()
        assert (stat.st_mode & 0o7777, stat.st_mtime_ns) == (entry.mode, entry.mtime_ns), entry.path
        if entry.path.startswith("_base/"):
            assert stat.st_size == entry.size
