# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restoring base files, from options to result: the door that ``image_cache_restore`` uses."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any, Mapping

from .argspec import settings_from_params
from .audit import inspect_and_plan, verify
from .backing_chain import RunCommand
from .cache_directory import free_bytes, open_cache, require_storage
from .errors import ImageCacheError
from .fetch.candidates import Candidate, State, find_candidates
from .fetch.choosing import Given
from .fetch.module import FetchResult
from .fetch.options import read_files, read_glance_option, read_peers_option, read_rate_limiter
from .fetch.place import remove_left_drafts
from .fetch.placing import SetAside
from .fetch.records import KEPT_FORMATS, read_records
from .fetch.restoring import NotRestored, Restored, Restorer
from .fetch.witness import ALGORITHM, read_checksums
from .hashing import RateLimiter, run_at_idle_priority
from .inspection import Inspection
from .known_checksums import parse_known_checksums
from .names import Kind, parse_name
from .settings import Settings
from .snapshot import names_by_inode, read_disks
from .storage import Storage, find_storage
from .text import printable, printable_names

__all__ = ["restore"]


def restore(params: Mapping[str, Any], now: float, run_command: RunCommand, check_mode: bool) -> FetchResult:
    """Put base files that are missing, replaced or corrupt back in place, where their content can be proven.

    :param params: the module's options.
    :param now: the time, in unix seconds.
    :param run_command: how ``qemu-img`` is run, where a disk's header is not enough.
    :param check_mode: find sources and proofs, and write nothing.
    :return: what was done. The failure of one file does not stop the others.
    :raises ImageCacheError: an option is wrong, or the cache cannot be looked at; nothing was done.
    """
    given = _given(params)
    rate_limiter = read_rate_limiter(params["max_rate"])
    if params["checksums_of"]:
        return _read_checksums(params, rate_limiter, run_command, check_mode)
    states = frozenset(State(state) for state in params["states"])
    if State.CORRUPT in states:
        params = {**params, "checksum_base_images": True, "known_checksums": _expected_checksums(given, params)}
    inspection = inspect_and_plan(params, now, run_command)
    if State.CORRUPT in states:
        inspection = verify(inspection, run_command)
    with ExitStack() as closing:
        cache = open_cache(inspection.settings)
        if cache is None:
            return _result(inspection, None, None, check_mode)
        closing.callback(os.close, cache)
        if not check_mode:
            remove_left_drafts(cache)
        settings, snapshot = inspection.settings, inspection.snapshot
        restorer = Restorer(
            inspection,
            given,
            cache,
            rate_limiter,
            check_mode,
            lambda: read_disks(settings, names_by_inode(snapshot.files), snapshot.external_disks, run_command),
        )
        names = params["names"]
        for candidate in _in_order(_candidates(inspection, states, run_command, closing)):
            if names is None or printable(candidate.name) in names:
                restorer.restore(candidate)
        return _result(inspection, restorer, free_bytes(cache), check_mode)


def _read_checksums(
    params: Mapping[str, Any], rate_limiter: RateLimiter, run_command: RunCommand, check_mode: bool
) -> FetchResult:
    """Read the checksums of some files, and do nothing else."""
    settings = settings_from_params(params)
    require_storage(settings)
    with ExitStack() as closing:
        cache = open_cache(settings)
        if cache is None:
            return FetchResult(_nothing_done(settings, None, None, check_mode), False, list(settings.warnings), None)
        closing.callback(os.close, cache)
        storage = find_storage(settings.cache_path, settings.shared_storage)
        names = params["checksums_of"]
        checksums, problems = run_at_idle_priority(lambda: read_checksums(names, cache, rate_limiter), run_command)
        done = _nothing_done(settings, storage, free_bytes(cache), check_mode)
        done["checksums"] = [{**each._asdict(), "algorithm": ALGORITHM} for each in checksums]
        return FetchResult(done, False, [*settings.warnings, *problems], None)


def _candidates(
    inspection: Inspection, states: frozenset[State], run_command: RunCommand, closing: ExitStack
) -> list[Candidate]:
    settings, snapshot, plan, _now, verification, _orphans = inspection
    corrupt = verification.corrupt if verification and State.CORRUPT in states else ()
    missing = [lost for lost in plan.missing if (State.REPLACED if lost.replaced else State.MISSING) in states]
    return find_candidates(missing, corrupt, plan, snapshot, settings, run_command, closing)


def _in_order(candidates: list[Candidate]) -> list[Candidate]:
    """Sort files: first those that processes have open, those with the fewest guests before the others."""
    return sorted(candidates, key=lambda each: (not each.proven, len(each.guests), each.name))


def _given(params: Mapping[str, Any]) -> Given:
    for option in ("names", "unproven", "checksums_of"):
        for name in params[option] or ():
            if parse_name(name).kind in (Kind.OTHER, Kind.PARTIAL):
                raise ImageCacheError(
                    f"{option} has {printable(name)!r}, which is not the name of a base file. Set {option}: to names "
                    f"as the result has them, without a directory."
                )
    return Given(
        files=read_files(params["files"]),
        records=read_records(params["images"]),
        known=parse_known_checksums(params["known_checksums"] or {}),
        unproven=frozenset(params["unproven"]),
        glance=read_glance_option(params["glance"]),
        qemu_img=params["qemu_img"],
        peers=read_peers_option(params),
    )


def _expected_checksums(given: Given, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what base files are compared with: the checksums of images that nova caches as they are, and the known."""
    of_records = {
        record.image_id: {"algorithm": record.algorithm, "value": record.checksum}
        for record in given.records.values()
        if record.algorithm is not None and record.disk_format in KEPT_FORMATS
    }
    return {**of_records, **(params["known_checksums"] or {})}


def _result(inspection: Inspection, restorer: Restorer | None, free: int | None, check_mode: bool) -> FetchResult:
    settings, snapshot = inspection.settings, inspection.snapshot
    done = _nothing_done(settings, snapshot.storage, free, check_mode)
    warnings = list(snapshot.warnings)
    if restorer is None:
        return FetchResult(done, False, warnings, None)
    image_ids = {
        **inspection.plan.usage.image_ids,
        **{name: each.image_id for name, each in restorer.given.records.items()},
    }
    done.update(
        restored=[_restored(each, image_ids) for each in restorer.restored],
        present=printable_names(restorer.present),
        refused=[{**_file(each.candidate, image_ids), "reason": each.reason} for each in restorer.refused],
        failed=[{**_file(each.candidate, image_ids), "error": each.reason} for each in restorer.failed],
        set_aside=[_set_aside(each) for each in restorer.set_aside],
    )
    changed = bool(restorer.restored or restorer.set_aside)
    return FetchResult(done, changed, warnings, _error(restorer, settings.cache_path))


def _nothing_done(settings: Settings, storage: Storage | None, free: int | None, check_mode: bool) -> dict[str, Any]:
    return {
        "check_mode": check_mode,
        "cache_path": printable(settings.cache_path),
        "host": printable(settings.host),
        "storage_id": None if storage is None else printable(storage.id),
        "shared_storage": None if storage is None else storage.shared,
        "restored": [],
        "present": [],
        "refused": [],
        "failed": [],
        "set_aside": [],
        "checksums": [],
        "free_bytes": free,
    }


def _file(candidate: Candidate, image_ids: Mapping[str, str]) -> dict[str, Any]:
    image_id = image_ids.get(parse_name(candidate.name).key)
    return {
        "name": printable(candidate.name),
        "state": candidate.state.value,
        "image_id": None if image_id is None else printable(image_id),
        "instances": [printable(instance) for instance in candidate.instances],
    }


def _restored(restored: Restored, image_ids: Mapping[str, str]) -> dict[str, Any]:
    return {
        **_file(restored.candidate, image_ids),
        "source": restored.source,
        "source_path": printable(restored.source_path),
        "contacted": restored.contacted,
        "inode": restored.inode,
        "proof": restored.proof.value,
        "guests": [printable(guest) for guest in restored.guests],
        "needs_restart": [printable(guest) for guest in restored.needs_restart],
        "read_bytes": restored.read_bytes,
        "size_bytes": restored.size_bytes,
        "allocated_bytes": restored.allocated_bytes,
        "seconds": restored.seconds,
        "algorithm": restored.algorithm,
        "checksum": restored.checksum,
    }


def _set_aside(aside: SetAside) -> dict[str, Any]:
    return {
        "name": printable(aside.name),
        "set_aside_as": printable(aside.set_aside_as),
        "instances": [printable(instance) for instance in aside.instances],
        "size_bytes": aside.size_bytes,
        "allocated_bytes": aside.allocated_bytes,
    }


def _error(restorer: Restorer, cache_path: str) -> str | None:
    not_restored: list[NotRestored] = [*restorer.failed, *restorer.refused]
    if not not_restored:
        return None
    files = "1 file" if len(not_restored) == 1 else f"{len(not_restored)} files"
    return (
        f"{files} of {printable(cache_path)} could not be restored. {not_restored[0].reason} See "
        f"image_cache_restore.refused and image_cache_restore.failed in the result for each."
    )
