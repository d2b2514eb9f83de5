# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one room that knows Ansible's variables: hostvars, registered names, templates, the play and its batches."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import Any, NamedTuple

from ansible import constants, context
from ansible.playbook.task_include import TaskInclude
from ansible.utils.display import Display

from .answers import (
    NOT_LOOKED_AT,
    AnswerState,
    FileAnswer,
    FileOutcome,
    HostAnswer,
    parse_answer,
    warnings_beside_report,
)
from .cloud import CloudAnswer
from .options import (
    PREFIX,
    REPORT_VIEWS,
    RESULT,
    FleetOptions,
    OptionsError,
    PeerOptions,
    PrecacheOptions,
    as_list,
    read_bool,
    read_peer_options,
    read_percent,
    read_slice,
    uses_peers,
)
from .precache import PRECACHE, PrecacheDecision, parse_precache_answer
from .precache_waves import Attempt, Member
from .restore import parse_restore_answer
from .restore_from_peers import Owner, parse_checksums
from .storages import Fleet
from .summary import DONE, HostOutcome

LOOK = "__image_cache_look"
SECOND_LOOK = "__image_cache_second_look"
DECISION = "__image_cache_decision"
ASKED = "__image_cache_asked"
CHOICE = "__image_cache_choice"
REPORT = "__image_cache_report"
PRECACHE_REPORT = "__image_cache_precache_report"
WAVE = "__image_cache_wave"
CHECKSUMS = "__image_cache_checksums"
AGREED = "__image_cache_agreed"
LOOK_SECONDS = "look_seconds"
PRUNE_SECONDS = "prune_seconds"
ENTRY_POINT = "__image_cache_entry_point"
TASKS = ("Look at the image cache", "Decide for the fleet", "Prune the image cache", "Report on the image cache")
RESTORE_TASKS = (
    "Look for base files to restore",
    "Find lost base files in Glance",
    "Ask other hosts",
    "Look what can be restored from elsewhere",
    "Decide which host restores which file",
    "Restore base files",
    "Report on the restore",
)
PRECACHE_TASKS = (
    "Read which images are asked for",
    "Choose images",
    "Look which images are present",
    "Decide which host fetches which image",
    "Plan the next wave",
    "Pre-cache images",
    "Report on the pre-caching",
)
_TASKS_OF_WALKS = ("wave_precache.yml", "peers_restore.yml")  # included in those of a walk
_CALLBACKS_FOR_PROGRAMS = ("json", "jsonl")

Template = Callable[[Any], Any]
ParseFileAnswer = Callable[[str, Mapping[str, Any], str], FileAnswer]


class Walk(NamedTuple):
    """One run of the role's tasks.

    :param play: the id of the play, which several runs of the role have in common.
    :param id: the id of this run of the role, in this batch of the play.
    """

    play: str
    id: str

    @classmethod
    def of(cls, task: Any) -> Walk:
        """Return the walk that a task belongs to. Each inclusion of the tasks makes new blocks with new ids.

        What a walk includes itself, such as a wave in which the next wave is included, belongs to it.
        """
        block = task._parent
        while isinstance(block._parent, TaskInclude) and block._parent.args.get("_raw_params") in _TASKS_OF_WALKS:
            block = block._parent._parent
        return cls(str(block._play._uuid), str(block._uuid))


def strategy_of(task: Any) -> str:
    """Return the strategy that a task's play sets; empty where it leaves Ansible's own."""
    return str(task._parent._play.strategy or "")


def runs_once(task: Any) -> bool:
    """Return whether a task, or anything that it is in, runs on one host for all."""
    while task is not None:
        if task.run_once:
            return True
        task = task._parent
    return False


def starts_behind_the_look(start: str, tasks: Sequence[str] = TASKS) -> bool:
    """Return whether ``--start-at-task`` names a task of the role that needs those before it.

    :param start: what it names; empty without it.
    :param tasks: the names of the walk's tasks, the look first.
    """
    names = [name for task in tasks for name in (task, f"stackops.nova.image_cache : {task}")]
    matching = next((name for name in names if start and fnmatchcase(name, start)), "")
    return matching != "" and not matching.endswith(tasks[0])


def set_variables(task_vars: Mapping[str, Any], template: Template) -> dict[str, Any]:
    """Return the role's variables that are set for a host, templated.

    :param task_vars: what an action plugin gets.
    :param template: templates a value with these.
    :return: the variables that begin with ``image_cache_``, without those that were omitted and the role's result.
    :raises OptionsError: a template cannot be resolved.
    """
    variables: dict[str, Any] = {}
    for name in task_vars:
        if name.startswith(PREFIX) and name != RESULT:
            variables.update(_templated({name: task_vars[name]}, template))
    # ansible-core 2.18 has a text for what is omitted; later ones leave it out themselves.
    omitted = task_vars.get("omit")
    return {name: value for name, value in variables.items() if omitted is None or value != omitted}


def _templated(variable: Mapping[str, Any], template: Template) -> dict[str, Any]:
    try:
        return dict(template(variable))
    except Exception as exc:  # each version of ansible-core raises others
        raise OptionsError(
            f"{', '.join(variable)} cannot be resolved: {exc}. Correct {', '.join(variable)}, or what it uses."
        ) from exc


def is_prune_asked(task_vars: Mapping[str, Any], options: FleetOptions, variables: Mapping[str, Any]) -> bool:
    """Return whether the play asks for a host's prune: its entry point, or where that leaves it open, the variable."""
    entry_point = task_vars.get(ENTRY_POINT, "main")
    if entry_point == "audit":
        return False
    return options.prune or (entry_point == "prune" and "image_cache_prune" not in variables)


def is_opted_out(task_vars: Mapping[str, Any], template: Template) -> bool:
    """Return whether the inventory keeps a host from being pruned, whatever the play says.

    Of hostvars, because these show the inventory's value, and that of extra vars, under a variable of the play.

    :raises OptionsError: the value is neither true nor false.
    """
    own = task_vars["hostvars"].raw_get(task_vars["inventory_hostname"])
    name = "image_cache_prune"
    value = set_variables({name: own[name], "omit": task_vars.get("omit")} if name in own else {}, template).get(name)
    return value is not None and not read_bool(name, value)


def registered(task_vars: Mapping[str, Any], host: str, name: str) -> Mapping[str, Any]:
    """Return what a host registered, never templated; empty if it did not."""
    return registered_by(task_vars, host, name)[0]


def registered_by(task_vars: Mapping[str, Any], host: str, *names: str) -> list[Mapping[str, Any]]:
    """Return what a host registered under several names, as :func:`registered` does; its variables are made once."""
    value = task_vars["hostvars"].raw_get(host)
    results = [value.get(name) if isinstance(value, Mapping) else None for name in names]
    return [result if isinstance(result, Mapping) else {} for result in results]


def find_registered(
    task_vars: Mapping[str, Any], name: str, is_wanted: Callable[[Mapping[str, Any]], bool]
) -> Mapping[str, Any]:
    """Return what a task that bypasses the host loop registered: its host is the first one that was included.

    :return: the first result that is wanted; empty if there is none.
    """
    own = task_vars.get(name)
    if isinstance(own, Mapping) and is_wanted(own):
        return own
    # In the order of the play, so that it is one of the first: hostvars make the variables of a host each time.
    for host in dict.fromkeys([*task_vars["ansible_play_batch"], *task_vars["ansible_play_hosts_all"]]):
        result = registered(task_vars, host, name)
        if is_wanted(result):
            return result
    return {}


def read_fleet(
    task_vars: Mapping[str, Any], walk: Walk, ask_cloud: Callable[[str, str], CloudAnswer]
) -> tuple[Fleet, list[str]]:
    """Read what all hosts of the play answered in this walk.

    :param task_vars: what an action plugin gets.
    :param walk: this run of the role. Nothing counts that is older.
    :param ask_cloud: asks the APIs of one cloud and region.
    :return: the fleet, and why its limit is unknown, a sentence for each host whose limit cannot be read.
    """
    unreadable: list[str] = []
    batch = current_batch(task_vars)
    hosts = tuple(
        _host_answer(task_vars, walk, name, registered(task_vars, name, LOOK), batch, unreadable)
        for name in task_vars["ansible_play_hosts_all"]
    )
    keys = {(host.options.cloud, host.options.region) for host in hosts if host.options.asks_api}
    clouds = {key: ask_cloud(*key) for key in sorted(keys)}
    return Fleet(hosts, task_vars["groups"], clouds), unreadable


def _host_answer(
    task_vars: Mapping[str, Any],
    walk: Walk,
    name: str,
    look: Mapping[str, Any],
    batch: frozenset[str],
    unreadable: list[str],
) -> HostAnswer:
    is_answer = is_of(look, walk)
    if is_answer and "options" in look:
        return parse_answer(name, look, FleetOptions.from_plain(look["options"]))
    options = _inventory_options(task_vars, name, unreadable)
    if is_answer:
        return parse_answer(name, look, options)
    return HostAnswer(name, AnswerState.NOT_LOOKED_AT, options, None, NOT_LOOKED_AT, name in batch)


def read_outcomes(task_vars: Mapping[str, Any], walk: Walk) -> list[HostOutcome]:
    """Read what the hosts of the play answered last in this walk, for the report.

    :param task_vars: what an action plugin gets.
    :param walk: this run of the role.
    :return: one outcome for each host, in the order of the play, without those of the batches that are yet to come.
    """
    coming = set(_hosts_to_come(task_vars))
    batch = current_batch(task_vars)
    outcomes = []
    for name in task_vars["ansible_play_hosts_all"]:
        if name not in coming:
            look, result = registered_by(task_vars, name, LOOK, RESULT)
            looked = _host_answer(task_vars, walk, name, look, batch, [])
            own = [one for one in (look, result) if is_of(one, walk)]
            warnings = dict.fromkeys(text for one in own for text in warnings_beside_report(one))
            outcome = _outcome(looked, result, walk)
            outcomes.append(replace(outcome, look_seconds=look.get(LOOK_SECONDS), warnings=tuple(warnings)))
    return outcomes


def _hosts_to_come(task_vars: Mapping[str, Any]) -> Sequence[str]:
    """Return the hosts behind those of this batch: with ``serial``, each batch is the next part of the play's hosts."""
    names = list(task_vars["ansible_play_hosts_all"])
    present = set(task_vars["ansible_play_batch"])
    last = max((index for index, name in enumerate(names) if name in present), default=len(names))
    alive = set(task_vars.get("ansible_play_hosts") or ())
    return [name for name in names[last + 1 :] if name in alive]


def _outcome(looked: HostAnswer, result: Mapping[str, Any], walk: Walk) -> HostOutcome:
    was_pruned = looked.options.prune
    is_of_walk = is_of(result, walk)
    prune_seconds = result.get(PRUNE_SECONDS) if is_of_walk and was_pruned else None
    if looked.image_cache is None:
        return HostOutcome(looked, was_pruned)  # what it said first is why
    if is_of_walk and result.get("state") == "pruned" and "image_cache" not in result:
        # The look was the dry run that the play asked for.
        known = {**result, "image_cache": looked.image_cache}
        return HostOutcome(parse_answer(looked.name, known, looked.options, looked.in_batch), was_pruned)
    if prune_seconds is not None and "reclaimed_bytes" in result and "image_cache" not in result:
        # The module refused the prune as it did in the dry run.
        known = {**result, "image_cache": {**looked.image_cache, "check_mode": False}}
        return HostOutcome(parse_answer(looked.name, known, looked.options, looked.in_batch), was_pruned, prune_seconds)
    # The look of a prune is a dry run. What it lists is not removed where nothing, or something else, came of it.
    found = {key: value for key, value in looked.image_cache.items() if key not in DONE}
    looked = replace(looked, image_cache=found)
    if not is_of_walk or (result.get("state") in ("audited", "refused") and "image_cache" not in result):
        return HostOutcome(looked, was_pruned, prune_seconds)
    acted = parse_answer(looked.name, result, looked.options, looked.in_batch)
    return HostOutcome(replace(acted, image_cache=acted.image_cache or looked.image_cache), was_pruned, prune_seconds)


def read_file_answers(task_vars: Mapping[str, Any], walk: Walk, parse: ParseFileAnswer) -> list[FileAnswer]:
    """Read what the hosts of the play found in this walk, without those that are alive in other batches.

    :param task_vars: what an action plugin gets.
    :param walk: this run of the role. Nothing counts that is older.
    :param parse: makes an answer of a host's name, its registered result and its storage group.
    """
    batch = current_batch(task_vars)
    looks = {name: last_look(task_vars, name, walk) for name in task_vars["ansible_play_hosts_all"]}
    own = {name: look.get("storage_group", "") for name, look in looks.items() if is_of(look, walk)}
    # It is enough that one host names the group.
    group_of = {name: group for group in own.values() for name in task_vars["groups"].get(group, ())}
    group_of.update({name: group for name, group in own.items() if group})
    answers = []
    for name, look in looks.items():
        if is_of(look, walk):
            answers.append(parse(name, look, group_of.get(name, "")))
        elif name in batch:
            answers.append(FileAnswer(name, AnswerState.NOT_LOOKED_AT, error=NOT_LOOKED_AT))
    return answers


def last_look(task_vars: Mapping[str, Any], host: str, walk: Walk) -> Mapping[str, Any]:
    """Return what a host found last: where it was asked again in this walk, that."""
    second = registered(task_vars, host, SECOND_LOOK)
    return second if is_of(second, walk) else registered(task_vars, host, LOOK)


def read_file_outcomes(task_vars: Mapping[str, Any], walk: Walk, parse: ParseFileAnswer, key: str) -> list[FileOutcome]:
    """Read what came of a restore or a pre-cache on each host, for the report.

    :param task_vars: what an action plugin gets.
    :param walk: this run of the role.
    :param parse: as in :func:`read_file_answers`.
    :param key: the name of the module's structure.
    """
    outcomes = []
    for answer in read_file_answers(task_vars, walk, parse):
        result = registered(task_vars, answer.name, RESULT)
        if answer.found is None or not is_of(result, walk):
            outcomes.append(FileOutcome(answer, None))
        else:
            error = str(result.get("msg", "")) if key not in result else ""
            outcomes.append(FileOutcome(replace(answer, error=error), result.get(key)))
    return outcomes


def read_members(task_vars: Mapping[str, Any], walk: Walk, having: str = "more") -> list[Member]:
    """Read what waves have to know of the hosts that take part in them.

    :param task_vars: what an action plugin gets.
    :param walk: this run of the role.
    :param having: what the result of a host has that takes part: ``more`` where waves follow for it, or ``attempts`` if
        it was in one, and nothing was made of these.
    """
    decided = find_registered(task_vars, DECISION, lambda result: is_of(result, walk)).get("hosts", {})
    choice = find_registered(task_vars, CHOICE, lambda result: is_of(result, walk))
    members = []
    for answer in read_file_answers(task_vars, walk, parse_precache_answer):
        asked, result = registered_by(task_vars, answer.name, ASKED, RESULT)
        takes_part = is_of(result, walk) and result.get(having) and PRECACHE not in result
        if takes_part and answer.found is not None and answer.name in decided and is_of(asked, walk):
            members.append(
                Member(
                    answer,
                    PrecacheDecision.from_plain(decided[answer.name]),
                    PeerOptions.from_plain(asked["peer"]),
                    choice["choices"][choice["hosts"][answer.name]]["images"],
                    tuple(Attempt.from_plain(attempt) for attempt in result.get("attempts", ())),
                )
            )
    return members


def read_owners(task_vars: Mapping[str, Any], walk: Walk) -> list[Owner]:
    """Read what the hosts of this batch say of lost base files, also those that say nothing.

    :param task_vars: what an action plugin gets.
    :param walk: this run of the role.
    """
    owners = []
    for answer in read_file_answers(task_vars, walk, parse_restore_answer):
        look, result = registered_by(task_vars, answer.name, LOOK, CHECKSUMS)
        if "peer" in look:
            checksums, error = parse_checksums(answer.name, result if is_of(result, walk) else {})
            known = checksums if answer.found is not None else []
            owners.append(Owner(answer, PeerOptions.from_plain(look["peer"]), known, answer.error or error))
    return owners


def peer_options(task_vars: Mapping[str, Any], variables: Mapping[str, Any], template: Template) -> PeerOptions | None:
    """Return how a host serves others and is served by them; None where it is not to.

    :param task_vars: what an action plugin gets.
    :param variables: those of the role, templated.
    :param template: templates a value with the former.
    :raises OptionsError: a variable is of no use.
    """
    if not uses_peers(variables):
        return None
    name = "ansible_host"
    reached = _templated({name: task_vars[name]}, template)[name] if name in task_vars else ""
    address = str(reached or task_vars["inventory_hostname"])
    options = read_peer_options(variables, address)
    names = {address, options.address.rpartition("@")[2]}
    known_by = {task_vars["inventory_hostname"], *names, *(found for each in names for found in _resolved(each))}
    return replace(options, known_by=tuple(sorted(known_by)))


def _resolved(name: str) -> list[str]:
    """Return the addresses of a name, as the controller knows them."""
    with suppress(OSError, UnicodeError):
        return [str(found[4][0]) for found in socket.getaddrinfo(name, None)]
    return []


def show(text: str) -> None:
    """Show a text to a person. A callback for programs has it in the task's result, and its document stays valid."""
    if _is_for_people():
        Display().display(text)


def is_screen_due(task: Any, hosts: Sequence[str]) -> bool:
    """Return whether the screen of a fleet comes at the end: several hosts, a person who reads, and the report's tag.

    :param task: a task of the walk that has the tag of the audit or the prune; otherwise it has those of the report.
    :param hosts: all hosts of the play.
    """
    tags = {*task.tags, "image_cache_report"} - {"image_cache_audit", "image_cache_prune"}
    chosen = {*context.CLIARGS.get("tags", ())} or {"all"}
    skipped = {*context.CLIARGS.get("skip_tags", ())}
    is_chosen = not chosen.isdisjoint({*tags, "all", "tagged"}) and skipped.isdisjoint({*tags, "all", "tagged"})
    return is_chosen and len(hosts) > 1 and _is_for_people()


def _is_for_people() -> bool:
    callback = str(constants.config.get_config_value("DEFAULT_STDOUT_CALLBACK"))
    return callback.rpartition(".")[2] not in _CALLBACKS_FOR_PROGRAMS


def newest_report(task_vars: Mapping[str, Any], walk: Walk, name: str, key: str) -> Mapping[str, Any]:
    """Return the last report of this play, of another batch or an earlier run of the role; empty if there is none.

    :param task_vars: what an action plugin gets.
    :param walk: this run of the role.
    :param name: the name under which the task registers it.
    :param key: the report's place in the result.
    """
    results = [registered(task_vars, host, name) for host in task_vars["ansible_play_hosts_all"]]
    reports = [result[key] for result in results if result.get("play") == walk.play]
    return max(reports, key=lambda report: float(report["generated"]), default={})


def current_batch(task_vars: Mapping[str, Any]) -> frozenset[str]:
    """Return the hosts that this batch of the play has, or had before they failed.

    Without serial, these are all. With it, the names of hosts that failed are not in ``ansible_play_batch`` any more;
    they are those of the play that are neither still in it nor yet to come.
    """
    alive = set(task_vars.get("ansible_play_hosts") or ())
    present = set(task_vars["ansible_play_batch"])
    return frozenset(name for name in task_vars["ansible_play_hosts_all"] if name in present or name not in alive)


def is_of(result: Mapping[str, Any], walk: Walk) -> bool:
    """Return whether a result was registered in a walk."""
    return result.get("walk") == walk.id


def _inventory_options(task_vars: Mapping[str, Any], host: str, unreadable: list[str]) -> FleetOptions:
    """Return what the inventory says of a host that did not answer, as far as the others have to know it."""
    variables = task_vars["hostvars"][host]
    group = _readable(variables, "image_cache_storage_group", str)
    members = _readable(variables, "image_cache_storage_members", _members)
    try:
        limit = read_percent(variables.get("image_cache_fleet_max_removal_percent"))
    except Exception as exc:  # a template, too, may be wrong in any way
        limit = None
        unreadable.append(
            f"Nothing was removed: image_cache_fleet_max_removal_percent of {host} cannot be read ({exc}), so the "
            "fleet's limit is unknown. Correct it in the inventory."
        )
    return FleetOptions(
        host=_readable(variables, "image_cache_host", str) or "",
        storage_group=group or "",
        storage_members=members,
        exempt_storage_users=_readable(variables, "image_cache_exempt_storage_users", _names) or (),
        fleet_max_removal_percent=limit,
        report_path=_readable(variables, "image_cache_report_path", str) or "",
        report_query=_readable(variables, "image_cache_report_query", str) or "",
        report_slice=_readable(variables, "image_cache_report_slice", read_slice) or "",
        report_view=_readable(variables, "image_cache_report_view", str) or "",
    )


def _readable(variables: Mapping[str, Any], name: str, convert: Callable[[Any], Any]) -> Any:
    """Return a variable of a host that did not answer; None if it has none that can be read."""
    try:
        value = variables.get(name)
        return None if value is None else convert(value)
    except Exception:  # what such a host does not say protects nothing, and refuses nothing either
        return None


class ReportWishes(NamedTuple):
    """Where the report is written, what is selected for it, and the slice that it is about; empty where not set."""

    path: str
    query: str
    slice: str


def report_wishes(hosts: Sequence[HostAnswer]) -> ReportWishes:
    """Return what the first host with a path for the report wants. All is empty for no report."""
    return next(
        (
            ReportWishes(host.options.report_path, host.options.report_query, host.options.report_slice)
            for host in hosts
            if host.options.report_path
        ),
        ReportWishes("", "", ""),
    )


def inventory_hosts(task_vars: Mapping[str, Any]) -> frozenset[str]:
    """Return all hosts of the inventory, whatever ``--limit`` leaves of them for the play."""
    return frozenset(task_vars["groups"].get("all", ())).union(task_vars["ansible_play_hosts_all"])


def report_view(hosts: Sequence[HostAnswer]) -> str:
    """Return what of the report the screen shows: the view of the first host that has one. Empty for none."""
    return next((host.options.report_view for host in hosts if host.options.report_view in REPORT_VIEWS), "")


def precache_report_wishes(asked: Iterable[PrecacheOptions]) -> ReportWishes:
    """Return what the first host with a path for the report wants. All is empty for no report."""
    return next(
        (ReportWishes(host.report_path, "", host.report_slice) for host in asked if host.report_path),
        ReportWishes("", "", ""),
    )


def hosts_by_peers(read: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """Return which hosts serve others, by what was read of them, and which do not."""
    serving = [name for name, result in read.items() if "peer" in result]
    return serving, [name for name, result in read.items() if "peer" not in result]


def report_folder(path: str, loader: Any) -> str:
    """Return the folder that a report is written into.

    :param path: what the variable says; relative to the playbook if it is not absolute.
    :param loader: Ansible's loader, which knows where the playbook is.
    :raises OptionsError: it would be a folder of an installed collection.
    """
    if not path.startswith(("/", "~")) and PurePath(loader.get_basedir()).match("ansible_collections/*/*/playbooks"):
        raise OptionsError(
            f"image_cache_report_path is {path}, which is relative to the playbook, and that lies in a collection. No "
            f"report can be written there. Set an absolute path, such as -e image_cache_report_path=$PWD/{path}."
        )
    return str(loader.path_dwim(path))


def _names(value: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in as_list(value))


def _members(value: Any) -> tuple[str, ...] | int:
    return value if isinstance(value, int) else _names(value)
