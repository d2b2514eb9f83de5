# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The result structure: values become plain data here, and nowhere else."""

from __future__ import annotations

import os
from typing import Any, Iterable, Sequence

from .inspection import Inspection
from .names import set_aside_of
from .other_ages import reclaimable_by_age
from .plan import Plan, Reason, State, Verdict, used_by
from .settings import Settings
from .shortening import shorten_lists
from .snapshot import CacheFile, Snapshot
from .text import printable, printable_names

__all__ = ["describe", "described_image", "reasons_of", "reclaimable_bytes", "warnings"]

_WARNINGS = 10
_REASONS = "unknown_use, unremovable and missing in the result"


def describe(inspection: Inspection) -> dict[str, Any]:
    """Return the ``image_cache`` structure that both modules give back.

    :param inspection: the pass. Of its details, ``summary`` keeps the structure under 4 KiB for a cache of any size,
        ``images`` adds an entry for each image, ``names`` shortens nothing and adds the names by state and the images
        in use, ``files`` adds one entry a file as well.
    :return: plain data: file names bare, sizes in bytes, times in unix seconds, lists sorted.
    """
    settings, snapshot, plan, now, verification, orphans = inspection
    by_state: dict[State, list[Verdict]] = {state: [] for state in State}
    for verdict in plan.verdicts:
        by_state[verdict.state].append(verdict)
    facts: dict[str, Any] = {
        "cache_path": printable(settings.cache_path),
        "exists": snapshot.exists,
        "now": now,
        "host": printable(settings.host),
        "storage": _storage(snapshot, plan),
        "summary": {
            **{state.value: len(verdicts) for state, verdicts in by_state.items()},
            "total": {
                "files": len(plan.recognised),
                "allocated_bytes": sum(file.allocated_bytes for file in plan.recognised),
            },
            "reclaimable_bytes": reclaimable_bytes(plan.removals),
            "reclaimable_by_age": {str(age): freed for age, freed in reclaimable_by_age(inspection).items()},
            "bytes": {
                **{
                    state.value: sum(verdict.file.allocated_bytes for verdict in verdicts)
                    for state, verdicts in by_state.items()
                },
                "corrupt": reclaimable_bytes(verification.corrupt if verification else ()),
            },
            "precached": _precached(plan),
            "orphans": {
                "directories": len(orphans),
                "allocated_bytes": sum(orphan.allocated_bytes or 0 for orphan in orphans),
            },
        },
        "missing": [
            {
                "backing_file": printable(lost.backing_file),
                "named": printable(lost.named or lost.backing_file),
                **described_image(inspection.image_of(os.path.basename(lost.backing_file)), settings),
                "instances": printable_names(lost.instances),
                "replaced": lost.replaced,
                "recoverable_from": "process" if lost.guests else None,
                "recoverable_until": printable_names(lost.guests),
            }
            for lost in plan.missing
        ],
        "orphans": [
            {
                **orphan._asdict(),
                "directory": printable(orphan.directory),
                "backed_by": printable_names(orphan.backed_by),
            }
            for orphan in orphans
        ],
        "unknown_use": list(plan.unknown_use),
        "unknown_deletions": list(plan.unknown_deletions),
        "limit_exceeded": list(plan.limit_exceeded),
        "unremovable": list(plan.unremovable),
        "set_aside": _set_aside(verdict.file for verdict in by_state[State.OTHER]),
        "corrupt": [
            {"name": printable(file.name), "used_by": printable_names(used_by(file, snapshot, plan.usage))}
            for file in (verification.corrupt if verification else ())
        ],
        "checksums": verification.summary if verification else None,
        "policy": {
            "remove_unused_base_images": settings.remove_unused_base_images,
            "remove_unused_original_minimum_age_seconds": settings.remove_unused_original_minimum_age_seconds,
            "remove_unused_resized_minimum_age_seconds": settings.remove_unused_resized_minimum_age_seconds,
            "remove_unused_kernels": settings.remove_unused_kernels,
            "remove_only_deleted_images": settings.remove_only_deleted_images,
            "remove_deleted_images_minimum_age_seconds": settings.remove_deleted_images_minimum_age_seconds,
            "orphans": "protect" if settings.protect_orphans else "ignore",
        },
        "for_members": None,
    }
    # Here and below, so that a pass pays for no more than it tells.
    if _is_shared(snapshot):
        from .members_result import describe_for_members

        facts["for_members"] = describe_for_members(snapshot, plan, settings)
    if not settings.shows("names"):
        facts = shorten_lists(facts)
    if settings.shows("images"):
        from .images_result import describe_images

        facts["images"] = describe_images(inspection)
    if not settings.shows("names"):
        return facts
    for state, verdicts in by_state.items():
        facts[state.value] = printable_names([verdict.file.name for verdict in verdicts])
    facts["used_images"] = {
        printable(image_id): {
            "image_name": settings.image_name(image_id),
            "local": use.local,
            "remote": use.remote,
            "instances": printable_names(use.instances),
        }
        for image_id, use in plan.usage.images.items()
    }
    facts["image_popularity"] = {
        printable(image_id): use.local + use.remote for image_id, use in plan.usage.images.items()
    }
    if settings.shows("files"):
        from .files_result import describe_files

        facts["files"] = describe_files(plan.verdicts, inspection)
    return facts


def warnings(inspection: Inspection) -> list[str]:
    """Return what an operator must know, worst first."""
    settings, snapshot, plan, _now, verification, _orphans = inspection
    sentences = []
    if plan.missing:
        # Here, so that a pass that misses nothing does not pay for it.
        from .missing_warnings import missing_warning

        sentences = [missing_warning(lost, inspection) for lost in plan.missing]
    sentences += verification.alarms if verification else ()
    # Of shared storage, one host alone never knows all, and the result says so.
    is_shared = snapshot.storage is not None and snapshot.storage.shared
    untold = plan.unlisted_instances if is_shared else ()
    sentences += [f"Nothing may be removed: {sentence}" for sentence in plan.unknown_use if sentence not in untold]
    # The role asks for Glance's list after its first look, and the result says so.
    unreliable = plan.unknown_deletions if settings.glance_images is not None else ()
    sentences += [f"Nothing may be removed: {sentence}" for sentence in (*unreliable, *plan.limit_exceeded)]
    sentences += plan.unremovable
    sentences += plan.warnings
    sentences += snapshot.warnings
    sentences += verification.warnings if verification else ()
    if len(sentences) > _WARNINGS:
        return [*sentences[:_WARNINGS], f"{len(sentences) - _WARNINGS} more warnings were left out. See {_REASONS}."]
    return sentences


def reasons_of(verdict: Verdict) -> list[str]:
    """Return the reasons for a file's state, by name."""
    return sorted(reason.value for reason in verdict.reasons)


def reclaimable_bytes(files: Sequence[CacheFile]) -> int:
    """Return how many bytes of disk the files take."""
    return sum(file.allocated_bytes for file in files)


def _storage(snapshot: Snapshot, plan: Plan) -> dict[str, Any]:
    storage = snapshot.storage
    return {
        "id": None if storage is None else printable(storage.id),
        "instances_id": None if snapshot.instances_storage is None else printable(snapshot.instances_storage.id),
        "filesystem": None if storage is None else printable(storage.filesystem),
        "mount_point": None if storage is None else printable(storage.mount_point),
        "shared": None if storage is None else storage.shared,
        "users": printable_names(plan.users),
        "free_bytes": None if storage is None else storage.free_bytes,
        "total_bytes": None if storage is None else storage.total_bytes,
    }


def _precached(plan: Plan) -> dict[str, int]:
    """Return how much is kept because it was pre-cached."""
    files = [verdict.file for verdict in plan.verdicts if Reason.PRECACHED in verdict.reasons]
    return {"files": len(files), "allocated_bytes": reclaimable_bytes(files)}


def _set_aside(files: Iterable[CacheFile]) -> list[dict[str, Any]]:
    """Return the former base files that a restore has set aside; they are not base files any more."""
    return [
        {"name": printable(file.name), "size_bytes": file.size_bytes, "allocated_bytes": file.allocated_bytes}
        for file in sorted(file for file in files if set_aside_of(file.name))
    ]


def _is_shared(snapshot: Snapshot) -> bool:
    """Tell whether other hosts see this cache or, where there is none yet, may have caches beside it."""
    storage = snapshot.storage or snapshot.instances_storage
    return storage is not None and storage.shared


def described_image(image_id: str | None, settings: Settings) -> dict[str, str | None]:
    """Return the id and the name of an image, as far as they are known."""
    return {
        "image_id": None if image_id is None else printable(image_id),
        "image_name": settings.image_name(image_id),
    }
