#!/usr/bin/python
# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_cache_restore
short_description: Restore missing base files of an OpenStack compute host
version_added: 0.1.0
description:
  - Puts a base file that disks need and that is gone back under its name in nova's image cache, beside a running nova.
  - While a guest runs, its QEMU still has a deleted base file open. That is where a file comes from first, and the only
    place where a swap or ephemeral template can come from, because its bytes differ from host to host.
  - An image can also come from a file that an operator brought to the host, or from Glance, together with Glance's
    record of the image. The host itself reads it from Glance, without the proxies that its environment names.
  - Nothing is put in place without proof of its content. What cannot be proven is refused, with the reason and what a
    person can do.
  - The same file of another host is a source too (O(peers)), also of a resized copy, and on a host without C(qemu-img).
    The bytes count only if they have the checksum that was given, which comes from elsewhere than the host that sends
    them.
  - From O(glance) come base files that no process has open and that are not in O(files), of images whose
    C(disk_format) is V(raw), V(iso), V(ami), V(aki), V(ari) or V(qcow2).
  - Where the disks that are built on the base file of a qcow2 image read it as raw, the image is converted as nova
    converts it, and inspected again. If a checksum of that base file is known, the result has to match it.
  - Check mode shows each file with its source, its proof, the guests and the bytes, and what would still be missing.
    It makes no connection.
  - A file is whole or not there. The bytes go into a file without a name, which gets its name at the end, under nova's
    lock. An interrupted run leaves nothing, and the failure of one file does not stop the others.
author:
  - stackops.nova contributors (@stackops)
extends_documentation_fragment:
  - stackops.nova.image_cache
  - stackops.nova.image_cache.glance
  - stackops.nova.image_cache.peers
  - stackops.nova.attributes
  - stackops.nova.attributes.restore
  - stackops.nova.attributes.actiongroup_image_cache
options:
  states:
    description:
      - Which base files to restore. V(missing) are those that disks need and that do not exist.
      - V(replaced) are those under whose name there is another file now than the one that a running guest has open.
      - V(corrupt) are those whose checksum differs from the saved or known one. Their verification is that of
        O(checksum_base_images).
      - A replaced or corrupt file is set aside first, as C(.<name>.stackops-<time>) in the cache directory. An audit
        lists it, and no prune removes it.
    type: list
    elements: str
    choices: [missing, replaced, corrupt]
    default: [missing]
  names:
    description:
      - Names of base files. Others are neither restored nor reported. All of O(states) if it is not given.
    type: list
    elements: str
  images:
    description:
      - Glance's records of images, under the names of the Image API (C(os_hash_algo), C(os_hash_value)) or of
        openstacksdk (C(hash_algo), C(hash_value)).
      - The record of an image that Glance serves as C(raw) says what checksum its base file has. It proves a file of
        O(files), and a file of a process has to match it as well.
    type: list
    elements: dict
    default: []
  files:
    description:
      - Files on the host that an operator brought, by the id of the image. Each is compared with the record in
        O(images) while it is copied.
      - They serve originals only. A resized copy or a template differs from the image.
    type: dict
    default: {}
  unproven:
    description:
      - Names of base files for which the operator's word counts where a proof is missing, such as for a file of
        O(files) without a record.
      - It never counts against a proof. A file whose checksum, format or size is wrong is refused all the same.
    type: list
    elements: str
    default: []
  checksums_of:
    description:
      - Names of files of the cache. With it, the module returns the checksums of those that are there, by sha256, and
        does nothing else. It writes nothing and restores nothing.
      - A controller compares the answers of several hosts, and gives what they agree on as O(peers).
    type: list
    elements: str
    default: []
  max_rate:
    description:
      - How much to copy a second, all files together. A number of bytes, or one with a unit such as V(100M).
      - No limit if it is not given. Where the file system shares blocks between files (XFS, btrfs), nothing is copied.
    type: bytes
notes:
  - Run it as C(root). Another user cannot see which files the processes of guests have open.
seealso:
  - module: stackops.nova.image_cache_facts
  - module: stackops.nova.image_cache_prune
"""

EXAMPLES = r"""
- name: Show which missing base files can be restored, from where, and which are lost
  stackops.nova.image_cache_restore:
    config_file: /etc/nova/nova.conf
  check_mode: true

- name: Restore the base files that running guests still have open
  stackops.nova.image_cache_restore:
    config_file: /etc/nova/nova.conf

- name: Restore the base file of an image from a file, with Glance's record as the proof
  stackops.nova.image_cache_restore:
    files:
      131d062c-6166-4aa7-bb6c-7ceae4a8201c: /root/cirros.raw
    images: "{{ glance.images }}"

- name: Restore the base files of images from Glance
  stackops.nova.image_cache_restore:
    glance:
      endpoint: https://glance.example.com:9292
      token: "{{ token }}"
      ca_cert: /etc/ssl/certs/cloud.pem
    images: "{{ glance.images }}"
  no_log: true

- name: Read what two hosts have of a base file
  stackops.nova.image_cache_restore:
    config_file: /etc/nova/nova.conf
    checksums_of:
      - 97aaae8fdc4935bc47d03cf539a6213a1f2c6ad4

- name: Restore a base file from another host, with the checksum that two hosts have agreed on
  stackops.nova.image_cache_restore:
    config_file: /etc/nova/nova.conf
    peers:
      97aaae8fdc4935bc47d03cf539a6213a1f2c6ad4:
        hosts:
          - host: cmp-102.example.com
            path: /var/lib/nova/instances/_base/97aaae8fdc4935bc47d03cf539a6213a1f2c6ad4
        size_bytes: 2361393152
        algorithm: sha256
        checksum: "{{ agreed_checksum }}"

- name: Give guests back the base file that was replaced under them
  stackops.nova.image_cache_restore:
    states: [missing, replaced]
"""

RETURN = r"""
image_cache_restore:
  description: What was restored, in check mode what would be, and what was not, with the reason.
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
    restored:
      description: The files that were put in place, in check mode those that would be, in the order in which they are
        restored.
      returned: success
      type: list
      elements: dict
      contains:
        name:
          description: The file's name.
          returned: success
          type: str
        state:
          description: What was wrong. V(missing), V(replaced) or V(corrupt).
          returned: success
          type: str
        image_id:
          description: The image that it comes from, none where that is not known.
          returned: success
          type: str
        source:
          description: Where its bytes come from. V(process) for a process of a guest, V(file) for a file of O(files),
            V(glance) for Glance, V(peer) for another host.
          returned: success
          type: str
        source_path:
          description: The descriptor of the process (C(/proc/PID/fd/N)), the path of the file, Glance's URL, or another
            host and the path there (C(HOST:PATH)). In check mode, the first host that would be asked.
          returned: success
          type: str
        contacted:
          description: Whether the source was looked at. V(false) for Glance and other hosts in check mode, which makes
            no connection.
          returned: success
          type: bool
        inode:
          description: The inode number of the source, none for Glance and other hosts. Hosts that share a storage have
            the same file open if it is the same.
          returned: success
          type: int
        proof:
          description:
            - Why they may be believed. V(process) if they are the inode that a guest of this host has open, V(checksum)
              if they have the checksum that Glance has, V(process_and_checksum) if both is true, V(agreed) if they have
              the checksum of O(peers), V(unproven) if the operator's word alone says so.
          returned: success
          type: str
        guests:
          description: The instances whose processes have the file open. Their source lasts until they stop.
          returned: success
          type: list
          elements: str
        instances:
          description: The instances that need the file.
          returned: success
          type: list
          elements: str
        needs_restart:
          description: The instances whose processes still have the file open that was set aside.
          returned: success
          type: list
          elements: str
        read_bytes:
          description: How much was read, or would be at most. V(0) where the file system shares the blocks. What other
            hosts have sent that failed counts as well.
          returned: success
          type: int
        size_bytes:
          description: The file's size.
          returned: success
          type: int
        allocated_bytes:
          description: How much space it takes.
          returned: success
          type: int
        seconds:
          description: How long it took. V(0.0) in check mode.
          returned: success
          type: float
        algorithm:
          description: The algorithm of the checksum, none where no checksum was taken.
          returned: success
          type: str
        checksum:
          description: The checksum of what was put in place, none where none was taken. In check mode none for an image
            that is converted.
          returned: success
          type: str
    present:
      description: The names of the files that were there again when their turn came, with the right size.
      returned: success
      type: list
      elements: str
    refused:
      description: The files that are not restored, on purpose. They stay missing, replaced or corrupt.
      returned: success
      type: list
      elements: dict
      contains:
        name:
          description: The file's name; its path if it is not a file of the cache.
          returned: success
          type: str
        state:
          description: What is wrong. V(missing), V(replaced) or V(corrupt).
          returned: success
          type: str
        image_id:
          description: The image that it comes from, none where that is not known.
          returned: success
          type: str
        instances:
          description: The instances that need it.
          returned: success
          type: list
          elements: str
        reason:
          description: Why it is refused, and what a person can do.
          returned: success
          type: str
    failed:
      description: The files that should have been restored and were not.
      returned: success
      type: list
      elements: dict
      contains:
        name:
          description: The file's name.
          returned: success
          type: str
        state:
          description: What is wrong. V(missing), V(replaced) or V(corrupt).
          returned: success
          type: str
        image_id:
          description: The image that it comes from, none where that is not known.
          returned: success
          type: str
        instances:
          description: The instances that need it.
          returned: success
          type: list
          elements: str
        error:
          description: What went wrong.
          returned: success
          type: str
    set_aside:
      description:
        - The files that were set aside in the cache directory, in check mode those that would be. They are the former
          ones of files that were replaced, and copies of each where guests have different files open under one name.
      returned: success
      type: list
      elements: dict
      contains:
        name:
          description: The name of the base file.
          returned: success
          type: str
        set_aside_as:
          description: The name that the file has now in the cache directory.
          returned: success
          type: str
        instances:
          description: The instances that have it open.
          returned: success
          type: list
          elements: str
        size_bytes:
          description: The file's size.
          returned: success
          type: int
        allocated_bytes:
          description: How much space it takes.
          returned: success
          type: int
    checksums:
      description: The files of O(checksums_of) that are in the cache. One that is written to at this moment, or that is
        not a regular file, is left out. One that cannot be read is left out with a warning.
      returned: success
      type: list
      elements: dict
      contains:
        name:
          description: The file's name.
          returned: success
          type: str
        size_bytes:
          description: The file's size.
          returned: success
          type: int
        allocated_bytes:
          description: How much space it takes.
          returned: success
          type: int
        algorithm:
          description: The algorithm of the checksum, V(sha256).
          returned: success
          type: str
        checksum:
          description: The checksum of what the file has.
          returned: success
          type: str
    free_bytes:
      description: How much space is free on the cache's file system at the end, none where it does not report that.
      returned: success
      type: int
"""

import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.argspec import restore_argument_spec
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.module import finish_module, take_params
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.restore import restore


def main() -> None:
    module = AnsibleModule(argument_spec=restore_argument_spec(), supports_check_mode=True)
    params = take_params(module)
    finish_module(
        module,
        "image_cache_restore",
        lambda: restore(
            params,
            time.time(),
            lambda command: module.run_command(command, handle_exceptions=False),
            module.check_mode,
        ),
    )


if __name__ == "__main__":
    main()
