# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The warnings about base files that are missing, or were replaced under running guests."""

from __future__ import annotations

import os

from .inspection import Inspection
from .names import Kind, parse_name
from .plan import Missing
from .text import printable, some_names

__all__ = ["missing_warning"]

_RESTORE = "ansible-playbook stackops.nova.restore with --limit for this host (module image_cache_restore)"


def missing_warning(lost: Missing, inspection: Inspection) -> str:
    """Say what is missing, what it means for the guests, and what to do."""
    image = inspection.of_image(os.path.basename(lost.backing_file))
    if lost.replaced:
        return _replaced_warning(lost, image)
    return _restorable_warning(lost, image) if lost.guests else _lost_warning(lost, image)


def _restorable_warning(lost: Missing, image: str) -> str:
    return (
        f"The base file {printable(lost.backing_file)}{image} does not exist: {some_names(lost.instances)} cannot "
        f"start without it. It can be restored until {some_names(lost.guests)} stops: do not stop, reboot or migrate "
        f"it before. To restore it, run {_RESTORE}."
    )


def _lost_warning(lost: Missing, image: str) -> str:
    both = f" ({printable(lost.named)} to nova)" if lost.named else ""
    kind = parse_name(os.path.basename(lost.backing_file)).kind
    if kind in (Kind.SWAP, Kind.EPHEMERAL):
        # Each host makes its own: another host's is another file system under the guest's changes.
        return (
            f"The template {printable(lost.backing_file)}{both} does not exist: {some_names(lost.instances)} cannot "
            f"start without it. Take none from another host, because its bytes differ. Glance has none. If a guest "
            f"still runs, copy the file from /proc/PID/fd of its QEMU. Otherwise restore it from a backup."
        )
    return (
        f"The backing file {printable(lost.backing_file)}{both}{image} does not exist: {some_names(lost.instances)} "
        f"cannot start without it. {_source_of_lost(kind, lost.backing_file)}"
    )


def _source_of_lost(kind: Kind, path: str) -> str:
    """Say why no guest gives the file back, and from where it can come instead."""
    if kind is Kind.ORIGINAL:
        return (
            f"No process of a guest on this host certainly has it open. To restore it from Glance, run {_RESTORE} and "
            f"-e image_cache_restore_from_glance=true. Without a way to Glance, copy the image to this host (openstack "
            f"image save), and set image_cache_restore_files and image_cache_glance_images as the page 'A base file is "
            f"gone' shows (docs/docsite/rst/restore.rst)."
        )
    if kind in (Kind.RESIZED, Kind.SMALL):
        return (
            "No process of a guest on this host certainly has it open, and it cannot be made of the image. Restore it "
            "from a backup (cp --sparse=always)."
        )
    return (
        f"It is not a base file of the cache. Restore it from a backup (cp --sparse=always), or mount what "
        f"{printable(os.path.dirname(path))} is to lead to (mount)."
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
