#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_restore
short_description: Check, rehearse and restore a dump of Prefect's database
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Works with the dumps of M(selfhosted.prefect.prefect_backup), and refuses one without a manifest.
  - The dump is restored into a database of its own beside the live one, as Prefect's own user, and the rows of every table are compared
    with the manifest. Only then are the two swapped, by renames in one transaction, so that the live name always has one or the other.
  - Stop Prefect before the swap. Sessions that are left are ended; a server that still runs would come back and use the restored data.
  - Creating and renaming databases needs more rights than Prefect's user has. On the host of PostgreSQL the module does it as the
    system user C(postgres), over the Unix socket, and has to be root for that. Elsewhere it needs O(admin.user).
  - >-
    On the server everything is called after the live database and the time in UTC. C(prefect_rehearsal_<time>) is a rehearsal,
    C(prefect_restored_<time>) what waits for the swap, C(prefect_before_<time>) what was replaced.
    Leftovers of the first two are dropped by the next run. No other database is ever dropped.
  - Settings of the database (C(ALTER DATABASE ... SET)) and rights to it are not in a dump. Where there are settings, it warns.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.connections.database
  - selfhosted.prefect.connections.interpreters
attributes:
  check_mode:
    details: The dump is checked as ever; nothing is created, renamed or dropped.
  diff_mode:
    details: Data is not shown.
  idempotent:
    support: partial
    details: V(checked) and V(rehearsed) change nothing. Each V(prepared) and V(restored) restores.
options:
  database:
    required: false
  state:
    description:
      - V(checked) reads the dump, and says whether it is whole, Prefect's, and of a revision that O(release) knows.
      - V(rehearsed) restores it into a scratch database, compares, and drops that again.
      - V(prepared) restores it beside the live database, and leaves it there.
      - V(restored) puts it in the place of the live one. With O(prepared) it only swaps.
      - V(reverted) undoes that with O(prepared) and O(previous), or drops what was only prepared.
      - V(cleaned) drops O(previous).
    type: str
    choices: [checked, rehearsed, prepared, restored, reverted, cleaned]
    default: checked
  dump:
    description:
      - The dump's path, its name in O(directory), or V(newest), the newest complete one there.
      - V(checked) does without it when O(release) and O(revision) are given, on a host that has the release and not the dump.
    type: str
  directory:
    description: Folder of the dumps.
    type: path
    default: /var/backups/prefect
  release:
    description: The virtual environment of a Prefect release. With it V(checked) refuses a schema that it does not know.
    type: path
  revision:
    description: A dump's revision, to be looked up in O(release).
    type: str
  prepared:
    description: The database that V(prepared) has made.
    type: str
  previous:
    description: The name for the one that is replaced, as V(prepared) returns it.
    type: str
  admin:
    description: Who creates and renames databases.
    type: dict
    suboptions:
      user:
        description:
          - A user who may create databases, and is a member of Prefect's user or a superuser.
          - Without one, C(postgres), by the socket.
        type: str
      password:
        description: The user's password.
        type: str
      port:
        description: The server's port, where it is not that of O(database), as behind PgBouncer.
        type: int
      dbname:
        description: The database to log in to.
        type: str
        default: postgres
      socket_directory:
        description: Folder of the Unix socket.
        type: path
        default: /var/run/postgresql
  failover_timeout:
    description:
      - Seconds to wait for a primary, where the address of O(database) leads to that of a cluster.
      - A failover meanwhile ends the module, with a message that says so. V(0) is for a single server.
    type: int
    default: 0
  timeout:
    description: Seconds for everything.
    type: int
    default: 3600
"""

EXAMPLES = r"""
- name: Prove that the newest dump can be restored, leaving nothing behind
  become: true
  selfhosted.prefect.prefect_restore:
    state: rehearsed
    dump: newest
    database:
      host: 10.0.0.11
      user: prefect
      password: "{{ prefect_database_password }}"
      dbname: prefect
"""

RETURN = r"""
path:
  description: The dump.
  returned: when O(dump) is given
  type: str
  sample: /var/backups/prefect/prefect-20261124T085000Z.dump
created:
  description: When it was taken, in UTC.
  returned: when O(dump) is given
  type: str
  sample: "2026-11-24T08:50:00Z"
age:
  description: Seconds since then.
  returned: when O(dump) is given
  type: int
bytes:
  description: The dump's size.
  returned: when O(dump) is given
  type: int
sha256:
  description: The dump's SHA-256, in hexadecimal.
  returned: when O(dump) is given
  type: str
revision:
  description: The revision of the schema in the dump.
  returned: when O(dump) or O(revision) is given
  type: str
  sample: d4a7e1c93f52
prefect_version:
  description: The version of the release, or without O(release) the one that ran when the dump was taken.
  returned: when O(dump) or O(release) is given
  type: str
tables:
  description: The rows of each table in the dump, by C(schema.table). As many were restored.
  returned: when O(dump) is given
  type: dict
prepared:
  description: The restored database, until it is swapped in.
  returned: for V(prepared) and V(restored)
  type: str
  sample: prefect_restored_20261124T085000Z
previous:
  description: The name of the database that is replaced, from then on.
  returned: for V(prepared) and V(restored)
  type: str
  sample: prefect_before_20261124T085000Z
dropped:
  description: What earlier, interrupted rehearsals had left behind.
  returned: for V(rehearsed)
  type: list
  elements: str
"""

import os
import time
from collections.abc import Mapping
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._backup.dumps import Dump, DumpError, find_dump, utc_now
from ansible_collections.selfhosted.prefect.plugins.module_utils._backup.pg_tools import NAME, Client, ToolError, find_tools, fitting_tools
from ansible_collections.selfhosted.prefect.plugins.module_utils._backup.restore import Names, Restore, RestoreError, acting_as, check_dump
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.arguments import DATABASE, connection
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.libraries import INTERPRETERS, use_libraries
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import Deadline, NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.redact import redact
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.session import Postgres, PostgresError, connect_postgres
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import run
from ansible_collections.selfhosted.prefect.plugins.module_utils._migration.history import ReleaseError, load_release

ARGUMENTS: dict[str, Any] = {
    "state": {
        "type": "str",
        "choices": ["checked", "rehearsed", "prepared", "restored", "reverted", "cleaned"],
        "default": "checked",
    },
    "dump": {"type": "str"},
    "directory": {"type": "path", "default": "/var/backups/prefect"},
    "release": {"type": "path"},
    "revision": {"type": "str"},
    "prepared": {"type": "str"},
    "previous": {"type": "str"},
    "database": DATABASE,
    "admin": {
        "type": "dict",
        "apply_defaults": True,
        "options": {
            "user": {"type": "str"},
            "password": {"type": "str", "no_log": True},
            "port": {"type": "int"},
            "dbname": {"type": "str", "default": "postgres"},
            "socket_directory": {"type": "path", "default": "/var/run/postgresql"},
        },
    },
    "failover_timeout": {"type": "int", "default": 0},
    "timeout": {"type": "int", "default": 3600},
    "interpreters": INTERPRETERS,
}
_CONNECT_SECONDS = 10.0
_MOST_JOBS = 4
_OPTIONS = {"application_name": NAME, "statement_timeout": "0"}
_RETRY_SECONDS = 1.0
_STARTING = "57P03"
# Each failover begins another one.
_TIMELINE = "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"
_SAFE = "The live database is what it was."


class Attempt:
    """The module's run: parameters turned into a restore, its end into a result."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.state: str = self.params["state"]
        database = self.params["database"] or {}
        self.parts: dict[str, Any] = connection(database)
        self.admin = self.params["admin"] or {}
        self.deadline = Deadline(self.params["timeout"])
        self.timeline = ""
        self.moved = False

    def main(self) -> None:
        try:
            values = self.act()
        except (DumpError, RestoreError) as error:
            self.fail(f"{error}. {_SAFE}")
        except ToolError as error:
            self.fail(f"{error}.{self.failover()} {_SAFE}")
        except ReleaseError as error:
            self.fail(f"{error}. The dump is of a newer Prefect: install that release first (prefect_version). {_SAFE}")
        except NetError as error:
            self.fail(f"{self.where()} {error}.{self.failover()}{self.advice()} {self.safe()}")
        except PostgresError as error:
            self.fail(f"{self.where()} says: {error}.{self.failover()}{self.advice()} {_SAFE}")
        except OSError as error:
            self.fail(f"{error.filename or 'The dump'}: {error.strerror}. {_SAFE}")
        self.module.exit_json(**values)

    def act(self) -> dict[str, Any]:
        if self.state == "reverted":
            return {"changed": self.undo()}
        if self.state == "cleaned":
            return {"changed": not self.module.check_mode and self.restore().clean(self.params["previous"])}
        if self.state == "restored" and self.params["prepared"]:
            names = self.names()
            if not self.module.check_mode:
                self.restore().swap(names)
            return {"changed": True, "prepared": names.prepared, "previous": names.previous}
        dump = self.check()
        values = {**(dump.values(utc_now()) if dump else {}), **self.known(dump), "changed": False}
        return values if dump is None or self.state == "checked" else {**values, **self.build(dump)}

    def check(self) -> Dump | None:
        if not self.params["dump"]:
            return None
        path = find_dump(self.params["dump"], self.params["directory"], self.parts["dbname"])
        return Dump(path, check_dump(path, self.client, self.deadline))

    def known(self, dump: Dump | None) -> dict[str, Any]:
        """What the release says. Raises ReleaseError when it does not know the schema."""
        if not self.params["release"]:
            return {}
        release = load_release(self.params["release"])
        revision = dump.manifest.revision if dump else self.params["revision"]
        return {"prefect_version": release.version, "revision": release.find(revision)}

    def build(self, dump: Dump) -> dict[str, Any]:
        if self.module.check_mode:
            return {"changed": self.state != "rehearsed"}
        restore = self.restore()
        if self.state == "rehearsed":
            return {"dropped": restore.rehearse(dump.path, dump.manifest)}
        names, settings = restore.prepare(dump.path, dump.manifest)
        for setting in settings:
            self.module.warn(f"Set again after the restore, for it is in no dump (ALTER DATABASE ... SET): {setting}")
        if self.state == "restored":
            restore.swap(names)
        return {"changed": True, "prepared": names.prepared, "previous": names.previous}

    def undo(self) -> bool:
        return not self.module.check_mode and self.restore().revert(self.names())

    def names(self) -> Names:
        return Names(self.params["prepared"], self.params["previous"])

    def restore(self) -> Restore:
        return Restore(
            database=self.parts["dbname"],
            owner=self.parts["user"],
            admin=self.connect_admin,
            connect=lambda name: connect_postgres({**self.parts, "dbname": name}, _CONNECT_SECONDS, _OPTIONS),
            client=self.client,
            deadline=self.deadline,
            jobs=min(os.cpu_count() or 1, _MOST_JOBS),
        )

    def connect_admin(self) -> Postgres:
        deadline = Deadline(self.params["failover_timeout"])
        while True:
            try:
                session = self.log_in_admin()
                break
            except (NetError, PostgresError) as error:
                if deadline.passed() or (isinstance(error, PostgresError) and error.code != _STARTING):
                    raise
                time.sleep(_RETRY_SECONDS)
        if self.params["failover_timeout"]:
            now = str(session.query(_TIMELINE)[0][0])
            self.timeline = self.timeline or now
            self.moved = now != self.timeline
        return session

    def log_in_admin(self) -> Postgres:
        parts: Mapping[str, Any] = {**self.parts, "dbname": self.admin["dbname"], "port": self.admin.get("port") or self.parts["port"]}
        if self.admin.get("user"):
            login = {**parts, "user": self.admin["user"], "password": self.admin.get("password")}
            return connect_postgres(login, _CONNECT_SECONDS, _OPTIONS)
        folder = self.admin["socket_directory"]
        local = {**parts, "host": folder, "user": "postgres", "password": "", "tls": {"enabled": False}}
        with acting_as("postgres", folder):
            return connect_postgres(local, _CONNECT_SECONDS, _OPTIONS)

    def client(self, major: int) -> Client:
        return Client(fitting_tools(find_tools(), major), self.parts, run, self.deadline)

    def failover(self) -> str:
        """Whether another server has become the primary since the first login."""
        if not self.timeline:
            return ""
        try:
            self.connect_admin().close()
        except (NetError, PostgresError):
            return " There is no primary now: a failover has begun, and not ended. Run this again when status shows one."
        return " Another server has become the primary meanwhile, which ended it. Run this again." if self.moved else ""

    def safe(self) -> str:
        """Of a swap whose answer was lost nothing is known."""
        return "" if self.state == "restored" and self.timeline else _SAFE

    def where(self) -> str:
        return f"PostgreSQL at {self.parts.get('host')}:{self.parts.get('port')}"

    def advice(self) -> str:
        if self.admin.get("user"):
            return ""
        return (
            " Without prefect_restore_admin_user this needs the system user postgres of the server's own host: let that be"
            " prefect_backup_host, or give a user who may create databases (prefect_restore_admin_user, prefect_restore_admin_password)."
        )

    def fail(self, message: str) -> NoReturn:
        secrets = [self.parts.get("password") or "", self.admin.get("password") or ""]
        self.module.fail_json(msg=redact(message, secrets), changed=False)
        raise AssertionError("fail_json does not return")


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        required_if=[
            ("state", "checked", ("dump", "revision"), True),
            ("state", "rehearsed", ("dump", "database")),
            ("state", "prepared", ("dump", "database")),
            ("state", "restored", ("database",)),
            ("state", "restored", ("dump", "prepared"), True),
            ("state", "reverted", ("database", "prepared", "previous")),
            ("state", "cleaned", ("database", "previous")),
        ],
        required_by={"dump": ("database",), "revision": ("release",), "prepared": ("previous",)},
        supports_check_mode=True,
    )
    use_libraries(module.params["interpreters"], "asyncpg")
    Attempt(module).main()


if __name__ == "__main__":
    main()
