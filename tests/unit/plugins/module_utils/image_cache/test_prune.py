# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A prune removes the unused files that its dry run listed, and nothing else, whatever is on the host."""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache import apply
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.tests.support.constants import BASE, IMAGE, OTHER_UUID, UUID
from ansible_collections.stackops.nova.tests.support.host import (
    HOUR,
    NAME,
    OLD,
    Host,
    attribute,
    create_image,
    picture,
    states,
    warnings,
)
from ansible_collections.stackops.nova.tests.support.processes import (
    as_nobody,
    guest,
    make_socket,
    needs_root,
    nova_compute,
    reader,
)
from ansible_collections.stackops.nova.tools.cache_tree import CLUSTER_SIZE, overlay_bytes

UNUSED = "02c9f7e7130413742a28a31ba97617e9a56811be"
YOUNG = "97aaae8fdc4935bc47d03cf539a6213a1f2c6ad4"


class TestWholeCache:
    """One file of each sort, and what becomes of it."""

    REMOVED = (UNUSED, f"{UNUSED}.part", f"{UNUSED}_10737418240", f"{UNUSED}_sm", "ephemeral_1_0706d66", "swap_128")
    LEFT = (BASE, YOUNG, f"{YOUNG}.converted", "ephemeral_2_0706d66", "swap_64")
    NEVER_TOUCHED = (
        "49565675-a9d3-456f-a77c-22167bbb00c1",  # a kernel
        f"{BASE}.info",
        f"{UNUSED}.bak",
        UNUSED.upper(),
        f"{UNUSED}_",
        "swap_",
        "ephemeral_1_default_",
        "README",
    )

    @pytest.fixture
    def cache(self, host: Host) -> Host:
        for name in (*self.REMOVED, *self.LEFT, *self.NEVER_TOUCHED):
            young = YOUNG in name
            host.base(name, age=HOUR if young else OLD, content=name.encode() * 100)
        for name in (BASE, UNUSED, "swap_64", "swap_128"):
            host.lock_file(name)
        (host.cache_path / f"{UNUSED}.info").write_text("{}")
        (host.cache_path / "directory").mkdir()
        host.instance(UUID, {"disk": BASE, "disk.eph0": "ephemeral_2_0706d66", "disk.swap": "swap_64"})
        host.domain_xml(UUID, "instance-0000000a", IMAGE, swap=64)
        host.compute_nodes({NAME: host.now})
        return host

    def test_unused_old_files_are_removed_and_all_others_kept(self, cache: Host) -> None:
        result = cache.prune(libvirt=True)
        assert result.error is None
        assert result.done["removed"] == sorted(self.REMOVED)
        assert result.changed is True
        assert (result.done["kept"], result.done["failed"]) == ([], [])
        assert cache.cached() == sorted([*self.LEFT, *self.NEVER_TOUCHED, "directory"])
        assert {f"nova-{name}" for name in (BASE, UNUSED, "swap_64", "swap_128")} <= set(cache.locks())

    def test_dry_run_has_the_result_of_the_prune_and_writes_nothing(self, cache: Host) -> None:
        before = picture(cache.root)
        time.sleep(0.01)  # for two times of change to differ
        dry_run = cache.prune(check_mode=True, libvirt=True)
        assert picture(cache.root) == before

        run = cache.prune(libvirt=True)
        assert dry_run.done == run.done
        assert dry_run.changed == run.changed
        assert dry_run.diff == run.diff
        assert dry_run.facts["files"] == run.facts["files"]

    @pytest.mark.parametrize("details", ["summary", "images", "names"])
    def test_each_removed_file_is_reported_with_size_and_reason_without_details_too(
        self, cache: Host, details: str
    ) -> None:
        whole = {file["name"]: file for file in cache.prune(check_mode=True, libvirt=True).facts["files"]}
        dry, run = (cache.prune(check_mode=check_mode, libvirt=True, details=details) for check_mode in (True, False))
        assert [file["name"] for file in dry.done["files"]] == dry.done["removed"] == sorted(self.REMOVED)
        for file in dry.done["files"]:
            assert {**file, "age_seconds": None} == {**whole[file["name"]], "age_seconds": None}
        assert "files" not in dry.facts
        assert [file["name"] for file in run.done["files"]] == run.done["removed"] == dry.done["removed"]

    def test_each_file_that_a_refused_prune_would_remove_is_reported(self, cache: Host) -> None:
        cache.compute_nodes({"compute-9": cache.now})
        result = cache.prune(check_mode=True, libvirt=True, details="summary")
        assert [file["name"] for file in result.done["files"]] == sorted(self.REMOVED)
        assert result.done["removed"] == []

    def test_dry_run_makes_no_locks_directory(self, cache: Host) -> None:
        for path in cache.locks_path.iterdir():
            path.unlink()
        cache.locks_path.rmdir()
        before = picture(cache.root)
        cache.prune(check_mode=True)
        assert picture(cache.root) == before

    def test_second_prune_changes_nothing(self, cache: Host) -> None:
        cache.prune(libvirt=True)
        left, locks = cache.cached(), cache.locks()
        again = cache.prune(libvirt=True)
        assert again.changed is False
        assert again.done == {"removed": [], "kept": [], "failed": [], "reclaimed_bytes": 0, "saved_checksums": []}
        assert again.diff["before"] == again.diff["after"]
        assert (cache.cached(), cache.locks()) == (left, locks)

    def test_reclaimed_bytes_are_those_that_the_files_took(self, cache: Host) -> None:
        taken = sum((cache.cache_path / name).stat().st_blocks * 512 for name in self.REMOVED)
        result = cache.prune(libvirt=True)
        assert result.done["reclaimed_bytes"] == result.facts["summary"]["reclaimable_bytes"] == taken > 0

    def test_files_in_use_alone_are_marked_as_used(self, cache: Host) -> None:
        before = {name: (cache.cache_path / name).stat().st_mtime_ns for name in (*self.LEFT, *self.NEVER_TOUCHED)}
        cache.prune(libvirt=True)
        after = {name: (cache.cache_path / name).stat().st_mtime_ns for name in before}
        marked = {name for name in before if after[name] != before[name]}
        assert marked == {BASE, "ephemeral_2_0706d66", "swap_64"}
        assert all(after[name] / 1e9 == pytest.approx(time.time(), abs=10) for name in marked)

    def test_difference_names_each_file_with_its_size_and_reasons(self, cache: Host) -> None:
        diff = cache.prune(check_mode=True, libvirt=True).diff
        gone = set(diff["before"].splitlines()) - set(diff["after"].splitlines())
        assert gone == {
            f"{name} {1 << 20} {'unused' if name.startswith(('swap', 'ephemeral')) else 'unknown'}"
            for name in self.REMOVED
        }
        assert set(diff["after"].splitlines()) < set(diff["before"].splitlines())
        assert f"{BASE} {1 << 20} backing,instance" in diff["after"].splitlines()
        assert diff["before_header"] == diff["after_header"] == str(cache.cache_path)

    def test_disabled_removal_reports_files_and_keeps_them(self, cache: Host) -> None:
        left = cache.cached()
        result = cache.prune(libvirt=True, remove_unused_base_images=False)
        assert result.error is None
        assert result.done["removed"] == []
        assert result.done["kept"] == [{"name": name, "reason": "removal_disabled"} for name in sorted(self.REMOVED)]
        assert cache.cached() == left


class TestBesideRunningGuests:
    def test_file_that_a_guest_holds_is_kept_although_no_source_lists_the_guest(self, host: Host) -> None:
        lowest = host.base(BASE, age=OLD)
        middle = create_image(host.cache_path / UNUSED, over=lowest, over_format="raw")
        os.utime(middle, (host.now - OLD, host.now - OLD))
        with guest(create_image(host.root / "disk", over=middle)):
            result = host.prune()
        assert result.done["removed"] == []
        assert states(result) == {BASE: "active: open, qemu", UNUSED: "active: open, qemu"}
        assert host.cached() == [UNUSED, BASE]

    def test_file_that_a_process_has_open_is_kept(self, host: Host) -> None:
        with reader(host.base(BASE, age=OLD)):
            assert host.prune().done["removed"] == []
        assert host.cached() == [BASE]

    @pytest.mark.parametrize("instances", [None, [{"uuid": OTHER_UUID, "host": NAME}]])
    def test_whole_chain_under_a_disk_is_kept(self, host: Host, instances: list[dict[str, str]] | None) -> None:
        host.base("swap_1", age=OLD)
        create_image(host.cache_path / BASE, over="swap_1", over_format="raw")
        create_image(host.cache_path / YOUNG, over=BASE)
        for name in (BASE, YOUNG):
            os.utime(host.cache_path / name, (host.now - OLD, host.now - OLD))
        host.base(UNUSED, age=OLD)
        host.overlay(UUID, f"../_base/{YOUNG}", "qcow2")
        result = host.prune(instances=instances)
        assert result.done["removed"] == [UNUSED]
        assert host.cached() == [BASE, YOUNG, "swap_1"]

    def test_base_file_that_a_container_names_by_another_path_is_kept(self, host: Host) -> None:
        host.base(BASE, age=OLD)
        host.base(UNUSED, age=OLD)
        host.overlay(UUID, f"/var/lib/nova/instances/no/such/_base/{BASE}")
        assert host.prune().done["removed"] == [UNUSED]
        assert host.cached() == [BASE]


class TestBesideNova:
    def test_file_that_nova_has_locked_is_kept_and_not_waited_for(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(apply, "_LOCK_WAIT_SECONDS", 60)
        host.base(BASE, age=OLD)
        host.base(f"{BASE}.part", age=OLD)
        host.base(UNUSED, age=OLD)
        with nova_compute() as nova:
            nova.take(BASE, host.locks_path)
            start = time.monotonic()
            result = host.prune()
            assert time.monotonic() - start < 30
            dry_run = host.prune(check_mode=True)
        assert result.error is None
        assert result.done["removed"] == [UNUSED]
        locked = [{"name": BASE, "reason": "locked"}, {"name": f"{BASE}.part", "reason": "locked"}]
        assert result.done["kept"] == dry_run.done["kept"] == locked
        assert host.cached() == [BASE, f"{BASE}.part"]

    def test_file_that_nova_had_locked_is_removed_once_nova_is_done(self, host: Host) -> None:
        host.base(BASE, age=OLD)
        with nova_compute() as nova:
            nova.take(BASE, host.locks_path)
            assert host.prune().done["removed"] == []
            nova.release()
            assert host.prune().done["removed"] == [BASE]


class TestFailure:
    def test_failed_removal_is_reported_with_what_was_removed(self, host: Host) -> None:
        host.base(BASE, age=OLD)
        host.base(UNUSED, age=OLD)
        (host.cache_path / f"{BASE}.info").mkdir()
        result = host.prune()
        assert result.error is not None
        assert BASE in result.error
        assert result.done["removed"] == [UNUSED, BASE]
        assert result.changed is True
        assert [failure["name"] for failure in result.done["failed"]] == [BASE]
        assert result.facts["summary"]["removable"] == 2

    @pytest.mark.usefixtures("attributes")
    @pytest.mark.parametrize("check_mode", [True, False])
    def test_cache_in_which_nothing_can_be_removed_is_named_with_the_reason(self, host: Host, check_mode: bool) -> None:
        host.base(BASE, age=OLD)
        with attribute(host.cache_path, "i"):
            result = host.prune(check_mode=check_mode)
        assert result.error is not None
        assert result.error.startswith(f"Nothing was removed from {host.cache_path}: no file in it can be removed. ")
        assert "chattr -i -a" in result.error
        assert host.cached() == [BASE]

    def test_list_of_images_that_cannot_be_glances_keeps_all_and_fails(self, host: Host) -> None:
        host.base(BASE, age=OLD)
        result = host.prune(glance_images=[], remove_only_deleted_images=True)
        assert result.error is not None
        assert result.error.startswith(
            f"Nothing was removed from {host.cache_path}: it is not certain which images Glance no longer has. "
        )
        assert host.cached() == [BASE]


def write(path: Path, content: bytes | str) -> None:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def header(**fields: int) -> bytes:
    """The bytes of an overlay over `base`, with some fields of its header overwritten."""
    image = bytearray(overlay_bytes(1 << 20, "base", "raw"))
    layout = {"version": (">I", 4), "name_offset": (">Q", 8), "name_length": (">I", 16), "cluster_bits": (">I", 20)}
    layout |= {"header_length": (">I", 100), "extension_length": (">I", 108)}
    for field, value in fields.items():
        form, offset = layout[field]
        struct.pack_into(form, image, offset, value)
    return bytes(image)


def laughs() -> str:
    entities = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    return f"<!DOCTYPE domain [{entities}]><domain><name>&a9;</name><uuid>{UUID}</uuid></domain>"


DISK = f"{UUID}/disk"
DOMAIN = "instance-0000000a.xml"

# A disk's bytes, and what has to be said of it.
UNREADABLE_DISKS = {
    "empty": (b"", "too short"),
    "three bytes": (b"QFI", "too short"),
    "a magic number alone": (b"QFI\xfb", "header ends after 4 bytes"),
    "half a header": (overlay_bytes(1 << 20, "base", "raw")[:60], "header ends after 60 bytes"),
    "a version 3 header as short as version 2": (header()[:80], "header ends after 80 bytes"),
    "cut in its backing file's name": (header()[:130], "name ends at"),
    "an unheard-of version": (header(version=9), "version is 9"),
    "clusters of a byte": (header(cluster_bits=0), "clusters"),
    "clusters of four gigabytes": (header(cluster_bits=32), "clusters"),
    "a header beyond its cluster": (header(header_length=CLUSTER_SIZE + 1), f"header is {CLUSTER_SIZE + 1} bytes long"),
    "a header within itself": (header(header_length=8), "header is 8 bytes long"),
    "a header of four gigabytes": (header(header_length=0xFFFFFFFF), "header is 4294967295 bytes long"),
    "a name beyond the first cluster": (header(name_offset=CLUSTER_SIZE + 1), "name"),
    "a name at the end of the world": (header(name_offset=(1 << 64) - 1), "name"),
    "a name of four gigabytes": (header(name_length=0xFFFFFFFF), "name has 4294967295 bytes"),
    "a name of 1024 bytes": (overlay_bytes(1 << 20, "x" * 1024, None), "name has 1024 bytes"),
    "a name with a NUL in it": (overlay_bytes(1 << 20, b"ba\0se", None), "NUL"),
    "an extension of four gigabytes": (header(extension_length=0xFFFFFFFF), "extension"),
    "a JSON name": (overlay_bytes(1 << 20, 'json:{"driver": "nbd"}', None), "not a file's name"),
    "an NBD name": (overlay_bytes(1 << 20, "nbd://10.0.0.1/export", None), "not a file's name"),
    "an RBD name": (overlay_bytes(1 << 20, "rbd:volumes/base", None), "not a file's name"),
    "a name outside": (overlay_bytes(1 << 20, "../" * 30 + "etc/passwd", None), "/etc/passwd"),
    "a name outside, absolute": (overlay_bytes(1 << 20, "/etc/passwd", None), "/etc/passwd"),
    "another format that lies": (b"KDMV" + b"\xff" * 1024, "qemu-img"),
}


class BadInput:
    """Something bad that may lie on a host: how to make it, and which words show the operator where to look."""

    def __init__(self, make: Callable[[Host], object], *words: str, **options: Any) -> None:
        self.make = make
        self.words = words
        self.options = options


def on_disk(content: bytes) -> Callable[[Host], object]:
    return lambda host: host.disk(UUID, content)


def instead_of_a_disk(make: Callable[[Path], object]) -> Callable[[Host], object]:
    return lambda host: make(host.instance(UUID, {}, disk_info=False) / "disk")


def in_the_domain(text: bytes | str) -> Callable[[Host], object]:
    return lambda host: write(host.libvirt_path / DOMAIN, text)


def in_compute_nodes(text: str) -> Callable[[Host], object]:
    return lambda host: write(host.instances_path / "compute_nodes", text)


def instead_of_the_locks(make: Callable[[Path], object]) -> Callable[[Host], object]:
    return lambda host: (host.locks_path.rmdir(), make(host.locks_path))


def nothing(_host: Host) -> None:
    pass


STOPS_EVERYTHING = {
    **{
        f"a disk: {name}": BadInput(on_disk(content), DISK, words)
        for name, (content, words) in UNREADABLE_DISKS.items()
    },
    "a disk that should be qcow2": BadInput(
        lambda host: write(host.instance(UUID, {"disk": None}) / "disk", b"raw data"), DISK, "should be a qcow2 image"
    ),
    "a directory for a disk": BadInput(instead_of_a_disk(Path.mkdir), DISK),
    "a FIFO for a disk": BadInput(instead_of_a_disk(os.mkfifo), DISK),
    "a socket for a disk": BadInput(instead_of_a_disk(make_socket), DISK),
    "a device for a disk": BadInput(instead_of_a_disk(lambda disk: disk.symlink_to("/dev/zero")), DISK),
    "a link in a circle for a disk": BadInput(instead_of_a_disk(lambda disk: disk.symlink_to("disk")), DISK),
    "a link to nowhere for a disk": BadInput(instead_of_a_disk(lambda disk: disk.symlink_to("gone")), DISK),
    "a link in a circle for an instance": BadInput(lambda host: (host.instances_path / UUID).symlink_to(UUID), UUID),
    "a link to nowhere for an instance": BadInput(lambda host: (host.instances_path / UUID).symlink_to("gone"), UUID),
    "no domain XML": BadInput(nothing, "libvirt_config_path", "/no/such/path", libvirt_config_path="/no/such/path"),
    "an empty domain XML": BadInput(in_the_domain(""), DOMAIN),
    "a broken domain XML": BadInput(in_the_domain("<domain><name>"), DOMAIN, "not well formed"),
    "a domain XML that is not text": BadInput(in_the_domain(bytes(range(256))), DOMAIN, "not well formed"),
    "a domain XML in no known encoding": BadInput(
        in_the_domain(f"<?xml version='1.0' encoding='x'?><domain><name>a</name><uuid>{UUID}</uuid></domain>"), DOMAIN
    ),
    "a domain XML in an encoding beyond its parser": BadInput(
        in_the_domain(f"<?xml version='1.0' encoding='utf-7'?><domain><name>a</name><uuid>{UUID}</uuid></domain>"),
        DOMAIN,
    ),
    "a domain XML of two megabytes": BadInput(in_the_domain("<domain>" + " " * (2 << 20)), DOMAIN, "bytes"),
    "a domain XML full of entities": BadInput(in_the_domain(laughs()), DOMAIN, "it contains a DOCTYPE"),
    "a domain XML that reads a file": BadInput(
        in_the_domain('<!DOCTYPE domain [<!ENTITY x SYSTEM "file:///etc/passwd">]><domain>&x;</domain>'),
        DOMAIN,
        "it contains a DOCTYPE",
    ),
    "a domain XML without a uuid": BadInput(in_the_domain("<domain><name>a</name></domain>"), DOMAIN, "uuid"),
    "a FIFO for a domain XML": BadInput(lambda host: os.mkfifo(host.libvirt_path / DOMAIN), DOMAIN),
    "a directory for a domain XML": BadInput(lambda host: (host.libvirt_path / DOMAIN).mkdir(), DOMAIN),
    "a record without a uuid": BadInput(nothing, "instances[0]", "uuid", instances=[{"name": "instance-0000000a"}]),
    "a record that is a string": BadInput(nothing, "instances[1]", instances=[{"uuid": UUID}, OTHER_UUID]),
    "a record with a number for an image": BadInput(
        nothing, "instances[0]", "image_ref", instances=[{"uuid": UUID, "image_ref": 7}]
    ),
    "no instance at all, though there are disks": BadInput(
        lambda host: host.instance(UUID, {"disk": None}), UUID, "instances", instances=[]
    ),
    "compute_nodes that is not JSON": BadInput(in_compute_nodes("vm"), "compute_nodes"),
    "compute_nodes that is a list": BadInput(in_compute_nodes('["vm"]'), "compute_nodes"),
    "compute_nodes with a time that is none": BadInput(in_compute_nodes('{"vm": NaN}'), "compute_nodes"),
    "compute_nodes with a time beyond all times": BadInput(
        in_compute_nodes('{"vm": 1' + 400 * "0" + "}"), "compute_nodes"
    ),
    "a FIFO for compute_nodes": BadInput(
        lambda host: os.mkfifo(host.instances_path / "compute_nodes"), "compute_nodes"
    ),
    "a directory for compute_nodes": BadInput(
        lambda host: (host.instances_path / "compute_nodes").mkdir(), "compute_nodes"
    ),
    "a host that used the storage and was not asked": BadInput(
        lambda host: host.compute_nodes({"other": host.now}), "other", "instances_complete_for"
    ),
    "a link for the locks": BadInput(instead_of_the_locks(lambda locks: locks.symlink_to("_base")), "locks"),
    "a file for the locks": BadInput(instead_of_the_locks(Path.touch), "locks"),
    "a link for a lock": BadInput(
        lambda host: (host.locks_path / f"nova-{UNUSED}").symlink_to("/etc/passwd"), f"nova-{UNUSED}"
    ),
    "a socket for a lock": BadInput(lambda host: make_socket(host.locks_path / f"nova-{UNUSED}"), f"nova-{UNUSED}"),
}

STOPS_EVERYTHING["a backing file that is not mounted, and may be backed itself"] = BadInput(
    on_disk(overlay_bytes(1 << 20, "/mnt/not/mounted.qcow2", "qcow2")), "/mnt/not/mounted.qcow2"
)
STOPS_NOTHING = {
    "a backing file that is not there": BadInput(
        on_disk(overlay_bytes(1 << 20, "../../etc/passwd", "raw")), "etc/passwd"
    ),
    "a backing file with a name of 1023 bytes": BadInput(
        on_disk(overlay_bytes(1 << 20, "../" * 300 + "x" * 123, "raw")), "x" * 123
    ),
    "a backing file with a name beyond the file system's": BadInput(
        on_disk(overlay_bytes(1 << 20, "x" * 1023, "raw")), "x" * 1023
    ),
    "a backing file with a name that is not UTF-8": BadInput(
        on_disk(overlay_bytes(1 << 20, b"../_base/\xff\n", "raw")), "\\xff\\n"
    ),
    "a disk.info that is not JSON": BadInput(lambda host: host.disk(UUID, b"disk", "disk.info"), "disk.info"),
    "a disk.info that is a list": BadInput(lambda host: host.disk(UUID, b"[]", "disk.info"), "disk.info"),
    "a disk.info without end": BadInput(
        lambda host: (host.instance(UUID, {}) / "disk.info").write_text("{" + " " * (1 << 20)), "disk.info"
    ),
    "a FIFO for disk.info": BadInput(
        lambda host: os.mkfifo(host.instance(UUID, {}, disk_info=False) / "disk.info"), "disk.info"
    ),
    "a socket for disk.info": BadInput(
        lambda host: make_socket(host.instance(UUID, {}, disk_info=False) / "disk.info"), "disk.info"
    ),
    "a directory for disk.info": BadInput(
        lambda host: (host.instance(UUID, {}, disk_info=False) / "disk.info").mkdir(), "disk.info"
    ),
}


@pytest.mark.usefixtures("time_limit")
class TestBadInput:
    """Each has a message that names the file and the cause, and costs no file that may be in use."""

    @pytest.mark.parametrize("name", STOPS_EVERYTHING)
    @pytest.mark.parametrize("check_mode", [False, True])
    def test_bad_input_that_leaves_use_unknown_keeps_every_file(self, host: Host, name: str, check_mode: bool) -> None:
        bad = STOPS_EVERYTHING[name]
        host.base(UNUSED, age=OLD)
        bad.make(host)
        options = {"libvirt": DOMAIN in bad.words or "libvirt_config_path" in bad.words, **bad.options}

        result = host.prune(check_mode=check_mode, **options)

        assert result.done["removed"] == []
        assert result.done["kept"] == [{"name": UNUSED, "reason": "unknown_use"}]
        assert result.changed is False
        assert host.cached() == [UNUSED]
        assert result.error is not None
        [sentence] = result.facts["unknown_use"]
        for text in (result.error, sentence, warnings(result)[0]):
            for word in bad.words:
                assert word in text
            assert text.isprintable()
        json.dumps(result.facts, ensure_ascii=False).encode()

    @pytest.mark.parametrize(("limit", "value"), [("max_removals", 0), ("max_removal_percent", 99)])
    @pytest.mark.parametrize("check_mode", [False, True])
    def test_limit_that_is_exceeded_keeps_all_and_fails(
        self, host: Host, limit: str, value: int, check_mode: bool
    ) -> None:
        host.base(UNUSED, age=OLD)
        result = host.prune(check_mode=check_mode, **{limit: value})
        assert result.done["removed"] == []
        assert result.done["kept"] == [{"name": UNUSED, "reason": "limit_exceeded"}]
        assert (result.changed, result.facts["unknown_use"]) == (False, [])
        assert host.cached() == [UNUSED]
        [sentence] = result.facts["limit_exceeded"]
        assert limit in sentence
        assert f"a limit was exceeded. {sentence}" in str(result.error)
        assert warnings(result) == [f"Nothing may be removed: {sentence}"]

    @pytest.mark.parametrize("name", STOPS_NOTHING)
    def test_bad_input_that_says_nothing_about_use_is_a_warning(self, host: Host, name: str) -> None:
        bad = STOPS_NOTHING[name]
        host.base(UNUSED, age=OLD)
        bad.make(host)

        result = host.prune()

        assert result.error is None
        assert result.done["removed"] == [UNUSED]
        [warning] = warnings(result)
        assert UUID in warning
        for word in bad.words:
            assert word in warning
        assert warning.isprintable()
        json.dumps(result.facts, ensure_ascii=False).encode()

    @pytest.mark.parametrize("info", [b"", b"not JSON", b"{}", b'{"elsewhere/disk": "raw"'])
    def test_disks_without_a_valid_disk_info_protect_what_their_headers_name(self, host: Host, info: bytes) -> None:
        host.base(BASE, age=OLD)
        host.instance(UUID, {"disk": BASE})
        host.disk(UUID, info, "disk.info")
        assert host.prune().done["removed"] == []
        assert host.cached() == [BASE]

    def test_cache_file_named_on_a_raw_disk_is_kept(self, host: Host) -> None:
        host.base(BASE, age=OLD)
        host.base(UNUSED, age=OLD)
        disk = host.overlay(UUID, f"../_base/{BASE}")
        (disk.parent / "disk.info").write_text(json.dumps({str(disk): "raw"}))
        result = host.prune()
        assert result.facts["unknown_use"] == []
        assert result.done["removed"] == [UNUSED]

    def test_hostile_header_on_a_raw_disk_stops_nothing(self, host: Host) -> None:
        host.base(UNUSED, age=OLD)
        disk = host.disk(UUID, UNREADABLE_DISKS["a JSON name"][0])
        (disk.parent / "disk.info").write_text(json.dumps({str(disk): "raw"}))
        assert host.prune().done["removed"] == [UNUSED]

    @pytest.mark.parametrize(
        ("name", "word"),
        [
            ("instances_path", "/no/such/path"),
            ("instances_path", "relative/path"),
            ("image_cache_subdirectory_name", "a/b"),
            ("image_cache_subdirectory_name", "/etc"),
            ("image_cache_subdirectory_name", ".."),
            ("image_cache_subdirectory_name", "."),
            ("image_cache_subdirectory_name", ""),
            ("image_cache_subdirectory_name", "locks"),
            ("image_info_filename_pattern", "$instances_path/_base/%(image)s"),
            ("image_info_filename_pattern", "/etc/passwd"),
            ("config_file", "/no/such/nova.conf"),
        ],
    )
    @pytest.mark.parametrize("check_mode", [False, True])
    def test_invalid_option_is_named(self, host: Host, name: str, word: str, check_mode: bool) -> None:
        host.base(UNUSED, age=OLD)
        before = picture(host.root)
        with pytest.raises(ImageCacheError) as error:
            host.prune(check_mode=check_mode, **{name: word})
        assert name in str(error.value)
        assert word in str(error.value)
        assert picture(host.root) == before

    def test_cache_directory_that_is_a_link_is_left_alone(self, host: Host) -> None:
        host.base(UNUSED, age=OLD)
        host.cache_path.rename(host.root / "elsewhere")
        host.cache_path.symlink_to(host.root / "elsewhere")
        before = picture(host.root)
        with pytest.raises(ImageCacheError, match=f"{host.cache_path} is a link"):
            host.prune()
        assert picture(host.root) == before

    def test_files_with_strange_names_are_left_alone(self, host: Host) -> None:
        names = [
            UNUSED.encode() + b"\n",
            UNUSED.encode() + b"\xff",
            b"..." + UNUSED.encode(),
            b"swap_\xd9\xa1",
            b"\xff",
        ]
        for name in names:
            host.base(os.fsdecode(name), age=OLD)
            (host.instances_path / os.fsdecode(b"dir" + name)).mkdir()
        host.base(UNUSED, age=OLD)
        result = host.prune()
        assert result.done["removed"] == [UNUSED]
        assert host.cached() == sorted(os.fsdecode(name) for name in names)
        json.dumps([result.facts, result.done, result.diff], ensure_ascii=False).encode()

    @needs_root
    def test_instance_directory_that_may_not_be_read_keeps_every_file(self, public_host: Host) -> None:
        for path in (public_host.base(UNUSED, age=OLD), public_host.cache_path, public_host.locks_path):
            os.chown(path, 65534, 65534)
        public_host.instance(UUID, {"disk": UNUSED}).chmod(0o700)
        result = as_nobody(public_host.prune)
        assert result.done["removed"] == []
        assert result.error is not None
        assert str(public_host.instances_path / UUID) in result.error
        assert "Permission denied" in result.error
        assert public_host.cached() == [UNUSED]
