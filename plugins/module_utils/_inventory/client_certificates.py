# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""The files by which Prefect, as a client, verifies PostgreSQL and Redis and is known to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean


def client_certificates(settings: Mapping[str, Any], deployed: str = "") -> list[dict[str, Any]]:
    """What is to be checked of each connection with TLS, in the form of the module ``prefect_preflight``.

    ``settings`` are the variables by their names, such as ``prefect_database_tls``. The authority in the file ``deployed`` is that of the
    deployment, which is checked by itself.
    """
    return [
        {
            "name": name,
            "purpose": "client",
            "what": f"{name}.cert_file",
            "certificate": tls.get("cert_file") or "",
            "key_what": f"{name}.key_file",
            "key": tls.get("key_file") or "",
            "ca_what": f"{name}.ca_file",
            "ca_file": "" if tls.get("ca_file") == deployed else tls.get("ca_file") or "",
        }
        for name, tls in settings.items()
        if tls and boolean(tls.get("enabled", True), strict=False)
    ]
