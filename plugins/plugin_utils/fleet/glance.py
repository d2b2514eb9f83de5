# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Glance as the controller sees it: which images it lists, and a token with which hosts may fetch them.

A token never leaves the process that fetches with it, but for the host: it is in no result, fact or message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.text import printable

from .cloud import HIDDEN_IMAGES, IMAGES, REQUEST_SECONDS, cloud_arguments, connect, read_list, reason_of
from .options import GlanceOptions

__all__ = [
    "GlanceAccess",
    "GlanceList",
    "list_images",
    "log_in",
    "module_option",
    "once_per_api",
    "redact",
    "run_with_token",
]

_NOT_RUN = "The module could not be run. Run the play again with -vvv, and see why:"
_REDACTED = "(the token)"
_ADMIN = "admin"
_VERSION = re.compile(r"/v\d+(\.\d+)?/*$")
_Options = TypeVar("_Options", bound=GlanceOptions)
_Answer = TypeVar("_Answer")
# What keystoneauth gives for a cloud without authentication.
_NO_TOKEN = "notused"


@dataclass(frozen=True)
class GlanceAccess:
    """How hosts reach Glance.

    :param endpoint: its URL, without the version.
    :param token: the token; None for a cloud without authentication.
    """

    endpoint: str
    token: str | None = field(repr=False)


@dataclass(frozen=True)
class GlanceList:
    """What Glance lists of one cloud and region.

    :param images: its images as the API has them, hidden ones included.
    :param endpoint: its URL for hosts, without the version.
    :param problem: why the rest is empty, and what to do; empty if nothing is wrong.
    """

    images: tuple[Any, ...] = ()
    endpoint: str = ""
    problem: str = ""


def once_per_api(ask: Callable[[_Options], _Answer]) -> Callable[[_Options], _Answer]:
    """Make the function that asks each API once, and gives each host that asks it the same answer."""
    answers: dict[tuple[str, str, str, bool], _Answer] = {}

    def asked_once(options: _Options) -> _Answer:
        if options.api not in answers:
            answers[options.api] = ask(options)
        return answers[options.api]

    return asked_once


def list_images(asked: GlanceOptions, request_seconds: float = REQUEST_SECONDS) -> GlanceList:
    """Ask Glance which images there are, and whether hosts could fetch them.

    :param asked: which cloud and region, whose endpoint, and which tokens hosts may get.
    :param request_seconds: the time limit of each request, unless ``clouds.yaml`` has an ``api_timeout``.
    :return: the list; whatever goes wrong is its ``problem``.
    """
    try:
        connection = _connect(asked, request_seconds)
        access = _access(connection, asked)
        images = [image for one in (IMAGES, HIDDEN_IMAGES) for image in read_list(connection, one)]
    except ImageCacheError as exc:
        return GlanceList(problem=_sentence(exc, asked))
    return GlanceList(tuple(images), access.endpoint)


def log_in(asked: GlanceOptions, request_seconds: float = REQUEST_SECONDS) -> GlanceAccess:
    """Get a new token for one host.

    :param asked: which cloud and region, whose endpoint, and which tokens hosts may get.
    :param request_seconds: as for :func:`list_images`.
    :raises ImageCacheError: there is none, or none that a host may get.
    """
    try:
        return _access(_connect(asked, request_seconds), asked)
    except ImageCacheError as exc:
        raise ImageCacheError(_sentence(exc, asked)) from None


def run_with_token(
    asked: GlanceOptions, run: Callable[[Mapping[str, Any]], dict[str, Any]], request_seconds: float = REQUEST_SECONDS
) -> dict[str, Any]:
    """Have a module fetch from Glance, with a new token that nobody else sees.

    :param asked: as for :func:`log_in`.
    :param run: runs the module with the option ``glance`` as well.
    :param request_seconds: as for :func:`list_images`.
    :return: its result without the token; a failed one where there is no token, or it could not be run.
    """
    token = None
    try:
        access = log_in(asked, request_seconds)
        token = access.token
        result = run(module_option(asked, access))
    except ImageCacheError as exc:
        return {"failed": True, "msg": str(exc)}
    except Exception as exc:  # what it says, and its traceback, may have the module's arguments in it
        return {"failed": True, "msg": f"{_NOT_RUN} {redact(str(exc), token)}"}
    redacted: dict[str, Any] = redact(result, token)
    return redacted


def module_option(asked: GlanceOptions, access: GlanceAccess) -> dict[str, Any]:
    """Return the modules' option ``glance``, as options."""
    token = {} if access.token is None else {"token": access.token}
    return {"glance": {**asked.glance, "endpoint": access.endpoint, **token}}


def redact(value: Any, token: str | None) -> Any:
    """Return a result without the token, wherever a module, Python or a server may have repeated it."""
    if not token:
        return value
    if isinstance(value, str):
        return value.replace(token, _REDACTED)
    if isinstance(value, Mapping):
        return {redact(key, token): redact(inner, token) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(inner, token) for inner in value]
    return value


def _connect(asked: GlanceOptions, request_seconds: float) -> Any:
    return connect(asked.cloud or None, asked.region or None, request_seconds)


def _access(connection: Any, asked: GlanceOptions) -> GlanceAccess:
    token = None
    try:
        auth = connection.session.auth
        token = connection.session.get_token()
        roles = auth.get_access(connection.session).role_names if hasattr(auth, "get_access") else None
        endpoint = connection.image.get_endpoint(**({"interface": asked.interface} if asked.interface else {}))
    except Exception as exc:
        raise ImageCacheError(f"it cannot be used: {redact(reason_of(exc), token)}") from None
    if not endpoint:
        raise ImageCacheError("the catalogue has no endpoint of it")
    if token in (None, _NO_TOKEN):
        return GlanceAccess(_VERSION.sub("", endpoint.rstrip("/")), None)
    if not asked.allow_admin_token and (roles is None or any(role.lower() == _ADMIN for role in roles)):
        why = "the roles of its token are unknown" if roles is None else "its token has the role admin"
        raise ImageCacheError(
            f"{why}, and every compute host would get it. Use an application credential that can read images and "
            f"nothing else, or set image_cache_allow_admin_token: true"
        )
    return GlanceAccess(_VERSION.sub("", endpoint.rstrip("/")), token)


def _sentence(exc: ImageCacheError, asked: GlanceOptions) -> str:
    cloud = printable(asked.cloud) if asked.cloud else "the default cloud"
    region = f", region {printable(asked.region)}" if asked.region else ""
    return (
        f"Nothing was fetched from Glance of {cloud}{region}: {exc}. See that "
        f"`openstack{cloud_arguments(asked.cloud, asked.region)} image list` works on the controller."
    )
