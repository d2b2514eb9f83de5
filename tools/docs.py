# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Puts into the documentation's pages what is not to be typed by hand. Usage: python -m tools.docs

* After `.. shown: PART`, the console block's commands are run on the host of `compute_host.sh`, all of a page one after
  the other on the same host, and PART of what they print is put below them: `report`, `report from TEXT until TEXT`, or
  `diff`. A YAML block with a caption is there under that name from then on. From the beginning there are an `inventory`
  of that host, and a `fleet` of it, of two hosts that share a storage, and of one whose directory does not exist. Each
  host has an image that an operator brought, `/var/lib/brought/debian-13.raw`.
* Between `.. table: NAME` and `.. end of table`, a table made from the code.

It needs ansible-playbook in PATH, with the collection where it finds it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import textwrap
from pathlib import Path
from typing import Any

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.argspec import argument_spec
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.cache_use import CacheUse
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.layouts import LAYOUTS, options_of
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.nova_conf import (
    CACHING_LOCATIONS,
    OPTION_LOCATIONS,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.settings import make_settings

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs/docsite/rst"
INVENTORY = """\
[compute]
compute-1 ansible_connection=local ansible_python_interpreter="{{ ansible_playbook_python }}"
"""
FLEET = """\
[compute]
compute-1
compute-2 image_cache_libvirt_config_path=/var/lib/rack/compute-2/libvirt
compute-3 image_cache_libvirt_config_path=/var/lib/rack/compute-3/libvirt
compute-4 image_cache_instances_path=/srv/nova/instances
[compute:vars]
ansible_connection=local
ansible_python_interpreter="{{ ansible_playbook_python }}"
image_cache_host="{{ inventory_hostname }}"
[rack]
compute-2
compute-3
[rack:vars]
image_cache_instances_path=/var/lib/rack/instances
image_cache_storage_group=rack
"""
MAKE_FLEET = f"""\
(cd {ROOT} && python -c 'from tools.sample_cache import lay_out_brought, lay_out_rack
lay_out_rack("/var/lib/rack", "compute-2", "compute-3")
lay_out_brought("/var/lib/brought/debian-13.raw")')
"""

_INDENTED = r"(?:(?:   .*)?\n)+?(?=\S|\Z)"
_SHOWN = rf"^\.\. shown: (?P<part>.+)\n\n\.\. code-block:: console\n\n(?P<text>{_INDENTED})"
_FILE = rf"^\.\. code-block:: yaml\n   :caption: (?P<name>\S+)\n\n(?P<file>{_INDENTED})"
_STEP = re.compile(f"{_SHOWN}|{_FILE}", re.MULTILINE)
_TABLE = re.compile(r"^\.\. table: (?P<name>\S+)\n\n(?P<text>.*?)^\.\. end of table\n", re.MULTILINE | re.DOTALL)
_PART = re.compile(r"(?P<kind>report|diff)(?: from (?P<first>.+?))?(?: until (?P<last>.+))?")
_MARK = "=== the next block"


def update(page: str) -> str:
    """Return a page with all that is generated in it made anew."""
    outputs = iter(_run(page))

    def show(match: re.Match[str]) -> str:
        commands = _commands(match["text"])
        shown = textwrap.indent("\n".join([*commands, *_part(next(outputs), match["part"])]), "   ")
        return f".. shown: {match['part']}\n\n.. code-block:: console\n\n{shown}\n\n"

    page = _TABLE.sub(lambda match: f".. table: {match['name']}\n\n{_TABLES[match['name']]()}\n.. end of table\n", page)
    return re.sub(_SHOWN, show, page, flags=re.MULTILINE)


def _commands(block: str) -> list[str]:
    return [line for line in textwrap.dedent(block).splitlines() if line.startswith(("$ ", "> "))]


def _run(page: str) -> list[str]:
    """Do what a page shows, in its order, and return what each console block prints."""
    script = [MAKE_FLEET]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "inventory").write_text(INVENTORY)
        Path(folder, "fleet").write_text(FLEET)
        for number, match in enumerate(_STEP.finditer(page)):
            if match["name"]:
                Path(folder, f".{number}").write_text(textwrap.dedent(match["file"]))
                script.append(f"install -D -m 644 .{number} {match['name']}")
            else:
                commands = "\n".join(command[2:] for command in _commands(match["text"]))
                script.append(f"{{ {commands}\n}} 2>&1 || true\necho '{_MARK}'")
        if not any(_MARK in step for step in script):
            return []
        done = subprocess.run(
            [ROOT / "tools/compute_host.sh", "sh", "-euc", "\n".join(script)],
            cwd=folder,
            # One at a time: its hosts are one machine, and would see which files the other's look has open.
            env={**os.environ, "ANSIBLE_FORKS": "1"},
            check=True,
            capture_output=True,
            text=True,
        )
    return done.stdout.split(_MARK)[:-1]


def _part(output: str, part: str) -> list[str]:
    asked = _PART.fullmatch(part)
    if asked is None:
        raise ValueError(f"'.. shown: {part}' is neither report nor diff")
    patterns = {
        # The last heading of this name: tasks that are there for --start-at-task have it, too.
        "report": r".*^TASK \[[^]]*Report on the (?:image cache|pre-caching)\] \*+\n(.*?)\n(?:ok|fatal): \[",
        "diff": r"^(--- before.*?)\n\n",
    }
    pattern = patterns[asked["kind"]]
    found = re.search(pattern, output, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ValueError(f"There is no {asked['kind']} in what was printed:\n{output}")
    lines = found[1].splitlines()
    first = next(number for number, line in enumerate(lines) if (asked["first"] or "") in line)
    last = next((number for number, line in enumerate(lines) if asked["last"] and asked["last"] in line), len(lines))
    if first >= last:
        raise ValueError(f"{asked['last']!r} is not below {asked['first']!r} in what was printed:\n{output}")
    return [line.rstrip() for line in lines[first:last]]


def _nova_options() -> str:
    """The options that a `nova.conf` has too."""
    rows = [("Option, and the role's variable", "Type", "Group in nova.conf, the first that has it", "Default")]
    for option, spec in argument_spec().items():
        if option in OPTION_LOCATIONS:
            places = _places(option, OPTION_LOCATIONS[option])
            rows.append((_names(option), _type(option, spec), places, _nova_default(option)))
    return _table(rows)


def _places(option: str, locations: tuple[tuple[str, str], ...]) -> str:
    return _lines(*(f"``[{group}] {name}``".replace(f" {option}", "") for group, name in locations))


def _more_options() -> str:
    """The options that nova does not have."""
    rows = [("Option, and the role's variable", "Type", "Default")]
    for option, spec in argument_spec().items():
        if option not in OPTION_LOCATIONS:
            default = spec.get("default")
            shown = "none" if default in (None, []) else f"``{json.dumps(default).strip(chr(34))}``"
            rows.append((_names(option), _type(option, spec), shown))
    return _table(rows)


def _caching_options() -> str:
    """What pre-caching reads of a `nova.conf`, and no option of the modules sets."""
    rows = [("Option", "Group in nova.conf, the first that has it", "Default")]
    for option, locations in CACHING_LOCATIONS.items():
        default = getattr(CacheUse(), option, False)  # those that verify are off
        rows.append((f"``{option}``", _places(option, locations), f"``{_as_written(default)}``"))
    return _table(rows)


def _layouts() -> str:
    """What to set for each way to deploy nova."""
    rows = [("Deployment", "Set")]
    for layout in LAYOUTS:
        options = [f"``{_variable(option)}: {path}``" for option, path in options_of(layout).items()]
        rows.append((layout.name, _lines(*options) if options else "nothing"))
    return _table(rows)


def _variable(option: str) -> str:
    """The role's variable for an option of the modules."""
    return "image_cache_" + option.removeprefix("image_").removeprefix("cache_")


def _names(option: str) -> str:
    return _lines(f":ansopt:`stackops.nova.image_cache_prune#module:{option}`", f"``{_variable(option)}``")


def _lines(*lines: str) -> str:
    return "\n       ".join(f"| {line}" for line in lines)


def _type(option: str, spec: dict[str, Any]) -> str:
    if option.endswith("_seconds"):
        return "whole seconds"
    if option.endswith("_percent"):
        return "whole percent"
    if "choices" in spec:
        return " or ".join(f"``{choice}``" for choice in spec["choices"])
    names = {"int": "whole number", "bytes": "bytes, or with a unit as in ``100G``", "bool": "``true`` or ``false``"}
    names |= {"str": "text", "dict": "dictionary", "list": "list", "path": "path"}
    names["raw"] = "bytes, with a unit as in ``100G``, or percent as in ``15%``"
    return names[spec["type"]]


def _nova_default(option: str) -> str:
    own_name = "the host's own name"
    settings = make_settings({}, {}, own_name)
    checksums = {"checksum_base_images": "enabled", "checksum_interval_seconds": "interval_seconds"}
    value = getattr(settings.checksums, checksums[option]) if option in checksums else getattr(settings, option)
    return value if value == own_name else f"``{_as_written(value)}``"


def _as_written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _table(rows: list[tuple[str, ...]]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        lines += [f"   {'*' if number == 0 else ' '} - {cell}" for number, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


_TABLES = {
    "nova-options": _nova_options,
    "more-options": _more_options,
    "caching-options": _caching_options,
    "layouts": _layouts,
}

if __name__ == "__main__":
    for path in sorted(PAGES.glob("*.rst")):
        path.write_text(update(path.read_text()))
