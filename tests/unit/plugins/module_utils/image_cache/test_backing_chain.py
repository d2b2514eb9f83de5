# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a disk needs is what QEMU would open for it: each answer is compared with that of the real qemu-img."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.backing_chain import (
    Chain,
    Image,
    NoImageError,
    OutsideError,
    backing_path,
    follow_chain,
    open_image,
    probe_format,
    read_backing_name,
    read_image,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.disk_references import backing_file_resolver
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.tests.support import captures
from ansible_collections.stackops.nova.tests.support.host import qemu_img_create
from ansible_collections.stackops.nova.tests.support.params import run_command
from ansible_collections.stackops.nova.tests.support.processes import make_socket
from ansible_collections.stackops.nova.tools.cache_tree import overlay_bytes

STANDALONE = Image(None, None, None)
BACKING_FORMAT = 0xE2792ACA
FEATURE_NAMES = 0x6803F857
VMDK_DESCRIPTOR = b"# Disk DescriptorFile\nversion=1\n"
COMPATIBILITY = {"v2": "0.10", "v3": "1.1"}


def overlay(path: Path, backing_file: object, backing_format: str = "raw", compat: str = "1.1") -> Path:
    """A qcow2 overlay; what backs it need not exist."""
    return qemu_img_create(
        path, "-u", "-f", "qcow2", "-o", f"compat={compat}", "-b", backing_file, "-F", backing_format
    )


def raw(path: Path, content: bytes = b"") -> Path:
    path.write_bytes(content)
    os.truncate(path, max(1 << 20, len(content)))
    return path


def qcow2(
    name: bytes,
    *,
    version: int = 3,
    extensions: list[tuple[int, bytes]] | None = None,
    gap: int = 0,
    header_length: int | None = None,
    features: int = 0,
) -> bytes:
    """A valid qcow2 image, but for what is asked for otherwise."""
    image = bytearray(overlay_bytes(1 << 20, None, None, version))
    start = header_length or (72 if version == 2 else 104)
    parts = [
        struct.pack(">II", kind, len(content)) + content + bytes(-len(content) % 8)
        for kind, content in extensions or []
    ]
    head = b"".join([*parts, bytes(8), bytes(gap)])
    image[start : start + len(head) + len(name)] = head + name
    struct.pack_into(">QI", image, 8, start + len(head) if name else 0, len(name))
    if version == 3:
        struct.pack_into(">Q", image, 72, features)
        struct.pack_into(">I", image, 100, start)
    return bytes(image)


def qemu_img_info(path: Path) -> dict[str, Any] | None:
    """What qemu-img says; None where it refuses the image."""
    status, output, _error = run_command(["qemu-img", "info", "-U", "--output=json", str(path)])
    return json.loads(output) if status == 0 else None


def read(path: Path, image_format: str | None = None) -> Image:
    """What the header says, without anybody's help."""
    return read_image(str(path), image_format, no_command)


def no_command(command: list[str]) -> tuple[int, str, str]:
    raise AssertionError(f"the header should have been enough: {command}")


def assert_qemu_agrees(path: Path, image: Image) -> None:
    info = qemu_img_info(path)
    assert info is not None
    assert image == Image(info.get("backing-filename"), info.get("backing-filename-format"), None)
    if image.backing_file is not None:
        assert backing_path(str(path), image.backing_file) == info["full-backing-filename"]


def here(path: str) -> str | None:
    return path if os.path.exists(path) else None


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return tmp_path / "disk"


class TestHeader:
    @pytest.mark.parametrize("compat", COMPATIBILITY.values(), ids=COMPATIBILITY)
    @pytest.mark.parametrize(
        "name",
        [
            "/var/lib/nova/instances/_base/058d6f6126b0846e3d5636640cfbb53cf70a86a6",
            "base",
            "../_base/swap_64",
            "./a/../b",
            "../../etc/passwd",
            "/a:b/c:d",
            "./nbd:x",
            "name with spaces",
            "Größe",
            "new\nline",
            "x" * 1023,
        ],
        ids=lambda name: name[:20],
    )
    def test_name_and_format_of_the_backing_file_are_read(self, disk: Path, compat: str, name: str) -> None:
        image = read(overlay(disk, name, "raw", compat))
        assert image == Image(name, "raw", None)
        assert_qemu_agrees(disk, image)

    @pytest.mark.parametrize("backing_format", ["raw", "qcow2", "vmdk", "host_device"])
    def test_any_format_of_the_backing_file_is_read(self, disk: Path, backing_format: str) -> None:
        image = read(overlay(disk, "/base", backing_format))
        assert image == Image("/base", backing_format, None)
        assert_qemu_agrees(disk, image)

    @pytest.mark.parametrize("version", [2, 3])
    @pytest.mark.parametrize("name", ["/base", "base", None])
    def test_header_without_a_format_gives_none(self, disk: Path, version: int, name: str | None) -> None:
        disk.write_bytes(overlay_bytes(1 << 20, name, None, version))
        assert read(disk) == Image(name, None, None)
        assert_qemu_agrees(disk, read(disk))

    @pytest.mark.parametrize("compat", COMPATIBILITY.values(), ids=COMPATIBILITY)
    def test_header_without_a_backing_file_names_none(self, disk: Path, compat: str) -> None:
        image = read(qemu_img_create(disk, "-f", "qcow2", "-o", f"compat={compat}"))
        assert image == STANDALONE
        assert_qemu_agrees(disk, image)

    @pytest.mark.parametrize(("place", "kind"), [(8, "Q"), (16, "I")], ids=["no place", "no length"])
    def test_header_with_half_of_a_name_names_none(self, disk: Path, place: int, kind: str) -> None:
        disk.write_bytes(field(place, kind, 0))
        assert read(disk) == STANDALONE
        assert_qemu_agrees(disk, STANDALONE)

    @pytest.mark.parametrize(
        "options",
        ["lazy_refcounts=on", "compression_type=zstd", "extended_l2=on", "cluster_size=512", "cluster_size=2M"],
    )
    def test_features_that_leave_the_name_alone_change_nothing(self, disk: Path, options: str) -> None:
        image = read(qemu_img_create(disk, "-u", "-f", "qcow2", "-o", options, "-b", "/base", "-F", "raw"))
        assert image == Image("/base", "raw", None)
        assert_qemu_agrees(disk, image)

    @pytest.mark.parametrize("features", [1, 2, 3], ids=["dirty", "corrupt", "both"])
    def test_header_of_a_dirty_or_corrupt_image_is_read(self, disk: Path, features: int) -> None:
        disk.write_bytes(qcow2(b"/base", extensions=[(BACKING_FORMAT, b"qcow2")], features=features))
        assert read(disk) == Image("/base", "qcow2", None)
        assert_qemu_agrees(disk, read(disk))

    def test_name_far_behind_the_header_is_read(self, disk: Path) -> None:
        disk.write_bytes(
            qcow2(b"/base", extensions=[(FEATURE_NAMES, bytes(2000)), (BACKING_FORMAT, b"raw")], gap=60_000)
        )
        assert read(disk) == Image("/base", "raw", None)
        assert_qemu_agrees(disk, read(disk))

    @pytest.mark.parametrize(
        ("extensions", "counts"),
        [
            pytest.param([(BACKING_FORMAT, b"raw"), (BACKING_FORMAT, b"qcow2")], "qcow2", id="the last of two"),
            pytest.param([(BACKING_FORMAT, b"raw"), (0, b""), (BACKING_FORMAT, b"qcow2")], "raw", id="up to the end"),
            pytest.param([(BACKING_FORMAT, b"raw"), (0xFFFFFFFF, b"qcow2")], "raw", id="no other kind"),
            pytest.param([(BACKING_FORMAT, b"raw\0x")], "raw", id="up to a NUL byte"),
            pytest.param([(FEATURE_NAMES, b"a" * 9), (BACKING_FORMAT, b"raw")], "raw", id="behind padding"),
            pytest.param([(FEATURE_NAMES, bytes(9)), (BACKING_FORMAT, b"raw")], "raw", id="behind what looks like it"),
            pytest.param([(BACKING_FORMAT, b"a" * 8), (FEATURE_NAMES, b"b")], "a" * 8, id="8 bytes, and no padding"),
            pytest.param([(BACKING_FORMAT, b"a" * 15)], "a" * 15, id="15 bytes"),
            pytest.param([(BACKING_FORMAT, b"")], None, id="empty"),
            pytest.param([(BACKING_FORMAT, b"raw"), (BACKING_FORMAT, b"")], None, id="empty after all"),
        ],
    )
    def test_unusual_format_is_read_as_qemu_reads_it(
        self, disk: Path, extensions: list[tuple[int, bytes]], counts: str | None
    ) -> None:
        disk.write_bytes(qcow2(b"/base", extensions=extensions))
        assert read(disk) == Image("/base", counts, None)
        assert_qemu_agrees(disk, read(disk))

    def test_extensions_that_end_where_the_name_begins_are_read(self, disk: Path) -> None:
        for backing_format in ("raw", "a" * 8):
            image = bytearray(qcow2(b"/base", extensions=[(BACKING_FORMAT, backing_format.encode())]))
            place = image.index(b"/base") - 8
            image[place : place + 5] = b"/base"
            struct.pack_into(">Q", image, 8, place)
            disk.write_bytes(image)
            assert read(disk) == Image("/base", backing_format, None)
            assert_qemu_agrees(disk, read(disk))

    def test_empty_extension_that_ends_where_the_name_begins_is_read(self, disk: Path) -> None:
        image = bytearray(WHOLE)
        struct.pack_into(">II", image, WHOLE.index(b"/base") - 8, BACKING_FORMAT, 0)
        disk.write_bytes(image)
        assert read(disk) == Image("/base", None, None)
        assert_qemu_agrees(disk, read(disk))

    def test_name_that_ends_with_the_cluster_is_read(self, disk: Path) -> None:
        disk.write_bytes(qcow2(b"/base", gap=65536 - 117))
        assert read(disk) == Image("/base", None, None)
        assert_qemu_agrees(disk, read(disk))

    def test_header_that_ends_with_the_cluster_is_read(self, disk: Path) -> None:
        image = bytearray(qcow2(b""))
        struct.pack_into(">I", image, 100, 65536)
        disk.write_bytes(image)
        assert read(disk) == STANDALONE
        assert_qemu_agrees(disk, STANDALONE)

    @pytest.mark.parametrize(("version", "length"), [(2, 72), (3, 104)])
    def test_file_that_is_a_header_alone_is_read(self, disk: Path, version: int, length: int) -> None:
        disk.write_bytes(qcow2(b"", version=version)[:length])
        assert read(disk) == STANDALONE

    def test_name_that_is_not_utf8_is_unchanged(self, disk: Path) -> None:
        disk.write_bytes(overlay_bytes(1 << 20, b"/b\xffse", "raw"))
        assert os.fsencode(read(disk).backing_file or "") == b"/b\xffse"

    @pytest.mark.parametrize(
        "head",
        sorted((captures.CAPTURES / "steady").rglob("*.head")),
        ids=lambda head: head.parent.name[:8] + "/" + head.stem,
    )
    def test_headers_of_captured_disks_are_read_as_qemu_reads_them(self, head: Path) -> None:
        info = json.loads(
            (captures.CAPTURES / "steady" / "qemu-img-info" / f"{head.parent.name}.{head.stem}.json").read_text()
        )
        assert read(head) == Image(info["backing-filename"], info["backing-filename-format"], None)


class TestOpening:
    def test_disk_that_was_moved_and_linked_is_read(self, tmp_path: Path, disk: Path) -> None:
        overlay(tmp_path / "moved", "/base")
        disk.symlink_to("moved")
        assert read(disk) == Image("/base", "raw", None)

    def test_no_descriptor_is_left_open(self, disk: Path) -> None:
        overlay(disk, "/base")
        before = os.listdir("/proc/self/fd")
        read(disk)
        disk.write_bytes(INVALID_HEADERS["version 4"][0])
        with pytest.raises(ImageCacheError):
            read(disk)
        assert os.listdir("/proc/self/fd") == before


class TestFormat:
    def test_raw_disk_needs_nothing_whatever_its_guest_wrote(self, disk: Path) -> None:
        overlay(disk, "/etc/passwd")
        assert read(disk, json.loads('"raw"')) == STANDALONE

    def test_file_of_four_bytes_is_a_raw_disk(self, disk: Path) -> None:
        disk.write_bytes(b"disk")
        assert read(disk) == STANDALONE
        assert_qemu_agrees(disk, STANDALONE)

    def test_first_bytes_decide_where_no_format_is_recorded(self, disk: Path) -> None:
        image = read(raw(disk, b"QFI no image"))
        assert image == STANDALONE
        assert_qemu_agrees(disk, image)

    def test_raw_file_that_is_recorded_as_qcow2_is_unknown_use(self, disk: Path) -> None:
        with pytest.raises(ImageCacheError, match=f"{disk} should be a qcow2 image and does not begin like one"):
            read(raw(disk), json.loads('"qcow2"'))


def field(offset: int, kind: str, value: int) -> bytes:
    """A header with one field that is wrong."""
    image = bytearray(qcow2(b"/base", extensions=[(BACKING_FORMAT, b"raw")]))
    struct.pack_into(">" + kind, image, offset, value)
    return bytes(image)


WHOLE = qcow2(b"/base", extensions=[(BACKING_FORMAT, b"raw")])
INVALID_HEADERS = {
    "empty": (b"", "too short to be a disk image (0 bytes)"),
    "three bytes": (b"QFI", "too short to be a disk image (3 bytes)"),
    "only the magic": (WHOLE[:4], "its header ends after 4 bytes"),
    "cut off in the header": (WHOLE[:71], "its header ends after 71 bytes"),
    "cut off in version 3's part": (WHOLE[:103], "its header ends after 103 bytes"),
    "cut off in the name": (WHOLE[: WHOLE.index(b"/base") + 3], "its backing file's name ends at"),
    "version 0": (field(4, "I", 0), "its version is 0"),
    "version 4": (field(4, "I", 4), "its version is 4"),
    "tiny clusters": (field(20, "I", 8), "its clusters have 2^8 bytes"),
    "huge clusters": (field(20, "I", 22), "its clusters have 2^22 bytes"),
    "endless clusters": (field(20, "I", 2**32 - 1), "its clusters have 2^4294967295 bytes"),
    "name of 1024 bytes": (qcow2(b"x" * 1024), "its backing file's name has 1024 bytes"),
    "endless name": (field(16, "I", 2**32 - 1), "its backing file's name has 4294967295 bytes"),
    "name out of its cluster": (field(8, "Q", 65535), "its backing file's name has 5 bytes and stands at 65535"),
    "name out of the world": (field(8, "Q", 2**64 - 1), "stands at 18446744073709551615"),
    "name behind the end": (qcow2(b"/base", gap=60_000)[:60_000], "the file at 60000"),
    "name with NUL": (qcow2(b"/ba\0se"), "its backing file's name has a NUL byte"),
    "short header": (field(100, "I", 103), "its header is 103 bytes long"),
    "header longer than its cluster": (field(100, "I", 65537), "its header is 65537 bytes long"),
    "extension into the name": (field(108, "I", 1000), "one of its header extensions is 1000 bytes long"),
    "extension one byte into the name": (field(108, "I", 17), "one of its header extensions is 17 bytes long"),
    "endless extension": (field(108, "I", 2**32 - 1), "one of its header extensions is 4294967295 bytes long"),
    "format of 16 bytes": (qcow2(b"/base", extensions=[(BACKING_FORMAT, b"a" * 16)]), "format has a name of 16 bytes"),
}  # fmt: skip

# QEMU takes for raw what it does not recognise, zeros for what is behind the end, and NUL for the end of a name.
MENDED = {
    "empty",
    "three bytes",
    "only the magic",
    "version 0",
    "cut off in the name",
    "name behind the end",
    "name with NUL",
}


class TestInvalidHeader:
    @pytest.mark.parametrize(("content", "complaint"), INVALID_HEADERS.values(), ids=INVALID_HEADERS)
    def test_invalid_header_is_unknown_use(self, disk: Path, content: bytes, complaint: str) -> None:
        disk.write_bytes(content)
        with pytest.raises(ImageCacheError) as error:
            read(disk)
        assert str(disk) in str(error.value)
        assert complaint in str(error.value)

    @pytest.mark.parametrize("name", sorted(INVALID_HEADERS.keys() - MENDED))
    def test_qemu_refuses_an_invalid_header_as_well(self, disk: Path, name: str) -> None:
        disk.write_bytes(INVALID_HEADERS[name][0])
        assert qemu_img_info(disk) is None

    @pytest.mark.parametrize(
        "name", ["json:{}", 'json:{"driver":"nbd"}', "nbd://host/export", "rbd:pool/image", "http://x/y", ":"]
    )
    def test_name_that_is_not_a_files_is_unknown_use(self, disk: Path, name: str) -> None:
        disk.write_bytes(overlay_bytes(1 << 20, name, "raw"))
        assert read(disk).backing_file == name
        with pytest.raises(ImageCacheError) as error:
            follow_chain(str(disk), None, here, no_command)
        assert f"{disk} is backed by '{name.partition(':')[0]}:…', which is not a file's name" in str(error.value)

    def test_password_in_a_name_is_not_shown(self, disk: Path) -> None:
        disk.write_bytes(overlay_bytes(1 << 20, "rbd:pool/image:id=admin:key=SECRET", "raw"))
        with pytest.raises(ImageCacheError) as error:
            follow_chain(str(disk), None, here, no_command)
        assert "SECRET" not in str(error.value)

    @pytest.mark.parametrize("image_format", [None, "qcow2"])
    @pytest.mark.parametrize(
        ("make", "complaint"),
        [
            (os.mkfifo, "cannot be read: it is not a regular file"),
            (os.mkdir, "cannot be read: Is a directory"),
            (make_socket, "cannot be read: No such device or address"),
            (lambda path: path.symlink_to("/dev/null"), "cannot be read: it is a link to what is not a regular file"),
            (lambda path: path.symlink_to("/"), "cannot be read: it is a link to what is not a regular file"),
            (lambda path: path.symlink_to(path.name), "cannot be read: Too many levels of symbolic links"),
        ],
        ids=["FIFO", "directory", "socket", "link to a device", "link to a directory", "circle"],
    )
    def test_disk_that_is_not_a_file_is_unknown_use_and_is_not_waited_for(
        self, disk: Path, make: Callable[[Path], None], complaint: str, image_format: str | None
    ) -> None:
        make(disk)
        with pytest.raises(ImageCacheError) as error:
            read(disk, image_format)
        assert str(error.value).startswith(f"{disk} {complaint}")

    @pytest.mark.parametrize("image_format", [None, "qcow2"])
    def test_device_is_unknown_use(self, image_format: str | None) -> None:
        with pytest.raises(ImageCacheError, match=r"^/dev/null is not a regular file"):
            read(Path("/dev/null"), image_format)

    @pytest.mark.parametrize("image_format", [None, "qcow2", "vmdk"])
    def test_disk_that_is_gone_raises_file_not_found(self, disk: Path, image_format: str | None) -> None:
        with pytest.raises(FileNotFoundError):
            read(disk, image_format)

    def test_hostile_name_is_shown_on_one_short_line(self, disk: Path) -> None:
        disk.write_bytes(overlay_bytes(1 << 20, b"n\n\xff" + b"x" * 900 + b":", "raw"))
        with pytest.raises(ImageCacheError) as error:
            follow_chain(str(disk), None, here, no_command)
        assert "'n\\n\\xff" + "x" * 17 + ":…'" in str(error.value)
        assert len(str(error.value)) < 300 + len(str(disk))


class TestBackingName:
    """The name in a header, on a disk that is said to be raw."""

    @pytest.mark.parametrize("version", [2, 3])
    @pytest.mark.parametrize("name", ["/base", "../_base/x", "json:{}", "x" * 1023])
    def test_name_is_read_as_it_stands(self, disk: Path, version: int, name: str) -> None:
        disk.write_bytes(overlay_bytes(1 << 20, name, "raw", version))
        assert read_backing_name(str(disk)) == name

    def test_name_is_read_whatever_features_the_image_has(self, disk: Path) -> None:
        disk.write_bytes(qcow2(b"/base", features=1 << 40))
        assert read_backing_name(str(disk)) == "/base"

    def test_name_far_behind_the_header_is_read(self, disk: Path) -> None:
        disk.write_bytes(qcow2(b"/base", gap=60_000))
        assert read_backing_name(str(disk)) == "/base"

    def test_name_of_an_old_qcow_image_is_read(self, disk: Path) -> None:
        qemu_img_create(disk, "-u", "-f", "qcow", "-b", "/base", "-F", "raw")
        assert read_backing_name(str(disk)) == "/base"

    @pytest.mark.parametrize("name", sorted(INVALID_HEADERS))
    def test_invalid_header_is_refused_only_where_no_guest_can_have_written_it(self, disk: Path, name: str) -> None:
        disk.write_bytes(INVALID_HEADERS[name][0])
        if name in ("empty", "three bytes"):
            with pytest.raises(NoImageError, match="too short to be a disk image"):
                read_backing_name(str(disk))
        elif name in ("only the magic", "cut off in the header", "cut off in version 3's part"):
            with pytest.raises(ImageCacheError, match="its header ends after"):
                read_backing_name(str(disk))
        else:
            read_backing_name(str(disk))

    @pytest.mark.parametrize(
        "make",
        [
            os.mkfifo,
            os.mkdir,
            make_socket,
            lambda path: path.symlink_to("/dev/null"),
            lambda path: path.symlink_to("/"),
            lambda path: path.symlink_to(path.name),
            lambda path: path.write_bytes(b"raw data"),
            lambda path: path.write_bytes(overlay_bytes(1 << 20, None, None)),
        ],
        ids=["FIFO", "directory", "socket", "link to a device", "link to a directory", "circle", "raw", "standalone"],
    )
    def test_file_without_a_name_names_nothing(self, disk: Path, make: Callable[[Path], None]) -> None:
        make(disk)
        assert read_backing_name(str(disk)) is None

    def test_disk_that_is_gone_raises_file_not_found(self, disk: Path) -> None:
        with pytest.raises(FileNotFoundError):
            read_backing_name(str(disk))


class TestBackingPath:
    @pytest.mark.parametrize(
        ("name", "path"),
        [
            ("/base", "/base"),
            ("base", "/i/uuid/base"),
            ("../_base/b", "/i/uuid/../_base/b"),
            ("./a:b", "/i/uuid/./a:b"),
            ("a/b:c", "/i/uuid/a/b:c"),
            ("file:/base", "/base"),
        ],
    )
    def test_relative_name_counts_from_the_image(self, name: str, path: str) -> None:
        assert backing_path("/i/uuid/disk", name) == path


class TestChain:
    @pytest.mark.parametrize("compat", COMPATIBILITY.values(), ids=COMPATIBILITY)
    @pytest.mark.parametrize("depth", [1, 2, 3])
    @pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
    def test_chain_is_followed_to_its_end(self, tmp_path: Path, compat: str, depth: int, relative: bool) -> None:
        for folder in ("_base", "uuid"):
            (tmp_path / folder).mkdir()
        below, below_format = raw(tmp_path / "_base" / "0"), "raw"
        files = [str(below)]
        for level in range(1, depth + 1):
            path = tmp_path / "_base" / str(level) if level < depth else tmp_path / "uuid" / "disk"
            name = os.path.relpath(below, path.parent) if relative else below
            below, below_format = overlay(path, name, below_format, compat), "qcow2"
            files.append(str(path))
        chain = follow_chain(str(below), None, here, no_command)
        assert [os.path.normpath(file) for file in chain.files] == files[-2::-1]
        assert (chain.missing, chain.is_incomplete) == (None, False)
        assert list(chain.files) == [
            image["full-backing-filename"] for image in whole_chain(below) if "full-backing-filename" in image
        ]

    def test_first_bytes_decide_where_no_header_gives_a_format(self, tmp_path: Path) -> None:
        raw(tmp_path / "base")
        (tmp_path / "middle").write_bytes(overlay_bytes(1 << 20, "base", None))
        (tmp_path / "disk").write_bytes(overlay_bytes(1 << 20, "middle", None))
        chain = follow_chain(str(tmp_path / "disk"), None, here, no_command)
        assert chain == Chain((f"{tmp_path}/middle", f"{tmp_path}/base"), None)

    def test_base_that_a_header_calls_raw_ends_the_chain(self, tmp_path: Path) -> None:
        overlay(tmp_path / "middle", "/etc/passwd")
        overlay(tmp_path / "disk", "middle", "raw")
        assert follow_chain(str(tmp_path / "disk"), None, here, no_command) == Chain((f"{tmp_path}/middle",), None)

    def test_last_of_two_formats_in_a_header_decides_where_the_chain_ends(self, tmp_path: Path) -> None:
        overlay(tmp_path / "middle", raw(tmp_path / "base"))
        (tmp_path / "disk").write_bytes(
            qcow2(b"middle", extensions=[(BACKING_FORMAT, b"raw"), (BACKING_FORMAT, b"qcow2")])
        )
        assert len(whole_chain(tmp_path / "disk")) == 3
        chain = follow_chain(str(tmp_path / "disk"), None, here, no_command)
        assert chain == Chain((f"{tmp_path}/middle", f"{tmp_path}/base"), None)

    def test_unknown_format_is_unknown_use(self, tmp_path: Path) -> None:
        raw(tmp_path / "base")
        (tmp_path / "disk").write_bytes(qcow2(b"base", extensions=[(BACKING_FORMAT, b"ra\0w")]))
        with pytest.raises(ImageCacheError, match=f"{tmp_path}/base is an image that only qemu-img can read"):
            follow_chain(str(tmp_path / "disk"), None, here, run_command)

    @pytest.mark.parametrize("lost", ["base", "middle"])
    def test_missing_file_is_named(self, tmp_path: Path, lost: str) -> None:
        overlay(tmp_path / "middle", raw(tmp_path / "base"))
        overlay(tmp_path / "disk", tmp_path / "middle", "qcow2")
        (tmp_path / lost).unlink()
        files = (f"{tmp_path}/middle",) if lost == "base" else ()
        assert follow_chain(str(tmp_path / "disk"), None, here, no_command) == Chain(
            files, f"{tmp_path}/{lost}", is_incomplete=lost == "middle"
        )

    @pytest.mark.parametrize("backing_format", [None, "qcow2", "vmdk"])
    def test_chain_below_a_missing_file_is_incomplete_unless_the_file_is_raw(
        self, tmp_path: Path, backing_format: str | None
    ) -> None:
        (tmp_path / "disk").write_bytes(overlay_bytes(1 << 20, "/lost", backing_format))
        chain = follow_chain(str(tmp_path / "disk"), None, here, no_command)
        assert chain == Chain((), "/lost", is_incomplete=True)

    def test_chain_below_a_file_that_vanishes_meanwhile_is_incomplete(self, tmp_path: Path) -> None:
        overlay(tmp_path / "disk", "/base", "qcow2")
        chain = follow_chain(str(tmp_path / "disk"), None, lambda path: f"{tmp_path}/elsewhere{path}", no_command)
        assert chain == Chain((), f"{tmp_path}/elsewhere/base", is_incomplete=True)

    def test_files_above_a_missing_one_are_needed_still(self, tmp_path: Path) -> None:
        overlay(tmp_path / "middle", "/lost", "qcow2")
        overlay(tmp_path / "disk", "/middle", "qcow2")
        chain = follow_chain(str(tmp_path / "disk"), None, lambda path: f"{tmp_path}{path}", no_command)
        assert chain == Chain((f"{tmp_path}/middle",), f"{tmp_path}/lost", is_incomplete=True)

    def test_chain_goes_on_at_the_path_where_a_file_is_found(self, tmp_path: Path) -> None:
        overlay(tmp_path / "found", "/lost/base")
        overlay(tmp_path / "disk", "/lost/middle", "qcow2")
        places = {"/lost/middle": f"{tmp_path}/found", "/lost/base": "/here/base"}
        chain = follow_chain(str(tmp_path / "disk"), None, places.get, no_command)
        assert chain == Chain((f"{tmp_path}/found", "/here/base"), None)

    @pytest.mark.parametrize("length", [1, 2, 3])
    def test_circle_ends_where_it_began(self, tmp_path: Path, length: int) -> None:
        for number in range(length):
            below = tmp_path / str((number + 1) % length)
            (tmp_path / str(number)).write_bytes(overlay_bytes(1 << 20, str(below), "qcow2"))
        chain = follow_chain(str(tmp_path / "0"), None, here, no_command)
        assert chain.missing is None
        assert set(chain.files) == {f"{tmp_path}/{number}" for number in range(length)}

    def test_invalid_header_further_down_is_unknown_use(self, tmp_path: Path) -> None:
        (tmp_path / "middle").write_bytes(INVALID_HEADERS["version 4"][0])
        overlay(tmp_path / "disk", "middle", "qcow2")
        with pytest.raises(ImageCacheError, match=f"{tmp_path}/middle is not a valid qcow2 image"):
            follow_chain(str(tmp_path / "disk"), None, here, no_command)


class TestFileOutside:
    """A file outside of the instances directory is not followed, so it has to be certain that it is raw."""

    def follow(self, disk: Path, image_format: str | None = "qcow2", *, opened: list[str] | None = None) -> Chain:
        """The chain of a disk in its directory of instances; the files that are opened for it are added to a list."""

        def open_file(path: str) -> int:
            if opened is not None:
                opened.append(path)
            return open_image(path)

        resolve = backing_file_resolver(str(disk.parent / "_base"), {}, str(disk.parent))
        return follow_chain(str(disk), image_format, resolve, run_command, open_file)

    @pytest.fixture
    def disk(self, tmp_path: Path) -> Path:
        (tmp_path / "instances").mkdir()
        return tmp_path / "instances" / "disk"

    def test_file_that_the_header_calls_raw_ends_the_chain_and_is_not_opened(self, tmp_path: Path, disk: Path) -> None:
        (tmp_path / "image").write_bytes(qcow2(b"/base"))
        overlay(disk, tmp_path / "image", "raw")
        opened: list[str] = []
        assert self.follow(disk, opened=opened) == Chain((), None)
        assert opened == [str(disk)]

    def test_file_that_the_header_gives_no_format_ends_the_chain_if_it_begins_raw(
        self, tmp_path: Path, disk: Path
    ) -> None:
        image = raw(tmp_path / "image")
        disk.write_bytes(qcow2(os.fsencode(image)))
        before = os.listdir("/proc/self/fd")
        assert self.follow(disk) == Chain((), None)
        assert os.listdir("/proc/self/fd") == before

    @pytest.mark.parametrize(
        "content", [qcow2(b"/base"), b"KDMV", VMDK_DESCRIPTOR], ids=["qcow2", "vmdk", "descriptor"]
    )
    def test_file_of_another_format_is_unknown_use(self, tmp_path: Path, disk: Path, content: bytes) -> None:
        image = raw(tmp_path / "image", content)
        disk.write_bytes(qcow2(os.fsencode(image)))
        with pytest.raises(OutsideError, match=f"^The backing file {image} is outside of {disk.parent}"):
            self.follow(disk)

    def test_file_on_a_disk_whose_own_format_nothing_says_is_unknown_use(self, tmp_path: Path, disk: Path) -> None:
        """A guest may have written the header."""
        disk.write_bytes(qcow2(os.fsencode(raw(tmp_path / "image"))))
        with pytest.raises(OutsideError):
            self.follow(disk, None)

    def test_file_below_another_file_is_unknown_use(self, tmp_path: Path, disk: Path) -> None:
        """A tenant may have uploaded the image of the file above it."""
        middle = disk.parent / "middle"
        middle.write_bytes(qcow2(os.fsencode(raw(tmp_path / "image"))))
        overlay(disk, middle, "qcow2")
        with pytest.raises(OutsideError):
            self.follow(disk)

    def test_file_whose_format_is_said_and_is_not_raw_is_unknown_use(self, tmp_path: Path, disk: Path) -> None:
        overlay(disk, raw(tmp_path / "image"), "qcow2")
        with pytest.raises(OutsideError):
            self.follow(disk)

    def test_file_that_cannot_be_read_is_unknown_use(self, disk: Path) -> None:
        disk.write_bytes(qcow2(b"/proc/self/mem"))  # nothing is at its address 0
        with pytest.raises(OutsideError):
            self.follow(disk)

    def test_device_is_not_even_opened(self, disk: Path) -> None:
        disk.write_bytes(qcow2(b"/dev/zero"))
        opened: list[str] = []
        with pytest.raises(OutsideError):
            self.follow(disk, opened=opened)
        assert opened == [str(disk)]

    def test_external_data_file_is_not_needed(self, tmp_path: Path, disk: Path) -> None:
        qemu_img_create(disk, "-f", "qcow2", "-o", f"data_file={tmp_path / 'data.raw'}")
        assert self.follow(disk) == Chain((), None)


@pytest.mark.parametrize(
    ("start", "image_format"),
    [
        (qcow2(b"/base"), "qcow2"),
        (b"\0" * 1024, "raw"),
        (b"QFI\xfa", "raw"),
        (b"QFI\xfc", "raw"),
        (b"KDMV", None),
        (VMDK_DESCRIPTOR, None),
    ],
    ids=["qcow2", "zeros", "less than qcow2", "more than qcow2", "vmdk", "descriptor of vmdk"],
)
def test_format_is_known_by_the_first_bytes(start: bytes, image_format: str | None) -> None:
    assert probe_format(start) == image_format


def whole_chain(path: Path) -> list[dict[str, Any]]:
    return json.loads(run_command(["qemu-img", "info", "-U", "--backing-chain", "--output=json", str(path)])[1])


class TestOtherFormats:
    """Where a header is not enough, qemu-img is asked."""

    def make(self, kind: str, tmp_path: Path) -> Path:
        disk, base = tmp_path / "disk", tmp_path / "base"
        if kind == "vmdk":
            qemu_img_create(base, "-f", "vmdk")
        else:
            raw(base)
        return qemu_img_create(disk, "-f", kind, "-b", base, "-F", "vmdk" if kind == "vmdk" else "raw")

    @pytest.mark.parametrize("kind", ["qed", "vmdk", "qcow"])
    @pytest.mark.parametrize("said", [False, True], ids=["format not said", "format said"])
    def test_backing_file_of_another_format_is_found(self, tmp_path: Path, kind: str, said: bool) -> None:
        disk = self.make(kind, tmp_path)
        image = read_image(str(disk), kind if said else None, run_command)
        assert image.backing_file == str(tmp_path / "base")
        assert_qemu_agrees(disk, image)
        assert follow_chain(str(disk), kind if said else None, here, run_command).files == (f"{tmp_path}/base",)

    @pytest.mark.parametrize("first_line", [b"# Disk DescriptorFile\n", b"", b"  \n"], ids=repr)
    def test_descriptor_of_vmdk_is_read_with_any_first_line(self, tmp_path: Path, first_line: bytes) -> None:
        base, disk = qemu_img_create(tmp_path / "base", "-f", "vmdk"), tmp_path / "disk"
        qemu_img_create(disk, "-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", "-b", base, "-F", "vmdk")
        disk.write_bytes(disk.read_bytes().replace(b"# Disk DescriptorFile\n", first_line, 1))
        assert_qemu_agrees(disk, read_image(str(disk), None, run_command))
        assert follow_chain(str(disk), None, here, run_command).files == (str(base),)

    @pytest.mark.parametrize("kind", ["qed", "vmdk", "vdi", "vhdx", "vpc", "parallels"])
    def test_image_of_another_format_without_a_backing_file_needs_nothing(self, disk: Path, kind: str) -> None:
        qemu_img_create(disk, "-f", kind)
        assert read_image(str(disk), None, run_command) == STANDALONE
        assert read_image(str(disk), kind, run_command) == STANDALONE

    def test_external_data_file_is_needed_too(self, tmp_path: Path) -> None:
        raw(tmp_path / "base")
        data = tmp_path / "data.raw"
        disk = qemu_img_create(
            tmp_path / "disk", "-f", "qcow2", "-o", f"data_file={data}", "-b", tmp_path / "base", "-F", "raw"
        )
        assert read_image(str(disk), "qcow2", run_command) == Image(f"{tmp_path}/base", "raw", str(data))
        chain = follow_chain(str(disk), None, here, run_command)
        assert chain == Chain((str(data), f"{tmp_path}/base"), None)

    def test_external_data_file_is_needed_where_there_is_no_backing_file(self, tmp_path: Path) -> None:
        data = tmp_path / "data.raw"
        disk = qemu_img_create(tmp_path / "disk", "-f", "qcow2", "-o", f"data_file={data},data_file_raw=on")
        assert follow_chain(str(disk), None, here, run_command) == Chain((str(data),), None)

    def test_relative_name_of_a_data_file_counts_from_the_image(self, tmp_path: Path) -> None:
        data = tmp_path / "data.raw"
        disk = qemu_img_create(tmp_path / "disk", "-f", "qcow2", "-o", f"data_file={data}")
        disk.write_bytes(disk.read_bytes().replace(os.fsencode(data), b"data.raw".ljust(len(os.fsencode(data)), b"\0")))
        info = qemu_img_info(disk)
        assert info is not None
        assert follow_chain(str(disk), None, here, run_command).files == (str(data),)

    def test_missing_data_file_is_named(self, tmp_path: Path) -> None:
        disk = qemu_img_create(tmp_path / "disk", "-f", "qcow2", "-o", f"data_file={tmp_path}/data.raw")
        (tmp_path / "data.raw").unlink()
        assert follow_chain(str(disk), None, here, run_command) == Chain((), f"{tmp_path}/data.raw")

    def test_unknown_feature_is_unknown_use(self, disk: Path) -> None:
        disk.write_bytes(qcow2(b"/base", features=1 << 40))
        with pytest.raises(ImageCacheError, match=r"could not \(exit status 1\)"):
            read_image(str(disk), None, run_command)

    @pytest.mark.parametrize("image_format", ["nonsense", "-U", "raw\0", "\ud800"], ids=ascii)
    def test_unknown_format_is_unknown_use(self, disk: Path, image_format: str) -> None:
        raw(disk)
        with pytest.raises(ImageCacheError, match=f"{disk} is an image that only qemu-img can read"):
            read_image(str(disk), image_format, run_command)


@pytest.fixture(scope="module")
def any_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One path for all examples of a property."""
    return tmp_path_factory.mktemp("property") / "disk"


def answer(path: Path, image_format: str | None) -> Image | str:
    """What we read; else why not."""
    try:
        return read_image(str(path), image_format, run_command)
    except ImageCacheError as error:
        return str(error)


def no_qemu_img(_command: list[str]) -> tuple[int, str, str]:
    raise FileNotFoundError(2, "No such file or directory")


kinds = st.sampled_from([BACKING_FORMAT, FEATURE_NAMES, 0x23852875, 0x44415441, 0, 7])
contents = st.one_of(st.sampled_from([b"raw", b"qcow2", b"vmdk", b"raw\0raw"]), st.binary(max_size=17))
file_names = st.one_of(st.just(b""), st.text("ab/.: é", min_size=1, max_size=10).map(str.encode), st.binary(max_size=5))
images = st.builds(
    lambda version, header_length, **parts: qcow2(
        version=version, header_length=header_length if version == 3 else None, **parts
    ),
    version=st.sampled_from([2, 3]),
    header_length=st.sampled_from([104, 112, 160]),
    name=file_names,
    extensions=st.lists(st.tuples(kinds, contents), max_size=4),
    gap=st.sampled_from([0, 1, 8, 1000]),
    features=st.sampled_from([0, 0, 0, 1, 2, 1 << 2, 1 << 3, 1 << 4, 1 << 5]),
)
offsets = st.one_of(st.integers(0, 159), st.sampled_from([7, 15, 14, 19, 18, 23, 79, 103, 102, 107, 111]))
changes = st.lists(st.tuples(offsets, st.integers(0, 255)), max_size=3)


def changed(image: bytes, edits: list[tuple[int, int]]) -> bytes:
    made = bytearray(image)
    for offset, value in edits:
        made[offset] = value
    return bytes(made)


@settings(max_examples=150)
@given(image=st.builds(changed, images, st.one_of(st.just([]), changes)))
def test_header_that_qemu_reads_is_read_the_same(any_disk: Path, image: bytes) -> None:
    any_disk.write_bytes(image)
    info = qemu_img_info(any_disk)
    assume(info is not None)
    assert info is not None
    ours = answer(any_disk, None)
    if isinstance(ours, str):
        # See MENDED.
        assert "NUL byte" in ours or "its version is 0" in ours
        return
    theirs = Image(info.get("backing-filename"), info.get("backing-filename-format"), None)
    whole = theirs._replace(backing_file=info.get("full-backing-filename"))
    # JSON cannot represent all that is not ASCII.
    if "".join(filter(None, ours)).isascii():
        assert ours._replace(data_file=None) in (theirs, whole)


@settings(max_examples=300)
@given(
    content=st.one_of(st.binary(), st.binary().map(WHOLE[:4].__add__), st.builds(changed, images, changes)),
    length=st.one_of(st.none(), st.integers(0, 300)),
    image_format=st.sampled_from([None, "qcow2", "raw", "vmdk"]),
)
def test_any_bytes_are_understood_or_refused(
    any_disk: Path, content: bytes, length: int | None, image_format: str | None
) -> None:
    any_disk.write_bytes(content[:length])
    try:
        chain = follow_chain(str(any_disk), image_format, here, no_qemu_img)
    except ImageCacheError:
        return
    assert image_format is None or image_format == "raw" or content.startswith(WHOLE[:4])
    assert all(os.path.exists(file) for file in chain.files)
