# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations


class ModuleDocFragment:
    """How modules are told which certificates a host should have."""

    DOCUMENTATION = r"""
options:
  certificates:
    description:
      - Certificates to look at, each with its key and its authority, by a TLS handshake in memory.
      - An entry with O(certificates[].group) is one that the deployment puts in place itself.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What the result calls it; also the name of its files in O(certificates[].directory).
        type: str
        required: true
      what:
        description: The variable that names the file, for messages.
        type: str
        default: ""
      key_what:
        description: The variable that names the file of the key, for messages.
        type: str
        default: ""
      names_what:
        description: The variables that decide which names are looked for, for messages.
        type: str
        default: ""
      directory:
        description: Where the deployment keeps its certificates on the host.
        type: path
        default: /etc/prefect-tls
      certificate:
        description:
          - The file with the certificate, and those between it and the authority.
          - C(NAME.crt) in O(certificates[].directory) by default.
        type: path
      key:
        description: The file with its key. C(NAME.key) in O(certificates[].directory) by default.
        type: path
      source:
        description: The file that the certificate is a copy of. Then that one is looked at.
        type: path
      source_key:
        description: The file that the key is a copy of.
        type: path
      group:
        description: Who may read the key that the deployment puts in place. Without it the files are the operator's own.
        type: str
      ca_file:
        description: The authorities that have to have signed. Those of the system by default.
        type: path
      ca_what:
        description: The variable that names that file, for messages.
        type: str
        default: ""
      ca_content:
        description: What the deployment keeps in O(certificates[].ca_file). Empty where it has no authority.
        type: str
      authority:
        description:
          - The certificate of the one authority that has to have signed, where O(certificates[].ca_file) has several, or is not there yet.
        type: str
      names:
        description: Names and addresses that the certificate has to be for.
        type: list
        elements: str
        default: []
      purpose:
        description:
          - Whether a server shows it, whose clients verify it, or a client, whose authority may be another one than the server's.
        type: str
        choices: [server, client]
        default: server
      client:
        description: Whether the server that shows it shows it to other servers, too, which verify their clients.
        type: bool
        default: false
      required:
        description: Whether what is wrong with it is a problem. It is none where the deployment makes a new one.
        type: bool
        default: true
      renew_days:
        description: A certificate with fewer days left is due, if a new one would last longer.
        type: int
        default: 0
  metrics:
    description:
      - The file in which the ends of the certificates are kept for Prometheus. Nothing is written; the result says what it should hold.
    type: path
"""
