# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host is asked for: the role's variables as options of the modules, and what the fleet has to know of them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from typing import Any, Self

from ansible.module_utils.common.text.formatters import human_to_bytes
from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.argspec import (
    argument_spec,
    precache_argument_spec,
    restore_argument_spec,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.peers import is_ssh_host
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.images import (
    find_images,
    read_glance_images,
    unknown_image,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.instance_records import parse_record, to_records
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.space import read_space_target

PREFIX = "image_cache_"
RESULT = "image_cache_result"
SOURCES = ("libvirt", "openstack", "provided")
REPORT_VIEWS = ("fleet", "hosts", "storages", "files")
LIMITS = ("max_removals", "max_removal_percent")
SPACE_TARGETS = ("max_used_space", "min_free_space")

_SLICE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LONGEST_NUMBER = 18  # of more digits, Python refuses to make a number
_SPEC = argument_spec()


def variable_of(option: str) -> str:
    """Return the role's variable for an option of its modules."""
    return PREFIX + option.removeprefix("image_").removeprefix("cache_")


_MODULE_OPTIONS = {variable_of(option): option for option in _SPEC}
# Glance's records, where Glance is, and what other hosts have: they are found out, and no variables of the role.
_FOUND_OUT = ("images", "glance", "peers", "peer_command", "checksums_of")
_RESTORE_SPEC = {name: spec for name, spec in restore_argument_spec().items() if name not in (*_SPEC, *_FOUND_OUT)}
_RESTORE_OPTIONS = {f"{PREFIX}restore_{option}": option for option in _RESTORE_SPEC}
_PRECACHE_SPEC = {name: spec for name, spec in precache_argument_spec().items() if name not in (*_SPEC, *_FOUND_OUT)}
_PRECACHE_OPTIONS = {f"{PREFIX}precache_{option}": option for option in _PRECACHE_SPEC}
_GLANCE_OPTIONS = {f"{PREFIX}glance_{option}": option for option in ("ca_cert", "validate_certs", "timeout")}
_GLANCE_ROLE_OPTIONS = (
    *_GLANCE_OPTIONS,
    "image_cache_glance_interface",
    "image_cache_glance_concurrency",
    "image_cache_allow_admin_token",
)
_PEER_COMMAND = "image_cache_peer_command"
_PEER_ROLE_OPTIONS = (
    "image_cache_use_peers",
    "image_cache_site",
    "image_cache_peer_fanout",
    "image_cache_peer_address",
    _PEER_COMMAND,
)
PRECACHE_SOURCES = ("glance", "files")
_PRECACHE_ROLE_OPTIONS = (
    "image_cache_precache_images",
    "image_cache_precache_properties",
    "image_cache_precache_owners",
    "image_cache_precache_max_bytes",
    "image_cache_precache_source",
)
_ROLE_OPTIONS = frozenset(
    [
        "image_cache_prune",
        "image_cache_group",
        "image_cache_instance_source",
        "image_cache_openstack_cloud",
        "image_cache_openstack_region_name",
        "image_cache_storage_group",
        "image_cache_storage_members",
        "image_cache_exempt_storage_users",
        "image_cache_fleet_max_removal_percent",
        "image_cache_report_path",
        "image_cache_report_query",
        "image_cache_report_slice",
        "image_cache_report_view",
        "image_cache_restore_from_glance",
        *_PRECACHE_OPTIONS,
        *_PRECACHE_ROLE_OPTIONS,
        *_GLANCE_ROLE_OPTIONS,
        *_PEER_ROLE_OPTIONS,
    ]
)


class OptionsError(Exception):
    """A variable cannot be used. The text says which one, why, and what to do."""


@dataclass(frozen=True)
class FleetOptions:
    """What one host's variables say to the fleet. Plain values: the host's answer carries them.

    :param prune: whether its cache is to be pruned, and not only looked at.
    :param opted_out: whether the inventory keeps it from being pruned, although the play asked for it.
    :param host: nova's name for it, where it is set.
    :param asks_api: whether the Compute API knows its instances.
    :param cloud: the name of its cloud in ``clouds.yaml``; empty for the environment's.
    :param region: the region of that cloud; empty for the cloud's own.
    :param libvirt: whether its libvirt is read as well.
    :param ignores_orphans: whether disks of directories that belong to no known instance protect nothing.
    :param storage_group: the inventory group whose hosts share its storage.
    :param storage_members: the names of those hosts, or how many there must be; None where it is not set.
    :param exempt_storage_users: hosts that need nothing of any storage any more.
    :param instances_complete_for: hosts whose instances are all among those given.
    :param fleet_max_removal_percent: the fleet's limit, in percent of the bytes.
    :param limits: the module's limits and space targets that are set: numbers, bytes, and percentages as text.
    :param keep_images: the ids of images whose files are kept.
    :param keep_image_names: names of such images, to be found in the list of the host's Image API.
    :param keep_files: files that are kept.
    :param report_path: where the report is written.
    :param report_query: what is selected for it.
    :param report_slice: the part of the hosts that it is about, in the names of its files; empty for all.
    :param report_view: what of it the screen shows; empty where it is not set.
    :param images_digest: tells whether two hosts were given the same list of Glance's images; empty for none.
    :param records_digest: tells whether two hosts were given the same instances; empty for none.
    :param instances: the instances that were given, as plain records; None where they were left out because the host
        shares no storage.
    """

    prune: bool = False
    opted_out: bool = False
    host: str = ""
    asks_api: bool = False
    cloud: str = ""
    region: str = ""
    libvirt: bool = True
    ignores_orphans: bool = False
    storage_group: str = ""
    storage_members: tuple[str, ...] | int | None = None
    exempt_storage_users: tuple[str, ...] = ()
    instances_complete_for: tuple[str, ...] = ()
    fleet_max_removal_percent: float | None = None
    limits: Mapping[str, int | str] = field(default_factory=dict)
    keep_images: tuple[str, ...] = ()
    keep_image_names: tuple[str, ...] = ()
    keep_files: tuple[str, ...] = ()
    report_path: str = ""
    report_query: str = ""
    report_slice: str = ""
    report_view: str = ""
    images_digest: str = ""
    records_digest: str = ""
    instances: tuple[Mapping[str, Any], ...] | None = None

    @property
    def shows_files(self) -> bool:
        """Whether the report, or a page on the screen, has an entry for each file that a prune removes."""
        return bool(self.report_path) or self.report_view in ("storages", "files")

    def to_plain(self) -> dict[str, Any]:
        """Return what differs from the defaults, for an answer that stays small."""
        return {name: value for name, value in asdict(self).items() if value != getattr(NOTHING_SET, name)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> FleetOptions:
        """Read what :meth:`to_plain` made; a list has come back for each tuple."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()
        }
        return cls(**values)


NOTHING_SET = FleetOptions()


@dataclass(frozen=True)
class HostOptions:
    """What one host is asked for.

    :param module: the options of ``image_cache_facts`` and ``image_cache_prune``.
    :param fleet: what the fleet has to know.
    """

    module: Mapping[str, Any]
    fleet: FleetOptions


def read_options(variables: Mapping[str, Any], groups: Mapping[str, Sequence[str]], host: str) -> HostOptions:
    """Make the options of the modules from the role's variables, and refuse what is invalid.

    :param variables: the variables of the host that begin with ``image_cache_`` and are set, templated, without those
        that were omitted.
    :param groups: the groups of the inventory.
    :param host: the host's name in the inventory.
    :return: its options. ``prune`` is what ``image_cache_prune`` says; the entry point and the opt-out are the
        caller's.
    :raises OptionsError: a variable is unknown, null, or of no use.
    """
    _refuse_unknown_and_null(variables)
    values = {name: plain(value) for name, value in variables.items()}
    source = values.get("image_cache_instance_source", "libvirt")
    if source not in SOURCES:
        raise OptionsError(
            f"image_cache_instance_source is {source!r}, which the role does not know. Set it to one of "
            f"{', '.join(SOURCES)}."
        )
    instances = _instances(values)
    if source == "provided" and instances is None:
        raise OptionsError(
            "image_cache_instance_source is provided, and no instances are given. Set image_cache_instances."
        )
    group = _text(values, "image_cache_storage_group")
    if "image_cache_storage_group" in values and group not in groups:
        raise OptionsError(
            f"image_cache_storage_group is {group!r}. The inventory has no such group. Add it there, or correct "
            f"image_cache_storage_group."
        )
    exempt = _names(values, "image_cache_exempt_storage_users")
    module = {
        option: _list(name, values[name]) if _SPEC[option]["type"] == "list" else values[name]
        for name, option in _MODULE_OPTIONS.items()
        if name in values
    }
    if instances is not None:
        module["instances"] = list(instances)
    kept_ids, kept_names = _kept_images(module, asks_api=source == "openstack")
    if "keep_images" in module:
        module["keep_images"] = as_records(kept_ids)
    complete = _names(values, "image_cache_instances_complete_for")
    module["instances_complete_for"] = list(dict.fromkeys([*complete, *exempt]))
    view = _text(values, "image_cache_report_view")
    if "image_cache_report_view" in values and view not in REPORT_VIEWS:
        raise OptionsError(
            f"image_cache_report_view is {view!r}, which the role does not know. Set it to one of "
            f"{', '.join(REPORT_VIEWS)}."
        )
    report_path = _text(values, "image_cache_report_path")
    if view == "files":
        module["details"] = "files"
    elif report_path and module.get("details", "summary") == "summary":
        module["details"] = "images"
    members = groups.get(group, ())
    if host in members and len(members) > 1:
        module["shared_storage"] = True
    fleet = FleetOptions(
        prune=read_bool("image_cache_prune", values.get("image_cache_prune", False)),
        host=_text(values, "image_cache_host"),
        asks_api=source == "openstack",
        cloud=_text(values, "image_cache_openstack_cloud"),
        region=_text(values, "image_cache_openstack_region_name"),
        libvirt=read_bool("image_cache_libvirt", values.get("image_cache_libvirt", True)),
        ignores_orphans=values.get("image_cache_orphans") == "ignore",
        storage_group=group,
        storage_members=_storage_members(values),
        exempt_storage_users=exempt,
        instances_complete_for=complete,
        fleet_max_removal_percent=read_percent(values.get("image_cache_fleet_max_removal_percent")),
        limits=_limits(values),
        keep_images=kept_ids,
        keep_image_names=kept_names,
        keep_files=_names(values, "image_cache_keep_files"),
        report_path=report_path,
        report_query=_text(values, "image_cache_report_query"),
        report_slice=read_slice(values.get("image_cache_report_slice", "")),
        report_view=view,
        images_digest=_images_digest(module),
        records_digest=_digest(instances),
        instances=instances,
    )
    return HostOptions(module, fleet)


@dataclass(frozen=True)
class GlanceOptions:
    """What one host's variables say of fetching from Glance. Plain values: the result of a task carries them.

    :param cloud: the name of its cloud in ``clouds.yaml``; empty for the environment's.
    :param region: the region of that cloud; empty for the cloud's own.
    :param interface: whose endpoint of Glance the host gets; empty for that of ``clouds.yaml``.
    :param allow_admin_token: whether the host may get a token with the role admin.
    :param glance: how the host speaks to Glance, options of the module.
    """

    cloud: str = ""
    region: str = ""
    interface: str = ""
    allow_admin_token: bool = False
    glance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def api(self) -> tuple[str, str, str, bool]:
        """What tells the API that it asks, and how, from others."""
        return (self.cloud, self.region, self.interface, self.allow_admin_token)

    def to_plain(self) -> dict[str, Any]:
        """Return it as plain data, for the task's result."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_plain` made; a list has come back for each tuple."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()
        }
        return cls(**values)


def _glance_options(values: Mapping[str, Any], fleet: FleetOptions) -> dict[str, Any]:
    """Return the values of :class:`GlanceOptions`, and refuse what is invalid."""
    if "image_cache_glance_concurrency" in values:
        read_concurrency(values["image_cache_glance_concurrency"])
    return {
        "cloud": fleet.cloud,
        "region": fleet.region,
        "interface": _text(values, "image_cache_glance_interface"),
        "allow_admin_token": read_bool(
            "image_cache_allow_admin_token", values.get("image_cache_allow_admin_token", False)
        ),
        "glance": {option: values[name] for name, option in _GLANCE_OPTIONS.items() if name in values},
    }


def read_restore_options(
    variables: Mapping[str, Any], groups: Mapping[str, Sequence[str]], host: str
) -> tuple[HostOptions, GlanceOptions | None]:
    """Make the options of ``image_cache_restore`` from the role's variables, and refuse what is invalid.

    :param variables: as in :func:`read_options`.
    :param groups: the groups of the inventory.
    :param host: the host's name in the inventory.
    :return: its options, where the records among the images of Glance are those that prove a file, and where Glance is;
        None where it is not to be asked.
    :raises OptionsError: a variable is unknown, null, or of no use.
    """
    options = read_options(variables, groups, host)
    values = {name: plain(variables[name]) for name in _RESTORE_OPTIONS if name in variables}
    own = {
        _RESTORE_OPTIONS[name]: _list(name, value) if _RESTORE_SPEC[_RESTORE_OPTIONS[name]]["type"] == "list" else value
        for name, value in values.items()
    }
    images = options.module.get("glance_images") or ()
    own["images"] = [image for image in images if isinstance(image, Mapping)]
    own.update(_peer_command(variables))
    name = "image_cache_restore_from_glance"
    asks_glance = read_bool(name, variables.get(name, False))
    glance = _glance_options({name: plain(value) for name, value in variables.items()}, options.fleet)
    return replace(options, module={**options.module, **own}), GlanceOptions(**glance) if asks_glance else None


@dataclass(frozen=True)
class PrecacheOptions(GlanceOptions):
    """What one host's variables say of pre-caching. Plain values: the result of a task carries them.

    :param images: ids and names of images.
    :param properties: properties that an image must have, all of them; empty for none.
    :param owners: ids of projects whose images may be pre-cached although they are not public.
    :param max_bytes: how many bytes its images may have together; None for no limit.
    :param records: Glance's records, where the variables have them and no API is asked; None where Glance is asked.
    :param storage_group: the inventory group whose hosts share its storage.
    :param report_path: where the report is written.
    :param report_slice: the slice of the hosts that the report is about.
    """

    images: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    owners: tuple[str, ...] = ()
    max_bytes: int | None = None
    records: tuple[Mapping[str, Any], ...] | None = None
    storage_group: str = ""
    report_path: str = ""
    report_slice: str = ""


def read_precache_options(
    variables: Mapping[str, Any], groups: Mapping[str, Sequence[str]], host: str
) -> tuple[Mapping[str, Any], PrecacheOptions]:
    """Make the options of ``image_cache_precache`` from the role's variables, and refuse what is invalid.

    :param variables: as in :func:`read_options`.
    :param groups: the groups of the inventory.
    :param host: the host's name in the inventory.
    :return: the options of the module without ``images`` and ``glance``, and what says which images these are.
    :raises OptionsError: a variable is unknown, null, or of no use.
    """
    options = read_options(variables, groups, host)
    values = {name: plain(value) for name, value in variables.items()}
    own = {
        option: _list(name, values[name]) if _PRECACHE_SPEC[option]["type"] == "list" else values[name]
        for name, option in _PRECACHE_OPTIONS.items()
        if name in values
    }
    source = values.get("image_cache_precache_source", "glance")
    if source not in PRECACHE_SOURCES:
        raise OptionsError(
            f"image_cache_precache_source is {source!r}, which the role does not know. Set it to one of "
            f"{', '.join(PRECACHE_SOURCES)}."
        )
    records = tuple(image for image in options.module.get("glance_images") or () if isinstance(image, Mapping))
    if source == "files" and not records:
        raise OptionsError(
            "image_cache_precache_source is files, and no records of images are given, which say what the bytes of a "
            "file must be. Set image_cache_glance_images to Glance's records of these images."
        )
    return {**options.module, **own, **_peer_command(values)}, PrecacheOptions(
        **_glance_options(values, options.fleet),
        images=_names(values, "image_cache_precache_images"),
        properties=_properties(values),
        owners=_names(values, "image_cache_precache_owners"),
        max_bytes=_bytes(values, "image_cache_precache_max_bytes"),
        records=records if source == "files" else None,
        storage_group=options.fleet.storage_group,
        report_path=options.fleet.report_path,
        report_slice=options.fleet.report_slice,
    )


@dataclass(frozen=True)
class PeerOptions:
    """What one host's variables say of hosts that serve each other. Plain values: the result of a task carries them.

    :param site: where it is; only hosts of one site serve each other.
    :param address: by which other hosts reach it.
    :param fanout: how many others it serves at a time.
    :param known_by: all names and addresses by which it is known.
    """

    site: str
    address: str
    fanout: int
    known_by: tuple[str, ...] = ()

    def to_plain(self) -> dict[str, Any]:
        """Return it as plain data, for the task's result."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_plain` made."""
        return cls(**{**plain, "known_by": tuple(plain["known_by"])})


def uses_peers(variables: Mapping[str, Any]) -> bool:
    """Tell whether a host serves others and is served by them.

    :param variables: as in :func:`read_options`.
    :raises OptionsError: that is neither true nor false.
    """
    name = "image_cache_use_peers"
    return read_bool(name, plain(variables.get(name, False)))


def read_peer_options(variables: Mapping[str, Any], address: str) -> PeerOptions:
    """Read how a host serves others and is served by them.

    :param variables: as in :func:`read_options`.
    :param address: by which Ansible reaches the host, for want of another one.
    :raises OptionsError: a variable is of no use.
    """
    values = {name: plain(variables[name]) for name in _PEER_ROLE_OPTIONS if name in variables}
    options = PeerOptions(
        site=_text(values, "image_cache_site"),
        address=_text(values, "image_cache_peer_address") or address,
        fanout=_number_of_hosts("image_cache_peer_fanout", values.get("image_cache_peer_fanout", 1)),
    )
    if not is_ssh_host(options.address):
        raise OptionsError(
            f"Other hosts would reach this one by {options.address!r}, which is no name or address of a host. Set "
            f"image_cache_peer_address to one that ssh takes."
        )
    return options


def _peer_command(variables: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the modules' option ``peer_command`` where it is set."""
    if _PEER_COMMAND not in variables:
        return {}
    return {"peer_command": list(_names({_PEER_COMMAND: plain(variables[_PEER_COMMAND])}, _PEER_COMMAND))}


def read_concurrency(value: Any) -> int:
    """Read on how many hosts at a time images are fetched.

    :raises OptionsError: it is no number above zero.
    """
    return _number_of_hosts("image_cache_glance_concurrency", value)


def _number_of_hosts(name: str, value: Any) -> int:
    text = str(value).strip()
    number = int(text) if text.isdecimal() and len(text) <= _LONGEST_NUMBER else 0
    if number < 1:
        raise OptionsError(f"{name} is {value!r}, which is no number of hosts. Set {name} to a number above zero.")
    return number


def as_records(ids: Iterable[str]) -> list[dict[str, str]]:
    """Return ids of images as records, which a module takes for ids whatever they look like."""
    return [{"id": image_id} for image_id in ids]


def read_bool(name: str, value: Any) -> bool:
    """Read a truth value as Ansible writes it.

    :raises OptionsError: it is none.
    """
    try:
        return bool(boolean(value))
    except TypeError as exc:
        raise OptionsError(
            f"{name} is {value!r}, which is neither true nor false. Set {name} to one of these."
        ) from exc


def read_percent(value: Any) -> float | None:
    """Read the fleet's limit; None where there is none.

    :raises OptionsError: it is no number from 0 to 100.
    """
    if value is None:
        return None
    try:
        percent = float(value)
    except (TypeError, ValueError, OverflowError):
        percent = -1.0
    if isinstance(value, bool) or not 0 <= percent <= 100:
        raise OptionsError(
            f"image_cache_fleet_max_removal_percent is {value!r}, which is not a number of percent. Nothing may be "
            "removed by such a limit. Set image_cache_fleet_max_removal_percent to a number from 0 to 100."
        )
    return percent


def read_slice(value: Any) -> str:
    """Read the name of a slice, which becomes part of file names; empty for none.

    :raises OptionsError: a file name or a label of Prometheus cannot have it.
    """
    name = "" if value == "" else str(value)
    if name and not _SLICE.fullmatch(name):
        raise OptionsError(
            f"image_cache_report_slice is {name!r}, which cannot be part of a file's name. Set "
            "image_cache_report_slice to up to 64 letters, digits, dots, underscores or hyphens."
        )
    return name


def as_list(value: Any) -> list[Any]:
    """Return a list as a module takes one: a text with commas is one as well.

    :raises TypeError: it is neither.
    """
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    if isinstance(value, (list, tuple, set)):
        return list(value)
    raise TypeError


def plain(value: Any) -> Any:
    """Return a value as JSON has it: dates as text, what a vault held as the text that it is."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {plain(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(inner) for inner in value]
    # ansible-core 2.18 has a type of its own for it, which json.dumps does not know.
    return str(value) if hasattr(value, "vault") else value


def _refuse_unknown_and_null(variables: Mapping[str, Any]) -> None:
    unknown = sorted(set(variables) - _MODULE_OPTIONS.keys() - _RESTORE_OPTIONS.keys() - _ROLE_OPTIONS - {RESULT})
    if unknown:
        raise OptionsError(
            f"The role image_cache has no variable {', '.join(unknown)}. A protection whose name is misspelt protects "
            f"nothing, so nothing was looked at. Correct the name in the inventory or the play. If the variable is "
            f"your own, registered or set elsewhere, give it a name that does not begin with {PREFIX}."
        )
    null = sorted(name for name, value in variables.items() if value is None)
    if null:
        raise OptionsError(
            f"{', '.join(null)} {'is' if len(null) == 1 else 'are'} null. Set a value, or remove {', '.join(null)}."
        )


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name, "")
    if isinstance(value, (Mapping, list)):
        raise OptionsError(f"{name} is {type(value).__name__} and must be text. Set {name} to one text.")
    return str(value)


def _names(values: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return tuple(str(item) for item in _list(name, values.get(name, [])))


def _properties(values: Mapping[str, Any]) -> dict[str, str]:
    """Read the properties of images. Glance has texts only, and YAML reads ``true`` as something else."""
    name = "image_cache_precache_properties"
    properties = values.get(name, {})
    if not isinstance(properties, Mapping):
        raise OptionsError(f"{name} is {properties!r} and must be a dictionary. Set {name} to {{property: value}}.")
    for key, value in properties.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise OptionsError(
                f"{name} has {key!r}: {value!r}, and a property of an image is text. Set it in quotes, exactly as "
                f"`openstack image show` has it."
            )
    return dict(properties)


def _bytes(values: Mapping[str, Any], name: str) -> int | None:
    if name not in values:
        return None
    try:
        size = int(human_to_bytes(str(values[name])))
    except (ValueError, OverflowError):
        size = 0
    if size < 1:
        raise OptionsError(f"{name} is {values[name]!r}, which is no size. Set {name} to bytes, or such as 100G.")
    return size


def _list(name: str, value: Any) -> list[Any]:
    try:
        return as_list(value)
    except TypeError as exc:
        raise OptionsError(f"{name} is {value!r} and must be a list. Set {name} to a list, even of one item.") from exc


def _storage_members(values: Mapping[str, Any]) -> tuple[str, ...] | int | None:
    """Read how many hosts, or which, share the storage. ansible-core 2.18 gives a templated number as text."""
    name = "image_cache_storage_members"
    if name not in values:
        return None
    value = values[name]
    if isinstance(value, str) and value.strip().isdecimal() and len(value) <= _LONGEST_NUMBER:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 1:
            raise OptionsError(
                f"{name} is {value}. A storage has at least one member. Set {name} to their number, or names."
            )
        return value
    members = _names(values, name)
    if not all(members):
        raise OptionsError(f"{name} has an empty name in it. Set {name} to the names of the hosts, or to their number.")
    return members


def _kept_images(module: Mapping[str, Any], asks_api: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the ids of the images to keep, and the names among them that only an API may know."""
    try:
        listed = module.get("glance_images")
        glance_images = None if listed is None else read_glance_images(listed)
        ids, names = find_images(module.get("keep_images", ()), glance_images)
        if names and not asks_api:
            raise ImageCacheError(unknown_image(names[0], glance_images is not None))
    except ImageCacheError as exc:
        raise OptionsError(f"image_cache_keep_images or image_cache_glance_images: {exc}") from exc
    return tuple(ids), tuple(names)


def _images_digest(module: Mapping[str, Any]) -> str:
    return _digest(as_records(read_glance_images(module.get("glance_images", ())).ids))


def _limits(values: Mapping[str, Any]) -> dict[str, int | str]:
    limits: dict[str, int | str] = {}
    for option in LIMITS:
        name = PREFIX + option
        if name in values:
            try:
                limits[option] = int(values[name])
            except (TypeError, ValueError, OverflowError) as exc:
                raise OptionsError(
                    f"{name} is {values[name]!r}, which is not a number. Set {name} to a number."
                ) from exc
    for option in SPACE_TARGETS:
        name = PREFIX + option
        if name in values:
            try:
                target = read_space_target(name, values[name])
            except ImageCacheError as exc:
                raise OptionsError(str(exc)) from exc
            limits[option] = target if isinstance(target, int) else str(values[name])
    return limits


def _instances(values: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...] | None:
    """Return given instances as plain records. What else a server has, such as passwords, stays on the controller."""
    name = "image_cache_instances"
    if name not in values:
        return None
    records: list[dict[str, Any]] = []
    for number, record in enumerate(_list(name, values[name])):
        try:
            instance = parse_record(record)
        except ImageCacheError as exc:
            raise OptionsError(
                f"{name}[{number}] cannot be understood: {exc} Correct {name}[{number}], or take the record from "
                "the Compute API again."
            ) from exc
        if instance is not None:
            records += to_records(instance)
    return tuple(records)


def _digest(records: Sequence[Mapping[str, Any]] | None) -> str:
    if not records:
        return ""
    texts = sorted(json.dumps(record) for record in records)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
