"""Why a unit does not run: the cause first, and the lines of its last start, once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.journal import Why, said_by_systemd, why

UNIT = "prefect-api@4200.service"
BEGAN = 1_795_885_000.0
CRASH = [
    "Traceback (most recent call last):",
    '  File "a.py", line 1',
    "    call()",
    "    ^^^^^^",
    "KeyError: 'of today'",
    "KeyError: 'of today'",
]
FAILED = {
    "LoadState": "loaded",
    "ActiveState": "failed",
    "Result": "exit-code",
    "ExecMainCode": "1",
    "ExecMainStatus": "3",
    "NRestarts": "0",
}
RUNS = {"LoadState": "loaded", "ActiveState": "active", "Result": "success", "NRestarts": "0", "InvocationID": "new"}
AGAIN = {**FAILED, "ActiveState": "activating", "NRestarts": "2", "InvocationID": "third"}


def line(start: str, text: Any, after: float = 0.0, of_systemd: bool = False) -> str:
    of = "INVOCATION_ID" if of_systemd else "_SYSTEMD_INVOCATION_ID"
    return json.dumps({"MESSAGE": text, "__REALTIME_TIMESTAMP": str(int((BEGAN + after) * 1e6)), of: start})


def host(state: dict[str, str], journal: Sequence[str], rc: int = 0) -> Callable[..., Finished]:
    def command(argv: Sequence[str], timeout: float, **_: Any) -> Finished:
        assert timeout <= 10
        if argv[0] == "systemctl":
            return Finished(0, "".join(f"{name}={value}\n" for name, value in state.items()))
        assert argv[0] == "journalctl"
        assert f"--unit={UNIT}" in argv
        return Finished(rc, "\n".join(journal))

    return command


def asked(state: dict[str, str], journal: Sequence[str], most: int = 30, **more: Any) -> Why:
    return why([UNIT], most, ["hidden"], host(state, journal), clock=lambda: BEGAN + 60, **more)


def texts(found: Why) -> list[str]:
    """The lines without the first and without times."""
    return [each[9:] for each in found.lines.splitlines()[1:]]


def test_the_cause_and_each_line_once() -> None:
    yesterday = [line("old", "OSError: of an earlier outage", -90_000)]
    found = asked(FAILED, [*yesterday, *(line("new", text) for text in CRASH), line("new", "Main process exited", of_systemd=True)])
    assert found.cause == "KeyError: 'of today' - systemd says: exit-code (exit status 3)"
    assert "earlier outage" not in found.lines
    assert texts(found) == [CRASH[0], CRASH[1], CRASH[2], "KeyError: 'of today'", "Main process exited"]
    assert found.lines.startswith(f"{UNIT}, this start only, from 20")
    assert not found.active


@pytest.mark.parametrize(
    ("most", "shown"),
    [(2, [CRASH[0], CRASH[4]]), (3, [CRASH[0], CRASH[2], CRASH[4]]), (4, CRASH[:3] + CRASH[4:5]), (1, [CRASH[4]])],
)
def test_a_long_traceback_keeps_its_head(most: int, shown: list[str]) -> None:
    assert texts(asked(FAILED, [line("new", text) for text in ["before", *CRASH]], most)) == shown


def test_a_unit_that_is_started_again_and_again() -> None:
    """The start under way says nothing yet; those before it, since its last start on request, do."""
    journal = [line("before", "KeyError: 'before'"), *(line(start, text) for start in ("first", "second") for text in CRASH)]
    found = asked(AGAIN, [*journal, line("third", "starting")])
    assert found.cause == "KeyError: 'of today' - systemd says: exit-code (exit status 3), started again 2 times"
    assert found.lines.count("KeyError") == 1
    assert "before" not in found.lines


def test_none_of_an_earlier_start_when_the_last_one_hangs() -> None:
    found = asked({**RUNS, "ActiveState": "activating"}, [*(line("old", text) for text in CRASH), line("new", "waiting")])
    assert (found.cause, texts(found)) == ("", ["waiting"])


def test_of_a_unit_that_runs_only_what_is_recent() -> None:
    found = asked(RUNS, [*(line("new", text, -7000) for text in CRASH), line("new", "ERROR: of now")])
    assert (found.cause, texts(found), found.active) == ("ERROR: of now", ["ERROR: of now"], True)
    assert asked(RUNS, [line("new", "ERROR", -7000)]).lines == f"({UNIT} has written nothing within 10 minutes)"


def test_secrets_are_masked_before_anything_is_cut() -> None:
    found = asked(FAILED, [line("new", "x" * 395 + "hidden"), line("new", "password: letmein"), line("new", [104, 255, 40])])
    shown = texts(found)
    assert "x" * 395 + "*****..." in shown
    assert "letmein" not in found.lines
    assert "h\N{REPLACEMENT CHARACTER}(" in shown
    assert len(asked(FAILED, [line("new", f"line {number}") for number in range(50)], 3).lines.splitlines()) == 4


def test_a_log_beside_the_journal(tmp_path: Path) -> None:
    log = tmp_path / "postgresql.log"

    def at(after: float, text: str) -> str:
        moment = datetime.fromtimestamp(BEGAN + after, UTC)
        return f"{moment:%Y-%m-%d %H:%M:%S}.123 UTC [7] {text}\n"

    log.write_text(
        at(-90_000, "FATAL:  of an earlier outage")
        + at(1, 'LOG:  unrecognized configuration parameter "x"')
        + "\tits context\n"
        + at(1, "FATAL:  configuration file contains errors")
    )
    state = {**FAILED, "InactiveExitTimestamp": f"{datetime.fromtimestamp(BEGAN, UTC):%a %Y-%m-%d %H:%M:%S}.500000 UTC"}
    found = asked(state, [line("new", "Job failed", of_systemd=True)], log=str(log))
    assert 'unrecognized configuration parameter "x" - systemd says' in found.cause
    assert "earlier outage" not in found.lines
    assert "its context" in found.lines
    assert f"({tmp_path}/none cannot be read: No such file or directory)" in asked(state, [], log=str(tmp_path / "none")).lines


@pytest.mark.parametrize(
    ("ended", "lines"),
    [
        (Finished(0, ""), f"({UNIT} has written nothing since its last start)"),
        (Finished(1, "No permission\n"), f"(the journal of {UNIT} cannot be read: No permission)"),
        (Finished(-9, "", timed_out=True), f"(the journal of {UNIT} cannot be read: no answer within 10 s)"),
    ],
)
def test_without_a_journal(ended: Finished, lines: str) -> None:
    def command(argv: Sequence[str], timeout: float, **_: Any) -> Finished:
        return ended if argv[0] == "journalctl" else Finished(int(timeout), "no systemd")

    found = why([UNIT], 2, command=command)
    assert found == Why("", lines)


def test_several_units() -> None:
    found = why([UNIT, UNIT], 2, command=host(FAILED, [line("new", "ERROR: a")]), clock=lambda: BEGAN)
    assert found.cause.count(f"{UNIT}: ERROR: a") == 2


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({}, ""),
        (RUNS, ""),
        ({**RUNS, "NRestarts": "1"}, "systemd says: active, started again once"),
        ({"LoadState": "not-found"}, "systemd says: unit not-found"),
        ({"LoadState": "loaded", "ActiveState": "inactive", "ConditionResult": "no"}, "a condition of its unit does not hold"),
        ({**FAILED, "Result": "signal", "ExecMainCode": "2", "ExecMainStatus": "9"}, "systemd says: signal (signal 9)"),
        ({**FAILED, "Result": "timeout", "ExecMainStatus": "0"}, "systemd says: timeout"),
        (
            {**FAILED, "Result": "oom-kill", "ExecMainCode": "2", "ExecMainStatus": "9", "NRestarts": "4"},
            "oom-kill (signal 9), started again 4 times",
        ),
    ],
)
def test_systemd(state: dict[str, str], says: str) -> None:
    assert says in said_by_systemd(state) if says else said_by_systemd(state) == ""
