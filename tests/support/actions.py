# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action plugins in a task of a play as Ansible loads it, with the variables that they get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play import Play
from ansible.playbook.task import Task
from ansible.template import Templar


class HostVars(dict[str, Any]):
    """Variables of hosts, none of which is a template."""

    def raw_get(self, host: str) -> Any:
        return self.get(host)


def task_vars(
    hosts: Mapping[str, Any],
    *,
    batch: Sequence[str] | None = None,
    alive: Sequence[str] | None = None,
    host: str = "a",
) -> dict[str, Any]:
    """What an action plugin gets in a play over these hosts, all of which are in the batch unless said otherwise."""
    return {
        **hosts.get(host, {}),
        "hostvars": HostVars(hosts),
        "inventory_hostname": host,
        "ansible_play_hosts_all": list(hosts),
        "ansible_play_hosts": list(hosts if alive is None else alive),
        "ansible_play_batch": list(hosts if batch is None else batch),
        "groups": {"all": list(hosts)},
    }


def task(*, block: Mapping[str, Any] | None = None, **keywords: Any) -> Task:
    """A task in a block of a play with these keywords."""
    tasks = [{"block": [{"ansible.builtin.debug": {}}], **(block or {})}]
    play = Play.load({"hosts": "all", "tasks": tasks, "gather_facts": False, **keywords}, loader=DataLoader())
    first: Task = play.tasks[0].block[0]
    return first


def action(
    plugin: type[Any],
    arguments: Mapping[str, Any],
    variables: Mapping[str, Any],
    *,
    check_mode: bool = False,
    diff: bool = False,
    basedir: str = "/plays",
    **keywords: Any,
) -> Any:
    """An action plugin in a task with these arguments.

    :param keywords: of the block and play: ``run_once``, ``strategy``.
    """
    block = {"run_once": True} if keywords.pop("run_once", False) else {}
    of_task = task(block=block, **keywords)
    of_task.args = dict(arguments)
    of_task.check_mode, of_task.diff = check_mode, diff
    loader = DataLoader()
    loader.set_basedir(basedir)
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp"))
    return plugin(of_task, connection, None, loader, Templar(loader, dict(variables)), None)
