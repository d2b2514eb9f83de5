# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images are in the cache before a server needs them: whole and proven, or not at all, and a sentence says why."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache import precache as door
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch import (
    fetching,
    novas_lock,
    place,
    precaching,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.module import FetchResult
from ansible_collections.stackops.nova.tests.support import records
from ansible_collections.stackops.nova.tests.support.constants import BASE, IMAGE, OTHER_BASE, OTHER_IMAGE
from ansible_collections.stackops.nova.tests.support.file_systems import FILE_SYSTEMS, on_file_system
from ansible_collections.stackops.nova.tests.support.host import (
    DAY,
    NAME,
    OLD,
    Host,
    attribute,
    create_image,
    picture,
    qcow2_of,
)
from ansible_collections.stackops.nova.tests.support.params import PRECACHE_DEFAULTS
from ansible_collections.stackops.nova.tests.support.processes import (
    NOBODY,
    as_nobody,
    in_a_child,
    make_socket,
    needs_root,
    nova_compute,
)

MIB = 1 << 20
record = partial(records.record, name="cirros")
CONTENT = os.urandom(300_000)
SIZE = 4 * MIB
RAW = CONTENT.ljust(SIZE, b"\0")


def brought(host: Host, content: bytes = RAW, image_id: str = IMAGE, **given: Any) -> dict[str, Any]:
    """The options with which an operator gives the image's file, and Glance's record of it."""
    path = host.root / f"{image_id}.img"
    path.write_bytes(content)
    return {"files": {image_id: str(path)}, "images": [record(content, image_id, **given)], "min_free_space": 0}


def qcow2(host: Host, content: bytes = RAW, *options: str) -> bytes:
    """A qcow2 image with this content, as qemu-img makes it."""
    return qcow2_of(host.root, content, *options)


def base(host: Host) -> Path:
    return host.cache_path / BASE


def info(host: Host) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((host.cache_path / f"{BASE}.info").read_text())
    return fields


def reason(result: FetchResult, part: str = "refused", key: str = "reason") -> str:
    """Why the only image is not there."""
    assert result.done["fetched"] == []
    [image] = result.done[part]
    assert result.error is not None
    assert image[key] in result.error
    assert IMAGE in image[key]
    return str(image[key])


def nova_conf(host: Host, text: str) -> list[str]:
    path = host.root / "nova.conf"
    path.write_text(text)
    return [str(path)]


class TestFetchedImage:
    def test_raw_image_is_in_the_cache_as_nova_would_have_it(self, host: Host) -> None:
        os.chown(host.cache_path, NOBODY, NOBODY) if os.geteuid() == 0 else None
        result = host.precache(**brought(host))
        status = base(host).stat()
        assert base(host).read_bytes() == RAW
        assert (status.st_uid, status.st_gid) == (host.cache_path.stat().st_uid, host.cache_path.stat().st_gid)
        assert status.st_mode & 0o7777 == 0o644
        assert status.st_blocks * 512 < MIB
        assert (result.changed, result.error, result.warnings) == (True, None, [])

    def test_result_names_source_proof_size(self, host: Host) -> None:
        [image] = host.precache(**brought(host)).done["fetched"]
        assert image.pop("seconds") > 0
        assert image.pop("allocated_bytes") < MIB
        assert image == {
            "name": BASE,
            "image_id": IMAGE,
            "image_name": "cirros",
            "source": "file",
            "source_path": str(host.root / f"{IMAGE}.img"),
            "contacted": True,
            "proof": "checksum",
            "read_bytes": image["read_bytes"],
            "size_bytes": SIZE,
            "algorithm": "sha512",
            "checksum": hashlib.sha512(RAW).hexdigest(),
        }

    @pytest.mark.parametrize("options", [(), ("-c",)])
    def test_qcow2_image_becomes_raw(self, host: Host, options: tuple[str, ...]) -> None:
        image = qcow2(host, RAW, *options)
        [fetched] = host.precache(**brought(host, image, disk_format="qcow2")).done["fetched"]
        assert base(host).read_bytes() == RAW
        assert fetched["size_bytes"] == SIZE
        assert fetched["checksum"] == info(host)["sha512"] == hashlib.sha512(RAW).hexdigest()

    def test_qcow2_image_is_kept_where_nova_converts_none(self, host: Host) -> None:
        image = qcow2(host)
        config_file = nova_conf(host, "[DEFAULT]\nforce_raw_images = false\n")
        host.precache(**brought(host, image, disk_format="qcow2"), config_file=config_file)
        assert base(host).read_bytes() == image

    @pytest.mark.parametrize("disk_format", ["ami", "aki", "ari"])
    def test_parts_of_amazon_images_are_kept_as_they_are(self, host: Host, disk_format: str) -> None:
        options = brought(host, disk_format=disk_format, container_format=disk_format)
        assert host.precache(**options).error is None
        assert base(host).read_bytes() == RAW

    @pytest.mark.parametrize("kind", FILE_SYSTEMS)
    def test_image_is_whole_on_every_file_system(self, tmp_path: Path, kind: str) -> None:
        def run(path: Path) -> tuple[bytes, list[str], str | None]:
            host = Host(path)
            result = host.precache(**brought(host, qcow2(host), disk_format="qcow2"))
            return base(host).read_bytes(), host.cached(), result.error

        assert on_file_system(kind, tmp_path, run) == (RAW, [BASE, f"{BASE}.info"], None)

    def test_record_of_openstacksdk_serves_too(self, host: Host) -> None:
        options = brought(host)
        [image] = options["images"]
        image["hash_algo"], image["hash_value"] = image.pop("os_hash_algo"), image.pop("os_hash_value")
        assert host.precache(**options).error is None

    def test_each_spelling_of_an_id_is_an_image_of_its_own(self, host: Host) -> None:
        host.precache(**brought(host, image_id=IMAGE.upper()))
        assert host.cached() == [name_of(IMAGE.upper()), f"{name_of(IMAGE.upper())}.info"]

    def test_checksum_is_one_that_an_audit_can_verify(self, host: Host) -> None:
        host.precache(**brought(host))
        options = {"checksum_base_images": True, "checksum_algorithm": "sha512", "checksum_scope": "all"}
        assert host.audit(**options, checksum_interval_seconds=0).facts["checksums"]["verified_files"] == 1

    def test_former_checksum_under_the_name_calls_nothing_corrupt(self, host: Host) -> None:
        (host.cache_path / f"{BASE}.info").write_text(json.dumps({"sha1": "0" * 40, "sha1-timestamp": 1.0}))
        host.precache(**brought(host))
        assert info(host)["sha1"] == hashlib.sha1(RAW).hexdigest()

    def test_missing_cache_directory_is_made_as_novas_own(self, host: Host) -> None:
        host.cache_path.rmdir()
        host.compute_nodes({NAME: host.now})
        dry = host.precache(**brought(host), check_mode=True)
        assert not host.cache_path.exists()
        assert host.precache(**brought(host)).error is None
        assert len(dry.done["fetched"]) == 1
        assert host.cache_path.stat().st_uid == host.instances_path.stat().st_uid
        assert base(host).read_bytes() == RAW

    def test_run_without_images_makes_no_cache_directory(self, host: Host) -> None:
        host.cache_path.rmdir()
        host.compute_nodes({NAME: host.now})
        assert host.precache(images=[record(RAW)]).error is not None
        assert not host.cache_path.exists()


class TestDryRun:
    @pytest.mark.parametrize("disk_format", ["raw", "qcow2"])
    def test_dry_run_shows_what_a_run_does_and_writes_nothing(self, host: Host, disk_format: str) -> None:
        content = qcow2(host) if disk_format == "qcow2" else RAW
        options = brought(host, content, disk_format=disk_format, virtual_size=SIZE)
        host.base(OTHER_BASE, content=RAW, size=SIZE, age=OLD)
        options["images"].append(record(RAW, OTHER_IMAGE))
        before = picture(host.root)
        dry = host.precache(**options, check_mode=True)
        assert picture(host.root) == before
        run = host.precache(**options)
        for done in (dry.done, run.done):
            for image in done["fetched"]:
                for key in ("seconds", "read_bytes", "allocated_bytes", "checksum"):
                    del image[key]
            del done["check_mode"], done["free_bytes"]
        assert dry == run

    def test_dry_run_refuses_what_a_run_refuses(self, host: Host) -> None:
        options = brought(host, os_hash_value="0" * 128)
        dry = reason(host.precache(**options, check_mode=True))
        assert dry == reason(host.precache(**options))


class TestPresentImage:
    def test_image_in_the_cache_is_marked_as_used_now(self, host: Host) -> None:
        host.base(BASE, content=RAW, size=SIZE, age=OLD)
        before = base(host).stat()
        result = host.precache(images=[record(RAW)])
        after = base(host).stat()
        assert result.done["present"] == [{"name": BASE, "image_id": IMAGE, "image_name": "cirros"}]
        assert (result.changed, result.error) == (False, None)
        assert after.st_mtime - before.st_mtime > OLD - DAY
        assert after.st_ino == before.st_ino
        assert info(host) == {"precached_at": host.now, "image_id": IMAGE}

    def test_second_run_fetches_nothing(self, host: Host) -> None:
        host.precache(**brought(host))
        inode = base(host).stat().st_ino
        second = host.precache(**brought(host))
        assert (second.changed, second.done["fetched"]) == (False, [])
        assert [image["name"] for image in second.done["present"]] == [BASE]
        assert base(host).stat().st_ino == inode
        assert info(host)["sha512"] == hashlib.sha512(RAW).hexdigest()

    def test_image_that_is_removed_before_it_is_marked_is_not_called_present(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        host.base(BASE, content=RAW, size=SIZE, age=OLD)
        monkeypatch.setattr(door, "remove_left_drafts", lambda _cache: base(host).unlink())  # as nova's own pass
        result = host.precache(images=[record(RAW)])
        assert "was removed meanwhile" in reason(result, "failed", "error")
        assert result.done["present"] == []
        assert host.cached() == []

    def test_run_that_fetches_nothing_imports_nothing_for_that(self, host: Host) -> None:
        """Most runs fetch nothing, and imports take most of their time."""
        host.base(BASE, content=RAW, size=SIZE)

        def run() -> set[str]:
            for name in [name for name in sys.modules if ".image_cache" in name or name.startswith("concurrent")]:
                del sys.modules[name]
            package = "ansible_collections.stackops.nova.plugins.module_utils.image_cache"
            module = importlib.import_module(f"{package}.precache")
            result = module.precache({**host.options(), **PRECACHE_DEFAULTS, "images": [record(RAW)]}, host.now, False)
            assert len(result.done["present"]) == 1
            return {name.replace(f"{package}.", "") for name in sys.modules}

        dear = {"fetch.fetching", "fetch.convert", "fetch.glance", "snapshot", "disk_references", "concurrent.futures"}
        assert in_a_child(run) & dear == set()

    def test_file_of_another_size_is_left_alone(self, host: Host) -> None:
        host.base(BASE, content=b"half", size=MIB)
        before = picture(host.root)
        assert f"{MIB} bytes" in reason(host.precache(images=[record(RAW)]))
        assert picture(host.root) == before

    def test_size_of_a_converted_image_is_not_compared(self, host: Host) -> None:
        host.base(BASE, content=RAW, size=SIZE)
        assert host.precache(images=[record(b"qcow2", disk_format="qcow2")]).error is None

    @pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, make_socket, lambda path: os.symlink("/etc/passwd", path)])
    def test_other_thing_with_the_name_of_the_image_is_left_alone(
        self, host: Host, make: Callable[[Path], object]
    ) -> None:
        make(base(host))
        assert "not a regular file" in reason(host.precache(**brought(host)))

    def test_file_that_nova_fetches_meanwhile_is_present(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        def finish(draft: place.Draft, source: int | None) -> None:
            base(host).write_bytes(RAW)
            place.finish(draft, source)

        monkeypatch.setattr(fetching, "finish", finish)
        result = host.precache(**brought(host))
        assert (result.changed, result.error) == (False, None)
        assert [image["name"] for image in result.done["present"]] == [BASE]

    def test_other_file_that_gets_the_name_meanwhile_is_left_alone(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fetching, "finish", lambda _draft, _source: base(host).write_bytes(b"other"))
        assert "5 bytes" in reason(host.precache(**brought(host)), "failed", "error")
        assert base(host).read_bytes() == b"other"


class TestRefusedImage:
    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"status": "deactivated"}, "deactivated"),
            ({"status": "queued", "size": None, "os_hash_algo": None}, "status is queued and not active"),
            ({"status": None}, "status"),
            ({"container_format": "ova"}, "ova"),
            ({"container_format": "compressed"}, "compressed"),
            ({"container_format": "docker"}, "docker"),
            ({"container_format": "ami"}, "ami"),
            ({"container_format": None}, "container_format"),
            ({"disk_format": "vmdk"}, "vmdk"),
            ({"disk_format": "vhdx"}, "vhdx"),
            ({"disk_format": "ploop"}, "ploop"),
            ({"disk_format": None}, "unknown"),
            ({"os_hash_algo": "md5", "os_hash_value": "0" * 32}, "sha256 or sha512"),
            ({"os_hash_algo": None}, "sha256 or sha512"),
            ({"size": None}, "size"),
        ],
    )
    @pytest.mark.parametrize("check_mode", [True, False])
    def test_image_whose_record_does_not_allow_it_is_refused(
        self, host: Host, given: dict[str, Any], words: str, check_mode: bool
    ) -> None:
        assert words in reason(host.precache(**brought(host, **given), check_mode=check_mode))
        assert host.cached() == []

    @pytest.mark.parametrize("change", ["flipped", "cut", "longer"])
    @pytest.mark.parametrize("check_mode", [True, False])
    def test_file_with_other_bytes_than_its_record_is_refused(self, host: Host, change: str, check_mode: bool) -> None:
        options = brought(host)
        bad = {"flipped": bytes([RAW[0] ^ 1]) + RAW[1:], "cut": RAW[:-1], "longer": RAW + b"\0"}[change]
        Path(options["files"][IMAGE]).write_bytes(bad)
        assert options["files"][IMAGE] in reason(host.precache(**options, check_mode=check_mode))
        assert host.cached() == []

    @pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, make_socket, lambda path: os.symlink("/etc/passwd", path)])
    def test_other_thing_in_place_of_the_file_is_refused(self, host: Host, make: Callable[[Path], object]) -> None:
        options = brought(host)
        path = Path(options["files"][IMAGE])
        path.unlink()
        make(path)
        assert str(path) in reason(host.precache(**options))

    def test_missing_file_is_refused(self, host: Host) -> None:
        options = brought(host)
        Path(options["files"][IMAGE]).unlink()
        assert "cannot be opened" in reason(host.precache(**options))

    def test_image_without_a_source_is_refused(self, host: Host) -> None:
        assert "glance" in reason(host.precache(images=[record(RAW)]))

    @pytest.mark.parametrize("check_mode", [True, False])
    def test_qcow2_image_with_a_backing_file_is_refused(self, host: Host, check_mode: bool) -> None:
        image = create_image(host.root / "hostile", over="/etc/shadow", unchecked=True).read_bytes()
        options = brought(host, image, disk_format="qcow2")
        assert "backing file" in reason(host.precache(**options, check_mode=check_mode))
        assert host.cached() == []

    def test_qcow2_image_in_the_content_of_another_is_refused(self, host: Host) -> None:
        inner = create_image(host.root / "hostile", over="/etc/shadow", unchecked=True).read_bytes()
        assert "after its conversion" in reason(host.precache(**brought(host, qcow2(host, inner), disk_format="qcow2")))
        assert host.cached() == []

    @pytest.mark.parametrize("check_mode", [True, False])
    def test_qcow2_image_with_a_record_of_a_raw_one_is_refused(self, host: Host, check_mode: bool) -> None:
        assert "qcow2" in reason(host.precache(**brought(host, qcow2(host)), check_mode=check_mode))
        assert host.cached() == []

    def test_qcow2_image_on_a_host_without_qemu_img_is_refused(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options = brought(host, qcow2(host), disk_format="qcow2")
        monkeypatch.setenv("PATH", str(host.root))
        assert "qemu_img" in reason(host.precache(**options))

    @pytest.mark.parametrize("option", ["verify_glance_signatures", "enable_certificate_validation"])
    def test_image_whose_signature_nova_would_verify_is_refused_unless_allowed(self, host: Host, option: str) -> None:
        config_file = nova_conf(host, f"[glance]\n{option} = true\n")
        assert option in reason(host.precache(**brought(host), config_file=config_file))
        allowed = host.precache(**brought(host), config_file=config_file, allow_unverified_signatures=True)
        assert allowed.error is None

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("[libvirt]\nimages_type = rbd\n", "rbd"),
            ("[libvirt]\nimages_type = lvm\n", "lvm"),
            ("[libvirt]\nimages_type = flat\n", "flat"),
            ("[DEFAULT]\nuse_cow_images = false\n", "use_cow_images"),
        ],
    )
    @pytest.mark.parametrize("check_mode", [True, False])
    def test_host_whose_disks_are_not_built_on_the_cache_is_refused(
        self, host: Host, text: str, words: str, check_mode: bool
    ) -> None:
        config_file = nova_conf(host, text)
        assert words in reason(host.precache(**brought(host), config_file=config_file, check_mode=check_mode))
        assert host.cached() == []

    @pytest.mark.parametrize("text", ["[libvirt]\nimages_type = qcow2\n", "[libvirt]\nimages_type = default\n"])
    def test_host_whose_disks_are_overlays_is_served(self, host: Host, text: str) -> None:
        assert host.precache(**brought(host), config_file=nova_conf(host, text)).error is None

    @pytest.mark.parametrize("check_mode", [True, False])
    def test_host_whose_instances_are_not_mounted_is_refused(self, host: Host, check_mode: bool) -> None:
        options = brought(host)
        for path in host.instances_path.iterdir():
            path.rmdir()
        assert "mount" in reason(host.precache(**options, check_mode=check_mode))
        assert list(host.instances_path.iterdir()) == []

    @pytest.mark.parametrize("check_mode", [True, False])
    def test_name_whose_lock_cannot_be_used_is_refused(self, host: Host, check_mode: bool) -> None:
        host.locks_path.mkdir(exist_ok=True)
        (host.locks_path / f"nova-{BASE}").mkdir()
        assert "lock" in reason(host.precache(**brought(host), check_mode=check_mode))

    @needs_root
    @pytest.mark.parametrize("check_mode", [True, False])
    def test_immutable_cache_is_refused(self, host: Host, check_mode: bool) -> None:
        with attribute(host.cache_path, "i"):
            assert "immutable" in reason(host.precache(**brought(host), check_mode=check_mode))

    @needs_root
    @pytest.mark.parametrize("check_mode", [True, False])
    def test_user_who_may_not_write_into_the_cache_is_refused(self, public_host: Host, check_mode: bool) -> None:
        options = brought(public_host)
        result = as_nobody(lambda: public_host.precache(**options, check_mode=check_mode))
        assert "Run as root" in reason(result)

    def test_other_images_are_fetched_beside_a_refused_one(self, host: Host) -> None:
        options, bad = brought(host), brought(host, image_id=OTHER_IMAGE, status="queued")
        result = host.precache(
            files={**bad["files"], **options["files"]}, images=bad["images"] + options["images"], min_free_space=0
        )
        assert [image["name"] for image in result.done["fetched"]] == [BASE]
        assert [image["name"] for image in result.done["refused"]] == [OTHER_BASE]


class TestSpace:
    def test_least_free_space_is_left(self, host: Host) -> None:
        options = {**brought(host), "min_free_space": "100%"}
        text = reason(host.precache(**options))
        assert str(SIZE) in text
        assert "min_free_space" in text
        assert host.cached() == []

    def test_cache_takes_no_more_than_the_most(self, host: Host) -> None:
        host.base(OTHER_BASE, content=os.urandom(MIB), size=MIB)
        text = reason(host.precache(**brought(host), max_used_space=SIZE))
        assert "max_used_space" in text
        assert host.cached() == [OTHER_BASE]

    def test_images_are_counted_together(self, host: Host) -> None:
        first, second = brought(host), brought(host, image_id=OTHER_IMAGE)
        both = {"files": {**first["files"], **second["files"]}, "images": first["images"] + second["images"]}
        dry = host.precache(**both, min_free_space=0, max_used_space=SIZE + MIB, check_mode=True)
        assert [image["name"] for image in dry.done["fetched"]] == [BASE]
        assert [image["name"] for image in dry.done["refused"]] == [OTHER_BASE]

    def test_much_data_in_a_small_image_is_refused_before_its_conversion(self, host: Host) -> None:
        image = qcow2(host, b"\1" * (64 * MIB), "-c")
        assert len(image) < MIB
        text = reason(host.precache(**brought(host, image, disk_format="qcow2"), max_used_space=32 * MIB))
        assert "max_used_space" in text
        assert host.cached() == []

    def test_full_file_system_leaves_nothing(self, tmp_path: Path) -> None:
        def run(path: Path) -> tuple[str, list[str], bool]:
            host = Host(path)
            options = brought(host, os.urandom(10 * MIB))
            free = os.statvfs(path).f_bfree
            # The file system is full only when the image is written.
            door.look_at_space = lambda *_arguments: precaching.Space(None, 0, None, None)
            result = host.precache(**options)
            is_freed = os.statvfs(path).f_bfree >= free - 16
            return reason(result, "failed", "error"), host.cached(), is_freed

        text, cached, is_freed = on_file_system("tmpfs", tmp_path, run, size=16 * MIB)
        assert "No space left" in text
        assert (cached, is_freed) == ([], True)


class TestBesideNova:
    def test_lock_that_nova_holds_for_long_is_a_failure(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(novas_lock, "_WAIT_SECONDS", 0)
        with nova_compute() as nova:
            nova.take(BASE, host.locks_path)
            assert "lock" in reason(host.precache(**brought(host)), "failed", "error")
        assert host.cached() == []


class TestOptions:
    @pytest.mark.parametrize(
        "given",
        [
            {"files": {IMAGE: "relative"}},
            {"max_rate": 0},
            {"qemu_img": "no-such-command"},
            {"images": [{"name": "no id"}]},
            {"images": [record(b"", os_hash_value="zz")]},
            {"glance": {"endpoint": "ftp://glance"}},
        ],
    )
    def test_invalid_option_is_refused(self, host: Host, given: dict[str, Any]) -> None:
        with pytest.raises(ImageCacheError, match=f"{next(iter(given))}"):
            host.precache(**given)

    def test_empty_list_of_images_is_no_work(self, host: Host) -> None:
        result = host.precache(images=[])
        assert (result.changed, result.error, host.cached()) == (False, None, [])


def name_of(image_id: str) -> str:
    return hashlib.sha1(image_id.encode()).hexdigest()


def test_bytes_of_an_interrupted_run_are_not_taken_up(host: Host) -> None:
    left = host.cache_path / f".{BASE}.stackops-draft.{uuid.uuid4().hex}"
    left.write_bytes(b"half")
    host.precache(**brought(host))
    assert host.cached() == [BASE, f"{BASE}.info"]
    assert base(host).read_bytes() == RAW
