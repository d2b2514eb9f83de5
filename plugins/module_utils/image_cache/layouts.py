# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where OpenStack's deployment tools keep on the host what a pass reads.

Where ``instances_path`` does not exist, the message names the layout that does. The guide's table is made of this one.
The paths are those of kolla-ansible (``nova-cell/defaults/main.yml``), tripleo-heat-templates
(``nova-compute-container-puppet.yaml``, ``nova-libvirt-container-puppet.yaml``), edpm-ansible (``edpm_nova``),
snap-openstack-hypervisor (``hooks.py``, ``nova.conf.j2``, ``snapcraft.yaml``), openstack-helm
(``daemonset-compute.yaml``, ``daemonset-libvirt.yaml``), openstack-ansible-os_nova (``nova.conf.j2``) and
charm-nova-compute (``config.yaml``, ``nova.conf``).
"""

from __future__ import annotations

import os
from typing import NamedTuple

__all__ = ["LAYOUTS", "Layout", "options_of", "remedy_by_layout"]

# Of the modules: what a layout has in common with these need not be set.
_DEFAULTS = {"instances_path": "/var/lib/nova/instances", "libvirt_config_path": "/etc/libvirt/qemu"}
_DOCKER = "/var/lib/docker/volumes"
_PODMAN = "/var/lib/containers/storage/volumes"
_SNAP = "/var/snap/openstack-hypervisor/common"


class Layout(NamedTuple):
    """The paths of a deployment, as they are on the host.

    :param config_file: nova's configuration; empty where the host has no such file.
    :param config_dir: a directory that has nova's configuration instead, may be empty.
    """

    name: str
    instances_path: str = _DEFAULTS["instances_path"]
    config_file: str = "/etc/nova/nova.conf"
    config_dir: str = ""
    libvirt_config_path: str = _DEFAULTS["libvirt_config_path"]


def _kolla(engine: str, volumes: str) -> Layout:
    return Layout(
        f"Kolla with {engine}",
        instances_path=f"{volumes}/nova_compute/_data/instances",
        config_file="/etc/kolla/nova-compute/nova.conf",
        libvirt_config_path=f"{volumes}/nova_libvirt_qemu/_data",
    )


LAYOUTS = (
    Layout("Distribution packages"),
    _kolla("Docker", _DOCKER),
    _kolla("Podman", _PODMAN),
    Layout("TripleO", config_file="/var/lib/config-data/puppet-generated/nova_libvirt/etc/nova/nova.conf"),
    Layout("RHOSO", config_file="", config_dir="/var/lib/openstack/config/nova"),
    Layout(
        "Sunbeam (snap)",
        instances_path=f"{_SNAP}/lib/nova/instances",
        config_file=f"{_SNAP}/etc/nova/nova.conf",
        libvirt_config_path=f"{_SNAP}/etc/libvirt/qemu",
    ),
    Layout("openstack-helm", config_file=""),
    Layout("OpenStack-Ansible"),
    Layout("Charm nova-compute"),
)


def options_of(layout: Layout) -> dict[str, str]:
    """Return the options that a layout needs, with their values: those whose default does not do."""
    options = layout._asdict()
    del options["name"]
    return {option: path for option, path in options.items() if path and path != _DEFAULTS.get(option)}


def remedy_by_layout(root: str = "/") -> str:
    """Say which options to set for a layout that this host has.

    :param root: the directory under which the host's paths are looked for.
    :return: sentences, with the paths that exist; empty where no layout's own ``instances_path`` does.
    """
    sentences = []
    for layout in LAYOUTS:
        options = {option: path for option, path in options_of(layout).items() if os.path.exists(root + path)}
        if "instances_path" in options:
            values = ", ".join(f"{option}: {path}" for option, path in options.items())
            sentences.append(
                f"This host has the directories of {layout.name}. Set {values} (in the role, with image_cache_ before "
                f"each name)."
            )
    return " ".join(sentences)
