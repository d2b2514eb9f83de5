# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A module that fetches ends with a sentence, and hides the token, whatever goes wrong."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.module import (
    FetchResult,
    finish_module,
    take_params,
)

TOKEN = "gAAAA-secret"


class EndedError(Exception):
    """The module ended."""


class Module:
    """As much of Ansible's module as there is to see of it: its options, what it hides, and how it ends."""

    def __init__(self, **params: Any) -> None:
        self.params = params
        self.no_log_values = {"of an option of Ansible's"}
        self.answer: dict[str, Any] = {}

    def fail_json(self, **answer: Any) -> NoReturn:
        self.answer = {**answer, "failed": True}
        raise EndedError

    def exit_json(self, **answer: Any) -> NoReturn:
        self.answer = answer
        raise EndedError


def ended(module: Module, result: FetchResult | None) -> dict[str, Any]:
    """How a module ends with a result, or with a fault that nobody foresaw."""

    def run() -> FetchResult:
        if result is None:
            raise RuntimeError(f"no {TOKEN}")
        return result

    with pytest.raises(EndedError):
        finish_module(module, "image_cache_restore", run)  # type: ignore[arg-type]
    return module.answer


def test_token_is_hidden_and_no_option_with_it_is_left() -> None:
    module = Module(instances=["a record"], glance={"token": TOKEN, "endpoint": "http://glance"}, names=["a"])
    assert take_params(module)["glance"]["token"] == TOKEN  # type: ignore[arg-type]
    assert module.no_log_values == {TOKEN}
    assert module.params == {"instances": None, "glance": None, "names": ["a"]}


def test_fault_is_reported_without_the_token() -> None:
    answer = ended(Module(), None)
    assert answer["failed"]
    assert answer["msg"].startswith(f"The module ended early: RuntimeError: no {TOKEN}. Run it again")


def test_result_with_an_error_fails_the_task_and_is_whole() -> None:
    answer = ended(Module(), FetchResult({"restored": []}, True, [], "One is lost."))
    assert answer == {"changed": True, "image_cache_restore": {"restored": []}, "msg": "One is lost.", "failed": True}
