# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A lost base file comes from hosts of which two have the same, and never from one that is alone with it."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import PeerOptions
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.restore import RESTORE
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.restore_from_peers import (
    Owner,
    agree_on_lost_files,
    files_lost_to_peers,
    parse_checksums,
)
from ansible_collections.stackops.nova.tests.support.restores import answer, refused
from ansible_collections.stackops.nova.tools.cache_tree import fingerprint

NAME = fingerprint("one")
GOOD, BAD = "0" * 64, "f" * 64


def having(digest: str = GOOD, size: int = 1000, **more: Any) -> dict[str, Any]:
    entry = {"name": NAME, "algorithm": "sha256", "checksum": digest, "size_bytes": size, "allocated_bytes": 500}
    return {**entry, **more}


def owner(name: str, *checksums: dict[str, Any], site: str = "", disk: str = "", error: str = "") -> Owner:
    found = answer(name, disk or f"disk-{name}", host=f"nova-{name}", shared=bool(disk))
    return Owner(found, PeerOptions(site, f"{name}.example", 1, (f"{name}.example",)), checksums, error)


def agreed(*owners: Owner) -> dict[str, Any]:
    """What host a, which has lost the file, gets of the others."""
    return agree_on_lost_files({"a": [NAME]}, [owner("a"), *owners])["a"]


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
    owners = [*(owner(name) for name in "ab"), *(owner(name, having()) for name in "cd")]
    found = agree_on_lost_files({"a": [NAME], "b": [NAME]}, owners)
    assert [found[host]["peers"][NAME]["hosts"][0]["host"] for host in "ab"] == ["c.example", "d.example"]


def test_templates_come_from_no_other_host() -> None:
    files = [refused(NAME), refused("swap_1024"), refused(f"{NAME}_10737418240"), refused(f"{NAME}_5", state="corrupt")]
    assert files_lost_to_peers([answer("a", refused=files)], {}) == {"a": [NAME, f"{NAME}_10737418240"]}


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
    assert parse_checksums("b", {RESTORE: {"checksums": [having(size=0)]}}) == ([], "")
