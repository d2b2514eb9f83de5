# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.plugins.plugin_utils.report.errors import ReportError
from ansible_collections.stackops.nova.plugins.plugin_utils.report.files import (
    check_report,
    write_precache_report,
    write_report,
)
from ansible_collections.stackops.nova.tests.support.fleets import HOSTILE, answer, fleet, storage, troubled
from ansible_collections.stackops.nova.tests.support.precaches import of_each_outcome
from ansible_collections.stackops.nova.tests.support.run_module import collections_path

FILES = ["image_cache.prom", "report.html", "report.json"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "reports" / "today"


def test_report_has_three_files(folder: Path) -> None:
    assert write_report(str(folder), troubled("x"), None) == (FILES, "")
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert json.loads((folder / "report.json").read_text()) == troubled("x")


def test_slices_write_their_own_files_into_one_folder(folder: Path) -> None:
    names = [write_report(str(folder), troubled(name), None, slice_name=name).names for name in ("1", "2")]
    assert names[0] == ["image_cache_1.prom", "report_1.html", "report_1.json"]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names[0], *names[1]])
    assert 'slice="2"' in (folder / "image_cache_2.prom").read_text()


def test_pre_cache_writes_files_beside_those_of_the_last_audit_and_continues_its_metrics(folder: Path) -> None:
    write_report(str(folder), troubled("x"), None, {"1x"})
    before = {path.name: path.read_text() for path in folder.iterdir()}
    written = write_precache_report(str(folder), of_each_outcome("x"), {"1x"})
    assert written == (["image_cache.prom", "precache.html", "precache.json"], "")
    assert json.loads((folder / "precache.json").read_text()) == of_each_outcome("x")
    assert all((folder / name).read_text() == before[name] for name in ("report.html", "report.json"))
    metrics = (folder / "image_cache.prom").read_text()
    assert 'nova_image_cache_host_answered{host="1x"} 1' in metrics
    assert 'nova_image_cache_precache_timestamp_seconds{host="1x",' in metrics


def test_dry_run_of_a_pre_cache_changes_no_metrics(folder: Path) -> None:
    dry = of_each_outcome("x", check_mode=True)
    assert write_precache_report(str(folder), dry).names == ["precache.html", "precache.json"]
    assert sorted(path.name for path in folder.iterdir()) == ["precache.html", "precache.json"]


def test_pre_cache_of_a_slice_has_files_of_its_own(folder: Path) -> None:
    written = write_precache_report(str(folder), of_each_outcome("x"), {"1x"}, "2")
    assert written.names == ["image_cache_2.prom", "precache_2.html", "precache_2.json"]
    assert 'slice="2"' in (folder / "image_cache_2.prom").read_text()


def test_exporter_may_read_the_metrics_whatever_the_umask(folder: Path) -> None:
    umask = os.umask(0o077)
    try:
        write_report(str(folder), troubled("x"), None)
    finally:
        os.umask(umask)
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == {"image_cache.prom": 0o644, "report.html": 0o600, "report.json": 0o600}


def test_metrics_continue_the_former_ones(folder: Path) -> None:
    write_report(str(folder), fleet(storage(answer("a"), "a"), storage(answer("b"), "b")), None)
    assert write_report(str(folder), fleet(storage(answer("a"), "a")), None, {"a", "b"}).warning == ""
    assert 'nova_image_cache_host_answered{host="b"} 1' in (folder / "image_cache.prom").read_text()


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (b"\xff\x00\n", "damaged lines: 1, from line 1"),
        (b"<html>", "damaged lines: 1, from line 1"),
        (None, "it is not a regular file"),
    ],
)
def test_damaged_former_file_is_named_and_stops_no_run(folder: Path, damage: bytes | None, why: str) -> None:
    folder.mkdir(parents=True)
    former = folder / "image_cache.prom"
    if damage is None:
        os.mkfifo(former)
    else:
        former.write_bytes(damage)
    written = write_report(str(folder), troubled("x"), None)
    assert written == (FILES, written.warning)
    assert f"{former} cannot be read in full: {why}. " in written.warning
    assert write_report(str(folder), troubled("x"), None).warning == ""


def test_former_file_that_is_a_link_is_not_followed(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "image_cache.prom").symlink_to("/dev/zero")
    assert "cannot be read in full" in write_report(str(folder), troubled("x"), None).warning


def test_reports_that_are_written_at_once_lose_no_host(folder: Path) -> None:
    names = [f"h{number}" for number in range(8)]
    script = (
        "import sys\n"
        "from ansible_collections.stackops.nova.plugins.plugin_utils.report.files import write_report\n"
        "from ansible_collections.stackops.nova.tests.support.fleets import answer, fleet, storage\n"
        "sys.stdin.read()\n"
        "seen = fleet(storage(answer(sys.argv[2]), sys.argv[2]))\n"
        "assert not write_report(sys.argv[1], seen, None, set(sys.argv[3:])).warning\n"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(folder), name, *names],
            stdin=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": collections_path()},
        )
        for name in names
    ]
    for run in runs:
        assert run.stdin
        run.stdin.close()
    assert [run.wait() for run in runs] == [0] * len(names)
    text = (folder / "image_cache.prom").read_text()
    assert all(f'host_answered{{host="{name}"}} 1' in text for name in names)


def test_report_that_ends_after_a_later_one_keeps_the_times_of_that(folder: Path) -> None:
    now = time.time()
    for name, began in (("late", now - 1), ("early", now - 60)):
        seen = fleet(storage(answer(name), name))
        for one in (seen, *seen["storages"], *seen["hosts"]):
            one["generated" if one is seen else "time"] = began
        assert write_report(str(folder), seen, None, {"late", "early"}).warning == ""
    assert f'host_answer_timestamp_seconds{{host="late"}} {now - 1}' in (folder / "image_cache.prom").read_text()


def test_selection_of_the_query_is_in_page_and_json(folder: Path) -> None:
    write_report(str(folder), troubled("x"), "hosts[].name")
    selection = json.loads((folder / "report.json").read_text())["selection"]
    assert selection == {"expression": "hosts[].name", "result": [f"{n}x" for n in range(1, 7)], "error": None}
    assert "By the query" in (folder / "report.html").read_text()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_name_can_be_written_and_read_again(folder: Path, name: str) -> None:
    write_report(str(folder), troubled(name), None)
    assert json.loads((folder / "report.json").read_text())["hosts"][0]["name"] == f"1{name}"
    for file in FILES:
        (folder / file).read_text(encoding="utf-8")


def test_report_replaces_an_earlier_one(folder: Path) -> None:
    for name in ("first-name", "second-name"):
        write_report(str(folder), troubled(name), None)
    assert all("first-name" not in (folder / name).read_text() for name in FILES)
    assert sorted(path.name for path in folder.iterdir()) == FILES


def test_failure_to_write_one_file_leaves_the_earlier_report_and_no_part(folder: Path) -> None:
    write_report(str(folder), troubled("first-name"), None)
    # A limit of the process on the size of a file is reached by the page, as it would be on a full file system.
    script = (
        "import resource, signal, sys\n"
        "from ansible_collections.stackops.nova.plugins.plugin_utils.report.files import write_report\n"
        "from ansible_collections.stackops.nova.tests.support.fleets import troubled\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "write_report(sys.argv[1], troubled('second-name'), None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": collections_path()},
    )
    assert "The report cannot be written into" in done.stderr
    assert "The cause is: File too large." in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert all("second-name" not in (folder / name).read_text() for name in FILES)


def test_check_makes_the_folder_and_writes_nothing(folder: Path) -> None:
    check_report(str(folder), "hosts[].name")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("query", [None, ""])
def test_check_without_a_query_only_checks_the_folder(folder: Path, query: str | None) -> None:
    check_report(str(folder), query)
    assert folder.exists()


def test_folder_below_a_file_is_refused_with_cause_and_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    below = str(tmp_path / "file" / "reports")
    message = (
        f"The report cannot be written into {below} on the controller. The cause is: Not a directory. "
        f"Let the user who runs Ansible write there, or set another folder (image_cache_report_path)."
    )
    for attempt in (lambda: check_report(below, None), lambda: write_report(below, troubled("x"), None)):
        with pytest.raises(ReportError) as caught:
            attempt()
        assert str(caught.value) == message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_folder_that_the_user_may_not_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(ReportError, match="The cause is: Permission denied"):
            check_report(str(tmp_path), None)
    finally:
        os.seteuid(0)


def test_query_that_does_not_parse_is_refused_before_the_folder_is_made(folder: Path) -> None:
    for attempt in (
        lambda: check_report(str(folder), "hosts[?"),
        lambda: write_report(str(folder), troubled("x"), "hosts[?"),
    ):
        with pytest.raises(ReportError, match=r"'hosts\[\?' is not a JMESPath expression"):
            attempt()
    assert not folder.exists()
