# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How this host runs ``qemu-img``: found for each run, also one that converts nothing, so little is imported."""

from __future__ import annotations

import os
import shlex
import shutil
from typing import NamedTuple, Sequence

from ..errors import ImageCacheError
from ..text import printable

__all__ = ["Converter", "find_converter"]

_QEMU_IMG = "qemu-img"


class Converter(NamedTuple):
    """How ``qemu-img`` is run.

    :param command: its path and arguments before its own, mostly one word.
    :param user: as whom, a user number: the owner of the cache.
    :param group: likewise, a group number.
    """

    command: Sequence[str]
    user: int
    group: int


def find_converter(command: str | None, owner: os.stat_result) -> Converter | None:
    """Find ``qemu-img``.

    :param command: the option ``qemu_img``: a command, with arguments perhaps.
    :param owner: the cache directory, whose owner it runs as.
    :return: how it is run; None where the host has none.
    :raises ImageCacheError: the option is not a command of this host.
    """
    try:
        words = shlex.split(command or _QEMU_IMG)
    except ValueError:
        words = []
    path = shutil.which(words[0]) if words else None
    if path is not None:
        return Converter((path, *words[1:]), owner.st_uid, owner.st_gid)
    if command is not None:
        raise ImageCacheError(
            f"qemu_img is '{printable(command)}', which is not a command of this host. Set qemu_img to the path of "
            f"qemu-img, or to a command that runs it with the descriptors that it is given."
        )
    return None
