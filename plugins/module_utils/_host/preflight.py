# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What would stop a deployment on this host, found without changing anything. Each problem is one sentence with its remedy."""

from __future__ import annotations

import os
import shlex
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.libraries import lacking
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NO_FILES, Deadline, NetError, reach, wants_tls
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.redis import Redis, RedisError, connect_redis
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import version_number
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.urls import host_and_port
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.session import (
    NO_TLS,
    Postgres,
    PostgresError,
    connect_postgres,
    refusal,
)
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Run, run
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.sockets import Listener, Owner, conflicts, owner

OPEN = "open"
ANY_IPV4 = "0.0.0.0"  # noqa: S104  compared, and not listened on
_PYTHON_SECONDS = 20.0
# What a Python that was built by hand lacks where a library was missing. Without them no release can be built, or no server starts.
_MODULES = ("ssl", "sqlite3", "zlib", "bz2", "lzma", "ctypes", "uuid", "hashlib")
_SHOW_VERSION = f"""
import importlib, sys
missing = []
for name in {_MODULES!r}:
    try:
        importlib.import_module(name)
    except ImportError:
        missing.append(name)
print('.'.join(map(str, sys.version_info[:3])), *missing)
"""
_DEBIAN_MODULES = "/usr/lib/python3/dist-packages"
_GIGABYTE = 10**9
_TLS_VARIABLES = {"postgresql": "prefect_database_tls", "redis": "prefect_redis_tls"}
_NO_ENTRY = "28000"
_LIBRARIES = {"postgresql": ["asyncpg"], "redis": ["redis"], "tcp": []}

_POSTGRES_QUESTIONS = """
SELECT current_setting('max_connections')::int, current_setting('superuser_reserved_connections')::int
    + coalesce(current_setting('reserved_connections', true), '0')::int,
  r.rolconnlimit, d.datconnlimit, pg_is_in_recovery(),
  has_schema_privilege(current_user, coalesce(current_schema(), 'public'), 'CREATE'),
  pg_encoding_to_char(d.encoding), current_setting('default_transaction_read_only'),
  EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_trgm'), EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm'),
  r.rolsuper OR (has_database_privilege(current_user, d.oid, 'CREATE')
    AND EXISTS (SELECT FROM pg_available_extension_versions WHERE name = 'pg_trgm' AND trusted))
FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.datname = current_database()
"""
# Asked for inside a transaction that is given up: the server checks rights when it takes a command, and runs none of them.
_REDIS_COMMANDS = (
    "SET prefect:rights x PX 1",
    "GET prefect:rights",
    "DEL prefect:rights",
    "EXISTS prefect:rights",
    "PEXPIRE prefect:rights 1",
    "INCR prefect:rights",
    "HSET prefect:rights a b",
    "HGETALL prefect:rights",
    "HDEL prefect:rights a",
    "SADD prefect:rights a",
    "SMEMBERS prefect:rights",
    "ZADD prefect:rights 1 a",
    "ZRANGEBYSCORE prefect:rights 0 1",
    "ZREM prefect:rights a",
    "XADD events * a b",
    "XREADGROUP GROUP a b STREAMS events >",
    "XAUTOCLAIM events a b 1 0",
    "XACK events a 0-1",
    "XGROUP CREATE events a $ MKSTREAM",
    "XINFO GROUPS events",
    "XTRIM events MAXLEN 1",
    "EVALSHA 0123456789012345678901234567890123456789 0",
    "EVAL return 0",
    "PUBLISH prefect-server:rights x",
)


def python_problems(path: str, minimum: str, command: Run = run) -> tuple[list[str], str]:
    """Whether the interpreter is there and new enough; also its version, empty when unknown."""
    ended = command([path, "-c", _SHOW_VERSION], _PYTHON_SECONDS)
    version, *missing = ended.output.split() or [""]
    if ended.rc or not version_number(version):
        why = f"did not answer within {_PYTHON_SECONDS:g} s" if ended.timed_out else ended.tail(1)
        return [f"Python {minimum} or newer is needed, but {path} does not work: {why}. Install it or set prefect_python."], ""
    if version_number(version) < version_number(minimum):
        return [
            f"Python {minimum} or newer is needed, but {path} is {version}."
            " Install a newer one beside it and set prefect_python to its path."
        ], version
    if missing:
        return [
            f"{path} was built without the modules {', '.join(missing)}, which Prefect needs. Set prefect_python to another Python, such as"
            " /usr/bin/python3, or build it again with the libraries that they need."
        ], version
    return [], version


def interpreter_problems(executable: str, path: Sequence[str], folder: str = _DEBIAN_MODULES) -> list[str]:
    """Whether the interpreter that Ansible uses finds the modules that Debian packages, such as psycopg2."""
    if folder in path:
        return []
    return [
        f"Ansible uses {executable} on this host, which does not find the modules that Debian packages, and PostgreSQL is configured with"
        " one of them (python3-psycopg2). Set ansible_python_interpreter to /usr/bin/python3 for this host."
    ]


def _families(address: str) -> set[int]:
    """The kinds of addresses that a name stands for on this host; none when it does not resolve here."""
    try:
        return {int(found[0]) for found in socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)}
    except OSError:
        return set()


def reach_problems(address: str, listen: str, families: Callable[[str], set[int]] = _families) -> list[str]:
    """Whether servers that listen on all addresses of one kind are reached at an address of that kind."""
    taken = {ANY_IPV4: socket.AF_INET, "::": socket.AF_INET6}.get(listen)
    found = families(address) if taken else set()
    if not taken or not found or taken in found:
        return []
    kind, other = ("IPv6", "::") if taken == socket.AF_INET else ("IPv4", ANY_IPV4)
    return [
        f"The API servers would listen on {listen}, but {address} (prefect_address), where others reach them, is {kind}."
        f' Set prefect_api_listen_address to "{other}" for this host.'
    ]


def downgrade_problems(link: str, wanted: str) -> list[str]:
    """Whether the release that ``link`` points at (``.../<version>-<digest>``) is newer than the version wanted."""
    if not Path(link).is_symlink():
        return []
    running = Path(link).readlink().name.rpartition("-")[0]
    if version_number(wanted) >= version_number(running):
        return []
    return [
        f"This host runs Prefect {running}, but prefect_version is {wanted}, which is older. To go back to the release before, run the"
        " playbook rollback; to install an older one all the same, set prefect_allow_downgrade: true."
    ]


def system_problems(families: Sequence[str], release: str, systemd: bool) -> tuple[list[str], str]:
    """Whether the operating system is supported, from the text of os-release and whether systemd runs; also the system's name."""
    values = dict(_unquoted(line) for line in release.splitlines() if "=" in line and not line.startswith("#"))
    identity = values.get("ID") or "unknown"
    name = f"{values['PRETTY_NAME']} ({identity})" if values.get("PRETTY_NAME") else identity
    family = {values.get("ID", "").lower(), *values.get("ID_LIKE", "").lower().split()} - {""}
    problems = []
    if families and not family & {each.lower() for each in families}:
        problems.append(f"The operating system is {name}; supported are those of the family {', '.join(families)}.")
    if not systemd:
        problems.append("systemd does not run this host; the services are systemd units and need it.")
    return problems, name


def _unquoted(line: str) -> tuple[str, str]:
    name, _equals, value = line.partition("=")
    return name.strip(), " ".join(shlex.split(value))


class Space(NamedTuple):
    """The file system that a path is, or would be, on: its device, the nearest folder that exists, and what is free in bytes."""

    device: int
    folder: str
    free: int


def space_for(path: str) -> Space:
    folder = Path(path)
    while not folder.exists():
        folder = folder.parent
    stats = os.statvfs(folder)
    return Space(folder.stat().st_dev, str(folder), stats.f_bavail * stats.f_frsize)


def disk_problems(wanted: Iterable[Mapping[str, Any]], measure: Callable[[str], Space] = space_for) -> list[str]:
    """Whether there is room for every ``path`` and its ``bytes``; those on one file system add up."""
    shared: dict[int, list[tuple[Mapping[str, Any], Space]]] = {}
    for each in wanted:
        space = measure(each["path"])
        shared.setdefault(space.device, []).append((each, space))
    return [problem for group in shared.values() for problem in _disk_problem(group)]


def _disk_problem(group: list[tuple[Mapping[str, Any], Space]]) -> list[str]:
    needed = sum(each["bytes"] for each, _space in group)
    space = group[0][1]
    if needed <= space.free:
        return []
    paths = " and ".join(str(each["path"]) for each, _space in group)
    need = "need" if len(group) > 1 else "needs"
    return [
        f"{paths} {need} {_size(needed)} of free disk; the file system of {space.folder} has {_size(space.free)}. Free some or enlarge it."
    ]


def _size(number: int) -> str:
    return f"{number / _GIGABYTE:.1f} GB" if number >= _GIGABYTE / 10 else f"{number / 10**6:.0f} MB"


def listen_problems(wanted: Iterable[Mapping[str, Any]], taken: Sequence[Listener], who: Callable[[Listener], Owner] = owner) -> list[str]:
    """Whether a wanted ``port`` (on ``address``, or any) is taken by something other than one of its ``units`` (patterns)."""
    problems = []
    for each in wanted:
        for listener in conflicts(taken, each["port"], each.get("address") or ""):
            process = who(listener)
            if not any(fnmatchcase(process.unit, pattern) for pattern in each.get("units") or ()):
                setting = f" ({each['setting']})" if each.get("setting") else ""
                what = f" for {each['what']}" if each.get("what") else ""
                problems.append(
                    f"Port {each['port']}{what}{setting} is taken: {process.description} listens on {listener.shown()}."
                    " Stop it or choose another port."
                )
    return problems


class Connector:
    """Asks the servers that Prefect will need, each within its own ``timeout``.

    ``found`` holds the versions that they told, and OPEN where it was only seen that they accept connections.
    """

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def problems(self, wanted: Mapping[str, Any]) -> list[str]:
        """The problems with one server. Its ``kind`` is ``postgresql``, ``redis`` or ``tcp``."""
        where = host_and_port(wanted["host"], wanted["port"])
        kind, ask = {
            "postgresql": ("PostgreSQL", self._postgres),
            "redis": ("Redis", self._redis),
            "tcp": (wanted.get("what") or "A server", self._tcp),
        }[wanted["kind"]]
        subject = f"{kind} at {where}"
        if lacking(*_LIBRARIES[wanted["kind"]]):
            ask = self._tcp  # a bare host: the login is tried once it has a release
        try:
            return [f"{subject} {problem}." for problem in ask(wanted, where)]
        except (NetError, PostgresError, RedisError) as error:
            failed = error
        # Out of the handler: the cause of this would otherwise be taken for that of a further question.
        return [f"{subject} {_explained(wanted, failed)}"]

    def _tcp(self, wanted: Mapping[str, Any], where: str) -> list[str]:
        reach(wanted["host"], wanted["port"], Deadline(wanted["timeout"]))
        self.found[where] = OPEN
        return []

    def _postgres(self, wanted: Mapping[str, Any], where: str) -> list[str]:
        options = {"application_name": "selfhosted.prefect preflight"}
        with connect_postgres(wanted, wanted["timeout"], options) as session:
            version = session.server_version
            self.found[where] = version
            minimum = wanted.get("min_version") or ""
            if minimum and version_number(version) < version_number(minimum):
                return [f"is version {version}; Prefect needs {minimum} or newer"]
            return _postgres_problems(session, wanted)

    def _redis(self, wanted: Mapping[str, Any], where: str) -> list[str]:
        with connect_redis(wanted, wanted["timeout"]) as redis:
            redis.call("PING")
            problems = [*_redis_databases(redis, wanted), *_redis_rights(redis, wanted)]
            try:
                facts = {**redis.info("server"), **redis.info("replication"), **redis.info("memory")}
            except RedisError:
                return problems  # a user without the right to ask; that is no fault
        version = facts.get("redis_version", "")
        self.found[where] = version
        minimum = wanted.get("min_version") or ""
        if minimum and version_number(version) < version_number(minimum):
            # The rest would be the same fault under other names: commands that it does not know.
            return [f"is version {version}; {minimum} or newer is needed"]
        if facts.get("redis_mode") == "cluster":
            return ["runs in cluster mode, which Prefect does not support; use a single server, or Sentinel behind a proxy"]
        if facts.get("role") == "slave":
            problems.append("is a replica, which cannot be written to; use the address of its master")
        policy = facts.get("maxmemory_policy", "noeviction")
        if policy != "noeviction" and facts.get("maxmemory", "0") != "0":
            problems.append(
                f"deletes keys when its memory is full (maxmemory-policy {policy}), so events, locks and tasks would be lost;"
                " set maxmemory-policy to noeviction on the server"
            )
        return problems


def _redis_databases(redis: Redis, wanted: Mapping[str, Any]) -> list[str]:
    """The numbered databases that are not there; ends in the first of them."""
    problems = []
    for number in sorted(set(wanted.get("databases") or []), reverse=True):
        try:
            redis.call("SELECT", number)
        except RedisError as error:
            what = f"has no database {number}" if "range" in str(error) else f"does not give database {number} ({error})"
            problems.append(
                f"{what}, and Prefect uses two (prefect_redis_messaging_db and prefect_redis_docket_db); raise its setting databases,"
                " or use a Redis that has more than one"
            )
    return problems


def _redis_rights(redis: Redis, wanted: Mapping[str, Any]) -> list[str]:
    """What the user may not do of all that Prefect does. Nothing is done."""
    if not wanted.get("databases"):
        return []
    redis.call("MULTI")
    refused: dict[str, str] = {}
    for line in _REDIS_COMMANDS:
        words = ["EVAL", "return 0", "0"] if line == "EVAL return 0" else line.split()
        try:
            redis.call(*words)
        except RedisError as error:
            if str(error).startswith("NOPERM"):
                refused.setdefault(words[0], str(error))
    redis.call("DISCARD")
    if not refused:
        return []
    user = wanted.get("username") or wanted.get("user") or "default"
    return [
        f"does not let user {user} do what Prefect needs: {', '.join(refused)} ({next(iter(refused.values()))});"
        " give the user all keys (~*), all channels (&*) and these commands"
    ]


def _postgres_problems(session: Postgres, wanted: Mapping[str, Any]) -> list[str]:
    rows = session.query(_POSTGRES_QUESTIONS)
    total, reserved, of_role, of_database, standby, may_create, encoding, read_only, *trigrams = rows[0]
    problems = []
    needed = int(wanted.get("min_connections") or 0)
    limits = [
        (total - reserved, f"max_connections {total} less {reserved} reserved for superusers"),
        (of_role, f"the connection limit of role {wanted['user']}"),
        (of_database, f"the connection limit of database {wanted['dbname']}"),
    ]
    for limit, source in limits:
        if 0 <= limit < needed:
            problems.append(
                f"offers {limit} connections ({source}), but these servers may open {needed}; raise it or make the pools smaller"
            )
    if encoding != "UTF8":
        problems.append(
            f"has database {wanted['dbname']} in the encoding {encoding}, and Prefect writes any character;"
            " create it anew with ENCODING 'UTF8' TEMPLATE template0"
        )
    if standby:
        problems.append("is a standby, which cannot be written to; use the address of its primary")
    elif read_only == "on":
        problems.append(
            f"gives user {wanted['user']} read-only transactions in database {wanted['dbname']};"
            " turn default_transaction_read_only off for them"
        )
    problems += _trigram_problems(wanted, *trigrams)
    if standby:
        return problems
    if not may_create:
        problems.append(f"does not let user {wanted['user']} create tables in database {wanted['dbname']}; make it the database's owner")
    return problems


def _trigram_problems(wanted: Mapping[str, Any], there: bool, offered: bool, may_create: bool) -> list[str]:
    """Whether the extension that the migrations create is there or can be had."""
    if there:
        return []
    if not offered:
        return ["does not have the extension pg_trgm; install the package postgresql-contrib on the server"]
    if not may_create:
        database = wanted["dbname"]
        return [
            f"does not let user {wanted['user']} create the extension pg_trgm in database {database};"
            f" make it the database's owner, or let an administrator run CREATE EXTENSION pg_trgm in {database}"
        ]
    return []


def _unreachable(error: NetError) -> bool:
    return str(error).startswith(("refused", "did not answer within", "cannot be reached"))


def _explained(wanted: Mapping[str, Any], error: NetError | PostgresError | RedisError) -> str:
    if isinstance(error, PostgresError):
        return _postgres_refusal(wanted, error)
    if isinstance(error, RedisError):
        return f"{_redis_refusal(wanted, error)}."
    return _net_problem(wanted, error)


def _net_problem(wanted: Mapping[str, Any], error: NetError) -> str:
    variable = _TLS_VARIABLES.get(wanted["kind"], "")
    tls = wanted.get("tls") or {}
    if _untrusted(error):
        trusted = f"those of {tls['ca_file']}" if tls.get("ca_file") else "those of the system"
        return f"{str(error).rstrip('.')}. The authorities that are trusted are {trusted} ({variable}.ca_file)."
    if str(error).startswith(NO_FILES):
        return f"{error}. The files of {variable} have to be on this host, and readable."
    # A Redis that is spoken to in the wrong way hangs up; one without TLS says nothing at all.
    puzzling = wanted["kind"] == "redis" and not str(error).startswith(("refused", "cannot be reached"))
    silent = str(error).startswith("did not answer within")
    if str(error) == NO_TLS or (puzzling and wants_tls(tls) and _plain_redis(wanted)):
        return f"{NO_TLS}. Turn it on there, or set {variable}: {{enabled: false}} to ask for plain text."
    if puzzling and not silent and not wants_tls(tls) and _speaks_tls(connect_redis, wanted):
        return _only_tls(wanted)
    remedy = " Check its address, that it runs, and the firewalls between it and this host." if _unreachable(error) else ""
    return f"{error}.{remedy}"


def _postgres_refusal(wanted: Mapping[str, Any], error: PostgresError) -> str:
    if error.code == _NO_ENTRY and not wants_tls(wanted.get("tls") or {}) and _speaks_tls(connect_postgres, wanted):
        return _only_tls(wanted, f", if any from this host ({error})")
    remedy = " Check prefect_database_user and prefect_database_password." if error.code == "28P01" else ""
    return f"{refusal(wanted, error)}.{remedy}"


def _only_tls(wanted: Mapping[str, Any], more: str = "") -> str:
    return (
        f"takes encrypted connections only{more}. Set {_TLS_VARIABLES[wanted['kind']]}: {{enabled: true}}, with ca_file where its"
        " certificate is not from an authority that the system knows."
    )


def _speaks_tls(connect: Callable[..., Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a server that refused plain text answers over TLS. A certificate that is not trusted is an answer, too."""
    try:
        connect({**wanted, "tls": {"enabled": True}}, wanted["timeout"]).close()
    except NetError as error:
        return _untrusted(error)
    except PostgresError as error:
        return error.code != _NO_ENTRY
    except RedisError:
        return True
    return True


def _plain_redis(wanted: Mapping[str, Any]) -> bool:
    """Whether a Redis that did not take TLS answers in plain text. It is sent no password."""
    try:
        with connect_redis({"host": wanted["host"], "port": wanted["port"]}, wanted["timeout"]) as redis:
            redis.call("PING")
    except NetError:
        return False
    except RedisError:
        return True
    return True


def _untrusted(error: NetError) -> bool:
    return str(error).startswith("has a certificate")


def _redis_refusal(wanted: Mapping[str, Any], error: RedisError) -> str:
    user = wanted.get("username") or wanted.get("user") or "default"
    word = str(error).split(" ", 1)[0]
    known = {
        "WRONGPASS": f"refuses the password of user {user}, or the user. Check prefect_redis_username and prefect_redis_password",
        "NOAUTH": "asks for a password, and none is set. Set prefect_redis_password",
        "NOPERM": f"does not let user {user} do what is needed ({error})",
    }
    return known.get(word, f"answers: {error}")
