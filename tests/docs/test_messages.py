# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every message that an operator may see is on the page about troubleshooting, and every one on the page exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/docsite/rst/troubleshooting.rst"
VARYING = "…"
FEWEST_WORDS = 3
# What runs on the controller also holds documentation and reports: there, a message is what is raised or refused with,
# and, but for the reports' own text, any sentence that is appended or made at run time.
CONTROLLER = ("filter", "action", "plugin_utils")
REPORTS = ("alarms.py", "html.py", "prometheus.py", "table.py")
DOCUMENTATION = ("DOCUMENTATION", "EXAMPLES", "RETURN")
SENTENCE_WORDS = 8
IN_JINJA = re.compile(r"'([A-Z][^'{}]{30,})'")


def template(node: ast.AST) -> str | None:
    """A text of the code, with what is put into it at run time replaced."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else VARYING for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def texts(tree: ast.AST) -> Iterator[str]:
    """All texts but docstrings and the pieces of other texts."""
    if isinstance(tree, ast.Expr) and isinstance(tree.value, ast.Constant):
        return
    text = template(tree)
    if text is not None:
        yield text
    for child in ast.iter_child_nodes(tree):
        if text is None or not isinstance(child, ast.Constant):
            yield from texts(child)


def messages() -> dict[str, str]:
    """Each message by where it is."""
    found = {}
    for path in sorted((ROOT / "plugins/module_utils").rglob("*.py")):
        found.update(dict.fromkeys(texts(ast.parse(path.read_text())), path.name))
    for folder in CONTROLLER:
        for path in sorted((ROOT / "plugins" / folder).rglob("*.py")):
            found.update(dict.fromkeys(controller_messages(path), path.name))
    for path in sorted((ROOT / "roles").glob("*/tasks/*.yml")):
        for task in yaml.safe_load(path.read_text()):
            text = task.get("ansible.builtin.assert", {}).get("fail_msg", "")
            found[re.sub(r"{{.*?}}", VARYING, text, flags=re.DOTALL)] = path.name
    for path in sorted((ROOT / "roles").glob("*/vars/*.yml")):
        found.update(dict.fromkeys(IN_JINJA.findall(path.read_text()), path.name))
    return {text: name for text, name in found.items() if text.count(" ") > 1 and len(words(text)) >= FEWEST_WORDS}


def controller_messages(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        is_call = isinstance(node, ast.Call)
        is_constant = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) not in DOCUMENTATION
        is_appended = is_call and ast.unparse(node.func).endswith(".append")
        if isinstance(node, ast.Raise) or (is_call and ast.unparse(node.func) == "_refuse"):
            yield from texts(node)
        elif path.name not in REPORTS and (isinstance(node, ast.JoinedStr) or is_constant or is_appended):
            yield from (text for text in texts(node) if len(words(text)) >= SENTENCE_WORDS)


def words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z_.']*[a-z][A-Za-z_.']*", text.replace(VARYING, " "))


def documented() -> list[str]:
    return re.findall(r"``([^`]+)``", PAGE.read_text())


def pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*?".join(re.escape(part) for part in text.strip(f"{VARYING} ").split(VARYING)))


def test_there_are_messages() -> None:
    assert len(messages()) > 90


def test_each_message_is_on_the_page() -> None:
    """If not, add it to troubleshooting.rst: what it means, and what to do."""
    known = [pattern(text) for text in documented() if len(words(text)) >= FEWEST_WORDS]
    assert {text: name for text, name in messages().items() if not any(each.search(text) for each in known)} == {}


def test_each_message_on_the_page_exists() -> None:
    terms = re.findall(r"^ {0,3}``(.+)``$", PAGE.read_text(), re.MULTILINE)
    known = [text for term in terms for text in re.split("``(?:,| and) ``", term) if len(words(text)) >= FEWEST_WORDS]
    assert len(known) > 50
    assert [text for text in known if not any(pattern(text).search(message) for message in messages())] == []
