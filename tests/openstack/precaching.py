# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pre-caches images on the host of a real nova by the playbook, and boots servers of them."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from . import host
from .nova_log import next_nova_pass
from .scene import Play, Scene, run_scenarios

GLANCE_LOG = Path("/var/log/glance/glance-api.log")
HOUR = 3600
NOVAS_MINIMUM_AGE = 365 * 24 * HOUR  # of this cloud: a file of that age is one of a day in others
LEFT_AT_FIRST = 24 * HOUR


def refused(scene: Scene) -> None:
    """A token with the role admin is given to no host."""
    scene.make_image("refused", "raw", visibility="public")
    play = scene.play("precache", precache_images=["refused"])
    scene.expect(play.status == 2 and "image_cache_allow_admin_token" in play.text, f"it is refused: {play.text}")


def booted(scene: Scene) -> None:
    """A server boots from a pre-cached image, and nova downloads nothing."""
    host.wait_for_nova()
    for disk_format in ("raw", "qcow2"):
        name = f"booted-{disk_format}"
        image = scene.make_image(name, disk_format, visibility="public")
        path = host.CACHE / host.fingerprint(image)

        with host.nova_halted():
            before = host.entries()
            dry_run = _precache(scene, name, "--check")
            scene.expect(host.entries() == before, "the dry run writes nothing")
        scene.expect("would be fetched by 1 host" in dry_run.text, f"the dry run shows {name}: {dry_run.text}")
        scene.expect(_downloads(image) == 0, f"the dry run downloads nothing: {_downloads(image)}")

        fetched = _precache(scene, name)
        scene.expect(fetched.status == 0 and "fetched by 1 host" in fetched.text, f"the run fetches it: {fetched.text}")
        scene.expect(host.digest(path) == host.digest(scene.work / f"{name}.raw"), f"{path} has the image's content")
        scene.expect(_downloads(image) == 1, f"Glance served {name} once: {_downloads(image)}")

        inode = path.stat().st_ino
        guest = scene.boot(name, image)
        scene.expect(_downloads(image) == 1, f"nova downloaded nothing of {name}: {_downloads(image)}")
        scene.expect(path.stat().st_ino == inode, f"nova made {path} not again")
        scene.expect_survival(guest)


def raced(scene: Scene) -> None:
    """nova builds a server of an image while it is pre-cached."""
    for number in range(4):
        name = f"raced-{number}"
        image = scene.make_image(name, ("raw", "qcow2")[number % 2], visibility="public")
        flavor = scene.cloud.make_flavor(name, disk=0)
        server_id = scene.cloud.create({"name": name, "imageRef": image, "flavorRef": flavor})
        play = _precache(scene, name)
        scene.expect(play.status == 0, f"the playbook ends well: {play.text}")
        scene.cloud.wait(server_id, "ACTIVE")
        path = host.CACHE / host.fingerprint(image)
        scene.expect(host.digest(path) == host.digest(scene.work / f"{name}.raw"), f"{path} has the image's content")
        scene.expect(not list(host.CACHE.glob(f"{path.name}.*t*")), "nothing half done is left")


def kept(scene: Scene) -> None:
    """Run twice a day, a pre-cached image outlasts nova's passes of a night; run no more, it does not."""
    image = scene.make_image("kept", "raw", visibility="public")
    path = host.CACHE / host.fingerprint(image)
    _precache(scene, "kept")
    for hours in range(0, 24, 4):
        if hours == 12:
            again = _precache(scene, "kept")
            scene.expect("present on 1 host" in again.text, f"it is present: {again.text}")
            scene.expect(time.time() - path.stat().st_mtime < HOUR, "and marked as used now")
        _age(path, hours % 12 * HOUR)
        next_nova_pass()
        scene.expect(path.exists(), f"nova keeps it {hours} hours after the first run")
    scene.expect(_downloads(image) == 1, f"Glance served it once: {_downloads(image)}")
    pruned = scene.play("prune", remove_unused_original_minimum_age_seconds=0, details="files")
    scene.expect(pruned.status == 0 and path.exists(), f"our prune keeps it: {pruned.text}")
    _age(path, LEFT_AT_FIRST + HOUR)
    next_nova_pass()
    scene.expect(not path.exists(), "without a further run nova removes it after a day")


def _precache(scene: Scene, name: str, *options: str) -> Play:
    return scene.play("precache", *options, precache_images=[name], allow_admin_token=True)


def _downloads(image_id: str) -> int:
    """Return how often Glance served an image's bytes, to whomever."""
    return GLANCE_LOG.read_text(errors="replace").count(f"GET /v2/images/{image_id}/file")


def _age(path: Path, seconds: float) -> None:
    """Move a file's time into the past, as if nova's clock had gone on, and nova's minimum age were a day."""
    then = time.time() - NOVAS_MINIMUM_AGE + LEFT_AT_FIRST - seconds
    os.utime(path, (then, then))


if __name__ == "__main__":
    sys.exit(run_scenarios([refused, booted, raced, kept]))
