# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prints all files of this host, with all by which a write could be told; given such a list, what has changed since."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

# The kernel's, the connection's, and what this script was mounted with.
NOT_LOOKED_AT = {"/collection", "/dev", "/home", "/proc", "/run", "/sys", "/tmp"}


def every_path(folder: str) -> Iterator[str]:
    yield folder
    for entry in os.scandir(folder):
        if entry.path in NOT_LOOKED_AT:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from every_path(entry.path)
        else:
            yield entry.path


def describe(path: str) -> tuple[str, str]:
    """What a file is, and its times in nanoseconds."""
    status = os.lstat(path)
    content = ""
    if stat.S_ISREG(status.st_mode):
        content = f"{status.st_size} {hashlib.sha256(Path(path).read_bytes()).hexdigest()}"
    elif stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    what = f"{status.st_ino} {status.st_mode:o} {status.st_uid}:{status.st_gid} {content}"
    return what, f"{status.st_mtime_ns} {status.st_ctime_ns}"


def compare(before: dict[str, list[str]], after: dict[str, list[str]]) -> dict[str, list[str]]:
    both = sorted(before.keys() & after.keys())
    return {
        "gone": sorted(before.keys() - after.keys()),
        "new": sorted(after.keys() - before.keys()),
        "changed": [path for path in both if before[path][0] != after[path][0]],
        "touched": [path for path in both if before[path][0] == after[path][0] and before[path][1] != after[path][1]],
    }


files = {path: list(describe(path)) for path in every_path("/")}
json.dump(compare(json.loads(Path(sys.argv[1]).read_text()), files) if sys.argv[1:] else files, sys.stdout)
