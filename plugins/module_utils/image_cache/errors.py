# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The exceptions of the image cache core, and the reason that a message gives."""

from __future__ import annotations

import errno
import os
from typing import Sequence

__all__ = [
    "AS_ROOT",
    "AS_WHOLE_ROOT",
    "FetchError",
    "ImageCacheError",
    "RefusalError",
    "explain",
    "merged",
    "or_as_root",
    "reason_and_remedy",
    "reason_of",
    "remedy_for_rights",
]

AS_ROOT = "Run as root (become: true)"
AS_WHOLE_ROOT = "Check the NFS export (root_squash) and root's capabilities (/proc/self/status)"
_NAMED_WRONGLY = (errno.EEXIST, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENOENT, errno.ENOTDIR, errno.ENXIO)


class ImageCacheError(Exception):
    """Something that the operator has to act on.

    The text says what happened, to which file or option, and what to do.
    """


class FetchError(ImageCacheError):
    """An image could not be fetched, whole and as Glance's record has it."""


class RefusalError(ImageCacheError):
    """Something that was asked for is not done, on purpose."""


def reason_of(exc: Exception) -> str:
    """Say why something failed and, if the kernel refused it for want of root's rights, what to do.

    Root itself can be refused too, by a network file system or for want of a capability: `become` is no help then.

    :return: the end of a sentence, perhaps with one more sentence, without the last full stop.
    """
    reason = (isinstance(exc, OSError) and exc.strerror) or str(exc)
    return f"{reason}. {AS_ROOT}" if isinstance(exc, PermissionError) and os.geteuid() != 0 else reason


def reason_and_remedy(exc: OSError) -> str:
    """Say why the kernel refused something, and what to do, for a message that has no remedy of its own.

    :return: the end of a sentence, and one more sentence without the last full stop.
    """
    if isinstance(exc, PermissionError):
        remedy = remedy_for_rights()
    elif exc.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "Free some space (df) or inodes (df -i) on that file system"
    elif exc.errno == errno.EROFS:
        remedy = "Mount the file system for writing (mount -o remount,rw)"
    elif exc.errno in _NAMED_WRONGLY:
        remedy = "Look at what is there (ls -ld)"
    else:
        remedy = "Check the storage and the kernel's log (dmesg)"
    return f"{exc.strerror or exc}. {remedy}"


def explain(exc: OSError | ImageCacheError) -> str:
    """Return what an error of ours says, or why the kernel refused something and what to do."""
    return str(exc) if isinstance(exc, ImageCacheError) else reason_and_remedy(exc)


def merged(failures: Sequence[ImageCacheError]) -> ImageCacheError:
    """Return one error that says why each of several ways failed: a refusal, if each of them was refused."""
    is_refusal = all(isinstance(failure, RefusalError) for failure in failures)
    return (RefusalError if is_refusal else ImageCacheError)(" ".join(map(str, failures)))


def remedy_for_rights() -> str:
    """Say what gives this user the rights that are missing: root is not told to be root.

    :return: a sentence without the full stop.
    """
    return AS_WHOLE_ROOT if os.geteuid() == 0 else AS_ROOT


def or_as_root() -> str:
    """Continue a remedy: another user than root may lack rights instead.

    :return: the end of a sentence without the full stop, empty for root.
    """
    return "" if os.geteuid() == 0 else f", or {AS_ROOT[0].lower()}{AS_ROOT[1:]}"
