# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts get an endpoint and a token with which they can read images, and nobody else gets that token."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.glance import (
    list_images,
    log_in,
    once_per_api,
    redact,
    run_with_token,
)
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import PrecacheOptions
from ansible_collections.stackops.nova.tests.support.openstack_apis import Cloud, captured, cloud, write_clouds
from ansible_collections.stackops.nova.tests.support.remedies import has_remedy

LAB = PrecacheOptions(cloud="lab")
TRUSTED = PrecacheOptions(cloud="lab", allow_admin_token=True)


@pytest.fixture
def apis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str) -> Iterator[Cloud]:
    with cloud() as running:
        running.roles, running.token = ["accounting", "reader"], token
        use(monkeypatch, write_clouds(tmp_path, {"lab": running.url, "far": "http://127.0.0.1:9"}))
        yield running


def use(monkeypatch: pytest.MonkeyPatch, clouds: Path) -> None:
    """Leave only this configuration to openstacksdk."""
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(clouds))
    monkeypatch.chdir(clouds.parent)
    monkeypatch.setenv("HOME", str(clouds.parent))
    for name in ("OS_CLOUD", "OS_REGION_NAME"):
        monkeypatch.delenv(name, raising=False)


def test_whole_list_comes_with_the_endpoint_and_without_a_token(apis: Cloud) -> None:
    apis.images["lab"][0]["os_hidden"] = True
    listed = list_images(LAB)
    assert {image["id"] for image in listed.images} == {image["id"] for image in captured("images", "images")}
    assert (listed.endpoint, listed.problem) == (f"{apis.url}/lab/image", "")
    assert apis.token not in repr(listed)
    assert apis.count("/auth/tokens") == 1


def test_api_is_asked_once_for_all_hosts_that_ask_it() -> None:
    asked = []

    def ask(options: PrecacheOptions) -> str:
        asked.append(options.cloud)
        return f"images of {options.cloud}"

    ask_once = once_per_api(ask)
    far = PrecacheOptions(cloud="far")
    assert [ask_once(options) for options in (LAB, far, LAB)] == ["images of lab", "images of far", "images of lab"]
    assert asked == ["lab", "far"]


def test_each_login_gets_a_token_of_its_own(apis: Cloud) -> None:
    first, second = log_in(LAB), log_in(LAB)
    assert (first.endpoint, first.token) == (f"{apis.url}/lab/image", apis.tokens[0])
    assert second.token == apis.tokens[1]
    assert apis.token not in repr(first)


@pytest.mark.parametrize("role", ["admin", "Admin"])
def test_token_with_the_role_admin_is_refused_unless_allowed(apis: Cloud, role: str) -> None:
    apis.roles = ["member", role]
    with pytest.raises(ImageCacheError) as caught:
        log_in(LAB)
    assert "its token has the role admin, and every compute host would get it" in str(caught.value)
    assert list_images(LAB).problem == str(caught.value)
    assert apis.token not in str(caught.value)
    assert log_in(TRUSTED).token in apis.tokens
    assert list_images(TRUSTED).problem == ""


def test_token_of_unknown_roles_is_refused_unless_allowed(apis: Cloud, tmp_path: Path) -> None:
    auth = {"token": "gAAAA-secret", "endpoint": f"{apis.url}/lab/image/v2"}
    lab = {"auth_type": "admin_token", "auth": auth, "region_name": "lab"}
    (tmp_path / "clouds.yaml").write_text(json.dumps({"clouds": {"lab": lab}}))
    with pytest.raises(ImageCacheError, match="the roles of its token are unknown") as caught:
        log_in(LAB)
    assert "secret" not in str(caught.value)
    assert log_in(TRUSTED).token == "gAAAA-secret"


def test_cloud_without_authentication_has_no_token(apis: Cloud, tmp_path: Path) -> None:
    lab = {"auth_type": "none", "image_endpoint_override": f"{apis.url}/lab/image/v2"}
    (tmp_path / "clouds.yaml").write_text(json.dumps({"clouds": {"lab": lab}}))
    access = log_in(LAB)
    assert (access.endpoint, access.token) == (f"{apis.url}/lab/image", None)


@pytest.mark.usefixtures("apis")
def test_cloud_that_has_neither_authentication_nor_an_endpoint_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "clouds.yaml").write_text(json.dumps({"clouds": {"lab": {"auth_type": "none"}}}))
    with pytest.raises(ImageCacheError, match="Nothing was fetched from Glance of lab: it cannot be used: "):
        log_in(LAB)


def test_interface_that_the_catalogue_lacks_is_named(apis: Cloud) -> None:
    problem = list_images(PrecacheOptions(cloud="lab", interface="internal")).problem
    assert "internal endpoint for image service in lab region not found" in problem
    assert has_remedy(problem)
    assert apis.tokens


@pytest.mark.usefixtures("apis")
def test_region_that_the_cloud_does_not_have_is_a_problem() -> None:
    listed = list_images(PrecacheOptions(cloud="lab", region="nowhere"))
    assert listed.images == ()
    assert listed.problem.startswith("Nothing was fetched from Glance of lab, region nowhere: ")


def test_catalogue_without_glance_is_a_problem(apis: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = [service for service in apis.catalogue() if service["type"] != "image"]
    monkeypatch.setattr(apis, "catalogue", lambda: catalogue)
    listed = list_images(LAB)
    assert listed.images == ()
    assert has_remedy(listed.problem)


@pytest.mark.parametrize("url", [5, "", None])
def test_endpoint_that_is_no_address_is_a_problem(apis: Cloud, monkeypatch: pytest.MonkeyPatch, url: object) -> None:
    catalogue = apis.catalogue()
    for service in catalogue:
        if service["type"] == "image":
            service["endpoints"][0]["url"] = url
    monkeypatch.setattr(apis, "catalogue", lambda: catalogue)
    listed = list_images(LAB)
    assert listed.images == ()
    assert has_remedy(listed.problem)


@pytest.mark.parametrize(
    ("trouble", "troubled"), [("401", "/auth/tokens"), ("500", "/images"), ("rubbish", "/images"), ("hang", "/images")]
)
def test_api_that_does_not_answer_properly_is_a_problem_without_secrets(
    apis: Cloud, trouble: str, troubled: str
) -> None:
    apis.trouble, apis.troubled = trouble, troubled
    listed = list_images(LAB, request_seconds=0.5)
    assert (listed.images, listed.endpoint) == ((), "")
    assert listed.problem.startswith("Nothing was fetched from Glance of lab: ")
    assert has_remedy(listed.problem)
    assert "secret" not in listed.problem


def test_token_is_redacted_wherever_it_stands() -> None:
    value = {"msg": "GET failed with gAAAA", "list": ["gAAAA", {"gAAAA": ("x", 5, None, True)}]}
    assert redact(value, "gAAAA") == {
        "msg": "GET failed with (the token)",
        "list": ["(the token)", {"(the token)": ["x", 5, None, True]}],
    }
    assert redact(value, None) is value


class TestRunWithToken:
    def test_module_gets_the_token_and_its_result_has_none(self, apis: Cloud) -> None:
        given: list[Mapping[str, Any]] = []

        def run(options: Mapping[str, Any]) -> dict[str, Any]:
            given.append(options)
            return {"changed": True, "invocation": dict(options)}

        result = run_with_token(PrecacheOptions(cloud="lab", glance={"max_rate": 5}), run)
        access = {"endpoint": f"{apis.url}/lab/image", "max_rate": 5}
        assert given == [{"glance": {**access, "token": apis.tokens[0]}}]
        assert result == {"changed": True, "invocation": {"glance": {**access, "token": "(the token)"}}}

    def test_module_of_a_cloud_without_authentication_gets_no_token(self, apis: Cloud, tmp_path: Path) -> None:
        lab = {"auth_type": "none", "image_endpoint_override": f"{apis.url}/lab/image/v2"}
        (tmp_path / "clouds.yaml").write_text(json.dumps({"clouds": {"lab": lab}}))
        assert run_with_token(LAB, dict) == {"glance": {"endpoint": f"{apis.url}/lab/image"}}

    def test_module_is_not_run_without_a_token_that_a_host_may_have(self, apis: Cloud) -> None:
        apis.roles = ["admin"]
        result = run_with_token(LAB, lambda _options: pytest.fail("It was run."))
        assert result["failed"]
        assert "its token has the role admin" in result["msg"]

    def test_unforeseen_fault_of_a_module_fails_without_the_token(self, apis: Cloud) -> None:
        def run(options: Mapping[str, Any]) -> dict[str, Any]:
            raise ValueError(f"cannot send {options}")

        result = run_with_token(LAB, run)
        assert result["failed"]
        assert result["msg"].startswith("The module could not be run. Run the play again with -vvv, and see why: ")
        assert "cannot send" in result["msg"]
        assert apis.tokens[0] not in result["msg"]

    def test_api_that_hangs_is_given_up(self, apis: Cloud) -> None:
        apis.trouble, apis.troubled = "hang", "/auth/tokens"
        result = run_with_token(LAB, lambda _options: pytest.fail("It was run."), request_seconds=0.5)
        assert result["failed"]
