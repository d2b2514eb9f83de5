# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The reason that a message gives, and what to do if it is a lack of rights."""

from __future__ import annotations

import errno
import os

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import (
    AS_ROOT,
    AS_WHOLE_ROOT,
    or_as_root,
    reason_and_remedy,
    reason_of,
    remedy_for_rights,
)
from ansible_collections.stackops.nova.tests.support.processes import as_nobody, needs_root
from ansible_collections.stackops.nova.tests.support.remedies import has_remedy


@needs_root
@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
class TestMissingRights:
    def test_user_without_rights_is_advised_to_run_as_root(self, number: int) -> None:
        reason = as_nobody(lambda: reason_of(OSError(number, os.strerror(number))))
        assert reason == f"{os.strerror(number)}. {AS_ROOT}"

    def test_root_is_not_advised_to_run_as_root(self, number: int) -> None:
        assert reason_of(OSError(number, os.strerror(number))) == os.strerror(number)


def test_failure_that_root_would_have_too_has_its_reason_alone() -> None:
    def refused() -> str:
        with pytest.raises(NotADirectoryError) as caught:
            os.listdir("/dev/null")
        return reason_of(caught.value)

    assert as_nobody(refused) == "Not a directory"


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_each_reason_of_the_kernel_can_have_a_remedy(number: int) -> None:
    text = reason_and_remedy(OSError(number, os.strerror(number)))
    assert text.startswith(f"{os.strerror(number)}. ")
    assert has_remedy(text)


@needs_root
def test_remedy_for_a_user_without_rights_is_to_run_as_root() -> None:
    assert as_nobody(lambda: reason_and_remedy(PermissionError(errno.EACCES, "No"))) == f"No. {AS_ROOT}"


@needs_root
def test_remedy_for_root_without_rights_is_full_capabilities() -> None:
    assert reason_and_remedy(PermissionError(errno.EACCES, "No")) == f"No. {AS_WHOLE_ROOT}"


@needs_root
def test_remedy_for_rights_fits_the_user() -> None:
    assert [remedy_for_rights(), as_nobody(remedy_for_rights)] == [AS_WHOLE_ROOT, AS_ROOT]
    assert [or_as_root(), as_nobody(or_as_root)] == ["", ", or run as root (become: true)"]
    assert all(has_remedy(f"It was refused. {remedy}.") for remedy in (AS_ROOT, AS_WHOLE_ROOT))


def test_error_without_a_number_is_shown_by_its_text() -> None:
    assert [reason_of(OSError("it ended")), reason_of(ValueError("it is too large"))] == ["it ended", "it is too large"]
