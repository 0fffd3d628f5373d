#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_drill_watch
short_description: Run flows for a while, and see whether the scheduler ticks
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - For failover drills, on a host that runs Prefect. For so many seconds it runs short flows, one after the other, with the release's own
    client and its retries, as any user's program does, and asks Redis five times a second when the scheduler's next tick is due.
  - In the end it looks which flow runs the service holds to be complete, with all of their task runs, and removes the flow.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.connections.api
  - selfhosted.prefect.connections.redis
attributes:
  check_mode:
    details: Nothing is run and nothing is queried.
  diff_mode:
    details: Nothing is different afterwards.
  idempotent:
    support: none
    details: Flows are run each time.
  platform:
    details: A host with a release of Prefect.
options:
  seconds:
    description: How long.
    type: float
    required: true
  url:
    description: Where the API is, for the flows, such as C(http://balancer:4200/api).
    type: str
    required: true
  python:
    description: The release's Python.
    type: path
    default: /opt/prefect/current/bin/python
  user:
    description: Who runs the flows.
    type: str
    default: prefect
  scheduler:
    description: Whether the scheduler is expected to tick. V(false) where the settings switch it off.
    type: bool
    default: true
  redis:
    required: true
"""

EXAMPLES = r"""
- name: Watch the cluster for a minute
  become: true
  selfhosted.prefect.prefect_drill_watch:
    seconds: 60
    url: http://balancer:4200/api
    auth_string: "{{ prefect_auth_string }}"
    redis:
      host: 10.0.0.12
      username: prefect
      password: "{{ prefect_redis_password }}"
  async: 300
  poll: 0
"""

RETURN = r"""
flows:
  description: >-
    The C(runs), each with its C(id), when it began (C(at)), how long it C(took), the C(problem) that the client ran into and the C(state)
    that the service has; and the C(problem) with looking at them.
  returned: outside check mode
  type: dict
scheduler:
  description: >-
    The C(changes) of the moment in which the next tick is due, each with when it was seen, the moments in which Redis was C(silent),
    and when the watching C(ended). All are seconds since the epoch. Only C(switched_off), with O(scheduler=false).
  returned: outside check mode
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.arguments import REDIS, connection
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.libraries import use_libraries
from ansible_collections.selfhosted.prefect.plugins.module_utils._drill.watch import Flows, WatchError, ticks

ARGUMENTS: dict[str, Any] = {
    "seconds": {"type": "float", "required": True},
    "url": {"type": "str", "required": True},
    "auth_string": {"type": "str", "no_log": True},
    "ca_file": {"type": "path"},
    "python": {"type": "path", "default": "/opt/prefect/current/bin/python"},
    "user": {"type": "str", "default": "prefect"},
    "scheduler": {"type": "bool", "default": True},
    "redis": {**REDIS, "required": True},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    use_libraries([params["python"]], "redis")
    if module.check_mode:
        module.exit_json(changed=False)
    redis = connection(params["redis"])
    login = {
        "PREFECT_API_URL": params["url"].rstrip("/"),
        "PREFECT_API_AUTH_STRING": params["auth_string"] or "",
        "PREFECT_API_SSL_CERT_FILE": params["ca_file"] or "",
    }
    try:
        flows = Flows(params["python"], params["user"], login, params["seconds"])
    except KeyError:
        module.fail_json(msg=f"There is no user {params['user']} on this host. Nothing was changed.")
    except WatchError as error:
        module.fail_json(msg=f"{error}. Nothing was changed.")
    try:
        scheduler = ticks(redis, params["seconds"]) if params["scheduler"] else {"switched_off": True}
        module.exit_json(changed=False, scheduler=scheduler, flows=flows.result())
    finally:
        flows.close()


if __name__ == "__main__":
    main()
