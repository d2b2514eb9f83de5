# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What `ansible-doc` shows is what the modules take and return."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import subprocess
import sys
from enum import Enum
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.argspec import (
    argument_spec,
    audit_argument_spec,
    precache_argument_spec,
    restore_argument_spec,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch import novas_lock
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.candidates import State as LossState
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.proof import Proof
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.names import Kind, fingerprint
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.plan import KeptReason, Reason, State
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.verification_result import (
    ChecksumReason,
    VerificationState,
)
from ansible_collections.stackops.nova.tests.support.constants import BASE, IMAGE, OTHER_BASE, OTHER_IMAGE, UUID
from ansible_collections.stackops.nova.tests.support.host import DAY, HOUR, Host
from ansible_collections.stackops.nova.tests.support.params import (
    DEFAULTS,
    PRECACHE_DEFAULTS,
    RESTORE_DEFAULTS,
)
from ansible_collections.stackops.nova.tests.support.processes import nova_compute
from ansible_collections.stackops.nova.tests.support.records import record
from ansible_collections.stackops.nova.tests.support.run_module import collections_path

MODULES = {
    "image_cache_facts": audit_argument_spec(),
    "image_cache_prune": audit_argument_spec(),
    "image_cache_restore": restore_argument_spec(),
    "image_cache_precache": precache_argument_spec(),
}
TYPES = {str: "str", bool: "bool", int: "int", float: "float", list: "list", dict: "dict"}
# Keys of a result that mean something to Ansible: what a module puts there is lost or misunderstood.
RESERVED = {"changed", "diff", "exception", "failed", "invocation", "msg", "rc", "results", "skipped", "warnings"}

ORPHAN = "b38dfd14-56ca-498e-a719-33ff1449d100"


@pytest.fixture(scope="module")
def documented() -> dict[str, Any]:
    names = [f"stackops.nova.{name}" for name in MODULES]
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "doc", "--type", "module", "--json", *names],
        check=True,
        capture_output=True,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": collections_path()},
    )
    return {name.rpartition(".")[2]: pages for name, pages in json.loads(done.stdout).items()}


def _without_words(options: dict[str, Any]) -> dict[str, Any]:
    """What the documentation says of options, as an argument spec."""
    return {
        name: {
            "options" if key == "suboptions" else key: _without_words(value) if key == "suboptions" else value
            for key, value in option.items()
            if key not in ("description", "version_added") and (key, value) != ("required", False)
        }
        for name, option in options.items()
    }


def _documentable(spec: dict[str, Any]) -> dict[str, Any]:
    """An argument spec without no_log, for which the documentation has no word."""
    return {
        name: {
            key: _documentable(value) if key == "options" else value for key, value in option.items() if key != "no_log"
        }
        for name, option in spec.items()
    }


class TestOptions:
    @pytest.mark.parametrize("module", MODULES)
    def test_each_option_is_documented_as_the_module_takes_it(self, documented: dict[str, Any], module: str) -> None:
        options = _without_words(documented[module]["doc"]["options"])
        assert options == _documentable(MODULES[module])

    def test_each_option_is_known_to_the_tests(self) -> None:
        assert {name: option.get("default") for name, option in argument_spec().items()} == DEFAULTS
        assert {name: option.get("default") for name, option in restore_argument_spec().items()} == {
            **DEFAULTS,
            **RESTORE_DEFAULTS,
        }
        assert {name: option.get("default") for name, option in precache_argument_spec().items()} == {
            **DEFAULTS,
            **PRECACHE_DEFAULTS,
            "images": None,
        }


class TestReturnValues:
    @pytest.fixture
    def busy(self, host: Host) -> Host:
        """A host on which no list of the result is empty."""
        host.base(BASE, age=3 * DAY)
        (host.cache_path / f"{BASE}.info").write_text(json.dumps({"sha1": "0" * 40}))
        host.base("swap_64", age=3 * DAY)
        host.base("swap_128", age=3 * DAY)
        host.base("swap_256", age=HOUR)
        (host.cache_path / "swap_64.info").mkdir()
        host.instance(UUID, {"disk": BASE})
        host.instance(ORPHAN, {"disk": "gone"})
        host.compute_nodes({"other": host.now})
        return host

    def options(self, **given: Any) -> dict[str, Any]:
        instance = {"uuid": UUID, "image_ref": IMAGE, "host": "vm"}
        return {"instances": [instance], "instances_complete_for": ["other"], "checksum_base_images": True, **given}

    def test_host_of_these_tests_leaves_no_list_empty(self, busy: Host) -> None:
        result = busy.prune(**self.options())
        assert result.facts["missing"] != []
        assert result.facts["orphans"] != []
        assert result.facts["corrupt"] != []
        assert result.facts["checksums"]["verified_files"] == 1
        assert result.facts["storage"]["users"] != []
        assert len(result.done["removed"]) == 2
        assert len(result.done["failed"]) == 1

    @pytest.mark.parametrize("details", ["summary", "images", "names", "files"])
    def test_result_of_an_audit_is_what_is_documented(
        self, documented: dict[str, Any], busy: Host, details: str
    ) -> None:
        busy.domain_xml(UUID, "instance-0000000a", IMAGE)
        facts = busy.audit(**self.options(details=details, libvirt=True, shared_storage=True)).facts
        assert facts["for_members"]["instances"] != []
        compare(documented["image_cache_facts"]["return"], {"ansible_facts": {"image_cache": facts}}, details)

    @pytest.mark.parametrize("details", ["summary", "images", "names", "files"])
    def test_result_of_an_audit_without_a_cache_is_what_is_documented(
        self, documented: dict[str, Any], host: Host, details: str
    ) -> None:
        host.cache_path.rmdir()
        facts = host.audit(details=details).facts
        compare(documented["image_cache_facts"]["return"], {"ansible_facts": {"image_cache": facts}}, details)

    @pytest.mark.parametrize("details", ["summary", "images", "names", "files"])
    @pytest.mark.parametrize("limits", [{}, {"max_used_space": 1 << 40}, {"max_removals": 0}])
    def test_result_of_a_prune_is_what_is_documented(
        self, documented: dict[str, Any], busy: Host, details: str, limits: dict[str, int]
    ) -> None:
        pages = copy.deepcopy(documented["image_cache_prune"]["return"])
        facts = documented["image_cache_facts"]["return"]["ansible_facts"]["contains"]["image_cache"]
        own = pages["image_cache"]["contains"]
        own.update({name: {**page, **own.get(name, {})} for name, page in facts["contains"].items()})
        result = busy.prune(**self.options(details=details, **limits))
        compare(pages, {"image_cache": {**result.facts, **result.done, "check_mode": False}}, details)

    def test_result_of_a_restore_is_what_is_documented(
        self, documented: dict[str, Any], host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(novas_lock, "_WAIT_SECONDS", 0)
        content = b"image".ljust(1 << 20, b"\0")
        brought = host.root / "image.raw"
        brought.write_bytes(content)
        host.base(BASE, content=b"rotten")
        (host.cache_path / f"{BASE}.info").write_text(json.dumps({"sha512": "0" * 128}))
        host.instance(UUID, {"disk": BASE})
        host.instance(ORPHAN, {"disk": OTHER_BASE, "disk.swap": "swap_64"})
        image = {"disk_format": "raw", "os_hash_algo": "sha512", "os_hash_value": hashlib.sha512(content).hexdigest()}
        with nova_compute() as nova:
            nova.take(OTHER_BASE, host.locks_path)
            result = host.restore(
                states=["missing", "corrupt"],
                files={IMAGE: str(brought), OTHER_IMAGE: str(brought)},
                images=[{"id": image_id, **image} for image_id in (IMAGE, OTHER_IMAGE)],
            )
        assert [len(result.done[part]) for part in ("restored", "refused", "failed", "set_aside")] == [1] * 4
        compare(documented["image_cache_restore"]["return"], {"image_cache_restore": result.done}, "summary")

    def test_result_of_precaching_is_what_is_documented(
        self, documented: dict[str, Any], host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(novas_lock, "_WAIT_SECONDS", 0)
        content = b"image".ljust(1 << 20, b"\0")
        brought = host.root / "image.raw"
        brought.write_bytes(content)
        host.base(fingerprint("present"), content=content)
        with nova_compute() as nova:
            nova.take(OTHER_BASE, host.locks_path)
            result = host.precache(
                files={IMAGE: str(brought), OTHER_IMAGE: str(brought)},
                images=[record(content, image_id) for image_id in (IMAGE, OTHER_IMAGE, "present", "refused")],
                min_free_space=0,
            )
        assert [len(result.done[part]) for part in ("fetched", "present", "refused", "failed")] == [1] * 4
        compare(documented["image_cache_precache"]["return"], {"image_cache_precache": result.done}, "summary")

    def test_keys_of_a_prune_differ_from_those_of_an_audit(self, busy: Host) -> None:
        result = busy.prune(**self.options())
        assert not result.facts.keys() & result.done.keys()

    @pytest.mark.parametrize("module", MODULES)
    def test_keys_of_a_result_differ_from_those_of_ansible(self, documented: dict[str, Any], module: str) -> None:
        assert not RESERVED & documented[module]["return"].keys()

    @pytest.mark.parametrize(
        ("path", "values"),
        [
            ("image_cache_facts ansible_facts image_cache files kind", Kind),
            ("image_cache_facts ansible_facts image_cache files state", State),
            ("image_cache_facts ansible_facts image_cache files reasons", Reason),
            ("image_cache_facts ansible_facts image_cache files checksum", VerificationState),
            ("image_cache_facts ansible_facts image_cache files checksum_reason", ChecksumReason),
            ("image_cache_prune image_cache kept reason", KeptReason),
            ("image_cache_restore image_cache_restore restored proof", Proof),
            ("image_cache_restore image_cache_restore restored state", LossState),
            ("image_cache_restore image_cache_restore refused state", LossState),
        ],
    )
    def test_each_value_of_an_enumeration_is_documented(
        self, documented: dict[str, Any], path: str, values: type[Enum]
    ) -> None:
        module, *keys = path.split()
        page: dict[str, Any] = {"contains": documented[module]["return"]}
        for key in keys:
            page = page["contains"][key]
        explained = set(re.findall(r"V\((\w+)\)", str(page["description"])))
        assert explained - {"none"} == {member.value for member in values}


def compare(pages: dict[str, Any], returned: dict[str, Any], details: str) -> None:
    """Compare what is documented with what is returned, at every level."""
    conditions = {name: page["returned"] for name, page in pages.items()}
    expected = {name for name, when in conditions.items() if "O(" not in when or f"details={details})" in when}
    assert returned.keys() == expected
    for name, value in returned.items():
        page = pages[name]
        if value is None:
            continue
        assert TYPES[type(value)] == page["type"], name
        for element in value if page["type"] == "list" else ():
            assert TYPES[type(element)] == page["elements"], name
        if "contains" in page:
            for part in value if page["type"] == "list" else [value]:
                compare(page["contains"], part, details)
