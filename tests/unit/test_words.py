# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`./test lint` finds the words, names of tests, lines of prose and subjects of commits that are not to be written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.tests.words import (
    find_long_lines,
    find_long_subjects,
    find_test_names,
    find_words,
)

CHECK = Path(__file__).parents[1] / "words.py"
# Each with a bar in it, which keeps this file from being found itself.
WORDS = [
    word.replace("|", "")
    for word in (
        "as good| as",
        "b|rake",
        "b|rakes",
        "for it is not| known",
        "in| vain",
        "is no| regular",
        "l|est",
        "r|ehearse",
        "r|ehearsal",
        "t|win",
        "t|wins",
        "v|ouched",
        "w|hoever",
        "would| go",
    )
]
BEGINNINGS = [
    "nor",
    "but",
    "and",
    "or",
    "so",
    "it",
    "its",
    "they",
    "their",
    "that",
    "this",
    "these",
    "those",
    "then",
    "also",
    "which",
    "who",
    "whose",
    "neither",
]
CLEAN = """
# The brakeman of a twinned town, latest in line, goes as good men go: Askew would gore no regular file.
def test_item_that_is_removed_is_reported(): ...
def test_orphan_is_kept(): ...
def read_and_plan(): ...
"""


def lines(found: Iterable[tuple[int, str]]) -> list[int]:
    return [line for line, wrong in found]


@pytest.mark.parametrize("word", WORDS)
class TestWord:
    def test_word_in_prose_is_found_on_its_line(self, word: str) -> None:
        assert lines(find_words(f"One line.\nThe {word}, here.\n")) == [2]

    def test_word_at_the_beginning_of_a_sentence_is_found(self, word: str) -> None:
        assert lines(find_words(word.capitalize())) == [1]

    def test_word_in_a_name_is_found(self, word: str) -> None:
        assert lines(find_words(f"def the_{word.replace(' ', '_')}_here(): ...")) == [1]

    def test_word_as_a_key_of_yaml_is_found(self, word: str) -> None:
        assert lines(find_words(f"{word.replace(' ', '_')}: 1")) == [1]

    def test_word_in_a_literal_of_rst_is_found(self, word: str) -> None:
        assert lines(find_words(f"``{word}``")) == [1]

    @pytest.mark.parametrize(
        "line_end",
        ["\n", "\n    ", "\n    # ", '"\n        "', ' "\n        f"'],
        ids=["prose", "folded", "comment", "literals", "f-string"],
    )
    def test_phrase_that_a_line_end_divides_is_found(self, word: str, line_end: str) -> None:
        assert lines(find_words(f"The {word.replace(' ', line_end)} here.")) == [1]


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_name_of_a_test_that_needs_another_test_is_found(beginning: str) -> None:
    text = f"class TestX:\n    def test_{beginning}_is_kept(self): ...\n\n    def test_{beginning}(self): ...\n"
    assert lines(find_test_names(text)) == [2, 4]


def test_clean_text_passes() -> None:
    assert [*find_words(CLEAN), *find_test_names(CLEAN)] == []


PROSE = "word " * 20  # with one more character it is too wide


@pytest.mark.parametrize("beginning", ["", "   ", "* ", "1. ", "   * - ", "     - ", "| ", "   :alt: "])
def test_line_of_prose_of_more_than_100_columns_is_found(beginning: str) -> None:
    text = f"Short.\n{(beginning + PROSE)[:99]}X"
    assert lines(find_long_lines(text)) == []
    assert lines(find_long_lines(f"{text}X\n")) == [2]


@pytest.mark.parametrize(
    "word",
    [
        "https://example.com/" + "x" * 90,
        "``a literal of " + "x" * 90 + "``",
        "`code of Markdown with " + "x" * 90 + "`,",
        "(:ref:`a role <with.a.target." + "x" * 90 + ">`).",
        "[a link](of/Markdown/" + "x" * 90 + ")",
    ],
)
@pytest.mark.parametrize("beginning", ["", "* ", "   * - ", "     - | "])
def test_word_that_no_line_end_divides_is_found_only_beside_another_word(word: str, beginning: str) -> None:
    assert lines(find_long_lines(f"{beginning}{word}\n{beginning}{word} and\n")) == [2]


def test_prose_between_two_literals_is_found() -> None:
    assert lines(find_long_lines(f"``a`` {PROSE}``b``\n`a` {PROSE}`b`\n")) == [1, 2]


@pytest.mark.parametrize(
    "block",
    [
        f"```console\n{PROSE}{PROSE}\n\n{PROSE}{PROSE}\n```\n",
        f"   ```\n   {PROSE}{PROSE}\n   ```\n",
        f"| a table of Markdown | {PROSE} |\n",
        f".. code-block:: text\n   :caption: {PROSE}\n\n   {PROSE}{PROSE}\n\n     {PROSE}{PROSE}\n\n",
        f"  .. code-block:: text\n\n     {PROSE}{PROSE}\n\n",
        f"A term of RST is one line {PROSE}\n   and what it means follows.\n",
    ],
)
def test_block_that_is_not_prose_passes_and_ends(block: str) -> None:
    assert lines(find_long_lines(f"{PROSE}X\n\n{block}{PROSE}X\n")) == [1, block.count("\n") + 3]


@pytest.mark.parametrize("beginning", ["* ", "12. ", "   * - ", "   :alt: "])
def test_item_of_several_lines_is_not_taken_for_a_term(beginning: str) -> None:
    assert lines(find_long_lines(f"{beginning}{PROSE}\n{' ' * len(beginning)}goes on.\n")) == [1]


def test_subject_of_more_than_72_characters_is_found() -> None:
    assert list(find_long_subjects(["s" * 72, ""])) == []
    (found,) = find_long_subjects(["s" * 73])
    assert found.startswith("73 characters ")


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, CHECK, folder], check=False, capture_output=True, text=True)


class Repository:
    """A repository that has the check, as an older commit brought it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("README.md", "A clean text.", "Before the check a subject may be long" + 72 * ".")
        self.commit("tests/words.py", "", "Bring the check")

    def git(self, *command: str) -> None:
        identity = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.com"]
        subprocess.run(["git", *identity, *command], cwd=self.path, check=True, capture_output=True)

    def write(self, file: str, text: str) -> None:
        path = self.path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def commit(self, file: str, text: str, subject: str) -> None:
        self.write(file, text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", subject)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


class TestRepository:
    def test_clean_repository_passes(self, repository: Repository) -> None:
        done = check(repository.path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    @pytest.mark.parametrize(
        "file",
        ["plugins/modules/a.py", "roles/a/b.yml", "docs/a.rst", "tests/unit/test_a.py", "bench/a.py", "README.md"],
    )
    def test_word_in_a_file_that_nobody_added_yet_fails_with_its_place(self, repository: Repository, file: str) -> None:
        repository.write(file, f"\nA {WORDS[1]}.\n")
        done = check(repository.path)
        assert done.returncode == 1
        assert done.stdout == f"{file}:2: not '{WORDS[1]}' but: limit\n"

    @pytest.mark.parametrize("file", ["README.md", "docs/a.rst", "roles/a/README.md"])
    def test_wide_prose_of_a_page_fails_with_its_place(self, repository: Repository, file: str) -> None:
        repository.write(file, f"Short.\n{PROSE}X\n")
        done = check(repository.path)
        assert (done.returncode, done.stdout) == (1, f"{file}:2: 101 columns instead of at most 100\n")

    @pytest.mark.parametrize("file", ["CHANGELOG.md", "CHANGELOG.rst", "changelogs/fragments/1.yml", "a.py"])
    def test_wide_line_of_another_file_passes(self, repository: Repository, file: str) -> None:
        repository.write(file, f"{PROSE}X\n")
        assert check(repository.path).returncode == 0

    def test_subject_since_the_check_came_fails(self, repository: Repository) -> None:
        repository.commit("README.md", "Another text.", "s" * 73)
        done = check(repository.path)
        assert done.returncode == 1
        assert "s" * 73 in done.stdout
        assert done.stdout.count("\n") == 1

    def test_removed_file_and_file_that_is_not_text_pass(self, repository: Repository) -> None:
        (repository.path / "README.md").unlink()
        (repository.path / "disk").write_bytes(b"QFI\xfb\0 " + WORDS[1].encode())
        assert check(repository.path).returncode == 0

    def test_shallow_history_passes(self, repository: Repository, tmp_path: Path) -> None:
        repository.commit("README.md", "Another text.", "s" * 73)
        shallow = tmp_path / "shallow"
        repository.git("clone", "--quiet", "--depth=1", f"file://{repository.path}", str(shallow))
        assert check(shallow).returncode == 0


def test_repository_without_a_commit_passes(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    assert check(tmp_path).returncode == 0


def test_folder_that_is_not_a_repository_fails(tmp_path: Path) -> None:
    assert check(tmp_path).returncode != 0
