# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which files of the cache are built on others is read from their headers, and followed to the end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.backing_chain import Resolver
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.overlays import (
    overlays_now,
    protected_files,
    read_overlay_backing_name,
    resolve_overlays,
)
from ansible_collections.stackops.nova.tests.support.host import create_image
from ansible_collections.stackops.nova.tools.cache_tree import overlay_bytes

CACHE = "/srv/instances/_base"
NAMES = ("a", "b", "c", "d", "e")
graphs = st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), max_size=2).map(tuple))


def nowhere(_path: str) -> str | None:
    return None


def read(path: Path) -> str | None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return read_overlay_backing_name(descriptor)
    finally:
        os.close(descriptor)


def resolved(name: str, resolve: Resolver = nowhere) -> dict[str, tuple[str, ...]]:
    return resolve_overlays({"top": name}, CACHE, ["top", "base", "other"], resolve)


class TestReadBackingName:
    @pytest.mark.parametrize("version", [2, 3])
    def test_name_in_header_is_read(self, tmp_path: Path, version: int) -> None:
        path = tmp_path / "overlay"
        path.write_bytes(overlay_bytes(1 << 20, "../_base/base", "raw", version))
        assert read(path) == "../_base/base"

    def test_name_that_qemu_wrote_is_read(self, tmp_path: Path) -> None:
        base = create_image(tmp_path / "base")
        assert read(create_image(tmp_path / "overlay", over=base)) == str(base)
        assert read(base) is None

    @given(content=st.binary(max_size=64) | st.binary(max_size=64).map(lambda rest: b"QFI\xfb" + rest))
    def test_any_bytes_are_a_name_or_none(self, tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
        path = tmp_path_factory.mktemp("file") / "file"
        path.write_bytes(content)
        name = read(path)
        assert name is None or os.fsencode(name) in content


class TestResolveOverlays:
    @pytest.mark.parametrize("name", ["base", f"{CACHE}/base", "/in/a/container/_base/base", "./base"])
    def test_file_of_the_cache_is_found_under_any_path(self, name: str) -> None:
        assert resolved(name) == {"top": ("base",)}

    @pytest.mark.parametrize("name", ['json:{"file": {"filename": "/x/base"}, "backing": "other"}', "nbd:base:other"])
    def test_every_file_that_is_named_in_what_is_no_file_name_is_found(self, name: str) -> None:
        assert resolved(name) == {"top": ("base", "other")}

    def test_file_that_a_link_leads_to_is_found(self) -> None:
        assert resolved("/link", lambda _path: f"{CACHE}/other") == {"top": ("other",)}

    def test_file_elsewhere_is_none_of_the_cache(self) -> None:
        def outside(_path: str) -> str | None:
            raise ImageCacheError("it is outside")

        assert resolved("/elsewhere/template", outside) == {}

    def test_overlay_on_itself_is_built_on_nothing(self) -> None:
        assert resolved("top") == {}


class TestProtectedFiles:
    @given(graphs, st.sets(st.sampled_from(NAMES)))
    def test_file_under_a_protected_file_is_protected(
        self, overlays: dict[str, tuple[str, ...]], kept: set[str]
    ) -> None:
        protected = protected_files(overlays, kept)
        assert {below for name in kept | protected for below in overlays.get(name, ())} == protected

    def test_circle_has_an_end(self) -> None:
        assert protected_files({"a": ("b",), "b": ("a",)}, ["a"]) == {"a", "b"}


class TestOverlaysNow:
    @pytest.fixture
    def cache(self, tmp_path: Path) -> Iterator[int]:
        (tmp_path / "base").write_bytes(bytes(4096))
        descriptor = os.open(tmp_path, os.O_RDONLY)
        yield descriptor
        os.close(descriptor)

    def inodes(self, path: Path) -> dict[str, int]:
        return {entry.name: entry.stat().st_ino for entry in path.iterdir()}

    def test_new_overlay_is_found(self, cache: int, tmp_path: Path) -> None:
        inodes = self.inodes(tmp_path)
        (tmp_path / "swap_1").write_bytes(overlay_bytes(1 << 20, "base", "raw"))
        assert overlays_now(cache, str(tmp_path), inodes, {}, nowhere) == {"swap_1": ("base",)}

    def test_file_that_is_as_it_was_is_not_read_again(self, cache: int, tmp_path: Path) -> None:
        (tmp_path / "swap_1").write_bytes(overlay_bytes(1 << 20, "base", "raw"))
        known = {"swap_1": ("what was read before",)}
        assert overlays_now(cache, str(tmp_path), self.inodes(tmp_path), known, nowhere) == known

    def test_overlay_that_is_gone_keeps_nothing(self, cache: int, tmp_path: Path) -> None:
        assert overlays_now(cache, str(tmp_path), {"swap_1": 1}, {"swap_1": ("base",)}, nowhere) == {}
