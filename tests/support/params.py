# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a module hands to the core: its options, and a way to run a command."""

from __future__ import annotations

import subprocess
from typing import Any

# Whatever nova.conf may say is None unless it is given: only so does an option win over `config_file`.
DEFAULTS: dict[str, Any] = {
    "instances_path": None,
    "image_cache_subdirectory_name": None,
    "image_info_filename_pattern": None,
    "remove_unused_base_images": None,
    "remove_unused_original_minimum_age_seconds": None,
    "remove_unused_resized_minimum_age_seconds": None,
    "remove_unused_kernels": None,
    "remove_only_deleted_images": False,
    "remove_deleted_images_minimum_age_seconds": None,
    "host": None,
    "config_file": None,
    "config_dir": None,
    "instances": None,
    "instances_complete_for": [],
    "libvirt": True,
    "libvirt_config_path": "/etc/libvirt/qemu",
    "orphans": "protect",
    "keep_images": [],
    "keep_files": [],
    "keep_precached_seconds": 604800,
    "glance_images": None,
    "shared_storage": None,
    "storage_timeout_seconds": 30,
    "max_used_space": None,
    "min_free_space": None,
    "max_removals": None,
    "max_removal_percent": None,
    "checksum_base_images": None,
    "checksum_interval_seconds": None,
    "checksum_algorithm": "sha1",
    "checksum_scope": "used",
    "checksum_time_budget_seconds": None,
    "checksum_max_rate": None,
    "known_checksums": None,
    "fail_on_corrupt": False,
    "details": "summary",
}

# How a host reaches another one, unless an operator says otherwise.
PEER_COMMAND = [
    "ssh", "-T", "-a", "-x",
    "-o", "BatchMode=yes",
    "-o", "ClearAllForwardings=yes",
    "-o", "Compression=no",
    "-o", "ConnectTimeout=10",
    "-o", "ControlMaster=no",
    "-o", "ControlPath=none",
    "-o", "LogLevel=ERROR",
]  # fmt: skip

# What image_cache_restore has besides.
RESTORE_DEFAULTS: dict[str, Any] = {
    "states": ["missing"],
    "names": None,
    "images": [],
    "files": {},
    "unproven": [],
    "max_rate": None,
    "glance": None,
    "qemu_img": None,
    "peers": {},
    "peer_command": PEER_COMMAND,
    "checksums_of": [],
}

# What image_cache_precache has besides; `images` must be given.
PRECACHE_DEFAULTS: dict[str, Any] = {
    "glance": None,
    "files": {},
    "qemu_img": None,
    "max_rate": None,
    "allow_unverified_signatures": False,
    "peers": {},
    "peer_command": PEER_COMMAND,
}


def params(**given: Any) -> dict[str, Any]:
    """All options of the modules: the given ones, and the rest as they are when left out."""
    unknown = given.keys() - DEFAULTS.keys()
    if unknown:
        raise TypeError(f"no such option: {', '.join(sorted(unknown))}")
    return {**DEFAULTS, **given}


def run_command(command: list[str]) -> tuple[int, str, str]:
    """Run a command as `AnsibleModule.run_command` would."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr
