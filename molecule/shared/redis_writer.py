"""Writes numbers to Redis through HAProxy of one of the hosts, as a client that tries nothing twice, and keeps which were acknowledged."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass, field
from itertools import pairwise

from lab import Lab

KEY = "prefect:drill"
UNIT = "redis-writer"
STOP = "/run/redis-writer.stop"
# Each connection is anew after an error. A line has the time of an answer, and the number, or the error.
PROGRAM = """
import json, os, sys, threading, time
from pathlib import Path
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
url, key, stop = sys.argv[1] or os.environ["PREFECT_REDIS_MESSAGING_URL"], sys.argv[2], Path(sys.argv[3])
lines, lock = [], threading.Lock()
def write(name):
    number, client = 0, None
    while not stop.exists():
        number += 1
        try:
            if client is None:
                options = {"socket_timeout": 3, "socket_connect_timeout": 3, "single_connection_client": True}
                client = Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options)
            client.sadd(key, f"{sys.argv[4]}-{name}-{number}")
            said = [time.time(), f"{sys.argv[4]}-{name}-{number}", ""]
        except Exception as error:
            said = [time.time(), "", f"{type(error).__name__}: {error}"[:120]]
            client = None
            time.sleep(0.05)
        with lock:
            lines.append(said)
        time.sleep(float(sys.argv[5]))
threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
[each.start() for each in threads]
[each.join() for each in threads]
print(json.dumps(lines))
"""
READ = """
import json, os, sys
from redis import Redis
redis = Redis.from_url(sys.argv[1] or os.environ["PREFECT_REDIS_MESSAGING_URL"])
print(json.dumps(sorted(each.decode() for each in redis.smembers(sys.argv[2]))))
"""


@dataclass
class Written:
    """What was acknowledged, and when; and what failed, and how."""

    acknowledged: list[tuple[float, str]] = field(default_factory=list)
    errors: list[tuple[float, str]] = field(default_factory=list)

    @property
    def numbers(self) -> set[str]:
        return {number for _moment, number in self.acknowledged}

    def longest(self, since: float) -> float:
        """The longest time without an acknowledgement, of those that ended after a moment."""
        moments = sorted(moment for moment, _number in self.acknowledged)
        return max((later - earlier for earlier, later in pairwise(moments) if later > since), default=float("inf"))

    def said(self) -> str:
        kinds: dict[str, int] = {}
        for _moment, error in self.errors:
            kinds[error] = kinds.get(error, 0) + 1
        return "; ".join(f"{number} x {error}" for error, number in sorted(kinds.items(), key=lambda each: -each[1])[:4])


class Writer:
    """A writer on one of the hosts. Without a URL it goes where Prefect goes."""

    def __init__(self, lab: Lab, host: str, url: str = "", pause: float = 0.008) -> None:
        self._lab, self._host, self._url, self._pause = lab, host, url, pause
        self._process: subprocess.Popen[str] | None = None
        self.written = Written()

    def __enter__(self) -> Writer:
        self._lab.on(self._host, f"rm -f {STOP}; systemctl reset-failed {UNIT} 2>/dev/null || true")
        command = self._lab.as_prefect(self._host, PROGRAM, self._url, KEY, STOP, f"{time.time():.0f}", f"{self._pause:g}", unit=UNIT)
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(4)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process
        self._lab.on(self._host, f"touch {STOP}")
        output, errors = self._process.communicate(timeout=60)
        assert self._process.returncode == 0, errors
        for moment, number, error in json.loads(output):
            if number:
                self.written.acknowledged.append((moment, number))
            else:
                self.written.errors.append((moment, error))


def numbers(lab: Lab, host: str, url: str = "") -> set[str]:
    """All numbers that a Redis has, read from one of the hosts."""
    return set(json.loads(lab.printed(host, READ, url, KEY)))
