from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._deployment_lock import (
    ANY_HOLDER,
    KEY,
    Holder,
    Lease,
    boot_id,
    from_values,
    parse,
    process_runs,
    process_start,
    refusal,
)

if TYPE_CHECKING:
    from pathlib import Path

ALICE = Holder("alice", "bastion", "boot-1 pid:[1]", 4711, 560820, "upgrade.yml", since=1000.0, refreshed=1000.0)
BOB = Holder("bob", "laptop", "boot-2 pid:[1]", 77, 99, "site.yml", since=1100.0, refreshed=1100.0)


class Redis:
    """Does what the two scripts do; that Redis runs them as they are written is for the runs against a real one."""

    def __init__(self, held: Holder | None = None) -> None:
        self.value = held.text() if held else None
        self.lease = 0

    def call(self, *words: str | int) -> Any:
        if words[0] == "GET":
            assert words[1] == KEY
            return self.value
        if words[0] == "PTTL":
            return self.lease if self.value else -2
        assert (words[0], words[2], words[3]) == ("EVAL", 1, KEY)
        before = json.loads(self.value) if self.value else None
        if len(words) == 5:
            mine = before is not None and before["token"] == words[4]
            self.value = None if mine else self.value
            return int(mine)
        token, wanted, lease, after = words[4:]
        wanted = json.loads(str(wanted))
        if before and before["token"] == token:
            wanted["since"] = before["since"]
        elif before and after not in (ANY_HOLDER, before["token"]):
            return self.value
        self.value, self.lease = json.dumps(wanted), int(lease)
        return None


@pytest.mark.parametrize(
    ("held", "after", "blocked_by"),
    [
        (None, "", None),
        (ALICE, "", ALICE),
        (ALICE, ALICE.token, None),
        (ALICE, BOB.token, ALICE),
        (ALICE, ANY_HOLDER, None),
        (BOB, "", None),
    ],
)
def test_who_gets_it(held: Holder | None, after: str, blocked_by: Holder | None) -> None:
    redis = Redis(held)
    assert Lease(redis.call).hold(BOB, 60, after) == blocked_by
    assert Lease(redis.call).holder() == (blocked_by or BOB)
    assert redis.lease == (0 if blocked_by else 60_000)


def test_a_sign_of_life_keeps_the_beginning() -> None:
    redis = Redis(BOB)
    assert Lease(redis.call).hold(replace(BOB, since=1500.0, refreshed=1500.0), 60) is None
    assert Lease(redis.call).holder() == replace(BOB, refreshed=1500.0)


@pytest.mark.parametrize(("held", "returned"), [(None, False), (ALICE, False), (BOB, True)])
def test_only_ones_own_is_given_back(held: Holder | None, returned: bool) -> None:
    redis = Redis(held)
    assert Lease(redis.call).release(BOB) is returned
    assert Lease(redis.call).holder() == (None if returned else held)


@pytest.mark.parametrize(("milliseconds", "left"), [(1500, 1.5), (-1, 0.0), (-2, 0.0)])
def test_what_is_left(milliseconds: int, left: float) -> None:
    redis = Redis(ALICE)
    redis.lease = milliseconds
    assert Lease(redis.call).left() == left


def test_a_holder_survives_being_kept() -> None:
    assert parse(ALICE.text()) == ALICE
    assert from_values({"user": "x", "something": "else"}) == Holder("x", "", "", 0, 0, "")


def test_the_token_is_of_the_process_alone() -> None:
    assert ALICE.token == replace(ALICE, playbook="other.yml", since=0, refreshed=9).token
    others = [replace(ALICE, machine="x"), replace(ALICE, boot="x"), replace(ALICE, pid=1), replace(ALICE, started=1)]
    assert len({ALICE.token, *(other.token for other in others)}) == 5


@pytest.mark.parametrize(
    ("change", "runs", "gone"),
    [
        ({}, False, True),
        ({}, True, False),
        ({"machine": "laptop"}, False, False),
        ({"boot": "boot-1 pid:[2]"}, False, False),
        ({"pid": 0}, False, False),
    ],
)
def test_only_what_ran_here_is_known_to_be_over(change: dict[str, Any], runs: bool, gone: bool) -> None:
    here = replace(ALICE, pid=9, started=9)
    assert replace(ALICE, **change).gone(here, lambda _pid, _started: runs) is gone


def stat(proc: Path, pid: int, state: str, started: int) -> None:
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "stat").write_text(f"{pid} (an (odd) name) {state} 1 2 " + "0 " * 16 + f"{started} 0\n")


@pytest.mark.parametrize(
    ("state", "started", "error", "runs"),
    [
        ("S", 500, None, True),
        ("S", 501, None, False),
        ("Z", 500, None, False),
        ("S", 500, PermissionError, True),
        ("S", 501, PermissionError, False),
        ("", 0, None, True),
        ("", 0, PermissionError, True),
        ("", 0, ProcessLookupError, False),
    ],
)
def test_whether_a_process_runs(tmp_path: Path, state: str, started: int, error: type[OSError] | None, runs: bool) -> None:
    def kill(pid: int, signal: int) -> None:
        assert (pid, signal) == (4711, 0)
        if error:
            raise error

    if state:
        stat(tmp_path, 4711, state, started)
    assert process_runs(4711, 500, tmp_path, kill) is runs


def test_a_real_process_and_what_is_left_of_it() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        started = process_start(process.pid)
        assert started > 0
        assert process_runs(process.pid, started)
        process.kill()
        # Ended, but not yet looked after: a zombie.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert process_start(process.pid) == started
        assert not process_runs(process.pid, started)
    assert not process_runs(process.pid, started)


def test_a_container_is_not_its_neighbour(tmp_path: Path) -> None:
    assert boot_id(tmp_path) == ""
    assert boot_id() == boot_id()
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("e092143a\n")
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").symlink_to("pid:[4026531836]")
    assert boot_id(tmp_path) == "e092143a pid:[4026531836]"


def test_the_refusal_tells_all_that_is_known() -> None:
    message = refusal(replace(ALICE, since=1795514330.0, refreshed=1795514930.0), 1500.0, 1795514990.0)
    for part in (
        "upgrade.yml, by alice on bastion (process 4711)",
        "since 2026-11-24 09:58:50 UTC (11 min ago)",
        "last seen 60 s ago",
        "-e prefect_lock_wait=600",
        "-e prefect_lock_takeover=true",
        "ends in 25 min",
        "Nothing was changed.",
    ):
        assert part in message
