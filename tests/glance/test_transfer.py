# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module fetches images from a real Glance: whole, or a sentence says why not; by hand, see `./test glance`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.tests.support.host import Host, format_of, qemu_img_create
from ansible_collections.stackops.nova.tests.support.image_server import certificate
from ansible_collections.stackops.nova.tests.support.image_service import Auth, ImageService
from ansible_collections.stackops.nova.tests.support.processes import needs_root, start_child
from ansible_collections.stackops.nova.tests.support.run_module import ModuleRun, run_module
from ansible_collections.stackops.nova.tools.cache_tree import fingerprint

pytestmark = needs_root

PART = "image_cache_precache"
LARGE_BYTES = 64 << 20
# So slow that something can happen in the middle of a large image.
SLOW = "16M"


class Operator:
    """Pre-caches images on a host with the module, and a token that can read images and nothing else."""

    def __init__(self, host: Host, service: ImageService, token: str) -> None:
        self._options = {**host.options(), "min_free_space": 0}
        self._glance = {"endpoint": service.endpoint, "token": token, "ca_cert": str(service.ca_cert)}

    def precache(self, *images: dict[str, Any], glance: dict[str, Any] | None = None, **options: Any) -> ModuleRun:
        """Pre-cache images, of which these are the records."""
        given = {**self._options, "images": images, "glance": {**self._glance, **(glance or {})}, **options}
        return run_module("image_cache_precache", given)


@pytest.fixture
def operator(host: Host, service: ImageService, reader: Auth) -> Operator:
    return Operator(host, service, service.connect(reader).auth_token)


@pytest.fixture
def large(tmp_path: Path, service: ImageService) -> dict[str, Any]:
    """An image that takes a while."""
    path = tmp_path / "large.raw"
    path.write_bytes(os.urandom(LARGE_BYTES))
    return service.upload(path)


def base(host: Host, image: dict[str, Any]) -> Path:
    return host.cache_path / fingerprint(image["id"])


def ids(run: ModuleRun, part: str) -> list[str]:
    """The images in a part of the result, in order."""
    return [each["image_id"] for each in run.result[PART][part]]


def nothing_but(host: Host, *images: dict[str, Any]) -> bool:
    """Whether these images, whole, and what is saved of them are all that is in the cache and all that takes space."""
    files = [path for path in host.root.rglob("*") if path.is_file()]
    named = {base(host, image) for image in images}
    cached = {path for path in files if path.parent == host.cache_path and path.suffix != ".info"}
    status = os.statvfs(host.root)
    taken = (status.f_blocks - status.f_bfree) * status.f_frsize
    return cached == named and taken == sum(path.stat().st_blocks * 512 for path in files)


def test_raw_and_qcow2_images_come_whole_over_tls(
    host: Host, operator: Operator, service: ImageService, raw: Path, qcow2: Path
) -> None:
    images = [service.upload(raw), service.upload(qcow2, "qcow2")]
    run = operator.precache(*images)
    assert (run.failed, ids(run, "fetched")) == (False, [image["id"] for image in images]), run.result
    assert [base(host, image).read_bytes() for image in images] == [raw.read_bytes()] * 2
    assert nothing_but(host, *images)
    assert [service.downloads(image["id"]) for image in images] == [[0], [0]]


def test_qcow2_image_is_kept_as_it_is_where_nova_keeps_it(
    host: Host, operator: Operator, service: ImageService, qcow2: Path, tmp_path: Path
) -> None:
    (tmp_path / "nova.conf").write_text("[DEFAULT]\nforce_raw_images = false\n")
    image = service.upload(qcow2, "qcow2")
    run = operator.precache(image, config_file=str(tmp_path / "nova.conf"))
    assert (run.failed, format_of(base(host, image))) == (False, "qcow2"), run.result
    assert base(host, image).read_bytes() == qcow2.read_bytes()


@pytest.mark.parametrize("trusted", ["the system's", "another server's"])
def test_certificate_that_is_not_trusted_stops_the_transfer(
    host: Host, operator: Operator, service: ImageService, raw: Path, tmp_path: Path, trusted: str
) -> None:
    ca_cert = None if trusted == "the system's" else str(certificate(tmp_path))
    image = service.upload(raw)
    run = operator.precache(image, glance={"ca_cert": ca_cert})
    [failed] = run.result[PART]["failed"]
    assert run.failed
    assert "Its certificate is not trusted" in failed["error"]
    assert "Set glance.ca_cert" in failed["error"]
    assert nothing_but(host)
    assert service.downloads(image["id"]) == []


def queued(service: ImageService, _raw: Path) -> dict[str, Any]:
    return service.upload(None)


def deactivated(service: ImageService, raw: Path) -> dict[str, Any]:
    image = service.upload(raw)
    service.deactivate(image["id"])
    return service.record(image["id"])


def without_checksum(service: ImageService, raw: Path) -> dict[str, Any]:
    image = service.upload(raw)
    service.forget_checksum(image["id"])
    return service.record(image["id"])


def vmdk(service: ImageService, raw: Path) -> dict[str, Any]:
    path = qemu_img_create(raw.with_suffix(".vmdk"), "-f", "vmdk", "-o", "subformat=streamOptimized")
    return service.upload(path, "vmdk")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (queued, "the image's status is queued and not active"),
        (deactivated, "the image's status is deactivated and not active"),
        (without_checksum, "by Glance's record the image has no checksum by sha256 or sha512 (os_hash_algo)"),
        (vmdk, "It has the format vmdk, and only raw and qcow2 images are pre-cached"),
    ],
)
def test_image_that_cannot_be_proven_or_cached_is_refused(
    host: Host, operator: Operator, service: ImageService, raw: Path, make: Any, reason: str
) -> None:
    image, other = make(service, raw), service.upload(raw)
    run = operator.precache(image, other)
    assert (run.failed, ids(run, "refused"), ids(run, "fetched")) == (True, [image["id"]], [other["id"]]), run.result
    assert reason in run.result[PART]["refused"][0]["reason"]
    assert nothing_but(host, other)
    assert service.downloads(image["id"]) == []


def test_image_that_was_deactivated_meanwhile_is_not_fetched(
    host: Host, operator: Operator, service: ImageService, raw: Path
) -> None:
    image = service.upload(raw)
    service.deactivate(image["id"])
    run = operator.precache(image)
    [failed] = run.result[PART]["failed"]
    assert "for instance because the image is deactivated. Look at its status" in failed["error"]
    assert nothing_but(host)


def test_image_that_rots_in_the_store_is_not_put_in_place(
    host: Host, operator: Operator, service: ImageService, raw: Path
) -> None:
    image = service.upload(raw)
    service.damage(image["id"])
    run = operator.precache(image)
    [failed] = run.result[PART]["failed"]
    assert "with other bytes than its record says" in failed["error"]
    assert nothing_but(host)


def test_glance_that_dies_in_the_middle_leaves_nothing_and_a_second_run_fetches_the_image(
    host: Host, operator: Operator, service: ImageService, raw: Path, large: dict[str, Any]
) -> None:
    before, brought = service.upload(raw), service.upload(raw)
    images = (before, large, brought)
    files = {brought["id"]: str(raw)}
    finish = start_child(lambda: operator.precache(*images, files=files, max_rate=SLOW))
    try:
        service.wait_until_in_the_middle(large["id"])
    finally:
        service.kill_glance()
        run = finish()
        service.start_glance()
    [failed] = run.result[PART]["failed"]
    assert (ids(run, "fetched"), failed["image_id"]) == ([before["id"], brought["id"]], large["id"]), run.result
    assert f"of {LARGE_BYTES} bytes came. The connection failed: Connection refused. Check" in failed["error"]
    assert nothing_but(host, before, brought)

    again = operator.precache(*images, files=files)
    assert (again.failed, ids(again, "fetched")) == (False, [large["id"]]), again.result
    assert base(host, large).read_bytes() == service.stored(large["id"]).read_bytes()
    assert nothing_but(host, *images)


def test_transfer_goes_on_where_it_was_after_a_worker_of_glance_died(
    host: Host, operator: Operator, service: ImageService, large: dict[str, Any]
) -> None:
    finish = start_child(lambda: operator.precache(large, max_rate=SLOW))
    try:
        service.wait_until_in_the_middle(large["id"])
    finally:
        service.kill_workers()
        run = finish()
    assert not run.failed, run.result
    assert base(host, large).read_bytes() == service.stored(large["id"]).read_bytes()
    [fetched] = run.result[PART]["fetched"]
    assert fetched["read_bytes"] == LARGE_BYTES
    first, resumed = service.downloads(large["id"])
    assert (first, resumed > 0) == (0, True)
    assert nothing_but(host, large)


def test_token_that_becomes_invalid_in_the_middle_is_named_where_the_transfer_cannot_go_on(
    host: Host, service: ImageService, large: dict[str, Any]
) -> None:
    operator = Operator(host, service, service.connect(service.add_user("leaving", "member")).auth_token)
    finish = start_child(lambda: operator.precache(large, max_rate=SLOW))
    try:
        service.wait_until_in_the_middle(large["id"])
        service.disable_user("leaving")
    finally:
        service.kill_workers()
        run = finish()
    [failed] = run.result[PART]["failed"]
    assert "It does not accept the token any more (HTTP status 401). Set glance.token" in failed["error"]
    assert nothing_but(host)


def test_qcow2_image_is_what_qemu_makes_of_it(
    host: Host, operator: Operator, service: ImageService, qcow2: Path
) -> None:
    image = service.upload(qcow2, "qcow2")
    assert not operator.precache(image).failed
    compared = ["qemu-img", "compare", "-f", "raw", "-F", "qcow2", base(host, image), service.stored(image["id"])]
    subprocess.run(compared, check=True)
