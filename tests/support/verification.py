# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cache whose files are verified: how they rot, what is saved of them, and what a pass says of them."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.audit import AuditResult
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.prune import PruneResult
from ansible_collections.stackops.nova.tests.support.constants import BASE
from ansible_collections.stackops.nova.tests.support.host import Host

CONTENT = b"what Glance had" * 100_000


def digest(host: Host, name: str = BASE, algorithm: str = "sha1") -> str:
    return hashlib.new(algorithm, (host.cache_path / name).read_bytes()).hexdigest()


def info(host: Host, name: str = BASE) -> dict[str, Any]:
    return json.loads((host.cache_path / f"{name}.info").read_text())


def write_info(host: Host, name: str = BASE, **fields: Any) -> None:
    fields = {key.replace("_", "-"): value for key, value in fields.items()}
    (host.cache_path / f"{name}.info").write_text(json.dumps(fields))


def rot(host: Host, name: str = BASE) -> None:
    """Flip one bit in the middle, as a disk does: nothing else shows it."""
    path = host.cache_path / name
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(status.st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def checksum(result: AuditResult | PruneResult, name: str = BASE) -> str | None:
    """The state of a file, and its reason."""
    file = next(file for file in result.facts["files"] if file["name"] == name)
    return f"{file['checksum']} {file['checksum_reason']}" if file["checksum_reason"] else file["checksum"]


def prune(host: Host, **options: Any) -> PruneResult:
    return host.prune(**{"checksum_base_images": True, **options})


def audit(host: Host, **options: Any) -> AuditResult:
    return host.audit(**{"checksum_base_images": True, **options})
