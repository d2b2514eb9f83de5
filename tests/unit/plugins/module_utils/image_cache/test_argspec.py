# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules' options mean: which source a path in a message has, and which options list instances."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.argspec import (
    has_instance_source,
    settings_from_params,
)
from ansible_collections.stackops.nova.tests.support.params import params


class TestSourceOfInstancesPath:
    def test_option_is_the_source_whatever_the_files_say(self, tmp_path: Path) -> None:
        conf = tmp_path / "nova.conf"
        conf.write_text("[DEFAULT]\ninstances_path = /of/the/file\n")
        settings = settings_from_params(params(instances_path="/of/the/option", config_file=[str(conf)]))
        assert settings.instances_path == "/of/the/option"
        assert settings.instances_path_source == "the option instances_path names it"

    def test_source_without_option_and_file_is_novas_default(self) -> None:
        settings = settings_from_params(params())
        assert settings.instances_path == "/var/lib/nova/instances"
        assert settings.instances_path_source.startswith("it is nova's default, because neither instances_path")

    @pytest.mark.parametrize(
        ("text", "path", "how"),
        [
            ("instances_path = /of/the/file", "/of/the/file", "set it, perhaps for a container"),
            ("state_path = /of/the", "/of/the/instances", "set it, perhaps for a container"),
            ("host = a", "/var/lib/nova/instances", "do not set it, and it is nova's default, perhaps for a container"),
        ],
    )
    @pytest.mark.parametrize("option", ["config_file", "config_dir"])
    def test_files_are_named_with_what_is_in_them(
        self, tmp_path: Path, option: str, text: str, path: str, how: str
    ) -> None:
        conf = tmp_path / "nova.conf"
        conf.write_text(f"[DEFAULT]\n{text}\n")
        settings = settings_from_params(params(**{option: [str(conf if option == "config_file" else tmp_path)]}))
        assert settings.instances_path == path
        assert settings.instances_path_source == f"the files of config_file and config_dir ({conf}) {how}"


@pytest.mark.parametrize(
    ("instances", "libvirt", "has_source"), [(None, False, False), (None, True, True), ([], False, True)]
)
def test_list_of_instances_is_a_source_though_empty(
    instances: list[object] | None, libvirt: bool, has_source: bool
) -> None:
    assert has_instance_source(params(instances=instances, libvirt=libvirt)) is has_source
