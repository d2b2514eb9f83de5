# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a pass knows of a host: what it was asked for, what it found, and what it decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .plan import Plan
from .settings import Settings
from .snapshot import Snapshot

if TYPE_CHECKING:
    from .verification_result import Verification

__all__ = ["Inspection"]


class Inspection(NamedTuple):
    """One pass over a host.

    :param settings: the options.
    :param snapshot: what was found on the host.
    :param plan: what was decided about it.
    :param now: the time of the pass, in unix seconds.
    :param verification: what was found out about checksums; None where nothing was verified, or not yet.
    """

    settings: Settings
    snapshot: Snapshot
    plan: Plan
    now: float
    verification: Verification | None = None
