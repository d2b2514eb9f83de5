# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The faults that public reports showed, each put back into the code by hand: a mixed host must find it."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.stackops.nova.plugins.module_utils.image_cache import apply, disk_references, plan, snapshot
from ansible_collections.stackops.nova.tests.support.editing import edited

FAULTS: dict[str, Callable[[], None]] = {
    "an overlay that disk.info calls raw names nothing": edited(
        disk_references.DiskReader._read_raw_disk, "self._protect_named(path, instance)", "None"
    ),
    "the prune keeps what the dry run lists of ignored orphans": edited(
        apply._came_into_use, "plan.ignored_orphans.get(file.name, _NO_ORPHANS)", "_NO_ORPHANS"
    ),
    "a directory that a domain names by another name is an orphan's": edited(
        plan._find_orphans, "_directories_in_domains(instances, settings)", "{}"
    ),
    "a base file that was replaced under a guest is not reported": edited(
        snapshot._find_replaced, "if name not in user.names", "if False"
    ),
    "the dry run does not know immutable files": edited(
        snapshot._list_cache, "is_protected_by_flags(descriptor)", "False"
    ),
    "what a kept file is built on is removed": edited(
        plan._with_overlays, "protected_files(overlays, kept)", "frozenset()"
    ),
    "a file of no bytes refuses the host": edited(
        disk_references.DiskReader._note, "elif isinstance(exc, NoImageError) and not _is_new(path)", "elif False"
    ),
}
