from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.environment import (
    format_environment,
    format_exports,
    parse_environment,
)

AWKWARD = "@ : / % # ? $ ' \" \\ ` ! ; & | ~ * $(id) ${HOME} %h \t é 漢 \\n end "


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("plain", 'A="plain"\n'),
        ("", 'A=""\n'),
        (" spaces ", 'A=" spaces "\n'),
        ('say "hi"', 'A="say \\"hi\\""\n'),
        ("it's", 'A="it\'s"\n'),
        ("$HOME `id` \\", 'A="\\$HOME \\`id\\` \\\\"\n'),
        ("#not a comment", 'A="#not a comment"\n'),
        (True, 'A="true"\n'),
        (False, 'A="false"\n'),
        (4200, 'A="4200"\n'),
        (["a", "b"], 'A="[\\"a\\", \\"b\\"]"\n'),
        ({"b": 1}, 'A="{\\"b\\": 1}"\n'),
        (None, ""),
    ],
)
def test_format(value: Any, line: Any) -> None:
    assert format_environment({"A": value}) == line


def test_names_are_sorted() -> None:
    assert format_environment({"B": 1, "A": 2}) == 'A="2"\nB="1"\n'


@pytest.mark.parametrize("value", ["two\nlines", "cr\r", "nul\0", "esc\x1b", "del\x7f", "surrogate\udc80"])
def test_refuses_what_a_unit_cannot_carry_and_keeps_it_secret(value: Any) -> None:
    with pytest.raises(ValueError, match="SECRET_NAME") as caught:
        format_environment({"SECRET_NAME": value})
    assert value[:3] not in str(caught.value)


@pytest.mark.parametrize("name", ["", "1A", "A B", "A-B", "A=B", "A\n", "é"])
def test_refuses_names(name: Any) -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        format_environment({name: "x"})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", {}),
        ("A=1\nB=2", {"A": "1", "B": "2"}),
        ("  A = 1 2  \n", {"A": "1 2"}),
        ("# A=1\n; B=2\nC=3\n", {"C": "3"}),
        ("# a comment \\\ncontinued=1\nA=1\n", {"A": "1"}),
        ("A='it''s $HOME \\n'\n", {"A": "its $HOME \\n"}),
        ('A="a\\"b\\\\c\\$d\\`e\\f"\n', {"A": 'a"b\\c$d`e\\f'}),
        ("A=one\\\ntwo\n", {"A": "onetwo"}),
        ('A="one\\\ntwo"\n', {"A": "onetwo"}),
        ('A="line\nbreak"\n', {"A": "line\nbreak"}),
        ("A=a\\ b\\$ \n", {"A": "a b$"}),
        ('A=x"y z "  \n', {"A": "xy z "}),
        ("no assignment\nA=1\n", {"A": "1"}),
        ("1BAD=1\nA=\n", {"A": ""}),
        ("A=1\nA=2\n", {"A": "2"}),
        ("A=a=b\n", {"A": "a=b"}),
        ('A="unterminated', {"A": "unterminated"}),
    ],
)
def test_parse(content: Any, expected: Any) -> None:
    assert parse_environment(content) == expected


def test_round_trip() -> None:
    environment = {"A": AWKWARD, "B": "", "C": "\\", "D": '"', "E": "'"}
    assert parse_environment(format_environment(environment)) == environment


@pytest.mark.skipif(not shutil.which("sh"), reason="needs a POSIX shell")
def test_a_shell_reads_back_the_same(tmp_path: Path) -> None:
    (tmp_path / "env").write_text(format_environment({"A": AWKWARD}), encoding="utf-8")
    shown = subprocess.run(["sh", "-c", '. ./env; printf %s "$A"'], cwd=tmp_path, capture_output=True, check=True, encoding="utf-8")
    assert shown.stdout == AWKWARD


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_a_shell_reads_what_was_written(shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell} here")
    (tmp_path / "settings.sh").write_text(format_exports({"SECRET": AWKWARD, "NONE": None, "YES": True}), encoding="utf-8")
    script = '. ./settings.sh; printf %s "$SECRET|$YES|${NONE-unset}"'
    read = subprocess.run([program, "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=10).stdout
    assert read == f"{AWKWARD}|true|unset"


def test_exports_refuse_what_a_line_cannot_hold() -> None:
    with pytest.raises(ValueError, match="SECRET") as caught:
        format_exports({"SECRET": "geheim\nexport EVIL=1"})
    assert "geheim" not in str(caught.value)
