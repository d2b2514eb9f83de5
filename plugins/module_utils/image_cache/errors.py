# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time and is not for use from elsewhere.
"""The one exception of the image cache core."""

from __future__ import annotations

__all__ = ["ImageCacheError"]


class ImageCacheError(Exception):
    """Something that the operator has to act on.

    The text says what happened, to which file or option, and what to do.
    """
