# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An image from Glance: streamed by this host, hashed and written sparse while it comes.

A server, or a network, can do anything. So a transfer ends in one of two ways: the file has the size and the checksum
of the image's record, or :class:`FetchError` says what happened. A proxy that the environment names is not used: nova
reaches Glance without one.

Only what restores or pre-caches imports this module: ``http.client`` and ``ssl`` are large.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
import time
from contextlib import suppress
from typing import Any, Mapping, NamedTuple, cast
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from ..errors import FetchError, ImageCacheError, reason_and_remedy
from ..hashing import RateLimiter
from ..text import printable, shortened
from .records import ImageRecord
from .streaming import LEAST_BYTES_PER_SECOND, LowestRate, Transfer, write_stream

__all__ = ["Glance", "fetch_image", "image_url", "read_glance"]

_CHECK_NETWORK = (
    "Check glance.endpoint (image_cache_glance_interface of the role), and the network and firewalls on the way."
)
_RECEIVE_BYTES = 256 * 1024
_MOST_REDIRECTS = 5
_MOST_HEADER_BYTES = 256 * 1024
# What chunks and their extensions may add to an image.
_MOST_OVERHEAD_BYTES = 1 << 20
# How long to wait before each attempt to go on after a cut, and after how much all of them may be made again.
_RESUME_AFTER_SECONDS = (0.0, 1.0, 2.0, 4.0, 8.0)
_NEW_START_BYTES = 64 << 20
_DEFAULT_TIMEOUT_SECONDS = 30.0
_MOST_TIMEOUT_SECONDS = 24 * 3600.0
_PORTS = {"http": 80, "https": 443}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_REDIRECTS = (301, 302, 303, 307, 308)
_TOKEN = re.compile(r"[!-~]+")
_STATUS = {
    204: "Glance has no data of it (HTTP status 204). Run it again when its status is active (openstack image show).",
    403: "Glance does not let this token read it (HTTP status 403), for instance because the image is deactivated. "
    "Look at its status (openstack image show), and set glance.token to one whose role may download it.",
    404: "Glance has no such image, or hides it from this token (HTTP status 404). Look for it in this region "
    "(openstack image show), and set glance.token to one that may see it.",
    409: "Glance cannot serve it in the state in which it is (HTTP status 409). Look at its status and its stores "
    "(openstack image show).",
    416: "Glance has fewer bytes of it than its record says (HTTP status 416). Set images: to Glance's present record.",
}
_OVERLOADED = (429, 500, 502, 503, 504)


class Glance(NamedTuple):
    """Where Glance is, and what it takes to read an image of it.

    :param endpoint: the URL of the Image API, without a version and without a slash at its end.
    :param token: what Keystone gave; None where Glance asks for none.
    :param ca_cert: a file with the certificates to trust; None for those that the system trusts.
    :param validate_certs: whether the server's certificate is verified.
    :param timeout: how long a connection may take, and how long it may bring nothing, in seconds.
    """

    endpoint: str
    token: str | None
    ca_cert: str | None
    validate_certs: bool
    timeout: float

    def __repr__(self) -> str:
        """Show where it is, and never the token."""
        return f"Glance({self.endpoint!r})"


class _TransferError(Exception):
    """Why a transfer ended early, and what to do: the second and the third part of a message.

    :param may_resume: whether another connection may bring the rest.
    """

    def __init__(self, text: str, may_resume: bool = False) -> None:
        super().__init__(text)
        self.may_resume = may_resume


def read_glance(option: Mapping[str, Any]) -> Glance:
    """Read the option ``glance``. Its ``region_name`` and ``interface`` are for whom looks up the endpoint.

    :param option: the option's values, by name.
    :raises ImageCacheError: one cannot be meant. The text never has the token in it.
    """
    endpoint, token = option.get("endpoint") or "", option.get("token") or None
    try:
        parts = urlsplit(endpoint)
        is_url = parts.scheme in _PORTS and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_url = False
    if not is_url or "@" in endpoint or "?" in endpoint or "#" in endpoint or not re.fullmatch("[!-~]+", endpoint):
        raise ImageCacheError(
            "glance.endpoint is not the URL of the Image API. Set glance.endpoint to one with http or https, a host, "
            "perhaps a port and a path, and nothing else (openstack endpoint list --service image)."
        )
    if token is not None and not _TOKEN.fullmatch(token):
        raise ImageCacheError(
            "glance.token has characters that no token has. Set glance.token to what `openstack token issue -f value "
            "-c id` shows, without a line break."
        )
    timeout = option.get("timeout")
    timeout = _DEFAULT_TIMEOUT_SECONDS if timeout is None else float(timeout)
    if not 0 < timeout < _MOST_TIMEOUT_SECONDS:
        raise ImageCacheError("glance.timeout is not a number of seconds above 0. Set glance.timeout: 30.")
    endpoint = endpoint.rstrip("/")
    return Glance(
        endpoint=endpoint[: -len("/v2")] if endpoint.endswith("/v2") else endpoint,
        token=token,
        ca_cert=option.get("ca_cert") or None,
        validate_certs=option.get("validate_certs") is not False,
        timeout=timeout,
    )


def image_url(glance: Glance, image_id: str) -> str:
    """Return where Glance serves the bytes of an image."""
    return f"{glance.endpoint}/v2/images/{quote(image_id, safe='')}/file"


def fetch_image(
    glance: Glance,
    record: ImageRecord,
    descriptor: int,
    rate_limiter: RateLimiter,
    deadline_seconds: float | None,
) -> Transfer:
    """Write an image into a file, and compare it with its record.

    :param glance: where it comes from.
    :param record: Glance's record of it, with a size and a checksum.
    :param descriptor: the file, open for writing. Afterwards it has these bytes alone, and holes where they are zeros.
    :param rate_limiter: how fast.
    :param deadline_seconds: how long it may take at most; None without a limit.
    :raises FetchError: the image could not be read or written whole, or is not the one of the record. What the file has
        then is of no use.
    """
    started = time.monotonic()
    image = f"The image {printable(record.image_id)}"
    if record.size_bytes is None or record.size_bytes < 0 or record.algorithm is None:
        raise FetchError(
            f"{image} was not fetched. Its record has no size, or no checksum by sha256 or sha512. Set images: to "
            f"Glance's own records."
        )
    deadline = None if deadline_seconds is None else started + deadline_seconds
    download = _Download(glance, record.image_id, record.size_bytes, rate_limiter, deadline)
    try:
        checksum = write_stream(download, record.size_bytes, record.algorithm, descriptor)
    except _TransferError as exc:
        text = (
            f"{image} could not be fetched from {download.server}: {download.received} of {record.size_bytes} bytes "
            f"came. {exc}"
        )
        # What a server says, such as the host that it redirects to, may have the token in it.
        raise FetchError(re.sub(re.escape(glance.token), "…", text, flags=re.I) if glance.token else text) from None
    except OSError as exc:
        raise FetchError(
            f"{image} could not be written after {download.received} of {record.size_bytes} bytes. "
            f"{reason_and_remedy(exc)}."
        ) from exc
    finally:
        download.close()
    if checksum != record.checksum:
        raise FetchError(
            f"{image} came from {download.server} with other bytes than its record says. Their {record.algorithm} is "
            f"{checksum} and not {record.checksum}. Run it again, and if that does not help, look at the image's "
            f"store: its data are damaged (openstack image save)."
        )
    return Transfer(download.read_bytes, time.monotonic() - started)


class _Download:
    """The bytes of an image in their order, over as many connections as that takes.

    :param size: how many there are.
    :param deadline: when there is no more time for it, by the monotonic clock; None for never.
    """

    def __init__(
        self, glance: Glance, image_id: str, size: int, rate_limiter: RateLimiter, deadline: float | None
    ) -> None:
        self.received = 0
        self.read_bytes = 0
        self._glance = glance
        self._url = image_url(glance, image_id)
        self._origin = _origin_of(urlsplit(self._url))
        self._at = self._origin
        self._size = size
        self._rate_limiter = rate_limiter
        self._deadline = deadline
        self._cuts = 0
        self._received_at_cut = 0
        self._wire: _Wire | None = None
        self._response: http.client.HTTPResponse | None = None

    @property
    def server(self) -> str:
        """Who serves it, for a message."""
        at = "" if self._at == self._origin else f", which redirects to {_shown(self._at)}"
        return f"Glance at {_shown(self._origin)}{at}"

    def read_into(self, block: memoryview) -> None:
        """Fill a block with the bytes that follow.

        :raises _TransferError: they do not come.
        """
        while block:
            try:
                count = self._read(block)
            except _TransferError as exc:
                self.close()
                self._wait_to_resume(exc)
                continue
            self.received += count
            block = block[count:]

    def require_end(self) -> None:
        """Look whether more bytes follow.

        :raises _TransferError: they do.
        """
        # Where a length was announced, it was the right one.
        if self._response is not None and self._response.length is None:
            with suppress(http.client.HTTPException):
                if self._response.read(1):
                    raise _other_size("more bytes follow")

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._response is not None:
            self._response.close()
        if self._wire is not None:
            self._wire.close()
        self._wire = self._response = None

    def _wait_to_resume(self, exc: _TransferError) -> None:
        """Wait as long as another attempt takes; raise what happened where there is to be none."""
        if self.received - self._received_at_cut >= _NEW_START_BYTES:
            self._cuts = 0
        if not exc.may_resume or not self.received or self._cuts >= len(_RESUME_AFTER_SECONDS):
            raise exc
        pause = _RESUME_AFTER_SECONDS[self._cuts]
        if self._deadline is not None and time.monotonic() + pause >= self._deadline:
            raise exc
        self._cuts += 1
        self._received_at_cut = self.received
        time.sleep(pause)

    def _read(self, block: memoryview) -> int:
        """Read some bytes, at least one, from a connection that is there or is made."""
        try:
            if self._response is None:
                self._open()
            count = self._read_body(block)
        except http.client.RemoteDisconnected:
            raise self._wire_failure() or _cut() from None
        except (http.client.HTTPException, ValueError) as exc:
            raise self._wire_failure() or _TransferError(
                f"What it answers is not HTTP ({type(exc).__name__}). Check glance.endpoint and the proxies before it."
            ) from None
        if not count:
            raise self._wire_failure() or _cut()
        return count

    def _read_body(self, block: memoryview) -> int:
        response = cast(http.client.HTTPResponse, self._response)
        try:
            count = response.readinto(block)
        except http.client.IncompleteRead as exc:
            count = len(exc.partial)
        self.read_bytes += count
        return count

    def _wire_failure(self) -> _TransferError | None:
        return None if self._wire is None else self._wire.failure

    def _open(self) -> None:
        """Ask for the bytes that are missing, and look at what the answer says of itself."""
        url = self._url
        for _redirect in range(_MOST_REDIRECTS + 1):
            response = self._request(url)
            if response.status not in _REDIRECTS:
                self._accept(response)
                return
            url = self._redirected(url, response.getheader("Location") or "")
            self.close()
        raise _TransferError(
            f"It redirects more than {_MOST_REDIRECTS} times. Check glance.endpoint, and the stores' URLs in Glance's "
            f"configuration."
        )

    def _request(self, url: str) -> http.client.HTTPResponse:
        parts = urlsplit(url)
        self._at = _origin_of(parts)
        connection = self._connect()
        self._wire = _Wire(connection.sock, self._glance.timeout, self._deadline, self._rate_limiter)
        headers = {"Accept": "application/octet-stream", "Connection": "close"}
        if self._glance.token is not None and self._at == self._origin:
            headers["X-Auth-Token"] = self._glance.token
        if self.received:
            headers["Range"] = f"bytes={self.received}-"
        try:
            connection.request("GET", _target_of(parts), headers=headers)
        except OSError as exc:
            raise _connection_failure(exc, self._glance.timeout) from None
        self._response = http.client.HTTPResponse(cast(socket.socket, self._wire), method="GET")
        self._response.begin()
        failure = self._wire.failure
        if failure is not None:
            raise failure
        return self._response

    def _connect(self) -> http.client.HTTPConnection:
        scheme, host, port = self._at
        timeout = self._glance.timeout
        if self._deadline is not None:
            timeout = max(0.001, min(timeout, self._deadline - time.monotonic()))
        if scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=timeout, context=_tls_context(self._glance)
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=timeout)
        try:
            connection.connect()
        except OSError as exc:
            connection.close()
            raise _connection_failure(exc, timeout) from None
        return connection

    def _redirected(self, url: str, location: str) -> str:
        """Return where a redirection leads, if it may be followed."""
        try:
            target = urljoin(url, location)
            parts = urlsplit(target)
            may_follow = parts.scheme in _PORTS and parts.hostname and "@" not in parts.netloc
            is_plain = self._at[0] == "https" and parts.scheme == "http"
            _origin_of(parts)
        except ValueError:
            may_follow, is_plain = False, False
        if not location or not may_follow or not re.fullmatch("[!-~]+", target):
            raise _TransferError(
                "It redirects to what is not a URL of http or https. Check glance.endpoint, and the stores' URLs in "
                "Glance's configuration."
            )
        if is_plain:
            raise _TransferError(
                f"It redirects from https to {_shown(_origin_of(parts))}, which is not encrypted. Check "
                f"glance.endpoint, and give the store a URL with https in Glance's configuration."
            )
        return target

    def _accept(self, response: http.client.HTTPResponse) -> None:
        """Refuse an answer that does not bring the image's bytes from where they are missing."""
        wire = cast(_Wire, self._wire)
        status = response.status
        if status not in (200, 206):
            raise self._status_failure(status)
        encoding = response.getheader("Content-Encoding")
        if encoding is not None and encoding.strip().lower() != "identity":
            raise _TransferError(
                "It brings the image with a Content-Encoding, so other bytes than the image's. Check glance.endpoint, "
                "and stop the proxies before it from compressing."
            )
        first = self.received if status == 206 else 0
        if status == 206:
            found = _CONTENT_RANGE.fullmatch((response.getheader("Content-Range") or "").strip())
            last = (str(self.received), str(self._size - 1), str(self._size))
            if not self.received or found is None or found.groups() not in (last, (*last[:2], "*")):
                raise _TransferError(
                    f"It brings another part of the image than the one from byte {self.received} on. Check "
                    f"glance.endpoint and the proxies before it: their answer to a Range is wrong."
                )
        if response.length is not None and response.length != self._size - first:
            raise _other_size(f"the server announces {response.length + first} bytes")
        wire.begin_body(self._size - first)
        if status == 200:
            self._skip(self.received)

    def _skip(self, count: int) -> None:
        """Read again what has been written: this server knows no ranges."""
        scratch = memoryview(bytearray(min(count, _RECEIVE_BYTES)))
        while count:
            skipped = self._read_body(scratch[:count])
            if not skipped:
                raise self._wire_failure() or _cut()
            count -= skipped

    def _status_failure(self, status: int) -> _TransferError:
        if status in _OVERLOADED:
            return _TransferError(
                f"It is overloaded or fails (HTTP status {status}). Run it again later, and look at the log of "
                f"glance-api and of the proxies before it.",
                may_resume=True,
            )
        if self._at != self._origin:
            return _TransferError(
                f"Its store does not serve the image (HTTP status {status}). Look at the logs of glance-api and of the "
                f"store."
            )
        if status == 401:
            if self._glance.token is None:
                return _TransferError(
                    "It asks for a token (HTTP status 401). Set glance.token (openstack token issue)."
                )
            more = " any more" if self.received else ""
            return _TransferError(
                f"It does not accept the token{more} (HTTP status 401). Set glance.token to one that is valid until "
                f"the end (openstack token issue)."
            )
        return _TransferError(
            _STATUS.get(status)
            or f"It answers with HTTP status {status}. Check glance.endpoint and the log of glance-api."
        )


class _Wire(io.RawIOBase):
    """What comes over a connection, as ``http.client`` reads it: bounded in time and in bytes.

    A failure looks like the end, so that nothing that came before is lost. What happened is in ``failure``.
    """

    def __init__(
        self, connected: socket.socket, timeout: float, deadline: float | None, rate_limiter: RateLimiter
    ) -> None:
        super().__init__()
        self.failure: _TransferError | None = None
        self._socket = connected
        self._timeout = timeout
        self._deadline = deadline
        self._rate_limiter = rate_limiter
        self._lowest_rate = LowestRate(timeout)
        self._allowed = _MOST_HEADER_BYTES

    def begin_body(self, size: int) -> None:
        """Expect so many bytes of an image from now on."""
        self._lowest_rate.restart()
        self._allowed = 2 * size + _MOST_OVERHEAD_BYTES

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return it as ``http.client`` gets it from a socket."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what is there, or wait for something. As little as nothing is the end."""
        if self.failure is not None:
            return 0
        try:
            count = self._receive(memoryview(buffer)[:_RECEIVE_BYTES])
        except _TransferError as exc:
            self.failure = exc
            return 0
        self._rate_limiter.throttle(count)
        return count

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
        super().close()

    def _receive(self, buffer: memoryview) -> int:
        began = time.monotonic()
        left = None if self._deadline is None else self._deadline - began
        if left is not None and left <= 0:
            raise _too_late()
        self._socket.settimeout(self._timeout if left is None else min(self._timeout, left))
        try:
            count = self._socket.recv_into(buffer)
        except OSError as exc:
            if left is not None and left < self._timeout and isinstance(exc, socket.timeout):
                raise _too_late() from None
            raise _connection_failure(exc, self._timeout) from None
        waited_seconds = time.monotonic() - began
        self._allowed -= count
        if self._allowed < 0:
            raise _TransferError(
                "It sends much more than the image and its headers take. Check glance.endpoint and the proxies before "
                "it."
            )
        if self._lowest_rate.is_too_slow(waited_seconds, count):
            raise _TransferError(
                f"It sends less than {LEAST_BYTES_PER_SECOND} bytes a second. Look at the network and at Glance's "
                f"load, or raise glance.timeout.",
                may_resume=True,
            )
        return count


def _origin_of(parts: SplitResult) -> tuple[str, str, int]:
    """Return the scheme, host and port of a URL.

    :raises ValueError: the port is not a number.
    """
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


def _target_of(parts: SplitResult) -> str:
    """Return what a server is asked for: a URL without its origin."""
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _shown(origin: tuple[str, str, int]) -> str:
    scheme, host, port = origin
    return f"{scheme}://{shortened(printable(host), 100)}:{port}"


def _tls_context(glance: Glance) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=glance.ca_cert)
    except (OSError, ssl.SSLError) as exc:
        raise _TransferError(
            f"The certificates of {printable(str(glance.ca_cert))} cannot be read: {_reason(exc)}. Set glance.ca_cert "
            f"to a file on this host with certificates in PEM format."
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not glance.validate_certs:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _connection_failure(exc: OSError, timeout: float) -> _TransferError:
    """Say why a connection was not made, or ended."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return _TransferError(
            f"Its certificate is not trusted: {printable(exc.verify_message)}. Set glance.ca_cert to the file with the "
            f"certificate of its authority."
        )
    if isinstance(exc, socket.gaierror):
        return _TransferError(
            f"Its name cannot be resolved: {_reason(exc)}. Check glance.endpoint and this host's resolver."
        )
    if isinstance(exc, socket.timeout):
        return _TransferError(f"Nothing came for {timeout:g} seconds. {_CHECK_NETWORK}", may_resume=True)
    if isinstance(exc, ssl.SSLError):
        return _TransferError(f"TLS failed: {_reason(exc)}. {_CHECK_NETWORK}", may_resume=True)
    return _TransferError(f"The connection failed: {_reason(exc)}. {_CHECK_NETWORK}", may_resume=True)


def _reason(exc: OSError) -> str:
    return printable(exc.strerror or type(exc).__name__)


def _cut() -> _TransferError:
    return _TransferError(
        "The connection ended early. Look at the log of glance-api and of the proxies before it.", may_resume=True
    )


def _too_late() -> _TransferError:
    return _TransferError(
        "The time for it was used up. Look at the network and at the log of glance-api, and run it again."
    )


def _other_size(what: str) -> _TransferError:
    return _TransferError(
        f"The image has another size than its record says: {what}. Set images: to Glance's present record."
    )
