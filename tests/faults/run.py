# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole table of faults, by hand: `./test faults`. It takes minutes; `-- --call unlinkat` makes a part of it."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from ansible_collections.stackops.nova.tests.faults import injection, precaching
from ansible_collections.stackops.nova.tests.faults.injection import Row
from ansible_collections.stackops.nova.tests.support.strace import Call

CALLS = sorted({*injection.CALLS, *precaching.CALLS})


def of_a_prune(root: Path, calls: Collection[str], faults: Collection[str]) -> Iterator[tuple[Call, Row]]:
    for call in list(injection.trace(root)):
        for fault in injection.FAULTS:
            if call.name in calls and fault in faults:
                yield call, injection.inject(root, call, fault)


def of_a_precache(root: Path, calls: Collection[str], faults: Collection[str]) -> Iterator[tuple[Call, Row]]:
    def choose(all_calls: list[Call]) -> list[Call]:
        return [call for call in all_calls if call.name in calls]

    for source in precaching.SOURCES:
        for fault in precaching.FAULTS:
            if fault in faults:
                directory = root / f"{source} {fault}"
                directory.mkdir()
                yield from ((row.call, row) for row in precaching.rows(directory, source, fault, choose))


OPERATIONS: dict[str, Callable[[Path, Collection[str], Collection[str]], Iterator[tuple[Call, Row]]]] = {
    "prune": of_a_prune,
    "precache": of_a_precache,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Let each system call of a prune and of a pre-caching fail in each way, and print what comes of it."
    )
    several = "only these; may be given several times"
    parser.add_argument("--of", choices=OPERATIONS, action="append", help=several)
    parser.add_argument("--call", choices=CALLS, action="append", help=several)
    parser.add_argument("--fault", choices=injection.FAULTS, action="append", help=several)
    arguments = parser.parse_args()
    wrong = rows = 0
    print("operation\tcall\tnumber\ttarget\tfault\toutcome\twrong")
    for operation in arguments.of or OPERATIONS:
        with tempfile.TemporaryDirectory() as root:
            table = OPERATIONS[operation](Path(root), arguments.call or CALLS, arguments.fault or injection.FAULTS)
            for call, row in table:
                outcome, wrongs = repr(row.outcome)[1:-1], "; ".join(row.wrong)
                print(operation, *(row.call or call), row.fault, outcome, wrongs, sep="\t", flush=True)
                rows += 1
                wrong += bool(row.wrong)
    sys.exit(f"{wrong} of {rows} are wrong" if wrong else None)


if __name__ == "__main__":
    main()
