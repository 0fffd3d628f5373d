"""Requeue orphaned tasks: put what dead workers hold back into the queue, at once.

Prefect's servers and background services take their tasks from a queue in Redis (docket). What a process held when it was
killed is given to another one only after five minutes, and until then the scheduler, if it was at work just then, stands
still. This puts such tasks back at the end of the queue, where a worker sees them within a quarter of a second. A task is
moved only if

- its worker was a process of this host that is not there any more (its name says so: see selfhosted_prefect.identity),
- or its worker has shown no sign of life for SILENT seconds, by Redis' clock, and its last one has not moved for STILL seconds: it tells
  their time by the clock of its own host, which may be wrong,
- or it was handed out before its worker last began anew, or before Redis was last away and its worker has begun anew since,
- or its worker has not renewed it for LOST seconds, which it does every 75.

A worker that was thought dead and is not does no harm: docket accepts only the first successor of a task, and hands
tasks out more than once by design. The unit of the background services runs this when its process has ended, however it
ended; the watchdog does the same all the time. It exits with 0 unless Redis cannot be queried.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from selfhosted_prefect import identity
from selfhosted_prefect.connections import Redis, connect_redis, pairs, server_information
from selfhosted_prefect.settings import DOCKET_URL, Settings

WORKER = re.compile(r".*#(?P<pid>\d+)\.(?P<started>\d+)#(?P<session>[0-9a-f]+)")
SILENT = 15.0
STILL = 5.0
LOST = 120.0
TIMEOUT = 5.0
BATCH = 1000
GROUP = "docket-workers"

# Moves the entry ARGV[2] to the end of the stream KEYS[1], if the consumer ARGV[3] of the group ARGV[1] has still not
# touched it for ARGV[4] ms. The record of its key (ARGV[5] begins the name) follows, so that it can still be cancelled.
MOVE = """
local entry = redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[4], ARGV[2], ARGV[2], 1, ARGV[3])
if #entry == 0 then return false end
local found = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])
local key = ''
if #found > 0 then
  local fields = found[1][2]
  local moved = redis.call('XADD', KEYS[1], '*', unpack(fields))
  for i = 1, #fields, 2 do if fields[i] == 'key' then key = fields[i + 1] end end
  local record = ARGV[5] .. key
  if redis.call('HGET', record, 'stream_id') == ARGV[2] then redis.call('HSET', record, 'stream_id', moved) end
end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
return key
"""


@dataclass(frozen=True)
class Host:
    """This host's name and session, and whether a process of it, with its number and its start, is still there."""

    name: str
    session: str
    runs: Callable[[int, int], bool]

    def lost(self, worker: str) -> bool:
        """Whether a worker was a process of this host and is no more.

        A name without a session (NAME#PID, of a process that was started by an earlier version) may be of another machine of that name:
        such a worker is judged as those of other hosts are.
        """
        found = WORKER.fullmatch(worker)
        if not found or found["session"] != self.session:
            return False
        return not self.runs(int(found["pid"]), int(found["started"]))

    def workers(self, pid: int, started: int) -> list[str]:
        """What a process of this host may be called."""
        return [identity.unique(pid, started), identity.plain(pid)]


@dataclass(frozen=True)
class Requeued:
    """A task that was put back, and why."""

    docket: str
    task: str
    worker: str
    why: str

    def __str__(self) -> str:
        return f"{self.task or 'a task'} was held by {self.worker}, {self.why}: requeued"


def process_runs(pid: int, started: int) -> bool:
    """Whether a process is there, and no other one of the same number."""
    try:
        return int(identity.started(pid)) == started
    except FileNotFoundError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True  # one that may not be seen counts


def this_host() -> Host:
    """The host that this runs on."""
    return Host(socket.gethostname(), identity.session(), process_runs)


@dataclass(frozen=True)
class Life:
    """A worker's signs of life: the last one, and when it was last seen to give none, in seconds since the epoch.

    A worker that has trouble with Redis gives up what it is at, gives no sign for five seconds, and begins anew.
    """

    beat: float | None
    absent: float = 0.0
    still: float = 0.0
    """For how many seconds the last one has been seen to be the last one."""


def idle_needed(life: Life, now: float, up: float) -> tuple[float, str]:
    """For how many seconds a task must have been left alone to count as abandoned, and why.

    ``up`` is for how many seconds Redis has been there.
    """
    # After an absence of Redis every worker has been silent, and gets time to come back.
    silent = life.beat is None or (now - life.beat > SILENT and life.still >= STILL)
    if silent and up > SILENT:
        return SILENT, f"silent for more than {SILENT:g} s"
    if life.beat is not None and 0 < life.absent < life.beat and now - life.absent < LOST:
        return now - life.absent, "which began anew"
    if life.beat is not None and life.beat > now - up and up + 1 < LOST:
        return up + 1, "which began anew when Redis came back"
    return LOST, f"which has not renewed it for {LOST:g} s"


class Queue:
    """One docket's queue in Redis."""

    def __init__(self, docket: str, host: Host) -> None:
        self._docket = docket
        self._host = host
        self._stream = f"{docket}:stream"
        self._absent: dict[str, float] = {}
        self._seen: dict[str, tuple[float, float]] = {}
        """The last sign of each worker, and when it was first seen."""

    def requeue(self, redis: Redis, everywhere: bool = False, since: float = 0.0) -> list[Requeued]:
        """Puts back what dead workers hold: of this host's processes only, or of all hosts'.

        ``since`` is when Redis was seen to come back, in seconds since the epoch, if it has been away without a restart.
        """
        holders = self._holders(redis)
        lost = [worker for worker in holders if self._host.lost(worker)]
        moved = [each for worker in lost for each in self._move(redis, worker, 0.0, "a process of this host that has ended")]
        others = [worker for worker in holders if worker not in lost]
        if everywhere and others:
            now, up = self._clock(redis)
            flat = redis.execute_command("ZRANGE", f"{self._docket}:workers", 0, -1, "WITHSCORES")
            beats = {worker: float(score) for worker, score in pairs(flat).items()}
            up = min(up, max(now - since, 0.0))
            for worker in others:
                if worker not in beats:
                    self._absent[worker] = now
                life = Life(beats.get(worker), self._absent.get(worker, 0.0), self._still(worker, beats.get(worker), now))
                moved += self._move(redis, worker, *idle_needed(life, now, up))
        return moved

    def _still(self, worker: str, beat: float | None, now: float) -> float:
        if beat is None:
            return 0.0
        if self._seen.get(worker, (0.0, 0.0))[0] != beat:
            self._seen[worker] = (beat, now)
        return now - self._seen[worker][1]

    def _holders(self, redis: Redis) -> list[str]:
        try:
            consumers = redis.execute_command("XINFO CONSUMERS", self._stream, GROUP)
        except Exception as error:
            # Nothing has ever been queued.
            if "no such key" in str(error) or "NOGROUP" in str(error):
                return []
            raise
        return [str(each["name"]) for each in map(pairs, consumers) if int(each["pending"])]

    @staticmethod
    def _clock(redis: Redis) -> tuple[float, float]:
        seconds, micros = redis.execute_command("TIME")
        return int(seconds) + int(micros) / 1_000_000, float(server_information(redis)["uptime_in_seconds"])

    def _move(self, redis: Redis, worker: str, idle: float, why: str) -> list[Requeued]:
        least = int(idle * 1000)
        moved = []
        for entry, *_rest in redis.execute_command("XPENDING", self._stream, GROUP, "IDLE", least, "-", "+", BATCH, worker):
            key = redis.execute_command("EVAL", MOVE, 1, self._stream, GROUP, entry, worker, least, f"{self._docket}:runs:")
            if key is not None:
                moved.append(Requeued(self._docket, str(key), worker, why))
        return moved


def connect(settings: Settings) -> Redis:
    """A connection to the queues' database."""
    return connect_redis(settings.docket_url, TIMEOUT)


def main(arguments: Sequence[str], settings: Settings, redis: Callable[[Settings], Redis] = connect) -> int:
    """Requeues what the processes of this host left; the exit status."""
    argparse.ArgumentParser(description="Requeue the tasks that ended processes of this host held.").parse_args(arguments)
    settings.require(DOCKET_URL)
    host = this_host()
    try:
        client = redis(settings)
        for docket in settings.dockets:
            for requeued in Queue(docket, host).requeue(client):
                print(requeued, flush=True)
    except Exception as error:
        print(f"Redis cannot be queried for the holders of tasks: {settings.explain(error)}", file=sys.stderr, flush=True)
        return 1
    return 0
