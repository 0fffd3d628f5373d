#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_redis_info
short_description: What a host's Redis is in a cluster, and what the Sentinels say
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Reads what Redis and Sentinel have written of their roles on this host, asks the Redis that runs here what it is, and each Sentinel of
    the cluster whom it follows.
  - What does not answer, or is not there, is part of the result.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.attributes.info
  - selfhosted.prefect.redis_cluster
  - selfhosted.prefect.redis_cluster.server
  - selfhosted.prefect.redis_cluster.master
  - selfhosted.prefect.redis_cluster.sentinel
options:
  data:
    description: Folder of Redis's data.
    type: path
    default: /var/lib/redis
  state_file:
    description: File that Redis rewrites.
    type: path
    required: true
  sentinel_state_file:
    description: File that Sentinel rewrites.
    type: path
    required: true
  sentinels:
    description: The hosts of the Sentinels to ask. Without any, none is.
    type: list
    elements: str
    default: []
  sentinel_password:
    description: Its password.
    type: str
  timeout:
    description: Seconds for each answer.
    type: float
    default: 2
"""

EXAMPLES = r"""
- name: Wait until a replica has all that its master has
  become: true
  selfhosted.prefect.prefect_redis_info:
    state_file: /var/lib/redis/prefect-replication.conf
    sentinel_state_file: /var/lib/redis-sentinel/prefect.conf
    secret: /etc/redis/prefect-administrator.secret
    ca_file: /etc/prefect-tls/ca.crt
  register: redis
  until: redis.replication.link | default('') == 'up'
  retries: 30
  delay: 1
"""

RETURN = r"""
state:
  description: >-
    Whether O(state_file) is there (C(written)), and as whose replica Redis would start (C(replica_of)), which is empty for a master.
  returned: always
  type: dict
  sample: {"written": true, "replica_of": "10.0.0.11:6379"}
sentinel_state:
  description: The master that this host's Sentinel would start with, and the epoch of that configuration. Empty, and 0, without one.
  returned: always
  type: dict
  sample: {"master": "10.0.0.11:6379", "epoch": 4}
data:
  description: Whether O(data) holds keys.
  returned: always
  type: bool
asked:
  description: Whether there is an O(client) to ask with.
  returned: always
  type: bool
replication:
  description: >-
    What Redis says of its C(role) (V(master) or V(replica)), with C(master), C(link) (V(up) or V(down)) and C(offset), and of a master
    C(replicas) and how many of them count as C(good). Empty when it does not answer.
  returned: always
  type: dict
problem:
  description: Why it does not.
  returned: always
  type: str
sentinels:
  description: >-
    How each Sentinel sees the cluster - C(sentinel), C(master), C(epoch), C(quorum), C(flags), C(replicas), C(sentinels), C(down), and
    C(problem) for one that does not answer. Of the replicas it may promote the C(candidates). C(tilt) says whether it takes part in no
    failover: for 30 seconds after it stood still, or its clock was changed.
  returned: always
  type: list
  elements: dict
"""

from shutil import which
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.arguments import (
    REDIS_CLIENT,
    REDIS_MASTER,
    REDIS_SENTINEL,
    REDIS_SERVER,
)
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.urls import host_and_port
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.redis_cluster import (
    View,
    holds_data,
    replication,
    replication_state,
    sentinel_state,
    view,
)
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.redis_server import Client, RedisRefusalError, Server, read_secret

ARGUMENTS: dict[str, Any] = {
    **REDIS_CLIENT,
    **REDIS_SERVER,
    **REDIS_MASTER,
    **REDIS_SENTINEL,
    "data": {"type": "path", "default": "/var/lib/redis"},
    "state_file": {"type": "path", "required": True},
    "sentinel_state_file": {"type": "path", "required": True},
    "sentinels": {"type": "list", "elements": "str", "default": []},
    "sentinel_password": {"type": "str", "no_log": True},
    "timeout": {"type": "float", "default": 2},
}


def here(params: dict[str, Any], client: Client) -> tuple[dict[str, Any], str]:
    """What this host's Redis says of its role, or why it does not."""
    server = Server(params["host"], params["port"], timeout=params["timeout"], encrypted=params["tls"])
    try:
        return replication(client.ask(server, "INFO", "replication")), ""
    except RedisRefusalError as error:
        return {}, str(error)


def seen(params: dict[str, Any], client: Client, sentinel: str) -> View:
    """How a Sentinel sees the cluster."""
    server = Server(sentinel, params["sentinel_port"], timeout=params["timeout"], encrypted=params["tls"])
    return view(host_and_port(sentinel, params["sentinel_port"]), params["name"], lambda *words: client.ask(server, *words))


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    asked = which(params["client"]) is not None
    authorities = params["ca_file"] or ""
    try:
        own = Client(params["client"], params["username"], read_secret(params["secret"]), authorities)
        state = replication_state(params["state_file"])
        sentinel = sentinel_state(params["sentinel_state_file"], params["name"])
        data = holds_data(params["data"])
    except OSError as error:
        module.fail_json(msg=f"{error.filename} cannot be read: {error.strerror}. It takes root (become).")
    role, problem = here(params, own) if asked else ({}, f"there is no {params['client']}")
    others = Client(params["client"], params["sentinel_username"], params["sentinel_password"] or "", authorities)
    views = [seen(params, others, each).values() for each in params["sentinels"]] if asked else []
    module.exit_json(
        changed=False, state=state, sentinel_state=sentinel, data=data, asked=asked, replication=role, problem=problem, sentinels=views
    )


if __name__ == "__main__":
    main()
