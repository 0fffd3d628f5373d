#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_redis_switchover
short_description: Make a replica of Redis the master, with no acknowledged write lost
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Runs on the host of the master. Where this host's Redis is a replica already, nothing is changed.
  - The master holds its writes (C(CLIENT PAUSE)) until its replicas have all that it acknowledged, its Sentinel promotes one of them
    (C(SENTINEL FAILOVER)), and the master becomes a replica of that one. Clients wait, for a second or two, until their connections are
    ended and they have connected to the new master.
  - Sentinel alone would promote a replica while the master goes on taking writes, and those would be lost.
  - Sentinel promotes the replica with the lowest C(replica-priority). Set that of O(candidate) to V(1) first.
  - Refused while a replica is missing or not in step, or the Sentinels could not fail over by themselves. The master then stays.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.redis_cluster
  - selfhosted.prefect.redis_cluster.server
  - selfhosted.prefect.redis_cluster.master
  - selfhosted.prefect.redis_cluster.sentinel
options:
  address:
    description: The address by which the Sentinels know this host.
    type: str
    required: true
  candidate:
    description:
      - The address by which the Sentinels know the host that is to take over. Without it they choose.
      - The Sentinel of this host has to have read that its C(replica-priority) is the lowest, which takes up to ten seconds before writes
        are held.
    type: str
    default: ""
  sentinel_password:
    description: Its password.
    type: str
    required: true
  timeout:
    description: Seconds within which another host has to be the master. Writes are held for as long at the most.
    type: float
    default: 30
attributes:
  check_mode:
    details: What would refuse it is found in check mode, too.
"""

EXAMPLES = r"""
- name: Move the master away from this host
  become: true
  selfhosted.prefect.prefect_redis_switchover:
    address: "{{ ansible_host }}"
    secret: /etc/redis/prefect-administrator.secret
    ca_file: /etc/prefect-tls/ca.crt
    sentinel_password: "{{ redis_sentinel_password }}"
"""

RETURN = r"""
master:
  description: The master, as host and port. In check mode, the one that it is.
  returned: always
  type: str
  sample: 10.0.0.12:6379
held:
  description: Seconds until another host was the master.
  returned: always
  type: float
  sample: 0.8
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.arguments import (
    REDIS_CLIENT,
    REDIS_MASTER,
    REDIS_SENTINEL,
    REDIS_SERVER,
)
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.urls import host_and_port
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.redis_cluster import Ask, Switchover, SwitchoverError, replication
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.redis_server import Client, RedisRefusalError, Server, read_secret

ARGUMENTS: dict[str, Any] = {
    **REDIS_CLIENT,
    **REDIS_SERVER,
    **REDIS_MASTER,
    **REDIS_SENTINEL,
    "address": {"type": "str", "required": True},
    "candidate": {"type": "str", "default": ""},
    "sentinel_password": {"type": "str", "required": True, "no_log": True},
    "timeout": {"type": "float", "default": 30},
}
SECONDS = 3.0
"""For one answer: more than a host that answers takes, and little of the time for which writes are held."""


def switchover(params: dict[str, Any], secret: str) -> Switchover:
    """With the real servers."""
    own = Client(params["client"], params["username"], secret, params["ca_file"] or "")
    sentinel = Client(params["client"], params["sentinel_username"], params["sentinel_password"], params["ca_file"] or "")

    def server(host: str, port: int) -> Server:
        return Server(host, port, timeout=SECONDS, encrypted=params["tls"])

    def asking(client: Client, host: str, port: int) -> Ask:
        return lambda *words: client.ask(server(host, port), *words)

    def peer(address: str) -> Ask:
        host, _colon, port = address.rpartition(":")
        return asking(sentinel, host.strip("[]"), int(port))

    return Switchover(
        name=params["name"],
        own=host_and_port(params["address"], params["port"]),
        redis=asking(own, params["host"], params["port"]),
        order=lambda *orders: own.order(server(params["host"], params["port"]), *orders),
        sentinel=asking(sentinel, params["host"], params["sentinel_port"]),
        peer=peer,
        candidate=host_and_port(params["candidate"], params["port"]) if params["candidate"] else "",
        timeout=params["timeout"],
    )


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        move = switchover(module.params, read_secret(module.params["secret"]))
        here = replication(move.redis("INFO", "replication"))
        if here["role"] != "master":
            module.exit_json(changed=False, master=here["master"], held=0.0)
        problem = move.problem()
        if problem:
            raise SwitchoverError(problem)
        master = move.own if module.check_mode else move.run()
    except (SwitchoverError, RedisRefusalError) as error:
        module.fail_json(msg=f"There is no switchover of Redis: {error}.")
    except OSError as error:
        module.fail_json(msg=f"{error.filename} cannot be read: {error.strerror}. It takes root (become).")
    module.exit_json(changed=True, master=master, held=round(move.held, 2))


if __name__ == "__main__":
    main()
