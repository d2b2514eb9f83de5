# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What counts as a remedy at the end of a message."""

from __future__ import annotations

import pytest

from ansible_collections.stackops.nova.tests.support.remedies import has_remedy


@pytest.mark.parametrize(
    "remedy",
    [
        "Set max_removals to more.",
        "Set libvirt: false.",
        "Remove image_cache_prune there.",
        "If this is expected, raise max_removals.",
        "Otherwise restore the file in /proc/PID/fd.",
        "Run as root (become: true).",
        "Remove it with chattr -i -a.",
        "Look at what is there (ls -ld).",
        "Run the play without serial.",
        "Mount the disk at ….",
    ],
)
def test_sentence_that_asks_and_names_is_a_remedy(remedy: str) -> None:
    assert has_remedy(f"The disk … cannot be read: it is empty. {remedy}")


@pytest.mark.parametrize(
    "end",
    [
        "",
        "Correct it.",  # names nothing
        "Give the instances of the host.",  # English words, although options are called that
        "The option max_removals is too small.",  # asks for nothing
        "The mount is missing (mount).",
        "Remove the list.",  # "ls" is only in a word
        "Touch the files.",  # a command only where it is set apart
    ],
)
def test_sentence_that_asks_for_nothing_or_names_nothing_is_no_remedy(end: str) -> None:
    assert not has_remedy(f"The disk … cannot be read: it is empty. {end}")


def test_first_sentence_is_no_remedy() -> None:
    assert not has_remedy("Set max_removals to more.")
