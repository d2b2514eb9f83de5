# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts serve each other: Glance serves few copies, and no compromised host gets its bytes into another cache."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha512
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import (
    UNREACHABLE,
    ComputeFleet,
    Run,
    cached,
    names,
    picture,
    role,
)
from ansible_collections.stackops.nova.tests.support.openstack_apis import Cloud, cloud, write_clouds
from ansible_collections.stackops.nova.tests.support.peers import lying_python_script
from ansible_collections.stackops.nova.tests.support.precaches import image
from ansible_collections.stackops.nova.tests.support.processes import needs_root
from ansible_collections.stackops.nova.tests.support.tokens import all_that_is_shown
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree, fingerprint

pytestmark = needs_root

RAW, QCOW2 = "11111111-6166-4aa7-bb6c-7ceae4a8201c", "22222222-6166-4aa7-bb6c-7ceae4a8201c"
CONTENT = b"the operating system" * 5000
DISK = b"another one" * 50000
REPORT, PLAN = "Report on the pre-caching", "Plan the next wave"

# Logs in nowhere: each host's tree is on this machine. It is what a host serves, so a lying host's lies are in it.
PEER = """#!/bin/sh
# It gets: -- HOST COMMAND
echo "$2" >>{root}/served
[ "$2" != "{liar}" ] || exec cat {root}/other
exec sh -c "$3"
"""


@pytest.fixture
def apis(tmp_path: Path, token: str) -> Iterator[Cloud]:
    with cloud() as running:
        running.roles, running.token = ["reader"], token
        write_clouds(tmp_path, {"lab": running.url})
        offer(running, RAW, CONTENT)
        yield running


@pytest.fixture
def compute(fleet: ComputeFleet, tmp_path: Path) -> ComputeFleet:
    fleet.environment = {"OS_CLIENT_CONFIG_FILE": str(tmp_path / "clouds.yaml")}
    fleet.variables = {
        "image_cache_openstack_cloud": "lab",
        "image_cache_min_free_space": "0%",
        "image_cache_use_peers": True,
        "image_cache_peer_command": [str(tmp_path / "peer")],
    }
    write_peer(fleet)
    return fleet


def offer(apis: Cloud, image_id: str, content: bytes, **more: Any) -> None:
    """Let Glance have an image, and no other."""
    apis.files = {image_id: content}
    apis.images["lab"] = [image(image_id, content, name="debian-13", **more)]


def qcow2(folder: Path) -> bytes:
    """A compressed image that becomes DISK when it is converted."""
    (folder / "disk.raw").write_bytes(DISK)
    command = ["qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", folder / "disk.raw", folder / "disk.qcow2"]
    subprocess.run(command, check=True)
    return (folder / "disk.qcow2").read_bytes()


def write_peer(fleet: ComputeFleet, liar: str = "", other: bytes = b"") -> None:
    """Make the command that stands for ssh; it brings other bytes of a host that lies."""
    (fleet.root / "other").write_bytes(other)
    write_script(fleet.root / "peer", PEER.format(root=fleet.root, liar=liar))
    (fleet.root / "served").touch()
    (fleet.root / "served").chmod(0o666)


def lying_python(fleet: ComputeFleet, checksum: str) -> dict[str, str]:
    """The variables of a host that reports a checksum, whatever its file has."""
    path = fleet.root / "lying-python"
    write_script(path, lying_python_script(sys.executable, checksum))
    return {"ansible_python_interpreter": str(path)}


def write_script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def served(fleet: ComputeFleet) -> list[str]:
    """Which hosts were asked for a file, each as often as it was."""
    return sorted((fleet.root / "served").read_text().split())


def precache(fleet: ComputeFleet, *arguments: str, image_id: str = RAW, **variables: Any) -> Run:
    wanted = {"image_cache_precache_images": [image_id], **variables}
    return fleet.run_playbook("stackops.nova.precache", *arguments, **wanted)


def text_of(run: Run) -> str:
    lines = next(one["result"]["text"] for one in reversed(run.results) if one["task"].endswith(REPORT))
    return " ".join(" ".join(lines).split())


def content(tree: CacheTree, image_id: str = RAW) -> bytes:
    return (tree.cache_path / fingerprint(image_id)).read_bytes()


def test_glance_serves_one_copy_and_hosts_serve_each_other(compute: ComputeFleet, apis: Cloud, tmp_path: Path) -> None:
    compute.environment.update(all_that_is_shown(tmp_path))
    trees = [compute.add(name) for name in "abcd"]
    before = picture(compute.root / "c")
    dry = precache(compute, "--check")
    assert (dry.status, dry.changed, picture(compute.root / "c")) == (0, set("abcd"), before), dry.output
    assert (apis.count("/file"), served(compute)) == (0, [])

    run = precache(compute)
    assert (run.status, run.changed) == (0, set("abcd")), run.output
    assert all(content(tree) == CONTENT for tree in trees)
    assert apis.count("/file") == 1
    assert served(compute) == ["a", "a", "b"]
    assert apis.count("/auth/tokens") == 2 + 1  # for the list of each run, and for the one host that fetched


def test_host_that_serves_other_bytes_gets_them_into_no_cache(compute: ComputeFleet, apis: Cloud) -> None:
    trees = [compute.add(name) for name in "abcd"]
    write_peer(compute, liar="a", other=CONTENT[:-1] + b"!")
    run = precache(compute)
    assert run.status == 0, run.output
    assert all(content(tree) == CONTENT for tree in trees)
    assert served(compute).count("a") == 2  # the word of one host alone leaves it out for that host only
    assert apis.count("/file") == 2


@pytest.mark.slow
def test_host_that_reports_another_checksum_than_glances_serves_nobody(compute: ComputeFleet, apis: Cloud) -> None:
    compute.add("a", **lying_python(compute, "f" * 128))
    trees = [compute.add(name) for name in "bcd"]
    run = precache(compute)
    assert run.failed == {"a"}, run.output
    assert "is not what it must be on this host" in run.messages["a"]
    assert all(content(tree) == CONTENT for tree in trees)
    assert "a" not in served(compute)
    assert apis.count("/file") == 2


@pytest.mark.usefixtures("apis")
def test_host_that_serves_and_reports_the_same_lie_is_not_believed(compute: ComputeFleet) -> None:
    other = CONTENT[:-1] + b"!"
    compute.add("a", **lying_python(compute, sha512(other).hexdigest()))
    trees = [compute.add(name) for name in "bcd"]
    write_peer(compute, liar="a", other=other)
    run = precache(compute)
    assert run.failed == {"a"}, run.output
    assert all(content(tree) == CONTENT for tree in trees)
    assert "a" not in served(compute)


def test_one_of_two_that_convert_cannot_lie_alone(compute: ComputeFleet, apis: Cloud, tmp_path: Path) -> None:
    offer(apis, QCOW2, qcow2(tmp_path), disk_format="qcow2")
    other = DISK[:-1] + b"!"
    compute.add("a", **lying_python(compute, sha512(other).hexdigest()))
    trees = [compute.add(name) for name in "bcd"]
    write_peer(compute, liar="a", other=other)
    run = precache(compute, image_id=QCOW2)
    assert run.failed == {"a"}, run.output
    assert "other hosts agree on" in run.messages["a"]
    assert all(content(tree, QCOW2).rstrip(b"\0") == DISK for tree in trees)
    assert "a" not in served(compute)
    assert (apis.count("/file"), len(served(compute))) == (3, 1)


@pytest.mark.slow
def test_two_names_of_one_machine_are_not_two_that_convert(compute: ComputeFleet, apis: Cloud, tmp_path: Path) -> None:
    offer(apis, QCOW2, qcow2(tmp_path), disk_format="qcow2")
    other = DISK[:-1] + b"!"
    compute.add("a", ansible_host="127.0.0.9", **lying_python(compute, sha512(other).hexdigest()))
    again = {**compute.hosts["a"], "image_cache_host": "another"}  # it says what it likes
    compute.add("a-again", **{key: again[key] for key in ("ansible_host", "ansible_python_interpreter")})
    trees = [compute.add(name) for name in "bc"]
    write_peer(compute, liar="127.0.0.9", other=other)
    run = precache(compute, image_id=QCOW2)
    assert {"a", "a-again"} <= run.failed, run.output
    assert all(content(tree, QCOW2).rstrip(b"\0") == DISK for tree in trees)
    assert "127.0.0.9" not in served(compute)


@pytest.mark.slow
def test_each_site_fetches_for_itself_and_a_storage_once(compute: ComputeFleet, shared: CacheTree, apis: Cloud) -> None:
    far = [compute.add(name, image_cache_site="far") for name in "xy"]
    run = precache(compute)
    assert (run.status, run.changed) == (0, {"a", "c", "x", "y"}), run.output
    assert all(content(tree) == CONTENT for tree in (shared, *far))
    assert (apis.count("/file"), served(compute)) == (2, ["a", "x"])


@pytest.mark.slow
@pytest.mark.usefixtures("apis")
def test_host_that_is_unreachable_stops_no_wave(compute: ComputeFleet) -> None:
    compute.add("a", **UNREACHABLE)
    trees = [compute.add(name) for name in "bc"]
    run = precache(compute)
    assert (run.failed, run.unreachable) == (set(), {"a"}), run.output
    assert all(content(tree) == CONTENT for tree in trees)
    assert served(compute) == ["b"]


@pytest.mark.slow
def test_image_that_glance_serves_wrongly_reaches_no_host(compute: ComputeFleet, apis: Cloud) -> None:
    trees = [compute.add(name) for name in "abc"]
    apis.files = {RAW: CONTENT[:-1] + b"!"}
    run = precache(compute)
    assert run.failed == set("abc"), run.output
    assert not any(names(RAW) & cached(tree) for tree in trees)
    assert served(compute) == []


@pytest.mark.slow
def test_hosts_that_do_not_serve_each_other_run_no_further_task(compute: ComputeFleet, apis: Cloud) -> None:
    for name in "abc":
        compute.add(name)
    run = precache(compute, image_cache_use_peers=False)
    assert run.status == 0, run.output
    assert [one["host"] for one in run.results if one["task"].endswith(PLAN)] == ["a"]  # for all
    assert (apis.count("/file"), served(compute)) == (3, [])


@pytest.mark.slow
def test_hosts_of_which_some_do_not_serve_others_are_refused(compute: ComputeFleet, apis: Cloud) -> None:
    compute.add("a")
    compute.add("b", image_cache_use_peers=False)
    run = precache(compute)
    assert run.failed == {"a", "b"}, run.output
    assert "image_cache_use_peers is true for a, and not for b" in run.messages["a"]
    assert apis.requests == []


@pytest.mark.slow
def test_what_was_fetched_is_one_change(compute: ComputeFleet, apis: Cloud) -> None:
    for name in "ab":
        compute.add(name)
    run = precache(compute)
    assert {host: numbers["changed"] for host, numbers in run.recap.items()} == {"a": 1, "b": 1}, run.output
    assert apis.count("/file") == 1


@pytest.mark.slow
def test_play_that_ends_between_waves_reports_what_was_fetched(compute: ComputeFleet, apis: Cloud) -> None:
    for name in "abcd":
        compute.add(name)
    # No host that has a turn later can read how to log in to another one.
    (compute.root / "command").write_text(str(compute.root / "peer"))
    write_script(compute.root / "peer", f'#!/bin/sh\nrm {compute.root}/command\nexec sh -c "$3"\n')
    compute.variables["image_cache_peer_command"] = [f"{{{{ lookup('file', '{compute.root}/command') }}}}"]
    play = {"any_errors_fatal": True, "tasks": [role("precache")]}
    run = compute.play(play, image_cache_precache_images=[RAW])
    assert run.failed == {"c", "d"}, run.output
    text = text_of(run)
    assert "FETCHED: 2 files" in text
    assert "fetched by 2 hosts" in text
    assert "2 without an answer" in text
    assert apis.count("/file") == 1


@pytest.mark.slow
@pytest.mark.parametrize("task", [PLAN, "Pre-cache images"])
@pytest.mark.usefixtures("apis")
def test_start_at_a_task_of_the_waves_is_no_green_play(compute: ComputeFleet, task: str) -> None:
    tree = compute.add("a")
    run = precache(compute, "--start-at-task", task)
    assert (run.status != 0, cached(tree) & names(RAW)) == (True, set()), run.output


@pytest.mark.slow
def test_batches_of_a_play_are_reported_together(compute: ComputeFleet, apis: Cloud) -> None:
    for name in "abcd":
        compute.add(name)
    play = {"serial": 2, "tasks": [role("precache")]}
    run = compute.play(play, image_cache_precache_images=[RAW], image_cache_report_path=str(compute.root / "report"))
    assert run.status == 0, run.output
    assert "FETCHED: 4 files" in text_of(run)
    assert "in 4 waves" in text_of(run)
    assert apis.count("/file") == 2


@pytest.mark.slow
@pytest.mark.usefixtures("apis")
def test_role_that_runs_twice_begins_anew(compute: ComputeFleet) -> None:
    trees = [compute.add(name) for name in "abc"]
    tasks = [role("precache", "include_role"), role("precache", "include_role")]
    run = compute.play({"tasks": tasks}, image_cache_precache_images=[RAW])
    assert run.status == 0, run.output
    assert all(content(tree) == CONTENT for tree in trees)
    assert "All images are present" in text_of(run)
