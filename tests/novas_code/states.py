# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nova's own libvirt driver makes a state of a compute host: `states.py DIRECTORY STATE`, by a Python that has nova.

Only what stands for the outside world is made up: Glance, the database, the other host, and libvirt, by nova's own
imitation of it. The directory then holds `instances/`, the domains' XML in `libvirt/`, the servers as the Compute API
knows them in `servers.json`, and their swap and ephemeral disks as nova's database has them in `block_devices.json`.

`novas-pass` is no state: it has nova look after its cache once, in a directory where a state was made before.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import nova.conf
from nova import context as nova_context
from nova import exception, objects
from nova.compute import manager, task_states, vm_states
from nova.network.model import NetworkInfo
from nova.privsep import sys_admin_pctxt
from nova.tests.fixtures.libvirt import LibvirtFixture
from nova.tests.unit.fake_block_device import fake_bdm_object
from nova.tests.unit.fake_instance import fake_instance_obj
from nova.virt import driver as virt_driver
from nova.virt import fake, images
from nova.virt.libvirt import driver, host, imagebackend
from nova.virt.libvirt import utils as libvirt_utils
from nova.virt.libvirt.imagecache import get_cache_fname

from ansible_collections.stackops.nova.tests.support.constants import IMAGE, OTHER_IMAGE, OTHER_UUID, UUID
from ansible_collections.stackops.nova.tests.support.host import NAME

CONF = nova.conf.CONF
ADDRESS = "192.0.2.1"
OTHER_ADDRESS = "192.0.2.2"
LARGEST_TO_FILL_BYTES = 64 << 20
# The fields of a server that nova would read from the database when it comes to them.
LATE_FIELDS = [
    "device_metadata",
    "metadata",
    "numa_topology",
    "pci_devices",
    "pci_requests",
    "system_metadata",
    "trusted_certs",
    "vcpu_model",
]


class Glance:
    """An image service that has every image, of 2 MiB."""

    def get(self, _context: object, image_id: str) -> dict[str, str]:
        return {"id": image_id, "disk_format": "qcow2"}

    def download(self, _context: object, _image_id: str, dest_path: str, **_options: object) -> None:
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", dest_path, "2M"], check=True)
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -q -P 1 0 2M", dest_path], check=True)


class Compute:
    """nova-compute on a host below a directory; each method is what it does for a request of the Compute API.

    :ivar driver: nova's own.
    :ivar instances: the servers that the database has, by UUID.
    :ivar block_devices: of each, the sizes of its swap disk in MiB and of its ephemeral disks in GiB.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.context = nova_context.get_admin_context()
        self.instances: dict[str, Any] = {}
        self.block_devices: dict[str, Any] = {}
        instances_path = root / "instances"
        instances_path.mkdir(parents=True, exist_ok=True)
        CONF([], project="nova", default_config_files=[], default_config_dirs=[])
        nova.conf.neutron.register_dynamic_opts(CONF)
        CONF.set_override("instances_path", str(instances_path))
        CONF.set_override("host", NAME)
        CONF.set_override("my_ip", ADDRESS)
        CONF.set_override("virt_type", "qemu", "libvirt")
        CONF.set_override("images_type", "qcow2", "libvirt")
        sys_admin_pctxt.set_client_mode(False)  # what takes root's rights is done here, not by a helper
        self.driver = driver.LibvirtDriver(fake.FakeVirtAPI())
        self.driver._remotefs = mock.Mock()
        self.driver.init_host(NAME)

    def boot(self, uuid: str = UUID, **disks: Any) -> Any:
        """Make a server; the parameters are those of `add`."""
        instance = self.add(uuid, **disks)
        self.spawn(instance)
        return instance

    def add(self, uuid: str = UUID, image: str = IMAGE, swap: int = 0, ephemeral: Sequence[int] = ()) -> Any:
        """Let the database have a server, before anything of it is on this host.

        :param swap: the size of its swap disk in MiB; 0 for none.
        :param ephemeral: the sizes of its ephemeral disks in GiB.
        """
        sizes = {"root_gb": 1, "ephemeral_gb": sum(ephemeral), "swap": swap}
        instance = fake_instance_obj(
            self.context,
            id=len(self.instances) + 1,
            uuid=uuid,
            image_ref=image,
            host=NAME,
            os_type="linux",
            system_metadata={"image_base_image_ref": image},
            expected_attrs=LATE_FIELDS,
            flavor=objects.Flavor(id=1, name="small", flavorid="1", memory_mb=64, vcpus=1, extra_specs={}, **sizes),
        )
        self.instances[uuid] = instance
        self.block_devices[uuid] = {"swap": swap, "ephemeral": ephemeral}
        return instance

    def spawn(self, instance: Any) -> None:
        devices = self._block_device_info(instance)
        meta = _image_meta(instance.image_ref)
        self.driver.spawn(self.context, instance, meta, [], None, {}, NetworkInfo(), devices)
        instance.vm_state = vm_states.ACTIVE

    def rescue(self, instance: Any) -> None:
        meta = _image_meta(OTHER_IMAGE)
        self.driver.rescue(self.context, instance, NetworkInfo(), meta, None, self._block_device_info(instance), [])
        instance.vm_state = vm_states.RESCUED

    def unrescue(self, instance: Any) -> None:
        self.driver.unrescue(self.context, instance)
        instance.vm_state = vm_states.ACTIVE

    def resize(self, instance: Any, **flavor: int) -> None:
        """Resize a server on its host, up to where the user has to confirm."""
        disks = self._start_resize(instance, ADDRESS, flavor)
        self.block_devices[instance.uuid]["swap"] = instance.flavor.swap  # so does nova's compute manager
        devices = self._block_device_info(instance)
        instance.task_state = task_states.RESIZE_FINISH
        migration, meta = objects.Migration(source_compute=NAME), _image_meta(instance.image_ref)
        self.driver.finish_migration(self.context, migration, instance, disks, NetworkInfo(), meta, True, {}, devices)
        instance.vm_state, instance.task_state = vm_states.RESIZED, None

    def migrate_away(self, instance: Any) -> None:
        """Migrate a server to another host, up to where the user has to confirm."""
        self._start_resize(instance, OTHER_ADDRESS, {})
        instance.vm_state, instance.host = vm_states.RESIZED, "other"

    def confirm(self, instance: Any) -> None:
        self.driver.confirm_migration(self.context, None, instance, NetworkInfo())
        instance.vm_state = vm_states.ACTIVE

    def revert(self, instance: Any) -> None:
        """Revert a resize on its host."""
        devices = self._block_device_info(instance)
        self.driver.destroy(self.context, instance, NetworkInfo(), devices, destroy_disks=False)
        instance.flavor = instance.old_flavor
        self.block_devices[instance.uuid]["swap"] = instance.flavor.swap  # so does nova's compute manager
        devices = self._block_device_info(instance)
        self.driver.finish_revert_migration(self.context, instance, NetworkInfo(), objects.Migration(), devices)
        instance.vm_state = vm_states.ACTIVE

    def delete(self, instance: Any) -> None:
        self.driver.destroy(self.context, instance, NetworkInfo(), self._block_device_info(instance))
        del self.instances[instance.uuid]

    def cache_in_advance(self, image: str) -> None:
        self.driver.cache_image(self.context, image)

    def cached(self, image: str) -> Path:
        return self.root / "instances" / "_base" / get_cache_fname(image)

    def save(self) -> None:
        """Write down what libvirt, the Compute API and the database know."""
        libvirt_path = self.root / "libvirt"
        libvirt_path.mkdir(exist_ok=True)
        for guest in self.driver._host.list_guests(only_running=False):
            (libvirt_path / f"{guest.name}.xml").write_text(guest.get_xml_desc())
        servers = [_record(instance) for instance in self.instances.values()]
        (self.root / "servers.json").write_text(json.dumps(servers))
        (self.root / "block_devices.json").write_text(json.dumps(self.block_devices))

    def run_pass(self) -> None:
        """Look after the cache, as nova-compute does every 40 minutes, with the servers that were written down."""
        for server in json.loads((self.root / "servers.json").read_text()):
            instance = self.add(server["uuid"], server["image_ref"])
            for field in ("host", "vm_state", "task_state"):
                setattr(instance, field, server[field])
        self.block_devices = json.loads((self.root / "block_devices.json").read_text())
        mappings = {uuid: self._block_device_mappings(uuid) for uuid in self.instances}
        with (
            mock.patch.object(objects.InstanceList, "get_by_filters", self._of_hosts),
            mock.patch.object(objects.BlockDeviceMappingList, "bdms_by_instance_uuid", return_value=mappings),
        ):
            manager.ComputeManager._run_image_cache_manager_pass(mock.Mock(driver=self.driver), self.context)

    def _start_resize(self, instance: Any, address: str, flavor: dict[str, int]) -> str:
        devices, instance.old_flavor = self._block_device_info(instance), instance.flavor
        instance.new_flavor = objects.Flavor(**{**instance.flavor.obj_to_primitive()["nova_object.data"], **flavor})
        disks = self.driver.migrate_disk_and_power_off(
            self.context, instance, address, instance.new_flavor, NetworkInfo(), devices
        )
        instance.flavor = instance.new_flavor
        return disks

    def _block_device_info(self, instance: Any) -> Any:
        return virt_driver.get_block_device_info(instance, self._block_device_mappings(instance.uuid))

    def _block_device_mappings(self, uuid: str) -> Any:
        sizes = self.block_devices[uuid]
        disks = [{"guest_format": None, "volume_size": size} for size in sizes["ephemeral"]]
        if sizes["swap"]:
            disks.append({"guest_format": "swap", "volume_size": sizes["swap"]})
        local = {"source_type": "blank", "destination_type": "local", "device_type": "disk", "boot_index": -1}
        mappings = [
            fake_bdm_object(self.context, {**local, **disk, "instance_uuid": uuid, "device_name": f"/dev/vd{letter}"})
            for disk, letter in zip(disks, "bcd", strict=False)
        ]
        return objects.BlockDeviceMappingList(objects=mappings)

    def _of_hosts(self, _context: object, filters: dict[str, Any], **_options: object) -> list[Any]:
        return [instance for instance in self.instances.values() if instance.host in filters["host"]]


def booted_with_swap_and_ephemeral(compute: Compute) -> None:
    compute.boot(swap=2, ephemeral=[1, 2])


def deleted(compute: Compute) -> None:
    compute.delete(compute.boot(swap=2, ephemeral=[1]))


def deleted_in_part(compute: Compute) -> None:
    """The directory cannot be removed, as on NFS where a file in it is open."""
    instance = compute.boot(swap=2)
    with mock.patch.object(driver.shutil, "rmtree", side_effect=OSError):
        compute.delete(instance)


def cached_in_advance(compute: Compute) -> None:
    compute.cache_in_advance(IMAGE)


def killed_while_caching_in_advance(compute: Compute) -> None:
    _kill_at(images, "convert_image", lambda: compute.cache_in_advance(IMAGE))
    _kill_at(images.os, "rename", lambda: compute.cache_in_advance(OTHER_IMAGE))


def rescued_after_switch_to_qcow2(compute: Compute) -> None:
    """A rescue with raw disks, and another one with qcow2 disks: `disk.info` still calls the second one raw."""
    CONF.set_override("images_type", "raw", "libvirt")
    instance = compute.boot()
    compute.rescue(instance)
    compute.unrescue(instance)
    CONF.set_override("images_type", "qcow2", "libvirt")
    compute.rescue(instance)


def resize_to_confirm(compute: Compute) -> None:
    """The disks of before are in a directory of their own, and another swap disk is on another template."""
    compute.resize(compute.boot(swap=2), root_gb=2, swap=3)


def resized(compute: Compute) -> None:
    instance = compute.boot(swap=2)
    compute.resize(instance, root_gb=2, swap=3)
    compute.confirm(instance)


def resize_reverted(compute: Compute) -> None:
    instance = compute.boot(swap=2)
    compute.resize(instance, root_gb=2, swap=3)
    compute.revert(instance)


def resized_after_switch_to_qcow2(compute: Compute) -> None:
    """A swap disk that is made anew is over a template, and `disk.info` still calls it raw.

    `use_cow_images`, the older of the two options, is left as it was. Set, it has nova convert the overlay once more.
    """
    CONF.set_override("use_cow_images", False)
    CONF.set_override("images_type", "raw", "libvirt")
    instance = compute.boot(swap=2)
    CONF.set_override("images_type", "qcow2", "libvirt")
    compute.resize(instance)
    compute.confirm(instance)


def resized_over_legacy_base(compute: Compute) -> None:
    """A disk that a nova of old made over a copy of the base file in the flavor's size, both of which are gone."""
    CONF.set_override("force_raw_images", False)
    instance = compute.boot()
    base, disk = compute.cached(IMAGE), compute.root / "instances" / UUID / "disk"
    legacy = base.with_name(f"{base.name}_1")
    base.rename(legacy)
    disk.unlink()
    libvirt_utils.create_image(str(disk), "qcow2", 1 << 30, backing_file=str(legacy))
    legacy.unlink()
    compute.resize(instance, root_gb=2)
    compute.confirm(instance)


def migration_to_confirm(compute: Compute) -> None:
    compute.migrate_away(compute.boot(swap=2, ephemeral=[1]))


def migrated_away(compute: Compute) -> None:
    instance = compute.boot(swap=2, ephemeral=[1])
    compute.migrate_away(instance)
    compute.confirm(instance)


def unshelved(compute: Compute) -> None:
    """The disk is made of the snapshot, and put over the image that the snapshot was made of."""
    instance = compute.add()
    instance.vm_state, instance.image_ref = vm_states.SHELVED_OFFLOADED, OTHER_IMAGE
    compute.spawn(instance)
    instance.image_ref = IMAGE


def killed_while_preallocating(compute: Compute) -> None:
    compute.cache_in_advance(OTHER_IMAGE)
    CONF.set_override("preallocate_images", "space")
    instance = compute.add()
    _kill_at(imagebackend.fileutils, "delete_if_exists", lambda: compute.spawn(instance))


def killed_while_making_swap(compute: Compute) -> None:
    """An empty `disk.swap` is made first, to look through the cache of NFS."""
    compute.cache_in_advance(OTHER_IMAGE)
    compute.cache_in_advance(IMAGE)
    instance = compute.add(swap=2)
    _kill_at(driver.os, "unlink", lambda: compute.spawn(instance))


def full_file_system(compute: Compute) -> None:
    """A guest cannot be made, and its directory is left. The image cached in advance is unused and has no lock."""
    compute.delete(compute.boot(swap=2))
    compute.cache_in_advance(OTHER_IMAGE)
    _fill(compute.root / "instances")
    with contextlib.suppress(exception.DiskInfoReadWriteFail):
        compute.boot(OTHER_UUID)
    del compute.instances[OTHER_UUID]


STATES: dict[str, Callable[[Compute], None]] = {
    state.__name__: state
    for state in (
        booted_with_swap_and_ephemeral,
        deleted,
        deleted_in_part,
        cached_in_advance,
        killed_while_caching_in_advance,
        rescued_after_switch_to_qcow2,
        resize_to_confirm,
        resized,
        resize_reverted,
        resized_after_switch_to_qcow2,
        resized_over_legacy_base,
        migration_to_confirm,
        migrated_away,
        unshelved,
        killed_while_preallocating,
        killed_while_making_swap,
        full_file_system,
    )
}


def _image_meta(image: str) -> Any:
    return objects.ImageMeta.from_dict({"id": image, "disk_format": "qcow2"})


def _record(instance: Any) -> dict[str, Any]:
    return {
        "uuid": instance.uuid,
        "name": instance.name,
        "image_ref": instance.image_ref,
        "host": instance.host,
        "vm_state": instance.vm_state,
        "task_state": instance.task_state,
        "swap_mb": instance.flavor.swap,
        "ephemeral_gb": instance.flavor.ephemeral_gb,
    }


def _kill_at(owner: object, function: str, act: Callable[[], None]) -> None:
    """Do something in a process that is killed where it would call a function."""
    child = os.fork()
    if not child:
        with mock.patch.object(owner, function, side_effect=lambda *_, **__: os._exit(0)):
            act()
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0, f"{function} was not called"


def _fill(folder: Path) -> None:
    """Leave no room on the file system of a folder, which has to be a small one."""
    assert shutil.disk_usage(folder).total <= LARGEST_TO_FILL_BYTES
    with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@contextlib.contextmanager
def outside_world(image_service: Glance) -> Iterator[None]:
    """What nova meets outside itself, for as long as the block lasts: an image service, and imitations of the rest."""
    with (
        LibvirtFixture(),
        mock.patch.object(images, "IMAGE_API", image_service),
        mock.patch.object(libvirt_utils.remotefs, "RemoteFilesystem"),
        mock.patch.object(host.Host, "_event_emit_delayed"),  # nobody waits for libvirt's events
        mock.patch.object(driver.LibvirtDriver, "_build_device_metadata", return_value=None),
        mock.patch.object(objects.BlockDeviceMappingList, "get_by_instance_uuid", return_value=[]),
        mock.patch.object(objects.BlockDeviceMapping, "save"),
        mock.patch.object(objects.Instance, "save"),
    ):
        yield


def main() -> None:
    root, state = Path(sys.argv[1]), sys.argv[2]
    with outside_world(Glance()):
        compute = Compute(root)
        if state == "novas-pass":
            compute.run_pass()
        else:
            STATES[state](compute)
            compute.save()


if __name__ == "__main__":
    main()
