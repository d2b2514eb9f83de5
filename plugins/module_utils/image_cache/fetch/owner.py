# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a command is run as the owner of the cache, so that nothing of root's rights is left to it."""

from __future__ import annotations

import os
import pwd
import signal
from typing import Callable

__all__ = ["become_owner", "environment_of"]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def become_owner(user: int, group: int) -> Callable[[], None]:
    """Return what a new process of root's does before it becomes the command. Another user's keeps its own rights.

    It is killed when this process ends, however that happens.

    :param user: as whom it is run, a user number.
    :param group: likewise, a group number.
    """
    die_with_parent = _die_with_parent()
    is_root = os.geteuid() == 0

    def become() -> None:
        if is_root:
            os.setgroups([])
            os.setgid(group)
            os.setuid(user)
        die_with_parent()

    return become


def _die_with_parent() -> Callable[[], object]:
    """Return what has this process killed when its parent ends, so that its space is free again at once."""
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, AttributeError):  # Python without libffi
        return lambda: None
    return lambda: prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def environment_of(user: int) -> dict[str, str]:
    """Return the environment of a command that looks for its user's own files, such as ssh for its keys.

    :param user: as whom it is run, a user number. In a container's cache, the host may have no such user.
    """
    environment = {"PATH": os.defpath, "LC_ALL": "C", "HOME": "/"}
    try:
        known = pwd.getpwuid(user)
    except KeyError:
        return environment
    return {**environment, "HOME": known.pw_dir, "USER": known.pw_name, "LOGNAME": known.pw_name}
