# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the bytes of an image may be, and how qemu-img is run on them: with real images, hostile ones above all."""

from __future__ import annotations

import multiprocessing
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch import convert
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.convert import (
    convert_to_raw,
    measure_bytes,
    why_not_acceptable,
    why_not_raw,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.converter import (
    Converter,
    find_converter,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.records import ImageRecord
from ansible_collections.stackops.nova.tests.support.constants import IMAGE
from ansible_collections.stackops.nova.tests.support.host import create_image, qemu_img_create
from ansible_collections.stackops.nova.tests.support.processes import NOBODY, needs_root, wait_until

MIB = 1 << 20
TIB = 1 << 40
HOSTILE = {
    "backing file": ("backing file", lambda path: create_image(path, over="/etc/shadow", unchecked=True)),
    "data file": (
        "external file",
        lambda path: qemu_img_create(path, "-f", "qcow2", "-o", f"data_file={path}.data,data_file_raw=on"),
    ),
    "encryption (AES)": ("encrypted", lambda path: with_header(path, 32, ">I", 1)),
    "encryption (LUKS)": ("encrypted", lambda path: with_header(path, 32, ">I", 2)),
    "unknown feature": ("unknown", lambda path: with_header(path, 72, ">Q", 1 << 63)),
    "mark of corruption": ("corrupt", lambda path: with_header(path, 72, ">Q", 2)),
    "version 1": ("header", lambda path: with_header(path, 4, ">I", 1)),
    "version 4": ("header", lambda path: with_header(path, 4, ">I", 4)),
    "clusters of 4 GiB": ("header", lambda path: with_header(path, 20, ">I", 32)),
    "no size": ("header", lambda path: with_header(path, 24, ">Q", 0)),
    "size beyond all": ("header", lambda path: with_header(path, 24, ">Q", 1 << 63)),
    "header that ends": ("whole", lambda path: shortened(path, 40)),
}
# The header promises more than the image has: QEMU finds that out.
LYING = {
    "virtual size": lambda path: with_header(path, 24, ">Q", 1 << 62),
    "first table": lambda path: with_header(path, 36, ">I", 1 << 31),
    "length of the header": lambda path: with_header(path, 100, ">I", 1 << 30),
}
OTHER_FORMATS = ("vmdk", "vhdx", "vpc", "vdi", "qed", "qcow")


def record(disk_format: str) -> ImageRecord:
    return ImageRecord(IMAGE, disk_format, "bare", "active", None, None, None)


def with_header(path: Path, offset: int, form: str, value: int) -> Path:
    """A qcow2 image with one field of its header changed."""
    create_image(path)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(struct.pack(form, value))
    return path


def shortened(path: Path, size: int) -> Path:
    create_image(path)
    os.truncate(path, size)
    return path


def image_of(path: Path, content: bytes, *options: str) -> Path:
    """A qcow2 image with this content."""
    raw = path.with_name(f"{path.name}.raw")
    raw.write_bytes(content)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, str(raw), str(path)], check=True)
    return path


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def why_not(path: Path, disk_format: str) -> str:
    with opened(path) as descriptor:
        return why_not_acceptable(descriptor, record(disk_format))


@pytest.fixture
def converter(tmp_path: Path) -> Converter:
    """qemu-img as it is found on this host, as the owner of a directory."""
    found = find_converter(None, tmp_path.stat())
    assert found is not None
    return found


def converted(converter: Converter, path: Path) -> Path:
    """The raw image that a qcow2 image becomes; both belong to the user that qemu-img runs as."""
    target = path.with_name("converted")
    target.touch()
    for each in (path, target):
        os.chown(each, converter.user, converter.group)
    with opened(path) as source, opened(target, os.O_RDWR) as descriptor:
        convert_to_raw(converter, source, descriptor, measure_bytes(converter, source))
    return target


class TestAcceptedImage:
    @pytest.mark.parametrize("disk_format", ["raw", "iso", "ami", "aki", "ari"])
    def test_bytes_of_no_other_format_are_cached_as_raw(self, tmp_path: Path, disk_format: str) -> None:
        path = tmp_path / "image"
        path.write_bytes(os.urandom(2000))
        assert why_not(path, disk_format) == ""

    @pytest.mark.parametrize("options", [(), ("-c",), ("-o", "compat=0.10"), ("-o", "extended_l2=on")])
    def test_plain_qcow2_image_is_accepted(self, tmp_path: Path, options: tuple[str, ...]) -> None:
        assert why_not(image_of(tmp_path / "image", b"content".ljust(MIB, b"\1"), *options), "qcow2") == ""

    def test_iso_image_is_raw(self, tmp_path: Path) -> None:
        path = tmp_path / "image"
        path.write_bytes(bytes(32768) + b"\1CD001\1" + bytes(4096))
        assert why_not(path, "iso") == ""

    def test_partition_table_is_raw(self, tmp_path: Path) -> None:
        path = tmp_path / "image"
        path.write_bytes(bytes(510) + b"\x55\xaa" + b"EFI PART" + bytes(4096))
        assert why_not(path, "raw") == ""


class TestHostileImages:
    @pytest.mark.parametrize("name", HOSTILE)
    def test_qcow2_image_with_a_hostile_header_is_refused(self, tmp_path: Path, name: str) -> None:
        reason, make = HOSTILE[name]
        assert reason in why_not(make(tmp_path / "image"), "qcow2")

    @pytest.mark.parametrize("image_format", OTHER_FORMATS)
    def test_image_of_another_format_is_no_raw_image(self, tmp_path: Path, image_format: str) -> None:
        path = tmp_path / "image"
        qemu_img_create(path, "-f", image_format)
        assert "another format" in why_not(path, "raw") or "qcow2" in why_not(path, "raw")

    def test_encrypted_image_is_no_raw_image(self, tmp_path: Path) -> None:
        path = tmp_path / "image"
        path.write_bytes(b"LUKS\xba\xbe\0\1".ljust(4096, b"\0"))
        assert "another format" in why_not(path, "raw")

    def test_qcow2_image_with_a_record_of_a_raw_one_is_refused(self, tmp_path: Path) -> None:
        assert "qcow2" in why_not(create_image(tmp_path / "image"), "raw")

    def test_raw_image_with_a_record_of_a_qcow2_one_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "image"
        path.write_bytes(b"raw".ljust(2000))
        assert "qcow2" in why_not(path, "qcow2")

    @pytest.mark.parametrize("disk_format", ["vmdk", "vhd", "vhdx", "vdi", "ploop", "qed"])
    def test_format_that_nova_alone_converts_is_refused(self, tmp_path: Path, disk_format: str) -> None:
        path = tmp_path / "image"
        path.write_bytes(b"whatever".ljust(2000))
        assert disk_format in why_not(path, disk_format)

    @pytest.mark.parametrize("name", LYING)
    def test_header_that_promises_too_much_ends_the_conversion(
        self, tmp_path: Path, converter: Converter, name: str
    ) -> None:
        path = LYING[name](tmp_path / "image")
        with pytest.raises(ImageCacheError, match="qemu-img measure could not read"):
            converted(converter, path)

    def test_header_inside_the_content_is_found_after_the_conversion(
        self, tmp_path: Path, converter: Converter
    ) -> None:
        inner = create_image(tmp_path / "inner", over="/etc/shadow", unchecked=True)
        outer = image_of(tmp_path / "outer", inner.read_bytes())
        assert why_not(outer, "qcow2") == ""
        with opened(converted(converter, outer)) as descriptor:
            assert "qcow2" in why_not_raw(descriptor)

    def test_sixty_tebibytes_of_nothing_take_no_space(self, tmp_path: Path, converter: Converter) -> None:
        path = qemu_img_create(tmp_path / "image", "-f", "qcow2", size="60T")
        os.chown(path, converter.user, converter.group)
        with opened(path) as source:
            assert measure_bytes(converter, source) < 16 << 30 < 60 * TIB

    def test_small_image_of_much_data_is_measured_as_much(self, tmp_path: Path, converter: Converter) -> None:
        path = image_of(tmp_path / "image", b"\1" * (64 * MIB), "-c")
        os.chown(path, converter.user, converter.group)
        assert path.stat().st_size < MIB
        with opened(path) as source:
            assert measure_bytes(converter, source) >= 64 * MIB


class TestConversion:
    @pytest.mark.parametrize("options", [(), ("-c",), ("-o", "compat=0.10"), ("-o", "cluster_size=2M")])
    def test_content_is_that_of_the_image(self, tmp_path: Path, converter: Converter, options: tuple[str, ...]) -> None:
        content = os.urandom(300_000).ljust(8 * MIB, b"\0")
        target = converted(converter, image_of(tmp_path / "image", content, *options))
        assert target.read_bytes() == content
        assert target.stat().st_blocks * 512 < MIB

    def test_writing_ends_at_the_size_of_the_header(
        self, tmp_path: Path, converter: Converter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = image_of(tmp_path / "image", b"\1" * MIB)
        read_content = convert.read_content
        monkeypatch.setattr(
            convert, "read_content", lambda descriptor: read_content(descriptor)._replace(virtual_bytes=4096)
        )
        with pytest.raises(ImageCacheError, match="qemu-img convert could not"):
            converted(converter, path)
        assert path.with_name("converted").stat().st_size == 4096


class TestQemuImgProcess:
    def measured(self, script: str) -> int:
        """What a script of the shell answers in its place."""
        command = ("/bin/sh", "-c", f'echo "{{\\"required\\": $({script})}}"')
        with opened(Path("/dev/null")) as source:
            return measure_bytes(Converter(command, NOBODY, NOBODY), source)

    @needs_root
    @pytest.mark.parametrize("script", ["id -u", "id -g", "id -G"])
    def test_root_runs_the_command_as_the_owner_of_the_cache(self, script: str) -> None:
        assert self.measured(script) == NOBODY

    @pytest.mark.parametrize(
        ("script", "most"), [("ulimit -v", 2 << 20), ("ulimit -t", 60), ("ulimit -f", 0), ("ulimit -c", 0)]
    )
    def test_command_has_limits_of_memory_time_and_size(self, script: str, most: int) -> None:
        assert self.measured(script) == most

    def test_command_has_the_lowest_priority(self) -> None:
        assert self.measured("nice") == 19

    @pytest.mark.parametrize("answer", ["", "text", "-1", "true", "1.5"])
    def test_answer_that_cannot_be_understood_is_a_failure(self, answer: str) -> None:
        with pytest.raises(ImageCacheError, match="cannot be understood"):
            self.measured(f"echo {answer}")

    @pytest.mark.parametrize(
        ("script", "reason"),
        [("exit 3", "its exit status is 3"), ("kill -9 $$", "it was killed"), ("kill -XCPU $$", "processor time")],
    )
    def test_failure_shows_how_the_process_ended(self, script: str, reason: str) -> None:
        with opened(Path("/dev/null")) as source, pytest.raises(ImageCacheError, match=reason):
            measure_bytes(Converter(("/bin/sh", "-c", script), NOBODY, NOBODY), source)

    def test_output_of_a_failed_process_is_not_shown(self) -> None:
        command = ("/bin/sh", "-c", "echo secret; echo secret >&2; exit 1")
        with opened(Path("/dev/null")) as source, pytest.raises(ImageCacheError) as error:
            measure_bytes(Converter(command, NOBODY, NOBODY), source)
        assert "secret" not in str(error.value)

    def test_killed_run_leaves_no_process(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o777)
        command = ("/bin/sh", "-c", f"mkdir {tmp_path}/$$; exec sleep 600")

        def run() -> None:
            with opened(Path("/dev/null")) as source:
                measure_bytes(Converter(command, os.getuid(), os.getgid()), source)

        child = multiprocessing.get_context("fork").Process(target=run)
        child.start()
        wait_until(lambda: os.listdir(tmp_path) != [])
        child.kill()
        child.join()
        [process] = os.listdir(tmp_path)
        wait_until(lambda: not is_running(int(process)))


def is_running(process: int) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
