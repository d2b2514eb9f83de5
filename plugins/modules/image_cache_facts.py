#!/usr/bin/python
# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_cache_facts
short_description: Audit the image cache of an OpenStack compute host
version_added: 0.1.0
description:
  - Reports which base images in nova's image cache are in use and by whom, which could be removed and how much space
    that would free, and what needs a person, such as a backing file that is missing.
  - With O(checksum_base_images) it also verifies base files against the checksums that are saved beside them.
  - Writes nothing, starts no program for qcow2 and raw disks but C(ionice) where it verifies, and holds no lock.
author:
  - stackops.nova contributors (@stackops)
extends_documentation_fragment:
  - stackops.nova.image_cache
  - stackops.nova.image_cache.warn
  - stackops.nova.attributes
  - stackops.nova.attributes.facts
  - stackops.nova.attributes.actiongroup_image_cache
seealso:
  - module: stackops.nova.image_cache_prune
"""

EXAMPLES = r"""
- name: Audit the image cache
  stackops.nova.image_cache_facts:

- name: Show how much a prune would free
  ansible.builtin.debug:
    msg: "{{ ansible_facts['image_cache']['summary']['reclaimable_bytes'] | human_readable }}"

- name: Show how much a prune would free if unused files were removed after a week
  ansible.builtin.debug:
    msg: "{{ ansible_facts['image_cache']['summary']['reclaimable_by_age']['604800'] | human_readable }}"

- name: Audit with nova's own settings, in every detail
  stackops.nova.image_cache_facts:
    config_file: /etc/nova/nova.conf
    details: files

- name: Look for corrupt base files among those whose checksums were saved
  stackops.nova.image_cache_facts:
    checksum_base_images: true
    checksum_interval_seconds: 0
    fail_on_corrupt: true

- name: Audit a host of a containerised deployment
  stackops.nova.image_cache_facts:
    instances_path: /var/lib/docker/volumes/nova_compute/_data/instances
    libvirt_config_path: /var/lib/docker/volumes/nova_libvirt_qemu/_data
"""

RETURN = r"""
host_warnings:
  description: What Ansible would have shown as warnings of this host, a sentence each.
  returned: if O(warn) is false and there are any
  type: list
  elements: str
ansible_facts:
  description: What was found, under one key.
  returned: success
  type: dict
  contains:
    image_cache:
      description: The state of the cache. Names are bare file names, sizes bytes, times unix seconds, and lists are
        sorted.
      returned: success
      type: dict
      contains:
        cache_path:
          description: The cache directory.
          returned: success
          type: str
          sample: /var/lib/nova/instances/_base
        exists:
          description: Whether there is a cache directory. If not, there is nothing to do and all counts are zero.
          returned: success
          type: bool
        now:
          description: The time of the audit on the host.
          returned: success
          type: float
        host:
          description: The name of the host that local use was counted for.
          returned: success
          type: str
        storage:
          description: The storage that the cache lies on. All but C(instances_id) and C(users) is V(none) if the cache
            does not exist.
          returned: success
          type: dict
          contains:
            id:
              description:
                - The same for two hosts only if they see the same directory, by file system type, source and path for
                  a network or cluster file system, and by machine, device and path for a local one.
              returned: success
              type: str
            instances_id:
              description:
                - The same for O(instances_path). Hosts with another C(id) and the same C(instances_id) have caches of
                  their own on shared instances.
              returned: success
              type: str
            filesystem:
              description: The type of the file system.
              returned: success
              type: str
            mount_point:
              description: Where the file system is mounted on this host.
              returned: success
              type: str
            shared:
              description: Whether it is a network or cluster file system, or what O(shared_storage) says.
              returned: success
              type: bool
            users:
              description: The hosts that nova saw using this storage within 24 hours.
              returned: success
              type: list
              elements: str
            free_bytes:
              description: How much space is free there for an ordinary user. V(none) also if the file system reports no
                size, as a tmpfs without a limit does.
              returned: success
              type: int
            total_bytes:
              description: How large it is. V(none) also if the file system reports no size.
              returned: success
              type: int
        summary:
          description: The cache in numbers.
          returned: success
          type: dict
          contains:
            active:
              description: How many files are in use, or kept because an option says so.
              returned: success
              type: int
            removable:
              description: How many files are unused and old enough.
              returned: success
              type: int
            too_young:
              description: How many files are unused, but not long enough.
              returned: success
              type: int
            other:
              description: How many entries are none of nova's cache files, or kernels that are left alone. They are
                never touched.
              returned: success
              type: int
            total:
              description: All files of the cache without C(other).
              returned: success
              type: dict
              contains:
                files:
                  description: How many there are.
                  returned: success
                  type: int
                allocated_bytes:
                  description: How much space they take.
                  returned: success
                  type: int
            reclaimable_bytes:
              description: How much space a prune with the same options would free now, V(0) while it would remove
                nothing.
              returned: success
              type: int
            reclaimable_by_age:
              description:
                - How much space a prune would free at other minimum ages. The keys are ages in seconds, as texts. They
                  are an hour, a day, a week, four weeks, and the two ages that are set.
                - Each key stands for both O(remove_unused_original_minimum_age_seconds) and
                  O(remove_unused_resized_minimum_age_seconds). All other options are as they are, so it is V(0) if it
                  is not certain which files are in use, or if a limit would be exceeded at that age. With
                  O(remove_deleted_images_minimum_age_seconds), deleted images count at that age alone.
              returned: success
              type: dict
              sample: {"3600": 96636764160, "86400": 64424509440, "604800": 21474836480, "2419200": 0}
            bytes:
              description: How much space the files take, by state.
              returned: success
              type: dict
              contains:
                active:
                  description: Those in use.
                  returned: success
                  type: int
                removable:
                  description: Those unused and old enough.
                  returned: success
                  type: int
                too_young:
                  description: Those unused, but not long enough.
                  returned: success
                  type: int
                other:
                  description: What is never touched, without what lies in directories.
                  returned: success
                  type: int
                corrupt:
                  description: Those of RV(ignore:corrupt), which have one of the states above as well.
                  returned: success
                  type: int
            precached:
              description: The files that are kept only because they were pre-cached within O(keep_precached_seconds).
              returned: success
              type: dict
              contains:
                files:
                  description: How many there are.
                  returned: success
                  type: int
                allocated_bytes:
                  description: How much space they take.
                  returned: success
                  type: int
            orphans:
              description: All orphans, also those that are left out of RV(ignore:orphans).
              returned: success
              type: dict
              contains:
                directories:
                  description: How many there are.
                  returned: success
                  type: int
                allocated_bytes:
                  description: How much space they take, as far as that is known.
                  returned: success
                  type: int
        missing:
          description: The files that disks need and that do not exist, or that were replaced while a guest runs on the
            former one. Look at these first.
          returned: success
          type: list
          elements: dict
          contains:
            backing_file:
              description: The path of the file on this host.
              returned: success
              type: str
            named:
              description: Its path as the disk names it. The path is another one if nova runs in a container.
              returned: success
              type: str
            image_id:
              description: The image that it comes from, V(none) if no source names it, or if the file is no image.
              returned: success
              type: str
            image_name:
              description: What Glance calls that image, V(none) if O(glance_images) has no name for it.
              returned: success
              type: str
            instances:
              description: The instances that cannot start without it, or that run on the former file.
              returned: success
              type: list
              elements: str
            replaced:
              description:
                - Whether there is another file of that name now, while the guests of these instances have the former
                  one open. If its bytes are others, their next hard reboot destroys their file systems.
              returned: success
              type: bool
            recoverable_from:
              description:
                - Where M(stackops.nova.image_cache_restore) can have the file back from on this host. V(process) if a
                  guest certainly still has it open, none otherwise.
                - The role's report has V(glance) where no guest has it, the Image API was asked, and lists its image as
                  one that M(stackops.nova.image_cache_restore) can prove.
              returned: success
              type: str
            recoverable_until:
              description: The instances that have it open. It can be restored until they stop.
              returned: success
              type: list
              elements: str
        orphans:
          description: The directories that hold disks and belong to no known instance. The one that takes the most
            space is first. They are never removed. Empty if there is no source of instances.
          returned: success
          type: list
          elements: dict
          contains:
            directory:
              description: The name of the directory in O(instances_path).
              returned: success
              type: str
            allocated_bytes:
              description:
                - How much space its files take, with those of folders in it, three levels down. No more than a thousand
                  of its entries are counted, and nothing that a link leads to.
                - V(none) if the directory is a link or cannot be read, after the first thousand orphans by name, and
                  while instances of hosts that share the storage are unknown (RV(ignore:unknown_use)).
              returned: success
              type: int
            newest_mtime:
              description: When one of these files was last written, V(none) as above or if there is no file.
              returned: success
              type: float
            disks:
              description: How many disks it holds, V(none) as above.
              returned: success
              type: int
            backed_by:
              description: The cache files that its disks need. With O(orphans=protect) these are kept.
              returned: success
              type: list
              elements: str
            why:
              description: Why it counts as an orphan, and where to look.
              returned: success
              type: str
              sample: No source lists an instance of this UUID. Look for the server (openstack server show).
        unknown_use:
          description: Why it is not certain which files are in use, a sentence each. Nothing is removed then. Empty if
            all use is known.
          returned: success
          type: list
          elements: str
        unknown_deletions:
          description: Why it is not certain which images Glance no longer has, a sentence. Nothing is removed then.
            Empty if it is, or without O(remove_only_deleted_images) and O(remove_deleted_images_minimum_age_seconds).
          returned: success
          type: list
          elements: str
        limit_exceeded:
          description: Why a prune would remove nothing, a sentence for each of O(max_removals) and
            O(max_removal_percent) that it would exceed. Empty if none is exceeded.
          returned: success
          type: list
          elements: str
        unremovable:
          description:
            - Which unused files cannot be removed, a sentence for each cause. An attribute that C(chattr) sets, a
              read-only mount, or a file system that is too full for nova's lock files.
            - A prune keeps such a file. It fails only if no file of the cache can be removed.
          returned: success
          type: list
          elements: str
        set_aside:
          description:
            - The files that M(stackops.nova.image_cache_restore) has set aside in the cache directory. No prune removes
              them, and they are not base files any more.
            - Remove one with C(rm) when it is certain that nobody needs it.
          returned: success
          type: list
          elements: dict
          contains:
            name:
              description: The file's name now, C(.<name>.stackops-<time>).
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
        corrupt:
          description:
            - The base files that are not what they were, or not what O(known_checksums) says. Only known with
              O(checksum_base_images).
          returned: success
          type: list
          elements: dict
          contains:
            name:
              description: The file's name.
              returned: success
              type: str
            used_by:
              description: The instances that need it.
              returned: success
              type: list
              elements: str
        checksums:
          description: What verification did, V(none) without O(checksum_base_images) or if the cache does not exist.
          returned: success
          type: dict
          contains:
            algorithm:
              description: The algorithm of the saved checksums.
              returned: success
              type: str
            verified_files:
              description: How many files were read to their end now, those included whose checksum was saved for the
                first time.
              returned: success
              type: int
            verified_bytes:
              description: How much that was.
              returned: success
              type: int
            trusted_files:
              description: How many were not read, because they were verified within O(checksum_interval_seconds).
              returned: success
              type: int
            unverified_files:
              description: How many had no checksum to compare with. A prune saved one.
              returned: success
              type: int
            skipped_files:
              description: How many could not be verified. RV(ignore:files[].checksum_reason) says why.
              returned: success
              type: int
            deferred_files:
              description: How many are deferred to the next run, because O(checksum_time_budget_seconds) was over.
              returned: success
              type: int
            deferred_bytes:
              description: How large these are.
              returned: success
              type: int
            oldest_verification_seconds:
              description:
                - How long ago the oldest verification of all files was, as of the end of this run. Saving a checksum
                  counts as verification. V(none) if some file was never verified, or if there is no file to verify.
              returned: success
              type: float
        seconds:
          description: How long each part took, in seconds.
          returned: success
          type: dict
          contains:
            inspection:
              description: How long it took to look at the host and to decide.
              returned: success
              type: float
            verification:
              description: How long it took to verify base files. Next to nothing without O(checksum_base_images).
              returned: success
              type: float
        policy:
          description: The options about which hosts with the same cache must agree, as they are in force on this host.
          returned: success
          type: dict
        for_members:
          description:
            - The hand-off, which is what a prune of the same storage from another host, or of another cache beside the
              same instances, has to know about this host. V(none) if the storage is not shared.
            - Only C(problems) is ever shortened. So it is as large as the number of instances, hosts and held files
              asks for, whatever O(details) says. An instance takes about 200 bytes.
          returned: success
          type: dict
          contains:
            instances:
              description: The instances that this host's libvirt names, in the form that O(instances) takes.
              returned: success
              type: list
              elements: dict
            held:
              description: The cache files that QEMU or another process of this host has open, or that are needed by
                disks of which libvirt alone knows. They are for O(keep_files).
              returned: success
              type: list
              elements: str
            problems:
              description: Why not all use by this host is known, a sentence each. Empty if all is known.
              returned: success
              type: list
              elements: str
            users:
              description: The whole of C(storage.users).
              returned: success
              type: list
              elements: str
            future_users:
              description: Those of them that nova's record has with a time in the future.
              returned: success
              type: list
              elements: str
            sample_ids:
              description:
                - Numbers made from the names and inodes of a few files of the cache. Hosts that see the same cache have
                  at least one in common, or both none.
              returned: success
              type: list
              elements: int
            keep_images:
              description: The option O(keep_images), as it is in force on this host.
              returned: success
              type: list
              elements: str
            keep_files:
              description: The option O(keep_files).
              returned: success
              type: list
              elements: str
        omitted:
          description: How many entries were left out of a list to keep the result small.
          returned: if O(details=summary) or O(details=images)
          type: dict
          contains:
            users:
              description: How many of C(storage.users).
              returned: if O(details=summary) or O(details=images)
              type: int
            set_aside:
              description: How many of C(set_aside).
              returned: if O(details=summary) or O(details=images)
              type: int
            missing:
              description: How many of C(missing).
              returned: if O(details=summary) or O(details=images)
              type: int
            orphans:
              description: How many of C(orphans).
              returned: if O(details=summary) or O(details=images)
              type: int
            unknown_use:
              description: How many of C(unknown_use).
              returned: if O(details=summary) or O(details=images)
              type: int
            unknown_deletions:
              description: How many of C(unknown_deletions).
              returned: if O(details=summary) or O(details=images)
              type: int
            limit_exceeded:
              description: How many of C(limit_exceeded).
              returned: if O(details=summary) or O(details=images)
              type: int
            unremovable:
              description: How many of C(unremovable).
              returned: if O(details=summary) or O(details=images)
              type: int
            corrupt:
              description: How many of C(corrupt).
              returned: if O(details=summary) or O(details=images)
              type: int
        images:
          description: One entry for each image that has a file in the cache, or an instance on this host. The one that
            takes the most space is first.
          returned: if O(details=images) or O(details=names) or O(details=files)
          type: list
          elements: dict
          contains:
            fingerprint:
              description: The SHA-1 of its id, which is the beginning of the names of its files.
              returned: success
              type: str
              sample: 8c01e6eaac9d52a96a0a7e70fbe0a2345e430f85
            image_id:
              description: Its id, V(none) if no source names it.
              returned: success
              type: str
            image_name:
              description: What Glance calls it, V(none) if O(glance_images) has no name for it. What cannot be shown is
                escaped, and a name of more than 100 characters is cut.
              returned: success
              type: str
            in_glance:
              description: Whether Glance still has it, V(none) if O(glance_images) was not given.
              returned: success
              type: bool
            files:
              description: How many files of the cache come from it, V(0) if it is only used. Resized copies,
                interrupted downloads and kernels are among them.
              returned: success
              type: int
            allocated_bytes:
              description: How much space these files take.
              returned: success
              type: int
            reclaimable_bytes:
              description: How much of that a prune with the same options would free now.
              returned: success
              type: int
            instances:
              description:
                - How many instances of this host use it, because a source says so or because their disks need one of
                  its files. Orphans do not count.
                - Without a source of instances, each directory with disks counts as an instance.
              returned: success
              type: int
            newest_mtime:
              description: The time of the last known use of its files, V(none) if it has no file.
              returned: success
              type: float
        active:
          description: The files that are in use, or kept because an option says so.
          returned: if O(details=names) or O(details=files)
          type: list
          elements: str
        removable:
          description: The files that are unused and old enough.
          returned: if O(details=names) or O(details=files)
          type: list
          elements: str
        too_young:
          description: The files that are unused, but not long enough.
          returned: if O(details=names) or O(details=files)
          type: list
          elements: str
        other:
          description: What is none of nova's cache files, and kernels that are left alone.
          returned: if O(details=names) or O(details=files)
          type: list
          elements: str
        used_images:
          description: The images that instances use, by image id, with what Glance calls each (C(image_name)), the
            number of instances on this host (C(local)) and on others (C(remote)), and their names (C(instances)).
          returned: if O(details=names) or O(details=files)
          type: dict
        image_popularity:
          description: How many instances use an image, by image id.
          returned: if O(details=names) or O(details=files)
          type: dict
        files:
          description: One entry for each file.
          returned: if O(details=files)
          type: list
          elements: dict
          contains:
            name:
              description: The file's name. What cannot be shown is escaped.
              returned: success
              type: str
            kind:
              description:
                - What its name says it is, one of V(original), V(resized), V(small), V(swap), V(ephemeral),
                  V(kernel), V(partial) (an interrupted download) and V(other).
              returned: success
              type: str
            image_id:
              description: The image that it comes from, V(none) if no source names it.
              returned: success
              type: str
            image_name:
              description: What Glance calls that image, V(none) if O(glance_images) has no name for it.
              returned: success
              type: str
            in_glance:
              description: Whether Glance still has that image, V(none) if O(glance_images) was not given or the file
                is no image.
              returned: success
              type: bool
            state:
              description: One of V(active), V(removable), V(too_young) and V(other).
              returned: success
              type: str
            reasons:
              description:
                - Why. An active file has V(instance) (an instance uses its image), V(backing) (a disk is built on
                  it), V(orphan) (a disk of an unknown instance is), V(qemu) (QEMU holds it), V(open) (a process has
                  it open), V(keep_images), V(keep_files), V(overlay) (another file of the cache is built on it and is
                  kept), V(not_deleted) (it is unused, and O(remove_only_deleted_images) keeps it), or V(precached)
                  (it is unused, and O(keep_precached_seconds) keeps it).
                - An unused file has V(unused), V(deleted) if Glance no longer has its image and that matters for its
                  removal, or V(unknown) if no source names its image.
              returned: success
              type: list
              elements: str
            size_bytes:
              description: Its size.
              returned: success
              type: int
            allocated_bytes:
              description: The space that it takes, which is less where it has holes.
              returned: success
              type: int
            mtime:
              description: The time of its last known use.
              returned: success
              type: float
            age_seconds:
              description: How long ago that was.
              returned: success
              type: float
            removable_in_seconds:
              description: In how many seconds it will be old enough, V(none) if it is in use or never to be removed.
              returned: success
              type: int
            used_by:
              description: The instances that need it, by nova's name for them, or by their directory if no source lists
                them.
              returned: success
              type: list
              elements: str
            checksum:
              description:
                - The result of verification. V(unverified) if there was no checksum to compare with, V(trusted) if it
                  was verified lately and not read now, V(ok), V(corrupt), V(skipped) if it could not be verified, or
                  V(deferred) to the next run. V(none) if it was not to be verified.
              returned: success
              type: str
            checksum_reason:
              description:
                - Why. A corrupt file differs from what was V(saved), or is V(known) to be another one by
                  O(known_checksums).
                - A skipped file was V(locked) by another process that verifies it or saves its checksum, was
                  V(changed), V(replaced) or V(gone) while it was read, or is V(unreadable).
                - V(none) otherwise.
              returned: success
              type: str
"""

import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.argspec import audit_argument_spec
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.audit import audit
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError


def main() -> None:
    module = AnsibleModule(argument_spec=audit_argument_spec(), supports_check_mode=True)
    params = dict(module.params)
    # Records of instances may hold passwords: no_log keeps them out of this host's log, and the result does not
    # repeat them. Without the second line no_log would black out each name of theirs in the result as well.
    module.params["instances"] = None
    module.no_log_values.clear()
    try:
        result = audit(params, time.time(), lambda command: module.run_command(command, handle_exceptions=False))
    except ImageCacheError as exc:
        module.fail_json(msg=str(exc))
    answer = {"changed": False, "ansible_facts": {"image_cache": result.facts}}
    if params["warn"]:
        for warning in result.warnings:
            module.warn(warning)
    elif result.warnings:
        answer["host_warnings"] = result.warnings
    if result.error is not None:
        module.fail_json(msg=result.error, **answer)
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
