# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A nova.conf says here what it says to nova, which reads it with oslo.config: the two answers are compared."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oslo_config import cfg, iniparser

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.nova_conf import read_nova_conf
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.own_address import own_address
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.settings import OBSOLETE_OPTIONS
from ansible_collections.stackops.nova.tests.support.processes import make_socket

# The options as nova registers them: our name, their group and name today, and their earlier ones.
NOVA_OPTIONS = {
    "instances_path": ("DEFAULT", "instances_path", []),
    "image_cache_subdirectory_name": (
        "image_cache",
        "subdirectory_name",
        [("DEFAULT", "image_cache_subdirectory_name"), ("DEFAULT", "base_dir_name")],
    ),
    "image_info_filename_pattern": (
        "libvirt",
        "image_info_filename_pattern",
        [("DEFAULT", "image_info_filename_pattern")],
    ),
    "remove_unused_base_images": (
        "image_cache",
        "remove_unused_base_images",
        [("libvirt", "remove_unused_base_images"), ("DEFAULT", "remove_unused_base_images")],
    ),
    "remove_unused_original_minimum_age_seconds": (
        "image_cache",
        "remove_unused_original_minimum_age_seconds",
        [
            ("libvirt", "remove_unused_original_minimum_age_seconds"),
            ("DEFAULT", "remove_unused_original_minimum_age_seconds"),
        ],
    ),
    "remove_unused_resized_minimum_age_seconds": (
        "image_cache",
        "remove_unused_resized_minimum_age_seconds",
        [
            ("libvirt", "remove_unused_resized_minimum_age_seconds"),
            ("DEFAULT", "remove_unused_resized_minimum_age_seconds"),
        ],
    ),
    "remove_unused_kernels": ("libvirt", "remove_unused_kernels", [("DEFAULT", "remove_unused_kernels")]),
    "host": ("DEFAULT", "host", []),
}
NOVA_DEFAULTS = {"instances_path": "$state_path/instances", "state_path": "/var/lib/nova"}

# Options of other parts of nova, to be referred to.
OTHERS = ("my_ip", "zone")
UNSET = "<unset>"

# oslo.config warns of each old name.
logging.getLogger("oslo_config").setLevel(logging.ERROR)


def ours(path: Path) -> dict[str, str] | None:
    """What we read; None where we refuse."""
    try:
        return read_nova_conf(str(path))
    except ImageCacheError:
        return None


def theirs(path: Path) -> dict[str, str] | None:
    """What oslo.config reads, as far as the file sets it; None where it refuses, or where something unset is used."""
    conf = cfg.ConfigOpts()
    try:
        conf([], default_config_files=[str(path)], default_config_dirs=[])
        register_options(conf, path)
        values = {}
        for option, (group, name, _earlier) in NOVA_OPTIONS.items():
            place = None if group == "DEFAULT" else group
            try:
                if conf.get_location(name, place).location is cfg.Locations.user:
                    value = conf[name] if place is None else conf[place][name]
                    if option not in OBSOLETE_OPTIONS or UNSET not in value:
                        values[option] = value
            except (cfg.Error, RecursionError):
                if option not in OBSOLETE_OPTIONS:
                    raise
    except (cfg.Error, RecursionError):
        return None
    return None if any(UNSET in value for value in values.values()) else values


def register_options(conf: cfg.ConfigOpts, path: Path) -> None:
    def register(group: str, name: str, default: str, earlier: list[tuple[str, str]]) -> None:
        deprecated = [cfg.DeprecatedOpt(old_name, group=old_group) for old_group, old_name in earlier]
        option = cfg.StrOpt(name, default=default, deprecated_opts=deprecated)
        conf.register_opt(option, group=None if group == "DEFAULT" else group)

    register("DEFAULT", "state_path", NOVA_DEFAULTS["state_path"], [])
    for group, name, earlier in NOVA_OPTIONS.values():
        register(group, name, NOVA_DEFAULTS.get(name, UNSET), earlier)
    for group, name in Places.in_file(path):
        if name in OTHERS:
            register(group, name, UNSET, [])


class Places(iniparser.BaseParser):
    """Which options a file sets, and in which groups."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[tuple[str, str]] = set()
        self.group = ""

    @classmethod
    def in_file(cls, path: Path) -> set[tuple[str, str]]:
        places = cls()
        with path.open() as lines:
            places.parse(lines)
        return places.found

    def new_section(self, section: str) -> None:
        self.group = section if section == "DEFAULT" else section.lower()

    def assignment(self, key: str, _value: list[str]) -> None:
        self.found.add((self.group, key))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("etc") / "nova.conf"


class TestSyntax:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            pytest.param("", {}, id="empty file"),
            pytest.param("# nothing\n; here\n\n[DEFAULT]\n", {}, id="no option"),
            pytest.param("[DEFAULT]\nhost = a", {"host": "a"}, id="no last newline"),
            pytest.param("[DEFAULT]\r\nhost = a\r\n", {"host": "a"}, id="CR LF"),
            pytest.param("[DEFAULT]\nhost=\n", {"host": ""}, id="empty value"),
            pytest.param("[DEFAULT]\nhost=a=b:c\n", {"host": "a=b:c"}, id="equals sign first"),
            pytest.param("[DEFAULT]\nhost : a=b\n", {"host": "a=b"}, id="colon first"),
            pytest.param("[DEFAULT]\nhost = a # b\n", {"host": "a # b"}, id="a comment has its own line"),
            pytest.param("[DEFAULT]\nhost = a\nhost = b\n", {"host": "b"}, id="the last one counts"),
            pytest.param("[DEFAULT]\nhost=a\n[x]\nhost=b\n[DEFAULT]\nzone=c\n", {"host": "a"}, id="section twice"),
            pytest.param("[DEFAULT]\nhost = a\n  b\n\tc  \n", {"host": "a\nb\nc"}, id="continuation"),
            pytest.param("[DEFAULT]\nhost =\n  a\n", {"host": "\na"}, id="continuation of nothing"),
            pytest.param("[DEFAULT]\nhost = ' a '\n", {"host": " a "}, id="single quotes"),
            pytest.param('[DEFAULT]\nhost = "a"\n', {"host": "a"}, id="double quotes"),
            pytest.param("[DEFAULT]\nhost = 'a\"\n", {"host": "'a\""}, id="quotes that do not match"),
            pytest.param("[DEFAULT]\nhost = '\n", {"host": ""}, id="one quote"),
            pytest.param(
                "[Image_Cache]\nsubdirectory_name=a\n", {"image_cache_subdirectory_name": "a"}, id="group case"
            ),
            pytest.param("[DEFAULT]\nHost = a\n[default]\nhost = b\n", {}, id="option case, and DEFAULT's"),
            pytest.param(
                "[DEFAULT]\nhost = a\x0bb\x85c\u2028d\n", {"host": "a\x0bb\x85c\u2028d"}, id="no line ends there"
            ),
        ],
    )
    def test_file_is_read_as_oslo_config_reads_it(self, path: Path, text: str, found: dict[str, str]) -> None:
        path.write_text(text, newline="")
        assert ours(path) == theirs(path) == found

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            pytest.param("host = a\n", "line 1 sets an option before the first section", id="no section"),
            pytest.param("[DEFAULT\n", "line 1 is not a section header", id="open section"),
            pytest.param("[]\n", "line 1 is not a section header", id="section without name"),
            pytest.param("[DEFAULT]\nhost\n", "line 2 is not an assignment", id="no value"),
            pytest.param("[DEFAULT]\n = a\n", "line 2 continues a value, but there is none", id="indented"),
            pytest.param("[DEFAULT]\n= a\n", "line 2 is not an assignment", id="no name"),
            pytest.param("[DEFAULT]\nhost = a\n\n  b\n", "line 4 continues a value", id="after an empty line"),
            pytest.param("[DEFAULT]\nhost = a\n# b\n  c\n", "line 4 continues a value", id="after a comment"),
            pytest.param("\ufeff[DEFAULT]\nhost = a\n", "line 1 is not an assignment", id="byte order mark"),
        ],
    )
    def test_line_that_nova_refuses_is_refused_by_file_and_line(self, path: Path, text: str, complaint: str) -> None:
        path.write_text(text)
        assert theirs(path) is None
        with pytest.raises(ImageCacheError) as error:
            read_nova_conf(str(path))
        assert str(error.value).startswith(f"config_file {path}: {complaint}")


class TestNamesOfOptions:
    @pytest.mark.parametrize("option", NOVA_OPTIONS)
    def test_each_name_that_an_option_ever_had_is_read(self, path: Path, option: str) -> None:
        group, name, earlier = NOVA_OPTIONS[option]
        for place_group, place_name in [(group, name), *earlier]:
            path.write_text(f"[{place_group}]\n{place_name} = a\n")
            assert ours(path) == theirs(path) == {option: "a"}

    @pytest.mark.parametrize("option", [option for option, places in NOVA_OPTIONS.items() if places[2]])
    def test_todays_name_wins_wherever_it_stands(self, path: Path, option: str) -> None:
        group, name, earlier = NOVA_OPTIONS[option]
        for old_group, old_name in earlier:
            path.write_text(f"[{group}]\n{name} = new\n[{old_group}]\n{old_name} = old\n")
            assert ours(path) == theirs(path) == {option: "new"}


class TestReferences:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("host = $my_ip", "192.0.2.7"),
            ("host = a-${my_ip}-b", "a-192.0.2.7-b"),
            ("host = $libvirt.zone", "north"),
            ("host = ${libvirt.zone}", "north"),
            ("host = $zone", "192.0.2.7/end"),
            ("host = $instances_path", "/var/lib/nova/instances"),
            ("host = $state_path/x", "/var/lib/nova/x"),
            ("host = $$my_ip", "$my_ip"),
            ("host = \\$my_ip", "$my_ip"),
            ("host = 5$ ${ $1 $", "5$ ${ $1 $"),
            ("host = '$my_ip'", "192.0.2.7"),
        ],
    )
    def test_reference_has_the_value_that_nova_gives_it(self, path: Path, text: str, found: str) -> None:
        path.write_text(f"[libvirt]\nzone = north\n[DEFAULT]\nmy_ip = 192.0.2.7\nzone = $my_ip/end\n{text}\n")
        assert ours(path) == theirs(path) == {"host": found}

    def test_reference_to_a_groups_own_option_comes_before_the_default_groups(self, path: Path) -> None:
        path.write_text("[DEFAULT]\nzone = a\n[image_cache]\nzone = b\nsubdirectory_name = $zone\n")
        assert ours(path) == theirs(path) == {"image_cache_subdirectory_name": "b"}

    def test_reference_in_an_option_under_its_old_name_counts_from_todays_group(self, path: Path) -> None:
        path.write_text("[DEFAULT]\nzone = a\nimage_cache_subdirectory_name = $zone\n[image_cache]\nzone = b\n")
        assert ours(path) == theirs(path) == {"image_cache_subdirectory_name": "b"}

    def test_info_pattern_of_icehouse_needs_nothing_else(self, path: Path) -> None:
        path.write_text(
            "[libvirt]\nimage_info_filename_pattern = $instances_path/$image_cache_subdirectory_name/%(image)s.info\n"
        )
        assert ours(path) == {"image_info_filename_pattern": "/var/lib/nova/instances/_base/%(image)s.info"}

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            pytest.param("host = $nowhere", "$nowhere is used but not set", id="not set"),
            pytest.param("host = $libvirt.my_ip", "$libvirt.my_ip is used but not set", id="not set in that group"),
            pytest.param("host = $libvirt", "$libvirt is used but not set", id="a group"),
            pytest.param("host = $zone.", "$zone. is used but not set", id="a full stop too many"),
            pytest.param("host = $host", "$host refers to itself", id="itself"),
            pytest.param("zone = $my_ip\nmy_ip = $zone\nhost = $zone", "$zone refers to itself", id="in a circle"),
            pytest.param(
                "state_path = $instances_path\ninstances_path = $state_path/a", "refers to itself", id="of two"
            ),
        ],
    )
    def test_reference_that_leads_nowhere_is_refused_by_its_name(self, path: Path, text: str, complaint: str) -> None:
        path.write_text(f"[libvirt]\nzone = a\n[DEFAULT]\n{text}\n")
        assert theirs(path) is None
        with pytest.raises(ImageCacheError) as error:
            read_nova_conf(str(path))
        assert complaint in str(error.value)

    def test_very_long_chain_of_references_is_refused(self, path: Path) -> None:
        links = "".join(f"link{number} = $link{number + 1}\n" for number in range(1000))
        path.write_text(f"[DEFAULT]\nhost = $link0\n{links}link1000 = a\n")
        with pytest.raises(ImageCacheError):
            read_nova_conf(str(path))

    def test_reference_that_nobody_reads_may_lead_nowhere(self, path: Path) -> None:
        path.write_text("[DEFAULT]\nlog_dir = $nowhere\nhost = a\n")
        assert ours(path) == theirs(path) == {"host": "a"}

    def test_references_that_double_each_time_fill_no_memory(self, path: Path) -> None:
        for last in ("", "a"):
            links = "".join(f"link{number} = $link{number + 1}$link{number + 1}\n" for number in range(60))
            path.write_text(f"[DEFAULT]\nhost = x$link0\n{links}link60 = {last}\n")
            assert ours(path) == (None if last else {"host": "x"})

    def test_long_line_of_references_is_refused(self, path: Path) -> None:
        path.write_text(f"[DEFAULT]\nhost = {'$my_ip' * 500_000}\nmy_ip = {'a' * 4000}\n")
        with pytest.raises(ImageCacheError, match="longer than 4096 characters"):
            read_nova_conf(str(path))


class TestSeveralFiles:
    """What is read later wins; tests/unit/test_novas_configuration.py has oslo.config read the same files."""

    @pytest.fixture
    def etc(self, tmp_path: Path) -> Path:
        for name, host in (("nova.conf", "main"), ("second.conf", "second")):
            (tmp_path / name).write_text(f"[DEFAULT]\nhost = {host}\n")
        (tmp_path / "nova.conf.d").mkdir()
        for name in ("2.conf", "10.conf", ".9.conf", "9.bak"):
            (tmp_path / "nova.conf.d" / name).write_text(f"[DEFAULT]\nhost = {name}\n")
        return tmp_path

    def test_later_file_wins(self, etc: Path) -> None:
        conf = read_nova_conf([f"{etc}/nova.conf", f"{etc}/second.conf"])
        assert (conf["host"], conf.files) == ("second", (f"{etc}/nova.conf", f"{etc}/second.conf"))

    @pytest.mark.parametrize("is_list", [False, True])
    def test_directory_is_read_after_the_files_in_the_order_of_its_names(self, etc: Path, is_list: bool) -> None:
        directory = f"{etc}/nova.conf.d"
        conf = read_nova_conf(f"{etc}/second.conf", [directory] if is_list else directory)
        assert conf["host"] == "2.conf"
        assert conf.files == (f"{etc}/second.conf", f"{directory}/10.conf", f"{directory}/2.conf")

    def test_directory_beside_a_lone_nova_conf_is_read(self, etc: Path) -> None:
        assert read_nova_conf(f"{etc}/nova.conf")["host"] == "2.conf"

    def test_directory_beside_a_lone_file_of_another_name_is_read_before_it(self, etc: Path) -> None:
        conf = read_nova_conf(f"{etc}/second.conf")
        assert (conf["host"], len(conf.files)) == ("second", 3)

    def test_empty_list_of_directories_leaves_out_what_lies_beside_the_file(self, etc: Path) -> None:
        assert read_nova_conf(f"{etc}/nova.conf", [])["host"] == "main"

    @pytest.mark.parametrize("name", ["gone", "nova.conf", "a\0b"], ids=repr)
    def test_directory_that_cannot_be_read_is_an_error(self, etc: Path, name: str) -> None:
        with pytest.raises(ImageCacheError, match=r"config_dir .* cannot be read: .* Set config_dir to directories"):
            read_nova_conf([], f"{etc}/{name}")


def test_obsolete_option_whose_reference_leads_nowhere_is_ignored(path: Path) -> None:
    path.write_text("[libvirt]\nchecksum_interval_seconds = $nowhere\n[DEFAULT]\nhost = a\n")
    conf = read_nova_conf(str(path))
    assert conf == {"host": "a"}
    [sentence] = conf.ignored
    assert sentence.startswith("config_file sets checksum_interval_seconds, which is ignored: $nowhere is used but not")


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ("$host", socket.gethostname()),
        ("$my_ip", own_address()),
        ("$my_block_storage_ip", own_address()),
        ("$state_path", "/var/lib/nova"),
    ],
)
def test_reference_to_what_no_file_sets_has_novas_default(path: Path, reference: str, value: str) -> None:
    path.write_text(f"[DEFAULT]\ninstances_path = /{reference}\n")
    assert read_nova_conf(str(path)) == {"instances_path": f"/{value}"}


class TestFilesThatCannotBeRead:
    @pytest.mark.parametrize("name", ["missing.conf", "", "a\0b"], ids=repr)
    def test_missing_file_is_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ImageCacheError, match=r"config_file .* cannot be read"):
            read_nova_conf(os.path.join(tmp_path, name))

    def test_file_that_is_not_utf8_is_refused(self, path: Path) -> None:
        path.write_bytes(b"[DEFAULT]\nhost = \xff\n")
        with pytest.raises(ImageCacheError, match=r"config_file .* cannot be read"):
            read_nova_conf(str(path))

    @pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, make_socket, lambda path: path.symlink_to("/dev/zero")])
    def test_other_thing_than_a_file_is_refused_and_not_waited_for(
        self, tmp_path: Path, make: Callable[[Path], None]
    ) -> None:
        path = tmp_path / "nova.conf"
        make(path)
        with pytest.raises(ImageCacheError, match=r"config_file .* cannot be read"):
            read_nova_conf(str(path))

    def test_file_of_more_than_four_mebibytes_is_refused(self, path: Path) -> None:
        path.write_text("#" * (4 * 1024 * 1024 + 1))
        with pytest.raises(ImageCacheError, match="it has more than 4194304 bytes"):
            read_nova_conf(str(path))


# What the generated values refer to. Each of these resolves: where one does not, oslo.config tries the next group, by
# an accident of its exceptions, and we refuse.
ELSEWHERE = """\
[DEFAULT]
state_path = /srv
my_ip = 192.0.2.7
zone = $my_ip/$state_path
[libvirt]
zone = 'north $my_ip'
[image_cache]
my_ip = ${libvirt.zone}:$zone
[DEFAULT]
"""
references = st.sampled_from([
    "$my_ip", "${my_ip}", "$zone/", "${zone}", "$libvirt.zone", "${image_cache.my_ip}", "$state_path/",
])  # fmt: skip
signs = st.sampled_from([
    "$$", "\\$", "$", "${", "}", "\\", "/", ":", "=", "#", ";", "'", '"', " ", "\t", "-", "é", "%(image)s", "$other",
])  # fmt: skip
values = st.lists(st.one_of(references, signs, signs), max_size=5).map("".join)
places = [place for group, name, earlier in NOVA_OPTIONS.values() for place in [(group, name), *earlier]]
names = st.sampled_from(sorted({name for _group, name in places}))
assignments = st.builds("{}{}{}".format, names, st.sampled_from(["=", " = ", ":", " : ", " =", "\t="]), values)
sections = st.sampled_from(["[DEFAULT]", "[image_cache]", "[libvirt]", "[Libvirt]", "[IMAGE_CACHE]", "[other]"])
continuations = st.builds("{}{}".format, st.sampled_from([" ", "\t", "    "]), values)
odd_lines = st.sampled_from([
    "", "  ", "#", "# a = b", " \t# a", ";", "[", "[]", "[x", "]", "[DEFAULT] ", "[ DEFAULT]", "[[DEFAULT]]",
    "[default]", "=a", ":", "a", "\x0b", "\x0ca = b", "host=a\rzone=b", "\ufeff",
])  # fmt: skip
good_lines = st.one_of(assignments, assignments, sections)
any_lines = st.one_of(assignments, sections, continuations, odd_lines)
files = st.one_of(st.lists(good_lines, min_size=5, max_size=20), st.lists(any_lines, max_size=8)).map("\n".join)


@settings(max_examples=300)
@given(text=files)
def test_any_file_is_read_as_oslo_config_reads_it(path: Path, text: str) -> None:
    path.write_text(ELSEWHERE + text)
    ourselves, oslo_config = ours(path), theirs(path)
    if ourselves is not None and oslo_config is not None and "instances_path" not in oslo_config:
        # Its default follows the state_path that the file sets; oslo.config was asked for what the file sets only.
        assert ourselves.pop("instances_path") == "/srv/instances"
    assert ourselves == oslo_config


@given(content=st.one_of(st.binary(), st.text().map(str.encode), files.map(str.encode)))
def test_any_file_is_read_or_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    found = ours(path)
    assert found is None or found.keys() <= NOVA_OPTIONS.keys()
