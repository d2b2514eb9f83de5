# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role's variables, as they reach the modules or are refused."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.stackops.nova.plugins.filter.image_cache_options import image_cache_options
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.argspec import argument_spec

ROLE = Path(__file__).parents[4] / "roles/image_cache"
DEFAULTS = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
VARIABLES = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
GROUPS = {"all": ["a", "b", "c"], "sharing": ["a", "b"], "single": ["c"]}


def options(host: str = "a", **given: Any) -> dict[str, Any]:
    return image_cache_options({**DEFAULTS, **given}, GROUPS, host)


def test_each_variable_of_the_role_is_known_and_each_option_of_the_modules_gets_its_own() -> None:
    given: dict[str, Any] = {name: f"the value of {name}" for name in VARIABLES}
    given.update(image_cache_instance_source="libvirt", image_cache_storage_group="single")
    given.update(image_cache_instance_hosts=["one"], image_cache_ignore_storage_users=["another"])
    passed = options(**given)
    assert passed.pop("instance_hosts") == ["one", "another"]
    assert passed.keys() == argument_spec().keys() - {"instance_hosts"}
    assert passed["max_removals"] == "the value of image_cache_max_removals"
    assert passed["image_cache_subdirectory_name"] == "the value of image_cache_subdirectory_name"
    assert passed["image_info_filename_pattern"] == "the value of image_cache_info_filename_pattern"
    assert passed["keep_files"] == ["the value of image_cache_keep_files"]
    assert len(set(map(str, passed.values()))) == len(passed)


@pytest.mark.parametrize(
    "option", [name for name, spec in argument_spec().items() if spec["type"] == "list" and name != "instances"]
)
def test_a_text_with_commas_is_a_list_as_it_is_to_a_module(option: str) -> None:
    assert options(**{f"image_cache_{option}": "one, two"})[option] == ["one", "two"]


def test_hosts_that_are_vouched_for_are_a_list_as_well() -> None:
    vouched = options(image_cache_instance_hosts="one", image_cache_ignore_storage_users="two,three")
    assert vouched["instance_hosts"] == ["one", "two", "three"]


def test_what_all_need_who_share_the_storage_goes_first() -> None:
    told = {
        "state": "audited",
        "instances": [{"uuid": "theirs"}],
        "instance_hosts": ["a", "b"],
        "keep_files": ["theirs"],
        "keep_images": ["shared", "theirs"],
        "glance_images": ["known"],
    }
    given: dict[str, Any] = {
        "image_cache_instances": [{"uuid": "own"}],
        "image_cache_instance_hosts": ["a"],
        "image_cache_keep_files": ["own"],
        "image_cache_keep_images": ["own", "shared"],
        "image_cache_max_removals": 10,
    }
    passed = image_cache_options({**DEFAULTS, **given}, GROUPS, "a", told)
    assert passed == {
        **options(),
        "max_removals": 10,
        "instances": [{"uuid": "theirs"}, {"uuid": "own"}],
        "instance_hosts": ["a", "b"],
        "keep_files": ["own", "theirs"],
        "keep_images": ["own", "shared", "theirs"],
        "glance_images": ["known"],
    }


def test_dates_are_text() -> None:
    servers = [{"id": "1", "launched": [date(2026, 1, 2)], "created": datetime(2026, 1, 2, 3, 4)}]
    assert options(image_cache_instances=servers)["instances"] == [
        {"id": "1", "launched": ["2026-01-02"], "created": "2026-01-02T03:04:00"}
    ]


def test_who_is_alone_with_its_storage_is_told_nothing() -> None:
    assert image_cache_options(DEFAULTS, GROUPS, "a", {}) == options()
    assert image_cache_options(DEFAULTS, GROUPS, "a", {"state": "waits", "pruner": "b", "refused": []}) == options()


def test_what_is_not_set_is_left_to_nova() -> None:
    defaults = {option: spec["default"] for option, spec in argument_spec().items() if "default" in spec}
    assert options() == {**defaults, "instance_hosts": []}


@pytest.mark.parametrize(
    ("host", "group", "shared"), [("a", "sharing", True), ("c", "sharing", None), ("c", "single", None)]
)
def test_who_is_in_a_storage_group_with_others_shares_its_storage(host: str, group: str, shared: bool | None) -> None:
    assert options(host, image_cache_storage_group=group).get("shared_storage") is shared


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"image_cache_max_removal": 3, "image_cache_dry_run": True},
            "The role image_cache has no variable image_cache_dry_run, image_cache_max_removal. Is it misspelt?",
        ),
        ({"image_cache_instance_source": "nova"}, "libvirt, openstack or provided, and image_cache_instance_source is"),
        (
            {"image_cache_storage_group": None, "image_cache_max_removals": None},
            "no value in image_cache_max_removals, image_cache_storage_group. Give one",
        ),
        (
            {"image_cache_instance_source": "provided", "image_cache_instances": None},
            "no value in image_cache_instances",
        ),
        ({"image_cache_instance_source": "provided"}, "There must be image_cache_instances where"),
        ({"image_cache_storage_group": "shraing"}, "no group of the inventory for image_cache_storage_group: shraing"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        options(**given)


def test_instances_that_are_given_are_what_provided_means() -> None:
    assert options(image_cache_instance_source="provided", image_cache_instances=[])["instances"] == []
