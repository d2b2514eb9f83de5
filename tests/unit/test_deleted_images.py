# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Only what Glance no longer has is removed, or that sooner or later than the rest; nothing in use ever is."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.prune import PruneResult
from ansible_collections.stackops.nova.tests.support.constants import OTHER_UUID, UUID
from ansible_collections.stackops.nova.tests.support.host import DAY, HOUR, OLD, Host, opens, picture, states
from ansible_collections.stackops.nova.tools.cache_tree import fingerprint

LISTED, DELETED = fingerprint("listed"), fingerprint("deleted")
USED, USED_DELETED = fingerprint("used"), fingerprint("used and deleted")
GLANCE = [{"id": "listed", "name": "warm", "os_hidden": True}, "used", "not cached"]


@pytest.fixture
def mixed(host: Host) -> Host:
    """A host with files of images that Glance has and has not, of every kind, used and unused."""
    for name in (LISTED, DELETED):
        for end in ("", "_10737418240", "_sm", ".part"):
            host.base(name + end, age=OLD, content=b"x" * 5000)
    host.base("swap_64", age=OLD)
    host.base("ephemeral_1_0706d66", age=OLD)
    host.base(USED, age=OLD)
    host.base(USED_DELETED, age=OLD)
    host.instance(UUID, {"disk": USED})
    host.instance(OTHER_UUID, {"disk": USED_DELETED})
    return host


def pruned(host: Host, **options: Any) -> PruneResult:
    """A prune that did what its dry run listed, which wrote nothing."""
    before = picture(host.root)
    dry_run = host.prune(check_mode=True, glance_images=GLANCE, **options)
    assert picture(host.root) == before
    result = host.prune(glance_images=GLANCE, **options)
    assert result.done == dry_run.done
    return result


def test_only_files_of_deleted_images_are_removed(mixed: Host) -> None:
    before = set(mixed.cached())
    result = pruned(mixed, remove_only_deleted_images=True)
    assert result.error is None
    assert before - set(mixed.cached()) == {DELETED, f"{DELETED}_10737418240", f"{DELETED}_sm", f"{DELETED}.part"}
    assert {states(result)[f"{DELETED}{end}"] for end in ("", "_10737418240", "_sm", ".part")} == {"removable: deleted"}
    assert states(result)[LISTED] == states(result)["swap_64"] == "active: not_deleted"
    assert states(result)[USED] == states(result)[USED_DELETED] == "active: backing"
    assert all(opens(mixed.instances_path / uuid / "disk") for uuid in (UUID, OTHER_UUID))
    assert mixed.prune(glance_images=GLANCE, remove_only_deleted_images=True).done["removed"] == []


def test_unused_file_of_an_image_that_is_deleted_later_keeps_the_age_it_has(mixed: Host) -> None:
    kept = mixed.cache_path / LISTED
    before = kept.stat().st_mtime_ns
    pruned(mixed, remove_only_deleted_images=True)
    assert kept.stat().st_mtime_ns == before
    assert (mixed.cache_path / USED).stat().st_mtime_ns > before
    later = mixed.prune(glance_images=["used", "used and deleted"], remove_only_deleted_images=True)
    assert LISTED in later.done["removed"]


@pytest.mark.parametrize("only", [True, False])
def test_deleted_images_have_an_age_of_their_own(host: Host, only: bool) -> None:
    for name, age in {LISTED: 2 * HOUR, DELETED: 2 * HOUR, f"{DELETED}_10": HOUR - 60}.items():
        host.base(name, age=age)
    options = {"remove_only_deleted_images": only, "remove_deleted_images_minimum_age_seconds": HOUR}
    result = pruned(host, **options)
    assert (result.done["removed"], host.cached()) == ([DELETED], sorted([LISTED, f"{DELETED}_10"]))
    facts = {file["name"]: file for file in result.facts["files"]}
    assert 0 < facts[f"{DELETED}_10"]["removable_in_seconds"] <= 60
    assert (facts[LISTED]["removable_in_seconds"] is None) is only
    assert result.facts["policy"]["remove_deleted_images_minimum_age_seconds"] == HOUR


def test_deleted_images_may_be_kept_longer_than_others(host: Host) -> None:
    for name in (LISTED, DELETED):
        host.base(name, age=OLD)
    assert pruned(host, remove_deleted_images_minimum_age_seconds=9 * DAY).done["removed"] == [LISTED]


@pytest.mark.parametrize(
    "option", [{"remove_only_deleted_images": True}, {"remove_deleted_images_minimum_age_seconds": 0}]
)
@pytest.mark.parametrize(
    ("listed", "why"),
    [
        (None, "glance_images is not given"),
        ([], "glance_images is empty"),
        (["of another cloud"], "glance_images has 0 of the 4 cached images"),
        (["listed"], "glance_images has 1 of the 4 cached images"),
    ],
)
def test_list_that_cannot_be_relied_on_removes_nothing_and_is_named(
    mixed: Host, option: dict[str, Any], listed: list[str] | None, why: str
) -> None:
    before = mixed.cached()
    for check_mode in (True, False):
        result = mixed.prune(check_mode=check_mode, glance_images=listed, **option)
        assert (mixed.cached(), result.changed, result.done["removed"]) == (before, False, [])
        assert result.error is not None
        assert why in result.error
        assert {kept["reason"] for kept in result.done["kept"]} == {"unknown_deletions"}
    audit = mixed.audit(glance_images=listed, **option)
    assert why in audit.facts["unknown_deletions"][0]
    assert audit.facts["summary"]["reclaimable_bytes"] == 0
    assert set(audit.facts["summary"]["reclaimable_by_age"].values()) == {0}
    # The role's first look has no list yet, and needs no warning.
    assert any(why in warning for warning in audit.warnings) is (listed is not None)


def test_list_of_ids_in_upper_case_has_the_same_images(host: Host) -> None:
    image = "0b0a3c9f-6f6e-4f0e-8b1a-5d2c7f1e9a01"
    host.base(fingerprint(image), age=OLD)
    host.base(DELETED, age=OLD)
    done = host.prune(glance_images=[image.upper()], remove_only_deleted_images=True).done
    assert done["removed"] == [DELETED]


@pytest.mark.parametrize("listed", [str.lower, str.upper])
def test_image_that_a_server_named_in_upper_case_is_one_that_glance_has(
    host: Host, listed: Callable[[str], str]
) -> None:
    # A database that does not distinguish case finds it, and nova caches it under the name that the server gave.
    image = "0b0a3c9f-6f6e-4f0e-8b1a-5d2c7f1e9a01"
    in_upper_case = fingerprint(image.upper())
    for name in (in_upper_case, f"{in_upper_case}_10", DELETED):
        host.base(name, age=OLD)
    options = {"glance_images": [{"id": listed(image), "name": "warm"}], "remove_only_deleted_images": True}
    audit = host.audit(details="files", **options).facts
    assert {file["image_name"]: file["in_glance"] for file in audit["files"]} == {"warm": True, None: False}
    assert host.prune(**options).done["removed"] == [DELETED]
    host.base(DELETED, age=OLD)
    assert host.prune(keep_images=[listed(image)]).done["removed"] == [DELETED]


@pytest.mark.parametrize("name", ["swap_64.part", "ephemeral_1_0706d66.converted"])
def test_interrupted_template_comes_from_no_image(host: Host, name: str) -> None:
    for file in (name, LISTED, DELETED):
        host.base(file, age=OLD)
    audit = host.audit(details="files", glance_images=GLANCE).facts
    assert {file["name"]: file["in_glance"] for file in audit["files"]}[name] is None
    assert host.prune(glance_images=GLANCE, remove_only_deleted_images=True).done["removed"] == [DELETED]


def test_percentage_leaves_what_is_free_enough(host: Host) -> None:
    host.base(DELETED, age=OLD, content=os.urandom(1 << 16))
    assert host.prune(check_mode=True, min_free_space="0%", max_used_space="100%").done["removed"] == []
    assert host.prune(check_mode=True, min_free_space="100%").done["removed"] == [DELETED]
    assert host.prune(check_mode=True, max_used_space="0%").done["removed"] == [DELETED]
