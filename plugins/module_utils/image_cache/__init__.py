# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The image cache of one compute host: what is in it, what uses it, and what can be removed.

Whatever lies here and in ``plugin_utils`` is private to this collection: it may change at any time.

Ansible sends a module as a ZIP archive. Python compiles each module of an archive twice: once only to learn the name of
its file, which it then throws away (https://github.com/python/cpython/issues/141276). On a compute host that is a
third of the time that an audit takes, so the modules of this package are found without it.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from zipimport import ZipImportError, zipimporter


class _ArchiveFinder:
    """Finds the modules of one folder of an archive, and leaves them to the archive's own importer."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._importer = zipimporter(folder)

    def find_spec(self, fullname: str, _target: object = None) -> ModuleSpec | None:
        try:
            is_package = self._importer.is_package(fullname)
        except ZipImportError:
            return None
        path = f"{self._folder}/{fullname.rpartition('.')[2]}"
        file = f"{path}/__init__.py" if is_package else f"{path}.py"
        spec = ModuleSpec(fullname, self._importer, origin=file, is_package=is_package)  # type: ignore[arg-type]
        spec.has_location = True
        if is_package:
            spec.submodule_search_locations = [path]
            sys.path_importer_cache[path] = _ArchiveFinder(path)
        return spec


_own_importer: object = __spec__.loader
if isinstance(_own_importer, zipimporter):
    sys.path_importer_cache[__path__[0]] = _ArchiveFinder(__path__[0])
