# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: image_cache_cloud
short_description: Take from the answers of the Compute and the Image API what image caches need to know
version_added: 0.1.0
description:
  - Makes of what M(openstack.cloud.resources) and M(openstack.cloud.image_info) returned the instances of each host, as
    the plain records that O(stackops.nova.image_cache_facts#module:instances) takes, and the ids of the images that
    Glance still has.
  - A server that has no host, or is on its way from one to another, counts for every store.
  - An answer that failed, or that cannot be understood, becomes RV(_value.problem), and nothing may be removed.
positional: soft_deleted, images
author:
  - stackops.nova contributors (@stackops)
options:
  _input:
    description: The result of asking for the servers of all projects.
    type: dict
    required: true
  soft_deleted:
    description: The result of asking for those that are soft-deleted, which the list of all leaves out.
    type: dict
    required: true
  images:
    description: The result of asking for the images.
    type: dict
    required: true
seealso:
  - plugin: stackops.nova.image_cache_stores
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Ask for the servers of all projects, the soft-deleted among them, and for the images
  ansible.builtin.set_fact:
    cloud: "{{ servers | stackops.nova.image_cache_cloud(soft_deleted, images) }}"
"""

RETURN = r"""
_value:
  description: What the APIs said.
  type: dict
  contains:
    instances:
      description: The instances of each host, by nova's name for it. Under the empty name are those that count for
        every store.
      type: dict
    images:
      description: The ids of the images that Glance has.
      type: list
      elements: str
    problem:
      description: Why that is not to be relied on, and what to do. Empty if it is.
      type: str
"""

from typing import Any, Callable, Mapping, NoReturn, Sequence

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.instances import (
    Instance,
    parse_record,
    records_of,
)

_EVERYWHERE = ""
_LONGEST_REASON = 500


class FilterModule:
    """The filter, for Ansible."""

    def filters(self) -> dict[str, Callable[..., dict[str, Any]]]:
        return {"image_cache_cloud": image_cache_cloud}


def image_cache_cloud(
    servers: Mapping[str, Any], soft_deleted: Mapping[str, Any], images: Mapping[str, Any]
) -> dict[str, Any]:
    """Take from the answers of the Compute and the Image API what image caches need to know."""
    try:
        instances: dict[str, list[dict[str, Any]]] = {}
        for server in [
            *_answered(servers, "resources", "servers"),
            *_answered(soft_deleted, "resources", "soft-deleted servers"),
        ]:
            instance = _understood(server)
            if instance is not None:
                place = _EVERYWHERE if _is_moving(server) else instance.host
                instances.setdefault(place, []).extend(records_of(instance))
        if instances and not instances.keys() - {_EVERYWHERE}:
            _refuse("The Compute API names the host of no server", "")
        image_ids = [image["id"] for image in _answered(images, "images", "images")]
    except ImageCacheError as exc:
        return {"instances": {}, "images": [], "problem": str(exc)}
    return {"instances": instances, "images": image_ids, "problem": ""}


def _answered(result: Mapping[str, Any], key: str, what: str) -> Sequence[Mapping[str, Any]]:
    api = "Image" if key == "images" else "Compute"
    answer = result.get(key)
    if not isinstance(answer, Sequence) or isinstance(answer, str):
        _refuse(f"The {api} API did not tell the {what}", _reason(result))
    if not all(isinstance(item, Mapping) and isinstance(item.get("id"), str) and item["id"] for item in answer):
        _refuse(f"The {api} API told {what} without an id", "")
    return answer


def _understood(server: Mapping[str, Any]) -> Instance | None:
    if server.get("status") == "UNKNOWN":
        _refuse(f"The Compute API cannot reach the cell of server {server['id']}, and does not tell what it uses", "")
    try:
        return parse_record(server)
    except ImageCacheError as exc:
        _refuse(f"What the Compute API told of server {server['id']} cannot be understood", str(exc))


def _is_moving(server: Mapping[str, Any]) -> bool:
    """Tell whether a server may have disks on another host than the one that is named."""
    return bool(server.get("task_state")) or server.get("vm_state") == "resized"


def _reason(result: Mapping[str, Any]) -> str:
    """Return why a module failed, from what it said or, if it crashed, from the end of its traceback."""
    lines = str(result.get("module_stderr") or "").strip().splitlines()
    reason = lines[-1] if lines else str(result.get("msg", "there was no answer"))
    return reason.rpartition("Module failed: ")[2][:_LONGEST_REASON]


def _refuse(what: str, reason: str) -> NoReturn:
    raise ImageCacheError(
        f"{what}{': ' + reason.rstrip('.') if reason else ''}. So it is not known what is in use, and nothing is "
        f"removed. On the controller, `openstack server list --all-projects --long` and `openstack image list` must "
        f"work, with administrator's rights, for the cloud that image_cache_openstack_cloud names."
    )
