# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What images, base files and instances are called: as on the captured host."""

from __future__ import annotations

IMAGE = "131d062c-6166-4aa7-bb6c-7ceae4a8201c"
BASE = "058d6f6126b0846e3d5636640cfbb53cf70a86a6"  # the SHA-1 of IMAGE
OTHER_IMAGE = "f8cda50a-d7cd-4ebb-a55c-a081ab800866"
OTHER_BASE = "97aaae8fdc4935bc47d03cf539a6213a1f2c6ad4"
UUID = "9b29f995-642c-4e6b-a0bb-6fcc0f7fc924"
OTHER_UUID = "b38dfd14-56ca-498e-a719-33ff1449d100"
