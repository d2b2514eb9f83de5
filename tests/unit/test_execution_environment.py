# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The execution environment has this collection in it, whole, and what it needs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the build installs this collection, from the files that ansible-builder gives it."""
    context = tmp_path_factory.mktemp("context")
    definition = str(ROOT / "execution-environment.yml")
    run("ansible-builder", "create", "--file", definition, "--context", str(context))
    # What is built on an image has another root.
    requirements = yaml.safe_load((context / "_build/requirements.yml").read_text())
    ours = [
        {**entry, "name": str(context / "_build" / Path(entry["name"]).relative_to("/build"))}
        for entry in requirements["collections"]
        if entry.get("type") == "dir"
    ]
    (context / "ours.yml").write_text(yaml.safe_dump({"collections": ours}))
    installed = tmp_path_factory.mktemp("collections")
    # Forced because the import path of the tests has a collection of this name too.
    run("ansible-galaxy", "collection", "install", "--force", "-r", str(context / "ours.yml"), "-p", str(installed))
    return installed


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_environment_has_each_file_that_galaxy_publishes(collections: Path) -> None:
    installed = collections / "ansible_collections/stackops/nova"
    for folder in ("meta", "playbooks", "plugins", "roles"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert (installed / path.relative_to(ROOT)).read_bytes() == path.read_bytes()


def test_environment_has_the_library_of_the_report_query(collections: Path) -> None:
    found = yaml.safe_load(run("ansible-builder", "introspect", str(collections)))
    assert found["python"] == ["jmespath  # from collection stackops.nova"]


def test_environment_has_the_library_that_asks_the_apis() -> None:
    definition = yaml.safe_load((ROOT / "execution-environment.yml").read_text())
    assert "openstacksdk" in definition["dependencies"]["python"]
