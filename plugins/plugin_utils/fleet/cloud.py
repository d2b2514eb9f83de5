# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the Compute and the Image API know of a cloud's instances and images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CloudAnswer:
    instances: Mapping[str, tuple[Mapping[str, Any], ...]]
    images: tuple[Mapping[str, Any], ...]
    problem: str


def ask(cloud: str | None, region: str | None) -> CloudAnswer:
    return CloudAnswer({}, (), "no cloud yet")
