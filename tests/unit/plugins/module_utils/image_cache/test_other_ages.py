# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""For each age the audit reports the bytes that a prune frees if both minimum ages are that age."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.inspection import Inspection
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.instances import Instances
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.names import lock_name, parse_name
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.obstacles import Obstacles
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.other_ages import reclaimable_by_age
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.plan import Plan, make_plan
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.settings import Settings, make_settings
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.snapshot import CacheFile, Snapshot
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.storage import Storage
from ansible_collections.stackops.nova.tests.support.constants import BASE, OTHER_BASE, UUID
from ansible_collections.stackops.nova.tests.support.host import DAY, HOUR, Host, create_image
from ansible_collections.stackops.nova.tools.cache_tree import fingerprint

NOW = 1_795_334_208.5
WEEK = 7 * DAY
USUAL_AGES = [HOUR, DAY, WEEK, 4 * WEEK]
NAMES = [
    "swap_1",
    "swap_2",
    "swap_3",
    "ephemeral_1_0706d66",
    BASE,
    f"{BASE}_10",
    f"{BASE}_sm",
    f"{BASE}.part",
    fingerprint("listed"),
    f"{fingerprint('listed')}_10",
    "README",
]

ages = st.sampled_from([-5, 0, HOUR - 1, HOUR, 2 * HOUR, DAY - 1, DAY, 3 * DAY, WEEK - 1, WEEK, 4 * WEEK, 9 * WEEK])
sizes = st.integers(0, 9)
some_names = st.frozensets(st.sampled_from(NAMES), max_size=3)


def cached(name: str, age: int, size: int) -> CacheFile:
    """A file of the cache, last used so many seconds ago."""
    kind, key = parse_name(name)
    return CacheFile(name, kind, key, 1, size, size, round((NOW - age) * 1e9))


caches = st.builds(
    lambda files, free, in_use, **more: Snapshot(
        exists=True,
        storage=Storage("id", "ext4", False, free, 10**6),
        files=tuple(cached(name, *rest) for name, rest in files.items()),
        backing={name: ["uuid-1"] for name in in_use},
        **more,
    ),
    files=st.dictionaries(st.sampled_from(NAMES), st.tuples(ages, sizes), max_size=len(NAMES)),
    free=st.integers(0, 50),
    in_use=some_names,
    locked=some_names,
    overlays=st.dictionaries(
        st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), min_size=1, max_size=2).map(tuple), max_size=4
    ),
)
obstacles = st.builds(
    Obstacles,
    everything=st.sampled_from(["", "", "A read-only mount."]),
    files=some_names.map(lambda names: dict.fromkeys(names, "An attribute.")),
    new_locks=st.sampled_from(["", "A full file system."]),
    bytes_for_locks=st.sampled_from([None, 1, 9, 20]),
    lock_files=st.frozensets(st.sampled_from(NAMES)).map(lambda names: frozenset(map(lock_name, names))),
)
policies = st.fixed_dictionaries(
    {},
    optional={
        "remove_unused_base_images": st.sampled_from([True, True, False]),
        "remove_unused_original_minimum_age_seconds": st.sampled_from([0, HOUR, 2 * DAY, 40 * WEEK]),
        "remove_unused_resized_minimum_age_seconds": st.sampled_from([0, HOUR, 2 * DAY, 40 * WEEK]),
        "glance_images": st.sampled_from([["listed"], ["listed"], ["listed", "another"], []]),
        "remove_only_deleted_images": st.booleans(),
        "remove_deleted_images_minimum_age_seconds": st.sampled_from([0, HOUR, 2 * DAY, 40 * WEEK]),
    },
)
space_targets = st.fixed_dictionaries(
    {}, optional={"max_used_space": st.integers(0, 60), "min_free_space": st.integers(0, 60)}
)
removal_limits = st.fixed_dictionaries(
    {}, optional={"max_removals": st.integers(0, 5), "max_removal_percent": st.integers(0, 100)}
)
troubles = st.sampled_from([(), (), (), ("A problem.",)])


def decide(snapshot: Snapshot, **options: Any) -> tuple[Plan, Settings]:
    settings = make_settings({"instances_path": "/instances", **options}, {}, "here")
    return make_plan(snapshot, Instances(has_source=False, hosts=frozenset({"here"})), settings, NOW), settings


def answers(snapshot: Snapshot, **options: Any) -> dict[int, int]:
    plan, settings = decide(snapshot, **options)
    return reclaimable_by_age(Inspection(settings, snapshot, plan, NOW))


def freed(snapshot: Snapshot, age: int, **options: Any) -> int:
    """What a plan removes for which both ages are this one."""
    plan, _settings = decide(snapshot, **{**options, **both(age)})
    return sum(file.allocated_bytes for file in plan.removals)


def both(age: int) -> dict[str, int]:
    return {
        "remove_unused_original_minimum_age_seconds": age,
        "remove_unused_resized_minimum_age_seconds": age,
    }


@hypothesis_settings(max_examples=300)
@given(caches, obstacles, policies, space_targets, removal_limits, troubles)
def test_bytes_at_each_age_are_those_of_a_plan_for_this_age(
    snapshot: Snapshot,
    hindrances: Obstacles,
    policy: dict[str, Any],
    space: dict[str, int],
    limits: dict[str, int],
    problems: tuple[str, ...],
) -> None:
    snapshot = snapshot._replace(obstacles=hindrances, problems=problems)
    options = {**policy, **space, **limits}
    for age, freed_bytes in answers(snapshot, **options).items():
        assert freed_bytes == freed(snapshot, age, **options)


@hypothesis_settings(max_examples=100)
@given(caches, obstacles, st.integers(0, 9 * WEEK), space_targets, removal_limits)
def test_bytes_at_the_age_that_is_set_are_what_the_plan_frees(
    snapshot: Snapshot, hindrances: Obstacles, age: int, space: dict[str, int], limits: dict[str, int]
) -> None:
    snapshot = snapshot._replace(obstacles=hindrances)
    plan, _settings = decide(snapshot, **both(age), **space, **limits)
    assert answers(snapshot, **both(age), **space, **limits)[age] == sum(file.allocated_bytes for file in plan.removals)


@hypothesis_settings(max_examples=200)
@given(caches, policies, space_targets)
def test_greater_age_never_frees_more_without_a_limit(
    snapshot: Snapshot, policy: dict[str, Any], space: dict[str, int]
) -> None:
    # With an age of their own, the files of deleted images may come later than others, and free more than is asked for.
    assume(not (space and "remove_deleted_images_minimum_age_seconds" in policy))
    by_age = answers(snapshot, **policy, **space)
    assert list(by_age) == sorted(by_age)
    assert list(by_age.values()) == sorted(by_age.values(), reverse=True)


@pytest.mark.parametrize(
    ("original", "resized", "expected"),
    [
        (DAY, HOUR, USUAL_AGES),
        (2 * DAY, 600, [600, HOUR, DAY, 2 * DAY, WEEK, 4 * WEEK]),
        (0, 0, [0, *USUAL_AGES]),
    ],
)
def test_ages_are_the_usual_ones_and_those_set(original: int, resized: int, expected: list[int]) -> None:
    by_age = answers(
        Snapshot(exists=False),
        remove_unused_original_minimum_age_seconds=original,
        remove_unused_resized_minimum_age_seconds=resized,
    )
    assert by_age == dict.fromkeys(expected, 0)


def test_files_with_an_age_of_their_own_are_removable_at_that_one() -> None:
    listed = fingerprint("listed")
    files = (cached(BASE, 2 * HOUR, 7), cached(f"{BASE}_10", HOUR - 1, 1), cached(listed, 2 * DAY, 5))
    options = {"glance_images": ["listed"], "remove_deleted_images_minimum_age_seconds": HOUR}
    by_age = answers(Snapshot(exists=True, files=files), **options)
    assert by_age == {HOUR: 12, DAY: 12, WEEK: 7, 4 * WEEK: 7}
    only = answers(Snapshot(exists=True, files=files), **options, remove_only_deleted_images=True)
    assert only == dict.fromkeys(USUAL_AGES, 7)


def test_limit_makes_only_the_ages_zero_at_which_it_is_exceeded() -> None:
    snapshot = Snapshot(exists=True, files=(cached("swap_1", 8 * DAY, 7), cached("swap_2", 2 * DAY, 5)))
    assert answers(snapshot, max_removals=1) == {HOUR: 0, DAY: 0, WEEK: 7, 4 * WEEK: 0}


def test_younger_files_with_lock_file_hide_no_older_file_without_one() -> None:
    files = (cached("swap_1", 9 * DAY, 7), cached("swap_2", 2 * DAY, 5), cached("swap_3", 9 * DAY, 3))
    full = Obstacles(
        new_locks="A full file system.",
        bytes_for_locks=1,
        lock_files=frozenset({lock_name("swap_2"), lock_name("swap_3")}),
    )
    assert answers(Snapshot(exists=True, files=files, obstacles=full)) == {HOUR: 15, DAY: 15, WEEK: 10, 4 * WEEK: 0}


class TestRealCache:
    """What is reported for each age is what a prune with both ages set to it frees on the disk."""

    @pytest.fixture(params=[*USUAL_AGES, 2 * DAY])
    def age(self, request: pytest.FixtureRequest) -> int:
        return int(request.param)

    def expect_freed(self, host: Host, age: int, **options: Any) -> None:
        reported = host.audit(**{"remove_unused_resized_minimum_age_seconds": 2 * DAY, **options})
        before = taken(host.cache_path)
        host.prune(**options, **both(age))
        assert before - taken(host.cache_path) == reported.facts["summary"]["reclaimable_by_age"][str(age)]

    def test_ages_of_original_and_resized_files_agree_with_plans(self, host: Host, age: int) -> None:
        for number, hours in enumerate((0.5, 2, 36, 100, 400, 1000)):
            host.base(fingerprint(f"image {number}"), age=hours * HOUR)
            host.base(f"{fingerprint(f'image {number}')}_10737418240", age=hours * HOUR)
        host.base(BASE, age=9 * WEEK)
        host.instance(UUID, {"disk": BASE})
        self.expect_freed(host, age)

    def test_ages_with_an_old_base_under_a_younger_overlay_agree_with_plans(self, host: Host, age: int) -> None:
        below = host.base(OTHER_BASE, age=9 * WEEK)
        overlay = create_image(host.cache_path / BASE, over=below, over_format="raw")
        os.utime(overlay, (host.now - 3 * DAY, host.now - 3 * DAY))
        self.expect_freed(host, age)

    def test_space_target_is_met_by_the_oldest_files(self, host: Host, age: int) -> None:
        for number, days in enumerate((0.1, 3, 10, 50)):
            host.base(fingerprint(f"image {number}"), age=days * DAY, content=os.urandom(65536))
        self.expect_freed(host, age, max_used_space=2 * 65536)

    @pytest.mark.parametrize("only", [True, False])
    def test_ages_of_deleted_images_agree_with_plans(self, host: Host, age: int, only: bool) -> None:
        for number, hours in enumerate((0.5, 2, 36, 100, 400, 1000)):
            host.base(fingerprint(f"image {number}"), age=hours * HOUR, content=os.urandom(4096 << number))
        listed = [f"image {number}" for number in (0, 2, 4)]
        self.expect_freed(
            host,
            age,
            glance_images=listed,
            remove_only_deleted_images=only,
            remove_deleted_images_minimum_age_seconds=HOUR,
        )


def taken(directory: Path) -> int:
    """The bytes of disk that the files of a directory take."""
    return sum(path.stat().st_blocks * 512 for path in directory.iterdir())
