# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pre-caching images, from options to result: the door that ``image_cache_precache`` uses."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any, Mapping, Sequence

from .argspec import settings_from_params
from .cache_directory import free_bytes, open_cache, require_storage
from .errors import ImageCacheError, reason_and_remedy, remedy_for_rights
from .fetch.cache_use import read_cache_use, why_not_mounted, why_not_used
from .fetch.converter import find_converter
from .fetch.module import FetchResult
from .fetch.options import read_files, read_glance_option, read_peers_option, read_rate_limiter
from .fetch.place import remove_left_drafts
from .fetch.precaching import Fetched, NotFetched, Policy, Precacher, Source, cached_sizes, decide, look_at_space
from .fetch.records import ImageRecord, read_records
from .files import DIRECTORY_FLAGS
from .names import fingerprint
from .obstacles import can_create_owned_by_nova, why_nothing_can_be_removed
from .settings import Settings
from .storage import Storage, find_storage
from .text import printable

__all__ = ["precache"]

_MODE = 0o755


def precache(params: Mapping[str, Any], now: float, check_mode: bool) -> FetchResult:
    """Put images in a host's image cache, before a server needs them.

    :param params: the module's options.
    :param now: the time, in unix seconds.
    :param check_mode: find sources and obstacles, connect to nothing, and write nothing.
    :return: what was done. The failure of one image does not stop the others.
    :raises ImageCacheError: an option is wrong, or the cache cannot be looked at; nothing was done.
    """
    records = read_records(params["images"])
    source = Source(
        files=read_files(params["files"]),
        glance=read_glance_option(params["glance"]),
        peers=read_peers_option(params),
        rate_limiter=read_rate_limiter(params["max_rate"]),
    )
    use = read_cache_use(params)
    settings = settings_from_params(params)
    require_storage(settings)
    with ExitStack() as closing:
        try:
            # The cache directory; until it is made, the one that it is made in.
            directory, exists, obstacle = _open_cache(settings, why_not_used(use))
            closing.callback(os.close, directory)
            policy = Policy(
                use, find_converter(params["qemu_img"], os.fstat(directory)), params["allow_unverified_signatures"]
            )
            cached, cached_bytes = cached_sizes(directory) if exists else ({}, 0)
            space = look_at_space(directory, cached_bytes, settings)
            decision = decide(records, cached, source, policy, space, obstacle)
            if not check_mode:
                if exists:
                    remove_left_drafts(directory)
                elif decision.wanted:
                    directory, exists = _make_cache(settings), True
                    closing.callback(os.close, directory)
            path = settings.cache_path if exists else settings.instances_path
            storage = find_storage(path, settings.shared_storage)
        except OSError as exc:
            raise ImageCacheError(
                f"The cache directory {printable(settings.cache_path)} cannot be read: {reason_and_remedy(exc)}."
            ) from exc
        precacher = Precacher(settings, directory, source, policy, now, storage.shared, check_mode)
        precacher.run(decision)
        return _result(settings, precacher, directory, storage if exists else None, check_mode)


def _open_cache(settings: Settings, not_used: str) -> tuple[int, bool, str]:
    """Open the cache directory or, where nova has not made it yet, ``instances_path``.

    :param not_used: why nova does not use the cache; empty where it does.
    :return: a descriptor, whether it is that of the cache, and why no file can be put in place.
    """
    cache = open_cache(settings)
    if cache is None:
        obstacle = not_used or why_not_mounted(settings) or _why_not_ours(settings.instances_path)
        return os.open(settings.instances_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), False, obstacle
    path = settings.cache_path
    blocked = why_nothing_can_be_removed(cache, path, settings.locks_path)
    return cache, True, not_used or blocked or _why_not_ours(path)


def _why_not_ours(path: str) -> str:
    if can_create_owned_by_nova(path):
        return ""
    return f"This user may make no file in {printable(path)} for nova. {remedy_for_rights()}."


def _make_cache(settings: Settings) -> int:
    """Make the cache directory as nova's own, and open it."""
    path = settings.cache_path
    try:
        os.mkdir(path, _MODE)
        cache = os.open(path, DIRECTORY_FLAGS)
        try:
            owner = os.stat(settings.instances_path)
            os.fchmod(cache, _MODE)
            os.fchown(cache, owner.st_uid, owner.st_gid)
        except OSError:
            os.close(cache)
            os.rmdir(path)  # nova could make no file in it
            raise
        return cache
    except OSError as exc:
        raise ImageCacheError(
            f"The cache directory {printable(path)} could not be made: {reason_and_remedy(exc)}."
        ) from exc


def _result(
    settings: Settings, precacher: Precacher, cache: int, storage: Storage | None, check_mode: bool
) -> FetchResult:
    done = {
        "check_mode": check_mode,
        "cache_path": printable(settings.cache_path),
        "host": printable(settings.host),
        "storage_id": None if storage is None else printable(storage.id),
        "shared_storage": None if storage is None else storage.shared,
        "fetched": [_fetched(each, settings) for each in precacher.fetched],
        "present": [_image(record, settings) for record in precacher.present],
        "refused": [{**_image(each.record, settings), "reason": each.reason} for each in precacher.refused],
        "failed": [{**_image(each.record, settings), "error": each.reason} for each in precacher.failed],
        "free_bytes": free_bytes(cache),
    }
    error = _error([*precacher.failed, *precacher.refused], settings)
    return FetchResult(done, bool(precacher.fetched), list(settings.warnings), error)


def _image(record: ImageRecord, settings: Settings) -> dict[str, Any]:
    name = settings.image_name(record.image_id) if record.image_name is None else printable(record.image_name)
    return {
        "name": fingerprint(record.image_id),
        "image_id": printable(record.image_id),
        "image_name": name,
    }


def _fetched(fetched: Fetched, settings: Settings) -> dict[str, Any]:
    return {
        **_image(fetched.record, settings),
        "source": fetched.source,
        "source_path": printable(fetched.source_path),
        "contacted": fetched.contacted,
        "proof": fetched.proof,
        "read_bytes": fetched.read_bytes,
        "size_bytes": fetched.size_bytes,
        "allocated_bytes": fetched.allocated_bytes,
        "seconds": fetched.seconds,
        "algorithm": fetched.algorithm,
        "checksum": fetched.checksum,
    }


def _error(lacking: Sequence[NotFetched], settings: Settings) -> str | None:
    if not lacking:
        return None
    images = "1 image" if len(lacking) == 1 else f"{len(lacking)} images"
    return (
        f"{images} could not be pre-cached in {printable(settings.cache_path)}. {lacking[0].reason} See "
        f"image_cache_precache.refused and image_cache_precache.failed in the result for each."
    )
