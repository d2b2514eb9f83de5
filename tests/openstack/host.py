# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What this compute host shows without the product: chains and content by qemu-img, domains by their XML."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

INSTANCES = Path("/var/lib/nova/instances")
CACHE = INSTANCES / "_base"
DOMAINS = Path("/etc/libvirt/qemu")
NOVA_COMPUTE = Path("/var/lib/stackops-openstack/run/nova-compute.pid")
NOVA = "{http://openstack.org/xmlns/libvirt/nova/1.1}"


def fingerprint(image_id: str) -> str:
    """Return the name under which nova caches an image."""
    return hashlib.sha1(image_id.encode()).hexdigest()


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def entries() -> dict[str, tuple[int, int, int]]:
    """Return inode, size and time of change of each entry of the cache, and of the cache itself, if there is one."""
    found = {path.name: path.lstat() for path in [CACHE, *CACHE.iterdir()]} if CACHE.exists() else {}
    return {name: (status.st_ino, status.st_size, status.st_ctime_ns) for name, status in found.items()}


def wait_for_nova(seconds: float = 60) -> None:
    """Wait until nova-compute has made its first file: an empty directory may be a storage that is not mounted."""
    end = time.monotonic() + seconds
    while not (INSTANCES / "compute_nodes").exists():
        if time.monotonic() > end:
            raise SystemExit(f"nova-compute made no file in {INSTANCES} within {seconds} seconds.")
        time.sleep(1)


@contextmanager
def nova_halted() -> Iterator[None]:
    """Halt nova-compute: its own pass, every 15 seconds, touches each base file in use."""
    group = int(NOVA_COMPUTE.read_text().split()[0])
    os.killpg(group, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(group, signal.SIGCONT)


def disks() -> Iterator[Path]:
    """Yield every qcow2 disk of every instance directory."""
    for path in sorted(INSTANCES.glob("*/disk*")):
        if path.parent != CACHE and path.suffix not in (".info", ".config"):
            yield path


def chain(disk: Path) -> list[str]:
    """Return the paths of a disk's chain, itself first.

    :raises subprocess.CalledProcessError: qemu-img cannot follow it to its end.
    """
    command = ["qemu-img", "info", "--force-share", "--backing-chain", "--output=json", str(disk)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [image["filename"] for image in json.loads(answer)]


def chains() -> tuple[dict[Path, list[str]], dict[Path, str]]:
    """Return the chain of each disk, and for the disks whose chain is broken what qemu-img says."""
    whole, broken = {}, {}
    for disk in disks():
        try:
            whole[disk] = chain(disk)
        except subprocess.CalledProcessError as exc:
            broken[disk] = exc.stderr.strip()
    return whole, broken


def content(disk: Path) -> str:
    """Return the SHA-256 of what a guest reads from a disk, through its whole chain."""
    with tempfile.NamedTemporaryFile(prefix="content-", dir=INSTANCES.parent) as raw:
        command = ["qemu-img", "convert", "--force-share", "-O", "raw", str(disk), raw.name]
        subprocess.run(command, check=True, capture_output=True)
        return digest(Path(raw.name))


def pull(domain: str, disk: Path) -> None:
    """Make a running guest's disk independent of its backing file, by ``virsh blockpull``."""
    subprocess.run(["virsh", "blockpull", "--wait", domain, str(disk)], check=True, capture_output=True)


def check(disk: Path) -> str | None:
    """Return what qemu-img finds wrong with the disk of a guest that is off, or with its chain; None if nothing."""
    checked = subprocess.run(["qemu-img", "check", str(disk)], check=False, capture_output=True, text=True)
    if checked.returncode:
        return checked.stdout + checked.stderr
    try:
        chain(disk)
    except subprocess.CalledProcessError as exc:
        return str(exc.stderr)
    return None


def domain_files() -> set[str]:
    """Return the files of the cache that the domains' metadata stands for."""
    found = set()
    ephemerals = [path.name for path in CACHE.glob("ephemeral_*")]
    for path in DOMAINS.glob("*.xml"):
        for element in ElementTree.parse(path).iter():
            if element.tag == f"{NOVA}root" and element.get("type") == "image":
                found.add(fingerprint(element.get("uuid", "")))
            elif element.tag == f"{NOVA}swap":
                found.add(f"swap_{element.text}")
            elif element.tag == f"{NOVA}ephemeral":
                found.update(name for name in ephemerals if name.startswith(f"ephemeral_{element.text}_"))
    return found
