# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which host restores which base file, and what came of it."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.peers import is_path
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.text import some_names

from .answers import FileAnswer, FileOutcome, Found, find_mismatch, read_result

__all__ = [
    "RESTORE",
    "RestoreDecision",
    "decide_restore",
    "merge_looks",
    "merge_outcome",
    "merge_results",
    "parse_restore_answer",
    "summarise_restore",
    "with_remarks",
]

RESTORE = "image_cache_restore"
"""The name of the module's structure."""

# A checksum proves the bytes that all guests need, a process those that its own guest needs. The strongest first.
_PROOFS_FOR_ALL = ("process_and_checksum", "checksum", "agreed")
_PROOFS = (*_PROOFS_FOR_ALL, "process", "unproven")
_FILE = {"name": str, "state": str, "image_id": (str, None), "instances": [str]}
_FOUND = {
    "cache_path": str,
    "host": str,
    "storage_id": (str, None),
    "shared_storage": (bool, None),
    "restored": [
        {
            **_FILE,
            **dict.fromkeys(("source", "source_path", "proof"), str),
            "guests": [str],
            "needs_restart": [str],
            "contacted": bool,
            "inode": (int, None),
            **dict.fromkeys(("size_bytes", "allocated_bytes"), int),
        }
    ],
    "present": [str],
    "refused": [{**_FILE, "reason": str}],
    "failed": [{**_FILE, "error": str}],
    "set_aside": [{"name": str, "set_aside_as": str, "instances": [str], "allocated_bytes": int}],
}

_NOTHING: dict[str, list[Any]] = {"restored": [], "present": [], "refused": [], "failed": [], "set_aside": []}
_VANISHED = (
    "The host did not find it again when it was to be restored: nova may have made another file of that name "
    "meanwhile. Do not stop the guests. Run an audit, and compare what it shows as replaced (cmp)."
)

File = Mapping[str, Any]


@dataclass(frozen=True)
class RestoreDecision:
    """What one host does.

    :param names: the base files that it restores, or sets copies of aside.
    :param elsewhere: the host that restores a base file in its place, by the file's name.
    :param refused: why no host may restore a base file that this one could, by the file's name.
    """

    names: tuple[str, ...] = ()
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """Return it as plain data, for the task's result."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> RestoreDecision:
        """Read what :meth:`to_plain` made."""
        return cls(tuple(plain["names"]), plain["elsewhere"], plain["refused"])


def parse_restore_answer(name: str, result: Mapping[str, Any], group: str = "") -> FileAnswer:
    """Understand what ``image_cache_restore`` returned on a host.

    :param name: the host's name in the inventory.
    :param result: the registered result.
    :param group: the storage group that the host is in; empty for none.
    :return: the answer. One that cannot be understood is a failed one that says where it is wrong.
    """
    state, error, found = read_result(name, result, RESTORE, _find_problem)
    return FileAnswer(name, state, found, error, group)


def _find_problem(found: Any) -> str:
    """Return where a structure is not what the module returns; empty if it is."""
    problem = find_mismatch(found, _FOUND, RESTORE)
    if problem is None and not is_path(found["cache_path"]):
        problem = f"{RESTORE}.cache_path is not an absolute path"
    return problem or ""


def decide_restore(answers: Sequence[FileAnswer]) -> dict[str, RestoreDecision]:
    """Decide which host restores which base file.

    Of the hosts of a storage that can restore a file, the first by name whose proof is the strongest does. Each file of
    a storage is restored once.

    :param answers: what the hosts found in check mode.
    :return: what each host does that answered.
    """
    storages: dict[tuple[str, ...], list[FileAnswer]] = {}
    for answer in answers:
        if answer.found is not None:
            storages.setdefault(answer.storage, []).append(answer)
    return {answer.name: decision for members in storages.values() for answer, decision in _decide_for_storage(members)}


def _decide_for_storage(members: Sequence[FileAnswer]) -> list[tuple[FileAnswer, RestoreDecision]]:
    candidates: dict[str, list[tuple[str, File]]] = {}
    for member in members:
        for file in _listed(member, "restored"):
            candidates.setdefault(file["name"], []).append((member.name, file))
    differing: dict[str, set[str]] = {}
    for member in members:
        for name in _copied_aside(member):
            differing.setdefault(name, set()).add(member.name)
    is_shared = len(members) > 1 or any((member.found or {})["shared_storage"] for member in members)
    refused = {
        name: reason
        for name, found in candidates.items()
        if (reason := _why_none_may(found, differing.get(name, set()), is_shared))
    }
    chosen = {name: min(found, key=_strongest)[0] for name, found in candidates.items() if name not in refused}
    return [(member, _decide_for_host(member, chosen, refused)) for member in members]


def _decide_for_host(member: FileAnswer, chosen: Mapping[str, str], refused: Mapping[str, str]) -> RestoreDecision:
    restored = [file["name"] for file in _listed(member, "restored")]
    others = [file["name"] for key in ("refused", "failed") for file in _listed(member, key)]
    own = [name for name in restored if chosen.get(name) == member.name]
    names = tuple(dict.fromkeys([*own, *_copied_aside(member)]))
    return RestoreDecision(
        names=names,
        elsewhere={name: chosen[name] for name in (*restored, *others) if name in chosen and name not in names},
        refused={name: refused[name] for name in restored if name in refused},
    )


def _copied_aside(member: FileAnswer) -> list[str]:
    """Return the files that differ by guest on a host: it restores none of them, and sets copies aside."""
    restored = {file["name"] for file in _listed(member, "restored")}
    return [file["name"] for file in _listed(member, "set_aside") if file["name"] not in restored]


def _strongest(candidate: tuple[str, File]) -> tuple[int, str]:
    host, file = candidate
    proof = file["proof"]
    return (_PROOFS.index(proof) if proof in _PROOFS else len(_PROOFS), host)


def _why_none_may(candidates: Sequence[tuple[str, File]], differing: Set[str], is_shared: bool) -> str:
    """Return why no host may restore a file of a storage, although each of these could; empty if one may.

    :param candidates: the hosts that could, and what they found.
    :param differing: the hosts of which several guests have different files of that name open.
    :param is_shared: whether several hosts may use the storage.
    """
    files = [file for _host, file in candidates]
    hosts = {host for host, _file in candidates}
    if differing or _have_different_files([file for file in files if file["source"] == "process"]):
        return (
            f"Processes on {', '.join(sorted(hosts | differing))} have different files open under this name, and one "
            "would destroy the guests of the other. Copy each from /proc/PID/fd of its QEMU, and make the guests' "
            "disks independent of it with virsh blockpull."
        )
    is_there = any(file["state"] != "missing" for file in files)
    if is_shared and is_there and not any(file["proof"] in _PROOFS_FOR_ALL for file in files):
        return (
            f"A guest on {', '.join(sorted(hosts))} has another file open under this name, and guests of other hosts "
            "that share the storage may need the one that is there. Compare the two (cmp), and make the guests' disks "
            "independent of theirs with virsh blockpull."
        )
    return ""


def _have_different_files(files: Sequence[File]) -> bool:
    """Tell whether processes may have files of different content open. Those with the right checksum are equal."""
    proven = {file["inode"] for file in files if file["proof"] in _PROOFS_FOR_ALL}
    return len({None if file["inode"] in proven else file["inode"] for file in files}) > 1


def _listed(answer: FileAnswer, key: str) -> Sequence[File]:
    files: Sequence[File] = (answer.found or {})[key]
    return files


def merge_looks(first: Found, second: Found, names: Set[str]) -> dict[str, Any]:
    """Return what a host found, where it was asked once more about some files.

    :param first: what it found.
    :param second: what it found of these files then.
    :param names: their names.
    """
    again = _files(second)
    merged = {
        key: [*(each for each in files if _name(each) not in names), *again[key]]
        for key, files in _files(first).items()
    }
    return {**first, **merged}


def with_remarks(found: Found, remarks: Mapping[str, str]) -> dict[str, Any]:
    """Return what a host found, with more about files that it refused, by their names."""
    refused = [
        {**file, "reason": f"{file['reason']} {remarks[file['name']]}"} if file["name"] in remarks else file
        for file in found["refused"]
    ]
    return {**found, "refused": refused}


def merge_results(results: Sequence[Found]) -> dict[str, Any] | None:
    """Return what a host did in several parts as if it had been one; None where it answered none of them."""
    parts = [_files(found) for found in results]
    return {key: [each for part in parts for each in part[key]] for key in _NOTHING} if parts else None


def merge_outcome(look: Found, decision: RestoreDecision, acted: Found | None, error: str = "") -> dict[str, Any]:
    """Return what came of all base files that a host was asked for.

    :param look: what it found in check mode.
    :param decision: what it was to do.
    :param acted: what it returned then; None in a dry run, where it is not asked again, and where it has failed.
    :param error: why it has failed, with all or with some of its files; empty otherwise.
    :return: ``restored``, ``present``, ``refused``, ``failed`` and ``set_aside`` as the module has them, and
        ``elsewhere``: the names of the files that other hosts restore, and of these hosts.
    """
    names = frozenset(decision.names)
    if acted is None and not error:
        done = {key: _only(files, names) for key, files in _files(look).items()}
    else:
        done = {key: list(files) for key, files in _files(acted or _NOTHING).items()}
        unmentioned = names - {_name(each) for files in done.values() for each in files}
        done["failed"] += [
            {**{key: file[key] for key in _FILE}, "error": _sentence(look, file, error or _VANISHED)}
            for key in ("restored", "refused", "failed")
            for file in look[key]
            if file["name"] in unmentioned
        ]
    others = {
        key: [each for each in files if _name(each) not in names and _name(each) not in decision.elsewhere]
        for key, files in _files(look).items()
    }
    of_fleet = [
        {**{key: file[key] for key in _FILE}, "reason": _sentence(look, file, decision.refused[file["name"]])}
        for file in look["restored"]
        if file["name"] in decision.refused
    ]
    return {
        "restored": done["restored"],
        "present": [*done["present"], *others["present"]],
        "refused": [*done["refused"], *of_fleet, *others["refused"]],
        "failed": [*done["failed"], *others["failed"]],
        "set_aside": done["set_aside"],
        "elsewhere": dict(decision.elsewhere),
    }


def _sentence(found: Found, file: File, reason: str) -> str:
    """Return why a file is not restored, as the module says it."""
    return _opening(found, file) + reason


def _bare_reason(found: Found, file: File, sentence: str) -> str:
    """Return why a file is not restored without what differs by host, so that it is the same on all."""
    return sentence.removeprefix(_opening(found, file))


def _opening(found: Found, file: File) -> str:
    path = posixpath.join(found["cache_path"], file["name"])
    return f"{path} was not restored (used by {some_names(file['instances']) or 'no instance'}). "


def _files(found: Found) -> dict[str, Sequence[Any]]:
    return {key: found[key] for key in _NOTHING}


def _only(files: Sequence[Any], names: frozenset[str]) -> list[Any]:
    return [each for each in files if _name(each) in names]


def _name(each: Any) -> str:
    return each if isinstance(each, str) else str(each["name"])


def summarise_restore(outcomes: Sequence[FileOutcome], check_mode: bool) -> dict[str, Any]:
    """Make the structure that the report shows.

    :param outcomes: all hosts of the play.
    :param check_mode: whether nothing was restored.
    :return: plain data: ``hosts`` is their number. Each item of ``restored``, ``lost``, ``set_aside`` and
        ``unanswered`` has the host's name as ``host``. What a process still has comes first.
    """
    done = [
        (outcome.answer.name, outcome.answer.found or {}, outcome.result)
        for outcome in outcomes
        if outcome.result is not None
    ]
    lost = [
        {"host": name, **{key: file[key] for key in _FILE}, "reason": _bare_reason(found, file, file[reason])}
        for name, found, result in done
        for kind, reason in (("refused", "reason"), ("failed", "error"))
        for file in result[kind]
    ]
    restored = [{"host": name, **file} for name, _found, result in done for file in result["restored"]]
    return {
        "check_mode": check_mode,
        "hosts": len(outcomes),
        "restored": sorted(restored, key=lambda file: file["source"] != "process"),
        "lost": lost,
        "set_aside": [{"host": name, **file} for name, _found, result in done for file in result["set_aside"]],
        "unanswered": [
            {"host": outcome.answer.name, "error": outcome.answer.error or "Nothing was restored after the look."}
            for outcome in outcomes
            if outcome.result is None
        ],
    }
