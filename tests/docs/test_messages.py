# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every message that an operator may see is on the page about troubleshooting, and every one on the page exists."""

from __future__ import annotations

import ast
import errno
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import yaml

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import (
    AS_ROOT,
    AS_WHOLE_ROOT,
    reason_and_remedy,
)
from ansible_collections.stackops.nova.tests.support.remedies import VARYING, has_remedy

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/docsite/rst/troubleshooting.rst"
FEWEST_WORDS = 3
# What runs on the controller also holds documentation and reports: there, a message is what is raised or refused with,
# and, but for the reports' own text, any sentence that is appended or made at run time.
CONTROLLER = ("filter", "action", "plugin_utils")
REPORTS = ("alarms.py", "html.py", "precache_screen.py", "prometheus.py", "restore_screen.py", "screen.py", "table.py")
DOCUMENTATION = ("DOCUMENTATION", "EXAMPLES", "RETURN")
SENTENCE_WORDS = 8
# These hold messages, and each of those has a remedy. What follows the first colon or full stop says which.
HOLDING_MESSAGES = {
    "The backing file ……… does not exist: … cannot start without it. …": "why no guest gives it back",
    "Nothing may be removed: …": "a reason of unknown_use or limit_exceeded",
    "Nothing was removed from …: it is not certain which files are in use. ………": "the reasons of unknown_use",
    "Nothing was removed from …: it is not certain which images Glance no longer has.…": "that of unknown_deletions",
    "Nothing was removed from …: a limit was exceeded. …": "the reasons of limit_exceeded",
    "Nothing was removed from …: no file in it can be removed. …": "what obstacles.py says of the directories",
    "… … in … cannot be removed (…). …": "what obstacles.py says of the files",
    "… It names no base file, and nothing is refused because of it.": "what backing_chain.py says of the disk, first",
    "The files could not be verified: …": "why the cache cannot be opened",
    "Checksums were compared without nova's locks, and not saved: ….": "why the lock directory cannot be used",
    "What verification found of … could not be saved, and they are read again next time; ….": "why the first cannot",
    "… could not be read and verified; ….": "why the first cannot",
    "instances_path … does not exist on this host, or is not a directory: …. …": "what layouts.py says of this host",
    "… was not restored (used by …). ……": "why it was refused, or failed",
    "… of … could not be restored. … See image_cache_restore.refused and image_cache_restore.failed in the result for "
    "each.": "why the first was not",
    "The image … could not be fetched from …: … of … bytes came. …": "why the transfer ended",
    "The base file … came from no other host. …": "what happened with each host",
    "From … came … of … bytes: ….": "what happened, and what to do",
    "So it was with … more.": "the hosts before it",
    "The image … was not pre-cached. …": "why it was refused, or failed",
    "The image … is in the cache, but its age counts from an earlier use, because it could not be marked as used now: "
    "….": "why it could not",
    "… could not be pre-cached in …. … See image_cache_precache.refused and image_cache_precache.failed in the result "
    "for each.": "why the first was not",
    "It has a file of that name now, and it is not certain which disks need that. …": "a reason of unknown_use",
    "It is no longer certain which disks need the file. …": "a reason of unknown_use",
    ", but not all of them: …": "why the first that was not copied aside could not be",
    "nova's lock on it could not be taken: ….": "what info_files.py says of a lock that is held",
    "image_cache_keep_images or image_cache_glance_images: …": "what images.py says of the entry",
}
# A line of the host's journal about how far a pass is asks for nothing.
LOGGED = "…: … of … files are done, … % of their bytes."
IN_JINJA = re.compile(r"'([A-Z][^'{}]{30,})'")


def template(node: ast.AST, constants: Mapping[str, str]) -> str | None:
    """A text of the code, with what is put into it at run time replaced."""
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else inserted(part, constants) for part in node.values
        )
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def inserted(part: ast.expr, constants: Mapping[str, str]) -> str:
    """What is known of it beforehand: a text with a name, how the reason of a refused system call ends, or `become`."""
    expression = slot(part)
    if expression.startswith("reason_and_remedy("):
        return reason_and_remedy(OSError(errno.EIO, VARYING))
    if expression == "remedy_for_rights()":
        return AS_ROOT
    return constants.get(expression, VARYING)


def slot(part: ast.expr) -> str:
    return ast.unparse(part.value) if isinstance(part, ast.FormattedValue) else ""


def constants_of(module: ast.Module) -> dict[str, str]:
    """The texts that a module gives a name to, each for one text only, and the one that many modules import."""
    found: dict[str, str | None] = {"AS_ROOT": AS_ROOT}
    for node in ast.walk(module):
        if isinstance(node, ast.Assign):
            name = ast.unparse(node.targets[0])
            found[name] = None if name in found else template(node.value, {})
    return {name: text for name, text in found.items() if text is not None}


def pieces_of(module: ast.Module) -> Iterator[str]:
    """The texts that are only a part of another one: what is written inside it, or given a name and inserted."""
    constants = constants_of(module)
    whole = [node for node in ast.walk(module) if isinstance(node, ast.JoinedStr)]
    names = {slot(part) for node in whole for part in node.values}
    yield from (AS_ROOT, AS_WHOLE_ROOT, *(constants[name] for name in names & constants.keys()))
    for node in ast.walk(module):
        if isinstance(node, ast.JoinedStr):
            for part in node.values:
                yield from (text for child in ast.iter_child_nodes(part) for text in texts(child, constants))
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in names:
            yield from texts(node.value, constants)


def texts(tree: ast.AST, constants: Mapping[str, str]) -> Iterator[str]:
    """All texts but docstrings and the pieces of other texts."""
    if isinstance(tree, ast.Expr) and isinstance(tree.value, ast.Constant):
        return
    text = template(tree, constants)
    if text is not None:
        yield text
    for child in ast.iter_child_nodes(tree):
        if text is None or not isinstance(child, ast.Constant):
            yield from texts(child, constants)


@cache
def pieces() -> set[str]:
    paths = [path for folder in ("module_utils", *CONTROLLER) for path in (ROOT / "plugins" / folder).rglob("*.py")]
    return {text for path in paths for text in pieces_of(ast.parse(path.read_text()))}


@cache
def messages() -> dict[str, str]:
    """Each message by where it is."""
    found = {}
    for path in sorted((ROOT / "plugins/module_utils").rglob("*.py")):
        module = ast.parse(path.read_text())
        found.update(dict.fromkeys(texts(module, constants_of(module)), path.name))
    for folder in CONTROLLER:
        for path in sorted((ROOT / "plugins" / folder).rglob("*.py")):
            found.update(dict.fromkeys(controller_messages(path), path.name))
    for path in sorted((ROOT / "roles").glob("*/tasks/*.yml")):
        for task in yaml.safe_load(path.read_text()):
            text = task.get("ansible.builtin.assert", {}).get("fail_msg", "")
            found[re.sub(r"{{.*?}}", VARYING, text, flags=re.DOTALL)] = path.name
    for path in sorted((ROOT / "roles").glob("*/vars/*.yml")):
        found.update(dict.fromkeys(IN_JINJA.findall(path.read_text()), path.name))
    del found[LOGGED]
    return {text: name for text, name in found.items() if text.count(" ") > 1 and len(words(text)) >= FEWEST_WORDS}


def controller_messages(path: Path) -> Iterator[str]:
    module = ast.parse(path.read_text())
    constants = constants_of(module)
    for node in ast.walk(module):
        is_call = isinstance(node, ast.Call)
        is_constant = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) not in DOCUMENTATION
        is_appended = is_call and ast.unparse(node.func).endswith(".append")
        if isinstance(node, ast.Raise) or (is_call and ast.unparse(node.func) == "_refuse"):
            yield from texts(node, constants)
        elif path.name not in REPORTS and (isinstance(node, ast.JoinedStr) or is_constant or is_appended):
            yield from (text for text in texts(node, constants) if len(words(text)) >= SENTENCE_WORDS)


def words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z_.']*[a-z][A-Za-z_.']*", text.replace(VARYING, " "))


def is_reason(text: str) -> bool:
    """Tell whether a text is the reason in another message: it begins like the end of a sentence."""
    return re.match(r"(?!nova's )[a-z'-]+ |\$", text) is not None


def entries() -> list[str]:
    """The entries of the page, each with its messages, and what to do."""
    return re.split(r"\n\n(?=``)", PAGE.read_text())


def heads(entry: str, message: str) -> bool:
    return any(pattern(text).search(message) for text in literals(entry.partition("\n")[0]))


def literals(text: str) -> list[str]:
    """The parts of messages that a text quotes."""
    return [literal for literal in re.findall(r"``([^`]+)``", text) if len(words(literal)) >= FEWEST_WORDS]


def pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*?".join(re.escape(part) for part in text.strip(f"{VARYING} ").split(VARYING)))


def test_code_has_messages() -> None:
    assert len(messages()) > 90


def test_each_message_of_the_code_is_on_the_page() -> None:
    """If not, add it to troubleshooting.rst: what it means, and what to do."""
    known = [pattern(text) for text in literals(PAGE.read_text())]
    assert {text: name for text, name in messages().items() if not any(each.search(text) for each in known)} == {}


def test_each_message_on_the_page_exists() -> None:
    # Lines of nothing but messages. A line of prose may begin and end with one.
    terms = re.findall(r"^ {0,3}``([^`]+(?:``(?:,| and) ``[^`]+)*)``$", PAGE.read_text(), re.MULTILINE)
    known = [text for term in terms for text in re.split("``(?:,| and) ``", term) if len(words(text)) >= FEWEST_WORDS]
    assert len(known) > 50
    assert [text for text in known if not any(pattern(text).search(message) for message in messages())] == []


def test_each_message_ends_with_a_remedy() -> None:
    """Say what happened to which object, why, and what to do: set which option, run which command, look where.

    What begins like the end of a sentence ("it is a link") is a reason inside a message, and its entry has the remedy.
    """
    whole = messages().keys() - pieces() - HOLDING_MESSAGES.keys()
    assert [text for text in sorted(whole) if not is_reason(text) and not has_remedy(text)] == []


def test_each_reason_is_in_an_entry_with_a_remedy() -> None:
    """The entry has one, or the message at its head."""
    reasons = [text for text in sorted(messages()) if is_reason(text) and not has_remedy(text)]
    assert len(reasons) > 20
    with_remedy = [message for message in messages() if has_remedy(message)]
    known = [
        pattern(text)
        for entry in entries()
        if has_remedy(entry) or any(heads(entry, message) for message in with_remedy)
        for text in literals(entry)
    ]
    assert [text for text in reasons if not any(each.search(text) for each in known)] == []


def test_each_name_that_holds_messages_exists_in_the_code() -> None:
    assert HOLDING_MESSAGES.keys() <= messages().keys()
