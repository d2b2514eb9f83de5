# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cache file that is kept keeps the cache files that it is built on; an overlay is removed before its base."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.apply import apply_plan
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.prune import PruneResult
from ansible_collections.stackops.nova.tests.support.constants import BASE, IMAGE, OTHER_BASE, OTHER_UUID, UUID
from ansible_collections.stackops.nova.tests.support.host import (
    DAY,
    HOUR,
    NAME,
    OLD,
    Host,
    attribute,
    create_image,
    format_of,
    nothing_new,
    states,
)
from ansible_collections.stackops.nova.tests.support.processes import guest, nova_compute
from ansible_collections.stackops.nova.tools.cache_tree import fingerprint, overlay_bytes

TOP = fingerprint("top")
MIDDLE = BASE
BOTTOM = OTHER_BASE
ALONE = fingerprint("alone")


def overlay(host: Host, name: str, over: str, age: float = OLD) -> Path:
    """A cache file that qemu-img built on another one."""
    below = host.cache_path / over
    path = create_image(host.cache_path / name, over=below, over_format=format_of(below))
    os.utime(path, (host.now - age, host.now - age))
    return path


def opens(path: Path) -> bool:
    """Whether QEMU opens an image with all that it is built on."""
    return (
        subprocess.run(["qemu-io", "-r", "-c", "read 0 512", str(path)], check=False, capture_output=True).returncode
        == 0
    )


def pruned(host: Host, **options: object) -> PruneResult:
    """A prune that did what its dry run listed."""
    dry_run = host.prune(check_mode=True, **options)
    result = host.prune(**options)
    assert result.done == dry_run.done
    assert result.changed == dry_run.changed
    return result


def kept(result: PruneResult) -> dict[str, str]:
    return {kept["name"]: kept["reason"] for kept in result.done["kept"]}


@pytest.fixture
def chain(host: Host) -> Host:
    """Three files that nothing uses, each built on the next one, and one on its own."""
    host.base(BOTTOM, age=OLD + 3 * HOUR)
    overlay(host, MIDDLE, BOTTOM, age=OLD + 2 * HOUR)
    overlay(host, TOP, MIDDLE)
    host.base(ALONE, age=OLD + HOUR)
    return host


class TestKeptOverlay:
    """Whatever keeps the top file keeps both files under it."""

    def expect_kept(self, host: Host, result: PruneResult) -> None:
        assert result.done["removed"] == [ALONE]
        assert host.cached() == sorted([TOP, MIDDLE, BOTTOM])
        assert opens(host.cache_path / TOP)

    def test_overlay_too_young_protects_its_chain(self, chain: Host) -> None:
        os.utime(chain.cache_path / TOP, (chain.now - HOUR, chain.now - HOUR))
        result = pruned(chain)
        self.expect_kept(chain, result)
        assert states(result)[TOP].startswith("too_young")
        assert states(result)[MIDDLE] == states(result)[BOTTOM] == "active: overlay"

    def test_overlay_named_in_keep_files_protects_its_chain(self, chain: Host) -> None:
        self.expect_kept(chain, pruned(chain, keep_files=[TOP]))

    def test_overlay_of_kept_image_protects_its_chain(self, chain: Host) -> None:
        self.expect_kept(chain, pruned(chain, keep_images=["top"], glance_images=["top"]))

    def test_overlay_of_image_of_an_instance_protects_its_chain(self, chain: Host) -> None:
        record = {"uuid": UUID, "image_ref": "top", "host": NAME}
        self.expect_kept(chain, pruned(chain, instances=[record], instances_complete_for=[NAME]))

    def test_overlay_under_a_disk_protects_its_chain(self, chain: Host) -> None:
        create_image(chain.disk(UUID, b""), over=chain.cache_path / TOP)
        self.expect_kept(chain, pruned(chain))

    def test_overlay_locked_by_nova_protects_its_chain(self, chain: Host) -> None:
        with nova_compute() as nova:
            nova.take(TOP, chain.locks_path)
            result = pruned(chain)
        self.expect_kept(chain, result)
        assert kept(result) == {TOP: "locked", MIDDLE: "overlay", BOTTOM: "overlay"}

    @pytest.mark.parametrize(("locked", "removed"), [(TOP, MIDDLE), (MIDDLE, TOP)])
    def test_one_of_two_overlays_locked_by_nova_protects_the_base_of_both(
        self, host: Host, locked: str, removed: str
    ) -> None:
        host.base(BOTTOM, age=OLD + 3 * HOUR)
        overlay(host, MIDDLE, BOTTOM, age=OLD + 2 * HOUR)
        overlay(host, TOP, BOTTOM)
        with nova_compute() as nova:
            nova.take(locked, host.locks_path)
            result = pruned(host)
        assert result.done["removed"] == [removed]
        assert kept(result) == {locked: "locked", BOTTOM: "overlay"}
        assert opens(host.cache_path / locked)

    def test_overlay_open_in_qemu_protects_its_chain(self, chain: Host) -> None:
        with guest(chain.cache_path / TOP):
            self.expect_kept(chain, pruned(chain))

    @pytest.mark.parametrize("name", ["golden.qcow2", f"{TOP}.bak"])
    def test_overlay_with_a_name_that_nova_does_not_give_protects_its_chain(self, chain: Host, name: str) -> None:
        (chain.cache_path / TOP).rename(chain.cache_path / name)
        result = pruned(chain)
        assert result.done["removed"] == [ALONE]
        assert opens(chain.cache_path / name)

    def test_kernel_that_is_left_alone_protects_what_it_is_built_on(self, host: Host) -> None:
        host.base(BOTTOM, age=OLD)
        overlay(host, IMAGE, BOTTOM)
        assert pruned(host).done["removed"] == []

    def test_interrupted_download_that_is_young_protects_what_it_is_built_on(self, host: Host) -> None:
        host.base(BOTTOM, age=OLD)
        overlay(host, f"{TOP}.part", BOTTOM, age=HOUR)
        assert pruned(host).done["removed"] == []


class TestNameInTheHeader:
    @pytest.mark.parametrize(
        "name",
        [
            BOTTOM,
            f"../_base/{BOTTOM}",
            f"file:{BOTTOM}",
            f"/container/instances/_base/{BOTTOM}",
            f'json:{{"driver":"raw","file":{{"driver":"file","filename":"ROOT/instances/_base/{BOTTOM}"}}}}',
            f"nbd+unix:///export?socket=ROOT/instances/_base/{BOTTOM}",
            "ROOT/link",
        ],
        ids=["relative", "up", "file", "container", "json", "url", "link"],
    )
    @pytest.mark.parametrize("version", [2, 3])
    def test_name_in_any_form_protects_the_file(self, host: Host, name: str, version: int) -> None:
        host.base(BOTTOM, age=OLD)
        (host.root / "link").symlink_to(host.cache_path / BOTTOM)
        host.base(TOP, content=overlay_bytes(1 << 20, name.replace("ROOT", str(host.root)), None, version), age=HOUR)
        result = pruned(host)
        assert result.error is None
        assert result.done["removed"] == []
        assert states(result)[BOTTOM] == "active: overlay"

    @pytest.mark.parametrize(
        "content",
        [
            overlay_bytes(1 << 20, "/etc/passwd", None),
            overlay_bytes(1 << 20, "/no/such/file", None),
            overlay_bytes(1 << 20, "nbd://192.0.2.1/export", None),
            overlay_bytes(1 << 20, "x" * 1024, None),
            overlay_bytes(1 << 20, b"\xff\0\n", None),
            overlay_bytes(1 << 20, TOP, None),
            overlay_bytes(1 << 20, None, None),
            b"QFI\xfb" + b"\xff" * 2000,
            b"QFI\xfb",
        ],
        ids=["outside", "missing", "url", "long", "bytes", "itself", "none", "garbage", "short"],
    )
    def test_header_that_names_no_other_cache_file_stops_nothing(self, host: Host, content: bytes) -> None:
        host.base(BOTTOM, age=OLD)
        host.base(TOP, content=content, size=len(content), age=HOUR)
        result = pruned(host)
        assert result.error is None
        assert result.facts["unknown_use"] == []
        assert result.done["removed"] == [BOTTOM]

    def test_two_files_that_name_each_other_are_kept(self, host: Host) -> None:
        for one, other in ((TOP, BOTTOM), (BOTTOM, TOP)):
            host.base(one, content=overlay_bytes(1 << 20, other, None), age=OLD)
        assert kept(pruned(host)) == {TOP: "overlay", BOTTOM: "overlay"}


class TestRemovalOrder:
    def test_chain_that_nothing_uses_is_removed_from_its_top(self, chain: Host) -> None:
        plan, settings = chain.plan()
        assert [file.name for file in plan.removals] == [ALONE, TOP, MIDDLE, BOTTOM]
        outcome = apply_plan(plan, settings, False, nothing_new)
        assert [file.name for file in outcome.removed] == [ALONE, TOP, MIDDLE, BOTTOM]
        assert chain.cached() == []

    @pytest.mark.parametrize("size", [1, 4 << 20])
    def test_space_target_selects_an_overlay_before_its_base(self, host: Host, size: int) -> None:
        base = host.base(BOTTOM, content=b"x" * (4 << 20), age=OLD + DAY)
        overlay(host, TOP, BOTTOM)
        used = sum((host.cache_path / name).stat().st_blocks * 512 for name in (TOP, BOTTOM))
        result = pruned(host, max_used_space=used - size)
        if size == 1:
            assert result.done["removed"] == [TOP]
            assert kept(result) == {BOTTOM: "space_target_met"}
            assert base.exists()
        else:
            assert result.done["removed"] == sorted([TOP, BOTTOM])

    def test_base_of_an_overlay_kept_by_a_space_target_is_kept(self, chain: Host) -> None:
        result = pruned(chain, max_used_space=1 << 40)
        assert result.done["removed"] == []
        assert kept(result) == {
            ALONE: "space_target_met",
            TOP: "space_target_met",
            MIDDLE: "overlay",
            BOTTOM: "overlay",
        }

    def test_thousand_overlays_take_no_longer_each_than_ten(self, host: Host) -> None:
        host.base("swap_0", age=OLD)
        for number in range(1, 1000):
            content = overlay_bytes(1 << 20, f"swap_{number - 1}", None)
            host.base(f"swap_{number}", size=1024, content=content, age=OLD)
        start = time.monotonic()
        plan, settings = host.plan()
        assert [file.name for file in plan.removals] == [f"swap_{number}" for number in reversed(range(1000))]
        outcome = apply_plan(plan, settings, False, nothing_new)
        assert [file.name for file in outcome.removed] == [file.name for file in plan.removals]
        assert time.monotonic() - start < 20


class TestBetweenPlanAndRemoval:
    """An overlay that is kept after all, or came meanwhile, keeps its base."""

    def test_overlay_touched_meanwhile_keeps_its_chain(self, chain: Host) -> None:
        plan, settings = chain.plan()
        os.utime(chain.cache_path / TOP)
        outcome = apply_plan(plan, settings, False, nothing_new)
        assert [file.name for file in outcome.removed] == [ALONE]
        assert {kept.name: kept.reason.value for kept in outcome.kept} == {
            TOP: "touched",
            MIDDLE: "overlay",
            BOTTOM: "overlay",
        }
        assert opens(chain.cache_path / TOP)

    def test_overlay_whose_lock_cannot_be_taken_keeps_its_chain(self, chain: Host) -> None:
        plan, settings = chain.plan()
        (chain.locks_path / f"nova-{TOP}").symlink_to("elsewhere")
        outcome = apply_plan(plan, settings, False, nothing_new)
        assert [file.name for file in outcome.removed] == [ALONE]
        assert [failure.name for failure in outcome.failed] == [TOP]
        assert opens(chain.cache_path / TOP)

    @pytest.mark.usefixtures("attributes")
    def test_overlay_made_immutable_meanwhile_keeps_its_chain(self, chain: Host) -> None:
        plan, settings = chain.plan()
        with attribute(chain.cache_path / TOP, "i"):
            outcome = apply_plan(plan, settings, False, nothing_new)
        assert [file.name for file in outcome.removed] == [ALONE]
        assert opens(chain.cache_path / TOP)

    def test_overlay_removed_by_somebody_else_releases_its_base(self, chain: Host) -> None:
        plan, settings = chain.plan()
        (chain.cache_path / TOP).unlink()
        outcome = apply_plan(plan, settings, False, nothing_new)
        assert [file.name for file in outcome.removed] == [ALONE, MIDDLE, BOTTOM]

    @pytest.mark.parametrize("name", ["golden.qcow2", fingerprint("new")])
    def test_overlay_that_came_meanwhile_keeps_its_base(self, chain: Host, name: str) -> None:
        plan, settings = chain.plan()
        create_image(chain.cache_path / name, over=chain.cache_path / ALONE, over_format="raw")
        outcome = apply_plan(plan, settings, False, nothing_new)
        assert {kept.name: kept.reason.value for kept in outcome.kept} == {ALONE: "overlay"}
        assert opens(chain.cache_path / name)

    def test_file_replaced_by_an_overlay_meanwhile_keeps_the_base_of_the_new_one(self, chain: Host) -> None:
        plan, settings = chain.plan()
        create_image(chain.cache_path / "new", over=chain.cache_path / ALONE, over_format="raw")
        (chain.cache_path / "new").rename(chain.cache_path / TOP)
        outcome = apply_plan(plan, settings, False, nothing_new)
        assert {kept.name: kept.reason.value for kept in outcome.kept}[ALONE] == "overlay"
        assert opens(chain.cache_path / TOP)


class TestIgnoredOrphans:
    """`orphans: ignore` in the second look, too."""

    def options(self) -> dict[str, object]:
        return {"orphans": "ignore", "instances": [{"uuid": UUID, "host": NAME}], "instances_complete_for": [NAME]}

    def test_base_file_of_an_orphan_is_removed_as_the_dry_run_lists_it(self, host: Host) -> None:
        host.base(BASE, age=OLD)
        host.instance(OTHER_UUID, {"disk": BASE})
        assert pruned(host, **self.options()).done["removed"] == [BASE]
        assert host.cached() == []

    def test_directory_that_appears_after_the_plan_protects(self, host: Host) -> None:
        for name in (BASE, OTHER_BASE):
            host.base(name, age=OLD)
        host.instance(OTHER_UUID, {"disk": BASE})
        plan, settings = host.plan(**self.options())
        assert [file.name for file in plan.removals] == [BASE, OTHER_BASE]
        use = nothing_new()._replace(backing={BASE: [OTHER_UUID, "new"], OTHER_BASE: ["new"]})
        outcome = apply_plan(plan, settings, False, lambda: use)
        assert {kept.name: kept.reason.value for kept in outcome.kept} == {BASE: "in_use", OTHER_BASE: "in_use"}

    def test_orphan_that_comes_to_use_another_file_protects_that_one(self, host: Host) -> None:
        for name in (BASE, OTHER_BASE):
            host.base(name, age=OLD)
        host.instance(OTHER_UUID, {"disk": BASE})
        plan, settings = host.plan(**self.options())
        use = nothing_new()._replace(backing={name: [OTHER_UUID] for name in (BASE, OTHER_BASE)})
        outcome = apply_plan(plan, settings, False, lambda: use)
        assert [file.name for file in outcome.removed] == [BASE]
        assert {kept.name: kept.reason.value for kept in outcome.kept} == {OTHER_BASE: "in_use"}

    def test_known_instance_on_the_same_base_file_protects_it(self, host: Host) -> None:
        host.base(BASE, age=OLD)
        host.instance(OTHER_UUID, {"disk": BASE})
        host.instance(UUID, {"disk": BASE})
        assert pruned(host, **self.options()).done["removed"] == []
