# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Looks at one host's image cache, or does what was decided for it."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet import play
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.decision import Action, HostDecision
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import OptionsError, read_options

_AUDIT = "stackops.nova.image_cache_facts"
_PRUNE = "stackops.nova.image_cache_prune"
_STRATEGIES_WITHOUT_BARRIER = ("free", "host_pinned")


class ActionModule(ActionBase): type: ignore[misc]  # ansible-core has no types# type: ignore[misc]  # ansible-core has no types
 type: ignore[misc]  # ansible-core has no types  """Runs a module on the host with the options that the role's variables give."""

 type: ignore[misc]  # ansible-core has no types  def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
 type: ignore[misc]  # ansible-core has no types      super().run(tmp, task_vars)
 type: ignore[misc]  # ansible-core has no types      # This process ends with the task. Ansible packs a module by way of the syntax trees of all its files, each a
 type: ignore[misc]  # ansible-core has no types      # cycle: collecting garbage meanwhile takes as long as the audit on the host.
 type: ignore[misc]  # ansible-core has no types      gc.disable()
 type: ignore[misc]  # ansible-core has no types      variables = task_vars or {}
 type: ignore[misc]  # ansible-core has no types      walk = play.Walk.of(self._task)
 type: ignore[misc]  # ansible-core has no types      try:
 type: ignore[misc]  # ansible-core has no types          if self._task.args.get("operation") == "look":
 type: ignore[misc]  # ansible-core has no types              return {**self._look(variables), "walk": walk.walk}
 type: ignore[misc]  # ansible-core has no types          return {**self._act(walk, variables), "walk": walk.walk}
 type: ignore[misc]  # ansible-core has no types      except OptionsError as exc:
 type: ignore[misc]  # ansible-core has no types          return {"failed": True, "msg": str(exc), "walk": walk.walk}

 type: ignore[misc]  # ansible-core has no types  def _look(self, task_vars: dict[str, Any]) -> dict[str, Any]:
 type: ignore[misc]  # ansible-core has no types      self._refuse_plays_that_cannot_be_decided()
 type: ignore[misc]  # ansible-core has no types      variables = play.set_variables(task_vars, self._templar.template)
 type: ignore[misc]  # ansible-core has no types      options = read_options(variables, task_vars["groups"], task_vars["inventory_hostname"])
 type: ignore[misc]  # ansible-core has no types      is_asked = play.is_prune_asked(task_vars, options.fleet, variables)
 type: ignore[misc]  # ansible-core has no types      is_opted_out = is_asked and play.is_opted_out(task_vars)
 type: ignore[misc]  # ansible-core has no types      fleet_options = replace(options.fleet, prune=is_asked and not is_opted_out, opted_out=is_opted_out)
 type: ignore[misc]  # ansible-core has no types      if fleet_options.prune:
 type: ignore[misc]  # ansible-core has no types          result = self._run_module(_PRUNE, options.module, task_vars, check_mode=True)
 type: ignore[misc]  # ansible-core has no types      else:
 type: ignore[misc]  # ansible-core has no types          result = self._run_module(_AUDIT, options.module, task_vars, check_mode=True)
 type: ignore[misc]  # ansible-core has no types      shares = options.module.get("shared_storage") or _is_shared(result)
 type: ignore[misc]  # ansible-core has no types      if not shares:
 type: ignore[misc]  # ansible-core has no types          fleet_options = replace(fleet_options, instances=None)
 type: ignore[misc]  # ansible-core has no types      would_change = bool(result.get("changed"))
 type: ignore[misc]  # ansible-core has no types      return {**result, "changed": False, "would_change": would_change, "options": fleet_options.to_plain()}

 type: ignore[misc]  # ansible-core has no types  def _refuse_plays_that_cannot_be_decided(self) -> None:
 type: ignore[misc]  # ansible-core has no types      strategy = str(self._task._parent._play.strategy or "")
 type: ignore[misc]  # ansible-core has no types      if strategy.rpartition(".")[2] in _STRATEGIES_WITHOUT_BARRIER:
 type: ignore[misc]  # ansible-core has no types          raise OptionsError(
 type: ignore[misc]  # ansible-core has no types              f"Nothing was done: under the strategy {strategy} there is no moment at which all hosts have "
 type: ignore[misc]  # ansible-core has no types              "answered, and only then it is known who shares a storage. Remove strategy from the play."
 type: ignore[misc]  # ansible-core has no types          )
 type: ignore[misc]  # ansible-core has no types      if self._task.run_once:
 type: ignore[misc]  # ansible-core has no types          raise OptionsError(
 type: ignore[misc]  # ansible-core has no types              "Nothing was done: with run_once the role looks at one host, and not at those that may share its "
 type: ignore[misc]  # ansible-core has no types              "storage. Remove run_once, or run the play on one host (--limit)."
 type: ignore[misc]  # ansible-core has no types          )

 type: ignore[misc]  # ansible-core has no types  def _act(self, walk: play.Walk, task_vars: dict[str, Any]) -> dict[str, Any]:
 type: ignore[misc]  # ansible-core has no types      look = task_vars.get(play.LOOK)
 type: ignore[misc]  # ansible-core has no types      if not isinstance(look, Mapping) or not play.is_of(look, walk):
 type: ignore[misc]  # ansible-core has no types          raise OptionsError(_NOT_LOOKED_AT)
 type: ignore[misc]  # ansible-core has no types      if "image_cache" not in look:
 type: ignore[misc]  # ansible-core has no types          raise OptionsError(_LOOK_FAILED)
 type: ignore[misc]  # ansible-core has no types      found = play.find_registered(task_vars, play.DECISION, lambda result: result.get("walk") == walk.walk)
 type: ignore[misc]  # ansible-core has no types      if not found:
 type: ignore[misc]  # ansible-core has no types          raise OptionsError(_NOT_LOOKED_AT)
 type: ignore[misc]  # ansible-core has no types      plain = found["hosts"].get(task_vars["inventory_hostname"])
 type: ignore[misc]  # ansible-core has no types      if plain is None:
 type: ignore[misc]  # ansible-core has no types          return _only_looked_at(look)
 type: ignore[misc]  # ansible-core has no types      decision = HostDecision.from_plain(plain)
 type: ignore[misc]  # ansible-core has no types      if decision.action is Action.FAIL:
 type: ignore[misc]  # ansible-core has no types          return _failure(decision.reasons)
 type: ignore[misc]  # ansible-core has no types      hand_off = decision.options
 type: ignore[misc]  # ansible-core has no types      if decision.action is Action.PRUNE and self._task.check_mode and not hand_off:
 type: ignore[misc]  # ansible-core has no types          return _known_dry_run(look)
 type: ignore[misc]  # ansible-core has no types      options = read_options(
 type: ignore[misc]  # ansible-core has no types          play.set_variables(task_vars, self._templar.template), task_vars["groups"], task_vars["inventory_hostname"]
 type: ignore[misc]  # ansible-core has no types      )
 type: ignore[misc]  # ansible-core has no types      module_options = {**options.module, **hand_off}
 type: ignore[misc]  # ansible-core has no types      if "instances" in hand_off:
 type: ignore[misc]  # ansible-core has no types          module_options["instances"] = [*hand_off["instances"], *options.module.get("instances", ())]
 type: ignore[misc]  # ansible-core has no types      is_prune = decision.action is Action.PRUNE
 type: ignore[misc]  # ansible-core has no types      result = self._run_module(
 type: ignore[misc]  # ansible-core has no types          _PRUNE if is_prune else _AUDIT, module_options, task_vars, check_mode=self._task.check_mode
 type: ignore[misc]  # ansible-core has no types      )
 type: ignore[misc]  # ansible-core has no types      return {**result, **_done(result, "pruned" if is_prune else "audited")}

 type: ignore[misc]  # ansible-core has no types  def _run_module(
 type: ignore[misc]  # ansible-core has no types      self, name: str, options: Mapping[str, Any], task_vars: dict[str, Any], check_mode: bool
 type: ignore[misc]  # ansible-core has no types  ) -> dict[str, Any]:
 type: ignore[misc]  # ansible-core has no types      """Run a module, and return what has to be kept of its result."""
 type: ignore[misc]  # ansible-core has no types      self._task.check_mode = check_mode
 type: ignore[misc]  # ansible-core has no types      try:
 type: ignore[misc]  # ansible-core has no types          result: dict[str, Any] = self._execute_module(
 type: ignore[misc]  # ansible-core has no types              module_name=name, module_args=dict(options), task_vars=task_vars
 type: ignore[misc]  # ansible-core has no types          )
 type: ignore[misc]  # ansible-core has no types      except AnsibleConnectionFailure as exc:
 type: ignore[misc]  # ansible-core has no types          return {"unreachable": True, "msg": str(exc), "changed": False}
 type: ignore[misc]  # ansible-core has no types      facts = result.pop("ansible_facts", None)
 type: ignore[misc]  # ansible-core has no types      if isinstance(facts, Mapping) and "image_cache" in facts:
 type: ignore[misc]  # ansible-core has no types          result["image_cache"] = facts["image_cache"]
 type: ignore[misc]  # ansible-core has no types      result.pop("invocation", None)  # the controller keeps it for each host, and nobody reads it
 type: ignore[misc]  # ansible-core has no types      if not self._task.diff:
 type: ignore[misc]  # ansible-core has no types          result.pop("diff", None)
 type: ignore[misc]  # ansible-core has no types      return result


_NOT_LOOKED_AT = (
 type: ignore[misc]  # ansible-core has no types  "Nothing was pruned: the image cache was not looked at in this run of the role, so it is not certain which files "
 type: ignore[misc]  # ansible-core has no types  "are in use. Do not skip the tag image_cache_audit or its tasks."
)

_LOOK_FAILED = (
 type: ignore[misc]  # ansible-core has no types  "Nothing was done: the look at this host failed, so it is not certain which files are in use. See the message of that "
 type: ignore[misc]  # ansible-core has no types  "task, and run the play again."
)


def _is_shared(result: Mapping[str, Any]) -> bool:
 type: ignore[misc]  # ansible-core has no types  image_cache = result.get("image_cache")
 type: ignore[misc]  # ansible-core has no types  storage = image_cache.get("store") if isinstance(image_cache, Mapping) else None
 type: ignore[misc]  # ansible-core has no types  return isinstance(storage, Mapping) and bool(storage.get("shared"))


def _failure(reasons: Sequence[str]) -> dict[str, Any]:
 type: ignore[misc]  # ansible-core has no types  text = " ".join(reasons)
 type: ignore[misc]  # ansible-core has no types  if not text.startswith("Nothing was removed"):
 type: ignore[misc]  # ansible-core has no types      text = f"Nothing was removed from this storage. {text}"
 type: ignore[misc]  # ansible-core has no types  return {"failed": True, "msg": text, "changed": False, "state": "refused", "refused": list(reasons), "removed": []}


def _only_looked_at(look: Mapping[str, Any]) -> dict[str, Any]:
 type: ignore[misc]  # ansible-core has no types  result: dict[str, Any] = {"changed": False, "state": "audited", "removed": [], "refused": []}
 type: ignore[misc]  # ansible-core has no types  if look["options"].get("opted_out"):
 type: ignore[misc]  # ansible-core has no types      result["msg"] = "It was only looked at: image_cache_prune is false for this host in the inventory."
 type: ignore[misc]  # ansible-core has no types  return result


def _known_dry_run(look: Mapping[str, Any]) -> dict[str, Any]:
 type: ignore[misc]  # ansible-core has no types  """Return what the look, which was a dry run, found already."""
 type: ignore[misc]  # ansible-core has no types  result = {"changed": look["would_change"], **_done(look, "pruned")}
 type: ignore[misc]  # ansible-core has no types  if "diff" in look:
 type: ignore[misc]  # ansible-core has no types      result["diff"] = look["diff"]
 type: ignore[misc]  # ansible-core has no types  return result


def _done(result: Mapping[str, Any], state: str) -> dict[str, Any]:
 type: ignore[misc]  # ansible-core has no types  """Return what was done, for ``image_cache_result``."""
 type: ignore[misc]  # ansible-core has no types  image_cache = result.get("image_cache")
 type: ignore[misc]  # ansible-core has no types  found = image_cache if isinstance(image_cache, Mapping) else {}
 type: ignore[misc]  # ansible-core has no types  refused = list(found.get("unknown_use", ())) if state == "pruned" else []
 type: ignore[misc]  # ansible-core has no types  return {
 type: ignore[misc]  # ansible-core has no types      "state": "refused" if refused else state,
 type: ignore[misc]  # ansible-core has no types      "removed": list(found.get("removed", ())),
 type: ignore[misc]  # ansible-core has no types      "reclaimed_bytes": found.get("reclaimed_bytes", 0),
 type: ignore[misc]  # ansible-core has no types      "refused": refused,
 type: ignore[misc]  # ansible-core has no types  }
