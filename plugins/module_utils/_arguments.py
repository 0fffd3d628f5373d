# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0
"""Arguments that several modules take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TLS: dict[str, Any] = {
    "enabled": {"type": "bool"},
    "ca_file": {"type": "path"},
    "cert_file": {"type": "path"},
    "key_file": {"type": "path", "no_log": False},
    "check_hostname": {"type": "bool"},
}
"""None has a default, so that an empty mapping, which is what no TLS looks like in variables, stays empty."""


def given(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options that somebody has set."""
    return {name: value for name, value in (options or {}).items() if value is not None}
