"""Finds words that are not the field's; `glossary.yml` has them, and what to say instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

TABLE = Path(__file__).with_name("glossary.yml")


@dataclass(frozen=True)
class Word:
    """A word as a pattern, what to say instead, and lines that show what the pattern finds and what it leaves alone."""

    found: re.Pattern[str]
    say: str
    example: str
    allowed: Sequence[str] = ()


def table() -> list[Word]:
    """The words of `glossary.yml`."""
    rows = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return [Word(**{**row, "found": re.compile(row["found"])}) for row in rows]


def glossary_problems(root: Path, paths: Iterable[Path], words: Sequence[Word]) -> list[str]:
    """Where a file, or its name below `root`, has one of the words: the file, the line, the word and what to say."""
    problems = []
    for path in paths:
        name = path.relative_to(root)
        problems += [f"{name}: the file's name: {found}" for found in _found(str(name), words)]
        for number, line in enumerate(_lines(path), 1):
            problems += [f"{name}:{number}: {found}: {line.strip()}" for found in _found(line, words)]
    return problems


def _found(line: str, words: Sequence[Word]) -> Iterator[str]:
    for word in words:
        for match in word.found.finditer(line):
            yield f'"{match.group(0)}", say {word.say}'


def _lines(path: Path) -> list[str]:
    """A text file's lines; none for a linked folder, and for a file that is not text."""
    try:
        return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    except UnicodeDecodeError:
        return []
