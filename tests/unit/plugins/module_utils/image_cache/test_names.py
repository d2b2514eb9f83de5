# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What names mean, pinned by names that a real nova gave."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.names import (
    CacheName,
    Kind,
    draft_name,
    fingerprint,
    info_path,
    is_draft,
    is_nfs_name,
    lock_name,
    parse_name,
    set_aside_name,
    set_aside_of,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.text import printable, some_names
from ansible_collections.stackops.nova.tests.support import captures

# The image lab-qcow2 of the captured host, and the base file that nova made of it there.
IMAGE = "131d062c-6166-4aa7-bb6c-7ceae4a8201c"
BASE = "058d6f6126b0846e3d5636640cfbb53cf70a86a6"

RECOGNISED = {
    BASE: CacheName(Kind.ORIGINAL, BASE),
    f"{BASE}_10737418240": CacheName(Kind.RESIZED, BASE),
    f"{BASE}_sm": CacheName(Kind.SMALL, BASE),
    "swap_64": CacheName(Kind.SWAP, "swap_64"),
    "ephemeral_1_0706d66": CacheName(Kind.EPHEMERAL, "ephemeral_1"),
    "ephemeral_20_default": CacheName(Kind.EPHEMERAL, "ephemeral_20"),
    IMAGE: CacheName(Kind.KERNEL, IMAGE),
    f"{BASE}.part": CacheName(Kind.PARTIAL, BASE),
    f"{BASE}.converted": CacheName(Kind.PARTIAL, BASE),
    f"{BASE}_10737418240.part": CacheName(Kind.PARTIAL, BASE),
    "swap_64.part": CacheName(Kind.PARTIAL, "swap_64"),
    "ephemeral_1_0706d66.converted": CacheName(Kind.PARTIAL, "ephemeral_1"),
}

NOT_NOVAS = [
    "",
    ".",
    "..",
    ".part",
    "_base",
    "swap_",
    "swap_-1",
    "swap_64_sm",
    "swap_64 ",
    "ephemeral_1",
    "ephemeral_1_0706d6",
    "ephemeral_1_0706d666",
    "ephemeral__0706d66",
    BASE[:-1],
    BASE + "0",
    BASE.upper(),
    f"{BASE}_",
    f"{BASE}_SM",
    f"{BASE}_sm_10",
    f"{BASE}_1e9",
    f"{BASE}_٣",
    f"{BASE}.info",
    f"{BASE}.sha1",
    f"{BASE}.partial",
    f"{BASE}.part.part",
    f"{BASE}.part.converted",
    f"{BASE}\n",
    f"../{BASE}",
    f"{IMAGE}.part",
    f"{IMAGE}_sm",
    IMAGE.upper(),
    IMAGE.replace("-", ""),
]

hexadecimal = st.text("0123456789abcdef", min_size=40, max_size=40)
numbers = st.integers(min_value=0).map(str)
marks = st.from_regex("[0-9A-Za-z]{7}", fullmatch=True)
whole_names = st.one_of(
    hexadecimal.map(lambda base: (base, Kind.ORIGINAL, base)),
    st.builds(lambda base, size: (f"{base}_{size}", Kind.RESIZED, base), hexadecimal, numbers),
    hexadecimal.map(lambda base: (f"{base}_sm", Kind.SMALL, base)),
    numbers.map(lambda size: (f"swap_{size}", Kind.SWAP, f"swap_{size}")),
    st.builds(lambda size, mark: (f"ephemeral_{size}_{mark}", Kind.EPHEMERAL, f"ephemeral_{size}"), numbers, marks),
)
partial_names = st.builds(
    lambda whole, suffix: (whole[0] + suffix, Kind.PARTIAL, whole[2]),
    whole_names,
    st.sampled_from([".part", ".converted"]),
)
kernel_names = st.uuids().map(lambda image: (str(image), Kind.KERNEL, str(image)))
any_names = st.one_of(whole_names, partial_names, kernel_names)
any_text = st.text(st.characters())


class TestFingerprint:
    @pytest.mark.parametrize(
        ("image_id", "name"),
        [
            pytest.param(IMAGE, BASE, id="lab-qcow2"),
            pytest.param(
                "f8cda50a-d7cd-4ebb-a55c-a081ab800866", "97aaae8fdc4935bc47d03cf539a6213a1f2c6ad4", id="lab-raw"
            ),
            pytest.param(
                "76fa97ac-319d-436a-b306-d33dbf85a376", "c56330a2a9b19a6959805994c6b506abf0d163e4", id="lab-gone"
            ),
            pytest.param("é", "bf15be717ac1b080b4f1c456692825891ff5073d", id="as UTF-8"),
        ],
    )
    def test_fingerprint_is_the_name_of_the_base_file(self, image_id: str, name: str) -> None:
        assert fingerprint(image_id) == name

    def test_each_image_of_a_real_cloud_has_its_base_file(self) -> None:
        answer = json.loads((captures.CAPTURES / "steady" / "api" / "servers-detail.json").read_text())
        images = {server["image"]["id"] for server in answer["servers"]}
        assert len(images) == 3
        assert {fingerprint(image) for image in images} <= captured("steady", "_base")

    @given(any_text)
    @example("\ud800")
    def test_any_image_id_has_a_fingerprint(self, image_id: str) -> None:
        assert parse_name(fingerprint(image_id)).kind is Kind.ORIGINAL


class TestParseName:
    @pytest.mark.parametrize("name", RECOGNISED)
    def test_name_that_nova_gives_is_recognised(self, name: str) -> None:
        assert parse_name(name) == RECOGNISED[name]

    @pytest.mark.parametrize("name", NOT_NOVAS, ids=repr)
    def test_other_name_is_not_recognised(self, name: str) -> None:
        assert parse_name(name) == CacheName(Kind.OTHER, "")

    @pytest.mark.parametrize("scene", captures.NAMES)
    def test_every_name_in_a_real_cache_is_recognised(self, scene: str) -> None:
        assert Kind.OTHER not in {parse_name(name).kind for name in captured(scene, "_base")}

    @given(any_names)
    def test_kind_and_key_are_those_that_the_name_was_made_of(self, made: tuple[str, Kind, str]) -> None:
        name, kind, key = made
        assert parse_name(name) == CacheName(kind, key)

    @given(any_names, st.data())
    def test_name_with_a_character_that_nova_does_not_use_is_not_recognised(
        self, made: tuple[str, Kind, str], data: st.DataObject
    ) -> None:
        name = made[0]
        position = data.draw(st.integers(0, len(name)))
        stranger = data.draw(st.sampled_from("\n\r\0/ \t\x7fé\udcff٣"))
        assert parse_name(name[:position] + stranger + name[position:]).kind is Kind.OTHER

    @given(st.one_of(hexadecimal, st.uuids().map(str)))
    def test_name_with_uppercase_digits_is_not_recognised(self, name: str) -> None:
        assume(name.upper() != name)
        assert parse_name(name.upper()).kind is Kind.OTHER

    @given(any_text)
    def test_any_text_has_a_kind(self, name: str) -> None:
        kind, key = parse_name(name)
        assert (kind is Kind.OTHER) == (key == "")


class TestLockName:
    @pytest.mark.parametrize(
        ("name", "lock"),
        [
            (BASE, "nova-058d6f6126b0846e3d5636640cfbb53cf70a86a6"),
            (f"{BASE}.part", "nova-058d6f6126b0846e3d5636640cfbb53cf70a86a6"),
            (f"{BASE}.converted", "nova-058d6f6126b0846e3d5636640cfbb53cf70a86a6"),
            (f"{BASE}_10737418240", "nova-058d6f6126b0846e3d5636640cfbb53cf70a86a6_10737418240"),
            ("swap_64", "nova-swap_64"),
            ("ephemeral_1_0706d66", "nova-ephemeral_1_0706d66"),
        ],
    )
    def test_lock_name_is_the_one_that_nova_takes(self, name: str, lock: str) -> None:
        assert lock_name(name) == lock

    def test_each_base_file_of_a_real_host_has_its_lock_file(self) -> None:
        locks = {lock_name(name) for name in captured("steady", "_base")}
        assert locks == captured("steady", "locks") - {"nova-storage-registry-lock"}


@pytest.mark.parametrize("name", [BASE, f"{BASE}_10737418240", "swap_64"])
def test_info_file_is_named_after_the_base_file(name: str) -> None:
    pattern = "/var/lib/nova/instances/_base/%(image)s.info"
    assert info_path(pattern, name) == f"/var/lib/nova/instances/_base/{name}.info"


class TestPrintable:
    @pytest.mark.parametrize(
        ("name", "shown"),
        [
            pytest.param("instance-0000000a", "instance-0000000a", id="plain"),
            pytest.param("Größe 5 µm 日本", "Größe 5 µm 日本", id="not ASCII"),
            pytest.param("a\nb\r\tc", "a\\nb\\r\\tc", id="control characters"),
            pytest.param("\x1b[31mred", "\\x1b[31mred", id="terminal escape"),
            pytest.param("a\udcff\udc80b", "a\\xff\\x80b", id="bytes that are not UTF-8"),
            pytest.param("\ud800", "\\ud800", id="lone surrogate"),
            pytest.param("a\u202eb\u2028c", "a\\u202eb\\u2028c", id="bidirectional override and line separator"),
            pytest.param("", "", id="empty"),
        ],
    )
    def test_unprintable_character_is_escaped(self, name: str, shown: str) -> None:
        assert printable(name) == shown

    @given(any_text)
    @example("\ud800")
    def test_any_text_becomes_one_printable_line(self, text: str) -> None:
        shown = printable(text)
        assert shown.isprintable()
        assert shown.encode("utf-8").decode("utf-8") == shown
        assert len(shown.splitlines()) == bool(shown)

    @given(st.binary())
    def test_any_file_name_becomes_one_printable_line(self, name: bytes) -> None:
        shown = printable(name.decode("utf-8", "surrogateescape"))
        assert shown.isprintable()
        assert shown.encode("utf-8").decode("utf-8") == shown

    @given(any_text)
    def test_printable_text_is_not_escaped_again(self, text: str) -> None:
        shown = printable(text)
        assert printable(shown) == shown


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b", "c", "d", "e"], "a, b, c, d, e"),
        (["a", "b", "c", "d", "e", "f", "g"], "a, b, c, d, e and 2 more"),
        (["new\nline"], "new\\nline"),
    ],
    ids=["none", "one", "five", "seven", "escaped"],
)
def test_sentence_names_five_at_most(names: list[str], shown: str) -> None:
    assert some_names(names) == shown


def captured(scene: str, directory: str) -> set[str]:
    """The names in a directory of a captured host."""
    return {entry.path.partition("/")[2] for entry in captures.listing(scene) if entry.path.startswith(f"{directory}/")}


@pytest.mark.parametrize("name", [BASE, f"{BASE}_10737418240", f"{BASE}_sm", "swap_64", "ephemeral_1_0706d66"])
@pytest.mark.parametrize("inode", [None, 12])
def test_name_of_a_file_that_was_set_aside_is_no_cache_file_and_has_the_former_name(
    name: str, inode: int | None
) -> None:
    aside = set_aside_name(name, 1764238552, inode)
    assert aside.startswith(f".{name}.stackops-")
    assert parse_name(aside).kind is Kind.OTHER
    assert set_aside_of(aside) == (name, inode)
    assert not is_draft(aside)


@pytest.mark.parametrize("length", range(6, 60))
def test_nova_takes_nothing_that_was_set_aside_to_be_an_image(length: int) -> None:
    """Nova counts any name of 40 characters as its own, and longer ones with an underscore after the 40th."""
    name = "swap_".ljust(length, "1")
    for ours in (set_aside_name(name, 1764238552), set_aside_name(name, 1764238552, 7), draft_name(name)):
        assert len(ours) != 40
        assert ours[40:41] != "_"


@pytest.mark.parametrize(
    "name",
    [
        BASE,
        f".{BASE}",
        f".{BASE}.stackops-",
        f".{BASE}.stackops-1.",
        f"{BASE}.stackops-1",
        ".other.stackops-1",
        f".{BASE}.part.stackops-1",
        f".{BASE}.stackops-1.info",
    ],
)
def test_other_names_are_not_those_of_files_that_were_set_aside(name: str) -> None:
    assert set_aside_of(name) is None


def test_draft_has_a_name_of_its_own_each_time() -> None:
    assert draft_name(BASE) != draft_name(BASE)
    assert is_draft(draft_name(BASE))
    assert parse_name(draft_name(BASE)).kind is Kind.OTHER
    assert set_aside_of(draft_name(BASE)) is None


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        (".nfs0000000001a2b3c400000007", True),
        (".nfs000000000000000000000001", True),
        (".nfs0000000001a2b3c40000000", False),
        (".nfs0000000001a2b3c4000000070", False),
        (".nfs0000000001A2B3C400000007", False),
        ("nfs0000000001a2b3c400000007", False),
        (".nfs0000000001a2b3c400000007 (deleted)", False),
        (".nfs", False),
    ],
)
def test_name_that_nfs_gives_has_sixteen_and_eight_digits(name: str, is_one: bool) -> None:
    assert is_nfs_name(name) is is_one
    assert parse_name(name).kind is Kind.OTHER
