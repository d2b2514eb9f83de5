# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that all modules of a host share: each one as argspec.py has it."""

from __future__ import annotations


class ModuleDocFragment:
    """Options, requirements and notes of the image cache modules."""

    DOCUMENTATION = r"""
options:
  instances_path:
    description:
      - Where nova keeps its instances on this host, an absolute path. If not given, it is read from O(config_file).
      - nova's own default, C(/var/lib/nova/instances), if O(config_file) does not set it either.
    type: path
  image_cache_subdirectory_name:
    description:
      - The name of the cache directory in O(instances_path); a name, never a path.
      - It may be this host's own on instances that several hosts share, such as nova's C(_base_$my_ip). Then all disks
        in O(instances_path) still protect what they name here.
      - nova's own default, C(_base), unless O(config_file) sets another value.
    type: str
  image_info_filename_pattern:
    description:
      - Where the saved facts about a base file lie. C(%(image)s) stands for the base file's name.
        C($instances_path) and C($image_cache_subdirectory_name) may be used.
      - A base file's info file is removed together with it.
      - The default of nova up to Icehouse, C($instances_path/$image_cache_subdirectory_name/%(image)s.info), unless
        O(config_file) sets another value.
    type: str
  remove_unused_base_images:
    description:
      - Whether M(stackops.nova.image_cache_prune) removes anything. With V(false) it reports only.
      - V(true), unless O(config_file) sets another value.
    type: bool
  remove_unused_original_minimum_age_seconds:
    description:
      - How many seconds ago an image, a swap or ephemeral template, a kernel or an interrupted download must have been
        used last before it may be removed, if it is unused now. Counted from its modification time, which nova sets on
        each use.
      - V(86400), unless O(config_file) sets another value. A much smaller value takes away the time in which an
        instance that is being built holds nothing but its base file.
    type: int
  remove_unused_resized_minimum_age_seconds:
    description:
      - The same for resized copies of images, such as C(<fingerprint>_10737418240) and C(<fingerprint>_sm).
      - V(3600), unless O(config_file) sets another value.
    type: int
  remove_unused_kernels:
    description:
      - Whether files that are named by an image id, as old releases of nova saved kernels and ramdisks, may be removed
        too. With V(false) they are RV(ignore:other) and never touched.
      - V(false), unless O(config_file) sets another value.
    type: bool
  remove_only_deleted_images:
    description:
      - Whether to remove only files whose image Glance no longer has. An unused file whose image Glance has is kept as
        RV(ignore:active), with the reason V(not_deleted), whatever its age. So are swap and ephemeral templates, which
        come from no image.
      - A file that is removed this way cannot be downloaded again. No instance uses it, and a disk that was copied
        away from this host may still need it.
      - Needs O(glance_images). Nothing is removed, and a prune fails, if that is not given, is empty, or has fewer than
        half of the images in the cache, those in use included.
    type: bool
    default: false
  remove_deleted_images_minimum_age_seconds:
    description:
      - The minimum age of files whose image Glance no longer has, originals and resized copies alike, with
        O(remove_only_deleted_images) or without. The usual ages if it is not given.
      - Counted like them, from the last use. A much smaller value than nova's day takes away the time in which an
        instance that is being built holds nothing but its base file, and that of an image that was uploaded after
        O(glance_images) was listed.
      - Needs O(glance_images), as O(remove_only_deleted_images) does.
    type: int
  host:
    description:
      - The name by which nova knows this host (C(host) in C(nova.conf)). It distinguishes local from remote use, and
        names the host whose instances O(libvirt) reads.
      - The host's own name, unless O(config_file) sets another value.
    type: str
  config_file:
    description:
      - C(nova.conf) on the host, or several files, to read the options above from, under their present and their
        Icehouse names. Of an option that several files set, the last counts, as in oslo.config.
      - References such as C($state_path), C($my_ip) and C($host) are followed. An option given to the module wins.
      - Where it is one file and O(config_dir) is not given, C(nova.conf.d) and C(nova-compute.conf.d) beside it are
        read too, because nova reads them. Beside a file that is named C(nova.conf), so is C(nova-compute.conf).
      - Options that today's nova does not have are ignored with a warning if their value there is wrong.
    type: list
    elements: path
  config_dir:
    description:
      - Directories on the host whose C(*.conf) files are read after O(config_file), in the order of their names.
      - An empty list reads no directory.
    type: list
    elements: path
  instances:
    description:
      - Instances that may use the cache, as dictionaries. All hosts that share the storage count, not this one alone.
      - Either plain records with C(uuid) and, where known, C(name), C(image_ref), C(kernel_id), C(ramdisk_id),
        C(host), C(vm_state), C(task_state), C(swap_mb) and C(ephemeral_gb).
      - Or servers just as the Compute API or M(openstack.cloud.server_info) gives them.
      - While one of them cannot be understood, nothing is removed.
      - Nothing else of them is used. The log of the host and the result do not repeat them, but they are sent to the
        host; plain records spare it the user data that a server may carry.
    type: list
    elements: raw
  instances_complete_for:
    description:
      - Hosts whose instances are all among O(instances). A host with at least one instance there need not be named.
      - nova writes down which hosts use a storage. While a host that used it within 24 hours is not named here, has no
        instance in O(instances) and is not the one whose instances O(libvirt) reads, nothing is removed.
      - With this very host, on a local disk and with O(orphans=protect), it confirms that the host has no instance. The
        directories that still hold disks are orphans then.
    type: list
    elements: str
    default: []
  libvirt:
    description:
      - Whether to read this host's instances from libvirt's domain XML as well.
      - With V(false) and no O(instances), the disks in O(instances_path) alone show what is in use.
    type: bool
    default: true
  libvirt_config_path:
    description:
      - The directory in which libvirt keeps the persistent XML of its domains. While it cannot be read, nothing is
        removed.
    type: path
    default: /etc/libvirt/qemu
  orphans:
    description:
      - What to do about an orphan, a directory with disks that belongs to no instance of O(instances) or libvirt.
      - V(protect) keeps the files that back its disks.
      - V(ignore) does as nova does. The disks of an orphan are destroyed when the files that back them are removed.
        Soft-deleted servers are orphans where the Compute API was asked for its usual list.
      - With V(ignore), no directory counts as an orphan while nova's record of this storage (C(compute_nodes)) has a
        host, however long ago it used it, whose instances are unknown. Name the hosts that no longer exist in
        O(instances_complete_for).
    type: str
    choices: [protect, ignore]
    default: protect
  keep_images:
    description:
      - Images whose files are kept, in use or not. Each is an id, in upper or lower case; a name, where
        O(glance_images) has records with names, which keeps all images of that name; or a record of Glance's.
      - An entry that can match nothing is refused.
    type: list
    elements: raw
    default: []
  keep_files:
    description:
      - Names of files in the cache that are kept, in use or not, such as those that another member of a shared storage
        has open.
    type: list
    elements: str
    default: []
  keep_precached_seconds:
    description:
      - For how many seconds a file is kept, in use or not, after M(stackops.nova.image_cache_precache) has fetched it
        or found it there. V(0) keeps none for that reason.
      - It does not bind nova's own pass.
    type: int
    default: 604800
  glance_images:
    description:
      - The images that Glance still has, by their ids or as Glance's records with C(id) and C(name).
      - With it, RV(ignore:files[].in_glance) distinguishes a cached image that was deleted there from one that can be
        downloaded again, and unused images are known by their id. Records with names have the results and messages
        show these beside the ids.
      - For O(remove_only_deleted_images) and O(remove_deleted_images_minimum_age_seconds), it must have all images of
        this host's own cloud and region, those of all projects and the hidden ones included. The Image API leaves
        hidden images out unless it is asked for them (C(os_hidden=true)), and other projects' without
        C(visibility=all) and administrator's rights.
    type: list
    elements: raw
  shared_storage:
    description:
      - Whether other hosts use this storage too. Then RV(ignore:for_members) is the hand-off, which is what the
        storage's pruner has to know about this host.
      - If not given, it is shared if it is a network or cluster file system.
    type: bool
  storage_timeout_seconds:
    description:
      - For how many seconds the storage of O(instances_path), of the cache directory and of nova's locks may keep a
        first look at them waiting. Then the task fails and names the path that does not answer, because a look at a
        dead file server never ends.
      - Where a network, cluster or FUSE file system is mounted on the host, a short process of its own looks first. It
        is killed when the time is over.
    type: int
    default: 30
  max_used_space:
    description:
      - Remove only until the files of the cache take no more disk space than this, least recently used first.
        A number of bytes, one with a unit such as V(100G), or a percentage of the file system's size such as V(15%).
      - Together with O(min_free_space), until both hold. With neither, every removable file is removed.
      - A percentage is ignored with a warning if the file system reports no size.
    type: raw
  min_free_space:
    description:
      - Remove only until this much space is free on the cache's file system, least recently used first.
        A number of bytes, one with a unit such as V(100G), or a percentage of the file system's size such as V(15%).
      - Ignored with a warning if the file system reports no size, because it is unknown then how much is free.
    type: raw
  max_removals:
    description:
      - A limit. If more files than this would be removed, nothing is, and the task fails. No limit if it is not given.
    type: int
  max_removal_percent:
    description:
      - A limit. If more than this share of the cache's files would be removed, in percent, nothing is, and the task
        fails. No limit if it is not given.
    type: int
  checksum_base_images:
    description:
      - Whether to verify base files, which are images and their resized and small copies.
        M(stackops.nova.image_cache_prune) also saves the checksums that are missing, and when one was last verified.
        M(stackops.nova.image_cache_facts) and check mode only read and compare; check mode also lists the files whose
        checksum would be saved for the first time.
      - The checksum of a file is taken when it is verified for the first time, and from then on says whether the file
        changed. To know that a file was right to begin with, give O(known_checksums).
      - V(false), unless O(config_file) sets another value.
    type: bool
  checksum_interval_seconds:
    description:
      - For how many seconds a checksum that was saved or verified is trusted. The file is not read meanwhile.
      - V(3600) as in nova, unless O(config_file) sets another value. A day or a week is enough for most.
    type: int
  checksum_algorithm:
    description:
      - The algorithm of the checksums that are saved. V(sha1) is what nova wrote when it still did.
      - Each has a field of its own in the info file. Where a file has a checksum of another one only, it is compared
        with that before one of the new algorithm is saved.
    type: str
    choices: [sha1, sha256, sha512]
    default: sha1
  checksum_scope:
    description:
      - Which base files to verify. V(used) takes those in use, V(all) also those that are unused and kept.
    type: str
    choices: [used, all]
    default: used
  checksum_time_budget_seconds:
    description:
      - For how many seconds to verify. The files that were verified longest ago come first, and those that the time
        does not suffice for are deferred to the next run. So every file is verified once before any is verified again.
      - A file that is being read when the time is over is deferred too. A file that takes more than the whole time is
        never verified, and a warning names it.
      - Only M(stackops.nova.image_cache_prune) remembers what it verified. M(stackops.nova.image_cache_facts) begins
        with the same files each time.
      - No limit if it is not given.
    type: int
  checksum_max_rate:
    description:
      - How much to read a second, all files together. A number of bytes, or one with a unit such as V(100M).
      - No limit if it is not given. Verification always has the lowest priority for processor and disk.
    type: bytes
  known_checksums:
    description:
      - The checksums that images must have, by image id, such as those that Glance took when they were uploaded. Each
        is a dictionary with C(algorithm) and C(value), or an image as the Image API gives it, with C(os_hash_algo) and
        C(os_hash_value), or as M(openstack.cloud.image_info) does, with C(hash_algo) and C(hash_value).
      - An original is compared with it instead of with what is saved. Give those of raw images only, because nova
        converts others, so that what is in the cache is not what Glance has. An entry that has a C(disk_format) other
        than V(raw) is left out.
      - Resized and small copies are not compared with it, because they are not the image any more.
    type: dict
  fail_on_corrupt:
    description:
      - Whether the task fails if a base file is corrupt. It does so at the end, with everything done and the full
        result. There is a warning in any case.
    type: bool
    default: false
  details:
    description:
      - How much to return. V(summary) takes less than 4 KiB for a cache of any size, except for what a prune removes or
        cannot remove, which is always listed.
      - V(images) adds an entry for each image that is cached or used on this host, of about 300 bytes.
      - V(names) adds the names of the files by state, and the images in use. It shortens no list.
      - V(files) adds an entry for each file as well.
    type: str
    choices: [summary, images, names, files]
    default: summary
requirements:
  - C(qemu-img), C(timeout) and C(prlimit) on the host, only where a disk is in another format than raw or qcow2 or
    has an external data file. While such a disk cannot be read, nothing is removed.
notes:
  - Run it as C(root). As the C(nova) user it works too, but it cannot see which files the processes of other users have
    open, and cannot mark files as used that belong to QEMU.
  - A disk's chain of backing files is the proof of use. It is read from every C(disk*) in every directory of
    O(instances_path), and followed to its end, whatever the sources of instances say.
  - A base file that rots harms every guest on top of it, and nothing reports it, because nova stopped verifying base
    files in 2019. With O(checksum_base_images) they are read and compared with the checksums that are saved beside
    them, in nova's own info files and under nova's own locks, so that hosts with shared storage share the work. Corrupt
    files are returned as RV(ignore:corrupt) with the instances that use them, and in a warning. They are never
    repaired, and never removed for being corrupt.
  - What to do about one. Compare it with another host's copy, stop the instances that use it, and put a good copy in
    its place, from that host or from Glance. What guests wrote lies in their own disks and is not affected.
  - A file that changes or is replaced while it is read, or whose lock somebody holds, is skipped and never called
    corrupt.
"""

    WARN = r"""
options:
  warn:
    description:
      - Whether Ansible shows what this host warns of. Otherwise it is in RV(host_warnings).
      - The role shows the warnings of many hosts itself, once for all of them.
    type: bool
    default: true
"""

    GLANCE = r"""
options:
  glance:
    description:
      - Where the host fetches images from. Each needs a record in O(images), by whose checksum its bytes are proven.
    type: dict
    suboptions:
      endpoint:
        description: The URL of the Image API, as C(openstack endpoint list --service image) shows it.
        type: str
        required: true
      token:
        description:
          - What Keystone gave. It goes to no other host, port or scheme than those of O(glance.endpoint), and is in no
            result.
          - An application credential that can read images and do nothing else is enough.
        type: str
      region_name:
        description: The region that the endpoint is of. The role looks the endpoint up by it, and the module does not
          use it.
        type: str
      interface:
        description: Whether the endpoint is the C(public), C(internal) or C(admin) one. Used like
          O(glance.region_name).
        type: str
      ca_cert:
        description: A file on the host with the certificates to trust. Those that the host trusts if it is not given.
        type: path
      validate_certs:
        description: Whether the certificate of the server is verified.
        type: bool
        default: true
      timeout:
        description:
          - How many seconds a connection may take, and how many it may bring nothing. Over this time it also has to
            bring 10 KiB a second.
          - A transfer that was cut goes on where it was cut, a few times.
        type: float
        default: 60.0
  qemu_img:
    description:
      - The command that converts qcow2 images, with arguments before its own if need be. It is run as the owner of the
        cache, and must be able to open C(/proc/self/fd).
      - C(qemu-img) in C(PATH) if it is not given.
    type: str
"""

    PEERS = r"""
options:
  peers:
    description:
      - What other hosts have, by the names of base files. Each is a dictionary with C(hosts), C(size_bytes),
        C(algorithm), C(checksum) and, if that is known, C(allocated_bytes).
      - C(hosts) are tried in their order. Each is a dictionary with C(host), a name or an address for C(ssh), perhaps
        with a user and C(@) before it, and C(path), the absolute path of the file there.
      - The bytes are believed only if there are C(size_bytes) of them and they have the checksum. C(algorithm) is
        V(sha256) or V(sha512). The checksum has to come from elsewhere than the host that sends the bytes, such as from
        Glance or from two other hosts that have the file and agree.
      - C(allocated_bytes) is the space that the file takes there, and may be less than C(size_bytes) because of holes.
        Free space is reckoned with it, and with C(size_bytes) if it is not given.
      - Only files that come from images can be fetched from another host. A swap or ephemeral template differs from
        host to host.
    type: dict
    default: {}
  peer_command:
    description:
      - The command that logs in to another host, word by word. C(--), the host and C(cat -- PATH) are added to it.
      - It is run as the owner of the cache directory, so that nova's own key and C(known_hosts) count. ssh checks the
        key of the other host as that user's configuration says.
      - Replace it where ssh listens on another port, or where the other host allows nothing but a command of its own.
    type: list
    elements: str
    default:
      - ssh
      - -T
      - -a
      - -x
      - -o
      - BatchMode=yes
      - -o
      - ClearAllForwardings=yes
      - -o
      - Compression=no
      - -o
      - ConnectTimeout=10
      - -o
      - ControlMaster=no
      - -o
      - ControlPath=none
      - -o
      - LogLevel=ERROR
"""
