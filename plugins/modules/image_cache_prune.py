#!/usr/bin/python
# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_cache_prune
short_description: Remove unused base images from an OpenStack compute host
version_added: 0.1.0
description:
  - Removes the files of nova's image cache that are unused and old enough, beside a running nova, under nova's own
    locks.
  - Check mode is the dry run. What it returns as removed is what a run would remove.
  - While it is not certain which files are in use, nothing is removed, and the task fails and names what to look at.
  - Marks the files in use as used now, as nova does, so that their age counts from then. That is not a change.
  - With O(checksum_base_images) it verifies base files at the end, after everything was removed, and saves what it
    found. A checksum that is saved for the first time is a change, a later time of verification is none.
    With O(remove_unused_base_images=false) that is all it does.
author:
  - stackops.nova contributors (@stackops)
extends_documentation_fragment:
  - stackops.nova.image_cache
  - stackops.nova.image_cache.warn
  - stackops.nova.attributes
  - stackops.nova.attributes.prune
  - stackops.nova.attributes.actiongroup_image_cache
seealso:
  - module: stackops.nova.image_cache_facts
"""

EXAMPLES = r"""
- name: Show what would be removed, and change nothing
  stackops.nova.image_cache_prune:
  check_mode: true
  diff: true

- name: Remove unused base images, but never more than a tenth of the cache at once
  stackops.nova.image_cache_prune:
    max_removal_percent: 10

- name: Make room until 50 GiB are free, least recently used first
  stackops.nova.image_cache_prune:
    min_free_space: 50G

- name: Remove what Glance no longer has after an hour, and nothing else
  stackops.nova.image_cache_prune:
    glance_images: "{{ all_images_hidden_ones_included }}"
    remove_only_deleted_images: true
    remove_deleted_images_minimum_age_seconds: 3600

- name: Begin to verify base files, and save the checksums of those that have none
  stackops.nova.image_cache_prune:
    remove_unused_base_images: false
    checksum_base_images: true

- name: Verify base files against what Glance has, too
  stackops.nova.image_cache_prune:
    remove_unused_base_images: false
    checksum_base_images: true
    known_checksums: "{{ dict(glance.images | map(attribute='id') | zip(glance.images)) }}"

# A playbook for every night. Each host goes on where it stopped the night before, and takes ten minutes at most.
- name: Verify the base files of a fleet, a little every night
  hosts: compute
  become: true
  gather_facts: false
  strategy: free
  tasks:
    - name: Verify what was verified longest ago
      stackops.nova.image_cache_prune:
        config_file: /etc/nova/nova.conf
        remove_unused_base_images: false
        checksum_base_images: true
        checksum_interval_seconds: 604800
        checksum_time_budget_seconds: 600
        checksum_max_rate: 200M
        fail_on_corrupt: true
      register: verified

    - name: Show how far it is
      ansible.builtin.debug:
        msg: >-
          {{ verified.image_cache.checksums.verified_files }} verified,
          {{ verified.image_cache.checksums.deferred_files }} deferred,
          the oldest verification was {{ verified.image_cache.checksums.oldest_verification_seconds }} seconds ago

- name: Count the instances of all hosts that share the storage
  stackops.nova.image_cache_prune:
    instances: "{{ servers }}"
    instances_complete_for: "{{ groups['compute'] }}"
"""

RETURN = r"""
host_warnings:
  description: What Ansible would have shown as warnings of this host, a sentence each.
  returned: if O(warn) is false and there are any
  type: list
  elements: str
image_cache:
  description:
    - The state of the cache as it was found, before anything was removed, and what was done about it.
    - All that RV(stackops.nova.image_cache_facts#module:ansible_facts.image_cache) has, and what follows here.
  returned: success, and failure after the cache was looked at
  type: dict
  contains:
    check_mode:
      description:
        - Whether this was a dry run. C(ansible_check_mode) does not show it if a task or play sets C(check_mode).
      returned: success
      type: bool
    removed:
      description:
        - The files that were removed, in check mode those that would be. Always complete, because it is what changed.
      returned: success
      type: list
      elements: str
      sample: [8c01e6eaac9d52a96a0a7e70fbe0a2345e430f85, swap_128]
    kept:
      description: The removable files that were kept.
      returned: success
      type: list
      elements: dict
      contains:
        name:
          description: The file's name.
          returned: success
          type: str
        reason:
          description:
            - Why it was kept. V(unknown_use) if it is not certain which files are in use, V(unknown_deletions) if it is
              not certain which images Glance no longer has, V(limit_exceeded) if more would be removed than
              O(max_removals) or O(max_removal_percent) allows, V(unremovable) if its removal would fail
              (C(unremovable) says why), V(removal_disabled) if O(remove_unused_base_images) is off,
              V(space_target_met) if enough space is free without it, V(locked) if another process holds nova's lock on
              it, V(overlay) if another file of the cache is built on it and is kept.
            - Or what was seen just before its removal, V(in_use) (a disk has come to need it), V(held) by QEMU,
              V(open) in a process, V(touched) (used since the look), V(replaced) by another file, or V(gone).
          returned: success
          type: str
    failed:
      description: The files whose removal failed, and why. The task fails if there is one.
      returned: success
      type: list
      elements: dict
      contains:
        name:
          description: The file's name.
          returned: success
          type: str
        error:
          description: What went wrong.
          returned: success
          type: str
    files:
      description:
        - One entry for each file that is removable, whether it was removed or kept, and with O(details=files) for all
          others too.
        - What an entry has is described at RV(stackops.nova.image_cache_facts#module:ansible_facts.image_cache.files).
      returned: success
      type: list
      elements: dict
    saved_checksums:
      description:
        - The paths of the files whose checksum by O(checksum_algorithm) was saved for the first time, in check mode
          those whose checksum would be, in the order in which they are verified.
        - With O(checksum_time_budget_seconds), check mode lists all of them, and a warning states that the time decides
          how many are saved.
        - A checksum that only moves from a file of Essex (C(.sha1)) to the info file is not among them.
      returned: success
      type: list
      elements: str
      sample: [/var/lib/nova/instances/_base/8c01e6eaac9d52a96a0a7e70fbe0a2345e430f85]
    reclaimed_bytes:
      description: How much space the removed files took.
      returned: success
      type: int
    seconds:
      description:
        - How long each part took, in seconds. A removal or a verification that takes more than a minute also logs how
          far it is, once a minute, in the host's journal (C(ansible-stackops.nova.image_cache_prune)); check mode logs
          nothing of its own.
      returned: success
      type: dict
      contains:
        inspection:
          description: How long it took to look at the host and to decide.
          returned: success
          type: float
        removal:
          description: How long it took to remove files, and to mark those in use as used now.
          returned: success
          type: float
        verification:
          description: How long it took to verify base files. Next to nothing without O(checksum_base_images).
          returned: success
          type: float
"""

import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.argspec import audit_argument_spec
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.prune import prune


def main() -> None:
    module = AnsibleModule(argument_spec=audit_argument_spec(), supports_check_mode=True)
    params = dict(module.params)
    # Records of instances may hold passwords: no_log keeps them out of this host's log, and the result does not
    # repeat them. Without the second line no_log would black out each name of theirs in the result as well.
    module.params["instances"] = None
    module.no_log_values.clear()
    try:
        result = prune(
            params,
            time.time(),
            lambda command: module.run_command(command, handle_exceptions=False),
            module.check_mode,
            module.log,
        )
    except ImageCacheError as exc:
        module.fail_json(msg=str(exc))
    image_cache = {**result.facts, **result.done, "check_mode": module.check_mode}
    answer = {"changed": result.changed, "image_cache": image_cache}
    if params["warn"]:
        for warning in result.warnings:
            module.warn(warning)
    elif result.warnings:
        answer["host_warnings"] = result.warnings
    if module._diff:
        answer["diff"] = result.diff
    if result.error is not None:
        module.fail_json(msg=result.error, **answer)
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
