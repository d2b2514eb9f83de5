# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The address that nova takes for `my_ip` is found on hosts with all sorts of routes."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from oslo_utils import netutils

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.own_address import own_address
from ansible_collections.stackops.nova.tests.support.processes import with_own_network

ADDRESS = "198.51.100.7"
# The loopback, because it takes no kernel module.
INTERFACE = ["link set lo up", "address del 127.0.0.1/8 dev lo", f"address add {ADDRESS}/24 dev lo"]
DEFAULT_ROUTE = "route add default dev lo"
# As on networks that drop what is sent to addresses for documentation.
NO_WAY_TO_TEST_NETWORK = "route add blackhole 192.0.2.0/24"


@pytest.mark.skipif(shutil.which("ip") is None, reason="takes the command ip")
@pytest.mark.parametrize(
    ("commands", "address"),
    [
        pytest.param([*INTERFACE, DEFAULT_ROUTE], ADDRESS, id="source of packets to the internet"),
        pytest.param([*INTERFACE, DEFAULT_ROUTE, NO_WAY_TO_TEST_NETWORK], ADDRESS, id="interface of the default route"),
        pytest.param([*INTERFACE, "route add blackhole default"], "127.0.0.1", id="default route without interface"),
        pytest.param(INTERFACE, "127.0.0.1", id="no default route"),
        pytest.param([], "127.0.0.1", id="no network"),
    ],
)
def test_address_is_the_one_that_nova_finds(commands: list[str], address: str) -> None:
    def ask() -> tuple[str, str]:
        for command in commands:
            subprocess.run(["ip", *command.split()], check=True)
        return own_address(), netutils.get_my_ipv4()

    try:
        found = with_own_network(ask)
    except PermissionError:
        pytest.skip("takes the right to make a network namespace")
    assert found == (address, address)
