# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""How long a cluster keeps events, flow runs and logs: the variable's values, Prefect's settings, and what shortening one deletes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Optional

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.session import Postgres, PostgresError, connect_postgres, literal
from ansible_collections.selfhosted.prefect.plugins.module_utils._settings.names import Names

Retention = dict[str, Optional[int]]
"""Seconds of each kind; None is for ever."""

FOREVER = "forever"
DEFAULTS: Mapping[str, str] = {"events": "7d", "flow_runs": "90d", "logs": "30d"}
"""What a kind is kept for when ``prefect_retention`` does not say."""
UPSTREAM: Retention = {"events": 7 * 86400, "flow_runs": None, "logs": None}
"""What Prefect does when no setting says otherwise: this collection's clusters had it before they had a retention."""
LEAST, MOST = 86400, 36500 * 86400
RECORD = "selfhosted.prefect.retention"

_EVENTS = "PREFECT_SERVER_EVENTS_RETENTION_PERIOD"
_EVENTS_BEFORE = "PREFECT_EVENTS_RETENTION_PERIOD"
_KINDS = "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED"
_FLOW_RUNS = "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD"
_ORPHANS = "PREFECT_SERVER_SERVICES_DB_VACUUM_ORPHAN_CLEANUP_LOOP_SECONDS"

_DURATION = re.compile(r"([+-]?\d+) *([hdw]?)\Z")
_SECONDS = {"h": 3600, "d": 86400, "": 86400, "w": 7 * 86400}
_COUNT_SECONDS = 60.0
_READ = "SELECT value FROM configuration WHERE key ={key}"
_WRITE = """
INSERT INTO configuration (id, created, updated, key, value) VALUES (gen_random_uuid(), now(), now(),{key},{value})
ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated = now()
"""
# For one transaction, so that it is right through a connection pooler, too.
_BOUNDED = "BEGIN; SET LOCAL statement_timeout = '{milliseconds}ms'"
_COUNT = "SELECT count(*) {condition} <{moment}"
_ANY_ROW = ("SELECT 1 FROM flow_run LIMIT 1", "SELECT 1 FROM events LIMIT 1", "SELECT 1 FROM log LIMIT 1")
_NO_TABLE = "42P01"


@dataclass(frozen=True)
class _Kind:
    """What a retention deletes: the name for a message, the rows, and what goes with them."""

    name: str
    condition: str
    event: str
    also: str = ""


_DELETES = {
    "events": _Kind("events", "FROM events WHERE occurred", "that occurred"),
    "flow_runs": _Kind(
        "flow runs",
        "FROM flow_run WHERE parent_task_run_id IS NULL AND state_type IN ('COMPLETED', 'FAILED', 'CRASHED', 'CANCELLED') AND end_time",
        "that ended",
        ", with their task runs, states, logs and artifacts",
    ),
    "logs": _Kind("logs", "FROM log WHERE timestamp", "written"),
}


def retention_problems(given: Any) -> list[str]:
    """Every problem with the value of ``prefect_retention``."""
    if not isinstance(given, Mapping):
        return ["prefect_retention must be a mapping of events, flow_runs and logs, as in {events: 7d, flow_runs: 90d, logs: 30d}."]
    unknown = sorted(text(name) for name in given if name not in DEFAULTS)
    problems = [f"prefect_retention holds {', '.join(unknown)}; known are {', '.join(DEFAULTS)}."] if unknown else []
    for kind in (kind for kind in DEFAULTS if kind in given):
        try:
            duration(kind, given[kind])
        except ValueError as error:
            problems.append(str(error))
    return problems


def duration(kind: str, value: Any) -> int | None:
    """Seconds, out of days as a number, a duration such as ``36h``, ``7d`` or ``2w``, or ``forever`` (None).

    Raises ValueError if it is none of these, or is shorter than a day.
    """
    name, plain = f"prefect_retention.{kind}", text(value).strip().lower()
    form = f"Give days (7), a duration such as 36h, 7d or 2w, or {FOREVER}."
    if plain == FOREVER:
        return None
    found = _DURATION.match(plain)
    if isinstance(value, bool) or not found:
        raise ValueError(f"{name} is {json.dumps(value, default=text)}, which is no duration. {form}")
    seconds = int(found[1]) * _SECONDS[found[2]]
    if seconds <= 0:
        raise ValueError(f"{name} is {plain}, with which nothing would be kept. Give at least 1d; to delete nothing, give {FOREVER}.")
    if seconds < LEAST:
        raise ValueError(f"{name} is {plain}, which is too short. Give at least 1d.")
    if seconds > MOST:
        raise ValueError(f"{name} is {plain}, which is longer than 100 years. To delete nothing, give {FOREVER}.")
    return seconds


def retention(given: Mapping[str, Any]) -> Retention:
    """Every kind, those that are not given by their defaults. Raises ValueError if a value or a name is wrong."""
    for problem in retention_problems(given):
        raise ValueError(problem)
    return {kind: duration(kind, given.get(kind, value)) for kind, value in DEFAULTS.items()}


def retention_settings(wanted: Retention, names: Names) -> dict[str, Any]:
    """Prefect's settings for it, of those that the release knows. Raises ValueError if the release cannot keep to it."""
    kinds = [kind for kind in ("events", "flow_runs") if wanted[kind] is not None]
    missing = [name for name in (_EVENTS, _KINDS, _FLOW_RUNS) if name not in names.settings]
    if missing:
        raise ValueError(f"this release of Prefect has no {missing[0]}, so it cannot delete what is older. Choose a newer prefect_version.")
    # An empty value would mean {events}; a comma alone is the empty set. Without flow runs there are still logs of runs deleted by hand.
    settings: dict[str, Any] = {_KINDS: ",".join(kinds or (["orphans"] if _ORPHANS in names.settings else [])) or ","}
    if wanted["events"] is not None:
        # A plain number is refused here, and is the only form that the other takes in every release.
        settings[_EVENTS] = f"PT{wanted['events']}S"
    if wanted["flow_runs"] is not None:
        settings[_FLOW_RUNS] = wanted["flow_runs"]
    return settings


def retention_of_environment(environment: Mapping[str, str]) -> Retention:
    """What servers with these settings keep. What cannot be read counts as for ever."""
    plain = environment.get(_KINDS, "events").strip().lower()
    kinds = {"true": "events,flow_runs", "1": "events,flow_runs", "false": "events", "0": "events", "": "events"}.get(plain, plain)
    enabled = set(re.findall(r"\w+", kinds))
    return {
        "events": _seconds(environment.get(_EVENTS, environment.get(_EVENTS_BEFORE)), 7) if "events" in enabled else None,
        "flow_runs": _seconds(environment.get(_FLOW_RUNS), 90) if "flow_runs" in enabled else None,
        "logs": None,
    }


def _seconds(value: str | None, days: int) -> int | None:
    if value is None:
        return days * 86400
    plain = value.strip().upper()
    if re.match(r"\d+(\.0+)?\Z", plain):
        return int(plain.partition(".")[0])
    found = re.match(r"P(?=.)(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?\Z", plain)
    return sum(int(number or 0) * size for number, size in zip(found.groups(), (86400, 3600, 60, 1))) if found else None


def shortened(before: Retention, wanted: Retention) -> list[str]:
    """The kinds of which less is kept than before."""
    return [kind for kind in DEFAULTS if _amount(wanted[kind]) < _amount(before[kind])]


def _amount(seconds: int | None) -> float:
    return float("inf") if seconds is None else seconds


def readable(seconds: int | None) -> str:
    """As the variable has it: ``7d``, ``36h``, ``forever``."""
    if seconds is None:
        return FOREVER
    return f"{seconds // 86400}d" if seconds % 86400 == 0 else f"{seconds // 3600}h" if seconds % 3600 == 0 else f"{seconds}s"


@dataclass(frozen=True)
class Found:
    """What a cluster keeps now, and what another retention would delete: lines for a message."""

    before: Retention | None
    recorded: bool
    deletes: Mapping[str, str]


def read_retention(
    parts: Mapping[str, Any],
    wanted: Retention,
    environment: Retention | None,
    timeout: float,
    *,
    connect: Callable[..., Postgres] = connect_postgres,
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
) -> Found:
    """What the database says that the cluster keeps, or else ``environment``, what this host's settings say; None for a new cluster.

    Raises PostgresError or NetError if the database cannot be queried.
    """
    with connect(parts, timeout, options={"application_name": "selfhosted.prefect retention"}) as session:
        record = recorded(session)
        before = record or ((environment or UPSTREAM) if _holds_rows(session) else None)
        kinds = shortened(before, wanted) if before else []
        limits = {kind: now() - timedelta(seconds=wanted[kind] or 0) for kind in kinds}
        return Found(before, record is not None, {kind: _rows(session, kind, limit) for kind, limit in limits.items()})


def write_retention(
    parts: Mapping[str, Any], wanted: Retention, timeout: float, connect: Callable[..., Postgres] = connect_postgres
) -> None:
    """Records what the cluster keeps from now on. Raises PostgresError or NetError if the database does not take it."""
    with connect(parts, timeout, options={"application_name": "selfhosted.prefect retention"}) as session:
        session.execute(_WRITE.format(key=literal(RECORD), value=literal(json.dumps(wanted, sort_keys=True))))


def shortening_problem(before: Retention, wanted: Retention, deletes: Mapping[str, str]) -> str:
    """What a shorter retention deletes, and how to accept or avoid it; empty when none is shorter."""
    kinds = shortened(before, wanted)
    if not kinds:
        return ""
    changes = "; ".join(
        f"{_DELETES[kind].name} from {readable(before[kind])} to {readable(wanted[kind])}{_deletes(deletes.get(kind))}" for kind in kinds
    )
    kept = ", ".join(f"{kind}: {readable(before[kind])}" for kind in DEFAULTS)
    return (
        f"prefect_retention would shorten what this cluster keeps: {changes}."
        " To accept that, run the same command once with -e prefect_retention_shorten=true."
        f" To keep what is kept now, set prefect_retention: {{{kept}}}."
    )


def _deletes(rows: str | None) -> str:
    return f" (deletes {rows})" if rows else ""


def recorded(session: Postgres) -> Retention | None:
    """What the cluster keeps by its own record; None without one.

    Raises PostgresError or NetError if the database does not answer the question.
    """
    try:
        rows = session.query(_READ.format(key=literal(RECORD)))
    except PostgresError as error:
        if error.code == _NO_TABLE:
            return None
        raise
    value = json.loads(rows[0][0] or "{}") if rows else {}
    return {kind: value.get(kind) for kind in DEFAULTS} if value else None


def _holds_rows(session: Postgres) -> bool:
    return any(_any_row(session, question) for question in _ANY_ROW)


def _any_row(session: Postgres, question: str) -> bool:
    try:
        return bool(session.query(question))
    except PostgresError as error:
        if error.code == _NO_TABLE:
            return False
        raise


def _rows(session: Postgres, kind: str, until: datetime) -> str:
    """How many rows are older, for a message: the exact number, or that it took too long to count."""
    deleted, moment = _DELETES[kind], until.strftime("%Y-%m-%d %H:%M UTC")
    question = _COUNT.format(condition=deleted.condition, moment=literal(until.isoformat()))
    session.execute(_BOUNDED.format(milliseconds=int(_COUNT_SECONDS * 900)), _COUNT_SECONDS)
    try:
        number = f"{session.query(question, _COUNT_SECONDS)[0][0]:,}"
    except PostgresError as error:
        number = "more than could be counted in a minute," if error.code == "57014" else "an unknown number of"
    finally:
        session.execute("ROLLBACK", _COUNT_SECONDS)
    return f"{number} {deleted.name} {deleted.event} before {moment}{deleted.also}"
