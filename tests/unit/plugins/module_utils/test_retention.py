from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.session import PostgresError
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.inventory import inventory_problems
from ansible_collections.selfhosted.prefect.plugins.module_utils._settings.names import Names, names_for
from ansible_collections.selfhosted.prefect.plugins.module_utils._settings.retention import (
    DEFAULTS,
    UPSTREAM,
    Retention,
    duration,
    read_retention,
    readable,
    retention,
    retention_of_environment,
    retention_settings,
    shortened,
    shortening_problem,
    write_retention,
)

DAY = 86400
VERSION = {"version": "3.8.8", "versions": ["3.8.8"]}
VERSIONS = ("3.7.8", "3.8.8", "3.9.1")
KINDS = "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED"
EVENTS = "PREFECT_SERVER_EVENTS_RETENTION_PERIOD"
FLOW_RUNS = "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD"
NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


def kept(events: int | None = 7 * DAY, flow_runs: int | None = 90 * DAY, logs: int | None = 30 * DAY) -> Retention:
    return {"events": events, "flow_runs": flow_runs, "logs": logs}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (7, 7 * DAY),
        ("7", 7 * DAY),
        ("7d", 7 * DAY),
        ("7 d", 7 * DAY),
        ("36h", 36 * 3600),
        ("2w", 14 * DAY),
        ("1d", DAY),
        ("24h", DAY),
        (36500, 36500 * DAY),
        ("forever", None),
        (" Forever ", None),
    ],
)
def test_durations(value: Any, seconds: int | None) -> None:
    assert duration("events", value) == seconds


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (0, "is 0, with which nothing would be kept"),
        ("0d", "with which nothing would be kept"),
        (-1, "is -1, with which nothing would be kept"),
        ("-7d", "with which nothing would be kept"),
        ("1h", "is 1h, which is too short. Give at least 1d"),
        ("23h", "too short"),
        (36501, "longer than 100 years"),
        ("7.5", "no duration"),
        (7.5, "no duration"),
        ("a week", 'is "a week", which is no duration'),
        ("7m", "no duration"),
        ("", "no duration"),
        (None, "is null, which is no duration"),
        (True, "is true, which is no duration"),
        (False, "is false, which is no duration"),
        ([7], "no duration"),
        ("never", "no duration"),
    ],
)
def test_what_is_no_retention_is_refused_by_name(value: Any, says: str) -> None:
    (problem,) = inventory_problems({"retention": {"logs": value}, **VERSION})
    assert problem.startswith("prefect_retention.logs is ")
    assert says in problem
    assert "forever" in problem or "at least 1d" in problem


def test_every_problem_at_once() -> None:
    problems = inventory_problems({"retention": {"events": 0, "flow_run": 7, "log": 7, "logs": "x"}, **VERSION})
    assert problems[0] == "prefect_retention holds flow_run, log; known are events, flow_runs, logs."
    assert [problem.split()[0] for problem in problems[1:]] == ["prefect_retention.events", "prefect_retention.logs"]
    assert inventory_problems({"retention": "forever", **VERSION})[0].startswith("prefect_retention must be a mapping")


def test_what_is_left_out_has_its_default() -> None:
    assert retention({}) == kept()
    assert retention({"flow_runs": "forever"}) == kept(flow_runs=None)


def test_the_defaults_are_those_that_the_role_documents() -> None:
    specs = yaml.safe_load((Path(__file__).parents[4] / "roles/prefect/meta/argument_specs.yml").read_text())
    options = specs["argument_specs"]["main"]["options"]["prefect_retention"]["options"]
    assert {name: option["default"] for name, option in options.items()} == DEFAULTS


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("wanted", "settings"),
    [
        (kept(), {KINDS: "events,flow_runs", EVENTS: "PT604800S", FLOW_RUNS: 7776000}),
        (kept(events=None), {KINDS: "flow_runs", FLOW_RUNS: 7776000}),
        (kept(flow_runs=None), {KINDS: "events", EVENTS: "PT604800S"}),
    ],
)
def test_settings(version: str, wanted: Retention, settings: dict[str, Any]) -> None:
    assert retention_settings(wanted, names_for(version)) == settings


def test_nothing_but_what_the_release_knows() -> None:
    everything = kept(None, None, None)
    assert retention_settings(everything, names_for("3.8.8")) == {KINDS: "orphans"}
    assert retention_settings(everything, names_for("3.7.8")) == {KINDS: ","}
    with pytest.raises(ValueError, match=f"has no {KINDS}"):
        retention_settings(kept(), Names({EVENTS: []}))


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, UPSTREAM),
        ({KINDS: "true"}, kept(logs=None)),
        ({KINDS: "false"}, UPSTREAM),
        ({KINDS: ""}, UPSTREAM),
        ({KINDS: ",", EVENTS: "PT604800S"}, kept(None, None, None)),
        ({KINDS: "orphans"}, kept(None, None, None)),
        ({KINDS: '["flow_runs"]', FLOW_RUNS: "864000.0"}, kept(None, 10 * DAY, None)),
        ({EVENTS: "P30D"}, kept(30 * DAY, None, None)),
        ({"PREFECT_EVENTS_RETENTION_PERIOD": "P1DT12H"}, kept(36 * 3600, None, None)),
        ({EVENTS: "a month"}, kept(None, None, None)),
    ],
)
def test_what_a_host_runs_with(environment: dict[str, str], found: Retention) -> None:
    assert retention_of_environment(environment) == found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("wanted", [kept(), kept(None, 36 * 3600), kept(DAY, None), kept(None, None)])
def test_own_settings_are_read_back(version: str, wanted: Retention) -> None:
    environment = {name: str(value) for name, value in retention_settings(wanted, names_for(version)).items()}
    assert retention_of_environment(environment) == {**wanted, "logs": None}


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        (kept(), kept(), []),
        (UPSTREAM, kept(), ["flow_runs", "logs"]),
        (kept(), kept(None, None, None), []),
        (kept(None, None, None), kept(), ["events", "flow_runs", "logs"]),
        (kept(), kept(events=DAY, flow_runs=91 * DAY), ["events"]),
    ],
)
def test_shortened(before: Retention, after: Retention, kinds: list[str]) -> None:
    assert shortened(before, after) == kinds
    assert bool(shortening_problem(before, after, {})) is bool(kinds)


@pytest.mark.parametrize(("seconds", "says"), [(None, "forever"), (DAY, "1d"), (36 * 3600, "36h"), (90, "90s")])
def test_readable(seconds: int | None, says: str) -> None:
    assert readable(seconds) == says


@dataclass
class Database:
    """Answers by what a statement holds; whatever is not there is a table that does not exist."""

    answers: dict[str, list[tuple[Any, ...]] | PostgresError]
    asked: list[str] = field(default_factory=list)

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute(self, sql: str, _timeout: float | None = None) -> None:
        self.asked.append(sql)

    def query(self, sql: str, _timeout: float | None = None) -> list[tuple[Any, ...]]:
        self.asked.append(sql)
        answer = next((answer for part, answer in self.answers.items() if part in sql), PostgresError("no table", "42P01"))
        if isinstance(answer, PostgresError):
            raise answer
        return answer


def read(answers: dict[str, Any], wanted: Retention, environment: Retention | None = None) -> Any:
    database: Any = Database(answers)
    return read_retention({}, wanted, environment, 5, connect=lambda *_args, **_options: database, now=lambda: NOW)


ROWS: dict[str, Any] = {
    "configuration": [],
    "1 FROM flow_run": [(1,)],
    "1 FROM events": [],
    "1 FROM log": [],
    "count(*) FROM flow_run": [(12345,)],
    "count(*) FROM log": [(7,)],
    "count(*) FROM events": [(0,)],
}


def test_a_new_cluster_takes_any() -> None:
    assert read({}, kept()).before is None
    assert read({"configuration": [], "1 FROM": []}, kept(), kept(None)).before is None


def test_without_a_record_it_is_what_the_host_runs_with_or_prefects_own() -> None:
    assert read(ROWS, kept()).before == UPSTREAM
    assert read(ROWS, kept(), kept(30 * DAY, None)).before == kept(30 * DAY, None)


def test_the_record_wins_over_the_host() -> None:
    record = json.dumps(kept(DAY, None, None))
    found = read({**ROWS, "configuration": [(record,)]}, kept(DAY, None), kept(30 * DAY))
    assert (found.before, found.recorded, list(found.deletes)) == (kept(DAY, None, None), True, ["logs"])


def test_says_which_rows_would_go() -> None:
    found = read(ROWS, kept(), UPSTREAM)
    problem = shortening_problem(found.before, kept(), found.deletes)
    assert problem == (
        "prefect_retention would shorten what this cluster keeps: flow runs from forever to 90d (deletes 12,345 flow runs that ended before"
        " 2026-08-30 12:00 UTC, with their task runs, states, logs and artifacts); logs from forever to 30d (deletes 7 logs written before"
        " 2026-10-29 12:00 UTC). To accept that, run the same command once with -e prefect_retention_shorten=true. To keep what is kept"
        " now, set prefect_retention: {events: 7d, flow_runs: forever, logs: forever}."
    )


@pytest.mark.parametrize(
    ("code", "says"), [("57014", "more than could be counted in a minute, logs"), ("42501", "an unknown number of logs")]
)
def test_says_so_when_rows_cannot_be_counted(code: str, says: str) -> None:
    found = read({**ROWS, "count(*) FROM log": PostgresError("no", code)}, kept(), UPSTREAM)
    assert found.deletes["logs"].startswith(says)


def test_counting_is_bounded_and_leaves_no_transaction() -> None:
    database: Any = Database(ROWS)
    read_retention({}, kept(), UPSTREAM, 5, connect=lambda *_args, **_options: database, now=lambda: NOW)
    at = next(number for number, sql in enumerate(database.asked) if "count(*)" in sql)
    assert database.asked[at - 1].startswith("BEGIN; SET LOCAL statement_timeout = '")
    assert database.asked[at + 1] == "ROLLBACK"


def test_other_errors_are_not_a_new_cluster() -> None:
    with pytest.raises(PostgresError, match="denied"):
        read({"configuration": PostgresError("denied", "42501")}, kept())


def test_record() -> None:
    database: Any = Database({})
    write_retention({}, kept(flow_runs=None), 5, lambda *_args, **_options: database)
    assert '{"events": 604800, "flow_runs": null, "logs": 2592000}' in database.asked[0]
    assert "ON CONFLICT (key) DO UPDATE" in database.asked[0]
