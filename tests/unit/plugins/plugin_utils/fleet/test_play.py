# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Only the answers of this run count, and what the inventory or the play say is read from where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from ansible import context, template
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.block import Block
from ansible.playbook.task import Task
from ansible.playbook.task_include import TaskInclude
from ansible.utils.context_objects import CLIArgs

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet import play
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.answers import (
    NOT_LOOKED_AT,
    AnswerState,
    HostAnswer,
)
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.cloud import CloudAnswer
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import (
    FleetOptions,
    OptionsError,
    PrecacheOptions,
)
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.play import (
    LOOK,
    RESULT,
    SECOND_LOOK,
    Walk,
)
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.precache import (
    PRECACHE,
    parse_precache_answer,
)
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.precache_waves import Attempt
from ansible_collections.stackops.nova.tests.support import precaches
from ansible_collections.stackops.nova.tests.support.actions import task, task_vars
from ansible_collections.stackops.nova.tests.support.fleet_strategies import HOSTILE, answer, found
from ansible_collections.stackops.nova.tests.support.precaches import fetched
from ansible_collections.stackops.nova.tests.support.precaches import result as precache_result

WALK = Walk("play", "walk")


def looked(nova_name: str = "a", walk: str = "walk", **options: Any) -> dict[str, Any]:
    """What a host registered when it was looked at."""
    return {"walk": walk, "image_cache": found(nova_name), "options": FleetOptions(**options).to_plain()}


def hosts(**variables: Mapping[str, Any]) -> tuple[HostAnswer, ...]:
    fleet, unreadable = play.read_fleet(task_vars(variables), WALK, lambda *_key: CloudAnswer({}, (), ""))
    assert unreadable == []
    return fleet.hosts


def templated(variables: dict[str, Any]) -> dict[str, Any]:
    # Since ansible-core 2.19, a text is a template only where it comes from.
    trust = getattr(template, "trust_as_template", str)
    variables = {name: trust(value) if isinstance(value, str) else value for name, value in variables.items()}
    return play.set_variables(variables, template.Templar(DataLoader(), variables).template)


class TestScreen:
    @pytest.mark.parametrize(
        ("chosen", "skipped", "is_due"),
        [
            ([], [], True),
            (["all"], [], True),
            (["tagged"], [], True),
            (["nightly"], [], True),
            (["image_cache_audit"], [], False),
            (["image_cache_prune"], [], False),
            (["image_cache_audit", "image_cache_report"], [], True),
            (["all"], ["image_cache_report"], False),
            (["all"], ["image_cache_prune"], True),
            (["all"], ["nightly"], False),
        ],
    )
    @pytest.mark.parametrize("own", ["image_cache_audit", "image_cache_prune"])
    def test_screen_comes_where_the_tags_let_the_report_run(
        self, chosen: list[str], skipped: list[str], is_due: bool, own: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(context, "CLIARGS", CLIArgs({"tags": chosen, "skip_tags": skipped}))
        tagged = SimpleNamespace(tags=["nightly", "image_cache", own])
        assert play.is_screen_due(tagged, ["a", "b"]) is is_due
        assert not play.is_screen_due(tagged, ["a"])

    def test_text_is_shown_to_a_person_and_not_to_a_program(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for callback, shown in (("ansible.builtin.default", "CACHED: 5\n"), ("ansible.posix.json", "")):
            monkeypatch.setenv("ANSIBLE_STDOUT_CALLBACK", callback)
            play.show("CACHED: 5")
            assert capsys.readouterr().out == shown

    def test_callback_for_programs_has_no_screen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(context, "CLIARGS", CLIArgs({}))
        monkeypatch.setenv("ANSIBLE_STDOUT_CALLBACK", "ansible.posix.jsonl")
        assert not play.is_screen_due(SimpleNamespace(tags=[]), ["a", "b"])


class TestWalk:
    def test_tasks_of_one_inclusion_are_one_walk_of_their_play(self) -> None:
        one, other = task(), task()
        assert Walk.of(one) == Walk.of(one) == (str(one._parent._play._uuid), str(one._parent._uuid))
        assert Walk.of(one).play != Walk.of(other).play
        assert Walk.of(one).id != Walk.of(other).id

    @pytest.mark.parametrize("name", ["wave_precache.yml", "peers_restore.yml"])
    def test_task_that_the_walk_includes_itself_belongs_to_it(self, name: str) -> None:
        first = task()
        inner = first
        for _wave in range(3):
            inner = self.included(inner, name)
        assert Walk.of(inner) == Walk.of(first)

    def test_task_of_a_file_that_includes_the_role_has_a_walk_of_its_own(self) -> None:
        first = task()
        assert Walk.of(self.included(first, "precache.yml")).id != Walk.of(first).id

    @staticmethod
    def included(outer: Task, name: str) -> Task:
        """Return the task of a file that is included beside another task."""
        include = TaskInclude.load({"ansible.builtin.include_tasks": name}, block=outer._parent)
        block = Block.load([{"ansible.builtin.debug": {}}], play=outer._parent._play, parent_block=include)
        inner: Task = block.block[0]
        return inner

    def test_strategy_is_that_of_the_play(self) -> None:
        assert play.strategy_of(task(strategy="free")) == "free"

    @pytest.mark.parametrize("where", [{"run_once": True}, {"block": {"run_once": True}}])
    def test_task_that_runs_once_does_so_wherever_that_is_said(self, where: dict[str, Any]) -> None:
        of_block = where.get("block", {})
        assert play.runs_once(task(block=of_block)) is bool(of_block)
        assert not play.runs_once(task())
        inner = task()
        inner.run_once = True
        assert play.runs_once(inner)

    @pytest.mark.parametrize(
        ("start", "is_behind"),
        [
            ("", False),
            ("Look at the image cache", False),
            ("stackops.nova.image_cache : Look at the image cache", False),
            ("*", False),
            ("*image cache", False),
            ("Decide for the fleet", True),
            ("stackops.nova.image_cache : Prune the image cache", True),
            ("Report*", True),
            ("decide for the fleet", False),
            ("A task of the user", False),
        ],
    )
    def test_start_behind_the_look_is_noticed(self, start: str, is_behind: bool) -> None:
        assert play.starts_behind_the_look(start) is is_behind


class TestVariables:
    def test_variables_of_the_role_are_templated(self) -> None:
        own = {"image_cache_host": "{{ name }}", "image_cache_storage_group": "racks"}
        variables = {**own, "name": "nova-a", "image_cache_result": {"a": 1}, "image": 1}
        assert templated(variables) == {"image_cache_host": "nova-a", "image_cache_storage_group": "racks"}

    def test_omitted_variable_is_not_set(self) -> None:
        variables = {"image_cache_host": "{{ missing | default(omit) }}", "image_cache_prune": True, "omit": "__omit__"}
        assert templated(variables) == {"image_cache_prune": True}
        variables = {"image_cache_host": "__omit__", "image_cache_prune": None, "omit": "__omit__"}
        assert play.set_variables(variables, lambda value: value) == {"image_cache_prune": None}

    def test_template_that_cannot_be_resolved_is_refused(self) -> None:
        with pytest.raises(
            OptionsError, match=r"^image_cache_host cannot be resolved: .*Correct image_cache_host, or what it uses"
        ):
            templated({"image_cache_host": "{{ 1 / 0 }}"})

    @pytest.mark.parametrize(
        ("entry_point", "variables", "is_asked"),
        [
            (None, {}, False),
            (None, {"image_cache_prune": True}, True),
            ("main", {"image_cache_prune": True}, True),
            ("main", {}, False),
            ("audit", {"image_cache_prune": True}, False),
            ("prune", {}, True),
            ("prune", {"image_cache_prune": True}, True),
            ("prune", {"image_cache_prune": False}, False),
        ],
    )
    def test_prune_is_asked_for_by_the_entry_point_or_the_variable(
        self, entry_point: str | None, variables: dict[str, Any], is_asked: bool
    ) -> None:
        given = {} if entry_point is None else {play.ENTRY_POINT: entry_point}
        options = FleetOptions(prune=variables.get("image_cache_prune", False))
        assert play.is_prune_asked(given, options, variables) is is_asked

    @pytest.mark.parametrize(
        ("own", "is_opted_out"),
        [
            ({}, False),
            ({"image_cache_prune": True}, False),
            ({"image_cache_prune": False}, True),
            ({"image_cache_prune": "no"}, True),
            ({"image_cache_prune": "__omit__"}, False),
        ],
    )
    def test_host_is_kept_from_being_pruned_by_its_inventory_alone(
        self, own: dict[str, Any], is_opted_out: bool
    ) -> None:
        variables = {**task_vars({"a": own, "b": {}}), "image_cache_prune": not is_opted_out, "omit": "__omit__"}
        assert play.is_opted_out(variables, lambda value: value) is is_opted_out

    def test_prune_of_the_inventory_that_is_neither_true_nor_false_is_refused(self) -> None:
        with pytest.raises(OptionsError, match="image_cache_prune is 'perhaps'"):
            play.is_opted_out(task_vars({"a": {"image_cache_prune": "perhaps"}}), lambda value: value)


class TestRegistered:
    @pytest.mark.parametrize("variables", [{}, {"b": None}, {"b": {}}, {"b": {"x": []}}, {"b": {"x": None}}])
    def test_host_that_registered_nothing_has_an_empty_result(self, variables: dict[str, Any]) -> None:
        assert play.registered(task_vars(variables), "b", "x") == {}

    def test_result_of_a_task_for_all_hosts_is_found_wherever_it_is(self) -> None:
        variables = {
            "a": {"x": {"walk": "old"}},
            "b": {},
            "c": {"x": {"walk": "walk"}},
            "d": {"x": {"walk": "walk", "n": 2}},
        }

        def find(**more: Any) -> Mapping[str, Any]:
            return play.find_registered(task_vars(variables, **more), "x", lambda result: result.get("walk") == "walk")

        assert find() == {"walk": "walk"}
        assert find(batch=["d"]) == find(host="d", batch=[]) == {"walk": "walk", "n": 2}
        assert find(batch=[]) == {"walk": "walk"}
        assert play.find_registered(task_vars(variables), "x", lambda _result: False) == {}

    @pytest.mark.parametrize("text", HOSTILE)
    def test_registered_text_is_never_templated(self, text: str) -> None:
        assert play.registered(task_vars({"b": {"x": {"y": text}}}), "b", "x") == {"y": text}


class TestAnswers:
    def test_host_that_was_looked_at_has_its_answer_and_options(self) -> None:
        [host] = hosts(a={LOOK: looked("nova-a", prune=True)})
        assert host == answer("a", nova_name="nova-a")

    @pytest.mark.parametrize("registered", [{}, {LOOK: looked(walk="old")}, {LOOK: {"skipped": True}}, {LOOK: None}])
    def test_host_without_an_answer_of_this_walk_was_not_looked_at(self, registered: dict[str, Any]) -> None:
        [host] = hosts(a={**registered, "ansible_facts": {"image_cache": found()}})
        assert (host.state, host.image_cache, host.error) == (AnswerState.NOT_LOOKED_AT, None, NOT_LOOKED_AT)
        assert host.in_batch

    def test_host_whose_look_failed_has_the_options_of_the_inventory(self) -> None:
        [host] = hosts(a={LOOK: {"walk": "walk", "failed": True, "msg": "No."}, "image_cache_host": "nova-a"})
        assert (host.state, host.error, host.names) == (AnswerState.FAILED, "No.", {"a", "nova-a"})

    def test_options_of_a_host_without_answer_are_those_of_the_inventory(self) -> None:
        [host] = hosts(
            a={
                "image_cache_host": "nova-a",
                "image_cache_storage_group": "disk",
                "image_cache_storage_members": "a,b",
                "image_cache_exempt_storage_users": ["x", 7],
                "image_cache_fleet_max_removal_percent": "5",
                "image_cache_report_path": "report",
                "image_cache_report_query": "hosts",
                "image_cache_report_view": "storages",
            }
        )
        assert host.options == FleetOptions(
            host="nova-a",
            storage_group="disk",
            storage_members=("a", "b"),
            exempt_storage_users=("x", "7"),
            fleet_max_removal_percent=5.0,
            report_path="report",
            report_query="hosts",
            report_view="storages",
        )
        assert hosts(a={"image_cache_storage_members": 3})[0].options.storage_members == 3

    def test_variable_of_a_host_without_answer_that_cannot_be_read_is_ignored(self) -> None:
        [host] = hosts(a={"image_cache_exempt_storage_users": 5, "image_cache_storage_members": 1.5})
        assert host.options == FleetOptions()

    def test_limit_of_a_host_without_answer_that_cannot_be_read_is_unknown(self) -> None:
        variables = {"a": {"image_cache_fleet_max_removal_percent": "{{ missing }}"}, "b": {}}
        fleet, unreadable = play.read_fleet(task_vars(variables), WALK, lambda *_key: CloudAnswer({}, (), ""))
        assert fleet.hosts[0].options.fleet_max_removal_percent is None
        [sentence] = unreadable
        assert sentence.startswith(
            "Nothing was removed: image_cache_fleet_max_removal_percent of a cannot be read (image_cache_fleet_max_"
        )

    def test_each_cloud_and_region_is_asked_once(self) -> None:
        asked = []

        def ask(*key: str) -> CloudAnswer:
            asked.append(key)
            return CloudAnswer({}, (), " ".join(key))

        options = [("b", "r"), ("a", ""), ("b", "r"), ("b", "s")]
        variables: dict[str, Any] = {
            str(number): {LOOK: looked(asks_api=True, cloud=cloud, region=region)}
            for number, (cloud, region) in enumerate(options)
        }
        variables["none"] = {LOOK: looked(cloud="never")}
        fleet, _unreadable = play.read_fleet(task_vars(variables), WALK, ask)
        assert asked == [("a", ""), ("b", "r"), ("b", "s")]
        assert {key: one.problem for key, one in fleet.clouds.items()} == {key: " ".join(key) for key in asked}
        assert fleet.groups == {"all": list(variables)}


class TestBatches:
    def batch(self, **more: Any) -> frozenset[str]:
        return play.current_batch(task_vars({name: {} for name in "abc"}, **more))

    def test_all_hosts_are_the_batch_of_a_play_without_serial(self) -> None:
        assert self.batch() == {"a", "b", "c"}

    def test_host_that_failed_is_in_the_batch_still(self) -> None:
        assert self.batch(batch=["a"], alive=["a", "c"]) == {"a", "b"}
        assert self.batch(batch=[], alive=[]) == {"a", "b", "c"}

    def test_host_of_a_later_batch_is_not_in_this_one(self) -> None:
        fleet, _unreadable = play.read_fleet(
            task_vars({"a": {}, "b": {}}, batch=["a"]), WALK, lambda *_key: CloudAnswer({}, (), "")
        )
        assert [host.in_batch for host in fleet.hosts] == [True, False]


class TestOutcomes:
    def outcome(
        self, result: Mapping[str, Any] | None, look: Mapping[str, Any] | None = None
    ) -> tuple[HostAnswer, bool]:
        variables = {LOOK: look or looked(prune=True), **({} if result is None else {RESULT: result})}
        [outcome] = play.read_outcomes(task_vars({"a": variables}), WALK)
        return outcome.answer, outcome.was_pruned

    def test_host_that_pruned_has_the_answer_of_its_prune(self) -> None:
        image_cache = found(removed=["x"])
        done = {"state": "pruned", "reclaimed_bytes": 5, "prune_seconds": 1.0}
        acted, was_pruned = self.outcome({"walk": "walk", **done, "image_cache": image_cache})
        assert (acted.image_cache, acted.state, was_pruned) == (image_cache, AnswerState.ANSWERED, True)

    @pytest.mark.parametrize(
        "result",
        [
            None,
            {"walk": "old", "image_cache": found(removed=["x"])},
            {"walk": "walk", "state": "audited"},
            {"walk": "walk", "state": "audited", "failed": True, "msg": "One is corrupt."},
            {"walk": "walk", "state": "refused", "failed": True, "msg": "Refused."},
            {"walk": "walk", "state": "refused", "failed": True, "msg": "Refused.", "prune_seconds": 0.0},
            {"walk": "walk", "state": "refused", "failed": True, "msg": "A dry run.", "reclaimed_bytes": 0},
            {"walk": "walk", "state": "pruned", "changed": True},
        ],
    )
    def test_host_that_did_nothing_more_has_the_answer_of_its_look(self, result: Any) -> None:
        assert self.outcome(result) == (answer("a"), True)
        assert self.outcome(result, looked()) == (answer("a", options={"prune": False}), False)

    def test_prune_that_is_refused_as_its_look_was_has_what_that_found_and_its_own_words(self) -> None:
        refused = found(unknown_use=["u"], kept=[{"name": "x", "reason": "unknown_use"}], check_mode=True)
        refusal = {"failed": True, "msg": "No.", "state": "refused", "reclaimed_bytes": 0, "prune_seconds": 1.0}
        acted, _was_pruned = self.outcome({"walk": "walk", **refusal}, {**looked(prune=True), "image_cache": refused})
        assert (acted.state, acted.error) == (AnswerState.FAILED, "No.")
        assert acted.image_cache == {**refused, "check_mode": False}

    def test_warnings_of_the_look_and_of_the_prune_are_each_there_once(self) -> None:
        look = {**looked(prune=True), "host_warnings": ["Of both.", "Of the look."]}
        result = {"walk": "walk", "image_cache": found(removed=["x"]), "host_warnings": ["Of both.", "Of the prune."]}
        variables = {"a": {LOOK: look, RESULT: result}}
        [outcome] = play.read_outcomes(task_vars(variables), WALK)
        assert outcome.warnings == ("Of both.", "Of the look.", "Of the prune.")
        variables["a"][RESULT] = {**result, "walk": "old"}
        [outcome] = play.read_outcomes(task_vars(variables), WALK)
        assert outcome.warnings == ("Of both.", "Of the look.")

    @pytest.mark.parametrize("kind", ["failed", "unreachable"])
    def test_prune_that_failed_keeps_what_was_found_before(self, kind: str) -> None:
        acted, _was_pruned = self.outcome({"walk": "walk", kind: True, "msg": "No space."})
        assert (acted.state, acted.error, acted.image_cache) == (AnswerState(kind), "No space.", found())

    def test_refusal_of_the_module_has_its_own_answer(self) -> None:
        refused = found(unknown_use=["A disk cannot be read."])
        result = {"walk": "walk", "state": "refused", "failed": True, "msg": "No.", "image_cache": refused}
        assert self.outcome(result)[0].image_cache == refused

    def test_host_that_did_not_answer_first_has_its_reason(self) -> None:
        look = {"walk": "walk", "unreachable": True, "msg": "No route."}
        acted, _was_pruned = self.outcome({"walk": "walk", "failed": True, "msg": "Later."}, look)
        assert (acted.state, acted.error) == (AnswerState.UNREACHABLE, "No route.")

    @pytest.mark.parametrize(
        ("result", "seconds"),
        [
            (None, None),
            ({"walk": "old", "prune_seconds": 2.5, "image_cache": found()}, None),
            ({"walk": "walk", "prune_seconds": 2.5, "image_cache": found(removed=["x"])}, 2.5),
            ({"walk": "walk", "prune_seconds": 0.0, "state": "refused", "failed": True, "msg": "Refused."}, 0.0),
            ({"walk": "walk", "failed": True, "msg": "It crashed."}, None),
        ],
    )
    def test_prune_counts_as_done_where_it_ended_or_was_refused(
        self, result: Mapping[str, Any] | None, seconds: float | None
    ) -> None:
        variables = {LOOK: {**looked(prune=True), "look_seconds": 1.5}, **({} if result is None else {RESULT: result})}
        [outcome] = play.read_outcomes(task_vars({"a": variables}), WALK)
        assert (outcome.look_seconds, outcome.prune_seconds) == (1.5, seconds)

    def test_what_a_dry_run_listed_is_not_removed_where_its_prune_failed(self) -> None:
        look = {**looked(prune=True), "image_cache": found(removed=["x"], reclaimed_bytes=5, check_mode=True)}
        acted, _was_pruned = self.outcome({"walk": "walk", "failed": True, "msg": "No space."}, look)
        assert acted.image_cache == found()

    def test_hosts_of_later_batches_have_no_outcome_yet(self) -> None:
        variables = {name: {LOOK: looked(name)} for name in "abcd"}
        seen = play.read_outcomes(task_vars(variables, batch=["b"], alive=["a", "b", "c"]), WALK)
        assert [outcome.answer.name for outcome in seen] == ["a", "b", "d"]


class TestFiles:
    LOOKS: Mapping[str, Any] = {
        name: {LOOK: {"walk": "walk", **precache_result(fetched=[fetched(name)])}} for name in "abc"
    }

    def test_answer_of_a_host_has_its_group_where_any_member_names_it(self) -> None:
        variables = {name: dict(look) for name, look in self.LOOKS.items()}
        variables["a"][LOOK] = {**variables["a"][LOOK], "storage_group": "nfs"}
        given = task_vars(variables)
        given["groups"]["nfs"] = ["b"]
        answers = play.read_file_answers(given, WALK, parse_precache_answer)
        assert [(each.name, each.state, each.group) for each in answers] == [
            ("a", AnswerState.ANSWERED, "nfs"),
            ("b", AnswerState.ANSWERED, "nfs"),
            ("c", AnswerState.ANSWERED, ""),
        ]
        assert answers[0].found == variables["a"][LOOK][PRECACHE]

    def test_outcome_of_a_host_is_what_it_returned_in_this_walk(self) -> None:
        done = precache_result(fetched=[fetched("a")])
        results: dict[str, Any] = {
            "a": {"walk": "walk", **done},
            "b": {"walk": "walk", "failed": True, "msg": "No space."},
            "c": {"walk": "old", **done},
        }
        variables = {name: {**look, RESULT: results[name]} for name, look in self.LOOKS.items()}
        variables["d"] = {LOOK: {"walk": "walk", "unreachable": True, "msg": "No route."}, RESULT: results["a"]}
        outcomes = play.read_file_outcomes(task_vars(variables), WALK, parse_precache_answer, PRECACHE)
        assert [(each.answer.name, each.answer.error, each.result) for each in outcomes] == [
            ("a", "", done[PRECACHE]),
            ("b", "No space.", None),
            ("c", "", None),
            ("d", "No route.", None),
        ]

    def test_second_look_of_this_walk_counts_before_the_first(self) -> None:
        first, second = ({"walk": "walk", "number": number} for number in (1, 2))
        variables = task_vars({"a": {LOOK: first, SECOND_LOOK: second}, "b": {LOOK: first, SECOND_LOOK: {"walk": "x"}}})
        assert [play.last_look(variables, name, WALK) for name in "ab"] == [second, first]


class TestReport:
    def test_report_is_that_of_the_first_host_that_has_one(self) -> None:
        wishes = [
            FleetOptions(report_query="x"),
            FleetOptions(report_path="p", report_query="q", report_slice="1"),
            FleetOptions(report_path="r"),
        ]
        answers = [HostAnswer("a", AnswerState.FAILED, options) for options in wishes]
        assert play.report_wishes(answers) == ("p", "q", "1")
        assert play.report_wishes(answers[:1]) == ("", "", "")

    def test_report_of_a_pre_cache_is_that_of_the_first_host_that_has_one(self) -> None:
        asked = [PrecacheOptions(report_slice="x"), PrecacheOptions(report_path="p", report_slice="1")]
        assert play.precache_report_wishes(asked) == ("p", "", "1")
        assert play.precache_report_wishes(asked[:1]) == ("", "", "")

    def test_newest_report_of_a_play_is_found_whichever_host_has_it(self) -> None:
        def reported(of_play: str, generated: float) -> dict[str, Any]:
            return {"report": {"play": of_play, "precache": {"generated": generated}}}

        variables = task_vars({"a": reported("play", 1), "b": reported("play", 2), "c": reported("other", 3), "d": {}})
        assert play.newest_report(variables, Walk("play", "walk"), "report", "precache") == {"generated": 2}
        assert play.newest_report(variables, Walk("none", "walk"), "report", "precache") == {}

    def test_hosts_that_are_alive_in_other_batches_are_left_out_of_an_answer_about_files(self) -> None:
        variables = task_vars({name: {} for name in "abcd"}, batch=["b"], alive=["a", "b", "d"])
        answers = play.read_file_answers(variables, WALK, parse_precache_answer)
        assert [(each.name, each.state) for each in answers] == [(name, AnswerState.NOT_LOOKED_AT) for name in "bc"]

    def test_hosts_of_the_inventory_are_all_whatever_a_limit_leaves(self) -> None:
        variables = {**task_vars({"a": {}}), "groups": {"all": ["a", "b"], "compute": ["b"]}}
        assert play.inventory_hosts(variables) == {"a", "b"}

    def test_view_is_that_of_the_first_host_that_has_one(self) -> None:
        views = [FleetOptions(), FleetOptions(report_view="hosts"), FleetOptions(report_view="files")]
        answers = [HostAnswer("a", AnswerState.FAILED, options) for options in views]
        assert (play.report_view(answers), play.report_view(answers[:1])) == ("hosts", "")

    def test_relative_path_is_one_beside_the_playbook(self) -> None:
        loader = DataLoader()
        loader.set_basedir("/plays")
        assert play.report_folder("report", loader) == "/plays/report"
        assert play.report_folder("/srv/report", loader) == "/srv/report"

    def test_report_is_not_written_into_a_collection(self) -> None:
        loader = DataLoader()
        loader.set_basedir("/x/ansible_collections/stackops/nova/playbooks")
        with pytest.raises(OptionsError, match=r"-e image_cache_report_path=\$PWD/report\.$"):
            play.report_folder("report", loader)
        assert play.report_folder("/srv/report", loader) == "/srv/report"
        assert play.report_folder("~/report", loader).endswith("/report")


class TestMembersOfWaves:
    ATTEMPT = Attempt(0, "one", "", {"fetched": [precaches.fetched()]}).to_plain()

    def members(self, having: str = "more", **results: Mapping[str, Any]) -> list[str]:
        """The hosts that take part, by what each has registered last."""
        decision = {"image_ids": ["one"], "elsewhere": {}}
        of_fleet = {"walk": "walk", "hosts": dict.fromkeys(results, decision)}
        choice = {"walk": "walk", "choices": [{"images": []}], "hosts": dict.fromkeys(results, 0)}
        registered = {
            name: {
                play.LOOK: {"walk": "walk", PRECACHE: precaches.found(fetched=[precaches.fetched()])},
                play.ASKED: {"walk": "walk", "peer": {"site": "", "address": name, "fanout": 1, "known_by": [name]}},
                play.DECISION: of_fleet,
                play.CHOICE: choice,
                RESULT: result,
            }
            for name, result in results.items()
        }
        return [member.answer.name for member in play.read_members(task_vars(registered), WALK, having)]

    def test_only_hosts_for_which_waves_follow_take_part(self) -> None:
        assert self.members(
            a={"walk": "walk", "more": True, "attempts": [self.ATTEMPT]},
            b={"walk": "walk", "more": True},
            of_an_earlier_run={"walk": "another", "more": True},
            failed={"walk": "walk", "failed": True, "msg": "x"},
            ended={"walk": "walk", PRECACHE: {}},
            silent={},
        ) == ["a", "b"]

    def test_hosts_that_the_play_left_between_waves_are_read_for_the_report(self) -> None:
        assert self.members(
            "attempts",
            a={"walk": "walk", "more": True, "attempts": [self.ATTEMPT]},
            failed={"walk": "walk", "failed": True, "more": False, "attempts": [self.ATTEMPT]},
            idle={"walk": "walk", "more": True, "attempts": []},
            ended={"walk": "walk", PRECACHE: {}, "attempts": [self.ATTEMPT]},
        ) == ["a", "failed"]


class TestPeerOptions:
    def read(self, host: Mapping[str, Any], **variables: Any) -> play.PeerOptions | None:
        values = {name: getattr(template, "trust_as_template", str)(value) for name, value in host.items()}
        templar = template.Templar(DataLoader(), values)
        given = {f"image_cache_{name}": value for name, value in variables.items()}
        return play.peer_options({"inventory_hostname": "cmp", **values}, given, templar.template)

    def test_without_peers_nothing_is_templated(self) -> None:
        assert self.read({"ansible_host": "{{ no_such_variable }}"}) is None
        assert self.read({"ansible_host": "{{ no_such_variable }}"}, use_peers="no") is None

    def test_host_is_known_by_its_names_and_by_the_addresses_of_these(self) -> None:
        options = self.read({"ansible_host": "localhost"}, use_peers=True, peer_address="nova@192.0.2.7")
        assert options is not None
        assert options.address == "nova@192.0.2.7"
        assert {"cmp", "localhost", "127.0.0.1", "192.0.2.7"} <= set(options.known_by)

    @pytest.mark.parametrize("address", ["-oProxyCommand=x", "a b", "$(reboot)", "a;b", "a\nb"])
    def test_address_that_ssh_would_take_for_something_else_is_refused(self, address: str) -> None:
        with pytest.raises(OptionsError, match="no name or address of a host"):
            self.read({"ansible_host": address}, use_peers=True)

    def test_name_that_nobody_knows_is_a_name(self) -> None:
        options = self.read({"ansible_host": "cmp.invalid"}, use_peers=True)
        assert options is not None
        assert options.known_by == ("cmp", "cmp.invalid")
