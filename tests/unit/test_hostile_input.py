# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever lies in the place of a file that a pass reads: it ends soon, reads little, and no disk loses its base."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.domain_xml import parse_domain
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.prune import PruneResult
from ansible_collections.stackops.nova.tests.support.constants import BASE, IMAGE, OTHER_UUID, UUID
from ansible_collections.stackops.nova.tests.support.host import NAME, OLD, Host, states
from ansible_collections.stackops.nova.tests.support.processes import (
    make_socket,
    mount,
    needs_root,
    opened_in,
    with_own_mounts,
)
from ansible_collections.stackops.nova.tools.cache_tree import fingerprint, overlay_bytes

MIB = 1 << 20
LOWEST = fingerprint("lowest")
UNUSED = fingerprint("unused")
INSTANCE = "instance-0000000a"

CONF = "[DEFAULT]\nhost = vm\n"


pytestmark = pytest.mark.usefixtures("time_limit")


def make_host(host: Host) -> Host:
    """A disk over a qcow2 base over a raw one, with all the files that a pass may read, and one unused file."""
    host.base(LOWEST, age=OLD, content=b"lowest")
    host.base(UNUSED, age=OLD, content=b"unused")
    (host.cache_path / BASE).write_bytes(overlay_bytes(1 << 20, str(host.cache_path / LOWEST), "raw"))
    os.utime(host.cache_path / BASE, (host.now - OLD, host.now - OLD))
    for name in (BASE, LOWEST):
        (host.cache_path / f"{name}.info").write_text("{}")
        host.lock_file(name)
    host.lock_file(UNUSED)
    host.overlay(UUID, host.cache_path / BASE, "qcow2")
    (host.instances_path / UUID / "disk.info").write_text(json.dumps({f"{host.instances_path}/{UUID}/disk": "qcow2"}))
    host.domain_xml(UUID, INSTANCE, IMAGE)
    host.compute_nodes({NAME: host.now})
    (host.root / "nova.conf").write_text(CONF)
    return host


def prune(host: Host, **given_options: Any) -> PruneResult | None:
    """Prune, with everything that reads a file; None where that is refused with a message of ours."""
    options = {
        "libvirt": True,
        "config_file": str(host.root / "nova.conf"),
        "checksum_base_images": True,
        "checksum_interval_seconds": 0,
        **given_options,
    }
    try:
        host.audit(**options)
        result = host.prune(**options)
    except ImageCacheError as error:
        if not str(error).isprintable():
            raise
        return None
    json.dumps([result.facts, result.done, result.diff], ensure_ascii=False).encode()
    assert all(warning.isprintable() for warning in result.warnings)
    return result


def read_bytes() -> int:
    """How many bytes this process has read by now."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("rchar: "):
            return int(line.split()[1])
    raise LookupError("rchar")


OPTION_LOCATIONS: dict[str, Callable[[Host], Path]] = {
    "a disk": lambda host: host.instances_path / UUID / "disk",
    "disk.info": lambda host: host.instances_path / UUID / "disk.info",
    "an instance's directory": lambda host: host.instances_path / UUID,
    "a base file": lambda host: host.cache_path / BASE,
    "a base file's base file": lambda host: host.cache_path / LOWEST,
    "an unused file": lambda host: host.cache_path / UNUSED,
    "an info file": lambda host: host.cache_path / f"{BASE}.info",
    "an Essex checksum": lambda host: host.cache_path / f"{BASE}.sha1",
    "the cache": lambda host: host.cache_path,
    "the locks": lambda host: host.locks_path,
    "a lock": lambda host: host.locks_path / f"nova-{UNUSED}",
    "a lock for hashing": lambda host: host.locks_path / f"nova-hash-{BASE}",
    "compute_nodes": lambda host: host.instances_path / "compute_nodes",
    "a domain's XML": lambda host: host.libvirt_path / f"{INSTANCE}.xml",
    "the domains": lambda host: host.libvirt_path,
    "nova.conf": lambda host: host.root / "nova.conf",
    "the instances": lambda host: host.instances_path,
}


def make_terabyte(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def make_fifo_with_a_writer(path: Path) -> None:
    """One that somebody has open, and writes nothing to."""
    os.mkfifo(path)
    os.open(path, os.O_RDWR)  # closed when the test's process ends


THINGS: dict[str, Callable[[Path], object]] = {
    "a FIFO": os.mkfifo,
    "a FIFO with a silent writer": make_fifo_with_a_writer,
    "a socket": make_socket,
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to a terminal": lambda path: path.symlink_to("/dev/tty"),
    "a directory": Path.mkdir,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a terabyte": make_terabyte,
    "nothing": lambda _path: None,
    "an empty file": Path.touch,
    "a file": lambda path: path.write_bytes(b"\xef\xbb\xbf\xff{[<"),
}


@pytest.mark.parametrize("place", OPTION_LOCATIONS)
@pytest.mark.parametrize("thing", THINGS)
def test_anything_in_any_place_costs_no_file_in_use_and_little_time(host: Host, place: str, thing: str) -> None:
    path = OPTION_LOCATIONS[place](make_host(host))
    moved = host.root / "moved"
    if path.exists():
        path.rename(moved)
    THINGS[thing](path)
    # A raw file of any size is to be read whole, if it is to be verified.
    is_base = thing == "a terabyte" and path.parent == host.cache_path and path.name in (BASE, LOWEST, UNUSED)
    time_budget = {"checksum_time_budget_seconds": 0} if is_base else {}
    read_before = read_bytes()

    result = prune(host, **time_budget)

    assert read_bytes() - read_before < 24 * MIB
    if place in ("the cache", "the instances"):
        return
    there = set(host.cached())
    assert BASE in there or place == "a base file"
    has_no_disk = place == "an instance's directory" or (place == "a disk" and thing == "nothing")
    assert LOWEST in there or has_no_disk or place in ("a base file", "a base file's base file")
    if result is None or result.facts["unknown_use"]:
        assert UNUSED in there or place == "an unused file"


def test_host_without_hostile_input_is_pruned(host: Host) -> None:
    result = prune(make_host(host))
    assert result is not None
    assert result.error is None
    assert result.done["removed"] == [UNUSED]
    assert host.cached() == sorted([BASE, f"{BASE}.info", LOWEST, f"{LOWEST}.info"])


@needs_root
@pytest.mark.parametrize("name", ["disk", "disk.info", "disk.eph0"])
def test_device_behind_a_link_is_not_opened(host: Host, name: str) -> None:
    os.mknod(host.root / "watchdog", 0o020600, os.makedev(1, 5))
    path = host.instance(UUID, {}) / name
    path.unlink(missing_ok=True)
    path.symlink_to(host.root / "watchdog")
    with opened_in(host.root) as opened:
        host.audit()
        assert "watchdog" not in opened()
        os.close(os.open(host.root / "watchdog", os.O_RDONLY))
        assert "watchdog" in opened()


class TestChains:
    def test_chain_of_a_thousand_files_is_kept(self, host: Host) -> None:
        names = [fingerprint(str(number)) for number in range(1000)]
        for name, below in itertools.pairwise(names):
            (host.cache_path / name).write_bytes(overlay_bytes(1 << 20, below, "qcow2"))
            os.utime(host.cache_path / name, (host.now - OLD, host.now - OLD))
        host.base(names[-1], age=OLD)
        (host.cache_path / names[-1]).write_bytes(overlay_bytes(1 << 20, None, None))
        for number in range(10):
            host.overlay(f"instance-{number:08x}", host.cache_path / names[0], "qcow2")
        host.base(UNUSED, age=OLD)
        result = host.prune()
        assert result.error is None
        assert result.done["removed"] == [UNUSED]
        assert len(host.cached()) == 1000

    def test_chain_through_directories_of_other_instances_and_in_a_circle_is_kept(self, host: Host) -> None:
        host.base(BASE, age=OLD)
        host.base(UNUSED, age=OLD)
        host.overlay(OTHER_UUID, host.cache_path / BASE)
        host.overlay("a", f"../{OTHER_UUID}/disk", "qcow2")
        host.overlay("b", "../c/../c/disk", "qcow2")
        host.overlay("c", host.instances_path / "b" / "disk", "qcow2")
        result = host.prune()
        assert result.error is None
        assert result.done["removed"] == [UNUSED]
        assert states(result)[BASE] == "active: backing"
        [base] = [file for file in result.facts["files"] if file["name"] == BASE]
        assert base["used_by"] == ["a", OTHER_UUID]

    def test_chain_that_leads_out_of_the_instances_path_is_unknown_use(self, host: Host) -> None:
        outside = host.root / "outside"
        outside.mkdir()
        (outside / "disk").write_bytes(overlay_bytes(1 << 20, host.cache_path / BASE, "raw"))
        host.base(BASE, age=OLD)
        host.overlay(UUID, "../../outside/disk", "qcow2")
        host.overlay(OTHER_UUID, "../link/disk", "qcow2")
        (host.instances_path / "link").symlink_to(outside)
        result = host.prune()
        assert result.done["removed"] == []
        assert any("is outside of" in sentence for sentence in result.facts["unknown_use"])


class TestXml:
    @pytest.mark.parametrize(
        "document",
        [
            b"<a>" * 340_000,
            b"<a>" * 140_000 + b"</a>" * 140_000,
            b"<domain " + b" ".join(b"a%d=''" % number for number in range(80_000)) + b"/>",
            b"<domain xmlns:a='x'" + b" xmlns:b='y'" * 80_000 + b"/>",
            b"<domain><name>" + b"&#120;" * 170_000 + b"</name><uuid>u</uuid></domain>",
            b"<!DOCTYPE d [" + b"".join(b"<!ENTITY e%d '&e%d;&e%d;'>" % (n, n + 1, n + 1) for n in range(5000)) + b"]>",
            b"<!DOCTYPE d [<!ENTITY a '" + b"x" * 500_000 + b"'>]><d>" + b"&a;" * 100_000 + b"</d>",
            b"<?xml version='1.0' encoding='utf-16'?>" + "<domain/>".encode("utf-16"),
            b"\xef\xbb\xbf<domain/>",
            b"<domain><name>\xed\xa0\x80</name></domain>",
        ],
        ids=lambda document: repr(document[:30]),
    )
    def test_document_of_a_mebibyte_is_parsed_within_seconds(self, document: bytes) -> None:
        start = time.process_time()
        with suppress(ImageCacheError):
            parse_domain(document, "vm")
        assert time.process_time() - start < 5


# Each sleeps for a day when it is asked, having noted that it was.
HUNG_QEMU_IMG = "#!/bin/sh\necho asked >>{notes}\nsleep 86400\n"
# The product waits for half a minute; this has a faster clock.
TIMEOUT = '#!/bin/sh\nshift 2\nexec {timeout} --kill-after=1 0.5 "$@"\n'


def test_qemu_img_that_hangs_is_asked_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = host.root / "bin"
    programs.mkdir()
    notes = host.root / "notes"
    for name, text in (("qemu-img", HUNG_QEMU_IMG.format(notes=notes)), ("timeout", TIMEOUT)):
        (programs / name).write_text(text.replace("{timeout}", str(shutil.which("timeout"))))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    host.base(UNUSED, age=OLD)
    for number in range(5):
        host.disk(f"instance-{number:08x}", b"KDMV" + bytes(508))
    start = time.monotonic()
    result = host.prune()
    assert time.monotonic() - start < 10
    assert notes.read_text() == "asked\n"
    assert result.done["removed"] == []
    assert len(result.facts["unknown_use"]) == 5
    assert all("did not answer within 30 seconds" in sentence for sentence in result.facts["unknown_use"])


@needs_root
def test_missing_proc_keeps_every_file(host: Host) -> None:
    host.base(UNUSED, age=OLD)

    def prune_without_proc() -> None:
        mount("-t", "tmpfs", "none", "/proc")
        with pytest.raises(ImageCacheError, match="/proc"):
            host.prune()

    with_own_mounts(prune_without_proc)
    assert host.cached() == [UNUSED]


# What a JSON file of ours may hold, and what it may not.
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.sampled_from(["raw", "qcow2", 1e308, -1, 2**70])
)
keys = st.one_of(st.text(), st.sampled_from([NAME, "other", "sha1", "sha1-timestamp", f"/x/{UUID}/disk", "disk"]))
objects = st.dictionaries(keys, st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner)))
documents = st.one_of(st.binary(), objects.map(json.dumps).map(str.encode), st.text().map(json.dumps).map(str.encode))
FILES = ("disk.info", "compute_nodes", "an info file", "an Essex checksum", "a domain's XML", "nova.conf")
file_names = (
    st.binary(min_size=1, max_size=80)
    .filter(lambda name: b"/" not in name and b"\0" not in name)
    .filter(lambda name: name not in (b".", b"..", b"_base", b"locks"))
)

# Real trees are slow, and whole documents large.
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("any")


@settings(max_examples=60, suppress_health_check=SLOW)
@given(file=st.sampled_from(FILES), content=documents)
def test_any_bytes_in_a_small_file_cost_no_file_in_use(place: Path, file: str, content: bytes) -> None:
    shutil.rmtree(place)
    host = make_host(Host(place))
    OPTION_LOCATIONS[file](host).write_bytes(content)
    prune(host, remove_unused_original_minimum_age_seconds=0)
    assert {BASE, LOWEST} <= set(host.cached())


@settings(max_examples=60, suppress_health_check=SLOW)
@given(cached=st.lists(file_names, max_size=3), directories=st.lists(file_names, max_size=3))
def test_any_names_cost_no_file_in_use(place: Path, cached: list[bytes], directories: list[bytes]) -> None:
    shutil.rmtree(place)
    host = make_host(Host(place))
    for name in cached:
        Path(os.fsdecode(os.path.join(os.fsencode(host.cache_path), name))).touch()
    for name in directories:
        path = Path(os.fsdecode(os.path.join(os.fsencode(host.instances_path), name)))
        if not path.exists():
            path.mkdir()
            (path / "disk").write_bytes(overlay_bytes(1 << 20, os.fsencode(host.cache_path / LOWEST), "raw"))
    prune(host)
    assert {os.fsencode(name) for name in host.cached()} >= {*cached, BASE.encode(), LOWEST.encode()}
