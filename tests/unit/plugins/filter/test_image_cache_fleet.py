# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.filter import image_cache_fleet as plugin
from ansible_collections.stackops.nova.plugins.filter.image_cache_stores import image_cache_stores
from ansible_collections.stackops.nova.tests.support.fleets import BASE, GIB, NOW, answer, done
from ansible_collections.stackops.nova.tests.support.host import DAY, Host


def audited(image_cache: dict[str, Any]) -> dict[str, Any]:
    """The variables of a host that was audited."""
    facts = {"image_cache": image_cache}
    return {"ansible_facts": facts, "__image_cache_audit": {"changed": False, "ansible_facts": facts}}


def pruned(image_cache: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The variables of a host that was pruned as well."""
    return {**audited(image_cache), "__image_cache_pruned": {"image_cache": image_cache, **more}}


def unreachable(message: str = "ssh: No route to host") -> dict[str, Any]:
    return {"__image_cache_audit": {"unreachable": True, "msg": message}}


def failed(message: str = "It went wrong.", **more: Any) -> dict[str, Any]:
    return {"__image_cache_audit": {"failed": True, "msg": message, **more}}


def fleet_of(hostvars: dict[str, dict[str, Any]], **more: Any) -> dict[str, Any]:
    return plugin.image_cache_fleet(list(hostvars), hostvars, **{"now": NOW, **more})


def troubled(name: str, *, check_mode: bool = False) -> dict[str, Any]:
    """A fleet with something of each sort that needs a person, in which all that has a name has this one."""
    bad = answer(
        name,
        missing=[{"backing_file": name, "instances": [name] * 5}],
        corrupt=[{"name": name, "used_by": [name]}],
        orphans=[name],
        **done(name, name, failed=[{"name": name, "error": name}], kept=[{"name": name, "reason": "locked"}]),
    )
    bad["store"]["id"] = name
    refused = answer(name, unknown_use=[name], **done())
    shared = answer(name, **done(name))
    return fleet_of(
        {
            f"1{name}": pruned(bad),
            f"2{name}": pruned(refused, msg=name),
            f"3{name}": pruned(shared),
            f"4{name}": audited(shared),
            f"5{name}": unreachable(name),
            f"6{name}": failed(name),
            f"7{name}": {},
        },
        stores=[{"id": name, "hosts": [f"3{name}", f"4{name}"], "pruner": f"3{name}"}],
        check_mode=check_mode,
    )


def states(fleet: dict[str, Any]) -> dict[str, str]:
    return {host["name"]: host["state"] for host in fleet["hosts"]}


class TestHosts:
    def test_an_audit_is_told(self) -> None:
        fleet = fleet_of({"a": audited(answer("nova-a"))})
        assert states(fleet) == {"a": "audited"}
        assert fleet["hosts"][0]["host"] == "nova-a"
        assert fleet["hosts"][0]["free_bytes"] == 20 * GIB
        assert not fleet["pruned"]

    def test_a_prune_is_told(self) -> None:
        fleet = fleet_of({"a": pruned(answer(**done(BASE)))})
        assert states(fleet) == {"a": "pruned"}
        assert fleet["stores"][0]["removed"] == [BASE]
        assert fleet["pruned"]

    def test_a_prune_that_was_skipped_is_an_audit(self) -> None:
        host = {**audited(answer()), "__image_cache_pruned": {"skipped": True, "changed": False}}
        fleet = fleet_of({"a": host})
        assert states(fleet) == {"a": "audited"}
        assert not fleet["pruned"]

    def test_a_prune_counts_although_the_clock_was_set_back_since_the_audit(self) -> None:
        earlier, later = ({**answer(), "now": time} for time in (1.0, 2.0))
        fleet = fleet_of({"a": {**pruned({**earlier, **done("gone")}), **audited(later)}})
        assert (fleet["pruned"], fleet["summary"]["removed"], fleet["stores"][0]["state"]) == (True, 1, "pruned")

    @pytest.mark.parametrize("was_rehearsed", [True, False])
    def test_a_prune_says_itself_whether_it_was_rehearsed(self, was_rehearsed: bool) -> None:
        hostvars = {"a": pruned({**answer(), **done("gone"), "check_mode": was_rehearsed})}
        assert fleet_of(hostvars, check_mode=not was_rehearsed)["check_mode"] is was_rehearsed

    def test_where_some_only_rehearsed_their_prune_is_not_told_as_done(self) -> None:
        rehearsed, real = ({**answer(name), **done("gone"), "check_mode": name == "a"} for name in "ab")
        fleet = fleet_of({"a": pruned(rehearsed), "b": pruned(real)})
        assert (fleet["check_mode"], fleet["summary"]["removed"]) == (False, 1)
        assert states(fleet) == {"a": "audited", "b": "pruned"}

    def test_a_refusal_is_told_with_its_reasons(self) -> None:
        refused = pruned(answer(unknown_use=["A disk cannot be read."], **done()), msg="Nothing was removed.")
        fleet = fleet_of({"a": refused})
        assert states(fleet) == {"a": "refused"}
        assert fleet["stores"][0]["refused"] == ["A disk cannot be read."]
        assert fleet["summary"]["stores_refused"] == 1
        assert fleet["summary"]["hosts_without_answer"] == 0

    def test_a_prune_that_failed_keeps_what_was_audited(self) -> None:
        fleet = fleet_of({"a": {**audited(answer()), "__image_cache_pruned": {"msg": "No space left"}}})
        assert states(fleet) == {"a": "failed"}
        assert fleet["hosts"][0]["error"] == "No space left"
        assert fleet["summary"]["cached_bytes"] == 90 * GIB

    def test_hosts_without_answer_are_named(self) -> None:
        fleet = fleet_of({"a": unreachable("No route"), "b": failed("Broken")})
        assert states(fleet) == {"a": "unreachable", "b": "failed"}
        assert [host["error"] for host in fleet["hosts"]] == ["No route", "Broken"]
        assert fleet["summary"]["hosts_without_answer"] == 2
        assert fleet["stores"] == []

    def test_what_ansible_cached_of_an_earlier_run_is_no_answer(self) -> None:
        stale = {"ansible_facts": {"image_cache": answer()}}
        fleet = fleet_of({"a": {**stale, **unreachable()}, "b": {**stale, **failed()}})
        assert states(fleet) == {"a": "unreachable", "b": "failed"}
        assert fleet["stores"] == []

    def test_a_failure_that_came_with_an_answer_has_both(self) -> None:
        """As with fail_on_corrupt."""
        corrupt = answer(corrupt=[{"name": BASE, "used_by": []}])
        fleet = fleet_of({"a": failed("One is corrupt.", ansible_facts={"image_cache": corrupt})})
        assert states(fleet) == {"a": "failed"}
        assert fleet["summary"]["corrupt"] == 1

    def test_a_host_that_left_the_play_before_the_audit_did_not_answer(self) -> None:
        fleet = fleet_of({"a": {}, "b": {}}, play_hosts=["b"])
        assert states(fleet) == {"a": "unreachable", "b": "waits"}
        assert fleet["summary"]["hosts_without_answer"] == 1


class TestStores:
    def test_a_shared_store_counts_once(self) -> None:
        hosts = {name: audited(answer(name)) for name in "abc"}
        fleet = fleet_of(hosts, stores=[{"hosts": ["a", "b"], "pruner": "b"}])
        assert [store["hosts"] for store in fleet["stores"]] == [["a", "b"], ["c"]]
        assert fleet["stores"][0]["pruner"] == "b"
        assert fleet["summary"]["cached_bytes"] == 180 * GIB
        assert fleet["summary"]["bytes"]["active"] == 80 * GIB

    def test_what_its_pruner_says_holds_for_all_that_share_it(self) -> None:
        hosts = {"a": audited(answer("a")), "b": pruned(answer("b", **done(BASE)))}
        fleet = fleet_of(hosts, stores=[{"hosts": ["a", "b"], "pruner": "b"}])
        assert states(fleet) == {"a": "pruned", "b": "pruned"}

    def test_another_host_speaks_for_a_pruner_that_did_not_answer(self) -> None:
        hosts = {"a": unreachable(), "b": audited(answer("b"))}
        fleet = fleet_of(hosts, stores=[{"hosts": ["a", "b"], "pruner": "a", "refused": ["a is unreachable."]}])
        assert states(fleet) == {"a": "unreachable", "b": "refused"}
        assert fleet["stores"][0]["pruner"] == "b"
        assert fleet["stores"][0]["refused"] == ["a is unreachable."]

    def test_a_store_whose_other_hosts_come_later_waits(self) -> None:
        fleet = fleet_of({"a": audited(answer())}, stores=[{"hosts": ["a"], "pruner": None, "state": "waits"}])
        assert fleet["stores"][0]["state"] == "waits"

    def test_what_the_fleets_brake_keeps_is_refused(self) -> None:
        host = {
            **audited(answer()),
            "__image_cache_brake": "Too much would go.",
            "__image_cache_pruned": {"skipped": True},
        }
        fleet = fleet_of({"a": host})
        assert states(fleet) == {"a": "refused"}
        assert fleet["stores"][0]["refused"] == ["Too much would go."]
        assert fleet["pruned"]

    def test_the_stores_are_those_that_the_filter_for_them_makes(self) -> None:
        hosts = {name: audited(answer(name)) for name in "ab"}
        for variables in hosts.values():
            facts = variables["ansible_facts"]["image_cache"]
            lists = {"instances": [], "held": [], "problems": [], "users": ["a", "b"], "marks": ["x"]}
            facts["shared_use"] = {**lists, "keep_images": [], "given": 0, "policy": {}}
            facts["store"].update(id="nfs4:server:/nova", filesystem="nfs4", shared=True, users=["a", "b"])
        stores = image_cache_stores(list(hosts), hosts, alive=["a", "b"], batch=["a", "b"], groups={})
        fleet = fleet_of(hosts, stores=stores)
        assert [(store["id"], store["hosts"], store["pruner"]) for store in fleet["stores"]] == [
            ("nfs4:server:/nova", ["a", "b"], "a")
        ]

    def test_what_was_left_out_is_counted(self) -> None:
        omitted = {"missing": 5, "corrupt": 6, "orphans": 7, "unknown_use": 8, "users": 9}
        fleet = fleet_of({"a": audited(answer(orphans=["one"], omitted=omitted))})
        assert {name: fleet["summary"][name] for name in ("missing", "corrupt", "orphans")} == {
            "missing": 5,
            "corrupt": 6,
            "orphans": 8,
        }


class TestAnswers:
    @pytest.mark.parametrize("details", ["summary", "names", "files"])
    def test_what_the_modules_return_is_understood(self, host: Host, details: str) -> None:
        host.base(BASE, age=3 * DAY)
        host.base("swap_64", age=3 * DAY)
        host.instance("9b29f995-642c-4e6b-a0bb-6fcc0f7fc924", {"disk": "gone"})
        result = host.prune(details=details)
        fleet = fleet_of({"a": pruned({**result.facts, **result.done})})
        assert fleet["hosts"][0]["error"] is None
        assert fleet["summary"]["missing"] == 1
        assert fleet["stores"][0]["removed"] == [BASE, "swap_64"]

    def test_a_host_without_a_cache_is_understood(self, host: Host) -> None:
        host.cache_path.rmdir()
        fleet = fleet_of({"a": audited(host.audit().facts)})
        assert states(fleet) == {"a": "audited"}
        assert fleet["summary"]["cached_bytes"] == 0

    @pytest.mark.parametrize(
        ("path", "value", "problem"),
        [
            ("summary", [], "image_cache.summary is no dictionary"),
            ("summary bytes active", "1\nup 1", "image_cache.summary.bytes.active is no number"),
            ("summary bytes active", -1, "image_cache.summary.bytes.active is no number"),
            ("summary removable", True, "image_cache.summary.removable is no number"),
            ("summary bytes", None, "image_cache.summary.bytes is no dictionary"),
            ("store id", 7, "image_cache.store.id is not of the type str"),
            ("orphans", "name", "image_cache.orphans is no list"),
            ("missing", ["name"], "image_cache.missing[] is no dictionary"),
            ("missing", [{"backing_file": "x"}], "image_cache.missing[].instances is no list"),
            ("removed", [1], "image_cache.removed[] is not of the type str"),
            ("omitted", {}, "image_cache.omitted.missing is no number"),
            ("files", [{}], "image_cache.files[].name is not of the type str"),
        ],
    )
    def test_one_that_is_not_of_the_right_form_is_no_answer(self, path: str, value: Any, problem: str) -> None:
        wrong = copy.deepcopy(answer(**done()))
        *folders, last = path.split()
        holder = wrong
        for folder in folders:
            holder = holder[folder]
        holder[last] = value
        fleet = fleet_of({"a": audited(wrong), "b": audited(answer("b"))})
        assert states(fleet) == {"a": "failed", "b": "audited"}
        assert fleet["hosts"][0]["error"] == f"Its answer cannot be understood: {problem}."

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(st.sampled_from(["summary", "store", "bytes", "removed", "files", "id"]), inner)
            ),
        )
    )
    def test_no_answer_spoils_those_of_others(self, rubbish: Any) -> None:
        fleet = fleet_of({"a": audited(rubbish), "b": audited(answer("b"))})
        assert states(fleet)["b"] == "audited"
        assert states(fleet)["a"] in ("failed", "waits")
        json.dumps(fleet)

    def test_it_takes_hostvars(self) -> None:
        with pytest.raises(AnsibleFilterError, match="takes the variable hostvars"):
            plugin.image_cache_fleet(["a"], [])


class TestDocumentation:
    def test_each_key_is_documented(self) -> None:
        page = yaml.safe_load(plugin.RETURN)["_value"]["contains"]
        fleet = troubled("x")
        assert set(page) == set(fleet)
        assert set(page["summary"]["contains"]) == set(fleet["summary"])
        assert set(page["hosts"]["contains"]) == set(fleet["hosts"][0])
        theirs = set(fleet["stores"][0]) - set(page["stores"]["contains"])
        assert all(f"C({key})" in page["stores"]["description"][0] for key in theirs)

    def test_each_state_is_documented(self) -> None:
        page = yaml.safe_load(plugin.RETURN)["_value"]["contains"]
        words = str(page["stores"]["contains"]["state"]) + str(page["hosts"]["contains"]["state"])
        assert all(f"V({state})" in words for state in states(troubled("x")).values())
