# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several configuration files and directories give the values that oslo.config finds in them, in the same order."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oslo_config import cfg
from oslo_utils import netutils

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.argspec import settings_from_params
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.nova_conf import read_nova_conf
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.own_address import own_address
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.settings import Settings
from ansible_collections.stackops.nova.tests.support.host import Host, warnings
from ansible_collections.stackops.nova.tests.support.params import params

ORIGINAL_AGE = "remove_unused_original_minimum_age_seconds"
OLD_NAMES = [("DEFAULT", "image_cache_subdirectory_name"), ("DEFAULT", "base_dir_name")]


def nova() -> cfg.ConfigOpts:
    """Register the options as nova does."""
    conf = cfg.ConfigOpts()
    names = [cfg.DeprecatedOpt(name, group=group) for group, name in OLD_NAMES]
    conf.register_opt(cfg.StrOpt("subdirectory_name", default="_base", deprecated_opts=names), group="image_cache")
    for name, default in (
        ("my_ip", netutils.get_my_ipv4()),
        ("host", socket.gethostname()),
        ("state_path", "/var/lib/nova"),
        ("instances_path", "$state_path/instances"),
    ):
        conf.register_opt(cfg.StrOpt(name, default=default))
    return conf


def by_oslo(conf: cfg.ConfigOpts) -> tuple[str, str, str]:
    return conf.instances_path, conf.image_cache.subdirectory_name, conf.host


def by_us(**options: object) -> tuple[str, str, str]:
    settings = ours(**options)
    return settings.instances_path, settings.image_cache_subdirectory_name, settings.host


def ours(**options: object) -> Settings:
    return settings_from_params(params(**options))


@pytest.fixture(scope="module")
def etc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("etc")


lines = st.sampled_from(
    [
        "[DEFAULT]\nhost = a\n",
        "[DEFAULT]\nhost = b-$my_ip\n",
        "[DEFAULT]\nmy_ip = 192.0.2.7\n",
        "[DEFAULT]\nstate_path = /srv/$host\n",
        "[DEFAULT]\ninstances_path = /c/$my_ip\n",
        "[DEFAULT]\nbase_dir_name = d-$host\n",
        "[DEFAULT]\nimage_cache_subdirectory_name = e\n",
        "[image_cache]\nsubdirectory_name = f_$my_ip\n",
        "[DEFAULT]\nunknown_to_nova = $nowhere\n",
    ]
)
texts = st.lists(lines, max_size=3).map("".join)
file_names = st.sampled_from(["00.conf", "1.conf", "10.conf", "a.conf", "B.conf", ".hidden.conf", "x.conf.bak", "conf"])
directories = st.lists(st.dictionaries(file_names, texts, max_size=3), max_size=2)


@given(files=st.lists(texts, min_size=1, max_size=3), folders=directories)
def test_values_from_files_and_directories_are_those_of_oslo_config(
    etc: Path, files: list[str], folders: list[dict[str, str]]
) -> None:
    shutil.rmtree(etc)
    etc.mkdir()
    paths = [etc / f"nova{number}.conf" for number in range(len(files))]
    for path, text in zip(paths, files, strict=True):
        path.write_text(text)
    config_dir = [etc / f"{number}.d" for number in range(len(folders))]
    for folder, contents in zip(config_dir, folders, strict=True):
        folder.mkdir()
        for name, text in contents.items():
            (folder / name).write_text(text)
    conf = nova()
    arguments = [f"--config-file={path}" for path in paths] + [f"--config-dir={folder}" for folder in config_dir]
    conf(arguments, default_config_files=[], default_config_dirs=[])
    assert by_us(config_file=[str(p) for p in paths], config_dir=[str(d) for d in config_dir]) == by_oslo(conf)


BESIDE = ["nova.conf", "nova-compute.conf", "nova.conf.d/a.conf", "nova.conf.d/b.conf", "nova-compute.conf.d/c.conf"]


@given(contents=st.dictionaries(st.sampled_from(BESIDE), texts))
def test_default_files_beside_nova_conf_are_those_that_oslo_config_finds(etc: Path, contents: dict[str, str]) -> None:
    home = etc / ".nova"
    shutil.rmtree(etc)
    home.mkdir(parents=True)
    (home / "nova.conf").write_text("")
    for name, text in contents.items():
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(text)
    conf = nova()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(etc))
        conf([], project="nova", prog="nova-compute")
    assert by_us(config_file=str(home / "nova.conf")) == by_oslo(conf)


def test_file_of_another_name_wins_over_nova_conf_d_beside_it(tmp_path: Path) -> None:
    (tmp_path / ".nova" / "nova.conf.d").mkdir(parents=True)
    (tmp_path / ".nova" / "nova.conf.d" / "a.conf").write_text("[DEFAULT]\nhost = a\nmy_ip = 192.0.2.7\n")
    own = tmp_path / ".nova" / "nova-cpu.conf"
    own.write_text("[DEFAULT]\nhost = own-$my_ip\n")
    conf = nova()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path))
        conf([f"--config-file={own}"], project="nova", prog="nova-compute")
    assert by_us(config_file=[str(own)])[2] == by_oslo(conf)[2] == "own-192.0.2.7"


def test_empty_config_dir_keeps_nova_conf_d_out(tmp_path: Path) -> None:
    (tmp_path / "nova.conf.d").mkdir()
    (tmp_path / "nova.conf.d" / "a.conf").write_text("[DEFAULT]\nhost = a\n")
    (tmp_path / "nova.conf").write_text("[DEFAULT]\nhost = own\n")
    assert by_us(config_file=[str(tmp_path / "nova.conf")], config_dir=[])[2] == "own"


def test_config_dir_alone_is_enough(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text(f"[image_cache]\n{ORIGINAL_AGE} = 7\n")
    assert ours(config_dir=[str(tmp_path)]).remove_unused_original_minimum_age_seconds == 7


def test_my_ip_that_is_not_set_is_the_address_that_nova_finds() -> None:
    assert own_address() == netutils.get_my_ipv4()


@pytest.mark.parametrize("text", ["$base_dir_name", "$image_cache_subdirectory_name", "$image_cache.subdirectory_name"])
def test_name_of_the_cache_resolves_by_every_name_of_the_option(tmp_path: Path, text: str) -> None:
    conf = tmp_path / "nova.conf"
    conf.write_text(f"[DEFAULT]\nhost = {text}\n")
    assert read_nova_conf(str(conf)) == {"host": "_base"}
    conf.write_text(f"[image_cache]\nsubdirectory_name = b\n[DEFAULT]\nhost = {text}\n")
    assert read_nova_conf(str(conf))["host"] == "b"


def test_reference_to_a_given_option_stands_for_what_was_given(tmp_path: Path) -> None:
    conf = tmp_path / "nova.conf"
    conf.write_text("[DEFAULT]\nimage_cache_subdirectory_name = _base_$host\nhost = b\n")
    settings = ours(config_file=str(conf), host="a")
    assert (settings.host, settings.image_cache_subdirectory_name) == ("a", "_base_a")


@pytest.mark.parametrize(
    "text",
    [
        "image_info_filename_pattern = /info/$nowhere/%(image)s",
        "image_info_filename_pattern = everything.json",
        "remove_unused_kernels = maybe",
        "checksum_base_images = maybe",
        "checksum_interval_seconds = 1h",
    ],
)
def test_wrong_value_of_an_option_that_nova_removed_is_ignored_with_a_warning(host: Host, text: str) -> None:
    conf = host.root / "nova.conf"
    conf.write_text(f"[libvirt]\n{text}\n")
    result = host.audit(config_file=[str(conf)])
    [warning] = warnings(result)
    assert f"config_file sets {text.split()[0]}, which is ignored" in warning
    assert ours()._replace(warnings=(), instances_path_source="") == ours(config_file=[str(conf)])._replace(
        warnings=(), instances_path_source=""
    )


@pytest.mark.parametrize("option", ["config_file", "config_dir"])
@pytest.mark.parametrize("kind", ["missing", "wrong kind", "not text"])
def test_unreadable_configuration_is_refused_in_one_clear_sentence(tmp_path: Path, option: str, kind: str) -> None:
    path = tmp_path / "nova.conf"
    if kind == "wrong kind" and option == "config_file":
        path.mkdir()
        reason = "it is a directory, which config_dir takes"
    elif kind == "wrong kind":
        path.write_text("")
        reason = "Not a directory"
    elif kind == "missing":
        reason = "No such file or directory"
    else:
        path = path if option == "config_file" else tmp_path / "d"
        (tmp_path / "d").mkdir()
        (path if option == "config_file" else path / "a.conf").write_bytes(b"\xff")
        reason = "it is not UTF-8 text"
    with pytest.raises(ImageCacheError) as error:
        ours(**{option: [str(path)]})
    assert f"cannot be read: {reason}. Set " in str(error.value)
    assert str(path) in str(error.value)


class TestInstancesPathThatIsNotOnTheHost:
    def test_message_names_the_configuration_that_sets_the_path(self, host: Host) -> None:
        conf = host.root / "nova.conf"
        conf.write_text("[DEFAULT]\nstate_path = /no/such\n")
        with pytest.raises(ImageCacheError) as error:
            host.audit(instances_path=None, config_file=[str(conf)])
        assert "instances_path /no/such/instances does not exist on this host" in str(error.value)
        assert f"({conf}) set it" in str(error.value)
        assert "Set instances_path to the path that this directory has on the host" in str(error.value)

    def test_message_states_that_the_configuration_does_not_set_the_path(self, host: Host) -> None:
        conf = host.root / "nova.conf"
        conf.write_text("")
        with pytest.raises(ImageCacheError, match="do not set it, and it is nova's default"):
            host.audit(instances_path=None, config_file=[str(conf)])

    def test_message_names_the_option_that_was_given(self, host: Host) -> None:
        with pytest.raises(ImageCacheError, match=r"is not a directory: the option instances_path names it\. Set "):
            host.audit(instances_path="/no/such")

    def test_message_names_the_options_that_were_not_given(self, host: Host) -> None:
        with pytest.raises(ImageCacheError, match="neither instances_path nor config_file was given"):
            host.audit(instances_path=None)
