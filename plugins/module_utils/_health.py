# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Is a Prefect server, or its background services, really well? Asked again and again until so, or until time is up."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.http_client import Answer, Fetch, Request, fetch, with_token
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.libraries import MissingLibraryError
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.redis import RedisError, connect_redis
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.urls import host_and_port
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import run
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.units import units as systemd_units

SCHEDULER_KEY = "prefect:runs:schedule_recent_deployments"
"""Docket's record of the scheduler's next tick: a hash whose field ``when`` is that moment in seconds since the epoch."""
SCHEDULER_FIELD = "when"
WORKERS_KEY = "prefect:workers"
"""Docket's workers of the background services: a sorted set of their names and when each last showed itself."""

_OK = 200
_UNAUTHORIZED = 401
_NOT_FOUND = 404
_CONFLICT = 409


class UnmetError(Exception):
    """A condition does not hold; the message is the answer that shows it."""


class PermanentError(UnmetError):
    """It does not hold, and waiting will not change that."""


# What the last attempt has at least, even past the end: it is to end with an answer, and not with "no time".
LAST_SECONDS = 1.0


@dataclass(frozen=True)
class Condition:
    """Something that must hold. ``check`` takes the seconds it may use and returns the answer, or raises UnmetError.

    Once it held it is taken to hold for ``every`` seconds, for a check that costs more than what else is waited for.
    """

    name: str
    check: Callable[[float], str]
    every: float = 0.0


@dataclass(frozen=True)
class RetryPolicy:
    """How long, how often and how many times in a row. Seconds throughout."""

    successes: int = 2
    timeout: float = 60.0
    interval: float = 0.5
    request_timeout: float = 5.0


@dataclass(frozen=True)
class Outcome:
    """How the waiting ended: every condition's last answer, and the one that failed last, if any."""

    healthy: bool
    attempts: int
    elapsed: float
    failed: str = ""
    answer: str = ""
    answers: dict[str, str] = field(default_factory=dict)


def wait_until(
    conditions: Sequence[Condition],
    policy: RetryPolicy,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Tries all conditions, in order, until they held so many times in a row or the time is over; at least once."""
    begun = clock()
    end = begun + policy.timeout
    attempts = in_a_row = 0
    held: dict[str, _Held] = {}
    while True:
        attempts += 1
        outcome, permanent = _round(conditions, policy.request_timeout, end, clock, held)
        in_a_row = in_a_row + 1 if outcome.healthy else 0
        # A round that held but was not enough is no success: what is missing is the next one.
        done = permanent or in_a_row >= policy.successes
        left = end - clock()
        if done or left <= 0:
            failed = outcome if done or not outcome.healthy else _too_few(outcome, in_a_row, policy.successes)
            return replace(failed, attempts=attempts, elapsed=clock() - begun)
        sleep(min(policy.interval, left))


def _too_few(outcome: Outcome, in_a_row: int, wanted: int) -> Outcome:
    return replace(outcome, healthy=False, failed="successes", answer=f"good {in_a_row} times in a row, not {wanted}")


@dataclass(frozen=True)
class _Held:
    """A condition's last good answer, and until when it stands for the next."""

    answer: str
    until: float


def _round(
    conditions: Sequence[Condition], request_timeout: float, end: float, clock: Callable[[], float], held: dict[str, _Held]
) -> tuple[Outcome, bool]:
    answers: dict[str, str] = {}
    for condition in conditions:
        known = held.get(condition.name)
        if known and clock() < known.until:
            answers[condition.name] = known.answer
            continue
        allowed = min(request_timeout, max(end - clock(), LAST_SECONDS))
        try:
            answers[condition.name] = condition.check(allowed)
            held[condition.name] = _Held(answers[condition.name], clock() + condition.every)
        except (UnmetError, NetError) as error:
            answers[condition.name] = str(error)
            return Outcome(False, 0, 0.0, condition.name, str(error), answers), isinstance(error, PermanentError)
    return Outcome(True, 0, 0.0, answers=answers), False


def api_base(url: str) -> str:
    """The API's URL without a slash at its end; ``/api`` is added to a URL that has no path.

    Raises ValueError if it is not an ``http://`` or ``https://`` URL, or holds a login.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"url must begin with http:// or https:// and name a host, not {url!r}")
    if "@" in parts.netloc:
        raise ValueError("url must not hold a login; use auth_string")
    return url.rstrip("/") if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}/api"


@dataclass(frozen=True)
class Server:
    """A Prefect API to ask. ``base`` is as :func:`api_base` gives it; ``version`` may be empty (any)."""

    base: str
    auth_string: str = ""
    version: str = ""
    tls: Mapping[str, Any] | None = None
    fetch: Fetch = fetch

    def conditions(self) -> list[Condition]:
        """It lives, it is ready (it reaches its database), and it is who it should be."""
        checks = [Condition("live", self.live), Condition("ready", self.ready)]
        if self.version or self.auth_string:
            checks.append(Condition("version", self.who))
        return checks

    def live(self, timeout: float) -> str:
        answer = self._ask("/health", timeout)
        if answer.status != _OK or answer.json() is not True:
            raise UnmetError(f"{answer.summary()}; expected HTTP 200 true")
        return answer.summary()

    def ready(self, timeout: float) -> str:
        answer = self._ask("/ready", timeout)
        if answer.status != _OK:
            raise UnmetError(f"{answer.summary()}; expected HTTP 200 (503 means it does not reach its database)")
        return answer.summary()

    def who(self, timeout: float) -> str:
        answer = self._ask("/admin/version", timeout)
        if answer.status == _UNAUTHORIZED:
            raise UnmetError("HTTP 401: it runs with another prefect_auth_string than the one given")
        shown = answer.json()
        if answer.status != _OK or not isinstance(shown, str):
            raise UnmetError(f"{answer.summary()}; expected HTTP 200 and a version")
        if self.version and shown != self.version:
            raise UnmetError(f"it runs version {shown}, not {self.version}; a process of another release still answers")
        return shown

    def write(self, name: str, timeout: float) -> str:
        """Creates a variable and deletes it again, which takes the database and, for the event it emits, Redis.

        A leftover of an earlier attempt is deleted, for the next attempt to succeed.
        """
        created = self._ask("/variables/", timeout, "POST", {"name": name, "value": "created and deleted at once"})
        if created.status in (_CONFLICT, *range(_OK, 300)):
            gone = self._ask(f"/variables/name/{name}", timeout, "DELETE")
            if created.status == _CONFLICT:
                raise UnmetError(f"the variable {name} was left from an earlier check; it is deleted now")
            if gone.status >= 300 and gone.status != _NOT_FOUND:
                raise UnmetError(f"deleting the variable {name} again: {gone.summary()}")
            return f"HTTP {created.status}"
        raise UnmetError(f"creating a variable: {created.summary()} (500 usually means that it does not reach Redis)")

    def _ask(self, path: str, timeout: float, method: str = "GET", body: Any = None) -> Answer:
        return with_token(self.base, self.fetch)(Request(self.base + path, method, self.auth_string, body, self.tls), timeout)


@dataclass(frozen=True)
class Scheduler:
    """Redis, and what Prefect's background services leave there.

    ``redis`` has the keys of :func:`connect_redis`; its ``db`` is the docket's. ``max_age`` is in seconds.
    """

    redis: Mapping[str, Any]
    max_age: float = 30.0
    now: Callable[[], float] = time.time

    def where(self) -> str:
        return f"Redis at {host_and_port(self.redis['host'], self.redis.get('port') or 6379)}"

    def ping(self, timeout: float) -> str:
        return str(self._call(timeout, "PING"))

    def ticked(self, timeout: float, since: float = 0.0) -> str:
        """The scheduler's tick is recent, and later than ``since`` (seconds since the epoch)."""
        when = self._call(timeout, "HGET", SCHEDULER_KEY, SCHEDULER_FIELD)
        if when is None:
            raise UnmetError("the scheduler has never ticked: do the background services run, with this Redis and database?")
        try:
            tick = float(str(when))
        except ValueError:
            raise UnmetError(f"the scheduler's next tick is not a time: {when!r}") from None
        age = self.now() - tick
        if age > self.max_age:
            raise UnmetError(f"the scheduler's last tick was due {age:.0f} s ago, more than {self.max_age:g} s")
        if tick < since:
            raise UnmetError("the scheduler has not ticked since the services started")
        return f"next tick in {-age:.1f} s" if age < 0 else f"tick due {age:.1f} s ago"

    def works(self, timeout: float, host: str, since: float = 0.0) -> str:
        """A worker of this host (its name begins with the host's) has shown itself lately, and later than ``since``."""
        shown = self._call(timeout, "ZRANGE", WORKERS_KEY, "0", "-1", "WITHSCORES") or []
        beats = {str(name): float(beat) for name, beat in zip(shown[::2], shown[1::2]) if str(name).startswith(f"{host}#")}
        newest = max(beats.values(), default=0.0)
        if newest < since or not beats:
            raise UnmetError("the background services have not shown themselves in Redis since they started")
        age = self.now() - newest
        if age > self.max_age:
            raise UnmetError(f"the background services have not shown themselves in Redis for {age:.0f} s, more than {self.max_age:g} s")
        return f"seen {max(age, 0.0):.1f} s ago"

    def _call(self, timeout: float, *words: str) -> Any:
        try:
            with connect_redis(self.redis, timeout) as redis:
                return redis.call(*words)
        except MissingLibraryError as error:
            raise PermanentError(f"{self.where()} {error}") from error
        except NetError as error:
            raise UnmetError(f"{self.where()} {error}") from error
        except RedisError as error:
            raise UnmetError(f"{self.where()} answered {error}") from error


def systemctl(argv: list[str]) -> str:
    """What systemctl prints. Raises UnmetError when it cannot be queried."""
    ended = run(argv, 10)
    if ended.rc:
        raise UnmetError(f"systemd cannot be queried: {ended.tail(1)}")
    return ended.output


@dataclass(frozen=True)
class Units:
    """The systemd units that must be active. ``show`` runs systemctl and returns its output."""

    names: Sequence[str]
    show: Callable[[list[str]], str] = systemctl

    def conditions(self) -> list[Condition]:
        """They run; nothing if there are none."""
        # A server that starts needs the processor more than the question whether it still does.
        return [Condition("units", self.active, every=1.0)] if self.names else []

    def active(self, _timeout: float) -> str:
        shown = systemd_units(self.names, [], self.show)
        for unit in shown:
            if not unit.loaded:
                raise PermanentError(f"{unit.name} does not exist on this host")
            if unit.state.startswith("failed"):
                raise PermanentError(f"{unit.name} is {unit.state}: systemd has given up on it")
            if not unit.state.startswith("active"):
                raise UnmetError(f"{unit.name} is {unit.state}")
        return ", ".join(f"{unit.name} is {unit.state}" for unit in shown)

    def started(self) -> float:
        """When the last of them started, in seconds since the epoch; 0 if none ever did."""
        return max((unit.since for unit in systemd_units(self.names, [], self.show)), default=0.0)


def probe_name(host: str) -> str:
    """The name of the variable that :meth:`Server.write` may use on this host: checks of several hosts must not meet."""
    return "prefect_health_" + re.sub(r"[^a-z0-9]+", "_", host.lower()).strip("_")


def failure_message(subject: str, outcome: Outcome, cause: str = "") -> str:
    """The cause in the first line, then what failed, with what answer, and what held.

    The journal's lines are no part of it: Ansible prints a message twice, and all else of a result once.
    """
    held = [name for name in outcome.answers if name != outcome.failed]
    attempts = "1 attempt" if outcome.attempts == 1 else f"{outcome.attempts} attempts"
    said = [
        f"{subject} is not healthy after {outcome.elapsed:.0f} s and {attempts}: {(cause or first_line(outcome.answer)).rstrip('.')}.",
        f"Failed: {outcome.failed}. Last answer: {outcome.answer.rstrip('.')}.",
        *([f"Held: {', '.join(held)}."] if held else []),
    ]
    return "\n".join(said)


def first_line(text: str) -> str:
    """The first line of a text."""
    return next(iter(text.splitlines()), "")
