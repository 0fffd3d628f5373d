#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_table_settings
short_description: Sets autovacuum's storage parameters of Prefect's tables
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Sets storage parameters, whose names begin with C(autovacuum_), for each of the tables, and resets those that are not wanted.
  - Prefect's own user owns the tables, so this needs no other, on a managed database neither.
  - A table that is not there is passed over. Reads and writes go on meanwhile.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.connections.database
  - selfhosted.prefect.connections.interpreters
options:
  tables:
    description: The tables.
    type: list
    elements: str
    required: true
  settings:
    description: Names and values of the storage parameters that each of them has. Nothing resets them all.
    type: dict
    default: {}
  timeout:
    description: Seconds to wait for the database, and for the lock of each table.
    type: float
    default: 30
attributes:
  check_mode:
    details: When the database does not answer, which is so before a first deployment, it warns and reports a change.
  diff_mode:
    support: full
"""

EXAMPLES = r"""
- name: Have autovacuum come after 2 % of the rows instead of 20 %
  selfhosted.prefect.prefect_table_settings:
    tables: [events, event_resources, log]
    settings: {autovacuum_vacuum_scale_factor: 0.02}
    database:
      host: 10.0.0.11
      user: prefect
      password: "{{ prefect_database_password }}"
      dbname: prefect
"""

RETURN = r"""
statements:
  description: What was run, or would be in check mode.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.arguments import DATABASE, connection
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.libraries import INTERPRETERS, use_libraries
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.session import PostgresError, connect_postgres
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.table_settings import (
    read_settings,
    settings_problems,
    statements,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "tables": {"type": "list", "elements": "str", "required": True},
            "settings": {"type": "dict", "default": {}},
            "database": {**DATABASE, "required": True},
            "timeout": {"type": "float", "default": 30},
            "interpreters": INTERPRETERS,
        },
        supports_check_mode=True,
    )
    use_libraries(module.params["interpreters"], "asyncpg")
    given = module.params
    problems = settings_problems(given["settings"])
    if problems:
        module.fail_json(msg=f"{'; '.join(problems)}.")
    options = {"application_name": "selfhosted.prefect tables"}
    # In one message and for one transaction, so that it is right through a connection pooler, too.
    bounded = f"BEGIN; SET LOCAL lock_timeout = '{int(given['timeout'] * 500)}ms'; %s; COMMIT"
    changes: list[str] = []
    try:
        with connect_postgres(connection(given["database"]), given["timeout"], options) as session:
            changes = statements(read_settings(session, given["tables"]), given["settings"])
            for change in changes if not module.check_mode else []:
                session.execute(bounded % change, given["timeout"])
    except (NetError, PostgresError) as error:
        if not module.check_mode:
            module.fail_json(msg=f"The storage parameters of Prefect's tables cannot be set: {error}. Run the same command again.")
        module.warn(f"The tables cannot be looked at, so a change is assumed: {error}")
        changes = ["unknown"]
    diff = {"before": "", "after": "".join(f"{change}\n" for change in changes)}
    module.exit_json(changed=bool(changes), statements=changes, diff=diff)


if __name__ == "__main__":
    main()
