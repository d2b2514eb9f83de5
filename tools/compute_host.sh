#!/bin/sh
# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Usage: tools/compute_host.sh COMMAND [ARGUMENT...]
# Runs a command on a compute host: named compute-1, with the sample cache in /var/lib/nova/instances, and nova's and
# libvirt's configuration in /etc. All of it is in namespaces of its own, so this machine keeps its /etc and /var/lib.
# Needs Linux and Python 3.11 or newer, and root only where user namespaces are forbidden.

set -eu

if [ "${COMPUTE_HOST-}" != inside ]; then
    export COMPUTE_HOST=inside
    exec unshare --map-root-user --mount --uts --pid --fork --mount-proc "$0" "$@"
fi

hostname compute-1
mount -t tmpfs -o size=100g tmpfs /var/lib
mkdir /var/lib/etc /var/lib/nova
mount --rbind /etc /var/lib/etc
mount -t tmpfs tmpfs /etc
ln -s /var/lib/etc/* /etc
rm -rf /etc/nova /etc/libvirt
mkdir -p /etc/nova /etc/libvirt
cat >/etc/nova/nova.conf <<'CONF'
[DEFAULT]
host = compute-1
state_path = /var/lib/nova
[image_cache]
remove_unused_original_minimum_age_seconds = 86400
CONF
(cd "$(dirname "$0")/.." && "${PYTHON:-python3}" -m tools.sample_cache /var/lib/nova >/dev/null)
mv /var/lib/nova/libvirt /etc/libvirt/qemu
exec "$@"
