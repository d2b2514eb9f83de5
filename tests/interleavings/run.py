# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All interleavings, by hand: `./test interleavings`. It takes an hour; `-- --operation resize` is a part."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from ansible_collections.stackops.nova.tests.interleavings.guards import GUARDS
from ansible_collections.stackops.nova.tests.interleavings.operations import OPERATIONS
from ansible_collections.stackops.nova.tests.interleavings.trial import (
    MODES,
    PRECACHE,
    Trial,
    after,
    attempt,
    points,
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Stop a prune, or a pre-caching, after each system call, do each of nova's operations, and check."
    )
    modes = [*MODES, PRECACHE]
    parser.add_argument("--mode", choices=modes, action="append", help="only these; may be given several times")
    parser.add_argument("--operation", choices=OPERATIONS, action="append", help="only these; likewise")
    parser.add_argument("--guards", action="store_true", help="only the guards: each is left in, and taken out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "host"
        wrong = _try_guards(root) if arguments.guards else 0
        if not arguments.guards:
            wrong = _try_all(root, arguments.mode or modes, arguments.operation or list(OPERATIONS))
    sys.exit(f"{wrong} are wrong" if wrong else None)


def _try_all(root: Path, modes: list[str], names: list[str]) -> int:
    wrong = tried = reached = 0
    for mode in modes:
        for call, occurrence in points(root, mode):
            for name in names:
                trial = attempt(root, mode, [(after(*call, occurrence), OPERATIONS[name])])
                tried += 1
                reached += trial.all_reached
                wrong += _tell(f"{mode}: {name} after {call.name} {call.target}, time {occurrence}", trial)
    print(f"{tried} interleavings were tried; in {tried - reached} the prune did not make the call again.")
    return wrong


def _try_guards(root: Path) -> int:
    wrong = 0
    for name, guard in GUARDS.items():
        wrong += _tell(f"with {name}", attempt(root, guard.mode, guard.steps))
        found = attempt(root, guard.mode, guard.steps, guard.take_out).wrong
        print(f"without {name}: {found or 'NOTHING GOES WRONG'}", flush=True)
        wrong += not found
    return wrong


def _tell(what: str, trial: Trial) -> bool:
    if trial.wrong:
        print(f"{what}: {'; '.join(trial.wrong)}", flush=True)
    return bool(trial.wrong)


if __name__ == "__main__":
    main()
