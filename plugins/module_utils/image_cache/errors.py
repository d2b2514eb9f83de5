# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one exception of the image cache core, and the reason that a message gives."""

from __future__ import annotations

import os

__all__ = ["AS_ROOT", "ImageCacheError", "reason_of"]

AS_ROOT = "Run as root (become: true)"


class ImageCacheError(Exception):
    """Something that the operator has to act on.

    The text says what happened, to which file or option, and what to do.
    """


def reason_of(exc: Exception) -> str:
    """Say why something failed and, if the kernel refused it for want of root's rights, what to do.

    Root itself can be refused too, by a network file system or for want of a capability: `become` is no help then.

    :return: the end of a sentence, perhaps with one more sentence, without the last full stop.
    """
    reason = (isinstance(exc, OSError) and exc.strerror) or str(exc)
    return f"{reason}. {AS_ROOT}" if isinstance(exc, PermissionError) and os.geteuid() != 0 else reason
