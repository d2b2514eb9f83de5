# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Work that is distributed to processes has the same result as in one process, or fails."""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.workers import map_in_processes
from ansible_collections.stackops.nova.tests.support.processes import as_nobody, in_a_child, needs_root

FEW = [f"name {number}" for number in range(10)]
MANY = [f"name {number} \udcff\n" for number in range(20000)]

needs_two_cpus = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor gets one process")


def echo(names: Sequence[str]) -> list[str]:
    return [*names]


def gathered(parts: list[list[str]]) -> list[str]:
    return sorted(name for part in parts for name in part)


@pytest.mark.parametrize("names", [[], FEW, MANY], ids=["none", "few", "many"])
def test_each_name_is_worked_on_once(names: list[str]) -> None:
    assert gathered(map_in_processes(echo, names)) == sorted(names)


def test_few_names_are_worked_on_in_this_process() -> None:
    assert map_in_processes(lambda _names: os.getpid(), FEW) == [os.getpid()]


@needs_two_cpus
def test_many_names_are_worked_on_in_several_processes() -> None:
    processes = map_in_processes(lambda _names: os.getpid(), MANY)
    assert os.getpid() in processes
    assert len(set(processes)) == len(processes) > 1


@needs_two_cpus
@pytest.mark.parametrize("end", [lambda: os._exit(0), lambda: os.kill(os.getpid(), 9), lambda: 1 / 0])
def test_part_that_was_not_done_is_an_error(end: object) -> None:
    ours = os.getpid()

    def work(names: Sequence[str]) -> list[str]:
        if os.getpid() != ours:
            end()
        return [*names]

    with pytest.raises(ImageCacheError):
        map_in_processes(work, MANY)


@needs_two_cpus
def test_no_process_is_left_behind() -> None:
    def spread_and_fail() -> None:
        ours = os.getpid()

        def work(names: Sequence[str]) -> list[str]:
            if os.getpid() == ours:
                raise ZeroDivisionError
            return [*names]

        with pytest.raises(ZeroDivisionError):
            map_in_processes(work, MANY)
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)

    in_a_child(spread_and_fail)


@needs_root
def test_names_are_worked_on_in_this_process_where_none_may_be_started() -> None:
    def without_a_right_to_fork() -> list[list[str]]:
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
        return map_in_processes(echo, MANY)

    assert gathered(as_nobody(without_a_right_to_fork)) == sorted(MANY)
