# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Restores a dump beside the live database, and swaps the two only once what was restored is what the dump holds."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ansible_collections.selfhosted.prefect.plugins.module_utils._backup import dumps as _dumps
from ansible_collections.selfhosted.prefect.plugins.module_utils._backup.backup import count_rows
from ansible_collections.selfhosted.prefect.plugins.module_utils._backup.pg_tools import Client
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import Deadline, NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import version_number
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.session import PostgresError, Session, literal, quoted

REHEARSAL = "rehearsal"
RESTORED = "restored"
BEFORE = "before"

_MOST_BYTES = 63
_QUERY_SECONDS = 60.0
_LOCK_SECONDS = 10.0
_SWAP_SECONDS = 60.0
_POLL_SECONDS = 0.5
_SHOWN_DIFFERENCES = 5
_IN_USE = "55006"
_PREFECTS = ("alembic_version", "flow_run")

# By way of JSON, because the columns differ between PostgreSQL's versions.
_LOCALE = """
SELECT pg_encoding_to_char(encoding), datcollate, datctype, to_jsonb(d)->>'datlocprovider',
       coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale')
FROM pg_database d WHERE datname =
"""
_SETTINGS = """
SELECT coalesce('for role ' || r.rolname || ': ', '') || array_to_string(s.setconfig, ', ')
FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole WHERE d.datname =
"""

_TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname IN "


class RestoreError(Exception):
    """Nothing was restored; the message says why, and that the live database is what it was."""


def named(database: str, kind: str, moment: datetime) -> str:
    """The name of a database beside another one: ``prefect_rehearsal_20261124T085000Z``."""
    return _prefix(database, kind) + _dumps.stamp(moment)


def is_named(name: str, database: str, kind: str) -> bool:
    """Whether :func:`named` made that name for that database. Nothing else is ever dropped."""
    return bool(re.fullmatch(re.escape(_prefix(database, kind)) + r"\d{8}T\d{6}Z", name))


def _prefix(database: str, kind: str) -> str:
    room = _MOST_BYTES - len(f"_{kind}_") - len("20261124T085000Z")
    return f"{database.encode()[:room].decode(errors='ignore')}_{kind}_"


def check_dump(path: str, client: Callable[[int], Client], deadline: Deadline) -> _dumps.Manifest:
    """Whether the dump is whole, Prefect's, and what its manifest says. Raises DumpError if it is not, ToolError if it cannot be read."""
    manifest = _dumps.read_manifest(path)
    _dumps.check_file(path, manifest, deadline)
    tools = client(version_number(manifest.server_version)[0])
    tools.read(path)
    tables = tools.tables(path)
    missing = [name for name in _PREFECTS if not any(table.endswith(f".{name}") for table in tables)]
    if missing:
        raise _dumps.DumpError(f"{path} is no dump of a Prefect database: it has no table {' and no table '.join(missing)}")
    revision = tools.revision(path)
    if revision != manifest.revision:
        raise _dumps.DumpError(f"{path} has the schema's revision {revision or '(none)'}, but its manifest says {manifest.revision}")
    return manifest


def differences(wanted: Mapping[str, int], found: Mapping[str, int]) -> list[str]:
    """Where the rows of two sets of tables differ, in words."""
    return [
        f"{table}: {wanted.get(table, 'no table')} in the dump, {found.get(table, 'no table')} restored"
        for table in sorted({*wanted, *found})
        if wanted.get(table) != found.get(table)
    ]


@contextlib.contextmanager
def acting_as(user: str, socket_folder: str) -> Iterator[None]:
    """As a system user, whom PostgreSQL asks the kernel for when a client connects to its Unix socket. Only root can.

    Raises NetError if there is no such user, or this is not root, or the connection that was tried meanwhile failed.
    """
    try:
        number = pwd.getpwnam(user).pw_uid
    except KeyError:
        raise NetError(f"is not on this host: there is no system user {user}") from None
    before = os.geteuid()
    try:
        os.seteuid(number)
        yield
    except (OSError, NetError) as error:
        why = str(error).removeprefix("cannot be reached: ") if isinstance(error, NetError) else error.strerror
        raise NetError(f"cannot be reached as system user {user} in {socket_folder}: {why}") from error
    finally:
        os.seteuid(before)


@dataclass(frozen=True)
class Names:
    """Of the databases that a restore makes: the restored one until the swap, and the one that it replaces from then on."""

    prepared: str
    previous: str


@dataclass
class Restore:
    """Dumps into databases of one server.

    ``admin`` opens a session that may create and rename databases, ``connect`` one of Prefect's user in the database named,
    ``client`` gives the tools of a server's major version, logged in to the database named.
    """

    database: str
    owner: str
    admin: Callable[[], Session]
    connect: Callable[[str], Session]
    client: Callable[[int], Client]
    deadline: Deadline
    jobs: int = 1
    now: Callable[[], datetime] = _dumps.utc_now
    sleep: Callable[[float], None] = time.sleep

    def rehearse(self, path: str, manifest: _dumps.Manifest) -> list[str]:
        """Restores into a scratch database, compares, drops it. The names of what earlier, interrupted rehearsals had left.

        Raises RestoreError or ToolError if the dump cannot be restored here as it is.
        """
        with contextlib.closing(self._locked()) as admin:
            dropped = self._drop_leftovers(admin, REHEARSAL)
            self._build(admin, path, manifest, named(self.database, REHEARSAL, self.now()), keep=False)
        return dropped

    def prepare(self, path: str, manifest: _dumps.Manifest) -> tuple[Names, list[str]]:
        """Restores into a database beside the live one and leaves it there. Its name, and what of the live one's is in no dump."""
        with contextlib.closing(self._locked()) as admin:
            self._drop_leftovers(admin, REHEARSAL)
            self._drop_leftovers(admin, RESTORED)
            moment = self.now()
            names = Names(named(self.database, RESTORED, moment), named(self.database, BEFORE, moment))
            self._build(admin, path, manifest, names.prepared, keep=True)
            settings = [str(row[0]) for row in admin.query(_SETTINGS + literal(self.database), _QUERY_SECONDS)]
        return names, settings

    def swap(self, names: Names) -> None:
        """Puts the prepared database in the live one's place, at once or not at all. Sessions that are left are ended."""
        self._own(names)
        with contextlib.closing(self._locked()) as admin:
            there = self._databases(admin)
            for name in (self.database, names.prepared):
                if name not in there:
                    raise RestoreError(f"there is no database {name} any more, so nothing was swapped. Run the restore again")
            self._rename(admin, [(self.database, names.previous), (names.prepared, self.database)])

    def revert(self, names: Names) -> bool:
        """Undoes :meth:`swap` if it has happened, and drops what was restored. Whether there was anything to do."""
        self._own(names)
        with contextlib.closing(self._locked()) as admin:
            there = self._databases(admin)
            if names.previous in there:
                self._rename(admin, [(self.database, names.prepared), (names.previous, self.database)])
            elif names.prepared not in there:
                return False
            self._drop(admin, names.prepared)
        return True

    def clean(self, previous: str) -> bool:
        """Drops the database that a restore has replaced. Whether it was still there."""
        self._own(Names(named(self.database, RESTORED, self.now()), previous))
        with contextlib.closing(self._locked()) as admin:
            if previous not in self._databases(admin):
                return False
            self._drop(admin, previous)
        return True

    def _own(self, names: Names) -> None:
        for name, kind in ((names.prepared, RESTORED), (names.previous, BEFORE)):
            if not is_named(name, self.database, kind):
                wanted = f"{_prefix(self.database, kind)}<time>"
                raise RestoreError(f"{name!r} is not a name that a restore of database {self.database} gives ({wanted})")

    def _locked(self) -> Session:
        admin = self.admin()
        try:
            number = f"hashtext({literal('selfhosted.prefect restore ' + self.database)})"
            deadline = Deadline(_LOCK_SECONDS)
            while not admin.query(f"SELECT pg_try_advisory_lock({number})", _QUERY_SECONDS)[0][0]:
                if deadline.passed():
                    raise RestoreError(f"another restore or rehearsal of database {self.database} is running. Wait for it")
                self.sleep(_POLL_SECONDS)
        except BaseException:
            admin.close()
            raise
        return admin

    def _build(self, admin: Session, path: str, manifest: _dumps.Manifest, name: str, keep: bool) -> None:
        major = version_number(admin.server_version)[0]
        of_dump = version_number(manifest.server_version)[0]
        if major < of_dump:
            raise RestoreError(f"the dump is from PostgreSQL {of_dump}, and an older server, {major}, cannot take it")
        client = self.client(major)
        self._room(admin, manifest)
        self._create(admin, name)
        built = False
        try:
            # First our own client: where the server refuses the login, its message is clearer.
            self._try_login(name)
            client.restore(path, name, self.jobs)
            with contextlib.closing(self.connect(name)) as session:
                # Nothing in a dump says how large tables are; the first queries would be planned blindly.
                session.execute("ANALYZE", max(self.deadline.left(), 1.0))
                found = differences(manifest.tables, count_rows(session, self.deadline))
            if found:
                more = f", and {len(found) - _SHOWN_DIFFERENCES} more tables" if len(found) > _SHOWN_DIFFERENCES else ""
                raise RestoreError(f"what was restored is not what the dump's manifest says: {'; '.join(found[:_SHOWN_DIFFERENCES])}{more}")
            built = True
        finally:
            if not built or not keep:
                self._drop(admin, name)

    def _try_login(self, name: str) -> None:
        try:
            self.connect(name).close()
        except PostgresError as error:
            if error.code != "28000":
                raise
            raise RestoreError(
                f"the server does not let user {self.owner} into database {name} from this host ({error}). With the role postgres,"
                f" bring its pg_hba.conf up to date (site.yml); otherwise allow that user every database, from this host"
            ) from error

    def _create(self, admin: Session, name: str) -> None:
        rows = admin.query(_LOCALE + literal(self.database), _QUERY_SECONDS)
        if not rows:
            raise RestoreError(f"the server has no database {self.database} to take the place of. Deploy Prefect first (site.yml)")
        encoding, collate, ctype, provider, locale = (value or "" for value in rows[0])
        kinds = {"i": ("icu", "ICU_LOCALE"), "b": ("builtin", "BUILTIN_LOCALE")}
        by_provider = f" LOCALE_PROVIDER {kinds[provider][0]} {kinds[provider][1]}{literal(locale)}" if provider in kinds else ""
        admin.execute(
            f"CREATE DATABASE {quoted(name)} OWNER {quoted(self.owner)} TEMPLATE template0 ENCODING{literal(encoding)}"
            f" LC_COLLATE{literal(collate)} LC_CTYPE{literal(ctype)}{by_provider}",
            max(self.deadline.left(), 1.0),
        )

    def _room(self, admin: Session, manifest: _dumps.Manifest) -> None:
        try:
            folder = str(admin.query("SHOW data_directory", _QUERY_SECONDS)[0][0])
        except PostgresError:
            return  # a managed server does not tell
        if Path(folder).is_dir():
            free = shutil.disk_usage(folder).free
            if free < manifest.database_bytes:
                raise RestoreError(
                    f"{folder} has {free} bytes free, but the restored database takes about {manifest.database_bytes}. Make room"
                )

    def _databases(self, admin: Session) -> set[str]:
        return {str(row[0]) for row in admin.query("SELECT datname FROM pg_database", _QUERY_SECONDS)}

    def _drop_leftovers(self, admin: Session, kind: str) -> list[str]:
        left = sorted(name for name in self._databases(admin) if is_named(name, self.database, kind))
        for name in left:
            self._drop(admin, name)
        return left

    def _drop(self, admin: Session, name: str) -> None:
        admin.execute(f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE)", _QUERY_SECONDS)

    def _rename(self, admin: Session, pairs: list[tuple[str, str]]) -> None:
        """All of the renames or none, once no client is connected to any of the databases."""
        names = ",".join(literal(old) for old, _new in pairs)
        deadline = Deadline(_SWAP_SECONDS)
        while True:
            admin.query(_TERMINATE + f"({names})", _QUERY_SECONDS)
            admin.execute("BEGIN", _QUERY_SECONDS)
            try:
                for old, new in pairs:
                    admin.execute(f"ALTER DATABASE {quoted(old)} RENAME TO {quoted(new)}", _QUERY_SECONDS)
                admin.execute("COMMIT", _QUERY_SECONDS)
                return
            except PostgresError as error:
                admin.execute("ROLLBACK", _QUERY_SECONDS)
                if error.code != _IN_USE or deadline.passed():
                    raise
                # A client whose session was ended came back at once.
                self.sleep(_POLL_SECONDS)
