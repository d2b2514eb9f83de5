# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Variables come from anywhere; large ones are readable, and text from outside is neither templated nor shown raw."""

from __future__ import annotations

import json

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import ComputeFleet, cached, names, role
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree, fingerprint

ALL = names("image-a", "image-b", "unused-a", "unused-b")
USED = names("image-a", "image-b")
HOSTILE = ("{{ 7919 * 7919 }}", "<script>alert(1)</script>", "\x1b[31mred", "{% raw %}")


def test_three_thousand_servers_in_group_variables_stay_readable(fleet: ComputeFleet) -> None:
    for number in range(4):
        fleet.add(f"host{number}")
    servers = [
        {"uuid": f"server-{number}", "image_ref": f"unused-host{number % 4}", "host": f"nova-host{number % 4}"}
        for number in range(3000)
    ]
    fleet.variables["image_cache_instances"] = servers
    run = fleet.prune()
    assert (run.status, run.changed) == (0, set()), run.output[-5000:]
    assert len(run.output.splitlines()) < 200
    assert "server-2999" not in run.output


def test_hostile_names_are_shown_and_never_evaluated(fleet: ComputeFleet) -> None:
    tree = fleet.add("a")
    fleet.add("b", tree)
    fleet.share("a", "b")
    trap = fleet.root / "trap"
    lookup = f"{{{{ lookup('pipe', 'touch {trap}') }}}}"
    used = fingerprint("image-a")
    for number, name in enumerate((HOSTILE[0], HOSTILE[3])):
        tree.instance(name, {"disk": used})
        tree.domain_xml(f"uuid-{number}", f"name{number}", name)
    given = [
        {"uuid": f"u{i}", "name": name, "image_ref": name, "host": "nova-a"} for i, name in enumerate(HOSTILE[1:3])
    ]
    servers = fleet.root / "servers.json"
    servers.write_text(json.dumps([*given, {"uuid": "l", "name": lookup, "image_ref": lookup, "host": "nova-a"}]))
    fleet.variables["image_cache_instances"] = f"{{{{ lookup('file', '{servers}') | from_json }}}}"
    report = fleet.root / "report"
    run = fleet.prune("--check", "-v", image_cache_report_path=str(report), image_cache_report_view="files")
    assert run.status == 0, run.output
    assert not trap.exists()
    written = "".join(path.read_text() for path in report.iterdir())
    for text in (run.output, run.text, written):
        assert "62710561" not in text
        assert "\x1b[31m" not in text
    assert "<script>alert" not in (report / "report.html").read_text()
    assert "{{ 7919 * 7919 }}" in run.output


@pytest.mark.slow
def test_other_fields_of_a_server_are_not_shown(fleet: ComputeFleet, shared: CacheTree) -> None:
    given = [{"uuid": "given", "image_ref": "unused-a", "host": "nova-b", "adminPass": "SEKRIT"}]
    fleet.variables["image_cache_instances"] = given
    run = fleet.prune("-v")
    assert (run.status, cached(shared)) == (0, USED | names("unused-a")), run.output
    assert "SEKRIT" not in run.output
    assert "SEKRIT" not in json.dumps(run.results)


@pytest.mark.slow
def test_given_instances_alone_are_enough(fleet: ComputeFleet, shared: CacheTree) -> None:
    given = [{"uuid": "given", "image_ref": "unused-a", "host": "nova-b"}]
    run = fleet.prune(image_cache_instance_source="provided", image_cache_instances=given, image_cache_libvirt=False)
    assert (run.status, cached(shared)) == (0, names("unused-a")), run.output


def test_variables_of_an_included_role_count(fleet: ComputeFleet) -> None:
    fleet.add("a", image_cache_glance_images=["unused-a"])
    task = role("prune", "include_role", vars={"image_cache_keep_images": ["unused-a"]})
    run = fleet.play({"tasks": [task]})
    assert (run.status, len(fleet.cached("a"))) == (0, 2), run.output


@pytest.mark.slow
def test_facts_and_registered_variables_count_like_others(fleet: ComputeFleet) -> None:
    fleet.add("a", image_cache_glance_images=["unused-a"])
    fact = {"name": "Fact", "ansible.builtin.set_fact": {"image_cache_keep_images": ["unused-a"]}}
    run = fleet.play({"tasks": [fact, role("prune")]})
    assert (run.status, len(fleet.cached("a"))) == (0, 2), run.output


@pytest.mark.slow
def test_registered_variable_with_our_prefix_is_refused_as_one_of_the_users_own(fleet: ComputeFleet) -> None:
    fleet.add("a")
    task = {"name": "Mine", "ansible.builtin.command": "true", "register": "image_cache_mine"}
    run = fleet.play({"tasks": [task, role("prune")]})
    assert (run.failed, len(fleet.cached("a"))) == ({"a"}, 2), run.output
    assert "If the variable is your own, registered or set elsewhere" in run.messages["a"]


@pytest.mark.slow
def test_lines_of_the_table_fit_a_terminal(fleet: ComputeFleet, shared: CacheTree) -> None:
    fleet.environment.update(ANSIBLE_CALLBACK_RESULT_FORMAT="yaml", COLUMNS="80")
    run = fleet.prune("--check", image_cache_report_view="files")
    assert run.status == 0, run.output
    assert [line for line in run.text.splitlines() if len(line) > 78 and str(fleet.root) not in line] == []
    assert cached(shared) == ALL
