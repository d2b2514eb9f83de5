# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What comes back is plain data that any controller takes, and a summary is small whatever the host holds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.inspection import Inspection
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.instances import Instance, Instances
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.names import parse_name
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.obstacles import Obstacles
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.orphans import Orphan
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.plan import Reason, make_plan
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.result import (
    describe,
    reasons_of,
    reclaimable_bytes,
    warnings,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.settings import make_settings
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.snapshot import CacheFile, Snapshot
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.storage import Storage
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.verification_result import Verification
from ansible_collections.stackops.nova.tests.support.constants import BASE, IMAGE

NOW = 1_795_334_208.5
HOUR = 3600

UNKNOWN_BASE = "97aaae8fdc4935bc47d03cf539a6213a1f2c6ad4"

GUEST = Instance("uuid-1", "instance-1", "here", image_ids=(IMAGE,), resizing=False)
REMOTE = Instance("uuid-2", "instance-2", "there", image_ids=(IMAGE,), resizing=False)
STORAGE = Storage("ext4:machine:8:1:/instances/_base", "ext4", False, 5000, 10_000)
INSTANCES_STORAGE = STORAGE._replace(id="ext4:machine:8:1:/instances")


def cached(name: str, *, hours: float, allocated: int = 1000, size: int = 4000) -> CacheFile:
    """A file of the cache, last used so many hours ago."""
    kind, key = parse_name(name)
    return CacheFile(name, kind, key, 1, size, allocated, round((NOW - hours * HOUR) * 1e9))


HOST = Snapshot(
    exists=True,
    storage=STORAGE,
    instances_storage=INSTANCES_STORAGE,
    files=(
        cached("swap_64", hours=30, allocated=64),
        cached(BASE, hours=1),
        cached(f"{BASE}_10", hours=2, allocated=8),
        cached("a\nb\udcff", hours=99),
        cached(UNKNOWN_BASE, hours=23.5),
        cached("README", hours=99),
    ),
    instance_directories=("uuid-1", "lost"),
    backing={BASE: ["uuid-1", "lost"]},
    missing={"/instances/_base/swap_32": ["uuid-1"]},
    storage_users={"here": NOW, "there": NOW - HOUR, "yonder": NOW - 24 * HOUR},
)


def report(
    snapshot: Snapshot = HOST,
    *guests: Instance,
    details: str = "summary",
    problems: tuple[str, ...] = (),
    hosts: tuple[str, ...] = ("here", "there"),
    verification: Verification | None = None,
    **options: Any,
) -> dict[str, Any]:
    instances = Instances(True, guests or (GUEST, REMOTE), frozenset(hosts), problems)
    settings = make_settings({"instances_path": "/instances", "details": details, **options}, {}, hostname="here")
    plan = make_plan(snapshot, instances, settings, NOW)
    needed = tuple(sorted(snapshot.backing))
    orphans = tuple(Orphan(name, 3000, NOW - HOUR, 1, needed, "Why.") for name in sorted(plan.usage.orphans))
    return describe(Inspection(settings, snapshot, plan, NOW, verification, orphans))


def file_in(facts: dict[str, Any], name: str) -> dict[str, Any]:
    (entry,) = [entry for entry in facts["files"] if entry["name"] == name]
    return entry


def types_in(value: Any) -> set[type]:
    """The exact types of all that is in a result."""
    kind = type(value)
    inner: list[Any] = []
    if kind is dict:
        inner = [*value, *value.values()]
    elif kind is list:
        inner = value
    return {kind}.union(*map(types_in, inner))


class TestSummary:
    def test_summary_has_these_keys_and_no_others(self) -> None:
        assert report() == {
            "cache_path": "/instances/_base",
            "exists": True,
            "now": NOW,
            "host": "here",
            "storage": {
                "id": "ext4:machine:8:1:/instances/_base",
                "instances_id": "ext4:machine:8:1:/instances",
                "filesystem": "ext4",
                "mount_point": "/",
                "shared": False,
                "users": ["here", "there"],
                "free_bytes": 5000,
                "total_bytes": 10_000,
            },
            "summary": {
                "active": 2,
                "removable": 1,
                "too_young": 1,
                "other": 2,
                "total": {"files": 4, "allocated_bytes": 2072},
                "reclaimable_bytes": 64,
                "reclaimable_by_age": {"3600": 1064, "86400": 64, "604800": 0, "2419200": 0},
                "bytes": {"active": 1008, "removable": 64, "too_young": 1000, "other": 2000, "corrupt": 0},
                "precached": {"files": 0, "allocated_bytes": 0},
                "orphans": {"directories": 1, "allocated_bytes": 3000},
            },
            "missing": [
                {
                    "backing_file": "/instances/_base/swap_32",
                    "named": "/instances/_base/swap_32",
                    "image_id": None,
                    "image_name": None,
                    "instances": ["instance-1"],
                    "replaced": False,
                    "recoverable_from": None,
                    "recoverable_until": [],
                }
            ],
            "orphans": [
                {
                    "directory": "lost",
                    "allocated_bytes": 3000,
                    "newest_mtime": NOW - HOUR,
                    "disks": 1,
                    "backed_by": [BASE],
                    "why": "Why.",
                }
            ],
            "unknown_use": [],
            "unknown_deletions": [],
            "limit_exceeded": [],
            "unremovable": [],
            "set_aside": [],
            "corrupt": [],
            "checksums": None,
            "policy": {
                "remove_unused_base_images": True,
                "remove_unused_original_minimum_age_seconds": 86400,
                "remove_unused_resized_minimum_age_seconds": 3600,
                "remove_unused_kernels": False,
                "remove_only_deleted_images": False,
                "remove_deleted_images_minimum_age_seconds": None,
                "orphans": "protect",
            },
            "for_members": None,
            "omitted": {
                "unknown_use": 0,
                "missing": 0,
                "corrupt": 0,
                "unknown_deletions": 0,
                "limit_exceeded": 0,
                "unremovable": 0,
                "orphans": 0,
                "users": 0,
                "set_aside": 0,
            },
        }

    def test_summary_without_a_cache_has_the_same_keys(self) -> None:
        assert report(Snapshot(exists=False)) == {
            "cache_path": "/instances/_base",
            "exists": False,
            "now": NOW,
            "host": "here",
            "storage": {
                "id": None,
                "instances_id": None,
                "filesystem": None,
                "mount_point": None,
                "shared": None,
                "users": [],
                "free_bytes": None,
                "total_bytes": None,
            },
            "summary": {
                "active": 0,
                "removable": 0,
                "too_young": 0,
                "other": 0,
                "total": {"files": 0, "allocated_bytes": 0},
                "reclaimable_bytes": 0,
                "reclaimable_by_age": {"3600": 0, "86400": 0, "604800": 0, "2419200": 0},
                "bytes": {"active": 0, "removable": 0, "too_young": 0, "other": 0, "corrupt": 0},
                "precached": {"files": 0, "allocated_bytes": 0},
                "orphans": {"directories": 0, "allocated_bytes": 0},
            },
            "missing": [],
            "orphans": [],
            "unknown_use": [],
            "unknown_deletions": [],
            "limit_exceeded": [],
            "unremovable": [],
            "set_aside": [],
            "corrupt": [],
            "checksums": None,
            "policy": {
                "remove_unused_base_images": True,
                "remove_unused_original_minimum_age_seconds": 86400,
                "remove_unused_resized_minimum_age_seconds": 3600,
                "remove_unused_kernels": False,
                "remove_only_deleted_images": False,
                "remove_deleted_images_minimum_age_seconds": None,
                "orphans": "protect",
            },
            "for_members": None,
            "omitted": {
                "unknown_use": 0,
                "missing": 0,
                "corrupt": 0,
                "unknown_deletions": 0,
                "limit_exceeded": 0,
                "unremovable": 0,
                "orphans": 0,
                "users": 0,
                "set_aside": 0,
            },
        }

    @pytest.mark.parametrize(
        ("options", "bytes_freed"),
        [
            ({}, 64),
            ({"max_used_space": 10_000}, 0),
            ({"max_removals": 0}, 0),
            ({"remove_unused_base_images": False}, 0),
            ({"problems": ("A problem.",)}, 0),
        ],
        ids=str,
    )
    def test_reclaimable_is_what_a_prune_would_free_now(self, options: dict[str, Any], bytes_freed: int) -> None:
        assert report(**options)["summary"]["reclaimable_bytes"] == bytes_freed

    def test_orphan_of_unknown_size_adds_no_bytes(self) -> None:
        settings = make_settings({}, {}, "here")
        plan = make_plan(HOST, Instances(True, (GUEST,)), settings, NOW)
        orphans = (Orphan("known", 3000, NOW, 1, (), "Why."), Orphan("unknown", None, None, None, (), "Why."))
        facts = describe(Inspection(settings, HOST, plan, NOW, None, orphans))
        assert facts["summary"]["orphans"] == {"directories": 2, "allocated_bytes": 3000}

    def test_image_is_as_popular_as_it_has_instances_on_all_hosts(self) -> None:
        facts = report(HOST, GUEST, REMOTE, REMOTE._replace(uuid="uuid-3", name="instance-3"), details="names")
        assert facts["image_popularity"] == {IMAGE: 3}

    @pytest.mark.parametrize("exists", [True, False], ids=["with a cache", "without a cache"])
    def test_shared_storage_has_something_for_its_other_members(self, exists: bool) -> None:
        shared = STORAGE._replace(shared=True)
        snapshot = HOST._replace(storage=shared) if exists else Snapshot(exists=False, instances_storage=shared)
        assert report(snapshot)["for_members"] is not None
        assert report(HOST if exists else Snapshot(exists=False, instances_storage=STORAGE))["for_members"] is None

    def test_unknown_use_has_its_causes(self) -> None:
        facts = report(problems=("A problem.",), hosts=("here",))
        assert facts["unknown_use"][0] == "A problem."
        assert "there" in facts["unknown_use"][1]


class TestDetails:
    def test_images_add_one_list_to_the_summary(self) -> None:
        listed = report(details="images")
        assert [image["fingerprint"] for image in listed.pop("images")] == [BASE, UNKNOWN_BASE]
        assert listed == report()

    def test_names_add_the_names_by_state_and_the_images_in_use(self) -> None:
        whole = report(details="names")
        listed = report(details="images")
        added = {key: value for key, value in whole.items() if key not in listed}
        assert added == {
            "active": [BASE, f"{BASE}_10"],
            "removable": ["swap_64"],
            "too_young": [UNKNOWN_BASE],
            "other": ["README", "a\\nb\\xff"],
            "used_images": {
                IMAGE: {"image_name": None, "local": 1, "remote": 1, "instances": ["instance-1", "instance-2"]},
            },
            "image_popularity": {IMAGE: 2},
        }
        assert whole.keys() - added.keys() == listed.keys() - {"omitted"}

    def test_files_add_an_entry_for_each_file(self) -> None:
        whole = report(details="files")
        assert whole.keys() - report(details="names").keys() == {"files"}
        assert [entry["name"] for entry in whole["files"]] == [
            BASE,
            f"{BASE}_10",
            UNKNOWN_BASE,
            "README",
            "a\\nb\\xff",
            "swap_64",
        ]

    def test_entry_of_a_file_in_use_has_its_reasons_and_users(self) -> None:
        assert file_in(report(details="files"), BASE) == {
            "name": BASE,
            "kind": "original",
            "image_id": IMAGE,
            "image_name": None,
            "in_glance": None,
            "state": "active",
            "reasons": ["backing", "instance", "orphan"],
            "size_bytes": 4000,
            "allocated_bytes": 1000,
            "mtime": NOW - HOUR,
            "age_seconds": HOUR,
            "removable_in_seconds": None,
            "used_by": ["instance-1", "instance-2", "lost"],
            "checksum": None,
            "checksum_reason": None,
        }

    def test_entry_of_a_file_that_is_too_young_has_the_time_until_it_is_removable(self) -> None:
        assert file_in(report(details="files"), UNKNOWN_BASE) == {
            "name": UNKNOWN_BASE,
            "kind": "original",
            "image_id": None,
            "image_name": None,
            "in_glance": None,
            "state": "too_young",
            "reasons": ["unknown"],
            "size_bytes": 4000,
            "allocated_bytes": 1000,
            "mtime": NOW - 23.5 * HOUR,
            "age_seconds": 23.5 * HOUR,
            "removable_in_seconds": HOUR // 2,
            "used_by": [],
            "checksum": None,
            "checksum_reason": None,
        }

    def test_entry_of_a_removable_file_is_removable_at_once(self) -> None:
        entry = file_in(report(details="files"), "swap_64")
        assert (entry["state"], entry["reasons"], entry["removable_in_seconds"]) == ("removable", ["unused"], 0)

    def test_entry_of_a_foreign_file_has_no_reasons(self) -> None:
        entry = file_in(report(details="files"), "README")
        assert (entry["kind"], entry["state"], entry["reasons"]) == ("other", "other", [])
        assert entry["removable_in_seconds"] is None

    @pytest.mark.parametrize(
        ("name", "glance_images", "in_glance"),
        [
            pytest.param(BASE, None, None, id="not asked"),
            pytest.param(BASE, [IMAGE], True, id="still there"),
            pytest.param(f"{BASE}_10", [IMAGE], True, id="its resized copy"),
            pytest.param(BASE, [], False, id="deleted"),
            pytest.param(UNKNOWN_BASE, [IMAGE], False, id="unknown"),
            pytest.param("swap_64", [IMAGE], None, id="a template"),
            pytest.param("README", [IMAGE], None, id="not ours"),
        ],
    )
    def test_entry_shows_whether_glance_still_has_the_image(
        self, name: str, glance_images: list[str] | None, in_glance: bool | None
    ) -> None:
        assert file_in(report(details="files", glance_images=glance_images), name)["in_glance"] is in_glance

    @pytest.mark.parametrize("details", ["summary", "images", "names", "files"])
    def test_result_is_plain_data(self, details: str) -> None:
        facts = report(details=details, glance_images=[IMAGE])
        assert types_in(facts) <= {dict, list, str, int, float, bool, type(None)}
        assert json.loads(json.dumps(facts)) == facts

    def test_strange_name_does_not_break_the_result(self) -> None:
        name = "a\nb\udcff"
        snapshot = HOST._replace(
            storage=STORAGE._replace(id=name, filesystem=name),
            files=(cached(name, hours=1),),
            missing={name: [name]},
            storage_users={name: NOW},
            instance_directories=(name, "lost" + name),
        )
        guest = Instance(name, "", "here", image_ids=(name,))
        facts = report(snapshot, guest, details="files", host=name, instances_path=f"/{name}")
        texts = json.dumps(facts, ensure_ascii=False)
        assert texts.isprintable()
        assert texts.count("a\\") == texts.count(r"a\\nb\\xff") > 10

    def test_reasons_are_named_in_order(self) -> None:
        plan = make_plan(HOST, Instances(True, (GUEST,)), make_settings({}, {}, "here"), NOW)
        (verdict,) = [verdict for verdict in plan.verdicts if verdict.file.name == BASE]
        assert verdict.reasons == (Reason.INSTANCE, Reason.BACKING, Reason.ORPHAN)
        assert reasons_of(verdict) == ["backing", "instance", "orphan"]

    def test_reclaimable_bytes_are_those_on_disk(self) -> None:
        assert reclaimable_bytes(HOST.files[:3]) == 64 + 1000 + 8


class TestShortening:
    """Of each list a summary shows as much as fits, the first entry at least, and counts the rest."""

    def test_many_orphans_are_shortened_to_the_first(self) -> None:
        names = tuple(f"{number:036}" for number in range(1000))
        facts = report(HOST._replace(instance_directories=names))
        shown = [orphan["directory"] for orphan in facts["orphans"]]
        assert shown == list(names[: len(shown)]) != []
        assert facts["omitted"]["orphans"] == 1000 - len(shown)
        assert facts["summary"]["orphans"] == {"directories": 1000, "allocated_bytes": 3_000_000}

    def test_many_orphans_are_all_named_with_details(self) -> None:
        names = tuple(f"{number:036}" for number in range(1000))
        facts = report(HOST._replace(instance_directories=names), details="names")
        assert [orphan["directory"] for orphan in facts["orphans"]] == list(names)

    def test_long_sentence_is_shortened_to_its_beginning(self) -> None:
        (sentence,) = report(problems=("A disk. " * 1000,))["unknown_use"]
        assert sentence.startswith("A disk. A disk. ")
        assert sentence.endswith("…")

    def test_missing_file_with_many_users_has_its_whole_path(self) -> None:
        users = [f"{number:036}" for number in range(1000)]
        path = f"/var/lib/nova/instances/_base/{BASE}"
        (missing,) = report(HOST._replace(missing={path: users}))["missing"]
        assert missing["backing_file"] == path
        assert missing["instances"] == users[: len(missing["instances"])] != []


hostile = st.text(st.characters(), max_size=30)
paths = st.lists(hostile, min_size=1, max_size=8).map(lambda parts: "/" + "/".join(parts))
many = st.sampled_from([1, 2, 10, 100])


def repeated(texts: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    """A few texts, each in as many variants as it takes."""
    return st.builds(
        lambda few, count: [f"{text}{number}" for text in few for number in range(count)],
        st.lists(texts, max_size=3),
        many,
    )


snapshots = st.builds(
    lambda users, missing, hosts, **more: HOST._replace(
        missing={**dict.fromkeys(missing, users[:3] or ["lost"]), "/first": users or ["lost"]},
        storage_users=dict.fromkeys(hosts, NOW),
        **more,
    ),
    users=repeated(hostile),
    missing=repeated(paths),
    hosts=repeated(hostile),
    instance_directories=repeated(hostile).map(tuple),
    problems=repeated(st.lists(paths, max_size=4).map(" ".join)).map(tuple),
    files=st.lists(hostile, max_size=5, unique=True).map(
        lambda names: tuple(cached(name, hours=99) for name in dict.fromkeys(["swap_64", *names]))
    ),
    obstacles=st.builds(lambda text, count: Obstacles(everything=text * count), hostile, many),
)


def all_corrupt(names: list[str], users: list[str]) -> tuple[Verification, dict[str, list[str]]]:
    """What verification says of so many corrupt files, and who uses each."""
    numbers = (
        "verified_files",
        "verified_bytes",
        "trusted_files",
        "unverified_files",
        "skipped_files",
        "deferred_files",
    )
    summary = {
        "algorithm": "sha512",
        **dict.fromkeys(numbers, 10**12),
        "deferred_bytes": 10**15,
        "oldest_verification_seconds": 123456789.123,
    }
    files = [cached(name, hours=1) for name in names]
    return Verification({}, files, summary, [], []), dict.fromkeys(names, users)


@hypothesis_settings(max_examples=200)
@given(snapshots, st.builds(all_corrupt, repeated(hostile), repeated(hostile)))
def test_summary_is_smaller_than_four_kibibytes(
    snapshot: Snapshot, corrupt: tuple[Verification, dict[str, list[str]]]
) -> None:
    verification, backing = corrupt
    snapshot = snapshot._replace(backing=backing)
    listless = {"remove_only_deleted_images": True, "remove_deleted_images_minimum_age_seconds": 10**9}
    facts = report(snapshot, verification=verification, max_removals=0, **listless)
    assert facts["unknown_deletions"] != []
    assert len(json.dumps(facts)) < 4096
    on_shared_storage = snapshot._replace(storage=STORAGE._replace(shared=True))
    handed_on = report(on_shared_storage, verification=verification).pop("for_members")
    assert len(json.dumps(handed_on["problems"])) < 1024
    whole = report(snapshot, details="names", verification=verification, max_removals=0, **listless)
    for name, left_out in facts["omitted"].items():
        shown, all_of_it = (
            (facts["storage"][name], whole["storage"][name]) if name == "users" else (facts[name], whole[name])
        )
        assert len(shown) + left_out == len(all_of_it)
        assert bool(shown) == bool(all_of_it)


@hypothesis_settings(max_examples=200)
@given(snapshots, hostile, hostile, st.sampled_from(["summary", "images", "names", "files"]))
def test_result_of_any_host_survives_json(snapshot: Snapshot, name: str, image: str, details: str) -> None:
    snapshot = snapshot._replace(problems=())
    facts = report(snapshot, Instance(name or "uuid", name, "here", image_ids=(image,)), details=details, host=name)
    assert json.dumps(facts, ensure_ascii=False).encode()


class TestNamesOfImages:
    """Where an id is shown, so is the name, if Glance's records have it."""

    LISTED = ({"id": IMAGE, "name": "Ubuntu 24.04"},)

    def test_files_and_used_images_have_the_name_beside_the_id(self) -> None:
        facts = report(details="files", glance_images=self.LISTED)
        names = {entry["name"]: entry["image_name"] for entry in facts["files"] if entry["image_name"]}
        assert names == {BASE: "Ubuntu 24.04", f"{BASE}_10": "Ubuntu 24.04"}
        assert facts["used_images"][IMAGE]["image_name"] == "Ubuntu 24.04"

    def test_missing_file_has_its_image(self) -> None:
        (lost,) = report(HOST._replace(missing={f"/a/{BASE}_10": ["uuid-1"]}), glance_images=self.LISTED)["missing"]
        assert (lost["image_id"], lost["image_name"]) == (IMAGE, "Ubuntu 24.04")

    def test_missing_file_of_an_image_that_no_source_names_has_none(self) -> None:
        (lost,) = report(HOST._replace(missing={f"/a/{UNKNOWN_BASE}": ["uuid-1"]}))["missing"]
        assert (lost["image_id"], lost["image_name"]) == (None, None)

    def test_name_is_on_one_line_and_of_a_bounded_length(self) -> None:
        listed = [{"id": IMAGE, "name": "\x1b[31m\n\u202e" + "y" * 10_000}]
        facts = report(details="files", glance_images=listed)
        for name in (file_in(facts, BASE)["image_name"], facts["used_images"][IMAGE]["image_name"]):
            assert name.startswith("\\x1b[31m\\n\\u202eyyy")
            assert (len(name), name[-1]) == (100, "…")

    def test_record_without_a_name_is_an_image_without_one(self) -> None:
        entry = file_in(report(details="files", glance_images=[{"id": IMAGE, "name": ""}]), BASE)
        assert (entry["image_id"], entry["image_name"], entry["in_glance"]) == (IMAGE, None, True)


class TestWarnings:
    def warn(self, snapshot: Snapshot, problems: tuple[str, ...] = (), **options: Any) -> list[str]:
        instances = Instances(True, (GUEST,), frozenset({"here", "there"}), problems)
        settings = make_settings(options, {}, "here")
        return warnings(Inspection(settings, snapshot, make_plan(snapshot, instances, settings, NOW), NOW))

    def test_host_without_problems_has_no_warnings(self) -> None:
        assert self.warn(HOST._replace(missing={})) == []

    def test_warnings_come_in_order_of_severity(self) -> None:
        [missing] = self.warn(HOST)
        assert missing.startswith("The template /instances/_base/swap_32 does not exist: instance-1 cannot start")
        sentences = self.warn(HOST._replace(problems=("A disk.",), warnings=("A note.",)), ("A record.",))
        assert sentences == [
            missing,
            "Nothing may be removed: A disk.",
            "Nothing may be removed: A record.",
            "A note.",
        ]

    @pytest.mark.parametrize(
        ("listed", "image"),
        [(None, IMAGE), ([{"id": IMAGE, "name": "Ubuntu\n24.04"}], f"{IMAGE} (Ubuntu\\n24.04)")],
        ids=["without a name", "with a name"],
    )
    def test_missing_and_replaced_files_are_named_with_their_image(
        self, listed: list[dict[str, str]] | None, image: str
    ) -> None:
        missing = {f"/a/{BASE}": ["uuid-1"]}
        sentences = self.warn(HOST._replace(missing=missing, replaced={BASE: ["uuid-1"]}), glance_images=listed)
        assert sentences[0].startswith(f"The backing file /a/{BASE} of image {image} does not exist: instance-1 cannot")
        assert f"/_base/{BASE} of image {image} was replaced while instance-1 run" in sentences[1]

    @pytest.mark.parametrize(
        ("path", "why", "remedy"),
        [
            (
                f"/_base/{BASE}",
                "No process of a guest on this host certainly has it open.",
                "-e image_cache_restore_from_glance=true. Without a way to Glance, copy the image to this host",
            ),
            (f"/_base/{BASE}_1024", "it cannot be made of the image.", "Restore it from a backup"),
            (f"/_base/{BASE}_sm", "it cannot be made of the image.", "Restore it from a backup"),
            ("/srv/images/golden", "It is not a base file of the cache.", "mount what /srv/images is to lead to"),
        ],
    )
    def test_missing_file_that_no_guest_has_open_has_a_remedy(self, path: str, why: str, remedy: str) -> None:
        (sentence,) = self.warn(HOST._replace(missing={path: ["uuid-1"]}))
        what, _cannot, rest = sentence.partition(" does not exist: instance-1 cannot start without it. ")
        assert path in what
        assert why in rest
        assert remedy in rest
        assert ("ansible-playbook stackops.nova.restore" in rest) == path.endswith(BASE)

    def test_hostile_names_are_escaped(self) -> None:
        (sentence,) = self.warn(HOST._replace(missing={"/a\nb": ["\udcff"]}))
        assert "/a\\nb does not exist: \\xff cannot start" in sentence

    def test_warnings_after_the_tenth_are_counted(self) -> None:
        notes = tuple(f"Note {number}." for number in range(25))
        sentences = self.warn(HOST._replace(missing={}, warnings=notes))
        assert sentences[:10] == list(notes[:10])
        assert sentences[10:] == [
            "15 more warnings were left out. See unknown_use, unremovable and missing in the result."
        ]
        assert self.warn(HOST._replace(missing={}, warnings=notes[:10])) == list(notes[:10])

    def test_sentences_of_all_parts_of_a_pass_are_warnings(self) -> None:
        settings = make_settings({"glance_images": [IMAGE]}, {}, "here")
        snapshot = HOST._replace(missing={}, warnings=("A directory.",))
        plan = make_plan(snapshot, Instances(True, (GUEST,), frozenset({"here", "there"})), settings, NOW)._replace(
            unknown_deletions=("Glance.",),
            limit_exceeded=("A limit.",),
            unremovable=("A right.",),
            warnings=("A clock.",),
        )
        verification = Verification({}, [], {}, ["Rot."], ["A checksum."])
        assert warnings(Inspection(settings, snapshot, plan, NOW, verification)) == [
            "Rot.",
            "Nothing may be removed: Glance.",
            "Nothing may be removed: A limit.",
            "A right.",
            "A clock.",
            "A directory.",
            "A checksum.",
        ]

    def test_list_of_glance_that_was_not_asked_for_is_no_warning(self) -> None:
        listless = {"remove_only_deleted_images": True}
        assert report(**listless)["unknown_deletions"] != []
        assert self.warn(HOST._replace(missing={}), **listless) == []

    @pytest.mark.parametrize("shared", [False, True])
    def test_unknown_instances_of_another_host_are_a_warning_unless_storage_is_shared(self, shared: bool) -> None:
        storage = STORAGE._replace(shared=shared)
        sentences = self.warn(HOST._replace(missing={}, storage=storage, storage_users={"beyond": NOW}))
        assert len(sentences) == (not shared)
        assert all(sentence.startswith("Nothing may be removed: ") for sentence in sentences)

    def test_host_without_a_cache_has_no_warnings(self) -> None:
        assert self.warn(Snapshot(exists=False)) == []
