from __future__ import annotations

import base64

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._redact import auth_secrets, redact

SECRET = "p@ss w/d\"'\\%"


@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        "p%40ss%20w%2Fd%22%27%5C%25",
        "p%40ss+w%2Fd%22%27%5C%25",
        "p@ss w/d\\\"'\\\\%",
        repr(SECRET)[1:-1],
        base64.b64encode(SECRET.encode()).decode(),
    ],
)
def test_every_form_of_a_secret(shown: str) -> None:
    assert redact(f"before {shown} after", [SECRET]) == "before ******** after"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at redis://prefect:hidden@cache:6379/1 now", "at redis://prefect:********@cache:6379/1 now"),
        ("postgresql+asyncpg://u:h%40x@db/p", "postgresql+asyncpg://u:********@db/p"),
        ("postgresql://u:a@b@db/p", "postgresql://u:********@db/p"),
        ("PREFECT_REDIS_MESSAGING_PASSWORD='a b' x", "PREFECT_REDIS_MESSAGING_PASSWORD=******** x"),
        ("PREFECT_SERVER_API_AUTH_STRING=a:b", "PREFECT_SERVER_API_AUTH_STRING=********"),
        ("'authorization': 'Basic YWJj'", "'authorization': 'Basic ********"),
        ("http://127.0.0.1:4200/api is fine", "http://127.0.0.1:4200/api is fine"),
        ("see http://10.0.0.1:4200 and mail a@b", "see http://10.0.0.1:4200 and mail a@b"),
    ],
)
def test_secrets_nobody_named(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_a_secret_within_another() -> None:
    assert redact("abcdef abc", ["abc", "abcdef", ""]) == "******** ********"


@pytest.mark.parametrize(
    ("auth_string", "secrets"), [("", []), ("user:pass", ["user:pass", "pass"]), ("nocolon", ["nocolon"]), ("u:a:b", ["u:a:b", "a:b"])]
)
def test_auth_secrets(auth_string: str, secrets: list[str]) -> None:
    assert auth_secrets(auth_string) == secrets
