#!/usr/bin/python
# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The documentation of plugins/action/image_cache_report.py, which is all that runs.

from __future__ import annotations

DOCUMENTATION = r"""
module: image_cache_report
short_description: Write the report of a fleet's image caches
version_added: 0.1.0
description:
  - Writes three files on the controller. C(report.html) is one page for people that needs no network and no other
    file, C(report.json) is all that is known, and C(image_cache.prom) is for the textfile collector of Prometheus'
    node exporter.
  - Each is put in its place as a whole, so that nobody reads half of one.
  - Names come from guests and tenants, and are escaped in each of the three.
author:
  - stackops.nova contributors (@stackops)
options:
  path:
    description:
      - The folder to write into, relative to the playbook if it is not absolute. It is made if it does not exist.
      - With a textfile collector, let the collector read this folder, or link C(image_cache.prom) into the collector's.
    type: str
    required: true
  fleet:
    description:
      - What the filter P(stackops.nova.image_cache_fleet#filter) returns.
      - If it is not given, nothing is written. Then the task only fails if O(path) cannot be written or O(query)
        does not parse, so that this is known before the work begins.
    type: dict
  query:
    description:
      - A JMESPath expression that selects hosts, files or anything else for a section of its own in the report. The
        rest of the report is about the whole fleet all the same, so that no query hides what needs a person.
      - It is applied to O(fleet), which besides C(hosts), C(storages) and C(summary) then has C(files), the files of
        all storages with the C(host) from which each was seen. Without C(details=files) an audit has none, and a
        prune those that it was about to remove.
      - Needs the Python library C(jmespath) on the controller.
    type: str
attributes:
  check_mode:
    description: Writes in check mode too. The files are on the controller, and say what would be done on the hosts.
    support: none
  diff_mode:
    description: Shows no difference.
    support: none
  platform:
    description: Runs on the controller, and needs no connection to a host.
    platforms: posix
    support: full
  idempotent:
    description: Writes a new report each time, which is not counted as a change.
    support: N/A
seealso:
  - plugin: stackops.nova.image_cache_fleet
    plugin_type: filter
  - module: stackops.nova.image_cache_facts
  - module: stackops.nova.image_cache_prune
"""

EXAMPLES = r"""
- name: Audit the image caches of all hosts
  hosts: compute
  become: true
  tasks:
    - name: Audit
      stackops.nova.image_cache_facts:
      register: __image_cache_audit

    - name: Write the report
      stackops.nova.image_cache_report:
        path: /var/www/image-cache
        fleet: >-
          {{ ansible_play_hosts_all
             | stackops.nova.image_cache_fleet(hostvars, ansible_play_hosts) }}
        query: "hosts[?free_bytes < `10737418240`].{host: name, free: free_bytes}"
      run_once: true
"""

RETURN = r"""
path:
  description: The folder, as an absolute path.
  returned: success
  type: str
  sample: /var/www/image-cache
files:
  description: The names of the files that were written.
  returned: success
  type: list
  elements: str
  sample: [image_cache.prom, report.html, report.json]
"""
