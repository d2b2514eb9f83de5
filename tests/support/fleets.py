# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fleets as the report shows them, for its tests: plain values, of the shape that report.json has."""

from __future__ import annotations

import hashlib
import random
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.images import total_images

GIB = 1 << 30
NOW = 1_800_000_000.0
BASE = "97aaae8fdc4935bc47d03cf539a6213a1f2c6ad4"
# What a guest, a tenant or an administrator could call something.
HOSTILE = [
    "</script><script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    "{{ 7*7 }}{% raw %}{#",
    "{{ lookup('pipe', 'touch /tmp/pwned') }}",
    '" onmouseover="alert(1)',
    "' autofocus onfocus='alert(1)",
    "&lt;b&gt;&amp;",
    "<!--",
    "]]>",
    "\u202egnp.exe\u202c",
    "\u2066\u2069\u200b\ufeff",
    "\x00\x1b[31m\x07\r\n\t\x85\u2028",
    "\x1b]0;title\x07\x9b2J",
    "a\nnova_image_cache_files 1",
    '\\" } 1\\n',
    "\udcff\ud800",
    "\U0001f4a9 snowman \u2603",
    "\u4e2d\u6587" * 60,
    "x" * 10_000,
]


def orphan(directory: str, **more: Any) -> dict[str, Any]:
    """A directory that belongs to no known instance."""
    return {
        "directory": directory,
        "allocated_bytes": 3 * GIB,
        "newest_mtime": NOW - 86400,
        "disks": 2,
        "backed_by": [BASE],
        "why": "No source lists an instance of this UUID.",
        **more,
    }


def sum_of_orphans(orphans: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """What a summary has of these."""
    return {"directories": len(orphans), "allocated_bytes": sum(one["allocated_bytes"] or 0 for one in orphans)}


def answer(name: str = "compute-1", **more: Any) -> dict[str, Any]:
    """What an audit returns for a host with files in each state."""
    return {
        "cache_path": "/var/lib/nova/instances/_base",
        "exists": True,
        "now": NOW,
        "host": name,
        "storage": {
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
            "reclaimable_by_age": {"3600": 30 * GIB, "86400": 30 * GIB, "604800": 12 * GIB, "2419200": 0},
            "bytes": {
                "active": 40 * GIB, "removable": 30 * GIB, "too_young": 20 * GIB, "other": 4096, "corrupt": GIB,
            },
            "precached": {"files": 0, "allocated_bytes": 0},
            "orphans": sum_of_orphans(more.get("orphans", ())),
        },
        "missing": [],
        "orphans": [],
        "unknown_use": [],
        "corrupt": [],
        "checksums": None,
        "policy": {
            "remove_unused_base_images": True,
            "remove_unused_original_minimum_age_seconds": 86400,
            "remove_unused_resized_minimum_age_seconds": 3600,
            "remove_unused_kernels": False,
            "orphans": "protect",
        },
        **more,
    }  # fmt: skip


def image(number: int | str, gib: int = 10, instances: int = 0, removable_gib: int = 0, **more: Any) -> dict[str, Any]:
    """An image of a host, as the modules return it; the same number is the same image on another host."""
    return {
        "fingerprint": hashlib.sha1(str(number).encode()).hexdigest(),
        "image_id": str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))),
        "image_name": f"image-{number}",
        "in_glance": True,
        "files": 1,
        "allocated_bytes": gib * GIB,
        "reclaimable_bytes": removable_gib * GIB,
        "instances": instances,
        "newest_mtime": NOW - 86400,
        **more,
    }


def done(*removed: str, **more: Any) -> dict[str, Any]:
    """What a prune adds."""
    return {"removed": list(removed), "kept": [], "failed": [], "reclaimed_bytes": 10 * GIB * len(removed), **more}


def verified(**more: Any) -> dict[str, Any]:
    """The pass of a verification that read all files."""
    return {
        "algorithm": "sha1",
        "verified_files": 4,
        "verified_bytes": 40 * GIB,
        **dict.fromkeys(("trusted_files", "unverified_files", "skipped_files", "deferred_files", "deferred_bytes"), 0),
        "oldest_verification_seconds": 7200.0,
        **more,
    }


def storage(image_cache: Mapping[str, Any], *hosts: str, **more: Any) -> dict[str, Any]:
    """One of the fleet's storages, by what its pruner, the first of its hosts, returned."""
    pruned = "removed" in image_cache
    found = image_cache["storage"]
    limit_exceeded = image_cache.get("limit_exceeded", [])
    made = {
        "id": found["id"],
        "mount_point": "/var/lib/nova",
        "time": NOW,
        "look_seconds": 1.5,
        "prune_seconds": 20.5 if pruned else None,
        "prune_unfinished": False,
        "verification_seconds": 60.5 if image_cache["checksums"] else None,
        "reasons": [
            *(["limit"] if limit_exceeded else []),
            *(["unknown_use"] if image_cache["unknown_use"] else []),
        ],
        "opted_out": False,
        "filesystem": found["filesystem"],
        "shared": found["shared"],
        "hosts": list(hosts),
        "pruner": hosts[0],
        "state": "refused" if image_cache["unknown_use"] else "pruned" if pruned else "audited",
        "refused": image_cache["unknown_use"],
        "free_bytes": found["free_bytes"],
        "total_bytes": found["total_bytes"],
        "cache_path": image_cache["cache_path"],
        "summary": image_cache["summary"],
        "missing": image_cache["missing"],
        "corrupt": image_cache["corrupt"],
        "orphans": image_cache["orphans"],
        "unknown_use": image_cache["unknown_use"],
        "checksums": image_cache["checksums"],
        "policy": image_cache["policy"],
        "omitted": {"missing": 0, "corrupt": 0, "orphans": 0, "unknown_use": 0},
        "removed": image_cache["removed"] if pruned else [],
        "kept": image_cache["kept"] if pruned else [],
        "failed": image_cache["failed"] if pruned else [],
        "reclaimed_bytes": image_cache["reclaimed_bytes"] if pruned else 0,
        **more,
    }
    return {**made, **{name: image_cache[name] for name in ("files", "images") if name in image_cache}}


def silent(name: str, state: str = "unreachable", error: str | None = "ssh: No route to host") -> dict[str, Any]:
    """A host that did not answer."""
    return {
        "name": name,
        "host": None,
        "storage": None,
        "cache_path": None,
        "state": state,
        "error": error,
        "warnings": [],
        "time": NOW,
        "free_bytes": None,
        "total_bytes": None,
        "summary": None,
    }


def fleet(
    *storages: Mapping[str, Any],
    silent: Sequence[Mapping[str, Any]] = (),
    check_mode: bool = False,
    problems: Sequence[str] = (),
) -> dict[str, Any]:
    """A fleet of these storages, and of these hosts that did not answer."""
    summaries = [each["summary"] for each in storages]
    hosts = [
        {
            "name": name,
            "host": name,
            "storage": each["id"],
            "cache_path": each["cache_path"],
            "state": each["state"],
            "error": None,
            "warnings": [],
            "time": each["time"],
            "free_bytes": each["free_bytes"],
            "total_bytes": each["total_bytes"],
            "summary": each["summary"],
        }
        for each in storages
        for name in each["hosts"]
    ]
    return {
        "generated": NOW,
        "check_mode": check_mode,
        "pruned": any(each["removed"] or each["state"] == "pruned" for each in storages),
        "problems": list(problems),
        "summary": {
            "hosts": len(hosts) + len(silent),
            "hosts_without_answer": len(silent),
            "storages": len(storages),
            "storages_refused": sum(each["state"] == "refused" for each in storages),
            "files": {
                state: sum(summary[state] for summary in summaries)
                for state in ("active", "removable", "too_young", "other")
            },
            "bytes": {
                state: sum(summary["bytes"][state] for summary in summaries)
                for state in ("active", "removable", "too_young", "other", "corrupt")
            },
            "cached_bytes": sum(summary["total"]["allocated_bytes"] for summary in summaries),
            "reclaimable_bytes": sum(summary["reclaimable_bytes"] for summary in summaries),
            "reclaimable_by_age": {
                age: sum(summary["reclaimable_by_age"][age] for summary in summaries)
                for age in (summaries[0]["reclaimable_by_age"] if summaries else ())
            },
            "minimum_age_seconds": {"original": [86400], "resized": [3600]},
            "precached": {
                key: sum(summary["precached"][key] for summary in summaries) for key in ("files", "allocated_bytes")
            },
            "removed": sum(len(each["removed"]) for each in storages),
            "reclaimed_bytes": sum(each["reclaimed_bytes"] for each in storages),
            "failed": sum(len(each["failed"]) for each in storages),
            "missing": sum(len(each["missing"]) for each in storages),
            "corrupt": sum(len(each["corrupt"]) for each in storages),
            "orphans": sum(len(each["orphans"]) for each in storages),
        },
        "images": total_images(storages),
        "storages": list(storages),
        "hosts": [*hosts, *silent],
    }


def troubled_answer(name: str) -> dict[str, Any]:
    """What a prune returns where something of each sort needs a person, and all that has a name has this one."""
    found = answer(
        name,
        missing=[
            {"backing_file": name, "instances": [name] * 5, "replaced": False},
            {"backing_file": "swap_512", "instances": [name], "replaced": False},
            {"backing_file": name, "instances": [name], "replaced": True},
        ],
        corrupt=[{"name": name, "used_by": [name]}],
        orphans=[orphan(name, why=name)],
        images=[image(1, fingerprint=name, image_id=name, image_name=name), image(2, fingerprint=f"{name}2")],
        **done(name, name, failed=[{"name": name, "error": name}], kept=[{"name": name, "reason": "locked"}]),
    )
    found["storage"]["id"] = name
    return found


def troubled(name: str, *, check_mode: bool = False) -> dict[str, Any]:
    """A fleet with something of each sort that needs a person, in which all that has a name has this one."""
    return fleet(
        storage(troubled_answer(name), f"1{name}"),
        storage(answer(name, unknown_use=[name], **done()), f"2{name}"),
        storage(answer(name, **done(name)), f"3{name}", f"4{name}", id=name),
        silent=[silent(f"5{name}", error=name), silent(f"6{name}", "failed", name)],
        check_mode=check_mode,
        problems=[name],
    )


def shown_in_readme() -> dict[str, Any]:
    """Sixteen hosts, twelve of which share a storage. Two disks are nearly full, and one host lacks a base file."""

    def cache(name: str, free_percent: int, cached_gib: int, removable_gib: int, **more: Any) -> dict[str, Any]:
        made = answer(name, **more)
        made["storage"].update(free_bytes=free_percent * 9 * GIB, total_bytes=900 * GIB)
        made["summary"].update(
            total={"files": cached_gib // 4, "allocated_bytes": cached_gib * GIB},
            reclaimable_bytes=removable_gib * GIB,
            bytes={
                "active": (cached_gib - removable_gib - 6) * GIB, "removable": removable_gib * GIB,
                "too_young": 6 * GIB, "other": 0, "corrupt": 0,
            },
        )  # fmt: skip
        return made

    guest = "instance-0000002a"
    missing = {
        "backing_file": f"/var/lib/nova/instances/_base/{BASE}",
        "instances": [guest],
        "recoverable_from": "process",
        "recoverable_until": [guest],
    }
    return fleet(
        storage(cache("cmp-101", 11, 312, 140), "cmp-101"),
        storage(cache("cmp-102", 4, 455, 260), "cmp-102"),
        storage(cache("cmp-103", 38, 120, 31, missing=[missing]), "cmp-103"),
        storage(cache("cmp-104", 41, 98, 22), "cmp-104"),
        storage(cache("nfs-01", 7, 840, 512), *(f"nfs-{number:02}" for number in range(1, 13))),
    )


def full_disk(*, check_mode: bool) -> dict[str, Any]:
    """What a prune returns of the host whose disk is full in README, after it or in check mode."""

    def file(name: str, gib: int, days: int, kind: str = "original") -> dict[str, Any]:
        return {
            "name": name,
            "kind": kind,
            "image_id": None,
            "image_name": None,
            "in_glance": None,
            "state": "removable",
            "reasons": ["unknown"],
            "size_bytes": gib * GIB,
            "allocated_bytes": gib * GIB,
            "mtime": NOW - 86400 * days,
            "age_seconds": 86400.0 * days,
            "removable_in_seconds": 0,
            "used_by": [],
        }

    former, newer, large = (hashlib.sha1(name.encode()).hexdigest() for name in ("former", "newer", "large"))
    files = [
        file(f"{large}_128849018880", 120, 61, "resized"),
        file(large, 60, 61),
        file(former, 44, 190),
        file(newer, 20, 35),
        file(f"{BASE}.part", 16, 12, "partial"),
    ]
    names = [each["name"] for each in files]
    found = answer("cmp-102", **done(*names, reclaimed_bytes=260 * GIB), files=files, check_mode=check_mode)
    found["storage"].update(free_bytes=36 * GIB, total_bytes=900 * GIB)
    found["summary"].update(
        active=24, removable=5, too_young=1, other=0,
        total={"files": 30, "allocated_bytes": 455 * GIB},
        bytes={"active": 189 * GIB, "removable": 260 * GIB, "too_young": 6 * GIB, "other": 0, "corrupt": 0},
    )  # fmt: skip
    return found


def of_images(hosts: int, images: int) -> dict[str, Any]:
    """A fleet of so many hosts, each of which has most of so many images: some are hot, others are used nowhere."""
    chance = random.Random(hosts)
    known = [image(number, in_glance=number % 7 > 0) for number in range(images)]
    storages = []
    for host in range(hosts):
        cached = []
        for number, each in enumerate(known):
            if number > images // 5 and not chance.randrange(5):
                continue
            size = (1 + number * 7 % 40) * GIB + chance.randrange(GIB)
            instances = chance.randrange(3 * images) // (4 * number + 1)
            freed = size if not instances and chance.randrange(3) else 0
            mtime = NOW - 86400 * (0 if instances else 1 + chance.randrange(40))
            use = {"instances": instances, "reclaimable_bytes": freed, "newest_mtime": mtime}
            cached.append({**each, "allocated_bytes": size, **use})
        size = sum(each["allocated_bytes"] for each in cached)
        freed = sum(each["reclaimable_bytes"] for each in cached)
        used = sum(each["allocated_bytes"] for each in cached if each["instances"])
        found = answer(f"compute-{host:04}", images=cached)
        found["storage"].update(total_bytes=2 * size, free_bytes=(host * 37 % hosts + 1) * size // (hosts + 1))
        found["summary"].update(
            total={"files": len(cached), "allocated_bytes": size},
            reclaimable_bytes=freed,
            reclaimable_by_age={"3600": freed, "86400": freed, "604800": freed // 2, "2419200": freed // 9},
            bytes={"active": used, "removable": freed, "too_young": size - used - freed, "other": 0, "corrupt": 0},
        )
        storages.append(storage(found, f"compute-{host:04}"))
    return fleet(*storages)
