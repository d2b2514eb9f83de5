# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a play shows at its end: one screen for a fleet, a page for a host that is alone, or what is asked for."""

from __future__ import annotations

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import UNREACHABLE, ComputeFleet, names
from ansible_collections.stackops.nova.tools.cache_tree import fingerprint

pytestmark = pytest.mark.usefixtures("shared")


def test_fleet_is_shown_on_one_screen_in_which_its_numbers_come_first(fleet: ComputeFleet) -> None:
    fleet.add("dead", **UNREACHABLE)
    run = fleet.audit()
    assert run.text.startswith("IMAGE CACHES  4 hosts, 1 without an answer, 2 storages")
    assert run.shown == {"a (+1)", "c"}
    assert "- dead: " in run.text
    assert run.text in run.output


def test_host_that_is_alone_gets_its_page(fleet: ComputeFleet) -> None:
    run = fleet.audit("--limit", "c")
    assert run.text.startswith("IMAGE CACHE  nova-c:")


@pytest.mark.slow
@pytest.mark.parametrize("view", ["fleet", "hosts", "storages", "files"])
def test_view_shows_the_page_that_it_names(fleet: ComputeFleet, view: str) -> None:
    run = fleet.audit(image_cache_report_view=view)
    pages = [line for line in run.text.splitlines() if line.startswith("IMAGE CACHE  ")]
    (used,) = names("image-c")
    assert run.shown == {"fleet": {"a (+1)", "c"}, "hosts": {"a", "b", "c"}}.get(view, set())
    assert len(pages) == (2 if view in ("storages", "files") else 0)
    assert (used in run.text) is (view == "files")


@pytest.mark.slow
def test_pages_of_storages_begin_with_the_hosts_without_an_answer(fleet: ComputeFleet) -> None:
    fleet.add("dead", **UNREACHABLE)
    assert fleet.audit(image_cache_report_view="storages").text.startswith("!! HOSTS WITHOUT AN ANSWER\n!! - dead: ")


@pytest.mark.slow
def test_file_of_any_number_is_listed_where_the_view_is_of_files(fleet: ComputeFleet) -> None:
    tree = fleet.add("d")
    many = {tree.base(f"{number:040x}", age=86400.0, content=b"unused").name for number in range(30)}
    run = fleet.prune("--check", image_cache_report_view="files")
    assert {name for name in many if name in run.text} == many


@pytest.mark.slow
def test_unknown_view_of_a_host_without_an_answer_changes_nothing(fleet: ComputeFleet) -> None:
    fleet.add("dead", image_cache_report_view="pages", **UNREACHABLE)
    assert fleet.audit().shown == {"a (+1)", "c"}


def test_unknown_view_is_refused_with_those_that_there_are(fleet: ComputeFleet) -> None:
    run = fleet.prune(image_cache_report_view="pages")
    assert (run.failed, len(fleet.cached("c"))) == ({"a", "b", "c"}, 2)
    assert "image_cache_report_view" in run.messages["a"]
    assert "fleet, hosts, storages, files" in run.messages["a"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "is_warned"),
    [
        ((), False),
        (("--tags", "image_cache"), False),
        (("--tags", "image_cache_audit,image_cache_report"), False),
        (("--tags", "image_cache_audit"), True),
        (("--skip-tags", "image_cache_report"), True),
        (("--limit", "d"), True),
    ],
)
def test_hosts_warn_by_themselves_of_what_no_screen_shows(
    fleet: ComputeFleet, arguments: tuple[str, ...], is_warned: bool
) -> None:
    tree = fleet.add("d")
    tree.instance("uuid-d", {"disk": fingerprint("lost")})
    tree.compute_nodes({"elsewhere": tree.now, "nova-d": tree.now})
    characters = "".join(fleet.audit(*arguments).output.split())  # ansible-core 2.18 wraps its warnings, paths too
    assert f"Thebackingfile{tree.cache_path}" in characters if is_warned else "Thebackingfile" not in characters
    assert ("Nothingmayberemoved:Hostelsewhere" in characters) is is_warned
    assert characters.count("Therearewarningsaboutimagecaches.") == (not is_warned)
    assert ("!!MISSING" in characters) is (not is_warned or "--limit" in arguments)


@pytest.mark.slow
@pytest.mark.parametrize("shown", ["yes", "no"])
@pytest.mark.parametrize("arguments", [(), ("-e", "image_cache_report_view=storages"), ("--limit", "d")])
def test_warning_without_an_alarm_is_shown_with_its_host(
    fleet: ComputeFleet, arguments: tuple[str, ...], shown: str
) -> None:
    # Ansible shows no warning of a host that it does not list.
    fleet.environment["ANSIBLE_DISPLAY_OK_HOSTS"] = shown
    tree = fleet.add("d")
    (tree.instance("uuid-d", {"disk": fingerprint("image-d")}) / "disk.info").write_text("{")
    characters = "".join(fleet.audit(*arguments).text.split())  # a long path is broken into lines
    assert "OTHERWARNINGS" in characters
    assert f"-d:{tree.instances_path}/uuid-d/disk.infocannotbeunderstood" in characters


@pytest.mark.slow
@pytest.mark.parametrize("result_format", ["json", "yaml"])
def test_screen_is_shown_as_it_is_in_any_result_format(fleet: ComputeFleet, result_format: str) -> None:
    fleet.environment.update(ANSIBLE_CALLBACK_RESULT_FORMAT=result_format, ANSIBLE_DISPLAY_OK_HOSTS="no")
    run = fleet.audit()
    assert run.text in run.output
    assert "ok: [a]" not in run.output
