# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role's variables are the modules' options, documented once and with the same defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.argspec import (
    argument_spec,
    restore_argument_spec,
)

ROLE = Path(__file__).parents[3] / "roles/image_cache"
# The role finds these out, or has one variable for both modules.
OF_THE_MODULE = ("images", "glance", "peers", "peer_command", "checksums_of")


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROLE / name).read_text())


def variables(entry_point: str = "main") -> dict[str, dict[str, Any]]:
    return load("meta/argument_specs.yml")["argument_specs"][entry_point]["options"]


def variable_of(option: str) -> str:
    return "image_cache_" + option.removeprefix("image_").removeprefix("cache_")


def test_each_option_of_the_modules_is_a_variable() -> None:
    assert {variable_of(option) for option in argument_spec()} <= set(variables())


def test_variable_takes_what_its_option_takes() -> None:
    for option, taken in argument_spec().items():
        spec = {key: value for key, value in taken.items() if key != "no_log"}  # a matter of the module's log
        documented = {key: value for key, value in variables()[variable_of(option)].items() if key != "description"}
        assert documented == spec, option


def test_restore_takes_the_variables_of_an_audit_and_those_of_its_module() -> None:
    own = {
        f"image_cache_restore_{option}": {key: value for key, value in spec.items() if key != "default"}
        for option, spec in restore_argument_spec().items()
        if option not in argument_spec() and option not in OF_THE_MODULE
    }
    documented = {
        name: {key: value for key, value in spec.items() if key != "description"}
        for name, spec in variables("restore").items()
        if name not in variables()
    }
    shared = {name for name in documented if name in variables("precache")}
    of_role = {"image_cache_restore_from_glance": {"type": "bool"}, **{name: documented[name] for name in shared}}
    assert documented == {**own, **of_role}
    assert variables().items() <= variables("restore").items()


def test_restore_and_precaching_have_the_same_variables_of_glance_and_of_other_hosts() -> None:
    parts = ("glance", "admin_token", "peers", "peer_address", "peer_command", "site")
    shared = {name for name in variables("precache") if any(part in name for part in parts)}
    assert {name: variables("restore")[name] for name in shared} == {
        name: variables("precache")[name] for name in shared
    }


def test_defaults_are_those_that_are_documented() -> None:
    assert load("defaults/main.yml") == {
        name: spec["default"] for name, spec in variables().items() if "default" in spec
    }
