# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each image that is cached or used on a host is listed once, with its files, its space and its instances."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.names import fingerprint
from ansible_collections.stackops.nova.tests.support.constants import (
    BASE,
    IMAGE,
    OTHER_BASE,
    OTHER_IMAGE,
    OTHER_UUID,
    UUID,
)
from ansible_collections.stackops.nova.tests.support.host import DAY, HOUR, NAME, OLD, Host

THIRD_UUID = "0b0a3c9f-6f6e-4f0e-8b1a-5d2c7f1e9a01"
FOURTH_UUID = "5b6e9a36-2f4c-4b87-9d0e-8a1c3e7f2b64"


def images_of(host: Host, *records: dict[str, Any], **given: Any) -> list[dict[str, Any]]:
    return host.audit(**{"details": "images", "instances": list(records), **given}).facts["images"]


def guest(uuid: str = UUID, image: str = IMAGE, host: str = NAME) -> dict[str, Any]:
    return {"uuid": uuid, "image_ref": image, "host": host}


def cached(host: Host, name: str, kib: int, age: float = 0) -> Path:
    """A file of the cache with so much data."""
    return host.base(name, content=b"x" * kib * 1024, age=age)


def taken(*files: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in files)


def test_image_with_files_has_all_that_is_known_of_it(host: Host) -> None:
    files = [cached(host, BASE, 64, OLD), cached(host, f"{BASE}_10", 8, OLD), cached(host, f"{BASE}.part", 4, HOUR)]
    host.instance(UUID, {"disk": BASE})
    (image,) = images_of(host, guest(), glance_images=[{"id": IMAGE, "name": "Ubuntu 24.04"}])
    assert image == {
        "fingerprint": BASE,
        "image_id": IMAGE,
        "image_name": "Ubuntu 24.04",
        "in_glance": True,
        "files": 3,
        "allocated_bytes": taken(*files),
        "reclaimable_bytes": 0,
        "instances": 1,
        "newest_mtime": pytest.approx(files[2].stat().st_mtime, abs=0.001),
    }


def test_image_without_files_is_listed_while_an_instance_uses_it(host: Host) -> None:
    assert images_of(host, guest()) == [
        {
            "fingerprint": BASE,
            "image_id": IMAGE,
            "image_name": None,
            "in_glance": None,
            "files": 0,
            "allocated_bytes": 0,
            "reclaimable_bytes": 0,
            "instances": 1,
            "newest_mtime": None,
        }
    ]


def test_image_that_is_used_on_other_hosts_alone_is_left_out(host: Host) -> None:
    assert images_of(host, guest(host="other")) == []


def test_image_that_takes_the_most_space_is_first(host: Host) -> None:
    small, large = fingerprint("small"), fingerprint("large")
    cached(host, small, 4)
    cached(host, large, 32)
    cached(host, f"{large}_10", 32)
    cached(host, BASE, 48)
    listed = images_of(host, guest(image=OTHER_IMAGE))
    assert [image["fingerprint"] for image in listed] == [large, BASE, small, fingerprint(OTHER_IMAGE)]


def test_images_of_one_size_are_sorted_by_fingerprint(host: Host) -> None:
    names = sorted(fingerprint(str(number)) for number in range(20))
    for name in names:
        cached(host, name, 4)
    assert [image["fingerprint"] for image in images_of(host)] == names


def test_reclaimable_is_what_a_prune_would_remove(host: Host) -> None:
    old = cached(host, BASE, 64, OLD)
    cached(host, f"{BASE}_10", 8, HOUR // 2)
    (image,) = images_of(host)
    assert image["reclaimable_bytes"] == taken(old)
    (image,) = images_of(host, max_removals=0)
    assert image["reclaimable_bytes"] == 0


class TestInstances:
    def test_instances_of_this_host_alone_count(self, host: Host) -> None:
        host.base(BASE)
        host.instance(UUID, {"disk": BASE})
        remote = [guest(THIRD_UUID, host="before-vm"), guest(FOURTH_UUID, host="wm")]
        (image,) = images_of(host, *remote, guest(), guest(OTHER_UUID))
        assert image["instances"] == 2

    def test_instance_counts_once_by_its_image_and_its_disks(self, host: Host) -> None:
        host.base(BASE)
        host.base(f"{BASE}_10")
        host.instance(UUID, {"disk": BASE, "disk.rescue": f"{BASE}_10"})
        (image,) = images_of(host, guest())
        assert image["instances"] == 1

    def test_instance_whose_record_names_no_image_counts_by_its_disk(self, host: Host) -> None:
        host.base(BASE)
        host.instance(UUID, {"disk": BASE})
        (image,) = images_of(host, {"uuid": UUID, "host": NAME})
        assert (image["image_id"], image["instances"]) == (None, 1)

    def test_orphan_does_not_count(self, host: Host) -> None:
        host.base(BASE)
        host.instance(UUID, {"disk": BASE})
        host.base(OTHER_BASE)
        host.instance(OTHER_UUID, {"disk": BASE})
        host.instance(THIRD_UUID, {"disk": OTHER_BASE})
        counts = {image["fingerprint"]: image["instances"] for image in images_of(host, guest())}
        assert counts == {BASE: 1, OTHER_BASE: 0}

    def test_disk_of_an_instance_of_another_host_does_not_count(self, host: Host) -> None:
        host.base(BASE)
        host.instance(UUID, {"disk": BASE})
        (image,) = images_of(host, guest(host="other"), shared_storage=True)
        assert image["instances"] == 0

    def test_directories_count_where_no_source_lists_instances(self, host: Host) -> None:
        host.base(BASE)
        host.instance(UUID, {"disk": BASE})
        host.instance(OTHER_UUID, {"disk": BASE})
        (image,) = images_of(host, instances=None)
        assert image["instances"] == 2


class TestIdentity:
    def test_image_that_no_source_names_is_known_by_its_fingerprint(self, host: Host) -> None:
        host.base(BASE)
        (image,) = images_of(host, glance_images=[OTHER_IMAGE])
        assert (image["image_id"], image["image_name"], image["in_glance"]) == (None, None, False)

    def test_kernel_is_an_image_whose_id_is_its_name(self, host: Host) -> None:
        cached(host, OTHER_IMAGE, 4, OLD)
        (image,) = images_of(host)
        assert (image["fingerprint"], image["image_id"]) == (fingerprint(OTHER_IMAGE), OTHER_IMAGE)
        assert (image["files"], image["reclaimable_bytes"]) == (1, 0)

    def test_templates_and_foreign_files_are_no_images(self, host: Host) -> None:
        for name in ("swap_64", "swap_64.part", "ephemeral_1_0706d66", "ephemeral_1_0706d66.part", "README"):
            host.base(name, age=DAY)
        assert images_of(host) == []

    def test_name_of_an_image_is_escaped_and_cut(self, host: Host) -> None:
        host.base(BASE)
        hostile = "\x1b[31m\u202e{{ 7*7 }}\n" + "x" * 1000
        (image,) = images_of(host, glance_images=[{"id": IMAGE, "name": hostile}])
        assert image["image_name"].startswith("\\x1b[31m\\u202e{{ 7*7 }}\\nxxx")
        assert len(image["image_name"]) == 100
        assert image["image_name"].endswith("x…")


class TestDetails:
    """Each level has what the one before it has, and more."""

    @pytest.mark.parametrize(("details", "is_listed"), [("summary", False), ("images", True), ("names", True)])
    def test_images_are_there_from_their_level_on(self, host: Host, details: str, is_listed: bool) -> None:
        assert ("images" in host.audit(details=details).facts) is is_listed

    def test_images_of_a_host_without_a_cache_are_those_that_it_uses(self, host: Host) -> None:
        host.cache_path.rmdir()
        (image,) = images_of(host, guest())
        assert (image["image_id"], image["files"], image["instances"]) == (IMAGE, 0, 1)
