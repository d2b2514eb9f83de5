# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Compute and Image APIs, as far as the workload needs them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import openstack

MICROVERSION = "2.90"
GONE = "GONE"
_SOFT_DELETED = {"deleted": "True", "status": "soft_deleted", "all_tenants": "1"}


class Broken(Exception):
    """A server is not in the state that it should be in."""


class Cloud:
    """One connection, by the OS_* environment variables; for one thread."""

    def __init__(self) -> None:
        self.connection = openstack.connect(load_envvars=True)

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        answer = getattr(self.connection.compute, method)(path, microversion=MICROVERSION, **arguments)
        if answer.status_code >= 400:
            raise Broken(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer.json() if answer.content else {}

    def create(self, body: dict[str, Any]) -> str:
        """Begin to make a server, and return its id."""
        return self._call("post", "/servers", json={"server": {"networks": "none", **body}})["server"]["id"]

    def act(self, server_id: str, action: str, value: Any = None) -> None:
        """Begin an action on a server."""
        self._call("post", f"/servers/{server_id}/action", json={action: value})

    def delete(self, server_id: str) -> None:
        """Begin to delete a server; as this cloud is configured, softly."""
        self._call("delete", f"/servers/{server_id}")

    def status(self, server_id: str) -> tuple[str, str | None, str]:
        """Return a server's status, its task and the message of its fault."""
        answer = self.connection.compute.get(f"/servers/{server_id}", microversion=MICROVERSION)
        if answer.status_code == 404:
            return GONE, None, ""
        server = answer.json()["server"]
        return server["status"], server["OS-EXT-STS:task_state"], server.get("fault", {}).get("message", "")

    def wait(self, server_id: str, status: str, seconds: float = 300) -> None:
        """Wait until a server has a status and no task is under way.

        :raises Broken: it gets another one, or time is over.
        """
        end = time.monotonic() + seconds
        while True:
            seen, task, fault = self.status(server_id)
            if seen == status and task is None:
                return
            if seen == "ERROR" or (seen == GONE and status != GONE) or time.monotonic() > end:
                raise Broken(f"{server_id} is {seen} ({task}) instead of {status}: {fault}")
            time.sleep(1)

    def servers(self) -> dict[str, str]:
        """Return the status of each server there is, soft-deleted ones too, by its id."""
        found = {}
        for query in ({"all_tenants": "1"}, _SOFT_DELETED):
            for server in self._call("get", "/servers/detail", params=query)["servers"]:
                if server["OS-EXT-STS:vm_state"] != "deleted":
                    found[server["id"]] = server["status"]
        return found

    def instance_name(self, server_id: str) -> str:
        """Return the name by which libvirt knows a server."""
        return str(self._call("get", f"/servers/{server_id}")["server"]["OS-EXT-SRV-ATTR:instance_name"])

    def records(self) -> list[dict[str, Any]]:
        """Return the servers as ``openstack.cloud.server_info`` gives them."""
        servers = self.connection.compute.servers(details=True, all_projects=True)
        return [server.to_dict(computed=False) for server in servers]

    def upload(self, name: str, path: str, disk_format: str, visibility: str = "shared") -> str:
        """Return the id of a new image."""
        image = self.connection.create_image(
            name,
            filename=path,
            disk_format=disk_format,
            container_format="bare",
            visibility=visibility,
            wait=True,
            validate_checksum=False,
        )
        return str(image.id)

    def image_record(self, image_id: str) -> dict[str, Any]:
        """Return an image as ``openstack.cloud.image_info`` gives it."""
        record: dict[str, Any] = self.connection.image.get_image(image_id).to_dict(computed=False)
        return record

    def download(self, image_id: str, path: Path) -> None:
        """Save what Glance serves of an image."""
        self.connection.image.download_image(image_id, output=str(path))

    def make_flavor(self, name: str, **sizes: int) -> str:
        """Return the id of a new flavor with 64 MB of memory and one processor."""
        return str(self.connection.compute.create_flavor(name=name, ram=64, vcpus=1, **sizes).id)
