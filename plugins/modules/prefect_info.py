#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_info
short_description: How a Prefect deployment is, queried from one of its hosts
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Asks every API server, the database and Redis how they are, and changes nothing.
  - A part that does not answer is not an error of this module; its C(problem) says why.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.attributes.info
  - selfhosted.prefect.connections.api
  - selfhosted.prefect.connections.database
  - selfhosted.prefect.connections.redis
  - selfhosted.prefect.connections.interpreters
options:
  servers:
    description: The API servers, as the filter P(selfhosted.prefect.api_servers#filter) gives them.
    type: list
    elements: dict
    default: []
    suboptions:
      host:
        description: What to call its host.
        type: str
        required: true
      address:
        description: Where the host is reached.
        type: str
        required: true
      port:
        description: The server's TCP port.
        type: int
        required: true
      instance:
        description: Its number on that host, which is not used here.
        type: int
  servers_scheme:
    description: How O(servers) are reached.
    type: str
    choices: [http, https]
    default: http
  servers_ca_file:
    description: Certificate authorities for O(servers), on the host that runs the module. The system's own by default.
    type: path
  url:
    description: Where the balancer answers, such as C(http://10.0.0.13:4200/api). Without it the balancer is not queried.
    type: str
    default: ""
  workers:
    description:
      - The workers that have to be online, each as C(POOL/NAME), with their names in Prefect. O(url) is queried for them.
    type: list
    elements: str
    default: []
  database:
    required: false
  timeout:
    description: Seconds to wait for each answer.
    type: float
    default: 5
"""

EXAMPLES = r"""
- name: See how two API servers and the database are
  selfhosted.prefect.prefect_info:
    servers:
      - {host: api1, address: 10.0.0.21, port: 4200}
      - {host: api2, address: 10.0.0.22, port: 4200}
    url: http://10.0.0.13:4200/api
    auth_string: "{{ prefect_auth_string }}"
    database:
      host: 10.0.0.11
      user: prefect
      password: "{{ prefect_database_password }}"
      dbname: prefect
"""

RETURN = r"""
servers:
  description: >-
    For each server its C(name) and C(url), whether it is C(live) and C(ready), its C(version), the C(milliseconds) that the question
    for readiness (one database connection) took, and the C(problem), empty when there is none.
  returned: always
  type: list
  elements: dict
workers:
  description: >-
    For each worker its C(name) and C(pool), whether it is C(online), and the C(problem) when that cannot be told.
  returned: when O(workers) and O(url) are given
  type: list
  elements: dict
database:
  description: >-
    The server's C(version), the schema's C(revision), the C(connections) of all clients and the C(max_connections) it allows, the
    C(size_bytes) of the database, how long it C(keeps) events, flow runs and logs, and the C(problem).
  returned: when O(database) is given
  type: dict
redis:
  description: >-
    The C(version), C(memory_bytes) and C(max_memory_bytes) (0 means no limit), C(clients), the C(eviction) policy, whether it
    C(appends) to a file what it is told, and the C(problem).
  returned: when O(redis) is given
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.arguments import DATABASE, REDIS, connection
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.libraries import INTERPRETERS, use_libraries
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.urls import host_and_port
from ansible_collections.selfhosted.prefect.plugins.module_utils._report.status import (
    Api,
    database_report,
    redis_report,
    server_report,
    worker_reports,
)


def balancer(wanted: dict[str, Any]) -> Api:
    return Api(wanted["url"].rstrip("/"), wanted["auth_string"] or "", wanted["ca_file"] or "", wanted["timeout"])


def apis(wanted: dict[str, Any]) -> list[tuple[str, Api]]:
    """Everything that has to answer, by its name."""
    found = []
    for each in wanted["servers"]:
        url = f"{wanted['servers_scheme']}://{host_and_port(each['address'], each['port'])}/api"
        api = Api(url, wanted["auth_string"] or "", wanted["servers_ca_file"] or "", wanted["timeout"])
        found.append((f"{each['host']}:{each['port']}", api))
    return [*found, ("balancer", balancer(wanted))] if wanted["url"] else found


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "servers": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "host": {"type": "str", "required": True},
                    "address": {"type": "str", "required": True},
                    "port": {"type": "int", "required": True},
                    "instance": {"type": "int"},
                },
            },
            "servers_scheme": {"type": "str", "choices": ["http", "https"], "default": "http"},
            "servers_ca_file": {"type": "path"},
            "url": {"type": "str", "default": ""},
            "auth_string": {"type": "str", "no_log": True},
            "ca_file": {"type": "path"},
            "workers": {"type": "list", "elements": "str", "default": []},
            "database": DATABASE,
            "redis": REDIS,
            "timeout": {"type": "float", "default": 5},
            "interpreters": INTERPRETERS,
        },
        supports_check_mode=True,
    )
    wanted = module.params
    use_libraries(module.params["interpreters"], *["asyncpg"] * bool(wanted["database"]), *["redis"] * bool(wanted["redis"]))
    result: dict[str, Any] = {"servers": [server_report(name, api) for name, api in apis(wanted)]}
    if wanted["workers"] and wanted["url"]:
        result["workers"] = worker_reports(wanted["workers"], balancer(wanted))
    if wanted["database"]:
        result["database"] = database_report(connection(wanted["database"]), wanted["timeout"])
    if wanted["redis"]:
        result["redis"] = redis_report(connection(wanted["redis"]), wanted["timeout"])
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
