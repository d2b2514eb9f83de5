# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: image_cache_table
short_description: Show in plain text what is in an image cache, what is removed, and why
version_added: 0.1.0
description:
  - Makes a table for people from what the image cache modules return.
  - What needs a person comes first, then the cache in numbers, then what is removed and what is kept, with the
    reasons, and last how much disk space is freed.
  - The more C(details) the modules were asked for, the more it shows; with C(files), all. What a prune removes, or in
    check mode would remove, is listed with its size and the reason in any case.
  - The largest files of a section come first, and of more than 20 the rest is counted. No line is wider than
    78 columns.
  - Names come from hosts, guests and tenants. Control characters in them are shown as escapes.
positional: storage
author:
  - stackops.nova contributors (@stackops)
options:
  _input:
    description: What either of the image cache modules returned as C(image_cache).
    type: dict
    required: true
  storage:
    description:
      - The entry of the storage in C(storages) of the role's C(report.json), if the table is to name the hosts that
        share the storage, and the refusals that only the whole play knows.
    type: dict
seealso:
  - module: stackops.nova.image_cache_facts
  - module: stackops.nova.image_cache_prune
"""

EXAMPLES = r"""
- name: Audit the image cache
  stackops.nova.image_cache_facts:
    details: files

- name: Show what is in it
  ansible.builtin.debug:
    msg: "{{ (ansible_facts['image_cache'] | stackops.nova.image_cache_table).splitlines() }}"

- name: Remove unused base images
  stackops.nova.image_cache_prune:
    details: files
  register: pruned

- name: Show what was removed, or with --check what would be
  ansible.builtin.debug:
    msg: "{{ (pruned.image_cache | stackops.nova.image_cache_table).splitlines() }}"
"""

RETURN = r"""
_value:
  description: The table, as lines without a line break after the last one.
  type: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.stackops.nova.plugins.plugin_utils.report.table import storage_page


class FilterModule:
    """The filter, for Ansible."""

    def filters(self) -> dict[str, Callable[..., str]]:
        return {"image_cache_table": image_cache_table}


def image_cache_table(image_cache: Mapping[str, Any], storage: Mapping[str, Any] | None = None) -> str:
    """Return what is in an image cache as a page of plain text. The documentation above describes both parameters."""
    if not isinstance(image_cache, Mapping) or "summary" not in image_cache:
        raise AnsibleFilterError(
            "image_cache_table takes the image_cache that the image cache modules return. Give it "
            "ansible_facts.image_cache of an audit, or image_cache of a prune."
        )
    return storage_page(image_cache, storage)
