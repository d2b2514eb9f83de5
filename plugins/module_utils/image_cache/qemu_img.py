# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an image is backed by, asked of ``qemu-img info``: where the header that is read here is not enough."""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import Any

from .backing_chain import QEMU_IMG_HUNG, Image, RunCommand
from .errors import ImageCacheError, reason_and_remedy
from .text import printable

__all__ = ["read_image_by_qemu_img"]

_FORMAT = re.compile("[0-9A-Za-z_-]+")
# What nova gives qemu-img as well (``QEMU_IMG_LIMITS`` in ``nova/privsep/qemu.py``), and a time limit
# that also holds while it waits for storage.
_QEMU_IMG_SECONDS = 30
_QEMU_IMG = [
    "timeout", "--kill-after=5", str(_QEMU_IMG_SECONDS),
    "prlimit", "--as=1073741824", "--cpu=30", "--",
    "qemu-img", "info", "-U", "--output=json",
]  # fmt: skip
# The commands in it, and the packages that have them.
_PACKAGES = {
    "timeout": "coreutils",
    "prlimit": "util-linux",
    "qemu-img": "qemu-utils (Debian, Ubuntu) or qemu-img (Fedora, RHEL)",
}


def read_image_by_qemu_img(path: str, image_format: str | None, run_command: RunCommand) -> Image:
    """Read what an image is backed by, as ``qemu-img info`` says.

    :param path: the image.
    :param image_format: its format, None where the first bytes decide.
    :param run_command: how the command is run.
    :return: what it names.
    :raises ImageCacheError: a command is missing on the host, or cannot read the image.
    """
    if image_format is not None and not _FORMAT.fullmatch(image_format):
        raise ImageCacheError(
            f"{printable(path)} is an image that only qemu-img can read, and '{printable(image_format)}' is not a "
            f"format. Check it in disk.info, and with qemu-img info -U."
        )
    see_why = f"Run qemu-img info -U {printable(path)} on this host to see why."
    command = _QEMU_IMG + (["-f", image_format] if image_format else []) + [os.path.abspath(path)]
    try:
        status, output, _error = run_command(command)
    except OSError as exc:
        raise _missing_command(path) or ImageCacheError(
            f"{printable(path)} is an image that only qemu-img can read, and it cannot be run: "
            f"{reason_and_remedy(exc)}."
        ) from exc
    # Its own words may have parts of the image in them, which are nobody's business here.
    if status in QEMU_IMG_HUNG:
        raise ImageCacheError(
            f"{printable(path)} is an image that only qemu-img can read, and it did not answer within "
            f"{_QEMU_IMG_SECONDS} seconds, for this image or one before. {see_why}"
        )
    if status != 0:
        raise _missing_command(path) or ImageCacheError(
            f"{printable(path)} is an image that only qemu-img can read, and it could not (exit status {status}). "
            f"{see_why}"
        )
    try:
        told = json.loads(output)
        details = _mapping(_mapping(told.get("format-specific")).get("data"))
        return Image(
            _name(told.get("full-backing-filename", told.get("backing-filename"))),
            _name(told.get("backing-filename-format")),
            _name(details.get("data-file")),
        )
    except (ValueError, AttributeError, RecursionError) as exc:
        raise ImageCacheError(f"What qemu-img says of {printable(path)} cannot be understood. {see_why}") from exc


def _missing_command(path: str) -> ImageCacheError | None:
    """Return what to raise if the host lacks a command; None where all of them are there.

    By its status alone, timeout does not show which: it exits with 127, as prlimit does, or with 1 in an older one.
    """
    for command, package in _PACKAGES.items():
        if shutil.which(command) is None:
            return ImageCacheError(
                f"{printable(path)} is an image that only qemu-img can read, and the command {command} is missing on "
                f"this host. Install the package {package}."
            )
    return None


def _mapping(value: Any) -> Any:
    return {} if value is None else value


def _name(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError  # what is wrong with an image's name is not told
    return value
