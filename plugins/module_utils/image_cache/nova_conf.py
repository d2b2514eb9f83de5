# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time and is not for use from elsewhere.
"""Reading the image cache's options out of a ``nova.conf``.

The option names, groups and defaults are nova's: ``nova/conf/imagecache.py``,
``nova/conf/libvirt.py`` and ``nova/conf/compute.py``, and their Icehouse forms. The syntax is
oslo.config's (``oslo_config/iniparser.py``).
"""

from __future__ import annotations

import os
import stat
import string
from typing import Dict, Tuple

from .errors import ImageCacheError
from .layout import printable

__all__ = ["read_nova_conf"]

_CONFIG_SIZE_LIMIT = 4 * 1024 * 1024
# Of a path, a name or a number. References that refer to references, each to two, would fill the memory.
_VALUE_LIMIT = 4096

Place = Tuple[str, str]
Sections = Dict[str, Dict[str, str]]

# Where each option stands, today's place first: oslo.config prefers it to a deprecated one.
PLACES: dict[str, tuple[Place, ...]] = {
    "instances_path": (("DEFAULT", "instances_path"),),
    "image_cache_subdirectory_name": (
        ("image_cache", "subdirectory_name"),
        ("DEFAULT", "image_cache_subdirectory_name"),
        ("DEFAULT", "base_dir_name"),
    ),
    "image_info_filename_pattern": (
        ("libvirt", "image_info_filename_pattern"),
        ("DEFAULT", "image_info_filename_pattern"),
    ),
    "remove_unused_base_images": (
        ("image_cache", "remove_unused_base_images"),
        ("libvirt", "remove_unused_base_images"),
        ("DEFAULT", "remove_unused_base_images"),
    ),
    "remove_unused_original_minimum_age_seconds": (
        ("image_cache", "remove_unused_original_minimum_age_seconds"),
        ("libvirt", "remove_unused_original_minimum_age_seconds"),
        ("DEFAULT", "remove_unused_original_minimum_age_seconds"),
    ),
    "remove_unused_resized_minimum_age_seconds": (
        ("image_cache", "remove_unused_resized_minimum_age_seconds"),
        ("libvirt", "remove_unused_resized_minimum_age_seconds"),
        ("DEFAULT", "remove_unused_resized_minimum_age_seconds"),
    ),
    "remove_unused_kernels": (
        ("libvirt", "remove_unused_kernels"),
        ("DEFAULT", "remove_unused_kernels"),
    ),
    "checksum_base_images": (
        ("libvirt", "checksum_base_images"),
        ("DEFAULT", "checksum_base_images"),
    ),
    "checksum_interval_seconds": (
        ("libvirt", "checksum_interval_seconds"),
        ("DEFAULT", "checksum_interval_seconds"),
    ),
    "host": (("DEFAULT", "host"),),
}

# References count from an option's present group, wherever it stands.
_PRESENT_GROUPS: dict[Place, str] = {place: places[0][0] for places in PLACES.values() for place in places}

# What a reference may name without its being in the file: nova's own defaults, as packages set them.
_REFERENCE_DEFAULTS: dict[str, str] = {
    "state_path": "/var/lib/nova",
    "instances_path": "$state_path/instances",
    "image_cache_subdirectory_name": "_base",
}


def read_nova_conf(path: str) -> dict[str, str]:
    """Read the image cache's options out of a nova.conf.

    The syntax is oslo.config's: repeated sections are one, of an option given twice the last
    counts, a value goes on over indented lines, and ``$name``, ``${name}`` and ``$group.name``
    refer to other options. Today's groups and names are known, and Icehouse's.

    :param path: the file.
    :return: the options that the file sets, by their name in this collection, as text.
    :raises ImageCacheError: the file cannot be read or is not valid, or a reference leads nowhere.
    """
    try:
        # Without O_NONBLOCK, a FIFO in its place would hold the pass up.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, encoding="utf-8") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError("it is no regular file")
            text = stream.read(_CONFIG_SIZE_LIMIT + 1)
    except (OSError, ValueError) as exc:
        raise ImageCacheError(f"config_file {printable(path)} cannot be read: {exc}.") from exc
    if len(text) > _CONFIG_SIZE_LIMIT:
        raise ImageCacheError(f"config_file {printable(path)} is larger than any nova.conf: nothing was read from it.")
    try:
        sections = _parse(text)
        found = {}
        known: dict[Place, str] = {}
        for option, places in PLACES.items():
            for group, name in places:
                if name in sections.get(group, {}):
                    found[option] = _resolve(sections, (group, name), (), known)
                    break
        if "instances_path" not in found and "state_path" in sections.get("DEFAULT", {}):
            found["instances_path"] = _substitute(sections, "DEFAULT", _REFERENCE_DEFAULTS["instances_path"], (), known)
    except RecursionError as exc:
        raise ImageCacheError(f"config_file {printable(path)} has references that go too deep.") from exc
    except ValueError as exc:
        raise ImageCacheError(f"config_file {printable(path)}: {exc}.") from exc
    return found


def _parse(text: str) -> Sections:
    sections: Sections = {}
    section: dict[str, str] | None = None
    name = ""
    # Not splitlines(): it also splits at characters that nova takes as part of a value.
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip()
        if not line:
            name = ""
        elif line[0] in " \t":
            if not name or section is None:
                raise ValueError(f"line {number} continues a value, but there is none before it")
            section[name] += "\n" + line.lstrip()
        elif line[0] in "#;":
            name = ""
        elif line[0] == "[":
            if not line.endswith("]") or len(line) < 3:
                raise ValueError(f"line {number} is not a section header")
            group = line[1:-1]
            section = sections.setdefault(group if group == "DEFAULT" else group.lower(), {})
            name = ""
        else:
            name, value = _assignment(line, number)
            if section is None:
                raise ValueError(f"line {number} sets an option before the first section header")
            section[name] = value
    return sections


def _assignment(line: str, number: int) -> tuple[str, str]:
    ends = [position for position in (line.find("="), line.find(":")) if position >= 0]
    if not ends or not line[: min(ends)].strip():
        raise ValueError(f"line {number} is not an assignment")
    name, value = line[: min(ends)].strip(), line[min(ends) + 1 :].strip()
    if value[:1] in ("'", '"') and value[0] == value[-1]:
        value = value[1:-1]
    return name, value


class _Reference(string.Template):
    idpattern = "[_a-z][._a-z0-9]*"


class _References(Dict[str, str]):
    """What ``$name`` stands for in a value of one group, looked up as oslo.config does."""

    def __init__(self, sections: Sections, group: str, pending: tuple[Place, ...], known: dict[Place, str]) -> None:
        super().__init__()
        self._sections = sections
        self._group = group
        self._pending = pending
        self._known = known

    def __missing__(self, reference: str) -> str:
        for group, name in self._candidates(reference):
            if (group, name) in self._pending:
                raise ValueError(f"${reference} refers to itself")
            if name in self._sections.get(group, {}):
                return _resolve(self._sections, (group, name), (*self._pending, (group, name)), self._known)
        if reference in _REFERENCE_DEFAULTS and ("", reference) not in self._pending:
            default = _REFERENCE_DEFAULTS[reference]
            return _substitute(self._sections, "DEFAULT", default, (*self._pending, ("", reference)), self._known)
        raise ValueError(f"${reference} is used but not set; give the option that uses it to the module")

    def _candidates(self, reference: str) -> list[Place]:
        places = [(self._group, reference), ("DEFAULT", reference), *PLACES.get(reference, ())]
        group, dot, name = reference.partition(".")
        if dot:
            places.insert(0, (group, name))
        return places


def _resolve(sections: Sections, place: Place, pending: tuple[Place, ...], known: dict[Place, str]) -> str:
    if place not in known:
        group, name = place
        value = sections[group][name]
        known[place] = _substitute(sections, _PRESENT_GROUPS.get(place, group), value, pending, known)
    return known[place]


def _substitute(sections: Sections, group: str, value: str, pending: tuple[Place, ...], known: dict[Place, str]) -> str:
    if "$" in value and len(value) <= _VALUE_LIMIT:
        references = _References(sections, group, pending, known)
        value = _Reference(value.replace("\\$", "$$")).safe_substitute(references)
    if len(value) > _VALUE_LIMIT:
        raise ValueError(f"a value is longer than {_VALUE_LIMIT} characters")
    return value
