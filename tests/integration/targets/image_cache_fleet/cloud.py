# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Identity, Compute and Image API on loopback: they answer what a real cloud answered, or something bad."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ansible_collections.stackops.nova.tests.support import captures

CAPTURED = captures.CAPTURES / "soft-deleted" / "api"
PAGE = 2
PROJECT = "dccac35980924755aa0d5d4144ac759e"


def captured(name: str, key: str) -> list[dict[str, Any]]:
    return json.loads((CAPTURED / f"{name}.json").read_text())[key]


class Cloud:
    """What the APIs do.

    :param trouble: what is wrong with the answers of `troubled`, the end of a path.
    """

    def __init__(self, url: str, trouble: str, troubled: str) -> None:
        self.url = url
        self.trouble = trouble
        self.troubled = troubled
        self.requests: list[str] = []

    def count(self, path: str) -> int:
        return sum(path in request for request in self.requests)


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
        services = {"identity": "identity/v3", "compute": "compute/v2.1", "image": "image"}
        catalog = [
            {
                "type": kind,
                "name": kind,
                "id": kind,
                "endpoints": [
                    {
                        "id": kind,
                        "interface": "public",
                        "region": "lab",
                        "region_id": "lab",
                        "url": f"{self.cloud.url}/{path}",
                    }
                ],
            }
            for kind, path in services.items()
        ]
        admin = {"id": "admin", "name": "admin", "domain": {"id": "default", "name": "Default"}}
        token = {
            "methods": ["password"],
            "user": {**admin, "password_expires_at": None},
            "project": {**admin, "id": PROJECT},
            "roles": [{"id": "admin", "name": "admin"}],
            "is_domain": False,
            "audit_ids": ["audit"],
            "issued_at": "2026-11-22T08:00:00.000000Z",
            "expires_at": "2036-11-22T08:00:00.000000Z",
            "catalog": catalog,
        }
        self._send(201, {"token": token}, {"X-Subject-Token": "token"})

    def do_GET(self) -> None:
        self._note()
        if self._is_troubled():
            return
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.path.endswith("/servers/detail"):
            self._send(200, self._servers(query))
        elif url.path.endswith("/images"):
            self._send(200, self._images(query))
        elif url.path.startswith("/compute"):
            links = [{"rel": "self", "href": f"{self.cloud.url}/compute/v2.1/"}]
            version = {"id": "v2.1", "status": "CURRENT", "version": "2.93", "min_version": "2.1", "links": links}
            self._send(200, {"version": version} if "v2.1" in url.path else {"versions": [version]})
        elif url.path.startswith("/image"):
            links = [{"rel": "self", "href": f"{self.cloud.url}/image/v2/"}]
            self._send(300, {"versions": [{"id": "v2.15", "status": "CURRENT", "links": links}]})
        else:
            links = [{"rel": "self", "href": f"{self.cloud.url}/identity/v3/"}]
            version = {"id": "v3.14", "status": "stable", "links": links, "media-types": []}
            self._send(200, {"version": version} if "v3" in url.path else {"versions": {"values": [version]}})

    def _servers(self, query: dict[str, str]) -> dict[str, Any]:
        servers = captured("servers-detail", "servers")
        if query.get("deleted") in ("True", "1"):
            servers = captured("servers-detail-deleted-true", "servers")
        if "status" in query:
            # A soft-deleted server is deleted too, for the API.
            servers = [server for server in servers if server["status"] == query["status"]]
        page, more = self._page(servers, query)
        answer: dict[str, Any] = {"servers": page}
        if more:
            where = {**query, "marker": page[-1]["id"]}
            href = f"{self.cloud.url}/compute/v2.1/servers/detail?" + "&".join(f"{k}={v}" for k, v in where.items())
            answer["servers_links"] = [{"rel": "next", "href": href}]
        return answer

    def _images(self, query: dict[str, str]) -> dict[str, Any]:
        page, more = self._page(captured("images", "images"), query)
        return {"images": page, **({"next": f"/v2/images?marker={page[-1]['id']}"} if more else {})}

    def _page(self, items: list[dict[str, Any]], query: dict[str, str]) -> tuple[list[dict[str, Any]], bool]:
        ids = [item["id"] for item in items]
        start = ids.index(query["marker"]) + 1 if "marker" in query and not self._goes("in circles") else 0
        return items[start : start + PAGE], start + PAGE < len(items)

    def _goes(self, trouble: str) -> bool:
        return self.cloud.trouble == trouble and urlsplit(self.path).path.endswith(self.cloud.troubled)

    def _is_troubled(self) -> bool:
        cloud = self.cloud
        path, _question, query = self.path.partition("?")
        if not cloud.trouble or not path.endswith(cloud.troubled):
            return False
        if cloud.trouble.isdigit():
            self._send(int(cloud.trouble), {"error": {"code": int(cloud.trouble), "message": "As the test asked."}})
        elif cloud.trouble == "rubbish":
            self._send_bytes(200, b"<html>It works!</html>")
        elif cloud.trouble == "other json":
            self._send(200, {"flavors": []})
        elif cloud.trouble == "half a page":
            self._send_bytes(200, json.dumps(self._servers({})).encode()[:1000])
        elif cloud.trouble == "cut off":
            self._send_bytes(200, b'{"servers": [', length=100000)
            self.close_connection = True
        elif cloud.trouble == "no second page" and "marker" in query:
            self._send(404, {"itemNotFound": {"code": 404, "message": "marker not found"}})
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
def cloud(trouble: str = "", troubled: str = "") -> Iterator[Cloud]:
    """The APIs, for as long as a test needs them."""
    answer = type("AnswerOfThisCloud", (Answer,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), answer) as server:
        answer.cloud = Cloud(f"http://127.0.0.1:{server.server_port}", trouble, troubled)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield answer.cloud
        finally:
            server.shutdown()
            thread.join()
