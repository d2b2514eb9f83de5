# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No guest loses its disk on hosts that mix what public reports showed; a sample, see `./test mixed-hosts`."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.stackops.nova.tests.mixed_hosts.checking import check
from ansible_collections.stackops.nova.tests.mixed_hosts.faults import FAULTS
from ansible_collections.stackops.nova.tests.mixed_hosts.generator import random_host
from ansible_collections.stackops.nova.tests.support.host import can_set_attributes
from ansible_collections.stackops.nova.tests.support.processes import in_a_child, needs_root

# Of each fault, a host that shows it.
FOUND_BY = {
    "an overlay that disk.info calls raw names nothing": 2,
    "the prune keeps what the dry run lists of ignored orphans": 6,
    "a directory that a domain names by another name is an orphan's": 84,
    "a base file that was replaced under a guest is not reported": 0,
    "the dry run does not know immutable files": 10,
    "what a kept file is built on is removed": 27,
    "a file of no bytes refuses the host": 1,
}


@pytest.mark.parametrize("seed", range(15))
def test_prune_breaks_no_chain_and_does_what_the_dry_run_listed(seed: int, tmp_path: Path) -> None:
    assert check(random_host(seed), tmp_path) == []


@needs_root
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_that_is_put_back_is_found_out(fault: str, tmp_path: Path) -> None:
    if "immutable" in fault and not can_set_attributes(tmp_path):
        pytest.skip("takes attributes of files, and the right to set them")
    assert in_a_child(lambda: (FAULTS[fault](), check(random_host(FOUND_BY[fault]), tmp_path))[1]) != []
