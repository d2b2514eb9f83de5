# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Identity, Compute and Image API on loopback: they answer what a real cloud answered, or something bad."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from ansible_collections.stackops.nova.tests.support import captures

CAPTURED = captures.CAPTURES / "soft-deleted" / "api"
PAGE = 2
PROJECT = "dccac35980924755aa0d5d4144ac759e"
REGION = "lab"
# How long an answer is kept back that a test never waits for.
HANG_SECONDS = 30


def captured(name: str, key: str) -> list[dict[str, Any]]:
    return json.loads((CAPTURED / f"{name}.json").read_text())[key]


class Cloud:
    """What the APIs know and do.

    :ivar url: where they are.
    :ivar regions: the names of the regions, which are also the first part of a path.
    :ivar servers: the servers of each region; soft-deleted and deleted ones included.
    :ivar images: the images of each region; hidden and community ones included.
    :ivar trouble: what is wrong with the answers of `troubled`, the end of a path.
    :ivar requests: method and path of each request.
    :ivar roles: the roles of a token.
    :ivar token: the beginning of each token; each login gets another one.
    :ivar files: what Glance serves of an image, by its id, to who has a token.
    """

    def __init__(self, url: str, regions: Sequence[str], trouble: str, troubled: str) -> None:
        self.url = url
        self.regions = tuple(regions)
        deleted = captured("servers-detail-deleted-true", "servers")
        self.servers = {region: [*captured("servers-detail", "servers"), *deleted] for region in regions}
        self.images = {region: captured("images", "images") for region in regions}
        self.trouble = trouble
        self.troubled = troubled
        self.requests: list[str] = []
        self.roles = ["admin"]
        self.token = "token"
        self.tokens: list[str] = []
        self.files: dict[str, bytes] = {}
        self.released = threading.Event()

    def count(self, path: str) -> int:
        return sum(path in request for request in self.requests)

    def catalogue(self) -> list[dict[str, Any]]:
        """Return what a token has of the services."""
        paths = {"identity": "identity/v3", "compute": "compute/v2.1", "image": "image"}
        return [
            {
                "type": service,
                "name": service,
                "id": service,
                "endpoints": [
                    {
                        "id": f"{service}-{region}",
                        "interface": "public",
                        "region": region,
                        "region_id": region,
                        "url": f"{self.url}/{region}/{path}",
                    }
                    for region in self.regions
                ],
            }
            for service, path in paths.items()
        ]


class Answer(BaseHTTPRequestHandler):
    """One request."""

    cloud: Cloud
    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments: object) -> None:
        """Nothing on standard error."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._note()
        if self._is_troubled():
            return
        admin = {"id": "admin", "name": "admin", "domain": {"id": "default", "name": "Default"}}
        token = {
            "methods": ["password"],
            "user": {**admin, "password_expires_at": None},
            "project": {**admin, "id": PROJECT},
            "roles": [{"id": role, "name": role} for role in self.cloud.roles],
            "is_domain": False,
            "audit_ids": ["audit"],
            "issued_at": "2026-11-22T08:00:00.000000Z",
            "expires_at": "2036-11-22T08:00:00.000000Z",
            "catalog": self.cloud.catalogue(),
        }
        self.cloud.tokens.append(f"{self.cloud.token}{len(self.cloud.tokens)}")
        self._send(201, {"token": token}, {"X-Subject-Token": self.cloud.tokens[-1]})

    def do_GET(self) -> None:
        self._note()
        if self._is_troubled():
            return
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        region, _slash, path = url.path.lstrip("/").partition("/")
        here = f"{self.cloud.url}/{region}"
        if path.endswith("/servers/detail"):
            self._send(200, self._servers(region, query))
        elif path.endswith("/images"):
            self._send(200, self._images(region, query))
        elif path.endswith("/file"):
            self._send_file(path.split("/")[-2])
        elif path.startswith("compute"):
            links = [{"rel": "self", "href": f"{here}/compute/v2.1/"}]
            version = {"id": "v2.1", "status": "CURRENT", "version": "2.93", "min_version": "2.1", "links": links}
            self._send(200, {"version": version} if "v2.1" in path else {"versions": [version]})
        elif path.startswith("image"):
            links = [{"rel": "self", "href": f"{here}/image/v2/"}]
            self._send(300, {"versions": [{"id": "v2.15", "status": "CURRENT", "links": links}]})
        else:
            links = [{"rel": "self", "href": f"{self.cloud.url}/identity/v3/"}]
            version = {"id": "v3.14", "status": "stable", "links": links, "media-types": []}
            self._send(200, {"version": version} if "v3" in self.path else {"versions": {"values": [version]}})

    def _send_file(self, image_id: str) -> None:
        if self.headers.get("X-Auth-Token") not in self.cloud.tokens:
            self._send(401, {"error": {"code": 401, "message": "Unauthorized"}})
        else:
            self._send_bytes(200, self.cloud.files[image_id], {"Content-Type": "application/octet-stream"})

    def _servers(self, region: str, query: dict[str, str]) -> dict[str, Any]:
        """Answer as nova does: without a microversion, flavors are links and servers of lost cells are left out."""
        requested = self.headers.get("X-OpenStack-Nova-API-Version", "2.1")
        is_new = tuple(map(int, requested.split("."))) >= (2, 69)
        servers = self.cloud.servers[region]
        if query.get("deleted") in ("True", "true", "1"):
            servers = [server for server in servers if server["status"] in ("DELETED", "SOFT_DELETED")]
        else:
            servers = [server for server in servers if server["status"] not in ("DELETED", "SOFT_DELETED")]
        if "status" in query:
            servers = [server for server in servers if server["status"] == query["status"]]
        if not query.get("all_tenants"):
            servers = [server for server in servers if server.get("tenant_id") == PROJECT]
        if not is_new:
            servers = [{**server, "flavor": {"id": "1"}} for server in servers if server["status"] != "UNKNOWN"]
        page, has_more = self._page(servers, query)
        answer: dict[str, Any] = {"servers": page}
        if has_more:
            parameters = urlencode({**query, "marker": page[-1]["id"]})
            href = f"{self.cloud.url}/{region}/compute/v2.1/servers/detail?{parameters}"
            answer["servers_links"] = [{"rel": "next", "href": href}]
        return answer

    def _images(self, region: str, query: dict[str, str]) -> dict[str, Any]:
        """Answer as Glance does: community images of others are in no list that does not ask for all."""
        images = [
            image
            for image in self.cloud.images[region]
            if image["os_hidden"] == (query.get("os_hidden") == "true")
            and (image["visibility"] != "community" or query.get("visibility") == "all")
        ]
        page, has_more = self._page(images, query)
        return {"images": page, **({"next": f"/v2/images?marker={page[-1]['id']}"} if has_more else {})}

    def _page(self, items: list[dict[str, Any]], query: dict[str, str]) -> tuple[list[dict[str, Any]], bool]:
        ids = [item["id"] for item in items]
        start = ids.index(query["marker"]) + 1 if "marker" in query and not self._is("in circles") else 0
        return items[start : start + PAGE], start + PAGE < len(items)

    def _is(self, trouble: str) -> bool:
        return self.cloud.trouble == trouble and urlsplit(self.path).path.endswith(self.cloud.troubled)

    def _is_troubled(self) -> bool:
        cloud = self.cloud
        url = urlsplit(self.path)
        if not cloud.trouble or not url.path.endswith(cloud.troubled):
            return False
        if cloud.trouble.isdigit():
            self._send(int(cloud.trouble), {"error": {"code": int(cloud.trouble), "message": "As the test asked."}})
        elif cloud.trouble == "rubbish":
            self._send_bytes(200, b"<html>It works!</html>")
        elif cloud.trouble == "other json":
            self._send(200, {"flavors": []})
        elif cloud.trouble == "list":
            self._send(200, [])
        elif cloud.trouble == "number":
            self._send(200, {"servers": 7, "images": 7})
        elif cloud.trouble == "half a page":
            self._send_bytes(200, json.dumps(self._servers(cloud.regions[0], {})).encode()[:1000])
        elif cloud.trouble == "cut off":
            self._send_bytes(200, b'{"servers": [', length=100000)
            self.close_connection = True
        elif cloud.trouble == "no second page" and "marker" in url.query:
            self._send(404, {"itemNotFound": {"code": 404, "message": "marker not found"}})
        elif cloud.trouble == "hang":
            cloud.released.wait(HANG_SECONDS)
            self.close_connection = True
        else:
            return False
        return True

    def _note(self) -> None:
        self.cloud.requests.append(f"{self.command} {self.path}")

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        self._send_bytes(status, json.dumps(body).encode(), headers)

    def _send_bytes(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, length: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def cloud(trouble: str = "", troubled: str = "", regions: Sequence[str] = (REGION,)) -> Iterator[Cloud]:
    """Run the APIs for as long as a test needs them."""
    answer = type("AnswerOfThisCloud", (Answer,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), answer) as server:
        running = Cloud(f"http://127.0.0.1:{server.server_port}", regions, trouble, troubled)
        answer.cloud = running
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield running
        finally:
            running.released.set()
            server.shutdown()
            thread.join()


def write_clouds(folder: Path, urls: dict[str, str], region: str | None = REGION, **more: Any) -> Path:
    """Write a ``clouds.yaml`` with a cloud for each URL.

    :param folder: where it is written.
    :param urls: the URLs of their APIs by the names of the clouds.
    :param region: the region of each; None for none.
    :param more: what each cloud has besides.
    :return: its path.
    """
    secrets = {"username": "admin", "password": "secret", "project_name": "admin"}
    domains = {"user_domain_name": "Default", "project_domain_name": "Default"}
    named = {} if region is None else {"region_name": region}
    clouds = {
        name: {"auth": {"auth_url": f"{url}/identity/v3", **secrets, **domains}, **named, **more}
        for name, url in urls.items()
    }
    path = folder / "clouds.yaml"
    path.write_text(json.dumps({"clouds": clouds}))
    return path
