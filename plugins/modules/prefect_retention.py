#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_retention
short_description: Checks and records how long a cluster keeps events, flow runs and logs
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Compares a retention with the one that the cluster has now, and never lets it become shorter without O(shorten).
  - What the cluster has now is recorded in its database, in a row of Prefect's table C(configuration). A cluster without a record has the
    retention of O(environment_file); without that file it has Prefect's own, which deletes events after 7 days and nothing else. A
    database without events, flow runs and logs has none, and takes any.
  - A shorter retention is refused with the number of rows that it would delete.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.connections.database
  - selfhosted.prefect.connections.interpreters
options:
  state:
    description:
      - V(checked) changes nothing, and returns the problem in place of failing. A database that does not answer is none, since this run
        may be the one that repairs it, and V(recorded) comes before anything changes.
      - V(recorded) fails for a problem, and records the retention.
    type: str
    choices: [checked, recorded]
    default: recorded
  retention:
    description: C(events), C(flow_runs) and C(logs), as in the variable C(prefect_retention). What is left out has its default.
    type: raw
    required: true
  shorten:
    description: Whether the retention may become shorter.
    type: bool
    default: false
  environment_file:
    description: The settings that this host's servers run with, in systemd's format.
    type: path
    default: /etc/prefect/prefect.env
  timeout:
    description: Seconds to wait for the database. Counting rows may take a minute more for each kind.
    type: float
    default: 10
attributes:
  diff_mode:
    support: full
"""

EXAMPLES = r"""
- name: Keep events for two weeks
  selfhosted.prefect.prefect_retention:
    retention: {events: 14d, flow_runs: forever}
    database:
      host: 10.0.0.11
      user: prefect
      password: "{{ prefect_database_password }}"
      dbname: prefect
"""

RETURN = r"""
before:
  description: What the cluster keeps now, in the form of O(retention). Nothing for a new cluster, or one whose database does not answer.
  returned: always
  type: dict
  sample: {events: 7d, flow_runs: forever, logs: forever}
after:
  description: What it keeps from now on.
  returned: always
  type: dict
  sample: {events: 14d, flow_runs: forever, logs: 30d}
problem:
  description: Why the retention is refused, with what it would delete. Empty when it is not.
  returned: always
  type: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.arguments import DATABASE, connection
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.environment import parse_environment
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.libraries import INTERPRETERS, use_libraries
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.urls import host_and_port
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.session import PostgresError
from ansible_collections.selfhosted.prefect.plugins.module_utils._settings import retention as _retention


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["checked", "recorded"], "default": "recorded"},
            "retention": {"type": "raw", "required": True},
            "shorten": {"type": "bool", "default": False},
            "environment_file": {"type": "path", "default": "/etc/prefect/prefect.env"},
            "database": {**DATABASE, "required": True},
            "timeout": {"type": "float", "default": 10},
            "interpreters": INTERPRETERS,
        },
        supports_check_mode=True,
    )
    use_libraries(module.params["interpreters"], "asyncpg")
    given = module.params
    problems = _retention.retention_problems(given["retention"])
    if problems:
        module.fail_json(msg=" ".join(problems))
    wanted, database = _retention.retention(given["retention"]), connection(given["database"])
    environment = _environment(given["environment_file"])
    try:
        found = _retention.read_retention(database, wanted, environment, given["timeout"])
    except (NetError, PostgresError, OSError) as error:
        reason = f"the database at {host_and_port(database['host'], database['port'])} does not answer: {error}"
        if given["state"] == "recorded":
            module.fail_json(msg=f"How long this cluster keeps its data cannot be read: {reason}")
        # A new cluster has no database yet, and this run may be the one that repairs it. Settings change only after state=recorded.
        found = _retention.Found(None, False, {})
    problem = _retention.shortening_problem(found.before, wanted, found.deletes) if found.before and not given["shorten"] else ""
    result: dict[str, Any] = {"before": _readable(found.before or {}), "after": _readable(wanted), "problem": problem}
    if given["state"] == "checked":
        module.exit_json(changed=False, **result)
    if problem:
        module.fail_json(msg=f"{problem} Nothing was changed.", **result)
    changed = not found.recorded or found.before != wanted
    if changed and not module.check_mode:
        try:
            _retention.write_retention(database, wanted, given["timeout"])
        except (NetError, PostgresError) as error:
            module.fail_json(msg=f"The retention cannot be recorded in the database: {error}")
    module.exit_json(changed=changed, diff={"before": result["before"], "after": result["after"]}, **result)


def _environment(path: str) -> _retention.Retention | None:
    """What this host's servers run with; None when it has none."""
    try:
        content = Path(path).read_text(encoding="utf-8")
    except OSError:
        return None
    return _retention.retention_of_environment(parse_environment(content))


def _readable(kept: _retention.Retention) -> dict[str, str]:
    return {kind: _retention.readable(seconds) for kind, seconds in kept.items()}


if __name__ == "__main__":
    main()
