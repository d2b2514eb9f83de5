# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a cloud's users do all day: servers are made, changed and deleted, by several people at a time."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .cloud_api import GONE, Broken, Cloud

# Name: sizes of the flavor (disk and ephemeral in GiB, swap in MiB).
FLAVORS: dict[str, dict[str, int]] = {
    "plain": {"disk": 0},
    "swap64": {"disk": 0, "swap": 64},
    "swap32": {"disk": 0, "swap": 32},
    "swap96": {"disk": 0, "swap": 96},
    "swap128": {"disk": 0, "swap": 128},
    "eph1": {"disk": 0, "ephemeral": 1},
    "eph2": {"disk": 0, "ephemeral": 2, "swap": 32},
    "eph3": {"disk": 0, "ephemeral": 3},
    "disk1": {"disk": 1},
    "disk2": {"disk": 2, "swap": 64},
}
RESIZES = {
    "plain": ("disk1", "swap64"),
    "swap64": ("swap32", "swap96"),
    "swap32": ("swap64", "swap96"),
    "swap96": ("swap32",),
    "swap128": ("swap32",),
    "eph1": ("eph2",),
    "disk1": ("disk2",),
}
SECOND_EPHEMERAL = "eph3"  # as 1 + 2 GiB
QUIET_RESIZE = "swap128"  # which no other server has, so that only a resize that is pending needs its template

# What can be done with a server in a state, how often in relation to the rest, and the state that it leads to.
STEPS: dict[str, dict[str, tuple[int, str]]] = {
    "ACTIVE": {
        "resize": (9, "VERIFY_RESIZE"),
        "rescue": (3, "RESCUE"),
        "shelve": (3, "SHELVED"),
        "soft delete": (5, "SOFT_DELETED"),
        "delete": (5, GONE),
        "hard reboot": (3, "ACTIVE"),
        "stop": (1, "SHUTOFF"),
    },
    "VERIFY_RESIZE": {"confirm": (1, "ACTIVE"), "revert": (1, "ACTIVE")},
    "RESCUE": {"unrescue": (3, "ACTIVE"), "delete": (1, GONE)},
    "SHELVED": {"unshelve": (1, "ACTIVE"), "offload": (1, "SHELVED_OFFLOADED")},
    "SHELVED_OFFLOADED": {"unshelve": (3, "ACTIVE"), "delete": (1, GONE)},
    "SOFT_DELETED": {"restore": (1, "ACTIVE"), "force delete": (1, GONE)},
    "SHUTOFF": {"start": (2, "ACTIVE"), "delete": (1, GONE)},
}
ACTIONS: dict[str, tuple[str, Any]] = {
    "confirm": ("confirmResize", None),
    "revert": ("revertResize", None),
    "unrescue": ("unrescue", None),
    "shelve": ("shelve", None),
    "offload": ("shelveOffload", None),
    "unshelve": ("unshelve", None),
    "restore": ("restore", None),
    "delete": ("forceDelete", None),
    "force delete": ("forceDelete", None),
    "hard reboot": ("reboot", {"type": "HARD"}),
    "stop": ("os-stop", None),
    "start": ("os-start", None),
}
WAY_HOME = {
    "VERIFY_RESIZE": "confirm",
    "RESCUE": "unrescue",
    "SHELVED": "unshelve",
    "SHELVED_OFFLOADED": "unshelve",
    "SOFT_DELETED": "restore",
    "SHUTOFF": "start",
}


@dataclass
class Server:
    """A server that should exist, the state it should be in, and the flavors that it had before."""

    id: str
    image: str
    flavor: str
    state: str = "ACTIVE"
    former_flavors: list[str] = field(default_factory=list)
    busy: bool = True


class Workload:
    """The servers that should exist, and who does what with them.

    :param images: the ids of the images, by name.
    :param flavors: the ids of the flavors, by name.
    :param population: how many servers there are to be.
    """

    def __init__(self, images: dict[str, str], flavors: dict[str, str], population: int, seed: int) -> None:
        self.images, self.flavors, self.population = images, flavors, population
        self.servers: list[Server] = []
        self.done: Counter[str] = Counter()
        self.broken: list[str] = []
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._number = 0

    def run(self, people: int, seconds: float) -> None:
        """Let people work for a while; come back when the last of them is done."""
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=self._work, args=(end,)) for _person in range(people)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def make_quiet(self, cloud: Cloud, rescue_image: str) -> None:
        """Make one server of each kind whose files are easily taken for unused; nobody touches them until the end.

        :param rescue_image: the id of an image that nobody else uses.
        """
        image = next(iter(self.images))
        for flavor, step in (
            ("plain", "rescue"),
            (SECOND_EPHEMERAL, None),
            (QUIET_RESIZE, "resize"),
            ("eph1", "soft delete"),
        ):
            server = self.make(cloud, f"quiet-{flavor}", image, flavor)
            if server is None:
                continue
            server.busy = True
            if step is not None:
                self._do(cloud, server, step, rescue_image)
            server.busy = True

    def bring_home(self, cloud: Cloud) -> None:
        """Bring every server that should exist into the state ACTIVE."""
        for server in list(self.servers):
            if server.state != "ACTIVE":
                server.busy = True
                self._do(cloud, server, WAY_HOME[server.state])

    def _work(self, end: float) -> None:
        cloud = Cloud()
        while time.monotonic() < end:
            with self._lock:
                idle = [server for server in self.servers if not server.busy]
                make = len(self.servers) < self.population
                if not make and idle:
                    server = self._random.choice(idle)
                    server.busy = True
                    steps = STEPS[server.state]
                    if server.flavor not in RESIZES:
                        steps = {name: step for name, step in steps.items() if name != "resize"}
                    weights = [weight for weight, _state in steps.values()]
                    (step,) = self._random.choices(list(steps), weights)
            if make:
                self._make(cloud)
            elif idle:
                self._do(cloud, server, step)
            else:
                time.sleep(1)

    def _make(self, cloud: Cloud) -> None:
        with self._lock:
            self._number += 1
            number = self._number
            image = self._random.choice(list(self.images))
            flavor = self._random.choice([name for name in FLAVORS if name != QUIET_RESIZE])
            config_drive = self._random.random() < 0.2
        self.make(cloud, f"server-{number}", image, flavor, config_drive=config_drive)

    def make(self, cloud: Cloud, name: str, image: str, flavor: str, config_drive: bool = False) -> Server | None:
        """Make a server and wait until it runs; return None if it does not, which counts as broken."""
        body: dict[str, Any] = {
            "name": name,
            "imageRef": self.images[image],
            "flavorRef": self.flavors[flavor],
            "config_drive": config_drive,
        }
        if flavor == SECOND_EPHEMERAL:
            local = {"destination_type": "local", "delete_on_termination": True}
            body["block_device_mapping_v2"] = [
                {"source_type": "image", "uuid": self.images[image], "boot_index": 0, **local},
                {"source_type": "blank", "volume_size": 1, "boot_index": -1, **local},
                {"source_type": "blank", "volume_size": 2, "boot_index": -1, **local},
            ]
        server = None
        try:
            server = Server(cloud.create(body), image, flavor)
            with self._lock:
                self.servers.append(server)
            cloud.wait(server.id, "ACTIVE")
        except Broken as exc:
            self._report(server, f"make {name} of {image} and {flavor}", exc)
            return None
        self._finish(server, "make")
        return server

    def _do(self, cloud: Cloud, server: Server, step: str, rescue_image: str | None = None) -> None:
        target = "ACTIVE"
        if step in STEPS[server.state]:
            target = STEPS[server.state][step][1]
        try:
            if step == "resize":
                with self._lock:
                    flavor = self._random.choice(RESIZES[server.flavor])
                server.former_flavors.append(server.flavor)
                server.flavor = flavor
                cloud.act(server.id, "resize", {"flavorRef": self.flavors[flavor]})
            elif step == "rescue":
                with self._lock:
                    other = self._random.choice([name for name in self.images if name != server.image])
                cloud.act(server.id, "rescue", {"rescue_image_ref": rescue_image or self.images[other]})
            elif step == "soft delete":
                cloud.delete(server.id)
            else:
                cloud.act(server.id, *ACTIONS[step])
            cloud.wait(server.id, target)
        except Broken as exc:
            self._report(server, f"{step} {server.id} ({server.state}, {server.image}, {server.flavor})", exc)
            return
        if step == "revert":
            server.former_flavors.append(server.flavor)
            server.flavor = server.former_flavors[-2]
        server.state = target
        if target == GONE:
            with self._lock:
                self.servers.remove(server)
        self._finish(server, step)

    def _finish(self, server: Server, step: str) -> None:
        with self._lock:
            self.done[step] += 1
            server.busy = False

    def _report(self, server: Server | None, what: str, exc: Broken) -> None:
        """Note a failure; the server stays busy, so that nobody touches it and a look at it is possible."""
        print(f"BROKEN: {what}: {exc}", flush=True)
        with self._lock:
            self.broken.append(f"{what}: {exc}")
            if server in self.servers:
                self.servers.remove(server)
