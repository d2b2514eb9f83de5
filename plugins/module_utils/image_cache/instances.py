# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which instances there are: from given records, from Nova API servers and from libvirt's domains."""

from __future__ import annotations

import re
from typing import (
    Any,
    Iterable,
    Mapping,
    NamedTuple,
    Sequence,
)

from .errors import ImageCacheError

__all__ = ["Instance", "Instances", "merge_instances", "parse_record", "parse_sizes", "to_records"]

_SIZE = re.compile("\\s*[0-9]{1,18}\\s*", re.ASCII)
_SIZE_LIMIT = 10**18
# States in which nova keeps a second directory, by ``_list_running_instances`` in
# ``nova/virt/imagecache.py``.
_RESIZED = "resized"
_RESIZING = ("resize_prep", "resize_migrating", "resize_migrated", "resize_finish")
# An instance in one of these has no disk on any compute host.
_WITHOUT_DISKS = ("deleted", "shelved_offloaded")

Record = Mapping[str, Any]


class Instance(NamedTuple):
    """One instance, as far as the cache is concerned.

    :param uuid: its id; libvirt and current releases name its directory by it.
    :param name: nova's name for it (``instance-0000000a``), which was the directory's name once; may be empty.
    :param host: the compute host; empty where that is not said.
    :param image_ids: the image, kernel and ramdisk that are set.
    :param swap_mb: swap sizes in MiB, of which a template may be in use.
    :param ephemeral_gb: ephemeral disk sizes in GiB, likewise.
    :param resizing: whether it may have ``_resize`` directories; None where its state is not said, and it may.
    :param disks: its disks, where the source names them: path and format (empty where unsaid).
    """

    uuid: str
    name: str
    host: str
    image_ids: tuple[str, ...] = ()
    swap_mb: tuple[int, ...] = ()
    ephemeral_gb: tuple[int, ...] = ()
    resizing: bool | None = None
    disks: tuple[tuple[str, str], ...] = ()

    @property
    def label(self) -> str:
        """What a person calls it."""
        return self.name or self.uuid

    @property
    def directories(self) -> tuple[str, ...]:
        """The names that its directories may have."""
        names = (self.uuid, self.name) if self.name else (self.uuid,)
        return names if self.resizing is False else names + tuple(name + "_resize" for name in names)


class Instances(NamedTuple):
    """All instances that any source named.

    :param has_source: whether there was a source; without one, the directories are the instances.
    :param all: the instances, each once.
    :param hosts: the hosts all of whose instances are here.
    :param problems: sentences; while there is one, instances may be missing here.
    :param from_libvirt: the instances that this host's libvirt named.
    :param complete_for: those of the hosts that the operator named, even if they have no instance.
    :param earlier_directories: the directories that there were before the instances were read, None where that is not
        known: only these can be orphans.
    """

    has_source: bool
    all: tuple[Instance, ...] = ()
    hosts: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()
    from_libvirt: tuple[Instance, ...] = ()
    complete_for: frozenset[str] = frozenset()
    earlier_directories: frozenset[str] | None = None


def merge_instances(
    records: Sequence[Any] | None,
    hosts: Iterable[str],
    libvirt_config_path: str | None,
    host: str,
) -> Instances:
    """Merge the instances of all sources.

    :param records: plain records or Nova API servers; None where none were given.
    :param hosts: hosts that the records speak for, even where they have no instance.
    :param libvirt_config_path: the directory of libvirt's persistent domain XML, None to leave it.
    :param host: this host, for which libvirt speaks; without any source, its directories do.
    :return: the instances; one that two sources name is among them once.
    """
    problems: list[str] = []
    found: dict[str, Instance] = {}
    complete = set(hosts)
    for number, record in enumerate(records or ()):
        try:
            instance = parse_record(record)
        except ImageCacheError as exc:
            problems.append(
                f"instances[{number}] cannot be understood: {exc} Correct instances[{number}], or take the record from "
                f"the Compute API again."
            )
            continue
        if instance is not None:
            found[instance.uuid] = _merge(found.get(instance.uuid), instance)
            complete.add(instance.host)
    from_libvirt: list[Instance] = []
    if libvirt_config_path is not None:
        # Here, so that a pass without libvirt does not pay for a parser of XML.
        from .domain_xml import read_domains

        try:
            from_libvirt = read_domains(libvirt_config_path, host, problems)
            for instance in from_libvirt:
                found[instance.uuid] = _merge(found.get(instance.uuid), instance)
            complete.add(host)
        except ImageCacheError as exc:
            problems.append(str(exc))
    has_source = records is not None or libvirt_config_path is not None
    if not has_source:
        complete.add(host)
    return Instances(
        has_source,
        tuple(found.values()),
        frozenset(complete - {""}),
        tuple(problems),
        tuple(from_libvirt),
        complete_for=frozenset(hosts),
    )


def parse_record(record: Any) -> Instance | None:
    """Understand one instance: a plain record, or a server as the Nova API or openstacksdk gives it.

    :param record: a plain record has ``uuid``, a server ``id``.
    :return: the instance; None where it has no disk on any host (deleted, or shelved and offloaded).
    :raises ImageCacheError: it is neither, or a value in it is of the wrong type.
    """
    if not isinstance(record, Mapping):
        raise ImageCacheError("it is not a dictionary.")
    if record.get("uuid"):
        get, flavor, image = _Getter(record, ""), record, _text(record, "image_ref")
        uuid, name, host = _text(record, "uuid"), _text(record, "name"), _text(record, "host")
        swap, ephemeral = "swap_mb", "ephemeral_gb"
    elif record.get("id"):
        get = _Getter(record, "OS-EXT-")
        uuid, name = _text(record, "id"), get("SRV-ATTR:instance_name", "instance_name")
        host = get("SRV-ATTR:host", "compute_host")
        flavor, image = _part(record, "flavor"), _text(_part(record, "image"), "id")
        swap, ephemeral = "swap", "ephemeral"
    else:
        raise ImageCacheError("it has neither a uuid nor an id.")
    vm_state, task_state = get("STS:vm_state", "vm_state"), get("STS:task_state", "task_state")
    # With a task under way, such as an unshelve, it may have disks again.
    if vm_state in _WITHOUT_DISKS and not task_state:
        return None
    image_ids = (image, get("SRV-ATTR:kernel_id", "kernel_id"), get("SRV-ATTR:ramdisk_id", "ramdisk_id"))
    return Instance(
        uuid=uuid,
        name=name,
        host=host,
        image_ids=tuple(dict.fromkeys(filter(None, image_ids))),
        swap_mb=parse_sizes(flavor, swap),
        ephemeral_gb=parse_sizes(flavor, ephemeral),
        resizing=_is_resizing(vm_state, task_state),
    )


def to_records(instance: Instance) -> list[dict[str, Any]]:
    """Return an instance as plain records: :func:`merge_instances` makes the same of them again, but for its disks.

    A record has room for one image and one size of each kind, so more than one may be needed.
    """
    state = {} if instance.resizing is None else {"vm_state": _RESIZED if instance.resizing else "active"}
    count = max(1, len(instance.image_ids), len(instance.swap_mb), len(instance.ephemeral_gb))
    keys = {"image_ref": instance.image_ids, "swap_mb": instance.swap_mb, "ephemeral_gb": instance.ephemeral_gb}
    return [
        {
            "uuid": instance.uuid,
            "name": instance.name,
            "host": instance.host,
            **state,
            **{key: values[number] for key, values in keys.items() if number < len(values)},
        }
        for number in range(count)
    ]


def _is_resizing(vm_state: str, task_state: str) -> bool | None:
    if not vm_state and not task_state:
        return None
    return vm_state == _RESIZED or task_state in _RESIZING


def _merge(one: Instance | None, other: Instance) -> Instance:
    if one is None:
        return other
    return Instance(
        uuid=one.uuid,
        name=one.name or other.name,
        host=one.host or other.host,
        image_ids=tuple(dict.fromkeys(one.image_ids + other.image_ids)),
        swap_mb=tuple(dict.fromkeys(one.swap_mb + other.swap_mb)),
        ephemeral_gb=tuple(dict.fromkeys(one.ephemeral_gb + other.ephemeral_gb)),
        resizing=other.resizing if one.resizing is None else one.resizing,
        disks=one.disks + other.disks,
    )


class _Getter:
    """Reads a value under the API's name for it (with its prefix) or the SDK's or plain one."""

    def __init__(self, record: Record, prefix: str) -> None:
        self._record = record
        self._prefix = prefix

    def __call__(self, api_name: str, plain_name: str) -> str:
        prefixed = self._prefix + api_name
        return _text(self._record, prefixed if prefixed in self._record else plain_name)


def _text(record: Record, key: str) -> str:
    value = record.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ImageCacheError(f"its {key} is not a string.")
    return value


def _part(record: Record, key: str) -> Record:
    """Return a dictionary in a record; boot from volume has ``image: ""``, and the SDK None."""
    value = record.get(key)
    if value is None or value == "":
        return {}
    if not isinstance(value, Mapping):
        raise ImageCacheError(f"its {key} is not a dictionary.")
    return value


def parse_sizes(record: Record, key: str) -> tuple[int, ...]:
    """Understand a size of a flavor.

    :param record: where it stands, as a number or a text.
    :param key: its name there.
    :return: the size; empty where there is none, or it is 0.
    :raises ImageCacheError: it is not a whole number.
    """
    value = record.get(key)
    if value is None or value == "":
        return ()
    # Not int(value): it makes a size of True and of 1.9 as well, and none of -64.
    if isinstance(value, str) and _SIZE.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _SIZE_LIMIT:
        raise ImageCacheError(f"its {key} is not a whole number.")
    return (value,) if value > 0 else ()
