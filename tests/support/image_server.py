# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server of one image on this machine, which answers each request as a test wants it: over plain sockets."""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.records import ImageRecord
from ansible_collections.stackops.nova.tests.support.constants import IMAGE


class Request(NamedTuple):
    """What a client asked for: the path, and the headers by their names in small letters."""

    path: str
    headers: dict[str, str]

    @property
    def first(self) -> int:
        """The first byte that it asked for."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", "bytes=0-"))
        assert found is not None
        return int(found[1])


Answer = Callable[[Request], "Iterator[bytes]"]
"""What is sent, piece by piece. Then the connection is closed; reset, where the last piece is :data:`RESET`."""

RESET = b"RESET"


class ImageServer:
    """Answers the first request with the first of its answers, and so on; all further ones with the last.

    :param answers: they may be changed while it runs.
    :param tls: the server's certificate and key, None for plain HTTP.
    """

    def __init__(self, *answers: Answer, tls: Path | None = None) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []
        self._context: ssl.SSLContext | None = None
        if tls is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(tls)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.origin = f"http{'s' if tls else ''}://127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> ImageServer:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Listen no more: the next connection is refused."""
        with suppress(OSError):  # it has been stopped
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):  # it was stopped
            while True:
                client, _address = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client:  # the client may leave at any time
            # A client that gives up must not keep this thread.
            client.settimeout(30)
            if self._context is not None:
                client = self._context.wrap_socket(client, server_side=True)
            with client:
                self._answer(client)

    def _answer(self, client: socket.socket) -> None:
        text = b""
        while not text.endswith(b"\r\n\r\n"):
            received = client.recv(65536)
            if not received:
                return
            text += received
            if text.startswith(b"\x16"):  # TLS, and this server has none
                client.sendall(head(400))
                return
        first, *lines = text.decode().strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _colon, value in (line.partition(":") for line in lines)}
        request = Request(first.split()[1], headers)
        answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
        self.requests.append(request)
        for piece in answer(request):
            if piece == RESET:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            client.sendall(piece)
        with suppress(OSError):
            client.shutdown(socket.SHUT_WR)
            client.recv(65536)


def answer(status: int, body: bytes = b"", *headers: str) -> Answer:
    """One answer, whole."""
    return lambda _request: iter([head(status, *headers, f"Content-Length: {len(body)}"), body])


def head(status: int, *headers: str) -> bytes:
    """The beginning of an answer."""
    return "\r\n".join([f"HTTP/1.1 {status} Reason", *headers, "", ""]).encode()


def redirect(location: str, status: int = 302) -> Answer:
    return answer(status, b"", f"Location: {location}")


def image(content: bytes, *, end: int | None = None, then: bytes = b"", ranges: bool = True) -> Answer:
    """The image as Glance serves it, or a part of it.

    :param end: the byte before which the connection ends, of those of the image; None for all.
    :param then: what is sent after them.
    :param ranges: whether a request for a range gets one.
    """

    def answer_with_image(request: Request) -> Iterator[bytes]:
        first = request.first if ranges else 0
        length = f"Content-Length: {len(content) - first}"
        if first:
            yield head(206, length, f"Content-Range: bytes {first}-{len(content) - 1}/{len(content)}")
        else:
            yield head(200, length)
        yield content[first:end]
        if then:
            yield then

    return answer_with_image


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> Answer:
    """A body in chunks."""

    def answer_with_chunks(_request: Request) -> Iterator[bytes]:
        yield head(200, "Transfer-Encoding: chunked")
        for chunk in chunks:
            yield b"%x\r\n%b\r\n" % (len(chunk), chunk)
        yield end

    return answer_with_chunks


def record_of(content: bytes, algorithm: str = "sha512") -> ImageRecord:
    """Glance's record of an image with these bytes."""
    checksum = hashlib.new(algorithm, content).hexdigest()
    return ImageRecord(IMAGE, "raw", "bare", "active", len(content), algorithm, checksum)


def certificate(directory: Path, name: str = "IP:127.0.0.1") -> Path:
    """A new certificate of a server with that name, which is its own authority, and its key, in one file."""
    path = directory / f"{name.replace(':', '-')}.pem"
    command = "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -subj /CN=test"
    subprocess.run(
        [*command.split(), "-addext", f"subjectAltName={name}", "-keyout", str(path) + ".key", "-out", str(path)],
        check=True,
        capture_output=True,
    )
    path.write_bytes(path.read_bytes() + Path(f"{path}.key").read_bytes())
    return path
