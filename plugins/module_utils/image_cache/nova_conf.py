# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading the image cache's options out of nova's configuration files.

The option names, groups and defaults are nova's: ``nova/conf/imagecache.py``,
``nova/conf/libvirt.py``, ``nova/conf/netconf.py`` and ``nova/conf/compute.py``, and their Icehouse forms.
The syntax, and the order in which files are read, are oslo.config's (``oslo_config/iniparser.py``, ``cfg.py``).
"""

from __future__ import annotations

import io
import os
import socket
import string
from typing import Dict, Iterable, Mapping, Sequence, Tuple

from .errors import ImageCacheError, reason_of
from .files import read_small_file
from .own_address import own_address
from .settings import OBSOLETE_OPTIONS
from .text import printable, some_names

__all__ = ["CACHING_LOCATIONS", "NovaConf", "read_nova_conf"]

_CONFIG_SIZE_LIMIT = 4 * 1024 * 1024
# Of a path, a name or a number. References that refer to references, each to two, would fill the memory.
_VALUE_LIMIT = 4096
# What nova-compute reads where it is started without a configuration file; project and program, each once.
_DEFAULT_FILES = ("nova.conf", "nova-compute.conf")
_DIRECTORY_SUFFIX = ".d"
_FILE_SUFFIX = ".conf"

Place = Tuple[str, str]
Sections = Dict[str, Dict[str, str]]

# Where each option stands, today's place first: within a file, oslo.config prefers it to a deprecated one.
OPTION_LOCATIONS: dict[str, tuple[Place, ...]] = {
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

# How nova caches images: what only those who fill the cache ask for.
CACHING_LOCATIONS: dict[str, tuple[Place, ...]] = {
    "images_type": (("libvirt", "images_type"), ("DEFAULT", "libvirt_images_type")),
    "use_cow_images": (("DEFAULT", "use_cow_images"),),
    "force_raw_images": (("DEFAULT", "force_raw_images"),),
    "verify_glance_signatures": (("glance", "verify_glance_signatures"),),
    "enable_certificate_validation": (("glance", "enable_certificate_validation"),),
}

_OPTION_PLACES: dict[Place, tuple[Place, ...]] = {
    place: places for places in OPTION_LOCATIONS.values() for place in places
}

_MY_IP: Place = ("DEFAULT", "my_ip")
_HOST: Place = ("DEFAULT", "host")
# What a reference may name without its being set: nova's own defaults, as packages set them.
_DEFAULTS: dict[Place, str] = {
    ("DEFAULT", "state_path"): "/var/lib/nova",
    ("DEFAULT", "instances_path"): "$state_path/instances",
    ("DEFAULT", "my_block_storage_ip"): "$my_ip",
    ("DEFAULT", "my_shared_fs_storage_ip"): "$my_ip",
    ("image_cache", "subdirectory_name"): "_base",
}


class NovaConf(Dict[str, str]):
    """The options that nova's configuration sets, by their name in this collection, as text.

    :ivar files: the files that were read, in oslo.config's order.
    :ivar ignored: sentences about obsolete options that cannot be understood, and so are not set.
    """

    def __init__(
        self,
        values: Mapping[str, str],
        files: Sequence[str] = (),
        ignored: Sequence[str] = (),
    ) -> None:
        super().__init__(values)
        self.files = tuple(files)
        self.ignored = tuple(ignored)


def read_nova_conf(
    config_file: str | Sequence[str],
    config_dir: str | Sequence[str] | None = None,
    given: Mapping[str, str | None] | None = None,
    locations: Mapping[str, tuple[Place, ...]] | None = None,
) -> NovaConf:
    """Read the image cache's options out of nova's configuration, as oslo.config does.

    Files are read first, then each directory's ``*.conf`` in the order of their names; what is read later wins.
    Repeated sections are one, of an option given twice the last counts, a value goes on over indented lines, and
    ``$name``, ``${name}`` and ``$group.name`` refer to other options. Today's groups and names are known, and
    Icehouse's.

    :param config_file: a file or several.
    :param config_dir: a directory or several. None: where there is one file only, what lies beside it and oslo.config
        reads by default (``nova.conf.d``) is read too.
    :param given: options that were given to the module: references to them stand for what was given.
    :param locations: where each option stands that is read; None for :data:`OPTION_LOCATIONS`.
    :return: the options that the configuration sets.
    :raises ImageCacheError: a file cannot be read or is not valid, or a reference leads nowhere.
    """
    paths = _paths([config_file] if isinstance(config_file, str) else config_file, config_dir)
    # oslo.config looks a value up in the file that was read last, and in the others only if it is not there.
    sections = [_read_file(path) for path in reversed(paths)]
    overrides = {
        OPTION_LOCATIONS[name][0]: value for name, value in (given or {}).items() if name in OPTION_LOCATIONS and value
    }
    names = some_names(paths)
    try:
        return _find_options(_Values(sections, overrides), paths, OPTION_LOCATIONS if locations is None else locations)
    except RecursionError as exc:
        raise ImageCacheError(
            f"config_file {names} has references that go too deep. Set the option that uses them, such as "
            f"instances_path, in the module."
        ) from exc
    except ValueError as exc:
        raise ImageCacheError(
            f"config_file {names}: {exc}. Correct {names}, or set the option that uses it in the module."
        ) from exc


def _paths(files: Sequence[str], config_dir: str | Sequence[str] | None) -> list[str]:
    """Return the files to read, in the order of ``_parse_config_files`` and ``ConfigDirAction`` in ``cfg.py``."""
    if config_dir is not None:
        directories = [config_dir] if isinstance(config_dir, str) else config_dir
        return [*files, *_files_in(directories)]
    if len(files) != 1:
        return list(files)
    folder, name = os.path.split(files[0])
    beside = [os.path.join(folder, default) for default in _DEFAULT_FILES]
    fragments = _files_in(path + _DIRECTORY_SUFFIX for path in beside if os.path.isdir(path + _DIRECTORY_SUFFIX))
    if name != _DEFAULT_FILES[0]:
        # Such a file was named on nova's command line, which is read after the default directories.
        return [*fragments, *files]
    return [*files, *(path for path in beside[1:] if os.path.exists(path)), *fragments]


def _files_in(directories: Iterable[str]) -> list[str]:
    paths = []
    for directory in directories:
        try:
            names = os.listdir(directory)
        except (OSError, ValueError) as exc:
            raise ImageCacheError(
                f"config_dir {printable(directory)} cannot be read: {_reason(exc)}. "
                f"Set config_dir to directories of this host that hold nova's configuration files."
            ) from exc
        paths += sorted(
            os.path.join(directory, name) for name in names if name.endswith(_FILE_SUFFIX) and name[0] != "."
        )
    return paths


def _read_file(path: str) -> Sections:
    try:
        if os.path.isdir(path):
            raise ValueError("it is a directory, which config_dir takes")
        data = read_small_file(path, _CONFIG_SIZE_LIMIT)
        text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8").read()  # with lines as oslo.config reads them
    except (OSError, ValueError) as exc:
        raise ImageCacheError(
            f"config_file {printable(path)} cannot be read: {_reason(exc)}. "
            f"Set config_file to nova's configuration file on this host."
        ) from exc
    try:
        return _parse(text)
    except ValueError as exc:
        raise ImageCacheError(f"config_file {printable(path)}: {exc}. Correct {printable(path)}.") from exc


def _reason(exc: OSError | ValueError) -> str:
    return "it is not UTF-8 text" if isinstance(exc, UnicodeDecodeError) else reason_of(exc)


def _find_options(values: _Values, files: Sequence[str], locations: Mapping[str, tuple[Place, ...]]) -> NovaConf:
    found = {}
    ignored = []
    for option, places in locations.items():
        if values.raw(places) is not None:
            try:
                found[option] = values.resolve(places)
            except ValueError as exc:
                if option not in OBSOLETE_OPTIONS:
                    raise
                ignored.append(
                    f"config_file sets {option}, which is ignored: {exc}. Today's nova has no such option. "
                    f"Remove {option} from that file."
                )
    is_derived = "instances_path" in locations and "instances_path" not in found
    if is_derived and values.raw((("DEFAULT", "state_path"),)) is not None:
        found["instances_path"] = values.resolve(OPTION_LOCATIONS["instances_path"])
    return NovaConf(found, files, ignored)


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


class _Values:
    """What options stand for, looked up in several files as oslo.config does.

    :param sections: those of each file, the file that wins first.
    :param overrides: what references to an option stand for, by its present place, whatever the files say.
    """

    def __init__(self, sections: Sequence[Sections], overrides: Mapping[Place, str]) -> None:
        self._sections = sections
        self._overrides = overrides
        self._known: dict[Place, str] = {}

    def raw(self, places: Sequence[Place]) -> str | None:
        """Return an option's value as it is written, None where no file sets it."""
        for sections in self._sections:
            for group, name in places:
                if name in sections.get(group, {}):
                    return sections[group][name]
        return None

    def resolve(self, places: Sequence[Place], being_resolved: tuple[Place, ...] = ()) -> str:
        """Return what an option stands for.

        :param places: where it may stand, today's place first.
        :param being_resolved: the options in which it was referred to, which cannot refer to each other.
        :raises KeyError: no file sets it, and it has no default.
        :raises ValueError: a reference leads nowhere, or the value is too long.
        """
        present = places[0]
        if present not in self._known:
            raw = self.raw(places)
            value = self._default(present) if raw is None else raw
            self._known[present] = self._substitute(present[0], value, (*being_resolved, present))
        return self._known[present]

    def reference(self, reference: str, group: str, being_resolved: tuple[Place, ...]) -> str:
        for place in _candidates(reference, group):
            places = _OPTION_PLACES.get(place, (place,))
            if places[0] in being_resolved:
                raise ValueError(f"${reference} refers to itself")
            if places[0] in self._overrides:
                return self._overrides[places[0]]
            try:
                return self.resolve(places, being_resolved)
            except KeyError:
                continue
        raise ValueError(f"${reference} is used but not set")

    def _default(self, place: Place) -> str:
        if place == _MY_IP:
            return own_address()
        if place == _HOST:
            return socket.gethostname()
        return _DEFAULTS[place]

    def _substitute(self, group: str, value: str, being_resolved: tuple[Place, ...]) -> str:
        if "$" in value and len(value) <= _VALUE_LIMIT:
            references = _References(self, group, being_resolved)
            value = _Reference(value.replace("\\$", "$$")).safe_substitute(references)
        if len(value) > _VALUE_LIMIT:
            raise ValueError(f"a value is longer than {_VALUE_LIMIT} characters")
        return value


class _References(Dict[str, str]):
    """What ``$name`` stands for in a value of one group."""

    def __init__(self, values: _Values, group: str, being_resolved: tuple[Place, ...]) -> None:
        super().__init__()
        self._values = values
        self._group = group
        self._pending = being_resolved

    def __missing__(self, reference: str) -> str:
        return self._values.reference(reference, self._group, self._pending)


def _candidates(reference: str, group: str) -> list[Place]:
    """Return where the option of a reference may stand; references count from a value's present group."""
    places = [(group, reference), ("DEFAULT", reference)]
    if reference in OPTION_LOCATIONS:
        places.append(OPTION_LOCATIONS[reference][0])
    named_group, dot, name = reference.partition(".")
    if dot:
        places.insert(0, (named_group, name))
    return places
