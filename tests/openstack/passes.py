# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Audits, dry runs and prunes by ansible-playbook, one after the other."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass
class Tally:
    """What all passes came to.

    :param removed: when each file was last removed, by its name.
    :param kept: how often a file was kept, by reason.
    :param refused: why passes removed nothing, or failed.
    :param missing: files that disks needed and that did not exist, and the pass that said so.
    :param broken: why the loop ended before its time.
    """

    audits: int = 0
    prunes: int = 0
    files: int = 0
    reclaimed_bytes: int = 0
    removed: dict[str, float] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


class Passes:
    """Runs passes, in a loop if started, and counts.

    :param work: a directory for answers and logs.
    :param minimum_age: the age in seconds at which unused files go.
    """

    def __init__(self, playbook_command: str, work: Path, minimum_age: int) -> None:
        self.tally = Tally()
        self._command = playbook_command
        self._work = work
        self._minimum_age = minimum_age
        self._turn = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._loop)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        self._thread.join()

    def paused(self) -> threading.Lock:
        """Return what holds up the loop, for a ``with``."""
        return self._turn

    def run(self, prune: bool, servers: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        """Run one pass and return what audit, dry run and prune answered; the loop must be paused."""
        answer = self._work / "answer.json"
        answer.unlink(missing_ok=True)
        variables: dict[str, Any] = {"minimum_age": self._minimum_age, "prune": prune, "answer": str(answer)}
        if servers is not None:
            variables["servers"] = servers
        options = self._work / "variables.json"
        options.write_text(json.dumps(variables))
        command = ["nice", self._command, "-i", "localhost,", "-e", f"@{options}", str(HERE / "passes.yml")]
        with (self._work / "playbook.log").open("w") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        result: dict[str, Any] = json.loads(answer.read_text())
        with (self._work / "answers.jsonl").open("a") as log:
            log.write(json.dumps(result) + "\n")
        self._count(result, prune)
        return result

    def _loop(self) -> None:
        while not self._end.is_set():
            try:
                with self._turn:
                    self.run(prune=True)
            except (OSError, ValueError, subprocess.CalledProcessError) as exc:
                self.tally.broken.append(f"the loop of passes ended: {exc}")
                return
            time.sleep(1)  # so that a process that wants to pause gets the turn

    def _count(self, result: dict[str, Any], prune: bool) -> None:
        tally = self.tally
        tally.audits += 1
        audit = result["audit"]
        if "ansible_facts" not in audit:
            tally.refused.append(f"audit: {audit.get('msg')}")
        else:
            facts = audit["ansible_facts"]["image_cache"]
            tally.missing += [f"{lost} at {facts['now']:.0f}" for lost in facts["missing"]]
        if not prune:
            return
        tally.prunes += 1
        pruned = result["prune"]
        if "image_cache" not in pruned or pruned["image_cache"]["unknown_use"] or pruned["image_cache"]["failed"]:
            tally.refused.append(f"prune: {pruned.get('msg')}")
        if "image_cache" in pruned:
            cache = pruned["image_cache"]
            tally.files += len(cache["removed"])
            tally.reclaimed_bytes += cache["reclaimed_bytes"]
            tally.removed.update(dict.fromkeys(cache["removed"], time.time()))
            for kept in cache["kept"]:
                tally.kept[kept["reason"]] = tally.kept.get(kept["reason"], 0) + 1
