# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A lost base file comes from hosts of which two have the same, and never from one that is alone with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.answers import AnswerState, FileAnswer
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import PeerOptions
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.restore import RESTORE
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.restore_from_peers import (
    Owner,
    agree_on_lost_files,
    files_lost_to_peers,
    parse_checksums,
)
from ansible_collections.stackops.nova.tests.support.restores import answer, refused, restorable
from ansible_collections.stackops.nova.tools.cache_tree import fingerprint

NAME, OTHER = fingerprint("one"), fingerprint("two")
GOOD, BAD = "0" * 64, "f" * 64


def having(digest: str = GOOD, size: int = 1000, **more: Any) -> dict[str, Any]:
    entry = {"name": NAME, "algorithm": "sha256", "checksum": digest, "size_bytes": size, "allocated_bytes": 500}
    return {**entry, **more}


def owner(name: str, *checksums: dict[str, Any], site: str = "", disk: str = "", error: str = "") -> Owner:
    found = answer(name, disk or f"disk-{name}", host=f"nova-{name}", shared=bool(disk))
    return Owner(found, PeerOptions(site, f"{name}.example", 1, (f"{name}.example",)), checksums, error)


def agreed(*owners: Owner, lost: Owner | None = None) -> dict[str, Any]:
    """What a host that has lost the file, host a if it is not given, gets of the others."""
    host = lost or owner("a")
    return agree_on_lost_files({host.answer.name: [NAME]}, [host, *owners])[host.answer.name]


def serving(found: dict[str, Any]) -> list[str]:
    """The hosts that serve the file; none if it comes from nowhere."""
    return [peer["host"].removesuffix(".example") for peer in found["peers"].get(NAME, {"hosts": []})["hosts"]]


def test_two_hosts_that_have_the_same_file_serve_it() -> None:
    found = agreed(owner("b", having()), owner("c", having()), owner("d", having(BAD)))
    assert found["remarks"] == {}
    assert found["peers"] == {
        NAME: {
            "hosts": [{"host": f"{name}.example", "path": f"/nova/_base/{NAME}"} for name in "bc"],
            "size_bytes": 1000,
            "allocated_bytes": 500,
            "algorithm": "sha256",
            "checksum": GOOD,
        }
    }


def test_file_comes_from_four_hosts_at_most() -> None:
    assert serving(agreed(*(owner(name, having()) for name in "bcdefg"))) == ["b", "c", "d", "e"]


def test_host_between_others_by_name_is_served_by_all_of_them() -> None:
    assert serving(agreed(owner("b", having()), owner("z", having()), lost=owner("m"))) == ["b", "z"]


def test_host_of_the_storage_that_has_lost_the_file_neither_serves_it_nor_is_a_witness() -> None:
    lost, same = owner("a", disk="nfs"), owner("b", having(), disk="nfs")
    assert serving(agreed(same, owner("c", having()), lost=lost)) == []
    assert serving(agreed(same, owner("c", having()), owner("d", having()), lost=lost)) == ["c", "d"]


@pytest.mark.parametrize("same", ["address", "host"])
def test_machine_that_is_in_the_inventory_twice_is_one_witness(same: str) -> None:
    first, second = owner("b", having()), owner("c", having())
    if same == "address":
        second = replace(second, options=replace(second.options, known_by=first.options.known_by))
    else:
        second = replace(second, answer=answer("c", "disk-c", host="nova-b"))
    assert serving(agreed(first, second)) == []
    assert serving(agreed(first, second, owner("d", having()))) == ["b", "c", "d"]


@pytest.mark.parametrize("bad", ["0" * 64, "f" * 64])
def test_host_with_another_file_neither_serves_it_nor_says_what_it_takes(bad: str) -> None:
    right = [owner(name, having("a" * 64, allocated_bytes=size)) for name, size in (("b", 400), ("c", 500))]
    found = agreed(*right, owner("d", having(bad, allocated_bytes=900)))
    assert serving(found) == ["b", "c"]
    assert found["peers"][NAME]["allocated_bytes"] == 400


@pytest.mark.parametrize("other", ["", "east", "west"])
def test_hosts_of_other_sites_are_witnesses_and_serve_nothing(other: str) -> None:
    lost, far = owner("a", site="north"), owner("b", having(), site=other)
    assert serving(agreed(far, owner("c", having(), site=other), lost=lost)) == []
    assert serving(agreed(far, owner("c", having(), site="north"), lost=lost)) == ["c"]


def test_file_that_nobody_has_keeps_no_other_one_from_being_served() -> None:
    owners = [owner("a"), owner("b", having()), owner("c", having())]
    found = agree_on_lost_files({"a": [OTHER, NAME]}, owners)["a"]
    assert serving(found) == ["b", "c"]
    assert found["remarks"] == {
        OTHER: "No other host of the play has this base file either. Run the play on more hosts (--limit), or set "
        "image_cache_restore_files to a copy of it."
    }


def test_host_that_fails_before_others_were_asked_gets_nothing() -> None:
    owners = [owner("b", having()), owner("c", having())]
    assert agree_on_lost_files({"a": [NAME]}, owners) == {"a": {"peers": {}, "remarks": {}}}


@pytest.mark.parametrize(
    ("owners", "reason"),
    [
        ([], "No other host of the play has this"),
        ([owner("b", having())], "No two other hosts of different storages"),
        ([owner("b", having()), owner("c", having(BAD))], "on b it has the sha256 0"),
        ([owner("b", having(), disk="nfs"), owner("c", having(), disk="nfs")], "No two other hosts"),
        ([owner("b", having(), disk="nfs"), owner("c", having(), disk="the same by its address")], "No two other"),
        ([owner("b", having()), owner("c", error="No route")], "Nothing is known of c"),
        ([owner(name, having(BAD if name in "de" else GOOD)) for name in "bcde"], "Other hosts disagree"),
        ([owner(name, having(), site="far") for name in "bc"], "Only hosts of other sites have"),
    ],
)
def test_file_that_is_not_agreed_on_is_served_by_nobody(owners: list[Owner], reason: str) -> None:
    found = agreed(*owners)
    assert found["peers"] == {}
    assert reason in found["remarks"][NAME]


def test_hosts_that_have_lost_the_same_file_ask_different_ones_first() -> None:
    owners = [*(owner(name) for name in "abcdef"), *(owner(name, having()) for name in "xy")]
    found = agree_on_lost_files({name: [NAME] for name in "abcdef"}, owners)
    assert ["".join(serving(found[name])) for name in "abcdef"] == ["xy", "yx", "xy", "yx", "xy", "yx"]


def test_templates_come_from_no_other_host() -> None:
    files = [refused(NAME), refused("swap_1024"), refused(f"{NAME}_10737418240")]
    assert files_lost_to_peers([answer("a", refused=files)], {}) == {"a": [NAME, f"{NAME}_10737418240"]}


@pytest.mark.parametrize("state", ["corrupt", "replaced"])
def test_base_file_that_is_there_is_not_lost(state: str) -> None:
    assert files_lost_to_peers([answer("a", refused=[refused(NAME, state=state)])], {}) == {}


def test_file_that_another_host_of_the_storage_restores_is_not_lost() -> None:
    sharing = [
        answer("a", "nfs", shared=True, refused=[refused(NAME), refused(OTHER)]),
        answer("b", "nfs", shared=True, restored=[restorable(NAME)]),
    ]
    assert files_lost_to_peers(sharing, {}) == {"a": [OTHER]}


def test_host_that_did_not_answer_has_lost_nothing() -> None:
    silent = FileAnswer("a", AnswerState.UNREACHABLE, error="No route")
    assert files_lost_to_peers([silent, answer("b", refused=[refused(NAME)])], {}) == {"b": [NAME]}


def test_what_glance_has_is_not_asked_of_other_hosts() -> None:
    found = {"a": {"images": {NAME: {}}}}
    assert files_lost_to_peers([answer("a", refused=[refused(NAME)])], found) == {}


def test_host_that_has_lost_everything_has_others_read_no_more_than_a_hundred_files() -> None:
    files = [refused(fingerprint(str(number))) for number in range(1000)]
    assert len(files_lost_to_peers([answer("a", refused=files)], {})["a"]) == 100


@pytest.mark.parametrize(
    "checksums",
    [
        None,
        "text",
        [{"name": NAME}],
        [having(size=-1)],
        [having(allocated_bytes=None)],
        [having(), having(BAD)],
        [having("0" * 63)],
        [having(algorithm="md5", digest="0" * 32)],
    ],
)
def test_answer_that_is_no_list_of_checksums_counts_as_none(checksums: object) -> None:
    known, error = parse_checksums("b", {RESTORE: {"checksums": checksums}})
    assert known == []
    assert "Its answer cannot be understood" in error


def test_checksums_of_a_host_are_read() -> None:
    assert parse_checksums("b", {RESTORE: {"checksums": [having()]}}) == ([having()], "")
    assert parse_checksums("b", {RESTORE: {"checksums": []}}) == ([], "")
    assert parse_checksums("b", {"unreachable": True, "msg": "No route"}) == ([], "No route")


def test_file_without_content_is_none_to_restore_from() -> None:
    one_byte = having(size=1, name=OTHER)
    assert parse_checksums("b", {RESTORE: {"checksums": [having(size=0), one_byte]}}) == ([one_byte], "")
