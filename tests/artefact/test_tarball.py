# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is published holds all that its users need, and nothing else."""

from __future__ import annotations

import re
import subprocess
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
ALLOWED = re.compile(
    r"MANIFEST\.json|FILES\.json|README\.md|COPYING|SECURITY\.md|CHANGELOG\.(md|rst)|LICENSES/[\w.-]+\.txt"
    r"|changelogs/changelog\.yaml|meta/(runtime|execution-environment)\.yml|meta/ee-requirements\.txt"
    r"|plugins/\w+/(\w+/){0,2}[\w.]+\.(py|yml|j2|css|js)|playbooks/\w+\.yml"
    r"|roles/\w+/(README\.md|(defaults|meta|tasks|vars|handlers)/\w+\.yml|templates/[\w.]+\.j2)"
    r"|extensions/monitoring/[\w.]+\.(rules|json)"
    r"|docs/[\w-]+\.md|docs/docsite/(extra-docs|links)\.yml|docs/docsite/rst/(\w+\.rst|images/\w+\.png)"
)
NEEDED = (
    "plugins",
    "roles",
    "playbooks",
    "extensions/monitoring",
    "meta",
    "docs/docsite",
    "LICENSES",
    "README.md",
    "COPYING",
)


def files_of(tarball: Path) -> set[str]:
    with tarfile.open(tarball) as archive:
        return {member.name for member in archive.getmembers() if not member.isdir()}


def test_tarball_has_nothing_that_users_do_not_need(tarball: Path) -> None:
    assert {name for name in files_of(tarball) if not ALLOWED.fullmatch(name)} == set()


def test_tarball_has_everything_that_users_need(tarball: Path) -> None:
    listing = subprocess.run(["git", "ls-files", "-z", *NEEDED], cwd=ROOT, check=True, capture_output=True, text=True)
    tracked = set(listing.stdout.split("\0")) - {""}
    assert len(tracked) > len(NEEDED)
    assert tracked - files_of(tarball) == set()
