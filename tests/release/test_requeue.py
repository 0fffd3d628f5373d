"""The command that requeues the tasks of dead workers."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import pytest
from selfhosted_prefect import identity, requeue
from selfhosted_prefect.settings import Settings

NOW = 1_000_000.0
ENVIRONMENT = {"PREFECT_SERVER_DOCKET_URL": "redis://prefect:r%40s@cache:6380/1"}


@dataclass
class Queued:
    """An entry that was handed out: to whom, when, and the task's key."""

    worker: str
    at: float
    key: str = "schedule_deployments"


@dataclass
class Redis:
    """A docket's keys, as far as the program asks for them."""

    entries: dict[str, Queued] = field(default_factory=dict)
    beats: dict[str, float] = field(default_factory=dict)
    up: int = 10_000
    now: float = NOW
    error: Exception | None = None
    renewed: str = ""
    asked: list[str] = field(default_factory=list)

    def execute_command(self, *words: Any) -> Any:
        self.asked.append(str(words[0]))
        if self.error:
            raise self.error
        return getattr(self, "_" + str(words[0]).lower().replace(" ", "_"))(*words[1:])

    def _time(self) -> list[str]:
        return [str(int(self.now)), "0"]

    def _info(self, _section: str) -> str:
        return f"# Server\r\nrun_id:abc\r\nuptime_in_seconds:{self.up}\r\n"

    def _xinfo_consumers(self, stream: str, group: str) -> list[list[Any]]:
        assert group == "docket-workers"
        workers = dict.fromkeys([*(entry.worker for entry in self.entries.values()), "idle#1"])
        if not stream.startswith("prefect:"):
            raise RuntimeError("no such key")
        return [["name", name, "pending", sum(e.worker == name for e in self.entries.values()), "idle", 5] for name in workers]

    def _zrange(self, name: str, *_words: Any) -> list[Any]:
        assert name == "prefect:workers"
        return [word for worker, beat in self.beats.items() for word in (worker, repr(beat))]

    def _idle(self, identity: str) -> float:
        return (self.now - self.entries[identity].at) * 1000

    def _xpending(self, _stream: str, _group: str, _idle: str, least: int, _a: str, _b: str, _n: int, worker: str) -> list[list[Any]]:
        found = [each for each, entry in self.entries.items() if entry.worker == worker and self._idle(each) >= least]
        if self.renewed in found:
            self.entries[self.renewed].at = NOW + 1
        return [[each, worker, self._idle(each), 1] for each in found]

    def _eval(self, script: str, *words: Any) -> str | None:
        _keys, stream, _group, identity, worker, least, runs = words
        assert (script, stream, runs) == (requeue.MOVE, "prefect:stream", "prefect:runs:")
        if self.entries[identity].worker != worker or self._idle(identity) < least:
            return None
        return self.entries.pop(identity).key


def host(*pids: int) -> Any:
    return requeue.Host("here", "abc", lambda pid, started: pid in pids and started == 100)


def queue(*pids: int) -> Any:
    return requeue.Queue("prefect", host(*pids))


@pytest.mark.parametrize(
    ("worker", "lost"),
    [
        pytest.param("here#7.100#abc", True, id="ended"),
        pytest.param("here#8.100#abc", False, id="runs"),
        pytest.param("here#8.99#abc", True, id="another process of its number"),
        pytest.param("renamed#7.100#abc", True, id="the host was given another name"),
        pytest.param("here#7.100#def", False, id="a machine of the same name, or before the last boot"),
        pytest.param("there#7.100#def", False, id="another host"),
        pytest.param("here#7", False, id="of an earlier version: may be another machine's"),
        pytest.param("here", False, id="no number"),
        pytest.param("here#x.100#abc", False, id="not a number"),
        pytest.param("here#7.100#", False, id="no session"),
    ],
)
def test_only_own_processes_that_ended_are_lost(worker: str, lost: bool) -> None:
    assert host(8).lost(worker) is lost


def test_what_a_killed_process_held_goes_over_at_once() -> None:
    redis = Redis({"1-0": Queued("here#7.100#abc", NOW), "2-0": Queued("here#8.100#abc", NOW - 900), "3-0": Queued("there#7", NOW - 900)})
    moved = queue(8).requeue(redis)
    assert [str(each) for each in moved] == [
        "schedule_deployments was held by here#7.100#abc, a process of this host that has ended: requeued"
    ]
    assert list(redis.entries) == ["2-0", "3-0"]


def twice(redis: Redis, since: float = 0) -> list[Any]:
    """What is requeued by one that has looked some seconds before, too."""
    same = queue()
    redis.now, redis.up = NOW - 6, max(redis.up - 6, 0)
    found = same.requeue(redis, everywhere=True, since=since)
    redis.now, redis.up = NOW, redis.up + 6
    return [*found, *same.requeue(redis, everywhere=True, since=since)]


@pytest.mark.parametrize(
    ("beat", "age", "up", "since", "moved"),
    [
        pytest.param(1, 900, 10_000, 0, True, id="alive, and has not renewed it"),
        pytest.param(1, 100, 10_000, 0, False, id="alive, and at work"),
        pytest.param(14, 14, 10_000, 0, False, id="late, but not yet dead"),
        pytest.param(16, 16, 10_000, 0, True, id="silent"),
        pytest.param(None, 16, 10_000, 0, True, id="unknown"),
        pytest.param(None, 14, 10_000, 0, False, id="unknown, but only just given it: it is starting, or stopping"),
        pytest.param(16, 16, 10, 0, False, id="silent because Redis was away"),
        pytest.param(16, 130, 10, 0, True, id="silent because Redis was away, and not renewed before that"),
        pytest.param(1, 9, 10, 0, False, id="given to it after a restart of Redis"),
        pytest.param(1, 12, 10, 0, True, id="given to it before a restart of Redis, and began anew"),
        pytest.param(11, 12, 10, 0, False, id="given to it before a restart of Redis, and not yet back"),
        pytest.param(1, 12, 10_000, 10, True, id="given to it before Redis was away, and began anew"),
        pytest.param(1, 12, 10_000, 500, False, id="Redis was away long ago"),
        pytest.param(1, 30, 90_000, 25, True, id="given to it by a former master, and began anew with one that is up for long"),
        pytest.param(1, 20, 90_000, 25, False, id="given to it by the new master"),
        pytest.param(40, 45, 90_000, 10, False, id="silent since a failover, and gets time to come back"),
        pytest.param(None, 130, 90_000, 10, True, id="the new master knows no worker of that name, and nothing was renewed for long"),
    ],
)
def test_who_counts_as_dead_elsewhere(beat: float | None, age: float, up: int, since: float, moved: bool) -> None:
    redis = Redis({"1-0": Queued("there#7", NOW - age)}, {} if beat is None else {"there#7": NOW - beat}, up)
    found = twice(redis, since=NOW - since if since else 0)
    assert bool(found) is moved
    assert ("1-0" not in redis.entries) is moved


def test_what_a_worker_held_before_it_began_anew_goes_over() -> None:
    redis = Redis({"1-0": Queued("there#7", NOW - 9), "2-0": Queued("there#8", NOW - 9)}, {"there#8": NOW - 1})
    same = queue()
    assert same.requeue(redis, everywhere=True) == []
    redis.beats["there#7"] = NOW + 1
    redis.entries["3-0"] = Queued("there#7", NOW + 2)
    assert [str(each) for each in same.requeue(redis, everywhere=True)] == [
        "schedule_deployments was held by there#7, which began anew: requeued"
    ]
    assert list(redis.entries) == ["2-0", "3-0"]


def test_who_renews_it_meanwhile_keeps_it() -> None:
    redis = Redis({"1-0": Queued("there#7", NOW - 900)}, renewed="1-0")
    assert queue().requeue(redis, everywhere=True) == []
    assert "1-0" in redis.entries


def test_asks_for_no_more_than_needed_while_no_worker_holds_a_task() -> None:
    redis = Redis()
    assert queue().requeue(redis, everywhere=True) == []
    assert redis.asked == ["XINFO CONSUMERS"]


def test_both_dockets_and_one_that_has_never_been_used(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requeue, "this_host", host)
    redis = Redis({"1-0": Queued("here#7.100#abc", NOW)})
    assert requeue.main([], Settings(ENVIRONMENT), lambda _settings: redis) == 0
    assert redis.asked == ["XINFO CONSUMERS", "XPENDING", "EVAL", "XINFO CONSUMERS"]
    assert "held by here#7.100#abc" in capsys.readouterr().out


def test_says_on_one_line_without_the_password_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    redis = Redis(error=ConnectionError("refused\nr@s r%40s"))
    assert requeue.main([], Settings(ENVIRONMENT), lambda _settings: redis) == 1
    assert capsys.readouterr().err == "Redis cannot be queried for the holders of tasks: refused ******** ********\n"


def test_sees_processes() -> None:
    own = os.getpid()
    assert requeue.process_runs(own, identity.started(own))
    assert not requeue.process_runs(own, identity.started(own) - 1)
    assert not requeue.process_runs(2**22 + 1, 100)


def test_a_worker_of_before_is_moved_once_it_is_silent() -> None:
    """In a rolling upgrade old names and new ones are there at once, and a clone's worker of an old name lives."""
    alive = Redis({"1-0": Queued("here#7", NOW - 30)}, {"here#7": NOW - 2})
    assert queue().requeue(alive, everywhere=True) == []
    silent = Redis({"1-0": Queued("here#7", NOW - 30)}, {"here#7": NOW - 20})
    assert [moved.worker for moved in twice(silent)] == ["here#7"]


def test_a_worker_whose_clock_is_wrong_is_not_silent() -> None:
    """Its signs are a minute old whenever they come, and they come."""
    redis = Redis({"1-0": Queued("there#7", NOW - 60)})
    same = queue()
    for second in range(0, 60, 2):
        redis.now = NOW + second
        redis.beats["there#7"] = redis.now - 60
        redis.entries["1-0"].at = NOW - 20
        assert same.requeue(redis, everywhere=True) == []
