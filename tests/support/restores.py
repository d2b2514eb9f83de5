# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What hosts find to restore, for tests of the fleet: plain values, of the shape that image_cache_restore returns."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.answers import AnswerState, FileAnswer
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.restore import RESTORE

GIB = 1 << 30


def restorable(name: str = "base", **more: Any) -> dict[str, Any]:
    """A base file that a process still has, or what differs."""
    return {
        "name": name,
        "state": "missing",
        "image_id": None,
        "source": "process",
        "source_path": "/proc/42/fd/13",
        "contacted": True,
        "inode": 7,
        "proof": "process",
        "guests": ["guest"],
        "instances": ["guest"],
        "needs_restart": [],
        "read_bytes": GIB,
        "size_bytes": 2 * GIB,
        "allocated_bytes": GIB,
        "seconds": 0.0,
        "algorithm": None,
        "checksum": None,
        **more,
    }


NOT_OPEN = "No process has it open. Run it again."
FULL = "The disk is full."


def refused(name: str = "base", reason: str = NOT_OPEN, **more: Any) -> dict[str, Any]:
    """A base file that a host cannot restore."""
    file = {"name": name, "state": "missing", "image_id": None, "instances": ["guest"]}
    return {**file, "reason": f"/nova/_base/{name} was not restored (used by guest). {reason}", **more}


def failed(name: str = "base", error: str = FULL, **more: Any) -> dict[str, Any]:
    """A base file whose restore failed."""
    file = {"name": name, "state": "missing", "image_id": None, "instances": ["guest"]}
    return {**file, "error": f"/nova/_base/{name} was not restored (used by guest). {error}", **more}


def set_aside(name: str = "base", **more: Any) -> dict[str, Any]:
    """A file that is set aside."""
    return {
        "name": name,
        "set_aside_as": f".{name}.stackops-1",
        "instances": ["guest"],
        "size_bytes": 2 * GIB,
        "allocated_bytes": GIB,
        **more,
    }


def found(storage: str | None = "disk", *, shared: bool = False, **more: Any) -> dict[str, Any]:
    """What the module returns for a host: ``restored``, ``refused`` and so on are empty unless given."""
    answered = {
        "check_mode": True,
        "cache_path": "/nova/_base",
        "host": "nova-host",
        "storage_id": storage,
        "shared_storage": None if storage is None else shared,
        "restored": [],
        "present": [],
        "refused": [],
        "failed": [],
        "set_aside": [],
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
    return {"changed": False, RESTORE: found(**more)}


def shown_in_guide() -> dict[str, Any]:
    """What the guide's page shows: a dry run on four hosts, after nova has removed files under their guests."""
    base, name = "97aaae8fdc4935bc47d03cf539a6213a1f2c6ad4", "instance-0000002a"
    process = restorable(base, host="cmp-103", guests=[name], instances=[name], source_path="/proc/48213/fd/21")
    template = restorable(
        "swap_512",
        host="cmp-104",
        guests=["instance-00000039"],
        source_path="/proc/5127/fd/19",
        allocated_bytes=1 << 20,
    )
    lost = {
        "host": "cmp-102",
        "name": base,
        "state": "missing",
        "instances": ["instance-000000b7"],
        "reason": "No process of a guest on this host has it open. Copy the image to this host, and set files: {image "
        "id: path} and images: [Glance's record of it].",
    }
    return {
        "check_mode": True,
        "hosts": 4,
        "restored": [process, template],
        "lost": [lost],
        "set_aside": [],
        "unanswered": [{"host": "cmp-105", "error": "ssh: connect to host cmp-105 port 22: No route to host"}],
    }
