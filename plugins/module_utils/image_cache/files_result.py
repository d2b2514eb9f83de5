# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of a cache, as ``details: files`` lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterable, Sequence

from .inspection import Inspection
from .names import is_of_image
from .plan import Verdict, age_seconds, used_by
from .result import described_image, reasons_of
from .settings import Settings
from .snapshot import CacheFile
from .text import printable, printable_names

if TYPE_CHECKING:
    from .verification_result import Verification

__all__ = ["describe_files"]


def describe_files(verdicts: Iterable[Verdict], inspection: Inspection) -> list[dict[str, Any]]:
    """Return one entry for each of these verdicts of the plan, as ``details: files`` has them."""
    return [
        {
            **_file(verdict, used_by(verdict.file, inspection.snapshot, inspection.plan.usage), inspection),
            **_checksum(verdict.file, inspection.verification),
        }
        for verdict in sorted(verdicts, key=lambda verdict: verdict.file.name)
    ]


def _file(verdict: Verdict, users: Sequence[str], inspection: Inspection) -> dict[str, Any]:
    file, settings = verdict.file, inspection.settings
    return {
        "name": printable(file.name),
        "kind": file.kind.value,
        **described_image(verdict.image_id, settings),
        "in_glance": _in_glance(file, settings, verdict.image_id),
        "state": verdict.state.value,
        "reasons": reasons_of(verdict),
        "size_bytes": file.size_bytes,
        "allocated_bytes": file.allocated_bytes,
        "mtime": file.mtime_ns / 1_000_000_000,
        "age_seconds": age_seconds(file, inspection.now),
        "removable_in_seconds": verdict.removable_in,
        "used_by": printable_names(users),
    }


def _checksum(file: CacheFile, verification: Verification | None) -> dict[str, str | None]:
    checked = verification.by_name.get(file.name) if verification else None
    return {
        "checksum": checked.state.value if checked else None,
        "checksum_reason": checked.reason.value if checked and checked.reason else None,
    }


def _in_glance(file: CacheFile, settings: Settings, image_id: str | None) -> bool | None:
    if settings.glance_images is None or not is_of_image(file.key):
        return None
    return image_id in settings.glance_images
