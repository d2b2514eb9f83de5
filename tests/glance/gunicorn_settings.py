# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How gunicorn runs Keystone and Glance: with TLS, and with lists of requests, of what was sent and of tokens."""

from __future__ import annotations

import os
import sys
from typing import Any

# Both services would read gunicorn's arguments as their own.
del sys.argv[1:]

certfile = keyfile = os.environ["SERVER_CERTIFICATE"]
worker_class = "gthread"
threads = 8
timeout = 120  # the first start compiles several thousand modules
control_socket_disable = True
accesslog = "-"


def pre_request(_worker: Any, request: Any) -> None:
    """Note a request, before a client can know the answer."""
    part = dict(request.headers).get("RANGE", "")
    with open(os.environ["REQUESTS"], "a") as requests:
        requests.write(f"{request.method} {request.path} {part}\n")


def post_request(_worker: Any, request: Any, _environ: Any, response: Any) -> None:
    """Note how many bytes were sent, and a token that Keystone gave to a client, so that a test can look for it."""
    with open(os.environ["SERVED"], "a") as served:
        served.write(f"{request.method} {request.path} {response.sent}\n")
    with open(os.environ["TOKENS"], "a") as tokens:
        tokens.writelines(f"{value}\n" for name, value in response.headers if name.lower() == "x-subject-token")
