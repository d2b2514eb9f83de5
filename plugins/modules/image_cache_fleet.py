#!/usr/bin/python
# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The documentation of plugins/action/image_cache_fleet.py, which is all that runs.

from __future__ import annotations

DOCUMENTATION = r"""
module: image_cache_fleet
short_description: Internal to the role image_cache - Decide what each host of the play does with its image cache
version_added: 0.1.0
description:
  - Internal to the role P(stackops.nova.image_cache#role). It may change at any time.
  - Runs once, on the controller, and reads what all hosts answered in this run of the role.
author:
  - stackops.nova contributors (@stackops)
options: {}
attributes:
  check_mode:
    description: Decides the same.
    support: full
  diff_mode:
    description: Changes nothing.
    support: N/A
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
