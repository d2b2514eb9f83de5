# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""libvirt's domain XML is read, or has a problem. A problem means that not all instances are known."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.domain_xml import parse_domain
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.instance_records import parse_record
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.instances import (
    Instance,
    merge_instances,
)
from ansible_collections.stackops.nova.tests.support import captures
from ansible_collections.stackops.nova.tests.support.constants import IMAGE, UUID
from ansible_collections.stackops.nova.tests.support.domains import nova_domain
from ansible_collections.stackops.nova.tests.support.host import Host
from ansible_collections.stackops.nova.tests.support.processes import as_nobody, needs_root

NAME = "instance-00000002"
ROOT = captures.CAPTURED_ROOT


def captured_domain(scene: str, name: str) -> Instance:
    return parse_domain((captures.CAPTURES / scene / "libvirt" / f"{name}.xml").read_bytes(), "vm")


class TestCapturedDomains:
    def test_domain_names_image_sizes_and_disks(self) -> None:
        assert captured_domain("steady", NAME) == Instance(
            uuid=UUID,
            name=NAME,
            host="vm",
            image_ids=(IMAGE,),
            swap_mb=(64,),
            resizing=None,
            disks=((f"{ROOT}/{UUID}/disk", "qcow2"), (f"{ROOT}/{UUID}/disk.swap", "qcow2")),
        )

    def test_config_drive_is_a_raw_disk(self) -> None:
        config_drive = f"{ROOT}/2b7275d0-ad58-4f20-a840-1ed0fd85a981/disk.config"
        assert (config_drive, "raw") in captured_domain("before-removal", "instance-0000000d").disks

    def test_backing_files_in_a_running_domain_are_no_disks(self) -> None:
        assert captured_domain("after-removal", NAME).disks == captured_domain("steady", NAME).disks

    @pytest.mark.parametrize("scene", captures.NAMES)
    def test_domains_and_servers_have_the_same_instances(self, scene: str) -> None:
        answers = captures.servers(scene)
        if scene == "soft-deleted":
            answers += captures.servers(scene, "servers-detail-deleted-true.json")
        servers = {server.uuid: server for server in map(parse_record, answers) if server is not None}
        paths = list((captures.CAPTURES / scene / "libvirt").glob("*.xml"))
        assert paths
        for path in paths:
            one = parse_domain(path.read_bytes(), "vm")
            other = servers[one.uuid]
            assert (one.name, one.swap_mb, one.ephemeral_gb) == (other.name, other.swap_mb, other.ephemeral_gb)
            # What was shelved and came back still has the snapshot in its metadata, and not its image.
            came_back = "daebba21-301d-45de-9b6d-9a25aeb11bc7"
            assert one.image_ids in (other.image_ids, (came_back,))


class TestDomain:
    @pytest.mark.parametrize(
        ("metadata", "image_ids"),
        [
            pytest.param(f'<nova:root type="image" uuid="{IMAGE}"/>', (IMAGE,), id="root image"),
            pytest.param(f'<nova:image uuid="{IMAGE}"/>', (IMAGE,), id="newer releases"),
            pytest.param(f'<nova:root type="image" uuid="{IMAGE}"/><nova:image uuid="{IMAGE}"/>', (IMAGE,), id="both"),
            pytest.param('<nova:root type="volume" uuid="3c3c"/>', (), id="boot from volume"),
            pytest.param('<nova:root type="image"/>', (), id="image without its id"),
            pytest.param(f'<other:root xmlns:other="x" type="image" uuid="{IMAGE}"/>', (), id="somebody else's"),
            pytest.param("", (), id="none"),
        ],
    )
    def test_image_is_read_from_novas_metadata(self, metadata: str, image_ids: tuple[str, ...]) -> None:
        assert parse_domain(nova_domain(metadata=metadata), "vm").image_ids == image_ids

    def test_metadata_is_read_with_any_version_and_prefix_of_its_namespace(self) -> None:
        document = nova_domain(metadata=f'<nova:root type="image" uuid="{IMAGE}"/>')
        old = document.replace(b"nova/1.1", b"nova/1.0").replace(b"nova:", b"n:").replace(b":nova", b":n")
        assert old.count(b"<n:root ") == 1
        assert parse_domain(old, "vm").image_ids == (IMAGE,)

    @pytest.mark.parametrize(("swap", "sizes"), [("64", (64,)), (" 64\n", (64,)), ("0", ()), ("", ())])
    def test_sizes_of_swap_and_ephemeral_disks_are_read(self, swap: str, sizes: tuple[int, ...]) -> None:
        metadata = f"<nova:flavor><nova:swap>{swap}</nova:swap><nova:ephemeral>1</nova:ephemeral></nova:flavor>"
        made = parse_domain(nova_domain(metadata=metadata), "vm")
        assert (made.swap_mb, made.ephemeral_gb) == (sizes, (1,))

    def test_domain_that_nova_did_not_make_has_its_disks(self) -> None:
        disks = """
            <disk type='file'><driver name='qemu' type='raw'/><source file='/a'/></disk>
            <disk type='file'><source file='/b &amp; c'/></disk>
            <disk type='block'><driver name='qemu' type='raw'/><source dev='/dev/sda'/></disk>
            <disk type='network'><source protocol='rbd' name='pool/image'/></disk>
            <disk type='file'/>
        """
        assert parse_domain(nova_domain(devices=disks), "vm") == Instance(
            uuid=UUID, name=NAME, host="vm", disks=(("/a", "raw"), ("/b & c", ""))
        )

    def test_name_and_uuid_are_read_from_the_domain_itself_alone(self) -> None:
        metadata = "<nova:name>my server</nova:name><name>x</name><uuid>y</uuid>"
        made = nova_domain(metadata=metadata, devices="<name>z</name>")
        assert (parse_domain(made, "vm").name, parse_domain(made, "vm").uuid) == (NAME, UUID)

    def test_space_around_name_and_uuid_is_ignored(self) -> None:
        assert parse_domain(nova_domain(name=f"\n{NAME} ", uuid=f" {UUID}\n"), "vm") == Instance(UUID, NAME, "vm")

    @pytest.mark.parametrize(
        ("document", "complaint"),
        [
            pytest.param(b"", "not well formed", id="empty"),
            pytest.param(b"<domain>", "not well formed", id="cut off"),
            pytest.param(nova_domain() + b"<domain/>", "not well formed", id="two roots"),
            pytest.param(nova_domain(name="a & b"), "not well formed", id="bare ampersand"),
            pytest.param(nova_domain(name="&lol;"), "not well formed", id="unknown entity"),
            pytest.param(nova_domain().replace(NAME.encode(), b"\xff\xfe"), "not well formed", id="not UTF-8"),
            pytest.param(b"\0" * 100, "not well formed", id="zeros"),
            pytest.param(
                b"<?xml version='1.0' encoding='nonsense'?>" + nova_domain(), "not well formed", id="encoding"
            ),
            pytest.param(
                b"<?xml version='1.0' encoding='utf-7'?>" + nova_domain(), "not well formed", id="wide encoding"
            ),
            pytest.param(b"<domain/>", "does not name a domain", id="no domain"),
            pytest.param(nova_domain(name=""), "does not name a domain", id="no name"),
            pytest.param(nova_domain(uuid=""), "does not name a domain", id="no uuid"),
            pytest.param(nova_domain(uuid=" \n"), "does not name a domain", id="blank uuid"),
            pytest.param(nova_domain(head="<!DOCTYPE domain>"), "it contains a DOCTYPE", id="document type"),
            pytest.param(nova_domain(metadata="<nova:swap>much</nova:swap>"), "swap is not a whole number", id="size"),
        ],
    )
    def test_document_that_libvirt_would_not_write_is_refused(self, document: bytes, complaint: str) -> None:
        with pytest.raises(ImageCacheError, match=complaint):
            parse_domain(document, "vm")

    def test_entities_are_not_expanded(self) -> None:
        laughs = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(9))
        head = f'<!DOCTYPE domain [<!ENTITY a0 "ha">{laughs}]>'
        with pytest.raises(ImageCacheError, match="it contains a DOCTYPE"):
            parse_domain(nova_domain(head=head, name="&a9;"), "vm")

    def test_external_entity_reads_no_other_file(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("secret")
        head = f'<!DOCTYPE domain [<!ENTITY x SYSTEM "file://{tmp_path}/secret">]>'
        with pytest.raises(ImageCacheError, match="it contains a DOCTYPE"):
            parse_domain(nova_domain(head=head, name="&x;"), "vm")


class TestDomainFiles:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        (tmp_path / "good.xml").write_bytes(nova_domain())
        return tmp_path

    def problem(self, path: Path) -> str:
        """What is wrong with one file beside a good one."""
        instances = merge_instances(None, [], str(path), "vm")
        assert instances.all == (Instance(UUID, NAME, "vm"),)
        (problem,) = instances.problems
        return problem

    def test_files_without_the_ending_xml_are_ignored(self, path: Path) -> None:
        (path / "networks").mkdir()
        (path / "autostart").mkdir()
        (path / "good.xml.bak").write_text("<")
        assert merge_instances(None, [], str(path), "vm").problems == ()

    def test_broken_document_is_a_problem_and_the_others_are_read(self, path: Path) -> None:
        (path / "bad.xml").write_text("<domain>")
        assert self.problem(path).startswith(
            f"The domain XML {path}/bad.xml cannot be understood: it is not well formed"
        )

    def test_document_of_more_than_a_mebibyte_is_a_problem(self, path: Path) -> None:
        (path / "huge.xml").write_bytes(nova_domain() + b" " * (1 << 20))
        assert "huge.xml cannot be understood: it has more than 1048576 bytes." in self.problem(path)

    def test_document_of_just_a_mebibyte_is_read(self, path: Path) -> None:
        (path / "good.xml").write_bytes(nova_domain() + b" " * ((1 << 20) - len(nova_domain())))
        assert merge_instances(None, [], str(path), "vm").problems == ()

    def test_fifo_is_a_problem_and_is_not_waited_for(self, path: Path) -> None:
        os.mkfifo(path / "fifo.xml")
        assert "fifo.xml cannot be understood: it is not a regular file" in self.problem(path)

    def test_directory_with_the_ending_xml_is_a_problem(self, path: Path) -> None:
        (path / "folder.xml").mkdir()
        assert "folder.xml cannot be understood: it is not a regular file" in self.problem(path)

    def test_name_that_is_not_utf8_is_shown_escaped(self, path: Path) -> None:
        Path(os.fsdecode(os.fsencode(path) + b"/\xff\n.xml")).write_text("<")
        assert f"{path}/\\xff\\n.xml cannot be understood" in self.problem(path)

    def test_missing_directory_is_a_problem_with_a_remedy(self, path: Path) -> None:
        instances = merge_instances([{"uuid": "given"}], [], str(path / "missing"), "vm")
        assert [instance.uuid for instance in instances.all] == ["given"]
        (problem,) = instances.problems
        assert problem.startswith(f"libvirt_config_path {path}/missing cannot be read")
        assert "set libvirt: false" in problem

    def test_missing_directory_leaves_the_instances_of_this_host_unknown(self, path: Path) -> None:
        assert merge_instances(None, [], str(path / "missing"), "vm").hosts == frozenset()

    def test_file_in_place_of_the_directory_is_a_problem(self, path: Path) -> None:
        (problem,) = merge_instances(None, [], str(path / "good.xml"), "vm").problems
        assert problem.startswith(f"libvirt_config_path {path}/good.xml cannot be read")

    @needs_root
    def test_file_and_directory_that_may_not_be_read_are_named(self, public_host: Host) -> None:
        path = public_host.libvirt_path
        (path / "private.xml").write_bytes(nova_domain())
        (path / "private.xml").chmod(0o600)
        (problem,) = as_nobody(lambda: merge_instances(None, [], str(path), "vm")).problems
        assert (
            problem
            == f"The domain XML {path}/private.xml cannot be read: Permission denied. Run as root (become: true)."
        )
        path.chmod(0o700)
        (problem,) = as_nobody(lambda: merge_instances(None, [], str(path), "vm")).problems
        assert problem.startswith(f"libvirt_config_path {path} cannot be read")


markup = st.sampled_from([
    b"<domain>", b"</domain>", b"<name>", b"</name>", b"<uuid>", b"</uuid>", b"<disk>", b"</disk>",
    b"<driver type='raw'/>", b"<source file='/x'/>", b"<nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'>",
    b"</nova:instance>", b"<nova:swap>", b"</nova:swap>", b"<nova:root type='image'/>", b"<!--", b"-->", b"<![CDATA[",
    b"]]>", b"<?xml ", b"version='1.0' encoding='", b"latin-1", b"utf-16", b"'?>", b"<!DOCTYPE x>", b"&amp;", b"&x;",
    b"&#0;", b"7", b"\xff",
])  # fmt: skip
documents = st.one_of(st.binary(), st.lists(markup, max_size=30).map(b"".join))


@given(documents)
@example(b"<?xml version='1.0' encoding='nonsense'?>")
def test_any_document_is_understood_or_refused(document: bytes) -> None:
    try:
        instance = parse_domain(document, "vm")
    except ImageCacheError:
        return
    assert instance.uuid
    assert instance.name
