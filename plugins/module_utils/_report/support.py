# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a support request needs of a host and of the service, as texts without secrets.

Nothing here fails: what cannot be had is said in its place, so that one broken part never hides the others.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.redact import (
    environment_secrets,
    redact_document,
    redact_environment,
)
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.redis import Redis, RedisError, Reply, connect_redis
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.session import Postgres, PostgresError, Row, connect_postgres
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Run, run
from ansible_collections.selfhosted.prefect.plugins.module_utils._report.report import columns

Texts = dict[str, str]

_SECONDS = 20.0
_LARGEST_FILE = 256 * 1024
_LARGEST_LOG = 1024 * 1024
_LONGEST_LINE = 2000
# Of Redis's keys, and of the rows of a table.
_MOST_KEYS = 20_000
_MOST_ROWS = 40
# Keys and logins have no place in a bundle, not even masked.
_NEVER = (".key", ".pem", ".p12", ".pfx", ".jks", ".crt", ".users", ".password", ".htpasswd", "id_rsa", "id_ed25519")
_PACKAGES = (
    "postgresql*",
    "redis*",
    "nginx*",
    "python3",
    "systemd",
    "prometheus*",
    "nftables",
    "pgbouncer",
    "haproxy",
    "keepalived",
    "linux-image-*",
)


@dataclass(frozen=True)
class Wanted:
    """What to gather on a host: ``files`` and ``logs`` are paths or patterns, ``environment_files`` in systemd's format."""

    units: Sequence[str] = ()
    files: Sequence[str] = ()
    environment_files: Sequence[str] = ()
    logs: Sequence[str] = ()
    release: str = ""
    nginx: bool = False
    hours: float = 24.0
    lines: int = 2000


def end_of(path: str, most: int) -> bytes:
    """The last ``most`` bytes of a file, from the beginning of a line. Raises OSError."""
    with open(path, "rb") as file:  # noqa: PTH123  a path as it was given
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - most))
        data = file.read(most)
    # A line that was cut could begin within a secret.
    return data if size <= most else data.partition(b"\n")[2]


def matching(pattern: str) -> list[str]:
    """The paths that a pattern matches."""
    return sorted(glob.glob(pattern))  # noqa: PTH207  patterns are absolute


@dataclass(frozen=True)
class Machine:
    """What is needed of the host; tests put something else in its place. ``read`` is given a path and the most bytes of its end."""

    command: Run = run
    read: Callable[[str, int], bytes] = end_of
    find: Callable[[str], list[str]] = matching


def host_texts(wanted: Wanted, secrets: Iterable[str] = (), machine: Machine | None = None) -> Texts:
    """Everything of a host, by the names that the texts have in the bundle, without secrets.

    What the host's own settings hold in secrets counts as known, too: they may be older than the inventory.
    """
    here = machine or Machine()
    settings = {path: _read(here, path, _LARGEST_FILE) for path in _found(here, wanted.environment_files)}
    known = [*secrets, *(secret for content in settings.values() for secret in environment_secrets(content))]
    texts = {name: _shown(text, known) for name, text in _texts(wanted, here)}
    return {**texts, **{f"config{path}": _settings(content, known) for path, content in settings.items()}}


def database_text(
    parts: Mapping[str, Any], secrets: Iterable[str], timeout: float, connect: Callable[..., Postgres] = connect_postgres
) -> str:
    """The database as Prefect's own user sees it: revision, queues, connections, slow queries, large tables."""
    sections = []
    try:
        with connect(parts, timeout) as session:
            # A large table must not hold up everything else, here or there.
            session.execute("SET statement_timeout = 5000")
            for title, header, sql in _QUERIES:
                sections.append(f"## {title}\n\n{_table(session, header, sql)}")
    except (NetError, PostgresError) as error:
        sections.append(f"(the database cannot be queried: {error})")
    return _shown("\n\n".join(sections) + "\n", list(secrets))


def redis_text(
    parts: Mapping[str, Any],
    databases: Iterable[int],
    secrets: Iterable[str],
    timeout: float,
    connect: Callable[..., Redis] = connect_redis,
) -> str:
    """Redis: what it says of itself, and how long its queues and streams are."""
    sections: list[str] = []
    for number in dict.fromkeys(databases):
        try:
            with connect(parts, timeout, db=number) as redis:
                if not sections:
                    sections.append(f"## INFO\n\n{_reply(redis, 'INFO')}")
                sections.append(f"## Queues of database {number}\n\n{_queues(redis)}")
        except (NetError, RedisError) as error:
            sections.append(f"## Database {number}\n\n(Redis cannot be queried: {error})")
    return _shown("\n\n".join(sections) + "\n", list(secrets))


def _shown(text: str, secrets: Sequence[str]) -> str:
    """Masked before anything is cut: half a secret would not be recognised."""
    return "".join(f"{_cut(line)}\n" for line in redact_document(text, secrets).splitlines())


def _settings(content: str, secrets: Sequence[str]) -> str:
    """A file of settings; one that is none, or holds what no such file should, as any other document."""
    try:
        return redact_environment(content, secrets) or _shown(content, secrets)
    except ValueError:
        return _shown(content, secrets)


def _texts(wanted: Wanted, here: Machine) -> Iterator[tuple[str, str]]:
    yield "system.txt", _commands(here, _SYSTEM)
    yield "versions.txt", _versions(wanted, here)
    if wanted.units:
        yield "units.txt", _commands(here, _units(wanted.units))
    if wanted.nginx:
        yield "config/nginx-T.txt", _commands(here, [["nginx", "-T"]])
    for path in _found(here, wanted.files):
        yield f"config{path}", _read(here, path, _LARGEST_FILE)
    for path in _found(here, wanted.logs):
        lines = _read(here, path, _LARGEST_LOG).splitlines()[-wanted.lines :]
        yield f"log{path}", "\n".join(lines)
    for unit in wanted.units:
        yield f"journal/{unit.replace('*', '_')}.txt", _journal(here, ["--unit", unit], wanted)
    yield "journal/kernel.txt", _journal(here, ["--dmesg"], wanted)


_PROPERTIES = (
    "Id",
    "ActiveState",
    "SubState",
    "Result",
    "NRestarts",
    "ExecMainStartTimestamp",
    "ExecMainExitTimestamp",
    "ExecMainStatus",
    "MemoryCurrent",
    "CPUUsageNSec",
    "TasksCurrent",
    "NeedDaemonReload",
)
_SYSTEM: Sequence[Sequence[str]] = (
    ["date", "--iso-8601=seconds"],
    ["uname", "-a"],
    ["cat", "/etc/os-release"],
    ["cat", "/proc/uptime", "/proc/loadavg"],
    ["timedatectl"],
    ["df", "-hT"],
    ["df", "-hi"],
    ["cat", "/proc/meminfo"],
    ["cat", "/proc/pressure/cpu", "/proc/pressure/memory", "/proc/pressure/io"],
    ["systemd-cgtop", "--batch", "--iterations=1", "--order=memory"],
    ["ps", "-eo", "pid,ppid,user,rss,pcpu,etime,args", "--sort=-rss"],
    ["ip", "-brief", "address"],
    ["ss", "-tlnp"],
    ["ss", "-s"],
    ["nft", "list", "ruleset"],
)


def _units(units: Sequence[str]) -> Iterator[list[str]]:
    yield ["systemctl", "--failed", "--no-pager"]
    yield ["systemctl", "list-timers", "--all", "--no-pager"]
    yield ["systemctl", "status", "--all", "--no-pager", "--full", "--lines=0", "--", *units]
    yield ["systemctl", "show", "--no-pager", f"--property={','.join(_PROPERTIES)}", "--", *units]
    yield ["systemctl", "cat", "--no-pager", "--", *units]


def _versions(wanted: Wanted, here: Machine) -> str:
    commands = [["dpkg-query", "--show", "--showformat=${db:Status-Abbrev} ${Package} ${Version}\\n", *_PACKAGES]]
    if not wanted.release:
        return _commands(here, commands)
    folder = os.path.dirname(wanted.release)  # noqa: PTH120  as it is written, even if it is not there
    commands += [["ls", "-l", folder, f"{folder}/releases"], [f"{wanted.release}/bin/python", "--version"]]
    # The lock file that the release was made from, without its hashes.
    pins = [
        line.rstrip("\\ ")
        for line in _read(here, f"{wanted.release}/requirements.txt", _LARGEST_FILE).splitlines()
        if not line.startswith(" ")
    ]
    return _commands(here, commands) + "\n# what is installed in the release\n" + "\n".join(pins) + "\n"


def _commands(here: Machine, commands: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"$ {' '.join(argv)}\n{_output(here, argv)}" for argv in commands)


def _output(here: Machine, argv: Sequence[str]) -> str:
    ended = here.command(argv, _SECONDS)
    text = ended.output.rstrip() + "\n"
    if ended.timed_out:
        return f"{text}(no end within {_SECONDS:g} s)\n"
    return text if ended.rc == 0 else f"{text}(exit status {ended.rc})\n"


def _journal(here: Machine, which: Sequence[str], wanted: Wanted) -> str:
    argv = ["journalctl", "--no-pager", "--quiet", "--output=short-iso", f"--lines={wanted.lines}", f"--since=-{wanted.hours:g}h", *which]
    return _output(here, argv)


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}... ({len(line)} characters)"


def _found(here: Machine, patterns: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(path for pattern in patterns for path in here.find(pattern)))


def _read(here: Machine, path: str, most: int) -> str:
    if path.endswith(_NEVER):
        return "(not read: such files hold keys or logins)\n"
    try:
        return here.read(path, most).decode("utf-8", "replace")
    except OSError as error:
        return f"({path} cannot be read: {error.strerror})\n"


def _table(session: Postgres, header: Sequence[str], sql: str) -> str:
    try:
        rows = session.query(sql)
    except PostgresError as error:
        return f"(not available: {error})"
    return _columns(header, rows)


def _columns(header: Sequence[str], rows: Sequence[Row]) -> str:
    shown = [["-" if cell is None else " ".join(str(cell).split()) for cell in row] for row in rows[:_MOST_ROWS]]
    more = f"\n({len(rows) - _MOST_ROWS} more)" if len(rows) > _MOST_ROWS else ""
    return columns(header, shown) + more if shown else "(none)"


def _reply(redis: Redis, *words: str | int) -> str:
    try:
        return str(redis.call(*words)).replace("\r\n", "\n")
    except RedisError as error:
        return f"(not available: {error})"


def _queues(redis: Redis) -> str:
    rows: list[Row] = []
    for kind, length in (("stream", "XLEN"), ("zset", "ZCARD"), ("list", "LLEN")):
        for key in _keys(redis, kind):
            rows.append((kind, key, _reply(redis, length, key), ""))
            if kind == "stream":
                rows += [("", "", "", f"group {group}") for group in _groups(redis, key)]
    return _columns(("KIND", "KEY", "LENGTH", "CONSUMERS"), rows) if rows else "(none)"


def _keys(redis: Redis, kind: str) -> list[str]:
    keys: list[str] = []
    cursor = "0"
    for _turn in range(_MOST_KEYS // 1000):
        reply = redis.call("SCAN", cursor, "COUNT", 1000, "TYPE", kind)
        cursor, found = (str(reply[0]), reply[1]) if isinstance(reply, list) and len(reply) == 2 else ("0", [])
        keys += [str(key) for key in found or []]
        if cursor == "0":
            break
    return sorted(set(keys))[:_MOST_ROWS]


def _groups(redis: Redis, key: str) -> list[str]:
    try:
        groups = redis.call("XINFO", "GROUPS", key)
    except RedisError as error:
        return [f"(not available: {error})"]
    return [_group(group) for group in groups if isinstance(group, list)] if isinstance(groups, list) else []


def _group(group: list[Reply]) -> str:
    facts = dict(zip(map(str, group[::2]), group[1::2]))
    return f"{facts.get('name')}: {facts.get('consumers')} consumers, {facts.get('pending')} pending, lag {facts.get('lag', '?')}"


_QUERIES: Sequence[tuple[str, Sequence[str], str]] = (
    ("Server", ("VERSION", "STARTED", "NOW"), "SELECT version(), pg_postmaster_start_time(), now()"),
    ("Revision of the schema", ("REVISION",), "SELECT version_num FROM alembic_version"),
    (
        "Settings that are not the default",
        ("NAME", "VALUE", "UNIT", "SOURCE"),
        "SELECT name, setting, unit, source FROM pg_settings"
        " WHERE source NOT IN ('default', 'client', 'override', 'session') ORDER BY name",
    ),
    (
        "Flow runs by state",
        ("STATE", "RUNS", "OLDEST EXPECTED START"),
        "SELECT coalesce(state_name, '-'), count(*), min(expected_start_time) FROM flow_run GROUP BY 1 ORDER BY 2 DESC",
    ),
    (
        "Events of the last hour",
        ("EVENTS", "NEWEST", "MEAN DELAY IN S"),
        "SELECT count(*), max(occurred), round(extract(epoch FROM avg(received - occurred))::numeric, 3) FROM events"
        " WHERE occurred > now() - interval '1 hour'",
    ),
    (
        "Connections",
        ("USER", "APPLICATION", "CLIENT", "STATE", "COUNT"),
        "SELECT usename, application_name, client_addr, state, count(*) FROM pg_stat_activity GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC",
    ),
    (
        "Slow queries, now (pg_stat_activity)",
        ("PID", "USER", "STATE", "WAITS FOR", "TRANSACTION S", "QUERY S", "BLOCKED BY", "QUERY"),
        "SELECT pid, usename, state, concat_ws(': ', wait_event_type, wait_event),"
        " round(extract(epoch FROM now() - xact_start)::numeric, 1),"
        " round(extract(epoch FROM now() - query_start)::numeric, 1), pg_blocking_pids(pid), left(query, 400) FROM pg_stat_activity"
        " WHERE state <> 'idle' AND pid <> pg_backend_pid() ORDER BY xact_start NULLS LAST",
    ),
    (
        "Slow queries, in all (pg_stat_statements)",
        ("CALLS", "TOTAL S", "MEAN MS", "MAX MS", "ROWS", "QUERY"),
        "SELECT calls, round((total_exec_time / 1000)::numeric, 1), round(mean_exec_time::numeric, 1),"
        " round(max_exec_time::numeric, 1), rows,"
        " left(query, 400) FROM pg_stat_statements ORDER BY total_exec_time DESC LIMIT 40",
    ),
    (
        "Large tables",
        ("TABLE", "BYTES", "LIVE ROWS", "DEAD ROWS", "LAST VACUUM"),
        "SELECT relname, pg_total_relation_size(relid), n_live_tup, n_dead_tup, greatest(last_vacuum, last_autovacuum)"
        " FROM pg_stat_user_tables ORDER BY 2 DESC LIMIT 40",
    ),
    (
        "Invalid indexes",
        ("INDEX",),
        "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE NOT i.indisvalid",
    ),
    ("Locks that are waited for", ("PID", "KIND", "MODE"), "SELECT pid, locktype, mode FROM pg_locks WHERE NOT granted"),
)
