# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL's own pg_dump and pg_restore, as Debian installs them, logged in without a password on their command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import Deadline, wants_tls
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.urls import AUTHORITIES
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished, Run

PLACE = "/usr/lib/postgresql"
NAME = "selfhosted.prefect backup"
"""Of the sessions in pg_stat_activity."""

_ZSTD_SINCE = 16
_TABLE_DATA = re.compile(r"^\d+; \d+ \d+ TABLE DATA (\S+) (\S+) ", re.MULTILINE)


class ToolError(Exception):
    """The tools are missing or too old, or one of them failed; the message says which, and why."""


@dataclass(frozen=True)
class Tools:
    """The client tools of one major version."""

    major: int
    folder: str


def find_tools(place: str = PLACE) -> list[Tools]:
    """The installed client tools, oldest first."""
    found = [Tools(int(file.parts[-3]), str(file.parent)) for file in Path(place).glob("*/bin/pg_dump") if file.parts[-3].isdigit()]
    return sorted(found, key=lambda tools: tools.major)


def fitting_tools(installed: Sequence[Tools], server: int) -> Tools:
    """Those of the server's own major version, or the next newer: an older pg_dump refuses the server, and what a newer one writes
    an older server may not understand.

    Raises ToolError if there are none.
    """
    for tools in installed:
        if tools.major >= server:
            return tools
    have = f"the newest on this host is {installed[-1].major}" if installed else "there are none on this host"
    raise ToolError(
        f"The server is PostgreSQL {server}, so pg_dump and pg_restore of at least {server} are needed, but {have} (looked for in {PLACE})."
        f" Install postgresql-client-{server}; if the distribution does not have it, from PostgreSQL's own packages"
        f" (apt.postgresql.org)"
    )


def libpq_environment(parts: Mapping[str, Any]) -> dict[str, str]:
    """What makes the tools log in as our own client does with the same parts."""
    tls = parts.get("tls") or {}
    enabled = wants_tls(tls)
    mode = "disable" if not enabled else "verify-full" if tls.get("check_hostname", True) else "verify-ca"
    files = {"PGSSLCERT": tls.get("cert_file"), "PGSSLKEY": tls.get("key_file")} if enabled else {}
    if enabled:
        files["PGSSLROOTCERT"] = tls.get("ca_file") or AUTHORITIES
    return {
        "PGHOST": str(parts["host"]),
        "PGPORT": str(parts.get("port") or 5432),
        "PGUSER": str(parts["user"]),
        "PGPASSWORD": str(parts.get("password") or ""),
        "PGDATABASE": str(parts["dbname"]),
        "PGSSLMODE": mode,
        "PGCONNECT_TIMEOUT": "10",
        "PGAPPNAME": NAME,
        **{name: str(path) for name, path in files.items() if path},
    }


@dataclass(frozen=True)
class Client:
    """The tools at work, all within one deadline."""

    tools: Tools
    parts: Mapping[str, Any]
    run: Run
    deadline: Deadline

    def dump(self, path: str, snapshot: str) -> None:
        """Dumps the database as that snapshot sees it, in the custom format. Raises ToolError."""
        # An exclusive lock on a table (a migration that another tool runs) must not hold this for ever.
        wait = f"--lock-wait-timeout={max(1, int(self.deadline.left()))}s"
        argv = ["--format=custom", f"--compress={self._compression()}", f"--file={path}", f"--snapshot={snapshot}", "--no-password", wait]
        self._checked("pg_dump", argv, f"the dump of database {self.parts['dbname']}")

    def _compression(self) -> str:
        """The quickest that pg_dump has: compressing takes most of a dump's time."""
        return "zstd:1" if self.tools.major >= _ZSTD_SINCE else "1"

    def read(self, path: str) -> None:
        """Reads the whole dump, which its table of contents alone would not prove. Raises ToolError."""
        self._checked("pg_restore", ["--file=/dev/null", path], f"reading {path} as a whole")

    def tables(self, path: str) -> set[str]:
        """The tables whose rows are in the dump, as ``schema.table``. Raises ToolError."""
        ended = self._checked("pg_restore", ["--list", path], f"reading the contents of {path}")
        return {f"{schema}.{table}" for schema, table in _TABLE_DATA.findall(ended.output)}

    def revision(self, path: str) -> str:
        """The revision of the schema that is in the dump. Raises ToolError."""
        argv = ["--data-only", "--table=alembic_version", "--file=-", path]
        ended = self._checked("pg_restore", argv, f"reading the revision in {path}")
        copied = re.search(r"^COPY [^\n]*alembic_version[^\n]*\n(.*?)^\\\.$", ended.output, re.MULTILINE | re.DOTALL)
        return ",".join(sorted(copied.group(1).split())) if copied else ""

    def restore(self, path: str, database: str, jobs: int) -> None:
        """Restores the dump into an empty database; everything in it belongs to who logs in. Raises ToolError."""
        target = "dbname='" + database.replace("\\", "\\\\").replace("'", "\\'") + "'"
        argv = [f"--dbname={target}", "--no-owner", "--no-privileges", "--exit-on-error", "--no-password", f"--jobs={jobs}", path]
        self._checked("pg_restore", argv, f"restoring {path} into database {database}")

    def _checked(self, program: str, argv: Sequence[str], what: str) -> Finished:
        left = self.deadline.left()
        ended = self.run([f"{self.tools.folder}/{program}", *argv], left, env=libpq_environment(self.parts))
        if ended.timed_out:
            raise ToolError(f"{what} was stopped: it had not ended within {self.deadline.seconds:g} s")
        if ended.rc:
            raise ToolError(f"{what} failed ({program}, exit code {ended.rc}): {ended.tail(5) or 'it said nothing'}")
        return ended
