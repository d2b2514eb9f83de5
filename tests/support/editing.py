# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Functions of the collection that say something else, to see a test notice."""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable


def edited(function: Callable[..., object], old: str, new: str) -> Callable[[], None]:
    """Have a function or method say something else, in this process, in all places where it says `old`."""

    def edit() -> None:
        source = textwrap.dedent(inspect.getsource(function))
        if old not in source:
            raise LookupError(f"{function.__qualname__} does not say {old!r} any more")
        module = sys.modules[function.__module__]
        names: dict[str, Callable[..., object]] = {}
        exec(source.replace(old, new), module.__dict__, names)
        changed = names[function.__name__]
        owner, _dot, name = function.__qualname__.rpartition(".")
        if owner:
            setattr(getattr(module, owner), name, changed)
            return
        package = module.__name__.rpartition(".")[0]
        for user in [user for path, user in sys.modules.items() if path.startswith(f"{package}.")]:
            if getattr(user, name, None) is function:
                setattr(user, name, changed)

    return edit
