# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The block of data holds each image on each storage, and no name can leave it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.plugin_utils.report.data import page_data
from ansible_collections.stackops.nova.plugins.plugin_utils.report.rows import make_tables
from ansible_collections.stackops.nova.tests.support.fleets import GIB, HOSTILE, answer, fleet, image, silent, storage

MIB = 1 << 20


def data_of(*storages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return dict(json.loads(page_data(make_tables(fleet(*storages, **more)), str)))


def unpacked(numbers: list[int], images: int) -> list[tuple[int, int, int] | None]:
    """Read the cells of a storage as the page's script does: MiB, instances, and the MiB that could be removed."""
    cells: list[tuple[int, int, int] | None] = []
    rest = iter(numbers)
    for number in rest:
        if number < 0:
            cells += [None] * -number
            continue
        size, kind = divmod(number, 3)
        instances = 0 if kind == 1 else next(rest)
        cells.append((size, instances, size if kind == 1 else next(rest) if kind == 2 else 0))
    return cells + [None] * (images - len(cells))


sizes = st.integers(0, 1 << 50)
cells = st.dictionaries(
    st.integers(0, 5),
    st.tuples(sizes, st.integers(0, 1000), sizes).map(lambda cell: (cell[0], cell[1], min(cell[0], cell[2]))),
)


@given(st.lists(cells, min_size=1, max_size=4))
def test_each_image_of_each_storage_can_be_read_back(caches: list[dict[int, tuple[int, int, int]]]) -> None:
    storages = [
        storage(
            answer(
                f"{index}",
                images=[
                    image(number, allocated_bytes=size, instances=instances, reclaimable_bytes=freed)
                    for number, (size, instances, freed) in cache.items()
                ],
            ),
            f"{index}",
        )
        for index, cache in enumerate(caches)
    ]
    block = data_of(*storages)
    names = [row[0] for row in block["images"]]
    for row, numbers in zip(block["storages"], block["cells"], strict=True):
        found = dict(zip(names, unpacked(numbers, len(names)), strict=True))
        expected = {
            f"image-{number}": (-(-size // MIB), instances, -(-freed // MIB))
            for number, (size, instances, freed) in caches[int(row[0])].items()
        }
        assert {name: cell for name, cell in found.items() if cell} == expected


def test_host_leads_to_its_state_and_storage() -> None:
    block = data_of(storage(answer("a"), "a"), storage(answer("b"), "b", "c", free_bytes=GIB), silent=[silent("d")])
    hosts = [(name, block["states"][state][1], storage) for name, state, storage in block["hosts"]]
    assert hosts == [("b", "Audited", 0), ("c", "Audited", 0), ("a", "Audited", 1), ("d", "Unreachable", -1)]


def test_storage_that_gave_no_list_of_images_has_no_cells() -> None:
    block = data_of(storage(answer("a", images=[]), "a"), storage(answer("b"), "b"))
    assert block["cells"] == [[], None]


@pytest.mark.parametrize("name", HOSTILE)
def test_name_cannot_leave_the_block(name: str) -> None:
    found = storage(answer("a", images=[image(1, image_name=name)]), name)
    text = page_data(make_tables(fleet(found)), str)
    assert not set(text) & set("<>&")
    assert text.isascii()
    assert json.loads(text)["images"][0][0] == name
