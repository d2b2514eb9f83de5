# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whole files are hashed, no faster and no longer than is allowed, at the lowest priority."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache import hashing
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.hashing import (
    RateLimiter,
    map_in_threads,
    read_digests,
    run_at_idle_priority,
    thread_count,
)
from ansible_collections.stackops.nova.tests.support.host import Host
from ansible_collections.stackops.nova.tests.support.params import run_command
from ansible_collections.stackops.nova.tests.support.processes import in_a_child
from ansible_collections.stackops.nova.tests.support.verification import digest, info, prune

SIZE = 1_000_000
ALGORITHMS = ("sha1", "sha256", "sha512", "md5", "blake2b")

needs_two_cpus = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor gets one thread")


class Clock:
    """A time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0, "time.sleep() would refuse it"
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(hashing, "time", clock)
    return clock


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(SIZE))
    return path


@contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class TestReadDigests:
    @pytest.mark.parametrize("size", [0, 1, 256 * 1024, 256 * 1024 + 1, SIZE])
    def test_digests_are_those_of_the_whole_file(self, file: Path, size: int) -> None:
        os.truncate(file, size)
        with opened(file) as descriptor:
            digests = read_digests(descriptor, ALGORITHMS, RateLimiter())
        assert digests == {name: hashlib.new(name, file.read_bytes()).hexdigest() for name in ALGORITHMS}

    def test_file_is_not_read_where_no_time_is_left(self, file: Path) -> None:
        with opened(file) as descriptor:
            assert read_digests(descriptor, ["sha1"], RateLimiter(seconds=0)) is None
            assert os.lseek(descriptor, 0, os.SEEK_CUR) == 0

    def test_file_that_the_time_does_not_suffice_for_has_no_digest(self, file: Path, clock: Clock) -> None:
        started = clock.now
        with opened(file) as descriptor:
            assert read_digests(descriptor, ["sha1"], RateLimiter(SIZE // 10, seconds=5)) is None
            assert 0 < os.lseek(descriptor, 0, os.SEEK_CUR) < SIZE
        assert clock.now == started + 5

    @pytest.mark.parametrize("seconds", [None, 11])
    def test_file_that_the_time_suffices_for_is_read_at_the_rate(
        self, file: Path, clock: Clock, seconds: int | None
    ) -> None:
        started = clock.now
        with opened(file) as descriptor:
            digests = read_digests(descriptor, ["sha1"], RateLimiter(SIZE // 10, seconds))
        assert digests == {"sha1": hashlib.sha1(file.read_bytes()).hexdigest()}
        assert clock.now - started == pytest.approx(10)

    def test_directory_is_an_error_and_has_no_digest(self, tmp_path: Path) -> None:
        with opened(tmp_path) as descriptor, pytest.raises(IsADirectoryError):
            read_digests(descriptor, ["sha1"], RateLimiter())


class TestRateLimiter:
    def test_limiter_without_limits_never_waits_and_never_expires(self, clock: Clock) -> None:
        started = clock.now
        rate_limiter = RateLimiter()
        rate_limiter.throttle(1 << 60)
        assert clock.now == started
        clock.now += 1e9
        assert not rate_limiter.is_expired()

    def test_limiter_expires_when_its_time_is_over(self, clock: Clock) -> None:
        rate_limiter = RateLimiter(seconds=5)
        clock.now += 4.9
        assert not rate_limiter.is_expired()
        clock.now += 0.2
        assert rate_limiter.is_expired()

    def test_two_readers_at_once_share_the_rate(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        naps: list[float] = []
        monkeypatch.setattr(clock, "sleep", naps.append)  # the second has read before the first has slept
        rate_limiter = RateLimiter(100)
        rate_limiter.throttle(100)
        rate_limiter.throttle(100)
        assert naps == [1, 2]

    def test_reader_after_a_pause_does_not_catch_up(self, clock: Clock) -> None:
        rate_limiter = RateLimiter(100)
        clock.now += 3600
        later = clock.now
        rate_limiter.throttle(100)
        assert clock.now == later + 1

    def test_expired_limiter_does_not_wait(self, clock: Clock) -> None:
        rate_limiter = RateLimiter(100, seconds=5)
        clock.now += 6
        late = clock.now
        rate_limiter.throttle(100)
        assert clock.now == late


def test_prune_keeps_to_the_rate(host_with_one_guest: Host) -> None:
    started = time.monotonic()
    prune(host_with_one_guest, checksum_max_rate=3_000_000)
    assert time.monotonic() - started > 0.4


class TestRunAtIdlePriority:
    def test_result_of_the_work_is_returned(self) -> None:
        assert run_at_idle_priority(lambda: "done", run_command) == "done"

    def test_error_of_the_work_is_raised(self) -> None:
        def fail() -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            run_at_idle_priority(fail, run_command)

    def test_threads_that_the_work_starts_have_the_lowest_priority(self) -> None:
        before = os.nice(0)
        assert run_at_idle_priority(lambda: map_in_threads(lambda _item: os.nice(0), range(4)), run_command) == [19] * 4
        assert os.nice(0) == before

    def test_work_has_idle_priority_for_the_disk_and_this_thread_keeps_its_own(self) -> None:
        before = turn_for_the_disk()
        assert run_at_idle_priority(turn_for_the_disk, run_command) == "idle"
        assert turn_for_the_disk() == before


def turn_for_the_disk() -> str:
    """What `ionice` says of the thread that asks."""
    command = ["ionice", "-p", str(threading.get_native_id())]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_verification_runs_at_the_lowest_priority_and_this_process_keeps_its_own(host_with_one_guest: Host) -> None:
    before = os.nice(0)
    seen = []

    def run_command(command: list[str]) -> tuple[int, str, str]:
        seen.append((command, os.nice(0)))
        raise FileNotFoundError("a host without ionice")

    from ansible_collections.stackops.nova.plugins.module_utils.image_cache.prune import prune

    prune(host_with_one_guest.options(checksum_base_images=True), host_with_one_guest.now, run_command, False)
    [(command, niceness)] = seen
    assert command[:4] == ["ionice", "-c", "3", "-p"]
    assert niceness == 19
    assert os.nice(0) == before
    assert info(host_with_one_guest)["sha1"] == digest(host_with_one_guest)


class TestMapInThreads:
    @pytest.mark.parametrize("count", [0, 1, 2, 100])
    def test_each_item_is_worked_on_once_and_its_result_is_in_its_place(self, count: int) -> None:
        done: list[int] = []

        def work(item: int) -> str:
            done.append(item)
            return str(item)

        assert map_in_threads(work, range(count)) == [str(item) for item in range(count)]
        assert sorted(done) == list(range(count))

    @needs_two_cpus
    def test_as_many_threads_as_announced_work_at_once(self) -> None:
        at_a_time = thread_count(1000)
        together = threading.Barrier(at_a_time, timeout=10)  # breaks if fewer come
        threads = set()

        def work(_item: int) -> None:
            threads.add(threading.get_ident())
            together.wait()

        map_in_threads(work, range(3 * at_a_time))
        assert len(threads) == at_a_time > 1

    def test_host_with_one_processor_starts_no_thread(self) -> None:
        def on_one_processor() -> tuple[int, bool]:
            os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
            threads = map_in_threads(lambda _item: threading.get_ident(), range(4))
            return thread_count(4), set(threads) == {threading.get_ident()}

        assert in_a_child(on_one_processor) == (1, True)

    @pytest.mark.parametrize("items", [0, 1, 2])
    def test_there_are_no_more_threads_than_items(self, items: int) -> None:
        assert thread_count(items) <= items
