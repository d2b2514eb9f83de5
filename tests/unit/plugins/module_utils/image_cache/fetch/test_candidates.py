# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which base files can be restored: each is known once, with what is built on it and which processes still have it."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.audit import inspect_and_plan
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.cache_directory import open_cache
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch import candidates
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.candidates import (
    Candidate,
    State,
    find_candidates,
    look_at_former_files,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.proof import OpenFile, Overlay
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.inspection import Inspection
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.plan import Missing
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.settings import Settings
from ansible_collections.stackops.nova.tests.support.constants import BASE, OTHER_BASE, OTHER_UUID, UUID
from ansible_collections.stackops.nova.tests.support.guests import needs_qemu, running_guest
from ansible_collections.stackops.nova.tests.support.host import Host, create_image, domain
from ansible_collections.stackops.nova.tests.support.params import run_command
from ansible_collections.stackops.nova.tests.support.processes import reader

QEMU = 64055
DISK, OTHER_DISK = (1, 50), (1, 51)
OVERLAYS = (
    Overlay("/i/a/disk", "a", DISK, QEMU, "raw", 1000),
    Overlay("/i/b/disk", "b", OTHER_DISK, QEMU, "raw", 1000),
)


def opened(inode: int, *disks: tuple[int, int]) -> OpenFile:
    """A deleted file that a process has open, beside disks that it writes."""
    return OpenFile(
        process=7,
        number=8,
        descriptor=-1,
        users=frozenset([QEMU]),
        written=frozenset(disks),
        inode=(1, inode),
        mode=0o100644,
        links=0,
        owner=QEMU,
        size_bytes=1000,
        allocated_bytes=0,
    )


class TestGuestsOfACandidate:
    def candidate(self, proven: Sequence[OpenFile] = (), rejected: Sequence[OpenFile] = ()) -> Candidate:
        return Candidate(
            BASE,
            State.MISSING,
            ("a", "b"),
            is_base_file=True,
            overlays=OVERLAYS,
            proven=proven,
            rejected=[(file, "") for file in rejected],
        )

    def test_guests_are_those_of_all_processes_that_prove_something_each_once(self) -> None:
        assert self.candidate([opened(60, OTHER_DISK), opened(60, DISK), opened(61, DISK)]).guests == ("a", "b")

    def test_guest_whose_file_proves_nothing_is_a_last_one_alone(self) -> None:
        candidate = self.candidate([opened(60, DISK)], [opened(61, OTHER_DISK)])
        assert (candidate.guests, candidate.last_guests) == (("a",), ("a", "b"))

    def test_guest_whose_file_proves_nothing_and_is_no_other_guests_is_named(self) -> None:
        of_a_guest = opened(61, OTHER_DISK)
        assert self.candidate([opened(60, DISK)], [opened(62), of_a_guest]).rejected_guest == (of_a_guest, "")

    def test_process_without_a_disk_is_no_guest(self) -> None:
        candidate = self.candidate(rejected=[opened(61)])
        assert (candidate.rejected_guest, candidate.last_guests) == (None, ())

    def test_file_that_another_process_proves_needs_no_proof_of_a_second(self) -> None:
        assert self.candidate([opened(60, DISK)], [opened(60, OTHER_DISK)]).rejected_guest is None


def inspected(host: Host, **options: Any) -> Inspection:
    return inspect_and_plan(host.options(**options), host.now, run_command)


def found(inspection: Inspection, closing: ExitStack, *corrupt: str) -> list[Candidate]:
    """The candidates of a pass, of whose files some are corrupt."""
    files = [file for file in inspection.snapshot.files if file.name in corrupt]
    settings, snapshot, plan = inspection[:3]
    return find_candidates(plan.missing, files, plan, snapshot, settings, run_command, closing)


class TestFinding:
    def test_missing_file_is_found_with_the_disks_that_are_built_on_it(self, host: Host) -> None:
        disk = host.overlay(UUID, host.cache_path / BASE)
        with ExitStack() as closing:
            [candidate] = found(inspected(host), closing)
        assert (candidate.name, candidate.state, candidate.instances) == (BASE, State.MISSING, (UUID,))
        assert (candidate.is_base_file, candidate.inode) == (True, None)
        assert [(each.disk, each.instance) for each in candidate.overlays] == [(str(disk), UUID)]
        assert (candidate.proven, candidate.rejected) == ((), ())

    @pytest.mark.parametrize("name", [f"_aaa/{BASE}", f"_zzz/{BASE}", "_base/custom.img", f"_base/{BASE}.part"])
    def test_file_that_is_not_a_base_file_is_known_by_its_path(self, host: Host, name: str) -> None:
        path = host.instances_path / name
        path.parent.mkdir(exist_ok=True)
        host.overlay(UUID, path)
        with ExitStack() as closing:
            [candidate] = found(inspected(host), closing)
        assert (candidate.name, candidate.is_base_file, candidate.overlays) == (str(path), False, ())

    def test_file_of_a_directory_that_is_not_there_is_known_by_its_path(self, host: Host) -> None:
        host.overlay(UUID, f"/not/mounted/{BASE}")
        with ExitStack() as closing:
            [candidate] = found(inspected(host), closing)
        assert (candidate.name, candidate.is_base_file) == (f"/not/mounted/{BASE}", False)

    def test_disk_outside_of_the_instances_counts_through_the_snapshots_beside_it(self, host: Host) -> None:
        directory = host.root / "volumes"
        directory.mkdir()
        snapshot = create_image(directory / "snapshot", over=host.base(BASE), over_format="raw")
        disk = create_image(directory / "disk", over=snapshot)
        (host.cache_path / BASE).unlink()
        domain(host, UUID, {disk: "qcow2"})
        with ExitStack() as closing:
            [candidate] = found(inspected(host, libvirt=True), closing)
        assert [each.disk for each in candidate.overlays] == [str(disk)]

    def test_file_that_several_names_lead_to_is_one(self, host: Host) -> None:
        (host.root / "alias").symlink_to(host.cache_path)
        host.overlay(UUID, host.cache_path / BASE)
        host.overlay(OTHER_UUID, host.root / "alias" / BASE)
        with ExitStack() as closing:
            [candidate] = found(inspected(host), closing)
        assert candidate.name == BASE
        assert sorted(each.instance for each in candidate.overlays) == [UUID, OTHER_UUID]

    def test_corrupt_file_is_found_with_its_users_and_its_inode(self, host: Host) -> None:
        base = host.base(BASE)
        host.overlay(UUID, base)
        with ExitStack() as closing:
            [candidate] = found(inspected(host), closing, BASE)
        assert (candidate.state, candidate.instances) == (State.CORRUPT, (UUID,))
        assert candidate.inode == (base.stat().st_dev, base.stat().st_ino)
        assert [each.instance for each in candidate.overlays] == [UUID]

    def test_host_without_a_missing_file_has_no_candidate(self, host: Host) -> None:
        host.overlay(UUID, host.base(BASE))
        with ExitStack() as closing:
            assert found(inspected(host), closing) == []

    def test_cache_that_is_gone_meanwhile_proves_nothing(self, host: Host) -> None:
        host.overlay(UUID, host.cache_path / BASE)
        inspection = inspected(host)
        host.cache_path.rmdir()
        with ExitStack() as closing:
            [candidate] = found(inspection, closing)
        assert (candidate.name, candidate.overlays, candidate.proven) == (BASE, (), ())

    def test_file_that_a_process_without_a_disk_has_open_is_rejected_with_the_reason(self, host: Host) -> None:
        base = host.base(BASE)
        host.overlay(UUID, base)
        with reader(base) as process, ExitStack() as closing:
            base.unlink()
            [candidate] = found(inspected(host), closing)
        [(file, reason)] = candidate.rejected
        assert (file.process, candidate.proven) == (process.pid, ())
        assert reason == "it has no disk open for writing that is built on the base file"


@needs_qemu
class TestWithGuests:
    def disk_on(self, host: Host, name: str, uuid: str, content: bytes = b"first") -> tuple[Path, Path]:
        """A disk of an instance, and the base file that it is built on."""
        base = host.cache_path / name
        if not base.exists():
            host.base(name, content=content)
        (host.instances_path / uuid).mkdir()
        return create_image(host.instances_path / uuid / "disk", over=base, over_format="raw"), base

    def test_file_that_a_guest_has_open_is_proven(self, host: Host) -> None:
        disk, base = self.disk_on(host, BASE, UUID)
        inode = base.stat().st_dev, base.stat().st_ino
        with running_guest(disk, base) as process, ExitStack() as closing:
            base.unlink()
            [candidate] = found(inspected(host), closing)
        [file] = candidate.proven
        assert (file.process, file.inode) == (process.pid, inode)
        assert (candidate.guests, candidate.rejected) == ((UUID,), ())

    def test_replaced_file_that_is_corrupt_as_well_is_found_once_as_replaced(self, host: Host) -> None:
        disk, base = self.disk_on(host, BASE, UUID)
        with running_guest(disk, base), ExitStack() as closing:
            base.unlink()
            host.base(BASE, content=b"second")
            [candidate] = found(inspected(host), closing, BASE)
        assert (candidate.state, candidate.guests) == (State.REPLACED, (UUID,))
        assert candidate.inode == (base.stat().st_dev, base.stat().st_ino)

    def missing(self, host: Host) -> Sequence[Missing]:
        return inspected(host).plan.missing

    def test_guests_with_one_file_are_named_in_the_plan(self, host: Host) -> None:
        first, base = self.disk_on(host, BASE, UUID)
        second, _base = self.disk_on(host, BASE, OTHER_UUID)
        self.disk_on(host, OTHER_BASE, "stopped")
        with running_guest(first, base), running_guest(second, base):
            base.unlink()
            (host.cache_path / OTHER_BASE).unlink()
            guests = {Path(lost.backing_file).name: lost.guests for lost in self.missing(host)}
        assert guests == {BASE: (UUID, OTHER_UUID), OTHER_BASE: ()}

    def test_guests_with_different_files_of_one_name_are_not_named(self, host: Host) -> None:
        first, base = self.disk_on(host, BASE, UUID)
        with running_guest(first, base):
            base.unlink()
            second, _base = self.disk_on(host, BASE, OTHER_UUID, b"second")
            with running_guest(second, base):
                base.unlink()
                [lost] = self.missing(host)
        assert (lost.instances, lost.guests) == ((UUID, OTHER_UUID), ())

    def test_guest_beside_one_whose_file_proves_nothing_is_not_named(self, host: Host) -> None:
        first, base = self.disk_on(host, BASE, UUID)
        with running_guest(first, base):
            base.unlink()
            second, _base = self.disk_on(host, BASE, OTHER_UUID, b"second")
            with running_guest(second, base):
                (host.root / "backup").hardlink_to(base)
                base.unlink()
                [lost] = self.missing(host)
        assert lost.guests == ()

    def test_file_that_was_restored_is_not_missing_though_its_guest_has_the_former_one(self, host: Host) -> None:
        disk, base = self.disk_on(host, BASE, UUID)
        host.overlay(OTHER_UUID, host.cache_path / OTHER_BASE)
        with running_guest(disk, base):
            base.unlink()
            host.restore()
            [lost] = self.missing(host)
            assert lost.instances == (OTHER_UUID,)
            base.unlink()
            host.base(BASE, content=b"first")
            [replaced, _lost] = self.missing(host)
        assert (replaced.replaced, replaced.guests) == (True, (UUID,))

    @pytest.mark.parametrize("instances", [(UUID, OTHER_UUID), ("0",)])
    def test_file_that_was_restored_is_missing_to_another_instance_than_its_guest(
        self, host: Host, instances: tuple[str, ...]
    ) -> None:
        disk, base = self.disk_on(host, BASE, UUID)
        with running_guest(disk, base):
            base.unlink()
            host.restore()
            settings, snapshot, plan = inspected(host)[:3]
            plan = plan._replace(missing=(Missing(str(base), instances, replaced=True),))
            [lost] = look_at_former_files(plan, snapshot, settings, run_command).missing
        assert (lost.instances, lost.guests) == (instances, (UUID,))

    def test_file_beyond_the_number_that_may_be_open_proves_nothing(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_descriptor: int) -> int:
            raise OSError(errno.EMFILE, "Too many open files")

        disk, base = self.disk_on(host, BASE, UUID)
        with running_guest(disk, base), ExitStack() as closing:
            base.unlink()
            monkeypatch.setattr(os, "dup", refuse)
            [candidate] = found(inspected(host), closing)
        assert (candidate.proven, candidate.last_guests) == ((), (UUID,))
        assert [reason for _file, reason in candidate.rejected] == [
            "guests have more files open than this process may (ulimit -n)"
        ]

    def test_file_that_loses_its_name_again_meanwhile_can_be_restored_still(self, host: Host) -> None:
        disk, base = self.disk_on(host, BASE, UUID)
        with running_guest(disk, base):
            base.unlink()
            host.base(BASE, content=b"second")
            settings, snapshot, plan = inspected(host)[:3]
            base.unlink()
            [lost] = look_at_former_files(plan, snapshot, settings, run_command).missing
        assert lost.guests == (UUID,)

    def test_file_whose_directory_becomes_another_one_meanwhile_stays_missing(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        disk, base = self.disk_on(host, BASE, UUID)
        alias = host.root / "alias"
        alias.symlink_to(host.cache_path)
        host.overlay(OTHER_UUID, alias / OTHER_BASE)

        def open_cache_and_move_the_link(settings: Settings) -> int | None:
            cache = open_cache(settings)
            alias.unlink()
            alias.symlink_to(host.libvirt_path if opened else host.cache_path)
            opened.append(cache)
            return cache

        opened: list[int | None] = []
        monkeypatch.setattr(candidates, "open_cache", open_cache_and_move_the_link)
        with running_guest(disk, base):
            base.unlink()
            missing = {Path(lost.backing_file).name: lost.guests for lost in self.missing(host)}
        assert missing == {BASE: (UUID,), OTHER_BASE: ()}

    def test_no_descriptor_is_left_open(self, host: Host) -> None:
        disk, base = self.disk_on(host, BASE, UUID)
        with running_guest(disk, base):
            base.unlink()
            host.base(BASE, content=b"second")
            before = os.listdir("/proc/self/fd")
            assert len(self.missing(host)) == 1
            assert set(os.listdir("/proc/self/fd")) <= set(before)

    def test_cache_that_is_gone_meanwhile_leaves_the_plan_as_it_is(self, host: Host) -> None:
        disk, base = self.disk_on(host, BASE, UUID)
        with running_guest(disk, base):
            base.unlink()
            settings, snapshot, plan = inspected(host)[:3]
            host.cache_path.rmdir()
            assert look_at_former_files(plan, snapshot, settings, run_command) == plan
