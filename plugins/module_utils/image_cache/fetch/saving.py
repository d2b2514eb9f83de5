# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is saved in the info file beside a file that was put in place, and what an earlier pass has saved there."""

from __future__ import annotations

import os
from typing import Mapping

from ..info_files import TIMESTAMP, info_directory, read_info, save_info
from ..locks import open_locks_directory
from ..names import LOCKS_DIRECTORY, info_path
from ..saved_checksums import read_saved_checksums
from ..settings import Settings

__all__ = ["checksum_facts", "read_digests_of", "save_facts"]


def read_digests_of(settings: Settings, cache: int, name: str) -> Mapping[str, str]:
    """Return the checksums that are saved of a file, by algorithm.

    :param cache: descriptor of the cache directory.
    :param name: the file's name.
    :raises OSError: the directory of its info file cannot be opened.
    """
    pattern = settings.image_info_filename_pattern
    with info_directory(pattern, settings.cache_path, cache) as directory:
        info = read_info(os.path.basename(info_path(pattern, name)), directory)
        return read_saved_checksums(info, name, "sha1", cache).digests


def checksum_facts(digests: Mapping[str, str], now: float) -> dict[str, object]:
    """Return what is saved of checksums, by algorithm, that were found now, in unix seconds."""
    facts: dict[str, object] = {}
    for algorithm, value in digests.items():
        facts.update({algorithm: value, algorithm + TIMESTAMP: now})
    return facts


def save_facts(settings: Settings, cache: int, name: str, facts: Mapping[str, object], is_shared: bool) -> None:
    """Save facts of a file.

    :param cache: descriptor of the cache directory.
    :param name: the file's name.
    :param facts: what is saved beside what its info file has.
    :param is_shared: whether other hosts may have the same files, so that the lock file is kept.
    :raises ImageCacheError: the lock on the info file is held, or cannot be used.
    :raises OSError: it cannot be written.
    """
    pattern = settings.image_info_filename_pattern
    locks = open_locks_directory(settings.instances_path, LOCKS_DIRECTORY)
    try:
        with info_directory(pattern, settings.cache_path, cache) as directory:
            save_info(pattern, name, facts, directory=directory, locks=locks, keep_lock_file=is_shared)
    finally:
        os.close(locks)
