# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a real Keystone gives to compute hosts: a token that can read images and nothing else, which is seen nowhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from ansible_collections.stackops.nova.tests.support.compute_fleet import ComputeFleet, Run, cached, names
from ansible_collections.stackops.nova.tests.support.image_service import Auth, ImageService
from ansible_collections.stackops.nova.tests.support.processes import needs_root

pytestmark = needs_root

MODULE = b"image_cache_precache"


@pytest.fixture
def image(service: ImageService, raw: Path) -> dict[str, Any]:
    return service.upload(raw)


def precache(fleet: ComputeFleet, image: dict[str, Any], *arguments: str, **variables: Any) -> Run:
    variables = {"image_cache_precache_images": [image["id"]], **variables}
    return fleet.run_playbook("stackops.nova.precache", *arguments, **variables)


@contextmanager
def processes_seen() -> Iterator[set[bytes]]:
    """Look all the while at what every process shows of itself: its arguments and its environment."""
    seen: set[bytes] = set()
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(0.01):
            for process in Path("/proc").iterdir():
                if process.name.isdecimal():
                    for part in ("cmdline", "environ"):
                        with suppress(OSError):  # it ended
                            seen.add((process / part).read_bytes())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        is_over.set()
        looking.join()


def test_credential_for_reading_images_can_do_nothing_else(
    service: ImageService, reader: Auth, image: dict[str, Any]
) -> None:
    token = service.connect(reader).auth_token
    path = f"{service.endpoint}/v2/images/{image['id']}"

    def status(method: str, url: str) -> int:
        body = None if method == "GET" else {}
        headers = {"X-Auth-Token": token}
        return requests.request(method, url, headers=headers, json=body, verify=service.ca_cert, timeout=60).status_code

    for url in (f"{service.endpoint}/v2/images", path, f"{path}/file"):
        assert (url, status("GET", url)) == (url, 200)
    for method, url in (
        ("POST", f"{service.endpoint}/v2/images"),
        ("PATCH", path),
        ("DELETE", path),
        ("PUT", f"{path}/file"),
        ("POST", f"{path}/actions/deactivate"),
        ("GET", f"{path}/members"),
        ("PUT", f"{path}/tags/mine"),
        ("GET", f"{service.endpoint}/v2/tasks"),
        ("GET", f"{service.endpoint}/v2/metadefs/namespaces"),
        ("GET", f"{service.identity}/users"),
        ("GET", f"{service.identity}/projects"),
        ("GET", f"{service.identity}/auth/projects"),
    ):
        assert (method, url, status(method, url)) in {(method, url, 401), (method, url, 403)}


def test_token_of_an_administrator_is_refused_unless_allowed(
    fleet: ComputeFleet, service: ImageService, image: dict[str, Any]
) -> None:
    tree = fleet.add("a")
    service.write_clouds(fleet.root, lab=service.admin_auth)
    run = precache(fleet, image)
    assert run.failed == {"a"}, run.output
    assert "its token has the role admin, and every compute host would get it" in run.messages["a"]
    assert not names(image["id"]) & cached(tree)
    allowed = precache(fleet, image, image_cache_allow_admin_token=True)
    assert (allowed.status, names(image["id"]) <= cached(tree)) == (0, True), allowed.output


@pytest.mark.parametrize("outcome", ["fetched", "failed"])
def test_token_is_in_no_result_log_process_or_file(
    fleet: ComputeFleet, service: ImageService, reader: Auth, image: dict[str, Any], outcome: str
) -> None:
    tree = fleet.add("a")
    temporary = fleet.root / "temporary"
    temporary.mkdir()
    fleet.environment["TMPDIR"] = str(temporary)
    if outcome == "failed":
        service.damage(image["id"])
    known = service.tokens()
    with processes_seen() as seen:
        # Slow enough for every process to be seen.
        run = precache(fleet, image, "-vvvv", "--diff", image_cache_precache_max_rate="3M")
    tokens = service.tokens() - known
    assert len(tokens) >= 2  # for the list, and for the host
    assert (run.status == 0, names(image["id"]) <= cached(tree)) == (outcome == "fetched",) * 2, run.output
    assert any(MODULE in each for each in seen)

    secrets = [*tokens, reader["application_credential_secret"]]
    files = [path for path in fleet.root.rglob("*") if path.is_file() and path.name != "clouds.yaml"]
    for secret in secrets:
        assert secret not in run.output
        assert secret not in str(run.results)
        assert not any(secret.encode() in each for each in seen)
        assert [path for path in files if secret.encode() in path.read_bytes()] == []
    assert [*temporary.iterdir(), *(fleet.root / "remote_tmp").iterdir()] == []
