# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules promise about check mode, diff mode and the rest."""

from __future__ import annotations


class ModuleDocFragment:
    """Attributes that the modules document, and what differs between them."""

    DOCUMENTATION = r"""
options: {}
attributes:
  platform:
    description: The platforms that the module runs on.
    platforms: linux
    support: full
"""

    FACTS = r"""
options: {}
attributes:
  check_mode:
    description: Runs the same in check mode, because it never writes anything.
    support: full
  diff_mode:
    description: Changes nothing, so there is no difference to show.
    support: N/A
  facts:
    description: Returns an C(ansible_facts) dictionary.
    support: full
  idempotent:
    description: Changes nothing, however often it runs.
    support: full
"""

    PRUNE = r"""
options: {}
attributes:
  check_mode:
    description:
      - Is the dry run. It looks at the host and makes the plan as a prune does, and then it stops.
      - Nothing at all is written, no modification time and no lock file either.
    support: full
  diff_mode:
    description:
      - Shows the listing of the cache before and after, one line a file with name, size in bytes and reasons.
      - A checksum that is saved for the first time is a line of its own.
    support: full
  idempotent:
    description: A second run removes nothing and saves no first checksum, unless a file has become old enough, unused
      or used in between.
    support: full
"""

    RESTORE = r"""
options: {}
attributes:
  check_mode:
    description:
      - Is the dry run. It looks at the host, and finds sources and proofs as a run does, and then it stops.
      - Nothing at all is written. Where a checksum is known, the file is read and compared, as in a run.
    support: full
  diff_mode:
    description: The result names each file that is put in place. There is no text to compare.
    support: none
  idempotent:
    description: A second run restores nothing, because nothing is missing any more.
    support: full
"""

    PRECACHE = r"""
options: {}
attributes:
  check_mode:
    description:
      - Is the dry run. It looks at the host, the records and the files that were brought as a run does, and then it
        stops. It makes no connection.
      - Nothing at all is written, no modification time and no lock file either.
    support: full
  diff_mode:
    description: The result names each image that is fetched. There is no text to compare.
    support: none
  idempotent:
    description: A second run fetches nothing, because the images are there. It marks them as used again.
    support: full
"""

    ACTIONGROUP_IMAGE_CACHE = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/stackops.nova.image_cache) in C(module_defaults) to set options for all modules at once.
    support: full
    membership:
      - stackops.nova.image_cache
"""
