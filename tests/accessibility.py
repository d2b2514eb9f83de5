# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Have axe look at a report in Chromium, as a phone and as a screen show it, light and dark: `./test accessibility`.

The rows that the page's script draws are compared with those that the page came with. A page of 2,000 hosts and 200
images has to open in two seconds.
"""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from ansible_collections.stackops.nova.plugins.plugin_utils.report.html import render_html
from ansible_collections.stackops.nova.plugins.plugin_utils.report.precache_html import render_precache_html
from ansible_collections.stackops.nova.tests.support.fleets import of_images, troubled
from ansible_collections.stackops.nova.tests.support.precaches import of_each_outcome

AXE = (resources.files("axe_playwright_python") / "axe.min.js").read_text()
POLICY = re.compile('<meta http-equiv="Content-Security-Policy"[^>]*>')
WIDTHS = (390, 1280)
SCHEMES = {"dark": 0, "light": 1}  # as Blink numbers them
# What a person does before they read: search, sort, and open the first row of each table.
USE = """
const drawn = () => [...document.querySelectorAll(".rows tbody")].flatMap((body) => [...body.rows].slice(0, 15)).map(
    (row) => [...row.querySelectorAll("summary, small, span, data, path[d^=M]")]
        .filter((part) => !part.closest("ul"))
        .map((part) => part.getAttribute("d") ?? part.textContent).join("|"));
const before = drawn();
document.querySelectorAll("input").forEach((input) => input.dispatchEvent(new Event("input")));
const after = drawn();
const different = before.filter((row, index) => row !== after[index]);
document.querySelectorAll("thead tr > :nth-child(5) button").forEach((button) => button.click());
document.querySelectorAll("tbody tr:first-child details").forEach((each) => { each.open = true; });
"""
OPENED = """
addEventListener("load", () => {
    const answer = document.createElement("pre");
    answer.id = "opened";
    answer.textContent = performance.now();
    document.body.append(answer);
});
"""
MOST_SECONDS = 2
RUN = """
axe.run().then(({violations, incomplete, passes}) => {
    const found = [...violations, ...incomplete].map(({help, nodes}) => `${help}: ${nodes.map(({html}) => html)}`);
    found.push(...different.map((row) => `The script draws this row in another way: ${row}`));
    const answer = document.createElement("pre");
    answer.id = "axe";
    answer.textContent = JSON.stringify({found, passes: passes.length});
    document.body.append(answer);
});
"""


def main() -> int:
    selection = {"expression": "hosts[].name", "result": ["a", "b"], "error": None}
    pages = {
        "troubled": render_html(troubled("name"), selection),
        "of 30 images": render_html(of_images(60, 30)),
        "pre-cache": render_precache_html(of_each_outcome("name")),
        "dry run of a pre-cache": render_precache_html(of_each_outcome("name", check_mode=True)),
    }
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        for name, page in pages.items():
            path.write_text(with_scripts(page, USE, AXE, RUN))
            for scheme in SCHEMES:
                for width in WIDTHS:
                    answer = look(path, scheme, width)
                    seen = f"{name}, {width} pixels wide, {scheme}"
                    print(f"{seen}: {answer['passes']} rules kept", *answer["found"], sep="\n  ")
                    failures += len(answer["found"])
        path.write_text(with_scripts(render_html(of_images(2000, 200)), OPENED))
        seconds = min(seconds_to_open(path) for _look in range(3))
    print(f"of 2,000 hosts and 200 images: open in {seconds:.2f} s")
    return 1 if failures or seconds > MOST_SECONDS else 0


def with_scripts(page: str, *scripts: str) -> str:
    """Return a page with more scripts, without its policy, which lets none run but its own."""
    open_page, policies = POLICY.subn("", page)
    assert policies == 1
    return open_page.replace("</body>", "".join(f"<script>{script}</script>" for script in scripts) + "</body>")


def look(page: Path, scheme: str, width: int) -> dict[str, Any]:
    """Return what axe finds wrong, or cannot judge, and how many of its rules the page keeps."""
    options = [
        "--virtual-time-budget=20000",
        f"--window-size={width},900",
        f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}",
    ]
    answer: dict[str, Any] = json.loads(html.unescape(answer_in(page, "axe", options)))
    return answer


def seconds_to_open(page: Path) -> float:
    """Return how long it takes until a page is there whole and its own script has drawn its rows."""
    return float(answer_in(page, "opened", ["--window-size=1280,900"])) / 1000


def answer_in(page: Path, name: str, options: Sequence[str]) -> str:
    """Open a page in Chromium, and return what a script of ours wrote at its end."""
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", *options, f"file://{page}"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(f'<pre id="{name}">(.*?)</pre>', shown, re.DOTALL)
    if found is None:
        raise SystemExit(f"{name}: no answer; Chromium showed:\n{shown[-2000:]}")
    return found[1]


if __name__ == "__main__":
    sys.exit(main())
