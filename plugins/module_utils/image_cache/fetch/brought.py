# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that an operator brought to the host: they are read only if they are what their image's record says."""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack

from ..errors import RefusalError, reason_and_remedy
from ..files import FILE_FLAGS
from ..text import printable
from .records import ImageRecord

__all__ = ["open_brought_file", "require_recorded_size"]


def open_brought_file(path: str, closing: ExitStack) -> int:
    """Open a file of the option ``files``, following no link.

    :param closing: closes its descriptor.
    :raises RefusalError: it cannot be opened, or is not a regular file.
    """
    try:
        descriptor = os.open(path, FILE_FLAGS)
    except OSError as exc:
        raise RefusalError(f"{printable(path)} of files cannot be opened: {reason_and_remedy(exc)}.") from exc
    closing.callback(os.close, descriptor)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise RefusalError(f"{printable(path)} is not a regular file. Set files: {{image id: path of an image}}.")
    return descriptor


def require_recorded_size(path: str, descriptor: int, record: ImageRecord) -> None:
    """Refuse a file of another size than its image has.

    :param record: Glance's record of the image. Where it says no size, any is right.
    :raises RefusalError: it has another one.
    """
    size = os.fstat(descriptor).st_size
    if record.size_bytes is not None and record.size_bytes != size:
        raise RefusalError(
            f"{printable(path)} has {size} bytes, and by Glance's record the image has {record.size_bytes}. Copy the "
            f"image anew (openstack image save)."
        )
