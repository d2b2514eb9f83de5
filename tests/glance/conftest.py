# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keystone and Glance, which all tests share, and images in them, which each test makes for itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# This file is loaded before pytest-ansible has made the collection known, so it is imported later.
if TYPE_CHECKING:
    from ansible_collections.stackops.nova.tests.support.compute_fleet import ComputeFleet
    from ansible_collections.stackops.nova.tests.support.host import Host
    from ansible_collections.stackops.nova.tests.support.image_service import Auth, ImageService

MIB = 1 << 20


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageService]:
    from ansible_collections.stackops.nova.tests.support.image_service import image_service

    with image_service(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture
def reader(service: ImageService) -> Auth:
    """An application credential that can read images and nothing else."""
    return service.reader


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A raw image with zeros in the middle and no whole number of blocks."""
    path = tmp_path / "image.raw"
    path.write_bytes(os.urandom(2 * MIB) + bytes(3 * MIB) + os.urandom(MIB) + b"the end".ljust(512))
    return path


@pytest.fixture
def qcow2(raw: Path) -> Path:
    """The same as a compressed qcow2 image."""
    path = raw.with_suffix(".qcow2")
    subprocess.run(["qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, path], check=True)
    return path


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host whose cache is on a file system of its own."""
    from ansible_collections.stackops.nova.tests.support.host import Host
    from ansible_collections.stackops.nova.tests.support.processes import mount

    root = tmp_path / "host"
    root.mkdir()
    mount("-t", "tmpfs", "-o", "size=512m", "host", root)
    try:
        yield Host(root)
    finally:
        subprocess.run(["umount", root], check=True)


@pytest.fixture
def fleet(tmp_path: Path, service: ImageService) -> ComputeFleet:
    root = tmp_path / "fleet"
    root.mkdir()
    return service.fleet(root)
