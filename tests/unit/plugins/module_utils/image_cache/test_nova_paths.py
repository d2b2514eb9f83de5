# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A path that nova wrote leads where nova meant it, unless it exists on the host as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.nova_paths import (
    instances_path_of,
    is_in_instance_directory,
    path_on_host,
)
from ansible_collections.stackops.nova.tests.support.constants import UUID
from ansible_collections.stackops.nova.tests.support.processes import as_nobody, needs_root


class TestPathOnHost:
    @pytest.fixture
    def ours(self, tmp_path: Path) -> Path:
        path = tmp_path / "volume"
        path.mkdir()
        return path

    @pytest.fixture
    def novas(self, tmp_path: Path) -> Path:
        return tmp_path / "nova"

    def test_path_of_the_container_leads_below_ours(self, ours: Path, novas: Path) -> None:
        assert path_on_host(f"{novas}/{UUID}/disk", str(ours), [str(novas)]) == f"{ours}/{UUID}/disk"

    @pytest.mark.parametrize("path", ["/elsewhere/disk", "{novas}", "{novas}s/disk"])
    def test_path_that_is_not_below_novas_is_unchanged(self, ours: Path, novas: Path, path: str) -> None:
        path = path.format(novas=novas)
        assert path_on_host(path, str(ours), [str(novas)]) == path

    def test_path_that_exists_here_is_unchanged(self, ours: Path, novas: Path) -> None:
        for folder in (ours, novas):
            folder.mkdir(exist_ok=True)
            (folder / "disk").touch()
        assert path_on_host(f"{novas}/disk", str(ours), [str(novas)]) == f"{novas}/disk"

    def test_link_to_nothing_exists(self, ours: Path, novas: Path) -> None:
        novas.mkdir()
        (novas / "disk").symlink_to("not mounted")
        (ours / "disk").touch()
        assert path_on_host(f"{novas}/disk", str(ours), [str(novas)]) == f"{novas}/disk"

    def test_path_through_a_link_to_ours_leads_below_ours(self, ours: Path, novas: Path) -> None:
        novas.symlink_to(ours)
        (ours / "disk").touch()
        for name in ("disk", "gone"):
            assert path_on_host(f"{novas}/{name}", str(ours), [str(novas)]) == f"{ours}/{name}"

    @pytest.mark.parametrize("is_here", [False, True])
    def test_missing_file_of_another_directory_is_ours_only_if_it_is_here(
        self, ours: Path, novas: Path, is_here: bool
    ) -> None:
        novas.mkdir()
        if is_here:
            (ours / "disk").touch()
        expected = ours if is_here else novas
        assert path_on_host(f"{novas}/disk", str(ours), [str(novas)]) == f"{expected}/disk"

    @needs_root
    def test_path_that_may_not_be_looked_at_is_unchanged(self, tmp_path: Path) -> None:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        assert as_nobody(lambda: path_on_host(f"{closed}/disk", "/ours", [str(closed)])) == f"{closed}/disk"


@pytest.mark.parametrize(
    ("disk", "path"),
    [
        (f"/nova/{UUID}/disk", "/nova"),
        (f"/nova/{UUID}/disk.snap1", "/nova"),
        (f"/nova/{UUID}/root.qcow2", ""),
        ("/nova/volumes/disk", ""),
        (f"/{UUID}/disk", ""),
        ("disk", ""),
    ],
)
def test_domain_shows_the_path_above_a_directory_of_its_instance(disk: str, path: str) -> None:
    assert instances_path_of(disk, (UUID, f"{UUID}_resize")) == path


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/i/uuid/disk.eph0", True), ("/i/uuid/root", False), ("/i/disk", False), ("/i/a/b/disk", False)],
)
def test_disk_of_an_instance_directory_is_known_by_its_path(path: str, expected: bool) -> None:
    assert is_in_instance_directory(path, "/i") is expected
