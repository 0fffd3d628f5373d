#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_backup
short_description: Take a dump of Prefect's database that is known to be whole
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Runs C(pg_dump) (custom format) as Prefect's own user, reads the whole dump back, and writes a manifest beside it, with the dump's
    SHA-256, the schema's revision and the rows of every table.
  - The rows are counted in the very snapshot that C(pg_dump) dumps, so they are exactly those in the dump, however busy the database is.
  - The dump is written under another name, and gets its own, with its manifest, only when all of that has succeeded. It is on disk then.
  - A running migration is waited for, and one that starts meanwhile waits for the dump.
  - With O(replica_port) a replica is dumped, once it has every write that the primary had acknowledged by then. Where that cannot be, the
    primary is, and a warning says why.
  - Older dumps of the same database beyond O(keep) are removed when the new one is in place, and so is what an interrupted run left.
  - The client tools have to be of the server's major version or newer, as Debian and PostgreSQL's own packages install them.
  - In check mode it says whether a dump would be taken, after checks of the database, the tools and the disk.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.connections.database
  - selfhosted.prefect.connections.interpreters
attributes:
  diff_mode:
    details: A dump is not shown.
  idempotent:
    support: partial
    details: Only with O(max_age). Otherwise each run takes a dump.
options:
  directory:
    description: Folder of the dumps. It has to exist, and only its owner should be able to read it.
    type: path
    required: true
  keep:
    description: How many complete dumps of the database stay, the new one among them.
    type: int
    default: 7
  max_age:
    description:
      - Seconds. A dump that is no older, is of the schema's current revision, has the right checksum and can be read as a whole will do;
        then none is taken.
      - V(0) always takes one.
    type: int
    default: 0
  prefect_version:
    description: The version of Prefect that runs, for the manifest.
    type: str
    default: ""
  replica_port:
    description:
      - Port of the host of O(database) that leads to a replica, each time to the same one; or to the primary while no replica is in step.
      - V(0) means that there is none.
    type: int
    default: 0
  members:
    description: Addresses of the servers of a cluster, by the names that RV(server) has for them. IPv6 addresses may be in brackets.
    type: dict
    default: {}
  timeout:
    description: Seconds for everything.
    type: int
    default: 3600
"""

EXAMPLES = r"""
- name: Have a dump that is no older than an hour
  become: true
  selfhosted.prefect.prefect_backup:
    directory: /var/backups/prefect
    max_age: 3600
    database:
      host: 10.0.0.11
      user: prefect
      password: "{{ prefect_database_password }}"
      dbname: prefect
"""

RETURN = r"""
path:
  description: The dump. Empty in check mode, where there would be a new one.
  returned: success
  type: str
  sample: /var/backups/prefect/prefect-20261124T085000Z.dump
manifest:
  description: The manifest, a JSON file beside the dump.
  returned: when there is a dump
  type: str
  sample: /var/backups/prefect/prefect-20261124T085000Z.dump.json
sha256:
  description: The dump's SHA-256, in hexadecimal.
  returned: when there is a dump
  type: str
bytes:
  description: The dump's size.
  returned: when there is a dump
  type: int
database_bytes:
  description: The size of the database on its server, which bounds that of a dump.
  returned: success
  type: int
revision:
  description: The revision of the schema.
  returned: success
  type: str
  sample: d4a7e1c93f52
prefect_version:
  description: The version of Prefect that ran.
  returned: when there is a dump
  type: str
server_version:
  description: The version of PostgreSQL.
  returned: success
  type: str
  sample: "15.18"
created:
  description: When the dump was taken, in UTC.
  returned: when there is a dump
  type: str
  sample: "2026-11-24T08:50:00Z"
age:
  description: Seconds since then.
  returned: when there is a dump
  type: int
tables:
  description: The rows of each table in the dump, by C(schema.table).
  returned: when there is a dump
  type: dict
  sample: {"public.flow_run": 12}
server:
  description: The server that was dumped, by its name in O(members), or else its address. Empty where no dump was taken.
  returned: with O(replica_port)
  type: str
  sample: db2
role:
  description: What that server is.
  returned: with O(replica_port)
  type: str
  sample: replica
reason:
  description: Why a dump was taken, or why not.
  returned: success
  type: str
removed:
  description: The dumps that were removed.
  returned: success
  type: list
  elements: str
"""

import shutil
import socket
from collections.abc import Mapping
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._backup.backup import Backup, BackupError, Outcome, Replica
from ansible_collections.selfhosted.prefect.plugins.module_utils._backup.dumps import DumpError, utc_now
from ansible_collections.selfhosted.prefect.plugins.module_utils._backup.pg_tools import NAME, Client, ToolError, find_tools, fitting_tools
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.arguments import DATABASE, connection
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.libraries import INTERPRETERS, use_libraries
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import Deadline, NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.redact import redact
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.session import Postgres, PostgresError, connect_postgres, refusal
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import run

ARGUMENTS: dict[str, Any] = {
    "database": {**DATABASE, "required": True},
    "directory": {"type": "path", "required": True},
    "keep": {"type": "int", "default": 7},
    "max_age": {"type": "int", "default": 0},
    "prefect_version": {"type": "str", "default": ""},
    "replica_port": {"type": "int", "default": 0},
    "members": {"type": "dict", "default": {}},
    "timeout": {"type": "int", "default": 3600},
    "interpreters": INTERPRETERS,
}
_CONNECT_SECONDS = 10.0
# The session waits while pg_dump works, and may not be ended for that.
_OPTIONS = {"application_name": NAME, "idle_in_transaction_session_timeout": "0", "statement_timeout": "0"}


def member_name(members: Mapping[str, str], address: str) -> str:
    """The name of the server that has this address; the address itself where none is known to."""
    for name, where in members.items():
        try:
            known = {str(each[4][0]) for each in socket.getaddrinfo(where.strip("[]"), None, type=socket.SOCK_STREAM)}
        except OSError:
            continue
        if address in known:
            return name
    return address


class Attempt:
    """The module's run: parameters turned into a backup, its end into a result."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        database = self.params["database"]
        self.parts = connection(database)
        self.deadline = Deadline(self.params["timeout"])

    def main(self) -> None:
        if self.params["keep"] < 1:
            self.fail(f"keep is {self.params['keep']}; it has to be 1 or more, or the new dump itself would be removed.")
        backup = Backup(
            database=self.parts["dbname"],
            directory=self.params["directory"],
            keep=self.params["keep"],
            max_age=self.params["max_age"],
            prefect_version=self.params["prefect_version"],
            connect=lambda: self.connect(self.parts),
            client=lambda major: self.client(major, self.parts),
            replica=self.replica(),
            free=lambda folder: shutil.disk_usage(folder).free,
            deadline=self.deadline,
        )
        where = f"PostgreSQL at {self.parts['host']}:{self.parts['port']}"
        try:
            self.exit(backup.plan() if self.module.check_mode else backup.run())
        except (BackupError, DumpError, ToolError) as error:
            self.fail(f"No backup: {error}. Dumps that were there are still there.")
        except NetError as error:
            self.fail(f"No backup: {where} {error}. Dumps that were there are still there.")
        except PostgresError as error:
            self.fail(f"No backup: {where} {refusal(self.parts, error)}. Dumps that were there are still there.")
        except OSError as error:
            self.fail(f"No backup: {error.filename or self.params['directory']}: {error.strerror}. Dumps that were there are still there.")

    def connect(self, parts: Mapping[str, Any]) -> Postgres:
        session = connect_postgres(parts, _CONNECT_SECONDS, _OPTIONS)
        session.keep_alive()
        return session

    def client(self, major: int, parts: Mapping[str, Any]) -> Client:
        return Client(fitting_tools(find_tools(), major), parts, run, self.deadline)

    def replica(self) -> Replica | None:
        if not self.params["replica_port"]:
            return None
        parts = {**self.parts, "port": self.params["replica_port"]}
        return Replica(lambda: self.connect(parts), lambda major: self.client(major, parts))

    def exit(self, outcome: Outcome) -> NoReturn:
        for damaged in outcome.damaged:
            self.module.warn(f"A dump is damaged and was passed over: {damaged}")
        source: dict[str, Any] = {
            "revision": outcome.source.revision,
            "server_version": outcome.source.server_version,
            "database_bytes": outcome.source.bytes,
        }
        if outcome.origin.missed:
            secrets = [self.parts.get("password") or ""]
            why = " ".join(outcome.origin.missed.split())
            self.module.warn(redact(f"The primary is dumped, as no replica could be: {why}", secrets))
        if self.params["replica_port"]:
            source["server"] = member_name(self.params["members"], outcome.origin.address)
            source["role"] = "replica" if outcome.origin.replica else "primary"
        dump = outcome.dump.values(utc_now()) if outcome.dump else {"path": ""}
        self.module.exit_json(changed=outcome.changed, reason=outcome.reason, removed=list(outcome.removed), **{**source, **dump})
        raise AssertionError("exit_json does not return")

    def fail(self, message: str) -> NoReturn:
        self.module.fail_json(msg=redact(message, [self.parts.get("password") or ""]))
        raise AssertionError("fail_json does not return")


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    use_libraries(module.params["interpreters"], "asyncpg")
    Attempt(module).main()


if __name__ == "__main__":
    main()
