# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: image_cache_options
short_description: Make the options of the image cache modules from the role's variables
version_added: 0.1.0
description:
  - Says with which options the role C(stackops.nova.image_cache) runs the modules on a host.
  - Variables that the role does not know, or that cannot be meant, are refused, so that no spelling mistake takes a
    protection away.
  - One filter for all of them, because on many hosts a template for each option takes about as long as the audit.
positional: groups, host, told
author:
  - stackops.nova contributors (@stackops)
options:
  _input:
    description: The variables whose names begin with C(image_cache_), as they are for the host.
    type: dict
    required: true
  groups:
    description: The groups of the inventory, C(groups).
    type: dict
    required: true
  host:
    description: The host's name in the inventory.
    type: str
    required: true
  told:
    description:
      - What P(stackops.nova.image_cache_stores#filter) told the host, if it speaks for all that share its storage.
        It goes before the host's own variables; C(instances), C(keep_images) and C(keep_files) are united with them.
    type: dict
    default: {}
seealso:
  - plugin: stackops.nova.image_cache_stores
    plugin_type: filter
"""

EXAMPLES = r"""
- name: See with which options the role would run the modules
  ansible.builtin.debug:
    msg: "{{ variables | stackops.nova.image_cache_options(groups, inventory_hostname) }}"
  vars:
    variables:
      image_cache_instance_source: libvirt
      image_cache_instance_hosts: []
      image_cache_ignore_storage_users: []
      image_cache_max_removals: 10
"""

RETURN = r"""
_value:
  description: The options.
  type: dict
"""

from datetime import date
from types import MappingProxyType
from typing import Any, Callable, Mapping, Sequence

from ansible.errors import AnsibleFilterError

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.argspec import argument_spec
from ansible_collections.stackops.nova.plugins.plugin_utils.lists import as_list

_SOURCES = ("libvirt", "openstack", "provided")
_SPEC = argument_spec()
_OPTIONS = {"image_cache_" + option.removeprefix("image_").removeprefix("cache_"): option for option in _SPEC}
# What goes before the host's own, and what is united with it: a play may tell a host more than the inventory has.
_TOLD = ("instance_hosts", "glance_images")
_UNITED = ("keep_images", "keep_files")
_OF_THE_ROLE_ALONE = {
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


class FilterModule:
    """The filter, for Ansible."""

    def filters(self) -> dict[str, Callable[..., dict[str, Any]]]:
        return {"image_cache_options": image_cache_options}


def image_cache_options(
    variables: Mapping[str, Any],
    groups: Mapping[str, Sequence[str]],
    host: str,
    told: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Make the options of the modules from the role's variables, and refuse what cannot be meant."""
    _refuse_mistakes(variables, groups)
    options = {
        option: _as_the_module_takes_it(option, variables[name])
        for name, option in _OPTIONS.items()
        if name in variables
    }
    # The operator vouches for those hosts, as for hosts whose instances are given.
    options["instance_hosts"] = options["instance_hosts"] + as_list(variables["image_cache_ignore_storage_users"])
    group = groups[variables["image_cache_storage_group"]] if "image_cache_storage_group" in variables else ()
    if host in group and len(group) > 1:
        options["shared_storage"] = True
    options.update({option: told[option] for option in _TOLD if option in told})
    options.update(
        {option: list(dict.fromkeys([*options[option], *told[option]])) for option in _UNITED if option in told}
    )
    if "instances" in told:
        options["instances"] = [*told["instances"], *options.get("instances", ())]
    return options


def _as_the_module_takes_it(option: str, value: Any) -> Any:
    return _without_dates(as_list(value) if _SPEC[option]["type"] == "list" else value)


def _without_dates(value: Any) -> Any:
    """Write dates as text. YAML makes them of what has no quotes, and ansible-core 2.18 cannot pass them on."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {key: _without_dates(inner) for key, inner in value.items()}
    return [_without_dates(inner) for inner in value] if isinstance(value, list) else value


def _refuse_mistakes(variables: Mapping[str, Any], groups: Mapping[str, Sequence[str]]) -> None:
    unknown = sorted(set(variables) - set(_OPTIONS) - _OF_THE_ROLE_ALONE)
    if unknown:
        raise AnsibleFilterError(f"The role image_cache has no variable {', '.join(unknown)}. Is it misspelt?")
    empty = sorted(name for name, value in variables.items() if value is None)
    if empty:
        raise AnsibleFilterError(f"There is no value in {', '.join(empty)}. Give one, or take the variable away.")
    source = variables["image_cache_instance_source"]
    if source not in _SOURCES:
        raise AnsibleFilterError(
            f"It must be libvirt, openstack or provided, and image_cache_instance_source is {source}."
        )
    if source == "provided" and "image_cache_instances" not in variables:
        raise AnsibleFilterError("There must be image_cache_instances where image_cache_instance_source is provided.")
    group = variables.get("image_cache_storage_group", "all")
    if group not in groups:
        raise AnsibleFilterError(f"There is no group of the inventory for image_cache_storage_group: {group}.")
