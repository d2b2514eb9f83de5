# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nova's lock for one file of the cache, while that file gets its name."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import Iterator

from ..errors import ImageCacheError
from ..files import DIRECTORY_FLAGS
from ..info_files import held_lock
from ..lock_state import look_at_lock
from ..locks import acquire, open_locks_directory, release
from ..names import LOCKS_DIRECTORY, lock_name
from ..settings import Settings
from ..text import printable

__all__ = ["hold_novas_lock", "why_lock_is_unusable"]

_WAIT_SECONDS = 30.0


@contextmanager
def hold_novas_lock(settings: Settings, name: str) -> Iterator[None]:
    """Hold nova's lock for a file, for as long as the block lasts.

    :param name: the file's name.
    :raises ImageCacheError: another process holds it.
    :raises OSError: it cannot be used.
    """
    locks = open_locks_directory(settings.instances_path, LOCKS_DIRECTORY)
    try:
        lock = acquire(locks, lock_name(name), _WAIT_SECONDS)
        if lock is None:
            raise ImageCacheError(f"nova's lock on it could not be taken: {held_lock(lock_name(name))}.")
        try:
            yield
        finally:
            release(lock, remove_file=False)
    finally:
        os.close(locks)


def why_lock_is_unusable(settings: Settings, name: str) -> str:
    """Say why :func:`hold_novas_lock` would fail for good, found without trying, so that a dry run knows it too.

    :param name: the file's name.
    :return: two sentences; empty where it would not.
    :raises OSError: the kernel does not answer.
    """
    path, lock = settings.locks_path, lock_name(name)
    try:
        directory = os.open(path, DIRECTORY_FLAGS)
    except FileNotFoundError:
        return ""  # it is made
    try:
        if not look_at_lock(directory, lock).is_unusable:
            return ""
    finally:
        os.close(directory)
    return (
        f"nova's lock file {printable(os.path.join(path, lock))} cannot be used. Look at what it is and whom it "
        f"belongs to (ls -l, lsattr)."
    )
