# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows come in the order in which an operator needs them, and name what is on the other side."""

from __future__ import annotations

from typing import Any

from ansible_collections.stackops.nova.plugins.plugin_utils.report.rows import make_tables
from ansible_collections.stackops.nova.tests.support.fleets import GIB, answer, fleet, image, silent, storage


def with_free(name: str, gib: int | None, **more: Any) -> dict[str, Any]:
    return storage(answer(name, **more), name, free_bytes=None if gib is None else gib * GIB)


def test_fullest_storage_is_first_and_one_without_a_size_last() -> None:
    tables = make_tables(fleet(with_free("a", None), with_free("b", 30), with_free("c", 2)))
    assert [row.name for row in tables.storages] == [row.name for row in tables.hosts] == ["c", "b", "a"]
    assert [row.used for row in tables.storages] == [99.6, 94, None]


def test_host_without_an_answer_is_behind_all_others() -> None:
    tables = make_tables(fleet(with_free("b", None), silent=[silent("a")]))
    assert [(row.name, row.storage is None) for row in tables.hosts] == [("b", False), ("a", True)]


def test_hosts_of_a_shared_storage_have_the_same_row_of_it() -> None:
    tables = make_tables(fleet(storage(answer("a"), "a", "b")))
    assert tables.hosts[0].storage is tables.hosts[1].storage is tables.storages[0]
    assert tables.storages[0].others == 1


def test_host_with_two_caches_has_a_row_for_each() -> None:
    other = storage(answer("a", cache_path="/other/_base"), "a", free_bytes=GIB)
    tables = make_tables(fleet(storage(answer("a"), "a"), other))
    assert [row.storage.free for row in tables.hosts if row.storage] == [GIB, 20 * GIB]


def test_images_of_a_host_come_largest_first() -> None:
    images = [image(1, gib=1, instances=9), image(2, gib=5), image(3, gib=3)]
    tables = make_tables(fleet(storage(answer("a", images=images), "a")))
    assert [cell.name for cell in tables.images_on(tables.hosts[0])] == ["image-2", "image-3", "image-1"]


def test_storages_of_an_image_come_with_most_instances_first() -> None:
    storages = [
        storage(answer(name, images=[image(1, gib=1, instances=count)]), name) for name, count in (("a", 1), ("b", 5))
    ]
    tables = make_tables(fleet(*storages))
    assert [(cell.name, cell.instances) for cell in tables.storages_with(tables.images[0])] == [("b", 5), ("a", 1)]


def test_host_without_images_has_no_cells() -> None:
    tables = make_tables(fleet(storage(answer("a"), "a"), silent=[silent("b")]))
    assert [tables.images_on(row) for row in tables.hosts] == [[], []]


def test_strip_has_the_fullest_storage_first() -> None:
    tables = make_tables(fleet(with_free("a", 9), with_free("b", 1, images=[image(1, instances=1)])))
    assert tables.images[0].strip == "1."
