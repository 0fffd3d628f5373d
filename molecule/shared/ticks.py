"""When the scheduler of a lab has ended a round."""

from __future__ import annotations

import subprocess
import threading
import time

from lab import Lab

# Runs with the settings of the servers, and reads the scheduler's record in Redis: its number grows with each round that has
# ended, and it names a worker while that is at work.
WATCH = """
import os, sys, time
from redis import Redis
redis = Redis.from_url(os.environ['PREFECT_SERVER_DOCKET_URL'], decode_responses=True, socket_timeout=0.5, socket_connect_timeout=0.5)
last = None
while True:
    try:
        number, worker = redis.hmget('prefect:runs:schedule_recent_deployments', 'generation', 'worker')
    except Exception:
        number = None
    if number and (number, worker) != last:
        print(time.time(), number, worker or '-', flush=True)
        last = number, worker
    time.sleep(0.05)
"""


class Ticks:
    """The scheduler's rounds: when one was seen to be another, its number, and its worker. One of the hosts reads it."""

    def __init__(self, lab: Lab, host: str) -> None:
        self._lab, self._host = lab, host
        self.seen: list[tuple[float, int, str]] = []
        self._process = subprocess.Popen(lab.as_prefect(host, WATCH, unit="watch-ticks"), stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            moment, number, worker = line.split()
            self.seen.append((float(moment), int(number), worker))

    def after(self, moment: float, seconds: float) -> float:
        """After how many seconds a round ended that had not ended at that moment."""
        before = max(number for at, number, _worker in self.seen if at <= moment)
        while True:
            later = [at for at, number, _worker in self.seen if at > moment and number > before]
            if later:
                return later[0] - moment
            assert time.time() < moment + seconds + 1, f"the scheduler has ended no round within {seconds:g} s"
            time.sleep(0.05)

    def close(self) -> None:
        self._lab.on(self._host, "systemctl stop watch-ticks")
        self._process.wait(10)
