# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The test against a real nova (tests/openstack) reports every loss, and no difference that is documented."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.audit import audit
from ansible_collections.stackops.nova.tests.openstack.compare import Difference, Evidence, differences
from ansible_collections.stackops.nova.tests.openstack.nova_log import NovaPass, read_passes
from ansible_collections.stackops.nova.tests.support import captures
from ansible_collections.stackops.nova.tests.support.params import params, run_command

LOG = captures.CAPTURES / "rescue" / "nova-compute.log"

LAB_GONE = "c56330a2a9b19a6959805994c6b506abf0d163e4"  # under a rescue disk
DISK1_SHELVED = "8c01e6eaac9d52a96a0a7e70fbe0a2345e430f85"  # named by a domain after an unshelve
PLAIN = "b38dfd14-56ca-498e-a719-33ff1449d100"
EPH2 = "a9d7be4f-13f0-4438-8395-3c95d7e07770"
NOTHING = Evidence(disks={}, domain_files=(), servers=(), resized=(), former_files=())


def test_real_pass_is_read_from_the_log() -> None:
    assert read_passes(LOG.read_text().splitlines()) == [
        NovaPass(
            active=frozenset(
                {
                    "97aaae8fdc4935bc47d03cf539a6213a1f2c6ad4",
                    "058d6f6126b0846e3d5636640cfbb53cf70a86a6",
                    "c039bc75510309cb034779588b4eeb2429a14453",
                    "ephemeral_1_0706d66",
                    "swap_64",
                }
            ),
            unused=frozenset({LAB_GONE, DISK1_SHELVED, "ephemeral_2_0706d66", "swap_32", "swap_128"}),
        )
    ]


def test_pass_that_is_still_under_way_is_left_out() -> None:
    lines = LOG.read_text().splitlines()
    assert read_passes(lines[: len(lines) // 2]) == []


def test_real_audit_differs_from_a_real_pass_as_documented_and_no_more(tmp_path: Path) -> None:
    scene = captures.build("rescue", tmp_path)
    options = params(
        instances_path=str(scene.instances_path),
        libvirt_config_path=str(scene.libvirt_path),
        host="vm",
        details="files",
    )
    facts = audit(options, scene.captured_at, run_command).facts
    ours = {file["name"]: file["state"] for file in facts["files"]}
    (nova,) = read_passes(LOG.read_text().splitlines())
    evidence = Evidence(
        disks={LAB_GONE: {(PLAIN, "disk.rescue")}, "ephemeral_2_0706d66": {(EPH2, "disk.eph1")}},
        domain_files={DISK1_SHELVED},
        servers={PLAIN, EPH2},
        resized=(),
        former_files=(),
    )
    why = {difference.name: difference.why for difference in differences(nova, ours, evidence)}
    partial = "an interrupted download, which nova never looks at"
    assert why == {
        LAB_GONE: "it backs a rescue disk",
        "ephemeral_2_0706d66": "it backs a second ephemeral disk",
        DISK1_SHELVED: "the domain's metadata stands for it",
        "02c9f7e7130413742a28a31ba97617e9a56811be.part": partial,
        "02c9f7e7130413742a28a31ba97617e9a56811be.converted": partial,
    }
    # Without the evidence, none of the first three would pass.
    unexplained = {difference.name for difference in differences(nova, ours, NOTHING) if difference.why is None}
    assert unexplained == {LAB_GONE, "ephemeral_2_0706d66", DISK1_SHELVED}


@pytest.mark.parametrize("former_files", [(), ("swap_64",)])
def test_removable_file_that_nova_takes_to_be_in_use_is_never_explained(former_files: tuple[str, ...]) -> None:
    nova = NovaPass(active=frozenset({"swap_64"}), unused=frozenset())
    evidence = NOTHING._replace(former_files=former_files)
    assert differences(nova, {"swap_64": "removable"}, evidence) == [Difference("swap_64", "active", "removable", None)]


def test_template_of_the_size_before_a_resize_is_explained_while_it_is_young() -> None:
    nova = NovaPass(active=frozenset({"swap_64"}), unused=frozenset())
    (difference,) = differences(nova, {"swap_64": "too_young"}, NOTHING._replace(former_files={"swap_64"}))
    assert difference.why == "nova goes by the size that the guest had before its resize"
    assert differences(nova, {"swap_64": "too_young"}, NOTHING)[0].why is None


def test_missing_file_that_nova_takes_to_be_in_use_is_never_explained() -> None:
    nova = NovaPass(active=frozenset({LAB_GONE}), unused=frozenset())
    assert differences(nova, {}, NOTHING) == [Difference(LAB_GONE, "active", "not there", None)]


@pytest.mark.parametrize(
    ("directory", "disk", "why"),
    [
        (PLAIN, "disk", None),
        (PLAIN, "disk.swap", None),
        (PLAIN, "disk.eph0", None),
        (PLAIN, "disk.eph1", "it backs a second ephemeral disk"),
        (PLAIN, "disk.rescue", "it backs a rescue disk"),
        (EPH2, "disk", None),
        (EPH2, "disk.swap", "it backs the swap or ephemeral disk of a resized guest"),
        (f"{EPH2}_resize", "disk.swap", "it backs the swap or ephemeral disk of a resized guest"),
        ("6ff2e7eb-db21-4802-88ac-deaaf6f2db4d", "disk", "it backs the disk of an orphan"),
    ],
)
def test_file_that_nova_alone_would_remove_is_explained_by_the_disk_on_it(
    directory: str, disk: str, why: str | None
) -> None:
    nova = NovaPass(active=frozenset(), unused=frozenset({LAB_GONE}))
    evidence = NOTHING._replace(disks={LAB_GONE: {(directory, disk)}}, servers={PLAIN, EPH2}, resized={EPH2})
    assert [difference.why for difference in differences(nova, {LAB_GONE: "active"}, evidence)] == [why]


@pytest.mark.parametrize("state", ["removable", "too_young"])
def test_agreement_is_no_difference(state: str) -> None:
    nova = NovaPass(active=frozenset({"swap_64"}), unused=frozenset({LAB_GONE}))
    assert differences(nova, {"swap_64": "active", LAB_GONE: state}, NOTHING) == []
