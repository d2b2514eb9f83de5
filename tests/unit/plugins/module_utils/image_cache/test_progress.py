# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A long prune says once a minute how far it is; a short one, an audit and a dry run say nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache import progress
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.names import Kind
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.progress import ProgressLog
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.prune import prune
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.snapshot import CacheFile
from ansible_collections.stackops.nova.tests.support.constants import BASE, OTHER_BASE, UUID
from ansible_collections.stackops.nova.tests.support.host import OLD, Host
from ansible_collections.stackops.nova.tests.support.params import run_command

VERIFY = {"checksum_base_images": True, "remove_unused_base_images": False}


@pytest.fixture
def each_file_takes_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_INTERVAL_SECONDS", 0)


def files(*sizes: int) -> list[CacheFile]:
    return [CacheFile(f"swap_{size}", Kind.SWAP, "", 1, size, 0, 0) for size in sizes]


def logged(host: Host, *, check_mode: bool = False, **options: object) -> list[str]:
    """What a prune writes into the host's journal."""
    lines: list[str] = []
    prune(host.options(**options), host.now, run_command, check_mode, lines.append)
    return lines


@pytest.mark.usefixtures("each_file_takes_a_minute")
def test_line_has_the_files_and_the_share_of_their_bytes() -> None:
    lines: list[str] = []
    planned = files(1, 1, 6)
    ProgressLog(lines.append, "Prune of /c", planned).note(planned[:2])
    assert lines == ["Prune of /c: 2 of 3 files are done, 25 % of their bytes."]


@pytest.mark.usefixtures("each_file_takes_a_minute")
def test_empty_files_have_no_share() -> None:
    lines: list[str] = []
    ProgressLog(lines.append, "Prune of /c", files(0)).note(files(0))
    assert lines == ["Prune of /c: 1 of 1 files are done, 0 % of their bytes."]


def test_minute_has_one_line_whatever_threads_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(progress, "_INTERVAL_SECONDS", 0)
    log = ProgressLog(lines.append, "Verification of /c", files(1))
    monkeypatch.setattr(progress, "_INTERVAL_SECONDS", 60)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(log.note, [files(1)] * 100))
    assert len(lines) == 1


@pytest.mark.usefixtures("each_file_takes_a_minute")
def test_long_prune_logs_how_far_it_is(host: Host) -> None:
    for name in (BASE, OTHER_BASE):
        host.base(name, size=100, age=OLD)
    assert logged(host) == [
        f"Prune of {host.cache_path}: 1 of 2 files are done, 50 % of their bytes.",
        f"Prune of {host.cache_path}: 2 of 2 files are done, 100 % of their bytes.",
    ]


@pytest.mark.usefixtures("each_file_takes_a_minute")
def test_long_verification_logs_how_far_it_is(host: Host) -> None:
    host.base(BASE, size=100, age=OLD)
    host.instance(UUID, {"disk": BASE})
    assert logged(host, **VERIFY) == [
        f"Verification of {host.cache_path}: 1 of 1 files are done, 100 % of their bytes."
    ]


@pytest.mark.usefixtures("each_file_takes_a_minute")
@pytest.mark.parametrize("options", [{}, VERIFY])
def test_dry_run_logs_nothing(host: Host, options: dict[str, bool]) -> None:
    host.base(BASE, age=OLD)
    host.base(OTHER_BASE, age=OLD)
    host.instance(UUID, {"disk": BASE})
    (host.cache_path / f"{BASE}.info").write_text('{"sha1": "0"}')
    assert logged(host, check_mode=True, **options) == []


def test_prune_that_is_done_within_a_minute_logs_nothing(host: Host) -> None:
    host.base(BASE, age=OLD)
    host.base(OTHER_BASE, age=OLD)
    host.instance(UUID, {"disk": BASE})
    assert logged(host, checksum_base_images=True) == []


def test_result_has_the_seconds_of_each_part(host: Host) -> None:
    host.base(BASE, age=OLD)
    assert host.audit().facts["seconds"].keys() == {"inspection", "verification"}
    for check_mode in (True, False):
        seconds = host.prune(check_mode=check_mode).facts["seconds"]
        assert seconds.keys() == {"inspection", "removal", "verification"}
        assert all(0 <= part < 60 for part in seconds.values())
