#!/bin/sh
# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

set -eux

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
for host in one two broken; do
    mkdir "$root/$host"
    ../setup_image_cache/files/make_cache.sh "$root/$host"
done

prune() {
    ansible-playbook -i inventory.yml prune.yml -e root="$root" "$@"
}

verify() {
    ansible-playbook -i inventory.yml verify.yml -e root="$root" "$@"
}

picture() {
    find "$root/one" "$root/two" "$root/broken" -printf '%p %i %m %s %T@ %C@\n'
}

refused() {
    if prune "$@" >"$root/output"; then
        exit 1
    fi
    [ "$(picture)" = "$before" ]
}

before=$(picture)
query="files[?name=='swap_128'].{host: host, name: name}"

# A problem with the report is reported before anything is looked at or removed.
refused -e "image_cache_report_query='hosts[?'"
grep -q "The report's query 'hosts\[?' is not a JMESPath expression" "$root/output"
refused -e image_cache_report_path="$root/output/report"
grep -q "The report cannot be written into $root/output/report on the controller" "$root/output"
if grep -q 'Audit the image cache\]' "$root/output"; then
    exit 1
fi

# A dry run changes nothing on any host, and writes the report all the same.
refused --check -e "{image_cache_report_query: \"$query\"}"
verify -e dry_run=true

if prune -e "{image_cache_report_query: \"$query\"}"; then
    exit 1
fi
verify -e dry_run=false
