# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A token that a test uses, and the search for it wherever it must not be."""

from __future__ import annotations

import threading
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

_PAUSE_SECONDS = 0.02


def all_that_is_shown(root: Path) -> dict[str, str]:
    """Settings of Ansible with which a run shows everything, and a file below a directory keeps that."""
    return {"ANSIBLE_LOG_PATH": str(root / "ansible.log"), "ANSIBLE_VERBOSITY": "4"}


@contextmanager
def watched_token(root: Path) -> Iterator[str]:
    """A token that is nowhere else. At the end it is looked for.

    :param root: where the test writes.
    :raises AssertionError: a file below it has the token, or a process had it in its arguments or its environment.
    """
    token = f"gAAAAAB{uuid.uuid4().hex}"
    seen: set[str] = set()
    is_over = threading.Event()
    thread = threading.Thread(target=_watch_processes, args=(token.encode(), seen, is_over), daemon=True)
    thread.start()
    try:
        yield token
    finally:
        is_over.set()
        thread.join()
    assert seen == set()
    assert [path for path in root.rglob("*") if path.is_file() and token.encode() in path.read_bytes()] == []


def _watch_processes(token: bytes, seen: set[str], is_over: threading.Event) -> None:
    while not is_over.wait(_PAUSE_SECONDS):
        for path in Path("/proc").glob("[0-9]*/"):
            for file in ("cmdline", "environ"):
                with suppress(OSError):  # it has ended, or is another user's
                    if token in (path / file).read_bytes():
                        seen.add(f"{file} of {(path / 'comm').read_text().strip()}")


def without_token(token: str | None, act: Callable[[], Result]) -> Result:
    """Do something that gets a token, and look for that in what comes back.

    :param token: None where there is none.
    :raises AssertionError: it is in the result, or in what the error shows.
    """
    try:
        result = act()
    except Exception as exc:
        _require_unseen(token, "".join(traceback.format_exception(exc)))
        raise
    _require_unseen(token, repr(result))
    return result


def _require_unseen(token: str | None, text: str) -> None:
    assert not token or token not in text
