# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Feed the parsers, by way of coverage, what nobody thought of: `./test fuzz -- qcow2 -max_total_time=60`.

The first argument names a parser, the others are libFuzzer's. Without any, each parser gets ten seconds. What makes a
parser raise anything but our own exception is kept in a file, which is named: give that as an argument to see it again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress

import atheris

with atheris.instrument_imports(include=["ansible_collections"]):
    from ansible_collections.stackops.nova.plugins.module_utils.image_cache.backing_chain import follow_chain
    from ansible_collections.stackops.nova.plugins.module_utils.image_cache.domain_xml import parse_domain
    from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
    from ansible_collections.stackops.nova.plugins.module_utils.image_cache.info_files import read_info
    from ansible_collections.stackops.nova.plugins.module_utils.image_cache.names import parse_name
    from ansible_collections.stackops.nova.plugins.module_utils.image_cache.nova_conf import read_nova_conf
    from ansible_collections.stackops.nova.plugins.module_utils.image_cache.storage import read_storage_users
    from ansible_collections.stackops.nova.plugins.module_utils.image_cache.text import printable

FOLDER = tempfile.mkdtemp()


def no_qemu_img(_command: list[str]) -> tuple[int, str, str]:
    raise FileNotFoundError


def lies(name: str, content: bytes) -> str:
    path = os.path.join(FOLDER, name)
    with open(path, "wb") as file:
        file.write(content)
    return path


def qcow2(data: bytes) -> None:
    follow_chain(
        lies("disk", b"QFI\xfb" + data), None, lambda path: path if os.path.exists(path) else None, no_qemu_img
    )


def info(data: bytes) -> None:
    folder = os.open(FOLDER, os.O_RDONLY)
    try:
        lies("base.info", data)
        read_info("base.info", folder)
    finally:
        os.close(folder)


def compute_nodes(data: bytes) -> None:
    lies("compute_nodes", data)
    read_storage_users(FOLDER, shared=True)


def domain(data: bytes) -> None:
    parse_domain(data, "vm")


def nova_conf(data: bytes) -> None:
    read_nova_conf(lies("nova.conf", data))


def name(data: bytes) -> None:
    text = os.fsdecode(data)
    parse_name(text)
    printable(text).encode()


PARSERS: dict[str, Callable[[bytes], None]] = {
    parser.__name__: parser for parser in (qcow2, info, compute_nodes, domain, nova_conf, name)
}


def main() -> int:
    if len(sys.argv) < 2:
        return max(subprocess.call([sys.executable, __file__, parser, "-max_total_time=10"]) for parser in PARSERS)
    parser = PARSERS[sys.argv.pop(1)]

    def feed(data: bytes) -> None:
        with suppress(ImageCacheError):
            parser(data)

    atheris.Setup([*sys.argv, f"-artifact_prefix={FOLDER}/"], feed)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
