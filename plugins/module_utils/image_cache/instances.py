# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which instances there are: from given records, from Nova API servers and from libvirt's domains."""

from __future__ import annotations

from typing import Any, Iterable, NamedTuple, Sequence

from .errors import ImageCacheError

__all__ = ["Instance", "Instances", "merge_instances"]


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
    if records:
        # Here, so that a pass without records does not pay for it.
        from .instance_records import parse_record
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
