# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""qemu-img is asked within limits, and whatever it answers, the use of a disk is known or said to be unknown."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.backing_chain import read_image
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.tests.support.host import qemu_img_create
from ansible_collections.stackops.nova.tests.support.params import run_command


class TestAskingQemuImg:
    """The command is handed in; here it is not qemu-img that answers."""

    @pytest.fixture
    def disk(self, tmp_path: Path) -> Path:
        return qemu_img_create(tmp_path / "disk", "-f", "qed")

    def test_command_has_limits_and_the_known_format(self, disk: Path) -> None:
        commands = []

        def remember(command: list[str]) -> tuple[int, str, str]:
            commands.append(" ".join(command))
            return 0, "{}", ""

        read_image(str(disk), None, remember)
        read_image(os.path.relpath(disk), "qed", remember)
        limits = "timeout --kill-after=5 30 prlimit --as=1073741824 --cpu=30 --"
        assert commands == [
            f"{limits} qemu-img info -U --output=json {disk}",
            f"{limits} qemu-img info -U --output=json -f qed {disk}",
        ]

    @pytest.mark.parametrize("image_format", ["qcow", "qcow2"])
    def test_version_in_the_header_decides_which_format_is_asked_for(self, disk: Path, image_format: str) -> None:
        commands = []
        qemu_img_create(disk, "-f", image_format, *(["-o", f"data_file={disk}.raw"] if image_format == "qcow2" else []))
        read_image(str(disk), None, lambda command: commands.append(command) or (0, "{}", ""))
        assert [command[-3:] for command in commands] == [["-f", image_format, str(disk)]]

    @pytest.mark.parametrize("status", [124, 137], ids=["ended", "killed"])
    def test_command_that_hangs_is_unknown_use(self, disk: Path, status: int) -> None:
        with pytest.raises(
            ImageCacheError, match=f"{disk} .* only qemu-img can read, and it did not answer within 30 seconds"
        ):
            read_image(str(disk), None, lambda _command: (status, "", ""))

    @pytest.mark.parametrize("status", [1, -9], ids=["failed", "killed"])
    def test_output_of_the_command_is_not_shown_and_the_way_to_see_it_is(self, disk: Path, status: int) -> None:
        with pytest.raises(ImageCacheError) as error:
            read_image(str(disk), None, lambda _command: (status, "", f"Invalid extent line: SECRET of {disk}\n"))
        assert "SECRET" not in str(error.value)
        assert f"(exit status {status}). Run qemu-img info -U {disk} on this host to see why." in str(error.value)

    @pytest.mark.parametrize(
        ("missing", "package"),
        [
            ("timeout", "coreutils"),
            ("prlimit", "util-linux"),
            ("qemu-img", "qemu-utils (Debian, Ubuntu) or qemu-img (Fedora, RHEL)"),
        ],
    )
    def test_command_that_is_missing_is_named_with_its_package(
        self, disk: Path, missing: str, package: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        commands = disk.parent / "bin"
        commands.mkdir()
        for command in {"timeout", "prlimit", "qemu-img"} - {missing}:
            (commands / command).symlink_to(str(shutil.which(command)))
        monkeypatch.setenv("PATH", str(commands))
        with pytest.raises(ImageCacheError) as error:
            read_image(str(disk), None, run_command)
        assert str(error.value) == (
            f"{disk} is an image that only qemu-img can read, and the command {missing} is missing on this host. "
            f"Install the package {package}."
        )

    def test_command_without_its_interpreter_is_unknown_use(self, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        commands = disk.parent / "bin"
        commands.mkdir()
        for command in ("timeout", "prlimit"):
            (commands / command).symlink_to(str(shutil.which(command)))
        (commands / "qemu-img").write_text("#!/no/such/interpreter\n")
        (commands / "qemu-img").chmod(0o755)
        monkeypatch.setenv("PATH", str(commands))
        with pytest.raises(ImageCacheError, match=f"{disk} .* and it could not .exit status"):
            read_image(str(disk), None, run_command)

    def test_commands_that_cannot_be_run_are_unknown_use(self, disk: Path) -> None:
        def fail(_command: list[str]) -> tuple[int, str, str]:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

        with pytest.raises(
            ImageCacheError,
            match=f"{disk} .* only qemu-img can read, and it cannot be run: {os.strerror(errno.ENOMEM)}",
        ):
            read_image(str(disk), None, fail)

    @pytest.mark.parametrize(
        "answer",
        [
            "",
            "nonsense",
            "[]",
            "null",
            '"x"',
            '{"backing-filename": 1}',
            '{"full-backing-filename": []}',
            '{"backing-filename-format": {}}',
            '{"format-specific": 1}',
            '{"format-specific": {"data": []}}',
            '{"format-specific": {"data": {"data-file": 1}}}',
            "[" * 100_000,
        ],
    )
    def test_answer_that_cannot_be_understood_is_unknown_use(self, disk: Path, answer: str) -> None:
        with pytest.raises(ImageCacheError, match=f"What qemu-img says of {disk} cannot be understood"):
            read_image(str(disk), None, lambda _command: (0, answer, ""))
