# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Any number of mixed hosts, by hand: `./test mixed-hosts -- --hosts 400`; `-- --only-faults` puts the faults back."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from ansible_collections.stackops.nova.tests.mixed_hosts.checking import check
from ansible_collections.stackops.nova.tests.mixed_hosts.faults import FAULTS
from ansible_collections.stackops.nova.tests.mixed_hosts.generator import random_host
from ansible_collections.stackops.nova.tests.support.processes import in_a_child

MOST_HOSTS_FOR_A_FAULT = 200


def main() -> None:
    parser = argparse.ArgumentParser(description="Prune random hosts that mix the states of public reports.")
    parser.add_argument("--hosts", type=int, default=400, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="that of the first one; the others follow")
    parser.add_argument("--only-faults", action="store_true", help="put each fault back, and see it found")
    arguments = parser.parse_args()
    if arguments.only_faults:
        missed = [name for name, put_back in FAULTS.items() if not _is_found(name, put_back, arguments.seed)]
        sys.exit(f"{len(missed)} faults are not found" if missed else None)
    wrong = sum(_report(seed) for seed in range(arguments.seed, arguments.seed + arguments.hosts))
    print(f"{arguments.hosts} hosts were pruned.")
    sys.exit(f"{wrong} went wrong" if wrong else None)


def _report(seed: int) -> bool:
    wrong = check_seed(seed)
    for sentence in wrong:
        print(f"seed {seed}: {sentence}", flush=True)
    return bool(wrong)


def _is_found(name: str, put_back: Callable[[], None], first: int) -> bool:
    for number in range(MOST_HOSTS_FOR_A_FAULT):
        wrong = in_a_child(lambda seed=first + number: (put_back(), check_seed(seed))[1])
        if wrong:
            print(f"{name}: found by host {number + 1}: {wrong[0]}", flush=True)
            return True
    print(f"{name}: NOT FOUND", flush=True)
    return False


def check_seed(seed: int) -> list[str]:
    with tempfile.TemporaryDirectory() as directory:
        return check(random_host(seed), Path(directory))


if __name__ == "__main__":
    main()
