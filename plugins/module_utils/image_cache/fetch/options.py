# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that both fetching modules have: where bytes come from, and how fast."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Mapping

from ..errors import ImageCacheError
from ..hashing import RateLimiter
from ..names import fingerprint
from ..text import printable

if TYPE_CHECKING:
    from .glance import Glance
    from .peers import Peers

__all__ = ["read_files", "read_glance_option", "read_peers_option", "read_rate_limiter"]


def read_files(files: Mapping[Any, Any]) -> dict[str, str]:
    """Read ``files``.

    :param files: the path of a file that an operator brought, by the id of its image.
    :return: the same, by the name of the image's base file.
    :raises ImageCacheError: a path is not absolute.
    """
    found = {}
    for image_id, path in files.items():
        if not isinstance(path, str) or not os.path.isabs(path):
            raise ImageCacheError(
                f"files gives the image {printable(str(image_id))} a path that is not absolute. Set files: {{image id: "
                f"absolute path on the host}}."
            )
        found[fingerprint(str(image_id))] = path
    return found


def read_glance_option(glance: Mapping[str, Any] | None) -> Glance | None:
    """Read ``glance``.

    :raises ImageCacheError: it is wrong.
    """
    if glance is None:
        return None
    # Here, so that a run without Glance does not load what speaks HTTP.
    from .glance import read_glance

    return read_glance(glance)


def read_peers_option(params: Mapping[str, Any]) -> Peers | None:
    """Read ``peers`` and ``peer_command``.

    :raises ImageCacheError: one is wrong.
    """
    if not params["peers"]:
        return None
    # Here, so that a run without other hosts does not load what runs commands.
    from .peers import read_peers

    return read_peers(params["peers"], params["peer_command"])


def read_rate_limiter(max_rate: int | None) -> RateLimiter:
    """Read ``max_rate``, in bytes a second.

    :raises ImageCacheError: it is below one.
    """
    if max_rate is not None and max_rate < 1:
        raise ImageCacheError("max_rate must be at least one byte a second. For no limit, remove max_rate.")
    return RateLimiter(max_rate)
