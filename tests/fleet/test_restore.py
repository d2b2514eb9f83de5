# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A base file that was deleted under a running guest comes back, byte for byte, and a dry run says so before."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import (
    FAILING,
    UNREACHABLE,
    ComputeFleet,
    Run,
    cached,
    picture,
    role,
)
from ansible_collections.stackops.nova.tests.support.guests import needs_qemu, running_guest
from ansible_collections.stackops.nova.tests.support.processes import needs_root
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree, fingerprint

pytestmark = [needs_root, needs_qemu]

BASE = fingerprint("lost")
CONTENT = b"the operating system" * 5000
RESTORE = "Restore base files"
# A host that sees no process of this machine, as another machine sees none.
ANOTHER_MACHINE = '#!/bin/sh\nexec unshare --pid --fork --mount-proc {python} "$@"\n'
REPORT = "Report on the restore"


@pytest.fixture
def guests() -> Iterator[ExitStack]:
    """The guests of a test, which stop with it."""
    with ExitStack() as running:
        yield running


def start(guests: ExitStack, tree: CacheTree, guest: str, name: str = BASE, content: bytes = CONTENT) -> bytes:
    """Start a guest whose disk is built on a base file, delete that file under it, and return what it had."""
    base = tree.base(name, content=content)
    disk = make_disk(tree, guest, name)
    guests.enter_context(running_guest(disk, base))
    had = base.read_bytes()
    base.unlink()
    return had


def make_disk(tree: CacheTree, guest: str, name: str = BASE) -> Path:
    """Make the disk of a guest that is built on a base file."""
    directory = tree.instance(guest, {"disk": None})
    disk = directory / "disk"
    base = tree.cache_path / name
    was_there = base.exists()
    if not was_there:
        tree.base(name)
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "raw", str(disk)]
    subprocess.run(command, check=True)
    if not was_there:
        base.unlink()
    return disk


def offers(run: Run) -> list[dict[str, object]]:
    """What each host restores, or would, without what only a run can know."""
    result = next(one["result"] for one in reversed(run.results) if one["task"].endswith(REPORT))
    keys = ("host", "name", "source_path", "proof", "guests", "size_bytes", "inode")
    return [{key: file[key] for key in keys} for file in result["restore"]["restored"]]


def text_of(run: Run) -> str:
    """What the report on the restore shows."""
    return "\n".join(next(one["result"]["text"] for one in reversed(run.results) if one["task"].endswith(REPORT)))


def test_deleted_base_file_comes_back_byte_for_byte_and_the_audit_is_clean(
    fleet: ComputeFleet, guests: ExitStack
) -> None:
    tree = fleet.add("a")
    fleet.add("b")
    base = start(guests, tree, "uuid-lost")
    swap = start(guests, tree, "uuid-swap", "swap_1", b"made by this host")
    alarm = " ".join(fleet.audit().text.replace("!!", "").split())
    assert "recoverable until uuid-lost stops: do not stop it, and run ansible-playbook stackops.nova.restore" in alarm
    assert "To restore files: ansible-playbook stackops.nova.restore, first with --check" in alarm
    before = picture(fleet.root / "a")

    dry = fleet.restore("--check")
    assert (dry.status, dry.changed, picture(fleet.root / "a")) == (0, {"a"}, before), dry.output
    assert "WOULD BE RESTORED: 2 files" in text_of(dry)
    assert "Do not stop uuid-lost and uuid-swap before that" in text_of(dry)

    run = fleet.restore()
    assert (run.status, run.changed) == (0, {"a"}), run.output
    assert (tree.cache_path / BASE).read_bytes() == base
    assert (tree.cache_path / "swap_1").read_bytes() == swap
    assert "RESTORED: 2 files" in text_of(run)
    assert offers(dry) == offers(run)

    assert fleet.restore().changed == set()
    assert fleet.audit().reported["fleet"]["summary"]["missing"] == 0


def test_host_whose_guest_has_the_file_restores_it_for_all_that_share_the_storage(
    fleet: ComputeFleet, shared: CacheTree, guests: ExitStack
) -> None:
    base = start(guests, shared, "uuid-lost")
    dry = fleet.restore("--check")
    assert (dry.status, dry.changed, cached(shared) & {BASE}) == (0, {"a"}, set()), dry.output
    run = fleet.restore()
    assert (run.status, run.changed) == (0, {"a"}), run.output
    assert (shared.cache_path / BASE).read_bytes() == base
    assert run.of(RESTORE)["b"]["image_cache_restore"]["elsewhere"] == {BASE: "a"}


@pytest.mark.slow
def test_storage_group_that_one_host_names_holds_for_all_of_its_hosts(
    fleet: ComputeFleet, shared: CacheTree, guests: ExitStack
) -> None:
    fleet.hosts["b"]["image_cache_storage_group"] = "{{ omit }}"
    start(guests, shared, "uuid-lost")
    dry, run = fleet.restore("--check"), fleet.restore()
    assert (run.status, dry.changed, run.changed) == (0, {"a"}, {"a"}), run.output
    assert offers(dry) == offers(run)


@pytest.mark.slow
def test_member_without_the_guest_does_not_fail_and_is_shown_the_host_that_has_it(
    fleet: ComputeFleet, shared: CacheTree, guests: ExitStack
) -> None:
    base = start(guests, shared, "uuid-lost")
    python = fleet.root / "python"
    python.write_text(ANOTHER_MACHINE.format(python=sys.executable))
    python.chmod(0o755)
    fleet.hosts["a"]["ansible_python_interpreter"] = str(python)
    run = fleet.restore()
    assert (run.status, run.changed) == (0, {"b"}), run.output
    assert run.of(RESTORE)["a"]["image_cache_restore"]["elsewhere"] == {BASE: "b"}
    assert (shared.cache_path / BASE).read_bytes() == base
    assert "- b: " + BASE in text_of(run)


def test_file_that_no_host_has_stays_missing_with_its_reason_and_the_others_are_restored(
    fleet: ComputeFleet, guests: ExitStack
) -> None:
    trees = {number: fleet.add(f"compute-{number}") for number in (1, 2, 3)}
    for number in (1, 2):
        make_disk(trees[number], f"guest-{number}")
    base = start(guests, trees[3], "uuid-lost")
    for arguments in (["--check"], []):
        run = fleet.restore(*arguments)
        assert (run.status != 0, run.failed, run.changed) == (True, {"compute-1", "compute-2"}, {"compute-3"}), (
            run.output
        )
        assert run.messages["compute-1"].startswith("Not restored: 1.")
        assert f"{BASE} was not restored (used by guest-1). No process of a guest" in run.messages["compute-1"]
        shown = text_of(run).replace("\n ", "")
        assert f"- compute-1 and compute-2: {BASE}, needed by guest-1 and guest-2: No process" in shown
    assert (trees[3].cache_path / BASE).read_bytes() == base


@pytest.mark.slow
def test_image_that_an_operator_brought_is_proven_by_glances_record(fleet: ComputeFleet) -> None:
    tree = fleet.add("a")
    make_disk(tree, "guest-a")
    image = fleet.root / "image.raw"
    image.write_bytes(CONTENT)
    checksum = hashlib.sha512(CONTENT).hexdigest()
    record = {"id": "lost", "name": "Lost", "status": "active", "disk_format": "raw", "container_format": "bare"}
    record |= {"size": len(CONTENT), "os_hash_algo": "sha512", "os_hash_value": checksum}
    given = {"image_cache_restore_files": {"lost": str(image)}}
    alone = fleet.restore(**given)
    assert (alone.failed, cached(tree) & {BASE}) == ({"a"}, set()), alone.output
    wrong = fleet.restore(**given, image_cache_glance_images=[{**record, "os_hash_value": "0" * 128}])
    assert (wrong.failed, cached(tree) & {BASE}) == ({"a"}, set()), wrong.output
    run = fleet.restore(**given, image_cache_glance_images=[record])
    assert (run.status, run.changed) == (0, {"a"}), run.output
    assert (tree.cache_path / BASE).read_bytes() == CONTENT
    assert "its checksum is right" in text_of(run)


@pytest.mark.slow
def test_names_restore_only_these_files(fleet: ComputeFleet, guests: ExitStack) -> None:
    tree = fleet.add("a")
    start(guests, tree, "uuid-lost")
    start(guests, tree, "uuid-swap", "swap_1", b"made by this host")
    run = fleet.restore(image_cache_restore_names="swap_1")
    assert (run.status, cached(tree) & {BASE, "swap_1"}) == (0, {"swap_1"}), run.output
    assert BASE not in text_of(run)


@pytest.mark.slow
def test_replaced_file_is_restored_only_where_that_is_asked_for(fleet: ComputeFleet, guests: ExitStack) -> None:
    tree = fleet.add("a")
    base = start(guests, tree, "uuid-lost")
    tree.base(BASE, content=b"another file")
    assert fleet.restore().changed == set()
    alarm = " ".join(fleet.audit().text.replace("!!", "").split())
    assert "ansible-playbook stackops.nova.restore --limit a -e image_cache_restore_states=replaced" in alarm
    run = fleet.restore("--limit", "a", "-e", "image_cache_restore_states=replaced")
    assert (run.status, run.changed) == (0, {"a"}), run.output
    assert (tree.cache_path / BASE).read_bytes() == base
    assert "SET ASIDE" in text_of(run)


@pytest.mark.slow
def test_guests_with_different_files_of_one_name_get_copies_aside_and_the_host_fails(
    fleet: ComputeFleet, guests: ExitStack
) -> None:
    tree = fleet.add("a")
    had = [start(guests, tree, "guest-1", content=b"one"), start(guests, tree, "guest-2", content=b"two")]
    before = cached(tree)
    dry = fleet.restore("--check")
    assert (dry.failed, cached(tree)) == ({"a"}, before), dry.output
    assert "WOULD BE SET ASIDE" in text_of(dry)
    run = fleet.restore()
    aside = [tree.cache_path / name for name in cached(tree) - before]
    assert (run.failed, sorted(path.read_bytes() for path in aside)) == ({"a"}, sorted(had)), run.output
    assert "Guests have different files of that name open" in run.messages["a"]
    assert (tree.cache_path / BASE).exists() is False


@pytest.mark.slow
def test_hosts_without_an_answer_are_shown_and_stop_no_other(fleet: ComputeFleet, guests: ExitStack) -> None:
    fleet.add("down", **UNREACHABLE)
    fleet.add("wrong", **FAILING)
    tree = fleet.add("a")
    base = start(guests, tree, "uuid-lost")
    run = fleet.restore()
    assert (run.unreachable, run.failed, run.changed) == ({"down"}, {"wrong"}, {"a"}), run.output
    assert (tree.cache_path / BASE).read_bytes() == base
    assert "3 hosts, 2 without an answer" in text_of(run)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("image_cache_restore_name", ["x"], "has no variable image_cache_restore_name"),
        ("image_cache_restore_names", {"a": 1}, "image_cache_restore_names is {'a': 1} and must be a list"),
        ("image_cache_restore_states", ["gone"], "states"),
        ("image_cache_restore_files", "x", "files"),
        ("image_cache_restore_max_rate", "fast", "max_rate"),
        ("image_cache_restore_unproven", None, "image_cache_restore_unproven is null"),
    ],
)
def test_invalid_variable_restores_nothing_and_is_named(
    fleet: ComputeFleet, guests: ExitStack, variable: str, value: object, words: str
) -> None:
    tree = fleet.add("a")
    start(guests, tree, "uuid-lost")
    run = fleet.restore(**{variable: value})
    assert (run.status != 0, run.changed, cached(tree) & {BASE}) == (True, set(), set()), run.output
    assert words in run.messages["a"]
    assert "Traceback" not in run.output


@pytest.mark.slow
def test_role_restores_as_the_playbook_does_with_a_condition_and_a_tag(fleet: ComputeFleet, guests: ExitStack) -> None:
    trees = {name: fleet.add(name) for name in "ab"}
    for name, tree in trees.items():
        start(guests, tree, f"uuid-{name}")
    run = fleet.play({"tasks": [role("restore", when="inventory_hostname != 'a'")]}, "--tags", "image_cache_restore")
    assert (run.status, run.changed) == (0, {"b"}), run.output
    assert [BASE in cached(tree) for tree in trees.values()] == [False, True]


@pytest.mark.slow
def test_batches_restore_a_shared_file_in_the_first_that_can(
    fleet: ComputeFleet, shared: CacheTree, guests: ExitStack
) -> None:
    base = start(guests, shared, "uuid-lost")
    run = fleet.play({"serial": 1, "tasks": [role("restore")]})
    assert (run.status, run.changed) == (0, {"a"}), run.output
    assert (shared.cache_path / BASE).read_bytes() == base


@pytest.mark.slow
def test_name_of_a_guest_is_text_wherever_it_is_shown(fleet: ComputeFleet, guests: ExitStack) -> None:
    tree = fleet.add("a")
    start(guests, tree, "{{ 6 * 7 }}{% raw %}")
    for arguments in (["--check"], []):
        run = fleet.restore(*arguments)
        assert (run.status, run.changed) == (0, {"a"}), run.output
        assert "from QEMU of {{ 6 * 7 }}{% raw %}" in " ".join(text_of(run).split())


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("--skip-tags", "image_cache_restore"), ("--tags", "image_cache_prune")])
def test_other_tags_restore_nothing(fleet: ComputeFleet, guests: ExitStack, arguments: tuple[str, str]) -> None:
    tree = fleet.add("a")
    start(guests, tree, "uuid-lost")
    run = fleet.restore(*arguments)
    assert (run.changed, cached(tree) & {BASE}) == (set(), set()), run.output


def test_start_behind_the_look_restores_nothing_and_is_no_green_play(fleet: ComputeFleet, guests: ExitStack) -> None:
    tree = fleet.add("a")
    start(guests, tree, "uuid-lost")
    for run in (
        fleet.restore("--start-at-task", RESTORE),
        fleet.play({"tasks": [role("restore")]}, "--start-at-task", RESTORE),
    ):
        assert (run.status != 0, run.changed, cached(tree) & {BASE}) == (True, set(), set()), run.output


@pytest.mark.slow
def test_strategy_without_a_moment_for_all_hosts_is_refused(fleet: ComputeFleet, guests: ExitStack) -> None:
    tree = fleet.add("a")
    start(guests, tree, "uuid-lost")
    run = fleet.play({"strategy": "free", "tasks": [role("restore")]})
    assert (run.status != 0, cached(tree) & {BASE}) == (True, set()), run.output


@pytest.mark.slow
def test_variables_of_a_restore_are_no_unknown_ones_of_an_audit(fleet: ComputeFleet) -> None:
    fleet.add("a", image_cache_restore_states=["missing", "replaced"], image_cache_restore_max_rate="100M")
    assert fleet.audit().status == 0
