# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Base files that are gone come back from other hosts that have them, with bytes that are proven, or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch import glance, peers
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.module import FetchResult
from ansible_collections.stackops.nova.tests.support.constants import BASE, IMAGE, OTHER_BASE, OTHER_UUID, UUID
from ansible_collections.stackops.nova.tests.support.file_systems import on_file_system
from ansible_collections.stackops.nova.tests.support.guests import needs_qemu, running_guest
from ansible_collections.stackops.nova.tests.support.host import (
    Host,
    create_image,
    opens,
    picture,
    qcow2_of,
    qemu_img_create,
)
from ansible_collections.stackops.nova.tests.support.image_server import ImageServer, answer, image
from ansible_collections.stackops.nova.tests.support.peers import HONEST, lies, peer_file, runs
from ansible_collections.stackops.nova.tests.support.records import record
from ansible_collections.stackops.nova.tests.support.remedies import has_remedy

pytestmark = needs_qemu

MIB = 1 << 20
SIZE = 2 * MIB
CONTENT = os.urandom(300_000).ljust(SIZE, b"\0")
KINDS = {"original": BASE, "resized copy": f"{BASE}_{SIZE}", "small copy": f"{BASE}_sm"}


def lost(host: Host, name: str = BASE, *, uuid: str = UUID, backing_format: str = "raw") -> Path:
    """A base file that is gone, with a disk that is built on it."""
    (host.instances_path / uuid).mkdir(exist_ok=True)
    path = host.cache_path / name
    arguments = ("-u", "-f", "qcow2", "-b", path, "-F", backing_format)
    qemu_img_create(host.instances_path / uuid / "disk", *arguments, size=str(SIZE))
    return path


def there(host: Host, content: bytes = CONTENT) -> Path:
    """The file as another host has it."""
    path = host.root / "there"
    path.write_bytes(content)
    return path


def options(host: Host, name: str = BASE, *, content: bytes = CONTENT, **more: Any) -> dict[str, Any]:
    """The options with which a controller gives what other hosts have."""
    return {"peers": {name: peer_file(there(host, content), **more)}, "peer_command": HONEST}


def reason(result: FetchResult, part: str = "refused", key: str = "reason") -> str:
    """Why the only file was not restored; nothing was done."""
    assert result.done["restored"] == result.done["present"] == []
    assert not result.changed
    [file] = result.done[part]
    assert result.error is not None
    assert file[key] in result.error
    assert has_remedy(file[key])
    return str(file[key])


class TestRestoredFile:
    @pytest.mark.parametrize("name", KINDS.values(), ids=KINDS)
    def test_file_has_the_bytes_of_the_other_host(self, host: Host, name: str) -> None:
        base = lost(host, name)
        result = host.restore(**options(host, name))
        [restored] = result.done["restored"]
        assert base.read_bytes() == CONTENT
        assert base.stat().st_blocks * 512 < MIB
        assert base.stat().st_mode & 0o7777 == 0o644
        assert opens(host.instances_path / UUID / "disk")
        assert (result.changed, result.error) == (True, None)
        assert host.audit().facts["missing"] == []
        sha256 = hashlib.sha256(CONTENT).hexdigest()
        assert restored == {
            **restored,
            "name": name,
            "source": "peer",
            "source_path": f"cmp-1:{host.root}/there",
            "contacted": True,
            "proof": "agreed",
            "inode": None,
            "guests": [],
            "needs_restart": [],
            "read_bytes": SIZE,
            "size_bytes": SIZE,
            "allocated_bytes": base.stat().st_blocks * 512,
            "algorithm": "sha256",
            "checksum": sha256,
        }
        assert json.loads((host.cache_path / f"{name}.info").read_text())["sha256"] == sha256

    def test_dry_run_lists_what_a_run_restores_without_a_connection(self, host: Host) -> None:
        lost(host)
        marks = host.root / "marks"
        given = {
            **options(host, hosts=["cmp-1", "cmp-2"], allocated_bytes=4096),
            "peer_command": runs(f"touch {marks}"),
        }
        before = picture(host.root)
        result = host.restore(check_mode=True, **given)
        assert picture(host.root) == before
        [restored] = result.done["restored"]
        assert (restored["source"], restored["source_path"]) == ("peer", f"cmp-1:{host.root}/there")
        assert (restored["contacted"], restored["proof"], restored["seconds"]) == (False, "agreed", 0.0)
        assert (restored["size_bytes"], restored["allocated_bytes"]) == (SIZE, 4096)
        assert (result.changed, result.error) == (True, None)

    def test_next_host_is_asked_after_one_that_lies(self, host: Host) -> None:
        base = lost(host)
        given = options(host, hosts=["cmp-1", "cmp-2"])
        given["peer_command"] = runs(f'case $2 in cmp-1) head -c {SIZE} /dev/urandom;; *) eval "$3";; esac')
        [restored] = host.restore(**given).done["restored"]
        assert base.read_bytes() == CONTENT
        assert restored["source_path"] == f"cmp-2:{host.root}/there"
        assert restored["read_bytes"] == 2 * SIZE

    def test_host_without_qemu_img_takes_what_was_converted_elsewhere(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        base = lost(host)
        given = options(host)
        glances = record(qcow2_of(host.root, CONTENT), disk_format="qcow2")
        monkeypatch.setenv("PATH", str(_without_qemu_img(host.root)))
        result = host.restore(**given, images=[glances])
        assert result.error is None
        assert base.read_bytes() == CONTENT

    def test_qcow2_file_is_restored_where_disks_read_it_as_such(self, host: Host) -> None:
        base = lost(host, backing_format="qcow2")
        content = qcow2_of(host.root, CONTENT)
        assert host.restore(**options(host, content=content)).error is None
        assert base.read_bytes() == content
        assert opens(host.instances_path / UUID / "disk")

    def test_other_files_go_on_after_one_that_fails(self, host: Host) -> None:
        base, other = lost(host), lost(host, OTHER_BASE, uuid=OTHER_UUID)
        file = peer_file(there(host))
        wrong = {**file, "checksum": "0" * 64}
        result = host.restore(peers={BASE: wrong, OTHER_BASE: file}, peer_command=HONEST)
        assert [len(result.done[part]) for part in ("restored", "failed")] == [1, 1]
        assert (base.exists(), other.exists()) == (False, True)

    def test_corrupt_file_is_set_aside_for_the_right_one(self, host: Host) -> None:
        base = lost(host)
        base.write_bytes(b"rotten".ljust(SIZE, b"\0"))
        (host.cache_path / f"{BASE}.info").write_text(json.dumps({"sha256": hashlib.sha256(CONTENT).hexdigest()}))
        result = host.restore(states=["corrupt"], checksum_algorithm="sha256", **options(host))
        assert result.error is None
        assert base.read_bytes() == CONTENT
        [aside] = result.done["set_aside"]
        assert (host.cache_path / aside["set_aside_as"]).read_bytes().startswith(b"rotten")


def _without_qemu_img(root: Path) -> Path:
    """A directory of programs with all that is needed but qemu-img."""
    programs = root / "programs"
    programs.mkdir()
    for name in ("sh", "cat", "ionice"):
        (programs / name).symlink_to(f"/bin/{name}" if name != "ionice" else "/usr/bin/ionice")
    return programs


class TestOrderOfSources:
    def test_guest_comes_before_other_hosts(self, host: Host) -> None:
        host.base(BASE, content=CONTENT)
        (host.instances_path / UUID).mkdir()
        base = host.cache_path / BASE
        disk = qemu_img_create(
            host.instances_path / UUID / "disk", "-f", "qcow2", "-b", base, "-F", "raw", size=str(SIZE)
        )
        given = {**options(host), "peer_command": runs(f"touch {host.root}/asked")}
        with running_guest(disk, base):
            base.unlink()
            [restored] = host.restore(**given).done["restored"]
        assert restored["source"] == "process"
        assert not (host.root / "asked").exists()

    def test_file_that_was_brought_comes_before_other_hosts(self, host: Host) -> None:
        lost(host)
        given = {**options(host), "peer_command": runs(f"touch {host.root}/asked")}
        files = {"files": {IMAGE: str(host.root / "there")}, "images": [record(CONTENT)]}
        assert host.restore(**given, **files).done["restored"][0]["source"] == "file"
        assert not (host.root / "asked").exists()

    def test_glance_comes_before_other_hosts(self, host: Host) -> None:
        lost(host)
        given = {**options(host), "peer_command": runs(f"touch {host.root}/asked")}
        with ImageServer(image(CONTENT)) as server:
            result = host.restore(**given, glance={"endpoint": server.origin}, images=[record(CONTENT)])
        assert result.done["restored"][0]["source"] == "glance"
        assert not (host.root / "asked").exists()

    @pytest.mark.parametrize("check_mode", [True, False])
    def test_other_hosts_are_asked_where_glance_has_no_proof(self, host: Host, check_mode: bool) -> None:
        lost(host)
        with ImageServer(image(CONTENT)) as server:
            result = host.restore(check_mode=check_mode, **options(host), glance={"endpoint": server.origin})
        assert server.requests == []
        assert result.error is None
        assert result.done["restored"][0]["source"] == "peer"

    def test_other_hosts_are_asked_where_glance_fails(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        base = lost(host)
        monkeypatch.setattr(glance, "_RESUME_AFTER_SECONDS", ())
        with ImageServer(image(CONTENT, end=MIB)) as server:
            result = host.restore(**options(host), glance={"endpoint": server.origin}, images=[record(CONTENT)])
        assert result.done["restored"][0]["source"] == "peer"
        assert base.read_bytes() == CONTENT

    def test_failures_of_glance_and_hosts_are_both_named(self, host: Host) -> None:
        lost(host)
        given = {**options(host), "peer_command": runs("echo no way >&2; exit 255")}
        with ImageServer(answer(404)) as server:
            result = host.restore(**given, glance={"endpoint": server.origin}, images=[record(CONTENT)])
        text = reason(result, "failed", "error")
        assert f"The image {IMAGE} could not be fetched from Glance" in text
        assert f"The base file {BASE} came from no other host. From cmp-1 came 0 of {SIZE} bytes" in text


class TestRefusedFile:
    @pytest.mark.parametrize("name", ["swap_512", "ephemeral_1_0706d66"])
    def test_template_never_comes_from_another_host(self, host: Host, name: str) -> None:
        lost(host, name)
        with pytest.raises(ImageCacheError, match="is not the name of a base file that comes from an image"):
            host.restore(**options(host, name))

    @pytest.mark.parametrize("check_mode", [True, False])
    def test_file_that_is_larger_than_a_disk_on_it_is_refused_without_a_connection(
        self, host: Host, check_mode: bool
    ) -> None:
        lost(host)
        given = options(host, content=CONTENT + b"more")
        given["peer_command"] = runs(f"touch {host.root}/asked")
        text = reason(host.restore(check_mode=check_mode, **given))
        assert f"The file that other hosts have does not fit what is built on it: it has {SIZE + 4} bytes" in text
        assert not (host.root / "asked").exists()

    @pytest.mark.parametrize("backing_format", ["raw", None])
    def test_header_in_the_content_is_refused(self, host: Host, backing_format: str | None) -> None:
        """QEMU would read it as raw where a disk says so, and open other files where it does not."""
        base = lost(host)
        host.overlay(UUID, base, backing_format)
        content = create_image(host.root / "hostile", over="/etc/shadow", unchecked=True).read_bytes()
        text = reason(host.restore(**options(host, content=content)))
        assert (
            f"cmp-1:{host.root}/there does not fit what is built on it: its first bytes are not those of a raw" in text
        )
        assert not base.exists()

    def test_qcow2_file_that_needs_other_files_is_refused(self, host: Host) -> None:
        base = lost(host, backing_format="qcow2")
        content = create_image(host.root / "hostile", over="/etc/shadow", unchecked=True).read_bytes()
        assert "it needs other files, or is encrypted" in reason(host.restore(**options(host, content=content)))
        assert not base.exists()

    @pytest.mark.parametrize("check_mode", [True, False])
    def test_checksum_that_is_known_here_by_the_same_algorithm_refuses_another_one(
        self, host: Host, check_mode: bool
    ) -> None:
        lost(host)
        (host.cache_path / f"{BASE}.info").write_text(json.dumps({"sha256": "0" * 64}))
        given = {**options(host), "peer_command": runs(f"touch {host.root}/asked")}
        text = reason(host.restore(check_mode=check_mode, **given))
        agreed = hashlib.sha256(CONTENT).hexdigest()
        assert f"The sha256 that other hosts agree on is {agreed}, and here it is known as {'0' * 64}" in text
        assert not (host.root / "asked").exists()

    @pytest.mark.parametrize("algorithm", ["sha1", "sha512"])
    def test_checksum_that_is_saved_here_by_another_algorithm_counts_as_well(self, host: Host, algorithm: str) -> None:
        base = lost(host)
        wrong = hashlib.new(algorithm, b"other").hexdigest()
        (host.cache_path / f"{BASE}.info").write_text(json.dumps({algorithm: wrong}))
        text = reason(host.restore(**options(host)))
        right = hashlib.new(algorithm, CONTENT).hexdigest()
        assert f"The {algorithm} of cmp-1:{host.root}/there is {right}, and here it is known as {wrong}" in text
        assert not base.exists()

    def test_right_checksum_by_another_algorithm_is_saved_too(self, host: Host) -> None:
        lost(host)
        saved = host.cache_path / f"{BASE}.info"
        saved.write_text(json.dumps({"sha1": hashlib.sha1(CONTENT).hexdigest()}))
        assert host.restore(**options(host)).error is None
        fields = json.loads(saved.read_text())
        assert fields["sha1"] == hashlib.sha1(CONTENT).hexdigest()
        assert fields["sha256"] == hashlib.sha256(CONTENT).hexdigest()

    def test_record_of_a_raw_image_counts_as_well(self, host: Host) -> None:
        base = lost(host)
        text = reason(host.restore(**options(host), images=[record(b"another image")]))
        assert f"and here it is known as {hashlib.sha512(b'another image').hexdigest()}" in text
        assert not base.exists()

    @pytest.mark.usefixtures("host")
    @pytest.mark.parametrize("check_mode", [True, False])
    def test_file_for_which_there_is_no_space_is_refused(self, tmp_path: Path, check_mode: bool) -> None:
        def run(path: Path) -> None:
            host = Host(path)
            lost(host)
            given = options(host, content=b"x")
            given["peers"][BASE].update(size_bytes=SIZE, allocated_bytes=SIZE)
            (path / "much").write_bytes(bytes(os.statvfs(path).f_bavail * 4096 - MIB))
            text = reason(host.restore(check_mode=check_mode, **given))
            assert f"It takes {SIZE} bytes, and " in text

        on_file_system("tmpfs", tmp_path, run, size=8 * MIB)


BAD = {
    **lies(SIZE),
    "last byte": (f"head -c {SIZE - 1} $FILE; printf x", "their sha256 is"),
    "another file that takes more space": ("cat /dev/urandom", "more bytes follow"),
}


@pytest.mark.parametrize(("script", "words"), BAD.values(), ids=BAD)
def test_lying_host_leaves_nothing_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    monkeypatch.setattr(peers, "_TIMEOUT_SECONDS", 0.5)

    def run(path: Path) -> None:
        host = Host(path)
        base = lost(host)
        given = options(host)
        before = host.cached()
        command = runs(script.replace("$FILE", f"{path}/there"))
        result = host.restore(**{**given, "peer_command": command})
        text = reason(result, "failed", "error")
        assert f"{base} was not restored (used by {UUID}). The base file {BASE} came from no other host. " in text
        assert "From cmp-1 came " in text
        assert words in text
        assert host.cached() == before
        space = os.statvfs(path)
        named = sum(each.lstat().st_blocks * 512 for each in path.rglob("*"))
        assert (space.f_blocks - space.f_bfree) * space.f_frsize == named

        assert host.restore(**given).error is None
        assert base.read_bytes() == CONTENT

    on_file_system("tmpfs", tmp_path, run, size=16 * MIB)


class TestChecksumsOf:
    def test_files_that_are_here_are_named_with_their_checksums(self, host: Host) -> None:
        host.base(BASE, content=CONTENT)
        host.base(f"{BASE}_sm", content=b"small")
        result = host.restore(checksums_of=[BASE, OTHER_BASE, f"{BASE}_sm"])
        assert result.done["checksums"] == [
            {
                "name": BASE,
                "size_bytes": SIZE,
                "allocated_bytes": (host.cache_path / BASE).stat().st_blocks * 512,
                "algorithm": "sha256",
                "checksum": hashlib.sha256(CONTENT).hexdigest(),
            },
            {
                "name": f"{BASE}_sm",
                "size_bytes": (host.cache_path / f"{BASE}_sm").stat().st_size,
                "allocated_bytes": (host.cache_path / f"{BASE}_sm").stat().st_blocks * 512,
                "algorithm": "sha256",
                "checksum": hashlib.sha256((host.cache_path / f"{BASE}_sm").read_bytes()).hexdigest(),
            },
        ]
        assert (result.changed, result.error, result.warnings) == (False, None, [])
        assert result.done["storage_id"] == host.audit().facts["storage"]["id"]

    @pytest.mark.parametrize("check_mode", [True, False])
    def test_reading_checksums_restores_nothing(self, host: Host, check_mode: bool) -> None:
        lost(host)
        host.base(OTHER_BASE, content=CONTENT)
        given = {**options(host), "peer_command": runs(f"touch {host.root}/asked")}
        before = picture(host.root)
        result = host.restore(check_mode=check_mode, checksums_of=[OTHER_BASE], **given)
        assert picture(host.root) == before
        assert [file["name"] for file in result.done["checksums"]] == [OTHER_BASE]
        assert all(result.done[part] == [] for part in ("restored", "present", "refused", "failed", "set_aside"))

    def test_result_without_the_option_has_no_checksums(self, host: Host) -> None:
        host.base(BASE, content=CONTENT)
        assert host.restore().done["checksums"] == []

    def test_entry_that_is_not_a_regular_file_is_left_out(self, host: Host) -> None:
        (host.root / "elsewhere").write_bytes(b"secret")
        (host.cache_path / BASE).symlink_to(host.root / "elsewhere")
        (host.cache_path / OTHER_BASE).mkdir()
        os.mkfifo(host.cache_path / f"{BASE}_sm")
        assert host.restore(checksums_of=[BASE, OTHER_BASE, f"{BASE}_sm"]).done["checksums"] == []

    def test_name_that_is_given_twice_is_read_once(self, host: Host) -> None:
        host.base(BASE, content=CONTENT)
        assert len(host.restore(checksums_of=[BASE, BASE]).done["checksums"]) == 1

    def test_file_that_cannot_be_read_is_named_and_the_others_are_read(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        host.base(BASE, content=b"broken")
        host.base(OTHER_BASE, content=CONTENT)
        read = os.readv

        def fail_once(descriptor: int, buffers: Any) -> int:
            if os.readlink(f"/proc/self/fd/{descriptor}").endswith(BASE):
                raise OSError(5, "Input/output error")
            return read(descriptor, buffers)

        monkeypatch.setattr(os, "readv", fail_once)
        result = host.restore(checksums_of=[BASE, OTHER_BASE])
        assert [file["name"] for file in result.done["checksums"]] == [OTHER_BASE]
        [warning] = result.warnings
        assert f"The checksum of {BASE} was not taken: Input/output error." in warning
        assert has_remedy(warning)

    def test_file_that_is_written_to_meanwhile_is_left_out(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        host.base(BASE, content=CONTENT)
        read = os.readv

        def write_and_read(descriptor: int, buffers: Any) -> int:
            with (host.cache_path / BASE).open("ab") as file:
                file.write(b"x")
            monkeypatch.setattr(os, "readv", read)
            return read(descriptor, buffers)

        monkeypatch.setattr(os, "readv", write_and_read)
        assert host.restore(checksums_of=[BASE]).done["checksums"] == []

    @pytest.mark.parametrize("name", ["../secret", "/etc/shadow", f"{BASE}.part", "x"])
    def test_other_names_are_refused(self, host: Host, name: str) -> None:
        with pytest.raises(ImageCacheError, match="checksums_of has") as caught:
            host.restore(checksums_of=[name])
        assert has_remedy(str(caught.value))

    def test_host_without_a_cache_has_no_checksums(self, host: Host) -> None:
        host.cache_path.rmdir()
        result = host.restore(checksums_of=[BASE])
        assert (result.done["checksums"], result.done["storage_id"], result.error) == ([], None, None)
