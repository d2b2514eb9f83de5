# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A site of containers in which the user nova of each host logs in to each other one, with a real Glance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.stackops.nova.tests.support.compute_fleet import ComputeFleet, Run
from ansible_collections.stackops.nova.tests.support.containers import (
    CA_CERT,
    Container,
    Containers,
    containers,
    exchange_ssh_keys,
)
from ansible_collections.stackops.nova.tests.support.image_service import ImageService, image_service

__all__ = ["EdgeSite", "edge_site"]


class EdgeSite:
    """Hosts that serve each other.

    :ivar hosts: the hosts, by name in the order in which waves choose them.
    :ivar service: Glance.
    """

    def __init__(self, made: Containers, service: ImageService) -> None:
        self.hosts = made.hosts
        self.service = service
        self._made = made

    def begin(self, instead: Mapping[int, str] | None = None) -> list[Container]:
        """Make all hosts ones without instances, which let others log in.

        :param instead: the script that a host runs whatever others ask it for, by its place among the hosts.
        """
        for place, host in enumerate(self.hosts):
            host.reset()
            host.start_sshd((instead or {}).get(place, ""))
        return self.hosts

    def fleet(self, root: Path) -> ComputeFleet:
        """Return the fleet of these hosts as their operator has it."""
        fleet = self.service.fleet(root)
        self._made.add_to(fleet)
        for host in self.hosts:
            fleet.hosts[host.name]["image_cache_peer_address"] = host.address
        fleet.variables["image_cache_use_peers"] = True
        return fleet

    def precache(self, fleet: ComputeFleet, image: Mapping[str, Any], *arguments: str, **variables: Any) -> Run:
        """Pre-cache an image, with as many forks as the guide says."""
        forks = f"--forks={len(self.hosts) // 2}"
        return fleet.run_playbook(
            "stackops.nova.precache", forks, *arguments, image_cache_precache_images=[image["id"]], **variables
        )

    def served_copies(self, image: Mapping[str, Any]) -> float:
        """Return how often Glance has served the bytes of an image."""
        return self.service.served_bytes(image["id"]) / int(image["size"])


@contextmanager
def edge_site(root: Path, number: int) -> Iterator[EdgeSite]:
    """Run a site of so many hosts for as long as it is needed.

    :param root: an empty folder.
    """
    for name in ("keys", "cloud"):
        (root / name).mkdir()
    with containers(root, number) as made, image_service(root / "cloud", made.address) as service:
        for host in made.hosts:
            host.bring(service.ca_cert, CA_CERT)
        exchange_ssh_keys(made.hosts, root / "keys")
        yield EdgeSite(made, service)
