#!/bin/sh
# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Usage: tests/changelog.sh REPOSITORY
# Fails if what users get has changed since the last release, or since the commit in CHANGELOG_BASE, and no fragment in
# changelogs/fragments came with it. Before the first release everything is new, and one fragment says so.

set -eu
git() { command git -c safe.directory='*' -C "$repository" "$@"; }

repository=$1
base=${CHANGELOG_BASE:-$(git describe --tags --abbrev=0 2>/dev/null || true)}
if [ -z "$base" ]; then
    echo "There is no release yet, so no change needs a fragment."
    exit 0
fi
changed=$(git diff --name-only "$base" -- plugins roles playbooks meta/runtime.yml)
fragments=$(git diff --name-only --diff-filter=AM "$base" -- changelogs/fragments)
if [ -n "$changed" ] && [ -z "$fragments" ]; then
    printf 'Changed since %s, without a fragment in changelogs/fragments:\n%s\n' "$base" "$changed" >&2
    echo "See CONTRIBUTING.md. A change that no user can notice gets a fragment with the section 'trivial'." >&2
    exit 1
fi
