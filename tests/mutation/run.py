# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Change what decides, removes and shows in every small way, and see a test fail each time: `./test mutation`.

It takes more than an hour; `-- plan` takes one file. A mutant that no test kills is reported and fails the run, unless
it is in equivalent.toml, with the reason why nothing could kill it. Properties that Hypothesis tests are left out,
because what they find depends on chance.
"""

from __future__ import annotations

import argparse
import os
import sys
import tomllib
from pathlib import Path

from cosmic_ray.testing import run_tests
from cosmic_ray.util import restore_contents
from cosmic_ray.work_item import TestOutcome

from ansible_collections.stackops.nova.tests.mutation.mutants import Mutant, mutants

CORE = Path("plugins/module_utils/image_cache")
FLEET = Path("plugins/plugin_utils/fleet")
FOLDERS = {
    **dict.fromkeys(("plan", "backing_chain", "apply", "space", "orphans", "images_result", "result"), CORE),
    **dict.fromkeys(("proof", "records", "sources", "disks", "candidates"), CORE / "fetch"),
    **dict.fromkeys(("decision", "limit", "refusals", "storages", "images", "restore", "summary"), FLEET),
    **dict.fromkeys(("answers", "choice", "cloud", "glance", "options", "play", "precache"), FLEET),
    **dict.fromkeys(("restore_from_glance", "restore_from_peers", "peers", "waves", "precache_waves"), FLEET),
}
# What public reports showed of hosts is tested on whole trees, and not file by file.
STATES_OF_HOSTS = ("test_kept_overlays.py", "test_obstacles.py", "test_public_reports.py")
ALSO_TESTED_BY = dict.fromkeys(("plan", "apply"), STATES_OF_HOSTS)
OPTIONS = "-qx -p no:cacheprovider -p _hypothesis_pytestplugin -m 'not hypothesis'"
# It makes Ansible find its own plugins, of which tests of plays make tasks.
ALSO_LOADED = {"play": "-p pytest_ansible.plugin"}
LONGEST_SECONDS = 60
TIMEOUT = "timeout"  # cosmic-ray's output of tests that took longer, which it calls killed as well

Known = dict[str, str]


def main() -> int:
    parser = argparse.ArgumentParser(description="See each mutant fail a test.")
    parser.add_argument("file", nargs="*", help=f"only these of {', '.join(FOLDERS)}")
    files = parser.parse_args().file or FOLDERS
    if unknown := set(files) - set(FOLDERS):
        parser.error(f"there are no mutants of {', '.join(sorted(unknown))}")
    equivalent = tomllib.loads((Path(__file__).parent / "equivalent.toml").read_text())
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # it takes half of the time
    return 1 if sum(examine(name, equivalent.get(name, [])) for name in files) else 0


def examine(name: str, equivalent: list[Known]) -> int:
    """Test all mutants of a file, and return how many survived unexpectedly, or were expected and not made."""
    folder = FOLDERS[name]
    path = folder / f"{name}.py"
    tests = [f"tests/unit/{folder}/test_{name}.py", *(f"tests/unit/{file}" for file in ALSO_TESTED_BY.get(name, ()))]
    command = f"{sys.executable} -m pytest {OPTIONS} {ALSO_LOADED.get(name, '')} {' '.join(tests)}"
    for cached in path.parent.glob(f"__pycache__/{name}.*.pyc"):
        cached.unlink()  # a mutant may have the size of the file, and be made in the same second
    outcome, output = run_tests(command, LONGEST_SECONDS)
    if outcome is not TestOutcome.SURVIVED:
        print(f"{path}: the tests fail without any change:\n{output}")
        return 1
    all_mutants = list(mutants(path.read_text()))
    wrong = slow = 0
    for known in equivalent:
        if not any(is_known(mutant, known) for mutant in all_mutants):
            wrong += 1
            print(f"{name}: equivalent.toml has a mutant that is not made: {known}", flush=True)
    with restore_contents(path):
        for mutant in all_mutants:
            if any(is_known(mutant, known) for known in equivalent):
                continue
            path.write_text(mutant.code)
            outcome, output = run_tests(command, LONGEST_SECONDS)
            slow += output == TIMEOUT
            if outcome is not TestOutcome.KILLED:
                wrong += 1
                print(
                    f"{name}, in {mutant.function}, after {mutant.after}\n    -{mutant.line}\n    +{mutant.becomes}",
                    flush=True,
                )
    counts = f"{len(all_mutants)} mutants, {len(equivalent)} known as equivalent, {slow} stopped by time"
    print(f"{path}: {counts}, {wrong} wrong", flush=True)
    return wrong


def is_known(mutant: Mutant, known: Known) -> bool:
    return all(getattr(mutant, name) == value for name, value in known.items() if name != "reason")


if __name__ == "__main__":
    sys.exit(main())
