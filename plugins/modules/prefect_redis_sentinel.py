#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_redis_sentinel
short_description: Have a running Sentinel know the members of its cluster, and no others
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Sentinel keeps in a file of its own what it has learned, the quorum included. This compares it with what it should know, and corrects
    it.
  - A Redis or a Sentinel that is gone stays known, and counts for the majority, until it is forgotten (C(SENTINEL RESET)). One that is no
    member and still answers would be found again, and is reported.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.redis_cluster
  - selfhosted.prefect.redis_cluster.master
options:
  state:
    description:
      - V(checked) only compares.
      - V(applied) corrects the quorum, and forgets those that are gone.
    type: str
    choices: [checked, applied]
    default: checked
  unit:
    description: Its systemd unit.
    type: str
    default: redis-sentinel.service
  files:
    description: Files that it reads when it starts.
    type: list
    elements: path
    default: []
  members:
    description: The addresses of the cluster's hosts, each with a Redis and a Sentinel.
    type: list
    elements: str
    required: true
  quorum:
    description: How many Sentinels have to find that the master is down.
    type: int
    required: true
  redis_port:
    description: The port of Redis, on every host.
    type: int
    default: 6379
  host:
    description: Where Sentinel listens, as seen from its own host.
    type: str
    default: 127.0.0.1
  port:
    description: Its port, on every host.
    type: int
    default: 26379
  username:
    description: Its ACL user.
    type: str
    default: sentinel
  password:
    description: Its password.
    type: str
    required: true
  timeout:
    description: Seconds for each answer.
    type: float
    default: 3
"""

EXAMPLES = r"""
- name: Have Sentinel forget a host that is gone
  become: true
  selfhosted.prefect.prefect_redis_sentinel:
    state: applied
    members: [10.0.0.11, 10.0.0.12, 10.0.0.14]
    quorum: 2
    ca_file: /etc/prefect-tls/ca.crt
    password: "{{ redis_sentinel_password }}"
"""

RETURN = r"""
active:
  description: Whether its unit runs.
  returned: always
  type: bool
stale:
  description: Whether it started before one of O(files) last changed, so that it has to be restarted.
  returned: always
  type: bool
pending:
  description: >-
    What it should know, and does not yet - V(quorum), V(members) - or should have forgotten, V(gone). In check mode, before it was told.
  returned: always
  type: list
  elements: str
  sample: []
master:
  description: The master that it follows, as host and port. Empty when it does not say.
  returned: always
  type: str
  sample: 10.0.0.11:6379
strangers:
  description: Those it knows that are no members.
  returned: always
  type: list
  elements: str
  sample: []
problem:
  description: Why it does not answer.
  returned: always
  type: str
  sample: ""
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.arguments import REDIS_CLIENT, REDIS_MASTER
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.urls import host_and_port
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.redis_cluster import Knowledge, view
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.redis_server import Client, RedisRefusalError, Server
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.units import units

ARGUMENTS: dict[str, Any] = {
    **REDIS_CLIENT,
    **REDIS_MASTER,
    "state": {"type": "str", "choices": ["checked", "applied"], "default": "checked"},
    "unit": {"type": "str", "default": "redis-sentinel.service"},
    "files": {"type": "list", "elements": "path", "default": []},
    "members": {"type": "list", "elements": "str", "required": True},
    "quorum": {"type": "int", "required": True},
    "redis_port": {"type": "int", "default": 6379},
    "host": {"type": "str", "default": "127.0.0.1"},
    "port": {"type": "int", "default": 26379},
    "username": {"type": "str", "default": "sentinel"},
    "password": {"type": "str", "required": True, "no_log": True},
    "timeout": {"type": "float", "default": 3},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def run(command: list[str]) -> str:
        return str(module.run_command(command, check_rc=True)[1])

    client = Client(params["client"], params["username"], params["password"], params["ca_file"] or "")
    server = Server(params["host"], params["port"], timeout=params["timeout"], encrypted=params["tls"])

    def knows() -> Knowledge:
        redis, sentinels = (frozenset(host_and_port(each, params[port]) for each in params["members"]) for port in ("redis_port", "port"))
        return Knowledge(view("", params["name"], lambda *words: client.ask(server, *words)), redis, sentinels, params["quorum"])

    found = units([params["unit"]], params["files"], run)
    active = bool(found) and found[0].active
    now = knows()
    orders = now.orders(params["name"]) if active and params["state"] == "applied" else []
    if orders and not module.check_mode:
        try:
            client.order(server, *orders)
        except RedisRefusalError as error:
            module.fail_json(msg=f"Sentinel refuses to correct what it knows: {error}.")
        now = knows()
    module.exit_json(
        changed=bool(orders),
        active=active,
        stale=bool(found) and found[0].stale,
        pending=now.pending(),
        master=now.seen.master,
        strangers=now.strangers(),
        problem=now.seen.problem,
    )


if __name__ == "__main__":
    main()
