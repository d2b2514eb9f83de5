# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever Glance or the network does while an image is pre-cached: the file is whole, or there is none and a sentence
says why; the space is free, the other image is there, and the next run fetches what is missing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch import glance as glance_module
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.module import FetchResult
from ansible_collections.stackops.nova.tests.support.constants import BASE, IMAGE, OTHER_BASE, OTHER_IMAGE
from ansible_collections.stackops.nova.tests.support.file_systems import on_file_system
from ansible_collections.stackops.nova.tests.support.host import Host
from ansible_collections.stackops.nova.tests.support.image_server import (
    RESET,
    Answer,
    ImageServer,
    Request,
    answer,
    chunked,
    head,
    image,
    redirect,
)
from ansible_collections.stackops.nova.tests.support.precaches import image as record
from ansible_collections.stackops.nova.tests.support.remedies import has_remedy

KIB, MIB = 1 << 10, 1 << 20
# 2 MiB of which some are zeros, and a bit.
CONTENT = os.urandom(512 * KIB) + bytes(512 * KIB) + os.urandom(MIB) + b"end"
OTHER_CONTENT = os.urandom(MIB)
BOUNDARIES = range(64 * KIB, len(CONTENT), 64 * KIB)


@pytest.fixture(autouse=True)
def attempts_without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glance_module, "_RESUME_AFTER_SECONDS", (0.0, 0.0, 0.0))


def serving(*answers: Answer) -> Answer:
    """Answers the first request for the image with the first of these, and so on; the other image is served well."""
    requests = count()

    def serve(request: Request) -> Iterator[bytes]:
        if OTHER_IMAGE in request.path:
            return image(OTHER_CONTENT)(request)
        return answers[min(next(requests), len(answers) - 1)](request)

    return serve


def precache(host: Host, *answers: Answer, timeout: float = 30.0) -> FetchResult:
    """Pre-cache both images from a server."""
    with ImageServer(serving(*answers)) as server:
        return host.precache(
            images=[record(IMAGE, CONTENT), record(OTHER_IMAGE, OTHER_CONTENT)],
            glance={"endpoint": server.origin, "token": "a-token-of-a-test", "timeout": timeout},
            min_free_space=0,
        )


def cut_at_each(host: Host, answers_of: Callable[[int], tuple[Answer, ...]]) -> Iterator[tuple[int, FetchResult]]:
    """Pre-cache with a cut at each boundary in turn, into an empty cache each time."""
    for end in BOUNDARIES:
        for path in host.cache_path.iterdir():
            path.unlink()
        yield end, precache(host, *answers_of(end))


def test_transfer_that_is_cut_at_any_boundary_goes_on_there(host: Host) -> None:
    for end, result in cut_at_each(host, lambda end: (image(CONTENT, end=end, then=RESET), image(CONTENT))):
        assert result.error is None, end
        assert (host.cache_path / BASE).read_bytes() == CONTENT, end
        assert result.done["fetched"][0]["read_bytes"] == len(CONTENT)


def test_transfer_that_always_ends_at_a_boundary_leaves_no_file(host: Host) -> None:
    for end, result in cut_at_each(host, lambda end: (image(CONTENT, end=end),)):
        [failed] = result.done["failed"]
        assert f"{end} of {len(CONTENT)} bytes came" in failed["error"]
        assert host.cached() == [OTHER_BASE, f"{OTHER_BASE}.info"], end


SECONDS = 2.0


def flipped(position: int) -> Answer:
    content = bytearray(CONTENT)
    content[position] ^= 1
    return image(bytes(content))


def trickle(_request: Request) -> Iterator[bytes]:
    yield head(200, f"Content-Length: {len(CONTENT)}")
    while True:
        time.sleep(0.05)
        yield b"1"


def silence(_request: Request) -> Iterator[bytes]:
    yield head(200, f"Content-Length: {len(CONTENT)}")
    time.sleep(2 * SECONDS)


IN_THE_MIDDLE = image(CONTENT, end=MIB)
BAD: dict[str, tuple[tuple[Answer, ...], str]] = {
    "truncated": ((image(CONTENT[:-1]),), "another size than its record says"),
    "truncated, without a length": ((lambda _: iter([head(200), CONTENT[:-1]]),), "ended early"),
    "truncated, in chunks": ((chunked(CONTENT[:-1]),), "ended early"),
    "extended": ((image(CONTENT + b"x"),), "another size than its record says"),
    "extended, without a length": ((lambda _: iter([head(200), CONTENT, b"x"]),), "more bytes follow"),
    "extended, in chunks": ((chunked(CONTENT, b"x"),), "more bytes follow"),
    "first bit flipped": ((flipped(0),), "with other bytes than its record says"),
    "bit of the zeros flipped": ((flipped(MIB - 1),), "with other bytes than its record says"),
    "last bit flipped": ((flipped(len(CONTENT) - 1),), "with other bytes than its record says"),
    "other bytes after a cut": ((IN_THE_MIDDLE, flipped(MIB)), "with other bytes than its record says"),
    "401": ((answer(401),), "does not accept the token"),
    "401 in the middle": ((IN_THE_MIDDLE, answer(401)), "does not accept the token any more"),
    "404 in the middle": ((IN_THE_MIDDLE, answer(404)), "no such image"),
    "503": ((answer(503),), "HTTP status 503"),
    "503 in the middle": ((IN_THE_MIDDLE, answer(503)), "HTTP status 503"),
    "redirect loop": ((redirect("/again"),), "redirects more than 5 times"),
    "redirect loop in the middle": ((IN_THE_MIDDLE, redirect("/again")), "redirects more than 5 times"),
    "trickle": ((trickle,), "less than 10240 bytes a second"),
    "silence": ((silence,), f"Nothing came for {SECONDS:g} seconds"),
    "reset": ((lambda _: iter([head(200), CONTENT[:MIB], RESET]),), f"of {len(CONTENT)} bytes came"),
    "no answer": ((lambda _: iter([RESET]),), f"0 of {len(CONTENT)} bytes came"),
}


@pytest.mark.parametrize(("answers", "words"), BAD.values(), ids=BAD)
def test_bad_transfer_leaves_nothing_and_has_a_reason(tmp_path: Path, answers: tuple[Answer, ...], words: str) -> None:
    def run(path: Path) -> None:
        host = Host(path)
        is_slow = answers in ((trickle,), (silence,))
        result = precache(host, *answers, timeout=SECONDS if is_slow else 30.0)
        [failed], [fetched] = result.done["failed"], result.done["fetched"]
        assert failed["image_id"] == IMAGE
        assert IMAGE in failed["error"]
        assert "Glance at http://127.0.0.1:" in failed["error"]
        assert words in failed["error"]
        assert has_remedy(failed["error"])
        assert fetched["image_id"] == OTHER_IMAGE
        assert host.cached() == [OTHER_BASE, f"{OTHER_BASE}.info"]
        space = os.statvfs(path)
        named = sum(each.lstat().st_blocks * 512 for each in path.rglob("*"))
        assert (space.f_blocks - space.f_bfree) * space.f_frsize == named

        again = precache(host, image(CONTENT))
        assert again.error is None
        assert (host.cache_path / BASE).read_bytes() == CONTENT

    on_file_system("tmpfs", tmp_path, run, size=32 * MIB)
