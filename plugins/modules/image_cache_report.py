#!/usr/bin/python
# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The documentation of plugins/action/image_cache_report.py, which is all that runs.

from __future__ import annotations

DOCUMENTATION = r"""
module: image_cache_report
short_description: Internal to the role image_cache - Show and write the report of a fleet's image caches
version_added: 0.1.0
description:
  - Internal to the role P(stackops.nova.image_cache#role). It may change at any time.
  - Runs once, on the controller. Writes C(report.html), C(report.json) and C(image_cache.prom) into the folder that the
    variable C(image_cache_report_path) names, if it is set.
author:
  - stackops.nova contributors (@stackops)
options: {}
attributes:
  check_mode:
    description: Writes in check mode too. The files are on the controller, and show what would be done on the hosts.
    support: none
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
"""

RETURN = r""" # """
