# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.environment import format_environment
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.resp import redis_requests
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.urls import redis_url
from ansible_collections.selfhosted.prefect.plugins.module_utils._settings.secrets import cluster_secrets_in_use, secrets_in_use

ODD = """Schlüssel漢@:/%#?$'" \\ +end"""


@pytest.mark.parametrize("tls", [{}, {"enabled": True, "ca_file": "/etc/prefect-tls/ca.crt"}])
def test_what_was_written_is_read(tls: dict[str, object]) -> None:
    content = format_environment(
        {
            "PREFECT_SERVER_DATABASE_USER": "prefect_rotation",
            "PREFECT_SERVER_DATABASE_PASSWORD": ODD,
            "PREFECT_SERVER_DOCKET_URL": redis_url({"host": "10.0.0.1", "username": "prefect", "password": ODD, "db": 1, "tls": tls}),
            "PREFECT_SERVER_API_AUTH_STRING": "admin:" + ODD,
            "SELFHOSTED_PREFECT_ACCEPTED_AUTH_STRINGS": ["admin:former", "admin:" + ODD],
        }
    )
    assert secrets_in_use(content) == {
        "database_user": "prefect_rotation",
        "database_password": ODD,
        "redis_password": ODD,
        "auth_string": "admin:" + ODD,
        "accepted_auth_strings": ["admin:former", "admin:" + ODD],
    }


def test_what_is_not_set_is_empty() -> None:
    assert secrets_in_use("") == {
        "database_user": "",
        "database_password": "",
        "redis_password": "",
        "auth_string": "",
        "accepted_auth_strings": [],
    }


@pytest.mark.parametrize("value", ["s3cret", '{"a": "s3cret"}'])
def test_what_is_no_list_is_refused_without_its_value(value: str) -> None:
    with pytest.raises(ValueError, match="not a list") as refused:
        secrets_in_use(format_environment({"SELFHOSTED_PREFECT_ACCEPTED_AUTH_STRINGS": value}))
    assert "s3cret" not in str(refused.value)


PASSWORD = "s3cret@:/%#?$'\" \\ é"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("port 0\n", {}),
        (f"masteruser replication\nmasterauth {json.dumps(PASSWORD, ensure_ascii=False)}\n", {"replication": PASSWORD}),
        ('sentinel sentinel-user sentinel\nsentinel sentinel-pass "a@b c"\n', {"sentinel": "a@b c"}),
        (
            f"    tcp-check send-binary {redis_requests([['AUTH', 'haproxy', PASSWORD], ['INFO', 'replication']])}\n",
            {"haproxy": PASSWORD},
        ),
    ],
)
def test_the_secrets_of_a_redis_cluster(content: str, found: dict[str, str]) -> None:
    assert cluster_secrets_in_use(content) == found


@pytest.mark.parametrize("content", ['masterauth "s3cret\\x"', "send-binary 2a330d0a", "send-binary 2a3"])
def test_secrets_of_a_redis_cluster_that_cannot_be_read(content: str) -> None:
    with pytest.raises(ValueError, match="has a password that cannot be read") as raised:
        cluster_secrets_in_use(content)
    assert "s3cret" not in str(raised.value)
