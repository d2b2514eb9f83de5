# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host's answer is understood as a whole, or it is a failure that says where it is wrong."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.answers import (
    AnswerState,
    FileAnswer,
    FileOutcome,
    HostAnswer,
    parse_answer,
    parse_image_cache,
    reasons_to_fail,
    warnings_beside_report,
)
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import NOTHING_SET, FleetOptions
from ansible_collections.stackops.nova.tests.support.fleet_strategies import (
    HOSTILE,
    NFS,
    answer,
    found,
    json_values,
    silent,
)
from ansible_collections.stackops.nova.tests.support.fleets import image, orphan
from ansible_collections.stackops.nova.tests.support.host import DAY, Host

BASE = "97aaae8fdc4935bc47d03cf539a6213a1f2c6ad4"
OPTIONS = FleetOptions(prune=True, host="nova-a")


def parse(result: dict[str, Any]) -> HostAnswer:
    return parse_answer("a", result, OPTIONS)


def changed(path: str, value: Any) -> dict[str, Any]:
    """What a host on shared storage returns after a prune, with one other value."""
    result = copy.deepcopy(
        found(
            "nova-a",
            NFS,
            removed=["x"],
            kept=[{"name": "x", "reason": "young"}],
            failed=[],
            reclaimed_bytes=1,
            check_mode=False,
            checksums={
                "verified_files": 1,
                "verified_bytes": 1,
                "trusted_files": 1,
                "skipped_files": 1,
                "deferred_files": 1,
                "oldest_verification_seconds": 1.5,
            },
        )
    )
    *folders, last = path.split()
    holder = result
    for folder in folders:
        holder = holder[folder]
    holder[last] = value
    return result


class TestStates:
    def test_result_of_a_module_is_an_answer(self) -> None:
        image_cache = found("nova-a")
        assert parse({"image_cache": image_cache}) == HostAnswer(
            "a", AnswerState.ANSWERED, OPTIONS, image_cache, "", True
        )

    @pytest.mark.parametrize(
        ("result", "state", "error"),
        [
            ({"unreachable": True, "msg": "No route."}, AnswerState.UNREACHABLE, "No route."),
            ({"unreachable": True, "failed": True, "msg": "No route."}, AnswerState.UNREACHABLE, "No route."),
            ({"failed": True, "msg": "No space."}, AnswerState.FAILED, "No space."),
            ({"failed": True}, AnswerState.FAILED, "It failed without a message."),
            ({"failed": True, "msg": ""}, AnswerState.FAILED, "It failed without a message."),
            (
                {"failed": True, "msg": "MODULE FAILURE", "module_stderr": "Traceback\n  line\nMemoryError: none\n"},
                AnswerState.FAILED,
                "MODULE FAILURE (MemoryError: none)",
            ),
            (
                {"failed": True, "msg": "Traceback follows", "module_stderr": "Traceback\nMemoryError: none"},
                AnswerState.FAILED,
                "Traceback follows (MemoryError: none)",
            ),
            (
                {"failed": True, "msg": "It ended: MemoryError", "module_stderr": "MemoryError"},
                AnswerState.FAILED,
                "It ended: MemoryError",
            ),
            (
                {},
                AnswerState.FAILED,
                "The module ended without a result. Look for a full disk (df) or memory (free, dmesg) on the host.",
            ),
            ({"skipped": True, "image_cache": None}, AnswerState.FAILED, "The module ended without a result. Look "),
        ],
    )
    def test_result_without_image_cache_is_no_answer(
        self, result: dict[str, Any], state: AnswerState, error: str
    ) -> None:
        parsed = parse(result)
        assert (parsed.state, parsed.image_cache, parsed.options) == (state, None, OPTIONS)
        assert parsed.error.startswith(error)
        assert parsed.error == error or error.endswith(" ")

    @pytest.mark.parametrize("kind", ["failed", "unreachable"])
    def test_failure_that_came_with_an_image_cache_has_both(self, kind: str) -> None:
        parsed = parse({kind: True, "msg": "One is corrupt.", "image_cache": found()})
        assert (parsed.state, parsed.error) == (AnswerState(kind), "One is corrupt.")
        assert parsed.image_cache == found()

    def test_image_cache_that_is_not_understood_is_a_failure(self) -> None:
        parsed = parse({"image_cache": []})
        assert parsed == HostAnswer(
            "a",
            AnswerState.FAILED,
            OPTIONS,
            None,
            "Its answer cannot be understood: image_cache is not a dictionary. See what replaces Python or its output "
            "on a.",
        )

    @pytest.mark.parametrize("result", [{}, {"image_cache": found()}, {"image_cache": 5}])
    def test_answer_of_another_batch_is_still_an_answer(self, result: dict[str, Any]) -> None:
        assert not parse_answer("a", result, OPTIONS, in_batch=False).in_batch
        assert parse_answer("a", result, OPTIONS).in_batch


class TestNames:
    def test_host_that_answered_has_the_name_that_it_gave(self) -> None:
        host = answer("a", nova_name="nova-a", options={"host": "other"})
        assert (host.nova_name, host.names) == ("nova-a", {"a", "nova-a"})

    def test_host_that_did_not_answer_has_the_name_of_its_variables(self) -> None:
        assert silent("a", host="nova-a").names == {"a", "nova-a"}

    def test_host_without_a_name_of_nova_has_one_name(self) -> None:
        assert (silent("a").nova_name, silent("a").names) == ("", {"a"})
        assert HostAnswer("a", AnswerState.ANSWERED).options == NOTHING_SET

    def test_shared_use_of_a_host_that_shares_nothing_is_empty(self) -> None:
        assert answer("a").for_members == silent("a").for_members == {}
        assert answer("a", NFS).for_members["sample_ids"] == [1, 2, 3]


class TestPlaces:
    def test_host_that_answered_has_its_instances_and_its_cache(self) -> None:
        parsed = parse({"image_cache": found(cache_path="/nova/_base_10.0.0.1")})
        assert (parsed.instances_path, parsed.cache_name) == ("/nova", "_base_10.0.0.1")

    def test_host_that_did_not_answer_has_neither(self) -> None:
        parsed = parse({"unreachable": True})
        assert (parsed.instances_path, parsed.cache_name) == ("", "")

    @pytest.mark.parametrize("group", ["", "racks"])
    @pytest.mark.parametrize("found", [None, {"storage_id": None, "cache_path": "/nova/_base"}])
    def test_host_without_a_cache_has_a_storage_of_its_own(self, found: dict[str, Any] | None, group: str) -> None:
        assert FileAnswer("a", AnswerState.ANSWERED, found, group=group).storage == ("host", "a")

    @pytest.mark.parametrize(
        ("group", "is_shared", "storage"),
        [
            ("", True, ("id", "nfs", "")),
            ("", False, ("id", "nfs", "nova-a")),
            ("racks", True, ("group", "racks", "_base_1")),
            ("racks", False, ("group", "racks", "_base_1")),
        ],
    )
    def test_storage_of_files_is_that_of_the_group_else_that_of_its_id(
        self, group: str, is_shared: bool, storage: tuple[str, ...]
    ) -> None:
        found = {"storage_id": "nfs", "shared_storage": is_shared, "host": "nova-a", "cache_path": "/nova/_base_1"}
        assert FileAnswer("a", AnswerState.ANSWERED, found, group=group).storage == storage


def test_host_that_did_nothing_has_another_outcome_than_one_that_did_not_answer() -> None:
    answered = FileAnswer("a", AnswerState.ANSWERED)
    assert FileOutcome(answered, result={}) != FileOutcome(answered, result=None)
    assert FileOutcome(answered, result={}).answer is answered


def test_each_file_that_is_not_there_at_the_end_is_a_reason_to_fail() -> None:
    outcome = {"refused": [{"reason": "It is young."}], "failed": [{"error": "No space."}, {"error": "No route."}]}
    assert reasons_to_fail(outcome) == ["It is young.", "No space.", "No route."]
    assert reasons_to_fail({"refused": [], "failed": []}) == []


class TestModules:
    @pytest.mark.parametrize("details", ["summary", "images", "names", "files"])
    @pytest.mark.parametrize("shared", [True, False])
    def test_result_of_each_module_is_understood(self, host: Host, details: str, shared: bool) -> None:
        host.base(BASE, age=3 * DAY)
        host.base("swap_64", age=3 * DAY)
        host.instance("9b29f995-642c-4e6b-a0bb-6fcc0f7fc924", {"disk": "gone"})
        options = {"details": details, "shared_storage": shared}
        assert parse_image_cache(host.audit(**options).facts) == ""
        result = host.prune(**options)
        assert parse_image_cache({**result.facts, **result.done}) == ""

    def test_verified_checksums_are_understood(self, host: Host) -> None:
        host.base(BASE, age=3 * DAY)
        assert parse_image_cache(host.audit(checksum_base_images=True).facts) == ""

    def test_host_without_a_cache_is_understood(self, host: Host) -> None:
        host.cache_path.rmdir()
        assert parse_image_cache(host.audit().facts) == ""


class TestShape:
    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ("now", 2),
            ("now", 2.5),
            ("storage id", None),
            ("storage shared", None),
            ("storage filesystem", None),
            ("storage free_bytes", None),
            ("storage total_bytes", (1 << 63) - 1),
            ("summary active", 0),
            ("summary reclaimable_by_age", {str((1 << 63) - 1): 0}),
            ("checksums", None),
            ("checksums oldest_verification_seconds", None),
            ("checksums oldest_verification_seconds", 5),
            ("for_members", None),
            ("for_members instances", [{"uuid": "{{ x }}", "swap_mb": 5}]),
            ("for_members keep_images", ["x", "y"]),
            ("added_later", object()),
        ],
    )
    def test_value_of_the_right_kind_is_understood(self, path: str, value: Any) -> None:
        assert parse_image_cache(changed(path, value)) == ""

    @pytest.mark.parametrize(
        ("path", "value", "problem"),
        [
            ("cache_path", None, "image_cache.cache_path is not of the type str"),
            ("exists", 1, "image_cache.exists is not of the type bool"),
            ("now", "1", "image_cache.now is not a number"),
            ("now", math.nan, "image_cache.now is not a number"),
            ("now", math.inf, "image_cache.now is not a number"),
            ("host", 7, "image_cache.host is not of the type str"),
            ("summary", [], "image_cache.summary is not a dictionary"),
            ("summary bytes", None, "image_cache.summary.bytes is not a dictionary"),
            ("summary bytes active", "1\nup 1", "image_cache.summary.bytes.active is not a count"),
            ("summary bytes corrupt", -1, "image_cache.summary.bytes.corrupt is not a count"),
            ("summary bytes active", 1 << 63, "image_cache.summary.bytes.active is not a count"),
            ("summary removable", True, "image_cache.summary.removable is not a count"),
            ("summary total files", 1.5, "image_cache.summary.total.files is not a count"),
            ("summary reclaimable_bytes", None, "image_cache.summary.reclaimable_bytes is not a count"),
            ("storage", None, "image_cache.storage is not a dictionary"),
            ("storage id", 7, "image_cache.storage.id is not of the type str"),
            ("storage shared", "no", "image_cache.storage.shared is not of the type bool"),
            ("storage users", {"a": 1}, "image_cache.storage.users is not a list"),
            ("storage free_bytes", "5", "image_cache.storage.free_bytes is not a count"),
            ("orphans", "name", "image_cache.orphans is not a list"),
            ("orphans", ["name"], "image_cache.orphans[] is not a dictionary"),
            ("orphans", [{"directory": 1}], "image_cache.orphans[].directory is not of the type str"),
            ("summary orphans", None, "image_cache.summary.orphans is not a dictionary"),
            ("missing", ["name"], "image_cache.missing[] is not a dictionary"),
            ("missing", [{"backing_file": "x"}], "image_cache.missing[].instances is not a list"),
            ("corrupt", [{"name": "x", "used_by": [1]}], "image_cache.corrupt[].used_by[] is not of the type str"),
            ("unknown_use", None, "image_cache.unknown_use is not a list"),
            ("limit_exceeded", [None], "image_cache.limit_exceeded[] is not of the type str"),
            ("checksums", 1, "image_cache.checksums is not a dictionary"),
            ("checksums verified_files", None, "image_cache.checksums.verified_files is not a count"),
            ("policy", None, "image_cache.policy is not a dictionary"),
            ("policy orphans", 1, "image_cache.policy.orphans is not of the type str"),
            (
                "policy remove_unused_base_images",
                "yes",
                "image_cache.policy.remove_unused_base_images is not of the type bool",
            ),
            ("for_members", "x", "image_cache.for_members is not a dictionary"),
            ("for_members instances", ["x"], "image_cache.for_members.instances[] is not a dictionary"),
            ("for_members held", [1], "image_cache.for_members.held[] is not of the type str"),
            ("for_members users", None, "image_cache.for_members.users is not a list"),
            ("for_members problems", "x", "image_cache.for_members.problems is not a list"),
            ("for_members sample_ids", ["x"], "image_cache.for_members.sample_ids[] is not a count"),
            ("for_members keep_images", "x", "image_cache.for_members.keep_images is not a list"),
            ("for_members keep_files", [{}], "image_cache.for_members.keep_files[] is not of the type str"),
            ("removed", [1], "image_cache.removed[] is not of the type str"),
            ("kept", [{"name": "x"}], "image_cache.kept[].reason is not of the type str"),
            ("failed", [{"name": "x"}], "image_cache.failed[].error is not of the type str"),
            ("reclaimed_bytes", None, "image_cache.reclaimed_bytes is not a count"),
            ("check_mode", 0, "image_cache.check_mode is not of the type bool"),
            ("omitted", {}, "image_cache.omitted.missing is not a count"),
            (
                "summary reclaimable_by_age",
                {"1d": 1},
                "a key of image_cache.summary.reclaimable_by_age is not a count",
            ),
            (
                "summary reclaimable_by_age",
                {1: 1},
                "a key of image_cache.summary.reclaimable_by_age is not a count",
            ),
            (
                "summary reclaimable_by_age",
                {"9" * 20: 1},
                "a key of image_cache.summary.reclaimable_by_age is not a count",
            ),
            ("summary reclaimable_by_age", {"60": -1}, "image_cache.summary.reclaimable_by_age.60 is not a count"),
            ("summary reclaimable_by_age", None, "image_cache.summary.reclaimable_by_age is not a dictionary"),
            ("images", [{}], "image_cache.images[].fingerprint is not of the type str"),
            ("images", [image(1, image_name=5)], "image_cache.images[].image_name is not of the type str"),
            ("images", [image(1, in_glance="yes")], "image_cache.images[].in_glance is not of the type bool"),
            ("images", [image(1, instances=True)], "image_cache.images[].instances is not a count"),
            ("images", [image(1, newest_mtime=math.inf)], "image_cache.images[].newest_mtime is not a number"),
            ("files", [{}], "image_cache.files[].name is not of the type str"),
            (
                "files",
                [{"name": "x", "state": "y", "reasons": [], "allocated_bytes": -1}],
                "image_cache.files[].allocated_bytes is not a count",
            ),
        ],
    )
    def test_value_of_another_kind_is_named(self, path: str, value: Any, problem: str) -> None:
        assert parse_image_cache(changed(path, value)) == problem

    @pytest.mark.parametrize("key", sorted(found()))
    def test_missing_key_is_named(self, key: str) -> None:
        image_cache = found()
        del image_cache[key]
        problem = parse_image_cache(image_cache)
        assert problem.startswith(f"image_cache.{key} is not") or key in ("checksums", "for_members")


class TestAnyValue:
    @given(json_values)
    def test_any_value_is_parsed_without_an_error(self, value: Any) -> None:
        assert parse_answer("a", {"image_cache": value}, OPTIONS).state is AnswerState.FAILED

    @given(
        st.dictionaries(st.sampled_from(["unreachable", "failed", "msg", "module_stderr", "image_cache"]), json_values)
    )
    def test_any_result_is_parsed_without_an_error(self, result: dict[str, Any]) -> None:
        parsed = parse_answer("a", result, OPTIONS)
        assert parsed.error
        assert parsed.state is not AnswerState.ANSWERED

    @given(st.data())
    def test_answer_with_any_one_value_changed_is_understood_or_fails(self, data: st.DataObject) -> None:
        image_cache = changed("now", 1)
        holder: Any = image_cache
        while isinstance(holder, dict) and holder:
            key = data.draw(st.sampled_from(sorted(holder)))
            if not isinstance(holder[key], dict) or data.draw(st.booleans()):
                holder[key] = data.draw(json_values)
                break
            holder = holder[key]
        parsed = parse_answer("a", {"image_cache": image_cache}, OPTIONS)
        assert (parsed.state is AnswerState.ANSWERED) == (parsed.image_cache is not None) == (not parsed.error)

    @pytest.mark.parametrize("text", HOSTILE)
    def test_text_of_a_host_is_neither_templated_nor_changed(self, text: str) -> None:
        image_cache = found(text, NFS, orphans=[orphan(text)], use={"held": [text], "instances": [{"uuid": text}]})
        parsed = parse({"image_cache": copy.deepcopy(image_cache)})
        assert parsed.image_cache == image_cache
        assert parsed.nova_name == text
        assert parse({"failed": True, "msg": text}).error == (text or "It failed without a message.")


def test_warnings_about_what_the_report_shows_are_left_out() -> None:
    lost = {"backing_file": f"/cache/{BASE}", "instances": ["one"], "replaced": False}
    reasons = {"unknown_use": ["Use."], "unknown_deletions": ["Glance."], "limit_exceeded": ["Limit."]}
    image_cache = {"missing": [lost], "corrupt": [{"name": "rotten", "used_by": []}], **reasons}
    shown = [
        f"The backing file /cache/{BASE} does not exist.",
        "The base file rotten is corrupt.",
        *(f"Nothing may be removed: {reason}" for [reason] in reasons.values()),
    ]
    others = [
        "Nothing may be removed: Another reason.",
        "The open files of 1 processes could not be read.",
        f"Something else about /cache/{BASE}.",
    ]
    result = {"host_warnings": [*shown, *others], "image_cache": image_cache}
    assert warnings_beside_report(result) == others


@pytest.mark.parametrize("image_cache", [None, {}, {"missing": "x"}, {**found("a"), "corrupt": [{"name": 1}]}])
def test_warnings_of_a_host_whose_answer_is_wrong_are_all_kept(image_cache: Any) -> None:
    warnings = ["Nothing may be removed: x"]
    assert warnings_beside_report({"host_warnings": warnings, "image_cache": image_cache}) == warnings


def test_host_without_warnings_has_none_beside_the_report() -> None:
    assert warnings_beside_report({"image_cache": found("a")}) == []
