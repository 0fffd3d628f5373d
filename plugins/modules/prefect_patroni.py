#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_patroni
short_description: Configure, restart and switch a PostgreSQL cluster that Patroni runs
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Speaks to the API of Patroni, and waits until what it asked for is so.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.cluster.patroni
attributes:
  diff_mode:
    support: partial
    details: For O(state=configured).
  idempotent:
    support: partial
    details: O(state=restarted) and O(state=reinitialized) do it each time; with O(pending) a restart is done where it is due.
options:
  state:
    description:
      - V(led) waits until there is a primary, and V(member) until O(name) is one of the cluster, the primary or a replica in step with it.
      - V(configured) has the cluster hold O(settings).
      - V(restarted) restarts PostgreSQL on O(name), V(reinitialized) copies the data of O(name) anew from the primary.
      - V(switched) makes O(name) the primary, or the replica that is best where there is no name.
      - V(gone) waits until O(name) is no member any more.
    type: str
    choices: [led, member, configured, restarted, reinitialized, switched, gone]
    required: true
  name:
    description: The member that it is about.
    type: str
    default: ""
  pending:
    description: Whether to restart only where a setting waits for it.
    type: bool
    default: false
  settings:
    description: What the cluster has to hold, as Patroni takes it. A key with no value is removed, and one that is not here is left alone.
    type: dict
    default: {}
  owned_parameters:
    description: Parameters of PostgreSQL that the cluster holds only if O(settings) has them.
    type: list
    elements: str
    default: []
  most_lag:
    description: How many bytes a replica may be behind to be in step.
    type: int
    default: 1048576
"""

EXAMPLES = r"""
- name: Make another host the primary
  become: true
  selfhosted.prefect.prefect_patroni:
    state: switched
    urls: {db1: "https://192.0.2.11:8008", db2: "https://192.0.2.12:8008"}
    tls: {ca_file: /etc/prefect-tls/ca.crt, cert_file: /etc/prefect-tls/patroni.crt, key_file: /etc/prefect-tls/patroni.key}
"""

RETURN = r"""
leader:
  description: The member that is the primary at the end; empty if none is.
  returned: always
  type: str
  sample: db1
members:
  description: All members, each with C(name), C(role), C(state), C(lag) in bytes, C(timeline) and C(pending_restart).
  returned: always
  type: list
  elements: dict
seconds:
  description: Seconds until another member was the primary.
  returned: for O(state=switched)
  type: float
  sample: 1.8
paused:
  description: Whether Patroni is told to leave the cluster alone.
  returned: always
  type: bool
"""

import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.arguments import TLS, given
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._cluster.patroni import (
    Cluster,
    Patroni,
    PatroniError,
    configure,
    reinitialize,
    restart,
    switch,
)

ARGUMENTS: dict[str, Any] = {
    "state": {
        "type": "str",
        "choices": ["led", "member", "configured", "restarted", "reinitialized", "switched", "gone"],
        "required": True,
    },
    "name": {"type": "str", "default": ""},
    "pending": {"type": "bool", "default": False},
    "settings": {"type": "dict", "default": {}},
    "owned_parameters": {"type": "list", "elements": "str", "default": []},
    "most_lag": {"type": "int", "default": 1 << 20},
    "urls": {"type": "dict", "required": True},
    "tls": {"type": "dict", "options": TLS},
    "auth_string": {"type": "str", "no_log": True},
    "timeout": {"type": "float", "default": 60},
}
_NAMED = ("member", "restarted", "reinitialized", "gone")


def act(patroni: Patroni, params: dict[str, Any], *, dry: bool) -> tuple[bool, dict[str, Any]]:
    """Whether anything was changed, and what more there is to say."""
    state, name, seconds, lag = params["state"], params["name"], params["timeout"], params["most_lag"]
    if state == "configured":
        changes, before = configure(patroni, params["settings"], params["owned_parameters"], dry=dry)
        return bool(changes), {"diff": {"before": _text(before), "after": _text({"changes": changes})}} if changes else {}
    if state == "switched":
        changed, took = switch(patroni, name, seconds, lag, dry=dry)
        return changed, {"seconds": round(took, 1)}
    if state in ("restarted", "reinitialized"):
        return _again(patroni, params, dry=dry), {}
    if not dry:
        _wait(patroni, state, name, seconds, lag)
    return False, {}


def _again(patroni: Patroni, params: dict[str, Any], *, dry: bool) -> bool:
    name = params["name"]
    if params["state"] == "restarted" and params["pending"]:
        member = patroni.cluster().find(name)
        if not member or not member.pending_restart:
            return False
    if not dry:
        again = restart if params["state"] == "restarted" else reinitialize
        again(patroni, name, params["timeout"], params["most_lag"])
    return True


def _wait(patroni: Patroni, state: str, name: str, seconds: float, lag: int) -> None:
    def led(found: Cluster) -> bool:
        return found.leader is not None and found.leader.running

    def member(found: Cluster) -> bool:
        return (led(found) and found.leader is not None and found.leader.name == name) or found.follows(name, lag)

    conditions = {
        "led": (led, "There is no primary"),
        "member": (member, f"{name} is neither the primary nor in step with it"),
        "gone": (lambda found: found.find(name) is None, f"{name} is still a member"),
    }
    condition, what = conditions[state]
    patroni.wait(condition, seconds, what)


def _text(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, required_if=[["state", state, ["name"]] for state in _NAMED], supports_check_mode=True)
    params = module.params
    if params["state"] in _NAMED and not params["name"]:
        module.fail_json(msg=f"state: {params['state']} takes a name.")
    patroni = Patroni(params["urls"], given(params["tls"]), params["auth_string"] or "")
    try:
        changed, more = act(patroni, params, dry=module.check_mode)
        found = patroni.cluster().values()
    except (PatroniError, NetError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, **found, **more)


if __name__ == "__main__":
    main()
