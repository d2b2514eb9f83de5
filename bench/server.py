# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One process of the benchmark: serves one file over HTTP at whatever path, and prints its port.

The kernel sends the file, so that this is never what a client waits for.
"""

from __future__ import annotations

import os
import socket
import sys


def main() -> None:
    path = sys.argv[1]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            client, _address = listening.accept()
            with client, open(path, "rb") as file:
                client.recv(65536)
                size = os.fstat(file.fileno()).st_size
                client.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode())
                client.sendfile(file)


if __name__ == "__main__":
    main()
