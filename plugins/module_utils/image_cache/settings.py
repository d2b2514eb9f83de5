# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of a pass as one value, under nova's names and with nova's defaults."""

from __future__ import annotations

import os
import string
from types import MappingProxyType
from typing import (
    TYPE_CHECKING,
    Any,
    Iterable,
    Mapping,
    NamedTuple,
)

from .errors import ImageCacheError
from .names import LOCKS_DIRECTORY, Kind, fingerprint, parse_name
from .nova_paths import path_on_host
from .text import printable, shortened

if TYPE_CHECKING:
    from .images import GlanceImages
    from .space import SpaceTarget

__all__ = ["DETAILS", "OBSOLETE_OPTIONS", "ChecksumSettings", "Settings", "make_settings", "read_boolean"]

DETAILS = ("summary", "images", "names", "files")
"""How much a result has: each of these adds something to the one before it."""

_LARGEST = 2**63 - 1
_IMAGE_NAME_LENGTH = 100  # Glance takes 255 characters
_TIMEOUT = 30
_LONGEST_TIMEOUT = 86400
_DEFAULT_INSTANCES_PATH = "/var/lib/nova/instances"
_IMAGE_REFERENCE = "%(image)s"
_INFO_PATTERN = "$instances_path/$image_cache_subdirectory_name/" + _IMAGE_REFERENCE + ".info"

# One of each form, to try an info file's name on.
_CACHE_NAMES = (fingerprint(""), fingerprint("") + "_1", "swap_1", "ephemeral_1_0706d66")
# Today's nova has removed these. What it does not look at in nova.conf cannot be an error there.
OBSOLETE_OPTIONS = frozenset(
    ["image_info_filename_pattern", "remove_unused_kernels", "checksum_base_images", "checksum_interval_seconds"]
)
_BOOLEANS = {"true": True, "1": True, "on": True, "yes": True, "false": False, "0": False, "off": False, "no": False}


class ChecksumSettings(NamedTuple):
    """The options of verification. Without a limit, ``time_budget_seconds`` and ``max_rate`` (bytes a second) are None.

    ``known`` has, by the name of an original, the algorithm and value of a checksum that it must have.
    """

    enabled: bool = False
    interval_seconds: int = 3600
    algorithm: str = "sha1"
    all_files: bool = False
    time_budget_seconds: int | None = None
    max_rate: int | None = None
    known: Mapping[str, tuple[str, str]] = MappingProxyType({})
    fail_on_corrupt: bool = False


class Settings(NamedTuple):
    """The options of one pass, checked and complete.

    Paths are absolute, ages in seconds, spaces in bytes or a share. ``glance_images`` is None where Glance
    was not asked, ``shared_storage`` where the file system says it; a limit is None where none was set, and
    ``remove_deleted_images_minimum_age_seconds`` where the usual ages count.
    ``instances_path_source`` says who set that path, ``warnings`` are sentences about options.
    ``details`` is how much the result has (one of :data:`DETAILS`).
    ``nova_instances_paths`` are the paths by which nova, in a container perhaps, names ``instances_path``.
    ``image_names`` is what Glance calls the images that have a name, by their ids.
    """

    instances_path: str
    image_cache_subdirectory_name: str
    image_info_filename_pattern: str
    remove_unused_base_images: bool
    remove_unused_original_minimum_age_seconds: int
    remove_unused_resized_minimum_age_seconds: int
    remove_unused_kernels: bool
    host: str
    protect_orphans: bool
    keep_images: frozenset[str]
    glance_images: frozenset[str] | None
    max_used_space: SpaceTarget | None
    min_free_space: SpaceTarget | None
    max_removals: int | None
    max_removal_percent: int | None
    checksums: ChecksumSettings = ChecksumSettings()
    keep_files: frozenset[str] = frozenset()
    shared_storage: bool | None = None
    instances_path_source: str = ""
    warnings: tuple[str, ...] = ()
    nova_instances_paths: tuple[str, ...] = ()
    storage_timeout_seconds: int = _TIMEOUT
    details: str = "summary"
    image_names: Mapping[str, str] = MappingProxyType({})
    remove_only_deleted_images: bool = False
    remove_deleted_images_minimum_age_seconds: int | None = None
    keep_precached_seconds: int = 0

    def shows(self, details: str) -> bool:
        """Tell whether the result has what these details add."""
        return DETAILS.index(self.details) >= DETAILS.index(details)

    def image_name(self, image_id: str | None) -> str | None:
        """Return what Glance calls an image, as it can be shown; None where that is not known."""
        name = self.image_names.get(image_id or "")
        return None if name is None else shortened(printable(name), _IMAGE_NAME_LENGTH)

    def on_host(self, path: str) -> str:
        """Find where a path that nova wrote leads on this host; see :func:`nova_paths.path_on_host`."""
        return path_on_host(path, self.instances_path, self.nova_instances_paths)

    @property
    def cache_path(self) -> str:
        """The cache directory."""
        return os.path.join(self.instances_path, self.image_cache_subdirectory_name)

    @property
    def locks_path(self) -> str:
        """The directory of nova's external locks (``lock_path`` in ``imagebackend.py``)."""
        return os.path.join(self.instances_path, LOCKS_DIRECTORY)

    @property
    def needs_glance_images(self) -> bool:
        """Whether it matters for a removal which images Glance no longer has."""
        return self.remove_only_deleted_images or self.remove_deleted_images_minimum_age_seconds is not None


def make_settings(given: Mapping[str, Any], configured: Mapping[str, str], hostname: str) -> Settings:
    """Put the options of a pass together: what was given, else what nova.conf says, else nova's default.

    :param given: the module's options; None means not given.
    :param configured: what :func:`nova_conf.read_nova_conf` found.
    :param hostname: this host's name, nova's default for ``host``.
    :return: the settings.
    :raises ImageCacheError: a value that cannot be meant.
    """

    ignored: list[str] = []

    def choose(name: str, default: Any) -> Any:
        if given.get(name) is not None:
            return given[name]
        if name not in configured:
            return default
        try:
            if isinstance(default, bool):
                return read_boolean(name, configured[name])
            if isinstance(default, int):
                return _not_negative(name, _integer(name, configured[name]))
        except ImageCacheError as exc:
            if name not in OBSOLETE_OPTIONS:
                raise
            ignored.append(_ignored(name, exc))
            return default
        return configured[name]

    def choose_pattern() -> str:
        pattern = str(choose("image_info_filename_pattern", _INFO_PATTERN))
        try:
            return _info_pattern(pattern, instances_path, subdirectory)
        except ImageCacheError as exc:
            if given.get("image_info_filename_pattern") is not None:
                raise
            ignored.append(_ignored("image_info_filename_pattern", exc))
            return _info_pattern(_INFO_PATTERN, instances_path, subdirectory)

    instances_path = str(choose("instances_path", _DEFAULT_INSTANCES_PATH))
    if not os.path.isabs(instances_path) or "\0" in instances_path or ".." in instances_path.split("/"):
        raise ImageCacheError(
            f"instances_path must be an absolute path without '..', not '{printable(instances_path)}'. Set "
            f"instances_path to the path of nova's instances on this host."
        )
    instances_path = os.path.normpath(instances_path)
    subdirectory = _directory_name(str(choose("image_cache_subdirectory_name", "_base")))
    glance_images = _glance_images(given.get("glance_images"))
    nova_path = os.path.normpath(configured.get("instances_path", _DEFAULT_INSTANCES_PATH))
    settings = Settings(
        instances_path=instances_path,
        image_cache_subdirectory_name=subdirectory,
        image_info_filename_pattern=choose_pattern(),
        remove_unused_base_images=choose("remove_unused_base_images", True),
        remove_unused_original_minimum_age_seconds=_not_negative(
            "remove_unused_original_minimum_age_seconds",
            choose("remove_unused_original_minimum_age_seconds", 86400),
        ),
        remove_unused_resized_minimum_age_seconds=_not_negative(
            "remove_unused_resized_minimum_age_seconds",
            choose("remove_unused_resized_minimum_age_seconds", 3600),
        ),
        remove_unused_kernels=choose("remove_unused_kernels", False),
        host=str(choose("host", hostname)),
        protect_orphans=given.get("orphans") != "ignore",
        keep_images=_kept_images(given.get("keep_images") or (), glance_images),
        glance_images=None if glance_images is None else glance_images.ids,
        max_used_space=_space_target(given, "max_used_space"),
        min_free_space=_space_target(given, "min_free_space"),
        max_removals=_limit(given, "max_removals"),
        max_removal_percent=_limit(given, "max_removal_percent"),
        checksums=_checksum_settings(
            given,
            enabled=choose("checksum_base_images", False),
            interval_seconds=_not_negative("checksum_interval_seconds", choose("checksum_interval_seconds", 3600)),
        ),
        keep_files=frozenset(given.get("keep_files") or ()),
        shared_storage=given.get("shared_storage"),
        nova_instances_paths=() if nova_path == instances_path else (nova_path,),
        storage_timeout_seconds=_timeout(given.get("storage_timeout_seconds")),
        details=given.get("details") or "summary",
        image_names={} if glance_images is None else glance_images.names,
        remove_only_deleted_images=bool(given.get("remove_only_deleted_images")),
        remove_deleted_images_minimum_age_seconds=_limit(given, "remove_deleted_images_minimum_age_seconds"),
        keep_precached_seconds=_limit(given, "keep_precached_seconds") or 0,
    )
    return settings._replace(warnings=tuple(ignored))


def _checksum_settings(given: Mapping[str, Any], enabled: bool, interval_seconds: int) -> ChecksumSettings:
    max_rate = _limit(given, "checksum_max_rate")
    if max_rate == 0:
        raise ImageCacheError(
            "checksum_max_rate must be at least one byte a second. For no limit, remove checksum_max_rate."
        )
    known: Mapping[str, tuple[str, str]] = {}
    if enabled and given.get("known_checksums"):
        # Here, so that a pass without them does not pay for it.
        from .known_checksums import parse_known_checksums

        known = parse_known_checksums(given["known_checksums"])
    return ChecksumSettings(
        enabled=enabled,
        interval_seconds=interval_seconds,
        algorithm=given.get("checksum_algorithm") or "sha1",
        all_files=given.get("checksum_scope") == "all",
        time_budget_seconds=_limit(given, "checksum_time_budget_seconds"),
        max_rate=max_rate,
        known=known,
        fail_on_corrupt=bool(given.get("fail_on_corrupt")),
    )


def _directory_name(name: str) -> str:
    if not name or "/" in name or "\0" in name or name in (".", "..", LOCKS_DIRECTORY):
        raise ImageCacheError(
            f"image_cache_subdirectory_name must be the name of a folder in instances_path, not '{printable(name)}'. "
            f"Set image_cache_subdirectory_name to nova's, which is _base by default."
        )
    return name


def _info_pattern(pattern: str, instances_path: str, subdirectory: str) -> str:
    references = {"instances_path": instances_path, "image_cache_subdirectory_name": subdirectory}
    path = string.Template(pattern).safe_substitute(references)
    name = os.path.basename(path)
    others = os.path.dirname(path) + name.replace(_IMAGE_REFERENCE, "", 1)
    info_names = [name.replace(_IMAGE_REFERENCE, example, 1) for example in _CACHE_NAMES]
    is_ambiguous = any(parse_name(info_name).kind is not Kind.OTHER for info_name in info_names)
    is_lock = os.path.dirname(os.path.normpath(path)) == os.path.join(instances_path, LOCKS_DIRECTORY)
    if _IMAGE_REFERENCE not in name or "%" in others or "\0" in path or is_ambiguous or is_lock:
        raise ImageCacheError(
            f"image_info_filename_pattern must name one file for each image, which is no cache or lock file; it is "
            f"'{printable(pattern)}'. Set image_info_filename_pattern to a path with {_IMAGE_REFERENCE} in its last "
            f"part, such as {_INFO_PATTERN}."
        )
    if not os.path.isabs(path) or "$" in path:
        raise ImageCacheError(
            f"image_info_filename_pattern must give an absolute path, with no reference but $instances_path "
            f"and $image_cache_subdirectory_name; it gives '{printable(path)}'. Set image_info_filename_pattern to a "
            f"path such as {_INFO_PATTERN}."
        )
    return os.path.normpath(path)


def _ignored(name: str, reason: ImageCacheError) -> str:
    return (
        f"config_file sets {name}, which is ignored: {reason} Today's nova has no such option. Remove {name} from that "
        f"file."
    )


def read_boolean(name: str, value: str) -> bool:
    """Read a truth value of nova's configuration, as oslo.config does.

    :raises ImageCacheError: it is none.
    """
    if value.lower() not in _BOOLEANS:
        raise ImageCacheError(
            f"config_file sets {name} to '{printable(value)}', which is neither true nor false. Correct {name} in that "
            f"file."
        )
    return _BOOLEANS[value.lower()]


def _integer(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError as exc:
        raise ImageCacheError(
            f"config_file sets {name} to '{printable(value)}', which is not a whole number. Correct {name} in that "
            f"file."
        ) from exc


def _not_negative(name: str, value: int) -> int:
    if value > _LARGEST:
        raise ImageCacheError(f"{name} must be at most {_LARGEST}. Set {name} to less.")
    if value < 0:
        raise ImageCacheError(f"{name} must not be negative; it is {max(value, -_LARGEST)}. Set {name} to 0 or more.")
    return value


def _glance_images(records: Iterable[object] | None) -> GlanceImages | None:
    if records is None:
        return None
    # Here, so that a pass without them does not pay for it.
    from .images import read_glance_images

    return read_glance_images(records)


def _kept_images(wanted: Iterable[object], glance_images: GlanceImages | None) -> frozenset[str]:
    if not wanted:
        return frozenset()
    # As above.
    from .images import find_images, unknown_image

    ids, unknown = find_images(wanted, glance_images)
    if unknown:
        raise ImageCacheError(unknown_image(unknown[0], glance_images is not None))
    return frozenset(ids)


def _timeout(seconds: int | None) -> int:
    if seconds is None:
        return _TIMEOUT
    if not 1 <= seconds <= _LONGEST_TIMEOUT:
        raise ImageCacheError(
            f"storage_timeout_seconds must be from 1 to {_LONGEST_TIMEOUT} seconds, not {seconds}. Set "
            f"storage_timeout_seconds to a number of seconds in these limits."
        )
    return seconds


def _space_target(given: Mapping[str, Any], name: str) -> SpaceTarget | None:
    value = given.get(name)
    if value is None:
        return None
    # Here, so that a pass without one does not pay for it.
    from .space import read_space_target

    target = read_space_target(name, value)
    return _not_negative(name, target) if isinstance(target, int) else target


def _limit(given: Mapping[str, int | None], name: str) -> int | None:
    value = given.get(name)
    return None if value is None else _not_negative(name, value)
