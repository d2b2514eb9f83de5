# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules that fetch have in common: no result of theirs has the token in it, whatever goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from ..errors import ImageCacheError

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

__all__ = ["FetchResult", "finish_module", "take_params"]


class FetchResult(NamedTuple):
    """What a restore or a pre-caching gives back.

    :param done: the structure that has the module's name.
    :param changed: whether a file was put in place or set aside, or would be.
    :param warnings: sentences to warn with.
    :param error: why the task fails, None if it does not.
    """

    done: dict[str, Any]
    changed: bool
    warnings: list[str]
    error: str | None


def take_params(module: AnsibleModule) -> dict[str, Any]:
    """Return a module's options, and leave it none that are secret or long.

    As in ``image_cache_prune``, records of instances may hold passwords, and their names are no secrets. Of Glance's
    options, only the token is one.
    """
    params = dict(module.params)
    module.params["instances"] = module.params["glance"] = None
    module.no_log_values.clear()
    token = (params["glance"] or {}).get("token")
    if token:
        module.no_log_values.add(token)
    return params


def finish_module(module: AnsibleModule, name: str, run: Callable[[], FetchResult]) -> None:
    """Run what a module does, and end it with the result.

    :param name: the module's, under which the result has what was done.
    """
    try:
        result = run()
    except ImageCacheError as exc:
        module.fail_json(msg=str(exc))
    except Exception as exc:  # otherwise its text would be shown as it is, with the token perhaps
        module.fail_json(
            msg=f"The module ended early: {type(exc).__name__}: {exc}. Run it again for this host alone (--limit HOST "
            f"-vvv), and report what it shows."
        )
    for warning in result.warnings:
        module.warn(warning)
    answer: dict[str, Any] = {"changed": result.changed, name: result.done}
    if result.error is not None:
        module.fail_json(msg=result.error, **answer)
    module.exit_json(**answer)
