# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A base file that no host has any more comes back from Glance if that is asked for, and the token is seen nowhere."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import ComputeFleet, Run, cached, picture
from ansible_collections.stackops.nova.tests.support.guests import needs_qemu, running_guest
from ansible_collections.stackops.nova.tests.support.host import qcow2_of
from ansible_collections.stackops.nova.tests.support.openstack_apis import Cloud, cloud, write_clouds
from ansible_collections.stackops.nova.tests.support.precaches import image
from ansible_collections.stackops.nova.tests.support.processes import needs_root
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree, fingerprint

pytestmark = [needs_root, needs_qemu]

ONE, TWO = "11111111-6166-4aa7-bb6c-7ceae4a8201c", "22222222-6166-4aa7-bb6c-7ceae4a8201c"
SIZE = 1 << 20
CONTENT = {ONE: b"the operating system".ljust(SIZE, b"\0"), TWO: b"another one".ljust(SIZE, b"\0")}
TOKEN = "gAAAA-secret-"
RESTORE, REPORT = "Restore base files", "Report on the restore"


@pytest.fixture
def apis(tmp_path: Path) -> Iterator[Cloud]:
    with cloud() as running:
        running.roles, running.token = ["reader"], TOKEN
        running.files = CONTENT
        private = {"visibility": "private", "owner": "tenant"}
        running.images["lab"] = [image(each, content, **private) for each, content in CONTENT.items()]
        write_clouds(tmp_path, {"lab": running.url})
        yield running


@pytest.fixture
def compute(fleet: ComputeFleet, tmp_path: Path) -> ComputeFleet:
    fleet.environment = {"OS_CLIENT_CONFIG_FILE": str(tmp_path / "clouds.yaml")}
    fleet.variables = {"image_cache_openstack_cloud": "lab", "image_cache_restore_from_glance": True}
    return fleet


def restore(fleet: ComputeFleet, *arguments: str, **variables: Any) -> Run:
    """Restore base files, and look for the token wherever it must not be."""
    run = fleet.restore(*arguments, **variables)
    assert TOKEN not in run.output
    assert TOKEN not in str(run.results)
    assert [path for path in fleet.root.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()] == []
    return run


def lose(tree: CacheTree, image_id: str, guest: str) -> Path:
    """Make the disk of a stopped guest, lose the base file that it is built on, and return the disk."""
    disk = tree.instance(guest, {"disk": None}) / "disk"
    base = tree.base(fingerprint(image_id), content=CONTENT[image_id])
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "raw", str(disk)]
    subprocess.run(command, check=True)
    base.unlink()
    return disk


def content(tree: CacheTree, image_id: str) -> bytes:
    return (tree.cache_path / fingerprint(image_id)).read_bytes()


def text_of(run: Run) -> str:
    """What the report on the restore shows."""
    lines = next(one["result"]["text"] for one in reversed(run.results) if one["task"].endswith(REPORT))
    return " ".join(" ".join(lines).split())


def test_missing_base_file_is_fetched_as_the_dry_run_lists_without_a_connection(
    compute: ComputeFleet, apis: Cloud
) -> None:
    tree, _other = compute.add("a"), compute.add("b")
    disk = lose(tree, ONE, "uuid-lost")
    before = picture(compute.root / "a")
    dry = restore(compute, "--check")
    assert (dry.status, dry.changed, picture(compute.root / "a")) == (0, {"a"}, before), dry.output
    [offered] = dry.of(RESTORE)["a"]["image_cache_restore"]["restored"]
    assert (offered["source"], offered["image_id"], offered["contacted"]) == ("glance", ONE, False)
    assert "It was not contacted: what it sends is compared with the image's checksum." in text_of(dry)
    assert apis.count("/file") == 0

    run = restore(compute, "-vvvv")
    assert (run.status, run.changed) == (0, {"a"}), run.output
    assert content(tree, ONE) == CONTENT[ONE]
    subprocess.run(["qemu-img", "check", "-q", str(disk)], check=True)
    [restored] = run.of(RESTORE)["a"]["image_cache_restore"]["restored"]
    assert (restored["source"], restored["proof"], restored["contacted"]) == ("glance", "checksum", True)
    assert (apis.count("/file"), len(apis.tokens)) == (1, 3)  # of the two lists, and of the one host

    again = restore(compute)
    assert (again.status, again.changed, apis.count("/file")) == (0, set(), 1), again.output


@pytest.mark.slow
def test_qcow2_image_becomes_the_raw_file_that_is_missing(compute: ComputeFleet, apis: Cloud) -> None:
    tree = compute.add("a")
    lose(tree, ONE, "uuid-lost")
    qcow2 = qcow2_of(compute.root, CONTENT[ONE])
    apis.files = {ONE: qcow2}
    apis.images["lab"] = [image(ONE, qcow2, disk_format="qcow2", virtual_size=SIZE)]
    dry, run = restore(compute, "--check"), restore(compute)
    assert (dry.status, dry.changed, run.status, run.changed) == (0, {"a"}, 0, {"a"}), run.output
    assert content(tree, ONE) == CONTENT[ONE]


@pytest.mark.slow
def test_glance_is_not_asked_where_no_file_is_missing_or_the_option_is_not_set(
    compute: ComputeFleet, apis: Cloud
) -> None:
    tree = compute.add("a")
    assert restore(compute).status == 0
    lose(tree, ONE, "uuid-lost")
    run = restore(compute, image_cache_restore_from_glance=False)
    assert run.failed == {"a"}
    assert apis.requests == []


@pytest.mark.slow
def test_hosts_that_share_a_storage_fetch_a_file_once(compute: ComputeFleet, shared: CacheTree, apis: Cloud) -> None:
    lose(shared, ONE, "uuid-lost")
    run = restore(compute)
    assert (run.status, run.changed) == (0, {"a"}), run.output
    assert content(shared, ONE) == CONTENT[ONE]
    assert run.of(RESTORE)["b"]["image_cache_restore"]["elsewhere"] == {fingerprint(ONE): "a"}
    assert apis.count("/file") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("admin", "its token has the role admin"),
        ("deleted", "Glance lists no image of this base file either"),
        ("corrupt", "its data are damaged"),
    ],
)
def test_file_that_a_guest_has_comes_back_whatever_is_wrong_with_glance(
    compute: ComputeFleet, apis: Cloud, trouble: str, reason: str
) -> None:
    tree = compute.add("a")
    lose(tree, ONE, "uuid-lost")
    disk = lose(tree, TWO, "uuid-running")
    base = tree.base(fingerprint(TWO), content=CONTENT[TWO])
    if trouble == "admin":
        apis.roles = ["reader", "admin"]
    elif trouble == "deleted":
        del apis.images["lab"][0]
    else:
        apis.files = {ONE: CONTENT[ONE][:-1] + b"!"}
    before = cached(tree)
    with ExitStack() as guests:
        guests.enter_context(running_guest(disk, base))
        base.unlink()
        run = restore(compute)
    assert run.failed == {"a"}, run.output
    assert reason in run.messages["a"]
    assert content(tree, TWO) == CONTENT[TWO]
    assert {name for name in cached(tree) - before if not name.endswith(".info")} <= {fingerprint(TWO)}
