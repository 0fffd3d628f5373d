#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_migration
short_description: Bring Prefect's database to the schema of a release
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Brings a PostgreSQL database to a revision of Prefect's schema with an installed release's own migrations, up or, when asked to,
    down, or waits until another process has.
  - Current and wanted revision are compared first; when there is nothing to do, Prefect is not even started.
  - The work is done under a PostgreSQL advisory lock of the database (number 31650977226777460, which is "prefect" in ASCII).
    A second run waits, then sees what is left to do.
  - It is bounded as a whole. When time is up the command and what it left running in the server are ended.
  - A failure says which revision was reached, which indexes are invalid, and what to do. Running the same again goes on from there;
    the invalid indexes of the migrations still to come are dropped first, because those would fail on them or skip them.
  - After the schema has moved, and with O(current) before servers run another release, the block types of the release are registered, too.
    Servers that start together and do it themselves race (one of them dies of a C(UniqueViolation) on C(block_type) and is started once
    more), and each takes 1 s and more longer to start.
  - On the way down columns and tables that the older release does not know are dropped with what is in them. Take a backup first.
  - A schema that is past the wanted revision is left alone, which is no error (RV(ahead)); Prefect runs on a newer schema.
  - In check mode it tells where the schema is and what is pending. When that cannot be known yet, because the release is not installed
    or the database not reachable, it warns and reports a change.
  - Through PgBouncer in transaction mode the lock would not hold. Let the migration connect to PostgreSQL itself.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
attributes:
  diff_mode:
    support: full
    details: Shows the revision before and after.
options:
  release:
    description:
      - The virtual environment of the Prefect release, such as C(/opt/prefect/current).
      - To go down it is the newer of the two, the one that has made the schema. The older one does not know the way.
    type: path
    required: true
  environment:
    description:
      - Prefect's settings, as environment variables. C(PREFECT_SERVER_DATABASE_*) say where the database is.
      - These win over O(environment_file). Nothing else of the environment reaches the command.
    type: dict
    default: {}
  environment_file:
    description: A file of such settings on the host, as systemd's C(EnvironmentFile=) takes it.
    type: path
  state:
    description:
      - V(upgraded) brings the schema to O(revision).
      - V(awaited) waits until it is there, or past it, and changes nothing.
      - V(downgraded) takes it back to O(revision), which needs O(revision_of) or O(revision). A schema that is there or below is
        left alone. It refuses when O(release) does not know the current revision, or did not build it on the wanted one.
    type: str
    choices: [upgraded, awaited, downgraded]
    default: upgraded
  current:
    description:
      - With O(state=upgraded), a link to the release that the servers of this host run, such as C(/opt/prefect/current). When that is
        another one than O(release), or none, the block types are registered even if the schema is where it should be.
      - For servers with C(PREFECT_SERVER_REGISTER_BLOCKS_ON_START=false).
    type: path
  revision:
    description: The wanted revision, in full; V(head) is the newest that the release has.
    type: str
    default: head
  revision_of:
    description: The virtual environment of another release, whose newest revision is the wanted one. Instead of O(revision).
    type: path
  timeout:
    description: Seconds for everything, waiting for another migration included.
    type: int
    default: 600
  user:
    description: The user of the host to run the command as. The one who runs the module by default.
    type: str
"""

EXAMPLES = r"""
- name: Bring the schema to the new release, once
  become: true
  selfhosted.prefect.prefect_migration:
    release: /opt/prefect/releases/3.8.8-0a1b2c3d4e5f
    environment: "{{ prefect_environment }}"
    user: prefect
    current: /opt/prefect/current
  run_once: true

- name: Wait until the schema is there
  selfhosted.prefect.prefect_migration:
    release: /opt/prefect/current
    environment_file: /etc/prefect/prefect.env
    state: awaited
    timeout: 120
  become: true

- name: Take the schema back to that of the older release, with the newer one
  become: true
  selfhosted.prefect.prefect_migration:
    release: /opt/prefect/releases/3.8.8-0a1b2c3d4e5f
    environment: "{{ prefect_environment }}"
    user: prefect
    state: downgraded
    revision_of: /opt/prefect/releases/3.7.8-5f4e3d2c1b0a
  run_once: true
"""

RETURN = r"""
before:
  description: The revision at the beginning; empty for an empty database.
  returned: when the database could be queried
  type: str
  sample: bad1e352c597
after:
  description: The revision now. In check mode, the one it would come to.
  returned: when the database could be queried
  type: str
  sample: d4a7e1c93f52
head:
  description: The wanted revision, in full.
  returned: when the release could be read
  type: str
  sample: d4a7e1c93f52
pending:
  description:
    - The revisions that were still to be applied at the end, in order. In check mode those that would be applied.
    - With O(state=downgraded) those to be undone, in the order in which they are.
  returned: when the database could be queried
  type: list
  elements: str
  sample: []
ahead:
  description: Whether the schema is past the wanted revision, because a newer release has migrated it.
  returned: when the database could be queried
  type: bool
  sample: false
invalid_indexes:
  description: Indexes that an interrupted build left behind. PostgreSQL does not use them.
  returned: when the database could be queried
  type: list
  elements: str
  sample: []
registered:
  description: Whether the block types were registered, or would be, although the schema was where it should be.
  returned: when the database could be queried
  type: bool
  sample: false
tables:
  description:
    - The existing tables that the work touches, as they were before it; the largest first. Empty when there is nothing to do.
    - They are those that the revisions' sources name, so a table may be listed that is only referred to.
  returned: when the database could be queried
  type: list
  elements: dict
  contains:
    name:
      description: The table.
      type: str
    bytes:
      description: Its size, with indexes and TOAST. While it is locked, without them and only as last estimated.
      type: int
    rows:
      description: PostgreSQL's estimate of its rows; 0 when it has none yet.
      type: int
  sample:
    - name: flow_run
      bytes: 81920
      rows: 120
estimate:
  description:
    - How long the work will take, from the tables' rows; empty when there is nothing to do, and on the way down.
    - A work that would take longer than O(timeout) even at its quickest is refused before anything is changed.
  returned: when the database could be queried
  type: dict
  contains:
    least:
      description: Seconds on a quick host.
      type: int
    likely:
      description: Seconds on a host like the one that was measured, two cores under load.
      type: int
    most:
      description: Seconds on a slow host.
      type: int
    rows:
      description: The rows that are read, one revision after the other.
      type: int
  sample:
    least: 11
    likely: 26
    most: 65
    rows: 4025000
prefect_version:
  description: The version of the release.
  returned: when the release could be read
  type: str
  sample: 3.8.8
"""

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.environment import parse_environment
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.libraries import use_libraries
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import Deadline, NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.redact import redact
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import setting
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.session import PostgresError, connect_postgres, refusal
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.settings import database_parts
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished, run
from ansible_collections.selfhosted.prefect.plugins.module_utils._migration.history import Release, ReleaseError, load_release
from ansible_collections.selfhosted.prefect.plugins.module_utils._migration.migration import (
    WAITING,
    Migration,
    MigrationError,
    Report,
    Schema,
    command_environment,
    where,
)
from ansible_collections.selfhosted.prefect.plugins.module_utils._settings.check import secrets_of

ARGUMENTS: dict[str, Any] = {
    "release": {"type": "path", "required": True},
    "environment": {"type": "dict", "default": {}, "no_log": True},
    "environment_file": {"type": "path"},
    "state": {"type": "str", "choices": ["upgraded", "awaited", "downgraded"], "default": "upgraded"},
    "current": {"type": "path"},
    "revision": {"type": "str", "default": "head"},
    "revision_of": {"type": "path"},
    "timeout": {"type": "int", "default": 600},
    "user": {"type": "str"},
}
_CONNECT_SECONDS = 10.0


COMMAND = """
import asyncio, sys
import prefect.plugins
from prefect.server.database import alembic_commands, provide_database_interface
from prefect.server.models.block_registration import run_block_auto_registration
from prefect.utilities.asyncutils import run_sync_in_worker_thread

async def migrate(direction, revision):
    print(f"Running {direction} migrations ...", flush=True)
    await run_sync_in_worker_thread(getattr(alembic_commands, f"alembic_{direction}"), revision=revision)

async def register(database):
    print("Registering block types ...", flush=True)
    prefect.plugins.load_prefect_collections()
    async with await database.session() as session:
        await run_block_auto_registration(session=session)

async def main(direction, revision):
    database = provide_database_interface()
    await database.engine()
    if direction != "register":
        await migrate(direction, revision)
    if direction != "downgrade":
        await register(database)

asyncio.run(main(*sys.argv[1:]))
"""
"""What C(prefect server database upgrade) and C(downgrade) do, and, after an upgrade or by itself, what every server does when it starts.

In one process, because each import of Prefect takes 3 s of CPU.
"""


def settings(params: Mapping[str, Any]) -> dict[str, str]:
    """Prefect's settings, out of the file and the mapping. Raises OSError when the file cannot be read."""
    path = params["environment_file"]
    of_file = parse_environment(Path(path).read_text(encoding="utf-8")) if path else {}
    return {**of_file, **{name: setting(value) for name, value in params["environment"].items() if value is not None}}


@contextmanager
def scratch(user: str | None) -> Iterator[str]:
    """An empty folder for the command: Prefect reads settings from files in the one it is started in."""
    folder = tempfile.mkdtemp(prefix="prefect-migration-")
    try:
        if user:
            account = pwd.getpwnam(user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Attempt:
    """The module's run: parameters turned into a migration, its end into a result."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.deadline = Deadline(self.params["timeout"])
        try:
            self.environment = settings(self.params)
        except OSError as error:
            self.fail(f"The settings in {self.params['environment_file']} cannot be read: {error.strerror}. Nothing was changed.")
        self.secrets = secrets_of(self.environment)
        # By default every value would be masked everywhere, "5432" and "prefect" included, and no message could be read.
        module.no_log_values = {value for value in self.secrets if value}
        module.params["environment"] = sorted(self.params["environment"])

    def main(self) -> None:
        if self.down and self.params["revision"] == "head" and not self.params["revision_of"]:
            self.fail("state=downgraded needs to know how far: give the older release in revision_of. Nothing was changed.")
        release, target = self.wanted()
        try:
            parts = database_parts(self.environment)
        except ValueError as error:
            self.fail(f"{error}. Nothing was changed.")
        migration = Migration(
            release=release,
            target=target,
            where=where(parts),
            connect=lambda: self.connect(parts),
            command=lambda seconds: self.command(release, ["downgrade" if self.down else "upgrade", target], seconds),
            registration=lambda seconds: self.command(release, ["register", target], seconds),
            deadline=self.deadline,
            down=self.down,
        )
        facts = {"prefect_version": release.version, "head": target}
        try:
            self.exit(self.act(migration), facts)
        except MigrationError as error:
            self.fail(str(error), {**facts, **(error.report.values() if error.report else {})})
        except NetError as error:
            self.unknown(f"PostgreSQL at {parts['host']}:{parts['port']} {error}. Nothing was changed.", facts)
        except PostgresError as error:
            self.unknown(f"PostgreSQL at {parts['host']}:{parts['port']} {refusal(parts, error)}. Nothing was changed.", facts)

    @property
    def down(self) -> bool:
        return bool(self.params["state"] == "downgraded")

    def wanted(self) -> tuple[Release, str]:
        """The release that does the work, and the revision to come to."""
        try:
            release = load_release(self.params["release"])
            other = self.params["revision_of"]
            revision = load_release(other).head() if other else self.params["revision"]
        except ReleaseError as error:
            self.unknown(f"{error}. Install the release first (role prefect). Nothing was changed.")
        try:
            return release, release.find(revision)
        except ReleaseError as error:
            newer = " That revision is of a newer release; only that one knows it." if self.down else ""
            self.fail(f"{error}.{newer} Nothing was changed.")

    def act(self, migration: Migration) -> Report:
        if self.params["state"] == "awaited":
            return migration.report() if self.module.check_mode else migration.wait()
        report = migration.report() if self.module.check_mode else migration.run()
        if not self.new_to_servers(migration.release) or report.changed or report.pending:
            return report
        if not self.module.check_mode:
            migration.register()
        return replace(report, registered=True)

    def new_to_servers(self, release: Release) -> bool:
        """Whether servers have not run it yet, as far as is to be looked at."""
        current = self.params["current"]
        return not self.down and bool(current) and os.path.realpath(current) != os.path.realpath(release.path)

    def connect(self, parts: Mapping[str, Any]) -> Schema:
        options = {"application_name": WAITING, **parts["options"]}
        session = connect_postgres(parts, _CONNECT_SECONDS, options)
        session.keep_alive()
        return Schema(session)

    def command(self, release: Release, arguments: list[str], seconds: float) -> Finished:
        argv = [f"{release.path}/bin/python", "-c", COMMAND, *arguments]
        user = self.params["user"] or ""
        with scratch(user) as folder:
            environment = command_environment(self.environment, release, self.params["timeout"], folder)
            return run(argv, seconds, env=environment, user=user, cwd=folder)

    def exit(self, report: Report, facts: Mapping[str, Any]) -> NoReturn:
        if self.module.check_mode and report.pending and self.params["state"] != "awaited":
            report = replace(report, after=(report.target,))
        if report.ahead:
            self.module.warn(
                f"The schema is at {','.join(report.after)}, past {report.target}: a newer release has migrated it. It is left as it is."
            )
        values = {**facts, **report.values()}
        diff = {"before": f"{values['before']}\n", "after": f"{values['after']}\n"}
        self.module.exit_json(**values, diff=diff)
        raise AssertionError("exit_json does not return")

    def unknown(self, message: str, facts: Mapping[str, Any] | None = None) -> NoReturn:
        """Fails; in check mode, where what is missing may be about to be installed, only warns."""
        if not self.module.check_mode:
            self.fail(message, facts)
        self.module.warn(f"{redact(message, self.secrets)} So it is not known whether the schema would change.")
        self.module.exit_json(changed=self.params["state"] != "awaited", **(facts or {}))
        raise AssertionError("exit_json does not return")

    def fail(self, message: str, facts: Mapping[str, Any] | None = None) -> NoReturn:
        self.module.fail_json(msg=redact(message, getattr(self, "secrets", [])), **{"changed": False, **(facts or {})})
        raise AssertionError("fail_json does not return")


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, mutually_exclusive=[("revision", "revision_of")], supports_check_mode=True)
    # Of the release itself, which has to be there.
    use_libraries([f"{module.params['release']}/bin/python"], "asyncpg")
    Attempt(module).main()


if __name__ == "__main__":
    main()
