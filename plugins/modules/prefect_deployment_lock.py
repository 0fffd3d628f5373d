#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_deployment_lock
short_description: Acquire, renew and release the deployment lock
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Holds a lease in Prefect's Redis for the run of Ansible that this task belongs to. Another run that wants it fails, and the message
    names the holder.
  - Every task of a run may hold it again, which lengthens the lease.
  - A run that has ended without releasing the lease, on the machine of this run, does not stand in the way. One that ended on
    another machine (or in another container) does, until the lease is over or O(takeover) says that it is known to be dead.
  - This is about who may change something and changes nothing itself, so it never reports a change.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.connections.redis
  - selfhosted.prefect.connections.interpreters
attributes:
  check_mode:
    details: Looks who holds the lease, and takes or returns nothing.
  diff_mode:
    details: There is nothing to compare.
  platform:
    details: Any with Python.
options:
  state:
    description:
      - V(held) takes the lease, or lengthens it.
      - V(released) releases it. The lease of another run is left alone.
    type: str
    choices: [held, released]
    default: held
  redis:
    required: true
  required:
    description:
      - Whether it is an error when Redis cannot be queried. Before the first deployment there is none.
      - With V(false) one that cannot be reached is passed over, and one that answers but refuses (the login, a command) is a warning.
    type: bool
    default: true
  lease:
    description: Seconds after which the lease ends without another sign of life. It has to exceed the longest step of a run.
    type: int
    default: 1800
  wait:
    description: Seconds to wait for another run to end, or to be seen to have died.
    type: float
    default: 0
  takeover:
    description: Whether to take the lease from its holder.
    type: bool
    default: false
  _holder:
    description: The run that asks. The machine that runs Ansible fills it in, whatever a task says here.
    type: dict
  _after:
    description: The run that has ended, whose lease is taken over. It is filled in like O(_holder).
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Acquire the deployment lock
  selfhosted.prefect.prefect_deployment_lock:
    redis:
      host: 10.0.0.12
      username: prefect
      password: "{{ prefect_redis_password }}"
      db: 1
  run_once: true

- name: Release the deployment lock
  selfhosted.prefect.prefect_deployment_lock:
    state: released
    redis:
      host: 10.0.0.12
      username: prefect
      password: "{{ prefect_redis_password }}"
      db: 1
  run_once: true
"""

RETURN = r"""
held:
  description: Whether this run holds the lease now.
  returned: always
  type: bool
  sample: true
holder:
  description: The other run that holds it.
  returned: when there is one
  type: dict
  sample:
    user: admin
    machine: bastion
    pid: 4711
    playbook: upgrade.yml
"""

import time
from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.arguments import REDIS, connection
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.libraries import INTERPRETERS, use_libraries
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.redis import RedisError, connect_redis
from ansible_collections.selfhosted.prefect.plugins.module_utils._deployment_lock import ANY_HOLDER, Lease, from_values, refusal

_SECONDS = 10.0

ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["held", "released"], "default": "held"},
    "redis": {**REDIS, "required": True},
    "required": {"type": "bool", "default": True},
    "lease": {"type": "int", "default": 1800},
    "wait": {"type": "float", "default": 0},
    "takeover": {"type": "bool", "default": False},
    "interpreters": INTERPRETERS,
    # Set by the action plugin alone.
    "_holder": {"type": "dict"},
    "_after": {"type": "str", "default": ""},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    use_libraries(module.params["interpreters"], "redis")
    params = module.params
    if not params["_holder"]:
        module.fail_json(msg="This module needs its action plugin, which knows the run that it is for; call it from a playbook.")
    for name, least in (("lease", 1), ("wait", 0)):
        if not params[name] >= least:
            module.fail_json(msg=f"{name} must be at least {least}, not {params[name]:g}. Nothing was changed.", held=False)
    where = f"Redis at {params['redis']['host']}:{params['redis']['port']}"
    try:
        with connect_redis(connection(params["redis"]), _SECONDS) as redis:
            module.exit_json(changed=False, **act(module, Lease(redis.call)))
    except (NetError, RedisError) as error:
        if params["required"]:
            module.fail_json(msg=f"The deployment lock cannot be acquired: {where} {error}. Nothing was changed.", held=False)
        if isinstance(error, RedisError) and params["state"] == "held":
            module.warn(f"The deployment lock cannot be acquired: {where} {error}. Another run may change the same deployment meanwhile.")
        module.exit_json(changed=False, held=False)


def act(module: AnsibleModule, lease: Lease) -> dict[str, Any]:
    """Does what the state says, and returns the result; a lease of another run fails the module."""
    params = module.params
    now = time.time()
    wanted = from_values({**params["_holder"], "since": now, "refreshed": now})
    if params["state"] == "released":
        if not module.check_mode:
            lease.release(wanted)
        return {"held": False}
    after = ANY_HOLDER if params["takeover"] else params["_after"]
    if module.check_mode:
        blocking = lease.holder()
        if blocking and (blocking.token in (wanted.token, after) or after == ANY_HOLDER):
            blocking = None
    else:
        blocking = lease.hold(wanted, params["lease"], after)
    if blocking:
        module.fail_json(msg=refusal(blocking, lease.left(), now), held=False, holder={**asdict(blocking), "token": blocking.token})
    return {"held": not module.check_mode}


if __name__ == "__main__":
    main()
