# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: image_cache_brake
short_description: Say why a fleet must not be pruned, because too much of it would go
version_added: 0.1.0
description:
  - Compares what a prune of all stores would free with what all caches take, each store counted once. In a play with
    batches, these are the stores that have been audited so far.
positional: hostvars
author:
  - stackops.nova contributors (@stackops)
options:
  _input:
    description: The stores, as P(stackops.nova.image_cache_stores#filter) returns them.
    type: list
    elements: dict
    required: true
  hostvars:
    description: The variables of all hosts, C(hostvars).
    type: dict
    required: true
  max_removal_percent:
    description:
      - How much may go at most, in percent of the bytes. Any share if it is not given.
      - If one of O(hosts) has a smaller C(image_cache_fleet_max_removal_percent) of its own, that counts.
    type: float
  hosts:
    description:
      - The hosts of the play, C(ansible_play_hosts_all), those that failed included.
      - Those of the stores if it is not given.
    type: list
    elements: str
seealso:
  - plugin: stackops.nova.image_cache_stores
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Stop where more than a quarter would go
  ansible.builtin.assert:
    that: stores | stackops.nova.image_cache_brake(hostvars, max_removal_percent=25) | length == 0
"""

RETURN = r"""
_value:
  description: The reason, as a sentence. Empty if there is none.
  type: str
"""

from typing import Any, Callable, Mapping, Sequence

from ansible.errors import AnsibleFilterError

_GIB = 1 << 30


class FilterModule:
    """The filter, for Ansible."""

    def filters(self) -> dict[str, Callable[..., str]]:
        return {"image_cache_brake": image_cache_brake}


def image_cache_brake(
    stores: Sequence[Mapping[str, Any]],
    hostvars: Mapping[str, Mapping[str, Any]],
    max_removal_percent: float | None = None,
    hosts: Sequence[str] | None = None,
) -> str:
    """Say why a fleet must not be pruned, because too much of it would go."""
    if hosts is None:
        hosts = [host for store in stores for host in store["hosts"]]
    limit = _strictest(hosts, hostvars, max_removal_percent)
    if limit is None:
        return ""
    cached = reclaimable = 0
    for store in stores:
        summary = _summary(hostvars[store["pruner"] or store["hosts"][0]])
        cached += summary["total"]["allocated_bytes"]
        if store["state"] == "audited":
            reclaimable += summary["reclaimable_bytes"]
    if reclaimable * 100 <= cached * limit:
        return ""
    return (
        f"{reclaimable / _GIB:.1f} of {cached / _GIB:.1f} GiB ({reclaimable * 100 / cached:.0f} %) in the caches of "
        f"the fleet would go, which is more than image_cache_fleet_max_removal_percent ({limit:g}) allows, "
        f"so nothing is removed. If that is right, raise the limit; if not, the inventory is incomplete."
    )


def _summary(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the audit found. Of one that failed, over a corrupt file, the host's facts are of an earlier run."""
    audit = variables.get("__image_cache_audit") or {}
    facts: Mapping[str, Any] = (audit if audit.get("failed") else variables)["ansible_facts"]
    return facts["image_cache"]["summary"]


def _strictest(hosts: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]], given: float | None) -> float | None:
    """Return the smallest limit of all hosts: a fleet has one brake, and whoever set one means it."""
    limits = [] if given is None else [_number(given)]
    for host in hosts:
        if "image_cache_fleet_max_removal_percent" in hostvars[host]:
            limits.append(_number(hostvars[host]["image_cache_fleet_max_removal_percent"]))
    return min(limits, default=None)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as exc:
        raise AnsibleFilterError(
            f"image_cache_fleet_max_removal_percent must be a number of percent, and is {value!r} for a host: nothing "
            f"is removed."
        ) from exc
