#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_support_info
short_description: Collect what support needs of a host, without secrets
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Reads the state of a host, its units, journals, logs and configuration, and how the database and Redis are, and changes nothing.
  - Secrets are masked on the host, so none leaves it. Known are those in O(secrets) and those that O(environment_files) hold, in whatever
    escaping they turn up. What looks like a secret is masked as well, by its name or its form.
  - Files that hold keys or logins, such as C(*.key) and C(*.pem), are never read.
  - What cannot be read is said in its place. The module fails over nothing of that.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.attributes.info
  - selfhosted.prefect.connections.interpreters
options:
  units:
    description: Units whose state and journal are wanted, with their suffix. Patterns such as C(prefect-api@*.service) are fine.
    type: list
    elements: str
    default: []
  files:
    description: Configuration files to read, or patterns of them.
    type: list
    elements: str
    default: []
  environment_files:
    description:
      - Files of settings in systemd's format. Every value whose name is that of a secret is masked, and counts as known everywhere else.
    type: list
    elements: str
    default: []
  logs:
    description: Logs, or patterns of them, of which the last O(lines) are read.
    type: list
    elements: str
    default: []
  release:
    description: The release of Prefect whose packages are listed, such as C(/opt/prefect/current).
    type: str
    default: ""
  nginx:
    description: Whether to have nginx print its whole configuration (C(nginx -T)).
    type: bool
    default: false
  database:
    description: The database to query, as for M(selfhosted.prefect.prefect_info). Without it none is queried.
    type: dict
    default: {}
  redis:
    description: The Redis to query, as for M(selfhosted.prefect.prefect_info). Without it none is queried.
    type: dict
    default: {}
  redis_databases:
    description: Numbers of its databases whose queues are counted.
    type: list
    elements: int
    default: [0, 1]
  secrets:
    description: What must not be in any of the texts.
    type: list
    elements: str
    default: []
  hours:
    description: How far back to read the journals.
    type: float
    default: 24
  lines:
    description: The most lines to read of each journal and each log.
    type: int
    default: 2000
  timeout:
    description: Seconds that the database, and Redis, may take to answer.
    type: float
    default: 30
"""

EXAMPLES = r"""
- name: See what the API servers of this host say
  become: true
  selfhosted.prefect.prefect_support_info:
    units: [prefect-api@*.service]
    environment_files: [/etc/prefect/prefect.env]
    secrets: ["{{ prefect_auth_string }}"]
  register: seen
"""

RETURN = r"""
files:
  description: The texts, by the names that they have in a bundle.
  returned: always
  type: dict
  sample:
    system.txt: "$ uname -a ..."
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.libraries import INTERPRETERS, use_libraries
from ansible_collections.selfhosted.prefect.plugins.module_utils._report.support import Wanted, database_text, host_texts, redis_text


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "list", "elements": "str", "default": []},
            "files": {"type": "list", "elements": "str", "default": []},
            "environment_files": {"type": "list", "elements": "str", "default": []},
            "logs": {"type": "list", "elements": "str", "default": []},
            "release": {"type": "str", "default": ""},
            "nginx": {"type": "bool", "default": False},
            "database": {"type": "dict", "default": {}, "no_log": True},
            "redis": {"type": "dict", "default": {}, "no_log": True},
            "redis_databases": {"type": "list", "elements": "int", "default": [0, 1]},
            "secrets": {"type": "list", "elements": "str", "default": [], "no_log": True},
            "hours": {"type": "float", "default": 24},
            "lines": {"type": "int", "default": 2000},
            "timeout": {"type": "float", "default": 30},
            "interpreters": INTERPRETERS,
        },
        supports_check_mode=True,
    )
    given = module.params
    use_libraries(module.params["interpreters"], *["asyncpg"] * bool(given["database"]), *["redis"] * bool(given["redis"]))
    for name in ("hours", "lines", "timeout"):
        if given[name] <= 0:
            module.fail_json(msg=f"{name} must be more than 0, not {given[name]:g}.")
    # By default every value of the arguments would be masked, "prefect" and "5432" included. Secrets are masked in the texts themselves.
    module.no_log_values = set()
    database, redis = given.pop("database"), given.pop("redis")
    secrets = [*given.pop("secrets"), *(parts["password"] for parts in (database, redis) if parts.get("password"))]
    wanted = Wanted(**{name: given[name] for name in Wanted.__dataclass_fields__})
    files = host_texts(wanted, secrets)
    if database:
        files["database.txt"] = database_text(database, secrets, given["timeout"])
    if redis:
        files["redis.txt"] = redis_text(redis, given["redis_databases"], secrets, given["timeout"])
    module.exit_json(changed=False, files=files, invocation={"module_args": given})


if __name__ == "__main__":
    main()
