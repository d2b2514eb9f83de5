# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a hostile user, a hasty operator or a busy nova may do to a restore: no guest gets wrong bytes, no file is lost,
and a dry run says what a run does."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch import novas_lock, place, restoring
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.disks import made_at
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.module import FetchResult
from ansible_collections.stackops.nova.tests.support.constants import BASE, IMAGE, OTHER_UUID, UUID
from ansible_collections.stackops.nova.tests.support.file_systems import on_file_system
from ansible_collections.stackops.nova.tests.support.guests import needs_qemu, running_guest
from ansible_collections.stackops.nova.tests.support.host import Host, attribute, create_image, picture
from ansible_collections.stackops.nova.tests.support.processes import (
    NOBODY,
    as_nobody,
    in_a_child,
    mount,
    needs_fuse,
    needs_root,
    shell,
    start_child,
    wait_until,
    with_own_mounts,
)
from ansible_collections.stackops.nova.tests.support.records import record

pytestmark = needs_qemu

SIZE = 1 << 20
FIRST, SECOND = b"first".ljust(SIZE, b"\0"), b"second".ljust(SIZE, b"\0")
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
WITH_MOUNTS = (*AS_NOBODY, "unshare", "-Urm")
TEMPLATE = "ephemeral_1_0706d66"


def disk_on(host: Host, uuid: str, name: str, content: bytes | None = None) -> tuple[Path, Path]:
    """A disk of an instance and the base file that it is built on, made if it has content."""
    base = host.cache_path / name
    if content is not None:
        base.unlink(missing_ok=True)
        host.base(name, content=content)
    (host.instances_path / uuid).mkdir(exist_ok=True)
    return create_image(host.instances_path / uuid / "disk", over=base, over_format="raw"), base


def brought(host: Host, content: bytes, **given: Any) -> dict[str, Any]:
    """The options with which an operator gives the image's file, and Glance's record of it."""
    path = host.root / "image"
    path.write_bytes(content)
    return {"files": {IMAGE: str(path)}, "images": [record(content, **given)]}


def refusal(result: FetchResult) -> str:
    assert (result.done["restored"], result.done["present"], result.done["failed"]) == ([], [], [])
    [refused] = result.done["refused"]
    return str(refused["reason"])


class TestReplacedFile:
    def test_replaced_file_is_kept_for_a_disk_that_nova_makes_on_it_meanwhile(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Copying may take hours. A guest that nova spawned meanwhile would find another file at its next start."""
        disk, base = disk_on(host, UUID, TEMPLATE, FIRST)
        finish = place.finish

        def finish_and_spawn(*arguments: Any) -> None:
            finish(*arguments)
            disk_on(host, OTHER_UUID, TEMPLATE)

        with running_guest(disk, base):
            base.unlink()
            host.base(TEMPLATE, content=SECOND)
            monkeypatch.setattr(restoring, "finish", finish_and_spawn)
            result = host.restore(states=["replaced"])
        assert OTHER_UUID in result.done["failed"][0]["error"]
        assert base.read_bytes() == SECOND
        assert host.cached() == [TEMPLATE]

    def test_replaced_file_is_kept_for_an_overlay_that_is_recorded_as_raw(self, host: Host) -> None:
        """nova leaves `raw` in `disk.info` under a disk that became an overlay: a rescue, a cold migration."""
        disk, base = disk_on(host, UUID, TEMPLATE, FIRST)
        with running_guest(disk, base):
            base.unlink()
            host.base(TEMPLATE, content=SECOND)
            rescue, _base = disk_on(host, OTHER_UUID, TEMPLATE)
            (rescue.parent / "disk.info").write_text(json.dumps({str(rescue): "raw"}))
            assert OTHER_UUID in refusal(host.restore(states=["replaced"]))
        assert base.read_bytes() == SECOND

    @pytest.mark.usefixtures("attributes")
    def test_immutable_file_is_refused_in_a_dry_run_and_a_run_alike(self, host: Host) -> None:
        disk, base = disk_on(host, UUID, TEMPLATE, FIRST)
        with running_guest(disk, base):
            base.unlink()
            host.base(TEMPLATE, content=SECOND)
            with attribute(base, "i"):
                dry = refusal(host.restore(check_mode=True, states=["replaced"]))
                assert dry == refusal(host.restore(states=["replaced"]))
        assert "chattr -i -a" in dry


class TestProof:
    def test_record_without_a_format_proves_nothing(self, host: Host) -> None:
        """Glance's checksum of a qcow2 image is not that of its base file, which nova converts."""
        _disk, base = disk_on(host, UUID, BASE, FIRST)
        base.unlink()
        content = create_image(host.root / "image.qcow2").read_bytes()
        assert "disk_format" in refusal(host.restore(**brought(host, content, disk_format=None)))
        assert not base.exists()

    def test_record_without_a_format_speaks_against_no_guest(self, host: Host) -> None:
        disk, base = disk_on(host, UUID, BASE, FIRST)
        with running_guest(disk, base):
            base.unlink()
            [restored] = host.restore(images=[record(b"a qcow2 image", disk_format=None)]).done["restored"]
        assert restored["proof"] == "process"

    def test_qcow2_image_that_claims_to_be_raw_is_refused(self, host: Host) -> None:
        """nova has converted or refused it: as it is, it was never under a disk that reads it as raw."""
        _disk, base = disk_on(host, UUID, BASE, FIRST)
        base.unlink()
        content = create_image(host.root / "image.qcow2").read_bytes()
        assert "raw image" in refusal(host.restore(**brought(host, content)))

    def test_file_that_its_owner_changes_while_it_is_copied_still_has_to_fit(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A user who owns the file that an operator brought can set its time back."""
        base = host.cache_path / BASE
        host.overlay(UUID, base, None)
        options = {**brought(host, FIRST), "images": [], "unproven": [BASE]}
        hostile = create_image(host.root / "hostile", over="/etc/shadow", unchecked=True).read_bytes()
        copy = place.copy_bytes

        def change_and_copy(*arguments: Any, **given: Any) -> int:
            path = host.root / "image"
            before = path.stat()
            path.write_bytes(hostile.ljust(SIZE, b"\0"))
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            return copy(*arguments, **given)

        monkeypatch.setattr(restoring, "copy_bytes", change_and_copy)
        assert "not those of a raw image" in refusal(host.restore(**options))
        assert host.cached() == []

    def test_wrong_checksum_that_was_saved_earlier_is_not_kept(self, host: Host) -> None:
        """A verification would call the proven file corrupt."""
        _disk, base = disk_on(host, UUID, BASE, FIRST)
        (host.cache_path / f"{BASE}.info").write_text(json.dumps({"sha1": "0" * 40}))
        base.unlink()
        assert len(host.restore(**brought(host, FIRST)).done["restored"]) == 1
        audited = host.audit(checksum_base_images=True, checksum_interval_seconds=0)
        assert audited.facts["corrupt"] == []


class TestGuestsThatAreHidden:
    @needs_root
    def test_many_forged_descriptors_hide_no_guest(self, public_host: Host) -> None:
        """Any user can have more files of that name open than this process may: what was left out would count."""
        host = public_host
        first, base = disk_on(host, UUID, TEMPLATE, FIRST)
        evil = host.root / "evil"
        evil.mkdir()
        os.chown(evil, NOBODY, NOBODY)
        script = 'mount --bind "$1" "$2"; for n in $(seq 500); do exec {descriptor}<>"$2/$3"; rm "$2/$3"; done'
        with ExitStack() as running:
            running.enter_context(running_guest(first, base))
            base.unlink()
            host.base(TEMPLATE, content=SECOND)
            running.enter_context(shell(script, evil, host.cache_path, TEMPLATE, prefix=WITH_MOUNTS))
            second, _base = disk_on(host, OTHER_UUID, TEMPLATE)
            running.enter_context(running_guest(second, base))
            base.unlink()

            def restore() -> FetchResult:
                resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
                return host.restore()

            text = refusal(in_a_child(restore))
        assert "Guests have different files" in text
        assert not base.exists()

    @needs_root
    @needs_fuse
    @pytest.mark.skipif(shutil.which("fuse-overlayfs") is None, reason="takes fuse-overlayfs")
    def test_file_of_a_users_own_file_system_stops_no_audit(self, public_host: Host) -> None:
        """Any user can mount such a file system, where not even root may look at a file (`fuse(4)`, "allow_other")."""
        host = public_host
        disk, base = disk_on(host, UUID, TEMPLATE, FIRST)
        places = [host.root / name for name in ("lower", "upper", "work", "mounted", "plain")]
        for place_ in places:
            place_.mkdir()
            os.chown(place_, NOBODY, NOBODY)
        lower, upper, work, mounted, plain = places
        layers = f"lowerdir={lower},upperdir={upper},workdir={work}"
        script = """
            for directory in "$1" "$2"; do
                mount --bind "$directory" "$3"
                exec {descriptor}<>"$3/$4"
                rm "$3/$4"
            done
        """

        def restore() -> tuple[FetchResult, list[Any]]:
            device = host.root / "fuse"
            os.mknod(device, 0o20666, os.makedev(10, 229))
            device.chmod(0o666)
            mount("--bind", device, "/dev/fuse")
            with ExitStack() as running:
                running.enter_context(running_guest(disk, base))
                base.unlink()
                server = running.enter_context(
                    subprocess.Popen([*AS_NOBODY, "fuse-overlayfs", "-f", "-o", layers, str(mounted)])
                )
                running.callback(server.kill)
                wait_until(lambda: "fuse-overlayfs" in Path("/proc/self/mounts").read_text())
                running.enter_context(shell(script, plain, mounted, host.cache_path, TEMPLATE, prefix=WITH_MOUNTS))
                audited = host.audit().facts["missing"]
                return host.restore(), audited

        result, audited = with_own_mounts(restore)
        assert len(result.done["restored"]) == 1
        assert [lost["recoverable_from"] for lost in audited] == ["process"]

    @pytest.mark.parametrize("name", [BASE, TEMPLATE])
    def test_guest_whose_file_proves_nothing_still_has_another_file_open(self, host: Host, name: str) -> None:
        """The guest's file was hard-linked before it was deleted. The other guest's must not get the name for both."""
        first, base = disk_on(host, UUID, name, FIRST)
        with running_guest(first, base):
            second, _base = disk_on(host, OTHER_UUID, name, SECOND)
            with running_guest(second, base):
                os.link(base, host.root / "backup")
                base.unlink()
                text = refusal(host.restore())
        assert f"of {OTHER_UUID} has another file of that name open than other guests, and it proves nothing" in text
        assert not base.exists()


class TestLaterTemplate:
    """nova removes a template that a guest has open, makes another one for the next guest, and removes that as well."""

    @pytest.fixture
    def guest(self, host: Host) -> Iterator[Path]:
        """A guest on the first template, and a stopped one on the second."""
        disk, base = disk_on(host, UUID, TEMPLATE, FIRST)
        with running_guest(disk, base):
            base.unlink()
            time.sleep(0.05)  # the clock of a file system has ticks
            disk_on(host, OTHER_UUID, TEMPLATE, SECOND)
            base.unlink()
            yield base

    @pytest.mark.parametrize("check_mode", [True, False])
    def test_first_template_is_not_put_under_a_disk_on_the_second(
        self, host: Host, guest: Path, check_mode: bool
    ) -> None:
        if made_at(str(host.root)) is None:
            pytest.skip("takes a file system that keeps the time when a file was made")
        text = refusal(host.restore(check_mode=check_mode))
        assert f"The disks of {OTHER_UUID} were made after the file of {UUID} had lost its name" in text
        assert not guest.exists()

    def test_first_template_is_restored_by_word_of_the_operator(self, host: Host, guest: Path) -> None:
        [restored] = host.restore(unproven=[TEMPLATE]).done["restored"]
        assert (restored["proof"], guest.read_bytes()) == ("unproven", FIRST)

    def test_stopped_guest_on_the_same_template_is_no_obstacle(self, host: Host) -> None:
        disk, base = disk_on(host, UUID, TEMPLATE, FIRST)
        disk_on(host, OTHER_UUID, TEMPLATE)
        with running_guest(disk, base):
            base.unlink()
            assert len(host.restore().done["restored"]) == 1


class TestDryRun:
    def test_link_that_leads_nowhere_is_refused_in_a_dry_run_and_a_run_alike(self, host: Host) -> None:
        disk, base = disk_on(host, UUID, TEMPLATE, FIRST)
        with running_guest(disk, base):
            base.unlink()
            base.symlink_to("gone")
            before = picture(host.cache_path)
            dry = refusal(host.restore(check_mode=True))
            assert dry == refusal(host.restore())
        assert "not a regular file" in dry
        assert picture(host.cache_path) == before

    @pytest.mark.usefixtures("time_limit")
    def test_lock_file_that_cannot_be_used_is_refused_in_a_dry_run_and_a_run_alike(self, host: Host) -> None:
        disk, base = disk_on(host, UUID, TEMPLATE, FIRST)
        os.mkfifo(host.locks_path / f"nova-{TEMPLATE}")
        with running_guest(disk, base):
            base.unlink()
            dry = refusal(host.restore(check_mode=True))
            assert dry == refusal(host.restore())
        assert f"nova-{TEMPLATE}" in dry


@needs_root
def test_user_who_cannot_make_files_for_nova_is_refused_in_a_dry_run(public_host: Host) -> None:
    host = public_host
    _disk, base = disk_on(host, UUID, BASE, FIRST)
    base.unlink()
    host.cache_path.chmod(0o777)
    os.chown(host.locks_path, NOBODY, NOBODY)
    options = brought(host, FIRST)
    dry, run = as_nobody(
        lambda: [refusal(host.restore(check_mode=check_mode, **options)) for check_mode in (True, False)]
    )
    assert dry == run
    assert "become: true" in dry


@needs_root
def test_user_who_holds_novas_lock_hinders_the_restore_of_that_file_alone(
    public_host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock file can be read by all, so a user who may do nothing special can have a shared lock on it."""
    host = public_host
    monkeypatch.setattr(novas_lock, "_WAIT_SECONDS", 0.1)
    first, base = disk_on(host, UUID, BASE, FIRST)
    second, other = disk_on(host, OTHER_UUID, TEMPLATE, SECOND)
    lock = host.lock_file(BASE)
    is_taken, is_enough = get_context("fork").Event(), get_context("fork").Event()

    def hold() -> None:
        with lock.open() as file:
            fcntl.lockf(file, fcntl.LOCK_SH)
            is_taken.set()
            is_enough.wait()

    with running_guest(first, base), running_guest(second, other):
        base.unlink()
        other.unlink()
        finish = start_child(lambda: as_nobody(hold))
        assert is_taken.wait(10)
        result = host.restore()
        is_enough.set()
        finish()
    [failed] = result.done["failed"]
    assert f"another process holds the lock nova-{BASE}" in failed["error"]
    assert failed["error"].endswith(f"Do not stop {UUID} before that.")
    assert [file["name"] for file in result.done["restored"]] == [TEMPLATE]
    assert not base.exists()


def fill(path: Path, leave: int) -> None:
    """Fill a file system but for some bytes."""
    with (path / "filler").open("wb", buffering=0) as filler:
        while os.statvfs(path).f_bavail * os.statvfs(path).f_frsize > leave:
            filler.write(bytes(1 << 18))
            os.fsync(filler.fileno())


@pytest.mark.parametrize(
    ("options", "name"),
    [({}, BASE), ({"images": [record(b"another image")]}, TEMPLATE)],
    ids=["first one fits", "first one is refused"],
)
def test_dry_run_counts_the_room_that_files_before_it_take(tmp_path: Path, options: dict[str, Any], name: str) -> None:
    def restore(path: Path) -> list[FetchResult]:
        host = Host(path)
        first, base = disk_on(host, UUID, BASE, os.urandom(SIZE))
        second, other = disk_on(host, OTHER_UUID, TEMPLATE, os.urandom(SIZE))
        with running_guest(first, base), running_guest(second, other):
            base.unlink()
            other.unlink()
            fill(path, leave=SIZE + SIZE // 2)
            return [host.restore(check_mode=check_mode, **options) for check_mode in (True, False)]

    dry, run = on_file_system("tmpfs", tmp_path, restore, size=32 << 20)
    for done in (dry.done, run.done):
        assert [file["name"] for file in done["restored"]] == [name]
        assert len(done["refused"]) == 1


@pytest.mark.parametrize("check_mode", [True, False])
def test_guests_with_different_files_are_named_on_a_full_disk_too(tmp_path: Path, check_mode: bool) -> None:
    def restore(path: Path) -> str:
        host = Host(path)
        first, base = disk_on(host, UUID, TEMPLATE, os.urandom(SIZE))
        with running_guest(first, base):
            second, _base = disk_on(host, OTHER_UUID, TEMPLATE, os.urandom(SIZE))
            with running_guest(second, base):
                base.unlink()
                fill(path, leave=SIZE + SIZE // 2)
                return refusal(host.restore(check_mode=check_mode))

    text = on_file_system("tmpfs", tmp_path, restore, size=32 << 20)
    assert "Guests have different files" in text
    assert text.endswith(f"Do not stop {UUID}, {OTHER_UUID} before that.")
    assert "It takes" in text
