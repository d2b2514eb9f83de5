# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hold words, names of tests, prose and subjects of commits against the rules that a program can check: `./test lint`.

Usage: tests/words.py REPOSITORY
Prints each place with what to write instead, and fails if there is one.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

THIS_CHECK = "tests/words.py"

# What not to write, and what to write instead. The brackets keep this file from being found itself.
INSTEAD = {
    "[a]s good as": "what it is",
    "[b]rakes?": "limit",
    "[f]or it is not known": "because it is not certain",
    "[i]n vain": "without effect",
    "[i]s no regular": "is not a regular",
    "[l]est": "so that ... not",
    "[r]ehears[a-z]*": "dry run",
    "[t]wins?": "members of the storage",
    "[v]ouched": "exempt",
    "[w]hoever": "a user who, a process that",
    "[w]ould go": "would be removed",
}
# What may be between two words of a phrase: space, the beginning of a comment's next line, the seam of two literals of
# one string, and in a name an underscore.
BETWEEN = r"""(?:[\s#_]|["'][ ]*\n[ ]*[a-z]?["'])+"""
LETTER = r"[^\W_]"
RULES = [
    (re.compile(f"(?<!{LETTER}){pattern.replace(' ', BETWEEN)}(?!{LETTER})", re.IGNORECASE), instead)
    for pattern, instead in INSTEAD.items()
]
# Beginnings that need another test, or the name of the file, to be understood.
BEGINNINGS = "nor|but|and|or|so|it|its|they|their|that|this|these|those|then|also|which|who|whose|neither"
TEST_NAME = re.compile(rf"\bdef (test_(?:{BEGINNINGS})(?!{LETTER})\w*)")
SUBJECT_LENGTH = 72  # characters
PROSE_WIDTH = 100  # columns
# All pages but the changelog, which antsibull-changelog makes.
PAGE = re.compile(r"(?!.*\bCHANGELOG\.).*\.(md|rst)")
# What is not prose: code, output, and the tables of Markdown, of which a row is a line.
NOT_PROSE = re.compile(
    r"^( *)```.*\n(?:.*\n)*?\1```$|^ *\|.*\|$|^( *)\.\. code-block::.*\n(?:\2 +.*\n|\n)*", re.MULTILINE
)
# The beginning of an item, a cell, a line block or a field, and what no line end divides: a literal, a link, a word.
BEGINNING = re.compile(r" *(?:(?:[-*|]|\d+\.|:[\w-]+:) +)*")
UNDIVIDED = re.compile(r"(?:``.+?``|`[^`]+`|\[[^]]*]\([^)]*\)|\S)+")


def find_words(text: str) -> Iterator[tuple[int, str]]:
    """Find words that have a better one: the number of each line, and what is wrong there."""
    for pattern, instead in RULES:
        for match in pattern.finditer(text):
            found = " ".join(match.group().split())
            yield line_of(match), f"not '{found}' but: {instead}"


def find_test_names(text: str) -> Iterator[tuple[int, str]]:
    """Find tests whose name does not stand alone: the number of each line, and what is wrong there."""
    for match in TEST_NAME.finditer(text):
        yield line_of(match), f"not '{match[1]}' but: subject_condition_outcome"


def find_long_lines(text: str) -> Iterator[tuple[int, str]]:
    """Find lines of prose that are too wide: the number of each line, and what is wrong there.

    Not those that no line end can divide, nor the term of a definition, which RST takes from one line.
    """
    lines = NOT_PROSE.sub(lambda match: "\n" * match[0].count("\n"), text).splitlines()
    for number, (line, following) in enumerate(zip(lines, [*lines[1:], ""], strict=True), 1):
        beginning = len(BEGINNING.match(line)[0])
        is_term = len(following) - len(following.lstrip()) > beginning
        if len(line) > PROSE_WIDTH and len(UNDIVIDED.findall(line, beginning)) > 1 and not is_term:
            yield number, f"{len(line)} columns instead of at most {PROSE_WIDTH}"


def find_long_subjects(subjects: Iterable[str]) -> Iterator[str]:
    """Find subjects of commits that are too long, and say by how much."""
    for subject in subjects:
        if len(subject) > SUBJECT_LENGTH:
            yield f"{len(subject)} characters instead of at most {SUBJECT_LENGTH} in the subject: {subject}"


def line_of(match: re.Match[str]) -> int:
    """The number of the line on which a match begins, from 1."""
    return match.string.count("\n", 0, match.start()) + 1


def checked_texts(repository: Path) -> Iterator[tuple[str, str]]:
    """All text files that git has or would add: path in the repository, and text.

    :raises subprocess.CalledProcessError: if it is not a repository.
    """
    names = git(repository, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    names.check_returncode()
    for name in names.stdout.split("\0"):
        path = repository / name
        if path.is_symlink() or not path.is_file():
            continue
        content = path.read_bytes()
        if b"\0" not in content:
            yield name, content.decode(errors="replace")


def subjects_since_this_check(repository: Path) -> list[str]:
    """The subjects of the commits that came after this check; none where the history does not reach back to it."""
    first = git(repository, "log", "--diff-filter=A", "-1", "--format=%H", "--", THIS_CHECK).stdout.strip()
    return git(repository, "log", "--format=%s", f"{first}..HEAD").stdout.splitlines() if first else []


def git(repository: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a git command, which may fail."""
    return subprocess.run(
        ["git", "-c", "safe.directory=*", *command], cwd=repository, check=False, capture_output=True, text=True
    )


def main(repository: Path) -> int:
    found = []
    for name, text in checked_texts(repository):
        long_lines = find_long_lines(text) if PAGE.fullmatch(name) else ()
        wrong_lines = sorted([*find_words(text), *find_test_names(text), *long_lines])
        found += [f"{name}:{line}: {wrong}" for line, wrong in wrong_lines]
    found += find_long_subjects(subjects_since_this_check(repository))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
