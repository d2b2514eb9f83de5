# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which missing base files come from Glance: those that no host can restore, and of whose image Glance has a record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.names import Kind, fingerprint, parse_name

from .answers import FileAnswer
from .choice import has_id, record_of
from .glance import GlanceList, once_per_api
from .options import GlanceOptions
from .restore import decide_restore

__all__ = ["find_in_glance", "lost_files"]

_NOT_LISTED = (
    "Glance lists no image of this base file either. If it is another project's, use an account that may see it "
    "(openstack image list). If it was deleted, set image_cache_restore_files to a copy of it."
)


def lost_files(answers: Sequence[FileAnswer]) -> dict[str, tuple[str, ...]]:
    """Return which missing base files, each made of one image as it is, no host of a storage can restore.

    :param answers: what the hosts found in check mode.
    :return: the files' names by the names of the hosts that need them.
    """
    decisions = decide_restore(answers)
    return {
        answer.name: tuple(
            file["name"]
            for file in answer.found["refused"]
            if file["state"] == "missing"
            and parse_name(file["name"]).kind is Kind.ORIGINAL
            and file["name"] not in decisions[answer.name].elsewhere
        )
        for answer in answers
        if answer.found is not None
    }


def find_in_glance(
    lost: Mapping[str, Sequence[str]],
    asked: Mapping[str, GlanceOptions],
    ask_glance: Callable[[GlanceOptions], GlanceList],
) -> dict[str, dict[str, Any]]:
    """Find the images of lost base files. Each API is asked once, and none where nothing is lost.

    :param lost: see :func:`lost_files`.
    :param asked: where Glance is, by the names of the hosts that ask for it.
    :param ask_glance: lists the images of one cloud and region.
    :return: plain data by the names of these hosts, without those that have lost nothing: ``images``, the records by
        the names of the base files; the ``endpoint`` of Glance; and ``remarks``, why a file is not there, by its name.
    """

    def ask(options: GlanceOptions) -> tuple[GlanceList, dict[str, Any]]:
        listed = ask_glance(options)
        return listed, {fingerprint(image["id"]): image for image in listed.images if has_id(image)}

    ask_once = once_per_api(ask)
    found = {}
    for host, options in asked.items():
        names = lost.get(host, ())
        if not names:
            continue
        listed, images = ask_once(options)
        found[host] = {
            "images": {name: record_of(images[name]) for name in names if name in images},
            "endpoint": listed.endpoint,
            "remarks": {name: listed.problem or _NOT_LISTED for name in names if name not in images},
        }
    return found
