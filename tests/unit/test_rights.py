# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What each user can do, what rights our files have, and that nothing of what instances hold is disclosed."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.apply import Outcome, apply_plan
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.audit import AuditResult
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import ImageCacheError
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.prune import PruneResult
from ansible_collections.stackops.nova.tests.support.constants import BASE, IMAGE, OTHER_UUID, UUID
from ansible_collections.stackops.nova.tests.support.host import (
    NAME,
    OLD,
    Host,
    nothing_new,
    picture,
    states,
    warnings,
)
from ansible_collections.stackops.nova.tests.support.processes import (
    NOBODY,
    as_user,
    in_a_child,
    mount,
    needs_root,
    with_own_mounts,
)
from ansible_collections.stackops.nova.tests.support.run_module import run_ansible, run_module
from ansible_collections.stackops.nova.tools.cache_tree import fingerprint, overlay_bytes

NOVA = 64060
LIBVIRT_QEMU = 64055
UNUSED = fingerprint("unused")
INSTANCE = "instance-0000000a"
REMEDY = "Run as root (become: true)."


@pytest.fixture
def nova_host(public_host: Host) -> Host:
    """Owners and modes as a real nova has them: a guest ran on the base file, so that is libvirt-qemu's."""
    host = public_host
    host.base(BASE, age=OLD, content=b"base")
    host.base(UNUSED, age=OLD, content=b"unused")
    host.instance(UUID, {"disk": BASE})
    host.compute_nodes({NAME: host.now})
    host.lock_file(UNUSED)
    host.domain_xml(UUID, INSTANCE, IMAGE).chmod(0o600)
    for path in [host.instances_path, *host.instances_path.rglob("*")]:
        os.chown(path, NOVA, NOVA)
    os.chown(host.cache_path / BASE, LIBVIRT_QEMU, LIBVIRT_QEMU)
    return host


@needs_root
class TestRightsOfUsers:
    def test_root_can_do_everything(self, nova_host: Host) -> None:
        result = nova_host.prune(libvirt=True)
        assert result.error is None
        assert result.done["removed"] == [UNUSED]
        assert (nova_host.cache_path / BASE).stat().st_mtime > nova_host.now - OLD

    def test_nova_without_access_to_the_domains_is_refused(self, nova_host: Host) -> None:
        before = picture(nova_host.root)
        result: PruneResult = as_user(NOVA, lambda: nova_host.prune(libvirt=True))
        assert result.done["removed"] == []
        assert f"{INSTANCE}.xml cannot be read: Permission denied. {REMEDY}" in str(result.error)
        assert undisturbed(picture(nova_host.root), before)

    def test_nova_with_libvirt_false_prunes_with_warnings_of_what_it_cannot_see(self, nova_host: Host) -> None:
        result: PruneResult = as_user(NOVA, nova_host.prune)
        assert result.error is None
        assert result.done["removed"] == [UNUSED]
        assert states(result)[BASE] == "active: backing"
        assert any("open files of" in warning for warning in result.warnings)
        # What libvirt took over only root can mark as used.
        [unmarked] = [warning for warning in warnings(result) if "time of last use could not be set" in warning]
        assert f"The first is {BASE}: Permission denied. {REMEDY}" in unmarked

    def test_files_that_nova_writes_belong_to_nova(self, nova_host: Host) -> None:
        as_user(NOVA, lambda: nova_host.prune(checksum_base_images=True, shared_storage=True))
        assert new_files(nova_host)
        assert {(path.stat().st_uid, mode(path)) for path in new_files(nova_host)} == {(NOVA, 0o644)}

    @pytest.mark.parametrize(
        "hide",
        [
            lambda host: (host.instances_path / OTHER_UUID).chmod(0o700),
            lambda host: (host.instances_path / OTHER_UUID / "disk").chmod(0o600),
            lambda host: (host.cache_path / BASE).chmod(0o600),
            lambda host: (host.instances_path / "compute_nodes").chmod(0o600),
            lambda host: (host.locks_path / f"nova-{UNUSED}").chmod(0o600),
            lambda host: host.locks_path.chmod(0o700),
            lambda host: host.cache_path.chmod(0o711),
            lambda host: host.instances_path.chmod(0o711),
            lambda host: host.libvirt_path.chmod(0o700),
        ],
        ids=["directory", "disk", "base", "compute_nodes", "lock", "locks", "cache", "instances", "domains"],
    )
    def test_user_who_may_read_a_part_is_refused_and_nothing_is_changed(
        self, nova_host: Host, hide: Callable[[Host], None]
    ) -> None:
        """Even if the user may write in the cache."""
        nova_host.instance(OTHER_UUID, {"disk": BASE})
        (nova_host.libvirt_path / f"{INSTANCE}.xml").chmod(0o644)
        for path in (nova_host.cache_path, nova_host.locks_path):
            os.chown(path, NOVA, NOBODY)
            path.chmod(0o775)
        hide(nova_host)
        before = picture(nova_host.root)

        def prune() -> str | None:
            try:
                result = nova_host.prune(libvirt=True)
            except ImageCacheError as error:
                return str(error)
            assert result.done["removed"] == []
            return result.error

        error = as_user(NOBODY, prune)
        assert error is not None
        assert f"Permission denied. {REMEDY}" in error
        assert undisturbed(picture(nova_host.root), before)

    def test_user_who_may_read_all_and_write_nothing_is_refused_with_a_remedy(self, nova_host: Host) -> None:
        before = picture(nova_host.root)
        for check_mode in (True, False):
            result: PruneResult = as_user(NOBODY, lambda check=check_mode: nova_host.prune(check_mode=check))
            assert result.done["removed"] == []
            assert f"may not be written by this user. {REMEDY}" in str(result.error)
        assert picture(nova_host.root) == before

    @pytest.mark.parametrize("option", ["config_file", "config_dir"])
    def test_configuration_that_may_not_be_read_has_a_remedy(self, nova_host: Host, option: str) -> None:
        path = nova_host.root / option
        if option == "config_dir":
            path.mkdir(mode=0o700)
        else:
            path.touch(mode=0o600)
        with pytest.raises(ImageCacheError, match=f"{option} .* cannot be read: Permission denied") as caught:
            as_user(NOBODY, lambda: nova_host.audit(**{option: [str(path)]}))
        assert f"Permission denied. {REMEDY} Set {option} to" in str(caught.value)

    def test_disk_info_that_may_not_be_read_has_a_remedy(self, nova_host: Host) -> None:
        formats = nova_host.instances_path / UUID / "disk.info"
        formats.write_text("{}")
        formats.chmod(0o600)
        result: AuditResult = as_user(NOBODY, nova_host.audit)
        [warning] = [warning for warning in warnings(result) if "disk.info" in warning]
        assert f"{formats} cannot be understood: Permission denied. {REMEDY}" in warning

    def test_info_file_that_may_not_be_read_has_a_remedy(self, nova_host: Host) -> None:
        info = nova_host.cache_path / f"{BASE}.info"
        info.write_text("{}")
        info.chmod(0o600)
        result: AuditResult = as_user(NOBODY, lambda: nova_host.audit(checksum_base_images=True))
        [warning] = [warning for warning in warnings(result) if "could not be read and verified" in warning]
        assert f"of {BASE}: its info file: Permission denied. {REMEDY}" in warning

    @pytest.mark.parametrize("check_mode", [True, False])
    def test_locks_directory_that_may_not_be_made_has_a_remedy(self, nova_host: Host, check_mode: bool) -> None:
        (nova_host.locks_path / f"nova-{UNUSED}").unlink()
        nova_host.locks_path.rmdir()
        nova_host.cache_path.chmod(0o777)
        nova_host.instances_path.chmod(0o755)
        result: PruneResult = as_user(NOBODY, lambda: nova_host.prune(check_mode=check_mode))
        assert result.done["removed"] == []
        assert f"this user may not make it. {REMEDY}" in str(result.error)

    def test_lock_that_may_not_be_taken_has_a_remedy(self, nova_host: Host) -> None:
        """The dry run could not know: the rights changed since."""
        lock = nova_host.locks_path / f"nova-{UNUSED}"
        plan, settings = nova_host.plan()
        lock.chmod(0o600)
        nova_host.cache_path.chmod(0o777)
        outcome: Outcome = as_user(NOBODY, lambda: apply_plan(plan, settings, shared=False, read_disks=nothing_new))
        [failure] = outcome.failed
        assert failure.error == f"nova's lock {lock} could not be taken: Permission denied. {REMEDY[:-1]}"


def undisturbed(after: dict[str, tuple[object, ...]], before: dict[str, tuple[object, ...]]) -> bool:
    """No file was added, removed or changed. Files in use may have been marked as used."""
    return {path: (*details[:5], details[-1]) for path, details in after.items()} == {
        path: (*details[:5], details[-1]) for path, details in before.items()
    }


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def new_files(host: Host) -> list[Path]:
    """The info and lock files that a prune made."""
    locks = [path for path in host.locks_path.iterdir() if path.name != f"nova-{UNUSED}"]
    return [*host.cache_path.glob("*.info"), *locks]


@needs_root
@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_new_files_have_the_rights_that_nova_gives_them(nova_host: Host, umask: int) -> None:
    (nova_host.locks_path / f"nova-{UNUSED}").unlink()
    nova_host.locks_path.rmdir()

    def prune() -> None:
        os.umask(umask)
        # On shared storage the lock files are kept.
        nova_host.prune(checksum_base_images=True, shared_storage=True)

    in_a_child(prune)
    made = new_files(nova_host)
    assert {path.name for path in made} >= {f"{BASE}.info", f"nova-hash-{BASE}", f"nova-info-{BASE}"}
    for path in made:
        status = path.stat()
        assert (status.st_uid, status.st_gid, mode(path)) == (NOVA, NOVA, 0o644)
    status = nova_host.locks_path.stat()
    assert (status.st_uid, status.st_gid, mode(nova_host.locks_path)) == (NOVA, NOVA, 0o755)
    assert mode(nova_host.cache_path) == 0o755


SECRET = "correct-horse-battery"
SERVER = {
    "id": UUID,
    "name": f"{SECRET}-name",
    "OS-EXT-SRV-ATTR:instance_name": INSTANCE,
    "OS-EXT-SRV-ATTR:host": NAME,
    "OS-EXT-SRV-ATTR:user_data": f"{SECRET}-user-data",
    "image": {"id": IMAGE},
    "flavor": {"swap": 0, "ephemeral": 0},
    "metadata": {"password": f"{SECRET}-metadata"},
    "adminPass": f"{SECRET}-admin",
    "addresses": {f"{SECRET}-network": [{"addr": "192.0.2.1"}]},
}


def plant(host: Host) -> list[str]:
    """Put the secret wherever an instance, or its owner, may have one."""
    text = SECRET.encode()
    host.base(BASE, age=OLD, content=text * 100)
    host.base(UNUSED, age=OLD, content=text * 100)
    host.disk(UUID, overlay_bytes(1 << 20, str(host.cache_path / BASE), "raw") + text * 1000)
    host.domain_xml(UUID, INSTANCE, IMAGE)
    definition = host.libvirt_path / f"{INSTANCE}.xml"
    definition.write_text(
        definition.read_text().replace("<devices>", f"<description>{SECRET}</description><devices passwd='{SECRET}'>")
    )
    (host.libvirt_path / "broken.xml").write_text(f"<domain><name>{SECRET}</name><{SECRET} {SECRET}")
    (host.cache_path / f"{BASE}.info").write_text(f'{{"{SECRET}": "{SECRET}", {SECRET}')
    disks = {
        "raw": text,
        "vmdk": f'# Disk DescriptorFile\nversion=1\nparentCID=ffffffff\ncreateType="{SECRET}"\nRW {SECRET}\n'.encode(),
        "vmdk2": f'# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\nRW 1 {SECRET} "x"\n'.encode(),
        "features": header_with_features(text),
        "rbd": overlay_bytes(1 << 20, f"rbd:pool/image:id=admin:key={SECRET}", "raw"),
        "json": overlay_bytes(1 << 20, f'json:{{"driver": "nbd", "password": "{SECRET}"}}', "raw"),
        "info": text,
    }
    for name, content in disks.items():
        host.disk(f"instance-{name}", content)
    (host.instances_path / "instance-info" / "disk.info").write_text(f'{{"{SECRET}": "{SECRET}" {SECRET}')
    (host.instances_path / "compute_nodes").write_text(f'{{"vm": "{SECRET}"}}')
    return list(disks)


def header_with_features(name: bytes) -> bytes:
    """An image that needs an unknown feature, and gives its name in a table, as QEMU allows."""
    image = bytearray(overlay_bytes(1 << 20, None, None))
    image[72:80] = (1 << 40).to_bytes(8, "big")
    entry = bytes([0, 40]) + name[:46].ljust(46, b"\0")
    image[104 : 104 + 8 + 48] = (0x6803F857).to_bytes(4, "big") + (48).to_bytes(4, "big") + entry
    return bytes(image)


class TestSecrets:
    @pytest.mark.parametrize("details", ["summary", "files"])
    def test_content_of_an_instance_is_in_no_result(self, host: Host, details: str) -> None:
        disks = plant(host)
        given: dict[str, Any] = {"libvirt": True, "checksum_base_images": True, "details": details}
        for result in (host.audit(**given), host.prune(**given, check_mode=True), host.prune(**given)):
            assert result.facts["unknown_use"]
            assert SECRET not in repr(result)
        shown = "".join(host.audit(**given, instances=[{**SERVER, "flavor": SECRET}]).warnings)
        assert SECRET not in shown
        assert all(f"instance-{disk}/disk" in shown for disk in disks if disk in ("vmdk", "features", "rbd", "json"))

    @pytest.mark.parametrize("module", ["image_cache_facts", "image_cache_prune"])
    def test_verbose_output_of_ansible_does_not_show_the_records(
        self, host: Host, module: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ANSIBLE_INJECT_INVOCATION", "true")  # ansible-core 2.21 leaves it out otherwise
        host.base(BASE, age=OLD)
        host.instance(UUID, {"disk": BASE})
        run = run_ansible(module, host.options(instances=[SERVER]), "-vvv", "--diff", "--check")
        assert "invocation" in run.stdout
        assert SECRET not in run.stdout + run.stderr
        # The name that a person looks for is there.
        assert f'"{INSTANCE}"' in run.stdout

    def test_record_that_cannot_be_understood_is_not_shown(self, host: Host) -> None:
        run = run_ansible("image_cache_prune", host.options(instances=[{**SERVER, "flavor": 7}]), "-vvv")
        assert "its flavor is not a dictionary" in run.stdout
        assert SECRET not in run.stdout + run.stderr

    @needs_root
    def test_log_of_the_host_does_not_show_the_records(self, host: Host) -> None:
        def heard() -> str:
            with listening(host.root / "dev") as hear:
                run_module("image_cache_facts", host.options(instances=[SERVER]))
                return hear()

        log = with_own_mounts(heard)
        assert "image_cache_facts" in log
        assert "instances=NOT_LOGGING_PARAMETER" in log
        assert SECRET not in log


@contextmanager
def listening(devices: Path) -> Iterator[Callable[[], str]]:
    """Be this host's log, in mounts of this process's own; what comes back gives what was logged so far."""
    devices.mkdir()
    mount("-t", "tmpfs", "none", devices)
    for name, number in (("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)):
        os.mknod(devices / name, stat.S_IFCHR | 0o666, os.makedev(1, number))
    (devices / "shm").mkdir(mode=0o1777)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as log:
        log.bind(str(devices / "log"))
        mount("--bind", devices, "/dev")

        def hear() -> str:
            heard = []
            with suppress(BlockingIOError):
                while True:
                    heard.append(log.recv(1 << 20).decode())
            return "\n".join(heard)

        yield hear
