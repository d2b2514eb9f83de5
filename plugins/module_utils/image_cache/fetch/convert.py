# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the bytes of an image may be, and how a qcow2 image becomes the raw one that nova caches.

All of it is hostile input: a tenant uploads images. A header is read here before QEMU sees it, QEMU runs as the owner
of the cache with limits, and the result is looked at again, because a guest's first bytes may be a header as well.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
from typing import Callable, Sequence

from ..backing_chain import probe_format
from ..errors import ImageCacheError, RefusalError, reason_of
from ..text import printable
from .converter import Converter
from .disks import read_content, why_not_self_contained
from .owner import become_owner
from .records import KEPT_FORMATS, ImageRecord

__all__ = [
    "convert_to_raw",
    "make_raw",
    "measure_bytes",
    "require_acceptable",
    "require_raw",
    "why_not_acceptable",
    "why_not_raw",
]

_SHOW = "Look at the image (openstack image show), and where it comes from."
_MIB = 1 << 20
_MEMORY_BYTES = 2 << 30
# Slower than this is neither decompression nor decryption. What is measured is mostly read in seconds.
_CPU_SECONDS = 60
_CPU_BYTES_PER_SECOND = 16 * _MIB
_IDLE_PRIORITY = 19
_FIRST_READ = 1024
# Formats that QEMU finds by other bytes than those that an audit looks for: vdi, luks and bochs (QEMU's block/).
_OTHER_FORMATS = ((0x40, b"\x7f\x10\xda\xbe"), (0, b"LUKS\xba\xbe"), (0, b"Bochs Virtual HD Image"))


def require_acceptable(descriptor: int, record: ImageRecord) -> None:
    """Refuse the bytes of an image for which :func:`why_not_acceptable` has a reason.

    :raises RefusalError: they are refused.
    :raises OSError: they cannot be read.
    """
    reason = why_not_acceptable(descriptor, record)
    if reason:
        raise RefusalError(f"Its content is not accepted: {reason}. {_SHOW}")


def why_not_acceptable(descriptor: int, record: ImageRecord) -> str:
    """Say why the bytes of an image are not what its record says, or are none that may be cached.

    :param descriptor: the image as Glance serves it, open for reading.
    :param record: Glance's record of it.
    :return: the end of a sentence; empty where they are.
    :raises OSError: it cannot be read.
    """
    if record.disk_format == "qcow2":
        if read_content(descriptor).format != "qcow2":
            return "it does not begin like a qcow2 image, and Glance's record has that format"
        return why_not_self_contained(descriptor)
    if record.disk_format in KEPT_FORMATS:
        return why_not_raw(descriptor)
    return f"images of the format {printable(str(record.disk_format))} are not cached by this module"


def why_not_raw(descriptor: int) -> str:
    """Say why QEMU, where it finds the format out by itself, would not read a file as raw.

    An overlay that names no format for its base file has QEMU do so. ISO images and disks with a partition table are
    raw to QEMU, and nova allows them (``do_image_deep_inspection`` in ``nova/virt/images.py``).

    :param descriptor: the file, open for reading.
    :return: the end of a sentence; empty where it would.
    :raises OSError: it cannot be read.
    """
    start = os.pread(descriptor, _FIRST_READ, 0)
    is_other = any(start.startswith(magic, offset) for offset, magic in _OTHER_FORMATS)
    found = None if is_other else probe_format(start)
    if found == "raw":
        return ""
    what = "a qcow2 image" if found == "qcow2" else "an image of another format"
    return f"its content begins like {what}, so a disk that is built on it could open other files"


def make_raw(converter: Converter, source: int, target: int, require_space: Callable[[int], None]) -> None:
    """Make a raw image of a qcow2 one as nova does, and inspect it again.

    :param converter: how ``qemu-img`` is run. Both files are given to its user.
    :param source: the image, open for reading, its header looked at.
    :param target: a file, open for writing and empty.
    :param require_space: refuses so many bytes where there is no room for them.
    :raises RefusalError: what comes of it may not be cached.
    :raises ImageCacheError: it cannot be converted.
    :raises OSError: a file cannot be written or given away.
    """
    for descriptor in (source, target):
        os.fchown(descriptor, converter.user, converter.group)
    data_bytes = measure_bytes(converter, source)
    require_space(min(data_bytes, read_content(source).virtual_bytes))
    convert_to_raw(converter, source, target, data_bytes)
    require_raw(target)


def require_raw(descriptor: int) -> None:
    """Refuse what an image has become by its conversion if QEMU would not read it as raw, wherever that was done.

    :raises RefusalError: it is refused.
    :raises OSError: it cannot be read.
    """
    reason = why_not_raw(descriptor)
    if reason:
        raise RefusalError(f"It is not accepted after its conversion: {reason}. {_SHOW}")


def measure_bytes(converter: Converter, source: int) -> int:
    """Return how much space a qcow2 image takes at most when it is raw: its data, uncompressed.

    It is what a qcow2 image would take. What QEMU says of a raw one counts the holes as well.

    :param converter: how ``qemu-img`` is run.
    :param source: the image, open for reading, its header looked at.
    :raises ImageCacheError: it cannot be told.
    """
    arguments = ["measure", "--output=json", "-O", "qcow2", _image("qcow2", source)]
    output = _run(converter, arguments, [source], 0, _CPU_SECONDS)
    try:
        required = json.loads(output)["required"]
    except (ValueError, TypeError, KeyError):
        required = None
    if not isinstance(required, int) or isinstance(required, bool) or required < 0:
        raise ImageCacheError(f"What qemu-img measured cannot be understood. {_SEE}")
    return required


def convert_to_raw(converter: Converter, source: int, target: int, data_bytes: int) -> None:
    """Write the content of a qcow2 image into a file, with holes for its zeros.

    :param converter: how ``qemu-img`` is run. Both files belong to its user.
    :param source: the image, open for reading, its header looked at.
    :param target: the file, open for writing and empty.
    :param data_bytes: what :func:`measure_bytes` returned.
    :raises ImageCacheError: it cannot be converted, or what comes of it is not raw.
    :raises OSError: the file cannot be written.
    """
    virtual_bytes = read_content(source).virtual_bytes
    os.ftruncate(target, virtual_bytes)
    arguments = ["convert", "-n", "--target-image-opts", _image("qcow2", source), _options("raw", target)]
    cpu_seconds = _CPU_SECONDS + data_bytes // _CPU_BYTES_PER_SECOND
    _run(converter, arguments, [source, target], virtual_bytes, cpu_seconds)
    if os.fstat(target).st_size != virtual_bytes:
        raise ImageCacheError(f"qemu-img made another size of it than its header says. {_SEE}")


_SEE = "Look at the image on a host without guests (qemu-img check)."


def _image(image_format: str, descriptor: int) -> str:
    """Return how QEMU opens an image: by its descriptor, in this format, and nothing that a header in it names."""
    file = {"driver": "file", "filename": f"/proc/self/fd/{descriptor}", "locking": "off"}
    return "json:" + json.dumps({"driver": image_format, "backing": None, "file": file})


def _options(image_format: str, descriptor: int) -> str:
    """Return the same for what is written, which takes no JSON."""
    return f"driver={image_format},file.driver=file,file.filename=/proc/self/fd/{descriptor},file.locking=off"


def _run(
    converter: Converter, arguments: Sequence[str], descriptors: Sequence[int], file_bytes: int, cpu_seconds: int
) -> bytes:
    """Run ``qemu-img``, and return its standard output. Its own words may have parts of the image in them."""
    command = [*converter.command, *arguments]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C"},
            pass_fds=tuple(descriptors),
            preexec_fn=_confinement(converter, file_bytes, cpu_seconds),
            timeout=10 * cpu_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise ImageCacheError(
            f"qemu-img had not ended after {10 * cpu_seconds} seconds and was stopped. Check the storage and the "
            f"kernel's log (dmesg), and run it again."
        ) from exc
    except (OSError, subprocess.SubprocessError) as exc:
        raise ImageCacheError(
            f"qemu-img cannot be run as the owner of the cache: {reason_of(exc)}. Check {printable(command[0])} and "
            f"qemu_img."
        ) from exc
    if done.returncode:
        raise ImageCacheError(f"qemu-img {arguments[0]} could not read or write it: {_ending(done.returncode)}. {_SEE}")
    return done.stdout


def _ending(status: int) -> str:
    if status >= 0:
        return f"its exit status is {status}"
    limits = {
        signal.SIGXCPU: "it used more processor time than it may",
        signal.SIGKILL: "it was killed",
        signal.SIGXFSZ: "it wrote more than its header says",
    }
    return limits.get(signal.Signals(-status), f"it ended by signal {-status}")


def _confinement(converter: Converter, file_bytes: int, cpu_seconds: int) -> Callable[[], None]:
    """Return what the new process does before it becomes ``qemu-img``."""
    become = become_owner(converter.user, converter.group)

    def confine() -> None:
        os.setpriority(os.PRIO_PROCESS, 0, _IDLE_PRIORITY)
        for limit, most in (
            (resource.RLIMIT_AS, _MEMORY_BYTES),
            (resource.RLIMIT_CPU, cpu_seconds),
            (resource.RLIMIT_FSIZE, file_bytes),
            (resource.RLIMIT_CORE, 0),
        ):
            resource.setrlimit(limit, (most, most))
        become()

    return confine
