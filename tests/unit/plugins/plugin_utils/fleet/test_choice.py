# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host gets the images that its operator means, of owners that the operator trusts, or an error that says why not."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.choice import (
    choose_for_hosts,
    choose_images,
    has_id,
)
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.glance import GlanceList
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import OptionsError, PrecacheOptions
from ansible_collections.stackops.nova.tests.support.fleet_strategies import HOSTILE, json_values
from ansible_collections.stackops.nova.tests.support.precaches import GIB, image
from ansible_collections.stackops.nova.tests.support.remedies import has_remedy

PRIVATE = {"visibility": "private", "owner": "tenant"}


def chosen(images: list[Any], *names: str, **asked: Any) -> list[str]:
    """The ids of the images that a host pre-caches."""
    return [each["id"] for each in choose_images(images, PrecacheOptions(images=names, **asked))]


def why_not(images: list[Any], *names: str, **asked: Any) -> str:
    with pytest.raises(OptionsError) as caught:
        chosen(images, *names, **asked)
    assert has_remedy(str(caught.value))
    return str(caught.value)


class TestIdsAndNames:
    def test_images_come_in_the_order_in_which_they_were_named_and_once(self) -> None:
        images = [image("one"), image("two"), image("three")]
        assert chosen(images, "three", "image one", "three", "one") == ["three", "one"]

    def test_id_comes_before_a_name(self) -> None:
        assert chosen([image("one"), image("two", name="one")], "one") == ["one"]

    @pytest.mark.parametrize("entry", ["ONE", " one", "image One", "image one ", ""])
    def test_other_spelling_means_no_image(self, entry: str) -> None:
        assert f"has {entry!r}, and Glance lists no image with exactly this id or name" in why_not([image()], entry)

    def test_name_of_several_images_is_refused_with_their_ids(self) -> None:
        images = [image("two", name="x"), image("one", name="x")]
        assert "'x', which is the name of 2 images (one, two). Set image_cache" in why_not(images, "x")

    @pytest.mark.parametrize("other", [PRIVATE, {"os_hidden": True}, {"status": "deactivated"}, {"size": None}])
    def test_image_that_does_not_qualify_takes_no_name_from_another_one(self, other: dict[str, Any]) -> None:
        assert chosen([image("one", name="x"), image("two", name="x", **other)], "x") == ["one"]

    def test_name_of_images_that_do_not_qualify_is_refused_with_their_ids(self) -> None:
        images = [image("one", name="x", **PRIVATE)]
        assert "(one; of the first: it is neither public" in why_not(images, "x")
        assert "it is hidden" in why_not([image("one", name="x", os_hidden=True)], "x")

    @pytest.mark.parametrize("first_is_hidden", [True, False])
    def test_refusal_of_a_name_has_the_reason_of_the_first_image(self, first_is_hidden: bool) -> None:
        hidden, private = image("x", name="same", os_hidden=True), image("y", name="same", **PRIVATE)
        refusal = why_not([hidden, private] if first_is_hidden else [private, hidden], "same")
        assert ("of the first: it is hidden" in refusal) is first_is_hidden
        assert ("of the first: it is neither public" in refusal) is not first_is_hidden

    def test_hidden_image_is_chosen_by_its_id_only(self) -> None:
        hidden = image(os_hidden=True, use="yes")
        assert chosen([hidden], "one") == ["one"]
        assert "none has use=yes" in why_not([hidden], properties={"use": "yes"})


class TestProperties:
    def test_image_must_have_all_properties_with_exactly_these_values(self) -> None:
        images = [image("one", a="1", b="2"), image("two", a="1"), image("three", a="1", b="2 "), image("4", a=1, b=2)]
        assert chosen(images, properties={"a": "1", "b": "2"}) == ["one"]

    def test_images_with_the_properties_come_besides_those_that_are_named(self) -> None:
        images = [image("one", a="1"), image("two"), image("three", a="1")]
        assert chosen(images, "two", properties={"a": "1"}) == ["two", "one", "three"]

    def test_property_of_an_image_of_another_project_counts_for_nothing(self) -> None:
        images = [image("one", a="1"), image("two", a="1", **PRIVATE)]
        assert chosen(images, properties={"a": "1"}) == ["one"]
        assert chosen(images, properties={"a": "1"}, owners=("tenant",)) == ["one", "two"]


class TestTrust:
    @pytest.mark.parametrize("visibility", ["private", "shared", "community", None, ["public"]])
    def test_image_of_a_project_needs_that_project_among_the_owners(self, visibility: Any) -> None:
        images = [image(visibility=visibility, owner="tenant")]
        assert "(its project is tenant)" in why_not(images, "one", owners=("Tenant", "tenant2"))
        assert chosen(images, "one", owners=("tenant",)) == ["one"]

    @pytest.mark.parametrize("owner", [None, 5, ["tenant"], {}])
    def test_owner_that_is_no_text_is_nobody(self, owner: Any) -> None:
        images = [image(visibility="private", owner=owner)]
        assert "its project is unknown" in why_not(images, "one", owners=("tenant", "None", "5"))

    @pytest.mark.parametrize(
        ("more", "reason"),
        [
            ({"status": "deactivated"}, "its status is deactivated and not active"),
            ({"status": None}, "its status is None and not active"),
            ({"os_hash_algo": None}, "no checksum by sha256 or sha512"),
            ({"os_hash_algo": "md5"}, "no checksum by sha256 or sha512"),
            ({"os_hash_value": "abc"}, "a checksum that is none"),
            ({"container_format": "ova"}, "a container of the format ova"),
            ({"size": None}, "has no size"),
            ({"size": "7"}, "has no size"),
            ({"size": True}, "has no size"),
            ({"size": 0}, "has no size"),
            ({"name": ["x"]}, "its name is not text"),
        ],
    )
    def test_image_whose_bytes_could_not_be_proven_is_refused(self, more: dict[str, Any], reason: str) -> None:
        assert reason in why_not([image(**more)], "one")

    def test_smallest_image_is_one_byte(self) -> None:
        assert chosen([image(size=1)], "one") == ["one"]

    def test_records_of_the_operator_are_of_any_project(self) -> None:
        record = {key: image()[key] for key in ("id", "status", "disk_format", "size", "os_hash_algo", "os_hash_value")}
        assert chosen([record], "one", records=(record,)) == ["one"]


class TestKernels:
    def test_kernel_and_ramdisk_follow_their_image(self) -> None:
        images = [image("one", kernel_id="k", ramdisk_id="r"), image("k"), image("r"), image("two", kernel_id="k")]
        assert chosen(images, "one", "two") == ["one", "k", "r", "two"]
        assert chosen([image("one", ramdisk_id="r"), image("r")], "one") == ["one", "r"]

    @pytest.mark.parametrize("kernel", [None, "", "nokernel", 5])
    def test_image_that_names_no_kernel_has_none(self, kernel: Any) -> None:
        assert chosen([image(kernel_id=kernel)], "one") == ["one"]

    @pytest.mark.parametrize(("others", "why"), [([], "does not list it"), ([image("k", **PRIVATE)], "neither public")])
    def test_kernel_that_may_not_be_pre_cached_refuses_its_image(self, others: list[Any], why: str) -> None:
        assert why in why_not([image(kernel_id="k"), *others], "one")


class TestBounds:
    def test_bytes_are_bounded_with_the_numbers_in_the_refusal(self) -> None:
        images = [image("one"), image("two", size=GIB + 1)]
        for bound in (2 * GIB + 1, 2 * GIB + 2, None):
            assert chosen(images, "one", "two", max_bytes=bound) == ["one", "two"]
        refusal = why_not(images, "one", "two", max_bytes=2 * GIB)
        assert f"the 2 images that were chosen have {2 * GIB + 1} bytes" in refusal
        assert f"image_cache_precache_max_bytes is {2 * GIB}. The largest is two with {GIB + 1} bytes" in refusal

    def test_choice_of_no_image_is_an_error(self) -> None:
        assert "no image was asked for" in why_not([image()])
        assert "of the 1 images that may be, none has a=1" in why_not([image()], properties={"a": "1"})


class TestHostileRecords:
    @pytest.mark.parametrize(
        ("image_id", "is_one"),
        [("x", True), ("x" * 255, True), ("", False), ("x" * 256, False), ("x\n", False), (5, False), (None, False)],
    )
    def test_id_of_an_image_is_a_short_text(self, image_id: Any, is_one: bool) -> None:
        assert has_id({"id": image_id}) is is_one
        assert not has_id([image_id])

    def test_host_gets_of_a_record_what_it_has_to_know(self) -> None:
        (record,) = choose_images([image(secret="x", locations=["x"])], PrecacheOptions(images=("one",)))
        assert "secret" not in record
        assert "locations" not in record

    @given(st.lists(json_values, max_size=4))
    def test_entry_that_is_no_image_changes_nothing(self, entries: list[Any]) -> None:
        assert chosen([*entries, image("one")], "one") == ["one"]

    @given(st.dictionaries(st.sampled_from(sorted(image())), json_values))
    def test_record_of_any_values_is_chosen_or_refused_and_never_a_crash(self, more: dict[str, Any]) -> None:
        made: Any = ()
        with contextlib.suppress(OptionsError):
            made = choose_images([image(**more)], PrecacheOptions(images=("one",), properties={"a": "b"}))
        json.dumps(made, ensure_ascii=False).encode()

    @pytest.mark.parametrize("name", HOSTILE)
    def test_hostile_name_chooses_and_survives_as_it_is(self, name: str) -> None:
        records = choose_images([image(name=name)], PrecacheOptions(images=(name,)))
        assert records[0]["name"] == name.encode("utf-8", "replace").decode()
        assert why_not([image(name=name, **PRIVATE)], name).isprintable()


class TestHosts:
    def test_each_api_is_asked_once_and_hosts_that_ask_for_the_same_share_a_choice(self) -> None:
        asked = []

        def ask(options: PrecacheOptions) -> GlanceList:
            asked.append(options.api)
            return GlanceList((image("one"), image("two")), f"http://{options.region}")

        one, two = PrecacheOptions(images=("one",), region="x"), PrecacheOptions(images=("two",), region="x")
        far = PrecacheOptions(images=("one",), region="y")
        made = choose_for_hosts({"a": one, "b": two, "c": one, "d": far}, ask)
        assert made["hosts"] == {"a": 0, "b": 1, "c": 0, "d": 2}
        ids = [[record["id"] for record in choice["images"]] for choice in made["choices"]]
        assert ids == [["one"], ["two"], ["one"]]
        assert [choice["endpoint"] for choice in made["choices"]] == ["http://x", "http://x", "http://y"]
        assert len(asked) == 2

    def test_problem_of_one_api_is_that_of_its_hosts_only(self) -> None:
        def ask(options: PrecacheOptions) -> GlanceList:
            return GlanceList(problem="It is down.") if options.cloud else GlanceList((image(),), "http://x")

        asked = {"a": PrecacheOptions(images=("one",), cloud="x"), "b": PrecacheOptions(images=("one",))}
        made = choose_for_hosts({**asked, "c": PrecacheOptions(images=("no",))}, ask)
        first, second, third = made["choices"]
        assert (first["problem"], first["images"], second["problem"]) == ("It is down.", [], "")
        assert "'no'" in third["problem"]

    def test_records_of_the_variables_ask_no_api(self) -> None:
        options = PrecacheOptions(images=("one",), records=(image(),))
        made = choose_for_hosts({"a": options}, lambda _options: pytest.fail("It was asked."))
        assert (made["choices"][0]["endpoint"], len(made["choices"][0]["images"])) == ("", 1)
