# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Somebody keeps replacing parts of the cache by links into a folder of canaries, while audits and prunes run.

No canary is ever opened as a cache, lock or info file, changed or removed, and nothing of ours appears among them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache import (
    apply,
    backing_chain,
    info_files,
    lock_state,
    locks,
    snapshot,
    verification,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache import cache_directory as opening
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.audit import audit
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.prune import prune
from ansible_collections.stackops.nova.tests.support.host import DAY, Host, picture
from ansible_collections.stackops.nova.tests.support.processes import opened_in
from ansible_collections.stackops.nova.tools.cache_tree import fingerprint, overlay_bytes

UNUSED = [fingerprint(f"unused {number}") for number in range(12)]
LOWEST = fingerprint("lowest")
MIDDLE = fingerprint("middle")  # qcow2 itself, over LOWEST: so it is read for each disk over it
CACHED = [*UNUSED, LOWEST, MIDDLE]
BESIDE = ("{}.info", "{}.sha1", ".{}.info.new", "nova-{}", "nova-hash-{}", "nova-info-{}")
INSTANCES = [f"{number:08d}-0000-4000-8000-000000000000" for number in range(4)]
SECONDS = 4.0
TIME_LIMIT_SECONDS = 60.0

# Replaces paths by links and puts them back, for ever, each time by one system call: a path is never missing.
SWAPPER = """
import ctypes, os, random, sys, time

RENAME_EXCHANGE, AT_FDCWD = 2, -100
libc = ctypes.CDLL(None, use_errno=True)
link, *pairs = map(os.fsencode, sys.argv[1:])
pairs = list(zip(pairs[::2], pairs[1::2]))
print("ready", flush=True)
while True:
    path, target = random.choice(pairs)
    os.symlink(target, link)
    if libc.renameat2(AT_FDCWD, path, AT_FDCWD, link, RENAME_EXCHANGE) == 0:
        time.sleep(random.uniform(0, 0.0005))
        if libc.renameat2(AT_FDCWD, path, AT_FDCWD, link, RENAME_EXCHANGE) != 0:
            os.rename(link, path)
    try:
        os.unlink(link)  # or what a pass put in its place
    except FileNotFoundError:
        pass
    time.sleep(random.uniform(0, 0.002))
"""


class Canaries:
    """Files that bear the names of ours, and with which nobody has any business."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.instance = path / "instance"
        self.instance.mkdir(parents=True)
        for name in CACHED:
            (path / name).write_bytes(overlay_bytes(1 << 20, "/tell-tale", "raw"))
            for other in BESIDE:
                (path / other.format(name)).write_text("{}")
        (self.instance / "disk").write_bytes(overlay_bytes(1 << 20, os.fsencode(path / UNUSED[0]), "qcow2"))
        self._before = picture(path)

    def are_as_they_were(self) -> bool:
        return picture(self.path) == self._before


class Target(Host):
    """A cache whose files can be put back, wherever its directory is at the moment."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.base(LOWEST, age=DAY)
        (self.cache_path / MIDDLE).write_bytes(overlay_bytes(1 << 20, str(self.cache_path / LOWEST), "raw"))
        for name in INSTANCES:
            self.overlay(name, self.cache_path / MIDDLE, "qcow2")
        self._cache = os.open(self.cache_path, os.O_RDONLY | os.O_DIRECTORY)
        self._locks = os.open(self.locks_path, os.O_RDONLY | os.O_DIRECTORY)

    def put_back(self) -> None:
        """Make anew what was removed: cache files long unused, each with a saved fact and a lock file."""
        for name in UNUSED:
            self._put_back(self._cache, name, b"content")
            self._put_back(self._cache, f"{name}.info", b"{}")
            self._put_back(self._locks, f"nova-{name}", b"")

    def _put_back(self, directory: int, name: str, content: bytes) -> None:
        with suppress(FileExistsError):
            descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=directory)
            os.write(descriptor, content)
            os.utime(descriptor, (1, 1))
            os.close(descriptor)

    def close(self) -> None:
        os.close(self._cache)
        os.close(self._locks)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    target = Target(tmp_path)
    yield target
    target.close()


@pytest.fixture
def canaries(tmp_path: Path) -> Canaries:
    return Canaries(tmp_path / "canaries")


@contextmanager
def swapper(link: Path, pairs: list[tuple[Path, Path]]) -> Iterator[None]:
    arguments = [str(path) for pair in pairs for path in pair]
    command = [sys.executable, "-c", SWAPPER, str(link), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            yield
            assert process.poll() is None
        finally:
            process.kill()


class Passes(NamedTuple):
    """How many passes there were, by how they ended, and the harm that was done."""

    removed: int
    refused: int
    harm: set[str]


def no_command(_command: list[str]) -> tuple[int, str, str]:
    raise FileNotFoundError


def run_passes(target: Target, canaries: Canaries, seconds: float, *, until_harm: bool = False) -> Passes:
    """Audit and prune, with all limits at zero, verify and save."""
    options = target.options(
        remove_unused_original_minimum_age_seconds=0,
        remove_unused_resized_minimum_age_seconds=0,
        checksum_base_images=True,
        checksum_scope="all",
        checksum_interval_seconds=0,
    )
    only_verify = {**options, "remove_unused_base_images": False}
    removed = refused = 0
    harm: set[str] = set()
    deadline = time.monotonic() + seconds
    with opened_in(canaries.path) as opened:
        while time.monotonic() < deadline and not (until_harm and harm):
            target.put_back()
            try:
                audit(options, target.now, no_command)
                result = prune(options, target.now, no_command, check_mode=False)
                verified = prune(only_verify, target.now, no_command, check_mode=False)
            except ImageCacheError:
                refused += 1
            else:
                removed += bool(result.done["removed"])
                refused += bool(result.facts["unknown_use"]) + bool(verified.facts["unknown_use"])
            # To look there for an instance's disks is no harm: a directory may have been moved, and linked.
            harm |= opened() - {canaries.instance.name}
    return Passes(removed, refused, harm)


def base_files(target: Target, canaries: Canaries) -> list[tuple[Path, Path]]:
    return [(target.cache_path / name, canaries.path / name) for name in CACHED]


def backed_base_file(target: Target, canaries: Canaries) -> list[tuple[Path, Path]]:
    return [(target.cache_path / MIDDLE, canaries.path / MIDDLE)]


def marked_base_file(target: Target, canaries: Canaries) -> list[tuple[Path, Path]]:
    return [(target.cache_path / LOWEST, canaries.path / LOWEST)]


def facts(target: Target, canaries: Canaries) -> list[tuple[Path, Path]]:
    names = [other.format(name) for name in UNUSED for other in ("{}.info", "{}.sha1")]
    return [(target.cache_path / name, canaries.path / name) for name in names]


def lock_files(target: Target, canaries: Canaries) -> list[tuple[Path, Path]]:
    return [(target.locks_path / f"nova-{name}", canaries.path / f"nova-{name}") for name in UNUSED]


def cache_directory(target: Target, canaries: Canaries) -> list[tuple[Path, Path]]:
    return [(target.cache_path, canaries.path)]


def locks_directory(target: Target, canaries: Canaries) -> list[tuple[Path, Path]]:
    return [(target.locks_path, canaries.path)]


def instance_directories(target: Target, canaries: Canaries) -> list[tuple[Path, Path]]:
    return [(target.instances_path / name, canaries.instance) for name in INSTANCES]


def test_swapped_links_harm_no_canary(target: Target, canaries: Canaries) -> None:
    targets = (base_files, facts, lock_files, cache_directory, locks_directory, instance_directories)
    pairs = [pair for of in targets for pair in of(target, canaries)]
    # Each directory as often as all the entries of the cache together.
    pairs += 40 * (cache_directory(target, canaries) + locks_directory(target, canaries))
    with swapper(target.root / "link", pairs):
        passes = run_passes(target, canaries, SECONDS)
    assert passes.harm == set()
    assert canaries.are_as_they_were()
    assert passes.removed > 0, "no pass got through, so nothing was shown"
    assert passes.refused > 0, "no pass met a link, so nothing was shown"


def following(flags: int) -> int:
    return flags & ~os.O_NOFOLLOW


@contextmanager
def by_path(pattern: str, _cache_path: str, _cache: int) -> Iterator[int]:
    directory = os.open(os.path.dirname(pattern), os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield directory
    finally:
        os.close(directory)


def mark_and_follow(cache: int, names: list[str]) -> tuple[str, ...]:
    for name in names:
        with suppress(FileNotFoundError):
            os.utime(name, dir_fd=cache)
    return ()


# What keeps a pass from following a link, what it is without that, and which links then lead it astray.
GUARDS = {
    "the cache directory": ({(opening, "DIRECTORY_FLAGS"): following(opening.DIRECTORY_FLAGS)}, cache_directory),
    "the locks directory": ({(locks, "DIRECTORY_FLAGS"): following(locks.DIRECTORY_FLAGS)}, locks_directory),
    "a lock that is looked at": ({(lock_state, "FILE_FLAGS"): following(lock_state.FILE_FLAGS)}, lock_files),
    "a lock that is taken": (
        {
            (locks, "_WRITE_FLAGS"): following(locks._WRITE_FLAGS),
            (snapshot, "look_at_lock"): lambda *_lock: lock_state.LockState(False, False),
        },
        lock_files,
    ),
    "a file that is looked at": ({(snapshot, "FILE_FLAGS"): following(snapshot.FILE_FLAGS)}, base_files),
    "a file that is removed": ({(apply, "FILE_FLAGS"): following(apply.FILE_FLAGS)}, base_files),
    "a file that is marked as used": ({(apply, "_mark_used"): mark_and_follow}, marked_base_file),
    "a file that is verified": ({(verification, "FILE_FLAGS"): following(verification.FILE_FLAGS)}, base_files),
    "a base file that backs another": (
        {(snapshot, "make_open"): lambda *_cache: backing_chain.open_image},
        backed_base_file,
    ),
    "its directory": ({(snapshot, "make_open"): lambda *_cache: backing_chain.open_image}, cache_directory),
    "an info file": ({(info_files, "FILE_FLAGS"): following(info_files.FILE_FLAGS)}, facts),
    "the info files' directory": (
        {(info_files, "info_directory"): by_path, (verification, "info_directory"): by_path},
        cache_directory,
    ),
}


@pytest.mark.parametrize("guard", GUARDS)
def test_swapped_links_harm_a_canary_without_one_guard(
    monkeypatch: pytest.MonkeyPatch, target: Target, canaries: Canaries, guard: str
) -> None:
    replacements, targets = GUARDS[guard]
    for (module, name), without in replacements.items():
        monkeypatch.setattr(module, name, without)
    with swapper(target.root / "link", targets(target, canaries)):
        passes = run_passes(target, canaries, TIME_LIMIT_SECONDS, until_harm=True)
    assert passes.harm != set()
