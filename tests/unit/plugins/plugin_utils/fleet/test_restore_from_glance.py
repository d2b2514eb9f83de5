# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Glance is asked for files that nobody else has, once for each API, and each host learns of its own files only."""

from __future__ import annotations

import pytest

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.answers import AnswerState, FileAnswer
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.glance import GlanceList
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import GlanceOptions
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.restore_from_glance import find_in_glance, lost_files
from ansible_collections.stackops.nova.tests.support.precaches import image
from ansible_collections.stackops.nova.tests.support.restores import answer, failed, refused, restorable
from ansible_collections.stackops.nova.tools.cache_tree import fingerprint

ONE, TWO = fingerprint("one"), fingerprint("two")
LAB = GlanceOptions(cloud="lab")


class TestLostFiles:
    def test_missing_file_that_no_host_can_restore_is_lost(self) -> None:
        made = [answer("a", refused=[refused(ONE)]), answer("b", "other", restored=[restorable(ONE)])]
        assert lost_files(made) == {"a": (ONE,), "b": ()}

    def test_file_that_another_host_of_the_storage_restores_is_not_lost(self) -> None:
        made = [answer("a", refused=[refused(ONE), refused(TWO)]), answer("b", restored=[restorable(ONE)])]
        assert lost_files(made)["a"] == (TWO,)

    @pytest.mark.parametrize("name", [f"{ONE}_20", "swap_512", "ephemeral_1_0706d66", "/elsewhere/base"])
    def test_file_that_is_no_image_as_it_is_is_left_out(self, name: str) -> None:
        assert lost_files([answer("a", refused=[refused(name)])]) == {"a": ()}

    @pytest.mark.parametrize("state", ["replaced", "corrupt"])
    def test_file_that_has_its_name_is_left_out(self, state: str) -> None:
        assert lost_files([answer("a", refused=[refused(ONE, state=state)])]) == {"a": ()}

    def test_failure_is_left_out_because_its_reason_is_another_one(self) -> None:
        assert lost_files([answer("a", failed=[failed(ONE)])]) == {"a": ()}

    def test_host_without_an_answer_is_left_out(self) -> None:
        assert lost_files([FileAnswer("a", AnswerState.FAILED, error="No space.")]) == {}


class TestFindInGlance:
    def test_host_gets_the_records_of_its_lost_files_and_no_others(self) -> None:
        listed = GlanceList((image("one", secret="x"), image("two"), "no image"), "http://glance")
        found = find_in_glance({"a": (ONE,), "b": (), "c": (TWO,)}, {"b": LAB, "a": LAB}, lambda _asked: listed)
        assert found.keys() == {"a"}
        assert found["a"]["images"].keys() == {ONE}
        assert found["a"]["images"][ONE]["id"] == "one"
        assert "secret" not in found["a"]["images"][ONE]
        assert (found["a"]["endpoint"], found["a"]["remarks"]) == ("http://glance", {})

    def test_each_api_is_asked_once_and_none_where_nothing_is_lost(self) -> None:
        asked = []

        def ask(options: GlanceOptions) -> GlanceList:
            asked.append(options.cloud)
            return GlanceList()

        options = {"a": LAB, "b": LAB, "c": GlanceOptions(cloud="far"), "d": GlanceOptions(cloud="idle")}
        find_in_glance({"a": (ONE,), "b": (ONE,), "c": (TWO,), "d": ()}, options, ask)
        assert sorted(asked) == ["far", "lab"]

    def test_file_without_an_image_has_a_remark(self) -> None:
        found = find_in_glance({"a": (ONE,)}, {"a": LAB}, lambda _asked: GlanceList((image("ONE"),), "http://glance"))
        assert found["a"]["images"] == {}
        assert found["a"]["remarks"][ONE].startswith("Glance lists no image of this base file either.")

    def test_problem_of_the_api_is_the_remark(self) -> None:
        found = find_in_glance({"a": (ONE,)}, {"a": LAB}, lambda _asked: GlanceList(problem="Glance is down."))
        assert found["a"] == {"images": {}, "endpoint": "", "remarks": {ONE: "Glance is down."}}
