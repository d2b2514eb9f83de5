# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which instances and images the Compute and the Image API of one cloud and region know."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.records import (
    is_restorable,
    read_records,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.instance_records import parse_record, to_records
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.instances import Instance
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.text import printable

__all__ = [
    "HIDDEN_IMAGES",
    "IMAGES",
    "REQUEST_SECONDS",
    "ApiList",
    "CloudAnswer",
    "ask",
    "cloud_arguments",
    "connect",
    "interpret",
    "read_list",
    "reason_of",
]

REQUEST_SECONDS = 60
# Since 2.69 (Stein) nova lists a server whose cell does not answer, with the status UNKNOWN. Before, it leaves that
# server out. The sizes of a flavor are there since 2.47, kernel and ramdisk since 2.3.
_MICROVERSION = "2.69"
_ANY_STORAGE = ""
_LONGEST_REASON = 500


@dataclass(frozen=True)
class CloudAnswer:
    """What the APIs of one cloud and region said.

    :param instances: plain records by nova's name of their host; under the empty name those that count for every
        storage, because they have no host or are on their way to another one.
    :param images: ``id`` and ``name`` of every image that Glance has, hidden ones included; an image without a name
        has an empty one.
    :param problem: why the rest must not be relied on, and what to do; empty if it may be.
    :param restorable: the ids of the images whose base files can be restored from Glance, by the names of these files.
    """

    instances: Mapping[str, tuple[Mapping[str, Any], ...]]
    images: tuple[Mapping[str, Any], ...]
    problem: str
    restorable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ApiList:
    """A list that an API has: what a person calls it, where it is, and what has to be asked for."""

    what: str
    service: str
    path: str
    key: str
    parameters: Mapping[str, str]
    request: Mapping[str, Any] = field(default_factory=dict)


_SERVERS = ApiList(
    "servers", "compute", "/servers/detail", "servers", {"all_tenants": "true"}, {"microversion": _MICROVERSION}
)
_SOFT_DELETED = ApiList(
    "soft-deleted servers",
    "compute",
    "/servers/detail",
    "servers",
    {"all_tenants": "true", "deleted": "true", "status": "SOFT_DELETED"},
    {"microversion": _MICROVERSION},
)
# Without a visibility, Glance leaves out the community images of other projects.
IMAGES = ApiList("images", "image", "/images", "images", {"visibility": "all", "limit": "1000"})
HIDDEN_IMAGES = ApiList("hidden images", "image", "/images", "images", {**IMAGES.parameters, "os_hidden": "true"})


def ask(cloud: str | None, region: str | None, request_seconds: float = REQUEST_SECONDS) -> CloudAnswer:
    """Ask the Compute and the Image API of a cloud which servers and images there are.

    The raw JSON is read, not the resources of openstacksdk: these rename fields by their version, leave out what they
    do not know, and turn values of a wrong type into others, where ``parse_record`` would refuse them.

    :param cloud: its name in ``clouds.yaml``; None or empty for that of the environment.
    :param region: its region; None or empty for the only one that there is.
    :param request_seconds: the time limit of each request, unless ``clouds.yaml`` has an ``api_timeout``.
    :return: the answer; whatever goes wrong is its ``problem``.
    """
    try:
        connection = connect(cloud, region, request_seconds)
        # A server that is deleted between the two requests is in the first list. The other order would miss it.
        servers, soft_deleted = (read_list(connection, one) for one in (_SERVERS, _SOFT_DELETED))
        images = [image for one in (IMAGES, HIDDEN_IMAGES) for image in read_list(connection, one)]
    except ImageCacheError as exc:
        return _refused(str(exc), cloud, region)
    return interpret(servers, soft_deleted, images, cloud, region)


def interpret(
    servers: Sequence[Any],
    soft_deleted: Sequence[Any],
    images: Sequence[Any],
    cloud: str | None = None,
    region: str | None = None,
) -> CloudAnswer:
    """Take from the lists of the APIs what image caches have to know.

    :param servers: the servers of all projects, as nova's ``/servers/detail`` lists them.
    :param soft_deleted: the soft-deleted ones, which that list leaves out.
    :param images: the images, as Glance's ``/images`` lists them.
    :param cloud: the name of the cloud, for messages.
    :param region: the name of its region, for messages.
    :return: the answer. A list that cannot be understood as a whole is a ``problem``: a server that is not understood
        may use any file.
    """
    try:
        # A server that both lists have, or two pages, counts once. One that moved meanwhile counts for every storage.
        found: dict[str, dict[tuple[str, Instance], None]] = {}
        for server in (*servers, *soft_deleted):
            instance = _parse_server(server)
            if instance is not None:
                place = _ANY_STORAGE if _is_moving(server) else instance.host
                found.setdefault(instance.uuid, {})[place, instance] = None
        if found and not any(instance.host for places in found.values() for _place, instance in places):
            raise ImageCacheError("no server has a host, because the account probably lacks administrator's rights")
        instances: dict[str, list[dict[str, Any]]] = {}
        for places in found.values():
            is_in_one_place = len({place for place, _instance in places}) == 1
            for place, instance in places:
                records = [{key: _as_utf8(value) for key, value in record.items()} for record in to_records(instance)]
                instances.setdefault(_as_utf8(place) if is_in_one_place else _ANY_STORAGE, []).extend(records)
        parsed_images = {image["id"]: image for image in map(_parse_image, images)}
    except ImageCacheError as exc:
        return _refused(str(exc), cloud, region)
    return CloudAnswer(
        {host: tuple(records) for host, records in instances.items()},
        tuple(parsed_images.values()),
        "",
        _restorable(images),
    )


def connect(cloud: str | None, region: str | None, request_seconds: float) -> Any:
    """Log in to a cloud.

    :param cloud: as for :func:`ask`.
    :param region: as for :func:`ask`.
    :param request_seconds: as for :func:`ask`.
    :return: openstacksdk's connection.
    :raises ImageCacheError: that is not possible.
    """
    try:
        import openstack
    except ImportError as exc:
        raise ImageCacheError(
            f"openstacksdk cannot be imported on the controller, by {sys.executable}: {reason_of(exc)}. Run `pip "
            f"install openstacksdk` there"
        ) from exc
    try:
        loader = openstack.config.OpenStackConfig()
        config = loader.get_one(cloud=cloud or None, region_name=region or None)
        if not config.config.get("api_timeout"):
            config.config["api_timeout"] = request_seconds
        connection = openstack.connection.Connection(config=config)
        configured = loader.cloud_config["clouds"].get(config.name) or {}
        regions = () if region else _regions_to_choose_from(connection, configured)
    except Exception as exc:
        raise ImageCacheError(f"they cannot be used: {reason_of(exc)}") from exc
    if len(regions) > 1:
        raise ImageCacheError(
            f"the cloud has several regions ({printable(', '.join(regions))}), and no variable names the one of these "
            f"hosts. Set image_cache_openstack_region_name"
        )
    return connection


def _regions_to_choose_from(connection: Any, configured: Mapping[str, Any]) -> Sequence[str]:
    """Return the regions of a cloud of which openstacksdk would silently take the first one.

    :param connection: the connection.
    :param configured: what ``clouds.yaml`` has of the cloud.
    """
    if "regions" not in configured and "," not in configured.get("region_name", ","):
        return ()
    get_access = getattr(connection.session.auth, "get_access", None)
    if get_access is None:  # a cloud without Keystone
        return ()
    endpoints = get_access(connection.session).service_catalog.get_endpoints_data(service_type="compute")
    return sorted({str(one.region_name) for several in endpoints.values() for one in several})


def read_list(connection: Any, wanted: ApiList) -> list[Any]:
    """Return all that a list has, page by page.

    :param connection: openstacksdk's connection.
    :param wanted: the list.
    :raises ImageCacheError: it cannot be read as a whole.
    """
    try:
        service = getattr(connection, wanted.service)
        found: list[Any] = []
        markers: set[str] = set()
        parameters = dict(wanted.parameters)
        while True:
            response = service.get(wanted.path, params=parameters, skip_cache=True, **wanted.request)
            if response.status_code != 200:
                raise ImageCacheError(f"HTTP {response.status_code}: {response.text}")
            body = response.json()
            page = body.get(wanted.key) if isinstance(body, dict) else None
            if not isinstance(page, list):
                raise ImageCacheError(f"the answer has no list of {wanted.key}")
            found.extend(page)
            # Nova names the next page in "servers_links", Glance in "next".
            if not page or not (body.get(f"{wanted.key}_links") or body.get("next")):
                return found
            marker = _id(page[-1], wanted.key)
            if marker in markers:
                raise ImageCacheError(f"the pages are a loop: the one after {printable(marker)} came twice")
            markers.add(marker)
            parameters["marker"] = marker
    except Exception as exc:
        raise ImageCacheError(f"the {wanted.what} could not be listed: {reason_of(exc)}") from exc


def _parse_server(server: Any) -> Instance | None:
    uuid = _id(server, "servers")
    if server.get("status") == "UNKNOWN":
        raise ImageCacheError(
            f"the database of the cell of server {printable(uuid)} does not answer, so nova has no details of it"
        )
    try:
        # A plain record has a uuid, and other fields than a server.
        return parse_record({**server, "uuid": None})
    except ImageCacheError as exc:
        raise ImageCacheError(f"server {printable(uuid)} cannot be understood: {reason_of(exc)}") from exc


def _parse_image(image: Any) -> dict[str, Any]:
    image_id = _id(image, "images")
    name = image.get("name")
    if not isinstance(name, (str, type(None))):
        raise ImageCacheError(f"the name of image {printable(image_id)} is not a text")
    return {"id": image_id, "name": _as_utf8(name or "")}


def _restorable(images: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the ids of the images that prove a restore, by the names of their base files."""
    found = {}
    for image in images:
        with suppress(ImageCacheError):  # a checksum that is none proves nothing, and stops no audit
            found.update(
                {name: record.image_id for name, record in read_records([image]).items() if is_restorable(record)}
            )
    return found


def _id(item: Any, key: str) -> str:
    value = item.get("id") if isinstance(item, Mapping) else None
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= 255:
        raise ImageCacheError(f"the list of {key} has an entry without an id")
    return value


def _is_moving(server: Mapping[str, Any]) -> bool:
    """Return whether a server may have disks on another host than the one that is named."""
    return bool(server.get("OS-EXT-STS:task_state")) or server.get("OS-EXT-STS:vm_state") == "resized"


def _as_utf8(value: Any) -> Any:
    """Replace in a text what JSON can escape and UTF-8 cannot hold: it would stop the text on its way to a host."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def cloud_arguments(cloud: str | None, region: str | None) -> str:
    """Return the arguments of `openstack` that mean a cloud and region, each after a space; empty for the defaults."""
    return "".join(
        f" {option} {shlex.quote(printable(value))}"
        for option, value in (("--os-cloud", cloud), ("--os-region-name", region))
        if value
    )


def _refused(problem: str, cloud: str | None, region: str | None) -> CloudAnswer:
    arguments = cloud_arguments(cloud, region)
    return CloudAnswer(
        {},
        (),
        f"Without the APIs of {printable(cloud) if cloud else 'the default cloud'}"
        f"{f', region {printable(region)},' if region else ''} it is not certain which files are in use: {problem}. "
        f"Make `openstack{arguments} server list --all-projects --long` and `openstack{arguments} image list` work on "
        f"the controller, with administrator's rights.",
    )


def reason_of(exc: Exception) -> str:
    """Return what an exception says, on one line: it may quote whatever an API answered."""
    reason = " ".join(str(exc).split()) or type(exc).__name__
    return printable(reason[:_LONGEST_REASON]).rstrip(".")
