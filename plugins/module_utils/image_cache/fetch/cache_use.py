# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether and how nova uses the cache of this host, as its configuration says and as the disk shows."""

from __future__ import annotations

import os
from typing import Any, Mapping, NamedTuple

from ..errors import ImageCacheError, reason_and_remedy
from ..settings import Settings, read_boolean
from ..text import printable

__all__ = ["CacheUse", "read_cache_use", "why_not_mounted", "why_not_used"]

_IMAGES_TYPE = "default"
_WITH_BASE_FILES = (_IMAGES_TYPE, "qcow2")
_VERIFICATION = ("verify_glance_signatures", "enable_certificate_validation")


class CacheUse(NamedTuple):
    """What nova's configuration says, or its defaults (``nova/conf/libvirt.py``, ``compute.py``, ``glance.py``).

    :param images_type: where disks are, and in which format.
    :param use_cow_images: whether they are built on base files, where ``images_type`` does not say it.
    :param force_raw_images: whether nova converts an image to raw before it caches it.
    :param verification: the options by which nova verifies the signature of each image that it downloads.
    """

    images_type: str = _IMAGES_TYPE
    use_cow_images: bool = True
    force_raw_images: bool = True
    verification: tuple[str, ...] = ()


def read_cache_use(params: Mapping[str, Any]) -> CacheUse:
    """Read how nova uses its cache.

    :param params: the module's options; without a configuration file, nova's defaults count.
    :raises ImageCacheError: the configuration cannot be read or understood.
    """
    files, directories = params["config_file"], params["config_dir"]
    if not files and not directories:
        return CacheUse()
    from ..nova_conf import CACHING_LOCATIONS, read_nova_conf

    found = read_nova_conf(files or (), directories, params, CACHING_LOCATIONS)
    truths = {name: read_boolean(name, value) for name, value in found.items() if name != "images_type"}
    return CacheUse(
        images_type=found.get("images_type", _IMAGES_TYPE),
        use_cow_images=truths.get("use_cow_images", True),
        force_raw_images=truths.get("force_raw_images", True),
        verification=tuple(name for name in _VERIFICATION if truths.get(name)),
    )


def why_not_used(use: CacheUse) -> str:
    """Say why nova builds no disk of this host on a file of its cache.

    :return: two sentences; empty where it does.
    """
    if use.images_type not in _WITH_BASE_FILES:
        return (
            f"nova.conf sets images_type to {printable(use.images_type)}, and disks of that type are not built on "
            f"files of the cache. Run it for other hosts (--limit), or correct config_file."
        )
    if use.images_type == _IMAGES_TYPE and not use.use_cow_images:
        return (
            "nova.conf sets use_cow_images to false, and such disks are not built on files of the cache. Run it "
            "for other hosts (--limit), or correct config_file."
        )
    return ""


def why_not_mounted(settings: Settings) -> str:
    """Say why the cache directory, which does not exist, must not be made.

    What was meant to be mounted would hide it, with all that it takes of the root file system.

    :return: two sentences; empty where nova's other files are there.
    :raises ImageCacheError: the directory cannot be listed.
    """
    path = printable(settings.instances_path)
    try:
        with os.scandir(settings.instances_path) as entries:
            is_empty = next(entries, None) is None
    except OSError as exc:
        raise ImageCacheError(f"instances_path {path} cannot be listed: {reason_and_remedy(exc)}.") from exc
    if not is_empty:
        return ""
    return (
        f"instances_path {path} is empty, so what belongs there may not be mounted. Mount it (mount). On a host where "
        f"nova has never run, start nova-compute first, which makes its files there."
    )
