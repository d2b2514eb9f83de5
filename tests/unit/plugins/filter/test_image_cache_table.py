# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.stackops.nova.plugins.filter.image_cache_table import FilterModule, image_cache_table
from ansible_collections.stackops.nova.plugins.plugin_utils.report.table import storage_page
from ansible_collections.stackops.nova.tests.support.fleets import answer, storage


def test_filter_returns_the_page_of_the_storage() -> None:
    image_cache = answer()
    assert image_cache_table(image_cache) == storage_page(image_cache)
    shared = storage(image_cache, "a", "b")
    assert image_cache_table(image_cache, shared) == storage_page(image_cache, shared)
    assert image_cache_table(image_cache, storage=shared) == storage_page(image_cache, shared)


@pytest.mark.parametrize("image_cache", ["text", {}, None])
def test_filter_refuses_other_values_than_a_result_of_the_modules(image_cache: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="takes the image_cache that"):
        image_cache_table(image_cache)


def test_filter_has_its_public_name() -> None:
    assert FilterModule().filters() == {"image_cache_table": image_cache_table}
