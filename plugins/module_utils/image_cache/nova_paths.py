# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Paths as nova writes them, and where they lead on this host.

A nova in a container (Kolla, TripleO, openstack-helm) writes the paths that it sees there into disks and
domain XML. On the host, the same directory is a volume under another path.
"""

from __future__ import annotations

import errno
import os
from typing import Iterable, Sequence

__all__ = ["instances_path_of", "is_in_instance_directory", "path_on_host"]

_DISK_PREFIX = "disk"
_NO_SUCH_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


def path_on_host(path: str, instances_path: str, nova_instances_paths: Iterable[str]) -> str:
    """Find where a path that nova wrote leads on this host.

    :param path: an absolute path.
    :param instances_path: nova's ``instances_path`` as it is on this host.
    :param nova_instances_paths: the same directory as nova names it, where that differs.
    :return: the path here. One that exists here as it stands, outside of ``instances_path``, is returned
        unchanged: another nova's instances may lie there.
    """
    for nova_path in nova_instances_paths:
        if path.startswith(nova_path + "/"):
            here = instances_path + path[len(nova_path) :]
            if _exists(path):
                return here if _is_same(path, here) else path
            is_another = os.path.isdir(nova_path) and not _is_same(nova_path, instances_path)
            return path if is_another and not _exists(here) else here
    return path


def instances_path_of(disk: str, directories: Sequence[str]) -> str:
    """Return nova's ``instances_path`` as the path of an instance's disk shows it.

    :param disk: the path of a disk, as the domain XML names it.
    :param directories: the names that the directories of its instance may have.
    :return: the directory above the instance's; empty where the disk is not in one of these directories.
    """
    directory, name = os.path.split(disk)
    parent, directory_name = os.path.split(directory)
    return parent.rstrip("/") if name.startswith(_DISK_PREFIX) and directory_name in directories else ""


def is_in_instance_directory(path: str, instances_path: str) -> bool:
    """Tell whether a disk is one of an instance directory, and so found without a source of instances."""
    directory, name = os.path.split(path)
    return name.startswith(_DISK_PREFIX) and os.path.dirname(directory) == instances_path


def _exists(path: str) -> bool:
    """Tell whether there is such a file, or may be one that this user cannot see."""
    try:
        os.lstat(path)
    except OSError as exc:
        return exc.errno not in _NO_SUCH_FILE
    return True


def _is_same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False
