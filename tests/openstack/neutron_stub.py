# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Says "none" to every question that nova asks of neutron, for a cloud without networks."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 9696
VERSIONS = {
    "versions": [
        {"id": "v2.0", "status": "CURRENT", "links": [{"rel": "self", "href": f"http://127.0.0.1:{PORT}/v2.0/"}]}
    ]
}


class Handler(BaseHTTPRequestHandler):
    """Every collection is empty, and nothing can be created."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = [part for part in self.path.partition("?")[0].split("/") if part]
        if len(parts) < 2:
            self._answer(200, VERSIONS)
        elif len(parts) > 2:
            self._refuse()
        else:
            name = parts[1].replace(".json", "").replace("-", "_")
            self._answer(200, {"quota": {}} if name == "quotas" else {name: []})

    def _refuse(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(404, {"NeutronError": {"type": "NotFound", "message": self.path, "detail": ""}})

    do_POST = do_PUT = do_DELETE = _refuse

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
