# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An option given wins over nova.conf, which wins over nova's default; an invalid value is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from oslo_config import types

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.nova_conf import read_nova_conf
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.own_address import own_address
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.settings import Settings, make_settings

ICEHOUSE = """\
[DEFAULT]
state_path = /srv/nova
instances_path = $state_path/guests
image_cache_subdirectory_name = bases
remove_unused_base_images = False
remove_unused_original_minimum_age_seconds = 7200
host = compute-1.example.org

[libvirt]
image_info_filename_pattern = $state_path/info/%(image)s.json
remove_unused_kernels = yes
remove_unused_resized_minimum_age_seconds = 600
"""

TODAY = """\
[DEFAULT]
state_path = /srv/nova
instances_path = $state_path/guests
host = compute-1.example.org

[image_cache]
subdirectory_name = bases
remove_unused_base_images = False
remove_unused_original_minimum_age_seconds = 7200
remove_unused_resized_minimum_age_seconds = 600
"""

# Unless an option is given for it.
DEFAULTS = Settings(
    instances_path="/var/lib/nova/instances",
    image_cache_subdirectory_name="_base",
    image_info_filename_pattern="/var/lib/nova/instances/_base/%(image)s.info",
    remove_unused_base_images=True,
    remove_unused_original_minimum_age_seconds=86400,
    remove_unused_resized_minimum_age_seconds=3600,
    remove_unused_kernels=False,
    host="this-host",
    protect_orphans=True,
    keep_images=frozenset(),
    glance_images=None,
    max_used_space=None,
    min_free_space=None,
    max_removals=None,
    max_removal_percent=None,
)

# What both files say.
CONFIGURED = DEFAULTS._replace(
    instances_path="/srv/nova/guests",
    image_cache_subdirectory_name="bases",
    image_info_filename_pattern="/srv/nova/guests/bases/%(image)s.info",
    remove_unused_base_images=False,
    remove_unused_original_minimum_age_seconds=7200,
    remove_unused_resized_minimum_age_seconds=600,
    host="compute-1.example.org",
)


def settings(**given: Any) -> Settings:
    """The settings without a nova.conf."""
    return make_settings(given, {}, hostname="this-host")


def configured(path: Path, text: str, **given: Any) -> Settings:
    """The settings beside a nova.conf with this text."""
    path.write_text(text)
    return make_settings(given, read_nova_conf(str(path)), hostname="this-host")


def understood(option: str, text: str) -> Any:
    """What a text in nova.conf means for an option; None where it is refused."""
    try:
        return getattr(make_settings({}, {option: text}, hostname="this-host"), option)
    except ImageCacheError:
        return None


def by_oslo(option_type: types.ConfigType, text: str) -> Any:
    """The same by the type that nova gives the option."""
    try:
        return option_type(text)
    except ValueError:
        return None


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    return tmp_path / "nova.conf"


class TestSourcesOfAValue:
    def test_value_that_nothing_sets_is_novas_default(self) -> None:
        assert settings() == DEFAULTS

    def test_empty_file_changes_nothing(self, conf: Path) -> None:
        assert configured(conf, "") == DEFAULTS

    def test_option_that_is_none_was_not_given(self) -> None:
        assert settings(**dict.fromkeys(DEFAULTS._fields), orphans=None) == DEFAULTS

    def test_names_of_todays_nova_are_known(self, conf: Path) -> None:
        assert configured(conf, TODAY) == CONFIGURED

    def test_names_of_icehouse_are_known(self, conf: Path) -> None:
        assert configured(conf, ICEHOUSE) == CONFIGURED._replace(
            image_info_filename_pattern="/srv/nova/info/%(image)s.json", remove_unused_kernels=True
        )

    @pytest.mark.parametrize("text", [ICEHOUSE, TODAY], ids=["Icehouse", "today"])
    def test_option_comes_before_the_file(self, conf: Path, text: str) -> None:
        given = {
            "instances_path": "/given",
            "image_cache_subdirectory_name": "given_base",
            "image_info_filename_pattern": "/given/info/%(image)s.txt",
            "remove_unused_base_images": True,
            "remove_unused_original_minimum_age_seconds": 0,
            "remove_unused_resized_minimum_age_seconds": 1,
            "remove_unused_kernels": False,
            "host": "given-host",
        }
        in_nova = {"nova_instances_paths": ("/srv/nova/guests",)}
        assert configured(conf, text, **given) == DEFAULTS._replace(**given, **in_nova)

    def test_info_pattern_follows_a_given_path(self, conf: Path) -> None:
        made = configured(conf, "[DEFAULT]\ninstances_path = /srv/nova\n", image_cache_subdirectory_name="bases")
        assert made.image_info_filename_pattern == "/srv/nova/bases/%(image)s.info"

    def test_options_of_this_collection_are_not_read_from_the_file(self, conf: Path) -> None:
        assert configured(conf, "[DEFAULT]\nmax_removals = 1\nkeep_images = a\norphans = ignore\n") == DEFAULTS

    def test_options_of_this_collection_are_read_from_the_parameters(self) -> None:
        as_given = {
            "shared_storage": False,
            "max_used_space": 0,
            "min_free_space": 1 << 40,
            "max_removals": 0,
            "max_removal_percent": 100,
        }
        assert settings(
            orphans="ignore", keep_images=["a", "b", "a"], keep_files=["c", "c"], glance_images=["a", "b"], **as_given
        ) == DEFAULTS._replace(
            protect_orphans=False,
            keep_images=frozenset({"a", "b"}),
            keep_files=frozenset({"c"}),
            glance_images=frozenset({"a", "b"}),
            **as_given,
        )


class TestPaths:
    def test_paths_follow_from_the_two_options(self) -> None:
        made = settings(instances_path="/srv/nova", image_cache_subdirectory_name="bases")
        assert (made.cache_path, made.locks_path) == ("/srv/nova/bases", "/srv/nova/locks")

    @pytest.mark.parametrize("path", ["/srv/nova/", "/srv//nova", "/srv/./nova"])
    def test_instances_path_is_normalized(self, path: str) -> None:
        assert settings(instances_path=path).instances_path == "/srv/nova"

    @pytest.mark.parametrize(
        "path", ["", "instances", "./instances", "~/instances", "/a\0b", "/srv/link/../nova"], ids=repr
    )
    def test_instances_path_that_is_not_absolute_is_refused(self, path: str) -> None:
        with pytest.raises(ImageCacheError, match="instances_path must be an absolute path"):
            settings(instances_path=path)

    @pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "/", "/_base", "_base/", "a\0b", "locks"], ids=repr)
    def test_cache_name_that_is_not_a_folder_of_its_own_is_refused(self, name: str) -> None:
        with pytest.raises(ImageCacheError, match="image_cache_subdirectory_name must be the name of a folder"):
            settings(image_cache_subdirectory_name=name)

    @pytest.mark.parametrize("name", ["_base_compute-1", "..base", "base.", " base", "bäse"])
    def test_cache_name_may_be_any_other(self, name: str) -> None:
        assert settings(image_cache_subdirectory_name=name).cache_path == f"/var/lib/nova/instances/{name}"

    @pytest.mark.parametrize("option", ["instances_path", "image_cache_subdirectory_name"])
    def test_message_shows_a_value_on_one_line(self, option: str) -> None:
        with pytest.raises(ImageCacheError) as error:
            settings(**{option: "a/\nb\udcff"})
        assert "a/\\nb\\xff" in str(error.value)

    def test_cache_name_with_my_ip_is_that_of_the_host(self, conf: Path) -> None:
        text = "[DEFAULT]\nimage_cache_subdirectory_name = _base_$my_ip\n"
        assert configured(conf, text + "my_ip = 192.0.2.7\n").image_cache_subdirectory_name == "_base_192.0.2.7"
        assert configured(conf, text).image_cache_subdirectory_name == f"_base_{own_address()}"


class TestInfoPattern:
    @pytest.mark.parametrize(
        ("pattern", "path"),
        [
            ("/info/%(image)s.info", "/info/%(image)s.info"),
            ("/info/info-%(image)s", "/info/info-%(image)s"),
            ("$instances_path/info/%(image)s.json", "/srv/nova/info/%(image)s.json"),
            ("${instances_path}_info/%(image)s.json", "/srv/nova_info/%(image)s.json"),
            ("$instances_path/../info/%(image)s.json", "/srv/info/%(image)s.json"),
            ("$instances_path/$image_cache_subdirectory_name/%(image)s.info", "/srv/nova/_base/%(image)s.info"),
        ],
    )
    def test_pattern_names_one_file_for_each_image(self, pattern: str, path: str) -> None:
        made = settings(instances_path="/srv/nova", image_info_filename_pattern=pattern)
        assert made.image_info_filename_pattern == path

    @pytest.mark.parametrize(
        "pattern",
        [
            pytest.param("", id="empty"),
            pytest.param("/info/all.json", id="one file for all images"),
            pytest.param("/info/%(image)s/info", id="a folder for each image"),
            pytest.param("/info/%(image)s-%(image)s.info", id="image twice"),
            pytest.param("/info/%(image)s.%(host)s", id="another reference"),
            pytest.param("/info%(image)s/%(image)s.info", id="image in the folder too"),
            pytest.param("/info/%(image)d.info", id="not as a string"),
            pytest.param("/info/100%/%(image)s.info", id="a percent sign"),
            pytest.param("/info/a\0%(image)s.info", id="NUL"),
        ],
    )
    def test_pattern_that_does_not_name_one_file_for_each_image_is_refused(self, pattern: str) -> None:
        with pytest.raises(ImageCacheError, match="must name one file for each image"):
            settings(image_info_filename_pattern=pattern)

    @pytest.mark.parametrize(
        "pattern", ["%(image)s.info", "info/%(image)s.info", "$elsewhere/%(image)s.info", "/$$/%(image)s.x"]
    )
    def test_pattern_that_is_not_an_absolute_path_is_refused(self, pattern: str) -> None:
        with pytest.raises(ImageCacheError, match="image_info_filename_pattern must give an absolute path"):
            settings(image_info_filename_pattern=pattern)

    @pytest.mark.parametrize(
        "name",
        [
            "%(image)s",
            "%(image)s_sm",
            "%(image)s_1",
            "%(image)s.part",
            "%(image)s.converted",
            "%(image)s0",
            "%(image)s_1.part",
            "../locks/nova-%(image)s",
        ],
    )
    def test_pattern_that_could_name_a_base_or_lock_file_is_refused(self, name: str) -> None:
        with pytest.raises(ImageCacheError, match="one file for each image, which is no cache or lock file"):
            settings(image_info_filename_pattern=f"$instances_path/$image_cache_subdirectory_name/{name}")


class TestValuesInTheFile:
    @pytest.mark.parametrize("word", ["true", "True", "TRUE", "1", "on", "yes", '"yes"'])
    def test_word_for_yes_is_true(self, conf: Path, word: str) -> None:
        assert configured(conf, f"[libvirt]\nremove_unused_kernels = {word}\n").remove_unused_kernels is True

    @pytest.mark.parametrize("word", ["false", "False", "0", "off", "no", "'no'"])
    def test_word_for_no_is_false(self, conf: Path, word: str) -> None:
        text = f"[image_cache]\nremove_unused_base_images = {word}\n"
        assert configured(conf, text).remove_unused_base_images is False

    @pytest.mark.parametrize("word", ["", "maybe", "2", "y", "none"])
    def test_word_that_is_neither_yes_nor_no_is_refused(self, conf: Path, word: str) -> None:
        with pytest.raises(ImageCacheError, match=f"remove_unused_base_images to '{word}', which is neither"):
            configured(conf, f"[image_cache]\nremove_unused_base_images = {word}\n")

    @pytest.mark.parametrize("number", ["", "1h", "1.5", "0x10", "86400 # a day"])
    def test_text_that_is_no_number_is_refused(self, conf: Path, number: str) -> None:
        with pytest.raises(ImageCacheError, match=f"minimum_age_seconds to '{number}', which is not a whole number"):
            configured(conf, f"[image_cache]\nremove_unused_original_minimum_age_seconds = {number}\n")

    @given(st.one_of(st.text(), st.sampled_from(["TRUE", "No", " 1", "on\n"])))
    def test_any_word_is_the_truth_value_that_nova_reads(self, word: str) -> None:
        assert understood("remove_unused_base_images", word) == by_oslo(types.Boolean(), word)

    @given(st.one_of(st.text(min_size=1), st.integers().map(str), st.sampled_from(["1_000", " 7 ", "+1", "٣", "007"])))
    def test_any_number_is_the_one_that_nova_reads(self, number: str) -> None:
        assume(number.strip() and not number.strip().startswith("-") and len(number) < 19)
        option = "remove_unused_original_minimum_age_seconds"
        assert understood(option, number) == by_oslo(types.Integer(), number)

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("checksum_base_images", "perhaps"),
            ("checksum_interval_seconds", "an hour"),
            ("remove_unused_kernels", "perhaps"),
            ("image_info_filename_pattern", "/info/all.json"),
        ],
    )
    def test_wrong_value_of_an_option_that_todays_nova_does_not_have_is_ignored_with_a_warning(
        self, conf: Path, option: str, value: str
    ) -> None:
        found = configured(conf, f"[libvirt]\n{option} = {value}\n")
        [warning] = found.warnings
        assert warning.startswith(f"config_file sets {option}, which is ignored: ")
        assert warning.endswith(f"Today's nova has no such option. Remove {option} from that file.")
        assert found._replace(warnings=()) == DEFAULTS

    def test_wrong_value_that_an_option_replaces_is_no_error(self, conf: Path) -> None:
        text = "[image_cache]\nremove_unused_original_minimum_age_seconds = 1h\n"
        made = configured(conf, text, remove_unused_original_minimum_age_seconds=3600)
        assert made.remove_unused_original_minimum_age_seconds == 3600


@pytest.mark.parametrize(
    "option",
    [
        "remove_unused_original_minimum_age_seconds",
        "remove_unused_resized_minimum_age_seconds",
        "max_used_space",
        "min_free_space",
        "max_removals",
        "max_removal_percent",
    ],
)
def test_negative_limit_is_refused(option: str) -> None:
    with pytest.raises(ImageCacheError, match=f"{option} must not be negative; it is -1"):
        settings(**{option: -1})


@pytest.mark.parametrize(
    "option",
    ["remove_unused_original_minimum_age_seconds", "checksum_interval_seconds", "checksum_time_budget_seconds"],
)
@pytest.mark.parametrize("value", [2**63, 10**400, 10**5000], ids=["64 bits", "no float", "no text"])
def test_limit_of_more_than_64_bits_is_refused(option: str, value: int) -> None:
    with pytest.raises(ImageCacheError, match=f"{option} must be at most 9223372036854775807"):
        settings(**{option: value})
    with pytest.raises(ImageCacheError, match=f"{option} must not be negative"):
        settings(**{option: -value})


def test_negative_age_in_the_file_is_refused(conf: Path) -> None:
    with pytest.raises(ImageCacheError, match="must not be negative"):
        configured(conf, "[image_cache]\nremove_unused_resized_minimum_age_seconds = -1\n")
