# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""This host's address, as nova finds it where nova.conf does not set ``my_ip``."""

from __future__ import annotations

import fcntl
import socket
import struct

__all__ = ["own_address"]

_TEST_NETWORK = ("192.0.2.0", 80)  # RFC 5737. No packet is sent.
_LOCALHOST = "127.0.0.1"
_ROUTES = "/proc/net/route"
_DEFAULT_DESTINATION = "00000000"
_SIOCGIFADDR = 0x8915
_INTERFACE_REQUEST = "16s24x"
_ADDRESS = slice(20, 24)  # of the IPv4 address in the kernel's answer


def own_address() -> str:
    """Return nova's default for ``my_ip``.

    :return: the source address of packets to the internet, else the address of the default route's interface,
        else that of the loopback (``get_my_ipv4`` in ``oslo_utils/netutils.py``).
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_TEST_NETWORK)
            return str(probe.getsockname()[0])
        except OSError:
            return _address_of_default_route(probe)


def _address_of_default_route(probe: socket.socket) -> str:
    try:
        with open(_ROUTES, encoding="ascii") as stream:
            routes = [line.split("\t") for line in stream]
        interface = next(route[0] for route in routes if route[1] == _DEFAULT_DESTINATION)
        request = struct.pack(_INTERFACE_REQUEST, interface.encode())
        return socket.inet_ntoa(fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)[_ADDRESS])
    except (OSError, StopIteration):
        return _LOCALHOST
