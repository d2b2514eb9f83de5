# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which checksum hosts agree on: what a host serves is compared with it, and never with what that host says itself.

One compromised host can say anything, so it takes two to agree, and they must be two: a machine that is in the
inventory twice, or two hosts that may have one storage, are one witness.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from itertools import combinations
from typing import NamedTuple

__all__ = ["Checksum", "Witness", "agreed_checksums", "are_independent", "believed_allocation", "identities"]

_WITNESSES = 2


class Checksum(NamedTuple):
    """What a file must be.

    :param algorithm: ``sha256`` or ``sha512``.
    :param digest: in hex digits.
    :param size_bytes: its size.
    """

    algorithm: str
    digest: str
    size_bytes: int


@dataclass(frozen=True)
class Witness:
    """What one host says of a file.

    :param host: its name in the inventory.
    :param identities: all that tells it from others. Two witnesses that have one in common are one.
    """

    host: str
    identities: frozenset[tuple[str, ...]]
    checksum: Checksum


def identities(
    addresses: Iterable[str], nova_name: str, storage: tuple[str, ...], is_shared: bool | None
) -> frozenset[tuple[str, ...]]:
    """Return what tells a host from others.

    One shared storage may have several names: each host calls it by what it was mounted from. So all hosts of shared
    storages are one, but for those of which a storage group says which storage they have.

    :param addresses: names and addresses by which the controller knows it.
    :param nova_name: what it says that nova calls it.
    :param storage: what its cache lies on.
    :param is_shared: whether other hosts may have that as well; None where that is not known.
    """
    found = {("host", nova_name.lower()), ("storage", *storage)}
    found.update(("address", _normalised(address)) for address in addresses)
    if is_shared is not False and storage[0] != "group":
        found.add(("shared storage",))
    return frozenset(found)


def _normalised(address: str) -> str:
    """Return an address as it can be compared: without a user, and each IP address in one spelling."""
    host = address.rpartition("@")[2].strip("[]").rstrip(".").lower()
    try:
        ip = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    return str((ip.ipv4_mapped if isinstance(ip, IPv6Address) else None) or ip)


def agreed_checksums(witnesses: Iterable[Witness]) -> list[Checksum]:
    """Return the checksums that two independent witnesses have in common.

    One is agreed on. None is not known yet, and with several it is not known whom to believe.
    """
    saying: dict[Checksum, list[Witness]] = {}
    for witness in witnesses:
        saying.setdefault(witness.checksum, []).append(witness)
    return sorted(checksum for checksum, found in saying.items() if are_independent(found))


def believed_allocation(checksum: Checksum, said: Iterable[int]) -> int:
    """Return what a file may take on disk: what two hosts say at least, so that none can make others refuse it.

    :param checksum: what the file is.
    :param said: what the hosts say that have it, in bytes; with one host that counts, and with none the file's size.
    """
    largest = sorted(said, reverse=True)[:_WITNESSES]
    return min([checksum.size_bytes, *largest])


def are_independent(witnesses: Iterable[Witness]) -> bool:
    """Tell whether two of some witnesses have nothing in common.

    A third one that has something in common with each of them does not make them one: it may lie about itself.
    """
    distinct = {witness.identities for witness in witnesses}
    return any(one.isdisjoint(other) for one, other in combinations(distinct, 2))
