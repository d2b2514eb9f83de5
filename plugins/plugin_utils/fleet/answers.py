# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host answered: the one parser of it. An answer is a claim of that host until it was parsed here."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .options import NOTHING_SET, FleetOptions

__all__ = [
    "NOT_LOOKED_AT",
    "REFUSALS",
    "WARNINGS",
    "AnswerState",
    "FileAnswer",
    "FileOutcome",
    "Found",
    "HostAnswer",
    "find_mismatch",
    "parse_answer",
    "parse_image_cache",
    "read_result",
    "reasons_to_fail",
    "warnings_beside_report",
]

NOT_LOOKED_AT = (
    "It was not looked at in this run: it failed or could not be reached before, or a condition or a tag left it out. "
    "See the first failure of this host, and run the play again without --tags."
)

# The parts of an answer that say why nothing may be removed there.
REFUSALS = ("unknown_use", "unknown_deletions", "limit_exceeded")
WARNINGS = "host_warnings"
"""Where a task's result has what a host warned of, whether Ansible shows it or not."""

_LARGEST_COUNT = (1 << 63) - 1  # no file system counts further, and a sum of larger numbers fits no float
_LONGEST_COUNT = len(str(_LARGEST_COUNT))  # of many more digits, Python refuses to make a number
_STATES = ("active", "removable", "too_young", "other")
_MAYBE_TEXT = (str, None)
_MAYBE_COUNT = (int, None)
_MAYBE_BOOL = (bool, None)
_POLICY = {
    "remove_unused_base_images": bool,
    "remove_unused_original_minimum_age_seconds": int,
    "remove_unused_resized_minimum_age_seconds": int,
    "remove_unused_kernels": bool,
    "remove_only_deleted_images": bool,
    "remove_deleted_images_minimum_age_seconds": _MAYBE_COUNT,
    "orphans": str,
}
_SHARED_USE = {
    "instances": [dict],
    "held": [str],
    "problems": [str],
    "users": [str],
    "future_users": [str],
    "sample_ids": [int],
    "keep_images": [str],
    "keep_files": [str],
}
_CHECKSUMS = {
    **dict.fromkeys(("verified_files", "verified_bytes", "trusted_files", "skipped_files", "deferred_files"), int),
    "oldest_verification_seconds": (float, int, None),
}
_FOUND = {
    "cache_path": str,
    "exists": bool,
    "now": (float, int),
    "host": str,
    "storage": {
        "id": _MAYBE_TEXT,
        "instances_id": _MAYBE_TEXT,
        "filesystem": _MAYBE_TEXT,
        "mount_point": _MAYBE_TEXT,
        "shared": _MAYBE_BOOL,
        "users": [str],
        "free_bytes": _MAYBE_COUNT,
        "total_bytes": _MAYBE_COUNT,
    },
    "summary": {
        **dict.fromkeys(_STATES, int),
        "total": {"files": int, "allocated_bytes": int},
        "reclaimable_bytes": int,
        "reclaimable_by_age": {int: int},
        "bytes": dict.fromkeys((*_STATES, "corrupt"), int),
        "precached": {"files": int, "allocated_bytes": int},
        "orphans": {"directories": int, "allocated_bytes": int},
    },
    "missing": [
        {"backing_file": str, "instances": [str], "recoverable_from": _MAYBE_TEXT, "recoverable_until": ([str], None)},
    ],
    "corrupt": [{"name": str, "used_by": [str]}],
    "orphans": [{"directory": str, "allocated_bytes": _MAYBE_COUNT, "disks": _MAYBE_COUNT, "why": str}],
    **{name: [str] for name in REFUSALS},
    "checksums": (_CHECKSUMS, None),
    "policy": _POLICY,
    "for_members": (_SHARED_USE, None),
}
# What the modules warn of and the report shows.
_REPORTED = {"missing": [{"backing_file": str}], "corrupt": [{"name": str}], **{name: [str] for name in REFUSALS}}
# What is only there after a prune, or with some details.
_OPTIONAL = {
    "seconds": {"verification": (float, int)},
    "omitted": dict.fromkeys(("missing", "corrupt", "orphans", *REFUSALS), int),
    "images": [
        {
            "fingerprint": str,
            "image_id": _MAYBE_TEXT,
            "image_name": _MAYBE_TEXT,
            "in_glance": _MAYBE_BOOL,
            **dict.fromkeys(("files", "allocated_bytes", "reclaimable_bytes", "instances"), int),
            "newest_mtime": (float, int, None),
        }
    ],
    "files": [{"name": str, "state": str, "reasons": [str], "allocated_bytes": int}],
    "removed": [str],
    "kept": [{"name": str, "reason": str}],
    "failed": [{"name": str, "error": str}],
    "set_aside": [{"name": str, "allocated_bytes": int}],
    "reclaimed_bytes": int,
    "check_mode": bool,
}


Found = Mapping[str, Any]


class AnswerState(StrEnum):
    """Whether a host answered."""

    ANSWERED = "answered"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    NOT_LOOKED_AT = "not_looked_at"


@dataclass(frozen=True)
class HostAnswer:
    """What is known of one host of the play.

    :param name: its name in the inventory.
    :param state: whether it answered. A failed host may still have an ``image_cache``, as one with a corrupt file does.
    :param options: what it was looked at with; of a host that did not answer, what the inventory says.
    :param image_cache: the structure of the modules, None where there is none that can be understood.
    :param error: what went wrong; empty if nothing did.
    :param in_batch: whether it is in the batch that is decided now.
    """

    name: str
    state: AnswerState
    options: FleetOptions = NOTHING_SET
    image_cache: Mapping[str, Any] | None = None
    error: str = ""
    in_batch: bool = True

    @property
    def nova_name(self) -> str:
        """The name by which nova knows it; empty where nobody said it."""
        return self.options.host if self.image_cache is None else str(self.image_cache["host"])

    @property
    def names(self) -> frozenset[str]:
        """All that it may be called."""
        return frozenset({self.name, self.nova_name} - {""})

    @property
    def instances_path(self) -> str:
        """Where its instances are; empty where it did not answer."""
        return "" if self.image_cache is None else posixpath.dirname(self.image_cache["cache_path"])

    @property
    def cache_name(self) -> str:
        """The name of its cache directory in there, which may be the host's own; empty where it did not answer."""
        return "" if self.image_cache is None else posixpath.basename(self.image_cache["cache_path"])

    @property
    def for_members(self) -> Mapping[str, Any]:
        """What other hosts on its instances have to know of it; empty where it shares none."""
        return {} if self.image_cache is None else self.image_cache["for_members"] or {}


@dataclass(frozen=True)
class FileAnswer:
    """What one host found to restore or to pre-cache, or did.

    :param name: its name in the inventory.
    :param state: whether it answered. A host that refused something has answered.
    :param found: the structure of the module, None where there is none that can be understood.
    :param error: what went wrong; empty if nothing did.
    :param group: the storage group that it is in; empty for none.
    """

    name: str
    state: AnswerState
    found: Found | None = None
    error: str = ""
    group: str = ""

    @property
    def storage(self) -> tuple[str, ...]:
        """What tells the storage of its cache from others. A host without a cache has a storage of its own.

        Clones with one ``/etc/machine-id`` have one id for disks of their own. Nova's names tell them apart, and not
        the names of one machine in the inventory.
        """
        found = self.found or {}
        if found.get("storage_id") is None:
            return ("host", self.name)
        if self.group:
            return ("group", self.group, posixpath.basename(found["cache_path"]))
        return ("id", found["storage_id"], "" if found["shared_storage"] else found["host"])


@dataclass(frozen=True)
class FileOutcome:
    """One host at the end of a restore or a pre-cache.

    :param answer: what it found.
    :param result: what was made of what it did; None if it did not come to that.
    """

    answer: FileAnswer
    result: Found | None


def reasons_to_fail(outcome: Mapping[str, Any]) -> list[str]:
    """Return why a host fails after a restore or a pre-cache: a text for each file that is not there at its end."""
    return [*(file["reason"] for file in outcome["refused"]), *(file["error"] for file in outcome["failed"])]


def parse_answer(name: str, result: Mapping[str, Any], options: FleetOptions, in_batch: bool = True) -> HostAnswer:
    """Understand what a module returned on a host.

    :param name: the host's name in the inventory.
    :param result: the registered result of looking at it or of pruning it.
    :param options: what it was looked at with.
    :param in_batch: whether it is in the batch that is decided now.
    :return: the answer. One that cannot be understood is a failed one that says where it is wrong.
    """
    state, error, image_cache = read_result(name, result, "image_cache", parse_image_cache)
    return HostAnswer(name, state, options, image_cache, error, in_batch)


def read_result(
    name: str, result: Mapping[str, Any], key: str, find_problem: Callable[[Any], str]
) -> tuple[AnswerState, str, Mapping[str, Any] | None]:
    """Read what a module returned on a host under a key.

    :param name: the host's name in the inventory.
    :param result: the registered result.
    :param key: the name of the module's structure.
    :param find_problem: returns where a structure is not what the module returns; empty if it is.
    :return: whether the host answered, what went wrong, and the structure; None where there is none that can be
        understood.
    """
    state = AnswerState.ANSWERED
    error = ""
    if result.get("unreachable"):
        state, error = AnswerState.UNREACHABLE, _message(result)
    elif result.get("failed"):
        state, error = AnswerState.FAILED, _message(result)
    structure = result.get(key)
    if structure is None:
        if state is AnswerState.ANSWERED:
            state, error = (
                AnswerState.FAILED,
                "The module ended without a result. Look for a full disk (df) or memory (free, dmesg) on the host.",
            )
        return state, error, None
    problem = find_problem(structure)
    if problem:
        error = f"Its answer cannot be understood: {problem}. See what replaces Python or its output on {name}."
        return AnswerState.FAILED, error, None
    return state, error, structure


def parse_image_cache(image_cache: Any) -> str:
    """Return where a structure is not what the modules return; empty if it is."""
    problem = find_mismatch(image_cache, _FOUND, "image_cache")
    if problem is None:
        shape = {key: inner for key, inner in _OPTIONAL.items() if key in image_cache}
        problem = find_mismatch(image_cache, shape, "image_cache")
    return problem or ""


def warnings_beside_report(result: Mapping[str, Any]) -> list[str]:
    """Return the warnings of a host without those about what the report shows of all hosts at once.

    A file accounts for one warning: another one that names it is about something else.

    :param result: what a task of the role returned.
    """
    warnings = list(result.get(WARNINGS, ()))
    found: Any = result.get("image_cache")
    if find_mismatch(found, _REPORTED, "image_cache") is not None:
        return warnings
    refused = {f"Nothing may be removed: {reason}" for name in REFUSALS for reason in found[name]}
    files = [*(one["backing_file"] for one in found["missing"]), *(one["name"] for one in found["corrupt"])]
    others = []
    for text in warnings:
        named = next((file for file in files if file in text), None)
        if named is not None:
            files.remove(named)
        elif text not in refused:
            others.append(text)
    return others


def _message(result: Mapping[str, Any]) -> str:
    """Return why a task failed: what the module said or, if it crashed, the end of its traceback."""
    lines = str(result.get("module_stderr") or "").strip().splitlines()
    message = str(result.get("msg") or "It failed without a message.")
    return f"{message} ({lines[-1]})" if lines and lines[-1] not in message else message


def find_mismatch(value: Any, shape: Any, path: str) -> str | None:
    """Return where a value is not of its shape, None if it is.

    :param value: what a host returned.
    :param shape: a type, a dictionary of the shapes of keys, a list with the shape of each item, or a tuple of shapes
        of which one is enough. ``int`` is a count, and ``dict`` any dictionary.
    :param path: the value's name.
    """
    if isinstance(shape, tuple):
        if None in shape and value is None:
            return None
        kinds = [kind for kind in shape if kind is not None]
        problems = [find_mismatch(value, kind, path) for kind in kinds]
        return None if None in problems else problems[0]
    if isinstance(shape, dict):
        if not isinstance(value, Mapping):
            return f"{path} is not a dictionary"
        if int in shape:
            if not all(isinstance(key, str) and key.isdecimal() and len(key) <= _LONGEST_COUNT for key in value):
                return f"a key of {path} is not a count"
            shape = dict.fromkeys(value, shape[int])
        parts = ((value.get(key), inner, f"{path}.{key}") for key, inner in shape.items())
    elif isinstance(shape, list):
        if not isinstance(value, Sequence) or isinstance(value, str):
            return f"{path} is not a list"
        parts = ((item, shape[0], f"{path}[]") for item in value)
    elif shape is int:
        is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST_COUNT
        return None if is_count else f"{path} is not a count"
    elif shape is float:
        return None if isinstance(value, float) and math.isfinite(value) else f"{path} is not a number"
    elif shape is dict:
        return None if isinstance(value, Mapping) else f"{path} is not a dictionary"
    else:
        return None if isinstance(value, shape) else f"{path} is not of the type {shape.__name__}"
    return next((problem for part in parts if (problem := find_mismatch(*part)) is not None), None)
