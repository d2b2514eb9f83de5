# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The last part of a message, after what happened to which object and why: the remedy.

A remedy is a sentence that asks for something, and names an option, a variable, a command or a place to act on.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.argspec import (
    precache_argument_spec,
    restore_argument_spec,
)

__all__ = ["VARYING", "has_remedy"]

VARYING = "…"
"""Stands for what is put into a message at run time: a path, a host, a value."""

_SPECS = Path(__file__).parents[2] / "roles/image_cache/meta/argument_specs.yml"
_VERBS = (
    "add|bring|check|choose|compare|copy|correct|delete|free|give|increase|install|let|look|make|mend|mount|move|name|"
    "prune|raise|rebase|remove|replace|report|restore|run|see|set|start|stop|touch|use|write"
)
_ASKS = re.compile(rf"(?:(?:For|If|To) [^.]+, |Otherwise |Or )?(?:do not )?(?:{_VERBS})\b", re.IGNORECASE)
_COMMANDS = ("chattr", "chronyc", "dmesg", "lsattr", "pip install", "qemu-img", "virsh", "xmllint")
# English words count as commands only where they are set apart.
_COMMANDS_IN_PARENTHESES = ("cmp", "cp", "df", "free", "ls", "mount", "mv", "openstack", "rm", "stat", "touch")
_OF_A_PLAY = ("--limit", "--start-at-task", "--tags", "become: true", "inventory", "run_once", "serial", "strategy")
_PLACES = (
    "/dev",
    "/etc",
    "/proc",
    "ansible_facts",
    "clouds.yaml",
    "compute_nodes",
    "disk.info",
    "glance-api",
    "image_cache.corrupt",
    "image_cache.failed",
    "unknown_use",
)


def _names() -> re.Pattern[str]:
    roles = yaml.safe_load(_SPECS.read_text())["argument_specs"].values()
    options = {
        *restore_argument_spec(),
        *precache_argument_spec(),
        *(name for role in roles for name in role["options"]),
    }
    of_glance = (f"glance.{option}" for option in restore_argument_spec()["glance"]["options"])
    apart = [*_COMMANDS, *_OF_A_PLAY, *_PLACES, *of_glance, *(option for option in options if "_" in option)]
    # An option that is an English word, such as "host", counts only as it is set.
    as_set = [rf"{option}: \S" for option in options if "_" not in option]
    in_parentheses = rf"[('`](?:{'|'.join(_COMMANDS_IN_PARENTHESES)})\b"
    words = "|".join([*map(re.escape, apart), *as_set])
    return re.compile(rf"(?<![\w-])(?:{words})|{in_parentheses}|{VARYING}")


_NAMES = _names()


def has_remedy(message: str) -> bool:
    """Tell whether a message has a remedy after its first sentence."""
    sentences = re.split(r"(?<=[.;…]) (?=[A-Z])", message.replace("``", ""))
    return any(_ASKS.match(sentence) and _NAMES.search(sentence) for sentence in sentences[1:])
