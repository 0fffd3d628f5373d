# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Which secrets a host's processes run with, from its settings file."""

from __future__ import annotations

import json
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
