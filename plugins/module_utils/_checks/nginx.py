# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the variables of nginx."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.balancer import balancer_problems


def nginx(variables: Mapping[str, Any]) -> Iterator[str]:
    """``__nginx_agreed`` is what has to go with Prefect's settings."""
    if not variables["nginx_api_servers"]:
        yield (
            f"nginx on {variables['inventory_hostname']} has no API server to pass requests to: put hosts into the group prefect_api, or "
            "set nginx_api_servers."
        )
    log = text(variables["nginx_access_log"])
    if not re.fullmatch("(/[A-Za-z0-9._-]+)+", log):
        yield f'nginx_access_log is "{log}"; it has to be the absolute path of a file, of letters, digits and . _ - only.'
    if bool(text(variables["nginx_tls_certificate"])) != bool(text(variables["nginx_tls_certificate_key"])):
        yield "nginx_tls_certificate and nginx_tls_certificate_key go together, and only one of them is set."
    yield from _users(variables)
    yield from balancer_problems(variables["__nginx_agreed"])


def _users(variables: Mapping[str, Any]) -> Iterator[str]:
    users = {text(name): text(password) for name, password in variables["nginx_basic_auth_users"].items()}
    bad = [name for name in users if not re.fullmatch(r"[^:#\s][^:\s]*", name)] + [name for name, password in users.items() if not password]
    if bad:
        yield (
            f"nginx_basic_auth_users: {', '.join(bad)} cannot log in. A name must have neither colon nor space, and a password must not be"
            " empty."
        )
    user, _colon, password = text(variables.get("prefect_auth_string")).partition(":")
    if users.get(user, password) != password:
        yield (
            "nginx_basic_auth_users has the user of prefect_auth_string, with another password. Leave it out: that user may log in anyway."
        )
