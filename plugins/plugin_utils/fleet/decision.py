# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What each host of a play does next: prune, look again, fail with a reason, or nothing."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .answers import AnswerState
from .limit import fleet_limit_exceeded, strictest_limit
from .refusals import RefusalReason, refusals
from .storages import (
    Clouds,
    Fleet,
    Storage,
    group_into_storages,
    hand_off,
)

__all__ = ["Action", "FleetDecision", "HostDecision", "StorageDecision", "decide", "undecided"]


class Action(StrEnum):
    """What a host does after the decision."""

    LOOK = "look"
    PRUNE = "prune"
    FAIL = "fail"


@dataclass(frozen=True)
class HostDecision:
    """What one host does.

    :param action: what.
    :param options: the hand-off with which it looks or prunes.
    :param reasons: why it fails, a sentence each.
    """

    action: Action
    options: Mapping[str, Any] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    def to_plain(self) -> dict[str, Any]:
        """Return it as plain data, for the task's result."""
        return {"action": self.action.value, "options": dict(self.options), "reasons": list(self.reasons)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> HostDecision:
        """Read what :meth:`to_plain` made."""
        return cls(Action(plain["action"]), plain["options"], tuple(plain["reasons"]))


@dataclass(frozen=True)
class StorageDecision:
    """What is decided about one storage.

    :param id: what tells it from others; None without a cache.
    :param members: the names of its hosts.
    :param pruner: the name of the one that prunes it, and by whose answer it is shown.
    :param refused: why it must not be pruned, a sentence each.
    :param reasons: the same as metrics know it, values of :class:`refusals.RefusalReason`, and that of the fleet as a
        whole.
    :param in_glance: the ids of the images in Glance from which missing files can be restored, by the files' names.
    """

    id: str | None
    members: tuple[str, ...]
    pruner: str
    refused: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    in_glance: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> StorageDecision:
        """Read what a task's result has of it."""
        return cls(
            plain["id"],
            tuple(plain["members"]),
            plain["pruner"],
            tuple(plain["refused"]),
            tuple(plain.get("reasons", ())),
            plain.get("in_glance", {}),
        )


@dataclass(frozen=True)
class FleetDecision:
    """What is decided about a fleet.

    :param storages: each storage once.
    :param hosts: what the hosts do that do something.
    :param problems: sentences about the fleet as a whole.
    """

    storages: tuple[StorageDecision, ...]
    hosts: Mapping[str, HostDecision]
    problems: tuple[str, ...] = ()


def decide(fleet: Fleet, blocked: Sequence[str] = (), unreadable_limits: Sequence[str] = ()) -> FleetDecision:
    """Decide what each host of a play does next.

    :param fleet: all hosts of the play.
    :param blocked: why nothing may be done at all, a sentence each.
    :param unreadable_limits: why the fleet's limit is unknown, a sentence each: then nothing may be removed.
    :return: the decision.
    """
    storages = group_into_storages(fleet)
    refused = [refusals(storage, fleet, storages) for storage in storages]
    reasons = {index: tuple(sentences) for index, sentences in enumerate(refused)}
    may_act = {
        index
        for index, storage in enumerate(storages)
        if storage.pruner.state is AnswerState.ANSWERED and not reasons[index]
    }
    to_be_pruned = [storages[index] for index in sorted(may_act) if _is_prune_asked(storages[index])]
    limit = strictest_limit(host.options.fleet_max_removal_percent for host in fleet.hosts)
    exceeded = "" if unreadable_limits else fleet_limit_exceeded(storages, to_be_pruned, limit)
    problems = (*blocked, *(unreadable_limits if to_be_pruned else ()), *filter(None, [exceeded]))
    of_fleet = {RefusalReason.FLEET_LIMIT} if exceeded or unreadable_limits else set()
    hosts: dict[str, HostDecision] = {}
    failed_for: set[str] = set()
    for index, storage in enumerate(storages):
        if storage.pruner.state is not AnswerState.ANSWERED:
            continue  # the play has lost it, and says why
        is_asked = _is_prune_asked(storage)
        if is_asked and (reasons[index] or problems):
            decision = HostDecision(Action.FAIL, reasons=(*reasons[index], *problems))
        elif is_asked:
            decision = HostDecision(Action.PRUNE, hand_off(storage, fleet))
        else:
            # One host fails for each cause that all have in common.
            causes = (*blocked, *(fleet.clouds[key].problem for key in sorted(storage.all_clouds)))
            new = tuple(cause for cause in causes if cause and cause not in failed_for)
            failed_for.update(new)
            if new:
                decision = HostDecision(Action.FAIL, reasons=new)
            elif storage.needs_hand_off and not reasons[index] and not blocked:
                decision = HostDecision(Action.LOOK, hand_off(storage, fleet))
            else:
                continue
        hosts[storage.pruner.name] = decision
    return FleetDecision(
        storages=tuple(
            _decided(storage, sentences, of_fleet if _is_prune_asked(storage) else set(), fleet.clouds)
            for storage, sentences in zip(storages, refused, strict=True)
        ),
        hosts=hosts,
        problems=problems,
    )


def undecided(fleet: Fleet) -> list[StorageDecision]:
    """Return the storages of a fleet about which nothing was decided, because the play ended before, for the report."""
    return [_decided(storage, {}, set(), {}) for storage in group_into_storages(fleet)]


def _decided(
    storage: Storage, refused: Mapping[str, RefusalReason], of_fleet: Set[RefusalReason], clouds: Clouds
) -> StorageDecision:
    return StorageDecision(
        storage.id,
        tuple(host.name for host in storage.members),
        storage.pruner.name,
        tuple(refused),
        tuple(sorted(reason.value for reason in {*refused.values(), *of_fleet})),
        _in_glance(storage, clouds),
    )


def _in_glance(storage: Storage, clouds: Clouds) -> dict[str, str]:
    asked = [clouds[key].restorable for key in sorted(storage.clouds) if key in clouds]
    names = [posixpath.basename(missing["backing_file"]) for found in storage.found for missing in found["missing"]]
    return {name: restorable[name] for restorable in asked for name in names if name in restorable}


def _is_prune_asked(storage: Storage) -> bool:
    return any(host.options.prune for host in storage.members)
