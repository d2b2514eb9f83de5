# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Domain XML for the tests."""

from __future__ import annotations

from ansible_collections.stackops.nova.tests.support.constants import UUID


def nova_domain(
    *, name: str = "instance-00000002", uuid: str = UUID, metadata: str = "", devices: str = "", head: str = ""
) -> bytes:
    """A domain of nova's as libvirt keeps its XML; `metadata` is in nova's part, `head` stands before all."""
    return f"""{head}<domain type='kvm'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <metadata>
    <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">{metadata}</nova:instance>
  </metadata>
  <devices>{devices}</devices>
</domain>""".encode()
