# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A base file is compared with the checksum that Glance has of its image."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.known_checksums import parse_known_checksums
from ansible_collections.stackops.nova.tests.support.constants import BASE, IMAGE
from ansible_collections.stackops.nova.tests.support.host import Host, picture, warnings
from ansible_collections.stackops.nova.tests.support.verification import (
    CONTENT,
    audit,
    checksum,
    digest,
    info,
    prune,
    rot,
    write_info,
)


class TestKnownChecksums:
    def test_file_that_is_the_image_is_ok_the_first_time(self, host_with_one_guest: Host) -> None:
        known = {IMAGE: {"algorithm": "sha512", "value": digest(host_with_one_guest, algorithm="sha512").upper()}}
        assert checksum(prune(host_with_one_guest, known_checksums=known)) == "ok"
        assert info(host_with_one_guest) == {
            "sha1": digest(host_with_one_guest),
            "sha1-timestamp": host_with_one_guest.now,
        }

    def test_file_that_is_not_the_image_is_corrupt_whatever_was_saved(self, host_with_one_guest: Host) -> None:
        known = {IMAGE: {"os_hash_algo": "sha512", "os_hash_value": digest(host_with_one_guest, algorithm="sha512")}}
        rot(host_with_one_guest)
        write_info(host_with_one_guest, sha1=digest(host_with_one_guest))
        result = prune(host_with_one_guest, known_checksums=known)
        assert checksum(result) == "corrupt known"
        assert "known_checksums" in warnings(result)[0]
        assert "sha1-timestamp" not in info(host_with_one_guest)

    def test_audit_compares_with_a_known_checksum_too(self, host_with_one_guest: Host) -> None:
        known = {IMAGE: {"algorithm": "sha512", "value": digest(host_with_one_guest, algorithm="sha512")}}
        before = picture(host_with_one_guest.root)
        assert checksum(audit(host_with_one_guest, known_checksums=known)) == "ok"
        assert picture(host_with_one_guest.root) == before

    def test_resized_copy_is_not_compared_with_the_image(self, host_with_one_guest: Host) -> None:
        host_with_one_guest.base(f"{BASE}_2000000", content=CONTENT, size=2_000_000)
        known = {IMAGE: {"algorithm": "sha1", "value": digest(host_with_one_guest)}}
        result = prune(host_with_one_guest, known_checksums=known, checksum_scope="all")
        assert checksum(result, f"{BASE}_2000000") == "unverified"

    def test_records_of_glance_and_of_the_sdk_are_read(self) -> None:
        value = "ab" * 64
        images = {
            "raw": {"os_hash_algo": "sha512", "os_hash_value": value, "disk_format": "raw"},
            "converted": {"os_hash_algo": "sha512", "os_hash_value": value, "disk_format": "qcow2"},
            "by the SDK": {"hash_algo": "sha512", "hash_value": value},
            "queued": {"os_hash_algo": None, "os_hash_value": None},
        }
        assert list(parse_known_checksums(images).values()) == [("sha512", value), ("sha512", value)]

    @pytest.mark.parametrize(
        "entry",
        [
            "ab" * 20,
            {},
            {"algorithm": "sha1"},
            {"algorithm": "sha1", "value": "ab" * 32},
            {"algorithm": "sha1", "value": "zz" * 20},
            {"algorithm": "sha3000", "value": "ab" * 20},
            {"algorithm": "shake_128", "value": "ab" * 20},
        ],
    )
    def test_invalid_entry_is_refused(self, entry: Any) -> None:
        with pytest.raises(ImageCacheError, match="known_checksums"):
            parse_known_checksums({IMAGE: entry})
