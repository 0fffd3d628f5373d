# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Commands that cannot outstay their time, whatever they start."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_GRACE = 5.0
_PLAIN = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
}


@dataclass(frozen=True)
class Finished:
    """How a command ended. ``rc`` is 127 when it cannot be run; ``output`` holds standard error, too."""

    rc: int
    output: str
    timed_out: bool = False

    def tail(self, lines: int = 20) -> str:
        """The last lines of the output."""
        return "\n".join(self.output.rstrip().splitlines()[-lines:])


Run = Callable[..., Finished]
"""As :func:`run`; tests put something else in its place."""


def run(
    argv: Sequence[str],
    timeout: float,
    *,
    env: Mapping[str, str] | None = None,
    user: str = "",
    cwd: str = "/",
    stdin: str = "",
    nice: int = 0,
) -> Finished:
    """Runs a command in a process group of its own, for at most ``timeout`` seconds.

    Its environment is a plain one plus ``env``, never the caller's. ``user`` runs it as another user (only root can).
    ``nice`` lets other processes go first (19: always).
    When the time is over the whole group is ended, with SIGKILL if SIGTERM does not do it within 5 s. The command dies with
    its caller, too, so that it cannot go on unseen.

    Raises KeyError if there is no such user.
    """
    options: dict[str, Any] = {}
    if user:
        account = pwd.getpwnam(user)
        options = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    try:
        # run_command of a module cannot end a command's whole group, nor run it as another user.
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**_PLAIN, **(env or {})},
            cwd=cwd,
            start_new_session=True,
            preexec_fn=partial(_before, nice),  # noqa: PLW1509  there are no threads to deadlock with
            **options,
        )
    except (FileNotFoundError, PermissionError) as error:
        return Finished(127, f"{argv[0]} cannot be run{f' as {user}' if user else ''}: {error.strerror}")
    with process:
        try:
            output, _errors = process.communicate(stdin.encode(), timeout=timeout)
        except subprocess.TimeoutExpired:
            return Finished(-signal.SIGKILL, _text(_end(process)), timed_out=True)
        except BaseException:
            _signal(process, signal.SIGKILL)
            raise
    return Finished(process.returncode, _text(output))


def _end(process: subprocess.Popen[bytes]) -> bytes:
    for number, grace in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, _GRACE)):
        _signal(process, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            output, _errors = process.communicate(timeout=grace)
            _signal(process, signal.SIGKILL)  # whatever of the group survived its leader
            return output
    return b""


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _before(nice: int) -> None:
    # It dies with its caller.
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.nice(nice)


def _text(output: bytes | None) -> str:
    return (output or b"").decode("utf-8", "replace")
