# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a base file that becomes corrupt to the person who is notified, through the programs that operators have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import ComputeFleet, Run, names
from ansible_collections.stackops.nova.tests.support.monitoring import wait_until, watched

VERIFYING = {"image_cache_checksum_base_images": True, "image_cache_checksum_interval_seconds": 0}
CORRUPT = "NovaImageCacheBaseFileCorrupt"


@pytest.fixture
def fleet(tmp_path: Path) -> ComputeFleet:
    return ComputeFleet(tmp_path)


def overwrite(path: Path, content: bytes) -> None:
    """Change bytes of a file as a disk does, which leaves its times."""
    status = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def ended(run: Run) -> None:
    assert run.status == 0, run.output


def test_corrupt_file_is_alerted_until_a_verification_sees_it_repaired(tmp_path: Path, fleet: ComputeFleet) -> None:
    reports, textfiles = tmp_path / "reports", tmp_path / "textfiles"
    textfiles.mkdir()
    (textfiles / "image_cache.prom").symlink_to(reports / "image_cache.prom")
    fleet.variables["image_cache_report_path"] = str(reports)
    tree = fleet.add("a")
    fleet.add("b")
    [name] = names("image-a")

    ended(fleet.prune(**VERIFYING))
    good = (tree.cache_path / name).read_bytes()
    with watched(tmp_path, textfiles) as watch:

        def is_notified(status: str) -> bool:
            return (CORRUPT, "a", status) in set().union(*watch.receiver.notifications)

        watch.wait_for_report(reports)
        assert watch.value('nova_image_cache_corrupt_files{host="a"}') == 0
        assert watch.firing() == set()

        overwrite(tree.cache_path / name, bytes(len(good)))
        ended(fleet.audit(**VERIFYING))
        wait_until(lambda: is_notified("firing"), "a notification of the alert")

        for arguments, variables in (((), {}), (("--limit", "b"), VERIFYING)):
            ended(fleet.audit(*arguments, **variables))
            watch.wait_for_report(reports)
            assert watch.firing() == {(CORRUPT, "a")}
            assert not is_notified("resolved")

        overwrite(tree.cache_path / name, good)
        ended(fleet.audit(**VERIFYING))
        wait_until(lambda: is_notified("resolved"), "a notification of its end")
        assert watch.firing() == set()
