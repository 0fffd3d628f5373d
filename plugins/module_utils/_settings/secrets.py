# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Which secrets a host's processes run with, from its settings file."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote, urlsplit

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.environment import parse_environment


def secrets_in_use(content: str) -> dict[str, Any]:
    """The secrets in the text of ``prefect.env``: ``database_user``, ``database_password``, ``redis_password``, ``auth_string`` and
    ``accepted_auth_strings``. One that is not set is empty.

    Raises ValueError if the further auth strings are no list; the message never holds a value.
    """
    found = parse_environment(content)
    return {
        "database_user": found.get("PREFECT_SERVER_DATABASE_USER", ""),
        "database_password": found.get("PREFECT_SERVER_DATABASE_PASSWORD", ""),
        "redis_password": unquote(urlsplit(found.get("PREFECT_SERVER_DOCKET_URL", "")).password or ""),
        "auth_string": found.get("PREFECT_SERVER_API_AUTH_STRING", ""),
        "accepted_auth_strings": _list(found.get("SELFHOSTED_PREFECT_ACCEPTED_AUTH_STRINGS", "")),
    }


def _list(value: str) -> list[str]:
    try:
        found = json.loads(value or "[]")
    except ValueError:
        found = None
    if not isinstance(found, list):
        raise ValueError("SELFHOSTED_PREFECT_ACCEPTED_AUTH_STRINGS in the settings file is not a list")
    return [str(each) for each in found]


_REPLICATION = re.compile(r'^masterauth (".*")$', re.MULTILINE)
_SENTINEL = re.compile(r'^sentinel sentinel-pass "(.*)"$', re.MULTILINE)
_CHECK = re.compile(r"send-binary ([0-9a-f]+)")


def cluster_secrets_in_use(content: str) -> dict[str, str]:
    """The passwords of a Redis cluster's users in the text of a configuration.

    That of Redis has the one of ``replication``, that of Sentinel ``sentinel``, and that of HAProxy ``haproxy``; others are left out.

    Raises ValueError if one cannot be read; the message never holds a value.
    """
    found: dict[str, str] = {}
    try:
        if replication := _REPLICATION.search(content):
            found["replication"] = str(json.loads(replication.group(1)))
        if sentinel := _SENTINEL.search(content):
            found["sentinel"] = sentinel.group(1)
        if check := _CHECK.search(content):
            # AUTH, the user and the password, in Redis's own protocol: each word after its length.
            words = bytes.fromhex(check.group(1)).split(b"\r\n")
            found["haproxy"] = words[6].decode()
    except (ValueError, IndexError):
        raise ValueError("a configuration of the Redis cluster has a password that cannot be read") from None
    return found
