# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Our audit's view of each file against nova's, and what explains a difference."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from .nova_log import NovaPass

ACTIVE, REMOVABLE, TOO_YOUNG = "active", "removable", "too_young"
UNUSED, NOT_LOOKED_AT, NOT_THERE = "unused", "not looked at", "not there"
_AGREEMENT = {(ACTIVE, ACTIVE), (UNUSED, REMOVABLE), (UNUSED, TOO_YOUNG)}


class Evidence(NamedTuple):
    """What can be known of the cache without the product.

    :param disks: the directories and disk names on each file, as ``qemu-img info --backing-chain`` names it.
    :param domain_files: the files that the metadata of a domain stands for: image, or size of swap or ephemeral disk.
    :param servers: the ids of all servers that nova has, soft-deleted ones too.
    :param resized: those of them that were ever resized.
    :param former_files: the templates that resized servers had by their flavors before.
    """

    disks: Mapping[str, Collection[tuple[str, str]]]
    domain_files: Collection[str]
    servers: Collection[str]
    resized: Collection[str]
    former_files: Collection[str]


class Difference(NamedTuple):
    """A file about which nova and we differ.

    :param why: the documented reason for it; None where there is none.
    """

    name: str
    nova: str
    ours: str
    why: str | None


def differences(nova: NovaPass, ours: Mapping[str, str], evidence: Evidence) -> list[Difference]:
    """Compare the two views of one moment.

    :param ours: the state of each file of the cache that the audit knows the kind of.
    :return: every file on which they differ. What nova takes to be in use and we would remove is never explained.
    """
    found = []
    for name in sorted({*nova.active, *nova.unused, *ours}):
        theirs = ACTIVE if name in nova.active else UNUSED if name in nova.unused else NOT_LOOKED_AT
        state = ours.get(name, NOT_THERE)
        if (theirs, state) not in _AGREEMENT:
            found.append(Difference(name, theirs, state, _explain(name, theirs, state, evidence)))
    return found


def _explain(name: str, theirs: str, state: str, evidence: Evidence) -> str | None:
    if theirs == NOT_LOOKED_AT and name.endswith((".part", ".converted")):
        return "an interrupted download, which nova never looks at"
    if theirs == ACTIVE and state == TOO_YOUNG and name in evidence.former_files:
        return "nova goes by the size that the guest had before its resize"
    if theirs == UNUSED and state == ACTIVE:
        for directory, disk in sorted(evidence.disks.get(name, ())):
            why = _explain_disk(directory, disk, evidence)
            if why is not None:
                return why
        if name in evidence.domain_files:
            return "the domain's metadata stands for it"
    return None


def _explain_disk(directory: str, disk: str, evidence: Evidence) -> str | None:
    server = directory.partition("_")[0]
    if server not in evidence.servers:
        return "it backs the disk of an orphan"
    if disk == "disk.rescue":
        return "it backs a rescue disk"
    if disk.startswith("disk.eph") and disk != "disk.eph0":
        return "it backs a second ephemeral disk"
    if disk in ("disk.swap", "disk.eph0") and server in evidence.resized:
        return "it backs the swap or ephemeral disk of a resized guest"
    return None
