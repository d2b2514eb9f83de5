# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a scenario is made of: servers of a real nova, the playbooks as an operator runs them, and what was wrong."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from . import host
from .cloud_api import Broken, Cloud
from .passes import Passes

IMAGE_BYTES = 8 * 1024 * 1024


class Play(NamedTuple):
    """What a playbook left.

    :param status: its exit status.
    :param text: what it printed, in one line.
    """

    status: int
    text: str


@dataclass
class Guest:
    """A server, and what its disks read as when it was made.

    :param id: by which nova's API knows it.
    :param label: by which libvirt and the collection know it.
    :param disks: the checksum of what each disk reads as through its whole chain.
    """

    id: str
    label: str
    disks: Mapping[Path, str]


class Scene:
    """A cloud of its own, and what was expected of it and did not hold.

    :param playbook_command: ``ansible-playbook``.
    :param work: a directory for images, variables and logs.
    """

    def __init__(self, playbook_command: str, work: Path) -> None:
        self.cloud = Cloud()
        self.work = work
        self.expected = 0
        self.wrong: list[str] = []
        self._command = playbook_command
        self._passes = Passes(playbook_command, work, minimum_age=0)

    def expect(self, holds: bool, what: str) -> None:
        """Take note of what should hold."""
        self.expected += 1
        if not holds:
            self.wrong.append(what)
            print(f"WRONG: not so: {what}", flush=True)

    def make_image(self, name: str, disk_format: str, visibility: str = "shared") -> str:
        """Upload an image of random bytes, and return its id. What it reads as stays in the file ``NAME.raw``."""
        raw = self.work / f"{name}.raw"
        raw.write_bytes(os.urandom(IMAGE_BYTES))
        path = self.work / f"{name}.image"
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", disk_format, str(raw), str(path)], check=True)
        return self.cloud.upload(name, str(path), disk_format, visibility)

    def boot(self, name: str, image_id: str, **sizes: int) -> Guest:
        """Make a server on a flavor of its own, and wait until it runs.

        :param sizes: of the flavor: ``swap`` in MiB, ``ephemeral`` in GiB.
        :raises Broken: it does not run.
        """
        flavor = self.cloud.make_flavor(name, disk=0, **sizes)
        server_id = self.cloud.create({"name": name, "imageRef": image_id, "flavorRef": flavor})
        self.cloud.wait(server_id, "ACTIVE")
        disks = {disk: host.content(disk) for disk in host.disks() if disk.parent.name == server_id}
        return Guest(server_id, self.cloud.instance_name(server_id), disks)

    def act(self, guest: Guest, action: str, status: str, value: Any = None) -> None:
        """Do something with a server, and wait for its status.

        :raises Broken: it gets another one.
        """
        self.cloud.act(guest.id, action, value)
        self.cloud.wait(guest.id, status)

    def expect_survival(self, guest: Guest) -> None:
        """Reboot a server hard, so that QEMU opens each chain afresh, stop it, check its disks, and start it again.

        :raises Broken: it gets another status than it should.
        """
        self.act(guest, "reboot", "ACTIVE", {"type": "HARD"})
        self.act(guest, "os-stop", "SHUTOFF")
        for disk, content in guest.disks.items():
            problem = host.check(disk)
            self.expect(problem is None, f"{disk} is whole: {problem}")
            self.expect(problem is None and host.content(disk) == content, f"{disk} reads as it did")
        self.act(guest, "os-start", "ACTIVE")

    def audit(self) -> dict[str, Any]:
        """Return what an audit found, as ``image_cache_facts`` does."""
        answer = self._passes.run(prune=False)["audit"]
        facts: dict[str, Any] = answer["ansible_facts"]["image_cache"]
        return facts

    def play(self, playbook: str, *options: str, **variables: Any) -> Play:
        """Run a playbook of the collection on this host.

        :param variables: of the role, without ``image_cache_``.
        """
        given = {"group": "all", "config_file": "/etc/nova/nova.conf", **variables}
        variables_file = self.work / "play.json"
        variables_file.write_text(json.dumps({f"image_cache_{name}": value for name, value in given.items()}))
        command = [self._command, "-i", "localhost,", "-c", "local", "-e", f"@{variables_file}", *options]
        done = subprocess.run(
            [*command, f"stackops.nova.{playbook}"],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        with (self.work / "plays.log").open("a") as log:
            log.write(f"$ {playbook} {' '.join(options)} {json.dumps(variables)}\n{done.stdout}\n")
        return Play(done.returncode, " ".join(word for word in done.stdout.split() if word != "!!"))


def run_scenarios(scenarios: Sequence[Callable[[Scene], None]]) -> int:
    """Run scenarios one after the other, by the command's arguments, and print what came of each.

    :return: the exit status: 1 if anything was wrong.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--ansible-playbook", required=True)
    options = parser.parse_args()
    scene = Scene(options.ansible_playbook, options.work)
    rows = ["| scenario | seconds | expectations | wrong |", "| --- | --- | --- | --- |"]
    for scenario in scenarios:
        title = (scenario.__doc__ or "").split("\n")[0]
        print(f"[{time.strftime('%H:%M:%S')}] {title}", flush=True)
        begin, expected, wrong = time.monotonic(), scene.expected, len(scene.wrong)
        try:
            scenario(scene)
        except Broken as exc:
            scene.expect(False, str(exc))
        seconds = time.monotonic() - begin
        rows.append(f"| {title} | {seconds:.0f} | {scene.expected - expected} | {len(scene.wrong) - wrong} |")
    report = "\n".join([*rows, *(f"WRONG: not so: {what}" for what in scene.wrong)])
    (options.work / "summary.md").write_text(report + "\n")
    print(report)
    return 1 if scene.wrong else 0
