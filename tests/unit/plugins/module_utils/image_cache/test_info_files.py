# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Info files: what is read of one, and that writing one never loses anything."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.info_files import (
    Info,
    info_directory,
    info_lock_name,
    is_valid_info_file,
    read_info,
    read_legacy_sha1_file,
    read_timestamp,
    remove_essex_checksum,
    remove_info,
    save_info,
    why_info_cannot_be_saved,
)
from ansible_collections.stackops.nova.tests.support.host import attribute
from ansible_collections.stackops.nova.tests.support.processes import (
    NOBODY,
    as_nobody,
    mount,
    needs_root,
    nova_compute,
    with_own_mounts,
)

NAME = "e97222e91fc4241f49a7f520d1dcf446751129b3"
SHA1 = "b3c1cf2a64d18f9e23c0fbc0b0f5b1d3e6ac8a0e"
PATTERN = "/var/lib/nova/instances/_base/%(image)s.info"

# Saves fields again and again, each time other ones, until it is killed.
SAVER = """
import os, sys
sys.path[:0] = sys.argv[3:]
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.info_files import save_info

pattern, locks = sys.argv[1], os.open(sys.argv[2], os.O_RDONLY)
directory = os.open(os.path.dirname(pattern), os.O_RDONLY)
print("ready", flush=True)
number = 0
while True:
    number += 1
    save_info(pattern, "e97222e91fc4241f49a7f520d1dcf446751129b3", {"first": number, "filler": "x" * 3000,
        "second": number}, directory=directory, locks=locks, keep_lock_file=False)
"""


class Facts:
    """The info file of one base file, in a cache of its own, and nova's locks."""

    def __init__(self, root: Path) -> None:
        self.cache_path = root / "_base"
        self.locks_path = root / "locks"
        self.cache_path.mkdir()
        self.locks_path.mkdir()
        self.path = self.cache_path / f"{NAME}.info"
        self.pattern = str(self.cache_path / "%(image)s.info")

    def save(self, keep_lock_file: bool = False, **facts: Any) -> None:
        locks = os.open(self.locks_path, os.O_RDONLY)
        try:
            with self.directory() as directory:
                save_info(self.pattern, NAME, facts, directory=directory, locks=locks, keep_lock_file=keep_lock_file)
        finally:
            os.close(locks)

    @contextmanager
    def directory(self) -> Iterator[int]:
        cache = os.open(self.cache_path, os.O_RDONLY)
        try:
            yield cache
        finally:
            os.close(cache)

    def read(self) -> Info:
        with self.directory() as directory:
            return read_info(self.path.name, directory)

    def timestamp(self, algorithm: str) -> float | None:
        with self.directory() as directory:
            return read_timestamp(self.path.name, directory, algorithm)

    def content(self) -> Any:
        return json.loads(self.path.read_text())

    def names(self) -> list[str]:
        return sorted(os.listdir(self.cache_path))


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    return Facts(tmp_path)


class TestValidName:
    @pytest.mark.parametrize("suffix", ["", "_sm", "_10737418240", "_1"])
    def test_original_small_and_resized_files_have_an_info_file(self, suffix: str) -> None:
        assert is_valid_info_file(PATTERN, f"/var/lib/nova/instances/_base/{NAME}{suffix}.info")

    @pytest.mark.parametrize(
        "path",
        [
            f"/var/lib/nova/instances/_base/{NAME}",
            f"/var/lib/nova/instances/_base/{NAME}.sha1",
            f"/var/lib/nova/instances/_base/{NAME}.info.bak",
            f"/var/lib/nova/instances/_base/{NAME[1:]}.info",
            f"/var/lib/nova/instances/_base/{NAME.upper()}.info",
            f"/var/lib/nova/instances/_base/{NAME}_small.info",
            f"/var/lib/nova/instances/_base/{NAME}_.info",
            f"/var/lib/nova/instances/_base/x/{NAME}.info",
            f"/var/lib/nova/instances/other/{NAME}.info",
            "/var/lib/nova/instances/_base/swap_64.info",
            "/var/lib/nova/instances/_base/.info",
            ".info",
            "",
        ],
    )
    def test_other_path_is_not_that_of_an_info_file(self, path: str) -> None:
        assert not is_valid_info_file(PATTERN, path)

    @given(st.text())
    def test_any_text_is_not_the_path_of_an_info_file(self, path: str) -> None:
        assert not is_valid_info_file(PATTERN, path)


def test_lock_of_an_info_file_is_the_one_that_nova_takes() -> None:
    assert info_lock_name(NAME) == f"nova-info-{NAME}"


class TestReadInfo:
    def test_missing_info_file_has_no_fields(self, facts: Facts) -> None:
        assert facts.read() == Info({}, None)

    def test_info_file_of_nova_is_read(self, facts: Facts) -> None:
        facts.path.write_text(f'{{"sha1-timestamp": 1386155535.41, "sha1": "{SHA1}"}}\n')
        assert facts.read() == Info({"sha1": SHA1, "sha1-timestamp": 1386155535.41}, None)

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"[]", b"null", b'"x"', b"1", b"\xff", b"{}x", b"[" * 10_000, b" " * 20_000 + b"{}"]
    )
    def test_damaged_info_file_counts_as_empty(self, facts: Facts, content: bytes) -> None:
        facts.path.write_bytes(content)
        info = facts.read()
        assert info.fields == {}
        assert info.damaged

    def test_link_in_place_of_an_info_file_is_not_followed(self, facts: Facts) -> None:
        (facts.cache_path / "target").write_text('{"sha1": "x"}')
        facts.path.symlink_to("target")
        assert facts.read() == Info({}, "it is a link")

    def test_fifo_in_place_of_an_info_file_is_not_waited_for(self, facts: Facts) -> None:
        os.mkfifo(facts.path)
        assert facts.read().fields == {}
        descriptor = os.open(facts.path, os.O_RDWR)
        assert facts.read() == Info({}, "it is not a regular file")
        os.close(descriptor)

    def test_directory_in_place_of_an_info_file_counts_as_damaged(self, facts: Facts) -> None:
        facts.path.mkdir()
        assert facts.read() == Info({}, "it is not a regular file")

    @needs_root
    def test_info_file_that_may_not_be_read_is_an_error(self) -> None:
        with tempfile.TemporaryDirectory() as root:
            Path(root).chmod(0o755)
            facts = Facts(Path(root))
            facts.save(sha1=SHA1)
            facts.path.chmod(0o600)
            with pytest.raises(PermissionError):
                as_nobody(facts.read)

    @given(st.binary(max_size=200))
    def test_any_bytes_are_read_or_count_as_damaged(self, content: bytes) -> None:
        check_reading(content)

    @given(
        st.dictionaries(
            st.sampled_from(["sha1", "sha1-timestamp", "other"]),
            st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists),
        )
    )
    def test_any_fields_are_read(self, fields: dict[str, Any]) -> None:
        info = check_reading(json.dumps(fields).encode())
        assert info.damaged is None
        assert json.dumps(info.fields) == json.dumps(fields)

    @pytest.mark.parametrize(("algorithm", "digits"), [("sha1", 40), ("sha256", 64), ("sha512", 128)])
    def test_timestamp_of_the_only_checksum_is_read(self, facts: Facts, algorithm: str, digits: int) -> None:
        facts.save(**{algorithm: "0" * digits, f"{algorithm}-timestamp": 1386155535.41})
        assert facts.timestamp(algorithm) == 1386155535.41

    @pytest.mark.parametrize(
        "fields", [{"sha1": "x"}, {"sha1": SHA1, "mine": 1}, {"sha256": SHA1, "sha256-timestamp": 1386155535.41}, {}]
    )
    def test_file_with_other_fields_has_no_timestamp(self, facts: Facts, fields: dict[str, Any]) -> None:
        facts.save(**fields)
        assert facts.timestamp("sha1") is None

    def test_file_that_cannot_be_read_has_no_timestamp(self, facts: Facts) -> None:
        assert facts.timestamp("sha1") is None
        facts.path.mkdir()
        assert facts.timestamp("sha1") is None

    @given(
        st.from_regex(
            r'\{"sha1": "[0-9a-f]{39,41}", "sha1-timestamp": -?[0-9]{1,12}(\.[0-9]{0,3})?(e5)?\}\n?', fullmatch=True
        )
    )
    def test_timestamp_is_the_one_of_the_fields(self, content: str) -> None:
        with tempfile.TemporaryDirectory() as root:
            facts = Facts(Path(root))
            facts.path.write_text(content)
            time = facts.timestamp("sha1")
            if time is not None:
                assert facts.read() == Info({"sha1": content[10:50], "sha1-timestamp": time})

    def test_essex_checksum_is_read_and_removed(self, facts: Facts) -> None:
        with facts.directory() as cache:
            assert read_legacy_sha1_file(NAME, cache) is None
            (facts.cache_path / f"{NAME}.sha1").write_text(SHA1 + "\n")
            assert read_legacy_sha1_file(NAME, cache) == SHA1
            remove_essex_checksum(NAME, cache)
            remove_essex_checksum(NAME, cache)
        assert facts.names() == []


def check_reading(content: bytes) -> Info:
    with tempfile.TemporaryDirectory() as root:
        facts = Facts(Path(root))
        facts.path.write_bytes(content)
        info = facts.read()
    assert isinstance(info.fields, dict)
    assert info.damaged is None or info.fields == {}
    return info


class TestSaveInfo:
    def test_first_checksum_makes_the_info_file(self, facts: Facts) -> None:
        facts.save(sha1=SHA1)
        assert facts.content() == {"sha1": SHA1}
        assert facts.names() == [facts.path.name]

    def test_other_fields_are_kept_unchanged(self, facts: Facts) -> None:
        facts.path.write_text('{"sha256": null, "mine": [1.50, {"a": "\\u00e4"}], "sha1": "old"}')
        facts.save(sha1=SHA1)
        assert facts.content() == {"sha256": None, "mine": [1.5, {"a": "ä"}], "sha1": SHA1}

    def test_damaged_info_file_is_written_anew(self, facts: Facts) -> None:
        facts.path.write_text('{"sha1')
        facts.save(sha1=SHA1)
        assert facts.content() == {"sha1": SHA1}

    @pytest.mark.parametrize("depth", [100, 300, 500, 700, 900, 1000, 1200, 2000, 7000])
    def test_fields_of_any_depth_are_kept_or_count_as_damaged(self, facts: Facts, depth: int) -> None:
        text = f'{{"mine": {"[" * depth}{"]" * depth}}}'
        facts.path.write_text(text)
        with suppress(ImageCacheError):
            facts.save(sha1=SHA1)
        assert facts.path.read_text().replace(f', "sha1": "{SHA1}"', "") in (text, f'{{"sha1": "{SHA1}"}}')
        assert facts.names() == [facts.path.name]

    def test_lock_file_is_removed_on_a_local_disk(self, facts: Facts) -> None:
        facts.save(sha1=SHA1)
        assert os.listdir(facts.locks_path) == []

    def test_lock_file_is_kept_where_other_hosts_may_wait_on_it(self, facts: Facts) -> None:
        facts.save(sha1=SHA1, keep_lock_file=True)
        assert os.listdir(facts.locks_path) == [f"nova-info-{NAME}"]

    def test_draft_of_a_killed_pass_is_replaced(self, facts: Facts) -> None:
        (facts.cache_path / f".{NAME}.info.new").write_text("half of")
        facts.save(sha1=SHA1)
        assert facts.content() == {"sha1": SHA1}
        assert facts.names() == [facts.path.name]

    @pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: path.symlink_to("x"), os.mkfifo])
    def test_other_thing_than_a_file_is_left_alone(self, facts: Facts, make: Any) -> None:
        make(facts.path)
        before = facts.path.lstat()
        with pytest.raises(ImageCacheError, match=f"{NAME}.info is not a regular file"):
            facts.save(sha1=SHA1)
        assert facts.path.lstat() == before
        assert facts.names() == [facts.path.name]

    def test_swap_template_has_no_info_file(self, facts: Facts) -> None:
        with pytest.raises(ImageCacheError, match="is no info file"):
            save_info(facts.pattern, "swap_64", {}, directory=-1, locks=-1, keep_lock_file=True)

    @needs_root
    def test_new_info_file_belongs_to_the_owner_of_its_folder(self, facts: Facts) -> None:
        os.chown(facts.cache_path, NOBODY, 1234)
        facts.save(sha1=SHA1)
        status = facts.path.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (NOBODY, 1234, 0o644)

    @needs_root
    def test_existing_info_file_keeps_its_owner_and_mode(self, facts: Facts) -> None:
        facts.path.write_text("{}")
        os.chown(facts.path, 4321, NOBODY)
        facts.path.chmod(0o664)
        facts.save(sha1=SHA1)
        status = facts.path.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (4321, NOBODY, 0o664)


@pytest.mark.parametrize("folder", ["_base/facts", "facts"], ids=["in the cache", "elsewhere"])
def test_missing_directory_of_info_files_is_not_made_and_nothing_is_saved(facts: Facts, folder: str) -> None:
    root = facts.cache_path.parent
    facts.pattern = f"{root}/{folder}/%(image)s.info"
    with facts.directory() as cache, info_directory(facts.pattern, str(facts.cache_path), cache) as directory:
        assert directory is None
        assert read_info(f"{NAME}.info", directory) == Info({})
        remove_info(f"{NAME}.info", directory)
        with pytest.raises(ImageCacheError, match=f"there is no directory {root}/{folder}"):
            save_info(facts.pattern, NAME, {"sha1": SHA1}, directory=directory, locks=-1, keep_lock_file=False)
    assert not (root / folder).exists()


class TestLockOfAnInfoFile:
    def test_lock_that_nova_releases_in_time_is_waited_for(self, facts: Facts) -> None:
        with nova_compute() as nova:
            nova.take(f"info-{NAME}", facts.locks_path)
            threading.Timer(0.2, nova.release).start()
            started = time.monotonic()
            facts.save(sha1=SHA1)
            assert time.monotonic() - started > 0.1
        assert facts.content() == {"sha1": SHA1}

    def test_lock_that_nova_keeps_is_an_error(self, facts: Facts) -> None:
        with nova_compute() as nova:
            nova.take(f"info-{NAME}", facts.locks_path)
            with pytest.raises(ImageCacheError, match=f"another process holds the lock nova-info-{NAME}"):
                facts.save(sha1=SHA1)
        assert facts.names() == []

    def test_lock_that_cannot_be_used_is_an_error(self, facts: Facts) -> None:
        (facts.locks_path / info_lock_name(NAME)).symlink_to("elsewhere")
        with pytest.raises(ImageCacheError, match=f"its lock nova-info-{NAME} cannot be used: Too many levels"):
            facts.save(sha1=SHA1)
        assert facts.names() == []

    def test_two_writers_at_once_lose_no_field(self, facts: Facts) -> None:
        command = [sys.executable, "-c", COUNTER, facts.pattern, str(facts.locks_path)]
        counters = [subprocess.Popen([*command, field, *sys.path]) for field in ("a", "b")]
        assert [counter.wait() for counter in counters] == [0, 0]
        assert facts.content() == {"a": 100, "b": 100}


# Counts to a hundred in a field of its own, while others do so in theirs.
COUNTER = """
import os, sys
sys.path[:0] = sys.argv[4:]
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.info_files import save_info
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError

pattern, locks, field = sys.argv[1], os.open(sys.argv[2], os.O_RDONLY), sys.argv[3]
directory = os.open(os.path.dirname(pattern), os.O_RDONLY)
number = 0
while number <= 100:
    try:
        save_info(pattern, "e97222e91fc4241f49a7f520d1dcf446751129b3", {field: number}, directory=directory,
            locks=locks, keep_lock_file=True)
    except ImageCacheError:  # the other had every turn for a second
        continue
    number += 1
"""


def test_kill_at_any_moment_leaves_the_old_or_the_new_info_file(facts: Facts) -> None:
    facts.save(first=0, second=0, filler="")
    chance = random.Random(3)
    last = 0
    for _kill in range(25):
        command = [sys.executable, "-c", SAVER, facts.pattern, str(facts.locks_path), *sys.path]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as saver:
            assert saver.stdout is not None
            assert saver.stdout.readline() == b"ready\n"
            time.sleep(chance.uniform(0, 0.03))
            saver.send_signal(signal.SIGKILL)
        content = facts.content()
        assert content["first"] == content["second"]
        last = max(last, content["first"])
        assert set(facts.names()) <= {facts.path.name, f".{NAME}.info.new"}
    assert last > 0
    facts.save(last=True)
    assert facts.names() == [facts.path.name]


@needs_root
class TestWhyNothingCanBeSaved:
    """A dry run knows it without trying: each reason beside what a prune meets."""

    def why(self, facts: Facts) -> str:
        with facts.directory() as directory:
            return why_info_cannot_be_saved(facts.pattern, NAME, directory)

    def test_info_file_without_an_obstacle_has_no_reason(self, facts: Facts) -> None:
        assert self.why(facts) == ""
        facts.save(sha1=SHA1)
        assert self.why(facts) == ""

    def test_directory_that_does_not_exist_is_named(self, facts: Facts) -> None:
        reason = why_info_cannot_be_saved(facts.pattern, NAME, None)
        assert reason.startswith(f"there is no directory {facts.cache_path}. Make it")

    @pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("elsewhere")])
    def test_other_thing_in_place_of_the_info_file_is_named(self, facts: Facts, make: Callable[[Path], None]) -> None:
        make(facts.path)
        assert self.why(facts).startswith(f"{facts.path} is not a regular file and is left alone.")
        with pytest.raises(ImageCacheError, match="is not a regular file"):
            facts.save(sha1=SHA1)

    @needs_root
    def test_read_only_mount_is_named(self, tmp_path: Path) -> None:
        def why() -> str:
            with mounted(tmp_path):
                facts = Facts(tmp_path)
                mount("-o", "remount,ro", tmp_path)
                return self.why(facts)

        assert with_own_mounts(why).startswith(f"{tmp_path}/_base is on a read-only mount.")

    @pytest.mark.usefixtures("attributes")
    @pytest.mark.parametrize("what", ["directory", "file"])
    def test_attribute_of_directory_or_file_is_named_with_its_remedy(self, facts: Facts, what: str) -> None:
        facts.save(sha1=SHA1)
        path = facts.cache_path if what == "directory" else facts.path
        with attribute(path, "i"):
            reason = self.why(facts)
            with pytest.raises(OSError, match="Operation not permitted"):
                facts.save(sha1="0" * 40)
        assert reason == f"{path} has the attribute immutable or append-only. Remove it with chattr -i -a {path}"

    @needs_root
    def test_directory_of_another_user_is_named(self, facts: Facts) -> None:
        with facts.directory() as directory:
            reason = as_nobody(lambda: why_info_cannot_be_saved(facts.pattern, NAME, directory))
        assert reason.startswith(f"{facts.cache_path} may not be written by this user.")

    @needs_root
    def test_file_of_another_user_in_a_sticky_directory_is_named(self, facts: Facts) -> None:
        facts.save(sha1=SHA1)
        facts.cache_path.chmod(0o1777)
        with facts.directory() as directory:
            reason = as_nobody(lambda: why_info_cannot_be_saved(facts.pattern, NAME, directory))
        assert reason.startswith(f"{facts.path} belongs to another user, and its directory is sticky.")


class TestNoRoom:
    @pytest.mark.parametrize("old", [None, '{"sha1": "old", "note": "mine"}'])
    def test_full_disk_keeps_the_old_info_file(self, tmp_path: Path, old: str | None) -> None:
        def save() -> tuple[int | None, list[str], str | None]:
            with mounted(tmp_path, "-osize=64k"):
                facts = Facts(tmp_path)
                if old is not None:
                    facts.path.write_text(old)
                fill(facts.cache_path / "filler")
                try:
                    facts.save(sha1=SHA1)
                except OSError as exc:
                    error = exc.errno
                else:
                    error = None
                (facts.cache_path / "filler").unlink()
                return error, facts.names(), facts.path.read_text() if facts.path.exists() else None

        error, names, content = with_own_mounts(save)
        assert os.strerror(error) == "No space left on device"
        assert names == ([f"{NAME}.info"] if old else [])
        assert content == old

    def test_read_only_disk_keeps_the_old_info_file(self, tmp_path: Path) -> None:
        def save() -> tuple[str, Any]:
            with mounted(tmp_path):
                facts = Facts(tmp_path)
                facts.save(sha1="old")
                mount("-o", "remount,ro", tmp_path)
                with pytest.raises(ImageCacheError) as error:
                    facts.save(sha1=SHA1)
                return str(error.value), facts.content()

        error, content = with_own_mounts(save)
        assert error == (
            f"its lock nova-info-{NAME} cannot be used: Read-only file system. "
            "Mount the file system for writing (mount -o remount,rw)"
        )
        assert content == {"sha1": "old"}


@contextmanager
def mounted(path: Path, *options: str) -> Iterator[None]:
    mount("-t", "tmpfs", *options, "tmpfs", path)
    yield


def fill(path: Path) -> None:
    """Take all the room there is."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
