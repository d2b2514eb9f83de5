# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole table of faults, by hand: `./test faults`. It takes minutes; `-- --call unlinkat` makes a part of it."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from ansible_collections.stackops.nova.tests.faults.injection import CALLS, FAULTS, inject, trace


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Let each system call of a prune fail in each way, and tell what comes."
    )
    parser.add_argument("--call", choices=CALLS, action="append", help="only these; may be given several times")
    parser.add_argument("--fault", choices=FAULTS, action="append", help="only these; may be given several times")
    arguments = parser.parse_args()
    wrong = rows = 0
    print("call\tnumber\ttarget\tfault\toutcome\twrong")
    with tempfile.TemporaryDirectory() as root:
        for call in list(trace(Path(root))):
            for fault in arguments.fault or FAULTS:
                if call.name in (arguments.call or CALLS):
                    row = inject(Path(root), call, fault)
                    print(
                        *(row.call or call),
                        row.fault,
                        repr(row.outcome)[1:-1],
                        "; ".join(row.wrong),
                        sep="\t",
                        flush=True,
                    )
                    rows += 1
                    wrong += bool(row.wrong)
    sys.exit(f"{wrong} of {rows} are wrong" if wrong else None)


if __name__ == "__main__":
    main()
