# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Records of instances: plain ones, and servers as the Nova API or openstacksdk gives them."""

from __future__ import annotations

import re
from typing import Any, Mapping

from .errors import ImageCacheError
from .instances import Instance

__all__ = ["parse_record", "parse_sizes", "to_records"]

_SIZE = re.compile("\\s*[0-9]{1,18}\\s*", re.ASCII)
_SIZE_LIMIT = 10**18
# States in which nova keeps a second directory, by ``_list_running_instances`` in
# ``nova/virt/imagecache.py``.
_RESIZED = "resized"
_RESIZING = ("resize_prep", "resize_migrating", "resize_migrated", "resize_finish")
# An instance in one of these has no disk on any compute host.
_WITHOUT_DISKS = ("deleted", "shelved_offloaded")

Record = Mapping[str, Any]


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


def _is_resizing(vm_state: str, task_state: str) -> bool | None:
    if not vm_state and not task_state:
        return None
    return vm_state == _RESIZED or task_state in _RESIZING


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
