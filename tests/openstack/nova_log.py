# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What nova's own image cache pass thinks of each file, from the debug log of nova-compute."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

NOVA_LOG = Path("/var/log/nova/nova-compute.log")

_LINE = re.compile(r"\S+ \S+ \d+ [A-Z]+ \S+ \[None (?P<request>req-\S+) .*?\] (?P<text>.*)")
_START = "Running periodic task ComputeManager._run_image_cache_manager_pass "
_END = "Verify ephemeral images "
_TEMPLATE = re.compile(r"Adding (\S+) into backend (?:swap|ephemeral) images")
_ACTIVE = "Active base files: "
_REMOVABLE = "Removable base files: "
_TOO_YOUNG = "Base, swap or ephemeral file too young to remove: "


class NovaPass(NamedTuple):
    """One pass; nova.conf has to let it log everything (debug) and remove nothing (a minimum age of a year).

    :param active: the names of the files that it takes to be in use, also of such that do not exist.
    :param unused: the names of those that it would remove.
    """

    active: frozenset[str]
    unused: frozenset[str]


def read_passes(lines: Iterable[str]) -> list[NovaPass]:
    """Return the whole passes in a log, in their order; a pass that is still under way is left out."""
    requests: dict[str, list[str]] = {}
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            continue
        if match["text"].startswith(_START):
            requests[match["request"]] = []
        if match["request"] in requests:
            requests[match["request"]].append(match["text"])
    return [_make_pass(texts) for texts in requests.values() if any(text.startswith(_END) for text in texts)]


def _make_pass(texts: list[str]) -> NovaPass:
    active: set[str] = set()
    unused: set[str] = set()
    for text in texts:
        template = _TEMPLATE.match(text)
        if template is not None:
            active.add(template[1])  # unless it is called too young to remove, further down
        elif text.startswith(_ACTIVE):
            active.update(map(_name, text[len(_ACTIVE) :].split()))
        elif text.startswith(_REMOVABLE):
            unused.update(map(_name, text[len(_REMOVABLE) :].split()))
        elif text.startswith(_TOO_YOUNG):
            unused.add(_name(text[len(_TOO_YOUNG) :].strip()))
    return NovaPass(frozenset(active - unused), frozenset(unused))


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def next_nova_pass(seconds: float = 120) -> NovaPass:
    """Wait for a pass of nova's that begins after now, and return it."""
    begin = NOVA_LOG.stat().st_size
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(1)
        found = _passes_since(begin)
        if found:
            time.sleep(1)  # its last lines
            return _passes_since(begin)[0]
    raise SystemExit(f"nova made no image cache pass within {seconds} seconds; see {NOVA_LOG}.")


def _passes_since(offset: int) -> list[NovaPass]:
    with NOVA_LOG.open(errors="replace") as log:
        log.seek(offset)
        return read_passes(log)
