# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The result structure: values become plain data here, and nowhere else."""

from __future__ import annotations

import heapq
import json
import os
import zlib
from typing import TYPE_CHECKING, Any, Iterable, Sequence

from .inspection import Inspection
from .instances import to_records
from .names import Kind, is_of_image, parse_name, set_aside_of
from .nova_paths import is_in_instance_directory
from .other_ages import reclaimable_by_age
from .plan import Missing, Plan, Reason, State, Verdict, age_seconds, used_by
from .settings import Settings
from .snapshot import CacheFile, Snapshot
from .text import printable, some_names

if TYPE_CHECKING:
    from .verification_result import Verification

__all__ = ["describe", "describe_files", "reasons_of", "reclaimable_bytes", "warnings"]

# A summary is under 4 KiB of JSON. How much of it each list may take, what is more important first.
_SUMMARY_BYTES = 4000
_LIST_BYTES = {
    "unknown_use": 900,
    "missing": 700,
    "unknown_deletions": 600,
    "corrupt": 500,
    "limit_exceeded": 400,
    "unremovable": 400,
    "orphans": 400,
    "set_aside": 300,
    "users": 400,
}
_LEAST_LIST_BYTES = 300
_PROBLEMS_BYTES = 900
_SAMPLED_FILES = 3
_WARNINGS = 10
_REASONS = "unknown_use, unremovable and missing in the result"
_RESTORE = "ansible-playbook stackops.nova.restore with --limit for this host (module image_cache_restore)"


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
            "orphans": {
                "directories": len(orphans),
                "allocated_bytes": sum(orphan.allocated_bytes or 0 for orphan in orphans),
            },
        },
        "missing": [
            {
                "backing_file": printable(lost.backing_file),
                "named": printable(lost.named or lost.backing_file),
                **_image(inspection.image_of(os.path.basename(lost.backing_file)), settings),
                "instances": _names(lost.instances),
                "replaced": lost.replaced,
                "recoverable_from": "process" if lost.guests else None,
                "recoverable_until": _names(lost.guests),
            }
            for lost in plan.missing
        ],
        "orphans": [
            {
                **orphan._asdict(),
                "directory": printable(orphan.directory),
                "backed_by": _names(orphan.backed_by),
            }
            for orphan in orphans
        ],
        "unknown_use": list(plan.unknown_use),
        "unknown_deletions": list(plan.unknown_deletions),
        "limit_exceeded": list(plan.limit_exceeded),
        "unremovable": list(plan.unremovable),
        "set_aside": _set_aside(verdict.file for verdict in by_state[State.OTHER]),
        "corrupt": [
            {"name": printable(file.name), "used_by": _names(used_by(file, snapshot, plan.usage))}
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
        "for_members": _for_members(snapshot, plan, settings) if _is_shared(snapshot) else None,
    }
    if not settings.shows("names"):
        facts = _shortened(facts)
    if settings.shows("images"):
        # Here, so that a pass without them does not pay for it.
        from .images_result import describe_images

        facts["images"] = describe_images(inspection)
    if not settings.shows("names"):
        return facts
    for state, verdicts in by_state.items():
        facts[state.value] = _names([verdict.file.name for verdict in verdicts])
    facts["used_images"] = {
        printable(image_id): {
            "image_name": settings.image_name(image_id),
            "local": use.local,
            "remote": use.remote,
            "instances": _names(use.instances),
        }
        for image_id, use in plan.usage.images.items()
    }
    facts["image_popularity"] = {
        printable(image_id): use.local + use.remote for image_id, use in plan.usage.images.items()
    }
    if settings.shows("files"):
        facts["files"] = describe_files(plan.verdicts, inspection)
    return facts


def describe_files(verdicts: Iterable[Verdict], inspection: Inspection) -> list[dict[str, Any]]:
    """Return one entry for each of these verdicts of the plan, as ``details: files`` has them."""
    return [
        {
            **_file(verdict, used_by(verdict.file, inspection.snapshot, inspection.plan.usage), inspection),
            **_checksum(verdict.file, inspection.verification),
        }
        for verdict in sorted(verdicts, key=lambda verdict: verdict.file.name)
    ]


def warnings(inspection: Inspection) -> list[str]:
    """Return what an operator must know, worst first."""
    settings, snapshot, plan, _now, verification, _orphans = inspection
    sentences = [_warning_of(lost, inspection) for lost in plan.missing]
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


def _warning_of(lost: Missing, inspection: Inspection) -> str:
    image = inspection.of_image(os.path.basename(lost.backing_file))
    if lost.replaced:
        return _replaced_warning(lost, image)
    return _restorable_warning(lost, image) if lost.guests else _missing_warning(lost, image)


def _restorable_warning(lost: Missing, image: str) -> str:
    return (
        f"The base file {printable(lost.backing_file)}{image} does not exist: {some_names(lost.instances)} cannot "
        f"start without it. It can be restored until {some_names(lost.guests)} stops: do not stop, reboot or migrate "
        f"it before. To restore it, run {_RESTORE}."
    )


def _missing_warning(lost: Missing, image: str) -> str:
    both = f" ({printable(lost.named)} to nova)" if lost.named else ""
    if parse_name(os.path.basename(lost.backing_file)).kind in (Kind.SWAP, Kind.EPHEMERAL):
        # Each host makes its own: another host's is another file system under the guest's changes.
        return (
            f"The template {printable(lost.backing_file)}{both} does not exist: {some_names(lost.instances)} cannot "
            f"start without it. Take none from another host, because its bytes differ. Glance has none. If a guest "
            f"still runs, copy the file from /proc/PID/fd of its QEMU. Otherwise restore it from a backup."
        )
    return (
        f"The backing file {printable(lost.backing_file)}{both}{image} does not exist: {some_names(lost.instances)} "
        f"cannot start without it. Restore {printable(lost.backing_file)} from another host's cache or from Glance, "
        f"before anything else."
    )


def _replaced_warning(lost: Missing, image: str) -> str:
    how = "Copy the former file from /proc/PID/fd of their QEMU"
    if lost.guests:
        how = f"Until {some_names(lost.guests)} stops, run {_RESTORE} and states: [missing, replaced]"
    return (
        f"The base file {printable(lost.backing_file)}{image} was replaced while {some_names(lost.instances)} run on "
        f"the former one. Their QEMU still has the former one open, and a hard reboot would give them the new one. If "
        f"its bytes differ, this destroys their file systems. Do not stop, reboot or migrate them until the two are "
        f"compared (cmp). {how}, or make their disks independent of it with virsh blockpull."
    )


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
        "users": _names(plan.users),
        "free_bytes": None if storage is None else storage.free_bytes,
        "total_bytes": None if storage is None else storage.total_bytes,
    }


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


def _for_members(snapshot: Snapshot, plan: Plan, settings: Settings) -> dict[str, Any]:
    """Return what a prune from another host of the storage cannot see there, and must know.

    Its size is bounded by this host's instances and the files that it holds; only the problems are cut.
    """
    unseen = {
        instance
        for instance, path, _format in snapshot.external_disks
        if not is_in_instance_directory(path, settings.instances_path)
    }
    held = {
        verdict.file.name
        for verdict in plan.verdicts
        if Reason.QEMU in verdict.reasons
        or Reason.OPEN in verdict.reasons
        or not unseen.isdisjoint(snapshot.backing.get(verdict.file.name, ()))
    }
    problems = [*sorted(snapshot.problems), *plan.instances.problems]
    return {
        "instances": [
            {key: printable(value) if isinstance(value, str) else value for key, value in record.items()}
            for instance in sorted(plan.instances.from_libvirt, key=lambda instance: instance.uuid)
            for record in to_records(instance)
        ],
        "held": _names(held),
        "problems": _first(problems, _PROBLEMS_BYTES),
        "users": _names(plan.users),
        "future_users": _names(plan.future_users),
        "sample_ids": _sample_ids(snapshot),
        "keep_images": _names(settings.keep_images),
        "keep_files": _names(settings.keep_files),
    }


def _sample_ids(snapshot: Snapshot) -> list[int]:
    """Return what tells this cache from another one: numbers made of the names and inodes of a few files.

    Files come and go between two looks at one cache. So it takes some by name, which is no reason to go, and the
    newest, which no prune removes.
    """
    files = [file for file in snapshot.files if file.kind is not Kind.OTHER]
    sample = {
        *heapq.nsmallest(_SAMPLED_FILES, files, key=lambda file: file.name),
        *heapq.nlargest(_SAMPLED_FILES, files, key=lambda file: (file.mtime_ns, file.name)),
    }
    return sorted(zlib.crc32(f"{file.inode} {file.name}".encode()) for file in sample)


def _file(verdict: Verdict, users: Sequence[str], inspection: Inspection) -> dict[str, Any]:
    file, settings = verdict.file, inspection.settings
    return {
        "name": printable(file.name),
        "kind": file.kind.value,
        **_image(verdict.image_id, settings),
        "in_glance": _in_glance(file, settings, verdict.image_id),
        "state": verdict.state.value,
        "reasons": reasons_of(verdict),
        "size_bytes": file.size_bytes,
        "allocated_bytes": file.allocated_bytes,
        "mtime": file.mtime_ns / 1_000_000_000,
        "age_seconds": age_seconds(file, inspection.now),
        "removable_in_seconds": verdict.removable_in,
        "used_by": _names(users),
    }


def _image(image_id: str | None, settings: Settings) -> dict[str, str | None]:
    return {
        "image_id": None if image_id is None else printable(image_id),
        "image_name": settings.image_name(image_id),
    }


def _checksum(file: CacheFile, verification: Verification | None) -> dict[str, str | None]:
    checked = verification.by_name.get(file.name) if verification else None
    return {
        "checksum": checked.state.value if checked else None,
        "checksum_reason": checked.reason.value if checked and checked.reason else None,
    }


def _in_glance(file: CacheFile, settings: Settings, image_id: str | None) -> bool | None:
    if settings.glance_images is None or not is_of_image(file.key):
        return None
    return image_id in settings.glance_images


def _names(names: Iterable[str]) -> list[str]:
    return sorted(printable(name) for name in names)


def _shortened(facts: dict[str, Any]) -> dict[str, Any]:
    """Cut the lists so that the whole stays small, and say how much is left out of each."""
    lists = {name: facts["storage"][name] if name == "users" else facts[name] for name in _LIST_BYTES}
    shown = {**facts, **dict.fromkeys(lists, ()), "storage": {**facts["storage"], "users": ()}, "for_members": None}
    shown["omitted"] = dict.fromkeys(lists, 0)
    spare = _SUMMARY_BYTES - _json_bytes(shown) - _LEAST_LIST_BYTES * sum(map(bool, lists.values()))
    facts["omitted"] = {}
    for name, items in lists.items():
        limit = min(_LIST_BYTES[name], _LEAST_LIST_BYTES + max(spare, 0))
        first = _first(items, limit)
        (facts["storage"] if name == "users" else facts)[name] = first
        facts["omitted"][name] = len(items) - len(first)
        spare -= max(0, _json_bytes(first) - _LEAST_LIST_BYTES)
    return facts


def _first(items: list[Any], limit: int) -> list[Any]:
    """Return as many items as fit, and one at least, if need be shortened."""
    shown = [_brief(item, limit) for item in items[:1]]
    used = sum(_json_bytes(item) for item in shown)
    for item in items[1:]:
        used += _json_bytes(item)
        if used > limit:
            break
        shown.append(item)
    return shown


def _brief(item: Any, limit: int) -> Any:
    if _json_bytes(item) <= limit:
        return item
    if isinstance(item, dict):
        # The short values first: what they leave is for the long ones.
        spare = limit - sum(_json_bytes(key) for key in item)
        shown = {}
        for number, key in enumerate(sorted(item, key=lambda key: _json_bytes(item[key]))):
            shown[key] = _brief(item[key], spare // (len(item) - number))
            spare -= _json_bytes(shown[key])
        return {key: shown[key] for key in item}
    if isinstance(item, list):
        return _first(item, limit)
    while _json_bytes(item) > limit:
        item = item[: len(item) * 3 // 4] + "…"
    return item


def _json_bytes(item: Any) -> int:
    return len(json.dumps(item)) + len(", ")
