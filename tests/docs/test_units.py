# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""systemd understands the units that the documentation shows."""

from __future__ import annotations

import re
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/docsite/rst/every_night.rst"
UNIT = re.compile(
    r"^\.\. code-block:: ini\n   :caption: /etc/systemd/system/(\S+)\n\n((?:(?:   .*)?\n)+)", re.MULTILINE
)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="takes the command systemd-analyze")
def test_units_have_no_warning_of_systemd(tmp_path: Path) -> None:
    units = {name: textwrap.dedent(text) for name, text in UNIT.findall(PAGE.read_text())}
    assert sorted(units) == ["image-cache.service", "image-cache.timer"]
    for name, text in units.items():
        (tmp_path / name).write_text(text)
    plain = tmp_path / "plain.service"
    plain.write_text("[Service]\nExecStart=/bin/true\n")
    # systemd-analyze warns of other units of this machine as well, whatever it is asked about.
    assert verify(*(tmp_path / name for name in units)) == verify(plain)


def verify(*paths: Path) -> tuple[int, str, str]:
    command = ["systemd-analyze", "verify", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, check=False, encoding="utf-8")
    return done.returncode, done.stdout, done.stderr
