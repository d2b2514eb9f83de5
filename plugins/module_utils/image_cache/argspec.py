# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of the modules, and what they mean to the core."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Mapping

from .instances import Instances, merge_instances
from .settings import DETAILS, Settings, make_settings
from .text import some_names

if TYPE_CHECKING:
    from .nova_conf import NovaConf

__all__ = [
    "argument_spec",
    "audit_argument_spec",
    "has_instance_source",
    "instances_from_params",
    "precache_argument_spec",
    "restore_argument_spec",
    "settings_from_params",
]


# no_log on all of it: a token under a misspelt name must not be shown either.
_GLANCE: dict[str, Any] = {
    "type": "dict",
    "no_log": True,
    "options": {
        "endpoint": {"type": "str", "required": True},
        "token": {"type": "str", "no_log": True},
        "region_name": {"type": "str"},
        "interface": {"type": "str"},
        "ca_cert": {"type": "path"},
        "validate_certs": {"type": "bool", "default": True},
        "timeout": {"type": "float", "default": 60.0},
    },
}

# What ssh must not do is said here, because nova's own configuration of it serves other ends.
_PEER_COMMAND = [
    "ssh", "-T", "-a", "-x",
    "-o", "BatchMode=yes",
    "-o", "ClearAllForwardings=yes",
    "-o", "Compression=no",
    "-o", "ConnectTimeout=10",
    "-o", "ControlMaster=no",
    "-o", "ControlPath=none",
    "-o", "LogLevel=ERROR",
]  # fmt: skip
_PEERS: dict[str, dict[str, Any]] = {
    "peers": {"type": "dict", "default": {}},
    "peer_command": {"type": "list", "elements": "str", "default": _PEER_COMMAND},
}


def argument_spec() -> dict[str, dict[str, Any]]:
    """Return the options that all modules share; the fragment ``image_cache`` documents them word for word."""
    return {
        "instances_path": {"type": "path"},
        "image_cache_subdirectory_name": {"type": "str"},
        "image_info_filename_pattern": {"type": "str"},
        "remove_unused_base_images": {"type": "bool"},
        "remove_unused_original_minimum_age_seconds": {"type": "int"},
        "remove_unused_resized_minimum_age_seconds": {"type": "int"},
        "remove_unused_kernels": {"type": "bool"},
        "remove_only_deleted_images": {"type": "bool", "default": False},
        "remove_deleted_images_minimum_age_seconds": {"type": "int"},
        "host": {"type": "str"},
        "config_file": {"type": "list", "elements": "path"},
        "config_dir": {"type": "list", "elements": "path"},
        "instances": {"type": "list", "elements": "raw", "no_log": True},
        "instances_complete_for": {"type": "list", "elements": "str", "default": []},
        "libvirt": {"type": "bool", "default": True},
        "libvirt_config_path": {"type": "path", "default": "/etc/libvirt/qemu"},
        "orphans": {"type": "str", "choices": ["protect", "ignore"], "default": "protect"},
        "keep_images": {"type": "list", "elements": "raw", "default": []},
        "keep_files": {"type": "list", "elements": "str", "default": []},
        "keep_precached_seconds": {"type": "int", "default": 604800},
        "glance_images": {"type": "list", "elements": "raw"},
        "shared_storage": {"type": "bool"},
        "storage_timeout_seconds": {"type": "int", "default": 30},
        "max_used_space": {"type": "raw"},
        "min_free_space": {"type": "raw"},
        "max_removals": {"type": "int"},
        "max_removal_percent": {"type": "int"},
        "checksum_base_images": {"type": "bool"},
        "checksum_interval_seconds": {"type": "int"},
        "checksum_algorithm": {"type": "str", "choices": ["sha1", "sha256", "sha512"], "default": "sha1"},
        "checksum_scope": {"type": "str", "choices": ["used", "all"], "default": "used"},
        "checksum_time_budget_seconds": {"type": "int"},
        "checksum_max_rate": {"type": "bytes"},
        "known_checksums": {"type": "dict"},
        "fail_on_corrupt": {"type": "bool", "default": False},
        "details": {"type": "str", "choices": list(DETAILS), "default": "summary"},
    }


def audit_argument_spec() -> dict[str, dict[str, Any]]:
    """Return the argument spec of ``image_cache_facts`` and ``image_cache_prune``: the shared options, and theirs."""
    return {**argument_spec(), "warn": {"type": "bool", "default": True}}


def restore_argument_spec() -> dict[str, dict[str, Any]]:
    """Return the argument spec of ``image_cache_restore``: the shared options, and its own."""
    return {
        **argument_spec(),
        "states": {
            "type": "list",
            "elements": "str",
            "choices": ["missing", "replaced", "corrupt"],
            "default": ["missing"],
        },
        "names": {"type": "list", "elements": "str"},
        "images": {"type": "list", "elements": "dict", "default": []},
        "files": {"type": "dict", "default": {}},
        "unproven": {"type": "list", "elements": "str", "default": []},
        "max_rate": {"type": "bytes"},
        "glance": _GLANCE,
        "qemu_img": {"type": "str"},
        **_PEERS,
        "checksums_of": {"type": "list", "elements": "str", "default": []},
    }


def precache_argument_spec() -> dict[str, dict[str, Any]]:
    """Return the argument spec of ``image_cache_precache``: the shared options, and its own."""
    return {
        **argument_spec(),
        "images": {"type": "list", "elements": "dict", "required": True},
        "glance": _GLANCE,
        "files": {"type": "dict", "default": {}},
        "qemu_img": {"type": "str"},
        "max_rate": {"type": "bytes"},
        "allow_unverified_signatures": {"type": "bool", "default": False},
        **_PEERS,
    }


def settings_from_params(params: Mapping[str, Any]) -> Settings:
    """Make the settings of a pass from the module's options, and the nova.conf that they name.

    :raises ImageCacheError: an option, or the file, is wrong.
    """
    files, directories = params["config_file"], params["config_dir"]
    if not files and not directories:
        return _with_source(make_settings(params, {}, hostname=socket.gethostname()), params, None)
    # Here, so that a pass without a configuration file does not pay for its parser.
    from .nova_conf import read_nova_conf

    configured = read_nova_conf(files or (), directories, params)
    settings = make_settings(params, configured, hostname=socket.gethostname())
    settings = settings._replace(warnings=(*configured.ignored, *settings.warnings))
    return _with_source(settings, params, configured)


def _with_source(settings: Settings, params: Mapping[str, Any], configured: NovaConf | None) -> Settings:
    """Add who set ``instances_path``, for the message where it does not exist."""
    if params["instances_path"] is not None:
        source = "the option instances_path names it"
    elif configured is None:
        source = "it is nova's default, because neither instances_path nor config_file was given"
    else:
        setting = "set it" if "instances_path" in configured else "do not set it, and it is nova's default"
        files = some_names(configured.files)
        source = f"the files of config_file and config_dir ({files}) {setting}, perhaps for a container"
    return settings._replace(instances_path_source=source)


def has_instance_source(params: Mapping[str, Any]) -> bool:
    """Return whether the module's options name any source of instances; without one, no directory is an orphan."""
    return params["instances"] is not None or bool(params["libvirt"])


def instances_from_params(params: Mapping[str, Any], host: str) -> Instances:
    """Collect the instances from the sources that the module's options name."""
    return merge_instances(
        records=params["instances"],
        hosts=params["instances_complete_for"],
        libvirt_config_path=params["libvirt_config_path"] if params["libvirt"] else None,
        host=host,
    )
