#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_etcd_member
short_description: Add a member to an etcd cluster, or remove it
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Has the cluster know a member that is about to start, or no longer count one that is gone. It starts and stops nothing.
  - It uses etcd's command line client, C(etcdctl), on the host that runs the module. O(tls.check_hostname) is without an effect, since that
    always looks for the name.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.connections.tls
options:
  state:
    description:
      - Whether the cluster has to have the member.
      - V(pruned) removes each member that is none of O(members) and does not answer.
    type: str
    choices: [present, absent, pruned]
    default: present
  name:
    description: The member's name. Required but for O(state=pruned).
    type: str
    default: ""
  members:
    description: For O(state=pruned), where the members that there should be reach each other, by their names.
    type: dict
  peer_url:
    description: Where the other members reach it. For O(state=absent) a member that never ran, and so has no name, is found by it.
    type: str
    default: ""
  fresh:
    description: Whether the member has no data. One that is known from before is then removed, and added as a new one.
    type: bool
    default: false
  endpoints:
    description: Where clients reach the members that are there.
    type: list
    elements: str
    required: true
  timeout:
    description: Seconds for each question to etcd.
    type: float
    default: 5
"""

EXAMPLES = r"""
- name: Have the cluster no longer count a host that is gone
  become: true
  selfhosted.prefect.prefect_etcd_member:
    state: absent
    name: db3
    endpoints: ["https://192.0.2.11:2379", "https://192.0.2.12:2379"]
    tls: {ca_file: /etc/prefect-tls/ca.crt, cert_file: /etc/prefect-tls/etcd.crt, key_file: /etc/prefect-tls/etcd.key}

- name: Have the cluster no longer count whatever has left it
  become: true
  selfhosted.prefect.prefect_etcd_member:
    state: pruned
    members: {db1: "https://192.0.2.11:2380", db2: "https://192.0.2.12:2380", db4: "https://192.0.2.14:2380"}
    endpoints: ["https://192.0.2.11:2379"]
    tls: {ca_file: /etc/prefect-tls/ca.crt, cert_file: /etc/prefect-tls/etcd.crt, key_file: /etc/prefect-tls/etcd.key}
"""

RETURN = r"""
members:
  description: The members that there are then, each with C(id), C(name), C(peer_urls), and whether it has C(started).
  returned: always
  type: list
  elements: dict
initial_cluster:
  description: What the member has to be started with, as C(ETCD_INITIAL_CLUSTER).
  returned: always
  type: str
  sample: db1=https://192.0.2.11:2380,db3=https://192.0.2.13:2380
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.arguments import TLS, given
from ansible_collections.selfhosted.prefect.plugins.module_utils._cluster.etcd import Etcd, EtcdError, join, leave, prune

ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent", "pruned"], "default": "present"},
    "name": {"type": "str", "default": ""},
    "peer_url": {"type": "str", "default": ""},
    "members": {"type": "dict"},
    "fresh": {"type": "bool", "default": False},
    "endpoints": {"type": "list", "elements": "str", "required": True},
    "tls": {"type": "dict", "options": TLS},
    "timeout": {"type": "float", "default": 5},
}


_NEEDS: list[list[Any]] = [["state", "present", ["peer_url"]], ["state", "pruned", ["members"]]]


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, required_if=_NEEDS, supports_check_mode=True)
    params = module.params
    etcd = Etcd(params["endpoints"], given(params["tls"]), params["timeout"])
    name, peer_url = params["name"], params["peer_url"]
    if params["state"] != "pruned" and not name:
        module.fail_json(msg=f"state: {params['state']} takes a name.")
    try:
        if params["state"] == "present":
            changed, found = join(etcd, name, peer_url, fresh=params["fresh"], dry=module.check_mode)
        elif params["state"] == "pruned":
            changed, found = prune(etcd, params["members"], dry=module.check_mode)
        else:
            changed, found = leave(etcd, name, peer_url, dry=module.check_mode)
    except EtcdError as error:
        module.fail_json(msg=f"etcd at {', '.join(params['endpoints'])} does not do it: {error}")
    module.exit_json(
        changed=changed, members=[each.values() for each in found.members], initial_cluster=found.initial_cluster(name, peer_url)
    )


if __name__ == "__main__":
    main()
