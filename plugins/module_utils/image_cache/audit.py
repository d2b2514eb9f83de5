# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An audit, from options to result: the door that ``image_cache_facts`` uses."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import Any, Iterator, Mapping, NamedTuple

from .argspec import has_instance_source, instances_from_params, settings_from_params
from .backing_chain import RunCommand
from .cache_directory import require_storage
from .inspection import Inspection
from .instances import Instance, Instances
from .nova_paths import instances_path_of
from .plan import make_plan
from .progress import Log, Stopwatch, silent
from .result import describe, warnings
from .settings import Settings
from .snapshot import instance_directory_names, take_snapshot
from .text import printable, some_names

__all__ = ["AuditResult", "audit", "corruption_error", "inspect_and_plan", "verify"]


class AuditResult(NamedTuple):
    """What an audit gives back.

    :param facts: the ``image_cache`` structure.
    :param warnings: sentences to warn with.
    :param error: why the task fails, None if it does not.
    """

    facts: dict[str, Any]
    warnings: list[str]
    error: str | None = None


def audit(params: Mapping[str, Any], now: float, run_command: RunCommand) -> AuditResult:
    """Look at a host's image cache; write nothing.

    :param params: the module's options.
    :param now: the time, in unix seconds.
    :param run_command: how ``qemu-img`` is run, where a disk's header is not enough.
    :return: what was found, and what a prune with these options would do.
    :raises ImageCacheError: an option is wrong, or the cache cannot be looked at at all.
    """
    stopwatch = Stopwatch()
    inspection = inspect_and_plan(params, now, run_command)
    seconds = {"inspection": stopwatch.lap()}
    inspection = verify(inspection, run_command)
    seconds["verification"] = stopwatch.lap()
    return AuditResult(
        facts={**describe(inspection), "seconds": seconds},
        warnings=warnings(inspection),
        error=corruption_error(inspection),
    )


def inspect_and_plan(params: Mapping[str, Any], now: float, run_command: RunCommand) -> Inspection:
    """Read everything and decide: the part that an audit, a dry run and a prune have in common.

    The parameters and errors are those of :func:`audit`.
    """
    settings = settings_from_params(params)
    require_storage(settings)
    with garbage_collection_paused():
        # Before the instances are read: a directory that nova makes after that belongs to none that could be known.
        earlier_directories = instance_directory_names(settings) if has_instance_source(params) else None
        settings, instances = _on_host(settings, instances_from_params(params, settings.host))
        instances = instances._replace(earlier_directories=earlier_directories)
        external_disks = [
            (instance.uuid, path, image_format) for instance in instances.all for path, image_format in instance.disks
        ]
        snapshot = take_snapshot(settings, external_disks, run_command)
        snapshot = snapshot._replace(warnings=(*settings.warnings, *snapshot.warnings))
        plan = make_plan(snapshot, instances, settings, now)
        if plan.unused and settings.keep_precached_seconds:
            # Here, so that a pass that finds nothing unused does not pay for it.
            from .precached import read_precached

            precached_at = read_precached(plan.unused, snapshot, settings)
            if precached_at:
                snapshot = snapshot._replace(precached_at=precached_at)
                plan = make_plan(snapshot, instances, settings, now)
        if plan.missing and snapshot.former_file_users:
            # Here, so that a pass that misses nothing does not pay for it.
            from .fetch.candidates import look_at_former_files

            plan = look_at_former_files(plan, snapshot, settings, run_command)
        if not plan.usage.orphans:
            return Inspection(settings, snapshot, plan, now)
        # Here, so that a host without orphans does not pay for it.
        from .orphans import inspect_orphans

        return Inspection(settings, snapshot, plan, now, orphans=inspect_orphans(snapshot, plan, settings))


def _on_host(settings: Settings, instances: Instances) -> tuple[Settings, Instances]:
    """Find where the disks that domain XML names are on this host, and by which paths nova names its instances."""
    prefix = settings.instances_path + "/"
    nova_paths = dict.fromkeys(settings.nova_instances_paths)
    for instance in instances.all:
        for path, _format in instance.disks:
            if not path.startswith(prefix):
                nova_paths[instances_path_of(path, instance.directories)] = None
    settings = settings._replace(nova_instances_paths=tuple(path for path in nova_paths if path))
    if not settings.nova_instances_paths:
        return settings, instances
    on_host = tuple(_with_disks_on_host(instance, settings) for instance in instances.all)
    return settings, instances._replace(all=on_host)


def _with_disks_on_host(instance: Instance, settings: Settings) -> Instance:
    disks = tuple([(settings.on_host(path), image_format) for path, image_format in instance.disks])
    return instance if disks == instance.disks else instance._replace(disks=disks)


@contextmanager
def garbage_collection_paused() -> Iterator[None]:
    """Have Python look for no garbage, and later for none in what was read: it is kept until the module ends.

    Looking through it is a fifth of a large audit.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.freeze()
            gc.enable()


def verify(
    inspection: Inspection,
    run_command: RunCommand,
    removed: frozenset[str] = frozenset(),
    may_save: bool = False,
    is_dry_run: bool = False,
    log: Log = silent,
) -> Inspection:
    """Verify base files, if the options say so.

    The parameters are those of :func:`verification.verify_files`.

    :return: the pass, with what was found out.
    """
    if not inspection.settings.checksums.enabled or not inspection.snapshot.exists:
        return inspection
    # Here, so that a pass without verification does not pay for hashes and threads.
    from .verification import verify_files

    verification = verify_files(
        inspection, run_command, removed=removed, may_save=may_save, is_dry_run=is_dry_run, log=log
    )
    return inspection._replace(verification=verification)


def corruption_error(inspection: Inspection) -> str | None:
    """Say why a task fails over corrupt files; None where there are none, or it need not."""
    settings, verification = inspection.settings, inspection.verification
    if verification is None or not verification.corrupt or not settings.checksums.fail_on_corrupt:
        return None
    names = [file.name for file in verification.corrupt]
    return (
        f"{len(names)} corrupt base {'file' if len(names) == 1 else 'files'} in {printable(settings.cache_path)}: "
        f"{some_names(names)}. See image_cache.corrupt in the result for who uses them, and the warnings for what to "
        f"do."
    )
