#!/usr/bin/env bash
# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

set -eu
# Here is a copy of this folder. The collection itself is where ansible-test says.
export PYTHONPATH="$ANSIBLE_COLLECTIONS_PATH"
exec python -m pytest -p no:cacheprovider promises.py apis.py
