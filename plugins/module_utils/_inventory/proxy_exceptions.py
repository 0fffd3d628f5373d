# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a proxy among the settings must not be used for: the deployment's own addresses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import setting, text

PROXIES = ("http_proxy", "https_proxy", "all_proxy")
EXCEPTIONS = ("NO_PROXY", "no_proxy")
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def proxy_exceptions(settings: Mapping[str, Any], hosts: Iterable[str] = ()) -> dict[str, str]:
    """``NO_PROXY`` in both cases, with the user's own and with ``hosts``; nothing when the settings name no proxy.

    Programs differ in which of the two cases they read, so they are always the same.
    """
    if not any(text(name).lower() in PROXIES and setting(value).strip() for name, value in settings.items()):
        return {}
    given = ",".join(setting(value) for name, value in sorted(settings.items()) if text(name) in EXCEPTIONS)
    wanted = [*(each.strip() for each in given.split(",")), *LOOPBACK, *(text(host).strip("[] ") for host in hosts)]
    value = ",".join(dict.fromkeys(each for each in wanted if each))
    return dict.fromkeys(EXCEPTIONS, value)
