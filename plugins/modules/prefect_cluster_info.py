#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_cluster_info
short_description: What a host has of a PostgreSQL cluster
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Reads which data of PostgreSQL a host has, and what its etcd and its Patroni say of their cluster.
  - What is not there, or does not answer, is part of the answer.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.attributes.info
  - selfhosted.prefect.cluster
"""

EXAMPLES = r"""
- name: See which host is the primary
  become: true
  selfhosted.prefect.prefect_cluster_info:
    cluster:
      patroni_url: https://192.0.2.11:8008
      patroni_tls: {ca_file: /etc/prefect-tls/ca.crt}
  register: host
"""

RETURN = r"""
data:
  description: The folders with data of PostgreSQL.
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: The folder.
      type: str
      sample: /var/lib/postgresql/15/main
    major:
      description: The major version that it is of.
      type: str
      sample: "15"
    system_identifier:
      description: What all members of one cluster have in common, and no other cluster has.
      type: str
      sample: "7443851692352417301"
etcd:
  description: The host's etcd.
  returned: always
  type: dict
  contains:
    data:
      description: Whether it has data.
      type: bool
    token:
      description: The token that it was first started with; empty where that is not known.
      type: str
    cluster_id:
      description: The identity of its cluster; empty where it does not answer.
      type: str
    members:
      description: The members that it knows, each with C(id), C(name), C(peer_urls), and whether it has C(started).
      type: list
      elements: dict
    problem:
      description: Why it does not tell of its members; empty where it does, and where there is none.
      type: str
patroni:
  description: The host's Patroni.
  returned: always
  type: dict
  contains:
    version:
      description: The version of the package; empty where it is not installed.
      type: str
      sample: 3.0.2-1
    running:
      description: Whether it answers.
      type: bool
    system_identifier:
      description: That of the server that it runs.
      type: str
    cluster:
      description: >-
        What it says of its cluster - the C(leader), whether it is C(paused), and C(members) with C(name), C(role), C(state), C(lag) in
        bytes, C(timeline) and C(pending_restart). Empty where it does not tell.
      type: dict
    problem:
      description: Why it does not answer; empty where it does, and where there is none.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._cluster.host import CLUSTER, gather


def main() -> None:
    module = AnsibleModule(
        argument_spec={"cluster": {"type": "dict", "options": CLUSTER, "apply_defaults": True}}, supports_check_mode=True
    )
    module.exit_json(changed=False, **gather(module.params["cluster"]))


if __name__ == "__main__":
    main()
