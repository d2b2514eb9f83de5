# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role's variables are the modules' options, documented once and with the same defaults."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.argspec import argument_spec

ROLE = Path(__file__).parents[3] / "roles/image_cache"
ONLY_THE_ROLES = {
    "image_cache_prune",
    "image_cache_group",
    "image_cache_instance_source",
    "image_cache_openstack_cloud",
    "image_cache_storage_group",
    "image_cache_ignore_storage_users",
    "image_cache_fleet_max_removal_percent",
    "image_cache_report_path",
    "image_cache_report_query",
}
# What the role has to say about it besides.
MORE_THAN_THE_VARIABLE = {
    "instance_hosts": "{{ image_cache_instance_hosts + image_cache_ignore_storage_users }}",
    "shared_storage": "{{ _image_cache_is_grouped | ternary(true, image_cache_shared_storage | default(omit)) }}",
}


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROLE / name).read_text())


def variables() -> dict[str, dict[str, Any]]:
    return load("meta/argument_specs.yml")["argument_specs"]["main"]["options"]


def variable_of(option: str) -> str:
    return "image_cache_" + option.removeprefix("image_").removeprefix("cache_")


def test_each_option_of_the_modules_is_a_variable_and_the_other_way_round() -> None:
    assert set(variables()) - ONLY_THE_ROLES == {variable_of(option) for option in argument_spec()}


def test_a_variable_takes_what_its_option_takes() -> None:
    for option, taken in argument_spec().items():
        spec = {key: value for key, value in taken.items() if key != "no_log"}  # a matter of the module's log
        documented = {key: value for key, value in variables()[variable_of(option)].items() if key != "description"}
        assert documented == spec, option


def test_each_variable_reaches_its_option() -> None:
    passed = load("vars/main.yml")["_image_cache_options"]
    plain = {option: f"{{{{ {variable_of(option)} | default(omit) }}}}" for option in argument_spec()}
    assert passed == {**plain, **MORE_THAN_THE_VARIABLE}


def test_a_variable_is_known_if_it_is_documented() -> None:
    """The role finds them by their looks, and refuses all others."""
    pattern = re.search(r"regex_findall\('(.+?)'\)", load("vars/main.yml")["_image_cache_variables"])
    assert pattern is not None
    assert re.findall(pattern[1], (ROLE / "meta/argument_specs.yml").read_text()) == list(variables())


def test_the_defaults_are_those_that_are_documented() -> None:
    assert load("defaults/main.yml") == {
        name: spec["default"] for name, spec in variables().items() if "default" in spec
    }
