# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the other hosts of a shared storage must know of one: the part ``for_members`` of the result."""

from __future__ import annotations

import heapq
import zlib
from typing import Any

from .instance_records import to_records
from .names import Kind
from .nova_paths import is_in_instance_directory
from .plan import Plan, Reason
from .settings import Settings
from .shortening import first_items
from .snapshot import Snapshot
from .text import printable, printable_names

__all__ = ["describe_for_members"]

_PROBLEMS_BYTES = 900
_SAMPLED_FILES = 3


def describe_for_members(snapshot: Snapshot, plan: Plan, settings: Settings) -> dict[str, Any]:
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
        "held": printable_names(held),
        "problems": first_items(problems, _PROBLEMS_BYTES),
        "users": printable_names(plan.users),
        "future_users": printable_names(plan.future_users),
        "sample_ids": _sample_ids(snapshot),
        "keep_images": printable_names(settings.keep_images),
        "keep_files": printable_names(settings.keep_files),
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
