# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What must hold on a mixed host: no chain breaks, the dry run is true, and nothing is refused without a reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.prune import PruneResult
from ansible_collections.stackops.nova.tests.mixed_hosts.building import BuiltHost, as_far_as_possible, built
from ansible_collections.stackops.nova.tests.mixed_hosts.generator import Directory, MixedHost
from ansible_collections.stackops.nova.tests.support.host import picture


def check(mixed: MixedHost, root: Path) -> list[str]:
    """Prune a mixed host below an empty folder, and return what goes wrong, a sentence each."""
    mixed = as_far_as_possible(mixed, root)
    with built(mixed, root) as on_disk:
        images = list(_images(mixed))
        opened = on_disk.opened(images)
        wrong = [f"{image} cannot be opened before anything was done" for image in images if image not in opened]
        return [*wrong, *_check_passes(mixed, on_disk), *_check_chains(mixed, on_disk, opened)]


def _check_passes(mixed: MixedHost, on_disk: BuiltHost) -> Iterator[str]:
    host, options = on_disk.host, on_disk.options
    before = picture(host.root)
    audited = host.audit(**options)
    dry_run = host.prune(check_mode=True, **options)
    if picture(host.root) != before:
        yield "the audit or the dry run wrote something"
    if audited.facts["removable"] != dry_run.facts["removable"]:
        yield f"the audit lists {audited.facts['removable']}, the dry run {dry_run.facts['removable']}"
    replaced = {Path(file["backing_file"]).name for file in audited.facts["missing"] if file.get("replaced")}
    expected = {directory.disks[0].over for directory in mixed.directories if directory.is_replaced}
    if replaced != expected:
        yield f"{sorted(replaced)} are reported as replaced, and {sorted(expected)} were"
    result = host.prune(**options)
    if dry_run.done != result.done or dry_run.error != result.error:
        yield f"the dry run says {dry_run.done} ({dry_run.error}), the prune {result.done} ({result.error})"
    yield from _check_refusal(mixed, result)
    yield from _check_removed(mixed, set(result.done["removed"]), set(host.cached()))


def _check_refusal(mixed: MixedHost, result: PruneResult) -> Iterator[str]:
    reasons = result.facts["unknown_use"]
    if reasons and not mixed.unknown:
        yield f"it is refused: {reasons}"
    if mixed.unknown and not reasons:
        yield f"it is not refused, in spite of {mixed.unknown}"


def _check_removed(mixed: MixedHost, removed: set[str], left: set[str]) -> Iterator[str]:
    all_files = {file.name for file in mixed.cache}
    if removed != all_files - left:
        yield f"{sorted(all_files - left)} are gone, and the result says {sorted(removed)}"
    removable = set() if mixed.unknown else _removable(mixed)
    if not removed <= removable:
        yield f"{sorted(removed - removable)} had to be kept"
    if mixed.leaves_cached is not None:
        return  # fewer may be enough
    exceeds_limit = mixed.removes_at_most is not None and len(removable) > mixed.removes_at_most
    expected = set() if exceeds_limit else removable
    if removed != expected:
        yield f"{sorted(expected)} were to be removed, and {sorted(removed)} were"


def _check_chains(mixed: MixedHost, on_disk: BuiltHost, opened: set[str]) -> Iterator[str]:
    left = set(on_disk.host.cached())
    still_needed = set(_images(mixed, _counted(mixed)))
    removed = {f"_base/{file.name}" for file in mixed.cache if file.name not in left}
    needed = (opened & still_needed) - removed
    for image in sorted(needed - on_disk.opened(needed)):
        yield f"{image} cannot be opened any more"


def _images(mixed: MixedHost, directories: Iterable[Directory] | None = None) -> Iterator[str]:
    """All images that QEMU may be asked to open, by their paths below `instances_path`."""
    for directory in mixed.directories if directories is None else directories:
        yield from (f"{directory.name}/{disk.name}" for disk in directory.disks)
    yield from (f"_base/{file.name}" for file in mixed.cache)


def _counted(mixed: MixedHost) -> list[Directory]:
    """The directories whose disks count: with `orphans: ignore`, those of orphans do not."""
    return [directory for directory in mixed.directories if mixed.orphans == "protect" or not directory.is_orphan]


def _removable(mixed: MixedHost) -> set[str]:
    """The files that nothing protects, where there is neither a limit nor a target."""
    below = {file.name: file.over for file in mixed.cache}
    kept = {disk.over for directory in _counted(mixed) for disk in directory.disks if disk.over in below}
    kept.update(
        file.name
        for file in mixed.cache
        if not file.is_old or file.attribute or file.name in mixed.keep_files or file.image_id in mixed.kept_image_ids
    )
    for name in list(kept):
        while below[name]:
            name = below[name]
            kept.add(name)
    return below.keys() - kept
