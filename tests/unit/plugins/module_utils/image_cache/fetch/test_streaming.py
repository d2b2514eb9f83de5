# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a transfer from Glance and one from another host have in common: whole bytes, holes, and a lowest rate."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import RefusalError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch import streaming
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.streaming import (
    LEAST_BYTES_PER_SECOND,
    LowestRate,
    write_stream,
)

KIB = 1 << 10


class Bytes:
    """A stream of certain bytes, and whether it was asked for its end."""

    def __init__(self, content: bytes) -> None:
        self._rest = content
        self.was_asked_for_end = False

    def read_into(self, block: memoryview) -> None:
        block[:], self._rest = self._rest[: len(block)], self._rest[len(block) :]

    def require_end(self) -> None:
        self.was_asked_for_end = True


PIECES = st.lists(st.tuples(st.integers(0, 300), st.sampled_from([b"\0", b"x"])), max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PIECES)
def test_any_bytes_are_written_and_hashed_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pieces: list[tuple[int, bytes]]
) -> None:
    content = b"".join(length * KIB * byte for length, byte in pieces)
    monkeypatch.setattr(streaming, "_BLOCK_BYTES", 128 * KIB)
    (tmp_path / "file").write_bytes(b"former " * 100_000)
    stream = Bytes(content)
    descriptor = os.open(tmp_path / "file", os.O_RDWR)
    try:
        checksum = write_stream(stream, len(content), "sha256", descriptor)
    finally:
        os.close(descriptor)
    assert checksum == hashlib.sha256(content).hexdigest()
    assert (tmp_path / "file").read_bytes() == content
    assert stream.was_asked_for_end


def test_space_is_asked_for_by_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_BLOCK_BYTES", 64 * KIB)
    monkeypatch.setattr(streaming, "_SPACE_BYTES", 128 * KIB)
    content = bytes(512 * KIB) + b"x" * (320 * KIB)
    asked: list[int] = []
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        write_stream(Bytes(content), len(content), "sha256", descriptor, asked.append)
    finally:
        os.close(descriptor)
    # Twice as many bytes as may be written unasked, and less than that once more.
    assert asked == [128 * KIB, 64 * KIB]


def test_refusal_of_space_ends_the_transfer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_BLOCK_BYTES", 64 * KIB)
    monkeypatch.setattr(streaming, "_SPACE_BYTES", 128 * KIB)

    def refuse(_count: int) -> None:
        raise RefusalError("no space")

    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        with pytest.raises(RefusalError, match="no space"):
            write_stream(Bytes(b"x" * (512 * KIB)), 512 * KIB, "sha256", descriptor, refuse)
    finally:
        os.close(descriptor)


class TestLowestRate:
    def test_silence_of_the_whole_stretch_is_too_slow(self) -> None:
        rate = LowestRate(10.0)
        assert [rate.is_too_slow(5.0, 0), rate.is_too_slow(4.9, 0), rate.is_too_slow(0.1, 0)] == [False, False, True]

    def test_enough_bytes_begin_a_new_stretch(self) -> None:
        rate = LowestRate(10.0)
        assert not rate.is_too_slow(10.0, 10 * LEAST_BYTES_PER_SECOND)
        assert rate.left_seconds == 10.0
        assert rate.is_too_slow(10.0, 10 * LEAST_BYTES_PER_SECOND - 1)

    def test_time_that_is_left_is_what_was_not_waited(self) -> None:
        rate = LowestRate(10.0)
        rate.is_too_slow(4.0, 0)
        assert rate.left_seconds == 6.0
        rate.restart()
        assert rate.left_seconds == 10.0

    def test_much_at_first_does_not_excuse_silence_later(self) -> None:
        rate = LowestRate(1.0)
        assert not rate.is_too_slow(1.0, 1 << 30)
        assert rate.is_too_slow(1.0, 0)
