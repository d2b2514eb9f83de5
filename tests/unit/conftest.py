# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes depends on what else the machine does, and how many are of no use on chance.
settings.register_profile(
    "steady", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
settings.load_profile("steady")

# This file is loaded before pytest-ansible has made the collection known, so it is imported later.
if TYPE_CHECKING:
    from ansible_collections.stackops.nova.tests.support.host import Host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    from ansible_collections.stackops.nova.tests.support.host import Host

    return Host(tmp_path)


@pytest.fixture
def host_with_one_guest(host: Host) -> Host:
    """A host whose one guest has a disk on BASE."""
    from ansible_collections.stackops.nova.tests.support.constants import BASE, UUID
    from ansible_collections.stackops.nova.tests.support.host import DAY
    from ansible_collections.stackops.nova.tests.support.verification import CONTENT

    host.base(BASE, content=CONTENT, age=3 * DAY)
    host.instance(UUID, {"disk": BASE})
    return host


@pytest.fixture
def attributes(tmp_path: Path) -> None:
    """Skips a test that sets attributes of files where they cannot be set."""
    from ansible_collections.stackops.nova.tests.support.host import can_set_attributes

    if not can_set_attributes(tmp_path):
        pytest.skip("takes a file system with attributes of files, and the capability CAP_LINUX_IMMUTABLE")


@pytest.fixture
def public_host() -> Iterator[Host]:
    """A host that other users can look into, as they cannot into `tmp_path`."""
    from ansible_collections.stackops.nova.tests.support.host import Host

    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        yield Host(root)


@pytest.fixture
def time_limit() -> Iterator[None]:
    """Ends a test that waits for a FIFO, or for somebody: it would wait forever.

    Nothing catches that, as the code may catch a TimeoutError, which is an OSError. A property has many examples, and a
    machine much to do.
    """

    def lose_it(*_signal: object) -> None:
        pytest.fail("It waited for two minutes.")

    usual = signal.signal(signal.SIGALRM, lose_it)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, usual)
