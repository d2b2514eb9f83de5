# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the documentation shows is right: its YAML, its plays, what commands print, and its tables."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.stackops.nova.tools.docs import PAGES, update

ROOT = Path(__file__).parents[2]
TIME = re.compile(r"\b\d+[dhms]( \d+[hms])?\b")
FENCED = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DIRECTIVE = re.compile(r"^\.\. code-block:: yaml\n(?:   :.*\n)*\n((?:(?:   .*)?\n)+)", re.MULTILINE)
EXAMPLES = re.compile(r'^EXAMPLES = r"""\n(.*?)^"""$', re.MULTILINE | re.DOTALL)


def blocks() -> dict[str, str]:
    """Every YAML block of the documentation, by its place."""
    found = {}
    for paths, expression in (
        ([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("roles/*/*.md")], FENCED),
        ((ROOT / "docs").rglob("*.rst"), DIRECTIVE),
        ((ROOT / "plugins").rglob("*.py"), EXAMPLES),
    ):
        for path in sorted(paths):
            for number, text in enumerate(expression.findall(path.read_text()), 1):
                found[f"{path.relative_to(ROOT)} {number}"] = textwrap.dedent(text)
    return found


BLOCKS = blocks()


def playbook(content: Any) -> list[dict[str, Any]]:
    """Plays as they are, and tasks in a play; nothing where the block is a file of another sort."""
    if not isinstance(content, list) or any("rules" in item for item in content):  # a rulebook has hosts, too
        return []
    plays = [item for item in content if item.keys() & {"hosts", "import_playbook", "ansible.builtin.import_playbook"}]
    tasks = [item for item in content if item not in plays]
    return [*plays, {"hosts": "all", "tasks": tasks}] if tasks else plays


def test_documentation_has_blocks_of_each_sort() -> None:
    for start in ("README.md", "roles/image_cache/README.md", "docs/docsite/rst/guide.rst", "plugins/modules/"):
        assert any(place.startswith(start) for place in BLOCKS), start


def test_each_playbook_passes_the_syntax_check(tmp_path: Path) -> None:
    playbooks = {}
    for number, (place, text) in enumerate(BLOCKS.items()):
        plays = playbook(yaml.safe_load(text))
        if plays:
            path = tmp_path / f"{number}.yml"
            path.write_text(yaml.safe_dump(plays, sort_keys=False))
            playbooks[path] = place
    assert len(playbooks) > 5
    command = [Path(sys.executable).with_name("ansible-playbook"), "--syntax-check", *playbooks]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, (playbooks, done.stderr)


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.rst")), ids=lambda page: page.name)
def test_shown_output_is_what_is_printed(page: Path) -> None:
    """If not, run `./test generate` and look at what it changed."""
    written = page.read_text()
    assert without_times(update(written)) == without_times(written)


def without_times(text: str) -> list[str]:
    return [" ".join(TIME.sub("TIME", line).split()) for line in text.splitlines()]
