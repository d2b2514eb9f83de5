# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The instances that libvirt knows on this host, from its persistent domain XML."""

from __future__ import annotations

import os
from xml.parsers import expat

from .errors import ImageCacheError, reason_and_remedy, reason_of
from .files import read_small_file
from .instance_records import parse_sizes
from .instances import Instance
from .text import printable

__all__ = ["parse_domain", "read_domains"]

_NOVA_NAMESPACE = "http://openstack.org/xmlns/libvirt/nova/"
_SEPARATOR = "|"
_DOMAIN_SIZE_LIMIT = 1024 * 1024


def parse_domain(document: bytes, host: str) -> Instance:
    """Understand one domain of libvirt.

    :param document: its persistent XML. nova's metadata in it names the image (``nova:root``, or
        ``nova:image``) and the flavor's sizes; a domain that nova did not make has none.
    :param host: the host that it is defined on.
    :return: the instance.
    :raises ImageCacheError: it is not well formed, has a document type, or lacks what libvirt always writes.
    """
    texts: dict[str, str] = {}
    image_ids: list[str] = []
    disks: list[tuple[str, str]] = []
    path: list[str] = []
    disk_format = ""
    parser = expat.ParserCreate(namespace_separator=_SEPARATOR)
    parser.buffer_text = True

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal disk_format
        path.append(tag)
        if tag == "disk":
            disk_format = ""
        elif tag == "driver" and path[-2:-1] == ["disk"]:
            disk_format = attributes.get("type", "")
        elif tag == "source" and path[-2:-1] == ["disk"]:
            if "file" in attributes:
                disks.append((attributes["file"], disk_format))
        elif tag.startswith(_NOVA_NAMESPACE):
            element = tag.rpartition(_SEPARATOR)[2]
            if element == "image" or (element == "root" and attributes.get("type") == "image"):
                image_ids.append(attributes.get("uuid", ""))
            elif element == "swap" or element == "ephemeral":
                parser.CharacterDataHandler = text
        elif len(path) == 2 and (tag == "name" or tag == "uuid"):
            parser.CharacterDataHandler = text

    def text(data: str) -> None:
        element = path[-1].rpartition(_SEPARATOR)[2]
        texts[element] = texts.get(element, "") + data

    def end(_tag: str) -> None:
        path.pop()
        parser.CharacterDataHandler = None

    def refuse(*_declaration: object) -> None:
        raise ImageCacheError("it contains a DOCTYPE, which libvirt never writes.")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(document, True)
    except (expat.ExpatError, LookupError, ValueError) as exc:  # the last two: an encoding that is not UTF-8
        raise ImageCacheError(f"it is not well formed: {exc}.") from exc
    uuid, name = texts.get("uuid", "").strip(), texts.get("name", "").strip()
    if not uuid or not name:
        raise ImageCacheError("it does not name a domain and its uuid.")
    return Instance(
        uuid=uuid,
        name=name,
        host=host,
        image_ids=tuple(dict.fromkeys(filter(None, image_ids))),
        swap_mb=parse_sizes(texts, "swap"),
        ephemeral_gb=parse_sizes(texts, "ephemeral"),
        disks=tuple(disks),
    )


def read_domains(directory: str, host: str, problems: list[str]) -> list[Instance]:
    """Read the instances of a host.

    :param directory: the directory of libvirt's persistent domain XML.
    :param host: the host.
    :param problems: gets a sentence for each file whose instance stays unknown.
    :return: its instances.
    :raises ImageCacheError: the directory cannot be read.
    """
    try:
        names = [name for name in os.listdir(directory) if name.endswith(".xml")]
    except OSError as exc:
        raise ImageCacheError(
            f"libvirt_config_path {printable(directory)} cannot be read, so this host's instances are unknown: "
            f"{reason_of(exc)}. Set libvirt_config_path to the directory where "
            f"libvirt keeps its domains, or set libvirt: false."
        ) from exc
    instances = []
    for name in names:
        path = os.path.join(directory, name)
        try:
            instances.append(parse_domain(read_small_file(path, _DOMAIN_SIZE_LIMIT), host))
        except FileNotFoundError:
            if os.path.islink(path):
                problems.append(
                    f"The domain XML {printable(path)} is a link that leads nowhere. If virsh list --all lacks its "
                    f"domain, remove the link. Otherwise restore the file that it leads to."
                )
            continue  # undefined meanwhile
        except OSError as exc:
            problems.append(f"The domain XML {printable(path)} cannot be read: {reason_and_remedy(exc)}.")
        except ImageCacheError as exc:
            problems.append(_not_understood(path, str(exc)))
        except ValueError as exc:
            problems.append(_not_understood(path, f"{exc}."))
    return instances


def _not_understood(path: str, reason: str) -> str:
    return (
        f"The domain XML {printable(path)} cannot be understood: {reason} Compare it with virsh dumpxml, and correct "
        f"it. If virsh list --all lacks its domain, remove the file."
    )
