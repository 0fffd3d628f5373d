# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Which parts of Prefect the settings switch off: the one place that knows, for all that wait for, watch or alert on one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import setting

_SERVICE = re.compile(r"PREFECT_SERVER_SERVICES_([A-Z0-9_]+)_ENABLED\Z")
_STREAMS = {"PREFECT_SERVER_EVENTS_STREAM_OUT_ENABLED": "event_stream"}
_FALSE = frozenset({"false", "f", "no", "n", "off", "0"})
# Off unless it is asked for.
_OPTIONAL = frozenset({"event_logger"})
# The only one that takes a list of what it does.
_LISTED = "db_vacuum"


def switched_off(environment: Mapping[str, Any]) -> list[str]:
    """The parts that are off, sorted: services by their name in the setting (``scheduler``), and ``event_stream``.

    ``environment`` is Prefect's settings by the names of today.
    """
    found = set()
    for name, value in environment.items():
        service = _SERVICE.match(str(name).upper())
        part = service[1].lower() if service else _STREAMS.get(str(name).upper(), "")
        if part and part not in _OPTIONAL and _off(part, setting(value)):
            found.add(part)
    return sorted(found)


def _off(part: str, value: str) -> bool:
    plain = value.strip().lower()
    if part != _LISTED:
        return plain in _FALSE
    try:
        return plain in _FALSE or not json.loads(plain)
    except ValueError:
        return not plain.strip(", ") or plain == "none"
