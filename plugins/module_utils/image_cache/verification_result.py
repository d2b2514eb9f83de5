# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What verification found out: the result for each file, and the sentences and numbers for the operator."""

from __future__ import annotations

from enum import Enum
from typing import Any, Mapping, NamedTuple, Sequence

from .inspection import Inspection
from .plan import used_by
from .saved_checksums import SavedChecksums, least_recently_verified_first
from .snapshot import CacheFile
from .text import printable, some_names

__all__ = ["ChecksumReason", "FileVerification", "Verification", "VerificationState", "sum_up"]


class VerificationState(str, Enum):
    """What verification says of a file."""

    UNVERIFIED = "unverified"
    TRUSTED = "trusted"
    OK = "ok"
    CORRUPT = "corrupt"
    SKIPPED = "skipped"
    DEFERRED = "deferred"


class ChecksumReason(str, Enum):
    """Why a file is corrupt or was skipped."""

    SAVED = "saved"
    KNOWN = "known"
    LOCKED = "locked"
    CHANGED = "changed"
    REPLACED = "replaced"
    GONE = "gone"
    UNREADABLE = "unreadable"


class FileVerification(NamedTuple):
    """The result for one file.

    :param read_bytes: its size where it was read to its end, else None.
    :param verified_at: as in :class:`saved_checksums.SavedChecksums`, after this pass.
    :param detail: what is wrong with a corrupt file, or why one cannot be read; else empty.
    :param save_error: why the result could not be saved, empty where it could or need not be.
    :param exceeds_budget: whether a file that was left had the whole of the time and needs more.
    :param is_first_saving: whether a checksum of the wanted algorithm was saved and none was there before; in a dry
        run, whether a prune would do so, if it has the time.
    """

    file: CacheFile
    state: VerificationState
    reason: ChecksumReason | None = None
    read_bytes: int | None = None
    verified_at: float | None = None
    detail: str = ""
    save_error: str = ""
    exceeds_budget: bool = False
    is_first_saving: bool = False


class Verification(NamedTuple):
    """What a pass found out.

    :param by_name: the result for each file in scope.
    :param corrupt: the corrupt files.
    :param summary: the pass in numbers, as plain data.
    :param alarms: a sentence for each corrupt file.
    :param warnings: other sentences for the operator.
    :param saved: the files whose checksum was saved for the first time, or in a dry run would be, in the order in
        which they are verified.
    """

    by_name: Mapping[str, FileVerification]
    corrupt: Sequence[CacheFile]
    summary: dict[str, Any]
    alarms: Sequence[str]
    warnings: Sequence[str]
    saved: Sequence[CacheFile] = ()


def sum_up(
    checked: Sequence[FileVerification],
    records: Mapping[str, SavedChecksums],
    inspection: Inspection,
    problem: str,
    is_dry_run: bool = False,
) -> Verification:
    """Put together what a pass found out.

    :param checked: the result for each file in scope.
    :param records: what was saved about the files that were not trusted, by name.
    :param inspection: the pass.
    :param problem: why nova's locks cannot be used, empty where they can.
    :param is_dry_run: whether ``saved`` is what a prune would save.
    """
    settings = inspection.settings
    by_state: dict[VerificationState, list[FileVerification]] = {state: [] for state in VerificationState}
    for result in sorted(checked, key=lambda result: result.file.name):
        by_state[result.state].append(result)
    read = [result.read_bytes for result in checked if result.read_bytes is not None]
    times = [result.verified_at for result in checked if result.verified_at is not None]
    is_complete = len(times) == len(checked) and times
    first_saved = [result.file for result in checked if result.is_first_saving]
    saved = least_recently_verified_first(first_saved, records) if first_saved else []
    warnings = _warnings(by_state, records, problem)
    if saved and is_dry_run and settings.checksums.time_budget_seconds is not None:
        warnings.append(_budget_warning(len(saved)))
    return Verification(
        by_name={result.file.name: result for result in checked},
        corrupt=[result.file for result in by_state[VerificationState.CORRUPT]],
        summary={
            "algorithm": settings.checksums.algorithm,
            "verified_files": len(read),
            "verified_bytes": sum(read),
            "trusted_files": len(by_state[VerificationState.TRUSTED]),
            "unverified_files": len(by_state[VerificationState.UNVERIFIED]),
            "skipped_files": len(by_state[VerificationState.SKIPPED]),
            "deferred_files": len(by_state[VerificationState.DEFERRED]),
            "deferred_bytes": sum(result.file.size_bytes for result in by_state[VerificationState.DEFERRED]),
            "oldest_verification_seconds": max(0.0, inspection.now - min(times)) if is_complete else None,
        },
        alarms=[_alarm(result, inspection) for result in by_state[VerificationState.CORRUPT]],
        warnings=warnings,
        saved=saved,
    )


def _alarm(result: FileVerification, inspection: Inspection) -> str:
    name = result.file.name
    users = used_by(result.file, inspection.snapshot, inspection.plan.usage)
    source = "known_checksums says" if result.reason is ChecksumReason.KNOWN else "was saved"
    return (
        f"The base file {printable(name)}{inspection.of_image(name)} is corrupt: {result.detail}, as {source}. "
        f"{f'It is used by {some_names(users)}' if users else 'No known instance uses it'}. "
        f"Nothing was done about it. Compare it with another host's (cmp). Restore it from there or from Glance before "
        f"an instance that uses it starts again."
    )


def _warnings(
    by_state: Mapping[VerificationState, Sequence[FileVerification]],
    records: Mapping[str, SavedChecksums],
    problem: str,
) -> list[str]:
    sentences = []
    if problem:
        sentences.append(f"Checksums were compared without nova's locks, and not saved: {problem}.")
    checked = [result for results in by_state.values() for result in results]
    save_error = [(result.file.name, result.save_error) for result in checked if result.save_error]
    if save_error:
        sentences.append(
            f"What verification found of {_count(save_error)} could not be saved, and they are read again next time; "
            f"{_first(save_error)}."
        )
    unreadable = [
        (result.file.name, result.detail)
        for result in by_state[VerificationState.SKIPPED]
        if result.reason is ChecksumReason.UNREADABLE
    ]
    if unreadable:
        sentences.append(f"{_count(unreadable)} could not be read and verified; {_first(unreadable)}.")
    damaged = [(name, record.damaged) for name, record in sorted(records.items()) if record.damaged is not None]
    if damaged:
        sentences.append(
            f"The info files of {_count(damaged)} are damaged and count as empty; {_first(damaged)}. To write them "
            f"anew, prune with checksum_base_images."
        )
    too_large = [result.file.name for result in by_state[VerificationState.DEFERRED] if result.exceeds_budget]
    if too_large:
        sentences.append(
            f"checksum_time_budget_seconds, or checksum_max_rate, is too small to read {some_names(too_large)} to the "
            f"end, so no run verifies such a file. Increase checksum_time_budget_seconds in a run now and then."
        )
    return sentences


def _budget_warning(count: int) -> str:
    return (
        f"checksum_time_budget_seconds decides how many of the {count} checksums in saved_checksums a prune saves. It "
        f"saves them in that order. For all of them at once, remove checksum_time_budget_seconds."
    )


def _count(items: Sequence[object]) -> str:
    return f"{len(items)} base {'file' if len(items) == 1 else 'files'}"


def _first(items: Sequence[tuple[str, str]]) -> str:
    name, why = items[0]
    return f"of {printable(name)}: {why}" if len(items) == 1 else f"of {printable(name)}, first of them: {why}"
