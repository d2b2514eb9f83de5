#!/usr/bin/python
# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_cache_precache
short_description: Put images in the image cache of an OpenStack compute host before a server needs them
version_added: 0.1.0
description:
  - Fetches images from Glance, or from files that an operator brought to the host, into nova's image cache, beside a
    running nova. The first server with such an image then starts without a download.
  - An image that is there is marked as used now, as nova does when it builds on it. An image that was pre-cached is
    kept by M(stackops.nova.image_cache_prune) within O(keep_precached_seconds).
  - Nothing is put in place without the checksum that Glance has of the image. A qcow2 image is converted to raw as
    nova converts it, as the owner of the cache and within limits, and what comes of it is looked at again.
  - A host can also get an image from other hosts that have it already (O(peers)), converted, so that Glance serves it
    once. What they send counts only if it has the checksum that was given, and is looked at again like any other.
  - O(files) come first, then O(peers), then O(glance). An image that no other host has sent comes from Glance, if that
    is given.
  - Images that nova would refuse, and formats that only nova converts, are refused, with the reason and what a person
    can do. What would not leave O(min_free_space) is refused before the first byte, with the numbers.
  - A file is whole or not there. The bytes go into a file without a name, which gets its name at the end, under nova's
    lock. An interrupted run leaves nothing, and the failure of one image does not stop the others.
author:
  - stackops.nova contributors (@stackops)
extends_documentation_fragment:
  - stackops.nova.image_cache
  - stackops.nova.image_cache.glance
  - stackops.nova.image_cache.peers
  - stackops.nova.attributes
  - stackops.nova.attributes.precache
  - stackops.nova.attributes.actiongroup_image_cache
options:
  images:
    description:
      - Glance's records of the images to pre-cache, under the names of the Image API (C(os_hash_algo),
        C(os_hash_value)) or of openstacksdk (C(hash_algo), C(hash_value)).
      - Each needs C(id), C(status), C(container_format), C(disk_format), C(size), and a checksum by sha256 or sha512.
        The id is taken exactly as it is spelt.
    type: list
    elements: dict
    required: true
  files:
    description:
      - Files on the host that an operator brought, by the id of the image, such as for a site without a way to Glance.
        For these images Glance is not asked.
      - Each is compared with the record in O(images).
    type: dict
    default: {}
  max_rate:
    description:
      - How much to read a second, all images together. A number of bytes, or one with a unit such as V(100M).
      - No limit if it is not given.
    type: bytes
  allow_unverified_signatures:
    description:
      - Whether images may be pre-cached where C(verify_glance_signatures) or C(enable_certificate_validation) is set in
        O(config_file). nova verifies the signature only of what it downloads itself.
    type: bool
    default: false
notes:
  - Of the options that all modules share, it uses those that say where the cache is, O(shared_storage),
    O(min_free_space) and O(max_used_space). Here, O(min_free_space) is V(10%) if it is not given.
  - nova's own pass removes an unused file a day after it was last used, also a pre-cached one. Run this module twice a
    day, or set O(remove_unused_base_images) to V(false) in nova's configuration and prune with this collection.
  - Without pipelining, Ansible writes the options of a module to a file on the host while it runs, O(glance.token)
    included.
seealso:
  - module: stackops.nova.image_cache_restore
  - module: stackops.nova.image_cache_prune
"""

EXAMPLES = r"""
- name: Show which images would be fetched, and which are there
  stackops.nova.image_cache_precache:
    config_file: /etc/nova/nova.conf
    images: "{{ images }}"
    glance:
      endpoint: https://glance.example.com:9292
  check_mode: true

- name: Pre-cache images from Glance
  stackops.nova.image_cache_precache:
    config_file: /etc/nova/nova.conf
    images: "{{ images }}"
    glance:
      endpoint: https://glance.example.com:9292
      token: "{{ token }}"
    max_rate: 100M
  no_log: true

- name: Pre-cache an image from a file that was brought to the host
  stackops.nova.image_cache_precache:
    images: "{{ images }}"
    files:
      131d062c-6166-4aa7-bb6c-7ceae4a8201c: /root/cirros.qcow2

- name: Pre-cache an image from a host that has fetched it
  stackops.nova.image_cache_precache:
    config_file: /etc/nova/nova.conf
    images: "{{ images }}"
    peers:
      058d6f6126b0846e3d5636640cfbb53cf70a86a6:
        hosts:
          - host: cmp-102.example.com
            path: /var/lib/nova/instances/_base/058d6f6126b0846e3d5636640cfbb53cf70a86a6
        size_bytes: 117440512
        allocated_bytes: 46972928
        algorithm: sha512
        checksum: "{{ agreed_checksum }}"
"""

RETURN = r"""
image_cache_precache:
  description: What was pre-cached, in check mode what would be, and what was not, with the reason.
  returned: success, and failure after the cache was looked at
  type: dict
  contains:
    check_mode:
      description: Whether this was a dry run.
      returned: success
      type: bool
    cache_path:
      description: The cache directory.
      returned: success
      type: str
    host:
      description: The name by which nova knows this host.
      returned: success
      type: str
    storage_id:
      description: What tells the cache's storage from others, none if there is no cache. Hosts that share it have the
        same.
      returned: success
      type: str
    shared_storage:
      description: Whether other hosts may use the storage too, none if there is no cache.
      returned: success
      type: bool
    fetched:
      description:
        - The images that were put in place, in check mode those that would be, in the order of O(images).
        - Check mode makes no connection, so it does not know whether Glance serves an image. What a qcow2 image takes
          when it is raw is measured when it is there. Check mode counts its size as Glance has it, twice.
      returned: success
      type: list
      elements: dict
      contains:
        name:
          description: The file's name.
          returned: success
          type: str
        image_id:
          description: The image.
          returned: success
          type: str
        image_name:
          description: What Glance calls it, none where that is not known.
          returned: success
          type: str
        source:
          description: Where its bytes come from. V(glance), V(file) for a file of O(files), or V(peer) for another
            host.
          returned: success
          type: str
        source_path:
          description: Glance's URL, the path of the file, or another host and the path there (C(HOST:PATH)). In check
            mode, the first host that would be asked.
          returned: success
          type: str
        contacted:
          description: Whether the source was looked at. V(false) for Glance and other hosts in check mode, which makes
            no connection.
          returned: success
          type: bool
        proof:
          description: Why they may be believed. V(checksum) if they have the checksum that Glance has, V(agreed) if
            they have the checksum of O(peers).
          returned: success
          type: str
        read_bytes:
          description: How much was read, or would be at most. V(0) where a file shares its blocks with the copy. What
            other hosts have sent that failed counts as well.
          returned: success
          type: int
        size_bytes:
          description: The file's size. In check mode, that of a converted image is what the record says.
          returned: success
          type: int
        allocated_bytes:
          description: How much space it takes, or would at most. In check mode, that of a converted image is a guess.
          returned: success
          type: int
        seconds:
          description: How long it took. V(0.0) in check mode.
          returned: success
          type: float
        algorithm:
          description: The algorithm of the checksum.
          returned: success
          type: str
        checksum:
          description: The checksum of what was put in place. In check mode none for an image that would be converted.
          returned: success
          type: str
    present:
      description: The images that were there already. They were marked as used now.
      returned: success
      type: list
      elements: dict
      contains:
        name:
          description: The file's name.
          returned: success
          type: str
        image_id:
          description: The image.
          returned: success
          type: str
        image_name:
          description: What Glance calls it, none where that is not known.
          returned: success
          type: str
    refused:
      description: The images that are not pre-cached, on purpose.
      returned: success
      type: list
      elements: dict
      contains:
        name:
          description: The name that the file would have.
          returned: success
          type: str
        image_id:
          description: The image.
          returned: success
          type: str
        image_name:
          description: What Glance calls it, none where that is not known.
          returned: success
          type: str
        reason:
          description: Why it is refused, and what a person can do.
          returned: success
          type: str
    failed:
      description: The images that should have been pre-cached, or marked as used, and were not.
      returned: success
      type: list
      elements: dict
      contains:
        name:
          description: The file's name.
          returned: success
          type: str
        image_id:
          description: The image.
          returned: success
          type: str
        image_name:
          description: What Glance calls it, none where that is not known.
          returned: success
          type: str
        error:
          description: What went wrong, and what a person can do.
          returned: success
          type: str
    free_bytes:
      description: How much space is free on the cache's file system at the end, none where it does not report that.
      returned: success
      type: int
"""

import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.argspec import precache_argument_spec
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.module import finish_module, take_params
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.precache import precache


def main() -> None:
    module = AnsibleModule(argument_spec=precache_argument_spec(), supports_check_mode=True)
    params = take_params(module)
    finish_module(module, "image_cache_precache", lambda: precache(params, time.time(), module.check_mode))


if __name__ == "__main__":
    main()
