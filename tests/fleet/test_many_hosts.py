# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many hosts in several rounds of forks: each is pruned by itself, and the one that fails stops nobody."""

from __future__ import annotations

from ansible_collections.stackops.nova.tests.support.compute_fleet import FAILING, LOOK, ComputeFleet, names
from ansible_collections.stackops.nova.tools.cache_tree import fingerprint

HOSTS = [f"host-{number:02}" for number in range(20)]
SCREEN = 45
HEADINGS = 18


def test_each_of_many_hosts_is_pruned_but_the_one_that_fails(fleet: ComputeFleet) -> None:
    for host in HOSTS:
        fleet.add(host)
    fleet.hosts["host-13"].update(FAILING)
    run = fleet.prune("--forks", "8")
    assert (run.failed, run.changed) == ({"host-13"}, {*HOSTS} - {"host-13"}), run.output
    for host in run.changed:
        assert fleet.cached(host) == names(f"image-{host}")
    assert len(fleet.cached("host-13")) == 2
    summary = run.reported["fleet"]["summary"]
    assert (summary["hosts"], summary["hosts_without_answer"], summary["removed"]) == (20, 1, 19)


def test_troubled_host_takes_three_lines_beside_the_screen_of_its_fleet(fleet: ComputeFleet) -> None:
    for host in HOSTS:
        tree = fleet.add(host)
        tree.instance(f"uuid-{host}", {"disk": fingerprint(f"lost-{host}")})
        tree.compute_nodes({f"elsewhere-{host}": tree.now})
    run = fleet.audit("--forks", "8")
    assert len(run.text.splitlines()) <= SCREEN
    # So that 60 hosts take at most 243 lines.
    assert len(run.output.splitlines()) <= 3 * len(HOSTS) + SCREEN + HEADINGS, run.output
    for host, result in run.of(LOOK).items():
        missing, refused = result["host_warnings"][:2]  # the machine may hide open files of others, which is a third
        assert fingerprint(f"lost-{host}") in missing
        assert refused.startswith(f"Nothing may be removed: Host elsewhere-{host} ")
