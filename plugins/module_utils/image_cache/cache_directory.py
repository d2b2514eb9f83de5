# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The cache directory, opened: without what it takes to read it, so that little is imported."""

from __future__ import annotations

import errno
import os

from .errors import ImageCacheError, reason_and_remedy
from .files import DIRECTORY_FLAGS
from .settings import Settings
from .storage import may_hang
from .text import printable

__all__ = ["free_bytes", "open_cache", "require_storage"]


def require_storage(settings: Settings) -> None:
    """Make sure that the storages of a pass answer, where one may hang for ever.

    :raises ImageCacheError: one does not.
    """
    if may_hang():
        # Here, so that a pass over local disks alone does not pay for it.
        from .storage_probe import require_answer

        require_answer(
            [settings.instances_path, settings.cache_path, settings.locks_path], settings.storage_timeout_seconds
        )


def open_cache(settings: Settings) -> int | None:
    """Open the cache directory, following no link.

    :return: a descriptor for the caller to close; None where there is no cache directory yet.
    :raises ImageCacheError: there is no ``instances_path``, or the cache is not a directory of its own.
    """
    path = settings.cache_path
    try:
        return os.open(path, DIRECTORY_FLAGS)
    except FileNotFoundError:
        if os.path.isdir(settings.instances_path):
            return None
        raise _no_instances_path(settings) from None
    except OSError as exc:
        if exc.errno == errno.ENOTDIR and not os.path.isdir(settings.instances_path):
            raise _no_instances_path(settings) from exc
        if exc.errno in (errno.ELOOP, errno.ENOTDIR):
            raise ImageCacheError(
                f"The cache directory {printable(path)} is a link or not a directory, and is left alone. "
                f"If it is meant to lie elsewhere, mount that at {printable(path)}."
            ) from exc
        raise ImageCacheError(
            f"The cache directory {printable(path)} cannot be opened: {reason_and_remedy(exc)}."
        ) from exc


def free_bytes(cache: int) -> int | None:
    """Return how much is free on the file system of the cache; None where it does not say.

    :param cache: descriptor of the cache directory.
    """
    try:
        space = os.fstatvfs(cache)
    except OSError:  # what was done is known all the same
        return None
    return space.f_bavail * space.f_frsize if space.f_blocks else None


def _no_instances_path(settings: Settings) -> ImageCacheError:
    # Here, so that a pass that finds its directory does not pay for it. Those of other layouts may not answer, either.
    from .layouts import LAYOUTS, remedy_by_layout

    if may_hang():
        from .storage_probe import require_answer

        require_answer([layout.instances_path for layout in LAYOUTS], settings.storage_timeout_seconds)
    remedy = remedy_by_layout() or "Set instances_path to the path that this directory has on the host."
    return ImageCacheError(
        f"instances_path {printable(settings.instances_path)} does not exist on this host, or is not a directory: "
        f"{settings.instances_path_source}. {remedy}"
    )
