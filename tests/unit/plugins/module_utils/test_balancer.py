from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.balancer import balancer_problems

PING = "PREFECT_SERVER_API_WEBSOCKET_PING_INTERVAL"
REQUEST = "PREFECT_API_REQUEST_TIMEOUT"
BATCH = "PREFECT_LOGGING_TO_API_BATCH_SIZE"
GOOD: dict[str, Any] = {
    "settings": {},
    "api_path": "/api",
    "trusted_proxies": [],
    "forwarded_allow_ips": ["127.0.0.1", "10.0.0.5"],
    "balancers": ["10.0.0.5"],
    "https": True,
    "read_timeout": 90,
    "background_task_idle_timeout": 15,
    "client_max_body_size": "16m",
}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"trusted_proxies": ["10.0.0.5", "10.1.0.0/16", "fd00::5", "fd00::/64", "192.168.0.1/32"]},
        {"settings": {"PREFECT_SERVER_API_BASE_PATH": "/api/"}},
        {"forwarded_allow_ips": ["*"]},
        {"forwarded_allow_ips": ["127.0.0.1", "lb1"], "balancers": ["lb1"], "https": False},
        {"settings": {PING: 85}},
        {"settings": {PING: "85"}},
        {"settings": {PING: 120}, "read_timeout": 125},
        {"settings": {PING: "soon"}},
        {"settings": {REQUEST: 90}},
        {"settings": {PING: 10}, "background_task_idle_timeout": 9},
        {"settings": {BATCH: 16_000_000}},
        {"client_max_body_size": "0", "settings": {BATCH: 900_000_000}},
        {"client_max_body_size": "4M"},
        {"client_max_body_size": "4000k"},
    ],
)
def test_nothing_wrong(change: Any) -> None:
    assert balancer_problems({**GOOD, **change}) == []


def test_only_what_is_given_is_looked_at() -> None:
    assert balancer_problems({}) == []
    assert balancer_problems({"settings": {PING: 500}}) == []


def test_unknown() -> None:
    with pytest.raises(ValueError, match="is not known"):
        balancer_problems({"x": 1})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"trusted_proxies": ["proxy.example.com"]}, ["nginx_trusted_proxies holds 'proxy.example.com'", "names are not looked up"]),
        ({"trusted_proxies": ["0.0.0.0/0"]}, ["nginx_trusted_proxies holds '0.0.0.0/0'", "every address"]),
        ({"trusted_proxies": ["::/0"]}, ["'::/0'", "every address"]),
        ({"trusted_proxies": ["10.0.0.5/8"]}, ["'10.0.0.5/8'", "10.0.0.0/8", "10.0.0.5."]),
        ({"trusted_proxies": ["fe80::1%eth0"]}, ["zone"]),
        ({"trusted_proxies": ["unix:"]}, ["'unix:'", "neither an IP address"]),
        ({"trusted_proxies": ["10.0.0.300"]}, ["'10.0.0.300'"]),
        ({"trusted_proxies": [""]}, ["''"]),
        ({"trusted_proxies": "10.0.0.5"}, ["nginx_trusted_proxies is not a list"]),
        ({"settings": {"PREFECT_SERVER_API_BASE_PATH": "/prefect/api"}}, ["PREFECT_SERVER_API_BASE_PATH is /prefect/api", "ask for /api"]),
        ({"forwarded_allow_ips": ["lb1"]}, ["prefect_api_forwarded_allow_ips holds 'lb1'"]),
        ({"forwarded_allow_ips": ["lb1"], "balancers": ["lb1"]}, ["the balancer lb1 by that name only", "prefect_address"]),
        ({"settings": {PING: 120}}, [f"prefect_settings.{PING} is 120 s", "nginx_read_timeout 90 s", "125 or more", "85 or less"]),
        ({"settings": {PING.lower(): "120"}}, [f"prefect_settings.{PING.lower()} is 120 s"]),
        ({"settings": {PING: 90}}, ["cut every 90 s"]),
        ({"settings": {PING: 0}}, ["more than 0"]),
        ({"settings": {REQUEST: 120}}, [f"prefect_settings.{REQUEST} is 120 s", "give up", "120 or more"]),
        ({"read_timeout": 30}, [f"{REQUEST} (by default) is 60 s and nginx_read_timeout 30 s"]),
        ({"settings": {PING: 10}}, [f"prefect_settings.{PING} is 10 s", "nginx_background_task_idle_timeout 15 s", "less than 10"]),
        ({"background_task_idle_timeout": 20}, ["nginx_background_task_idle_timeout 20 s", "less than 20"]),
        ({"background_task_idle_timeout": 30, "settings": {PING: 60}}, ["nginx_background_task_idle_timeout is 30 s", "clients ping"]),
        ({"settings": {BATCH: 20_000_000}}, [f"prefect_settings.{BATCH} is 20000000 bytes", "413", "20m or more"]),
        ({"client_max_body_size": "1m", "settings": {BATCH: 1000, "PREFECT_LOGGING_TO_API_MAX_LOG_SIZE": 900}}, ["MAXIMUM_SIZE_BYTES"]),
        ({"client_max_body_size": "2m"}, [f"{BATCH} (by default) is 4000000 bytes", "nginx_client_max_body_size 2m"]),
        ({"client_max_body_size": "lots"}, ["nginx_client_max_body_size is 'lots'"]),
    ],
)
def test_a_problem(change: Any, said: list[str]) -> None:
    problems = balancer_problems({**GOOD, **change})
    assert len(problems) == 1, problems
    assert [words for words in said if words not in problems[0]] == []
