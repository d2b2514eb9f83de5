# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fleet's limit: not more than a share of all caches may be removed in one run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .storages import Storage

__all__ = ["fleet_limit_exceeded", "strictest_limit"]

_GIB = 1 << 30


def strictest_limit(limits: Iterable[float | None]) -> float | None:
    """Return the smallest limit of all hosts, in percent; None where no host has one.

    A fleet has one limit, whichever host has it, also one that did not answer.
    """
    return min((limit for limit in limits if limit is not None), default=None)


def fleet_limit_exceeded(storages: Sequence[Storage], to_be_pruned: Sequence[Storage], limit: float | None) -> str:
    """Return why nothing may be removed, because too much of all caches would be.

    :param storages: all storages, each of which counts once.
    :param to_be_pruned: those of them that a prune was asked for and that are not refused.
    :param limit: the largest share that may be removed, in percent of the bytes; None for any.
    :return: a sentence in three parts; empty if the limit is kept.
    """
    if limit is None:
        return ""
    cached = sum(storage.cached_bytes for storage in storages)
    reclaimable = sum(storage.reclaimable_bytes for storage in to_be_pruned)
    if reclaimable * 100 <= cached * limit:
        return ""
    percent = reclaimable * 100 / cached if cached else 100  # a host may report what cannot be
    return (
        f"Nothing was removed: {reclaimable / _GIB:.1f} of {cached / _GIB:.1f} GiB ({percent:.0f} "
        "%) in the caches of the fleet could be removed, which is more than image_cache_fleet_max_removal_percent "
        f"({limit:g}). If this is expected, raise image_cache_fleet_max_removal_percent. Otherwise the list of "
        f"instances is probably incomplete."
    )
