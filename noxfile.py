# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole matrix: `nox` runs it, `nox --list` names its parts. It needs nox and antsibull-nox.

Each session is `./test` with another ansible-core, or the sample cache with another Python on the managed host, so what
CI runs and what runs here is the same. antsibull-nox brings what `./test` has not, the checks of licences, of unwanted
files and of action groups. Its own sessions for ansible-test take ansible-core from GitHub's branches and want
containers; these take the released versions from the package index and want neither.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import antsibull_nox
import nox

nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["core", "managed-host", "license-check", "extra-checks"]

# Which Python runs each ansible-core, and which Pythons it supports on the managed host.
CORES = {
    "2.18": ("3.11", ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13")),
    "2.19": ("3.11", ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13")),
    "2.20": ("3.12", ("3.9", "3.10", "3.11", "3.12", "3.13")),
    "2.21": ("3.12", ("3.9", "3.10", "3.11", "3.12", "3.13")),
}

antsibull_nox.load_antsibull_nox_toml()


@nox.session(python=False)
@nox.parametrize("core", list(CORES))
def core(session: nox.Session, core: str) -> None:
    """Run linters, types, units, playbooks, sanity and documentation on one ansible-core."""
    every = "lint types units fleet slow integration sanity ansible-lint docs"
    steps = session.posargs or every.split()
    python = interpreter(session, CORES[core][0])
    session.run("./test", *steps, env={"ANSIBLE_CORE": core, "PYTHON": python}, external=True)


@nox.session(name="managed-host", python=False)
@nox.parametrize("core", list(CORES))
def managed_host(session: nox.Session, core: str) -> None:
    """Audit, dry-run and prune a sample cache with each Python that an ansible-core drives on the managed host."""
    controller, targets = CORES[core]
    pythons = {version: interpreter(session, version) for version in targets}
    python = interpreter(session, controller)
    for version, path in pythons.items():
        session.log(f"ansible-core {core} on Python {controller} drives Python {version}, {path}")
        settings = {"PYTHON": python, "ANSIBLE_CORE": core, "MANAGED_PYTHON": path}
        session.run("./test", "managed-host", env=settings, external=True)


def interpreter(session: nox.Session, version: str) -> str:
    """Find a Python that works. A shim of pyenv is in PATH for each version, but works for the selected ones only."""
    name = f"python{version}"
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = (shutil.which(name), *sorted(versions.glob(f"{version}.*/bin/{name}"), reverse=True))
    working = [str(candidate) for candidate in candidates if candidate and works(candidate)]
    if not working:
        session.error(f"Python {version} is missing: there is no {name} that works in PATH or under {versions}.")
    return working[0]


def works(python: str | Path) -> bool:
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0
