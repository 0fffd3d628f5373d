#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_certificate_info
short_description: What clients will say of the certificates of a host
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Looks at certificates, their keys and their authorities by a TLS handshake in memory, so that what is wrong is what a client would see,
    before any server has them.
  - Needs nothing but Python on the host. For files that only root can read, run it as root.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.attributes.info
  - selfhosted.prefect.certificates
"""

EXAMPLES = r"""
- name: See whether clients will accept the balancer's certificate
  become: true
  selfhosted.prefect.prefect_certificate_info:
    certificates:
      - name: nginx
        certificate: /etc/ssl/prefect.crt
        key: /etc/ssl/private/prefect.key
        names: [prefect.example.com]
  register: tls

- name: Show what is wrong
  ansible.builtin.debug:
    var: tls.certificates.nginx.problem
"""

RETURN = r"""
certificates:
  description: What was found of each certificate, by name.
  returned: always
  type: dict
  contains:
    path:
      description: The file that was looked at.
      type: str
      sample: /etc/prefect-tls/nginx.crt
    fingerprint:
      description: SHA-256 of the certificate and those after it in the file; empty if they cannot be read.
      type: str
    not_after:
      description: When it ends.
      type: str
      sample: "2027-08-01T12:00:00Z"
    expires:
      description: The same in seconds since the epoch; 0 if it cannot be read.
      type: int
    days_left:
      description: Whole days until then.
      type: int
    names:
      description: The names and addresses that it is for.
      type: list
      elements: str
    problem:
      description: What is wrong with it, its key or its authority; empty when nothing is.
      type: str
    due:
      description: Whether the deployment has to put a new one, or its authorities, in place.
      type: bool
    authority_expires:
      description: When the deployment's own authority ends, in seconds since the epoch; 0 for any other authority.
      type: int
    authority_days_left:
      description: Whole days until then.
      type: int
problems:
  description: What stops a deployment, one sentence each; that of certificates that it makes itself is not among them.
  returned: always
  type: list
  elements: str
metrics:
  description: What the file O(metrics) should hold, and does not; empty when it does.
  returned: always
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.certificates import CERTIFICATES, Host

ARGUMENTS = {"certificates": CERTIFICATES, "metrics": {"type": "path"}}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    host = Host(module.params["certificates"])
    module.exit_json(changed=False, certificates=host.found, problems=host.problems, metrics=host.unwritten(module.params["metrics"]))


if __name__ == "__main__":
    main()
