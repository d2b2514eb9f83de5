#!/usr/bin/python
# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The documentation of plugins/action/image_cache_precache_fleet.py, which is all that runs.

from __future__ import annotations

DOCUMENTATION = r"""
module: image_cache_precache_fleet
short_description: Internal to the role image_cache - Choose images, decide who fetches which, show what came of it
version_added: 0.1.0
description:
  - Internal to the role P(stackops.nova.image_cache#role). It may change at any time.
  - Runs once, on the controller, and reads what all hosts answered in this run of the role. Writes C(precache.html),
    C(precache.json) and, outside of check mode, C(image_cache.prom) into the folder that the variable
    C(image_cache_report_path) names, if it is set.
author:
  - stackops.nova contributors (@stackops)
options:
  operation:
    description: V(choose) images, V(decide) which host fetches which, V(plan) the next wave, where hosts serve each
      other, or V(report) what came of it.
    type: str
    choices: [choose, decide, plan, report]
    required: true
attributes:
  check_mode:
    description: Decides and shows the same, and writes a report too. Its files are on the controller.
    support: partial
  diff_mode:
    description: Shows no difference.
    support: none
  platform:
    description: Runs on the controller.
    platforms: posix
    support: full
"""

EXAMPLES = r"""
- name: Use the role
  ansible.builtin.import_role:
    name: stackops.nova.image_cache
    tasks_from: precache
"""

RETURN = r""" # """
