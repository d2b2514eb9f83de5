# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The images of a host, as ``details: images`` lists them."""

from __future__ import annotations

from typing import Any, Iterable, Mapping

from .inspection import Inspection
from .names import Kind, fingerprint, is_of_image
from .snapshot import CacheFile
from .text import printable

__all__ = ["describe_images"]


def describe_images(inspection: Inspection) -> list[dict[str, Any]]:
    """Return an entry for each image that has a file in the cache, or an instance on this host.

    :param inspection: the pass.
    :return: plain data, sizes in bytes: what takes the most space first, else by fingerprint.
    """
    settings, snapshot, plan = inspection.settings, inspection.snapshot, inspection.plan
    files = _files_by_fingerprint(snapshot.files)
    users = _users_by_fingerprint(files, inspection)
    removed = {file.name for file in plan.removals}
    entries = []
    for key in files.keys() | users.keys():
        cached = files.get(key, [])
        # The name of a kernel is its image's id.
        kernel = next((file.key for file in cached if file.kind is Kind.KERNEL), None)
        image_id = plan.usage.image_ids.get(key, kernel)
        entries.append(
            {
                "fingerprint": key,
                "image_id": None if image_id is None else printable(image_id),
                "image_name": settings.image_name(image_id),
                "in_glance": None if settings.glance_images is None else image_id in settings.glance_images,
                "files": len(cached),
                "allocated_bytes": sum(file.allocated_bytes for file in cached),
                "reclaimable_bytes": sum(file.allocated_bytes for file in cached if file.name in removed),
                "instances": len(users.get(key, ())),
                "newest_mtime": max(file.mtime_ns for file in cached) / 1_000_000_000 if cached else None,
            }
        )
    return sorted(entries, key=lambda entry: (-entry["allocated_bytes"], entry["fingerprint"]))


def _files_by_fingerprint(files: Iterable[CacheFile]) -> dict[str, list[CacheFile]]:
    found: dict[str, list[CacheFile]] = {}
    for file in files:
        if file.kind is Kind.KERNEL:
            found.setdefault(fingerprint(file.key), []).append(file)
        elif is_of_image(file.key):
            found.setdefault(file.key, []).append(file)
    return found


def _users_by_fingerprint(files: Mapping[str, list[CacheFile]], inspection: Inspection) -> dict[str, set[str]]:
    """Return the instances of this host that use each image: a source says so, or their disks need a file of it."""
    settings, snapshot, plan = inspection.settings, inspection.snapshot, inspection.plan
    users: dict[str, set[str]] = {}
    of_other_hosts = set()
    for instance in plan.instances.all:
        if instance.host != settings.host:
            of_other_hosts.add(instance.label)
            continue
        for image_id in instance.image_ids:
            users.setdefault(fingerprint(image_id), set()).add(instance.label)
    for key, cached in files.items():
        directories = {directory for file in cached for directory in snapshot.backing.get(file.name, ())}
        labels = {plan.usage.owners.get(directory, directory) for directory in directories - plan.usage.orphans}
        users.setdefault(key, set()).update(labels - of_other_hosts)
    return users
