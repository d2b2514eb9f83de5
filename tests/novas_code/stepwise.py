# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nova's own code puts an image in its cache, step by step: `stepwise.py DIRECTORY`, by a Python that has nova.

A name of `OPERATIONS` on standard input begins it. Before each of its steps, the step's name is written to standard
output, and an empty line is waited for. At the end `done` is written, or what nova failed with.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from nova.virt import images

from ansible_collections.stackops.nova.tests.novas_code.states import Compute, Glance, outside_world
from ansible_collections.stackops.nova.tests.support.constants import IMAGE


class SlowGlance(Glance):
    """An image service that waits before the first byte, and in the middle."""

    def download(self, context: object, image_id: str, dest_path: str, **options: object) -> None:
        _step("download")
        with tempfile.TemporaryDirectory() as directory, open(dest_path, "wb") as target:
            whole = Path(directory, "image")
            super().download(context, image_id, str(whole), **options)
            content = whole.read_bytes()
            target.write(content[: len(content) // 2])
            target.flush()
            _step("go on with the download")
            target.write(content[len(content) // 2 :])


def cache_image(compute: Compute) -> None:
    """Cache an image in advance, for which nova takes no lock."""
    compute.cache_in_advance(IMAGE)


def spawn(compute: Compute) -> None:
    """Build a server, for which nova locks the name of the base file."""
    compute.boot(str(uuid.uuid4()))


OPERATIONS: dict[str, Callable[[Compute], None]] = {"cache_image": cache_image, "spawn": spawn}


def _step(name: str) -> None:
    print(name, flush=True)
    sys.stdin.readline()


def _stepwise(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def wait_and_call(*arguments: Any, **options: Any) -> Any:
        _step(name)
        return function(*arguments, **options)

    return wait_and_call


def main() -> None:
    with (
        outside_world(SlowGlance()),
        mock.patch.object(images, "convert_image", _stepwise("convert", images.convert_image)),
        mock.patch.object(images, "os", mock.Mock(wraps=os, rename=_stepwise("rename", os.rename))),
    ):
        compute = Compute(Path(sys.argv[1]))
        for line in sys.stdin:
            if line.strip():
                try:
                    OPERATIONS[line.strip()](compute)
                    print("done", flush=True)
                except Exception:
                    print(repr(traceback.format_exc()), flush=True)


if __name__ == "__main__":
    main()
