# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where nova's directory does not exist, the message names the options for the deployment that this host has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.argspec import argument_spec
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.layouts import (
    LAYOUTS,
    Layout,
    options_of,
    remedy_by_layout,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.settings import make_settings
from ansible_collections.stackops.nova.tests.support.run_module import collections_path

DEFAULT = make_settings({}, {}, "host").instances_path
WITH_PATHS_OF_THEIR_OWN = [layout for layout in LAYOUTS if layout.instances_path != DEFAULT]
# A host of Kolla's in a namespace: the paths of this machine are unchanged.
ON_KOLLA_HOST = """\
mount -t tmpfs tmpfs /var/lib
mkdir -p /var/lib/docker/volumes/nova_compute/_data/instances /var/lib/docker/volumes/nova_libvirt_qemu/_data
exec "$@"
"""
AUDIT = """\
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.audit import audit
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.tests.support.params import params, run_command
try:
    audit(params(), 0.0, run_command)
except ImageCacheError as exc:
    print(exc)
"""


def deploy(layout: Layout, root: Path) -> None:
    """Make the directories and files of a deployment on a host with this root."""
    for option, path in options_of(layout).items():
        own = root / path[1:]
        (own if option != "config_file" else own.parent).mkdir(parents=True, exist_ok=True)
        if option == "config_file":
            own.touch()


def options_in(remedy: str) -> dict[str, str]:
    return dict(re.findall(r"(\w+): (\S+?)(?=[, ])", remedy))


def test_options_of_every_layout_are_the_modules() -> None:
    for layout in LAYOUTS:
        assert options_of(layout).keys() <= argument_spec().keys()


def test_layout_with_novas_own_paths_needs_its_configuration_alone() -> None:
    for layout in LAYOUTS:
        if layout not in WITH_PATHS_OF_THEIR_OWN:
            assert options_of(layout).keys() <= {"config_file", "config_dir"}


@pytest.mark.parametrize("layout", WITH_PATHS_OF_THEIR_OWN, ids=lambda layout: layout.name)
def test_layout_of_this_host_is_named_with_its_options(layout: Layout, tmp_path: Path) -> None:
    deploy(layout, tmp_path)
    remedy = remedy_by_layout(str(tmp_path))
    assert f"the directories of {layout.name}." in remedy
    assert options_in(remedy) == options_of(layout)


def test_both_layouts_of_a_host_are_named(tmp_path: Path) -> None:
    for layout in WITH_PATHS_OF_THEIR_OWN[:2]:
        deploy(layout, tmp_path)
    remedy = remedy_by_layout(str(tmp_path))
    assert [layout.name for layout in LAYOUTS if f"the directories of {layout.name}." in remedy] == [
        layout.name for layout in WITH_PATHS_OF_THEIR_OWN[:2]
    ]


def test_option_whose_path_does_not_exist_is_left_out(tmp_path: Path) -> None:
    kolla = WITH_PATHS_OF_THEIR_OWN[0]
    (tmp_path / kolla.instances_path[1:]).mkdir(parents=True)
    assert options_in(remedy_by_layout(str(tmp_path))) == {"instances_path": kolla.instances_path}


def test_host_without_any_layout_gets_no_advice_about_one(tmp_path: Path) -> None:
    (tmp_path / "var/lib/nova/instances").mkdir(parents=True)
    assert remedy_by_layout(str(tmp_path)) == ""


def test_audit_of_a_kolla_host_names_the_options_to_set() -> None:
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-euc", ON_KOLLA_HOST, "sh", sys.executable, "-c", AUDIT],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": collections_path()},
        text=True,
    )
    assert done.stdout == (
        "instances_path /var/lib/nova/instances does not exist on this host, or is not a directory: it is nova's "
        "default, because neither instances_path nor config_file was given. This host has the directories of Kolla "
        "with Docker. Set instances_path: /var/lib/docker/volumes/nova_compute/_data/instances, libvirt_config_path: "
        "/var/lib/docker/volumes/nova_libvirt_qemu/_data (in the role, with image_cache_ before each name).\n"
    )
