# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a pass knows of a host: what it was asked for, what it found, and what it decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .names import parse_name
from .plan import Plan
from .settings import Settings
from .snapshot import Snapshot
from .text import printable

if TYPE_CHECKING:
    from .orphans import Orphan
    from .verification_result import Verification

__all__ = ["Inspection"]


class Inspection(NamedTuple):
    """One pass over a host.

    :param settings: the options.
    :param snapshot: what was found on the host.
    :param plan: what was decided about it.
    :param now: the time of the pass, in unix seconds.
    :param verification: what was found out about checksums; None where nothing was verified, or not yet.
    :param orphans: what the orphans of the plan hold, the largest first.
    """

    settings: Settings
    snapshot: Snapshot
    plan: Plan
    now: float
    verification: Verification | None = None
    orphans: tuple[Orphan, ...] = ()

    def image_of(self, name: str) -> str | None:
        """Return the id of the image that a cache file comes from, by its name; None where no source names it."""
        return self.plan.usage.image_ids.get(parse_name(name).key)

    def of_image(self, name: str) -> str:
        """Return which image a cache file comes from, as part of a sentence; empty where that is not known."""
        image_id = self.image_of(name)
        if image_id is None:
            return ""
        image_name = self.settings.image_name(image_id)
        return f" of image {printable(image_id)}" + (f" ({image_name})" if image_name else "")
