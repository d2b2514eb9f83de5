# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the modules of the package are found in the archive in which Ansible sends them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from zipfile import ZipFile

import pytest

from ansible_collections.stackops.nova.plugins.module_utils import image_cache

NAME = image_cache.__name__
PACKAGES = [NAME.rsplit(".", depth)[0].replace(".", "/") for depth in range(1, NAME.count(".") + 1)]
FILES = sorted(Path(image_cache.__path__[0]).rglob("*.py"))

# What runs with the archive: it says which files were compiled, and what came of the rest.
SCRIPT = """
import json, sys
compiled = []
sys.addaudithook(lambda event, arguments: compiled.append(str(arguments[1])) if event == "compile" else None)
sys.path.insert(0, sys.argv[1])
from ansible_collections.stackops.nova.plugins.module_utils.image_cache import errors
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch import proof
try:
    from ansible_collections.stackops.nova.plugins.module_utils.image_cache import no_such_module
except ImportError as exc:
    missing = str(exc)
try:
    import ansible_collections.stackops.nova.plugins.module_utils.image_cache.no_such_module
except ModuleNotFoundError as exc:
    not_found = exc.name
print(json.dumps({"compiled": compiled, "file": errors.__file__, "missing": missing, "not_found": not_found,
                  "inner": proof.__file__, "source": errors.__loader__.get_source(errors.__name__)}))
"""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "payload.zip"
    with ZipFile(path, "w") as payload:
        for package in PACKAGES:
            payload.writestr(f"{package}/__init__.py", "")
        for file in FILES:
            payload.write(file, f"{NAME.replace('.', '/')}/{file.relative_to(image_cache.__path__[0])}")
    return path


def imported(archive: Path) -> dict[str, object]:
    command = [sys.executable, "-I", "-c", SCRIPT, str(archive)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_module_of_archive_is_compiled_once(archive: Path) -> None:
    compiled = imported(archive)["compiled"]
    assert isinstance(compiled, list)
    times = Counter(Path(file).name for file in compiled if f"{NAME.replace('.', '/')}/" in file)
    assert times.pop("__init__.py") > 0  # by Python itself, before this package can say anything
    assert times == dict.fromkeys(["errors.py", "files.py", "open_files.py", "proof.py", "text.py"], 1)


def test_module_of_archive_knows_its_file_and_source(archive: Path) -> None:
    found = imported(archive)
    assert found["file"] == f"{archive}/{NAME.replace('.', '/')}/errors.py"
    assert "class ImageCacheError" in str(found["source"])
    assert found["inner"] == f"{archive}/{NAME.replace('.', '/')}/fetch/proof.py"


def test_module_that_is_missing_from_archive_is_reported_as_ever(archive: Path) -> None:
    found = imported(archive)
    assert str(found["missing"]).startswith("cannot import name 'no_such_module'")
    assert found["not_found"] == f"{NAME}.no_such_module"
