# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An image from a server that does what it should, or anything else: the file is whole, or a sentence says why not."""

from __future__ import annotations

import errno
import os
import re
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import FetchError, ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch import glance as glance_module
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.glance import (
    Transfer,
    fetch_image,
    read_glance,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.records import ImageRecord
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.hashing import RateLimiter
from ansible_collections.stackops.nova.tests.support.constants import IMAGE
from ansible_collections.stackops.nova.tests.support.file_systems import on_file_system
from ansible_collections.stackops.nova.tests.support.image_server import (
    RESET,
    Answer,
    ImageServer,
    Request,
    answer,
    certificate,
    chunked,
    head,
    image,
    record_of,
    redirect,
)
from ansible_collections.stackops.nova.tests.support.processes import needs_root

MIB = 1 << 20
KIB = 1 << 10
TOKEN = "gAAAAABnTheTokenThatNobodyMaySee-_="
# Three blocks and a bit, of which the second is zeros.
CONTENT = os.urandom(MIB) + bytes(MIB) + os.urandom(MIB) + b"end"
BOUNDARIES = range(64 * KIB, MIB + 1, 64 * KIB)


@pytest.fixture(autouse=True)
def attempts_without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glance_module, "_RESUME_AFTER_SECONDS", (0.0, 0.0, 0.0))


def fetch(
    server: ImageServer | str,
    target: Path,
    record: ImageRecord,
    *,
    seconds: float | None = None,
    rate_limiter: RateLimiter | None = None,
    **options: Any,
) -> Transfer:
    """Fetch an image into a new file, with a token."""
    endpoint = server if isinstance(server, str) else server.origin
    glance = read_glance({"endpoint": endpoint, "token": TOKEN, "timeout": 20, **options})
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        return fetch_image(glance, record, descriptor, rate_limiter or RateLimiter(), seconds)
    finally:
        os.close(descriptor)


def error_of(server: ImageServer | str, target: Path, record: ImageRecord, **options: Any) -> str:
    """Why an image is not fetched: a message of three parts, without the token wherever one looks."""
    with pytest.raises(FetchError) as caught:
        fetch(server, target, record, **options)
    text = str(caught.value)
    shown = "".join(traceback.format_exception(caught.type, caught.value, caught.tb))
    assert TOKEN.lower() not in (text + repr(caught.value) + shown).lower()
    assert IMAGE in text
    assert re.search(r"\. [A-Z].*\. [A-Z]", text)
    assert text.endswith(".")
    return text


class TestWholeImage:
    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    @pytest.mark.parametrize("size", [1, MIB - 1, MIB, len(CONTENT)])
    def test_file_has_all_bytes_and_nothing_else(self, tmp_path: Path, algorithm: str, size: int) -> None:
        content = CONTENT[:size]
        (tmp_path / "file").write_bytes(os.urandom(2 * len(CONTENT)))
        with ImageServer(image(content)) as server:
            transfer = fetch(server, tmp_path / "file", record_of(content, algorithm))
        assert (tmp_path / "file").read_bytes() == content
        assert transfer.read_bytes == size
        [request] = server.requests
        assert request.path == f"/v2/images/{IMAGE}/file"
        assert request.headers["x-auth-token"] == TOKEN
        assert "range" not in request.headers

    def test_zeros_become_holes(self, tmp_path: Path) -> None:
        content = bytes(8 * MIB) + os.urandom(MIB) + bytes(8 * MIB)
        with ImageServer(image(content)) as server:
            fetch(server, tmp_path / "file", record_of(content))
        assert (tmp_path / "file").read_bytes() == content
        assert (tmp_path / "file").stat().st_blocks * 512 <= MIB + 256 * KIB

    @pytest.mark.parametrize("size", [1, 4096, 64 * KIB, MIB])
    def test_body_in_chunks_is_fetched(self, tmp_path: Path, size: int) -> None:
        content = CONTENT[: 64 * size]
        chunks = [content[start : start + size] for start in range(0, len(content), size)]
        with ImageServer(chunked(*chunks)) as server:
            fetch(server, tmp_path / "file", record_of(content))
        assert (tmp_path / "file").read_bytes() == content

    def test_body_without_a_length_is_fetched(self, tmp_path: Path) -> None:
        with ImageServer(lambda _request: iter([head(200), CONTENT])) as server:
            fetch(server, tmp_path / "file", record_of(CONTENT))
        assert (tmp_path / "file").read_bytes() == CONTENT

    def test_proxy_of_the_environment_is_not_used(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        with ImageServer(image(CONTENT)) as server:
            fetch(server, tmp_path / "file", record_of(CONTENT))
        assert (tmp_path / "file").read_bytes() == CONTENT

    def test_request_without_a_token_sends_none(self, tmp_path: Path) -> None:
        with ImageServer(image(CONTENT)) as server:
            fetch(server, tmp_path / "file", record_of(CONTENT), token=None)
        assert "x-auth-token" not in server.requests[0].headers

    def test_rate_is_limited(self, tmp_path: Path) -> None:
        with ImageServer(image(CONTENT)) as server:
            transfer = fetch(server, tmp_path / "file", record_of(CONTENT), rate_limiter=RateLimiter(4 * len(CONTENT)))
        assert transfer.seconds >= 0.2

    @settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        pieces=st.lists(st.tuples(st.integers(1, 150_000), st.booleans()), min_size=1, max_size=12),
        cuts=st.lists(st.floats(0, 1), max_size=3),
    )
    def test_any_image_comes_whole_over_any_cuts(
        self, tmp_path: Path, pieces: list[tuple[int, bool]], cuts: list[float]
    ) -> None:
        content = b"".join(bytes(size) if is_zero else b"x" * size for size, is_zero in pieces)
        ends = sorted(max(1, int(cut * len(content))) for cut in cuts)
        with ImageServer(*(image(content, end=end) for end in ends), image(content)) as server:
            fetch(server, tmp_path / "file", record_of(content))
        assert (tmp_path / "file").read_bytes() == content


class TestCutTransfer:
    @pytest.mark.parametrize("end", BOUNDARIES)
    def test_transfer_goes_on_where_it_was_cut(self, tmp_path: Path, end: int) -> None:
        with ImageServer(image(CONTENT, end=end), image(CONTENT)) as server:
            transfer = fetch(server, tmp_path / "file", record_of(CONTENT))
        assert (tmp_path / "file").read_bytes() == CONTENT
        assert [request.first for request in server.requests] == [0, end]
        assert transfer.read_bytes == len(CONTENT)

    @pytest.mark.parametrize("end", BOUNDARIES)
    def test_server_that_knows_no_ranges_sends_all_again(self, tmp_path: Path, end: int) -> None:
        with ImageServer(image(CONTENT, end=end), image(CONTENT, ranges=False)) as server:
            transfer = fetch(server, tmp_path / "file", record_of(CONTENT))
        assert (tmp_path / "file").read_bytes() == CONTENT
        assert transfer.read_bytes == len(CONTENT) + end

    def test_connection_that_is_reset_is_made_again(self, tmp_path: Path) -> None:
        with ImageServer(image(CONTENT, end=2 * MIB, then=RESET), image(CONTENT)) as server:
            fetch(server, tmp_path / "file", record_of(CONTENT))
        assert (tmp_path / "file").read_bytes() == CONTENT

    @pytest.mark.parametrize("end", BOUNDARIES)
    def test_image_that_always_ends_early_is_an_error(self, tmp_path: Path, end: int) -> None:
        with ImageServer(image(CONTENT, end=end)) as server:
            text = error_of(server, tmp_path / "file", record_of(CONTENT))
        assert f"{end} of {len(CONTENT)} bytes came. The connection ended early" in text
        assert len(server.requests) == 4

    def test_cut_before_the_first_byte_is_an_error_at_once(self, tmp_path: Path) -> None:
        with ImageServer(lambda _request: iter([RESET])) as server:
            assert f"0 of {len(CONTENT)} bytes" in error_of(server, tmp_path / "file", record_of(CONTENT))
        assert len(server.requests) == 1

    def test_long_image_may_be_cut_more_often(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(glance_module, "_NEW_START_BYTES", 256 * KIB)
        ends = range(256 * KIB, len(CONTENT), 256 * KIB)
        with ImageServer(*(image(CONTENT, end=end) for end in ends), image(CONTENT)) as server:
            fetch(server, tmp_path / "file", record_of(CONTENT))
        assert len(server.requests) == len(ends) + 1
        assert (tmp_path / "file").read_bytes() == CONTENT

    @pytest.mark.parametrize(
        "content_range",
        [
            "",
            "Content-Range: bytes 0-{last}/{size}",
            "Content-Range: bytes {first}-{first}/{size}",
            "Content-Range: bytes {first}-{last}/{last}",
            "Content-Range: {first}-{last}",
        ],
    )
    def test_other_part_than_the_one_that_is_missing_is_an_error(self, tmp_path: Path, content_range: str) -> None:
        end, size = 2 * MIB, len(CONTENT)
        line = content_range.format(first=end, last=size - 1, size=size)

        def answer_wrongly(_request: Request) -> Iterator[bytes]:
            return iter([head(206, f"Content-Length: {size - end}", *filter(None, [line])), CONTENT[end:]])

        with ImageServer(image(CONTENT, end=end), answer_wrongly) as server:
            assert "another part of the image" in error_of(server, tmp_path / "file", record_of(CONTENT))

    def test_part_that_nobody_asked_for_is_an_error(self, tmp_path: Path) -> None:
        with ImageServer(answer(206, CONTENT, f"Content-Range: bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}")) as server:
            assert "another part of the image" in error_of(server, tmp_path / "file", record_of(CONTENT))

    def test_token_that_expires_in_the_middle_is_an_error(self, tmp_path: Path) -> None:
        with ImageServer(image(CONTENT, end=MIB), answer(401)) as server:
            text = error_of(server, tmp_path / "file", record_of(CONTENT))
        assert "does not accept the token any more" in text
        assert f"{MIB} of {len(CONTENT)} bytes came" in text
        assert len(server.requests) == 2

    def test_overload_in_the_middle_is_waited_for(self, tmp_path: Path) -> None:
        with ImageServer(image(CONTENT, end=MIB), answer(503), answer(502), image(CONTENT)) as server:
            fetch(server, tmp_path / "file", record_of(CONTENT))
        assert (tmp_path / "file").read_bytes() == CONTENT

    def test_server_that_dies_in_the_middle_is_an_error(self, tmp_path: Path) -> None:
        def die(request: Request) -> Iterator[bytes]:
            yield from image(CONTENT, end=MIB)(request)
            server.stop()

        with ImageServer(die) as server:
            text = error_of(server, tmp_path / "file", record_of(CONTENT))
        assert f"{MIB} of {len(CONTENT)} bytes came. The connection failed: Connection refused" in text


class TestWrongBytes:
    @pytest.mark.parametrize("position", [0, MIB + 1, len(CONTENT) - 1])
    def test_one_flipped_bit_is_an_error(self, tmp_path: Path, position: int) -> None:
        flipped = bytearray(CONTENT)
        flipped[position] ^= 1
        with ImageServer(image(bytes(flipped))) as server:
            text = error_of(server, tmp_path / "file", record_of(CONTENT))
        assert "with other bytes than its record says" in text
        assert str(record_of(CONTENT).checksum) in text

    @pytest.mark.parametrize("content", [CONTENT + b"x", CONTENT[:-1], CONTENT[:MIB]])
    def test_other_length_than_that_of_the_record_is_an_error_before_the_first_byte(
        self, tmp_path: Path, content: bytes
    ) -> None:
        with ImageServer(image(content)) as server:
            text = error_of(server, tmp_path / "file", record_of(CONTENT))
        assert f"another size than its record says: the server announces {len(content)} bytes" in text
        assert (tmp_path / "file").stat().st_size == 0

    @pytest.mark.parametrize("longer", [chunked(CONTENT, b"x"), lambda _request: iter([head(200), CONTENT, b"x"])])
    def test_bytes_after_the_last_one_are_an_error(self, tmp_path: Path, longer: Answer) -> None:
        with ImageServer(longer) as server:
            assert "more bytes follow" in error_of(server, tmp_path / "file", record_of(CONTENT))

    def test_encoded_image_is_an_error(self, tmp_path: Path) -> None:
        with ImageServer(answer(200, CONTENT, "Content-Encoding: gzip")) as server:
            assert "Content-Encoding" in error_of(server, tmp_path / "file", record_of(CONTENT))
        assert server.requests[0].headers["accept-encoding"] == "identity"

    @pytest.mark.parametrize("differs", [{"size_bytes": None}, {"size_bytes": -1}, {"algorithm": None}])
    def test_record_that_proves_nothing_is_an_error_without_a_connection(
        self, tmp_path: Path, differs: dict[str, Any]
    ) -> None:
        record = record_of(CONTENT)._replace(**differs)
        with ImageServer(image(CONTENT)) as server:
            assert "Its record has no size, or no checksum" in error_of(server, tmp_path / "file", record)
        assert server.requests == []


class TestRefusal:
    @pytest.mark.parametrize(
        ("status", "why"),
        [
            (204, "no data of it"),
            (300, "HTTP status 300"),
            (400, "HTTP status 400"),
            (401, "does not accept the token (HTTP"),
            (403, "the image is deactivated"),
            (404, "no such image"),
            (409, "in the state in which it is"),
            (410, "HTTP status 410"),
            (500, "overloaded or fails"),
            (503, "overloaded or fails"),
        ],
    )
    def test_each_status_has_its_sentence_and_is_not_tried_again(self, tmp_path: Path, status: int, why: str) -> None:
        with ImageServer(answer(status, f"{TOKEN} is wrong".encode(), f"X-Why: {TOKEN}")) as server:
            text = error_of(server, tmp_path / "file", record_of(CONTENT))
        assert why in text
        assert f"HTTP status {status}" in text
        assert len(server.requests) == 1

    def test_status_of_a_server_that_asks_for_a_token_names_the_token(self, tmp_path: Path) -> None:
        with ImageServer(answer(401)) as server:
            assert "asks for a token" in error_of(server, tmp_path / "file", record_of(CONTENT), token=None)

    def test_server_that_is_not_there_is_an_error(self, tmp_path: Path) -> None:
        with ImageServer(image(CONTENT)) as server:
            server.stop()
            assert "Connection refused" in error_of(server, tmp_path / "file", record_of(CONTENT))

    def test_name_that_nobody_knows_is_an_error(self, tmp_path: Path) -> None:
        text = error_of("http://glance.invalid:9292", tmp_path / "file", record_of(CONTENT))
        assert "Its name cannot be resolved" in text


class TestRedirect:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_same_origin_gets_the_token_again(self, tmp_path: Path, status: int) -> None:
        with ImageServer(redirect("/elsewhere?part=1", status), image(CONTENT)) as server:
            fetch(server, tmp_path / "file", record_of(CONTENT))
        assert (tmp_path / "file").read_bytes() == CONTENT
        assert [request.headers.get("x-auth-token") for request in server.requests] == [TOKEN, TOKEN]
        assert server.requests[1].path == "/elsewhere?part=1"

    def test_other_origin_gets_no_token(self, tmp_path: Path) -> None:
        with ImageServer(image(CONTENT)) as store, ImageServer(redirect(f"{store.origin}/object")) as server:
            fetch(server, tmp_path / "file", record_of(CONTENT))
        assert (tmp_path / "file").read_bytes() == CONTENT
        assert [request.path for request in store.requests] == ["/object"]
        assert TOKEN not in str(store.requests)

    def test_transfer_from_a_store_goes_on_by_way_of_glance(self, tmp_path: Path) -> None:
        store_with_cut = ImageServer(image(CONTENT, end=MIB), image(CONTENT))
        with store_with_cut as store, ImageServer(redirect(f"{store.origin}/object")) as server:
            fetch(server, tmp_path / "file", record_of(CONTENT))
        assert (tmp_path / "file").read_bytes() == CONTENT
        assert [request.first for request in store.requests] == [0, MIB]
        assert len(server.requests) == 2

    def test_failure_of_a_store_names_it_without_what_its_url_holds(self, tmp_path: Path) -> None:
        with ImageServer(answer(403)) as store, ImageServer(redirect(f"{store.origin}/o?signature=secret")) as server:
            text = error_of(server, tmp_path / "file", record_of(CONTENT))
        assert f"Glance at {server.origin}, which redirects to {store.origin}" in text
        assert "Its store does not serve the image (HTTP status 403)" in text
        assert "signature" not in text

    def test_loop_ends(self, tmp_path: Path) -> None:
        with ImageServer(redirect("/again")) as server:
            assert "redirects more than 5 times" in error_of(server, tmp_path / "file", record_of(CONTENT))
        assert len(server.requests) == 6

    @pytest.mark.parametrize(
        "location",
        [
            "",
            "ftp://127.0.0.1/x",
            "file:///etc/passwd",
            "http://user:word@127.0.0.1/x",
            "http://[x/",
            "//:x",
        ],
    )
    def test_redirection_to_what_is_no_url_is_an_error(self, tmp_path: Path, location: str) -> None:
        with ImageServer(redirect(location)) as server:
            assert "redirects to what is not a URL" in error_of(server, tmp_path / "file", record_of(CONTENT))
        assert len(server.requests) == 1

    def test_host_that_has_the_token_in_its_name_is_shown_without(self, tmp_path: Path) -> None:
        name = TOKEN.rstrip("-_=")
        with ImageServer(redirect(f"http://{name}.invalid/")) as server:
            text = error_of(server, tmp_path / "file", record_of(CONTENT), token=name)
        assert name.lower() not in text.lower()

    def test_encryption_is_never_given_up(self, tmp_path: Path) -> None:
        tls = certificate(tmp_path)
        with ImageServer(image(CONTENT)) as store, ImageServer(redirect(store.origin), tls=tls) as server:
            text = error_of(server, tmp_path / "file", record_of(CONTENT), ca_cert=str(tls))
        assert "is not encrypted" in text
        assert store.requests == []


class TestTls:
    @pytest.fixture
    def tls(self, tmp_path: Path) -> Path:
        return certificate(tmp_path)

    def test_certificate_of_the_named_authority_is_trusted(self, tmp_path: Path, tls: Path) -> None:
        with ImageServer(image(CONTENT, end=MIB), image(CONTENT), tls=tls) as server:
            fetch(server, tmp_path / "file", record_of(CONTENT), ca_cert=str(tls))
        assert (tmp_path / "file").read_bytes() == CONTENT

    def test_certificate_of_nobody_is_an_error_and_gets_no_token(self, tmp_path: Path, tls: Path) -> None:
        with ImageServer(image(CONTENT), tls=tls) as server:
            text = error_of(server, tmp_path / "file", record_of(CONTENT))
        assert "certificate is not trusted" in text
        assert "glance.ca_cert" in text
        assert server.requests == []

    def test_certificate_of_another_host_is_an_error(self, tmp_path: Path) -> None:
        tls = certificate(tmp_path, "DNS:glance.example")
        with ImageServer(image(CONTENT), tls=tls) as server:
            text = error_of(server, tmp_path / "file", record_of(CONTENT), ca_cert=str(tls))
        assert "certificate is not trusted" in text
        assert server.requests == []

    def test_operator_can_do_without_verification(self, tmp_path: Path, tls: Path) -> None:
        with ImageServer(image(CONTENT), tls=tls) as server:
            fetch(server, tmp_path / "file", record_of(CONTENT), validate_certs=False)
        assert (tmp_path / "file").read_bytes() == CONTENT

    @pytest.mark.parametrize("content", [None, "no certificate"])
    def test_authority_that_cannot_be_read_is_an_error(self, tmp_path: Path, tls: Path, content: str | None) -> None:
        path = tmp_path / "authority"
        if content is not None:
            path.write_text(content)
        with ImageServer(image(CONTENT), tls=tls) as server:
            text = error_of(server, tmp_path / "file", record_of(CONTENT), ca_cert=str(path))
        assert f"The certificates of {path} cannot be read" in text

    def test_server_without_tls_is_an_error(self, tmp_path: Path) -> None:
        with ImageServer(image(CONTENT)) as server:
            endpoint = server.origin.replace("http:", "https:")
            assert "TLS failed" in error_of(endpoint, tmp_path / "file", record_of(CONTENT))


class TestSlowServer:
    def test_silence_ends(self, tmp_path: Path) -> None:
        def be_silent(_request: Request) -> Iterator[bytes]:
            time.sleep(1)
            yield b""

        with ImageServer(be_silent) as server:
            text = error_of(server, tmp_path / "file", record_of(CONTENT), timeout=0.2)
        assert "Nothing came for 0.2 seconds" in text

    @pytest.mark.parametrize(
        "beginning", [b"HTTP/1.1 200 Reason\r\nX: ", head(200), head(200, "Transfer-Encoding: chunked")]
    )
    def test_trickle_ends(self, tmp_path: Path, beginning: bytes) -> None:
        def trickle(_request: Request) -> Iterator[bytes]:
            yield beginning
            while True:
                time.sleep(0.05)
                yield b"1"

        with ImageServer(trickle) as server:
            text = error_of(server, tmp_path / "file", record_of(CONTENT), timeout=0.4)
        assert "It sends less than 10240 bytes a second" in text

    def test_limit_of_our_own_is_not_the_servers_fault(self, tmp_path: Path) -> None:
        content = CONTENT[: 4 * KIB]
        with ImageServer(image(content)) as server:
            fetch(server, tmp_path / "file", record_of(content), timeout=0.4, rate_limiter=RateLimiter(5 * KIB))
        assert (tmp_path / "file").read_bytes() == content

    def test_time_for_a_transfer_is_kept(self, tmp_path: Path) -> None:
        def take_long(_request: Request) -> Iterator[bytes]:
            yield head(200, f"Content-Length: {len(CONTENT)}")
            for _piece in range(100):
                time.sleep(0.05)
                yield bytes(20 * KIB)

        with ImageServer(take_long) as server:
            text = error_of(server, tmp_path / "file", record_of(CONTENT), seconds=0.5)
        assert "The time for it was used up" in text


def endless(*beginning: bytes, piece: bytes) -> Answer:
    def answer_without_end(_request: Request) -> Iterator[bytes]:
        yield b"".join(beginning)
        while True:
            yield piece * 1000

    return answer_without_end


class TestHostileAnswer:
    @pytest.mark.parametrize(
        "hostile",
        [
            endless(b"HTTP/1.1 200 Reason\r\n", piece=b"X-Header: value\r\n"),
            endless(b"HTTP/1.1 200 Reason\r\n", piece=b"X"),
            endless(piece=b"HTTP/1.1 100 Continue\r\n\r\n"),
            endless(piece=b"X"),
            endless(head(200, "Transfer-Encoding: chunked"), piece=b"1;" + b"x" * 60_000 + b"\r\n0\r\n"),
            endless(head(200, "Transfer-Encoding: chunked"), piece=b"X"),
        ],
        ids=["headers", "header", "continue", "status", "extensions", "chunk"],
    )
    @pytest.mark.usefixtures("time_limit")
    def test_answer_without_end_ends(self, tmp_path: Path, hostile: Answer) -> None:
        with ImageServer(hostile) as server:
            error_of(server, tmp_path / "file", record_of(CONTENT))

    @pytest.mark.usefixtures("time_limit")
    def test_trailers_without_end_are_not_read(self, tmp_path: Path) -> None:
        chunk = b"%x\r\n%b\r\n0\r\n" % (len(CONTENT), CONTENT)
        with ImageServer(endless(head(200, "Transfer-Encoding: chunked"), chunk, piece=b"X: y\r\n")) as server:
            fetch(server, tmp_path / "file", record_of(CONTENT))
        assert (tmp_path / "file").read_bytes() == CONTENT

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.one_of(
            st.binary(max_size=400),
            st.builds(
                lambda status, header, body: b"HTTP/1.1 %d R\r\n%b\r\n\r\n%b" % (status, header, body),
                st.integers(100, 599),
                st.one_of(
                    st.binary(max_size=60),
                    st.builds(
                        lambda name, value: name + b": " + value,
                        st.sampled_from([b"Content-Length", b"Transfer-Encoding", b"Location", b"Content-Range"]),
                        st.one_of(st.binary(max_size=30), st.sampled_from([b"-1", b"chunked", b"9" * 5000])),
                    ),
                ),
                st.binary(max_size=100),
            ),
        )
    )
    def test_any_answer_is_an_error_with_a_sentence(self, tmp_path: Path, sent: bytes) -> None:
        with ImageServer(lambda _request: iter([sent])) as server:
            error_of(server, tmp_path / "file", record_of(CONTENT), seconds=20)


class TestTarget:
    @needs_root
    def test_full_file_system_is_an_error(self, tmp_path: Path) -> None:
        content = os.urandom(4 * MIB)
        with ImageServer(image(content)) as server:

            def fetch_into(mounted: Path) -> tuple[str, int]:
                text = error_of(server, mounted / "file", record_of(content))
                (mounted / "file").unlink()
                space = os.statvfs(mounted)
                return text, (space.f_blocks - space.f_bfree) * space.f_frsize

            text, used = on_file_system("tmpfs", tmp_path, fetch_into, size=2 * MIB)
        assert f"The image {IMAGE} could not be written after" in text
        assert "No space left on device. Free some space (df)" in text
        assert used == 0

    @pytest.mark.parametrize("error", [errno.EIO, errno.EDQUOT, errno.EFBIG])
    def test_disk_that_fails_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
        def fail(*_arguments: object) -> int:
            raise OSError(error, os.strerror(error))

        monkeypatch.setattr(os, "pwrite", fail)
        with ImageServer(image(CONTENT)) as server:
            text = error_of(server, tmp_path / "file", record_of(CONTENT))
        assert f"could not be written after {MIB} of {len(CONTENT)} bytes. {os.strerror(error)}" in text


class TestOption:
    @pytest.mark.parametrize(
        ("endpoint", "base"),
        [
            ("http://glance:9292", "http://glance:9292"),
            ("https://cloud.example/image/", "https://cloud.example/image"),
            ("https://cloud.example/image/v2/", "https://cloud.example/image"),
            ("http://[::1]:9292/v2", "http://[::1]:9292"),
        ],
    )
    def test_endpoint_may_be_written_as_catalogues_have_it(self, endpoint: str, base: str) -> None:
        assert read_glance({"endpoint": endpoint}).endpoint == base

    def test_field_that_is_left_out_has_a_default(self) -> None:
        glance = read_glance({"endpoint": "http://glance", "token": "", "ca_cert": None, "timeout": None})
        assert (glance.token, glance.ca_cert, glance.validate_certs, glance.timeout) == (None, None, True, 30.0)

    @pytest.mark.parametrize(
        "endpoint",
        [
            None,
            "",
            "glance:9292",
            "ftp://glance",
            "http://",
            "http://glance:port",
            "http://glance:99999",
            "http://[glance",
            "http://user:word@glance",
            "http://glance?x=y",
            "http://glance/#x",
            "http://glance/a b",
            "http://glance/\r\nX: y",
            "http://gl\u00e4nce",
        ],
    )
    def test_invalid_endpoint_is_an_error(self, endpoint: str | None) -> None:
        with pytest.raises(ImageCacheError, match=r"glance\.endpoint") as caught:
            read_glance({"endpoint": endpoint, "token": TOKEN})
        assert TOKEN not in str(caught.value)
        assert "word" not in str(caught.value)

    @pytest.mark.parametrize("token", [f"{TOKEN}\n", f"{TOKEN} {TOKEN}", f"{TOKEN}\r\nX: y", f"{TOKEN}\u00e4"])
    def test_token_that_cannot_be_one_is_an_error_without_the_token(self, token: str) -> None:
        with pytest.raises(ImageCacheError, match=r"glance\.token has characters") as caught:
            read_glance({"endpoint": "http://glance", "token": token})
        assert TOKEN not in str(caught.value)

    @pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
    def test_timeout_that_is_no_time_is_an_error(self, timeout: float) -> None:
        with pytest.raises(ImageCacheError, match=r"glance\.timeout"):
            read_glance({"endpoint": "http://glance", "timeout": timeout})

    def test_token_is_not_shown_with_the_other_fields(self) -> None:
        glance = read_glance({"endpoint": "http://glance", "token": TOKEN})
        assert TOKEN not in f"{glance} {glance!r} {[glance]}"
