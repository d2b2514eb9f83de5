# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: image_cache_stores
short_description: Tell which hosts share an image cache, and what a prune of each must know
version_added: 0.1.0
description:
  - Groups the hosts of a play by the storage that their image caches lie on, and unites the instances of those that
    share one, so that each store is pruned once, from one of its hosts, with everybody's instances counted.
  - Hosts share a store if RV(stackops.nova.image_cache_facts#module:ansible_facts.image_cache.store.id) is the same,
    or if O(storage_group) says so.
  - A store is refused while it is not known what all its hosts need, and waits while a host that shares it is in a
    later batch of the play.
  - The audit must be registered as C(__image_cache_audit). What Ansible has cached of an earlier one does not count.
  - It is what the role P(stackops.nova.image_cache#role) uses, which knows all that is to be passed.
positional: hostvars
author:
  - stackops.nova contributors (@stackops)
options:
  _input:
    description: The hosts of the play, C(ansible_play_hosts_all).
    type: list
    elements: str
    required: true
  hostvars:
    description: The variables of all hosts, C(hostvars).
    type: dict
    required: true
  alive:
    description: The hosts that did not fail, C(ansible_play_hosts).
    type: list
    elements: str
    required: true
  batch:
    description: The hosts of this batch that did not fail, C(ansible_play_batch).
    type: list
    elements: str
    required: true
  groups:
    description: The hosts of each group of the inventory, C(groups).
    type: dict
    required: true
  storage_group:
    description: The name of a group all of whose hosts share one store. A host's own variable
      C(image_cache_storage_group) goes first. It is enough that one of them has it.
    type: str
  limit:
    description: What the play was limited to on the command line, C(ansible_limit).
    type: str
  ignore_storage_users:
    description: Hosts that no longer use any store, by nova's or the inventory's name.
    type: list
    elements: str
    default: []
  instances:
    description: Instances that the operator gave. A host's own C(image_cache_instances) goes first.
    type: list
    elements: raw
    default: []
  instance_hosts:
    description: Hosts whose instances are all among them. A host's own C(image_cache_instance_hosts) goes first.
    type: list
    elements: str
    default: []
  keep_files:
    description: Files that stay. A host's own C(image_cache_keep_files) goes first.
    type: list
    elements: str
    default: []
  cloud:
    description: What P(stackops.nova.image_cache_cloud#filter) made of the answers of the APIs, if they were asked.
    type: dict
seealso:
  - module: stackops.nova.image_cache_facts
  - plugin: stackops.nova.image_cache_cloud
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Audit each host
  stackops.nova.image_cache_facts:
  register: __image_cache_audit

- name: Show who shares storage with whom
  ansible.builtin.debug:
    msg: "{{ stores | map(attribute='hosts') }}"
  run_once: true
  vars:
    stores: >-
      {{ ansible_play_hosts_all | stackops.nova.image_cache_stores(
           hostvars, alive=ansible_play_hosts, batch=ansible_play_batch, groups=groups) }}
"""

RETURN = r"""
_value:
  description: One dictionary a store, in the order of the hosts.
  type: list
  elements: dict
  contains:
    id:
      description: Its id, C(group:NAME) if a group says who shares it, V(none) if there is no cache.
      type: str
    filesystem:
      description: The type of the file system.
      type: str
    shared:
      description: Whether more hosts may use it.
      type: bool
    cache_path:
      description: The cache directory.
      type: str
    hosts:
      description: The hosts of the play that use it and answered.
      type: list
      elements: str
    pruner:
      description: The host that prunes it in this batch, or did so in an earlier one. V(none) if no host does.
      type: str
    state:
      description: V(audited), V(refused) or V(waits).
      type: str
    refused:
      description: Why it must not be pruned, a sentence each.
      type: list
      elements: str
    waits_for:
      description: The hosts of later batches that share it, or may.
      type: list
      elements: str
    told:
      description:
        - What each of its hosts has to know. Empty if a host is alone with its store and knows all itself.
        - C(state), C(pruner) and C(refused) are those of the store, and C(audited_at) is the time of the audit that all
          this is about. The pruner also has the options C(instances), C(instance_hosts), C(keep_files) and
          C(glance_images) to audit and prune with, and C(keep_images), which the others of them keep besides its own.
      type: dict
"""

from typing import Any, Callable, Iterable, Mapping, NamedTuple, Sequence

from ansible.errors import AnsibleFilterError

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.instances import (
    collect,
    parse_record,
    records_of,
)
from ansible_collections.stackops.nova.plugins.plugin_utils.lists import as_list

_INSTEAD = (
    "If it will not come back, name it in image_cache_ignore_storage_users. If it never shared this storage, "
    "say by image_cache_storage_group who does."
)


class FilterModule:
    """The filter, for Ansible."""

    def filters(self) -> dict[str, Callable[..., list[dict[str, Any]]]]:
        return {"image_cache_stores": image_cache_stores}


class Host(NamedTuple):
    """A host of the play.

    :param facts: what its audit in this run found; None if there is none.
    :param is_later: whether a later batch of the play audits it.
    :param group: the hosts that share its store by the operator's word, itself among them; empty without such a word.
    :param foreign_group: a group that its own variable names and that it is not in, unless all hosts name it.
    :param was_pruner: whether it has pruned its store in an earlier batch, or would have.
    :param has_waited: whether its store waited for others in an earlier batch.
    :param asks_api: whether its own variables say that the APIs know its instances.
    :param instances: what the operator gave for it, as are the next two.
    """

    name: str
    facts: Mapping[str, Any] | None = None
    is_later: bool = False
    group_name: str = ""
    group: tuple[str, ...] = ()
    foreign_group: str = ""
    was_pruner: bool = False
    has_waited: bool = False
    nova_name: str = ""
    asks_api: bool = False
    instances: Sequence[Any] = ()
    instance_hosts: Sequence[str] = ()
    keep_files: Sequence[str] = ()

    @property
    def names(self) -> set[str]:
        """What it may be called."""
        return {self.name, self.nova_name} - {""}


def image_cache_stores(
    hosts: Sequence[str],
    hostvars: Mapping[str, Mapping[str, Any]],
    *,
    alive: Sequence[str],
    batch: Sequence[str],
    groups: Mapping[str, Sequence[str]],
    storage_group: str | None = None,
    ignore_storage_users: Iterable[str] = (),
    instances: Sequence[Any] = (),
    instance_hosts: Sequence[str] = (),
    keep_files: Sequence[str] = (),
    cloud: Mapping[str, Any] | None = None,
    limit: str | None = None,
) -> list[dict[str, Any]]:
    """Tell which hosts share an image cache, and what a prune of each must know."""
    if not isinstance(hosts, Sequence) or isinstance(hosts, str):
        raise AnsibleFilterError("image_cache_stores takes a list of hosts, such as ansible_play_hosts_all.")
    living, present = set(alive), set(batch)
    last = max((number for number, name in enumerate(hosts) if name in present), default=-1)
    known = []
    # Hosts that need nothing of any store, whoever says so: the variable may be that of a group.
    ignored = set(as_list(ignore_storage_users))
    for number, name in enumerate(hosts):
        variables = hostvars[name]
        ignored.update(_list(variables, "image_cache_ignore_storage_users", (), name) or ())
        is_later = name in living and number > last
        facts = _audited(variables) if name in living and not is_later else None
        is_earlier = facts is not None and name not in present
        pruned = variables.get("__image_cache_pruned", {}) if is_earlier else {}
        told = variables.get("__image_cache_store", {}) if is_earlier else {}
        known.append(
            Host(
                name=name,
                facts=facts,
                is_later=is_later,
                group_name=variables.get("image_cache_storage_group", storage_group) or "",
                foreign_group=variables.get("image_cache_storage_group") or "",
                was_pruner="image_cache" in pruned or told.get("pruner") == name,
                has_waited=told.get("state") == "waits",
                nova_name=facts["host"] if facts else variables.get("image_cache_host", ""),
                asks_api=variables.get("image_cache_instance_source") == "openstack",
                instances=_list(variables, "image_cache_instances", instances, name),
                instance_hosts=_list(variables, "image_cache_instance_hosts", instance_hosts, name),
                keep_files=_list(variables, "image_cache_keep_files", keep_files, name),
            )
        )
    _refuse_one_audit_of_several(known)
    known = _with_groups(known, groups)
    if cloud is not None:
        cloud = {**cloud, "unclaimed": _unclaimed(cloud, known, groups)}
    return group_hosts(known, present, frozenset(ignored), cloud, limit or "")


def _list(variables: Mapping[str, Any], variable: str, default: Sequence[Any], host: str) -> Sequence[Any]:
    """Return a host's own list, else that of all. ansible-core 2.18 gives a template without a value as its text."""
    value = variables.get(variable, default)
    if not isinstance(value, str):
        return value
    if "{{" in value:
        raise AnsibleFilterError(f"{variable} of host {host} has no value: '{value}' cannot be told.")
    return as_list(value)


def _plain(records: Iterable[Any]) -> list[dict[str, Any]]:
    """Return given instances as plain records: what else a server has, such as passwords, is nobody's affair."""
    try:
        instances = [parse_record(record) for record in records]
    except ImageCacheError as exc:
        raise AnsibleFilterError(f"One of image_cache_instances cannot be understood: {exc}") from exc
    return [record for instance in instances if instance is not None for record in records_of(instance)]


def _audited(variables: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what the audit of this run found. A host whose audit failed or was skipped may have older facts."""
    audit = variables.get("__image_cache_audit") or {}
    return (audit.get("ansible_facts") or {}).get("image_cache")


def _refuse_one_audit_of_several(hosts: Iterable[Host]) -> None:
    """Make sure that each host has an audit of its own.

    ansible-core 2.21 gives all hosts of a play one dictionary for what they register if the first thing that is
    registered, or set as a fact, is by a task with run_once. Then all have what the last one said.
    """
    names: dict[tuple[Any, ...], str] = {}
    for host in hosts:
        if host.facts is not None:
            audit = (host.facts["now"], host.facts["host"], host.facts["store"]["id"])
            if names.setdefault(audit, host.name) != host.name:
                raise AnsibleFilterError(
                    f"Ansible gives {names[audit]} and {host.name} one and the same audit, so it is not known what is "
                    f"in use. ansible-core 2.21 does that if a task with run_once registers something, or sets a fact, "
                    f"before each host has something of its own: let a set_fact without run_once come first."
                )


def _with_groups(hosts: Sequence[Host], groups: Mapping[str, Sequence[str]]) -> list[Host]:
    """Give each host the group that it names if it is in there, or else one that another of its hosts names."""
    group_of: dict[str, str] = {}
    for group_name in dict.fromkeys(host.group_name for host in hosts):
        for name in groups.get(group_name, ()):
            group_of.setdefault(name, group_name)
    group_of.update({host.name: host.group_name for host in hosts if host.name in groups.get(host.group_name, ())})
    is_for_all = len({host.foreign_group for host in hosts}) == 1
    return [
        host._replace(
            group_name=group_of.get(host.name, ""),
            group=tuple(groups.get(group_of.get(host.name, ""), ())),
            foreign_group="" if is_for_all or host.name in groups.get(host.foreign_group, ()) else host.foreign_group,
        )
        for host in hosts
    ]


def _unclaimed(cloud: Mapping[str, Any], hosts: Iterable[Host], groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the hosts of the API that are none of the inventory, by its names or by those that nova has there."""
    claimed = {"", *groups.get("all", ())}.union(*(host.names for host in hosts))
    return sorted(set(cloud["instances"]) - claimed)


def group_hosts(
    hosts: Sequence[Host], batch: set[str], ignored: frozenset[str], cloud: Mapping[str, Any] | None, limit: str
) -> list[dict[str, Any]]:
    """Make the stores of all hosts that answered.

    :param hosts: the hosts of the play, in its order.
    :param batch: the names of those that can do something now.
    :param ignored: names of hosts that the operator vouches for.
    :param cloud: the instances and images that the APIs named, the problem if there was one, and the hosts of theirs
        that are not known by name.
    :param limit: what the play was limited to; empty if it was not.
    :return: the stores.
    """
    members: dict[tuple[str, str], list[Host]] = {}
    for host in hosts:
        if host.facts is not None:
            members.setdefault(_key(host), []).append(host)
    vouched = ignored.union(*(host.names for host in hosts if host.names & ignored))
    without_answer = [host for host in hosts if host.facts is None and host.name not in vouched]
    outsiders = [host for host in hosts if host.foreign_group]
    stores = [
        _Store(_id(covered[0]), covered, without_answer, batch, vouched, cloud, limit, outsiders)
        for covered in members.values()
    ]
    alike: dict[frozenset[int], list[_Store]] = {}
    for store in stores:
        alike.setdefault(store.marks, []).append(store)
    return [store.describe(store.twins(alike[store.marks])) for store in stores]


def _id(host: Host) -> str | None:
    if host.group_name:
        return f"group:{host.group_name}"
    return None if host.facts is None else host.facts["store"]["id"]


def _key(host: Host) -> tuple[str, str]:
    """Hosts with the same key share a store. One without a cache has none to share."""
    identity = _id(host)
    return ("store", identity) if identity is not None else ("host", host.name)


class _Store:
    """One store, while it is being made up.

    :param covered: its hosts, all of which answered.
    :param without_answer: the hosts of the play that did not, and may share it.
    :param outsiders: the hosts of the play that name a group without being in it.
    """

    def __init__(
        self,
        identity: str | None,
        covered: Sequence[Host],
        without_answer: Sequence[Host],
        batch: set[str],
        ignored: frozenset[str],
        cloud: Mapping[str, Any] | None,
        limit: str,
        outsiders: Sequence[Host],
    ) -> None:
        self.identity = identity
        self.covered = covered
        self.batch = batch
        self.cloud = cloud
        self.limit = limit
        groups = {covered[0].group_name} - {""}
        self.outsiders = [host for host in outsiders if host in covered or host.foreign_group in groups]
        self.facts = [host.facts or {} for host in covered]
        self.group = covered[0].group
        self.is_shared = len(self.group or covered) > 1 or any(facts["store"]["shared"] for facts in self.facts)
        self.vouched = ignored.union(*(host.instance_hosts for host in covered))
        self.nova_names = {host.nova_name for host in covered}
        self.users = {user for facts in self.facts for user in _users(facts)}
        # Then nova would have named each other host, too.
        self.is_registered = self.nova_names <= self.users
        self.absent = self._absent(without_answer, ignored)

    def describe(self, twins: Sequence[str]) -> dict[str, Any]:
        waits_for = [host.name for host in self.absent if host.is_later]
        refused = self._reasons(waits_for) + [
            f"{name} sees the same files as {self.covered[0].name}, under another store id ({self.identity} here), so "
            f"they share this storage: say so by image_cache_storage_group."
            for name in twins
        ]
        state = "refused" if refused else "waits" if waits_for else "audited"
        pruner = next((host.name for host in self.covered if host.name in self.batch), None)
        earlier = next((host.name for host in self.covered if host.was_pruner), None)
        if earlier is not None:
            state, refused, waits_for, pruner = "audited", [], [], earlier
        elif state == "waits":
            pruner = None
        elif pruner is None and any(host.has_waited for host in self.covered):
            state = "refused"
            refused.append(
                "Its hosts were in earlier batches of the play, when it was not known yet that no later one shares it: "
                "say by image_cache_storage_group who does, or run the play on them again, without serial."
            )
        elif pruner is None:
            pruner = self.covered[0].name
        return {
            "id": self.identity,
            "filesystem": self.facts[0]["store"]["filesystem"],
            "shared": self.is_shared,
            "cache_path": self.facts[0]["cache_path"],
            "hosts": [host.name for host in self.covered],
            "pruner": pruner,
            "state": state,
            "refused": refused,
            "waits_for": waits_for,
            "told": self._told(state, refused, pruner),
        }

    def twins(self, alike: Iterable[_Store]) -> list[str]:
        """Return a host of each other store with the same files: hosts may mount one from several addresses."""
        if not self.marks:
            return []
        return [other.covered[0].name for other in alike if other is not self and not (self.group and other.group)]

    def _absent(self, without_answer: Sequence[Host], ignored: frozenset[str]) -> list[Host]:
        """Return the hosts that did not answer and share this store, or may."""
        if self.group:
            in_play = {host.name for host in [*self.covered, *without_answer]}
            missing = [Host(name) for name in self.group if name not in in_play | ignored]
            return [host for host in without_answer if host.name in self.group] + missing
        if not self.is_shared:
            return []
        if self.is_registered and not self._strangers():
            return []
        return [host for host in without_answer if not host.group]

    def _strangers(self) -> list[str]:
        return sorted(self.users - self.nova_names - self.vouched)

    def _reasons(self, waits_for: Sequence[str]) -> list[str]:
        """Return why this store must not be pruned."""
        reasons = []
        if self.cloud is not None and self.cloud["problem"]:
            reasons.append(self.cloud["problem"])
        if self.cloud is None:
            reasons += [
                f"image_cache_instance_source of {host.name} is openstack, and the APIs were not asked: give it the "
                f"same value for all hosts of the play."
                for host in self.covered
                if host.asks_api
            ]
        reasons += [
            f"{host.name} {'shares' if self.group else 'may share'} this storage and could not be audited, or is not "
            f"in this play: bring it back, and run the play on it as well. {_INSTEAD}"
            for host in self.absent
            if not host.is_later
        ]
        reasons += [
            f"{host.name} has {host.foreign_group} as its image_cache_storage_group, and is not in that group: add it "
            f"there, or take the variable from it."
            for host in self.outsiders
        ]
        if self.limit and self.is_shared and not self.group and not self.is_registered:
            reasons.append(
                f"This storage is shared, nova does not write down there who uses it, and the play is limited to "
                f"{self.limit}, so a host that shares it may be left out: run the play without that, or say by "
                f"image_cache_storage_group who shares it."
            )
        if self.is_shared and not waits_for:
            reasons += [
                f"nova saw host {user} use this storage within the last 24 hours, and no host of this play that "
                f"answered is known to nova by that name: run the play on it as well. {_INSTEAD}"
                for user in self._strangers()
            ]
        if len(self.covered) > 1:
            reasons += self._contradictions()
            reasons += [
                f"On {host.name}: {problem}"
                for host in self.covered
                for problem in ((host.facts or {}).get("shared_use") or {}).get("problems", ())
            ]
        return reasons

    def _contradictions(self) -> list[str]:
        """Return what cannot be if all these hosts see the same cache."""
        first, first_facts = self.covered[0], self.facts[0]
        if len(self.nova_names) == 1 and not self.group and not self.is_network:
            return []  # one machine under several names
        reasons = []
        for host, facts in zip(self.covered, self.facts):
            if not facts["exists"]:
                reasons.append(
                    f"{host.name} should share this storage, and has no {facts['cache_path']}: is it mounted there?"
                )
            elif facts["shared_use"] is None:
                reasons.append(
                    f"{host.name} has the same store id as {_others(self.covered, host)}, on a disk of its own: are "
                    f"they clones with one /etc/machine-id? Give each its own, or say by image_cache_storage_group who "
                    f"shares this storage."
                )
            elif first_facts["shared_use"] and not _same_cache(facts, first_facts):
                reasons.append(
                    f"{host.name} and {first.name} should share this storage, and have different files in "
                    f"{facts['cache_path']}: is it mounted on both? Check image_cache_storage_group, if it is set."
                )
            elif facts["cache_path"] != first_facts["cache_path"]:
                reasons.append(
                    f"{host.name} has this storage at {facts['cache_path']} and {first.name} at "
                    f"{first_facts['cache_path']}: nova needs one instances_path on all of its hosts."
                )
            elif first_facts["shared_use"]:
                reasons += self._disagreements(host, facts["shared_use"], first_facts["shared_use"])
        if not self._are_given_known():
            reasons.append(
                f"{', '.join(host.name for host in self.covered)} share this storage, and image_cache_instances is not "
                f"the same on them in a way that no other host can see: set it in the inventory, or give all the same."
            )
        return reasons

    def _disagreements(self, host: Host, use: Mapping[str, Any], first_use: Mapping[str, Any]) -> list[str]:
        """Return the options that one of these hosts would prune by and another one would not."""
        return [
            f"{host.name} and {self.covered[0].name} share this storage, and disagree about {option} ({value} and "
            f"{first_use['policy'][option]}): give them the same."
            for option, value in use["policy"].items()
            if value != first_use["policy"][option]
        ]

    def _are_given_known(self) -> bool:
        """Tell whether what each host was given is known here, or to the host that prunes: a play may give others."""
        pruner = next((host for host in self.covered if host.name in self.batch), self.covered[0])
        of_pruner = ((pruner.facts or {})["shared_use"] or {}).get("given", 0)
        numbers = [(facts["shared_use"] or {}).get("given", 0) for facts in self.facts]
        # As a rule the first is enough, and saves going through all of them for each host.
        return all(
            number in (0, of_pruner) or number == collect(host.instances, (), None, "").given
            for host, number in zip(self.covered, numbers)
        )

    def _given(self) -> list[Sequence[Any]]:
        """Return the lists of instances that the operator gave: as a rule, one for all."""
        given: list[Sequence[Any]] = []
        for host in self.covered:
            if host.instances not in given:
                given.append(host.instances)
        return given

    @property
    def marks(self) -> frozenset[int]:
        """What tells its cache from another one; empty if nothing does."""
        return frozenset((self.facts[0]["shared_use"] or {}).get("marks", ()))

    @property
    def is_network(self) -> bool:
        return any(facts["store"]["shared"] for facts in self.facts)

    def _told(self, state: str, refused: Sequence[str], pruner: str | None) -> dict[str, Any]:
        if len(self.covered) == 1 and self.cloud is None and state == "audited":
            return {}
        told: dict[str, dict[str, Any]] = {
            host.name: {"audited_at": facts["now"], "state": state, "pruner": pruner, "refused": refused}
            for host, facts in zip(self.covered, self.facts)
            if host.name in self.batch
        }
        if state == "audited" and pruner in told:
            told[pruner].update(self._options(pruner))
        return told

    def _options(self, pruner: str) -> dict[str, Any]:
        """Return the options with which one of the hosts prunes for all."""
        hosts = self.nova_names | self.vouched
        instances: list[Any] = []
        keep_files: set[str] = set()
        keep_images: set[str] = set()
        for host, facts in zip(self.covered, self.facts):
            use = facts["shared_use"] or {}
            if host.name != pruner:
                instances += use.get("instances", ())
                keep_files.update(use.get("held", ()))
                keep_images.update(use.get("keep_images", ()))
                keep_files.update(use.get("keep_files", ()))
            keep_files.update(host.keep_files)
        for records in self._given():
            instances += _plain(records)
        options: dict[str, Any] = {
            "instance_hosts": sorted(hosts),
            "keep_files": sorted(keep_files),
            "keep_images": sorted(keep_images),
        }
        if self.cloud is not None:
            # A host that the API does not know has no servers, or another name there: then they are among these.
            is_known = self.nova_names <= self.cloud["instances"].keys()
            for host_name in sorted({*hosts, *self.users, "", *(() if is_known else self.cloud["unclaimed"])}):
                instances += self.cloud["instances"].get(host_name, ())
            options["glance_images"] = self.cloud["images"]
        return {"instances": instances, **options}


def _users(facts: Mapping[str, Any]) -> Sequence[str]:
    """Return all hosts that nova saw on a store: only the part for sharing has the whole list."""
    return (facts["shared_use"] or facts["store"])["users"]


def _others(hosts: Sequence[Host], one: Host) -> str:
    return ", ".join(host.name for host in hosts if host.name != one.name)


def _same_cache(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    marks, other_marks = set(one["shared_use"]["marks"]), set(other["shared_use"]["marks"])
    return marks == other_marks or not marks.isdisjoint(other_marks)
