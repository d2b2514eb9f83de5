# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Galaxy would accept what is published, without an error or a warning."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def test_importer_of_galaxy_accepts_the_tarball(tarball: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "galaxy_importer.main", tarball]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert "Importer processing completed successfully" in said
    assert re.findall(r"^.*(?:ERROR|WARNING).*$", said, re.MULTILINE) == []
