# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Glance lists and what hosts find to pre-cache, for tests of the fleet: plain values, of the shapes they have."""

from __future__ import annotations

import json
from hashlib import sha512
from typing import Any

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.answers import AnswerState, FileAnswer, FileOutcome
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.precache import (
    PRECACHE,
    PrecacheDecision,
    merge_precache_outcome,
    summarise_precache,
)
from ansible_collections.stackops.nova.tools.cache_tree import fingerprint

GIB = 1 << 30
FULL = "It needs 2147483648 bytes, and 1073741824 are free. Free some space, or lower min_free_space."


def image(image_id: str = "one", content: bytes = b"", **more: Any) -> dict[str, Any]:
    """An image as Glance lists it."""
    return {
        "id": image_id,
        "name": f"image {image_id}",
        "status": "active",
        "visibility": "public",
        "owner": "project",
        "os_hidden": False,
        "disk_format": "raw",
        "container_format": "bare",
        "size": len(content) or GIB,
        "virtual_size": None,
        "os_hash_algo": "sha512",
        "os_hash_value": sha512(content).hexdigest(),
        **more,
    }


def fetched(image_id: str = "one", **more: Any) -> dict[str, Any]:
    """An image that a host fetched, or would."""
    return {
        "name": fingerprint(image_id),
        "image_id": image_id,
        "image_name": f"image {image_id}",
        "source": "glance",
        "proof": "checksum",
        "read_bytes": GIB,
        "size_bytes": 2 * GIB,
        "allocated_bytes": GIB,
        "seconds": 0.0,
        "algorithm": "sha512",
        "checksum": "0" * 128,
        **more,
    }


def present(image_id: str = "one") -> dict[str, Any]:
    """An image that a host has."""
    return {"name": fingerprint(image_id), "image_id": image_id}


def refused(image_id: str = "one", reason: str = FULL) -> dict[str, Any]:
    """An image that a host refused."""
    return {**present(image_id), "reason": reason}


def failed(image_id: str = "one", error: str = FULL) -> dict[str, Any]:
    """An image that a host could not fetch."""
    return {**present(image_id), "error": error}


def found(storage: str | None = "disk", *, shared: bool = False, **more: Any) -> dict[str, Any]:
    """What the module returns for a host: ``fetched``, ``refused`` and so on are empty unless given."""
    answered = {
        "check_mode": True,
        "cache_path": "/nova/_base",
        "host": "nova-host",
        "storage_id": storage,
        "shared_storage": None if storage is None else shared,
        "fetched": [],
        "present": [],
        "refused": [],
        "failed": [],
        "free_bytes": GIB,
        **more,
    }
    copied: dict[str, Any] = json.loads(json.dumps(answered))
    return copied


def answer(name: str = "a", storage: str | None = "disk", *, group: str = "", **more: Any) -> FileAnswer:
    """A host that answered."""
    return FileAnswer(name, AnswerState.ANSWERED, found(storage, **more), group=group)


def result(**more: Any) -> dict[str, Any]:
    """What a task registers that ran the module."""
    return {"changed": False, PRECACHE: found(**more)}


def precached(*outcomes: FileOutcome, check_mode: bool = False, now: float = 0.0, **names: str) -> dict[str, Any]:
    """What is known of a run in which this came of the hosts; ``names`` are those of the images."""
    return summarise_precache(outcomes, names, check_mode, now)


def outcome(name: str = "a", storage: str = "", *, elsewhere: str = "", **more: Any) -> FileOutcome:
    """What came of a host that did all that it was to do.

    :param storage: what it shares with others; a disk of its own if empty.
    :param elsewhere: the host that fetches image ``one`` for it; itself if empty.
    :param more: what its look found.
    """
    answered = answer(name, storage or f"disk-{name}", shared=bool(storage), **more)
    decision = PrecacheDecision((), {"one": elsewhere}) if elsewhere else PrecacheDecision(("one",))
    return FileOutcome(answered, merge_precache_outcome(answered.found or {}, decision, None))


def silent(name: str, error: str = "No route to host") -> FileOutcome:
    """A host that did not answer."""
    return FileOutcome(FileAnswer(name, AnswerState.UNREACHABLE, error=error), None)


def of_each_outcome(name: str, *, check_mode: bool = False) -> dict[str, Any]:
    """A run in which each thing that can come of an image came of one, and all that has a name has this one."""
    return precached(
        outcome(
            f"1{name}",
            "nfs",
            fetched=[fetched("one")],
            present=[present("two")],
            refused=[refused("three", name)],
            failed=[failed("four", name)],
        ),
        outcome(f"2{name}", "nfs", elsewhere=f"1{name}", fetched=[fetched("one")], present=[present("two")]),
        outcome(f"3{name}", present=[present("one"), present("two")]),
        silent(f"4{name}", name),
        check_mode=check_mode,
        now=1_800_000_000.0,
        one=name,
        three=name,
    )
