# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action as a playbook runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.stackops.nova.tests.support.fleets import HOSTILE, troubled
from ansible_collections.stackops.nova.tests.support.run_module import collections_path

FILES = ["image_cache.prom", "report.html", "report.json"]


def report(folder: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the action on a fleet that Ansible read from a file, and so does not trust any more than a host's answer."""
    folder.mkdir(exist_ok=True)
    if "fleet" in options:
        source = folder / "fleet.json"
        source.write_text(json.dumps(options["fleet"]))
        options["fleet"] = f"{{{{ lookup('ansible.builtin.file', '{source}') | from_json }}}}"
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [{"name": "Report", "stackops.nova.image_cache_report": options}],
    }
    playbook = folder / "play.yml"
    playbook.write_text(yaml.safe_dump([play]))
    return subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", str(playbook), *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": collections_path(),
            "ANSIBLE_HOME": str(folder),
            "ANSIBLE_NOCOLOR": "1",
        },
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "reports" / "today"


def test_it_writes_three_files_also_in_check_mode(tmp_path: Path, folder: Path) -> None:
    names = " ".join(name for name in HOSTILE if "\ud800" not in name)
    written = report(tmp_path / "play", "--check", fleet=troubled(names), path=str(folder), query="hosts[].name")
    assert written.returncode == 0, written.stdout
    assert "changed=0" in written.stdout
    assert sorted(path.name for path in folder.iterdir()) == FILES
    told = json.loads((folder / "report.json").read_text())
    assert told["hosts"][0]["name"] == f"1{names}"
    assert told["selection"]["result"][0] == f"1{names}"
    assert "{{ 7*7 }}" in (folder / "report.html").read_text()
    assert "{{ 7*7 }}" in (folder / "image_cache.prom").read_text()


def test_everybody_may_read_the_files_that_the_umask_lets_read(tmp_path: Path, folder: Path) -> None:
    report(tmp_path / "play", fleet=troubled("x"), path=str(folder))
    umask = os.umask(0)
    os.umask(umask)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o666 & ~umask}


def test_a_link_in_its_place_is_replaced_and_not_followed(tmp_path: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (folder / "report.html").symlink_to(victim)
    report(tmp_path / "play", fleet=troubled("x"), path=str(folder))
    assert victim.read_text() == "mine"
    assert not (folder / "report.html").is_symlink()


def test_without_a_fleet_it_only_checks(tmp_path: Path, folder: Path) -> None:
    assert report(tmp_path / "play", path=str(folder)).returncode == 0
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = report(tmp_path / "play", path=str(tmp_path / "file" / "reports"))
    assert refused.returncode == 2
    assert f"The report cannot be written into {tmp_path}/file/reports on the controller" in refused.stdout
    assert "image_cache_report_path" in refused.stdout


def test_a_query_that_does_not_parse_is_refused_before_the_folder_is_made(tmp_path: Path, folder: Path) -> None:
    refused = report(tmp_path / "play", path=str(folder), query="hosts[?")
    assert refused.returncode == 2
    assert "The report's query 'hosts[?' is not a JMESPath expression" in refused.stdout
    assert not folder.exists()


def test_a_file_that_cannot_be_put_in_its_place_leaves_no_part(tmp_path: Path, folder: Path) -> None:
    (folder / "report.html").mkdir(parents=True)
    refused = report(tmp_path / "play", fleet=troubled("x"), path=str(folder))
    assert refused.returncode == 2
    assert "The report cannot be written into" in refused.stdout
    assert not [path.name for path in folder.iterdir() if path.name not in FILES]
