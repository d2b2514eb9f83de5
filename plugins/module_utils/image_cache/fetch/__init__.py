# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Putting the right bytes under the right name: where they come from, why they may be believed, how they get there.

Nothing here removes a file of the cache, and nova's lock is held only to look again and to give a file its name.
"""

from __future__ import annotations
