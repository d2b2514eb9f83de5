#!/bin/sh
# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Usage: make_cache.sh DIRECTORY
# Makes the instances of a compute host, with an image cache that holds something of each sort.

set -eu

cd "$1"
mkdir -p instances/_base instances/locks libvirt
cd instances

base() {
    head -c 1M /dev/zero >"_base/$1"
    touch -d "$2" "_base/$1"
    touch "locks/nova-${1%.part}"
}

overlay() {
    mkdir -p "${1%/*}"
    qemu-img create -q -u -f qcow2 -b "$2" -F "$3" "$1" 10M
}

base 97aaae8fdc4935bc47d03cf539a6213a1f2c6ad4 '3 days ago'
base 02c9f7e7130413742a28a31ba97617e9a56811be '3 days ago'
base 02c9f7e7130413742a28a31ba97617e9a56811be_10485760 '2 hours ago'
base 8c01e6eaac9d52a96a0a7e70fbe0a2345e430f85 '2 hours ago'
base 284c96e87bfb34c8759b04a5822097e2dc43391f.part '3 days ago'
base swap_64 '3 days ago'
base swap_128 '3 days ago'
echo '{}' >_base/02c9f7e7130413742a28a31ba97617e9a56811be.info
echo 'not ours' >_base/README

# A template on a template: three files deep with the disk.
qemu-img create -q -f qcow2 -b 97aaae8fdc4935bc47d03cf539a6213a1f2c6ad4 -F raw _base/058d6f6126b0846e3d5636640cfbb53cf70a86a6
touch -d '3 days ago' _base/058d6f6126b0846e3d5636640cfbb53cf70a86a6

overlay 9b29f995-642c-4e6b-a0bb-6fcc0f7fc924/disk "$PWD/_base/058d6f6126b0846e3d5636640cfbb53cf70a86a6" qcow2
overlay 9b29f995-642c-4e6b-a0bb-6fcc0f7fc924/disk.swap ../_base/swap_64 raw
