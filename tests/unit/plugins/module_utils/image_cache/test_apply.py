# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host may change between the plan and its execution. A file that changed meanwhile is kept."""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.apply import Outcome, apply_plan, dry_run
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.disk_references import DiskUse
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.open_files import is_open_elsewhere
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.plan import Kept, KeptReason
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.settings import Settings
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.snapshot import (
    names_by_inode,
    read_disks,
    take_snapshot,
)
from ansible_collections.stackops.nova.tests.support.constants import BASE, UUID
from ansible_collections.stackops.nova.tests.support.host import OLD, Host, create_image, nothing_new, picture
from ansible_collections.stackops.nova.tests.support.params import run_command
from ansible_collections.stackops.nova.tests.support.processes import (
    NOBODY,
    as_nobody,
    guest,
    in_a_child,
    needs_root,
    nova_compute,
    opened_in,
    reader,
    start_child,
    whenever,
)

FIRST = "02c9f7e7130413742a28a31ba97617e9a56811be"
LAST = "97aaae8fdc4935bc47d03cf539a6213a1f2c6ad4"


def removed(outcome: Outcome) -> list[str]:
    return [file.name for file in outcome.removed]


def kept(outcome: Outcome) -> dict[str, str]:
    return {kept.name: kept.reason.value for kept in outcome.kept}


def failed(outcome: Outcome) -> dict[str, str]:
    return {failure.name: failure.error for failure in outcome.failed}


@pytest.fixture
def three_unused_files(host: Host) -> Host:
    """Three unused files; what happens is to happen to the one in the middle."""
    for name in (FIRST, BASE, LAST):
        host.base(name, age=OLD)
    return host


def make_replacement(host: Host, kind: str) -> Path:
    """What may come in the place of the file in the middle, which gets an inode that fits."""
    path = host.cache_path / BASE
    if kind == "a link to it":
        link = host.root / "link"
        link.symlink_to(host.root / "saved")
        return link
    files = sorted((path, host.base("other", age=OLD)), key=lambda file: file.stat().st_ino)
    other, planned = files if kind == "an earlier inode" else reversed(files)
    planned.rename(host.root / "planned")
    other.rename(host.root / "other")
    (host.root / "planned").rename(path)
    return host.root / "other"


class TestChangesAfterThePlan:
    """The file is kept, its reason is reported, and the files before and after it are removed."""

    def expect_kept(self, host: Host, outcome: Outcome, reason: str) -> None:
        assert removed(outcome) == [FIRST, LAST]
        assert kept(outcome) == {BASE: reason}
        assert outcome.failed == ()
        assert host.cached() == ([] if reason == "gone" else [BASE])

    def test_file_that_was_touched_is_kept(self, three_unused_files: Host) -> None:
        plan, settings = three_unused_files.plan()
        os.utime(three_unused_files.cache_path / BASE)
        self.expect_kept(three_unused_files, apply_plan(plan, settings, False, nothing_new), "touched")

    def test_file_whose_time_was_set_back_is_kept(self, three_unused_files: Host) -> None:
        plan, settings = three_unused_files.plan()
        os.utime(three_unused_files.cache_path / BASE, (1, 1))
        self.expect_kept(three_unused_files, apply_plan(plan, settings, False, nothing_new), "touched")

    @pytest.mark.parametrize("by", ["an earlier inode", "a later inode"])
    def test_file_that_was_replaced_is_kept(self, three_unused_files: Host, by: str) -> None:
        other = make_replacement(three_unused_files, by)
        plan, settings = three_unused_files.plan()
        os.utime(other)
        other.rename(three_unused_files.cache_path / BASE)
        self.expect_kept(three_unused_files, apply_plan(plan, settings, False, nothing_new), "replaced")

    @pytest.mark.parametrize("by", ["an earlier inode", "a later inode", "a link to it"])
    def test_file_that_is_replaced_just_before_its_removal_is_kept(self, three_unused_files: Host, by: str) -> None:
        other = make_replacement(three_unused_files, by)
        path = three_unused_files.cache_path / BASE
        planned = path.stat().st_ino
        plan, settings = three_unused_files.plan()

        def replace(descriptor: int, *_question: object) -> None:
            if os.fstat(descriptor).st_ino == planned and os.path.lexists(other):
                path.rename(three_unused_files.root / "saved")
                other.rename(path)

        def apply_meanwhile() -> Outcome:
            whenever("fcntl.fcntl", replace)  # the kernel is asked who holds the file, once it has been looked at
            return apply_plan(plan, settings, True, nothing_new)

        self.expect_kept(three_unused_files, in_a_child(apply_meanwhile), "replaced")

    def test_file_that_became_a_directory_is_kept(self, three_unused_files: Host) -> None:
        plan, settings = three_unused_files.plan()
        (three_unused_files.cache_path / BASE).unlink()
        (three_unused_files.cache_path / BASE).mkdir()
        self.expect_kept(three_unused_files, apply_plan(plan, settings, False, nothing_new), "replaced")

    def test_file_that_became_a_fifo_is_kept(self, three_unused_files: Host) -> None:
        plan, settings = three_unused_files.plan()
        (three_unused_files.cache_path / BASE).unlink()
        os.mkfifo(three_unused_files.cache_path / BASE)
        self.expect_kept(three_unused_files, apply_plan(plan, settings, False, nothing_new), "replaced")

    def test_file_that_is_gone_is_not_counted_as_removed(self, three_unused_files: Host) -> None:
        plan, settings = three_unused_files.plan()
        (three_unused_files.cache_path / BASE).unlink()
        self.expect_kept(three_unused_files, apply_plan(plan, settings, False, nothing_new), "gone")

    def test_file_that_another_process_removes_first_is_not_counted_as_removed(
        self, three_unused_files: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plan, settings = three_unused_files.plan()
        unlink = os.unlink

        def unlink_second(name: str, **where: int) -> None:
            if name == BASE:
                unlink(name, **where)
            unlink(name, **where)

        monkeypatch.setattr(os, "unlink", unlink_second)
        self.expect_kept(three_unused_files, apply_plan(plan, settings, False, nothing_new), "gone")

    def test_file_that_a_guest_was_started_on_is_kept(self, three_unused_files: Host) -> None:
        plan, settings = three_unused_files.plan()
        disk = create_image(
            three_unused_files.root / "disk", over=three_unused_files.cache_path / BASE, over_format="raw"
        )
        with guest(disk):
            self.expect_kept(three_unused_files, apply_plan(plan, settings, False, nothing_new), "held")

    def test_file_that_a_process_opened_is_kept(self, three_unused_files: Host) -> None:
        plan, settings = three_unused_files.plan()
        with reader(three_unused_files.cache_path / BASE):
            self.expect_kept(three_unused_files, apply_plan(plan, settings, False, nothing_new), "open")

    def test_file_that_another_prune_is_about_to_remove_is_kept(self, three_unused_files: Host) -> None:
        plan, settings = three_unused_files.plan()
        with (three_unused_files.cache_path / BASE).open("rb") as file:
            assert is_open_elsewhere(file.fileno()) is False
            outcome = in_a_child(lambda: apply_plan(plan, settings, False, nothing_new))
        self.expect_kept(three_unused_files, outcome, "open")

    def test_file_that_nova_locked_is_kept(self, three_unused_files: Host) -> None:
        plan, settings = three_unused_files.plan()
        with nova_compute() as nova:
            nova.take(BASE, three_unused_files.locks_path)
            start = time.monotonic()
            self.expect_kept(three_unused_files, apply_plan(plan, settings, False, nothing_new), "locked")
            assert time.monotonic() - start < 10

    def test_file_that_became_a_link_is_kept_with_its_target(self, three_unused_files: Host) -> None:
        elsewhere = three_unused_files.root / "elsewhere"
        elsewhere.mkdir()
        plan, settings = three_unused_files.plan()
        (three_unused_files.cache_path / BASE).rename(elsewhere / BASE)
        (three_unused_files.cache_path / BASE).symlink_to(elsewhere / BASE)
        with opened_in(elsewhere) as opened:
            self.expect_kept(three_unused_files, apply_plan(plan, settings, False, nothing_new), "replaced")
            assert opened() == set()
        assert (elsewhere / BASE).exists()

    def test_cache_directory_that_was_moved_away_keeps_its_files(self, three_unused_files: Host) -> None:
        plan, settings = three_unused_files.plan()
        three_unused_files.cache_path.rename(three_unused_files.root / "saved")
        outcome = apply_plan(plan, settings, False, nothing_new)
        assert removed(outcome) == []
        assert kept(outcome) == dict.fromkeys([FIRST, BASE, LAST], "gone")
        assert len(os.listdir(three_unused_files.root / "saved")) == 3

    def test_cache_directory_that_became_a_link_is_refused(self, three_unused_files: Host) -> None:
        plan, settings = three_unused_files.plan()
        three_unused_files.cache_path.rename(three_unused_files.root / "saved")
        three_unused_files.cache_path.symlink_to(three_unused_files.root / "saved")
        with pytest.raises(ImageCacheError, match="is a link"):
            apply_plan(plan, settings, False, nothing_new)
        assert len(os.listdir(three_unused_files.root / "saved")) == 3


def test_locks_of_many_files_are_waited_for_together(host: Host) -> None:
    names = [f"swap_{number}" for number in range(10)]
    for name in names:
        host.base(name, age=OLD)
    plan, settings = host.plan()
    with ExitStack() as held:
        for name in names:
            fcntl.lockf(held.enter_context(host.lock_file(name).open("r+")), fcntl.LOCK_EX)
        start = time.monotonic()
        outcome = in_a_child(lambda: apply_plan(plan, settings, False, nothing_new))
        assert 1 <= time.monotonic() - start < 5
    assert kept(outcome) == dict.fromkeys(names, "locked")


def assert_nobody_removes_nothing(host: Host, why: str) -> None:
    """See that a user without rights knows that before, and leaves the only file of the cache alone."""
    plan, settings = as_nobody(host.plan)
    assert [reason.endswith(why) for reason in plan.unremovable] == [True], plan.unremovable
    assert as_nobody(lambda: apply_plan(plan, settings, False, nothing_new)) == dry_run(plan)
    assert (dry_run(plan).removed, dry_run(plan).kept) == ((), (Kept(BASE, KeptReason.UNREMOVABLE),))
    assert host.cached() == [BASE]


class TestFailure:
    """One file's failure is reported, and the others are removed."""

    def test_file_whose_lock_cannot_be_taken_is_kept_and_the_others_are_removed(self, three_unused_files: Host) -> None:
        plan, settings = three_unused_files.plan()
        lock = three_unused_files.locks_path / f"nova-{BASE}"
        lock.symlink_to("elsewhere")
        outcome = apply_plan(plan, settings, False, nothing_new)
        assert removed(outcome) == [FIRST, LAST]
        assert failed(outcome) == {
            BASE: f"nova's lock {lock} could not be taken: Too many levels of symbolic links. "
            "Look at what is there (ls -ld)"
        }
        assert three_unused_files.cached() == [BASE]

    @needs_root
    def test_file_that_may_not_be_removed_is_reported_and_the_others_are_removed(self, public_host: Host) -> None:
        for name in (FIRST, BASE, LAST):
            os.chown(public_host.base(name, age=OLD), NOBODY, NOBODY)
        os.chown(public_host.locks_path, NOBODY, NOBODY)
        public_host.cache_path.chmod(0o1777)  # sticky: to each their own
        os.chown(public_host.cache_path / BASE, 0, 0)
        plan, settings = public_host.plan()
        outcome = as_nobody(lambda: apply_plan(plan, settings, False, nothing_new))
        assert removed(outcome) == [FIRST, LAST]
        assert failed(outcome) == {BASE: "it could not be removed: Operation not permitted. Run as root (become: true)"}
        assert public_host.cached() == [BASE]

    @needs_root
    def test_file_that_may_not_be_opened_is_reported_and_the_others_are_removed(self, public_host: Host) -> None:
        for name in (FIRST, BASE, LAST):
            os.chown(public_host.base(name, age=OLD), NOBODY, NOBODY)
        for path in (public_host.cache_path, public_host.locks_path):
            os.chown(path, NOBODY, NOBODY)
        plan, settings = public_host.plan()
        os.chown(public_host.cache_path / BASE, 0, 0)
        (public_host.cache_path / BASE).chmod(0o600)
        outcome = as_nobody(lambda: apply_plan(plan, settings, False, nothing_new))
        assert removed(outcome) == [FIRST, LAST]
        assert failed(outcome) == {BASE: "it could not be removed: Permission denied. Run as root (become: true)"}

    def test_info_file_that_cannot_be_removed_is_reported(self, three_unused_files: Host) -> None:
        (three_unused_files.cache_path / f"{BASE}.info").mkdir()
        plan, settings = three_unused_files.plan()
        outcome = apply_plan(plan, settings, False, nothing_new)
        assert removed(outcome) == [FIRST, BASE, LAST]
        assert failed(outcome) == {
            BASE: "it was removed, but its info file was not: Is a directory. Look at what is there (ls -ld)"
        }

    @needs_root
    def test_file_whose_lock_file_cannot_be_removed_is_reported_as_removed(self, public_host: Host) -> None:
        public_host.base(BASE, age=OLD)
        (public_host.cache_path / f"{BASE}.info").write_text("{}")
        for path in (public_host.cache_path, public_host.cache_path / BASE, public_host.lock_file(BASE)):
            os.chown(path, NOBODY, NOBODY)
        plan, settings = public_host.plan()
        outcome = as_nobody(lambda: apply_plan(plan, settings, False, nothing_new))
        assert public_host.cached() == []
        assert removed(outcome) == [BASE]

    def test_locks_directory_that_cannot_be_used_keeps_every_file(self, three_unused_files: Host) -> None:
        plan, settings = three_unused_files.plan()
        three_unused_files.locks_path.rmdir()
        three_unused_files.locks_path.symlink_to(three_unused_files.root)
        outcome = apply_plan(plan, settings, False, nothing_new)
        assert removed(outcome) == []
        assert list(failed(outcome)) == [FIRST, BASE, LAST]
        assert set(failed(outcome).values()) == {
            f"nova's lock directory {three_unused_files.locks_path} cannot be used: Not a directory. "
            "Look at what is there (ls -ld)"
        }
        assert three_unused_files.cached() == [FIRST, BASE, LAST]

    @needs_root
    @pytest.mark.parametrize(
        ("has_locks", "mode", "why"),
        [
            (False, 0o755, "_base may not be written by this user. Run as root (become: true)."),
            (True, 0o755, "_base may not be written by this user. Run as root (become: true)."),
            (False, 0o777, "does not exist, and this user may not make it. Run as root (become: true)."),
        ],
    )
    def test_user_without_rights_plans_to_remove_nothing_and_removes_nothing(
        self, public_host: Host, has_locks: bool, mode: int, why: str
    ) -> None:
        public_host.base(BASE, age=OLD)
        if not has_locks:
            public_host.locks_path.rmdir()
        public_host.cache_path.chmod(mode)
        assert_nobody_removes_nothing(public_host, why)

    @needs_root
    @pytest.mark.parametrize(
        ("owner", "group", "mode"),
        [
            (0, 0, 0o777),
            (0, NOBODY, 0o777),
            (NOBODY + 1000, NOBODY, 0o777),
            (NOBODY, 0, 0o777),
            (NOBODY, NOBODY, 0o555),
        ],
    )
    def test_user_who_cannot_give_the_locks_directory_to_nova_makes_none(
        self, public_host: Host, owner: int, group: int, mode: int
    ) -> None:
        public_host.base(BASE, age=OLD)
        public_host.locks_path.rmdir()
        os.chown(public_host.instances_path, owner, group)
        public_host.instances_path.chmod(mode)
        os.chown(public_host.cache_path, NOBODY, NOBODY)
        assert_nobody_removes_nothing(
            public_host, "does not exist, and this user may not make it. Run as root (become: true)."
        )
        assert not public_host.locks_path.exists()

    @needs_root
    def test_prune_as_nova_makes_the_locks_directory(self, public_host: Host) -> None:
        public_host.base(BASE, age=OLD)
        public_host.locks_path.rmdir()
        for path in (public_host.instances_path, public_host.cache_path, public_host.cache_path / BASE):
            os.chown(path, NOBODY, NOBODY)
        plan, settings = as_nobody(public_host.plan)
        assert removed(as_nobody(lambda: apply_plan(plan, settings, False, nothing_new))) == [BASE]
        assert public_host.locks_path.stat().st_uid == NOBODY

    @needs_root
    def test_prune_as_root_needs_no_locks_directory(self, public_host: Host) -> None:
        public_host.base(BASE, age=OLD)
        public_host.locks_path.rmdir()
        os.chown(public_host.instances_path, NOBODY, NOBODY)
        plan, settings = public_host.plan()
        assert dry_run(plan).failed == ()
        assert removed(apply_plan(plan, settings, False, nothing_new)) == [BASE]


class TestDryRun:
    def test_dry_run_reports_removals_and_removes_nothing(self, three_unused_files: Host) -> None:
        with nova_compute() as nova:
            nova.take(BASE, three_unused_files.locks_path)
            plan, _settings = three_unused_files.plan()
        outcome = dry_run(plan)
        assert outcome == Outcome(plan.removals, plan.kept, (), ())
        assert (removed(outcome), kept(outcome)) == ([FIRST, LAST], {BASE: "locked"})
        assert three_unused_files.cached() == [FIRST, BASE, LAST]

    def test_dry_run_without_removals_needs_no_cache_directory(self, host: Host) -> None:
        host.base(BASE)
        plan, _settings = host.plan()
        host.cache_path.rename(host.root / "saved")
        assert dry_run(plan) == Outcome((), (), (), ())


def test_prune_leaves_no_descriptor_open(three_unused_files: Host) -> None:
    plan, settings = three_unused_files.plan()
    before = os.listdir("/proc/self/fd")
    apply_plan(plan, settings, False, nothing_new)
    assert os.listdir("/proc/self/fd") == before


class TestFilesRemovedWithABaseFile:
    def test_lock_file_is_kept_for_a_process_that_is_about_to_open_it(self, three_unused_files: Host) -> None:
        inode = three_unused_files.lock_file(BASE).stat().st_ino
        plan, settings = three_unused_files.plan()
        assert removed(apply_plan(plan, settings, False, nothing_new)) == [FIRST, BASE, LAST]
        assert three_unused_files.lock_file(BASE).stat().st_ino == inode

    def test_info_file_of_the_base_file_is_removed_and_no_other(self, three_unused_files: Host) -> None:
        infos = [f"{FIRST}.info", f"{BASE}.info", f"{BASE}_10.info", "swap_1.info"]
        for name in infos:
            (three_unused_files.cache_path / name).write_text("{}")
        plan, settings = three_unused_files.plan()
        apply_plan(plan, settings, False, nothing_new)
        assert three_unused_files.cached() == [f"{BASE}_10.info", "swap_1.info"]

    def test_info_file_is_removed_at_the_path_of_the_pattern(self, three_unused_files: Host) -> None:
        elsewhere = three_unused_files.root / "facts"
        elsewhere.mkdir()
        for path in (
            elsewhere / f"{BASE}.json",
            elsewhere / f"{UUID}.json",
            three_unused_files.cache_path / f"{BASE}.info",
        ):
            path.write_text("{}")
        plan, settings = three_unused_files.plan(image_info_filename_pattern=f"{elsewhere}/%(image)s.json")
        apply_plan(plan, settings, False, nothing_new)
        assert os.listdir(elsewhere) == [f"{UUID}.json"]
        assert three_unused_files.cached() == [f"{BASE}.info"]

    def test_info_file_that_is_a_link_is_removed_and_its_target_is_kept(self, three_unused_files: Host) -> None:
        target = three_unused_files.root / "target"
        target.write_text("{}")
        (three_unused_files.cache_path / f"{BASE}.info").symlink_to(target)
        plan, settings = three_unused_files.plan()
        apply_plan(plan, settings, False, nothing_new)
        assert three_unused_files.cached() == []
        assert target.exists()

    def test_base_file_that_is_kept_keeps_its_info_and_lock_file(self, three_unused_files: Host) -> None:
        lock_file = three_unused_files.lock_file(BASE)
        info = three_unused_files.cache_path / f"{BASE}.info"
        info.write_text("{}")
        plan, settings = three_unused_files.plan()
        os.utime(three_unused_files.cache_path / BASE)
        apply_plan(plan, settings, False, nothing_new)
        assert info.exists()
        assert lock_file.exists()


class TestFilesInUse:
    def test_files_in_use_are_marked_as_used_now(self, host: Host) -> None:
        host.instance(UUID, {"disk": BASE})
        for name in (BASE, LAST):
            host.base(name, age=OLD)
        host.base("swap_1", age=60)
        plan, settings = host.plan()
        apply_plan(plan, settings, False, nothing_new)
        times = {name: (host.cache_path / name).stat().st_mtime for name in host.cached()}
        assert times == {BASE: pytest.approx(time.time(), abs=10), "swap_1": pytest.approx(host.now - 60, abs=1)}

    def test_file_in_use_that_is_gone_is_passed_over(self, host: Host) -> None:
        for name in (FIRST, BASE):
            host.base(name, age=OLD)
        host.instance(UUID, {"disk": FIRST, "disk.eph0": BASE})
        plan, settings = host.plan()
        gone, other = (host.cache_path / verdict.file.name for verdict in plan.verdicts)
        gone.unlink()
        assert apply_plan(plan, settings, False, nothing_new) == Outcome((), (), (), ())
        assert other.stat().st_mtime == pytest.approx(time.time(), abs=10)

    def test_target_of_a_file_that_became_a_link_is_not_marked(self, host: Host) -> None:
        host.base(BASE)
        host.instance(UUID, {"disk": BASE})
        plan, settings = host.plan()
        target = host.root / "target"
        (host.cache_path / BASE).rename(target)
        os.utime(target, (1, 1))
        (host.cache_path / BASE).symlink_to(target)
        apply_plan(plan, settings, False, nothing_new)
        assert target.stat().st_mtime == 1

    @needs_root
    def test_files_that_may_not_be_marked_have_one_warning(self, public_host: Host) -> None:
        for name in (BASE, LAST):
            public_host.base(name)
        public_host.instance(UUID, {"disk": BASE, "disk.swap": LAST})
        plan, settings = public_host.plan()
        [warning] = as_nobody(lambda: apply_plan(plan, settings, False, nothing_new)).warnings
        assert warning == (
            "The time of last use could not be set on 2 files in use. Their age counts from an earlier use. "
            f"The first is {plan.verdicts[0].file.name}: Permission denied. Run as root (become: true)."
        )

    def test_prune_without_removals_makes_no_locks_directory(self, host: Host) -> None:
        host.base(BASE)
        host.instance(UUID, {"disk": BASE})
        host.locks_path.rmdir()
        plan, settings = host.plan()
        apply_plan(plan, settings, False, nothing_new)
        assert not host.locks_path.exists()


class TestBesideAnotherPrune:
    def test_two_prunes_at_once_remove_each_file_once_without_a_failure(self, host: Host) -> None:
        names = [f"swap_{number}" for number in range(100)]
        for name in names:
            host.base(name, age=OLD)
            (host.cache_path / f"{name}.info").write_text("{}")
        plan, settings = host.plan()
        other = start_child(lambda: apply_plan(plan, settings, False, nothing_new))
        ours, theirs = apply_plan(plan, settings, False, nothing_new), other()
        assert sorted(removed(ours) + removed(theirs)) == sorted(names)
        assert failed(ours) == failed(theirs) == {}
        assert {*kept(ours).values(), *kept(theirs).values()} <= {"gone", "open"}
        assert host.cached() == []


class TestBesideNova:
    def test_locks_directory_that_nova_has_not_made_yet_is_made(self, three_unused_files: Host) -> None:
        three_unused_files.locks_path.rmdir()
        plan, settings = three_unused_files.plan()
        assert removed(apply_plan(plan, settings, False, nothing_new)) == [FIRST, BASE, LAST]
        assert three_unused_files.locks() == [f"nova-{name}" for name in (FIRST, BASE, LAST)]

    def test_prune_changes_the_planned_files_only(self, three_unused_files: Host) -> None:
        three_unused_files.instance(UUID, {"disk": None})
        three_unused_files.domain_xml(UUID, "instance-00000001", None)
        three_unused_files.compute_nodes({"vm": three_unused_files.now})
        plan, settings = three_unused_files.plan()
        ours = {str(three_unused_files.cache_path), str(three_unused_files.locks_path)}

        def others() -> dict[str, tuple[object, ...]]:
            return {
                path: details
                for path, details in picture(three_unused_files.root).items()
                if path not in ours and os.path.dirname(path) not in ours
            }

        before = others()
        apply_plan(plan, settings, False, nothing_new)
        assert others() == before

    def test_restrictive_umask_leaves_lock_files_readable_to_nova(self, three_unused_files: Host) -> None:
        plan, settings = three_unused_files.plan()

        def apply_with_umask() -> None:
            os.umask(0o077)
            apply_plan(plan, settings, True, nothing_new)

        in_a_child(apply_with_umask)
        assert {path.stat().st_mode & 0o777 for path in three_unused_files.locks_path.iterdir()} == {0o644}


class TestDisksThatChangeAfterThePlan:
    """Between the plan and the removal, an overlay may arrive over a file that looked unused."""

    def later(self, settings: Settings) -> DiskUse:
        files = take_snapshot(settings, (), run_command).files
        return read_disks(settings, names_by_inode(files), (), run_command)

    def test_base_file_of_a_new_disk_is_kept(self, three_unused_files: Host) -> None:
        plan, settings = three_unused_files.plan()
        three_unused_files.instance(UUID, {"disk": BASE})
        outcome = apply_plan(plan, settings, False, lambda: self.later(settings))
        assert removed(outcome) == [FIRST, LAST]
        assert kept(outcome) == {BASE: "in_use"}
        assert three_unused_files.cached() == [BASE]

    def test_base_file_of_a_rebased_disk_is_kept(self, three_unused_files: Host) -> None:
        overlay = three_unused_files.instance(UUID, {"disk": None}) / "disk"
        plan, settings = three_unused_files.plan()
        rebase = [
            "qemu-img",
            "rebase",
            "-u",
            "-b",
            str(three_unused_files.cache_path / BASE),
            "-F",
            "raw",
            str(overlay),
        ]
        subprocess.run(rebase, check=True)
        outcome = apply_plan(plan, settings, False, lambda: self.later(settings))
        assert kept(outcome) == {BASE: "in_use"}

    def test_new_disk_that_cannot_be_understood_keeps_every_file(self, three_unused_files: Host) -> None:
        plan, settings = three_unused_files.plan()
        three_unused_files.disk(UUID, b"?")
        outcome = apply_plan(plan, settings, False, lambda: self.later(settings))
        assert removed(outcome) == []
        assert list(failed(outcome)) == [FIRST, BASE, LAST]
        assert all(UUID in error for error in failed(outcome).values())

    def test_first_of_several_problems_is_reported(self, three_unused_files: Host) -> None:
        plan, settings = three_unused_files.plan()
        outcome = apply_plan(plan, settings, False, lambda: nothing_new()._replace(problems=["One.", "Another."]))
        error = "it was kept because it is no longer certain which files are in use: One"
        assert failed(outcome) == dict.fromkeys([FIRST, BASE, LAST], error)

    def test_disks_that_cannot_be_read_again_keep_every_file(self, three_unused_files: Host) -> None:
        def fails() -> DiskUse:
            raise ImageCacheError("A process ended early.")

        plan, settings = three_unused_files.plan()
        outcome = apply_plan(plan, settings, False, fails)
        assert failed(outcome) == dict.fromkeys(
            [FIRST, BASE, LAST],
            "it was kept because it is no longer certain which files are in use: A process ended early",
        )
        assert three_unused_files.cached() == [FIRST, BASE, LAST]

    def test_more_files_than_a_batch_holds_are_all_removed(self, host: Host) -> None:
        names = sorted(f"swap_{number}" for number in range(300))
        for name in names:
            host.base(name, age=OLD)
        plan, settings = host.plan()
        assert removed(apply_plan(plan, settings, False, nothing_new)) == names

    def test_partial_download_and_its_whole_file_are_removed_under_one_lock(self, host: Host) -> None:
        names = [BASE, f"{BASE}.converted", f"{BASE}.part"]
        for name in names:
            host.base(name, age=OLD)
        host.lock_file(BASE)
        plan, settings = host.plan()
        assert removed(apply_plan(plan, settings, False, nothing_new)) == names
        assert host.locks() == [f"nova-{BASE}"]
