# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Verification, on real files that rot, grow, shrink and vanish, beside real holders of nova's locks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.audit import (
    AuditResult,
    inspect_and_plan,
    verify,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.names import Kind, fingerprint
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.open_files import is_open_elsewhere
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.prune import PruneResult
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.saved_checksums import (
    SavedChecksums,
    least_recently_verified_first,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.settings import ChecksumSettings
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.snapshot import CacheFile
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.verification import state_without_reading
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.verification_result import (
    FileVerification,
    VerificationState,
)
from ansible_collections.stackops.nova.tests.support.constants import BASE, IMAGE, UUID
from ansible_collections.stackops.nova.tests.support.host import DAY, HOUR, Host, picture, warnings
from ansible_collections.stackops.nova.tests.support.params import run_command
from ansible_collections.stackops.nova.tests.support.processes import (
    NOBODY,
    as_nobody,
    as_user,
    in_a_child,
    mount,
    needs_root,
    nova_compute,
    wait_until,
    whenever,
    with_own_mounts,
)
from ansible_collections.stackops.nova.tests.support.run_module import run_module
from ansible_collections.stackops.nova.tests.support.verification import (
    CONTENT,
    audit,
    checksum,
    digest,
    info,
    prune,
    rot,
    write_info,
)


class TestPrune:
    def test_prune_verifies_nothing_unless_asked(self, host_with_one_guest: Host) -> None:
        result = host_with_one_guest.prune()
        assert checksum(result) is None
        assert result.facts["checksums"] is None
        assert host_with_one_guest.cached() == [BASE]

    def test_first_prune_saves_a_checksum(self, host_with_one_guest: Host) -> None:
        result = prune(host_with_one_guest)
        assert checksum(result) == "unverified"
        assert info(host_with_one_guest) == {
            "sha1": digest(host_with_one_guest),
            "sha1-timestamp": host_with_one_guest.now,
        }
        assert host_with_one_guest.locks() == []
        assert result.changed is True

    def test_checksum_of_less_than_an_hour_ago_is_trusted(self, host_with_one_guest: Host) -> None:
        write_info(host_with_one_guest, sha1="0" * 40, sha1_timestamp=host_with_one_guest.now - HOUR + 1)
        assert checksum(prune(host_with_one_guest)) == "trusted"

    def test_checksum_of_an_hour_ago_is_verified_and_gets_a_new_time(self, host_with_one_guest: Host) -> None:
        write_info(
            host_with_one_guest,
            sha1=digest(host_with_one_guest),
            sha1_timestamp=host_with_one_guest.now - HOUR,
            note="mine",
        )
        assert checksum(prune(host_with_one_guest)) == "ok"
        assert info(host_with_one_guest) == {
            "sha1": digest(host_with_one_guest),
            "sha1-timestamp": host_with_one_guest.now,
            "note": "mine",
        }

    def test_corrupt_file_is_reported_and_left_alone(self, host_with_one_guest: Host) -> None:
        write_info(host_with_one_guest, sha1=digest(host_with_one_guest), sha1_timestamp=host_with_one_guest.now - HOUR)
        rot(host_with_one_guest)
        before = (host_with_one_guest.cache_path / f"{BASE}.info").read_bytes(), digest(host_with_one_guest)
        result = prune(host_with_one_guest)
        assert checksum(result) == "corrupt saved"
        assert result.facts["corrupt"] == [{"name": BASE, "used_by": [UUID]}]
        assert ((host_with_one_guest.cache_path / f"{BASE}.info").read_bytes(), digest(host_with_one_guest)) == before
        [warning] = warnings(result)
        assert BASE in warning
        assert UUID in warning
        assert result.error is None
        assert checksum(prune(host_with_one_guest)) == "corrupt saved"

    def test_warning_of_a_corrupt_file_names_the_image(self, host_with_one_guest: Host) -> None:
        write_info(host_with_one_guest, sha1="0" * 40, sha1_timestamp=host_with_one_guest.now - HOUR)
        listed = [{"id": IMAGE, "name": "Ubuntu 24.04"}]
        result = host_with_one_guest.audit(checksum_base_images=True, glance_images=listed)
        assert warnings(result)[0].startswith(f"The base file {BASE} of image {IMAGE} (Ubuntu 24.04) is corrupt: ")

    def test_corrupt_file_fails_the_task_where_that_is_asked_for(self, host_with_one_guest: Host) -> None:
        write_info(host_with_one_guest, sha1=digest(host_with_one_guest))
        rot(host_with_one_guest)
        host_with_one_guest.base("swap_64", age=3 * DAY)
        result = prune(host_with_one_guest, fail_on_corrupt=True)
        assert BASE in (result.error or "")
        assert "swap_64" not in host_with_one_guest.cached()
        assert result.changed

    def test_checksum_without_a_timestamp_is_verified_at_once(self, host_with_one_guest: Host) -> None:
        write_info(host_with_one_guest, sha1=digest(host_with_one_guest))
        assert checksum(prune(host_with_one_guest)) == "ok"
        assert info(host_with_one_guest)["sha1-timestamp"] == host_with_one_guest.now

    @pytest.mark.parametrize("timestamp", ["yesterday", True, None, [], 10**400, float("inf"), float("nan"), 1e12])
    def test_invalid_timestamp_is_not_trusted(self, host_with_one_guest: Host, timestamp: Any) -> None:
        write_info(host_with_one_guest, sha1=digest(host_with_one_guest), sha1_timestamp=timestamp)
        assert checksum(prune(host_with_one_guest)) == "ok"
        assert info(host_with_one_guest)["sha1-timestamp"] == host_with_one_guest.now

    @pytest.mark.parametrize("saved", ["", "abc", "z" * 40, 7, None])
    def test_invalid_checksum_is_saved_anew(self, host_with_one_guest: Host, saved: Any) -> None:
        write_info(host_with_one_guest, sha1=saved, sha1_timestamp=host_with_one_guest.now)
        assert checksum(prune(host_with_one_guest)) == "unverified"
        assert info(host_with_one_guest)["sha1"] == digest(host_with_one_guest)

    def test_damaged_info_file_is_reported_and_written_anew(self, host_with_one_guest: Host) -> None:
        (host_with_one_guest.cache_path / f"{BASE}.info").write_text('{"sha1": "')
        result = prune(host_with_one_guest)
        assert checksum(result) == "unverified"
        assert f"1 base file are damaged and count as empty; of {BASE}" in warnings(result)[0]
        assert info(host_with_one_guest)["sha1"] == digest(host_with_one_guest)

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    def test_each_algorithm_has_a_field_of_its_own(self, host_with_one_guest: Host, algorithm: str) -> None:
        write_info(host_with_one_guest, sha1=digest(host_with_one_guest), sha1_timestamp=host_with_one_guest.now - DAY)
        assert checksum(prune(host_with_one_guest, checksum_algorithm=algorithm)) == "ok"
        assert info(host_with_one_guest) == {
            "sha1": digest(host_with_one_guest),
            "sha1-timestamp": host_with_one_guest.now - DAY,
            algorithm: digest(host_with_one_guest, algorithm=algorithm),
            f"{algorithm}-timestamp": host_with_one_guest.now,
        }

    def test_corrupt_file_is_found_with_a_new_algorithm_too(self, host_with_one_guest: Host) -> None:
        write_info(host_with_one_guest, sha1=digest(host_with_one_guest))
        rot(host_with_one_guest)
        assert checksum(prune(host_with_one_guest, checksum_algorithm="sha256")) == "corrupt saved"
        assert "sha256" not in info(host_with_one_guest)

    def test_checksum_is_saved_at_the_path_of_the_pattern(self, host_with_one_guest: Host, tmp_path: Path) -> None:
        (tmp_path / "facts").mkdir()
        prune(host_with_one_guest, image_info_filename_pattern=f"{tmp_path}/facts/%(image)s.json")
        assert json.loads((tmp_path / "facts" / f"{BASE}.json").read_text())["sha1"] == digest(host_with_one_guest)
        assert host_with_one_guest.cached() == [BASE]

    def test_empty_file_has_a_checksum(self, host_with_one_guest: Host) -> None:
        os.truncate(host_with_one_guest.cache_path / BASE, 0)
        prune(host_with_one_guest)
        assert info(host_with_one_guest)["sha1"] == "da39a3ee5e6b4b0d3255bfef95601890afd80709"


class TestEssex:
    def test_essex_checksum_is_moved_to_the_info_file(self, host_with_one_guest: Host) -> None:
        (host_with_one_guest.cache_path / f"{BASE}.sha1").write_text(digest(host_with_one_guest) + "\n")
        assert checksum(prune(host_with_one_guest)) == "ok"
        assert host_with_one_guest.cached() == [BASE, f"{BASE}.info"]
        assert info(host_with_one_guest) == {
            "sha1": digest(host_with_one_guest),
            "sha1-timestamp": host_with_one_guest.now,
        }

    def test_essex_checksum_of_a_corrupt_file_is_moved_to_the_info_file(self, host_with_one_guest: Host) -> None:
        saved = digest(host_with_one_guest)
        (host_with_one_guest.cache_path / f"{BASE}.sha1").write_text(saved)
        rot(host_with_one_guest)
        assert checksum(prune(host_with_one_guest)) == "corrupt saved"
        assert host_with_one_guest.cached() == [BASE, f"{BASE}.info"]
        assert info(host_with_one_guest) == {"sha1": saved}

    def test_audit_compares_with_an_essex_checksum_and_leaves_it(self, host_with_one_guest: Host) -> None:
        (host_with_one_guest.cache_path / f"{BASE}.sha1").write_text(digest(host_with_one_guest))
        before = picture(host_with_one_guest.root)
        assert checksum(audit(host_with_one_guest)) == "ok"
        assert picture(host_with_one_guest.root) == before


class TestAuditAndDryRun:
    @pytest.mark.parametrize("is_saved", [False, True])
    @pytest.mark.parametrize("is_rotten", [False, True])
    def test_audit_and_dry_run_compare_and_write_nothing(
        self, host_with_one_guest: Host, is_saved: bool, is_rotten: bool
    ) -> None:
        if is_saved:
            write_info(
                host_with_one_guest, sha1=digest(host_with_one_guest), sha1_timestamp=host_with_one_guest.now - HOUR
            )
        if is_rotten:
            rot(host_with_one_guest)
        expected = ("corrupt saved" if is_rotten else "ok") if is_saved else "unverified"
        before = picture(host_with_one_guest.root)
        assert checksum(audit(host_with_one_guest)) == expected
        assert checksum(prune(host_with_one_guest, check_mode=True)) == expected
        assert picture(host_with_one_guest.root) == before

    def test_audit_fails_over_a_corrupt_file_with_its_whole_result(self, host_with_one_guest: Host) -> None:
        write_info(host_with_one_guest, sha1=digest(host_with_one_guest))
        rot(host_with_one_guest)
        result = audit(host_with_one_guest, fail_on_corrupt=True)
        assert BASE in (result.error or "")
        assert result.facts["corrupt"] == [{"name": BASE, "used_by": [UUID]}]

    def test_audit_does_not_read_a_file_without_a_saved_checksum(self, host_with_one_guest: Host) -> None:
        assert audit(host_with_one_guest).facts["checksums"]["verified_files"] == 0


class TestScope:
    @pytest.fixture
    def mixed(self, host_with_one_guest: Host) -> Host:
        for name in ("a" * 40, "b" * 40 + "_sm", "c" * 40 + "_1024", "swap_64", "ephemeral_1_40d1d2c"):
            host_with_one_guest.base(name, age=HOUR / 2)
        host_with_one_guest.base("d" * 40, age=3 * DAY)
        host_with_one_guest.instance(
            "b38dfd14-56ca-498e-a719-33ff1449d100", {"disk": "c" * 40 + "_1024", "disk.swap": "swap_64"}
        )
        return host_with_one_guest

    def test_scope_of_files_in_use_verifies_these(self, mixed: Host) -> None:
        assert verified(prune(mixed)) == {BASE, "c" * 40 + "_1024"}

    def test_scope_of_all_verifies_every_file_that_is_kept(self, mixed: Host) -> None:
        result = prune(mixed, checksum_scope="all")
        assert verified(result) == {BASE, "a" * 40, "b" * 40 + "_sm", "c" * 40 + "_1024"}
        assert "d" * 40 in result.done["removed"]

    @pytest.mark.parametrize("scope", ["used", "all"])
    def test_unused_file_that_is_kept_as_glance_has_its_image_is_none_in_use(self, host: Host, scope: str) -> None:
        warm = fingerprint("warm")
        host.base(warm, age=3 * DAY)
        result = prune(host, checksum_scope=scope, glance_images=["warm"], remove_only_deleted_images=True)
        assert verified(result) == ({warm} if scope == "all" else set())

    def test_refused_prune_verifies_the_files_in_use(self, mixed: Host) -> None:
        result = prune(mixed, max_removals=0)
        assert result.error is not None
        assert verified(result) == {BASE, "c" * 40 + "_1024"}


def verified(result: PruneResult) -> set[str]:
    return {file["name"] for file in result.facts["files"] if file["checksum"] is not None}


class TestLocks:
    def test_file_that_nova_verifies_is_skipped(self, host_with_one_guest: Host) -> None:
        write_info(host_with_one_guest, sha1=digest(host_with_one_guest))
        with nova_compute() as nova:
            nova.take(f"hash-{BASE}", host_with_one_guest.locks_path)
            assert checksum(prune(host_with_one_guest)) == "skipped locked"
            assert checksum(audit(host_with_one_guest)) == "skipped locked"
        assert info(host_with_one_guest) == {"sha1": digest(host_with_one_guest)}
        assert checksum(prune(host_with_one_guest)) == "ok"

    def test_file_whose_info_file_nova_has_locked_is_verified_and_not_saved(self, host_with_one_guest: Host) -> None:
        write_info(host_with_one_guest, sha1=digest(host_with_one_guest))
        with nova_compute() as nova:
            nova.take(f"info-{BASE}", host_with_one_guest.locks_path)
            result = prune(host_with_one_guest)
        assert checksum(result) == "ok"
        assert f"another process holds the lock nova-info-{BASE}. Look for" in warnings(result)[0]
        assert info(host_with_one_guest) == {"sha1": digest(host_with_one_guest)}

    def test_info_file_that_nova_is_writing_is_not_taken_for_damaged(self, host_with_one_guest: Host) -> None:
        (host_with_one_guest.cache_path / f"{BASE}.info").write_text('{"sha')
        with nova_compute() as nova:
            nova.take(f"info-{BASE}", host_with_one_guest.locks_path)
            assert checksum(prune(host_with_one_guest)) == "skipped locked"
        assert (host_with_one_guest.cache_path / f"{BASE}.info").read_text() == '{"sha'

    def test_file_that_another_host_verified_just_before_the_lock_was_taken_is_not_read_again(
        self, host_with_one_guest: Host
    ) -> None:
        write_info(host_with_one_guest, sha1="0" * 40)  # the file would be corrupt if it were read

        def verify_meanwhile() -> PruneResult:
            stamped = {"sha1": "0" * 40, "sha1_timestamp": host_with_one_guest.now}
            whenever(
                "open", lambda path, *_how: path == f"nova-hash-{BASE}" and write_info(host_with_one_guest, **stamped)
            )
            return prune(host_with_one_guest)

        result = in_a_child(verify_meanwhile)
        assert checksum(result) == "trusted"
        assert result.facts["checksums"]["verified_files"] == 0

    @pytest.mark.parametrize("check_mode", [True, False])
    def test_locks_directory_that_cannot_be_used_is_named_and_the_file_compared(
        self, host_with_one_guest: Host, check_mode: bool
    ) -> None:
        write_info(host_with_one_guest, sha1=digest(host_with_one_guest))
        host_with_one_guest.locks_path.rmdir()
        host_with_one_guest.locks_path.write_text("")
        result = prune(host_with_one_guest, check_mode=check_mode)
        assert (checksum(result), saved(result)) == ("ok", [])
        assert info(host_with_one_guest) == {"sha1": digest(host_with_one_guest)}
        [warning] = [text for text in warnings(result) if "without nova's locks" in text]
        assert f"nova's lock directory {host_with_one_guest.locks_path} cannot be used: " in warning

    def test_audit_without_a_locks_directory_makes_none(self, host_with_one_guest: Host) -> None:
        host_with_one_guest.locks_path.rmdir()
        write_info(host_with_one_guest, sha1=digest(host_with_one_guest))
        assert checksum(audit(host_with_one_guest)) == "ok"
        assert not host_with_one_guest.locks_path.exists()


# Waits until somebody has the file open, and has read some of it, then does something to it.
MEDDLER = """
import os, sys, time

pid, path, what = sys.argv[1], sys.argv[2], sys.argv[3]
inode = os.stat(path).st_ino
while True:
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        try:
            if os.stat(f"/proc/{pid}/fd/{descriptor}").st_ino == inode:
                with open(f"/proc/{pid}/fdinfo/{descriptor}") as lines:
                    if int(lines.readline().split()[1]) > 0:
                        exec(what)
                        sys.exit()
        except OSError:
            pass
"""


def meddling(host: Host, what: str) -> list[str]:
    """The command that does something to the base file of a host, ``path``, while this process reads it."""
    return [sys.executable, "-c", MEDDLER, str(os.getpid()), str(host.cache_path / BASE), what]


class TestFileThatChangesMeanwhile:
    """The file is read slowly, so that there is time to do something to it."""

    @pytest.mark.parametrize("is_saved", [False, True])
    @pytest.mark.parametrize(
        ("what", "reason"),
        [
            ("open(path, 'ab').write(b'more')", "changed"),
            ("os.truncate(path, 700_000)", "changed"),
            ("open(path, 'r+b').write(b'other')", "changed"),
            ("open(path + '.part', 'wb').write(b'other'); os.rename(path + '.part', path)", "replaced"),
            ("os.rename(path, path + '.away'); os.symlink('away', path)", "replaced"),
            ("os.unlink(path)", "gone"),
        ],
    )
    def test_file_that_changes_is_never_called_corrupt(
        self, host_with_one_guest: Host, what: str, reason: str, is_saved: bool
    ) -> None:
        # The file would be corrupt if it did not change.
        fields = {"sha1": "0" * 40} if is_saved else {}
        write_info(host_with_one_guest, **fields)
        command = meddling(host_with_one_guest, what)
        with subprocess.Popen(command) as meddler:
            result = prune(host_with_one_guest, checksum_max_rate=1_500_000)
            assert meddler.wait(10) == 0
        assert checksum(result) == f"skipped {reason}"
        assert info(host_with_one_guest) == fields

    def test_file_that_was_replaced_before_it_was_read_is_not_compared(self, host_with_one_guest: Host) -> None:
        write_info(host_with_one_guest, sha1="0" * 40)
        options = host_with_one_guest.options(checksum_base_images=True)
        inspection = inspect_and_plan(options, host_with_one_guest.now, run_command)
        (host_with_one_guest.base("new", content=b"another download")).rename(host_with_one_guest.cache_path / BASE)
        verification = verify(inspection, run_command, may_save=True).verification
        assert verification is not None
        checked = verification.by_name[BASE]
        assert (checked.state.value, checked.reason.value) == ("skipped", "replaced")
        assert info(host_with_one_guest) == {"sha1": "0" * 40}

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda path: path.unlink(), "gone"),
            (lambda path: path.rename(path.with_name("away")).with_name(path.name).symlink_to("away"), "replaced"),
            (lambda path: path.rename(path.with_name("away")).with_name(path.name).mkdir(), "replaced"),
        ],
        ids=["gone", "link", "directory"],
    )
    def test_name_that_leads_to_no_file_any_more_is_not_taken_for_corrupt(
        self, host_with_one_guest: Host, change: Callable[[Path], object], reason: str
    ) -> None:
        checked = verified_after(host_with_one_guest, lambda: change(host_with_one_guest.cache_path / BASE))
        assert (checked.state.value, checked.reason) == ("skipped", reason)

    def test_file_that_a_prune_is_about_to_remove_is_skipped(self, host_with_one_guest: Host) -> None:
        with (host_with_one_guest.cache_path / BASE).open("rb") as file:
            checked = in_a_child(lambda: verified_after(host_with_one_guest, lambda: is_open_elsewhere(file.fileno())))
        assert (checked.state.value, checked.reason) == ("skipped", "locked")

    @needs_root
    def test_file_that_cannot_be_read_any_more_is_skipped_with_what_to_do(self, public_host: Host) -> None:
        path = public_host.base(BASE)
        public_host.instance(UUID, {"disk": BASE})
        os.chown(path, NOBODY, NOBODY)
        checked = as_nobody(lambda: verified_after(public_host, lambda: path.chmod(0)))
        assert (checked.state.value, checked.reason) == ("skipped", "unreadable")
        assert checked.detail == "Permission denied. Run as root (become: true)"

    def test_file_that_nova_touches_meanwhile_is_ok(self, host_with_one_guest: Host) -> None:
        write_info(host_with_one_guest, sha1=digest(host_with_one_guest))
        command = meddling(host_with_one_guest, "os.utime(path)")
        with subprocess.Popen(command) as meddler:
            result = prune(host_with_one_guest, checksum_max_rate=1_500_000)
            assert meddler.wait(10) == 0
        assert checksum(result) == "ok"

    def test_pass_that_is_killed_changes_nothing(self, host_with_one_guest: Host) -> None:
        write_info(host_with_one_guest, sha1=digest(host_with_one_guest))
        before = info(host_with_one_guest)
        child = os.fork()
        if child == 0:
            prune(host_with_one_guest, checksum_max_rate=100_000)
            os._exit(0)
        wait_until(lambda: host_with_one_guest.locks() != [])
        time.sleep(0.1)
        os.kill(child, 9)
        os.waitpid(child, 0)
        assert info(host_with_one_guest) == before
        assert checksum(prune(host_with_one_guest)) == "ok"


def verified_after(host: Host, act: Callable[[], object]) -> FileVerification:
    """What an audit says of a file to which something happens between the look at the cache and the verification."""
    known = {IMAGE: {"algorithm": "sha256", "value": "0" * 64}}
    options = host.options(checksum_base_images=True, known_checksums=known)
    inspection = inspect_and_plan(options, host.now, run_command)
    act()
    verification = verify(inspection, run_command).verification
    assert verification is not None
    return verification.by_name[BASE]


class TestInfoFilesThatCannotBeRead:
    @pytest.mark.parametrize("operation", [audit, prune])
    def test_directory_that_is_a_link_is_named_and_nothing_is_verified(
        self, host_with_one_guest: Host, tmp_path: Path, operation: Callable[..., AuditResult | PruneResult]
    ) -> None:
        (tmp_path / "facts").symlink_to(host_with_one_guest.cache_path)
        result = operation(host_with_one_guest, image_info_filename_pattern=f"{tmp_path}/facts/%(image)s.info")
        assert checksum(result) == "skipped unreadable"
        assert (
            f"1 base file could not be read and verified; of {BASE}: its info file in {tmp_path}/facts: "
            in (warnings(result)[0])
        )
        assert host_with_one_guest.cached() == [BASE]

    @pytest.mark.parametrize("check_mode", [True, False])
    def test_directory_that_does_not_exist_is_named_and_not_made(
        self, host_with_one_guest: Host, tmp_path: Path, check_mode: bool
    ) -> None:
        pattern = f"{tmp_path}/facts/%(image)s.info"
        result = prune(host_with_one_guest, check_mode=check_mode, image_info_filename_pattern=pattern)
        assert (checksum(result), saved(result)) == ("unverified", [])
        assert f"of {BASE}: there is no directory {tmp_path}/facts. Make it" in warnings(result)[0]
        assert not (tmp_path / "facts").exists()

    @needs_root
    def test_file_of_another_user_is_named_and_its_base_file_not_read(self, public_host: Host) -> None:
        public_host.base(BASE)
        public_host.instance(UUID, {"disk": BASE})
        write_info(public_host, sha1="0" * 40)
        (public_host.cache_path / f"{BASE}.info").chmod(0o600)
        result = as_nobody(lambda: audit(public_host))
        assert checksum(result) == "skipped unreadable"
        assert f"of {BASE}: its info file: Permission denied" in warnings(result)[0]


class TestBudget:
    def names(self, host: Host, count: int, size: int = 300_000) -> list[str]:
        names = [f"{number:040x}" for number in range(count)]
        for number, name in enumerate(names):
            host.base(name, content=bytes([number]) * size, size=size)
            host.instance(f"{number:08x}-0000-4000-8000-000000000000", {"disk": name})
        return names

    def test_budget_of_no_time_verifies_nothing(self, host_with_one_guest: Host) -> None:
        result = prune(host_with_one_guest, checksum_time_budget_seconds=0)
        assert checksum(result) == "deferred"
        assert result.facts["checksums"] == {
            "algorithm": "sha1",
            "verified_files": 0,
            "verified_bytes": 0,
            "trusted_files": 0,
            "unverified_files": 0,
            "skipped_files": 0,
            "deferred_files": 1,
            "deferred_bytes": len(CONTENT),
            "oldest_verification_seconds": None,
        }

    def test_several_runs_verify_each_file_once_before_any_twice(self, host: Host) -> None:
        names = self.names(host, 8)
        write_info(host, names[2], sha1="0" * 40, sha1_timestamp=host.now - 9 * DAY)  # corrupt, and is not mended
        seen: list[str] = []
        for run in range(12):
            host.now += DAY
            result = prune(host, checksum_time_budget_seconds=2, checksum_max_rate=450_000)
            done = [
                file["name"] for file in result.facts["files"] if file["checksum"] in ("unverified", "ok", "corrupt")
            ]
            assert 0 < len(done) < len(names), run
            assert len(done) + result.facts["checksums"]["deferred_files"] == len(names)
            seen += done
            if len(set(seen)) == len(names):
                break
        assert sorted(set(seen)) == names
        assert len(seen) - len(done) < len(names)
        assert result.facts["checksums"]["oldest_verification_seconds"] is not None

    def test_file_too_large_for_the_budget_is_reported_and_comes_after_the_others(self, host: Host) -> None:
        names = self.names(host, 6, size=100_000)
        host.base(names[0], content=bytes(20_000_000))
        host.base(names[1], content=bytes(20_000_000))
        first = prune(host, checksum_time_budget_seconds=2, checksum_max_rate=4_000_000)
        assert first.facts["checksums"]["deferred_files"] == 6
        assert f"too small to read {names[0]}" in warnings(first)[0]
        assert info(host, names[0]) == {"sha1-attempt": host.now}
        second = prune(host, checksum_time_budget_seconds=2, checksum_max_rate=4_000_000)
        assert [checksum(second, name) for name in names] == ["deferred", "deferred", *["unverified"] * 4]

    def test_corrupt_file_comes_after_the_others_next_time(self, host_with_one_guest: Host) -> None:
        then = host_with_one_guest.now - DAY
        write_info(host_with_one_guest, sha1="0" * 40, sha1_timestamp=then)
        assert checksum(prune(host_with_one_guest, checksum_time_budget_seconds=60)) == "corrupt saved"
        assert info(host_with_one_guest) == {
            "sha1": "0" * 40,
            "sha1-timestamp": then,
            "sha1-attempt": host_with_one_guest.now,
        }

    def test_file_that_is_gone_gets_no_info_file(self, host_with_one_guest: Host) -> None:
        command = meddling(host_with_one_guest, "os.unlink(path)")
        with subprocess.Popen(command) as meddler:
            result = prune(host_with_one_guest, checksum_max_rate=1_500_000, checksum_time_budget_seconds=60)
            assert meddler.wait(10) == 0
        assert checksum(result) == "skipped gone"
        assert host_with_one_guest.cached() == []

    def test_oldest_verification_is_that_of_all_files(self, host: Host) -> None:
        for number, name in enumerate(self.names(host, 3)):
            write_info(host, name, sha1=digest(host, name), sha1_timestamp=host.now - number * HOUR)
        facts = audit(host, checksum_interval_seconds=DAY).facts
        assert facts["checksums"]["oldest_verification_seconds"] == 2 * HOUR
        assert facts["checksums"]["trusted_files"] == 3


SETTINGS = ChecksumSettings(enabled=True)
TIMES = st.none() | st.floats(0, 1000)


@given(st.lists(st.tuples(TIMES, TIMES)))
def test_least_recently_verified_files_come_first(times: list[tuple[float | None, float | None]]) -> None:
    files = [CacheFile(f"{number:040x}", Kind.ORIGINAL, "", 0, 0, 0, 0) for number in range(len(times))]
    records = {
        file.name: SavedChecksums({}, verified_at, attempted_at)
        for file, (verified_at, attempted_at) in zip(files, times, strict=True)
    }
    looked_at = [
        max((time for time in records[file.name][1:3] if time is not None), default=-1.0)
        for file in least_recently_verified_first(files, records)
    ]
    assert looked_at == sorted(looked_at)


@given(TIMES, st.integers(0, 1000), st.floats(0, 2000))
def test_trust_lasts_for_the_interval(verified_at: float | None, interval: int, now: float) -> None:
    settings = SETTINGS._replace(interval_seconds=interval)
    state = state_without_reading(SavedChecksums({"sha1": "0" * 40}, verified_at), False, settings, now, may_save=True)
    is_recent = verified_at is not None and abs(now - verified_at) < interval
    assert state is (VerificationState.TRUSTED if is_recent else None)


class TestOptions:
    def test_options_of_nova_conf_count(self, host_with_one_guest: Host, tmp_path: Path) -> None:
        conf = tmp_path / "nova.conf"
        conf.write_text("[libvirt]\nchecksum_base_images = true\nchecksum_interval_seconds = 60\n")
        write_info(host_with_one_guest, sha1=digest(host_with_one_guest), sha1_timestamp=host_with_one_guest.now - 61)
        assert checksum(host_with_one_guest.prune(config_file=str(conf))) == "ok"
        assert checksum(host_with_one_guest.prune(config_file=str(conf))) == "trusted"
        assert checksum(host_with_one_guest.prune(config_file=str(conf), checksum_base_images=False)) is None

    def test_option_of_icehouse_counts(self, host_with_one_guest: Host, tmp_path: Path) -> None:
        conf = tmp_path / "nova.conf"
        conf.write_text("[DEFAULT]\nchecksum_base_images = on\n")
        assert checksum(host_with_one_guest.prune(config_file=str(conf))) == "unverified"

    @pytest.mark.parametrize(
        ("option", "value"),
        [("checksum_interval_seconds", -1), ("checksum_time_budget_seconds", -1), ("checksum_max_rate", 0)],
    )
    def test_invalid_value_is_refused(self, host_with_one_guest: Host, option: str, value: int) -> None:
        with pytest.raises(ImageCacheError, match=option):
            prune(host_with_one_guest, **{option: value})


@needs_root
class TestNoRoom:
    def test_full_disk_is_reported_and_no_lock_file_is_left(self, host: Host) -> None:
        def verify() -> tuple[str | None, list[str], list[str], list[str]]:
            mount("-t", "tmpfs", "-osize=4m", "tmpfs", host.root)
            full = Host(host.root, now=host.now)
            full.base(BASE, content=CONTENT)
            full.instance(UUID, {"disk": BASE})
            with (full.root / "filler").open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError:
                    pass
            assert saved(prune(full, check_mode=True)) == []
            result = prune(full)
            assert saved(result) == []
            return checksum(result), full.cached(), full.locks(), warnings(result)

        state, cached, locks, sentences = with_own_mounts(verify)
        assert state == "unverified"
        assert cached == [BASE]
        assert locks == []
        assert (
            f"could not be saved, and they are read again next time; of {BASE}: its lock nova-hash-{BASE} cannot be "
            "made" in sentences[0]
        )

    def test_read_only_disk_is_reported_and_the_file_compared(self, host_with_one_guest: Host) -> None:
        write_info(host_with_one_guest, sha1=digest(host_with_one_guest))

        def verify() -> tuple[str | None, list[str]]:
            mount("--bind", host_with_one_guest.root, host_with_one_guest.root)
            mount("-o", "remount,ro,bind", host_with_one_guest.root)
            result = prune(host_with_one_guest)
            return checksum(result), warnings(result)

        state, sentences = with_own_mounts(verify)
        assert state == "ok"
        assert any(f"nova-hash-{BASE} cannot be made" in warning for warning in sentences)
        assert info(host_with_one_guest) == {"sha1": digest(host_with_one_guest)}


@pytest.mark.parametrize("details", ["summary", "names"])
def test_summary_names_the_corrupt_files_too(host_with_one_guest: Host, details: str) -> None:
    write_info(host_with_one_guest, sha1=digest(host_with_one_guest))
    rot(host_with_one_guest)
    facts = audit(host_with_one_guest, details=details).facts
    assert facts["corrupt"] == [{"name": BASE, "used_by": [UUID]}]
    assert facts["checksums"]["verified_bytes"] == len(CONTENT)


def test_modules_report_corrupt_files(host_with_one_guest: Host) -> None:
    options = host_with_one_guest.options(checksum_base_images=True, fail_on_corrupt=True, details="files")
    first = run_module("image_cache_prune", options)
    assert not first.failed
    assert info(host_with_one_guest)["sha1"] == digest(host_with_one_guest)
    rot(host_with_one_guest)
    again = run_module("image_cache_prune", {**options, "checksum_interval_seconds": 0})
    assert again.failed
    assert again.result["image_cache"]["corrupt"] == [{"name": BASE, "used_by": [UUID]}]
    facts = run_module("image_cache_facts", {**options, "checksum_interval_seconds": 0})
    assert facts.failed
    assert facts.result["ansible_facts"]["image_cache"]["corrupt"] == [{"name": BASE, "used_by": [UUID]}]


def saved(result: PruneResult) -> list[str]:
    """The names of the files whose first checksum was saved, or in a dry run would be."""
    return [os.path.basename(path) for path in result.done["saved_checksums"]]


class TestFirstChecksum:
    """A checksum that is saved for the first time is a change, and a dry run lists it."""

    def test_first_checksum_is_a_change_that_result_and_diff_list(self, host_with_one_guest: Host) -> None:
        before = picture(host_with_one_guest.root)
        dry = prune(host_with_one_guest, check_mode=True)
        assert picture(host_with_one_guest.root) == before
        run = prune(host_with_one_guest)
        for result in (dry, run):
            assert result.changed is True
            assert result.done["saved_checksums"] == [str(host_with_one_guest.cache_path / BASE)]
            assert result.diff["after"] == result.diff["before"] + f"{BASE} sha1 saved\n"

    def test_renewed_time_of_verification_is_no_change(self, host_with_one_guest: Host) -> None:
        write_info(host_with_one_guest, sha1=digest(host_with_one_guest), sha1_timestamp=host_with_one_guest.now - DAY)
        for is_dry in (True, False):
            result = prune(host_with_one_guest, check_mode=is_dry)
            assert (result.changed, saved(result), checksum(result)) == (False, [], "ok")

    def test_checksum_that_moves_from_essex_is_no_change(self, host_with_one_guest: Host) -> None:
        (host_with_one_guest.cache_path / f"{BASE}.sha1").write_text(digest(host_with_one_guest))
        for is_dry in (True, False):
            result = prune(host_with_one_guest, check_mode=is_dry)
            assert (result.changed, saved(result)) == (False, [])
        assert info(host_with_one_guest)["sha1"] == digest(host_with_one_guest)

    def test_host_without_a_locks_directory_has_the_same_dry_run_and_prune(self, host_with_one_guest: Host) -> None:
        host_with_one_guest.locks_path.rmdir()
        dry = prune(host_with_one_guest, check_mode=True)
        assert not host_with_one_guest.locks_path.exists()
        assert saved(dry) == saved(prune(host_with_one_guest)) == [BASE]

    @needs_root
    @pytest.mark.parametrize("check_mode", [True, False])
    def test_user_who_cannot_make_the_locks_directory_saves_none(self, public_host: Host, check_mode: bool) -> None:
        public_host.base(BASE)
        public_host.instance(UUID, {"disk": BASE})
        os.chown(public_host.cache_path, NOBODY, NOBODY)
        public_host.locks_path.rmdir()
        result = as_nobody(lambda: prune(public_host, check_mode=check_mode))
        assert saved(result) == []
        assert f"not saved: nova's lock directory {public_host.locks_path} cannot be " in " ".join(warnings(result))

    def test_checksum_of_another_algorithm_is_a_change(self, host_with_one_guest: Host) -> None:
        write_info(host_with_one_guest, sha1=digest(host_with_one_guest), sha1_timestamp=host_with_one_guest.now)
        for is_dry in (True, False):
            result = prune(host_with_one_guest, check_mode=is_dry, checksum_algorithm="sha256")
            assert (result.changed, saved(result)) == (True, [BASE])

    def test_audit_has_no_saved_checksums(self, host_with_one_guest: Host) -> None:
        assert "saved_checksums" not in audit(host_with_one_guest).facts

    def test_result_without_verification_has_an_empty_list(self, host_with_one_guest: Host) -> None:
        assert host_with_one_guest.prune().done["saved_checksums"] == []

    def test_time_budget_lists_files_in_order_and_warns(self, host: Host) -> None:
        names = TestBudget().names(host, 4, size=1000)
        write_info(host, names[0], sha1_attempt=host.now - HOUR)
        write_info(host, names[1], sha1_attempt=host.now - DAY)
        for budget in (0, 60):
            dry = prune(host, check_mode=True, checksum_time_budget_seconds=budget)
            assert saved(dry) == [names[2], names[3], names[1], names[0]]
            assert any("checksum_time_budget_seconds decides how many of the 4" in text for text in warnings(dry))
        assert saved(prune(host, checksum_time_budget_seconds=60)) == saved(dry)
        assert not any("decides how many" in text for text in warnings(prune(host, checksum_time_budget_seconds=60)))

    @pytest.mark.parametrize("lock", ["hash", "info"])
    def test_file_whose_lock_is_held_is_not_listed(self, host_with_one_guest: Host, lock: str) -> None:
        with nova_compute() as nova:
            nova.take(f"{lock}-{BASE}", host_with_one_guest.locks_path)
            for is_dry in (True, False):
                result = prune(host_with_one_guest, check_mode=is_dry)
                assert (result.changed, saved(result)) == (False, [])
        assert saved(prune(host_with_one_guest)) == [BASE]

    @needs_root
    @pytest.mark.parametrize("directory", ["cache_path", "locks_path"])
    def test_dry_run_advises_to_run_as_root_where_rights_are_the_reason(
        self, public_host: Host, directory: str
    ) -> None:
        TestBudget().names(public_host, 1, size=1000)
        for path in {"cache_path", "locks_path"} - {directory}:
            os.chown(getattr(public_host, path), NOBODY, NOBODY)
        [warning] = warnings(as_user(NOBODY, lambda: prune(public_host, check_mode=True)))
        assert str(getattr(public_host, directory)) in warning
        assert warning.endswith("Run as root (become: true).")

    @needs_root
    @pytest.mark.parametrize(("user", "more"), [(0, ""), (NOBODY, ", or run as root (become: true)")])
    def test_dry_run_shows_what_to_do_with_a_lock_that_cannot_be_used(
        self, public_host: Host, user: int, more: str
    ) -> None:
        [name] = TestBudget().names(public_host, 1, size=1000)
        for path in (public_host.cache_path, public_host.locks_path):
            os.chown(path, user, user)
        lock = f"nova-info-{name}"
        os.mkfifo(public_host.locks_path / lock)
        [warning] = warnings(as_user(user, lambda: prune(public_host, check_mode=True)))
        assert warning.endswith(f"its lock {lock} cannot be used. Look at it (ls -l, lsattr){more}.")

    @needs_root
    @pytest.mark.parametrize("user", [0, NOBODY])
    def test_dry_run_knows_what_a_user_cannot_save(self, public_host: Host, user: int) -> None:
        host = public_host
        TestBudget().names(host, 2, size=1000)

        def both() -> tuple[list[str], list[str]]:
            return saved(prune(host, check_mode=True)), saved(prune(host))

        dry, run = as_user(user, both)
        assert dry == run
        assert len(run) == (2 if user == 0 else 0)


STATES = [
    "nothing",
    "recent",
    "due",
    "rotten",
    "attempt",
    "damaged",
    "other algorithm",
    "rotten other algorithm",
    "essex",
    "rotten essex",
    "held hash",
    "held info",
    "info is a link",
    "info is a directory",
    "lock is a directory",
    "lock is a fifo",
    "info lock is a fifo",
]


def arrange(host: Host, name: str, state: str) -> None:
    """Bring what is saved about a file into a state."""
    good, bad = digest(host, name), "0" * 40
    path, then = host.cache_path / f"{name}.info", host.now - DAY
    if state == "recent":
        write_info(host, name, sha1=good, sha1_timestamp=host.now)
    elif state in ("due", "rotten"):
        write_info(host, name, sha1=good if state == "due" else bad, sha1_timestamp=then)
    elif state == "attempt":
        write_info(host, name, sha1_attempt=then)
    elif state == "damaged":
        path.write_text('{"sha1": "')
    elif state.endswith("other algorithm"):
        value = digest(host, name, "sha256") if state.startswith("other") else "0" * 64
        write_info(host, name, sha256=value, sha256_timestamp=then)
    elif state.endswith("essex"):
        (host.cache_path / f"{name}.sha1").write_text(good if state == "essex" else bad)
    elif state == "info is a link":
        path.symlink_to("elsewhere")
    elif state == "info is a directory":
        path.mkdir()
    elif state == "lock is a directory":
        (host.locks_path / f"nova-hash-{name}").mkdir()
    elif state.endswith("lock is a fifo") or state == "lock is a fifo":
        os.mkfifo(host.locks_path / f"nova-{'info' if state.startswith('info') else 'hash'}-{name}")


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.sampled_from(STATES), st.booleans(), st.booleans()), max_size=8),
    st.sampled_from(["sha1", "sha256"]),
    st.sampled_from(["used", "all"]),
)
def test_dry_run_lists_exactly_what_the_prune_saves(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, bool, bool]], algorithm: str, scope: str
) -> None:
    host = Host(tmp_path_factory.mktemp("host"))
    with nova_compute() as nova:
        for number, (state, is_used, is_old) in enumerate(files):
            name = f"{number:040x}"
            host.base(name, content=bytes([number]) * 1000, age=10 * DAY if is_old else HOUR / 2)
            if is_used:
                host.instance(f"{number:08x}-0000-4000-8000-000000000000", {"disk": name})
            if state.startswith("held"):
                nova.take(f"{state.partition(' ')[2]}-{name}", host.locks_path)
            else:
                arrange(host, name, state)
        options = {"checksum_algorithm": algorithm, "checksum_scope": scope}
        before = picture(host.root)
        dry = prune(host, check_mode=True, **options)
        assert picture(host.root) == before
        run = prune(host, **options)
    assert saved(dry) == saved(run)
    assert (dry.changed, dry.diff) == (run.changed, run.diff)
    assert dry.done["removed"] == run.done["removed"]
    for name in saved(run):
        assert info(host, name)[algorithm] == digest(host, name, algorithm)
