# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.proxy_exceptions import proxy_exceptions

LOOPBACK = "localhost,127.0.0.1,::1"


@pytest.mark.parametrize(
    ("settings", "hosts", "value"),
    [
        ({"HTTP_PROXY": "http://p:1"}, [], LOOPBACK),
        ({"https_proxy": "http://p:1"}, ["10.0.0.1", "[fd00::1]"], f"{LOOPBACK},10.0.0.1,fd00::1"),
        ({"All_Proxy": "http://p:1", "NO_PROXY": "intern, 127.0.0.1"}, ["10.0.0.1"], "intern,127.0.0.1,localhost,::1,10.0.0.1"),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "a", "no_proxy": "b"}, [], f"a,b,{LOOPBACK}"),
        ({"HTTP_PROXY": "http://p:1"}, ["", None], LOOPBACK),
    ],
)
def test_the_users_exceptions_and_ours(settings: dict[str, Any], hosts: list[Any], value: str) -> None:
    assert proxy_exceptions(settings, hosts) == {"NO_PROXY": value, "no_proxy": value}


@pytest.mark.parametrize("settings", [{}, {"NO_PROXY": "a"}, {"HTTP_PROXY": ""}, {"PREFECT_HOME": "/x"}])
def test_nothing_without_a_proxy(settings: dict[str, Any]) -> None:
    assert proxy_exceptions(settings, ["10.0.0.1"]) == {}
