# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When the unused files of a cache were pre-cached, as their info files say."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Iterable

from .cache_directory import open_cache
from .names import Kind, info_path
from .settings import Settings
from .snapshot import CacheFile, Snapshot

__all__ = ["read_precached"]


def read_precached(files: Iterable[CacheFile], snapshot: Snapshot, settings: Settings) -> dict[str, float]:
    """Read when some files were last pre-cached.

    An info file that cannot be read keeps nothing: it is of a file that nobody needs.

    :param files: the files.
    :param snapshot: what was found on the host. Where an info file lies beside its file, it shows which there are.
    :param settings: the options.
    :return: unix seconds, by the names of those that were.
    :raises ImageCacheError: something else is in the place of the cache directory now.
    """
    pattern = settings.image_info_filename_pattern
    name_pattern = os.path.basename(pattern)
    is_in_cache = os.path.dirname(pattern) == settings.cache_path
    there = {file.name for file in snapshot.files if file.kind is Kind.OTHER} if is_in_cache else set()
    if is_in_cache and not there:
        return {}
    info_names = {file.name: info_path(name_pattern, file.name) for file in files if file.kind is Kind.ORIGINAL}
    if is_in_cache:
        info_names = {name: info_name for name, info_name in info_names.items() if info_name in there}
    cache = open_cache(settings) if info_names else None
    if cache is None:
        return {}
    # Here, so that a pass over a cache without info files does not pay for it.
    from .info_files import info_directory, read_precached_at

    found = {}
    try:
        with suppress(OSError), info_directory(pattern, settings.cache_path, cache) as directory:
            for name, info_name in info_names.items():
                precached_at = read_precached_at(info_name, directory)
                if precached_at is not None:
                    found[name] = precached_at
    finally:
        os.close(cache)
    return found
