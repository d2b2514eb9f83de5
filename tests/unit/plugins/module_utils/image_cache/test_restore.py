# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Base files that are gone come back, from real guests and from files that were brought; all else is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache import info_files
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch import (
    choosing,
    glance,
    novas_lock,
    place,
    placing,
    restoring,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.module import FetchResult
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.names import draft_name, set_aside_name
from ansible_collections.stackops.nova.tests.support.constants import (
    BASE,
    IMAGE,
    OTHER_BASE,
    OTHER_IMAGE,
    OTHER_UUID,
    UUID,
)
from ansible_collections.stackops.nova.tests.support.file_systems import FILE_SYSTEMS, WITH_REFLINKS, on_file_system
from ansible_collections.stackops.nova.tests.support.guests import (
    WAYS,
    by_name,
    needs_qemu,
    renamed_by_nfs,
    running_guest,
)
from ansible_collections.stackops.nova.tests.support.host import (
    OLD,
    Host,
    attribute,
    create_image,
    domain,
    opens,
    picture,
    qcow2_of,
    qemu_img_create,
)
from ansible_collections.stackops.nova.tests.support.image_server import Answer, ImageServer, answer, image
from ansible_collections.stackops.nova.tests.support.processes import (
    NOBODY,
    as_nobody,
    in_a_child,
    mount,
    needs_root,
    nova_compute,
    opened_in,
    reader,
    shell,
    start_child,
    wait_until,
    with_own_mounts,
)
from ansible_collections.stackops.nova.tests.support.records import record
from ansible_collections.stackops.nova.tools.cache_tree import fingerprint

pytestmark = needs_qemu

CONTENT = os.urandom(300_000)
SIZE = 1 << 20
IMAGE_CONTENT = CONTENT.ljust(SIZE, b"\0")
# Where a test has mounts of its own, other audits take what its guests have open to be seen from a container. So it has
# names of its own as well.
OWN_UUID = str(uuid.uuid4())
OWN_BASE = fingerprint(OWN_UUID)
TEMPLATE = "ephemeral_1_0706d66"
GUEST = "instance-0000000a"


def guest_on(
    host: Host, name: str = BASE, uuid: str = UUID, *, content: bytes = CONTENT, size: int = SIZE
) -> tuple[Path, Path]:
    """An instance whose disk is built on a base file: the disk, of so many bytes, and the base file."""
    base = host.cache_path / name
    if not base.exists():
        host.base(name, content=content, size=SIZE)
    (host.instances_path / uuid).mkdir(exist_ok=True)
    arguments = ("-f", "qcow2", "-b", base, "-F", "raw")
    return qemu_img_create(host.instances_path / uuid / "disk", *arguments, size=str(size)), base


def whole(path: Path) -> bool:
    return path.read_bytes() == CONTENT.ljust(SIZE, b"\0")


def brought(host: Host, content: bytes) -> dict[str, Any]:
    """The options with which an operator gives the image's file, and Glance's record of it."""
    path = host.root / "image.raw"
    path.write_bytes(content)
    return {"files": {IMAGE: str(path)}, "images": [record(content)]}


def reason(result: FetchResult) -> str:
    """Why the only file was refused; nothing was done."""
    assert result.done["restored"] == result.done["present"] == result.done["failed"] == []
    [refused] = result.done["refused"]
    assert result.error is not None
    assert refused["reason"] in result.error
    return str(refused["reason"])


class TestFromAGuest:
    @pytest.mark.parametrize("how", WAYS)
    def test_deleted_base_file_is_restored_from_whatever_has_it_open(
        self, host: Host, how: Callable[[Path, Path, ExitStack], list[str]]
    ) -> None:
        disk, base = guest_on(host)
        with running_guest(disk, base, how):
            base.unlink()
            [restored] = host.restore().done["restored"]
        assert whole(base)
        assert opens(disk)
        assert (restored["name"], restored["source"], restored["proof"]) == (BASE, "process", "process")
        assert (restored["instances"], restored["guests"]) == ([UUID], [UUID])

    @pytest.mark.parametrize("kind", FILE_SYSTEMS)
    def test_file_is_whole_and_sparse_on_every_file_system(self, tmp_path: Path, kind: str) -> None:
        def restore(path: Path) -> tuple[bool, bool, dict[str, Any]]:
            host = Host(path)
            host.base(OWN_BASE, content=CONTENT, size=64 << 20)
            disk, base = guest_on(host, OWN_BASE, OWN_UUID, size=64 << 20)
            allocated = base.stat().st_blocks
            with running_guest(disk, base):
                base.unlink()
                result = host.restore()
                again = host.audit().facts["missing"]
            [restored] = result.done["restored"]
            is_whole = base.read_bytes() == CONTENT.ljust(64 << 20, b"\0")
            return is_whole and again == [], base.stat().st_blocks <= allocated + 16, restored

        is_whole, is_sparse, restored = on_file_system(kind, tmp_path, restore)
        assert is_whole
        assert is_sparse
        assert (restored["read_bytes"] == 0) == (kind in WITH_REFLINKS)

    @pytest.mark.parametrize("name", [TEMPLATE, "swap_64", f"{BASE}_1048576", f"{BASE}_sm"])
    def test_template_or_resized_copy_is_restored(self, host: Host, name: str) -> None:
        disk, base = guest_on(host, name)
        with running_guest(disk, base):
            base.unlink()
            assert [file["name"] for file in host.restore().done["restored"]] == [name]
        assert whole(base)

    def test_dry_run_shows_what_a_run_does_and_writes_nothing(self, host: Host) -> None:
        disk, base = guest_on(host)
        lost, _base = guest_on(host, OTHER_BASE, OTHER_UUID)
        with running_guest(disk, base):
            base.unlink()
            (host.cache_path / OTHER_BASE).unlink()
            before = picture(host.root)
            dry = host.restore(check_mode=True)
            assert picture(host.root) == before
            run = host.restore()
        assert lost.exists()
        assert dry.changed
        assert run.changed
        assert (dry.done["check_mode"], run.done["check_mode"]) == (True, False)
        for done in (dry.done, run.done):
            for file in done["restored"]:
                del file["seconds"]
            del done["check_mode"], done["free_bytes"]
        assert dry == run
        assert run.done["restored"][0]["size_bytes"] == SIZE
        assert run.done["restored"][0]["source_path"].startswith("/proc/")

    def test_second_run_restores_nothing(self, host: Host) -> None:
        disk, base = guest_on(host)
        with running_guest(disk, base):
            base.unlink()
            host.restore()
            second = host.restore()
        assert (second.changed, second.error, second.done["restored"]) == (False, None, [])

    def test_draft_that_a_killed_run_left_is_removed_by_a_run_and_by_no_dry_run(self, host: Host) -> None:
        draft = draft_name(BASE)
        (host.cache_path / draft).touch()
        host.restore(check_mode=True)
        assert host.cached() == [draft]
        host.restore()
        assert host.cached() == []

    def test_restored_file_is_novas_own(self, host: Host) -> None:
        disk, base = guest_on(host)
        with running_guest(disk, base):
            base.unlink()
            host.restore()
        owner, status = host.cache_path.stat(), base.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (owner.st_uid, owner.st_gid, 0o644)

    @needs_root
    def test_guest_of_another_user_than_root_has_its_file_restored(self, public_host: Host) -> None:
        host, user = public_host, 64055
        disk, base = guest_on(host)
        for path in (disk, base, host.cache_path):
            os.chown(path, user, user)
        with running_guest(disk, base, user=user):
            base.unlink()
            assert len(host.restore().done["restored"]) == 1
        assert (base.stat().st_uid, base.stat().st_gid) == (user, user)

    def test_guests_are_named_as_nova_names_them_and_fewest_guests_come_first(self, host: Host) -> None:
        first, base = guest_on(host)
        second, _base = guest_on(host, uuid=OTHER_UUID)
        third_uuid = "374bb3d3-6ec9-4e2c-a69f-289ba09f7e1e"
        third, other = guest_on(host, OTHER_BASE, third_uuid)
        domain(host, UUID, {first: "qcow2"})
        with running_guest(first, base), running_guest(second, base), running_guest(third, other):
            base.unlink()
            other.unlink()
            restored = host.restore(libvirt=True).done["restored"]
        assert [(file["name"], file["guests"]) for file in restored] == [
            (OTHER_BASE, [third_uuid]),
            (BASE, sorted([GUEST, OTHER_UUID])),
        ]

    def test_overlay_on_an_overlay_has_the_file_at_the_bottom_restored(self, host: Host) -> None:
        lowest = host.base(OTHER_BASE, content=CONTENT, size=SIZE)
        create_image(host.cache_path / BASE, over=lowest, over_format="raw")
        (host.instances_path / UUID).mkdir()
        disk = create_image(host.instances_path / UUID / "disk", over=host.cache_path / BASE)
        with running_guest(disk, lowest):
            lowest.unlink()
            assert [file["name"] for file in host.restore().done["restored"]] == [OTHER_BASE]
        assert whole(lowest)

    def test_disk_outside_of_the_instances_has_its_base_file_restored(self, host: Host) -> None:
        base = host.base(BASE, content=CONTENT, size=SIZE)
        disk = create_image(host.root / "volume.qcow2", over=base, over_format="raw")
        domain(host, UUID, {disk: "qcow2"})
        with running_guest(disk, base):
            base.unlink()
            [restored] = host.restore(libvirt=True).done["restored"]
        assert (restored["guests"], whole(base)) == ([GUEST], True)

    @needs_root
    def test_guest_in_a_container_has_its_base_file_restored_on_the_host(self, host: Host) -> None:
        """Kolla: nova and QEMU know the cache by a path that the host does not have."""
        container = host.root / "container"
        container.mkdir()
        inside = container / "nova"
        base = host.base(OWN_BASE, content=CONTENT, size=SIZE)
        disk = host.overlay(OWN_UUID, inside / "_base" / OWN_BASE)
        (host.root / "nova.conf").write_text(f"[DEFAULT]\ninstances_path = {inside}\n")

        def in_a_container(_disk: Path, _base: Path, closing: ExitStack) -> list[str]:
            script = 'mount -t tmpfs tmpfs "$1"; mkdir "$2"; mount --bind "$3" "$2"; shift 3; exec "$@"'
            command = by_name(inside / OWN_UUID / "disk", base, closing)
            return [
                "unshare",
                "-m",
                "sh",
                "-ec",
                script,
                "sh",
                str(container),
                str(inside),
                str(host.instances_path),
                *command,
            ]

        with running_guest(disk, base, in_a_container):
            base.unlink()
            config_file = [str(host.root / "nova.conf")]
            [lost] = host.audit(config_file=config_file).facts["missing"]
            done = host.restore(config_file=config_file).done
        assert (lost["backing_file"], lost["recoverable_until"]) == (str(base), [OWN_UUID])
        assert [file["name"] for file in done["restored"]] == [OWN_BASE]
        assert whole(base)

    def test_checksum_that_is_known_is_compared_and_saved(self, host: Host) -> None:
        disk, base = guest_on(host)
        digest = hashlib.sha512(base.read_bytes()).hexdigest()
        with running_guest(disk, base):
            base.unlink()
            [restored] = host.restore(images=[record(b"", os_hash_value=digest)]).done["restored"]
        assert (restored["proof"], restored["algorithm"], restored["checksum"]) == (
            "process_and_checksum",
            "sha512",
            digest,
        )
        assert json.loads((host.cache_path / f"{BASE}.info").read_text())["sha512"] == digest

    @pytest.mark.parametrize("check_mode", [True, False])
    @pytest.mark.parametrize("where", ["info file", "record", "known_checksums"])
    def test_file_with_another_checksum_than_the_known_one_is_refused(
        self, host: Host, where: str, check_mode: bool
    ) -> None:
        disk, base = guest_on(host)
        options: dict[str, Any] = {}
        if where == "info file":
            (host.cache_path / f"{BASE}.info").write_text(json.dumps({"sha1": "0" * 40}))
        elif where == "record":
            options["images"] = [record(b"other")]
        else:
            options["known_checksums"] = {IMAGE: {"algorithm": "sha256", "value": "0" * 64}}
        with running_guest(disk, base):
            base.unlink()
            assert "and not" in reason(host.restore(check_mode=check_mode, unproven=[BASE], **options))
        assert not base.exists()

    def test_guest_that_ends_while_its_file_is_copied_loses_nothing(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        disk, base = guest_on(host)
        with running_guest(disk, base) as process:
            base.unlink()
            copy = place.copy_bytes

            def end_and_copy(*arguments: Any, **options: Any) -> int:
                process.kill()
                process.wait()
                return copy(*arguments, **options)

            monkeypatch.setattr(restoring, "copy_bytes", end_and_copy)
            assert len(host.restore().done["restored"]) == 1
        assert whole(base)
        assert opens(disk)

    def test_file_that_is_written_to_while_it_is_copied_is_not_put_in_place(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        disk, base = guest_on(host)
        with base.open("r+b") as writer, running_guest(disk, base):
            base.unlink()
            copy = place.copy_bytes

            def copy_and_write(*arguments: Any, **options: Any) -> int:
                count = copy(*arguments, **options)
                writer.write(b"changed")
                writer.flush()
                return count

            monkeypatch.setattr(restoring, "copy_bytes", copy_and_write)
            [failed] = host.restore().done["failed"]
        assert "was written to while it was copied" in failed["error"]
        assert host.cached() == []

    def test_host_without_a_locks_directory_has_its_file_restored(self, host: Host) -> None:
        disk, base = guest_on(host)
        host.locks_path.rmdir()
        with running_guest(disk, base):
            base.unlink()
            dry = host.restore(check_mode=True)
            assert not host.locks_path.exists()
            run = host.restore()
        assert len(dry.done["restored"]) == len(run.done["restored"]) == 1
        assert whole(base)

    def test_files_that_are_not_named_are_left_alone(self, host: Host) -> None:
        first, base = guest_on(host)
        second, other = guest_on(host, OTHER_BASE, OTHER_UUID)
        with running_guest(first, base), running_guest(second, other):
            base.unlink()
            other.unlink()
            assert [file["name"] for file in host.restore(names=[OTHER_BASE]).done["restored"]] == [OTHER_BASE]
        assert host.cached() == [OTHER_BASE]

    def test_checksum_that_cannot_be_saved_is_a_failure_beside_the_file_that_was_restored(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(info_files, "_LOCK_WAIT_SECONDS", 0.1)
        disk, base = guest_on(host)
        digest = hashlib.sha512(base.read_bytes()).hexdigest()
        with nova_compute() as nova, running_guest(disk, base):
            base.unlink()
            nova.take(f"info-{BASE}", host.locks_path)
            done = host.restore(images=[record(b"", os_hash_value=digest)]).done
        assert whole(base)
        assert [file["name"] for file in done["restored"]] == [BASE]
        [failed] = done["failed"]
        assert failed["error"].startswith(f"{base} was restored, but its name or its checksum may not be saved: ")
        assert f"nova-info-{BASE}" in failed["error"]
        assert failed["error"].endswith("Check it (checksum_base_images: true).")


class TestFileThatNfsRenamed:
    """NFS deletes no file that a process has open: it gets a name of NFS's own, and only the guest's disk shows whose
    base file it was."""

    @pytest.mark.parametrize("how", WAYS)
    def test_renamed_file_is_restored_from_whatever_has_it_open(
        self, host: Host, how: Callable[[Path, Path, ExitStack], list[str]]
    ) -> None:
        disk, base = guest_on(host)
        with running_guest(disk, base, how):
            renamed_by_nfs(base)
            [lost] = host.audit().facts["missing"]
            dry = host.restore(check_mode=True).done
            done = host.restore().done
            again = host.audit().facts["missing"]
        assert (lost["recoverable_from"], lost["recoverable_until"]) == ("process", [UUID])
        for each in (dry, done):
            [restored] = each["restored"]
            assert (restored["name"], restored["source"], restored["proof"]) == (BASE, "process", "process")
        assert whole(base)
        assert opens(disk)
        assert again == []

    def test_guest_with_another_base_file_under_its_name_has_the_missing_one_restored(self, host: Host) -> None:
        disk, base = guest_on(host)
        template_disk, template = guest_on(host, TEMPLATE, OTHER_UUID)
        with shell('exec 3<"$1" 4<>"$2" 5<"$3" 6<>"$4"', base, disk, template, template_disk):
            renamed_by_nfs(base)
            assert [file["name"] for file in host.restore().done["restored"]] == [BASE]
        assert whole(base)

    def test_guests_with_different_files_of_one_name_get_none(self, host: Host) -> None:
        first, base = guest_on(host)
        second, _base = guest_on(host, uuid=OTHER_UUID)
        with running_guest(first, base):
            renamed_by_nfs(base)
            host.base(BASE, content=b"second", size=SIZE)
            with running_guest(second, base):
                renamed_by_nfs(base, 2)
                result = host.restore()
        assert "Guests have different files" in reason(result)
        assert len(result.done["set_aside"]) == 2

    def test_file_that_may_be_a_replaced_one_is_refused_where_only_missing_ones_are_wanted(self, host: Host) -> None:
        """The missing one was deleted by another host, which leaves nothing. What is open is the replaced one."""
        disk, base = guest_on(host)
        other_disk, other = guest_on(host, OTHER_BASE, OTHER_UUID)
        with shell('exec 3<>"$1" 4<"$2" 5<>"$3"', disk, other, other_disk):
            base.unlink()
            renamed_by_nfs(other)
            host.base(OTHER_BASE, content=b"new", size=SIZE)
            text = reason(host.restore(states=["missing"]))
            lost = host.audit().facts["missing"]
        assert "may be any of 2 that its disks are built on" in text
        assert not base.exists()
        assert {each["recoverable_from"] for each in lost} == {None}

    def test_replaced_file_is_restored_and_not_reported_again(self, host: Host) -> None:
        disk, base = guest_on(host)
        with running_guest(disk, base):
            renamed_by_nfs(base)
            host.base(BASE, content=b"new", size=SIZE)
            [lost] = host.audit().facts["missing"]
            [restored] = host.restore(states=["replaced"]).done["restored"]
            again = host.audit().facts["missing"]
        assert (lost["replaced"], lost["recoverable_from"]) == (True, "process")
        assert restored["state"] == "replaced"
        assert whole(base)
        assert again == []

    class TestFileThatOtherDisksNeed:
        """A guest that has taken over its QEMU may name any base file in its disk's header, also one of others."""

        @pytest.mark.parametrize("check_mode", [True, False])
        def test_file_that_one_guest_names_is_not_proven_for_the_others(self, host: Host, check_mode: bool) -> None:
            disk, base = guest_on(host)
            guest_on(host, uuid=OTHER_UUID)
            with running_guest(disk, base):
                renamed_by_nfs(base)
                text = reason(host.restore(check_mode=check_mode))
            assert f"nothing shows that the disks of {OTHER_UUID} are built on the same one" in text
            assert text.endswith(f"Do not stop {UUID} before that.")
            assert not base.exists()

        def test_file_with_a_known_checksum_is_proven(self, host: Host) -> None:
            disk, base = guest_on(host)
            guest_on(host, uuid=OTHER_UUID)
            known = {IMAGE: {"algorithm": "sha256", "value": hashlib.sha256(base.read_bytes()).hexdigest()}}
            with running_guest(disk, base):
                renamed_by_nfs(base)
                [restored] = host.restore(known_checksums=known).done["restored"]
            assert (restored["proof"], whole(base)) == ("process_and_checksum", True)

        def test_file_is_restored_by_word_of_the_operator(self, host: Host) -> None:
            disk, base = guest_on(host)
            guest_on(host, uuid=OTHER_UUID)
            with running_guest(disk, base):
                renamed_by_nfs(base)
                [restored] = host.restore(unproven=[BASE]).done["restored"]
            assert (restored["proof"], whole(base)) == ("unproven", True)

        def test_file_that_all_guests_have_open_is_proven(self, host: Host) -> None:
            first, base = guest_on(host)
            second, _base = guest_on(host, uuid=OTHER_UUID)
            with running_guest(first, base), running_guest(second, base):
                renamed_by_nfs(base)
                [restored] = host.restore().done["restored"]
            assert (restored["proof"], restored["guests"]) == ("process", sorted([UUID, OTHER_UUID]))


class TestProblemsOfOneFile:
    def test_failure_of_one_file_does_not_stop_the_others(self, host: Host) -> None:
        disk, base = guest_on(host)
        guest_on(host, OTHER_BASE, OTHER_UUID)
        with running_guest(disk, base):
            base.unlink()
            (host.cache_path / OTHER_BASE).unlink()
            result = host.restore()
        assert whole(base)
        [refused] = result.done["refused"]
        assert (refused["name"], refused["state"], refused["instances"]) == (OTHER_BASE, "missing", [OTHER_UUID])
        assert result.error is not None
        assert str(host.cache_path / OTHER_BASE) in result.error
        assert result.changed

    @pytest.mark.parametrize(
        ("name", "remedy"), [(OTHER_BASE, "set files:"), (TEMPLATE, "backup"), (f"{BASE}_sm", "backup")]
    )
    def test_file_without_a_source_is_refused_with_what_a_person_can_do(
        self, host: Host, name: str, remedy: str
    ) -> None:
        _disk, base = guest_on(host, name)
        base.unlink()
        text = reason(host.restore())
        assert str(base) in text
        assert UUID in text
        assert remedy in text

    def test_deleted_file_that_another_process_than_a_guests_has_open_is_named_and_not_taken(self, host: Host) -> None:
        _disk, base = guest_on(host)
        with reader(base) as process:
            base.unlink()
            text = reason(host.restore())
        assert f"Process {process.pid} has a deleted file open that may be it, but that proves nothing: " in text
        assert f"ls -l /proc/{process.pid}/exe /proc/{process.pid}/fd/0" in text
        assert not base.exists()

    def test_directory_that_is_not_there_makes_no_file_one_of_the_cache(self, host: Host) -> None:
        host.overlay(UUID, f"/not/mounted/_base/{BASE}")
        assert "is not a base file" in reason(host.restore())

    def test_file_that_is_not_one_of_the_cache_is_refused(self, host: Host) -> None:
        elsewhere = host.instances_path / "elsewhere"
        elsewhere.write_bytes(CONTENT)
        (host.instances_path / UUID).mkdir()
        create_image(host.instances_path / UUID / "disk", over=elsewhere, over_format="raw")
        elsewhere.unlink()
        assert "is not a base file" in reason(host.restore())

    def test_host_without_a_cache_directory_has_nothing_to_restore(self, host: Host) -> None:
        host.cache_path.rmdir()
        result = host.restore()
        assert (result.changed, result.error, result.done["restored"]) == (False, None, [])
        assert not host.cache_path.exists()

    @pytest.mark.parametrize("check_mode", [True, False])
    def test_full_disk_is_refused_with_the_numbers(self, tmp_path: Path, check_mode: bool) -> None:
        def restore(path: Path) -> str:
            host = Host(path)
            host.base(OWN_BASE, content=os.urandom(8 << 20))
            disk, base = guest_on(host, OWN_BASE, OWN_UUID, size=8 << 20)
            with running_guest(disk, base):
                base.unlink()
                (path / "filler").write_bytes(bytes(20 << 20))
                free = _free(path)
                text = reason(host.restore(check_mode=check_mode))
                assert (host.cached(), _free(path)) == ([], free)
                return text

        text = on_file_system("tmpfs", tmp_path, restore, size=32 << 20)
        assert f"It takes {8 << 20} bytes, and " in text
        assert text.endswith(f"Do not stop {OWN_UUID} before that.")

    @pytest.mark.parametrize("kind", WITH_REFLINKS)
    def test_full_disk_whose_files_share_blocks_has_room(self, tmp_path: Path, kind: str) -> None:
        def restore(path: Path) -> list[bool]:
            host = Host(path)
            host.base(OWN_BASE, content=os.urandom(100 << 20))
            disk, base = guest_on(host, OWN_BASE, OWN_UUID, size=100 << 20)
            with running_guest(disk, base):
                base.unlink()
                # btrfs is full before it says so.
                with suppress(OSError), (path / "filler").open("wb", buffering=0) as filler:
                    while _free(path) > 90 << 20:
                        filler.write(os.urandom(4 << 20))
                        os.fsync(filler.fileno())
                results = [host.restore(check_mode=check_mode) for check_mode in (True, False)]
            return [len(result.done["restored"]) == 1 for result in results]

        assert on_file_system(kind, tmp_path, restore) == [True, True]

    @needs_root
    @pytest.mark.parametrize("check_mode", [True, False])
    def test_read_only_mount_is_refused(self, host: Host, check_mode: bool) -> None:
        disk, base = guest_on(host)

        def restore() -> str:
            with running_guest(disk, base):
                base.unlink()
                mount("--bind", host.instances_path, host.instances_path)
                mount("-o", "remount,bind,ro", host.instances_path)
                return reason(host.restore(check_mode=check_mode))

        assert "read-only mount" in with_own_mounts(restore)

    @pytest.mark.usefixtures("attributes")
    @pytest.mark.parametrize("check_mode", [True, False])
    @pytest.mark.parametrize("where", ["cache_path", "locks_path"])
    def test_immutable_directory_is_refused(self, host: Host, where: str, check_mode: bool) -> None:
        disk, base = guest_on(host)
        with running_guest(disk, base):
            base.unlink()
            with attribute(getattr(host, where), "i"):
                text = reason(host.restore(check_mode=check_mode))
        assert str(getattr(host, where)) in text
        assert not base.exists()

    @needs_root
    def test_user_who_cannot_look_into_processes_is_refused_with_a_remedy(self, public_host: Host) -> None:
        disk, base = guest_on(public_host)
        for path in (public_host.cache_path, public_host.locks_path):
            os.chown(path, NOBODY, NOBODY)
        with running_guest(disk, base):
            base.unlink()
            text = as_nobody(lambda: reason(public_host.restore()))
        assert "become: true" in text


def _free(path: Path) -> int:
    space = os.statvfs(path)
    return space.f_bavail * space.f_frsize


class TestFitWithWhatIsBuiltOnIt:
    @pytest.mark.parametrize("check_mode", [True, False])
    def test_larger_file_than_the_disk_shows_is_refused(self, host: Host, check_mode: bool) -> None:
        host.base(BASE, size=2 << 20)
        disk, base = guest_on(host)  # its disk shows 1 MiB
        with running_guest(disk, base):
            base.unlink()
            text = reason(host.restore(check_mode=check_mode))
        assert f"it has {2 << 20} bytes, and the disk of {UUID}" in text

    def test_file_that_would_be_probed_as_an_overlay_is_refused(self, host: Host) -> None:
        """A guest can write a qcow2 header into a raw disk, and QEMU opens what it names where no format is said."""
        secret = host.root / "secret"
        secret.write_bytes(bytes(SIZE))
        hostile = create_image(host.root / "hostile", over=secret, over_format="raw").read_bytes()
        base = host.base(BASE, content=hostile)
        host.overlay(UUID, base, None)
        base.unlink()
        options = brought(host, hostile)
        assert "its first bytes are not those of a raw image" in reason(host.restore(**options))

    def test_disk_that_names_raw_reads_a_header_as_data(self, host: Host) -> None:
        hostile = create_image(host.root / "hostile", over=host.base(OTHER_BASE), over_format="raw").read_bytes()
        disk, base = guest_on(host, content=hostile)
        with running_guest(disk, base):
            base.unlink()
            assert len(host.restore().done["restored"]) == 1

    def test_qcow2_base_file_is_restored_under_disks_that_name_qcow2(self, host: Host) -> None:
        base = create_image(host.cache_path / BASE)
        (host.instances_path / UUID).mkdir()
        disk = create_image(host.instances_path / UUID / "disk", over=base)
        content = base.read_bytes()
        base.unlink()
        options = brought(host, content)
        options["images"][0]["disk_format"] = "qcow2"
        assert [file["proof"] for file in host.restore(**options).done["restored"]] == ["checksum"]
        assert opens(disk)

    def test_qcow2_file_that_needs_another_file_is_refused(self, host: Host) -> None:
        base = host.cache_path / BASE
        (host.instances_path / UUID).mkdir()
        create_image(host.instances_path / UUID / "disk", over=base, unchecked=True)
        content = create_image(host.root / "hostile", over=host.base(OTHER_BASE), over_format="raw").read_bytes()
        options = brought(host, content)
        options["images"][0]["disk_format"] = "qcow2"
        assert "needs other files" in reason(host.restore(**options))


class TestFromAFileThatWasBrought:
    @pytest.fixture
    def lost(self, host: Host) -> Path:
        _disk, base = guest_on(host)
        base.unlink()
        return base

    def test_file_with_glances_checksum_is_put_in_place(self, host: Host, lost: Path) -> None:
        options = brought(host, CONTENT.ljust(SIZE, b"\0"))
        [restored] = host.restore(**options).done["restored"]
        assert whole(lost)
        assert (restored["source"], restored["proof"], restored["image_id"]) == ("file", "checksum", IMAGE)
        assert restored["source_path"] == options["files"][IMAGE]
        saved = json.loads((host.cache_path / f"{BASE}.info").read_text())
        assert saved["sha512"] == restored["checksum"] == options["images"][0]["os_hash_value"]

    @pytest.mark.usefixtures("lost")
    def test_record_of_openstacksdk_serves_too(self, host: Host) -> None:
        options = brought(host, CONTENT)
        image = options["images"][0]
        image["hash_algo"], image["hash_value"] = image.pop("os_hash_algo"), image.pop("os_hash_value")
        assert len(host.restore(**options).done["restored"]) == 1

    @pytest.mark.parametrize("check_mode", [True, False])
    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"os_hash_value": "0" * 128}, "and not 0000"),
            ({"os_hash_algo": "md5", "os_hash_value": "0" * 32}, "no checksum by sha256 or sha512"),
            ({"os_hash_algo": None, "os_hash_value": None}, "no checksum by sha256 or sha512"),
            ({"status": "deactivated"}, "status is deactivated"),
            ({"container_format": "ova"}, "container of the format ova"),
            ({"disk_format": "qcow2"}, "converts images of the format qcow2"),
            ({"disk_format": "vmdk"}, "converts images of the format vmdk"),
            ({"size": 5}, "by Glance's record the image has 5"),
            ({"id": OTHER_UUID}, "there is no record of the image"),
            ({"id": IMAGE.upper()}, "there is no record of the image"),
        ],
    )
    def test_file_that_glances_record_does_not_prove_is_refused(
        self, host: Host, lost: Path, change: dict[str, Any], why: str, check_mode: bool
    ) -> None:
        options = brought(host, CONTENT)
        options["images"][0].update(change)
        assert why in reason(host.restore(check_mode=check_mode, **options))
        assert not lost.exists()

    @pytest.mark.usefixtures("lost")
    def test_word_of_the_operator_stands_in_for_a_missing_proof_and_is_reported(self, host: Host) -> None:
        options = {**brought(host, CONTENT), "images": []}
        assert f"set unproven: [{BASE}]" in reason(host.restore(**options))
        [restored] = host.restore(unproven=[BASE], **options).done["restored"]
        assert (restored["proof"], restored["checksum"]) == ("unproven", None)

    @pytest.mark.usefixtures("lost")
    def test_word_of_the_operator_does_not_count_against_a_checksum(self, host: Host) -> None:
        options = brought(host, CONTENT)
        options["images"] = [record(b"other", size=len(CONTENT))]
        assert "and not" in reason(host.restore(unproven=[BASE], **options))

    @pytest.mark.parametrize(("missing_bytes", "is_restored"), [(1, False), (0, True)])
    def test_copy_of_what_a_guest_has_open_is_refused_where_it_was_cut(
        self, host: Host, missing_bytes: int, is_restored: bool
    ) -> None:
        """On fuse-overlayfs, a deleted file still has a name, and an operator copies it from /proc by hand."""
        disk, base = guest_on(host)
        options = {**brought(host, IMAGE_CONTENT[: SIZE - missing_bytes]), "images": [], "unproven": [BASE]}
        with running_guest(disk, base):
            os.link(base, host.root / "name")
            base.unlink()
            result = host.restore(**options)
        if is_restored:
            assert [file["proof"] for file in result.done["restored"]] == ["unproven"]
        else:
            text = reason(result)
            assert f"it has {SIZE - 1} bytes, and /proc/" in text
            assert f", which is open in the QEMU of {UUID}, has {SIZE}" in text
        assert base.exists() == is_restored

    def test_larger_file_that_the_guest_has_open_as_well_does_not_speak_against_a_whole_copy(self, host: Host) -> None:
        """NFS hides which of the two is which."""
        disk, base = guest_on(host)
        template = host.base("ephemeral_1_0706d66", size=4 * SIZE)
        arguments = ("-f", "qcow2", "-b", template, "-F", "raw")
        second = qemu_img_create(host.instances_path / UUID / "disk.eph0", *arguments, size=str(4 * SIZE))
        options = {**brought(host, IMAGE_CONTENT[:SIZE]), "images": [], "unproven": [BASE]}
        with shell('exec 3<>"$1" 4<"$2" 5<>"$3" 6<"$4"', disk, base, second, template):
            renamed_by_nfs(base)
            renamed_by_nfs(template, 2)
            [restored] = host.restore(**options).done["restored"]
        assert (restored["proof"], base.exists()) == ("unproven", True)

    @pytest.mark.usefixtures("lost", "time_limit")
    @pytest.mark.parametrize("what", ["nothing", "fifo", "directory", "link"])
    def test_other_thing_than_a_file_is_refused(self, host: Host, what: str) -> None:
        path = host.root / "image.raw"
        options = brought(host, CONTENT)
        path.rename(host.root / "other")
        {
            "nothing": lambda: None,
            "fifo": lambda: os.mkfifo(path),
            "directory": path.mkdir,
            "link": lambda: path.symlink_to("other"),
        }[what]()
        assert str(path) in reason(host.restore(**options))

    def test_guest_comes_before_a_file(self, host: Host) -> None:
        disk, base = guest_on(host)
        options = {**brought(host, b"other bytes"), "images": []}
        with running_guest(disk, base):
            base.unlink()
            assert host.restore(unproven=[BASE], **options).done["restored"][0]["source"] == "process"
        assert whole(base)

    def test_file_that_a_guest_has_open_is_restored_before_one_that_waits_for_nobody(self, host: Host) -> None:
        disk, base = guest_on(host, TEMPLATE, OTHER_UUID)
        _disk, lost = guest_on(host)
        with running_guest(disk, base):
            base.unlink()
            lost.unlink()
            restored = host.restore(**brought(host, CONTENT)).done["restored"]
        assert [file["name"] for file in restored] == [TEMPLATE, BASE]

    def test_file_of_the_image_does_not_serve_for_a_resized_copy(self, host: Host) -> None:
        _disk, base = guest_on(host, f"{BASE}_1048576")
        base.unlink()
        assert "cannot be made of the image" in reason(host.restore(unproven=[base.name], **brought(host, CONTENT)))

    @pytest.mark.parametrize(
        ("options", "name"),
        [
            ({"files": {IMAGE: "image.raw"}}, "files"),
            ({"files": {IMAGE: 3}}, "files"),
            ({"unproven": ["../x"]}, "unproven"),
            ({"names": [f"/nova/_base/{BASE}"]}, "names"),
            ({"names": [""]}, "names"),
            ({"images": [{"name": "x"}]}, "images"),
            ({"images": [{"id": IMAGE, "os_hash_algo": "sha512", "os_hash_value": "xyz"}]}, "images"),
            ({"max_rate": 0}, "max_rate"),
        ],
    )
    def test_invalid_option_is_an_error(self, host: Host, options: dict[str, Any], name: str) -> None:
        with pytest.raises(ImageCacheError, match=name):
            host.restore(**options)

    @needs_root
    def test_space_that_is_reserved_for_root_is_available_to_root_alone(
        self, public_host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        host = public_host
        _disk, base = guest_on(host)
        base.unlink()
        for path in (host.cache_path, host.locks_path):
            os.chown(path, NOBODY, NOBODY)
        options = brought(host, IMAGE_CONTENT)
        kept = os.statvfs_result((4096, 4096, 1 << 20, 1 << 19, 0, 100, 100, 100, 0, 255))
        monkeypatch.setattr(os, "fstatvfs", lambda _descriptor: kept)
        assert "and 0 are free" in as_nobody(lambda: reason(host.restore(**options)))
        assert len(host.restore(**options).done["restored"]) == 1

    @pytest.mark.usefixtures("lost")
    def test_rate_is_limited(self, host: Host) -> None:
        options = brought(host, CONTENT)
        [restored] = host.restore(max_rate=len(CONTENT), **options).done["restored"]
        assert restored["seconds"] >= 0.9


class TestFromGlance:
    """The server is a real one on this machine; what else it can answer is tested where the transfer is."""

    TOKEN = "the-token"

    @pytest.fixture
    def lost(self, host: Host) -> Path:
        _disk, base = guest_on(host)
        base.unlink()
        return base

    def options(self, server: ImageServer, content: bytes = IMAGE_CONTENT, **differs: Any) -> dict[str, Any]:
        return {"glance": {"endpoint": server.origin, "token": self.TOKEN}, "images": [record(content, **differs)]}

    def test_image_is_put_in_place_with_glances_checksum(self, host: Host, lost: Path) -> None:
        with ImageServer(image(IMAGE_CONTENT)) as server:
            options = self.options(server)
            result = host.restore(**options)
        [restored] = result.done["restored"]
        assert whole(lost)
        assert lost.stat().st_blocks * 512 < SIZE
        assert (restored["source"], restored["proof"], restored["image_id"]) == ("glance", "checksum", IMAGE)
        assert restored["source_path"] == f"{server.origin}/v2/images/{IMAGE}/file"
        assert (restored["contacted"], restored["inode"], restored["read_bytes"]) == (True, None, SIZE)
        saved = json.loads((host.cache_path / f"{BASE}.info").read_text())
        assert saved["sha512"] == restored["checksum"] == options["images"][0]["os_hash_value"]
        assert self.TOKEN not in str(result)
        assert host.audit().facts["missing"] == []

    def test_dry_run_makes_no_connection_and_reports_that(self, host: Host, lost: Path) -> None:
        with ImageServer(image(IMAGE_CONTENT)) as server:
            before = picture(host.root)
            result = host.restore(check_mode=True, **self.options(server))
            assert server.requests == []
        assert picture(host.root) == before
        [restored] = result.done["restored"]
        assert result.changed
        assert (restored["source"], restored["contacted"]) == ("glance", False)
        assert (restored["read_bytes"], restored["size_bytes"], restored["seconds"]) == (SIZE, SIZE, 0.0)
        assert not lost.exists()

    @pytest.mark.parametrize("check_mode", [True, False])
    @pytest.mark.parametrize(
        ("differs", "why"),
        [
            ({"os_hash_algo": "md5", "os_hash_value": "0" * 32}, "no checksum by sha256 or sha512"),
            ({"status": "deactivated"}, "status is deactivated"),
            ({"status": "queued"}, "status is queued"),
            ({"container_format": "ova"}, "container of the format ova"),
            ({"disk_format": "vmdk"}, "converts images of the format vmdk"),
            ({"size": None}, "the image has no size"),
            ({"size": SIZE + 1}, f"it has {SIZE + 1} bytes"),
            ({"size": 1 << 60}, f"it has {1 << 60} bytes"),
            ({"id": OTHER_UUID}, "there is no record of the image"),
        ],
    )
    def test_image_that_its_record_does_not_prove_is_refused_without_a_connection(
        self, host: Host, lost: Path, differs: dict[str, Any], why: str, check_mode: bool
    ) -> None:
        with ImageServer(image(IMAGE_CONTENT)) as server:
            assert why in reason(host.restore(check_mode=check_mode, **self.options(server, **differs)))
        assert server.requests == []
        assert not lost.exists()

    @pytest.mark.usefixtures("lost")
    @pytest.mark.parametrize("check_mode", [True, False])
    def test_image_for_which_there_is_no_space_is_refused(
        self, host: Host, monkeypatch: pytest.MonkeyPatch, check_mode: bool
    ) -> None:
        full = os.statvfs_result((4096, 4096, 1000, 10, 10, 100, 100, 100, 0, 255))
        monkeypatch.setattr(os, "fstatvfs", lambda _descriptor: full)
        with ImageServer(image(IMAGE_CONTENT)) as server:
            text = reason(host.restore(check_mode=check_mode, **self.options(server)))
        assert f"It takes {SIZE} bytes, and 40960 are free" in text
        assert server.requests == []

    @pytest.mark.parametrize(
        "wrong", [answer(404), image(IMAGE_CONTENT[:-1] + b"x"), image(IMAGE_CONTENT, end=1000), image(b"short")]
    )
    def test_transfer_that_fails_leaves_nothing(
        self, host: Host, lost: Path, monkeypatch: pytest.MonkeyPatch, wrong: Answer
    ) -> None:
        monkeypatch.setattr(glance, "_RESUME_AFTER_SECONDS", (0.0,))
        before = host.cached()
        with ImageServer(wrong) as server:
            result = host.restore(**self.options(server))
        [failed] = result.done["failed"]
        assert f"{lost} was not restored (used by {UUID}). The image {IMAGE}" in failed["error"]
        assert self.TOKEN not in str(result)
        assert not result.changed
        assert host.cached() == before

    def test_other_images_go_on_after_one_that_fails(self, host: Host, lost: Path) -> None:
        _disk, other = guest_on(host, OTHER_BASE, OTHER_UUID)
        other.unlink()
        with ImageServer(answer(404), image(IMAGE_CONTENT)) as server:
            options = self.options(server)
            options["images"].append(record(IMAGE_CONTENT, id=OTHER_IMAGE))
            result = host.restore(**options)
        assert len(result.done["failed"]) == len(result.done["restored"]) == 1
        assert lost.exists() != other.exists()

    def test_guest_comes_before_glance(self, host: Host) -> None:
        disk, base = guest_on(host)
        with ImageServer(image(IMAGE_CONTENT)) as server, running_guest(disk, base):
            base.unlink()
            [restored] = host.restore(**self.options(server)).done["restored"]
        assert restored["source"] == "process"
        assert server.requests == []

    @pytest.mark.usefixtures("lost")
    def test_file_that_was_brought_comes_before_glance(self, host: Host) -> None:
        with ImageServer(image(IMAGE_CONTENT)) as server:
            options = {**self.options(server), **brought(host, IMAGE_CONTENT)}
            assert host.restore(**options).done["restored"][0]["source"] == "file"
        assert server.requests == []

    def test_resized_copy_does_not_come_from_glance(self, host: Host) -> None:
        _disk, base = guest_on(host, f"{BASE}_1048576")
        base.unlink()
        with ImageServer(image(IMAGE_CONTENT)) as server:
            assert "cannot be made of the image" in reason(host.restore(**self.options(server)))

    def test_raw_image_whose_content_is_another_image_is_refused(self, host: Host, lost: Path) -> None:
        content = create_image(host.root / "inner", over=host.root / "outside", unchecked=True).read_bytes()
        with ImageServer(image(content)) as server:
            assert "first bytes are not those of a raw image" in reason(host.restore(**self.options(server, content)))
        assert not lost.exists()

    @pytest.mark.parametrize("is_right", [True, False])
    @pytest.mark.parametrize("check_mode", [True, False])
    def test_corrupt_file_is_replaced_by_what_glance_has(self, host: Host, is_right: bool, check_mode: bool) -> None:
        _disk, base = guest_on(host)
        if not is_right:
            with base.open("r+b") as file:
                file.write(b"corrupt")
        with ImageServer(image(IMAGE_CONTENT)) as server:
            result = host.restore(states=["corrupt"], check_mode=check_mode, **self.options(server))
        assert [file["source"] for file in result.done["restored"]] == ([] if is_right else ["glance"])
        assert len(result.done["set_aside"]) == (not is_right)
        assert len(server.requests) == (not is_right and not check_mode)
        assert whole(base) == (is_right or not check_mode)

    @pytest.mark.usefixtures("lost")
    def test_invalid_endpoint_is_an_error_without_the_token(self, host: Host) -> None:
        with pytest.raises(ImageCacheError, match=r"glance\.endpoint") as caught:
            host.restore(glance={"endpoint": "glance", "token": self.TOKEN})
        assert self.TOKEN not in str(caught.value)


class TestConvertedFromGlance:
    """nova has converted the qcow2 image to raw, so that the missing base file had other bytes than the image."""

    @pytest.fixture
    def disk(self, host: Host) -> Path:
        """The disk of a stopped guest that has written to it. Its base file, as nova makes it, is missing."""
        disk, base = guest_on(host, content=IMAGE_CONTENT)
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 64k 64k", str(disk)], check=True)
        subprocess.run(["qemu-img", "convert", "-O", "raw", str(disk), str(host.root / "before")], check=True)
        base.unlink()
        return disk

    def serve(self, host: Host, content: bytes = IMAGE_CONTENT, *options: str) -> tuple[ImageServer, dict[str, Any]]:
        qcow2 = qcow2_of(host.root, content, *options)
        return self.serve_bytes(qcow2, virtual_size=len(content))

    def serve_bytes(self, content: bytes, **differs: Any) -> tuple[ImageServer, dict[str, Any]]:
        server = ImageServer(image(content))
        images = [record(content, **{"disk_format": "qcow2", **differs})]
        return server, {"glance": {"endpoint": server.origin}, "images": images}

    @pytest.mark.parametrize("options", [(), ("-c",), ("-o", "compat=0.10"), ("-o", "cluster_size=4k")])
    def test_guests_disk_is_the_same_as_before(self, host: Host, disk: Path, options: tuple[str, ...]) -> None:
        server, given = self.serve(host, IMAGE_CONTENT, *options)
        with server:
            [restored] = host.restore(**given).done["restored"]
        base = host.cache_path / BASE
        assert base.read_bytes() == IMAGE_CONTENT
        assert base.stat().st_blocks * 512 < SIZE
        assert opens(disk)
        compared = ["qemu-img", "compare", "-f", "qcow2", "-F", "raw", str(disk), str(host.root / "before")]
        subprocess.run(compared, check=True)
        assert (restored["source"], restored["proof"], restored["size_bytes"]) == ("glance", "checksum", SIZE)
        assert restored["read_bytes"] == given["images"][0]["size"]
        saved = json.loads((host.cache_path / f"{BASE}.info").read_text())
        assert saved["sha512"] == restored["checksum"] == hashlib.sha512(IMAGE_CONTENT).hexdigest()
        assert host.cached() == [BASE, f"{BASE}.info"]

    @pytest.mark.usefixtures("disk")
    def test_dry_run_makes_no_connection_and_knows_no_checksum(self, host: Host) -> None:
        server, given = self.serve(host)
        before = picture(host.root)
        with server:
            [restored] = host.restore(check_mode=True, **given).done["restored"]
        assert (server.requests, picture(host.root)) == ([], before)
        assert (restored["contacted"], restored["size_bytes"], restored["checksum"]) == (False, SIZE, None)
        assert restored["read_bytes"] == given["images"][0]["size"]

    @pytest.mark.usefixtures("disk")
    @pytest.mark.parametrize("way", ["known", "saved"])
    @pytest.mark.parametrize("is_right", [True, False])
    def test_checksum_that_is_known_of_the_base_file_has_to_match(self, host: Host, way: str, is_right: bool) -> None:
        checksum = hashlib.sha256(IMAGE_CONTENT if is_right else b"another").hexdigest()
        server, given = self.serve(host)
        if way == "known":
            given["known_checksums"] = {IMAGE: {"algorithm": "sha256", "value": checksum}}
        else:
            (host.cache_path / f"{BASE}.info").write_text(json.dumps({"sha256": checksum}))
        with server:
            result = host.restore(**given)
        assert (host.cache_path / BASE).exists() == is_right
        if not is_right:
            assert f"Converted to raw, the image has the sha256 {hashlib.sha256(IMAGE_CONTENT).hexdigest()}" in (
                reason(result)
            )

    @pytest.mark.usefixtures("disk")
    def test_image_whose_content_is_another_image_is_refused(self, host: Host) -> None:
        inner = create_image(host.root / "inner", over=host.root / "outside", unchecked=True).read_bytes()
        server, given = self.serve(host, inner)
        with server:
            assert "It is not accepted after its conversion" in reason(host.restore(**given))
        assert host.cached() == []

    @pytest.mark.usefixtures("disk")
    def test_image_with_a_backing_file_is_refused(self, host: Host) -> None:
        hostile = create_image(host.root / "hostile", over="/etc/shadow", unchecked=True).read_bytes()
        server, given = self.serve_bytes(hostile)
        with server:
            assert "Its content is not accepted: it has a backing file" in reason(host.restore(**given))
        assert host.cached() == []

    @pytest.mark.usefixtures("disk")
    def test_image_that_is_raw_and_not_as_its_record_says_is_refused(self, host: Host) -> None:
        server, given = self.serve_bytes(IMAGE_CONTENT)
        with server:
            assert "it does not begin like a qcow2 image" in reason(host.restore(**given))
        assert host.cached() == []

    @pytest.mark.usefixtures("disk")
    @pytest.mark.parametrize("is_recorded", [True, False])
    def test_image_that_is_larger_than_a_disk_on_it_is_refused(self, host: Host, is_recorded: bool) -> None:
        server, given = self.serve(host, bytes(2 * SIZE))
        if not is_recorded:
            given["images"][0]["virtual_size"] = None
        with server:
            assert f"it has {2 * SIZE} bytes, and the disk of {UUID}" in reason(host.restore(**given))
        assert (len(server.requests), host.cached()) == (0 if is_recorded else 1, [])

    @pytest.mark.usefixtures("disk")
    def test_image_is_refused_without_a_connection_where_there_is_no_qemu_img(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server, given = self.serve(host)
        monkeypatch.setenv("PATH", str(host.root))
        with server:
            assert "this host has no qemu-img for that. Set qemu_img" in reason(host.restore(**given))
        assert server.requests == []

    @pytest.mark.usefixtures("disk")
    def test_qemu_img_of_the_option_converts_it(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        server, given = self.serve(host)
        qemu_img = shutil.which("qemu-img")
        monkeypatch.setenv("PATH", str(host.root))
        with server:
            assert host.restore(**given, qemu_img=qemu_img).error is None
        assert (host.cache_path / BASE).read_bytes() == IMAGE_CONTENT

    @pytest.mark.usefixtures("disk")
    def test_transfer_with_another_checksum_leaves_nothing(self, host: Host) -> None:
        server, given = self.serve(host)
        given["images"][0]["os_hash_value"] = "0" * 128
        with server:
            [failed] = host.restore(**given).done["failed"]
        assert f"The image {IMAGE}" in failed["error"]
        assert host.cached() == []

    @pytest.mark.usefixtures("disk")
    @pytest.mark.parametrize("is_right", [True, False])
    def test_file_that_nova_makes_meanwhile_is_present_or_left_alone(
        self, host: Host, monkeypatch: pytest.MonkeyPatch, is_right: bool
    ) -> None:
        base, made = host.cache_path / BASE, IMAGE_CONTENT if is_right else b"other bytes"
        finish = place.finish

        def finish_and_make(*arguments: Any) -> None:
            finish(*arguments)
            base.write_bytes(made)

        monkeypatch.setattr(restoring, "finish", finish_and_make)
        server, given = self.serve(host)
        with server:
            result = host.restore(**given)
        assert result.done["present"] == ([BASE] if is_right else [])
        assert ["its bytes differ" in file["reason"] for file in result.done["refused"]] == ([] if is_right else [True])
        assert base.read_bytes() == made
        assert not result.changed

    def test_corrupt_base_file_is_replaced_and_the_old_one_set_aside(self, host: Host) -> None:
        disk, base = guest_on(host, content=b"corrupt")
        checksum = hashlib.sha256(IMAGE_CONTENT).hexdigest()
        server, given = self.serve(host)
        known = {IMAGE: {"algorithm": "sha256", "value": checksum}}
        with server:
            result = host.restore(**given, states=["corrupt"], known_checksums=known)
        assert [file["source"] for file in result.done["restored"]] == ["glance"]
        assert len(result.done["set_aside"]) == 1
        assert base.read_bytes() == IMAGE_CONTENT
        assert opens(disk)

    def test_image_is_kept_as_it_is_where_the_disk_reads_it_as_qcow2(self, host: Host) -> None:
        qcow2 = qcow2_of(host.root, IMAGE_CONTENT)
        base = host.cache_path / BASE
        base.write_bytes(qcow2)
        (host.instances_path / UUID).mkdir()
        disk = create_image(host.instances_path / UUID / "disk", over=base)
        base.unlink()
        server, given = self.serve_bytes(qcow2)
        with server:
            assert host.restore(**given).error is None
        assert base.read_bytes() == qcow2
        assert opens(disk)


class TestReplacedFile:
    def replace(self, base: Path, content: bytes = b"other bytes") -> None:
        base.unlink()
        base.write_bytes(content.ljust(SIZE, b"\0"))

    def test_replaced_file_is_left_alone_unless_asked_for(self, host: Host) -> None:
        disk, base = guest_on(host)
        with running_guest(disk, base):
            self.replace(base)
            before = picture(host.root)
            result = host.restore()
            assert picture(host.root) == before
        assert (result.changed, result.error) == (False, None)

    @pytest.mark.parametrize("states", [["replaced"], ["missing", "replaced"]])
    def test_former_file_gets_its_name_back_and_the_other_one_is_set_aside(self, host: Host, states: list[str]) -> None:
        disk, base = guest_on(host)
        with running_guest(disk, base):
            self.replace(base)
            dry = host.restore(check_mode=True, states=states).done
            done = host.restore(states=states).done
            assert host.audit().facts["missing"] == []
        assert whole(base)
        [restored], [aside] = done["restored"], done["set_aside"]
        assert (restored["state"], restored["needs_restart"]) == ("replaced", [])
        assert aside["set_aside_as"] == f".{BASE}.stackops-{int(host.now)}"
        assert (host.cache_path / aside["set_aside_as"]).read_bytes().startswith(b"other bytes")
        assert dry["set_aside"] == [aside]

    def test_file_that_was_set_aside_is_listed_by_an_audit_and_kept_by_a_prune(self, host: Host) -> None:
        disk, base = guest_on(host)
        with running_guest(disk, base):
            self.replace(base)
            [aside] = host.restore(states=["replaced"]).done["set_aside"]
        path = host.cache_path / aside["set_aside_as"]
        os.utime(path, (host.now - OLD, host.now - OLD))
        before = path.stat()
        pruned = host.prune(details="summary")
        assert pruned.facts["set_aside"] == [
            {"name": path.name, "size_bytes": SIZE, "allocated_bytes": aside["allocated_bytes"]}
        ]
        after = path.stat()
        assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (
            before.st_ino,
            before.st_mtime_ns,
            before.st_ctime_ns,
        )

    def test_file_that_was_replaced_by_the_same_bytes_is_present(self, host: Host) -> None:
        disk, base = guest_on(host)
        with running_guest(disk, base):
            self.replace(base, CONTENT)
            result = host.restore(states=["replaced"])
        assert (result.done["present"], result.changed, result.error) == ([BASE], False, None)

    def test_replaced_file_that_a_disk_may_be_built_on_is_refused(self, host: Host) -> None:
        disk, base = guest_on(host)
        with running_guest(disk, base):
            self.replace(base)
            guest_on(host, uuid=OTHER_UUID)
            text = reason(host.restore(states=["replaced"]))
            assert OTHER_UUID in text
            assert text.endswith(f"Do not stop {UUID} before that.")
            [restored] = host.restore(states=["replaced"], unproven=[BASE]).done["restored"]
        assert whole(base)
        assert restored["proof"] == "unproven"

    def test_guest_on_the_file_that_is_set_aside_needs_a_restart(self, host: Host) -> None:
        disk, base = guest_on(host)
        with running_guest(disk, base):
            self.replace(base)
            other, _base = guest_on(host, uuid=OTHER_UUID)
            with running_guest(other, base):
                dry = host.restore(check_mode=True, states=["replaced"], unproven=[BASE]).done
                done = host.restore(states=["replaced"], unproven=[BASE]).done
        assert dry["restored"][0]["needs_restart"] == done["restored"][0]["needs_restart"] == [OTHER_UUID]
        assert dry["set_aside"] == done["set_aside"]
        assert done["set_aside"][0]["instances"] == [OTHER_UUID]

    def test_uncertain_use_keeps_a_replaced_file(self, host: Host) -> None:
        disk, base = guest_on(host)
        host.disk(OTHER_UUID, b"QFI\xfb")
        with running_guest(disk, base):
            self.replace(base)
            assert "not certain which disks need" in reason(host.restore(states=["replaced"]))

    def test_file_that_changes_again_before_it_is_set_aside_keeps_its_name(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        disk, base = guest_on(host)
        finish = place.finish

        def finish_and_replace(*arguments: Any) -> None:
            finish(*arguments)
            self.replace(base, b"third")

        with running_guest(disk, base):
            self.replace(base)
            monkeypatch.setattr(restoring, "finish", finish_and_replace)
            [failed] = host.restore(states=["replaced"]).done["failed"]
        assert "another file has got its name" in failed["error"]
        assert base.read_bytes().startswith(b"third")
        assert host.cached() == [BASE]

    def test_file_that_would_get_the_number_of_the_former_one_keeps_its_name(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Some file systems give the number of a file that is gone to the next one."""
        disk, base = guest_on(host)
        finish = place.finish

        def finish_and_replace(*arguments: Any) -> None:
            finish(*arguments)
            former = base.stat().st_ino
            base.unlink()
            for number in range(3000):
                third = host.root / f"third {number}"
                third.write_bytes(b"third")
                if third.stat().st_ino == former:
                    break
            third.rename(base)

        with running_guest(disk, base):
            self.replace(base)
            monkeypatch.setattr(restoring, "finish", finish_and_replace)
            [failed] = host.restore(states=["replaced"]).done["failed"]
        assert "another file has got its name" in failed["error"]
        assert base.read_bytes() == b"third"

    def test_file_that_changes_before_its_bytes_are_compared_keeps_its_name(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        disk, base = guest_on(host)
        require_fit = choosing.why_unfit

        def replace_and_require_fit(*arguments: Any, **options: Any) -> str:
            base.rename(host.root / "second")
            host.base(BASE, content=b"third", size=SIZE)
            return require_fit(*arguments, **options)

        with running_guest(disk, base):
            self.replace(base)
            monkeypatch.setattr(choosing, "why_unfit", replace_and_require_fit)
            [failed] = host.restore(states=["replaced"]).done["failed"]
        assert "Another file got its name meanwhile. Run it again with states: [replaced]." in failed["error"]
        assert base.read_bytes().startswith(b"third")
        assert host.cached() == [BASE]

    def test_file_whose_use_becomes_uncertain_while_bytes_are_copied_keeps_its_name(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        disk, base = guest_on(host)
        finish = place.finish

        def finish_and_break_a_disk(*arguments: Any) -> None:
            finish(*arguments)
            host.disk(OTHER_UUID, b"QFI\xfb")

        with running_guest(disk, base):
            self.replace(base)
            monkeypatch.setattr(restoring, "finish", finish_and_break_a_disk)
            [failed] = host.restore(states=["replaced"]).done["failed"]
        assert "It is no longer certain which disks need the file." in failed["error"]
        assert base.read_bytes().startswith(b"other bytes")
        assert host.cached() == [BASE]

    def test_name_that_a_killed_run_gave_the_other_file_is_kept(self, host: Host) -> None:
        disk, base = guest_on(host)
        with running_guest(disk, base):
            self.replace(base)
            former = host.cache_path / set_aside_name(BASE, 7)
            former.hardlink_to(base)
            # Many, because a directory has them in any order.
            others = [set_aside_name(BASE, 8 + number) for number in range(20)]
            for other in others:
                (host.cache_path / other).write_bytes(b"set aside earlier")
            dry = host.restore(check_mode=True, states=["replaced"]).done
            done = host.restore(states=["replaced"]).done
        assert [aside["set_aside_as"] for aside in done["set_aside"]] == [former.name]
        assert dry["set_aside"] == done["set_aside"]
        assert former.read_bytes().startswith(b"other bytes")
        assert host.cached() == sorted([BASE, former.name, *others])

    def test_file_that_was_restored_is_not_reported_as_replaced(self, host: Host) -> None:
        disk, base = guest_on(host)
        with running_guest(disk, base):
            base.unlink()
            host.restore()
            assert host.audit().facts["missing"] == []
            self.replace(base)
            assert [lost["replaced"] for lost in host.audit().facts["missing"]] == [True]


class TestTwoGenerations:
    def test_guests_with_different_files_of_one_name_get_none_and_both_are_copied_aside(self, host: Host) -> None:
        first, base = guest_on(host)
        second, _base = guest_on(host, uuid=OTHER_UUID)
        with running_guest(first, base):
            base.unlink()
            host.base(BASE, content=b"second", size=SIZE)
            with running_guest(second, base):
                base.unlink()
                before = picture(host.root)
                dry = host.restore(check_mode=True)
                assert picture(host.root) == before
                result = host.restore()
                host.now += 60
                again = host.restore()
                facts = host.audit().facts
        text = reason(result)
        assert UUID in text
        assert OTHER_UUID in text
        asides = result.done["set_aside"]
        assert {tuple(aside["instances"]) for aside in asides} == {(UUID,), (OTHER_UUID,)}
        contents = {(host.cache_path / aside["set_aside_as"]).read_bytes()[:6] for aside in asides}
        assert contents == {CONTENT[:6], b"second"}
        assert dry.done["set_aside"] == asides
        assert (result.changed, again.changed) == (True, False)  # they are copied once
        assert not base.exists()
        assert facts["missing"][0]["recoverable_from"] is None
        assert len(facts["set_aside"]) == 2

    @pytest.fixture
    def two_guests(self, host: Host) -> Iterator[None]:
        first, base = guest_on(host)
        second, _base = guest_on(host, uuid=OTHER_UUID)
        with running_guest(first, base):
            base.unlink()
            host.base(BASE, content=b"second", size=SIZE)
            with running_guest(second, base):
                base.unlink()
                yield

    @pytest.mark.usefixtures("two_guests")
    def test_names_of_the_copies_are_on_disk_for_good(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        synced: list[str] = []
        fsync = os.fsync

        def note_and_sync(descriptor: int) -> None:
            if os.path.sameopenfile(descriptor, directory):
                synced.extend(host.cached())
            fsync(descriptor)

        directory = os.open(host.cache_path, os.O_RDONLY)
        monkeypatch.setattr(os, "fsync", note_and_sync)
        asides = host.restore().done["set_aside"]
        os.close(directory)
        assert len(asides) == 2
        assert {aside["set_aside_as"] for aside in asides} <= set(synced)

    @pytest.mark.usefixtures("two_guests")
    def test_file_that_is_written_to_while_it_is_copied_aside_has_no_copy(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        copy = place.copy_bytes

        def copy_and_write(source: int, *arguments: Any, **options: Any) -> int:
            count = copy(source, *arguments, **options)
            if os.pread(source, 6, 0) == b"second":
                with open(f"/proc/self/fd/{source}", "r+b") as writer:
                    writer.write(b"changed")
            return count

        monkeypatch.setattr(restoring, "copy_bytes", copy_and_write)
        result = host.restore()
        assert "but not all of them: Its source was written to while it was copied" in reason(result)
        assert [(host.cache_path / name).read_bytes()[:6] for name in host.cached()] in ([], [CONTENT[:6]])

    def test_copy_of_an_earlier_file_of_the_same_number_does_not_stand_in_for_a_guests(self, host: Host) -> None:
        """A file system gives the number of a file that is gone to another one."""
        first, base = guest_on(host)
        second, _base = guest_on(host, uuid=OTHER_UUID)
        with running_guest(first, base):
            earlier = host.cache_path / set_aside_name(BASE, 1, base.stat().st_ino)
            base.unlink()
            earlier.write_bytes(b"of another file")
            host.base(BASE, content=b"second", size=SIZE)
            with running_guest(second, base):
                base.unlink()
                asides = host.restore().done["set_aside"]
        assert {tuple(aside["instances"]) for aside in asides} == {(UUID,), (OTHER_UUID,)}
        assert earlier.read_bytes() == b"of another file"

    def test_different_inodes_with_equal_bytes_are_one_file(self, host: Host) -> None:
        first, base = guest_on(host)
        second, _base = guest_on(host, uuid=OTHER_UUID)
        with running_guest(first, base):
            base.unlink()
            host.base(BASE, content=CONTENT, size=SIZE)
            with running_guest(second, base):
                base.unlink()
                [restored] = host.restore().done["restored"]
        assert restored["guests"] == sorted([UUID, OTHER_UUID])
        assert whole(base)

    def test_file_that_was_restored_and_deleted_again_is_one_with_its_origin(self, host: Host) -> None:
        first, base = guest_on(host)
        second, _base = guest_on(host, uuid=OTHER_UUID)
        with running_guest(first, base):
            base.unlink()
            host.restore()
            with running_guest(second, base):
                base.unlink()
                [lost] = host.audit().facts["missing"]
                [restored] = host.restore().done["restored"]
                assert host.audit().facts["missing"] == []
        both = sorted([UUID, OTHER_UUID])
        assert (lost["recoverable_from"], lost["recoverable_until"]) == ("process", both)
        assert restored["guests"] == both
        assert whole(base)


class TestCorruptFile:
    @pytest.fixture
    def corrupt(self, host: Host) -> Path:
        """A base file that rotted after its checksum was saved."""
        _disk, base = guest_on(host)
        digest = hashlib.sha1(base.read_bytes()).hexdigest()
        (host.cache_path / f"{BASE}.info").write_text(json.dumps({"sha1": digest}))
        with base.open("r+b") as file:
            file.write(b"rotten")
        return base

    def test_corrupt_file_is_replaced_by_proven_bytes(self, host: Host, corrupt: Path) -> None:
        options = brought(host, CONTENT.ljust(SIZE, b"\0"))
        dry = host.restore(check_mode=True, states=["corrupt"], **options).done
        done = host.restore(states=["corrupt"], **options).done
        assert whole(corrupt)
        assert (done["restored"][0]["state"], done["restored"][0]["proof"]) == ("corrupt", "checksum")
        assert (host.cache_path / done["set_aside"][0]["set_aside_as"]).read_bytes().startswith(b"rotten")
        assert dry["set_aside"] == done["set_aside"]
        assert host.audit(checksum_base_images=True, checksum_interval_seconds=0).facts["corrupt"] == []

    def test_guest_that_has_the_corrupt_file_open_needs_a_restart(self, host: Host, corrupt: Path) -> None:
        options = brought(host, CONTENT.ljust(SIZE, b"\0"))
        with running_guest(host.instances_path / UUID / "disk", corrupt):
            [restored] = host.restore(states=["corrupt"], **options).done["restored"]
        assert restored["needs_restart"] == [UUID]

    def test_corrupt_file_without_proven_bytes_is_refused(self, host: Host, corrupt: Path) -> None:
        before = corrupt.read_bytes()
        assert "No process of a guest" in reason(host.restore(states=["corrupt"]))
        options = {**brought(host, CONTENT), "images": []}
        assert "and not" in reason(host.restore(states=["corrupt"], unproven=[BASE], **options))
        assert corrupt.read_bytes() == before

    def test_corrupt_file_is_left_alone_unless_asked_for(self, host: Host, corrupt: Path) -> None:
        options = brought(host, CONTENT.ljust(SIZE, b"\0"))
        assert host.restore(states=["missing", "replaced"], **options).done["restored"] == []
        assert corrupt.read_bytes().startswith(b"rotten")


class TestBesideNova:
    def test_file_that_nova_builds_meanwhile_under_its_lock_is_present(self, host: Host) -> None:
        disk, base = guest_on(host)
        with nova_compute() as nova, running_guest(disk, base):
            base.unlink()
            nova.take(BASE, host.locks_path)
            restore = start_child(host.restore)
            wait_until(lambda: is_waiting(host))
            host.base(BASE, content=CONTENT, size=SIZE)
            nova.release()
            result = restore()
        assert (result.done["present"], result.changed, result.error) == ([BASE], False, None)

    def test_other_bytes_that_nova_builds_meanwhile_are_kept_and_reported(self, host: Host) -> None:
        disk, base = guest_on(host)
        with nova_compute() as nova, running_guest(disk, base):
            base.unlink()
            nova.take(BASE, host.locks_path)
            restore = start_child(host.restore)
            wait_until(lambda: is_waiting(host))
            host.base(BASE, content=b"another template", size=SIZE)
            nova.release()
            assert "its bytes differ" in reason(restore())
        assert base.read_bytes().startswith(b"another template")

    @pytest.mark.usefixtures("time_limit")
    def test_nova_can_take_its_lock_while_bytes_are_copied(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        disk, base = guest_on(host)
        with nova_compute() as nova, running_guest(disk, base):
            base.unlink()
            copy = place.copy_bytes

            def take_lock_and_copy(*arguments: Any, **options: Any) -> int:
                nova.take(BASE, host.locks_path)
                nova.release()
                return copy(*arguments, **options)

            monkeypatch.setattr(restoring, "copy_bytes", take_lock_and_copy)
            assert len(host.restore().done["restored"]) == 1

    def test_file_that_nova_made_and_removed_meanwhile_is_restored(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        disk, base = guest_on(host)
        finish, publish = place.finish, place.publish

        def finish_and_make(*arguments: Any) -> None:
            finish(*arguments)
            host.base(BASE, content=b"nova's", size=SIZE)

        def publish_and_remove(*arguments: Any) -> None:
            try:
                publish(*arguments)
            except FileExistsError:
                base.unlink()
                raise

        with running_guest(disk, base):
            base.unlink()
            monkeypatch.setattr(restoring, "finish", finish_and_make)
            monkeypatch.setattr(placing, "publish", publish_and_remove)
            assert [file["name"] for file in host.restore().done["restored"]] == [BASE]
        assert whole(base)

    @pytest.mark.usefixtures("time_limit")
    def test_nova_can_take_its_lock_while_its_file_is_compared(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        disk, base = guest_on(host)
        finish, compare = place.finish, place.is_same_content

        def finish_and_make(*arguments: Any) -> None:
            finish(*arguments)
            host.base(BASE, content=CONTENT, size=SIZE)

        with nova_compute() as nova, running_guest(disk, base):
            base.unlink()

            def take_lock_and_compare(first: int, second: int) -> bool:
                nova.take(BASE, host.locks_path)
                nova.release()
                return compare(first, second)

            monkeypatch.setattr(restoring, "finish", finish_and_make)
            monkeypatch.setattr(placing, "is_same_content", take_lock_and_compare)
            assert host.restore().done["present"] == [BASE]

    def test_restore_uses_no_name_of_novas_drafts(self, host: Host) -> None:
        disk, base = guest_on(host)
        with running_guest(disk, base):
            base.unlink()
            with opened_in(host.cache_path) as ask:
                host.restore()
                # A file without a name is seen by its number.
                assert {name for name in ask() if not name.startswith("#")} <= {BASE, "the folder itself"}

    def test_lock_that_nova_keeps_is_a_failure_that_names_it(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(novas_lock, "_WAIT_SECONDS", 0.1)
        disk, base = guest_on(host)
        with nova_compute() as nova, running_guest(disk, base):
            base.unlink()
            nova.take(BASE, host.locks_path)
            result = host.restore()
        [failed] = result.done["failed"]
        assert f"nova-{BASE}" in failed["error"]
        assert host.cached() == []

    @pytest.mark.parametrize("number", range(5))
    def test_two_restores_at_once_restore_a_file_once(self, host: Host, number: int) -> None:
        disk, base = guest_on(host, size=8 << 20)
        with running_guest(disk, base):
            base.unlink()
            finishes = [start_child(host.restore) for _restore in range(2 + number % 2)]
            results = [finish() for finish in finishes]
        assert whole(base)
        assert sum(len(result.done["restored"]) for result in results) == 1
        assert [result.error for result in results] == [None] * len(results)
        assert host.cached() == [BASE]

    def test_nova_that_caches_the_image_without_a_lock_leaves_a_whole_file(self, host: Host) -> None:
        """`cache_image`: it opens `.part` and truncates it, downloads, and renames it without a look."""
        disk, base = guest_on(host)
        stop = host.root / "stop"

        def cache_image() -> None:
            while not stop.exists():
                part = host.cache_path / f"{BASE}.part"
                with part.open("wb") as file:
                    for start in range(0, SIZE, SIZE // 8):
                        file.write(CONTENT.ljust(SIZE, b"\0")[start : start + SIZE // 8])
                part.rename(base)
                base.unlink(missing_ok=True)

        with running_guest(disk, base):
            base.unlink()
            nova = start_child(cache_image)
            try:
                for _restore in range(20):
                    result = host.restore()
                    assert (result.done["failed"], result.done["refused"]) == ([], [])
            finally:
                stop.touch()
            nova()
            host.restore()
        assert whole(base)
        assert host.cached() == [BASE]

    def test_restored_file_has_the_lock_file_that_nova_can_use(self, host: Host) -> None:
        disk, base = guest_on(host)
        with running_guest(disk, base):
            base.unlink()
            host.restore()
        owner, lock = host.locks_path.stat(), (host.locks_path / f"nova-{BASE}").stat()
        assert (lock.st_uid, lock.st_gid, lock.st_mode & 0o777) == (owner.st_uid, owner.st_gid, 0o644)
        with nova_compute() as nova:
            nova.take(BASE, host.locks_path)


def is_waiting(host: Host) -> bool:
    """Whether a process of ours waits for a lock: it opens the lock file again and again."""
    directory = host.cache_path
    for process in Path("/proc").iterdir():
        try:
            links = [os.readlink(link) for link in (process / "fd").iterdir()] if process.name.isdecimal() else []
        except OSError:
            continue
        if any(link.startswith(f"{directory}/#") for link in links):
            return int(process.name) != os.getpid()
    return False


class TestAudit:
    def test_missing_file_that_a_guest_has_open_is_reported_with_how_long_and_how(self, host: Host) -> None:
        disk, base = guest_on(host)
        domain(host, UUID, {disk: "qcow2"})
        with running_guest(disk, base):
            base.unlink()
            result = host.audit(libvirt=True)
        [lost] = result.facts["missing"]
        assert (lost["recoverable_from"], lost["recoverable_until"]) == ("process", [GUEST])
        [warning] = [text for text in result.warnings if str(base) in text]
        assert f"until {GUEST} stops: do not stop" in warning
        assert "ansible-playbook stackops.nova.restore" in warning

    def test_missing_file_that_nobody_has_open_is_not_recoverable(self, host: Host) -> None:
        _disk, base = guest_on(host)
        base.unlink()
        [lost] = host.audit().facts["missing"]
        assert (lost["recoverable_from"], lost["recoverable_until"]) == (None, [])

    def test_replaced_file_is_recoverable_too(self, host: Host) -> None:
        disk, base = guest_on(host)
        with running_guest(disk, base):
            base.unlink()
            host.base(BASE, content=b"other")
            result = host.audit()
        [lost] = result.facts["missing"]
        assert (lost["replaced"], lost["recoverable_from"]) == (True, "process")
        assert any("states: [missing, replaced]" in text for text in result.warnings)

    def test_audit_without_a_missing_file_loads_no_module_of_the_restore(self, host: Host) -> None:
        guest_on(host)
        with reader(host.base(OTHER_BASE)) as _process:
            (host.cache_path / OTHER_BASE).unlink()
            loaded = in_a_child(lambda: _modules_loaded_by(host.audit))
        assert not any("fetch" in name for name in loaded)


def _modules_loaded_by(audit: Callable[[], object]) -> set[str]:
    for name in [name for name in sys.modules if ".image_cache.fetch" in name]:
        del sys.modules[name]
    audit()
    return {name for name in sys.modules if ".image_cache." in name}
