# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stress test of any length, by hand: `./test adversary -- --seconds 3600 --seed 7`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from ansible_collections.stackops.nova.tests.adversary.stress import SABOTAGES, fight


def main() -> None:
    parser = argparse.ArgumentParser(description="Let imitations of nova-compute, and prunes, loose on one tree.")
    parser.add_argument("--seconds", type=float, default=600, help="for how long, unless something is lost before")
    parser.add_argument("--seed", type=int, default=1, help="what the imitations choose to do; not when")
    parser.add_argument("--without", choices=SABOTAGES, help="what the prunes are made to lack, to see it noticed")
    parser.add_argument("--orphans", choices=["protect", "ignore"], default="protect", help="the option of that name")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        outcome = fight(Path(root), arguments.seconds, arguments.seed, arguments.without, arguments.orphans)
    print(f"{sum(outcome.operations.values())} operations: {dict(outcome.operations.most_common())}")
    print(f"{outcome.passes.count} passes removed {outcome.passes.removed.total()} files;")
    print(f"they kept {dict(outcome.passes.kept.most_common())}")
    print(f"{outcome.passes.errors.total()} of them failed:")
    print(*(f"  {count} times: {error}" for error, count in outcome.passes.errors.most_common(10)), sep="\n")
    sys.exit("\n".join(["LOST", *outcome.lost]) if outcome.lost else None)


if __name__ == "__main__":
    main()
