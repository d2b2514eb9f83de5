# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A prune, from options to result: the door that ``image_cache_prune`` uses."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Sequence

from .apply import Outcome, apply_plan, dry_run
from .audit import corruption_error, inspect_and_plan, verify
from .backing_chain import RunCommand
from .errors import ImageCacheError
from .files_result import describe_files
from .plan import Plan, State
from .progress import Log, Stopwatch, silent
from .result import describe, reasons_of, reclaimable_bytes, warnings
from .settings import Settings
from .snapshot import names_by_inode, read_disks
from .text import printable

__all__ = ["PruneResult", "prune"]


class PruneResult(NamedTuple):
    """What a prune gives back.

    :param facts: the ``image_cache`` structure: what was found before anything was removed.
    :param done: what that structure has besides: what was done, or would be.
    :param changed: whether anything was removed, or a checksum saved for the first time, or would be.
    :param diff: the cache's listing before and after.
    :param warnings: sentences to warn with.
    :param error: why the task fails, None if it does not.
    """

    facts: dict[str, Any]
    done: dict[str, Any]
    changed: bool
    diff: dict[str, str]
    warnings: list[str]
    error: str | None


def prune(
    params: Mapping[str, Any], now: float, run_command: RunCommand, check_mode: bool, log: Log = silent
) -> PruneResult:
    """Remove what nobody needs from a host's image cache.

    :param check_mode: stop after the plan: nothing is written, and what is returned is what would be done.
    :param log: where a prune that takes long writes a line each minute; in check mode it writes none.
    :return: what was found and done.
    :raises ImageCacheError: as for :func:`audit.audit`; nothing was removed.

    The other parameters are those of :func:`audit.audit`.
    """
    stopwatch = Stopwatch()
    inspection = inspect_and_plan(params, now, run_command)
    seconds = {"inspection": stopwatch.lap()}
    settings, snapshot, plan = inspection.settings, inspection.snapshot, inspection.plan
    if check_mode or not snapshot.exists:
        outcome = dry_run(plan)
    else:
        outcome = apply_plan(
            plan,
            settings,
            shared=snapshot.storage is None or snapshot.storage.shared,
            read_disks=lambda: read_disks(
                settings, names_by_inode(snapshot.files), snapshot.external_disks, run_command
            ),
            log=log,
        )
    seconds["removal"] = stopwatch.lap()
    failure = None
    try:
        # Last, for it may take long, and what was looked at before must not grow old meanwhile.
        inspection = verify(
            inspection,
            run_command,
            removed=frozenset(file.name for file in outcome.removed),
            may_save=not check_mode,
            is_dry_run=check_mode,
            log=silent if check_mode else log,
        )
    except ImageCacheError as exc:
        failure = f"The files could not be verified: {exc}"  # what was removed is to be told all the same
    seconds["verification"] = stopwatch.lap()
    errors = [_error(plan, outcome, settings), failure, corruption_error(inspection)]
    saved = [file.name for file in inspection.verification.saved] if inspection.verification else []
    done = _describe_outcome(outcome)
    done["saved_checksums"] = [printable(f"{settings.cache_path}/{name}") for name in saved]
    if settings.details != "files":
        # With any details, each file that goes is told with its size and its reasons.
        removable = [verdict for verdict in plan.verdicts if verdict.state is State.REMOVABLE]
        done["files"] = describe_files(removable, inspection)
    return PruneResult(
        facts={**describe(inspection), "seconds": seconds},
        done=done,
        changed=bool(outcome.removed or saved),
        diff=_listing_diff(plan, outcome, settings, saved),
        warnings=[*warnings(inspection), *outcome.warnings],
        error=" ".join(filter(None, errors)) or None,
    )


def _describe_outcome(outcome: Outcome) -> dict[str, Any]:
    """Return what a prune did, or in check mode would do, as plain data."""
    return {
        "removed": sorted(file.name for file in outcome.removed),
        "kept": [{"name": kept.name, "reason": kept.reason.value} for kept in sorted(outcome.kept)],
        "failed": [{"name": failure.name, "error": failure.error} for failure in sorted(outcome.failed)],
        "reclaimed_bytes": reclaimable_bytes(outcome.removed),
    }


def _listing_diff(plan: Plan, outcome: Outcome, settings: Settings, saved: Sequence[str]) -> dict[str, str]:
    """Return the cache's listing before and after, a line a file: name, size in bytes, reasons.

    :param saved: the files whose checksum was saved for the first time. Each has a line of its own afterwards.
    """
    removed = {file.name for file in outcome.removed}
    lines = {
        verdict.file.name: f"{verdict.file.name} {verdict.file.size_bytes} {','.join(reasons_of(verdict))}\n"
        for verdict in sorted(plan.verdicts, key=lambda verdict: verdict.file.name)
        if verdict.state is not State.OTHER
    }
    after = {name: line for name, line in lines.items() if name not in removed}
    for name in saved:
        after[name] += f"{name} {settings.checksums.algorithm} saved\n"
    path = printable(settings.cache_path)
    return {
        "before_header": path,
        "after_header": path,
        "before": "".join(lines.values()),
        "after": "".join(after.values()),
    }


def _error(plan: Plan, outcome: Outcome, settings: Settings) -> str | None:
    path = printable(settings.cache_path)
    also = "".join(f" {sentence}" for sentence in plan.unknown_deletions)
    if plan.limit_exceeded:
        also = f" A limit was exceeded, too. {' '.join(plan.limit_exceeded)}"
    if plan.unknown_use:
        reasons = " ".join(f"({number}) {sentence}" for number, sentence in enumerate(plan.unknown_use[:5], 1))
        more = f" And {len(plan.unknown_use) - 5} more." if len(plan.unknown_use) > 5 else ""
        return f"Nothing was removed from {path}: it is not certain which files are in use. {reasons}{more}{also}"
    if plan.unknown_deletions:
        return f"Nothing was removed from {path}: it is not certain which images Glance no longer has.{also}"
    if plan.limit_exceeded:
        return f"Nothing was removed from {path}: a limit was exceeded. {' '.join(plan.limit_exceeded)}"
    if plan.blocked_by:
        return f"Nothing was removed from {path}: no file in it can be removed. {plan.blocked_by}"
    if outcome.failed:
        first = outcome.failed[0]
        return (
            f"{len(outcome.failed)} of {len(plan.removals)} files could not be removed from {path} as planned. The "
            f"first is {first.name}: {first.error}. See image_cache.failed in the result for each, and "
            f"image_cache.removed for what was removed."
        )
    return None
