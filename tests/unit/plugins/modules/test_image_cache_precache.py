# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module from its options to its result; what is in the result is tested where it is made."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.stackops.nova.tests.support.constants import BASE, IMAGE, OTHER_IMAGE
from ansible_collections.stackops.nova.tests.support.host import Host, picture
from ansible_collections.stackops.nova.tests.support.records import record
from ansible_collections.stackops.nova.tests.support.run_module import run_ansible, run_module

CONTENT = b"an image".ljust(1 << 20, b"\0")
PART = "image_cache_precache"


@pytest.fixture
def options(host: Host) -> dict[str, Any]:
    """An image that an operator has brought to a host, with Glance's record of it."""
    path = host.root / "cirros.raw"
    path.write_bytes(CONTENT)
    return {**host.options(), "files": {IMAGE: str(path)}, "images": [record(CONTENT)], "min_free_space": 0}


def test_check_mode_shows_what_would_be_fetched_before_a_run_does_so(host: Host, options: dict[str, Any]) -> None:
    before = picture(host.root)
    dry = run_module("image_cache_precache", options, "--check")
    assert picture(host.root) == before
    run = run_module("image_cache_precache", options)
    second = run_module("image_cache_precache", options)
    assert [image["name"] for image in dry.result[PART]["fetched"]] == [BASE]
    assert [image["name"] for image in run.result[PART]["fetched"]] == [BASE]
    assert [image["name"] for image in second.result[PART]["present"]] == [BASE]
    assert (dry.result["changed"], run.result["changed"], second.result["changed"]) == (True, True, False)
    assert (dry.failed, run.failed, second.failed) == (False, False, False)
    assert (host.cache_path / BASE).read_bytes() == CONTENT


def test_refused_image_fails_the_task_with_the_whole_result(options: dict[str, Any]) -> None:
    other = {**options["images"][0], "id": OTHER_IMAGE}
    run = run_module("image_cache_precache", {**options, "images": [other, *options["images"]]})
    assert run.failed
    assert OTHER_IMAGE in run.result["msg"]
    assert [image["image_id"] for image in run.result[PART]["refused"]] == [OTHER_IMAGE]
    assert [image["image_id"] for image in run.result[PART]["fetched"]] == [IMAGE]


def test_invalid_option_fails_the_task(options: dict[str, Any]) -> None:
    run = run_module("image_cache_precache", {**options, "files": {IMAGE: "relative"}})
    assert run.failed
    assert "files" in run.result["msg"]
    assert "Traceback" not in run.errors


def test_image_id_of_an_instance_is_shown(options: dict[str, Any]) -> None:
    """Records of instances are not logged. What is in them is no secret."""
    run = run_module("image_cache_precache", {**options, "instances": [{"uuid": IMAGE, "image_ref": IMAGE}]})
    assert run.result[PART]["fetched"][0]["image_id"] == IMAGE


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://127.0.0.1:1/image",
        "http://127.0.0.1:1/{token}",
        "http://127.0.0.1:1/?{token}",
        "http://{token}@127.0.0.1:1",
        "nothing",
    ],
)
@pytest.mark.parametrize("flags", [(), ("--check",)])
def test_token_is_never_shown(
    host: Host,
    options: dict[str, Any],
    endpoint: str,
    flags: tuple[str, ...],
    token: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    # A file that a user gives to Ansible may hold it.
    variables = tmp_path_factory.mktemp("variables") / "glance.json"
    variables.write_text(json.dumps({"glance": {"endpoint": endpoint.format(token=token), "token": token}}))
    options = {**options, "files": {}, "glance": "{{ glance }}"}
    done = run_ansible("image_cache_precache", options, *flags, "--extra-vars", f"@{variables}")
    assert "image_cache_precache" in (host.root / "ansible.log").read_text()
    assert token not in done.stdout + done.stderr
