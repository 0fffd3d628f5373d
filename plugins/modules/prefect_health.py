#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_health
short_description: Wait until Prefect is healthy
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Waits until an API server, the balancer in front of several, or the background services are well several times in a row.
  - An API is well when it lives (C(/health)), reaches its database (C(/ready)) and runs the expected version (C(/admin/version)).
    The first two say nothing of Redis; O(deep) does.
  - Background services have no address to ask. They are well when their unit is active and, with O(deep), when the scheduler has ticked
    since the unit started.
  - Requests go straight to O(url), through no proxy.
  - When it does not come good, the message begins with the cause, says which condition failed last and with what answer, and shows what
    O(units) wrote to the journal since they were last started, with secrets masked. A unit that systemd has given up on is not waited for.
  - In check mode it asks once, does not wait and does not fail.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.attributes.info
  - selfhosted.prefect.connections.api
  - selfhosted.prefect.connections.redis
  - selfhosted.prefect.connections.interpreters
options:
  url:
    description:
      - Where the API is, as in C(PREFECT_API_URL). C(/api) is added to a URL without a path.
      - Without it only O(units) and Redis are looked at.
    type: str
  version:
    description: The version of Prefect that must answer. Any by default.
    type: str
  units:
    description:
      - The systemd units that must be active, on this host.
      - With O(url) they need not be the ones that answer there.
    type: list
    elements: str
    default: []
    aliases: [unit]
  journal_lines:
    description: At most so many lines of each unit's last start are shown with a failure.
    type: int
    default: 30
  successes:
    description: How many times in a row everything must hold.
    type: int
    default: 2
  timeout:
    description: Seconds to wait in all. The last attempt may take a second longer, so that it ends with an answer.
    type: float
    default: 60
  interval:
    description: Seconds between two attempts.
    type: float
    default: 0.5
  request_timeout:
    description: Seconds to wait for each answer.
    type: float
    default: 5
  deep:
    description:
      - Whether also Redis must answer, the scheduler must have ticked lately and, with O(url), a write must succeed.
      - The write creates a variable called C(prefect_health_) and the host's name, and deletes it at once.
    type: bool
    default: false
  scheduler_max_age:
    description:
      - How many seconds ago the scheduler's last tick may have been due. It ticks every 5 s unless that was changed.
      - The clocks of this host and of the one that runs the services must agree to less than that.
    type: float
    default: 30
  scheduler:
    description:
      - Whether the scheduler is expected to tick. V(false) where the settings switch it off.
      - Without it, O(deep) waits instead, for background services of this host, until they have shown themselves in Redis.
    type: bool
    default: true
  redis:
    description: The Redis that Prefect uses. Needed for O(deep).
"""

EXAMPLES = r"""
- name: Wait for an API server after its restart
  selfhosted.prefect.prefect_health:
    url: http://127.0.0.1:4200/api
    auth_string: "{{ prefect_auth_string }}"
    version: "{{ prefect_version }}"
    unit: prefect-api@4200.service

- name: Wait for the background services
  become: true
  selfhosted.prefect.prefect_health:
    unit: prefect-services.service
    deep: true
    redis:
      host: 10.0.0.6
      username: prefect
      password: "{{ prefect_redis_password }}"

- name: See whether everything works through the balancer
  selfhosted.prefect.prefect_health:
    url: https://prefect.example.com/api
    auth_string: "{{ prefect_auth_string }}"
    successes: 6
    deep: true
    redis:
      host: 10.0.0.6
      username: prefect
      password: "{{ prefect_redis_password }}"
"""

RETURN = r"""
healthy:
  description: Whether everything held O(successes) times in a row. In check mode, whether everything held once.
  returned: always
  type: bool
  sample: true
version:
  description: The version that answered; empty if no version is expected, or without an answer.
  returned: always
  type: str
  sample: 3.8.8
attempts:
  description: How many times all conditions were checked.
  returned: always
  type: int
  sample: 7
elapsed:
  description: Seconds it took.
  returned: always
  type: float
  sample: 3.4
failed_condition:
  description: >-
    What did not hold in the last attempt - V(units), V(live), V(ready), V(version), V(redis), V(write), V(scheduler), V(worker),
    or V(successes)
    when everything held, but not often enough in a row. Empty when healthy.
  returned: always
  type: str
  sample: ""
journal:
  description: What O(units) wrote to the journal since they were last started, each line once and without secrets.
  returned: on failure
  type: list
  elements: str
  sample: ["prefect-api@4200.service, this start only, from 2026-11-28 17:00:01 on:", "17:00:03 KeyError: 'x'"]
answers:
  description: The last answer to each condition that was checked.
  returned: always
  type: dict
  sample:
    live: HTTP 200 true
    ready: 'HTTP 200 {"message":"OK"}'
    version: 3.8.8
"""

import socket
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.arguments import REDIS, connection
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.libraries import INTERPRETERS, use_libraries
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.redact import auth_secrets, redact
from ansible_collections.selfhosted.prefect.plugins.module_utils._health import (
    Condition,
    RetryPolicy,
    Scheduler,
    Server,
    Units,
    api_base,
    failure_message,
    probe_name,
    wait_until,
)
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.journal import why

ARGUMENTS: dict[str, Any] = {
    "url": {"type": "str"},
    "auth_string": {"type": "str", "no_log": True},
    "version": {"type": "str"},
    "ca_file": {"type": "path"},
    "units": {"type": "list", "elements": "str", "default": [], "aliases": ["unit"]},
    "journal_lines": {"type": "int", "default": 30},
    "successes": {"type": "int", "default": 2},
    "timeout": {"type": "float", "default": 60},
    "interval": {"type": "float", "default": 0.5},
    "request_timeout": {"type": "float", "default": 5},
    "deep": {"type": "bool", "default": False},
    "scheduler_max_age": {"type": "float", "default": 30},
    "scheduler": {"type": "bool", "default": True},
    "redis": REDIS,
    "interpreters": INTERPRETERS,
}


def conditions(params: dict[str, Any]) -> list[Condition]:
    """What must hold, cheapest first."""
    units = Units(params["units"])
    wanted = units.conditions()
    server = None
    if params["url"]:
        tls = {"ca_file": params["ca_file"]}
        server = Server(api_base(params["url"]), params["auth_string"] or "", params["version"] or "", tls)
        wanted += server.conditions()
    if params["deep"]:
        wanted += deep_conditions(params, units, server)
    return wanted


def deep_conditions(params: dict[str, Any], units: Units, server: Server | None) -> list[Condition]:
    scheduler = Scheduler(connection(params["redis"]), params["scheduler_max_age"])
    wanted = [Condition("redis", scheduler.ping)]
    if server:
        name = probe_name(socket.gethostname())
        wanted.append(Condition("write", lambda timeout: server.write(name, timeout)))
    # Without a URL the units are the services themselves: a tick from before their start proves nothing.
    own = bool(params["units"]) and not server
    if params["scheduler"]:
        wanted.append(Condition("scheduler", lambda timeout: scheduler.ticked(timeout, units.started() if own else 0.0)))
    elif own:
        wanted.append(Condition("worker", lambda timeout: scheduler.works(timeout, socket.gethostname(), units.started())))
    return wanted


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        required_if=[["deep", True, ["redis"]]],
        supports_check_mode=True,
    )
    params = module.params
    if params["deep"]:
        use_libraries(module.params["interpreters"], "redis")
    secrets = [*auth_secrets(params["auth_string"] or ""), *([params["redis"]["password"]] if params["redis"] else [])]
    policy = RetryPolicy(params["successes"], params["timeout"], params["interval"], params["request_timeout"])
    if module.check_mode:
        policy = RetryPolicy(1, 0, 0, params["request_timeout"])
    try:
        wanted = conditions(params)
    except ValueError as error:
        module.fail_json(msg=f"{error}. Nothing was queried.")
    if not wanted:
        module.fail_json(msg="There is nothing to look at: give url, units, or redis with deep=true.")
    outcome = wait_until(wanted, policy)
    result: dict[str, Any] = {
        "healthy": outcome.healthy,
        "version": outcome.answers.get("version", "") if outcome.failed != "version" else "",
        "attempts": outcome.attempts,
        "elapsed": round(outcome.elapsed, 3),
        "failed_condition": outcome.failed,
        "answers": {name: redact(answer, secrets) for name, answer in outcome.answers.items()},
    }
    if outcome.healthy or module.check_mode:
        module.exit_json(changed=False, **result)
    subject = params["url"] or ", ".join(params["units"]) or "Prefect"
    found = why(params["units"], params["journal_lines"], secrets)
    module.fail_json(msg=redact(failure_message(subject, outcome, found.cause), secrets), journal=found.lines.splitlines(), **result)


if __name__ == "__main__":
    main()
