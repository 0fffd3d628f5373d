"""The repository speaks in the field's words, and the checker finds each word that is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.quality.glossary import TABLE, Word, glossary_problems, table

WORDS = table()

# What says the words themselves, and what was released and stays as it is.
EXEMPT = {TABLE.name, "glossary.py", Path(__file__).name, "CHANGELOG.md", "changelog.yaml"}


def planted(folder: Path, line: str) -> list[str]:
    """What the checker says of a file with this as its third line."""
    path = folder / "docs" / "page.md"
    path.parent.mkdir()
    path.write_text(f"# Page\n\n{line}\n", encoding="utf-8")
    return glossary_problems(folder, [path], WORDS)


def test_the_repository_uses_the_words_of_the_field(root: Path, tracked: list[Path]) -> None:
    checked = [root / path for path in tracked if path.name not in EXEMPT]
    problems = glossary_problems(root, checked, WORDS)
    assert not problems, "\n  ".join([f"{len(problems)} found:", *problems])


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word.example)
def test_a_planted_word_is_found(tmp_path: Path, word: Word) -> None:
    problems = planted(tmp_path, word.example)
    assert any(problem.startswith("docs/page.md:3: ") and f", say {word.say}: " in problem for problem in problems), problems


@pytest.mark.parametrize("line", [line for word in WORDS for line in word.allowed])
def test_an_allowed_line_is_not_found(tmp_path: Path, line: str) -> None:
    assert planted(tmp_path, line) == []


def test_a_file_name_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "roles" / "web" / "tasks" / "forget.yml"
    path.parent.mkdir(parents=True)
    path.write_text("---\n", encoding="utf-8")
    (problem,) = glossary_problems(tmp_path, [path], WORDS)
    assert problem.startswith("roles/web/tasks/forget.yml: the file's name: ")


def test_each_word_of_a_line_is_named(tmp_path: Path) -> None:
    assert [problem.split('"')[1] for problem in planted(tmp_path, "Nobody mends it, whoever asks")] == ["Nobody", "whoever", "mends"]
