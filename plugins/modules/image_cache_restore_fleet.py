#!/usr/bin/python
# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The documentation of plugins/action/image_cache_restore_fleet.py, which is all that runs.

from __future__ import annotations

DOCUMENTATION = r"""
module: image_cache_restore_fleet
short_description: Internal to the role image_cache - Decide who restores which base file, and show what came of it
version_added: 0.1.0
description:
  - Internal to the role P(stackops.nova.image_cache#role). It may change at any time.
  - Runs once, on the controller, and reads what all hosts answered in this run of the role.
author:
  - stackops.nova contributors (@stackops)
options:
  operation:
    description: V(find) lost base files in Glance, V(agree) on what other hosts have, V(decide) which host restores
      which file, or V(report) what came of it.
    type: str
    choices: [find, agree, decide, report]
    required: true
attributes:
  check_mode:
    description: Decides and shows the same.
    support: full
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
    tasks_from: restore
"""

RETURN = r""" # """
