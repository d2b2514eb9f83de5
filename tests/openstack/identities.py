# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes the service users and the catalogue of a new cloud, as the OS_* environment variables say."""

from __future__ import annotations

import os

import openstack

SERVICES = (
    ("glance", "image", "http://127.0.0.1:9292"),
    ("placement", "placement", "http://127.0.0.1:8778"),
    ("nova", "compute", "http://127.0.0.1:8774/v2.1"),
    ("neutron", "network", "http://127.0.0.1:9696"),
)


def main() -> None:
    identity = openstack.connect(load_envvars=True).identity
    project = identity.find_project("service") or identity.create_project(name="service", domain_id="default")
    admin = identity.find_role("admin")
    for name, kind, url in SERVICES:
        user = identity.find_user(name) or identity.create_user(
            name=name, password=os.environ["OS_PASSWORD"], domain_id="default", default_project_id=project.id
        )
        identity.assign_project_role_to_user(project, user, admin)
        service = identity.find_service(name) or identity.create_service(name=name, type=kind)
        made = {endpoint.interface for endpoint in identity.endpoints(service_id=service.id)}
        for interface in {"public", "internal", "admin"} - made:
            identity.create_endpoint(service_id=service.id, interface=interface, url=url, region_id="RegionOne")


if __name__ == "__main__":
    main()
