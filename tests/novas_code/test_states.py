# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts that nova's own code made are pruned of exactly what no disk needs; by hand, see `./test novas-code`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.tests.support.constants import BASE, OTHER_BASE
from ansible_collections.stackops.nova.tests.support.host import NAME, OLD, Host, opens, picture
from ansible_collections.stackops.nova.tests.support.processes import mount, needs_root, with_own_mounts
from ansible_collections.stackops.nova.tests.support.run_module import run_module

PYTHON = os.environ["NOVA_PYTHON"]
EPHEMERAL_1, EPHEMERAL_2 = "ephemeral_1_0706d66", "ephemeral_2_0706d66"

# What no disk needs. No source lists an instance, so the disks alone show what is in use.
UNUSED = {
    "booted_with_swap_and_ephemeral": set(),
    "deleted": {BASE, EPHEMERAL_1, "swap_2"},
    "deleted_in_part": set(),
    "cached_in_advance": {BASE},
    "killed_while_caching_in_advance": {f"{BASE}.part", f"{OTHER_BASE}.converted"},
    "killed_while_preallocating": {OTHER_BASE},
    "killed_while_making_swap": {OTHER_BASE},
    "rescued_after_switch_to_qcow2": {BASE},
    "resize_to_confirm": set(),
    "resized": {"swap_2"},
    "resize_reverted": {"swap_3"},
    "resized_after_switch_to_qcow2": {BASE},
    "resized_over_legacy_base": {BASE},
    "migration_to_confirm": set(),
    "migrated_away": {BASE, EPHEMERAL_1, "swap_2"},
    "unshelved": {OTHER_BASE},
}

# On the same tree, and with the same servers, what only nova's own pass removes. Then some disk opens no more.
ONLY_NOVA_REMOVES = {
    "booted_with_swap_and_ephemeral": {EPHEMERAL_2},  # nova counts the first ephemeral disk only,
    "rescued_after_switch_to_qcow2": {OTHER_BASE},  # looks at no rescue disk,
    "resize_to_confirm": {"swap_2"},  # forgets the size of the swap disk from before,
    "migration_to_confirm": {BASE, EPHEMERAL_1, "swap_2"},  # counts a guest on the host that it migrates to,
    "deleted_in_part": {BASE, "swap_2"},  # and passes over the disks of a server that is no more.
}
# And what only we remove: nova never looks for it.
ONLY_WE_REMOVE = {"killed_while_caching_in_advance": {f"{BASE}.part", f"{OTHER_BASE}.converted"}}


@pytest.mark.parametrize("state", UNUSED)
def test_prune_removes_exactly_what_no_disk_needs(state: str, tmp_path: Path) -> None:
    assert _removed(_made(state, tmp_path)) == UNUSED[state]


@needs_root
def test_full_file_system_is_freed_in_spite_of_what_nova_left_unwritten(tmp_path: Path) -> None:
    def on_a_small_file_system() -> set[str]:
        (tmp_path / "instances").mkdir()
        mount("-t", "tmpfs", "-o", "size=32m", "instances", tmp_path / "instances")
        host = _made("full_file_system", tmp_path)
        unwritten = [path for path in host.instances_path.glob("*/disk*") if path.stat().st_size == 0]
        assert {path.name for path in unwritten} == {"disk.info", "disk.info.tmp"}
        for path in unwritten:
            os.utime(path)  # the failure was a moment ago
        return _removed(host)

    assert with_own_mounts(on_a_small_file_system) == {BASE, OTHER_BASE, "swap_2"}


@pytest.mark.parametrize("state", UNUSED)
def test_instances_that_a_source_lists_protect_more_files_only(state: str, tmp_path: Path) -> None:
    host = _made(state, tmp_path)
    for source in ({"instances": _servers(host)}, {"libvirt": True}):
        assert set(host.prune(check_mode=True, **source).done["removed"]) <= UNUSED[state]


@pytest.mark.parametrize("state", UNUSED)
def test_pass_of_nova_removes_the_same_files_except_for_known_ones(state: str, tmp_path: Path) -> None:
    host = _made(state, tmp_path)
    ours = [server for server in _servers(host) if server["host"] == NAME]
    we_remove = set(host.prune(check_mode=True, instances=ours).done["removed"])
    before = set(host.cached())
    _run_nova(host, "novas-pass")
    nova_removes = before - set(host.cached())
    assert nova_removes - we_remove == ONLY_NOVA_REMOVES.get(state, set())
    assert we_remove - nova_removes == ONLY_WE_REMOVE.get(state, set())
    assert all(map(opens, _disks(host))) == (state not in ONLY_NOVA_REMOVES)


def test_file_that_was_used_within_a_day_is_kept_by_prune_and_nova_alike(tmp_path: Path) -> None:
    host = Host(tmp_path)
    _run_nova(host, "deleted")
    assert host.prune().done["removed"] == []
    _run_nova(host, "novas-pass")
    assert set(host.cached()) == UNUSED["deleted"]


def _made(state: str, root: Path) -> Host:
    """A host in a state, with files that are all of three days ago."""
    host = Host(root)
    _run_nova(host, state)
    for path in host.instances_path.rglob("*"):
        os.utime(path, (host.now - OLD, host.now - OLD))
    return host


def _run_nova(host: Host, state: str) -> None:
    subprocess.run([PYTHON, str(Path(__file__).with_name("states.py")), str(host.root), state], check=True)


def _servers(host: Host) -> list[dict[str, Any]]:
    return json.loads((host.root / "servers.json").read_text())


def _disks(host: Host) -> list[Path]:
    return [path for path in host.instances_path.glob("*/disk*") if path.suffix != ".info"]


def _removed(host: Host) -> set[str]:
    """What a prune removes; audit and dry run, which write nothing, must have said so, and QEMU open every disk."""
    disks = _disks(host)
    assert all(map(opens, disks))
    before, cached = picture(host.root), set(host.cached())
    audit = run_module("image_cache_facts", host.options())
    dry_run = run_module("image_cache_prune", host.options(), "--check")
    assert picture(host.root) == before
    prune = run_module("image_cache_prune", host.options())
    assert not prune.failed, prune.result["msg"]
    removed = cached - set(host.cached())
    assert set(audit.result["ansible_facts"]["image_cache"]["removable"]) == removed
    assert set(dry_run.result["image_cache"]["removed"]) == removed
    assert set(prune.result["image_cache"]["removed"]) == removed
    assert all(map(opens, disks))
    return removed
