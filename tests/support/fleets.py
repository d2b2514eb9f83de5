# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Answers of hosts, and fleets made of them, for the tests of the report."""

from __future__ import annotations

from typing import Any

from ansible_collections.stackops.nova.plugins.filter.image_cache_fleet import image_cache_fleet

GIB = 1 << 30
NOW = 1_800_000_000.0
BASE = "97aaae8fdc4935bc47d03cf539a6213a1f2c6ad4"
# What a guest, a tenant or an administrator could call something.
HOSTILE = [
    "</script><script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    "{{ 7*7 }}{% raw %}{#",
    '" onmouseover="alert(1)',
    "' autofocus onfocus='alert(1)",
    "&lt;b&gt;&amp;",
    "<!--",
    "]]>",
    "\u202egnp.exe\u202c",
    "\u2066\u2069\u200b\ufeff",
    "\x00\x1b[31m\x07\r\n\t\x85\u2028",
    "a\nnova_image_cache_files 1",
    '\\" } 1\\n',
    "\udcff\ud800",
    "\U0001f4a9 snowman \u2603",
    "x" * 10_000,
]


def answer(name: str = "compute-1", **more: Any) -> dict[str, Any]:
    """What an audit returns for a host with files in each state."""
    return {
        "cache_path": "/var/lib/nova/instances/_base",
        "exists": True,
        "now": NOW,
        "host": name,
        "store": {
            "id": f"ext4:{name}:8:1:/var/lib/nova/instances/_base",
            "filesystem": "ext4",
            "shared": False,
            "users": [name],
            "free_bytes": 20 * GIB,
            "total_bytes": 500 * GIB,
        },
        "summary": {
            "active": 4,
            "removable": 3,
            "too_young": 2,
            "other": 1,
            "total": {"files": 9, "allocated_bytes": 90 * GIB},
            "reclaimable_bytes": 30 * GIB,
            "bytes": {
                "active": 40 * GIB, "removable": 30 * GIB, "too_young": 20 * GIB, "other": 4096, "corrupt": GIB,
            },
        },
        "missing": [],
        "orphans": [],
        "unknown_use": [],
        "corrupt": [],
        "checksums": None,
        **more,
    }  # fmt: skip


def done(*removed: str, **more: Any) -> dict[str, Any]:
    """What a prune adds."""
    return {"removed": list(removed), "kept": [], "failed": [], "reclaimed_bytes": 10 * GIB * len(removed), **more}


def audited(image_cache: dict[str, Any]) -> dict[str, Any]:
    """The variables of a host that was audited."""
    facts = {"image_cache": image_cache}
    return {"ansible_facts": facts, "__image_cache_audit": {"changed": False, "ansible_facts": facts}}


def pruned(image_cache: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The variables of a host that was pruned as well."""
    return {**audited(image_cache), "__image_cache_pruned": {"image_cache": image_cache, **more}}


def unreachable(message: str = "ssh: No route to host") -> dict[str, Any]:
    return {"__image_cache_audit": {"unreachable": True, "msg": message}}


def failed(message: str = "It went wrong.", **more: Any) -> dict[str, Any]:
    return {"__image_cache_audit": {"failed": True, "msg": message, **more}}


def fleet_of(hostvars: dict[str, dict[str, Any]], **more: Any) -> dict[str, Any]:
    return image_cache_fleet(list(hostvars), hostvars, **{"now": NOW, **more})


def troubled(name: str, *, check_mode: bool = False) -> dict[str, Any]:
    """A fleet with something of each sort that needs a person, in which all that has a name has this one."""
    bad = answer(
        name,
        missing=[{"backing_file": name, "instances": [name] * 5}],
        corrupt=[{"name": name, "used_by": [name]}],
        orphans=[name],
        **done(name, name, failed=[{"name": name, "error": name}], kept=[{"name": name, "reason": "locked"}]),
    )
    bad["store"]["id"] = name
    refused = answer(name, unknown_use=[name], **done())
    shared = answer(name, **done(name))
    return fleet_of(
        {
            f"1{name}": pruned(bad),
            f"2{name}": pruned(refused, msg=name),
            f"3{name}": pruned(shared),
            f"4{name}": audited(shared),
            f"5{name}": unreachable(name),
            f"6{name}": failed(name),
            f"7{name}": {},
        },
        stores=[{"id": name, "hosts": [f"3{name}", f"4{name}"], "pruner": f"3{name}"}],
        check_mode=check_mode,
    )
