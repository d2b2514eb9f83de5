# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report's one exception."""

from __future__ import annotations

__all__ = ["ReportError"]


class ReportError(Exception):
    """The report cannot be written. Its text says what happened, why, and what to do."""
