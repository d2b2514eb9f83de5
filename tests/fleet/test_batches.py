# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A play in batches (``serial``): each reports the hosts so far, and the last one reports all."""

from __future__ import annotations

import pytest

from ansible_collections.stackops.nova.tests.support.compute_fleet import REPORT, ComputeFleet, Run, role

HOSTS = ["a", "b", "c", "d", "e"]


@pytest.fixture
def run(fleet: ComputeFleet) -> Run:
    """A prune of five hosts, two at a time."""
    for host in HOSTS:
        fleet.add(host)
    return fleet.play({"serial": 2, "tasks": [role("prune")]})


@pytest.mark.slow
def test_last_batch_reports_what_all_have_removed(run: Run) -> None:
    assert (run.status, run.changed) == (0, set(HOSTS)), run.output
    assert {host["name"]: host["state"] for host in run.reported["fleet"]["hosts"]} == dict.fromkeys(HOSTS, "pruned")
    assert run.reported["fleet"]["summary"]["removed"] == 5
    assert run.shown == set(HOSTS)


def test_hosts_of_batches_to_come_are_not_without_an_answer(run: Run) -> None:
    shown = [one["result"]["text"] for one in run.results if one["task"].endswith(REPORT) and "text" in one["result"]]
    assert [text[0] for text in shown] == [
        "IMAGE CACHES  2 hosts, 2 storages",
        "IMAGE CACHES  4 hosts, 4 storages",
        "IMAGE CACHES  5 hosts, 5 storages",
    ]
