# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a prune would free with other minimum ages, so that an operator can choose one instead of guessing."""

from __future__ import annotations

from typing import Sequence

from .inspection import Inspection
from .overlays import protected_files
from .plan import age_seconds, exceeded_limits, select_removals
from .snapshot import CacheFile, Snapshot

__all__ = ["reclaimable_by_age"]

_HOUR = 3600
_DAY = 24 * _HOUR
_AGES = (_HOUR, _DAY, 7 * _DAY, 28 * _DAY)


def reclaimable_by_age(inspection: Inspection) -> dict[int, int]:
    """Return how many bytes a prune would free if both minimum ages were another one, and all else were as it is.

    A limit that would be exceeded at an age makes that 0, as it does in a plan. Where deleted images have an age of
    their own, their files are removable at that one.

    :param inspection: the pass. The ages that its settings have are among those that are answered for.
    :return: bytes by the age in seconds, lowest age first.
    """
    settings, snapshot, plan, now = inspection.settings, inspection.snapshot, inspection.plan, inspection.now
    ages = sorted(
        {
            *_AGES,
            settings.remove_unused_original_minimum_age_seconds,
            settings.remove_unused_resized_minimum_age_seconds,
        }
    )
    if plan.unknown_use or plan.unknown_deletions:
        return dict.fromkeys(ages, 0)
    own_age = settings.remove_deleted_images_minimum_age_seconds
    own_ages = {} if own_age is None else dict.fromkeys(plan.deleted, own_age)
    # Removals are selected once, at the lowest age, because those of a higher age come first among them. Out of that
    # order are only files with an age of their own, and those that need a lock file where none can be made.
    selections = [[age] for age in ages] if own_ages or snapshot.obstacles.new_locks else [ages]
    reclaimable = {}
    for selection in selections:
        old = [file for file in plan.unused if age_seconds(file, now) >= own_ages.get(file.name, selection[0])]
        removable = _not_under_kept_overlays(old, snapshot)
        removals, _kept, _causes = select_removals(removable, plan.recognised, snapshot, settings)
        for age, (count, freed_bytes) in _first_removals(removals, selection, now).items():
            reclaimable[age] = 0 if exceeded_limits(count, len(plan.recognised), settings) else freed_bytes
    return dict(sorted(reclaimable.items()))


def _not_under_kept_overlays(files: Sequence[CacheFile], snapshot: Snapshot) -> Sequence[CacheFile]:
    """Return the files on which no file of the cache is built that is not among them."""
    if not snapshot.overlays:
        return files
    names = {file.name for file in files}
    protected = protected_files(snapshot.overlays, [file.name for file in snapshot.files if file.name not in names])
    return [file for file in files if file.name not in protected]


def _first_removals(removals: Sequence[CacheFile], ages: Sequence[int], now: float) -> dict[int, tuple[int, int]]:
    """Return how many removals come before the first file that is younger than each age, and the bytes they free.

    At the lowest age, which they were selected for, these are all.
    """
    lowest, *waiting = sorted(ages)
    first = {}
    freed_bytes = 0
    for count, file in enumerate(removals):
        age = age_seconds(file, now)
        while waiting and age < waiting[-1]:
            first[waiting.pop()] = (count, freed_bytes)
        freed_bytes += file.allocated_bytes
    return {**first, **dict.fromkeys([lowest, *waiting], (len(removals), freed_bytes))}
