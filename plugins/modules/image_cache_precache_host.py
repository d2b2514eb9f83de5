#!/usr/bin/python
# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The documentation of plugins/action/image_cache_precache_host.py, which is all that runs.

from __future__ import annotations

DOCUMENTATION = r"""
module: image_cache_precache_host
short_description: Internal to the role image_cache - Find which images a host lacks, and fetch them
version_added: 0.1.0
description:
  - Internal to the role P(stackops.nova.image_cache#role). It may change at any time.
  - Runs M(stackops.nova.image_cache_precache) on the host, with the options that the variables of the role give.
author:
  - stackops.nova contributors (@stackops)
options:
  operation:
    description: V(read) which images are asked for, V(look) which are present, or V(act) by what was decided. V(wave)
      is a part of that, where hosts serve each other.
    type: str
    choices: [read, look, act, wave]
    required: true
attributes:
  check_mode:
    description: Nothing is written in check mode. The look is the dry run, and nothing is run again.
    support: full
  diff_mode:
    description: Shows no difference.
    support: none
  platform:
    description: Runs on the controller, and on Linux hosts.
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
