# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time and is not for use from elsewhere.
"""An audit, from options to result: the door that ``image_cache_facts`` uses."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple

from .argspec import inventory_from_params, settings_from_params
from .disks import RunCommand
from .plan import Plan, make_plan
from .report import describe, warnings
from .scan import Snapshot, take_snapshot
from .settings import Settings

__all__ = ["AuditResult", "audit", "look"]


class AuditResult(NamedTuple):
    """What an audit gives back: the ``image_cache`` structure, and sentences to warn with."""

    facts: dict[str, Any]
    warnings: list[str]


def audit(params: Mapping[str, Any], now: float, run_command: RunCommand) -> AuditResult:
    """Look at a host's image cache; write nothing.

    :param params: the module's options.
    :param now: the time, in unix seconds.
    :param run_command: how ``qemu-img`` is run, where a disk's header is not enough.
    :return: what was found, and what a prune with these options would do.
    :raises ImageCacheError: an option is wrong, or the cache cannot be looked at at all.
    """
    settings, snapshot, plan = look(params, now, run_command)
    return AuditResult(describe(snapshot, plan, settings, now, params["details"]), warnings(snapshot, plan))


def look(params: Mapping[str, Any], now: float, run_command: RunCommand) -> tuple[Settings, Snapshot, Plan]:
    """Read everything and decide: the part that an audit, a dry run and a prune have in common.

    The parameters and errors are those of :func:`audit`.
    """
    settings = settings_from_params(params)
    inventory = inventory_from_params(params, settings.host)
    other_disks = [
        (instance.uuid, path, image_format) for instance in inventory.instances for path, image_format in instance.disks
    ]
    snapshot = take_snapshot(settings, other_disks, run_command)
    return settings, snapshot, make_plan(snapshot, inventory, settings, now)
