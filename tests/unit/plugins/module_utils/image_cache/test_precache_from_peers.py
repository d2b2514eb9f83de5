# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images are pre-cached from other hosts that have them, converted already: proven and inspected like any other."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch import peers, streaming
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.module import FetchResult
from ansible_collections.stackops.nova.tests.support.constants import BASE, IMAGE, OTHER_BASE, OTHER_IMAGE
from ansible_collections.stackops.nova.tests.support.file_systems import on_file_system
from ansible_collections.stackops.nova.tests.support.host import Host, create_image, picture, qcow2_of
from ansible_collections.stackops.nova.tests.support.image_server import ImageServer, answer, image
from ansible_collections.stackops.nova.tests.support.peers import HONEST, lies, peer_file, runs
from ansible_collections.stackops.nova.tests.support.records import record
from ansible_collections.stackops.nova.tests.support.remedies import has_remedy

MIB = 1 << 20
SIZE = 4 * MIB
RAW = os.urandom(300_000).ljust(SIZE, b"\0")


def options(host: Host, content: bytes = RAW, **more: Any) -> dict[str, Any]:
    """What other hosts have of the image, with this content."""
    path = host.root / "there"
    path.write_bytes(content)
    return {"peers": {BASE: peer_file(path, **more)}, "peer_command": HONEST, "min_free_space": 0}


def qcow2(host: Host, content: bytes = RAW) -> tuple[bytes, dict[str, Any]]:
    """A qcow2 image with this content, and Glance's record of it."""
    made = qcow2_of(host.root, content)
    return made, record(made, disk_format="qcow2")


def base(host: Host) -> Path:
    return host.cache_path / BASE


def reason(result: FetchResult, part: str = "refused", key: str = "reason") -> str:
    """Why the only image is not there."""
    assert result.done["fetched"] == []
    assert not result.changed
    [of_image] = result.done[part]
    assert result.error is not None
    assert of_image[key] in result.error
    assert IMAGE in of_image[key]
    assert has_remedy(of_image[key])
    return str(of_image[key])


class TestFetchedImage:
    def test_image_that_was_converted_elsewhere_is_taken_unchanged(self, host: Host) -> None:
        _made, its_record = qcow2(host)
        result = host.precache(images=[its_record], qemu_img="false", **options(host))
        [fetched] = result.done["fetched"]
        assert base(host).read_bytes() == RAW
        assert base(host).stat().st_blocks * 512 < MIB
        assert base(host).stat().st_mode & 0o7777 == 0o644
        assert fetched == {
            **fetched,
            "source": "peer",
            "source_path": f"cmp-1:{host.root}/there",
            "contacted": True,
            "proof": "agreed",
            "read_bytes": SIZE,
            "size_bytes": SIZE,
            "algorithm": "sha256",
            "checksum": hashlib.sha256(RAW).hexdigest(),
        }
        fields = json.loads((host.cache_path / f"{BASE}.info").read_text())
        assert fields["sha256"] == fetched["checksum"]
        assert "sha512" not in fields
        assert (result.changed, result.error) == (True, None)

    def test_host_without_qemu_img_takes_an_image_that_was_converted_elsewhere(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _made, its_record = qcow2(host)
        given = options(host)
        monkeypatch.setenv("PATH", "/nowhere")
        given["peer_command"] = ["/bin/sh", *HONEST[1:]]
        assert host.precache(images=[its_record], **given).error is None
        assert base(host).read_bytes() == RAW

    def test_raw_image_has_glances_own_checksum(self, host: Host) -> None:
        result = host.precache(images=[record(RAW)], **options(host, algorithm="sha512"))
        [fetched] = result.done["fetched"]
        assert base(host).read_bytes() == RAW
        assert (fetched["algorithm"], fetched["checksum"]) == ("sha512", hashlib.sha512(RAW).hexdigest())

    def test_raw_image_with_a_checksum_of_another_algorithm_is_compared_with_glances_too(self, host: Host) -> None:
        assert host.precache(images=[record(RAW)], **options(host)).error is None
        fields = json.loads((host.cache_path / f"{BASE}.info").read_text())
        assert (fields["sha256"], fields["sha512"]) == (
            hashlib.sha256(RAW).hexdigest(),
            hashlib.sha512(RAW).hexdigest(),
        )

    def test_qcow2_image_is_kept_where_nova_converts_none(self, host: Host) -> None:
        made, its_record = qcow2(host)
        path = host.root / "nova.conf"
        path.write_text("[DEFAULT]\nforce_raw_images = false\n")
        result = host.precache(images=[its_record], config_file=[str(path)], **options(host, made))
        assert result.error is None
        assert base(host).read_bytes() == made

    def test_dry_run_lists_what_a_run_fetches_without_a_connection(self, host: Host) -> None:
        _made, its_record = qcow2(host)
        given = {**options(host, hosts=["cmp-1", "cmp-2"], allocated_bytes=4096)}
        given["peer_command"] = runs(f"touch {host.root}/asked")
        before = picture(host.root)
        result = host.precache(check_mode=True, images=[its_record], **given)
        assert picture(host.root) == before
        [fetched] = result.done["fetched"]
        assert (fetched["source"], fetched["source_path"]) == ("peer", f"cmp-1:{host.root}/there")
        assert (fetched["contacted"], fetched["proof"], fetched["seconds"]) == (False, "agreed", 0.0)
        assert (fetched["read_bytes"], fetched["size_bytes"], fetched["allocated_bytes"]) == (SIZE, SIZE, 4096)
        assert (fetched["algorithm"], fetched["checksum"]) == ("sha256", hashlib.sha256(RAW).hexdigest())

    def test_dry_run_does_not_contact_glance_either(self, host: Host) -> None:
        result = host.precache(check_mode=True, images=[record(RAW)], glance={"endpoint": "http://127.0.0.1:1"})
        [fetched] = result.done["fetched"]
        assert (fetched["source"], fetched["contacted"]) == ("glance", False)
        assert fetched["source_path"] == f"http://127.0.0.1:1/v2/images/{IMAGE}/file"

    def test_next_host_is_asked_after_one_that_lies(self, host: Host) -> None:
        given = options(host, hosts=["cmp-1", "cmp-2"])
        given["peer_command"] = runs('case $2 in cmp-1) echo lies;; *) eval "$3";; esac')
        [fetched] = host.precache(images=[record(RAW)], **given).done["fetched"]
        assert fetched["source_path"] == f"cmp-2:{host.root}/there"
        assert fetched["read_bytes"] == SIZE + len("lies\n")


class TestOrderOfSources:
    def test_file_that_was_brought_comes_before_other_hosts(self, host: Host) -> None:
        given = {**options(host), "peer_command": runs(f"touch {host.root}/asked")}
        result = host.precache(images=[record(RAW)], files={IMAGE: str(host.root / "there")}, **given)
        assert result.done["fetched"][0]["source"] == "file"
        assert not (host.root / "asked").exists()

    def test_other_hosts_come_before_glance(self, host: Host) -> None:
        with ImageServer(image(RAW)) as server:
            given = {"images": [record(RAW)], "glance": {"endpoint": server.origin}}
            result = host.precache(**given, **options(host))
        assert result.done["fetched"][0]["source"] == "peer"
        assert server.requests == []

    def test_image_that_no_host_offers_comes_from_glance(self, host: Host) -> None:
        with ImageServer(image(RAW)) as server:
            images = [record(RAW), record(RAW, OTHER_IMAGE)]
            result = host.precache(images=images, glance={"endpoint": server.origin}, **options(host))
        assert [each["source"] for each in result.done["fetched"]] == ["peer", "glance"]
        assert (host.cache_path / OTHER_BASE).read_bytes() == RAW

    @pytest.mark.parametrize(
        "script", ["exit 255", f"head -c {SIZE} /dev/urandom", "head -c -1 $FILE", "cat $FILE /dev/zero"]
    )
    def test_glance_is_asked_where_every_other_host_fails(self, host: Host, script: str) -> None:
        made, its_record = qcow2(host)
        given = {**options(host), "peer_command": runs(script.replace("$FILE", f"{host.root}/there"))}
        with ImageServer(image(made)) as server:
            result = host.precache(images=[its_record], glance={"endpoint": server.origin}, **given)
        [fetched] = result.done["fetched"]
        assert (fetched["source"], fetched["proof"], fetched["algorithm"]) == ("glance", "checksum", "sha512")
        assert base(host).read_bytes() == RAW

    def test_failures_of_hosts_and_glance_are_both_named(self, host: Host) -> None:
        given = {**options(host), "peer_command": runs("echo no way >&2; exit 255")}
        with ImageServer(answer(404)) as server:
            result = host.precache(images=[record(RAW)], glance={"endpoint": server.origin}, **given)
        text = reason(result, "failed", "error")
        assert f"The base file {BASE} came from no other host. From cmp-1 came 0 of {SIZE} bytes" in text
        assert f"The image {IMAGE} could not be fetched from Glance" in text

    def test_space_for_glances_image_is_looked_at_before_it_is_asked(self, tmp_path: Path) -> None:
        def run(path: Path) -> None:
            host = Host(path)
            made, its_record = qcow2(host)
            given = {**options(host, allocated_bytes=4096), "peer_command": runs("exit 255")}
            (path / "much").write_bytes(bytes(os.statvfs(path).f_bavail * 4096 - len(made)))
            with ImageServer(image(made)) as server:
                result = host.precache(images=[its_record], glance={"endpoint": server.origin}, **given)
            assert f"It takes {2 * len(made)} bytes, " in reason(result, "failed", "error")
            assert server.requests == []

        on_file_system("tmpfs", tmp_path, run, size=32 * MIB)


class TestRefusedImage:
    @pytest.mark.parametrize("with_glance", [True, False])
    def test_header_in_what_was_converted_elsewhere_is_refused(self, host: Host, with_glance: bool) -> None:
        """A guest's content can be a header that has QEMU open other files: also where two hosts have converted it."""
        inside = create_image(host.root / "inside", over="/etc/shadow", unchecked=True).read_bytes()
        made, its_record = qcow2(host, inside.ljust(SIZE, b"\0"))
        given = options(host, inside.ljust(SIZE, b"\0"))
        with ImageServer(image(made)) as server:
            glance = {"endpoint": server.origin} if with_glance else None
            text = reason(host.precache(images=[its_record], glance=glance, **given))
        assert "It is not accepted after its conversion: its content begins like a qcow2 image" in text
        assert host.cached() == []

    def test_header_in_a_raw_image_is_refused(self, host: Host) -> None:
        content = create_image(host.root / "inside", over="/etc/shadow", unchecked=True).read_bytes()
        text = reason(host.precache(images=[record(content)], **options(host, content)))
        assert "Its content is not accepted: its content begins like a qcow2 image" in text
        assert host.cached() == []

    @pytest.mark.parametrize("check_mode", [True, False])
    @pytest.mark.parametrize(
        ("content", "words"),
        [(RAW + b"x", f"its file has {SIZE + 1} bytes"), (RAW[:-1] + b"x", "its file has the sha512 ")],
    )
    def test_raw_image_that_is_another_one_by_its_record_is_refused_without_a_connection(
        self, host: Host, content: bytes, words: str, check_mode: bool
    ) -> None:
        given = options(host, content, algorithm="sha512")
        given["peer_command"] = runs(f"touch {host.root}/asked")
        assert words in reason(host.precache(check_mode=check_mode, images=[record(RAW)], **given))
        assert not (host.root / "asked").exists()

    def test_raw_image_with_another_checksum_than_glances_is_refused(self, host: Host) -> None:
        other = RAW[:-1] + b"x"
        text = reason(host.precache(images=[record(RAW)], **options(host, other)))
        assert f"The sha512 of cmp-1:{host.root}/there is {hashlib.sha512(other).hexdigest()}" in text
        assert host.cached() == []

    @pytest.mark.parametrize(
        "differs", [{"status": "deactivated"}, {"os_hash_algo": "md5"}, {"disk_format": "vmdk"}, {"size": None}]
    )
    def test_image_that_nova_would_refuse_is_refused(self, host: Host, differs: dict[str, Any]) -> None:
        given = {**options(host), "peer_command": runs(f"touch {host.root}/asked")}
        reason(host.precache(images=[record(RAW, **differs)], **given))
        assert not (host.root / "asked").exists()

    def test_image_whose_signature_nova_would_verify_is_refused(self, host: Host) -> None:
        path = host.root / "nova.conf"
        path.write_text("[glance]\nverify_glance_signatures = true\n")
        text = reason(host.precache(images=[record(RAW)], config_file=[str(path)], **options(host)))
        assert "verify_glance_signatures" in text

    @pytest.mark.parametrize("check_mode", [True, False])
    def test_space_is_checked_before_the_first_byte(self, tmp_path: Path, check_mode: bool) -> None:
        def run(path: Path) -> None:
            host = Host(path)
            given = {**options(host), "peer_command": runs(f"touch {host.root}/asked"), "min_free_space": "50%"}
            text = reason(host.precache(check_mode=check_mode, images=[record(RAW)], **given))
            assert f"It takes {SIZE} bytes, " in text
            assert not (host.root / "asked").exists()

        on_file_system("tmpfs", tmp_path, run, size=12 * MIB)

    def test_space_is_checked_during_a_transfer(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(streaming, "_SPACE_BYTES", MIB)

        def run(path: Path) -> None:
            host = Host(path)
            content = os.urandom(SIZE)
            given = {**options(host, content, allocated_bytes=4096), "min_free_space": "50%"}
            text = reason(host.precache(images=[record(content)], **given), "failed", "error")
            assert f"bytes: It takes {MIB} bytes, " in text
            assert host.cached() == []

        on_file_system("tmpfs", tmp_path, run, size=12 * MIB)

    def test_file_with_holes_is_measured_by_the_space_that_it_takes(self, tmp_path: Path) -> None:
        def run(path: Path) -> None:
            host = Host(path)
            given = {**options(host, bytes(SIZE), allocated_bytes=0), "min_free_space": "50%"}
            assert host.precache(images=[record(bytes(SIZE))], **given).error is None

        on_file_system("tmpfs", tmp_path, run, size=11 * MIB)

    def test_invalid_option_is_refused(self, host: Host) -> None:
        given = options(host, hosts=["-oProxyCommand=touch /tmp/x"])
        with pytest.raises(ImageCacheError, match="is not the name or the address of a host"):
            host.precache(images=[record(RAW)], **given)


@pytest.mark.parametrize(("script", "words"), lies(SIZE).values(), ids=lies(SIZE))
def test_lying_host_leaves_nothing_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    monkeypatch.setattr(peers, "_TIMEOUT_SECONDS", 0.5)

    def run(path: Path) -> None:
        host = Host(path)
        given = options(host)
        command = runs(script.replace("$FILE", f"{path}/there"))
        result = host.precache(images=[record(RAW)], **{**given, "peer_command": command})
        text = reason(result, "failed", "error")
        assert f"The base file {BASE} came from no other host. From cmp-1 came " in text
        assert words in text
        assert host.cached() == []
        space = os.statvfs(path)
        named = sum(each.lstat().st_blocks * 512 for each in path.rglob("*"))
        assert (space.f_blocks - space.f_bfree) * space.f_frsize == named

        assert host.precache(images=[record(RAW)], **given).error is None
        assert base(host).read_bytes() == RAW

    on_file_system("tmpfs", tmp_path, run, size=32 * MIB)
