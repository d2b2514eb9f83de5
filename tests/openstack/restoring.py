# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Takes base files away from servers of a real nova, has the playbook restore them, and looks for any loss."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import host
from .scene import Guest, Scene, run_scenarios

STATES = ["missing", "replaced"]
NO_PROCESS = "No process of a guest on this host has it open. Copy the image to this host, and set files:"
NOT_CERTAIN = "It is not certain which file the disks of"
NOT_ONE_FILE = "Guests have different files of that name open"


def deleted(scene: Scene) -> None:
    """Base file, swap and ephemeral template are deleted under a running server."""
    image = scene.make_image("deleted", "qcow2")
    guest = scene.boot("deleted", image, swap=64, ephemeral=1)
    names = [host.fingerprint(image), "swap_64", "ephemeral_1_0706d66"]
    had = _delete(names)

    lost = _missing(scene)
    for name in names:
        found = lost.get(name, {})
        scene.expect(found.get("recoverable_from") == "process", f"a process still has {name}: {found}")
        scene.expect(
            found.get("recoverable_until") == [guest.label], f"{name} lasts until {guest.label} stops: {found}"
        )

    with host.nova_halted():
        before = host.entries()
        dry_run = scene.play("restore", "--check")
        scene.expect(host.entries() == before, "the dry run writes nothing")
    scene.expect(dry_run.status == 0, f"the dry run can restore all: {dry_run.text}")
    for name in names:
        scene.expect(f"{name}: " in dry_run.text, f"the dry run shows {name}: {dry_run.text}")
    scene.expect(f"from QEMU of {guest.label}" in dry_run.text, f"and the guest: {dry_run.text}")

    restored = scene.play("restore")
    scene.expect(restored.status == 0, f"the run restores all: {restored.text}")
    _expect_back(scene, guest, had)


def replaced(scene: Scene) -> None:
    """A base file is replaced under a running server by one with other bytes."""
    image = scene.make_image("replaced", "raw")
    guest = scene.boot("replaced", image)
    name = host.fingerprint(image)
    had = _digests([name])
    other = _replace(name)

    found = _missing(scene).get(name, {})
    scene.expect(found.get("replaced") is True, f"the audit says that {name} was replaced: {found}")
    untouched = scene.play("restore")
    scene.expect(untouched.status == 0 and _digests([name]) == other, "without its state it stays as it is")

    with host.nova_halted():
        before = host.entries()
        dry_run = scene.play("restore", "--check", restore_states=STATES)
        scene.expect(host.entries() == before, "the dry run writes nothing")
    scene.expect(dry_run.status == 0 and name in dry_run.text, f"the dry run shows it: {dry_run.text}")
    restored = scene.play("restore", restore_states=STATES)
    scene.expect(restored.status == 0, f"the run restores it: {restored.text}")
    aside = [host.digest(path) for path in _set_aside(name)]
    scene.expect(aside == list(other.values()), f"the other file is set aside: {_set_aside(name)}")
    _expect_back(scene, guest, had)


def stopped(scene: Scene) -> None:
    """The base file of a stopped server is deleted, and comes back from Glance."""
    image = scene.make_image("stopped", "raw")
    guest = scene.boot("stopped", image)
    scene.act(guest, "os-stop", "SHUTOFF")
    name = host.fingerprint(image)
    had = _delete([name])

    found = _missing(scene).get(name, {})
    scene.expect(found.get("recoverable_from", "") is None, f"the audit knows no process that has it: {found}")
    with host.nova_halted():
        before = host.entries()
        refused = scene.play("restore")
        scene.expect(host.entries() == before, "a run that is refused writes nothing")
    scene.expect(refused.status == 2, f"the run fails: {refused.status}")
    scene.expect(f"{name}, needed by {guest.label}: {NO_PROCESS}" in refused.text, f"and says why: {refused.text}")

    brought = scene.work / "brought.raw"
    scene.cloud.download(image, brought)
    variables = {"restore_files": {image: str(brought)}, "glance_images": [scene.cloud.image_record(image)]}
    restored = scene.play("restore", **variables)
    scene.expect(restored.status == 0, f"the file of Glance is taken: {restored.text}")
    scene.expect(_digests(had) == had, f"{name} has the bytes that it had")
    scene.act(guest, "os-start", "ACTIVE")
    _expect_back(scene, guest, had)


def made_again(scene: Scene) -> None:
    """A swap template is deleted under a server, nova makes another one for the next, and that is deleted too."""
    image = scene.make_image("made-again", "raw")
    first = scene.boot("first", image, swap=96)
    had = _delete(["swap_96"])
    second = scene.boot("second", image, swap=96)
    others = _digests(["swap_96"])
    scene.expect(others != had, "nova makes a template with other bytes")

    refused = scene.play("restore", restore_states=STATES)
    scene.expect(refused.status == 2 and NOT_CERTAIN in refused.text, f"the former one is refused: {refused.text}")
    scene.expect(f"Do not stop {first.label} before that." in refused.text, f"with a warning: {refused.text}")
    scene.expect(_digests(others) == others, "the one of the second server stays")

    _delete(others)
    refused = scene.play("restore")
    scene.expect(refused.status == 2 and NOT_ONE_FILE in refused.text, f"both are refused: {refused.text}")
    aside = [host.digest(path) for path in _set_aside("swap_96")]
    scene.expect(sorted(aside) == sorted([*had.values(), *others.values()]), f"each is copied aside: {aside}")

    # What the messages say to do.
    host.pull(first.label, next(disk for disk in first.disks if disk.name == "disk.swap"))
    restored = scene.play("restore")
    scene.expect(restored.status == 0, f"the other one is restored: {restored.text}")
    _expect_back(scene, second, others)
    scene.expect_survival(first)


def _delete(names: Iterable[str]) -> dict[str, str]:
    """Delete base files, and return the checksums that they had."""
    had = _digests(names)
    for name in had:
        (host.CACHE / name).unlink()
    return had


def _replace(name: str) -> dict[str, str]:
    """Put another file of the same size and rights in place of a base file, and return its checksum."""
    path = host.CACHE / name
    other = path.with_name("other")
    other.write_bytes(os.urandom(path.stat().st_size))
    shutil.copymode(path, other)
    shutil.chown(other, path.stat().st_uid, path.stat().st_gid)
    other.replace(path)
    return _digests([name])


def _digests(names: Iterable[str]) -> dict[str, str]:
    return {name: host.digest(host.CACHE / name) for name in names}


def _missing(scene: Scene) -> dict[str, dict[str, Any]]:
    """Return what an audit reports missing, by its name."""
    return {Path(lost["backing_file"]).name: lost for lost in scene.audit()["missing"]}


def _set_aside(name: str) -> list[Path]:
    return sorted(host.CACHE.glob(f".{name}.stackops-*"))


def _expect_back(scene: Scene, guest: Guest, had: dict[str, str]) -> None:
    """See that files are back byte for byte, and that the server starts on them and on no new ones of nova's."""
    inodes = {name: (host.CACHE / name).stat().st_ino for name in had}
    scene.expect(_digests(had) == had, f"{', '.join(had)} have the bytes that they had")
    scene.expect(not _missing(scene).keys() & had.keys(), "an audit misses nothing of it any more")
    scene.expect_survival(guest)
    scene.expect({name: (host.CACHE / name).stat().st_ino for name in had} == inodes, "nova made none of them again")


if __name__ == "__main__":
    sys.exit(run_scenarios([deleted, replaced, stopped, made_again]))
