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
