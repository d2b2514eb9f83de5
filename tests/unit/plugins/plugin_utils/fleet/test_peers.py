# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""It takes two hosts to agree on a checksum, and they must be two."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.peers import (
    Checksum,
    Witness,
    agreed_checksums,
    are_independent,
    believed_allocation,
    identities,
)

GOOD, BAD = Checksum("sha256", "0" * 64, 1000), Checksum("sha256", "f" * 64, 1000)


def witness(
    name: str,
    checksum: Checksum = GOOD,
    *,
    address: str = "",
    nova: str = "",
    disk: str = "",
    group: str = "",
    shared: bool | None = False,
) -> Witness:
    storage = ("group", group, "_base") if group else ("id", disk or f"disk-{name}", "")
    return Witness(name, identities([name, address or name], nova or f"nova-{name}", storage, shared), checksum)


def test_two_hosts_agree() -> None:
    assert agreed_checksums([witness("a"), witness("b")]) == [GOOD]


def test_one_host_agrees_with_nobody() -> None:
    assert agreed_checksums([witness("a")]) == []
    assert agreed_checksums([witness("a"), witness("b", BAD)]) == []


def test_third_host_settles_it() -> None:
    assert agreed_checksums([witness("a"), witness("b", BAD), witness("c")]) == [GOOD]


def test_two_pairs_that_differ_dispute() -> None:
    assert agreed_checksums([witness("a"), witness("b", BAD), witness("c"), witness("d", BAD)]) == [GOOD, BAD]


def test_files_of_different_sizes_are_different() -> None:
    assert agreed_checksums([witness("a"), witness("b", GOOD._replace(size_bytes=1))]) == []


@pytest.mark.parametrize("same", [{"address": "10.0.0.1"}, {"nova": "compute-1"}, {"disk": "nfs"}, {"group": "nfs"}])
def test_what_may_be_one_machine_or_storage_is_one_witness(same: dict[str, str]) -> None:
    assert agreed_checksums([witness("a", **same), witness("b", **same)]) == []


@pytest.mark.parametrize(
    "other", ["nova@cmp-1", "CMP-1", "cmp-1.", "Nova@Cmp-1"], ids=["user", "capitals", "dot", "user and capitals"]
)
def test_one_name_in_several_spellings_is_one_witness(other: str) -> None:
    assert agreed_checksums([witness("a", address="cmp-1"), witness("b", address=other)]) == []


@pytest.mark.parametrize("other", ["::ffff:192.0.2.1", "nova@192.0.2.1", "[::ffff:c000:201]"])
def test_one_ip_address_in_several_spellings_is_one_witness(other: str) -> None:
    assert agreed_checksums([witness("a", address="192.0.2.1"), witness("b", address=other)]) == []


def test_ipv6_addresses_are_compared_as_numbers() -> None:
    one, other = witness("a", address="2001:db8::1"), witness("b", address="2001:DB8:0::0:1")
    assert agreed_checksums([one, other]) == []
    assert agreed_checksums([one, witness("b", address="2001:db8::2")]) == [GOOD]


@pytest.mark.parametrize("shared", [True, None])
def test_shared_storages_of_different_names_are_one_witness(shared: bool | None) -> None:
    nfs = [witness(name, disk=f"nfs4:server-{name}:/cache", shared=shared) for name in "ab"]
    assert agreed_checksums(nfs) == []
    assert agreed_checksums([*nfs, witness("c")]) == [GOOD]


def test_shared_storages_of_different_groups_are_two_witnesses() -> None:
    assert agreed_checksums([witness(name, group=f"group-{name}", shared=True) for name in "ab"]) == [GOOD]


def test_host_that_ties_two_others_together_does_not_make_them_one() -> None:
    ties = [witness("a", address="one"), witness("b", disk="nfs"), witness("c", address="one", disk="nfs")]
    assert are_independent(ties)
    assert not are_independent(ties[1:])


def test_space_that_one_host_alone_asks_for_is_not_believed() -> None:
    assert believed_allocation(GOOD, [900, 100, 90]) == 100
    assert believed_allocation(GOOD, [70]) == 70
    assert believed_allocation(GOOD, []) == GOOD.size_bytes
    assert believed_allocation(GOOD, [5000, 4000]) == GOOD.size_bytes


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from([GOOD, BAD]), st.sampled_from("xyz"))))
def test_host_that_says_it_often_is_one(said: list[tuple[str, Checksum, str]]) -> None:
    witnesses = [witness(name, checksum, disk=disk) for name, checksum, disk in said]
    for checksum in agreed_checksums(witnesses):
        own = [each for each in witnesses if each.checksum == checksum]
        assert len({each.host for each in own}) >= 2
        assert len({identity for each in own for identity in each.identities if identity[0] == "storage"}) >= 2


@given(st.permutations([witness("a"), witness("b", disk="nfs"), witness("c", disk="nfs"), witness("d", nova="nova-a")]))
def test_order_of_witnesses_does_not_matter(witnesses: list[Witness]) -> None:
    assert are_independent(witnesses)
