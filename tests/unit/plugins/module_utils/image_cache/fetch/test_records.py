# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Glance's records say of the bytes that it serves: values in, values out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.records import (
    ImageRecord,
    read_records,
    why_not_usable,
)
from ansible_collections.stackops.nova.tests.support.constants import BASE, IMAGE, OTHER_BASE, OTHER_IMAGE

SHA512, SHA256 = "0123456789abcdef" * 8, "fedcba9876543210" * 4
API = {
    "id": IMAGE,
    "status": "active",
    "container_format": "bare",
    "disk_format": "raw",
    "size": 1000,
    "os_hash_algo": "sha512",
    "os_hash_value": SHA512,
}
RECORD = ImageRecord(
    image_id=IMAGE,
    disk_format="raw",
    container_format="bare",
    status="active",
    size_bytes=1000,
    algorithm="sha512",
    checksum=SHA512,
)


def read(**change: Any) -> ImageRecord:
    """What is read of a record with this change, as JSON brings it."""
    return next(iter(read_records([json.loads(json.dumps({**API, **change}))]).values()))


class TestReading:
    def test_records_are_found_by_the_names_of_their_base_files(self) -> None:
        assert read_records([API, {**API, "id": OTHER_IMAGE}]) == {
            BASE: RECORD,
            OTHER_BASE: RECORD._replace(image_id=OTHER_IMAGE),
        }
        assert read_records([]) == {}

    def test_record_of_openstacksdk_is_read_as_one_of_glance(self) -> None:
        sdk = {**API, "hash_algo": "sha512", "hash_value": SHA512, "os_hash_algo": None, "os_hash_value": None}
        assert read_records([sdk]) == {BASE: RECORD}

    def test_record_that_says_nothing_but_its_id_proves_nothing(self) -> None:
        assert read_records([{"id": IMAGE}]) == {BASE: ImageRecord(IMAGE, None, None, None, None, None, None)}

    @pytest.mark.parametrize("value", [SHA256, SHA256.upper(), f" {SHA256}\n"])
    def test_checksum_is_the_same_however_written(self, value: str) -> None:
        record = read(os_hash_algo="sha256", os_hash_value=value)
        assert (record.algorithm, record.checksum) == ("sha256", SHA256)

    @pytest.mark.parametrize("algorithm", ["md5", "sha1", None, "", "SHA512"])
    def test_checksum_of_another_algorithm_does_not_count(self, algorithm: str | None) -> None:
        record = read(os_hash_algo=algorithm, os_hash_value="0" * 32)
        assert (record.algorithm, record.checksum) == (None, None)

    @pytest.mark.parametrize("field", ["disk_format", "container_format", "status"])
    @pytest.mark.parametrize("value", [None, "", 3])
    def test_field_that_is_not_text_is_empty(self, field: str, value: object) -> None:
        assert read(**{field: value}) == RECORD._replace(**{field: None})

    @pytest.mark.parametrize("size", [None, "1000", 1000.0])
    def test_size_that_is_not_a_whole_number_is_none(self, size: object) -> None:
        assert read(size=size).size_bytes is None

    @pytest.mark.parametrize("image_id", [None, "", 7])
    def test_record_without_an_id_is_an_error(self, image_id: object) -> None:
        with pytest.raises(ImageCacheError, match=r"images has a record without an id. Set images: to"):
            read(id=image_id)

    @pytest.mark.parametrize(
        ("algorithm", "value"),
        [
            ("sha512", SHA256),
            ("sha256", SHA512),
            ("sha256", SHA256[:-1]),
            ("sha256", SHA256[:-1] + "g"),
            ("sha512", ""),
            ("sha512", None),
        ],
    )
    def test_checksum_that_cannot_be_one_of_its_algorithm_is_an_error(self, algorithm: str, value: str | None) -> None:
        with pytest.raises(ImageCacheError, match=f"{IMAGE} has a checksum that is not one of {algorithm}. Set images"):
            read(os_hash_algo=algorithm, os_hash_value=value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"status": None}, ""),
        ({"container_format": None}, ""),
        ({"disk_format": "ami", "container_format": "ami"}, ""),
        ({"os_hash_algo": "md5"}, "no checksum by sha256 or sha512"),
        ({"status": "deactivated"}, "the image's status is deactivated and not active"),
        ({"status": "a new status"}, "the image's status is a new status and not active"),
        ({"container_format": "ova"}, "the image is in a container of the format ova"),
        ({"disk_format": None, "container_format": "ami"}, "the image is in a container of the format ami"),
    ],
)
def test_record_that_does_not_say_which_bytes_nova_gets_is_not_usable(change: dict[str, Any], reason: str) -> None:
    said = why_not_usable(read(**change))
    assert reason in said
    assert bool(reason) == bool(said)
