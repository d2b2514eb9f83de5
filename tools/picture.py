# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes the guide's picture of a report, as Chromium shows it: `./test picture`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from ansible_collections.stackops.nova.plugins.plugin_utils.report.html import render_html
from ansible_collections.stackops.nova.tests.support.fleets import of_images

HOSTS = 6
IMAGES = 6
PIXELS = (1100, 2300)  # all of that page


def main() -> None:
    picture = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        page.write_text(render_html(of_images(HOSTS, IMAGES)))
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += ["--virtual-time-budget=5000", f"--window-size={PIXELS[0]},{PIXELS[1]}"]
        subprocess.run([*command, f"--screenshot={picture}", f"file://{page}"], check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
