# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role's variables, as they reach the modules and the fleet or are refused."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.argspec import (
    argument_spec,
    precache_argument_spec,
    restore_argument_spec,
)
from ansible_collections.stackops.nova.plugins.plugin_utils.fleet.options import (
    NOTHING_SET,
    FleetOptions,
    GlanceOptions,
    HostOptions,
    OptionsError,
    PrecacheOptions,
    as_list,
    plain,
    read_bool,
    read_concurrency,
    read_options,
    read_percent,
    read_precache_options,
    read_restore_options,
)
from ansible_collections.stackops.nova.tests.support.fleet_strategies import HOSTILE, fleet_options, json_values

ROLE = Path(__file__).parents[5] / "roles/image_cache"
VARIABLES = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
# The role finds these out, or has one variable for both modules.
OF_THE_MODULE = {"images", "glance", "peers", "peer_command", "checksums_of"}
GROUPS = {"all": ["a", "b", "c"], "sharing": ["a", "b"], "single": ["c"]}
LISTS = [name for name, spec in argument_spec().items() if spec["type"] == "list" and name != "instances"]


def read(inventory_name: str = "a", /, **given: Any) -> HostOptions:
    return read_options({f"image_cache_{name}": value for name, value in given.items()}, GROUPS, inventory_name)


class TestModule:
    def test_each_option_of_the_modules_has_a_variable_of_the_role(self) -> None:
        given: dict[str, Any] = {name: f"the value of {name}" for name in VARIABLES}
        given |= {
            "image_cache_instance_source": "libvirt",
            "image_cache_storage_group": "single",
            "image_cache_prune": True,
            "image_cache_libvirt": True,
            "image_cache_fleet_max_removal_percent": 5,
            "image_cache_instances": [{"uuid": "x"}],
            "image_cache_keep_images": ["an image"],
            "image_cache_glance_images": ["an image"],
            "image_cache_instances_complete_for": ["one"],
            "image_cache_exempt_storage_users": ["another"],
            "image_cache_report_view": "fleet",
            "image_cache_report_slice": "1",
            **dict.fromkeys(["image_cache_max_removals", "image_cache_max_removal_percent"], 7),
            **dict.fromkeys(["image_cache_max_used_space", "image_cache_min_free_space"], "1G"),
        }
        module = read_options(given, GROUPS, "a").module
        assert module.keys() == argument_spec().keys()
        assert module["instances_complete_for"] == ["one", "another"]
        assert module["image_cache_subdirectory_name"] == "the value of image_cache_subdirectory_name"
        assert module["image_info_filename_pattern"] == "the value of image_cache_info_filename_pattern"
        assert module["keep_files"] == ["the value of image_cache_keep_files"]

    def test_variable_that_is_not_set_is_left_to_the_modules(self) -> None:
        assert read() == HostOptions({"instances_complete_for": []}, NOTHING_SET)
        assert not NOTHING_SET.prune
        assert not NOTHING_SET.opted_out

    def test_result_of_the_role_is_no_unknown_variable(self) -> None:
        assert read(result={"state": "audited"}) == read()

    @pytest.mark.parametrize("option", LISTS)
    def test_text_with_commas_is_a_list_as_it_is_to_a_module(self, option: str) -> None:
        listed = {"glance_images": "one, two"} if option == "keep_images" else {}
        taken = [{"id": "one"}, {"id": "two"}] if option == "keep_images" else ["one", "two"]
        assert read(**listed, **{option: "one, two"}).module[option] == taken

    @pytest.mark.parametrize("option", LISTS)
    def test_dictionary_in_place_of_a_list_is_refused(self, option: str) -> None:
        with pytest.raises(OptionsError, match=f"image_cache_{option} is .* and must be a list"):
            read(**{option: {"a": 1}})

    def test_name_of_an_image_is_found_in_the_list_that_was_given(self) -> None:
        options = read(keep_images=["warm"], glance_images=[{"id": "1", "name": "warm"}])
        assert (options.module["keep_images"], options.fleet.keep_images) == ([{"id": "1"}], ("1",))

    def test_name_of_an_image_may_be_known_to_the_api_alone(self) -> None:
        options = read(keep_images=["warm"], instance_source="openstack")
        assert (options.module["keep_images"], options.fleet.keep_image_names) == ([], ("warm",))

    def test_name_of_an_image_is_refused_where_instances_are_given_and_no_list(self) -> None:
        with pytest.raises(OptionsError, match="image_cache_keep_images or image_cache_glance_images"):
            read(instance_source="provided", instances=[], keep_images=["debian"])

    def test_name_of_an_image_that_nothing_can_know_is_refused(self) -> None:
        with pytest.raises(OptionsError, match="keep_images has 'warm', which is no image's id, and without glance_"):
            read(keep_images=["warm", "cold"])
        with pytest.raises(OptionsError, match="and no image of glance_images has that name"):
            read(keep_images=["warm"], glance_images=[{"id": "1", "name": "cold"}])

    def test_exempt_hosts_need_no_instances(self) -> None:
        options = read(instances_complete_for="one, two", exempt_storage_users=["two", "three"])
        assert options.module["instances_complete_for"] == ["one", "two", "three"]
        assert options.fleet.instances_complete_for == ("one", "two")
        assert options.fleet.exempt_storage_users == ("two", "three")

    def test_names_of_hosts_are_text_whatever_was_given(self) -> None:
        assert read(instances_complete_for=[{"a": 1}, 7]).module["instances_complete_for"] == ["{'a': 1}", "7"]

    @pytest.mark.parametrize(
        ("host", "group", "shared"), [("a", "sharing", True), ("c", "sharing", None), ("c", "single", None)]
    )
    def test_host_in_a_storage_group_with_others_shares_its_storage(
        self, host: str, group: str, shared: bool | None
    ) -> None:
        options = read(host, storage_group=group)
        assert options.module.get("shared_storage") is shared
        assert options.fleet.storage_group == group


class TestFleet:
    def test_lists_of_images_are_distinguished_by_their_ids(self) -> None:
        def digest(*listed: Any) -> str:
            return read(glance_images=listed).fleet.images_digest

        assert read().fleet.images_digest == digest() == ""
        assert digest("one", "two") == digest({"id": "two", "name": "x"}, "one")
        assert len({digest("one"), digest("two"), digest("one", "two"), ""}) == 4

    def test_each_variable_reaches_the_fleet(self) -> None:
        assert read(
            prune="yes",
            host="nova-a",
            instance_source="openstack",
            openstack_cloud="one",
            openstack_region_name="north",
            libvirt=False,
            orphans="ignore",
            storage_members=3,
            fleet_max_removal_percent="12.5",
            max_removals="4",
            max_removal_percent=5,
            max_used_space="1K",
            min_free_space="15 %",
            keep_images=[{"id": "x"}, "y"],
            keep_files="one,two",
            report_path="report",
            report_query="hosts",
            report_slice="rack-1",
            report_view="storages",
        ).fleet == FleetOptions(
            prune=True,
            host="nova-a",
            asks_api=True,
            cloud="one",
            region="north",
            libvirt=False,
            ignores_orphans=True,
            storage_members=3,
            fleet_max_removal_percent=12.5,
            limits={"max_removals": 4, "max_removal_percent": 5, "max_used_space": 1024, "min_free_space": "15 %"},
            keep_images=("x",),
            keep_image_names=("y",),
            keep_files=("one", "two"),
            report_path="report",
            report_query="hosts",
            report_slice="rack-1",
            report_view="storages",
        )

    def test_number_of_a_slice_is_its_name(self) -> None:
        assert read(report_slice=1).fleet.report_slice == "1"

    @pytest.mark.parametrize("name", ["../other", "a b", "a\n", "ü", "x" * 65, ["1"]])
    def test_slice_that_no_file_name_can_have_is_refused(self, name: Any) -> None:
        with pytest.raises(OptionsError, match=r"image_cache_report_slice is .* cannot be part of a file's name"):
            read(report_slice=name)

    @pytest.mark.parametrize("view", ["", "all", "Fleet"])
    def test_unknown_view_of_the_report_is_refused(self, view: str) -> None:
        with pytest.raises(OptionsError, match=r"image_cache_report_view is .* one of fleet, hosts, storages, files"):
            read(report_view=view)

    @pytest.mark.parametrize(
        ("variables", "details"),
        [
            ({"report_path": "/report"}, "images"),
            ({"report_path": "/report", "details": "files"}, "files"),
            ({"report_path": "/report", "details": "summary"}, "images"),
            ({"report_path": "/report", "report_view": "files"}, "files"),
            ({"report_path": ""}, None),
        ],
    )
    def test_report_that_is_written_asks_for_images(self, variables: dict[str, str], details: str | None) -> None:
        assert read(**variables).module.get("details") == details

    @pytest.mark.parametrize(
        ("variables", "details"),
        [
            ({}, None),
            ({"report_view": "hosts"}, None),
            ({"report_view": "files"}, "files"),
            ({"report_view": "files", "details": "summary"}, "files"),
        ],
    )
    def test_view_of_files_asks_for_each_file(self, variables: dict[str, str], details: str | None) -> None:
        assert read(**variables).module.get("details") == details

    @pytest.mark.parametrize("source", ["libvirt", "provided"])
    def test_api_is_asked_where_it_is_the_source_alone(self, source: str) -> None:
        assert not read(instance_source=source, instances=[]).fleet.asks_api

    def test_orphans_that_protect_are_not_ignored(self) -> None:
        assert not read(orphans="protect").fleet.ignores_orphans

    @pytest.mark.parametrize(
        ("value", "members"),
        [(1, 1), ("3", 3), (" 3 ", 3), (["a", "b"], ("a", "b")), ("a, b", ("a", "b")), ([5], ("5",)), ([], ())],
    )
    def test_members_of_a_storage_are_names_or_a_number(self, value: Any, members: Any) -> None:
        assert read(storage_members=value).fleet.storage_members == members

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (0, "image_cache_storage_members is 0. A storage has at least one member."),
            ("0", "image_cache_storage_members is 0. A storage has at least one member."),
            (-1, "image_cache_storage_members is -1. A storage has at least one member."),
            (True, "image_cache_storage_members is True and must be a list"),
            (1.5, "image_cache_storage_members is 1.5 and must be a list"),
            ("", "image_cache_storage_members has an empty name in it."),
            (["a", ""], "image_cache_storage_members has an empty name in it."),
            ("a,", "image_cache_storage_members has an empty name in it."),
        ],
    )
    def test_members_that_are_neither_names_nor_a_number_are_refused(self, value: Any, message: str) -> None:
        with pytest.raises(OptionsError) as refused:
            read(storage_members=value)
        assert str(refused.value).startswith(message)

    def test_number_of_members_with_too_many_digits_is_a_name(self) -> None:
        assert read(storage_members="9" * 18).fleet.storage_members == 10**18 - 1
        assert read(storage_members="9" * 5000).fleet.storage_members == ("9" * 5000,)

    @pytest.mark.parametrize("value", [None, 0, "0", 12.5, 100, "100"])
    def test_percent_is_a_number_from_0_to_100(self, value: Any) -> None:
        assert read_percent(value) == (None if value is None else float(value))

    @pytest.mark.parametrize(
        "value", [-0.1, 100.1, True, False, "nan", float("nan"), "inf", [], {}, "", "x", 10**400, "{{ x }}"]
    )
    def test_percent_that_is_no_number_from_0_to_100_is_refused(self, value: Any) -> None:
        with pytest.raises(OptionsError, match="which is not a number of percent"):
            read_percent(value)

    @pytest.mark.parametrize(
        ("value", "truth"), [(True, True), ("yes", True), (1, True), ("no", False), (0, False), ("False", False)]
    )
    def test_truth_value_is_read_as_ansible_writes_it(self, value: Any, truth: bool) -> None:
        assert read_bool("x", value) is truth

    @pytest.mark.parametrize("value", ["perhaps", 5, [], {}, None])
    def test_value_that_is_neither_true_nor_false_is_refused(self, value: Any) -> None:
        with pytest.raises(OptionsError, match=r"^x is .*, which is neither true nor false\. Set x to one of these\.$"):
            read_bool("x", value)


class TestInstances:
    def test_instances_of_the_provided_source_may_be_none(self) -> None:
        options = read(instance_source="provided", instances=[])
        assert options.module["instances"] == []
        assert (options.fleet.instances, options.fleet.records_digest) == ((), "")

    def test_server_is_reduced_to_what_a_host_has_to_know(self) -> None:
        server = {"id": "1", "image": {"id": "i"}, "flavor": {"swap": 64}, "compute_host": "b", "adminPass": "secret"}
        record = {"uuid": "1", "name": "", "host": "b", "image_ref": "i", "swap_mb": 64}
        options = read(instances=[server, {"id": "2", "vm_state": "deleted"}])
        assert options.module["instances"] == [record]
        assert options.fleet.instances == (record,)

    def test_record_that_is_not_understood_is_named_by_its_number(self) -> None:
        with pytest.raises(OptionsError, match=r"image_cache_instances\[1\] cannot be understood: it has neither a"):
            read(instances=[{"uuid": "1"}, {"adminPass": "secret"}])

    def test_digest_is_that_of_the_instances_in_any_order(self) -> None:
        one, two = {"uuid": "1"}, {"uuid": "2"}
        digest = read(instances=[one, two]).fleet.records_digest
        assert digest == read(instances=[two, one]).fleet.records_digest
        named = [{"uuid": "1", "name": "x"}, {"name": "x", "uuid": "1"}]
        assert len({read(instances=[record]).fleet.records_digest for record in named}) == 1
        others = {read(instances=[record]).fleet.records_digest for record in (one, two)}
        assert len({digest, *others}) == 3

    def test_digest_of_no_instances_is_empty(self) -> None:
        assert read().fleet.records_digest == read(instances=[]).fleet.records_digest == ""

    def test_dates_become_text(self) -> None:
        servers = [{"id": date(2026, 1, 2), "x": (datetime(2026, 1, 2, 3, 4),)}]
        assert plain(servers) == [{"id": "2026-01-02", "x": ["2026-01-02T03:04:00"]}]
        assert plain({date(2026, 1, 2): {"a"}}) == {"2026-01-02": ["a"]}

    def test_vaulted_text_becomes_text(self) -> None:
        class Vaulted(str):
            vault = object()

        text = plain([Vaulted("secret")])
        assert text == ["secret"]
        assert not isinstance(text[0], Vaulted)


class TestRefusals:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (
                {"max_removal": 3, "dry_run": True},
                "The role image_cache has no variable image_cache_dry_run, image_cache_max_removal. A protection whose "
                "name is misspelt protects nothing, so nothing was looked at. Correct the name in the inventory or the "
                "play. If the variable is your own, registered or set elsewhere, give it a name that does not begin "
                "with image_cache_.",
            ),
            (
                {"instance_source": "nova"},
                "image_cache_instance_source is 'nova', which the role does not know. Set it to one of libvirt, "
                "openstack, provided.",
            ),
            (
                {"instance_source": ["libvirt"]},
                "image_cache_instance_source is ['libvirt'], which the role does not know.",
            ),
            (
                {"storage_group": None, "max_removals": None},
                "image_cache_max_removals, image_cache_storage_group are null. Set a value, or remove "
                "image_cache_max_removals, image_cache_storage_group.",
            ),
            ({"instances": None, "instance_source": "provided"}, "image_cache_instances is null. Set a value"),
            ({"instance_source": "provided"}, "image_cache_instance_source is provided, and no instances are given."),
            ({"storage_group": "shraing"}, "image_cache_storage_group is 'shraing'. The inventory has no such group."),
            ({"storage_group": ""}, "image_cache_storage_group is ''. The inventory has no such group."),
            ({"storage_group": ["sharing"]}, "image_cache_storage_group is list and must be text."),
            ({"host": {"a": 1}}, "image_cache_host is dict and must be text. Set image_cache_host to one text."),
            ({"prune": "perhaps"}, "image_cache_prune is 'perhaps', which is neither true nor false."),
            ({"libvirt": 5}, "image_cache_libvirt is 5, which is neither true nor false."),
            (
                {"max_removals": "many"},
                "image_cache_max_removals is 'many', which is not a number. Set image_cache_max_removals to a number.",
            ),
            ({"max_removals": float("inf")}, "image_cache_max_removals is inf, which is not a number."),
            (
                {"max_used_space": "much"},
                "image_cache_max_used_space is 'much', which is neither a number of bytes nor a percentage of the file "
                "system. Set image_cache_max_used_space to bytes, with or without a unit (100G), or to at most 100 "
                "percent (15%).",
            ),
            ({"min_free_space": []}, "image_cache_min_free_space is '[]', which is neither a number of bytes nor"),
            ({"min_free_space": "9" * 400}, "image_cache_min_free_space is '999"),
            ({"fleet_max_removal_percent": 101}, "image_cache_fleet_max_removal_percent is 101, which is not a number"),
            ({"exempt_storage_users": 5}, "image_cache_exempt_storage_users is 5 and must be a list."),
        ],
    )
    def test_invalid_variable_is_refused(self, given: dict[str, Any], message: str) -> None:
        with pytest.raises(OptionsError) as refused:
            read(**given)
        assert str(refused.value).startswith(message)

    @pytest.mark.parametrize("value", [5, None, {"a": 1}])
    def test_value_that_is_no_list_is_an_error_of_its_type(self, value: Any) -> None:
        with pytest.raises(TypeError):
            as_list(value)


class TestAnyValue:
    @given(
        st.dictionaries(
            st.sampled_from([*sorted(VARIABLES), "image_cache_unknown"]),
            st.one_of(json_values, st.sampled_from([float("inf"), 10**400, "9" * 400, [{}], [[]]])),
            max_size=4,
        )
    )
    def test_any_value_is_read_or_refused(self, variables: dict[str, Any]) -> None:
        with contextlib.suppress(OptionsError):
            assert set(read_options(variables, GROUPS, "a").module) <= set(argument_spec())

    @given(fleet_options)
    def test_options_are_the_same_after_their_way_through_json(self, options: FleetOptions) -> None:
        assert FleetOptions.from_plain(json.loads(json.dumps(options.to_plain()))) == options

    def test_options_that_are_not_set_take_no_room(self) -> None:
        assert NOTHING_SET.to_plain() == {}
        assert FleetOptions(libvirt=False).to_plain() == {"libvirt": False}

    def test_list_of_a_result_is_a_tuple_again(self) -> None:
        options = FleetOptions(keep_files=("x",), limits={"max_removals": 1}, host="nova-a")
        plain_options = {"keep_files": ["x"], "limits": {"max_removals": 1}, "host": "nova-a"}
        assert FleetOptions.from_plain(plain_options) == options
        assert json.loads(json.dumps(options.to_plain())) == plain_options

    @pytest.mark.parametrize(
        ("options", "shows_files"),
        [
            ({}, False),
            ({"report_view": "fleet"}, False),
            ({"report_view": "hosts"}, False),
            ({"report_view": "storages"}, True),
            ({"report_view": "files"}, True),
            ({"report_path": "there", "report_view": "fleet"}, True),
        ],
    )
    def test_files_are_shown_by_a_written_report_and_by_pages(self, options: dict[str, Any], shows_files: bool) -> None:
        assert FleetOptions(**options).shows_files is shows_files

    @pytest.mark.parametrize("text", HOSTILE)
    def test_text_is_neither_templated_nor_changed(self, text: str) -> None:
        image = {"id": "1", "name": text or "a name"}
        options = read(
            host=text,
            keep_files=[text],
            keep_images=[image["name"]],
            glance_images=[image],
            openstack_cloud=text,
            report_path=text,
        )
        assert (options.module["keep_files"], options.module["glance_images"]) == ([text], [image])
        assert replace(options.fleet, images_digest="") == FleetOptions(
            host=text, keep_files=(text,), keep_images=("1",), cloud=text, report_path=text
        )


class TestRestore:
    def read(self, **given: Any) -> dict[str, Any]:
        variables = {f"image_cache_{name}": value for name, value in given.items()}
        return dict(read_restore_options(variables, GROUPS, "a")[0].module)

    def glance(self, **given: Any) -> GlanceOptions | None:
        variables = {f"image_cache_{name}": value for name, value in given.items()}
        return read_restore_options(variables, GROUPS, "a")[1]

    def test_glance_is_not_asked_unless_that_is_set(self) -> None:
        assert self.glance() is None
        assert self.glance(restore_from_glance="no", allow_admin_token=True) is None
        assert self.glance(restore_from_glance="yes") == GlanceOptions()

    def test_variables_of_glance_are_those_of_precaching(self) -> None:
        given = {
            "openstack_cloud": "lab",
            "openstack_region_name": "x",
            "glance_interface": "internal",
            "glance_ca_cert": "/ca",
            "allow_admin_token": True,
        }
        expected = GlanceOptions("lab", "x", "internal", True, {"ca_cert": "/ca"})
        assert self.glance(**given, restore_from_glance=True) == expected
        assert GlanceOptions.from_plain(expected.to_plain()) == expected

    def test_hosts_ask_one_api_whatever_they_do_with_its_answer(self) -> None:
        asked = GlanceOptions("lab", "x", "internal", True, {"ca_cert": "/ca"})
        assert asked.api == replace(asked, glance={}).api == PrecacheOptions("lab", "x", "internal", True).api
        others = [{"cloud": "far"}, {"region": "y"}, {"interface": ""}, {"allow_admin_token": False}]
        assert len({asked.api, *(replace(asked, **other).api for other in others)}) == 5

    def test_value_that_is_no_truth_value_is_refused(self) -> None:
        with pytest.raises(OptionsError, match="image_cache_restore_from_glance is 'perhaps', which is neither true"):
            self.glance(restore_from_glance="perhaps")

    def test_each_option_of_the_restore_has_a_variable(self) -> None:
        given = {
            "states": "replaced",
            "names": ["x"],
            "files": {"x": "/x"},
            "unproven": "y,z",
            "max_rate": "5M",
            "qemu_img": "/opt/qemu-img",
        }
        module = self.read(**{f"restore_{name}": value for name, value in given.items()}, config_file="/nova.conf")
        expected = {**given, "states": ["replaced"], "unproven": ["y", "z"]}
        assert module == {**expected, "config_file": ["/nova.conf"], "images": [], "instances_complete_for": []}
        own = restore_argument_spec().keys() - argument_spec().keys() - OF_THE_MODULE
        assert given.keys() == own

    def test_records_among_glances_images_are_what_proves_a_file(self) -> None:
        record = {"id": "x", "os_hash_value": "y"}
        assert self.read(glance_images=["z", record])["images"] == [record]

    def test_value_that_is_not_a_list_is_refused(self) -> None:
        with pytest.raises(OptionsError, match="image_cache_restore_names is 5 and must be a list"):
            self.read(restore_names=5)

    def test_variables_of_a_restore_are_known_to_an_audit_and_change_nothing(self) -> None:
        assert read(restore_states=["replaced"], restore_files={"x": "/x"}) == read()

    def test_audit_refuses_what_no_entry_point_knows(self) -> None:
        with pytest.raises(OptionsError, match="has no variable image_cache_restore_images"):
            read(restore_images=[])


class TestPrecache:
    def read(self, **given: Any) -> tuple[dict[str, Any], PrecacheOptions]:
        variables = {f"image_cache_{name}": value for name, value in given.items()}
        module, options = read_precache_options(variables, GROUPS, "a")
        return dict(module), options

    def test_variables_that_are_not_set_choose_nothing_and_ask_glance(self) -> None:
        assert self.read() == ({"instances_complete_for": []}, PrecacheOptions())

    def test_each_variable_reaches_the_choice(self) -> None:
        _module, options = self.read(
            precache_images="one,two",
            precache_properties={"os_distro": "debian"},
            precache_owners=["tenant", 5],
            precache_max_bytes="2G",
            openstack_cloud="lab",
            openstack_region_name="x",
            glance_interface="internal",
            glance_validate_certs=False,
            allow_admin_token="yes",
            storage_group="single",
            report_path="there",
            report_slice=3,
        )
        assert options == PrecacheOptions(
            cloud="lab",
            region="x",
            interface="internal",
            allow_admin_token=True,
            glance={"validate_certs": False},
            images=("one", "two"),
            properties={"os_distro": "debian"},
            owners=("tenant", "5"),
            max_bytes=2 << 30,
            storage_group="single",
            report_path="there",
            report_slice="3",
        )
        assert PrecacheOptions.from_plain(json.loads(json.dumps(options.to_plain()))) == options

    def test_each_option_of_its_own_has_a_variable(self) -> None:
        given = {
            "files": {"x": "/x"},
            "max_rate": "5M",
            "qemu_img": "/opt/qemu-img",
            "allow_unverified_signatures": True,
        }
        module, _options = self.read(**{f"precache_{name}": value for name, value in given.items()}, keep_files=["x"])
        assert module == {**given, "keep_files": ["x"], "instances_complete_for": []}
        assert given.keys() == precache_argument_spec().keys() - argument_spec().keys() - OF_THE_MODULE

    def test_records_of_the_variables_are_used_where_no_api_is_asked(self) -> None:
        record = {"id": "x", "size": 1}
        assert self.read(precache_source="files", glance_images=["y", record])[1].records == (record,)
        assert self.read(precache_source="glance", glance_images=["y", record])[1].records is None

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"precache_source": "peers"}, "image_cache_precache_source is 'peers', which the role does not know"),
            ({"precache_source": "files"}, "no records of images are given"),
            ({"precache_source": "files", "glance_images": ["x"]}, "no records of images are given"),
            ({"precache_properties": ["x"]}, r"image_cache_precache_properties is \['x'\] and must be a dictionary"),
            ({"precache_properties": {"x": True}}, "has 'x': True, and a property of an image is text"),
            ({"precache_properties": {5: "x"}}, "has 5: 'x', and a property of an image is text"),
            *(
                ({"precache_max_bytes": size}, "image_cache_precache_max_bytes is .*, which is no size")
                for size in ("x", "", "0", 0, -1, "0.5", "1 parrot", "inf", [1])
            ),
            ({"precache_images": 5}, "image_cache_precache_images is 5 and must be a list"),
            ({"glance_concurrency": 0}, "image_cache_glance_concurrency is 0, which is no number of hosts"),
            ({"allow_admin_token": "perhaps"}, "image_cache_allow_admin_token is 'perhaps', which is neither true"),
            ({"precache_image": "x"}, "has no variable image_cache_precache_image"),
            ({"precache_images": None}, "image_cache_precache_images is null"),
        ],
    )
    def test_value_that_is_of_no_use_is_refused(self, given: dict[str, Any], message: str) -> None:
        with pytest.raises(OptionsError, match=message):
            self.read(**given)

    def test_limit_of_one_byte_is_one(self) -> None:
        assert self.read(precache_max_bytes=1)[1].max_bytes == 1

    @pytest.mark.parametrize(("value", "number"), [(1, 1), (" 8 ", 8), ("9" * 18, 10**18 - 1)])
    def test_concurrency_is_a_number_above_zero(self, value: Any, number: int) -> None:
        assert read_concurrency(value) == number

    @pytest.mark.parametrize("value", [0, -1, 1.5, "x", "", True, [2], "9" * 19])
    def test_concurrency_that_is_no_number_above_zero_is_refused(self, value: Any) -> None:
        with pytest.raises(OptionsError, match=r"image_cache_glance_concurrency is .*, which is no number of hosts"):
            read_concurrency(value)
