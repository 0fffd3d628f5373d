# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a drill sees from inside the cluster: the scheduler's ticks, and flows that run meanwhile."""

from __future__ import annotations

import inspect
import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.redis import Redis, RedisError, connect_redis
from ansible_collections.selfhosted.prefect.plugins.module_utils._drill import flows as _drill_flows
from ansible_collections.selfhosted.prefect.plugins.module_utils._health import SCHEDULER_FIELD, SCHEDULER_KEY

_ANSWER_SECONDS = 1.0
_FLOWS_SECONDS = 90.0  # for the flows to end after their time: a run that was hit, the last look, and removing them


class WatchError(Exception):
    """Nothing can be watched; the message says why."""


def ticks(
    redis: Mapping[str, Any],
    seconds: float,
    interval: float = 0.2,
    *,
    connect: Callable[..., Redis] = connect_redis,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Asks again and again when the scheduler's next tick is due.

    ``changes`` are pairs of the moment in which that was seen to be another one, and the new one (seconds since the epoch);
    ``silent`` are the moments without an answer from Redis.
    """
    changes: list[tuple[float, float]] = []
    silent: list[float] = []
    end = clock() + seconds
    while True:
        begun = clock()
        try:
            with connect(redis, _ANSWER_SECONDS) as session:
                due = float(str(session.call("HGET", SCHEDULER_KEY, SCHEDULER_FIELD)))
            if not changes or due != changes[-1][1]:
                changes.append((round(clock(), 3), due))
        except (NetError, RedisError):
            silent.append(round(begun, 3))
        except ValueError:
            pass  # it has never ticked, or is not a time
        if clock() >= end:
            return {"changes": changes, "silent": silent, "ended": round(clock(), 3)}
        sleep(max(interval - (clock() - begun), 0.01))


class Flows:
    """Flows in a process of their own, which ends with the time it is given."""

    def __init__(self, python: str, user: str, login: Mapping[str, str], seconds: float) -> None:
        """`login` are Prefect's own settings that say where the service is.

        Raises KeyError if there is no such user, and WatchError if they cannot be run.
        """
        account = pwd.getpwnam(user)
        self._folder = Path(tempfile.mkdtemp(prefix="prefect-drill-"))
        os.chown(self._folder, account.pw_uid, account.pw_gid)
        script = self._folder / "flows.py"
        script.write_text(inspect.getsource(_drill_flows), encoding="utf-8")
        script.chmod(0o644)
        environment = {
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(self._folder),
            "PREFECT_HOME": str(self._folder),
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
            "PREFECT_LOGGING_LEVEL": "CRITICAL",
            "DO_NOT_TRACK": "1",
            **{name: value for name, value in login.items() if value},
        }
        self._output = self._folder / "output"
        self._ends = time.monotonic() + seconds + _FLOWS_SECONDS
        try:
            with self._output.open("wb") as output:  # a pipe without a reader would fill
                # It goes on while the module does other things.
                self._process = subprocess.Popen(  # pylint: disable=ansible-bad-function
                    [python, str(script), "--seconds", str(seconds)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    cwd=self._folder,
                    user=account.pw_uid,
                    group=account.pw_gid,
                    extra_groups=[],
                    start_new_session=True,
                )
        except OSError as error:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise WatchError(f"{python} cannot be run as {user}: {error.strerror or error}") from error

    def result(self) -> dict[str, Any]:
        """Waits for the end; the runs, and the problem with them, if any."""
        try:
            self._process.wait(max(self._ends - time.monotonic(), 1.0))
            return parse_flows(self._output.read_text(encoding="utf-8", errors="replace"))
        except subprocess.TimeoutExpired:
            return {"runs": [], "problem": "the flows did not come to an end"}
        finally:
            self.close()

    def close(self) -> None:
        """Ends it, and removes what it has left."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def parse_flows(output: str) -> dict[str, Any]:
    """What the flows' process has printed: its last line counts, whatever Prefect has said before."""
    lines = output.strip().splitlines()
    with suppress(ValueError, IndexError):
        found = json.loads(lines[-1])
        if isinstance(found, dict) and "runs" in found:
            return found
    return {"runs": [], "problem": " ".join(lines[-3:])[-300:] or "the flows' process said nothing"}
